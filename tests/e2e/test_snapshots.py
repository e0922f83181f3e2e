"""Snapshots of a real server: at its end, in the background, and found again at the next start."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kora_process import KoraProcess, eventually

Start = Callable[..., KoraProcess]


def test_what_is_saved_at_the_end_is_there_at_the_next_start(start_server: Start, tmp_path: Path) -> None:
    flags = ("--dir", str(tmp_path), "--save", "3600 1")
    first = start_server(*flags)
    first.run("SET", "a", "1")
    first.run("RPUSH", "l", "x", "y")
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    second = start_server(*flags)
    assert second.run("GET", "a") == b"1"
    assert second.run("LRANGE", "l", 0, -1) == [b"x", b"y"]
    second.run("SET", "a", "2")
    second.run("BGSAVE")
    eventually(lambda: b"rdb_bgsave_in_progress:0" in second.run("INFO", "persistence"), "the snapshot is written")
    second.signal(signal.SIGKILL)
    second.wait()
    third = start_server(*flags)
    assert third.run("GET", "a") == b"2"
    assert [path.name for path in tmp_path.glob("*.rdb")] == ["dump.rdb"]


@pytest.mark.once
def test_a_server_that_cannot_save_does_not_end(start_server: Start, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    server = start_server("--dir", str(folder), "--save", "3600 1")
    server.may_log_errors = True
    server.run("SET", "a", "1")
    folder.rmdir()
    server.signal(signal.SIGTERM)
    eventually(lambda: "not stopped, since the data cannot be saved" in server.log, "it says why it goes on")
    assert server.run("GET", "a") == b"1"
    folder.mkdir()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert (folder / "dump.rdb").exists()
