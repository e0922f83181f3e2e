"""Histograms are HdrHistogram's: same buckets, same percentiles, and counts that can be copied over."""

from array import array

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given
from hypothesis import strategies as st

from kora.observe import histogram
from kora.observe.histogram import BUCKETS, EDGES_NS, HIGHEST_NS, LOWEST_NS, SIGNIFICANT_DIGITS
from tests.compat.profile import examples

pytestmark = pytest.mark.once

values = st.one_of(
    st.integers(0, 1 << 16),
    st.integers(0, HIGHEST_NS),
    st.integers(0, 35).flatmap(
        lambda power: st.integers(-2, 2).map(lambda away: min(HIGHEST_NS, max(0, (1 << power) + away)))
    ),
)
PERCENTILES = (1.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0)


def hdr() -> HdrHistogram:
    return HdrHistogram(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)


def record(counts: "array[int]", value_ns: int) -> None:
    index = histogram.index_of(value_ns)
    if index >= len(counts):
        histogram.grow(counts, index)
    counts[index] += 1


@given(value_ns=values)
@examples(1000)
@example(value_ns=0)
@example(value_ns=255)
@example(value_ns=256)
@example(value_ns=HIGHEST_NS)
def test_a_value_has_the_bucket_that_hdrhistogram_gives_it(value_ns: int) -> None:
    reference = hdr()
    index = reference._counts_index_for(value_ns)
    assert histogram.index_of(value_ns) == index
    assert histogram.highest_of(index) == reference.get_highest_equivalent_value(value_ns)


def test_the_buckets_fit_into_hdrhistograms_counts() -> None:
    assert hdr().counts_len >= BUCKETS
    assert histogram.index_of(HIGHEST_NS) == BUCKETS - 1


def test_buckets_are_in_order_and_without_gaps() -> None:
    assert [histogram.index_of(histogram.highest_of(index)) for index in range(BUCKETS - 1)] == list(range(BUCKETS - 1))
    assert all(histogram.index_of(histogram.highest_of(index) + 1) == index + 1 for index in range(BUCKETS - 1))


def test_what_took_longer_than_the_highest_goes_into_the_last_bucket() -> None:
    assert histogram.index_of(10 * HIGHEST_NS) == BUCKETS - 1


@given(recorded=st.lists(values, max_size=60))
@examples(200)
def test_counts_copied_into_hdrhistogram_give_the_same_percentiles(recorded: list[int]) -> None:
    reference = hdr()
    counts = histogram.new_counts()
    for value_ns in recorded:
        assert reference.record_value(value_ns)
        record(counts, value_ns)
    copied = hdr()
    for index, count in enumerate(counts):
        if count:
            copied.counts[index] += count
            copied.total_count += count
    assert list(copied.counts) == list(reference.counts)
    assert histogram.percentiles(counts, PERCENTILES) == [
        copied.get_value_at_percentile(percent) if recorded else 0 for percent in PERCENTILES
    ]


@given(count=st.integers(1, 100_000), percent=st.floats(0.01, 100))
@examples(300)
def test_a_percentile_counts_as_many_values_as_hdrhistogram(count: int, percent: float) -> None:
    """Two buckets, so that a target that is off by one shows."""
    reference = hdr()
    target = reference.get_target_count_at_percentile(percent) if reference.total_count else 0
    reference.record_value(1, count)
    target = reference.get_target_count_at_percentile(percent)
    counts = array("Q", [0, target - 1, 1, count - target])
    assert histogram.percentiles(counts, [percent]) == [2]


@given(recorded=st.lists(values, max_size=60))
@examples(100)
def test_cumulative_counts_rise_and_end_with_all_up_to_ten_seconds(recorded: list[int]) -> None:
    counts = histogram.new_counts()
    for value_ns in recorded:
        record(counts, value_ns)
    sums = histogram.cumulative(counts)
    assert len(sums) == len(EDGES_NS)
    assert sums == sorted(sums)
    for edge_ns, below in zip(EDGES_NS, sums, strict=True):
        assert sum(value <= edge_ns for value in recorded) <= below
        assert below <= sum(value <= edge_ns * 1.01 for value in recorded)


@given(first=st.lists(values, max_size=40), second=st.lists(values, max_size=40))
@examples(100)
def test_adding_is_recording_both(first: list[int], second: list[int]) -> None:
    apart, together = (histogram.new_counts(), histogram.new_counts()), histogram.new_counts()
    for counts, recorded in zip(apart, (first, second), strict=True):
        for value_ns in recorded:
            record(counts, value_ns)
            record(together, value_ns)
    histogram.add(*apart)
    size = max(len(apart[0]), len(together))
    assert [*apart[0], *[0] * (size - len(apart[0]))] == [*together, *[0] * (size - len(together))]


def test_an_empty_histogram_has_percentiles_of_zero() -> None:
    assert histogram.percentiles(histogram.new_counts(), PERCENTILES) == [0] * len(PERCENTILES)


@pytest.mark.parametrize("start", [0, 128, 1024])
def test_growing_keeps_what_was_counted(start: int) -> None:
    counts = array("Q", [7]) * start
    histogram.grow(counts, BUCKETS - 1)
    assert len(counts) >= BUCKETS
    assert list(counts[:start]) == [7] * start
    assert not any(counts[start:])


def test_a_table_of_indexes_has_what_each_value_has() -> None:
    assert histogram.index_table(1 << 12) == tuple(map(histogram.index_of, range(1 << 12)))
