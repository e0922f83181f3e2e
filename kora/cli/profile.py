"""`kora profile`: where a server spends its CPU time, and what is in its memory.

    kora profile [URL]                                    what takes most CPU time in 30 seconds, in this terminal
    kora profile [--seconds 30] [--hz 100] -o cpu.pb.gz   the same, for `go tool pprof` and services for profiles
    kora profile --flame cpu.svg [--by command]           the same as a flame graph, for a browser
    kora profile --heap -o heap.pb.gz                     memory now: keys by prefix, and objects
    kora profile --alloc --seconds 10 --flame alloc.svg   what Python code allocates and keeps

Asks the server's sidecar, which has to be told `debug-endpoints yes`.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Final

from kora.cli.flame import draw
from kora.observe.profile import FORMATS, BadProfile, Profile, from_pprof

DEFAULT_URL: Final = "http://127.0.0.1:9090"
TOKEN_VARIABLE: Final = "KORA_METRICS_TOKEN"
_SECONDS: Final = 30
# Beyond the time that the profile is about: large data takes a while to be counted.
_WAIT_S: Final = 180
_ROWS: Final = 20
_NANOSECONDS: Final = "nanoseconds"


class ProfileError(Exception):
    """No profile; the text is one line that says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, help=f"the sidecar's; {DEFAULT_URL} if left out")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--heap", action="store_true", help="what is in memory now: keys by prefix, and live objects")
    kind.add_argument("--alloc", action="store_true", help="what Python code allocates meanwhile and keeps")
    parser.add_argument("--seconds", type=int, help=f"for how long; {_SECONDS} if left out")
    parser.add_argument("--hz", type=int, help="samples per second of CPU time; 100 if left out")
    parser.add_argument("--by", choices=("command",), help="have stacks begin with the command")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the profile here")
    parser.add_argument("--format", choices=tuple(FORMATS), default="pprof", help="of that file; pprof if left out")
    parser.add_argument("--flame", metavar="FILE", help="draw a flame graph here, as SVG")
    parser.add_argument("--token", help=f"metrics-token of the server; {TOKEN_VARIABLE} if left out")


def run(options: argparse.Namespace) -> int:
    """The exit code."""
    try:
        profile = from_pprof(_fetch(options))
        if options.output:
            with open(options.output, "wb") as file:
                file.write(FORMATS[options.format].render(profile, _title(options)))
        if options.flame:
            with open(options.flame, "w", encoding="utf-8") as drawing:
                drawing.write(draw(profile, _title(options)))
    except (ProfileError, BadProfile) as error:
        print(f"kora profile: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"kora profile: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if not (options.output or options.flame):
        print("\n".join(top(profile)))
    return 0


def _kind(options: argparse.Namespace) -> str:
    return "heap" if options.heap else "alloc" if options.alloc else "profile"


def _title(options: argparse.Namespace) -> str:
    return f"kora {'cpu' if _kind(options) == 'profile' else _kind(options)}"


def _fetch(options: argparse.Namespace) -> bytes:
    kind = _kind(options)
    given = {"seconds": options.seconds, "hz": options.hz, "by": options.by}
    query = urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
    url = f"{options.url.rstrip('/')}/debug/pprof/{kind}" + (f"?{query}" if query else "")
    if not url.startswith(("http://", "https://")):
        raise ProfileError(f"{options.url} is no URL of a sidecar, such as {DEFAULT_URL}")
    seconds = 0 if kind == "heap" else options.seconds or _SECONDS
    token = options.token if options.token is not None else os.environ.get(TOKEN_VARIABLE, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Straight to the server: no proxy stands before one's own.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, headers=headers), timeout=seconds + _WAIT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise ProfileError(_reason(error)) from None
    except urllib.error.URLError as error:
        reason = error.reason.strerror if isinstance(error.reason, OSError) else error.reason
        raise ProfileError(f"{options.url}: {reason or error.reason}") from None
    except (OSError, ValueError) as error:
        raise ProfileError(f"{options.url}: {error}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    """What the sidecar says, or else the status."""
    if error.code == 401:
        return f"the sidecar wants metrics-token: give it with --token or in {TOKEN_VARIABLE}"
    try:
        return str(json.loads(error.read(4096))["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"HTTP {error.code} {error.reason}"


def top(profile: Profile) -> Iterator[str]:
    """What has most of it by itself, then by command where that is told."""
    unit = profile.units[-1][1]
    total = max(profile.total, 1)
    leaves: dict[str, int] = {}
    commands: dict[str, int] = {}
    for sample in profile.samples:
        value = sample.values[-1]
        leaf = sample.stack[-1].name if sample.stack else ""
        leaves[leaf] = leaves.get(leaf, 0) + value
        if "command" in sample.labels:
            command = sample.labels["command"]
            commands[command] = commands.get(command, 0) + value
    yield f"{_amount(profile.total, unit)} in all"
    for title, rows in (("by what ran", leaves), ("by command", commands)):
        if commands:
            yield title
        for name, value in sorted(rows.items(), key=lambda row: (-row[1], row[0]))[:_ROWS]:
            yield f"{_amount(value, unit):>10}  {value / total:>6.1%}  {name}"


def _amount(value: int, unit: str) -> str:
    if unit == _NANOSECONDS:
        return f"{value / 1e9:.2f} s"
    for factor, letter in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if value >= factor:
            return f"{value / factor:.1f} {letter}"
    return f"{value} B"
