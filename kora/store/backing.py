"""What lies under the keyspaces where the data is larger than memory, and what the two ask of each other.

A keyspace with a backing holds a part of its keys, live as ever.  A key that it holds is clean, or DIRTY: changed since
it was last given to the backing.  A key that it does not hold is known to be absent, by a GHOST that may stand for a
deletion which the backing has not been told yet; or it is COLD, and only the backing knows.

    command -> keyspace: held, or a ghost?   yes: that is the answer
                         |  no
                         v
               Backing.get() -> install()    at once, on the loop: whatever else looks for a key
               Backing.get_many() in a thread, for the keys that requests name before they run (kora/engine/cache.py)

    take_dirty() -> a batch, written in a thread, again and again until it is -> written()
    drop_clean()                             what is clean, and was not used for long, makes room

Who puts a value in place of whatever is there need not know what that is: a cold key that is set so becomes UNSURE, and
is counted as a new one.  The backing is asked whether it has the key when it is to be written, by the thread that does
that; then the keyspace's counts are put right, and so they are at once, by settle(), before anybody is told of them.

A RECORD is 8 bytes of deadline (Unix ms, big-endian, 0 for none), the RDB type, and the value as DUMP has it.  The high
bit of the type says of a string that it was edited, which is its encoding.

A POSITION orders all keys of a database for SCAN: the slot, above 32 bits of CRC-32 of the key.  It says where a key is
whatever else comes and goes, also in slots of millions of keys.

A PLACE is how a store names a key of any database: the id, the slot and the CRC-32, all big-endian, so that places are
in the order of positions, and the key itself.
"""

from collections.abc import Callable, Iterator, Sequence
from random import random, randrange
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias
from zlib import crc32

from kora.errors import StorageFault
from kora.store.slots import SLOTS, slot_of
from kora.types import lzf
from kora.types.rdb.reader import Damaged, Reader
from kora.types.rdb.values import NEWEST, Type, read, type_of, write
from kora.types.rdb.writer import Writer

if TYPE_CHECKING:
    from kora.store.keyspace import Keyspace

POSITION_BITS: Final = 32
POSITION_END: Final = SLOTS << POSITION_BITS
DEADLINE_BYTES: Final = 8
# A HINT says that a key ends then: the id of its database, and this, the deadline, and the key.
HINTS: Final = 1 << 31
HINT: Final = Struct(">IQ")

_EDITED: Final = 0x80  # in the type
# What follows these types is when the first field ends.
HASHES_WITH_DEADLINES: Final = (Type.HASH_METADATA, Type.HASH_LISTPACK_EX)

# What the backing has of a key before a change is written.  The kernel knows these, too.
ABSENT: Final = 0
LASTING: Final = 1  # without a deadline
VOLATILE: Final = 2
UNKNOWN: Final = 3


PLACE_BYTES: Final = 10  # before the key

_PLACE: Final = Struct(">IHI")


def place_of(id: int, key: bytes) -> bytes:
    return _PLACE.pack(id, slot_of(key), crc32(key)) + key


def id_of(place: bytes) -> int:
    return int.from_bytes(place[:4], "big")


def position_of(key: bytes) -> int:
    return slot_of(key) << POSITION_BITS | crc32(key)


# Records were strings of this server's before, however long those may be.
_STRING_BYTES_MAX: Final = 1 << 40


# So many keys of a run of slots, and so many of them with a deadline.
Overwritten: TypeAlias = "tuple[int, int, int]"


class Share:
    """Of what has changed in a database, what goes to one shard."""

    __slots__ = ("first_due_ms", "gone", "keys", "unknown", "volatile", "words")

    def __init__(self) -> None:
        # A place, and its record, or None if the key is gone; and behind a record that has a deadline, or a hash with
        # some, a hint and b"".
        self.words: list[bytes | None] = []
        self.gone: list[bytes] = []  # places
        self.unknown: list[
            bytes
        ] = []  # places of which nobody knows whether they are there; counted as if they were not
        self.keys = 0  # more than there were
        self.volatile = 0
        self.first_due_ms = 0  # the first deadline that is new


