"""What the dashboard's charts show: one point a second, of the last 15 minutes.

Kept here, so that a page that is opened shows a past, and the data process gives no more than a snapshot a second.
Rates come from the difference of two snapshots; a second in which the data loop was stuck has no point.
"""

import math
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kora.engine.snapshot import Snapshot
from kora.observe.histogram import EDGES_NS, cumulative, percentiles
from kora.observe.storage import Storage

POINTS_MAX: Final = 900
# Of a second, the commands with the most calls: a page can show no more, and a scan of names costs no memory.
COMMANDS_MAX: Final = 24
PERCENTILES: Final = (50.0, 99.0, 99.9)
ALL: Final = ""  # all commands together, where series are by command


@dataclass(frozen=True)
class CommandPoint:
    """What one command did in one second."""

    calls_per_s: float
    busy: float  # share of the second
    latency_s: tuple[float, ...]  # at PERCENTILES
    heat: bytes  # calls by EDGES_NS and beyond, as 32-bit numbers


@dataclass(frozen=True)
class Point:
    time_s: int  # Unix time
    values: tuple[float, ...]  # of SERIES, NaN where there is none
    commands: dict[str, CommandPoint]


@dataclass(frozen=True)
class Pair:
    """Two snapshots, for whoever wants to know what happened between them."""

    before: Snapshot
    now: Snapshot

    @property
    def elapsed_s(self) -> float:
        return (self.now.uptime_ns - self.before.uptime_ns) / 1e9

    def rate(self, counter: Callable[[Snapshot], float]) -> float:
        """A counter's growth per second; one that fell was reset, and has grown from 0."""
        now, before = counter(self.now), counter(self.before)
        return (now - before if now >= before else now) / self.elapsed_s


@dataclass(frozen=True)
class Series:
    name: str
    unit: str
    help: str
    read: Callable[[Pair], float]
    takes_largest: bool = False  # of a longer step, where others take the mean


def _hit_ratio(pair: Pair) -> float:
    hits, misses = pair.rate(lambda snapshot: snapshot.hits), pair.rate(lambda snapshot: snapshot.misses)
    return hits / (hits + misses) if hits + misses else math.nan


def _rate(field: str) -> Callable[[Pair], float]:
    return lambda pair: pair.rate(lambda snapshot: float(getattr(snapshot, field)))


def _value(field: str) -> Callable[[Pair], float]:
    return lambda pair: float(getattr(pair.now, field))


def _cpu(pair: Pair) -> float:
    return pair.rate(lambda snapshot: snapshot.main_cpu_user_ns + snapshot.main_cpu_system_ns) / 1e9


def _stored(read: Callable[[Storage], float | None]) -> Callable[[Snapshot], float | None]:
    """Of what is under the keys; None where there is nothing, or it does not tell."""
    return lambda snapshot: read(snapshot.stored) if snapshot.stored is not None else None


def _storage_rate(read: Callable[[Storage], float | None]) -> Callable[[Pair], float]:
    counter = _stored(read)

    def rate(pair: Pair) -> float:
        if counter(pair.now) is None:
            return math.nan
        return pair.rate(lambda snapshot: counter(snapshot) or 0.0)

    return rate


def _storage_value(read: Callable[[Storage], float | None]) -> Callable[[Pair], float]:
    value = _stored(read)

    def read_now(pair: Pair) -> float:
        found = value(pair.now)
        return math.nan if found is None else float(found)

    return read_now


def _storage_ratio(
    hits: Callable[[Storage], float | None], misses: Callable[[Storage], float | None]
) -> Callable[[Pair], float]:
    def read(pair: Pair) -> float:
        found, missed = _storage_rate(hits)(pair), _storage_rate(misses)(pair)
        return found / (found + missed) if found + missed else math.nan

    return read


def _ticker(name: str) -> Callable[[Storage], float | None]:
    return lambda storage: storage.reading.tickers.get(name)


def _counted(*names: str) -> Callable[[Storage], float | None]:
    return lambda storage: sum(storage.counted[name] for name in names) if names[0] in storage.counted else None


def _property(name: str) -> Callable[[Storage], float | None]:
    return lambda storage: storage.reading.properties.get(name)


def _read_bytes(storage: Storage) -> float | None:
    tickers = storage.reading.tickers
    return tickers["bytes.read"] + tickers["number.multiget.bytes.read"] if "bytes.read" in tickers else None


def _stalled_s(storage: Storage) -> float:
    return sum(storage.reading.stall_us.values()) / 1e6


