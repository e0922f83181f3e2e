"""Writers whose every write can be checked: what they send, and what must be in the server after each request.

A writer has keys of its own, and elements of its own in a list that it shares with others.  Its requests follow one
another on one connection, so the server's contents after a crash must be what they were after the first so many of
them: nearly every request leaves something that was not there before, and the whole of it is compared.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

Words = tuple[bytes, ...]
Times = tuple[int, int]  # Unix ms: when a request was sent, and when its reply was there or could not come any more

# A deadline that has passed when the server is looked at, one that nobody lives to see, and what lies between.
SHORT_MS: Final = 40
LONG_MS: Final = 5_000_000_000_000
FAR_MS: Final = 4_000_000_000_000

# Both must be there, or neither.
SCRIPT: Final = b"redis.call('SET',KEYS[1],ARGV[1]) redis.call('RPUSH',KEYS[2],ARGV[1]) return ARGV[1]"
ITEMS_MAX: Final = 40
# A list that all writers of a database push to.
SHARED: Final = b"shared"


class Scores(dict[bytes, float]):
    """A sorted set."""


class Entries(list[tuple[bytes | None, Words]]):
    """A stream: ids, where the server has told them, and fields."""


@dataclass
class State:
    """A writer's part of the server's contents: bytes, or list, set, dict (a hash), Scores or Entries by key."""

    values: dict[bytes, Any] = field(default_factory=dict)
    # First and last possible one, since only the server knows when it began to count.
    deadlines: dict[bytes, Times] = field(default_factory=dict)

    def run(self, words: Words, reply: Any, times: Times) -> None:
        """Do what the server does; `reply` is None where it is not known."""
        _COMMANDS[words[0]](self, words, reply, times)

    def get(self, key: bytes, kind: type) -> Any:
        return self.values.setdefault(key, kind())

    def store(self, key: bytes, value: Any, deadline: Times | None = None) -> None:
        self.values[key] = value
        self.deadlines.pop(key, None)
        if deadline is not None:
            self.deadlines[key] = deadline

    def drop(self, key: bytes) -> None:
        self.values.pop(key, None)
        self.deadlines.pop(key, None)

    def drop_empty(self, key: bytes) -> None:
        if not self.values[key]:
            self.drop(key)

    def forget_expired(self) -> None:
        for key in [key for key, (_, last_ms) in self.deadlines.items() if last_ms < FAR_MS]:
            self.drop(key)

    def copy(self) -> "State":
        return State({key: _copy(value) for key, value in self.values.items()}, dict(self.deadlines))

    def digest(self) -> int:
        return sum(self.digest_of(key) for key in self.values)

    def digest_of(self, key: bytes) -> int:
        """0 for a key that is not there, or that must be gone by the time of a check."""
        value = self.values.get(key)
        if value is None or self.deadlines.get(key, (0, LONG_MS))[1] < FAR_MS:
            return 0
        return hash((key, plain(value), key in self.deadlines))


def plain(value: Any) -> object:
    """What can be compared of a value, and hashed."""
    match value:
        case Scores():
            return "zset", frozenset(value.items())
        case Entries():
            return "stream", tuple(fields for _, fields in value)
        case dict():
            return "hash", frozenset(value.items())
        case set():
            return "set", frozenset(value)
        case list():
            return "list", tuple(value)
    return "string", value


def _copy(value: Any) -> Any:
    return value if isinstance(value, bytes) else type(value)(value)


# --- What the server does ---


def _set(state: State, words: Words, reply: Any, times: Times) -> None:
    deadline = None
    if len(words) > 3:
        ms = int(words[4])
        deadline = (ms, ms) if words[3] == b"PXAT" else (times[0] + ms, times[1] + ms)
    state.store(words[1], words[2], deadline)


def _mset(state: State, words: Words, reply: Any, times: Times) -> None:
    for key, value in zip(words[1::2], words[2::2], strict=True):
        state.store(key, value)


def _append(state: State, words: Words, reply: Any, times: Times) -> None:
    state.values[words[1]] = state.values.get(words[1], b"") + words[2]


def _incrby(state: State, words: Words, reply: Any, times: Times) -> None:
    state.values[words[1]] = b"%d" % (int(state.values.get(words[1], b"0")) + int(words[2]))


def _incrbyfloat(state: State, words: Words, reply: Any, times: Times) -> None:
    # Steps of a quarter, which are exact.
    state.values[words[1]] = b"%.17g" % (float(state.values.get(words[1], b"0")) + float(words[2]))


def _del(state: State, words: Words, reply: Any, times: Times) -> None:
    for key in words[1:]:
        state.drop(key)


def _rename(state: State, words: Words, reply: Any, times: Times) -> None:
    deadline = state.deadlines.get(words[1])
    value = state.values[words[1]]
    state.drop(words[1])
    state.store(words[2], value, deadline)


def _copy_key(state: State, words: Words, reply: Any, times: Times) -> None:
    state.store(words[2], _copy(state.values[words[1]]), state.deadlines.get(words[1]))


def _pexpire(state: State, words: Words, reply: Any, times: Times) -> None:
    ms = int(words[2])
    if words[1] in state.values:
        state.deadlines[words[1]] = (times[0] + ms, times[1] + ms)


def _persist(state: State, words: Words, reply: Any, times: Times) -> None:
    state.deadlines.pop(words[1], None)


def _hset(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], dict).update(zip(words[2::2], words[3::2], strict=True))


def _hincrby(state: State, words: Words, reply: Any, times: Times) -> None:
    fields = state.get(words[1], dict)
    fields[words[2]] = b"%d" % (int(fields.get(words[2], b"0")) + int(words[3]))


def _hdel(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], dict).pop(words[2], None)
    state.drop_empty(words[1])


def _rpush(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], list).extend(words[2:])


def _lpush(state: State, words: Words, reply: Any, times: Times) -> None:
    items = state.get(words[1], list)
    items[:0] = words[:1:-1]


def _lpop(state: State, words: Words, reply: Any, times: Times) -> None:
    del state.get(words[1], list)[: int(words[2])]
    state.drop_empty(words[1])


def _ltrim(state: State, words: Words, reply: Any, times: Times) -> None:
    items = state.get(words[1], list)
    del items[: int(words[2])]
    state.drop_empty(words[1])


def _lmove(state: State, words: Words, reply: Any, times: Times) -> None:
    if items := state.values.get(words[1]):
        state.get(words[2], list).insert(0, items.pop(0))
        state.drop_empty(words[1])


def _sadd(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], set).update(words[2:])


def _srem(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], set).discard(words[2])
    state.drop_empty(words[1])


def _spop(state: State, words: Words, reply: Any, times: Times) -> None:
    if isinstance(reply, bytes):
        state.values[words[1]].remove(reply)
        state.drop_empty(words[1])


def _zadd(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], Scores).update(zip(words[3::2], map(float, words[2::2]), strict=True))


def _zincrby(state: State, words: Words, reply: Any, times: Times) -> None:
    scores = state.get(words[1], Scores)
    scores[words[3]] = scores.get(words[3], 0.0) + float(words[2])


def _zrem(state: State, words: Words, reply: Any, times: Times) -> None:
    state.get(words[1], Scores).pop(words[2], None)
    state.drop_empty(words[1])


def _xadd(state: State, words: Words, reply: Any, times: Times) -> None:
    entries = state.get(words[1], Entries)
    entries.append((reply if isinstance(reply, bytes) else None, words[6:]))
    del entries[: max(0, len(entries) - int(words[4]))]


def _eval(state: State, words: Words, reply: Any, times: Times) -> None:
    state.store(words[3], words[5])
    state.get(words[4], list).append(words[5])


_COMMANDS: Final[dict[bytes, Callable[[State, Words, Any, Times], None]]] = {
    b"SET": _set,
    b"MSET": _mset,
    b"APPEND": _append,
    b"INCRBY": _incrby,
    b"INCRBYFLOAT": _incrbyfloat,
    b"DEL": _del,
    b"RENAME": _rename,
    b"COPY": _copy_key,
    b"PEXPIRE": _pexpire,
    b"PERSIST": _persist,
    b"HSET": _hset,
    b"HINCRBY": _hincrby,
    b"HDEL": _hdel,
    b"RPUSH": _rpush,
    b"LPUSH": _lpush,
    b"LPOP": _lpop,
    b"LTRIM": _ltrim,
    b"LMOVE": _lmove,
    b"SADD": _sadd,
    b"SREM": _srem,
    b"SPOP": _spop,
    b"ZADD": _zadd,
    b"ZINCRBY": _zincrby,
    b"ZREM": _zrem,
    b"XADD": _xadd,
    b"EVAL": _eval,
}


# --- Requests of a writer ---


@dataclass
class Deed:
    """One request, or one transaction, which is done wholly or not at all."""

    requests: list[Words]
    is_transaction: bool = False
    # Monotonic ns and Unix ms; the reply is there when answered_ns is not 0.
    sent_ns: int = 0
    sent_ms: int = 0
    answered_ns: int = 0
    answered_ms: int = 0
    replies: list[Any] = field(default_factory=list)

    @property
    def wire(self) -> list[Words]:
        return [(b"MULTI",), *self.requests, (b"EXEC",)] if self.is_transaction else self.requests

    @property
    def keys(self) -> set[bytes]:
        """Those that may change, and other words."""
        return {word for words in self.requests for word in words[1:]}

    def apply(self, state: State, replies: list[Any] | None = None) -> None:
        """Do it to a state."""
        replies = replies or self.replies or [None] * len(self.requests)
        for words, reply in zip(self.requests, replies, strict=True):
            state.run(words, reply, (self.sent_ms, self.answered_ms))

    def outcomes(self, state: State) -> Iterator[list[Any]]:
        """The replies that it may have had, where it has none and chance was the server's."""
        if self.answered_ns or self.requests[0][0] != b"SPOP":
            yield self.replies
            return
        for member in state.values.get(self.requests[0][1], ()):
            yield [member]


