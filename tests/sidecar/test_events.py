"""Events over HTTP, on their own port and on the sidecar's other one, with the test as the data process."""

import asyncio
import contextlib
import http.client
import json
import marshal
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from kora.observe.tracked_ring import TrackedRing
from kora.sidecar.event_requests import BATCH_MAX, BODY_MAX
from kora.sidecar.events import Events, Reply
from kora.sidecar.events_port import HEAD_MAX, Connection, EventsPort
from kora.sidecar.visitors import KEEPALIVE_S, READING_S, REQUEST_S
from kora.types.tally import UNIT
from tests.ports import free_port
from tests.sidecar.data_process import WAIT_S, Answer, DataProcess

pytestmark = pytest.mark.once


class Listening:
    """A sidecar that listens for events, and what it has counted."""

    def __init__(self, data_process: DataProcess) -> None:
        self.process = data_process
        self.port = free_port()

    def start(self, **changes: Any) -> "Listening":
        self.process.beat()
        assert self.process.start(**self.settings(**changes)) == ["events listening"]
        assert self.process.receive() == ["listening"]
        self.alive()
        return self

    def settings(self, **changes: Any) -> dict[str, Any]:
        port = {"events_port": self.port, "events_port_chosen": True, "events_bind": ["127.0.0.1"]} | changes
        return self.process.settings(**port)

    def alive(self) -> None:
        """Let health be good for as long as this takes."""
        self.process.ring.flushed(time.monotonic_ns() + 60_000_000_000)

    def connect(self, data: bytes = b"") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.sendall(data)
        return sock

    def get(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        data = f"{method} {path} HTTP/1.1\r\nHost: a\r\n{head}Connection: close\r\n\r\n".encode() + body
        with self.connect(data) as sock:
            return parse(rest_of(sock))

    def post(self, body: bytes, path: str = "/track", **headers: str) -> Answer:
        return self.get(path, "POST", body, **headers)

    def sums(self, awaited: int = 0) -> dict[str, float]:
        """What was counted since the last time, by key: handed over at once for whoever asks.

        Where nobody may ask that comes after a while, and so many events are waited for.
        """
        if not awaited:
            with self.connect(b"GET /keys HTTP/1.1\r\n\r\n") as sock:
                number, *_ = self.asked()
                self.process.send(["answer", number, {}])
                sock.recv(1000)
        stop = time.monotonic() + WAIT_S
        counted = 0
        found: dict[str, float] = {}
        while True:
            while (taken := self.process.ring.take()) is not None:
                for cell in marshal.loads(taken[0]):
                    found[cell[0].decode()] = found.get(cell[0].decode(), 0) + cell[3] / UNIT
                    counted += cell[2]
                self.process.ring.taken(taken[1], time.monotonic_ns())
            if counted >= awaited:
                return found
            assert time.monotonic() < stop, found
            time.sleep(0.01)

    def asked(self) -> list[Any]:
        """The next question: its number, name and details."""
        while True:
            message = self.process.receive()
            if message[0] == "ask":
                return message[1:]
            assert message == ["tracked"]


def rest_of(sock: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(OSError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def parse(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = http.client.HTTPMessage()
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name] = value
    return Answer(int(first.split()[1]), headers, body)


@pytest.fixture
def stopped(data_process: DataProcess) -> Listening:
    """A sidecar of the test's own, for settings or an end of its own."""
    return Listening(data_process)


@pytest.fixture(scope="module")
def shared() -> Iterator[Listening]:
    process = DataProcess()
    try:
        yield Listening(process).start()
    finally:
        process.stop()


@pytest.fixture
def events(shared: Listening) -> Listening:
    """A sidecar that has nothing left of other tests."""
    shared.alive()
    shared.process.beat()
    shared.sums()
    while shared.process.is_asked():
        shared.process.receive()
    return shared


# Tracking


def test_events_are_counted_however_they_come(events: Listening) -> None:
    assert events.get("/track?key=my-metric").body == b""
    for path in ("/track?key=my-metric&value=10", "/track?key=my%2Dmetric&value=2.5e0", "http://a/track?key=my-metric"):
        assert events.get(path).code == 204
    for body in (
        b"key=my-metric&value=3",
        b'{"key": "my-metric", "value": 4}',
        b'{\n "key": "my-metric",\n "value": "4"\n}\n',
        b'[{"key": "my-metric"}, {"key": "b", "value": 0.1, "at": 1600000000000, "else": null}]',
        b'{"key": "b"}\n\nkey=b&value=2\r\n{"key": "c d"}\n',
        "key=é+f".encode(),
    ):
        answer = events.post(body)
        assert (answer.code, answer.body) == (204, b""), body
    assert events.post(b"", "/track?key=my-metric&value=1&_=1234").code == 204
    assert events.sums() == {"my-metric": 27.5, "b": 3.1, "c d": 1, "é f": 1}


BAD = [
    ("/track", "key", "is missing"),
    ("/track?key=", "key", "is missing"),
    ("/track?value=1", "key", "is missing"),
    ("/track?key=" + "k" * 513, "key", "is longer than 512 bytes"),
    ("/track?key=%ff", "key", "is not UTF-8"),
    ("/track?key=a%2", "key", "has a bad percent-encoding"),
    ("/track?key=a%zz", "key", "has a bad percent-encoding"),
    ("/track?key=a&%zz=1", "query", "has a bad percent-encoding"),
    ("/track?key=a&key=b", "key", "is given twice"),
    ("/track?key=a&value=", "value", "is not a number"),
    ("/track?key=a&value=ten", "value", "is not a number"),
    ("/track?key=a&value=nan", "value", "is not a number"),
    ("/track?key=a&value=1e400", "value", "is too large"),
    ("/track?key=a&value=-1", "value", "is negative, which events-negative does not allow"),
    ("/track?key=a&at=yesterday", "at", "must be Unix time in milliseconds"),
    ("/track?key=a&at=-1", "at", "must be Unix time in milliseconds"),
    ("/track?key=a&at=99999999999999", "at", "is in the future"),
    ("/read?type=counter", "key", "is missing"),
    ("/read?key=a", "type", "is missing"),
    ("/read?key=a&type=sum", "type", "must be one of counter, points, rate, gauge, stats"),
    ("/read?key=a&type=points&period=0", "period", "must be a whole number of seconds from 1 to 316224000"),
    ("/read?key=a&type=points&period=-60", "period", "must be a whole number of seconds from 1 to 316224000"),
    ("/read?key=a&type=points&period=1.5", "period", "must be a whole number of seconds from 1 to 316224000"),
    ("/read?key=a&type=points&from=now", "from", "must be Unix time in milliseconds"),
    ("/read?key=a&type=points&to=99999999999999999999", "to", "must be Unix time in milliseconds"),
    ("/read?key=a&type=points&from=2&to=1", "from", "is after `to`"),
    ("/read?key=a&type=points&fill=last", "fill", "must be one of none, zero"),
    ("/keys?match=" + "k" * 513, "match", "is longer than 512 bytes"),
    ("/keys?count=0", "count", "must be a whole number from 1 to 1000000"),
]


def test_a_mistake_is_named(events: Listening) -> None:
    for path, parameter, text in BAD:
        answer = events.get(path)
        assert (answer.code, answer.headers["Content-Type"]) == (400, "application/json"), path
        assert answer.json == {"error": f"{parameter}: {text}", "parameter": parameter}, path
    assert not events.process.is_asked(), "the data process was told nothing, and asked for nothing"


BAD_BATCHES: list[tuple[bytes, dict[str, Any]]] = [
    (b"[]", {"parameter": "body"}),
    (b"[1, 2", {"parameter": "body"}),
    (b'[{"key": "a"}, 3]', {"parameter": "body", "index": 1}),
    (b'[{"key": "a"}, {"value": 3}]', {"parameter": "key", "index": 1}),
    (b'[{"key": "a"}, {"key": 3}]', {"parameter": "key", "index": 1}),
    (b'[{"key": "a"}, {"key": "\\ud800"}]', {"parameter": "key", "index": 1}),
    (b'[{"key": "a"}, {"key": "a", "value": true}]', {"parameter": "value", "index": 1}),
    (b'[{"key": "a"}, {"key": "a", "value": NaN}]', {"parameter": "value", "index": 1}),
    (b'[{"key": "a"}, {"key": "a", "value": 1' + b"0" * 5000 + b"}]", {"parameter": "value", "index": 1}),
    (b'[{"key": "a"}, {"key": "a", "at": 1.5}]', {"parameter": "at", "index": 1}),
    (b'{"key": "a"}\n{"key": "a"', {"parameter": "body", "index": 1}),
    (b'key=a\nkey=a&value=x', {"parameter": "value", "index": 1}),
    (b"[" * 100_000, {"parameter": "body"}),
    (b'{"key": "a"}\n' * (BATCH_MAX + 1), {"parameter": "body"}),
    (b"\xff\xfe\x00", {"parameter": "key", "index": 0}),
]  # fmt: skip


def test_a_batch_with_a_mistake_counts_nothing(events: Listening) -> None:
    for body, expected in BAD_BATCHES:
        answer = events.post(body)
        values = answer.json
        assert answer.code == 400, body[:100]
        assert values.pop("error").startswith(values["parameter"] + ": ")
        assert values == expected, body[:100]
    answer = events.post(b"key=a", "/track?key=a")
    assert (answer.code, answer.json["parameter"]) == (400, "key")
    assert events.sums() == {}


def test_a_body_that_is_too_long_is_refused_before_it_has_come(events: Listening) -> None:
    body = b"x" * (BODY_MAX + 1)
    for port in (events.port, events.process.port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(b"POST /track HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (3 * len(body)) + body)
            answer = parse(sock.recv(65536))
            assert (answer.code, answer.headers["Content-Type"]) == (400, "application/json")
            assert port != events.port or answer.headers["Connection"] == "close"
    assert events.post(b" " * (BODY_MAX - 5) + b"key=a").code == 204


def test_a_batch_as_large_as_they_may_be(events: Listening) -> None:
    assert events.post(json.dumps([{"key": f"k{number % 300}"} for number in range(BATCH_MAX)]).encode()).code == 204
    sums = events.sums()
    assert (len(sums), sum(sums.values())) == (300, BATCH_MAX)


def test_other_paths_and_methods(events: Listening) -> None:
    assert (events.get("/nowhere").code, events.get("/nowhere").json["error"]) == (404, "not found")
    assert events.get("/track/../health").code == 404
    for path, method, allow in (
        ("/track?key=a", "HEAD", "GET, POST, OPTIONS"),
        ("/track?key=a", "DELETE", "GET, POST, OPTIONS"),
        ("/read?key=a&type=counter", "POST", "GET, HEAD, OPTIONS"),
        ("/health", "CONNECT", "GET, HEAD, OPTIONS"),
    ):
        answer = events.get(path, method)
        assert (answer.code, answer.headers["Allow"]) == (405 if method != "CONNECT" else answer.code, allow)
    options = events.get("/track", "OPTIONS")
    assert (options.code, options.headers["Allow"]) == (204, "GET, POST, OPTIONS")
    assert (events.get("/health", "HEAD").code, events.get("/health", "HEAD").body) == (200, b"")
    assert events.sums() == {}


def test_the_same_on_the_port_of_metrics(events: Listening) -> None:
    process = events.process
    assert process.get("/track?key=a&value=2").code == 204
    assert process.get("/track?key=a", method="POST").code == 204
    answer = process.get("/track?key=a&value=x")
    assert (answer.code, answer.json["parameter"]) == (400, "value")
    assert process.get("/track?key=a", method="DELETE").headers["Allow"] == "GET, POST, OPTIONS"
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(process.get, "/keys")
        number, *question = events.asked()
        process.send(["answer", number, {"keys": ["a"]}])
        assert (question, asking.result().json) == (["keys", [None, 1_000_000]], {"keys": ["a"]})
    assert events.sums() == {"a": 3}
    assert "/track" in process.get("/").body.decode()


# Reading


def test_a_question_goes_to_the_data_process_with_what_was_tracked_before(events: Listening) -> None:
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(events.get, "/read?key=my-metric&type=counter")
        number, *question = events.asked()
        assert question == ["read", [b"my-metric", "counter", None, None, 60, "none"]]
        events.process.send(["answer", number, {"name": "my-metric", "values": [{"from": 1, "to": 2, "value": 78}]}])
        answer = asking.result()
        assert (answer.code, answer.headers["Content-Type"]) == (200, "application/json")
        assert answer.json == {"name": "my-metric", "values": [{"from": 1, "to": 2, "value": 78}]}
        events.get("/track?key=a")
        asking = pool.submit(events.get, "/read?key=a&type=stats&from=5&to=7-3&period=3600&fill=zero")
        number, *question = events.asked()
        assert events.process.ring.take() is not None, "it is in the ring when the question comes"
        assert question == ["read", [b"a", "stats", 5, 7, 3600, "zero"]]
        events.process.send(["refused", number, "ERR too many periods"])
        assert (asking.result().code, asking.result().json) == (400, {"error": "ERR too many periods"})
        asking = pool.submit(events.get, "/keys?match=a*&count=5")
        number, *question = events.asked()
        assert question == ["keys", [b"a*", 5]]
        events.process.send(["not now", number, "loading"])
        assert (asking.result().code, asking.result().json) == (503, {"error": "loading"})


def test_from_and_to_may_be_what_xrange_takes(events: Listening) -> None:
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(events.get, "/read?key=a&type=rate&from=-&to=+")
        number, *question = events.asked()
        assert question == ["read", [b"a", "rate", None, None, 60, "none"]]
        events.process.send(["answer", number, {}])
        assert asking.result().code == 200


def test_many_questions_are_under_way_at_a_time_and_answered_in_any_order(events: Listening) -> None:
    with ThreadPoolExecutor(30) as pool:
        asking = {f"k{n}": pool.submit(events.get, f"/read?key=k{n}&type=counter") for n in range(30)}
        questions = [events.asked() for _ in range(30)]
        for number, _, details in reversed(questions):
            events.process.send(["answer", number, {"name": details[0].decode()}])
        assert all(asked.result().json == {"name": name} for name, asked in asking.items())


# The wire


def test_requests_one_behind_the_other_are_answered_in_their_order(events: Listening) -> None:
    track = b"GET /track?key=a HTTP/1.1\r\nHost: a\r\n\r\n"
    read = b"GET /read?key=a&type=counter HTTP/1.1\r\nHost: a\r\n\r\n"
    with events.connect(track * 2 + read + track + read + b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n") as sock:
        for value in (1, 2):
            number, *_ = events.asked()
            events.process.send(["answer", number, {"value": value}])
        codes = re.findall(rb"HTTP/1\.1 (\d+)", rest_of(sock))
    assert codes == [b"204", b"204", b"200", b"204", b"200", b"404"]
    assert events.sums() == {"a": 3}


def test_a_connection_stays_for_another_request(events: Listening) -> None:
    with events.connect() as sock:
        for _ in range(5):
            sock.sendall(b"GET /track?key=a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 204 No Content\r\n")
        # An HTTP/1.0 client that wants to stay has to be told that it may.
        sock.sendall(b"GET /track?key=a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert b"Connection: keep-alive\r\n" in sock.recv(1000)
        sock.sendall(b"GET /track?key=a HTTP/1.0\r\n\r\n")
        assert b"Connection: close\r\n" in rest_of(sock)
    assert events.sums() == {"a": 7}


def test_a_request_in_pieces_is_the_same_request(events: Listening) -> None:
    whole = b"POST /track HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nkey=\r\n1\r\na\r\n0\r\n\r\n"
    with events.connect() as sock:
        for place in range(0, len(whole), 7):
            sock.sendall(whole[:place])
            time.sleep(0.001)
            sock.sendall(whole[place:])
            assert sock.recv(1000).startswith(b"HTTP/1.1 204"), place
        sock.sendall(b"GET /track?key=b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert rest_of(sock).startswith(b"HTTP/1.1 204")
    assert events.sums() == {"a": len(range(0, len(whole), 7)), "b": 1}


def test_a_known_request_inside_another_is_no_request(events: Listening) -> None:
    track = b"GET /track?key=a HTTP/1.1\r\nHost: a\r\n\r\n"
    with events.connect(track) as sock:
        sock.recv(1000)
        sock.sendall(b"POST /track?key=b HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(track))
        time.sleep(0.05)
        sock.sendall(track)
        assert sock.recv(1000).startswith(b"HTTP/1.1 400"), "it is a body, and the key is in the query"
    assert events.sums() == {"a": 1}


def test_a_client_that_asks_whether_it_may_send_its_body(events: Listening) -> None:
    head = b"POST /track HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with events.connect(head) as sock:
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"key=a")
        assert sock.recv(1000).startswith(b"HTTP/1.1 204")


def test_what_was_sent_before_the_end_is_answered(events: Listening) -> None:
    with events.connect(b"GET /track?key=a HTTP/1.1\r\n\r\nGET /read?key=a&type=rate HTTP/1.1\r\n\r\n") as sock:
        sock.shutdown(socket.SHUT_WR)
        number, *_ = events.asked()
        events.process.send(["answer", number, {"name": "a"}])
        assert rest_of(sock).endswith(b'\r\n\r\n{"name":"a"}')


def test_hostile_clients_harm_nobody(events: Listening) -> None:
    silent = [events.connect() for _ in range(300)]
    silent += [events.connect(b"GET /track?key=a HTTP/1.1\r\nX-Slow: ") for _ in range(20)]
    try:
        for data, code in (
            (b"GET /track?key=a HTTP/1.1\r\nX: " + b"x" * 2 * HEAD_MAX + b"\r\n\r\n", 431),
            (b"GET /track?key=" + b"y" * 2 * HEAD_MAX + b" HTTP/1.1\r\n\r\n", 431),
            (b"GET /track?key=a HTTP/1.1\r\n" + b"A: b\r\n" * HEAD_MAX + b"\r\n", 431),
            (b"*1\r\n$4\r\nPING\r\n", 400),
            (b"\x16\x03\x01\x02\x00" + os.urandom(200) + b"\r\n\r\n", 400),
            (b"POST /track HTTP/1.1\r\nContent-Length: nonsense\r\n\r\n", 400),
            (b"POST /track HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (b"POST /track HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
            (b"POST /track HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"GET  HTTP/1.1\r\n\r\n", 400),
            (b"GET /track?key=a\0b HTTP/1.1\r\n\r\n", 400),
        ):
            with events.connect(data) as sock:
                answer = parse(rest_of(sock))
                assert (answer.code, answer.headers["Connection"]) == (code, "close"), data[:60]
                assert "error" in answer.json
        with events.connect(b"GET /track?key=h2 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n\0\0") as sock:
            assert rest_of(sock).startswith(b"HTTP/1.1 204")
        with events.connect(b"GET /track?key=ok HTTP/1.1\r\n\r\n\0garbage\r\n\r\n") as sock:
            answers = rest_of(sock)
            assert answers.startswith(b"HTTP/1.1 204")
            assert b"HTTP/1.1 400" in answers
        for path in ("/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/track%00"):
            assert events.get(path).code in (400, 404)
        assert events.get("/health").json == {"status": "ok"}
        assert events.sums() == {"ok": 1, "h2": 1}
        events.process.beat()
        assert events.process.get("/health/live").code == 200
    finally:
        for sock in silent:
            sock.close()


# Who is overdue, with a clock that the test moves


class Transport:
    """As far as a connection uses one."""

    def __init__(self) -> None:
        self.written = b""
        self.is_aborted = False
        self.is_reading = True

    def get_extra_info(self, _: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def is_closing(self) -> bool:
        return self.is_aborted

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True

    close = abort

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class Clock:
    now = 1000.0
    call: Callable[[], None]

    def time(self) -> float:
        return self.now

    def call_later(self, _: float, call: Callable[[], None]) -> object:
        self.call = call
        return object()

    def advance(self, elapsed_s: float) -> None:
        self.now += elapsed_s
        self.call()


@pytest.fixture
def door() -> tuple[Clock, EventsPort]:
    class Nobody:
        remembers = False
        connections = turned_out = 0

        def counted(self, _: str, reply: Reply) -> Reply:
            return reply

    async def make() -> EventsPort:
        return EventsPort(cast(Events, Nobody()))

    port, clock = asyncio.run(make()), Clock()
    port._loop = clock  # type: ignore[assignment]
    return clock, port


def enter(port: EventsPort) -> tuple[Connection, Transport]:
    connection, transport = port.connection(), Transport()
    connection.connection_made(cast(asyncio.Transport, transport))
    return cast(Connection, connection), transport


def test_who_says_nothing_or_never_ends_has_to_go(door: tuple[Clock, EventsPort]) -> None:
    clock, port = door
    (_, silent), (slow, slow_transport), (endless, endless_transport) = enter(port), enter(port), enter(port)
    slow.data_received(b"GET /tr")
    endless.data_received(b"x" * 100)  # refused, and sends on
    for _ in range(int(REQUEST_S) + 1):
        clock.advance(1)
        slow.data_received(b"a")
        endless.data_received(b"x" * 100)
        if clock.now > 1004:
            assert endless_transport.is_aborted
    clock.advance(1)
    assert (silent.is_aborted, slow_transport.is_aborted) == (True, True)
    assert (port.events.turned_out, port.events.connections) == (3, 0)
    assert endless_transport.written.count(b"HTTP/1.1") == 1


def test_who_does_not_read_has_to_go_and_is_not_read_from(door: tuple[Clock, EventsPort]) -> None:
    clock, port = door
    (connection, transport), (other, other_transport) = enter(port), enter(port)
    for reader in (connection, other):
        reader.pause_writing()
    assert not transport.is_reading
    other.resume_writing()
    assert other_transport.is_reading
    clock.advance(REQUEST_S)
    connection.data_received(b"")
    clock.advance(READING_S + 1 - REQUEST_S)
    assert transport.is_aborted


def test_a_newcomer_takes_the_place_of_who_has_been_idle_for_longest(
    door: tuple[Clock, EventsPort], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, port = door
    monkeypatch.setattr(port, "_connections_max", 3)
    busy, first, second = enter(port), enter(port), enter(port)
    busy[0].data_received(b"GET /t")
    clock.advance(1)
    second[0].since = port.second
    _, newcomer = enter(port)
    assert [transport.is_aborted for _, transport in (busy, first, second)] == [False, True, False]
    assert not newcomer.is_aborted
    assert KEEPALIVE_S > REQUEST_S


# Health


def test_health_is_bad_while_counts_are_not_taken_or_not_written(stopped: Listening) -> None:
    events = stopped.start()
    answer = events.get("/health")
    assert (answer.code, answer.body) == (200, b'{"status":"ok"}')
    ring: TrackedRing = events.process.ring
    ring.put([marshal.dumps([])], 0, time.monotonic_ns() - 9_000_000_000)
    answer = events.get("/health")
    assert (answer.code, answer.json["status"]) == (422, "error")
    assert answer.json["reason"].startswith("the data process has taken no counts for ")
    assert events.sums() == {}
    assert events.get("/health").code == 200
    events.process.send(["events behind", "flushing is 40 s behind: OOM"])
    deadline = time.monotonic() + 10
    while (answer := events.get("/health")).code == 200:
        assert time.monotonic() < deadline
    assert answer.json == {"status": "error", "reason": "flushing is 40 s behind: OOM"}


# Who may


def test_a_token_is_asked_for_on_both_ports(stopped: Listening) -> None:
    events = stopped.start(metrics_token="m", events_token="e")
    for get in (events.get, events.process.get):
        answer = get("/track?key=a")
        assert (answer.code, answer.headers["WWW-Authenticate"].split()[0]) == (401, "Bearer")
        assert get("/health").code in (200, 503), "health is answered without"
    assert events.get("/track?key=a", Authorization="Bearer x").code == 401
    for token in ("m", "e"):  # that of metrics opens everything
        assert events.get("/track?key=a", Authorization=f"Bearer {token}").code == 204
    assert events.process.get("/status").code == 401
    # A client that was let in is not let in for ever.
    with events.connect() as sock:
        request = b"GET /track?key=a HTTP/1.1\r\nAuthorization: Bearer e\r\n\r\n"
        for _ in range(2):
            sock.sendall(request)
            assert sock.recv(1000).startswith(b"HTTP/1.1 204")
        events.process.send(["settings", events.settings(metrics_token="m")])
        deadline = time.monotonic() + 10
        while events.get("/track?key=b", Authorization="Bearer m").code != 204:
            assert time.monotonic() < deadline
        sock.sendall(request)
        assert sock.recv(1000).startswith(b"HTTP/1.1 401")
    assert events.sums(5) == {"a": 4, "b": 1}


def test_too_many_from_one_address_are_told_to_wait(stopped: Listening) -> None:
    events = stopped.start(events_rate_limit=20)
    codes = [events.get("/track?key=a").code for _ in range(60)]
    assert codes[:20] == [204] * 20
    assert 429 in codes
    assert events.get("/health").code == 200
    answer = events.post(b"key=a\n" * 21)
    assert (answer.code, answer.headers["Retry-After"]) == (429, "1")
    assert events.sums(codes.count(204)) == {"a": codes.count(204)}


def test_nothing_is_taken_once_all_was_handed_over(stopped: Listening) -> None:
    events = stopped.start()
    with events.connect() as sock:
        for code in (b"204", b"503"):
            sock.sendall(b"GET /track?key=a HTTP/1.1\r\n\r\n")
            assert sock.recv(1000).split()[1] == code
            if code == b"204":
                events.process.send(["drain"])
                while (message := events.process.receive()) != ["drained"]:
                    assert message == ["tracked"]
                assert events.process.ring.waiting_bytes
    assert events.sums() == {"a": 1}


# The port


def test_a_port_that_is_taken_stops_the_server_only_where_it_was_chosen(stopped: Listening) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stopped.port))
        taken.listen()
        text = f"cannot listen on 127.0.0.1 port {stopped.port} (events-port): the address is already in use"
        settings = stopped.settings(events_port_chosen=False)
        assert stopped.process.start(**settings) == ["events not listening", text]
        assert stopped.process.receive() == ["listening"]
        assert stopped.process.get("/track?key=a").code == 204, "there is the other port still"


def test_a_port_that_was_chosen_has_to_be_there(stopped: Listening) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stopped.port))
        taken.listen()
        message = stopped.process.start(**stopped.settings())
        assert message[0] == "failed"
        assert "(events-port)" in message[1]
        assert stopped.process.exit_code() == 1