class Taken:
    """What has changed in a database since the backing was last told."""

    __slots__ = ("id", "keys", "large", "record_bytes", "shares")

    def __init__(self, id: int, shards: int) -> None:
        self.id = id
        self.shares = [Share() for _ in range(shards)]
        self.keys = 0
        self.record_bytes = 0
        self.large: list[tuple[bytes, int]] = []  # keys of large records, and how many bytes those have

    def add(self, shard: int, key: bytes, record: bytes | None, was: int) -> None:
        """A key has another record now, or None; `was` is what the backing has of it."""
        share = self.shares[shard]
        place = place_of(self.id, key)
        share.words += place, record
        self.keys += 1
        if was == UNKNOWN:
            share.unknown.append(place)
        share.keys += (record is not None) - (was in (LASTING, VOLATILE))
        share.volatile -= was == VOLATILE
        if record is None:
            share.gone.append(place)
            return
        self.record_bytes += len(record)
        share.volatile += deadline_of(record) > 0
        if due_ms := due_of(record):
            share.first_due_ms = min(share.first_due_ms or due_ms, due_ms)
            share.words += HINT.pack(self.id | HINTS, due_ms) + key, b""


class Backing(Protocol):
    """A database is named by an id of the store's: SWAPDB swaps ids, FLUSHDB takes a new one.

    Whatever reads may raise StorageFault (kora/errors.py): what was asked is answered by that.
    """

    databases: dict[int, int]  # the id of each database that has one when the server starts

    def new_id(self) -> int:
        """For a database that is new, or was emptied: one that was never used."""

    def counts_by_shard(self, id: int) -> Sequence[tuple[int, int]]:
        """How many keys each shard has, and how many of them have a deadline."""

    def get(self, id: int, key: bytes) -> bytes | None:
        """The record of a key."""

    def get_many(self, places: list[list[bytes]]) -> list[list[bytes | None]]:
        """The records of keys by their places, which come, and go, by shards; from any thread."""

    def may_exist(self, id: int, key: bytes) -> bool:
        """False if the key is not there, as far as memory alone can tell."""

    def overwritten(self, id: int) -> Sequence[Overwritten]:
        """What was there, of the unknown keys that take_dirty() has given out last."""

    def scan(
        self, id: int, position: int, count: int, now_ms: int, over: list[bytes] | None = None
    ) -> tuple[list[bytes], int]:
        """About so many keys from a position on, in order, and the position to go on with, POSITION_END after the last.

        Keys of the same position come together.  Those whose time was over by now_ms go to the other list.
        """


class Backed(Protocol):
    """What a keyspace of either implementation offers to whoever keeps its backing."""

    index: int
    store_id: int  # 0 while there is no backing; swapped with the contents
    hits: int  # keys that requests name, and that were known before they ran

    @property
    def dirty_keys(self) -> int:
        """Changes that take_dirty() has not given out yet, deletions included."""

    @property
    def dirty_bytes(self) -> int:
        """What those take in memory, about."""

    @property
    def ghost_bytes(self) -> int:
        """What ghosts take in memory, about; what is held is counted by the shards."""

    @property
    def resident_keys(self) -> int:
        """Keys that are held; len() has all that there are."""

    def back(self, backing: Backing, id: int) -> None:
        """Begin to hold a part of what is in a backing, and nothing yet."""

    @property
    def count_about(self) -> int:
        """As len(), but of what was set without a look at what was there some may be counted twice; and at no cost."""

    def settle(self) -> None:
        """Have all counts right, `volatile` and those of shards included, as far as the backing can be read."""

    def take_dirty(self, bytes_max: int, large_bytes: int) -> Taken | None:
        """Changes, of about so many bytes, in no order; None if there are none.

        What is given out counts as being in the backing from then on, but is not dropped before written() was called.
        One batch of a keyspace at a time: written() comes before the next.
        """

    def written(self, overwritten: Sequence[Overwritten]) -> None:
        """What take_dirty() gave out last is in the backing; and what was there of what was unknown."""

    def is_known(self, key: bytes) -> bool:
        """Whether a look at a key needs no backing."""

    def asked_by(self, key: bytes) -> int:
        """The number of the reading that a key which is not known is awaited from; 0 for none."""

    def await_record(self, key: bytes, reading: int) -> None:
        """A record of such a key is about to be asked for, elsewhere, in a reading with a number.

        The key stays cold; what happens to it meanwhile wins over what is fetched.
        """

    def note_absent(self, key: bytes) -> None:
        """The backing does not have a key that is not known."""

    def install_awaited(self, reading: int, places: list[bytes], records: list[bytes | None]) -> None:
        """What was asked for has come: take what is of this database, and still awaited from that reading.

        Keys whose records cannot be read are cold again.
        """

    def give_up_waiting(self, reading: int, places: list[bytes]) -> None:
        """What was asked for will not come."""

    def drop_clean(self, bytes_max: int | None, keys_max: int) -> tuple[int, int]:
        """Drop clean values, not used for long, until so many bytes or keys are freed; returns how many of both.

        None for the bytes: all that can go, now.  Otherwise a call looks at no more than it takes for so many keys, so
        that it may find nothing to drop while there is some.  Between commands only.
        """

    def drop_ghosts(self, keys_max: int) -> int:
        """Forget clean ghosts beyond so many; returns how many are left.  Between commands only."""


