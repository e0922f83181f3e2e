"""/metrics: the METRICS table, and its rendering in Prometheus' text format and in OpenMetrics.

A family is one row: name, kind, unit, help, labels, and how to read it off a snapshot or off the sidecar itself.  Names
and types of the first six are promised and stay.  Every family has its HELP and TYPE lines in every scrape.  Labels
come from closed sets, and never repeat what Prometheus adds itself (instance, job, namespace, pod).
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Sample

from kora.engine.snapshot import Snapshot, by_lowest
from kora.observe.histogram import EDGES_NS, HIGHEST_NS, cumulative
from kora.observe.shard_stats import CommandStats
from kora.sidecar import own_stats
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.settings import Settings

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST

LOOP_EDGES_NS: Final = tuple(edge for edge in EDGES_NS if edge >= 100_000)
SCRAPE_EDGES_NS: Final = tuple(edge for edge in EDGES_NS if edge >= 1_000_000)


@dataclass(frozen=True)
class View:
    """What one rendering shows."""

    snapshot: Snapshot | None  # None if the data process never gave one
    age_ns: int | None
    settings: Settings
    own: OwnStats
    timeouts: int


@dataclass(frozen=True)
class Distribution:
    """A histogram's value: how many were at most each edge, how many in all, and their sum."""

    cumulative: list[int]
    count: int
    sum_s: float


Value: TypeAlias = int | float | Distribution
Rows: TypeAlias = Iterable[tuple[tuple[str, ...], Value]]
# A family without labels may be read as its one value; None leaves it out of this scrape.
Read: TypeAlias = "Callable[[View], Rows | Value | None]"


@dataclass(frozen=True)
class Family:
    name: str
    kind: str  # counter, gauge, histogram or info
    unit: str  # "" for plain numbers
    help: str
    read: Read
    labels: tuple[str, ...] = ()
    edges_ns: tuple[int, ...] = ()

    @property
    def base_name(self) -> str:
        """The name without what the format itself adds, as OpenMetrics names families."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        assert self.name.endswith(suffix), self.name
        return self.name.removesuffix(suffix) if suffix else self.name

    def rows(self, view: View) -> Rows:
        found = self.read(view)
        if found is None:
            return ()
        if isinstance(found, (int, float, Distribution)):
            return (((), found),)
        return found

    def collect(self, view: View) -> Metric:
        base = self.base_name
        # OpenMetrics has a unit only where the name ends with it, and prometheus_client would append it.
        metric = Metric(base, self.help, self.kind, self.unit if base.endswith(f"_{self.unit}") else "")
        samples = metric.samples
        for values, value in self.rows(view):
            labels = dict(zip(self.labels, values, strict=True))
            if isinstance(value, Distribution):
                bucket = f"{base}_bucket"
                for le, count in zip(_le(self.edges_ns), value.cumulative, strict=True):
                    samples.append(Sample(bucket, {**labels, "le": le}, count))
                samples.append(Sample(bucket, {**labels, "le": "+Inf"}, value.count))
                samples.append(Sample(f"{base}_count", labels, value.count))
                samples.append(Sample(f"{base}_sum", labels, value.sum_s))
            else:
                samples.append(Sample(self.name, labels, value))
        return metric


def render(view: View, as_openmetrics: bool = False) -> bytes:
    # A registry of its own: prometheus_client's default one adds families of the sidecar process, unprefixed.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(view))
    # The names are plain, and need no escaping; told so, prometheus_client is twice as fast.
    generate = openmetrics.generate_latest if as_openmetrics else generate_latest
    return generate(registry, escaping=openmetrics.ALLOWUTF8)


def wants_openmetrics(accept: str) -> bool:
    """Whether an Accept header prefers OpenMetrics to the text format (RFC 9110, 12.5.1)."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[name] = max(weight, weights.get(name, 0.0))
    wanted = weights.get("application/openmetrics-text", 0.0)
    return wanted > 0 and wanted >= weights.get("text/plain", 0.0)


class _Collector:
    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        for family in METRICS:
            yield family.collect(self._view)


