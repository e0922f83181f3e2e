"""DOCTOR: what is wrong with the server right now, who does it, and the command that helps.

Facts are plain numbers of the last seconds; a rule (observe/doctor_rules.py) looks at them and tells what it finds.
The same facts give the same findings in the same order: the worst first, among equals those that took most time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from kora.observe.blame import Inflicted
from kora.observe.commandlog import Entry
from kora.observe.recent import Counts, Deed, Second, by_name, deeds_of, total
from kora.observe.spikes import NOBODY, Offender, Sample

LAST_S: Final = 10  # seconds that DOCTOR looks at unless it is told

INFO: Final = "info"
WARNING: Final = "warning"
CRITICAL: Final = "critical"
_SEVERITIES: Final = (CRITICAL, WARNING, INFO)
# Of data; what is less is nothing to talk about.
LITTLE_BYTES: Final = 5 << 20


@dataclass(frozen=True)
class SlowRequest:
    """An entry of the slow log."""

    time_s: int  # Unix time
    elapsed_ns: int
    offender: Offender


@dataclass(frozen=True)
class HotKeyFact:
    name: bytes
    accesses: int
    share: float  # of all accesses
    rate: float  # accesses per second
    cpu_ns: int
    client: Offender  # from whom most come, if it is still there
    client_id: int  # 0: it is not
    client_share: float


@dataclass(frozen=True)
class Reader:
    """A client for which replies wait."""

    client_id: int
    offender: Offender
    waiting_bytes: int
    stuck_ns: int  # since it last took anything


@dataclass(frozen=True)
class RunningScript:
    word: str  # SCRIPT or FUNCTION, whose KILL ends it
    elapsed_ns: int
    offender: Offender


@dataclass(frozen=True)
class Facts:
    """All that rules look at: of the last seconds where it is about time, else as it is now."""

    seconds: Sequence[Second]
    stop_ms: int  # Unix time
    wanted_s: int = 0  # how many seconds were asked for; there may be fewer
    # By event of the latency monitor, and by log of COMMANDLOG: what is not older than the seconds.
    spikes: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    slow: Sequence[SlowRequest] = ()
    large_requests: Sequence[Entry] = ()
    large_replies: Sequence[Entry] = ()
    # The hottest keys, and those that took most of the time.
    hot: Sequence[HotKeyFact] = ()
    hot_by_cpu: Sequence[HotKeyFact] = ()
    blame: Sequence[Inflicted] = ()  # who made others wait, the worst first
    # Right now.
    script: RunningScript | None = None
    readers: Sequence[Reader] = ()
    monitors: Sequence[tuple[int, Offender]] = ()  # by the client's id
    addresses: Mapping[str, int] = field(default_factory=dict)  # of those who are connected → client id
    numbers: Mapping[str, int] = field(default_factory=dict)  # of the process: see engine/doctor.py
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Of commands that ran.
    fast: frozenset[str] = frozenset()
    complexity: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def grown(self) -> Counts:
        return total(self.seconds)

    @cached_property
    def elapsed_ns(self) -> int:
        return max(1, sum(second.elapsed_ns for second in self.seconds))

    @property
    def elapsed_s(self) -> float:
        return self.elapsed_ns / 1e9

    @property
    def start_ms(self) -> int:
        return self.stop_ms - self.elapsed_ns // 1_000_000

    def total(self, kind: str, name: str) -> int:
        return self.grown.get((kind, name), 0)

    def by_name(self, kind: str) -> dict[str, int]:
        return by_name(self.grown, kind)

    def deeds(self, kind: str) -> list[tuple[str, Deed]]:
        return deeds_of(self.seconds, kind)

    def own_ns(self, kind: str, name: str) -> int:
        """The time that something took, without what others on this machine took away meanwhile.

        In each second that is the same part of everything that ran: what the process waited for a processor, of what
        it ran and waited.
        """
        own = 0.0
        for second in self.seconds:
            elapsed_ns = second.grown.get((kind, name), 0)
            if elapsed_ns:
                own += elapsed_ns * (1 - stolen_share(second))
        return round(own)

    def is_connected(self, offender: Offender) -> bool:
        return offender.address in self.addresses


def stolen_share(second: Second) -> float:
    waited_ns = second.grown.get(("total", "processor_wait_ns"), 0)
    ran_ns = second.grown.get(("total", "processor_ns"), 0)
    return waited_ns / (waited_ns + ran_ns) if waited_ns > 0 else 0.0


@dataclass(frozen=True)
class Finding:
    severity: str
    evidence: str  # a sentence or two, with numbers
    numbers: Mapping[str, int | float]  # the same for programs, by names with their units
    why: str  # it hurts
    run: str  # a command, as redis-cli takes it
    cures: bool  # whether that command ends it; else it shows more
    verify: str  # how to see that it is over
    advice: str = ""  # what to change for good
    culprit: Offender = NOBODY
    cost_ns: int = 0  # of everybody's time, as far as it is known
    # Of the rule.
    id: str = ""
    area: str = ""


def to_json(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """For DOCTOR JSON; keys and names that are not UTF-8 are shown with escapes."""
    return {
        "from": facts.start_ms // 1_000,
        "to": facts.stop_ms // 1_000,
        "seconds": round(facts.elapsed_s, 3),
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity,
                "area": finding.area,
                "culprit": _culprit_json(finding.culprit),
                "evidence": {
                    "text": finding.evidence,
                    "numbers": dict(finding.numbers),
                    "from": facts.start_ms // 1_000,
                    "to": facts.stop_ms // 1_000,
                },
                "why": finding.why,
                "run": finding.run,
                "run_ends_it": finding.cures,
                "advice": finding.advice,
                "verify": finding.verify,
            }
            for finding in findings
        ],
    }


def _culprit_json(culprit: Offender) -> dict[str, Any]:
    return {
        "command": culprit.command,
        "key": _decoded(culprit.key),
        "client": culprit.address,
        "client_name": _decoded(culprit.client_name),
        "slowlog_id": culprit.slowlog_id if culprit.slowlog_id >= 0 else None,
    }


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def to_text(facts: Facts, findings: Sequence[Finding]) -> str:
    span = f"{facts.elapsed_s:.0f} s until {_time_of(facts.stop_ms)}"
    if not findings:
        return f"Nothing is wrong, as far as the last {span} can tell.\n"
    lines = [f"{len(findings)} finding{'s' * (len(findings) > 1)} in the last {span}:"]
    for number, finding in enumerate(findings, 1):
        lines += ["", f"{number}. {finding.id} ({finding.severity}): {finding.evidence}"]
        lines += [f"   {line}" for line in _details(finding)]
    return "\n".join(lines) + "\n"


def memory_text(facts: Facts, findings: Sequence[Finding]) -> str:
    """MEMORY DOCTOR: a line for each finding."""
    if not findings:
        if facts.numbers.get("used_bytes", 0) < LITTLE_BYTES:
            return "There is little data, of which nothing can be told yet.\n"
        return "Nothing about the memory in use is unusual.\n"
    return "".join(f"{finding.evidence} {finding.why} {_proposal(finding)}\n" for finding in findings)


def _proposal(finding: Finding) -> str:
    return f"Run {finding.run}. {finding.advice}".rstrip()


def _details(finding: Finding) -> Iterator[str]:
    culprit = culprit_text(finding.culprit)
    if culprit:
        yield f"Culprit: {culprit}."
    yield f"Why: {finding.why}"
    yield f"Run: {finding.run} ({'ends it' if finding.cures else 'shows more'})"
    if finding.advice:
        yield f"For good: {finding.advice}"
    yield f"Verify: {finding.verify}"


def _time_of(time_ms: int) -> str:
    minutes, second = divmod(time_ms // 1_000 % 86_400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02} UTC"


def culprit_text(offender: Offender) -> str:
    parts = []
    if offender.command:
        parts.append(f"{shown_command(offender.command)}")
    if offender.key:
        parts.append(f"key {quoted(offender.key)}")
    if offender.address:
        name = f" ({quoted(offender.client_name)})" if offender.client_name else ""
        parts.append(f"client {offender.address}{name}")
    if offender.slowlog_id >= 0:
        parts.append(f"slow log entry {offender.slowlog_id}")
    return ", ".join(parts)


def shown_command(name: str) -> str:
    return name.upper().replace("|", " ")


def quoted(data: bytes) -> str:
    return ascii(data.decode("utf-8", "backslashreplace"))


def ranked(findings: Sequence[Finding], order: Mapping[str, int]) -> list[Finding]:
    """The worst first; `order` is the place of each rule in its table."""
    return sorted(
        findings,
        key=lambda finding: (
            _SEVERITIES.index(finding.severity),
            -finding.cost_ns,
            order[finding.id],
            finding.culprit.command,
            finding.culprit.key,
            finding.culprit.address,
        ),
    )
