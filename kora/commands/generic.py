"""Commands that take keys of any type: deleting, expiring, renaming, copying, listing and looking inside."""

from collections.abc import Callable
from typing import Final

from kora.commands.scanning import parse_cursor, parse_scan
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import (
    CommandError,
    DatabaseOutOfRange,
    NoSuchKey,
    SameObject,
    SyntaxFault,
    invalid_expire,
)
from kora.glob import matcher
from kora.resp.reply import OK, Reply, Simple
from kora.store.keyspace import Keyspace
from kora.types.kinds import copy, encoding, references, type_name
from kora.types.number import INT64_MAX, INT64_MIN, parse_integer

generic = Family("generic")

_MULTI_SHARD: Final = ("request_policy:multi_shard", "response_policy:agg_sum")
_CHANGING: Final = ("nondeterministic_output",)

# Deleting and looking for keys


@generic(
    "DEL key [key ...]",
    "Deletes one or more keys, and returns how many were there.",
    flags="write",
    since="1.0.0",
    complexity="O(N) where N is the number of keys, plus O(M) for each value with M elements.",
    access="RM delete",
    tips=_MULTI_SHARD,
)
def del_(client: Client, argv: list[bytes]) -> Reply:
    db = client.db
    return _remove(client, argv, db.unlink if client.engine.config.lazyfree_lazy_user_del else db.delete)


@generic(
    "UNLINK key [key ...]",
    "Deletes one or more keys like DEL, but frees large values in the background.",
    flags="write fast",
    since="4.0.0",
    complexity="O(1) for each key; freeing a value with M elements takes O(M) in the background.",
    access="RM delete",
    tips=_MULTI_SHARD,
)
def unlink(client: Client, argv: list[bytes]) -> Reply:
    return _remove(client, argv, client.db.unlink)


def _remove(client: Client, argv: list[bytes], remove: Callable[[bytes], bool]) -> int:
    removed = 0
    for key in argv[1:]:
        if remove(key):
            client.db.notify(b"del", key)
            removed += 1
    return removed


@generic(
    "EXISTS key [key ...]",
    "Returns how many of the keys are there; a key that is named twice counts twice.",
    flags="readonly fast",
    since="1.0.0",
    complexity="O(N) where N is the number of keys.",
    access="RO",
    tips=_MULTI_SHARD,
)
def exists(client: Client, argv: list[bytes]) -> Reply:
    inspect = client.db.inspect
    return sum(inspect(key) is not None for key in argv[1:])


@generic(
    "TOUCH key [key ...]",
    "Marks keys as used just now, and returns how many of them are there.",
    flags="readonly fast",
    since="3.2.1",
    complexity="O(N) where N is the number of keys.",
    access="RO",
    tips=_MULTI_SHARD,
)
def touch(client: Client, argv: list[bytes]) -> Reply:
    return sum(map(client.db.touch, argv[1:]))


@generic(
    "TYPE key",
    "Returns the type of the value of a key.",
    flags="readonly fast",
    since="1.0.0",
    access="RO",
)
def type_(client: Client, argv: list[bytes]) -> Reply:
    return Simple(type_name(client.db.inspect(argv[1])))


# Deadlines

_CONDITION_USAGE: Final = "[condition=NX | XX | GT | LT]"
_CONDITIONS: Final = frozenset({b"NX", b"XX", b"GT", b"LT"})


@generic(
    f"EXPIRE key seconds:int {_CONDITION_USAGE}",
    "Sets after how many seconds a key ends.",
    flags="write fast",
    since="1.0.0",
    access="RW update",
)
def expire(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "expire", 1000, client.engine.clock.wall_ms())


@generic(
    f"PEXPIRE key milliseconds:int {_CONDITION_USAGE}",
    "Sets after how many milliseconds a key ends.",
    flags="write fast",
    since="2.6.0",
    access="RW update",
)
def pexpire(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "pexpire", 1, client.engine.clock.wall_ms())


@generic(
    f"EXPIREAT key unix-time-seconds:time {_CONDITION_USAGE}",
    "Sets when a key ends, as a Unix time in seconds.",
    flags="write fast",
    since="1.2.0",
    access="RW update",
)
def expireat(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "expireat", 1000, 0)


@generic(
    f"PEXPIREAT key unix-time-milliseconds:time {_CONDITION_USAGE}",
    "Sets when a key ends, as a Unix time in milliseconds.",
    flags="write fast",
    since="2.6.0",
    access="RW update",
)
def pexpireat(client: Client, argv: list[bytes]) -> Reply:
    return _expire(client, argv, "pexpireat", 1, 0)


def _expire(client: Client, argv: list[bytes], command: str, unit_ms: int, start_ms: int) -> int:
    """EXPIRE and its relatives: whether the deadline was set, or lay in the past, so that the key was deleted."""
    _, key, text, *words = argv
    conditions = _parse_conditions(words)
    deadline_ms = parse_integer(text) * unit_ms
    if not INT64_MIN <= deadline_ms <= INT64_MAX - start_ms:
        raise invalid_expire(command)
    deadline_ms += start_ms
    db = client.db
    if not db.has(key) or not _is_met(conditions, db.deadline(key), deadline_ms):
        return 0
    if deadline_ms <= client.engine.ends_ms():
        db.delete(key)
        client.engine.journal.instead(db, b"DEL", key)
        db.notify(b"del", key)
    else:
        db.expire(key, deadline_ms)
        client.engine.journal.instead(db, b"PEXPIREAT", key, b"%d" % deadline_ms)
        db.notify(b"expire", key)
    return 1


