"""HOTKEYS as Kora, Redis 8.6 and Valkey have it, and the STATS commands of the first Kora."""

import contextlib

import pytest

from kora.errors import CommandError
from tests.conftest import runner

UNIX_S = 1_700_000_000  # where the clock of tests begins


@pytest.fixture
def engine(make_engine):
    return make_engine("--hotkey-sampling-ratio", "1")


@pytest.fixture
def fails(run):
    """fails(*words): the text of the error reply."""

    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def wait(engine, clock):
    """wait(seconds): let them pass, one after another."""

    def wait(seconds):
        for _ in range(seconds):
            clock.advance_ms(1000)
            engine.tick()

    return wait


@pytest.fixture
def top(run):
    """top(count, *options) of HOTKEYS TOP: its keys, each as a dict."""

    def top(count, *options):
        return [dictionary(key) for key in dictionary(run("HOTKEYS", "TOP", count, *options))[b"keys"]]

    return top


def dictionary(flat):
    return dict(zip(flat[::2], flat[1::2], strict=True))


def times(run, count, *words):
    for _ in range(count):
        run(*words)


def test_the_keys_used_most_come_first_with_all_that_is_known_of_them(run, top, wait):
    run("CLIENT", "SETNAME", "worker")
    times(run, 6, "GET", "a")
    times(run, 3, "SET", "b", "value")
    run("SET", "a", "value")
    wait(2)
    first, second = top(10)
    assert (first[b"key"], first[b"db"], first[b"slot"]) == (b"a", 0, run("CLUSTER", "KEYSLOT", "a"))
    assert (first[b"accesses"], first[b"reads"], first[b"writes"], first[b"error"]) == (7, 6, 1, 0)
    assert (float(first[b"per-second"]), float(first[b"share"])) == (3.5, 0.7)
    assert (first[b"client-addr"], first[b"client-name"]) == (b"127.0.0.1:50000", b"worker")
    assert float(first[b"client-share"]) == 1.0
    assert second[b"key"] == b"b"
    # Each request has 31 bytes and each reply 5.
    assert second[b"net-bytes"] == 3 * (31 + 5)
    assert [key[b"key"] for key in top(1)] == [b"a"]


def test_the_order_is_by_what_is_asked_for(run, top, clock, engine):
    run("MSET", "read", "v", "large", "x" * 10_000)
    times(run, 9, "GET", "read")
    times(run, 5, "APPEND", "written", "v")
    run("GET", "large")
    for options, name in (
        ((), b"read"),
        (("BY", "reads"), b"read"),
        (("by", "WRITES"), b"written"),
        (("BY", "NET"), b"large"),
    ):
        assert top(3, *options)[0][b"key"] == name
    assert [key[b"key"] for key in top(9, "BY", "WRITES")] == [b"written", b"large", b"read"]
    assert all(key[b"reads"] for key in top(9, "BY", "READS"))


def test_cpu_time_is_that_of_commands_that_took_long(make_engine, clock):
    engine = make_engine("--hotkey-sampling-ratio", "10000")
    run = runner(engine.connect())
    run("RPUSH", "k", "1")
    handler = engine.commands[b"SORT_RO"].handler

    def slow(client, argv):
        clock.advance_ms(50)
        return handler(client, argv)

    engine.commands[b"SORT_RO"].handler = slow
    try:
        times(run, 3, "SORT_RO", "k")
    finally:
        engine.commands[b"SORT_RO"].handler = handler
    [key] = [dictionary(key) for key in dictionary(run("HOTKEYS", "TOP", 5, "BY", "CPU"))[b"keys"]]
    # Each counts for itself, however few are sampled.
    assert (key[b"key"], key[b"cpu-us"], key[b"reads"] + key[b"writes"]) == (b"k", 150_000, 3)


