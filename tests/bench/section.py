"""What the sections of the benchmark share: the Bench they are given and the Table they give back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis_benchmark import HANDLER_TESTS, KERNEL_TESTS, TYPE_TESTS
from servers import Recipe

STORAGE_PARTS: Final = ("cached", "restart", "cold", "writes", "single")


@dataclass(frozen=True)
class Sizes:
    """How much of everything: the defaults, and below what --quick makes of them."""

    run_s: float = 0.7
    rounds: int = 7
    tests: tuple[str, ...] = ("PING_INLINE", "PING_MBULK", *KERNEL_TESTS, *HANDLER_TESTS)  # of throughput
    pipelines: tuple[int, ...] = (1, 16, 64)
    type_tests: tuple[str, ...] = TYPE_TESTS
    type_pipelines: tuple[int, ...] = (1, 16, 64)
    type_rounds: int = 5
    type_run_s: float = 0.3
    small_keys: int = 1_000_000
    observation_pairs: int = 120
    observation_window_s: float = 0.1
    large_run_s: float = 0.7
    latency_rounds: int = 15
    latency_run_s: float = 1.0
    latency_trial_s: float = 1.0
    memory_keys: int = 1_000_000
    pause_keys: int = 5_000_000
    pause_batch: int = 64
    idle_connections: int = 10_000
    idle_settle_s: float = 5.0
    scrape_pairs: int = 20
    scrape_period_s: float = 3.0
    scrape_load_per_s: int = 20_000
    starts: int = 5
    service_run_s: float = 10.0
    storage_keys: int = 1_000_000
    storage_parts: tuple[str, ...] = STORAGE_PARTS
    storage_rounds: int = 5
    storage_run_s: float = 1.5  # writes go in waves: files are made each time that the log is full
    events_run_s: float = 3.0
    events_rounds: int = 7
    events_pairs: int = 9


QUICK = Sizes(
    run_s=0.15,
    rounds=2,
    tests=(*KERNEL_TESTS, *HANDLER_TESTS),
    type_pipelines=(16,),
    type_rounds=2,
    type_run_s=0.1,
    small_keys=100_000,
    observation_pairs=9,
    observation_window_s=0.05,
    large_run_s=0.15,
    latency_rounds=3,
    latency_run_s=0.5,
    latency_trial_s=0.2,
    memory_keys=100_000,
    pause_keys=300_000,
    idle_connections=1_000,
    idle_settle_s=1.0,
    scrape_pairs=2,
    scrape_period_s=2.0,
    starts=3,
    service_run_s=3.0,
    storage_keys=200_000,
    storage_rounds=2,
    storage_run_s=0.4,
    events_run_s=1.0,
    events_rounds=2,
    events_pairs=3,
)


@dataclass(frozen=True)
class Bench:
    """One run: the server that sets the mark, the one that is measured against it, and how much of everything."""

    reference: Recipe
    subject: Recipe
    sizes: Sizes
    start: float = field(default_factory=time.monotonic)
    # A section that takes long has what it has so far kept: tables are made of it should the rest be cut off.
    keep: Callable[[dict[str, Any]], None] = lambda result: None

    @property
    def recipes(self) -> tuple[Recipe, Recipe]:
        return self.reference, self.subject

    def progress(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:7.1f} s] {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        """The first column to the left, numbers to the right."""
        cells = [[str(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = [f"== {self.title}"]
        for row in cells:
            first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
        return "\n".join([*lines, *(f"   {note}" for note in self.notes)])
