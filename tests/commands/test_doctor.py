import json

import pytest

from kora.errors import CommandError
from kora.observe.doctor_rules import RULES
from kora.observe.recent import Unread


def report(run, *words):
    return json.loads(run("DOCTOR", "JSON", *words))


def ids(run, *words):
    return [finding["id"] for finding in report(run, *words)["findings"]]


def quiet_for(clock, run, seconds):
    for _ in range(seconds):
        clock.advance_ms(1_000)
        run("PING")


def test_a_server_of_which_nothing_is_wrong_is_said_to_be_well(run):
    assert run("DOCTOR").startswith(b"Nothing is wrong")
    assert run("DOCTOR", "TEXT", "LAST", "60") == run("DOCTOR")
    assert report(run)["findings"] == []


def test_a_slow_command_is_found_and_forgotten_after_ten_seconds(run, clock, client):
    client.name = b"batch"
    run("DEBUG", "SLEEP", "0.5")
    (finding,) = report(run)["findings"]
    assert (finding["id"], finding["severity"]) == ("slow-command", "critical")
    assert finding["culprit"] == {
        "command": "debug", "key": "", "client": "127.0.0.1:50000", "client_name": "batch", "slowlog_id": 0,
    }  # fmt: skip
    assert finding["run"] == "CLIENT KILL ADDR 127.0.0.1:50000"
    assert b"slow-command (critical): DEBUG was called once and took 500 ms in all" in run("DOCTOR")
    assert b"slow-command (critical)" in run("LATENCY", "DOCTOR")
    quiet_for(clock, run, 11)
    assert ids(run) == []
    assert ids(run, "LAST", "60") == ["slow-command"]
    quiet_for(clock, run, 60)
    assert ids(run, "LAST", "60") == []


def test_who_looks_again_and_again_is_no_finding(run, engine, clock):
    slot = engine.registry.named(b"doctor|json").slot
    for _ in range(10):
        engine.shards[0].stats.commands[slot].record(400_000_000)
    clock.advance_ms(1_000)
    assert ids(run) == []


def test_wrong_types_have_a_key_and_a_client(run, connect):
    run("SET", "k", "v")
    other = connect()
    for _ in range(20):
        other.send("LPUSH", "k", "v")
    (finding,) = report(run)["findings"]
    assert (finding["id"], finding["run"]) == ("failing-commands", "TYPE k")
    assert finding["culprit"]["command"] == "lpush"
    assert (finding["culprit"]["key"], finding["culprit"]["client"]) == ("k", "127.0.0.1:50001")


def test_wrong_types_in_a_script_are_its_callers(run):
    run("SET", "k", "v")
    run("EVAL", "for i = 1, 20 do redis.pcall('SADD', 'k', 'v') end", 0)
    (finding,) = report(run)["findings"]
    assert (finding["culprit"]["command"], finding["culprit"]["client"]) == ("sadd", "127.0.0.1:50000")


def test_requests_that_are_refused_count_whatever_they_lack(run):
    for _ in range(20):
        with pytest.raises(CommandError):
            run("GET")
        with pytest.raises(CommandError):
            run("NOPE", "k")
    assert ids(run) == ["failing-commands", "failing-commands"]


def test_failed_logins_have_an_address(run, connect):
    for _ in range(10):
        connect().send("AUTH", "someone", "secret")
    (finding,) = report(run)["findings"]
    assert (finding["id"], finding["culprit"]["client"]) == ("failed-logins", "127.0.0.1:50001")
    assert "10 of them came from 127.0.0.1." in finding["evidence"]["text"]


def test_a_client_that_does_not_read_is_found_until_it_does(run, engine, connect, clock):
    other = connect().client
    waiting = [1_000_000]
    other.output_bytes = lambda: waiting[0]
    engine.recent.unread[other.id] = Unread(clock.monotonic_ns(), 1_000_000)
    quiet_for(clock, run, 3)
    assert ids(run) == ["client-not-reading"]
    waiting[0] -= 1
    quiet_for(clock, run, 1)
    assert ids(run) == []
    quiet_for(clock, run, 2)
    assert ids(run) == ["client-not-reading"]
    engine.forget(other)
    assert ids(run) == []


def test_a_disk_that_is_slow_is_found_by_its_event(run, engine, clock):
    engine.slowness.note_event("rdb-save", 150_000_000)
    (finding,) = report(run)["findings"]
    assert finding["id"] == "slow-disk"
    assert "Writing a snapshot while nobody is served" in finding["evidence"]["text"]
    quiet_for(clock, run, 12)
    assert ids(run) == []


