"""SLOWLOG, LATENCY and MONITOR beside redis-server: what they say of the same requests, and in which form.

Times and ids are each server's own, and so is what client names and addresses say of commands of scripts, which are
their caller's since 7.2.
"""

import re
import time
from collections.abc import Iterable
from typing import Any

import pytest

from kora.engine.client import Client
from kora.observe.histogram import STEPS_US
from tests.resp_reader import read_replies

from .peers import Kora, RedisConnection, RedisServer, request, requests, run_all

Program = tuple[tuple[object, ...], ...]
SCRIPT = "redis.call('set', 'x', 'y'); return redis.pcall('lpush', 'x', 'z')"

PROGRAMS: dict[str, Program] = {
    "keys": (("SET", "a", "1"), ("get", "a"), ("DEL", "a", "b"), ("NOPE", "x"), ("GET",), ("INCR", "x", "y")),
    "failing": (("SET", "a", "x"), ("INCR", "a"), ("LPUSH", "a", "x"), ("EXPIRE", "a", "x")),
    "databases": (("SELECT", "2"), ("GET", "a"), ("SELECT", "99"), ("SWAPDB", "0", "1"), ("SELECT", "0")),
    "names": (("CLIENT", "SETNAME", "me"), ("GET", "a"), ("HELLO", "2", "SETNAME", "you"), ("CLIENT", "GETNAME")),
    "reset": (("CLIENT", "SETNAME", "me"), ("SELECT", "1"), ("RESET",), ("PING",)),
    "transaction": (("MULTI",), ("SET", "a", "1"), ("INCR", "a"), ("EXEC",), ("EXEC",)),
    "discarded": (("MULTI",), ("SET", "a", "1"), ("DISCARD",), ("MULTI",), ("NOPE",), ("EXEC",)),
    "secrets": (
        ("AUTH", "p"),
        ("auth", "u", "p"),
        ("HELLO", "2", "AUTH", "u", "p"),
        ("HELLO", "2", "AUTH", "u", "p", "SETNAME", "n"),
        ("ACL", "SETUSER", "joe", ">p", "on"),
        ("ACL", "DELUSER", "joe"),
        ("CONFIG", "SET", "timeout", "0", "requirepass", ""),
        ("config", "set", "nonesuch", "p"),
        ("MULTI",),
        ("AUTH", "p"),
        ("EXEC",),
    ),
    "long": (
        ("SET", "a", "x" * 128),
        ("SET", "a", "x" * 129),
        ("DEL", *range(31)),
        ("DEL", *range(32)),
        ("DEL", *range(33)),
        ("MSET", *(["y" * 200] * 50)),
    ),
    "bytes": (("ECHO", bytes(range(256))), ("PING", ""), ("ECHO", 'say "hi"\\'), ("SET", b"\xc3\xa9", b"\r\n\t")),
    "pubsub": (("SUBSCRIBE", "c"), ("UNSUBSCRIBE", "c"), ("PUBLISH", "c", "m")),
    "operators": (("CONFIG", "GET", "nope"), ("SLOWLOG", "LEN"), ("LATENCY", "RESET"), ("CLIENT", "ID"), ("DBSIZE",)),
    "scripts": (("EVAL", SCRIPT, "0"), ("EVALSHA", "0" * 40, "0"), ("EVAL_RO", "return 1", "0"), ("FCALL", "f", "0")),
    "script in a transaction": (("MULTI",), ("EVAL", SCRIPT, "0"), ("EXEC",)),
}  # fmt: skip


class KoraPeer:
    """Kora's side of a test, its clients connected to the same Unix socket as those of redis-server."""

    def __init__(self, redis: RedisServer) -> None:
        self.kora = Kora(now_us=redis.now_us())
        self._path = f"{redis.socket_path}:0"
        self.client = self.connect()

    def connect(self) -> Client:
        return self.kora.engine.connect(self._path, self._path)

    def exchange(self, data: bytes) -> bytes:
        return self.kora.exchange(data, self.client)[0]


