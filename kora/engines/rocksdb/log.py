"""The log of batches: what was written to the instances and may not be in their files yet, in one for all of them.

RocksDB's own logs, one for each instance, would end at different batches after a crash.  In this one a batch is a
frame, wholly there or not at all, and one sync is enough for all shards.

A frame is its size and its CRC-32, the number of the batch, and what goes to each shard.  When the file is large
another is begun, and the old one is deleted once everything in it has become part of the instances' files.
"""

import marshal
import os
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from struct import Struct
from typing import Any, Final

_HEAD: Final = Struct("<QIQ")  # bytes of the rest, its CRC-32 with that of the number, and the number
_NUMBER: Final = Struct("<Q")
_VERSION: Final = 2  # of marshal: the last one without references between objects
_PREFIX: Final = "batches-"
_SUFFIX: Final = ".log"


class BadLog(Exception):
    """A log is corrupted in the middle; one line that says which, where, and what can be done."""


class BatchLog:
    """Used by one thread at a time, but for sync(), which any other may call meanwhile."""

    def __init__(self, directory: str, monotonic_ns: Callable[[], int]) -> None:
        self._directory = directory
        self._monotonic_ns = monotonic_ns
        self._number = 0
        self._descriptor = -1
        self._syncing = threading.Lock()  # the file stays open while it is synced, also by another thread
        self.size_bytes = 0  # of the file that is written to
        self.cut_bytes = 0  # that a crash has left of a batch which was not written wholly
        self.is_suspect = False  # a sync has failed, or taking back a part of a batch: what is on the disk is not known
        # For /metrics.
        self.written_bytes = 0
        self.syncs = 0
        self.sync_ns = 0

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    def read(self) -> Generator[tuple[int, Any], None, None]:
        """The number of each batch that is there, and what goes to each shard.  Raises BadLog and OSError.

        All that is given is synced, since the instances' files must not be ahead of it.
        """
        paths = [self._path(number) for number in self._numbers()]
        for index, path in reversed([*enumerate(paths)]):
            with open(path, "rb") as file:
                if file.read(len(_ALL_BEFORE)) == _ALL_BEFORE:
                    paths = paths[index:]
                    break
        generation = 0
        for index, path in enumerate(paths):
            with open(path, "rb") as file:
                data = file.read()
                os.fdatasync(file.fileno())
            stop = 0
            for frame_stop, generation, parts in _frames(data):
                yield generation, parts
                stop = frame_stop
            if stop != len(data):
                if _goes_on(data, stop, generation) or any(map(os.path.getsize, paths[index + 1 :])):
                    raise BadLog(
                        f"{path}: is corrupted at byte {stop} of {len(data)}, and there are batches behind it: have a "
                        f"checkpoint in place of the directory, or do without them: truncate -s {stop} {path}"
                        + "".join(f" && rm {later}" for later in paths[index + 1 :])
                    )
                # The next frame must not stand behind what is none.
                os.truncate(path, stop)
                self.cut_bytes = len(data) - stop

    def open(self) -> None:
        """Go on behind what read() has given; raises OSError."""
        self._number = max(self._numbers(), default=1)
        self._open(os.O_CREAT)

    def append(self, frame: bytes) -> None:
        """Raises OSError, and then nothing of it is there."""
        try:
            written = 0
            while written < len(frame):
                written += os.write(self._descriptor, frame[written:] if written else frame)
        except OSError:
            try:
                os.ftruncate(self._descriptor, self.size_bytes)
            except OSError:
                # What would come now would stand behind what is no batch.
                self.is_suspect = True
            raise
        self.size_bytes += len(frame)
        self.written_bytes += len(frame)

    def sync(self) -> None:
        """Raises OSError."""
        started_ns = self._monotonic_ns()
        with self._syncing:
            try:
                os.fdatasync(self._descriptor)
            except OSError:
                self.is_suspect = True
                raise
        self.syncs += 1
        self.sync_ns += self._monotonic_ns() - started_ns

    def begin_another(self) -> int:
        """Go on in another file; returns its number.  The one before is synced, unless it is suspect.

        Raises OSError.
        """
        was_suspect = self.is_suspect
        if not was_suspect:
            self.sync()
        old = self._descriptor
        self._number += 1
        try:
            self._open(os.O_CREAT | os.O_EXCL)
        except OSError:
            self._number -= 1
            raise
        if was_suspect:
            self.is_suspect = False
        with self._syncing:
            os.close(old)
        return self._number

    def note_all_before(self) -> None:
        """The file is new, and everything in older ones is elsewhere: whatever there is of those, it is not needed.

        Raises OSError.
        """
        self.append(_ALL_BEFORE)
        self.sync()

    def drop_before(self, number: int) -> None:
        """Everything in older files is elsewhere.  Raises OSError."""
        for old in self._numbers():
            if old < number:
                os.unlink(self._path(old))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, flags: int) -> None:
        descriptor = os.open(self._path(self._number), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)
        try:
            sync_directory(self._directory)
            self.size_bytes = os.fstat(descriptor).st_size
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _numbers(self) -> list[int]:
        names = os.listdir(self._directory)
        return sorted(
            int(name[len(_PREFIX) : -len(_SUFFIX)])
            for name in names
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
        )

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, f"{_PREFIX}{number:06}{_SUFFIX}")


def sync_directory(path: str) -> None:
    """Have the names in it last; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def frame_of(generation: int, parts: Any) -> bytes:
    data = marshal.dumps(parts, _VERSION)
    return _HEAD.pack(len(data), zlib.crc32(data, zlib.crc32(_NUMBER.pack(generation))), generation) + data


# Of no shard, with the number that no batch has.
_ALL_BEFORE: Final = frame_of(0, [])


def _frames(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Where each frame that is whole ends, its number, and its parts."""
    start = 0
    while (stop := _stop_of(data, start)) is not None:
        _, _, generation = _HEAD.unpack_from(data, start)
        yield stop, generation, marshal.loads(memoryview(data)[start + _HEAD.size : stop])
        start = stop


def _stop_of(data: bytes, start: int) -> int | None:
    """Where a frame ends; None where none is there, or not the whole of it."""
    if start + _HEAD.size > len(data):
        return None
    size_bytes, checksum, generation = _HEAD.unpack_from(data, start)
    stop: int = start + _HEAD.size + size_bytes
    if stop > len(data):
        return None
    payload = memoryview(data)[start + _HEAD.size : stop]
    return stop if zlib.crc32(payload, zlib.crc32(_NUMBER.pack(generation))) == checksum else None


def _goes_on(data: bytes, start: int, generation: int) -> bool:
    """Whether a whole frame begins somewhere behind: then this is not the end that a crash leaves."""
    # The upper half of a number like the last, and what a list begins with.
    mark = _NUMBER.pack(generation)[4:] + b"["
    place = _HEAD.size - 4
    found = data.find(mark, start + 1 + place)
    while found >= 0:
        if _stop_of(data, found - place) is not None:
            return True
        found = data.find(mark, found + 1)
    return False
