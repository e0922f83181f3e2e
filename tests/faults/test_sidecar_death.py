"""The sidecar is killed, or loses its server."""

import contextlib
import os
import signal
import socket
import threading
import urllib.error
from collections.abc import Callable

import pytest

from tests.e2e.kora_process import KoraProcess, eventually, is_running

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]


class Load:
    """Clients that check every reply, each in a thread, until stop()."""

    def __init__(self, server: KoraProcess, clients: int = 4) -> None:
        self._server = server
        self._stopping = threading.Event()
        self.replies = 0
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        key, count = f"load:{number}", 0
        try:
            with self._server.connect() as wire:
                while not self._stopping.is_set():
                    replies = wire.pipeline(("INCR", key), ("SET", f"{key}:v", count), ("GET", f"{key}:v"))
                    count += 1
                    if replies != [count, b"OK", b"%d" % (count - 1)]:
                        self.faults.append(f"{replies} in round {count}")
                        return
                    self.replies += 3
        except OSError as error:
            self.faults.append(f"{error!r} in round {count}")

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()


def kill_sidecar(server: KoraProcess) -> int:
    pid = server.sidecar_pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    return pid


def answers(server: KoraProcess, path: str) -> str:
    """The page; "" while nobody answers."""
    with contextlib.suppress(OSError, urllib.error.URLError):
        status, body = server.http(path)
        if status == 200:
            return body
    return ""


def test_a_sidecar_killed_under_load_is_restarted_and_no_client_notices(start_server: Start) -> None:
    server = start_server(metrics=True)
    server.may_log_errors = True
    load = Load(server)
    try:
        for restarts in (1, 2):
            killed = kill_sidecar(server)
            eventually(lambda: server.sidecar_pid not in (0, killed), "another sidecar")  # noqa: B023
            text = eventually(lambda: answers(server, "/metrics"), "metrics again")
            assert f"\nkora_sidecar_restarts_total {restarts}" in text
        # The numbers are the data process' and go on; only the sidecar's own began again.
        assert 'kora_commands_total{cmd="incr"}' in text
        replies = load.replies
        eventually(lambda: load.replies > replies + 100, "the load goes on")
        assert answers(server, "/health/live")
    finally:
        load.stop()
    assert load.faults == []
    assert server.log.count("sidecar died") == 2
    # Not left behind as zombies.
    assert not os.path.exists(f"/proc/{killed}") or not is_running(killed)


def test_a_restarted_sidecar_whose_port_was_taken_tries_again(start_server: Start) -> None:
    server = start_server(metrics=True)
    server.may_log_errors = True

    def take_port() -> socket.socket | None:
        if server.sidecar_pid:
            kill_sidecar(server)
        thief = socket.socket()
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            thief.bind(("127.0.0.1", server.metrics_port))
            thief.listen()
        except OSError:
            thief.close()
            return None
        return thief

    with eventually(take_port, "the port is ours"):
        eventually(lambda: "already in use" in server.log, "the log says why there is no sidecar")
        assert server.run("PING") == b"PONG"
    assert eventually(lambda: answers(server, "/metrics"), "metrics again")
    assert server.run("PING") == b"PONG"


def test_a_sidecar_that_is_frozen_delays_nobody(start_server: Start) -> None:
    server = start_server(metrics=True)
    pid = server.sidecar_pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with server.connect() as wire:
            for number in range(200):
                assert wire.run("INCR", "n") == number + 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert eventually(lambda: answers(server, "/metrics"), "metrics again")


def test_a_frozen_sidecar_does_not_keep_the_server_from_ending(start_server: Start) -> None:
    server = start_server(metrics=True)
    pid = server.sidecar_pid
    os.kill(pid, signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not is_running(pid)


def test_the_sidecar_ends_when_the_data_process_is_killed(start_server: Start) -> None:
    server = start_server(metrics=True)
    pid = server.sidecar_pid
    server.signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    try:
        eventually(lambda: not is_running(pid), "the sidecar ends")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
