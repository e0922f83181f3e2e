"""Freeing what was taken out of the keyspace, bit by bit: 5 million objects take a second to free in one piece."""

from typing import Final

from kora.clock import Clock
from kora.store.shard import Shard
from kora.store.sizes import DEADLINE_BYTES, entry_size
from kora.store.table import EMPTY, SplitTable, parts

_BATCH: Final = 200  # entries between two looks at the clock: about 0.05 ms


def free_some(shard: Shard, budget_ns: int, clock: Clock) -> int:
    """Free for so long; returns how many keys were freed.  The shard's memory falls as they go."""
    stop_ns = clock.monotonic_ns() + budget_ns
    freed = 0
    while shard.lazyfree and clock.monotonic_ns() < stop_ns:
        table, deadlines = shard.lazyfree.popleft()
        if isinstance(table, SplitTable) or isinstance(deadlines, SplitTable):
            shard.lazyfree.extendleft((part, EMPTY) for part in parts(table))
            shard.lazyfree.extendleft((EMPTY, part) for part in parts(deadlines))
            continue
        size_bytes = 0
        entries = min(_BATCH, len(table))
        for _ in range(entries):
            size_bytes += entry_size(*table.popitem())
        for _ in range(min(_BATCH - entries, len(deadlines))):
            deadlines.popitem()
            size_bytes += DEADLINE_BYTES
        if table or deadlines:
            shard.lazyfree.appendleft((table, deadlines))
        freed += entries
        shard.stats.memory_bytes -= size_bytes
    return freed


def pending_keys(shard: Shard) -> int:
    return sum(len(table) for table, _ in shard.lazyfree)


def free_all(shard: Shard, clock: Clock) -> int:
    """Free everything now, however long it takes: FLUSHALL SYNC."""
    freed = 0
    while shard.lazyfree:
        freed += free_some(shard, 1_000_000_000, clock)
    return freed
