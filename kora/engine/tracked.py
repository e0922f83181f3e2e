"""Tracked values: counted in memory by key and interval, and written into streams when an interval is over.

One buffer for all that comes: TRACK over RESP adds values, the sidecar hands over what it has counted itself.  A value
belongs to the interval that it came in, or that AT names.  A job writes intervals out, each FLUSH_DELAY_MS after its
end, since the sidecar tells a little later what it has; what comes for an interval that is over waits for the end of
the one that goes on.  Writing is XADD by a client of its own, so that the journal, notifications, those who wait for
entries, eviction and statistics see what they would see of anybody's; where it is refused for lack of memory or
because of the disk, counts stay in the buffer.

What is in here is lost when the process is killed: a flush interval at most.  kora.engine.series has the streams.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kora.engine.series import LEVELS, PREFIX, Question, Series, Steps, run_out
from kora.errors import CommandError
from kora.glob import matcher
from kora.types.tally import (
    KEY_BYTES_MAX,
    OTHER,
    Cell,
    Tally,
    format_value,
    interval_start,
    interval_stop,
    words_of,
)

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.reference import Tallied

FLUSH_DELAY_MS: Final = 1_500
# How far ahead of this machine's clock a time may be.
AHEAD_MS_MAX: Final = 60_000
# Intervals that may be waiting to be written until that is reported as being behind.
BEHIND_INTERVALS: Final = 3
# How many tallies for each key may wait while they cannot be written; then values are refused.
_WAITING_PER_KEY: Final = 8
# Metrics that are looked at between two steps of a list of them, and that are put in order at a time.
_STEP_KEYS: Final = 20
_RUN_KEYS: Final = 1_000
# Names that are put in order between two steps.
_STEP_NAMES: Final = 100
# And how many intervals, of which AT can name any.
_INTERVALS_MAX: Final = 10_000
# Entries that are written between two looks at the clock.
_BATCH: Final = 25
# How long to wait before trying again what was refused.
_RETRY_NS: Final = 1_000_000_000
# How often each metric is looked at for what can be rolled up.
_ROLL_PERIOD_NS: Final = 600_000_000_000
# Of the metrics that nothing came of only each so many rounds look for what is too old.
_IDLE_ROUNDS: Final = 24
# How often the database is looked through for streams that somebody else has made.
_LOOK_PERIOD_NS: Final = 3_600_000_000_000
# Keys of it that are looked at between two looks at the clock.
_SCAN_KEYS: Final = 200

_TOO_LATE: Final = b"equal or smaller than the target stream top item"
# What is refused now may be taken later.
_TEMPORARY: Final = (b"-OOM ", b"-MISCONF ", b"-LOADING ", b"-BUSY ")
_UNANSWERED: Final = b"-BUSY writing has to wait"
_REPLY: Final = re.compile(rb"\$[0-9]+\r\n[^\r]*\r\n|[-:+][^\r]*\r\n")


class TooManyCounts(CommandError):
    message = "ERR too many counts are waiting to be written"


class AheadOfTime(CommandError):
    message = f"ERR AT must be a time in Unix milliseconds, at most {AHEAD_MS_MAX // 1000} seconds ahead"


class BadMetric(CommandError):
    message = f"ERR the name of a metric has 1 to {KEY_BYTES_MAX} bytes"


class NegativeValue(CommandError):
    message = "ERR the value is negative, which needs 'events-negative yes'"


@dataclass
class Interval:
    """What was tracked from start_ms until stop_ms and is not written yet."""

    start_ms: int
    stop_ms: int
    due_ns: int  # when it is to be written, by the monotonic clock: the other may be set
    tallies: "Tallied"
    is_late: bool  # it was over when the first value came


class Tracked:
    """Everything about tracked values but their commands."""

    def __init__(self, engine: "Engine") -> None:
        # Fixed for life.
        self._engine = engine
        self.series = Series(engine, self._run)
        # The buffer.
        self._intervals: dict[int, Interval] = {}  # by their beginning
        self._order: list[tuple[int, int]] = []  # a heap: when each is due, and its beginning
        self._open: Interval | None = None
        self.waiting = 0  # tallies that are not written yet
        # The metrics there are, those first that were looked at longest ago; whether there is something new of them.
        self._metrics: OrderedDict[bytes, bool] = OrderedDict()
        # Who writes; made with the first that is written.
        self._writer: Client | None = None
        # Of the jobs.
        self._retry_ns = 0
        self._error = b""  # why the last attempt to write failed
        self._rolls_left = 0  # metrics of the round of rolling up
        self._rounds = 0
        self._round_ns = 0  # when the next begins
        self._look_ns = 0  # when the next look through the database begins
        self._cursor = -1  # of the look through the database; -1: none is under way
        # Since the start.
        self._values = 0  # of intervals that are written
        self.flushed = 0  # entries
        self.flushes = 0  # intervals that were written
        self.flush_ns = 0
        self.overflow = 0  # values that went to OTHER
        self.refused = 0  # values that could not be written, since a key holds something else
        self.dropped = 0  # values of the sidecar for which there was no room

    # Tracking

    def track(self, key: bytes, units: int, at_ms: int | None = None) -> None:
        """A value, in billionths, of now or of a time in Unix ms.  Raises CommandError."""
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise BadMetric
        if units < 0 and not self._engine.config.events_negative:
            raise NegativeValue
        now_ms = self._engine.clock.wall_ms()
        if at_ms is None:
            at_ms = now_ms
            interval = self._now(now_ms)
        else:
            if not 0 <= at_ms <= now_ms + AHEAD_MS_MAX:
                raise AheadOfTime
            interval = self._at(at_ms, now_ms)
        tallies = interval.tallies
        if key not in tallies:
            if self._is_full(interval):
                self._forget_empty(interval)
                raise TooManyCounts
            key = self._admitted(key, 1)
            self.waiting += key not in tallies
        tallies.add(key, units, at_ms)

    def merge(self, cells: Sequence[Cell]) -> None:
        """What the sidecar has counted; a few hundred cells at a time take less than a millisecond."""
        now_ms = self._engine.clock.wall_ms()
        for cell in cells:
            key, start_ms, count = cell[:3]
            interval = self._at(min(start_ms, now_ms + AHEAD_MS_MAX), now_ms)
            tallies = interval.tallies
            if key not in tallies:
                if self._is_full(interval):
                    self._forget_empty(interval)
                    self.dropped += count
                    continue
                if (known := self._admitted(key, count)) is not key:
                    cell = (known, *cell[1:])
                self.waiting += known not in tallies
            tallies.merge(cell)

    def _is_full(self, interval: Interval) -> bool:
        """Whether there is no room for another tally.

        Half of it is for intervals that go on, whatever times people name.
        """
        waiting_max = _WAITING_PER_KEY * self._engine.config.events_keys_max
        if interval.is_late:
            return self.waiting >= waiting_max // 2 or len(self._intervals) > _INTERVALS_MAX
        return self.waiting >= waiting_max

    def _admitted(self, key: bytes, values: int) -> bytes:
        """Under which key a value is counted that may be the first of its metric."""
        if key in self._metrics:
            self._metrics[key] = True
            return key
        if len(self._metrics) >= self._engine.config.events_keys_max and key != OTHER:
            self.overflow += values
            key = OTHER
        self._metrics[key] = True
        return key

    def _now(self, now_ms: int) -> Interval:
        """The interval that goes on."""
        interval = self._open
        if interval is None or not interval.start_ms <= now_ms < interval.stop_ms:
            interval = self._open = self._at(now_ms, now_ms)
            self._engine.implementation.count_into(interval.tallies, interval.start_ms, interval.stop_ms)
        return interval

    def _at(self, at_ms: int, now_ms: int) -> Interval:
        interval_ms = 1000 * self._engine.config.events_flush_interval
        start_ms = interval_start(at_ms, interval_ms)
        interval = self._intervals.get(start_ms)
        if interval is None:
            stop_ms = interval_stop(start_ms, interval_ms)
            is_late = stop_ms + FLUSH_DELAY_MS <= now_ms
            if is_late:
                # It is over: it is written with the one that goes on, not each value by itself.
                due_ms = interval_stop(interval_start(now_ms, interval_ms), interval_ms) + FLUSH_DELAY_MS
            else:
                due_ms = stop_ms + FLUSH_DELAY_MS
            due_ns = self._engine.monotonic_ns() + (due_ms - now_ms) * 1_000_000
            tallies = self._engine.implementation.make_tallies()
            interval = self._intervals[start_ms] = Interval(start_ms, stop_ms, due_ns, tallies, is_late)
            heappush(self._order, (due_ns, start_ms))
        return interval

    # Writing

    def flush_some(self, budget_ns: int) -> bool:
        """Write what is due, for so long; returns whether there is more."""
        now_ns = self._engine.monotonic_ns()
        if now_ns < self._retry_ns or not self._may_write():
            return False
        interval = self._next_due(now_ns)
        if interval is None:
            return False
        stop_ns = now_ns + budget_ns
        while interval is not None:
            if not self._flush_batch(interval):
                break
            if not len(interval.tallies):
                self._forget(interval)
                interval = self._next_due(now_ns)
            if self._engine.monotonic_ns() >= stop_ns:
                break
        self.flush_ns += self._engine.monotonic_ns() - now_ns
        if interval is None:
            self._error = b""
        return interval is not None and not self._error

    def flush_all(self) -> bool:
        """Write everything, with the interval that goes on, for whoever ends the process; whether that went well."""
        self._error = b""
        for _, start_ms in sorted(self._order):
            interval = self._intervals[start_ms]
            while len(interval.tallies):
                if not self._may_write() or not self._flush_batch(interval):
                    self._engine.log("error", "tracked values lost", tallies=self.waiting, reason=_text(self._error))
                    return False
            self._forget(interval)
        return True

    def forget(self) -> None:
        """All data of the database goes, and so does what would come to it."""
        for interval in list(self._intervals.values()):
            self._forget(interval, written=0)
        self._metrics.clear()

    def _next_due(self, now_ns: int) -> Interval | None:
        order = self._order
        return self._intervals[order[0][1]] if order and order[0][0] <= now_ns else None

    def _forget(self, interval: Interval, written: int = 1) -> None:
        self._values += interval.tallies.values
        self.flushes += written
        self.waiting -= len(interval.tallies)
        del self._intervals[interval.start_ms]
        if self._order[0][1] == interval.start_ms:
            heappop(self._order)
        else:
            self._order.remove((interval.due_ns, interval.start_ms))
            heapify(self._order)
        if interval is self._open:
            self._open = None
            self._engine.implementation.count_into(None, 0, 0)

    def _forget_empty(self, interval: Interval) -> None:
        if not len(interval.tallies):
            self._forget(interval, written=0)

    def _flush_batch(self, interval: Interval) -> bool:
        """Write some of it; False where that is refused for now, and what was not written is in the buffer again."""
        start_ms = interval.start_ms
        cells = interval.tallies.take(_BATCH)
        self.waiting -= len(cells)
        for cell in cells:
            self._metrics[cell[0]] = True  # there is something to roll up
        entry_id = b"%d-*" % start_ms
        if interval.is_late:
            parts = [_request(self.series.entry(cell[0], start_ms, _words(cell))) for cell in cells]
        else:
            parts = [_entry_request(entry_id, cell) for cell in cells]
        errors = self._send(b"".join(parts), len(parts))
        self.flushed += len(cells) - len(errors)
        is_well = True
        for place, error in errors.items():
            cell = cells[place]
            if _TOO_LATE in error:
                # The clock was set back, or somebody else adds entries.
                error = self._run(*self.series.entry(cell[0], start_ms, _words(cell)))
                if not error:
                    self.flushed += 1
                    continue
            if error.startswith(_TEMPORARY):
                values = interval.tallies.values
                self.waiting += cell[0] not in interval.tallies
                interval.tallies.merge(cell)
                interval.tallies.values = values  # they were counted before
                is_well = False
                self._fail(error)
            else:
                self.refused += cell[2]
                self._engine.log("warning", "tracked values not written", key=_text(cell[0]), reason=_text(error))
        return is_well

    def _fail(self, error: bytes) -> None:
        self._retry_ns = self._engine.monotonic_ns() + _RETRY_NS
        if error != self._error:
            self._engine.log("warning", "tracked values cannot be written", reason=_text(error))
        self._error = error

    def _may_write(self) -> bool:
        engine = self._engine
        return engine.loading is None and not engine.paused_until_ms and not engine.busy_script

    def _run(self, *words: bytes) -> bytes:
        """One request as of a client; returns the error that it is answered, or b""."""
        return self._send(_request(words), 1).get(0, b"")

    def _send(self, data: bytes, count: int) -> dict[int, bytes]:
        """The errors that so many requests are answered, by place."""
        engine = self._engine
        client = self._writer
        if client is None or client.closing:
            client = self._writer = engine.make_replaying_client()
            client.user = engine.acl.make_almighty()
            client.set_authenticated(True)
            client.db = engine.databases[0]
        reply = engine.execute(client, data)
        while client.more and not client.parked and not client.closing:
            reply += engine.resume(client)
        if not reply.startswith(b"-") and b"\n-" not in reply and not client.parked:
            return {}
        replies = _REPLY.findall(reply)
        errors = {place: line.rstrip() for place, line in enumerate(replies) if line.startswith(b"-")}
        if len(replies) < count:
            # It has to wait for something; so the rest is not run, but by another client at another time.
            self._writer = None
            errors.update(dict.fromkeys(range(len(replies), count), _UNANSWERED))
        return errors

    # Rolling up

    def roll_some(self, budget_ns: int) -> bool:
        """Go on with the round that makes minutes and hours of each metric; returns whether there is more."""
        engine = self._engine
        now_ns = engine.monotonic_ns()
        if now_ns < self._retry_ns or not self._may_write():
            return False
        if not self._rolls_left:
            if now_ns < self._round_ns:
                return False
            self._round_ns = now_ns + _ROLL_PERIOD_NS
            self._rounds += 1
            self._rolls_left = len(self._metrics)
        now_ms = engine.clock.wall_ms()
        while self._rolls_left and self._metrics:
            key = next(iter(self._metrics))
            if not self._roll(key, now_ms):
                self._rolls_left -= 1
                if key in self._metrics:
                    self._metrics.move_to_end(key)
            if engine.monotonic_ns() >= now_ns + budget_ns or engine.monotonic_ns() < self._retry_ns:
                break
        self._rolls_left = min(self._rolls_left, len(self._metrics))
        return self._rolls_left > 0

    def _roll(self, key: bytes, now_ms: int) -> bool:
        """Whether there is more to do for a metric."""
        if not self._metrics[key] and self._rounds % _IDLE_ROUNDS:
            return False
        if not self.series.exists(key):
            if not self._is_waiting(key):
                del self._metrics[key]
            return False
        try:
            more = self.series.roll(key, now_ms)
            # What came since the last minute is for the next round.
            self._metrics[key] = more or self.series.has_more(key)
            return more
        except CommandError as error:
            # Somebody else's stream, or none: it is left alone.
            self._engine.log("warning", "series not rolled up", key=_text(key), reason=error.message)
            return False

    def look_some(self, budget_ns: int) -> bool:
        """Look through the database for streams of metrics that were loaded, or that somebody else has made."""
        engine = self._engine
        if engine.loading is not None:
            return False
        now_ns = engine.monotonic_ns()
        if self._cursor < 0 and now_ns < self._look_ns:
            return False
        self._look_ns = now_ns + _LOOK_PERIOD_NS
        db = engine.databases[0]
        stop_ns = now_ns + budget_ns
        self._cursor = max(0, self._cursor)
        while True:
            self._cursor, keys = db.scan(self._cursor, _SCAN_KEYS)
            for key in keys:
                for level in LEVELS:
                    if key.startswith(level.prefix):
                        self._metrics.setdefault(key[len(level.prefix) :], True)
            if not self._cursor:
                self._cursor = -1
                return False
            if engine.monotonic_ns() >= stop_ns:
                return True

    # Reading

    def read(
        self,
        key: bytes,
        kind: str,
        from_ms: int | None = None,
        to_ms: int | None = None,
        period_s: int = 60,
        fill: str = "none",
    ) -> dict[str, Any]:
        """A metric's values as plain data, with what is still in the buffer.  Raises CommandError."""
        answer: dict[str, Any] = run_out(self.reading(key, kind, from_ms, to_ms, period_s, fill))
        return answer

    def reading(self, key: bytes, kind: str, from_ms: int | None, to_ms: int | None, period_s: int, fill: str) -> Steps:
        """As read(), in steps."""
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise BadMetric
        question = Question(kind, from_ms, to_ms, period_s, fill)
        values = yield from self.series.reading(key, question, lambda: list(self._buffered(key)))
        return {"name": key.decode("utf-8", "replace"), "values": values}

    def keys(self, pattern: bytes | None = None) -> list[bytes]:
        """The metrics there are, in order."""
        names: list[bytes] = run_out(self.listing(pattern))
        return names

    def listing(self, pattern: bytes | None = None, count: int | None = None) -> Steps:
        """As keys(), in steps: the first so many."""
        matches = matcher(pattern) if pattern is not None else None
        runs: list[list[bytes]] = []  # in order: to sort the whole at once takes long, and to join runs does not
        run: list[bytes] = []
        # In whatever order a dict has them: to follow that of an OrderedDict takes ten times as long.
        for number, key in enumerate(list(dict.keys(self._metrics)), 1):
            if (matches is None or matches(key)) and (self._is_waiting(key) or self.series.exists(key)):
                run.append(key)
            if not number % _STEP_KEYS:
                yield
            if len(run) == _RUN_KEYS:
                runs.append(sorted(run))
                run = []
        found: list[bytes] = []
        for key in islice(merge(*runs, sorted(run)), count):
            found.append(key)
            if not len(found) % _STEP_NAMES:
                yield
        return found

    def _buffered(self, key: bytes) -> Iterable[tuple[int, Tally]]:
        for start_ms in sorted(self._intervals):
            tally = self._intervals[start_ms].tallies.get(key)
            if tally is not None:
                yield start_ms, tally

    def _is_waiting(self, key: bytes) -> bool:
        return any(key in interval.tallies for interval in self._intervals.values())

    # Telling

    @property
    def values(self) -> int:
        """That were tracked since the start."""
        return self._values + sum([interval.tallies.values for interval in self._intervals.values()])

    @property
    def lag_ms(self) -> int:
        """For how long the oldest interval should have been written."""
        overdue_ns = self._engine.monotonic_ns() - self._order[0][0] if self._order else 0
        return max(0, overdue_ns) // 1_000_000

    @property
    def is_behind(self) -> bool:
        return self.lag_ms > BEHIND_INTERVALS * 1000 * self._engine.config.events_flush_interval

    def health(self) -> tuple[bool, str]:
        """Whether intervals are written when they are over, and if not, why."""
        if not self.is_behind:
            return True, ""
        reason = _text(self._error) or "the server is busy"
        return False, f"flushing is {self.lag_ms // 1000} s behind: {reason}"

    def numbers(self) -> dict[str, int]:
        """For snapshots: counters since the start, and what there is now."""
        return {
            "tracked": self.values,
            "keys": len(self._metrics),
            "waiting": self.waiting,
            "lag_ms": self.lag_ms,
            "flushed": self.flushed,
            "flushes": self.flushes,
            "flush_ns": self.flush_ns,
            "late": self.series.late,
            "overflow": self.overflow,
            "refused": self.refused,
            "dropped": self.dropped,
            "rolled": self.series.rolled,
        }