def test_times_to_look_at(run, top, wait):
    times(run, 5, "GET", "early")
    wait(100)
    times(run, 3, "GET", "late")
    assert [key[b"key"] for key in top(5)] == [b"late"]
    assert [key[b"key"] for key in top(5, "LAST", 200)] == [b"early", b"late"]
    assert [key[b"key"] for key in top(5, "AT", UNIX_S)] == [b"early"]
    assert [key[b"key"] for key in top(5, "AT", UNIX_S + 100)] == [b"late"]
    assert top(5, "AT", UNIX_S + 50) == []
    run("CONFIG", "SET", "hotkey-window-seconds", "150")
    assert [key[b"key"] for key in top(5)] == [b"early", b"late"]
    wait(801)
    assert [key[b"key"] for key in top(5, "LAST", 900)] == [b"late"]


def test_a_map_in_resp3(run):
    run("HELLO", 3)
    run("SET", "k", "v")
    shown = run("HOTKEYS", "TOP", 1)
    assert list(shown) == [b"seconds", b"sampling-ratio", b"accesses", b"keys"]
    assert shown[b"sampling-ratio"] == 1
    assert shown[b"keys"][0][b"key"] == b"k"
    assert isinstance(shown[b"keys"][0][b"share"], float)


@pytest.mark.parametrize(
    "words",
    [("0",), ("1025",), ("x",), ("1", "LAST", "0"), ("1", "LAST", "901"), ("1", "LAST", "x")],
)
def test_numbers_out_of_range(fails, words):
    assert "must be between" in fails("HOTKEYS", "TOP", *words)


@pytest.mark.parametrize(
    "words", ["BY", "BY FOO", "LAST", "LAST 5 AT 6", "AT 6 LAST 5", "AT 5 AT 6", "FOO 5", "BY READS LAST"]
)
def test_options_that_make_no_sense(fails, words):
    assert fails("HOTKEYS", "TOP", "5", *words.split()) == "ERR syntax error"


def test_databases_are_told_apart_and_what_is_deleted_is_still_shown(run, top, wait):
    times(run, 3, "SET", "k", "v")
    run("SELECT", 2)
    times(run, 5, "SET", "k", "v")
    run("SWAPDB", 0, 2)
    run("FLUSHALL")
    run("CONFIG", "RESETSTAT")
    wait(1)
    assert [(key[b"key"], key[b"db"], key[b"accesses"]) for key in top(5)] == [(b"k", 2, 5), (b"k", 0, 3)]


def test_long_names_are_shown_in_part(run, top, wait):
    for ending in ("1", "2"):
        run("SET", "x" * 1_000_000 + ending, "v")
    for _ in range(2):
        names = [key[b"key"] for key in top(5)]
        assert names == [b"x" * 96 + b"... (999905 more bytes)"] * 2
        wait(1)


def test_what_runs_in_transactions_and_scripts_is_recorded_once(run, top):
    run("MULTI")
    times(run, 3, "SET", "in-transaction", "v")
    run("EXEC")
    run("MULTI")
    run("SET", "discarded", "v")
    run("DISCARD")
    assert [(key[b"key"], key[b"writes"]) for key in top(9)] == [(b"in-transaction", 3)]
    pytest.importorskip("lupa")
    times(run, 2, "EVAL", "return redis.call('get', KEYS[1])", 1, "in-script")
    assert {key[b"key"]: key[b"accesses"] for key in top(9)} == {b"in-transaction": 3, b"in-script": 2}


def test_keys_at_any_places_and_those_of_restricted_users(run, top, engine):
    run("ZUNION", 2, "a", "b")
    run("XREAD", "STREAMS", "a", "0")
    run("ACL", "SETUSER", "reader", "on", "nopass", "~a", "+get", "+auth")
    other = runner(engine.connect())
    other("AUTH", "reader", "x")
    for key in ("a", "b"):
        with contextlib.suppress(CommandError):
            other("GET", key)
    assert {key[b"key"]: key[b"reads"] for key in top(9)} == {b"a": 3, b"b": 1}


def test_all_keys_of_a_command_count_where_the_ratio_is_one(run, top):
    times(run, 3, "MGET", "a", "b", "c")
    assert {key[b"key"]: key[b"accesses"] for key in top(9)} == {b"a": 3, b"b": 3, b"c": 3}