SERIES: Final = (
    Series("commands", "1/s", "Commands run.", _rate("commands_processed")),
    Series("errors", "1/s", "Error replies.", lambda pair: pair.rate(lambda snapshot: sum(snapshot.errors.values()))),
    Series("bytes_in", "bytes/s", "Bytes received.", _rate("bytes_in")),
    Series("bytes_out", "bytes/s", "Bytes of replies.", _rate("bytes_out")),
    Series("hit_ratio", "ratio", "Look-ups that found a key, of all.", _hit_ratio),
    Series("keys", "", "Keys.", _value("keys")),
    Series("expired", "1/s", "Keys whose time was over.", _rate("expired")),
    Series("evicted", "1/s", "Keys that went to make room.", _rate("evicted")),
    Series("memory", "bytes", "What the data set takes.", _value("memory_bytes")),
    Series("rss", "bytes", "What the process takes.", _value("rss_bytes")),
    Series("clients", "", "Connected clients.", _value("clients"), takes_largest=True),
    Series("connections", "1/s", "Connections received.", _rate("connections_received")),
    Series("cpu", "cores", "What the thread of the data loop uses.", _cpu),
    Series("loop_lag", "s", "How late the data loop ran its heartbeat.", lambda pair: pair.now.lag_ns / 1e9, True),
    # Of RocksDB, where the data is in it.
    Series("storage_written", "bytes/s", "Bytes written to RocksDB.", _storage_rate(_ticker("bytes.written"))),
    Series("storage_read", "bytes/s", "Bytes read from it.", _storage_rate(_read_bytes)),
    Series(
        "storage_flushed", "bytes/s", "Bytes that it flushed to files.", _storage_rate(_ticker("flush.write.bytes"))
    ),
    Series(
        "storage_compacted", "bytes/s", "Bytes that compactions wrote.", _storage_rate(_ticker("compact.write.bytes"))
    ),
    Series("storage_stalled", "ratio", "Time for which it held up writes.", _storage_rate(_stalled_s)),
    Series(
        "storage_cold",
        "1/s",
        "Keys fetched from it, since they were not in memory.",
        _storage_rate(_counted("cold_fetches", "sync_fetches")),
    ),
    Series(
        "storage_hit_ratio",
        "ratio",
        "Keys in memory, of those that were looked for.",
        _storage_ratio(_counted("hits"), _counted("misses")),
    ),
    Series(
        "storage_block_hit_ratio",
        "ratio",
        "Blocks of data that its cache had, of those that were looked for.",
        _storage_ratio(_ticker("block.cache.data.hit"), _ticker("block.cache.data.miss")),
    ),
    Series("storage_cache", "bytes", "What keys in memory take.", _storage_value(_counted("resident_bytes"))),
    Series(
        "storage_dirty", "bytes", "Of it, what waits to be written to RocksDB.", _storage_value(_counted("dirty_bytes"))
    ),
    Series("storage_files", "bytes", "RocksDB's files.", _storage_value(_property("total-sst-files-size"))),
    Series(
        "storage_pending",
        "bytes",
        "What is to be compacted, estimated.",
        _storage_value(_property("estimate-pending-compaction-bytes")),
    ),
    Series(
        "storage_commit",
        "ratio",
        "Time that writing to RocksDB took, beside the loop.",
        _storage_rate(lambda storage: storage.counted.get("commit_ns", 0) / 1e9),
    ),
)
_PLACES: Final = {series.name: place for place, series in enumerate(SERIES)}
# By command: name → unit and how to read it; `name:get` is of one command, `name` of all together.
BY_COMMAND: Final[dict[str, tuple[str, Callable[[CommandPoint], float]]]] = {
    "calls": ("1/s", lambda point: point.calls_per_s),
    "busy": ("ratio", lambda point: point.busy),
    "latency_p50": ("s", lambda point: point.latency_s[0]),
    "latency_p99": ("s", lambda point: point.latency_s[1]),
    "latency_p99.9": ("s", lambda point: point.latency_s[2]),
}


class UnknownMetric(Exception):
    """There is no series of that name."""


