"""Hashes, and the deadlines that their fields may have (Redis 7.4).

A field whose time is over is deleted before anything else happens to its hash: no command ever sees it, so that HLEN
and HSCAN do not count it either.
"""

from random import sample
from typing import Final

from kora.commands.scanning import parse_cursor, parse_scan
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, NotAFloat, Overflow, SyntaxFault, invalid_expire, wrong_arity
from kora.resp.reply import OK, Reply
from kora.store.fields import end_due_fields
from kora.store.keyspace import Keyspace
from kora.types.hash import Hash
from kora.types.number import (
    INT64_MAX,
    INT64_MIN,
    format_integer,
    format_long_double,
    is_finite,
    parse_integer,
    parse_long_double,
    round_to_long_double,
)

hashes = Family("hash")

_UNORDERED: Final = ("nondeterministic_output_order",)
_CHANGING: Final = ("nondeterministic_output",)

# The hash of a key, without fields whose time is over


def _read(client: Client, key: bytes) -> Hash | None:
    """For commands that look."""
    value: Hash | None = client.db.read(key, Hash)
    if value is None or not value.next_deadline_ms:
        return value
    return value if end_due_fields(client.db, key, value, client.engine.ends_ms()) else None


def _find(client: Client, key: bytes) -> Hash | None:
    """For commands that change."""
    value: Hash | None = client.db.find(key, Hash)
    if value is None or not value.next_deadline_ms:
        return value
    return value if end_due_fields(client.db, key, value, client.engine.ends_ms()) else None


def _find_or_make(client: Client, key: bytes) -> Hash:
    value = _find(client, key)
    return client.db.make(Hash) if value is None else value


def _changed(db: Keyspace, key: bytes, value: Hash, event: bytes) -> None:
    """After a change: the event, and that of the key where it went with its last field."""
    is_left = db.updated(key, value)
    db.notify(event, key)
    if not is_left:
        db.notify(b"del", key)


# Setting


@hashes(
    "HSET key field value [field value ...]",
    "Sets fields of a hash, and returns how many of them are new; creates the hash if it is not there.",
    flags="write denyoom fast",
    since="2.0.0",
    complexity="O(N) where N is the number of fields.",
    access="RW update",
)
def hset(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) % 2:
        raise wrong_arity("hset")
    return _set_all(client, argv)


@hashes(
    "HMSET key field value [field value ...]",
    "Sets fields of a hash; the old name of HSET.",
    flags="write denyoom fast",
    since="2.0.0",
    complexity="O(N) where N is the number of fields.",
    access="RW update",
)
def hmset(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) % 2:
        raise wrong_arity("hmset")
    _set_all(client, argv)
    return OK


def _set_all(client: Client, argv: list[bytes]) -> int:
    key = argv[1]
    value = _find_or_make(client, key)
    added = sum(map(value.set, argv[2::2], argv[3::2]))
    _changed(client.db, key, value, b"hset")
    return added


@hashes(
    "HSETNX key field value",
    "Sets a field of a hash only if it is not there.",
    flags="write denyoom fast",
    since="2.0.0",
    access="RW insert",
)
def hsetnx(client: Client, argv: list[bytes]) -> Reply:
    _, key, field, content = argv
    value = _find_or_make(client, key)
    if value.has(field):
        return 0
    value.set(field, content)
    _changed(client.db, key, value, b"hset")
    return 1


@hashes(
    "HINCRBY key field increment:int",
    "Adds to the integer value of a field; a field that is not there counts as 0.",
    flags="write denyoom fast",
    since="2.0.0",
    access="RW access update",
)
def hincrby(client: Client, argv: list[bytes]) -> Reply:
    _, key, field, text = argv
    increment = parse_integer(text)
    value = _find_or_make(client, key)
    content = value.get(field)
    number = 0 if content is None else parse_integer(content, CommandError("ERR hash value is not an integer"))
    total = number + increment
    if not INT64_MIN <= total <= INT64_MAX:
        raise Overflow
    _replace(value, field, format_integer(total))
    _changed(client.db, key, value, b"hincrby")
    return total


