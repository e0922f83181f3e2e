"""Tallies: values are exact, sums of sums are the sums of values, and percentiles are within a bucket."""

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora import kernel
from kora.clock import ManualClock
from kora.types.tallies import Tallies
from kora.types.tally import (
    UNIT,
    VALUE_MAX,
    Tally,
    bucket_of,
    decode_buckets,
    encode_buckets,
    format_value,
    interval_start,
    interval_stop,
    parse_value,
    value_of,
)

UNITS = st.one_of(
    st.integers(-(10**27) + 1, 10**27 - 1),
    st.integers(-1000, 1000),
    st.integers(-1000, 1000).map(lambda whole: whole * UNIT),
)
MINUTE_MS = 60_000


@pytest.mark.once
@given(UNITS)
def test_a_value_is_read_as_it_was_printed(units):
    assert parse_value(format_value(units)) == units


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "value"),
    [(b"1", "1"), (b"+2.50", "2.5"), (b"-.5", "-0.5"), (b"5.", "5"), (b"1e3", "1000"), (b"25E-1", "2.5"),
     (b"0.0000000014", "0.000000001"), (b"1e-300", "0"), (b"0e9999", "0"), (b"0" * 40 + b"7", "7")],
)  # fmt: skip
def test_numbers_are_read_in_the_ways_that_people_write_them(text, value):
    assert format_value(parse_value(text)) == value.encode()


@pytest.mark.once
@pytest.mark.parametrize(
    "text", [b"", b".", b"-", b"e5", b"nan", b"inf", b"1e", b" 1", b"1 ", b"1_0", b"0x1", b"--1", b"1e18", b"9" * 30,
             b"1e9999", b"1" * 65, "\u0661".encode(), b"1\0", b"1,5"],
)  # fmt: skip
def test_what_is_no_number_or_too_large_is_refused(text):
    with pytest.raises(ValueError, match=r"number|large"):
        parse_value(text)


@pytest.mark.once
@given(UNITS)
def test_the_value_of_a_bucket_is_in_it_and_near_all_that_are(units):
    told = value_of(bucket_of(units))
    assert bucket_of(told) == bucket_of(units)
    assert abs(told - units) <= Fraction(abs(units), 64)


@pytest.mark.once
def test_small_whole_numbers_are_told_as_they_are():
    assert [value_of(bucket_of(whole * UNIT)) // UNIT for whole in range(65)] == list(range(65))


@pytest.mark.once
@given(st.dictionaries(st.integers(-8191, 8191), st.integers(1, 2**63)))
def test_a_histogram_comes_back_from_its_bytes(buckets):
    assert decode_buckets(encode_buckets(buckets)) == buckets


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x01", b"\x01\x00", b"\x02\x01\x00\x01", b"\xff" * 12, b"\xfe\xff\x01\x01"]
)
def test_bytes_that_are_no_histogram_are_refused(data):
    with pytest.raises(ValueError, match="histogram"):
        decode_buckets(data)
    for tallies in makers():
        with pytest.raises(ValueError, match="histogram"):
            tallies.merge((b"k", 0, 1, 1, 1, 1, 1, 0, data))
        assert len(tallies) == 0


@pytest.mark.once
@pytest.mark.parametrize("interval_ms", [1_000, 7_000, 10_000, 45_000, 60_000, 90_000, 3_600_000, 86_400_000])
def test_intervals_follow_each_other_without_a_gap_and_none_is_in_two_minutes(interval_ms):
    # The hour in which clocks are set back in Central Europe, and the end of a day, a month and a year.
    for moment_ms in (1_698_541_200_000, 1_704_067_200_000, 1_709_164_800_000):
        at_ms = interval_start(moment_ms - 200_000, interval_ms)
        while at_ms < moment_ms + 200_000:
            stop_ms = interval_stop(at_ms, interval_ms)
            assert interval_start(at_ms, interval_ms) == interval_start(stop_ms - 1, interval_ms) == at_ms
            assert interval_start(stop_ms, interval_ms) == stop_ms
            assert interval_ms > MINUTE_MS or at_ms // MINUTE_MS == (stop_ms - 1) // MINUTE_MS
            at_ms = stop_ms


def makers():
    made = kernel.load()
    yield Tallies() if made is None else made.Kernel(ManualClock()).make_tallies()


def test_tallies_are_the_same_however_values_come_to_them():
    """The reference, and the kernel where there is one: added one by one, as cells, as cells of cells."""
    choose = random.Random(5)
    keys = [b"key:%d" % number for number in range(40)] + [b"", b"\0", b"x" * 512]
    (compiled,) = makers()
    reference = Tallies()
    parts = [Tallies(), Tallies()]
    for at_ms in range(4_000):
        key = choose.choice(keys)
        units = choose.choice((UNIT, choose.randrange(-(10**12), 10**12), (VALUE_MAX - 1) * UNIT, -7, 0))
        for tallies in (compiled, reference, parts[at_ms & 1]):
            tallies.add(key, units, at_ms)
        if at_ms % 1_000 == 999:
            cells = [cell for part in parts for cell in part.take(10)]
            for tallies in (compiled, reference):
                # What comes from elsewhere, and what was taken and is put back.
                for cell in cells + tallies.take(20):
                    tallies.merge(cell)
            assert [tally_of(compiled, key) for key in keys] == [tally_of(reference, key) for key in keys]
    assert compiled.values == reference.values
    assert list(compiled) == list(reference)
    assert compiled.take(7) == reference.take(7)
    assert [key in compiled for key in keys] == [key in reference for key in keys]
    assert compiled.take(1_000) == reference.take(1_000)
    assert len(compiled) == len(reference) == 0
    assert compiled.get(b"key:1") is None


def tally_of(tallies, key):
    tally = tallies.get(key)
    return tally and [getattr(tally, name) for name in Tally.__slots__]