def slow_entries(data: bytes) -> list[Any]:
    (entries,) = read_replies(data)
    assert all(len(entry) == 6 and isinstance(entry[2], int) for entry in entries), entries
    ids = [entry[0] for entry in entries]
    assert ids == sorted(ids, reverse=True)
    return [(entry[3], entry[4], entry[5]) for entry in reversed(entries)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_slow_log_has_the_same_entries(redis: RedisServer, name: str) -> None:
    start = requests([("CONFIG", "SET", "slowlog-log-slower-than", "0"), ("SLOWLOG", "RESET")])
    program = requests(PROGRAMS[name])
    redis.reset()
    peer = KoraPeer(redis)
    with redis.connect() as connection:
        try:
            connection.exchange(start)
            connection.exchange(program)
            expected = slow_entries(redis.run("SLOWLOG", "GET", -1))
        finally:
            redis.run("CONFIG", "SET", "slowlog-log-slower-than", "10000")
    peer.exchange(start)
    peer.exchange(program)
    found = slow_entries(peer.kora.run("SLOWLOG", "GET", "-1"))
    if "script" in name:
        expected, found = ([entry[:1] for entry in entries] for entries in (expected, found))
    # An exchange with redis-server ends with an ECHO of its own.
    assert [entry for entry in expected if not _ends_exchange(entry[0])] == found


def _ends_exchange(argv: list[bytes]) -> bool:
    return argv[0] == b"ECHO" and re.fullmatch(rb"[0-9a-f]{16}", argv[1]) is not None


_LINE = re.compile(r"\d{10}\.\d{6} \[(\d+ [^\]]+)\] (.*)", re.DOTALL)


def shown(lines: Iterable[str]) -> list[tuple[str, ...]]:
    found = [_LINE.fullmatch(line) for line in lines]
    return [line.groups() for line in found if line is not None]


@pytest.mark.parametrize("name", PROGRAMS)
def test_monitors_are_shown_the_same_lines(redis: RedisServer, name: str) -> None:
    redis.reset()
    peer, program = KoraPeer(redis), requests(PROGRAMS[name])
    with redis.connect() as connection, redis.connect() as monitor:
        monitor.send(request("MONITOR"))
        assert _received(monitor, b"+OK\r\n") == b"+OK\r\n"
        connection.exchange(program)
        connection.send(request("PING", "the end"))
        data = _received(monitor, b'"the end"\r\n')
        expected = shown(read_replies(data))
    watcher = peer.connect()
    collected = bytearray()
    watcher.deliver = collected.extend
    assert run_all(watcher, request("MONITOR")) == b"+OK\r\n"
    peer.exchange(program)
    peer.exchange(request("PING", "the end"))
    peer.kora.engine.slowness.monitors.flush()
    # The exchange with redis-server ends with an ECHO of its own.
    assert [line for line in expected if not re.fullmatch(r'"ECHO" "[0-9a-f]{16}"', line[1])] == shown(
        read_replies(bytes(collected))
    )


def _received(monitor: RedisConnection, end: bytes) -> bytes:
    """What a monitor is sent, up to an end."""
    data, stop = b"", time.monotonic() + 5
    while not data.endswith(end):
        assert time.monotonic() < stop, data
        data += monitor.receive_ready()[0]
    return data


MISTAKES = [
    ("SLOWLOG",),
    ("SLOWLOG", "FOO"),
    ("SLOWLOG", "GET", "x"),
    ("SLOWLOG", "GET", "-2"),
    ("SLOWLOG", "GET", "99999999999999999999"),
    ("SLOWLOG", "GET", "1", "2"),
    ("SLOWLOG", "LEN", "x"),
    ("SLOWLOG", "RESET", "x"),
    ("LATENCY",),
    ("LATENCY", "FOO"),
    ("LATENCY", "LATEST", "x"),
    ("LATENCY", "HISTORY"),
    ("LATENCY", "HISTORY", "nope"),
    ("LATENCY", "GRAPH"),
    ("LATENCY", "GRAPH", "nope"),
    ("LATENCY", "DOCTOR", "x"),
    ("LATENCY", "RESET", "nope"),
    ("LATENCY", "HISTOGRAM", "nope"),
    ("LATENCY", "LATEST"),
    ("MONITOR", "x"),
    ("CONFIG", "SET", "slowlog-log-slower-than", "-2"),
    ("CONFIG", "SET", "slowlog-max-len", "-1"),
    ("CONFIG", "SET", "latency-monitor-threshold", "-1"),
    ("CONFIG", "SET", "latency-tracking", "x"),
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "x"),
    ("CONFIG", "SET", "latency-tracking-info-percentiles", "100.1"),
]


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_mistakes_and_empty_replies_are_the_same(redis: RedisServer, words: tuple[str, ...], protocol: str) -> None:
    hello, data = request("HELLO", protocol), request(*words)
    redis.run("LATENCY", "RESET")
    with redis.connect() as connection:
        connection.exchange(hello)
        expected = connection.exchange(data)
    kora = Kora()
    kora.exchange(hello)
    assert kora.exchange(data) == expected


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_replies_of_latency_have_the_same_form(redis: RedisServer, protocol: str) -> None:
    steps: Program = (
        ("HELLO", protocol),
        ("CONFIG", "SET", "latency-monitor-threshold", "2"),
        ("CONFIG", "RESETSTAT"),
        ("DEBUG", "SLEEP", "0.002"),
        ("LATENCY", "LATEST"),
        ("LATENCY", "HISTORY", "command"),
        ("LATENCY", "GRAPH", "command"),
        ("LATENCY", "HISTOGRAM", "debug"),
        ("LATENCY", "DOCTOR"),
        ("LATENCY", "RESET", "COMMAND"),
        ("SLOWLOG", "GET", "0"),
    )
    redis.run("LATENCY", "RESET")
    try:
        with redis.connect() as connection:
            theirs = [connection.exchange(request(*step))[0] for step in steps]
    finally:
        redis.run("CONFIG", "SET", "latency-monitor-threshold", "0")
        redis.run("LATENCY", "RESET")
    kora = Kora(now_us=redis.now_us())
    ours = [kora.exchange(request(*step))[0] for step in steps]
    for step, expected, found in zip(steps[1:], theirs[1:], ours[1:], strict=True):
        assert _form(expected, step) == _form(found, step), (step, expected, found)


def _form(data: bytes, step: tuple[object, ...]) -> bytes:
    """A reply without what differs: numbers, the two fields more of LATEST, and the prose of DOCTOR."""
    if step[1] == "DOCTOR":
        return data[:1] + re.sub(rb"^.\d+\r\n(txt:)?.*", rb"\1", data, flags=re.DOTALL)
    if step[1] == "LATEST":
        data = data.replace(b"*6\r\n", b"*4\r\n").replace(b":2\r\n:1\r\n", b"", 1)
    return re.sub(rb"\d+", b"N", re.sub(rb"(?m)^:\d+\r\n", b":N\r\n", data))


def test_histograms_of_redis_have_no_other_edges(redis: RedisServer) -> None:
    redis.run("DEBUG", "SLEEP", "0.005")
    for _ in range(20):
        redis.run("KEYS", "*")
        redis.run("COMMAND")
    (rows,) = read_replies(redis.run("LATENCY", "HISTOGRAM"))
    edges = {edge for row in rows[1::2] for edge in row[3][::2]}
    assert edges and edges <= set(STEPS_US)
