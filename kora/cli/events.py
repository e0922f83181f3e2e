"""`kora track` and `kora read`: count something, and see what was counted.

    kora track KEY [VALUE] [--at MS]                    as /track does
    kora read KEY [TYPE] [--last 6h] [--period 60]      as /read does: points, unless another type is asked for
    kora read KEY stats --last 1d --chart               as a plot in this terminal; needs the extra `chart`

Over HTTP, from events-port or the sidecar's other port.
"""

import argparse
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final

DEFAULT_URL: Final = "http://127.0.0.1:3000"
TYPES: Final = ("counter", "points", "rate", "gauge", "stats")
_REMEDY: Final = "kora read --chart needs a package more: pip install 'kora-server[chart]'"
_LAST: Final = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
# What is plotted of stats; the others would press them together.
_PLOTTED: Final = ("p50", "p99", "max")
_TICKS: Final = 5
_HEIGHT: Final = 18


class _Failure(Exception):
    """One line that says what is wrong."""


def add_track_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key")
    parser.add_argument("value", nargs="?", help="1 if left out")
    parser.add_argument("--at", metavar="MS", help="when it was, as Unix time in ms; now if left out")
    _add_server(parser)


def add_read_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key")
    parser.add_argument("type", nargs="?", choices=TYPES, default="points", help="one of %(choices)s; or else points")
    parser.add_argument("--last", metavar="TIME", help="of the last 30s, 15m, 6h, 7d or 4w")
    parser.add_argument("--from", dest="from_ms", metavar="MS", help="from this Unix time on")
    parser.add_argument("--to", metavar="MS", help="until this Unix time")
    parser.add_argument("--period", metavar="SECONDS", help="60 if left out")
    parser.add_argument("--fill", choices=("none", "zero"), help="whether periods without values are shown as 0")
    parser.add_argument("--chart", action="store_true", help="plot it in this terminal")
    parser.add_argument("--json", action="store_true", help="print the server's answer as it is")
    _add_server(parser)


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=DEFAULT_URL, help=f"where the server is; {DEFAULT_URL} if left out")
    parser.add_argument("--token", default="", help="what events-token is")


def track(options: argparse.Namespace) -> int:
    """The exit code."""
    try:
        _ask(options, "/track", {"key": options.key, "value": options.value, "at": options.at})
    except _Failure as failure:
        print(f"kora track: {failure}", file=sys.stderr)
        return 1
    return 0


def read(options: argparse.Namespace) -> int:
    """The exit code."""
    try:
        fill = options.fill or ("zero" if options.chart and options.type in ("points", "rate") else None)
        from_ms = options.from_ms if options.last is None else _first_ms(options.last)
        bounds = {"from": from_ms, "to": options.to, "period": options.period, "fill": fill}
        body = _ask(options, "/read", {"key": options.key, "type": options.type, **bounds})
        if options.json:
            print(body)
            return 0
        values = json.loads(body)["values"]
        print(_chart(options, values) if options.chart else table(values))
    except _Failure as failure:
        print(f"kora read: {failure}", file=sys.stderr)
        return 1
    return 0


def table(values: Sequence[Mapping[str, Any]]) -> str:
    """A line for each period, times as this machine has them."""
    if not values:
        return "no values"
    columns = list(values[0])
    rows = [columns, *([_cell(name, row[name]) for name in columns] for row in values)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def chart(key: str, kind: str, values: Sequence[Mapping[str, Any]], width: int, color: bool) -> str:
    """A plot over time; raises ImportError where there is nothing to plot with."""
    import plotext

    times_s = [row["from"] / 1000 for row in values]
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, _HEIGHT)
    plotext.title(f"{key}: {kind}")
    names = _PLOTTED if kind == "stats" else ("value",)
    for name in names:
        label = name if len(names) > 1 else None
        plotext.plot(times_s, [row[name] for row in values], marker="braille", label=label)
    places = sorted({round(step * (len(times_s) - 1) / (_TICKS - 1)) for step in range(_TICKS)})
    is_long = times_s[-1] - times_s[0] > _UNITS_S["d"]
    form = "%m-%d %H:%M" if is_long else "%H:%M:%S"
    plotext.xticks([times_s[place] for place in places], [_local(times_s[place], form) for place in places])
    text: str = plotext.build()
    return text if color else plotext.uncolorize(text)


def _chart(options: argparse.Namespace, values: Sequence[Mapping[str, Any]]) -> str:
    if options.type == "counter":
        raise _Failure("a counter is one number; a chart wants points, rate, gauge or stats")
    if not values:
        return "no values"
    try:
        width = _terminal_width()
        return chart(options.key, options.type, values, width, color=sys.stdout.isatty())
    except ImportError:
        raise _Failure(_REMEDY) from None


def _terminal_width() -> int:
    return max(40, min(200, shutil.get_terminal_size((100, 24)).columns))


def _ask(options: argparse.Namespace, path: str, given: Mapping[str, object]) -> str:
    query = urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
    url = options.url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise _Failure(f"{url!r} is no URL of a server, such as {DEFAULT_URL}")
    headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
    # No proxy of the environment: the server is here, or near.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(f"{url}{path}?{query}", headers=headers), timeout=15) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        with error:
            raise _Failure(_reason(error)) from None
    except (OSError, ValueError) as error:
        raise _Failure(f"{url} does not answer: {getattr(error, 'reason', error)}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {error.code}, which is not what Kora does"


def _first_ms(last: str) -> int:
    match = _LAST.fullmatch(last)
    if match is None:
        raise _Failure(f"--last must be a time such as 30s, 15m, 6h, 7d or 4w, not {last!r}")
    return int(time.time() * 1000) - int(match[1]) * _UNITS_S[match[2]] * 1000


def _cell(name: str, value: object) -> str:
    if name in ("from", "to") and isinstance(value, int):
        return _local(value / 1000, "%Y-%m-%d %H:%M:%S")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _local(time_s: float, form: str) -> str:
    return time.strftime(form, time.localtime(time_s))
