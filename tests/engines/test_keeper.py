"""Writing back, from the requests' side: who waits, who is refused, and what ends by itself."""

import errno
import os
from collections.abc import Callable
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


def written_by(keeper: StoreKeeper) -> int:
    """Batches that a step writes, wholly: 0 or 1."""
    before = keeper.commits
    keeper.step()
    keeper.run_in_turn(lambda: None).result()
    keeper.step()
    return keeper.commits - before


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
        run("SETRANGE", "large", number, "w")
        run("SET", "small", number)
        written += [clock.wall_ms() - started_ms] * written_by(keeper)
        clock.advance_ms(10)
    # Twice at once, and then about each quarter of a second, and before each sync.
    assert 10 <= len(written) <= 16, written
    assert len(synced) == syncs
    assert all(1000 * number in written for number in range(1, 1 + syncs)), written
    assert keeper.write_back(sync=False), "whoever needs it has it at once"
    forget(kept)
    assert (run("GETRANGE", "large", 298, 300), run("GET", "small")) == (b"wwv", b"299")


def test_large_values_are_put_off_for_no_sync_and_for_nobody_who_waits(kept: Engine, clock: ManualClock) -> None:
    run, keeper = runner(kept.connect()), keeper_of(kept)
    run("SET", "large", "v" * 10_000_000)
    clock.advance_ms(1_000)
    for byte in "ab":
        run("APPEND", "large", byte)
        assert written_by(keeper) == 1
    for byte in "cd":
        run("APPEND", "large", byte)
        assert written_by(keeper) == 0
        if byte == "c":
            kept.config.set([("rocksdb-sync", "always")])
        else:
            keeper.when_synced(lambda: None)
        assert written_by(keeper) == 1
        kept.config.set([("rocksdb-sync", "everysec")])


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
