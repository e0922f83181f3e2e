"""What RocksDB tells of itself, as tables: what is read, how it adds up over shards, and what it is called.

Kora has one RocksDB instance a shard, and shows them as one store, as KIP-471 and KIP-607 do with the segments of
theirs: what counts adds up, the least and the most are those of all instances, an average is the sum of their sums over
the sum of their counts, and a hit ratio all hits over all look-ups.  Where there is nothing to divide by there is no
number, rather than 0.  Ratios and rates are of the last minute, the KIPs' own period; only INFO shows them, and what
watches over time takes the counters.  The one label `store` is there for the day on which there are several: all
databases are in the same instances and files, which cannot tell them apart.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

STORE: Final = "data"
WINDOW_NS: Final = 60_000_000_000

INFO: Final = "info"
DEBUG: Final = "debug"
LEVELS: Final = (INFO, DEBUG)  # of storage-metrics-level: properties alone, or statistics as well


@dataclass(frozen=True)
class Ticker:
    """A counter of RocksDB's statistics."""

    sources: tuple[str, ...]  # what is added up, by RocksDB's names
    family: str  # kora_storage_…
    help: str
    labels: tuple[str, ...] = ()  # values of TICKER_LABELS of that family
    unit: str = ""


@dataclass(frozen=True)
class Times:
    """A histogram of RocksDB's statistics, in microseconds."""

    source: str
    family: str
    help: str


@dataclass(frozen=True)
class Property:
    """A number that RocksDB has at any time, at no cost."""

    source: str
    family: str
    help: str
    unit: str = ""
    scope: str = "families"  # of column families, which add up; of an instance, whichever is asked; or of the cache
    kind: str = "gauge"


