"""Vector sets that have work to do, and the worker that does it."""

from array import array

import pytest

from kora.clock import ManualClock
from kora.store.indexing import Indexing
from kora.types.vector_set import VectorSet

pytest.importorskip("usearch")


@pytest.fixture
def indexing():
    return Indexing()


@pytest.fixture
def behind(store, indexing):
    """behind(b"k", …): vector sets that have work to do, and are noted."""

    def behind(*keys):
        for key in keys:
            value = store.db.make(VectorSet)
            value.shape(2, "l2")
            for number in range(50):
                value.set(number, array("f", [number, 1.0]))
            store.db.find(key)
            store.db.updated(key, value)
            indexing.note(store.db, key)
        value._limits.vector_exact_max = 10
        assert value.has_work

    return behind


class BusyClock(ManualClock):
    """A clock that goes on by 0.1 ms at every look."""

    def monotonic_ns(self):
        self.advance_ns(100_000)
        return super().monotonic_ns()


def run(store, indexing):
    return indexing.run(store.databases, 1_000_000, store.clock)


def test_work_is_done_and_counted_and_is_no_change(store, indexing, behind):
    behind(b"k")
    changes, memory_bytes = store.db.changes, store.memory_bytes
    assert run(store, indexing) is False
    assert len(indexing) == 0
    assert not store.db.find(b"k").has_work
    assert store.db.find(b"k").indexed == 50
    assert store.db.changes == changes
    assert store.memory_bytes > memory_bytes
    store.audit()


def test_a_turn_ends_when_its_budget_does(store, indexing, behind):
    behind(b"a", b"b")
    clock = BusyClock()
    turns = 1
    before = 0
    while indexing.run(store.databases, 1_000_000, clock):
        turns += 1
        indexed = sum(store.db.find(key).indexed for key in (b"a", b"b"))
        assert indexed - before <= 10
        before = indexed
    assert turns >= 10
    assert store.db.find(b"a").indexed == store.db.find(b"b").indexed == 50


def test_what_became_of_a_set_meanwhile_is_no_matter(store, indexing, behind):
    behind(b"deleted", b"string", b"renamed", b"expired")
    store.db.delete(b"deleted")
    store.db.set(b"string", b"v")
    store.db.rename(b"renamed", b"new")
    store.db.expire(b"expired", store.clock.wall_ms() + 5)
    store.clock.advance_ms(10)
    assert run(store, indexing) is False
    assert len(indexing) == 0
    assert store.db.find(b"new").indexed == 0
    store.audit()
