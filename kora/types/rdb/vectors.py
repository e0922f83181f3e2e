"""Vector sets, which Redis does not have: written as the value of a module would be, by the name `kora-vecs`.

So whoever reads a snapshot of ours without knowing them can tell where the value ends, and a Redis refuses to restore
one instead of taking it for something else.  It is the module's name and version in 64 bits; then numbers and strings,
each behind what it is: components, metric, the greatest id that was ever given, how many vectors, and for each its id
and its components as float32, little-endian.
"""

import sys
from array import array
from typing import Final

from kora.types.vector_distance import COMPONENT_BYTES, METRICS
from kora.types.vector_set import COMPONENT_MAX, SIZE_MAX, VectorSet

from .reader import MODULE_LETTERS, Damaged, Reader, UnknownModule
from .writer import Writer

_VERSION: Final = 1
# RDB_MODULE_OPCODE_… (rdb.h)
_END: Final = 0
_UNSIGNED: Final = 2
_STRING: Final = 5
_ID_MAX: Final = (1 << 63) - 1


def _module_id(name: str, version: int) -> int:
    """Six bits a letter, of nine, and ten of a version (moduleTypeEncodeId, module.c)."""
    number = 0
    for letter in name:
        number = number << 6 | MODULE_LETTERS.index(letter)
    return number << 10 | version


_MODULE: Final = _module_id("kora-vecs", _VERSION)


def write_vectors(writer: Writer, value: VectorSet) -> None:
    writer.length(_MODULE)
    _write_number(writer, value.size)
    _write_string(writer, value.metric.encode())
    _write_number(writer, value.last_id)
    _write_number(writer, len(value))
    for vector_id in value.ids():
        vector = value.get(vector_id)
        assert vector is not None, vector_id
        _write_number(writer, vector_id)
        _write_string(writer, _little_endian(vector).tobytes())
    writer.length(_END)


def read_vectors(reader: Reader, value: VectorSet) -> None:
    module_id = reader.length()
    if module_id != _MODULE:
        raise UnknownModule(module_id)
    size = _read_number(reader)
    metric = _read_string(reader).decode("ascii", "replace")
    last_id, count = _read_number(reader), _read_number(reader)
    if not 1 <= size <= SIZE_MAX or metric not in METRICS or last_id > _ID_MAX:
        raise Damaged("a vector set of a shape that none has")
    value.shape(size, metric)
    for _ in range(count):
        vector_id, data = _read_number(reader), _read_string(reader)
        if vector_id > last_id or len(data) != size * COMPONENT_BYTES:
            raise Damaged("a vector of another size, or of an id that was never given")
        vector = _little_endian(array("f", data))
        # Neither is true of nan.
        if not all(-COMPONENT_MAX <= component <= COMPONENT_MAX for component in vector):
            raise Damaged("a vector with a component out of range")
        if not value.load(vector_id, vector):
            raise Damaged("a vector that is there twice")
    if reader.length() != _END:
        raise Damaged("a vector set that does not end")
    value.last_id = last_id


def _little_endian(vector: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _write_number(writer: Writer, number: int) -> None:
    writer.length(_UNSIGNED)
    writer.length(number)


def _write_string(writer: Writer, text: bytes) -> None:
    writer.length(_STRING)
    writer.string(text)


def _read_number(reader: Reader) -> int:
    if reader.length() != _UNSIGNED:
        raise Damaged("something else where a number belongs")
    return reader.length()


def _read_string(reader: Reader) -> bytes:
    if reader.length() != _STRING:
        raise Damaged("something else where a string belongs")
    return reader.string()
