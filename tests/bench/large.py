"""GET and SET of 1 MB values: what copying costs, in CPU per command and in commands per second."""

from __future__ import annotations

from typing import Any

import redis_benchmark
import throughput
from estimates import Interval
from redis_benchmark import LARGE_TESTS, LARGE_VALUES
from section import Bench, Table
from servers import running
from targets import LARGE_CPU_RATIO_MAX, LARGE_OPS_RATIO_MAX, Verdict


def measure(bench: Bench) -> dict[str, Any]:
    results = []
    with running(bench.reference) as reference, running(bench.subject) as subject:
        for test in LARGE_TESTS:
            bench.progress(f"large: {test.name} of {LARGE_VALUES.value_bytes} bytes")
            for server in (reference, subject):
                redis_benchmark.fill(server, test, 0)
            results.append(throughput.compare(bench, reference, subject, test, 1, bench.sizes.large_run_s))
    return {"servers": [reference.name, subject.name], "results": results}


def tables(result: dict[str, Any]) -> list[Table]:
    title = f"values of {LARGE_VALUES.value_bytes} bytes, {LARGE_VALUES.keyspace} keys, {LARGE_VALUES.clients} clients"
    notes = [
        "redis-benchmark reads or writes each byte as well, and is a good part of what limits commands per second."
    ]
    rows = [throughput.cells(row) for row in result["results"]]
    return [Table(title, throughput.header(result["servers"]), rows, notes)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = []
    for row in result["results"]:
        found.append(Verdict(f"CPU of {row['test']}, 1 MB", "x", LARGE_CPU_RATIO_MAX, Interval(**row["cpu_ratio"])))
        # How many times as many commands per second Redis does.
        ops = Interval(**row["ops_ratio"])
        slower = Interval(1 / ops.median, 1 / ops.high, 1 / ops.low, ops.count)
        found.append(Verdict(f"Redis' throughput over ours, {row['test']}, 1 MB", "x", LARGE_OPS_RATIO_MAX, slower))
    return found
