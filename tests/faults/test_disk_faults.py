"""A disk that fails: writes are refused in Redis' words until it is well again, and nothing answered is lost."""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.kora_process import KoraProcess, eventually
from tests.faults.crashes import Server, Subject
from tests.faults.fault_layer import FaultLayer
from tests.faults.power_cut import Survival, cut_power

JOURNAL: Final = ("--save", "", "--appendonly", "yes", "--appendfsync")
SNAPSHOTS: Final = ("--save", "3600 1")
NO_SNAPSHOT: Final = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that "
    "may modify the data set are disabled, because this instance is configured to report errors during writes if RDB "
    "snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    "error."
)
MOUNT_REMEDY: Final = "run the suite as root, in a container with --cap-add SYS_ADMIN for instance"

Start = Callable[..., "Life"]


class Life:
    """A server on a fault layer, and what it has answered with OK."""

    def __init__(self, layer: FaultLayer, *flags: str) -> None:
        self.layer = layer
        self.subject = Subject("kora", flags)
        self.answered: list[int] = []
        self.number = 0
        self.start()

    def start(self) -> None:
        self.layer.forget()
        self.server = Server(self.subject, self.layer)
        self.server.wait_until_loaded()
        self.line = self.server.connect()

    def run(self, *words: str) -> Any:
        return self.line.run(*(word.encode() for word in words))

    def info(self, field: str) -> str:
        lines = self.run("INFO", "persistence").decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if ":" in line)[field]

    def write(self) -> Any:
        """One more write, of a key of its own; counted where it is answered with OK."""
        self.number += 1
        reply = self.run("SET", f"k{self.number}", "v" * 50)
        if reply == b"OK":
            self.answered.append(self.number)
        return reply

    def write_until_refused(self) -> str:
        return str(eventually(lambda: reply if (reply := self.write()) != b"OK" else None, "a write is refused"))

    def write_until_answered(self) -> None:
        eventually(lambda: self.write() == b"OK", "writes are answered again")

    def wait_until_written(self) -> None:
        """Have the operating system know everything that was answered so far, which a kill does not take."""
        word = b"k%d\r\n" % self.answered[-1]
        eventually(
            lambda: any(word in path.read_bytes() for path in self.layer.data.rglob("*.incr.aof")),
            "the last write is in the journal",
        )

    def reconnect(self) -> None:
        self.line.socket.close()
        self.line = self.server.connect()

    def die(self) -> None:
        self.line.socket.close()
        self.server.kill()

    def assert_all_there(self) -> None:
        replies = self.line.pipeline([(b"GET", b"k%d" % number) for number in self.answered])
        lost = [number for number, reply in zip(self.answered, replies, strict=True) if reply != b"v" * 50]
        assert not lost, f"{len(lost)} of {len(self.answered)} answered writes are lost: {lost[:20]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    lives: list[Life] = []

    def make(*flags: str) -> Life:
        lives.append(Life(FaultLayer(tmp_path / f"server-{len(lives)}"), *flags))
        if not lives[-1].layer.was_loaded():
            pytest.skip("THE SERVER HAS NO FAULTY DISK: something drops LD_PRELOAD")
        return lives[-1]

    yield make
    for life in lives:
        life.die()


def test_a_journal_that_cannot_be_written_or_synced_refuses_writes_until_it_can(start: Start) -> None:
    life = start(*JOURNAL, "everysec")
    for kind, error in (("write", errno.EIO), ("write", errno.ENOSPC), ("sync", errno.EIO)):
        life.write_until_answered()
        with life.layer.failing(kind, error=error):
            refusal = life.write_until_refused()
            assert refusal == f"MISCONF Errors writing to the AOF file: {os.strerror(error)}"
            assert life.info("aof_last_write_status") == "err"
            assert life.run("PING") != b"PONG", "Redis refuses PING as well, which is how a load balancer learns of it"
            assert life.run("GET", "k1") == b"v" * 50
        life.write_until_answered()
        assert life.info("aof_last_write_status") == "ok"
    life.wait_until_written()
    life.die()
    life.start()
    life.assert_all_there()


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_a_full_disk_leaves_no_part_of_a_command_in_the_journal(start: Start, policy: str) -> None:
    life = start(*JOURNAL, policy)
    for room_bytes in (333, 90):
        life.write_until_answered()
        life.layer.control.room_bytes = room_bytes
        try:
            assert life.write_until_refused() == "MISCONF Errors writing to the AOF file: No space left on device"
        except ConnectionError:
            assert policy == "always"
        life.layer.heal()
        life.reconnect()
    life.write_until_answered()
    life.wait_until_written()
    life.die()
    life.start()
    life.assert_all_there()


