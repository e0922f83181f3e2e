"""Sets: members without an order, and what several sets have in common."""

from collections.abc import Iterable
from random import sample
from typing import Any, Final

from kora.commands.scanning import parse_cursor, parse_scan
from kora.engine.client import Client
from kora.engine.registry import Family, keys_counted
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import Items, Reply
from kora.store.keyspace import Keyspace
from kora.types.number import INT64_MAX, parse_integer
from kora.types.set import Set

sets = Family("set")

_UNORDERED: Final = ("nondeterministic_output_order",)
_RANDOM: Final = ("nondeterministic_output",)


class _NotPositive(CommandError):
    message = "ERR value is out of range, must be positive"


@sets(
    "SADD key member [member ...]",
    "Adds members to a set, and returns how many are new; creates the set if it is not there.",
    flags="write denyoom fast",
    since="1.0.0",
    complexity="O(N) where N is the number of members given.",
    access="RW insert",
)
def sadd(client: Client, argv: list[bytes]) -> Reply:
    _, key, *members = argv
    db = client.db
    value = db.find(key, Set)
    if value is None:
        value = db.make(Set)
    added = sum(map(value.add, members))
    if added:
        db.updated(key, value)
        db.notify(b"sadd", key)
    return added


@sets(
    "SREM key member [member ...]",
    "Removes members from a set, and returns how many were there; deletes the set with its last member.",
    flags="write fast",
    since="1.0.0",
    complexity="O(N) where N is the number of members given.",
    access="RW delete",
)
def srem(client: Client, argv: list[bytes]) -> Reply:
    _, key, *members = argv
    value = client.db.find(key, Set)
    if value is None:
        return 0
    removed = sum(map(value.remove, members))
    if removed:
        _settle(client.db, key, value, b"srem")
    return removed


def _settle(db: Keyspace, key: bytes, value: Any, event: bytes) -> None:
    """After members were removed: tell of it, and of the end of the key where they were the last."""
    is_left = db.updated(key, value)
    db.notify(event, key)
    if not is_left:
        db.notify(b"del", key)


@sets(
    "SISMEMBER key member",
    "Returns whether a set has a member.",
    flags="readonly fast",
    since="1.0.0",
    access="RO",
)
def sismember(client: Client, argv: list[bytes]) -> Reply:
    _, key, member = argv
    value = client.db.read(key, Set)
    return 0 if value is None else int(value.has(member))


@sets(
    "SMISMEMBER key member [member ...]",
    "Returns for each of several members whether a set has it.",
    flags="readonly fast",
    since="6.2.0",
    complexity="O(N) where N is the number of members given.",
)
def smismember(client: Client, argv: list[bytes]) -> Reply:
    _, key, *members = argv
    value = client.db.read(key, Set)
    return [0] * len(members) if value is None else [int(value.has(member)) for member in members]


@sets(
    "SMEMBERS key",
    "Returns all members of a set.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N) where N is the number of members.",
    tips=_UNORDERED,
)
def smembers(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], Set)
    return Items(() if value is None else value.members())


@sets("SCARD key", "Returns how many members a set has.", flags="readonly fast", since="1.0.0", access="RO")
def scard(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], Set)
    return 0 if value is None else len(value)


