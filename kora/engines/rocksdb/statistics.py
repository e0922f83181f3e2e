"""What the instances tell of themselves, read once a second in a thread of its own; kora/observe/storage.py says what.

RocksDB gives its statistics as a text only, and the shortest flush and compaction not at all: those come from the log
that each instance keeps in its directory, or from a reading in which there was but one more.  How long writes were held
up it counts for all causes together: the time between two readings goes to the causes that were counted meanwhile, as
often as they were, which is exact wherever there is one.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

from rocksdict import DbClosedError, Rdict

from kora.clock import Clock
from kora.log import logger
from kora.observe.storage import (
    CAUSES,
    COMPACTIONS,
    COUNT,
    DEBUG,
    FLUSHES,
    HISTOGRAMS,
    OTHER_CAUSE,
    PROPERTIES,
    STALL_MICROS,
    STALLS,
    SUM,
    TICKERS,
    Reading,
    Storage,
    Window,
    merged,
    statistics_of,
)

log = logger("kora.storage")

# One instance: the handles of its column families, the default one first.
Families: TypeAlias = Sequence[Rdict]

_TICKERS: Final = frozenset((STALL_MICROS, *(source for row in TICKERS for source in row.sources)))
_HISTOGRAMS: Final = frozenset(row.source for row in HISTOGRAMS)
_STATISTICS: Final = _TICKERS | _HISTOGRAMS
_CAUSE_BY_COUNT: Final = {name: cause for name, cause, _ in STALLS}
_STALL_COUNT: Final = re.compile(r"([\w-]+): (\d+)")
_STALLED: Final = re.compile(r"Cumulative stall: (\d+):(\d+):(\d+)\.(\d+)")
# What the log has of each flush and compaction, in microseconds.
_LOGGED: Final = re.compile(rb'Flush lasted (\d+) microseconds|"compaction_time_micros": (\d+)')
_LOG_BYTES_MAX: Final = 1 << 20
# Who looks up what is open looks at every descriptor of the process, those of clients among them.
_OPEN_FILES_EVERY: Final = 10
# Between two instances.
_PAUSE_NS: Final = 1_000_000


class Statistics:
    """Of all instances of a store.  `numbers` is called on the loop, the reading is done beside it."""

    def __init__(
        self,
        instances: Callable[[], Sequence[Families]],
        level: str,
        shares_cache: bool = True,
        held_up_us: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        """`level` is DEBUG where statistics are attached to the instances, which is done before they are opened.

        `held_up_us` is how long writes to each waited before they were given to it, since it was opened.
        """
        self.level = level
        self._held_up_us = held_up_us
        self._instances = instances
        self._shares_cache = shares_cache
        self._clock = Clock()
        self._readers: list[Reader] = []
        self._window = Window()
        self._turn = 0
        self._open_files: Mapping[str, int] = {}
        self._thread = ThreadPoolExecutor(1, "storage-statistics")
        self._pending: Future[None] | None = None
        self._is_closed = False
        # What was read last; replaced as a whole.
        self.by_instance: list[Reading] = []
        self.latest = Storage(level, Reading(), 0, {}, 0, {})

    def refresh(self) -> None:
        """Begin to read, unless that goes on already."""
        if self._is_closed or (self._pending is not None and not self._pending.done()):
            return
        if self._pending is not None and (error := self._pending.exception()) is not None:
            log.error("storage statistics not read", reason=repr(error))
        self._pending = self._thread.submit(self.read)

    def close(self) -> None:
        """Wait for what is being read: the instances may be closed then."""
        self._is_closed = True
        self._thread.shutdown()

    def read(self) -> None:
        """Now, in this thread."""
        started_ns = self._clock.thread_ns()
        instances = self._instances()
        if len(self._readers) != len(instances):
            self._readers = [Reader(self.level) for _ in instances]
        if self._turn % _OPEN_FILES_EVERY == 0:
            self._open_files = _open_files()
        self._turn += 1
        readings = []
        try:
            held_up_us = [0] * len(instances) if self._held_up_us is None else self._held_up_us()
            for reader, families, held_us in zip(self._readers, instances, held_up_us, strict=True):
                readings.append(reader.read(families, self._open_files, held_us))
                # The loop is not to wait for more than one of them: it gets the interpreter's lock meanwhile.
                self._clock.sleep_ns(_PAUSE_NS)
        except DbClosedError:
            return  # it is being opened anew, or closed for good
        total = merged(readings, self._shares_cache)
        now_ns = self._clock.monotonic_ns()
        window_ns, grown = self._window.add(now_ns, total.tickers)
        self.by_instance = readings
        read_ns = self.latest.read_ns + self._clock.thread_ns() - started_ns
        self.latest = Storage(self.level, total, window_ns, grown, read_ns, {})


class Reader:
    """Of one shard, whose instance may be closed and opened again: counters go on from where they were."""

    def __init__(self, level: str) -> None:
        self._level = level
        self._instance: Rdict | None = None
        self._before = Reading()  # of instances that were closed, counters only
        self._last = Reading()  # of this instance, without those
        self._least: dict[str, float] = {}  # by histogram
        self._log = LogTail()

    def read(self, families: Families, open_files: Mapping[str, int], held_up_us: int = 0) -> Reading:
        """`open_files` by folder.  Raises DbClosedError."""
        if families[0] is not self._instance:
            self._before = merged([self._before, _counters(self._last)], shares_cache=False)
            self._instance, self._last, self._least, self._log = families[0], Reading(), {}, LogTail()
        fresh = self._read(families, open_files, held_up_us)
        self._last = fresh
        return merged([fresh, self._before], shares_cache=False)

    def _read(self, families: Families, open_files: Mapping[str, int], held_up_us: int) -> Reading:
        instance = families[0]
        fresh = Reading(properties=_properties(families), stalls=_stalls(families), levels=_levels(families))
        if self._level == DEBUG:
            self._read_statistics(instance, fresh)
            fresh.tickers[STALL_MICROS] = stalled_us = fresh.tickers.get(STALL_MICROS, 0) + held_up_us
        else:
            stalled_us = _stalled_us(instance) + held_up_us
        fresh.stall_us = self._by_cause(fresh.stalls, stalled_us)
        fresh.open_files = open_files.get(os.path.realpath(instance.path()), 0)
        return fresh

    def _read_statistics(self, instance: Rdict, fresh: Reading) -> None:
        text = instance.property_value("rocksdb.options-statistics") or ""
        logged = self._log.read(os.path.join(instance.path(), "LOG"))
        for name, words in statistics_of(text, _STATISTICS).items():
            if name in _TICKERS:
                fresh.tickers[name] = int(words[-1])
            else:
                fresh.histograms[name] = self._histogram(name, words, logged.get(name, []))

    def _histogram(self, name: str, words: list[str], logged: list[int]) -> list[float]:
        """Of a line such as `P50 : 1.0 P95 : 2.0 P99 : 2.0 P100 : 2.0 COUNT : 2 SUM : 3`."""
        median, most_of_95, most_of_99, most, count, total = map(float, words[2::3])
        before = self._last.histograms.get(name)
        counted, summed = (before[COUNT], before[SUM]) if before is not None else (0.0, 0.0)
        candidates = [*logged, *([total - summed] if count == counted + 1 else []), *self._least_of(name)]
        if candidates:
            self._least[name] = min(candidates)
        least = self._least.get(name, -1.0)
        return [count, total, least, most, median, most_of_95, most_of_99]

    def _least_of(self, name: str) -> list[float]:
        return [self._least[name]] if name in self._least else []

    def _by_cause(self, stalls: dict[str, int], stalled_us: int) -> dict[str, int]:
        shares = dict(self._last.stall_us) or dict.fromkeys(CAUSES, 0)
        rest_us = stalled_us - sum(shares.values())
        counted = {
            name: count - self._last.stalls.get(name, 0)
            for name, count in stalls.items()
            if count > self._last.stalls.get(name, 0)
        }
        if rest_us <= 0:
            return shares
        if not counted:
            # It was held up for more than a second, or so shortly that nothing was counted.
            known = [cause for cause in CAUSES if shares[cause]]
            shares[known[0] if len(known) == 1 else OTHER_CAUSE] += rest_us
            return shares
        total, left_us = sum(counted.values()), rest_us
        for name, count in counted.items():
            part_us = rest_us * count // total
            shares[_CAUSE_BY_COUNT[name]] += part_us
            left_us -= part_us
        shares[_CAUSE_BY_COUNT[max(counted, key=lambda name: counted[name])]] += left_us
        return shares


class LogTail:
    """What has come to an instance's log since it was read last."""

    def __init__(self) -> None:
        self._file_id = 0
        self._position = 0
        self._rest = b""

    def read(self, path: str) -> dict[str, list[int]]:
        """How long flushes and compactions took, in microseconds, by histogram."""
        found: dict[str, list[int]] = {FLUSHES: [], COMPACTIONS: []}
        try:
            with open(path, "rb") as file:
                about = os.fstat(file.fileno())
                if about.st_ino != self._file_id or about.st_size < self._position:
                    self._file_id, self._position, self._rest = about.st_ino, 0, b""
                if about.st_size - self._position > _LOG_BYTES_MAX:
                    self._position, self._rest = about.st_size - _LOG_BYTES_MAX, b""
                file.seek(self._position)
                data = file.read(_LOG_BYTES_MAX)
        except FileNotFoundError:
            return found  # the directory was moved away
        self._position += len(data)
        *lines, self._rest = (self._rest + data).rsplit(b"\n", 1)
        for flush_us, compaction_us in _LOGGED.findall(b"\n".join(lines)):
            if flush_us:
                found[FLUSHES].append(int(flush_us))
            else:
                found[COMPACTIONS].append(int(compaction_us))
        return found


