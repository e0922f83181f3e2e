"""Numbers: read and written as redis-server does."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kora.errors import CommandError, NotAFloat, NotAnInteger
from kora.types.number import (
    INT64_MAX,
    INT64_MIN,
    format_long_double,
    is_finite,
    is_integer,
    parse_integer,
    parse_long_double,
    round_to_long_double,
)
from tests.compat.peers import RedisServer, requests
from tests.compat.profile import examples
from tests.compat.words import FLOATS, INTEGERS
from tests.resp_reader import read_replies

pytestmark = pytest.mark.once

_digits = st.text("0123456789", max_size=25)
_decimals = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "-", "+", " "]),
    _digits,
    st.sampled_from(["", "."]),
    _digits,
    st.sampled_from(["", "", "", "e5", "E-7", "e+20", "e-20", "e4931", "e-4940", "e99999999999", "e", "e+", "x"]),
).map(str.encode)
_hexadecimals = st.builds(
    "{}0x{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.text("0123456789abcDEF", max_size=20),
    st.sampled_from(["", "."]),
    st.text("0123456789abcDEF", max_size=20),
    st.sampled_from(["", "p3", "P-70", "p", "p16400", "p-16460", "p9999999"]),
).map(str.encode)
_floats = st.floats(allow_nan=True, allow_infinity=True).map(lambda value: repr(value).encode())
_sized = st.sampled_from(
    [b"0" * 5118 + b"1", b"0" * 5119 + b"1", b"1" * 4900, b"1" * 5000, b"0." + b"0" * 4900 + b"1",
    b"0." + b"0" * 5000 + b"1",
     b"1" + b"0" * 5000 + b"e-5000", b"0e99999999999999999999", b"-0", b"1e4932", b"-1.18973149535723176502e4932",
     b"1.2e4932"]
)  # fmt: skip
_numbers = st.one_of(_decimals, _decimals, _hexadecimals, _floats, _sized, st.sampled_from((*FLOATS, *INTEGERS)))


def _incrbyfloat(value: bytes, increment: bytes) -> bytes | str:
    """As the command does it: the result, or the error's text."""
    try:
        numbers = parse_long_double(value), parse_long_double(increment)
    except NotAFloat as error:
        return error.message
    if numbers[0] is None or numbers[1] is None:
        return "ERR increment would produce NaN or Infinity"
    total = round_to_long_double(numbers[0] + numbers[1])
    return format_long_double(total) if is_finite(total) else "ERR increment would produce NaN or Infinity"


@given(value=_numbers, increment=_numbers)
@examples(1500)
@example(value=b"0.1", increment=b"0.2")
@example(value=b"0", increment=b"-1e-30")
@example(value=b"1e4932", increment=b"1e4932")
@example(value=b"0", increment=b"1e-4950")
@example(value=b"0", increment=b"1e-4951")
@example(value=b"5.0e3", increment=b"200")
@example(value=b"0", increment=b"0x1.8p3")
@example(value=b"17179869184.00000000000000001", increment=b"0")
def test_incrbyfloat_adds_as_redis_does(redis: RedisServer, value: bytes, increment: bytes) -> None:
    *_, expected = read_replies(
        redis.control.exchange(requests([("SET", "k", value), ("INCRBYFLOAT", "k", increment)]))[0]
    )
    found = _incrbyfloat(value, increment)
    assert found == (expected.message if isinstance(expected, CommandError) else expected)


@given(
    text=_decimals
    | st.integers(-(2**65), 2**65).map(lambda number: b"%d" % number)
    | st.sampled_from(INTEGERS)
    | st.binary(max_size=4)
)
@examples(800)
def test_an_integer_is_what_incrby_takes(redis: RedisServer, text: bytes) -> None:
    """INCRBY reads its argument and the value in the same way; OBJECT ENCODING tells what is_integer() means."""
    commands = [
        ("DEL", "k"),
        ("INCRBY", "k", text),
        ("SET", "k", text),
        ("INCRBY", "k", "0"),
        ("SET", "k", text),
        ("OBJECT", "ENCODING", "k"),
    ]
    _, by, _, increased, _, encoding = read_replies(redis.control.exchange(requests(commands))[0])
    if isinstance(by, CommandError):
        assert isinstance(increased, CommandError)
        with pytest.raises(NotAnInteger) as raised:
            parse_integer(text)
        assert raised.value.message == by.message == increased.message
    else:
        assert parse_integer(text) == by == increased
    assert is_integer(text) == (encoding == b"int")


@pytest.mark.parametrize("number", [0, 1, -1, INT64_MAX, INT64_MIN])
def test_limits_are_integers(number: int) -> None:
    assert parse_integer(b"%d" % number) == number
    assert is_integer(b"%d" % number)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"+1",
        b"01",
        b"-0",
        b" 1",
        b"1 ",
        b"1_0",
        b"%d" % (INT64_MAX + 1),
        b"%d" % (INT64_MIN - 1),
        b"\xd9\xa1",
        b"1" * 10_000,
    ],
)
def test_what_only_python_takes_for_an_integer_is_none(text: bytes) -> None:
    assert not is_integer(text)
    with pytest.raises(NotAnInteger):
        parse_integer(text)


@pytest.mark.parametrize("text", [b"1e" + b"9" * 5000, b"1e-" + b"9" * 5000, b"0x1p" + b"9" * 5000, b"9" * 6000])
def test_a_hostile_exponent_is_refused_at_once(text: bytes) -> None:
    with pytest.raises(NotAFloat):
        parse_long_double(text)
