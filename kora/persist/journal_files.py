"""The files of a journal: what they are called, what the manifest says of them, and reading records one by one.

Redis' multi-part layout (redis src/aof.c): a directory with a base file, which holds the data as it was at one moment,
increments with the commands since, and a manifest that says which files count, in which order.  A journal file is RESP:
commands as clients send them, and between them annotations, lines that begin with `#` and that only people and tools
read.  A base is mostly a snapshot, and then begins with `REDIS`.

read_records() gives offsets with everything, and is for examining; what loads a journal is quicker (replay.py).
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, NamedTuple, Protocol

from kora.resp.parser import split_words

SNAPSHOT_MAGIC: Final = b"REDIS"
# No annotation and no length line is longer: AOF_ANNOTATION_LINE_MAX_LEN of Redis.
LINE_BYTES_MAX: Final = 1024

_CHUNK_BYTES: Final = 1 << 16
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,18}")
# Redis 8 has offsets as well, which tell replicas what they have.
_FIELDS: Final = frozenset((b"file", b"seq", b"type", b"startoffset", b"endoffset"))
_NAME: Final = re.compile(r"(.*)\.(\d+)\.(base|incr)\.(aof|rdb)", re.DOTALL)


class JournalError(Exception):
    """Base of: Torn, Damaged, BadManifest."""


class Torn(JournalError):
    """A file ends within a record, which begins at `offset`; all before it is whole."""

    def __init__(self, offset: int, size_bytes: int) -> None:
        super().__init__(f"ends within a command that begins at offset {offset}: {size_bytes - offset} bytes of it")
        self.offset = offset
        self.size_bytes = size_bytes


class Damaged(JournalError):
    """What is at an offset can be no journal; `expected` says what should be there."""

    def __init__(self, offset: int, expected: str, found: bytes = b"") -> None:
        super().__init__(f"expected {expected} at offset {offset}" + (f", found {found!r}" if found else ""))
        self.offset = offset
        self.expected = expected
        self.found = found


class BadManifest(JournalError):
    """The manifest says nothing that can be followed."""


class Record(NamedTuple):
    """One command with its words, or one annotation with its text and no words; bytes `start` to `stop` of the file."""

    start: int
    stop: int
    argv: list[bytes]
    annotation: bytes = b""

    @property
    def timestamp_s(self) -> int | None:
        """Of a `#TS:` annotation: commands behind it ran then or later, in Unix seconds."""
        digits = self.annotation.removeprefix(b"#TS:")
        return int(digits) if digits != self.annotation and _LENGTH.fullmatch(digits) else None


class Content(Protocol):
    """What a file holds: bytes, or an mmap of it."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def find(self, wanted: bytes, start: int, stop: int, /) -> int: ...


def read_records(content: Content, start: int = 0) -> Iterator[Record]:
    """Records from an offset on, one after another.

    Nothing is allocated for a length that the file does not have.  Raises Torn where the file ends within a record, and
    Damaged where something is no record.
    """
    size_bytes = len(content)
    at = start
    while at < size_bytes:
        begin = at
        first = content[at : at + 1]
        if first == b"#":
            line, at = _line(content, at, begin)
            yield Record(begin, at, [], line)
            continue
        if first != b"*":
            raise Damaged(at, "`*` or `#`", first)
        count, at = _length(content, at, b"*", begin)
        if count == 0:
            raise Damaged(begin, "a command with at least one word", b"*0")
        argv = []
        for _ in range(count):
            if at >= size_bytes:
                raise Torn(begin, size_bytes)
            length, at = _length(content, at, b"$", begin)
            stop = at + length
            if stop + 2 > size_bytes:
                if content[stop : stop + 2] not in (b"", b"\r"):
                    raise Damaged(stop, "the end of a line", content[stop : stop + 2])
                raise Torn(begin, size_bytes)
            if content[stop : stop + 2] != b"\r\n":
                raise Damaged(stop, "the end of a line", content[stop : stop + 2])
            argv.append(content[at:stop])
            at = stop + 2
        yield Record(begin, at, argv)


def end_of_text(content: Content, start: int) -> int:
    """Where the zeros begin that a file may end in, as it had grown before its bytes came to the disk.

    They are as good as not there: what can be read ends with a line.
    """
    stop = len(content)
    while stop > start and content[stop - 1 : stop] == b"\0":
        left = max(start, stop - _CHUNK_BYTES)
        stop = left + len(content[left:stop].rstrip(b"\0"))
    return stop


def _length(content: Content, at: int, kind: bytes, begin: int) -> tuple[int, int]:
    first = content[at : at + 1]
    if first != kind:
        raise Damaged(at, f"`{kind.decode()}`", first)
    line, stop = _line(content, at, begin)
    if not _LENGTH.fullmatch(line, 1):
        raise Damaged(at + 1, "a length", line[1:])
    return int(line[1:]), stop


def _line(content: Content, at: int, begin: int) -> tuple[bytes, int]:
    """A line without its end, and where the next begins.  The record that it belongs to begins at `begin`."""
    stop = content.find(b"\n", at, at + LINE_BYTES_MAX)
    if stop < 0:
        if len(content) - at < LINE_BYTES_MAX:
            raise Torn(begin, len(content))
        raise Damaged(at, "a line")
    line = content[at:stop]
    if line[-1:] != b"\r":
        raise Damaged(stop, "the end of a line", line[-1:] + b"\n")
    return line[:-1], stop + 1


# --- The manifest ---


class FileType(Enum):
    BASE = "b"
    HISTORY = "h"  # replaced by a rewrite, and about to be removed
    INCREMENT = "i"


