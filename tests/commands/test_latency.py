import pytest

from kora.errors import CommandError
from kora.observe.spikes import EVENTS
from tests.conftest import encode_request

COMMAND = b"command"


def sleep(run, seconds):
    run("DEBUG", "SLEEP", seconds)


def test_latest_has_time_last_most_sum_and_count(run, clock):
    for seconds in ("0.02", "0.05", "0.0099"):
        clock.advance_ms(1000)
        sleep(run, seconds)
    clock.advance_ms(1000)
    sleep(run, "0.03")
    assert run("LATENCY", "LATEST") == [[COMMAND, clock.wall_ms() // 1000, 30, 50, 100, 3]]


def test_history_has_the_most_of_each_second_the_oldest_first(run, clock):
    start_s = clock.wall_ms() // 1000
    sleep(run, "0.02")
    sleep(run, "0.05")
    clock.advance_ms(2000)
    sleep(run, "0.03")
    assert run("LATENCY", "HISTORY", "command") == [[start_s, 50], [start_s + 2, 30]]
    assert run("LATENCY", "HISTORY", "COMMAND") == [], "names are told apart by case"
    assert run("LATENCY", "HISTORY", "nope") == []


def test_reset_takes_names_in_any_case(run):
    sleep(run, "0.02")
    assert run("LATENCY", "RESET", "nope") == 0
    assert run("LATENCY", "RESET", "COMMAND", "command") == 1
    sleep(run, "0.02")
    assert run("LATENCY", "RESET") == 1
    assert run("LATENCY", "LATEST") == []


def test_graph_is_text(run, client, clock):
    sleep(run, "0.02")
    clock.advance_ms(61_000)
    expected = (
        "command - high 20 ms, low 20 ms (all time high 20 ms)\n" + "-" * 80 + "\n \n \n \n_\n \n1\nm\n"
    ).encode()
    assert run("LATENCY", "GRAPH", "command") == expected
    client.set_protocol(3)
    assert run("LATENCY", "GRAPH", "command") == expected
    with pytest.raises(CommandError, match=r"^ERR No samples available for event 'nope'$"):
        run("LATENCY", "GRAPH", "nope")


def test_the_threshold_follows_config_set_and_0_turns_it_off(run):
    run("CONFIG", "SET", "latency-monitor-threshold", "0")
    sleep(run, "1")
    assert run("LATENCY", "LATEST") == []
    assert b"off" in run("LATENCY", "DOCTOR")
    run("CONFIG", "SET", "latency-monitor-threshold", "1")
    sleep(run, "0.001")
    assert len(run("LATENCY", "LATEST")) == 1


def test_commands_that_are_flagged_fast_and_scripts_have_events_of_their_own(run, engine, clock, monkeypatch):
    time = engine.registry.table[b"TIME"]
    handler = time.handler
    monkeypatch.setattr(time, "handler", lambda *words: (clock.advance_ms(20), handler(*words))[1])
    run("TIME")
    assert [row[0] for row in run("LATENCY", "LATEST")] == [b"fast-command"]
    run("LATENCY", "RESET")
    run("EVAL", "return redis.call('TIME')", "0")
    assert [row[0] for row in run("LATENCY", "LATEST")] == [COMMAND, b"fast-command", b"script"]


def test_a_command_that_was_waiting_is_an_event_when_it_is_served(run, connect, engine, clock, monkeypatch):
    waiting = connect()
    waiting.send("BLPOP", "l", "0")
    blpop = engine.registry.table[b"BLPOP"]
    handler = blpop.handler
    monkeypatch.setattr(blpop, "handler", lambda *words: (clock.advance_ms(20), handler(*words))[1])
    run("LPUSH", "l", "v")
    rows = {row[0]: row for row in run("LATENCY", "LATEST")}
    assert rows[b"command-unblocking"][2] == 20
    worst = engine.slowness.spikes.series["command-unblocking"].worst
    assert (worst.command, worst.key, worst.address) == ("blpop", b"l", "127.0.0.1:50001")


def test_a_spike_keeps_its_worst_offender(run, client, engine, connect):
    client.name = b"batch"
    sleep(run, "0.02")
    worst = engine.slowness.spikes.series["command"].worst
    assert (worst.command, worst.address, worst.client_name, worst.slowlog_id) == (
        "debug",
        "127.0.0.1:50000",
        b"batch",
        0,
    )
    text = run("LATENCY", "DOCTOR")
    assert b"The worst: DEBUG, client 127.0.0.1:50000 ('batch'), slow log entry 0." in text


def test_making_room_is_an_event(run, engine, clock, monkeypatch):
    for number in range(20):
        run("SET", f"k{number}", "x" * 1000)
    choose = engine._evictor._choose
    monkeypatch.setattr(engine._evictor, "_choose", lambda *words: (clock.advance_ms(15), choose(*words))[1])
    run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", engine.memory_bytes - 500)
    run("SET", "more", "x")
    assert engine.slowness.spikes.series["eviction-cycle"].latency_ms_max >= 15


def test_a_late_loop_is_blamed_on_who_was_slow(run, engine):
    sleep(run, "0.5")
    engine.slowness.note_lag(500_000_000)
    engine.slowness.note_lag(300_000_000)
    series = engine.slowness.spikes.series["loop-lag"]
    assert (series.count, series.worst.command) == (2, "debug")
    assert b"2. loop-lag: 1 latency spikes" in run("LATENCY", "DOCTOR")


def test_help_says_which_events_there_are_and_why_some_are_not(run):
    text = "\n".join(run("LATENCY", "HELP"))
    assert all(f"    {event.name}: " in text for event in EVENTS)
    assert "active-defrag-cycle: memory is not defragmented." in text


def histogram(run, *names):
    flat = run("LATENCY", "HISTOGRAM", *names)
    return dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize(
    ("elapsed_ns", "edge_us"),
    [
        (500, 1), (1_031, 1), (1_032, 2), (33_023, 33), (33_024, 66), (541_065_000, 541065), (1_073_741_823, 1073741),
        (1_073_741_824, 2164260), (1_500_000_000, 2164260), (3_000_000_000, 4328521), (59_000_000_000, 60129542),
    ],
)  # fmt: skip
def test_a_histogram_has_redis_edges_and_goes_on_where_those_end(run, engine, elapsed_ns, edge_us):
    slot = engine.registry.table[b"LPOP"].slot
    engine.shards[0].stats.commands[slot].record(elapsed_ns)
    assert histogram(run, "lpop") == {b"lpop": [b"calls", 1, b"histogram_usec", [edge_us, 1]]}


def test_histograms_are_cumulative_over_all_shards_and_known_commands(run, engine):
    slot = engine.registry.table[b"LPOP"].slot
    for shard, elapsed_ns in zip(engine.shards, (1_500, 3_000, 1_800, 900_000), strict=True):
        shard.stats.commands[slot].record(elapsed_ns)
    run("CLIENT", "ID")
    run("CLIENT", "GETNAME")
    found = histogram(run, "LPOP", "nope", "client", "set")
    assert found[b"lpop"] == [b"calls", 4, b"histogram_usec", [2, 2, 4, 3, 1056, 4]]
    assert sorted(found) == [b"client|getname", b"client|id", b"lpop"], "of a container its subcommands"
    assert set(found) <= set(histogram(run))
    run("CONFIG", "RESETSTAT")
    assert histogram(run, "lpop") == {}


def test_histograms_are_maps_in_resp3(run, client):
    run("SELECT", "0")
    client.set_protocol(3)
    found = run("LATENCY", "HISTOGRAM", "select")
    assert list(found) == [b"select"] and list(found[b"select"]) == [b"calls", b"histogram_usec"]


def latencystats(run):
    lines = run("INFO", "latencystats").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_info_latencystats_shows_the_percentiles_asked_for(run):
    sleep(run, "0.5")
    name = "latency_percentiles_usec_debug"
    assert latencystats(run)[name] == "p50=501219.327,p99=501219.327,p99.9=501219.327"
    run("CONFIG", "SET", "latency-tracking-info-percentiles", "99.99 0 12.500")
    assert latencystats(run)[name] == "p99.99=501219.327,p0=501219.327,p12.5=501219.327"
    assert run("CONFIG", "GET", "latency-tracking-info-percentiles")[1] == b"99.99 0 12.5"


@pytest.mark.parametrize("setting", [("latency-tracking-info-percentiles", ""), ("latency-tracking", "no")])
def test_info_latencystats_is_empty_where_nothing_is_asked_for(run, setting):
    run("PING")
    run("CONFIG", "SET", *setting)
    assert run("INFO", "latencystats") == b"# Latencystats\r\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "Invalid latency-tracking-info-percentiles parameters"),
        ("50 nan", "Invalid latency-tracking-info-percentiles parameters"),
        ("50 101", "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
        ("-1", "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"),
    ],
)
def test_percentiles_are_numbers_from_0_to_100(run, text, reason):
    with pytest.raises(CommandError) as caught:
        run("CONFIG", "SET", "latency-tracking-info-percentiles", text)
    assert caught.value.message == (
        "ERR CONFIG SET failed (possibly related to argument 'latency-tracking-info-percentiles') - " + reason
    )


def test_resetstat_leaves_the_slow_log_and_the_latency_monitor_alone(run):
    sleep(run, "0.02")
    with pytest.raises(CommandError):
        run("NOPE")
    run("CONFIG", "RESETSTAT")
    assert run("SLOWLOG", "LEN") == len(run("LATENCY", "LATEST")) == 1
    assert b"errorstat" not in run("INFO", "errorstats") and b"debug" not in run("INFO", "commandstats")


def flat(reply):
    return [dict(zip(row[::2], row[1::2], strict=True)) for row in reply]


def test_blame_says_who_made_others_wait(run, connect, engine, clock):
    slow, other = connect(), connect()
    slow.client.name = b"worker"
    slow.send("DEBUG", "SLEEP", "0.05")
    other.client.last_ns = engine.monotonic_ns() - 40_000_000
    other.send("PING")
    clock.advance_ms(100)
    [row] = flat(run("LATENCY", "BLAME"))
    # It may have come at any time in these 40 ms.
    assert row == {
        b"culprit": b"debug",
        b"key-prefix": b"",
        b"client-addr": b"127.0.0.1:50001",
        b"client-name": b"worker",
        b"victims": 1,
        b"seconds": b"0.020000",
        b"seconds-min": b"0.000000",
        b"seconds-max": b"0.040000",
        b"share": b"1.000000",
    }


def test_blame_looks_back_as_far_and_shows_as_many_as_it_is_told(run, connect, engine, clock):
    for name in ("one", "two"):
        slow, other = connect(), connect()
        slow.client.name = name.encode()
        slow.send("DEBUG", "SLEEP", "0.05" if name == "one" else "0.01")
        other.client.last_ns = engine.monotonic_ns() - 5_000_000
        other.send("PING")
        run("LATENCY", "BLAME")
        clock.advance_ms(5000)
    assert [row[b"client-name"] for row in flat(run("LATENCY", "BLAME", "last", "6"))] == [b"two"]
    assert [row[b"client-name"] for row in flat(run("LATENCY", "BLAME", "LAST", "60"))] == [b"one", b"two"]
    assert [row[b"client-name"] for row in flat(run("LATENCY", "BLAME", "top", "1"))] == [b"one"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("LAST",), "ERR syntax error"),
        (("LAST", "0"), "ERR seconds must be between 1 and 900"),
        (("LAST", "901"), "ERR seconds must be between 1 and 900"),
        (("TOP", "x"), "ERR count must be between 1 and 1000"),
        (("WORST", "5"), "ERR syntax error"),
    ],
)
def test_blame_refuses_what_it_does_not_know(run, words, text):
    with pytest.raises(CommandError, match=text):
        run("LATENCY", "BLAME", *words)


