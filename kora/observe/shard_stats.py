"""What one shard counts: per command, and for the shard as a whole.

Plain integers on objects with slots, a third of the cost of arrays in Python; only the histogram's counts are an array.
A compiled kernel may have its own types of the same names: a snapshot copies attributes, whoever keeps them.
"""

from array import array
from collections.abc import Iterable
from typing import Final

from kora.observe import histogram

# What a shard counts beside its commands.  Gauges first, which CONFIG RESETSTAT leaves alone.
GAUGES: Final = (
    "keys",  # held, over all databases
    "memory_bytes",  # estimated: keys, values and their places in the tables
)
COUNTERS: Final = (
    "bytes_in",
    "bytes_out",
    "hits",  # look-ups for reading that found a key, as keyspace_hits
    "misses",
    "expired",  # keys deleted because their time was over
    "evicted",  # keys deleted to stay within maxmemory
)

# The bucket of every duration up to 16 µs: looking it up costs a third of working it out.
_SHORT_NS: Final = 1 << 14
_BUCKET_OF: Final = histogram.index_table(_SHORT_NS)


class CommandStats:
    """One command in one shard."""

    __slots__ = ("calls", "counts", "elapsed_ns", "failed", "rejected")

    def __init__(self) -> None:
        self.calls = 0  # that ran, well or not
        self.elapsed_ns = 0
        self.failed = 0  # ran and answered with an error
        self.rejected = 0  # never ran: arity, permission, memory
        self.counts = array("Q")  # a histogram of elapsed_ns, as long as its largest value needs

    @property
    def is_used(self) -> bool:
        """Whether there is anything to show.  With observation off only errors are counted."""
        return bool(self.calls or self.rejected or self.failed)

    def record(self, elapsed_ns: int) -> None:
        """Count one call and the time it took."""
        self.calls += 1
        self.elapsed_ns += elapsed_ns
        index = _BUCKET_OF[elapsed_ns] if elapsed_ns < _SHORT_NS else histogram.index_of(elapsed_ns)
        try:
            self.counts[index] += 1
        except IndexError:
            histogram.grow(self.counts, index)
            self.counts[index] += 1

    def record_many(self, elapsed_ns: int, count: int) -> None:
        """As so many times record()."""
        self.record(elapsed_ns)
        if count > 1:
            self.calls += count - 1
            self.elapsed_ns += elapsed_ns * (count - 1)
            self.counts[histogram.index_of(elapsed_ns)] += count - 1

    def add(self, other: "CommandStats") -> None:
        self.calls += other.calls
        self.elapsed_ns += other.elapsed_ns
        self.failed += other.failed
        self.rejected += other.rejected
        histogram.add(self.counts, other.counts)


class ShardStats:
    __slots__ = (*GAUGES, *COUNTERS, "commands")

    def __init__(self, commands: int) -> None:
        self.keys = 0
        self.memory_bytes = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.hits = 0
        self.misses = 0
        self.expired = 0
        self.evicted = 0
        self.commands = [CommandStats() for _ in range(commands)]  # by slot in the registry

    @property
    def calls(self) -> int:
        """Of all commands."""
        return sum([command.calls for command in self.commands])

    def packed(self) -> bytes:
        return packed(self.commands)

    def reset(self) -> None:
        """CONFIG RESETSTAT: everything but the gauges starts again from zero."""
        for name in COUNTERS:
            setattr(self, name, 0)
        self.commands[:] = [CommandStats() for _ in self.commands]

    def add(self, other: "ShardStats") -> None:
        """Add another shard's numbers, slot by slot.

        Gauges add up too, since each key is counted by one shard.
        Raises AssertionError where the numbers of slots differ: they come from different tables.
        """
        assert len(self.commands) == len(other.commands), (len(self.commands), len(other.commands))
        for name in (*GAUGES, *COUNTERS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in zip(self.commands, other.commands, strict=True):
            if theirs.is_used:
                mine.add(theirs)


def packed(commands: Iterable[CommandStats]) -> bytes:
    """Of every command, as 64-bit words: calls, elapsed_ns, failed, rejected, and how long its histogram is."""
    rows = [[row.calls, row.elapsed_ns, row.failed, row.rejected, len(row.counts)] for row in commands]
    return array("Q", [number for row in rows for number in row]).tobytes()


def merge(blocks: Iterable[ShardStats]) -> ShardStats:
    """The sum of some blocks, of which there is at least one."""
    first, *rest = blocks
    total = ShardStats(len(first.commands))
    for block in (first, *rest):
        total.add(block)
    return total
