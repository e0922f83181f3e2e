"""The kernel's lists and sorted sets: they must behave like plain Python, and count their memory to the byte."""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kora.clock import ManualClock
from kora.types.limits import Limits
from kora.types.list import List
from kora.types.sorted_set import SortedSet
from tests.store.stores import make_compiled

pytestmark = pytest.mark.usefixtures("compiled")

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(kind: type, limits: Limits) -> Any:
    """An empty value of the kernel's own."""
    return make_compiled(ManualClock(), 1, limits)[1][0].make(kind)


LIST_LIMITS = st.sampled_from([Limits(list_max_listpack_size=size) for size in (-2, -1, -5, 128, 3, 1, 0)])
ITEMS = st.one_of(
    st.sampled_from([b"", b"a", b"0", b"-1", b"127", b"4096", b"-70000", b"007", b"x" * 127, b"y" * 5000, b"z" * 9000]),
    st.binary(max_size=200),
)


@SETTINGS
@given(
    limits=LIST_LIMITS,
    program=st.lists(st.tuples(st.sampled_from("llrriiiopsdkRc"), ITEMS, st.integers(0)), max_size=80),
)
def test_a_list_is_a_list(limits: Limits, program: list[tuple[str, bytes, int]]) -> None:
    value, model = make(List, limits), list[bytes]()
    for deed, item, number in program:
        place = number % (len(model) + 1)
        if deed == "l":
            value.push_left(item)
            model.insert(0, item)
        elif deed == "r":
            value.push_right(item)
            model.append(item)
        elif deed == "i":
            value.insert(place, item)
            model.insert(place, item)
        elif deed == "o" and model:
            assert value.pop_left() == model.pop(0)
        elif deed == "p" and model:
            assert value.pop_right() == model.pop()
        elif deed == "s" and place < len(model):
            value.set(place, item)
            model[place] = item
        elif deed == "d" and place < len(model):
            value.delete(place)
            del model[place]
        elif deed == "k":
            value.keep(place // 8, len(model) - place // 8)
            model = model[place // 8 : max(place // 8, len(model) - place // 8)]
        elif deed == "R" and model:
            item = model[place % len(model)]
            count = number % 5 - 2
            removed = remove(model, item, count)
            assert value.remove(item, count) == removed
        elif deed == "c":
            value = value.copy()
        value.audit()
        assert len(value) == len(model)
        assert value.slice(0, len(model)) == model
        if place < len(model):
            assert value.get(place) == model[place]
            assert value.find(model[place], 1, 0, 0) == [at for at, found in enumerate(model) if found == model[place]]
            assert value.find(model[place], -1, 1, 0)[0] >= place


def remove(model: list[bytes], item: bytes, count: int) -> int:
    places = [at for at, found in enumerate(model) if found == item]
    chosen = places if count == 0 else places[:count] if count > 0 else places[count:]
    for place in reversed(chosen):
        del model[place]
    return len(chosen)


def test_a_list_with_many_nodes_is_changed_at_random_places() -> None:
    chance = random.Random(1)
    value, model = make(List, Limits(list_max_listpack_size=2)), list[bytes]()
    for step in range(6000):
        place = chance.randrange(len(model) + 1)
        if chance.random() < (0.9 if step < 3000 else 0.2) or not model:
            value.insert(place, b"%d" % step)
            model.insert(place, b"%d" % step)
        else:
            value.delete(place % len(model))
            del model[place % len(model)]
        if step % 500 == 0:
            value.audit()
            assert value.slice(0, len(model)) == model
    while len(value):
        value.shed(100)
        value.audit()


def test_find_of_a_list_counts_ranks_and_looks_no_further_than_told() -> None:
    value = make(List, Limits())
    for item in b"a b a c a".split():
        value.push_right(item)
    assert value.find(b"a", 1, 0, 0) == [0, 2, 4]
    assert value.find(b"a", 2, 0, 0) == [2, 4]
    assert value.find(b"a", -1, 2, 0) == [4, 2]
    assert value.find(b"a", -3, 0, 0) == [0]
    assert value.find(b"a", 1, 0, 4) == [0, 2]
    assert value.find(b"a", -1, 0, 2) == [4]
    assert value.find(b"a", 4, 0, 0) == []
    assert value.find(b"a", -(2**63), 0, 0) == []
    assert value.find(b"x", 1, 0, 0) == []


def test_a_list_is_a_quicklist_as_long_as_a_listpack_would_be_too_large() -> None:
    value = make(List, Limits(list_max_listpack_size=4))
    for number in range(4):
        value.push_left(b"%d" % number)
    assert value.encoding == "listpack"
    value.push_left(b"4")
    assert value.encoding == "quicklist"
    value.pop_left()
    value.pop_left()
    assert value.encoding == "quicklist"
    value.pop_left()
    assert value.encoding == "listpack"


def test_a_huge_item_stands_alone() -> None:
    value = make(List, Limits())
    for number in range(100):
        value.push_right(b"%d" % number)
    value.insert(50, b"x" * 1_000_000)
    assert value.size_bytes < 1_010_000
    assert [value.get(place)[:3] for place in (49, 50, 51)] == [b"49", b"xxx", b"50"]
    value.audit()
    value.delete(50)
    value.audit()
    assert value.size_bytes < 10_000


def test_the_middle_of_a_million_items_is_not_far() -> None:
    value = make(List, Limits())
    for number in range(1_000_000):
        value.push_right(b"item %d" % number)
    started_s = perf_counter()
    for number in range(450_000, 550_000, 100):
        assert value.get(number) == b"item %d" % number
    assert perf_counter() - started_s < 0.1, "100 us for each, where 1 us is normal"
    assert value.size_bytes < 1_000_000 * 15
    value.audit()


# --- Sorted sets ---

SCORES = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 1.0, 127.0, 128.0, -129.0, 32768.0, 2.0**31, -(2.0**31), 1e300, 5e-324, math.inf, -math.inf]
    ),
    st.floats(allow_nan=False),
)
MEMBERS = st.one_of(
    st.sampled_from([b"", b"a", b"a\0", b"b", b"\xff", b"x" * 65, b"y" * 100_000] + [b"m%d" % at for at in range(30)]),
    st.binary(max_size=100),
)
SORTED_LIMITS = st.sampled_from(
    [
        Limits(),
        Limits(zset_max_listpack_entries=5),
        Limits(zset_max_listpack_entries=0),
        Limits(zset_max_listpack_value=1),
    ]
)