def test_nothing_is_recorded_where_no_key_is_to_be_shown(run, top):
    run("CONFIG", "SET", "hotkey-top-k", "0")
    times(run, 100, "GET", "k")
    assert top(5) == []
    assert run("HOTKEYS", "GET") == []
    run("CONFIG", "SET", "hotkey-top-k", "16")
    run("GET", "k")
    assert top(5)[0][b"accesses"] == 1


def test_counts_are_scaled_up_where_accesses_are_sampled(make_engine):
    engine = make_engine("--hotkey-sampling-ratio", "32")
    run = runner(engine.connect())
    times(run, 4_000, "GET", "k")
    [key] = [dictionary(key) for key in dictionary(run("HOTKEYS", "TOP", 5))[b"keys"]]
    assert key[b"accesses"] == pytest.approx(4_000, rel=0.2)
    assert key[b"net-bytes"] == pytest.approx(4_000 * (20 + 5), rel=0.2)


# As Valkey has it


def test_get_without_a_session_is_a_list_of_keys_with_their_rates(run, wait):
    times(run, 10, "GET", "read")
    times(run, 20, "SET", "written", "v")
    wait(5)
    entries = [dictionary(entry) for entry in run("HOTKEYS", "GET")]
    assert entries == [
        {b"key": b"written", b"qps": 4, b"db": 0, b"type": b"all"},
        {b"key": b"read", b"qps": 2, b"db": 0, b"type": b"all"},
    ]
    [entry] = [dictionary(entry) for entry in run("HOTKEYS", "GET", "TYPE", "READ")]
    assert entry == {b"key": b"read", b"qps": 2, b"db": 0, b"type": b"read"}
    assert [dictionary(entry)[b"key"] for entry in run("HOTKEYS", "GET", "type", "write")] == [b"written"]
    run("CONFIG", "SET", "hotkey-top-k", "1")
    assert len(run("HOTKEYS", "GET")) == 1


def test_get_of_another_type(fails):
    for words in (("TYPE",), ("TYPE", "both"), ("KIND", "read"), ("TYPE", "read", "x")):
        assert fails("HOTKEYS", "GET", *words)


def test_reset_without_a_session_forgets_all(run, top, wait):
    times(run, 10, "GET", "k")
    wait(2)
    run("GET", "k")
    assert run("HOTKEYS", "RESET") == "OK"
    assert top(5) == []
    assert run("HOTKEYS", "GET") == []


# As Redis 8.6 has it


def test_a_session_tells_the_keys_that_took_most(run, clock, engine):
    run("SET", "before", "x" * 5_000)
    assert run("HOTKEYS", "START", "METRICS", 2, "CPU", "NET", "COUNT", 2) == "OK"
    for size, key in ((1_000, "large"), (500, "middle"), (10, "small")):
        run("SET", key, "x" * size)
    clock.advance_ms(1_500)
    engine.tick()
    run("GET", "large")
    [report] = run("HOTKEYS", "GET")
    report = dictionary(report)
    assert list(report) == [
        b"tracking-active", b"sample-ratio", b"selected-slots", b"all-commands-all-slots-us",
        b"net-bytes-all-commands-all-slots", b"collection-start-time-unix-ms", b"collection-duration-ms",
        b"total-cpu-time-user-ms", b"total-cpu-time-sys-ms", b"total-net-bytes", b"by-cpu-time-us", b"by-net-bytes",
    ]  # fmt: skip
    assert (report[b"tracking-active"], report[b"sample-ratio"], report[b"selected-slots"]) == (1, 1, [])
    assert report[b"collection-start-time-unix-ms"] == UNIX_S * 1000
    assert report[b"collection-duration-ms"] == 1_500
    by_net = report[b"by-net-bytes"]
    assert by_net[::2] == [b"large", b"middle"]
    assert by_net[1] > 2_000 > 600 > by_net[3] > 500
    assert report[b"total-net-bytes"] > by_net[1] + by_net[3]
    assert run("HOTKEYS", "STOP") == "OK"
    run("SET", "late", "x" * 9_000)
    [stopped] = run("HOTKEYS", "GET")
    assert dictionary(stopped)[b"tracking-active"] == 0
    assert dictionary(stopped)[b"by-net-bytes"] == by_net
    assert run("HOTKEYS", "STOP") == "OK"
    assert run("HOTKEYS", "RESET") == "OK"
    assert run("HOTKEYS", "STOP") is None
    assert b"tracking-active" not in run("HOTKEYS", "GET")[0]


