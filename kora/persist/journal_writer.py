"""The thread that writes the journal: bytes in the order in which they were handed over, and syncs.

Writing is mostly copying a few hundred kilobytes into the system's cache.  Where nobody waits for a sync the loop does
that itself, as long as it is quick and the thread has nothing to do: handing the interpreter's lock to a thread and
back, a hundred times a second, cost half of the throughput on a busy machine.

Whatever has to stay in order with the bytes goes through the same queue: opening the next file, replacing the
manifest.  Nothing that was handed over is given up.  Where a write fails, what was written of it is taken back, so that
the file ends with a whole command, and it is tried again every second; where a sync fails, nobody knows what of the
last bytes is on the disk, and the system may say next time that all is well: so all since the last sync is written
once more.
"""

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import errorcode
from typing import Final

from .files import Files

SYNC_NS: Final = 1_000_000_000
_RETRY_S: Final = 1.0
# The loop leaves writing to the thread for a while once it took so long.
_SLOW_NS: Final = 2_000_000
_SLOW_PAUSE_NS: Final = 10_000_000_000
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
    sync_ns: int = 0  # how long the last one took
    # What took how long, in ns, by the latency monitor's events; taken away by the loop.
    times: deque[tuple[str, int]] = field(default_factory=deque)
    # Syncs since then: from when to when, and the error's name, or "".
    syncs: deque[tuple[int, int, str]] = field(default_factory=deque)


