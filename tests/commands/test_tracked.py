"""TRACK and TRACK.READ, and what becomes of what is tracked: streams, minutes, hours."""

import random

import pytest

from kora.engine.series import _Answer, run_out
from kora.engine.tracked import FLUSH_DELAY_MS, _entry_request, _request, _words
from kora.errors import CommandError
from kora.types.tally import OTHER, Tally

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
LONG_NS = 10**12


@pytest.fixture
def flush(engine, clock):
    """Let the interval that goes on end, and have all that is due written."""

    def end_interval():
        clock.advance_ms(1000 * engine.config.events_flush_interval + FLUSH_DELAY_MS)
        while engine.tracked.flush_some(LONG_NS):
            pass

    return end_interval


@pytest.fixture
def roll(engine, clock):
    def go_round():
        engine.tracked._round_ns = 0
        while engine.tracked.roll_some(LONG_NS):
            pass

    return go_round


def rows(reply):
    return [{name.decode(): _number(value) for name, value in pairs(row).items()} for row in reply]


def pairs(row):
    return dict(zip(row[::2], row[1::2], strict=True))


def _number(value):
    return value if isinstance(value, int) else float(value)


@pytest.fixture
def read(run):
    return lambda key, kind, *options: rows(run("TRACK.READ", key, kind, *options))


def total(read, key, *options):
    return sum(row["value"] for row in read(key, "counter", *options))


def fields(run, key):
    return [(entry_id, pairs(words)) for entry_id, words in run("XRANGE", key, "-", "+")]


# Tracking and writing


def test_what_is_tracked_becomes_one_entry_when_its_interval_is_over(run, clock, flush):
    start_ms = clock.wall_ms()
    assert run("TRACK", "m") == "OK"
    run("TRACK", "m", "4")
    run("TRACK", "m", "2.5")
    assert run("EXISTS", "kilometric.m") == 0
    flush()
    assert fields(run, "kilometric.m") == [
        (b"%d-0" % start_ms, {
            b"count": b"3", b"sum": b"7.5", b"min": b"1", b"max": b"4", b"last": b"2.5",
            b"histogram": tally_of(1, 4, 2.5).histogram(),
        })
    ]  # fmt: skip


def tally_of(*values):
    tally = Tally()
    for value in values:
        tally.add(int(value * 10**9), 0)
    return tally


def test_an_interval_is_written_only_when_it_is_over_and_one_entry_a_time(run, clock, engine):
    run("TRACK", "m")
    clock.advance_ms(10_000 + FLUSH_DELAY_MS - 1)
    run("TRACK", "m", "5")
    engine.tracked.flush_some(LONG_NS)
    assert run("EXISTS", "kilometric.m") == 0
    clock.advance_ms(1)
    engine.tracked.flush_some(LONG_NS)
    assert [entry[b"sum"] for _, entry in fields(run, "kilometric.m")] == [b"1"]


def test_what_is_buffered_is_read_as_if_it_were_written(run, read, flush):
    run("TRACK", "m", "3")
    before = [read("m", kind) for kind in ("counter", "points", "rate", "gauge", "stats")]
    flush()
    assert [read("m", kind) for kind in ("counter", "points", "rate", "gauge", "stats")] == before
    assert before[0][0]["value"] == 3


