"""What waits to be written to the audit log: a ring in memory that the data process and the sidecar share.

The data process puts records in, numbered, and the sidecar takes them out once they are in the file.  So nothing that
is in the ring is lost when one of the two dies, and whoever is left knows by the numbers what is missing.  A record is
a head (_HEAD), and behind it its texts:

    command   identity of the client, name of the command, trace id, then the words: of each its length in 4 bytes, and
              the first bytes of it; the keys first, then the other words; and at the end the outcome, "" for a success
    event     a dictionary, in marshal form: what has happened that is no command
    gap       how many records were dropped, when the first of them was (ms), and its number

The kernel (kora/kernel/audit.c) writes the same; there are no other writers, and one thread writes.
"""

import marshal
import mmap
import os
import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

HEAD_BYTES: Final = 4096

# Words of the head's page.
CAPACITY: Final = 0
WRITTEN: Final = 1  # bytes, ever
READ: Final = 2  # the same, of those that are in the file
NUMBER: Final = 3  # of the last record, dropped ones included
DROPPED: Final = 4  # records, ever
GAP_COUNT: Final = 5  # dropped since the last that was not
GAP_SINCE: Final = 6  # when the first of these was, as Unix time in ms
GAP_FIRST: Final = 7  # and its number
CLOSED: Final = 8  # 1: the data process has ended in order, and there will be no more
WAITING: Final = 9  # bytes of records that wait in the data process, since there is no room for them
BLOCKED_NS: Final = 10  # how long clients were held, up to when the last was let go
BLOCKED_SINCE: Final = 11  # since when they are held, as CLOCK_MONOTONIC; 0: nobody is
FAULT: Final = 12  # errno of what keeps the sidecar from writing; 0: nothing does
RUN: Final = 13  # drawn at the start of the data process

COMMAND: Final = 1
EVENT: Final = 2
GAP: Final = 3

# Where a command was called.
DIRECTLY: Final = 0
IN_TRANSACTION: Final = 1
IN_SCRIPT: Final = 2

# How much of a word is kept, and how many words, and of how many bytes in all a record is at most.
KEY_BYTES_MAX: Final = 512
WORD_BYTES_MAX: Final = 128
KEYS_MAX: Final = 64
WORDS_MAX: Final = 32
RECORD_BYTES_MAX: Final = 8192

# size, kind, category, where, bytes of the outcome; number, time in ms; bytes of the identity and of the name; keys and
# other words that are here, and that there were; bytes of the trace id.
_HEAD: Final = struct.Struct("<IBBBBQQHHHHIIHxx")
_LENGTH: Final = struct.Struct("<I")
_GAP: Final = struct.Struct("<QQQ")

Identity: TypeAlias = "tuple[int, str | None, str, bytes]"  # id, user (None: not logged in), address, name


@dataclass(frozen=True)
class Record:
    kind: int
    category: int
    where: int
    number: int
    time_ms: int
    # Of a command.
    identity: bytes = b""
    name: bytes = b""
    trace: bytes = b""
    outcome: bytes = b""
    keys: Sequence[bytes] = ()
    keys_left_out: int = 0
    words: Sequence[bytes] = ()
    words_left_out: int = 0
    # Of the others.
    values: Any = None


def identity(client_id: int, user: str | None, address: str, name: bytes) -> bytes:
    return marshal.dumps((client_id, user, address, name), 2)


def identity_of(data: bytes) -> Identity:
    values: Identity = marshal.loads(data)
    return values


def command(
    number: int,
    time_ms: int,
    category: int,
    where: int,
    identity: bytes,
    name: bytes,
    outcome: bytes,
    keys: Sequence[bytes],
    words: Sequence[bytes],
    trace: bytes = b"",
) -> bytes:
    """The record of a command; `words` are those that are no keys."""
    outcome = outcome[:255]
    texts = [identity, name, trace]
    size = _HEAD.size + sum(map(len, texts)) + len(outcome)
    shown = []
    for group, bytes_max, count_max in ((keys, KEY_BYTES_MAX, KEYS_MAX), (words, WORD_BYTES_MAX, WORDS_MAX)):
        count = 0
        for word in group[:count_max]:
            if size + _LENGTH.size + min(len(word), bytes_max) > RECORD_BYTES_MAX:
                break
            texts += [_LENGTH.pack(len(word)), word[:bytes_max]]
            size += _LENGTH.size + min(len(word), bytes_max)
            count += 1
        shown.append(count)
    head = _HEAD.pack(
        size, COMMAND, category, where, len(outcome), number, time_ms, len(identity), len(name), *shown,
        len(keys), len(words), len(trace),
    )  # fmt: skip
    return head + b"".join(texts) + outcome


def event(number: int, time_ms: int, category: int, values: dict[str, Any]) -> bytes:
    body = marshal.dumps(values, 2)
    return _bare_head(EVENT, category, number, time_ms, len(body)) + body