# fmt: off
TICKERS: Final = (
    Ticker(("bytes.written",), "written_bytes_total", "Bytes of keys and values that were written.", unit="bytes"),
    # What is read by several keys at once, as most of it is, RocksDB counts apart.
    Ticker(("bytes.read", "number.multiget.bytes.read"), "read_bytes_total", "Bytes of values that were read.",
           unit="bytes"),
    Ticker(("number.keys.written",), "keys_written_total", "Keys that were written."),
    Ticker(("number.keys.read", "number.multiget.keys.read"), "keys_read_total", "Keys that were asked for."),
    Ticker(("flush.write.bytes",), "flushed_bytes_total", "Bytes written to files from memory.", unit="bytes"),
    Ticker(("compact.read.bytes",), "compaction_read_bytes_total", "Bytes that compactions read.", unit="bytes"),
    Ticker(("compact.write.bytes",), "compaction_written_bytes_total", "Bytes that compactions wrote.", unit="bytes"),
    Ticker(("memtable.hit",), "memtable_hits_total", "Keys that were found in memory, before they were in files."),
    Ticker(("memtable.miss",), "memtable_misses_total", "Keys that were looked for in files."),
    Ticker(("block.cache.data.hit",), "block_cache_hits_total", "Blocks that the cache had.", ("data",)),
    Ticker(("block.cache.index.hit",), "block_cache_hits_total", "", ("index",)),
    Ticker(("block.cache.filter.hit",), "block_cache_hits_total", "", ("filter",)),
    Ticker(("block.cache.data.miss",), "block_cache_misses_total", "Blocks that were read from files.", ("data",)),
    Ticker(("block.cache.index.miss",), "block_cache_misses_total", "", ("index",)),
    Ticker(("block.cache.filter.miss",), "block_cache_misses_total", "", ("filter",)),
    Ticker(("bloom.filter.useful",), "bloom_filter_useful_total", "Files not read, since a filter said so."),
    Ticker(("bloom.filter.full.positive",), "bloom_filter_positives_total", "Files read, since no filter said no."),
    Ticker(("bloom.filter.full.true.positive",), "bloom_filter_true_positives_total",
           "Files read, since no filter said no, that had the key."),
    Ticker(("l0.hit",), "level_hits_total", "Keys by the level whose files had them.", ("0",)),
    Ticker(("l1.hit",), "level_hits_total", "", ("1",)),
    Ticker(("l2andup.hit",), "level_hits_total", "", ("2+",)),
    Ticker(("no.file.opens",), "file_opens_total", "Files that were opened."),
    Ticker(("no.file.errors",), "file_errors_total", "Files that could not be opened or read."),
    Ticker(("block.checksum.mismatch.count", "footer.corruption.count"), "corruptions_total",
           "Blocks that were read and were not what had been written."),
)
TICKER_LABELS: Final = {
    "block_cache_hits_total": ("kind",), "block_cache_misses_total": ("kind",), "level_hits_total": ("level",),
}
STALL_MICROS: Final = "stall.micros"
FLUSHES: Final = "db.flush.micros"
COMPACTIONS: Final = "compaction.times.micros"
HISTOGRAMS: Final = (
    Times(FLUSHES, "flush_duration_seconds", "How long it took to write what is in memory to a file."),
    Times(COMPACTIONS, "compaction_duration_seconds", "How long compactions took."),
    Times("db.write.stall", "write_stall_duration_seconds", "How long writes were held up each time."),
    Times("db.get.micros", "get_duration_seconds", "How long it took to read a key."),
    Times("db.multiget.micros", "multi_get_duration_seconds", "How long it took to read several keys at once."),
    Times("db.write.micros", "write_duration_seconds", "How long writes took, each of many keys."),
    Times("sst.read.micros", "file_read_duration_seconds", "How long reads from files took."),
)
PROPERTIES: Final = (
    Property("num-immutable-mem-table", "immutable_memtables", "Memtables that wait for their flush."),
    Property("cur-size-active-mem-table", "active_memtable_bytes", "Memtables that are written to.", "bytes"),
    Property("cur-size-all-mem-tables", "unflushed_memtable_bytes", "Memtables that are not in files yet.", "bytes"),
    Property("size-all-mem-tables", "memtable_bytes", "All memtables, also those that readers still hold.", "bytes"),
    Property("num-entries-active-mem-table", "active_memtable_entries", "Entries of the memtables written to."),
    Property("num-entries-imm-mem-tables", "immutable_memtable_entries", "Entries that wait for their flush."),
    Property("num-deletes-active-mem-table", "active_memtable_deletes", "Deletions in memtables that are written to."),
    Property("num-deletes-imm-mem-tables", "immutable_memtable_deletes", "Deletions that wait for their flush."),
    Property("mem-table-flush-pending", "flushes_pending", "Column families of shards in which a flush is due."),
    Property("num-running-flushes", "running_flushes", "Flushes that run.", scope="instance"),
    Property("compaction-pending", "compactions_pending", "Column families of shards in which a compaction is due."),
    Property("num-running-compactions", "running_compactions", "Compactions that run.", scope="instance"),
    Property("estimate-pending-compaction-bytes", "pending_compaction_bytes",
             "Bytes to be compacted until each level has its size again, estimated.", "bytes"),
    Property("total-sst-files-size", "file_bytes", "All data files, also those that only readers still need.", "bytes"),
    Property("live-sst-files-size", "live_file_bytes", "Data files that are current.", "bytes"),
    Property("estimate-live-data-size", "live_data_bytes", "What is not overwritten in current files, estimated.",
             "bytes"),
    Property("num-live-versions", "live_versions", "Sets of files that are in use: more where readers take long."),
    Property("estimate-num-keys", "estimated_keys", "Entries, estimated; kora_keys_total has the exact number of keys.",
             ),
    Property("estimate-table-readers-mem", "table_reader_bytes",
             "Memory for indexes and filters that are not in the block cache.", "bytes"),
    Property("background-errors", "background_errors_total", "Flushes and compactions that failed.", scope="instance",
             kind="counter"),
    Property("block-cache-capacity", "block_cache_capacity_bytes", "What the block cache may take.", "bytes", "cache"),
    Property("block-cache-usage", "block_cache_bytes", "What the block cache takes.", "bytes", "cache"),
    Property("block-cache-pinned-usage", "block_cache_pinned_bytes", "Of the block cache, what readers hold.",
             "bytes", "cache"),
    Property("is-write-stopped", "writes_stopped", "Shards that write nothing until a flush or compaction is done.",
             scope="instance"),
    Property("actual-delayed-write-rate", "delayed_write_bytes_per_second",
             "What is written at most per second, added up over the shards that are held back.", scope="instance"),
)
# Why writes are held up: RocksDB's names of its counts, the cause, and whether they go on slowly or not at all.
STALLS: Final = (
    ("memtable-limit-delays", "memtables", "slowdown"),
    ("memtable-limit-stops", "memtables", "stop"),
    ("l0-file-count-limit-delays", "level0-files", "slowdown"),
    ("l0-file-count-limit-stops", "level0-files", "stop"),
    ("pending-compaction-bytes-delays", "pending-compaction", "slowdown"),
    ("pending-compaction-bytes-stops", "pending-compaction", "stop"),
    ("write-buffer-manager-limit-stops", "write-buffer-manager", "stop"),
)
# fmt: on


