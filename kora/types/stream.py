"""Streams: entries in the order of their ids, and consumer groups that share them out.

Entries stand in blocks of up to stream-node-max-entries, each with its ids in a list, so that an entry is found by two
bisections and a block goes in one piece.  A block ends where a node of Redis' would (streamAppendItem, t_stream.c),
which decides how much approximate trimming removes.  So a block remembers how many bytes its listpack would have, and
how many entries in it were deleted, which Redis only marks.

An entry is a tuple of names and values in turn.  Where its names are those of the block's first entry, as they nearly
always are, it shares these objects.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, TypeAlias

from kora.types.id_list import IdList
from kora.types.limits import Limits
from kora.types.number import is_integer
from kora.types.stream_id import NUMBER_MAX

Entry: TypeAlias = tuple[bytes, ...]  # name, value, name, value, …; names may repeat

UNKNOWN: Final = -1  # entries read by a group, where that cannot be told
NEVER: Final = -1  # when a consumer was active

# Sizes, measured on CPython 3.11: the objects of an empty stream, a block, an entry beside what is in it, a group, a
# consumer, and a delivered entry until it is acknowledged.
_STREAM_BYTES: Final = 416
_BLOCK_BYTES: Final = 464
_ENTRY_BYTES: Final = 112
_GROUP_BYTES: Final = 560
_CONSUMER_BYTES: Final = 336
_PENDING_BYTES: Final = 160

# A listpack's header and end, and its master entry but for the names: entries, deleted ones, a zero.
_NODE_BYTES: Final = 7 + 2 + 2 + 2
_NODE_BYTES_MAX: Final = 1 << 30  # STREAM_LISTPACK_MAX_SIZE
_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64


class Block:
    """Entries that approximate trimming removes together; a node of the radix tree in Redis."""

    __slots__ = ("deleted", "entries", "first_id", "ids", "last_id", "names", "node_bytes", "size_bytes")

    def __init__(self, entry_id: int, names: list[bytes]) -> None:
        self.first_id = self.last_id = entry_id  # as they were added, even if they are deleted by now
        self.names = names  # of the first entry
        self.ids: list[int] = []
        self.entries: list[Entry] = []
        self.deleted = 0
        self.size_bytes = _BLOCK_BYTES + 8 * len(names) + sum(map(_object_bytes, names))
        self.node_bytes = _NODE_BYTES + sum(map(_packed_bytes, names)) + _packed_integer_bytes(len(names))

    def forget(self, start: int, stop: int) -> int:
        """Delete the entries at these indices; returns the bytes that this frees."""
        names = self.names
        freed_bytes = sum(_entry_bytes(entry, names) for entry in self.entries[start:stop])
        was, count = len(self.ids), stop - start
        del self.ids[start:stop], self.entries[start:stop]
        # Redis' counts of entries and of deleted ones are integers in the listpack, too.
        self.node_bytes += _packed_integer_bytes(was - count) - _packed_integer_bytes(was)
        self.node_bytes += _packed_integer_bytes(self.deleted + count) - _packed_integer_bytes(self.deleted)
        self.deleted += count
        self.size_bytes -= freed_bytes
        return freed_bytes

    def copy(self) -> "Block":
        twin = Block(self.first_id, self.names)
        twin.last_id = self.last_id
        twin.ids, twin.entries = self.ids[:], self.entries[:]
        twin.deleted, twin.node_bytes, twin.size_bytes = self.deleted, self.node_bytes, self.size_bytes
        return twin


class Consumer:
    __slots__ = ("active_ms", "ids", "name", "seen_ms")

    def __init__(self, name: bytes, seen_ms: int) -> None:
        self.name = name
        self.seen_ms = seen_ms  # when it last asked for something
        self.active_ms = NEVER  # when it last got something
        self.ids = IdList()  # what was delivered to it and is not acknowledged


class Pending:
    """That an entry was delivered and is not acknowledged yet."""

    __slots__ = ("consumer", "delivered_ms", "deliveries")

    def __init__(self, consumer: Consumer, delivered_ms: int, deliveries: int) -> None:
        self.consumer = consumer
        self.delivered_ms = delivered_ms
        self.deliveries = deliveries


class Group:
    """A consumer group.  To look at; the stream's methods change it."""

    __slots__ = ("consumers", "entries_read", "ids", "last_id", "name", "pending")

    def __init__(self, name: bytes, last_id: int, entries_read: int) -> None:
        self.name = name
        self.last_id = last_id  # the last that was delivered
        self.entries_read = entries_read  # or UNKNOWN
        self.consumers: dict[bytes, Consumer] = {}
        self.pending: dict[int, Pending] = {}
        self.ids = IdList()  # of `pending`, in order

    def sorted_consumers(self) -> list[Consumer]:
        return [self.consumers[name] for name in sorted(self.consumers)]


