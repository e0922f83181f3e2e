from pathlib import Path

import pytest

from kora.observe import spikes as module
from kora.observe.spikes import EVENTS, NEVER_NS, SAMPLES_MAX, Offender, Spikes, graph

pytestmark = pytest.mark.once

MS = 1_000_000


def test_a_second_keeps_its_largest_value_and_that_ones_offender():
    spikes = Spikes()
    for ms, command in ((20, "get"), (50, "keys"), (30, "set")):
        spikes.note("command", ms * MS, 1000, Offender(command))
    series = spikes.series["command"]
    assert [(sample.time_s, sample.latency_ms, sample.offender.command) for sample in series.samples] == [
        (1000, 50, "keys")
    ]
    assert (series.latency_ms_max, series.sum_ms, series.count, series.worst.command) == (50, 100, 3, "keys")


def test_a_series_holds_the_last_160_seconds_that_had_a_spike():
    spikes = Spikes()
    for second in range(200):
        spikes.note("command", (500 - second) * MS, second)
    series = spikes.series["command"]
    assert [sample.time_s for sample in series.samples] == list(range(200 - SAMPLES_MAX, 200))
    assert (series.latency_ms_max, series.count) == (500, 200)


def test_milliseconds_are_whole_ones():
    spikes = Spikes()
    spikes.set_threshold(2)
    assert spikes.threshold_ns == 2 * MS
    spikes.note("gc", 2_999_999, 7)
    assert spikes.series["gc"].latency_ms_max == 2


def test_a_threshold_of_0_is_never_reached():
    spikes = Spikes()
    spikes.set_threshold(0)
    assert spikes.threshold_ns == NEVER_NS
    spikes.set_threshold(2**63 - 1)
    assert spikes.threshold_ns == NEVER_NS


def test_reset_forgets_events_in_any_case_and_counts_those_that_had_spikes():
    spikes = Spikes()
    for event in ("command", "gc", "script"):
        spikes.note(event, MS, 1)
    assert spikes.names() == ["command", "script", "gc"], "in the table's order"
    assert spikes.reset(["COMMAND", "nope", "loop-lag"]) == 1
    assert spikes.reset() == 2
    assert spikes.names() == []
    assert spikes.totals["command"] == [1, MS], "what /metrics shows only grows"


def test_who_was_slowest_is_to_blame_until_the_loop_was_asked():
    spikes = Spikes()
    spikes.note("command", 20 * MS, 1, Offender("keys"))
    spikes.note("fast-command", 10 * MS, 1, Offender("get"))
    spikes.note("gc", 90 * MS, 1)
    assert spikes.take_culprit().command == "keys"
    assert spikes.take_culprit() == module.NOBODY


def test_the_golden_graph():
    """spec/latency.md, section 4."""
    spikes = Spikes()
    now_s = 1_000_000
    for ms, age_s in ((101, 15), (201, 14), (301, 12), (500, 8), (401, 6)):
        spikes.note("command", ms * MS, now_s - age_s)
    assert graph("command", spikes.series["command"], now_s) == (
        "command - high 500 ms, low 101 ms (all time high 500 ms)\n"
        + "-" * 80
        + "\n   #_\n  _||\n _|||\n_||||\n     \n11186\n542ss\nsss  \n"
    )


def test_a_graph_of_many_samples_is_drawn_80_columns_at_a_time():
    spikes = Spikes()
    for second in range(100):
        spikes.note("command", (10 + second) * MS, second * 3600)
    head, rule, *rows = graph("command", spikes.series["command"], 99 * 3600).split("\n")
    assert head == "command - high 109 ms, low 10 ms (all time high 109 ms)" and rule == "-" * 80
    first, second = rows[: rows.index("")], rows[rows.index("") + 1 : -1]
    assert {len(row) for row in first} == {80} and {len(row) for row in second} == {20}
    assert first[3].startswith("_") and second[0].endswith("#"), "the chunks have one scale"
    assert "".join(row[0] for row in first[5:]) == "4d " and second[5][-1] + second[6][-1] == "0s"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_every_event_is_told_of_where_the_table_says(event):
    assert event.times.endswith(".")
    if event.never:
        assert not event.source
    else:
        root = Path(module.__file__).parents[1]
        files = [root / f"{event.source}.py", root / "engine" / "slowness.py"]
        assert any(f'"{event.name}"' in file.read_text() for file in files), "nobody feeds it"
        assert files[0].exists()
