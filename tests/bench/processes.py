"""What the kernel says about a server's processes: CPU time, resident memory, time spent waiting for a CPU.

A server is its main process and all descendants, so Kora's sidecar counts as Kora.

CPU time is the POSIX CPU clock of each process: user + system of all its threads, also of those that have ended, which
is what /proc/<pid>/stat shows, but in nanoseconds instead of 10 ms ticks (schedstat would leave out ended threads).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CPUCLOCK_SCHED: Final = 2  # linux/posix-timers.h, MAKE_PROCESS_CPUCLOCK
PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def tree(pid: int) -> list[int]:
    """The process and its living descendants, itself first."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # a thread that ended meanwhile
                found.extend(int(child) for child in path.read_text().split())
    return found


def cpu_ns(pid: int) -> dict[int, int]:
    """CPU time used so far, by process of the tree; the main process first."""
    main, *children = tree(pid)
    spent = {main: time.clock_gettime_ns(cpu_clock(main))}
    for child in children:
        with contextlib.suppress(OSError):  # a child that ended meanwhile
            spent[child] = time.clock_gettime_ns(cpu_clock(child))
    return spent


def cpu_clock(pid: int) -> int:
    return (~pid << 3) | CPUCLOCK_SCHED


def cpu_spent_ns(before: dict[int, int], after: dict[int, int]) -> int:
    return sum(spent - before.get(pid, 0) for pid, spent in after.items())


def rss_bytes(pid: int) -> dict[int, int]:
    """Resident memory by process of the tree; pages shared between them are counted in each."""
    resident = {}
    for member in tree(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                resident[member] = int(line.split()[1]) * 1024
    return resident


def wait_until_calm(pid: int, wait_s_max: float = 3.0) -> None:
    """Return when the server uses less than 5 % of a CPU, so has ended what it does behind the scenes."""
    give_up_at = time.monotonic() + wait_s_max
    while time.monotonic() < give_up_at:
        before = cpu_ns(pid)
        time.sleep(0.05)
        if cpu_spent_ns(before, cpu_ns(pid)) < 0.05 * 50_000_000:
            return


class RunDelay:
    """How long a thread has been ready to run without a CPU to run on: the machine's noise, not the server's doing.

    The second number of /proc/<pid>/task/<tid>/schedstat (Linux, Documentation/scheduler/sched-stats.rst), in ns.
    Stays 0 where the kernel does not keep it.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._file = os.open(f"/proc/{pid}/task/{pid}/schedstat", os.O_RDONLY)
        except OSError:
            self._file = -1

    def ns(self) -> int:
        return int(os.pread(self._file, 64, 0).split()[1]) if self._file >= 0 else 0


def steal_ticks() -> int:
    """Ticks (10 ms) that the hypervisor kept from this machine since boot; proc(5), /proc/stat."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])


def files_max() -> int:
    """Raise this process' limit of open files as far as it goes; return where that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    for limit in (wanted, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def die_with_parent() -> None:
    """In a child: get SIGTERM when the benchmark ends in whatever way, SIGKILL included."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def prepare_child() -> None:
    """Between fork and exec of a server or load generator."""
    files_max()
    die_with_parent()


def use_last_cpu() -> None:
    """Keep a load generator off the other CPUs, so that it does not push the server off its own."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextlib.contextmanager
def on_last_cpu() -> Iterator[None]:
    """The same for the benchmark itself, for a while; a server started meanwhile would be bound as well."""
    allowed = os.sched_getaffinity(0)
    use_last_cpu()
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
