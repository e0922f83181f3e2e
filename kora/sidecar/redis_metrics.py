"""The `redis_*` families: names, types and labels of redis_exporter 1.88, so that what was made for it reads Kora.

Its peculiarities are kept: a histogram in µs, quantiles in percent, gauges that end in `_total` and counters that do
not.  Numbers that INFO has are taken from there by the field's name, and are shown as soon as INFO shows them.
"""

from collections.abc import Callable, Iterator
from typing import Final

from kora.engine import info
from kora.engine.snapshot import Snapshot
from kora.observe.histogram import STEPS_NS, STEPS_US, percentiles_of, running
from kora.observe.shard_stats import CommandStats
from kora.sidecar.exposition import (
    Command,
    Distribution,
    Edges,
    Family,
    Read,
    Rows,
    Summary,
    View,
    label,
    of_snapshot,
    seconds,
)

# Databases that are shown whether they hold keys or not, as redis_exporter does; others while they do.
_DATABASES_SHOWN: Final = 16


def _by_info(view: View, name: str) -> float | None:
    """A field's value as redis_exporter reads it; None where it has none that is a number."""
    value = str(view.info.get(name, ""))
    if value in ("ok", "true"):
        return 1
    if value in ("err", "fail", "false"):
        return 0
    try:
        return float(value)
    except ValueError:
        return None


