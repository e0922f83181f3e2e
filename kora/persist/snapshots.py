"""Snapshots: when they are written, whether that went well, and what follows where it did not.

SAVE, BGSAVE, LASTSAVE, save points and the end of the server meet here; how a file is written is saving.py's business.
"""

import os
from typing import TYPE_CHECKING, Final

from kora.config import save_points
from kora.engine.loading import Loading
from kora.errors import CannotSave, CommandError, StillLoading

from .loading import CannotLoad, load_rdb, run
from .saving import Aborted, Saver

if TYPE_CHECKING:
    from kora.engine.engine import Engine

# After a snapshot that failed the next is not tried at once (CONFIG_BGSAVE_RETRY_DELAY, server.h).
_RETRY_MS: Final = 5_000

_RUNNING: Final = "ERR Background save already in progress"
_BUSY: Final = (
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a "
    "BGSAVE whenever possible."
)
_FAILED: Final = "ERR"  # as bare as Redis' is


class Snapshots:
    def __init__(self, engine: "Engine", saver: Saver) -> None:
        self._engine = engine
        self.saver = saver
        config = engine.config
        self._path = os.path.join(config.dir, config.dbfilename)
        self._points = save_points(config.save)
        # The last one that is on the disk, or what was there at the start.
        self.last_ms = engine.clock.wall_ms()
        self._saved_changes = engine.changes
        self._has_saved = False  # it is of this process, and complete
        # The last that was tried in the background.
        self._is_ok = True
        self._tried_ms = 0
        self._elapsed_s = -1
        # The one that is being written in the background.
        self._is_running = False
        self._started_ms = self._started_ns = 0
        self._started_changes = 0
        self._is_scheduled = False  # and is to be begun when what is being written now is done
        self._count = 0
        config.on_change("save", self._set_points)
        config.on_change("stop-writes-on-bgsave-error", lambda _: self._tell_fault())

    @property
    def are_wanted(self) -> bool:
        return bool(self._points)

    def save(self) -> None:
        if self._is_running:
            raise CommandError(_RUNNING)
        if self.saver.running:
            raise CommandError(_BUSY)
        self._count += 1
        if not self._save_now():
            raise CommandError(_FAILED)

    def begin(self, may_wait: bool) -> bool:
        if self._is_running:
            raise CommandError(_RUNNING)
        if self.saver.running or self._engine.nested:
            # A transaction is not over yet, and half of it is no moment that anybody would want.
            if not may_wait and not self._engine.nested:
                raise CommandError(_BUSY)
            self._is_scheduled = True
            return False
        if not self._start():
            raise CommandError(_FAILED)
        return True

    def save_before_the_end(self) -> bool:
        if self._is_running:
            self.saver.abort()
        if self._engine.changes == self._saved_changes and self._has_saved:
            return True
        if self.saver.running:
            self.saver.abort()
        return self._save_now()

    def forget(self) -> None:
        if self._is_running:
            self.saver.abort()
        if self.are_wanted and not self.saver.running:
            self._save_now()

    def reload(self, saves: bool, flushes: bool, merges: bool) -> None:
        engine = self._engine
        if engine.loading is not None:
            raise StillLoading
        if saves:
            self.save()
        changes = {keyspace.index: keyspace.changes for keyspace in engine.databases.used()}
        try:
            with open(self._path, "rb", buffering=0) as file:
                size_bytes = os.fstat(file.fileno()).st_size
                if flushes:
                    self._flush()
                progress = Loading(engine.clock, size_bytes)
                steps = load_rdb(engine, file, size_bytes, progress, path=self._path, replaces=merges)
                report = run(steps)
        except (CannotLoad, OSError) as error:
            engine.log("error", "the snapshot cannot be loaded", path=self._path, reason=str(error))
            raise CommandError("ERR Error trying to load the RDB dump, check server logs.") from None
        finally:
            # Neither the flush nor what was loaded is anything that would have to be saved.
            for keyspace in engine.databases.used():
                keyspace.changes = changes.get(keyspace.index, 0)
        engine.log(
            "info", "snapshot loaded", path=self._path, keys=report.keys, elapsed_ms=progress.elapsed_ns // 1_000_000
        )

    def _flush(self) -> None:
        engine = self._engine
        for keyspace in engine.databases.used():
            engine.flush_database(keyspace)
        if engine.scripting is not None:
            engine.scripting.flush_functions()

    def step(self, budget_ns: int) -> bool:
        saver = self.saver
        if saver.has_work and (saver.step(self._engine.monotonic_ns() + budget_ns) or saver.running):
            return saver.is_walking
        if self._is_due():
            self._start()
        return False

    def loaded(self) -> None:
        self._saved_changes = self._engine.changes
        self.last_ms = self._engine.clock.wall_ms()

    def numbers(self) -> list[int]:
        now_ms = self._engine.clock.wall_ms()
        return [
            self._engine.changes - self._saved_changes,
            int(self._is_running),
            self.last_ms // 1000,
            int(self._is_ok),
            self._elapsed_s,
            max(0, now_ms - self._started_ms) // 1000 if self._is_running else -1,
            self._count,
            *self.saver.keys,
            self.saver.buffered_bytes,
        ]

    def _is_due(self) -> bool:
        """Whether a snapshot is to be begun: one that was put off, or by a save point."""
        engine = self._engine
        if engine.loading is not None or not (self._points or self._is_scheduled):
            return False
        now_ms = engine.clock.wall_ms()
        if not self._is_ok and 0 <= now_ms - self._tried_ms <= _RETRY_MS:
            return False
        if self._is_scheduled:
            return True
        changes = engine.changes - self._saved_changes
        # A clock that was set back must not put off snapshots until it has come as far again.
        elapsed_s = max(0, now_ms - self.last_ms) // 1000 if now_ms >= self.last_ms else 1 << 31
        for seconds, changes_min in self._points:
            if changes >= max(1, changes_min) and elapsed_s > seconds:
                engine.log("info", "saving, since a save point is reached", changes=changes, elapsed_s=elapsed_s)
                return True
        return False

    def _start(self) -> bool:
        engine = self._engine
        self._is_scheduled = False
        self._tried_ms = self._started_ms = engine.clock.wall_ms()
        self._started_ns = engine.monotonic_ns()
        self._started_changes = engine.changes
        self._count += 1
        try:
            self.saver.start(self._path, done=self._done)
        except OSError as error:
            self._failed(error)
            return False
        self._is_running = True
        engine.log("info", "background saving started", path=self._path, keys=engine.keys)
        return True

    def _done(self, error: Exception | None) -> None:
        engine = self._engine
        self._is_running = False
        if isinstance(error, Aborted):
            engine.log("info", "background saving given up", path=self._path)
            return
        self._elapsed_s = max(0, engine.clock.wall_ms() - self._started_ms) // 1000
        status = "" if error is None else type(error).__name__
        engine.tracing.note_job("kora.snapshot", self._started_ns, engine.monotonic_ns(), {}, status)
        if error is not None:
            self._failed(error)
            return
        self._is_ok = self._has_saved = True
        self.last_ms = engine.clock.wall_ms()
        self._saved_changes = self._started_changes
        self._tell_fault()
        engine.log("info", "background saving done", path=self._path, elapsed_ms=self.last_ms - self._started_ms)

    def _failed(self, error: Exception) -> None:
        self._is_ok = False
        self._tell_fault()
        self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        self._engine.log("error", "the snapshot cannot be written", path=self._path, reason=reason)

    def _save_now(self) -> bool:
        engine = self._engine
        started_ns = engine.monotonic_ns()
        try:
            self.saver.save_now(self._path)
        except Exception as error:
            # An OSError, or a value that cannot be told: either way the last snapshot is the one that there is.
            self._log_failure(error)
            return False
        finally:
            elapsed_ns = engine.monotonic_ns() - started_ns
            engine.slowness.note_event("rdb-save", elapsed_ns)
        self._is_ok = self._has_saved = True
        self._saved_changes = engine.changes
        self.last_ms = engine.clock.wall_ms()
        self._tell_fault()
        engine.log("info", "saved", path=self._path, keys=engine.keys, elapsed_ms=elapsed_ns // 1_000_000)
        return True

    def _set_points(self, text: str) -> None:
        self._points = save_points(text)
        self._tell_fault()

    def _tell_fault(self) -> None:
        refuses = not self._is_ok and self.are_wanted and self._engine.config.stop_writes_on_bgsave_error
        self._engine.set_disk_fault("rdb", CannotSave() if refuses else None)
