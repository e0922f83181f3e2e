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
class Change:
    """Median of relative changes, in percent, and the interval that holds it with 95 % confidence."""

    median_percent: float
    low_percent: float
    high_percent: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median_percent:+.2f} %  [{self.low_percent:+.2f}, {self.high_percent:+.2f}]"


def paired_change(before: Sequence[float], after: Sequence[float], resamples: int = 5000) -> Change:
    """(after - before) / before of each pair: the pairs ran side by side, so a slow spell of the machine cancels out.

    The interval is a percentile bootstrap of the median; seeded, so that a result file can be recomputed.
    """
    assert len(before) == len(after), (len(before), len(after))
    changes = [100 * (late - early) / early for early, late in zip(before, after, strict=True)]
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(changes, k=len(changes))) for _ in range(resamples))
    low, high = percentile(medians, 2.5), percentile(medians, 97.5)
    return Change(statistics.median(changes), low, high, len(changes))


def median_ratio(subject: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of subject / reference, each round compared with itself only."""
    return statistics.median(ours / theirs for ours, theirs in zip(subject, reference, strict=True))
