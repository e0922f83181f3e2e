"""Hot keys: never undercounted, found under a skewed load, halved, and right on average when sampled."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compat.profile import examples

MakeHotKeys = Callable[[int], Any]


@pytest.fixture
def make_hot_keys(make_stats: Callable[..., Any]) -> MakeHotKeys:
    """make_hot_keys(top_max)"""
    return lambda top_max: make_stats(0, top_max).hot_keys


_keys = st.integers(0, 300).map(lambda number: b"key:%d" % number) | st.sampled_from([b"", b"\0", b"\0\0"])


@given(accesses=st.lists(st.tuples(_keys, st.integers(1, 20)), max_size=400), top_max=st.integers(1, 16))
@examples(150)
def test_an_estimate_is_never_below_what_was_recorded(
    make_hot_keys: MakeHotKeys, accesses: list[tuple[bytes, int]], top_max: int
) -> None:
    hot_keys, exact = make_hot_keys(top_max), Counter[bytes]()
    for key, weight in accesses:
        hot_keys.record(key, weight)
        exact[key] += weight
    assert all(hot_keys.estimate(key) >= count for key, count in exact.items())
    assert hot_keys.recorded == exact.total()
    top = hot_keys.top(top_max)
    assert len(top) == min(top_max, len(exact))
    assert all(count >= exact[key] or key in exact for key, count in top)
    assert top == sorted(top, key=lambda item: (-item[1], item[0]))


def test_the_hottest_keys_of_a_zipf_load_are_on_top(make_hot_keys: MakeHotKeys) -> None:
    source = random.Random(1)
    keys = [b"key:%d" % number for number in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(keys))]
    hot_keys, exact = make_hot_keys(64), Counter[bytes]()
    for key in source.choices(keys, weights, k=200_000):
        hot_keys.record(key, 1)
        exact[key] += 1
    found = [key for key, _ in hot_keys.top(64)]
    assert found[:5] == keys[:5]
    assert set(keys[:20]) <= set(found), "keys with a hundredth of all accesses are missing"
    # The sketch's error: e / width of all accesses, with a probability of 1 - e ** -depth.
    error = 2.72 / 4096 * 200_000
    assert all(hot_keys.estimate(key) - exact[key] <= error for key in keys[:1000])


def test_a_key_that_gets_hot_late_is_found(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys(8)
    for number in range(5_000):
        hot_keys.record(b"cold:%d" % (number % 500), 1)
    for _ in range(200):
        hot_keys.record(b"late", 1)
    assert hot_keys.top(1)[0][0] == b"late"


def test_decay_halves_every_count(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys(8)
    for number in range(1, 9):
        hot_keys.record(b"k%d" % number, 100 * number)
    before = dict(hot_keys.top(8))
    recorded = hot_keys.recorded
    steps = sum(1 for _ in hot_keys.decay())
    assert steps > 1, "the loop must get its turn in between"
    assert dict(hot_keys.top(8)) == {key: count // 2 for key, count in before.items()}
    assert all(hot_keys.estimate(key) == count // 2 for key, count in before.items())
    assert hot_keys.recorded == recorded // 2


def test_a_rate_settles_between_one_and_two_minutes_of_it(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys(8)
    for _ in range(20):
        hot_keys.record(b"steady", 6_000)  # 100 per second
        assert 6_000 <= hot_keys.estimate(b"steady") <= 12_000
        for _ in hot_keys.decay():
            pass


def test_keys_that_are_no_longer_used_leave_the_list(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys(8)
    hot_keys.record(b"once", 3)
    for _ in range(4):
        for _ in hot_keys.decay():
            pass
    assert hot_keys.top(8) == []


def test_a_reset_forgets_every_access(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys(2)
    for number in range(1, 5):
        hot_keys.record(b"k%d" % number, number)
    hot_keys.reset()
    assert hot_keys.top_max == 2
    assert hot_keys.recorded == 0
    assert hot_keys.top(2) == []
    assert hot_keys.estimate(b"k4") == 0
    hot_keys.record(b"k1", 1)
    assert hot_keys.top(2) == [(b"k1", 1)]


def test_sampled_weights_are_right_on_average(make_hot_keys: MakeHotKeys) -> None:
    """One access in 16 on average is recorded, with a weight of 16, as call() does it."""
    source = random.Random(3)
    ratio, accesses = 16, 200_000
    hot_keys, exact = make_hot_keys(16), Counter[bytes]()
    keys = [b"hot"] * 5 + [b"warm"] * 2 + [b"cold:%d" % number for number in range(3)]
    left = 1
    for _ in range(accesses):
        key = source.choice(keys)
        exact[key] += 1
        left -= 1
        if left <= 0:
            left = 1 + int(source.random() * (2 * ratio - 1))
            hot_keys.record(key, ratio)
    for key in (b"hot", b"warm"):
        assert abs(hot_keys.estimate(key) / exact[key] - 1) < 0.05, key
    assert abs(hot_keys.recorded / accesses - 1) < 0.05
