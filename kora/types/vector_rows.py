"""Vectors in rows, with the graph that finds the nearest of many: what a vector set is made of.

Rows are kept in blocks.  The first `indexed` of them are in the graph (HNSW, from the package usearch), which points
into the blocks: such a row stays where and as it is, also when its vector is gone, since paths lead through it.  The
rows behind are in no graph; they are looked at one by one, and may be overwritten and moved.  So a search is always up
to date, and the graph may lag behind.

What the graph finds is only a proposal: distances are computed anew, and vectors that are gone are left out.
"""

from array import array
from collections.abc import Iterator
from heapq import nsmallest
from typing import Any, Final, TypeAlias

from kora.types.limits import Limits
from kora.types.vector_distance import (
    COMPONENT_BYTES,
    COSINE,
    IP,
    L2,
    distances_by_numpy,
    distances_plain,
    norm_of,
    numpy_for,
)

Found: TypeAlias = tuple[float, int]  # a distance, and the id of the vector

_BLOCK_BYTES: Final = 256 * 1024
_GONE: Final = -1  # in the place of an id
_GRAPH_METRICS: Final = {L2: "l2sq", COSINE: "cos", IP: "ip"}

# Measured on CPython 3.11: the id as a number, its row as another, their entry in the dict, and the id in an array.
_ROW_BYTES: Final = 32 + 32 + 45 + 9
_NORM_BYTES: Final = 9
# The same of usearch 2.26, from 198 to 259 bytes for 16 neighbours and 325 to 388 for 32, by how alike vectors are.
_NODE_BYTES: Final = 90
_NEIGHBOUR_BYTES: Final = 8.4
# A graph that is asked for more than this share of what it has is slower than looking at all there is.
_GRAPH_SHARE: Final = 0.25


