"""/metrics: the METRICS table, which is all that it shows.

`kora_*` are Kora's own, in base units; names and types of the first six are promised and stay.  `redis_*`, in
kora.sidecar.redis_metrics, are what redis_exporter would show.  Every family has its HELP and TYPE lines in every page,
but for those that are marked as optional.  Labels come from closed sets, never from keys or clients' names, and never
repeat what Prometheus adds itself (instance, job, namespace, pod).
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from prometheus_client.samples import Exemplar

from kora.audit import ring
from kora.config import AUDIT_CATEGORIES
from kora.engine.snapshot import Snapshot, by_lowest
from kora.observe import histogram
from kora.observe.histogram import EDGES_NS
from kora.observe.traces import REASONS, operation_name, trace_text
from kora.sidecar import own_stats
from kora.sidecar.audit import AuditLog
from kora.sidecar.certificate import not_after_s
from kora.sidecar.events import Events
from kora.sidecar.exposition import (
    PAGE,
    Command,
    Distribution,
    Edges,
    Family,
    Rows,
    Value,
    View,
    label,
    of_snapshot,
    seconds,
)
from kora.sidecar.redis_metrics import REDIS
from kora.sidecar.storage_metrics import STORAGE

# Errors that alerts are about: there from the start, so that the first is an increase.
_EXPECTED_ERRORS: Final = dict.fromkeys(("ERR", "MISCONF", "OOM"), 0)
_COMMAND_EDGES: Final = Edges(EDGES_NS)
_LOOP_EDGES: Final = Edges([edge for edge in EDGES_NS if edge >= 100_000])
_SCRAPE_EDGES: Final = Edges([edge for edge in EDGES_NS if edge >= 1_000_000])


def _command_durations(view: View, command: Command) -> Distribution | None:
    if not command.running:
        return None
    slow = view.snapshot.last_slow.get(command.name) if view.snapshot is not None else None
    exemplars = list(view.own.traces.exemplars.get(operation_name(command.name), {}).values())
    if slow is not None:
        exemplars.append(_exemplar(slow))
    return _COMMAND_EDGES.distribution(command.running, seconds(command.stats.elapsed_ns), exemplars)


def _command_times(
    rows: "Callable[[Snapshot], dict[int, list[Any]]]",
) -> "Callable[[View, Command], Distribution | None]":
    def read(view: View, command: Command) -> Distribution | None:
        found = rows(view.snapshot).get(command.slot) if view.snapshot is not None else None
        if found is None or not found[2]:
            return None
        _, elapsed_ns, counts = found
        return _COMMAND_EDGES.distribution(histogram.running(histogram.merged([counts])), seconds(elapsed_ns))

    return read


def _exemplar(entry: Sequence[int]) -> Exemplar:
    """The last call of a command that got into the slow log, where SLOWLOG GET tells more of it."""
    slowlog_id, elapsed_us, time_s, trace_id = entry
    labels = {"slowlog_id": str(slowlog_id)}
    if trace_id:
        labels["trace_id"] = trace_text(trace_id)
    return Exemplar(labels, elapsed_us / 1e6, float(time_s))


def _spans_kept(snapshot: Snapshot) -> Rows:
    return [((reason,), snapshot.traces[f"kept_{reason}"]) for reason in REASONS]


def _spans_dropped(view: View) -> Rows:
    traces = view.own.traces
    here = view.snapshot.traces["dropped"] if view.snapshot is not None else 0
    return [(("buffer",), here), (("queue",), traces.dropped), (("export",), traces.failed)]


def _command_errors(view: View) -> Rows:
    # From a command's first call on, so that the first error is an increase.
    for command in view.commands:
        yield (command.name, "failed"), command.stats.failed
        yield (command.name, "rejected"), command.stats.rejected


def _errors(snapshot: Snapshot) -> Rows:
    return [((label(prefix),), count) for prefix, count in sorted({**_EXPECTED_ERRORS, **snapshot.errors}.items())]


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
    counts = memoryview(snapshot.lag_counts).cast("Q")
    return _LOOP_EDGES.distribution(histogram.running(counts), seconds(snapshot.lag_sum_ns))


def _build_info(view: View) -> Rows:
    version = view.settings.version or (view.snapshot.version if view.snapshot is not None else "")
    python = ".".join(str(number) for number in sys.version_info[:3])
    return [((version, python, view.settings.kernel), 1)]


def _scrapes(view: View) -> Distribution:
    return _SCRAPE_EDGES.distribution(histogram.running(view.own.scrape_counts), seconds(view.own.scrape_elapsed_ns))


def _requests(view: View) -> Rows:
    return [((path, str(code)), count) for (path, code), count in sorted(view.own.requests.items())]


def _profiles(view: View) -> Rows:
    return [((kind,), count) for kind, count in view.own.profiles.items()]


def _profiles_running(view: View) -> Rows:
    return [((kind,), int(kind == view.own.profile_running)) for kind in view.own.profiles]


def _of_events(read: "Callable[[Events], Rows | Value]") -> "Callable[[View], Rows | Value | None]":
    return lambda view: read(view.own.events) if view.own.events is not None else None


def _event_requests(events: Events) -> Rows:
    return [((path, str(code)), count) for (path, code), count in sorted(events.requests.items())]


def _own_cpu(_: View) -> Rows:
    return [((mode,), used_s) for mode, used_s in zip(("user", "system"), own_stats.cpu_s(), strict=True)]


def _audit(
    name: str,
    kind: str,
    unit: str,
    text: str,
    read: "Callable[[AuditLog], Rows | Value]",
    labels: tuple[str, ...] = (),
) -> Family:
    """Shown only where an audit log is kept."""
    return Family(
        name, kind, unit, text, lambda view: None if view.audit is None else read(view.audit), labels, is_optional=True
    )


def _audit_records(audit: AuditLog) -> Rows:
    return [
        ((category, outcome), audit.records[category, outcome])
        for category in AUDIT_CATEGORIES
        for outcome in ("ok", "error")
    ]


def _audit_blocked(audit: AuditLog) -> float:
    words = audit.queue.words
    since_ns = words[ring.BLOCKED_SINCE]
    return seconds(words[ring.BLOCKED_NS] + (max(0, time.monotonic_ns() - since_ns) if since_ns else 0))


# fmt: off
_KORA: Final[tuple[Family, ...]] = (
    # The first seed's: names, kinds and labels are a promise.
    Family("kora_commands_total", "counter", "", "Total commands processed by type.",
           lambda view: [((command.name,), command.stats.calls) for command in view.commands if command.stats.calls],
           ("cmd",)),
    Family("kora_keys_total", "gauge", "", "Total number of keys.",
           of_snapshot(lambda s: s.keys)),
    Family("kora_memory_used_bytes", "gauge", "bytes", "Estimated bytes of keys, values and their tables.",
           of_snapshot(lambda s: s.memory_bytes)),
    Family("kora_bytes_in_total", "counter", "bytes", "Bytes received from clients.",
           of_snapshot(lambda s: s.bytes_in)),
    Family("kora_bytes_out_total", "counter", "bytes", "Bytes sent to clients.",
           of_snapshot(lambda s: s.bytes_out)),
    Family("kora_command_duration_seconds", "histogram", "seconds", "Command latency distribution.",
           _command_durations, ("cmd",), is_detail=True),
    Family("kora_command_wait_seconds", "histogram", "seconds",
           "How long commands waited, from when they could be read until they began.",
           _command_times(lambda s: s.waits), ("cmd",), is_detail=True),
    Family("kora_command_service_seconds", "histogram", "seconds",
           "How long commands took for their clients, from when they could be read until they were answered.",
           _command_times(lambda s: s.services), ("cmd",), is_detail=True),
    Family("kora_reads_total", "counter", "", "Times that requests were read from a client.",
           of_snapshot(lambda s: s.reads)),
    Family("kora_reads_waited_seconds_total", "counter", "seconds",
           "How long these reads waited for others; LATENCY BLAME says for whom.",
           of_snapshot(lambda s: seconds(s.suffered_ns))),

    # Commands.
    Family("kora_command_errors_total", "counter", "",
           "Error replies by command: of calls that ran and failed, or that were rejected without running.",
           _command_errors, ("cmd", "kind")),
    Family("kora_errors_total", "counter", "", "Error replies by their first word.",
           of_snapshot(_errors), ("prefix",)),
    Family("kora_internal_errors_total", "counter", "", "Commands that ended in a bug of the server, which is logged.",
           of_snapshot(lambda s: s.internal_errors)),

    # Tracked values, in the data process.
    Family("kora_events_tracked_total", "counter", "",
           "Values that were tracked, over RESP or handed over by the sidecar.",
           of_snapshot(lambda s: s.tracked["tracked"])),
    Family("kora_events_keys", "gauge", "", "Metrics that are known.",
           of_snapshot(lambda s: s.tracked["keys"])),
    Family("kora_events_waiting", "gauge", "", "Tallies, of a metric and an interval, that are not written yet.",
           of_snapshot(lambda s: s.tracked["waiting"])),
    Family("kora_events_lag_seconds", "gauge", "seconds", "For how long the oldest of them should have been written.",
           of_snapshot(lambda s: s.tracked["lag_ms"] / 1_000)),
    Family("kora_events_flushed_total", "counter", "", "Entries that were written for a metric and an interval.",
           of_snapshot(lambda s: s.tracked["flushed"])),
    Family("kora_events_flushes_total", "counter", "", "Intervals that were written.",
           of_snapshot(lambda s: s.tracked["flushes"])),
    Family("kora_events_flush_seconds_total", "counter", "seconds", "How long writing them took.",
           of_snapshot(lambda s: seconds(s.tracked["flush_ns"]))),
    Family("kora_events_late_total", "counter", "", "Entries written for an interval that had others behind it.",
           of_snapshot(lambda s: s.tracked["late"])),
    Family("kora_events_overflow_total", "counter", "",
           "Values counted as __other__, since there were events-keys-max metrics.",
           of_snapshot(lambda s: s.tracked["overflow"])),
    Family("kora_events_refused_total", "counter", "",
           "Values lost because the key of their metric's stream holds something else.",
           of_snapshot(lambda s: s.tracked["refused"])),
    Family("kora_events_dropped_total", "counter", "",
           "Values of the sidecar lost because too much was waiting that could not be written.",
           of_snapshot(lambda s: s.tracked["dropped"])),
    Family("kora_events_rolled_total", "counter", "", "Entries of minutes and hours that were made.",
           of_snapshot(lambda s: s.tracked["rolled"])),

    # Events over HTTP, in the sidecar and on their way.
    Family("kora_events_requests_total", "counter", "", "HTTP requests about events by path and status code.",
           _of_events(_event_requests), ("path", "code")),
    Family("kora_events_received_total", "counter", "", "Events that were tracked over HTTP since the start.",
           _of_events(lambda events: events.received)),
    Family("kora_events_lost_total", "counter", "", "Of these, those that a sidecar had in memory alone when it died.",
           _of_events(lambda events: events.lost)),
    Family("kora_events_handover_bytes", "gauge", "bytes", "Sums of events that the data process has not taken yet.",
           _of_events(lambda events: events.waiting_bytes)),
    Family("kora_events_handover_lag_seconds", "gauge", "seconds",
           "For how long the data process has taken none of them; 0 if there are none.",
           _of_events(lambda events: seconds(events.lag_ns))),
    Family("kora_events_connections", "gauge", "", "Connections to events-port.",
           _of_events(lambda events: events.connections)),
    Family("kora_events_connections_ended_total", "counter", "",
           "Connections to events-port that were ended because nothing came or was read, or to make room for others.",
           _of_events(lambda events: events.turned_out)),

    # Keys.
    Family("kora_keyspace_hits_total", "counter", "", "Look-ups for reading that found a key.",
           of_snapshot(lambda s: s.hits)),
    Family("kora_keyspace_misses_total", "counter", "", "Look-ups for reading that found no key.",
           of_snapshot(lambda s: s.misses)),
    Family("kora_expired_keys_total", "counter", "", "Keys deleted because their time was over.",
           of_snapshot(lambda s: s.expired)),
    Family("kora_evicted_keys_total", "counter", "", "Keys deleted to stay within maxmemory.",
           of_snapshot(lambda s: s.evicted)),
    Family("kora_changes_total", "counter", "", "Changes of keys since start.",
           of_snapshot(lambda s: s.changes)),
    Family("kora_database_keys", "gauge", "", "Keys by database.",
           of_snapshot(_database(0)), ("db",)),
    Family("kora_database_expires", "gauge", "", "Keys with a deadline by database.",
           of_snapshot(_database(1)), ("db",)),
    Family("kora_database_keys_by_length", "gauge", "",
           "Keys by the type and length of their value, bytes of strings and items of others: from `at_least` on, and "
           "less than twice that.",
           of_snapshot(_lengths), ("db", "type", "at_least")),
    Family("kora_shard_keys", "gauge", "", "Keys by shard.",
           of_snapshot(_shard("keys")), ("shard",)),
    Family("kora_shard_memory_bytes", "gauge", "bytes", "Estimated bytes by shard.",
           of_snapshot(_shard("memory_bytes")), ("shard",)),
    Family("kora_memory_peak_bytes", "gauge", "bytes", "The largest kora_memory_used_bytes so far.",
           of_snapshot(lambda s: s.memory_peak_bytes)),
    Family("kora_maxmemory_bytes", "gauge", "bytes", "Limit of the estimated bytes; 0 for none.",
           of_snapshot(lambda s: s.maxmemory)),
    Family("kora_lazyfree_pending_keys", "gauge", "", "Keys that were unlinked and whose values are not freed yet.",
           of_snapshot(lambda s: s.lazyfree_pending)),
    Family("kora_hottest_key_accesses_per_second", "gauge", "",
           "Estimated accesses to the key that was accessed most, in the busiest of the last ten seconds.",
           of_snapshot(lambda s: s.hottest_rate)),

    # Clients.
    Family("kora_connected_clients", "gauge", "", "Clients that are connected.",
           of_snapshot(lambda s: s.clients)),
    Family("kora_blocked_clients", "gauge", "", "Clients whose requests wait.",
           of_snapshot(lambda s: s.clients_blocked)),
    Family("kora_clients_max", "gauge", "", "Clients that may be connected at the same time.",
           of_snapshot(lambda s: s.clients_max)),
    Family("kora_connections_received_total", "counter", "", "Connections that were accepted.",
           of_snapshot(lambda s: s.connections_received)),
    Family("kora_connections_rejected_total", "counter", "", "Connections that were turned away.",
           of_snapshot(lambda s: s.connections_rejected)),
    Family("kora_clients_evicted_total", "counter", "", "Connections that were closed because of maxmemory-clients.",
           of_snapshot(lambda s: s.clients_evicted)),
    Family("kora_clients_memory_bytes", "gauge", "bytes", "What all connections take: buffers, queues, subscriptions.",
           of_snapshot(lambda s: s.clients_memory_bytes)),
    Family("kora_protocol_errors_total", "counter", "", "Connections closed because what they sent was not RESP.",
           of_snapshot(lambda s: s.protocol_errors)),
    Family("kora_client_input_buffer_max_bytes", "gauge", "bytes", "The largest query buffer of any client.",
           of_snapshot(lambda s: s.input_buffer_max_bytes)),
    Family("kora_client_output_buffer_max_bytes", "gauge", "bytes", "The largest output buffer of any client.",
           of_snapshot(lambda s: s.output_buffer_max_bytes)),

    # The data process.
    Family("kora_process_resident_memory_bytes", "gauge", "bytes", "Memory of the data process that is in RAM.",
           of_snapshot(lambda s: s.rss_bytes)),
    Family("kora_process_cpu_seconds_total", "counter", "seconds", "CPU time of the data process.",
           of_snapshot(lambda s: [(("user",), seconds(s.cpu_user_ns)), (("system",), seconds(s.cpu_system_ns))]),
           ("mode",)),
    Family("kora_process_open_fds", "gauge", "", "Descriptors that the data process has open.",
           of_snapshot(lambda s: own_stats.open_fds(s.pid))),
    Family("kora_process_start_time_seconds", "gauge", "seconds", "When the data process started, as Unix time.",
           lambda view: view.settings.started_ms / 1e3),
    Family("kora_tls_certificate_expiry_timestamp_seconds", "gauge", "seconds",
           "Until when the certificate of tls-port is valid, as Unix time.",
           lambda view: not_after_s(view.settings.tls_cert_file) if view.settings.tls_cert_file else None,
           is_optional=True),
    Family("kora_uptime_seconds", "gauge", "seconds", "Seconds since the data process started.",
           of_snapshot(lambda s: seconds(s.uptime_ns))),
    Family("kora_build_info", "info", "", "What runs: always 1.",
           _build_info, ("version", "python", "kernel")),

    # Its loop.
    Family("kora_loop_lag_seconds", "histogram", "seconds", "How much later than due the loop ran its heartbeat.",
           of_snapshot(_loop_lag)),
    Family("kora_loop_lag_max_seconds", "gauge", "seconds", "The largest loop lag since start or CONFIG RESETSTAT.",
           of_snapshot(lambda s: seconds(s.lag_max_ns))),
    Family("kora_loop_turn_max_seconds", "gauge", "seconds", "The longest turn since start or CONFIG RESETSTAT.",
           of_snapshot(lambda s: seconds(s.turn_max_ns))),

    # What took long.
    Family("kora_commandlog_entries", "gauge", "",
           "Commands that are kept in the slow log, and in those of large requests and replies.",
           of_snapshot(_command_log(0)), ("log",)),
    Family("kora_commandlog_recorded_total", "counter", "",
           "Commands that were ever written to these logs: the next entry's id.",
           of_snapshot(_command_log(1)), ("log",)),
    Family("kora_slowlog_last_seconds", "gauge", "seconds", "How long the last command of the slow log took.",
           of_snapshot(lambda s: s.command_logs["slow"][2] / 1e6)),
    Family("kora_latency_spikes_total", "counter", "",
           "Events that took at least latency-monitor-threshold.", of_snapshot(_spikes(0)), ("event",)),
    Family("kora_latency_spike_seconds_total", "counter", "seconds", "What these events took together.",
           of_snapshot(_spikes(1, seconds)), ("event",)),
    Family("kora_latency_spike_last_timestamp_seconds", "gauge", "seconds",
           "When an event had its last spike, as Unix time; 0 for never since LATENCY RESET.",
           of_snapshot(_spikes_seen(0, 1)), ("event",)),
    Family("kora_latency_spike_last_seconds", "gauge", "seconds",
           "The most that an event took in the last second that had a spike.",
           of_snapshot(_spikes_seen(1, 1e3)), ("event",)),
    Family("kora_latency_spike_max_seconds", "gauge", "seconds", "The most that an event took since LATENCY RESET.",
           of_snapshot(_spikes_seen(2, 1e3)), ("event",)),
    Family("kora_monitors", "gauge", "", "Clients in MONITOR, which slow everybody down.",
           of_snapshot(lambda s: s.monitors)),

    # Its background jobs.  Prometheus has the label `job` for itself.
    Family("kora_job_runs_total", "counter", "", "Turns of background jobs.",
           of_snapshot(_job(0)), ("worker",)),
    Family("kora_job_seconds_total", "counter", "seconds", "Time that background jobs took.",
           of_snapshot(_job(1, seconds)), ("worker",)),
    Family("kora_job_max_seconds", "gauge", "seconds", "The longest turn of background jobs.",
           of_snapshot(_job(2, seconds)), ("worker",)),

    # How it is measured.
    Family("kora_observation_enabled", "gauge", "", "1 if commands are counted and timed, 0 if the setting is off.",
           of_snapshot(lambda s: int(s.observing))),
    Family("kora_hotkey_sampling_ratio", "gauge", "", "One request in this many is recorded for hot keys; 0: none.",
           of_snapshot(lambda s: s.hotkey_sampling_ratio)),
    Family("kora_hotkey_session_active", "gauge", "", "1 between HOTKEYS START and STOP, else 0.",
           of_snapshot(lambda s: int(s.hotkey_session))),
    Family("kora_hotkey_memory_bytes", "gauge", "bytes", "What is kept of hot keys.",
           of_snapshot(lambda s: s.hotkeys_bytes)),

    # Traces.
    Family("kora_trace_enabled", "gauge", "", "1 if requests leave spans, else 0.",
           of_snapshot(lambda s: s.traces["enabled"])),
    Family("kora_trace_spans_total", "counter", "",
           "Spans that were kept, by reason: sampled, parent (the client said so), error or slow.",
           of_snapshot(_spans_kept), ("reason",)),
    Family("kora_trace_spans_exported_total", "counter", "", "Spans that the collector has taken.",
           lambda view: view.own.traces.exported),
    Family("kora_trace_spans_dropped_total", "counter", "",
           "Spans that were given up: since the data process could not hand them over (buffer), since too many waited "
           "(queue), or since the collector did not take them (export).",
           _spans_dropped, ("reason",)),
    Family("kora_trace_export_errors_total", "counter", "", "Requests to the collector that failed.",
           lambda view: view.own.traces.errors),
    Family("kora_trace_queue_spans", "gauge", "", "Spans that wait to be exported.",
           lambda view: view.own.traces.waiting),
    Family("kora_trace_contexts_invalid_total", "counter", "",
           "Requests with a traceparent attribute that was none, and that were run without.",
           of_snapshot(lambda s: s.traces["contexts_invalid"])),

    # The audit log.
    _audit("kora_audit_records_total", "counter", "", "Records that were written, by category and by how it ended.",
           _audit_records, ("category", "outcome")),
    _audit("kora_audit_bytes_total", "counter", "bytes", "Bytes of the audit log that were written.",
           lambda audit: audit.bytes),
    _audit("kora_audit_file_bytes", "gauge", "bytes", "Bytes of the file that is written to.",
           lambda audit: audit.size_bytes),
    _audit("kora_audit_last_sequence", "gauge", "", "The number of the last record that was written.",
           lambda audit: audit.chain.sequence),
    _audit("kora_audit_queue_bytes", "gauge", "bytes", "Bytes of records that wait to be written.",
           lambda audit: audit.queue.used_bytes + audit.queue.words[ring.WAITING]),
    _audit("kora_audit_queue_limit_bytes", "gauge", "bytes", "Bytes of records that may wait.",
           lambda audit: audit.queue.capacity),
    _audit("kora_audit_dropped_total", "counter", "", "Records that were dropped, since the queue was full.",
           lambda audit: audit.queue.words[ring.DROPPED]),
    _audit("kora_audit_gaps_total", "counter", "", "Records that say that others are missing.",
           lambda audit: audit.gaps),
    _audit("kora_audit_missing_total", "counter", "", "How many these say are missing, as far as they know.",
           lambda audit: audit.lost),
    _audit("kora_audit_blocked_seconds_total", "counter", "seconds",
           "How long clients waited until there was room for records.", _audit_blocked),
    _audit("kora_audit_write_errors_total", "counter", "", "Times that the audit log could not be written.",
           lambda audit: audit.write_errors),
    _audit("kora_audit_fsync_errors_total", "counter", "", "Times that the audit log could not be synced.",
           lambda audit: audit.fsync_errors),
    _audit("kora_audit_rotations_total", "counter", "", "Times that a new file of the audit log was begun.",
           lambda audit: audit.rotations),
    _audit("kora_audit_healthy", "gauge", "", "1 if the audit log can be written, else 0.",
           lambda audit: int(not audit.fault)),
    _audit("kora_audit_chain_valid", "gauge", "",
           "0 if AUDIT VERIFY found a record last time that is not as it was written, or the last file ended in one.",
           lambda audit: int(audit.is_valid)),

    # Profiles.
    Family("kora_profile_taken_total", "counter", "", "Profiles that were taken.", _profiles, ("kind",)),
    Family("kora_profile_running", "gauge", "", "1 while a profile is being taken, else 0.",
           _profiles_running, ("kind",)),
    Family("kora_profile_fork_max_seconds", "gauge", "seconds",
           "The longest that the loop stood still for fork(2), which a profile of memory begins with.",
           lambda view: seconds(view.own.fork_max_ns)),

    # The sidecar itself.
    Family("kora_sidecar_scrapes_total", "counter", "", "Scrapes of /metrics, this one included.",
           lambda view: view.own.scrapes),
    Family("kora_sidecar_scrape_duration_seconds", "histogram", "seconds",
           "How long scrapes of /metrics took, waiting for the data process included.",
           _scrapes),
    Family("kora_sidecar_snapshot_age_seconds", "gauge", "seconds",
           "Age of the numbers shown; they grow old while the data loop is stuck.",
           lambda view: seconds(view.age_ns) if view.age_ns is not None else None),
    Family("kora_sidecar_snapshot_timeouts_total", "counter", "",
           "Times that the data process did not give a snapshot in time.",
           lambda view: view.timeouts),
    Family("kora_sidecar_requests_total", "counter", "", "HTTP requests by path and status code.",
           _requests, ("path", "code")),
    Family("kora_sidecar_connections_ended_total", "counter", "",
           "HTTP connections that were ended because nothing came or was read, or to make room for others.",
           lambda view: view.own.turned_out),
    Family("kora_sidecar_resident_memory_bytes", "gauge", "bytes", "Memory of the sidecar that is in RAM.",
           lambda view: own_stats.rss_bytes()),
    Family("kora_sidecar_cpu_seconds_total", "counter", "seconds", "CPU time of the sidecar.",
           _own_cpu, ("mode",)),
    Family("kora_sidecar_restarts_total", "counter", "", "Times that the data process had to start the sidecar again.",
           lambda view: view.settings.restarts),
    *PAGE,
)
# fmt: on

METRICS: Final[tuple[Family, ...]] = (*_KORA, *STORAGE, *REDIS)
