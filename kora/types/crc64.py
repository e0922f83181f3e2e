"""CRC-64 of Jones' polynomial, reflected: what ends Redis' dumps and snapshots (crc64.c)."""

from functools import cache
from typing import Final

_POLYNOMIAL: Final = 0x95AC9329AC4BC9B5  # 0xAD93D23594C935A9 from the other end


@cache
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        rows.append(byte)
    return tuple(rows)


def crc64(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """Of some bytes, or of what went before, whose sum is given, and these."""
    table = _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc
