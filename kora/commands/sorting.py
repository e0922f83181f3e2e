"""SORT: the elements of a list, a set or a sorted set in order, and what other keys say of them.

`BY weight_*` and `GET data_*->field` name keys, or fields of hashes, by a pattern whose first star is the element.  The
keys that are looked up this way are in no request's key list, so that nobody but the command itself knows them.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from kora.engine.client import Client
from kora.engine.registry import Family, keys_at, keys_unknown
from kora.errors import CommandError, SyntaxFault, WrongType
from kora.resp.reply import Reply
from kora.store.keyspace import Keyspace
from kora.types.kinds import type_name
from kora.types.list import List
from kora.types.number import parse_integer

sorting = Family("generic")

_COMPLEXITY: Final = (
    "O(N+M*log(M)) where N is the number of elements, and M the number of those returned; O(N) if nothing is sorted."
)
_OPTIONS: Final = (
    "[BY pattern:pattern] [offset_count=LIMIT offset:int count:int] [GET pattern:pattern [GET pattern:pattern ...]]"
)
_ORDER: Final = "[order=ASC | DESC] [sorting=ALPHA]"
# How many words follow an option.
_OPERANDS: Final = {b"ASC": 0, b"DESC": 0, b"ALPHA": 0, b"LIMIT": 2, b"BY": 1, b"GET": 1, b"STORE": 1}


@dataclass
class _Options:
    descending: bool = False
    alpha: bool = False
    offset: int = 0
    count: int = -1  # negative: all
    by: bytes | None = None
    is_sorted: bool = True  # one BY without a star, such as `BY nosort`, and there is none, whatever others say
    get: list[bytes] = field(default_factory=list)
    store: bytes | None = None

    def range(self, length: int) -> tuple[int, int]:
        """What LIMIT leaves of so many elements."""
        start = min(max(self.offset, 0), length)
        return start, length if self.count < 0 else min(start + self.count, length)


def _parse(client: Client, argv: list[bytes], may_store: bool) -> _Options:
    options = _Options()
    words = argv[2:]
    may_look_up = client.user.may_do_all or client.user.may_read_any(client.engine.registry.find(argv), argv)
    place = 0
    while place < len(words):
        option = words[place].upper()
        count = _OPERANDS.get(option)
        operands = words[place + 1 : place + 1 + (count or 0)]
        if count is None or len(operands) < count or (option == b"STORE" and not may_store):
            raise SyntaxFault
        place += 1 + count
        if option == b"ALPHA":
            options.alpha = True
        elif option == b"LIMIT":
            options.offset, options.count = map(parse_integer, operands)
        elif option == b"BY":
            [options.by] = operands
            if b"*" not in operands[0]:
                options.is_sorted = False
            elif not may_look_up:
                raise CommandError("ERR BY option of SORT denied due to insufficient ACL permissions")
        elif option == b"GET":
            if not may_look_up:
                raise CommandError("ERR GET option of SORT denied due to insufficient ACL permissions")
            options.get += operands
        elif option == b"STORE":
            [options.store] = operands
        else:
            options.descending = option == b"DESC"
    return options


def _find_store(argv: Sequence[bytes]) -> Iterable[int]:
    """The place of the key that SORT stores at: behind the last STORE, as sortGetKeys (db.c) finds it."""
    found: tuple[int, ...] = ()
    place = 2
    while place < len(argv):
        option = argv[place].upper()
        if option == b"STORE" and place + 1 < len(argv):
            found = (place + 1,)
        place += 1 + (_OPERANDS[option] if option in (b"LIMIT", b"BY", b"GET") else 0)
    return found


_PATTERN_KEYS: Final = keys_unknown(
    "The keys that BY and GET look up are made of the elements that the key turns out to have.", lambda argv: ()
)


@sorting(
    f"SORT key {_OPTIONS} {_ORDER} [STORE destination:key]",
    "Sorts the elements of a list, a set or a sorted set, and returns or stores them.",
    flags="write denyoom",
    since="1.0.0",
    complexity=_COMPLEXITY,
    acl="-keyspace set sortedset list dangerous",
    access=("RO access", "RO access", "OW update"),
    keys=(
        keys_at(1),
        _PATTERN_KEYS,
        keys_unknown("STORE may stand anywhere among the options.", _find_store),
    ),
)
def sort(client: Client, argv: list[bytes]) -> Reply:
    options = _parse(client, argv, may_store=True)
    replies = _sort(client, argv[1], options)
    if options.store is None:
        return replies
    elements = [b"" if reply is None else reply for reply in replies]
    _journal(client, options.store, elements)
    return _store(client.db, options.store, elements)


@sorting(
    f"SORT_RO key {_OPTIONS} {_ORDER}",
    "Sorts the elements of a list, a set or a sorted set, and returns them; never stores, so that it only reads.",
    flags="readonly",
    since="7.0.0",
    complexity=_COMPLEXITY,
    acl="-keyspace set sortedset list dangerous",
    access=("RO access", "RO access"),
    keys=(keys_at(1), _PATTERN_KEYS),
)
def sort_ro(client: Client, argv: list[bytes]) -> Reply:
    return _sort(client, argv[1], _parse(client, argv, may_store=False))


def _journal(client: Client, key: bytes, elements: list[bytes]) -> None:
    """What is stored, since a set may have another order when this is replayed."""
    journal = client.engine.journal
    if client.db.has_quietly(key):
        journal.instead(client.db, b"DEL", key)
    if elements:
        journal.instead(client.db, b"RPUSH", key, *elements)


def _store(db: Keyspace, key: bytes, elements: list[bytes]) -> int:
    if elements:
        value = db.make(List)
        for element in elements:
            value.push_right(element)
        db.set(key, value)
        db.notify(b"sortstore", key)
    elif db.delete(key):
        db.notify(b"del", key)
    return len(elements)


def _sort(client: Client, key: bytes, options: _Options) -> list[bytes | None]:
    value = _read(client.db, key)
    is_repeatable = options.store is not None or client.is_script
    if isinstance(value, Unordered) and is_repeatable and not options.is_sorted:
        # A set has no order that another server would find, too, and what is stored must be the same there.
        options.alpha, options.by, options.is_sorted = True, None, True
    if options.is_sorted:
        elements = _in_order(client, value.all(), options)
        start, stop = options.range(len(elements))
        elements = elements[start:stop]
    else:
        elements = value.part(*options.range(len(value)), options.descending)
    if not options.get:
        return list(elements)
    lookups = [_lookup(client, pattern) for pattern in options.get]
    return [look_up(element) for element in elements for look_up in lookups]


# What is sorted


class Ordered:
    """A list or a sorted set, or nothing: `part` gives any part of it in its own order, or in the reverse of that."""

    def __init__(self, length: int, get: Callable[[int, int], list[bytes]]) -> None:
        self._length = length
        self._get = get

    def __len__(self) -> int:
        return self._length

    def all(self) -> list[bytes]:
        return self._get(0, self._length)

    def part(self, start: int, stop: int, descending: bool) -> list[bytes]:
        if not descending:
            return self._get(start, stop)
        return self._get(self._length - stop, self._length - start)[::-1]


class Unordered(Ordered):
    """A set, which is as it comes; DESC does not turn it round."""

    def part(self, start: int, stop: int, descending: bool) -> list[bytes]:
        return self._get(start, stop)


def _read(db: Keyspace, key: bytes) -> Ordered:
    """Raises WrongType for what is no list, set or sorted set."""
    if not db.touch(key):
        return Ordered(0, lambda start, stop: [])
    value = db.outline(key)
    kind = type_name(value)
    if kind == "list":
        return Ordered(len(value), value.slice)
    if kind == "set":
        members = value.members()
        return Unordered(len(members), lambda start, stop: members[start:stop])
    if kind == "zset":
        return Ordered(len(value), lambda start, stop: [member for member, _ in value.slice(start, stop)])
    raise WrongType


# The order


def _in_order(client: Client, elements: list[bytes], options: _Options) -> list[bytes]:
    """Sorted by themselves or by what their weight keys hold: as numbers, or as texts."""
    weights: list[bytes | None]
    if options.by is None:
        weights = list(elements)
    else:
        weights = list(map(_lookup(client, options.by), elements))
    sort_keys: list[Any]
    if options.alpha:
        # An element without a weight comes first.
        sort_keys = [(weight is not None, weight) for weight in weights]
    else:
        # One without a weight counts as 0; of equal numbers the texts of the elements decide.
        sort_keys = [
            (0.0 if weight is None else _number(weight), element)
            for weight, element in zip(weights, elements, strict=True)
        ]
    order = sorted(range(len(elements)), key=sort_keys.__getitem__, reverse=options.descending)
    return [elements[place] for place in order]


_NUMBER: Final = re.compile(
    rb"[ \t\n\v\f\r]*([+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
    rb"|0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?|inf(?:inity)?))",
    re.IGNORECASE,
)
_SMALLEST_NORMAL: Final = 2.2250738585072014e-308


def _number(text: bytes) -> float:
    """As strtod takes it, spaces before it included; nothing at all is 0, and a NUL ends it.

    Raises CommandError for other texts, nan, and what is too large, or too small to be told exactly.
    """
    if text.isdigit() and len(text) < 16:
        return float(text)
    text, _, _ = text.partition(b"\0")
    if not text:
        return 0.0
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise CommandError("ERR One or more scores can't be converted into double")
    digits = match[1].decode().lower()
    is_exact = True
    try:
        number = float.fromhex(digits) if "x" in digits else float(digits)
        if abs(number) < _SMALLEST_NORMAL and "x" not in digits:
            is_exact = Decimal(digits) == Decimal(number)
    except OverflowError:
        is_exact = False
    if not is_exact or (abs(number) == float("inf") and "inf" not in digits):
        raise CommandError("ERR One or more scores can't be converted into double")
    return number


# What other keys say


def _lookup(client: Client, pattern: bytes) -> Callable[[bytes], bytes | None]:
    """How to look up what a pattern of BY or GET names for an element: `#` itself, `a_*` a string, `h_*->f` a field."""
    if pattern == b"#":
        return lambda element: element
    before, star, after = pattern.partition(b"*")
    if not star:
        return lambda element: None
    db = client.db
    after, arrow, name = after.partition(b"->")
    if arrow and name:
        now_ms = client.engine.clock.wall_ms()
        return lambda element: _field_of(db, before + element + after, name, now_ms)
    after += arrow
    return lambda element: _string_of(db, before + element + after)


def _string_of(db: Keyspace, key: bytes) -> bytes | None:
    try:
        value = db.read(key, bytes)
    except WrongType:
        return None
    return None if value is None else bytes(value)


def _field_of(db: Keyspace, key: bytes, name: bytes, now_ms: int) -> bytes | None:
    if not db.touch(key):
        return None
    value = db.outline(key)
    if type_name(value) != "hash":
        return None
    if 0 < value.next_deadline_ms <= now_ms:
        deadline_ms = value.deadline(name)
        if deadline_ms is not None and deadline_ms <= now_ms:
            return None
    found: bytes | None = value.get(name)
    return found
