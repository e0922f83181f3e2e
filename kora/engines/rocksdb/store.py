"""The store: all keys on the disk, in one RocksDB instance for each shard.

A key of the instance is the id of the database, the slot, a hash of the key, all big-endian so that it is sorted by
them, and the key itself.  Slot and hash together are the key's position, which cursors of SCAN are.  A record
begins with the deadline in ms, or 0, and goes on as DUMP has it: the type and the value.

Deadlines are listed a second time, in a column family of their own, by database and time.  What is listed there is a
hint: a key that has got another deadline since then is listed twice, and due() looks at its record.

A database has an id instead of its number, so that emptying or swapping databases is a matter of writing down which
number has which id.  That, and how many keys there are, is the meta record, which is part of every batch of a shard.

All of it may be used by any thread, but for write(), which is for one.
"""

import json
import os
import zlib
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final

import rocksdict
from rocksdict import Rdict, WriteBatch

from kora.engines.rocksdb.statistics import Statistics
from kora.errors import StorageFault
from kora.observe.storage import DEBUG
from kora.store.backing import ABSENT, POSITION_END, VOLATILE, Change, deadline_of
from kora.store.shard import RUN_BITS
from kora.store.slots import OPEN_BRACE, SLOT_MASK, slot_of

_FORMAT: Final = 1
_NOTHING: Final = [0, 0]
_PLACE: Final = Struct(">IHI")  # the id, the slot, and the hash
_DEADLINE: Final = Struct(">IQ")  # the id, and when
_ID: Final = Struct(">I")
_TIME: Final = Struct(">Q")
_NO_DEADLINE: Final = bytes(8)
# No database has this id: what is not a key of the server's.
_META_ID: Final = bytes(4)
_META: Final = _META_ID + b"meta"
_DEADLINES: Final = "deadlines"
_BITS_PER_KEY: Final = 10
# Blocks that a cold read takes from the disk: small, since what is next to a key is not what is read next.
_BLOCK_BYTES: Final = 4096
_COMPRESSIONS: Final = {
    "none": rocksdict.DBCompressionType.none,
    "lz4": rocksdict.DBCompressionType.lz4,
    "zstd": rocksdict.DBCompressionType.zstd,
}
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
class Changes:
    """What has changed in a database."""

    id: int
    items: Sequence[Change]


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


class Batch:
    """A write-back: what goes to each shard.  commit() can be called again after it has failed."""

    def __init__(self, store: "Store", parts: "list[tuple[int, WriteBatch, _Meta]]") -> None:
        self._store = store
        self._parts = parts

    def commit(self, sync: bool) -> None:
        """Write what is not written yet; raises StorageFault."""
        self._store.commit(self._parts, sync)


