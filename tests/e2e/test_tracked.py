"""Tracked values through the ends of a server: one that is told to stop, and one that is killed."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kora_process import KoraProcess, eventually

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]
JOURNALED = ("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--events-flush-interval", "1")


def total(server: KoraProcess) -> int:
    answer = server.run("TRACK.READ", "m", "counter")
    return answer[0][5] if answer else 0


def test_what_was_tracked_before_sigterm_or_shutdown_is_there_after_it(start_server: Start, tmp_path: Path) -> None:
    flags = ("--dir", str(tmp_path), "--events-flush-interval", "3600")
    server = start_server(*flags)
    assert server.run("TRACK", "m", "2") == b"OK"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    server = start_server(*flags)
    assert total(server) == 2
    server.run("TRACK", "m", "3")
    with server.connect() as wire:
        wire.send(b"SHUTDOWN\r\n")
    assert server.wait() == 0
    server = start_server(*flags)
    assert total(server) == 5
    assert server.run("XLEN", "kilometric.m") == 2


def test_a_killed_server_counts_nothing_twice(start_server: Start, tmp_path: Path) -> None:
    flags = (*JOURNALED, "--dir", str(tmp_path))
    server = start_server(*flags)
    # Some are written when it is killed, and some are not.
    with server.connect() as wire:
        wire.pipeline(*[("TRACK", "m")] * 100)
        eventually(lambda: wire.run("XLEN", "kilometric.m") > 0, "an interval is written")
        wire.pipeline(*[("TRACK", "m")] * 100)
        entries = wire.run("XRANGE", "kilometric.m", "-", "+")
    written = sum(int(words[1]) for _, words in entries)
    server.may_log_errors = True
    server.signal(signal.SIGKILL)
    server.wait()
    server = start_server(*flags)
    assert 0 < written <= total(server) <= 200
    # What is tracked anew is added to it, and to nothing else.
    before = total(server)
    server.run("TRACK", "m", "5")
    assert total(server) == before + 5
