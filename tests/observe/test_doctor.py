"""The rules on made-up facts; on a real server, and with real faults: tests/faults/test_doctor.py."""

import json
from dataclasses import replace

import pytest

from kora.observe.blame import Culprit, Inflicted
from kora.observe.commandlog import Entry
from kora.observe.doctor import (
    Facts,
    Finding,
    HotKeyFact,
    Reader,
    RunningScript,
    SlowRequest,
    memory_text,
    to_json,
    to_text,
)
from kora.observe.doctor_rules import RULES, argument, examine, help_lines
from kora.observe.recent import CONNECTIONS, ENDED, ERRORS, LOGINS, TURNS, Deed, Second
from kora.observe.spikes import Offender, Sample

pytestmark = pytest.mark.once

MS = 1_000_000
S = 1_000_000_000
STOP_MS = 1_700_000_000_000
BATCH = Offender("lrange", b"big", "10.0.0.7:4000", b"batch", 5)


def facts(grown=None, deeds=None, keys=10_000, elapsed_s=10, **others):
    """Of seconds that are all alike: what they have grown by, and who did what, is given for one."""
    seconds = [
        Second(at * S, (at + 1) * S, at * 1_000, dict(grown or {}), dict(deeds or {}), keys) for at in range(elapsed_s)
    ]
    return Facts(seconds, STOP_MS, **others)


def command(name, calls, elapsed_ms):
    return {("calls", name): calls, ("elapsed_ns", name): elapsed_ms * MS}


def found(given, **settings):
    return [(finding.id, finding.severity) for finding in examine(given, **settings)]


def only(given) -> Finding:
    findings = examine(given)
    assert len(findings) == 1, [finding.id for finding in findings]
    return findings[0]


