"""Tallies: what is kept of the values that were tracked of a metric within some time.

    count, sum, min, max, last     exact: values are decimal numbers with nine digits behind the point, and everything
                                   in here counts their BILLIONTHS as integers.  So sums of sums are the sums of the
                                   values, in whatever order they are added up.
    buckets                        how many values fell into each bucket of a histogram, for percentiles

A bucket is told by an integer.  Of a magnitude m (in billionths) the seven highest bits count: below 128 it is its own
bucket, and then each doubling is 64 buckets, of which none is wider than 1.6 % of what is in it; negative values have
the negative numbers.  0 is in bucket 0, 10 ** 18 in 5438.  The kernel has the same in C (kernel/tally.c).

A histogram as bytes is a pair of numbers for each bucket in use, in order: how far it is from the one before, which for
the first is from 0, and zigzag (0, -1, 1, -2, …); and its count.  Numbers are varints: seven bits to a byte, the least
significant first, and every byte but the last has its high bit set.  Where the least and the greatest value are in the
same bucket there is nothing to tell, and so no byte.

The data process and the sidecar both use this, and hand each other cells:

    (key, start_ms, count, sum, min, max, last, last_ms, histogram)

An interval begins at a multiple of its length, counted from the beginning of the minute if it is shorter than that: so
none belongs to two minutes.  All of it is Unix time, in which every day has 24 hours.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

Cell: TypeAlias = tuple[bytes, int, int, int, int, int, int, int, bytes]

KEY_BYTES_MAX: Final = 512
# Where values of keys go that are one too many: see events-keys-max.
OTHER: Final = b"__other__"

DIGITS: Final = 9
UNIT: Final = 10**DIGITS
VALUE_MAX: Final = 10**18  # a magnitude that is not tracked any more
_MINUTE_MS: Final = 60_000

_VALUE: Final = re.compile(rb"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?")
_VALUE_BYTES_MAX: Final = 64
_WHOLE_DIGITS_MAX: Final = 18

# Of histograms.
_SUB_BITS: Final = 6
_SUB: Final = 1 << _SUB_BITS
BUCKET_MAX: Final = 8191  # beyond all that values come to
_TENS: Final[tuple[int, ...]] = tuple(10**power for power in range(27, -1, -1))


def parse_value(text: bytes) -> int:
    """A decimal number, possibly with an exponent, in billionths; more digits are rounded.

    Raises ValueError for anything else, and for what is too large.
    """
    if text.isdigit() and len(text) <= _WHOLE_DIGITS_MAX:
        return int(text) * UNIT  # nearly all there are
    match = _VALUE.fullmatch(text) if len(text) <= _VALUE_BYTES_MAX else None
    if match is None:
        raise ValueError("not a number")
    sign, whole, fraction, exponent = match.groups(b"")
    digits = whole + fraction
    if not digits:
        raise ValueError("not a number")
    number = int(digits)
    power = int(exponent or b"0") - len(fraction) + DIGITS
    if number and len(digits.lstrip(b"0")) + power > DIGITS + _WHOLE_DIGITS_MAX + 1:
        raise ValueError("too large")
    units: int
    if power >= 0:
        units = number * 10**power if number else 0
    else:
        # Half to even, as round() has it.
        divisor = 10 ** min(-power, 2 * _VALUE_BYTES_MAX)
        units, rest = divmod(number, divisor)
        units += 2 * rest > divisor or (2 * rest == divisor and units & 1)
    if units >= VALUE_MAX * UNIT:
        raise ValueError("too large")
    return -units if sign == b"-" else units


def format_value(units: int) -> bytes:
    """The shortest decimal number that is so many billionths."""
    if units % UNIT == 0:
        return b"%d" % (units // UNIT)  # nearly all there are
    whole, rest = divmod(abs(units), UNIT)
    text = (b"%d.%09d" % (whole, rest)).rstrip(b"0")
    return b"-" + text if units < 0 else text


def to_number(units: int) -> int | float:
    """For JSON: an integer where it is one."""
    return units // UNIT if units % UNIT == 0 else units / UNIT


def interval_start(at_ms: int, interval_ms: int) -> int:
    """When the interval begins that a time is in."""
    if interval_ms >= _MINUTE_MS:
        return at_ms - at_ms % interval_ms
    within = at_ms % _MINUTE_MS
    return at_ms - within % interval_ms


def interval_stop(start_ms: int, interval_ms: int) -> int:
    """When it ends, which is when the next begins."""
    if interval_ms >= _MINUTE_MS:
        return start_ms + interval_ms
    return min(start_ms + interval_ms, start_ms - start_ms % _MINUTE_MS + _MINUTE_MS)


def bucket_of(units: int) -> int:
    magnitude = abs(units)
    shift = magnitude.bit_length() - 1 - _SUB_BITS
    bucket = magnitude if shift <= 0 else (shift << _SUB_BITS) + (magnitude >> shift)
    return -bucket if units < 0 else bucket


def value_of(bucket: int) -> int:
    """The roundest number in a bucket, in billionths: what percentiles tell of all that are in it."""
    number = abs(bucket)
    shift = (number >> _SUB_BITS) - 1
    if shift <= 0:
        return bucket
    low = (number & _SUB - 1 | _SUB) << shift
    high = low + (1 << shift)
    for ten in _TENS:
        first = -(-low // ten) * ten
        if first < high:
            middle = low + (1 << shift - 1)
            units = min(max(first, round(middle / ten) * ten), (high - 1) // ten * ten)
            return -units if bucket < 0 else units
    raise AssertionError(bucket)


class Tally:
    """What is known of some values; the numbers are billionths, but for `count`."""

    __slots__ = ("buckets", "count", "last", "last_ms", "max", "min", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self.min = self.max = self.last = 0  # of no meaning while there is no value
        self.last_ms = 0  # when the last value was tracked
        self.buckets: dict[int, int] = {}

    def add(self, units: int, at_ms: int, count: int = 1) -> None:
        """A value, so many times."""
        if not self.count:
            self.min = self.max = units
        elif units < self.min:
            self.min = units
        elif units > self.max:
            self.max = units
        self.count += count
        self.sum += units * count
        if at_ms >= self.last_ms:
            self.last, self.last_ms = units, at_ms
        bucket = bucket_of(units)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def merge(self, other: "Tally") -> None:
        """The values of another as well; the last is that of the later, or of the other where they are of the same."""
        if not other.count:
            return
        if not self.count:
            self.min, self.max = other.min, other.max
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        if other.last_ms >= self.last_ms or not self.count:
            self.last, self.last_ms = other.last, other.last_ms
        self.count += other.count
        self.sum += other.sum
        buckets = self.buckets
        for bucket, count in other.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + count

    def percentile(self, percent: float) -> int:
        """The value below or at which so many per cent of all are (the nearest rank), in billionths."""
        total = sum(self.buckets.values())
        rank = max(1, -(-int(percent * total) // 100))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return min(max(value_of(bucket), self.min), self.max)
        return self.max

    def histogram(self) -> bytes:
        if bucket_of(self.min) == bucket_of(self.max):
            return b""
        return encode_buckets(self.buckets)

    def cell(self, key: bytes, start_ms: int) -> Cell:
        """As it is handed over."""
        return (
            key, start_ms, self.count, self.sum, self.min, self.max, self.last, self.last_ms, self.histogram()
        )  # fmt: skip

    @classmethod
    def of_cell(cls, cell: Cell) -> "Tally":
        """Raises ValueError where the histogram is none."""
        tally = cls()
        _, _, tally.count, tally.sum, tally.min, tally.max, tally.last, tally.last_ms, histogram = cell
        tally.buckets = decode_buckets(histogram) if histogram else {bucket_of(tally.min): tally.count}
        return tally

    # As the entry of a stream

    def words(self) -> list[bytes]:
        return words_of(self.count, self.sum, self.min, self.max, self.last, self.histogram())

    @staticmethod
    def sum_of(fields: Mapping[bytes, bytes]) -> int:
        """Of the fields of an entry; raises ValueError where they are something else."""
        total = fields.get(b"sum")
        return _parse_sum(total) if total is not None else _parse_count(fields) * UNIT

    @classmethod
    def of_fields(cls, fields: Mapping[bytes, bytes], at_ms: int) -> "Tally":
        """Those of an entry, which may be of a real Kilometric and then has only a count: of so many ones.

        Raises ValueError where they are something else.
        """
        tally = cls()
        tally.count = _parse_count(fields)
        tally.last_ms = at_ms
        if b"sum" not in fields:
            tally.sum = tally.count * UNIT
            tally.min = tally.max = tally.last = UNIT
            tally.buckets = {bucket_of(UNIT): tally.count}
            return tally
        tally.sum = _parse_sum(fields[b"sum"])
        try:
            tally.min, tally.max, tally.last = (parse_value(fields[name]) for name in (b"min", b"max", b"last"))
        except KeyError as error:
            raise ValueError("an entry without all its fields") from error
        histogram = fields.get(b"histogram", b"")
        tally.buckets = decode_buckets(histogram) if histogram else {bucket_of(tally.max): tally.count}
        return tally


def words_of(count: int, total: int, least: int, greatest: int, last: int, histogram: bytes) -> list[bytes]:
    """The fields of an entry: names and values in turn."""
    return [
        b"count", b"%d" % count, b"sum", format_value(total), b"min", format_value(least),
        b"max", format_value(greatest), b"last", format_value(last), b"histogram", histogram,
    ]  # fmt: skip


def _parse_count(fields: Mapping[bytes, bytes]) -> int:
    count = fields.get(b"count", b"")
    if not count.isdigit() or len(count) > 30:
        raise ValueError("an entry without a count")
    return int(count)


def _parse_sum(text: bytes) -> int:
    """As format_value() has it, however large."""
    match = re.fullmatch(rb"(-?)([0-9]{1,40})(?:\.([0-9]{1,9}))?", text)
    if match is None:
        raise ValueError("a sum that is no number")
    sign, whole, fraction = match.groups(b"")
    units = int(whole) * UNIT + int(fraction.ljust(DIGITS, b"0"))
    return -units if sign else units


def encode_buckets(buckets: dict[int, int]) -> bytes:
    data = bytearray()
    previous = 0
    for bucket in sorted(buckets):
        step = bucket - previous if data else bucket * 2 if bucket >= 0 else -bucket * 2 - 1
        _put(data, step)
        _put(data, buckets[bucket])
        previous = bucket
    return bytes(data)


def decode_buckets(data: bytes) -> dict[int, int]:
    """Raises ValueError where that is no histogram."""
    numbers = _numbers(data)
    if len(numbers) % 2:
        raise ValueError("a histogram that is cut off")
    buckets: dict[int, int] = {}
    bucket = 0
    for place in range(0, len(numbers), 2):
        step, count = numbers[place], numbers[place + 1]
        if place:
            bucket += step
        else:
            bucket = -(step + 1 >> 1) if step & 1 else step >> 1
        if (place and not step) or not count or abs(bucket) > BUCKET_MAX:
            raise ValueError("no histogram")
        buckets[bucket] = count
    return buckets


def _put(data: bytearray, number: int) -> None:
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)


def _numbers(data: Iterable[int]) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 63:
                raise ValueError("a number of a histogram that is too large")
        else:
            numbers.append(number)
            number = shift = 0
    if shift:
        raise ValueError("a histogram that is cut off")
    return numbers
