"""What is recorded of whom, up to the ring: the same by the kernel and by the reference."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from kora.audit import ring
from kora.audit.chain import Chain, body
from kora.audit.ring import Ring
from kora.engine.audit import categories_of
from kora.engine.engine import Engine
from kora.errors import CommandError, TooManyClients
from tests.conftest import Session, encode_request, runner

ALL = "connect auth acl config admin script write read"


class Log:
    """Records of an engine, as they come out of the ring."""

    def __init__(self, engine: Engine, size_bytes: int = 1 << 16) -> None:
        self.queue = Ring.make(size_bytes)
        engine.audit.open(self.queue)
        self._chain = Chain()

    def take(self) -> list[dict[str, Any]]:
        data = self.queue.peek(1 << 24)
        self.queue.consume(len(data))
        return [json.loads(self._chain.line(body(record, "run"))) for record in ring.records(data)]

    def shown(self) -> list[str]:
        """A line each, of what matters most."""
        return [
            " ".join([
                record.get("category", "-"), str(record.get("user")), record.get("command") or record["event"],
                *record.get("keys", []), "|", *record.get("args", []), record.get("outcome", ""),
            ]).strip()
            for record in self.take()
        ]  # fmt: skip


@pytest.fixture
def start(make_engine: Callable[..., Engine]) -> Callable[..., tuple[Any, Log, Engine]]:
    def start(*flags: str, size_bytes: int = 1 << 16) -> tuple[Any, Log, Engine]:
        engine = make_engine(*flags)
        log = Log(engine, size_bytes)
        run = runner(engine.connect("127.0.0.1:50000", "127.0.0.1:6379"))
        log.take()
        return run, log, engine

    return start


def refused(run: Callable[..., Any], *words: object) -> str:
    with pytest.raises(CommandError) as error:
        run(*words)
    return error.value.prefix


def test_by_default_what_changes_the_server_is_recorded_and_data_is_not(start):
    run, log, _ = start()
    run("SET", "k", "v")
    run("GET", "k")
    run("CONFIG", "SET", "maxmemory", "100mb")
    run("FLUSHALL")
    run("ACL", "SETUSER", "alice", "on", ">secret", "+get", "~*")
    assert refused(run, "AUTH", "alice", "wrong") == "WRONGPASS"
    run("CLIENT", "SETNAME", "me")
    run("ACL", "WHOAMI")
    assert log.shown() == [
        "config default config|set | maxmemory 100mb ok",
        "admin default flushall | ok",
        "acl default acl|setuser | alice on (redacted) +get ~* ok",
        "auth default auth | alice (redacted) WRONGPASS",
    ]


def test_a_record_says_who_asked_from_where(start):
    run, log, _ = start()
    run("CLIENT", "SETNAME", "worker-7")
    run("ACL", "SETUSER", "alice", "on", ">secret", "+@all", "~*")
    run("AUTH", "alice", "secret")
    run("FLUSHALL")
    record = log.take()[-1]
    assert {name: record[name] for name in ("user", "client", "address", "name", "number", "run")} == {
        "user": "alice", "client": 1, "address": "127.0.0.1:50000", "name": "worker-7", "number": 4, "run": "run",
    }  # fmt: skip


def test_writes_and_reads_have_their_keys_and_only_if_wanted_their_values(start):
    run, log, _ = start("--audit-categories", "write read")
    run("SET", "k", "v", "EX", "10")
    run("MSET", "a", "1", "b", "2")
    run("GET", "k")
    assert refused(run, "LPUSH", "k", "x") == "WRONGTYPE"
    run("HSET", "h", "f", "v")
    run("DEL", "a", "b")
    assert log.shown() == [
        "write default set k | ok", "write default mset a b | ok", "read default get k | ok",
        "write default lpush k | WRONGTYPE", "write default hset h | ok", "write default del a b | ok",
    ]  # fmt: skip
    run("CONFIG", "SET", "audit-arguments", "yes")
    log.take()
    run("SET", "k", b"x" * 200 + b"\xff")
    run("MSET", "a", "1", "b", "2")
    assert log.shown() == [
        f"write default set k | {'x' * 128}... (73 more bytes) ok", "write default mset a b | 1 2 ok",
    ]  # fmt: skip


def test_long_keys_are_cut_and_many_are_counted(start):
    run, log, _ = start("--audit-categories", "write")
    run("SET", "k" * 600, "v")
    run("DEL", *(f"key:{number}" for number in range(100)))
    cut, many = log.take()
    assert cut["keys"] == ["k" * 512 + "... (88 more bytes)"]
    assert (many["keys"], many["keys_left_out"]) == ([f"key:{number}" for number in range(64)], 36)


def test_filters_by_user_command_and_key(start):
    run, log, _ = start("--audit-categories", ALL)
    run("ACL", "SETUSER", "robot", "on", "nopass", "+@all", "~*")
    run(
        "CONFIG",
        "SET",
        "audit-exclude-users",
        "robot",
        "audit-include-keys",
        "pay: card:",
        "audit-exclude-keys",
        "pay:tmp:",
    )
    run("CONFIG", "SET", "audit-exclude-commands", "get config")
    log.take()
    for key in ("pay:1", "other:1", "pay:tmp:1", "card:1"):
        run("SET", key, "v")
    run("GET", "pay:1")
    run("MGET", "other:1", "pay:1")
    run("CONFIG", "GET", "port")
    run("FLUSHALL")
    run("AUTH", "robot", "")
    run("SET", "pay:1", "v")
    assert log.shown() == [
        "write default set pay:1 | ok", "write default set card:1 | ok", "read default mget other:1 pay:1 | ok",
        "admin default flushall | ok",
    ]  # fmt: skip


def test_only_the_commands_that_are_wanted(start):
    run, log, _ = start("--audit-include-commands", "ACL config|set", "--audit-categories", ALL)
    run("SET", "k", "v")
    run("CONFIG", "SET", "hz", "20")
    run("CONFIG", "GET", "hz")
    run("ACL", "USERS")
    assert [line.split()[2] for line in log.shown()] == ["config|set", "acl|users"]


def test_transactions_and_scripts_are_their_clients(start):
    run, log, _ = start("--audit-categories", "script write acl")
    run("ACL", "SETUSER", "alice", "on", "nopass", "+@all", "-del", "~*")
    run("AUTH", "alice", "")
    log.take()
    run("MULTI")
    run("SET", "k", "v")
    run("EXEC")
    run("EVAL", "redis.call('SET', KEYS[1], ARGV[1]) redis.pcall('DEL', KEYS[1])", "1", "s", "private")
    records = log.take()
    assert [(record["command"], record.get("within"), record["outcome"], record["user"]) for record in records] == [
        ("set", "transaction", "ok", "alice"),
        ("set", "script", "ok", "alice"),
        ("del", "script", "NOPERM", "alice"),
        ("eval", None, "ok", "alice"),
    ]
    assert "private" not in json.dumps(records)


def test_what_a_user_is_refused_is_recorded_whatever_it_was(start):
    run, log, _ = start("--requirepass", "secret")
    assert refused(run, "GET", "k") == "NOAUTH"
    assert refused(run, "HELLO", "3", "AUTH", "default", "wrong") == "WRONGPASS"
    run("AUTH", "secret")
    run("ACL", "SETUSER", "alice", "on", "nopass", "+set", "~a:*", "+auth")
    run("AUTH", "alice", "")
    assert refused(run, "SET", "b:1", "v") == "NOPERM"
    assert refused(run, "FLUSHALL") == "NOPERM"
    assert log.shown() == [
        "auth None get k | NOAUTH",
        "auth None hello | 3 AUTH default (redacted) WRONGPASS",
        "auth default auth | (redacted) ok",
        "acl default acl|setuser | alice on nopass +set ~a:* +auth ok",
        "auth alice auth | alice (redacted) ok",
        "acl alice set b:1 | NOPERM",
        "acl alice flushall | NOPERM",
    ]


def test_a_password_at_the_wrong_place_is_in_no_record(start):
    run, log, _ = start("--audit-categories", ALL, "--audit-arguments", "yes")
    for words in (
        ("AUTH", "p4ss", "x"), ("AUTH", "a", "b", "p4ss"), ("ACL", "SETUSER", "alice", "p4ss"),
        ("ACL", "SETUSER", "p4ss", "p4ss"), ("HELLO", "3", "AUTH", "p4ss", "p4ss"),
        ("CONFIG", "SET", "requirepass", "p4ss", "nothing", "x"), ("HELLO", "9", "AUTH", "default", "p4ss"),
    ):  # fmt: skip
        refused(run, *words)
    run("ACL", "SETUSER", "bob", ">p4ss", "on")
    run("ACL", "DRYRUN", "default", "AUTH", "p4ss")
    run("CONFIG", "SET", "metrics-token", "p4ss", "requirepass", "p4ss")
    run("HELLO", "3", "AUTH", "default", "p4ss")
    records = log.take()
    assert len(records) >= 9
    assert "p4ss" not in json.dumps(records)


def test_connections_are_recorded_refused_ones_too(start):
    _, log, engine = start()
    session = Session(engine)
    engine.forget(session.client)
    engine.audit.refused("10.0.0.1:4", TooManyClients())
    records = log.take()
    assert [record["event"] for record in records] == ["connect", "disconnect", "refused"]
    assert [record["client"] for record in records[:2]] == [session.client.id] * 2
    assert (records[2]["address"], records[2]["reason"]) == ("10.0.0.1:4", "ERR max number of clients reached")


def test_what_waits_for_a_key_is_recorded_when_it_gets_one(start):
    run, log, engine = start("--audit-categories", "write")
    waiting = Session(engine)
    waiting.send("BLPOP", "q", "0")
    assert log.shown() == []
    run("RPUSH", "q", "v")
    # A list that somebody waits for is the reference's: what it does comes first, as the command that served it ends.
    assert sorted(log.shown()) == ["write default blpop q | ok", "write default rpush q | ok"]


def test_who_wants_no_replies_is_recorded_with_what_became_of_it(start):
    run, log, engine = start("--audit-categories", "write")
    run("SET", "k", "v")
    client = engine.connect("127.0.0.1:50009")
    engine.execute(client, encode_request(("CLIENT", "REPLY", "OFF")))
    engine.execute(client, encode_request(("LPUSH", "k", "x")) + encode_request(("SET", "k", "x")))
    assert log.shown()[1:] == ["write default lpush k | WRONGTYPE", "write default set k | ok"]


def test_changes_of_the_audit_log_are_recorded_whatever_is_left_out(start):
    run, log, engine = start("--audit-categories", "auth", "--audit-exclude-users", "default")
    run("CONFIG", "SET", "audit-fsync", "no")
    run("CONFIG", "SET", "audit-enabled", "no")
    run("CONFIG", "SET", "audit-on-full", "block")
    run("FLUSHALL")
    assert engine.audit.slots is None
    run("CONFIG", "SET", "audit-enabled", "yes")
    events = log.take()
    assert [(event["event"], event["user"], event["setting"], event["value"]) for event in events] == [
        ("audit settings", "default", "audit-fsync", "no"),
        ("audit settings", "default", "audit-enabled", "no"),
        ("audit settings", "default", "audit-enabled", "yes"),
    ]


def test_what_follows_in_the_same_pipeline_is_recorded_as_was_set(start):
    _, log, engine = start()
    client = engine.connect("127.0.0.1:50009")
    log.take()
    requests = [("SET", "a", "1"), ("CONFIG", "SET", "audit-categories", "write"), ("SET", "b", "1"), ("SET", "c", "1")]
    engine.execute(client, b"".join(map(encode_request, requests)))
    assert [line.split()[2:4] for line in log.shown()[-2:]] == [["set", "b"], ["set", "c"]]


def test_dropped_records_are_counted_to_the_last_one(start):
    run, log, _ = start("--audit-categories", "write admin", size_bytes=1 << 16)
    client_of = run.__closure__[0].cell_contents
    pipeline = encode_request(("SET", "key", "v")) * 100
    for _ in range(50):
        client_of.engine.execute(client_of, pipeline)
    run("INFO")  # by the reference, behind the kernel's
    first = log.take()
    run("SET", "behind", "v")
    run("FLUSHALL")
    records = first + log.take()
    numbers = [record["number"] for record in records if "event" not in record]
    (gap,) = [record for record in records if record.get("event") == "gap"]
    assert gap["missing"] > 1000
    assert gap["first"] == numbers[numbers.index(gap["number"] + 1) - 1] + 1
    assert gap["number"] - gap["first"] + 1 == gap["missing"]
    assert len(numbers) + gap["missing"] == 5_003
    assert log.queue.words[ring.DROPPED] == gap["missing"]


def test_where_records_must_not_be_dropped_clients_wait_and_nothing_is_lost(start):
    run, log, engine = start("--audit-categories", "write", "--audit-on-full", "block")
    session = Session(engine)
    count = 0
    while not engine.audit.is_holding:
        engine.execute(session.client, encode_request(("SET", f"key:{count}", "v")) * 8)
        count += 8
        assert count < 5_000
    assert session.client.parked
    assert run("GET", "key:0") == b"v", "what is not recorded goes on"
    assert run("CONFIG", "GET", "hz"), "so does an operator"
    engine.tick()
    assert session.client.parked, "there is no room yet"
    records = log.take()
    engine.tick()
    assert not engine.audit.is_holding
    assert not session.client.parked
    records += log.take()
    changed = [record for record in records if record.get("command") == "set"]
    assert len(changed) == count
    assert [record["number"] for record in records] == list(range(1, len(records) + 1))
    assert engine.audit.ring.words[ring.WAITING] == 0


def test_an_operator_can_have_records_dropped_instead_and_they_are_counted(start):
    run, log, engine = start("--audit-categories", "write config", "--audit-on-full", "block")
    session = Session(engine)
    session.send("EVAL", "for i = 1, 2000 do redis.call('SET', 'key:' .. i, i) end", "0")
    session.send("SET", "k", "v")
    assert session.client.parked
    run("CONFIG", "SET", "hz", "11")
    run("CONFIG", "SET", "audit-on-full", "drop")
    assert not session.client.parked
    records = log.take()
    engine.tick()
    records += log.take()
    gaps = [record for record in records if record.get("event") == "gap"]
    told = sum(gap["missing"] for gap in gaps) + len(records) - len(gaps)
    assert told == engine.audit.ring.words[ring.NUMBER]
    assert gaps


def test_scripts_that_have_begun_are_not_held(start):
    run, log, engine = start("--audit-categories", "write", "--audit-on-full", "block")
    session = Session(engine)
    session.send("EVAL", "for i = 1, 2000 do redis.call('SET', 'key:' .. i, i) end", "0")
    assert engine.audit.is_holding
    assert engine.audit.waiting_bytes > 0
    records: list[Any] = []
    while engine.audit.is_holding:
        records += log.take()
        engine.tick()
    records += log.take()
    assert [record["keys"] for record in records if record.get("command") == "set"] == [
        [f"key:{number}"] for number in range(1, 2001)
    ]
    assert run("GET", "key:2000") == b"2000"


def test_every_command_that_can_do_harm_has_a_category(engine):
    found = {command.name: categories_of(command)[:1] for command in engine.registry.slots}
    for name, category in {
        "config|set": "config", "config|get": "config", "acl|setuser": "acl", "acl|deluser": "acl", "auth": "auth",
        "hello": "auth", "flushall": "admin", "shutdown": "admin", "client|kill": "admin", "debug": "admin",
        "eval": "script", "fcall": "script", "function|load": "script", "script|flush": "script", "set": "write",
        "get": "read", "blpop": "write", "audit|verify": "admin",
    }.items():  # fmt: skip
        assert found[name] == [category], name
    writing = [command.name for command in engine.registry.slots if "write" in command.flags]
    assert all(found[name] for name in writing)


@pytest.mark.parametrize(
    "words", [("PING",), ("HELLO", "3"), ("ACL", "WHOAMI"), ("SELECT", "1"), ("CLIENT", "ID"), ("RESET",)]
)
def test_what_everybody_does_all_day_is_not_recorded(start, words):
    run, log, _ = start("--audit-categories", ALL)
    run(*words)
    assert log.shown() == []


def test_names_that_clients_choose_are_cut(start):
    run, log, _ = start()
    run("CLIENT", "SETNAME", "n" * 100_000)
    run("ACL", "SETUSER", b"u\xff" * 5_000, "on", "nopass", "+@all", "~*")
    run("AUTH", b"u\xff" * 5_000, "")
    run("FLUSHALL")
    (_, _, record) = log.take()
    assert record["name"] == "n" * 128
    assert record["user"] == ("u\\xff" * 26)[:128]


def test_a_journal_that_is_loaded_is_nobody_s_deed(start):
    run, log, engine = start("--audit-categories", "write")
    client = engine.make_replaying_client()
    engine.implementation.replay(client, encode_request(("SET", "k", "v")), lambda argv: False, lambda *_: None)
    engine.execute(client, encode_request(("SET", "k", "v")))
    assert log.take() == []
    run("SET", "k", "v")
    assert len(log.take()) == 1


def test_a_record_has_the_trace_of_its_request(start):
    run, log, _ = start("--audit-categories", "write admin", "--tracing-enabled", "yes")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    run("CLIENT", "TRACE", f"00-{trace_id}-00f067aa0ba902b7-01")
    run("SET", "k", "v")
    run("FLUSHALL")
    run("CLIENT", "TRACE", "OFF")
    run("FLUSHALL")
    assert [record.get("trace") for record in log.take()] == [trace_id, trace_id, None]