def test_a_report_is_a_map_in_an_array_in_resp3(run):
    run("HELLO", 3)
    run("HOTKEYS", "START", "METRICS", 1, "NET")
    run("SET", "k", "v")
    [report] = run("HOTKEYS", "GET")
    assert isinstance(report, dict)
    assert report[b"by-net-bytes"][0] == b"k"
    assert b"by-cpu-time-us" not in report
    assert b"total-cpu-time-user-ms" not in report


def test_a_session_ends_by_itself(run, clock, wait):
    run("HOTKEYS", "START", "METRICS", 1, "CPU", "DURATION", 2)
    wait(1)
    assert dictionary(run("HOTKEYS", "GET")[0])[b"tracking-active"] == 1
    clock.advance_ms(1_200)
    report = dictionary(run("HOTKEYS", "GET")[0])
    assert (report[b"tracking-active"], report[b"collection-duration-ms"]) == (0, 2_200)
    assert b"by-net-bytes" not in report


def test_a_session_has_a_ratio_of_its_own_by_which_counts_are_scaled(make_engine):
    engine = make_engine("--hotkey-sampling-ratio", "1000")
    run = runner(engine.connect())
    run("HOTKEYS", "START", "METRICS", 1, "NET")
    times(run, 10, "GET", "k")
    assert engine.hot_keys.ratio == 1
    run("HOTKEYS", "STOP")
    assert engine.hot_keys.ratio == 250
    run("HOTKEYS", "START", "METRICS", 1, "NET", "SAMPLE", 8)
    times(run, 2_000, "GET", "k")
    report = dictionary(run("HOTKEYS", "GET")[0])
    assert report[b"sample-ratio"] == 8
    # Not by how many samples there were, as Redis shows them.
    assert report[b"by-net-bytes"][1] == pytest.approx(2_000 * (20 + 5), rel=0.3)


def test_a_session_of_some_slots(run):
    slots = sorted(run("CLUSTER", "KEYSLOT", key) for key in ("a", "b"))
    run("HOTKEYS", "START", "METRICS", 2, "CPU", "NET", "SLOTS", 4, slots[0], 7, 8, slots[1])
    for key in ("a", "b", "c"):
        run("SET", key, "v")
    report = dictionary(run("HOTKEYS", "GET")[0])
    assert sorted(report[b"by-net-bytes"][::2]) == [b"a", b"b"]
    assert report[b"selected-slots"] == sorted([[7, 8], [slots[0]], [slots[1]]])
    assert report[b"net-bytes-all-commands-selected-slots"] == 2 * (27 + 5)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("", "METRICS parameter is required"),
        ("COUNT 5", "METRICS parameter is required"),
        ("METRICS 0", "METRICS count must be > 0 and <= 2"),
        ("METRICS 3 CPU NET", "METRICS count must be > 0 and <= 2"),
        ("METRICS 2 CPU", "METRICS count does not match number of metric types provided"),
        ("METRICS 2 CPU CPU", "METRICS CPU defined more than once!"),
        ("METRICS 1 GPU", "METRICS no valid metrics passed. Supported: CPU|NET"),
        ("METRICS 1 CPU NET", "syntax error"),
        ("METRICS 1 CPU COUNT 0", "COUNT must be between 1 and 64"),
        ("METRICS 1 CPU COUNT 65", "COUNT must be between 1 and 64"),
        ("METRICS 1 CPU DURATION 0", "DURATION must be between 1 and 1000000"),
        ("METRICS 1 CPU SAMPLE 0", "SAMPLE ratio must be positive"),
        ("METRICS 1 CPU SAMPLE", "syntax error"),
        ("METRICS 1 CPU SLOTS 2 5", "SLOTS count does not match number of slots provided"),
        ("METRICS 1 CPU SLOTS 1 16384", "Invalid or out of range slot"),
        ("METRICS 1 CPU SLOTS 2 5 5", "duplicate slot number"),
    ],
)
def test_sessions_that_do_not_begin(fails, run, words, text):
    assert fails("HOTKEYS", "START", *words.split()) == f"ERR {text}"
    assert run("HOTKEYS", "STOP") is None