@dataclass(frozen=True)
class Number:
    """Something that Kora itself counts above RocksDB."""

    name: str
    family: str
    help: str
    unit: str = ""
    kind: str = "counter"


# fmt: off
CACHE: Final = (
    Number("hits", "cache_hits_total", "Keys that were looked for and were in memory, or known not to exist."),
    Number("misses", "cache_misses_total", "Keys that RocksDB had to be asked for."),
    Number("absent", "cache_absent_total", "Keys that filters in memory said do not exist."),
    Number("cold_fetches", "cache_cold_fetches_total", "Keys that were fetched beside the loop, while their clients "
           "waited."),
    Number("sync_fetches", "cache_sync_fetches_total", "Keys that were read on the loop, while everybody waited."),
    Number("dropped", "cache_dropped_total", "Values that had to leave memory, to be read again when they are needed."),
    Number("resident_keys", "cache_keys", "Keys that are in memory.", kind="gauge"),
    Number("resident_bytes", "cache_bytes", "Bytes that keys in memory and their values take.", "bytes", "gauge"),
    Number("dirty_keys", "cache_dirty_keys", "Keys in memory that wait to be written to RocksDB.", kind="gauge"),
    Number("dirty_bytes", "cache_dirty_bytes", "Bytes of what waits to be written.", "bytes", "gauge"),
    Number("capacity_bytes", "cache_capacity_bytes", "What keys in memory may take: rocksdb-cache-bytes.", "bytes",
           "gauge"),
)
COMMITS: Final = (
    Number("commits", "commits_total", "Batches of changes that were written to RocksDB."),
    Number("commit_ns", "commit_seconds_total", "How long writing batches took, beside the loop.", "seconds"),
    Number("committed_keys", "committed_keys_total", "Keys that were written in batches."),
    Number("committed_bytes", "committed_bytes_total", "Bytes that were written in batches.", "bytes"),
    Number("commit_errors", "commit_errors_total", "Batches that could not be written."),
    # Its own log stands for RocksDB's, so that all shards have one.
    Number("log_bytes", "log_bytes_total", "Bytes written to the log of batches.", "bytes"),
    Number("log_syncs", "log_syncs_total", "Times that the log was synced."),
    Number("log_sync_ns", "log_sync_seconds_total", "How long syncs of the log took.", "seconds"),
    Number("large_values", "large_values_written_total", "Values beyond rocksdb-large-value-bytes that were written, "
           "each as a whole."),
    Number("large_bytes", "large_values_written_bytes_total", "Bytes of values beyond "
           "rocksdb-large-value-bytes that were written.", "bytes"),
)
# fmt: on
OTHER_CAUSE: Final = "other"  # writes were held up, and RocksDB counted no cause
CAUSES: Final = (*dict.fromkeys(cause for _, cause, _ in STALLS), OTHER_CAUSE)

# Where a histogram's numbers are, in a row: how many, their sum, the least (or -1: not known), the most, and quantiles.
COUNT, SUM, LEAST, MOST = range(4)
QUANTILES: Final = {"0.5": 4, "0.95": 5, "0.99": 6}


