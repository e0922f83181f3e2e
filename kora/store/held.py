"""What a keyspace of Python dicts knows beside its tables where it holds only a part of its keys.

kora/store/backing.py says what each word means.  It is told of changes as a snapshot's Part is (kora/store/walk.py), by
keep(), and goes where the contents go.
"""

from kora.store.backing import ABSENT

# What holding a change takes: about, and without a look at each, since that is asked for all the time.
_CHANGE_BYTES = 200


class Held:
    __slots__ = ("awaited", "count", "counts_by_run", "dirty", "flight", "ghosts", "stored")

    def __init__(self, runs: int) -> None:
        self.count = 0  # keys in all
        self.counts_by_run = [0] * runs  # what was there at first is all in the first run of its shard
        self.dirty: dict[bytes, None] = {}
        self.flight: dict[bytes, None] = {}  # given out to be written
        self.stored: dict[bytes, int] = {}  # of keys that are held, and of dirty ghosts: what the backing has
        self.ghosts: dict[bytes, None] = {}
        self.awaited: dict[bytes, int] = {}  # from a reading of that number

    def keep(self, slot: int, key: bytes) -> None:
        """A key is about to be changed, removed or made."""
        self.dirty[key] = None

    @property
    def dirty_bytes(self) -> int:
        return len(self.dirty) * _CHANGE_BYTES

    def came(self, run: int, key: bytes) -> None:
        """A key is new."""
        self.ghosts.pop(key, None)
        self.awaited.pop(key, None)
        self.dirty[key] = None
        self.count += 1
        self.counts_by_run[run] += 1

    def went(self, run: int, key: bytes) -> None:
        self.ghosts[key] = None
        self.count -= 1
        self.counts_by_run[run] -= 1
        if self.stored.get(key, ABSENT) == ABSENT:
            self.dirty.pop(key, None)

    def is_settled(self, key: bytes) -> bool:
        """Whether the backing has what is here."""
        return key not in self.dirty and key not in self.flight