class Drawing:
    """Draws a writer's deeds.  Every value has the writer's name and a number that it never had before."""

    def __init__(self, name: bytes, chance: random.Random, has_transactions: bool) -> None:
        self.name = name
        self.has_transactions = has_transactions  # of more than one effect, by MULTI or by a script
        self.chance = chance
        self.numbers = 0
        # What was sent, so that RENAME and the like find their keys.
        self.expected = State()

    def deeds(self) -> list[Deed]:
        """What is sent at one go, before the first reply is read."""
        shape = self.chance.random()
        if shape < 0.1:
            # Chance decides what it does, so nothing is sent before it is known.
            return [Deed([self._pop()])]
        if shape < 0.5:
            return [self._deed()]
        return [self._deed() for _ in range(self.chance.choice((2, 5, 16, 40)))]

    def learn(self, deed: Deed) -> None:
        """What chance has decided."""
        if deed.requests[0][0] == b"SPOP":
            deed.apply(self.expected)

    def _deed(self) -> Deed:
        if self.has_transactions and self.chance.random() < 0.2:
            deed = Deed([], is_transaction=True)
            for _ in range(self.chance.randint(1, 5)):
                deed.requests.append(words := self._request())
                self.expected.run(words, None, (0, 0))
            return deed
        deed = Deed([self._request()])
        self.expected.run(deed.requests[0], None, (0, 0))
        return deed

    def _pop(self) -> Words:
        key = self._key(b"pop")
        if not self.expected.values.get(key):
            words = (b"SADD", key, *(self._value() for _ in range(5)))
            self.expected.run(words, None, (0, 0))
            return words
        return (b"SPOP", key)

    def _request(self) -> Words:
        """One command that changes something, of any type."""
        draw = self.chance.choice(_DRAWS)
        return draw(self)

    def _key(self, kind: bytes, keys: int = 4) -> bytes:
        return b"%b:%b:%d" % (self.name, kind, self.chance.randrange(keys))

    def _value(self) -> bytes:
        self.numbers += 1
        value = b"%b-%d" % (self.name, self.numbers)
        # Some that a single write to a file does not take, or an RDB file compresses.
        return value if self.chance.random() < 0.98 else value * self.chance.choice((20, 500, 6000))

    def _string(self) -> Words:
        key = self._key(b"string", 16)
        match self.chance.randrange(8):
            case 0:
                return b"MSET", key, self._value(), self._key(b"string", 16), self._value()
            case 1:
                return b"SET", key, self._value(), b"PX", b"%d" % LONG_MS
            case 2:
                return b"SET", key, self._value(), b"PXAT", b"%d" % (LONG_MS + self.chance.randrange(1000))
            case 3:
                return b"SET", self._key(b"brief", 8), self._value(), b"PX", b"%d" % SHORT_MS
            case 4 if len(self.expected.values.get(key, b"")) < 1000:
                return b"APPEND", key, self._value()
        return b"SET", key, self._value()

    def _number(self) -> Words:
        self.numbers += 1
        if self.chance.random() < 0.3:
            return b"INCRBYFLOAT", self._key(b"float"), b"%d.25" % self.numbers
        return b"INCRBY", self._key(b"number"), b"%d" % self.numbers

    def _any_key(self) -> Words:
        key = self._key(b"string", 16)
        if key not in self.expected.values:
            return b"SET", key, self._value()
        other = self._key(b"other", 8)
        match self.chance.randrange(6):
            case 0:
                return b"DEL", key
            case 1:
                return b"RENAME", key, other
            case 2:
                return b"COPY", key, other, b"REPLACE"
            case 3:
                return b"PERSIST", key
        return b"PEXPIRE", key, b"%d" % (LONG_MS + self.chance.randrange(1000))

    def _hash(self) -> Words:
        key = self._key(b"hash")
        name = b"f%d" % self.chance.randrange(ITEMS_MAX)
        match self.chance.randrange(4):
            case 0:
                return b"HDEL", key, name
            case 1:
                self.numbers += 1
                return b"HINCRBY", key, b"n", b"%d" % self.numbers
        return b"HSET", key, name, self._value(), b"last", self._value()

    def _list(self) -> Words:
        key = self._key(b"list")
        items = self.expected.values.get(key, [])
        if len(items) > ITEMS_MAX:
            return b"LTRIM", key, b"10", b"-1"
        match self.chance.randrange(5):
            case 0:
                return b"LPUSH", key, self._value(), self._value()
            case 1 if items:
                return b"LPOP", key, b"2"
            case 2 if items:
                other = self._key(b"moved")
                if len(self.expected.values.get(other, [])) > ITEMS_MAX:
                    return b"DEL", other
                return b"LMOVE", key, other, b"LEFT", b"LEFT"
        return b"RPUSH", key, self._value()

    def _set(self) -> Words:
        key = self._key(b"set")
        members = self.expected.values.get(key, set())
        if len(members) > self.chance.randrange(1, ITEMS_MAX):
            return b"SREM", key, self.chance.choice(sorted(members))
        return b"SADD", key, self._value(), self._value()

    def _sorted_set(self) -> Words:
        key = self._key(b"zset")
        scores = self.expected.values.get(key, {})
        self.numbers += 1
        if len(scores) > self.chance.randrange(1, ITEMS_MAX):
            member = self.chance.choice(sorted(scores))
            return (
                (b"ZREM", key, member)
                if self.chance.random() < 0.5
                else (b"ZINCRBY", key, b"%d" % self.numbers, member)
            )
        return b"ZADD", key, b"%d.5" % self.numbers, self._value(), b"%d" % self.numbers, self._value()

    def _stream(self) -> Words:
        return b"XADD", self._key(b"stream"), b"MAXLEN", b"=", b"%d" % ITEMS_MAX, b"*", b"value", self._value()

    def _script(self) -> Words:
        key = self._key(b"scripted")
        if not self.has_transactions:
            return self._string()
        if len(self.expected.values.get(key, [])) > ITEMS_MAX:
            return b"DEL", key
        return b"EVAL", SCRIPT, b"2", self._key(b"string", 16), key, self._value()

    def _shared(self) -> Words:
        return b"RPUSH", SHARED, self._value()