def gap(number: int, time_ms: int, count: int, since_ms: int, first: int) -> bytes:
    """So many records were dropped; `number` is that of the last of them."""
    return _bare_head(GAP, 0, number, time_ms, _GAP.size) + _GAP.pack(count, since_ms, first)


def _bare_head(kind: int, category: int, number: int, time_ms: int, body_bytes: int) -> bytes:
    return _HEAD.pack(_HEAD.size + body_bytes, kind, category, 0, 0, number, time_ms, 0, 0, 0, 0, 0, 0, 0)


def records(data: bytes) -> Iterator[Record]:
    """Whole records, in order."""
    at = 0
    while at < len(data):
        size, kind, category, where, outcome_bytes, number, time_ms, *rest = _HEAD.unpack_from(data, at)
        assert size >= _HEAD.size, size
        body, stop = at + _HEAD.size, at + size
        at = stop
        if kind == COMMAND:
            outcome = data[stop - outcome_bytes : stop]
            yield _command(data, body, (category, where, number, time_ms), outcome, rest)
        elif kind == EVENT:
            yield Record(kind, category, where, number, time_ms, values=marshal.loads(data[body:stop]))
        else:
            yield Record(kind, category, where, number, time_ms, values=_GAP.unpack_from(data, body))


def _command(data: bytes, at: int, head: tuple[int, int, int, int], outcome: bytes, rest: list[int]) -> Record:
    identity_bytes, name_bytes, keys_shown, words_shown, keys_count, words_count, trace_bytes = rest
    identity, at = data[at : at + identity_bytes], at + identity_bytes
    name, at = data[at : at + name_bytes], at + name_bytes
    trace, at = data[at : at + trace_bytes], at + trace_bytes
    keys, at = _words(data, at, keys_shown, KEY_BYTES_MAX)
    words, _ = _words(data, at, words_shown, WORD_BYTES_MAX) if words_shown else ([], at)
    category, where, number, time_ms = head
    return Record(
        COMMAND, category, where, number, time_ms, identity, name, trace, outcome,
        keys=keys, keys_left_out=keys_count - keys_shown, words=words, words_left_out=words_count - words_shown,
    )  # fmt: skip


def _words(data: bytes, at: int, count: int, bytes_max: int) -> tuple[list[bytes], int]:
    """So many words, cut ones with a note of how much is missing; and where the next thing begins."""
    found = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if length <= bytes_max:
            found.append(data[at : at + length])
            at += length
        else:
            found.append(b"%b... (%d more bytes)" % (data[at : at + bytes_max], length - bytes_max))
            at += bytes_max
    return found, at


class Ring:
    """Both ends; `fd` is what the data process hands to the sidecar."""

    __slots__ = ("_page", "capacity", "data", "fd", "words")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        # All of it is there from the start: to be given a page at the first record in it costs as much as 30 records.
        self._page = mmap.mmap(fd, os.fstat(fd).st_size, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
        whole = memoryview(self._page)
        self.words = whole[:HEAD_BYTES].cast("Q")
        self.data = whole[HEAD_BYTES:]
        self.capacity = self.words[CAPACITY]

    @classmethod
    def make(cls, capacity: int) -> "Ring":
        """An empty one, for that many bytes of records."""
        fd = os.memfd_create("kora-audit")
        os.ftruncate(fd, HEAD_BYTES + capacity)
        os.pwrite(fd, struct.pack("=Q", capacity), CAPACITY * 8)
        os.pwrite(fd, struct.pack("=Q", secrets.randbits(32)), RUN * 8)
        return cls(fd)

    @property
    def run(self) -> str:
        return f"{self.words[RUN]:08x}"

    @property
    def used_bytes(self) -> int:
        return self.words[WRITTEN] - self.words[READ]

    # The data process' end

    def has_room(self, size: int) -> bool:
        return self.capacity - self.used_bytes >= size

    def append(self, record: bytes) -> None:
        """There has to be room."""
        written = self.words[WRITTEN]
        at = written % self.capacity
        first = min(len(record), self.capacity - at)
        self.data[at : at + first] = record[:first]
        if first < len(record):
            self.data[: len(record) - first] = record[first:]
        self.words[WRITTEN] = written + len(record)

    # The sidecar's end

    def peek(self, bytes_max: int) -> bytes:
        """The oldest whole records, of about so many bytes; they stay until consume()."""
        start, stop = self.words[READ], self.words[WRITTEN]
        found = self._copy(start, min(stop - start, bytes_max + RECORD_BYTES_MAX))
        if stop - start == len(found):
            return found
        at = 0
        while at < bytes_max:
            at += _LENGTH.unpack_from(found, at)[0]
        return found[:at] if at <= len(found) else self._copy(start, at)

    def consume(self, size: int) -> None:
        self.words[READ] += size

    def _copy(self, start: int, size: int) -> bytes:
        at = start % self.capacity
        first = min(size, self.capacity - at)
        return bytes(self.data[at : at + first]) + bytes(self.data[: size - first])
