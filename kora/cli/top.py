"""`kora top`: what a server does, in a terminal.

    kora top [redis://user:password@host:port | rediss://… | unix://…]   live; q quits, p pauses, Tab changes tables
    kora top --once                                                     a second of it as text
    kora top --json [--once]                                            a line of JSON each interval, for scripts

Over RESP alone, so that it works wherever redis-cli does.  Needs the extra `top`.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kora.cli.vitals import ClientRow, CommandRow, EventRow, HotKeyRow, Reading, SlowRow, Vitals, compare, read

if TYPE_CHECKING:
    import redis

DEFAULT_URL: Final = "redis://127.0.0.1:6379"
_UNKNOWN: Final = "-"
_WIDTH_MAX: Final = 60  # of a cell: keys and requests can be long
_REMEDY: Final = "kora top needs two packages more: pip install 'kora-server[top]'"


@dataclass(frozen=True)
class Column:
    title: str
    read: Callable[[Any], str]
    is_number: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, help=f"where the server is; {DEFAULT_URL} if left out")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks; 1 if left out")
    parser.add_argument("--once", action="store_true", help="print one interval and end")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each interval")


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    try:
        import redis
    except ImportError:
        print(_REMEDY, file=sys.stderr)
        return 1
    if not 0.1 <= options.interval <= 3600:
        print("kora top: the interval must be between 0.1 and 3600 seconds", file=sys.stderr)
        return 2
    try:
        client = redis.Redis.from_url(options.url, socket_timeout=10, socket_connect_timeout=10)
        first = read(client)
    except (redis.RedisError, ValueError, OSError) as error:
        print(f"kora top: {error}", file=sys.stderr)
        return 1
    if options.once or options.json:
        return _print(client, first, options)
    try:
        from kora.cli.top_app import TopApp
    except ImportError:
        print(_REMEDY, file=sys.stderr)
        return 1
    TopApp(lambda: read(client), first, options.interval).run()
    return 0


def _print(client: "redis.Redis", before: Reading, options: argparse.Namespace) -> int:
    import redis

    while True:
        time.sleep(options.interval)
        try:
            now = read(client)
        except (redis.RedisError, OSError) as error:
            print(f"kora top: {error}", file=sys.stderr)
            return 1
        vitals = compare(before, now)
        print(json.dumps(vitals.to_json()) if options.json else text(vitals, now_s=time.time()), flush=True)
        if options.once:
            return 0
        before = now


# What is shown of what, for the terminal and for plain text.


def headline(vitals: Vitals) -> list[str]:
    memory = f"memory {_bytes(vitals.used_bytes)}"
    if vitals.limit_bytes:
        memory += f" of {_bytes(vitals.limit_bytes)}"
    first = (
        f"{vitals.server}, up {_age(vitals.uptime_s)}",
        f"{_short(vitals.commands_per_s)} commands/s",
        f"{vitals.cpu:.0%} of a core",
        f"hits {_UNKNOWN if vitals.hit_ratio is None else f'{vitals.hit_ratio:.1%}'}",
        f"errors {_short(vitals.errors_per_s)}/s",
    )
    second = (
        f"{memory} (process {_bytes(vitals.rss_bytes)})",
        f"{_short(vitals.keys)} keys",
        f"{vitals.clients} clients, {vitals.blocked} blocked",
        f"in {_bytes(vitals.bytes_in_per_s)}/s",
        f"out {_bytes(vitals.bytes_out_per_s)}/s",
        f"expired {_short(vitals.expired_per_s)}/s",
        f"evicted {_short(vitals.evicted_per_s)}/s",
    )
    return ["   ".join(first), "   ".join(second)]


def tables(vitals: Vitals, now_s: float) -> dict[str, tuple[Sequence[Column], Sequence[Any] | None]]:
    """Title → columns and rows; None for rows that the server does not tell."""
    return {
        "Commands": (_COMMANDS, vitals.commands),
        "Hot keys": (_HOT_KEYS, vitals.hot_keys),
        "Slow log": (_slow_columns(now_s), vitals.slow),
        "Latency events": (_event_columns(now_s), vitals.events),
        "Clients": (_CLIENTS, vitals.client_rows),
    }


def cells(columns: Iterable[Column], row: Any) -> list[str]:
    return [_cut(column.read(row)) for column in columns]


def text(vitals: Vitals, now_s: float) -> str:
    lines = headline(vitals)
    for title, (columns, rows) in tables(vitals, now_s).items():
        lines += ["", title]
        if rows is None:
            lines.append("  not told by this server")
            continue
        if not rows:
            lines.append("  none")
            continue
        grid = [[column.title for column in columns], *(cells(columns, row) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        for line in grid:
            parts = [
                cell.rjust(width) if column.is_number else cell.ljust(width)
                for cell, width, column in zip(line, widths, columns, strict=True)
            ]
            lines.append("  " + "  ".join(parts).rstrip())
    return "\n".join(lines) + "\n"


def _name(title: str, read: Callable[[Any], str]) -> Column:
    return Column(title, read, is_number=False)


def _command_columns() -> tuple[Column, ...]:
    def p99(row: CommandRow) -> str:
        return _UNKNOWN if row.p99_us is None else _us(row.p99_us)

    return (
        _name("command", lambda row: row.name),
        Column("calls/s", lambda row: _short(row.calls_per_s)),
        Column("of the time", lambda row: f"{row.busy:.1%}"),
        Column("mean", lambda row: _us(row.mean_us)),
        Column("p99 ever", p99),
        Column("failed/s", lambda row: _short(row.failed_per_s)),
    )


def _hot_key_columns() -> tuple[Column, ...]:
    def split(row: HotKeyRow) -> str:
        return f"{row.writes / max(row.reads + row.writes, 1):.0%}"

    return (
        _name("key", lambda row: row.key),
        Column("per s", lambda row: _short(row.per_s)),
        Column("of all", lambda row: f"{row.share:.1%}"),
        Column("writes", split),
    )


def _client_columns() -> tuple[Column, ...]:
    def memory(row: ClientRow) -> str:
        return _bytes(row.memory_bytes)

    return (
        Column("id", lambda row: row.id),
        _name("address", lambda row: row.address),
        _name("name", lambda row: row.name),
        _name("user", lambda row: row.user),
        _name("last command", lambda row: row.command),
        Column("idle", lambda row: _age(row.idle_s)),
        Column("memory", memory),
    )


_COMMANDS: Final = _command_columns()
_HOT_KEYS: Final = _hot_key_columns()
_CLIENTS: Final = _client_columns()


def _slow_columns(now_s: float) -> tuple[Column, ...]:
    def ago(row: SlowRow) -> str:
        return _age(now_s - row.time_s)

    return (
        Column("id", lambda row: str(row.id)),
        Column("ago", ago),
        Column("took", lambda row: _us(row.elapsed_us)),
        _name("request", lambda row: row.request),
        _name("client", lambda row: row.client),
    )


def _event_columns(now_s: float) -> tuple[Column, ...]:
    def ago(row: EventRow) -> str:
        return _age(now_s - row.time_s)

    return (
        _name("event", lambda row: row.name),
        Column("ago", ago),
        Column("last", lambda row: f"{row.last_ms} ms"),
        Column("most", lambda row: f"{row.max_ms} ms"),
    )


# Numbers for people.


def _short(value: float) -> str:
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.1f}{letter}"
    return f"{value:.0f}" if value == int(value) or value >= 10 else f"{value:.1f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _us(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} s"
    return f"{value / 1e3:.1f} ms" if value >= 1e3 else f"{value:.1f} µs"


def _age(elapsed_s: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if elapsed_s >= unit_s:
            return f"{int(elapsed_s / unit_s)} {unit}"
    return f"{max(0, int(elapsed_s))} s"


def _cut(cell: str) -> str:
    plain = "".join(letter if letter.isprintable() else "·" for letter in cell)
    return plain if len(plain) <= _WIDTH_MAX else plain[: _WIDTH_MAX - 1] + "…"