def test_at_names_the_interval_that_a_value_belongs_to(run, read, clock, flush):
    now_ms = clock.wall_ms()
    run("TRACK", "m", "1")
    flush()
    # Its place in the stream is taken: it comes behind, and says where it belongs.
    run("TRACK", "m", "7", "AT", now_ms - 45_000)
    flush()
    late = fields(run, "kilometric.m")[1]
    assert late[0] == b"%d-1" % now_ms
    assert late[1][b"at"] == b"%d" % (now_ms - 50_000)
    assert [row["value"] for row in read("m", "points", "PERIOD", "10")] == [7, 1]
    assert total(read, "m", "TO", now_ms - 1) == 7
    assert total(read, "m", "FROM", now_ms) == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("", "1"), "ERR the name of a metric has 1 to 512 bytes"),
        (("x" * 513, "1"), "ERR the name of a metric has 1 to 512 bytes"),
        (("m", "one"), "ERR value is not a number or out of range"),
        (("m", "nan"), "ERR value is not a number or out of range"),
        (("m", "1e18"), "ERR value is not a number or out of range"),
        (("m", "-1"), "ERR the value is negative, which needs 'events-negative yes'"),
        (("m", "1", "AT"), "ERR syntax error"),
        (("m", "1", "BY", "1"), "ERR syntax error"),
        (("m", "1", "AT", "1", "AT", "1"), "ERR syntax error"),
        (("m", "1", "AT", "soon"), "ERR value is not an integer or out of range"),
        (("m", "1", "AT", "-1"), "ERR AT must be a time in Unix milliseconds, at most 60 seconds ahead"),
        (("m", "1", "AT", "1700000060001"), "ERR AT must be a time in Unix milliseconds, at most 60 seconds ahead"),
    ],
)
def test_track_refuses_bad_words_and_counts_nothing(run, engine, words, error):
    run("TRACK", "m")
    with pytest.raises(CommandError) as caught:
        run("TRACK", *words)
    assert caught.value.message == error
    assert engine.tracked.values == 1


def test_negative_values_are_for_who_allows_them(run, read):
    run("CONFIG", "SET", "events-negative", "yes")
    run("TRACK", "m", "-2.5")
    run("TRACK", "m", "-20")
    assert read("m", "gauge")[0]["value"] == -20
    assert (
        read("m", "stats")[0] | {"min": -20, "max": -2.5, "mean": -11.25, "p50": -20, "p99": -2.5}
        == read("m", "stats")[0]
    )


def test_metrics_that_are_too_many_are_counted_as_one(run, read, engine, flush):
    run("CONFIG", "SET", "events-keys-max", "3")
    for number in range(10):
        run("TRACK", f"m{number}")
        run("TRACK", f"m{number}")
    assert run("TRACK.KEYS") == [OTHER, b"m0", b"m1", b"m2"]
    assert total(read, OTHER) == 14
    assert engine.tracked.numbers()["overflow"] == 14
    flush()
    run("TRACK", "m0")
    assert total(read, "m0") == 3


def test_tracking_works_in_transactions_and_scripts(run, read):
    run("MULTI")
    run("TRACK", "m")
    run("TRACK", "m", "x")
    assert [str(reply) for reply in run("EXEC")] == ["OK", "ERR value is not a number or out of range"]
    assert run("EVAL", "return redis.call('TRACK', KEYS[1], '2')", "1", "m") == "OK"
    assert total(read, "m") == 3


def test_patterns_of_keys_are_held_against_the_stream(run):
    run("ACL", "SETUSER", "u", "on", "nopass", "+@all", "~kilometric.app:*", "%R~kilometric.all")
    run("AUTH", "u", "x")
    assert run("TRACK", "app:x") == "OK"
    for words in (("TRACK", "other"), ("TRACK", "all"), ("TRACK.READ", "other", "counter")):
        with pytest.raises(CommandError, match="NOPERM No permissions to access a key"):
            run(*words)
    assert run("TRACK.READ", "all", "counter") == []


def test_a_stream_that_is_something_else_costs_nobody_else_anything(run, read, engine, flush, roll):
    run("SET", "kilometric.bad", "a string")
    for key in ("a", "bad", "c"):
        run("TRACK", key, "2")
    flush()
    roll()
    assert engine.tracked.numbers()["refused"] == 1
    assert total(read, "a") == total(read, "c") == 2
    with pytest.raises(CommandError, match="WRONGTYPE"):
        read("bad", "counter")
    assert run("GET", "kilometric.bad") == b"a string"


