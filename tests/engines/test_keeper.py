"""Writing back, from the requests' side: who waits, who is refused, and what ends by itself."""

import errno
import os
from collections.abc import Callable
from functools import partial
from threading import Event

import pytest

from kora.clock import ManualClock
from kora.engine.engine import Engine
from kora.errors import CommandError
from tests.conftest import STORED, Session, runner

pytest.importorskip("rocksdict", reason="the extra `rocksdb` is not installed")

from kora.engines.rocksdb import keeper as keeping
from kora.engines.rocksdb.keeper import StoreKeeper
from tests.engines.stored import put_into_store

pytestmark = pytest.mark.skipif(STORED, reason="these have keepers of their own")


@pytest.fixture
def kept(make_engine: Callable[..., Engine]) -> Engine:
    engine = make_engine()
    put_into_store(engine, keeper=StoreKeeper)
    return engine


def keeper_of(engine: Engine) -> StoreKeeper:
    keeper = engine.write_back
    assert isinstance(keeper, StoreKeeper)
    return keeper


def forget(engine: Engine) -> None:
    """Have nothing in memory that is in the store."""
    assert keeper_of(engine).write_back(sync=False)
    assert engine.cache is not None
    engine.cache.drop_all()


def test_keys_that_nobody_asks_for_end_when_their_time_is_over(kept: Engine, clock: ManualClock) -> None:
    run = runner(kept.connect())
    for number in range(100):
        run("SET", f"brief:{number}", "v", "PX", 1000 + number)
    run("SET", "longer", "v", "PX", 1000)
    run("SET", "lasting", "v")
    run("PEXPIRE", "longer", 100_000)
    forget(kept)
    clock.advance_ms(2_000)
    keeper = keeper_of(kept)
    for _ in range(100):
        keeper.expire(1_000_000_000)
        forget(kept)
        if kept.keys == 2:
            break
    assert run("DBSIZE") == 2
    assert sum(shard.stats.expired for shard in kept.shards) == 100
    assert keeper.store.counts(kept.databases[0].store_id) == (2, 1)
    assert (run("GET", "lasting"), run("PTTL", "longer")) == (b"v", 98_000)


def test_fields_of_hashes_that_nobody_asks_for_end_and_the_last_with_its_key(kept: Engine, clock: ManualClock) -> None:
    run = runner(kept.connect())
    for number in range(20):
        run("HSET", f"h{number}", "brief", "v")
        run("HPEXPIRE", f"h{number}", 1_000, "FIELDS", 1, "brief")
    run("HSET", "h0", "lasting", "v")
    run("HSET", "h1", "longer", "v")
    run("HPEXPIRE", "h1", 100_000, "FIELDS", 1, "longer")
    run("HSET", "large", *(word for number in range(600) for word in (number, "v")))
    run("HPEXPIRE", "large", 1_000, "FIELDS", 2, 1, 2)
    forget(kept)
    # What would look at them by itself knows of those alone that are in memory.
    keyspace, keeper, fields = kept.databases[0], keeper_of(kept), kept.field_deadlines[0]
    fields.end_due(keyspace, clock.wall_ms(), 100)
    assert (keyspace.resident_keys, keyspace.dirty_keys, len(fields)) == (0, 0, 1)
    clock.advance_ms(2_000)
    for _ in range(100):
        keeper.expire(1_000_000_000)
        fields.end_due(keyspace, clock.wall_ms(), 100)
        forget(kept)
        if kept.keys == 3:
            break
    assert sorted(run("KEYS", "*")) == [b"h0", b"h1", b"large"]
    assert (run("HGETALL", "h0"), run("HGETALL", "h1")) == ([b"lasting", b"v"], [b"longer", b"v"])
    assert (run("HLEN", "large"), run("HPTTL", "h1", "FIELDS", 1, "longer")) == (598, [98_000])
    assert keeper.store.due(keyspace.store_id, clock.wall_ms(), 100) == []


def test_looking_at_all_keys_ends_those_that_are_over(kept: Engine, clock: ManualClock) -> None:
    run = runner(kept.connect())
    for number in range(50):
        run("SET", f"k{number}", "v", "PX", 1_000)
    run("SET", "lasting", "v")
    forget(kept)
    clock.advance_ms(1_000)
    assert len(run("KEYS", "*")) == run("DBSIZE") == 51
    forget(kept)
    clock.advance_ms(1)
    cursor, found = run("SCAN", 0, "COUNT", 20)
    assert (len(found), run("DBSIZE")) in ((0, 31), (1, 31), (0, 30))
    assert run("KEYS", "*") == [b"lasting"]
    assert run("DBSIZE") == 1
    assert cursor != b"0"


