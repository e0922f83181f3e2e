"""What the sidecar counts about itself."""

import os
import resource
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kora.observe import histogram
from kora.sidecar.tracing import TraceExport

if TYPE_CHECKING:
    from kora.sidecar.events import Events
    from kora.sidecar.exposition import Command

PROFILES: Final = ("cpu", "heap", "alloc")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class OwnStats:
    def __init__(self, events: "Events | None" = None) -> None:
        self.events = events  # counts for itself; None where there are none
        self.scrapes = 0  # the one that is being answered included
        self.scrape_counts: array[int] = histogram.new_counts()  # of those that were answered
        self.scrape_elapsed_ns = 0
        self.last_scrape_ns = 0
        self.traces = TraceExport()  # the feed's, where there is one
        self.turned_out = 0  # connections that were ended for being idle or not reading
        # Profiles that were taken, by kind; the kind of the one under way; and how long the loop stood still for them.
        self.profiles = dict.fromkeys(PROFILES, 0)
        self.profile_running = ""
        self.fork_max_ns = 0
        # Answers by path, which is one of the routes' or "other", and status code.
        self.requests: dict[tuple[str, int], int] = {("/metrics", 200): 0}

        # Commands in the order in which their details get a place on the page.
        self._ranks: dict[str, None] = {}

    def ranked(self, commands: "Sequence[Command]") -> "list[Command]":
        """Those that were there before in their former order, then the others, most calls first."""
        found = {command.name: command for command in commands}
        for name in sorted(found, key=lambda name: (-found[name].stats.calls, name)):
            self._ranks.setdefault(name)
        return [found[name] for name in self._ranks if name in found]

    def record_scrape(self, elapsed_ns: int) -> None:
        index = histogram.index_of(elapsed_ns)
        if index >= len(self.scrape_counts):
            histogram.grow(self.scrape_counts, index)
        self.scrape_counts[index] += 1
        self.scrape_elapsed_ns += elapsed_ns
        self.last_scrape_ns = elapsed_ns

    def record_profile(self, kind: str, fork_ns: int) -> None:
        self.profiles[kind] += 1
        self.fork_max_ns = max(self.fork_max_ns, fork_ns)

    def record_request(self, path: str, code: int) -> None:
        self.requests[path, code] = self.requests.get((path, code), 0) + 1


def rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


def cpu_s() -> tuple[float, float]:
    """Seconds in user mode and in the system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def open_fds(pid: int) -> int | None:
    """How many descriptors a process has open.  Counted here, since with thousands of clients it takes milliseconds."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