def _counters(reading: Reading) -> Reading:
    """Without what is only so at a time."""
    return Reading(
        reading.tickers,
        reading.histograms,
        {row.source: reading.properties.get(row.source, 0) for row in PROPERTIES if row.kind == "counter"},
        stalls=reading.stalls,
        stall_us=reading.stall_us,
    )


def _properties(families: Families) -> dict[str, int]:
    found = {}
    for row in PROPERTIES:
        asked = families if row.scope == "families" else families[:1]
        values = [family.property_int_value(f"rocksdb.{row.source}") for family in asked]
        known = [value for value in values if value is not None]
        if known:
            found[row.source] = sum(known)
    return found


def _levels(families: Families) -> list[list[int]]:
    """[files, bytes] by level."""
    levels: list[list[int]] = []
    for family in families:
        for file in family.live_files():
            level = int(file["level"])
            levels += [[0, 0] for _ in range(level + 1 - len(levels))]
            levels[level][0] += 1
            levels[level][1] += int(file["size"])
    return levels


def _stalls(families: Families) -> dict[str, int]:
    counts = dict.fromkeys(_CAUSE_BY_COUNT, 0)
    texts = [family.property_value("rocksdb.cf-write-stall-stats") for family in families]
    texts.append(families[0].property_value("rocksdb.db-write-stall-stats"))
    for text in texts:
        for name, count in _STALL_COUNT.findall(text or ""):
            if name in counts:
                counts[name] += int(count)
    return counts


def _stalled_us(instance: Rdict) -> int:
    """To the ms, where there are no statistics."""
    found = _STALLED.search(instance.property_value("rocksdb.dbstats") or "")
    if found is None:
        return 0
    hours, minutes, seconds, thousandths = map(int, found.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + thousandths * 1_000


def _open_files() -> dict[str, int]:
    """Files that this process has open, by folder: RocksDB counts only those that it opens."""
    return Counter(os.path.dirname(_target(name)) for name in os.listdir("/proc/self/fd"))


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""  # it was closed meanwhile