def slow(offender=BATCH, elapsed_ms=50):
    return SlowRequest(STOP_MS // 1_000, elapsed_ms * MS, offender)


def total(**counts):
    return {("total", name): count for name, count in counts.items()}


def deed(kind, name, count, elapsed_ms=0, offender=BATCH):
    return {(kind, name): Deed(count, elapsed_ms * MS, offender)}


def test_where_nothing_happens_nothing_is_found():
    quiet = facts()
    assert examine(quiet) == []
    assert to_text(quiet, []) == "Nothing is wrong, as far as the last 10 s until 22:13:20 UTC can tell.\n"


def test_a_slow_command_has_its_culprit_and_what_ends_it():
    given = facts(
        command("lrange", 1, 50) | command("get", 10_000, 40),
        slow=[slow()],
        addresses={BATCH.address: 3},
        fast=frozenset(("get",)),
        complexity={"lrange": "O(S+N)."},
    )
    finding = only(given)
    assert (finding.id, finding.severity, finding.culprit) == ("slow-command", "warning", BATCH)
    assert (finding.run, finding.cures) == ("CLIENT KILL ADDR 10.0.0.7:4000", True)
    assert finding.evidence.startswith("LRANGE was called 10 times and took 500 ms in all, 5% of the time")
    assert finding.numbers == {"calls": 10, "elapsed_ms": 500, "share": 0.05, "mean_ms": 50.0, "longest_ms": 50.0}
    assert "O(S+N)." in finding.why


def test_what_others_waited_is_part_of_the_evidence():
    waits = [Inflicted(Culprit("lrange", b"big"), 30, 2 * S), Inflicted(Culprit("lrange"), 1, S // 2)]
    finding = only(facts(command("lrange", 1, 50), blame=[*waits, Inflicted(Culprit("get"), 9, S)]))
    assert finding.evidence.endswith(" Others waited 2.5 s for it together, 31 times.")
    assert (finding.numbers["inflicted_ms"], finding.numbers["victims"]) == (2_500, 31)


def test_many_clients_that_are_slow_are_looked_at_and_not_killed():
    other = replace(BATCH, address="10.0.0.8:4000")
    given = facts(command("lrange", 1, 50), slow=[slow(), slow(other, 60)], addresses={BATCH.address: 3})
    assert (only(given).run, only(given).cures) == ("SLOWLOG GET 10", False)
    assert only(given).culprit == other, "the one that took most"


def test_a_slow_command_is_severe_from_a_quarter_of_the_time_or_a_second_at_once():
    assert found(facts(command("sort", 1, 249))) == [("slow-command", "warning")]
    assert found(facts(command("sort", 1, 250))) == [("slow-command", "critical")]
    once = SlowRequest(1, S, Offender("sort"))
    assert found(facts(command("sort", 1, 101), slow=[once])) == [("slow-command", "critical")]


@pytest.mark.parametrize(("calls", "elapsed_ms"), [(1, 4), (100, 190)])
def test_commands_that_take_little_together_or_each_are_no_finding(calls, elapsed_ms):
    assert found(facts(command("lrange", calls, elapsed_ms))) == []


def test_what_the_machine_took_away_is_not_the_commands_doing():
    grown = command("lrange", 1, 50) | total(processor_ns=20 * MS, processor_wait_ns=180 * MS)
    assert found(facts(grown)) == [("slow-command", "warning")]  # 50 ms are its own
    assert found(facts(grown, elapsed_s=9)) == []
    grown = command("lrange", 1, 50) | total(processor_ns=100 * MS, processor_wait_ns=300 * MS)
    assert found(facts(grown)) == [("slow-command", "warning"), ("busy-machine", "warning")]


def test_short_calls_that_add_up_are_known_by_their_key():
    client = Offender("", b"", "10.0.0.9:1", b"")
    hot = HotKeyFact(b"big", 100, 0.01, 10.0, 400 * MS, client, 9, 1.0)
    finding = only(facts(command("lrange", 10, 50), hot_by_cpu=[hot], addresses={client.address: 9}))
    assert finding.culprit == replace(client, command="lrange", key=b"big")
    assert finding.run == "CLIENT KILL ADDR 10.0.0.9:1"


def test_flushing_in_the_foreground_has_its_own_remedy_until_it_is_taken():
    grown = command("flushall", 1, 100)
    finding = only(facts(grown, settings={"lazyfree-lazy-user-flush": False}))
    assert (finding.id, finding.run, finding.cures) == ("slow-flush", "CONFIG SET lazyfree-lazy-user-flush yes", True)
    assert found(facts(grown, settings={"lazyfree-lazy-user-flush": True})) == [("slow-command", "warning")]


def test_a_script_that_goes_on_is_the_worst_there_is():
    given = facts(command("eval", 1, 300), script=RunningScript("FUNCTION", 7 * S, BATCH))
    finding = only(given)
    assert (finding.id, finding.severity, finding.run) == ("long-script", "critical", "FUNCTION KILL")
    assert found(facts(command("fcall", 1, 100))) == [("long-script", "warning")]


def test_a_hot_key_has_a_fifth_of_a_thousand_accesses():
    client = Offender("get", b"", "10.0.0.9:1", b"web")
    hot = HotKeyFact(b"front page", 5_000, 0.2, 1_000.0, 0, client, 9, 0.9)
    finding = only(facts(hot=[hot]))
    assert (finding.id, finding.culprit.key, finding.run) == ("hot-key", b"front page", "CLIENT KILL ID 9")
    assert only(facts(hot=[replace(hot, client_share=0.5)])).run == "HOTKEYS TOP 10 LAST 10"
    assert found(facts(hot=[replace(hot, share=0.19)])) == []
    assert found(facts(hot=[replace(hot, rate=999.0)])) == []


@pytest.mark.parametrize(
    ("event", "settings", "run", "cures"),
    [
        ("aof-fsync-always", {"appendfsync": "always"}, "CONFIG SET appendfsync everysec", True),
        ("aof-fsync-always", {"appendfsync": "everysec"}, "INFO persistence", False),
        (
            "aof-write-active-child",
            {"no-appendfsync-on-rewrite": False},
            "CONFIG SET no-appendfsync-on-rewrite yes",
            True,
        ),
        ("rdb-unlink-temp-file", {}, "INFO persistence", False),
    ],
)
def test_a_slow_disk_is_found_by_its_events(event, settings, run, cures):
    samples = [Sample(STOP_MS // 1_000 - 1, 40, Offender()), Sample(STOP_MS // 1_000, 60, BATCH)]
    given = facts(spikes={event: samples, "command": samples}, settings=settings)
    finding = only(given)
    assert (finding.id, finding.severity, finding.run, finding.cures) == ("slow-disk", "warning", run, cures)
    assert finding.culprit == BATCH and event in finding.evidence
    assert found(replace(given, spikes={event: samples[1:]})) == []
    assert found(replace(given, spikes={event: [Sample(1, 1_000, Offender())]})) == [("slow-disk", "critical")]


def test_keys_that_end_together_are_told_from_those_that_end_evenly():
    at_once = facts(total(expired=1_200), deed(ENDED, "session:*", 3, offender=Offender()), keys=10_000, elapsed_s=1)
    finding = only(at_once)
    assert (finding.id, finding.culprit.key) == ("mass-expiry", b"session:*")
    assert found(facts(total(expired=1_200), keys=20_000)) == []
    assert found(facts(total(expired=999), keys=10)) == []
    assert found(facts(total(expired=1_200) | {("jobs", "expire-cycle"): 100 * MS}, keys=20_000)) == [
        ("mass-expiry", "warning")
    ]


def test_a_cache_whose_keys_do_not_stay_needs_more_memory():
    numbers = {"keys": 1_000, "maxmemory_bytes": 1 << 20, "system_bytes": 1 << 30}
    grown = total(evicted=10) | {("writes", "set"): 20, ("writes", "expire"): 3}
    finding = only(facts(grown, numbers=numbers))
    assert (finding.id, finding.run, finding.cures) == ("eviction-thrash", "CONFIG SET maxmemory 2097152", True)
    assert finding.culprit.command == "set"
    assert found(facts(grown, numbers=numbers | {"keys": 1_001})) == []
    small = facts(grown, numbers=numbers | {"system_bytes": 1 << 21})
    assert (only(small).run, only(small).cures) == ("MEMORY STATS", False)


def test_writes_that_are_refused_are_critical():
    given = facts({("errors", "OOM"): 1}, deed(ERRORS, "OOM set", 1, offender=Offender("set", b"k")))
    finding = only(given)
    assert (finding.id, finding.severity, finding.culprit.key) == ("out-of-memory", "critical", b"k")
    assert found(facts({("errors", "MISCONF"): 1})) == [("writes-refused", "critical")]
    assert found(facts(numbers={"save_failed": 1, "changes_unsaved": 3})) == [("failed-save", "critical")]
    assert found(facts(total(internal_errors=1))) == [("internal-errors", "critical")]


def test_an_audit_log_that_cannot_be_written_or_holds_clients_up_is_critical():
    full = {"audit_fault": 28, "audit_queue_bytes": 50, "audit_limit_bytes": 100, "audit_clients_wait": 0}
    finding = only(facts(numbers=full))
    assert (finding.id, finding.severity, finding.run) == ("audit-log", "critical", "AUDIT STATUS")
    assert "No space left on device" in finding.evidence
    assert "full to 50%" in finding.evidence
    finding = only(facts(numbers=full | {"audit_clients_wait": 1}))
    assert (finding.run, finding.cures) == ("CONFIG SET audit-on-full drop", True)
    assert "wait" in finding.evidence
    assert found(facts(total(audit_dropped=7))) == [("audit-log", "critical")]
    assert found(facts(numbers=full | {"audit_fault": 0})) == []


def test_tracked_values_that_are_not_written_in_time_are_found_and_critical_once_some_are_dropped():
    finding = only(facts(numbers={"tracked_behind_ms": 42_000, "tracked_waiting": 7}))
    assert (finding.id, finding.severity, finding.run) == ("events-behind", "warning", "INFO events")
    assert finding.evidence == (
        "7 sums of tracked values wait in memory, the oldest of which should have been written 42 s ago."
    )
    finding = only(facts(total(tracked_dropped=3), numbers={"tracked_behind_ms": 0, "tracked_waiting": 1}))
    assert (finding.id, finding.severity) == ("events-behind", "critical")
    assert finding.evidence == "1 sum of tracked values waits in memory; 30 values were dropped for want of room."
    assert found(facts(numbers={"tracked_behind_ms": 0, "tracked_waiting": 7})) == []


def test_a_storm_of_connections_has_its_host():
    given = facts(total(connections=100), deed(CONNECTIONS, "10.0.0.7", 90, offender=Offender()))
    finding = only(given)
    assert (finding.id, finding.culprit.address) == ("connection-storm", "10.0.0.7")
    assert found(facts(total(connections=99))) == []
    assert found(facts(total(connections=100), elapsed_s=2, wanted_s=10)) == [], "all come when the server has started"


def test_places_for_clients_are_found_short_before_there_are_none():
    numbers = {"clients": 90, "clients_max": 100}
    assert found(facts(numbers=numbers)) == [("connections-rejected", "warning")]
    assert found(facts(numbers=numbers | {"clients": 89})) == []
    finding = only(facts(total(rejected=1), numbers=numbers | {"clients": 3}))
    assert (finding.severity, finding.run) == ("critical", "CONFIG SET maxclients 200")


def test_logins_that_fail_are_somebodys():
    given = facts(total(denied_auth=1), deed(LOGINS, "10.0.0.7", 1), addresses={BATCH.address: 3})
    finding = only(given)
    assert (finding.id, finding.severity, finding.run) == (
        "failed-logins",
        "warning",
        "CLIENT KILL ADDR 10.0.0.7:4000",
    )
    assert only(replace(given, addresses={})).run == "ACL LOG 10"
    assert found(facts(total(denied_auth=10))) == [("failed-logins", "critical")]
    assert found(facts(total(denied_auth=1), elapsed_s=9)) == []
    assert found(facts(total(denied_key=1))) == [("denied-commands", "warning")]


@pytest.mark.parametrize(
    ("error", "calls", "is_found"),
    [
        ("WRONGTYPE lpush", 1_000_000, True),
        ("ERR incr", 200, True),
        ("ERR incr", 210, False),
        ("NOSCRIPT evalsha", 10, False),
        ("BUSYGROUP xgroup|create", 10, False),
    ],
)
def test_errors_count_where_they_are_not_usual(error, calls, is_found):
    _, _, name = error.partition(" ")
    given = facts({("calls", name): calls // 10}, deed(ERRORS, error, 1, offender=Offender(name, b'a "b"\n')))
    assert [finding.id for finding in examine(given)] == ["failing-commands"] * is_found
    if error.startswith("WRONGTYPE"):
        assert only(given).run == 'TYPE "a \\"b\\"\\x0a"'
    assert found(facts({}, deed(ERRORS, error, 1), elapsed_s=9)) == []


def test_a_pipeline_is_large_from_fifty_turns_that_take_a_twentieth_of_the_time():
    given = facts({}, deed(TURNS, "17", 5, 50), addresses={BATCH.address: 17})
    finding = only(given)
    assert (finding.id, finding.run, finding.cost_ns) == ("large-pipeline", "CLIENT KILL ID 17", 500 * MS)
    assert found(facts({}, deed(TURNS, "17", 4, 50))) == []
    assert found(facts({}, deed(TURNS, "17", 5, 49))) == []


def test_who_does_not_read_is_known_after_two_seconds():
    stuck = Reader(4, BATCH, 1 << 20, 2 * S)
    finding = only(facts(readers=[replace(stuck, client_id=5, waiting_bytes=1 << 10), stuck]))
    assert (finding.id, finding.run) == ("client-not-reading", "CLIENT KILL ID 4")
    assert found(facts(readers=[replace(stuck, stuck_ns=2 * S - 1)])) == []


def test_values_are_huge_from_ten_megabytes_on():
    words = [b"SET", b"export", b"x"]
    entry = Entry(1, 2, 5 << 20, words, "10.0.0.7:4000", b"batch")
    other = replace(entry, words=[b"SET", b"other", b"x"], value=4 << 20)
    finding = only(facts(large_requests=[entry, entry, other]))
    assert (finding.id, finding.culprit.key, finding.run) == (
        "huge-values",
        b"export",
        "COMMANDLOG GET 10 large-request",
    )
    assert found(facts(large_requests=[entry, other])) == []
    assert only(facts(large_replies=[entry, entry])).run == "COMMANDLOG GET 10 large-reply"


def test_what_else_there_is():
    late = Sample(1, 100, Offender())
    assert found(facts(spikes={"loop-lag": [late]})) == [("late-loop", "info")]
    assert found(facts(spikes={"loop-lag": [replace(late, offender=BATCH)]})) == []
    assert found(facts({("jobs", "gc"): 50 * MS})) == [("garbage", "warning")]
    assert found(facts(spikes={"eviction-cycle": [replace(late, latency_ms=50)]})) == [("slow-eviction", "warning")]
    assert only(facts(monitors=[(4, BATCH)])).run == "CLIENT KILL ID 4"
    assert only(facts(settings={"observation": False})).run == "CONFIG SET observation yes"
    assert only(facts(settings={"latency-monitor-threshold": 0})).run == "CONFIG SET latency-monitor-threshold 10"


def test_memory_has_a_text_of_its_own():
    mb = 1 << 20
    numbers = {"used_bytes": 10 * mb, "peak_bytes": 16 * mb, "rss_bytes": 90 * mb}
    given = facts(numbers=numbers)
    findings = examine(given, ("memory",))
    assert [finding.id for finding in findings] == ["memory-peak", "resident-memory"]
    assert memory_text(given, findings).startswith("Peak: there were 16.00M of data, and are 10.00M. ")
    assert memory_text(facts(numbers={"used_bytes": 1}), []).startswith("There is little data")
    assert memory_text(given, []) == "Nothing about the memory in use is unusual.\n"
    crowd = {"clients": 10, "clients_bytes": 20 * mb}
    assert found(facts(numbers=crowd), areas=("memory",)) == [("client-memory", "info")]
    limit = {"used_bytes": 10 * mb, "maxmemory_bytes": 9 * mb}
    assert found(facts(numbers=limit)) == [("over-limit", "warning")]


def test_the_worst_comes_first_then_what_took_most_and_the_order_is_always_the_same():
    given = facts(
        command("sort", 1, 100) | command("lrange", 1, 200) | command("smembers", 1, 300) | total(denied_auth=1),
        monitors=[(4, BATCH)],
        numbers={"used_bytes": 6 << 20, "peak_bytes": 60 << 20},
    )
    expected = [
        ("slow-command", "critical"),
        ("slow-command", "warning"),
        ("slow-command", "warning"),
        ("failed-logins", "warning"),
        ("monitor", "warning"),
        ("memory-peak", "info"),
    ]
    assert found(given) == expected
    assert [finding.culprit.command for finding in examine(given)][:3] == ["smembers", "lrange", "sort"]
    assert to_text(given, examine(given)) == to_text(given, examine(given))


def test_text_and_json_have_all_of_a_finding():
    given = facts(command("lrange", 1, 50), slow=[slow(replace(BATCH, key=b"\xff"))], addresses={BATCH.address: 3})
    text = to_text(given, examine(given))
    assert text == (
        "1 finding in the last 10 s until 22:13:20 UTC:\n"
        "\n"
        "1. slow-command (warning): LRANGE was called 10 times and took 500 ms in all, 5% of the time: 50 ms on "
        "average, 50 ms at most.\n"
        "   Culprit: LRANGE, key '\\\\xff', client 10.0.0.7:4000 ('batch'), slow log entry 5.\n"
        "   Why: Commands run one after another: everybody else waits for this one.\n"
        "   Run: CLIENT KILL ADDR 10.0.0.7:4000 (ends it)\n"
        "   For good: Ask for a page at a time, and keep lists short with LTRIM.\n"
        "   Verify: SLOWLOG GET 1 is no newer LRANGE.\n"
    )
    report = json.loads(json.dumps(to_json(given, examine(given))))
    assert (report["from"], report["to"], report["seconds"]) == (1_699_999_990, 1_700_000_000, 10.0)
    (finding,) = report["findings"]
    assert finding["culprit"] == {
        "command": "lrange", "key": "\\xff", "client": "10.0.0.7:4000", "client_name": "batch", "slowlog_id": 5,
    }  # fmt: skip
    assert finding["evidence"]["numbers"]["mean_ms"] == 50.0
    assert set(finding) == {
        "id", "severity", "area", "culprit", "evidence", "why", "run", "run_ends_it", "advice", "verify",
    }  # fmt: skip


def test_every_rule_says_from_where_on_it_finds_something_and_has_a_name_of_its_own():
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(rule.when.endswith(".") for rule in RULES)
    assert all(f"    {rule}" in help_lines() for rule in ids)


@pytest.mark.parametrize(
    ("key", "word"),
    [(b"user:1", "user:1"), (b"a b", '"a b"'), (b"", '""'), (b'"\\', '"\\"\\\\"'), (b"\xff\n", '"\\xff\\x0a"')],
)
def test_keys_are_written_as_redis_cli_reads_them(key, word):
    assert argument(key) == word
