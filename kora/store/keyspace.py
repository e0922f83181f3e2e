"""One database: the reference implementation of where keys live.

A directory of 16384 small tables, one per slot, and beside each a table of deadlines.  It has the cost of one big dict
but never its pauses: nothing here grows, is freed or is walked in one piece.  Directories of databases that hold
nothing are shared, so that a thousand unused databases cost nothing.

read() is for commands that look, and counts hits and misses; find() is for commands that change, as in Redis.  A key
whose time is over is deleted by whoever comes across it.  Memory is a running sum in the shard's counters.

Strings that are handed out are for looking at: only the keyspace changes one, in edit(), or puts another in its place.
In the kernel strings are no Python objects, and what it hands out are copies.  Values of other kinds are changed in
place by whoever found them for that, and then shown to updated().

Who waits for a key, watches it or keeps a copy of it has it attended to, and is told of every change.

While a snapshot is written, what it has not been to yet is kept before it changes: see kora/store/walk.py.

Where the data is larger than memory only a part of the keys is here, and who looks for another one has it loaded: see
kora/store/backing.py.
"""

from binascii import crc_hqx
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from random import choices, randrange
from sys import getrefcount
from typing import Any, Final

from kora.clock import Clock
from kora.errors import StorageFault, WrongType
from kora.observe.recent import OTHERS, PREFIXES_MAX, prefix_of
from kora.observe.shard_stats import ShardStats
from kora.store import backing as backings
from kora.store.backing import ABSENT, LASTING, PLACE_BYTES, POSITION_END, VOLATILE, Backing, Overwritten, Taken, id_of
from kora.store.held import Held
from kora.store.lazyfree import DiscardedValue, discard, discard_value, is_large
from kora.store.shard import RUN_BITS, Shard
from kora.store.sizes import DEADLINE_BYTES, entry_size, size_of, weigh
from kora.store.slots import OPEN_BRACE, SLOT_MASK, SLOTS, slot_of
from kora.store.table import EMPTY, PART_MAX, SplitTable, Table, parts, random_key, scan
from kora.store.walk import Part, ReferenceWalk
from kora.types.limits import Limits

_NO_TABLES: Final[tuple[Table, ...]] = (EMPTY,) * SLOTS

# SCAN cursors: the slot in the low bits, the place inside a split table above.
_SLOT_BITS: Final = 14

# Stamps for OBJECT IDLETIME are shared by slots with the same low bits, so that they stay in the processor's cache.
_TOUCHED_MASK: Final = 1023

# What swap() exchanges.
_CONTENTS: Final = (
    "_tables", "_deadlines", "_touched", "_occupied", "_places", "_heaviest", "_count", "_lengths", "volatile",
    "average_ttl_ms", "_part", "_held", "store_id",
)  # fmt: skip

_LENGTH_BINS: Final = 64

# What SCAN may look at beyond the keys it was asked for, when slots are empty: with fewer keys than this it walks the
# list of occupied slots instead of all of them.
_SPARSE: Final = 2048


