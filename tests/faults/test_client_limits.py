"""Clients that together take more than they may, or that all leave at once: the server stays within its bounds."""

import socket
import struct
from collections.abc import Callable

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END, Wire

Start = Callable[..., KoraProcess]

MB = 1_000_000


def hang_up(wire: Wire) -> None:
    """Close without a goodbye: the server gets a reset."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def field(server: KoraProcess, section: str, name: str) -> int:
    for line in server.run("INFO", section).splitlines():
        if line.startswith(name.encode() + b":"):
            return int(line.partition(b":")[2])
    raise AssertionError(f"INFO {section} has no {name}")


def test_the_client_that_takes_most_is_closed_where_all_take_too_much(start_server: Start) -> None:
    server = start_server("--maxmemory", "100mb", "--maxmemory-clients", "2%")
    part = b"*2\r\n$4\r\nECHO\r\n$90000000\r\n"
    with server.connect() as large, server.connect() as small, server.connect() as kept:
        assert kept.run("CLIENT", "NO-EVICT", "ON") == b"OK"
        small.send(part + b"x" * 300_000)
        kept.send(part + b"x" * 1_200_000)
        try:
            large.send(part + b"x" * 1_500_000)
            assert large.read() is END
        except OSError:
            pass
        eventually(lambda: field(server, "stats", "evicted_clients") == 1, "the largest is closed")
        assert field(server, "clients", "connected_clients") == 3  # with the one that asks
        assert server.run("CONFIG", "SET", "maxmemory-clients", "1mb") == b"OK"
        # The one that is kept is over the limit alone: everybody else goes.
        eventually(lambda: "client evicted" in server.log and server.log.count("client evicted") >= 2, "the small one")
    assert "client evicted" in server.log


def test_a_large_hash_that_is_asked_for_and_not_read_is_not_kept_many_times(server: KoraProcess) -> None:
    with server.connect() as wire:
        for start in range(0, 100_000, 20_000):
            pairs = [word for number in range(start, start + 20_000) for word in (f"field:{number}", "a value")]
            assert wire.run("HSET", "large", *pairs) == 20_000
        before = server.rss_bytes
        lazy = [server.connect() for _ in range(4)]
        # 3 MB a reply, and 40 of them.
        for other in lazy:
            other.send(encode_request(("HGETALL", "large")) * 10)
        for number in range(50):
            assert wire.run("HGET", "large", f"field:{number}") == b"a value"
        assert server.rss_bytes - before < 60 * MB
        for other in lazy[:2]:
            assert len(other.read()) == 200_000
        assert wire.run("HLEN", "large") == 100_000
        for other in lazy:
            hang_up(other)
        eventually(lambda: field(server, "clients", "connected_clients") <= 2, "they are gone")
    assert server.rss_bytes - before < 60 * MB


def test_hundreds_who_wait_leave_at_once_and_nobody_is_served_in_their_place(server: KoraProcess) -> None:
    waiting = [server.connect() for _ in range(300)]
    for number, wire in enumerate(waiting):
        wire.send(encode_request(("BLPOP", "queue", f"own-{number}", 0)))
    eventually(lambda: field(server, "clients", "blocked_clients") == 300, "all wait")
    for wire in waiting[:299]:
        hang_up(wire)
    eventually(lambda: field(server, "clients", "blocked_clients") == 1, "one waits")
    assert server.run("RPUSH", "queue", "a", "b") == 2
    assert waiting[299].read() == [b"queue", b"a"]
    assert server.run("LRANGE", "queue", "0", "-1") == [b"b"]
    assert field(server, "clients", "total_blocking_keys") == 0
