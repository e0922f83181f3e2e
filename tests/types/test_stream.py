"""Streams of every implementation against a plain list, and the books that they keep."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types.id_list import IdList
from kora.types.limits import Limits
from kora.types.stream import Stream
from kora.types.stream_id import ID_MAX, InvalidId, format_id, parse_bound, parse_id, parse_new_id
from tests.store.stores import TESTED, Store

of_every_implementation = pytest.mark.parametrize("implementation", TESTED)


def make_stream(*ids: int, implementation: str = "python", **limits: int) -> Stream:
    stream: Stream = Store(implementation, limits=Limits(**limits)).db.make(Stream)
    for entry_id in ids:
        stream.add(entry_id, [b"f", b"v%d" % entry_id])
    return stream


def id_of(ms: int, number: int) -> int:
    return ms << 64 | number


# Ids


def test_ids_are_read_and_written():
    assert parse_id(b"5-3") == id_of(5, 3)
    assert parse_id(b"5") == id_of(5, 0)
    assert parse_id(b"5", 9) == id_of(5, 9)
    assert parse_id(b"18446744073709551615-18446744073709551615") == ID_MAX
    assert format_id(id_of(5, 3)) == b"5-3"
    assert (parse_bound(b"-"), parse_bound(b"+")) == (0, ID_MAX)
    assert parse_new_id(b"5-*") == (id_of(5, 0), True)
    assert parse_new_id(b"5-0") == (id_of(5, 0), False)


@pytest.mark.parametrize(
    "text",
    [b"", b"-", b"+", b"x", b"1-", b"-1", b"1-1-1", b"1-x", b"18446744073709551616", b"1--1", b"1-*", b"0" * 128],
)
def test_what_is_no_id_is_refused(text):
    with pytest.raises(InvalidId):
        parse_id(text)


def test_ids_may_be_written_as_strtoull_takes_them():
    assert parse_id(b" +05-\t07") == id_of(5, 7)
    assert parse_id(b"1--05") == id_of(1, (1 << 64) - 5)
    assert parse_id(b"1-2\x00junk") == id_of(1, 2)


# Entries


@st.composite
def programs(draw):
    kinds = st.sampled_from(("add", "add", "add", "delete", "keep", "keep_since", "range"))
    return draw(st.lists(st.tuples(kinds, st.integers(0, 80), st.integers(0, 80), st.booleans()), max_size=120))


@of_every_implementation
@given(program=programs(), node_entries=st.integers(0, 6))
def test_a_stream_does_what_a_list_does(implementation, program, node_entries):
    stream = make_stream(implementation=implementation, stream_node_max_entries=node_entries)
    model: list[tuple[int, tuple[bytes, ...]]] = []
    for kind, first, second, flag in program:
        if kind == "add":
            entry_id = stream.last_id + 1 + first
            words = [b"f", b"v%d" % second] if flag else [b"g%d" % first, b"v", b"h", b"w"]
            stream.add(entry_id, words[:])
            model.append((entry_id, tuple(words)))
        elif kind == "delete":
            is_there = any(entry_id == first for entry_id, _ in model)
            assert stream.delete(first) is is_there
            model = [pair for pair in model if pair[0] != first]
        elif kind == "keep":
            dropped = stream.keep(first, flag, 0)
            if not flag:
                assert dropped == max(0, len(model) - first)
            model = model[dropped:]
            assert len(model) >= min(first, len(model) + dropped)
        elif kind == "keep_since":
            dropped = stream.keep_since(first, flag, 0)
            assert all(entry_id < first for entry_id, _ in model[:dropped])
            model = model[dropped:]
            assert flag or not model or model[0][0] >= first
        else:
            wanted = [pair for pair in model if first <= pair[0] <= second]
            assert stream.range(first, second) == wanted
            assert stream.range(first, second, 3) == wanted[:3]
            assert stream.range(first, second, 3, reverse=True) == wanted[::-1][:3]
    assert len(stream) == len(model)
    assert stream.range(0, ID_MAX) == model
    assert stream.range(0, ID_MAX, reverse=True) == model[::-1]
    assert [stream.get(entry_id) for entry_id, _ in model] == [entry for _, entry in model]
    assert (stream.first_id, stream.top_id) == ((model[0][0], model[-1][0]) if model else (0, 0))
    check_size(stream)
    twin = stream.copy()
    assert twin.range(0, ID_MAX) == model
    if implementation == "python":
        assert twin.size_bytes == stream.size_bytes
    else:
        twin.audit()
    while twin.effort:
        assert twin.shed(7) > 0
    assert twin.size_bytes == make_stream(implementation=implementation).size_bytes
    assert stream.range(0, ID_MAX) == model


def check_size(stream: Stream) -> None:
    """What was counted bit by bit is what the blocks have; empty ones may be left by exact trimming."""
    if type(stream) is not Stream:
        stream.audit()
        return
    blocks = list(stream.blocks())
    assert stream.size_bytes == make_stream().size_bytes + sum(block.size_bytes for block in blocks)


def test_the_estimated_size_is_near_the_true_one():
    stream = Stream(Limits())
    for number in range(2000):
        stream.add(id_of(1_700_000_000_000 + number // 10, number % 10), [b"temperature", b"value-%d" % number])
    assert stream.size_bytes == pytest.approx(true_size(stream), rel=0.1)


def test_the_estimated_size_of_a_group_is_near_the_true_one():
    stream = Stream(Limits())
    group = stream.create_group(b"group", 0)
    consumer = stream.create_consumer(group, b"consumer", 1_700_000_000_000)
    for number in range(5000):
        stream.add(id_of(1_700_000_000_000, number), [b"f", b"v"])
    before, true_before = stream.size_bytes, true_size(stream)
    for number, (entry_id, _) in enumerate(stream.range(0, ID_MAX)):
        stream.deliver(group, entry_id, consumer, 1_700_000_000_000 + number, 1)
    assert stream.size_bytes - before == pytest.approx(true_size(stream) - true_before, rel=0.15)


def true_size(stream: Stream) -> int:
    """All objects that a stream holds, each once, as the allocator hands them out."""
    seen: set[int] = set()
    todo: list[object] = [stream]
    total = 0
    while todo:
        it = todo.pop()
        # Small integers and short bytes are the interpreter's own.
        if id(it) in seen or isinstance(it, Limits | type(None)) or (isinstance(it, int) and -6 < it < 257):
            continue
        seen.add(id(it))
        total += (sys.getsizeof(it) + 15) & ~15
        if isinstance(it, dict):
            todo += [*it.keys(), *it.values()]
        elif isinstance(it, list | tuple):
            todo += it
        elif not isinstance(it, bytes | int):
            todo += [getattr(it, name) for name in type(it).__slots__ if hasattr(it, name)]
    return total


# Groups


@of_every_implementation
def test_what_is_delivered_waits_for_the_last_who_got_it(implementation):
    stream = make_stream(1, 2, 3, implementation=implementation)
    empty_bytes = stream.size_bytes
    group = stream.create_group(b"g", 0)
    first, second = (stream.create_consumer(group, name, 0) for name in (b"c", b"d"))
    for entry_id in (3, 1, 2):
        stream.deliver(group, entry_id, first, 10, 1)
    stream.deliver(group, 2, second, 20, 2)
    assert list(group.ids) == [1, 2, 3]
    assert (list(first.ids), list(second.ids)) == ([1, 3], [2])
    assert stream.acknowledge(group, 3)
    assert not stream.acknowledge(group, 3)
    assert stream.delete_consumer(group, b"c") == 1
    assert list(group.ids) == [2]
    twin = stream.copy()
    twin.acknowledge(twin.groups[b"g"], 2)
    assert list(group.ids) == [2]
    assert group.pending[2].consumer is second
    stream.destroy_group(b"g")
    assert stream.size_bytes == empty_bytes


@of_every_implementation
def test_a_stream_with_groups_is_shed(implementation):
    stream = make_stream(*range(1, 300), implementation=implementation)
    group = stream.create_group(b"g", 0)
    consumer = stream.create_consumer(group, b"c", 0)
    for entry_id in range(1, 300):
        stream.deliver(group, entry_id, consumer, 0, 1)
    while stream.effort:
        assert stream.shed(50) > 0
    assert stream.size_bytes == make_stream(implementation=implementation).size_bytes


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60), st.integers(0, 1500))
def test_ids_are_kept_in_order(steps, start):
    ids = IdList()
    model: set[int] = set()
    for entry_id in range(0, start * 2, 2):
        ids.add(entry_id)
        model.add(entry_id)
    for is_added, entry_id in steps:
        if is_added and entry_id not in model:
            ids.add(entry_id)
            model.add(entry_id)
        elif not is_added and model:
            victim = min(model, key=lambda known: abs(known - entry_id))
            ids.remove(victim)
            model.remove(victim)
    assert list(ids) == sorted(model)
    assert len(ids) == len(model)
    for first in (0, 1, 999, 1000, 3001):
        assert list(ids.since(first)) == sorted(entry_id for entry_id in model if entry_id >= first)
    if model:
        assert (ids.first, ids.last) == (min(model), max(model))
    assert list(ids.copy()) == sorted(model)
