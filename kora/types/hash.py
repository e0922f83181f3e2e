"""Hashes: fields with values, where each field may have a deadline of its own.

A small hash is one table in the order in which fields came; a large one (see Limits) also has a roster, for random
picks and scans.  Deadlines are in a table of those fields that have one, and in a heap, the next first.  The heap is
not searched when a deadline changes: what it tells and the table no longer does is passed over.
"""

from heapq import heapify, heappop, heappush
from itertools import islice
from random import randrange
from typing import Final

from kora.types.limits import Limits
from kora.types.roster import Roster

# Estimates, measured on CPython 3.11: the object and its table; a field's place in it, and in a roster; a deadline in
# its table and in the heap.  A bytes object takes 33 bytes beside its own, in steps of 16.
_BASE_BYTES: Final = 400
_ENTRY_BYTES: Final = 40
_ROSTER_BYTES: Final = 100
_DEADLINE_BYTES: Final = 168

# Entries of the heap that may be outdated, beside as many as there are deadlines.
_OUTDATED_MAX: Final = 16


class Hash:
    kind: Final = "hash"
    keeps_when_empty: Final = False

    __slots__ = (
        "_deadlines",
        "_due",
        "_extended",
        "_limits",
        "_roster",
        "_values",
        "counted_bytes",
        "counted_length",
        "next_deadline_ms",
        "size_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._values: dict[bytes, bytes] = {}
        self._roster: Roster | None = None  # None while the hash is small
        self._extended = False  # whether a field had a deadline while the hash was small
        self._deadlines: dict[bytes, int] = {}
        self._due: list[tuple[int, bytes]] = []
        # Unix time in ms: no deadline is earlier.  0: there is none.
        self.next_deadline_ms = 0
        self.size_bytes = _BASE_BYTES
        self.counted_bytes = self.counted_length = 0  # the keyspace's own

    # What every value has

    @property
    def encoding(self) -> str:
        if self._roster is not None:
            return "hashtable"
        return "listpackex" if self._extended else "listpack"

    def __len__(self) -> int:
        return len(self._values)

    def copy(self) -> "Hash":
        other = Hash(self._limits)
        other._values = self._values.copy()
        other._roster = None if self._roster is None else self._roster.copy()
        other._extended = self._extended
        other._deadlines = self._deadlines.copy()
        other._due = self._due.copy()
        other.next_deadline_ms = self.next_deadline_ms
        other.size_bytes = self.size_bytes
        return other

    @property
    def effort(self) -> int:
        """About how many blocks of memory must be freed."""
        return 2 * len(self._values) + 3 * len(self._deadlines) + 4

    def shed(self, count: int) -> int:
        """Drop so many fields, any, and return how many there were."""
        shed = min(count, len(self._values))
        for _ in range(shed):
            field, value = self._values.popitem()
            self._forget(field, value)
        return shed

    # Fields

    def get(self, field: bytes) -> bytes | None:
        return self._values.get(field)

    def has(self, field: bytes) -> bool:
        return field in self._values

    def set(self, field: bytes, value: bytes) -> bool:
        """Whether the field is new; one that is not loses its deadline."""
        old = self._values.get(field)
        self._values[field] = value
        if old is None:
            self.size_bytes += _ENTRY_BYTES + _size(field) + _size(value)
            if self._roster is not None:
                self._roster.add(field)
                self.size_bytes += _ROSTER_BYTES
        else:
            self.size_bytes += _size(value) - _size(old)
            if field in self._deadlines:
                self.persist(field)
        if self._roster is None and self._is_large(field, value):
            self._roster = Roster(list(self._values))
            self.size_bytes += _ROSTER_BYTES * len(self._values)
        return old is None

    def delete(self, field: bytes) -> bool:
        """Whether it was there."""
        value = self._values.pop(field, None)
        if value is None:
            return False
        self._forget(field, value)
        return True

    def fields(self) -> list[bytes]:
        """In the order of arrival while the hash is small."""
        return list(self._values) if self._roster is None else self._roster.members.copy()

    def values(self) -> list[bytes]:
        """In the order of fields()."""
        return [self._values[field] for field in self.fields()]

    def flat(self) -> list[bytes]:
        """Field, value, field, value, …"""
        return [word for field in self.fields() for word in (field, self._values[field])]

    def random(self) -> tuple[bytes, bytes]:
        """A field, each equally likely, and its value; the hash is not empty."""
        if self._roster is not None:
            field = self._roster.random()
        else:
            field = next(islice(self._values, randrange(len(self._values)), None))
        return field, self._values[field]

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Some fields, each with its value behind it, and the cursor to go on with; 0 after the last.

        A small hash is returned whole.
        """
        if self._roster is None:
            return 0, self.flat()
        following, fields = self._roster.scan(cursor, count)
        return following, [word for field in fields for word in (field, self._values[field])]

    # Deadlines, in Unix ms

    def deadline(self, field: bytes) -> int | None:
        return self._deadlines.get(field)

    def expire(self, field: bytes, deadline_ms: int) -> None:
        """Set when a field that is there ends."""
        if field not in self._deadlines:
            self.size_bytes += _DEADLINE_BYTES
        self._deadlines[field] = deadline_ms
        self._extended = True
        if len(self._due) >= 2 * len(self._deadlines) + _OUTDATED_MAX:
            self._due = [(other_ms, other) for other, other_ms in self._deadlines.items()]
            heapify(self._due)
        else:
            heappush(self._due, (deadline_ms, field))
        self.next_deadline_ms = self._due[0][0]

    def persist(self, field: bytes) -> bool:
        """Whether the field had a deadline, which is gone now."""
        if self._deadlines.pop(field, None) is None:
            return False
        self.size_bytes -= _DEADLINE_BYTES
        if not self._deadlines:
            self._due.clear()
            self.next_deadline_ms = 0
        return True

    def end_due(self, now_ms: int, fields_max: int = 0) -> list[bytes]:
        """Delete the fields whose deadline has come, or at most so many of them, and return them."""
        ended: list[bytes] = []
        while self._due and self._due[0][0] <= now_ms and not 0 < fields_max == len(ended):
            deadline_ms, field = heappop(self._due)
            if self._deadlines.get(field) == deadline_ms:
                self.delete(field)
                ended.append(field)
        self.next_deadline_ms = self._due[0][0] if self._due else 0
        return ended

    # Inside

    def _is_large(self, field: bytes, value: bytes) -> bool:
        limits = self._limits
        return (
            len(self._values) > limits.hash_max_listpack_entries
            or len(field) > limits.hash_max_listpack_value
            or len(value) > limits.hash_max_listpack_value
        )

    def _forget(self, field: bytes, value: bytes) -> None:
        """What else there is of a field that was just taken out of the table."""
        self.size_bytes -= _ENTRY_BYTES + _size(field) + _size(value)
        if self._roster is not None:
            self._roster.remove(field)
            self.size_bytes -= _ROSTER_BYTES
        if field in self._deadlines:
            self.persist(field)


def _size(data: bytes) -> int:
    return (len(data) + 48) & ~15
