"""Clients that listen and do not read what they hear."""

from collections.abc import Callable

import pytest

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END, Wire

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]

MB = 1_000_000


def clients(server: KoraProcess) -> int:
    lines = server.run("CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(lines, bytes)
    return lines.count(b"\n")


def ends(wire: Wire) -> bool:
    """Whether the server has closed the connection, once all that had come is read."""
    try:
        while wire.read() is not END:
            pass
    except OSError:
        pass
    return True


def test_a_subscriber_that_does_not_read_is_disconnected_and_memory_stays_bounded(start_server: Start) -> None:
    server = start_server("--client-output-buffer-limit", "pubsub 4mb 0 0")
    before = server.rss_bytes
    with server.connect() as lazy, server.connect() as other:
        assert lazy.run("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        message = "x" * 100_000
        heard = [other.run("PUBLISH", "news", message) for _ in range(400)]
        assert heard[0] == 1
        assert heard[-1] == 0
        assert ends(lazy)
    assert "output buffer over its limit" in server.log
    assert server.rss_bytes - before < 30 * MB


def test_a_client_with_copies_that_does_not_read_is_disconnected(start_server: Start) -> None:
    server = start_server("--client-output-buffer-limit", "normal 1mb 0 0")
    with server.connect() as lazy, server.connect() as other:
        lazy.run("HELLO", "3")
        assert lazy.run("CLIENT", "TRACKING", "ON", "BCAST") == b"OK"
        for number in range(400):
            assert other.run("SET", f"{number:050000}", "v") == b"OK"
        eventually(lambda: b"tracking_clients:0" in server.run("INFO", "clients"), "the server gives it up")
    assert "output buffer over its limit" in server.log


@pytest.mark.parametrize("seconds", ["1"])
def test_a_subscriber_over_the_soft_limit_has_some_time(start_server: Start, seconds: str) -> None:
    server = start_server("--client-output-buffer-limit", f"pubsub 0 100kb {seconds}")
    with server.connect() as lazy, server.connect() as other:
        lazy.run("SUBSCRIBE", "news")
        other.send(encode_request(("PUBLISH", "news", "x" * 100_000)) * 100)
        for _ in range(100):
            assert other.read() == 1
        eventually(lambda: clients(server) == 0, "the server gives it up after a second")


def test_listening_clients_are_not_closed_for_being_idle(start_server: Start) -> None:
    server = start_server("--timeout", "1")
    with server.connect() as listener, server.connect() as idle:
        listener.run("SUBSCRIBE", "news")
        idle.run("PING")
        assert idle.read() is END
        assert server.run("PUBLISH", "news", "m") == 1
        assert listener.read() == [b"message", b"news", b"m"]


def test_a_monitor_that_does_not_read_is_disconnected_and_memory_stays_bounded(start_server: Start) -> None:
    """Also where ordinary clients have no limit, as is the default."""
    server = start_server()
    before = server.rss_bytes
    with server.connect() as lazy, server.connect() as other:
        assert lazy.run("MONITOR") == b"OK"
        assert b"flags=O" in server.run("CLIENT", "LIST")
        for _ in range(100):
            assert other.run("SET", "k", "x" * 500_000) == b"OK"
        assert ends(lazy)
    assert "output buffer over its limit" in server.log
    assert b"flags=O" not in server.run("CLIENT", "LIST")
    assert server.rss_bytes - before < 100 * MB
