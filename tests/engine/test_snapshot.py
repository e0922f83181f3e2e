"""Snapshots: whole, plain, and the same after a journey to the sidecar."""

import marshal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.engine import snapshot
from kora.engine.snapshot import Snapshot, copy_shard
from kora.errors import CommandError
from kora.observe.histogram import HIGHEST_NS
from tests.compat.profile import examples
from tests.store.stores import TESTED, Store


def test_a_snapshot_survives_the_way_to_the_sidecar(engine, run):
    run("SET", "k", "v", "EX", "100")
    run("GET", "k")
    run("GET", "missing")
    taken = snapshot.take(engine)
    arrived = Snapshot.from_plain(marshal.loads(marshal.dumps(taken.to_plain())))
    assert arrived == taken
    assert (arrived.keys, arrived.hits, arrived.misses) == (1, 1, 1)
    assert arrived.databases[0][:2] == [1, 1]


def test_the_total_is_the_sum_over_the_shards(engine, run):
    for number in range(200):
        run("SET", f"key:{number}", "v")
    taken = snapshot.take(engine)
    slot = taken.slot_names.index("set")
    per_shard = [shard["commands"][slot][0] for shard in taken.shards]
    assert min(per_shard) > 0
    assert sum(per_shard) == taken.total.commands[slot].calls == 200
    assert taken.commands_processed == 200
    assert sum(taken.total.commands[slot].counts) == 200


def test_a_snapshot_does_not_change_afterwards(engine, run):
    run("PING")
    taken = snapshot.take(engine)
    run("PING")
    assert taken.commands_processed == 1


def test_errors_are_seen_with_observation_off(engine, run):
    run("CONFIG", "SET", "observation", "no")
    run("SET", "text", "abc")
    for _ in range(2):
        with pytest.raises(CommandError):
            run("INCR", "text")
    taken = snapshot.take(engine)
    assert taken.total.commands[taken.slot_names.index("incr")].failed == 2


COMMANDS = 5
_keys = st.sampled_from([b"a", b"b", b"c", b"{a}1", b"{a}2", b"{b}1", b"", b"key:1"])
# What happens: its name, in which command, to which key, and a number.
_events = st.tuples(
    st.sampled_from(("call", "fail", "reject", "read", "write", "set", "get", "end")),
    st.integers(0, COMMANDS - 1),
    _keys,
    st.integers(0, 20_000) | st.integers(0, 2 * HIGHEST_NS),
)


def _apply(store: Store, event: tuple[str, int, bytes, int]) -> None:
    name, slot, key, number = event
    stats = store.db.stats_of(key)
    if name == "call":
        stats.commands[slot].record(number)
    elif name == "fail":
        stats.commands[slot].record(number)
        stats.commands[slot].failed += 1
    elif name == "reject":
        stats.commands[slot].rejected += 1
    elif name == "read":
        stats.bytes_in += number
    elif name == "write":
        stats.bytes_out += number
    elif name == "set":
        store.db.set(key, b"v")
    elif name == "get":
        store.db.read(key, bytes)
    else:
        store.db.set_until(key, b"v", store.clock.wall_ms() - 1)


def _copies(store: Store) -> list[dict[str, Any]]:
    """What a snapshot shows of each shard, but for what may differ: sizes, and zeros where a histogram ends."""
    copies: list[dict[str, Any]] = marshal.loads(marshal.dumps([copy_shard(shard) for shard in store.shards]))
    for copy in copies:
        assert (copy.pop("memory_bytes") > 0) == (copy["keys"] > 0)
        for row in copy["commands"].values():
            assert len(row[4]) % 8 == 0
            row[4] = row[4].rstrip(b"\0")
    return copies


@pytest.mark.skipif("kernel" not in TESTED, reason="the suite runs on pure Python")
@given(program=st.lists(_events, max_size=60))
@examples(200)
def test_the_kernels_shards_are_copied_as_those_of_the_reference_would_be(program):
    stores = [Store(name, commands=COMMANDS) for name in TESTED]
    for event in program:
        for store in stores:
            _apply(store, event)
    reference, compiled = map(_copies, stores)
    assert compiled == reference