@hashes(
    "HINCRBYFLOAT key field increment:double",
    "Adds to the floating point value of a field; a field that is not there counts as 0.",
    flags="write denyoom fast",
    since="2.6.0",
    access="RW access update",
)
def hincrbyfloat(client: Client, argv: list[bytes]) -> Reply:
    _, key, field, text = argv
    increment = parse_long_double(text)
    if increment is None:
        raise CommandError("ERR value is NaN or Infinity")
    value = _find_or_make(client, key)
    content = value.get(field)
    try:
        number = parse_long_double(b"0" if content is None else content)
    except NotAFloat:
        raise CommandError("ERR hash value is not a float") from None
    total = None if number is None else round_to_long_double(number + increment)
    if total is None or not is_finite(total):
        raise CommandError("ERR increment would produce NaN or Infinity")
    result = format_long_double(total)
    _replace(value, field, result)
    # Not every machine adds up in the same precision.
    client.engine.journal.instead(client.db, b"HSET", key, field, result)
    deadline_ms = value.deadline(field)
    if deadline_ms is not None:
        client.engine.journal.instead(client.db, b"HPEXPIREAT", key, b"%d" % deadline_ms, b"FIELDS", b"1", field)
    _changed(client.db, key, value, b"hincrbyfloat")
    return result


def _replace(value: Hash, field: bytes, content: bytes) -> None:
    """Set a field, which keeps its deadline."""
    deadline_ms = value.deadline(field)
    value.set(field, content)
    if deadline_ms is not None:
        value.expire(field, deadline_ms)


