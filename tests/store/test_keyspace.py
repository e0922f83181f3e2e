"""The keyspace against a plain dict, and what it counts."""

import random
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kora.clock import ManualClock
from kora.errors import WrongType
from kora.store.expiry import BATCH, expire_cycle
from kora.store.keyspace import Keyspace
from kora.store.lazyfree import free_all, free_some, pending_keys
from kora.store.shard import Shard, make_shards
from kora.store.sizes import DEADLINE_BYTES, entry_size, size_of
from kora.store.slots import slot_of
from kora.store.table import PART_MAX, SplitTable


class TickingClock(ManualClock):
    """Every look takes a microsecond, so that budgets end."""

    def monotonic_ns(self) -> int:
        self._monotonic_ns += 1_000
        return self._monotonic_ns


class Store:
    """Two databases over four shards."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.shards: list[Shard] = make_shards(4, 0)
        self.databases = [Keyspace(index, self.shards, self.clock) for index in range(2)]
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


@pytest.fixture
def store() -> Store:
    return Store()


_KEYS = [b"a", b"b", b"c", b"d{t}", b"e{t}", b"{t}", b"", b"key:1", b"key:2"]
_keys = st.sampled_from(_KEYS)
_databases = st.sampled_from([0, 1])
_values = st.one_of(st.binary(max_size=100), st.builds(bytearray, st.binary(max_size=100)))


class KeyspaceMachine(RuleBasedStateMachine):
    """Each database is a dict of key → (value, deadline); keys whose time is over are dropped when time moves."""

    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.models: list[dict[bytes, tuple[bytes, int | None]]] = [{}, {}]
        self.pending = 0

    def live(self, index: int) -> dict[bytes, tuple[bytes, int | None]]:
        now_ms = self.store.clock.wall_ms()
        return {
            key: (value, deadline_ms)
            for key, (value, deadline_ms) in self.models[index].items()
            if deadline_ms is None or deadline_ms >= now_ms
        }

    @rule(index=_databases, key=_keys, value=_values)
    def set(self, index: int, key: bytes, value: bytes) -> None:
        self.store.databases[index].set(key, value)
        self.models[index][key] = (bytes(value), None)

    @rule(index=_databases, key=_keys, value=_values, left_ms=st.integers(-2, 5))
    def set_until(self, index: int, key: bytes, value: bytes, left_ms: int) -> None:
        deadline_ms = self.store.clock.wall_ms() + left_ms
        self.store.databases[index].set_until(key, value, deadline_ms)
        self.models[index][key] = (bytes(value), deadline_ms)

    @rule(index=_databases, key=_keys)
    def read(self, index: int, key: bytes) -> None:
        expected = self.live(index).get(key, (None, None))[0]
        assert self.store.databases[index].read(key, bytes) == expected

    @rule(index=_databases, key=_keys, value=_values)
    def replace(self, index: int, key: bytes, value: bytes) -> None:
        db = self.store.databases[index]
        if db.find(key) is not None:
            db.replace(key, value)
            self.models[index][key] = (bytes(value), self.models[index][key][1])

    @rule(index=_databases, key=_keys, tail=st.binary(max_size=300))
    def edit(self, index: int, key: bytes, tail: bytes) -> None:
        db = self.store.databases[index]
        value = db.find(key)
        if type(value) is bytearray:
            size_bytes = size_of(value)
            value += tail
            db.resized(key, size_of(value) - size_bytes)
            self.models[index][key] = (bytes(value), self.models[index][key][1])

    @rule(index=_databases, key=_keys)
    def delete(self, index: int, key: bytes) -> None:
        assert self.store.databases[index].delete(key) == (key in self.live(index))
        self.models[index].pop(key, None)

    @rule(index=_databases, key=_keys, left_ms=st.integers(-2, 5))
    def expire(self, index: int, key: bytes, left_ms: int) -> None:
        db = self.store.databases[index]
        assert (db.find(key) is not None) == (key in self.live(index))
        if key in self.live(index):
            deadline_ms = self.store.clock.wall_ms() + left_ms
            db.expire(key, deadline_ms)
            self.models[index][key] = (self.models[index][key][0], deadline_ms)

    @rule(index=_databases, key=_keys)
    def persist(self, index: int, key: bytes) -> None:
        db = self.store.databases[index]
        if db.find(key) is not None:
            value, deadline_ms = self.live(index)[key]
            assert db.deadline(key) == deadline_ms
            assert db.persist(key) == (deadline_ms is not None)
            self.models[index][key] = (value, None)

    @rule(source_index=_databases, target_index=_databases, source=_keys, newkey=_keys)
    def rename(self, source_index: int, target_index: int, source: bytes, newkey: bytes) -> None:
        db, other = self.store.databases[source_index], self.store.databases[target_index]
        if db.find(source) is not None and (source_index, source) != (target_index, newkey):
            db.rename(source, newkey, other)
            self.models[target_index][newkey] = self.models[source_index].pop(source)

    @rule(elapsed_ms=st.integers(1, 4))
    def wait(self, elapsed_ms: int) -> None:
        self.store.clock.advance_ms(elapsed_ms)

    @rule()
    def run_expire_cycle(self) -> None:
        self.store.expire_all()
        self.models = [self.live(0), self.live(1)]
        # It leaves nothing behind that is over.
        assert [len(db) for db in self.store.databases] == [len(model) for model in self.models]

    @rule()
    def swap(self) -> None:
        self.store.databases[0].swap(self.store.databases[1])
        self.models.reverse()

    @rule(index=_databases)
    def flush(self, index: int) -> None:
        db = self.store.databases[index]
        held = len(db)
        assert db.flush() == held
        self.models[index] = {}
        self.pending += held
        assert sum(map(pending_keys, self.store.shards)) == self.pending

    @rule()
    def free(self) -> None:
        assert sum(free_all(shard, self.store.clock) for shard in self.store.shards) == self.pending
        self.pending = 0

    @rule(index=_databases)
    def random(self, index: int) -> None:
        key = self.store.databases[index].random()
        assert key in self.live(index) if self.live(index) else key is None

    @invariant()
    def keys_are_those_of_the_model(self) -> None:
        for index, db in enumerate(self.store.databases):
            listed = list(db)
            assert len(listed) == len(set(listed))
            assert set(listed) == set(self.live(index))
            assert len(db) >= len(listed)

    @invariant()
    def counters_are_sums_over_what_is_held(self) -> None:
        keys = memory_bytes = 0
        for db in self.store.databases:
            volatile = 0
            for slot in {slot_of(key) for key in _KEYS}:
                for key, value in db._tables[slot].items():
                    keys += 1
                    memory_bytes += entry_size(key, value)
                    if db.deadline(key) is not None:
                        memory_bytes += DEADLINE_BYTES
                        volatile += 1
            assert db.volatile == volatile
        assert self.store.keys == keys
        if not self.pending:
            assert self.store.memory_bytes == memory_bytes

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for db in self.store.databases:
            for key in _KEYS:
                db.delete(key)
            assert db.volatile == len(db) == 0
        for shard in self.store.shards:
            free_all(shard, self.store.clock)
        assert self.store.keys == self.store.memory_bytes == 0


KeyspaceMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestKeyspace = KeyspaceMachine.TestCase


def test_counters_are_zero_again_after_every_key_of_a_split_slot_was_deleted(store):
    keys = store.fill(3 * PART_MAX, "{tag}%d", left_ms=1000)
    assert isinstance(store.db._tables[slot_of(b"tag")], SplitTable)
    assert isinstance(store.db._deadlines[slot_of(b"tag")], SplitTable)
    assert store.keys == len(store.db) == store.db.volatile == len(keys)
    for key in keys:
        assert store.db.delete(key)
    assert store.keys == store.memory_bytes == len(store.db) == store.db.volatile == 0
    assert store.db.random() is None


def test_flush_forgets_at_once_and_memory_is_freed_bit_by_bit():
    store = Store(TickingClock())
    store.fill(2_000)
    store.fill(2 * PART_MAX, "{tag}%d", left_ms=1000)
    held, memory_bytes = len(store.db), store.memory_bytes
    assert store.db.flush() == held
    assert store.keys == len(store.db) == store.db.volatile == 0
    assert store.memory_bytes == memory_bytes
    freed, turns = 0, 0
    for shard in store.shards:
        while shard.lazyfree:
            pending = pending_keys(shard)
            step = free_some(shard, 10_000, store.clock)
            assert step <= 2_500, "a turn of 10 looks at the clock frees at most 10 batches"
            assert pending_keys(shard) == pending - step
            freed += step
            turns += 1
    assert turns > 10
    assert freed == held
    assert store.memory_bytes == 0


def test_freeing_without_a_budget_frees_nothing(store):
    store.fill(10)
    store.db.flush()
    assert all(free_some(shard, 0, store.clock) == 0 for shard in store.shards)


def test_keys_set_after_a_flush_are_not_freed(store):
    store.fill(100, left_ms=1000)
    store.db.flush()
    store.fill(100, left_ms=5000)
    for shard in store.shards:
        free_all(shard, store.clock)
    assert len(store.db) == store.keys == store.db.volatile == 100
    assert store.db.read(b"key:7", bytes) == b"v"


def test_rename_into_an_empty_database(store):
    store.db.set_until(b"k", b"v", store.clock.wall_ms() + 1000)
    store.db.rename(b"k", b"k", store.databases[1])
    assert len(store.db) == 0
    assert store.databases[1].read(b"k", bytes) == b"v"
    assert store.databases[1].deadline(b"k") == store.clock.wall_ms() + 1000


def test_every_change_counts_once(store):
    db, now_ms = store.db, store.clock.wall_ms()
    for change in (
        lambda: db.set(b"k", b"v"),
        lambda: db.set_until(b"k", b"v", now_ms + 1000),
        lambda: db.replace(b"k", b"w"),
        lambda: db.expire(b"k", now_ms + 2000),
        lambda: db.persist(b"k"),
        lambda: db.rename(b"k", b"l"),
        lambda: db.delete(b"l"),
    ):
        before = db.changes
        change()
        assert db.changes == before + 1
    db.delete(b"l")
    assert db.changes == before + 1


def test_a_key_lives_to_the_end_of_its_last_millisecond(store):
    store.db.set_until(b"k", b"v", store.clock.wall_ms() + 10)
    store.clock.advance_ms(10)
    assert store.db.read(b"k", bytes) == b"v"
    store.clock.advance_ms(1)
    assert store.db.read(b"k", bytes) is None
    assert store.expired == 1
    assert store.keys == store.memory_bytes == 0


def test_overwriting_a_key_whose_time_is_over_counts_it_as_expired(store):
    store.db.set_until(b"k", b"v", store.clock.wall_ms() - 1)
    store.db.set(b"k", b"w")
    assert store.expired == 1
    assert store.keys == 1
    assert store.db.deadline(b"k") is None


def test_reading_counts_hits_and_misses_and_finding_does_not(store):
    def counts() -> tuple[int, int]:
        return sum(shard.stats.hits for shard in store.shards), sum(shard.stats.misses for shard in store.shards)

    store.db.set(b"k", b"v")
    store.db.find(b"k"), store.db.find(b"no")
    assert counts() == (0, 0)
    store.db.read(b"k", bytes), store.db.read(b"no", bytes)
    assert counts() == (1, 1)
    store.db.inspect(b"k"), store.db.inspect(b"no")
    assert counts() == (2, 2)
    store.db.touch(b"k"), store.db.touch(b"no")
    assert counts() == (3, 3)
    with pytest.raises(WrongType):
        store.db.read(b"k", list)
    assert counts() == (4, 3)
    with pytest.raises(WrongType):
        store.db.find(b"k", list)


def test_idle_time_starts_again_with_use_but_not_with_inspection(store):
    store.db.set(b"k", b"v")
    store.db.now_s += 100
    assert store.db.idle_s(b"k") == 100
    store.db.inspect(b"k")
    assert store.db.idle_s(b"k") == 100
    store.db.read(b"k", bytes)
    assert store.db.idle_s(b"k") == 0
    store.db.now_s += 7
    store.db.touch(b"k")
    assert store.db.idle_s(b"k") == 0


def test_random_is_roughly_fair_to_small_slots_and_to_one_that_holds_a_hash_tag(store):
    store.fill(1_000, "{tag}%d")
    lonely = store.fill(1_000)
    draws = Counter(store.db.random() for _ in range(20_000))
    share = sum(draws[key] for key in lonely) / 20_000
    assert 0.45 < share < 0.55
    # Each key is expected 10 times.
    assert len(draws) > 1_950
    assert max(draws.values()) < 40


def test_random_finds_a_few_keys_beside_a_very_full_slot(store):
    store.fill(3 * PART_MAX, "{tag}%d")
    store.fill(10)
    draws = Counter(store.db.random().startswith(b"{tag}") for _ in range(2_000))
    assert draws[True] > 1_950


def test_random_is_quick_again_after_a_full_slot_was_emptied(store):
    tagged = store.fill(3 * PART_MAX, "{tag}%d")
    store.fill(100)
    for key in tagged:
        store.db.delete(key)
    store.db.random()
    assert store.db._heaviest < 10


def test_random_never_gives_a_key_whose_time_is_over(store):
    store.fill(500, left_ms=-1)
    store.db.set(b"alive", b"v")
    assert store.db.random() == b"alive"
    store.db.delete(b"alive")
    assert store.db.random() is None
    assert store.keys == 0


def test_swap_exchanges_keys_deadlines_and_counts(store):
    store.fill(50, left_ms=1000)
    store.databases[1].set(b"other", b"v")
    store.db.swap(store.databases[1])
    assert list(store.db) == [b"other"]
    assert store.db.volatile == 0
    assert len(store.databases[1]) == store.databases[1].volatile == 50
    assert store.databases[1].index == 1
    assert store.databases[1].deadline(b"key:1") == store.clock.wall_ms() + 1000
    assert store.keys == 51


def test_the_expire_cycle_deletes_all_that_are_over_and_nothing_else(store):
    store.fill(3_000, "old:%d", left_ms=10)
    store.fill(3_000, "young:%d", left_ms=10_000)
    store.fill(3_000, "forever:%d")
    store.fill(3 * PART_MAX, "{tag}old:%d", left_ms=10)
    store.fill(3 * PART_MAX, "{tag}young:%d", left_ms=10_000)
    store.clock.advance_ms(11)
    store.expire_all()
    assert store.expired == 3_000 + 3 * PART_MAX
    assert store.keys == len(store.db) == 6_000 + 3 * PART_MAX
    assert store.db.volatile == 3_000 + 3 * PART_MAX
    assert len(list(store.db)) == len(store.db)


def test_the_expire_cycle_goes_through_all_databases(store):
    store.fill(100, left_ms=-1)
    store.db.swap(store.databases[1])
    store.fill(100, left_ms=-1)
    store.expire_all()
    assert store.keys == 0


def test_the_expire_cycle_asks_for_another_turn_while_much_is_over():
    store = Store(TickingClock())
    shard = store.shards[0]
    store.fill(20_000, left_ms=10)
    # Nothing is over: no hurry, and only a few are looked at.
    assert not expire_cycle(shard, store.databases, 1_000_000, store.clock)
    assert store.expired == 0
    store.clock.advance_ms(11)
    # A small budget ends the turn, and what was seen was all over.
    assert expire_cycle(shard, store.databases, 20_000, store.clock)
    assert 0 < store.expired < 1_000
    turns = 1
    while expire_cycle(shard, store.databases, 100_000, store.clock):
        turns += 1
    assert turns > 10
    # The walk has come to the last slot; what the first turn had passed while it was young is for the next walk.
    assert shard.stats.keys < 1_000


def test_a_full_slot_whose_keys_are_all_over_is_seen_as_such():
    """Each turn deletes a batch of the slot's keys; those that it did not get to must not count as alive."""
    store = Store(TickingClock())
    store.fill(PART_MAX, "{tag}%d", left_ms=-1)
    shard = next(shard for shard in store.shards if shard.slot_start <= slot_of(b"tag") < shard.slot_stop)
    assert expire_cycle(shard, store.databases, 1_000, store.clock)
    assert BATCH <= store.expired <= 3 * BATCH


