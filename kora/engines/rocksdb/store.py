"""The store: all keys on the disk, in one RocksDB instance for each shard.

A key of the instance is the id of the database, the slot, a hash of the key, all big-endian so that it is sorted by
them, and the key itself.  Slot and hash together are the key's position, which cursors of SCAN are.  A record
begins with the deadline in ms, or 0, and goes on as DUMP has it: the type and the value.

Deadlines are listed a second time, behind all keys, by database and time.  What is listed there is a hint: a key that
has got another deadline since then is listed twice, and due() looks at its record.

A database has an id instead of its number, so that emptying or swapping databases is a matter of writing down which
number has which id.  That, and how many keys there are, is the meta record, which is part of every batch of a shard.

A batch is first written to a log (log.py), and then to the instances, which keep it in memory until they are told to
make files of it.  That is when the log has become large, and after it was synced: files must not be ahead of it, or a
power cut would leave the shards at different batches.  What files lack is written again when the store is opened.

All of it may be used by any thread; but batches are made and committed one after the other, and not while due() runs.
"""

import contextlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from struct import Struct
from threading import Event, Lock
from typing import Any, Final

import rocksdict
from rocksdict import Rdict, WriteBatch

from kora.clock import Clock
from kora.engines.rocksdb.statistics import Statistics
from kora.errors import StorageFault
from kora.observe.storage import DEBUG
from kora.store.backing import HINT as _DEADLINE
from kora.store.backing import HINTS as _DEADLINES
from kora.store.backing import POSITION_END, Overwritten, Taken, deadline_of, due_of, place_of
from kora.store.shard import RUN_BITS
from kora.store.slots import slot_of

from .log import BadLog, BatchLog, frame_of, sync_directory

_FORMAT: Final = 1
_NOTHING: Final = [0, 0]
_PLACE: Final = Struct(">IHI")  # the id, the slot, and the hash
_ID: Final = Struct(">I")
_TIME: Final = Struct(">Q")
_NO_DEADLINE: Final = bytes(8)
# No database has this id: what is not a key of the server's.
_META_ID: Final = bytes(4)
_META: Final = _META_ID + b"meta"
# The log is begun anew when it is as large as this part of what may be kept in memory, where what is in it takes half
# as much again, and twice while files are made of it.  It may grow to so many times that while this is not done.
_LOG_SHARE: Final = 4
_LOGS_BEHIND: Final = 3
_SYNCED_LOGS: Final = 2  # from so many times that on each batch is synced
_FLUSH_LOOK_S: Final = 0.05
_UNFLUSHED: Final = "rocksdb.num-immutable-mem-table"
_BITS_PER_KEY: Final = 10
# As a part of what could be written before files are made, which is four times what will be: see _LOG_SHARE.
_MEMORY_BLOOM_SHARE: Final = 0.02
# Blocks that a cold read takes from the disk: small, since what is next to a key is not what is read next.
_BLOCK_BYTES: Final = 4096
_COMPRESSIONS: Final = {
    "none": rocksdict.DBCompressionType.none,
    "lz4": rocksdict.DBCompressionType.lz4,
    "zstd": rocksdict.DBCompressionType.zstd,
}
_NOT_SYNCED: Final = "the log could not be synced"
# Keys that are looked for at a time before they are written over: as many as it takes to wait for other threads only
# now and then, and as few as it takes for their values, which are in memory for a moment, to be about so large.
_LOOKED_FOR_MIN: Final = 16
_LOOKED_FOR_MAX: Final = 4096
_LOOKED_FOR_BYTES: Final = 4 << 20
# Things put into a batch at a time, while other threads wait.
_PUT_AT_ONCE: Final = 2000
# As much is written to an instance at once, and then the loop gets its turn.
_WRITTEN_AT_ONCE: Final = 512 << 10
_PAUSE_NS: Final = 20_000
# Writes are held up while files are made, or compacted: looked at so often, and ignored after so long, since it may be
# a fault that only a write is told of.
_IS_STOPPED: Final = "rocksdb.is-write-stopped"
_SLOWED_TO: Final = "rocksdb.actual-delayed-write-rate"  # bytes per second
_STOPPED_NS: Final = 2_000_000
_HELD_UP_NS_MAX: Final = 3_000_000_000
_IN_BETWEEN: Final = "it is being opened again, since it could not be written to"
_UNREADABLE: Final = b"unreadable"  # in place of a record, of which it is none
_RESTORE: Final = ": have a checkpoint in place of the data"
_CORRUPT: Final = "Corruption: "
_NO_ROOM: Final = "No space left on device"
# What the instances write about themselves.
_LOG_BYTES: Final = 4 << 20
_LOGS: Final = 3


