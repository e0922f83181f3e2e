"""What a shard counts, and that shards merged are the whole."""

from hypothesis import given
from hypothesis import strategies as st

from kora.observe import histogram
from kora.observe.histogram import HIGHEST_NS
from kora.observe.shard_stats import COUNTERS, GAUGES, ShardStats, merge
from tests.compat.profile import examples

COMMANDS = 5
durations = (
    st.integers(0, 20_000)
    | st.integers(0, 2 * HIGHEST_NS)
    | st.sampled_from((0, (1 << 14) - 1, 1 << 14, HIGHEST_NS, HIGHEST_NS + 1))
)


@given(elapsed_ns=durations)
@examples(500)
def test_a_call_is_counted_in_the_bucket_of_its_time(elapsed_ns: int) -> None:
    stats = ShardStats(COMMANDS).commands[3]
    stats.record(elapsed_ns)
    assert stats.calls == 1
    assert stats.elapsed_ns == elapsed_ns
    assert sum(stats.counts) == stats.counts[histogram.index_of(elapsed_ns)] == 1


# An event: a shard, and what happens there.
_calls = st.tuples(st.just("call"), st.integers(0, COMMANDS - 1), durations)
_errors = st.tuples(st.sampled_from(("failed", "rejected")), st.integers(0, COMMANDS - 1), st.just(1))
_counts = st.tuples(st.sampled_from((*GAUGES, *COUNTERS)), st.just(0), st.integers(0, 1 << 40))
events = st.lists(st.tuples(st.integers(0, 3), st.one_of(_calls, _errors, _counts)), max_size=40)


def _apply(stats: ShardStats, event: tuple[str, int, int]) -> None:
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


def _numbers(stats: ShardStats) -> object:
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


def test_a_reset_leaves_gauges_and_hot_keys() -> None:
    stats = ShardStats(COMMANDS)
    for name in (*GAUGES, *COUNTERS):
        setattr(stats, name, 5)
    stats.commands[0].record(100)
    stats.hot_keys.record(b"k", 3)
    stats.reset()
    assert all(getattr(stats, name) == 5 for name in GAUGES)
    assert all(getattr(stats, name) == 0 for name in COUNTERS)
    assert stats.commands[0].calls == 0
    assert not sum(stats.commands[0].counts)
    assert stats.hot_keys.estimate(b"k") == 3
