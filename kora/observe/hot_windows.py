"""Hot keys of the last 15 minutes, second by second, in a few megabytes whatever the load.

Once a second the list of kora/observe/hotkeys.py is read, and its hottest keys become a window.  For a minute a window
keeps RECENT_MAX keys, then OLD_MAX for the rest of WINDOWS_MAX seconds.  What it does not keep it has a bound for:
`rest`, which no key that is missing can have exceeded.  So whatever is summed up here is a lower bound, and `error`
says by how much at most the truth may lie above.

Half of the places are for those with most accesses in that second, half for those that are hot over all that is kept:
else, where few accesses are sampled, a key that is seen once in many seconds would be taken for one of the many that
are seen once.  Names are kept apart from the windows, once each and NAMES_MAX at most; where there are more, those with
the fewest accesses go, and with them what windows say of them.

A window's second is that of the monotonic clock; the wall clock only says what it was called, so that a clock that is
set does no harm but to AT.
"""

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Final

from kora.observe.hotkeys import HotKeys, Row

WINDOWS_MAX: Final = 900
RECENT: Final = 60  # windows that keep more
RECENT_MAX: Final = 128  # keys in each of them
OLD_MAX: Final = 40
NAMES_MAX: Final = 4096
_SECOND_NS: Final = 1_000_000_000
# A name's number is its place, and how often that place has been given away before.
_PLACE_BITS: Final = 12
_PLACE_MASK: Final = (1 << _PLACE_BITS) - 1
_GENERATION_MASK: Final = (1 << (32 - _PLACE_BITS)) - 1
# error, reads, writes, CPU time, bytes, lead of the client: what a window says of a key, in 32-bit floats, which are
# exact up to 16 million and to a ten-millionth beyond.
_NUMBERS: Final = 6


@dataclass
class HotKey:
    """What is known of one key over some time: all but the error are lower bounds."""

    name: bytes  # its beginning, if it is longer
    key_bytes: int
    database: int
    slot: int
    error: int = 0  # accesses that may have come on top
    reads: int = 0
    writes: int = 0
    cpu_ns: int = 0
    net_bytes: int = 0
    client: int = 0
    client_lead: int = 0

    @property
    def accesses(self) -> int:
        return self.reads + self.writes

    @property
    def shown_name(self) -> bytes:
        missing_bytes = self.key_bytes - len(self.name)
        return self.name if not missing_bytes else b"%b... (%d more bytes)" % (self.name, missing_bytes)


@dataclass
class Ranking:
    """The keys of some time, hottest first."""

    keys: list[HotKey]
    elapsed_ns: int
    recorded: int  # accesses to all keys, about


# What keys can be ranked by.
METRICS: Final = {
    b"ACCESSES": attrgetter("accesses"),
    b"READS": attrgetter("reads"),
    b"WRITES": attrgetter("writes"),
    b"CPU": attrgetter("cpu_ns"),
    b"NET": attrgetter("net_bytes"),
}


class _Window:
    __slots__ = ("clients", "names", "numbers", "recorded", "rest", "start_ns", "stop_ns", "unix_s")

    def __init__(self, start_ns: int, stop_ns: int, unix_s: int, recorded: int, rest: int) -> None:
        self.start_ns = start_ns
        self.stop_ns = stop_ns
        self.unix_s = unix_s
        self.recorded = recorded
        self.rest = rest
        # Of each key, most accesses first: 32 bytes.
        self.names = array("I")
        self.clients = array("I")
        self.numbers = array("f")

    def accesses(self, start: int) -> list[tuple[int, float]]:
        """Names and counts of its keys, from one on."""
        reads, writes = self.numbers[1::_NUMBERS], self.numbers[2::_NUMBERS]
        return [(self.names[at], reads[at] + writes[at]) for at in range(start, len(self.names))]

    def trim(self, count: int) -> None:
        """Keep that many keys."""
        errors = self.numbers[0::_NUMBERS]
        for at, (_, accesses) in enumerate(self.accesses(count), count):
            self.rest = max(self.rest, int(errors[at] + accesses))
        # Slices are new arrays without the room that growing ones keep.
        self.names = self.names[:count]
        self.clients = self.clients[:count]
        self.numbers = self.numbers[: _NUMBERS * count]


