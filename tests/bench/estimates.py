"""From samples to numbers that can be trusted: percentiles, paired medians, and how sure they are."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank, of values in ascending order; so p99.9 of 1000 values is the second largest at most."""
    assert ordered, "no samples"
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass(frozen=True)
class Interval:
    """A median, and the interval that holds it with 95 % confidence."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Change:
    """Median of relative changes, in percent, and the interval that holds it with 95 % confidence."""

    median_percent: float
    low_percent: float
    high_percent: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median_percent:+.2f} %  [{self.low_percent:+.2f}, {self.high_percent:+.2f}]"


def median_interval(values: Sequence[float], resamples: int = 5000) -> Interval:
    """A percentile bootstrap of the median; seeded, so that a result file can be recomputed."""
    assert values, "no samples"
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(values, k=len(values))) for _ in range(resamples))
    return Interval(statistics.median(values), percentile(medians, 2.5), percentile(medians, 97.5), len(values))


def paired_change(before: Sequence[float], after: Sequence[float]) -> Change:
    """(after - before) / before of each pair: they ran side by side, so a slow spell of the machine cancels out."""
    interval = median_interval([100 * (ratio - 1) for ratio in ratios(after, before)])
    return Change(interval.median, interval.low, interval.high, interval.count)


def paired_ratio(subject: Sequence[float], reference: Sequence[float]) -> Interval:
    """Median over the rounds of subject / reference, each round compared with itself only."""
    return median_interval(ratios(subject, reference))


def ratios(subject: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [ours / theirs for ours, theirs in zip(subject, reference, strict=True)]
