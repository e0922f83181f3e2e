"""The latency monitor: what took longer than latency-monitor-threshold, by event, second by second.

As Redis' latency.c: each event keeps the largest value of a second, for the last 160 seconds that had one, and what it
was in all since LATENCY RESET.  Beyond that each second keeps its worst offender, so that a spike has a culprit.
EVENTS says what there is; LATENCY, INFO, /metrics and LATENCY DOCTOR take it from there.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

SAMPLES_MAX: Final = 160
# A threshold that nothing reaches: 73 years.  It fits into 64 bits wherever it is compared.
NEVER_NS: Final = 1 << 61


@dataclass(frozen=True)
class Event:
    name: str
    times: str  # what it times
    source: str  # the module that tells of it
    never: str = ""  # why it cannot happen here, where tools know its name


EVENTS: Final = (
    Event("command", "A command that is not flagged fast.", "engine/call"),
    Event("fast-command", "A command that is flagged fast: O(1) or O(log N).", "engine/call"),
    Event("command-unblocking", "A command that waited for its keys, when it got them.", "engine/blocking"),
    Event("script", "A script or a function, with the commands that it called.", "engine/call"),
    Event("expire-cycle", "A turn of the job that deletes keys and fields whose time is over.", "server/workers"),
    Event("expire-del", "Deleting a batch of at most 100 keys whose time was over.", "store/expiry"),
    Event("eviction-cycle", "Making room for a command, or in the background, at maxmemory.", "engine/engine"),
    Event("eviction-del", "Deleting one key to make room.", "store/eviction"),
    Event("eviction-lazyfree", "Freeing values that were unlinked or evicted, in the background.", "server/workers"),
    Event("loop-lag", "How late the event loop ran its heartbeat: what everybody waited.", "server/workers"),
    Event(
        "client-flush",
        "Sending a reply that did not go out at once, since its client did not read it.",
        "server/connection",
    ),
    Event("aof-write", "Writing to the journal, which a thread does.", "persist/journal_writer"),
    Event("aof-write-pending-fsync", "The same, where it had to wait for a sync.", "persist/journal_writer"),
    Event("aof-write-active-child", "The same, while a snapshot or a rewrite went on.", "persist/journal_writer"),
    Event("aof-write-alone", "The same, where neither was so.", "persist/journal_writer"),
    Event(
        "aof-fsync-always",
        "Syncing the journal with appendfsync always: what replies waited for.",
        "persist/journal_writer",
    ),
    Event("aof-fstat", "Looking whether the journal's file is still there, once a second.", "persist/journal_writer"),
    Event("aof-rename", "Replacing the journal's manifest at the end of a rewrite.", "persist/journal_writer"),
    Event("aof-rewrite-done-fsync", "Syncing the journal at the end of a rewrite.", "persist/journal_writer"),
    Event(
        "aof-rewrite-diff-write",
        "Writing what has changed during a rewrite.",
        "",
        never="that is in the next increment already",
    ),
    Event("events-flush", "A turn of the job that writes what was tracked into streams.", "server/workers"),
    Event("events-rollup", "A turn of the job that adds such entries up to minutes and hours.", "server/workers"),
    Event("gc", "A garbage collection of the interpreter.", "server/workers"),
    Event("snapshot-step", "A turn of the job that walks over the data for a snapshot.", "server/workers"),
    Event("rdb-save", "Writing a snapshot while nobody is served: SAVE, SHUTDOWN.", "persist/snapshots"),
    Event(
        "rdb-unlink-temp-file", "Removing the file of a snapshot that was given up, beside the loop.", "persist/saving"
    ),
    Event(
        "storage-read",
        "Getting keys from RocksDB that were not in memory: on the loop, or for a client that waited.",
        "engine/cache",
    ),
    Event("storage-commit", "Writing a batch of changes to RocksDB, which a thread does.", "engines/rocksdb/keeper"),
    Event("storage-stall", "How long RocksDB held up writes in a second.", "engine/storage"),
    Event("fork", "fork(2), for a profile of memory: snapshots and rewrites do not fork.", "server/profiling"),
    Event("active-defrag-cycle", "Moving values together.", "", never="memory is not defragmented"),
)
EVENTS_BY_NAME: Final = {event.name: event for event in EVENTS}
# Those that happen.
FED: Final = tuple(event.name for event in EVENTS if not event.never)


@dataclass(frozen=True)
class Offender:
    """Whose doing a spike was; what is not known is empty."""

    command: str = ""
    key: bytes = b""
    address: str = ""
    client_name: bytes = b""
    slowlog_id: int = -1  # of its entry in the slow log, or -1


NOBODY: Final = Offender()


@dataclass(frozen=True)
class Sample:
    time_s: int  # Unix time
    latency_ms: int
    offender: Offender


class Series:
    """One event."""

    __slots__ = ("count", "latency_ms_max", "samples", "sum_ms", "worst")

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)  # one a second at most, the oldest first
        # Since LATENCY RESET.
        self.latency_ms_max = 0
        self.sum_ms = 0
        self.count = 0
        self.worst = NOBODY

    def add(self, sample: Sample) -> None:
        self.count += 1
        self.sum_ms += sample.latency_ms
        if sample.latency_ms > self.latency_ms_max or self.count == 1:
            self.latency_ms_max = sample.latency_ms
            self.worst = sample.offender
        if self.samples and self.samples[-1].time_s == sample.time_s:
            if sample.latency_ms > self.samples[-1].latency_ms:
                self.samples[-1] = sample
        else:
            self.samples.append(sample)


class Spikes:
    def __init__(self) -> None:
        self.threshold_ns = NEVER_NS
        self.series: dict[str, Series] = {}  # by event, those that have spikes
        # Since start, which LATENCY RESET leaves alone: [spikes, their sum in ns].
        self.totals: dict[str, list[int]] = {name: [0, 0] for name in FED}
        # The worst command since take_culprit(): who is to blame for what a whole turn was late.
        self._culprit = NOBODY
        self._culprit_ns = 0

    def set_threshold(self, threshold_ms: int) -> None:
        """Whole milliseconds, as Redis counts; 0 turns the monitor off."""
        self.threshold_ns = min(threshold_ms * 1_000_000, NEVER_NS) if threshold_ms else NEVER_NS

    def note(self, event: str, elapsed_ns: int, time_s: int, offender: Offender = NOBODY) -> None:
        """For whoever has found that it took at least threshold_ns."""
        total = self.totals[event]
        total[0] += 1
        total[1] += elapsed_ns
        series = self.series.get(event)
        if series is None:
            series = self.series[event] = Series()
        series.add(Sample(time_s, elapsed_ns // 1_000_000, offender))
        if offender.command and event not in ("loop-lag", "client-flush") and elapsed_ns > self._culprit_ns:
            self._culprit, self._culprit_ns = offender, elapsed_ns

    def take_culprit(self) -> Offender:
        """Who made the worst spike since this was asked last."""
        culprit = self._culprit
        self._culprit, self._culprit_ns = NOBODY, 0
        return culprit

    def names(self) -> list[str]:
        """The events that have spikes, in the table's order."""
        return [event.name for event in EVENTS if event.name in self.series]

    def reset(self, names: Iterable[str] = ()) -> int:
        """Forget events, in any case, or all; returns how many had spikes."""
        wanted = {name.lower() for name in names} or set(self.series)
        found = wanted & set(self.series)
        for name in found:
            del self.series[name]
        return len(found)


