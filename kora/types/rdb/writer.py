"""Writing what RDB is made of; see reader.py for how it looks."""

import struct
from collections.abc import Callable
from typing import Final

from kora.types.number import is_integer

# Shorter strings are not worth compressing, and longer ones are no integers that could be written as such (rdb.c).
_COMPRESSED_MIN: Final = 21
_INTEGER_DIGITS_MAX: Final = 11

_DOUBLE: Final = struct.Struct("<d")

Compress = Callable[[bytes], bytes | None]


class Writer:
    """Collects bytes in `data`, which its owner may take and clear between two values."""

    __slots__ = ("compress", "data")

    def __init__(self, compress: Compress | None = None) -> None:
        """`compress` makes LZF of a string, or nothing if that is no shorter; without it strings stay as they are."""
        self.compress = compress
        self.data = bytearray()

    def length(self, length: int) -> None:
        """A length, or another number of up to 64 bits."""
        if length < 1 << 6:
            self.data.append(length)
        elif length < 1 << 14:
            self.data += (length | 1 << 14).to_bytes(2, "big")
        elif length < 1 << 32:
            self.data += b"\x80" + length.to_bytes(4, "big")
        else:
            self.data += b"\x81" + length.to_bytes(8, "big")

    def string(self, text: bytes) -> None:
        length = len(text)
        if length <= _INTEGER_DIGITS_MAX and is_integer(text):
            number = int(text)
            for form, bits in enumerate((8, 16, 32)):
                if -1 << bits - 1 <= number < 1 << bits - 1:
                    self.data.append(0xC0 | form)
                    self.data += number.to_bytes(bits // 8, "little", signed=True)
                    return
        elif length >= _COMPRESSED_MIN and self.compress is not None:
            packed = self.compress(text)
            if packed is not None and len(packed) <= length - 4:
                self.data.append(0xC3)
                self.length(len(packed))
                self.length(length)
                self.data += packed
                return
        if length < 1 << 6:
            self.data.append(length)
        else:
            self.length(length)
        self.data += text

    def integer(self, number: int, size_bytes: int) -> None:
        self.data += number.to_bytes(size_bytes, "little", signed=True)

    def double(self, number: float) -> None:
        self.data += _DOUBLE.pack(number)