@dataclass
class Reading:
    """What one instance tells, or several together; by RocksDB's names without its `rocksdb.`, all of it since open."""

    tickers: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, list[float]] = field(default_factory=dict)
    properties: dict[str, int] = field(default_factory=dict)
    levels: list[list[int]] = field(default_factory=list)  # [files, bytes] by level
    stalls: dict[str, int] = field(default_factory=dict)  # by RocksDB's names of STALLS
    stall_us: dict[str, int] = field(default_factory=dict)  # by cause
    open_files: int = 0

    def to_plain(self) -> list[Any]:
        return [getattr(self, part.name) for part in fields(self)]


def merged(readings: Sequence[Reading], shares_cache: bool) -> Reading:
    """Several instances as one; a block cache that they share is counted once."""
    total = Reading(open_files=sum(reading.open_files for reading in readings))
    for reading in readings:
        _add(total.tickers, reading.tickers)
        _add(total.properties, reading.properties)
        _add(total.stalls, reading.stalls)
        _add(total.stall_us, reading.stall_us)
        for name, row in reading.histograms.items():
            total.histograms[name] = _joined(total.histograms[name], row) if name in total.histograms else list(row)
        for level, (files, size_bytes) in enumerate(reading.levels):
            if level == len(total.levels):
                total.levels.append([0, 0])
            total.levels[level][0] += files
            total.levels[level][1] += size_bytes
    if shares_cache and readings:
        first = readings[0].properties
        total.properties |= {
            row.source: first[row.source] for row in PROPERTIES if row.scope == "cache" and row.source in first
        }
    return total


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _joined(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Quantiles are those of the slower one: what they are of both cannot be told."""
    if not one[COUNT] or not other[COUNT]:
        return list(one if one[COUNT] else other)
    least = -1.0 if min(one[LEAST], other[LEAST]) < 0 else min(one[LEAST], other[LEAST])
    return [one[COUNT] + other[COUNT], one[SUM] + other[SUM], least, *map(max, one[MOST:], other[MOST:])]


class Window:
    """The last minute: how far tickers have grown."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, dict[str, int]]] = deque()

    def add(self, now_ns: int, tickers: dict[str, int]) -> tuple[int, dict[str, int]]:
        """Returns since how many ns, and what has grown since then."""
        self._kept.append((now_ns, tickers))
        while len(self._kept) > 2 and now_ns - self._kept[1][0] >= WINDOW_NS:
            self._kept.popleft()
        then_ns, before = self._kept[0]
        return now_ns - then_ns, {name: count - before.get(name, 0) for name, count in tickers.items()}


@dataclass
class Storage:
    """Snapshot.storage: what the engine under the keys tells, as plain data."""

    level: str
    reading: Reading
    window_ns: int  # 0: this was the first reading
    grown: dict[str, int]  # tickers, in that time
    read_ns: int  # of a processor, that reading all of this has taken so far, in a thread beside the loop
    counted: dict[str, int]  # by names of CACHE and COMMITS

    def to_plain(self) -> list[Any]:
        return [self.level, self.reading.to_plain(), self.window_ns, self.grown, self.read_ns, self.counted]

    @classmethod
    def from_plain(cls, values: Sequence[Any]) -> "Storage":
        level, reading, *rest = values
        return cls(level, Reading(*reading), *rest)

    def ticker(self, name: str) -> int | None:
        return self.reading.tickers.get(name)

    @property
    def write_amplification(self) -> float | None:
        """Bytes that flushes and compactions wrote, for each that was written; as RocksDB does, without the log."""
        tickers = self.reading.tickers
        return divided(
            tickers.get("flush.write.bytes", 0) + tickers.get("compact.write.bytes", 0),
            tickers.get("bytes.written", 0),
        )

    @property
    def read_amplification(self) -> float | None:
        """Data blocks that were looked at, in the cache or in files, for each key that was asked for."""
        tickers = self.reading.tickers
        return divided(
            tickers.get("block.cache.data.hit", 0) + tickers.get("block.cache.data.miss", 0),
            tickers.get("number.keys.read", 0) + tickers.get("number.multiget.keys.read", 0),
        )

    @property
    def space_amplification(self) -> float | None:
        """Bytes of files, for each that is not overwritten or deleted."""
        properties = self.reading.properties
        return divided(properties.get("total-sst-files-size", 0), properties.get("estimate-live-data-size", 0))


def divided(number: float, by: float) -> float | None:
    return number / by if by else None


# The KIPs' metrics, by their names.  Times are in ms, as theirs are.

Rule = Callable[[Storage], "float | None"]


def rate(*tickers: str) -> Rule:
    """What they have grown by, over the time of the sample."""
    return lambda storage: divided(1e9 * sum(storage.grown.get(name, 0) for name in tickers), storage.window_ns)


def sum_of(*tickers: str) -> Rule:
    return lambda storage: sum(storage.reading.tickers.get(name, 0) for name in tickers)


def ratio(hits: str, misses: str) -> Rule:
    def read(storage: Storage) -> float | None:
        found = storage.grown.get(hits, 0)
        return divided(found, found + storage.grown.get(misses, 0))

    return read


def average_ms(histogram: str) -> Rule:
    def read(storage: Storage) -> float | None:
        row = storage.reading.histograms.get(histogram)
        return None if row is None else divided(row[SUM] / 1e3, row[COUNT])

    return read


def least_ms(histogram: str) -> Rule:
    def read(storage: Storage) -> float | None:
        row = storage.reading.histograms.get(histogram)
        return None if row is None or not row[COUNT] or row[LEAST] < 0 else row[LEAST] / 1e3

    return read


def most_ms(histogram: str) -> Rule:
    def read(storage: Storage) -> float | None:
        row = storage.reading.histograms.get(histogram)
        return None if row is None or not row[COUNT] else row[MOST] / 1e3

    return read


def sum_ms(ticker: str) -> Rule:
    return lambda storage: storage.reading.tickers.get(ticker, 0) / 1e3


def _property(name: str) -> Rule:
    return lambda storage: storage.reading.properties.get(name)


_BYTES_READ: Final = ("bytes.read", "number.multiget.bytes.read")
# KIP-471, of level debug.
STATISTICS: Final[dict[str, Rule]] = {
    "bytes-written-rate": rate("bytes.written"),
    "bytes-written-total": sum_of("bytes.written"),
    "bytes-read-rate": rate(*_BYTES_READ),
    "bytes-read-total": sum_of(*_BYTES_READ),
    "memtable-bytes-flushed-rate": rate("flush.write.bytes"),
    "memtable-bytes-flushed-total": sum_of("flush.write.bytes"),
    "memtable-flush-time-avg": average_ms(FLUSHES),
    "memtable-flush-time-min": least_ms(FLUSHES),
    "memtable-flush-time-max": most_ms(FLUSHES),
    "memtable-hit-ratio": ratio("memtable.hit", "memtable.miss"),
    "block-cache-data-hit-ratio": ratio("block.cache.data.hit", "block.cache.data.miss"),
    "block-cache-index-hit-ratio": ratio("block.cache.index.hit", "block.cache.index.miss"),
    "block-cache-filter-hit-ratio": ratio("block.cache.filter.hit", "block.cache.filter.miss"),
    "bytes-read-compaction-rate": rate("compact.read.bytes"),
    "bytes-written-compaction-rate": rate("compact.write.bytes"),
    "compaction-time-avg": average_ms(COMPACTIONS),
    "compaction-time-min": least_ms(COMPACTIONS),
    "compaction-time-max": most_ms(COMPACTIONS),
    "write-stall-duration-avg": average_ms("db.write.stall"),
    "write-stall-duration-total": sum_ms(STALL_MICROS),
    "number-open-files": lambda storage: storage.reading.open_files,
    "number-file-errors-total": sum_of("no.file.errors"),
}
# KIP-607, of level info.
GAUGES: Final[dict[str, Rule]] = {row.source: _property(row.source) for row in PROPERTIES}


def kip_metrics(storage: Storage) -> Iterator[tuple[str, float]]:
    """Those that there are, by name."""
    rules = {**STATISTICS, **GAUGES} if storage.level == DEBUG else GAUGES
    for name, read in rules.items():
        value = read(storage)
        if value is not None:
            yield name, value


def statistics_of(text: str, wanted: Iterable[str]) -> dict[str, list[str]]:
    """Lines of RocksDB's dump of its statistics, by name and cut into words."""
    names = frozenset(wanted)
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        name = name.removeprefix("rocksdb.")
        if name in names:
            found[name] = rest.split()
    return found
