"""The thread that writes the journal: bytes in the order in which they were handed over, and syncs.

Whatever has to stay in order with the bytes goes through the same queue: opening the next file, replacing the
manifest.  Nothing that was handed over is given up.  Where a write fails, what was written of it is taken back, so that
the file ends with a whole command, and it is tried again every second; where a sync fails, nobody knows what of the
last bytes is on the disk, and the system may say next time that all is well: so all since the last sync is written
once more.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from .files import Files

SYNC_NS: Final = 1_000_000_000
_RETRY_S: Final = 1.0
# A sync that takes longer than this delays the next one: what aof_delayed_fsync counts.
_DELAYED_NS: Final = 2 * SYNC_NS


@dataclass(frozen=True)
class Switch:
    """From here on to another, new file; with a manifest that names it, unless that is to come later."""

    path: str
    manifest_path: str
    manifest: bytes  # b"": none yet


@dataclass(frozen=True)
class Replace:
    """Another manifest in place of the one there is, and then these files are no longer needed."""

    manifest_path: str
    manifest: bytes
    obsolete: tuple[str, ...]
    done: Callable[[], None]  # on the loop


@dataclass
class Progress:
    """What the writer has done, as the loop may read it at any time."""

    written_bytes: int = 0  # since it was made, of all files
    synced_bytes: int = 0
    size_bytes: int = 0  # of the file that is written to
    fault: OSError | None = None  # why it is trying again
    is_syncing: bool = False
    is_lost: bool = False  # the file that is written to has no name any more
    delayed_syncs: int = 0
    # What took how long, in ns, by the latency monitor's events; taken away by the loop.
    times: deque[tuple[str, int]] = field(default_factory=deque)


class Writer:
    """Runs from start() to stop().  The policy may be changed at any time."""

    def __init__(self, files: Files, wake: Callable[[Callable[[], None]], object], settled: Callable[[], None]) -> None:
        """`wake` has the loop call something; `settled` is that, where bytes were synced that somebody waits for, or a
        fault has come or gone."""
        self._files = files
        self._wake = wake
        self._settled = settled
        self._queue: queue.SimpleQueue[bytes | Switch | Replace | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        # Set by the loop.
        self.policy = "everysec"
        self.may_sync = True  # no-appendfsync-on-rewrite
        self.is_rewriting = False  # for the name of an event
        self.handed_bytes = 0
        # The thread's own.
        self.progress = Progress()
        self._descriptor = -1
        self._path = ""
        self._looked_ns = 0
        self._todo: deque[bytes | Switch | Replace] = deque()
        self._unsynced: list[bytes] = []
        self._synced_size = 0  # of the file
        self._synced_ns = time.monotonic_ns()
        self._is_stopping = False
        self._was_syncing_ns = 0  # when the last sync ended

    def start(self) -> None:
        self._thread.start()

    def open(self, path: str, size_bytes: int) -> None:
        """Go on in a file that is there, before start()."""
        self._descriptor, self._path = self._files.append(path), path
        self.progress.size_bytes = self._synced_size = size_bytes

    def put(self, job: bytes | Switch | Replace) -> None:
        if type(job) is bytes:
            self.handed_bytes += len(job)
        self._queue.put(job)

    @property
    def pending_bytes(self) -> int:
        """Handed over, and not written yet."""
        return self.handed_bytes - self.progress.written_bytes

    @property
    def is_synced(self) -> bool:
        return self.progress.synced_bytes == self.handed_bytes

    def stop(self) -> OSError | None:
        """Write and sync what is left; returns why that failed, if it has."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        return self.progress.fault

    # On the thread

    def _run(self) -> None:
        while True:
            self._collect()
            had_fault = self.progress.fault
            synced_before = self.progress.synced_bytes
            try:
                self._work()
                self.progress.fault = None
            except OSError as error:
                self.progress.fault = error
            is_news = (self.progress.fault is None) != (had_fault is None)
            if is_news or (self.progress.synced_bytes != synced_before):
                self._wake(self._settled)
            if self._is_stopping and (self.progress.fault is not None or not self._todo):
                if self._descriptor >= 0:
                    self._files.close(self._descriptor)
                return

    def _collect(self) -> None:
        """Wait for something to do, or for the time of the next sync or of another attempt; take all there is."""
        delay_s: float | None = None
        if self.progress.fault is not None:
            delay_s = _RETRY_S
        elif self._unsynced:
            delay_s = max(0.0, (self._synced_ns + SYNC_NS - time.monotonic_ns()) / 1e9) if self.may_sync else 0.1
        try:
            job = self._queue.get(timeout=delay_s)
            while True:
                if job is None:
                    self._is_stopping = True
                else:
                    self._todo.append(job)
                job = self._queue.get_nowait()
        except queue.Empty:
            pass

    def _work(self) -> None:
        if self.progress.fault is not None:
            self._take_back()
        while self._todo:
            job = self._todo[0]
            if isinstance(job, Switch):
                self._switch(job)
                self._todo.popleft()
            elif isinstance(job, Replace):
                self._replace(job)
                self._todo.popleft()
            else:
                self._write()
        if self._must_sync():
            self._sync()
        if time.monotonic_ns() - self._looked_ns >= SYNC_NS:
            self._look()

    def _write(self) -> None:
        """All bytes up to whatever else comes."""
        pieces = []
        for job in self._todo:
            if not isinstance(job, bytes):
                break
            pieces.append(job)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._descriptor < 0:
            raise OSError(0, "no file is open")
        started_ns = time.monotonic_ns()
        self._files.write(self._descriptor, data)
        now_ns = time.monotonic_ns()
        progress = self.progress
        progress.size_bytes += len(data)
        progress.written_bytes += len(data)
        for _ in pieces:
            self._todo.popleft()
        if self.policy == "no":
            progress.synced_bytes = progress.written_bytes
        else:
            self._unsynced.append(data)
        # Handed over while the last sync went on, and so it had to wait for that.
        if started_ns - self._was_syncing_ns < 1_000_000 and self.policy != "always":
            situation = "aof-write-pending-fsync"
        else:
            situation = "aof-write-active-child" if self.is_rewriting else "aof-write-alone"
        progress.times.append(("aof-write", now_ns - started_ns))
        progress.times.append((situation, now_ns - started_ns))

    def _must_sync(self) -> bool:
        if not self._unsynced:
            return False
        if self.policy == "always" or self._is_stopping:
            return True
        is_due = time.monotonic_ns() - self._synced_ns >= SYNC_NS
        return is_due and self.may_sync and self.policy == "everysec"

    def _sync(self) -> None:
        progress = self.progress
        progress.is_syncing = True
        started_ns = time.monotonic_ns()
        try:
            self._files.fdatasync(self._descriptor)
        except OSError as error:
            self._todo.extendleft(reversed(self._unsynced))
            progress.written_bytes -= sum(map(len, self._unsynced))
            self._unsynced.clear()
            progress.size_bytes = self._synced_size
            raise error
        finally:
            progress.is_syncing = False
            self._synced_ns = self._was_syncing_ns = time.monotonic_ns()
        elapsed_ns = self._synced_ns - started_ns
        progress.delayed_syncs += elapsed_ns > _DELAYED_NS
        if self.policy == "always":
            progress.times.append(("aof-fsync-always", elapsed_ns))
        self._unsynced.clear()
        self._synced_size = progress.size_bytes
        progress.synced_bytes = progress.written_bytes

    def _take_back(self) -> None:
        """Have the file end where what was written, or synced, for certain ends."""
        if self._descriptor >= 0:
            self._files.truncate(self._descriptor, self.progress.size_bytes)

    def _look(self) -> None:
        """Whether the file can still be found: written to it can be as well without a name."""
        started_ns = self._looked_ns = time.monotonic_ns()
        try:
            self._files.size_bytes(self._path)
        except FileNotFoundError:
            self.progress.is_lost = True
        self.progress.times.append(("aof-fstat", time.monotonic_ns() - started_ns))

    def _switch(self, job: Switch) -> None:
        if self._unsynced and self.policy != "no":
            self._sync()
        self._files.make_directory(os.path.dirname(job.path))
        # Appended to, so that what is taken back leaves no gap.
        descriptor = self._files.append(job.path)
        try:
            self._files.truncate(descriptor, 0)
            if job.manifest:
                self._put_manifest(job.manifest_path, job.manifest)
        except OSError:
            self._files.close(descriptor)
            raise
        if self._descriptor >= 0:
            self._files.close(self._descriptor)
        self._descriptor, self._path = descriptor, job.path
        self.progress.size_bytes = self._synced_size = 0
        self.progress.is_lost = False

    def _replace(self, job: Replace) -> None:
        started_ns = time.monotonic_ns()
        if self._unsynced and self.policy != "no":
            self._sync()
        now_ns = time.monotonic_ns()
        self.progress.times.append(("aof-rewrite-done-fsync", now_ns - started_ns))
        self._put_manifest(job.manifest_path, job.manifest)
        self.progress.times.append(("aof-rename", time.monotonic_ns() - now_ns))
        remove(self._files, job.obsolete)
        self._wake(job.done)

    def _put_manifest(self, path: str, content: bytes) -> None:
        put_file(self._files, path, content)


def put_file(files: Files, path: str, content: bytes) -> None:
    """Have a file with that content, in place of one that may be there, whenever the power goes."""
    temporary = f"{path}.tmp"
    descriptor = files.create(temporary)
    try:
        files.write(descriptor, content)
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    files.replace(temporary, path)


def remove(files: Files, paths: Iterable[str]) -> None:
    """Files that nothing names any more: one that cannot be removed takes room, and that is all."""
    for path in paths:
        try:
            files.unlink(path)
        except OSError:  # noqa: PERF203 - there are two or three
            continue
