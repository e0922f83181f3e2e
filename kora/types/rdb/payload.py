"""What DUMP answers and RESTORE takes: the type of a value, the value, two bytes of version, and eight of checksum.

Libraries of functions are dumped under the same foot.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kora.types import crc64 as checksums
from kora.types import lzf

from .reader import Damaged, Decompress, Reader
from .values import NEWEST, Make, read, type_of, version_of, write
from .writer import Compress, Writer

_FOOT_BYTES: Final = 2 + 8


class Tools(NamedTuple):
    """What takes the time with long strings: in Python, unless the kernel has it."""

    crc64: Callable[..., int] = checksums.crc64
    compress: Compress | None = lzf.compress
    decompress: Decompress = lzf.decompress


REFERENCE: Final = Tools()


class WrongFoot(Exception):
    """The version or the checksum of a payload is not right."""


def dump(value: Any, tools: Tools = REFERENCE) -> bytes:
    """A value in the oldest version that can tell it."""
    writer = Writer(tools.compress)
    type_ = type_of(value)
    writer.data.append(type_)
    write(writer, type_, value)
    return seal(writer.data, version_of(type_), tools)


def restore(data: bytes, make: Make, string_bytes_max: int, tools: Tools = REFERENCE) -> Any:
    """The value of a payload; raises WrongFoot or Damaged.  What is behind the value is not looked at, as in Redis."""
    stop = check_seal(data, tools)
    if not stop:
        raise Damaged("no value at all")
    return read(Reader(data, 1, stop, tools.decompress, string_bytes_max), data[0], make)


def seal(data: bytearray, version: int, tools: Tools = REFERENCE) -> bytes:
    """What was written, with the version and the checksum behind it."""
    data += version.to_bytes(2, "little")
    data += tools.crc64(data).to_bytes(8, "little")
    return bytes(data)


def check_seal(data: bytes, tools: Tools = REFERENCE) -> int:
    """Where the foot begins; raises WrongFoot where it is not right."""
    stop = len(data) - _FOOT_BYTES
    if stop < 0 or int.from_bytes(data[stop : stop + 2], "little") > NEWEST:
        raise WrongFoot
    if tools.crc64(memoryview(data)[:-8]) != int.from_bytes(data[-8:], "little"):
        raise WrongFoot
    return stop


def size_bytes(value: Any, tools: Tools = REFERENCE) -> int:
    """How long a value is in RDB, without its type: `serializedlength` of DEBUG OBJECT."""
    writer = Writer(tools.compress)
    write(writer, type_of(value), value)
    return len(writer.data)
