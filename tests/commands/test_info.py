import os
import re

import pytest

from kora import REDIS_VERSION, __version__
from kora.engine.loading import Loading
from kora.errors import CommandError
from kora.observe.units import human_bytes
from tests.conftest import encode_request

DEFAULT = [
    "Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Errorstats", "Cluster", "Keyspace",
]  # fmt: skip
ALL = [
    *DEFAULT[:7], "Commandstats", "Errorstats", "Latencystats", "Cluster", "Keyspace", "Keysizes", "Events", "Hotkeys",
]  # fmt: skip


def titles(text):
    return [line[2:] for line in text.decode().split("\r\n") if line.startswith("# ")]


def fields(run, *sections):
    lines = run("INFO", *sections).decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), DEFAULT),
        (("default",), DEFAULT),
        (("ALL",), [title for title in ALL if title != "Hotkeys"]),
        (("everything",), ALL),
        (("keyspace", "Server", "keyspace"), ["Server", "Keyspace"]),
        (("default", "commandstats"), [*DEFAULT[:7], "Commandstats", *DEFAULT[7:]]),
        (("latencystats",), ["Latencystats"]),
        (("nosuch",), []),
    ],
)
def test_info_shows_the_sections_asked_for_in_its_own_order(run, words, expected):
    assert titles(run("INFO", *words)) == expected


def test_info_of_an_unknown_section_is_empty(run):
    assert run("INFO", "nosuch") == b""


def test_info_is_lines_that_end_in_crlf_with_an_empty_one_between_sections(run):
    assert run("INFO", "replication", "cluster") == (
        b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_repl_offset:0\r\n\r\n"
        b"# Cluster\r\ncluster_enabled:0\r\n"
    )
    text = run("INFO", "everything")
    assert text.count(b"\n") == text.count(b"\r\n")
    assert all(re.match(rb"# \w+$|[\w.|-]+:", line) for line in text.split(b"\r\n") if line)


def test_info_is_verbatim_text_in_resp3(run, client):
    client.set_protocol(3)
    assert run("INFO", "cluster") == b"# Cluster\r\ncluster_enabled:0\r\n"


def test_info_tells_both_versions_and_who_answers(run, engine):
    server = fields(run, "server")
    assert server["redis_version"] == REDIS_VERSION
    assert server["kora_version"] == __version__
    assert server["kernel"] == engine.kernel
    assert server["run_id"] == engine.run_id
    assert server["process_id"] == str(os.getpid())


def test_info_tells_the_settings_in_force(run):
    run("CONFIG", "SET", "hz", "50", "maxmemory", "100mb", "maxclients", "77")
    shown = fields(run)
    assert (shown["hz"], shown["maxmemory"], shown["maxmemory_human"]) == ("50", "104857600", "100.00M")
    assert (shown["maxclients"], shown["tcp_port"], shown["maxmemory_policy"]) == ("77", "6379", "noeviction")


def test_uptime_follows_the_clock(run, clock):
    clock.advance_ms(3 * 86_400_000 + 5_000)
    assert fields(run, "server")["uptime_in_seconds"] == "259205"
    assert fields(run, "server")["uptime_in_days"] == "3"


def test_loading_is_shown_while_it_goes_on(run, engine, clock):
    engine.set_loading(Loading(clock, 1000))
    assert fields(run, "persistence")["loading"] == "1"
    engine.set_loading(None)
    assert fields(run, "persistence")["loading"] == "0"


def test_used_memory_has_a_peak(run):
    run("SET", "k", "x" * 100_000)
    high = int(fields(run, "memory")["used_memory"])
    assert high > 100_000
    run("DEL", "k")
    memory = fields(run, "memory")
    assert int(memory["used_memory"]) == 0
    assert int(memory["used_memory_peak"]) == high
    assert memory["used_memory_peak_perc"] == "0.00%"
    assert int(memory["used_memory_rss"]) > 1_000_000


def test_total_system_memory_is_that_of_meminfo(run):
    with open("/proc/meminfo") as file:
        kilobytes = int(file.readline().split()[1])
    assert fields(run, "memory")["total_system_memory"] == str(kilobytes * 1024)


