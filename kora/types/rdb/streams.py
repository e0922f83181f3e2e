"""Streams: their blocks as listpacks, the numbers that XINFO tells, and the groups with what waits in them.

A block's listpack begins with its master entry: how many entries it has, how many that are marked as deleted, and the
names of the first entry, behind their number and before a zero.  An entry is its flags, its id as two differences to
the block's, its names with their number unless they are the master's, its values between or behind them, and how many
elements that makes, to go back by.

Deleted entries are dropped here instead of being marked, so none are written.  Three versions: 1 knows neither what was
deleted nor what groups have read; 2 knows it, and 3 also knows when a consumer was last given something.
"""

from collections.abc import Iterator
from typing import Final

from kora.types.number import SMALL_VALUES
from kora.types.stream import UNKNOWN, Entry, Group, Stream
from kora.types.stream_id import ID_MAX, NUMBER_MAX

from .packs import entry, integer_entry, pack, unpack
from .reader import Damaged, Reader
from .writer import Writer

_DELETED: Final = 1
_SAME_NAMES: Final = 2
# stream-node-max-entries and -bytes, by default.
_BLOCK_ENTRIES_MAX: Final = 100
_BLOCK_BYTES_MAX: Final = 4096
# Entries that are asked for at a time.
_STEP: Final = 1000
# A block has its names once, and each entry of ours could come to have its own: what that may make of a stream.
_ALLOWANCE_BYTES: Final = 64 << 20
_ALLOWED_GROWTH: Final = 32
_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64


def write_stream(writer: Writer, stream: Stream, version: int) -> None:
    # How many blocks there will be is not known before they are made.
    blocks = Writer(writer.compress)
    count = 0
    for first_id, data in _blocks(stream):
        blocks.string(first_id.to_bytes(16, "big"))
        blocks.string(data)
        count += 1
    writer.length(count)
    writer.data += blocks.data
    write_behind_blocks(writer, stream, version)


def write_behind_blocks(writer: Writer, stream: Stream, version: int) -> None:
    """What follows the blocks, which the kernel writes by itself."""
    writer.length(len(stream))
    _write_id(writer, stream.last_id)
    if version > 1:
        _write_id(writer, stream.first_id)
        _write_id(writer, stream.max_deleted_id)
        writer.length(stream.entries_added)
    writer.length(len(stream.groups))
    for group in stream.sorted_groups():
        _write_group(writer, group, version)


def _blocks(stream: Stream) -> Iterator[tuple[int, bytes]]:
    """Blocks as Redis would make them by default, not as they are held: so that a long stream is not there twice."""
    first_id, names = 0, [b""]
    elements: list[bytes] = []
    count = size_bytes = 0
    start = 0
    while found := stream.range(start, ID_MAX, _STEP):
        for entry_id, words in found:
            if count and (count == _BLOCK_ENTRIES_MAX or size_bytes + sum(map(len, words)) > _BLOCK_BYTES_MAX):
                yield first_id, _pack_block(names, count, elements)
                count = 0
            if not count:
                first_id, names, elements, size_bytes = entry_id, list(words[::2]), [], 0
            made = _pack_entry(first_id, names, entry_id, words)
            elements += made
            size_bytes += sum(map(len, made))
            count += 1
        start = found[-1][0] + 1
        if start > ID_MAX:
            break
    if count:
        yield first_id, _pack_block(names, count, elements)


def _pack_block(names: list[bytes], count: int, elements: list[bytes]) -> bytes:
    head = [*map(integer_entry, (count, 0, len(names))), *map(entry, names), integer_entry(0)]
    return pack(head + elements)


