"""Which keys are evicted; on every implementation."""

import pytest

from kora.config import POLICIES
from kora.observe.hotkeys import HotKeys
from kora.store.eviction import Evictor
from kora.store.expiry import expire_cycle
from tests.store.stores import TickingClock


@pytest.fixture
def hot_keys():
    return HotKeys()


@pytest.fixture
def evict(store, hot_keys):
    """evict(policy, count): delete so many keys; returns those that are left."""
    evictor = Evictor(store.clock, hot_keys.estimate)

    def evict(policy, count=1, lazily=False, samples=64):
        for _ in range(count):
            assert evictor.evict(store.databases, policy, samples, lazily)
        store.audit()
        return sorted(key for db in store.databases for key in db)

    return evict


def age(store, db, key, idle_s):
    """Make a key one that was last used so long ago."""
    db.now_s -= idle_s
    db.touch(key)
    db.now_s += idle_s


def test_the_least_recently_used_of_a_few_goes_first(store, evict):
    for number in range(4):
        store.db.set(b"key:%d" % number, b"v")
        age(store, store.db, b"key:%d" % number, 100 - number)
    # One of four keys is not among 64 samples once in 100 million times.
    assert evict("allkeys-lru") == [b"key:1", b"key:2", b"key:3"]
    assert evict("allkeys-lru", 2) == [b"key:3"]
    assert store.evicted == 3


def test_of_many_keys_mostly_old_ones_go(store, evict):
    names = store.fill(200, name="{%d}")
    for key in names[:100]:
        age(store, store.db, key, 1_000)
    left = set(evict("allkeys-lru", 80, samples=10))
    # By chance it would be 60; on pure Python a few of the young ones have a stamp in common with an old one.
    assert sum(key in left for key in names[:100]) < 40


def test_the_least_frequently_used_goes_first(store, hot_keys, evict):
    for number in range(4):
        key = b"key:%d" % number
        store.db.set(key, b"v")
        hot_keys.record(key, 0, 0, False, 1, 100 * (4 - number), 0, 0)
    assert evict("allkeys-lfu", 2) == [b"key:0", b"key:1"]


def test_the_next_to_end_goes_first_and_keys_without_a_deadline_never(store, evict):
    store.fill(20, name="stays:%d")
    for number in range(4):
        store.databases[number % 2].set_until(b"ends:%d" % number, b"v", store.clock.wall_ms() + 10_000 - number)
    left = evict("volatile-ttl", 2)
    assert [key for key in left if key.startswith(b"ends")] == [b"ends:0", b"ends:1"]
    assert len(left) == 22


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.startswith("volatile-")])
def test_there_is_nothing_to_evict_where_no_key_has_a_deadline(store, policy):
    store.fill(10)
    assert not Evictor(store.clock, HotKeys().estimate).evict(store.databases, policy, 5, False)
    assert len(store.db) == 10


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "noeviction"])
def test_all_that_a_policy_allows_can_go(store, evict, policy):
    events = []
    for db in store.databases:
        db.notify = lambda event, key: events.append(event)
    store.fill(300, left_ms=100_000)
    store.databases[1].set_until(b"other", b"v", store.clock.wall_ms() + 5)
    assert evict(policy, 301) == []
    assert not Evictor(store.clock, HotKeys().estimate).evict(store.databases, policy, 5, False)
    assert events.count(b"evicted") == store.evicted == 301
    assert store.memory_bytes == 0


def test_keys_in_one_slot_and_in_parts_of_it_are_drawn_too(store, evict):
    store.fill(10_000, name="{tag}%d", left_ms=100_000)
    assert len(evict("volatile-random", 5_000)) == 5_000
    assert len(evict("allkeys-random", 4_900)) == 100


def test_a_key_whose_time_is_over_is_no_eviction(store):
    store.db.set_until(b"over", b"v", store.clock.wall_ms() - 1)
    assert not Evictor(store.clock, HotKeys().estimate).evict(store.databases, "allkeys-lru", 5, False)
    assert store.evicted == 0
    assert store.expired == 1


def test_the_time_of_each_deletion_is_told_with_its_key(make_store):
    store = make_store(TickingClock())
    noted = []
    store.db.set(b"k", b"v")
    evictor = Evictor(store.clock, HotKeys().estimate, lambda *words: noted.append(words))
    assert evictor.evict(store.databases, "allkeys-random", 5, False)
    ((event, elapsed_ns, key),) = noted
    assert (event, key) == ("eviction-del", b"k") and elapsed_ns > 0


def test_the_time_of_each_batch_of_expired_keys_is_told(make_store):
    store = make_store(TickingClock())
    store.fill(300, "{tag}%d", left_ms=-1)
    noted = []
    for shard in store.shards:
        expire_cycle(shard, store.databases, 1_000_000, store.clock, 1, lambda *words: noted.append(words))
    assert noted and all(event == "expire-del" and elapsed_ns > 0 for event, elapsed_ns in noted)
