"""The logs of remarkable commands: slow ones (SLOWLOG), large requests and large replies (COMMANDLOG).

What makes a command remarkable is for the owner to know (engine/slowness.py); here are the entries.  Kept newest first,
as SLOWLOG GET shows them.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# What of a request is kept (slowlog.h).
WORDS_MAX: Final = 32
WORD_BYTES_MAX: Final = 128


@dataclass
class Entry:
    id: int
    time_s: int  # Unix time, when the command had ended
    value: int  # µs, or bytes: what the log is about
    words: list[bytes]  # of the request, cut short and without secrets
    address: str
    client_name: bytes
    # Known once the reply is handed over.
    wait_us: int = 0  # from when the request could be read until the command began
    service_us: int = 0  # until the reply was handed over
    trace_id: str = ""  # of the trace that has a span of it, if there is one

    def answered(self, arrived_ns: int, now_ns: int) -> None:
        self.service_us = max(0, now_ns - arrived_ns) // 1_000


class CommandLog:
    """One kind of entries; ids go on whatever is forgotten."""

    __slots__ = ("_next_id", "entries", "entries_max", "last_value")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.entries_max = 0
        self.last_value = 0
        self._next_id = 0

    @property
    def recorded(self) -> int:
        """How many there ever were: the next id."""
        return self._next_id

    def add(self, time_s: int, value: int, words: list[bytes], address: str, client_name: bytes) -> Entry:
        entry = Entry(self._next_id, time_s, value, words, address, client_name)
        self._next_id += 1
        self.last_value = value
        self.entries.appendleft(entry)
        self._trim()
        return entry

    def set_max(self, entries_max: int) -> None:
        self.entries_max = entries_max
        self._trim()

    def _trim(self) -> None:
        while len(self.entries) > self.entries_max:
            self.entries.pop()


def cut_word(word: bytes) -> bytes:
    rest_bytes = len(word) - WORD_BYTES_MAX
    return b"%b... (%d more bytes)" % (word[:WORD_BYTES_MAX], rest_bytes) if rest_bytes > 0 else word


def cut_words(words: Sequence[bytes], argc: int) -> list[bytes]:
    """The first words of a request, of argc words, as they are kept: the last says how many are missing."""
    if argc <= WORDS_MAX:
        return list(words)
    return [*words[: WORDS_MAX - 1], b"... (%d more arguments)" % (argc - WORDS_MAX + 1)]
