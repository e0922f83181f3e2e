"""A snapshot: everything that any view shows, as plain data, taken well under a millisecond.

INFO, /metrics, /status and whatever else shows numbers read them off a snapshot; none counts anything itself.  Plain
numbers, strings, bytes, lists and dicts only, so that it crosses to the sidecar as it is (`marshal`).
"""

import os
import resource
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from kora.engine.client_memory import memory_bytes
from kora.observe import histogram
from kora.observe.service import Service
from kora.observe.shard_stats import COUNTERS, GAUGES, ShardStats, merge
from kora.observe.storage import Storage
from kora.store.lazyfree import pending_keys

if TYPE_CHECKING:
    from kora.engine.engine import Engine
    from kora.store.shard import Shard

Plain: TypeAlias = Any  # what marshal can carry
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# MemTotal of /proc/meminfo, as sysinfo(2) has it.
_SYSTEM_MEMORY_BYTES = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


@dataclass
class Snapshot:
    """Times in ns or ms as their names say, sizes in bytes, counters since start (or since CONFIG RESETSTAT)."""

    # Who, and since when.
    version: str
    kernel: str  # which implementation answers
    pid: int
    run_id: str
    time_ms: int  # wall clock
    uptime_ns: int
    state: str  # loading, ready or draining
    # The process.
    rss_bytes: int
    cpu_user_ns: int
    cpu_system_ns: int
    main_cpu_user_ns: int  # of these, what the thread of the data loop used
    main_cpu_system_ns: int
    system_memory_bytes: int  # of the machine
    # Clients.
    clients: int
    clients_max: int
    clients_blocked: int
    clients_watching: int
    blocking_keys: int  # keys that a client waits for
    pubsub_channels: int
    pubsub_patterns: int
    pubsub_shard_channels: int
    connections_received: int
    connections_rejected: int
    clients_evicted: int
    clients_memory_bytes: int  # what connections take: buffers, queued requests, names that they listen to
    protocol_errors: int
    input_buffer_max_bytes: int  # the largest query buffer of any client, now
    output_buffer_max_bytes: int
    # Shards: gauges and counters by name; "commands": by registry slot, those that were called or rejected only, as
    # [calls, elapsed_ns, failed, rejected, histogram counts].
    shards: list[dict[str, Plain]]
    slot_names: list[str]
    # What clients felt, by registry slot, of commands that ran: [calls, elapsed_ns, histogram counts].
    waits: dict[int, list[Plain]]  # from when they could be read until they began
    services: dict[int, list[Plain]]  # from then until they were answered
    # Reads that were looked at for who made them wait, how long they did, and at least and at most, in ns.
    reads: int
    suffered_ns: int
    suffered_ns_min: int
    suffered_ns_max: int
    # Databases that hold keys: number → [keys, keys with a deadline, average TTL in ms].
    databases: dict[int, list[int]]
    # Their keys by the kind and length of the value, as Keyspace.lengths() has them.
    lengths: dict[int, dict[str, list[int]]]
    memory_peak_bytes: int
    changes: int
    # While data is being loaded: Unix time of its start, bytes of the files, of these loaded, seconds left, and what
    # memory the snapshot's writer took.
    loading: list[int]
    loaded: list[int]  # by the last snapshot that was: keys, and those that were left out since their time was over
    # Snapshot files: changes since the last, whether one is being written, Unix time of the
    # last, whether the last in the background went well, how many seconds it took and the one under way has taken (or
    # -1), how many were begun, keys written and to be written to the one under way, and what it takes in memory.
    saves: list[int]
    lazyfree_pending: int
    # Over the last 1.6 s, per second.
    commands_rate: int
    bytes_in_rate: int
    bytes_out_rate: int
    # Errors.
    errors: dict[str, int]
    internal_errors: int
    acl_denied: dict[str, int]  # by reason: auth, command, key, channel
    # Keys that clients keep copies of.
    tracking_clients: int
    tracking_keys: int
    tracking_items: int  # pairs of a key and a client
    tracking_prefixes: int
    # What took long: log → [entries kept, entries ever, the last value in µs or bytes]; event → [spikes, their sum in
    # ns] since start; of events that have spikes since LATENCY RESET → [Unix time of the last, last ms, most ms].
    command_logs: dict[str, list[int]]
    spikes: dict[str, list[int]]
    spikes_seen: dict[str, list[int]]
    last_slow: dict[str, list[int]]  # by command: [id in the slow log, µs, Unix time, trace] of its last entry
    monitors: int
    traces: dict[str, int]  # as Tracing.numbers() has them
    # The loop.
    turn_max_ns: int
    lag_ns: int
    lag_max_ns: int
    lag_sum_ns: int
    lag_count: int
    lag_counts: bytes
    # Background jobs: name → [runs, elapsed_ns, elapsed_max_ns].
    jobs: dict[str, list[int]]
    # How it was measured.
    observing: bool
    hotkey_sampling_ratio: int  # in force; 0: nothing is recorded
    hotkey_session: bool  # HOTKEYS START
    hotkeys_bytes: int
    hotkeys_ns: int  # that keeping them took, once a second
    hottest_rate: int  # accesses per second to the hottest key, over the last ten seconds
    # Settings that views show.
    maxmemory: int
    maxmemory_policy: str
    latency_tracking: bool
    latency_percentiles: str
    port: int
    hz: int
    config_file: str
    journal: dict[str, int]  # aof_… of INFO, without that; empty where nobody keeps one
    tracked: dict[str, int]  # as kora.engine.tracked.Tracked.numbers() has it
    storage: list[Plain]  # a Storage as plain data; empty where all data is in memory

    def to_plain(self) -> list[Plain]:
        return [getattr(self, field.name) for field in fields(self)]

    @classmethod
    def from_plain(cls, values: Sequence[Plain]) -> "Snapshot":
        return cls(*values)

    @cached_property
    def total(self) -> ShardStats:
        """All shards as one."""
        total = merge([_to_stats(shard, len(self.slot_names)) for shard in self.shards])
        for slot in {slot for shard in self.shards for slot in shard["commands"]}:
            total.commands[slot].counts = self.histogram(slot)
        return total

    @cached_property
    def totals(self) -> ShardStats:
        """As `total`, but without histograms, which are most of the work."""
        return merge([_to_stats(shard, len(self.slot_names)) for shard in self.shards])

    def histogram(self, slot: int) -> "array[int]":
        """A command's, over all shards."""
        # All at once take half the time of one after the other.
        return histogram.merged([shard["commands"][slot][4] for shard in self.shards if slot in shard["commands"]])

    @property
    def keys(self) -> int:
        return self.totals.keys

    @property
    def memory_bytes(self) -> int:
        return self.totals.memory_bytes

    @property
    def bytes_in(self) -> int:
        return self.totals.bytes_in

    @property
    def bytes_out(self) -> int:
        return self.totals.bytes_out

    @property
    def hits(self) -> int:
        return self.totals.hits

    @property
    def misses(self) -> int:
        return self.totals.misses

    @property
    def expired(self) -> int:
        return self.totals.expired

    @property
    def evicted(self) -> int:
        return self.totals.evicted

    @property
    def commands_processed(self) -> int:
        return sum(command.calls for command in self.totals.commands)

    @cached_property
    def stored(self) -> Storage | None:
        """What is under the keys; None where all of them are in memory."""
        return Storage.from_plain(self.storage) if self.storage else None

    @property
    def uptime_s(self) -> int:
        return self.uptime_ns // 1_000_000_000


