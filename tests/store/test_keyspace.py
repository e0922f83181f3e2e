"""The keyspace against a plain dict, and what it counts: of every implementation, and through its interface alone."""

import gc
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from kora.errors import WrongType
from kora.observe.recent import PREFIXES_MAX
from kora.store.expiry import BATCH, expire_cycle
from kora.store.lazyfree import EFFORT_MIN, free_some, pending_keys
from kora.store.slots import slot_of
from kora.types.hash import Hash
from kora.types.kinds import copy, encoding
from kora.types.list import List
from kora.types.set import Set
from kora.types.sorted_set import SortedSet
from kora.types.stream import Stream
from tests.store.stores import STEP_KEYS_MAX, Store, TickingClock

_KEYS = [b"a", b"b", b"c", b"d{t}", b"e{t}", b"{t}", b"", b"key:1", b"key:2"]
_keys = st.sampled_from(_KEYS)
_databases = st.sampled_from([0, 1])
_values = st.one_of(st.binary(max_size=100), st.builds(bytearray, st.binary(max_size=100)))


class KeyspaceMachine(RuleBasedStateMachine):
    """Each database is a dict of key → (value, deadline); keys whose time is over are dropped when time moves."""

    def __init__(self, implementation: str) -> None:
        super().__init__()
        self.store = Store(implementation)
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

    @rule(index=_databases, key=_keys, offset=st.none() | st.integers(0, 120), part=st.binary(max_size=300))
    def edit(self, index: int, key: bytes, offset: int | None, part: bytes) -> None:
        """Without an offset, at the end."""
        db = self.store.databases[index]
        value, deadline_ms = self.live(index).get(key, (b"", None))
        assert (db.find(key, bytes) or b"") == value
        if offset is None:
            offset = len(value)
        expected = value[:offset].ljust(offset, b"\0") + part + value[offset + len(part) :]
        assert db.edit(key, offset, part) == len(expected)
        self.models[index][key] = (expected, deadline_ms)
        assert encoding(db.inspect(key)) == "raw"

    @rule(index=_databases, pairs=st.lists(st.tuples(_keys, st.binary(max_size=20)), min_size=1, max_size=5))
    def set_many(self, index: int, pairs: list[tuple[bytes, bytes]]) -> None:
        self.store.databases[index].set_many([b"MSET", *(word for pair in pairs for word in pair)], 1)
        self.models[index].update((key, (value, None)) for key, value in pairs)

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
        assert self.store.pending == self.pending

    @rule()
    def free(self) -> None:
        assert self.store.free_all() == self.pending
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
        self.store.audit()
        assert self.store.keys == sum(map(len, self.store.databases))
        for index, db in enumerate(self.store.databases):
            live, modelled = (
                sum(deadline_ms is not None for _, deadline_ms in model.values())
                for model in (self.live(index), self.models[index])
            )
            # Keys whose time is over are held until somebody comes across them.
            assert live <= db.volatile <= modelled

    def teardown(self) -> None:
        for db in self.store.databases:
            for key in _KEYS:
                db.delete(key)
            assert db.volatile == len(db) == 0
        self.store.free_all()
        assert self.store.keys == self.store.memory_bytes == 0


def test_random_programs_against_plain_dicts(implementation):
    run_state_machine_as_test(
        lambda: KeyspaceMachine(implementation),
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
    )


def test_counters_are_zero_again_after_every_key_of_a_full_slot_was_deleted(store):
    keys = store.fill(3 * STEP_KEYS_MAX, "{tag}%d", left_ms=1000)
    store.audit()
    assert store.keys == len(store.db) == store.db.volatile == len(keys)
    for key in keys:
        assert store.db.delete(key)
    assert store.keys == store.memory_bytes == len(store.db) == store.db.volatile == 0
    assert store.db.random() is None


def test_flush_forgets_at_once_and_memory_is_freed_bit_by_bit(make_store):
    store = make_store(TickingClock())
    store.fill(2_000)
    store.fill(2 * STEP_KEYS_MAX, "{tag}%d", left_ms=1000)
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
    assert turns >= held // 2_500
    assert freed == held
    assert store.memory_bytes == 0


def test_freeing_without_a_budget_frees_nothing(store):
    store.fill(10)
    store.db.flush()
    assert all(free_some(shard, 0, store.clock) == 0 for shard in store.shards)