class VectorRows:
    __slots__ = (
        "_block_rows",
        "_blocks",
        "_blocks_bytes",
        "_graph",
        "_ids",
        "_limits",
        "_node_bytes",
        "_norms",
        "_pinned",
        "_row_bytes",
        "_rows",
        "_shared",
        "gone",
        "indexed",
        "is_unindexable",
        "metric",
        "size",
    )

    def __init__(self, limits: Limits, size: int, metric: str) -> None:
        """For vectors of so many components."""
        # Fixed for life.
        self._limits = limits
        self.size = size
        self.metric = metric
        self._row_bytes = size * COMPONENT_BYTES
        self._block_rows = max(1, _BLOCK_BYTES // self._row_bytes)
        # By row.
        self._blocks: list[bytearray] = []
        self._shared = 0  # blocks at the front that others may have, too
        self._ids = array("q")
        self._norms = array("d")  # for cosine only
        self._rows: dict[int, int] = {}  # by id
        self._blocks_bytes = 0
        # The graph.
        self._graph: Any = None
        self._node_bytes = 0
        self._pinned: list[bytearray] = []  # blocks of others that it points into
        self.is_unindexable = False  # there is no package for it, or it has failed
        self.indexed = 0
        self.gone = 0  # rows whose vectors are gone

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __contains__(self, vector_id: object) -> bool:
        return vector_id in self._rows

    @property
    def size_bytes(self) -> int:
        rows_bytes = len(self._ids) * _ROW_BYTES + len(self._norms) * _NORM_BYTES
        return self._blocks_bytes + rows_bytes + self.indexed * self._node_bytes

    @property
    def has_graph(self) -> bool:
        return self._graph is not None

    @property
    def tail_components(self) -> int:
        """In rows that are looked at one by one by every search."""
        return (len(self._ids) - self.indexed) * self.size

    @property
    def is_behind(self) -> bool:
        """Whether rows should be in the graph that are not."""
        if self.is_unindexable or self.indexed == len(self._ids):
            return False
        return self._graph is not None or len(self._ids) * self.size > self._limits.vector_exact_max

    def copy(self) -> "VectorRows":
        twin = VectorRows(self._limits, self.size, self.metric)
        # What is in the graph for good is shared.  Only the block in which the tail begins, and those behind, change.
        shared = twin._shared = self.indexed // self._block_rows
        self._shared = max(self._shared, shared)
        twin._blocks = self._blocks[:shared] + [bytearray(block) for block in self._blocks[shared:]]
        twin._ids, twin._norms, twin._rows = self._ids[:], self._norms[:], self._rows.copy()
        twin._blocks_bytes = self._blocks_bytes
        if self._graph is not None:
            twin._graph, twin._node_bytes = self._graph.copy(), self._node_bytes
            twin._pinned = self._pinned + self._blocks[shared : shared + 1]
        twin.is_unindexable, twin.indexed, twin.gone = self.is_unindexable, self.indexed, self.gone
        return twin

    # Vectors

    def get(self, vector_id: int) -> "array[float] | None":
        row = self._rows.get(vector_id)
        return None if row is None else array("f", bytes(self._data(row)))

    def set(self, vector_id: int, vector: "array[float]") -> bool:
        """Whether there was no vector of that id."""
        row = self._rows.get(vector_id)
        norm = norm_of(vector) if self.metric == COSINE else 0.0
        if row is not None and row >= self.indexed:
            self._write(row, vector_id, vector.tobytes(), norm)
            return False
        if row is not None:
            self._bury(row)
        self._append(vector_id, vector.tobytes(), norm)
        return row is None

    def take(self, vector_id: int, other: "VectorRows") -> None:
        """Set the vector that others have of that id."""
        row = other._rows[vector_id]
        self._append(vector_id, bytes(other._data(row)), other._norms[row] if self.metric == COSINE else 0.0)

    def remove(self, vector_id: int) -> bool:
        row = self._rows.pop(vector_id, None)
        if row is None:
            return False
        last = len(self._ids) - 1
        if row < self.indexed or self._ids[last] == _GONE:
            self._bury(row)
            return True
        if row < last:
            norm = self._norms[last] if self.metric == COSINE else 0.0
            self._write(row, self._ids[last], bytes(self._data(last)), norm)
            self._rows[self._ids[last]] = row
        self._drop_last()
        return True

    def shed(self, count: int) -> int:
        """Drop about so many vectors, whichever, and the graph; returns how many."""
        self._drop_graph()
        dropped = 0
        while self._ids and dropped < count:
            vector_id = self._ids[-1]
            if vector_id == _GONE:
                self.gone -= 1
            else:
                del self._rows[vector_id]
            dropped += 1
            self._drop_last()
        return dropped

    def _data(self, row: int) -> memoryview:
        block, place = divmod(row, self._block_rows)
        start = place * self._row_bytes
        return memoryview(self._blocks[block])[start : start + self._row_bytes]

    def _write(self, row: int, vector_id: int, data: bytes, norm: float) -> None:
        block = row // self._block_rows
        if block < self._shared:
            # What is shared was in a graph, and is written to only when that has been shed.
            self._blocks[block : self._shared] = map(bytearray, self._blocks[block : self._shared])
            self._shared = block
        self._data(row)[:] = data
        self._ids[row] = vector_id
        if self.metric == COSINE:
            self._norms[row] = norm

    def _append(self, vector_id: int, data: bytes, norm: float) -> None:
        row = len(self._ids)
        block, place = divmod(row, self._block_rows)
        if block == len(self._blocks):
            # The first one grows with what is in it, since most sets are small.
            self._blocks.append(bytearray(self._row_bytes * (self._block_rows if block else 1)))
            self._blocks_bytes += len(self._blocks[block])
        if place * self._row_bytes == len(self._blocks[block]):
            self._grow(2 * place)
        self._ids.append(vector_id)
        self._rows[vector_id] = row
        if self.metric == COSINE:
            self._norms.append(norm)
        self._write(row, vector_id, data, norm)

    def _grow(self, rows: int) -> None:
        """Make room in the first block, which no graph points into."""
        more = min(rows, self._block_rows) * self._row_bytes - len(self._blocks[0])
        self._blocks[0].extend(bytes(more))
        self._blocks_bytes += more

    def _bury(self, row: int) -> None:
        self._ids[row] = _GONE
        self.gone += 1

    def _drop_last(self) -> None:
        """Forget the last row, which is in no graph."""
        self._ids.pop()
        if self.metric == COSINE:
            self._norms.pop()
        if len(self._ids) <= (len(self._blocks) - 1) * self._block_rows:
            self._blocks_bytes -= len(self._blocks.pop())
            self._shared = min(self._shared, len(self._blocks))

    # The graph

    def index_next(self) -> None:
        """Put the next row into the graph; there must be one.  Makes the graph where there is none."""
        if self._graph is None:
            self._make_graph()
            if self.is_unindexable:
                return
        import numpy

        row = self.indexed
        if self._ids[row] != _GONE:
            vector = numpy.frombuffer(self._data(row), dtype=numpy.float32)
            try:
                self._graph.add(row, vector, copy=False, threads=1)
            except (RuntimeError, MemoryError):
                # Without memory for more of it: it is given up, and searches look at everything.
                self._drop_graph()
                self.is_unindexable = True
                return
        self.indexed += 1

    def _drop_graph(self) -> None:
        self._graph = None
        self._pinned.clear()
        self.indexed = 0

    def _make_graph(self) -> None:
        try:
            from usearch.index import Index
        except ImportError:
            # Searches go on as they are: slower, the more there are.
            self.is_unindexable = True
            return
        self._grow(self._block_rows)  # it moves no more
        self._node_bytes = _NODE_BYTES + int(_NEIGHBOUR_BYTES * self._limits.vector_hnsw_m)
        self._graph = Index(
            ndim=self.size,
            metric=_GRAPH_METRICS[self.metric],
            dtype="f32",
            connectivity=self._limits.vector_hnsw_m,
            expansion_add=self._limits.vector_hnsw_ef_construction,
        )

    # Searching

    def nearest(self, query: "array[float]", count: int, effort: int, exactly: bool) -> list[Found]:
        """The nearest vectors, at most so many, and nearest first; of the same distance, the lowest id.

        `effort` is how many the graph considers on its way: with more it misses less.  Exactly: do without it.
        """
        count = min(count, len(self._rows))
        proposed = None if exactly or self._graph is None else self._propose(query, count, effort)
        if proposed is None:
            return self._nearest_from(0, query, count)
        found = self._nearest_of(proposed, query)
        if self.indexed < len(self._ids):
            found += self._nearest_from(self.indexed, query, count)
        return sorted(found)[:count]

    def _propose(self, query: "array[float]", count: int, effort: int) -> list[int] | None:
        """Rows of the graph which are likely the nearest; None where it is better to look at all."""
        import numpy

        target = numpy.array(query, dtype=numpy.float32)
        live = max(1, self.indexed - self.gone)
        # As many more as are likely to be gone.
        wanted = count + count * self.gone // live + min(self.gone, 16)
        self._graph.expansion_search = min(effort, self.indexed)
        while wanted <= self.indexed * _GRAPH_SHARE:
            rows = self._graph.search(target, wanted, threads=1).keys.tolist()
            rows = [row for row in rows if self._ids[row] != _GONE]
            if len(rows) >= min(count, live):
                return rows
            wanted *= 2
        return None

    def _nearest_of(self, rows: list[int], query: "array[float]") -> list[Found]:
        numpy = numpy_for(len(rows) * self.size)
        data = b"".join(map(self._data, rows))
        norms = array("d", [self._norms[row] for row in rows]) if self.metric == COSINE else self._norms
        if numpy is None or not rows:
            distances = distances_plain(self.metric, query, memoryview(data), norms)
        else:
            distances = distances_by_numpy(numpy, self.metric, query, data, norms).tolist()
        return [(distance, self._ids[row]) for distance, row in zip(distances, rows, strict=True)]

    def _nearest_from(self, start: int, query: "array[float]", count: int) -> list[Found]:
        """Of all rows from there on: the nearest, in order."""
        numpy = numpy_for((len(self._ids) - start) * self.size)
        parts = list(self._parts(start))
        if not parts or not count:
            return []
        if numpy is None:
            distances = [
                distance for data, norms in parts for distance in distances_plain(self.metric, query, data, norms)
            ]
            pairs = zip(distances, self._ids[start:], strict=True)
            return nsmallest(count, (pair for pair in pairs if pair[1] != _GONE))
        far = numpy.concatenate([distances_by_numpy(numpy, self.metric, query, data, norms) for data, norms in parts])
        ids = numpy.array(self._ids[start:])
        if self.gone:
            lives = ids != _GONE
            far, ids = far[lives], ids[lives]
        if count < len(far) // 4:
            # Those that are as near as the last one wanted, and only then in order.
            near = far <= numpy.partition(far, count - 1)[count - 1]
            far, ids = far[near], ids[near]
        order = numpy.lexsort((ids, far))[:count]
        return list(zip(far[order].tolist(), ids[order].tolist(), strict=True))

    def _parts(self, start: int) -> Iterator[tuple[memoryview, "array[float]"]]:
        """The components from a row on, a block at a time, with the norms that belong to them."""
        stop = len(self._ids)
        while start < stop:
            block, place = divmod(start, self._block_rows)
            rows = min(self._block_rows - place, stop - start)
            data = memoryview(self._blocks[block])[place * self._row_bytes : (place + rows) * self._row_bytes]
            yield data, self._norms[start : start + rows]
            start += rows