@sets(
    "SPOP key [count:int]",
    "Removes a random member of a set, or several, and returns what it removed.",
    flags="write fast",
    since="1.0.0",
    complexity="O(N) where N is the number of members removed.",
    access="RW access delete",
    tips=_RANDOM,
)
def spop(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    if words:
        members = _pop_several(client.db, key, words)
        if members:
            client.engine.journal.instead(client.db, b"SREM", key, *members)
        return Items(members)
    value = client.db.find(key, Set)
    if value is None:
        return None
    member: bytes = value.pop()
    client.engine.journal.instead(client.db, b"SREM", key, member)
    _settle(client.db, key, value, b"spop")
    return member


def _pop_several(db: Keyspace, key: bytes, words: list[bytes]) -> list[bytes]:
    if len(words) > 1:
        raise SyntaxFault
    count = parse_integer(words[0], _NotPositive)
    if count < 0:
        raise _NotPositive
    value = db.find(key, Set)
    if value is None or count == 0:
        return []
    if count < len(value):
        members: list[bytes] = [value.pop() for _ in range(count)]
        _settle(db, key, value, b"spop")
    else:
        members = db.read(key, Set).members()  # which Redis counts as a hit, too
        db.notify(b"spop", key)
        db.unlink(key)
        db.notify(b"del", key)
    return members


# A reply with a member more than once has as many as the request says.  Redis makes it whatever it takes.
_REPEATED_MAX: Final = 1 << 24  # as for HRANDFIELD


@sets(
    "SRANDMEMBER key [count:int]",
    "Returns a random member of a set, or several; with a negative count the same one may come more than once.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N) where N is the number of members returned.",
    tips=_RANDOM,
)
def srandmember(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    if not words:
        value = client.db.read(key, Set)
        return None if value is None else value.random()
    if len(words) > 1:
        raise SyntaxFault
    count = parse_integer(words[0])
    if count < -INT64_MAX:
        raise CommandError(f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}")
    value = client.db.read(key, Set)
    if value is None or count == 0:
        return []
    if count < 0:
        if count < -_REPEATED_MAX:
            raise CommandError("ERR value is out of range")
        return [value.random() for _ in range(-count)]
    return _sample(value, count)


def _sample(value: Any, count: int) -> list[bytes]:
    """So many different members, or all there are."""
    if count >= len(value):
        return value.members()  # type: ignore[no-any-return]
    # Up to a third it is quicker to draw again what was drawn already; the number is Redis'.
    if count * 3 > len(value):
        return sample(value.members(), count)
    drawn: dict[bytes, None] = {}
    while len(drawn) < count:
        drawn[value.random()] = None
    return list(drawn)


@sets(
    "SMOVE source:key destination:key member",
    "Moves a member from one set to another.",
    flags="write fast",
    since="1.0.0",
    access=("RW access delete", "RW insert"),
)
def smove(client: Client, argv: list[bytes]) -> Reply:
    _, source, target, member = argv
    db = client.db
    if not db.has(source):
        return 0
    value, target_value = db.find(source, Set), db.find(target, Set)
    if source == target:
        return int(value.has(member))
    if not value.remove(member):
        return 0
    _settle(db, source, value, b"srem")
    if target_value is None:
        target_value = db.make(Set)
    if target_value.add(member):
        db.updated(target, target_value)
        db.notify(b"sadd", target)
    return 1


# Several sets


def _read(db: Keyspace, keys: Iterable[bytes]) -> list[Any]:
    """The sets of some keys, None for one that is not there."""
    return [db.read(key, Set) for key in keys]


def _intersection(values: list[Any], count: int) -> list[bytes]:
    """The members that all have, in the order of the smallest; no more than so many of them."""
    if None in values:
        return []
    smallest, *others = sorted(values, key=len)
    members: list[bytes] = smallest.members()
    if not others:
        return members[:count]
    if count < len(smallest):
        tests = [value.has for value in others]
        found = []
        for member in members:
            if all(test(member) for test in tests):
                found.append(member)
                if len(found) == count:
                    break
        return found
    for value in others:
        members = list(filter(value.has, members))
    return members


def _union(values: list[Any]) -> list[bytes]:
    members: dict[bytes, None] = {}
    present = [value for value in values if value is not None]
    for value in present:
        members.update(dict.fromkeys(value.members()))
    # A union of integers is kept as one, and comes in their order.
    return sorted(members, key=int) if all(value.encoding == "intset" for value in present) else list(members)


def _difference(values: list[Any]) -> list[bytes]:
    """The members of the first that no other has, in its order."""
    first, *others = values
    if first is None:
        return []
    others = [value for value in others if value is not None]
    members: list[bytes] = first.members()
    # Looking for each in all others, unless the others are so small that it is quicker to take theirs away (SDIFF's
    # two algorithms in Redis, and its measure).
    if len(first) * (len(others) + 1) // 2 <= len(first) + sum(map(len, others)):
        for value in sorted(others, key=len, reverse=True):
            has = value.has
            members = [member for member in members if not has(member)]
        return members
    left = dict.fromkeys(members)
    for value in others:
        for member in value.members():
            left.pop(member, None)
    return list(left)


def _store(db: Keyspace, target: bytes, members: list[bytes], event: bytes) -> int:
    """Put a set in place of whatever is at a key; of no members, delete the key."""
    if not members:
        if db.delete(target):
            db.notify(b"del", target)
        return 0
    value = db.make(Set)
    for member in members:
        value.add(member)
    db.set(target, value)
    db.notify(event, target)
    return len(members)


@sets(
    "SINTER key [key ...]",
    "Returns the members that several sets have in common.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N*M) where N is the size of the smallest set, and M the number of sets.",
    tips=_UNORDERED,
)
def sinter(client: Client, argv: list[bytes]) -> Reply:
    return Items(_intersection(_read(client.db, argv[1:]), INT64_MAX))


@sets(
    "SINTERSTORE destination:key key [key ...]",
    "Stores the members that several sets have in common as another set, and returns how many there are.",
    flags="write denyoom",
    since="1.0.0",
    complexity="O(N*M) where N is the size of the smallest set, and M the number of sets.",
    access=("RW update", "RO access"),
)
def sinterstore(client: Client, argv: list[bytes]) -> Reply:
    members = _intersection(_read(client.db, argv[2:]), INT64_MAX)
    return _store(client.db, argv[1], members, b"sinterstore")


@sets(
    "SINTERCARD numkeys:int key [key ...] [LIMIT limit:int]",
    "Returns how many members several sets have in common, or that they have as many as the limit.",
    flags="readonly",
    since="7.0.0",
    complexity="O(N*M) where N is the size of the smallest set, and M the number of sets.",
    keys=(keys_counted(1),),
)
def sintercard(client: Client, argv: list[bytes]) -> Reply:
    too_few = CommandError("ERR numkeys should be greater than 0")
    count = parse_integer(argv[1], too_few)
    if count < 1:
        raise too_few
    if count > len(argv) - 2:
        raise CommandError("ERR Number of keys can't be greater than number of args")
    keys, words = argv[2 : 2 + count], argv[2 + count :]
    limit = 0
    while words:
        if words[0].upper() != b"LIMIT" or len(words) == 1:
            raise SyntaxFault
        negative = CommandError("ERR LIMIT can't be negative")
        limit = parse_integer(words[1], negative)
        if limit < 0:
            raise negative
        words = words[2:]
    return len(_intersection(_read(client.db, keys), limit or INT64_MAX))


@sets(
    "SUNION key [key ...]",
    "Returns the members that any of several sets has.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N) where N is the number of members of all sets.",
    tips=_UNORDERED,
)
def sunion(client: Client, argv: list[bytes]) -> Reply:
    return Items(_union(_read(client.db, argv[1:])))


@sets(
    "SUNIONSTORE destination:key key [key ...]",
    "Stores the members that any of several sets has as another set, and returns how many there are.",
    flags="write denyoom",
    since="1.0.0",
    complexity="O(N) where N is the number of members of all sets.",
    access=("OW update", "RO access"),
)
def sunionstore(client: Client, argv: list[bytes]) -> Reply:
    return _store(client.db, argv[1], _union(_read(client.db, argv[2:])), b"sunionstore")


@sets(
    "SDIFF key [key ...]",
    "Returns the members of a set that no other of several sets has.",
    flags="readonly",
    since="1.0.0",
    complexity="O(N) where N is the number of members of all sets.",
    tips=_UNORDERED,
)
def sdiff(client: Client, argv: list[bytes]) -> Reply:
    return Items(_difference(_read(client.db, argv[1:])))


@sets(
    "SDIFFSTORE destination:key key [key ...]",
    "Stores the members of a set that no other of several sets has, and returns how many there are.",
    flags="write denyoom",
    since="1.0.0",
    complexity="O(N) where N is the number of members of all sets.",
    access=("OW update", "RO access"),
)
def sdiffstore(client: Client, argv: list[bytes]) -> Reply:
    return _store(client.db, argv[1], _difference(_read(client.db, argv[2:])), b"sdiffstore")


@sets(
    "SSCAN key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
    "Returns some of the members of a set, and the cursor that the next call goes on with.",
    flags="readonly",
    since="2.8.0",
    complexity="O(1) for a call, O(N) for all of the N members.",
    tips=_RANDOM,
)
def sscan(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, *words = argv
    cursor = parse_cursor(text)
    value = client.db.read(key, Set)
    if value is None:
        return [b"0", []]
    options = parse_scan(words)
    cursor, members = value.scan(cursor, options.count)
    if options.match is not None:
        members = list(filter(options.match, members))
    return [b"%d" % cursor, members]
