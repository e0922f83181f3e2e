"""What is tracked over HTTP, added up until the data process takes it: four times a second, and at an interval's end.

One event costs a look-up, an addition and a line of the log that outlives this process (kora.observe.tracked_ring).
Whoever tracks the same value of the same key again has both ready made: a Hit, whose count is multiplied out at the
next turn.  While the data process takes nothing, sums stay here: by key and interval, so that a minute of it costs no
more than the keys of a minute.
"""

import marshal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from kora.log import logger
from kora.observe.tracked_ring import TrackedRing, pack_track
from kora.sidecar.event_requests import Event
from kora.types.tally import Tally, interval_start, interval_stop

log = logger("kora.events")

SHIP_S: Final = 0.25
# Cells in a record: what the data process takes at a time, and so how long its clients wait: about a millisecond.
CELLS_MAX: Final = 256
# Sums of keys and intervals that may wait here; they take some 100 MB.
PENDING_MAX: Final = 200_000
# Hits that are kept for the next time; then all are made anew.
_HITS_MAX: Final = 20_000


class Overloaded(Exception):
    """The data process takes nothing, and no more can be kept."""


class Timers(Protocol):
    """What is wanted of an event loop."""

    def call_later(self, delay_s: float, callback: Callable[[], object], /) -> Any: ...


class Hit:
    """One value of one key, tracked at the time it comes: how often since the last turn, and when last."""

    __slots__ = ("count", "key", "last", "track", "units")

    def __init__(self, key: bytes, units: int) -> None:
        self.key = key
        self.units = units
        self.track = pack_track(key, units, None)
        self.count = 0
        self.last = 0