def test_without_memory_counts_stay_in_the_buffer_until_there_is_some(run, read, engine, clock, flush):
    run("TRACK", "m", "3")
    run("SET", "big", "x" * 100_000)
    run("CONFIG", "SET", "maxmemory", "50000")
    with pytest.raises(CommandError, match="OOM"):
        run("TRACK", "m", "3")
    flush()
    clock.advance_ms(120_000)
    engine.tracked.flush_some(LONG_NS)
    assert run("EXISTS", "kilometric.m") == 0
    assert engine.tracked.health() == (
        False, "flushing is 120 s behind: OOM command not allowed when used memory > 'maxmemory'.",
    )  # fmt: skip
    run("CONFIG", "SET", "maxmemory", "0")
    clock.advance_ms(1_000)
    engine.tracked.flush_some(LONG_NS)
    assert engine.tracked.health() == (True, "")
    assert total(read, "m") == 3
    assert engine.tracked.values == 1
    assert len(fields(run, "kilometric.m")) == 1


def test_nothing_is_written_while_writes_are_paused(run, engine, flush):
    run("TRACK", "m")
    run("CLIENT", "PAUSE", "100000", "WRITE")
    flush()
    assert engine.tracked.waiting == 1
    run("CLIENT", "UNPAUSE")
    flush()
    assert engine.tracked.waiting == 0


def test_flushall_takes_what_is_buffered_along(run, read, flush):
    run("TRACK", "m")
    run("FLUSHALL")
    flush()
    assert run("TRACK.KEYS") == []
    assert run("DBSIZE") == 0


def test_all_is_written_at_the_end_and_counted_once(run, read, engine, flush):
    run("TRACK", "m", "2")
    assert engine.tracked.flush_all()
    assert engine.tracked.flush_all()
    run("TRACK", "m", "3")
    flush()
    assert total(read, "m") == 5
    assert [entry_id.partition(b"-")[2] for entry_id, _ in fields(run, "kilometric.m")] == [b"0", b"1"]


def test_the_sidecar_hands_over_cells(run, read, engine, clock, flush):
    start_ms = clock.wall_ms()
    cell = tally_of(1, 2, 30)
    cell.last_ms = start_ms + 5
    run("TRACK", "m", "5")
    engine.tracked.merge([cell.cell(b"m", start_ms), cell.cell(b"n", start_ms - 10_000)])
    assert total(read, "m") == 38
    assert total(read, "n") == 33
    assert read("m", "stats")[0] | {"count": 4, "min": 1, "max": 30, "p50": 2} == read("m", "stats")[0]
    assert read("m", "gauge")[0]["value"] == 30
    flush()
    assert [entry[b"count"] for _, entry in fields(run, "kilometric.m")] == [b"4"]
    assert engine.tracked.values == 7


def test_keyspace_notifications_and_waiting_readers_are_told_of_entries(engine, connect, clock, flush):
    one, other = connect(), connect()
    one.send("CONFIG", "SET", "notify-keyspace-events", "KEA")
    one.send("SUBSCRIBE", "__keyspace@0__:kilometric.m")
    other.send("XREAD", "BLOCK", "0", "STREAMS", "kilometric.m", "$")
    third = connect()
    third.send("TRACK", "m")
    flush()
    assert one.received() == [[b"message", b"__keyspace@0__:kilometric.m", b"xadd"]]
    assert other.received()[0][0][0] == b"kilometric.m"


def test_a_hundred_thousand_keys_take_steps_of_bounded_work(engine, run, clock):
    for number in range(2_000):
        engine.tracked.track(b"m%d" % number, 10**9)
    clock.advance_ms(12_000)
    batches = 0
    # With no time at all a step writes one batch.
    while engine.tracked.flush_some(0):
        batches += 1
    assert batches == 2_000 // 25 - 1
    assert run("DBSIZE") == 2_000


# Reading


