"""Hashes as values: against a model, and what a command cannot see."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kora.types.hash import Hash
from kora.types.limits import Limits

FIELDS = st.sampled_from([b"f%d" % number for number in range(12)] + [b"long" * 17])
VALUES = st.sampled_from([b"", b"v", b"1", b"v" * 64, b"v" * 65]) | st.binary(max_size=20)


class HashMachine(RuleBasedStateMachine):
    """A hash does what two dicts do, and its encoding and deadlines are right."""

    # Given by whoever runs it.
    make: Callable[[type], Any]
    limits: Limits

    @initialize(entries=st.sampled_from([2, 8, 128]))
    def start(self, entries):
        self.limits.hash_max_listpack_entries = entries
        self.hash = self.make(Hash)
        self.values = {}
        self.deadlines = {}
        self.is_large = False

    @rule(field=FIELDS, value=VALUES)
    def set(self, field, value):
        assert self.hash.set(field, value) == (field not in self.values)
        self.values[field] = value
        self.deadlines.pop(field, None)
        self.is_large |= len(self.values) > self.limits.hash_max_listpack_entries or len(field) > 64 or len(value) > 64

    @rule(field=FIELDS)
    def delete(self, field):
        assert self.hash.delete(field) == (self.values.pop(field, None) is not None)
        self.deadlines.pop(field, None)

    @precondition(lambda self: self.values)
    @rule(data=st.data(), deadline_ms=st.integers(1, 50))
    def expire(self, data, deadline_ms):
        field = data.draw(st.sampled_from(sorted(self.values)))
        self.hash.expire(field, deadline_ms)
        self.deadlines[field] = deadline_ms

    @rule(field=FIELDS)
    def persist(self, field):
        assert self.hash.persist(field) == (self.deadlines.pop(field, None) is not None)

    @rule(now_ms=st.integers(0, 50))
    def end_due(self, now_ms):
        due = {field for field, deadline_ms in self.deadlines.items() if deadline_ms <= now_ms}
        assert sorted(self.hash.end_due(now_ms)) == sorted(due)
        for field in due:
            del self.values[field], self.deadlines[field]
        assert self.hash.next_deadline_ms == 0 or self.hash.next_deadline_ms > now_ms

    @rule()
    def go_on_with_a_copy(self):
        copy = self.hash.copy()
        assert copy.encoding == self.hash.encoding
        assert sorted(copy.flat()) == sorted(self.hash.flat())
        self.hash.set(b"only in the original", b"v")
        self.hash.shed(5)
        self.hash = copy

    @rule(count=st.integers(1, 5))
    def scan_all(self, count):
        cursor, flat = self.hash.scan(0, count)
        while cursor:
            cursor, more = self.hash.scan(cursor, count)
            flat += more
        assert sorted(zip(flat[::2], flat[1::2], strict=True)) == sorted(self.values.items())

    @invariant()
    def is_as_the_model(self):
        value = self.hash
        assert len(value) == len(self.values)
        assert value.flat() == [word for field in value.fields() for word in (field, value.get(field))]
        assert dict(zip(value.fields(), value.values(), strict=True)) == self.values
        assert {field: value.deadline(field) for field in self.values if value.deadline(field)} == self.deadlines
        assert (value.encoding == "hashtable") == self.is_large
        if not self.is_large:
            # Insertion order; what is overwritten keeps its place.
            assert value.fields() == list(self.values)
        if self.deadlines:
            assert 0 < value.next_deadline_ms <= min(self.deadlines.values())
        else:
            assert value.next_deadline_ms == 0
        if self.values:
            assert value.random() in self.values.items()


def test_a_hash_does_what_two_dicts_do(make_value, limits):
    shared = limits

    class Machine(HashMachine):
        make = staticmethod(make_value)
        limits = shared

    run_state_machine_as_test(Machine)


def filled(value, count, length=1):
    for number in range(count):
        value.set(b"f%d" % number, b"v" * length)
    return value


def test_a_hash_becomes_large_by_its_fields_or_by_their_length_and_stays_so(make_value, limits):
    value = filled(make_value(Hash), limits.hash_max_listpack_entries)
    assert value.encoding == "listpack"
    value.set(b"one more", b"v")
    assert value.encoding == "hashtable"
    for field in value.fields()[1:]:
        value.delete(field)
    assert (len(value), value.encoding) == (1, "hashtable")
    assert filled(make_value(Hash), 1, 64).encoding == "listpack"
    assert filled(make_value(Hash), 1, 65).encoding == "hashtable"


def test_limits_that_change_count_from_the_next_change_on(limits):
    value = filled(Hash(limits), 10)
    limits.hash_max_listpack_entries = 5
    assert value.encoding == "listpack"
    value.set(b"f1", b"w")
    assert value.encoding == "hashtable"


def test_a_small_hash_with_deadlines_has_an_encoding_of_its_own(make_value):
    value = filled(make_value(Hash), 3)
    value.expire(b"f1", 10)
    assert value.encoding == "listpackex"
    value.persist(b"f1")
    assert value.encoding == "listpackex"
    value.set(b"long", b"v" * 65)
    assert value.encoding == "hashtable"


def test_a_size_goes_back_to_where_it_was(limits):
    for count in (5, 600):
        value = filled(Hash(limits), count)
        size_bytes = value.size_bytes
        value.set(b"more", b"v" * 1000)
        value.expire(b"more", 10)
        assert value.size_bytes > size_bytes + 1000
        value.set(b"more", b"")
        value.delete(b"more")
        if count == 600:
            assert value.size_bytes == size_bytes
        assert value.shed(1000) == count
        assert value.size_bytes == Hash(limits).size_bytes
        assert len(value) == 0


def test_a_field_whose_deadline_is_set_again_and_again_takes_no_more_memory(limits):
    value = filled(Hash(limits), 2)
    for deadline_ms in range(10_000):
        value.expire(b"f0", 20_000 - deadline_ms)
    assert len(value._due) < 100
    assert value.end_due(10_000) == []
    assert value.end_due(10_001) == [b"f0"]


@given(data=st.data())
def test_a_scan_returns_what_is_there_all_the_time(make_value, limits, data):
    """Fields that come and go while it runs hide none of those that stay."""
    limits.hash_max_listpack_entries = 0
    value = filled(make_value(Hash), 40)
    stay = set(value.fields()[::2])
    seen = set()
    cursor = -1
    while cursor:
        cursor, flat = value.scan(max(cursor, 0), data.draw(st.integers(1, 8)))
        seen.update(flat[::2])
        for number in data.draw(st.lists(st.integers(0, 60), max_size=6)):
            field = b"f%d" % number
            if field not in stay and not value.delete(field):
                value.set(field, b"new")
    assert stay <= seen


@pytest.mark.parametrize("count", [10, 200])
def test_random_picks_are_about_even(make_value, count):
    value = filled(make_value(Hash), count)
    value.delete(b"f3")
    picks = Counter(value.random()[0] for _ in range(count * 100))
    assert len(picks) == count - 1
    assert max(picks.values()) < 250
    assert min(picks.values()) > 30


def test_shedding_takes_any_fields_and_says_how_many(make_value):
    value = filled(make_value(Hash), 600)
    value.expire(b"f599", 5)
    assert value.effort >= 600
    assert value.shed(100) == 100
    assert len(value) == 500
    assert value.shed(1000) == 500
    assert value.shed(1) == 0
