"""The alerts that `kora export alerts` prints: one row each, and Prometheus' rule file made of them.

A row's expression names families of METRICS only, so that an alert cannot wait for something that is never counted.
Rates are over 5 minutes, which is 20 scrapes of the configuration that `kora export prometheus` prints.
"""

import json
from dataclasses import dataclass
from typing import Final

# What the alerts about latency hold the server to: of all commands, this part within 10 ms.
OBJECTIVE: Final = 0.999
_LATE: Final = (
    '1 - sum by (instance) (rate(kora_command_duration_seconds_bucket{{le="0.01"}}[{window}]))'
    " / sum by (instance) (rate(kora_command_duration_seconds_count[{window}]))"
)


def _burns(times: float, *windows: str) -> str:
    """More than the objective allows, so many times over, in each window (SRE workbook, multiwindow burn rates)."""
    return " and ".join(f"({_LATE.format(window=window)}) > {times * (1 - OBJECTIVE):g}" for window in windows)


@dataclass(frozen=True)
class Alert:
    name: str
    severity: str  # critical: somebody has to get up; warning: somebody has to look
    expression: str
    lasting: str  # for how long it has to be so; "" for at once
    summary: str
    what_to_do: str


# fmt: off
ALERTS: Final[tuple[Alert, ...]] = (
    # Whether it is there at all.
    Alert("KoraDown", "critical", 'up{job=~"kora|redis"} == 0', "1m",
          "{{ $labels.instance }} cannot be scraped",
          "The sidecar does not answer: look whether the server runs, and at its log."),
    Alert("KoraScrapeGone", "critical", "absent(kora_build_info)", "5m",
          "No Kora is scraped at all",
          "Look at Prometheus' targets: the job is gone, or none of its servers runs."),
    Alert("KoraNotAnswering", "critical", "redis_up == 0", "30s",
          "The data loop of {{ $labels.instance }} is stuck",
          "/health says with which command and whose. CLIENT KILL cannot be run by a stuck loop; waiting can."),
    Alert("KoraRestarting", "warning", "changes(kora_process_start_time_seconds[30m]) > 1", "",
          "{{ $labels.instance }} was restarted {{ $value }} times within 30 minutes",
          "Look at its log, and at the kernel's for the out-of-memory killer."),
    Alert("KoraSidecarRestarting", "warning", "increase(kora_sidecar_restarts_total[15m]) > 2", "",
          "The sidecar of {{ $labels.instance }} dies again and again",
          "The server's log says `sidecar died`, and before that why."),

    # Saturation.
    Alert("KoraCpuSaturated", "warning",
          "sum by (instance) (rate(redis_cpu_user_main_thread_seconds_total[5m])"
          " + rate(redis_cpu_sys_main_thread_seconds_total[5m])) > 0.9", "10m",
          "The data thread of {{ $labels.instance }} uses its processor at {{ $value | humanizePercentage }}",
          "INFO commandstats says which commands take the time: spread the load, or ask for less at once."),
    Alert("KoraLoopLagHigh", "warning",
          "histogram_quantile(0.99, sum by (instance, le) (rate(kora_loop_lag_seconds_bucket[5m]))) > 0.05", "10m",
          "Everybody waits {{ $value | humanizeDuration }} at {{ $labels.instance }} (99th percentile)",
          "LATENCY DOCTOR names what holds the loop."),
    Alert("KoraConnectionsNearLimit", "warning", "kora_connected_clients / kora_clients_max > 0.8", "5m",
          "{{ $value | humanizePercentage }} of maxclients are connected to {{ $labels.instance }}",
          "CLIENT LIST shows whose they are; raise maxclients, or have clients share connections."),
    Alert("KoraConnectionsRejected", "critical", "increase(kora_connections_rejected_total[5m]) > 0", "",
          "{{ $labels.instance }} turns clients away",
          "maxclients is reached, or protected-mode keeps strangers out."),
    Alert("KoraConnectionStorm", "warning", "rate(kora_connections_received_total[1m]) > 500", "2m",
          "{{ $value | humanize }} connections per second to {{ $labels.instance }}",
          "Clients connect for every request, or fail and try again without a pause."),
    Alert("KoraFreeingBehind", "warning",
          "kora_lazyfree_pending_keys > 100000 and deriv(kora_lazyfree_pending_keys[10m]) > 0", "10m",
          "{{ $labels.instance }} unlinks faster than it frees", "Memory stays in use: unlink less at once."),

    # Errors.
    Alert("KoraErrorRateHigh", "critical", "sum by (instance) (rate(kora_command_errors_total[5m])) > 10", "5m",
          "{{ $value | humanize }} error replies per second at {{ $labels.instance }}",
          "kora_errors_total says which errors, kora_command_errors_total of which commands."),
    Alert("KoraErrorRatioHigh", "warning",
          "sum by (instance) (rate(kora_command_errors_total[5m]))"
          " / sum by (instance) (rate(kora_commands_total[5m])) > 0.05", "5m",
          "{{ $value | humanizePercentage }} of the commands at {{ $labels.instance }} fail",
          "kora_errors_total says which errors, kora_command_errors_total of which commands."),
    Alert("KoraInternalErrors", "warning", "increase(kora_internal_errors_total[10m]) > 0", "",
          "A command ended in a bug of {{ $labels.instance }}", "Its log has the traceback: please report it."),
    Alert("KoraAuthFailures", "warning", "rate(redis_acl_access_denied_auth_total[5m]) > 1", "5m",
          "{{ $value | humanize }} failed logins per second at {{ $labels.instance }}",
          "ACL LOG says from where: a client with an old password, or somebody who guesses."),

    # Latency.
    Alert("KoraLatencyBudgetBurnsFast", "critical", _burns(14.4, "5m", "1h"), "2m",
          "{{ $labels.instance }} answers {{ $value | humanizePercentage }} of its commands later than in 10 ms",
          "A month's allowance is gone in two days at this rate. LATENCY DOCTOR names who does it."),
    Alert("KoraLatencyBudgetBurnsSlowly", "warning", _burns(6, "30m", "6h"), "15m",
          "{{ $labels.instance }} answers {{ $value | humanizePercentage }} of its commands later than in 10 ms",
          "A month's allowance is gone in five days at this rate. LATENCY DOCTOR names who does it."),
    Alert("KoraWriteLatencyHigh", "warning",
          "histogram_quantile(0.99, sum by (instance, le)"
          ' (rate(kora_command_duration_seconds_bucket{cmd=~"set|mset|hset|lpush|rpush|sadd|zadd|xadd|incr|del"}[5m])))'
          " > 0.1", "10m",
          "Writes take {{ $value | humanizeDuration }} at {{ $labels.instance }} (99th percentile)",
          "Look at large values, at the journal's disk, and at what else runs in the loop: LATENCY LATEST."),
    Alert("KoraSlowCommands", "warning", 'rate(kora_commandlog_recorded_total{log="slow"}[5m]) > 1', "5m",
          "{{ $value | humanize }} slow commands per second at {{ $labels.instance }}",
          "SLOWLOG GET shows which, and whose."),
    Alert("KoraLatencySpikes", "warning",
          "sum by (instance)"
          ' (increase(kora_latency_spikes_total{event!~"command|fast-command|storage-.*"}[5m])) > 10', "5m",
          "{{ $labels.instance }} itself makes everybody wait",
          "LATENCY LATEST says what: expiry, eviction, freeing, garbage or the disk."),

    # Memory and eviction.
    Alert("KoraMemoryNearLimit", "warning",
          "kora_memory_used_bytes / kora_maxmemory_bytes > 0.9 and kora_maxmemory_bytes > 0", "5m",
          "The data of {{ $labels.instance }} takes {{ $value | humanizePercentage }} of maxmemory",
          "Raise maxmemory, or expect what maxmemory-policy says."),
    Alert("KoraMachineMemoryLow", "critical",
          "kora_process_resident_memory_bytes / on (instance) redis_total_system_memory_bytes > 0.9", "5m",
          "{{ $labels.instance }} takes {{ $value | humanizePercentage }} of the machine's memory",
          "Set maxmemory below what the machine has, before the kernel ends the server."),
    Alert("KoraOutOfMemory", "critical", 'increase(kora_errors_total{prefix="OOM"}[5m]) > 0', "",
          "{{ $labels.instance }} refuses writes: it is at maxmemory",
          "Raise maxmemory, delete keys, or choose a maxmemory-policy that does."),
    Alert("KoraEvicting", "warning", "rate(kora_evicted_keys_total[5m]) > 100", "10m",
          "{{ $labels.instance }} evicts {{ $value | humanize }} keys per second",
          "If this is not meant as a cache, data is being lost: raise maxmemory."),
    Alert("KoraClientsMemoryHigh", "warning",
          "kora_clients_memory_bytes / on (instance) redis_total_system_memory_bytes > 0.1", "5m",
          "Connections take {{ $value | humanizePercentage }} of the memory of {{ $labels.instance }}'s machine",
          "CLIENT LIST, tot-mem: somebody does not read its replies. maxmemory-clients sets a limit."),
    Alert("KoraHitRatioLow", "warning",
          "rate(kora_keyspace_hits_total[15m]) / (rate(kora_keyspace_hits_total[15m])"
          " + rate(kora_keyspace_misses_total[15m])) < 0.5 and rate(kora_keyspace_misses_total[15m]) > 100", "15m",
          "Only {{ $value | humanizePercentage }} of the look-ups at {{ $labels.instance }} find a key",
          "A cache that is too small, keys that end too early, or clients that ask for what never was."),

    # Keys.
    Alert("KoraHotKey", "warning",
          "kora_hottest_key_accesses_per_second > 5000 and on (instance)"
          " kora_hottest_key_accesses_per_second / on (instance)"
          " sum by (instance) (rate(kora_commands_total[1m])) > 0.25", "5m",
          "One key takes a quarter of the commands of {{ $labels.instance }}",
          "HOTKEYS TOP 1 names it: cache it in the clients, or split it."),

    # Files.
    Alert("KoraSaveFailing", "critical", "redis_rdb_last_bgsave_status == 0", "1m",
          "{{ $labels.instance }} cannot write its snapshot", "Its log says why: most often the disk is full."),
    Alert("KoraSaveOld", "warning",
          "time() - redis_rdb_last_save_timestamp_seconds > 86400 and redis_rdb_changes_since_last_save > 0", "1h",
          "The last snapshot of {{ $labels.instance }} is {{ $value | humanizeDuration }} old",
          "Without a journal, this much would be lost: look at the setting save, or run BGSAVE."),
    Alert("KoraJournalFailing", "critical", "redis_aof_last_write_status == 0", "1m",
          "{{ $labels.instance }} cannot write its journal",
          "Writes are refused or may be lost: its log says why, most often the disk is full."),
    Alert("KoraJournalRewriteFailing", "warning", "redis_aof_last_bgrewrite_status == 0", "5m",
          "{{ $labels.instance }} cannot rewrite its journal", "It grows until it can: its log says why."),
    Alert("KoraDiskSlow", "warning", "delta(redis_aof_delayed_fsync[10m]) > 5", "",
          "The disk of {{ $labels.instance }} does not keep up with its journal",
          "Who else uses the disk? appendfsync no would lose more at a crash of the machine."),
    Alert("KoraWritesRefused", "critical", 'increase(kora_errors_total{prefix="MISCONF"}[5m]) > 0', "",
          "{{ $labels.instance }} refuses writes, since it cannot save them",
          "Free the disk; stop-writes-on-bgsave-error no would accept writes that are not saved."),

    # RocksDB, where the data is in it.
    Alert("KoraStorageErrors", "critical",
          "increase(kora_storage_background_errors_total[10m]) > 0 or increase(kora_storage_file_errors_total[10m]) > 0"
          " or increase(kora_storage_corruptions_total[10m]) > 0", "",
          "RocksDB of {{ $labels.instance }} cannot read or write its files",
          "DOCTOR and the server's log say which: a full disk, a failing one, or a file that is corrupt."),
    Alert("KoraStorageNotWriting", "critical", "increase(kora_storage_commit_errors_total[2m]) > 0", "1m",
          "{{ $labels.instance }} cannot write what has changed to RocksDB",
          "Changes are kept in memory, and writes are refused: its log says why, most often the disk is full."),
    Alert("KoraStorageStalled", "warning",
          "sum by (instance) (rate(kora_storage_write_stall_seconds_total[5m])) > 0.05", "5m",
          "RocksDB of {{ $labels.instance }} holds up writes for {{ $value | humanizePercentage }} of the time",
          "kora_storage_write_stalls_total says why: more memory for what is written, a faster disk, or fewer writes."),
    Alert("KoraStorageStopped", "critical", "kora_storage_writes_stopped > 0", "1m",
          "RocksDB of {{ $labels.instance }} takes no writes in {{ $value }} shards",
          "Flushes or compactions do not end: look at the disk, and at RocksDB's own log."),
    Alert("KoraStorageCompactionBehind", "warning",
          "kora_storage_pending_compaction_bytes > 1e9"
          " and kora_storage_pending_compaction_bytes > 0.5 * kora_storage_live_file_bytes", "15m",
          "RocksDB of {{ $labels.instance }} has {{ $value | humanize1024 }}B to compact",
          "Reads get slower, and writes will be held up: write less, or give it a faster disk or more processors."),
    Alert("KoraStorageCacheSmall", "warning",
          "rate(kora_storage_cache_cold_fetches_total[10m]) > 100 and rate(kora_storage_cache_dropped_total[10m]) > 50"
          " and rate(kora_storage_cache_cold_fetches_total[10m]) / (rate(kora_storage_cache_cold_fetches_total[10m])"
          " + rate(kora_storage_cache_hits_total[10m])) > 0.2", "15m",
          "A fifth of the keys that are used at {{ $labels.instance }} have to be fetched from RocksDB",
          "CONFIG SET rocksdb-cache-bytes gives more memory to keys and values."),

    # The audit log.
    Alert("KoraAuditNotWritten", "critical", "kora_audit_healthy == 0", "1m",
          "{{ $labels.instance }} cannot write its audit log",
          "AUDIT STATUS says why; with audit-on-full block, clients wait once the queue is full."),
    Alert("KoraAuditRecordsMissing", "critical", "increase(kora_audit_missing_total[10m]) > 0", "",
          "{{ $value }} records of the audit log of {{ $labels.instance }} are missing",
          "More was recorded than could be written, or a process was killed: the log says when. Record less, or raise "
          "audit-queue-size."),
    Alert("KoraAuditChanged", "critical", "kora_audit_chain_valid == 0", "",
          "The audit log of {{ $labels.instance }} is not as it was written",
          "AUDIT VERIFY names the first record that was changed, taken out or moved: keep a copy, and see who did it."),

    # What is easily forgotten.
    Alert("KoraCertificateExpires", "warning",
          "kora_tls_certificate_expiry_timestamp_seconds - time() < 14 * 86400", "1h",
          "The certificate of {{ $labels.instance }} ends in {{ $value | humanizeDuration }}",
          "Replace tls-cert-file and restart."),
    Alert("KoraMonitorLeftOn", "warning", "kora_monitors > 0", "15m",
          "Somebody has left MONITOR running at {{ $labels.instance }}",
          "It slows everybody down: CLIENT LIST shows who, CLIENT KILL ends it."),
    Alert("KoraObservationOff", "warning", "kora_observation_enabled == 0", "1h",
          "{{ $labels.instance }} counts and times no commands",
          "Most alerts here are blind: CONFIG SET observation yes."),
)
# fmt: on


def rule_file() -> str:
    """Rules as YAML, of which JSON's strings are a part."""
    lines = ["groups:", "  - name: kora", "    rules:"]
    for alert in ALERTS:
        lines.append(f"      - alert: {alert.name}")
        lines.append(f"        expr: {json.dumps(alert.expression)}")
        if alert.lasting:
            lines.append(f"        for: {alert.lasting}")
        lines.append("        labels:")
        lines.append(f"          severity: {alert.severity}")
        lines.append("        annotations:")
        lines.append(f"          summary: {json.dumps(alert.summary)}")
        lines.append(f"          description: {json.dumps(alert.what_to_do)}")
    return "\n".join(lines) + "\n"
