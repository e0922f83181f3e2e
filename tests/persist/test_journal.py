"""The journal on files: what was changed is there when an engine begins with them, whatever the disk does meanwhile."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kora.engine.engine import Engine
from kora.errors import CommandError
from kora.persist import journal_writer
from kora.persist.files import Data, Files
from kora.persist.journal import JournalKeeper
from kora.persist.journal_files import Manifest, read_records
from kora.persist.recovery import CannotRecover, recover
from kora.persist.saving import Saver
from kora.persist.snapshots import Snapshots
from tests.conftest import encode_request, runner

_WAIT_S = 10


@pytest.fixture(autouse=True)
def in_less_than_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_writer, "SYNC_NS", 10_000_000)
    monkeypatch.setattr(journal_writer, "_RETRY_S", 0.01)


class FaultyFiles(Files):
    """Files of a disk that can be full, or fail."""

    def __init__(self) -> None:
        self.room_bytes = 1 << 40
        self.sync_error = 0
        self.syncs = 0

    def write_some(self, descriptor: int, data: Data) -> int:
        if not self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = memoryview(data)[: self.room_bytes]
        self.room_bytes -= len(part)
        return super().write_some(descriptor, part)

    def fdatasync(self, descriptor: int) -> None:
        if self.sync_error:
            raise OSError(self.sync_error, os.strerror(self.sync_error))
        self.syncs += 1
        super().fdatasync(descriptor)


class Server:
    """An engine with its journal, and a client."""

    def __init__(self, engine: Engine, files: Files | None = None) -> None:
        self.engine = engine
        saver = Saver(engine)
        engine.saves = Snapshots(engine, saver)
        self._later: list[Callable[[], None]] = []
        engine.call_later = lambda _, function: self._later.append(function)
        self.logged: list[tuple[str, dict[str, object]]] = []
        engine.log = lambda _, message, **fields: self.logged.append((message, fields))
        self.keeper = engine.journal.keeper = JournalKeeper(engine, saver, files)
        try:
            for _ in recover(engine, self.keeper):
                pass
        except CannotRecover:
            self.stop()
            raise
        self.client = engine.connect("127.0.0.1:50000", "127.0.0.1:6379")
        self.run = runner(self.client)

    def turn(self) -> None:
        """What the loop does between requests."""
        self.engine.clock.advance_ms(50)
        later, self._later[:] = self._later[:], []
        for function in later:
            function()
        self.engine.tick()
        self.engine.saves.step(1_000_000)

    def until(self, condition: Callable[[], object]) -> None:
        stop = time.monotonic() + _WAIT_S
        while not condition():
            assert time.monotonic() < stop, self.logged
            self.turn()
            time.sleep(0.001)

    def stop(self) -> None:
        self.keeper.stop()

    def persistence(self) -> dict[str, str]:
        text = self.run("INFO", "persistence").decode()
        return dict(line.split(":") for line in text.splitlines() if ":" in line)


@pytest.fixture
def start(make_engine: Callable[..., Engine], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers = []

    def start_one(*flags: str, files: Files | None = None) -> Server:
        server = Server(make_engine("--dir", str(tmp_path), "--appendonly", "yes", "--save", "", *flags), files)
        servers.append(server)
        return server

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "appendonlydir"


def journaled(directory: Path) -> list[bytes]:
    """The commands of all increments, their words joined, without SELECT."""
    manifest = Manifest.parse((directory / "appendonly.aof.manifest").read_bytes())
    records = [record for file in manifest.increments for record in read_records((directory / file.name).read_bytes())]
    return [b" ".join(record.argv) for record in records if record.argv and record.argv[0] != b"SELECT"]


def fill(server: Server) -> None:
    server.run("SET", "k", "v")
    server.run("SET", "t", "v", "PX", "100000")
    server.run("RPUSH", "l", "1", "2", "3")
    server.run("SELECT", "3")
    server.run("HSET", "h", "f", "1")
    server.run("SELECT", "0")


def contents_of(server: Server) -> list[Any]:
    server.run("SELECT", "3")
    field = server.run("HGET", "h", "f")
    server.run("SELECT", "0")
    return [field, server.run("GET", "k"), server.run("PEXPIRETIME", "t"), server.run("LRANGE", "l", "0", "-1")]


def test_what_was_changed_is_there_after_a_restart(start):
    first = start()
    fill(first)
    first.stop()
    second = start()
    assert contents_of(second) == contents_of(first)
    assert contents_of(second)[0] == b"1"


def test_the_data_is_that_of_the_snapshot_when_the_journal_is_turned_on(start, make_engine, tmp_path):
    before = Server(make_engine("--dir", str(tmp_path), "--save", "900 1"))
    before.run("SET", "k", "v")
    before.run("SAVE")
    server = start()
    assert server.run("GET", "k") == b"v"
    server.stop()
    (tmp_path / "dump.rdb").unlink()
    assert start().run("GET", "k") == b"v"


def test_an_append_only_file_of_earlier_versions_of_redis_is_taken_over(start, tmp_path):
    (tmp_path / "appendonly.aof").write_bytes(encode_request(("SELECT", 0)) + encode_request(("SET", "k", "v")))
    server = start()
    server.run("SET", "k2", "v")
    server.stop()
    (tmp_path / "appendonly.aof").unlink()
    assert start().run("MGET", "k", "k2") == [b"v", b"v"]


def test_what_redis_trimmed_by_about_is_replayed_as_it_wrote_it_down(start, tmp_path):
    """It puts = in the place of ~, and leaves the LIMIT, which it takes from no client without ~."""
    adds = [encode_request(("XADD", "s", "MAXLEN", "=", "2", "LIMIT", "1", f"{n}-1", "f", "v")) for n in range(1, 6)]
    (tmp_path / "appendonly.aof").write_bytes(encode_request(("SELECT", 0)) + b"".join(adds))
    server = start()
    assert server.run("XLEN", "s") == 2
    with pytest.raises(CommandError, match="LIMIT cannot be used without the special ~ option"):
        server.run("XTRIM", "s", "MAXLEN", "=", "1", "LIMIT", "1")


def test_a_rewrite_leaves_a_base_and_what_came_after(start, directory):
    server = start()
    fill(server)
    assert server.run("BGREWRITEAOF") == "Background append only file rewriting started"
    server.run("SET", "after", "1")
    server.until(lambda: server.persistence()["aof_rewrite_in_progress"] == "0")
    server.until(server.keeper.is_synced)
    assert journaled(directory) == [b"SET after 1"]
    assert sorted(path.name for path in directory.iterdir()) == [
        "appendonly.aof.1.base.rdb", "appendonly.aof.2.incr.aof", "appendonly.aof.manifest",
    ]  # fmt: skip
    server.stop()
    second = start()
    assert contents_of(second) == contents_of(server) and second.run("GET", "after") == b"1"


def test_a_journal_that_has_grown_is_rewritten_by_itself(start):
    server = start("--auto-aof-rewrite-min-size", "1000")
    for _ in range(100):
        server.run("SET", "k", "x" * 20)
    server.until(lambda: server.persistence()["aof_rewrites"] == "1")
    assert server.persistence()["aof_last_bgrewrite_status"] == "ok"


def test_the_journal_is_turned_off_and_on_while_the_server_runs(start, directory):
    server = start()
    server.run("SET", "a", "1")
    server.run("CONFIG", "SET", "appendonly", "no")
    server.run("SET", "b", "1")
    assert journaled(directory) == [b"SET a 1"]
    server.run("CONFIG", "SET", "appendonly", "yes")
    server.run("SET", "c", "1")
    server.until(lambda: server.persistence()["aof_rewrite_in_progress"] == "0")
    server.stop()
    assert start().run("MGET", "a", "b", "c") == [b"1", b"1", b"1"]


def test_a_torn_end_is_cut_at_the_last_whole_command_and_reported(start, directory):
    server = start()
    server.run("SET", "a", "1")
    server.run("MULTI")
    server.run("SET", "b", "1")
    server.run("SET", "c", "1")
    server.run("EXEC")
    server.stop()
    path = directory / "appendonly.aof.1.incr.aof"
    data = path.read_bytes()
    for stop in range(len(data) - 1, data.index(b"MULTI") - 9, -5):
        path.write_bytes(data[:stop])
        second = start()
        second.stop()
        assert second.run("EXISTS", "a", "b", "c") == 1
        assert path.read_bytes() == data[: data.index(b"*1\r\n$5\r\nMULTI")]
        if stop > len(path.read_bytes()):
            [cut] = [fields for message, fields in second.logged if message == "journal cut"]
            assert cut["offset"] == len(path.read_bytes()) and cut["cut_bytes"] == stop - len(path.read_bytes())


def test_an_end_of_zeros_is_cut(start, directory):
    server = start()
    server.run("SET", "a", "1")
    server.stop()
    path = directory / "appendonly.aof.1.incr.aof"
    data = path.read_bytes()
    path.write_bytes(data + bytes(5000))
    assert start().run("GET", "a") == b"1"
    assert path.read_bytes() == data


def test_a_torn_end_is_refused_where_that_is_wanted(start, directory):
    server = start()
    server.run("SET", "a", "1")
    server.stop()
    path = directory / "appendonly.aof.1.incr.aof"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CannotRecover, match=r"at byte 23: .*kora check"):
        start("--aof-load-truncated", "no")


@pytest.mark.parametrize(
    "change", [(b"$1\r\na", b"$9999\r\na"), (b"*3", b"+3"), (b"SET", b"S\rT"), (b"$3", b"$2"), (b"$1\r\n1", b"$0\r\n1")]
)
def test_damage_in_the_middle_is_refused_with_its_offset(start, directory, change):
    server = start()
    for key in "abc":
        server.run("SET", key, "1")
    server.stop()
    path = directory / "appendonly.aof.1.incr.aof"
    damaged = path.read_bytes().replace(*change, 1)
    path.write_bytes(damaged)
    with pytest.raises(CannotRecover, match=r"at byte (23|47): "):
        start()
    assert path.read_bytes() == damaged


def test_a_command_that_fails_when_it_is_replayed_is_refused(start, directory):
    server = start()
    server.run("SET", "a", "v")
    server.run("SADD", "s", "1")
    server.stop()
    path = directory / "appendonly.aof.1.incr.aof"
    path.write_bytes(path.read_bytes().replace(b"$1\r\ns\r\n", b"$1\r\na\r\n"))
    with pytest.raises(CannotRecover, match="at byte 50: SADD: WRONGTYPE"):
        start()


def test_keys_do_not_end_while_the_journal_is_loaded(start, clock):
    server = start()
    server.run("SET", "n", "5", "PX", "1000")
    server.run("INCR", "n")
    server.stop()
    clock.advance_ms(5000)
    second = start()
    assert second.run("GET", "n") is None
    second.run("INCR", "n")
    second.stop()
    assert start().run("TTL", "n") == -1


def test_a_full_disk_has_writes_refused_until_there_is_room(start, directory):
    files = FaultyFiles()
    server = start(files=files)
    server.run("SET", "a", "1")
    server.until(server.keeper.is_synced)
    files.room_bytes = 10
    server.run("SET", "b", "1")
    server.until(lambda: server.engine.disk_faults)
    for words in (("SET", "c", "1"), ("PING",)):
        with pytest.raises(CommandError, match="MISCONF Errors writing to the AOF file: No space left on device"):
            server.run(*words)
    assert server.run("GET", "b") == b"1"
    assert server.persistence()["aof_last_write_status"] == "err"
    files.room_bytes = 1 << 40
    server.until(lambda: not server.engine.disk_faults)
    server.run("SET", "c", "1")
    server.stop()
    assert journaled(directory) == [b"SET a 1", b"SET b 1", b"SET c 1"]


def test_what_a_failed_sync_leaves_in_doubt_is_written_again(start, directory):
    files = FaultyFiles()
    server = start(files=files)
    server.run("SET", "a", "1")
    server.until(server.keeper.is_synced)
    files.sync_error = errno.EIO
    server.run("SET", "b", "1")
    server.until(lambda: server.engine.disk_faults)
    with pytest.raises(CommandError, match="MISCONF Errors writing to the AOF file: Input/output error"):
        server.run("SET", "c", "1")
    files.sync_error = 0
    server.until(lambda: not server.engine.disk_faults)
    server.stop()
    assert journaled(directory) == [b"SET a 1", b"SET b 1"]


class Socket:
    """What a receiver writes to."""

    def __init__(self, server: Server) -> None:
        self.sent: list[bytes] = []
        self.is_cut = False
        self.client = server.engine.connect("127.0.0.1:50001", "127.0.0.1:6379")
        self.client.disconnect = self._cut
        self.receiver = server.engine.make_receiver()
        self.receiver.bind(self.client, self.sent.append, lambda: None, lambda: 0, -1)

    def send(self, *words: object) -> None:
        self.receiver.receive(encode_request(words))

    def _cut(self) -> None:
        self.is_cut = True


def test_with_always_replies_wait_for_one_sync_of_all(start):
    files = FaultyFiles()
    server = start("--appendfsync", "always", files=files)
    sockets = [Socket(server) for _ in range(5)]
    files.syncs = 0
    for socket in sockets:
        socket.send("SET", "k", "v")
        socket.send("GET", "k")
    assert not any(socket.sent for socket in sockets)
    server.until(lambda: all(len(socket.sent) == 2 for socket in sockets))
    assert [socket.sent for socket in sockets] == [[b"+OK\r\n", b"$1\r\nv\r\n"]] * 5
    assert files.syncs == 1
    sockets[0].send("GET", "k")
    assert len(sockets[0].sent) == 3  # nothing waits


def test_with_always_nothing_is_acknowledged_that_could_not_be_synced(start):
    files = FaultyFiles()
    server = start("--appendfsync", "always", files=files)
    socket, other = Socket(server), Socket(server)
    files.sync_error = errno.EIO
    socket.send("SET", "k", "v")
    server.until(lambda: socket.is_cut)
    assert not socket.sent
    other.send("SET", "k", "v")
    assert other.sent[0].startswith(b"-MISCONF")
    files.sync_error = 0
    server.until(lambda: not server.engine.disk_faults)


def test_waitaof_waits_for_the_sync(start, connect):
    server = start()
    files_synced = server.keeper.is_synced
    session = Socket(server)
    server.until(files_synced)
    session.send("SET", "k", "v")
    session.client.deliver = session.receiver.send
    session.send("WAITAOF", 1, 0, 0)
    server.until(lambda: len(session.sent) == 2)
    assert session.sent[1] == b"*2\r\n:1\r\n:0\r\n" and files_synced()
    assert server.run("WAITAOF", 1, 0, 0) == [1, 0]


def test_times_are_in_the_journal_where_that_is_wanted(start, directory):
    server = start("--aof-timestamp-enabled", "yes")
    server.run("SET", "k", "v")
    server.stop()
    [first, *_] = read_records((directory / "appendonly.aof.1.incr.aof").read_bytes())
    assert first.timestamp_s == 1_700_000_000
    assert start("--aof-timestamp-enabled", "yes").run("GET", "k") == b"v"


def test_a_vanished_file_is_noticed_and_the_journal_written_anew(start, directory):
    server = start()
    server.run("SET", "k", "v")
    server.until(server.keeper.is_synced)
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    server.run("SET", "k2", "v")
    server.until(lambda: server.persistence()["aof_rewrites"] == "1")
    server.until(lambda: not server.engine.disk_faults)
    server.stop()
    assert start().run("MGET", "k", "k2") == [b"v", b"v"]


def test_debug_loadaof_has_the_data_that_is_in_the_files(start):
    server = start()
    fill(server)
    before = contents_of(server)
    server.engine.databases[0].delete(b"k")  # behind the journal's back
    assert server.run("DEBUG", "LOADAOF") == "OK"
    assert contents_of(server) == before
    server.run("SET", "after", "1")
    server.stop()
    assert start().run("GET", "after") == b"1"
