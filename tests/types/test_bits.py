"""Rows of bits against texts of 0 and 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types.bits import (
    IntegerKind,
    bytes_around,
    combine,
    count_bits,
    find_bit,
    fit,
    read_integer,
    write_integer,
)

pytestmark = pytest.mark.once

data = st.binary(max_size=40) | st.sampled_from((b"\0" * 20, b"\xff" * 20, b"\0" * 9 + b"\1", b"\xff" * 9 + b"\xfe"))
kinds = st.builds(IntegerKind, st.integers(1, 63), st.booleans()) | st.just(IntegerKind(64, True))


def text_of(value):
    return "".join(f"{byte:08b}" for byte in value)


@given(data=data, ends=st.tuples(st.integers(0, 320), st.integers(0, 320)))
def test_bits_are_counted_and_found_between_two_places(data, ends):
    start, stop = (min(end, 8 * len(data)) for end in ends)
    part = text_of(data)[start:stop]
    assert count_bits(data, start, stop) == part.count("1")
    for bit in (0, 1):
        place = part.find(str(bit))
        assert find_bit(bytearray(data), bit, start, stop) == (place + start if place >= 0 else -1)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_long_strings_are_worked_on_in_pieces(size):
    ones = b"\xff" * size
    assert count_bits(ones, 3, 8 * size - 2) == 8 * size - 5
    assert find_bit(ones[:-1] + b"\xfe", 0, 0, 8 * size) == 8 * size - 1
    assert find_bit(bytes(size), 1, 0, 8 * size) == -1
    assert combine(b"XOR", [ones, bytes(size - 1) + b"\x0f"]) == ones[:-1] + b"\xf0"
    assert combine(b"AND", [ones, b"\xf0"]) == b"\xf0" + bytes(size - 1)


@given(sources=st.lists(data, min_size=1, max_size=4), operation=st.sampled_from((b"AND", b"OR", b"XOR")))
def test_combining_goes_byte_by_byte_with_zeros_behind_the_end(sources, operation):
    length = max(map(len, sources))
    expected = bytearray(sources[0].ljust(length, b"\0"))
    for source in sources[1:]:
        for place, byte in enumerate(source.ljust(length, b"\0")):
            old = expected[place]
            expected[place] = {b"AND": old & byte, b"OR": old | byte, b"XOR": old ^ byte}[operation]
    assert combine(operation, sources) == expected
    assert combine(b"NOT", sources[:1]) == bytes(255 - byte for byte in sources[0])


@given(data=data, offset=st.integers(0, 400), kind=kinds, number=st.integers(-(1 << 63), (1 << 63) - 1))
def test_an_integer_is_read_as_it_was_written_and_nothing_else_changes(data, offset, kind, number):
    number = kind.wrap(number)
    first, size = bytes_around(offset, kind.bits)
    part = data[first : first + size]
    written = write_integer(part, offset, kind, number)
    assert len(written) == size
    assert read_integer(written, offset, kind) == number
    before, after = text_of(part.ljust(size, b"\0")), text_of(written)
    place = offset - 8 * first
    assert before[:place] == after[:place]
    assert before[place + kind.bits :] == after[place + kind.bits :]


@given(kind=kinds, number=st.integers(-(1 << 70), 1 << 70))
def test_a_number_that_does_not_fit_is_wrapped_cut_off_or_refused(kind, number):
    fits = kind.least <= number <= kind.most
    assert fit(number, kind, b"FAIL") == (number if fits else None)
    assert fit(number, kind, b"SAT") == max(kind.least, min(kind.most, number))
    wrapped = fit(number, kind, b"WRAP")
    assert wrapped is not None
    assert kind.least <= wrapped <= kind.most
    assert (wrapped - number) % (1 << kind.bits) == 0