@hashes(
    "HDEL key field [field ...]",
    "Deletes fields of a hash, and returns how many were there; a hash without fields is deleted.",
    flags="write fast",
    since="2.0.0",
    complexity="O(N) where N is the number of fields.",
    access="RW delete",
)
def hdel(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value = _find(client, key)
    if value is None:
        return 0
    deleted = sum(map(value.delete, argv[2:]))
    if deleted:
        _changed(client.db, key, value, b"hdel")
    return deleted


# Looking


@hashes(
    "HGET key field",
    "Returns the value of a field of a hash.",
    flags="readonly fast",
    since="2.0.0",
)
def hget(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return None if value is None else value.get(argv[2])


@hashes(
    "HMGET key field [field ...]",
    "Returns the values of some fields of a hash.",
    flags="readonly fast",
    since="2.0.0",
    complexity="O(N) where N is the number of fields.",
)
def hmget(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return [None] * (len(argv) - 2) if value is None else list(map(value.get, argv[2:]))


@hashes(
    "HGETALL key",
    "Returns all fields of a hash, each with its value.",
    flags="readonly",
    since="2.0.0",
    complexity="O(N) where N is the size of the hash.",
    tips=_UNORDERED,
)
def hgetall(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    if value is None:
        return {}
    # RESP2 has no maps, and writes one like this.
    return value.flat() if client.protocol == 2 else dict(zip(value.fields(), value.values(), strict=True))


@hashes(
    "HKEYS key",
    "Returns all fields of a hash.",
    flags="readonly",
    since="2.0.0",
    complexity="O(N) where N is the size of the hash.",
    tips=_UNORDERED,
)
def hkeys(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return [] if value is None else value.fields()


@hashes(
    "HVALS key",
    "Returns the values of all fields of a hash.",
    flags="readonly",
    since="2.0.0",
    complexity="O(N) where N is the size of the hash.",
    tips=_UNORDERED,
)
def hvals(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return [] if value is None else value.values()


@hashes(
    "HLEN key",
    "Returns how many fields a hash has.",
    flags="readonly fast",
    since="2.0.0",
    access="RO",
)
def hlen(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return 0 if value is None else len(value)


@hashes(
    "HEXISTS key field",
    "Returns whether a hash has a field.",
    flags="readonly fast",
    since="2.0.0",
    access="RO",
)
def hexists(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return int(value is not None and value.has(argv[2]))


@hashes(
    "HSTRLEN key field",
    "Returns how long the value of a field is.",
    flags="readonly fast",
    since="3.2.0",
    access="RO",
)
def hstrlen(client: Client, argv: list[bytes]) -> Reply:
    value = _read(client, argv[1])
    return 0 if value is None else len(value.get(argv[2]) or b"")


# So many random fields, of which each may come again and again, fill gigabytes; Redis tries.
_REPEATS_MAX: Final = 1 << 24
_RANGE_TEXT: Final = f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}"


@hashes(
    "HRANDFIELD key [options=count:int [WITHVALUES]]",
    "Returns fields of a hash that are picked at random: each once, or, if the count is negative, over and over.",
    flags="readonly",
    since="6.2.0",
    complexity="O(N) where N is the number of fields returned.",
    tips=_CHANGING,
)
def hrandfield(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    if not words:
        value = _read(client, key)
        return None if value is None else value.random()[0]
    count, *options = words
    number = parse_integer(count)
    if number == INT64_MIN:
        raise CommandError(_RANGE_TEXT)
    if options and (len(options) > 1 or options[0].upper() != b"WITHVALUES"):
        raise SyntaxFault
    if number < -_REPEATS_MAX or (options and number > INT64_MAX // 2):
        raise CommandError("ERR value is out of range")
    value = _read(client, key)
    if value is None or not number:
        return []
    pairs = [value.random() for _ in range(-number)] if number < 0 else _distinct(value, number)
    if not options:
        return [field for field, _ in pairs]
    # Pairs are nested only in RESP3.
    return pairs if client.protocol == 3 else [word for pair in pairs for word in pair]


def _distinct(value: Hash, count: int) -> list[tuple[bytes, bytes]]:
    """So many different fields in no order, or all of them in the order of the hash."""
    # Drawing until there are enough takes 1.1 draws per field while they are few, and never ends when they are all.
    if count * 4 < len(value):
        drawn: dict[bytes, bytes] = {}
        while len(drawn) < count:
            field, content = value.random()
            drawn[field] = content
        return list(drawn.items())
    pairs = list(zip(value.fields(), value.values(), strict=True))
    return pairs if count >= len(pairs) else sample(pairs, count)


@hashes(
    "HSCAN key cursor:int [MATCH pattern:pattern] [COUNT count:int] [NOVALUES]",
    "Returns some of the fields of a hash, each with its value, and the cursor that the next call goes on with.",
    flags="readonly",
    since="2.8.0",
    complexity="O(1) for a call, O(N) for all of the N fields of the hash.",
    tips=_CHANGING,
)
def hscan(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, *words = argv
    cursor = parse_cursor(text)
    value = _read(client, key)
    if value is None:
        return [b"0", []]
    options = parse_scan(words, b"NOVALUES")
    cursor, flat = value.scan(cursor, options.count)
    fields, contents = flat[::2], flat[1::2]
    if options.match is not None:
        match = options.match
        kept = [(field, content) for field, content in zip(fields, contents, strict=True) if match(field)]
        fields = [field for field, _ in kept]
        flat = [word for pair in kept for word in pair]
    return [b"%d" % cursor, flat if options.with_values else fields]


# Deadlines of fields

_EXPIRE_USAGE: Final = "[condition=NX | XX | GT | LT] FIELDS numfields:int field [field ...]"
_CONDITIONS: Final = frozenset({b"NX", b"XX", b"GT", b"LT"})
_FIELDS_COMPLEXITY: Final = "O(N) where N is the number of fields."
# Redis has 46 bits for it: until the year 4199 (EB_EXPIRE_TIME_MAX >> 2, ebuckets.h).
_DEADLINE_MS_MAX: Final = (1 << 46) - 1

# What HEXPIRE answers for a field.
_NO_FIELD: Final = -2
_NOT_MET: Final = 0
_SET: Final = 1
_DELETED: Final = 2
# What HTTL and HPERSIST answer for one.
_NO_DEADLINE: Final = -1


@hashes(
    f"HEXPIRE key seconds:int {_EXPIRE_USAGE}",
    "Sets after how many seconds fields of a hash end.",
    flags="write denyoom fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    access="RW update",
)
def hexpire(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "hexpire", 1000, client.engine.clock.wall_ms())


@hashes(
    f"HPEXPIRE key milliseconds:int {_EXPIRE_USAGE}",
    "Sets after how many milliseconds fields of a hash end.",
    flags="write denyoom fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    access="RW update",
)
def hpexpire(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "hpexpire", 1, client.engine.clock.wall_ms())


@hashes(
    f"HEXPIREAT key unix-time-seconds:time {_EXPIRE_USAGE}",
    "Sets when fields of a hash end, as a Unix time in seconds.",
    flags="write denyoom fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    access="RW update",
)
def hexpireat(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "hexpireat", 1000, 0)


@hashes(
    f"HPEXPIREAT key unix-time-milliseconds:time {_EXPIRE_USAGE}",
    "Sets when fields of a hash end, as a Unix time in milliseconds.",
    flags="write denyoom fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    access="RW update",
)
def hpexpireat(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "hpexpireat", 1, 0)


def _expire(client: Client, argv: list[bytes], command: str, unit_ms: int, start_ms: int) -> list[int]:
    """HEXPIRE and its relatives: for each field what became of it."""
    _, key, text, *words = argv
    value = _find(client, key)
    deadline_ms = _parse_deadline(text, command, unit_ms, start_ms)
    condition = words[0].upper() if words[0].upper() in _CONDITIONS else b""
    fields = _parse_fields(words[1:] if condition else words, "Parameter `numFields` should be greater than 0")
    if value is None:
        return [_NO_FIELD] * len(fields)
    is_past = deadline_ms <= client.engine.ends_ms()
    results = [_expire_field(value, field, deadline_ms, condition, is_past) for field in fields]
    _journal_deadline(client, key, deadline_ms, dict(zip(fields, results, strict=True)))
    if _DELETED in results:
        _changed(client.db, key, value, b"hdel")
    elif _SET in results:
        _changed(client.db, key, value, b"hexpire")
    return results


def _journal_deadline(client: Client, key: bytes, deadline_ms: int, results: dict[bytes, int]) -> None:
    journal = client.engine.journal
    deleted = [field for field, result in results.items() if result == _DELETED]
    if deleted:
        journal.instead(client.db, b"HDEL", key, *deleted)
    kept = [field for field, result in results.items() if result == _SET]
    if kept:
        words = (b"%d" % deadline_ms, b"FIELDS", b"%d" % len(kept))
        journal.instead(client.db, b"HPEXPIREAT", key, *words, *kept)


def _parse_deadline(text: bytes, command: str, unit_ms: int, start_ms: int) -> int:
    time = parse_integer(text)
    if time < 0:
        raise CommandError("ERR invalid expire time, must be >= 0")
    if time * unit_ms > _DEADLINE_MS_MAX - start_ms:
        raise invalid_expire(command)
    return time * unit_ms + start_ms


def _parse_fields(words: list[bytes], count_error: str) -> list[bytes]:
    """`FIELDS numfields field [field ...]`; `count_error` is what a number that is none, or not above 0, is told."""
    if words[0].upper() != b"FIELDS":
        raise CommandError("ERR Mandatory argument FIELDS is missing or not at the right position")
    error = CommandError("ERR " + count_error)
    count = parse_integer(words[1], error)
    if count < 1:
        raise error
    if count != len(words) - 2:
        raise CommandError("ERR The `numfields` parameter must match the number of arguments")
    return words[2:]


def _expire_field(value: Hash, field: bytes, deadline_ms: int, condition: bytes, is_past: bool) -> int:
    if not value.has(field):
        return _NO_FIELD
    if not _is_met(condition, value.deadline(field), deadline_ms):
        return _NOT_MET
    if is_past:
        value.delete(field)
        return _DELETED
    value.expire(field, deadline_ms)
    return _SET


def _is_met(condition: bytes, current_ms: int | None, deadline_ms: int) -> bool:
    """A field without a deadline ends later than any other."""
    if current_ms is None:
        return condition not in (b"XX", b"GT")
    return not (
        condition == b"NX"
        or (condition == b"GT" and deadline_ms <= current_ms)
        or (condition == b"LT" and deadline_ms >= current_ms)
    )


@hashes(
    "HTTL key FIELDS numfields:int field [field ...]",
    "Returns how many seconds fields of a hash have left; -1 for one that does not end, -2 for one that is not there.",
    flags="readonly fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    tips=_CHANGING,
)
def httl(client: Client, argv: list[bytes]) -> Reply:
    return _in_seconds(_deadlines(client, argv, client.engine.clock.wall_ms()))


@hashes(
    "HPTTL key FIELDS numfields:int field [field ...]",
    "Returns how many milliseconds fields of a hash have left; -1 for one that does not end, -2 for one that is not"
    " there.",
    flags="readonly fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    tips=_CHANGING,
)
def hpttl(client: Client, argv: list[bytes]) -> Reply:
    return _deadlines(client, argv, client.engine.clock.wall_ms())


@hashes(
    "HEXPIRETIME key FIELDS numfields:int field [field ...]",
    "Returns when fields of a hash end, as a Unix time in seconds; -1 for one that does not, -2 for one that is not"
    " there.",
    flags="readonly fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
)
def hexpiretime(client: Client, argv: list[bytes]) -> Reply:
    return _in_seconds(_deadlines(client, argv, 0))


@hashes(
    "HPEXPIRETIME key FIELDS numfields:int field [field ...]",
    "Returns when fields of a hash end, as a Unix time in milliseconds; -1 for one that does not, -2 for one that is"
    " not there.",
    flags="readonly fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
)
def hpexpiretime(client: Client, argv: list[bytes]) -> Reply:
    return _deadlines(client, argv, 0)


_COUNT_ERROR: Final = "Number of fields must be a positive integer"


def _deadlines(client: Client, argv: list[bytes], start_ms: int) -> list[int]:
    """For each field how long after start_ms it ends, or -1, or -2."""
    value = _read(client, argv[1])
    fields = _parse_fields(argv[2:], _COUNT_ERROR)
    results = []
    for field in fields:
        if value is None or not value.has(field):
            results.append(_NO_FIELD)
        else:
            deadline_ms = value.deadline(field)
            results.append(_NO_DEADLINE if deadline_ms is None else deadline_ms - start_ms)
    return results


def _in_seconds(times_ms: list[int]) -> list[int]:
    """Rounded up, other than TTL does it."""
    return [time_ms if time_ms < 0 else (time_ms + 999) // 1000 for time_ms in times_ms]


@hashes(
    "HPERSIST key FIELDS numfields:int field [field ...]",
    "Removes the deadlines of fields of a hash; 1 for one that had one, -1 for one that had none, -2 for one that is"
    " not there.",
    flags="write fast",
    since="7.4.0",
    complexity=_FIELDS_COMPLEXITY,
    access="RW update",
)
def hpersist(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value = _find(client, key)
    fields = _parse_fields(argv[2:], _COUNT_ERROR)
    if value is None:
        return [_NO_FIELD] * len(fields)
    results = []
    for field in fields:
        if value.has(field):
            results.append(1 if value.persist(field) else _NO_DEADLINE)
        else:
            results.append(_NO_FIELD)
    if 1 in results:
        _changed(client.db, key, value, b"hpersist")
    return results
