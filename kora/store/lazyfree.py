"""Freeing what was taken out of the keyspace, bit by bit: 5 million objects take a second to free in one piece."""

from typing import Any, Final

from kora.clock import Clock
from kora.observe.shard_stats import ShardStats
from kora.store.shard import Shard
from kora.store.sizes import DEADLINE_BYTES, entry_size
from kora.store.table import EMPTY, Table, parts

_BATCH: Final = 200  # entries between two looks at the clock: about 0.05 ms


def free_some(shard: Shard, budget_ns: int, clock: Clock) -> int:
    """Free for so long; returns how many keys were freed.  The shard's memory falls as they go."""
    stop_ns = clock.monotonic_ns() + budget_ns
    freed = 0
    while shard.lazyfree and clock.monotonic_ns() < stop_ns:
        discarded = shard.lazyfree[0]
        freed += discarded.free_some(shard.stats, _BATCH)
        if discarded.is_empty:
            shard.lazyfree.popleft()
    return freed


def pending_keys(shard: Shard) -> int:
    return sum(map(len, shard.lazyfree))


def free_all(shard: Shard, clock: Clock) -> int:
    """Free everything now, however long it takes: FLUSHALL SYNC."""
    freed = 0
    while shard.lazyfree:
        freed += free_some(shard, 1_000_000_000, clock)
    return freed


def discard(shard: Shard, table: Table, deadlines: Table) -> None:
    """Leave a slot's keys and their deadlines, which nobody else holds any more, to the shard's worker."""
    if type(table) is dict and type(deadlines) is dict:
        shard.lazyfree.append(DiscardedTable(table, deadlines))
    else:
        # Part by part, since a part is the most that is ever freed in one piece: the emptied dict itself.
        shard.lazyfree.extend(DiscardedTable(part, EMPTY) for part in parts(table))
        shard.lazyfree.extend(DiscardedTable(EMPTY, part) for part in parts(deadlines))


class DiscardedTable:
    """What the reference discards: keys with their values, and deadlines, which may outlast their keys."""

    __slots__ = ("_deadlines", "_table")

    def __init__(self, table: dict[bytes, Any], deadlines: dict[bytes, Any]) -> None:
        self._table = table
        self._deadlines = deadlines

    def __len__(self) -> int:
        return len(self._table)

    @property
    def is_empty(self) -> bool:
        return not self._table and not self._deadlines

    def free_some(self, stats: ShardStats, entries_max: int) -> int:
        size_bytes = 0
        keys = min(entries_max, len(self._table))
        for _ in range(keys):
            size_bytes += entry_size(*self._table.popitem())
        for _ in range(min(entries_max - keys, len(self._deadlines))):
            self._deadlines.popitem()
            size_bytes += DEADLINE_BYTES
        stats.memory_bytes -= size_bytes
        return keys
