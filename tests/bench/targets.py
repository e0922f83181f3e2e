"""What Kora promises, number by number, and whether a run kept it.

The bounds hold against redis-server 7.0 in the same run, with all statistics on.  A verdict goes by the median; where
the interval of the median reaches over the bound, the run was too short or the machine too noisy to be sure, and the
verdict says so: then "unclear" is what to quote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from estimates import Interval
from section import Table

# CPU per command, Kora / Redis, by pipeline.
KERNEL_CPU_RATIO_MAX: Final = {1: 1.02, 16: 0.6, 64: 0.4}
HANDLERS_CPU_RATIO_MAX: Final = {1: 1.15, 16: 1.3, 64: 1.5}
# The commands on lists, hashes, sets and sorted sets; streams are younger.
TYPES_CPU_RATIO_MAX: Final = {16: 1.3}
XADD_CPU_RATIO_MAX: Final = {16: 1.5}
TYPES_MEMORY_RATIO_MAX: Final = 1.5
# What observation adds to CPU per command, by pipeline.
OBSERVATION_PERCENT_MAX: Final = {1: 1.0, 16: 3.0}
# What tracing one request in a hundred adds to it.
TRACING_PERCENT_MAX: Final = {1: 1.0, 16: 1.0}
# What the audit log adds to CPU per command: of admin categories, and of writes at pipeline 16.
AUDIT_ADMIN_PERCENT_MAX: Final = 1.0
AUDIT_WRITES_PERCENT_MAX: Final = 15.0
# 1 MB values: CPU per command, and the other way round commands per second.
LARGE_CPU_RATIO_MAX: Final = 1.2
LARGE_OPS_RATIO_MAX: Final = 1.2
# Small keys of a snapshot, per second of CPU.
LOADED_KEYS_MIN: Final = 1_000_000
# The journal: CPU per SET, Kora / Redis; the share of operations that everysec leaves; and Kora / Redis with always.
EVERYSEC_CPU_RATIO_MAX: Final = 0.8
EVERYSEC_OPS_SHARE_MIN: Final = 0.9
ALWAYS_OPS_RATIO_MIN: Final = 1.0
# RocksDB under the keys: CPU of GETs of what is in memory, against the memory engine; reads of what is not, and writes,
# per second; CPU that its statistics add; seconds until a server with all its data is ready; and memory beyond the
# cache.
STORAGE_CACHED_CPU_RATIO_MAX: Final = 1.1
STORAGE_COLD_PER_S_MIN: Final = 100_000
STORAGE_WRITES_PER_S_MIN: Final = 150_000
STORAGE_STATISTICS_PERCENT_MAX: Final = 2.0
STORAGE_RESTART_S_MAX: Final = 2.0
STORAGE_MEMORY_BYTES_MAX: Final = 300 << 20
# TRACK: CPU against INCR.
TRACK_CPU_RATIO_MAX: Final = 1.3
# Events over HTTP: CPU for each request, and what the data process' p99 may move meanwhile.
EVENT_CPU_US_MAX: Final = 9.0
EVENTS_P99_PERCENT_MAX: Final = 10.0
LATENCY_P99_RATIO_MAX: Final = 1.0
MEMORY_RATIO_MAX: Final = 1.0


@dataclass(frozen=True)
class Verdict:
    """A measured number beside the largest that it may be."""

    what: str
    unit: str  # "x" for a ratio, "%" for a change, "us" for a time
    bound: float
    measured: Interval
    is_exact: bool = False  # measured once, since it does not vary: the interval is the number itself

    @property
    def is_met(self) -> bool:
        return self.measured.median <= self.bound

    @property
    def is_clear(self) -> bool:
        # Of fewer rounds than five the interval is too narrow to be believed.
        is_sure = self.is_exact or self.measured.count >= 5
        return is_sure and (self.measured.high <= self.bound or self.measured.low > self.bound)

    @property
    def word(self) -> str:
        return ("met" if self.is_met else "MISSED") + ("" if self.is_clear else ", unclear")

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "bound": self.bound,
            "measured": self.measured.median,
            "low": self.measured.low,
            "high": self.measured.high,
            "is_met": self.is_met,
            "is_clear": self.is_clear,
        }


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    rows = [
        [
            verdict.what,
            f"<= {verdict.bound:g} {verdict.unit}",
            f"{verdict.measured.median:.2f}",
            f"[{verdict.measured.low:.2f}, {verdict.measured.high:.2f}]" if not verdict.is_exact else "",
            verdict.word,
        ]
        for verdict in verdicts
    ]
    met = sum(verdict.is_met for verdict in verdicts)
    notes = [
        f"{met} of {len(verdicts)} met, by the median; unclear: its 95 % interval spans the bound or is of < 5 rounds."
    ]
    return Table("targets", ["", "target", "measured", "95 %", "verdict"], rows, notes)
