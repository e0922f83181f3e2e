"""Libraries that lean on scripts and unusual commands: limits, python-redis-lock and walrus."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests import peers
from tests.e2e.kora_process import KoraProcess, eventually


@pytest.fixture
def client(server: KoraProcess) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port) as opened:
        yield opened


@pytest.fixture
def database(server: KoraProcess) -> Iterator[Any]:
    opened = peers.peer_module("walrus").Database(port=server.port)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "strategy", ["FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"]
)
def test_limits_lets_so_many_through(server: KoraProcess, strategy: str) -> None:
    limits = peers.peer_module("limits")
    storage = limits.storage.storage_from_string(f"redis://127.0.0.1:{server.port}")
    limiter = getattr(limits.strategies, strategy)(storage)
    limit = limits.parse("5/day")
    assert [limiter.hit(limit, "ann") for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.test(limit, "bob")
    assert limiter.hit(limit, "bob", cost=4)
    assert limiter.get_window_stats(limit, "bob").remaining == 1
    assert not limiter.hit(limit, "bob", cost=2)
    limiter.clear(limit, "ann")
    assert limiter.hit(limit, "ann")
    assert storage.check()
    assert storage.reset() >= 2
    storage.storage.close()


def test_python_redis_lock_wakes_whoever_waits(client: "redis.Redis") -> None:
    redis_lock = peers.peer_module("redis_lock")
    lock = redis_lock.Lock(client, "door", expire=60)
    assert lock.acquire(blocking=False)
    other = redis_lock.Lock(client, "door", expire=60)
    assert not other.acquire(blocking=False)
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(other.acquire(timeout=20)))
    thread.start()
    eventually(lambda: client.info("clients")["blocked_clients"] == 1, "the other waits")
    lock.extend(100)
    lock.release()
    thread.join(20)
    assert got == [True]
    assert other.get_owner_id() == other.id
    with pytest.raises(redis_lock.NotAcquired):
        lock.release()
    other.release()
    assert not other.locked()
    with redis_lock.Lock(client, "door", expire=1, auto_renewal=True):
        assert client.exists("lock:door") == 1
    redis_lock.reset_all(client)


def test_walrus_containers(database: Any) -> None:
    items = database.List("items")
    items.extend(["a", "b", "c", "d"])
    del items[0]
    assert (list(items), items[-1], items[1:], len(items)) == ([b"b", b"c", b"d"], b"d", [b"c", b"d"], 3)
    scores = database.ZSet("scores")
    scores.add({"ann": 3, "bob": 1, "cid": 2})
    assert scores[:2] == [b"bob", b"cid"]
    assert scores.score("ann") == 3.0
    assert list(scores) == [(b"bob", 1.0), (b"cid", 2.0), (b"ann", 3.0)]
    left, right = database.Set("left"), database.Set("right")
    left.add("a", "b")
    right.add("b", "c")
    assert (left & right, left | right, left - right) == ({b"b"}, {b"a", b"b", b"c"}, {b"a"})
    words = database.Hash("words")
    words.update({"a": "1", "b": "2"})
    assert (words.as_dict(), "a" in words, sorted(words.keys())) == ({b"a": b"1", b"b": b"2"}, True, [b"a", b"b"])
    visitors = database.HyperLogLog("visitors")
    visitors.add(*(f"visitor-{number}" for number in range(100)))
    assert 95 <= len(visitors) <= 105
    array = database.Array("array")  # all of it in scripts
    array.extend(["x", "y", "z"])
    assert (array.pop(1), list(array), len(array)) == (b"y", [b"x", b"z"], 2)
    bits = database.bit_field("bits")
    assert bits.set("u8", "#1", 200).incrby("u8", "#1", 100, "SAT").get("u8", "#1").execute() == [0, 255, 255]
    bloom = database.bloom_filter("bloom")
    bloom.add("here")
    assert (bloom.contains("here"), bloom.contains("there")) == (True, False)
    assert not database.cas("k", "old", "new")
    database.set("k", "old")
    assert database.cas("k", "old", "new")
    assert database.get("k") == b"new"


def test_walrus_streams_locks_and_rates(database: Any) -> None:
    series = database.time_series("group", ["first", "second"])
    series.create()
    series.first.add({"n": "1"})
    series.second.add({"n": "2"})
    entries = series.read()
    assert [(entry.stream, entry.data) for entry in entries] == [("first", {"n": "1"}), ("second", {"n": "2"})]
    assert series.first.ack(entries[0].timestamp, entries[0].sequence) in (0, 1)
    lock = database.lock("door", ttl=10_000)
    assert lock.acquire(block=False)
    assert not database.lock("door", ttl=10_000).acquire(block=False)
    assert lock.release()
    rate = database.rate_limit_lua("visits", limit=3, per=1000)
    assert [rate.limit("ann") for _ in range(5)] == [False] * 3 + [True] * 2
    names = database.autocomplete()
    for name in ("testing", "tested", "other"):
        names.store(name)
    assert sorted(names.search("test")) == ["tested", "testing"]
    graph = database.graph("likes")
    graph.store("ann", "likes", "bob")
    graph.store("bob", "likes", "cid")
    assert [edge["o"] for edge in graph.query(s="ann", p="likes")] == ["bob"]
