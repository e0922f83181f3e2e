"""Samples of what the main thread is busy with, by means of Python alone: where there is no kernel, or no Linux.

A signal comes each time the process has run for so long, and Python sees it at the next place where its stack is sound:
what was running then in C, the event loop's own work included, goes with the Python function that comes next.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType

from kora.observe.cpu_samples import CpuSamples


class PythonSampler:
    """kora.engine.reference.CpuSampler."""

    def __init__(self, samples: CpuSamples, label: Callable[[], str]) -> None:
        self._samples = samples
        self._label = label
        self._is_on = False
        self._period_ns = 0
        self._sampled_ns = 0  # of the thread's CPU time

    def start(self, period_ns: int, is_direct: bool) -> None:
        self._is_on = True
        self._period_ns, self._sampled_ns = period_ns, time.thread_time_ns()
        signal.signal(signal.SIGPROF, self._look)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, period_ns / 1e9, period_ns / 1e9)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        self._is_on = False  # the handler stays: a signal may be under way

    def take(self) -> None:
        """They are not kept anywhere else."""

    def _look(self, number: int, frame: FrameType | None) -> None:
        # Several come as one while something in C takes long; and some for what another thread did.
        count = (time.thread_time_ns() - self._sampled_ns + self._period_ns // 2) // self._period_ns
        if self._is_on and count > 0:
            self._sampled_ns += count * self._period_ns
            self._samples.add(self._label(), self._samples.stack(frame), "", 0, count)
