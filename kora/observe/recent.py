"""The last minute, second by second: how far counters have grown, and who did what stands out.

DOCTOR looks only at what was recent, so that a finding goes once its cause has.  Counters are told to end() once a
second as they are; what stands out (a connection that was opened, a command that failed) is told when it happens, and
counted by its culprit.  Memory is bounded whatever comes: so many seconds, and so many culprits in each.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from kora.observe.spikes import NOBODY, Offender

SECONDS_MAX: Final = 60
_SECOND_NS: Final = 1_000_000_000
# Culprits of a kind that are counted in the current second, and those that are kept of it: the rest share one row.
_CULPRITS_MAX: Final = 64
_KEPT_MAX: Final = 8
_NAME_MAX: Final = 128
OTHERS: Final = "others"
PREFIXES_MAX: Final = 1000  # of the keys of a database, where they are told apart; the rest are OTHERS
# Kinds of deeds, and by what their culprits go.
CONNECTIONS: Final = "connections"  # opened, by host
LOGINS: Final = "logins"  # that failed, by host
ERRORS: Final = "errors"  # by prefix and command
TURNS: Final = "turns"  # of a client that had more than one at once, by its id
ENDED: Final = "ended"  # keys, by what they begin with
LARGE_VALUES: Final = "large-values"  # written to the engine under the keys, by what keys begin with

# What counts are told as: ("calls", "get"), ("total", "expired"), …
Counts: TypeAlias = dict[tuple[str, str], int]


@dataclass
class Deed:
    """What one culprit did in some time."""

    count: int = 0
    elapsed_ns: int = 0
    offender: Offender = NOBODY  # of the first time, as far as it was told

    def add(self, other: "Deed") -> None:
        self.count += other.count
        self.elapsed_ns += other.elapsed_ns
        self.offender = other.offender if other.offender is not NOBODY else self.offender


Deeds: TypeAlias = dict[tuple[str, str], Deed]  # by kind and culprit


@dataclass
class Second:
    """About a second: the heartbeat is not exact, and late when the loop is."""

    start_ns: int
    stop_ns: int
    stop_ms: int  # Unix time
    grown: Counts  # what has not grown is not in it
    deeds: Deeds
    keys: int  # at its end

    @property
    def elapsed_ns(self) -> int:
        return self.stop_ns - self.start_ns


@dataclass
class Unread:
    """What waits for a client that does not take it."""

    since_ns: int  # when it last took anything
    waiting_bytes: int


@dataclass
class Recent:
    """Whoever ticks calls end() when is_due() says so."""

    start_ns: int
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=SECONDS_MAX))
    unread: dict[int, Unread] = field(default_factory=dict)  # by the client's id
    _deeds: dict[str, dict[str, Deed]] = field(default_factory=dict)
    _counts: Counts = field(default_factory=dict)

    def is_due(self, now_ns: int) -> bool:
        return now_ns - self.start_ns >= _SECOND_NS

    def note(self, kind: str, culprit: str, elapsed_ns: int = 0) -> Deed:
        """Count a deed of somebody's; who it was can be said of the result where it does not know yet."""
        deeds = self._deeds.get(kind)
        if deeds is None:
            deeds = self._deeds[kind] = {}
        deed = deeds.get(culprit)
        if deed is None:
            culprit = culprit[:_NAME_MAX] if len(deeds) < _CULPRITS_MAX else OTHERS
            deed = deeds.setdefault(culprit, Deed())
        deed.count += 1
        deed.elapsed_ns += elapsed_ns
        return deed

    def begin(self, now_ns: int, counts: Counts) -> None:
        self.start_ns = now_ns
        self._counts = counts

    def end(self, now_ns: int, now_ms: int, counts: Counts, keys: int) -> None:
        """End the second that has begun; `counts` are the counters as they are."""
        self.seconds.append(Second(self.start_ns, now_ns, now_ms, self._grown(counts), self._largest(), keys))
        self._counts = counts
        self._deeds = {}
        self.start_ns = now_ns

    def window(self, seconds: int, now_ns: int, now_ms: int, counts: Counts, keys: int) -> list[Second]:
        """The last seconds, the one that has begun included, the oldest first."""
        start_ns = now_ns - seconds * _SECOND_NS
        found = [second for second in self.seconds if second.stop_ns > start_ns]
        return [*found, Second(self.start_ns, now_ns, now_ms, self._grown(counts), self._largest(), keys)]

    def _grown(self, counts: Counts) -> Counts:
        before = self._counts
        # A counter that fell was reset meanwhile: what it has now is what came since.
        return {
            name: count - old if count > (old := before.get(name, 0)) else count
            for name, count in counts.items()
            if count != before.get(name, 0)
        }

    def _largest(self) -> Deeds:
        found: Deeds = {}
        for kind, deeds in self._deeds.items():
            ranked = sorted(deeds.items(), key=lambda item: (-item[1].elapsed_ns, -item[1].count, item[0]))
            for culprit, deed in ranked[:_KEPT_MAX]:
                found[kind, culprit] = deed
            for _, deed in ranked[_KEPT_MAX:]:
                others = found.setdefault((kind, OTHERS), Deed())
                others.count += deed.count
                others.elapsed_ns += deed.elapsed_ns
        return found


def total(seconds: Iterable[Second]) -> Counts:
    """How far each counter has grown in all."""
    grown: Counts = {}
    for second in seconds:
        for name, count in second.grown.items():
            grown[name] = grown.get(name, 0) + count
    return grown


def deeds_of(seconds: Iterable[Second], kind: str) -> list[tuple[str, Deed]]:
    """Who did something of a kind, and how often: those that took most time, or did it most often, first."""
    found: dict[str, Deed] = {}
    for second in seconds:
        for (of_kind, culprit), deed in second.deeds.items():
            if of_kind == kind:
                found.setdefault(culprit, Deed()).add(deed)
    return sorted(found.items(), key=lambda item: (-item[1].elapsed_ns, -item[1].count, item[0]))


def host_of(address: str) -> str:
    """Of an address as CLIENT LIST shows it."""
    return address.rpartition(":")[0]


def prefix_of(key: bytes) -> str:
    """What a key has in common with its like: `session:*` of `session:17`."""
    name = key[:_NAME_MAX].decode("utf-8", "backslashreplace")
    for divider in ":/.-_|":
        first, found, _ = name.partition(divider)
        if found:
            return f"{first}{divider}*"
    return f"{name.rstrip('0123456789')}*"


def by_name(grown: Mapping[tuple[str, str], int], kind: str) -> dict[str, int]:
    return {name: count for (of_kind, name), count in grown.items() if of_kind == kind}
