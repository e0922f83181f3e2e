"""Loading a journal: its base, and then the commands of its increments, run once more.

Commands take the kernel's way where they can, without replies and without being counted.  A transaction is run when its
EXEC has been read.  Nothing ends by itself meanwhile: what has ended, and when, is in the journal.

The last file may be torn, since nobody can write a command and lose power afterwards in one step: then it is cut at the
last whole command, or transaction, which is reported.  Everything else that is no journal is refused, with its offset:
a length that is wrong makes all that follows look like one command that is torn, and so what is cut away is searched
for commands.
"""

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from kora.engine.call import run_errands
from kora.engine.loading import Loading
from kora.errors import CommandError, ProtocolError, wrong_arity

from .files import Files
from .journal_files import (
    SNAPSHOT_MAGIC,
    BadManifest,
    Damaged,
    JournalFile,
    Manifest,
    Record,
    Torn,
    end_of_text,
    manifest_path,
    read_records,
)
from .loading import TURN_NS, CannotLoad, CorruptFile, Report, Steps, load_rdb

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_CHUNK_BYTES: Final = 1 << 16
# Where another command may begin.
_COMMAND: Final = re.compile(rb"\n\*[1-9][0-9]{0,6}\r\n\$[0-9]{1,10}\r\n")
_WORDS_SHOWN: Final = 64


@dataclass
class JournalReport:
    """What was loaded."""

    manifest: Manifest
    commands: int = 0
    base: Report | None = None
    # Where the last file was cut, and how many bytes that took; "" where it was not.
    cut_path: str = ""
    cut_offset: int = 0
    cut_bytes: int = 0
    files: list[str] = field(default_factory=list)


def find_journal(directory: str, prefix: str) -> Manifest | None:
    """The manifest of a journal, or None where there is no journal.  Raises CannotLoad and OSError."""
    path = manifest_path(directory, prefix)
    try:
        with open(path, "rb") as file:
            return Manifest.parse(file.read())
    except FileNotFoundError:
        return None
    except BadManifest as error:
        raise CannotLoad(path, 0, str(error)) from error


def journal_bytes(directory: str, manifest: Manifest) -> int:
    """What there is to load.  Raises OSError where a file is missing."""
    return sum(os.stat(os.path.join(directory, file.name)).st_size for file in manifest.files)


def load_journal(
    engine: "Engine", directory: str, manifest: Manifest, progress: Loading, files: Files | None = None
) -> Steps[JournalReport]:
    """Load all files of a journal into databases that are empty, and cut the last where it is torn.

    Raises CannotLoad and OSError.
    """
    report = JournalReport(manifest)
    replayer = _Replayer(engine, progress, report, files or Files())
    engine.set_replaying(True)
    try:
        for file in manifest.files:
            is_last = file is manifest.files[-1]
            yield from replayer.load(directory, file, is_last)
    finally:
        engine.set_replaying(False)
    return report


