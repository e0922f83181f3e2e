"""A shard: a range of slots, what it counts, and what its worker has still to do."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from kora.observe.shard_stats import ShardStats
from kora.store.slots import SLOTS

# Shards begin and end between runs of 64 slots: a table of what belongs to each run stays in the processor's cache.
RUN_BITS: Final = 6


class Shard:
    __slots__ = (
        "expire_database",
        "expire_place",
        "expire_slot",
        "index",
        "lazyfree",
        "slot_start",
        "slot_stop",
        "stats",
    )

    def __init__(self, index: int, slot_start: int, slot_stop: int, stats: ShardStats) -> None:
        self.index = index
        self.slot_start = slot_start
        self.slot_stop = slot_stop
        self.stats = stats
        # Where the expire cycle goes on.
        self.expire_database = 0
        self.expire_slot = slot_start
        self.expire_place = 0  # inside a slot whose deadlines are a SplitTable
        # What was taken out of the keyspace and is freed bit by bit.
        self.lazyfree: deque[Discarded] = deque()


class Discarded(Protocol):
    """Something that flush() has taken out of the shard's slots, of whatever implementation."""

    def __len__(self) -> int:
        """How many keys are left; there may be more to free when none is."""

    @property
    def is_empty(self) -> bool:
        """Whether all is freed."""

    def free_some(self, stats: ShardStats, entries_max: int) -> int:
        """Free at most so many keys or deadlines, and take their sizes off stats.memory_bytes; returns how many keys.

        Frees something as long as it is not empty.
        """


def make_shards(count: int, make_stats: Callable[[], ShardStats]) -> list[Shard]:
    """Divide all slots into so many ranges of whole runs, as even as can be, each with a block of counters."""
    runs = SLOTS >> RUN_BITS
    edges = [(number * runs // count) << RUN_BITS for number in range(count + 1)]
    return [Shard(index, edges[index], edges[index + 1], make_stats()) for index in range(count)]
