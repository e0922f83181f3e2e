"""Recovery: having the data again that an earlier process has left, before anybody is served.

A generator, as load_rdb() is: the server already listens while it goes on, and answers what needs no data.
"""

import errno
import os
from typing import TYPE_CHECKING

from kora.engine.loading import Loading, percent_loaded

from .journal import JournalKeeper
from .journal_files import FileType, JournalFile, Manifest
from .loading import CannotLoad, CorruptFile, Report, Result, Steps, load_rdb
from .replaying import find_journal, journal_bytes, load_journal

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_LOG_NS: int = 5_000_000_000


class CannotRecover(Exception):
    """There is data, and it cannot be loaded: the server must not start as if there were none."""


def recover(engine: "Engine", keeper: JournalKeeper | None = None) -> Steps[None]:
    """Load what there is, with nothing there, that is all; then have what changes journaled, if that is wanted.

    Without a keeper there is no journal.  The journal counts where there is one, else the snapshot: turning the journal
    on must not lose what there is.
    Raises CannotRecover.
    """
    config = engine.config
    if not os.path.isdir(config.dir):
        # A disk that is not mounted is no empty disk.
        raise CannotRecover(f"dir: {config.dir}: {os.strerror(errno.ENOENT)}")
    if keeper is None or not config.appendonly:
        yield from _recover_snapshot(engine)
        return
    directory = os.path.join(config.dir, config.appenddirname)
    single = JournalFile(config.appendfilename, 1, FileType.BASE)  # as Redis had it before version 7
    found: Manifest | None = None
    try:
        found = find_journal(directory, config.appendfilename)
        if found is not None:
            found = yield from _recover_journal(engine, directory, found)
        elif os.path.exists(os.path.join(config.dir, single.name)):
            yield from _recover_journal(engine, config.dir, Manifest(base=single))
        else:
            yield from _recover_snapshot(engine)
    except CannotLoad as error:
        raise CannotRecover(
            f"{error}. Nothing was changed; `kora check {error.path}` examines the file, and with --fix saves what is "
            "in front of the fault"
        ) from error
    except OSError as error:
        raise CannotRecover(f"{error.filename}: cannot be read: {error.strerror}") from error
    try:
        keeper.begin(found)
    except OSError as error:
        raise CannotRecover(f"{error.filename or directory}: no journal can be kept: {error.strerror}") from error


def _recover_journal(engine: "Engine", directory: str, manifest: Manifest) -> Steps[Manifest]:
    loading = Loading(engine.clock, journal_bytes(directory, manifest))
    engine.log("info", "loading the journal", directory=directory, size_bytes=loading.total_bytes)
    engine.set_loading(loading)
    # Where this fails the server ends, and until it has nobody is served what is there by then.
    report = yield from tell(engine, load_journal(engine, directory, manifest, loading))
    engine.set_loading(None)
    if report.cut_path:
        engine.log("warning", "journal cut", path=report.cut_path, offset=report.cut_offset, cut_bytes=report.cut_bytes)
    engine.log(
        "info",
        "journal loaded",
        files=len(manifest.files),
        commands=report.commands,
        keys=engine.keys,
        elapsed_ms=loading.elapsed_ns // 1_000_000,
    )
    return manifest


def _recover_snapshot(engine: "Engine") -> Steps[None]:
    path = os.path.join(engine.config.dir, engine.config.dbfilename)
    try:
        yield from _follow(engine, path)
    except FileNotFoundError:
        return
    except CorruptFile as error:
        raise CannotRecover(
            f"{error}. Nothing was changed; `kora check {path}` examines the file, and with --fix saves what is "
            "in front of the fault"
        ) from error
    except CannotLoad as error:
        raise CannotRecover(f"{error}. Nothing was changed") from error
    except OSError as error:
        raise CannotRecover(f"{path}: cannot be read: {error.strerror}") from error


def _follow(engine: "Engine", path: str) -> Steps[None]:
    with open(path, "rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        loading = Loading(engine.clock, size_bytes)
        engine.log("info", "loading the snapshot", path=path, size_bytes=size_bytes)
        engine.set_loading(loading)
        report = yield from tell(engine, load_rdb(engine, file, size_bytes, loading, path=path))
        engine.set_loading(None)
    _log_report(engine, path, size_bytes, report, loading.elapsed_ns)


def tell(engine: "Engine", steps: Steps[Result]) -> Steps[Result]:
    """Do the steps of loading, and show on the board and in the log how far they have come."""
    reports = []
    logged_ns = engine.monotonic_ns()

    def follow() -> Steps[None]:
        reports.append((yield from steps))

    for _ in follow():
        engine.show_loading()
        now_ns = engine.monotonic_ns()
        loading = engine.loading
        if loading is not None and now_ns - logged_ns >= _LOG_NS:
            logged_ns = now_ns
            percent = round(percent_loaded(loading.total_bytes, loading.loaded_bytes), 1)
            engine.log("info", "still loading", percent=percent, eta_s=loading.eta_s, keys=engine.keys)
        yield
    return reports[0]


def _log_report(engine: "Engine", path: str, size_bytes: int, report: Report, elapsed_ns: int) -> None:
    writer = report.about.get("redis-ver") or report.about.get("valkey-ver") or ""
    engine.log(
        "info",
        "snapshot loaded",
        path=path,
        rdb_version=report.version,
        writer=writer,
        keys=report.keys,
        expired=report.expired,
        functions=report.functions,
        elapsed_ms=elapsed_ns // 1_000_000,
    )
    if report.empty:
        engine.log("warning", "keys without elements were not loaded", path=path, keys=report.empty)
    for module, count in report.skipped.items():
        # The next snapshot is without it, and in the place of this one.
        engine.log("warning", "data of a module was not loaded", path=path, module=module, parts=count)
    if report.stop < size_bytes:
        behind_bytes = size_bytes - report.stop
        engine.log("warning", "bytes behind the end of the snapshot were not read", path=path, size_bytes=behind_bytes)