def test_histograms_are_of_running_waiting_or_both(run, engine):
    data = encode_request(("DEBUG", "SLEEP", "0.003")) + encode_request(("PING",))
    engine.execute(engine.connect("127.0.0.1:1"), data)

    def last_step(*words):
        [name, [_, calls, _, steps]] = run("LATENCY", "HISTOGRAM", *words)
        return name, calls, steps[-2]

    assert last_step("ping") == last_step("BY", "EXEC", "ping") == (b"ping", 1, 1)
    assert last_step("BY", "WAIT", "ping") == last_step("by", "service", "PING") == (b"ping", 1, 4227)
    assert last_step("BY", "WAIT", "debug") == (b"debug", 1, 1)
    assert last_step("BY", "SERVICE", "debug") == (b"debug", 1, 4227)


def test_wait_and_exec_are_also_commands_whose_histograms_are_asked_for(run):
    run("MULTI")
    run("EXEC")
    assert run("LATENCY", "HISTOGRAM", "exec", "wait")[0] == b"exec"
    for words in (("BY",), ("BY", "GET")):
        with pytest.raises(CommandError, match="ERR syntax error"):
            run("LATENCY", "HISTOGRAM", *words)


def test_a_reply_that_does_not_go_out_at_once_is_an_event(run, engine, client):
    engine.slowness.note_flush(client, 25_000_000)
    engine.slowness.note_flush(client, 9_000_000)
    assert [row[0::2] for row in run("LATENCY", "LATEST")] == [[b"client-flush", 25, 25]]
    assert engine.slowness.spikes.series["client-flush"].worst.address == client.address


def test_info_has_percentiles_of_waits_and_services(run, engine, clock):
    data = encode_request(("DEBUG", "SLEEP", "0.003")) + encode_request(("PING",))
    engine.execute(engine.connect("127.0.0.1:1"), data)
    clock.advance_ms(100)
    text = run("INFO", "latencystats").decode()
    assert "\r\nwait_percentiles_usec_ping:p50=3014.655,p99=3014.655,p99.9=3014.655\r\n" in text
    assert "\r\nservice_percentiles_usec_debug:p50=3014.655,p99=3014.655,p99.9=3014.655\r\n" in text
    assert "\r\nreads_processed:3\r\nreads_waited_usec:0\r\n" in run("INFO", "stats").decode()
