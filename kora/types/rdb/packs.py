"""Listpacks (listpack.c): strings and integers in one block, which can be walked in both directions; and intsets.

A listpack is its size in 4 bytes, the number of its elements in 2, the elements, and a byte of 255.  An element starts
with a code, which holds small integers, or the length of a string, in its lower bits; behind it stands how long it was,
seven bits a byte.  Numbers are little-endian, but for those in codes.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from kora.types.number import is_integer

from .reader import Damaged

HEAD_BYTES: Final = 6
_END: Final = 0xFF
# What the header says of so many elements or more: that they must be counted.
_UNCOUNTED: Final = 0xFFFF

_SMALL: Final = tuple(b"%d" % number for number in range(128))
_SMALL_ENTRIES: Final = tuple(bytes((number, 1)) for number in range(128))
# Bytes of integers, by code.
_WIDTHS: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}

_INTSET_WIDTHS: Final = (2, 4, 8)


# Writing


def pack(entries: Iterable[bytes]) -> bytes:
    """A listpack of elements that entry() or integer_entry() made."""
    entries = list(entries)
    body = b"".join(entries)
    return b"%b%b%b\xff" % (
        (len(body) + HEAD_BYTES + 1).to_bytes(4, "little"),
        min(len(entries), _UNCOUNTED).to_bytes(2, "little"),
        body,
    )


def entry(text: bytes) -> bytes:
    """An element; what is the text of a 64-bit integer becomes one, as in Redis."""
    length = len(text)
    if length <= 20 and is_integer(text):
        return integer_entry(int(text))
    if length < 64:
        return b"%c%b%c" % (0x80 | length, text, length + 1)
    if length < 4096:
        return b"%b%b%b" % ((0xE000 | length).to_bytes(2, "big"), text, _back_length(length + 2))
    return b"\xf0%b%b%b" % (length.to_bytes(4, "little"), text, _back_length(length + 5))


def integer_entry(number: int) -> bytes:
    """An element that is an integer of 64 bits."""
    if 0 <= number < 128:
        return _SMALL_ENTRIES[number]
    if -4096 <= number < 4096:
        return (0xC000 | number & 0x1FFF).to_bytes(2, "big") + b"\x02"
    for code, width in _WIDTHS.items():
        if -1 << 8 * width - 1 <= number < 1 << 8 * width - 1:
            return b"%c%b%c" % (code, number.to_bytes(width, "little", signed=True), width + 1)
    raise AssertionError(number)


def _back_length(length: int) -> bytes:
    """Seven bits a byte, the lowest last; all bytes but the first have the eighth bit set."""
    # The limits are Redis', which gives away one value of two bytes and more (lpEncodeBacklen).
    count = 1 if length < 128 else 2 if length < 16383 else 3 if length < 2097151 else 4 if length < 268435455 else 5
    parts = [length >> 7 * place & 0x7F | 0x80 for place in range(count - 1, -1, -1)]
    parts[0] &= 0x7F
    return bytes(parts)


def intset(integers: list[int]) -> bytes:
    """Integers in ascending order, each as wide as the widest of them needs."""
    width = next(
        width for width in _INTSET_WIDTHS if -1 << 8 * width - 1 <= min(integers) and max(integers) < 1 << 8 * width - 1
    )
    head = width.to_bytes(4, "little") + len(integers).to_bytes(4, "little")
    return head + b"".join([integer.to_bytes(width, "little", signed=True) for integer in integers])


# Reading


def unpack(data: bytes) -> list[bytes]:
    """The elements of a listpack, integers as their texts."""
    size_bytes = len(data)
    last = size_bytes - 1
    if size_bytes < HEAD_BYTES + 1 or int.from_bytes(data[:4], "little") != size_bytes or data[last] != _END:
        raise Damaged("a listpack without its head or end")
    elements = []
    place = HEAD_BYTES
    while place < last:
        first = data[place]
        if first < 0x80:
            element = _SMALL[first]
            length = 1
        elif first < 0xC0:
            length = 1 + (first & 0x3F)
            element = data[place + 1 : place + length]
        elif first < 0xE0:
            number = (first & 0x1F) << 8 | data[place + 1]
            element = b"%d" % (number if number < 4096 else number - 8192)
            length = 2
        elif first < 0xF0:
            length = 2 + ((first & 0x0F) << 8 | data[place + 1])
            element = data[place + 2 : place + length]
        elif first == 0xF0:
            length = 5 + int.from_bytes(data[place + 1 : place + 5], "little")
            element = data[place + 5 : place + length]
        elif first in _WIDTHS:
            length = 1 + _WIDTHS[first]
            element = b"%d" % int.from_bytes(data[place + 1 : place + length], "little", signed=True)
        else:
            raise Damaged("an unknown element of a listpack")
        stop = place + length
        if stop >= last:
            raise Damaged("an element beyond the end of its listpack")
        if length < 128:
            if data[stop] != length:
                raise Damaged("a wrong length behind an element of a listpack")
            place = stop + 1
        else:
            back = _back_length(length)
            place = stop + len(back)
            if data[stop:place] != back:
                raise Damaged("a wrong length behind an element of a listpack")
        elements.append(element)
    count = int.from_bytes(data[4:6], "little")
    if place != last or (count != _UNCOUNTED and count != len(elements)):
        raise Damaged("a listpack with another number of elements than it says")
    return elements


def unpack_intset(data: bytes) -> list[int]:
    width, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    if width not in _INTSET_WIDTHS or len(data) != 8 + width * count:
        raise Damaged("an intset of another size than it says")
    integers = [
        int.from_bytes(data[place : place + width], "little", signed=True) for place in range(8, len(data), width)
    ]
    if any(one >= other for one, other in pairwise(integers)):
        raise Damaged("an intset that is not sorted")
    return integers
