"""Histograms in shared memory: what the sidecar reads there is what the kernel would have told."""

import os
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from kora import kernel
from kora.engine.engine import Engine
from kora.engine.snapshot import copy_shard, take
from kora.observe.histogram import BUCKETS, HIGHEST_NS
from kora.observe.shared_counts import PLACE_BYTES, SharedCounts

compiled_only = pytest.mark.skipif(kernel.load() is None, reason="the suite runs on pure Python")


@pytest.fixture
def shared(engine: Engine) -> Iterator[SharedCounts]:
    fd = os.memfd_create("test")
    assert engine.implementation.share_histograms(fd)
    yield SharedCounts(fd)
    os.close(fd)


def assert_same(engine: Engine, shared: SharedCounts) -> None:
    for number, shard in enumerate(engine.shards):
        rows = shared.rows(copy_shard(shard, packed=True)["commands"], number)
        assert rows == copy_shard(shard)["commands"]
    copied = take(engine)
    for block, (packed, expected) in enumerate(
        zip(engine.service.packed(), (copied.waits, copied.services), strict=True), len(engine.shards)
    ):
        assert shared.times(packed, block) == expected


@compiled_only
def test_the_reader_sees_what_was_counted_before_and_after_it_was_shared(
    engine: Engine, run: Callable[..., Any]
) -> None:
    run("SET", "k", "v")
    fd = os.memfd_create("test")
    assert engine.implementation.share_histograms(fd)
    shared = SharedCounts(fd)
    os.close(fd)
    random = Random(3)
    assert_same(engine, shared)
    for _ in range(2_000):
        shard = random.choice(engine.shards)
        random.choice(shard.stats.commands).record(int(10 ** random.uniform(0, 11)))
    run("GET", "k")
    for row in (*engine.service.waits[:5], *engine.service.services[:5]):
        row.record(int(10 ** random.uniform(0, 11)))
    assert_same(engine, shared)
    total = sum(row[0] for shard in engine.shards for row in copy_shard(shard)["commands"].values())
    assert total == 2_002


@compiled_only
def test_a_reset_empties_the_histograms_where_they_are(
    engine: Engine, shared: SharedCounts, run: Callable[..., Any]
) -> None:
    engine.shards[0].stats.commands[0].record(HIGHEST_NS * 2)
    run("CONFIG", "RESETSTAT")
    run("GET", "k")
    assert_same(engine, shared)
    engine.shards[0].stats.commands[0].record(1)
    rows = shared.rows(copy_shard(engine.shards[0], packed=True)["commands"], 0)
    assert sum(rows[0][4][8:]) == 1 and rows[0][4][8] == 1


@compiled_only
def test_the_longest_histogram_has_its_place(engine: Engine, shared: SharedCounts) -> None:
    assert BUCKETS * 8 <= PLACE_BYTES
    for shard in engine.shards:
        for row in shard.stats.commands:
            row.record(HIGHEST_NS)
    assert_same(engine, shared)


def test_on_pure_python_histograms_stay_where_they_are(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    if engine.kernel == "python":
        assert not engine.implementation.share_histograms(-1)
        engine.shards[0].stats.commands[3].record(1_000)
        packed = memoryview(engine.shards[0].stats.packed()).cast("Q")
        assert list(packed[15:20]) == [1, 1_000, 0, 0, len(engine.shards[0].stats.commands[3].counts)]