def test_a_series_is_read_in_aligned_periods(run, read, clock):
    base_ms = clock.wall_ms() - clock.wall_ms() % MINUTE_MS - 10 * MINUTE_MS
    for offset_ms, value in ((0, 1), (59_999, 2), (60_000, 4), (185_000, 8)):
        run("TRACK", "m", value, "AT", base_ms + offset_ms)
    assert read("m", "points") == [
        {"from": base_ms, "value": 3},
        {"from": base_ms + MINUTE_MS, "value": 4},
        {"from": base_ms + 3 * MINUTE_MS, "value": 8},
    ]
    assert [row["value"] for row in read("m", "points", "FILL", "zero")] == [3, 4, 0, 8]
    assert read("m", "rate", "FROM", base_ms + 2 * MINUTE_MS)[0] == {
        "from": base_ms + 3 * MINUTE_MS, "to": base_ms + 4 * MINUTE_MS - 1, "value": pytest.approx(8 / 60),
    }  # fmt: skip
    assert read("m", "counter", "TO", base_ms + MINUTE_MS - 1) == [
        {"from": base_ms, "to": base_ms + 50_000, "value": 3}
    ]
    assert read("m", "counter", "FROM", base_ms + 10 * MINUTE_MS) == []


def test_a_series_that_is_read_in_steps_is_that_of_the_first_of_them(run, engine, clock, flush, roll):
    for _ in range(60):
        run("TRACK", "m", "2")
        flush()
    run("TRACK", "m", "5")  # is still in the buffer
    steps = engine.tracked.reading(b"m", "points", None, None, 60, "none")
    given_way = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer = end.value
            break
        given_way += 1
        run("TRACK", "m", "1000")
        flush()
        roll()
    assert given_way >= 3
    assert sum(point["value"] for point in answer["values"]) == 125


def test_a_series_is_read_anew_where_entries_go_that_were_still_to_be_read(run, engine, flush):
    for _ in range(300):
        run("TRACK", "m", "2")
        flush()
    run("TRACK", "m", "5")
    steps = engine.tracked.reading(b"m", "points", None, None, 10, "none")
    for _ in range(3):
        next(steps)
    flush()
    run("XTRIM", "kilometric.m", "MAXLEN", "40")
    answer = run_out(steps)
    assert sum(point["value"] for point in answer["values"]) == 39 * 2 + 5
    steps = engine.tracked.reading(b"m", "points", None, None, 10, "none")
    next(steps)
    run("FLUSHALL")
    assert len(run_out(steps)["values"]) == 40, "all of it was found by then"
    assert run_out(engine.tracked.reading(b"m", "points", None, None, 10, "none"))["values"] == []


def test_no_step_finds_more_than_a_few_entries(run, engine, flush, monkeypatch):
    for _ in range(250):
        run("TRACK", "m", "2")
        flush()
    added: list[int] = []
    add = _Answer.add
    monkeypatch.setattr(_Answer, "add", lambda answer, *entry: added.append(1) or add(answer, *entry))
    for period_s in (10, 7):
        steps = engine.tracked.reading(b"m", "points", None, None, period_s, "none")
        before = len(added)
        for _ in steps:
            assert len(added) - before <= 20
            before = len(added)


def test_names_that_are_listed_in_steps_are_in_order(run, engine):
    for number in range(100):
        run("TRACK", f"m{number}")
    steps = engine.tracked.listing(b"m*")
    assert sum(1 for _ in steps) == 5 + 1
    assert run_out(engine.tracked.listing(b"m*", 3)) == [b"m0", b"m1", b"m10"]
    assert engine.tracked.keys(b"m*") == sorted(b"m%d" % number for number in range(100))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("median",), "ERR unknown type of series, it is one of counter, points, rate, gauge, stats"),
        (("points", "PERIOD", "0"), "ERR PERIOD must be between 1 and 316224000 seconds"),
        (("points", "PERIOD", "-5"), "ERR PERIOD must be between 1 and 316224000 seconds"),
        (("points", "PERIOD", "1.5"), "ERR value is not an integer or out of range"),
        (("points", "FILL", "linear"), "ERR FILL must be none or zero"),
        (("points", "FROM", "yesterday"), "ERR value is not an integer or out of range"),
        (("points", "FROM"), "ERR syntax error"),
        (("points", "UNTIL", "1"), "ERR syntax error"),
        (("points", "PERIOD", "1", "FILL", "zero", "FROM", "0"),
         "ERR the answer would have more than 11000 values: ask for a longer PERIOD or less time"),
    ],
)  # fmt: skip
def test_read_refuses_bad_words(run, words, error):
    run("TRACK", "m")
    with pytest.raises(CommandError) as caught:
        run("TRACK.READ", "m", *words)
    assert caught.value.message == error


