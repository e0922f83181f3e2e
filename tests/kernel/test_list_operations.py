"""Lists and sorted sets by random requests: the kernel's replies, and what it counts, against the reference's."""

import random
from types import ModuleType

import pytest

from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from tests.fuzz.pair import encode

PLACES = [b"0", b"1", b"-1", b"5", b"-5", b"50", b"100", b"x", b"01", b"9223372036854775807", b"-9223372036854775808"]
# Those that the kernel reads itself, those that it leaves to the reference, and those that are none.
SCORES = (
    b"1 2 -3 1.5 0.1 -0 0 -0.0 1.0 00012 0.000001 123456789012345 1234567890123456 0.1234567890123456 3.14159265358979 "
    b"0.30000000000000004 12345678901234567890 100000000000000000 -99999999999999999 99999999999999999.5 "
    b"1e5 inf -inf .5 5. 0x10 nan x - --1 1..2 1. +1"
).split()


class Requests:
    """Requests on three keys, of which one has many members and one is no list and no sorted set."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.is_large = seed % 2 == 0

    def some(self, draw: object, most: int) -> list[bytes]:
        assert callable(draw)
        return [draw() for _ in range(self.chance.choice((1, 1, 2, most if self.is_large else 2)))]

    def item(self) -> bytes:
        if self.chance.random() < 0.02:
            return b"y" * self.chance.choice((3_000, 9_000))
        return b"%d" % self.chance.randrange(10)

    def member(self) -> bytes:
        if self.is_large:
            return b"m%d" % self.chance.randrange(400)
        return self.chance.choice((b"a", b"b", b"c", b"d", b"", b"x" * 70))

    def score(self) -> bytes:
        if self.chance.random() < 0.5:
            return self.chance.choice(SCORES)
        return self.chance.choice((b"%d" % self.chance.randrange(100), b"%r" % self.chance.uniform(-1_000, 1_000)))

    def place(self) -> bytes:
        return self.chance.choice(PLACES)

    def maybe(self, *words: bytes) -> list[bytes]:
        return [word for word in words if self.chance.random() < 0.1]

    def on_list(self) -> list[bytes]:
        name = self.chance.choice(b"LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LLEN LINDEX LSET LRANGE LREM LTRIM".split())
        key = self.chance.choice((b"list", b"list", b"list", b"string", b"absent"))
        words = {
            b"LPUSH": lambda: self.some(self.item, 50),
            b"RPUSH": lambda: self.some(self.item, 50),
            b"LPUSHX": lambda: [self.item()],
            b"RPUSHX": lambda: [self.item()],
            b"LPOP": lambda: self.maybe(b"2"),
            b"RPOP": lambda: self.maybe(b"2"),
            b"LINDEX": lambda: [self.place()],
            b"LSET": lambda: [self.place(), self.item()],
            b"LRANGE": lambda: [self.place(), self.place()],
            b"LREM": lambda: [b"-2", self.item()],
            b"LTRIM": lambda: [b"0", b"300"],
        }
        return [name, key, *words.get(name, list)()]

    def on_sorted_set(self) -> list[bytes]:
        name = self.chance.choice(
            b"ZADD ZADD ZADD ZINCRBY ZREM ZCARD ZSCORE ZMSCORE ZRANK ZREVRANK ZPOPMIN ZPOPMAX ZRANGE ZREVRANGE".split()
        )
        key = self.chance.choice((b"zset", b"zset", b"zset", b"string", b"list", b"absent"))
        pairs = [word for member in self.some(self.member, 30) for word in (self.score(), member)]
        ends = [self.place(), self.place(), *self.maybe(b"withscores"), *self.maybe(b"REV")]
        words = {
            b"ZADD": [*self.maybe(b"NX", b"XX", b"gt", b"LT", b"CH", b"INCR", b"NX"), *pairs],
            b"ZINCRBY": [self.score(), self.member()],
            b"ZREM": pairs[1::2],
            b"ZMSCORE": pairs[1::2],
            b"ZSCORE": [self.member()],
            b"ZRANK": [self.member(), *self.maybe(b"WITHSCORE")],
            b"ZREVRANK": [self.member(), *self.maybe(b"WITHSCORE")],
            b"ZPOPMIN": self.maybe(b"2"),
            b"ZPOPMAX": self.maybe(b"2"),
            b"ZRANGE": ends,
            b"ZREVRANGE": ends,
        }
        return [name, key, *words.get(name, [])]

    def next(self) -> list[bytes]:
        if self.chance.random() < 0.05:
            key = self.chance.choice((b"list", b"zset"))
            return self.chance.choice(([b"DEL", key], [b"OBJECT", b"ENCODING", key], [b"EXPIRE", key, b"10"]))
        request = self.on_list() if self.chance.random() < 0.5 else self.on_sorted_set()
        return request[:-1] if self.chance.random() < 0.01 else request


@pytest.mark.parametrize("protocol", [b"2", b"3"])
@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_and_the_reference_answer_alike(compiled: ModuleType, protocol: bytes, seed: int) -> None:
    engines = [
        Engine(Config.load([], {}), make_registry(), ManualClock(), kernel=kernel) for kernel in (compiled, None)
    ]
    clients = [engine.connect("127.0.0.1:1") for engine in engines]
    requests = Requests(seed)
    for words in [[b"HELLO", protocol], [b"SET", b"string", b"s"]] + [requests.next() for _ in range(300)]:
        kernels, references = (
            engine.execute(client, encode(words)) for engine, client in zip(engines, clients, strict=True)
        )
        assert words[0] == b"HELLO" or kernels == references, words
    ours, theirs = engines
    assert ours.databases[0].changes == theirs.databases[0].changes
    assert [sum(shard.stats.hits for shard in engine.shards) for engine in engines] == [
        sum(shard.stats.hits for shard in theirs.shards)
    ] * 2
    assert sum(shard.stats.memory_bytes for shard in ours.shards) == sum(ours.databases[0].audit())
    for key in (b"list", b"zset"):
        value = ours.databases[0].find(key)
        if value is not None:
            value.audit()
