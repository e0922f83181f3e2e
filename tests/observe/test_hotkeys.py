"""Hot keys as they are recorded: estimates that never undercount, and a list that says what it may have missed."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.observe.hotkeys import HEAVY_NS_BITS, KEYS_MAX, NAME_BYTES_MAX
from kora.store.slots import slot_of
from tests.compat.profile import examples

MakeHotKeys = Callable[[], Any]


def record(
    hot_keys: Any,
    key: bytes,
    weight: int = 1,
    *,
    database: int = 0,
    is_write: bool = False,
    client: int = 1,
    cpu_ns: int = 100,
    net_bytes: int = 50,
) -> None:
    hot_keys.record(key, slot_of(key), database, is_write, client, weight, cpu_ns, net_bytes)


_keys = st.integers(0, 300).map(lambda number: b"key:%d" % number) | st.sampled_from([b"", b"\0", b"\0\0"])


@given(accesses=st.lists(st.tuples(_keys, st.integers(1, 20), st.booleans()), max_size=400))
@examples(100)
def test_what_fits_into_the_list_is_counted_exactly_and_an_estimate_is_never_below(
    make_hot_keys: MakeHotKeys, accesses: list[tuple[bytes, int, bool]]
) -> None:
    hot_keys, reads, writes = make_hot_keys(), Counter[bytes](), Counter[bytes]()
    for key, weight, is_write in accesses:
        record(hot_keys, key, weight, is_write=is_write)
        (writes if is_write else reads)[key] += weight
    assert all(hot_keys.estimate(key) >= count for key, count in (reads + writes).items())
    assert hot_keys.recorded == reads.total() + writes.total()
    rows = {row.name: row for row in hot_keys.rows()}
    assert set(rows) == set(reads) | set(writes)
    for key, row in rows.items():
        count = reads[key] + writes[key]
        assert (row.reads, row.writes, row.error, row.cost) == (reads[key], writes[key], 0, count)
        assert (row.cpu_ns, row.net_bytes) == (100 * count, 50 * count)
        assert (row.key_bytes, row.slot) == (len(key), slot_of(key))


def test_a_full_list_says_what_it_may_have_missed(make_hot_keys: MakeHotKeys) -> None:
    source = random.Random(1)
    keys = [b"key:%d" % number for number in range(20_000)]
    weights = [1 / (rank + 1) for rank in range(len(keys))]
    hot_keys, exact = make_hot_keys(), Counter[bytes]()
    for key in source.choices(keys, weights, k=60_000):
        weight = source.choice((1, 1, 1, 5))
        record(hot_keys, key, weight, cpu_ns=source.choice((100, 1 << HEAVY_NS_BITS)))
        exact[key] += weight
    rows = {row.name: row for row in hot_keys.rows()}
    assert len(rows) == KEYS_MAX
    for key, row in rows.items():
        assert row.reads <= exact[key] <= row.reads + row.error <= row.cost, key
    least = min(row.cost for row in rows.values())
    assert all(count <= least for key, count in exact.items() if key not in rows)
    assert set(keys[:50]) <= set(rows), "keys with a five-hundredth of all accesses are missing"
    # The sketch's error: e / width of all accesses, with a probability of 1 - e ** -depth.
    error = 2.72 / 16384 * hot_keys.recorded
    assert all(exact[key] <= hot_keys.estimate(key) <= exact[key] + error for key in keys[:1000])


def test_a_key_that_gets_hot_late_is_found_among_distinct_ones(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    for number in range(10_000):
        record(hot_keys, b"cold:%d" % number)
        if number > 9_000 and number % 5 == 0:
            record(hot_keys, b"late")
    assert max(hot_keys.rows(), key=lambda row: row.reads).name == b"late"


def test_a_rare_access_that_takes_long_is_not_crowded_out(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    record(hot_keys, b"large", is_write=True, cpu_ns=50_000_000)
    for number in range(20_000):
        record(hot_keys, b"cold:%d" % number)
    top = max(hot_keys.rows(), key=lambda row: row.cpu_ns)
    assert (top.name, top.writes, top.error) == (b"large", 1, 0)


def test_the_client_with_most_accesses_is_named(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    for number in range(900):
        record(hot_keys, b"k", client=7 if number % 3 else number)
    [row] = hot_keys.rows()
    assert row.client == 7
    assert 0 < row.client_lead <= 600


def test_names_are_kept_in_part_and_told_apart_as_a_whole(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    long = b"x" * 100_000
    for key in (long + b"1", long + b"2", long + b"1"):
        record(hot_keys, key)
    record(hot_keys, b"same", database=0)
    record(hot_keys, b"same", database=3)
    found = sorted((row.name, row.key_bytes, row.database, row.reads) for row in hot_keys.rows())
    start = b"x" * NAME_BYTES_MAX
    assert found == [(b"same", 4, 0, 1), (b"same", 4, 3, 1), (start, 100_001, 0, 1), (start, 100_001, 0, 2)]
    assert hot_keys.estimate(b"same") == 2


def test_a_rate_settles_between_one_and_two_minutes_of_it(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    for _ in range(10):
        record(hot_keys, b"steady", 6_000)  # 100 per second
        assert 6_000 <= hot_keys.estimate(b"steady") <= 12_000
        assert sum(1 for _ in hot_keys.decay()) > 1, "the loop must get its turn in between"


def test_the_sketch_holds_at_its_largest_count(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    for _ in range(3):
        record(hot_keys, b"k", (1 << 31) + 5)
    assert hot_keys.estimate(b"k") == (1 << 32) - 1
    assert hot_keys.rows()[0].reads == 3 * ((1 << 31) + 5)


def test_a_new_list_forgets_nothing_of_the_sketch_and_a_reset_does(make_hot_keys: MakeHotKeys) -> None:
    hot_keys = make_hot_keys()
    for number in range(2_000):
        record(hot_keys, b"k%d" % (number % 1_500))
    hot_keys.clear()
    assert (hot_keys.rows(), hot_keys.recorded, hot_keys.estimate(b"k4")) == ([], 0, 2)
    record(hot_keys, b"k4")
    assert [(row.name, row.reads, row.error) for row in hot_keys.rows()] == [(b"k4", 1, 0)]
    hot_keys.reset()
    assert (hot_keys.rows(), hot_keys.estimate(b"k4")) == ([], 0)


@pytest.mark.parametrize("ratio", [16])
def test_sampled_weights_are_right_on_average(make_hot_keys: MakeHotKeys, ratio: int) -> None:
    """One access in 16 on average is recorded, with a weight of 16, as call() does it."""
    source = random.Random(3)
    hot_keys, exact = make_hot_keys(), Counter[bytes]()
    keys = [b"hot"] * 5 + [b"warm"] * 2 + [b"cold:%d" % number for number in range(3)]
    left = 1
    for _ in range(200_000):
        key = source.choice(keys)
        exact[key] += 1
        left -= 1
        if left <= 0:
            left = 1 + int(source.random() * (2 * ratio - 1))
            record(hot_keys, key, ratio)
    rows = {row.name: row for row in hot_keys.rows()}
    for key in (b"hot", b"warm"):
        assert abs(rows[key].reads / exact[key] - 1) < 0.05, key
    assert abs(hot_keys.recorded / 200_000 - 1) < 0.05
