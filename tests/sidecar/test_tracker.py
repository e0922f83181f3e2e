"""What is tracked over HTTP is added up, put into the ring in time, and lost by no crash."""

import marshal
import os
from collections.abc import Callable, Iterator

import pytest

from kora.observe import tracked_ring
from kora.observe.tracked_ring import TrackedRing
from kora.sidecar import tracker as tracker_module
from kora.sidecar.event_requests import Event
from kora.sidecar.tracker import Overloaded, Tracker
from kora.types.tally import UNIT, Tally

pytestmark = pytest.mark.once

START_MS = 1_700_000_040_000


class Timers:
    """A loop whose time the test moves."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.due: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], object], /) -> object:
        self.due.append((self.now_ms + delay_s * 1000, callback))
        return object()

    def advance(self, elapsed_ms: int) -> None:
        stop = self.now_ms + elapsed_ms
        while self.due and min(self.due)[0] <= stop:
            entry = min(self.due, key=lambda entry: entry[0])
            self.due.remove(entry)
            self.now_ms = max(self.now_ms, int(entry[0]))
            entry[1]()
        self.now_ms = stop


class Sidecar:
    """A tracker, and those after it."""

    def __init__(self) -> None:
        self.ring = TrackedRing.shared()
        self.timers = Timers()
        self.tracker = self.start()

    def start(self) -> Tracker:
        # A process that is killed leaves the memory and nothing else.
        self.timers.due.clear()
        ring = TrackedRing(os.dup(self.ring.fd))
        self.tracker = Tracker(ring, self.timers, 10, lambda: None, lambda: self.timers.now_ms)
        return self.tracker

    def count(self, key: bytes, value: int = 1, times: int = 1) -> None:
        for _ in range(times):
            self.tracker.count(self.tracker.hit(key, value * UNIT))

    def take(self) -> dict[tuple[bytes, int], Tally]:
        """What the data process finds, by key and seconds since the start."""
        found: dict[tuple[bytes, int], Tally] = {}
        while (taken := self.ring.take()) is not None:
            for cell in marshal.loads(taken[0]):
                found.setdefault((cell[0], (cell[1] - START_MS) // 1000), Tally()).merge(Tally.of_cell(cell))
            self.ring.taken(taken[1], 1)
        return found

    def sums(self) -> dict[tuple[bytes, int], int]:
        return {place: tally.sum // UNIT for place, tally in self.take().items()}


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    made = Sidecar()
    yield made
    made.ring.close()


def test_counts_are_put_within_a_quarter_of_a_second(sidecar: Sidecar) -> None:
    sidecar.count(b"a", times=3)
    sidecar.count(b"a", 10)
    sidecar.count(b"b", 5)
    assert sidecar.take() == {}
    sidecar.timers.advance(250)
    found = sidecar.take()
    assert {key: (tally.count, tally.sum // UNIT) for (key, _), tally in found.items()} == {b"a": (4, 13), b"b": (1, 5)}
    tally = found[b"a", 0]
    assert (tally.min, tally.max, tally.last) == (UNIT, 10 * UNIT, 10 * UNIT)
    sidecar.timers.advance(60_000)
    assert sidecar.take() == {}


def test_the_last_value_is_the_one_that_came_last(sidecar: Sidecar) -> None:
    for value in (1, 2, 1):
        sidecar.count(b"a", value)
    sidecar.timers.advance(250)
    assert sidecar.take()[b"a", 0].last == UNIT


def test_an_interval_ends_on_time_and_no_event_is_in_two(sidecar: Sidecar) -> None:
    sidecar.timers.advance(9_950)
    sidecar.count(b"a")
    sidecar.timers.advance(50)
    sidecar.count(b"a", 2)
    sidecar.timers.advance(250)
    assert sidecar.sums() == {(b"a", 0): 1, (b"a", 10): 2}


def test_an_event_of_another_time_goes_into_its_interval(sidecar: Sidecar) -> None:
    events = [Event(b"a", UNIT, START_MS - 1), Event(b"a", UNIT, START_MS + 15_000), Event(b"a", 5 * UNIT, None)]
    sidecar.tracker.track(events, sidecar.timers.now_ms)
    sidecar.timers.advance(250)
    assert sidecar.sums() == {(b"a", -10): 1, (b"a", 10): 1, (b"a", 0): 5}


def test_what_a_killed_sidecar_had_counted_is_counted_by_the_next(sidecar: Sidecar) -> None:
    sidecar.count(b"a", times=7)
    sidecar.timers.advance(250)
    sidecar.count(b"a", times=5)
    sidecar.tracker.track([Event(b"b", 3 * UNIT, START_MS - 5_000), Event(b"a", UNIT, None)], sidecar.timers.now_ms)
    assert sidecar.start().recover() == (7, 0)
    assert sidecar.start().recover() == (0, 0), "and by no other"
    assert sidecar.sums() == {(b"a", 0): 13, (b"b", -10): 3}
    assert (sidecar.tracker.tracked, sidecar.ring.lost) == (14, 0)


def fill(ring: TrackedRing) -> None:
    """As if the data process had not looked for a long time."""
    room = tracked_ring.RING_BYTES - ring.waiting_bytes
    assert ring.put([marshal.dumps([b"x" * (room // 2)])], 0, 0)
    while ring.put([marshal.dumps([])], 0, 0):
        pass


@pytest.fixture
def small_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked_ring, "RING_BYTES", 4096)


@pytest.mark.usefixtures("small_ring")
def test_what_does_not_fit_is_kept_and_survives_too(sidecar: Sidecar) -> None:
    fill(sidecar.ring)
    sidecar.count(b"a", times=2)
    sidecar.timers.advance(10_100)
    sidecar.count(b"a", 5)
    assert sidecar.start().recover() == (3, 0)
    sidecar.count(b"a", 1)
    sidecar.timers.advance(250)
    while (taken := sidecar.ring.take()) is not None:
        sidecar.ring.taken(taken[1], 1)
    sidecar.timers.advance(500)
    assert sidecar.sums() == {(b"a", 0): 2, (b"a", 10): 6}
    assert sidecar.ring.lost == 0


@pytest.mark.usefixtures("small_ring")
def test_without_room_for_anything_counts_stay_in_memory_and_what_a_crash_loses_is_known(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracked_ring, "LOG_BYTES", 100)
    fill(sidecar.ring)
    sidecar.count(b"a", times=10)
    assert sidecar.start().recover() == (0, 10)
    assert sidecar.ring.lost == 10
    sidecar.count(b"a", times=20)
    while (taken := sidecar.ring.take()) is not None:
        sidecar.ring.taken(taken[1], 1)
    sidecar.timers.advance(250)
    assert sidecar.sums() == {(b"a", 0): 20}


@pytest.mark.usefixtures("small_ring")
def test_what_is_kept_is_bounded(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "PENDING_MAX", 50)
    fill(sidecar.ring)
    for number in range(50):
        sidecar.count(b"%d" % number)
    with pytest.raises(Overloaded):
        sidecar.count(b"another")
    with pytest.raises(Overloaded):
        sidecar.tracker.track([Event(b"another", UNIT, None)], START_MS)
    sidecar.count(b"7")  # what is there may grow
    while (taken := sidecar.ring.take()) is not None:
        sidecar.ring.taken(taken[1], 1)
    sidecar.timers.advance(1_000)
    assert sum(sidecar.sums().values()) == 51


def test_hits_are_made_anew_where_there_are_too_many(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module, "_HITS_MAX", 3)
    forgotten: list[int] = []
    sidecar.tracker.on_forget = lambda: forgotten.append(1)
    for number in range(10):
        sidecar.count(b"%d" % number)
        sidecar.count(b"0")
    sidecar.timers.advance(250)
    sums = sidecar.sums()
    assert (len(sums), sums[b"0", 0], sum(sums.values())) == (10, 11, 20)
    assert forgotten


def test_an_interval_of_another_length_begins_at_once(sidecar: Sidecar) -> None:
    sidecar.timers.advance(5_000)
    sidecar.count(b"a")
    sidecar.tracker.adjust(1)
    sidecar.timers.advance(250)
    sidecar.count(b"a")
    sidecar.timers.advance(250)
    assert sidecar.sums() == {(b"a", 0): 1, (b"a", 5): 1}
