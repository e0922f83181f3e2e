"""RocksDB under the keys when its files fail while it runs: what can be served is, and the rest is told."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kora_process import KoraProcess, eventually
from tests.faults.crashes import Line, Server, Subject
from tests.faults.fault_layer import FaultLayer
from tests.faults.power_cut import Survival, cut_power

pytest.importorskip("rocksdict")
pytestmark = pytest.mark.once

ROCKSDB = ("--storage-engine", "rocksdb", "--save", "")
# As little in memory as there may be.
SMALL = (*ROCKSDB, "--rocksdb-cache-bytes", "1mb", "--rocksdb-block-cache-bytes", "1mb")
KEYS = 4_000
BRIEF_KEYS = 1_000
VALUE = b"v" * 1_000

Run = Callable[..., Any]


def info(run: Run) -> dict[str, str]:
    lines = run("INFO", "rocksdb").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def finding(run: Run, name: str) -> dict[str, Any] | None:
    found = json.loads(run("DOCTOR", "JSON"))["findings"]
    return next((finding for finding in found if finding["id"] == name), None)


class Life:
    """A server on a disk that can be full, and what it has answered with OK."""

    def __init__(self, layer: FaultLayer, sync: str) -> None:
        self.layer = layer
        self.sync = sync
        self.answered = 0
        self.start()
        if not self.layer.was_loaded():
            self.die()
            pytest.skip("THE SERVER HAS NO FAULTY DISK: something drops LD_PRELOAD")

    def reconnect(self) -> None:
        self.line.socket.close()
        self.line = self.server.connect()

    def die(self) -> None:
        self.line.socket.close()
        self.server.kill()

    def start(self) -> None:
        self.layer.forget()
        self.server = Server(Subject("kora", (*ROCKSDB, "--rocksdb-sync", self.sync)), self.layer)
        self.server.wait_until_loaded()
        self.line: Line = self.server.connect()

    def run(self, *words: str) -> Any:
        return self.line.run(*(word.encode() for word in words))

    def write(self) -> str:
        """One more; returns why not, or nothing."""
        try:
            reply = self.line.run(b"SET", b"k%d" % self.answered, VALUE)
        except ConnectionError:
            # It waited to be synced, and nobody knows whether it is.
            self.reconnect()
            return ""
        if reply != b"OK":
            return str(reply)
        self.answered += 1
        return ""

    def write_some(self) -> None:
        wanted = self.answered + 10
        eventually(lambda: self.write() == "" and self.answered >= wanted, "writes are answered")

    def assert_all_there(self) -> None:
        replies = self.line.pipeline([(b"GET", b"k%d" % number) for number in range(self.answered)])
        assert replies == [VALUE] * self.answered


def test_a_full_disk_refuses_writes_until_there_is_room_and_loses_nothing(tmp_path: Path) -> None:
    life = Life(FaultLayer(tmp_path), "always")
    try:
        life.write_some()
        life.layer.control.room_bytes = 50_000
        refusal = eventually(life.write, "a write is refused")
        assert refusal.startswith("MISCONF") and "No space left on device" in refusal
        assert life.run("GET", "k0") == VALUE
        assert int(info(life.run)["commit_errors"]) > 0
        found = eventually(lambda: finding(life.run, "storage-errors"), "DOCTOR finds it")
        assert found["severity"] == "critical" and found["evidence"]["numbers"]["failed_commits"] > 0
        life.layer.heal()
        life.write_some()
        life.die()
        life.start()
        life.assert_all_there()
    finally:
        life.die()


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_a_log_that_cannot_be_written_or_synced_refuses_writes_until_it_can(tmp_path: Path, policy: str) -> None:
    life = Life(FaultLayer(tmp_path), policy)
    try:
        for kind in ("write", "sync"):
            life.write_some()
            with life.layer.failing(kind):
                refusal = eventually(life.write, "a write is refused")
                # Where a file was being made just then, that is what is told.
                assert refusal.startswith("MISCONF Errors writing to RocksDB: ")
                assert refusal.endswith("Input/output error")
                assert str(life.run("PING")).startswith("MISCONF"), "which is how a load balancer learns of it"
                assert life.run("GET", "k0") == VALUE
                assert life.run("INFO", "persistence").count(b"aof_last_write_status:err") == 1
            # By itself, though nothing is written meanwhile.
            eventually(lambda: life.run("PING") == b"PONG", "the server is well again")
            life.write_some()
        assert life.run("WAITAOF", "1", "0", "20000") == [1, 0]
        life.die()
        cut_power(life.layer, random.Random(1), Survival.NOTHING)
        life.start()
        life.assert_all_there()
    finally:
        life.die()


def test_a_file_that_is_corrupt_fails_its_keys_alone_and_everybody_is_told(
    start_server: Callable[..., KoraProcess], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    flags = (*SMALL, "--dir", str(folder))
    first = start_server(*flags)
    with first.connect() as wire:
        for start in range(0, KEYS, 500):
            wire.pipeline(*(("SET", f"k{number}", VALUE) for number in range(start, start + 500)))
        wire.pipeline(*(("SET", f"brief{number}", VALUE, "PX", "3000") for number in range(BRIEF_KEYS)))
    first.stop()
    server = start_server(*flags, metrics=True)
    server.may_log_errors = True
    for path in sorted((folder / "rocksdb" / "shard-0").glob("*.sst")):
        data = bytearray(path.read_bytes())
        # The blocks of data; what lists them, and the filters, are at the end and were read at the start.
        data[: len(data) // 2] = bytes(len(data) // 2)
        path.write_bytes(data)
    with server.connect() as wire:
        replies = wire.pipeline(*(("GET", f"k{number}") for number in range(KEYS)))
        failed = [reply for reply in replies if reply != VALUE]
        assert 0 < len(failed) < KEYS / 2, "the other shards are well"
        assert all(re.search(r"shard-0/\d+\.sst", str(reply)) for reply in failed), failed[0]
        # No walk ends there as if there were nothing behind it.
        for walk in (("SCAN", "0", "COUNT", str(KEYS)), ("KEYS", "*")):
            assert re.search(r"shard-0/\d+\.sst", str(wire.run(*walk)))
        # Where the time of a key is over and that cannot be read it stays, and nobody is refused anything.
        eventually(lambda: wire.run("DBSIZE") < KEYS + BRIEF_KEYS, "keys end that can be read")
        assert wire.run("SET", "another", "1") == b"OK"
        found = eventually(lambda: finding(wire.run, "storage-errors"), "DOCTOR finds it")
        assert found["evidence"]["numbers"]["corruptions"] > 0
        page = server.http("/metrics")[1]
        [count] = re.findall(r'^kora_storage_corruptions_total\{store="data"\} (\S+)', page, re.MULTILINE)
        assert float(count) > 0
        checks = json.loads(server.http("/health")[1])["checks"]
        assert (checks["storage"]["status"], checks["storage"]["reason"]) == ("degraded", "blocks were corrupt")


def test_a_cache_that_is_too_small_and_values_that_are_large_are_found(
    start_server: Callable[..., KoraProcess],
) -> None:
    server = start_server(*SMALL, "--rocksdb-large-value-bytes", "10kb")
    with server.connect() as wire:
        for start in range(0, KEYS, 500):
            wire.pipeline(*(("SET", f"k{number}", VALUE) for number in range(start, start + 500)))

        def work() -> dict[str, Any] | None:
            for start in range(0, KEYS, 500):
                wire.pipeline(*(("GET", f"k{number}") for number in range(start, start + 500)))
            return finding(wire.run, "storage-cache-small")

        found = eventually(work, "DOCTOR finds the cache too small")
        assert found["run"] == f"CONFIG SET rocksdb-cache-bytes {2 << 20}" and found["run_ends_it"]
        assert wire.run(*found["run"].split()) == b"OK"
        wire.pipeline(*(("RPUSH", "carts", "x" * 100) for _ in range(500)))

        def grow() -> dict[str, Any] | None:
            wire.run("RPUSH", "carts", "one more")
            return finding(wire.run, "large-values")

        assert eventually(grow, "DOCTOR finds a large value")["culprit"]["key"] == "carts"
        assert int(info(wire.run)["large_values"]) >= 2
