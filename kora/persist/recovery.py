"""Recovery: having the data again that an earlier process has left, before anybody is served.

A generator, as load_rdb() is: the server already listens while it goes on, and answers what needs no data.
"""

import os
from typing import TYPE_CHECKING

from kora.engine.loading import Loading, percent_loaded

from .loading import CannotLoad, CorruptFile, Report, Steps, load_rdb

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_LOG_NS: int = 5_000_000_000


class CannotRecover(Exception):
    """There is data, and it cannot be loaded: the server must not start as if there were none."""


def recover(engine: "Engine") -> Steps[None]:
    """Load what there is; with nothing there, that is all.  Raises CannotRecover."""
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
        try:
            report = yield from tell(engine, load_rdb(engine, file, size_bytes, loading, path=path))
        finally:
            engine.set_loading(None)
    _log_report(engine, path, size_bytes, report, loading.elapsed_ns)


def tell(engine: "Engine", steps: Steps[Report]) -> Steps[Report]:
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