def test_a_store_can_be_dropped_before_its_flushed_keys_are_freed(make_store):
    class Value:
        kind = "thing"
        size_bytes = 16
        effort = 1

        def __len__(self):
            return 1

    store = make_store()
    gc.collect(0)  # the next collection comes to what is younger first: to the flushed keys before their owners
    for prefix in (b"flushed", b"held"):
        store.db.flush()
        for number in range(100):
            store.db.set(b"%b:%d" % (prefix, number), Value())
    # A ring, as an engine and what belongs to it are.
    store.databases.append(store)
    del store
    gc.collect()
    assert not any(type(one) is Value for one in gc.get_objects())


def test_keys_set_after_a_flush_are_not_freed(store):
    store.fill(100, left_ms=1000)
    store.db.flush()
    store.fill(100, left_ms=5000)
    assert store.free_all() == 100
    store.audit()
    assert len(store.db) == store.keys == store.db.volatile == 100
    assert store.db.read(b"key:7", bytes) == b"v"


def test_what_was_flushed_is_freed_so_many_entries_at_a_time_until_nothing_is_left(store):
    keys = [
        *store.fill(3, "{tag}forever%d"),
        *store.fill(20, "{tag}%d", left_ms=1000),
        *store.fill(5, "{other}%d", left_ms=1000),
    ]
    store.db.flush()
    freed = 0
    for shard in store.shards:
        for discarded in shard.lazyfree:
            # Deadlines may be left when no key is.
            while not discarded.is_empty:
                left, memory_bytes = len(discarded), shard.stats.memory_bytes
                step = discarded.free_some(shard.stats, 7)
                assert 0 <= step <= 7
                assert len(discarded) == left - step
                assert shard.stats.memory_bytes < memory_bytes
                freed += step
            assert len(discarded) == 0
    assert freed == len(keys)
    assert store.memory_bytes == 0
    assert store.free_all() == store.pending == 0


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
        lambda: db.edit(b"k", 1, b"x"),
        lambda: db.edit(b"k", 2, b""),
        lambda: db.edit(b"new", 3, b"x"),
        lambda: db.updated(b"pile", Pile()),
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
    db.set_many([b"a", b"1", b"b", b"2", b"a", b"3"], 0)
    assert db.changes == before + 4


@pytest.mark.parametrize("value", [None, b"hello", bytearray(b"hello")], ids=["no key", "set", "edited"])
@pytest.mark.parametrize("offset", [0, 3, 5, 9])
@pytest.mark.parametrize("part", [b"", b"x", b"HELLO AGAIN" * 100])
def test_edit_makes_an_edited_string_and_keeps_its_deadline(store, value, offset, part):
    deadline_ms = None
    before = b""
    if value is not None:
        before, deadline_ms = bytes(value), store.clock.wall_ms() + 1000
        store.db.set_until(b"k", value, deadline_ms)
    expected = bytearray(before.ljust(offset, b"\0"))
    expected[offset : offset + len(part)] = part
    store.db.find(b"k", bytes)
    assert store.db.edit(b"k", offset, part) == len(expected)
    assert store.db.read(b"k", bytes) == expected
    assert encoding(store.db.inspect(b"k")) == "raw"
    assert store.db.deadline(b"k") == deadline_ms
    store.audit()


@pytest.mark.parametrize("value", [b"0123456789", b"12", bytearray(b"0123456789")])
def test_part_gives_the_bytes_that_there_are(store, value):
    store.db.set(b"a", value)
    for start, count in [(0, 1), (1, 5), (1, 50), (9, 1), (9, 2), (10, 1), (1 << 40, 1), (0, 0), (2, 1 << 40)]:
        assert store.db.part(b"a", start, count) == value[start : start + count]
    assert store.db.part(b"no", 0, 10) == b""


def test_edit_of_another_key_than_was_found_last(store):
    store.db.set(b"k", b"hello")
    store.db.find(b"k", bytes), store.db.find(b"other", bytes)
    assert store.db.edit(b"k", 5, b"!") == 6
    assert store.db.read(b"k", bytes) == b"hello!"
    assert store.db.read(b"other", bytes) is None
    store.audit()