def test_one_session_at_a_time(run, fails):
    # What is no metric yet may be one of a newer server.
    assert run("HOTKEYS", "START", "METRICS", 2, "GPU", "CPU") == "OK"
    assert fails("HOTKEYS", "START", "METRICS", 1, "NET") == "ERR hotkey tracking session already in progress"
    assert fails("HOTKEYS", "RESET") == "ERR hotkey tracking session in progress, stop tracking first"
    run("HOTKEYS", "STOP")
    assert run("HOTKEYS", "START", "METRICS", 1, "NET") == "OK"


def test_info_tells_of_a_session_and_of_memory(run):
    assert b"# Hotkeys" not in run("INFO")
    run("HOTKEYS", "START", "METRICS", 1, "NET")
    run("SET", "k", "v")
    shown = dict(line.split(":") for line in run("INFO", "hotkeys").decode().splitlines()[1:])
    assert (shown["tracking_active"], shown["sampling_ratio"]) == ("1", "1")
    assert 0 < int(shown["used_memory"]) < 4_000_000
    assert "cpu_time" in shown


# As the first Kora has it


def test_stats_hotkeys_are_pairs_most_accesses_first(run):
    times(run, 3, "GET", "b")
    times(run, 3, "SET", "a", "v")
    times(run, 5, "GET", "c")
    assert run("STATS.HOTKEYS", 10) == [[b"c", 5], [b"a", 3], [b"b", 3]]
    assert run("STATS.HOTKEYS", 1) == [[b"c", 5]]
    assert run("STATS.HOTKEYS", 0) == []


def test_stats_latency_of_any_command_in_milliseconds(run, fails):
    run("DEBUG", "SLEEP", "0.25")
    assert [float(text) for text in run("STATS.LATENCY", "debug", 99.9, 50)] == pytest.approx([250, 250], rel=0.01)
    assert run("STATS.LATENCY", "config|set", "50") == [b"0.000"]
    assert run("STATS.LATENCY", "LRANGE", 50, 50) == [b"0.000", b"0.000"]
    assert fails("STATS.LATENCY", "nonsense", 50) == "ERR Invalid command specified"
    assert fails("STATS.LATENCY", "get", 101) == "ERR percentile must be between 0 and 100"
    assert fails("STATS.LATENCY", "get", "x") == "ERR value is not a valid float"


def test_stats_memory_is_what_the_keys_of_a_prefix_take(run, clock):
    run("SET", "user:1", "x" * 100)
    run("SET", "user:2", "x" * 5_000)
    run("HSET", "order:1", "field", "value")
    run("SET", "user:gone", "v", "PX", 10)
    clock.advance_ms(20)
    users = run("MEMORY", "USAGE", "user:1") + run("MEMORY", "USAGE", "user:2")
    orders = run("MEMORY", "USAGE", "order:1")
    assert run("STATS.MEMORY", "user:", "order:", "", "no", "user:") == [users, orders, users + orders, 0, users]


def test_observation_that_is_off_for_a_while_does_not_upset_what_comes_after(make_engine):
    engine = make_engine("--hotkey-sampling-ratio", "2")
    run = runner(engine.connect())
    run("CONFIG", "SET", "observation", "no")
    for _ in range(100):
        run("SET", "k", "v")
    run("CONFIG", "SET", "observation", "yes")
    assert [run("GET", "k") for _ in range(100)] == [b"v"] * 100


def test_a_busy_server_looks_at_fewer_requests_until_it_has_been_quiet_for_a_second(make_engine):
    hot_keys = make_engine("--hotkey-sampling-ratio", "64").hot_keys
    assert hot_keys.ratio == 16
    hot_keys.adapt(10_000_000)
    assert hot_keys.ratio == 64
    for _ in range(9):
        hot_keys.adapt(0)
    assert hot_keys.ratio == 64
    hot_keys.adapt(0)
    assert hot_keys.ratio == 16
