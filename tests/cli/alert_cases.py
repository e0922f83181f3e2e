"""For each alert what fires it, and what ends it: series a minute apart, in promtool's notation.

`12x5` is 12 and five more of it, `0+60x5` grows by 60 each minute, `_x5` is nothing.  Two times follow, in minutes: at
the first the alert fires, at the second it no longer does.
"""

from typing import Final

INSTANCE: Final = 'instance="a"'


def _one(name: str, values: str, labels: str = "") -> tuple[str, str]:
    return f"{name}{{{INSTANCE}{',' if labels else ''}{labels}}}", values


def _late(values: str, all_values: str) -> list[tuple[str, str]]:
    """Commands that were in time, and all."""
    return [
        _one("kora_command_duration_seconds_bucket", values, 'cmd="get",le="0.01"'),
        _one("kora_command_duration_seconds_count", all_values, 'cmd="get"'),
    ]


def _quantile(name: str, quick: str, slow: str, quick_le: str, slow_le: str, labels: str = "") -> list[tuple[str, str]]:
    labels = f"{labels}{',' if labels else ''}"
    return [
        _one(name, quick, f'{labels}le="{quick_le}"'),
        _one(name, slow, f'{labels}le="{slow_le}"'),
        _one(name, slow, f'{labels}le="+Inf"'),
    ]


_STORE: Final = 'store="data"'

Case = tuple[list[tuple[str, str]], int, int]

