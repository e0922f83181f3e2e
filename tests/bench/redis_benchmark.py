"""redis-benchmark as an instrument: its default tests, the state each one needs, one run with the server's CPU time."""

from __future__ import annotations

import contextlib
import csv
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import processes
from redis_client import Client, ServerError
from servers import Server

KEYSPACE: Final = 100_000
REQUESTS_MAX: Final = 10_000_000
REQUESTS_ENDLESS: Final = 2_000_000_000
FILL: Final = 3 * KEYSPACE  # random writes: leaves 95 % of the keyspace filled
EVERY_ELEMENT_ANOTHER: Final = 10**9


@dataclass(frozen=True)
class Shape:
    """What redis-benchmark is told beside the command."""

    clients: int = 50
    keyspace: int = KEYSPACE
    value_bytes: int = 3


ORDINARY: Final = Shape()


@dataclass(frozen=True)
class Filling:
    """State made before a run, unmeasured: by a test of redis-benchmark or by a command, if there is an argv."""

    test: str
    requests: int | None = FILL  # None: as many as the run will make, so that each pop finds something
    shape: Shape = ORDINARY
    argv: tuple[str, ...] = ()
    pipeline: int = 50


@dataclass(frozen=True)
class Test:
    """One test of redis-benchmark 7.0's default set, or a command of our own.

    The LRANGEs are given as commands, since redis-benchmark would push as many elements as it has requests before it
    measures them, and that CPU time could not be told apart.
    """

    name: str
    command: str
    fillings: tuple[Filling, ...] = ()
    argv: tuple[str, ...] = ()  # empty: redis-benchmark's test of that name
    requests_max: int = REQUESTS_MAX
    requests_trial: int = 5_000
    shape: Shape = ORDINARY

    @property
    def is_steady(self) -> bool:
        """Whether a run leaves the state that it found, so that the next needs no other."""
        return bool(self.fillings) and all(filling.requests is not None for filling in self.fillings)


SET_KEYS: Final = Filling("SET")
INCRBYFLOAT: Final = ("INCRBYFLOAT", "float:__rand_int__", "0.25")
XADD: Final = ("XADD", "mystream", "*", "myfield", "data")  # as 7.2 and later have it
COPY: Final = ("COPY", "key:__rand_int__", "copy:__rand_int__", "REPLACE")

# Overwriting tests start from their own outcome, so that they measure the steady state whatever the number of requests.
TESTS: Final = (
    Test("PING_INLINE", "PING"),
    Test("PING_MBULK", "PING"),
    Test("SET", "SET", (SET_KEYS,)),
    Test("GET", "GET", (SET_KEYS,)),
    Test("INCR", "INCR", (Filling("INCR"),)),
    Test("LPUSH", "LPUSH"),
    Test("RPUSH", "RPUSH"),
    Test("LPOP", "LPOP", (Filling("RPUSH", None),), requests_max=1_000_000),
    Test("RPOP", "RPOP", (Filling("LPUSH", None),), requests_max=1_000_000),
    Test("SADD", "SADD", (Filling("SADD"),)),
    Test("HSET", "HSET", (Filling("HSET"),)),
    Test("SPOP", "SPOP", (Filling("SADD", None, Shape(keyspace=EVERY_ELEMENT_ANOTHER)),), requests_max=1_000_000),
    Test("ZADD", "ZADD", (Filling("ZADD"),)),
    Test("ZPOPMIN", "ZPOPMIN", (Filling("ZADD", None, Shape(keyspace=EVERY_ELEMENT_ANOTHER)),), requests_max=1_000_000),
    Test("LRANGE_100", "LRANGE", (Filling("RPUSH", 1000),), ("LRANGE", "mylist", "0", "99")),
    Test("LRANGE_300", "LRANGE", (Filling("RPUSH", 1000),), ("LRANGE", "mylist", "0", "299")),
    Test("LRANGE_500", "LRANGE", (Filling("RPUSH", 1000),), ("LRANGE", "mylist", "0", "499")),
    Test("LRANGE_600", "LRANGE", (Filling("RPUSH", 1000),), ("LRANGE", "mylist", "0", "599")),
    Test("MSET", "MSET", (SET_KEYS,)),  # ten keys, one command
    Test("XADD", "XADD", argv=XADD),
    Test("DBSIZE", "DBSIZE", (SET_KEYS,), ("DBSIZE",)),
    Test("OBJECT_ENCODING", "OBJECT", (SET_KEYS,), ("OBJECT", "ENCODING", "key:__rand_int__")),
    Test("INCRBYFLOAT", "INCRBYFLOAT", (Filling("INCRBYFLOAT", argv=INCRBYFLOAT),), INCRBYFLOAT),
    Test("COPY", "COPY", (SET_KEYS, Filling("COPY", argv=COPY)), COPY),
)
# What the kernel answers by itself, and what passes through it into a Python handler: cheap and O(1), so that the way
# there is what is measured.
KERNEL_TESTS: Final = ("GET", "SET", "INCR", "MSET")
TYPE_TESTS: Final = ("LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN", "LRANGE_100",
                     "LRANGE_300", "LRANGE_500", "LRANGE_600", "XADD")  # fmt: skip
HANDLER_TESTS: Final = ("DBSIZE", "OBJECT_ENCODING", "COPY")

