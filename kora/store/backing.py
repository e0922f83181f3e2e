"""What lies under the keyspaces where the data is larger than memory, and what the two ask of each other.

A keyspace with a backing holds a part of its keys, live as ever.  A key that it holds is clean, or DIRTY: changed since
it was last given to the backing.  A key that it does not hold is known to be absent, by a GHOST that may stand for a
deletion which the backing has not been told yet; or it is COLD, and only the backing knows.

    command -> keyspace: held, or a ghost?   yes: that is the answer
                         |  no
                         v
               Backing.get() -> install()    at once, on the loop: whatever else looks for a key
               Backing.get_many() in a thread, for the keys that requests name before they run (kora/engine/cache.py)

    take_dirty() -> a batch, written in a thread -> written(), or not_written() and again
    drop_clean()                                  what is clean, and was not used for long, makes room

A RECORD is 8 bytes of deadline (Unix ms, big-endian, 0 for none), the RDB type, and the value as DUMP has it.

A POSITION orders all keys of a database for SCAN: the slot, above 32 bits of CRC-32 of the key.  It says where a key is
whatever else comes and goes, also in slots of millions of keys.
"""

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias
from zlib import crc32

from kora.store.slots import SLOTS, slot_of

POSITION_BITS: Final = 32
POSITION_END: Final = SLOTS << POSITION_BITS
DEADLINE_BYTES: Final = 8

# What the backing has of a key before a change is written.
ABSENT: Final = 0
LASTING: Final = 1  # without a deadline
VOLATILE: Final = 2


def position_of(key: bytes) -> int:
    return slot_of(key) << POSITION_BITS | crc32(key)


# Of one key, since the backing was last told of it: its record, or None if it is gone, and what the backing has of it.
Change: TypeAlias = "tuple[bytes, bytes | None, int]"


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

    def get_many(self, keys: Sequence[tuple[int, bytes]]) -> Sequence[bytes | None]:
        """As get(), of many, in their order; from any thread."""

    def may_exist(self, id: int, key: bytes) -> bool:
        """False if the key is not there, as far as memory alone can tell."""

    def scan(self, id: int, position: int, count: int, now_ms: int) -> tuple[list[bytes], int]:
        """About so many keys from a position on, in order, and the position to go on with, POSITION_END after the last.

        Keys of the same position come together.  Left out are those whose time was over by now_ms.
        """


class Backed(Protocol):
    """What a keyspace of either implementation offers to whoever keeps its backing."""

    index: int
    store_id: int  # 0 while there is no backing; swapped with the contents

    @property
    def dirty_keys(self) -> int:
        """Changes that take_dirty() has not given out yet, deletions included."""

    @property
    def dirty_bytes(self) -> int:
        """What those take in memory, about."""

    @property
    def resident_keys(self) -> int:
        """Keys that are held; len() has all that there are."""

    def back(self, backing: Backing, id: int) -> None:
        """Begin to hold a part of what is in a backing, and nothing yet."""

    def take_dirty(self, bytes_max: int) -> list[Change]:
        """Changes, of about so many bytes, in no order; [] if there are none.

        What is given out counts as being in the backing from then on, but is not dropped before written() was called.
        One batch of a keyspace at a time: written() or not_written() comes before the next.
        """

    def written(self) -> None:
        """What take_dirty() gave out last is in the backing."""

    def not_written(self, changes: Sequence[Change]) -> None:
        """What take_dirty() gave out last is not in the backing: it is dirty again."""

    def is_known(self, key: bytes) -> bool:
        """Whether a look at a key needs no backing."""

    def await_record(self, key: bytes) -> bool:
        """A record is about to be asked for, elsewhere; False if it need not be.

        The key stays cold; what happens to it meanwhile wins over what is fetched.
        """

    def install(self, id: int, key: bytes, record: bytes | None) -> bool:
        """What was asked for has come; False if nobody waits for it any more.

        Raises StorageFault where the record cannot be read.
        """

    def give_up_waiting(self, id: int, key: bytes) -> None:
        """What was asked for will not come."""

    def drop_clean(self, bytes_max: int, keys_max: int) -> tuple[int, int]:
        """Drop clean values that were not used for long until so many bytes or keys are freed; returns how many of both.

        (0, 0) means that there is nothing to drop, or nearly so.  Between commands only.
        """

    def drop_ghosts(self, keys_max: int) -> int:
        """Forget clean ghosts beyond so many; returns how many are left.  Between commands only."""


def deadline_of(record: bytes) -> int:
    """The deadline of a record; 0 for none."""
    return int.from_bytes(record[:DEADLINE_BYTES], "big")
