"""Strings as rows of bits (SETBIT, BITCOUNT, …), and of integers of any width (BITFIELD).

Bits and integers that lie beyond a string's end are 0, and a key that is not there is an empty string.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import Reply
from kora.store.keyspace import Keyspace
from kora.types.bits import (
    IntegerKind,
    bytes_around,
    combine,
    count_bits,
    find_bit,
    fit,
    read_integer,
    write_integer,
)
from kora.types.number import is_integer, parse_integer

bitmaps = Family("bitmap")

# What is looked at of a string at once.
_PART_BYTES: Final = 1 << 20
_UINT64_MASK: Final = (1 << 64) - 1


class _NotAnOffset(CommandError):
    message = "ERR bit offset is not an integer or out of range"


class _NotABit(CommandError):
    message = "ERR bit is not an integer or out of range"


def _parse_offset(client: Client, text: bytes, unit_bits: int = 0) -> int:
    """A bit's place; with a unit, `#3` is the third unit's.  Raises where a string could not be so long."""
    unit = 1
    if unit_bits and text.startswith(b"#"):
        text, unit = text[1:], unit_bits
    offset = parse_integer(text, _NotAnOffset) * unit
    if offset < 0 or offset >> 3 >= client.engine.config.proto_max_bulk_len:
        raise _NotAnOffset
    return offset


@bitmaps(
    "SETBIT key offset:int value:int",
    "Sets or clears a bit of a string, and returns what it was; the string grows as far as it must.",
    flags="write denyoom",
    since="2.2.0",
    access="RW access update",
)
def setbit(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, bit = argv
    offset = _parse_offset(client, text)
    if bit not in (b"0", b"1"):
        raise _NotABit
    db = client.db
    place, mask = offset >> 3, 0x80 >> (offset & 7)
    part = db.part(key, place, 1)
    old = part[0] if part else 0
    new = old | mask if bit == b"1" else old & ~mask
    if not part or new != old:
        db.edit(key, place, bytes((new,)))
        db.notify(b"setbit", key)
    return int(old & mask != 0)


@bitmaps(
    "GETBIT key offset:int",
    "Returns a bit of a string.",
    flags="readonly fast",
    since="2.2.0",
)
def getbit(client: Client, argv: list[bytes]) -> Reply:
    _, key, text = argv
    offset = _parse_offset(client, text)
    if not client.db.touch(key):
        return 0
    part = client.db.part(key, offset >> 3, 1)
    return part[0] >> (7 - (offset & 7)) & 1 if part else 0


@dataclass
class _Range:
    """From one byte or bit to another, both included; negative ones count from the end."""

    start: int
    end: int
    in_bits: bool

    def bits(self, size: int) -> tuple[int, int]:
        """The first bit, and the one behind the last, in a string of so many bytes; the same where there is none."""
        whole = 8 * size if self.in_bits else size
        start = max(0, self.start + whole) if self.start < 0 else self.start
        end = max(0, self.end + whole) if self.end < 0 else self.end
        stop = min(end + 1, whole)
        if start >= stop:
            return 0, 0
        return (start, stop) if self.in_bits else (8 * start, 8 * stop)


def _is_in_bits(words: list[bytes]) -> bool:
    """BYTE or BIT, if it is said."""
    if not words:
        return False
    unit = words[0].upper()
    if len(words) > 1 or unit not in (b"BYTE", b"BIT"):
        raise SyntaxFault
    return unit == b"BIT"


@bitmaps(
    "BITCOUNT key [index=start:int end:int [index_unit=BYTE | BIT]]",
    "Returns how many bits of a string, or of a part of it, are set.",
    flags="readonly",
    since="2.6.0",
    complexity="O(N) where N is the length of the string.",
)
def bitcount(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    db = client.db
    if len(words) not in (0, 2, 3):
        raise SyntaxFault
    # Before the key is looked for: since Redis 7.2 a mistake is one whether it is there or not.
    start, end = map(parse_integer, words[:2]) if words else (0, -1)
    in_bits = _is_in_bits(words[2:])
    if not db.touch(key):
        return 0
    length = db.length(key)
    if start < 0 and end < 0 and start > end:
        return 0
    return _count(db, key, *_Range(start, end, in_bits).bits(length))


def _count(db: Keyspace, key: bytes, start: int, stop: int) -> int:
    """How many bits are set from one to another; only these are looked at, of a string that may be long."""
    first = start >> 3
    part = db.part(key, first, (stop + 7 >> 3) - first)
    return count_bits(part, start - 8 * first, stop - 8 * first)


@bitmaps(
    "BITPOS key bit:int [index=start:int [end_index=end:int [index_unit=BYTE | BIT]]]",
    "Returns the place of the first bit that is set, or clear, in a string or a part of it; -1 if there is none.",
    flags="readonly",
    since="2.8.7",
    complexity="O(N) where N is the length of the string.",
)
def bitpos(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, *words = argv
    bit = parse_integer(text)
    if bit not in (0, 1):
        raise CommandError("ERR The bit argument must be 1 or 0.")
    if len(words) > 3:
        raise SyntaxFault
    start = parse_integer(words[0]) if words else 0
    in_bits = _is_in_bits(words[2:])
    end = parse_integer(words[1]) if words[1:] else -1
    db = client.db
    if not db.touch(key):
        return -1 if bit else 0
    length = db.length(key)
    first, stop = _Range(start, end, in_bits).bits(length)
    if first == stop:
        return -1
    place = _find(db, key, bit, first, stop)
    if place < 0 and not bit and len(words) < 2:
        # No end was given, and behind the string all bits are clear.
        return 8 * length
    return place


def _find(db: Keyspace, key: bytes, bit: int, start: int, stop: int) -> int:
    """The first such bit from one place to another, or -1; most are near, and a string may be long."""
    while start < stop:
        first = start >> 3
        end = min(stop, 8 * (first + _PART_BYTES))
        part = db.part(key, first, (end + 7 >> 3) - first)
        place = find_bit(part, bit, start - 8 * first, end - 8 * first)
        if place >= 0:
            return 8 * first + place
        start = end
    return -1


@bitmaps(
    "BITOP <operation=AND | OR | XOR | NOT> destkey:key key [key ...]",
    "Combines strings bit by bit, stores the result, and returns its length.",
    flags="write denyoom",
    since="2.6.0",
    complexity="O(N) where N is the length of the longest string.",
    access=("OW update", "RO access"),
)
def bitop(client: Client, argv: list[bytes]) -> Reply:
    _, word, target, *keys = argv
    operation = word.upper()
    if operation not in (b"AND", b"OR", b"XOR", b"NOT"):
        raise SyntaxFault
    if operation == b"NOT" and len(keys) > 1:
        raise CommandError("ERR BITOP NOT must be called with a single source key.")
    db = client.db
    sources = [db.read(key, bytes) or b"" for key in keys]
    if any(sources):
        result = combine(operation, sources)
        db.set(target, result)
        db.notify(b"set", target)
        return len(result)
    if db.delete(target):
        db.notify(b"del", target)
    return 0


# BITFIELD


@dataclass
class _Operation:
    name: bytes  # GET, SET or INCRBY
    kind: IntegerKind
    offset: int
    number: int = 0
    overflow: bytes = b"WRAP"


_ARGUMENTS: Final = {b"GET": 2, b"SET": 3, b"INCRBY": 3, b"OVERFLOW": 1}


def _parse_operations(client: Client, words: list[bytes]) -> list[_Operation]:
    operations = []
    overflow = b"WRAP"
    place = 0
    while place < len(words):
        name = words[place].upper()
        arguments = words[place + 1 : place + 1 + _ARGUMENTS.get(name, 0)]
        if name not in _ARGUMENTS or len(arguments) < _ARGUMENTS[name]:
            raise SyntaxFault
        place += 1 + len(arguments)
        if name == b"OVERFLOW":
            overflow = arguments[0].upper()
            if overflow not in (b"WRAP", b"SAT", b"FAIL"):
                raise CommandError("ERR Invalid OVERFLOW type specified")
            continue
        kind = _parse_kind(arguments[0])
        offset = _parse_offset(client, arguments[1], kind.bits)
        number = parse_integer(arguments[2]) if arguments[2:] else 0
        operations.append(_Operation(name, kind, offset, number, overflow))
    return operations


def _parse_kind(text: bytes) -> IntegerKind:
    sign, digits = text[:1], text[1:]
    if sign in (b"i", b"u") and len(digits) < 3 and is_integer(digits):
        bits = int(digits)
        if 1 <= bits <= (64 if sign == b"i" else 63):
            return IntegerKind(bits, sign == b"i")
    raise CommandError(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
    )


def _access(argv: Sequence[bytes]) -> str:
    return "RO access" if _only_reads(argv[2:]) else "RW access update"


def _only_reads(words: Sequence[bytes]) -> bool:
    """Whether all are operations that read; as bitfieldGetKeys (db.c), which takes what it does not know for others."""
    place = 0
    while place < len(words):
        operands = {b"GET": 2, b"OVERFLOW": 1}.get(words[place].upper(), len(words))
        place += 1 + operands
        if place > len(words):
            return False
    return True


@bitmaps(
    "BITFIELD key [operation=<encoding_offset=GET encoding offset:int> | <write=[wrap_sat_fail=OVERFLOW <WRAP | SAT |"
    " FAIL>] <write_operation=<encoding_offset_value=SET encoding offset:int value:int> | <encoding_offset_increment="
    "INCRBY encoding offset:int increment:int>>> ...]",
    "Reads and changes integers of any width in a string, one after another.",
    flags="write denyoom",
    since="3.2.0",
    complexity="O(1) for each operation.",
    access="RW access update variable_flags",
    access_of=_access,
)
def bitfield(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    operations = _parse_operations(client, words)
    changing = [operation for operation in operations if operation.name != b"GET"]
    if not changing:
        return _read_integers(client, key, operations)
    db = client.db
    stop = max((operation.offset + operation.kind.bits + 7) >> 3 for operation in changing)
    is_grown = not db.part(key, stop - 1, 1)
    if is_grown:
        # Even where nothing is written in the end.
        db.edit(key, stop - 1, b"\0")
    replies = []
    has_changed = False
    for operation in operations:
        first, size = bytes_around(operation.offset, operation.kind.bits)
        part = db.part(key, first, size)
        old = read_integer(part, operation.offset, operation.kind)
        new, reply = _outcome(operation, old)
        replies.append(reply)
        if new is None or operation.name == b"GET":
            continue
        if new != old:
            db.edit(key, first, write_integer(part, operation.offset, operation.kind, new))
        has_changed = has_changed or is_grown or new != old
    if has_changed:
        db.notify(b"setbit", key)
    return replies


def _outcome(operation: _Operation, old: int) -> tuple[int | None, int | None]:
    """What an integer becomes, or None where it stays, and the reply."""
    if operation.name == b"GET":
        return None, old
    if operation.name == b"SET":
        number = operation.number
        if not operation.kind.is_signed:
            # A negative one is a very large one.
            number &= _UINT64_MASK
        new = fit(number, operation.kind, operation.overflow)
        return new, None if new is None else old
    new = fit(old + operation.number, operation.kind, operation.overflow)
    return new, new


def _read_integers(client: Client, key: bytes, operations: list[_Operation]) -> Reply:
    db = client.db
    db.touch(key)
    db.part(key, 0, 0)  # of the wrong type, it is refused even if nothing is read
    replies = []
    for operation in operations:
        part = db.part(key, *bytes_around(operation.offset, operation.kind.bits))
        replies.append(read_integer(part, operation.offset, operation.kind))
    return replies


@bitmaps(
    "BITFIELD_RO key [encoding_offset=GET encoding offset:int [GET encoding offset:int ...]]",
    "Reads integers of any width in a string, one after another.",
    flags="readonly fast",
    since="6.0.0",
    complexity="O(1) for each operation.",
)
def bitfield_ro(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    operations = _parse_operations(client, words)
    if any(operation.name != b"GET" for operation in operations):
        raise CommandError("ERR BITFIELD_RO only supports the GET subcommand")
    return _read_integers(client, key, operations)
