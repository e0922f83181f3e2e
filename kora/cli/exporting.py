"""`kora export rdb FILE`: the keys of a running server as an RDB file, which Redis, Valkey and Kora load.

    kora export rdb dump.rdb                        of redis://127.0.0.1:6379
    kora export rdb dump.rdb rediss://host:port     from elsewhere

Where the server's own files can be read, it is asked for a snapshot (BGSAVE), and that is copied: the data of one
moment.  From elsewhere, or with --walk, the keys are read one after another over the connection: each key is as it was
at some moment, though not all at the same.  The file has its name only when it is complete and on the disk.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Final
from urllib.parse import urlsplit

from kora import REDIS_VERSION
from kora.cli.walk import DEFAULT_URL, REMEDY, Batch, Found, Link, Progress, Refused, walk
from kora.types.rdb.writer import Writer

_COPY_BYTES: Final = 1 << 20
_POLL_S: Final = 0.1
_HEAD: Final = b"REDIS%04d"
_FOOT_BYTES: Final = 10  # of a payload: version and checksum
_NO_DEADLINE: Final = -1
_OLDEST: Final = 10  # version of RDB: what nearly all servers read
# RDB_OPCODE_… (rdb.h)
_ABOUT: Final = b"\xfa"
_DEADLINE: Final = b"\xfc"
_SELECT: Final = b"\xfe"
_END: Final = b"\xff"
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what to write")
    parser.add_argument("url", nargs="?", default=DEFAULT_URL, help=f"of which server; {DEFAULT_URL} if left out")
    parser.add_argument("--walk", action="store_true", help="read key by key, and do not ask for a snapshot")


def run(options: argparse.Namespace) -> int:
    try:
        import redis
    except ImportError:
        print(f"kora export: {REMEDY}", file=sys.stderr)
        return 1
    making = f"{options.file}-{os.getpid()}"
    try:
        link = Link(options.url)
        try:
            with open(making, "w+b", buffering=_COPY_BYTES) as file:
                keys = _export(link, file, options.url, options.walk)
                file.flush()
                os.fsync(file.fileno())
                size_bytes = os.fstat(file.fileno()).st_size
            os.replace(making, options.file)
            _sync_directory(options.file)
        finally:
            link.close()
            with suppress(FileNotFoundError):
                os.unlink(making)
    except KeyboardInterrupt:
        print("kora export: interrupted, and nothing was written", file=sys.stderr)
        return 130
    except (Refused, redis.RedisError, OSError, ValueError) as error:
        print(f"kora export: {error}", file=sys.stderr)
        return 1
    print(f"{options.file}: {keys} keys, {size_bytes} bytes")
    return 0


def _export(link: Link, file: BinaryIO, url: str, walks: bool) -> int:
    """Write the file; returns how many keys were there."""
    snapshot = None if walks else _snapshot(link, url)
    if snapshot is None:
        if not walks:
            print("key by key, since there is no snapshot of the server that can be read from here", file=sys.stderr)
        return _Walk(link, file).write()
    with snapshot:
        print("the snapshot that the server has written", file=sys.stderr)
        while data := snapshot.read(_COPY_BYTES):
            file.write(data)
    return sum(link.counts().values())


# The server's own snapshot


def _snapshot(link: Link, url: str) -> BinaryIO | None:
    """A snapshot that the server has just written, if it is of this machine and can be read."""
    parts = urlsplit(url)
    if parts.scheme != "unix" and parts.hostname not in _LOCAL:
        return None
    try:
        directory, name = (os.fsdecode(link.do("CONFIG", "GET", setting)[1]) for setting in ("dir", "dbfilename"))
    except (Refused, LookupError):
        return None
    path = os.path.join(directory, name)
    if not os.path.isabs(path) or not os.path.isdir(directory):
        return None
    before = _inode(path)
    try:
        _save(link)
    except Refused as error:
        print(f"no snapshot: {error}", file=sys.stderr)
        return None
    # Behind a forwarded port there is another machine, with a directory of the same name.
    if _inode(path) == before:
        return None
    try:
        return open(path, "rb")
    except PermissionError:
        return None


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _save(link: Link) -> None:
    """Have a snapshot written, and wait for its end.  Raises Refused."""
    while True:
        try:
            link.do("BGSAVE", "SCHEDULE")
            break
        except Refused as error:
            # One that has begun before is of a moment before: it is waited for, and then there is another.
            if "in progress" not in str(error):
                raise
            time.sleep(_POLL_S)
    while link.info("persistence").get("rdb_bgsave_in_progress") == "1":
        time.sleep(_POLL_S)
    if link.info("persistence").get("rdb_last_bgsave_status", "ok") != "ok":
        raise Refused("the server could not write its snapshot; its log says why")


# Key by key


class _Walk:
    def __init__(self, link: Link, file: BinaryIO) -> None:
        from kora import kernel
        from kora.types.crc64 import crc64

        compiled = kernel.load()
        self._crc64: Callable[[bytes, int], int] = crc64 if compiled is None else compiled.crc64
        self._link = link
        self._file = file
        self._writer = Writer()
        self._version = _OLDEST

    def write(self) -> int:
        link = self._link
        counts = link.counts()
        databases = sorted(counts) if link.database is None else [link.database]
        progress = Progress(sum(counts.get(database, 0) for database in databases))
        self._file.write(_HEAD % self._version)
        self._write_about("redis-ver", REDIS_VERSION)
        self._write_about("ctime", str(int(time.time())))
        self._write_functions()
        for database in databases:
            if counts.get(database):
                self._write_database(database, progress)
        progress.clear()
        self._file.write(_END)
        self._finish()
        return progress.done

    def _write_about(self, name: str, text: str) -> None:
        self._writer.data += _ABOUT
        self._writer.string(name.encode())
        self._writer.string(text.encode())
        self._flush()

    def _write_functions(self) -> None:
        try:
            dump = self._link.do("FUNCTION", "DUMP")
        except Refused:
            return  # before Redis 7.0 there are none
        self._note_version(dump)
        self._file.write(dump[:-_FOOT_BYTES])

    def _write_database(self, database: int, progress: Progress) -> None:
        self._writer.data += _SELECT
        self._writer.length(database)
        self._flush()
        question, added_ms = self._question()
        # SCAN may show a key twice, and in a file it may be once only.
        seen: set[bytes] = set()
        for _, found in walk(self._link, database, b"0", question, Batch()):
            count = 0
            for row in found:
                if row.name not in seen:
                    seen.add(row.name)
                    self._write_key(row, added_ms)
                    count += 1
            self._flush()
            progress.add(count, f"database {database}")

    def _question(self) -> tuple[str, int]:
        """How to ask for deadlines, and what to add to the answer."""
        try:
            self._link.do("PEXPIRETIME", "nosuch")
        except Refused:
            return "PTTL", int(time.time() * 1000)  # before Redis 7.0
        return "PEXPIRETIME", 0

    def _write_key(self, row: Found, added_ms: int) -> None:
        writer, payload = self._writer, row.payload
        self._note_version(payload)
        if row.deadline != _NO_DEADLINE:
            writer.data += _DEADLINE
            writer.integer(row.deadline + added_ms, 8)
        writer.data += payload[:1]
        writer.string(row.name)
        writer.data += memoryview(payload)[1:-_FOOT_BYTES]

    def _note_version(self, payload: bytes) -> None:
        self._version = max(self._version, int.from_bytes(payload[-_FOOT_BYTES : 2 - _FOOT_BYTES], "little"))

    def _flush(self) -> None:
        self._file.write(self._writer.data)
        self._writer.data.clear()

    def _finish(self) -> None:
        """The version is that of the newest value, which is known only now; and the checksum is of all."""
        file = self._file
        file.seek(0)
        file.write(_HEAD % self._version)
        file.seek(0)
        crc = 0
        while data := file.read(_COPY_BYTES):
            crc = self._crc64(data, crc)
        file.write(crc.to_bytes(8, "little"))


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
