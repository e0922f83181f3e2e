"""Starting with a snapshot: it is loaded while the server already listens, and one that is damaged is refused."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import error_text
from tests.persist.rdb_files import everything, number, rdb_file, string, text

Start = Callable[..., KoraProcess]
FIELDS = 150_000


@pytest.fixture
def slow_snapshot(tmp_path: Path) -> Path:
    """One with a value that takes seconds to load: a hash whose fields have deadlines."""
    fields = (number(1 + place % 7) + string(b"field-%d" % place) + string(b"v") for place in range(FIELDS))
    first_ms = 4_000_000_000_000
    record = b"\x18" + string(b"hash") + first_ms.to_bytes(8, "little") + number(FIELDS) + b"".join(fields)
    (tmp_path / "dump.rdb").write_bytes(rdb_file(text(b"a", b"1"), record, text(b"b", b"2"), version=12))
    return tmp_path


def test_while_it_loads_it_answers_that_it_does(launch_server: Start, slow_snapshot: Path) -> None:
    server = launch_server("--dir", str(slow_snapshot))
    eventually(lambda: "loading the snapshot" in server.log, "it begins to load")
    with server.connect() as wire:
        assert error_text(wire.run("GET", "a")) == "LOADING Redis is loading the dataset in memory"
        assert b"\r\nloading:1\r\n" in wire.run("INFO", "persistence")
        eventually(lambda: b"\r\nloading:0\r\n" in wire.run("INFO", "persistence"), "it is loaded")
        assert [wire.run("GET", key) for key in ("a", "b")] == [b"1", b"2"]
        assert wire.run("HLEN", "hash") == FIELDS


@pytest.mark.once
def test_told_to_stop_while_it_loads_it_does(launch_server: Start, slow_snapshot: Path) -> None:
    server = launch_server("--dir", str(slow_snapshot))
    eventually(lambda: "loading the snapshot" in server.log, "it begins to load")
    # An answer tells that it attends to others in the middle of a value.
    assert error_text(server.run("PING")).startswith("LOADING")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert "stopped while loading" in server.log


@pytest.mark.once
def test_a_damaged_snapshot_is_refused_with_what_to_do(launch_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    data = everything()[:-20]
    path.write_bytes(data)
    server = launch_server("--dir", str(tmp_path))
    assert server.process.wait(20) == 1
    assert f"kora-server: {path}: at byte " in server.stderr
    assert f"`kora check {path}` examines the file" in server.stderr
    assert path.read_bytes() == data
