"""The ring that tracked counts pass through, and the log of what is not in it yet."""

import os
from collections.abc import Iterator

import pytest

from kora.observe import tracked_ring
from kora.observe.tracked_ring import RING_BYTES, TrackedRing, pack_track

pytestmark = pytest.mark.once


@pytest.fixture
def ring() -> Iterator[TrackedRing]:
    made = TrackedRing.shared()
    yield made
    made.close()


def take_all(ring: TrackedRing) -> list[bytes]:
    records = []
    while (found := ring.take()) is not None:
        record, stop = found
        records.append(record)
        ring.taken(stop, now_ns=1)
    return records


def another_end(ring: TrackedRing) -> TrackedRing:
    """What another process has of it."""
    return TrackedRing(os.dup(ring.fd))


def test_what_is_put_is_taken_once_and_in_order(ring: TrackedRing) -> None:
    assert ring.take() is None
    assert ring.put([b"one", b"", b"three"], tracks=3, now_ns=5)
    assert ring.waiting_bytes
    assert ring.waiting_since_ns == 5
    assert take_all(ring) == [b"one", b"", b"three"]
    assert (ring.waiting_bytes, ring.waiting_since_ns) == (0, 0)
    assert take_all(ring) == []


def test_a_record_that_was_not_counted_yet_is_given_again(ring: TrackedRing) -> None:
    ring.put([b"one", b"two"], 2, 0)
    assert ring.take() == ring.take()
    assert another_end(ring).take() == ring.take()


def test_all_records_are_put_or_none(ring: TrackedRing) -> None:
    part = bytes(RING_BYTES // 4)
    assert not ring.put([part] * 5, 5, 0)
    assert take_all(ring) == []
    assert ring.put([part] * 3, 3, 0)
    assert not ring.put([part] * 2, 2, 0)
    assert take_all(ring) == [part] * 3


def test_records_go_round_for_ever(ring: TrackedRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked_ring, "RING_BYTES", 4096)
    waiting: list[bytes] = []
    for number in range(3_000):
        records = [bytes([number % 256]) * (number * 37 % 900) for _ in range(number % 3)]
        if ring.put(records, len(records), 0):
            waiting += records
        else:
            assert ring.waiting_bytes > 1500, "it is refused only where there is no room"
        if number % 4 == 3:
            assert take_all(ring) == waiting
            waiting = []


def test_memory_is_given_back_once_all_is_taken(ring: TrackedRing) -> None:
    def resident_bytes() -> int:
        return os.stat(f"/proc/self/fd/{ring.fd}").st_blocks * 512

    ring.put([bytes(8 << 20)], 1, 0)
    take_all(ring)
    assert resident_bytes() >= 8 << 20
    ring.put([b"small"], 1, 0)
    assert resident_bytes() < 1 << 20
    assert take_all(ring) == [b"small"]


TRACKS = [(b"key", 10**9, None), (b"k" * 512, -(10**27), None), ("né".encode(), 1, 1_700_000_000_000)]


def write_down(ring: TrackedRing) -> None:
    for number, track in enumerate(TRACKS, 1):
        assert ring.write_down(pack_track(*track), ring.words[6] + number)


def test_a_log_that_was_left_behind_is_read_by_the_next(ring: TrackedRing) -> None:
    ring.begin_log(interval_ms=5000)
    write_down(ring)
    successor = another_end(ring)
    assert successor.left_behind() == (5000, TRACKS)
    assert successor.settle(len(TRACKS)) == 0
    assert successor.tracked == 3


def test_a_log_whose_sums_were_put_counts_for_nothing(ring: TrackedRing) -> None:
    ring.begin_log(5000)
    write_down(ring)
    ring.put([b"sums"], len(TRACKS), 0)
    successor = another_end(ring)
    assert successor.left_behind() == (0, [])
    assert successor.settle(0) == 0


def test_what_was_not_written_down_is_lost_and_known_to_be(ring: TrackedRing) -> None:
    ring.begin_log(5000)
    write_down(ring)
    ring.drop_log()
    ring.note_tracked(10)
    successor = another_end(ring)
    assert successor.left_behind() == (0, [])
    assert successor.settle(0) == 10
    assert (successor.lost, successor.settle(0)) == (10, 0), "it is noted once"


def test_a_log_that_is_full_says_so(ring: TrackedRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked_ring, "LOG_BYTES", 40)
    ring.begin_log(0)
    assert ring.write_down(b"x" * 40, 1)
    assert not ring.write_down(b"x", 2)
    assert ring.tracked == 2
