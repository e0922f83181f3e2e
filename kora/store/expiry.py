"""The expire cycle: keys whose time is over are deleted even if nobody asks for them.

Each turn walks on through the shard's slots, database by database, until its budget is spent or it has looked at enough
deadlines to know that few are over.  When more than a tenth of them were, the owner lets the next turn follow at once:
that is how the effort adapts, as in Redis' activeExpireCycle (expire.c).
"""

from collections.abc import Callable, Sequence
from typing import Final

from kora.clock import Clock
from kora.store.keyspace import Keyspace
from kora.store.shard import Shard

# Looked at per turn when nothing is over: 20 a database in Redis, which looks at single keys and not at whole slots.
LOOK_MAX: Final = 400
# Deleted at once before the budget is looked at again: 100 deletions take about 0.1 ms.
BATCH: Final = 100
STALE_PERCENT: Final = 10


def expire_cycle(
    shard: Shard,
    databases: Sequence[Keyspace],
    budget_ns: int,
    clock: Clock,
    effort: int = 1,
    note_event: Callable[[str, int], None] | None = None,
) -> bool:
    """One turn; returns whether so many keys were over that another turn should follow at once.

    budget_ns is elapsed time.  `effort` (1 to 10, active-expire-effort) raises how much is looked at and lowers the
    share of stale keys that is put up with, by Redis' formulas.  note_event() is told how long each batch of deletions
    took, in ns.
    """
    batch_ns = clock.monotonic_ns()
    stop_ns = batch_ns + budget_ns
    now_ms = clock.wall_ms()
    look_max = LOOK_MAX + LOOK_MAX // 4 * (effort - 1)
    stale_percent = max(1, STALE_PERCENT - (effort - 1))
    looked = deleted = 0
    for _ in range(len(databases)):
        keyspace = databases[shard.expire_database % len(databases)]
        while (slot := keyspace.volatile_slot(shard.expire_slot, shard.slot_stop)) < shard.slot_stop:
            if slot != shard.expire_slot:
                shard.expire_slot, shard.expire_place = slot, 0
            found, ended, following = keyspace.expire_due(slot, shard.expire_place, now_ms, BATCH)
            looked += found
            deleted += ended
            if ended < BATCH:
                shard.expire_place = following
                if not following:
                    shard.expire_slot += 1
            now_ns = clock.monotonic_ns()
            if ended and note_event is not None:
                note_event("expire-del", now_ns - batch_ns)
            batch_ns = now_ns
            if now_ns >= stop_ns or looked - deleted * 100 // stale_percent >= look_max:
                return deleted * 100 > looked * stale_percent
        shard.expire_slot = shard.slot_start
        shard.expire_place = 0
        shard.expire_database = (shard.expire_database + 1) % len(databases)
        if clock.monotonic_ns() >= stop_ns:
            break
    return deleted * 100 > looked * stale_percent and deleted >= BATCH
