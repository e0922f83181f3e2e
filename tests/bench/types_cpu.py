"""The rest of redis-benchmark's set: commands on lists, hashes, sets, sorted sets and streams; as throughput."""

from __future__ import annotations

from typing import Any

import redis_benchmark
import throughput
from estimates import Interval
from redis_benchmark import TYPE_TESTS
from section import Bench, Table
from servers import running
from targets import TYPES_CPU_RATIO_MAX, XADD_CPU_RATIO_MAX, Verdict


def measure(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    results = []
    with running(bench.reference) as reference, running(bench.subject) as subject:
        for test in redis_benchmark.TESTS:
            if test.name not in sizes.type_tests:
                continue
            for server in (reference, subject):
                redis_benchmark.fill(server, test, 0)
            for pipeline in sizes.type_pipelines:
                bench.progress(f"types: {test.name}, pipeline {pipeline}")
                results.append(
                    throughput.compare(bench, reference, subject, test, pipeline, sizes.type_run_s, sizes.type_rounds)
                )
    return {"servers": [reference.name, subject.name], "results": results}


def tables(result: dict[str, Any]) -> list[Table]:
    notes = [f"bounds: {TYPES_CPU_RATIO_MAX} by pipeline, for XADD {XADD_CPU_RATIO_MAX}; see the last table."]
    rows = [throughput.cells(row) for row in result["results"]]
    return [Table("types: CPU per command", throughput.header(result["servers"]), rows, notes)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = []
    for row in result["results"]:
        bounds = XADD_CPU_RATIO_MAX if row["test"] == "XADD" else TYPES_CPU_RATIO_MAX
        if row["test"] in TYPE_TESTS and row["pipeline"] in bounds:
            what = f"CPU of {row['test']}, pipeline {row['pipeline']}"
            found.append(Verdict(what, "x", bounds[row["pipeline"]], Interval(**row["cpu_ratio"])))
    return found