def test_under_always_nothing_is_answered_that_could_not_be_synced(start: Start) -> None:
    """redis-server ends there; Kora closes the connections that wait for the journal, and goes on."""
    life = start(*JOURNAL, "always")
    for kind, error in (("write", errno.EIO), ("sync", errno.EIO)):
        life.write_until_answered()
        with life.layer.failing(kind, error=error):
            with contextlib.suppress(ConnectionError):  # nobody will ever know of that write
                life.write_until_refused()
            life.reconnect()
            assert life.write_until_refused() == "MISCONF Errors writing to the AOF file: Input/output error"
    life.write_until_answered()
    life.die()
    cut_power(life.layer, random.Random(1), Survival.NOTHING)
    life.start()
    life.assert_all_there()


@pytest.mark.once
def test_a_snapshot_that_fails_leaves_the_last_one_and_refuses_writes_until_one_succeeds(start: Start) -> None:
    life = start(*SNAPSHOTS)
    life.write_until_answered()
    assert life.run("SAVE") == b"OK"
    for kind in ("open", "write", "sync", "rename", "sync-directory"):
        life.write_until_answered()
        snapshot = (life.layer.data / "dump.rdb").read_bytes()
        with life.layer.failing(kind, error=errno.EROFS if kind == "open" else errno.ENOSPC):
            assert str(life.run("SAVE")).startswith("ERR"), kind
            life.run("BGSAVE")
            eventually(lambda: life.info("rdb_bgsave_in_progress") == "0", "BGSAVE ends")
            assert life.info("rdb_last_bgsave_status") == "err", kind
            assert str(life.write()) == NO_SNAPSHOT
            assert life.run("GET", "k1") == b"v" * 50
        if kind != "sync-directory":  # by then it is there, though it may not stay
            assert (life.layer.data / "dump.rdb").read_bytes() == snapshot, kind
        assert [path.name for path in life.layer.data.iterdir()] == ["dump.rdb"], kind
        assert life.run("BGSAVE") == b"Background saving started"
        life.write_until_answered()
        assert life.info("rdb_last_bgsave_status") == "ok"
    assert life.run("SAVE") == b"OK"
    life.die()
    life.start()
    life.assert_all_there()


@pytest.mark.once
def test_a_read_only_directory_stops_rewrites_and_not_the_journal(start: Start) -> None:
    life = start(*JOURNAL, "always")
    life.write_until_answered()
    with life.layer.failing("open", "rename", "unlink", error=errno.EROFS):
        life.run("BGREWRITEAOF")
        life.write_until_answered()
        eventually(lambda: life.info("aof_rewrite_in_progress") == "0", "the rewrite ends")
        life.write_until_answered()
    life.die()
    life.start()
    life.assert_all_there()
    life.run("BGREWRITEAOF")
    life.write_until_answered()
    eventually(
        lambda: life.info("aof_rewrite_in_progress") == "0" and life.info("aof_last_bgrewrite_status") == "ok",
        "a rewrite succeeds",
    )
    life.die()
    life.start()
    life.assert_all_there()


@pytest.mark.once
def test_a_directory_that_is_gone_stops_snapshots_in_the_same_words(start: Start) -> None:
    life = start(*SNAPSHOTS)
    life.write_until_answered()
    shutil.rmtree(life.layer.data)
    life.run("BGSAVE")
    eventually(lambda: life.info("rdb_last_bgsave_status") == "err", "BGSAVE fails")
    assert str(life.write()) == NO_SNAPSHOT
    assert str(life.run("SAVE")).startswith("ERR")
    life.layer.data.mkdir()


