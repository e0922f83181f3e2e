"""The kernel's streams against the reference's, block by block; and what large ones cost."""

import random
from typing import Any

import pytest

from kora.clock import ManualClock
from kora.types.limits import Limits
from kora.types.stream import Stream
from kora.types.stream_id import ID_MAX
from tests.store.stores import make_compiled

pytestmark = pytest.mark.usefixtures("compiled")

WORDS = (
    b"", b"f", b"0", b"127", b"-1", b"4095", b"-4097", b"32768", b"-8388609", b"2147483648", b"9223372036854775807",
    b"9223372036854775808", b"007", b"-0", b"a9", b"x" * 63, b"x" * 64, b"y" * 127, b"z" * 130, b"w" * 5000,
)  # fmt: skip


def make(limits: Limits) -> Any:
    """An empty stream of the kernel's own."""
    return make_compiled(ManualClock(), 1, limits)[1][0].make(Stream)


def blocks_of(stream: Any) -> list[tuple[object, ...]]:
    return [
        (block.first_id, block.last_id, block.names, block.ids, block.entries, block.deleted, block.node_bytes)
        for block in stream.blocks()
    ]


def random_step(chance: random.Random, last_id: int) -> tuple[str, tuple[Any, ...]]:
    any_id = chance.choice((chance.randrange(last_id + 2), last_id, 0, ID_MAX, last_id >> 64 << 64))
    kind = chance.random()
    if kind < 0.9:
        gap = chance.choice((1, 1, 1, 2, 200, 1 << 63, 1 << 64, (1 << 64) - 1, 300 << 64))
        names = (b"f", b"g") if chance.random() < 0.9 else chance.choices(WORDS, k=chance.choice((1, 2, 130)))
        return "add", (last_id + gap, [word for name in names for word in (name, chance.choice(WORDS))])
    if kind < 0.95:
        return "delete", (any_id,)
    if kind < 0.96:
        return "keep", (chance.randrange(200), chance.random() < 0.5, chance.choice((0, 0, 50)))
    if kind < 0.97:
        return "keep_since", (any_id, chance.random() < 0.5, chance.choice((0, 0, 50)))
    return "range", (any_id, ID_MAX, chance.randrange(4), chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(12))
def test_blocks_are_the_same_in_both(seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(stream_node_max_entries=seed % 3 * 100, stream_node_max_bytes=(4096, 0, 30_000, 200)[seed % 4])
    ours, theirs = make(limits), Stream(limits)
    for number in range(1500):
        name, arguments = random_step(chance, theirs.last_id)
        copies = [[part[:] if isinstance(part, list) else part for part in arguments] for _ in range(2)]
        assert getattr(ours, name)(*copies[0]) == getattr(theirs, name)(*copies[1]), (number, name)
        if number % 100 == 0:
            ours.audit()
            assert blocks_of(ours) == blocks_of(theirs)
    assert blocks_of(ours) == blocks_of(theirs)
    for name in ("last_id", "max_deleted_id", "entries_added", "first_id", "top_id", "radix_keys"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.radix_nodes() == theirs.radix_nodes()
    assert [ours.get(entry_id) for entry_id, _ in theirs.range(0, ID_MAX)] == [
        entry for _, entry in theirs.range(0, ID_MAX)
    ]
    twin = ours.copy()
    twin.audit()
    assert blocks_of(twin) == blocks_of(theirs)
    assert ours.shed(100) > 0
    ours.audit()
    assert blocks_of(twin) == blocks_of(theirs)


def test_what_cannot_be_an_entry_is_refused() -> None:
    stream = make(Limits())
    stream.add(5, [b"f", b"v"])
    for entry_id, words in ((5, [b"f", b"v"]), (6, []), (6, [b"f"]), (6, [b"f", "v"]), (6, [b"f", 1])):
        with pytest.raises(ValueError, match=r"id|entry"):
            stream.add(entry_id, words)
    with pytest.raises(OverflowError):
        stream.add(ID_MAX + 1, [b"f", b"v"])
    stream.audit()
    with pytest.raises(TypeError):
        type(stream)()


def test_a_stream_that_is_trimmed_all_the_time_needs_no_more_room() -> None:
    stream = make(Limits())
    for number in range(1, 20_001):
        stream.add(number, [b"f", b"v"])
        stream.keep(1000, True, 10_000)
    stream.audit()
    # Sixteen bytes an entry would be much, with at most one block more than is wanted.
    assert 1000 <= len(stream) <= 1100
    assert stream.size_bytes < 1100 * 16
