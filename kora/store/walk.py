"""A snapshot's walk: all data as it is at one moment, written as RDB records while commands go on.

The reference's way, for a Keyspace of Python dicts: the contents of each database become a Part.  The walk goes through
a part slot by slot; whoever is about to change, move or remove a key of a slot that it has not been to has the key
written before (Part.keep), and then the walk passes over it, as over keys that are new.  What FLUSHDB takes away
belongs to its part until that has been walked.  The kernel does the same with numbers in its entries
(kora/kernel/kernel.h).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from kora.store.lazyfree import discard
from kora.store.shard import RUN_BITS, Shard
from kora.store.slots import SLOTS
from kora.store.table import Table, scan
from kora.types.rdb.file_writer import record, select
from kora.types.rdb.writer import Writer

if TYPE_CHECKING:
    from kora.clock import Clock
    from kora.store.keyspace import Keyspace

Databases = Callable[[], "Sequence[Keyspace]"]

# Records between two looks at the clock: about 0.05 ms.
_BATCH: Final = 20
RECORDS_MAX: Final = (1 << 64) - 1


class Layout(NamedTuple):
    """How records are written."""

    version: int  # of RDB
    compress: Callable[[bytes], bytes | None] | None  # strings; None: as they are
    stamps: str  # what is told of the use of keys: "idle", "frequency", or "" for nothing
    frequency: Callable[[bytes], int]  # of a key, as OBJECT FREQ tells it


class Walk(Protocol):
    """Made by Implementation.walk_over(), which fixes the moment."""

    records_total: int  # keys there were
    error: Exception | None  # why what was written is not to be used

    @property
    def records(self) -> int:
        """Written so far."""

    @property
    def size_bytes(self) -> int:
        """Written and not taken yet."""

    @property
    def is_over(self) -> bool:
        """Whether everything is written, or marked after it was given up."""

    def take(self) -> bytes:
        """What was written since the last time."""

    def step(self, stop_ns: int, records_max: int = RECORDS_MAX) -> bool:
        """Go on until a point in time, or so many records in a database; returns whether it is over."""

    def give_up(self) -> None:
        """Nobody wants it any more.  It is to be stepped to its end all the same, or the next begins."""


class Part:
    """The contents of a database at the moment of a snapshot, as far as that has them."""

    __slots__ = (
        "_database",
        "_deadlines",
        "_is_flushed",
        "_kept",
        "_place",
        "_shards_by_run",
        "_slot",
        "_tables",
        "_touched",
        "_walk",
    )

    def __init__(
        self,
        walk: "ReferenceWalk",
        database: int,
        tables: Sequence[Table],
        deadlines: Sequence[Table],
        touched: Sequence[int],
        shards_by_run: Sequence[Shard],
    ) -> None:
        self._walk = walk
        self._database = database
        self._tables = tables
        self._deadlines = deadlines
        self._touched = touched
        self._shards_by_run = shards_by_run
        self._is_flushed = False  # it is no database's any more
        # Where the walk is; what is to be passed over in slots that it has not left, by slot.
        self._slot = 0
        self._place = 0
        self._kept: dict[int, set[bytes]] = {}

    def keep(self, slot: int, key: bytes) -> None:
        """A key is about to be changed, removed or made."""
        if slot < self._slot:
            return
        kept = self._kept.setdefault(slot, set())
        if key in kept:
            return
        kept.add(key)
        value = self._tables[slot].get(key)
        if value is not None:
            self._write(slot, key, value)

    def flush(self) -> None:
        """The database has other contents now; slots that are walked are freed at once, and the others as they are."""
        self._is_flushed = True
        for slot in range(self._slot):
            self._discard(slot)

    def step(self, stop_ns: int, records_max: int) -> bool:
        while self._slot < SLOTS:
            slot = self._slot
            if self._tables[slot]:
                following, part = scan(self._tables[slot], self._place)
                kept = self._kept.setdefault(slot, set())
                for key, value in part.items():
                    if key in kept:
                        continue
                    if not records_max or (records_max % _BATCH == 0 and self._walk.is_late(stop_ns)):
                        return False
                    kept.add(key)
                    self._write(slot, key, value)
                    records_max -= 1
                self._place = following
                if following:
                    continue
            self._kept.pop(slot, None)
            if self._is_flushed:
                self._discard(slot)
            self._slot += 1
        return True

    def release(self) -> None:
        """Free what was flushed, walked or not."""
        if self._is_flushed:
            for slot in range(self._slot, SLOTS):
                self._discard(slot)
        self._slot = SLOTS

    def _write(self, slot: int, key: bytes, value: Any) -> None:
        # Stamps are shared by slots, as Keyspace has them.
        touched_s = self._touched[slot & (len(self._touched) - 1)]
        self._walk.write(self._database, key, value, self._deadlines[slot].get(key), touched_s)

    def _discard(self, slot: int) -> None:
        if self._tables[slot] or self._deadlines[slot]:
            discard(self._shards_by_run[slot >> RUN_BITS], self._tables[slot], self._deadlines[slot])


class ReferenceWalk:
    def __init__(self, databases: Databases, layout: Layout, clock: "Clock") -> None:
        self._databases = databases
        self._layout = layout
        self._clock = clock
        self._writer = Writer(layout.compress)
        self._database = -1  # that what is written next belongs to
        self.records = 0
        self.records_total = sum(map(len, databases()))
        self.error: Exception | None = None
        self.is_over = False
        self._parts = [keyspace.begin_part(self) for keyspace in databases()]

    @property
    def size_bytes(self) -> int:
        return len(self._writer.data)

    def take(self) -> bytes:
        data = bytes(self._writer.data)
        self._writer.data.clear()
        return data

    def step(self, stop_ns: int, records_max: int = RECORDS_MAX) -> bool:
        while self._parts:
            if not self._parts[0].step(stop_ns, records_max):
                return False
            del self._parts[0]
        self._end()
        return True

    def give_up(self) -> None:
        if not self.is_over:
            self._writer.data.clear()
            for part in self._parts:
                part.release()
            self._end()

    def _end(self) -> None:
        self._parts = []
        self.is_over = True
        for keyspace in self._databases():
            keyspace.end_part()

    # For parts

    def is_late(self, stop_ns: int) -> bool:
        return self._clock.monotonic_ns() >= stop_ns

    def write(self, database: int, key: bytes, value: Any, deadline_ms: int | None, touched_s: int) -> None:
        if self._database != database:
            self._database = database
            select(self._writer, database)
        layout = self._layout
        start = len(self._writer.data)
        try:
            record(
                self._writer,
                layout.version,
                key,
                value,
                deadline_ms,
                max(0, self._clock.wall_ms() // 1000 - touched_s) if layout.stamps == "idle" else None,
                layout.frequency(key) if layout.stamps == "frequency" else None,
            )
        except Exception as error:  # the file is not to be used; the command that came across it goes on
            del self._writer.data[start:]
            self.error = error
        self.records += 1
