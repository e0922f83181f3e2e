"""What an event costs over HTTP, with wrk as in Kilometric's own figure, and what clients of the data feel of it.

The first part is `wrk -t1 -c100` against /track, with one key, with a thousand, and with batches: requests a second,
and CPU of the sidecar and of the data process for each.  The second is a probe of the data process beside periods with
and without wrk, in turn: the two have the last CPU, which they use in turn anyway, and everybody else has the first.
The third is TRACK over RESP beside INCR.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import processes
import redis_benchmark
from estimates import Change, Interval, median_interval, paired_change, paired_ratio, percentile
from load_children import Probes, child, probe
from redis_benchmark import Test
from section import Bench, Table
from servers import Server, running
from targets import EVENT_CPU_US_MAX, EVENTS_P99_PERCENT_MAX, TRACK_CPU_RATIO_MAX, Verdict

CONNECTIONS: Final = 100
BATCH: Final = 100
_MANY_KEYS: Final = 'request = function() return wrk.format("GET", "/track?key=metric-" .. math.random(1000)) end'
_BATCHES: Final = f"""
local events = {{}}
for number = 1, {BATCH} do events[number] = '{{"key": "metric-' .. number % 10 .. '", "value": ' .. number .. '}}' end
wrk.method, wrk.path, wrk.body = "POST", "/track", "[" .. table.concat(events, ",") .. "]"
"""
# What wrk is told, and how many events a request has.
CASES: Final[dict[str, tuple[str, int]]] = {
    "one key": ("", 1),
    "1,000 keys": (_MANY_KEYS, 1),
    f"batches of {BATCH}": (_BATCHES, BATCH),
}
# What wrk asks for while the data process is probed.  /health keeps the sidecar and its CPU as busy, and gives the data
# process nothing to do: by that much the CPUs themselves disturb each other.
QUIET: Final = "quiet"
OTHER: Final = "other HTTP"
TRACKING: Final = "tracking"
PERIODS: Final = {QUIET: "", OTHER: "/health", TRACKING: "/track?key=my-metric"}
PIPELINE: Final = 16
OVER_RESP: Final = tuple(Test(name, name, argv=(name, "my-metric")) for name in ("INCR", "TRACK"))
_REQUESTS: Final = re.compile(r"(\d+) requests in ([\d.]+)(ms|s|m)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


def measure(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    if shutil.which("wrk") is None:
        bench.progress("events: NOT MEASURED, since there is no wrk: install it (Debian: apt-get install wrk)")
        return {"is_skipped": True}
    cases: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    with running(bench.subject) as server:
        for turn in range(sizes.events_rounds):
            for name, (script, events) in CASES.items():
                bench.progress(f"events: {name}, round {turn + 1}/{sizes.events_rounds}")
                cases[name].append(load(server, script, events, sizes.events_run_s))
    with running(bench.subject) as server:
        effect = felt(bench, server)
    with running(bench.subject) as server:
        resp = over_resp(bench, server)
    return {"is_skipped": False, "server": server.name, "cases": cases, "effect": effect, "resp": resp}


def over_resp(bench: Bench, server: Server) -> dict[str, list[float]]:
    """CPU of the data process for each command, in ns."""
    bench.progress(f"events: over RESP, pipeline {PIPELINE}")
    requests = {test: redis_benchmark.requests_for(server, test, PIPELINE, bench.sizes.run_s) for test in OVER_RESP}
    cpu_ns: dict[str, list[float]] = {test.name: [] for test in OVER_RESP}
    for turn in range(bench.sizes.rounds):
        for test in OVER_RESP[:: -1 if turn % 2 else 1]:
            run = redis_benchmark.measure(server, test, requests[test], PIPELINE)
            cpu_ns[test.name].append(run.cpu_ns_per_command)
    return cpu_ns


def load(server: Server, script: str, events: int, run_s: float) -> dict[str, float]:
    """One run of wrk; CPU in microseconds for each request, and for each event of all processes together."""
    processes.wait_until_calm(server.pid)
    before = processes.cpu_ns(server.pid)
    requests, elapsed_s = wrk(server, script, run_s)
    processes.wait_until_calm(server.pid)
    after = processes.cpu_ns(server.pid)
    data_ns = after[server.pid] - before[server.pid]
    all_ns = processes.cpu_spent_ns(before, after)
    return {
        "per_s": requests / elapsed_s,
        "sidecar_us": (all_ns - data_ns) / 1000 / requests,
        "data_us": data_ns / 1000 / requests,
        "event_us": all_ns / 1000 / requests / events,
    }


def wrk(server: Server, script: str, run_s: float, path: str = "/track?key=my-metric") -> tuple[int, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        url = f"http://127.0.0.1:{server.events_port}{path}"
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(run_s))}s", *(["-s", file.name] if script else [])]
        output = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True).stdout
    found = _REQUESTS.search(output)
    assert found is not None and "Non-2xx" not in output, output
    return int(found[1]), float(found[2]) * _UNIT_S[found[3]]


def felt(bench: Bench, server: Server) -> dict[str, Any]:
    """The p99 of the data process in each period, quiet and busy."""
    sizes = bench.sizes
    cpus = os.sched_getaffinity(0)
    for pid in processes.tree(server.pid):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {max(cpus) if pid == server.pid else min(cpus)})
    spans: dict[str, list[tuple[int, int]]] = {name: [] for name in PERIODS}
    with child(probe, server.port, server.pid) as prober, contextlib.ExitStack() as bound:
        prober.receive(30)
        bound.callback(os.sched_setaffinity, 0, cpus)
        os.sched_setaffinity(0, {min(cpus)})
        for pair in range(sizes.events_pairs):
            bench.progress(f"events: with and without, pair {pair + 1}/{sizes.events_pairs}")
            for name in PERIODS if pair % 2 else reversed(PERIODS):
                start_ns = time.monotonic_ns()
                if PERIODS[name]:
                    wrk(server, "", sizes.events_run_s, PERIODS[name])
                else:
                    time.sleep(sizes.events_run_s)
                spans[name].append((start_ns, time.monotonic_ns()))
        prober.tell_to_go_on()
        seen: Probes = prober.receive(60)
    p99_us = {name: [percentile_us(seen, *span) for span in spans[name]] for name in PERIODS}
    return {
        "p99_us": p99_us,
        "changes": {name: asdict(paired_change(p99_us[name], p99_us[TRACKING])) for name in (QUIET, OTHER)},
    }


def percentile_us(seen: Probes, start_ns: int, stop_ns: int) -> float:
    times = sorted(
        own for started, own in zip(seen.started_ns, seen.own_ns, strict=True) if start_ns <= started < stop_ns
    )
    return percentile(times, 99) / 1000


def tables(result: dict[str, Any]) -> list[Table]:
    if result["is_skipped"]:
        return [Table("events over HTTP: NOT MEASURED", ["there is no wrk: apt-get install wrk (Debian)"], [])]
    rows = [
        [name, *(f"{statistics.median(run[column] for run in runs):{form}}" for column, form in _COLUMNS.items())]
        for name, runs in result["cases"].items()
    ]
    header = ["wrk -t1 -c100", "requests/s", "sidecar us/request", "data process us/request", "us/event"]
    medians = {name: statistics.median(times) for name, times in result["effect"]["p99_us"].items()}
    notes = ["p99 of the data process: " + ", ".join(f"{name} {time_us:.0f} us" for name, time_us in medians.items())]
    for name, change in result["effect"]["changes"].items():
        notes.append(f"{TRACKING} against {name}: {Change(**change)} [95 %]")
    resp = [[name, f"{statistics.median(cpu_ns):.0f}"] for name, cpu_ns in result["resp"].items()]
    return [
        Table(f"events over HTTP, {result['server']}", header, rows, notes),
        Table(f"events over RESP, pipeline {PIPELINE}", ["command", "CPU ns"], resp),
    ]


_COLUMNS: Final = {"per_s": ".0f", "sidecar_us": ".2f", "data_us": ".3f", "event_us": ".2f"}


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    if result["is_skipped"]:
        return []
    cpu = median_interval([run["sidecar_us"] for run in result["cases"]["one key"]])
    change = Change(**result["effect"]["changes"][QUIET])
    moved = Interval(change.median_percent, change.low_percent, change.high_percent, change.pairs)
    return [
        Verdict("CPU of a /track", "us", EVENT_CPU_US_MAX, cpu),
        Verdict(
            f"CPU of TRACK beside INCR, pipeline {PIPELINE}",
            "x",
            TRACK_CPU_RATIO_MAX,
            paired_ratio(result["resp"]["TRACK"], result["resp"]["INCR"]),
        ),
        Verdict("p99 of the data process beside /track", "%", EVENTS_P99_PERCENT_MAX, moved),
    ]
