"""The Grafana dashboard that `kora export grafana` prints, made from METRICS.

The panels that somebody looks at first are rows of PANELS.  Every family of Kora's own that none of them shows has one
in the last section, drawn by its kind: a new metric is on the dashboard without anybody's doing.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from kora.sidecar.exposition import Family
from kora.sidecar.metrics import METRICS

# What SERVER stands for in the expressions; RATE stands for the range that Grafana works out for rates.
_SERVER: Final = 'instance=~"$instance"'
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS: Final = 24


@dataclass(frozen=True)
class Panel:
    title: str
    expressions: tuple[tuple[str, str], ...]  # with what each is called
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


def _quantile(quantile: float, labels: str) -> str:
    buckets = 'kora_command_duration_seconds_bucket{SERVER,cmd=~"$cmd"}'
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate({buckets}[RATE])))"


_HITS: Final = "sum(rate(kora_keyspace_hits_total{SERVER}[RATE]))"
_CACHE_HITS: Final = "sum(rate(kora_storage_cache_hits_total{SERVER}[RATE]))"
_CACHE_MISSES: Final = "sum(rate(kora_storage_cache_misses_total{SERVER}[RATE]))"
_BLOCK_HITS: Final = "sum by (kind) (rate(kora_storage_block_cache_hits_total{SERVER}[RATE]))"
_BLOCK_MISSES: Final = "sum by (kind) (rate(kora_storage_block_cache_misses_total{SERVER}[RATE]))"
_MISSES: Final = "sum(rate(kora_keyspace_misses_total{SERVER}[RATE]))"

# fmt: off
PANELS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    ("Now", (
        Panel("Up", (("up{SERVER}", "{{instance}}"),), kind="stat", width=3),
        Panel("Answers", (("redis_up{SERVER}", "{{instance}}"),), kind="stat", width=3),
        Panel("Uptime", (("kora_uptime_seconds{SERVER}", "{{instance}}"),), "s", "stat", 3),
        Panel("Commands per second", (("sum(rate(kora_commands_total{SERVER}[RATE]))", ""),), "ops", "stat", 3),
        Panel("Keys", (("sum(kora_keys_total{SERVER})", ""),), kind="stat", width=3),
        Panel("Memory", (("sum(kora_memory_used_bytes{SERVER})", ""),), "bytes", "stat", 3),
        Panel("Clients", (("sum(kora_connected_clients{SERVER})", ""),), kind="stat", width=3),
        Panel("Errors per second", (("sum(rate(kora_command_errors_total{SERVER}[RATE]))", ""),), "ops",
              "stat", 3),
    )),
    ("Commands", (
        Panel("Operations by command",
              (('sum by (cmd) (rate(kora_commands_total{SERVER,cmd=~"$cmd"}[RATE]))', "{{cmd}}"),), "ops", width=12),
        Panel("Time by command", (
              ('sum by (cmd) (rate(kora_command_duration_seconds_sum{SERVER,cmd=~"$cmd"}[RATE]))', "{{cmd}}"),),
              "percentunit", width=12),
        Panel("Latency", (
              ("sum by (le) (increase(kora_command_duration_seconds_bucket{SERVER}[RATE]))", "{{le}}"),),
              "s", "heatmap", 12),
        Panel("Latency, 99th percentile by command", ((_quantile(0.99, "le, cmd"), "{{cmd}}"),), "s", width=12),
        Panel("Latency of all commands", tuple((_quantile(quantile, "le"), name) for quantile, name in
              ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"))), "s"),
        Panel("Error replies", (
              ("sum by (prefix) (rate(kora_errors_total{SERVER}[RATE]))", "{{prefix}}"),), "ops"),
        Panel("Commands that failed or were rejected", (
              ("sum by (cmd, kind) (rate(kora_command_errors_total{SERVER}[RATE])) > 0", "{{cmd}} {{kind}}"),),
              "ops"),
    )),
    ("What takes long", (
        Panel("Loop lag", (
              ("histogram_quantile(0.99, sum by (le) (rate(kora_loop_lag_seconds_bucket{SERVER}[RATE])))", "99 %"),
              ("max(kora_loop_lag_max_seconds{SERVER})", "most since start")), "s"),
        Panel("Slow and large commands", (
              ("sum by (log) (rate(kora_commandlog_recorded_total{SERVER}[RATE]))", "{{log}}"),), "ops"),
        Panel("Latency events", (
              ("sum by (event) (increase(kora_latency_spikes_total{SERVER}[RATE]))", "{{event}}"),)),
        Panel("Background jobs", (
              ("sum by (worker) (rate(kora_job_seconds_total{SERVER}[RATE]))", "{{worker}}"),), "percentunit"),
        Panel("Longest turns", (
              ("max(kora_loop_turn_max_seconds{SERVER})", "a client's requests"),
              ("max by (worker) (kora_job_max_seconds{SERVER})", "{{worker}}")), "s"),
        Panel("Processor", (
              ("sum by (mode) (rate(kora_process_cpu_seconds_total{SERVER}[RATE]))", "{{mode}}"),
              ("sum(rate(kora_sidecar_cpu_seconds_total{SERVER}[RATE]))", "sidecar")), "percentunit"),
    )),
    ("Keys and memory", (
        Panel("Hit ratio", ((f"{_HITS} / ({_HITS} + {_MISSES})", "hits"),), "percentunit"),
        Panel("Keys", (("sum by (db) (kora_database_keys{SERVER})", "{{db}}"),
                       ("sum by (db) (kora_database_expires{SERVER})", "{{db}} with a deadline"))),
        Panel("Expired and evicted keys", (
              ("sum(rate(kora_expired_keys_total{SERVER}[RATE]))", "expired"),
              ("sum(rate(kora_evicted_keys_total{SERVER}[RATE]))", "evicted")), "ops"),
        Panel("Memory", (
              ("sum(kora_memory_used_bytes{SERVER})", "data"), ("sum(kora_memory_peak_bytes{SERVER})", "most so far"),
              ("sum(kora_process_resident_memory_bytes{SERVER})", "process"),
              ("sum(kora_maxmemory_bytes{SERVER}) > 0", "maxmemory"),
              ("sum(kora_clients_memory_bytes{SERVER})", "connections")), "bytes"),
        Panel("Accesses to the hottest key", (
              ("max by (instance) (kora_hottest_key_accesses_per_second{SERVER})", "{{instance}}"),), "ops"),
        Panel("Keys by shard", (("sum by (shard) (kora_shard_keys{SERVER})", "{{shard}}"),)),
    )),
    # Empty where all data is in memory.
    ("RocksDB", (
        Panel("Bytes", (
              ("sum(rate(kora_storage_written_bytes_total{SERVER}[RATE]))", "written"),
              ("sum(rate(kora_storage_read_bytes_total{SERVER}[RATE]))", "read"),
              ("sum(rate(kora_storage_flushed_bytes_total{SERVER}[RATE]))", "flushed"),
              ("sum(rate(kora_storage_compaction_written_bytes_total{SERVER}[RATE]))", "compacted")), "Bps"),
        Panel("Hit ratios", (
              (f"{_CACHE_HITS} / ({_CACHE_HITS} + {_CACHE_MISSES})", "keys in memory"),
              (f"{_BLOCK_HITS} / ({_BLOCK_HITS} + {_BLOCK_MISSES})", "{{kind}} blocks")), "percentunit"),
        Panel("Keys fetched, and dropped", (
              ("sum(rate(kora_storage_cache_cold_fetches_total{SERVER}[RATE]))", "fetched beside the loop"),
              ("sum(rate(kora_storage_cache_sync_fetches_total{SERVER}[RATE]))", "fetched on the loop"),
              ("sum(rate(kora_storage_cache_dropped_total{SERVER}[RATE]))", "dropped")), "ops"),
        Panel("Writes held up, by cause", (
              ("sum by (cause) (rate(kora_storage_write_stall_seconds_total{SERVER}[RATE]))", "{{cause}}"),
              ("sum(rate(kora_storage_commit_seconds_total{SERVER}[RATE]))", "writing")), "percentunit"),
        Panel("Keys in memory", (
              ("sum(kora_storage_cache_bytes{SERVER})", "keys and values"),
              ("sum(kora_storage_cache_dirty_bytes{SERVER})", "to be written"),
              ("sum(kora_storage_cache_capacity_bytes{SERVER})", "allowed"),
              ("sum(kora_storage_block_cache_bytes{SERVER})", "blocks"),
              ("sum(kora_storage_memtable_bytes{SERVER})", "memtables")), "bytes"),
        Panel("Files by level", (("sum by (level) (kora_storage_level_bytes{SERVER})", "{{level}}"),
                                 ("sum(kora_storage_pending_compaction_bytes{SERVER})", "to be compacted")), "bytes"),
        Panel("Amplification", (
              ("max(kora_storage_write_amplification{SERVER})", "writes"),
              ("max(kora_storage_read_amplification{SERVER})", "reads"),
              ("max(kora_storage_space_amplification{SERVER})", "space"))),
        Panel("Flushes and compactions", (
              ("sum(rate(kora_storage_flush_duration_seconds_sum{SERVER}[RATE]))", "flushing"),
              ("sum(rate(kora_storage_compaction_duration_seconds_sum{SERVER}[RATE]))", "compacting")), "percentunit"),
        Panel("What fails", (
              ("sum(increase(kora_storage_background_errors_total{SERVER}[RATE]))", "flushes and compactions"),
              ("sum(increase(kora_storage_file_errors_total{SERVER}[RATE]))", "files"),
              ("sum(increase(kora_storage_corruptions_total{SERVER}[RATE]))", "corrupt blocks"),
              ("sum(increase(kora_storage_commit_errors_total{SERVER}[RATE]))", "batches of changes"))),
    )),
    ("Network and clients", (
        Panel("Network", (
              ("sum(rate(kora_bytes_in_total{SERVER}[RATE]))", "in"),
              ("-sum(rate(kora_bytes_out_total{SERVER}[RATE]))", "out")), "Bps"),
        Panel("Clients", (
              ("sum(kora_connected_clients{SERVER})", "connected"), ("sum(kora_blocked_clients{SERVER})", "waiting"),
              ("sum(kora_clients_max{SERVER})", "allowed"))),
        Panel("Connections", (
              ("sum(rate(kora_connections_received_total{SERVER}[RATE]))", "accepted"),
              ("sum(rate(kora_connections_rejected_total{SERVER}[RATE]))", "turned away")), "ops"),
    )),
)
# fmt: on
# Of redis_exporter's families those that Kora has under no name of its own; what is not there draws nothing.
FILES: Final = tuple(
    family
    for family in METRICS
    if family.name.startswith(("redis_rdb_", "redis_aof_", "redis_loading", "redis_async_loading"))
)


def dashboard() -> str:
    sections = [(title, panels) for title, panels in PANELS]
    sections.append(("Persistence", tuple(_panel_of(family) for family in FILES)))
    sections.append(("Everything else", tuple(_panel_of(family) for family in METRICS if _is_left(family))))
    panels: list[dict[str, Any]] = []
    top = 0
    for number, (title, found) in enumerate(sections):
        # The last one is closed: it asks for its numbers when it is opened.
        is_last = number == len(sections) - 1
        drawn, bottom = _placed(found, top + 1, 1000 * (number + 1))
        row = {
            "type": "row",
            "id": number + 1,
            "title": title,
            "collapsed": is_last,
            "panels": drawn if is_last else [],
        }
        panels.append({**row, "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1}})
        panels += [] if is_last else drawn
        top = bottom
    board = {
        "uid": "kora",
        "title": "Kora",
        "tags": ["kora", "redis"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }
    return json.dumps(board, indent=2) + "\n"


def _variables() -> list[dict[str, Any]]:
    def choice(name: str, query: str) -> dict[str, Any]:
        head = {"name": name, "type": "query", "datasource": _DATASOURCE, "query": query, "refresh": 2, "sort": 1}
        return {
            **head,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }

    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus"},
        choice("instance", "label_values(kora_build_info, instance)"),
        choice("cmd", 'label_values(kora_commands_total{instance=~"$instance"}, cmd)'),
    ]


def _placed(panels: tuple[Panel, ...], top: int, first_id: int) -> tuple[list[dict[str, Any]], int]:
    """Panels from left to right, and where the next section begins."""
    drawn = []
    left = height = 0
    for number, panel in enumerate(panels):
        if left + panel.width > _COLUMNS:
            left, top = 0, top + height
        height = 4 if panel.kind == "stat" else 8
        drawn.append(_drawn(panel, first_id + number, {"x": left, "y": top, "w": panel.width, "h": height}))
        left += panel.width
    return drawn, top + height


def _drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": _DATASOURCE,
            "expr": expression.replace("SERVER", _SERVER).replace("RATE", "$__rate_interval"),
            "legendFormat": name,
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for at, (expression, name) in enumerate(panel.expressions)
    ]
    drawn = {"id": number, "type": panel.kind, "title": panel.title, "datasource": _DATASOURCE, "gridPos": place}
    if panel.kind == "heatmap":
        return {**drawn, "targets": targets, "options": {"calculate": False, "yAxis": {"unit": panel.unit}}}
    return {**drawn, "targets": targets, "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []}}


def _is_left(family: Family) -> bool:
    """One of Kora's own that no panel shows."""
    shown = " ".join(expression for _, panels in PANELS for panel in panels for expression, _ in panel.expressions)
    return family.name.startswith("kora_") and not re.search(rf"\b{family.name}(_bucket|_sum|_count)?\b", shown)


def _panel_of(family: Family) -> Panel:
    by = "".join(f" {{{{{label}}}}}" for label in family.labels)
    name = f"{{{{instance}}}}{by}"
    unit = {"seconds": "s", "bytes": "bytes"}.get(family.unit, "short")
    if family.kind == "histogram":
        labels = "".join(f", {label}" for label in ("le", *family.labels))
        rate = f"rate({family.name}_bucket{{SERVER}}[RATE])"
        expression = f"histogram_quantile(0.99, sum by (instance{labels}) ({rate}))"
        return Panel(f"{family.help} 99th percentile", ((expression, name),), unit)
    if family.kind == "counter":
        unit = {"seconds": "percentunit", "bytes": "Bps"}.get(family.unit, "ops")
        return Panel(family.help, ((f"rate({family.name}{{SERVER}}[RATE])", name),), unit)
    return Panel(family.help, ((f"{family.name}{{SERVER}}", name),), unit)
