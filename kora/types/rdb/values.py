"""Values: the type under which each is written, and how each type is read, old ones included.

A type says both what the value is and how it is laid out, so Redis has about two dozen for five kinds.  A value is
written as compact as it is held; what could be written in several ways is written so that older versions can read it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, Final

from kora.errors import CommandError
from kora.types.hash import Hash
from kora.types.list import List
from kora.types.number import parse_float
from kora.types.set import Set
from kora.types.sorted_set import SortedSet
from kora.types.stream import Stream
from kora.types.vector_set import VectorSet

from .older import unpack_ziplist, unpack_zipmap
from .packs import HEAD_BYTES, entry, intset, pack, unpack, unpack_intset
from .reader import Damaged, NoElements, Reader
from .streams import read_stream, write_stream
from .vectors import read_vectors, write_vectors
from .writer import Writer

# A new, empty value of a kind: Keyspace.make.
Make = Callable[[type], Any]


class Type(IntEnum):
    """RDB_TYPE_… (rdb.h).  5 and 22 to 25 are the second ways of writing things, of Redis 4 and 7.4."""

    STRING = 0
    LIST = 1
    SET = 2
    ZSET = 3
    HASH = 4
    ZSET_2 = 5
    MODULE_2 = 7
    HASH_ZIPMAP = 9
    LIST_ZIPLIST = 10
    SET_INTSET = 11
    ZSET_ZIPLIST = 12
    HASH_ZIPLIST = 13
    LIST_QUICKLIST = 14
    STREAM_LISTPACKS = 15
    HASH_LISTPACK = 16
    ZSET_LISTPACK = 17
    LIST_QUICKLIST_2 = 18
    STREAM_LISTPACKS_2 = 19
    SET_LISTPACK = 20
    STREAM_LISTPACKS_3 = 21
    HASH_METADATA_EARLY = 22  # of a release candidate: without the least deadline in front
    HASH_LISTPACK_EX_EARLY = 23
    HASH_METADATA = 24
    HASH_LISTPACK_EX = 25


OLDEST: Final = 10  # the version of Redis 7.0: what is new in it is taken for granted
NEWEST: Final = 12  # of Redis 7.4
# The version that brought a type, of those after OLDEST.
_VERSIONS: Final = {
    Type.SET_LISTPACK: 11,
    Type.STREAM_LISTPACKS_3: 11,
    Type.HASH_METADATA_EARLY: 12,
    Type.HASH_LISTPACK_EX_EARLY: 12,
    Type.HASH_METADATA: 12,
    Type.HASH_LISTPACK_EX: 12,
}

# What a node of a list may be long in a quicklist: list-max-listpack-size -2, the default.
_NODE_BYTES_MAX: Final = 8192
_PLAIN_NODE: Final = 1
_PACKED_NODE: Final = 2
# Elements that are asked for at a time, so that a long value is not there twice.
_STEP: Final = 1024

# Redis has 48 bits for it (EB_EXPIRE_TIME_MAX, ebuckets.h).
_DEADLINE_MS_MAX: Final = (1 << 48) - 2

# The integers that doubles count without gaps; these Redis writes as such (double2ll, util.c).
_EXACT_MAX: Final = 1 << 52


def version_of(type_: Type) -> int:
    """The first version that knows a type; OLDEST for all that Redis 7.0 knows."""
    return _VERSIONS.get(type_, OLDEST)


# Writing


def type_of(value: Any, version: int = OLDEST) -> Type:
    """The type under which a value is written, of this version if the value can be told in it; else of a newer one."""
    if type(value) is bytes or type(value) is bytearray:
        return Type.STRING
    encoding = value.encoding
    match value.kind:
        case "list":
            return Type.LIST_QUICKLIST_2
        case "set":
            if encoding == "intset":
                return Type.SET_INTSET
            return Type.SET_LISTPACK if encoding == "listpack" and version > 10 else Type.SET
        case "zset":
            return Type.ZSET_LISTPACK if encoding == "listpack" else Type.ZSET_2
        case "hash":
            if value.next_deadline_ms:
                return Type.HASH_METADATA if encoding == "hashtable" else Type.HASH_LISTPACK_EX
            return Type.HASH if encoding == "hashtable" else Type.HASH_LISTPACK
        case "stream":
            return Type.STREAM_LISTPACKS_3 if version > 10 else Type.STREAM_LISTPACKS_2
        case "vectorset":
            return Type.MODULE_2
    raise AssertionError(value.kind)


def write(writer: Writer, type_: Type, value: Any) -> None:
    """A value under the type that type_of() gave for it."""
    match type_:
        case Type.STRING:
            writer.string(bytes(value))
        case Type.LIST_QUICKLIST_2:
            _write_list(writer, value)
        case Type.SET_INTSET:
            writer.string(intset([int(member) for member in value.members()]))
        case Type.SET_LISTPACK:
            writer.string(pack(map(entry, value.members())))
        case Type.SET:
            writer.length(len(value))
            for member in value.members():
                writer.string(member)
        case Type.ZSET_LISTPACK:
            pairs = value.slice(0, len(value))
            writer.string(pack(part for member, score in pairs for part in (entry(member), entry(_score_text(score)))))
        case Type.ZSET_2:
            _write_sorted_set(writer, value)
        case Type.HASH_LISTPACK:
            writer.string(pack(map(entry, value.flat())))
        case Type.HASH:
            writer.length(len(value))
            for word in value.flat():
                writer.string(word)
        case Type.HASH_LISTPACK_EX:
            _write_small_deadlines(writer, value)
        case Type.HASH_METADATA:
            _write_deadlines(writer, value)
        case Type.STREAM_LISTPACKS_2 | Type.STREAM_LISTPACKS_3:
            write_stream(writer, value, 2 if type_ is Type.STREAM_LISTPACKS_2 else 3)
        case Type.MODULE_2:
            write_vectors(writer, value)
        case _:
            raise AssertionError(type_)


def _write_list(writer: Writer, value: List) -> None:
    nodes = list(_list_nodes(value))
    writer.length(len(nodes))
    for node in nodes:
        writer.length(_PACKED_NODE)
        writer.string(node)


def _list_nodes(value: List) -> Iterator[bytes]:
    """Listpacks of up to 8 KB; what is longer has one to itself."""
    entries: list[bytes] = []
    size_bytes = HEAD_BYTES + 1
    for start in range(0, len(value), _STEP):
        for element in map(entry, value.slice(start, min(start + _STEP, len(value)))):
            if entries and size_bytes + len(element) > _NODE_BYTES_MAX:
                yield pack(entries)
                entries = []
                size_bytes = HEAD_BYTES + 1
            entries.append(element)
            size_bytes += len(element)
    if entries:
        yield pack(entries)


def _write_sorted_set(writer: Writer, value: SortedSet) -> None:
    """The greatest first: so Redis finds the place of each at the head of its skip list."""
    writer.length(len(value))
    for stop in range(len(value), 0, -_STEP):
        for member, score in reversed(value.slice(max(0, stop - _STEP), stop)):
            writer.string(member)
            writer.double(score)


def _score_text(score: float) -> bytes:
    if math.isinf(score):
        return b"inf" if score > 0 else b"-inf"
    if score.is_integer() and -_EXACT_MAX <= score <= _EXACT_MAX:
        return b"%d" % int(score)
    return b"%r" % score


def _write_small_deadlines(writer: Writer, value: Hash) -> None:
    """Field, value and deadline in turn, 0 for none; the next to end first and those that do not end last."""
    words = value.flat()
    rows = [
        (value.deadline(field) or 0, field, content) for field, content in zip(words[::2], words[1::2], strict=True)
    ]
    rows.sort(key=lambda row: row[0] or _DEADLINE_MS_MAX + 1)
    writer.integer(rows[0][0], 8)
    writer.string(
        pack(entry(word) for deadline_ms, field, content in rows for word in (field, content, b"%d" % deadline_ms))
    )


def _write_deadlines(writer: Writer, value: Hash) -> None:
    """Deadlines less the least of them, from 1 on; 0 for none."""
    words = value.flat()
    deadlines = [value.deadline(field) or 0 for field in words[::2]]
    first_ms = min(filter(None, deadlines))
    writer.integer(first_ms, 8)
    writer.length(len(value))
    for deadline_ms, field, content in zip(deadlines, words[::2], words[1::2], strict=True):
        writer.length(deadline_ms - first_ms + 1 if deadline_ms else 0)
        writer.string(field)
        writer.string(content)


# Reading


def read(reader: Reader, type_: int, make: Make) -> Any:
    """The value of a type; a string, or what `make` has made.  Raises Damaged."""
    if type_ == Type.STRING:
        return reader.string()
    fill = _READERS.get(type_)
    if fill is None:
        raise Damaged(f"a value of type {type_}, which is not known")
    value = make(fill.kind)
    fill.fill(reader, value)
    if not value and not value.keeps_when_empty:
        raise NoElements("a value without elements")
    return value


def _list(reader: Reader, value: List) -> None:
    for _ in range(reader.count()):
        value.push_right(reader.string())


def _packed_list(unpack: Callable[[bytes], list[bytes]]) -> Callable[[Reader, List], None]:
    def fill(reader: Reader, value: List) -> None:
        for element in unpack(reader.string()):
            value.push_right(element)

    return fill


def _quicklist(reader: Reader, value: List) -> None:
    for _ in range(reader.count()):
        for element in unpack_ziplist(reader.string()):
            value.push_right(element)


def _quicklist_2(reader: Reader, value: List) -> None:
    for _ in range(reader.count()):
        node = reader.length()
        if node == _PLAIN_NODE:
            value.push_right(reader.string())
        elif node == _PACKED_NODE:
            for element in unpack(reader.string()):
                value.push_right(element)
        else:
            raise Damaged("a node of a list of an unknown kind")


def _fill_set(value: Set, members: Iterable[bytes]) -> None:
    for member in members:
        if not value.add(member):
            raise Damaged("a member that is there twice in a set")


def _set(reader: Reader, value: Set) -> None:
    _fill_set(value, (reader.string() for _ in range(reader.count())))


def _intset(reader: Reader, value: Set) -> None:
    _fill_set(value, (b"%d" % integer for integer in unpack_intset(reader.string())))


def _packed_set(reader: Reader, value: Set) -> None:
    _fill_set(value, unpack(reader.string()))


def _add_score(value: SortedSet, member: bytes, score: float) -> None:
    if math.isnan(score):
        raise Damaged("a score that is not a number")
    if not value.add(member, score):
        raise Damaged("a member that is there twice in a sorted set")


def _sorted_set(reader: Reader, value: SortedSet) -> None:
    for _ in range(reader.count()):
        member = reader.string()
        _add_score(value, member, _old_double(reader))


def _sorted_set_2(reader: Reader, value: SortedSet) -> None:
    for _ in range(reader.count()):
        member = reader.string()
        _add_score(value, member, reader.double())


def _old_double(reader: Reader) -> float:
    """A double as its text, behind a length; lengths from 253 on are for what has no digits (rdbSaveDoubleValue)."""
    length = reader.byte()
    if length == 253:
        return math.nan
    if length >= 254:
        return math.inf if length == 254 else -math.inf
    return _score(reader.take(length))


def _score(text: bytes) -> float:
    try:
        return parse_float(text)
    except CommandError:
        raise Damaged("a score that is not a number") from None


def _packed_sorted_set(unpack: Callable[[bytes], list[bytes]]) -> Callable[[Reader, SortedSet], None]:
    def fill(reader: Reader, value: SortedSet) -> None:
        words = unpack(reader.string())
        if len(words) % 2:
            raise Damaged("a member without a score")
        for member, score in zip(words[::2], words[1::2], strict=True):
            _add_score(value, member, _score(score))

    return fill


def _add_field(value: Hash, field: bytes, content: bytes) -> None:
    if not value.set(field, content):
        raise Damaged("a field that is there twice in a hash")


def _hash(reader: Reader, value: Hash) -> None:
    for _ in range(reader.count()):
        field = reader.string()
        _add_field(value, field, reader.string())


def _packed_hash(unpack: Callable[[bytes], list[bytes]]) -> Callable[[Reader, Hash], None]:
    def fill(reader: Reader, value: Hash) -> None:
        words = unpack(reader.string())
        if len(words) % 2:
            raise Damaged("a field without a value")
        for field, content in zip(words[::2], words[1::2], strict=True):
            _add_field(value, field, content)

    return fill


def _expire(value: Hash, field: bytes, deadline_ms: int) -> None:
    if not 0 <= deadline_ms <= _DEADLINE_MS_MAX:
        raise Damaged("a deadline beyond the end of time")
    if deadline_ms:
        value.expire(field, deadline_ms)


def _small_deadlines(has_first: bool) -> Callable[[Reader, Hash], None]:
    def fill(reader: Reader, value: Hash) -> None:
        if has_first:
            reader.take(8)  # the least deadline, which the fields tell, too
        words = unpack(reader.string())
        if len(words) % 3:
            raise Damaged("a field without a value or a deadline")
        rows = list(zip(words[::3], words[1::3], words[2::3], strict=True))
        for field, content, _ in rows:
            _add_field(value, field, content)
        for field, _, deadline in rows:
            if not deadline.isdigit() or len(deadline) > 18:
                raise Damaged("a deadline that is none")
            _expire(value, field, int(deadline))

    return fill


def _deadlines(has_first: bool) -> Callable[[Reader, Hash], None]:
    def fill(reader: Reader, value: Hash) -> None:
        first_ms = reader.integer(8) if has_first else 1
        for _ in range(reader.count()):
            step_ms = reader.length()
            field = reader.string()
            _add_field(value, field, reader.string())
            if step_ms:
                _expire(value, field, first_ms + step_ms - 1)

    return fill


def _stream(version: int) -> Callable[[Reader, Stream], None]:
    return lambda reader, stream: read_stream(reader, stream, version)


class _Row:
    """How a type is read: what to make, and how to fill it."""

    __slots__ = ("fill", "kind")

    def __init__(self, kind: type, fill: Callable[[Reader, Any], None]) -> None:
        self.kind = kind
        self.fill = fill


_READERS: Final[dict[int, _Row]] = {
    Type.LIST: _Row(List, _list),
    Type.LIST_ZIPLIST: _Row(List, _packed_list(unpack_ziplist)),
    Type.LIST_QUICKLIST: _Row(List, _quicklist),
    Type.LIST_QUICKLIST_2: _Row(List, _quicklist_2),
    Type.SET: _Row(Set, _set),
    Type.SET_INTSET: _Row(Set, _intset),
    Type.SET_LISTPACK: _Row(Set, _packed_set),
    Type.ZSET: _Row(SortedSet, _sorted_set),
    Type.ZSET_2: _Row(SortedSet, _sorted_set_2),
    Type.MODULE_2: _Row(VectorSet, read_vectors),
    Type.ZSET_ZIPLIST: _Row(SortedSet, _packed_sorted_set(unpack_ziplist)),
    Type.ZSET_LISTPACK: _Row(SortedSet, _packed_sorted_set(unpack)),
    Type.HASH: _Row(Hash, _hash),
    Type.HASH_ZIPMAP: _Row(Hash, _packed_hash(unpack_zipmap)),
    Type.HASH_ZIPLIST: _Row(Hash, _packed_hash(unpack_ziplist)),
    Type.HASH_LISTPACK: _Row(Hash, _packed_hash(unpack)),
    Type.HASH_METADATA_EARLY: _Row(Hash, _deadlines(has_first=False)),
    Type.HASH_METADATA: _Row(Hash, _deadlines(has_first=True)),
    Type.HASH_LISTPACK_EX_EARLY: _Row(Hash, _small_deadlines(has_first=False)),
    Type.HASH_LISTPACK_EX: _Row(Hash, _small_deadlines(has_first=True)),
    Type.STREAM_LISTPACKS: _Row(Stream, _stream(1)),
    Type.STREAM_LISTPACKS_2: _Row(Stream, _stream(2)),
    Type.STREAM_LISTPACKS_3: _Row(Stream, _stream(3)),
}
