"""Stores to test, of every implementation of the keyspace: two databases over four shards, and a clock to move.

A test of the interface takes the fixture `store` or `make_store`, and so runs on each of TESTED.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kora import kernel
from kora.clock import Clock, ManualClock
from kora.observe.shard_stats import ShardStats
from kora.store.expiry import expire_cycle
from kora.store.keyspace import Keyspace
from kora.store.lazyfree import free_all, pending_keys
from kora.store.shard import Shard, make_shards
from kora.store.sizes import DEADLINE_BYTES, entry_size
from kora.store.table import parts
from kora.types.kinds import type_name
from kora.types.limits import Limits

# The most keys of one slot that a step of anything may go through at once.
STEP_KEYS_MAX: Final = 4096


@dataclass(frozen=True)
class Implementation:
    # Four shards, which count so many commands, and two databases over them.
    make: Callable[[Clock, int, Limits], tuple[list[Shard], list[Keyspace]]]
    # Counts what a keyspace holds one by one, (keys, memory_bytes); raises AssertionError where its parts disagree.
    audit: Callable[[Keyspace], tuple[int, int]]


def make_reference(clock: Clock, commands: int, limits: Limits) -> tuple[list[Shard], list[Keyspace]]:
    shards = make_shards(4, lambda: ShardStats(commands))
    return shards, [Keyspace(index, shards, clock, limits) for index in range(2)]


def audit_reference(db: Keyspace) -> tuple[int, int]:
    keys = volatile = memory_bytes = 0
    lengths: Counter[tuple[str, int]] = Counter()
    for place, slot in enumerate(db._occupied):
        table, deadlines = db._tables[slot], db._deadlines[slot]
        assert len(table) > 0
        assert db._places[slot] == place
        assert all(key in table for key in deadlines)
        keys += len(table)
        volatile += len(deadlines)
        memory_bytes += sum(entry_size(key, value) for key, value in table.items()) + DEADLINE_BYTES * len(deadlines)
        for part in parts(table):
            lengths.update((type_name(value), len(value).bit_length()) for value in part.values())
    assert lengths == Counter(
        {(kind, place): keys for kind, bins in db.lengths().items() for place, keys in enumerate(bins) if keys}
    )
    assert db.volatile == volatile
    assert len(db) == keys
    return keys, memory_bytes


def make_compiled(clock: Clock, commands: int, limits: Limits) -> tuple[list[Shard], list[Keyspace]]:
    module = kernel.load()
    assert module is not None
    compiled = module.Kernel(clock)
    compiled.set_limits(limits)
    shards = make_shards(4, lambda: compiled.make_stats(commands))
    return shards, [compiled.make_keyspace(index, shards) for index in range(2)]


def audit_compiled(db: Any) -> tuple[int, int]:
    return len(db), sum(db.audit())


IMPLEMENTATIONS: Final = {
    "python": Implementation(make_reference, audit_reference),
    "kernel": Implementation(make_compiled, audit_compiled),
}
# The kernel is tested where the suite runs on it.
TESTED: Final = [name for name in IMPLEMENTATIONS if name == "python" or kernel.load() is not None]


class Store:
    """Two databases over four shards."""

    def __init__(
        self, implementation: str, clock: ManualClock | None = None, commands: int = 0, limits: Limits | None = None
    ) -> None:
        self._implementation = IMPLEMENTATIONS[implementation]
        self.clock = clock or ManualClock()
        self.shards, self.databases = self._implementation.make(self.clock, commands, limits or Limits())
        self.db = self.databases[0]

    @property
    def keys(self) -> int:
        return sum(shard.stats.keys for shard in self.shards)

    @property
    def memory_bytes(self) -> int:
        return sum(shard.stats.memory_bytes for shard in self.shards)

    @property
    def expired(self) -> int:
        return sum(shard.stats.expired for shard in self.shards)

    @property
    def evicted(self) -> int:
        return sum(shard.stats.evicted for shard in self.shards)

    @property
    def pending(self) -> int:
        """Keys that were flushed and are not freed yet."""
        return sum(map(pending_keys, self.shards))

    def fill(self, count: int, name: str = "key:%d", left_ms: int | None = None) -> list[bytes]:
        names = [(name % number).encode() for number in range(count)]
        deadline_ms = None if left_ms is None else self.clock.wall_ms() + left_ms
        for key in names:
            self.db.set_until(key, b"v", deadline_ms)
        return names

    def expire_all(self) -> int:
        """Turns of the expire cycle in each shard until it has been everywhere; returns how many turns."""
        turns = 0
        for shard in self.shards:
            for _ in range(2_000):
                turns += 1
                before = self.expired
                again = expire_cycle(shard, self.databases, 1_000_000_000, self.clock)
                at_start = shard.expire_slot == shard.slot_start and shard.expire_database == 0
                if not again and at_start and self.expired == before:
                    break
            else:
                raise AssertionError("the expire cycle does not come to an end")
        return turns

    def free_all(self) -> int:
        return sum(free_all(shard, self.clock) for shard in self.shards)

    def audit(self) -> None:
        """The counters are sums over what is held; that of the memory, once nothing flushed is left to free."""
        keys, memory_bytes = map(sum, zip(*map(self._implementation.audit, self.databases), strict=True))
        assert self.keys == keys
        if not any(shard.lazyfree for shard in self.shards):
            assert self.memory_bytes == memory_bytes


class TickingClock(ManualClock):
    """Every look takes a microsecond, so that budgets end."""

    def monotonic_ns(self) -> int:
        self._monotonic_ns += 1_000
        return self._monotonic_ns
