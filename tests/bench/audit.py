"""What the audit log costs the data process: CPU per command under a steady load, with and without it in turn.

As observation.py, whose windows these are: in pairs, of one load.  Writes are measured where each is recorded, with a
queue that holds all records of the measurement; what the sidecar makes of them is its own CPU, and is told beside it.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import asdict
from typing import Any, Final

import observation
import processes
import redis_benchmark
from estimates import Change, Interval, paired_change
from redis_benchmark import Test
from redis_client import Client
from section import Bench, Table
from servers import Server, running
from targets import AUDIT_ADMIN_PERCENT_MAX, AUDIT_WRITES_PERCENT_MAX, Verdict

# Files are taken away as they fill: a measurement writes gigabytes.
FLAGS: Final = (
    "--audit-file", "audit.jsonl", "--audit-queue-size", "1gb", "--audit-retention-size", "1mb", "--audit-fsync", "no",
)  # fmt: skip
ADMIN: Final = "connect auth acl config admin script"
# What is recorded, of which test, at which pipeline.
CASES: Final = ((ADMIN, "GET", 1), (ADMIN, "GET", 16), (ADMIN, "SET", 16), ("write", "SET", 1), ("write", "SET", 16))
QUEUE_PART_MAX: Final = 0.5
_KEPT_UP_S: Final = 60.0


def measure(bench: Bench) -> dict[str, Any]:
    recipe = bench.subject
    if not recipe.has_observation:
        return {"results": []}
    with running(dataclasses.replace(recipe, argv=(*recipe.argv, *FLAGS))) as server:
        tests = {test.name: test for test in redis_benchmark.TESTS}
        results = [compare(bench, server, what, tests[name], pipeline) for what, name, pipeline in CASES]
        return {"server": server.name, "results": results, "sidecar_records_per_s": pace(server, tests["SET"])}


def compare(bench: Bench, server: Server, what: str, test: Test, pipeline: int) -> dict[str, Any]:
    pairs, window_s = bench.sizes.observation_pairs, bench.sizes.observation_window_s
    bench.progress(f"audit: {what}, {test.name}, pipeline {pipeline}, {pairs} pairs")
    redis_benchmark.fill(server, test, 0)
    spent: dict[str, list[float]] = {"no": [], "yes": []}
    size = len(observation.REQUESTS[test.name])
    with redis_benchmark.endless_load(server, test, pipeline) as load, server.client() as client:
        client.call("CONFIG", "SET", "audit-categories", what)
        observation.observe(server, client, load, size, observation.WARM_UP_S)
        dropped = status(client)["dropped"]
        for pair in range(pairs):
            for state in ("yes", "no") if pair % 2 else ("no", "yes"):
                client.call("CONFIG", "SET", "audit-enabled", "no")
                wait_for_room(client)
                client.call("CONFIG", "SET", "audit-enabled", state)
                time.sleep(observation.SETTLE_S)
                cpu_ns = time.clock_gettime_ns(processes.cpu_clock(server.pid))
                window = observation.observe(server, client, load, size, window_s)
                cpu_ns = time.clock_gettime_ns(processes.cpu_clock(server.pid)) - cpu_ns
                spent[state].append(cpu_ns / window.requests)
        client.call("CONFIG", "SET", "audit-enabled", "yes")
        client.call("CONFIG", "SET", "audit-categories", ADMIN)
        dropped = status(client)["dropped"] - dropped
    change = paired_change(spent["no"], spent["yes"])
    return {
        "recorded": what,
        "test": test.name,
        "pipeline": pipeline,
        "off_cpu_ns_per_command": statistics.median(spent["no"]),
        "on_cpu_ns_per_command": statistics.median(spent["yes"]),
        "change": asdict(change),
        "change_text": str(change),
        "dropped": dropped,
    }


def status(client: Client) -> dict[str, Any]:
    words = client.call("AUDIT", "STATUS")
    return {name.decode(): value for name, value in zip(words[::2], words[1::2], strict=True)}


def wait_for_room(client: Client) -> None:
    stop = time.monotonic() + _KEPT_UP_S
    while status(client).get("queue_bytes", 0) > QUEUE_PART_MAX * (1 << 30) and time.monotonic() < stop:
        time.sleep(0.1)


def pace(server: Server, test: Test) -> float:
    """How many records the sidecar writes in a second while more come than it can take."""
    with redis_benchmark.endless_load(server, test, 16), server.client() as client:
        client.call("CONFIG", "SET", "audit-categories", "write")
        time.sleep(1.0)
        before, begun = status(client)["records"], time.monotonic()
        time.sleep(2.0)
        records, elapsed_s = status(client)["records"] - before, time.monotonic() - begun
        client.call("CONFIG", "SET", "audit-categories", ADMIN)
    return records / elapsed_s


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        [
            "writes" if row["recorded"] == "write" else "all but writes and reads",
            row["test"],
            row["pipeline"],
            f"{row['off_cpu_ns_per_command']:.0f}",
            f"{row['on_cpu_ns_per_command']:.0f}",
            row["change_text"],
            row["dropped"],
        ]
        for row in result["results"]
    ]
    notes = [f"the sidecar wrote {result.get('sidecar_records_per_s', 0):,.0f} records in a second"]
    header = ["recorded", "test", "P", "off CPU ns", "on CPU ns", "change [95 %]", "dropped"]
    return [Table("audit log off and on", header, rows, notes)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = []
    for row in result["results"]:
        change = Change(**row["change"])
        measured = Interval(change.median_percent, change.low_percent, change.high_percent, change.pairs)
        is_of_writes = row["recorded"] == "write"
        if is_of_writes and row["pipeline"] != 16:
            continue
        bound = AUDIT_WRITES_PERCENT_MAX if is_of_writes else AUDIT_ADMIN_PERCENT_MAX
        what = f"audit of {'writes' if is_of_writes else 'admin'}, {row['test']}, pipeline {row['pipeline']}"
        found.append(Verdict(what, "%", bound, measured))
    return found
