"""The files of an audit log: the one that is written to, and beside it those that were full or old.

audit.jsonl                  what is written to
audit.jsonl.000000000001     what was, by the number of its first record
"""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, Final

from kora.audit.chain import Line

_DIGITS: Final = 12
_ROTATED: Final = re.compile(rf"(.+)\.(\d{{{_DIGITS}}})")


class NoLog(Exception):
    """There is no audit log, or more than one; the text says where."""


def rotated_name(path: str, first: int) -> str:
    return f"{path}.{first:0{_DIGITS}}"


def rotated_files(path: str) -> list[str]:
    """Those that are not written to any more, the oldest first.  Raises OSError."""
    folder, name = os.path.split(path)
    found = [match for match in map(_ROTATED.fullmatch, os.listdir(folder or ".")) if match and match[1] == name]
    return [os.path.join(folder, match[0]) for match in sorted(found, key=lambda match: int(match[2]))]


def log_files(path: str) -> list[str]:
    """All of a log, the oldest first.  Raises OSError."""
    return [*rotated_files(path), *([path] if os.path.exists(path) else [])]


def find_log(path: str) -> list[str]:
    """The files that an operator means: of a log by its name, one of a log, or of the log in a folder.

    Raises NoLog and OSError.
    """
    if not os.path.isdir(path):
        found = log_files(path)
        if not found:
            raise NoLog(f"{path}: there is no audit log")
        return found
    names = os.listdir(path)
    bases = {match[1] for match in map(_ROTATED.fullmatch, names) if match}
    bases |= {name for name in names if not _ROTATED.fullmatch(name) and _is_log(os.path.join(path, name))}
    if len(bases) != 1:
        what = "there is no audit log in it" if not bases else f"there are several: {', '.join(sorted(bases))}"
        raise NoLog(f"{path}: {what}")
    return log_files(os.path.join(path, bases.pop()))


def _is_log(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(b'{"seq":')) == b'{"seq":'


def lines(paths: list[str]) -> Iterator[Line]:
    """Raises OSError."""
    for path in paths:
        with open(path, "rb") as file:
            for number, data in enumerate(file, 1):
                yield Line(path, number, data)


def records(paths: list[str]) -> Iterator[tuple[Line, dict[str, Any] | None]]:
    """Each line with its record; None where it is none.  Raises OSError."""
    for line in lines(paths):
        try:
            record = json.loads(line.data)
        except ValueError:
            record = None
        yield line, record if isinstance(record, dict) else None


def tail(paths: list[str], count: int) -> list[bytes]:
    """The last lines that are whole, the oldest first.  Raises OSError."""
    found: list[bytes] = []
    for path in reversed(paths):
        missing = count - len(found)
        if missing <= 0:
            break
        found = [*_tail(path, missing), *found]
    return found


def _tail(path: str, count: int) -> list[bytes]:
    with open(path, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        data = b""
        # One line more, since the first may begin in front of what was read.
        while at > 0 and data.count(b"\n") <= count:
            size = min(at, 1 << 16)
            at = file.seek(at - size)
            data = file.read(size) + data
    whole, _, _ = data.rpartition(b"\n")
    return whole.split(b"\n")[-count:] if whole else []
