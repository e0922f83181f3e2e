"""Load generators and probes, each in a process of its own, so that they disturb neither each other nor the clock.

A Child runs one of the functions below, which get a channel to the benchmark as their first argument:

    write      fills a server with keys, as fast as it takes them        -> Written
    write_small  fills a server with small hashes, lists, …              -> Written
    probe      PING and GET in turn, one at a time, until told to stop   -> Probes
    keep_pace  a steady number of SET and GET per second                 -> commands sent
    arrive     SET and GET at random times, answered or not              -> Arrivals
    hold       opens idle connections and keeps them                     -> how many, after each phase
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import select
import signal
import socket
import struct
import time
import traceback
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import processes
from redis_client import request

VALUE: Final = b"v" * 16
SET_REPLY: Final = b"+OK\r\n"
GET_REPLY: Final = b"$16\r\n%b\r\n" % VALUE
PROBE_GAP_S: Final = 0.000_25
PACE_BATCH: Final = 16
ARRIVE_CONNECTIONS: Final = 50
ARRIVE_WARM_UP_S: Final = 0.1


class ChildFailure(Exception):
    """A load generator ended with a traceback (the text) or did not answer in time."""


class Child:
    """A function in a forked process, with a channel both ways."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self.name = target.__name__
        context = multiprocessing.get_context("fork")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=run, args=(theirs, target, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def receive(self, wait_s_max: float) -> Any:
        """The next thing that the child sends."""
        if not self._channel.poll(wait_s_max):
            raise ChildFailure(f"{self.name}: nothing heard for {wait_s_max:.0f} s")
        try:
            answer = self._channel.recv()
        except EOFError:
            raise ChildFailure(f"{self.name}: ended without an answer") from None
        if isinstance(answer, ChildFailure):
            raise answer
        return answer

    def tell_to_go_on(self) -> None:
        """To the next phase, or to the end: what that means is the function's."""
        self._channel.send(None)

    def stop(self) -> None:
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._channel.close()


@contextlib.contextmanager
def child(target: Callable[..., None], *arguments: object) -> Iterator[Child]:
    started = Child(target, *arguments)
    try:
        yield started
    finally:
        started.stop()


def run(channel: Connection, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.die_with_parent()
    # A collection of ours would look like a pause of the server's.
    gc.disable()
    try:
        target(channel, *arguments)
    except Exception:  # goes up the channel, where it is raised again
        channel.send(ChildFailure(traceback.format_exc()))


@dataclass(frozen=True)
class Written:
    keys: int
    elapsed_s: float


def write(channel: Connection, port: int, keys: int, batch: int, is_modest: bool) -> None:
    """SET of `keys` 16-byte keys and values; two batches under way, so that the server never waits for us."""
    if is_modest:
        processes.use_last_cpu()
        os.nice(10)  # the probe beside us goes first
    connection = connect(port)
    start = time.monotonic()
    batch_before = 0
    for first in range(0, keys, batch):
        count = min(batch, keys - first)
        connection.sendall(b"".join([set_request(number) for number in range(first, first + count)]))
        expect(connection, SET_REPLY, batch_before)
        batch_before = count
    expect(connection, SET_REPLY, batch_before)
    channel.send(Written(keys, time.monotonic() - start))


# Ten fields or items, of 7 to 10 bytes; of a sorted set members with scores that are integers.
SMALL_VALUES: Final[dict[str, tuple[str, Callable[[int], list[str]]]]] = {
    "hash": ("HSET", lambda n: [word for i in range(10) for word in (f"field{i:05}", f"val{n * i % 10**7:07}")]),
    "list": ("RPUSH", lambda n: [f"item{n * i % 10**6:06}" for i in range(10)]),
    "set": ("SADD", lambda n: [f"m{(n * 7 + i * 13) % 10**9:09}" for i in range(10)]),
    "set of integers": ("SADD", lambda n: [str((n * 7 + i * 13) % 100_000) for i in range(10)]),
    "sorted set": ("ZADD", lambda n: [word for i in range(10) for word in (str((n + i) % 1000), f"m{i:09}")]),
}


def key_of_small(kind: str, number: int) -> str:
    return f"{kind[:4]}:{number:07}"


def write_small(channel: Connection, port: int, kind: str, keys: int) -> None:
    connection = connect(port)
    start = time.monotonic()
    name, words_of = SMALL_VALUES[kind]
    for first in range(0, keys, 500):
        numbers = range(first, min(first + 500, keys))
        connection.sendall(
            b"".join([request(name, key_of_small(kind, number), *words_of(number)) for number in numbers])
        )
        replies = 0
        while replies < len(numbers):
            data = connection.recv(65536)
            if not data or b"-" in data:
                raise ConnectionError(f"unexpected replies: {data[:100]!r}")
            replies += data.count(b"\n")
    channel.send(Written(keys, time.monotonic() - start))


@dataclass(frozen=True)
class Probes:
    """One entry per probe, in order.  Times in ns; started_ns is of the monotonic clock, which all processes share."""

    started_ns: array[int]
    round_trip_ns: array[int]
    own_ns: array[int]  # the round trip without the time that server or probe waited for a CPU


def probe(channel: Connection, port: int, server_pid: int) -> None:
    """Send None up the channel to say "ready"; run until something comes down.

    The time that the server's main thread, or this process, was ready to run but had no CPU is the machine's doing.
    Of the two only the larger one is taken off, for they may overlap: `own` errs on the high side.
    """
    processes.use_last_cpu()
    connection = connect(port)
    server_delay, our_delay = processes.RunDelay(server_pid), processes.RunDelay(os.getpid())
    asked = [request("PING"), request("GET", key(0).decode())]
    started, round_trips, own = array("Q"), array("Q"), array("Q")
    channel.send(None)
    # poll() costs as much as a probe; now and then is enough.
    while len(started) % 64 or not channel.poll():
        waited_before = server_delay.ns(), our_delay.ns()
        start = time.monotonic_ns()
        connection.sendall(asked[len(started) & 1])
        read_reply(connection)
        elapsed = time.monotonic_ns() - start
        waited = max(server_delay.ns() - waited_before[0], our_delay.ns() - waited_before[1])
        started.append(start)
        round_trips.append(elapsed)
        own.append(max(0, elapsed - waited))
        time.sleep(PROBE_GAP_S)
    channel.send(Probes(started, round_trips, own))


def read_reply(connection: socket.socket) -> None:
    """One PONG, one value or one nil; none of them has more than 64 bytes."""
    data = connection.recv(64)
    while not data.endswith(b"\r\n") or (data.startswith(b"$1") and len(data) < len(GET_REPLY)):
        more = connection.recv(64)
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    if data.startswith(b"-"):
        raise ConnectionError(f"error reply: {data!r}")


def keep_pace(channel: Connection, port: int, keys: int, commands_per_s: int) -> None:
    """Half SET, half GET, in small batches on a timetable, over keys that must be there; until told to stop."""
    processes.use_last_cpu()
    connection = connect(port)
    half = PACE_BATCH // 2
    gap_s = PACE_BATCH / commands_per_s
    sent = 0
    due = time.monotonic()
    while not channel.poll():
        numbers = [(sent + step * 7919) % keys for step in range(half)]
        connection.sendall(b"".join([set_request(number) + get_request(number) for number in numbers]))
        expect(connection, SET_REPLY + GET_REPLY, half)
        sent += PACE_BATCH
        # Late is late: catching up would turn one stall into a burst.
        due = max(due + gap_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    channel.send(sent)


@dataclass(frozen=True)
class Arrivals:
    """One entry per request, in the order of arrival, warm-up left out.  Times in ns."""

    latency_ns: array[int]  # from when the request was due, not from when it was sent, to its reply
    lateness_ns: array[int]  # of the generator: from when it was due to when it was sent


def arrive(channel: Connection, port: int, keys: int, rate_per_s: float, run_s: float, seed: int) -> None:
    """Half SET, half GET over keys that must be there, from many connections: an open loop.

    The timetable is made beforehand, a Poisson process: it does not wait for replies, as a million users would not.  A
    stall of the server so counts for all requests that were due meanwhile ("coordinated omission" leaves them out).
    A connection may have several requests under way.  We spin, since waking up takes longer than a reply does.
    """
    processes.use_last_cpu()
    dice = random.Random(seed)
    count, warm_up = int(rate_per_s * run_s), int(rate_per_s * ARRIVE_WARM_UP_S)
    total = count + warm_up
    due_ns, asked, answers = array("Q"), [], []
    at_s = 0.0
    for _ in range(total):
        at_s += dice.expovariate(rate_per_s)
        due_ns.append(int(at_s * 1e9))
        is_set = dice.random() < 0.5
        asked.append((set_request if is_set else get_request)(dice.randrange(keys)))
        answers.append(SET_REPLY if is_set else GET_REPLY)
    connections = [connect(port) for _ in range(ARRIVE_CONNECTIONS)]
    ready = select.epoll()
    for connection in connections:
        connection.setblocking(False)
        ready.register(connection.fileno(), select.EPOLLIN)
    slots = {connection.fileno(): slot for slot, connection in enumerate(connections)}
    pending: list[deque[int]] = [deque() for _ in connections]
    latency, lateness = array("Q", bytes(8 * total)), array("Q", bytes(8 * total))
    clock = time.monotonic_ns
    sent = answered = 0
    start = clock()
    give_up_at = start + int((run_s + 20) * 1e9)
    while answered < total:
        now = clock() - start
        if sent < total and now >= due_ns[sent]:
            slot = sent % ARRIVE_CONNECTIONS
            lateness[sent] = now - due_ns[sent]
            pending[slot].append(sent)
            connections[slot].send(asked[sent])
            sent += 1
        # One request, then a look: replies are not to wait until a burst is sent.
        for number, _ in ready.poll(0):
            slot = slots[number]
            data = connections[slot].recv(65_536)
            now = clock() - start
            if not data:
                raise ConnectionError("the server closed the connection")
            while data:
                request_slot = pending[slot].popleft()
                answer = answers[request_slot]
                # A reply of ours is a few bytes and is written at once: it does not come in pieces over loopback.
                if not data.startswith(answer):
                    raise ConnectionError(f"unexpected reply: {data[:100]!r}")
                data = data[len(answer) :]
                latency[request_slot] = now - due_ns[request_slot]
                answered += 1
        if clock() > give_up_at:
            raise ConnectionError(f"{total - answered} of {total} requests were not answered in time")
    channel.send(Arrivals(latency[warm_up:], lateness[warm_up:]))


def hold(channel: Connection, port: int, count: int) -> None:
    """Open connections and report how many; when told to, use each once and report; when told to, end."""
    files_max = processes.files_max()
    wanted = min(count, files_max - 64)
    connections: list[socket.socket] = []
    for _ in range(wanted):
        connection = connect(port)
        # Reset instead of TIME_WAIT, so that 10,000 local ports come back at once.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connections.append(connection)
    channel.send(len(connections))
    channel.recv()
    for connection in connections:
        connection.sendall(request("PING"))
        if connection.recv(64) != b"+PONG\r\n":
            raise ConnectionError("a connection was refused: is maxclients too low?")
    channel.send(len(connections))
    channel.recv()


def connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def key(number: int) -> bytes:
    return b"%016d" % number


def set_request(number: int) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$16\r\n%016d\r\n$16\r\n%b\r\n" % (number, VALUE)


def get_request(number: int) -> bytes:
    return b"*2\r\n$3\r\nGET\r\n$16\r\n%016d\r\n" % number


def expect(connection: socket.socket, reply: bytes, count: int) -> None:
    """Read exactly `count` times `reply`; anything else is an error, named by its first bytes."""
    missing = len(reply) * count
    parts = []
    while missing:
        data = connection.recv(min(missing, 262_144))
        if not data:
            raise ConnectionError("the server closed the connection")
        parts.append(data)
        missing -= len(data)
    if b"".join(parts) != reply * count:
        raise ConnectionError(f"unexpected reply: {b''.join(parts)[:100]!r}")