def take(
    engine: "Engine",
    histograms: bool = True,
    shards: Sequence["Shard"] | None = None,
    packed: bool = False,
    exactly: bool = True,
) -> Snapshot:
    """Copy what is counted.

    Histograms are most of it, and left out where no latency is shown.  Shards can be left out as well, for whoever
    copies them one by one with copy_shard(); as there, times can be `packed`.

    Not exactly: some of the keys that were set within the last few ms may be counted twice, where the data is in a
    store, which would have to be asked while everybody waits.
    """
    if exactly:
        for keyspace in engine.databases.used():
            keyspace.settle()
    waits, services = _copy_times(engine.service, histograms, packed)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    main_usage = resource.getrusage(resource.RUSAGE_THREAD)
    engine.update_memory_peak()
    commands_rate, bytes_in_rate, bytes_out_rate = engine.rates.per_second()
    loop = engine.loop
    clients = engine.clients.values()
    return Snapshot(
        version=engine.version,
        kernel=engine.kernel,
        pid=os.getpid(),
        run_id=engine.run_id,
        time_ms=engine.clock.wall_ms(),
        uptime_ns=engine.clock.monotonic_ns() - engine.started_ns,
        state=engine.board.state,
        rss_bytes=_rss_bytes(),
        cpu_user_ns=int(usage.ru_utime * 1e9),
        cpu_system_ns=int(usage.ru_stime * 1e9),
        main_cpu_user_ns=int(main_usage.ru_utime * 1e9),
        main_cpu_system_ns=int(main_usage.ru_stime * 1e9),
        system_memory_bytes=_SYSTEM_MEMORY_BYTES,
        clients=len(engine.clients),
        clients_max=engine.config.maxclients,
        # By a pause, or in a command that waits.
        clients_blocked=sum(client.parked and client.fetching is None for client in clients),
        clients_watching=sum(bool(client.watched) for client in clients),
        blocking_keys=engine.blocking.keys,
        pubsub_channels=len(engine.pubsub.channels.listeners),
        pubsub_patterns=len(engine.pubsub.patterns.listeners),
        pubsub_shard_channels=len(engine.pubsub.shard_channels.listeners),
        connections_received=engine.connections_received,
        connections_rejected=engine.connections_rejected,
        clients_evicted=engine.client_evictor.evicted,
        clients_memory_bytes=sum(map(memory_bytes, clients)),
        protocol_errors=engine.protocol_errors,
        input_buffer_max_bytes=max((client.parser.buffered_bytes for client in clients), default=0),
        output_buffer_max_bytes=max((client.output_bytes() for client in clients), default=0),
        shards=[copy_shard(shard, histograms) for shard in (engine.shards if shards is None else shards)],
        slot_names=[command.name for command in engine.registry.slots],
        waits=waits,
        services=services,
        reads=engine.service.reads,
        suffered_ns=engine.service.suffered_ns,
        suffered_ns_min=engine.service.suffered_ns_min,
        suffered_ns_max=engine.service.suffered_ns_max,
        databases={
            keyspace.index: [keys, keyspace.volatile, keyspace.average_ttl_ms]
            for keyspace in engine.databases.used()
            if (keys := keyspace.count_about)
        },
        lengths={keyspace.index: keyspace.lengths() for keyspace in engine.databases.used() if keyspace.count_about},
        memory_peak_bytes=engine.memory_peak_bytes,
        changes=engine.changes,
        loading=[] if engine.loading is None else engine.loading.numbers(),
        loaded=[engine.loaded_keys, engine.loaded_expired],
        saves=engine.saves.numbers(),
        lazyfree_pending=sum(pending_keys(shard) for shard in engine.shards),
        commands_rate=commands_rate,
        bytes_in_rate=bytes_in_rate,
        bytes_out_rate=bytes_out_rate,
        errors=dict(engine.errors),
        internal_errors=engine.internal_errors,
        acl_denied=dict(engine.acl.log.denied),
        tracking_clients=engine.tracking.clients_count,
        tracking_keys=engine.tracking.keys_count,
        tracking_items=engine.tracking.items_count,
        tracking_prefixes=engine.tracking.prefixes_count,
        command_logs={
            name: [len(log.entries), log.recorded, log.last_value] for name, log in engine.slowness.logs.items()
        },
        spikes={name: list(total) for name, total in engine.slowness.spikes.totals.items()},
        spikes_seen={
            name: [series.samples[-1].time_s, series.samples[-1].latency_ms, series.latency_ms_max]
            for name, series in engine.slowness.spikes.series.items()
        },
        last_slow=engine.slowness.last_kept(),
        monitors=len(engine.slowness.monitors),
        traces=engine.tracing.numbers(),
        turn_max_ns=loop.turn_max_ns,
        lag_ns=loop.lag_ns,
        lag_max_ns=loop.lag_max_ns,
        lag_sum_ns=loop.lag_sum_ns,
        lag_count=loop.lag_count,
        lag_counts=loop.lag_counts.tobytes(),
        jobs={name: [job.runs, job.elapsed_ns, job.elapsed_max_ns] for name, job in engine.jobs.items()},
        observing=engine.observing,
        hotkey_sampling_ratio=engine.hot_keys.ratio,
        hotkey_session=engine.hot_keys.is_tracking,
        hotkeys_bytes=engine.hot_keys.size_bytes,
        hotkeys_ns=engine.hot_keys.elapsed_ns,
        hottest_rate=engine.hot_keys.hottest_rate(),
        maxmemory=engine.config.maxmemory,
        maxmemory_policy=engine.config.maxmemory_policy,
        latency_tracking=engine.config.latency_tracking,
        latency_percentiles=engine.config.latency_tracking_info_percentiles,
        port=engine.config.port,
        hz=engine.config.hz,
        config_file=engine.config.file or "",
        journal=engine.journal.keeper.numbers() if engine.journal.keeper is not None else {},
        tracked=engine.tracked.numbers(),
        storage=engine.storage.numbers() if engine.storage is not None else [],
    )


