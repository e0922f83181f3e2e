"""Reading what RDB is made of: lengths, strings, and numbers of fixed width.

A length is told by the first two bits of its first byte: 6 bits in the rest of it, 14 bits with the next byte, or 32 or
64 bits in those that follow.  The fourth way is for strings only: an integer, or compressed by LZF.
"""

import struct
from collections.abc import Callable
from typing import Final

from kora.types import lzf

# What LZF makes of three bytes at best.
_GROWTH_MAX: Final = 264 // 3
# A string's length in Redis, if nobody says otherwise (proto-max-bulk-len).
STRING_BYTES_MAX: Final = 512 << 20

_INTEGER_BYTES: Final = (1, 2, 4)
_COMPRESSED: Final = 3

MODULE_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_DOUBLE: Final = struct.Struct("<d")

Decompress = Callable[[bytes, int], bytes | None]


class Damaged(Exception):
    """These bytes are not what they should be; the text says why, for logs."""


class NoElements(Damaged):
    """A value is whole but has no elements, as none may be."""


class UnknownModule(Damaged):
    """A value of a module's own type; the reader stands behind the module's id."""

    def __init__(self, module_id: int) -> None:
        super().__init__(f"a value of the module type {module_name(module_id)}, which is not known")
        self.module_id = module_id


def module_name(module_id: int) -> str:
    """The name of a module's type: six bits a letter, of nine, in front of ten of a version (moduleTypeNameByID)."""
    return "".join(MODULE_LETTERS[module_id >> 10 + 6 * place & 0x3F] for place in range(8, -1, -1))


class Reader:
    """Reads some bytes from a place on."""

    __slots__ = ("_data", "_decompress", "_stop", "_string_bytes_max", "place")

    def __init__(
        self,
        data: bytes,
        place: int = 0,
        stop: int | None = None,
        decompress: Decompress = lzf.decompress,
        string_bytes_max: int = STRING_BYTES_MAX,
    ) -> None:
        self._data = data
        self._stop = len(data) if stop is None else stop
        self._decompress = decompress
        self._string_bytes_max = string_bytes_max
        self.place = place

    @property
    def left(self) -> int:
        """How many bytes there are yet."""
        return self._stop - self.place

    def more(self, count: int) -> None:
        """There are less than so many bytes: get hold of them, or raise Damaged."""
        raise Damaged("it ends too early")

    def take(self, count: int) -> bytes:
        if self.place + count > self._stop:
            self.more(count)
        start = self.place
        self.place = stop = start + count
        return self._data[start:stop]

    def byte(self) -> int:
        if self.place >= self._stop:
            self.more(1)
        place = self.place
        self.place = place + 1
        return self._data[place]

    def length(self) -> int:
        """A length, or another number of up to 64 bits that is written like one."""
        first = self.byte()
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise Damaged("a length that is none")

    def count(self) -> int:
        """How many elements follow.  Each takes a byte at least, so that a lie is found out at once."""
        count = self.length()
        if count > self.left:
            raise Damaged("more elements than bytes")
        return count

    def string(self) -> bytes:
        if self.place >= self._stop:
            self.more(1)
        first = self._data[self.place]
        if first < 0x40:
            # Nearly all there are.
            if self.place + first >= self._stop:
                self.more(1 + first)
            start = self.place + 1
            self.place = stop = start + first
            return self._data[start:stop]
        if first < 0xC0:
            length = self.length()
            if length > self._string_bytes_max:
                raise Damaged("a string over the limit")
            return self.take(length)
        self.place += 1
        how = first & 0x3F
        if how < _COMPRESSED:
            return b"%d" % self.integer(_INTEGER_BYTES[how])
        if how == _COMPRESSED:
            return self._compressed()
        raise Damaged("a string in an unknown form")

    def integer(self, size_bytes: int) -> int:
        return int.from_bytes(self.take(size_bytes), "little", signed=True)

    def double(self) -> float:
        number: float = _DOUBLE.unpack(self.take(8))[0]
        return number

    def _compressed(self) -> bytes:
        packed_bytes, size_bytes = self.length(), self.length()
        if size_bytes > self._string_bytes_max or size_bytes > packed_bytes * _GROWTH_MAX:
            raise Damaged("a compressed string that would grow too long")
        data = self._decompress(self.take(packed_bytes), size_bytes)
        if data is None:
            raise Damaged("a compressed string that cannot be decompressed")
        return data
