"""Time, handed to whoever needs it, so that a test can move it."""

import sys
import time
from typing import Final

# How exactly the system knows when data came: a tick of its coarse clock (CLOCK_MONOTONIC_COARSE of linux/time.h, which
# Python has no name for).
JIFFY_NS: Final = int(time.clock_getres(6) * 1e9) if sys.platform == "linux" else 10_000_000


class Clock:
    """The machine's clocks.  Nothing below the server reads time in any other way."""

    __slots__ = ()

    # Elapsed time, in ns, from an arbitrary start; never steps back.
    monotonic_ns = staticmethod(time.monotonic_ns)

    # Processor time that the calling thread has used, in ns.
    thread_ns = staticmethod(time.thread_time_ns)

    def wall_ms(self) -> int:
        """Unix time in ms, as deadlines and PEXPIREAT use it."""
        return time.time_ns() // 1_000_000

    def wall_us(self) -> int:
        """Unix time in µs, as TIME shows it."""
        return time.time_ns() // 1_000

    def wall_ns(self) -> int:
        """Unix time in ns, as spans use it."""
        return time.time_ns()

    def sleep_ns(self, elapsed_ns: int) -> None:
        """Block the calling thread: DEBUG SLEEP does this on purpose."""
        time.sleep(elapsed_ns / 1e9)


class ManualClock(Clock):
    """A clock that stands still until it is told to move."""

    __slots__ = ("_monotonic_ns", "_wall_us")

    def __init__(self, wall_ms: int = 1_700_000_000_000, monotonic_ns: int = 1_000_000_000) -> None:
        self._wall_us = wall_ms * 1_000
        self._monotonic_ns = monotonic_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ms(self) -> int:
        return self._wall_us // 1_000

    def wall_us(self) -> int:
        return self._wall_us

    def wall_ns(self) -> int:
        return self._wall_us * 1_000

    def sleep_ns(self, elapsed_ns: int) -> None:
        self.advance_ns(elapsed_ns)

    def advance_ms(self, elapsed_ms: int) -> None:
        self.advance_ns(elapsed_ms * 1_000_000)

    def advance_ns(self, elapsed_ns: int) -> None:
        self._monotonic_ns += elapsed_ns
        self._wall_us += elapsed_ns // 1_000
