"""Strings as rows of bits and of small integers, for BITCOUNT, BITPOS, BITOP and BITFIELD.

Bit 0 is the highest bit of the first byte, as in Redis.  Long strings are worked on as big integers, in pieces that the
processor's cache holds, so that ten million bytes take some milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_, xor
from typing import Final

_PIECE: Final = 1 << 16
_OFF: Final = bytes(_PIECE)
_ON: Final = b"\xff" * _PIECE
_INVERTED: Final = bytes(255 - byte for byte in range(256))

Bytes = bytes | bytearray


def count_bits(data: Bytes, start: int, stop: int) -> int:
    """How many of the bits from one place to another, which must lie inside, are set."""
    if start >= stop:
        return 0
    first, last = start >> 3, (stop - 1) >> 3
    view = memoryview(data)
    count = sum(
        int.from_bytes(view[place : min(place + _PIECE, last + 1)], "big").bit_count()
        for place in range(first, last + 1, _PIECE)
    )
    before = data[first] >> (8 - (start & 7))
    after = data[last] & (0xFF >> (((stop - 1) & 7) + 1))
    return count - before.bit_count() - after.bit_count()


def find_bit(data: Bytes, bit: int, start: int, stop: int) -> int:
    """The place of the first 0 or 1 from a place on and before another, both inside; -1 if there is none."""
    if start >= stop:
        return -1
    first, last = start >> 3, (stop - 1) >> 3
    # Bits of the first byte that lie before the start are made what is not looked for.
    edge = 0xFF00 >> (start & 7) & 0xFF
    byte = data[first] & ~edge if bit else data[first] | edge
    idle, piece = (0, _OFF) if bit else (255, _ON)
    place = first
    if byte == idle:
        place = _skip(data, piece, first + 1, last + 1)
        if place > last:
            return -1
        byte = data[place]
    found = 8 * place + 8 - (byte if bit else byte ^ 0xFF).bit_length()
    return found if found < stop else -1


def _skip(data: Bytes, idle: bytes, place: int, stop: int) -> int:
    """The first byte from a place on that is not the idle one, which `idle` repeats; or `stop`."""
    view = memoryview(data)
    while place < stop:
        part = bytes(view[place : min(place + _PIECE, stop)])
        if part != idle[: len(part)]:
            return place + len(part) - len(part.lstrip(idle[:1]))
        place += len(part)
    return stop


_OPERATIONS: Final[dict[bytes, Callable[[int, int], int]]] = {b"AND": and_, b"OR": or_, b"XOR": xor}


def combine(operation: bytes, sources: list[Bytes]) -> bytearray:
    """AND, OR or XOR of several strings, NOT of one; short ones count as filled up with zero bytes."""
    if operation == b"NOT":
        return bytearray(sources[0].translate(_INVERTED))
    length = max(map(len, sources))
    result = bytearray()
    views = [memoryview(source) for source in sources]
    for place in range(0, length, _PIECE):
        size = min(_PIECE, length - place)
        # Little-endian, so that a short piece is one that is filled up at its end.
        pieces = (int.from_bytes(view[place : place + size], "little") for view in views)
        result += reduce(_OPERATIONS[operation], pieces).to_bytes(size, "little")
    return result


# Integers of any width at any place


@dataclass(frozen=True)
class IntegerKind:
    """`i5`, `u63`: an integer of so many bits, two's complement where it is signed."""

    bits: int
    is_signed: bool

    @property
    def least(self) -> int:
        return -(1 << (self.bits - 1)) if self.is_signed else 0

    @property
    def most(self) -> int:
        return (1 << (self.bits - self.is_signed)) - 1

    def wrap(self, number: int) -> int:
        number &= (1 << self.bits) - 1
        return number - (1 << self.bits) if number > self.most else number


def bytes_around(offset: int, bits: int) -> tuple[int, int]:
    """The first byte that holds some bits, and how many bytes do."""
    first = offset >> 3
    return first, ((offset + bits - 1) >> 3) - first + 1


def read_integer(part: bytes, offset: int, kind: IntegerKind) -> int:
    """The integer at a bit offset, of which `part` has the bytes_around it, or fewer where the string ends."""
    _, size = bytes_around(offset, kind.bits)
    whole = int.from_bytes(part.ljust(size, b"\0"), "big")
    return kind.wrap(whole >> (8 * size - (offset & 7) - kind.bits))


def write_integer(part: bytes, offset: int, kind: IntegerKind, number: int) -> bytes:
    """The bytes_around a bit offset with an integer put there."""
    _, size = bytes_around(offset, kind.bits)
    shift = 8 * size - (offset & 7) - kind.bits
    mask = (1 << kind.bits) - 1
    whole = int.from_bytes(part.ljust(size, b"\0"), "big")
    return (whole & ~(mask << shift) | (number & mask) << shift).to_bytes(size, "big")


def fit(number: int, kind: IntegerKind, overflow: bytes) -> int | None:
    """A number that may be too large for its place: wrapped around, cut off (SAT), or (FAIL) None."""
    if kind.least <= number <= kind.most:
        return number
    if overflow == b"WRAP":
        return kind.wrap(number)
    if overflow == b"FAIL":
        return None
    return kind.most if number > kind.most else kind.least
