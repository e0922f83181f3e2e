"""/status: the server at a glance, as JSON, for people and scripts that have no Prometheus."""

from array import array
from typing import Any, Final

from hdrh.histogram import HdrHistogram

from kora.engine.snapshot import Snapshot
from kora.observe import histogram
from kora.sidecar.health import Health

PERCENTILES: Final = (50.0, 99.0, 99.9)


def status(snapshot: Snapshot, age_ns: int, health: Health, restarts: int) -> dict[str, Any]:
    latency = latency_percentiles([command.counts for command in snapshot.total.commands])
    return {
        "role": "master",
        "version": snapshot.version,
        "run_id": snapshot.run_id,
        "pid": snapshot.pid,
        "uptime_seconds": snapshot.uptime_s,
        "state": health.activity.state,
        "live": health.live,
        "ready": health.ready,
        "loading": health.loading,
        "shards": len(snapshot.shards),
        "clients": snapshot.clients,
        "clients_max": snapshot.clients_max,
        "keys": snapshot.keys,
        "databases": {
            f"db{number}": {"keys": keys, "expires": volatile, "avg_ttl_ms": average_ttl_ms}
            for number, (keys, volatile, average_ttl_ms) in sorted(snapshot.databases.items())
        },
        "memory_used_bytes": snapshot.memory_bytes,
        "rss_bytes": snapshot.rss_bytes,
        "maxmemory_bytes": snapshot.maxmemory,
        "commands_processed": snapshot.commands_processed,
        "ops_per_second": snapshot.commands_rate,
        "loop_lag_ms": round(snapshot.lag_ns / 1e6, 3),
        "loop_lag_ms_max": round(snapshot.lag_max_ns / 1e6, 3),
        "latency_us": {f"p{percent:g}": round(value / 1e3, 3) for percent, value in latency.items()},
        "snapshot_age_ms": round(age_ns / 1e6, 1),
        "sidecar_restarts": restarts,
    }


def latency_percentiles(histograms: list["array[int]"]) -> dict[float, int]:
    """Percentiles in ns over all commands; zeros where nothing was counted."""
    merged: array[int] = array("Q")
    for counts in histograms:
        histogram.add(merged, counts)
    hdr = HdrHistogram(histogram.LOWEST_NS, histogram.HIGHEST_NS, histogram.SIGNIFICANT_DIGITS)
    for index, count in enumerate(merged):
        if count:
            hdr.record_value(min(histogram.highest_of(index), histogram.HIGHEST_NS), count)
    values = hdr.get_percentile_to_value_dict(PERCENTILES) if hdr.get_total_count() else {}
    return {percent: int(values.get(percent, 0)) for percent in PERCENTILES}