class Keyspace:
    __slots__ = (
        "_attended",
        "_backing",
        "_clock",
        "_count",
        "_deadlines",
        "_found_key",
        "_found_slot",
        "_heaviest",
        "_held",
        "_lengths",
        "_limits",
        "_occupied",
        "_part",
        "_places",
        "_shards_by_run",
        "_stats_by_run",
        "_tables",
        "_touched",
        "attends_all",
        "average_ttl_ms",
        "changes",
        "effect",
        "hits",
        "index",
        "note_fields",
        "notify",
        "now_s",
        "stats",
        "store_id",
        "tells_more",
        "touched",
        "volatile",
    )

    def __init__(self, index: int, shards: Sequence[Shard], clock: Clock, limits: Limits | None = None) -> None:
        # Fixed for life.
        self.index = index
        self._clock = clock
        self._limits = limits or Limits()
        self._shards_by_run: tuple[Shard, ...] = tuple(
            shard for shard in shards for _ in range(shard.slot_start, shard.slot_stop, 1 << RUN_BITS)
        )
        self._stats_by_run: tuple[ShardStats, ...] = tuple(shard.stats for shard in self._shards_by_run)
        # Per command: the stats of the shard that owns the key last looked up; call() charges that shard.
        self.stats: ShardStats = shards[0].stats
        # Unix time in seconds, set a few times per second by the owner: coarse is enough for OBJECT IDLETIME.
        self.now_s = clock.wall_ms() // 1000
        # What find() was asked for last, so that replace() and edit() need not hash it again.
        self._found_key = b""
        self._found_slot = slot_of(b"")
        self.changes = 0  # keys changed since start, as rdb_changes_since_last_save
        # Who wants to know.  notify() has an event of a key, as keyspace notifications name them: b"lpush", b"expired".
        self.notify: Callable[[bytes, bytes], object] = nobody
        self.tells_more = False  # whether notify() is called for new keys and misses as well
        self.touched: Callable[[Keyspace, bytes], object] = nobody  # an attended key was changed or has ended
        # note_fields(key, deadline_ms): a hash was stored or changed, whose fields end then at the earliest.
        self.note_fields: Callable[[bytes, int], object] = nobody
        # effect(*words): something has ended by itself, and a request that would do the same.
        self.effect: Callable[..., object] = nobody
        self.attends_all = False
        self._attended: dict[bytes, int] = {}  # how many attend to a key
        # What has the keys that are not here.
        self._backing: Backing | None = None
        self.hits = 0  # keys that requests name, and that were known before they ran
        # The contents: swapped as a whole by swap(), forgotten as a whole by flush().
        self._tables: Sequence[Table] = _NO_TABLES
        self._deadlines: Sequence[Table] = _NO_TABLES
        self._touched: list[int] = []  # by slot & _TOUCHED_MASK: now_s when a key was last used
        self._occupied: list[int] = []  # slots with keys, in no order
        self._places: list[int] = []  # by slot: its place in _occupied
        self._part: Part | Held | None = None  # of the snapshot under way, if these are in it; or the same as the next
        self._held: Held | None = None  # where these are not all keys
        self.store_id = 0
        self._count = 0
        self._heaviest = 1  # no table holds more keys than this
        self._lengths: dict[str, list[int]] = {}  # as lengths(), with all bins
        self.volatile = 0  # keys that have a deadline
        self.average_ttl_ms = 0  # an estimate, kept by the expire cycle

    # Looking

    def read(self, key: bytes, kind: type) -> Any:
        """The value of a key, or None; counts a hit or a miss.

        Strings are `bytes` or, once edited, `bytearray`: to look at before the next change, and never to change.
        Raises WrongType where the key holds another kind.
        """
        slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
        stats = self.stats = self._stats_by_run[slot >> RUN_BITS]
        value = self._tables[slot].get(key)
        if value is None and self._held is not None:
            value = self._fetch(slot, key)
        if value is None or (self.volatile and self._expire_if_due(slot, key)):
            self._miss(stats, key)
            return None
        stats.hits += 1
        self._touched[slot & _TOUCHED_MASK] = self.now_s
        if type(value) is not kind and not _is_kind(value, kind):
            raise WrongType
        if self._part is not None and self._held is None and _changes_when_read(value):
            self._part.keep(slot, key)
        return value

    def inspect(self, key: bytes, quietly: bool = False) -> Any:
        """As read(), of any kind, and without counting as use of the key: for TYPE, TTL and OBJECT.

        A string must not be changed here either, and of a long one there may be no more than its first 64 bytes, which
        tell its encoding.  Quietly: a miss is counted, but no event.
        """
        slot = self._locate(key)
        value = self._tables[slot].get(key)
        if value is None and self._held is not None:
            value = self._fetch(slot, key)
        if value is None or (self.volatile and self._expire_if_due(slot, key)):
            if quietly:
                self.stats.misses += 1
            else:
                self._miss(self.stats, key)
            return None
        self.stats.hits += 1
        return value

    def touch(self, key: bytes) -> bool:
        """As read(), of any kind: whether the key is there."""
        if self.inspect(key) is None:
            return False
        self._touched[slot_of(key) & _TOUCHED_MASK] = self.now_s
        return True

    def find(self, key: bytes, kind: type | None = None) -> Any:
        """The value of a key that is about to be changed, or None; counts nothing.

        A string is changed by replace() or edit(), never in place; a value of another kind is, and then updated().
        Raises WrongType where the key holds another kind than the wanted.
        """
        slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
        self.stats = self._stats_by_run[slot >> RUN_BITS]
        self._found_slot, self._found_key = slot, key
        value = self._tables[slot].get(key)
        if value is None and self._held is not None:
            value = self._fetch(slot, key)
        if value is None or (self.volatile and self._expire_if_due(slot, key)):
            return None
        self._touched[slot & _TOUCHED_MASK] = self.now_s
        if kind is not None and type(value) is not kind and not _is_kind(value, kind):
            raise WrongType
        if self._part is not None and self._held is None and type(value) is not bytes:
            self._part.keep(slot, key)  # who has it may change it
        return value

    def held(self, key: bytes) -> Any:
        """The value of a key that is in memory, and no string, or None: no use of the key, and no store is asked."""
        value = self._tables[slot_of(key)].get(key)
        return None if type(value) is bytes or type(value) is bytearray else value

    def outline(self, key: bytes) -> Any:
        """As find(), of any kind, but of a long string there may be no more than its first 64 bytes."""
        return self.find(key)

    def length(self, key: bytes) -> int:
        """As len(find(key, bytes)), for a string that may be long; 0 where there is none."""
        return len(self.find(key, bytes) or b"")

    def part(self, key: bytes, start: int, count: int) -> bytes:
        """As find(key, bytes), for some bytes of a string, which may be long; fewer where it ends, or is not there."""
        value = self.find(key, bytes)
        return b"" if value is None else bytes(value[start : start + count])

    def has(self, key: bytes) -> bool:
        """As find(), of any kind, for whoever has no use for the value."""
        return self.find(key) is not None

    def has_quietly(self, key: bytes) -> bool:
        """As has(), and without counting as use of the key."""
        slot = self._locate(key)
        if self._held is not None:
            self._know(slot, key)
        return key in self._tables[slot] and not (self.volatile and self._expire_if_due(slot, key))

    def usage_bytes(self, key: bytes) -> int | None:
        """What a key takes with all that belongs to it, or None; counts nothing."""
        value = self.find(key)
        if value is None:
            return None
        return entry_size(key, value) + (0 if self.deadline(key) is None else DEADLINE_BYTES)

    def idle_s(self, key: bytes) -> int:
        """Seconds since a key of the same run of slots was used: never more than the key's own idle time.

        Near the truth for a few hundred keys; a stamp for every key would cost each of them 100 bytes.
        """
        return max(0, self.now_s - self._touched[slot_of(key) & _TOUCHED_MASK])

    def set_idle(self, key: bytes, idle_s: int) -> None:
        """Have a key that is there look as if it was not used for so long, if no other shares its stamp."""
        place = slot_of(key) & _TOUCHED_MASK
        if sum(len(self._tables[slot]) for slot in range(place, SLOTS, _TOUCHED_MASK + 1)) == 1:
            self._touched[place] = max(0, self.now_s - idle_s)

    def stats_of(self, key: bytes) -> ShardStats:
        """Where what concerns a key is counted."""
        return self._stats_of(slot_of(key))

    # Changing

    def set(self, key: bytes, value: Any) -> None:
        """Store a value in place of whatever is there; a deadline goes.  The value is the keyspace's from then on."""
        slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
        stats = self.stats = self._stats_by_run[slot >> RUN_BITS]
        if self._held is not None:
            self._know(slot, key)
        if self._part is not None:
            self._part.keep(slot, key)
        if self.volatile:
            self._drop_deadline(slot, key)
        table = self._tables[slot]
        old = table.get(key)
        if old is None:
            self._insert(slot, key, value)
        else:
            table[key] = value
            if type(old) is not bytes or type(value) is not bytes or len(old) != len(value):
                self._count_length(old, -1)
                stats.memory_bytes += weigh(value) - size_of(old)
                self._count_length(value, 1)
                if old is not value:
                    self._leave(slot, old)
            self._touched[slot & _TOUCHED_MASK] = self.now_s
        self.changes += 1
        if self._attended or self.attends_all:
            self._tell(key)
        if (
            type(value) is not bytes
            and type(value) is not bytearray
            and value.kind == "hash"
            and value.next_deadline_ms
        ):
            self.note_fields(key, value.next_deadline_ms)

    def set_many(self, words: list[bytes], first: int) -> None:
        """As set() for words[first], its value behind it, and so on to the end: the loop of MSET, events included."""
        if self.notify is not nobody:
            for place in range(first, len(words), 2):
                self.set(words[place], words[place + 1])
                self.notify(b"set", words[place])
            return
        tables, touched, now_s = self._tables, self._touched, self.now_s
        for place in range(first, len(words), 2):
            key = words[place]
            slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
            value = words[place + 1]
            table = tables[slot]
            old = table.get(key)
            if type(old) is bytes and len(old) == len(value) and not self.volatile and self._part is None:
                table[key] = value
                touched[slot & _TOUCHED_MASK] = now_s
                if self._attended or self.attends_all:
                    self._tell(key)
            else:
                self.set(key, value)
                self.changes -= 1
                tables, touched = self._tables, self._touched
        self.stats = self._stats_of(slot)
        self.changes += (len(words) - first) // 2

    def set_until(self, key: bytes, value: Any, deadline_ms: int | None) -> None:
        """As set(), and with a deadline, in one change."""
        self.set(key, value)
        if deadline_ms is not None:
            self._set_deadline(slot_of(key), key, deadline_ms)

    def replace(self, key: bytes, value: Any) -> None:
        """Store another value for a key that find() has found; its deadline stays."""
        slot = self._found_slot if key is self._found_key else self._locate(key)
        if self._part is not None:
            self._part.keep(slot, key)
        table = self._tables[slot]
        old = table[key]
        if type(old) is not bytes or type(value) is not bytes or len(old) != len(value):
            self._count_length(old, -1)
            self._stats_of(slot).memory_bytes += weigh(value) - size_of(old)
            self._count_length(value, 1)
            if old is not value:
                self._leave(slot, old)
        table[key] = value
        self._changed(key)

    def edit(self, key: bytes, offset: int, part: bytes) -> int:
        """Overwrite a string from an offset on, filling a gap before it with zero bytes; returns the new length.

        For a key that find(key, bytes) was asked for; creates it if it is not there.  The value becomes a `bytearray`,
        even where nothing is overwritten, and its deadline stays.
        """
        slot = self._found_slot if key is self._found_key else self._locate(key)
        if self._part is not None:
            self._part.keep(slot, key)
        value = self._tables[slot].get(key)
        if value is None:
            buffer = bytearray(offset + len(part))
            buffer[offset:] = part
            self._insert(slot, key, buffer)
        else:
            size_bytes, length = size_of(value), len(value)
            if type(value) is bytearray:
                buffer = value
            else:
                buffer = self._tables[slot][key] = bytearray(value)
            if offset == len(buffer):
                buffer += part
            else:
                if offset > len(buffer):
                    buffer.extend(bytes(offset - len(buffer)))
                buffer[offset : offset + len(part)] = part
            self._stats_by_run[slot >> RUN_BITS].memory_bytes += size_of(buffer) - size_bytes
            if length != len(buffer):
                bins = self._lengths["string"]
                bins[length.bit_length()] -= 1
                bins[len(buffer).bit_length()] += 1
        self._changed(key)
        return len(buffer)

    def make(self, kind: type) -> Any:
        """A new, empty value of a kind, for updated(); in the kernel it is of a class that does the same."""
        return kind(self._limits)

    def updated(self, key: bytes, value: Any) -> bool:
        """Take note that a value, no string, was changed in place: that find() found for a key, or that make() made.

        A new one is stored, in place of none; one that is empty now is removed, and the answer is False.
        """
        slot = self._found_slot if key is self._found_key else self._locate(key)
        is_stored = self._tables[slot].get(key) is value
        if is_stored and self._held is not None:
            self._held.keep(slot, key)
        if not value and not value.keeps_when_empty:
            if is_stored:
                self._remove(slot, key)
                self._changed(key)
            return False
        if is_stored:
            self._count_length(value, -1)
            size_bytes = value.counted_bytes
            self._stats_of(slot).memory_bytes += weigh(value) - size_bytes
            self._count_length(value, 1)
            self._changed(key)
            if value.kind == "hash" and value.next_deadline_ms:
                self.note_fields(key, value.next_deadline_ms)
        else:
            self.set(key, value)
        return True

    def resized(self, key: bytes, value: Any, is_changed: bool = True) -> None:
        """As updated(), for a stored value of which nothing changed that anybody waits for or watches.

        Or nothing at all, but what it takes in memory.
        """
        slot = self._found_slot if key is self._found_key else self._locate(key)
        size_bytes = value.size_bytes
        self._stats_of(slot).memory_bytes += size_bytes - value.counted_bytes
        value.counted_bytes = size_bytes
        if is_changed:
            self.changes += 1
            if self._held is not None:
                self._held.keep(slot, key)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""
        slot = self._locate(key)
        if self._held is not None:
            self._know(slot, key)
        if self.volatile and self._expire_if_due(slot, key):
            return False
        if key not in self._tables[slot]:
            return False
        self._leave(slot, self._remove(slot, key))
        self._changed(key)
        return True

    def unlink(self, key: bytes) -> bool:
        """As delete(), but a value of many parts is freed bit by bit, by the shard's worker."""
        value = self.find(key)
        if value is None:
            return False
        slot = self._found_slot
        discard_value(self._shards_by_run[slot >> RUN_BITS], value)
        self._remove(slot, key)
        self._changed(key)
        return True

    def rename(self, source: bytes, target: bytes, target_keyspace: "Keyspace | None" = None) -> None:
        """Move an existing key and its deadline over whatever is at the target, possibly in another database."""
        other = self if target_keyspace is None else target_keyspace  # an empty one is false
        slot = self._locate(source)
        value = self._tables[slot][source]
        deadline_ms = self._deadlines[slot].get(source)
        self._remove(slot, source)
        self._changed(source)
        self.changes -= 1  # it is one change, the other's
        other.set_until(target, value, deadline_ms)

    # Deadlines, in Unix ms

    def deadline(self, key: bytes) -> int | None:
        """When a key that is there ends, or None."""
        deadline_ms: int | None = self._deadlines[slot_of(key)].get(key)
        return deadline_ms

    def expire(self, key: bytes, deadline_ms: int) -> None:
        """Set when a key that is there ends."""
        slot = self._locate(key)
        if self._part is not None:
            self._part.keep(slot, key)
        self._set_deadline(slot, key, deadline_ms)
        self._changed(key)

    def persist(self, key: bytes) -> bool:
        """Remove a key's deadline; False if it has none."""
        slot = self._locate(key)
        if key not in self._deadlines[slot]:
            return False
        if self._part is not None:
            self._part.keep(slot, key)
        self._forget_deadline(slot, key)
        self._changed(key)
        return True

    def volatile_slot(self, start: int, stop: int) -> int:
        """The first slot of a range that has deadlines, or its end."""
        if self.volatile:
            deadlines = self._deadlines
            for slot in range(start, stop):
                if deadlines[slot]:
                    return slot
        return stop

    def expire_due(self, slot: int, place: int, now_ms: int, keys_max: int) -> tuple[int, int, int]:
        """Delete keys of a slot whose time is over, at most so many; returns (looked at, deleted, next place).

        For the expire cycle.  One call looks at one part of a slot's deadlines, so at a few thousand at most: that at
        `place`, as scan() counts places; 0 follows the last.  When as many as allowed were deleted, there may be more
        in the same part; then only these count as looked at, so that each key is counted once.
        """
        following, part = scan(self._deadlines[slot], place)
        looked = len(part)
        due = list(islice((key for key, deadline_ms in part.items() if deadline_ms < now_ms), keys_max))
        if len(due) == keys_max:
            looked = keys_max
        for key in due:
            self._end(slot, key)
        if part:
            # One deadline stands for the part: over many slots that is a fair sample.
            average_ms = max(0, next(iter(part.values())) - now_ms)
            # A running average, as in Redis: a new sample weighs 2 %.
            self.average_ttl_ms = (
                self.average_ttl_ms + (average_ms - self.average_ttl_ms) // 50 if self.average_ttl_ms else average_ms
            )
        return looked, len(due), following

    # The whole

    def __len__(self) -> int:
        """How many keys there are, those included whose time is over and which nobody came across yet."""
        return self._count if self._held is None else self._held.count

    def __iter__(self) -> Iterator[bytes]:
        """All keys, in slot order; those whose time is over are left out.  The keyspace must not change meanwhile."""
        if self._held is not None:
            yield from backings.all_keys(self)
            return
        now_ms = self._clock.wall_ms()
        for slot in sorted(self._occupied):
            deadlines = self._deadlines[slot]
            if deadlines:
                for key in self._tables[slot]:
                    deadline_ms = deadlines.get(key)
                    if deadline_ms is None or deadline_ms >= now_ms:
                        yield key
            else:
                yield from self._tables[slot]

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Some keys, about `count`, and the cursor to go on with; 0 after the last.

        A key that is there from the first step to the last is returned, whatever else changes: a step returns whole
        parts of tables, in an order that growth keeps.
        """
        if self._held is not None:
            return self._scan_all(self._held, cursor, count)
        first, place = cursor & SLOT_MASK, cursor >> _SLOT_BITS
        keys: list[bytes] = []
        for slot in self._slots_from(first):
            if slot != first:
                place = 0
            while len(keys) < count:
                place, part = scan(self._tables[slot], place)
                keys += part
                if not place:
                    break
            else:
                # The step is full before this slot is done, or even begun.
                return place << _SLOT_BITS | slot, self._live(keys)
        return 0, self._live(keys)

    def _scan_all(self, held: Held, position: int, count: int) -> tuple[int, list[bytes]]:
        """scan(), of what is held and what is in the backing; the cursor is a position."""
        if position >= POSITION_END:
            return 0, []
        assert self._backing is not None
        over: list[bytes] = []
        stored, following = self._backing.scan(self.store_id, position, count, self._clock.wall_ms(), over)
        for key in over:
            with suppress(StorageFault):  # it is passed by
                self.has_quietly(key)
        keys = {
            key: None
            for key in [*held.dirty, *held.flight]
            if position <= backings.position_of(key) < following and key in self._tables[slot_of(key)]
        }
        for key in stored:
            # Awaited is as good as unknown.
            if key in self._tables[slot_of(key)] or key not in held.ghosts:
                keys[key] = None
        return following if following < POSITION_END else 0, self._live(list(keys))

    def random(self) -> bytes | None:
        """A key, each about equally likely; None if there are none."""
        if self._held is not None and self._held.count > self._count:
            return backings.random_key(self)
        while self._occupied:
            slot = self._random_slot()
            key = random_key(self._tables[slot])
            if not (self.volatile and self._expire_if_due(slot, key)):
                return key
        return None

    def sample(self, count: int, volatile: bool) -> list[bytes]:
        """So many keys drawn at random, of those with a deadline if that is wanted; none if there are none.

        Those whose time is over may be among them, and the same key more than once.
        """
        if not (self.volatile if volatile else self._count) or not self._count:
            return []
        keys = []
        for _ in range(count):
            slot = self._random_slot()
            if volatile:
                # From there on, to the next with a deadline.
                slot = next((at % SLOTS for at in range(slot, slot + SLOTS) if self._deadlines[at % SLOTS]), -1)
                if slot < 0:
                    break  # those with a deadline are not held
            keys.append(random_key((self._deadlines if volatile else self._tables)[slot]))
        return keys

    def lengths(self) -> dict[str, list[int]]:
        """Keys by the kind of their value and the binary digits of its length: empty ones, of 1, 2 to 3, 4 to 7, …

        A length is the bytes of a string, the items of anything else; of kinds that there are.
        """
        found = {}
        for kind, bins in self._lengths.items():
            count = max((place + 1 for place, keys in enumerate(bins) if keys), default=0)
            if count:
                found[kind] = bins[:count]
        return found

    def weights(self) -> dict[tuple[str, str], tuple[int, int]]:
        """How many keys there are and what they take, in bytes, by kind of value and prefix; nothing is changed.

        The kernel leaves out tables, which are nobody's own.  Takes as long as there are keys: for a process that was
        forked for it.
        """
        found: dict[tuple[str, str], list[int]] = {}
        for slot in self._occupied:
            deadlines = self._deadlines[slot]
            for key, value in chain.from_iterable(part.items() for part in parts(self._tables[slot])):
                kind = "string" if type(value) is bytes or type(value) is bytearray else value.kind
                place = kind, prefix_of(key)
                if place not in found and len(found) >= PREFIXES_MAX:
                    place = kind, OTHERS
                weight = found.setdefault(place, [0, 0])
                weight[0] += 1
                weight[1] += entry_size(key, value) + (DEADLINE_BYTES if key in deadlines else 0)
        return {place: (keys, size_bytes) for place, (keys, size_bytes) in found.items()}

    def count_in_slot(self, slot: int) -> int:
        if self._held is not None:
            return len(backings.keys_of_slot(self, slot, -1))
        return len(self._tables[slot])

    def keys_in_slot(self, slot: int, count: int) -> list[bytes]:
        if self._held is not None:
            return backings.keys_of_slot(self, slot, count)
        keys: list[bytes] = []
        for part in parts(self._tables[slot]):
            keys += part
            if len(keys) >= count:
                break
        return keys[:count]

    def flush(self) -> int:
        """Forget all keys at once and return how many; their memory is freed bit by bit through Shard.lazyfree."""
        forgotten = len(self)
        self._tell_all_attended()
        for slot in self._occupied:
            shard = self._shards_by_run[slot >> RUN_BITS]
            if self._held is None:
                shard.stats.keys -= len(self._tables[slot])
            if self._part is self._held:
                discard(shard, self._tables[slot], self._deadlines[slot])
        if self._held is not None:
            assert self._backing is not None
            for run, keys in enumerate(self._held.counts_by_run):
                self._stats_by_run[run].keys -= keys
            self._part = self._held = Held(len(self._stats_by_run))
            self.store_id = self._backing.new_id()
        elif self._part is not None:
            assert isinstance(self._part, Part)
            self._part.flush()
            self._part = None
        self._tables = self._deadlines = _NO_TABLES
        self._touched, self._occupied, self._places = [], [], []
        self._heaviest = 1
        self._count = 0
        self._lengths = {}
        self.volatile = self.average_ttl_ms = 0
        self.changes += forgotten
        return forgotten

    def swap(self, other: "Keyspace") -> None:
        """Exchange the contents of two databases; clients stay where they are."""
        for name in _CONTENTS:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, theirs)
            setattr(other, name, mine)
        self.changes += 1
        for keyspace in (self, other):
            keyspace._tell_all_attended(other if keyspace is self else self)

    # Being saved

    def begin_part(self, walk: ReferenceWalk) -> Part:
        """A snapshot begins: what is here now is in it."""
        self._part = part = Part(walk, self.index, self._tables, self._deadlines, self._touched, self._shards_by_run)
        return part

    def end_part(self) -> None:
        """The snapshot has all it wants."""
        self._part = None

    # Above a backing: kora.store.backing.Backed

    def back(self, backing: Backing, id: int) -> None:
        assert not self._count, "keys came before what they are to be kept in"
        self._backing, self.store_id = backing, id
        held = self._part = self._held = Held(len(self._stats_by_run))
        stats = list(dict.fromkeys(self._stats_by_run))
        for block, (keys, volatile) in zip(stats, backing.counts_by_shard(id), strict=True):
            held.count += keys
            held.counts_by_run[self._stats_by_run.index(block)] = keys
            self.volatile += volatile
            block.keys += keys

    @property
    def dirty_keys(self) -> int:
        return 0 if self._held is None else len(self._held.dirty)

    @property
    def dirty_bytes(self) -> int:
        return 0 if self._held is None else self._held.dirty_bytes

    @property
    def resident_keys(self) -> int:
        return self._count

    @property
    def ghost_bytes(self) -> int:
        return 0 if self._held is None else sum(map(len, self._held.ghosts)) + 80 * len(self._held.ghosts)

    @property
    def count_about(self) -> int:
        return len(self)

    def settle(self) -> None:
        """Here every key that is set is known, so that there is nothing to be put right."""

    def take_dirty(self, bytes_max: int, large_bytes: int) -> Taken | None:
        held = self._held
        if held is None:
            return None
        taken = Taken(self.store_id, len(set(self._shards_by_run)))
        size_bytes = 0
        for key in list(held.dirty):
            if size_bytes >= bytes_max:
                break
            slot = slot_of(key)
            value = self._tables[slot].get(key)
            was = held.stored.pop(key, ABSENT)
            del held.dirty[key]
            if value is None:
                if was == ABSENT:
                    continue
                record = None
            else:
                deadline_ms = self._deadlines[slot].get(key)
                record = backings.make_record(value, deadline_ms)
                held.stored[key] = LASTING if deadline_ms is None else VOLATILE
                size_bytes += len(record)
                if len(record) >= large_bytes:
                    taken.large.append((key, len(record)))
            held.flight[key] = None
            taken.add(self._shards_by_run[slot >> RUN_BITS].index, key, record, was)
            size_bytes += len(key)
        return taken if taken.keys else None

    def written(self, overwritten: Sequence[Overwritten]) -> None:
        assert self._held is not None
        self._held.flight.clear()

    def is_known(self, key: bytes) -> bool:
        is_known = self._held is None or key in self._tables[slot_of(key)] or key in self._held.ghosts
        self.hits += is_known
        return is_known

    def asked_by(self, key: bytes) -> int:
        return 0 if self._held is None else self._held.awaited.get(key, 0)

    def await_record(self, key: bytes, reading: int) -> None:
        assert self._held is not None
        self._held.awaited[key] = reading

    def note_absent(self, key: bytes) -> None:
        self._install(slot_of(key), key, None)

    def install_awaited(self, reading: int, places: list[bytes], records: list[bytes | None]) -> None:
        for place, record in zip(places, records, strict=True):
            if self._end_awaiting(place, reading):
                key = place[PLACE_BYTES:]
                with suppress(StorageFault):  # whoever looks for the key is told
                    self._install(slot_of(key), key, record)

    def give_up_waiting(self, reading: int, places: list[bytes]) -> None:
        for place in places:
            self._end_awaiting(place, reading)

    def _end_awaiting(self, place: bytes, reading: int) -> bool:
        """Whether a key of this database was still awaited from a reading."""
        awaited = {} if self._held is None or id_of(place) != self.store_id else self._held.awaited
        if awaited.get(place[PLACE_BYTES:]) != reading:
            return False
        del awaited[place[PLACE_BYTES:]]
        return True

    def drop_clean(self, bytes_max: int | None, keys_max: int) -> tuple[int, int]:
        held = self._held
        dropped_bytes = dropped = 0
        if held is None:
            return 0, 0
        tables = self._tables
        if bytes_max is None:
            # All of them.
            chosen = [key for slot in self._occupied for key in tables[slot]]
        else:
            # Those that were used last among a sample stay.
            chosen = sorted(set(self.sample(2 * keys_max, volatile=False)), key=self.idle_s, reverse=True)[:keys_max]
        for key in chosen:
            if bytes_max is not None and dropped_bytes >= bytes_max:
                break
            slot = slot_of(key)
            if not held.is_settled(key) or _is_in_use(tables[slot][key]):
                continue
            stats = self._stats_of(slot)
            before = stats.memory_bytes
            if key in self._deadlines[slot]:
                self.volatile += 1  # it stays one of them
            self._leave(slot, self._take_out(slot, key))
            held.stored.pop(key, None)
            dropped += 1
            dropped_bytes += before - stats.memory_bytes
        return dropped_bytes, dropped

    def drop_ghosts(self, keys_max: int) -> int:
        held = self._held
        if held is None:
            return 0
        if len(held.ghosts) > keys_max:
            held.ghosts = {key: None for key in held.ghosts if not held.is_settled(key)}
        return len(held.ghosts)

    def _know(self, slot: int, key: bytes) -> None:
        """Have a key here, or known to be absent, before what takes either for granted."""
        if key not in self._tables[slot]:
            self._fetch(slot, key)

    def _fetch(self, slot: int, key: bytes) -> Any:
        """The value of a key that is not here, from the backing if that has to be asked, or None."""
        assert self._held is not None
        assert self._backing is not None
        if key in self._held.ghosts:
            return None
        record = self._backing.get(self.store_id, key)
        self._held.awaited.pop(key, None)
        return self._install(slot, key, record)

    def _install(self, slot: int, key: bytes, record: bytes | None) -> Any:
        held = self._held
        assert held is not None
        if record is None:
            held.ghosts[key] = None
            return None
        value = backings.read_value(record, self.make)
        deadline_ms = backings.deadline_of(record)
        self._put(slot, key, value)
        if deadline_ms:
            self._set_deadline(slot, key, deadline_ms)
            self.volatile -= 1  # it was one of them before
        held.stored[key] = VOLATILE if deadline_ms else LASTING
        if (
            type(value) is not bytes
            and type(value) is not bytearray
            and value.kind == "hash"
            and value.next_deadline_ms
        ):
            self.note_fields(key, value.next_deadline_ms)
        return value

    # Being attentive

    def follow(self, clock: Clock) -> None:
        """Have keys end by another clock."""
        self._clock = clock

    def attend(self, key: bytes) -> None:
        """Have touched() called whenever this key is changed or ends, once more than disregard() was called for it."""
        self._attended[key] = self._attended.get(key, 0) + 1

    def disregard(self, key: bytes) -> None:
        """One less wants to know about a key that attend() was called for."""
        count = self._attended[key] - 1
        if count:
            self._attended[key] = count
        else:
            del self._attended[key]

    def _changed(self, key: bytes) -> None:
        self.changes += 1
        if self._attended or self.attends_all:
            self._tell(key)

    def _tell(self, key: bytes) -> None:
        if key in self._attended or self.attends_all:
            self.touched(self, key)

    def _tell_all_attended(self, other: "Keyspace | None" = None) -> None:
        """The whole contents change: tell of those attended keys that are here, or were in the other's."""
        for key in list(self._attended):
            slot = slot_of(key)
            for keyspace in (self, other or self):
                if keyspace._held is not None:
                    # Where that fails nobody will ever know: all keys are about to go elsewhere.
                    with suppress(StorageFault):
                        keyspace._know(slot, key)
            if key in self._tables[slot] or (other is not None and key in other._tables[slot]):
                self.touched(self, key)

    # Inside

    def _miss(self, stats: ShardStats, key: bytes) -> None:
        stats.misses += 1
        if self.tells_more:
            self.notify(b"keymiss", key)

    def _locate(self, key: bytes) -> int:
        slot = crc_hqx(key, 0) & SLOT_MASK if OPEN_BRACE not in key else slot_of(key)
        self.stats = self._stats_by_run[slot >> RUN_BITS]
        return slot

    def _stats_of(self, slot: int) -> ShardStats:
        return self._stats_by_run[slot >> RUN_BITS]

    def _insert(self, slot: int, key: bytes, value: Any) -> None:
        self._stats_of(slot).keys += 1
        if self._held is not None:
            self._held.came(slot >> RUN_BITS, key)
        self._put(slot, key, value)
        if self.tells_more:
            self.notify(b"new", key)

    def _put(self, slot: int, key: bytes, value: Any) -> None:
        """Hold a key that was not held."""
        table = self._tables[slot]
        if table is EMPTY:
            table = self._own(slot)
        table[key] = value
        self._count += 1
        weigh(value)
        self._count_length(value, 1)
        self._stats_of(slot).memory_bytes += entry_size(key, value)
        self._touched[slot & _TOUCHED_MASK] = self.now_s
        size = len(table)
        if size > self._heaviest:
            self._heaviest = size
        if size > PART_MAX and type(table) is dict:
            self._tables[slot] = SplitTable(table)  # type: ignore[index]

    def _set_deadline(self, slot: int, key: bytes, deadline_ms: int) -> None:
        deadlines = self._deadlines[slot]
        if key not in deadlines:
            if deadlines is EMPTY:
                deadlines = self._own(slot, deadlines=True)
            self.volatile += 1
            self._stats_of(slot).memory_bytes += DEADLINE_BYTES
        deadlines[key] = deadline_ms
        if type(deadlines) is dict and len(deadlines) > PART_MAX:
            self._deadlines[slot] = SplitTable(deadlines)  # type: ignore[index]

    def _own(self, slot: int, deadlines: bool = False) -> Table:
        """Give a slot a table of its own in place of the shared empty one."""
        if self._tables is _NO_TABLES:
            self._tables, self._deadlines = list(_NO_TABLES), list(_NO_TABLES)
            self._touched, self._places = [0] * (_TOUCHED_MASK + 1), [0] * SLOTS
        table: Table = {}
        if deadlines:
            self._deadlines[slot] = table  # type: ignore[index]
        else:
            self._tables[slot] = table  # type: ignore[index]
            self._places[slot] = len(self._occupied)
            self._occupied.append(slot)
        return table

    def _leave(self, slot: int, value: Any) -> None:
        """A value is no key's any more: one of many parts is freed bit by bit."""
        if is_large(value):
            self._shards_by_run[slot >> RUN_BITS].lazyfree.append(DiscardedValue(value, is_counted=False))

    def _remove(self, slot: int, key: bytes) -> Any:
        """A key ends, or gets another name; returns its value."""
        if self._part is not None:
            self._part.keep(slot, key)
        self._stats_of(slot).keys -= 1
        if self._held is not None:
            self._held.went(slot >> RUN_BITS, key)
        return self._take_out(slot, key)

    def _take_out(self, slot: int, key: bytes) -> Any:
        """Hold a key no longer; returns its value."""
        table = self._tables[slot]
        value = table.pop(key)
        self._count -= 1
        self._count_length(value, -1)
        self._stats_of(slot).memory_bytes -= entry_size(key, value)
        if key in self._deadlines[slot]:
            self._forget_deadline(slot, key)
        if not table:
            self._tables[slot] = EMPTY  # type: ignore[index]
            last = self._occupied.pop()
            if last != slot:
                self._occupied[self._places[slot]] = last
                self._places[last] = self._places[slot]
        return value

    def _count_length(self, value: Any, change: int) -> None:
        """A value has come, or goes; it counts as long as it was when it was weighed."""
        if type(value) is bytes or type(value) is bytearray:
            kind, length = "string", len(value)
        else:
            kind, length = value.kind, value.counted_length
        bins = self._lengths.get(kind)
        if bins is None:
            bins = self._lengths[kind] = [0] * _LENGTH_BINS
        bins[length.bit_length()] += change

    def _forget_deadline(self, slot: int, key: bytes) -> None:
        deadlines = self._deadlines[slot]
        del deadlines[key]
        self.volatile -= 1
        self._stats_of(slot).memory_bytes -= DEADLINE_BYTES
        if not deadlines:
            self._deadlines[slot] = EMPTY  # type: ignore[index]

    def _drop_deadline(self, slot: int, key: bytes) -> None:
        """Before a key is overwritten: delete it if its time is over, else only forget its deadline."""
        if key in self._deadlines[slot] and not self._expire_if_due(slot, key):
            self._forget_deadline(slot, key)

    def _expire_if_due(self, slot: int, key: bytes) -> bool:
        deadline_ms = self._deadlines[slot].get(key)
        if deadline_ms is None or deadline_ms >= self._clock.wall_ms():
            return False
        self._end(slot, key)
        return True

    def _end(self, slot: int, key: bytes) -> None:
        """Delete a key because its time is over."""
        self._leave(slot, self._remove(slot, key))
        self._stats_of(slot).expired += 1
        if self._attended or self.attends_all:
            self._tell(key)
        self.effect(b"DEL", key)
        self.notify(b"expired", key)

    def _live(self, keys: list[bytes]) -> list[bytes]:
        """Those of some keys whose time is not over; the others are deleted."""
        if not self.volatile:
            return keys
        live = []
        for key in keys:
            slot = slot_of(key)
            if not (self.volatile and self._expire_if_due(slot, key)):
                live.append(key)
        return live

    def _slots_from(self, start: int) -> Iterator[int]:
        """Slots with keys, in order.  Few keys: sort those there are; many: most slots have some."""
        if len(self._occupied) < _SPARSE:
            yield from sorted(slot for slot in self._occupied if slot >= start)
        else:
            for slot in range(start, SLOTS):
                if self._tables[slot]:
                    yield slot

    def _counts(self) -> Iterator[int]:
        """How many keys each occupied slot holds, in the order of _occupied."""
        return map(len, map(self._tables.__getitem__, self._occupied))

    def _random_slot(self) -> int:
        """A slot, drawn in proportion to its keys: even draws, each kept with the probability keys / most keys."""
        for _ in range(32):
            slot = self._occupied[randrange(len(self._occupied))]
            if randrange(self._heaviest) < len(self._tables[slot]):
                return slot
        # One slot holds nearly everything (a hash tag), or did so once, so that nearly every draw is refused.
        weights = list(self._counts())
        self._heaviest = max(weights)
        return choices(self._occupied, weights)[0]


def _is_in_use(value: Any) -> bool:
    """Whether anybody else has it than its table, who asks, and the call."""
    return type(value) is not bytes and getrefcount(value) > 3


def nobody(*_: object) -> None:
    """Nobody wants to know."""


def _changes_when_read(value: Any) -> bool:
    """Whether commands that look may change it: hashes lose fields whose time is over, streams have readers."""
    return (
        type(value) is not bytes
        and type(value) is not bytearray
        and (value.kind == "stream" or (value.kind == "hash" and value.next_deadline_ms))
    )


def _is_kind(value: Any, kind: type) -> bool:
    """A string that was edited is a bytearray, and still a string."""
    return kind is bytes and type(value) is bytearray