def test_streams_of_a_real_kilometric_are_read_and_rolled_up(run, read, clock, engine, roll):
    for offset_s, count in ((0, 2), (10, 4), (75, 6)):
        run("XADD", "kilometric.old", f"{1_603_304_960_760 + offset_s * 1000}-0", "count", count)
    engine.tracked.look_some(LONG_NS)
    assert run("TRACK.KEYS", "MATCH", "o*") == [b"old"]
    assert read("old", "counter") == [{"from": 1_603_304_960_760, "to": 1_603_305_035_760, "value": 12}]
    assert [row["value"] for row in read("old", "points")] == [6, 6]
    assert read("old", "stats")[0] | {"count": 6, "min": 1, "p99": 1} == read("old", "stats")[0]
    run(
        "CONFIG",
        "SET",
        "events-retention",
        "0",
        "events-minutes-retention",
        "999999999",
        "events-hours-retention",
        "999999999",
    )
    roll()
    assert total(read, "old") == 12


def test_entries_that_are_no_counts_are_left_alone(run, read, engine, flush, roll):
    run("XADD", "kilometric.m", "5-0", "temperature", "warm")
    engine.tracked.look_some(LONG_NS)
    roll()
    with pytest.raises(CommandError, match="ERR the stream of the metric has entries that are no counts"):
        read("m", "counter")
    assert run("XLEN", "kilometric.m") == 1


# Minutes and hours


def test_sums_are_the_same_whatever_was_rolled_up_and_removed(run, read, clock, flush, roll, engine):
    """Values at random times over two days, some late, with rounds of the job and lost markers in between."""
    choose = random.Random(9)
    run("CONFIG", "SET", "events-retention", "3600", "events-minutes-retention", "36000", "events-maxlen", "1000")
    base_ms = clock.wall_ms() - clock.wall_ms() % HOUR_MS
    expected = {}
    for step in range(400):
        for _ in range(choose.randrange(4)):
            value = choose.choice((1, 2, 0.1, 1234567, 0.000000001))
            late_ms = choose.choice((0, 0, 0, 100_000, 7_000_000))
            at_ms = clock.wall_ms() - late_ms
            run("TRACK", "m", f"{value:.9f}", "AT", at_ms)
            hour_ms = at_ms - at_ms % HOUR_MS
            expected[hour_ms] = expected.get(hour_ms, 0) + round(value * 10**9)
        clock.advance_ms(choose.choice((3_000, 60_000, 400_000, 1_200_000)))
        engine.tracked.flush_some(LONG_NS)
        if choose.random() < 0.2:
            roll()
        if step % 100 == 99:
            check_sums(run, expected, base_ms)
    roll()
    check_sums(run, expected, base_ms)
    assert run("XLEN", "kilometric.m") < 600
    assert run("XLEN", "kilometric:1m:m") < 800
    assert engine.tracked.numbers()["rolled"] > 50


