"""The sorted set against a model: a dict whose items are sorted anew each time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types.limits import Limits
from kora.types.sorted_set import SortedSet

_members = st.sampled_from([b"a", b"b", b"c", b"", b"\x00", b"\xff", b"long" * 20]) | st.binary(max_size=3)
_scores = st.sampled_from([0.0, 1.0, 2.0, -1.0, math.inf, -math.inf]) | st.floats(allow_nan=False)
_ranks = st.integers(0, 12)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _members, _scores),
        st.tuples(st.just("add"), _members, _scores),
        st.tuples(st.just("remove"), _members),
        st.tuples(st.just("remove_slice"), _ranks, _ranks),
        st.tuples(st.just("shed"), st.integers(0, 3)),
        st.tuples(st.just("copy")),
    ),
    max_size=40,
)


def in_order(model):
    return sorted(model.items(), key=lambda pair: (pair[1], pair[0]))


def check(value, model):
    order = in_order(model)
    assert len(value) == len(model)
    assert value.slice(0, len(order)) == order
    for rank, (member, score) in enumerate(order):
        assert value.rank(member) == rank
        assert value.score(member) == score
        for inclusive in (False, True):
            below = sum(other <= score if inclusive else other < score for other in model.values())
            assert value.scores_below(score, inclusive) == below
    assert value.slice(1, 3) == order[1:3]


@pytest.mark.parametrize("entries_max", [0, 4, 128])
@given(steps=_steps)
def test_what_a_model_does(make_value, limits, entries_max, steps):
    limits.zset_max_listpack_entries = entries_max
    value = make_value(SortedSet)
    model = {}
    empty_bytes = value.size_bytes
    for name, *words in steps:
        if name == "add":
            member, score = words
            assert value.add(member, score) == (member not in model)
            model[member] = score
        elif name == "remove":
            assert value.remove(words[0]) == (model.pop(words[0], None) is not None)
        elif name == "remove_slice":
            start, stop = sorted(words)
            doomed = in_order(model)[start:stop]
            assert value.remove_slice(start, stop) == len(doomed)
            for member, _ in doomed:
                del model[member]
        elif name == "shed":
            before = value.slice(0, len(value))
            count = value.shed(words[0])
            assert count == len(before) - len(value)
            model = dict(value.slice(0, len(value)))
            assert model.items() <= dict(before).items()
        else:
            twin = value.copy()
            value.add(b"only here", 1.0)
            value, twin = twin, value
        check(value, model)
        assert value.size_bytes > 0
        assert value.effort >= min(1, len(value))
    for member in list(model):
        value.remove(member)
    assert value.size_bytes <= empty_bytes + 4096


@given(steps=_steps, count=st.integers(1, 5))
def test_a_scan_returns_all_that_stays(make_value, limits, steps, count):
    limits.zset_max_listpack_entries = 3
    value = make_value(SortedSet)
    for number in range(30):
        value.add(b"stays %d" % number, number % 7)
    changes = iter(steps)
    found = set()
    cursor = 0
    for _ in range(1000):
        cursor, pairs = value.scan(cursor, count)
        found.update(member for member, _ in pairs)
        if not cursor:
            break
        step = next(changes, None)
        if step and step[0] == "add":
            value.add(step[1], step[2])
        elif step and step[0] == "remove":
            value.remove(step[1])
        value.add(b"stays 3", len(found))
    assert cursor == 0
    assert {b"stays %d" % number for number in range(30)} <= found


def test_encodings_change_one_way(make_value, limits):
    limits.zset_max_listpack_entries = 2
    value = make_value(SortedSet)
    for member in (b"a", b"b"):
        value.add(member, 1.0)
    value.add(b"a", 2.0)
    assert value.encoding == "listpack"
    value.add(b"c", 1.0)
    assert value.encoding == "skiplist"
    value.remove(b"c")
    assert value.encoding == "skiplist" == value.copy().encoding


def test_a_long_member_makes_a_large_set(make_value):
    value = make_value(SortedSet)
    value.add(b"x" * 64, 1.0)
    assert value.encoding == "listpack"
    value.add(b"x" * 65, 1.0)
    assert value.encoding == "skiplist"


def test_a_small_set_has_no_negative_zero_and_a_large_one_does(make_value, limits):
    small = make_value(SortedSet)
    small.add(b"a", -0.0)
    assert math.copysign(1, small.score(b"a")) == 1
    limits.zset_max_listpack_entries = 0
    large = make_value(SortedSet)
    large.add(b"a", -0.0)
    assert math.copysign(1, large.score(b"a")) == -1
    large.add(b"a", 0.0)
    assert math.copysign(1, large.score(b"a")) == -1


def test_members_below_where_all_scores_are_equal(make_value):
    value = make_value(SortedSet)
    assert value.members_below(b"a", True) == 0
    for member in (b"b", b"d", b"a", b"c"):
        value.add(member, 0.0)
    assert value.members_below(b"b", False) == 1
    assert value.members_below(b"b", True) == 2
    assert value.members_below(b"bb", True) == 2
    assert value.members_below(b"", True) == 0
    assert value.members_below(b"z", False) == 4


def test_random_gives_each_member_its_chance(make_value):
    value = make_value(SortedSet)
    for number in range(10):
        value.add(b"%d" % number, float(number))
    found = {value.random() for _ in range(500)}
    assert found == {(b"%d" % number, float(number)) for number in range(10)}


def test_ranks_of_a_hundred_thousand_members():
    value = SortedSet(Limits())
    for number in range(100_000):
        value.add(b"%d" % (number * 7919 % 100_003), float(number * 7919 % 100_003))
    assert value.rank(b"7919") == value.scores_below(7919.0, False)
    [(member, _)] = value.slice(50_000, 50_001)
    assert value.rank(member) == 50_000
    assert value.remove_slice(10, 99_990) == 99_980
    assert len(value) == 20
