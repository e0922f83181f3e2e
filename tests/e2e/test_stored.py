"""A server whose data is in RocksDB: it is there again after any end, and what cannot be used is refused in a line."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kora_process import KoraProcess, clean_environ, eventually
from tests.e2e.wire import error_text
from tests.persist.rdb_files import everything, rdb_file, text

pytest.importorskip("rocksdict", reason="the extra `rocksdb` is not installed")

Start = Callable[..., KoraProcess]
STORED = ("--storage-engine", "rocksdb", "--shards", "2", "--rocksdb-cache-bytes", "1mb")


def refusal(server: KoraProcess) -> str:
    assert server.process.wait(20) == 1
    [line] = [line for line in server.stderr.splitlines() if line.startswith("kora-server: ")]
    return line.removeprefix("kora-server: ")


def test_data_functions_and_databases_are_there_again(start_server: Start, tmp_path: Path) -> None:
    server = start_server("--dir", str(tmp_path), *STORED)
    with server.connect() as wire:
        wire.run("SET", "string", "v")
        wire.run("RPUSH", "list", *range(1000))
        wire.run("SET", "brief", "v", "PX", "100000")
        wire.run("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
        wire.run("SELECT", "3")
        wire.run("HSET", "hash", "field", "value")
        wire.run("SWAPDB", "0", "3")
        wire.run("SELECT", "5")
        wire.run("SET", "gone", "v")
        wire.run("FLUSHDB")
        assert b"storage_engine:rocksdb" in wire.run("INFO", "server")
    server.stop()
    server = start_server("--dir", str(tmp_path), *STORED)
    with server.connect() as wire:
        assert wire.run("HGET", "hash", "field") == b"value"
        assert wire.run("DBSIZE") == 1
        wire.run("SELECT", "3")
        assert wire.run("LRANGE", "list", "0", "-1") == [b"%d" % number for number in range(1000)]
        assert (wire.run("DBSIZE"), wire.run("GET", "string")) == (3, b"v")
        assert 0 < wire.run("PTTL", "brief") <= 100_000
        assert wire.run("FCALL", "f", "0") == 7
        wire.run("SELECT", "5")
        assert wire.run("DBSIZE") == 0


def test_a_snapshot_is_taken_over_once_into_a_store_that_is_new(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(rdb_file(text(b"a", b"1"), text(b"b", b"2")))
    server = start_server("--dir", str(tmp_path), *STORED)
    assert (server.run("GET", "a"), server.run("DBSIZE")) == (b"1", 2)
    server.run("DEL", "a")
    server.stop()
    server = start_server("--dir", str(tmp_path), *STORED)
    assert (server.run("GET", "a"), server.run("DBSIZE")) == (None, 1)


@pytest.mark.once
def test_a_snapshot_of_which_only_a_part_was_taken_over_is_begun_anew(
    start_server: Start, launch_server: Start, tmp_path: Path
) -> None:
    (tmp_path / "dump.rdb").write_bytes(everything()[:-20])
    server = launch_server("--dir", str(tmp_path), *STORED)
    assert "dump.rdb" in refusal(server)
    (tmp_path / "dump.rdb").write_bytes(rdb_file(text(b"b", b"2")))
    server = start_server("--dir", str(tmp_path), *STORED)
    assert server.run("KEYS", "*") == [b"b"]


def test_a_checkpoint_can_take_the_place_of_the_data(start_server: Start, tmp_path: Path) -> None:
    server = start_server("--dir", str(tmp_path), *STORED)
    server.run("SET", "before", "v")
    assert server.run("SAVE") == b"OK"
    server.run("SET", "after", "v")
    server.run("BGSAVE")
    eventually(lambda: b"rdb_bgsave_in_progress:0" in server.run("INFO", "persistence"), "the checkpoint is made")
    server.run("SET", "late", "v")
    server.stop()
    server = start_server("--dir", str(tmp_path), *STORED, "--rocksdb-dir", "rocksdb-checkpoint")
    assert sorted(server.run("KEYS", "*")) == [b"after", b"before"]


@pytest.mark.once
def test_what_does_not_go_with_it_is_refused_at_the_start_and_later(start_server: Start, launch_server: Start) -> None:
    no_journal = "with storage-engine rocksdb there is no journal: rocksdb-sync says when writes are synced"
    assert refusal(launch_server(*STORED, "--appendonly", "yes")) == f"appendonly: {no_journal}"
    evicting = launch_server(*STORED, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")
    assert refusal(evicting).startswith("maxmemory-policy: with storage-engine rocksdb no data is deleted")
    server = start_server(*STORED)
    assert no_journal in error_text(server.run("CONFIG", "SET", "appendonly", "yes"))
    assert server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == b"OK"
    assert "no data is deleted" in error_text(server.run("CONFIG", "SET", "maxmemory", "1gb"))


@pytest.mark.once
def test_without_the_package_it_says_what_to_install(launch_server: Start, tmp_path: Path) -> None:
    (tmp_path / "rocksdict.py").write_text("raise ImportError\n")
    server = launch_server(
        *STORED, environ={"PYTHONPATH": f"{tmp_path}{os.pathsep}{clean_environ().get('PYTHONPATH', '')}"}
    )
    assert refusal(server) == (
        "storage-engine: rocksdb needs the Python package rocksdict, which is not installed: "
        "pip install 'kora-server[rocksdb]'"
    )


@pytest.mark.once
def test_what_cannot_be_opened_is_named(start_server: Start, launch_server: Start, tmp_path: Path) -> None:
    server = start_server("--dir", str(tmp_path), *STORED)
    for number in range(100):
        server.run("SET", number, "v" * 100)
    store = tmp_path / "rocksdb"
    again = launch_server("--dir", str(tmp_path), *STORED)
    assert refusal(again) == f"{store}/shard-0/LOCK: another process uses this directory"
    server.stop()
    fewer = launch_server("--dir", str(tmp_path), *STORED, "--shards", "1")
    assert f"{store}: is the data of 2 shards, and `shards` is 1" in refusal(fewer)
    table = next(store.glob("shard-1/*.sst"))
    table.write_bytes(table.read_bytes()[:-30])
    assert str(table) in refusal(launch_server("--dir", str(tmp_path), *STORED))
    lost = launch_server("--dir", str(tmp_path / "not mounted"), *STORED)
    assert refusal(lost) == f"dir: {tmp_path}/not mounted: No such file or directory"