class _Names:
    """The keys that windows speak of, by number."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}  # by identity
        self._identities: list[int | None] = [None] * NAMES_MAX
        self._names: list[bytes] = [b""] * NAMES_MAX
        self._key_bytes = array("Q", bytes(8 * NAMES_MAX))
        self._databases = array("I", bytes(4 * NAMES_MAX))
        self._slots = array("H", bytes(2 * NAMES_MAX))
        self._generations = array("I", bytes(4 * NAMES_MAX))
        self._windows = array("I", bytes(4 * NAMES_MAX))  # how many speak of it
        self.accesses = array("d", bytes(8 * NAMES_MAX))  # in those
        self._free = list(range(NAMES_MAX))

    def heat(self, identity: int) -> float:
        """Accesses to a key in all windows that speak of it."""
        place = self._places.get(identity)
        return 0.0 if place is None else self.accesses[place]

    def keep(self, row: Row) -> int:
        """The number of a key in one more window."""
        place = self._places.get(row.identity)
        if place is None:
            if not self._free:
                self._forget_coldest()
            place = self._places[row.identity] = self._free.pop()
            self._identities[place] = row.identity
            self._names[place] = row.name
            self._key_bytes[place] = row.key_bytes
            self._databases[place] = row.database
            self._slots[place] = row.slot
        self._windows[place] += 1
        self.accesses[place] += row.reads + row.writes
        return self._generations[place] << _PLACE_BITS | place

    def drop(self, entries: Iterable[tuple[int, float]]) -> None:
        """Windows speak of keys no more, to which they had so many accesses."""
        for number, accesses in entries:
            place = number & _PLACE_MASK
            if self._generations[place] == number >> _PLACE_BITS:
                self._windows[place] -= 1
                self.accesses[place] -= accesses
                if not self._windows[place]:
                    self._forget(place)

    def key(self, number: int) -> HotKey | None:
        place = number & _PLACE_MASK
        if self._generations[place] != number >> _PLACE_BITS:
            return None
        return HotKey(self._names[place], self._key_bytes[place], self._databases[place], self._slots[place])

    def number(self, identity: int) -> int | None:
        place = self._places.get(identity)
        return None if place is None else self._generations[place] << _PLACE_BITS | place

    def _forget_coldest(self) -> None:
        # An eighth at a time, since they have to be sorted for it.
        for place in sorted(range(NAMES_MAX), key=self.accesses.__getitem__)[: NAMES_MAX // 8]:
            self._forget(place)

    def _forget(self, place: int) -> None:
        identity = self._identities[place]
        assert identity is not None, place
        del self._places[identity]
        self._identities[place] = None
        self._names[place] = b""
        self._generations[place] = (self._generations[place] + 1) & _GENERATION_MASK
        self._windows[place] = 0
        self.accesses[place] = 0.0
        self._free.append(place)

    @property
    def size_bytes(self) -> int:
        # Of each: the arrays, two pointers, and its places in the table; 33 bytes are Python's own for a name.
        return NAMES_MAX * 54 + len(self._places) * (100 + 32 + 33) + sum(map(len, self._names))


class HotWindows:
    """What HotKeys has recorded, by the second.  Whoever ticks calls end() when is_due() says so."""

    def __init__(self, hot_keys: HotKeys, now_ns: int, wall_ms: int) -> None:
        self.hot_keys = hot_keys
        self._names = _Names()
        self._windows: deque[_Window] = deque()
        self.started_ns = now_ns  # of all that is kept
        self._begin(now_ns, wall_ms)

    def _begin(self, now_ns: int, wall_ms: int) -> None:
        """Begin a window, which ends with the second of the wall clock, so that AT can name it."""
        left_ms = 1000 - wall_ms % 1000
        self._start_ns = now_ns
        self._start_ms = wall_ms
        self._due_ns = now_ns + (left_ms if left_ms >= 100 else left_ms + 1000) * 1_000_000

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self._due_ns

    def end(self, now_ns: int, wall_ms: int) -> None:
        """End the window that has begun, and begin another."""
        if self.hot_keys.recorded:
            self._windows.append(self._window(now_ns, (self._start_ms + wall_ms) // 2 // 1000))
            self.hot_keys.clear()
            if len(self._windows) > RECENT:
                window = self._windows[-RECENT - 1]
                self._names.drop(window.accesses(OLD_MAX))
                window.trim(OLD_MAX)
        self._begin(now_ns, wall_ms)
        oldest_ns = now_ns - WINDOWS_MAX * _SECOND_NS
        while self._windows and (self._windows[0].start_ns < oldest_ns or len(self._windows) > WINDOWS_MAX):
            self._names.drop(self._windows.popleft().accesses(0))

    def _window(self, now_ns: int, unix_s: int) -> _Window:
        # Once a second, and within a millisecond: so only what is kept of the list is looked at as a whole.
        outline = self.hot_keys.outline()
        outline.sort(reverse=True)
        rest = self.hot_keys.floor
        if len(outline) > RECENT_MAX:
            heat = self._names.heat
            others = outline[RECENT_MAX // 2 :]
            others.sort(key=lambda entry: heat(entry[2]), reverse=True)
            rest = max(rest, max([at_most for _, at_most, _, _ in others[RECENT_MAX // 2 :]]))
            outline[RECENT_MAX // 2 :] = sorted(others[: RECENT_MAX // 2], reverse=True)
        kept = [self.hot_keys.row(place) for _, _, _, place in outline]
        window = _Window(self._start_ns, now_ns, unix_s, self.hot_keys.recorded, rest)
        window.names = array("I", [self._names.keep(row) for row in kept])
        window.clients = array("I", [row.client & 0xFFFFFFFF for row in kept])
        window.numbers = array(
            "f",
            [
                number
                for row in kept
                for number in (row.error, row.reads, row.writes, row.cpu_ns, row.net_bytes, row.client_lead)
            ],
        )
        return window

    def last(self, seconds: int, metric: bytes, now_ns: int) -> Ranking:
        """The keys of the last seconds, the one that has begun included."""
        start_ns = now_ns - seconds * _SECOND_NS
        windows = [window for window in self._windows if window.stop_ns > start_ns]
        begun_ns = max(self.started_ns, min([start_ns, *(window.start_ns for window in windows[:1])]))
        return self._ranking(windows, metric, max(now_ns - begun_ns, 1), with_current=True)

    def at(self, unix_s: int, metric: bytes, now_ns: int) -> Ranking:
        """The keys of one second, if anything was recorded in it."""
        windows = [window for window in self._windows if window.unix_s == unix_s]
        elapsed_ns = sum(window.stop_ns - window.start_ns for window in windows)
        is_current = self._start_ms // 1000 == unix_s
        if is_current:
            elapsed_ns += now_ns - self._start_ns
        return self._ranking(windows, metric, max(elapsed_ns, 1), is_current)

    def _ranking(self, windows: list[_Window], metric: bytes, elapsed_ns: int, with_current: bool) -> Ranking:
        found = self._summed(windows)
        # What a key may have had in all the windows that do not speak of it; those that do take it off its error.
        rest = sum(window.rest for window in windows)
        recorded = sum(window.recorded for window in windows)
        if with_current:
            rows = self.hot_keys.rows()
            floor = self.hot_keys.floor
            rest += floor
            recorded += self.hot_keys.recorded
            for row in rows:
                number = self._names.number(row.identity)
                key = found.get(row.identity if number is None else number)
                if key is None:
                    key = found[row.identity] = HotKey(row.name, row.key_bytes, row.database, row.slot)
                _add(key, row, floor)
        for key in found.values():
            key.error += rest
        measure = METRICS[metric]
        keys = sorted(found.values(), key=lambda key: (-measure(key), key.name, key.database))
        return Ranking([key for key in keys if measure(key)], elapsed_ns, recorded)

    def _summed(self, windows: list[_Window]) -> dict[int, HotKey]:
        """What windows say of keys, by their numbers."""
        sums: dict[int, list[float]] = {}
        leads: dict[int, dict[int, float]] = {}
        for window in windows:
            numbers = iter(window.numbers)
            rest = window.rest
            for number, client, (error, reads, writes, cpu_ns, net_bytes, lead) in zip(
                window.names, window.clients, zip(*[numbers] * _NUMBERS, strict=True), strict=True
            ):
                of_key = sums.get(number)
                if of_key is None:
                    sums[number] = [error - rest, reads, writes, cpu_ns, net_bytes]
                    leads[number] = {client: lead}
                    continue
                of_key[0] += error - rest
                of_key[1] += reads
                of_key[2] += writes
                of_key[3] += cpu_ns
                of_key[4] += net_bytes
                of_client = leads[number]
                of_client[client] = of_client.get(client, 0.0) + lead
        found = {}
        for number, of_key in sums.items():
            key = self._names.key(number)
            if key is not None:
                key.error, key.reads, key.writes, key.cpu_ns, key.net_bytes = map(int, of_key)
                of_client = leads[number]
                key.client = max(of_client, key=of_client.__getitem__)
                key.client_lead = int(of_client[key.client])
                found[number] = key
        return found

    def hottest_rate(self, now_ns: int) -> int:
        """Accesses per second to the hottest key of the busiest of the last ten seconds."""
        rates = [0]
        for window in islice(reversed(self._windows), 10):
            if window.stop_ns < now_ns - 10 * _SECOND_NS:
                break
            _, reads, writes = window.numbers[:3]
            # One that was cut short by HOTKEYS START says little about a second.
            elapsed_ns = max(window.stop_ns - window.start_ns, _SECOND_NS // 10)
            rates.append(int((reads + writes) * _SECOND_NS / elapsed_ns))
        return max(rates)

    def reset(self, now_ns: int, wall_ms: int) -> None:
        """HOTKEYS RESET: forget everything but the sketch."""
        self.hot_keys.clear()
        self._names = _Names()
        self._windows.clear()
        self.started_ns = now_ns
        self._begin(now_ns, wall_ms)

    @property
    def size_bytes(self) -> int:
        """About what all this takes, the list and the sketch included."""
        # An object with its three arrays takes 400 bytes, and a key in it 32.
        windows = sum(400 + 32 * len(window.names) for window in self._windows)
        return windows + self._names.size_bytes + self.hot_keys.size_bytes


def _add(key: HotKey, row: Row, floor: int) -> None:
    """Add what was recorded in the second that has begun."""
    key.error += row.error - floor
    key.reads += row.reads
    key.writes += row.writes
    key.cpu_ns += row.cpu_ns
    key.net_bytes += row.net_bytes
    if row.client == key.client:
        key.client_lead += row.client_lead
    elif row.client_lead > key.client_lead:
        key.client, key.client_lead = row.client, row.client_lead
