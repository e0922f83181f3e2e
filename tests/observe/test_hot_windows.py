"""Hot keys over time: what is kept of 15 minutes, how exact it is, and that it stays small."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kora.observe.hot_windows import NAMES_MAX, RECENT_MAX, HotKey, HotWindows
from kora.observe.hotkeys import KEYS_MAX
from tests.observe.test_hotkeys import record

UNIX_S = 1_700_000_000
MakeHotKeys = Callable[[], Any]


class Time:
    """Windows over a list, and the time that passes."""

    def __init__(self, hot_keys: Any) -> None:
        self.hot_keys = hot_keys
        self.now_ns, self.wall_ms = 5_000_000_000, UNIX_S * 1000
        self.windows = HotWindows(hot_keys, self.now_ns, self.wall_ms)

    def pass_ms(self, elapsed_ms: int) -> None:
        self.now_ns += elapsed_ms * 1_000_000
        self.wall_ms += elapsed_ms
        if self.windows.is_due(self.now_ns):
            self.windows.end(self.now_ns, self.wall_ms)

    def last(self, seconds: int, metric: bytes = b"ACCESSES") -> list[HotKey]:
        return self.windows.last(seconds, metric, self.now_ns).keys

    def at(self, unix_s: int, metric: bytes = b"ACCESSES") -> list[HotKey]:
        return self.windows.at(unix_s, metric, self.now_ns).keys


@pytest.fixture
def time(make_hot_keys: MakeHotKeys) -> Time:
    return Time(make_hot_keys())


def test_a_key_is_shown_at_once_and_found_long_after_it_went_cold(time: Time) -> None:
    source = random.Random(5)
    for second in range(700):
        for number in range(60):
            record(time.hot_keys, b"other:%d" % source.randrange(10**9), number % 7 + 1)
        if second == 50:
            record(time.hot_keys, b"hot", 80)
            assert time.last(1)[0].name == b"hot"
        time.pass_ms(1000)
    assert time.at(UNIX_S + 50)[0].name == b"hot"
    assert time.last(700)[0].name == b"hot"
    assert b"hot" not in [key.name for key in time.last(600)]
    assert time.at(UNIX_S + 49)[0].name != b"hot"
    assert time.at(UNIX_S - 5) == []


def test_what_is_older_than_fifteen_minutes_is_forgotten(time: Time) -> None:
    record(time.hot_keys, b"first")
    for _ in range(899):
        time.pass_ms(1000)
    assert [key.name for key in time.last(900)] == [b"first"]
    time.pass_ms(1500)
    assert time.last(900) == []
    record(time.hot_keys, b"second")
    for _ in range(2):
        time.pass_ms(2_000_000)
    assert time.last(900) == []


def test_sums_are_lower_bounds_and_errors_say_how_much_may_be_missing(time: Time) -> None:
    source = random.Random(2)
    keys = [b"key:%d" % number for number in range(5_000)]
    weights = [1 / (rank + 1) for rank in range(len(keys))]
    exact = Counter[bytes]()
    for _ in range(8):
        for key in source.choices(keys, weights, k=4_000):
            record(time.hot_keys, key)
            exact[key] += 1
        time.pass_ms(1000)
    found = time.last(60)
    assert [key.name for key in found[:10]] == [key for key, _ in exact.most_common(10)]
    for key in found:
        assert key.reads <= exact[key.name] <= key.reads + key.error, key
    assert len(time.hot_keys.rows()) == 0


def test_steady_keys_with_few_samples_are_not_lost_among_those_seen_once(time: Time) -> None:
    source = random.Random(4)
    exact = Counter[bytes]()
    for _ in range(40):
        for key in [b"steady:%d" % source.randrange(60) for _ in range(60)]:
            record(time.hot_keys, key)
            exact[key] += 1
        for _ in range(400):
            record(time.hot_keys, b"once:%d" % source.randrange(10**9))
        time.pass_ms(1000)
    found = {key.name: key.reads for key in time.last(60)[:60]}
    assert sum(found.get(key, 0) for key in exact) >= 0.9 * exact.total()


def test_each_metric_has_its_own_order(time: Time) -> None:
    record(time.hot_keys, b"read", 9)
    record(time.hot_keys, b"written", 8, is_write=True)
    record(time.hot_keys, b"slow", 1, cpu_ns=10**9)
    record(time.hot_keys, b"large", 1, net_bytes=10**9)
    for _ in range(2):
        for metric, name in ((b"READS", b"read"), (b"WRITES", b"written"), (b"CPU", b"slow"), (b"NET", b"large")):
            assert time.last(60, metric)[0].name == name
        assert b"read" not in [key.name for key in time.last(60, b"WRITES")]
        time.pass_ms(1000)


def test_the_client_with_most_accesses_is_named_over_all_windows(time: Time) -> None:
    for client, weight in ((3, 5), (4, 9), (3, 6)):
        record(time.hot_keys, b"k", weight, client=client)
        time.pass_ms(1000)
    [key] = time.last(60)
    assert (key.client, key.client_lead, key.reads) == (3, 11, 20)


def test_a_clock_that_is_set_changes_nothing_but_names_of_seconds(time: Time) -> None:
    for jump_ms in (0, 7_200_000, -14_400_000, 500):
        record(time.hot_keys, b"k", 10)
        time.pass_ms(1000)
        time.wall_ms += jump_ms
    [key] = time.last(60)
    assert key.reads == 40
    time.now_ns += 30 * 60 * 10**9
    time.pass_ms(0)
    assert time.last(900) == []


def test_many_distinct_keys_cost_little_memory_and_hide_no_hot_one(make_hot_keys: MakeHotKeys) -> None:
    time = Time(make_hot_keys())
    number = 0
    for second in range(130):
        for _ in range(KEYS_MAX + 200):
            number += 1
            record(time.hot_keys, b"%090d" % number)
        if second < 20:
            record(time.hot_keys, b"hot", 300)
        time.pass_ms(1000)
    # A window that is full takes 5 KB for its first minute, and 2 KB from then on.
    assert time.windows.size_bytes < 3_000_000
    assert time.last(900)[0].name == b"hot"
    assert time.last(900)[0].reads == 6_000
    assert time.at(UNIX_S + 3)[0].name == b"hot"
    assert len(time.last(900)) <= NAMES_MAX
    assert len(time.at(UNIX_S + 129)) == RECENT_MAX


def test_a_reset_forgets_everything_but_estimates(time: Time) -> None:
    record(time.hot_keys, b"k")
    time.pass_ms(1000)
    record(time.hot_keys, b"k")
    time.windows.reset(time.now_ns, time.wall_ms)
    assert time.last(900) == []
    assert time.hot_keys.estimate(b"k") == 2
