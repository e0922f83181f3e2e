"""What the journal costs: SETs with none, with appendfsync everysec, and with always, on both servers in one run.

`always` depends on how long the disk under the temporary folder takes for a sync, which is not for a server to decide.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Final

import redis_benchmark
from estimates import Interval, median_interval, paired_ratio
from loading import with_flags
from redis_benchmark import Run
from section import Bench, Table
from servers import running
from targets import ALWAYS_OPS_RATIO_MIN, EVERYSEC_CPU_RATIO_MAX, EVERYSEC_OPS_SHARE_MIN, Verdict

# appendfsync, or "" for no journal; and the pipeline.
MODES: Final = (("", 16), ("everysec", 16), ("", 1), ("always", 1))


def measure(bench: Bench) -> dict[str, Any]:
    return {"results": [row for mode in MODES for row in compare(bench, *mode)]}


def compare(bench: Bench, policy: str, pipeline: int) -> list[dict[str, Any]]:
    bench.progress(f"journal: {policy or 'none'}, pipeline {pipeline}")
    test = next(test for test in redis_benchmark.TESTS if test.name == "SET")
    # Without rewrites, which would come at times of their own.
    flags = ("--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-percentage", "0") if policy else ()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(with_flags(recipe, *flags))) for recipe in bench.recipes]
        for server in servers:
            redis_benchmark.fill(server, test, 0)
        requests = min(redis_benchmark.requests_for(server, test, pipeline, bench.sizes.run_s) for server in servers)
        runs: dict[int, list[Run]] = {server.pid: [] for server in servers}
        for turn in range(bench.sizes.rounds):
            for server in servers[:: -1 if turn % 2 else 1]:
                redis_benchmark.refill(server, test, requests)
                runs[server.pid].append(redis_benchmark.measure(server, test, requests, pipeline))
        return [
            {
                "server": server.name,
                "policy": policy,
                "pipeline": pipeline,
                "runs": [dataclasses.asdict(run) for run in runs[server.pid]],
            }
            for server in servers
        ]


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for row in result["results"]:
        ops, cpu = (median_interval(values(row, name)).median for name in ("ops_per_s", "cpu_ns_per_command"))
        policy = row["policy"] or "no journal"
        rows.append([policy, str(row["pipeline"]), row["server"], f"{ops / 1000:.0f}", f"{cpu:.0f}"])
    return [Table("journal, SET", ["appendfsync", "P", "server", "kops/s", "CPU ns"], rows)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    reference, subject = {}, {}
    for place, row in enumerate(result["results"]):
        (subject if place % 2 else reference)[row["policy"], row["pipeline"]] = row
    everysec, none = subject["everysec", 16], subject["", 16]
    return [
        Verdict(
            "CPU of SET, everysec, pipeline 16",
            "x",
            EVERYSEC_CPU_RATIO_MAX,
            ratio("cpu_ns_per_command", everysec, reference["everysec", 16]),
        ),
        Verdict(
            "SETs without a journal over everysec", "x", 1 / EVERYSEC_OPS_SHARE_MIN, ratio("ops_per_s", none, everysec)
        ),
        Verdict(
            "SETs of Redis over Kora's, always",
            "x",
            1 / ALWAYS_OPS_RATIO_MIN,
            ratio("ops_per_s", reference["always", 1], subject["always", 1]),
        ),
    ]


def ratio(name: str, row: dict[str, Any], other: dict[str, Any]) -> Interval:
    return paired_ratio(values(row, name), values(other, name))


def values(row: dict[str, Any], name: str) -> list[float]:
    return [run[name] for run in row["runs"]]
