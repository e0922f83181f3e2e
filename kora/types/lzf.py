"""LZF, in which Redis keeps strings of dumps and snapshots: unpacking only, since nobody needs us to pack.

A control byte below 32 is followed by so many bytes and one more, as they are.  Of any other the upper three bits are
the length of a repetition less two (7: add the next byte), and the lower five, with the next byte, tell how far back it
begins.
"""


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
            start = len(out) - ((control & 0x1F) << 8 | data[place]) - 1
            place += 1
            if start < 0:
                return None
            for _ in range(length + 2):  # one by one: it may run into what it makes
                out.append(out[start])
                start += 1
        if len(out) > size_bytes:
            return None
    return bytes(out) if len(out) == size_bytes else None
