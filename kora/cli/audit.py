"""`kora audit`: what is in an audit log, without a server.

    kora audit verify [FILE|DIR]     0 where all is as it was written; else 1, and names the first broken record
    kora audit export [FILE|DIR] [--start 2024-01-01] [--end 2024-12-31] [--format json|csv] [--output FILE]

Both read all files of a log, the oldest first.  Without FILE it is the log that the configuration names.  Days are
those of UTC, and both are part of what is exported; a time such as 2024-06-01T12:00:00Z can stand for one.
"""

import argparse
import csv
import json
import os
import sys
import time
from calendar import timegm
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Final, TextIO

from kora.audit.chain import Line, Report, seconds, verify
from kora.audit.files import NoLog, find_log, lines
from kora.config import Config
from kora.errors import ConfigError

# Columns of CSV: what every record has, then what some have; what is left is in the last, as JSON.
_COLUMNS: Final = (
    "seq", "time", "category", "event", "user", "client", "address", "name", "command", "keys", "args", "outcome",
    "within", "trace", "run", "number", "prev", "hash",
)  # fmt: skip
_DAY_S: Final = 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    deeds = parser.add_subparsers(dest="deed", metavar="DEED", required=True)
    verifying = deeds.add_parser("verify", help="look whether all is as it was written", allow_abbrev=False)
    exporting = deeds.add_parser("export", help="write the records of some days", allow_abbrev=False)
    for deed in (verifying, exporting):
        deed.add_argument("log", metavar="FILE|DIR", nargs="?", help="the log, or the folder that it is in")
        deed.add_argument("--config", metavar="FILE", help="the server's configuration, which names the log")
    exporting.add_argument("--start", metavar="DAY", type=_start, help="the first day; the first there is if left out")
    exporting.add_argument("--end", metavar="DAY", type=_stop, help="the last day; the last there is if left out")
    exporting.add_argument("--format", choices=("json", "csv"), default="json", help="json, an array, if left out")
    exporting.add_argument("--output", metavar="FILE", help="where to; standard output if left out")


def run(options: argparse.Namespace) -> int:
    """0; 1 where a record is not as it was written; 2 where there is no log, or it cannot be read or exported."""
    try:
        paths = find_log(options.log or _configured(options.config))
        return _verify(paths) if options.deed == "verify" else _export(paths, options)
    except (NoLog, ConfigError) as error:
        print(f"kora audit: {error}", file=sys.stderr)
    except OSError as error:
        print(f"kora audit: {error.filename}: {error.strerror}", file=sys.stderr)
    return 2


def _configured(file: str | None) -> str:
    config = Config.load(["--config", file] if file else [], os.environ)
    if not config.audit_file:
        raise NoLog("which log?  Name it, or the configuration that does: kora audit verify audit.jsonl")
    return os.path.join(config.dir, config.audit_file)


def _verify(paths: list[str]) -> int:
    report = verify(lines(paths))
    if report.fault:
        print(f"NOT as it was written: {report.fault}")
        print(f"  {report.records} records in front of it are good")
        return 1
    print(f"good: {_summary(report)}")
    return 0


def _summary(report: Report) -> str:
    parts = [f"{report.records} records, {report.first} to {report.last}, in {report.files} files"]
    if report.removed_up_to:
        parts.append(f"those up to {report.removed_up_to} were removed by retention, as is recorded")
    if report.gaps:
        parts.append(f"{report.gaps} say that others are missing, {report.missing} as far as they know")
    return "; ".join([*parts, f"the last has the hash {report.hash}"])


def _export(paths: list[str], options: argparse.Namespace) -> int:
    start_s, stop_s = options.start or 0.0, options.end or float("inf")
    with open(options.output, "w", encoding="utf-8", newline="") if options.output else nullcontext(sys.stdout) as file:
        output = (_Csv if options.format == "csv" else _Json)(file)
        report = verify(_hand_on(lines(paths), output, start_s, stop_s))
        output.end()
    print(f"{output.count} records of {report.records}", file=sys.stderr)
    if report.fault:
        print(f"kora audit: NOT as it was written: {report.fault}; nothing behind it is exported", file=sys.stderr)
        return 1
    return 0


def _hand_on(found: Iterator[Line], output: "_Csv | _Json", start_s: float, stop_s: float) -> Iterator[Line]:
    """Hand lines on to be verified, and export the records of a time once they were."""
    for line in found:
        yield line
        # Asked for the next, the one before is good.
        record = json.loads(line.data)
        if start_s <= seconds(record["time"]) < stop_s:
            output.write(record)


class _Json:
    """An array, with a record a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0
        file.write("[")

    def write(self, record: dict[str, Any]) -> None:
        self._file.write((",\n" if self.count else "\n") + json.dumps(record))
        self.count += 1

    def end(self) -> None:
        self._file.write("\n]\n")


class _Csv:
    def __init__(self, file: TextIO) -> None:
        self._rows = csv.writer(file)
        self.count = 0
        self._rows.writerow((*_COLUMNS, "more"))

    def write(self, record: dict[str, Any]) -> None:
        rest = {name: value for name, value in record.items() if name not in _COLUMNS}
        self._rows.writerow([*(_cell(record.get(name)) for name in _COLUMNS), json.dumps(rest) if rest else ""])
        self.count += 1

    def end(self) -> None:
        """All is written."""


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, list) else str(value)
    # A spreadsheet would take it for a formula, which whoever chooses the name of a key could write.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _start(text: str) -> float:
    return _time(text)[0]


def _stop(text: str) -> float:
    """The end of what is named: of a day, or of a second."""
    start_s, length_s = _time(text)
    return start_s + length_s


def _time(text: str) -> tuple[float, int]:
    shape, length_s = ("%Y-%m-%dT%H:%M:%SZ", 1) if "T" in text else ("%Y-%m-%d", _DAY_S)
    try:
        return timegm(time.strptime(text, shape)), length_s
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2024-12-31") from None
