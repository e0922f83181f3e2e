"""What two instances may tell of themselves, for tests that need no RocksDB."""

from dataclasses import replace

from kora.engine.engine import Engine
from kora.engine.storage import StorageView
from kora.observe.storage import COMPACTIONS, DEBUG, FLUSHES, HISTOGRAMS, PROPERTIES, TICKERS, Reading, Storage, merged

ONE = Reading(
    {
        "bytes.written": 1_000,
        "bytes.read": 100,
        "number.multiget.bytes.read": 11,
        "flush.write.bytes": 600,
        "compact.write.bytes": 400,
        "memtable.hit": 30,
        "memtable.miss": 10,
        "block.cache.data.hit": 1,
        "block.cache.data.miss": 0,
        "number.keys.read": 1,
        "stall.micros": 5_000,
        "no.file.errors": 2,
    },
    {FLUSHES: [2, 3_000, 1_000, 2_000, 1_500, 1_900, 2_000], COMPACTIONS: [0, 0, -1, 0, 0, 0, 0]},
    {"num-immutable-mem-table": 1, "block-cache-capacity": 8_000, "block-cache-usage": 500, "total-sst-files-size": 90},
    [[4, 400], [1, 100]],
    {"memtable-limit-stops": 1},
    {"memtables": 5_000},
    10,
)
OTHER = Reading(
    {
        "bytes.written": 3_000,
        "bytes.read": 200,
        "number.multiget.bytes.read": 22,
        "flush.write.bytes": 1_400,
        "compact.write.bytes": 1_600,
        "memtable.hit": 0,
        "memtable.miss": 20,
        "block.cache.data.hit": 1,
        "block.cache.data.miss": 2,
        "number.keys.multiget": 0,
        "number.keys.read": 1,
        "stall.micros": 1_000,
        "no.file.errors": 1,
    },
    {FLUSHES: [1, 9_000, 9_000, 9_000, 9_000, 9_000, 9_000], COMPACTIONS: [1, 50, 50, 50, 50, 50, 50]},
    {"num-immutable-mem-table": 2, "block-cache-capacity": 8_000, "block-cache-usage": 500, "total-sst-files-size": 60},
    [[1, 50], [0, 0], [2, 700]],
    {"memtable-limit-stops": 2, "l0-file-count-limit-delays": 7},
    {"memtables": 900, "level0-files": 100},
    4,
)

# Of everything that there is, something.
FULL = Reading(
    {source: 8 for row in TICKERS for source in row.sources} | {"stall.micros": 1_500_000},
    {row.source: [2, 3_000_000, 1_000_000, 2_000_000, 1_500_000, 1_900_000, 2_000_000] for row in HISTOGRAMS},
    {row.source: 16 for row in PROPERTIES},
    [[4, 400], [0, 0], [1, 100]],
    {"memtable-limit-stops": 1},
    {"memtables": 1_500_000},
    10,
)
COUNTED = {
    "hits": 30, "misses": 10, "absent": 1, "cold_fetches": 8, "sync_fetches": 1, "dropped": 5, "resident_keys": 7,
    "resident_bytes": 700, "dirty_keys": 2, "dirty_bytes": 200, "capacity_bytes": 1_000, "commits": 3,
    "commit_ns": 2_000_000_000, "committed_keys": 9, "committed_bytes": 900, "commit_errors": 0, "log_bytes": 1_100,
    "log_syncs": 2, "log_sync_ns": 1_000_000,
}  # fmt: skip


class FakeStatistics:
    def __init__(self, reading: Reading) -> None:
        self.refreshed = 0
        self.latest = Storage(DEBUG, reading, 60_000_000_000, reading.tickers, 250_000_000, {})

    def refresh(self) -> None:
        self.refreshed += 1

    def tell(self, *readings: Reading) -> None:
        self.latest = replace(self.latest, reading=merged(readings, shares_cache=True))


def attach(engine: Engine, reading: Reading = FULL) -> tuple[FakeStatistics, dict[str, int]]:
    """Have a server show such numbers; they can be changed."""
    statistics, counted = FakeStatistics(reading), dict(COUNTED)
    engine.storage = StorageView(statistics, lambda: counted)
    return statistics, counted
