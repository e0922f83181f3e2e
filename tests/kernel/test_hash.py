"""Keys that were chosen to collide: whoever can choose keys must not be able to choose collisions.

The hash is keyed with a secret of each kernel.  What a table does with it can be seen without a clock: a step of SCAN
is one table, so steps tell how many tables the keys of a slot are spread over and how evenly, whatever the keys are.
"""

from binascii import crc_hqx
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import pytest

from kora.clock import ManualClock
from kora.store.shard import make_shards
from kora.store.slots import slot_of

_COUNT: Final = 20_000
# A table has at most 1024 buckets with 7/8 in use, and splits in two beyond that: kernel.h.
_TABLE_KEYS_MAX: Final = 896
_MASK64: Final = (1 << 64) - 1


def make_database(compiled: ModuleType) -> Any:
    made = compiled.Kernel(ManualClock())
    return made.make_keyspace(0, make_shards(1, lambda: made.make_stats(0)))


def steps_of(db: Any) -> Iterator[list[bytes]]:
    """What each step of a scan gives: the keys of one table."""
    cursor = 0
    while True:
        cursor, keys = db.scan(cursor, 1)
        yield keys
        if not cursor:
            return


# --- Keys that collide ---


def keys_of_one_slot() -> list[bytes]:
    return [b"{t}%d" % number for number in range(_COUNT)]


def keys_without_a_tag_of_one_slot() -> list[bytes]:
    """Of one CRC-16: CRC is linear, and two bytes behind a prefix reach every value, one pair of them each."""
    ending_of = {
        crc_hqx(ending, 0): ending for ending in (bytes((high, low)) for high in range(256) for low in range(256))
    }
    prefixes = (b"%08x" % number for number in range(_COUNT))
    return [prefix + ending_of[crc_hqx(prefix + b"\0\0", 0) ^ 0x1234] for prefix in prefixes]


def keys_of_one_murmur_hash() -> list[bytes]:
    """MurmurHash64A of 24 bytes, seed 0, is the same for all: each block can undo what the one before it did."""
    multiplier = 0xC6A4A7935BD1E995
    inverse = pow(multiplier, -1, 1 << 64)

    def mixed(block: int) -> int:
        block = block * multiplier & _MASK64
        return (block ^ block >> 47) * multiplier & _MASK64

    def unmixed(block: int) -> int:
        block = block * inverse & _MASK64
        return (block ^ block >> 47) * inverse & _MASK64  # a shift by more than half undoes itself

    start = int.from_bytes(b"{t}murmu", "little")
    before = (24 * multiplier & _MASK64 ^ mixed(start)) * multiplier & _MASK64
    keys = []
    for number in range(_COUNT):
        after = (before ^ mixed(number)) * multiplier & _MASK64
        last = unmixed(after ^ 12345)
        keys.append(b"".join(part.to_bytes(8, "little") for part in (start, number, last)))
    return keys


def murmur(key: bytes) -> int:
    multiplier = 0xC6A4A7935BD1E995
    value = len(key) * multiplier & _MASK64
    for place in range(0, len(key), 8):
        block = int.from_bytes(key[place : place + 8], "little") * multiplier & _MASK64
        value = (value ^ (block ^ block >> 47) * multiplier & _MASK64) * multiplier & _MASK64
    return value


_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3


def fnv(key: bytes) -> int:
    value = _FNV_OFFSET
    for byte in key:
        value = (value ^ byte) * _FNV_PRIME & _MASK64
    return value


def keys_of_one_fnv_bucket() -> list[bytes]:
    """FNV-1a has the same low 16 bits for all, found backwards: these depend on the low 16 bits of the state only."""
    inverse = pow(_FNV_PRIME, -1, 1 << 16)
    endings = {0: b""}
    for _ in range(3):
        for state, ending in list(endings.items()):
            for byte in range(0x20, 0x7B):
                endings.setdefault(state * inverse & 0xFFFF ^ byte, bytes((byte,)) + ending)
    keys = []
    number = 0
    while len(keys) < _COUNT:
        prefix = b"{t}%08d" % number
        number += 1
        ending = endings.get(fnv(prefix) & 0xFFFF)
        if ending is not None:
            keys.append(prefix + ending)
    return keys


def keys_of_equal_length_that_differ_in_one_bit_of_each_byte() -> list[bytes]:
    """What weak mixing turns into a few values."""
    return [b"{t}" + bytes(0x40 | number >> bit & 1 for bit in range(15)) for number in range(_COUNT)]


FAMILIES: Final = (
    keys_of_one_slot,
    keys_without_a_tag_of_one_slot,
    keys_of_one_murmur_hash,
    keys_of_one_fnv_bucket,
    keys_of_equal_length_that_differ_in_one_bit_of_each_byte,
)


def test_the_crafted_keys_do_collide() -> None:
    assert len({murmur(key) for key in keys_of_one_murmur_hash()}) == 1
    assert {fnv(key) & 0xFFFF for key in keys_of_one_fnv_bucket()} == {0}
    for family in FAMILIES:
        keys = family()
        assert len(keys) == len(set(keys)) == _COUNT, family.__name__
        assert len(set(map(slot_of, keys))) == 1, family.__name__


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_keys_that_were_made_to_collide_are_spread_over_many_tables(compiled: ModuleType, family: Any) -> None:
    db = make_database(compiled)
    keys = family()
    for key in keys:
        db.set(key, b"v")
    db.audit()
    sizes = [len(step) for step in steps_of(db)]
    assert sum(sizes) == len(keys)
    assert max(sizes) <= _TABLE_KEYS_MAX
    # A part splits in two halves of about 448, and so none is ever much smaller; what collides would stay in one half,
    # and split again and again into one that is full and others that are empty.
    assert min(sizes) >= 300, sizes
    assert len(sizes) <= len(keys) // 300


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_keys_that_were_made_to_collide_are_found_and_go_again(compiled: ModuleType, family: Any) -> None:
    db = make_database(compiled)
    keys = family()[:5_000]
    for number, key in enumerate(keys):
        db.set_until(key, b"%d" % number, 2_000_000_000_000 if number % 2 else None)
    assert all(db.read(key, bytes) == b"%d" % number for number, key in enumerate(keys))
    for key in keys[::3]:
        assert db.delete(key)
    db.audit()
    assert [db.has(key) for key in keys] == [number % 3 != 0 for number in range(len(keys))]
    for key in keys:
        db.delete(key)
    assert len(db) == 0 and sum(db.audit()) == 0


def test_each_kernel_has_a_secret_of_its_own(compiled: ModuleType) -> None:
    """So that what one learns of a server tells nothing of the next: the order of SCAN in a slot is the hash's."""
    orders = set()
    for _ in range(3):
        db = make_database(compiled)
        for key in keys_of_one_slot()[:200]:
            db.set(key, b"v")
        orders.add(tuple(db.scan(0, 1000)[1]))
    assert len(orders) == 3


def test_databases_of_one_kernel_share_its_secret(compiled: ModuleType) -> None:
    """SWAPDB, MOVE and a scan that goes on after SWAPDB rely on it."""
    made = compiled.Kernel(ManualClock())
    shards = make_shards(1, lambda: made.make_stats(0))
    databases = [made.make_keyspace(index, shards) for index in range(2)]
    for db in databases:
        for key in keys_of_one_slot()[:200]:
            db.set(key, b"v")
    assert databases[0].scan(0, 1000) == databases[1].scan(0, 1000)
