"""INFO: a snapshot as text, section by section, with Redis' names.

A field is here only if something feeds it: what Kora does not know or have is left out, and a tool that looks for it
sees that it is missing.  The few constants are facts of a server that has no replicas and writes no files yet.
"""

import os
import platform
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from kora import REDIS_VERSION
from kora.engine.loading import percent_loaded
from kora.engine.snapshot import Snapshot, by_lowest
from kora.observe.histogram import Counts, merged, percentiles
from kora.observe.storage import CACHE, COMMITS, STALLS, divided, kip_metrics
from kora.observe.units import human_bytes

Field: TypeAlias = tuple[str, object]

_OS: Final = " ".join((platform.system(), platform.release(), platform.machine()))
_ARCH_BITS: Final = 8 * struct.calcsize("P")
_EXECUTABLE: Final = os.path.realpath(sys.executable) if sys.executable else ""


def wanted_sections(names: Iterable[str]) -> list[str]:
    """The sections that INFO's arguments ask for, in the order in which they are shown; unknown names ask for none."""
    asked = {name.lower() for name in names} or {"default"}
    if "everything" in asked:
        return list(_SECTIONS)
    if "all" in asked:
        # Not hot keys: redis_exporter reads fields whatever their section, and theirs has a `used_memory` of its own.
        asked |= _SECTIONS.keys() - {"hotkeys"}
    if "default" in asked:
        asked |= _DEFAULT
    return [section for section in _SECTIONS if section in asked]


def render(snapshot: Snapshot, sections: Iterable[str]) -> str:
    """The text of some sections; a snapshot without histograms will do unless `latencystats` is among them."""
    return "\r\n".join(
        f"{_title(section)}\r\n{_lines(_SECTIONS[section](snapshot))}"
        for section in sections
        # What is not there has no section, as in a Redis without modules.
        if section != _STORAGE or snapshot.stored is not None
    )


def fields(snapshot: Snapshot) -> dict[str, object]:
    """The fields that say one thing each, of all sections but those of commands, errors, databases and hot keys."""
    return {name: value for section in _SCALARS for name, value in _SECTIONS[section](snapshot)}


def error_name(prefix: str) -> str:
    """As getSafeInfoString (util.c): what scripts and DEBUG ERROR make up must not look like a line of its own."""
    return prefix.translate(_UNSAFE)


def _title(section: str) -> str:
    return f"# {_TITLES.get(section) or section.capitalize()}"


_STORAGE: Final = "rocksdb"
_TITLES: Final = {"cpu": "CPU", _STORAGE: "RocksDB"}


def _lines(fields: Iterable[Field]) -> str:
    return "".join(f"{name}:{value}\r\n" for name, value in fields)


def _server(snapshot: Snapshot) -> Iterator[Field]:
    yield "redis_version", REDIS_VERSION
    yield "kora_version", snapshot.version
    yield "kernel", snapshot.kernel
    yield "storage_engine", "memory" if snapshot.stored is None else "rocksdb"
    yield "redis_mode", "standalone"
    yield "os", _OS
    yield "arch_bits", _ARCH_BITS
    yield "python_version", platform.python_version()
    yield "process_id", snapshot.pid
    yield "run_id", snapshot.run_id
    yield "tcp_port", snapshot.port
    yield "uptime_in_seconds", snapshot.uptime_s
    yield "uptime_in_days", snapshot.uptime_s // 86_400
    yield "hz", snapshot.hz
    yield "configured_hz", snapshot.hz
    yield "executable", _EXECUTABLE
    yield "config_file", snapshot.config_file


def _clients(snapshot: Snapshot) -> Iterator[Field]:
    yield "connected_clients", snapshot.clients
    yield "maxclients", snapshot.clients_max
    yield "client_recent_max_input_buffer", snapshot.input_buffer_max_bytes
    yield "client_recent_max_output_buffer", snapshot.output_buffer_max_bytes
    yield "blocked_clients", snapshot.clients_blocked
    yield "watching_clients", snapshot.clients_watching
    yield "total_blocking_keys", snapshot.blocking_keys
    yield "tracking_clients", snapshot.tracking_clients


