"""Writing what RDB files are made of around their values: the head, records of keys, and the end.

The kernel writes records as record() does, and faster (kora/kernel/save.c).
"""

from collections.abc import Mapping
from typing import Any, Final

from .values import type_of, write
from .writer import Writer

# RDB_OPCODE_… (rdb.h).
_FUNCTION: Final = 245
_IDLE: Final = 248
_FREQUENCY: Final = 249
_AUX: Final = 250
_RESIZE: Final = 251
_DEADLINE_MS: Final = 252
_SELECT: Final = 254
# What stands in front of the checksum, and counts in it.
END: Final = b"\xff"


def head(writer: Writer, version: int, about: Mapping[str, object]) -> None:
    """What a file begins with; `about` is what its writer says of itself."""
    writer.data += b"REDIS%04d" % version
    for name, value in about.items():
        writer.data.append(_AUX)
        writer.string(name.encode())
        writer.string(str(value).encode())


def function(writer: Writer, code: bytes) -> None:
    """A library of functions."""
    writer.data.append(_FUNCTION)
    writer.string(code)


def sizes(writer: Writer, database: int, keys: int, volatile: int) -> None:
    """How many keys of a database there will be, and how many of them have deadlines."""
    select(writer, database)
    writer.data.append(_RESIZE)
    writer.length(keys)
    writer.length(volatile)


def select(writer: Writer, database: int) -> None:
    """Which database the records that follow are of."""
    writer.data.append(_SELECT)
    writer.length(database)


def record(
    writer: Writer,
    version: int,
    key: bytes,
    value: Any,
    deadline_ms: int | None,
    idle_s: int | None,
    frequency: int | None,
) -> None:
    """A key with its value, in the version if that can tell it."""
    data = writer.data
    if deadline_ms is not None:
        data.append(_DEADLINE_MS)
        writer.integer(deadline_ms, 8)
    if idle_s is not None:
        data.append(_IDLE)
        writer.length(idle_s)
    if frequency is not None:
        data.append(_FREQUENCY)
        data.append(frequency)
    type_ = type_of(value, version)
    data.append(type_)
    writer.string(key)
    write(writer, type_, value)