class ConsumerGroups(ABC):
    """The groups of a stream: a part of every implementation, which has the entries and the counts."""

    __slots__ = ()

    groups: dict[bytes, Group]
    last_id: int
    max_deleted_id: int
    entries_added: int

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def first_id(self) -> int: ...

    @abstractmethod
    def _count(self, size_bytes: int) -> None:
        """Add to size_bytes."""

    def sorted_groups(self) -> list[Group]:
        return [self.groups[name] for name in sorted(self.groups)]

    def create_group(self, name: bytes, last_id: int, entries_read: int = UNKNOWN) -> Group:
        """A group of a name that none has."""
        group = self.groups[name] = Group(name, last_id, entries_read)
        self._count(_GROUP_BYTES + _object_bytes(name))
        return group

    def destroy_group(self, name: bytes) -> None:
        group = self.groups.pop(name)
        self._count(-(_GROUP_BYTES + _object_bytes(name) + _PENDING_BYTES * len(group.pending)))
        for consumer in group.consumers.values():
            self._count(-(_CONSUMER_BYTES + _object_bytes(consumer.name)))

    def create_consumer(self, group: Group, name: bytes, now_ms: int) -> Consumer:
        """A consumer of a name that none of the group has."""
        consumer = group.consumers[name] = Consumer(name, now_ms)
        self._count(_CONSUMER_BYTES + _object_bytes(name))
        return consumer

    def delete_consumer(self, group: Group, name: bytes) -> int:
        """Returns how many entries were pending: nobody will acknowledge them any more."""
        consumer = group.consumers.pop(name)
        for entry_id in consumer.ids:
            del group.pending[entry_id]
            group.ids.remove(entry_id)
        self._count(-(_CONSUMER_BYTES + _object_bytes(name) + _PENDING_BYTES * len(consumer.ids)))
        return len(consumer.ids)

    def deliver(self, group: Group, entry_id: int, consumer: Consumer, delivered_ms: int, deliveries: int) -> None:
        """Have an entry wait for the consumer's acknowledgement, whoever it was delivered to before."""
        pending = group.pending.get(entry_id)
        if pending is None:
            group.pending[entry_id] = Pending(consumer, delivered_ms, deliveries)
            group.ids.add(entry_id)
            consumer.ids.add(entry_id)
            self._count(_PENDING_BYTES)
            return
        pending.delivered_ms, pending.deliveries = delivered_ms, deliveries
        if pending.consumer is not consumer:
            pending.consumer.ids.remove(entry_id)
            pending.consumer = consumer
            consumer.ids.add(entry_id)

    def acknowledge(self, group: Group, entry_id: int) -> bool:
        """The entry waits no longer; False where it did not."""
        pending = group.pending.pop(entry_id, None)
        if pending is None:
            return False
        group.ids.remove(entry_id)
        pending.consumer.ids.remove(entry_id)
        self._count(-_PENDING_BYTES)
        return True

    def advance(self, group: Group, entry_id: int) -> None:
        """The group has read up to this entry; a smaller id than its last changes nothing."""
        if entry_id <= group.last_id:
            return
        if group.entries_read != UNKNOWN and not self._has_deleted_since(entry_id):
            group.entries_read += 1
        elif self.entries_added:
            group.entries_read = self.entries_up_to(entry_id)
        group.last_id = entry_id

    def lag(self, group: Group) -> int | None:
        """How many entries the group has not read yet; None where deleted ones make that unknowable."""
        if not self.entries_added:
            return 0
        entries_read = group.entries_read
        if entries_read == UNKNOWN or self._has_deleted_since(group.last_id):
            entries_read = self.entries_up_to(group.last_id)
        return None if entries_read == UNKNOWN else self.entries_added - entries_read

    def _has_deleted_since(self, entry_id: int) -> bool:
        """Whether there may be a gap from this id on: an entry was deleted from within (streamRangeHasTombstones)."""
        return len(self) > 0 and self.max_deleted_id >= max(entry_id, self.first_id)

    def entries_up_to(self, entry_id: int) -> int:
        """How many entries were ever added up to this id; UNKNOWN where too little is known of what was deleted.

        streamEstimateDistanceFromFirstEverEntry: at the ends of a stream without gaps it can be told.
        """
        if not self.entries_added:
            return 0
        if not len(self) and entry_id <= self.last_id:
            return self.entries_added
        if entry_id == self.last_id:
            return self.entries_added
        if entry_id > self.last_id:
            return UNKNOWN
        first_id = self.first_id
        if not self.max_deleted_id or self.max_deleted_id < first_id:
            if entry_id < first_id:
                return self.entries_added - len(self)
            if entry_id == first_id:
                return self.entries_added - len(self) + 1
        return UNKNOWN

    def _copy_groups(self, twin: "ConsumerGroups") -> None:
        """To a stream that has none, which counts their bytes already."""
        for group in self.groups.values():
            twin.groups[group.name] = other = Group(group.name, group.last_id, group.entries_read)
            for consumer in group.consumers.values():
                other.consumers[consumer.name] = heir = Consumer(consumer.name, consumer.seen_ms)
                heir.active_ms = consumer.active_ms
                heir.ids = consumer.ids.copy()
            other.pending = {
                entry_id: Pending(other.consumers[pending.consumer.name], pending.delivered_ms, pending.deliveries)
                for entry_id, pending in group.pending.items()
            }
            other.ids = group.ids.copy()

    def _groups_bytes(self) -> int:
        """What size_bytes counts for them."""
        return sum(
            _GROUP_BYTES
            + _object_bytes(group.name)
            + _PENDING_BYTES * len(group.pending)
            + sum(_CONSUMER_BYTES + _object_bytes(name) for name in group.consumers)
            for group in self.groups.values()
        )

    def _groups_effort(self) -> int:
        return sum(
            len(group.pending) + len(group.ids) + sum(1 + len(consumer.ids) for consumer in group.consumers.values())
            for group in self.groups.values()
        )

    def _shed_groups(self, count: int) -> int:
        dropped = 0
        while dropped < count and self.groups:
            group = next(reversed(self.groups.values()))
            left = count - dropped
            if group.pending:
                # Of a group that is going nobody wants to know the order.
                some = min(left, len(group.pending))
                for _ in range(some):
                    group.pending.popitem()
                self._count(-_PENDING_BYTES * some)
                dropped += some
            elif group.ids:
                dropped += group.ids.shed(left)
            elif group.consumers:
                dropped += self._shed_consumer(group, left)
            else:
                self.destroy_group(group.name)
                dropped += 1
        return dropped

    def _shed_consumer(self, group: Group, count: int) -> int:
        consumer = next(reversed(group.consumers.values()))
        if consumer.ids:
            return consumer.ids.shed(count)
        self.delete_consumer(group, consumer.name)
        return 1