def _memory(snapshot: Snapshot) -> Iterator[Field]:
    used, peak, rss = snapshot.memory_bytes, snapshot.memory_peak_bytes, snapshot.rss_bytes
    yield "used_memory", used
    yield "used_memory_human", human_bytes(used)
    yield "used_memory_rss", rss
    yield "used_memory_rss_human", human_bytes(rss)
    yield "used_memory_peak", peak
    yield "used_memory_peak_human", human_bytes(peak)
    yield "used_memory_peak_perc", f"{100 * used / peak if peak else 0:.2f}%"
    yield "total_system_memory", snapshot.system_memory_bytes
    yield "total_system_memory_human", human_bytes(snapshot.system_memory_bytes)
    yield "maxmemory", snapshot.maxmemory
    yield "maxmemory_human", human_bytes(snapshot.maxmemory)
    yield "maxmemory_policy", snapshot.maxmemory_policy
    # What the process takes beyond the data: its code is part of that, so that without data it says nothing.
    yield "mem_fragmentation_ratio", f"{rss / used if used else 0:.2f}"
    yield "mem_fragmentation_bytes", rss - used
    yield "mem_clients_normal", snapshot.clients_memory_bytes
    yield "lazyfree_pending_objects", snapshot.lazyfree_pending


def _persistence(snapshot: Snapshot) -> Iterator[Field]:
    yield "loading", int(bool(snapshot.loading))
    yield "async_loading", 0
    changes, is_running, last_s, is_ok, elapsed_s, running_s, count, processed, total, buffered = snapshot.saves
    yield "current_cow_size", buffered
    yield "current_save_keys_processed", processed
    yield "current_save_keys_total", total
    yield "rdb_changes_since_last_save", changes
    yield "rdb_bgsave_in_progress", is_running
    yield "rdb_last_save_time", last_s
    yield "rdb_last_bgsave_status", "ok" if is_ok else "err"
    yield "rdb_last_bgsave_time_sec", elapsed_s
    yield "rdb_current_bgsave_time_sec", running_s
    yield "rdb_saves", count
    yield "rdb_last_load_keys_expired", snapshot.loaded[1]
    yield "rdb_last_load_keys_loaded", snapshot.loaded[0]
    yield from _journal(snapshot)
    if snapshot.loading:
        started_s, total_bytes, loaded_bytes, eta_s, used_memory_bytes = snapshot.loading
        yield "loading_start_time", started_s
        yield "loading_total_bytes", total_bytes
        yield "loading_rdb_used_mem", used_memory_bytes
        yield "loading_loaded_bytes", loaded_bytes
        yield "loading_loaded_perc", f"{percent_loaded(total_bytes, loaded_bytes):.2f}"
        yield "loading_eta_seconds", eta_s


# Those of the journal that are no numbers in INFO.
_WELL: Final = frozenset(("last_bgrewrite_status", "last_write_status"))


def _journal(snapshot: Snapshot) -> Iterator[Field]:
    if not snapshot.journal:
        yield "aof_enabled", 0
        yield "aof_rewrite_in_progress", 0
    for name, number in snapshot.journal.items():
        yield f"aof_{name}", ("ok" if number else "err") if name in _WELL else number