def check_sums(run, expected, base_ms):
    reply = [pairs(row) for row in run("TRACK.READ", "m", "points", "PERIOD", "3600")]
    got = {row[b"from"]: exact(row[b"value"]) for row in reply}
    assert {hour: units / 10**9 for hour, units in expected.items()} == got
    counter = pairs(run("TRACK.READ", "m", "counter")[0])
    assert exact(counter[b"value"]) == sum(expected.values()) / 10**9
    # Halves of the time add up to all of it, wherever it is cut at a minute.
    for cut_ms in (base_ms + 31 * MINUTE_MS, base_ms + 5 * HOUR_MS + 17 * MINUTE_MS):
        parts = [
            run("TRACK.READ", "m", "stats", "PERIOD", "60", *span) for span in (("TO", cut_ms - 1), ("FROM", cut_ms))
        ]
        counts = sum(pairs(row)[b"count"] for part in parts for row in part)
        assert counts == sum(pairs(row)[b"count"] for row in run("TRACK.READ", "m", "stats", "PERIOD", "3600"))


def exact(value):
    return value if isinstance(value, int) else float(value)


def test_a_round_that_is_run_again_makes_nothing_twice(run, read, clock, flush, roll):
    for _ in range(30):
        run("TRACK", "m", "2")
        flush()
    clock.advance_ms(HOUR_MS)
    roll()
    before = [fields(run, key) for key in ("kilometric:1m:m", "kilometric:1h:m")]
    roll()
    roll()
    assert [fields(run, key) for key in ("kilometric:1m:m", "kilometric:1h:m")] == before
    assert sum(int(entry[b"sum"]) for _, entry in before[0]) == 60
    assert total(read, "m") == 60


def test_a_round_that_is_cut_off_between_any_two_entries_goes_on_where_it_was(run, read, clock, flush, roll, engine):
    for value in range(1, 25):
        run("TRACK", "m", value)
        if value % 7 == 0:
            run("TRACK", "m", value, "AT", clock.wall_ms() - 400_000)
        flush()
        clock.advance_ms(3 * MINUTE_MS)
    expected = sum(range(1, 25)) + 7 + 14 + 21
    series = engine.tracked.series
    whole, written = series._run, []

    def refuse_the_second(*words):
        written.append(words)
        return b"-MISCONF the disk is full" if len(written) % 2 == 0 else whole(*words)

    series._run = refuse_the_second
    for _ in range(200):
        engine.tracked._round_ns = 0
        engine.tracked.roll_some(0)
        assert total(read, "m") == expected
    series._run = whole
    roll()
    assert total(read, "m") == expected
    minutes = [entry for _, entry in fields(run, "kilometric:1m:m")]
    assert sum(int(entry[b"sum"]) for entry in minutes) == expected
    marks = [tuple(map(int, entry[b"through"].split(b"-"))) for entry in minutes]
    assert marks == sorted(set(marks))


def test_what_waits_does_not_grow_for_ever_and_times_gone_by_do_not_keep_out_others(run, engine, clock, flush):
    run("CONFIG", "SET", "events-keys-max", "1")
    late_ms = clock.wall_ms() - 100_000
    for number in range(4):
        run("TRACK", "m", "1", "AT", late_ms - number * 10_000)
    with pytest.raises(CommandError, match="ERR too many counts are waiting to be written"):
        run("TRACK", "m", "1", "AT", "0")
    run("TRACK", "m")
    engine.tracked.merge([tally_of(1, 1).cell(b"m", 10_000)])
    assert engine.tracked.numbers()["dropped"] == 2
    assert engine.tracked.values == engine.tracked.waiting == 5
    flush()
    assert engine.tracked.waiting == 0
    assert run("XLEN", "kilometric.m") == 5


def test_the_beginning_of_time_is_a_time(run, read, flush, roll):
    run("CONFIG", "SET", "events-hours-retention", "2147483647", "events-retention", "0")
    run("TRACK", "m", "1", "AT", "0")
    run("TRACK", "m", "2")
    flush()
    roll()
    assert read("m", "points") == [{"from": 0, "value": 1}, {"from": 1_699_999_980_000, "value": 2}]


