"""What DOCTOR's rules look at (observe/doctor.py), gathered from an engine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kora.engine.slowness import LARGE_REPLY, LARGE_REQUEST, SLOW, first_key
from kora.engine.snapshot import take
from kora.errors import CommandError
from kora.observe.commandlog import Entry
from kora.observe.doctor import Facts, HotKeyFact, Reader, RunningScript, SlowRequest
from kora.observe.hot_windows import Ranking
from kora.observe.recent import Counts
from kora.observe.shard_stats import COUNTERS
from kora.observe.spikes import NOBODY, Offender
from kora.observe.storage import Storage

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

# Settings that findings depend on.
_SETTINGS: Final = (
    "appendfsync",
    "latency-monitor-threshold",
    "lazyfree-lazy-user-flush",
    "maxmemory-policy",
    "no-appendfsync-on-rewrite",
    "observation",
    "rocksdb-large-value-bytes",
)
_HOT_KEYS: Final = 3
_CULPRITS: Final = 16


def counts(engine: "Engine") -> Counts:
    """The counters whose growth is kept for a minute: of those that are not 0."""
    found: Counts = {}
    slots = engine.registry.slots
    for shard in engine.shards:
        stats = shard.stats
        for slot, row in enumerate(stats.commands):
            if not row.is_used:
                continue
            command = slots[slot]
            name = command.name
            _add(found, "calls", name, row.calls)
            _add(found, "elapsed_ns", name, row.elapsed_ns)
            if row.rejected:
                _add(found, "rejected", name, row.rejected)
            if row.calls and "write" in command.flags:
                _add(found, "writes", name, row.calls)
        for name in COUNTERS:
            _add(found, "total", name, getattr(stats, name))
    for prefix, count in engine.errors.items():
        found["errors", prefix] = count
    for name, job in engine.jobs.items():
        found["jobs", name] = job.elapsed_ns
    for reason, count in engine.acl.log.denied.items():
        found["total", f"denied_{reason}"] = count
    found["total", "connections"] = engine.connections_received
    found["total", "rejected"] = engine.connections_rejected
    found["total", "internal_errors"] = engine.internal_errors
    found["total", "audit_dropped"] = engine.audit.dropped
    found["total", "tracked_dropped"] = engine.tracked.dropped
    if engine.storage is not None:
        _count_storage(found, engine.storage.latest())
    found["total", "processor_ns"], found["total", "processor_wait_ns"] = engine.processor_ns()
    return found


def _add(found: Counts, kind: str, name: str, count: int) -> None:
    found[kind, name] = found.get((kind, name), 0) + count


def _count_storage(found: Counts, storage: Storage) -> None:
    reading = storage.reading
    for name, count in storage.counted.items():
        found["storage", name] = count
    for name in _STORAGE_TICKERS:
        found["storage", name] = reading.tickers.get(name, 0)
    found["storage", "background-errors"] = reading.properties.get("background-errors", 0)
    for cause, stalled_us in reading.stall_us.items():
        found["stalled_us", cause] = stalled_us


# What rules look at.
_STORAGE_TICKERS: Final = ("no.file.errors", "block.checksum.mismatch.count", "footer.corruption.count")
_STORAGE_PROPERTIES: Final = ("estimate-pending-compaction-bytes", "live-sst-files-size", "is-write-stopped")
# Memory that is RocksDB's, and what it takes without any data: its code, threads, and the log of batches.
_STORAGE_BYTES_MIN: Final = 64 << 20
_STORAGE_BYTES: Final = ("block-cache-usage", "size-all-mem-tables", "estimate-table-readers-mem")


def _storage_numbers(storage: Storage | None, shards: int) -> dict[str, int]:
    if storage is None:
        return {}
    properties = storage.reading.properties
    return {
        "storage_bytes": _STORAGE_BYTES_MIN + sum(properties.get(name, 0) for name in _STORAGE_BYTES),
        "shards": shards,
        "level0_files": storage.reading.levels[0][0] if storage.reading.levels else 0,
        "cache_bytes": storage.counted.get("capacity_bytes", 0),
        **{name: properties.get(name, 0) for name in _STORAGE_PROPERTIES},
    }


def begin_recent(engine: "Engine") -> None:
    """What was before, as the start of the process, is nothing to look at."""
    engine.recent.begin(engine.clock.monotonic_ns(), counts(engine))


def end_second(engine: "Engine", now_ns: int) -> None:
    """About once a second: keep how far counters have grown, and see who has taken something of what waits for it."""
    recent = engine.recent
    recent.end(now_ns, engine.clock.wall_ms(), counts(engine), engine.keys)
    for client_id, unread in recent.unread.items():
        waiting_bytes = engine.clients[client_id].output_bytes()
        if waiting_bytes < unread.waiting_bytes:
            unread.since_ns = now_ns
        unread.waiting_bytes = waiting_bytes


def gather(engine: "Engine", seconds: int) -> Facts:
    """The facts of the last seconds, and of right now."""
    clock = engine.clock
    now_ns, now_ms = clock.monotonic_ns(), clock.wall_ms()
    window = engine.recent.window(seconds, now_ns, now_ms, counts(engine), engine.keys)
    start_s = (now_ms - (now_ns - window[0].start_ns) // 1_000_000) // 1_000
    ran = {name for second in window for kind, name in second.grown if kind == "calls"}
    commands = [command for command in engine.registry.slots if command.name in ran]
    snapshot = take(engine, histograms=False)
    logs, config = engine.slowness.logs, engine.config
    return Facts(
        seconds=window,
        stop_ms=now_ms,
        wanted_s=seconds,
        spikes={
            event: [sample for sample in series.samples if sample.time_s >= start_s]
            for event, series in engine.slowness.spikes.series.items()
        },
        slow=[_slow_request(engine, entry) for entry in _since(logs[SLOW].entries, start_s)],
        large_requests=_since(logs[LARGE_REQUEST].entries, start_s),
        large_replies=_since(logs[LARGE_REPLY].entries, start_s),
        hot=_hot_keys(engine, engine.hot_keys.last(seconds, b"ACCESSES")),
        hot_by_cpu=_hot_keys(engine, engine.hot_keys.last(seconds, b"CPU")),
        blame=engine.blame.top(seconds, _CULPRITS),
        script=_script(engine),
        readers=[
            Reader(client_id, _who(client), client.output_bytes(), now_ns - unread.since_ns)
            for client_id, unread in engine.recent.unread.items()
            if (client := engine.clients[client_id]).output_bytes() >= unread.waiting_bytes
        ],
        monitors=[(client.id, _who(client)) for client in engine.slowness.monitors.clients],
        addresses={client.address: client.id for client in engine.clients.values()},
        numbers={
            "keys": snapshot.keys,
            "used_bytes": snapshot.memory_bytes,
            "peak_bytes": snapshot.memory_peak_bytes,
            "rss_bytes": snapshot.rss_bytes,
            "system_bytes": snapshot.system_memory_bytes,
            "maxmemory_bytes": snapshot.maxmemory,
            "clients": snapshot.clients,
            "clients_max": snapshot.clients_max,
            "clients_bytes": snapshot.clients_memory_bytes,
            "save_failed": int(not snapshot.saves[3]),
            "changes_unsaved": snapshot.saves[0],
            "tracked_behind_ms": engine.tracked.lag_ms if engine.tracked.is_behind else 0,
            "tracked_waiting": engine.tracked.waiting,
            **engine.audit.numbers(),
            **_storage_numbers(snapshot.stored, len(engine.shards)),
        },
        settings={
            name: getattr(config, attribute)
            for name in _SETTINGS
            if hasattr(config, attribute := name.replace("-", "_"))
        },
        fast=frozenset(command.name for command in commands if command.fast),
        complexity={command.name: command.complexity for command in commands},
    )


def _since(entries: Sequence[Entry], start_s: int) -> list[Entry]:
    return [entry for entry in entries if entry.time_s >= start_s]


def _slow_request(engine: "Engine", entry: Entry) -> SlowRequest:
    name, key = "", b""
    try:
        command = engine.registry.find(entry.words)
        name, key = command.name, first_key(command, entry.words)
    except CommandError:
        pass  # a command whose words were cut, which no name of one is
    return SlowRequest(
        entry.time_s, entry.value * 1_000, Offender(name, key, entry.address, entry.client_name, entry.id)
    )


def _hot_keys(engine: "Engine", ranking: Ranking) -> list[HotKeyFact]:
    found = []
    for key in ranking.keys[:_HOT_KEYS]:
        client = engine.clients.get(key.client)
        found.append(
            HotKeyFact(
                key.shown_name,
                key.accesses,
                key.accesses / max(1, ranking.recorded),
                key.accesses * 1e9 / ranking.elapsed_ns,
                key.cpu_ns,
                NOBODY if client is None else _who(client),
                0 if client is None else client.id,
                min(1.0, key.client_lead / max(1, key.accesses)),
            )
        )
    return found


def _who(client: "Client") -> Offender:
    command = client.command.name if client.command is not None else ""
    return Offender(command, b"", client.address, client.name)


def _script(engine: "Engine") -> RunningScript | None:
    scripting = engine.scripting
    if not engine.busy_script or scripting is None:
        return None
    caller = scripting.caller
    name = caller.command.name if caller.command is not None else ""
    offender = Offender(name, b"", caller.address, caller.name)
    return RunningScript(engine.busy_script, scripting.elapsed_ms * 1_000_000, offender)
