"""Where the keys of a request stand: the key specs of COMMAND INFO.

Most follow from the usage line (`key`, `key [key ...]`): these are a KeyRange.  The others are said at the command.

    ZUNIONSTORE destination:key numkeys:int key [key ...]      keys=(keys_at(1), keys_counted(2))
    XREAD [COUNT count:int] STREAMS key [key ...] id [id ...]  keys=(keys_after("STREAMS", 1, last=-1, limit=2),)
    SORT key … [STORE destination:key]                         keys=(keys_at(1), keys_unknown("…", find_store))
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class KeySpec(Protocol):
    @property
    def notes(self) -> str: ...

    def places(self, argv: Sequence[bytes]) -> Iterable[int]:
        """Which words of a request are keys; whatever it says, none beyond its end."""

    def fits(self, argv: Sequence[bytes]) -> bool:
        """Whether a request has the words that this speaks of: COMMAND GETKEYS tells no keys of one that has not."""

    def begin(self) -> tuple[str, dict[str, Any]]:
        """`begin_search` of COMMAND INFO: its type, and its spec."""

    def find(self) -> tuple[str, dict[str, Any]]:
        """`find_keys` of COMMAND INFO."""


@dataclass(frozen=True)
class KeyRange:
    """Words first, first + step, … up to the last, which counts from the end of the request where it is negative."""

    first: int
    last: int
    step: int
    notes: str = ""

    def places(self, argv: Sequence[bytes]) -> range:
        argc = len(argv)
        last = self.last if self.last >= 0 else argc + self.last
        return range(self.first, min(last, argc - 1) + 1, self.step)

    def fits(self, argv: Sequence[bytes]) -> bool:
        argc = len(argv)
        return self.first <= (self.last if self.last >= 0 else argc + self.last) < argc

    def begin(self) -> tuple[str, dict[str, Any]]:
        return "index", {"index": self.first}

    def find(self) -> tuple[str, dict[str, Any]]:
        # The last key counts from the first, but from the end of the request where it is negative.
        last = self.last - self.first if self.last >= 0 else self.last
        return "range", {"lastkey": last, "keystep": self.step, "limit": 0}


@dataclass(frozen=True)
class CountedKeys:
    """So many keys as the word at `at` says, right behind it."""

    at: int
    notes: str = ""

    def places(self, argv: Sequence[bytes]) -> range:
        word = argv[self.at] if self.at < len(argv) else b""
        # More than there are words is a mistake, which the command will answer.
        count = int(word) if word.isdigit() and len(word) < 10 else 0
        first = self.at + 1
        return range(first, first + count) if first + count <= len(argv) else range(0)

    def fits(self, argv: Sequence[bytes]) -> bool:
        return bool(self.places(argv))

    def begin(self) -> tuple[str, dict[str, Any]]:
        return "index", {"index": self.at}

    def find(self) -> tuple[str, dict[str, Any]]:
        return "keynum", {"keynumidx": 0, "firstkey": 1, "keystep": 1}


@dataclass(frozen=True)
class KeysAfter:
    """Keys behind a word, which is looked for from `start` on: forward, or backward where that is negative."""

    word: str
    start: int
    last: int
    step: int
    limit: int
    notes: str = ""

    def places(self, argv: Sequence[bytes]) -> range:
        argc = len(argv)
        searched = range(self.start, argc) if self.start >= 0 else range(argc + self.start, 0, -1)
        word = self.word.encode()
        for place in searched:
            if argv[place].upper() == word:
                first = place + 1
                last = first + self.last if self.last >= 0 else argc + self.last
                if self.limit:
                    last = first + (last - first + 1) // self.limit - 1
                return range(first, min(last, argc - 1) + 1, self.step)
        return range(0)

    def fits(self, argv: Sequence[bytes]) -> bool:
        # Of an option that is not there Redis asks the command itself, which has other keys.
        return bool(self.places(argv)) or not self.limit

    def begin(self) -> tuple[str, dict[str, Any]]:
        return "keyword", {"keyword": self.word, "startfrom": self.start}

    def find(self) -> tuple[str, dict[str, Any]]:
        return "range", {"lastkey": self.last, "keystep": self.step, "limit": self.limit}


@dataclass(frozen=True)
class UnknownKeys:
    """Keys that no rule can find; `finder` can, as far as anybody could."""

    notes: str
    finder: Callable[[Sequence[bytes]], Iterable[int]]

    def places(self, argv: Sequence[bytes]) -> Iterable[int]:
        return self.finder(argv)

    def fits(self, argv: Sequence[bytes]) -> bool:
        return True

    def begin(self) -> tuple[str, dict[str, Any]]:
        return "unknown", {}

    def find(self) -> tuple[str, dict[str, Any]]:
        return "unknown", {}


def keys_at(first: int, last: int | None = None, step: int = 1, notes: str = "") -> KeyRange:
    """The word at a place; or those from there to the last, which is absolute or, negative, counts from the end."""
    return KeyRange(first, first if last is None else last, step, notes)


def keys_counted(at: int, notes: str = "") -> CountedKeys:
    """As many keys as the word at that place says, and right behind it."""
    return CountedKeys(at, notes)


def keys_after(word: str, start: int, last: int = 0, step: int = 1, limit: int = 0, notes: str = "") -> KeysAfter:
    """The key behind a word, or keys up to the last, relative to the first or, negative, to the end.

    With a limit of 2 only the first half of what follows is keys.
    """
    return KeysAfter(word, start, last, step, limit, notes)


def keys_unknown(notes: str, finder: Callable[[Sequence[bytes]], Iterable[int]]) -> UnknownKeys:
    """Keys that depend on more than the request's form, or on options anywhere; `finder` gives their places."""
    return UnknownKeys(notes, finder)