def test_an_edited_string_grows_step_by_step_and_its_memory_is_freed(store):
    expected = b""
    for step in range(500):
        store.db.find(b"k", bytes)
        assert store.db.edit(b"k", len(expected), b"%d," % step) > len(expected)
        expected += b"%d," % step
    assert store.db.read(b"k", bytes) == expected
    assert store.memory_bytes > len(expected)
    store.audit()
    store.db.delete(b"k")
    assert store.memory_bytes == 0


def test_a_copy_of_an_edited_string_changes_independently(store):
    store.db.set(b"k", bytearray(b"one"))
    store.db.set(b"copy", copy(store.db.find(b"k", bytes)))
    store.db.find(b"k", bytes)
    store.db.edit(b"k", 0, b"two")
    assert store.db.read(b"copy", bytes) == b"one"
    assert store.db.read(b"k", bytes) == b"two"


class Pile:
    """A value that is no string: it is changed in place, and knows how large it is."""

    kind = "pile"
    keeps_when_empty = False
    counted_bytes = 0

    def __init__(self, limits: object = None) -> None:
        self.count = 100

    def __len__(self) -> int:
        return self.count

    @property
    def size_bytes(self) -> int:
        return self.count

    @property
    def effort(self) -> int:
        return self.count

    def shed(self, count: int) -> int:
        count = min(count, self.count)
        self.count -= count
        return count


def test_a_value_of_another_kind_is_held_as_it_is_and_may_change_its_size(store):
    pile = Pile()
    store.db.set(b"k", pile)
    assert store.db.read(b"k", Pile) is store.db.find(b"k", Pile) is store.db.inspect(b"k") is pile
    for kind in (bytes, list):
        with pytest.raises(WrongType):
            store.db.find(b"k", kind)
    before = store.memory_bytes
    pile.count += 1_000
    assert store.db.updated(b"k", pile)
    assert store.memory_bytes == before + 1_000
    store.audit()
    store.db.rename(b"k", b"l", store.databases[1])
    assert store.databases[1].read(b"l", Pile) is pile
    pile.count -= 500
    store.databases[1].updated(b"l", pile)
    store.databases[1].set(b"l", b"a string again")
    store.audit()


def test_updated_stores_what_is_new_and_removes_what_is_empty(store):
    pile = store.db.make(Pile)
    assert store.db.updated(b"k", pile)
    assert store.db.find(b"k", Pile) is pile
    store.audit()
    pile.count = 0
    assert not store.db.updated(b"k", pile)
    assert not store.db.has(b"k")
    assert not store.db.updated(b"k", pile)
    assert store.db.changes == 2
    assert store.keys == store.memory_bytes == 0
    pile.keeps_when_empty = True
    assert store.db.updated(b"k", pile)
    assert store.db.has(b"k")


def test_updated_knows_a_key_again_whose_time_has_come_since_it_was_found(store):
    pile = Pile()
    store.db.set_until(b"k", pile, store.clock.wall_ms())
    assert store.db.find(b"k", Pile) is pile
    store.clock.advance_ms(1)
    assert store.db.updated(b"k", pile)
    store.db.replace(b"k", b"text")
    store.db.edit(b"k", 0, b"T")
    assert store.db.deadline(b"k") == store.clock.wall_ms() - 1
    assert not store.db.has(b"k")


def test_a_large_value_is_unlinked_at_once_and_freed_bit_by_bit(store):
    pile = Pile()
    pile.count = 1_000
    store.db.set(b"k", pile)
    store.db.set(b"small", b"v")
    assert store.db.unlink(b"k")
    assert store.db.unlink(b"small")
    assert not store.db.unlink(b"k")
    assert store.keys == 0
    assert store.memory_bytes == 1_000
    assert store.pending == 1
    store.free_all()
    assert pile.count == store.memory_bytes == store.pending == 0


@pytest.fixture
def touched(store):
    """The keys that touched() was called with, by database."""
    calls = []
    for db in store.databases:
        db.touched = lambda db, key: calls.append((db.index, key))
    return calls