class CannotOpen(Exception):
    """There is no using the directory; one line that says why."""


@dataclass(frozen=True)
class StoreSettings:
    block_cache_bytes: int = 64 << 20
    write_buffer_bytes: int = 64 << 20
    compression: str = "lz4"
    threads: int = 2  # for flushes and compactions
    metrics_level: str = DEBUG


@dataclass
class _Meta:
    """Of one shard: see the head of the file."""

    generation: int = 0  # counts batches over all shards
    databases: dict[int, int] = field(default_factory=dict)  # id by number
    next_id: int = 1
    counts: dict[int, list[int]] = field(default_factory=dict)  # keys, and those with a deadline, by id

    def encode(self, shards: int, index: int) -> bytes:
        return json.dumps({"format": _FORMAT, "shards": shards, "shard": index} | self.__dict__).encode()

    @classmethod
    def decode(cls, data: bytes) -> "tuple[_Meta, int, int]":
        """The record, how many shards there were, and the format."""
        about = json.loads(data)
        meta = cls(
            about["generation"],
            {int(number): id for number, id in about["databases"].items()},
            about["next_id"],
            {int(id): counts for id, counts in about["counts"].items()},
        )
        return meta, about["shards"], about["format"]


@dataclass
class _Part:
    """Of a batch, what goes to one shard: first ranges are deleted, then things are put, or deleted: see `words`."""

    shard: int
    meta: _Meta
    ranges: list[bytes] = field(default_factory=list)  # where each begins, and where it ends
    words: list[bytes | None] = field(default_factory=list)  # what, and what it is then: None for nothing
    unknown: list[tuple[int, list[bytes]]] = field(default_factory=list)  # by database: see Share of kora.store.backing


class Batch:
    """A write-back.  commit() can be called again after it has failed."""

    def __init__(self, store: "Store", generation: int, parts: list[_Part]) -> None:
        self._store = store
        self._generation = generation
        self._parts = parts
        self._is_logged = False
        self._overwritten: dict[int, list[Overwritten]] | None = None  # by database, once it is known
        self._looking = Lock()

    def overwritten(self, id: int) -> Sequence[Overwritten]:
        """What was there before of the keys of a database of which that was not known."""
        return self._look().get(id, ())

    def _look(self) -> dict[int, list[Overwritten]]:
        """Ask for the keys of which nobody knows whether they are there, and have the counts say what will be."""
        with self._looking:
            if self._overwritten is not None:
                return self._overwritten
            overwritten: dict[int, list[Overwritten]] = {}
            for part in self._parts:
                for id, places in part.unknown:
                    keys, volatile = self._store.count_there(part.shard, places)
                    counts = part.meta.counts[id]
                    counts[0] -= keys.total()
                    counts[1] -= volatile.total()
                    overwritten.setdefault(id, []).extend((run, keys[run], volatile[run]) for run in keys)
                part.words += _META, part.meta.encode(self._store.shards, part.shard)
            self._overwritten = overwritten
            return overwritten

    def commit(self, sync: bool) -> None:
        """Write what is not written yet; raises StorageFault."""
        if not self._is_logged:
            self._store.mend()
            self._look()
            # In whatever thread this is: a checksum of many bytes lets others run meanwhile.
            parts = [(part.shard, part.ranges, part.words) for part in self._parts]
            self._store.log_batch(frame_of(self._generation, parts), sync)
            self._is_logged = True
        self._store.apply(self._parts)


