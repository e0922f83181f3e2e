"""LATENCY DOCTOR: what the latency monitor has seen, in words, with what may help.

The same spikes give the same report, but for the periods, which grow.  Each finding names the culprit that its worst
spike kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from kora.observe.doctor import culprit_text
from kora.observe.spikes import EVENTS_BY_NAME, Offender, Series, Spikes


@dataclass(frozen=True)
class Settings:
    """What the advice depends on."""

    threshold_ms: int
    slower_than_us: int
    slowlog_max: int
    hz: int
    lazy_eviction: bool


@dataclass(frozen=True)
class Statistics:
    """Of a series: whole ms, rounded down, as Redis has them (latency.c, analyzeLatencyForEvent)."""

    samples: int
    average_ms: int
    deviation_ms: int  # the mean of how far samples are from the average
    period_s: int  # since the oldest sample


def statistics(series: Series, now_s: int) -> Statistics:
    values = [sample.latency_ms for sample in series.samples]
    average_ms = sum(values) // len(values)
    deviation_ms = sum(abs(value - average_ms) for value in values) // len(values)
    return Statistics(len(values), average_ms, deviation_ms, max(1, now_s - series.samples[0].time_s))


def render(spikes: Spikes, settings: Settings, now_s: int) -> str:
    names = spikes.names()
    if not names and not settings.threshold_ms:
        return (
            "The latency monitor is off, so there is nothing to report.\n"
            "Turn it on with: CONFIG SET latency-monitor-threshold 10\n"
        )
    if not names:
        return f"No event took {settings.threshold_ms} ms or more since the start or the last LATENCY RESET.\n"
    lines = [f"{len(names)} kind{'s' * (len(names) > 1)} of events took {_threshold(settings)} long:", ""]
    advice: dict[str, None] = {}  # each but once, in the order in which they come up
    for number, name in enumerate(names, 1):
        series = spikes.series[name]
        found = statistics(series, now_s)
        lines.append(
            f"{number}. {name}: {found.samples} latency spikes (average {found.average_ms}ms, mean deviation "
            f"{found.deviation_ms}ms, period {found.period_s / found.samples:.2f} sec). Worst all time event "
            f"{series.latency_ms_max}ms."
        )
        lines.append(f"   {EVENTS_BY_NAME[name].times}")
        culprit = culprit_text(series.worst)
        if culprit:
            lines.append(f"   The worst: {culprit}.")
        advice.update(dict.fromkeys(_ADVICE.get(name, _no_advice)(series.worst, settings)))
    if advice:
        lines += ["", "What may help:", "", *(f"- {line}" for line in advice)]
    return "\n".join(lines) + "\n"


def _threshold(settings: Settings) -> str:
    return f"{settings.threshold_ms} ms or" if settings.threshold_ms else "too"


def _of_command(worst: Offender, settings: Settings) -> Iterator[str]:
    threshold_us = settings.threshold_ms * 1_000
    if settings.slower_than_us < 0 or not settings.slowlog_max:
        yield (
            f"The slow log is off: turn it on with CONFIG SET slowlog-log-slower-than {threshold_us or 10_000} "
            "slowlog-max-len 128."
        )
    elif threshold_us and settings.slower_than_us > threshold_us:
        yield (
            f"The slow log misses some of these: CONFIG SET slowlog-log-slower-than {threshold_us} writes down what "
            "the latency monitor notes."
        )
    else:
        yield "SLOWLOG GET shows which requests these were, by whom, and how often."
    yield _SPLIT
    if worst.command == "del":
        yield "DEL takes its time for each key, whatever its value: delete some at a time."
    elif worst.command in ("flushall", "flushdb"):
        yield "Flushing takes as long as there are keys and values: ASYNC frees them in the background."
    elif worst.command == "keys":
        yield "KEYS looks at every key there is: use SCAN."


def _of_script(worst: Offender, settings: Settings) -> Iterator[str]:
    yield "A script runs while everybody else waits: let each call do less, and keep loops over many keys out of it."


def _of_fast_command(worst: Offender, settings: Settings) -> Iterator[str]:
    yield (
        "Fast commands should not take long whatever they are given: measure what the machine itself takes away with "
        "redis-cli --intrinsic-latency 100, and look for other processes on its processors, swapping, or a host that "
        "gives this machine too little."
    )


def _of_expiry(worst: Offender, settings: Settings) -> Iterator[str]:
    if settings.hz < 100:
        yield (
            f"Keys that end are deleted {settings.hz} times a second: a higher hz, such as CONFIG SET hz 100, makes "
            "that more often and less at a time."
        )
    yield "Give deadlines that were set together a random part, so that keys do not end all at once."
    yield _SPLIT


def _of_eviction(worst: Offender, settings: Settings) -> Iterator[str]:
    if not settings.lazy_eviction:
        yield "CONFIG SET lazyfree-lazy-eviction yes frees large values in the background when their keys are evicted."
    yield "Raise maxmemory, or store less: many keys at a time are evicted when writes are faster than that."
    yield _SPLIT


def _of_lag(worst: Offender, settings: Settings) -> Iterator[str]:
    if worst.command:
        yield "Everybody waited while the loop was late: what the culprit does is the first thing to change."
    else:
        yield (
            "The loop was late and no command was: look for other processes on this machine, and at how many clients "
            "are served at once."
        )


def _of_gc(worst: Offender, settings: Settings) -> Iterator[str]:
    yield "Collections look at every object of the interpreter's own: many clients and large transactions make more."


def _no_advice(worst: Offender, settings: Settings) -> Iterator[str]:
    yield from ()


_SPLIT: Final = "Large values make slow commands: split them, or ask for parts of them."
_ADVICE: Final[dict[str, Callable[[Offender, Settings], Iterator[str]]]] = {
    "command": _of_command,
    "command-unblocking": _of_command,
    "script": _of_script,
    "fast-command": _of_fast_command,
    "expire-cycle": _of_expiry,
    "expire-del": _of_expiry,
    "eviction-cycle": _of_eviction,
    "eviction-del": _of_eviction,
    "eviction-lazyfree": _of_eviction,
    "loop-lag": _of_lag,
    "gc": _of_gc,
}
