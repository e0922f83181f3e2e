"""Saving: the whole data as it is at one moment, written to an RDB file while commands go on.

start() fixes the moment and returns; turns of a background job walk over the data (step()), a thread writes what they
gave, and `done` is called on the loop when the file is synced and has its name, or has failed.  save_now() does all of
that before it returns.  One file at a time.

A walk that is given up goes on without writing until everything is marked, or the next file is begun.
"""

import contextlib
import os
from _thread import start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Final

from kora import REDIS_VERSION
from kora.clock import Clock
from kora.store.walk import Layout, Walk
from kora.types.rdb import file_writer
from kora.types.rdb.writer import Writer

from .files import Files

if TYPE_CHECKING:
    from kora.engine.engine import Engine

# What the walk gathers before it is handed over, and what may wait for the disk before the walk does.
_CHUNK_BYTES: Final = 1 << 19
_WAITING_BYTES_MAX: Final = 8 << 20
# So many bytes are written between two syncs, lest the last one had to wait for all of them (rio.c).
_SYNC_BYTES: Final = 32 << 20
# The first version that can tell when fields of hashes end.
_DEADLINES_VERSION: Final = 12
_NEVER_NS: Final = 1 << 62

Done = Callable[[Exception | None], None]
Checksum = Callable[..., int]


class Aborted(Exception):
    """A file was given up before it was complete."""


class Saver:
    def __init__(self, engine: "Engine", files: Files | None = None) -> None:
        self._engine = engine
        self._files = files or Files()
        # Of the file that is being written.
        self._walk: Walk | None = None
        self._output: _Output | None = None
        self._done: Done = _nobody
        self._made = 0  # files
        self._unwanted: list[_Output] = []  # files that are being removed

    @property
    def running(self) -> bool:
        return self._output is not None

    @property
    def has_work(self) -> bool:
        """Whether step() has something to do: it has, for a while, for a file that was given up as well."""
        return bool(self._walk is not None or self._output is not None or self._unwanted)

    @property
    def is_walking(self) -> bool:
        """Whether there is data to be gone through, and room for what that gives."""
        waiting_bytes = 0 if self._output is None else self._output.waiting_bytes
        return self._walk is not None and waiting_bytes <= _WAITING_BYTES_MAX

    @property
    def keys(self) -> tuple[int, int]:
        """How many keys are in the file that is being written by now, and how many will be."""
        return (0, 0) if self._walk is None or self._output is None else (self._walk.records, self._walk.records_total)

    @property
    def buffered_bytes(self) -> int:
        """What the file takes in memory, beside the data."""
        if self._output is None:
            return 0
        return self._output.waiting_bytes + (0 if self._walk is None else self._walk.size_bytes)

    def start(self, path: str, *, aof_base: bool = False, done: Done) -> None:
        """Begin to write the data as it is now.

        The file has another name until it is complete and synced.  `aof_base` marks it as the base of a journal.
        Raises OSError where no file can be made, and AssertionError while another is being written.
        """
        assert self._output is None, "one file at a time"
        output = _Threaded(self._files, self._engine.clock, path, self._temporary(path), self._checksum)
        self._done = done
        self._begin(output, aof_base)

    def save_now(self, path: str, *, aof_base: bool = False) -> None:
        """Write the data as it is now, all of it, before this returns; raises OSError."""
        assert self._output is None, "one file at a time"
        output = _Output(self._files, self._engine.clock, path, self._temporary(path), self._checksum)
        failures: list[Exception | None] = []
        self._done = failures.append
        self._begin(output, aof_base)
        while self._output is not None:
            # In pieces, which are what has to be there at a time.
            self.step(_NEVER_NS, 1000)
        if failures[0] is not None:
            raise failures[0]

    def step(self, stop_ns: int, records_max: int = 1 << 62) -> bool:
        """Go on until a point in time; returns whether there is more to do right now."""
        walk, output = self._walk, self._output
        if self._unwanted and self._unwanted[0].is_finished:
            removed = self._unwanted.pop(0)
            self._engine.slowness.note_event("rdb-unlink-temp-file", removed.removing_ns)
        if output is None:
            if walk is not None and walk.step(stop_ns, records_max):
                self._walk = None
            return self.is_walking
        if output.error is not None:
            self._end(output.error)
            return self.is_walking
        if walk is not None:
            if output.waiting_bytes > _WAITING_BYTES_MAX:
                return False
            walk.step(stop_ns, records_max)
            if walk.is_over:
                output.put(walk.take())
                if walk.error is not None:
                    self._end(walk.error)
                    return False
                output.finish()
                self._walk = None
            elif walk.size_bytes >= _CHUNK_BYTES:
                output.put(walk.take())
        if output.is_finished:
            self._end(output.error)
        return self.is_walking

    def abort(self) -> None:
        """Give up the file that is being written: `done` gets Aborted."""
        if self._output is not None:
            self._end(Aborted())

    def _begin(self, output: "_Output", aof_base: bool) -> None:
        engine = self._engine
        config = engine.config
        implementation = engine.implementation
        has_deadlines = any(map(len, engine.field_deadlines.values()))
        version = _DEADLINES_VERSION if has_deadlines else int(config.rdb_version)
        compress = implementation.rdb_tools.compress if config.rdbcompression else None
        policy = config.maxmemory_policy
        stamps = "idle" if policy.endswith("-lru") else "frequency" if policy.endswith("-lfu") else ""
        writer = Writer(compress)
        about = {
            "redis-ver": REDIS_VERSION,
            "redis-bits": 64,
            "ctime": engine.clock.wall_ms() // 1000,
            "used-mem": engine.memory_bytes,
            "aof-base": int(aof_base),
        }
        file_writer.head(writer, version, about)
        if engine.scripting is not None:
            for library in engine.scripting.libraries.values():
                file_writer.function(writer, library.code)
        for keyspace in engine.databases.used():
            if len(keyspace):
                file_writer.sizes(writer, keyspace.index, len(keyspace), keyspace.volatile)
        layout = Layout(version, compress, stamps, engine.frequency)
        self._walk = implementation.walk_over(engine.databases.used, layout)
        self._output = output
        output.put(bytes(writer.data))

    def _end(self, error: Exception | None) -> None:
        output, walk, done = self._output, self._walk, self._done
        assert output is not None
        self._output, self._done = None, _nobody
        if error is not None:
            output.give_up()
            self._unwanted.append(output)
            if walk is not None:
                walk.give_up()
        done(error)

    def _temporary(self, path: str) -> str:
        """As Redis names it: another server may use the same directory, and a thread may still be removing the last."""
        self._made += 1
        return os.path.join(os.path.dirname(path), f"temp-{os.getpid()}-{self._made}.rdb")

    @property
    def _checksum(self) -> Checksum | None:
        return self._engine.implementation.rdb_tools.crc64 if self._engine.config.rdbchecksum else None


