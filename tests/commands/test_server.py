import re

import pytest

from kora.errors import CommandError
from tests.conftest import encode_request, runner


def refused(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


# CONFIG


def test_config_get_takes_several_patterns(run):
    assert run("CONFIG", "GET", "hz", "max*-policy") == [b"hz", b"10", b"maxmemory-policy", b"noeviction"]


def test_config_get_is_a_map_in_resp3(run, client):
    client.set_protocol(3)
    assert run("CONFIG", "GET", "hz", "nosuch") == {b"hz": b"10"}


def test_config_get_of_a_name_that_is_not_text_finds_nothing(run):
    assert run("CONFIG", "GET", b"\xff\xfe") == []


def test_config_set_changes_several_settings(run):
    assert run("CONFIG", "SET", "hz", "20", "maxmemory", "1mb") == "OK"
    assert run("CONFIG", "GET", "hz", "maxmemory") == [b"hz", b"20", b"maxmemory", b"1048576"]


def test_config_set_changes_nothing_if_one_pair_is_wrong(run):
    assert "hz" in refused(run, "CONFIG", "SET", "maxmemory", "1mb", "hz", "fast")
    assert run("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]


def test_config_set_of_an_odd_number_of_words_is_a_syntax_error(run):
    assert refused(run, "CONFIG", "SET", "hz", "20", "maxmemory") == "ERR syntax error"


def test_config_set_of_a_name_without_a_value_has_too_few_words(run):
    assert refused(run, "CONFIG", "SET", "hz") == "ERR wrong number of arguments for 'config|set' command"


def test_config_rewrite_writes_the_file(tmp_path, make_engine):
    path = tmp_path / "kora.toml"
    path.write_text("# mine\nhz = 10\n")
    run = runner(make_engine("--config", str(path)).connect())
    run("CONFIG", "SET", "hz", "30")
    assert run("CONFIG", "REWRITE") == "OK"
    assert path.read_text() == "# mine\nhz = 30\n"


def test_config_rewrite_without_a_file_is_refused(run):
    assert refused(run, "CONFIG", "REWRITE") == "ERR The server is running without a config file"


def test_config_resetstat_starts_counters_from_zero_and_leaves_keys_alone(run):
    run("SET", "k", "v")
    run("GET", "k")
    refused(run, "NOSUCH")
    assert run("CONFIG", "RESETSTAT") == "OK"
    text = run("INFO", "all").decode()
    assert "keyspace_hits:0\r\n" in text
    assert "errorstat" not in text
    assert "cmdstat_get" not in text
    assert "db0:keys=1," in text


# Databases


def test_dbsize_counts_the_selected_database(run):
    run("MSET", "a", "1", "b", "2")
    assert run("DBSIZE") == 2
    run("SELECT", "1")
    assert run("DBSIZE") == 0


def test_flushdb_leaves_other_databases_alone(run, engine):
    run("SET", "a", "1")
    engine.databases[1].set(b"b", b"2")
    assert run("FLUSHDB") == "OK"
    assert run("DBSIZE") == 0
    assert len(engine.databases[1]) == 1


@pytest.mark.parametrize("words", [(), ("ASYNC",), ("sync",)])
def test_flushall_empties_all_databases(run, engine, words):
    run("SET", "a", "1")
    engine.databases[3].set(b"b", b"2")
    assert run("FLUSHALL", *words) == "OK"
    assert engine.keys == 0
    assert run("GET", "a") is None


@pytest.mark.parametrize(
    ("flags", "words", "freed"),
    [
        ((), (), False),
        ((), ("ASYNC",), False),
        ((), ("SYNC",), True),
        (("--lazyfree-lazy-user-flush", "no"), (), True),
        (("--lazyfree-lazy-user-flush", "no"), ("ASYNC",), False),
    ],
)
def test_a_flush_frees_at_once_if_told_so_by_its_word_or_by_the_setting(make_engine, flags, words, freed):
    engine = make_engine(*flags)
    run = runner(engine.connect())
    run("SET", "a", "1")
    run("FLUSHALL", *words)
    assert (engine.memory_bytes == 0) == freed
    assert ("lazyfree_pending_objects:0" in run("INFO", "memory").decode()) == freed


@pytest.mark.parametrize("words", [("NOW",), ("ASYNC", "SYNC"), ("SYNC", "SYNC")])
def test_flushall_knows_no_other_words(run, words):
    assert refused(run, "FLUSHALL", *words) == "ERR syntax error"


def test_swapdb_exchanges_contents_under_the_clients(run):
    run("SET", "k", "zero")
    assert run("SWAPDB", "0", "1") == "OK"
    assert run("GET", "k") is None
    run("SWAPDB", "0", "0")
    run("SELECT", "1")
    assert run("GET", "k") == b"zero"


def test_swapdb_tells_which_index_is_no_number(run):
    assert refused(run, "SWAPDB", "x", "1") == "ERR invalid first DB index"
    assert refused(run, "SWAPDB", "1", "x") == "ERR invalid second DB index"
    assert refused(run, "SWAPDB", "0", "16") == "ERR DB index is out of range"


# Memory


def test_memory_usage_is_what_used_memory_grows_by(run, engine):
    run("SET", "k", "x" * 1000, "EX", "10")
    usage_bytes = run("MEMORY", "USAGE", "k")
    # The kernel also counts the first table of the slot, which has room for more keys.
    assert 0 <= engine.memory_bytes - usage_bytes <= 64
    assert run("MEMORY", "USAGE", "k", "SAMPLES", "0") == usage_bytes


def test_memory_usage_of_a_missing_key_is_null(run):
    assert run("MEMORY", "USAGE", "k") is None


@pytest.mark.parametrize("words", [("SAMPLES",), ("SAMPLES", "-1"), ("DEPTH", "1"), ("SAMPLES", "1", "SAMPLES")])
def test_memory_usage_knows_only_samples(run, words):
    assert refused(run, "MEMORY", "USAGE", "k", *words) == "ERR syntax error"


def test_help_of_containers_lists_their_subcommands(run):
    lines = run("CONFIG", "HELP")
    assert lines[0] == "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    assert {"GET parameter [parameter ...]", "HELP", "RESETSTAT", "REWRITE"} <= set(lines)
    assert "USAGE key [SAMPLES count]" in run("MEMORY", "HELP")


# The server


def test_time_is_that_of_the_wall_clock(run, clock):
    clock.advance_ns(123_456_000)
    assert run("TIME") == [b"1700000000", b"123456"]


def test_role_is_that_of_a_master_without_replicas(run):
    assert run("ROLE") == [b"master", 0, []]


def test_lolwut_draws_and_tells_the_version(run):
    *art, last = run("LOLWUT").decode().splitlines()
    assert re.fullmatch(r"Kora ver\. \d+\.\d+\.\d+", last)
    assert max(map(len, art)) < 80
    assert refused(run, "LOLWUT", "VERSION", "x") == "ERR value is not an integer or out of range"


@pytest.mark.parametrize("words", [(), ("NOSAVE",), ("NOW", "force"), ("nosave", "NOW")])
def test_shutdown_stops_the_server_without_a_reply(client, engine, words):
    stops = []
    engine.shutdown = lambda saves: stops.append("stop")
    assert client.engine.execute(client, encode_request(("SHUTDOWN", *words))) == b""
    assert stops == ["stop"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ABORT",), "ERR No shutdown in progress."),
        (("ABORT", "NOW"), "ERR syntax error"),
        (("SAVE", "NOSAVE"), "ERR syntax error"),
        (("LATER",), "ERR syntax error"),
    ],
)
def test_shutdown_that_cannot_be_goes_on_serving(run, engine, words, message):
    engine.shutdown = lambda saves: pytest.fail("the server was stopped")
    assert refused(run, "SHUTDOWN", *words) == message
    assert run("PING") == "PONG"