def _stats(snapshot: Snapshot) -> Iterator[Field]:
    yield "total_connections_received", snapshot.connections_received
    yield "total_commands_processed", snapshot.commands_processed
    yield "instantaneous_ops_per_sec", snapshot.commands_rate
    yield "total_net_input_bytes", snapshot.bytes_in
    yield "total_net_output_bytes", snapshot.bytes_out
    yield "instantaneous_input_kbps", f"{snapshot.bytes_in_rate / 1024:.2f}"
    yield "instantaneous_output_kbps", f"{snapshot.bytes_out_rate / 1024:.2f}"
    yield "rejected_connections", snapshot.connections_rejected
    yield "expired_keys", snapshot.expired
    yield "evicted_keys", snapshot.evicted
    yield "evicted_clients", snapshot.clients_evicted
    yield "keyspace_hits", snapshot.hits
    yield "keyspace_misses", snapshot.misses
    yield "pubsub_channels", snapshot.pubsub_channels
    yield "pubsub_patterns", snapshot.pubsub_patterns
    yield "pubsubshard_channels", snapshot.pubsub_shard_channels
    yield "total_error_replies", sum(snapshot.errors.values())
    yield "tracking_total_keys", snapshot.tracking_keys
    yield "tracking_total_items", snapshot.tracking_items
    yield "tracking_total_prefixes", snapshot.tracking_prefixes
    yield "acl_access_denied_auth", snapshot.acl_denied.get("auth", 0)
    yield "acl_access_denied_cmd", snapshot.acl_denied.get("command", 0)
    yield "acl_access_denied_key", snapshot.acl_denied.get("key", 0)
    yield "acl_access_denied_channel", snapshot.acl_denied.get("channel", 0)
    yield "protocol_errors", snapshot.protocol_errors
    yield "internal_errors", snapshot.internal_errors
    yield "eventloop_turn_max_usec", snapshot.turn_max_ns // 1_000
    yield "eventloop_lag_usec", snapshot.lag_ns // 1_000
    yield "eventloop_lag_max_usec", snapshot.lag_max_ns // 1_000
    yield "reads_processed", snapshot.reads
    yield "reads_waited_usec", snapshot.suffered_ns // 1_000
    yield "reads_waited_min_usec", snapshot.suffered_ns_min // 1_000
    yield "reads_waited_max_usec", snapshot.suffered_ns_max // 1_000


def _events(snapshot: Snapshot) -> Iterator[Field]:
    for name, number in snapshot.tracked.items():
        if name == "flush_ns":
            yield "events_flush_usec", number // 1_000
        else:
            yield f"events_{name}", number


def _replication(snapshot: Snapshot) -> Iterator[Field]:
    yield "role", "master"
    yield "connected_slaves", 0
    yield "master_repl_offset", 0


def _cpu(snapshot: Snapshot) -> Iterator[Field]:
    yield "used_cpu_sys", f"{snapshot.cpu_system_ns / 1e9:.6f}"
    yield "used_cpu_user", f"{snapshot.cpu_user_ns / 1e9:.6f}"
    yield "used_cpu_sys_main_thread", f"{snapshot.main_cpu_system_ns / 1e9:.6f}"
    yield "used_cpu_user_main_thread", f"{snapshot.main_cpu_user_ns / 1e9:.6f}"


def _commandstats(snapshot: Snapshot) -> Iterator[Field]:
    for name, row in zip(snapshot.slot_names, snapshot.totals.commands, strict=True):
        if row.is_used:
            per_call = row.elapsed_ns / row.calls / 1_000 if row.calls else 0
            times = f"calls={row.calls},usec={row.elapsed_ns // 1_000},usec_per_call={per_call:.2f}"
            yield f"cmdstat_{name}", f"{times},rejected_calls={row.rejected},failed_calls={row.failed}"


def _errorstats(snapshot: Snapshot) -> Iterator[Field]:
    for prefix, count in sorted(snapshot.errors.items()):
        yield f"errorstat_{error_name(prefix)}", f"count={count}"


def _latencystats(snapshot: Snapshot) -> Iterator[Field]:
    words = snapshot.latency_percentiles.split()
    # Redis 7.0 shows commands with nothing behind them where no percentiles are wanted, which tools cannot read.
    if not words or not snapshot.latency_tracking:
        return
    for name, row in zip(snapshot.slot_names, snapshot.total.commands, strict=True):
        if row.calls:
            yield f"latency_percentiles_usec_{name}", _percentiles(row.counts, words)
    for kind, rows in (("wait", snapshot.waits), ("service", snapshot.services)):
        for slot, (_, _, counts) in rows.items():
            yield f"{kind}_percentiles_usec_{snapshot.slot_names[slot]}", _percentiles(merged([counts]), words)


def _percentiles(counts: Counts, words: Sequence[str]) -> str:
    wanted = sorted({float(word) for word in words})
    values = dict(zip(wanted, percentiles(counts, wanted), strict=True))
    return ",".join(f"p{word}={values[float(word)] / 1_000:.3f}" for word in words)