def _nobody(error: Exception | None) -> None:
    """Nobody waits for a file while none is written."""


class _Output:
    """A file in the making, of which each piece is written when it comes."""

    def __init__(self, files: Files, clock: Clock, path: str, temporary: str, checksum: Checksum | None) -> None:
        """Raises OSError where the file cannot be made."""
        self._files = files
        self._clock = clock
        self._path = path
        self._temporary = temporary
        self._checksum = checksum
        self._sum = 0
        self._unsynced_bytes = 0
        self._descriptor = files.create(temporary)
        self.error: OSError | None = None
        self.is_finished = False  # it has its name, or was removed, or there is an error
        self.removing_ns = 0

    @property
    def waiting_bytes(self) -> int:
        """Put and not written yet."""
        return 0

    def put(self, data: bytes) -> None:
        self._try(self._write, data)

    def finish(self) -> None:
        """There is no more: sync it, and give it its name."""
        self._try(self._finish)
        self.is_finished = True

    def give_up(self) -> None:
        """It will not have its name, and is removed."""
        started_ns = self._clock.monotonic_ns()
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._files.unlink(self._temporary)
        self.removing_ns = self._clock.monotonic_ns() - started_ns
        self.is_finished = True

    def _try(self, deed: Callable[..., None], *arguments: bytes) -> None:
        """Do something unless something has failed before."""
        if self.error is None:
            try:
                deed(*arguments)
            except OSError as error:
                self.error = error

    def _write(self, data: bytes) -> None:
        if self._checksum is not None:
            self._sum = self._checksum(data, self._sum)
        self._files.write(self._descriptor, data)
        self._unsynced_bytes += len(data)
        if self._unsynced_bytes >= _SYNC_BYTES:
            self._unsynced_bytes = 0
            self._files.fdatasync(self._descriptor)

    def _finish(self) -> None:
        self._write(file_writer.END)
        self._files.write(self._descriptor, self._sum.to_bytes(8, "little"))
        self._files.fsync(self._descriptor)
        self._close()
        self._rename()
        self._files.fsync_directory(os.path.dirname(self._path))

    def _rename(self) -> None:
        self._files.rename(self._temporary, self._path)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._files.close(descriptor)


class _Threaded(_Output):
    """As _Output, but what is to be done is done by a thread: writing and syncing wait for the disk."""

    def __init__(self, files: Files, clock: Clock, path: str, temporary: str, checksum: Checksum | None) -> None:
        super().__init__(files, clock, path, temporary, checksum)
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()  # pieces of the file, and None behind the last
        self._naming = Lock()
        self._is_unwanted = False
        self._put_bytes = 0  # by the loop
        self._done_bytes = 0  # by the thread
        # Not a Thread, whose start() waits until it runs: where processors are scarce that is some milliseconds.
        start_new_thread(self._run, ())

    @property
    def waiting_bytes(self) -> int:
        return self._put_bytes - self._done_bytes

    def put(self, data: bytes) -> None:
        self._put_bytes += len(data)
        self._queue.put(data)

    def finish(self) -> None:
        self._queue.put(None)

    def give_up(self) -> None:
        # From here on it is not given its name, whatever the thread is about.
        with self._naming:
            self._is_unwanted = True
        self._queue.put(None)

    def _rename(self) -> None:
        with self._naming:
            if not self._is_unwanted:
                super()._rename()

    def _run(self) -> None:
        while (piece := self._queue.get()) is not None:
            if not self._is_unwanted:
                self._try(self._write, piece)
            self._done_bytes += len(piece)
        if not self._is_unwanted:
            self._try(self._finish)
        if self._is_unwanted or self.error is not None:
            super().give_up()
        self.is_finished = True