CASES: Final[dict[str, Case]] = {
    "KoraDown": ([_one("up", "1 0x5 1x5", 'job="kora"')], 4, 8),
    "KoraScrapeGone": ([_one("kora_build_info", "1 _x15 1x10")], 14, 19),
    "KoraNotAnswering": ([_one("redis_up", "1 0x5 1x5")], 4, 8),
    "KoraRestarting": ([_one("kora_process_start_time_seconds", "1 1 2 2 3 3x60")], 10, 50),
    "KoraSidecarRestarting": ([_one("kora_sidecar_restarts_total", "0 1 2 3 4 5x40")], 8, 40),
    "KoraCpuSaturated": (
        [
            _one("redis_cpu_user_main_thread_seconds_total", "0+50x20 1000x20"),
            _one("redis_cpu_sys_main_thread_seconds_total", "0+8x20 160x20"),
        ],
        18,
        35,
    ),
    "KoraLoopLagHigh": (
        _quantile("kora_loop_lag_seconds_bucket", "0+10x60", "0+1000x20 20000+10x40", "0.0025", "0.1"),
        18,
        50,
    ),
    "KoraConnectionsNearLimit": (
        [_one("kora_connected_clients", "90x10 10x10"), _one("kora_clients_max", "100x20")],
        8,
        14,
    ),
    "KoraConnectionsRejected": ([_one("kora_connections_rejected_total", "0 0 3 3x20")], 4, 15),
    "KoraConnectionStorm": ([_one("kora_connections_received_total", "0+60000x10 600000x10")], 8, 15),
    "KoraFreeingBehind": ([_one("kora_lazyfree_pending_keys", "200000+1000x30 100x20")], 25, 45),
    "KoraErrorRateHigh": ([_one("kora_command_errors_total", "0+1200x15 18000x15", 'cmd="get",kind="failed"')], 12, 28),
    "KoraErrorRatioHigh": (
        [
            _one("kora_command_errors_total", "0+100x15 1500x15", 'cmd="get",kind="failed"'),
            _one("kora_commands_total", "0+1000x30", 'cmd="get"'),
        ],
        12,
        28,
    ),
    "KoraInternalErrors": ([_one("kora_internal_errors_total", "0 0 1 1x30")], 4, 25),
    "KoraAuthFailures": ([_one("redis_acl_access_denied_auth_total", "0+120x15 1800x15")], 12, 28),
    # Two in a hundred are late for 15 minutes, or one for 40; then none.
    "KoraLatencyBudgetBurnsFast": (_late("0+980x15 14700+1000x20", "0+1000x35"), 12, 25),
    "KoraLatencyBudgetBurnsSlowly": (_late("0+990x40 39600+1000x40", "0+1000x80"), 35, 75),
    "KoraWriteLatencyHigh": (
        _quantile(
            "kora_command_duration_seconds_bucket", "0+10x60", "0+1000x20 20000+10x40", "0.1", "0.5", 'cmd="set"'
        ),
        18,
        50,
    ),
    "KoraSlowCommands": ([_one("kora_commandlog_recorded_total", "0+120x15 1800x15", 'log="slow"')], 12, 28),
    "KoraLatencySpikes": ([_one("kora_latency_spikes_total", "0+5x15 75x20", 'event="gc"')], 12, 30),
    "KoraMemoryNearLimit": (
        [_one("kora_memory_used_bytes", "95x10 50x10"), _one("kora_maxmemory_bytes", "100x20")],
        8,
        14,
    ),
    "KoraMachineMemoryLow": (
        [_one("kora_process_resident_memory_bytes", "95x10 50x10"), _one("redis_total_system_memory_bytes", "100x20")],
        8,
        14,
    ),
    "KoraOutOfMemory": ([_one("kora_errors_total", "0 0 3 3x20", 'prefix="OOM"')], 4, 15),
    "KoraEvicting": ([_one("kora_evicted_keys_total", "0+12000x20 240000x20")], 18, 35),
    "KoraClientsMemoryHigh": (
        [_one("kora_clients_memory_bytes", "20x10 1x10"), _one("redis_total_system_memory_bytes", "100x20")],
        8,
        14,
    ),
    "KoraHitRatioLow": (
        [_one("kora_keyspace_hits_total", "0+60x70"), _one("kora_keyspace_misses_total", "0+12000x40 480000x30")],
        35,
        65,
    ),
    "KoraHotKey": (
        [
            _one("kora_hottest_key_accesses_per_second", "9000x15 10x10"),
            _one("kora_commands_total", "0+1200000x25", 'cmd="get"'),
        ],
        12,
        20,
    ),
    "KoraSaveFailing": ([_one("redis_rdb_last_bgsave_status", "1 0x5 1x5")], 4, 8),
    "KoraSaveOld": (
        [
            _one("redis_rdb_last_save_timestamp_seconds", "-90000x70 4200x10"),
            _one("redis_rdb_changes_since_last_save", "5x80"),
        ],
        65,
        75,
    ),
    "KoraJournalFailing": ([_one("redis_aof_last_write_status", "1 0x5 1x5")], 4, 8),
    "KoraJournalRewriteFailing": ([_one("redis_aof_last_bgrewrite_status", "1 0x9 1x5")], 8, 12),
    "KoraDiskSlow": ([_one("redis_aof_delayed_fsync", "0 2 4 8 10 12 12x30")], 8, 30),
    "KoraWritesRefused": ([_one("kora_errors_total", "0 0 3 3x20", 'prefix="MISCONF"')], 4, 15),
    "KoraAuditNotWritten": ([_one("kora_audit_healthy", "1 1 0x5 1x5")], 4, 8),
    "KoraAuditRecordsMissing": ([_one("kora_audit_missing_total", "0 0 3 3x20")], 4, 15),
    "KoraAuditChanged": ([_one("kora_audit_chain_valid", "1 1 0x5 1x5")], 3, 8),
    "KoraCertificateExpires": ([_one("kora_tls_certificate_expiry_timestamp_seconds", "100000x65 9000000x10")], 62, 70),
    "KoraMonitorLeftOn": ([_one("kora_monitors", "1x20 0x5")], 18, 23),
    "KoraObservationOff": ([_one("kora_observation_enabled", "0x65 1x10")], 62, 70),
    "KoraStorageErrors": (
        [
            _one("kora_storage_file_errors_total", "0 0 1 1x30", _STORE),
            _one("kora_storage_background_errors_total", "0x40", _STORE),
        ],
        4,
        25,
    ),
    "KoraStorageNotWriting": ([_one("kora_storage_commit_errors_total", "0 1 2 3 4 5 5x20", _STORE)], 5, 15),
    "KoraStorageStalled": (
        [_one("kora_storage_write_stall_seconds_total", "0+6x20 120x20", f'{_STORE},cause="memtables"')],
        15,
        35,
    ),
    "KoraStorageStopped": ([_one("kora_storage_writes_stopped", "1x5 0x10", _STORE)], 3, 10),
    "KoraStorageCompactionBehind": (
        [
            _one("kora_storage_pending_compaction_bytes", "3e9x20 1e8x20", _STORE),
            _one("kora_storage_live_file_bytes", "4e9x40", _STORE),
        ],
        18,
        35,
    ),
    "KoraStorageCacheSmall": (
        [
            _one("kora_storage_cache_cold_fetches_total", "0+12000x40 480000x30", _STORE),
            _one("kora_storage_cache_dropped_total", "0+12000x40 480000x30", _STORE),
            _one("kora_storage_cache_hits_total", "0+12000x70", _STORE),
        ],
        35,
        65,
    ),
}