def test_a_scan_of_a_hash_tag_ends_though_more_comes_than_it_gives(kept: Engine) -> None:
    run = runner(kept.connect())
    staying = [b"{tag}:%d" % number for number in range(300)]
    run("MSET", *(word for key in staying for word in (key, b"v")))
    seen, cursor, steps = set(), b"0", 0
    while steps == 0 or cursor != b"0":
        cursor, found = run("SCAN", cursor, "COUNT", 50)
        seen.update(found)
        steps += 1
        # Most of it where the scan has been, or far ahead of it.
        run("MSET", *(word for number in range(60) for word in (b"{tag}:new:%d:%d" % (steps, number), b"v")))
        forget(kept)
    assert steps < 100
    assert seen >= set(staying)


def test_writers_wait_while_the_store_is_behind_and_readers_do_not(
    kept: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_GATHERED_BYTES_MAX", 100_000)
    kept.config.set([("rocksdb-cache-bytes", "1mb")])
    writer, reader = Session(kept), Session(kept)
    keeper, event = keeper_of(kept), Event()
    keeper.run_in_turn(lambda: event.wait(20) and None)
    assert writer.send("SET", "first", "v") == ["OK"]
    keeper.step()  # which cannot be written yet
    assert writer.send("SET", "large", "v" * 1_200_000) == ["OK"]
    keeper.step()
    assert writer.send("SET", "late", "v") == []
    assert reader.send("GET", "first") == [b"v"]
    event.set()
    assert keeper.write_back(sync=False)
    keeper.step()
    assert writer.received() == ["OK"]
    assert reader.send("GET", "late") == [b"v"]


def is_written(keeper: StoreKeeper, *deeds: Callable[[], object]) -> bool:
    """Whether something of what deeds change is written before time goes on."""
    before = keeper.commits
    for deed in deeds:
        deed()
    for _ in range(3):  # what a deed's own tick has begun, what was left, and what came of that
        if keeper._syncing is not None:
            keeper._syncing.result()
        keeper.step()
        keeper.run_in_turn(lambda: None).result()
    keeper.step()
    return keeper.commits > before


@pytest.mark.parametrize(("policy", "syncs"), [("everysec", 2), ("no", 0)])
def test_a_large_value_that_changes_on_and_on_is_not_written_each_time(
    kept: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, policy: str, syncs: int
) -> None:
    kept.config.set([("rocksdb-sync", policy)])
    run, keeper = runner(kept.connect()), keeper_of(kept)
    synced: list[None] = []
    monkeypatch.setattr(keeper.store, "sync", lambda: synced.append(None))
    started_ms = clock.wall_ms()
    run("SET", "large", "v" * 8_000_000)
    written = []
    for number in range(300):
        if is_written(keeper, partial(run, "SETRANGE", "large", number, "w"), partial(run, "SET", "small", number)):
            written.append(clock.wall_ms() - started_ms)
        clock.advance_ms(10)
    # Twice at once, and then about each quarter of a second, and before each sync.
    assert 10 <= len(written) <= 16, written
    assert len(synced) == syncs
    assert all(1000 * number in written for number in range(1, 1 + syncs)), written
    assert keeper.write_back(sync=False), "whoever needs it has it at once"
    forget(kept)
    assert (run("GETRANGE", "large", 298, 300), run("GET", "small")) == (b"wwv", b"299")


def test_large_values_are_put_off_for_no_sync_and_for_nobody_who_waits(kept: Engine) -> None:
    run, keeper = runner(kept.connect()), keeper_of(kept)
    assert is_written(keeper, partial(run, "SET", "large", "v" * 10_000_000))
    append = partial(run, "APPEND", "large", "w")
    assert is_written(keeper, append) and not is_written(keeper, append)
    assert is_written(keeper, lambda: kept.config.set([("rocksdb-sync", "always")]))
    kept.config.set([("rocksdb-sync", "everysec")])
    assert not is_written(keeper, append)
    assert is_written(keeper, lambda: keeper.when_synced(lambda: None))


def test_what_cannot_be_stored_refuses_writes_until_it_can(kept: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    run, keeper = runner(kept.connect()), keeper_of(kept)
    run("SET", "before", "v")
    real = os.write

    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    assert not keeper.write_back()
    with pytest.raises(CommandError) as refusal:
        run("SET", "refused", "v")
    assert refusal.value.message == "MISCONF Errors writing to RocksDB: No space left on device"
    assert run("GET", "before") == b"v"
    assert keeper.numbers()["last_write_status"] == 0
    monkeypatch.setattr(os, "write", real)
    assert keeper.write_back()
    assert run("SET", "after", "v") == "OK"
    forget(kept)
    assert (run("GET", "before"), run("DBSIZE")) == (b"v", 2)


def test_a_keeper_that_could_not_write_and_has_stopped_does_not_try_again(
    kept: Engine, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, keeper = runner(kept.connect()), keeper_of(kept)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(keeper.store.log, "append", fail)
    run("SET", "key", "v")
    assert not keeper.stop()
    clock.advance_ms(10_000)
    keeper.tick()
    assert keeper.commits == 0