def _pack_entry(first_id: int, names: list[bytes], entry_id: int, words: Entry) -> list[bytes]:
    has_names = list(words[::2]) != names
    elements = [
        integer_entry(0 if has_names else _SAME_NAMES),
        integer_entry(_signed((entry_id >> 64) - (first_id >> 64))),
        integer_entry(_signed((entry_id & NUMBER_MAX) - (first_id & NUMBER_MAX))),
    ]
    if has_names:
        elements.append(integer_entry(len(words) // 2))
        elements += map(entry, words)
        elements.append(integer_entry(4 + len(words)))
    else:
        elements += map(entry, words[1::2])
        elements.append(integer_entry(3 + len(names)))
    return elements


def _write_group(writer: Writer, group: Group, version: int) -> None:
    writer.string(group.name)
    _write_id(writer, group.last_id)
    if version > 1:
        writer.length(group.entries_read % _UINT64)
    writer.length(len(group.ids))
    for entry_id in group.ids:
        pending = group.pending[entry_id]
        writer.data += entry_id.to_bytes(16, "big")
        writer.integer(pending.delivered_ms, 8)
        writer.length(pending.deliveries)
    writer.length(len(group.consumers))
    for consumer in group.sorted_consumers():
        writer.string(consumer.name)
        writer.integer(consumer.seen_ms, 8)
        if version > 2:
            writer.integer(consumer.active_ms, 8)
        writer.length(len(consumer.ids))
        for entry_id in consumer.ids:
            writer.data += entry_id.to_bytes(16, "big")


def _write_id(writer: Writer, entry_id: int) -> None:
    writer.length(entry_id >> 64)
    writer.length(entry_id & NUMBER_MAX)


def read_stream(reader: Reader, stream: Stream, version: int) -> None:
    """Fill a new stream."""
    latest = 0  # id in a block, deleted ones included
    allowance_bytes = _ALLOWANCE_BYTES
    for _ in range(reader.count()):
        name = reader.string()
        if len(name) != 16:
            raise Damaged("a block of a stream whose id is none")
        first_id = int.from_bytes(name, "big")
        if first_id < latest or not first_id:
            raise Damaged("blocks of a stream that are not in order")
        data = reader.string()
        allowance_bytes += _ALLOWED_GROWTH * len(data)
        entries, latest = _unpack_block(first_id, data, latest)
        for entry_id, words in entries:
            allowance_bytes -= sum(map(len, words))
            if allowance_bytes < 0:
                raise Damaged("a stream that would grow too large")
            stream.add(entry_id, words)
    length, last_id = reader.length(), _read_id(reader)
    if length != len(stream):
        raise Damaged("a stream of another length than it says")
    if last_id < stream.last_id:
        raise Damaged("an entry behind the last of its stream")
    stream.last_id = last_id
    if version > 1:
        _read_id(reader)  # of the first entry, which tells it itself
        stream.max_deleted_id = _read_id(reader)
        stream.entries_added = _read_number(reader)
    else:
        stream.max_deleted_id = 0
        stream.entries_added = length
    for _ in range(reader.count()):
        _read_group(reader, stream, version)


def _unpack_block(first_id: int, data: bytes, latest: int) -> tuple[list[tuple[int, list[bytes]]], int]:
    """The entries of a block, which come behind the latest before it; and which is the latest then."""
    elements = unpack(data)
    if len(elements) < 4:
        raise Damaged("a block of a stream without its master entry")
    count, deleted, fields = map(_integer, elements[:3])
    place = 3 + fields
    if fields < 1 or place >= len(elements) or elements[place] != b"0":
        raise Damaged("a master entry of another length than it says")
    names = elements[3:place]
    place += 1
    found: list[tuple[int, list[bytes]]] = []
    gone = 0
    first_ms, first_number = divmod(first_id, _UINT64)
    while place < len(elements):
        start = place
        if place + 3 >= len(elements):
            raise Damaged("an entry of a stream that ends too early")
        flags, step_ms, step = map(_integer, elements[place : place + 3])
        entry_id = (first_ms + step_ms) % _UINT64 << 64 | (first_number + step) % _UINT64
        place += 3
        if flags & _SAME_NAMES:
            words = [b""] * (2 * fields)
            words[::2] = names
            values = elements[place : place + fields]
            place += fields
            if len(values) == fields:
                words[1::2] = values
        else:
            of_its_own = _integer(elements[place])
            if of_its_own < 1:
                raise Damaged("an entry of a stream with no fields")
            words = elements[place + 1 : place + 1 + 2 * of_its_own]
            place += 1 + 2 * of_its_own
        if place >= len(elements) or _integer(elements[place]) != place - start:
            raise Damaged("an entry of a stream of another length than it says")
        place += 1
        if entry_id <= latest or entry_id < first_id:
            raise Damaged("entries of a stream that are not in order")
        latest = entry_id
        if flags & _DELETED:
            gone += 1
        else:
            found.append((entry_id, words))
    if (count, deleted) != (len(found), gone):
        raise Damaged("a block of a stream with another number of entries than it says")
    return found, latest


def _read_group(reader: Reader, stream: Stream, version: int) -> None:
    name = reader.string()
    if name in stream.groups:
        raise Damaged("a group of a stream that is there twice")
    last_id = _read_id(reader)
    group = stream.create_group(name, last_id)
    if version > 1:
        entries_read = reader.length()
        group.entries_read = entries_read if entries_read < _INT64 else UNKNOWN
    else:
        group.entries_read = stream.entries_up_to(last_id)
    waiting = {}
    for _ in range(reader.count()):
        entry_id = int.from_bytes(reader.take(16), "big")
        if entry_id in waiting:
            raise Damaged("an entry that waits twice in a group")
        waiting[entry_id] = reader.integer(8), _read_number(reader)
    for _ in range(reader.count()):
        name = reader.string()
        if name in group.consumers:
            raise Damaged("a consumer that is there twice in a group")
        consumer = stream.create_consumer(group, name, reader.integer(8))
        # What a consumer was given it had asked for, so that is the best that earlier versions can tell.
        consumer.active_ms = reader.integer(8) if version > 2 else consumer.seen_ms
        for _ in range(reader.count()):
            entry_id = int.from_bytes(reader.take(16), "big")
            delivery = waiting.pop(entry_id, None)
            if delivery is None:
                raise Damaged("an entry that waits for a consumer and not in its group, or for two")
            stream.deliver(group, entry_id, consumer, *delivery)
    if waiting:
        raise Damaged("an entry that waits for no consumer")


def _read_id(reader: Reader) -> int:
    return reader.length() << 64 | reader.length()


def _read_number(reader: Reader) -> int:
    number = reader.length()
    if number >= _INT64:
        raise Damaged("a number of more than 63 bits")
    return number


def _integer(element: bytes) -> int:
    """An element of a listpack that is to be an integer, and has been unpacked to its text."""
    small = SMALL_VALUES.get(element)
    if small is not None:
        return small
    try:
        number = int(element) if len(element) <= 20 else _INT64
    except ValueError:
        number = _INT64
    if not -_INT64 <= number < _INT64 or element != b"%d" % number:
        raise Damaged("a number in a stream that is none")
    return number


def _signed(difference: int) -> int:
    """A difference of two unsigned integers of 64 bits, as Redis stores it: in as many bits, signed."""
    return (difference + _INT64) % _UINT64 - _INT64
