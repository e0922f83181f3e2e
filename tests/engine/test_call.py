"""call() and the turns around it: what is measured, what is refused, and what ends a turn."""

import re

import pytest

from kora import kernel
from kora.commands import make_registry
from kora.config import POLICIES, Config
from kora.engine.client import TURN_BYTES_MAX
from kora.engine.engine import Engine
from kora.errors import CommandError
from kora.resp.parser import COMMANDS_PER_TURN
from tests.conftest import encode_request, runner
from tests.resp_reader import read_replies


def stats_of(engine, name):
    """The merged row of one command."""
    slot = next(command.slot for command in engine.registry.slots if command.name == name)
    rows = [shard.stats.commands[slot] for shard in engine.shards]
    return {field: sum(getattr(row, field) for row in rows) for field in ("calls", "elapsed_ns", "failed", "rejected")}


@pytest.fixture
def faulty(clock, monkeypatch):
    """An engine whose TIME has a bug, and what it logs.  No implementation of TIME but the handler's is ever asked."""
    registry = make_registry()
    monkeypatch.setattr(registry.commands["time"], "handler", lambda client, argv: 1 // 0)
    engine = Engine(Config.load([], {}), registry, clock, kernel=kernel.load())
    engine.logged = []
    engine.log = lambda level, message, **fields: engine.logged.append((level, message, fields))
    return engine


def test_each_command_is_counted_in_the_shard_of_its_key(engine, run):
    run("SET", "foo", "1")  # slot 12182 of 16384: the third of four shards
    run("GET", "foo")
    slot = engine.registry.commands["get"].slot
    assert [shard.stats.commands[slot].calls for shard in engine.shards] == [0, 0, 1, 0]
    assert [shard.stats.keys for shard in engine.shards] == [0, 0, 1, 0]


def test_the_time_of_a_command_is_what_passed_since_the_one_before(engine, run, clock):
    run("DEBUG", "SLEEP", "0.25")
    assert stats_of(engine, "debug")["elapsed_ns"] == 250_000_000
    run("PING")
    assert stats_of(engine, "ping") == {"calls": 1, "elapsed_ns": 0, "failed": 0, "rejected": 0}


def test_a_failed_command_is_told_from_one_that_never_ran(engine, run):
    run("SET", "text", "abc")
    with pytest.raises(CommandError):
        run("INCR", "text")
    with pytest.raises(CommandError):
        run("INCR")
    assert stats_of(engine, "incr") | {"elapsed_ns": 0} == {"calls": 1, "elapsed_ns": 0, "failed": 1, "rejected": 1}
    assert engine.errors == {"ERR": 2}


def test_nothing_is_timed_while_observation_is_off_but_errors_still_count(engine, run):
    run("CONFIG", "SET", "observation", "no")
    run("SET", "text", "abc")
    with pytest.raises(CommandError):
        run("INCR", "text")
    assert stats_of(engine, "set")["calls"] == 0
    assert stats_of(engine, "incr")["failed"] == 1


def test_a_bug_in_a_handler_is_answered_counted_and_logged_once(faulty):
    run = runner(faulty.connect())
    with pytest.raises(CommandError, match=r"^ERR internal error, error_id [0-9a-f]{12}$") as refusal:
        run("TIME")
    assert run("PING") == "PONG"
    assert faulty.internal_errors == 1
    [(level, message, fields)] = faulty.logged
    assert (level, message, fields["command"]) == ("error", "internal error", "time")
    assert fields["error_id"] == str(refusal.value)[-12:]
    assert isinstance(fields["exc_info"], ZeroDivisionError)


def test_the_rest_of_a_pipeline_runs_after_a_bug(faulty):
    client = faulty.connect()
    data = encode_request(("TIME",)) + encode_request(("SET", "k", "v")) + encode_request(("GET", "k"))
    replies = client.engine.execute(client, data)
    assert re.fullmatch(rb"-ERR internal error, error_id \w+\r\n\+OK\r\n\$1\r\nv\r\n", replies)


def test_a_long_pipeline_takes_several_turns_and_loses_nothing(client):
    count = 3 * COMMANDS_PER_TURN
    reply = client.engine.execute(client, encode_request(("INCR", "n")) * count)
    turns = 1
    while client.more:
        reply += client.engine.resume(client)
        turns += 1
    assert turns >= 3
    assert read_replies(reply) == list(range(1, count + 1))


def test_a_turn_ends_when_its_replies_are_large(client, run):
    run("SET", "big", b"x" * (TURN_BYTES_MAX // 2))
    reply = client.engine.execute(client, encode_request(("GET", "big")) * 10)
    assert client.more
    assert len(reply) <= 2 * TURN_BYTES_MAX
    while client.more:
        reply += client.engine.resume(client)
    assert len(read_replies(reply)) == 10


def test_what_comes_in_the_middle_of_a_turn_waits_for_its_end(client, run):
    run("SET", "big", b"x" * TURN_BYTES_MAX)
    reply = client.engine.execute(client, encode_request(("GET", "big")) * 3)
    assert client.more
    reply += client.engine.execute(client, encode_request(("PING",)))
    while client.more:
        reply += client.engine.resume(client)
    assert read_replies(reply)[-1] == "PONG"
    assert len(read_replies(reply)) == 4


def test_requests_behind_quit_are_not_run(client, engine):
    reply = client.engine.execute(client, encode_request(("QUIT",)) + encode_request(("SET", "k", "v")))
    assert reply == b"+OK\r\n"
    assert client.closing
    assert client.engine.execute(client, encode_request(("SET", "k", "v"))) == b""
    assert engine.keys == 0


def test_requests_before_a_protocol_error_are_answered_first(client):
    reply = client.engine.execute(client, encode_request(("PING",)) + b"*1\r\n:5\r\n")
    while client.more and not client.closing:
        reply += client.engine.resume(client)
    assert reply == b"+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert client.closing


@pytest.mark.parametrize("first_word", [b"POST", b"post", b"Host:"])
def test_http_is_cut_off_without_a_reply(client, engine, first_word):
    logged = []
    engine.log = lambda level, message, **fields: logged.append((level, fields))
    assert client.engine.execute(client, first_word + b" / HTTP/1.1\r\nSET k v\r\n") == b""
    assert client.closing
    assert engine.keys == 0
    assert logged == [("warning", {"client": client.address})]


def test_commands_that_need_memory_are_refused_above_maxmemory(engine, run):
    run("SET", "k", b"x" * 100_000)
    run("CONFIG", "SET", "maxmemory", "50000")
    with pytest.raises(CommandError, match=r"^OOM command not allowed when used memory"):
        run("SET", "other", "v")
    assert run("GET", "k") == b"x" * 100_000
    assert run("DEL", "k") == 1
    assert run("SET", "other", "v") == "OK"


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "noeviction"])
def test_keys_are_evicted_so_that_writes_go_on(make_engine, clock, policy):
    engine = make_engine("--maxmemory", "200kb", "--maxmemory-policy", policy)
    run = runner(engine.connect())
    for number in range(3000):
        if number == 2999:  # idle times are in seconds: only now is the last key younger than all others
            clock.advance_ms(2000)
            engine.tick()
        assert run("SET", number, b"x" * 100, "EX", 1000 + number) == "OK"
    assert 300 < run("DBSIZE") < 2000
    assert run("GET", 2999) == b"x" * 100 or "random" in policy or policy == "volatile-ttl"
    shown = dict(line.split(":", 1) for line in run("INFO").decode().splitlines() if ":" in line)
    assert int(shown["evicted_keys"]) == 3000 - run("DBSIZE")
    assert engine.memory_bytes <= 200 * 1024 + 500  # a command makes room for itself before it knows how much it needs


def test_volatile_policies_refuse_writes_when_no_key_may_go(make_engine):
    run = runner(make_engine("--maxmemory", "100kb", "--maxmemory-policy", "volatile-lru").connect())
    run("SET", "large", b"x" * 200_000)
    with pytest.raises(CommandError, match=r"^OOM"):
        run("SET", "other", "v")
    assert run("DEL", "large") == 1
    assert run("SET", "other", "v") == "OK"


def test_a_transaction_that_needs_memory_is_refused_as_a_whole(run):
    run("SET", "k", b"x" * 100_000)
    run("MULTI")
    run("SET", "other", "v")
    run("DISCARD")
    run("CONFIG", "SET", "maxmemory", "50000")
    run("MULTI")
    with pytest.raises(CommandError, match=r"^OOM"):
        run("SET", "other", "v")
    with pytest.raises(CommandError, match=r"^EXECABORT"):
        run("EXEC")


def test_hot_keys_are_sampled_and_scaled(make_engine):
    engine = make_engine("--hotkey-sampling-ratio", "8")
    client = engine.connect()
    for _ in range(40):
        client.engine.execute(client, encode_request(("SET", "hot", "v")) * 200)
        while client.more:
            client.engine.resume(client)
    [row] = engine.hot_keys.recorder.rows()
    assert (row.name, row.reads) == (b"hot", 0)
    assert row.writes == pytest.approx(8000, rel=0.2)


def test_replies_are_in_order_wherever_turns_end_and_whatever_is_sampled(make_engine):
    engine = make_engine("--hotkey-sampling-ratio", "12")
    client = engine.connect()
    for number in range(5):
        engine.execute(client, encode_request(("SET", f"k{number}", str(number) * 300_000)))
    reply = engine.execute(client, b"".join(encode_request(("GET", f"k{number % 5}")) for number in range(50)))
    while client.more:
        reply += engine.resume(client)
    assert [value[:1] for value in read_replies(reply)] == [b"%d" % (number % 5) for number in range(50)]


def test_a_smaller_limit_of_bulks_holds_for_clients_that_are_connected(run):
    run("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    with pytest.raises(CommandError, match="invalid bulk length"):
        run("SET", "k", b"x" * (1024 * 1024 + 1))


def test_bytes_are_counted_as_they_come_and_go(engine, client):
    request = encode_request(("PING",))
    for byte in request:
        client.engine.execute(client, bytes([byte]))
    assert sum(shard.stats.bytes_in for shard in engine.shards) == len(request)
    assert sum(shard.stats.bytes_out for shard in engine.shards) == len(b"+PONG\r\n")