class _Replayer:
    def __init__(self, engine: "Engine", progress: Loading, report: JournalReport, files: Files) -> None:
        self._engine = engine
        self._progress = progress
        self._report = report
        self._files = files
        self._client = engine.make_replaying_client()
        # Of the file that is being read.
        self._path = ""
        self._start = 0  # where its commands begin
        self._stop = 0  # and where they end: behind that are zeros
        self._transaction: list[list[bytes]] | None = None
        self._transaction_place = (0, 0)  # of MULTI, as place() says it

    def load(self, directory: str, file: JournalFile, is_last: bool) -> Steps[None]:
        path = self._path = os.path.join(directory, file.name)
        self._report.files.append(file.name)
        with open(path, "rb", buffering=0) as source:
            size_bytes = os.fstat(source.fileno()).st_size
            start = 0
            if source.read(len(SNAPSHOT_MAGIC)) == SNAPSHOT_MAGIC:
                source.seek(0)
                # Its own counts of bytes begin where the files before this one end.
                steps = load_rdb(self._engine, source, size_bytes, self._progress, path=path, in_journal=True)
                self._report.base = yield from steps
                start = self._report.base.stop
            yield from self._replay(source, start, size_bytes, is_last)

    def _replay(self, source: BinaryIO, start: int, size_bytes: int, is_last: bool) -> Steps[None]:
        engine, client, progress = self._engine, self._client, self._progress
        client.db = engine.databases[0]
        client.parser = engine.make_parser()
        client.parser.authenticated = True
        client.parser.bulk_max = engine.config.proto_max_bulk_len
        self._start = start
        self._transaction = None
        loaded_before = progress.loaded_bytes
        stop = size_bytes
        if start < stop:
            with _content(source, size_bytes) as content:
                stop = end_of_text(content, start)
        self._stop = stop
        source.seek(start)
        turn_ns = engine.monotonic_ns()
        at = good = start

        def verify(offset: int, count: int) -> None:
            nonlocal good
            good = start + offset
            with _content(source, stop) as content:
                for record in islice(read_records(content, good), count):
                    good = record.stop

        while data := source.read(min(_CHUNK_BYTES, stop - at)):
            try:
                self._report.commands += engine.implementation.replay(client, data, self._run, verify)
            except (Damaged, Torn) as error:
                # None of the commands that were read with this one has been run, so the file must not be kept so far.
                raise CorruptFile(self._path, error.offset, str(error), good) from None
            except (CommandError, ProtocolError) as error:
                self._refuse(source, size_bytes, error, is_last)
                return
            at += len(data)
            progress.loaded_bytes = loaded_before + at - start
            if engine.monotonic_ns() - turn_ns >= TURN_NS:
                yield
                turn_ns = engine.monotonic_ns()
        rest_bytes = client.parser.buffered_bytes
        if self._transaction is not None:
            self._cut(source, self._offset(source, self._transaction_place), size_bytes, is_last)
        elif rest_bytes or stop < size_bytes:
            self._cut(source, stop - rest_bytes, size_bytes, is_last)

    # Commands that need Python

    def _run(self, argv: list[bytes]) -> bool:
        """Run a command, or keep it for EXEC; returns whether a transaction is open.  Raises CommandError."""
        if argv[0][:1] == b"#":
            return self._transaction is not None
        name = argv[0].lower()
        queue = self._transaction
        if name == b"multi":
            if queue is not None:
                raise CommandError("ERR MULTI calls can not be nested")
            self._transaction = []
            self._transaction_place = self._engine.implementation.replay_place
            return True
        if queue is None:
            self._perform(argv)
            return False
        if name != b"exec":
            queue.append(argv)
            return True
        self._transaction = None
        for queued in queue:
            self._perform(queued)
        return False

    def _perform(self, argv: list[bytes]) -> None:
        engine, client = self._engine, self._client
        command = engine.registry.find(argv)
        if not command.argc_min <= len(argv) <= command.argc_max:
            raise wrong_arity(command.name)
        client.command = command
        reply = command.handler(client, argv)
        if engine.errands:
            run_errands(client)
        if isinstance(reply, CommandError):
            raise reply

    # Where it is no journal

    def _offset(self, source: BinaryIO, place: tuple[int, int]) -> int:
        """Of a command: the n-th behind an offset, as the implementation counts."""
        offset, count = self._start + place[0], place[1]
        with _content(source, self._stop) as content:
            for record in _records_as_far(content, offset):
                if not count:
                    return record.start
                count -= 1
                offset = record.stop
        return offset

    def _refuse(self, source: BinaryIO, size_bytes: int, error: Exception, is_last: bool) -> None:
        """A command cannot be run: say where it is, and what is wrong with it."""
        place = self._engine.implementation.replay_place
        offset = self._offset(source, place)
        good = offset if self._transaction is None else self._offset(source, self._transaction_place)
        with _content(source, self._stop) as content:
            try:
                record = next(read_records(content, offset))
                word = record.argv[0][:_WORDS_SHOWN].decode("utf-8", "backslashreplace") if record.argv else "#"
                reason = f"{word}: {error}"
            except (Damaged, Torn, StopIteration) as fault:
                if isinstance(fault, Torn):
                    self._cut(source, good, size_bytes, is_last)
                    return
                reason = str(fault)
        raise CorruptFile(self._path, offset, reason, good)

    def _cut(self, source: BinaryIO, offset: int, size_bytes: int, is_last: bool) -> None:
        """The file ends too early: keep what is before an offset."""
        path, report = self._path, self._report
        with _content(source, self._stop) as content:
            torn = _end(content, offset) if offset < self._stop else None
            if isinstance(torn, Damaged):
                raise CorruptFile(path, torn.offset, str(torn), offset)
            found = None if torn is None else _COMMAND.search(content, torn.offset)
            if torn is not None and found is not None and _is_commands(content, found.start() + 1):
                raise CorruptFile(path, torn.offset, "a length that is wrong: commands follow", offset)
        if not is_last:
            raise CorruptFile(path, offset, "ends in the middle of a command, and another file follows", offset)
        if not self._engine.config.aof_load_truncated:
            raise CorruptFile(path, offset, "ends in the middle of a command (aof-load-truncated is 'no')", offset)
        report.cut_path, report.cut_offset, report.cut_bytes = path, offset, size_bytes - offset
        descriptor = self._files.append(path)
        try:
            self._files.truncate(descriptor, offset)
            self._files.fsync(descriptor)
        finally:
            self._files.close(descriptor)


def _content(source: BinaryIO, stop: int) -> mmap.mmap:
    """The file's bytes up to there; all of a file that has only zeros, as there is no map of nothing."""
    return mmap.mmap(source.fileno(), stop, access=mmap.ACCESS_READ)


def _records_as_far(content: mmap.mmap, offset: int) -> Iterator[Record]:
    """Records up to where there is none."""
    try:
        yield from read_records(content, offset)
    except (Torn, Damaged):
        return


def _end(content: mmap.mmap, offset: int) -> Torn | Damaged | None:
    """What is wrong with the records from an offset on."""
    try:
        for _ in read_records(content, offset):
            pass
    except (Torn, Damaged) as error:
        return error
    return None


def _is_commands(content: mmap.mmap, offset: int) -> bool:
    """Whether from an offset on there are commands to the end, of which the last may be torn."""
    error = _end(content, offset)
    return error is None or (isinstance(error, Torn) and error.offset > offset)
