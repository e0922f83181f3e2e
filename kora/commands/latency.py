"""LATENCY and MONITOR: what took long, how long commands take, and what runs right now."""

from collections.abc import Iterable
from typing import Final

from kora.engine.client import Client
from kora.engine.doctor import gather
from kora.engine.registry import Command, Family
from kora.errors import CommandError
from kora.observe import histogram, latency_report
from kora.observe.doctor import LAST_S, to_text
from kora.observe.doctor_rules import examine
from kora.observe.spikes import EVENTS, graph
from kora.resp.reply import OK, Replies, Reply, Verbatim

latency = Family("server")

_FLAGS: Final = "admin noscript loading stale"
# Of DOCTOR's findings those that are about time.
_AREAS: Final = ("latency", "persistence", "machine")
_TIPS: Final = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")

latency.container(
    "LATENCY",
    "Commands about what took long: the latency monitor, and histograms of commands.",
    since="2.8.13",
    help_since="2.8.13",
    help_notes=(
        "Events:",
        *(f"    {event.name}: {event.times}" for event in EVENTS if not event.never),
        "Events of Redis that cannot happen here:",
        *(f"    {event.name}: {event.never}." for event in EVENTS if event.never),
    ),
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _now_s(client: Client) -> int:
    return client.engine.clock.wall_ms() // 1_000


@latency(
    "LATENCY LATEST",
    "Returns, for each event with spikes: its name, the Unix time of the last one, its ms, the most ms, their sum and "
    "their number.",
    flags=_FLAGS,
    since="2.8.13",
    tips=_TIPS,
)
def latest(client: Client, argv: list[bytes]) -> Reply:
    spikes = client.engine.slowness.spikes
    rows = ((name, spikes.series[name]) for name in spikes.names())
    return [
        [
            name,
            series.samples[-1].time_s,
            series.samples[-1].latency_ms,
            series.latency_ms_max,
            series.sum_ms,
            series.count,
        ]
        for name, series in rows
    ]


@latency(
    "LATENCY HISTORY event",
    "Returns the spikes of an event: Unix times, each with the most ms of that second, the oldest first.",
    flags=_FLAGS,
    since="2.8.13",
    tips=_TIPS,
)
def history(client: Client, argv: list[bytes]) -> Reply:
    series = client.engine.slowness.spikes.series.get(_text(argv[2]))
    return [[sample.time_s, sample.latency_ms] for sample in series.samples] if series is not None else []


@latency(
    "LATENCY GRAPH event",
    "Draws the spikes of an event as a graph of text.",
    flags=_FLAGS,
    since="2.8.13",
    tips=_TIPS,
)
def draw(client: Client, argv: list[bytes]) -> Reply:
    name = _text(argv[2])
    series = client.engine.slowness.spikes.series.get(name)
    if series is None:
        raise CommandError(f"ERR No samples available for event '{name}'")
    return Verbatim(graph(name, series, _now_s(client)))


@latency(
    "LATENCY RESET [event [event ...]]",
    "Forgets the spikes of some events, or of all, and returns of how many events there were any.",
    flags=_FLAGS,
    since="2.8.13",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def reset(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.slowness.spikes.reset(_text(word) for word in argv[2:])


@latency(
    "LATENCY DOCTOR",
    "Reports in plain words what took long, who did it, and what may help.",
    flags=_FLAGS,
    since="2.8.13",
    tips=_TIPS,
)
def doctor(client: Client, argv: list[bytes]) -> Reply:
    config = client.engine.config
    settings = latency_report.Settings(
        threshold_ms=config.latency_monitor_threshold,
        slower_than_us=config.slowlog_log_slower_than,
        slowlog_max=config.slowlog_max_len,
        hz=config.hz,
        lazy_eviction=config.lazyfree_lazy_eviction,
    )
    report = latency_report.render(client.engine.slowness.spikes, settings, _now_s(client))
    facts = gather(client.engine, LAST_S)
    findings = examine(facts, _AREAS)
    return Verbatim(f"{report}\n{to_text(facts, findings)}" if findings else report)


@latency(
    "LATENCY HISTOGRAM [command [command ...]]",
    "Returns how many calls took at most so many microseconds, for some commands or for all that were called.",
    flags=_FLAGS,
    since="7.0.0",
    complexity="O(N) where N is the number of commands with latency information being retrieved.",
    tips=_TIPS,
)
def histograms(client: Client, argv: list[bytes]) -> Reply:
    registry = client.engine.registry
    found: dict[Reply, Reply] = {}
    for command in _wanted(client, argv[2:]) if len(argv) > 2 else registry.slots:
        rows = [shard.stats.commands[command.slot].counts.tobytes() for shard in client.engine.shards]
        counts = histogram.merged([row for row in rows if row])
        calls = sum(counts)
        if calls:
            found[command.name] = {"calls": calls, "histogram_usec": _steps(counts)}
    return found


def _wanted(client: Client, names: Iterable[bytes]) -> Iterable[Command]:
    """Those that are known; for a container, its subcommands."""
    for name in names:
        command = client.engine.registry.named(name)
        if command is None:
            continue
        if command.runs:
            yield command
        yield from (command.subcommands or {}).values()


def _steps(counts: histogram.Counts) -> dict[int, int]:
    """Microseconds → how many calls took at most that, where that grows: the powers of two of a µs, as in Redis."""
    steps: dict[int, int] = {}
    before = 0
    for edge_us, count in zip(_EDGES_US, histogram.cumulative(counts, _EDGES_NS), strict=True):
        if count > before:
            steps[edge_us] = count
        before = count
    return steps


# Redis goes through its histograms by doubling steps from 1,024 ns on, and shows each by the highest value of the
# bucket that it ends in; its histograms end at 1.07 s, and these go on.
_ENDS_AT: Final = 1 << 30
_EDGES_NS: Final = tuple(
    (1 << power) - 1 if 1 << power == _ENDS_AT else histogram.highest_of(histogram.index_of(1 << power))
    for power in range(10, 37)
)
_EDGES_US: Final = tuple(edge_ns // 1_000 for edge_ns in _EDGES_NS)


@latency(
    "MONITOR",
    "Shows every request that the server runs, as it runs; the server is slower meanwhile.",
    flags=_FLAGS,
    since="1.0.0",
    complexity="",
)
def monitor(client: Client, argv: list[bytes]) -> Reply:
    if client.engine.nested:
        raise CommandError("ERR MONITOR isn't allowed for DENY BLOCKING client")
    if client.is_monitor:
        return Replies()  # as in Redis: it is one already, and OK would look like a line
    client.engine.slowness.monitors.add(client)
    return OK