def _cluster(snapshot: Snapshot) -> Iterator[Field]:
    yield "cluster_enabled", 0


def _keyspace(snapshot: Snapshot) -> Iterator[Field]:
    for index, (keys, volatile, average_ttl_ms) in snapshot.databases.items():
        yield f"db{index}", f"keys={keys},expires={volatile},avg_ttl={average_ttl_ms}"


def _keysizes(snapshot: Snapshot) -> Iterator[Field]:
    # As Redis 8, which has no line for kinds that are not named here.
    for index, lengths in snapshot.lengths.items():
        for kind, name in _DISTRIBUTIONS.items():
            bins = ",".join(f"{_short(lowest)}={keys}" for lowest, keys in by_lowest(lengths.get(kind, ())))
            if bins:
                yield f"db{index}_distrib_{name}", bins


_DISTRIBUTIONS: Final = {
    "string": "strings_sizes",
    "list": "lists_items",
    "set": "sets_items",
    "zset": "zsets_items",
    "hash": "hashes_items",
}


def _short(number: int) -> str:
    """A power of two: 512, 1K, 2M."""
    unit = (number.bit_length() - 1) // 10 if number else 0
    return f"{number >> 10 * unit}{' KMGTPE'[unit].strip()}"


_UNSAFE: Final = str.maketrans("#:\r\n", "____")


def _hotkeys(snapshot: Snapshot) -> Iterator[Field]:
    yield "tracking_active", int(snapshot.hotkey_session)
    yield "used_memory", snapshot.hotkeys_bytes
    yield "cpu_time", snapshot.hotkeys_ns // 1_000
    yield "sampling_ratio", snapshot.hotkey_sampling_ratio
    yield "hottest_key_accesses_per_sec", snapshot.hottest_rate


def _storage(snapshot: Snapshot) -> Iterator[Field]:
    """What Kora counts itself, then the metrics of KIP-471 and KIP-607 by their own names."""
    storage = snapshot.stored
    if storage is None:
        return
    reading = storage.reading
    yield "storage_metrics_level", storage.level
    for row in CACHE + COMMITS:
        if row.name in storage.counted:
            yield row.name, storage.counted[row.name]
    hits, misses = storage.counted.get("hits", 0), storage.counted.get("misses", 0)
    if (share := divided(hits, hits + misses)) is not None:
        yield "hit_ratio", f"{share:.4f}"
    yield "collection_usec", storage.read_ns // 1_000
    for level, (files, size_bytes) in enumerate(reading.levels):
        yield f"level{level}", f"files={files},bytes={size_bytes}"
    for name, cause, kind in STALLS:
        yield f"stalls_{cause}_{kind}".replace("-", "_"), reading.stalls.get(name, 0)
    for cause, stalled_us in reading.stall_us.items():
        yield f"stalled_usec_{cause}".replace("-", "_"), stalled_us
    for name in ("write_amplification", "read_amplification", "space_amplification"):
        if (value := getattr(storage, name)) is not None:
            yield name, f"{value:.2f}"
    for name, number in kip_metrics(storage):
        yield name, number if isinstance(number, int) else f"{number:.4f}"


# In the order in which they are shown.
_SECTIONS: Final[dict[str, Callable[[Snapshot], Iterator[Field]]]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "commandstats": _commandstats,
    "errorstats": _errorstats,
    "latencystats": _latencystats,
    "cluster": _cluster,
    "keyspace": _keyspace,
    "keysizes": _keysizes,
    "events": _events,
    "hotkeys": _hotkeys,
    _STORAGE: _storage,
}
_SCALARS: Final = tuple(
    section
    for section in _SECTIONS
    if section not in ("commandstats", "errorstats", "latencystats", "keyspace", "keysizes", "hotkeys", _STORAGE)
)
# What INFO shows unasked: all but the two that grow with the number of commands, and those that Redis 7 does not have:
# there are tools that take any name which begins with `db0` for a database.
_DEFAULT: Final = frozenset(_SECTIONS) - {"commandstats", "latencystats", "keysizes", "hotkeys", "events"}
