"""Every call that persistence makes of the file system, in one class, so that tests put a faulty one in its place.

Descriptors are plain ints and paths plain strings.  Each method but write() and replace() is one system call, and every
one raises OSError as that does.  They are called on the loop and on writers' threads alike, so nothing is kept here.
"""

import os
from typing import TypeAlias

Data: TypeAlias = "bytes | bytearray | memoryview"

# As Redis: everybody may read a snapshot who may read its directory, less what the umask says.
_MODE = 0o666


class Files:
    # Descriptors

    def create(self, path: str) -> int:
        """A new, empty file to write to, in place of one that may be there."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)

    def append(self, path: str) -> int:
        """A file to append to, which may be new."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)

    def open(self, path: str) -> int:
        """An existing file, to read it."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def write(self, descriptor: int, data: Data) -> None:
        """All of it.  Where this fails nobody knows how much of it was written."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.write_some(descriptor, rest) :]

    def write_some(self, descriptor: int, data: Data) -> int:
        """Returns how many bytes were written, as a nearly full disk leaves it at some."""
        return os.write(descriptor, data)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def fdatasync(self, descriptor: int) -> None:
        """As fsync(), without times and such, which nobody needs to read the file."""
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        os.ftruncate(descriptor, size_bytes)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    # Names

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_directory(self, path: str) -> None:
        """It may be there already."""
        os.makedirs(path, exist_ok=True)

    def fsync_directory(self, path: str) -> None:
        """Have what was created, renamed or removed in a directory be so after a power cut."""
        descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)

    def replace(self, source: str, target: str) -> None:
        """Give a file that is written, synced and closed the name under which it is looked for, for good."""
        self.rename(source, target)
        self.fsync_directory(os.path.dirname(target))

    # Looking

    def size_bytes(self, path: str) -> int:
        return os.stat(path).st_size

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def names(self, path: str) -> list[str]:
        """What is in a directory."""
        return sorted(os.listdir(path))
