"""Snapshots of a server whose data is in a store: SAVE and BGSAVE make a checkpoint, which is a directory that can take
the place of the store's.

The data itself needs none of them to last, so there are no save points, and the end of the server only writes back.
Whoever asks for save points is told in the log.
"""

import contextlib
import os
import shutil
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from kora.config import SETTINGS_BY_NAME
from kora.errors import CommandError, StillLoading, StorageFault

from .keeper import StoreKeeper
from .log import sync_directory

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_RUNNING: Final = "ERR Background save already in progress"
_FAILED: Final = "ERR"  # as bare as Redis' is


class Checkpoints:
    """Engine.saves of such a server."""

    are_wanted = True  # at its end

    def __init__(self, engine: "Engine", keeper: StoreKeeper) -> None:
        self._engine = engine
        self._keeper = keeper
        self._path = keeper.store.path + "-checkpoint"
        self._new, self._old = f"{self._path}.new", f"{self._path}.old"
        self._tidy()
        self._future: Future[None] | None = None
        self._started_ms = 0
        self._started_changes = 0
        # The last that is on the disk, or what was there at the start.
        self.last_ms = engine.clock.wall_ms()
        self._saved_changes = engine.changes
        self._is_ok = True
        self._elapsed_s = -1
        self._count = 0
        if engine.config.save != SETTINGS_BY_NAME["save"].default:
            self._tell_of_save_points(engine.config.save)
        engine.config.on_change("save", self._tell_of_save_points)

    def _tell_of_save_points(self, points: str) -> None:
        if points:
            self._engine.log(
                "warning",
                "there are no save points with storage-engine rocksdb: rocksdb-sync says when changes are on the disk, "
                "and BGSAVE makes a checkpoint",
                save=points,
            )

    def save(self) -> None:
        if self._future is not None:
            raise CommandError(_RUNNING)
        self._start()
        assert self._future is not None
        self._future.exception()
        self.step(0)
        if not self._is_ok:
            raise CommandError(_FAILED)

    def begin(self, may_wait: bool) -> bool:
        if self._future is not None:
            raise CommandError(_RUNNING)
        self._start()
        return True

    def _start(self) -> None:
        """Begin to make a checkpoint of the data as it is."""
        engine = self._engine
        self._count += 1
        self._started_ms = engine.clock.wall_ms()
        self._started_changes = engine.changes
        if not self._keeper.write_back():
            self._is_ok = False
            raise CommandError(_FAILED)
        self._future = self._keeper.run_in_turn(self._make)

    def _make(self) -> None:
        """In a thread: where it fails, the last one is still there."""
        shutil.rmtree(self._new, ignore_errors=True)
        try:
            self._keeper.store.checkpoint(self._new)
            shutil.rmtree(self._old, ignore_errors=True)
            if os.path.isdir(self._path):
                os.rename(self._path, self._old)
            os.rename(self._new, self._path)
            sync_directory(os.path.dirname(os.path.abspath(self._path)))
        except BaseException:
            self._tidy()
            raise
        shutil.rmtree(self._old, ignore_errors=True)

    def _tidy(self) -> None:
        """Take away what is left of one that was interrupted: the last whole one has its name."""
        shutil.rmtree(self._new, ignore_errors=True)
        if os.path.isdir(self._path):
            shutil.rmtree(self._old, ignore_errors=True)
        elif os.path.isdir(self._old):
            with contextlib.suppress(OSError):
                os.rename(self._old, self._path)

    def step(self, budget_ns: int) -> bool:
        future = self._future
        if future is None or not future.done():
            return False
        engine, self._future = self._engine, None
        error = future.exception()
        self._is_ok = error is None
        now_ms = engine.clock.wall_ms()
        self._elapsed_s = max(0, now_ms - self._started_ms) // 1000
        if isinstance(error, OSError | StorageFault):
            reason = error.reason if isinstance(error, StorageFault) else str(error)
            engine.log("error", "the checkpoint cannot be made", path=self._path, reason=reason)
        elif error is not None:
            raise error
        else:
            self.last_ms = now_ms
            self._saved_changes = self._started_changes
            engine.log("info", "checkpoint made", path=self._path, elapsed_ms=now_ms - self._started_ms)
        return False

    def save_before_the_end(self) -> bool:
        return self._keeper.write_back()

    def forget(self) -> None:
        """What FLUSHALL has emptied is emptied in the store as well, by the next write-back."""

    def reload(self, saves: bool, flushes: bool, merges: bool) -> None:
        """Drop what is in memory, and read it again when it is asked for."""
        if self._engine.loading is not None:
            raise StillLoading
        if not self._keeper.write_back():
            raise CommandError("ERR Error trying to write back the data, check server logs.")
        if self._engine.cache is not None:
            self._engine.cache.drop_all()

    def loaded(self) -> None:
        self._saved_changes = self._engine.changes
        self.last_ms = self._engine.clock.wall_ms()

    def numbers(self) -> list[int]:
        running = self._future is not None
        now_ms = self._engine.clock.wall_ms()
        return [
            self._engine.changes - self._saved_changes,
            int(running),
            self.last_ms // 1000,
            int(self._is_ok),
            self._elapsed_s,
            max(0, now_ms - self._started_ms) // 1000 if running else -1,
            self._count,
            0,
            0,
            0,
        ]
