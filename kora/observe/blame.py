"""Who made others wait: seconds of waiting by culprit, window by window, for LATENCY BLAME.

Whoever waits, waits because the loop does something else meanwhile: each wait is charged in full to what that was, so
that what was inflicted adds up to what was suffered (service.py).  Here it is kept: one-second windows for 15 minutes,
each with its worst culprits, and what the others did together.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

WINDOWS_MAX: Final = 900
CULPRITS_MAX: Final = 16  # in a window that is over
_OPEN_MAX: Final = 256  # in the window that is open
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True)
class Culprit:
    """Whose doing it was; for short commands, of which none stands out, only the command is known."""

    name: str  # a command, or something else that the loop does: a job, `event-loop`
    key_prefix: bytes = b""
    address: str = ""
    client_name: bytes = b""


OTHERS: Final = Culprit("others")  # those that are too many to be kept apart


@dataclass
class Inflicted:
    """What a culprit did to others."""

    culprit: Culprit
    victims: int = 0  # reads of other clients that waited for it
    waited_ns: int = 0  # the best estimate
    waited_ns_min: int = 0  # when requests came is not always known: it was at least, and at most, so much
    waited_ns_max: int = 0
    share: float = 0.0  # of all that was waited

    def add(self, victims: int, waited_ns: int, waited_ns_min: int, waited_ns_max: int) -> None:
        self.victims += victims
        self.waited_ns += waited_ns
        self.waited_ns_min += waited_ns_min
        self.waited_ns_max += waited_ns_max


class Blame:
    def __init__(self) -> None:
        # Seconds of the monotonic clock that had waiting in them, the oldest first.
        self._windows: deque[tuple[int, dict[Culprit, Inflicted]]] = deque()

    def add(
        self, now_ns: int, culprit: Culprit, victims: int, waited_ns: int, waited_ns_min: int, waited_ns_max: int
    ) -> None:
        window = self._window(now_ns // _SECOND_NS)
        row = window.get(culprit)
        if row is None:
            if len(window) >= _OPEN_MAX:
                culprit = OTHERS
            row = window.setdefault(culprit, Inflicted(culprit))
        row.add(victims, waited_ns, waited_ns_min, waited_ns_max)

    def last(self, now_ns: int, seconds: int) -> list[Inflicted]:
        """All culprits of the last so many seconds, the worst first."""
        start = now_ns // _SECOND_NS - seconds
        total: dict[Culprit, Inflicted] = {}
        for second, window in self._windows:
            if second > start:
                _merge(total, window.values())
        rows = sorted(total.values(), key=attrgetter("waited_ns", "waited_ns_max", "victims"), reverse=True)
        waited_ns = sum(row.waited_ns for row in rows)
        for row in rows:
            row.share = row.waited_ns / waited_ns if waited_ns else 0.0
        return rows

    def reset(self) -> None:
        self._windows.clear()

    def _window(self, second: int) -> dict[Culprit, Inflicted]:
        windows = self._windows
        if not windows or windows[-1][0] != second:
            if windows:
                _trim(windows[-1][1])
            windows.append((second, {}))
            while windows[0][0] <= second - WINDOWS_MAX:
                windows.popleft()
        return windows[-1][1]


def _merge(total: dict[Culprit, Inflicted], rows: Iterable[Inflicted]) -> None:
    for row in rows:
        sum_row = total.setdefault(row.culprit, Inflicted(row.culprit))
        sum_row.add(row.victims, row.waited_ns, row.waited_ns_min, row.waited_ns_max)


def _trim(window: dict[Culprit, Inflicted]) -> None:
    """A window is over: what is not among the worst is kept as one."""
    if len(window) <= CULPRITS_MAX:
        return
    others = window.pop(OTHERS, Inflicted(OTHERS))
    worst = sorted(window.values(), key=attrgetter("waited_ns"), reverse=True)
    for row in worst[CULPRITS_MAX - 1 :]:
        others.add(row.victims, row.waited_ns, row.waited_ns_min, row.waited_ns_max)
        del window[row.culprit]
    window[OTHERS] = others
