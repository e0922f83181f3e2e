"""Ids in order, of which any may go: what waits to be acknowledged in a stream's consumer group.

Sorted lists of a few hundred, so that adding and removing moves some kilobytes at most, however many ids there are.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

_CHUNK_MAX: Final = 512


class IdList:
    __slots__ = ("_chunks", "_count", "_firsts")

    def __init__(self) -> None:
        self._chunks: list[list[int]] = []  # none is empty
        self._firsts: list[int] = []  # an id no greater than any of the chunk, greater than all before
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for chunk in self._chunks:
            yield from chunk

    @property
    def first(self) -> int:
        """The least; there must be one."""
        return self._chunks[0][0]

    @property
    def last(self) -> int:
        return self._chunks[-1][-1]

    def add(self, entry_id: int) -> None:
        """Put in an id that is not there."""
        self._count += 1
        chunks = self._chunks
        if not chunks or (entry_id > chunks[-1][-1] and len(chunks[-1]) >= _CHUNK_MAX):
            chunks.append([entry_id])
            self._firsts.append(entry_id)
            return
        if entry_id > chunks[-1][-1]:
            chunks[-1].append(entry_id)
            return
        place = max(0, bisect_right(self._firsts, entry_id) - 1)
        chunk = chunks[place]
        insort(chunk, entry_id)
        if entry_id < self._firsts[place]:
            self._firsts[place] = entry_id
        if len(chunk) > _CHUNK_MAX:
            middle = len(chunk) // 2
            chunks.insert(place + 1, chunk[middle:])
            self._firsts.insert(place + 1, chunk[middle])
            del chunk[middle:]

    def remove(self, entry_id: int) -> None:
        """Take out an id that is there."""
        place = bisect_right(self._firsts, entry_id) - 1
        chunk = self._chunks[place]
        index = bisect_left(chunk, entry_id)
        assert chunk[index] == entry_id, entry_id
        del chunk[index]
        if not chunk:
            del self._chunks[place], self._firsts[place]
        self._count -= 1

    def shed(self, count: int) -> int:
        """Drop about so many, the last ones, for freeing bit by bit; returns how many."""
        dropped = 0
        while self._chunks and dropped < count:
            dropped += len(self._chunks.pop())
            self._firsts.pop()
        self._count -= dropped
        return dropped

    def since(self, start: int) -> Iterator[int]:
        """The ids from `start` on, in order.  The list must not change meanwhile."""
        place = max(0, bisect_right(self._firsts, start) - 1)
        for number in range(place, len(self._chunks)):
            chunk = self._chunks[number]
            yield from chunk[bisect_left(chunk, start) :] if number == place else chunk

    def copy(self) -> "IdList":
        twin = IdList()
        twin._chunks = [chunk[:] for chunk in self._chunks]
        twin._firsts = self._firsts[:]
        twin._count = self._count
        return twin