@SETTINGS
@given(limits=SORTED_LIMITS, program=st.lists(st.tuples(st.sampled_from("aaaardxc"), MEMBERS, SCORES), max_size=60))
def test_a_sorted_set_is_a_sorted_dict(limits: Limits, program: list[tuple[str, bytes, float]]) -> None:
    value, model = make(SortedSet, limits), dict[bytes, float]()
    for deed, member, score in program:
        if deed == "a":
            assert value.add(member, score) is (member not in model)
            model[member] = score
        elif deed == "r":
            assert value.remove(member) is (model.pop(member, None) is not None)
        elif deed == "d":
            start = len(model) // 3
            assert value.remove_slice(start, start + 2) == len(in_order(model)[start : start + 2])
            for _, doomed in in_order(model)[start : start + 2]:
                del model[doomed]
        elif deed == "c":
            value = value.copy()
        elif deed == "x" and model:
            found, its_score = value.random()
            assert model[found] == its_score
        value.audit()
        order = in_order(model)
        assert value.slice(0, len(model)) == [(member, score) for score, member in order]
        assert value.score(member) == model.get(member)
        assert value.rank(member) == (order.index((model[member], member)) if member in model else None)
        scores = [score for score, _ in order]
        assert value.scores_below(score, False) == bisect_left(scores, score)
        assert value.scores_below(score, True) == bisect_right(scores, score)
        assert sorted(all_of(value, 3)) == sorted(model.items())


def in_order(model: dict[bytes, float]) -> list[tuple[float, bytes]]:
    return sorted((score, member) for member, score in model.items())


def all_of(value: Any, count: int) -> list[Any]:
    """What a scan in steps gives."""
    cursor, found = value.scan(0, count)
    while cursor:
        cursor, more = value.scan(cursor, count)
        found += more
    return list(found)


def upwards(chance: random.Random, step: int) -> float:
    return step


def downwards(chance: random.Random, step: int) -> float:
    return -step


def anyhow(chance: random.Random, step: int) -> float:
    return chance.random()


def alike(chance: random.Random, step: int) -> float:
    return chance.randrange(3)


@pytest.mark.parametrize("make_score", [upwards, downwards, anyhow, alike])
def test_a_large_sorted_set_grows_and_shrinks(make_score: Callable[[random.Random, int], float]) -> None:
    chance = random.Random(1)
    value, model = make(SortedSet, Limits()), dict[bytes, float]()
    for step in range(20_000):
        member = b"%d" % chance.randrange(8000)
        if chance.random() < (0.9 if step < 12_000 else 0.1):
            score = make_score(chance, step)
            value.add(member, score)
            model[member] = score
        elif chance.random() < 0.5 and model:
            doomed = value.slice(0, 1)[0][0]
            value.remove(doomed)
            del model[doomed]
        else:
            assert value.remove(member) is (model.pop(member, None) is not None)
        if step % 2000 == 0:
            value.audit()
            order = in_order(model)
            assert value.slice(0, len(order)) == [(member, score) for score, member in order]
            for _ in range(20):
                place = chance.randrange(len(order))
                assert value.rank(order[place][1]) == place
                assert value.slice(place, place + 1) == [order[place][::-1]]
    value.audit()
    while len(value):
        value.shed(500)
        value.audit()


def test_members_of_equal_scores_are_in_order_of_their_bytes() -> None:
    members = [b"%d" % number for number in range(2000)]
    value = make(SortedSet, Limits())
    for member in members:
        value.add(member, 0)
    members.sort()
    for probe in [b"", b"1", b"15", b"150x", b"9", b"\xff"]:
        assert value.members_below(probe, False) == bisect_left(members, probe)
        assert value.members_below(probe, True) == bisect_right(members, probe)


def test_members_that_stay_are_scanned_however_scores_change() -> None:
    chance = random.Random(1)
    value = make(SortedSet, Limits())
    for number in range(1000):
        value.add(b"stays %d" % number, number)
        value.add(b"goes %d" % number, number)
    cursor, found = value.scan(0, 10)
    while cursor:
        for _ in range(7):
            value.remove(b"goes %d" % chance.randrange(1000))
            value.add(b"comes %d" % chance.randrange(10_000), chance.random())
            value.add(b"stays %d" % chance.randrange(1000), chance.random())
        cursor, more = value.scan(cursor, 10)
        found += more
    assert {member for member, _ in found} >= {b"stays %d" % number for number in range(1000)}


def test_ranks_among_many_members_are_not_far() -> None:
    value = make(SortedSet, Limits())
    numbers = list(range(200_000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        value.add(b"member:%07d" % number, number)
    started_s = perf_counter()
    for number in numbers[:1000]:
        assert value.rank(b"member:%07d" % number) == number
    assert perf_counter() - started_s < 0.1, "100 us for each, where 2 us is normal"
    assert value.size_bytes < 200_000 * 110
    value.audit()


def test_nan_is_no_score() -> None:
    with pytest.raises(ValueError, match="number"):
        make(SortedSet, Limits()).add(b"a", math.nan)