def test_every_change_of_an_attended_key_is_told(store, touched):
    db, now_ms = store.db, store.clock.wall_ms()
    db.attend(b"k")
    db.attend(b"k")
    for number, change in enumerate((
        lambda: db.set(b"k", b"v"),
        lambda: db.set_many([b"a", b"1", b"k", b"v"], 0),
        lambda: db.set_many([b"a", b"1", b"k", b"v"], 0),
        lambda: db.set_until(b"k", b"v", now_ms + 1000),
        lambda: db.find(b"k") and db.replace(b"k", b"w"),
        lambda: db.edit(b"k", 1, b"x"),
        lambda: db.expire(b"k", now_ms + 2000),
        lambda: db.persist(b"k"),
        lambda: db.rename(b"k", b"l"),
        lambda: db.rename(b"l", b"k"),
        lambda: db.delete(b"k"),
        lambda: db.updated(b"k", Pile()),
        lambda: db.unlink(b"k"),
    ), 1):  # fmt: skip
        change()
        assert touched == [(0, b"k")] * number
    db.set(b"other", b"v")
    db.delete(b"k")
    db.disregard(b"k")
    assert len(touched) == 13
    db.set(b"k", b"v")
    assert len(touched) == 14
    db.disregard(b"k")
    db.set(b"k", b"v")
    assert len(touched) == 14


def test_the_end_of_an_attended_key_is_told(store, touched):
    for key in (b"found", b"looked for by the cycle"):
        store.db.attend(key)
        store.db.set_until(key, b"v", store.clock.wall_ms())
    store.clock.advance_ms(1)
    touched.clear()
    events = note_events(store.db)
    assert store.db.find(b"found") is None
    assert touched == [(0, b"found")]
    store.expire_all()
    assert touched == [(0, b"found"), (0, b"looked for by the cycle")]
    assert events == [(b"expired", b"found"), (b"expired", b"looked for by the cycle")]


def note_events(db):
    events = []
    db.notify = lambda event, key: events.append((event, key))
    db.tells_more = True
    return events


def test_a_key_that_is_made_is_told_once(store):
    db, other = store.databases[:2]
    events, elsewhere = note_events(db), note_events(other)
    db.set(b"set", b"v")
    db.set(b"set", b"v")
    db.set_until(b"until", b"v", store.clock.wall_ms() + 10)
    db.set_until(b"until", b"v", store.clock.wall_ms() + 10)
    db.find(b"edited")
    db.edit(b"edited", 0, b"v")
    db.edit(b"edited", 0, b"v")
    db.find(b"pile")
    db.updated(b"pile", Pile())
    db.rename(b"set", b"moved")
    db.rename(b"moved", b"until")
    db.rename(b"until", b"there", other)
    assert events == [(b"new", key) for key in (b"set", b"until", b"edited", b"pile", b"moved")]
    assert elsewhere == [(b"new", b"there")]


def test_many_keys_that_are_set_are_told_one_by_one(store):
    events = note_events(store.db)
    store.db.set_many([b"a", b"1", b"b", b"2", b"a", b"3"], 0)
    assert events == [(b"new", b"a"), (b"set", b"a"), (b"new", b"b"), (b"set", b"b"), (b"set", b"a")]
    assert store.db.changes == 3


def test_a_miss_is_told_unless_it_was_asked_for_quietly(store):
    events = note_events(store.db)
    store.db.read(b"read", bytes)
    store.db.inspect(b"inspected")
    store.db.touch(b"touched")
    assert events == [(b"keymiss", b"read"), (b"keymiss", b"inspected"), (b"keymiss", b"touched")]
    store.db.inspect(b"k", quietly=True)
    store.db.find(b"k")
    store.db.has(b"k")
    store.db.delete(b"k")
    assert len(events) == 3


def test_a_miss_of_a_key_whose_time_is_over_is_told_behind_its_end(store):
    store.db.set_until(b"k", b"v", store.clock.wall_ms() - 1)
    events = note_events(store.db)
    store.db.read(b"k", bytes)
    assert events == [(b"expired", b"k"), (b"keymiss", b"k")]


def test_flush_and_swap_tell_of_attended_keys_that_are_there(store, touched):
    for db in store.databases:
        db.attend(b"here")
        db.attend(b"nowhere")
    store.db.set(b"here", b"v")
    touched.clear()
    store.db.swap(store.databases[1])
    assert touched == [(0, b"here"), (1, b"here")]
    store.db.flush()
    assert len(touched) == 2
    store.databases[1].flush()
    assert touched[2:] == [(1, b"here")]


def test_all_keys_can_be_attended_to(store, touched):
    store.db.attends_all = True
    store.db.set(b"any", b"v")
    store.databases[1].set(b"any", b"v")
    assert touched == [(0, b"any")]


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


