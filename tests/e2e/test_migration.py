"""MIGRATE between real servers: Kora to Redis and back, targets that do not answer, and connections that are kept."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.compat.peers import redis_server
from tests.e2e.kora_process import KoraProcess
from tests.e2e.wire import Wire, error_text
from tests.ports import free_port


class Redis:
    def __init__(self, port: int) -> None:
        self.port = port

    def run(self, *words: object) -> Any:
        with Wire(socket.create_connection(("127.0.0.1", self.port), 10)) as wire:
            return wire.run(*words)


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[Redis]:
    port = free_port()
    with redis_server("--port", str(port), tcp=True):
        yield Redis(port)


@pytest.fixture
def redis(shared_redis: Redis) -> Redis:
    shared_redis.run("FLUSHALL")
    return shared_redis


def fill(run: Callable[..., Any]) -> None:
    run("SET", "string", "v" * 1000)
    run("RPUSH", "list", *range(5000))
    run("SADD", "set", 1, 2, 3)
    run("ZADD", "zset", 1.5, "a", "-inf", "b")
    run("HSET", "hash", "f", "v")
    run("XADD", "stream", "1-1", "f", "v")
    run("XGROUP", "CREATE", "stream", "g", "0")
    run("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "stream", ">")
    run("PFADD", "hll", *range(100))
    run("PEXPIRE", "set", 1_000_000)


KEYS = ("string", "list", "set", "zset", "hash", "stream", "hll")


def contents(run: Callable[..., Any]) -> list[Any]:
    return [
        run("GET", "string"),
        run("LRANGE", "list", 0, -1),
        sorted(run("SMEMBERS", "set")),
        run("ZRANGE", "zset", 0, -1, "WITHSCORES"),
        run("HGETALL", "hash"),
        run("XRANGE", "stream", "-", "+"),
        run("XPENDING", "stream", "g"),
        run("PFCOUNT", "hll"),
        run("TTL", "set"),
    ]


@pytest.mark.parametrize("away", [True, False], ids=["to Redis", "from Redis"])
def test_everything_moves_and_comes_back(server: KoraProcess, redis: Redis, away: bool) -> None:
    source, target = (server, redis) if away else (redis, server)
    fill(source.run)
    before = contents(source.run)
    request = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *KEYS)
    assert source.run(*request) == b"OK"
    assert (source.run("DBSIZE"), target.run("DBSIZE")) == (0, len(KEYS))
    after = contents(target.run)
    assert after[:-1] == before[:-1]
    assert before[-1] - 10 < after[-1] <= before[-1]
    assert target.run("MIGRATE", "127.0.0.1", source.port, "", 0, 5000, "KEYS", *KEYS) == b"OK"
    assert contents(source.run)[:-1] == before[:-1]


def test_between_two_koras_over_one_connection(server: KoraProcess, start_server: Callable[..., KoraProcess]) -> None:
    other = start_server("--requirepass", "secret")
    with other.connect() as wire:
        wire.run("AUTH", "secret")
        before = connections(wire)
        for number in range(20):
            server.run("SET", f"k{number}", "v")
            request = ("MIGRATE", "127.0.0.1", other.port, f"k{number}", number % 2, 5000, "AUTH", "secret")
            assert server.run(*request) == b"OK"
        assert connections(wire) == before + 1
        assert wire.run("DBSIZE") == 10
    server.run("SET", "k", "v")
    other.stop()
    # The one that is kept is closed by now, and a new one cannot be made.
    reply = server.run("MIGRATE", "127.0.0.1", other.port, "k", 0, 1000)
    assert error_text(reply) == "IOERR error or timeout writing to target instance"
    assert server.run("EXISTS", "k") == 1


def connections(wire: Wire) -> int:
    return int(wire.run("INFO", "stats").partition(b"total_connections_received:")[2].split(b"\r\n")[0])


def test_many_keys_and_a_long_one(server: KoraProcess, redis: Redis) -> None:
    names = [f"k{number}" for number in range(20_000)]
    server.run("MSET", *(word for name in names for word in (name, "v")))
    server.run("SETRANGE", "long", 5_000_000, "end")
    reply = server.run("MIGRATE", "127.0.0.1", redis.port, "", 0, 10_000, "KEYS", *names, "long")
    assert reply == b"OK"
    assert (server.run("DBSIZE"), redis.run("DBSIZE"), redis.run("STRLEN", "long")) == (0, 20_001, 5_000_003)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_others_are_served_while_a_target_is_silent(server: KoraProcess, silent: socket.socket) -> None:
    server.run("SET", "k", "v")
    with server.connect() as mover, server.connect() as other:
        port = silent.getsockname()[1]
        mover.sock.sendall(b"*6\r\n$7\r\nMIGRATE\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(port)), port))
        mover.sock.sendall(b"$1\r\nk\r\n$1\r\n0\r\n$3\r\n500\r\n")
        peer, _ = silent.accept()
        with peer:
            for _ in range(100):
                assert other.run("GET", "k") == b"v"
            assert error_text(mover.read()) == "IOERR error or timeout reading to target instance"
        assert other.run("GET", "k") == b"v"
        # Also where nobody may interrupt.
        other.run("MULTI")
        other.run("MIGRATE", "127.0.0.1", port, "k", 0, 100)
        (reply,) = other.run("EXEC")
        assert error_text(reply) == "IOERR error or timeout reading to target instance"


def test_a_target_that_hangs_up_is_tried_once_more(server: KoraProcess, silent: socket.socket) -> None:
    server.run("SET", "k", "v")
    served = []

    def hang_up_and_answer() -> None:
        silent.accept()[0].close()
        peer, _ = silent.accept()
        with peer:
            served.append(peer.recv(1 << 16))
            peer.sendall(b"+OK\r\n")

    thread = threading.Thread(target=hang_up_and_answer)
    thread.start()
    assert server.run("MIGRATE", "127.0.0.1", silent.getsockname()[1], "k", 0, 5000) == b"OK"
    thread.join()
    assert b"RESTORE" in served[0]
    assert server.run("EXISTS", "k") == 0


@pytest.mark.parametrize(
    ("host", "port", "what"),
    [
        ("127.0.0.1", "1", "writing to target instance"),
        ("127.0.0.1", "x", "writing to target instance"),
        ("no such host", "7", "connecting to the client"),
    ],
)
def test_nobody_at_that_address(server: KoraProcess, redis: Redis, host: str, port: str, what: str) -> None:
    for each in (server, redis):
        each.run("SET", "k", "v")
        reply = each.run("MIGRATE", host, port, "k", 0, 500)
        assert error_text(reply) == f"IOERR error or timeout {what}"
        assert each.run("EXISTS", "k") == 1


def test_a_script_moves_a_key(server: KoraProcess, redis: Redis) -> None:
    server.run("SET", "k", "v")
    script = "return redis.call('MIGRATE', '127.0.0.1', ARGV[1], KEYS[1], '0', '5000')"
    assert server.run("EVAL", script, 1, "k", redis.port) == b"OK"
    assert (server.run("EXISTS", "k"), redis.run("GET", "k")) == (0, b"v")