# LATENCY GRAPH.  The layout is Redis' (sparkline.c): four rows of three levels each, a column a sample, age below it.

_COLUMNS: Final = 80
_ROWS: Final = 4
_LEVELS: Final = "_o#"
_STEPS: Final = _ROWS * len(_LEVELS)


def graph(name: str, series: Series, now_s: int) -> str:
    values = [sample.latency_ms for sample in series.samples]
    labels = [_age(max(0, now_s - sample.time_s)) for sample in series.samples]
    low, high = min(values), max(values)
    steps = [min(_STEPS - 1, (value - low) * _STEPS // (high - low or 1)) for value in values]
    head = f"{name} - high {high} ms, low {low} ms (all time high {series.latency_ms_max} ms)\n{'-' * 80}\n"
    chunks = [
        _chunk(steps[start : start + _COLUMNS], labels[start : start + _COLUMNS])
        for start in range(0, len(values), _COLUMNS)
    ]
    return head + "\n".join(chunks)


def _chunk(steps: Sequence[int], labels: Sequence[str]) -> str:
    rows = []
    for row in range(_ROWS):
        lowest = (_ROWS - 1 - row) * len(_LEVELS)
        rows.append("".join(_cell(step - lowest) for step in steps))
    rows.append(" " * len(steps))
    length = max(map(len, labels))
    rows += ["".join(label[place : place + 1] or " " for label in labels) for place in range(length)]
    return "".join(row + "\n" for row in rows)


def _cell(level: int) -> str:
    if level < 0:
        return " "
    return _LEVELS[level] if level < len(_LEVELS) else "|"


def _age(elapsed_s: int) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if elapsed_s >= unit_s:
            return f"{elapsed_s // unit_s}{unit}"
    return f"{elapsed_s}s"
