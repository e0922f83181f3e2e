"""HyperLogLog.  That its bytes are Redis' is shown in tests/compat; here, that they say what was added."""

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types.hyperloglog import (
    DENSE_BYTES,
    REGISTERS,
    CorruptHyperLogLog,
    HyperLogLog,
    NotHyperLogLog,
    count_registers,
    describe_runs,
    hash_of,
    larger_registers,
)

pytestmark = pytest.mark.once

places = st.integers(0, 200) | st.integers(0, REGISTERS - 1) | st.just(REGISTERS - 1)
settings = st.lists(st.tuples(places, st.integers(1, 4) | st.integers(1, 51)), max_size=80)


def make(pairs, sparse_max_bytes=3000):
    found = HyperLogLog(sparse_max_bytes=sparse_max_bytes)
    for index, value in pairs:
        found.raise_register(index, value)
    return found


@given(pairs=settings, limit=st.sampled_from((0, 30, 60, 3000)))
def test_registers_hold_the_largest_value_they_were_given(pairs, limit):
    found = HyperLogLog(sparse_max_bytes=limit)
    model = [0] * REGISTERS
    for index, value in pairs:
        assert found.raise_register(index, value) == (model[index] < value)
        model[index] = max(model[index], value)
    assert list(found.registers()) == model
    if found.is_sparse:
        assert len(found.data) <= max(limit, 18)
        assert HyperLogLog(found.data).make_dense()
    found.make_dense()
    assert len(found.data) == DENSE_BYTES
    assert list(found.registers()) == model


@given(first=settings, second=settings)
def test_merging_into_a_sparse_one_gives_what_setting_one_register_after_another_gives(first, second):
    merged, stepwise = make(first), make(first)
    registers = larger_registers(make(second).registers(), merged.registers())
    merged.merge(registers)
    for index, value in enumerate(registers):
        if value:
            stepwise.raise_register(index, value)
    assert merged.data == stepwise.data
    assert merged.registers() == registers


@given(first=settings, second=settings)
def test_larger_registers_are_the_larger_of_each_two(first, second):
    one, two = make(first).registers(), make(second).registers()
    assert larger_registers(one, two) == bytes(map(max, one, two))


@pytest.mark.parametrize("count", [0, 1, 10, 100, 1_000, 10_000, 100_000])
def test_counts_are_near_the_truth(count):
    drawn = random.Random(count)
    found = HyperLogLog()
    for _ in range(count):
        found.add(drawn.randbytes(9))
    found.forget_count()
    assert found.cached_count is None
    assert abs(found.count() - count) <= 0.03 * count
    assert found.cached_count == found.count()


@pytest.mark.parametrize("value", [50, 51, 63])
def test_registers_that_no_element_sets_are_counted_as_redis_counts_them(value):
    found = HyperLogLog()
    found.make_dense()
    found.merge(bytes([value]) * REGISTERS)
    found.forget_count()
    assert found.count() == count_registers(bytes([value]) * REGISTERS) == -(1 << 63)


@pytest.mark.parametrize(
    ("data", "hashed"),
    [(b"", 0xD8DFEA6585BC9732), (b"a", None), (b"12345678", None), (b"123456789", None)],
)
def test_the_hash_is_a_64_bit_number_of_the_bytes(data, hashed):
    assert 0 <= hash_of(data) < 1 << 64
    assert hash_of(data) == hash_of(bytes(data))
    assert hashed is None or hash_of(data) == hashed


def test_runs_are_described():
    assert describe_runs(HyperLogLog().data) == b"Z:16384"
    assert describe_runs(make([(0, 1), (1, 1), (5, 3)]).data) == b"v:1,2 z:3 v:3,1 Z:16378"


def test_a_run_of_values_has_four_registers_at_most():
    assert describe_runs(make([(index, 7) for index in range(6)]).data) == b"v:7,4 v:7,2 Z:16378"


@pytest.mark.parametrize(
    "data",
    [b"", b"HYLL", b"HYLX\1" + bytes(13), b"HYLL\2" + bytes(13), b"HYLL\0" + bytes(DENSE_BYTES)],
)
def test_other_strings_are_no_hyperloglogs(data):
    with pytest.raises(NotHyperLogLog):
        HyperLogLog(data)


@given(runs=st.binary(max_size=30), index=st.integers(0, REGISTERS - 1))
def test_runs_that_do_not_add_up_are_found_corrupt_and_nothing_worse(runs, index):
    found = HyperLogLog(b"HYLL\1" + bytes(11) + runs)
    for deed in (found.registers, found.make_dense, lambda: found.raise_register(index, 40)):
        if found.is_sparse:
            try:
                deed()
            except CorruptHyperLogLog:
                continue
    with suppress(CorruptHyperLogLog):
        HyperLogLog(b"HYLL\1" + bytes(11) + runs).raise_register(index, 3)


def test_runs_that_would_fill_the_memory_are_corrupt():
    with pytest.raises(CorruptHyperLogLog):
        HyperLogLog(b"HYLL\1" + bytes(11) + b"\x7f\xff" * 100_000).registers()
