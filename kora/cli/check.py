"""`kora check FILE`: examines what a server has left on disk, without a server and without changing it.

    kora check dump.rdb              a snapshot
    kora check appendonlydir         a journal: its directory, its manifest, or one of its files
    kora check FILE --fix            writes FILE.fixed, with what stands in front of the first fault

A snapshot is loaded as a server would load it, so this takes as much memory as the data.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Final

from kora.engine.loading import Loading, percent_loaded
from kora.persist.loading import CannotLoad, CorruptFile, Report, Steps, WrongChecksum, load_rdb

if TYPE_CHECKING:
    from kora.engine.engine import Engine

Say = Callable[[str], None]

SUFFIX: Final = ".fixed"
_COPY_BYTES: Final = 1 << 20
_CHECKSUM_SINCE: Final = 5  # version of RDB
_HEAD_BYTES: Final = 9
_END: Final = b"\xff"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a snapshot, or a journal: its directory, manifest or a file of it"
    )
    parser.add_argument("--fix", action="store_true", help="write what is good to FILE.fixed; FILE itself is only read")


def run(options: argparse.Namespace) -> int:
    """0 where all is good, or a repaired copy was written; 1 where something is wrong, 2 where it cannot be read."""
    try:
        return check(options.file, options.fix, print)
    except OSError as error:
        print(f"kora check: {error.filename or options.file}: {error.strerror}", file=sys.stderr)
        return 2


def check(path: str, fix: bool, say: Say) -> int:
    """Examine what a path names, and say what is found; returns the exit code.  Raises OSError."""
    from kora.persist.journal_check import check_journal, is_journal

    if is_journal(path):
        return check_journal(path, fix=fix, say=say, check_snapshot=_check_part)
    return check_snapshot(path, fix, say)


def check_snapshot(path: str, fix: bool, say: Say) -> int:
    engine = _make_engine()
    with open(path, "rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        try:
            report = _load(engine, path, file, size_bytes)
        except CannotLoad as error:
            say(f"{path}: NOT good: at byte {error.offset} of {size_bytes}: {error.reason}")
            if not isinstance(error, CorruptFile):
                return 1
            say(f"  {_keys(engine)} could be read in front of that, from {error.good_bytes} bytes")
            if isinstance(error, WrongChecksum):
                say("  every record can be read, and yet some byte is not what was written: any value may be wrong")
            return _fix(path, file, error, say) if fix else _advise(error, path, say)
    say(f"{path}: good: {_keys(engine)}, {_libraries(report)}{size_bytes} bytes, {_writer(report)}")
    if not report.has_checksum:
        say("  it has no checksum, so a byte that is not what was written may have gone unnoticed")
    if report.empty:
        say(f"  {report.empty} keys without elements, as some versions of Redis wrote them, are not loaded")
    for module, count in report.skipped.items():
        say(f"  {count} times data of the module type {module}, which Kora does not know: see the setting rdb-modules")
    if report.stop < size_bytes:
        say(f"  {size_bytes - report.stop} bytes behind its end, which nobody reads")
    return 0


def _check_part(path: str, file: BinaryIO) -> int:
    """The snapshot that a journal's file begins with: returns the offset behind it.  Raises CannotLoad."""
    return _load(_make_engine(), path, file, os.fstat(file.fileno()).st_size).stop


def _make_engine() -> "Engine":
    # Only now: what the other tools do should not wait for all this.
    from kora import kernel
    from kora.commands import make_registry
    from kora.config import Config
    from kora.engine.engine import Engine

    # Whatever servers may be set to.
    config = Config.load(["--databases", str(_DATABASES_MAX), "--rdb-modules", "skip"], {})
    return Engine(config, make_registry(), kernel=kernel.load())


_DATABASES_MAX: Final = 16_384


def _load(engine: "Engine", path: str, file: BinaryIO, size_bytes: int) -> Report:
    progress = Loading(engine.clock, size_bytes)
    reports: list[Report] = []

    def follow(steps: Steps[Report]) -> Steps[None]:
        reports.append((yield from steps))

    is_shown = sys.stderr.isatty()
    shown_s = time.monotonic()
    # With keys whose time is over, as they are in the file.
    for _ in follow(load_rdb(engine, file, size_bytes, progress, path=path, in_journal=True)):
        if is_shown and time.monotonic() - shown_s > 0.2:
            shown_s = time.monotonic()
            percent = percent_loaded(progress.total_bytes, progress.loaded_bytes)
            print(f"\r{percent:5.1f} %  {engine.keys} keys", end="\033[K", file=sys.stderr, flush=True)
    if is_shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return reports[0]


def _keys(engine: "Engine") -> str:
    databases = [f"{len(db)} in database {db.index}" for db in engine.databases.used() if len(db)]
    return f"{engine.keys} keys" + (f" ({', '.join(databases)})" if len(databases) > 1 else "")


def _libraries(report: Report) -> str:
    return f"{report.functions} libraries of functions, " if report.functions else ""


def _writer(report: Report) -> str:
    about = report.about
    names = {"kora-ver": "Kora", "valkey-ver": "Valkey", "redis-ver": "Redis"}
    writers = [f"{name} {about[field]}" for field, name in names.items() if field in about]
    return f"RDB version {report.version}" + (f", written by {writers[0]}" if writers else "")


def _advise(error: CorruptFile, path: str, say: Say) -> int:
    if error.good_bytes >= _HEAD_BYTES:
        say(f"  `kora check {path} --fix` writes a copy with these to {path}{SUFFIX}")
    return 1


def _fix(path: str, file: BinaryIO, error: CorruptFile, say: Say) -> int:
    """Write a copy that ends in front of the fault.  Raises OSError."""
    target = path + SUFFIX
    if error.good_bytes < _HEAD_BYTES:
        say("  there is nothing in front of the fault that could be kept")
        return 1
    if os.path.exists(target):
        say(f"  {target} is there already: move it away")
        return 1
    _write_head(target, file, error.good_bytes)
    lost = "" if isinstance(error, WrongChecksum) else "; what stands behind the fault is lost"
    say(f"written: {target}, with the keys that could be read{lost}")
    return 0


def _write_head(target: str, file: BinaryIO, good_bytes: int) -> None:
    """The first bytes of a snapshot, an end, and a new checksum; the name is there when all of it is."""
    tools = _make_engine().implementation.rdb_tools
    making = f"{target}-{os.getpid()}"
    try:
        with open(making, "wb") as copy:
            crc = 0
            file.seek(0)
            left = good_bytes
            version = b""
            while left and (data := file.read(min(left, _COPY_BYTES))):
                version = version or data[5:_HEAD_BYTES]
                crc = tools.crc64(data, crc)
                copy.write(data)
                left -= len(data)
            copy.write(_END)
            if int(version) >= _CHECKSUM_SINCE:
                copy.write(tools.crc64(_END, crc).to_bytes(8, "little"))
            copy.flush()
            os.fsync(copy.fileno())
        os.rename(making, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(making)
