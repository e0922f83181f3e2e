"""What clients feel beside one that asks for much, by their own clocks and by the server's; and whom it blames.

Fifty clients, which pause between a reply and the next request or do not, and one that asks for all elements of a long
list every second.  Each figure of the server's is of the same requests as the clients'.
"""

from __future__ import annotations

from typing import Any, Final

from section import Bench, Table
from servers import Server, running
from service_load import ALL_ELEMENTS, elements_bytes, fill, latencies_ns

ELEMENTS: Final = 6_000_000  # which take about 50 ms
CLIENTS: Final = 50
PAUSES_S: Final = (0.02, 0.0)


def measure(bench: Bench) -> dict[str, Any]:
    if not bench.subject.has_observation:
        return {"results": []}
    with running(bench.subject) as server:
        fill(server.port, ELEMENTS)
        results = [serve(bench, server, pause_s) for pause_s in PAUSES_S]
    return {"server": server.name, "elements": ELEMENTS, "clients": CLIENTS, "results": results}


def serve(bench: Bench, server: Server, pause_s: float) -> dict[str, Any]:
    duration_s = bench.sizes.service_run_s
    bench.progress(f"service: {CLIENTS} clients, pauses of {1000 * pause_s:.0f} ms, {duration_s:.0f} s")
    with server.client() as client:
        client.call("CONFIG", "RESETSTAT")
        much = ALL_ELEMENTS, elements_bytes(ELEMENTS)
        measured = latencies_ns(server.port, much, CLIENTS, pause_s, 1.0, duration_s)
        rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in client.call("LATENCY", "BLAME", "TOP", "1000")]
        times = client.info("latencystats")
        suffered_us = int(client.info("stats")["reads_waited_usec"])
    seconds = sum(float(row[b"seconds"]) for row in rows)
    of_list = sum(float(row[b"seconds"]) for row in rows if row[b"key-prefix"] == b"large")
    return {
        "pause_s": pause_s,
        "requests": len(measured),
        "measured_us": {name: measured[int(len(measured) * part)] / 1000 for name, part in PARTS.items()},
        "service_us": percentiles(times["service_percentiles_usec_get"]),
        "exec_us": percentiles(times["latency_percentiles_usec_get"]),
        "suffered_s": suffered_us / 1e6,
        "blamed_on_list": of_list / seconds,
        "inflicted_to_suffered": seconds / (suffered_us / 1e6),
    }


PARTS: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def percentiles(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (part.split("=") for part in text.split(","))}


def tables(report: dict[str, Any]) -> list[Table]:
    rows = [
        [
            f"{1000 * result['pause_s']:.0f} ms",
            result["requests"],
            *[f"{result[kind]['p99'] / 1000:.3f}" for kind in ("measured_us", "service_us", "exec_us")],
            f"{result['service_us']['p99'] / result['measured_us']['p99']:.2f}",
            f"{result['suffered_s']:.2f}",
            f"{100 * result['blamed_on_list']:.1f} %",
            f"{result['inflicted_to_suffered']:.4f}",
        ]
        for result in report["results"]
    ]
    heads = [
        "pause",
        "GETs",
        "p99 ms measured",
        "service",
        "exec",
        "ratio",
        "waited s",
        "on LRANGE",
        "inflicted/suffered",
    ]
    return [Table("GETs beside an LRANGE of a long list each second, " + report.get("server", ""), heads, rows)]
