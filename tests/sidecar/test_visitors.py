"""Hostile HTTP: whoever else is connected, health and metrics are answered, and the data process never notices."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kora.sidecar.visitors import KEEPALIVE_S, READING_S, REQUEST_S, VISITORS_MAX, Visitors
from tests.sidecar.data_process import DataProcess

pytestmark = pytest.mark.once


def connect(data_process: DataProcess, data: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", data_process.port), timeout=20)
    sock.sendall(data)
    return sock


def rest_of(sock: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(OSError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_it_answers_whatever_others_send(listening: DataProcess) -> None:
    listening.beat(late_ms=-60_000)  # for as long as this takes
    socks = [connect(listening) for _ in range(1_000)]
    try:
        # Headers that never end, or are too large, and what is no HTTP at all.
        socks.append(connect(listening, b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Slow: "))
        refused = [
            connect(listening, b"GET / HTTP/1.1\r\nHost: a\r\nX-Huge: " + b"x" * 20_000),
            connect(listening, b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\n\r\n"),
            connect(listening, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 1_000 + b"\r\n"),
            connect(listening, b"*1\r\n$4\r\nPING\r\n" * 3),
            connect(listening, b"\x16\x03\x01\x02\x00" + os.urandom(200) + b"\r\n\r\n"),
            connect(listening, b"POST / HTTP/1.1\r\nContent-Length: nonsense\r\n\r\n"),
        ]
        for sock in refused:
            answer = rest_of(sock)
            assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400"), answer[:200]
            sock.close()
        # Requests one behind the other, the last of them with garbage behind it.
        one = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
        piped = connect(listening, (one + b"\r\n") * 5 + one + b"Connection: close\r\n\r\n\0garbage\r\n\r\n")
        assert b"HTTP/1." in rest_of(piped)
        piped.close()
        piped = connect(listening, (one + b"\r\n") * 5 + one + b"Connection: close\r\n\r\n")
        assert rest_of(piped).count(b"HTTP/1.1 200") == 6
        piped.close()
        health = listening.get("/health/live")
        assert (health.code, health.json["status"]) == (200, "ok")
        for path in (
            "/../../etc/passwd",
            "/health/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "//etc/passwd",
            "/..;/",
        ):
            answer = listening.get(path)
            assert answer.code in (400, 404), path
            assert b"root:" not in answer.body
        assert not listening.is_asked(), "the data process was asked for nothing"
    finally:
        for sock in socks:
            sock.close()


class Transport:
    """As far as Visitors look at one."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


class Clock:
    """A loop whose time the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Any:
        self.calls = [call]
        return object()

    def advance(self, elapsed_s: float) -> None:
        self.now += elapsed_s
        for call in self.calls:
            call()


def at_a_door() -> tuple[Clock, Visitors]:
    async def make() -> Visitors:
        return Visitors(asyncio.Protocol)

    found, clock = asyncio.run(make()), Clock()
    found._loop = clock  # type: ignore[assignment]
    return clock, found


def enter(door: Visitors) -> Any:
    transport: Any = Transport()
    transport.protocol = door.protocol()
    transport.protocol.connection_made(transport)
    return transport


def test_who_never_asks_has_to_go_and_who_asks_may_stay_for_another_request() -> None:
    clock, door = at_a_door()
    silent, asking, waiting = enter(door), enter(door), enter(door)
    door.begin(asking)
    door.begin(waiting)
    door.end(asking)
    clock.advance(REQUEST_S + 1)
    assert (silent.is_aborted, asking.is_aborted, waiting.is_aborted) == (True, False, False)
    clock.advance(KEEPALIVE_S)
    assert (asking.is_aborted, waiting.is_aborted) == (True, False), "an answer may take as long as it takes"
    assert door.turned_out == 2


def test_who_does_not_read_has_to_go() -> None:
    clock, door = at_a_door()
    reader, other = enter(door), enter(door)
    for transport in (reader, other):
        door.begin(transport)
        transport.protocol.pause_writing()
    other.protocol.resume_writing()
    clock.advance(READING_S + 1)
    assert (reader.is_aborted, other.is_aborted) == (True, False)


def test_a_newcomer_takes_the_place_of_who_has_been_idle_for_longest() -> None:
    _, door = at_a_door()
    everybody = [enter(door) for _ in range(VISITORS_MAX)]
    door.begin(everybody[0])
    door.begin(everybody[1])
    door.end(everybody[1])
    newcomer = enter(door)
    assert [place for place, transport in enumerate(everybody) if transport.is_aborted] == [2]
    assert not newcomer.is_aborted
    for transport in everybody[3:]:
        transport.protocol.connection_lost(None)
