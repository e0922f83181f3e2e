"""Service time: what a client feels, from the moment its request could be read until its reply was handed over.

A command's `wait` is from when its bytes could be read until it began, its `service` from then until its reply was
given to the socket, so that service = wait + exec + flush.  Both are kept as histograms by command.

When bytes could be read, nobody says; but there are bounds.  A request came after its client's last reply was on its
way (who sends more before that waits for itself), and after the loop asked for events the last time but one, which
would have reported it; and it came before the loop was told of it.  If the loop slept until then, that is when it came.
Else it may have been at any time between: the estimate supposes that the client's pauses are exponentially distributed
about their mean, which it keeps for each client.  Where the bounds are far apart, as they are behind a command that
took long, the system is asked how long ago the client's last data came, which it knows by a few ms.

What a read has waited is charged at once to what the loop did in that time.  Everything that takes NOTABLE_NS without
letting others in is kept as an interval with its culprit: a command, a turn of many, a job.  A read is charged to those
that it waited for, each by the overlap, and the rest is kept as one number: that is for short commands.  So what was
inflicted adds up to what was suffered.

A read is looked at once, and the commands of a read in runs of the same command, whose waits are recorded as that in
the middle of the run: they are a few µs apart, and to record each would cost as much as to run it.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from kora.clock import JIFFY_NS
from kora.observe.shard_stats import CommandStats, packed

NOTABLE_NS: Final = 100_000
INTERVALS_MAX: Final = 512
RUN_MAX: Final = 16
KEY_SHOWN_MAX: Final = 32  # as on the activity board
# Between asking for events and the first read of a turn: if it is more, and more than such a part of the time before in
# which the loop was busy, then the loop has slept.
ASLEEP_NS: Final = 30_000
ASLEEP_PARTS: Final = 8
ASK_NS: Final = 2 * JIFFY_NS
EVENT_LOOP: Final = "event-loop"  # who is to blame where nobody else is known
# Of the same culprit, what is no further apart is one.
_APART_NS: Final = 20_000
# By how much the mean of a client's pauses follows the last.
_PAUSE_SHIFT: Final = 3
_PAUSE_NS_MAX: Final = 60_000_000_000  # longer ones tell no more


class Answered(Protocol):
    """What is told when a request is answered: an entry of the slow log, or a span."""

    def answered(self, arrived_ns: int, now_ns: int) -> None:
        """It could be read at that time, about, and the replies of its read are handed over now."""


class Logged(Answered, Protocol):
    wait_us: int


class Followed(Answered, Protocol):
    arrived_ns: int
    begun_ns: int  # when it was read
    parsed_ns: int  # when its read was parsed; 0: not known


class Reader(Protocol):
    """What is asked of a client."""

    id: int
    address: str
    last_ns: int
    pause_ns: int
    arrived_ns: int

    def data_age_ns(self) -> int:
        """How long ago the system says that the last data came; -1 where it does not say."""


@dataclass(frozen=True)
class Charge:
    """What was charged to a culprit since the last time that this was asked."""

    slot: int  # the command's in the registry, or -1
    label: str  # what else it is, where it is no command
    key: bytes
    client_id: int
    address: str
    victims: int
    waited_ns: int
    waited_ns_min: int
    waited_ns_max: int


Rest = tuple[int, int, int, int]  # victims, waited_ns, waited_ns_min, waited_ns_max


class _Interval:
    __slots__ = (
        "address", "client_id", "key", "label", "slot", "start_ns", "stop_ns",
        "victims", "waited_ns", "waited_ns_max", "waited_ns_min",
    )  # fmt: skip

    def __init__(
        self, start_ns: int, stop_ns: int, slot: int, label: str, key: bytes, client_id: int, address: str
    ) -> None:
        self.start_ns = start_ns
        self.stop_ns = stop_ns
        self.slot = slot
        self.label = label
        self.key = key
        self.client_id = client_id
        self.address = address
        self.victims = self.waited_ns = self.waited_ns_min = self.waited_ns_max = 0


class _Reading:
    """One read, or one turn over what is left of an earlier one."""

    __slots__ = ("arrived_ns", "begun_ns", "entries", "outer", "piece_ns", "runs")

    def __init__(self, outer: "_Reading | None", arrived_ns: int, now_ns: int) -> None:
        self.outer = outer
        self.arrived_ns = arrived_ns
        self.begun_ns = now_ns
        self.piece_ns = now_ns  # from where on nothing is noted yet
        self.runs: list[tuple[int, int, int]] = []  # slot, waited_ns, count
        self.entries: list[Answered] = []  # to be told how long it took


class Service:
    def __init__(self, commands: int) -> None:
        self.waits = [CommandStats() for _ in range(commands)]  # by slot
        self.services = [CommandStats() for _ in range(commands)]
        # What reads have suffered.
        self.reads = 0
        self.suffered_ns = self.suffered_ns_min = self.suffered_ns_max = 0
        # The loop.  Without a loop that tells when it asks for events, every read is taken for an answer of its own.
        self._has_turns = False
        self._prepared_ns = 0  # when it asked for events
        self._polled_ns = 0  # when it got them; 0: it has not yet
        self._window_ns = 0  # what comes now came after that
        self._busy_ns = 0  # when whatever was last known to run had ended
        self._lagging: tuple[int, str, bytes, int, str] | None = None  # whose reply did not go out at once
        # What took long, in order of time, with what was charged to it.
        self._intervals: deque[_Interval] = deque()
        self._noted_ns = [0] * commands
        self._rest = [0, 0, 0, 0]
        self._reading: _Reading | None = None

    # From the loop

    # Where it is to call something that is not Python: see kora/server/turns.py.
    loop_hooks: Final[tuple[int, int, int, int] | None] = None

    def prepared(self, now_ns: int) -> None:
        """The loop is about to ask for events."""
        self._note_gap(max(self._busy_ns, self._polled_ns), now_ns)
        self._has_turns = True
        self._window_ns = self._polled_ns or self._window_ns
        self._prepared_ns = self._busy_ns = now_ns
        self._polled_ns = 0

    def checked(self, now_ns: int) -> None:
        """The loop has dealt with all that sockets had for it."""
        if not self._polled_ns:
            self._polled_ns = self._busy_ns = now_ns

    # From whoever executes requests

    def begin(self, client: Reader, now_ns: int) -> None:
        """Requests were read."""
        if self._lagging is not None and self._lagging[3] == client.id:
            self._lagging = None
        low_ns, high_ns = self._bounds(client.last_ns, now_ns)
        width_ns, pause_ns = high_ns - low_ns, client.pause_ns
        if width_ns >= ASK_NS:
            low_ns, high_ns = _narrowed(low_ns, high_ns, now_ns, client.data_age_ns())
            arrived_ns = (low_ns + high_ns) // 2
        elif pause_ns:
            # About the mean of an exponential distribution below a limit, which has no simpler form that is exact.
            arrived_ns = low_ns + width_ns * pause_ns // (2 * pause_ns + width_ns)
        else:
            arrived_ns = low_ns + width_ns // 2
        last_pause_ns = min(max(0, arrived_ns - client.last_ns), _PAUSE_NS_MAX)
        client.pause_ns = pause_ns + ((last_pause_ns - pause_ns) >> _PAUSE_SHIFT) if pause_ns else last_pause_ns
        client.arrived_ns = arrived_ns
        self._reading = _Reading(self._reading, arrived_ns, now_ns)
        self._charge(low_ns, arrived_ns, high_ns, now_ns)

    def go_on(self, client: Reader, now_ns: int) -> None:
        """A client has a turn over what it sent before: it has waited for itself, or for what it asked for."""
        self._reading = _Reading(self._reading, client.arrived_ns or now_ns, now_ns)

    def ran(self, slot: int, started_ns: int, count: int) -> None:
        """So many of a command ran one after another, begun at that time on average."""
        if self._reading is not None:
            self._reading.runs.append((slot, started_ns - self._reading.arrived_ns, count))

    def note(self, client: Reader, slot: int, key: bytes, start_ns: int, stop_ns: int) -> None:
        """A command has taken at least NOTABLE_NS."""
        reading = self._reading
        if reading is not None:
            if start_ns - reading.piece_ns >= NOTABLE_NS and reading.runs:
                self._add(reading.piece_ns, start_ns, reading.runs[-1][0], "", b"", client.id, client.address)
            reading.piece_ns = stop_ns
        self._noted_ns[slot] += stop_ns - start_ns
        self._add(start_ns, stop_ns, slot, "", key[:KEY_SHOWN_MAX], client.id, client.address)

    def write_down(self, entry: Logged, started_ns: int) -> None:
        """An entry of the slow log is to be told how long its command waited, and how long its service took."""
        if self._reading is not None:
            entry.wait_us = max(0, started_ns - self._reading.arrived_ns) // 1_000
            self._reading.entries.append(entry)

    def follow(self, span: Followed) -> bool:
        """A span is told when its request came, and will be told when it is answered; False if nobody knows."""
        reading = self._reading
        if reading is None:
            return False
        span.arrived_ns, span.begun_ns = reading.arrived_ns, reading.begun_ns
        reading.entries.append(span)
        return True

    def end(self, client: Reader, now_ns: int) -> None:
        """The replies are handed over."""
        reading = self._reading
        assert reading is not None
        self._reading = reading.outer
        service_ns = max(0, now_ns - reading.arrived_ns)
        for slot, waited_ns, count in reading.runs:
            self.waits[slot].record_many(max(0, waited_ns), count)
            self.services[slot].record_many(service_ns, count)
        if reading.runs and now_ns - reading.piece_ns >= NOTABLE_NS:
            self._add(reading.piece_ns, now_ns, reading.runs[-1][0], "", b"", client.id, client.address)
        for entry in reading.entries:
            entry.answered(reading.arrived_ns, now_ns)
        client.last_ns = self._busy_ns = now_ns

    def lag(self, client: Reader) -> None:
        """A reply did not go out at once: the loop is busy with the rest of it later."""
        newest = self._intervals[-1] if self._intervals else None
        if newest is not None and newest.client_id == client.id:
            self._lagging = newest.slot, newest.label, newest.key, newest.client_id, newest.address

    def forget(self, client: Reader) -> None:
        """It is gone."""
        if self._lagging is not None and self._lagging[3] == client.id:
            self._lagging = None

    # From jobs

    def note_job(self, label: str, start_ns: int, stop_ns: int) -> None:
        """Something else has run on the loop."""
        if stop_ns - start_ns >= NOTABLE_NS:
            self._add(start_ns, stop_ns, -1, label, b"", 0, "")
        self._busy_ns = stop_ns

    # For views

    def packed(self) -> tuple[bytes, bytes]:
        """Waits and services, each as ShardStats.packed() has the commands of a shard."""
        return packed(self.waits), packed(self.services)

    def used_slots(self) -> list[int]:
        return [slot for slot, row in enumerate(self.waits) if row.calls]

    def noted_ns(self, slot: int) -> int:
        """What this command took where it took long."""
        return self._noted_ns[slot]

    def drain(self) -> tuple[list[Charge], Rest]:
        """What was charged since the last time: by culprit, and to short commands."""
        charges = []
        for interval in self._intervals:
            if interval.waited_ns_max:
                charges.append(
                    Charge(
                        interval.slot, interval.label, interval.key, interval.client_id, interval.address,
                        interval.victims, interval.waited_ns, interval.waited_ns_min, interval.waited_ns_max,
                    )
                )  # fmt: skip
                interval.victims = interval.waited_ns = interval.waited_ns_min = interval.waited_ns_max = 0
        rest, self._rest = self._rest, [0, 0, 0, 0]
        return charges, (rest[0], rest[1], rest[2], rest[3])

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        for rows in (self.waits, self.services):
            rows[:] = [CommandStats() for _ in rows]
        self._noted_ns = [0] * len(self._noted_ns)
        self.reads = self.suffered_ns = self.suffered_ns_min = self.suffered_ns_max = 0

    # Inside

    def _bounds(self, last_ns: int, now_ns: int) -> tuple[int, int]:
        """Between when and when what is read now has come."""
        if self._reading is not None:
            self._polled_ns = self._window_ns = now_ns  # in the middle of a script, which looks at sockets now and then
        elif not self._has_turns:
            if self._has_slept(self._busy_ns, now_ns):
                self._window_ns = now_ns
            self._polled_ns = now_ns
        elif self._polled_ns:
            self._note_gap(self._busy_ns, now_ns)
        else:
            self._polled_ns = now_ns
            if self._has_slept(self._prepared_ns, now_ns):
                self._window_ns = now_ns
        low_ns = min(max(self._window_ns, last_ns), now_ns)
        return low_ns, max(self._polled_ns, low_ns)

    def _has_slept(self, start_ns: int, now_ns: int) -> bool:
        """Whether there was nothing to do since then, rather than that it took so long to be told what there is.

        The longer the loop was busy before, the more has to be said for it: everybody's waiting is forgotten then.
        """
        gap_ns = now_ns - start_ns
        return gap_ns > ASLEEP_NS and gap_ns > (start_ns - self._window_ns) // ASLEEP_PARTS

    def _charge(self, low_ns: int, arrived_ns: int, high_ns: int, now_ns: int) -> None:
        least_ns, waited_ns, most_ns = now_ns - high_ns, now_ns - arrived_ns, now_ns - low_ns
        self.reads += 1
        self.suffered_ns += waited_ns
        self.suffered_ns_min += least_ns
        self.suffered_ns_max += most_ns
        is_victim = waited_ns > 0
        for interval in reversed(self._intervals):
            if interval.stop_ns <= low_ns:
                break
            stop_ns = min(interval.stop_ns, now_ns)
            waited = max(0, stop_ns - max(interval.start_ns, arrived_ns))
            least = max(0, stop_ns - max(interval.start_ns, high_ns))
            most = max(0, stop_ns - max(interval.start_ns, low_ns))
            if waited:
                interval.victims += 1
                is_victim = False
            interval.waited_ns += waited
            interval.waited_ns_min += least
            interval.waited_ns_max += most
            waited_ns -= waited
            least_ns -= least
            most_ns -= most
        rest = self._rest
        rest[0] += is_victim
        rest[1] += waited_ns
        rest[2] += least_ns
        rest[3] += most_ns

    def _note_gap(self, start_ns: int, stop_ns: int) -> None:
        """The loop did something that nobody has told of."""
        if stop_ns - start_ns < NOTABLE_NS:
            return
        slot, label, key, client_id, address = self._lagging or (-1, EVENT_LOOP, b"", 0, "")
        self._add(start_ns, stop_ns, slot, label, key, client_id, address)

    def _add(
        self, start_ns: int, stop_ns: int, slot: int, label: str, key: bytes, client_id: int, address: str
    ) -> None:
        intervals = self._intervals
        if intervals:
            newest = intervals[-1]
            start_ns = max(start_ns, newest.stop_ns)
            is_same = newest.slot == slot and newest.client_id == client_id and newest.label == label
            if is_same and key in (b"", newest.key) and start_ns - newest.stop_ns < _APART_NS:
                # Whatever it did between belongs to it as well: sending its reply, for one.
                newest.stop_ns = max(stop_ns, newest.stop_ns)
                return
            if len(intervals) == INTERVALS_MAX:
                self._forget(intervals.popleft())
        if stop_ns > start_ns:
            intervals.append(_Interval(start_ns, stop_ns, slot, label, key, client_id, address))

    def _forget(self, interval: _Interval) -> None:
        rest = self._rest
        rest[0] += interval.victims
        rest[1] += interval.waited_ns
        rest[2] += interval.waited_ns_min
        rest[3] += interval.waited_ns_max


def _narrowed(low_ns: int, high_ns: int, now_ns: int, age_ns: int) -> tuple[int, int]:
    """What the system says of the time when data came, within what is known of it."""
    if age_ns < 0:
        return low_ns, high_ns
    start_ns, stop_ns = max(low_ns, now_ns - age_ns - JIFFY_NS), min(high_ns, now_ns - age_ns + JIFFY_NS)
    return (start_ns, stop_ns) if start_ns <= stop_ns else (low_ns, high_ns)