def by_lowest(bins: Sequence[int]) -> list[tuple[int, int]]:
    """(Shortest length, keys) of those bins of Snapshot.lengths that have keys: the next begins at twice that."""
    return [(1 << place >> 1, keys) for place, keys in enumerate(bins) if keys]


def copy_shard(shard: "Shard", histograms: bool = True, packed: bool = False) -> dict[str, Plain]:
    """What one shard counts, in the form of Snapshot.shards.

    Where histograms are shared, commands can be `packed`, for kora.observe.shared_counts to make that form of it.
    """
    stats = shard.stats
    copy: dict[str, Plain] = {name: getattr(stats, name) for name in (*GAUGES, *COUNTERS)}
    if packed:
        copy["commands"] = stats.packed()
        return copy
    copy["commands"] = {
        slot: [row.calls, row.elapsed_ns, row.failed, row.rejected, row.counts.tobytes() if histograms else b""]
        for slot, row in enumerate(stats.commands)
        if row.is_used
    }
    return copy


def _copy_times(service: Service, histograms: bool, packed: bool) -> Sequence[Plain]:
    """Waits and services."""
    if packed:
        return service.packed()
    return [
        {
            slot: [rows[slot].calls, rows[slot].elapsed_ns, rows[slot].counts.tobytes() if histograms else b""]
            for slot in service.used_slots()
        }
        for rows in (service.waits, service.services)
    ]


def _to_stats(shard: dict[str, Plain], commands: int) -> ShardStats:
    """The block that copy_shard() was given, histograms aside."""
    stats = ShardStats(commands)
    for name in (*GAUGES, *COUNTERS):
        setattr(stats, name, shard[name])
    for slot, (calls, elapsed_ns, failed, rejected, _) in shard["commands"].items():
        row = stats.commands[slot]
        row.calls, row.elapsed_ns, row.failed, row.rejected = calls, elapsed_ns, failed, rejected
    return stats


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES
