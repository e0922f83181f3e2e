"""What has changed, on its way to the journal: requests that change the same when they are replayed.

The reference of what the kernel has in C (kernel/journal.c).  An effect is of a database, and says so only where the
one before it was of another.  Those that belong together, from begin() to the end() that closes it, are a transaction
where there is more than one.
"""

from collections.abc import Sequence


class Effects:
    __slots__ = ("_count", "_data", "_database", "_depth", "_start", "on")

    def __init__(self) -> None:
        self.on = False  # whether anybody wants to know
        self._data = bytearray()
        self._database = -1
        self._depth = 0  # how many begin() are open
        # Of the group that is open: where it begins, and how many effects are in it.
        self._start = 0
        self._count = 0

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    @property
    def is_open(self) -> bool:
        """Whether there is half of something: a group that has not ended yet has effects already."""
        return self._depth > 0 and self._count > 0

    def append(self, database: int, words: Sequence[bytes]) -> None:
        self._count += 1
        if database != self._database:
            self._data += _request((b"SELECT", b"%d" % database))
            self._database = database
        self._data += _request(words)

    def begin(self) -> None:
        if not self._depth:
            self._start, self._count = len(self._data), 0
        self._depth += 1

    def end(self) -> None:
        self._depth -= 1
        if not self._depth and self._count > 1:
            self._data[self._start : self._start] = _request((b"MULTI",))
            self._data += _request((b"EXEC",))

    def take(self) -> bytes:
        """All there is, for whoever writes it down; nothing is left."""
        data = bytes(self._data)
        self._data.clear()
        self._start = 0
        return data

    def start_anew(self) -> None:
        """What comes next stands at the head of a file, and names its database."""
        self._database = -1


def _request(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))
