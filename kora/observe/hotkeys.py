"""Hot keys, as they are recorded: a count-min sketch that estimates any key, and a Space-Saving list of the top ones.

The sketch is what OBJECT FREQ and LFU eviction go by.  An estimate is never below what was recorded since the last
halving (a sketch only ever adds collisions); halved once a minute by the owner, a rate of r per second settles between
60 r and 120 r.  A sketch cannot list anything, so a list stands beside it, which its owner reads and clears once a
second: kora/observe/hot_windows.py keeps what was in it.

The list has room for KEYS_MAX keys, whatever the load.  One that finds it full takes the place of the one with the
least cost, and that cost as its error: at least reads + writes accesses of a key were recorded since the list was
cleared, and at most reads + writes + error.  A cost counts accesses, and more for those that took long or were large,
so that a command that runs once a second and takes all of it is not crowded out by cheap ones.

Not for exact counts, and not for the order of keys whose counts lie within each other's error.
"""

from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

# 16384 wide: an error of 0.017 % of all accesses at 2.7/width.  At 64 columns, as the first Kora had, a key with ten
# accesses read as 1400 (spec/first-kora, section 5).
WIDTH_BITS: Final = 14
WIDTH: Final = 1 << WIDTH_BITS
DEPTH: Final = 4
_MASK: Final = WIDTH - 1
_COUNT_MAX: Final = (1 << 32) - 1

KEYS_MAX: Final = 1024
NAME_BYTES_MAX: Final = 96  # what is kept of a key; those that are longer are told apart by their hashes
# An access that takes so long, or has so long a reply, is recorded always, and then stands only for itself.
HEAVY_NS_BITS: Final = 14
HEAVY_BYTES_BITS: Final = 16


Place: TypeAlias = int  # of a key in the list, until that is changed


class Row(NamedTuple):
    """One key of the list.  Everything but the error was recorded of it since it came in."""

    identity: int  # of the key and its database
    name: bytes  # the first NAME_BYTES_MAX bytes of the key
    key_bytes: int
    database: int
    slot: int
    cost: int  # at least error + reads + writes; a key that is not in a full list has less than the least of these
    error: int
    reads: int
    writes: int
    cpu_ns: int
    net_bytes: int
    client: int  # of whom more than half of the accesses come, if there is one (Boyer and Moore)
    client_lead: int  # accesses of that client, less those of all others, at least


class _Counter:
    __slots__ = (
        "client", "client_lead", "cost", "cpu_ns", "database", "error", "identity", "key_bytes", "name", "net_bytes",
        "reads", "slot", "writes",
    )  # fmt: skip

    def __init__(self, identity: int, key: bytes, slot: int, database: int, client: int, error: int) -> None:
        self.identity = identity
        self.name = key[:NAME_BYTES_MAX]
        self.key_bytes = len(key)
        self.database = database
        self.slot = slot
        self.cost = self.error = error
        self.reads = self.writes = self.cpu_ns = self.net_bytes = 0
        self.client = client
        self.client_lead = 0


