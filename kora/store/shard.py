"""A shard: a range of slots, what it counts, and what its worker has still to do."""

from collections import deque
from typing import Final

from kora.observe.shard_stats import ShardStats
from kora.store.slots import SLOTS
from kora.store.table import Table

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
        # What was taken out of the keyspace and is freed bit by bit: tables, each with its table of deadlines.
        self.lazyfree: deque[tuple[Table, Table]] = deque()


def make_shards(count: int, commands: int, hot_keys_max: int = 128) -> list[Shard]:
    """Divide all slots into so many ranges of whole runs, as even as can be."""
    runs = SLOTS >> RUN_BITS
    edges = [(number * runs // count) << RUN_BITS for number in range(count + 1)]
    return [Shard(index, edges[index], edges[index + 1], ShardStats(commands, hot_keys_max)) for index in range(count)]