def _parse_conditions(words: list[bytes]) -> set[bytes]:
    conditions = set()
    for word in words:
        condition = word.upper()
        if condition not in _CONDITIONS:
            raise CommandError("ERR Unsupported option " + word.decode("utf-8", "surrogateescape"))
        conditions.add(condition)
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if conditions >= {b"GT", b"LT"}:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return conditions


def _is_met(conditions: set[bytes], current_ms: int | None, deadline_ms: int) -> bool:
    """A key without a deadline ends later than any other."""
    if current_ms is None:
        return not conditions & {b"XX", b"GT"}
    return (
        b"NX" not in conditions
        and not (b"GT" in conditions and deadline_ms <= current_ms)
        and not (b"LT" in conditions and deadline_ms >= current_ms)
    )


@generic(
    "TTL key",
    "Returns how many seconds a key has left; -1 if it does not end, -2 if it is not there.",
    flags="readonly fast",
    since="1.0.0",
    tips=_CHANGING,
)
def ttl(client: Client, argv: list[bytes]) -> Reply:
    return _in_seconds(_left_ms(client, argv[1]))


@generic(
    "PTTL key",
    "Returns how many milliseconds a key has left; -1 if it does not end, -2 if it is not there.",
    flags="readonly fast",
    since="2.6.0",
    tips=_CHANGING,
)
def pttl(client: Client, argv: list[bytes]) -> Reply:
    return _left_ms(client, argv[1])


@generic(
    "EXPIRETIME key",
    "Returns when a key ends, as a Unix time in seconds; -1 if it does not, -2 if it is not there.",
    flags="readonly fast",
    since="7.0.0",
)
def expiretime(client: Client, argv: list[bytes]) -> Reply:
    return _in_seconds(_deadline_ms(client, argv[1]))


@generic(
    "PEXPIRETIME key",
    "Returns when a key ends, as a Unix time in milliseconds; -1 if it does not, -2 if it is not there.",
    flags="readonly fast",
    since="7.0.0",
)
def pexpiretime(client: Client, argv: list[bytes]) -> Reply:
    return _deadline_ms(client, argv[1])


def _deadline_ms(client: Client, key: bytes) -> int:
    if client.db.inspect(key) is None:
        return -2
    deadline_ms = client.db.deadline(key)
    return -1 if deadline_ms is None else deadline_ms


def _left_ms(client: Client, key: bytes) -> int:
    deadline_ms = _deadline_ms(client, key)
    return deadline_ms if deadline_ms < 0 else max(0, deadline_ms - client.engine.clock.wall_ms())


def _in_seconds(time_ms: int) -> int:
    """Rounded to the nearest second, as Redis does; -1 and -2 stay as they are."""
    return time_ms if time_ms < 0 else (time_ms + 500) // 1000


@generic(
    "PERSIST key",
    "Removes the deadline of a key.",
    flags="write fast",
    since="2.2.0",
    access="RW update",
)
def persist(client: Client, argv: list[bytes]) -> Reply:
    _, key = argv
    if not client.db.has(key) or not client.db.persist(key):
        return 0
    client.db.notify(b"persist", key)
    return 1


# Moving and copying


@generic(
    "RENAME key newkey",
    "Gives a key another name, in place of whatever has that name.",
    flags="write",
    since="1.0.0",
    access=("RW access delete", "OW update"),
)
def rename(client: Client, argv: list[bytes]) -> Reply:
    _, source, target = argv
    if not client.db.has(source):
        raise NoSuchKey
    if source != target:
        _rename(client.db, source, target)
    return OK


@generic(
    "RENAMENX key newkey",
    "Gives a key another name, only if no key has that name.",
    flags="write fast",
    since="1.0.0",
    access=("RW access delete", "OW insert"),
)
def renamenx(client: Client, argv: list[bytes]) -> Reply:
    _, source, target = argv
    if not client.db.has(source):
        raise NoSuchKey
    # Also when both names are the same.
    if client.db.has(target):
        return 0
    _rename(client.db, source, target)
    return 1


def _rename(db: Keyspace, source: bytes, target: bytes) -> None:
    _tell_of_new(db, target)
    db.rename(source, target)
    db.notify(b"rename_from", source)
    db.notify(b"rename_to", target)


def _tell_of_new(db: Keyspace, key: bytes) -> None:
    """RENAME and COPY delete what they overwrite, so that the key is new again (renameGenericCommand, db.c)."""
    if db.tells_more and db.has(key):
        db.notify(b"new", key)