class Store:
    def __init__(self, path: str, edges: Sequence[int], settings: StoreSettings | None = None) -> None:
        """Open what is there, or begin.  `edges`: where shards begin, and SLOTS.  Raises CannotOpen."""
        self.path = path
        self._settings = settings or StoreSettings()
        self._edges = list(edges)
        count = len(edges) - 1
        self._shard_by_run = [
            index for index in range(count) for _ in range(edges[index], edges[index + 1], 1 << RUN_BITS)
        ]
        self.block_cache = rocksdict.Cache(self._settings.block_cache_bytes)
        self._buffers = rocksdict.WriteBufferManager(self._settings.write_buffer_bytes, False)
        self._sync = rocksdict.WriteOptions()
        self._sync.sync = True
        self.instances: list[Rdict] = []
        self._deadlines: list[Rdict] = []
        self._deadline_families: list[rocksdict.ColumnFamily] = []
        # For due(), by shard: hints to be dropped, and from when on there are others, by database.
        self._found: dict[tuple[int, bytes], bytes] = {}  # hints of keys that are about to be deleted
        self._stale: list[list[bytes]] = [[] for _ in range(count)]
        self._due_from_ms: list[dict[int, int]] = [{} for _ in range(count)]
        self._pool = ThreadPoolExecutor(count, "store")
        self._broken: set[int] = set()  # shards that could not be written to
        self.statistics = Statistics(self._families, self._settings.metrics_level)
        self._check_directory(count)
        try:
            self.instances = self._open_all(count)
            for index in range(count):
                self._adopt(index)
            self._meta = self._read_meta()
            self.statistics.read()
        except BaseException:
            self.close()
            raise

    # Opening and closing

    def _check_directory(self, count: int) -> None:
        try:
            os.makedirs(self.path, exist_ok=True)
            there = sum(name.startswith("shard-") for name in os.listdir(self.path))
        except OSError as error:
            raise CannotOpen(f"{error.filename}: {error.strerror}") from error
        if there > count:
            # With fewer than there are some were not begun before a crash, or the record of one says the rest.
            raise CannotOpen(_other_shards(self.path, there, count))

    def _open_all(self, count: int) -> list[Rdict]:
        futures = [self._pool.submit(self._open, index) for index in range(count)]
        failures = [failure for future in futures if (failure := future.exception()) is not None]
        if failures:
            for future in futures:
                if future.exception() is None:
                    future.result().close()
            raise failures[0]
        return [future.result() for future in futures]

    def _open(self, index: int) -> Rdict:
        path = self._shard_path(index)
        options = self._options()
        try:
            return Rdict(path, options, column_families={_DEADLINES: options})
        except Exception as error:
            raise CannotOpen(_why_not_opened(path, str(error))) from error

    def _options(self) -> rocksdict.Options:
        settings, count = self._settings, len(self._edges) - 1
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
        options.create_missing_column_families(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(_COMPRESSIONS[settings.compression]())
        options.set_write_buffer_manager(self._buffers)
        buffer_bytes = max(1 << 20, settings.write_buffer_bytes // count)
        options.set_write_buffer_size(buffer_bytes)
        options.set_max_write_buffer_number(3)
        # A small family that is never flushed would keep the log of what is written to the large one.
        options.set_max_total_wal_size(2 * buffer_bytes)
        options.increase_parallelism(settings.threads)
        options.set_max_background_jobs(max(2, settings.threads))
        options.set_level_compaction_dynamic_level_bytes(True)
        options.set_max_log_file_size(_LOG_BYTES)
        options.set_keep_log_file_num(_LOGS)
        if settings.metrics_level == DEBUG:
            options.enable_statistics()
        return options

    def _adopt(self, index: int) -> None:
        instance = self.instances[index]
        self._deadlines[index:] = [instance.get_column_family(_DEADLINES), *self._deadlines[index + 1 :]]
        self._deadline_families[index:] = [
            instance.get_column_family_handle(_DEADLINES),
            *self._deadline_families[index + 1 :],
        ]

    def close(self) -> None:
        """Sync and close; raises nothing: what is not synced was said by sync()."""
        self.statistics.close()
        self._pool.shutdown()
        self._deadline_families = []
        for family in self._deadlines:
            family.close()
        self._deadlines = []
        for instance in self.instances:
            instance.close()
        self.instances = []

    def _families(self) -> list[list[Rdict]]:
        return [list(families) for families in zip(self.instances, self._deadlines, strict=True)]

    # Meta

    def _read_meta(self) -> list[_Meta]:
        metas: list[_Meta] = []
        count = len(self.instances)
        for index, instance in enumerate(self.instances):
            try:
                data = self._read(instance.get, _META)
            except StorageFault as error:
                raise CannotOpen(_why_not_opened(self._shard_path(index), error.reason)) from error
            if data is None:
                metas.append(_Meta())
                continue
            meta, shards, version = _Meta.decode(data)
            if version != _FORMAT:
                raise CannotOpen(f"{self._shard_path(index)}: is of format {version}, and this server reads {_FORMAT}")
            if shards != count:
                raise CannotOpen(_other_shards(self.path, shards, count))
            metas.append(meta)
        # Whatever has come last counts for all of them.
        last = max(metas, key=lambda meta: meta.generation)
        for meta in metas:
            meta.databases, meta.next_id = dict(last.databases), last.next_id
        self.generation = last.generation
        self.next_id = last.next_id
        self.databases = dict(last.databases)
        return metas

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
        slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
        place = _PLACE.pack(id, slot, zlib.crc32(key)) + key
        record: bytes | None = self._read(self.instances[self._shard_by_run[slot >> RUN_BITS]].get, place)
        return record

    def get_many(self, keys: Sequence[tuple[int, bytes]]) -> list[bytes | None]:
        """As get() for pairs of an id and a key."""
        places: dict[int, tuple[list[int], list[bytes]]] = {}
        for number, (id, key) in enumerate(keys):
            slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
            numbers, wanted = places.setdefault(self._shard_by_run[slot >> RUN_BITS], ([], []))
            numbers.append(number)
            wanted.append(_PLACE.pack(id, slot, zlib.crc32(key)) + key)
        records: list[bytes | None] = [None] * len(keys)
        for shard, (numbers, wanted) in places.items():
            found = self._read(self.instances[shard].get, wanted)
            for number, record in zip(numbers, found, strict=True):
                records[number] = record
        return records

    def may_exist(self, id: int, key: bytes) -> bool:
        """False where a key is not there for sure, as far as that can be told without the disk."""
        slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
        instance = self.instances[self._shard_by_run[slot >> RUN_BITS]]
        return bool(instance.key_may_exist(_PLACE.pack(id, slot, zlib.crc32(key)) + key))

    def scan(self, id: int, position: int, count: int, now_ms: int) -> tuple[list[bytes], int]:
        """About so many keys from a position on, in the order of their positions, and the position to go on with.

        Keys of the same position come together; POSITION_END when there are no more.  Left out are those whose time was
        over by now_ms.  Raises StorageFault.
        """
        keys: list[bytes] = []
        while position < POSITION_END:
            shard = self._shard_by_run[position >> 32 + RUN_BITS]
            prefix = _ID.pack(id)
            instance = self.instances[shard]
            start = _PLACE.pack(id, position >> 32, position & 0xFFFFFFFF)
            walk: Iterable[Any] = instance.keys(from_key=start)
            if self._meta[shard].counts.get(id, _NOTHING)[1]:
                walk = _scan_alive(instance, start, prefix, now_ms)
            following: int | None = self._read(_take, walk, prefix, count, keys)
            if following is not None:
                return keys, following
            position = self._edges[shard + 1] << 32
        return keys, POSITION_END

    def due(self, id: int, now_ms: int, count: int) -> list[bytes]:
        """Keys whose deadlines are over, about so many at most; raises StorageFault.  For the thread that writes.

        Where a record says otherwise by now the hint is dropped, by the next batch.
        """
        found: list[bytes] = []
        self._found = {place: hint for place, hint in self._found.items() if place[0] != id}
        for shard, family in enumerate(self._deadlines):
            # What is before it was dropped, and RocksDB would wade through that again and again.
            start = _DEADLINE.pack(id, self._due_from_ms[shard].get(id, 0))
            stop = _DEADLINE.pack(id, now_ms + 1)
            hints = self._read(_hints, family, start, stop, count)
            records = self.get_many([(id, hint[_DEADLINE.size :]) for hint in hints])
            first_ms = now_ms + 1
            for hint, record in zip(hints, records, strict=True):
                if record is not None and record[:8] == hint[4 : _DEADLINE.size]:
                    found.append(hint[_DEADLINE.size :])
                    self._found[id, hint[_DEADLINE.size :]] = hint
                    first_ms = min(first_ms, _TIME.unpack_from(record)[0])
                else:
                    self._stale[shard].append(hint)
            if len(hints) >= count:
                first_ms = min(first_ms, _TIME.unpack_from(hints[-1], 4)[0])
            self._due_from_ms[shard][id] = first_ms
        return found

    def _read(self, deed: Callable[..., Any], *arguments: Any) -> Any:
        """RocksDB's faults are bare exceptions that only their texts tell apart."""
        try:
            return deed(*arguments)
        except Exception as error:
            raise StorageFault(str(error)) from error

    # Writing

    def batch(
        self,
        changes: Iterable[Changes],
        databases: Mapping[int, int] | None = None,
        extras: Mapping[str, bytes] | None = None,
    ) -> Batch:
        """Make ready to be written what has changed.

        `databases` is which database has which id, if that has changed: what has none any more is deleted.  `extras` is
        what else is to be kept: see extra().
        """
        count = len(self.instances)
        batches = [WriteBatch(raw_mode=True) for _ in range(count)]
        metas = [_Meta(0, {}, 0, {id: list(numbers) for id, numbers in meta.counts.items()}) for meta in self._meta]
        if databases is not None:
            self.databases = dict(databases)
            self._forget_others(batches, metas)
        for shard, hints in enumerate(self._stale):
            for hint in hints:
                batches[shard].delete(hint, self._deadline_families[shard])
            hints.clear()
        for part in changes:
            self._put(part, batches, metas)
        for name, data in (extras or {}).items():
            batches[0].put(_META_ID + name.encode(), data)
        self.generation += 1
        parts = []
        is_for_all = databases is not None or self.generation == 1
        for shard, (batch, meta) in enumerate(zip(batches, metas, strict=True)):
            # Which database is which is to be known by all shards at once.
            if is_for_all or batch.len():
                meta.generation, meta.databases, meta.next_id = self.generation, dict(self.databases), self.next_id
                batch.put(_META, meta.encode(count, shard))
                parts.append((shard, batch, meta))
        return Batch(self, parts)

    def _put(self, changes: Changes, batches: list[WriteBatch], metas: list[_Meta]) -> None:
        id, families, pack = changes.id, self._deadline_families, _PLACE.pack
        counts = [meta.counts.setdefault(id, [0, 0]) for meta in metas]
        for key, record, was in changes.items:
            slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
            shard = self._shard_by_run[slot >> RUN_BITS]
            place = pack(id, slot, zlib.crc32(key)) + key
            if record is None:
                batches[shard].delete(place)
                if self._found and (hint := self._found.pop((id, key), None)) is not None:
                    batches[shard].delete(hint, families[shard])
                counts[shard][0] -= was != ABSENT
                counts[shard][1] -= was == VOLATILE
                continue
            batches[shard].put(place, record)
            counts[shard][0] += was == ABSENT
            counts[shard][1] -= was == VOLATILE
            if not record.startswith(_NO_DEADLINE):
                counts[shard][1] += 1
                hint = _ID.pack(id) + record[:8] + key
                batches[shard].put(hint, b"", families[shard])
                due_from_ms = self._due_from_ms[shard]
                due_from_ms[id] = min(due_from_ms.get(id, 0), _TIME.unpack_from(record)[0])

    def _forget_others(self, batches: list[WriteBatch], metas: list[_Meta]) -> None:
        """Delete databases that have no number any more."""
        kept = set(self.databases.values())
        for shard, (batch, meta) in enumerate(zip(batches, metas, strict=True)):
            for id in [id for id in meta.counts if id not in kept]:
                del meta.counts[id]
                start, stop = _ID.pack(id), _ID.pack(id + 1)
                batch.delete_range(start, stop)
                batch.delete_range(start, stop, self._deadline_families[shard])
                self._due_from_ms[shard].pop(id, None)

    def reopen_broken(self) -> None:
        """Open anew what does not write any more since something has failed; raises CannotOpen."""
        for index in sorted(self._broken):
            self._deadlines[index].close()
            self.instances[index].close()
            self.instances[index] = self._open(index)
            self._adopt(index)
            self._broken.discard(index)

    def commit(self, parts: "list[tuple[int, WriteBatch, _Meta]]", sync: bool) -> None:
        """For Batch: write parts, and take each that is written out of the list."""
        futures = [self._pool.submit(self._commit, shard, batch, sync) if sync else None for shard, batch, _ in parts]
        fault: StorageFault | None = None
        for part, future in zip(parts[:], futures, strict=True):
            try:
                if future is None:
                    self._commit(part[0], part[1], sync)
                else:
                    future.result()
            except StorageFault as error:
                self._broken.add(part[0])
                fault = fault or error
                continue
            parts.remove(part)
            self._meta[part[0]] = part[2]
        if fault is not None:
            raise fault

    def _commit(self, shard: int, batch: WriteBatch, sync: bool) -> None:
        self._read(self.instances[shard].write, batch, *([self._sync] if sync else []))

    def sync(self) -> None:
        """Have all that was written on the disk; raises StorageFault."""
        for future in [self._pool.submit(self._read, instance.flush_wal, True) for instance in self.instances]:
            future.result()

    def extra(self, name: str) -> bytes | None:
        """What else was kept, by name; raises StorageFault."""
        data: bytes | None = self._read(self.instances[0].get, _META_ID + name.encode())
        return data

    def checkpoint(self, path: str) -> None:
        """Have another directory, which must not be there, with all that was written; files are shared by links.

        Raises StorageFault and OSError.
        """
        os.makedirs(path)
        for instance in self.instances:
            target = os.path.join(path, os.path.basename(instance.path()))
            self._read(_checkpoint, instance, target)

    def reclaim(self, id: int) -> None:
        """Give back the room of a database that is gone: takes as long as it takes."""
        for instance in self.instances:
            self._read(instance.compact_range, _ID.pack(id), _ID.pack(id + 1))

    def _shard_path(self, index: int) -> str:
        return os.path.join(self.path, f"shard-{index}")


def _take(places: Iterable[Any], prefix: bytes, count: int, keys: list[bytes]) -> int | None:
    """Add keys to a list that is to have so many; returns the position to go on with if that was before the end."""
    last = b""
    for place in places:
        if not place.startswith(prefix):
            break
        if len(keys) >= count and place[4:10] != last:
            _, slot, hashed = _PLACE.unpack_from(place)
            return int(slot) << 32 | int(hashed)
        last = place[4:10]
        keys.append(place[10:])
    return None


def _scan_alive(instance: Rdict, start: bytes, prefix: bytes, now_ms: int) -> Iterator[bytes]:
    place: Any
    for place, record in instance.items(from_key=start):
        if not 0 < deadline_of(record) <= now_ms or not place.startswith(prefix):
            yield place


def _hints(family: Rdict, start: bytes, stop: bytes, count: int) -> list[bytes]:
    hints: list[bytes] = []
    hint: Any
    for hint in family.keys(from_key=start):
        if hint >= stop or len(hints) >= count:
            break
        hints.append(hint)
    return hints


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
    return f"{path}: cannot be opened: {reason}"
