"""Clients that hang up, talk HTTP or talk nonsense: they harm nobody but themselves."""

import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END, Wire, error_text

Start = Callable[..., KoraProcess]

MB = 1_000_000


@pytest.fixture
def witness(server: KoraProcess) -> Iterator[Wire]:
    """A client that behaves, and whose replies must stay right."""
    with server.connect() as wire:
        yield wire
        assert wire.run("SET", "witness", "well") == b"OK"
        assert wire.run("GET", "witness") == b"well"


def hang_up(wire: Wire) -> None:
    """Close without a goodbye: the server gets a reset."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def all_gone(witness: Wire) -> bool:
    return b"connected_clients:1\r\n" in witness.run("INFO", "clients")


# --- Hanging up ---


@pytest.mark.parametrize("leave", [Wire.close, hang_up], ids=["close", "reset"])
def test_leaving_in_the_middle_of_a_request(server: KoraProcess, witness: Wire, leave: Callable[[Wire], None]) -> None:
    request = encode_request(("SET", "never", "x" * 100))
    for stop in range(0, len(request), 3):
        wire = server.connect()
        wire.send(b"PING\r\n" + request[:stop])
        leave(wire)
    large = server.connect()
    large.send(b"*3\r\n$3\r\nSET\r\n$5\r\nnever\r\n$50000000\r\n" + b"x" * 5 * MB)
    leave(large)
    eventually(lambda: all_gone(witness), "they are gone")
    assert witness.run("EXISTS", "never") == 0


@pytest.mark.parametrize("leave", [Wire.close, hang_up], ids=["close", "reset"])
def test_leaving_in_the_middle_of_a_reply(server: KoraProcess, witness: Wire, leave: Callable[[Wire], None]) -> None:
    witness.run("SET", "big", "x" * 2 * MB)
    before = server.rss_bytes
    for number in range(20):
        wire = server.connect()
        wire.send(encode_request(("GET", "big")) * 30)
        if number % 2:
            assert len(wire.sock.recv(1000)) > 0
        leave(wire)
    eventually(lambda: all_gone(witness), "they are gone")
    assert server.rss_bytes - before < 60 * MB


def test_leaving_with_requests_still_waiting(server: KoraProcess, witness: Wire) -> None:
    for _ in range(10):
        wire = server.connect()
        wire.send(b"INCR n\r\n" * 20_000)
        hang_up(wire)
    eventually(lambda: all_gone(witness), "they are gone")


def test_a_client_that_closes_its_writing_half_still_gets_its_replies(server: KoraProcess) -> None:
    with server.connect() as wire:
        wire.send(b"PING\r\n" * 10)
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.read_to_end() == b"+PONG\r\n" * 10


def test_quit_answers_and_hangs_up(server: KoraProcess) -> None:
    with server.connect() as wire:
        wire.send(b"SET k v\r\nQUIT\r\nSET k changed\r\n")
        assert wire.read_to_end() == b"+OK\r\n+OK\r\n"
    assert server.run("GET", "k") == b"v"


# --- HTTP ---


def test_a_browsers_post_is_cut_off_before_its_body(server: KoraProcess, witness: Wire) -> None:
    with server.connect() as browser:
        body = b"SET pwned yes\r\n" * 10
        browser.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert browser.read_to_end() == b""
    assert witness.run("EXISTS", "pwned") == 0


def test_a_browsers_get_is_cut_off_at_its_host_line(server: KoraProcess, witness: Wire) -> None:
    with server.connect() as browser:
        browser.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nSET pwned yes\r\n")
        assert browser.read_to_end() == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert witness.run("EXISTS", "pwned") == 0


def test_http_is_logged_with_its_sender(start_server: Start) -> None:
    server = start_server()
    with server.connect() as browser:
        address = browser.address
        browser.send(b"POST / HTTP/1.1\r\n\r\n")
        assert browser.read_to_end() == b""
    line = eventually(
        lambda: next((line for line in server.log.splitlines() if address in line), ""), "the log tells of HTTP", 3
    )
    assert " WARN " in line
    assert "HTTP" in line


# --- Nonsense ---


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'"),
        (b"*1048577\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "ERR Protocol error: invalid bulk length"),
        (b'SET "k v\r\n', "ERR Protocol error: unbalanced quotes in request"),
        (b"x" * 70_000, "ERR Protocol error: too big inline request"),
        (b"*" + b"1" * 70_000, "ERR Protocol error: too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 70_000, "ERR Protocol error: too big bulk count string"),
    ],
)
def test_what_is_not_the_protocol_is_told_so_and_cut_off(
    server: KoraProcess, witness: Wire, data: bytes, text: str
) -> None:
    with server.connect() as wire:
        wire.send(b"PING\r\n" + data)
        assert wire.read() == b"PONG"
        assert error_text(wire.read()) == text
        assert wire.read() is END


def test_announced_sizes_cost_no_memory_until_they_come(server: KoraProcess, witness: Wire) -> None:
    before = server.rss_bytes
    wires = [server.connect() for _ in range(50)]
    for wire in wires:
        wire.send(b"*1000000\r\n$536870912\r\nSET")
    for _ in range(50):
        assert witness.run("PING") == b"PONG"
    assert server.rss_bytes - before < 20 * MB
    for wire in wires:
        wire.close()
    eventually(lambda: all_gone(witness), "they are gone")


# Requests without the power to stop, stall or empty the server, whole or mutated.
SEEDS = (
    encode_request(("SET", "fuzz:1", "value", "EX", "100")),
    encode_request(("GET", "fuzz:1")),
    encode_request(("MSET", "fuzz:1", "a", "fuzz:2", "b" * 300)),
    encode_request(("INCRBY", "fuzz:3", "12")),
    encode_request(("SCAN", "0", "MATCH", "fuzz:*", "COUNT", "10", "TYPE", "string")),
    encode_request(("GETEX", "fuzz:1", "PERSIST")),
    encode_request(("HELLO", "3", "SETNAME", "fuzz")),
    encode_request(("CLIENT", "INFO")),
    encode_request(("OBJECT", "ENCODING", "fuzz:1")),
    encode_request(("COMMAND", "DOCS", "get")),
    b'SET fuzz:4 "a \\x00\\xff quoted" PX 1000\r\n',
    b"PING\r\n\r\nECHO 'single'\r\n",
    b"*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n",
)
# What means something to a parser, in places where it should not be.
_SIGNS = b'*|$|\r\n|\n|\0|-1|$0\r\n\r\n|*1\r\n|$4294967296\r\n|*3\r\n$3\r\n|"|%1\r\n'.split(b"|")


def nonsense(choose: random.Random) -> bytes:
    if choose.random() < 0.2:
        return choose.randbytes(choose.choice((1, 10, 1000, 20_000)))
    data = bytearray(b"".join(choose.choices(SEEDS, k=choose.choice((1, 3, 30)))))
    for _ in range(choose.choice((0, 1, 1, 2, 10))):
        place = choose.randrange(len(data) + 1)
        match choose.randrange(5):
            case 0:
                data[place:place] = choose.choice(_SIGNS)
            case 1:
                del data[place : place + choose.choice((1, 2, 10))]
            case 2:
                data[place : place + 1] = choose.randbytes(1)
            case 3:
                data[place:place] = data[: choose.randrange(50)]
            case _:
                del data[place:]
                data += b"\r\n"
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_nonsense_on_many_connections_harms_nobody(server: KoraProcess, witness: Wire, seed: int) -> None:
    choose = random.Random(seed)
    before = server.rss_bytes
    open_wires: list[Wire] = []
    for number in range(400):
        if len(open_wires) < 20:
            open_wires.append(server.connect())
        wire = choose.choice(open_wires)
        data = nonsense(choose)
        cut = choose.randrange(len(data) + 1)
        with contextlib.suppress(OSError):  # cut off already
            wire.send(data[:cut])
            wire.send(data[cut:])
        if choose.random() < 0.3:
            open_wires.remove(wire)
            choose.choice((Wire.close, hang_up))(wire)
        if number % 10 == 0:
            replies = witness.pipeline(("SET", "right", number), ("GET", "right"), ("ECHO", f"{number}"), ("NONSENSE",))
            assert replies[:3] == [b"OK", b"%d" % number, b"%d" % number]
            assert error_text(replies[3]).startswith("ERR unknown command 'NONSENSE'")
    for wire in open_wires:
        wire.close()
    eventually(lambda: all_gone(witness), "they are gone")
    assert server.rss_bytes - before < 50 * MB
    server.assert_healthy_log()