def _instance(view: View) -> Rows:
    names = ("role", "redis_version", "redis_build_id", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id")
    if view.snapshot is not None:
        yield tuple(str(view.info.get(name, "")) for name in (*names, "process_id", "master_replid")), 1


def _command(read: "Callable[[CommandStats], int | float]") -> Read:
    return lambda view: [((command.name,), read(command.stats)) for command in view.commands]


def _percentiles(view: View, command: Command) -> Summary | None:
    snapshot = view.snapshot
    words = snapshot.latency_percentiles.split() if snapshot is not None and snapshot.latency_tracking else []
    if not words or not command.stats.calls:
        return None
    values_ns = percentiles_of(command.running, [float(word) for word in words])
    values = {word: round(value / 1_000, 3) for word, value in zip(words, values_ns, strict=True)}
    return Summary(values, command.stats.calls, command.stats.elapsed_ns // 1_000)


_STEPS: Final = Edges(STEPS_NS, [str(edge_us) for edge_us in STEPS_US])


def _steps(view: View, command: Command) -> Distribution | None:
    """The buckets of LATENCY HISTOGRAM: those where the count grows, which are not the same for all commands."""
    if not command.running or not command.running[-1]:
        return None
    every = _STEPS.distribution(command.running, command.stats.elapsed_ns // 1_000)
    found: dict[int, str] = {}  # count → the first edge that has it
    for le, count in zip(every.les, every.cumulative, strict=True):
        if count:
            found.setdefault(count, le)
    return Distribution(list(found.values()), list(found), every.count, every.sum)


def _errors(snapshot: Snapshot) -> Rows:
    counts: dict[str, int] = {}
    for prefix, count in snapshot.errors.items():
        name = label(info.error_name(prefix))
        counts[name] = counts.get(name, 0) + count
    return [((name,), count) for name, count in sorted(counts.items())]


def _spikes(column: int, per_unit: float) -> Read:
    return of_snapshot(lambda s: [((name,), row[column] / per_unit) for name, row in sorted(s.spikes_seen.items())])


def _slow_log(read: "Callable[[int, int], float]") -> Read:
    """From how many entries there ever were, and the last one's µs; 0 while the log is empty."""
    return of_snapshot(lambda s: read(*s.command_logs["slow"][1:]) if s.command_logs["slow"][0] else 0)


def _databases(column: int) -> Read:
    def read(view: View) -> Rows:
        assert view.snapshot is not None
        shown = range(min(_DATABASES_SHOWN, int(view.settings.config.get("databases", _DATABASES_SHOWN))))
        numbers = sorted({*shown, *view.snapshot.databases})
        return [((f"db{number}",), view.snapshot.databases.get(number, (0, 0, 0))[column]) for number in numbers]

    return lambda view: read(view) if view.snapshot is not None else None


def _average_ttl(snapshot: Snapshot) -> Rows:
    return [((f"db{number}",), row[2] / 1e3) for number, row in sorted(snapshot.databases.items())]


def _config(name: str) -> Read:
    return lambda view: float(view.settings.config[name]) if name in view.settings.config else None


def _output_limits(column: int, limit: str) -> Callable[[View], Iterator[tuple[tuple[str, ...], float]]]:
    def read(view: View) -> Iterator[tuple[tuple[str, ...], float]]:
        words = view.settings.config.get("client-output-buffer-limit", "").split()
        for at in range(0, len(words) - 3, 4):
            yield (words[at], limit), float(words[at + column])

    return read


def _scrapes(view: View) -> Summary:
    sums = running(view.own.scrape_counts)
    return Summary({}, sums[-1] if sums else 0, seconds(view.own.scrape_elapsed_ns))


# INFO's field, the name without redis_, the kind.
_INFO_GAUGES: Final = """
    uptime_in_seconds uptime_in_seconds
    process_id process_id
    connected_clients connected_clients
    blocked_clients blocked_clients
    maxclients max_clients
    tracking_clients tracking_clients
    watching_clients watching_clients
    total_blocking_keys total_blocking_keys
    client_recent_max_output_buffer client_recent_max_output_buffer_bytes
    client_recent_max_input_buffer client_recent_max_input_buffer_bytes
    used_memory memory_used_bytes
    used_memory_rss memory_used_rss_bytes
    used_memory_peak memory_used_peak_bytes
    total_system_memory total_system_memory_bytes
    maxmemory memory_max_bytes
    mem_fragmentation_ratio mem_fragmentation_ratio
    mem_fragmentation_bytes mem_fragmentation_bytes
    mem_clients_normal mem_clients_normal
    lazyfree_pending_objects lazyfree_pending_objects
    loading loading_dump_file
    rdb_changes_since_last_save rdb_changes_since_last_save
    rdb_bgsave_in_progress rdb_bgsave_in_progress
    aof_enabled aof_enabled
    aof_rewrite_in_progress aof_rewrite_in_progress
    pubsub_channels pubsub_channels
    pubsub_patterns pubsub_patterns
    pubsubshard_channels pubsubshard_channels
    tracking_total_keys tracking_total_keys
    tracking_total_items tracking_total_items
    tracking_total_prefixes tracking_total_prefixes
    connected_slaves connected_slaves
    master_repl_offset master_repl_offset
    hz hz
    configured_hz configured_hz
"""
_INFO_COUNTERS: Final = """
    total_connections_received connections_received_total
    total_commands_processed commands_processed_total
    rejected_connections rejected_connections_total
    total_net_input_bytes net_input_bytes_total
    total_net_output_bytes net_output_bytes_total
    expired_keys expired_keys_total
    evicted_keys evicted_keys_total
    evicted_clients evicted_clients_total
    keyspace_hits keyspace_hits_total
    keyspace_misses keyspace_misses_total
    total_error_replies total_error_replies
    acl_access_denied_auth acl_access_denied_auth_total
    acl_access_denied_cmd acl_access_denied_cmd_total
    acl_access_denied_key acl_access_denied_key_total
    acl_access_denied_channel acl_access_denied_channel_total
    used_cpu_sys cpu_sys_seconds_total
    used_cpu_user cpu_user_seconds_total
    used_cpu_sys_main_thread cpu_sys_main_thread_seconds_total
    used_cpu_user_main_thread cpu_user_main_thread_seconds_total
"""
# Those of files, which INFO may or may not have: without a journal, or before the first save.
_INFO_OF_FILES: Final = """
    async_loading async_loading
    rdb_last_save_time rdb_last_save_timestamp_seconds
    rdb_last_bgsave_status rdb_last_bgsave_status
    rdb_last_bgsave_time_sec rdb_last_bgsave_duration_sec
    rdb_current_bgsave_time_sec rdb_current_bgsave_duration_sec
    rdb_saves rdb_saves_total
    rdb_last_cow_size rdb_last_cow_size_bytes
    rdb_last_load_keys_expired rdb_last_load_expired_keys
    rdb_last_load_keys_loaded rdb_last_load_loaded_keys
    aof_rewrite_scheduled aof_rewrite_scheduled
    aof_last_rewrite_time_sec aof_last_rewrite_duration_sec
    aof_current_rewrite_time_sec aof_current_rewrite_duration_sec
    aof_last_cow_size aof_last_cow_size_bytes
    aof_current_size aof_current_size_bytes
    aof_base_size aof_base_size_bytes
    aof_pending_rewrite aof_pending_rewrite
    aof_buffer_length aof_buffer_length
    aof_rewrite_buffer_length aof_rewrite_buffer_length
    aof_pending_bio_fsync aof_pending_bio_fsync
    aof_delayed_fsync aof_delayed_fsync
    aof_last_bgrewrite_status aof_last_bgrewrite_status
    aof_last_write_status aof_last_write_status
    mem_aof_buffer mem_aof_buffer_bytes
"""


_COMMANDLOG_SETTINGS: Final = (
    "commandlog-execution-slower-than",
    "commandlog-request-larger-than",
    "commandlog-reply-larger-than",
    "commandlog-slow-execution-max-len",
    "commandlog-large-request-max-len",
    "commandlog-large-reply-max-len",
)


def _rows_of_info(table: str, kind: str, is_optional: bool = False) -> Iterator[Family]:
    for line in table.split("\n"):
        if line.strip():
            field, name = line.split()
            read: Read = lambda view, field=field: _by_info(view, field)  # type: ignore[misc]  # noqa: E731
            yield Family(f"redis_{name}", kind, "", f"INFO's {field}.", read, is_optional=is_optional)


def _commandlog_rows() -> Iterator[Family]:
    for log in ("slow", "large_request", "large_reply"):
        name = log.replace("_", "-")
        read: Read = of_snapshot(lambda s, name=name: s.command_logs[name][0])  # type: ignore[misc]
        yield Family(f"redis_commandlog_{log}_length", "gauge", "", f"COMMANDLOG LEN {name}.", read)
    for name in _COMMANDLOG_SETTINGS:
        metric = f"redis_{name.replace('-', '_')}"
        yield Family(metric, "gauge", "", f"CONFIG GET {name}.", _config(name))


# fmt: off
REDIS: Final[tuple[Family, ...]] = (
    Family("redis_up", "gauge", "", "1 if the server answers, 0 while it is stuck.", lambda view: int(view.is_fresh)),
    Family("redis_instance_info", "info", "", "What runs: always 1.", _instance,
           ("role", "redis_version", "redis_build_id", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id",
            "process_id", "master_replid")),
    Family("redis_start_time_seconds", "gauge", "", "When the server started, as Unix time.",
           lambda view: view.settings.started_ms // 1_000),
    *_rows_of_info(_INFO_GAUGES, "gauge"),
    *_rows_of_info(_INFO_COUNTERS, "counter"),
    *_rows_of_info(_INFO_OF_FILES, "gauge", is_optional=True),

    Family("redis_commands_total", "counter", "", "Calls by command.",
           _command(lambda stats: stats.calls), ("cmd",)),
    Family("redis_commands_duration_seconds_total", "counter", "", "Time that calls took, by command.",
           _command(lambda stats: stats.elapsed_ns // 1_000 / 1e6), ("cmd",)),
    Family("redis_commands_rejected_calls_total", "counter", "", "Calls that were refused before they ran, by command.",
           _command(lambda stats: stats.rejected), ("cmd",)),
    Family("redis_commands_failed_calls_total", "counter", "", "Calls that ran and answered with an error, by command.",
           _command(lambda stats: stats.failed), ("cmd",)),
    Family("redis_latency_percentiles_usec", "summary", "",
           "Microseconds at some percentiles of all calls since start, by command; quantiles are in percent.",
           _percentiles, ("cmd",), is_detail=True),
    Family("redis_commands_latencies_usec", "histogram", "", "Microseconds that calls took, by command.",
           _steps, ("cmd",), is_detail=True),
    Family("redis_errors_total", "counter", "", "Error replies by their first word.", of_snapshot(_errors), ("err",)),

    Family("redis_latency_spike_last", "gauge", "", "When an event had its last spike, as Unix time.",
           _spikes(0, 1), ("event_name",)),
    Family("redis_latency_spike_duration_seconds", "gauge", "", "What the event took then.",
           _spikes(1, 1e3), ("event_name",)),
    Family("redis_slowlog_length", "gauge", "", "Entries of the slow log.",
           of_snapshot(lambda s: s.command_logs["slow"][0])),
    Family("redis_slowlog_last_id", "gauge", "", "The id of its last entry.",
           _slow_log(lambda recorded, last_us: recorded - 1)),
    Family("redis_last_slow_execution_duration_seconds", "gauge", "", "How long the command of its last entry took.",
           _slow_log(lambda recorded, last_us: last_us / 1e6)),
    *_commandlog_rows(),

    Family("redis_db_keys", "gauge", "", "Keys by database.", _databases(0), ("db",)),
    Family("redis_db_keys_expiring", "gauge", "", "Keys with a deadline by database.", _databases(1), ("db",)),
    Family("redis_db_avg_ttl_seconds", "gauge", "", "What keys with a deadline have left on average, by database.",
           of_snapshot(_average_ttl), ("db",)),

    Family("redis_config_maxclients", "gauge", "", "CONFIG GET maxclients.", _config("maxclients")),
    Family("redis_config_maxmemory", "gauge", "", "CONFIG GET maxmemory.", _config("maxmemory")),
    Family("redis_config_io_threads", "gauge", "", "CONFIG GET io-threads.", _config("io-threads")),
    Family("redis_config_repl_backlog_size", "gauge", "", "CONFIG GET repl-backlog-size.",
           _config("repl-backlog-size")),
    Family("redis_config_client_output_buffer_limit_bytes", "gauge", "", "CONFIG GET client-output-buffer-limit.",
           lambda view: [*_output_limits(1, "hard")(view), *_output_limits(2, "soft")(view)], ("class", "limit")),
    Family("redis_config_client_output_buffer_limit_overcome_seconds", "gauge", "",
           "For how long the soft limit may be exceeded.", _output_limits(3, "soft"), ("class", "limit")),

    Family("redis_exporter_scrapes_total", "counter", "", "Scrapes of this page, this one included.",
           lambda view: view.own.scrapes),
    Family("redis_exporter_scrape_duration_seconds", "summary", "", "How long scrapes took.", _scrapes),
    Family("redis_exporter_last_scrape_error", "gauge", "", "1 if the server did not give its numbers for this scrape.",
           lambda view: [(("",), 0) if view.is_fresh else (("the server does not answer",), 1)], ("err",)),
    Family("redis_exporter_last_scrape_duration_seconds", "gauge", "", "How long the scrape before this one took.",
           lambda view: seconds(view.own.last_scrape_ns)),
)
# fmt: on