class Filling(Drawing):
    """Draws what is more than a small cache holds: large values, and many keys to which something is added."""

    def _request(self) -> Words:
        match self.chance.randrange(4):
            case 0:
                self.numbers += 1
                return b"INCRBY", self._key(b"number", 300), b"%d" % self.numbers
            case 1:
                key = self._key(b"list", 100)
                if len(self.expected.values.get(key, [])) > ITEMS_MAX:
                    return b"DEL", key
                return b"RPUSH", key, self._value()
        self.numbers += 1
        return b"SET", self._key(b"fill", 120), b"%b-%d" % (self.name, self.numbers) * self.chance.choice((300, 3000))


# Databases that are filled, swapped and emptied; connections have the first.
SCRATCH: Final = (4, 5)
_NAMES: Final = 24


def scratch_key(database: int, key: bytes) -> bytes:
    """What a State calls a key of such a database."""
    return b"%d/%b" % (database, key)


class Turn(Deed):
    """Of one or both of the scratch databases, whole."""

    @property
    def keys(self) -> set[bytes]:
        return {scratch_key(database, _name(number)) for database in SCRATCH for number in range(_NAMES)}

    def apply(self, state: State, replies: list[Any] | None = None) -> None:
        first, second = SCRATCH
        words = self.requests[0]
        if words[0] == b"SWAPDB":
            for number in range(_NAMES):
                one, other = scratch_key(first, _name(number)), scratch_key(second, _name(number))
                values = state.values.get(one), state.values.get(other)
                for key, value in zip((other, one), values, strict=True):
                    state.drop(key)
                    if value is not None:
                        state.store(key, value)
        elif words[0] == b"FLUSHDB":
            for number in range(_NAMES):
                state.drop(scratch_key(first, _name(number)))
        else:
            for key, value in zip(words[1::2], words[2::2], strict=True):
                state.store(scratch_key(first, key), value)


def _name(number: int) -> bytes:
    return b"turn:%d" % number


class Turning(Drawing):
    """Draws what is done to the scratch databases."""

    def deeds(self) -> list[Deed]:
        return [self._turn() for _ in range(self.chance.randint(1, 5))]

    def _turn(self) -> Turn:
        match self.chance.randrange(6):
            case 0:
                words: Words = (b"FLUSHDB", self.chance.choice((b"SYNC", b"ASYNC")))
            case 1 | 2:
                words = (b"SWAPDB", *(b"%d" % database for database in SCRATCH))
            case _:
                numbers = self.chance.sample(range(_NAMES), 5)
                words = (b"MSET", *(word for number in numbers for word in (_name(number), self._value())))
        return Turn([words])


_DRAWS: Final = (
    *[Drawing._string] * 6,
    *[Drawing._number] * 2,
    *[Drawing._any_key] * 2,
    *[Drawing._hash] * 3,
    *[Drawing._list] * 3,
    *[Drawing._set] * 2,
    *[Drawing._sorted_set] * 2,
    *[Drawing._stream] * 2,
    Drawing._script,
    *[Drawing._shared] * 2,
)