@pytest.mark.once
def test_a_server_does_not_start_where_there_is_no_directory(tmp_path: Path) -> None:
    layer = FaultLayer(tmp_path)
    layer.data.rmdir()
    server = Server(Subject("kora", SNAPSHOTS), layer)
    try:
        assert server.process.wait(20) == 1
    finally:
        server.kill()
    assert "No such file or directory" in server.log.read_text() and str(layer.data) in server.log.read_text()


def test_a_clock_that_steps_back_stops_no_sync_and_no_expiry(start: Start) -> None:
    life = start(*JOURNAL, "everysec")
    first = life.run("XADD", "stream", "*", "f", "v")
    life.write_until_answered()
    life.layer.control.clock_offset_ns = -3_600_000_000_000
    life.write_until_answered()
    assert life.run("SET", "brief", "v", "PX", "40") == b"OK"
    second = life.run("XADD", "stream", "*", "f", "v")
    assert int(second.partition(b"-")[0]) == int(first.partition(b"-")[0]), "ids go on from the last one"
    eventually(lambda: life.run("GET", "brief") is None, "a key expires by the clock that there is")
    life.write_until_answered()
    life.wait_until_written()
    synced = len(life.layer.trace.read_text().split("synced\t"))
    eventually(lambda: len(life.layer.trace.read_text().split("synced\t")) > synced, "the journal is synced")
    life.die()
    cut_power(life.layer, random.Random(1), Survival.NOTHING)
    life.layer.control.clock_offset_ns = 0
    life.start()
    life.assert_all_there()
    assert life.run("XLEN", "stream") == 2 and life.run("EXISTS", "brief") == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB that is really there."""
    path = tmp_path / "small"
    path.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], env=environ, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"NO DISK CAN BE MOUNTED, so a full one was not tested: {made.stderr.strip()}; {MOUNT_REMEDY}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], env=environ, check=True)


@pytest.mark.once
def test_a_disk_that_is_really_full_refuses_writes_until_there_is_room(
    start_server: Callable[..., KoraProcess], small_disk: Path
) -> None:
    flags = (*JOURNAL, "everysec", "--save", "3600 1", "--dir", str(small_disk))
    kora = start_server(*flags)
    kora.may_log_errors = True
    ballast = small_disk / "ballast"
    answered = []
    with kora.connect() as wire:

        def write() -> Any:
            reply = wire.run("SET", f"k{len(answered)}", "v" * 1000)
            if reply == b"OK":
                answered.append(f"k{len(answered)}")
            return reply

        def fill() -> None:
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(1 << 16)):
                    pass

        for _ in range(2):
            eventually(lambda: write() == b"OK", "writes are answered")
            fill()
            refusal = eventually(lambda: reply if (reply := write()) != b"OK" else None, "a write is refused")
            assert str(refusal) == "MISCONF Errors writing to the AOF file: No space left on device"
            wire.run("BGSAVE")
            eventually(lambda: b"rdb_last_bgsave_status:err" in wire.run("INFO", "persistence"), "BGSAVE fails")
            ballast.unlink()
            eventually(lambda: wire.run("BGSAVE") == b"Background saving started", "BGSAVE starts")
            eventually(lambda: b"rdb_last_bgsave_status:ok" in wire.run("INFO", "persistence"), "BGSAVE succeeds")
        eventually(lambda: write() == b"OK", "writes are answered")
        eventually(
            lambda: any(answered[-1].encode() in path.read_bytes() for path in small_disk.rglob("*.incr.aof")),
            "the last write is in the journal",
        )
    kora.signal(signal.SIGKILL)
    kora.wait()
    kora = start_server(*flags)
    with kora.connect() as wire:
        assert wire.run("EXISTS", *answered) == len(answered)
    assert {path.name for path in small_disk.iterdir()} == {"appendonlydir", "dump.rdb"}
    kora.stop()