@dataclass(frozen=True)
class JournalFile:
    """One line of the manifest."""

    name: str
    sequence: int
    type: FileType


@dataclass(frozen=True)
class Manifest:
    """Which files make up a journal.  Changed by making another, and then writing that in its place."""

    base: JournalFile | None = None
    increments: tuple[JournalFile, ...] = ()  # in order; the last is the one that is written to
    history: tuple[JournalFile, ...] = ()
    last_sequence: int = 0  # of files that are there though nothing names them: not to be written over

    @property
    def files(self) -> tuple[JournalFile, ...]:
        """What has to be loaded, in order."""
        return (*((self.base,) if self.base is not None else ()), *self.increments)

    def with_increment(self, prefix: str) -> "Manifest":
        """One more, which is written to from now on."""
        sequence = 1 + max(self.last_sequence, self.increments[-1].sequence if self.increments else 0)
        new = JournalFile(f"{prefix}.{sequence}.incr.aof", sequence, FileType.INCREMENT)
        return replace(self, increments=(*self.increments, new))

    def next_base(self, prefix: str, is_snapshot: bool = True) -> JournalFile:
        """The base that a rewrite is to make."""
        sequence = 1 + max(self.last_sequence, self.base.sequence if self.base is not None else 0)
        return JournalFile(f"{prefix}.{sequence}.base.{'rdb' if is_snapshot else 'aof'}", sequence, FileType.BASE)

    def with_base(self, base: JournalFile, first_increment: int) -> "Manifest":
        """A rewrite is done: what it replaces, increments before that number too, is history."""
        old = [increment for increment in self.increments if increment.sequence < first_increment]
        if self.base is not None:
            old.insert(0, self.base)
        return Manifest(
            base,
            tuple(increment for increment in self.increments if increment.sequence >= first_increment),
            (*self.history, *(replace(file, type=FileType.HISTORY) for file in old)),
        )

    def encode(self) -> bytes:
        files = (*((self.base,) if self.base is not None else ()), *self.history, *self.increments)
        return "".join(
            f"file {_quoted(file.name)} seq {file.sequence} type {file.type.value}\n" for file in files
        ).encode("utf-8", "surrogateescape")

    @classmethod
    def parse(cls, text: bytes) -> "Manifest":
        """Raises BadManifest, in which the line is named."""
        base: JournalFile | None = None
        increments: list[JournalFile] = []
        history: list[JournalFile] = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            file = _parse_line(line, number)
            if file.type is FileType.BASE:
                if base is not None:
                    raise BadManifest(f"line {number}: a second base file")
                base = file
            elif file.type is FileType.HISTORY:
                history.append(file)
            else:
                if increments and file.sequence <= increments[-1].sequence:
                    raise BadManifest(f"line {number}: increments are not in order")
                increments.append(file)
        if base is None and not increments:
            raise BadManifest("it names no file")
        _check_history(history, increments)
        return cls(base, tuple(increments), tuple(history))


def manifest_path(directory: str, prefix: str) -> str:
    return os.path.join(directory, f"{prefix}.manifest")


def prefix_of(name: str) -> str:
    """What appendfilename was, by the name of one of the files or of the manifest; "" for another file."""
    if name.endswith(".manifest"):
        return name.removesuffix(".manifest")
    match = _NAME.fullmatch(name)
    return match[1] if match is not None else ""


def sequence_of(name: str, prefix: str) -> int:
    """The number of a base or an increment; 0 for any other file."""
    match = _NAME.fullmatch(name)
    return int(match[2]) if match is not None and match[1] == prefix else 0


def _parse_line(line: bytes, number: int) -> JournalFile:
    words = split_words(line)
    if words is None or len(words) % 2:
        raise BadManifest(f"line {number}: not made of names and values")
    fields = {words[place]: words[place + 1].decode("utf-8", "surrogateescape") for place in range(0, len(words), 2)}
    if len(fields) * 2 < len(words) or not fields.keys() <= _FIELDS:
        raise BadManifest(f"line {number}: a name that is not known, or is there twice")
    name, sequence, kind = (fields.get(word, "") for word in (b"file", b"seq", b"type"))
    if not name or os.path.basename(name) != name:
        raise BadManifest(f"line {number}: no name of a file in the same directory")
    if not sequence.isdecimal() or int(sequence) == 0:
        raise BadManifest(f"line {number}: no sequence number")
    match = _NAME.fullmatch(name)
    if match is not None and (int(match[2]) != int(sequence) or kind not in ("h", match[3][0])):
        raise BadManifest(f"line {number}: the name says something else than number and type")
    try:
        return JournalFile(name, int(sequence), FileType(kind))
    except ValueError:
        raise BadManifest(f"line {number}: no type of file: {kind}") from None


def _check_history(history: list[JournalFile], increments: list[JournalFile]) -> None:
    """Raises BadManifest where a file cannot have been replaced: one flipped bit makes history of an increment, and
    history is removed.

    redis-server makes history of a base and of all increments up to some at once, and forgets it at once; Kora writes
    none.
    """
    old = [file for file in history if ".incr." in file.name]
    if not old:
        return
    if len(old) == len(history):
        raise BadManifest(f"{old[0].name} is said to be replaced, and no base with it")
    if not increments or old[-1].sequence >= increments[0].sequence:
        raise BadManifest(f"{old[-1].name} is said to be replaced, and what came before is not")


def _quoted(name: str) -> str:
    """As Redis writes it: between quotes where it has spaces or such."""
    if name and not re.search(r"[\s\"'\\]|[^\x20-\x7e]", name):
        return name
    data = name.encode("utf-8", "surrogateescape")
    escaped = "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in data
    )
    return f'"{escaped}"'