@generic(
    "COPY source:key destination:key [DB destination-db:int] [REPLACE]",
    "Copies a value, and its deadline, to another key.",
    flags="write denyoom",
    since="6.2.0",
    complexity="O(1) for strings, O(N) for a value with N elements.",
    access=("RO access", "OW update"),
)
def copy_(client: Client, argv: list[bytes]) -> Reply:
    _, source, target, *words = argv
    db = target_db = client.db
    replace = False
    place = 0
    while place < len(words):
        word = words[place].upper()
        place += 1
        if word == b"REPLACE":
            replace = True
        elif word == b"DB" and place < len(words):
            target_db = _database(client, words[place])
            place += 1
        else:
            raise SyntaxFault
    if target_db is db and source == target:
        raise SameObject
    if not db.touch(source):
        return 0
    if not replace and target_db.has(target):
        return 0
    _tell_of_new(target_db, target)
    target_db.set_until(target, copy(db.find(source)), db.deadline(source))
    target_db.notify(b"copy_to", target)
    return 1


@generic(
    "MOVE key db:int",
    "Moves a key to another database, if it has no key of that name.",
    flags="write fast",
    since="1.0.0",
    access="RW access update",
)
def move(client: Client, argv: list[bytes]) -> Reply:
    _, key, index = argv
    target_db = _database(client, index)
    if target_db is client.db:
        raise SameObject
    if not client.db.has(key) or target_db.has(key):
        return 0
    client.db.rename(key, key, target_db)
    client.db.notify(b"move_from", key)
    target_db.notify(b"move_to", key)
    return 1


def _database(client: Client, text: bytes) -> Keyspace:
    index = parse_integer(text)
    if not -(1 << 31) <= index < 1 << 31:
        raise CommandError("ERR value is out of range, value must between -2147483648 and 2147483647")
    try:
        return client.engine.databases[index]
    except IndexError:
        raise DatabaseOutOfRange from None


# Listing


@generic(
    "KEYS pattern:pattern",
    "Returns all keys that match a pattern.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N) where N is the number of keys in the database.",
    acl="dangerous",
    tips=("request_policy:all_shards", "nondeterministic_output_order"),
)
def keys(client: Client, argv: list[bytes]) -> Reply:
    return list(filter(matcher(argv[1]), client.db))


@generic(
    "SCAN cursor:int [MATCH pattern:pattern] [COUNT count:int] [TYPE type]",
    "Returns some of the keys, and the cursor that the next call goes on with.",
    flags="readonly",
    since="2.8.0",
    complexity="O(1) for a call, O(N) for all of the N keys in the database.",
    tips=("nondeterministic_output", "request_policy:special"),
)
def scan(client: Client, argv: list[bytes]) -> Reply:
    _, text, *words = argv
    cursor = parse_cursor(text)
    options = parse_scan(words, b"TYPE")
    cursor, found = client.db.scan(cursor, options.count)
    if options.match is not None:
        found = list(filter(options.match, found))
    if options.kind is not None:
        # A name that no type has is no error: no key is of that type.
        found = [key for key in found if type_name(client.db.inspect(key)).encode() == options.kind]
    return [b"%d" % cursor, found]


@generic(
    "RANDOMKEY",
    "Returns a key that is picked at random.",
    flags="readonly",
    since="1.0.0",
    tips=("request_policy:all_shards", "nondeterministic_output"),
)
def randomkey(client: Client, argv: list[bytes]) -> Reply:
    return client.db.random()


# Looking inside

generic.container("OBJECT", "Tells how the value of a key is stored.", since="2.2.3", help_since="6.2.0")


@generic(
    "OBJECT ENCODING key",
    "Returns how the value of a key is represented, as Redis would do it.",
    flags="readonly",
    since="2.2.3",
    access="RO",
    tips=_CHANGING,
)
def object_encoding(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.inspect(argv[2], quietly=True)
    return None if value is None else encoding(value)


@generic(
    "OBJECT FREQ key",
    "Returns how often a key is used, on a logarithmic scale.",
    flags="readonly",
    since="4.0.0",
    access="RO",
    tips=_CHANGING,
)
def object_freq(client: Client, argv: list[bytes]) -> Reply:
    db, key = client.db, argv[2]
    if db.inspect(key, quietly=True) is None:
        return None
    # Unlike Redis' it is there whatever the policy, so that redis-cli --hotkeys always works.
    return client.engine.frequency(key)


@generic(
    "OBJECT IDLETIME key",
    "Returns for how many seconds a key, or another key of its hash slot, has not been used.",
    flags="readonly",
    since="2.2.3",
    access="RO",
    tips=_CHANGING,
)
def object_idletime(client: Client, argv: list[bytes]) -> Reply:
    key = argv[2]
    if client.db.inspect(key, quietly=True) is None:
        return None
    if client.engine.config.maxmemory_policy.endswith("-lfu"):
        raise CommandError(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between"
            " policies at runtime LRU and LFU data will take some time to adjust."
        )
    return client.db.idle_s(key)


@generic(
    "OBJECT REFCOUNT key",
    "Returns how often the value of a key is referred to; small integers are shared.",
    flags="readonly",
    since="2.2.3",
    access="RO",
    tips=_CHANGING,
)
def object_refcount(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.inspect(argv[2], quietly=True)
    return None if value is None else references(value)
