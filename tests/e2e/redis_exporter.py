"""A redis_exporter 1.88 with its default flags, as far as a server can tell: what it sends, and what it makes of it.

One scrape is the same commands in the same order, read by its rules, faults included: fields of INFO by position, and
whatever it cannot read is an error of the scrape.  Modules, clusters and replicas are left out.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from tests.e2e.wire import Wire

Labels = tuple[tuple[str, str], ...]
Series = dict[tuple[str, Labels], float]

# INFO's field → the metric's name behind redis_; those that have the same name have it once.
_GAUGES: Final = """
    active_defrag_hits defrag_hits
    active_defrag_key_hits defrag_key_hits
    active_defrag_key_misses defrag_key_misses
    active_defrag_misses defrag_misses
    active_defrag_running
    allocator_active allocator_active_bytes
    allocator_allocated allocator_allocated_bytes
    allocator_frag_bytes
    allocator_frag_ratio
    allocator_muzzy allocator_muzzy_bytes
    allocator_resident allocator_resident_bytes
    allocator_rss_bytes
    allocator_rss_ratio
    aof_base_size aof_base_size_bytes
    aof_buffer_length
    aof_current_rewrite_time_sec aof_current_rewrite_duration_sec
    aof_current_size aof_current_size_bytes
    aof_delayed_fsync
    aof_enabled
    aof_last_bgrewrite_status
    aof_last_cow_size aof_last_cow_size_bytes
    aof_last_rewrite_time_sec aof_last_rewrite_duration_sec
    aof_last_write_status
    aof_pending_bio_fsync
    aof_pending_rewrite
    aof_rewrite_buffer_length
    aof_rewrite_in_progress
    aof_rewrite_scheduled
    async_loading
    blocked_clients
    client_biggest_input_buf
    client_longest_output_list
    client_recent_max_input_buffer client_recent_max_input_buffer_bytes
    client_recent_max_output_buffer client_recent_max_output_buffer_bytes
    clients_in_timeout_table
    cluster_stats_messages_received cluster_messages_received_total
    cluster_stats_messages_sent cluster_messages_sent_total
    connected_clients
    connected_slaves
    current_eviction_exceeded_time current_eviction_exceeded_time_ms
    expired_stale_perc expired_stale_percentage
    instantaneous_eventloop_cycles_per_sec
    instantaneous_eventloop_duration_usec
    io_threads_active
    latest_fork_usec latest_fork_seconds
    lazyfree_pending_objects
    lazyfreed_objects
    loading loading_dump_file
    master_repl_offset
    maxclients max_clients
    maxmemory memory_max_bytes
    mem_aof_buffer mem_aof_buffer_bytes
    mem_clients_normal
    mem_clients_slaves
    mem_cluster_links mem_cluster_links_bytes
    mem_fragmentation_bytes
    mem_fragmentation_ratio
    mem_not_counted_for_evict mem_not_counted_for_eviction_bytes
    mem_overhead_db_hashtable_rehashing mem_overhead_db_hashtable_rehashing_bytes
    mem_replication_backlog mem_replication_backlog_bytes
    mem_total_replication_buffers mem_total_replication_buffers_bytes
    migrate_cached_sockets migrate_cached_sockets_total
    module_fork_in_progress
    module_fork_last_cow_size
    number_of_cached_scripts
    number_of_functions
    number_of_libraries
    process_id
    pubsub_channels
    pubsub_clients
    pubsub_patterns
    pubsubshard_channels
    rdb_bgsave_in_progress
    rdb_changes_since_last_save
    rdb_current_bgsave_time_sec rdb_current_bgsave_duration_sec
    rdb_last_bgsave_status
    rdb_last_bgsave_time_sec rdb_last_bgsave_duration_sec
    rdb_last_cow_size rdb_last_cow_size_bytes
    rdb_last_load_keys_expired rdb_last_load_expired_keys
    rdb_last_load_keys_loaded rdb_last_load_loaded_keys
    rdb_last_save_time rdb_last_save_timestamp_seconds
    rdb_saves rdb_saves_total
    repl_backlog_active repl_backlog_is_active
    repl_backlog_first_byte_offset
    repl_backlog_histlen repl_backlog_history_bytes
    repl_backlog_size replication_backlog_bytes
    second_repl_offset
    slave_expires_tracked_keys
    slave_priority
    sync_full replica_resyncs_full
    sync_partial_err replica_partial_resync_denied
    sync_partial_ok replica_partial_resync_accepted
    total_blocking_keys
    total_blocking_keys_on_nokey
    total_watched_keys
    tracking_clients
    tracking_total_items
    tracking_total_keys
    tracking_total_prefixes
    uptime_in_seconds
    used_memory memory_used_bytes
    used_memory_dataset memory_used_dataset_bytes
    used_memory_functions memory_used_functions_bytes
    used_memory_lua memory_used_lua_bytes
    used_memory_overhead memory_used_overhead_bytes
    used_memory_peak memory_used_peak_bytes
    used_memory_rss memory_used_rss_bytes
    used_memory_scripts memory_used_scripts_bytes
    used_memory_scripts_eval memory_used_scripts_eval_bytes
    used_memory_startup memory_used_startup_bytes
    used_memory_vm_eval memory_used_vm_eval_bytes
    used_memory_vm_functions memory_used_vm_functions_bytes
    used_memory_vm_total memory_used_vm_total
    watching_clients