class Writer:
    """Runs from start() to stop().  The policy may be changed at any time."""

    def __init__(
        self,
        files: Files,
        monotonic_ns: Callable[[], int],
        wake: Callable[[Callable[[], None]], object],
        settled: Callable[[], None],
    ) -> None:
        """`wake` has the loop call something; `settled` is that, where bytes were synced that somebody waits for, or a
        fault has come or gone."""
        self._files = files
        self._monotonic_ns = monotonic_ns
        self._wake = wake
        self._settled = settled
        self._queue: queue.SimpleQueue[bytes | Switch | Replace | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        # Set by the loop.
        self.policy = "everysec"
        self.may_sync = True  # no-appendfsync-on-rewrite
        self.is_rewriting = False  # for the name of an event
        self.handed_bytes = 0
        self._slow_until_ns = 0
        self._queued = 0  # jobs, ever
        # Of whoever has the lock, which is the thread while it works, and the loop for a write at a time.
        self._lock = threading.Lock()
        self.progress = Progress()
        self._done = 0  # jobs that were queued, ever
        self._descriptor = -1
        self._path = ""
        self._looked_ns = 0
        self._todo: deque[bytes | Switch | Replace] = deque()
        self._unsynced: list[bytes] = []
        self._is_dirty = False  # something was never synced, with whatever policy
        self._synced_size = 0  # of the file
        self._synced_ns = self._monotonic_ns()
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
            if self._may_write_now():
                self._write_now(job)
                return
            self.handed_bytes += len(job)
        self._queued += 1
        self._queue.put(job)

    def _may_write_now(self) -> bool:
        return (
            self.policy != "always"
            and self._queued == self._done
            and self._monotonic_ns() >= self._slow_until_ns
            and self._lock.acquire(blocking=False)
        )

    def _write_now(self, data: bytes) -> None:
        """On the loop, which has the lock."""
        self.handed_bytes += len(data)
        if self._queued != self._done or self.progress.fault is not None:
            self._queued += 1
            self._queue.put(data)
        else:
            started_ns = self._monotonic_ns()
            self._todo.append(data)
            try:
                self._write()
            except OSError as error:
                # The thread takes back what was written of it, and goes on.
                self.progress.fault = error
                self._queued += 1  # what the thread finds to be done
                self._wake(self._settled)
            if self._monotonic_ns() - started_ns > _SLOW_NS:
                self._slow_until_ns = self._monotonic_ns() + _SLOW_PAUSE_NS
        self._lock.release()

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
            with self._lock:
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
        delay_s = _RETRY_S
        if self.progress.fault is None and self._unsynced:
            delay_s = max(0.01, (self._synced_ns + SYNC_NS - self._monotonic_ns()) / 1e9) if self.may_sync else 0.1
        jobs = []
        with contextlib.suppress(queue.Empty):
            jobs.append(self._queue.get(timeout=delay_s))
            while True:
                jobs.append(self._queue.get_nowait())
        self._is_stopping |= None in jobs
        with self._lock:
            self._todo += [job for job in jobs if job is not None]

    def _work(self) -> None:
        if self.progress.fault is not None:
            self._take_back()
        while self._todo:
            job = self._todo[0]
            if isinstance(job, Switch):
                self._switch(job)
                self._todo.popleft()
                self._done += 1
            elif isinstance(job, Replace):
                self._replace(job)
                self._todo.popleft()
                self._done += 1
            else:
                self._done += self._write()
        if self._must_sync():
            self._sync()
        if self._monotonic_ns() - self._looked_ns >= SYNC_NS:
            self._look()

    def _write(self) -> int:
        """All bytes up to whatever else comes; returns how many pieces they were."""
        pieces = []
        for job in self._todo:
            if not isinstance(job, bytes):
                break
            pieces.append(job)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._descriptor < 0:
            raise OSError(0, "no file is open")
        started_ns = self._monotonic_ns()
        self._files.write(self._descriptor, data)
        now_ns = self._monotonic_ns()
        progress = self.progress
        progress.size_bytes += len(data)
        progress.written_bytes += len(data)
        for _ in pieces:
            self._todo.popleft()
        self._is_dirty = True
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
        return len(pieces)

    def _must_sync(self) -> bool:
        if self._is_stopping and self._is_dirty:
            return True
        if not self._unsynced:
            return False
        if self.policy == "always" or (self.policy != "no" and self.progress.fault is not None):
            return True  # after a fault all is well only once that has worked
        is_due = self._monotonic_ns() - self._synced_ns >= SYNC_NS
        return is_due and self.may_sync and self.policy == "everysec"

    def _sync(self) -> None:
        progress = self.progress
        progress.is_syncing = True
        started_ns = self._monotonic_ns()
        fault = ""
        try:
            self._files.fdatasync(self._descriptor)
        except OSError as error:
            self._todo.extendleft(reversed(self._unsynced))
            self._done -= len(self._unsynced)
            progress.written_bytes -= sum(map(len, self._unsynced))
            self._unsynced.clear()
            progress.size_bytes = self._synced_size
            fault = errorcode.get(error.errno or 0, "EIO")
            raise error
        finally:
            progress.is_syncing = False
            self._synced_ns = self._was_syncing_ns = self._monotonic_ns()
            progress.syncs.append((started_ns, self._synced_ns, fault))
        elapsed_ns = self._synced_ns - started_ns
        progress.sync_ns = elapsed_ns
        progress.delayed_syncs += elapsed_ns > _DELAYED_NS
        if self.policy == "always":
            progress.times.append(("aof-fsync-always", elapsed_ns))
        self._unsynced.clear()
        self._is_dirty = False
        self._synced_size = progress.size_bytes
        progress.synced_bytes = progress.written_bytes

    def _take_back(self) -> None:
        """Have the file end where what was written, or synced, for certain ends."""
        if self._descriptor >= 0:
            self._files.truncate(self._descriptor, self.progress.size_bytes)

    def _look(self) -> None:
        """Whether the file can still be found: written to it can be as well without a name."""
        started_ns = self._looked_ns = self._monotonic_ns()
        try:
            self._files.size_bytes(self._path)
        except FileNotFoundError:
            self.progress.is_lost = True
        self.progress.times.append(("aof-fstat", self._monotonic_ns() - started_ns))

    def _switch(self, job: Switch) -> None:
        if self._is_dirty and self._descriptor >= 0:
            # With any policy: only the last file of a journal may be torn.
            self._sync()
        self._files.make_directory(os.path.dirname(job.path))
        # Appended to, so that what is taken back leaves no gap.
        descriptor = self._files.append(job.path)
        try:
            self._files.truncate(descriptor, 0)
            # The file has its name for good before the manifest counts on it.
            self._files.fsync_directory(os.path.dirname(job.path))
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
        started_ns = self._monotonic_ns()
        if self._unsynced and self.policy != "no":
            self._sync()
        now_ns = self._monotonic_ns()
        self.progress.times.append(("aof-rewrite-done-fsync", now_ns - started_ns))
        self._put_manifest(job.manifest_path, job.manifest)
        self.progress.times.append(("aof-rename", self._monotonic_ns() - now_ns))
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
