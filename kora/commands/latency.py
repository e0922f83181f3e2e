"""LATENCY and MONITOR: what took long, how long commands take, and what runs right now."""

from collections.abc import Iterable
from typing import Final

from kora.engine.client import Client
from kora.engine.doctor import gather
from kora.engine.registry import Command, Family
from kora.errors import CommandError, SyntaxFault
from kora.observe import histogram, latency_report
from kora.observe.blame import WINDOWS_MAX, Inflicted
from kora.observe.doctor import LAST_S, to_text
from kora.observe.doctor_rules import examine
from kora.observe.spikes import EVENTS, graph
from kora.resp.reply import OK, PrintedDouble, Replies, Reply, Verbatim
from kora.types.number import parse_integer

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
    "LATENCY HISTOGRAM [BY <EXEC | WAIT | SERVICE>] [command [command ...]]",
    "Returns how many calls took at most so many microseconds, for some commands or for all that were called: to run "
    "(EXEC), to begin once they could be read (WAIT), or from then until they were answered (SERVICE).",
    flags=_FLAGS,
    since="7.0.0",
    complexity="O(N) where N is the number of commands with latency information being retrieved.",
    tips=_TIPS,
)
def histograms(client: Client, argv: list[bytes]) -> Reply:
    engine = client.engine
    names = argv[2:]
    # Not the words alone, since WAIT and EXEC are commands that may be asked for.
    blocks = [shard.stats.commands for shard in engine.shards]
    if names and names[0].upper() == b"BY":
        if len(names) < 2:
            raise SyntaxFault
        match names[1].upper():
            case b"EXEC":
                pass
            case b"WAIT":
                blocks = [engine.service.waits]
            case b"SERVICE":
                blocks = [engine.service.services]
            case _:
                raise SyntaxFault
        names = names[2:]
    found: dict[Reply, Reply] = {}
    for command in _wanted(client, names) if names else engine.registry.slots:
        rows = [block[command.slot].counts.tobytes() for block in blocks]
        counts = histogram.merged([row for row in rows if row])
        calls = sum(counts)
        if calls:
            found[command.name] = {"calls": calls, "histogram_usec": histogram.steps_us(counts)}
    return found


@latency(
    "LATENCY BLAME [LAST seconds:int] [TOP count:int]",
    "Returns who made others wait, the worst first: what it ran, its key's beginning and its client, how many reads of "
    "others waited for it, for how many seconds (and at least and at most, since it is not always known when requests "
    "came), and what share that is of all waiting.",
    flags=_FLAGS,
    since="7.2.0",
    complexity="O(N) where N is the number of seconds.",
    tips=_TIPS,
)
def blame(client: Client, argv: list[bytes]) -> Reply:
    seconds, count = _BLAME_SECONDS, _BLAME_COUNT
    words = argv[2:]
    if len(words) % 2:
        raise SyntaxFault
    for option, value in zip(words[::2], words[1::2], strict=True):
        match option.upper():
            case b"LAST":
                seconds = _between(value, WINDOWS_MAX, "seconds")
            case b"TOP":
                count = _between(value, _BLAME_COUNT_MAX, "count")
            case _:
                raise SyntaxFault
    return [_described(row) for row in client.engine.blame.top(seconds, count)]


_BLAME_SECONDS: Final = 60
_BLAME_COUNT: Final = 10
_BLAME_COUNT_MAX: Final = 1_000


def _between(word: bytes, highest: int, name: str) -> int:
    error = CommandError(f"ERR {name} must be between 1 and {highest}")
    number = parse_integer(word, error)
    if not 1 <= number <= highest:
        raise error
    return number


def _described(row: Inflicted) -> dict[Reply, Reply]:
    return {
        "culprit": row.culprit.name,
        "key-prefix": row.culprit.key_prefix,
        "client-addr": row.culprit.address,
        "client-name": row.culprit.client_name,
        "victims": row.victims,
        "seconds": _printed(row.waited_ns / 1e9),
        "seconds-min": _printed(row.waited_ns_min / 1e9),
        "seconds-max": _printed(row.waited_ns_max / 1e9),
        "share": _printed(row.share),
    }


def _printed(value: float) -> PrintedDouble:
    return PrintedDouble(f"{value:.6f}".encode())


def _wanted(client: Client, names: Iterable[bytes]) -> Iterable[Command]:
    """Those that are known; for a container, its subcommands."""
    for name in names:
        command = client.engine.registry.named(name)
        if command is None:
            continue
        if command.runs:
            yield command
        yield from (command.subcommands or {}).values()


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