class Store:
    def __init__(
        self,
        path: str,
        edges: Sequence[int],
        settings: StoreSettings | None = None,
        monotonic_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        """Open what is there, or begin.  `edges`: where shards begin, and SLOTS.  Raises CannotOpen."""
        self.path = path
        self._settings = settings or StoreSettings()
        self._edges = list(edges)
        count = len(edges) - 1
        self._shard_by_run = bytes(
            index for index in range(count) for _ in range(edges[index], edges[index + 1], 1 << RUN_BITS)
        )
        self.block_cache = rocksdict.Cache(self._settings.block_cache_bytes)
        self._unlogged = rocksdict.WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]
        self.log = BatchLog(path, monotonic_ns)
        self.replayed = 0  # batches of the log that the instances lacked
        self._dropping = 0  # logs before this number, once files are made of what is in them
        self.instances: list[Rdict] = []
        # For due(), by shard: hints to be dropped, and from when on there are others, by database.
        self._found: dict[bytes, bytes] = {}  # hints of keys that are about to be deleted, by their places
        self._stale: list[list[bytes]] = [[] for _ in range(count)]
        self._due_from_ms: list[dict[int, int]] = [{} for _ in range(count)]
        self._batch: Batch | None = None  # the last
        self.shards = count
        self._pool = ThreadPoolExecutor(count, "store")
        self._reclaiming = ThreadPoolExecutor(1, "store-reclaim")
        self._is_closing = Event()
        self._log_bytes_max = self._settings.write_buffer_bytes // _LOG_SHARE
        self._broken: dict[int, str] = {}  # shards that could not be written to, and why
        self._clock = Clock()
        self._held_up_us = [0] * count  # by shard: writes that waited for RocksDB, and not in it
        self.statistics = Statistics(self._families, self._settings.metrics_level, held_up_us=lambda: self._held_up_us)
        self._check_directory(count)
        try:
            self._open_all(count)
            self._replay()
            self._agree()
            self._open_log()
            self.statistics.read()
        except BaseException:
            self.close()
            raise

    # Opening and closing

    def _check_directory(self, count: int) -> None:
        with _opening(self.path):
            os.makedirs(self.path, exist_ok=True)
            sync_directory(os.path.dirname(os.path.abspath(self.path)))
            there = sum(name.startswith("shard-") for name in os.listdir(self.path))
        if there > count:
            # With fewer than there are some were not begun before a crash, or the record of one says the rest.
            raise CannotOpen(_other_shards(self.path, there, count))

    def _open_all(self, count: int) -> None:
        there = [index for index in range(count) if os.path.isdir(self._shard_path(index))]
        opened = self._open_some(there)
        try:
            metas = {index: self._read_meta(index, instance) for index, instance in opened.items()}
            missing = [index for index in range(count) if index not in opened]
            if missing:
                self._check_log()
            if missing and any(meta.generation for meta in metas.values()):
                # Nothing is written before there are all.
                raise CannotOpen(f"{self._shard_path(missing[0])}: No such file or directory{_RESTORE}")
            opened |= self._open_some(missing)
        except CannotOpen:
            for instance in opened.values():
                self._close(instance)
            raise
        self.instances = [opened[index] for index in range(count)]
        self._meta = [metas.get(index) or _Meta() for index in range(count)]

    def _check_log(self) -> None:
        """Raises CannotOpen where what is in the log is of other shards."""
        with _opening(self.path), contextlib.closing(self.log.read()) as batches:
            for _, parts in batches:
                for _, _, words in parts:
                    self._check_meta(_Meta.decode(words[-1]), self.path)
                return

    def _open_some(self, shards: list[int]) -> dict[int, Rdict]:
        futures = {shard: self._pool.submit(self._open, shard) for shard in shards}
        failures = [failure for future in futures.values() if (failure := future.exception()) is not None]
        if failures:
            for future in futures.values():
                if future.exception() is None:
                    self._close(future.result())
            raise failures[0]
        return {shard: future.result() for shard, future in futures.items()}

    def _open(self, index: int) -> Rdict:
        path = self._shard_path(index)
        options = self._options()
        with _opening(path):
            names = os.listdir(path) if os.path.isdir(path) else []
        if "CURRENT" not in names and any(name.endswith(".sst") for name in names):
            # RocksDB would begin anew, and delete these.
            raise CannotOpen(f"{path}/CURRENT: No such file or directory{_RESTORE}")
        try:
            # Named, or else a family that is there keeps options that were written down, without filters and our cache.
            return Rdict(path, options, column_families={"default": options})
        except Exception as error:
            raise CannotOpen(_why_not_opened(path, str(error))) from error

    def _options(self) -> rocksdict.Options:
        settings = self._settings
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self.block_cache)
        table.set_block_size(_BLOCK_BYTES)
        table.set_bloom_filter(_BITS_PER_KEY, False)
        # Indexes and filters grow with the data: they are cached in parts, as data is, so that memory is bounded.
        table.set_cache_index_and_filter_blocks(True)
        table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
        table.set_partition_filters(True)
        table.set_metadata_block_size(_BLOCK_BYTES)
        table.set_pin_top_level_index_and_filter(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_format_version(5)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(_COMPRESSIONS[settings.compression]())
        # Never full before it is flushed.
        options.set_write_buffer_size(max(1 << 20, settings.write_buffer_bytes))
        options.set_max_write_buffer_number(3)
        # Most keys that are asked for are in none of what is in memory here.
        options.set_memtable_prefix_bloom_ratio(_MEMORY_BLOOM_SHARE)
        options.set_memtable_whole_key_filtering(True)
        options.increase_parallelism(settings.threads)
        options.set_max_background_jobs(max(2, settings.threads))
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_log_file_size(_LOG_BYTES)
        options.set_keep_log_file_num(_LOGS)
        if settings.metrics_level == DEBUG:
            options.enable_statistics()
        return options

    def close(self) -> None:
        """Have everything in the instances' files, and close.  Raises nothing: what is not there is in the log."""
        self.statistics.close()
        with contextlib.suppress(StorageFault, OSError):
            if self.log.is_open:
                number = self.log.begin_another()
                self._flush()
                self.log.drop_before(number)
        self._pool.shutdown()
        self._is_closing.set()
        for instance in self.instances:
            with contextlib.suppress(StorageFault):
                self._read(instance.cancel_all_background, False)
        self._reclaiming.shutdown(cancel_futures=True)
        for instance in self.instances:
            self._close(instance)
        self.instances = []
        self.log.close()

    def _close(self, instance: Rdict) -> None:
        # It flushes, which may fail, and then it is closed all the same.
        with contextlib.suppress(StorageFault):
            self._read(instance.close)

    def _families(self) -> list[list[Rdict]]:
        return [[instance] for instance in self.instances]

    # Meta

    def _read_meta(self, index: int, instance: Rdict) -> _Meta:
        try:
            data = self._read(instance.get, _META)
        except StorageFault as error:
            raise CannotOpen(_why_not_opened(self._shard_path(index), error.reason)) from error
        if data is None:
            return _Meta()
        return self._check_meta(_Meta.decode(data), self._shard_path(index))

    def _check_meta(self, found: "tuple[_Meta, int, int]", path: str) -> _Meta:
        meta, shards, version = found
        if version != _FORMAT:
            raise CannotOpen(f"{path}: is of format {version}, and this server reads {_FORMAT}")
        if shards != self.shards:
            raise CannotOpen(_other_shards(self.path, shards, self.shards))
        return meta

    def _replay(self) -> None:
        """Write to the instances what is in the log and not in their files; raises CannotOpen."""
        replayed = 0
        with _opening(self.path):
            for generation, parts in self.log.read():
                for shard, ranges, words in parts:
                    if shard >= len(self.instances):
                        raise CannotOpen(_other_shards(self.path, shard + 1, len(self.instances)))
                    if generation > self._meta[shard].generation:
                        self._write(shard, ranges, words)
                        self._meta[shard] = _Meta.decode(words[-1])[0]
                        replayed += 1
        self.replayed += replayed

    def _open_log(self) -> None:
        with _opening(self.path):
            self.log.open()

    def _agree(self) -> None:
        """Which database is which is what the last batch says; not all batches are of all shards."""
        last = max(self._meta, key=lambda meta: meta.generation)
        for meta in self._meta:
            meta.databases, meta.next_id = dict(last.databases), last.next_id
        self.generation = last.generation
        self.next_id = last.next_id
        self.databases = dict(last.databases)

    def new_id(self) -> int:
        """For a database that is new, or was emptied."""
        self.next_id += 1
        return self.next_id - 1

    def counts(self, id: int) -> tuple[int, int]:
        """How many keys there are, and how many of them have a deadline."""
        counts = self.counts_by_shard(id)
        return sum(keys for keys, _ in counts), sum(volatile for _, volatile in counts)

    def counts_by_shard(self, id: int) -> list[tuple[int, int]]:
        """As counts(), of each shard."""
        counts = [meta.counts.get(id, _NOTHING) for meta in self._meta]
        return [(keys, volatile) for keys, volatile in counts]

    # Reading

    def get(self, id: int, key: bytes) -> bytes | None:
        """A key's record, or None; raises StorageFault."""
        record: bytes | None = self._read(self._instance_of(key).get, place_of(id, key))
        return record

    def get_many(self, places: list[list[bytes]]) -> list[list[bytes | None]]:
        """The records at places, or None, both by shards; raises StorageFault."""
        return [
            self._read(instance.get, its_places) if its_places else []
            for instance, its_places in zip(self.instances, places, strict=True)
        ]

    def may_exist(self, id: int, key: bytes) -> bool:
        """False where a key is not there for sure, as far as that can be told without the disk."""
        try:
            return bool(self._instance_of(key).key_may_exist(place_of(id, key)))
        except Exception:
            return True  # get() will tell

    def _instance_of(self, key: bytes) -> Rdict:
        return self.instances[self._shard_by_run[slot_of(key) >> RUN_BITS]]

    def scan(
        self, id: int, position: int, count: int, now_ms: int, over: list[bytes] | None = None
    ) -> tuple[list[bytes], int]:
        """About so many keys from a position on, in the order of their positions, and the position to go on with.

        Keys of the same position come together; POSITION_END when there are no more.  Those whose time was over by
        now_ms are no keys, but count as some, and go to the other list.  Raises StorageFault.
        """
        keys: list[bytes] = []
        over = [] if over is None else over
        while position < POSITION_END:
            shard = self._shard_by_run[position >> 32 + RUN_BITS]
            prefix = _ID.pack(id)
            instance = self.instances[shard]
            start = _PLACE.pack(id, position >> 32, position & 0xFFFFFFFF)
            ends_ms = now_ms if self._meta[shard].counts.get(id, _NOTHING)[1] else 0
            following: int | None = self._read(_take, instance, start, prefix, count, keys, over, ends_ms)
            if following is not None:
                return keys, following
            position = self._edges[shard + 1] << 32
        return keys, POSITION_END

    def due(self, id: int, now_ms: int, count: int) -> list[bytes]:
        """Keys whose deadlines are over, or those of fields of theirs, about so many at most; raises StorageFault.

        For the thread that writes.  Where a record says otherwise by now the hint is dropped, by the next batch.
        """
        found: list[bytes] = []
        prefix = _ID.pack(id)
        self._found = {place: hint for place, hint in self._found.items() if not place.startswith(prefix)}
        for shard, instance in enumerate(self.instances):
            # What is before it was dropped, and RocksDB would wade through that again and again.
            start = _DEADLINE.pack(id | _DEADLINES, self._due_from_ms[shard].get(id, 0))
            stop = _DEADLINE.pack(id | _DEADLINES, now_ms + 1)
            hints = self._read(_hints, instance, start, stop, count)
            records = self._records(id, instance, hints)
            first_ms = now_ms + 1
            for hint, record in zip(hints, records, strict=True):
                if record == _UNREADABLE:
                    continue  # it stays until somebody asks for it, who is told
                (due_ms,) = _TIME.unpack_from(hint, 4)
                if record is not None and due_ms in (deadline_of(record), due_of(record)):
                    found.append(hint[_DEADLINE.size :])
                    self._found[place_of(id, hint[_DEADLINE.size :])] = hint
                    first_ms = min(first_ms, due_ms)
                else:
                    self._stale[shard].append(hint)
            if len(hints) >= count:
                first_ms = min(first_ms, _TIME.unpack_from(hints[-1], 4)[0])
            self._due_from_ms[shard][id] = first_ms
        return found

    def _records(self, id: int, instance: Rdict, hints: list[bytes]) -> list[bytes | None]:
        """What the keys of hints have, or _UNREADABLE."""
        places = [place_of(id, hint[_DEADLINE.size :]) for hint in hints]
        records: list[bytes | None]
        try:
            records = self._read(instance.get, places)
        except StorageFault:
            records = []
            for place in places:
                record: bytes | None = _UNREADABLE
                with contextlib.suppress(StorageFault):
                    record = self._read(instance.get, place)
                records.append(record)
        return records

    def _read(self, deed: Callable[..., Any], *arguments: Any) -> Any:
        """RocksDB's faults are bare exceptions that only their texts tell apart."""
        try:
            return deed(*arguments)
        except (RuntimeError, rocksdict.DbClosedError) as error:
            raise StorageFault(_IN_BETWEEN) from error
        except Exception as error:
            raise StorageFault(str(error)) from error

    # Writing

    def batch(
        self,
        changes: Iterable[Taken],
        databases: Mapping[int, int] | None = None,
        extras: Mapping[str, bytes] | None = None,
    ) -> Batch:
        """Make ready to be written what has changed.

        `databases` is which database has which id, if that has changed: what has none any more is deleted.  `extras` is
        what else is to be kept: see extra().
        """
        self.generation += 1
        parts = [
            _Part(shard, _Meta(self.generation, {}, 0, {id: list(numbers) for id, numbers in meta.counts.items()}))
            for shard, meta in enumerate(self._meta)
        ]
        if databases is not None:
            self.databases = dict(databases)
            self._forget_others(parts)
        for part, hints in zip(parts, self._stale, strict=True):
            for hint in hints:
                part.words += hint, None
            hints.clear()
        for taken in changes:
            self._put(taken, parts)
        for name, data in (extras or {}).items():
            parts[0].words += _META_ID + name.encode(), data
        if databases is None and self.generation > 1:
            parts = [part for part in parts if part.words]
        for part in parts:
            part.meta.databases, part.meta.next_id = dict(self.databases), self.next_id
        self._batch = Batch(self, self.generation, parts)
        return self._batch

    def overwritten(self, id: int) -> Sequence[Overwritten]:
        """What the last batch puts other records in place of, without having been told that they are there."""
        return () if self._batch is None else self._batch.overwritten(id)

    def count_there(self, shard: int, places: Sequence[bytes]) -> tuple[Counter[int], Counter[int]]:
        """Of some keys of a shard how many there are in each run of slots, and how many of them have a deadline."""
        keys, volatile = Counter[int](), Counter[int]()
        get = self.instances[shard].get
        at, at_once = 0, 20 * _LOOKED_FOR_MIN
        while some := places[at : at + at_once]:
            at += len(some)
            try:
                found = self._read(get, some)
            except StorageFault:
                found = [self._read_if_possible(get, place) for place in some]
            there = [pair for pair in zip(some, found, strict=True) if pair[1] is not None]
            keys.update([(place[4] << 8 | place[5]) >> RUN_BITS for place, _ in there])
            lasting = _NO_DEADLINE
            volatile.update(
                [(place[4] << 8 | place[5]) >> RUN_BITS for place, record in there if not record.startswith(lasting)]
            )
            found_bytes = sum([len(record) for _, record in there])
            at_once = max(
                _LOOKED_FOR_MIN, min(2 * at_once, _LOOKED_FOR_MAX, _LOOKED_FOR_BYTES * len(some) // (found_bytes or 1))
            )
        return keys, volatile

    def _read_if_possible(self, get: Callable[[bytes], bytes | None], place: bytes) -> bytes | None:
        """A record that is about to be written over, and need not be readable for that.

        One that is not is there, most likely: where a key is not, its filter keeps most reads from its block.
        """
        try:
            record: bytes | None = self._read(get, place)
        except StorageFault as error:
            if error.reason == _IN_BETWEEN:
                raise
            return _NO_DEADLINE
        return record

    def _put(self, taken: Taken, parts: list[_Part]) -> None:
        id = taken.id
        for part, share in zip(parts, taken.shares, strict=True):
            counts = part.meta.counts.setdefault(id, [0, 0])
            counts[0] += share.keys
            counts[1] += share.volatile
            part.words += share.words
            if share.unknown:
                part.unknown.append((id, share.unknown))
            if self._found:
                for place in share.gone:
                    if (hint := self._found.pop(place, None)) is not None:
                        part.words += hint, None
            if share.first_due_ms:
                due_from_ms = self._due_from_ms[part.shard]
                due_from_ms[id] = min(due_from_ms.get(id, 0), share.first_due_ms)

    def _forget_others(self, parts: list[_Part]) -> None:
        """Delete databases that have no number any more."""
        kept = set(self.databases.values())
        for part in parts:
            for id in [id for id in part.meta.counts if id not in kept]:
                del part.meta.counts[id]
                for prefix in (id, id | _DEADLINES):
                    part.ranges += _ID.pack(prefix), _ID.pack(prefix + 1)
                self._due_from_ms[part.shard].pop(id, None)

    def log_batch(self, frame: bytes, sync: bool) -> None:
        """For Batch: raises StorageFault."""
        log = self.log
        with _writing():
            self.mend()
            if log.is_suspect:
                self._begin_another_log()
            log.append(frame)
            # An instance whose memory is full makes a file by itself, which must not be ahead of the log.
            if sync or log.size_bytes > self._log_bytes_max * _SYNCED_LOGS:
                log.sync()

    def apply(self, parts: list[_Part]) -> None:
        """For Batch: write parts, and take each that is written out of the list.  Raises StorageFault."""
        self.mend()
        while parts:
            part = parts[0]
            with self._noticing(part.shard):
                self._write(part.shard, part.ranges, part.words)
            self._meta[part.shard] = part.meta
            del parts[0]
        self._tend_log()

    def _tend_log(self) -> None:
        """Have files made of what is in the log when it is large, and drop it when that is done."""
        log, limit_bytes = self.log, self._log_bytes_max
        if not self._dropping and log.size_bytes <= limit_bytes and not log.is_suspect:
            return
        with _writing():
            if log.is_suspect:
                self._begin_another_log()
                return
            if self._dropping and not any(
                self._read(instance.property_int_value, _UNFLUSHED) for instance in self.instances
            ):
                log.drop_before(self._dropping)
                self._dropping = 0
            if log.size_bytes > limit_bytes * (_LOGS_BEHIND if self._dropping else 1):
                self._dropping = log.begin_another()
                for shard in range(len(self.instances)):
                    # Only what is there by now, of which all is synced.
                    self._flush_shard(shard, False)

    def _write(self, shard: int, ranges: list[bytes], words: list[bytes | None]) -> None:
        """In pieces, since the interpreter's lock is held while one is written, and the loop waits.

        The record of what there is comes last: a batch of which a part is missing is as if it were not there, and what
        is there is written again.
        """
        size_bytes = sum(map(len, filter(None, words)))
        step = _PUT_AT_ONCE if size_bytes <= _WRITTEN_AT_ONCE else _step_of(words, size_bytes)
        for start in range(0, len(words), 2 * step):
            if start:
                self._clock.sleep_ns(_PAUSE_NS)
            self._wait_for_room(shard, size_bytes * 2 * step // len(words))
            piece = _to_write(ranges if not start else [], words[start : start + 2 * step])
            self._read(self.instances[shard].write, piece, self._unlogged)

    def _wait_for_room(self, shard: int, size_bytes: int) -> None:
        """Wait here while RocksDB holds up writes, which it would do with the interpreter's lock held."""
        instance = self.instances[shard]
        waited_ns = 0
        while waited_ns < _HELD_UP_NS_MAX:
            if self._read(instance.property_int_value, _IS_STOPPED):
                pause_ns = _STOPPED_NS
            elif not waited_ns and (bytes_per_s := self._read(instance.property_int_value, _SLOWED_TO)):
                pause_ns = min(_HELD_UP_NS_MAX, size_bytes * 1_000_000_000 // bytes_per_s)
            else:
                break
            self._clock.sleep_ns(pause_ns)
            waited_ns += pause_ns
        self._held_up_us[shard] += waited_ns // 1000

    @contextlib.contextmanager
    def _noticing(self, shard: int) -> Iterator[None]:
        """Remember a shard that is not written to any more."""
        try:
            yield
        except StorageFault as error:
            # RocksDB goes on by itself where there is room again, and can be read meanwhile.
            if _NO_ROOM not in error.reason:
                self._broken[shard] = error.reason
            raise

    def mend(self) -> None:
        """Open anew what RocksDB does not write to any more since something has failed; raises StorageFault."""
        for reason in self._broken.values():
            if _CORRUPT in reason:
                # A file stays what it is: what can be read goes on being read, until the data is restored.
                raise StorageFault(reason)
        if self._broken and not self.log.is_suspect:
            # It makes files when it is closed, which must not be ahead of the log.
            self.sync()
        for shard in sorted(self._broken):
            self._reopen(shard)

    def _reopen(self, index: int) -> None:
        # What the logs have of it may be nowhere else.
        self._dropping = 0
        self._close(self.instances[index])
        try:
            self.instances[index] = self._open(index)
            self._held_up_us[index] = 0
            self._meta[index] = self._read_meta(index, self.instances[index])
            self._replay()
        except CannotOpen as error:
            raise StorageFault(str(error)) from error
        self._broken.pop(index, None)

    def _begin_another_log(self) -> None:
        """The log cannot be trusted: have everything in files that are synced."""
        self._flush()
        number = self.log.begin_another()
        self._dropping = 0
        self.log.note_all_before()
        self.log.drop_before(number)

    def _flush(self) -> None:
        """Have all instances make files of what they have in memory; raises StorageFault."""
        for future in [self._pool.submit(self._flush_shard, shard, True) for shard in range(len(self.instances))]:
            future.result()

    def _flush_shard(self, shard: int, waits: bool) -> None:
        with self._noticing(shard):
            self._read(self.instances[shard].flush, waits)

    def sync(self) -> None:
        """Have all that was written on the disk; raises StorageFault."""
        with _writing():
            if self.log.is_suspect:
                raise StorageFault(_NOT_SYNCED)
            self.log.sync()

    def sync_anew(self) -> None:
        """As sync(), where the log is suspect as well.  For the thread that writes."""
        with _writing():
            if self.log.is_suspect:
                self.mend()
                self._begin_another_log()
            else:
                self.log.sync()

    def extra(self, name: str) -> bytes | None:
        """What else was kept, by name; raises StorageFault."""
        data: bytes | None = self._read(self.instances[0].get, _META_ID + name.encode())
        return data

    def checkpoint(self, path: str) -> None:
        """Have another directory, which must not be there, with all that was written; files are shared by links.

        For the thread that writes.  Raises StorageFault and OSError.
        """
        self.log.sync()
        os.makedirs(path)
        for instance in self.instances:
            target = os.path.join(path, os.path.basename(instance.path()))
            self._read(_checkpoint, instance, target)
        sync_directory(path)

    def reclaim(self, ids: Iterable[int]) -> None:
        """Begin to give back the room of databases that are gone.  For the thread that writes; raises StorageFault."""
        # What is in memory is made a file of before files are compacted, and that must not be ahead of the log.
        self.sync()
        for shard in range(self.shards):
            self._flush_shard(shard, False)
        for id in ids:
            self._reclaiming.submit(self._reclaim, id)

    def _reclaim(self, id: int) -> None:
        """Takes as long as it takes; what fails is left to RocksDB, which compacts these files some day."""
        with contextlib.suppress(StorageFault):
            for instance in self.instances:
                while self._read(instance.property_int_value, _UNFLUSHED):
                    if self._is_closing.wait(_FLUSH_LOOK_S):
                        return
                for prefix in (id, id | _DEADLINES):
                    self._read(instance.compact_range, _ID.pack(prefix), _ID.pack(prefix + 1))

    def _shard_path(self, index: int) -> str:
        return os.path.join(self.path, f"shard-{index}")


@contextlib.contextmanager
def _opening(path: str) -> Iterator[None]:
    try:
        yield
    except BadLog as error:
        raise CannotOpen(str(error)) from error
    except OSError as error:
        raise CannotOpen(f"{error.filename or path}: {error.strerror}") from error
    except StorageFault as error:
        raise CannotOpen(_why_not_opened(path, error.reason)) from error


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFault(error.strerror or str(error)) from error


def _step_of(words: list[bytes | None], size_bytes: int) -> int:
    """How many words of such a size, in pairs, are written at once."""
    return max(1, min(_PUT_AT_ONCE, len(words) * _WRITTEN_AT_ONCE // size_bytes // 2))


def _to_write(ranges: list[bytes], words: list[bytes | None]) -> WriteBatch:
    batch = WriteBatch(raw_mode=True)
    for start, stop in zip(ranges[::2], ranges[1::2], strict=True):
        batch.delete_range(start, stop)
    things, values = words[::2], words[1::2]
    if None in values:
        for thing, value in zip(things, values, strict=True):
            assert thing is not None
            if value is None:
                batch.delete(thing)
            else:
                batch.put(thing, value)
    else:
        # Without Python between one and the next, and so without the loop, which gets its turn often enough.
        put: Any = batch.put
        for at in range(0, len(things), _PUT_AT_ONCE):
            deque(map(put, things[at : at + _PUT_AT_ONCE], values[at : at + _PUT_AT_ONCE]), 0)
    return batch


def _take(
    instance: Rdict, start: bytes, prefix: bytes, count: int, keys: list[bytes], over: list[bytes], ends_ms: int
) -> int | None:
    """Add keys to lists that are to have so many; returns the position to go on with if that was before the end.

    Those whose time was over by ends_ms, if that is not 0, are told apart.
    """
    walk: Iterable[Any] = instance.items(from_key=start) if ends_ms else instance.keys(from_key=start)
    place, last = start, b""
    for found in walk:
        place, is_over = (found[0], 0 < deadline_of(found[1]) < ends_ms) if ends_ms else (found, False)
        if not place.startswith(prefix):
            return None
        if len(keys) + len(over) >= count and place[4:10] != last:
            _, slot, hashed = _PLACE.unpack_from(place)
            return int(slot) << 32 | int(hashed)
        last = place[4:10]
        (over if is_over else keys).append(place[10:])
    _check_end(instance, place)
    return None


def _hints(instance: Rdict, start: bytes, stop: bytes, count: int) -> list[bytes]:
    hints: list[bytes] = []
    hint: Any = start
    for hint in instance.keys(from_key=start):
        if hint >= stop or len(hints) >= count:
            return hints
        hints.append(hint)
    _check_end(instance, hint)
    return hints


def _check_end(instance: Rdict, place: bytes) -> None:
    """Raises where there is more behind a place that cannot be read: a walk ends there as if there were nothing."""
    walk = instance.iter()
    walk.seek(place)
    while walk.valid():
        walk.next()
    walk.status()


def _checkpoint(instance: Rdict, path: str) -> None:
    rocksdict.Checkpoint(instance).create_checkpoint(path)


def _other_shards(path: str, there: int, wanted: int) -> str:
    return (
        f"{path}: is the data of {there} shards, and `shards` is {wanted}: have it {there}, or export the data with "
        "`kora export rdb` and begin with an empty directory"
    )


def _why_not_opened(path: str, reason: str) -> str:
    if "/LOCK: " in reason:
        return f"{path}/LOCK: another process uses this directory"
    remedy = _RESTORE if _CORRUPT in reason else ""
    return f"{path}: cannot be opened: {' '.join(reason.split())}{remedy}"
