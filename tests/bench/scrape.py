"""Does a scrape of /metrics disturb the clients?  A steady load, periods with and without one GET a second, in turn."""

from __future__ import annotations

import bisect
import http.client
import statistics
import time
from array import array
from dataclasses import asdict, dataclass
from typing import Any, Final

import processes
from estimates import paired_change, percentile
from load_children import Probes, child, keep_pace, probe, write
from section import Bench, Table
from servers import Server, running

KEYS: Final = 100_000


@dataclass(frozen=True)
class Period:
    is_scraped: bool
    start_ns: int
    stop_ns: int
    scrape_ms: tuple[float, ...]
    page_bytes: int


def measure(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    with running(bench.subject) as server:
        with child(write, server.port, KEYS, 1000, False) as writer:
            writer.receive(60)
        with (
            child(keep_pace, server.port, KEYS, sizes.scrape_load_per_s) as pacer,
            child(probe, server.port, server.pid) as prober,
            processes.on_last_cpu(),
        ):
            prober.receive(30)
            time.sleep(0.5)
            periods: list[Period] = []
            start = time.monotonic()
            for pair in range(sizes.scrape_pairs):
                bench.progress(f"scrape: pair {pair + 1}/{sizes.scrape_pairs}")
                order = (False, True) if pair % 2 else (True, False)
                periods += [spend(server, sizes.scrape_period_s, is_scraped) for is_scraped in order]
            elapsed_s = time.monotonic() - start
            prober.tell_to_go_on()
            pacer.tell_to_go_on()
            seen: Probes = prober.receive(60)
            sent = pacer.receive(60)
    return {
        "server": server.name,
        "has_metrics": server.recipe.has_metrics,
        "period_s": sizes.scrape_period_s,
        "load_per_s": sent / (elapsed_s + 0.5),
        "probes": len(seen.started_ns),
        "scrape_ms": statistics.median([ms for period in periods for ms in period.scrape_ms] or [0.0]),
        "page_bytes": max(period.page_bytes for period in periods),
        "round_trip": effect(periods, seen.started_ns, seen.round_trip_ns),
        "own": effect(periods, seen.started_ns, seen.own_ns),
    }


def spend(server: Server, period_s: float, is_scraped: bool) -> Period:
    start_ns = time.monotonic_ns()
    scrape_ms, page_bytes = [], 0
    for second in range(max(1, int(period_s))):
        # Half a second in, so that the effect of a scrape does not reach into the next period.
        time.sleep(max(0.0, start_ns / 1e9 + second + 0.5 - time.monotonic()))
        if is_scraped and server.recipe.has_metrics:
            before = time.monotonic()
            page_bytes = get_metrics(server.metrics_port)
            scrape_ms.append((time.monotonic() - before) * 1000)
    time.sleep(max(0.0, start_ns / 1e9 + period_s - time.monotonic()))
    return Period(is_scraped, start_ns, time.monotonic_ns(), tuple(scrape_ms), page_bytes)


def get_metrics(port: int) -> int:
    """Scrape once; return the page's size in bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        reply = connection.getresponse()
        page = reply.read()
        assert reply.status == 200, (reply.status, page[:200])
        return len(page)
    finally:
        connection.close()


def effect(periods: list[Period], started_ns: array[int], times_ns: array[int]) -> dict[str, Any]:
    """p99.9 of all quiet and of all scraped periods, and the change within the pairs."""
    pooled: dict[bool, list[int]] = {False: [], True: []}
    by_period: dict[bool, list[float]] = {False: [], True: []}
    for period in periods:
        first = bisect.bisect_left(started_ns, period.start_ns)
        stop = bisect.bisect_left(started_ns, period.stop_ns)
        pooled[period.is_scraped].extend(times_ns[first:stop])
        by_period[period.is_scraped].append(percentile(sorted(times_ns[first:stop]), 99.9) / 1e6)
    change = paired_change(by_period[False], by_period[True])
    return {
        "quiet_p999_ms": percentile(sorted(pooled[False]), 99.9) / 1e6,
        "scraped_p999_ms": percentile(sorted(pooled[True]), 99.9) / 1e6,
        "quiet_p50_ms": percentile(sorted(pooled[False]), 50) / 1e6,
        "scraped_p50_ms": percentile(sorted(pooled[True]), 50) / 1e6,
        "change": asdict(change),
        "change_text": str(change),
        "quiet_periods_p999_ms": by_period[False],
        "scraped_periods_p999_ms": by_period[True],
    }


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for kind, name in (("round_trip", "round trip"), ("own", "without waiting for a CPU")):
        row = result[kind]
        cells = [
            f"{row[field]:.3f}" for field in ("quiet_p50_ms", "scraped_p50_ms", "quiet_p999_ms", "scraped_p999_ms")
        ]
        rows.append([name, *cells, row["change_text"]])
    notes = [
        f"load: {result['load_per_s']:.0f} commands/s, {result['probes']} probes.",
        f"/metrics: {result['page_bytes']} bytes in {result['scrape_ms']:.1f} ms (median).",
        "change: p99.9 of paired periods, median and its 95 % confidence interval (bootstrap).",
    ]
    if not result["has_metrics"]:
        notes.append(f"{result['server']} has no /metrics: the change shown is the noise of this measurement.")
    header = ["", "quiet p50 ms", "scraped p50 ms", "quiet p99.9 ms", "scraped p99.9 ms", "change of p99.9 [95 %]"]
    return [Table(f"one scrape a second, {result['server']}", header, rows, notes)]
