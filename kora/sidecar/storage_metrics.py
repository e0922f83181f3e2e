"""kora_storage_*: what the engine under the keys tells, where there is one; kora/observe/storage.py has the tables."""

from collections.abc import Callable
from typing import Final

from kora.observe.storage import (
    CACHE,
    COMMITS,
    COUNT,
    HISTOGRAMS,
    LEAST,
    MOST,
    PROPERTIES,
    QUANTILES,
    STALLS,
    STORE,
    SUM,
    TICKER_LABELS,
    TICKERS,
    Number,
    Property,
    Storage,
    Times,
)
from kora.sidecar.exposition import Family, Read, Rows, Summary, Value, View

_PREFIX: Final = "kora_storage_"


def _of_storage(read: Callable[[Storage], "Rows | Value | None"]) -> Read:
    def of_view(view: View) -> "Rows | Value | None":
        storage = view.snapshot.stored if view.snapshot is not None else None
        found = read(storage) if storage is not None else None
        if isinstance(found, (int, float, Summary)):
            return (((STORE,), found),)
        return found

    return of_view


def _family(
    name: str,
    kind: str,
    unit: str,
    text: str,
    read: Callable[[Storage], "Rows | Value | None"],
    labels: tuple[str, ...] = (),
) -> Family:
    return Family(_PREFIX + name, kind, unit, text, _of_storage(read), ("store", *labels), is_optional=True)


def _tickers(name: str) -> Callable[[Storage], Rows]:
    rows = [row for row in TICKERS if row.family == name]

    def read(storage: Storage) -> Rows:
        tickers = storage.reading.tickers
        for row in rows:
            if tickers:
                yield (STORE, *row.labels), sum(tickers.get(source, 0) for source in row.sources)

    return read


def _property(row: Property) -> Family:
    return _family(row.family, row.kind, row.unit, row.help, lambda storage: storage.reading.properties.get(row.source))


def _number(row: Number) -> Family:
    def read(storage: Storage) -> "Value | None":
        number = storage.counted.get(row.name)
        return None if number is None else number / 1e9 if row.unit == "seconds" else number

    return _family(row.family, row.kind, row.unit, row.help, read)


def _times(row: Times) -> list[Family]:
    """How long something took, and by itself the least and the most, which a summary has no place for."""

    def summary(storage: Storage) -> "Value | None":
        found = storage.reading.histograms.get(row.source)
        if found is None:
            return None
        quantiles = {name: found[place] / 1e6 for name, place in QUANTILES.items()} if found[COUNT] else {}
        return Summary(quantiles, int(found[COUNT]), found[SUM] / 1e6)

    def least(storage: Storage) -> "Value | None":
        found = storage.reading.histograms.get(row.source)
        return found[LEAST] / 1e6 if found is not None and found[COUNT] and found[LEAST] >= 0 else None

    def most(storage: Storage) -> "Value | None":
        found = storage.reading.histograms.get(row.source)
        return found[MOST] / 1e6 if found is not None and found[COUNT] else None

    name = row.family.removesuffix("_seconds")
    return [
        _family(
            row.family,
            "summary",
            "seconds",
            f"{row.help} Quantiles are those of the slowest shard since start.",
            summary,
        ),
        _family(f"{name}_min_seconds", "gauge", "seconds", f"{row.help} The shortest, since start.", least),
        _family(f"{name}_max_seconds", "gauge", "seconds", f"{row.help} The longest, since start.", most),
    ]


def _level(column: int) -> Callable[[Storage], Rows]:
    return lambda storage: [((STORE, str(level)), row[column]) for level, row in enumerate(storage.reading.levels)]


def _stalls(storage: Storage) -> Rows:
    return [((STORE, cause, kind), storage.reading.stalls.get(name, 0)) for name, cause, kind in STALLS]


def _stalled(storage: Storage) -> Rows:
    return [((STORE, cause), stalled_us / 1e6) for cause, stalled_us in storage.reading.stall_us.items()]


def _help_of(name: str) -> str:
    return next(row.help for row in TICKERS if row.family == name)


def _unit_of(name: str) -> str:
    return next(row.unit for row in TICKERS if row.family == name)


# fmt: off
STORAGE: Final[tuple[Family, ...]] = (
    *(_number(row) for row in CACHE),
    *(_number(row) for row in COMMITS),
    *(_family(name, "counter", _unit_of(name), _help_of(name), _tickers(name), TICKER_LABELS.get(name, ()))
      for name in dict.fromkeys(row.family for row in TICKERS)),
    *(family for row in HISTOGRAMS for family in _times(row)),
    *(_property(row) for row in PROPERTIES),
    _family("write_stalls_total", "counter", "", "Times that RocksDB began to hold up writes, by cause, and whether "
            "they went on slowly or not at all.", _stalls, ("cause", "kind")),
    _family("write_stall_seconds_total", "counter", "seconds", "How long RocksDB held up writes.  Where there "
            "were several causes within a second, its time is shared out among them.", _stalled, ("cause",)),
    _family("level_files", "gauge", "", "Files by level.", _level(0), ("level",)),
    _family("level_bytes", "gauge", "bytes", "Bytes of files by level.", _level(1), ("level",)),
    _family("open_files", "gauge", "", "Files of RocksDB that are open.", lambda storage: storage.reading.open_files),
    _family("write_amplification", "gauge", "", "Bytes that flushes and compactions wrote for each byte that was "
            "written, since start and without the log.", lambda storage: storage.write_amplification),
    _family("read_amplification", "gauge", "", "Blocks of data that were looked at for each key that was asked for, "
            "since start.", lambda storage: storage.read_amplification),
    _family("space_amplification", "gauge", "", "Bytes of files for each byte that is not overwritten, estimated.",
            lambda storage: storage.space_amplification),
    _family("collection_seconds_total", "counter", "seconds", "Processor time that reading these numbers took, beside "
            "the loop.", lambda storage: storage.read_ns / 1e9),
)
# fmt: on
