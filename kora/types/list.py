"""Lists, in pure Python: what LPUSH makes, pops and pushes at both ends, and finds by place or by content.

Elements live in blocks of at most a few hundred, so that a change in the middle moves one block, and the ends never
move the rest.  Where each block begins is worked out when an element in the middle is asked for, and kept until a
block in the middle changes: LINDEX on a list that lies still is a binary search.

OBJECT ENCODING tells what Redis 7.2 would say: `listpack` while all elements would fit into one listpack
(list-max-listpack-size, 8 KB by default), `quicklist` beyond, and `listpack` again once they would fill less than half
of one.  Redis also waits until only one of a quicklist's nodes is left, which depends on how the list came about.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, islice
from typing import ClassVar, Final

from kora.types.limits import Limits
from kora.types.number import is_integer

_BLOCK_ITEMS_MAX: Final = 512
# Neighbours that have no more than this together become one block.
_BLOCK_ITEMS_MERGED: Final = 256

# What a list takes on CPython: the object with its attributes and the list of blocks; a block; and an element's place
# in a block, which grows by an eighth more than it needs.
_OBJECT_BYTES: Final = 208
_BLOCK_BYTES: Final = 72
_PLACE_BYTES: Final = 9

# Of listpacks (listpack.c): the header and the end, and the size beyond which no number of elements is allowed.
_PACK_HEAD_BYTES: Final = 7
_PACK_SAFE_BYTES: Final = 8192
# list-max-listpack-size -1 to -5, in bytes.
_PACK_BYTES_MAX: Final = (4096, 8192, 16384, 32768, 65536)


class List:
    __slots__ = (
        "_big",
        "_blocks",
        "_item_bytes",
        "_length",
        "_limits",
        "_pack_bytes",
        "_starts",
        "counted_bytes",
        "counted_length",
    )

    kind: ClassVar[str] = "list"
    keeps_when_empty: ClassVar[bool] = False

    def __init__(self, limits: Limits) -> None:
        # For life.
        self._limits = limits
        # The elements.
        self._blocks: list[list[bytes]] = []  # none of them empty
        self._length = 0
        # Where blocks 1, 2, … begin, counted from the end of block 0; None where nobody knows.
        self._starts: list[int] | None = None
        # What they take: here, and in a listpack; whether Redis would use more than one of these.
        self._item_bytes = 0
        self._pack_bytes = _PACK_HEAD_BYTES
        self._big = False
        # The keyspace's own.
        self.counted_bytes = self.counted_length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def encoding(self) -> str:
        return "quicklist" if self._big else "listpack"

    @property
    def size_bytes(self) -> int:
        return _OBJECT_BYTES + _BLOCK_BYTES * len(self._blocks) + _PLACE_BYTES * self._length + self._item_bytes

    @property
    def effort(self) -> int:
        """Elements are objects of their own here, each freed by itself."""
        return self._length

    def copy(self) -> "List":
        twin = List(self._limits)
        twin._blocks = [block[:] for block in self._blocks]
        twin._length = self._length
        twin._item_bytes, twin._pack_bytes, twin._big = self._item_bytes, self._pack_bytes, self._big
        return twin

    def shed(self, count: int) -> int:
        """Drop about so many elements from the end, for lazy freeing; returns how many."""
        shed = 0
        while self._blocks and shed < count:
            block = self._blocks.pop()
            shed += len(block)
            self._forget(block)
        self._starts = None
        return shed

    # The ends

    def push_left(self, value: bytes) -> None:
        self._grow(value)
        blocks = self._blocks
        if not blocks or len(blocks[0]) >= _BLOCK_ITEMS_MAX:
            blocks.insert(0, [value])
            self._starts = None
        else:
            blocks[0].insert(0, value)

    def push_right(self, value: bytes) -> None:
        self._grow(value)
        blocks = self._blocks
        if not blocks or len(blocks[-1]) >= _BLOCK_ITEMS_MAX:
            blocks.append([value])
            self._starts = None
        else:
            blocks[-1].append(value)

    def pop_left(self) -> bytes:
        block = self._blocks[0]
        value = block.pop(0)
        if not block:
            del self._blocks[0]
            self._starts = None
        self._shrink(value)
        return value

    def pop_right(self) -> bytes:
        block = self._blocks[-1]
        value = block.pop()
        if not block:
            del self._blocks[-1]
            self._starts = None
        self._shrink(value)
        return value

    # By place

    def get(self, index: int) -> bytes:
        place, offset = self._locate(index)
        return self._blocks[place][offset]

    def set(self, index: int, value: bytes) -> None:
        place, offset = self._locate(index)
        old = self._blocks[place][offset]
        self._grow(value)
        self._blocks[place][offset] = value
        self._shrink(old)

    def insert(self, index: int, value: bytes) -> None:
        """Insert before the element at that place; at the length, behind the last."""
        if index == 0:
            self.push_left(value)
            return
        if index == self._length:
            self.push_right(value)
            return
        place, offset = self._locate(index)
        self._grow(value)
        block = self._blocks[place]
        block.insert(offset, value)
        if len(block) > _BLOCK_ITEMS_MAX:
            middle = len(block) // 2
            self._blocks[place : place + 1] = [block[:middle], block[middle:]]
        self._starts = None

    def delete(self, index: int) -> None:
        place, offset = self._locate(index)
        value = self._blocks[place].pop(offset)
        self._merge(place)
        self._starts = None
        self._shrink(value)

    def slice(self, start: int, stop: int) -> list[bytes]:
        """Elements from start up to, but not including, stop."""
        if start >= stop:
            return []
        place, offset = self._locate(start)
        elements = self._blocks[place][offset : offset + stop - start]
        if len(elements) < stop - start:
            for block in islice(self._blocks, place + 1, None):
                missing = stop - start - len(elements)
                if missing <= len(block):
                    elements += block[:missing]
                    break
                elements += block
        return elements

    def keep(self, start: int, stop: int) -> None:
        """Remove what is outside start to stop; costs as much as what is removed."""
        if start >= stop:
            blocks, self._blocks = self._blocks, []
            self._forget_all(blocks)
        else:
            self._drop_right(self._length - stop)
            self._drop_left(start)
        self._starts = None
        self._settle()

    # By content

    def remove(self, value: bytes, count: int) -> int:
        """Remove elements that equal a value: all (0), or so many from the left, or (negative) from the right."""
        wanted = abs(count) or self._length
        places = range(len(self._blocks)) if count >= 0 else range(len(self._blocks) - 1, -1, -1)
        removed = 0
        touched = []
        for place in places:
            block = self._blocks[place]
            if value in block:
                found = min(block.count(value), wanted - removed)
                _remove_some(block, value, found, from_right=count < 0)
                touched.append(place)
                removed += found
                if removed == wanted:
                    break
        if removed:
            # From the right, so that places on the left stay what they are.
            for place in sorted(touched, reverse=True):
                self._merge(place)
            self._starts = None
            self._length -= removed
            self._item_bytes -= removed * _item_size(value)
            self._pack_bytes -= removed * _pack_size(value)
            self._settle()
        return removed

    def find(self, value: bytes, rank: int, count: int, max_len: int) -> list[int]:
        """Where a value is, from the rank-th on, at most `count` places (0: all), looking at `max_len` (0: all).

        A negative rank looks from the right; places are counted from the left all the same.
        """
        skipped = abs(rank) - 1
        compared = min(max_len, self._length) if max_len else self._length
        places = _found(self._blocks, value, compared) if rank > 0 else _found_from_right(self._blocks, value, compared)
        found = list(islice(places, skipped, skipped + count if count else None))
        return found if rank > 0 else [self._length - 1 - place for place in found]

    # Inside

    def _locate(self, index: int) -> tuple[int, int]:
        """The block of an element, and its place there."""
        blocks = self._blocks
        first = len(blocks[0])
        if index < first:
            return 0, index
        last = len(blocks[-1])
        from_last = index - (self._length - last)
        if from_last >= 0:
            return len(blocks) - 1, from_last
        starts = self._starts
        if starts is None:
            starts = self._starts = list(accumulate(map(len, islice(blocks, 1, len(blocks) - 1)), initial=0))
        place = bisect_right(starts, index - first)
        return place, index - first - starts[place - 1]

    def _merge(self, place: int) -> None:
        """Tidy up after a block has lost elements: drop it if it is empty, join it with a neighbour if both are small.

        The caller forgets `_starts`.
        """
        blocks = self._blocks
        size = len(blocks[place])
        if not size:
            del blocks[place]
            return
        for left in (place - 1, place):
            if 0 <= left < len(blocks) - 1 and len(blocks[left]) + len(blocks[left + 1]) <= _BLOCK_ITEMS_MERGED:
                blocks[left] += blocks.pop(left + 1)
                return

    def _drop_right(self, count: int) -> None:
        blocks = self._blocks
        while count:
            block = blocks[-1]
            if len(block) <= count:
                count -= len(block)
                self._forget(blocks.pop())
            else:
                self._forget(block[-count:])
                del block[-count:]
                return

    def _drop_left(self, count: int) -> None:
        blocks = self._blocks
        whole = 0
        while count and len(blocks[whole]) <= count:
            count -= len(blocks[whole])
            whole += 1
        self._forget_all(blocks[:whole])
        del blocks[:whole]
        if count:
            self._forget(blocks[0][:count])
            del blocks[0][:count]

    def _forget_all(self, blocks: Iterable[list[bytes]]) -> None:
        for block in blocks:
            self._forget(block)

    def _forget(self, values: list[bytes]) -> None:
        """Take elements that are removed out of the sums."""
        self._length -= len(values)
        self._item_bytes -= sum(map(_item_size, values))
        self._pack_bytes -= sum(map(_pack_size, values))

    def _grow(self, value: bytes) -> None:
        """Count one more element, and see to the encoding, as Redis does before it adds it."""
        if not self._big:
            # It takes the bare length for what the element will need.
            limit = self._limits.list_max_listpack_size
            self._big = _is_too_big(limit, self._pack_bytes + len(value), self._length + 1)
        self._length += 1
        self._item_bytes += _item_size(value)
        self._pack_bytes += _pack_size(value)

    def _shrink(self, value: bytes) -> None:
        """Count one element less."""
        self._length -= 1
        self._item_bytes -= _item_size(value)
        self._pack_bytes -= _pack_size(value)
        if self._big:
            self._settle()

    def _settle(self) -> None:
        """Back to a listpack if the elements fill less than half of one."""
        if self._big:
            self._big = not _is_small(self._limits.list_max_listpack_size, self._pack_bytes, self._length)


def _remove_some(block: list[bytes], value: bytes, count: int, from_right: bool) -> None:
    """Remove `count` elements that equal a value; there are as many."""
    if count == 1 and not from_right:
        block.remove(value)
        return
    if count == block.count(value):
        block[:] = [element for element in block if element != value]
        return
    if from_right:
        block.reverse()
    for _ in range(count):
        block.remove(value)
    if from_right:
        block.reverse()


def _found(blocks: Iterable[list[bytes]], value: bytes, compared: int) -> Iterable[int]:
    """Places of a value among the first elements of some blocks."""
    start = 0
    for block in blocks:
        if value in block:
            for offset, element in enumerate(block[: compared - start]):
                if element == value:
                    yield start + offset
        start += len(block)
        if start >= compared:
            return


def _found_from_right(blocks: list[list[bytes]], value: bytes, compared: int) -> Iterable[int]:
    """Places, counted from the right, of a value among the last elements."""
    return _found((block[::-1] for block in reversed(blocks)), value, compared)


def _item_size(value: bytes) -> int:
    """Bytes of a bytes object, in steps of 16."""
    return (len(value) + 48) & ~15


def _pack_size(value: bytes) -> int:
    """Bytes of an element in a listpack (listpack.c): a code with its length, itself, and a length to go back by."""
    length = len(value)
    if length <= 20 and is_integer(value):
        number = int(value)
        if 0 <= number <= 127:
            return 2
        if -(1 << 12) <= number < 1 << 12:
            return 3
        for width in (2, 3, 4):
            if -(1 << (8 * width - 1)) <= number < 1 << (8 * width - 1):
                return width + 2
        return 10
    size = length + (1 if length < 64 else 2 if length < 4096 else 5)
    return size + (1 if size <= 127 else 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5)


def _is_too_big(limit: int, pack_bytes: int, length: int) -> bool:
    """Whether a listpack is beyond list-max-listpack-size: a number of elements, or from -1 to -5 a size."""
    if limit < 0:
        return pack_bytes > _PACK_BYTES_MAX[min(-limit, 5) - 1]
    return pack_bytes > _PACK_SAFE_BYTES or length > max(limit, 1)


def _is_small(limit: int, pack_bytes: int, length: int) -> bool:
    """Whether so much fills at most half of a listpack, so that a few elements more do not convert it back at once."""
    if limit < 0:
        return pack_bytes <= _PACK_BYTES_MAX[min(-limit, 5) - 1] // 2
    return length <= max(limit, 1) // 2 and pack_bytes <= _PACK_SAFE_BYTES
