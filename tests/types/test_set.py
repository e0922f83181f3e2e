"""Sets of each implementation against Python's own, and the encodings against Redis' rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types.set import Set

integers = st.integers(-5, 30).map(lambda number: b"%d" % number)
members = integers | st.sampled_from((b"", b"01", b"+1", b"-0", b"a", b"x" * 10, b"y" * 11, b"9223372036854775808"))
steps = st.lists(
    st.tuples(st.sampled_from(("add", "add", "add", "remove", "pop", "has", "copy")), members), max_size=60
)


@pytest.fixture
def small_limits(limits):
    limits.set_max_intset_entries, limits.set_max_listpack_entries, limits.set_max_listpack_value = 8, 6, 10


@given(steps=steps)
def test_a_set_does_what_pythons_does(small_limits, make_value, steps):
    value, model = make_value(Set), set()
    for deed, member in steps:
        if deed == "add":
            assert value.add(member) == (member not in model)
            model.add(member)
        elif deed == "remove":
            assert value.remove(member) == (member in model)
            model.discard(member)
        elif deed == "pop" and model:
            popped = value.pop()
            assert popped in model
            model.remove(popped)
        elif deed == "copy":
            twin = value.copy()
            value.add(b"only in the original")
            value = twin
        assert value.has(member) == (member in model)
        assert len(value) == len(model)
        assert sorted(value.members()) == sorted(model)
        if model:
            assert value.random() in model
    assert value.shed(5) == min(5, len(model))


@given(steps=steps)
def test_an_emptied_set_takes_what_a_new_one_of_its_encoding_takes(small_limits, make_value, steps):
    value = make_value(Set)
    empty_bytes = value.size_bytes
    for deed, member in steps:
        getattr(value, "remove" if deed == "remove" else "add")(member)
        assert value.size_bytes >= empty_bytes
    grown_bytes = value.size_bytes
    value.shed(len(value))
    assert len(value) == 0
    assert value.size_bytes <= grown_bytes


def test_integers_are_kept_sorted_and_other_members_in_the_order_of_arrival(make_value):
    value = make_value(Set)
    for member in (b"3", b"-1", b"20", b"3"):
        value.add(member)
    assert (value.encoding, value.members()) == ("intset", [b"-1", b"3", b"20"])
    value.add(b"b")
    value.add(b"1")
    assert (value.encoding, value.members()) == ("listpack", [b"-1", b"3", b"20", b"b", b"1"])
    value.remove(b"b")
    assert (value.encoding, value.members()) == ("listpack", [b"-1", b"3", b"20", b"1"])


@pytest.mark.parametrize(
    ("first", "then", "encoding"),
    [
        ([b"%d" % number for number in range(512)], [b"5"], "intset"),
        ([b"%d" % number for number in range(512)], [b"512"], "hashtable"),
        ([b"%d" % number for number in range(127)], [b"a"], "listpack"),
        ([b"%d" % number for number in range(128)], [b"a"], "hashtable"),
        ([b"m%d" % number for number in range(128)], [b"m5"], "listpack"),
        ([b"m%d" % number for number in range(129)], [], "hashtable"),
        ([b"a"], [b"x" * 64], "listpack"),
        ([b"a"], [b"x" * 65], "hashtable"),
        ([b"1"], [b"x" * 65], "hashtable"),
        ([b"9223372036854775807", b"-9223372036854775808"], [], "intset"),
        ([b"9223372036854775808"], [], "listpack"),
    ],
)
def test_encodings_change_where_those_of_redis_do(make_value, first, then, encoding):
    value = make_value(Set)
    for member in [*first, *then]:
        value.add(member)
    assert value.encoding == encoding
    for member in value.members()[1:]:
        value.remove(member)
    assert value.encoding == encoding


@given(
    count=st.integers(1, 40),
    changes=st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=200),
)
def test_a_scan_returns_all_that_stays_whatever_is_changed_meanwhile(make_value, count, changes):
    value = make_value(Set)
    for number in range(300):
        value.add(b"m%d" % number)
    changes = iter(changes)
    stayed = set(value.members())
    seen = set()
    cursor, calls = 0, 0
    while True:
        cursor, found = value.scan(cursor, count)
        seen.update(found)
        calls += 1
        if cursor == 0:
            break
        for adds, number in (change for change, _ in zip(changes, range(5), strict=False)):
            if adds:
                value.add(b"m%d" % number)
            else:
                value.remove(b"m%d" % number)
                stayed.discard(b"m%d" % number)
    assert stayed <= seen
    assert calls < 1000


def test_a_scan_of_a_small_set_comes_in_one_piece(make_value):
    value = make_value(Set)
    for number in range(100):
        value.add(b"m%d" % number)
    assert value.scan(0, 1) == (0, value.members())
    assert value.scan(77, 1) == (0, value.members())


def test_a_cursor_from_nowhere_is_taken_for_the_end(make_value):
    value = make_value(Set)
    for number in range(1000):
        value.add(b"m%d" % number)
    cursor, found = value.scan((1 << 64) - 1, 10)
    assert 0 <= cursor < 1 << 64
    assert set(found) <= set(value.members())


def test_every_member_is_as_likely_to_be_picked(make_value):
    for size in (3, 200):
        value = make_value(Set)
        for number in range(size):
            value.add(b"m%d" % number)
        picked = [value.random() for _ in range(50 * size)]
        assert set(picked) == set(value.members())
        assert max(map(picked.count, set(picked))) < 50 * 4


def test_without_intsets_integers_make_a_list(make_value, limits):
    limits.set_max_intset_entries = 0
    value = make_value(Set)
    for number in range(130):
        value.add(b"%d" % number)
        assert value.encoding == ("listpack" if number < 128 else "hashtable")