_USES = {
    "read": lambda db: db.read(b"k", bytes),
    "find": lambda db: db.find(b"k"),
    "touch": lambda db: db.touch(b"k"),
    "set": lambda db: db.set(b"k", b"w"),
    "set_until": lambda db: db.set_until(b"k", b"w", None),
    "set_many": lambda db: db.set_many([b"k", b"w", b"k", b"longer"], 0),
}


@pytest.mark.parametrize("use", _USES.values(), ids=_USES)
def test_idle_time_starts_again_with_use_but_not_with_inspection(store, use):
    store.db.set(b"k", b"v")
    store.db.now_s += 100
    assert store.db.idle_s(b"k") == 100
    store.db.inspect(b"k")
    store.db.deadline(b"k")
    assert store.db.idle_s(b"k") == 100
    use(store.db)
    assert store.db.idle_s(b"k") == 0
    store.db.now_s += 7
    assert store.db.idle_s(b"k") == 7


def test_idle_time_is_never_longer_than_the_key_was_idle(store):
    keys = store.fill(2_000)
    for key in keys:
        store.db.now_s += 1
        store.db.touch(key)
    assert all(0 <= store.db.idle_s(key) <= age for age, key in enumerate(reversed(keys)))


def test_idle_time_of_a_clock_that_was_set_back_is_0(store):
    store.db.set(b"k", b"v")
    store.db.now_s -= 100
    assert store.db.idle_s(b"k") == 0


def test_random_is_roughly_fair_to_small_slots_and_to_one_that_holds_a_hash_tag(store):
    store.fill(250, "{tag}%d")
    lonely = store.fill(250)
    draws = Counter(store.db.random() for _ in range(5_000))
    share = sum(draws[key] for key in lonely) / 5_000
    assert 0.45 < share < 0.55
    # Each key is expected 10 times.
    assert len(draws) > 485
    assert max(draws.values()) < 40


def test_random_finds_a_few_keys_beside_a_very_full_slot(store):
    store.fill(3 * STEP_KEYS_MAX, "{tag}%d")
    store.fill(10)
    draws = Counter(store.db.random().startswith(b"{tag}") for _ in range(2_000))
    assert draws[True] > 1_950


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
    store.fill(3 * STEP_KEYS_MAX, "{tag}old:%d", left_ms=10)
    store.fill(3 * STEP_KEYS_MAX, "{tag}young:%d", left_ms=10_000)
    store.clock.advance_ms(11)
    store.expire_all()
    assert store.expired == 3_000 + 3 * STEP_KEYS_MAX
    assert store.keys == len(store.db) == 6_000 + 3 * STEP_KEYS_MAX
    assert store.db.volatile == 3_000 + 3 * STEP_KEYS_MAX
    assert len(list(store.db)) == len(store.db)


def test_the_expire_cycle_goes_through_all_databases(store):
    store.fill(100, left_ms=-1)
    store.db.swap(store.databases[1])
    store.fill(100, left_ms=-1)
    store.expire_all()
    assert store.keys == 0


def test_the_expire_cycle_asks_for_another_turn_while_much_is_over(make_store):
    store = make_store(TickingClock())
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


def test_a_full_slot_whose_keys_are_all_over_is_seen_as_such(make_store):
    """Each turn deletes a batch of the slot's keys; those that it did not get to must not count as alive."""
    store = make_store(TickingClock())
    store.fill(STEP_KEYS_MAX, "{tag}%d", left_ms=-1)
    shard = next(shard for shard in store.shards if shard.slot_start <= slot_of(b"tag") < shard.slot_stop)
    assert expire_cycle(shard, store.databases, 1_000, store.clock)
    assert BATCH <= store.expired <= 3 * BATCH


def test_a_turn_of_the_expire_cycle_looks_at_few_keys_when_none_is_over(make_store):
    store = make_store(TickingClock())
    store.fill(20_000, left_ms=10_000)
    started_ns = store.clock.monotonic_ns()
    assert not expire_cycle(store.shards[0], store.databases, 1_000_000_000, store.clock)
    # The clock ticks with every slot, and a slot has about one key.
    assert store.clock.monotonic_ns() - started_ns < 600 * 1_000


def test_more_effort_looks_at_more_keys(make_store):
    def looks(effort: int) -> int:
        store = make_store(TickingClock())
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
    cursor, fresh = 0, 0
    assert store.db.count_in_slot(slot_of(b"tag")) < STEP_KEYS_MAX
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
        assert store.db.count_in_slot(slot_of(b"tag")) > 20_000, "the tag's slot is to outgrow a step: insert more"


