"""Hash slots, the same 16384 as Redis Cluster's: CRC-16/XMODEM of the key, or of its `{tag}`."""

from binascii import crc_hqx
from typing import Final

SLOTS: Final = 16384
SLOT_MASK: Final = SLOTS - 1
OPEN_BRACE: Final = 0x7B  # a key without it has no tag; hot paths test that before they call slot_of()


def slot_of(key: bytes) -> int:
    """The slot of a key.  Only what is between the first `{` and the next `}` counts, unless that is empty."""
    start = key.find(b"{")
    if start >= 0:
        stop = key.find(b"}", start + 1)
        if stop > start + 1:
            key = key[start + 1 : stop]
    return crc_hqx(key, 0) & SLOT_MASK
