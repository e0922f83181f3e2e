"""Rates of a few counters over the last moments: INFO's instantaneous_ops_per_sec and its relatives."""

from collections.abc import Sequence
from typing import Final

# Redis' values (server.h): 16 samples, 100 ms apart, so that a rate is that of the last 1.6 s.
SAMPLES: Final = 16
INTERVAL_NS: Final = 100_000_000


class Rates:
    """Fed with counters' values by whoever ticks; more often than INTERVAL_NS does no harm."""

    __slots__ = ("_place", "_sampled_ns", "_samples", "_values")

    def __init__(self, counters: int, now_ns: int) -> None:
        self._samples = [[0] * SAMPLES for _ in range(counters)]  # a ring for each counter, of units per second
        self._place = 0
        self._values = [0] * counters
        self._sampled_ns = now_ns

    def is_due(self, now_ns: int) -> bool:
        return now_ns - self._sampled_ns >= INTERVAL_NS

    def reset(self) -> None:
        """Forget what was; the counters begin again, or go on."""
        for samples in self._samples:
            samples[:] = [0] * SAMPLES

    def sample(self, values: Sequence[int], now_ns: int) -> None:
        elapsed_ns = now_ns - self._sampled_ns
        for samples, value, before in zip(self._samples, values, self._values, strict=True):
            # A counter that fell was reset meanwhile: what it has now is what came since.
            grown = value - before if value >= before else value
            samples[self._place] = grown * 1_000_000_000 // elapsed_ns
        self._place = (self._place + 1) % SAMPLES
        self._values = list(values)
        self._sampled_ns = now_ns

    def latest(self, counter: int) -> int:
        """Per second, between the last two samples."""
        return self._samples[counter][self._place - 1]

    def per_second(self) -> list[int]:
        return [sum(samples) // SAMPLES for samples in self._samples]