def test_keyspace_shows_each_database_that_holds_keys(run):
    run("SET", "a", "1")
    run("SET", "b", "1", "EX", "100")
    run("SELECT", "3")
    run("SET", "c", "1")
    run("SELECT", "5")
    run("GET", "c")
    keyspace = fields(run, "keyspace")
    assert list(keyspace) == ["db0", "db3"]
    assert keyspace["db0"].startswith("keys=2,expires=1,avg_ttl=")
    assert keyspace["db3"] == "keys=1,expires=0,avg_ttl=0"


def test_stats_count_hits_misses_errors_and_bytes(run):
    run("SET", "k", "v")
    run("GET", "k")
    run("GET", "none")
    with pytest.raises(CommandError):
        run("INCR", "k")
    stats = fields(run, "stats")
    assert (stats["keyspace_hits"], stats["keyspace_misses"], stats["total_error_replies"]) == ("1", "1", "1")
    assert (stats["total_commands_processed"], stats["total_connections_received"]) == ("4", "1")
    assert int(stats["total_net_input_bytes"]) > 80
    assert int(stats["total_net_output_bytes"]) > 15


def test_operations_per_second_are_those_of_the_last_moments(run, clock, engine):
    for _ in range(20):
        for _ in range(10):
            run("PING")
        clock.advance_ms(100)
        engine.tick()
    stats = fields(run, "stats")
    assert stats["instantaneous_ops_per_sec"] == "100"
    assert stats["instantaneous_input_kbps"] == f"{100 * 14 / 1024:.2f}"
    assert stats["instantaneous_output_kbps"] == f"{100 * 7 / 1024:.2f}"
    for _ in range(20):
        clock.advance_ms(100)
        engine.tick()
    assert fields(run, "stats")["instantaneous_ops_per_sec"] == "0"


def test_rates_never_fall_below_zero_when_counters_are_reset(run, clock, engine):
    run("PING")
    clock.advance_ms(100)
    engine.tick()
    run("CONFIG", "RESETSTAT")
    clock.advance_ms(100)
    engine.tick()
    assert int(fields(run, "stats")["instantaneous_ops_per_sec"]) >= 0


def test_commandstats_have_redis_format(run, client, engine, clock):
    run("DEBUG", "SLEEP", "0.001234")
    with pytest.raises(CommandError):
        run("DEBUG", "NOSUCH")
    with pytest.raises(CommandError):
        run("DEBUG")
    run("CONFIG", "GET", "hz")
    stats = fields(run, "commandstats")
    assert stats["cmdstat_debug"] == "calls=2,usec=1234,usec_per_call=617.00,rejected_calls=1,failed_calls=1"
    assert stats["cmdstat_config|get"] == "calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0"
    assert "cmdstat_get" not in stats


def test_keysizes_are_counted_by_powers_of_two_as_in_redis_8(run):
    assert run("INFO", "keysizes") == b"# Keysizes\r\n"
    for number, value in enumerate(("", "1", "22", "123", "-1000000", "v" * 1023, "v" * 1024, "v" * 100_000)):
        run("SET", f"string{number}", value)
    run("RPUSH", "list", *range(9))
    run("SADD", "set", "a", "b", "c")
    run("ZADD", "zset", 1, "a")
    run("HSET", "hash", "field", "value")
    run("XADD", "stream", "1-1", "name", "value")
    assert fields(run, "keysizes") == {
        "db0_distrib_strings_sizes": "0=1,1=1,2=2,8=1,512=1,1K=1,64K=1",
        "db0_distrib_lists_items": "8=1",
        "db0_distrib_sets_items": "2=1",
        "db0_distrib_zsets_items": "1=1",
        "db0_distrib_hashes_items": "1=1",
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("RPOP list", {"lists_items": "4=1"}),
        ("RPUSH list a b c d e f g h i j k", {"lists_items": "16=1"}),
        ("RENAME list other", {"lists_items": "8=1"}),
        ("COPY list other", {"lists_items": "8=2"}),
        ("SET list 1234567", {"strings_sizes": "4=1"}),
        ("LTRIM list 1 0", {}),
        ("UNLINK list", {}),
        ("FLUSHDB", {}),
        ("PEXPIREAT list 1", {}),
    ],
)
def test_keysizes_follow_every_change(run, words, expected):
    run("RPUSH", "list", *range(8))
    run(*words.split())
    assert fields(run, "keysizes") == {f"db0_distrib_{name}": bins for name, bins in expected.items()}


