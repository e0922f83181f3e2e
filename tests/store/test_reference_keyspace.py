"""What only the reference keyspace has: tables that split, directories that are shared, and one idle time for many."""

from collections import deque

import pytest

from kora.store.lazyfree import DiscardedTable
from kora.store.slots import slot_of
from kora.store.table import PART_MAX, SplitTable
from tests.store.stores import STEP_KEYS_MAX, Store

pytestmark = pytest.mark.once


@pytest.fixture
def store() -> Store:
    return Store("python")


def test_a_slot_splits_when_it_outgrows_a_part(store):
    assert PART_MAX <= STEP_KEYS_MAX
    slot = slot_of(b"tag")
    store.fill(PART_MAX, "{tag}%d", left_ms=1000)
    assert type(store.db._tables[slot]) is type(store.db._deadlines[slot]) is dict
    store.fill(PART_MAX + 1, "{tag}%d", left_ms=1000)
    assert type(store.db._tables[slot]) is type(store.db._deadlines[slot]) is SplitTable
    store.audit()


def test_a_split_slot_is_discarded_part_by_part(store):
    store.fill(3 * PART_MAX, "{tag}%d", left_ms=1000)
    store.db.flush()
    (lazyfree,) = (shard.lazyfree for shard in store.shards if shard.lazyfree)
    assert len(lazyfree) > 6
    assert max(map(len, lazyfree)) <= PART_MAX
    assert store.pending == 3 * PART_MAX


def test_deadlines_are_freed_after_their_keys(store):
    stats = store.shards[0].stats
    discarded = DiscardedTable({b"k": b"v"}, {b"k": 1}, deque())
    assert discarded.free_some(stats, 1) == 1
    assert len(discarded) == 0
    assert not discarded.is_empty
    assert discarded.free_some(stats, 1) == 0
    assert discarded.is_empty


def test_random_is_quick_again_after_a_full_slot_was_emptied(store):
    tagged = store.fill(3 * PART_MAX, "{tag}%d")
    store.fill(100)
    for key in tagged:
        store.db.delete(key)
    store.db.random()
    assert store.db._heaviest < 10


def test_databases_that_hold_nothing_share_their_directories(store):
    store.fill(10)
    store.db.flush()
    assert store.db._tables is store.databases[1]._tables


def test_keys_of_a_slot_have_their_idle_time_in_common(store):
    store.db.set(b"{tag}one", b"v")
    store.db.now_s += 100
    store.db.set(b"{tag}other", b"v")
    assert store.db.idle_s(b"{tag}one") == 0
