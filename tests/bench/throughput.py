"""Operations per second and, what matters more on shared cores, the server's CPU nanoseconds per command."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

import redis_benchmark
from estimates import Interval, paired_ratio
from redis_benchmark import HANDLER_TESTS, KERNEL_TESTS, Run, Test
from section import Bench, Table
from servers import Server, running
from targets import HANDLERS_CPU_RATIO_MAX, KERNEL_CPU_RATIO_MAX, Verdict


def measure(bench: Bench) -> dict[str, Any]:
    with running(bench.reference) as reference, running(bench.subject) as subject:
        tests, missing = known_tests(bench, reference, subject)
        results = []
        for test in tests:
            for server in (reference, subject):
                redis_benchmark.fill(server, test, 0)
            for pipeline in bench.sizes.pipelines:
                bench.progress(f"throughput: {test.name}, pipeline {pipeline}")
                results.append(compare(bench, reference, subject, test, pipeline, bench.sizes.run_s))
    return {"servers": [reference.name, subject.name], "results": results, "not_implemented": missing}


def known_tests(bench: Bench, *servers: Server) -> tuple[list[Test], list[str]]:
    """The chosen tests that all servers have the commands for, and the names of the others."""
    chosen = [test for test in redis_benchmark.TESTS if test.name in bench.sizes.tests]
    missing = set()
    for server in servers:
        with server.client() as client:
            missing |= {test.name for test in chosen if not redis_benchmark.is_known(client, test.command)}
    return [test for test in chosen if test.name not in missing], sorted(missing)


def compare(
    bench: Bench,
    reference: Server,
    subject: Server,
    test: Test,
    pipeline: int,
    run_s: float,
    rounds: int | None = None,
) -> dict[str, Any]:
    """Rounds in turn, both servers with the same number of requests: what the slower one does in the time given.

    Short rounds and many of them: a slow spell of the machine then spoils one pair, and the median passes over it.
    """
    servers = [reference, subject]
    requests = min(redis_benchmark.requests_for(server, test, pipeline, run_s) for server in servers)
    runs: dict[int, list[Run]] = {reference.pid: [], subject.pid: []}
    for turn in range(rounds or bench.sizes.rounds):
        # Who goes first changes with the round, so that a drift of the machine favours nobody.
        for server in servers[:: -1 if turn % 2 else 1]:
            redis_benchmark.refill(server, test, requests)
            runs[server.pid].append(redis_benchmark.measure(server, test, requests, pipeline))
    theirs, ours = runs[reference.pid], runs[subject.pid]
    cpu = paired_ratio([run.cpu_ns_per_command for run in ours], [run.cpu_ns_per_command for run in theirs])
    ops = paired_ratio([run.ops_per_s for run in ours], [run.ops_per_s for run in theirs])
    return {
        "test": test.name,
        "pipeline": pipeline,
        "requests": requests,
        "reference": summary(theirs),
        "subject": summary(ours),
        "cpu_ratio": asdict(cpu),
        "ops_ratio": asdict(ops),
    }


def summary(runs: list[Run]) -> dict[str, Any]:
    fields = ("ops_per_s", "cpu_ns_per_command", "child_cpu_ns_per_command", "p50_ms", "p99_ms")
    medians = {field: statistics.median(getattr(run, field) for run in runs) for field in fields}
    return {**medians, "runs": [asdict(run) for run in runs]}


def tables(result: dict[str, Any]) -> list[Table]:
    notes = [
        "CPU ns: server process and its children, per command; ratios: median of the paired rounds [95 % interval].",
        f"{', '.join(HANDLER_TESTS)}: through Python handlers, also with a kernel.",
    ]
    if result["not_implemented"]:
        notes.append(f"left out, command not known to both: {', '.join(result['not_implemented'])}")
    return [Table("throughput", header(result["servers"]), [cells(row) for row in result["results"]], notes)]


def header(servers: list[str]) -> list[str]:
    reference, subject = servers
    return [
        *("test", "P", f"{reference} kops/s", f"{subject} kops/s", "ratio"),
        *(f"{reference} CPU ns", f"{subject} CPU ns", "CPU ratio [95 %]"),
        *(f"{reference} p50/p99 ms", f"{subject} p50/p99 ms"),
    ]


def cells(row: dict[str, Any]) -> list[str]:
    pair = (row["reference"], row["subject"])
    return [
        row["test"],
        str(row["pipeline"]),
        *(f"{side['ops_per_s'] / 1000:.{0 if side['ops_per_s'] > 10_000 else 2}f}" for side in pair),
        f"{row['ops_ratio']['median']:.2f}",
        *(f"{side['cpu_ns_per_command']:.0f}" for side in pair),
        str(Interval(**row["cpu_ratio"])),
        *(f"{side['p50_ms']:.2f}/{side['p99_ms']:.2f}" for side in pair),
    ]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = []
    for names, bounds in ((KERNEL_TESTS, KERNEL_CPU_RATIO_MAX), (HANDLER_TESTS, HANDLERS_CPU_RATIO_MAX)):
        for row in result["results"]:
            if row["test"] in names and row["pipeline"] in bounds:
                what = f"CPU of {row['test']}, pipeline {row['pipeline']}"
                found.append(Verdict(what, "x", bounds[row["pipeline"]], Interval(**row["cpu_ratio"])))
    return found