def test_metrics_without_news_are_looked_at_now_and_then(run, engine, flush, roll, clock):
    run("TRACK", "m")
    flush()
    clock.advance_ms(2 * HOUR_MS)
    looked = []
    roll_one = engine.tracked.series.roll
    engine.tracked.series.roll = lambda key, now_ms: looked.append(key) or roll_one(key, now_ms)
    for _ in range(48):
        roll()
    assert 2 <= len(looked) <= 4
    run("TRACK", "m")
    flush()
    roll()
    assert 3 <= len(looked) <= 5


def test_an_hour_a_day_and_a_change_of_clocks_divide_no_period(run, read, clock, flush, roll):
    # 2023-10-29 01:00 UTC, when Central Europe sets its clocks back, and the midnight before.
    for edge_ms in (1_698_537_600_000, 1_698_541_200_000):
        for offset_ms in (-1, 0, 1):
            run("TRACK", "m", "1", "AT", edge_ms + offset_ms)
    run("CONFIG", "SET", "events-retention", "0", "events-minutes-retention", "0")
    flush()
    for _ in range(2):
        assert [(row["from"], row["value"]) for row in read("m", "points", "PERIOD", "86400")] == [
            (1_698_451_200_000, 1), (1_698_537_600_000, 5),
        ]  # fmt: skip
        assert [row["value"] for row in read("m", "points", "PERIOD", "3600")] == [1, 3, 2]
        roll()


def test_a_clock_that_is_set_back_loses_and_doubles_nothing(run, read, clock, flush, roll):
    run("TRACK", "m", "1")
    set_back(clock, 3 * DAY_MS)
    run("TRACK", "m", "2")
    flush()
    set_back(clock, -10 * DAY_MS)
    run("TRACK", "m", "4")
    flush()
    set_back(clock, 7 * DAY_MS)
    run("TRACK", "m", "8")
    flush()
    assert total(read, "m") == 15
    clock.advance_ms(2 * HOUR_MS)
    roll()
    assert total(read, "m") == 15
    assert [row["value"] for row in read("m", "points")] == [2, 9, 4]


def set_back(clock, by_ms):
    """The wall clock alone: what time has gone by is another's matter."""
    clock._wall_us -= by_ms * 1_000


def test_metrics_of_which_nothing_is_left_are_forgotten(run, engine, clock, flush, roll):
    run("TRACK", "m")
    flush()
    run("DEL", "kilometric.m")
    assert run("TRACK.KEYS") == []
    roll()
    assert engine.tracked.numbers()["keys"] == 0


def test_ten_million_values_of_a_metric_take_little_a_day(run, clock, engine, flush, roll):
    run("CONFIG", "SET", "events-flush-interval", "3600", "events-retention", "60", "events-minutes-retention", "60")
    for _ in range(24):
        tally = Tally()
        tally.add(10**9, clock.wall_ms(), 10_000_000 // 24)
        engine.tracked.merge([tally.cell(b"m", clock.wall_ms())])
        clock.advance_ms(HOUR_MS)
        flush()
    clock.advance_ms(3 * HOUR_MS)
    roll()
    assert run("XLEN", "kilometric:1h:m") == 24
    # A mark is left in what is below, and nothing in what is below that.
    assert run("XLEN", "kilometric:1m:m") + run("XLEN", "kilometric.m") <= 2
    if engine.kernel != "python":
        assert run("MEMORY", "USAGE", "kilometric:1h:m") < 2_048


def test_info_tells_what_was_tracked(run, flush):
    run("TRACK", "m")
    flush()
    info = run("INFO", "events").decode()
    assert "events_tracked:1\r\n" in info
    assert "events_flushed:1\r\n" in info
    assert "events_keys:1\r\n" in info


def test_entries_are_written_in_the_words_that_anybody_would_use():
    cell = tally_of(1, 2.5).cell(b"m", 0)
    assert _entry_request(b"5-*", cell) == _request([b"XADD", b"kilometric.m", b"5-*", *_words(cell)])
