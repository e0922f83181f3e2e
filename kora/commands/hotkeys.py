"""HOTKEYS, in three tongues, and the STATS commands of the first Kora.

HOTKEYS TOP is Kora's own: it is always on, and looks back as far as 15 minutes.  START, STOP and GET are those of
Redis 8.6, for a session.  GET without a session that was started is Valkey's, which lists the top keys of the last
window; and RESET forgets the session if there is one, else (as Valkey's) all that was recorded.
"""

from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, SyntaxFault
from kora.observe.histogram import merged, percentiles
from kora.observe.hot_session import HotSession
from kora.observe.hot_windows import METRICS, WINDOWS_MAX, HotKey, Ranking
from kora.resp.reply import OK, PrintedDouble, Reply
from kora.store.slots import SLOTS
from kora.types.number import parse_float, parse_integer

hotkeys = Family("server")

_FLAGS: Final = "admin noscript loading stale"
# Redis' limits (hotkeys.c), and ours: as many keys as are listed in a second.
_SESSION_KEYS: Final = 10
_SESSION_KEYS_MAX: Final = 64
_DURATION_S_MAX: Final = 1_000_000
_KEYS_MAX: Final = 1024

hotkeys.container("HOTKEYS", "Commands about the keys that are used most.", since="8.6.0", help_since="8.6.0")


@hotkeys(
    "HOTKEYS TOP count:int [BY <READS | WRITES | CPU | NET>] [LAST seconds:int | AT unix-time-seconds:int]",
    "Returns the keys that are used most: in the last hotkey-window-seconds, in other last seconds, or in one second of"
    " the last 15 minutes.",
    flags=_FLAGS,
    since="8.6.0",
    complexity="O(N) where N is the number of seconds.",
    tips=("nondeterministic_output",),
)
def hotkeys_top(client: Client, argv: list[bytes]) -> Reply:
    count = _between(argv[2], 1, _KEYS_MAX, f"ERR count must be between 1 and {_KEYS_MAX}")
    metric = b"ACCESSES"
    records = client.engine.hot_keys
    seconds = client.engine.config.hotkey_window_seconds
    unix_s = None
    words = argv[3:]
    if len(words) % 2:
        raise SyntaxFault
    for option, value in zip(words[::2], words[1::2], strict=True):
        match option.upper():
            case b"BY" if value.upper() in METRICS:
                metric = value.upper()
            case b"LAST" if unix_s is None:
                seconds = _between(value, 1, WINDOWS_MAX, f"ERR seconds must be between 1 and {WINDOWS_MAX}")
            case b"AT" if unix_s is None and b"LAST" not in [word.upper() for word in words[::2]]:
                unix_s = parse_integer(value)
            case _:
                raise SyntaxFault
    ranking = records.last(seconds, metric) if unix_s is None else records.at(unix_s, metric)
    return {
        "seconds": _printed(ranking.elapsed_ns / 1e9, 3),
        "sampling-ratio": records.ratio,
        "accesses": ranking.recorded,
        "keys": [_described(client, key, ranking) for key in ranking.keys[:count]],
    }


def _described(client: Client, key: HotKey, ranking: Ranking) -> dict[str, Reply]:
    user = client.engine.clients.get(key.client)
    elapsed_s = ranking.elapsed_ns / 1e9
    return {
        "key": key.shown_name,
        "db": key.database,
        "slot": key.slot,
        "accesses": key.accesses,
        "error": key.error,
        "reads": key.reads,
        "writes": key.writes,
        "per-second": _printed(key.accesses / elapsed_s, 3),
        "share": _printed(key.accesses / max(ranking.recorded, 1), 6),
        "cpu-us": key.cpu_ns // 1_000,
        "net-bytes": key.net_bytes,
        "client-id": key.client,
        "client-addr": user.address if user is not None else "",
        "client-name": user.name if user is not None else b"",
        "client-share": _printed(min(1.0, key.client_lead / max(key.accesses, 1)), 6),
    }


def _printed(value: float, digits: int) -> PrintedDouble:
    return PrintedDouble(f"{value:.{digits}f}".encode())


@hotkeys(
    "HOTKEYS GET [TYPE <READ | WRITE | ALL>]",
    "Returns what the session that HOTKEYS START began has found; without one, or with TYPE, the keys that are used"
    " most.",
    flags=_FLAGS,
    since="8.6.0",
    complexity="O(K) where K is the number of keys returned.",
    tips=("nondeterministic_output",),
)
def hotkeys_get(client: Client, argv: list[bytes]) -> Reply:
    kind = b"all"
    if len(argv) > 2:
        if len(argv) != 4 or argv[2].upper() != b"TYPE" or argv[3].lower() not in _METRIC_OF_TYPE:
            raise SyntaxFault
        kind = argv[3].lower()
    else:
        session = client.engine.hot_keys.found()
        if session is not None:
            return [_report(session, client.engine.hot_keys.is_tracking)]
    config = client.engine.config
    ranking = client.engine.hot_keys.last(config.hotkey_window_seconds, _METRIC_OF_TYPE[kind])
    count_of = METRICS[_METRIC_OF_TYPE[kind]]
    return [
        {
            "key": key.shown_name,
            "qps": round(count_of(key) * 1_000_000_000 / ranking.elapsed_ns),
            "db": key.database,
            "type": kind,
        }
        for key in ranking.keys[: config.hotkey_top_k]
    ]


