"""p50, p99 and p99.9 of GET and SET at half the load that saturates the slower of the two servers.

The load is open: requests come on a timetable of random times, the same for both servers, and each is timed from when
it was due (see load_children.arrive).  The generator is Python and spins on one of the few CPUs, so it is part of what
is measured: its own lateness is printed, and the rate is capped at what it can keep to.  It is equal for both servers,
and so draws the ratio of the two towards 1, but does not turn it round.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any, Final

import processes
import redis_benchmark
from estimates import Interval, paired_ratio, percentile
from load_children import Arrivals, arrive, child, write
from section import Bench, Table
from servers import Server, running
from targets import LATENCY_P99_RATIO_MAX, Verdict

KEYS: Final = 100_000
TRIALS: Final = 3
# The generator can do some 110,000 a second; up to this rate it was late by 16 us in p99, and no later than at 10,000.
RATE_PER_S_MAX: Final = 60_000
# Far above what a generator that has its CPU to itself needs.
LATE_P99_US_MAX: Final = 500
PERCENTS: Final = {"p50_us": 50.0, "p99_us": 99.0, "p999_us": 99.9}


def measure(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    with running(bench.reference) as reference, running(bench.subject) as subject:
        servers = (reference, subject)
        for server in servers:
            with child(write, server.port, KEYS, 1000, False) as writer:
                writer.receive(60)
        bench.progress("latency: looking for the saturating load")
        saturating = [saturating_per_s(server, sizes.latency_trial_s) for server in servers]
        rate_per_s = min(*(load / 2 for load in saturating), RATE_PER_S_MAX)
        rounds: list[list[dict[str, float]]] = [[], []]
        for turn in range(sizes.latency_rounds):
            bench.progress(f"latency: {rate_per_s:.0f} requests/s, round {turn + 1}/{sizes.latency_rounds}")
            for slot in (0, 1) if turn % 2 else (1, 0):
                rounds[slot].append(serve(servers[slot], rate_per_s, sizes.latency_run_s, seed=turn))
    ratios = {
        name: asdict(paired_ratio(*([run[name] for run in rounds[slot]] for slot in (1, 0)))) for name in PERCENTS
    }
    return {
        "servers": [server.name for server in servers],
        "saturating_per_s": saturating,
        "rate_per_s": rate_per_s,
        "is_capped": rate_per_s == RATE_PER_S_MAX,
        "rounds": rounds,
        "ratios": ratios,
    }


def saturating_per_s(server: Server, trial_s: float) -> float:
    """Commands per second with 50 clients that wait for their replies, pipeline 1; of GET and SET the lower."""
    tests = [test for test in redis_benchmark.TESTS if test.name in ("GET", "SET")]
    requests = max(5_000, int(trial_s * 50_000))
    return min(
        statistics.median(
            redis_benchmark.load(server, redis_benchmark.arguments(test), requests, 1)[0] for _ in range(TRIALS)
        )
        for test in tests
    )


def serve(server: Server, rate_per_s: float, run_s: float, seed: int) -> dict[str, float]:
    processes.wait_until_calm(server.pid)
    with child(arrive, server.port, KEYS, rate_per_s, run_s, seed) as generator:
        seen: Arrivals = generator.receive(60 + run_s)
    ordered = sorted(seen.latency_ns)
    late = sorted(seen.lateness_ns)
    return {
        **{name: percentile(ordered, percent) / 1000 for name, percent in PERCENTS.items()},
        "max_us": ordered[-1] / 1000,
        "late_p50_us": percentile(late, 50) / 1000,
        "late_p99_us": percentile(late, 99) / 1000,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    columns = {"p50_us": "p50 us", "p99_us": "p99 us", "p999_us": "p99.9 us", "max_us": "max us"}
    columns |= {"late_p50_us": "generator late p50 us", "late_p99_us": "p99 us"}
    rows = [
        [name, f"{load:.0f}", *(f"{statistics.median(run[column] for run in runs):.0f}" for column in columns)]
        for name, load, runs in zip(result["servers"], result["saturating_per_s"], result["rounds"], strict=True)
    ]
    ratios = {name: Interval(**ratio) for name, ratio in result["ratios"].items()}
    notes = [
        f"ratios of paired rounds [95 %]: p50 {ratios['p50_us']}, p99 {ratios['p99_us']}, p99.9 {ratios['p999_us']}.",
        "percentiles: median of the rounds, from when a request was due; generator late: until it was sent.",
    ]
    if result["is_capped"]:
        part = result["rate_per_s"] / min(result["saturating_per_s"])
        notes.append(f"the generator cannot do half the saturating load: this is {100 * part:.0f} % of it.")
    late_us = max(statistics.median(run["late_p99_us"] for run in runs) for runs in result["rounds"])
    if late_us > LATE_P99_US_MAX:
        notes.append(
            f"the generator was late, p99 {late_us:.0f} us: it had to share its CPU; repeat on a quiet machine."
        )
    title = f"latency at {result['rate_per_s']:.0f} requests/s, open loop, {len(result['rounds'][0])} rounds"
    return [Table(title, ["server", "saturating/s", *columns.values()], rows, notes)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    what = f"p99 at {result['rate_per_s'] / 1000:.1f}k requests/s"
    return [Verdict(what, "x", LATENCY_P99_RATIO_MAX, Interval(**result["ratios"]["p99_us"]))]