# How to read


def _snapshot(read: "Callable[[Snapshot], Rows | Value | None]") -> Read:
    """Read off the snapshot, if there is one."""
    return lambda view: read(view.snapshot) if view.snapshot is not None else None


def _commands(snapshot: Snapshot) -> Rows:
    for name, stats in _by_command(snapshot):
        if stats.calls:
            yield (name,), stats.calls


def _command_durations(snapshot: Snapshot) -> Rows:
    for name, stats in _by_command(snapshot):
        if stats.counts:
            yield (name,), _distribution(stats.counts, EDGES_NS, stats.elapsed_ns)


def _command_errors(snapshot: Snapshot) -> Rows:
    for name, stats in _by_command(snapshot):
        # From a command's first call on, so that the first error is an increase.
        if stats.calls or stats.failed or stats.rejected:
            yield (name, "failed"), stats.failed
            yield (name, "rejected"), stats.rejected


def _by_command(snapshot: Snapshot) -> Iterable[tuple[str, CommandStats]]:
    return zip(snapshot.slot_names, snapshot.total.commands, strict=True)


def _errors(snapshot: Snapshot) -> Rows:
    return [((prefix,), count) for prefix, count in sorted({"ERR": 0, **snapshot.errors}.items())]


def _database(column: int) -> "Callable[[Snapshot], Rows]":
    # Database 0 is always shown, others while they hold keys, as in INFO keyspace.
    def read(snapshot: Snapshot) -> Rows:
        databases = {0: [0, 0, 0], **snapshot.databases}
        return [((f"db{number}",), row[column]) for number, row in sorted(databases.items())]

    return read


def _shard(name: str) -> "Callable[[Snapshot], Rows]":
    return lambda snapshot: [((str(index),), shard[name]) for index, shard in enumerate(snapshot.shards)]


def _job(column: int, convert: "Callable[[int], Value]" = int) -> "Callable[[Snapshot], Rows]":
    return lambda snapshot: [((name,), convert(row[column])) for name, row in snapshot.jobs.items()]


def _command_log(column: int) -> "Callable[[Snapshot], Rows]":
    return lambda snapshot: [((name,), row[column]) for name, row in snapshot.command_logs.items()]


def _spikes(column: int, convert: "Callable[[int], Value]" = int) -> "Callable[[Snapshot], Rows]":
    # Every event from the start on, so that the first spike is an increase.
    return lambda snapshot: [((name,), convert(row[column])) for name, row in snapshot.spikes.items()]


def _spikes_seen(column: int, per_unit: float) -> "Callable[[Snapshot], Rows]":
    return lambda snapshot: [
        ((name,), snapshot.spikes_seen.get(name, (0, 0, 0))[column] / per_unit) for name in snapshot.spikes
    ]


def _lengths(snapshot: Snapshot) -> Rows:
    return [
        ((f"db{number}", kind, str(lowest)), keys)
        for number, lengths in sorted(snapshot.lengths.items())
        for kind, bins in sorted(lengths.items())
        for lowest, keys in by_lowest(bins)
    ]


def _loop_lag(snapshot: Snapshot) -> Distribution:
    return _distribution(array("Q", snapshot.lag_counts), LOOP_EDGES_NS, snapshot.lag_sum_ns)


def _build_info(view: View) -> Rows:
    version = view.settings.version or (view.snapshot.version if view.snapshot is not None else "")
    python = ".".join(str(number) for number in sys.version_info[:3])
    return [((version, python, view.settings.kernel), 1)]


def _scrapes(view: View) -> Distribution:
    return _distribution(view.own.scrape_counts, SCRAPE_EDGES_NS, view.own.scrape_elapsed_ns)


def _requests(view: View) -> Rows:
    return [((path, str(code)), count) for (path, code), count in sorted(view.own.requests.items())]


def _own_cpu(_: View) -> Rows:
    return [((mode,), seconds) for mode, seconds in zip(("user", "system"), own_stats.cpu_s(), strict=True)]