def test_tracked_values_that_cannot_be_written_are_found_until_they_are(run, engine, clock):
    run("TRACK", "m", "3")
    run("SET", "big", "x" * 100_000)
    run("CONFIG", "SET", "maxmemory", "50000")
    clock.advance_ms(120_000)
    engine.tracked.flush_some(10**12)
    assert "events-behind" in ids(run)
    assert b"1 sum of tracked values waits in memory" in run("DOCTOR")
    run("CONFIG", "SET", "maxmemory", "0")
    clock.advance_ms(1_000)
    engine.tracked.flush_some(10**12)
    assert "events-behind" not in ids(run)


def test_a_monitor_is_found(run, connect):
    connect().send("MONITOR")
    assert ids(run) == ["monitor"]


def test_a_large_pipeline_is_its_clients(run, engine, connect):
    client = connect().client
    for _ in range(50):
        engine.note_full_turn(client, 20_000_000)
    (finding,) = report(run)["findings"]
    assert (finding["id"], finding["run"]) == ("large-pipeline", f"CLIENT KILL ID {client.id}")


def test_turns_are_full_where_hundreds_of_commands_have_more_behind_them(engine, client):
    pings = b"*1\r\n$4\r\nPING\r\n"
    engine.execute(client, pings * 255)
    engine.execute(client, pings * 300)
    assert not engine.recent._deeds.get("turns")
    engine.execute(client, pings * 5_000)
    assert engine.recent._deeds["turns"][str(client.id)].count == 1


def test_seconds_are_between_1_and_60(run):
    for seconds in ("0", "61", "-1"):
        with pytest.raises(CommandError, match=r"^ERR seconds must be between 1 and 60$"):
            run("DOCTOR", "JSON", "LAST", seconds)
    for words in (("LAST",), ("LAST", "1", "2"), ("FIRST", "1")):
        with pytest.raises(CommandError, match=r"^ERR syntax error$"):
            run("DOCTOR", "TEXT", *words)
    with pytest.raises(CommandError, match=r"^ERR unknown subcommand 'nope'"):
        run("DOCTOR", "nope")


def test_help_has_the_subcommands_and_the_rules(run):
    lines = run("DOCTOR", "HELP")
    assert "JSON [LAST seconds]" in lines
    assert all(f"    {rule.id}" in lines and f"        {rule.when}" in lines for rule in RULES)


def test_a_report_is_verbatim_text_in_resp3(run, client):
    client.set_protocol(3)
    assert run("DOCTOR").startswith(b"Nothing is wrong")


def test_strings_of_errors_that_clients_make_up_take_no_memory(run, engine):
    run("EVAL", "for i = 1, 1000 do redis.pcall('EVAL', 'x', '0') end", 0)
    for number in range(300):
        for text in (f"E{number} x", f"{'x' * 30}{number} x", f"{number}{'y' * 100_000}"):
            with pytest.raises(CommandError):
                run("EVAL", "return redis.error_reply(ARGV[1])", 0, text)
    assert len(engine.errors) <= 130
    assert max(map(len, engine.errors)) <= 30
    assert engine.errors["ERR"] >= 600, "a first word of more than 30 is none, as in Redis"
    assert sum(len(name) for deeds in engine.recent._deeds.values() for name in deeds) < 10_000


def test_resetstat_zeroes_what_info_counts(run, engine, connect, clock):
    run("SET", "k", "v", "PX", "1")
    for _ in range(3):
        clock.advance_ms(200)
        run("GET", "k")
    with pytest.raises(CommandError):
        run("LPUSH", "k")
    engine.connections_rejected = engine.protocol_errors = engine.internal_errors = 1
    engine.loop.record_lag(5_000_000)
    run("CONFIG", "RESETSTAT")
    fields = dict(line.split(":", 1) for line in run("INFO", "stats").decode().splitlines() if ":" in line)
    kept = {
        "reads_processed",
        "total_commands_processed",
        "total_net_input_bytes",
        "total_net_output_bytes",
        "eventloop_turn_max_usec",
    }
    counted = {name for name, value in fields.items() if value not in ("0", "0.00")}
    assert counted <= kept | {name for name in fields if name.startswith(("pubsub", "acl_access"))}
    assert run("INFO", "errorstats") == b"# Errorstats\r\n"
    assert b"cmdstat_set" not in run("INFO", "commandstats")