class History:
    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=POINTS_MAX)
        self._latest: Snapshot | None = None

    def add(self, snapshot: Snapshot) -> Point | None:
        """Returns the point that it makes with the one before; None for the first, and for one that is no newer."""
        before, self._latest = self._latest, snapshot
        if before is None or before.run_id != snapshot.run_id or snapshot.uptime_ns <= before.uptime_ns:
            return None
        pair = Pair(before, snapshot)
        values = tuple(series.read(pair) for series in SERIES)
        point = Point(snapshot.time_ms // 1000, values, _commands(pair))
        self.points.append(point)
        return point

    def read(self, metric: str, start_s: float, stop_s: float, step_s: int) -> list[list[float | None]]:
        """[[Unix time, value], …] of a metric between two times, a value for each step that has any."""
        get, takes_largest = _reader(metric)
        steps: dict[int, list[float]] = {}
        for point in self.points:
            if start_s <= point.time_s <= stop_s:
                value = get(point)
                steps.setdefault(point.time_s - point.time_s % step_s, []).append(value)
        return [[time_s, _joined(values, takes_largest)] for time_s, values in steps.items()]


def names() -> dict[str, str]:
    """Every metric that read() knows, and its unit; those by command take `:` and a command's name as well."""
    return {series.name: series.unit for series in SERIES} | {name: unit for name, (unit, _) in BY_COMMAND.items()}


def unit_of(metric: str) -> str:
    return names()[metric.partition(":")[0]]


def to_plain(point: Point) -> dict[str, Any]:
    """For JSON, which has no NaN."""
    return {
        "time_s": point.time_s,
        "values": [_number(value) for value in point.values],
        "commands": {
            name: [round(command.calls_per_s, 1), round(command.busy, 6), *command.latency_s, _trimmed(command.heat)]
            for name, command in point.commands.items()
        },
    }


def _trimmed(heat: bytes) -> list[int]:
    """Where the first calls are, and the numbers from there to the last."""
    numbers = list(array("I", heat))
    while numbers and not numbers[-1]:
        numbers.pop()
    first = next((place for place, number in enumerate(numbers) if number), 0)
    return [first, *numbers[first:]]


def _reader(metric: str) -> tuple[Callable[[Point], float], bool]:
    place = _PLACES.get(metric)
    if place is not None:
        return lambda point: point.values[place], SERIES[place].takes_largest
    name, _, command = metric.partition(":")
    if name not in BY_COMMAND:
        raise UnknownMetric(metric)
    _, read = BY_COMMAND[name]
    absent = math.nan if name.startswith("latency") else 0.0

    def get(point: Point) -> float:
        row = point.commands.get(command)
        return absent if row is None else read(row)

    return get, name.startswith("latency")


def _joined(values: list[float], takes_largest: bool) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    return max(known) if takes_largest else sum(known) / len(known)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _commands(pair: Pair) -> dict[str, CommandPoint]:
    now, before = pair.now.totals.commands, pair.before.totals.commands
    active: list[tuple[int, int]] = []
    for slot, row in enumerate(now):
        calls = row.calls - before[slot].calls
        # One that fell was reset by CONFIG RESETSTAT: what it has is what came since.
        if calls < 0:
            calls = row.calls
        if calls:
            active.append((calls, slot))
    active.sort(reverse=True)
    commands: dict[str, CommandPoint] = {}
    total: array[int] = array("Q")
    for rank, (_, slot) in enumerate(active):
        counts, elapsed_ns = _grown(pair, slot)
        total = _sum(total, counts)
        if rank < COMMANDS_MAX:
            commands[pair.now.slot_names[slot]] = _command_point(counts, elapsed_ns, pair.elapsed_s)
    if active:
        elapsed_ns = sum(_grown_elapsed_ns(pair, slot) for _, slot in active)
        commands[ALL] = _command_point(total, elapsed_ns, pair.elapsed_s)
    return commands


def _grown_elapsed_ns(pair: Pair, slot: int) -> int:
    now, before = pair.now.totals.commands[slot], pair.before.totals.commands[slot]
    return now.elapsed_ns - before.elapsed_ns if now.calls >= before.calls else now.elapsed_ns


def _grown(pair: Pair, slot: int) -> "tuple[array[int], int]":
    """A command's histogram and its time, of what came between two snapshots."""
    now, before = pair.now.totals.commands[slot], pair.before.totals.commands[slot]
    counts = pair.now.histogram(slot)
    if now.calls >= before.calls:
        counts_before = pair.before.histogram(slot)
        # It may have been reset, and called more often since than before: counts are missing then, or negative.
        for index in _used(counts_before[: len(counts)]):
            counts[index] = max(0, counts[index] - counts_before[index])
    return counts, _grown_elapsed_ns(pair, slot)


def _used(counts: "array[int]") -> Iterator[int]:
    return (index for index, count in enumerate(counts) if count)


def _sum(total: "array[int]", counts: "array[int]") -> "array[int]":
    if len(total) < len(counts):
        total = total + array("Q", bytes(8 * (len(counts) - len(total))))
    for index in _used(counts):
        total[index] += counts[index]
    return total


def _command_point(counts: "array[int]", elapsed_ns: int, elapsed_s: float) -> CommandPoint:
    sums = cumulative(counts, EDGES_NS)
    calls = sum(counts)
    heat = array("I", (after - before for before, after in zip([0, *sums], [*sums, calls], strict=True)))
    latency_s = tuple(value / 1e9 for value in percentiles(counts, PERCENTILES))
    return CommandPoint(calls / elapsed_s, elapsed_ns / 1e9 / elapsed_s, latency_s, heat.tobytes())