# XADD of an entry, but for what differs: the same as _request() of it, in a quarter of the time.
_ENTRY_REQUEST: Final = (
    b"*15\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$5\r\ncount\r\n$%d\r\n%b\r\n$3\r\nsum\r\n$%d\r\n%b\r\n"
    b"$3\r\nmin\r\n$%d\r\n%b\r\n$3\r\nmax\r\n$%d\r\n%b\r\n$4\r\nlast\r\n$%d\r\n%b\r\n"
    b"$9\r\nhistogram\r\n$%d\r\n%b\r\n"
)


def _entry_request(entry_id: bytes, cell: Cell) -> bytes:
    key, _, count, total, least, greatest, last, _, histogram = cell
    name, number, total_text, text = PREFIX + key, b"%d" % count, format_value(total), format_value(least)
    greatest_text = text if greatest == least else format_value(greatest)
    last_text = text if last == least else format_value(last)
    return _ENTRY_REQUEST % (
        len(name), name, len(entry_id), entry_id, len(number), number, len(total_text), total_text, len(text), text,
        len(greatest_text), greatest_text, len(last_text), last_text, len(histogram), histogram,
    )  # fmt: skip


def _request(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def _words(cell: Cell) -> list[bytes]:
    _, _, count, total, least, greatest, last, _, histogram = cell
    return words_of(count, total, least, greatest, last, histogram)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").removeprefix("-")
