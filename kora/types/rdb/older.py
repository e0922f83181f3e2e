"""Ziplists and zipmaps, in which Redis kept small values before listpacks (ziplist.c, zipmap.c): reading only.

A ziplist is its size in 4 bytes, where its last element begins in 4, the number of elements in 2, the elements, and a
byte of 255.  Each element begins with how long the one before it is.

A zipmap is the number of its fields in one byte, and for each field a length, the field, a length, a number of bytes
that are not used, the value, and these; then a byte of 255.
"""

from typing import Final

from .reader import Damaged

_END: Final = 0xFF
_LONG: Final = 0xFE  # a length of 4 bytes follows
_ZIPLIST_HEAD_BYTES: Final = 10
_UNCOUNTED: Final = 0xFFFF
_WIDTHS: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}


def unpack_ziplist(data: bytes) -> list[bytes]:
    """The elements, integers as their texts."""
    size_bytes = len(data)
    last = size_bytes - 1
    if size_bytes < _ZIPLIST_HEAD_BYTES + 1 or int.from_bytes(data[:4], "little") != size_bytes or data[last] != _END:
        raise Damaged("a ziplist without its head or end")
    elements: list[bytes] = []
    place = tail = _ZIPLIST_HEAD_BYTES
    before = 0  # how long the element before this one is
    while place < last:
        start = tail = place
        back, place = _ziplist_back(data, place)
        if back != before or place >= last:
            raise Damaged("a wrong length before an element of a ziplist")
        element, place = _ziplist_element(data, place)
        if place > last:
            raise Damaged("an element beyond the end of its ziplist")
        elements.append(element)
        before = place - start
    count = int.from_bytes(data[8:10], "little")
    if int.from_bytes(data[4:8], "little") != tail or (count != _UNCOUNTED and count != len(elements)):
        raise Damaged("a ziplist with another number of elements than it says")
    return elements


def _ziplist_back(data: bytes, place: int) -> tuple[int, int]:
    first = data[place]
    if first == _LONG:
        return int.from_bytes(data[place + 1 : place + 5], "little"), place + 5
    return first, place + 1


def _ziplist_element(data: bytes, place: int) -> tuple[bytes, int]:
    """The element whose code is at a place, and where the next begins, which may be beyond the end."""
    first = data[place]
    if first < 0xC0:
        if first < 0x40:
            start, length = place + 1, first
        elif first < 0x80:
            start, length = place + 2, int.from_bytes(data[place : place + 2], "big") & 0x3FFF
        else:
            start, length = place + 5, int.from_bytes(data[place + 1 : place + 5], "big")
        return data[start : start + length], start + length
    width = _WIDTHS.get(first)
    if width is not None:
        stop = place + 1 + width
        return b"%d" % int.from_bytes(data[place + 1 : stop], "little", signed=True), stop
    if 0xF1 <= first <= 0xFD:
        return b"%d" % (first - 0xF1), place + 1
    raise Damaged("an unknown element of a ziplist")


def unpack_zipmap(data: bytes) -> list[bytes]:
    """Field, value, field, value, …"""
    last = len(data) - 1
    if last < 1 or data[last] != _END:
        raise Damaged("a zipmap without its end")
    words = []
    place = 1
    while place < last:
        length, place = _zipmap_length(data, place)
        words.append(data[place : place + length])
        place += length
        if place >= last:
            raise Damaged("a field without a value in a zipmap")
        length, place = _zipmap_length(data, place)
        unused = data[place] if place < last else 0
        words.append(data[place + 1 : place + 1 + length])
        place += 1 + length + unused
    if place != last or (data[0] < _LONG and data[0] * 2 != len(words)):
        raise Damaged("a zipmap with another number of fields than it says")
    return words


def _zipmap_length(data: bytes, place: int) -> tuple[int, int]:
    first = data[place]
    if first == _END:
        raise Damaged("a zipmap that ends too early")
    if first == _LONG:
        return int.from_bytes(data[place + 1 : place + 5], "little"), place + 5
    return first, place + 1
