"""What a shard counts, and that shards merged are the whole.

Merging is the reference's alone: a kernel's shards are merged as a snapshot has copied them.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.observe import histogram
from kora.observe.histogram import HIGHEST_NS
from kora.observe.shard_stats import COUNTERS, GAUGES, ShardStats, merge
from tests.compat.profile import examples
from tests.store.stores import TESTED, Store

COMMANDS = 5
durations = (
    st.integers(0, 20_000)
    | st.integers(0, 2 * HIGHEST_NS)
    | st.sampled_from((0, (1 << 14) - 1, 1 << 14, HIGHEST_NS, HIGHEST_NS + 1))
)


@given(elapsed_ns=durations)
@examples(500)
def test_a_call_is_counted_in_the_bucket_of_its_time(make_stats: Callable[..., Any], elapsed_ns: int) -> None:
    stats = make_stats(COMMANDS).commands[3]
    assert not stats.is_used
    stats.record(elapsed_ns)
    assert stats.is_used
    assert stats.calls == 1
    assert stats.elapsed_ns == elapsed_ns
    assert sum(stats.counts) == stats.counts[histogram.index_of(elapsed_ns)] == 1


# An event: a shard, and what happens there.
_calls = st.tuples(st.just("call"), st.integers(0, COMMANDS - 1), durations)
_errors = st.tuples(st.sampled_from(("failed", "rejected")), st.integers(0, COMMANDS - 1), st.just(1))
_counts = st.tuples(st.sampled_from((*GAUGES, *COUNTERS)), st.just(0), st.integers(0, 1 << 40))
events = st.lists(st.tuples(st.integers(0, 3), st.one_of(_calls, _errors, _counts)), max_size=40)


def _apply(stats: Any, event: tuple[str, int, int]) -> None:
    name, slot, number = event
    if name == "call":
        stats.commands[slot].record(number)
    elif name == "failed":
        stats.commands[slot].record(number)
        stats.commands[slot].failed += 1
    elif name == "rejected":
        stats.commands[slot].rejected += 1
    else:
        setattr(stats, name, getattr(stats, name) + number)


def _numbers(stats: Any) -> tuple[object, object]:
    commands = [
        (
            one.calls,
            one.elapsed_ns,
            one.failed,
            one.rejected,
            {index: count for index, count in enumerate(one.counts) if count},
        )
        for one in stats.commands
    ]
    return {name: getattr(stats, name) for name in (*GAUGES, *COUNTERS)}, commands


@given(program=events)
@examples(200)
def test_shards_merged_are_the_whole(program: list[tuple[int, tuple[str, int, int]]]) -> None:
    """The same events into one block, and spread over several."""
    whole, shards = ShardStats(COMMANDS), [ShardStats(COMMANDS) for _ in range(4)]
    for shard, event in program:
        _apply(whole, event)
        _apply(shards[shard], event)
    before = [_numbers(shard) for shard in shards]
    assert _numbers(merge(shards)) == _numbers(whole)
    assert [_numbers(shard) for shard in shards] == before, "merging must not change what it merges"


@given(program=st.lists(st.one_of(_calls, _errors), max_size=40))
@examples(200)
def test_each_command_has_its_own_numbers(make_stats: Callable[..., Any], program: list[tuple[str, int, int]]) -> None:
    stats, expected = make_stats(COMMANDS), ShardStats(COMMANDS)
    for event in program:
        _apply(stats, event)
        _apply(expected, event)
    assert _numbers(stats) == _numbers(expected)


def test_an_error_alone_makes_a_command_worth_showing(make_stats: Callable[..., Any]) -> None:
    stats = make_stats(3)
    stats.commands[0].failed += 1
    stats.commands[1].rejected += 1
    assert [one.is_used for one in stats.commands] == [True, True, False]
    assert not any(sum(one.counts) for one in stats.commands)


@pytest.mark.parametrize("implementation", TESTED)
def test_a_reset_leaves_gauges(implementation: str) -> None:
    store = Store(implementation, commands=COMMANDS)
    stats = store.db.stats_of(b"{k}")
    for key, left_ms in ((b"{k}", 1000), (b"over{k}", -1)):
        store.db.set_until(key, b"v", store.clock.wall_ms() + left_ms)
        store.db.read(key, bytes)
    stats.bytes_in += 5
    stats.bytes_out += 5
    stats.evicted += 1
    stats.commands[0].record(100)
    stats.commands[1].failed += 1
    stats.commands[2].rejected += 1
    before = {name: getattr(stats, name) for name in (*GAUGES, *COUNTERS)}
    assert min(before.values()) > 0, before
    stats.reset()
    assert all(getattr(stats, name) == before[name] for name in GAUGES)
    assert all(getattr(stats, name) == 0 for name in COUNTERS)
    assert len(stats.commands) == COMMANDS
    assert _numbers(stats)[1] == _numbers(ShardStats(COMMANDS))[1]
