"""What the statistics cost: the same server, observation off and on in turn, CPU per command."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any, Final

import redis_benchmark
from estimates import paired_change
from redis_benchmark import Test
from section import Bench, Table
from servers import Server, running

TESTS: Final = ("GET", "SET")
PIPELINES: Final = (1, 16)


def measure(bench: Bench) -> dict[str, Any]:
    with running(bench.subject) as server:
        tests = [test for test in redis_benchmark.TESTS if test.name in TESTS]
        results = [compare(bench, server, test, pipeline) for pipeline in PIPELINES for test in tests]
    return {"server": server.name, "is_switchable": server.recipe.has_observation, "results": results}


def compare(bench: Bench, server: Server, test: Test, pipeline: int) -> dict[str, Any]:
    requests = redis_benchmark.requests_for(server, test, pipeline, bench.sizes.observation_run_s)
    redis_benchmark.fill(server, test, requests)
    spent: dict[str, list[float]] = {"no": [], "yes": []}
    # The first pair only warms caches and branch predictors.
    for pair in range(-1, bench.sizes.observation_pairs):
        bench.progress(
            f"observation: {test.name}, pipeline {pipeline}, pair {pair + 1}/{bench.sizes.observation_pairs}"
        )
        for state in ("no", "yes") if pair % 2 else ("yes", "no"):
            switch(server, state)
            run = redis_benchmark.measure(server, test, requests, pipeline)
            if pair >= 0:
                spent[state].append(run.cpu_ns_per_command)
    switch(server, "yes")
    return {
        "test": test.name,
        "pipeline": pipeline,
        "requests": requests,
        "off_cpu_ns_per_command": statistics.median(spent["no"]),
        "on_cpu_ns_per_command": statistics.median(spent["yes"]),
        "change": asdict(paired_change(spent["no"], spent["yes"])),
        "change_text": str(paired_change(spent["no"], spent["yes"])),
        "off_runs": spent["no"],
        "on_runs": spent["yes"],
    }


def switch(server: Server, state: str) -> None:
    if server.recipe.has_observation:
        with server.client() as client:
            client.call("CONFIG", "SET", "observation", state)


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        [
            row["test"],
            row["pipeline"],
            f"{row['off_cpu_ns_per_command']:.0f}",
            f"{row['on_cpu_ns_per_command']:.0f}",
            row["change_text"],
        ]
        for row in result["results"]
    ]
    notes = ["change: median of the pairs, and its 95 % confidence interval (bootstrap)."]
    if not result["is_switchable"]:
        notes.append(f"{result['server']} has no such switch: the change shown is the noise of this measurement.")
    header = ["test", "P", "off CPU ns", "on CPU ns", "change [95 %]"]
    return [Table(f"observation off and on, {result['server']}", header, rows, notes)]