def test_a_turn_of_the_expire_cycle_looks_at_few_keys_when_none_is_over():
    store = Store(TickingClock())
    store.fill(20_000, left_ms=10_000)
    started_ns = store.clock.monotonic_ns()
    assert not expire_cycle(store.shards[0], store.databases, 1_000_000_000, store.clock)
    # The clock ticks with every slot, and a slot has about one key.
    assert store.clock.monotonic_ns() - started_ns < 600 * 1_000


def test_more_effort_looks_at_more_keys():
    def looks(effort: int) -> int:
        store = Store(TickingClock())
        store.fill(20_000, left_ms=10_000)
        started_ns = store.clock.monotonic_ns()
        expire_cycle(store.shards[0], store.databases, 1_000_000_000, store.clock, effort)
        return store.clock.monotonic_ns() - started_ns

    assert looks(10) > 2 * looks(1)


@pytest.mark.parametrize("tagged", [0, 25_000])
def test_a_scan_gives_every_key_that_stays_whatever_else_changes(store, tagged):
    dice = random.Random(tagged)
    staying = set(store.fill(5_000, "stay:%d"))
    staying |= set(store.fill(tagged // 10, "{tag}stay:%d"))
    going = store.fill(5_000, "go:%d")
    seen: set[bytes] = set()
    cursor, fresh, split_before = 0, 0, isinstance(store.db._tables[slot_of(b"tag")], SplitTable)
    while True:
        cursor, keys = store.db.scan(cursor, dice.choice([1, 10, 100]))
        seen.update(keys)
        if not cursor:
            break
        for _ in range(dice.randrange(20)):
            store.db.delete(dice.choice(going))
            store.db.set(b"new:%d" % fresh, b"v")
            fresh += 1
        for _ in range(dice.randrange(tagged // 100 + 1)):
            store.db.set(b"{tag}new:%d" % fresh, b"v")
            fresh += 1
    assert staying <= seen
    if tagged:
        table = store.db._tables[slot_of(b"tag")]
        assert not split_before
        assert isinstance(table, SplitTable), "the tag's slot did not split during the scan: insert more"
        assert len(table) > 20_000


def test_a_step_of_a_scan_is_bounded_by_a_part_of_a_table(store):
    store.fill(6 * PART_MAX, "{tag}%d")
    cursor, steps = 0, 0
    while True:
        cursor, keys = store.db.scan(cursor, 10)
        assert len(keys) <= PART_MAX
        steps += 1
        if not cursor:
            break
    assert steps >= 6


def test_a_scan_of_few_keys_skips_empty_slots(store):
    keys = store.fill(20)
    assert store.db.scan(0, 20)[0] == 0
    first = store.db.scan(0, 5)
    second = store.db.scan(first[0], 50)
    assert second[0] == 0
    assert sorted(first[1] + second[1]) == sorted(keys)


def test_a_scan_leaves_out_keys_whose_time_is_over(store):
    store.fill(20, left_ms=-1)
    store.db.set(b"alive", b"v")
    assert store.db.scan(0, 100) == (0, [b"alive"])
    assert store.keys == 1


def test_keys_in_slot_gives_at_most_as_many_as_asked_for(store):
    store.fill(2 * PART_MAX, "{tag}%d")
    slot = slot_of(b"tag")
    assert store.db.count_in_slot(slot) == 2 * PART_MAX
    assert len(store.db.keys_in_slot(slot, 10)) == 10
    assert len(set(store.db.keys_in_slot(slot, 1 << 30))) == 2 * PART_MAX
    assert store.db.keys_in_slot((slot + 1) % 16384, 10) == []


def test_databases_that_hold_nothing_share_their_directories(store):
    store.fill(10)
    store.db.flush()
    assert store.db._tables is store.databases[1]._tables
