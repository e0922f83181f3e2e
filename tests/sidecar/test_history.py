"""What the sidecar keeps of every second, and how /history joins it."""

import math
from array import array
from collections.abc import Callable
from dataclasses import replace

import pytest

from kora.clock import ManualClock
from kora.engine.client import Client
from kora.engine.engine import Engine
from kora.engine.snapshot import Snapshot, take
from kora.sidecar.history import ALL, COMMANDS_MAX, POINTS_MAX, SERIES, History, UnknownMetric, names, to_plain
from tests.storage_readings import FULL, attach

pytestmark = pytest.mark.once

Run = Callable[..., object]


def second(engine: Engine, clock: ManualClock) -> Snapshot:
    clock.advance_ms(1000)
    return take(engine)


def value(history: History, name: str) -> float:
    return history.points[-1].values[[series.name for series in SERIES].index(name)]


def test_a_point_has_the_rates_of_its_second(engine: Engine, run: Run, clock: ManualClock) -> None:
    history = History()
    assert history.add(take(engine)) is None
    run("SET", "k", "v")
    for _ in range(30):
        run("GET", "k")
    for _ in range(10):
        run("GET", "none")
    point = history.add(second(engine, clock))
    assert point is not None
    assert value(history, "commands") == 41
    assert value(history, "hit_ratio") == 0.75
    assert value(history, "keys") == 1
    assert point.commands["get"].calls_per_s == 40
    assert sum(array("I", point.commands["get"].heat)) == 40
    assert point.commands[ALL].calls_per_s == 41
    # A second later nothing has come.
    assert history.add(second(engine, clock)) is not None
    assert value(history, "commands") == 0
    assert math.isnan(value(history, "hit_ratio"))
    assert not history.points[-1].commands


def test_latencies_are_those_of_the_second_alone(engine: Engine, client: Client, clock: ManualClock) -> None:
    history = History()
    stats = client.db.stats.commands[engine.registry.commands["get"].slot]
    for _ in range(1000):
        stats.record(5_000)
    history.add(take(engine))
    for elapsed_ns in (1_000_000, 2_000_000, 3_000_000):
        stats.record(elapsed_ns)
    point = history.add(second(engine, clock))
    assert point is not None
    median_s, high_s, highest_s = point.commands["get"].latency_s
    assert median_s == pytest.approx(2e-3, rel=0.01)
    assert high_s == highest_s == pytest.approx(3e-3, rel=0.01)
    assert point.commands["get"].busy == pytest.approx(6e-3)


def test_counters_that_were_reset_have_grown_from_nothing(engine: Engine, run: Run, clock: ManualClock) -> None:
    history = History()
    for _ in range(50):
        run("PING")
    engine.shards[0].stats.commands[engine.registry.commands["ping"].slot].record(10_000_000)
    history.add(take(engine))
    run("CONFIG", "RESETSTAT")
    for _ in range(60):
        run("PING")
    history.add(second(engine, clock))
    assert value(history, "commands") >= 0
    assert all(number >= 0 for number in array("I", history.points[-1].commands["ping"].heat))


def test_another_process_begins_anew(engine: Engine, make_engine: Callable[..., Engine], clock: ManualClock) -> None:
    history = History()
    history.add(take(engine))
    assert history.add(second(make_engine(), clock)) is None


def test_points_and_commands_are_bounded(engine: Engine, client: Client, clock: ManualClock) -> None:
    history = History()
    history.add(take(engine))
    for slot in range(3 * COMMANDS_MAX):
        for _ in range(slot + 1):
            client.db.stats.commands[slot].record(1_000)
    point = history.add(second(engine, clock))
    assert point is not None
    assert len(point.commands) == COMMANDS_MAX + 1
    assert engine.registry.slots[3 * COMMANDS_MAX - 1].name in point.commands
    history.points.extend([point] * (2 * POINTS_MAX))
    assert len(history.points) == POINTS_MAX


def test_steps_join_seconds_by_mean_or_by_the_largest(engine: Engine, client: Client, clock: ManualClock) -> None:
    history = History()
    history.add(take(engine))
    stats = client.db.stats.commands[engine.registry.commands["get"].slot]
    for calls in (2, 4):
        for _ in range(calls):
            stats.record(calls * 1_000_000)
        history.add(second(engine, clock))
    first_s, last_s = (point.time_s for point in history.points)
    assert last_s == first_s + 1
    step_s = next(step_s for step_s in range(2, 9) if first_s % step_s < step_s - 1)  # one that both are in
    assert history.read("calls:get", first_s, last_s, step_s) == [[first_s - first_s % step_s, 3.0]]
    [[_, latency_s]] = history.read("latency_p99:get", first_s, last_s, step_s)
    assert latency_s == pytest.approx(4e-3, rel=0.01)
    assert history.read("calls:get", last_s, last_s, 1) == [[last_s, 4.0]]
    assert history.read("latency_p99:set", first_s, last_s, 1) == [[first_s, None], [last_s, None]]
    assert history.read("calls:set", first_s, first_s, 1) == [[first_s, 0.0]]
    with pytest.raises(UnknownMetric):
        history.read("nonsense", 0, 1e12, 1)
    for name in names():
        assert history.read(name, first_s, last_s, 1), name


def test_a_point_can_be_written_as_json(engine: Engine, run: Run, clock: ManualClock) -> None:
    history = History()
    history.add(take(engine))
    run("PING")
    point = history.add(second(engine, clock))
    assert point is not None
    plain = to_plain(point)
    assert None in plain["values"]  # the hit ratio, of no look-ups
    first, *counts = plain["commands"]["ping"][-1]
    assert first >= 0
    assert counts[0] and counts[-1]


def test_what_is_under_the_keys_has_series_where_there_is_any(engine: Engine, clock: ManualClock) -> None:
    history = History()
    history.add(take(engine))
    point = history.add(second(engine, clock))
    assert point is not None
    names = [series.name for series in SERIES if series.name.startswith("storage_")]
    assert len(names) > 10 and all(math.isnan(value(history, name)) for name in names)
    assert None in to_plain(point)["values"]
    statistics, counted = attach(engine)
    history.add(second(engine, clock))
    counted.update(hits=counted["hits"] + 3, misses=counted["misses"] + 1, cold_fetches=counted["cold_fetches"] + 5)
    tickers = {**FULL.tickers, "bytes.written": 1_008, "number.multiget.bytes.read": 508}
    statistics.tell(replace(FULL, tickers=tickers, stall_us={"memtables": 1_750_000}))
    history.add(second(engine, clock))
    expected = {
        "storage_written": 1_000, "storage_read": 500, "storage_flushed": 0, "storage_stalled": 0.25, "storage_cold": 5,
        "storage_hit_ratio": 0.75, "storage_cache": 700, "storage_files": 16,
    }  # fmt: skip
    assert {name: value(history, name) for name in expected} == expected
    assert math.isnan(value(history, "storage_block_hit_ratio")), "none was looked for"