class Tracker:
    def __init__(
        self,
        ring: TrackedRing,
        timers: Timers,
        interval_s: int,
        on_put: Callable[[], object],
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        # For life.
        self._ring = ring
        self._timers = timers
        self._wall_ms = wall_ms
        self._on_put = on_put  # the data process is to look
        self.on_forget: Callable[[], object] = lambda: None  # no hit of before is to be used any more
        self._interval_ms = interval_s * 1000  # may change at run time
        # What was tracked, ever; whoever was here before this process went on counting included.
        self.tracked = ring.tracked
        self._unshipped = 0
        # Of this turn, which begins with the first event and is over when all is put.
        self._timer: Any = None
        self._start_ms = 0  # of the interval
        self._touched: list[Hit] = []
        self._pending: dict[tuple[int, bytes], Tally] = {}
        self._is_logged = False  # each event is written down
        self._is_timed = False  # the log has an interval before this one, and what is written down needs its time
        # Kept for longer.
        self._hits: dict[tuple[bytes, int], Hit] = {}

    def adjust(self, interval_s: int) -> None:
        """Settings have changed."""
        if interval_s * 1000 != self._interval_ms:
            self.ship()
            self._interval_ms = interval_s * 1000

    def recover(self) -> tuple[int, int]:
        """Count what a sidecar that was killed had written down; returns how many events, and how many are lost."""
        start_ms, tracks = self._ring.left_behind()
        lost = self._ring.settle(len(tracks))
        self.tracked = self._ring.tracked
        for key, units, at_ms in tracks:
            at_ms = start_ms if at_ms is None else at_ms
            self._add(key, units, at_ms, 1)
        self._unshipped = len(tracks)
        if tracks and not self._put():
            self._ring.resume_log()
            self._is_logged = True
            self._begin()
        return len(tracks), lost

    def hit(self, key: bytes, units: int) -> Hit:
        """For count(), and for as long as on_forget is not called."""
        hit = self._hits.get((key, units))
        if hit is None:
            if len(self._hits) >= _HITS_MAX:
                self._hits.clear()
                self.on_forget()
            hit = self._hits[key, units] = Hit(key, units)
        return hit

    def count(self, hit: Hit) -> None:
        """Track it, now.  Raises Overloaded."""
        if not hit.count:
            self._touch(hit)
        hit.count += 1
        hit.last = self.tracked = tracked = self.tracked + 1
        if self._is_timed or not self._ring.write_down(hit.track, tracked):
            self._write_down(pack_track(hit.key, hit.units, self._start_ms))

    def track(self, events: Sequence[Event], now_ms: int) -> None:
        """Track all of them or, with Overloaded, none; `now_ms` is the time of those that have none."""
        self._begin()
        self._check_room(len(events))
        self._fold()  # what came before is not to be the last
        timed = [(key, units, now_ms if at_ms is None else at_ms) for key, units, at_ms in events]
        for key, units, at_ms in timed:
            self._add(key, units, at_ms, 1)
        self._unshipped += len(events)
        self.tracked += len(events)
        # In one piece: after a crash, too, it is all or none.
        self._write_down(b"".join(pack_track(*one) for one in timed))

    def ship(self) -> bool:
        """Put everything into the ring; False where it is full, and then it stays here."""
        self._fold()
        return self._put() if self._pending else True

    @property
    def waiting(self) -> int:
        """Sums that are not put yet."""
        return len(self._pending) + len(self._touched)

    # Inside

    def _begin(self) -> None:
        """The first event of a turn, or one that may belong to the next interval."""
        if self._timer is not None:
            return
        now_ms = self._wall_ms()
        self._start_ms = start_ms = interval_start(now_ms, self._interval_ms)
        if not self._pending:
            self._ring.begin_log(start_ms)
            self._is_logged, self._is_timed = True, False
        else:
            self._is_timed = True
        left_s = (interval_stop(start_ms, self._interval_ms) - now_ms) / 1000
        self._timer = self._timers.call_later(max(0.001, min(SHIP_S, left_s)), self._turn)

    def _turn(self) -> None:
        self._timer = None
        if not self.ship():
            self._begin()

    def _touch(self, hit: Hit) -> None:
        if self._timer is None:
            self._begin()
        if (self._start_ms, hit.key) not in self._pending:
            self._check_room(1)
        self._touched.append(hit)

    def _check_room(self, events: int) -> None:
        if self.waiting + events > PENDING_MAX and not self.ship():
            raise Overloaded

    def _write_down(self, track: bytes) -> None:
        if not self._is_logged:
            self._ring.note_tracked(self.tracked)
        elif not self._ring.write_down(track, self.tracked) and not self.ship():
            # The log is full, and there is no room for the sums that it stands for.
            log.warning("tracked counts are kept in memory alone", events=self._unshipped)
            self._ring.drop_log()
            self._is_logged = False
            self._is_timed = True  # so that nothing is written down

    def _fold(self) -> None:
        """Make sums of hits."""
        touched = self._touched
        if not touched:
            return
        self._touched = []
        touched.sort(key=_last)
        # Within the interval, even if the turn is late.
        at_ms = min(max(self._wall_ms(), self._start_ms), interval_stop(self._start_ms, self._interval_ms) - 1)
        for hit in touched:
            self._add(hit.key, hit.units, at_ms, hit.count)
            self._unshipped += hit.count
            hit.count = 0

    def _add(self, key: bytes, units: int, at_ms: int, count: int) -> None:
        place = interval_start(at_ms, self._interval_ms), key
        tally = self._pending.get(place)
        if tally is None:
            tally = self._pending[place] = Tally()
        tally.add(units, at_ms, count)

    def _put(self) -> bool:
        cells = [tally.cell(key, start_ms) for (start_ms, key), tally in self._pending.items()]
        records = [marshal.dumps(cells[first : first + CELLS_MAX], 2) for first in range(0, len(cells), CELLS_MAX)]
        if not self._ring.put(records, self._unshipped, time.monotonic_ns()):
            return False
        self._pending.clear()
        self._unshipped = 0
        self._ring.begin_log(self._start_ms)
        self._is_logged, self._is_timed = True, False
        self._on_put()
        return True


def _last(hit: Hit) -> int:
    return hit.last