"""
_COUNTERS: Final = """
    acl_access_denied_auth acl_access_denied_auth_total
    acl_access_denied_channel acl_access_denied_channel_total
    acl_access_denied_cmd acl_access_denied_cmd_total
    acl_access_denied_key acl_access_denied_key_total
    client_output_buffer_limit_disconnections client_output_buffer_limit_disconnections_total
    client_query_buffer_limit_disconnections client_query_buffer_limit_disconnections_total
    dump_payload_sanitizations
    eventloop_cycles eventloop_cycles_total
    eventloop_duration_cmd_sum eventloop_duration_cmd_sum_usec_total
    eventloop_duration_sum eventloop_duration_sum_usec_total
    evicted_clients evicted_clients_total
    evicted_keys evicted_keys_total
    evicted_scripts evicted_scripts_total
    expire_cycle_cpu_milliseconds expire_cycle_cpu_time_ms_total
    expired_keys expired_keys_total
    expired_subkeys expired_subkeys_total
    expired_time_cap_reached_count expired_time_cap_reached_total
    io_threaded_reads_processed
    io_threaded_writes_processed
    keyspace_hits keyspace_hits_total
    keyspace_misses keyspace_misses_total
    rejected_connections rejected_connections_total
    reply_buffer_expands reply_buffer_expands_total
    reply_buffer_shrinks reply_buffer_shrinks_total
    total_commands_processed commands_processed_total
    total_connections_received connections_received_total
    total_error_replies
    total_eviction_exceeded_time eviction_exceeded_time_ms_total
    total_net_input_bytes net_input_bytes_total
    total_net_output_bytes net_output_bytes_total
    total_net_repl_input_bytes net_repl_input_bytes_total
    total_net_repl_output_bytes net_repl_output_bytes_total
    total_reads_processed
    total_writes_processed
    unexpected_error_replies
    used_active_time_main_thread active_time_main_thread_seconds_total
    used_cpu_sys cpu_sys_seconds_total
    used_cpu_sys_children cpu_sys_children_seconds_total
    used_cpu_sys_main_thread cpu_sys_main_thread_seconds_total
    used_cpu_user cpu_user_seconds_total
    used_cpu_user_children cpu_user_children_seconds_total
    used_cpu_user_main_thread cpu_user_main_thread_seconds_total
