"""Latency histograms in HdrHistogram's geometry: 1 ns to 60 s, 2 significant digits, as plain counts.

Values below 256 ns have a bucket each; above, every power of two is divided into 128 buckets, so that a bucket is
never wider than 1/128 of its values.  A histogram is an array of counts that reaches only as far as the largest value
seen; an HdrHistogram is had by copying them.  Geometry: HdrHistogram, "sub-buckets" (hdr_histogram.c, counts_index).
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

LOWEST_NS: Final = 1
HIGHEST_NS: Final = 60_000_000_000
SIGNIFICANT_DIGITS: Final = 2
SUB_BUCKET_BITS: Final = 8  # 256 sub-buckets tell two digits apart
HALF: Final = 1 << (SUB_BUCKET_BITS - 1)

# Upper edges of the buckets of kora_command_duration_seconds: 1-2.5-5 steps, 1 µs to 10 s.
EDGES_NS: Final = (
    *(step * 10**power for power in range(2, 9) for step in (10, 25, 50)),
    10_000_000_000,
)

Counts = Sequence[int]


def index_of(value_ns: int) -> int:
    """The bucket of a value.  Values beyond the highest go into the last bucket."""
    value_ns = min(value_ns, HIGHEST_NS)
    power = value_ns.bit_length() - SUB_BUCKET_BITS
    return (power * HALF) + (value_ns >> power) if power > 0 else value_ns


def index_table(size: int) -> tuple[int, ...]:
    """index_of() of all values below a power of two, without asking it for each."""
    table = list(range(2 * HALF))
    for power in range(1, (size - 1).bit_length() - SUB_BUCKET_BITS + 1):
        for index in range((power + 1) * HALF, (power + 2) * HALF):
            table += [index] * (1 << power)
    return tuple(table)


BUCKETS: Final = index_of(HIGHEST_NS) + 1


def highest_of(index: int) -> int:
    """The largest value, in ns, that falls into a bucket; what percentiles report."""
    if index < 2 * HALF:
        return index
    power = index // HALF - 1
    return ((index % HALF + HALF + 1) << power) - 1


# The steps of LATENCY HISTOGRAM.  Redis goes through its histograms by doubling steps from 1,024 ns on, and shows each
# by the highest value of the bucket that it ends in; its histograms end at 1.07 s, and these go on.
_ENDS_AT: Final = 1 << 30
STEPS_NS: Final = tuple(
    (1 << power) - 1 if 1 << power == _ENDS_AT else highest_of(index_of(1 << power)) for power in range(10, 37)
)
STEPS_US: Final = tuple(edge_ns // 1_000 for edge_ns in STEPS_NS)


def new_counts() -> "array[int]":
    """Counts for values up to 16 µs; grow() makes room for more."""
    return array("Q", bytes(8 * 8 * HALF))


def grow(counts: "array[int]", index: int) -> None:
    """Make room for a bucket: whole powers of two at a time, so that it happens at most 22 times."""
    assert len(counts) <= index < BUCKETS, index
    counts.frombytes(bytes(8 * ((index // HALF + 1) * HALF - len(counts))))


def percentiles(counts: Counts, wanted: Sequence[float]) -> list[int]:
    """The values in ns at some percentiles (0 to 100); zeros for an empty histogram."""
    return percentiles_of(running(counts), wanted)


def percentiles_of(sums: Sequence[int], wanted: Sequence[float]) -> list[int]:
    """As percentiles(), of running counts."""
    total = sums[-1] if sums else 0
    if not total:
        return [0] * len(wanted)
    return [highest_of(bisect_left(sums, max(1, int(percent / 100 * total + 0.5)))) for percent in wanted]


def running(counts: Counts) -> list[int]:
    """Each bucket's count together with those of all buckets before it: [1, 0, 2] gives [1, 1, 3]."""
    return list(accumulate(counts))


def steps_us(counts: Counts) -> dict[int, int]:
    """Microseconds → how many values were at most that, where that grows: the powers of two of a µs, as in Redis."""
    steps: dict[int, int] = {}
    before = 0
    for edge_us, count in zip(STEPS_US, cumulative(counts, STEPS_NS), strict=True):
        if count > before:
            steps[edge_us] = count
        before = count
    return steps


def cumulative(counts: Counts, edges_ns: Sequence[int] = EDGES_NS) -> list[int]:
    """How many values were at most each edge; a bucket that an edge divides counts as below it (under 1 % wide)."""
    sums: list[int] = []
    seen, start = 0, 0
    for edge in edges_ns:
        stop = index_of(edge) + 1
        seen += sum(counts[start:stop])
        sums.append(seen)
        start = stop
    return sums


def add(target: "array[int]", source: Counts) -> None:
    """Add one histogram's counts to another's."""
    if not source:
        return
    target[:] = merged([target.tobytes(), array("Q", source).tobytes()])


def merged(histograms: Sequence[bytes]) -> "array[int]":
    """The sum of histograms, each given as the bytes of its array."""
    if len(histograms) == 1:
        return array("Q", histograms[0])
    # Each as one large number: no count ever carries into its neighbour, and the sum is made in C.
    size_bytes = max(map(len, histograms), default=0)
    total = sum(int.from_bytes(counts.ljust(size_bytes, b"\0"), sys.byteorder) for counts in histograms)
    return array("Q", total.to_bytes(size_bytes, sys.byteorder))