def test_a_step_of_a_scan_is_bounded_by_a_part_of_a_table(store):
    store.fill(6 * STEP_KEYS_MAX, "{tag}%d")
    cursor, steps = 0, 0
    while True:
        cursor, keys = store.db.scan(cursor, 10)
        assert len(keys) <= STEP_KEYS_MAX
        steps += 1
        if not cursor:
            break
    assert steps >= 6


def test_a_scan_of_few_keys_skips_empty_slots(store):
    keys = store.fill(20)
    assert store.db.scan(0, 100)[0] == 0
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
    store.fill(2 * STEP_KEYS_MAX, "{tag}%d")
    slot = slot_of(b"tag")
    assert store.db.count_in_slot(slot) == 2 * STEP_KEYS_MAX
    assert len(store.db.keys_in_slot(slot, 10)) == 10
    assert len(set(store.db.keys_in_slot(slot, 1 << 30))) == 2 * STEP_KEYS_MAX
    assert store.db.keys_in_slot((slot + 1) % 16384, 10) == []


WAYS: dict[str, Callable[[Store, bytes], object]] = {
    "delete": lambda store, key: store.db.delete(key),
    "unlink": lambda store, key: store.db.unlink(key),
    "set": lambda store, key: store.db.set(key, b"v"),
    "replace": lambda store, key: (store.db.has(key), store.db.replace(key, b"v")),
    "rename": lambda store, key: (store.db.set(b"other", b"v"), store.db.rename(b"other", key)),
    "move": lambda store, key: (
        store.databases[1].set(key, b"v"), store.databases[1].rename(key, key, store.db)
    ),
    "be late": lambda store, key: (store.db.expire(key, store.clock.wall_ms() - 1), store.db.has(key)),
    "be expired": lambda store, key: (store.db.expire(key, store.clock.wall_ms() - 1), store.expire_all()),
    "flush": lambda store, key: store.db.flush(),
}  # fmt: skip


def fill_large(value):
    """So that it is in many parts, whatever its kind and implementation."""
    for number in range(1, 1_001):
        name, data = b"%d" % number, b"x" * 1_000
        if value.kind == "hash":
            value.set(name, data)
        elif value.kind == "set":
            value.add(name + data)
        elif value.kind == "list":
            value.push_right(data)
        elif value.kind == "zset":
            value.add(name, float(number))
        else:
            value.add(number, [b"f", data])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Hash, Set, List, SortedSet, Stream])
def test_a_large_value_is_freed_bit_by_bit_however_its_key_goes(store, kind, way):
    value = store.db.make(kind)
    fill_large(value)
    store.db.updated(b"k", value)
    effort = value.effort
    assert effort > EFFORT_MIN
    del value
    WAYS[way](store, b"k")
    # Its last parts, which are few, go at once.
    steps, most = 0, 10
    for _ in store.shards * 2:  # what one frees another one may get
        for shard in store.shards:
            while shard.lazyfree:
                steps += 1
                shard.lazyfree[0].free_some(shard.stats, most)
                if shard.lazyfree[0].is_empty:
                    shard.lazyfree.popleft()
    # As many again, or a block of 512 items of the reference's list.
    assert steps >= min(2, (effort - EFFORT_MIN) // most)
    store.audit()


def test_weights_tell_what_keys_take_by_type_and_prefix(store):
    store.fill(3000, "user:%d", left_ms=100_000)
    store.fill(4000, "session/{same}%d")
    members = store.db.make(Set)
    members.add(b"member")
    store.db.set(b"team:1", members)
    weights = store.db.weights()
    assert {place: keys for place, (keys, _) in weights.items()} == {
        ("string", "user:*"): 3000,
        ("string", "session/*"): 4000,
        ("set", "team:*"): 1,
    }
    # Short of tables.
    assert store.memory_bytes / 2 < sum(size_bytes for _, size_bytes in weights.values()) <= store.memory_bytes
    assert store.databases[1].weights() == {}


def test_weights_of_more_prefixes_than_are_told_apart_share_a_row(store):
    store.fill(PREFIXES_MAX + 500, "%d:own")
    weights = store.db.weights()
    assert len(weights) == PREFIXES_MAX + 1
    assert weights["string", "others"][0] == 500