def _distribution(counts: Sequence[int], edges_ns: Sequence[int], sum_ns: int) -> Distribution:
    *sums, count = cumulative(counts, (*edges_ns, HIGHEST_NS))
    return Distribution(sums, count, sum_ns / 1e9)


def _le(edges_ns: tuple[int, ...]) -> tuple[str, ...]:
    """Edges in seconds as plain decimals: 0.000001, 0.0025, 1.0."""
    texts = (format(Decimal(edge).scaleb(-9).normalize(), "f") for edge in edges_ns)
    # Always with a point: Prometheus 3 and OpenMetrics would make "1" into "1.0", and that is another series.
    return tuple(text if "." in text else f"{text}.0" for text in texts)


def _seconds(elapsed_ns: int) -> float:
    return elapsed_ns / 1e9


# fmt: off
METRICS: Final[tuple[Family, ...]] = (
    # The first seed's: names, kinds and labels are a promise.
    Family("kora_commands_total", "counter", "", "Total commands processed by type.",
           _snapshot(_commands), ("cmd",)),
    Family("kora_keys_total", "gauge", "", "Total number of keys.",
           _snapshot(lambda s: s.keys)),
    Family("kora_memory_used_bytes", "gauge", "bytes", "Estimated bytes of keys, values and their tables.",
           _snapshot(lambda s: s.memory_bytes)),
    Family("kora_bytes_in_total", "counter", "bytes", "Bytes received from clients.",
           _snapshot(lambda s: s.bytes_in)),
    Family("kora_bytes_out_total", "counter", "bytes", "Bytes sent to clients.",
           _snapshot(lambda s: s.bytes_out)),
    Family("kora_command_duration_seconds", "histogram", "seconds", "Command latency distribution.",
           _snapshot(_command_durations), ("cmd",), EDGES_NS),

    # Commands.
    Family("kora_command_errors_total", "counter", "",
           "Error replies by command: of calls that ran and failed, or that were rejected without running.",
           _snapshot(_command_errors), ("cmd", "kind")),
    Family("kora_errors_total", "counter", "", "Error replies by their first word.",
           _snapshot(_errors), ("prefix",)),
    Family("kora_internal_errors_total", "counter", "", "Commands that ended in a bug of the server, which is logged.",
           _snapshot(lambda s: s.internal_errors)),

    # Keys.
    Family("kora_keyspace_hits_total", "counter", "", "Look-ups for reading that found a key.",
           _snapshot(lambda s: s.hits)),
    Family("kora_keyspace_misses_total", "counter", "", "Look-ups for reading that found no key.",
           _snapshot(lambda s: s.misses)),
    Family("kora_expired_keys_total", "counter", "", "Keys deleted because their time was over.",
           _snapshot(lambda s: s.expired)),
    Family("kora_evicted_keys_total", "counter", "", "Keys deleted to stay within maxmemory.",
           _snapshot(lambda s: s.evicted)),
    Family("kora_changes_total", "counter", "", "Changes of keys since start.",
           _snapshot(lambda s: s.changes)),
    Family("kora_database_keys", "gauge", "", "Keys by database.",
           _snapshot(_database(0)), ("db",)),
    Family("kora_database_expires", "gauge", "", "Keys with a deadline by database.",
           _snapshot(_database(1)), ("db",)),
    Family("kora_database_keys_by_length", "gauge", "",
           "Keys by the type and length of their value, bytes of strings and items of others: from `at_least` on, and "
           "less than twice that.",
           _snapshot(_lengths), ("db", "type", "at_least")),
    Family("kora_shard_keys", "gauge", "", "Keys by shard.",
           _snapshot(_shard("keys")), ("shard",)),
    Family("kora_shard_memory_bytes", "gauge", "bytes", "Estimated bytes by shard.",
           _snapshot(_shard("memory_bytes")), ("shard",)),
    Family("kora_memory_peak_bytes", "gauge", "bytes", "The largest kora_memory_used_bytes so far.",
           _snapshot(lambda s: s.memory_peak_bytes)),
    Family("kora_maxmemory_bytes", "gauge", "bytes", "Limit of the estimated bytes; 0 for none.",
           _snapshot(lambda s: s.maxmemory)),
    Family("kora_lazyfree_pending_keys", "gauge", "", "Keys that were unlinked and whose values are not freed yet.",
           _snapshot(lambda s: s.lazyfree_pending)),
    Family("kora_hottest_key_accesses_per_second", "gauge", "",
           "Estimated accesses to the key that was accessed most, in the busiest of the last ten seconds.",
           _snapshot(lambda s: s.hottest_rate)),

    # Clients.
    Family("kora_connected_clients", "gauge", "", "Clients that are connected.",
           _snapshot(lambda s: s.clients)),
    Family("kora_blocked_clients", "gauge", "", "Clients whose requests wait.",
           _snapshot(lambda s: s.clients_blocked)),
    Family("kora_clients_max", "gauge", "", "Clients that may be connected at the same time.",
           _snapshot(lambda s: s.clients_max)),
    Family("kora_connections_received_total", "counter", "", "Connections that were accepted.",
           _snapshot(lambda s: s.connections_received)),
    Family("kora_connections_rejected_total", "counter", "", "Connections that were turned away.",
           _snapshot(lambda s: s.connections_rejected)),
    Family("kora_clients_evicted_total", "counter", "", "Connections that were closed because of maxmemory-clients.",
           _snapshot(lambda s: s.clients_evicted)),
    Family("kora_clients_memory_bytes", "gauge", "bytes", "What all connections take: buffers, queues, subscriptions.",
           _snapshot(lambda s: s.clients_memory_bytes)),
    Family("kora_protocol_errors_total", "counter", "", "Connections closed because what they sent was not RESP.",
           _snapshot(lambda s: s.protocol_errors)),
    Family("kora_client_input_buffer_max_bytes", "gauge", "bytes", "The largest query buffer of any client.",
           _snapshot(lambda s: s.input_buffer_max_bytes)),
    Family("kora_client_output_buffer_max_bytes", "gauge", "bytes", "The largest output buffer of any client.",
           _snapshot(lambda s: s.output_buffer_max_bytes)),

    # The data process.
    Family("kora_process_resident_memory_bytes", "gauge", "bytes", "Memory of the data process that is in RAM.",
           _snapshot(lambda s: s.rss_bytes)),
    Family("kora_process_cpu_seconds_total", "counter", "seconds", "CPU time of the data process.",
           _snapshot(lambda s: [(("user",), _seconds(s.cpu_user_ns)), (("system",), _seconds(s.cpu_system_ns))]),
           ("mode",)),
    Family("kora_process_open_fds", "gauge", "", "Descriptors that the data process has open.",
           _snapshot(lambda s: own_stats.open_fds(s.pid))),
    Family("kora_process_start_time_seconds", "gauge", "seconds", "When the data process started, as Unix time.",
           lambda view: view.settings.started_ms / 1e3),
    Family("kora_uptime_seconds", "gauge", "seconds", "Seconds since the data process started.",
           _snapshot(lambda s: _seconds(s.uptime_ns))),
    Family("kora_build_info", "info", "", "What runs: always 1.",
           _build_info, ("version", "python", "kernel")),

    # Its loop.
    Family("kora_loop_lag_seconds", "histogram", "seconds", "How much later than due the loop ran its heartbeat.",
           _snapshot(_loop_lag), (), LOOP_EDGES_NS),
    Family("kora_loop_lag_max_seconds", "gauge", "seconds", "The largest loop lag since start or CONFIG RESETSTAT.",
           _snapshot(lambda s: _seconds(s.lag_max_ns))),
    Family("kora_loop_turn_max_seconds", "gauge", "seconds", "The longest turn since start or CONFIG RESETSTAT.",
           _snapshot(lambda s: _seconds(s.turn_max_ns))),

    # What took long.
    Family("kora_commandlog_entries", "gauge", "",
           "Commands that are kept in the slow log, and in those of large requests and replies.",
           _snapshot(_command_log(0)), ("log",)),
    Family("kora_commandlog_recorded_total", "counter", "",
           "Commands that were ever written to these logs: the next entry's id.",
           _snapshot(_command_log(1)), ("log",)),
    Family("kora_slowlog_last_seconds", "gauge", "seconds", "How long the last command of the slow log took.",
           _snapshot(lambda s: s.command_logs["slow"][2] / 1e6)),
    Family("kora_latency_spikes_total", "counter", "",
           "Events that took at least latency-monitor-threshold.", _snapshot(_spikes(0)), ("event",)),
    Family("kora_latency_spike_seconds_total", "counter", "seconds", "What these events took together.",
           _snapshot(_spikes(1, _seconds)), ("event",)),
    Family("kora_latency_spike_last_timestamp_seconds", "gauge", "seconds",
           "When an event had its last spike, as Unix time; 0 for never since LATENCY RESET.",
           _snapshot(_spikes_seen(0, 1)), ("event",)),
    Family("kora_latency_spike_last_seconds", "gauge", "seconds",
           "The most that an event took in the last second that had a spike.",
           _snapshot(_spikes_seen(1, 1e3)), ("event",)),
    Family("kora_latency_spike_max_seconds", "gauge", "seconds", "The most that an event took since LATENCY RESET.",
           _snapshot(_spikes_seen(2, 1e3)), ("event",)),
    Family("kora_monitors", "gauge", "", "Clients in MONITOR, which slow everybody down.",
           _snapshot(lambda s: s.monitors)),

    # Its background jobs.  Prometheus has the label `job` for itself.
    Family("kora_job_runs_total", "counter", "", "Turns of background jobs.",
           _snapshot(_job(0)), ("worker",)),
    Family("kora_job_seconds_total", "counter", "seconds", "Time that background jobs took.",
           _snapshot(_job(1, _seconds)), ("worker",)),
    Family("kora_job_max_seconds", "gauge", "seconds", "The longest turn of background jobs.",
           _snapshot(_job(2, _seconds)), ("worker",)),

    # How it is measured.
    Family("kora_observation_enabled", "gauge", "", "1 if commands are counted and timed, 0 if the setting is off.",
           _snapshot(lambda s: int(s.observing))),
    Family("kora_hotkey_sampling_ratio", "gauge", "", "One request in this many is recorded for hot keys; 0: none.",
           _snapshot(lambda s: s.hotkey_sampling_ratio)),
    Family("kora_hotkey_session_active", "gauge", "", "1 between HOTKEYS START and STOP, else 0.",
           _snapshot(lambda s: int(s.hotkey_session))),
    Family("kora_hotkey_memory_bytes", "gauge", "bytes", "What is kept of hot keys.",
           _snapshot(lambda s: s.hotkeys_bytes)),

    # The sidecar itself.
    Family("kora_sidecar_scrapes_total", "counter", "", "Scrapes of /metrics, this one included.",
           lambda view: view.own.scrapes),
    Family("kora_sidecar_scrape_duration_seconds", "histogram", "seconds",
           "How long scrapes of /metrics took, waiting for the data process included.",
           _scrapes, (), SCRAPE_EDGES_NS),
    Family("kora_sidecar_snapshot_age_seconds", "gauge", "seconds",
           "Age of the numbers shown; they grow old while the data loop is stuck.",
           lambda view: _seconds(view.age_ns) if view.age_ns is not None else None),
    Family("kora_sidecar_snapshot_timeouts_total", "counter", "",
           "Times that the data process did not give a snapshot in time.",
           lambda view: view.timeouts),
    Family("kora_sidecar_requests_total", "counter", "", "HTTP requests by path and status code.",
           _requests, ("path", "code")),
    Family("kora_sidecar_resident_memory_bytes", "gauge", "bytes", "Memory of the sidecar that is in RAM.",
           lambda view: own_stats.rss_bytes()),
    Family("kora_sidecar_cpu_seconds_total", "counter", "seconds", "CPU time of the sidecar.",
           _own_cpu, ("mode",)),
    Family("kora_sidecar_restarts_total", "counter", "", "Times that the data process had to start the sidecar again.",
           lambda view: view.settings.restarts),
)
# fmt: on
