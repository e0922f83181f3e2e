"""redis-benchmark as an instrument: its default tests, the state each one needs, one run with the server's CPU time."""

from __future__ import annotations

import csv
import subprocess
from dataclasses import dataclass
from typing import Final

import processes
from redis_client import Client, ServerError
from servers import Server

CLIENTS: Final = 50
KEYSPACE: Final = 100_000
REQUESTS_MAX: Final = 10_000_000
FILL: Final = 3 * KEYSPACE  # random writes: leaves 95 % of the keyspace filled
EVERY_ELEMENT_ANOTHER: Final = 10**9


@dataclass(frozen=True)
class Filling:
    """State made before a run, unmeasured: a test of redis-benchmark, by default over the same keyspace."""

    test: str
    requests: int | None = FILL  # None: as many as the run will make, so that each pop finds something
    keyspace: int = KEYSPACE


@dataclass(frozen=True)
class Test:
    """One test of redis-benchmark 7.0's default set.

    Those with `argv` are given as a command, since redis-benchmark would push as many elements as it has requests
    before it measures them, and that CPU time could not be told apart.
    """

    name: str
    command: str
    filling: Filling | None = None
    argv: tuple[str, ...] = ()
    requests_max: int = REQUESTS_MAX


# Overwriting tests start from their own outcome, so that they measure the steady state whatever the number of requests.
TESTS: Final = (
    Test("PING_INLINE", "PING"),
    Test("PING_MBULK", "PING"),
    Test("SET", "SET", Filling("SET")),
    Test("GET", "GET", Filling("SET")),
    Test("INCR", "INCR", Filling("INCR")),
    Test("LPUSH", "LPUSH"),
    Test("RPUSH", "RPUSH"),
    Test("LPOP", "LPOP", Filling("RPUSH", None), requests_max=1_000_000),
    Test("RPOP", "RPOP", Filling("LPUSH", None), requests_max=1_000_000),
    Test("SADD", "SADD", Filling("SADD")),
    Test("HSET", "HSET", Filling("HSET")),
    Test("SPOP", "SPOP", Filling("SADD", None, EVERY_ELEMENT_ANOTHER), requests_max=1_000_000),
    Test("ZADD", "ZADD", Filling("ZADD")),
    Test("ZPOPMIN", "ZPOPMIN", Filling("ZADD", None, EVERY_ELEMENT_ANOTHER), requests_max=1_000_000),
    Test("LRANGE_100", "LRANGE", Filling("RPUSH", 1000), ("LRANGE", "mylist", "0", "99")),
    Test("LRANGE_300", "LRANGE", Filling("RPUSH", 1000), ("LRANGE", "mylist", "0", "299")),
    Test("LRANGE_500", "LRANGE", Filling("RPUSH", 1000), ("LRANGE", "mylist", "0", "499")),
    Test("LRANGE_600", "LRANGE", Filling("RPUSH", 1000), ("LRANGE", "mylist", "0", "599")),
    Test("MSET", "MSET", Filling("SET")),  # ten keys, one command
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
    if test.filling is not None:
        count = requests if test.filling.requests is None else test.filling.requests
        load(server, ("-t", test.filling.test.lower()), count, 50, test.filling.keyspace)
    processes.wait_until_calm(server.pid)


def requests_for(server: Server, test: Test, pipeline: int, run_s: float) -> int:
    """How many requests keep this server busy for about run_s; a multiple of the pipeline, so that all are sent."""
    trial = rounded(min(test.requests_max, max(5_000, int(20_000 * min(1.0, run_s) * min(pipeline, 8)))), pipeline)
    fill(server, test, trial)
    wanted = int(load(server, arguments(test), trial, pipeline)[0] * run_s)
    return rounded(min(test.requests_max, max(2_000, wanted)), pipeline)


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
        ops_per_s, p50_ms, p99_ms = load(server, arguments(test), requests, pipeline)
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
    server: Server, test_arguments: tuple[str, ...], requests: int, pipeline: int, keyspace: int = KEYSPACE
) -> tuple[float, float, float]:
    """Run redis-benchmark; return operations per second, p50 and p99 in ms."""
    argv = ["redis-benchmark", "-h", "127.0.0.1", "-p", server.port, "-c", CLIENTS, "-r", keyspace]
    argv += ["-n", requests, "-P", pipeline, "--csv", *test_arguments]
    done = subprocess.run(
        [str(part) for part in argv],
        capture_output=True,
        text=True,
        timeout=60 + requests / 5_000,
        preexec_fn=processes.prepare_child,  # safe: there are no threads here
        check=False,
    )
    rows = list(csv.DictReader(done.stdout.splitlines()))
    if done.returncode or len(rows) != 1:
        raise LoadFailure(
            f"{' '.join(map(str, argv))}: exit {done.returncode}\n{done.stdout[-500:]}{done.stderr[-500:]}"
        )
    row = rows[0]
    return float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"])