"""


def _fields(table: str) -> dict[str, str]:
    words = [line.split() for line in table.split("\n") if line.strip()]
    return {line[0]: line[-1] for line in words}


GAUGES: Final = {**_fields(_GAUGES), "total_system_memory": "total_system_memory_bytes"}
COUNTERS: Final = _fields(_COUNTERS)
_SECTIONS: Final = (
    *("Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Commandstats", "Latencystats"),
    *("Errorstats", "Cluster", "Keyspace"),
)
_INSTANCE: Final = (
    *("role", "redis_version", "redis_build_id", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id"),
    *("process_id", "master_replid"),
)


@dataclass
class Scrape:
    """What a scrape has found: samples by name and labels, and the types of families."""

    sent: list[tuple[str, ...]] = field(default_factory=list)
    series: Series = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def put(self, kind: str, name: str, value: float, suffix: str = "", **labels: str) -> None:
        name = f"redis_{name}"
        assert self.types.setdefault(name, kind) == kind, name
        key = name + suffix, tuple(sorted(labels.items()))
        assert key not in self.series, f"collected twice: {key}"
        self.series[key] = float(value)


class Exporter:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._scrape = Scrape()
        self._info: dict[str, str] = {}
        self._usec: dict[str, int] = {}
        self._calls: dict[str, int] = {}

    def scrape(self) -> Scrape:
        assert self._run("CLIENT", "SETNAME", "redis_exporter") == b"OK"
        info = self._run("INFO", "ALL").decode()
        config = self._pairs(self._run("CONFIG", "GET", "*"))
        self._config(config)
        self._read_info(info, int(config["databases"]))
        assert self._info["cluster_enabled"] == "0", "or it would go on with CLUSTER INFO"
        for event, time_s, last_ms, _max_ms, *_ in self._run("LATENCY", "LATEST"):
            self._put("gauge", "latency_spike_last", time_s, event_name=event.decode())
            self._put("gauge", "latency_spike_duration_seconds", last_ms / 1e3, event_name=event.decode())
        self._histograms(self._run("LATENCY", "HISTOGRAM"))
        self._slow_log()
        if self._run("COMMAND", "INFO", "COMMANDLOG") != [None]:
            for log in ("slow", "large-request", "large-reply"):
                name = log.replace("-", "_")
                self._put("gauge", f"commandlog_{name}_length", self._run("COMMANDLOG", "LEN", log))
            for name, value in self._pairs(self._run("CONFIG", "GET", "commandlog-*")).items():
                self._put("gauge", name.replace("-", "_"), float(value))
        self._put("gauge", "up", 1)
        return self._scrape

    def _run(self, *words: str) -> Any:
        self._scrape.sent.append(words)
        reply = self._wire.run(*words)
        assert not isinstance(reply, Exception), f"{words}: {reply}"
        return reply

    def _put(self, kind: str, name: str, value: float, suffix: str = "", **labels: str) -> None:
        self._scrape.put(kind, name, value, suffix, **labels)

    @staticmethod
    def _pairs(reply: list[bytes]) -> dict[str, str]:
        words = [word.decode() for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))

    def _config(self, config: dict[str, str]) -> None:
        for setting in ("maxclients", "maxmemory", "io-threads", "repl-backlog-size"):
            self._put("gauge", f"config_{setting.replace('-', '_')}", float(config[setting]))
        words = config["client-output-buffer-limit"].split()
        for name, hard, soft, soft_s in zip(*(words[at::4] for at in range(4)), strict=True):
            limit = "config_client_output_buffer_limit"
            self._put("gauge", f"{limit}_bytes", float(hard), **{"class": name, "limit": "hard"})
            self._put("gauge", f"{limit}_bytes", float(soft), **{"class": name, "limit": "soft"})
            self._put("gauge", f"{limit}_overcome_seconds", float(soft_s), **{"class": name, "limit": "soft"})

    def _read_info(self, info: str, databases: int) -> None:
        section, found = "", set()
        handled = set()
        for line in info.split("\r\n"):
            if line.startswith("# "):
                section = line[2:]
                found.add(section)
            elif ":" in line:
                name, value = line.split(":", 1)
                if section == "Keyspace":
                    handled.add(name)
                    self._database(name, value)
                elif section == "Commandstats":
                    self._command(name, value)
                elif section == "Latencystats":
                    self._percentiles(name, value)
                elif section == "Errorstats":
                    self._put("counter", "errors_total", float(value.split("=")[1]), err=name.split("_", 1)[1])
                else:
                    # Whatever section it is in: a name that is in two of them spoils the scrape.
                    self._info[name] = value
                    self._field(name, value)
        assert found >= set(_SECTIONS), f"sections are missing: {set(_SECTIONS) - found}"
        for number in range(databases):
            if f"db{number}" not in handled:
                self._put("gauge", "db_keys", 0, db=f"db{number}")
                self._put("gauge", "db_keys_expiring", 0, db=f"db{number}")
        self._put("gauge", "instance_info", 1, **{name: self._info.get(name, "") for name in _INSTANCE})

    def _field(self, name: str, value: str) -> None:
        kind = "gauge" if name in GAUGES else "counter"
        metric = GAUGES.get(name) or COUNTERS.get(name)
        if metric is None:
            if name in ("hz", "configured_hz"):
                self._put("gauge", name, float(value))
            return
        if value in ("ok", "true"):
            self._put(kind, metric, 1)
        elif value in ("err", "fail", "false"):
            self._put(kind, metric, 0)
        elif re.fullmatch(r"-?[\d.]+", value):
            self._put(kind, metric, float(value) / (1e6 if name == "latest_fork_usec" else 1))

    def _database(self, name: str, value: str) -> None:
        keys, expires, average_ttl, *more = (part.split("=")[1] for part in value.split(","))
        assert not more, "a fourth field would be taken for cached keys"
        self._put("gauge", "db_keys", float(keys), db=name)
        self._put("gauge", "db_keys_expiring", float(expires), db=name)
        self._put("gauge", "db_avg_ttl_seconds", float(average_ttl) / 1e3, db=name)

    def _command(self, name: str, value: str) -> None:
        command = name.removeprefix("cmdstat_")
        assert command != name, name
        parts = value.split(",")
        calls, usec, _per_call, rejected, failed = (float(part.split("=")[1]) for part in parts[:5])
        self._calls[command], self._usec[command] = int(calls), int(usec)
        self._put("counter", "commands_total", calls, cmd=command)
        self._put("counter", "commands_duration_seconds_total", usec / 1e6, cmd=command)
        self._put("counter", "commands_rejected_calls_total", rejected, cmd=command)
        self._put("counter", "commands_failed_calls_total", failed, cmd=command)

    def _percentiles(self, name: str, value: str) -> None:
        if not name.startswith("latency_percentiles_usec_"):
            return  # passed over, as whatever else is in this section
        command = name.removeprefix("latency_percentiles_usec_")
        assert command in self._usec, "percentiles come behind the command's numbers"
        for part in value.split(","):
            quantile, usec = part.removeprefix("p").split("=")
            self._put("summary", "latency_percentiles_usec", float(usec), cmd=command, quantile=f"{float(quantile):g}")
        self._put("summary", "latency_percentiles_usec", self._calls[command], "_count", cmd=command)
        self._put("summary", "latency_percentiles_usec", self._usec[command], "_sum", cmd=command)

    def _histograms(self, reply: list[Any]) -> None:
        for name, details in zip(reply[::2], reply[1::2], strict=True):
            command = name.decode()
            calls_name, calls, buckets_name, buckets = details
            assert (calls_name, buckets_name) == (b"calls", b"histogram_usec")
            metric = "commands_latencies_usec"
            before = 0
            for usec, count in zip(buckets[::2], buckets[1::2], strict=True):
                assert before < count <= calls
                before = count
                self._put("histogram", metric, count, "_bucket", cmd=command, le=str(usec))
            self._put("histogram", metric, calls, "_bucket", cmd=command, le="+Inf")
            self._put("histogram", metric, calls, "_count", cmd=command)
            total = sum(
                usec for other, usec in self._usec.items() if other.split("|")[0] == command or other == command
            )
            self._put("histogram", metric, total, "_sum", cmd=command)

    def _slow_log(self) -> None:
        self._put("gauge", "slowlog_length", self._run("SLOWLOG", "LEN"))
        entries = self._run("SLOWLOG", "GET", "1")
        last_id, usec = (entries[0][0], entries[0][2]) if entries else (0, 0)
        self._put("gauge", "slowlog_last_id", last_id)
        self._put("gauge", "last_slow_execution_duration_seconds", usec / 1e6)