LARGE_VALUES: Final = Shape(clients=4, keyspace=64, value_bytes=1 << 20)
LARGE_KEYS: Final = Filling("SET", 5 * LARGE_VALUES.keyspace, LARGE_VALUES, pipeline=1)
LARGE_TESTS: Final = (
    Test("GET", "GET", (LARGE_KEYS,), requests_trial=100, shape=LARGE_VALUES),
    Test("SET", "SET", (LARGE_KEYS,), requests_trial=100, shape=LARGE_VALUES),
)


class LoadFailure(Exception):
    """redis-benchmark failed or lost count; the text says how."""


@dataclass(frozen=True)
class Run:
    requests: int
    ops_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ns_per_command: float  # of the whole server
    child_cpu_ns_per_command: float  # of its child processes: Kora's sidecar


def is_known(client: Client, command: str) -> bool:
    """Asks COMMAND INFO; a server without that is asked to run the command with no arguments."""
    try:
        reply = client.call("COMMAND", "INFO", command)
        return isinstance(reply, list) and bool(reply) and isinstance(reply[0], list)
    except ServerError:
        pass
    try:
        client.call(command)
    except ServerError as error:
        return "unknown command" not in str(error).lower()
    return True


def fill(server: Server, test: Test, requests: int) -> None:
    """Empty the server and make the state that the test needs."""
    with server.client() as client:
        client.call("FLUSHALL")
    for filling in test.fillings:
        count = requests if filling.requests is None else filling.requests
        load(server, filling.argv or ("-t", filling.test.lower()), count, filling.pipeline, filling.shape)
    processes.wait_until_calm(server.pid)


def refill(server: Server, test: Test, requests: int) -> None:
    """Between runs: nothing, where the last one left what the next one needs."""
    if not test.is_steady:
        fill(server, test, requests)


def requests_for(server: Server, test: Test, pipeline: int, run_s: float) -> int:
    """How many requests keep this server busy for about run_s; a multiple of the pipeline, so that all are sent.

    A steady test must have been filled for.
    """
    factor = max(1, int(4 * min(1.0, run_s) * min(pipeline, 8)))
    trial = rounded(min(test.requests_max, test.requests_trial * factor), pipeline)
    refill(server, test, trial)
    wanted = int(load(server, arguments(test), trial, pipeline, test.shape)[0] * run_s)
    return rounded(min(test.requests_max, max(test.requests_trial * 2 // 5, wanted)), pipeline)


def rounded(requests: int, pipeline: int) -> int:
    return max(1, requests // pipeline) * pipeline


def arguments(test: Test) -> tuple[str, ...]:
    return test.argv or ("-t", test.name.lower())


def measure(server: Server, test: Test, requests: int, pipeline: int) -> Run:
    """One run, on the state that is there.  `requests` is a multiple of `pipeline`."""
    assert requests % pipeline == 0, (requests, pipeline)
    with server.client() as client:
        counted_before = commands_processed(client)
        before = processes.cpu_ns(server.pid)
        ops_per_s, p50_ms, p99_ms = load(server, arguments(test), requests, pipeline, test.shape)
        after = processes.cpu_ns(server.pid)
        check_count(server, test, requests, commands_processed(client) - counted_before)
    spent_ns = processes.cpu_spent_ns(before, after)
    main_ns = after[server.pid] - before[server.pid]
    return Run(requests, ops_per_s, p50_ms, p99_ms, spent_ns / requests, (spent_ns - main_ns) / requests)


def commands_processed(client: Client) -> int:
    return int(client.info("stats").get("total_commands_processed", -1))


def check_count(server: Server, test: Test, requests: int, counted: int) -> None:
    """CPU per command is only true if the server had as many commands as we think: ask it.

    A few more are redis-benchmark's own (CONFIG GET) and ours (INFO); none at all means that INFO has no such field.
    """
    if counted and not requests <= counted <= requests + 20:
        raise LoadFailure(f"{test.name}: {requests} requests sent, but {server.name} counted {counted} commands")


def load(
    server: Server, test_arguments: tuple[str, ...], requests: int, pipeline: int, shape: Shape = ORDINARY
) -> tuple[float, float, float]:
    """Run redis-benchmark; return operations per second, p50 and p99 in ms."""
    argv = command_line(server, test_arguments, requests, pipeline, shape)
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=60 + requests / 5_000,
        preexec_fn=processes.prepare_child,  # safe: there are no threads here
        check=False,
    )
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if done.returncode or len(rows) != 1:
        raise LoadFailure(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-500:]}{done.stderr[-500:]}")
    row = rows[0]
    return float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"])


@contextlib.contextmanager
def endless_load(server: Server, test: Test, pipeline: int) -> Iterator[subprocess.Popen[bytes]]:
    """redis-benchmark in the background, for the length of a `with`."""
    process = subprocess.Popen(
        command_line(server, arguments(test), rounded(REQUESTS_ENDLESS, pipeline), pipeline, test.shape),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=processes.prepare_child,  # safe: there are no threads here
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def command_line(
    server: Server, test_arguments: tuple[str, ...], requests: int, pipeline: int, shape: Shape
) -> list[str]:
    argv = ["redis-benchmark", "-h", "127.0.0.1", "-p", server.port, "-c", shape.clients, "-r", shape.keyspace]
    argv += ["-d", shape.value_bytes, "-n", requests, "-P", pipeline, "--csv", *test_arguments]
    return [str(part) for part in argv]
