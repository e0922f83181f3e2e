"""What programs build on redis-py: locks, caches that are told, transactions, workers that may die."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection
from redis.exceptions import LockError, LockNotOwnedError, WatchError

from tests.e2e.applications import workers
from tests.e2e.applications.workers import APPLICATIONS
from tests.e2e.kora_process import KoraProcess, eventually

WAIT_S = 20


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(server: KoraProcess, request: pytest.FixtureRequest) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port, protocol=request.param, decode_responses=True) as opened:
        yield opened


def test_a_lock_is_held_by_one_at_a_time(client: "redis.Redis") -> None:
    lock = client.lock("door", timeout=100)
    other = client.lock("door", timeout=100)
    assert lock.acquire(blocking=False)
    assert not other.acquire(blocking=False)
    assert not other.acquire(blocking_timeout=0.05)
    assert (lock.locked(), lock.owned(), other.owned()) == (True, True, False)
    with pytest.raises(LockError):
        other.release()
    lock.extend(50)
    assert 100 < client.ttl("door") <= 150
    lock.extend(10, replace_ttl=True)
    assert 0 < client.ttl("door") <= 10
    lock.reacquire()
    assert 10 < client.ttl("door") <= 100
    lock.release()
    assert client.exists("door") == 0
    with other:
        assert client.exists("door") == 1
    assert client.exists("door") == 0


def test_a_lock_that_ran_out_is_no_longer_ones_own(client: "redis.Redis") -> None:
    lock = client.lock("door", timeout=0.05)
    assert lock.acquire()
    heir = client.lock("door", sleep=0.01, blocking_timeout=WAIT_S, timeout=100)
    assert heir.acquire()
    for late in (lock.release, lock.reacquire, lambda: lock.extend(1)):
        assert lock.local.token is not None
        token = lock.local.token
        with pytest.raises(LockNotOwnedError):
            late()
        lock.local.token = token
    assert heir.owned()
    heir.release()
    with pytest.raises(LockError, match="Unable to acquire lock"), client.lock("door"):
        client.lock("door", blocking_timeout=0.01).__enter__()


def test_many_threads_with_one_lock_never_meet(client: "redis.Redis") -> None:
    inside = 0
    meetings = 0

    def work() -> None:
        nonlocal inside, meetings
        for _ in range(10):
            with client.lock("door", timeout=WAIT_S, sleep=0.001):
                inside += 1
                meetings += inside > 1
                client.incr("visits")
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert (client.get("visits"), meetings) == ("40", 0)


def test_asyncio_locks_and_blocking_pops(server: KoraProcess) -> None:
    async def work() -> list[str]:
        done: list[str] = []
        async with redis.asyncio.Redis(port=server.port, decode_responses=True) as client:

            async def consume() -> None:
                while (item := await client.blpop(["queue", "stop"], timeout=WAIT_S)) is not None:
                    if item[0] == "stop":
                        return
                    async with client.lock("door", timeout=WAIT_S, sleep=0.001):
                        done.append(item[1])

            consumers = [asyncio.ensure_future(consume()) for _ in range(5)]
            await client.rpush("queue", *range(50))
            while len(done) < 50:
                await asyncio.sleep(0.001)
            await client.rpush("stop", *range(5))
            await asyncio.gather(*consumers)
            assert await client.blpop("queue", timeout=0.01) is None
            # A wait that is given up takes nothing with it.
            waiting = asyncio.ensure_future(client.blmove("queue", "taken", 0, "LEFT", "RIGHT"))
            while (await client.info("clients"))["blocked_clients"] == 0:
                await asyncio.sleep(0.001)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            while (await client.info("clients"))["blocked_clients"]:
                await asyncio.sleep(0.001)
            await client.rpush("queue", "kept")
            assert await client.lrange("queue", 0, -1) == ["kept"]
            await client.xadd("events", {"n": 1})
            ((_, entries),) = await client.xread({"events": "0"}, block=10)
            assert len(entries) == 1
        return done

    assert sorted(map(int, asyncio.run(asyncio.wait_for(work(), 3 * WAIT_S)))) == list(range(50))


def test_a_pipeline_that_watches_is_told_of_the_quicker(client: "redis.Redis") -> None:
    client.set("stock", 1)
    with client.pipeline() as pipe:
        pipe.watch("stock")
        assert pipe.get("stock") == "1"
        client.decr("stock")
        pipe.multi()
        pipe.set("stock", 100)
        pipe.rpush("sold", "x")
        with pytest.raises(WatchError):
            pipe.execute()
        assert (client.get("stock"), client.exists("sold")) == ("0", 0)
        # The same pipeline again, undisturbed.
        pipe.watch("stock")
        pipe.multi()
        assert pipe.incrby("stock", 5).rpush("sold", "y").lrange("sold", 0, -1).execute() == [5, 1, ["y"]]
        pipe.watch("stock")
        pipe.unwatch()
        client.set("stock", 7)
        assert pipe.incr("stock").get("stock").execute() == [8, "8"]


def test_a_cached_value_is_read_once_until_somebody_changes_it(
    server: KoraProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # redis-py refuses to cache what servers before 7.4 hold; all that it asks of them is in 7.2.
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.2.0")
    options: Any = {"protocol": 3, "cache_config": CacheConfig(max_size=100), "decode_responses": True}
    with redis.Redis(port=server.port) as writer, redis.Redis(port=server.port, **options) as reader:
        cache: Any = reader.get_cache()

        def calls(command: str) -> int:
            return int(writer.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

        writer.set("k", "one")
        writer.hset("h", mapping={"a": 1})
        before = calls("get")
        assert [reader.get("k") for _ in range(5)] == ["one"] * 5
        assert calls("get") == before + 1
        assert reader.hgetall("h") == {"a": "1"}
        assert cache.size == 2
        writer.set("k", "two")
        eventually(lambda: reader.get("k") == "two", "the change is seen")
        writer.hset("h", "b", 2)
        eventually(lambda: reader.hgetall("h") == {"a": "1", "b": "2"}, "the change of the hash is seen")
        writer.set("k", "three", px=20)
        eventually(lambda: reader.get("k") is None, "the end of the key is seen")
        assert reader.hget("h", "a") == "1"
        writer.flushall()
        eventually(lambda: reader.hget("h", "a") is None, "the flush is seen")


def test_listeners_in_a_thread_hear_channels_patterns_and_expiry(client: "redis.Redis") -> None:
    heard: list[tuple[str, str]] = []
    client.config_set("notify-keyspace-events", "KEA")
    try:
        pubsub = client.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(news=lambda message: heard.append((message["channel"], message["data"])))
        pubsub.psubscribe(**{"__keyevent@0__:*": lambda message: heard.append((message["channel"], message["data"]))})
        thread = pubsub.run_in_thread(sleep_time=0.01)
        eventually(lambda: client.pubsub_numpat() == 1, "the thread listens")
        client.publish("news", "hello")
        client.set("k", "v", px=20)
        client.rpush("list", "x")
        client.lpop("list")
        eventually(lambda: ("__keyevent@0__:expired", "k") in heard, "the key expires")
        thread.stop()
        thread.join(WAIT_S)
        pubsub.close()
    finally:
        client.config_set("notify-keyspace-events", "")
    assert heard[0] == ("news", "hello")
    names = [channel.removeprefix("__keyevent@0__:") for channel, _ in heard[1:] if channel.startswith("__")]
    assert sorted(names) == sorted(["set", "expire", "rpush", "lpop", "del", "expired"])


def test_a_consumer_group_survives_the_death_of_a_consumer(server: KoraProcess, tmp_path: Path) -> None:
    def consumer(name: str, manner: str) -> workers.Worker:
        return workers.start_python(tmp_path, f"{APPLICATIONS}.stream_consumer", str(server.port), name, manner)

    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.xgroup_create("orders", "shop", mkstream=True)
        for number in range(20):
            client.xadd("orders", {"order": number})
        mortal = consumer("mortal", "hang")
        try:
            mortal.wait_for("took")
        finally:
            mortal.kill()
        assert client.xpending("orders", "shop")["consumers"] == [{"name": "mortal", "pending": 3}]
        heir = consumer("heir", "work")
        try:
            eventually(lambda: client.hlen("done") == 20, "all orders are done")
            eventually(lambda: client.xpending("orders", "shop")["pending"] == 0, "nothing is pending")
            client.xadd("orders", {"order": 20})
            eventually(lambda: client.hlen("done") == 21, "the last order is done")
        finally:
            heir.stop()
        assert "Traceback" not in heir.log, heir.log
        assert set(client.hgetall("done").values()) == {"1"}
        (group,) = client.xinfo_groups("orders")
        assert (group["consumers"], group["pending"], group["entries-read"], group["lag"]) == (2, 0, 21, 0)
        assert {each["name"]: each["pending"] for each in client.xinfo_consumers("orders", "shop")} == {
            "heir": 0,
            "mortal": 0,
        }
        assert client.xgroup_delconsumer("orders", "shop", "mortal") == 0
        assert client.xtrim("orders", maxlen=0, approximate=False) == 21
        assert time.time() * 1000 - 3_600_000 < int(client.xinfo_stream("orders")["last-generated-id"].split("-")[0])
