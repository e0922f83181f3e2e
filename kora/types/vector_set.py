"""The vector set: vectors of one size, each with an id, of which the nearest to a vector can be asked for.

Small sets are searched one by one, exactly.  Beyond `vector-exact-max` components a graph is made, in small steps, and
searches are by it: work() takes a step, and is called in the background.  Where vectors come faster than that can keep
up with, each that comes takes some steps itself, so that what is in no graph yet never takes a search long.

Vectors that go stay in the graph, as empty places.  When there are too many of these, a successor is made from what is
left, in steps, too: it takes over when it has everything.
"""

from array import array
from typing import Final

from kora.types.limits import Limits
from kora.types.vector_distance import L2
from kora.types.vector_rows import Found, VectorRows

# Components of a vector, and the greatest of them: squares of these, added up, are within float32 for vectors of any
# size, and graphs compute with it.
SIZE_MAX: Final = 32_768
COMPONENT_MAX: Final = 1e15

_EMPTY_BYTES: Final = 880
# Empty places, as a share of the graph, that are too many; and so many that vectors that come have to help.
_WORN_SHARE: Final = 0.25
_WORN_SHARE_MAX: Final = 0.5
# Work that a vector which comes does when the background does not keep up: more than it makes.
_STEPS_OF_ONE: Final = 2
# What a step takes at most: 0.05 ms, less than a place in a graph.
_COPIED_PER_STEP: Final = 32
_SHED_PER_STEP: Final = 200


class VectorSet:
    kind: Final = "vectorset"
    keeps_when_empty: Final = False

    __slots__ = (
        "_left",
        "_limits",
        "_outgoing",
        "_rows",
        "_successor",
        "counted_bytes",
        "counted_length",
        "has_helped",
        "last_id",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rows = VectorRows(limits, 1, L2)
        self._successor: VectorRows | None = None
        self._left: list[int] = []  # ids that the successor has not been given
        self._outgoing: VectorRows | None = None  # succeeded, and freed bit by bit
        self.counted_bytes = self.counted_length = 0  # the keyspace's own
        self.last_id = 0  # the greatest that was ever given
        self.has_helped = False  # the last change took some steps of the work

    def shape(self, size: int, metric: str) -> None:
        """Say what an empty set is for: vectors of so many components, and how distances are measured."""
        self._rows = VectorRows(self._limits, size, metric)

    # What every value has

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def encoding(self) -> str:
        return "hnsw" if self._rows.has_graph else "flat"

    @property
    def size_bytes(self) -> int:
        size_bytes = _EMPTY_BYTES + self._rows.size_bytes
        if self._successor is not None:
            size_bytes += self._successor.size_bytes + 8 * len(self._left)
        return size_bytes if self._outgoing is None else size_bytes + self._outgoing.size_bytes

    @property
    def effort(self) -> int:
        return len(self._rows)

    def copy(self) -> "VectorSet":
        twin = VectorSet(self._limits)
        twin._rows = self._rows.copy()
        twin.last_id = self.last_id
        return twin

    def shed(self, count: int) -> int:
        """Drop about so many vectors, whichever; returns how many.  For freeing bit by bit."""
        self._successor, self._left = None, []
        return self._rows.shed(count)

    # Vectors

    @property
    def size(self) -> int:
        """Components of each."""
        return self._rows.size

    @property
    def metric(self) -> str:
        return self._rows.metric

    @property
    def indexed(self) -> int:
        """Vectors that are in the graph."""
        return self._rows.indexed - self._rows.gone

    def get(self, vector_id: int) -> "array[float] | None":
        return self._rows.get(vector_id)

    def set(self, vector_id: int, vector: "array[float]") -> bool:
        """Whether there was no vector of that id, which is not negative."""
        is_new = self._rows.set(vector_id, vector)
        self.last_id = max(self.last_id, vector_id)
        if self._successor is not None:
            self._successor.set(vector_id, vector)
        self._help()
        return is_new

    def load(self, vector_id: int, vector: "array[float]") -> bool:
        """As set(), of one among many that come at once: the graph is left to the background altogether."""
        self.last_id = max(self.last_id, vector_id)
        return self._rows.set(vector_id, vector)

    def ids(self) -> list[int]:
        """Of all vectors, in the order in which they came."""
        return list(self._rows)

    def remove(self, vector_id: int) -> bool:
        is_gone = self._rows.remove(vector_id)
        if self._successor is not None:
            self._successor.remove(vector_id)
        return is_gone

    def nearest(
        self, query: "array[float]", count: int, effort: int | None = None, exactly: bool = False
    ) -> list[Found]:
        """The nearest vectors to one of the same size, at most so many, nearest first: distances and ids."""
        return self._rows.nearest(query, count, effort or self._limits.vector_hnsw_ef_search, exactly)

    # Work

    @property
    def has_work(self) -> bool:
        rows = self._rows
        return self._successor is not None or self._outgoing is not None or rows.is_behind or self._is_worn(_WORN_SHARE)

    def work(self) -> None:
        """Take one step: a fraction of a millisecond, but for large vectors."""
        rows = self._rows
        if self._is_slow:
            rows.index_next()
        elif self._outgoing is not None:
            self._outgoing.shed(_SHED_PER_STEP)
            if not self._outgoing:
                self._outgoing = None
        elif self._successor is not None:
            self._build(self._successor)
        elif self._is_worn(_WORN_SHARE):
            self._successor = VectorRows(self._limits, rows.size, rows.metric)
            self._left = list(rows)
        elif rows.is_behind:
            rows.index_next()

    def _build(self, successor: VectorRows) -> None:
        for _ in range(min(_COPIED_PER_STEP, len(self._left))):
            vector_id = self._left.pop()
            # It may be gone, or have come anew, since the list was made.
            if vector_id in self._rows and vector_id not in successor:
                successor.take(vector_id, self._rows)
        if self._left:
            return
        if successor.is_behind and successor.tail_components > self._limits.vector_exact_max // 2:
            successor.index_next()
        else:
            self._outgoing, self._rows, self._successor = self._rows, successor, None

    def _help(self) -> None:
        self.has_helped = self._is_slow or self._is_worn(_WORN_SHARE_MAX)
        if self.has_helped:
            for _ in range(_STEPS_OF_ONE):
                self.work()

    @property
    def _is_slow(self) -> bool:
        """Whether there is more to look at one by one than there should be."""
        rows = self._rows
        return rows.tail_components > self._limits.vector_exact_max and rows.is_behind

    def _is_worn(self, share: float) -> bool:
        return self._rows.gone > share * self._rows.indexed