_METRIC_OF_TYPE: Final = {b"read": b"READS", b"write": b"WRITES", b"all": b"ACCESSES"}


def _report(session: HotSession, is_active: bool) -> dict[str, Reply]:
    started, stopped = session.started, session.stopped
    assert stopped is not None
    # CONFIG RESETSTAT may have come in between.
    net_bytes = max(0, stopped.net_bytes - started.net_bytes)
    report: dict[str, Reply] = {
        "tracking-active": int(is_active),
        "sample-ratio": session.sampling_ratio,
        "selected-slots": session.slot_ranges,
    }
    if session.slots and session.counts_cpu:
        report["all-commands-selected-slots-us"] = session.cpu_ns // 1_000
    report["all-commands-all-slots-us"] = max(0, stopped.commands_ns - started.commands_ns) // 1_000
    if session.slots and session.counts_net:
        report["net-bytes-all-commands-selected-slots"] = session.net_bytes
    report["net-bytes-all-commands-all-slots"] = net_bytes
    report["collection-start-time-unix-ms"] = started.wall_ms
    report["collection-duration-ms"] = (stopped.monotonic_ns - started.monotonic_ns) // 1_000_000
    if session.counts_cpu:
        report["total-cpu-time-user-ms"] = (stopped.cpu_user_ns - started.cpu_user_ns) // 1_000_000
        report["total-cpu-time-sys-ms"] = (stopped.cpu_system_ns - started.cpu_system_ns) // 1_000_000
    if session.counts_net:
        report["total-net-bytes"] = net_bytes
    if session.counts_cpu:
        report["by-cpu-time-us"] = [
            word for key in session.by_cpu() for word in (key.shown_name, max(1, key.cpu_ns // 1_000))
        ]
    if session.counts_net:
        report["by-net-bytes"] = [word for key in session.by_net() for word in (key.shown_name, key.net_bytes)]
    return report


@hotkeys(
    "HOTKEYS START METRICS count:int [CPU] [NET] [COUNT k:int] [DURATION seconds:int] [SAMPLE ratio:int]"
    " [SLOTS slots-count:int slot:int [slot:int ...]]",
    "Begins a session, which finds the keys that take most CPU time and most bytes.",
    flags=_FLAGS,
    since="8.6.0",
    arity=-2,
)
def hotkeys_start(client: Client, argv: list[bytes]) -> Reply:
    records = client.engine.hot_keys
    records.advance()
    if records.is_tracking:
        raise CommandError("ERR hotkey tracking session already in progress")
    words = argv[2:]
    if len(words) < 2 or words[0].upper() != b"METRICS":
        raise CommandError("ERR METRICS parameter is required")
    metrics_count = _between(words[1], 1, 2, "ERR METRICS count must be > 0 and <= 2")
    metrics = [word.upper() for word in words[2 : 2 + metrics_count]]
    for metric in (b"CPU", b"NET"):
        if metrics.count(metric) > 1:
            raise CommandError(f"ERR METRICS {metric.decode()} defined more than once!")
    if len(metrics) < metrics_count:
        raise CommandError("ERR METRICS count does not match number of metric types provided")
    if not {b"CPU", b"NET"} & {*metrics}:
        raise CommandError("ERR METRICS no valid metrics passed. Supported: CPU|NET")
    keys_shown, duration_s, ratio = _SESSION_KEYS, 0, 1
    slots: list[int] = []
    words = words[2 + metrics_count :]
    while words:
        option, *values = words
        if not values:
            raise SyntaxFault
        taken = 2
        match option.upper():
            case b"COUNT":
                keys_shown = _between(values[0], 1, _SESSION_KEYS_MAX, "ERR COUNT must be between 1 and 64")
            case b"DURATION":
                text = f"ERR DURATION must be between 1 and {_DURATION_S_MAX}"
                duration_s = _between(values[0], 1, _DURATION_S_MAX, text)
            case b"SAMPLE":
                ratio = _between(values[0], 1, (1 << 31) - 1, "ERR SAMPLE ratio must be positive")
            case b"SLOTS" if not slots:
                slots = _slots(values)
                taken += len(slots)
            case _:
                raise SyntaxFault
        words = words[taken:]
    totals = records.totals()
    records.start(
        HotSession(
            counts_cpu=b"CPU" in metrics,
            counts_net=b"NET" in metrics,
            keys_shown=keys_shown,
            sampling_ratio=ratio,
            slots=frozenset(slots),
            slot_ranges=_ranges(sorted(slots)),
            started=totals,
            stop_ns=totals.monotonic_ns + duration_s * 1_000_000_000 if duration_s else 0,
        )
    )
    return OK


def _slots(words: list[bytes]) -> list[int]:
    count = _between(words[0], 1, SLOTS, f"ERR SLOTS count must be between 1 and {SLOTS}")
    slots = [_between(word, 0, SLOTS - 1, "ERR Invalid or out of range slot") for word in words[1 : 1 + count]]
    if len(slots) < count:
        raise CommandError("ERR SLOTS count does not match number of slots provided")
    if len({*slots}) < count:
        raise CommandError("ERR duplicate slot number")
    return slots


def _ranges(slots: list[int]) -> list[list[int]]:
    """Slots in order as Redis shows them: [slot], or [first, last] of several that follow each other."""
    ranges: list[list[int]] = []
    for slot in slots:
        if ranges and ranges[-1][-1] == slot - 1:
            ranges[-1][1:] = [slot]
        else:
            ranges.append([slot])
    return ranges


@hotkeys(
    "HOTKEYS STOP",
    "Ends the session; what it has found stays.",
    flags=_FLAGS,
    since="8.6.0",
)
def hotkeys_stop(client: Client, argv: list[bytes]) -> Reply:
    records = client.engine.hot_keys
    if records.session is None:
        return None
    if records.is_tracking:
        records.stop()
    return OK


@hotkeys(
    "HOTKEYS RESET",
    "Forgets what the session has found, once it has ended; without one, all that was recorded.",
    flags=_FLAGS,
    since="8.6.0",
)
def hotkeys_reset(client: Client, argv: list[bytes]) -> Reply:
    records = client.engine.hot_keys
    records.advance()
    if records.is_tracking:
        raise CommandError("ERR hotkey tracking session in progress, stop tracking first")
    if records.session is not None:
        records.session = None
    else:
        records.reset()
    return OK


@hotkeys(
    "STATS.HOTKEYS count:int",
    "Returns the keys that are used most, each with how often it was in the last hotkey-window-seconds.",
    flags=_FLAGS,
    since="8.6.0",
    complexity="O(N) where N is the number of seconds.",
    tips=("nondeterministic_output",),
)
def stats_hotkeys(client: Client, argv: list[bytes]) -> Reply:
    count = _between(argv[1], 0, _KEYS_MAX, f"ERR count must be between 0 and {_KEYS_MAX}")
    ranking = client.engine.hot_keys.last(client.engine.config.hotkey_window_seconds, b"ACCESSES")
    return [[key.shown_name, key.accesses] for key in ranking.keys[:count]]


@hotkeys(
    "STATS.LATENCY command percentile:double [percentile:double ...]",
    "Returns how many milliseconds calls of a command took, at percentiles from 0 to 100.",
    flags=_FLAGS,
    since="8.6.0",
    complexity="O(N) where N is the number of percentiles.",
    tips=("nondeterministic_output",),
)
def stats_latency(client: Client, argv: list[bytes]) -> Reply:
    engine = client.engine
    command = engine.registry.named(argv[1])
    if command is None:
        raise CommandError("ERR Invalid command specified")
    wanted = [parse_float(word) for word in argv[2:]]
    if not all(0 <= percent <= 100 for percent in wanted):
        raise CommandError("ERR percentile must be between 0 and 100")
    rows = [command] if command.runs else [row for row in (command.subcommands or {}).values() if row.runs]
    counts = merged([shard.stats.commands[row.slot].counts.tobytes() for shard in engine.shards for row in rows])
    # percentiles() takes them in order.
    values = dict(zip(sorted(wanted), percentiles(counts, sorted(wanted)), strict=True))
    return [f"{values[percent] / 1e6:.3f}" for percent in wanted]


@hotkeys(
    "STATS.MEMORY prefix [prefix ...]",
    "Returns the bytes that the keys of the selected database which begin with each prefix take.",
    flags=f"{_FLAGS} readonly",
    since="8.6.0",
    complexity="O(N) where N is the number of keys in the database.",
)
def stats_memory(client: Client, argv: list[bytes]) -> Reply:
    db = client.db
    prefixes = argv[1:]
    sums = dict.fromkeys(prefixes, 0)
    any_of = tuple(sums)
    cursor, found = db.scan(0, 1000)
    keys = [key for key in found if key.startswith(any_of)]
    while cursor:
        cursor, found = db.scan(cursor, 1000)
        keys += [key for key in found if key.startswith(any_of)]
    # Afterwards, since a key whose time is over goes when it is looked at.
    for key in keys:
        size_bytes = db.usage_bytes(key) or 0
        for prefix in sums:
            if key.startswith(prefix):
                sums[prefix] += size_bytes
    return [sums[prefix] for prefix in prefixes]


def _between(word: bytes, least: int, most: int, text: str) -> int:
    """An integer from `least` to `most`.  Raises CommandError(text) for anything else."""
    number = parse_integer(word, CommandError(text))
    if not least <= number <= most:
        raise CommandError(text)
    return number
