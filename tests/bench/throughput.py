"""Operations per second and, what matters more on shared cores, the server's CPU nanoseconds per command."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

import redis_benchmark
from estimates import median_ratio
from redis_benchmark import Run, Test
from section import Bench, Table
from servers import Server, running


def measure(bench: Bench) -> dict[str, Any]:
    with running(bench.reference) as reference, running(bench.subject) as subject:
        tests, missing = known_tests(bench, reference, subject)
        results = []
        for pipeline in bench.sizes.pipelines:
            for test in tests:
                bench.progress(f"throughput: {test.name}, pipeline {pipeline}")
                results.append(compare(bench, reference, subject, test, pipeline))
    return {"servers": [reference.name, subject.name], "results": results, "not_implemented": missing}


def known_tests(bench: Bench, *servers: Server) -> tuple[list[Test], list[str]]:
    """The chosen tests that all servers have the commands for, and the names of the others."""
    chosen = [test for test in redis_benchmark.TESTS if not bench.sizes.tests or test.name in bench.sizes.tests]
    missing = set()
    for server in servers:
        with server.client() as client:
            missing |= {test.name for test in chosen if not redis_benchmark.is_known(client, test.command)}
    return [test for test in chosen if test.name not in missing], sorted(missing)


def compare(bench: Bench, reference: Server, subject: Server, test: Test, pipeline: int) -> dict[str, Any]:
    """Rounds in turn, both servers with the same number of requests: what the slower one does in the time given."""
    servers = [reference, subject]
    requests = min(redis_benchmark.requests_for(server, test, pipeline, bench.sizes.run_s) for server in servers)
    runs: dict[int, list[Run]] = {reference.pid: [], subject.pid: []}
    for turn in range(bench.sizes.rounds):
        # Who goes first changes with the round, so that a drift of the machine favours nobody.
        for server in servers[:: -1 if turn % 2 else 1]:
            redis_benchmark.fill(server, test, requests)
            runs[server.pid].append(redis_benchmark.measure(server, test, requests, pipeline))
    theirs, ours = runs[reference.pid], runs[subject.pid]
    return {
        "test": test.name,
        "pipeline": pipeline,
        "requests": requests,
        "reference": summary(theirs),
        "subject": summary(ours),
        "cpu_ratio": median_ratio([run.cpu_ns_per_command for run in ours], [r.cpu_ns_per_command for r in theirs]),
        "ops_ratio": median_ratio([run.ops_per_s for run in ours], [run.ops_per_s for run in theirs]),
    }


def summary(runs: list[Run]) -> dict[str, Any]:
    fields = ("ops_per_s", "cpu_ns_per_command", "child_cpu_ns_per_command", "p50_ms", "p99_ms")
    medians = {field: statistics.median(getattr(run, field) for run in runs) for field in fields}
    return {**medians, "runs": [asdict(run) for run in runs]}


def tables(result: dict[str, Any]) -> list[Table]:
    reference, subject = result["servers"]
    header = ["test", "P", f"{reference} kops/s", f"{subject} kops/s", "ratio"]
    header += [f"{reference} CPU ns", f"{subject} CPU ns", "CPU ratio"]
    header += [f"{reference} p50/p99 ms", f"{subject} p50/p99 ms"]
    rows = []
    for row in result["results"]:
        pair = (row["reference"], row["subject"])
        rows.append(
            [
                row["test"],
                row["pipeline"],
                *(f"{side['ops_per_s'] / 1000:.0f}" for side in pair),
                f"{row['ops_ratio']:.2f}",
                *(f"{side['cpu_ns_per_command']:.0f}" for side in pair),
                f"{row['cpu_ratio']:.2f}",
                *(f"{side['p50_ms']:.2f}/{side['p99_ms']:.2f}" for side in pair),
            ]
        )
    notes = ["CPU ns: server process and its children, per command; ratios: median of the paired rounds."]
    if result["not_implemented"]:
        notes.append(f"left out, command not known to both: {', '.join(result['not_implemented'])}")
    return [Table("throughput", header, rows, notes)]
