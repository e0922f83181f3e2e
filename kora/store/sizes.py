"""Estimated sizes of what is stored, in bytes, as maxmemory, MEMORY USAGE and the memory metrics count them.

Measured on CPython 3.11 against the process' growth; tests/store/test_sizes.py repeats the measurement.  An estimate
must be a pure function of the value, so that what is added on a change is what was subtracted before.
"""

from typing import Any, Final

# What a key costs beside the two objects: its place in a table.  24 bytes in a dict that is a third to two thirds full,
# and what outgrown dicts leave behind: 40 bytes measured with 1 M keys, 57 with 200,000, whose tables are smaller.
ENTRY_BYTES: Final = 48
# A deadline: the place in a second table, and an int object of 32 bytes; 86 and 97 bytes measured.
DEADLINE_BYTES: Final = ENTRY_BYTES + 40


def size_of(value: Any) -> int:
    """Bytes of a key or a value, in steps of 16: 33 around those of a bytes, 56 beside the block of a bytearray.

    Of another value it is what the keyspace has counted for it: since then it may have grown.
    """
    if type(value) is bytes:
        return (len(value) + 48) & ~15
    if type(value) is bytearray:
        return 64 + ((value.__alloc__() + 15) & ~15)
    return int(value.counted_bytes)


def weigh(value: Any) -> int:
    """size_of() of a value that is about to be stored: of other kinds than strings that is what it takes by now.

    Its length is noted as well, for whoever counts it.
    """
    if type(value) is not bytes and type(value) is not bytearray:
        value.counted_bytes = value.size_bytes
        value.counted_length = len(value)
    return size_of(value)


def entry_size(key: bytes, value: Any) -> int:
    return ENTRY_BYTES + ((len(key) + 48) & ~15) + size_of(value)
