"""Tables: the keys of one slot.  A plain dict, until it outgrows PART_MAX keys; then a SplitTable of dicts.

A hash tag can put millions of keys into one slot, and a dict of millions stops the world when it grows.  A SplitTable
grows by halves of one part at a time (extendible hashing), so that growing, a SCAN step and a snapshot step stay
bounded: `directory[hash & mask]` is the part of a key; a part of depth d holds the keys whose low d hash bits are
equal, and stands in the directory once for every value of the other bits.  A full part splits into two of depth d + 1;
the directory doubles when a part of full depth splits.  Parts are never merged: a table that is emptied is dropped.
"""

from collections.abc import Iterator
from itertools import islice
from random import randrange
from typing import Any, Final, TypeAlias

PART_MAX: Final = 4096

# Every slot without keys shares this one.  Reads need no special case; writers replace it first.
EMPTY: Final[dict[bytes, Any]] = {}


class SplitTable:
    """The part of dict's interface that the keyspace uses."""

    __slots__ = ("_count", "_depths", "_directory", "_mask")

    def __init__(self, source: dict[bytes, Any]) -> None:
        self._directory: list[dict[bytes, Any]] = [source]
        self._depths = [0]  # of the part in each place of the directory
        self._mask = 0
        self._count = len(source)
        self._split(0)

    def get(self, key: bytes) -> Any:
        return self._directory[hash(key) & self._mask].get(key)

    def __contains__(self, key: object) -> bool:
        return key in self._directory[hash(key) & self._mask]

    def __getitem__(self, key: bytes) -> Any:
        return self._directory[hash(key) & self._mask][key]

    def __setitem__(self, key: bytes, value: Any) -> None:
        place = hash(key) & self._mask
        part = self._directory[place]
        before = len(part)
        part[key] = value
        if len(part) > before:
            self._count += 1
            if len(part) > PART_MAX:
                self._split(place)

    def __delitem__(self, key: bytes) -> None:
        del self._directory[hash(key) & self._mask][key]
        self._count -= 1

    def pop(self, key: bytes, default: Any = None) -> Any:
        part = self._directory[hash(key) & self._mask]
        if key not in part:
            return default
        self._count -= 1
        return part.pop(key)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts():
            yield from part

    def items(self) -> Iterator[tuple[bytes, Any]]:
        for part in self.parts():
            yield from part.items()

    def parts(self) -> Iterator[dict[bytes, Any]]:
        """Each part once: a part of depth d first stands at the place whose bits above d are 0."""
        for place, part in enumerate(self._directory):
            if place >> self._depths[place] == 0:
                yield part

    def scan(self, cursor: int) -> tuple[int, dict[bytes, Any]]:
        """One part, and the cursor of the next (0 after the last).

        Cursors count in reversed bit order, as in Redis' dictScan: when parts have split since the last step, the
        places that follow are exactly the halves of parts not yet visited.
        """
        place = cursor & self._mask
        depth = self._depths[place]
        return _next_reversed(cursor & ((1 << depth) - 1), depth), self._directory[place]

    def random_part(self) -> dict[bytes, Any]:
        """A part, chosen in proportion to its share of the hash values."""
        return self._directory[randrange(self._mask + 1)]

    def _split(self, place: int) -> None:
        depth = self._depths[place]
        if 1 << depth > self._mask:
            self._directory += self._directory
            self._depths += self._depths
            self._mask = 2 * self._mask + 1
        part = self._directory[place]
        bit = 1 << depth
        halves: tuple[dict[bytes, Any], dict[bytes, Any]] = ({}, {})
        for key, value in part.items():
            halves[hash(key) & bit != 0][key] = value
        low = place & (bit - 1)
        for other in range(low, self._mask + 1, bit):
            self._directory[other] = halves[other & bit != 0]
            self._depths[other] = depth + 1


Table: TypeAlias = "dict[bytes, Any] | SplitTable"


def scan(table: Table, cursor: int) -> tuple[int, dict[bytes, Any]]:
    """One step through a table: the keys of one part, and the cursor of the next step; 0 when it was the last."""
    if isinstance(table, SplitTable):
        return table.scan(cursor)
    return 0, table


def parts(table: Table) -> Iterator[dict[bytes, Any]]:
    if isinstance(table, SplitTable):
        return table.parts()
    return iter((table,))


def random_key(table: Table) -> bytes:
    """Any key of a table that is not empty, each equally likely but for the unevenness of a SplitTable's parts."""
    part = table
    while isinstance(part, SplitTable) or not part:
        assert isinstance(table, SplitTable)
        part = table.random_part()
    return next(islice(part, randrange(len(part)), None))


def _next_reversed(cursor: int, bits: int) -> int:
    """The number after `cursor` when numbers of so many bits are counted from the top bit down; 0 after the last."""
    bit = 1 << bits >> 1
    while bit and cursor & bit:
        cursor ^= bit
        bit >>= 1
    return cursor | bit
