"""Freeing what was taken out of the keyspace, bit by bit: 5 million objects take a second to free in one piece."""

from collections import deque
from sys import getrefcount
from typing import Any, Final

from kora.clock import Clock
from kora.observe.shard_stats import ShardStats
from kora.store.shard import Discarded, Shard
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
        shard.lazyfree.append(DiscardedTable(table, deadlines, shard.lazyfree))
    else:
        # Part by part, since a part is the most that is ever freed in one piece: the emptied dict itself.
        shard.lazyfree.extend([DiscardedTable(part, EMPTY, shard.lazyfree) for part in parts(table)])
        shard.lazyfree.extend([DiscardedTable(EMPTY, part, shard.lazyfree) for part in parts(deadlines)])


# Values of fewer parts are freed at once: that takes less than putting it off (LAZYFREE_THRESHOLD, lazyfree.c).
EFFORT_MIN: Final = 64


def is_large(value: Any) -> bool:
    """Whether freeing it in one piece would take long."""
    return type(value) is not bytes and type(value) is not bytearray and value.effort > EFFORT_MIN


def discard_value(shard: Shard, value: Any) -> None:
    """A key is about to go: leave its value, if it has many parts, to the shard's worker.

    What the value takes stays in the shard's memory until it is freed.
    """
    if is_large(value):
        shard.stats.memory_bytes += value.counted_bytes
        shard.lazyfree.append(DiscardedValue(value, is_counted=True))


class DiscardedValue:
    """The value of one key that is gone: by UNLINK, still counted in the shard's memory, or by anything else.

    DEL, expiry, eviction, flushing and overwriting take it off the memory at once, so that nobody evicts more for it,
    and leave only the work to the worker.
    """

    __slots__ = ("_is_counted", "_value")

    def __init__(self, value: Any, is_counted: bool) -> None:
        self._value = value
        self._is_counted = is_counted

    def __len__(self) -> int:
        return 0 if self._value is None else 1

    @property
    def is_empty(self) -> bool:
        return self._value is None

    def free_some(self, stats: ShardStats, entries_max: int) -> int:
        value = self._value
        # Who overwrote a value may still be reading it: then it goes with the last who has it.
        is_read = not self._is_counted and getrefcount(value) > _OUR_REFERENCES
        is_done = is_read or not value.shed(entries_max) or value.effort <= EFFORT_MIN
        if self._is_counted:
            size_bytes = 0 if is_done else value.size_bytes
            stats.memory_bytes -= value.counted_bytes - size_bytes
            value.counted_bytes = size_bytes
        if is_done:
            self._value = None
        return int(is_done)


_OUR_REFERENCES: Final = 3  # two above, and one of the call


class DiscardedTable:
    """What the reference discards: keys with their values, and deadlines, which may outlast their keys."""

    __slots__ = ("_deadlines", "_lazyfree", "_table")

    def __init__(self, table: dict[bytes, Any], deadlines: dict[bytes, Any], lazyfree: "deque[Discarded]") -> None:
        self._table = table
        self._deadlines = deadlines
        self._lazyfree = lazyfree  # where large values are left

    def __len__(self) -> int:
        return len(self._table)

    @property
    def is_empty(self) -> bool:
        return not self._table and not self._deadlines

    def free_some(self, stats: ShardStats, entries_max: int) -> int:
        size_bytes = 0
        keys = min(entries_max, len(self._table))
        for _ in range(keys):
            key, value = self._table.popitem()
            size_bytes += entry_size(key, value)
            if is_large(value):
                self._lazyfree.append(DiscardedValue(value, is_counted=False))
        for _ in range(min(entries_max - keys, len(self._deadlines))):
            self._deadlines.popitem()
            size_bytes += DEADLINE_BYTES
        stats.memory_bytes -= size_bytes
        return keys
