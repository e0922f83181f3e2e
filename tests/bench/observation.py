"""What the statistics cost: CPU per command of one server under a steady load, observation off and on in turn.

Windows of a tenth of a second, in pairs, in the order off on, on off, ... (ABBA).  All windows of a test are of one
load, from one redis-benchmark, so that a pair differs by the switch and by what the machine does within a fifth of a
second.  A few ms after the switch are left out.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import processes
import redis_benchmark
from estimates import Change, Interval, paired_change
from redis_benchmark import ORDINARY, LoadFailure, Test
from redis_client import Client, request
from section import Bench, Table
from servers import Server, running
from targets import OBSERVATION_PERCENT_MAX, Verdict

# The requests of a test are all of one length, which is how they are counted: without observation Kora does not count
# commands, but bytes it does.
REQUESTS: Final = {
    "GET": request("GET", "key:000000000000"),
    "SET": request("SET", "key:000000000000", "x" * ORDINARY.value_bytes),
}
PIPELINES: Final = (1, 16)
WARM_UP_S: Final = 0.5
SETTLE_S: Final = 0.01


def measure(bench: Bench) -> dict[str, Any]:
    with running(bench.subject) as server:
        tests = [test for test in redis_benchmark.TESTS if test.name in REQUESTS]
        results = [compare(bench, server, test, pipeline, switch) for pipeline in PIPELINES for test in tests]
    return {"server": server.name, "is_switchable": server.recipe.has_observation, "results": results}


def compare(
    bench: Bench, server: Server, test: Test, pipeline: int, switch: Callable[[Server, Client, str], None]
) -> dict[str, Any]:
    """CPU per command while what switch() turns on and off (`yes`, `no`) is off, and while it is on."""
    pairs, window_s = bench.sizes.observation_pairs, bench.sizes.observation_window_s
    bench.progress(f"{switch.__module__}: {test.name}, pipeline {pipeline}, {pairs} pairs")
    redis_benchmark.fill(server, test, 0)
    spent: dict[str, list[float]] = {"no": [], "yes": []}
    with redis_benchmark.endless_load(server, test, pipeline) as load, server.client() as client:
        size = len(REQUESTS[test.name])
        check_count(server, observe(server, client, load, size, WARM_UP_S))
        for pair in range(pairs):
            for state in ("yes", "no") if pair % 2 else ("no", "yes"):
                switch(server, client, state)
                time.sleep(SETTLE_S)
                window = observe(server, client, load, size, window_s)
                spent[state].append(window.cpu_ns / window.requests)
        switch(server, client, "yes")
    change = paired_change(spent["no"], spent["yes"])
    return {
        "test": test.name,
        "pipeline": pipeline,
        "off_cpu_ns_per_command": statistics.median(spent["no"]),
        "on_cpu_ns_per_command": statistics.median(spent["yes"]),
        "change": asdict(change),
        "change_text": str(change),
        "off_windows": spent["no"],
        "on_windows": spent["yes"],
    }


@dataclass(frozen=True)
class Window:
    """What a server did in a while."""

    commands: int  # as it counted them itself: with observation off, not at all
    requests: float  # worked out from the bytes that came
    cpu_ns: int


def observe(
    server: Server, client: Client, load: subprocess.Popen[bytes], request_bytes: int, window_s: float
) -> Window:
    before, spent = client.info("stats"), processes.cpu_ns(server.pid)
    time.sleep(window_s)
    after, spent_after = client.info("stats"), processes.cpu_ns(server.pid)
    if load.poll() is not None:
        raise LoadFailure(f"redis-benchmark ended in the middle: exit {load.returncode}")
    commands, input_bytes = (
        int(after[field]) - int(before[field]) for field in ("total_commands_processed", "total_net_input_bytes")
    )
    if input_bytes < 100 * request_bytes:
        raise LoadFailure(f"{server.name} read {input_bytes} bytes in {window_s} s under full load")
    return Window(commands, input_bytes / request_bytes, processes.cpu_spent_ns(spent, spent_after))


def check_count(server: Server, window: Window) -> None:
    """CPU per request is only true if the bytes are: with observation on, the server knows how many commands they were.

    A batch may have been read and not yet executed, or partly.
    """
    if abs(window.commands - window.requests) > 2_000 + window.requests / 100:
        raise LoadFailure(f"{server.name} counted {window.commands} commands where {window.requests:.0f} were read")


def switch(server: Server, client: Client, state: str) -> None:
    if server.recipe.has_observation:
        client.call("CONFIG", "SET", "observation", state)


def tables(result: dict[str, Any], what: str = "observation") -> list[Table]:
    rows = [
        [
            row["test"],
            row["pipeline"],
            row["change"]["pairs"],
            f"{row['off_cpu_ns_per_command']:.0f}",
            f"{row['on_cpu_ns_per_command']:.0f}",
            row["change_text"],
        ]
        for row in result["results"]
    ]
    notes = ["change: median of the pairs, and its 95 % confidence interval (bootstrap)."]
    if not result["is_switchable"]:
        notes.append(f"{result['server']} has no such switch: the change shown is the noise of this measurement.")
    header = ["test", "P", "pairs", "off CPU ns", "on CPU ns", "change [95 %]"]
    return [Table(f"{what} off and on, {result['server']}", header, rows, notes)]


def verdicts(
    result: dict[str, Any],
    what: str = "observation",
    percent_max: Mapping[int, float] = OBSERVATION_PERCENT_MAX,
) -> list[Verdict]:
    found = []
    for row in result["results"]:
        change = Change(**row["change"])
        measured = Interval(change.median_percent, change.low_percent, change.high_percent, change.pairs)
        name = f"{what}, {row['test']}, pipeline {row['pipeline']}"
        found.append(Verdict(name, "%", percent_max[row["pipeline"]], measured))
    return found