def test_keysizes_follow_a_string_as_it_grows_and_counts(run):
    run("INCRBY", "k", "999")
    shown = []
    for words in ("INCR k", "APPEND k 0000", "SETRANGE k 2000 x", "SETBIT k 300000 1", "APPEND k x", "GETSET k x"):
        run(*words.split())
        shown.append(fields(run, "keysizes")["db0_distrib_strings_sizes"])
    assert shown == ["4=1", "8=1", "1K=1", "32K=1", "32K=1", "1=1"]


def test_keysizes_are_those_of_each_database(run):
    run("SET", "k", "v")
    run("MOVE", "k", "3")
    assert fields(run, "keysizes") == {"db3_distrib_strings_sizes": "1=1"}
    run("SWAPDB", "3", "5")
    run("SET", "other", "value")
    assert fields(run, "keysizes") == {"db0_distrib_strings_sizes": "4=1", "db5_distrib_strings_sizes": "1=1"}
    run("FLUSHALL")
    assert fields(run, "keysizes") == {}


def test_latencystats_have_redis_format_in_microseconds(run):
    for _ in range(99):
        run("DEBUG", "SLEEP", "0")
    run("DEBUG", "SLEEP", "0.001")
    text = fields(run, "latencystats")["latency_percentiles_usec_debug"]
    assert re.fullmatch(r"p50=\d+\.\d{3},p99=\d+\.\d{3},p99\.9=\d+\.\d{3}", text)
    values = [float(part.partition("=")[2]) for part in text.split(",")]
    assert values[:2] == [0, 0]
    assert values[2] == pytest.approx(1000, rel=0.01)


def test_errorstats_are_counted_by_the_first_word(run):
    for words in (["NOSUCH"], ["NOSUCH"], ["DEBUG", "ERROR", "WEIRD:x\xff thing"]):
        with pytest.raises(CommandError):
            run(*words)
    stats = fields(run, "errorstats")
    assert stats["errorstat_ERR"] == "count=2"
    assert stats["errorstat_WEIRD_x\xff"] == "count=1"


def test_an_error_that_is_not_text_does_not_break_info(run):
    with pytest.raises(CommandError):
        run("DEBUG", "ERROR", b"\xff\xfe happens")
    assert b"errorstat_\xff\xfe:count=1" in run("INFO", "errorstats")


def test_paused_clients_are_blocked_clients(run, engine):
    engine.pause(engine.clock.wall_ms() + 1_000, writes_only=True)
    other = engine.connect()
    other.engine.execute(other, encode_request(("SET", "k", "v")))
    assert fields(run, "clients")["blocked_clients"] == "1"


def test_tools_find_what_they_read(run):
    # redis-cli --stat, and what dashboards of redis_exporter must not miss (spec/exporter, section 4).
    wanted = (
        "used_memory connected_clients blocked_clients total_commands_processed total_connections_received loading "
        "rdb_bgsave_in_progress aof_rewrite_in_progress uptime_in_seconds maxmemory keyspace_hits keyspace_misses "
        "total_net_input_bytes total_net_output_bytes expired_keys evicted_keys used_memory_rss connected_slaves role "
        "mem_fragmentation_ratio total_system_memory redis_mode rejected_connections maxclients"
    )
    assert not set(wanted.split()) - set(fields(run))


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1536, "1.50K"), (1 << 20, "1.00M"), (3 << 30, "3.00G"),
     (1 << 40, "1.00T"), (1 << 50, "1.00P")],
)  # fmt: skip
def test_sizes_for_people(size_bytes, text):
    assert human_bytes(size_bytes) == text
