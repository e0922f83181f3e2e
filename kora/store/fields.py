"""Fields of hashes whose time is over: deleted by who comes across them, and by a worker where nobody does.

FieldDeadlines knows for each hash with deadlines when to look at it, the next first.  It may be told of one too often,
and need not be told when a hash is deleted, renamed or changed: what it says is looked up before anything is done.
"""

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from typing import Final

from kora.errors import WrongType
from kora.store.keyspace import Keyspace
from kora.types.hash import Hash

# Hashes that are looked at in each turn to see whether they are still there and still have deadlines: more where there
# are many, which with a store may come and go fast.
_CHECKED_MIN: Final = 20
_CHECKED_MAX: Final = 200
_OUTDATED_MAX: Final = 1024
# Fields that end in one piece: they take half a millisecond.
_ENDED_MAX: Final = 200


def end_due_fields(db: Keyspace, key: bytes, value: Hash, now_ms: int, fields_max: int = 0) -> bool:
    """Delete the fields of a stored hash whose time is over; False where none is left, and the key is deleted, too.

    All of them, for a command must not see one, or at most so many.
    """
    if not value.next_deadline_ms or value.next_deadline_ms > now_ms:
        return True
    ended = value.end_due(now_ms, fields_max)
    if not ended:
        return True
    is_left: bool = db.updated(key, value)
    db.effect(b"HDEL", key, *ended)
    db.notify(b"hexpired", key)
    if not is_left:
        db.notify(b"del", key)
    return is_left


class FieldDeadlines:
    """The hashes of one database that have fields with deadlines."""

    __slots__ = ("_due", "_noted")

    def __init__(self) -> None:
        self._noted: OrderedDict[bytes, int] = OrderedDict()  # when to look at a hash; the one to check next is first
        self._due: list[tuple[int, bytes]] = []  # a heap; what _noted does not say any more is passed over

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, key: bytes, deadline_ms: int) -> None:
        """A hash was stored or changed, and has its next_deadline_ms then."""
        noted_ms = self._noted.get(key)
        if noted_ms is not None and noted_ms <= deadline_ms:
            return
        self._noted[key] = deadline_ms
        if len(self._due) >= 2 * len(self._noted) + _OUTDATED_MAX:
            self._due = [(other_ms, other) for other, other_ms in self._noted.items()]
            heapify(self._due)
        else:
            heappush(self._due, (deadline_ms, key))

    def clear(self) -> None:
        """Of a database that is flushed."""
        self._noted.clear()
        self._due.clear()

    def end_due(self, db: Keyspace, now_ms: int, keys_max: int) -> int:
        """Look at hashes that are due, at most so many; returns how many it looked at.

        That is keys_max, too, where as many fields have ended as may in one piece.
        """
        looked, fields_left = 0, _ENDED_MAX
        while looked < keys_max and self._due and self._due[0][0] <= now_ms:
            if fields_left <= 0:
                return keys_max
            deadline_ms, key = heappop(self._due)
            if self._noted.get(key) != deadline_ms:
                continue
            del self._noted[key]
            looked += 1
            value = _hash_of(db, key)
            if value is None:
                continue
            fields = len(value)
            is_left = end_due_fields(db, key, value, now_ms, fields_left)
            fields_left -= fields - len(value)
            if is_left and value.next_deadline_ms:
                self.note(key, value.next_deadline_ms)
        self._check_some(db)
        return looked

    def _check_some(self, db: Keyspace) -> None:
        """Forget hashes that are gone, or in a store alone: those with far deadlines would pile up else."""
        count = min(max(_CHECKED_MIN, len(self._noted) // 100), _CHECKED_MAX)
        for _ in range(min(count, len(self._noted))):
            key, deadline_ms = self._noted.popitem(last=False)
            value = db.held(key)
            if value is not None and value.kind == "hash" and value.next_deadline_ms:
                self._noted[key] = deadline_ms


def _hash_of(db: Keyspace, key: bytes) -> Hash | None:
    try:
        value: Hash | None = db.find(key, Hash)
    except WrongType:
        return None
    return value
