"""Snapshots: whole, plain, and the same after a journey to the sidecar."""

import marshal

import pytest

from kora.engine import snapshot
from kora.engine.snapshot import Snapshot
from kora.errors import CommandError


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


def test_hot_keys_of_all_shards_come_in_one_list(make_engine):
    engine = make_engine("--hotkey-sampling-ratio", "1")
    for weight, key in ((5, b"a"), (9, b"b"), (9, b"c")):
        engine.shards[weight % 4].stats.hot_keys.record(key, weight)
    assert snapshot.take(engine).hot_keys(2) == [(b"b", 9), (b"c", 9)]
