"""Strings.  A value is `bytes`; once edited (APPEND, SETRANGE) it is a `bytearray`, which grows cheaply.

Redis tells the same two apart: what was edited has the encoding `raw`, however short it is.  Only Keyspace.edit()
changes a string in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import (
    CommandError,
    NegativeOffset,
    Overflow,
    SyntaxFault,
    TooLong,
    WrongType,
    invalid_expire,
    wrong_arity,
)
from kora.resp.reply import OK, Reply
from kora.types.lcs import longest_common_subsequence
from kora.types.number import (
    INT64_MAX,
    INT64_MIN,
    SMALL_VALUES,
    format_integer,
    format_long_double,
    is_finite,
    parse_integer,
    parse_long_double,
    round_to_long_double,
)

string = Family("string")

# Options that give an expiry: whether the number is seconds, and whether it counts from now.
_EXPIRY_OPTIONS: Final = {b"EX": (True, True), b"PX": (False, True), b"EXAT": (True, False), b"PXAT": (False, False)}

_EXPIRY_USAGE: Final = (
    "EX seconds:int | PX milliseconds:int | EXAT unix-time-seconds:time | PXAT unix-time-milliseconds:time"
)


@dataclass
class _Options:
    """What SET and GETEX were told.  `expiry` is still a text: Redis reads it later than the words around it."""

    condition: bytes = b""  # NX or XX
    get: bool = False
    keep: bool = False  # KEEPTTL of SET, PERSIST of GETEX
    expiry_option: bytes = b""  # EX, PX, EXAT or PXAT
    expiry: bytes | None = None
    in_seconds: bool = False
    from_now: bool = False


def _parse_options(words: list[bytes], allowed: frozenset[bytes]) -> _Options:
    """Raises SyntaxFault for a word that is not allowed, or contradicts one before it."""
    options = _Options()
    place = 0
    while place < len(words):
        word = words[place].upper()
        place += 1
        if word not in allowed:
            raise SyntaxFault
        if word in _EXPIRY_OPTIONS:
            # Redis takes the same option twice, but no two of them.
            if options.expiry_option not in (b"", word) or options.keep or place == len(words):
                raise SyntaxFault
            options.expiry_option = word
            options.in_seconds, options.from_now = _EXPIRY_OPTIONS[word]
            options.expiry = words[place]
            place += 1
        elif word == b"GET":
            options.get = True
        elif word in (b"NX", b"XX"):
            if options.condition not in (b"", word):
                raise SyntaxFault
            options.condition = word
        else:
            if options.expiry is not None:
                raise SyntaxFault
            options.keep = True
    return options


_SET_OPTIONS: Final = frozenset({b"NX", b"XX", b"GET", b"KEEPTTL", *_EXPIRY_OPTIONS})
_GETEX_OPTIONS: Final = frozenset({b"PERSIST", *_EXPIRY_OPTIONS})


def _deadline_ms(client: Client, text: bytes, in_seconds: bool, from_now: bool, command: str) -> int:
    """When a key ends, in Unix ms.  Raises NotAnInteger, or "invalid expire time" for what is not in the future."""
    time = parse_integer(text)
    if time <= 0 or (in_seconds and time > INT64_MAX // 1000):
        raise invalid_expire(command)
    if in_seconds:
        time *= 1000
    if from_now:
        time += client.engine.clock.wall_ms()
    if time > INT64_MAX:
        raise invalid_expire(command)
    return time


@string("GET key", "Returns the string value of a key.", flags="readonly fast", since="1.0.0")
def get(client: Client, argv: list[bytes]) -> Reply:
    return client.db.read(argv[1], bytes)


def _set_access(argv: Sequence[bytes]) -> str:
    return "RW access update" if any(word.upper() == b"GET" for word in argv[3:]) else "OW update"


@string(
    f"SET key value [condition=NX | XX] [GET] [expiration={_EXPIRY_USAGE} | KEEPTTL]",
    "Sets the string value of a key, whatever it held before; creates the key if it is not there.",
    flags="write denyoom",
    since="1.0.0",
    access="RW access update variable_flags",
    access_of=_set_access,
)
def set_(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) == 3:
        client.db.set(argv[1], argv[2])
        client.db.notify(b"set", argv[1])
        return OK
    _, key, value, *words = argv
    options = _parse_options(words, _SET_OPTIONS)
    deadline_ms = None
    if options.expiry is not None:
        deadline_ms = _deadline_ms(client, options.expiry, options.in_seconds, options.from_now, "set")
    db = client.db
    old = db.read(key, bytes) if options.get else None
    if options.condition and db.has(key) == (options.condition == b"NX"):
        return old
    if options.keep and db.has(key):
        deadline_ms = db.deadline(key)
    db.set_until(key, value, deadline_ms)
    db.notify(b"set", key)
    if options.expiry is not None:
        client.engine.journal.instead(db, b"SET", key, value, b"PXAT", b"%d" % (deadline_ms or 0))
        db.notify(b"expire", key)
    return old if options.get else OK


@string(
    "SETNX key value",
    "Sets the string value of a key only if the key is not there.",
    flags="write denyoom fast",
    since="1.0.0",
    access="OW insert",
)
def setnx(client: Client, argv: list[bytes]) -> Reply:
    _, key, value = argv
    if client.db.has(key):
        return 0
    client.db.set(key, value)
    client.db.notify(b"set", key)
    return 1


@string(
    "SETEX key seconds:int value",
    "Sets the string value of a key, and its time to live in seconds.",
    flags="write denyoom",
    since="2.0.0",
    access="OW update",
)
def setex(client: Client, argv: list[bytes]) -> Reply:
    _, key, seconds, value = argv
    deadline_ms = _deadline_ms(client, seconds, True, True, "setex")
    _set_until(client, key, value, deadline_ms)
    return OK


@string(
    "PSETEX key milliseconds:int value",
    "Sets the string value of a key, and its time to live in milliseconds.",
    flags="write denyoom",
    since="2.6.0",
    access="OW update",
)
def psetex(client: Client, argv: list[bytes]) -> Reply:
    _, key, milliseconds, value = argv
    deadline_ms = _deadline_ms(client, milliseconds, False, True, "psetex")
    _set_until(client, key, value, deadline_ms)
    return OK


def _set_until(client: Client, key: bytes, value: bytes, deadline_ms: int) -> None:
    db = client.db
    db.set_until(key, value, deadline_ms)
    client.engine.journal.instead(db, b"SET", key, value, b"PXAT", b"%d" % deadline_ms)
    db.notify(b"set", key)
    db.notify(b"expire", key)


@string(
    "GETSET key value",
    "Sets the string value of a key and returns the value it had.",
    flags="write denyoom fast",
    since="1.0.0",
    access="RW access update",
)
def getset(client: Client, argv: list[bytes]) -> Reply:
    _, key, value = argv
    old = client.db.read(key, bytes)
    client.db.set(key, value)
    client.db.notify(b"set", key)
    return old


@string(
    "GETDEL key",
    "Returns the string value of a key and deletes the key.",
    flags="write fast",
    since="6.2.0",
    access="RW access delete",
)
def getdel(client: Client, argv: list[bytes]) -> Reply:
    _, key = argv
    value = client.db.read(key, bytes)
    if value is not None:
        client.db.delete(key)
        client.db.notify(b"del", key)
    return value


@string(
    f"GETEX key [expiration={_EXPIRY_USAGE} | PERSIST]",
    "Returns the string value of a key, and sets or removes its expiry.",
    flags="write fast",
    since="6.2.0",
    access="RW access update",
    tips=(),
)
def getex(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    options = _parse_options(words, _GETEX_OPTIONS)
    db = client.db
    value = db.read(key, bytes)
    if value is None:
        return None
    if options.expiry is not None:
        deadline_ms = _deadline_ms(client, options.expiry, options.in_seconds, options.from_now, "getex")
        if deadline_ms <= client.engine.ends_ms():
            db.delete(key)
            client.engine.journal.instead(db, b"DEL", key)
            db.notify(b"del", key)
        else:
            db.expire(key, deadline_ms)
            client.engine.journal.instead(db, b"PEXPIREAT", key, b"%d" % deadline_ms)
            db.notify(b"expire", key)
    elif options.keep and db.persist(key):
        db.notify(b"persist", key)
    return value


@string(
    "MGET key [key ...]",
    "Returns the string values of one or more keys.",
    flags="readonly fast",
    since="1.0.0",
    complexity="O(N) where N is the number of keys.",
    tips=("request_policy:multi_shard",),
)
def mget(client: Client, argv: list[bytes]) -> Reply:
    read = client.db.read
    values: list[bytes | None] = []
    for key in argv[1:]:
        try:
            values.append(read(key, bytes))
        except WrongType:  # noqa: PERF203 - costs nothing until it is raised
            values.append(None)
    return values


@string(
    "MSET key value [key value ...]",
    "Sets the string values of one or more keys.",
    flags="write denyoom",
    since="1.0.1",
    complexity="O(N) where N is the number of keys.",
    access="OW update",
    tips=("request_policy:multi_shard", "response_policy:all_succeeded"),
)
def mset(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) % 2 == 0:
        raise wrong_arity("mset")
    client.db.set_many(argv, 1)
    return OK


@string(
    "MSETNX key value [key value ...]",
    "Sets the string values of one or more keys only if none of them is there.",
    flags="write denyoom",
    since="1.0.1",
    complexity="O(N) where N is the number of keys.",
    access="OW insert",
    tips=("request_policy:multi_shard", "response_policy:agg_min"),
)
def msetnx(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) % 2 == 0:
        raise wrong_arity("msetnx")
    if any(client.db.has(key) for key in argv[1::2]):
        return 0
    mset(client, argv)
    return 1


@string(
    "APPEND key value",
    "Appends to the string value of a key; creates the key if it is not there.",
    flags="write denyoom fast",
    since="2.0.0",
    complexity="O(1)",
    access="RW insert",
)
def append(client: Client, argv: list[bytes]) -> Reply:
    _, key, tail = argv
    db = client.db
    value = db.find(key, bytes)
    if value is None:
        db.set(key, tail)
        length = len(tail)
    else:
        _check_length(client, len(value) + len(tail))
        length = db.edit(key, len(value), tail)
    db.notify(b"append", key)
    return length


@string(
    "STRLEN key", "Returns the length of the string value of a key.", flags="readonly fast", since="2.2.0", access="RO"
)
def strlen(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], bytes)
    return 0 if value is None else len(value)


def _range(client: Client, argv: list[bytes]) -> Reply:
    _, key, first, last = argv
    start, stop = parse_integer(first), parse_integer(last)
    value = client.db.read(key, bytes)
    if value is None or (start < 0 and stop < 0 and start > stop):
        return b""
    length = len(value)
    if start < 0:
        start = max(0, length + start)
    if stop < 0:
        stop = max(0, length + stop)
    return bytes(value[start : stop + 1])


string(
    "GETRANGE key start:int end:int",
    "Returns the part of a string value between two offsets, both included.",
    flags="readonly",
    since="2.4.0",
    complexity="O(N) where N is the length of what is returned.",
)(_range)

string(
    "SUBSTR key start:int end:int",
    "Returns a part of a string value; the old name of GETRANGE.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N) where N is the length of what is returned.",
)(_range)


@string(
    "SETRANGE key offset:int value",
    "Overwrites a part of a string value from an offset on, filling a gap before it with zero bytes.",
    flags="write denyoom",
    since="2.2.0",
    complexity="O(N) where N is the length of the value given.",
    access="RW update",
)
def setrange(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, part = argv
    offset = parse_integer(text)
    if offset < 0:
        raise NegativeOffset
    length = client.db.length(key)
    if not part:
        return length
    _check_length(client, offset + len(part))
    length = client.db.edit(key, offset, part)
    client.db.notify(b"setrange", key)
    return length


# More than any integer has: a string that may be long need not be copied to see that it is none.
NUMBER_MAX: Final = 32


def _check_length(client: Client, length: int) -> None:
    if length > client.engine.config.proto_max_bulk_len:
        raise TooLong


def _increase(client: Client, key: bytes, increment: int) -> int:
    db = client.db
    value = db.part(key, 0, NUMBER_MAX)
    if not value and not db.has_quietly(key):
        db.set(key, format_integer(increment))
        db.notify(b"incrby", key)
        return increment
    number = SMALL_VALUES.get(value)
    total = increment + (number if number is not None else parse_integer(value))
    if not INT64_MIN <= total <= INT64_MAX:
        raise Overflow
    db.replace(key, format_integer(total))
    db.notify(b"incrby", key)
    return total


@string(
    "INCR key",
    "Adds one to the integer value of a key; a key that is not there counts as 0.",
    flags="write denyoom fast",
    since="1.0.0",
    access="RW access update",
)
def incr(client: Client, argv: list[bytes]) -> Reply:
    return _increase(client, argv[1], 1)


@string(
    "DECR key",
    "Subtracts one from the integer value of a key; a key that is not there counts as 0.",
    flags="write denyoom fast",
    since="1.0.0",
    access="RW access update",
)
def decr(client: Client, argv: list[bytes]) -> Reply:
    return _increase(client, argv[1], -1)


@string(
    "INCRBY key increment:int",
    "Adds to the integer value of a key; a key that is not there counts as 0.",
    flags="write denyoom fast",
    since="1.0.0",
    access="RW access update",
)
def incrby(client: Client, argv: list[bytes]) -> Reply:
    return _increase(client, argv[1], parse_integer(argv[2]))


@string(
    "DECRBY key decrement:int",
    "Subtracts from the integer value of a key; a key that is not there counts as 0.",
    flags="write denyoom fast",
    since="1.0.0",
    access="RW access update",
)
def decrby(client: Client, argv: list[bytes]) -> Reply:
    decrement = parse_integer(argv[2])
    if decrement == INT64_MIN:
        raise CommandError("ERR decrement would overflow")
    return _increase(client, argv[1], -decrement)


@string(
    "INCRBYFLOAT key increment:double",
    "Adds to the floating point value of a key; a key that is not there counts as 0.",
    flags="write denyoom fast",
    since="2.6.0",
    access="RW access update",
)
def incrbyfloat(client: Client, argv: list[bytes]) -> Reply:
    _, key, text = argv
    value = client.db.find(key, bytes)
    number = parse_long_double(b"0" if value is None else bytes(value))
    increment = parse_long_double(text)
    total = None if number is None or increment is None else round_to_long_double(number + increment)
    if total is None or not is_finite(total):
        raise CommandError("ERR increment would produce NaN or Infinity")
    result = format_long_double(total)
    if value is None:
        client.db.set(key, result)
    else:
        client.db.replace(key, result)
    # Not every machine adds up in the same precision.
    client.engine.journal.instead(client.db, b"SET", key, result, b"KEEPTTL")
    client.db.notify(b"incrbyfloat", key)
    return result


@string(
    "LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len:int] [WITHMATCHLEN]",
    "Finds the longest sequence of bytes that two strings have in common, in order but not always adjoining.",
    flags="readonly",
    since="7.0.0",
    complexity="O(N*M) where N and M are the lengths of the strings.",
    access="RO access",
)
def lcs(client: Client, argv: list[bytes]) -> Reply:
    _, key1, key2, *words = argv
    db = client.db
    # Both count as looked at, whatever the first one is; and strings whose table is too large are not copied.
    for key in (key1, key2):
        db.touch(key)
    try:
        lengths = [db.length(key) for key in (key1, key2)]
    except WrongType:
        raise CommandError("ERR The specified keys must contain string values") from None
    only_length = with_indexes = with_lengths = False
    shortest = 0
    place = 0
    while place < len(words):
        word = words[place].upper()
        place += 1
        if word == b"LEN":
            only_length = True
        elif word == b"IDX":
            with_indexes = True
        elif word == b"WITHMATCHLEN":
            with_lengths = True
        elif word == b"MINMATCHLEN" and place < len(words):
            shortest = max(0, parse_integer(words[place]))
            place += 1
        else:
            raise SyntaxFault
    if only_length and with_indexes:
        raise CommandError("ERR If you want both the length and indexes, please just use IDX.")
    # Redis' bound on its table of 32-bit cells; ours is a 32nd of that.
    if (lengths[0] + 1) * (lengths[1] + 1) * 4 > client.engine.config.proto_max_bulk_len:
        raise CommandError("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    first, second = (db.part(key, 0, length) for key, length in zip((key1, key2), lengths, strict=True))
    found = longest_common_subsequence(first, second)
    if only_length:
        return found.length
    if not with_indexes:
        return found.text
    matches = []
    for match in found.matches:
        if match.length >= shortest:
            ranges = [[start, start + match.length - 1] for start in (match.first, match.second)]
            matches.append([*ranges, match.length] if with_lengths else ranges)
    return {b"matches": matches, b"len": found.length}
