"""SAVE, BGSAVE, save points: when a snapshot is written, what is told of it, and what happens where it cannot be."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kora.clock import ManualClock
from kora.engine.engine import Engine
from kora.engine.loading import Loading
from kora.errors import CommandError
from kora.persist.files import Files
from kora.persist.saving import Saver
from kora.persist.snapshots import Snapshots
from tests.conftest import encode_request, runner
from tests.persist.contents import contents, load

Run = Callable[..., Any]

_MISCONF = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may"
    " modify the data set are disabled, because this instance is configured to report errors during writes if RDB"
    " snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB"
    " error."
)


class FaultyFiles(Files):
    """A disk that fails at the n-th call of a kind, once or from then on."""

    def __init__(self) -> None:
        self.fails_at = ""  # a call
        self.after = 0
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails_at:
            if self.after == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.after -= 1

    def create(self, path: str) -> int:
        self._call("create")
        return super().create(path)

    def write_some(self, descriptor: int, data: Any) -> int:
        self._call("write")
        return super().write_some(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        self._call("fsync")
        super().fsync(descriptor)

    def rename(self, source: str, target: str) -> None:
        self._call("rename")
        super().rename(source, target)


@pytest.fixture
def files() -> FaultyFiles:
    return FaultyFiles()


@pytest.fixture
def engine(make_saving: Callable[..., Engine], files: FaultyFiles) -> Engine:
    engine = make_saving()
    engine.saves = Snapshots(engine, Saver(engine, files))
    return engine


def finish(engine: Engine) -> None:
    """Let the background job do all it has to do."""
    engine.saves.step(0)  # begin, if it is due
    while info(engine)["rdb_bgsave_in_progress"] == "1":
        engine.saves.step(1 << 60)


def info(engine: Engine) -> dict[str, str]:
    text = runner(engine.connect())("INFO", "persistence")
    lines = (line.partition(":") for line in text.decode().splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def refused(run: Run, *words: object) -> str:
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


def test_save_writes_a_file_that_can_be_loaded(
    run: Run, engine: Engine, make_saving: Callable[..., Engine], tmp_path: Path
) -> None:
    run("MSET", "a", "1", "b", "x" * 100)
    run("SADD", "s", "m")
    assert run("SAVE") == "OK"
    found = make_saving()
    report = load(found, tmp_path / "dump.rdb")
    assert contents(found) == contents(engine)
    assert report.version == 10 and report.has_checksum
    assert report.about["redis-bits"] == "64" and report.about["aof-base"] == "0"
    assert [path.name for path in tmp_path.iterdir()] == ["dump.rdb"]


def test_bgsave_is_told_of_while_it_goes_on(run: Run, engine: Engine, clock: ManualClock) -> None:
    run("MSET", "a", "1", "b", "2")
    before = info(engine)
    assert before["rdb_changes_since_last_save"] == "2" and before["rdb_last_bgsave_time_sec"] == "-1"
    assert run("BGSAVE") == "Background saving started"
    clock.advance_ms(7000)
    run("SET", "c", "3")
    meanwhile = info(engine)
    assert meanwhile["rdb_bgsave_in_progress"] == "1" and meanwhile["rdb_current_bgsave_time_sec"] == "7"
    assert meanwhile["current_save_keys_total"] == "2" and meanwhile["current_save_keys_processed"] == "0"
    assert refused(run, "BGSAVE") == "ERR Background save already in progress"
    assert refused(run, "BGSAVE", "SCHEDULE") == "ERR Background save already in progress"
    assert refused(run, "SAVE") == "ERR Background save already in progress"
    finish(engine)
    after = info(engine)
    assert after["rdb_last_bgsave_status"] == "ok" and after["rdb_last_bgsave_time_sec"] == "7"
    assert after["rdb_current_bgsave_time_sec"] == "-1" and after["current_save_keys_total"] == "0"
    # What has changed while it was written is not in it.
    assert after["rdb_changes_since_last_save"] == "1"
    assert int(after["rdb_last_save_time"]) == run("LASTSAVE") == clock.wall_ms() // 1000


@pytest.mark.parametrize("words", [("LATER",), ("SCHEDULE", "NOW")])
def test_bgsave_takes_one_option(run: Run, words: tuple[str, ...]) -> None:
    assert refused(run, "BGSAVE", *words) == "ERR syntax error"


def test_bgsave_waits_for_what_else_is_written(run: Run, engine: Engine, tmp_path: Path) -> None:
    saver = engine.saves.saver  # type: ignore[attr-defined]
    saver.start(str(tmp_path / "base"), aof_base=True, done=lambda error: None)
    assert refused(run, "BGSAVE") == (
        "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule "
        "a BGSAVE whenever possible."
    )
    assert run("BGSAVE", "SCHEDULE") == "Background saving scheduled"
    while saver.has_work:
        engine.saves.step(1 << 60)
    finish(engine)
    assert {path.name for path in tmp_path.iterdir()} == {"base", "dump.rdb"}


def test_a_transaction_is_saved_as_a_whole(
    run: Run, engine: Engine, make_saving: Callable[..., Engine], tmp_path: Path
) -> None:
    run("MULTI")
    run("SET", "a", "1")
    run("BGSAVE")
    run("SET", "b", "2")
    assert run("EXEC") == ["OK", "Background saving scheduled", "OK"]
    finish(engine)
    found = make_saving()
    load(found, tmp_path / "dump.rdb")
    assert contents(found) == contents(engine)


def test_a_save_point_is_reached_by_time_and_changes(run: Run, engine: Engine, clock: ManualClock) -> None:
    run("CONFIG", "SET", "save", "100 2 10 50")
    run("SET", "a", "1")
    clock.advance_ms(101_000)
    finish(engine)
    assert info(engine)["rdb_saves"] == "0"
    run("SET", "a", "2")
    finish(engine)
    assert (info(engine)["rdb_saves"], info(engine)["rdb_changes_since_last_save"]) == ("1", "0")
    for number in range(50):
        run("SET", "a", number)
    finish(engine)
    assert info(engine)["rdb_saves"] == "1"
    clock.advance_ms(11_000)
    finish(engine)
    assert info(engine)["rdb_saves"] == "2"


def test_a_clock_that_is_set_back_does_not_stop_snapshots(run: Run, engine: Engine, clock: ManualClock) -> None:
    run("CONFIG", "SET", "save", "100 1")
    run("SET", "a", "1")
    clock.advance_ms(-3_600_000)
    finish(engine)
    assert info(engine)["rdb_saves"] == "1"


@pytest.mark.parametrize("call", ["create", "write", "fsync", "rename"])
def test_a_disk_that_fails_refuses_writes_until_it_is_well(
    run: Run, engine: Engine, files: FaultyFiles, clock: ManualClock, tmp_path: Path, call: str
) -> None:
    run("SET", "a", "1")
    run("SAVE")
    saved = (tmp_path / "dump.rdb").read_bytes()
    run("CONFIG", "SET", "save", "3600 1")
    run("SET", "a", "2")
    files.fails_at = call
    if call == "create":
        assert refused(run, "BGSAVE") == "ERR"
    else:
        run("BGSAVE")
        finish(engine)
    assert info(engine)["rdb_last_bgsave_status"] == "err"
    assert refused(run, "SET", "a", "3") == refused(run, "PING") == _MISCONF
    assert run("GET", "a") == b"2"
    assert (tmp_path / "dump.rdb").read_bytes() == saved
    while engine.saves.step(1 << 60):
        pass
    assert refused(run, "EVAL", "return redis.call('SET', 'a', '4')", 0).startswith(
        "MISCONF Redis is configured to save"
    )
    assert refused(run, "EVAL", "#!lua\nreturn 1", 0) == (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Writable "
        "scripts are blocked. Use 'no-writes' flag for read only scripts."
    )
    assert run("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == run("EVAL", "return 1", 0) == 1
    files.fails_at = ""
    run("BGSAVE")
    finish(engine)
    assert run("SET", "a", "5") == "OK" and run("PING") == "PONG"
    assert [path.name for path in tmp_path.iterdir()] == ["dump.rdb"]


def test_a_failed_snapshot_is_tried_again_after_five_seconds(
    run: Run, engine: Engine, files: FaultyFiles, clock: ManualClock
) -> None:
    run("SET", "a", "1")
    run("CONFIG", "SET", "save", "1 1")
    files.fails_at = "write"
    clock.advance_ms(3_000)
    finish(engine)
    assert (info(engine)["rdb_saves"], info(engine)["rdb_last_bgsave_status"]) == ("1", "err")
    files.fails_at = ""
    clock.advance_ms(4_000)
    finish(engine)
    assert info(engine)["rdb_saves"] == "1"
    clock.advance_ms(2_000)
    finish(engine)
    assert (info(engine)["rdb_saves"], info(engine)["rdb_last_bgsave_status"]) == ("2", "ok")
    assert run("SET", "a", "2") == "OK"


def test_writes_go_on_where_nobody_wants_snapshots_or_their_errors(
    run: Run, engine: Engine, files: FaultyFiles
) -> None:
    run("SET", "a", "1")
    files.fails_at = "create"
    assert refused(run, "BGSAVE") == "ERR"
    assert run("SET", "a", "2") == "OK"
    run("CONFIG", "SET", "save", "3600 1")
    assert refused(run, "SET", "a", "3") == _MISCONF
    run("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    assert run("SET", "a", "3") == "OK"


def test_flushall_gives_up_what_is_being_written_and_empties_the_file(
    run: Run, engine: Engine, make_saving: Callable[..., Engine], tmp_path: Path
) -> None:
    run("CONFIG", "SET", "save", "3600 1")
    run("SET", "a", "1")
    run("SAVE")
    run("BGSAVE")
    run("FLUSHALL")
    assert info(engine)["rdb_bgsave_in_progress"] == "0" and info(engine)["rdb_last_bgsave_status"] == "ok"
    found = make_saving()
    assert load(found, tmp_path / "dump.rdb").keys == 0


def test_flushdb_does_not_reach_what_is_being_written(
    run: Run, engine: Engine, make_saving: Callable[..., Engine], tmp_path: Path
) -> None:
    run("MSET", "a", "1", "b", "2")
    expected = contents(engine)
    run("BGSAVE")
    run("FLUSHDB", "SYNC")
    run("SET", "a", "3")
    finish(engine)
    found = make_saving()
    load(found, tmp_path / "dump.rdb")
    assert contents(found) == expected
    for shard in engine.shards:
        assert shard.lazyfree or not shard.stats.keys or shard.stats.keys == 1


def test_what_flushdb_took_away_is_freed_once_it_is_saved(run: Run, engine: Engine) -> None:
    run("SET", "a", "x" * 1000)
    used = engine.memory_bytes
    run("BGSAVE")
    run("FLUSHDB", "SYNC")
    finish(engine)
    run("FLUSHDB", "SYNC")  # frees what waits to be freed
    assert engine.memory_bytes < used - 900


def test_nothing_is_saved_while_data_is_being_loaded(run: Run, engine: Engine, clock: ManualClock) -> None:
    run("CONFIG", "SET", "save", "1 1")
    run("SET", "a", "1")
    clock.advance_ms(5_000)
    engine.set_loading(Loading(clock, 100))
    finish(engine)
    assert refused(run, "SAVE") == refused(run, "BGSAVE") == "LOADING Redis is loading the dataset in memory"
    engine.set_loading(None)
    assert info(engine)["rdb_saves"] == "0"


def test_shutdown_saves_if_there_are_save_points(run: Run, engine: Engine, tmp_path: Path) -> None:
    ends: list[bool] = []
    engine.shutdown = ends.append
    run("SET", "a", "1")
    client = engine.connect()
    for words, is_written in (((), False), (("SAVE",), True)):
        assert engine.execute(client, encode_request(("SHUTDOWN", *words))) == b""
        assert (tmp_path / "dump.rdb").exists() is is_written
    (tmp_path / "dump.rdb").unlink()
    run("CONFIG", "SET", "save", "3600 1")
    run("SET", "a", "2")
    engine.execute(client, encode_request(("SHUTDOWN", "NOSAVE")))
    assert not (tmp_path / "dump.rdb").exists()
    engine.execute(client, encode_request(("SHUTDOWN",)))
    assert (tmp_path / "dump.rdb").exists()
    assert ends == [False, True, False, True]


def test_shutdown_that_cannot_save_goes_on_serving(run: Run, engine: Engine, files: FaultyFiles) -> None:
    ends: list[bool] = []
    engine.shutdown = ends.append
    run("SET", "a", "1")
    files.fails_at = "write"
    assert refused(run, "SHUTDOWN", "SAVE") == "ERR Errors trying to SHUTDOWN. Check logs."
    assert run("PING") == "PONG" and not ends
    engine.execute(engine.connect(), encode_request(("SHUTDOWN", "SAVE", "FORCE")))
    assert ends == [True]


def test_shutdown_does_not_wait_for_what_is_written_in_the_background(run: Run, engine: Engine, tmp_path: Path) -> None:
    engine.shutdown = lambda saves: None
    run("SET", "a", "1")
    run("BGSAVE")
    run("SET", "a", "2")
    engine.execute(engine.connect(), encode_request(("SHUTDOWN", "SAVE")))
    assert (tmp_path / "dump.rdb").exists() and info(engine)["rdb_bgsave_in_progress"] == "0"


@pytest.mark.parametrize(("flags", "version"), [((), 10), (("--rdb-version", "11"), 11)])
def test_the_version_is_the_one_that_is_set(
    make_saving: Callable[..., Engine], tmp_path: Path, flags: tuple[str, ...], version: int
) -> None:
    engine = make_saving(*flags)
    run = runner(engine.connect())
    run("SADD", "s", "a", "b")
    run("XADD", "x", "1-1", "f", "v")
    run("XGROUP", "CREATE", "x", "g", "0")
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
    run("SAVE")
    found = make_saving()
    assert load(found, tmp_path / "dump.rdb").version == version
    assert contents(found) == contents(engine)


def test_fields_that_end_make_it_version_12(
    run: Run, engine: Engine, make_saving: Callable[..., Engine], tmp_path: Path
) -> None:
    run("HSET", "h", "f", "1", "g", "2")
    run("HPEXPIRE", "h", 60_000, "FIELDS", 1, "f")
    run("SAVE")
    found = make_saving()
    assert load(found, tmp_path / "dump.rdb").version == 12
    assert contents(found) == contents(engine)


def test_a_damaged_disk_leaves_no_half_file_behind(
    run: Run, engine: Engine, files: FaultyFiles, tmp_path: Path
) -> None:
    run("SET", "a", "1")
    files.fails_at = "fsync"
    assert refused(run, "SAVE") == "ERR"
    assert list(tmp_path.iterdir()) == []
    assert files.calls[-1] == "fsync"