def deadline_of(record: bytes) -> int:
    """The deadline of a record; 0 for none."""
    return int.from_bytes(record[:DEADLINE_BYTES], "big")


def due_of(record: bytes) -> int:
    """When a key ends, or the first field of a hash; 0 for never."""
    deadline_ms = deadline_of(record)
    if record[DEADLINE_BYTES] in HASHES_WITH_DEADLINES:
        field_ms = int.from_bytes(record[DEADLINE_BYTES + 1 : 2 * DEADLINE_BYTES + 1], "little")
        return min(deadline_ms or field_ms, field_ms)
    return deadline_ms


def what_is(record: bytes | None) -> int:
    """ABSENT, LASTING or VOLATILE."""
    if record is None:
        return ABSENT
    return VOLATILE if deadline_of(record) else LASTING


def make_record(value: Any, deadline_ms: int | None) -> bytes:
    # Not compressed: the store does that, and better, for many records together.
    writer = Writer(None)
    writer.data += (deadline_ms or 0).to_bytes(DEADLINE_BYTES, "big")
    type_ = type_of(value, NEWEST)  # nobody else reads it, and older ones forget when consumers were active
    writer.data.append(type_ | _EDITED if type(value) is bytearray else type_)
    write(writer, type_, value)
    return bytes(writer.data)


def read_value(record: bytes, make: Callable[[type], Any]) -> Any:
    """The value of a record; raises StorageFault where it is damaged."""
    try:
        if len(record) <= DEADLINE_BYTES:
            raise Damaged("no value at all")
        reader = Reader(record, DEADLINE_BYTES + 1, len(record), lzf.decompress, _STRING_BYTES_MAX)
        value = read(reader, record[DEADLINE_BYTES] & ~_EDITED, make)
        if record[DEADLINE_BYTES] & _EDITED:
            if type(value) is not bytes:
                raise Damaged("no string, and edited")
            value = bytearray(value)
        return value
    except Damaged as error:
        raise StorageFault(f"a damaged record: {error}") from None


# What keyspaces of either implementation do by scan().

_STEP: Final = 1000
_DRAWS_MAX: Final = 100


def all_keys(keyspace: "Keyspace") -> Iterator[bytes]:
    cursor = 0
    while True:
        cursor, keys = keyspace.scan(cursor, _STEP)
        yield from keys
        if not cursor:
            return


def keys_of_slot(keyspace: "Keyspace", slot: int, count: int) -> list[bytes]:
    """At most so many keys of a slot; all, if the count is negative."""
    keys: list[bytes] = []
    cursor = slot << POSITION_BITS
    while True:
        cursor, found = keyspace.scan(cursor, _STEP if count < 0 else min(count, _STEP))
        keys += [key for key in found if slot_of(key) == slot]
        if not cursor or cursor >> POSITION_BITS != slot or 0 <= count <= len(keys):
            return keys if count < 0 else keys[:count]


def random_key(keyspace: "Keyspace") -> bytes | None:
    """What is behind a random position: how likely a key is depends on how far behind the one before it is."""
    for _ in range(_DRAWS_MAX):
        keys = keyspace.scan(randrange(POSITION_END), 1)[1] or keyspace.scan(0, 1)[1]
        if keys:
            return keys[int(random() * len(keys))]
        if not len(keyspace):
            return None
    return next(all_keys(keyspace), None)