class HotKeys:
    """Counts are whole accesses: a caller that samples one access in n records a weight of n."""

    __slots__ = ("_by_cost", "_counters", "_least", "_rows", "recorded")

    def __init__(self) -> None:
        self._rows = [array("I", bytes(4 * WIDTH)) for _ in range(DEPTH)]
        self._counters: dict[int, _Counter] = {}
        # The same by cost, oldest first: a few costs have most of the keys, so that the least is soon found.
        self._by_cost: dict[int, dict[int, _Counter]] = {}
        self._least = 0  # no cost is below
        self.recorded = 0  # weight, since the list was last cleared

    def record(
        self,
        key: bytes,
        slot: int,
        database: int,
        is_write: bool,
        client: int,
        weight: int,
        cpu_ns: int,
        net_bytes: int,
        weighs: bool = True,
    ) -> None:
        """One access, which stands for `weight` like it; whether it weighs in the key's estimate, too."""
        if weighs:
            self.weigh(key, weight)
        self.recorded += weight
        identity = hash((database, key))
        counter = self._counters.get(identity)
        if counter is None:
            error = self._make_place()
            counter = self._counters[identity] = _Counter(identity, key, slot, database, client, error)
            self._least = min(self._least, error)
        else:
            self._lift(counter)
        counter.cost += weight * (1 + (cpu_ns >> HEAVY_NS_BITS) + (net_bytes >> HEAVY_BYTES_BITS))
        self._by_cost.setdefault(counter.cost, {})[identity] = counter
        if is_write:
            counter.writes += weight
        else:
            counter.reads += weight
        counter.cpu_ns += weight * cpu_ns
        counter.net_bytes += weight * net_bytes
        if counter.client == client:
            counter.client_lead += weight
        elif counter.client_lead >= weight:
            counter.client_lead -= weight
        else:
            counter.client = client
            counter.client_lead = weight - counter.client_lead

    def weigh(self, key: bytes, accesses: int) -> None:
        """Have the estimate of a key include accesses that the list is not to know of."""
        # hash() is SipHash with a key of this process: four rows take 14 bits each of its 64, so that two keys which
        # collide in one row do not collide in the others, and nobody outside can make them.
        bits = hash(key)
        for row in self._rows:
            row[bits & _MASK] = min(row[bits & _MASK] + accesses, _COUNT_MAX)
            bits >>= WIDTH_BITS

    def _make_place(self) -> int:
        """Have room for a key, and return the error that it comes with."""
        if len(self._counters) < KEYS_MAX:
            return 0
        if self._least not in self._by_cost:
            self._least = min(self._by_cost)
        counter = next(iter(self._by_cost[self._least].values()))
        self._lift(counter)
        del self._counters[counter.identity]
        return counter.cost

    def _lift(self, counter: _Counter) -> None:
        """Take a counter out of the order by cost, because its cost changes."""
        same = self._by_cost[counter.cost]
        del same[counter.identity]
        if not same:
            del self._by_cost[counter.cost]

    def estimate(self, key: bytes) -> int:
        """At least the number of accesses recorded for a key since counts were last halved."""
        bits = hash(key)
        counts = []
        for row in self._rows:
            counts.append(row[bits & _MASK])
            bits >>= WIDTH_BITS
        return min(counts)

    def outline(self) -> list[tuple[int, int, int, Place]]:
        """Of each key that is listed: accesses, at least and at most; its identity; and what row() wants to know."""
        return [
            (accesses, accesses + counter.error, counter.identity, counter.identity)
            for counter in self._counters.values()
            for accesses in (counter.reads + counter.writes,)
        ]

    @property
    def floor(self) -> int:
        """What a key that is not listed may have had at most."""
        return min(self._by_cost) if len(self._counters) >= KEYS_MAX else 0

    def row(self, place: Place) -> Row:
        counter = self._counters[place]
        return Row(
            counter.identity, counter.name, counter.key_bytes, counter.database, counter.slot, counter.cost,
            counter.error, counter.reads, counter.writes, counter.cpu_ns, counter.net_bytes,
            counter.client, counter.client_lead,
        )  # fmt: skip

    def rows(self) -> list[Row]:
        """The list, in no order."""
        return [self.row(place) for place in self._counters]

    def clear(self) -> None:
        """Begin a new list; the sketch goes on."""
        self._counters.clear()
        self._by_cost.clear()
        self._least = 0
        self.recorded = 0

    def decay(self) -> Iterator[None]:
        """Halve the sketch, one row between two yields (under 1 ms each), so that the loop can breathe."""
        for number, row in enumerate(self._rows):
            self._rows[number] = array("I", [count >> 1 for count in row])
            yield

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]

    @property
    def size_bytes(self) -> int:
        """About what all this takes: 700 bytes for each key that is listed, its name included."""
        return DEPTH * WIDTH * 4 + 700 * len(self._counters)
