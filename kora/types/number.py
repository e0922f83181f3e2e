"""Numbers as Redis reads and writes them: strict integers, floats, and the long doubles of INCRBYFLOAT."""

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from kora.errors import CommandError, NotAFloat, NotAnInteger

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
_ZERO: Final = ord("0")
_MINUS: Final = ord("-")

# Small integers, like Redis' shared objects: most counters are small, and looking up is cheaper than converting.
_SMALL: Final = tuple(b"%d" % value for value in range(10_000))
SMALL_VALUES: Final = {text: value for value, text in enumerate(_SMALL)}

_FLOAT = re.compile(
    rb"[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?"
    rb"|0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?|inf(?:inity)?)",
    re.IGNORECASE,
)
# Whether some digit of the mantissa is not 0.
_NOT_ZERO = re.compile(rb"[+-]?(?:0x[0.]*[1-9a-f]|[0.]*[1-9])", re.IGNORECASE)


def format_integer(value: int) -> bytes:
    return _SMALL[value] if 0 <= value < 10_000 else b"%d" % value


def is_integer(data: bytes) -> bool:
    """Whether these bytes are how Redis would print a 64-bit integer: no sign `+`, no leading zeros, no spaces."""
    if data.isdigit():
        digits = data
    elif data and data[0] == _MINUS and data[1:].isdigit():
        digits = data[1:]
    else:
        return False
    if digits[0] == _ZERO:
        return len(data) == 1
    return len(digits) <= 18 or (len(digits) == 19 and INT64_MIN <= int(data) <= INT64_MAX)


def parse_integer(data: bytes, error: type[CommandError] | CommandError = NotAnInteger) -> int:
    """A 64-bit integer, as strict as string2ll; raises `error` for anything else."""
    small = SMALL_VALUES.get(data)
    if small is not None:
        return small
    if data.isdigit() and len(data) <= 18 and (data[0] != _ZERO or len(data) == 1):
        return int(data)  # nearly all there are, in half the time
    if len(data) <= 20:
        try:
            value = int(data)
        except ValueError:
            raise error from None
        if INT64_MIN <= value <= INT64_MAX and b"%d" % value == data:
            return value
    raise error


def parse_float(data: bytes, error: type[CommandError] | CommandError = NotAFloat) -> float:
    """A double as strtod takes it, but for surrounding space, nan, and what is too large or too small to differ from 0.

    Raises `error` for anything else.
    """
    if data.isdigit() and len(data) <= 300:
        return float(data)
    if not _FLOAT.fullmatch(data):
        raise error
    value = strtod(data)
    if not value:
        if _NOT_ZERO.match(data):
            raise error
    elif math.isinf(value) and b"n" not in data.lower():
        raise error
    return value


def strtod(data: bytes) -> float:
    """The double nearest to a text that is one; inf or 0 where it is too large or too small."""
    text = data.decode()
    if "x" not in text.lower():
        return float(text)
    try:
        return float.fromhex(text)
    except OverflowError:
        return -math.inf if text.startswith("-") else math.inf


def parse_limit(data: bytes) -> float | None:
    """The end of a range of scores, as strtod takes it, but for nan; None for anything else.

    Redis looks at neither its length nor its errors: spaces may be before it, a NUL ends it, nothing at all is 0, and
    what is too large is infinite.
    """
    text, _, _ = data.partition(b"\0")
    if not text:
        return 0.0
    text = text.lstrip(b" \t\n\v\f\r")
    return strtod(text) if _FLOAT.fullmatch(text) else None


_LONG_DOUBLE_CHARS_MAX: Final = 5 * 1024 - 1  # MAX_LONG_DOUBLE_CHARS (util.h), less the NUL
_MANTISSA_BITS: Final = 64
_SHIFT_MIN: Final = -16445  # of the last bit of the smallest number
_LONG_DOUBLE_LIMIT: Final = Fraction(2) ** 16384

_HEXADECIMAL = re.compile(r"0x([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?\d+))?")


def parse_long_double(data: bytes) -> Fraction | None:
    """The value that an 80-bit long double holds for a text; None for an infinity.  Raises NotAFloat.

    string2ld (util.c): as strtold takes it, but for nan, and for what is too large, or too small to differ from 0.
    """
    if len(data) > _LONG_DOUBLE_CHARS_MAX or not _FLOAT.fullmatch(data):
        raise NotAFloat
    text = data.decode().lower()
    if "inf" in text:
        return None
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    value = _hexadecimal(text) if "x" in text else _decimal(text)
    rounded = round_to_long_double(value)
    if (value and not rounded) or not is_finite(rounded):
        raise NotAFloat
    return sign * rounded


def _decimal(text: str) -> Fraction:
    mantissa, _, exponent = text.partition("e")
    # Decimal, since int() refuses more than 4300 digits.
    number = Decimal(mantissa)
    if not number:
        return Fraction(0)
    # Far beyond what can be held, 10 ** of it would fill the memory.
    power = _exponent(exponent)
    if abs(number.adjusted() + power) > 5000:
        raise NotAFloat
    return Fraction(number) * Fraction(10) ** power


def _hexadecimal(text: str) -> Fraction:
    match = _HEXADECIMAL.fullmatch(text)
    assert match is not None, text
    whole, part, exponent = match.groups()
    number = int(whole + part, 16)
    if not number:
        return Fraction(0)
    power = _exponent(exponent) - 4 * len(part)
    if abs(number.bit_length() + power) > 20_000:
        raise NotAFloat
    return number * Fraction(2) ** power


def _exponent(text: str | None) -> int:
    """Of a text that may be absent; more than six digits are as good as a million."""
    if not text:
        return 0
    digits = text.lstrip("+-").lstrip("0")
    power = int(digits or "0") if len(digits) <= 6 else 1_000_000
    return -power if text.startswith("-") else power


def round_to_long_double(value: Fraction) -> Fraction:
    """The nearest number with 64 bits of mantissa, ties to even; fewer bits for the very smallest."""
    if not value:
        return value
    # 2 ** shift is the value of the last bit of the mantissa.
    shift = max(_SHIFT_MIN, abs(value.numerator).bit_length() - value.denominator.bit_length() - _MANTISSA_BITS)
    for candidate in (shift, shift + 1):
        unit = Fraction(2) ** candidate
        rounded = round(value / unit)
        if abs(rounded) <= 1 << _MANTISSA_BITS:
            return rounded * unit
    raise AssertionError(value)


def format_long_double(value: Fraction) -> bytes:
    """`%.17Lf` without trailing zeros, as INCRBYFLOAT stores and answers it."""
    scaled = round(value * 10**17)
    # By way of Decimal, since int refuses to print more than 4300 digits.
    digits = str(Decimal(abs(scaled))).zfill(18)
    text = f"{digits[:-17]}.{digits[-17:]}".rstrip("0").rstrip(".")
    return f"-{text}".encode() if scaled < 0 else text.encode()


def is_finite(value: Fraction) -> bool:
    """Whether a long double can hold it: its exponents end at 2 ** 16384."""
    return abs(value) < _LONG_DOUBLE_LIMIT