class Stream(ConsumerGroups):
    kind: Final = "stream"
    encoding: Final = "stream"
    keeps_when_empty: Final = True

    __slots__ = (
        "_blocks",
        "_first_ids",
        "_length",
        "_limits",
        "_nodes",
        "_nodes_of",
        "counted_bytes",
        "counted_length",
        "entries_added",
        "groups",
        "last_id",
        "max_deleted_id",
        "size_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._blocks: list[Block] = []
        self._first_ids: list[int] = []  # of the blocks
        self._length = 0
        # What radix_nodes() answered last, and of which blocks.
        self._nodes = 1
        self._nodes_of = (0, 0, 0)
        self.size_bytes = _STREAM_BYTES
        self.counted_bytes = self.counted_length = 0  # the keyspace's own
        # As XINFO tells them; XSETID and RESTORE set them.
        self.last_id = 0
        self.max_deleted_id = 0
        self.entries_added = 0
        self.groups: dict[bytes, Group] = {}

    # What every value has

    def __len__(self) -> int:
        return self._length

    def copy(self) -> "Stream":
        twin = Stream(self._limits)
        twin._blocks = [block.copy() for block in self._blocks]
        twin._first_ids = self._first_ids[:]
        twin._length = self._length
        twin.size_bytes = self.size_bytes
        twin.last_id, twin.max_deleted_id, twin.entries_added = self.last_id, self.max_deleted_id, self.entries_added
        self._copy_groups(twin)
        return twin

    def _count(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes

    @property
    def effort(self) -> int:
        return self._length + self._groups_effort()

    def shed(self, count: int) -> int:
        """Drop about so many entries, or deliveries, whichever; returns how many.  For freeing bit by bit."""
        dropped = 0
        while dropped < count and self._blocks:
            dropped += self._drop_block(len(self._blocks) - 1)
        return dropped + self._shed_groups(count - dropped)

    # Entries

    @property
    def first_id(self) -> int:
        """Of the first entry; 0 where there are none."""
        return next((block.ids[0] for block in self._blocks if block.ids), 0)

    @property
    def top_id(self) -> int:
        """Of the last entry that is still there; 0 where there are none."""
        return next((block.ids[-1] for block in reversed(self._blocks) if block.ids), 0)

    def next_id(self, now_ms: int) -> int:
        """An id for an entry of now, greater than all before, unless the last is the greatest there can be."""
        return now_ms << 64 if now_ms > self.last_id >> 64 else self.last_id + 1

    def add(self, entry_id: int, words: list[bytes]) -> None:
        """Append an entry: names and values in turn.  The id must be greater than last_id; the list is the stream's."""
        names = words[::2]
        limits = self._limits
        block = self._blocks[-1] if self._blocks else None
        if (
            block is None
            or block.node_bytes + sum(map(len, words)) >= (limits.stream_node_max_bytes or _NODE_BYTES_MAX)
            or len(block.ids) + block.deleted >= limits.stream_node_max_entries > 0
        ):
            block = self._open_block(entry_id, names)
        if names == block.names:
            words[::2] = block.names
            packed = words[1::2]
        else:
            packed = words
        size_bytes = _ENTRY_BYTES + 8 * len(words)
        node_bytes = _entry_overhead(block, entry_id, len(names), packed is words)
        for word in packed:
            length = len(word)
            size_bytes += (length + 48) & ~15
            # What is short and does not end in a digit is a string of as many bytes, and two.
            node_bytes += length + 2 if 0 < length < 64 and not 48 <= word[-1] <= 57 else _packed_bytes(word)
        block.node_bytes += node_bytes
        block.size_bytes += size_bytes
        self.size_bytes += size_bytes
        block.ids.append(entry_id)
        block.entries.append(tuple(words))
        block.last_id = self.last_id = entry_id
        self._length += 1
        self.entries_added += 1

    def get(self, entry_id: int) -> Entry | None:
        place = bisect_right(self._first_ids, entry_id) - 1
        if place < 0:
            return None
        block = self._blocks[place]
        index = bisect_left(block.ids, entry_id)
        return block.entries[index] if index < len(block.ids) and block.ids[index] == entry_id else None

    def range(self, start: int, stop: int, count: int = 0, reverse: bool = False) -> list[tuple[int, Entry]]:
        """The entries with ids from start to stop, both included; at most `count`, if it is not 0."""
        found: list[tuple[int, Entry]] = []
        if start > stop or not self._length:
            return found
        lowest = max(0, bisect_right(self._first_ids, start) - 1)
        highest = bisect_right(self._first_ids, stop) - 1
        for place in range(highest, lowest - 1, -1) if reverse else range(lowest, highest + 1):
            block = self._blocks[place]
            ids = block.ids
            first = bisect_left(ids, start) if place == lowest else 0
            last = bisect_right(ids, stop) if place == highest else len(ids)
            if count:
                left = count - len(found)
                if reverse:
                    first = max(first, last - left)
                else:
                    last = min(last, first + left)
            pairs = zip(ids[first:last], block.entries[first:last], strict=True)
            if reverse:
                found += reversed(list(pairs))
            else:
                found += pairs
            if count and len(found) >= count:
                break
        return found

    def delete(self, entry_id: int) -> bool:
        """XDEL; False where there is no such entry."""
        place = bisect_right(self._first_ids, entry_id) - 1
        if place < 0:
            return False
        block = self._blocks[place]
        index = bisect_left(block.ids, entry_id)
        if index == len(block.ids) or block.ids[index] != entry_id:
            return False
        if len(block.ids) == 1:
            self._drop_block(place)
        else:
            self.size_bytes -= block.forget(index, index + 1)
            self._length -= 1
        self.max_deleted_id = max(self.max_deleted_id, entry_id)
        return True

    def keep(self, length: int, approximate: bool, limit: int) -> int:
        """XTRIM MAXLEN: remove the oldest entries until so many are left; returns how many went.

        Approximate trimming removes whole blocks only; no more entries than `limit`, if it is not 0.
        """
        if self._length <= length:
            return 0
        dropped = places = 0
        for block in self._blocks:
            count = len(block.ids)
            left = self._length - dropped
            if left <= length or (limit and dropped + count > limit):
                break
            if left - count < length:
                if not approximate:
                    self._drop_oldest(places)
                    surplus = left - length
                    self.size_bytes -= block.forget(0, surplus)
                    self._length -= surplus
                    return dropped + surplus
                break
            dropped += count
            places += 1
        self._drop_oldest(places)
        return dropped

    def keep_since(self, start: int, approximate: bool, limit: int) -> int:
        """XTRIM MINID: remove the entries with smaller ids; as keep()."""
        dropped = places = 0
        for block in self._blocks:
            count = len(block.ids)
            if limit and dropped + count > limit:
                break
            if block.last_id >= start:
                if not approximate:
                    self._drop_oldest(places)
                    surplus = bisect_left(block.ids, start)
                    self.size_bytes -= block.forget(0, surplus)
                    self._length -= surplus
                    return dropped + surplus
                break
            dropped += count
            places += 1
        self._drop_oldest(places)
        return dropped

    def blocks(self) -> Iterator[Block]:
        """All entries as they are stored, oldest first."""
        return iter(self._blocks)

    @property
    def radix_keys(self) -> int:
        return len(self._blocks)

    def radix_nodes(self) -> int:
        """How many nodes the radix tree of Redis would have: its keys are the first ids of the blocks.

        A node for each place where keys part, for each run of bytes that they share or that one has alone, and for each
        key's end.
        """
        ids = self._first_ids
        if not ids:
            return 1
        # Blocks are added behind the last and never between others: so the three tell whether anything is new.
        state = (len(ids), ids[0], ids[-1])
        if state != self._nodes_of:
            self._nodes, self._nodes_of = count_radix_nodes(ids), state
        return self._nodes

    def _open_block(self, entry_id: int, names: list[bytes]) -> Block:
        block = Block(entry_id, names)
        self._blocks.append(block)
        self._first_ids.append(entry_id)
        self.size_bytes += block.size_bytes
        return block

    def _drop_block(self, place: int) -> int:
        block = self._blocks.pop(place)
        del self._first_ids[place]
        self.size_bytes -= block.size_bytes
        self._length -= len(block.ids)
        return len(block.ids)

    def _drop_oldest(self, count: int) -> None:
        if not count:
            return
        for block in self._blocks[:count]:
            self.size_bytes -= block.size_bytes
            self._length -= len(block.ids)
        del self._blocks[:count], self._first_ids[:count]


def _object_bytes(data: bytes) -> int:
    return (len(data) + 48) & ~15


def _entry_bytes(entry: Entry, names: list[bytes]) -> int:
    """What add() has counted for it."""
    counted = entry[1::2] if list(entry[::2]) == names else entry
    return _ENTRY_BYTES + 8 * len(entry) + sum(map(_object_bytes, counted))


# Sizes in a listpack (listpack.c): a header of one byte or more, the data, and the length of both, to go backward


def _entry_overhead(block: Block, entry_id: int, names: int, has_names: bool) -> int:
    """What an entry takes in a block's listpack beside its names and values, and what it adds to the block's header."""
    # Flags, and below how many elements the entry has.
    size_bytes = 2
    step = entry_id - block.first_id
    if step < 128:
        size_bytes += 4  # whether or not the ms is the next
    else:
        size_bytes += _packed_integer_bytes((entry_id >> 64) - (block.first_id >> 64))
        # The difference of the numbers is modulo 2 ** 64, as this is.
        size_bytes += _packed_integer_bytes(step & NUMBER_MAX)
    if has_names:
        size_bytes += _packed_integer_bytes(names) + _packed_integer_bytes(2 * names + 4)
    else:
        size_bytes += 2 if names <= 124 else _packed_integer_bytes(names + 3)
    count = len(block.ids)
    if count >= 127:
        size_bytes += _packed_integer_bytes(count + 1) - _packed_integer_bytes(count)
    return size_bytes


def _packed_integer_bytes(value: int) -> int:
    if 0 <= value < 128:
        return 2
    if -4096 <= value < 4096:
        return 3
    if not -_INT64 <= value < _INT64:
        # A difference of unsigned integers, stored as a signed one.
        value = (value + _INT64) % _UINT64 - _INT64
        return _packed_integer_bytes(value)
    bits = value.bit_length() if value >= 0 else (~value).bit_length()
    return 4 if bits < 16 else 5 if bits < 24 else 6 if bits < 32 else 10


def _packed_bytes(data: bytes) -> int:
    if is_integer(data):
        return _packed_integer_bytes(int(data))
    size_bytes = len(data) + (1 if len(data) < 64 else 2 if len(data) < 4096 else 5)
    for digits, least in enumerate((128, 16383, 2097151, 268435455), start=1):
        if size_bytes < least:
            return size_bytes + digits
    return size_bytes + 5


def count_radix_nodes(ids: list[int]) -> int:
    """Of a compressed radix tree over the 16 bytes of each id; the ids are in order.

    The tree grows from the left: `open_places` are the depths of the places on the way to the last id where keys part.
    Between two of them, or behind the last, lies a run of bytes if they are more than one apart.
    """
    nodes = 0
    open_places: list[int] = []

    def close(depth: int) -> None:
        """Count what lies below this depth on the way to the last id: it will not change any more."""
        nonlocal nodes
        below = 16
        nodes += 1  # the key's end
        while open_places and open_places[-1] > depth:
            place = open_places.pop()
            nodes += 1 + (below - place > 1)
            below = place
        nodes += below - depth > 1
        if not open_places or open_places[-1] != depth:
            open_places.append(depth)

    for entry_id, following in pairwise(ids):
        close(16 - ((entry_id ^ following).bit_length() + 7) // 8)
    below = 16
    nodes += 1
    for place in reversed(open_places):
        nodes += 1 + (below - place > 1)
        below = place
    return nodes + (below > 0)
