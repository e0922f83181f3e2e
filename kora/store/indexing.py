"""Vector sets that have work to do for their searches: done by a worker, bit by bit.

A set is noted by whoever finds that it has work, by its key.  A note may be outdated: the set may be gone, renamed or
in another database, and is noted again by the next command that uses it.
"""

from typing import Protocol

from kora.clock import Clock
from kora.errors import WrongType
from kora.store.keyspace import Keyspace
from kora.types.vector_set import VectorSet


class Databases(Protocol):
    def __getitem__(self, index: int) -> Keyspace: ...


class Indexing:
    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[tuple[int, bytes], None] = {}  # databases and keys, those first that came first

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, db: Keyspace, key: bytes) -> None:
        self._noted[db.index, key] = None

    def run(self, databases: Databases, budget_ns: int, clock: Clock) -> bool:
        """Work for so long; returns whether there is more to do."""
        stop_ns = clock.monotonic_ns() + budget_ns
        while self._noted:
            index, key = next(iter(self._noted))
            db = databases[index]
            value = _vector_set_of(db, key)
            if value is None or _work(db, key, value, stop_ns, clock):
                del self._noted[index, key]
            if clock.monotonic_ns() >= stop_ns:
                break
        return bool(self._noted)


def _work(db: Keyspace, key: bytes, value: VectorSet, stop_ns: int, clock: Clock) -> bool:
    """Whether it is done."""
    while value.has_work and clock.monotonic_ns() < stop_ns:
        value.work()
    db.resized(key, value, is_changed=False)
    return not value.has_work


def _vector_set_of(db: Keyspace, key: bytes) -> VectorSet | None:
    try:
        value: VectorSet | None = db.find(key, VectorSet)
    except WrongType:
        return None
    return value
