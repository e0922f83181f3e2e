"""LZF, in which Redis keeps strings of dumps and snapshots.

A control byte below 32 is followed by so many bytes and one more, as they are.  Of any other the upper three bits are
the length of a repetition less two (7: add the next byte), and the lower five, with the next byte, tell how far back it
begins.
"""

from typing import Final

_LITERAL_MAX: Final = 32
_BACK_MAX: Final = 1 << 13
_REPEAT_MIN: Final = 3
_REPEAT_MAX: Final = 264
_TABLE_BITS_MIN: Final = 8
_TABLE_BITS_MAX: Final = 16


def compress(data: bytes) -> bytes | None:
    """None where that would not make it shorter.

    Three bytes that were seen before, no further back than can be told, begin a repetition as long as it goes.  Where
    they were seen is kept in a table by a hash of them, whose rows forget the earlier when others come: so that the
    kernel, which gives the same bytes, needs no more than that.  Of a repetition only the last two places are kept.
    """
    size = len(data)
    shift = 32 - min(_TABLE_BITS_MAX, max(_TABLE_BITS_MIN, (size - 1).bit_length()))
    seen: dict[int, int] = {}
    out = bytearray()
    start = place = 0  # of bytes that are no repetition; of what is looked at
    while place + _REPEAT_MIN <= size:
        three = data[place : place + _REPEAT_MIN]
        row = _row(three, shift)
        earlier = seen.get(row)
        seen[row] = place
        if earlier is None or place - earlier > _BACK_MAX or data[earlier : earlier + _REPEAT_MIN] != three:
            place += 1
            continue
        back = place - earlier - 1
        length = _REPEAT_MIN
        length_max = min(_REPEAT_MAX, size - place)
        while length < length_max and data[earlier + length] == data[place + length]:
            length += 1
        _append_literals(out, data[start:place])
        if length < 9:
            out.append(length - 2 << 5 | back >> 8)
        else:
            out.append(7 << 5 | back >> 8)
            out.append(length - 9)
        out.append(back & 0xFF)
        place += length
        start = place
        for late in range(place - 2, min(place, size - _REPEAT_MIN + 1)):
            seen[_row(data[late : late + _REPEAT_MIN], shift)] = late
    _append_literals(out, data[start:])
    return bytes(out) if len(out) < size else None


def _row(three: bytes, shift: int) -> int:
    return (int.from_bytes(three, "big") * 2654435761 & 0xFFFFFFFF) >> shift


def _append_literals(out: bytearray, data: bytes) -> None:
    for place in range(0, len(data), _LITERAL_MAX):
        run = data[place : place + _LITERAL_MAX]
        out.append(len(run) - 1)
        out += run


def decompress(data: bytes, size_bytes: int) -> bytes | None:
    """None where the data is damaged, or does not give so many bytes."""
    out = bytearray()
    place = 0
    while place < len(data):
        control = data[place]
        place += 1
        if control < 32:
            literal = data[place : place + control + 1]
            if len(literal) < control + 1:
                return None
            out += literal
            place += control + 1
        else:
            length = control >> 5
            tail = 2 if length == 7 else 1
            if place + tail > len(data):
                return None
            if length == 7:
                length += data[place]
                place += 1
            back = ((control & 0x1F) << 8 | data[place]) + 1
            place += 1
            start = len(out) - back
            if start < 0:
                return None
            length += 2
            # It may run into what it makes.
            out += (out[start:] * (length // back + 1))[:length] if back < length else out[start : start + length]
        if len(out) > size_bytes:
            return None
    return bytes(out) if len(out) == size_bytes else None
