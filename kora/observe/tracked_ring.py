"""Tracked counts on their way from the sidecar to the data process, in memory that both have and neither's end takes.

The sidecar adds up what it is told, and four times a second puts the sums into a ring; the data process takes them out
when it has the time.  Each position has one writer: who puts moves WRITTEN, last of all, and who takes moves READ,
after what was taken is counted.  So whatever is put is counted once, whichever process is killed when.

What the sidecar has not put yet it has also written down, track by track, in a log beside the ring.  A log belongs to
the position at which the next sums will be put: once they are, WRITTEN is another and the log counts for nothing, in
the same store.  A sidecar that was killed leaves its log behind, and the next one counts it again from there.

Positions only grow; the place of one is its remainder.  A record is its length in 8 bytes and as many bytes, up to the
next multiple of 8; a record that does not fit before the end of the ring is put at its start, and _SKIP says so.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

RING_BYTES: Final = 64 << 20  # 100,000 keys of the greatest length; only what is used takes memory
LOG_BYTES: Final = 8 << 20
_HEAD_BYTES: Final = 4096
_RING: Final = _HEAD_BYTES
_LOG: Final = _RING + RING_BYTES

# Words of the head.
_WRITTEN: Final = 0
_READ: Final = 1
_LOG_FOR: Final = 2  # where the sums of the log will be put
_LOG_SIZE: Final = 3
_LOG_INTERVAL: Final = 4  # ms: of the records that have no time of their own
_TRACKED: Final = 5  # how often something was tracked, ever
_SHIPPED: Final = 6  # of these, what has been put or lost
_LOST: Final = 7
# CLOCK_MONOTONIC: when something was put and nothing else was there, when something was last taken, and when all that
# was taken was last found to be written to its streams in time.
_PUT_NS: Final = 8
_TAKEN_NS: Final = 9
_FLUSHED_NS: Final = 10
_NO_LOG: Final = (1 << 64) - 1

_LENGTH: Final = struct.Struct("=Q")
_SKIP: Final = (1 << 64) - 1
# Above this much, memory of the ring is given back once all of it was taken.
_KEEP_BYTES: Final = 1 << 20

# A record of the log: length of the key, and whether there is a time; the value; perhaps the time; the key.
_TRACK: Final = struct.Struct("<H12s")
_TIME: Final = struct.Struct("<q")
_HAS_TIME: Final = 1 << 15
_KEY_MASK: Final = _HAS_TIME - 1

Track: TypeAlias = "tuple[bytes, int, int | None]"  # key, units as kora.types.tally has them, time in ms or None


class TrackedRing:
    """Both ends; `fd` is what the parent hands to its child."""

    __slots__ = ("_log_size", "_memory", "fd", "words")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, os.fstat(fd).st_size)
        self.words = memoryview(self._memory)[:_HEAD_BYTES].cast("Q")
        self._log_size = 0  # while the log is written

    @classmethod
    def shared(cls) -> "TrackedRing":
        """One that a child process can open, too."""
        fd = os.memfd_create("kora-events")
        os.ftruncate(fd, _LOG + LOG_BYTES)
        ring = cls(fd)
        ring.words[_LOG_FOR] = _NO_LOG
        return ring

    def close(self) -> None:
        self.words.release()
        self._memory.close()
        os.close(self.fd)

    # What both may ask

    @property
    def is_closed(self) -> bool:
        return self._memory.closed

    @property
    def written(self) -> int:
        return self.words[_WRITTEN]

    @property
    def read(self) -> int:
        return self.words[_READ]

    @property
    def waiting_bytes(self) -> int:
        return self.words[_WRITTEN] - self.words[_READ]

    @property
    def tracked(self) -> int:
        return self.words[_TRACKED]

    @property
    def lost(self) -> int:
        return self.words[_LOST]

    @property
    def flushed_ns(self) -> int:
        return self.words[_FLUSHED_NS]

    @property
    def waiting_since_ns(self) -> int:
        """CLOCK_MONOTONIC: since when the data process has taken nothing of what waits; 0 if nothing does."""
        return max(self.words[_PUT_NS], self.words[_TAKEN_NS]) if self.waiting_bytes else 0

    # The sidecar's end

    def put(self, records: Sequence[bytes], tracks: int, now_ns: int) -> bool:
        """All records or, where there is no room, none.  `tracks` is how many calls of track() they stand for.

        The log is at an end with that: begin_log() begins another.
        """
        start = position = self.words[_WRITTEN]
        end = self.words[_READ] + RING_BYTES
        place = start % RING_BYTES
        if start == self.words[_READ] and place > _KEEP_BYTES and place >= sum(map(_size_of, records)):
            # All is taken: from the start again, and what is before here need not stay in memory.
            position = self._skip(position)
            self._give_back(place)
        for record in records:
            size_bytes = _size_of(record)
            place = position % RING_BYTES
            if place + size_bytes > RING_BYTES:
                if position + RING_BYTES - place > end:
                    return False
                position = self._skip(position)
                place = 0
            if position + size_bytes > end:
                return False
            first = _RING + place + _LENGTH.size
            _LENGTH.pack_into(self._memory, _RING + place, len(record))
            self._memory[first : first + len(record)] = record
            position += size_bytes
        if start == self.words[_READ]:
            self.words[_PUT_NS] = now_ns
        self.words[_WRITTEN] = position
        self.words[_SHIPPED] += tracks
        return True

    def begin_log(self, interval_ms: int) -> None:
        words = self.words
        self._log_size = words[_LOG_SIZE] = 0
        words[_LOG_INTERVAL] = interval_ms
        words[_LOG_FOR] = words[_WRITTEN]

    def resume_log(self) -> None:
        """Go on with the log that was left behind."""
        self._log_size = self.words[_LOG_SIZE]

    def drop_log(self) -> None:
        """From now on nothing is written down: what is not put is lost with the process that has it."""
        self.words[_LOG_FOR] = _NO_LOG

    def write_down(self, track: bytes, tracked: int) -> bool:
        """One track() more, as pack_track() has it, of so many ever; False where the log is full."""
        start = self._log_size
        stop = start + len(track)
        words = self.words
        if stop > LOG_BYTES:
            words[_TRACKED] = tracked
            return False
        self._memory[_LOG + start : _LOG + stop] = track
        self._log_size = words[_LOG_SIZE] = stop
        words[_TRACKED] = tracked
        return True

    def note_tracked(self, tracked: int) -> None:
        """So many were tracked ever, the last of them not written down."""
        self.words[_TRACKED] = tracked

    def left_behind(self) -> tuple[int, list[Track]]:
        """The interval of a log that a process which was killed has left, and what is in it; for its successor."""
        words = self.words
        if words[_LOG_FOR] != words[_WRITTEN]:
            return 0, []
        data = self._memory[_LOG : _LOG + words[_LOG_SIZE]]
        return words[_LOG_INTERVAL], list(_unpack(data))

    def settle(self, found: int) -> int:
        """How many tracks are lost, where so many were found in the log; they are noted as such."""
        words = self.words
        if words[_LOG_FOR] not in (words[_WRITTEN], _NO_LOG):
            # Killed between the put and the next log: nothing was tracked there.
            words[_SHIPPED] = words[_TRACKED]
        # A store of the number follows that of the record: the last may not be counted yet.
        words[_TRACKED] = max(words[_TRACKED], words[_SHIPPED] + found)
        lost = words[_TRACKED] - words[_SHIPPED] - found
        words[_LOST] += lost
        words[_SHIPPED] += lost
        return lost

    # The data process' end

    def take(self) -> tuple[bytes, int] | None:
        """The next record, and where it ends: for taken(), once it is counted."""
        words = self.words
        position, written = words[_READ], words[_WRITTEN]
        while position < written:
            place = _RING + position % RING_BYTES
            (length,) = _LENGTH.unpack_from(self._memory, place)
            if length == _SKIP:
                position += RING_BYTES - position % RING_BYTES
                continue
            assert length <= RING_BYTES, length
            first = place + _LENGTH.size
            record = self._memory[first : first + length]
            return record, position + _size_of(record)
        words[_READ] = position
        return None

    def taken(self, position: int, now_ns: int) -> None:
        self.words[_TAKEN_NS] = now_ns
        self.words[_READ] = position

    def flushed(self, now_ns: int) -> None:
        self.words[_FLUSHED_NS] = now_ns

    def _skip(self, position: int) -> int:
        """Say here that the next record is at the start of the ring; returns its position."""
        place = position % RING_BYTES
        _LENGTH.pack_into(self._memory, _RING + place, _SKIP)
        return position + RING_BYTES - place

    def _give_back(self, size_bytes: int) -> None:
        # Whole pages before the place of the skip that leads back to the start.
        size_bytes -= size_bytes % mmap.PAGESIZE
        with contextlib.suppress(OSError):
            self._memory.madvise(mmap.MADV_REMOVE, _RING, size_bytes)


def _size_of(record: bytes) -> int:
    return _LENGTH.size + (len(record) + 7 & ~7)


def pack_track(key: bytes, units: int, at_ms: int | None) -> bytes:
    """A record of the log."""
    value = units.to_bytes(12, "little", signed=True)
    if at_ms is None:
        return _TRACK.pack(len(key), value) + key
    return _TRACK.pack(len(key) | _HAS_TIME, value) + _TIME.pack(at_ms) + key


def _unpack(data: bytes) -> Iterator[Track]:
    place = 0
    while place < len(data):
        flags, value = _TRACK.unpack_from(data, place)
        place += _TRACK.size
        at_ms = None
        if flags & _HAS_TIME:
            (at_ms,) = _TIME.unpack_from(data, place)
            place += _TIME.size
        stop = place + (flags & _KEY_MASK)
        yield data[place:stop], int.from_bytes(value, "little", signed=True), at_ms
        place = stop
