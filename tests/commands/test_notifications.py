"""Keyspace notifications: events of keys as messages, by the letters of notify-keyspace-events."""

import re
from pathlib import Path

import pytest

from kora import commands
from kora.engine.notifications import CLASS_OF
from kora.errors import CommandError
from kora.resp.reply import Push
from tests.conftest import encode_request
from tests.resp_reader import read_replies


@pytest.fixture
def watch(run, connect):
    """watch("KEA"): from then on watch.events() has what was told since the last look, as `event key@database`."""
    listener = connect()
    listener.send("PSUBSCRIBE", "__key*@*__:*")

    def start(flags):
        run("CONFIG", "SET", "notify-keyspace-events", flags)

    def events():
        told = []
        for _, _, channel, text in listener.received():
            space, _, name = channel.partition(b"__:")
            kind, _, index = space.partition(b"@")
            event, key = (text, name) if kind == b"__keyspace" else (name, text)
            told.append(f"{event.decode()} {key.decode()}" + (f"@{index.decode()}" if index != b"0" else ""))
        return told

    start.events = events
    return start


def test_nothing_is_told_unless_it_is_asked_for(run, watch):
    for flags in ("", "A", "K", "E", "KE", "g$"):
        watch(flags)
        run("SET", "k", "v")
        run("GET", "nosuch")
        run("DEL", "k")
        assert watch.events() == [], flags


def test_both_channels_of_an_event(run, connect):
    listener = connect()
    listener.send("SUBSCRIBE", "__keyspace@1__:k", "__keyevent@1__:set")
    run("CONFIG", "SET", "notify-keyspace-events", "KEA")
    run("SET", "k", "v")
    run("SELECT", "1")
    run("SET", "k", "v")
    assert listener.received() == [
        [b"message", b"__keyspace@1__:k", b"set"],
        [b"message", b"__keyevent@1__:set", b"k"],
    ]
    run("CONFIG", "SET", "notify-keyspace-events", "K$")
    run("SET", "k", "v")
    assert listener.received() == [[b"message", b"__keyspace@1__:k", b"set"]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SET k v", ["set k"]),
        ("SET old v NX", []),
        ("SET nosuch v XX", []),
        ("SET k v EX 10", ["set k", "expire k"]),
        ("SET volatile v KEEPTTL", ["set volatile"]),
        ("SET old v GET PX 1000", ["set old", "expire old"]),
        ("SETEX k 10 v", ["set k", "expire k"]),
        ("PSETEX k 10 v", ["set k", "expire k"]),
        ("SETNX k v", ["set k"]),
        ("SETNX old v", []),
        ("GETSET k v", ["set k"]),
        ("GETDEL old", ["del old"]),
        ("GETDEL nosuch", []),
        ("GETEX old EX 10", ["expire old"]),
        ("GETEX old PXAT 1", ["del old"]),
        ("GETEX old PERSIST", []),
        ("GETEX volatile PERSIST", ["persist volatile"]),
        ("GETEX old", []),
        ("MSET a 1 b 2 a 3", ["set a", "set b", "set a"]),
        ("MSETNX a 1 b 2", ["set a", "set b"]),
        ("MSETNX a 1 old 2", []),
        ("APPEND k v", ["append k"]),
        ("APPEND old v", ["append old"]),
        ("SETRANGE old 1 v", ["setrange old"]),
        ("SETRANGE k 1 v", ["setrange k"]),
        ("SETRANGE old 1 ", []),
        ("INCR k", ["incrby k"]),
        ("DECRBY old 2", ["incrby old"]),
        ("INCRBYFLOAT old 2", ["incrbyfloat old"]),
        ("INCRBYFLOAT k 2", ["incrbyfloat k"]),
        ("DEL old nosuch volatile old", ["del old", "del volatile"]),
        ("UNLINK old nosuch", ["del old"]),
        ("EXPIRE old 10", ["expire old"]),
        ("EXPIRE old 10 XX", []),
        ("EXPIRE nosuch 10", []),
        ("PEXPIREAT old 1", ["del old"]),
        ("PERSIST volatile", ["persist volatile"]),
        ("PERSIST old", []),
        ("RENAME old new", ["rename_from old", "rename_to new"]),
        ("RENAME old old", []),
        ("RENAMENX old new", ["rename_from old", "rename_to new"]),
        ("RENAMENX old volatile", []),
        ("COPY old new", ["copy_to new"]),
        ("COPY old new DB 1", ["copy_to new@1"]),
        ("COPY old volatile", []),
        ("MOVE old 1", ["move_from old", "move_to old@1"]),
        ("GET nosuch", []),
        ("TOUCH old", []),
        ("FLUSHALL", []),
        ("SWAPDB 0 1", []),
    ],
)
def test_each_command_tells_of_what_it_did(run, watch, line, expected):
    run("MSET", "old", "1", "volatile", "2")
    run("EXPIRE", "volatile", "1000")
    watch("KA")
    run(*line.split(" "))
    assert watch.events() == expected


@pytest.mark.parametrize(
    "words", [("INCR", "text"), ("SET", "k", "v", "EX", "0"), ("APPEND", "k"), ("RENAME", "no", "k")]
)
def test_what_fails_is_no_event(run, watch, words):
    run("SET", "text", "x")
    watch("KEAmn")
    with pytest.raises(CommandError):
        run(*words)
    assert watch.events() == []


def test_letters_choose_classes(run, watch):
    def told():
        run("SET", "k", "v", "EX", "10")
        run("DEL", "k")
        run("GET", "k")
        return watch.events()

    for flags, expected in (
        ("Kg", ["expire k", "del k"]),
        ("K$", ["set k"]),
        ("Em", ["keymiss k"]),
        ("En", ["new k"]),
        ("Kl", []),
        ("KA", ["set k", "expire k", "del k"]),
        ("EAmn", ["new k", "set k", "expire k", "del k", "keymiss k"]),
    ):
        watch(flags)
        assert told() == expected, flags


def test_a_key_whose_time_is_over_is_told_when_it_goes(run, watch, clock, engine):
    watch("KEx")
    run("SET", "found", "v", "PX", "10")
    run("SET", "overwritten", "v", "PX", "10")
    clock.advance_ms(11)
    assert watch.events() == []
    run("GET", "found")
    assert watch.events() == ["expired found"] * 2
    watch("KAmn")
    run("SET", "overwritten", "w")
    assert watch.events() == ["expired overwritten", "new overwritten", "set overwritten"]


def test_misses_are_of_those_who_look(run, watch):
    watch("Km")
    for words in (
        ("GET", "a"),
        ("MGET", "a", "b"),
        ("EXISTS", "a"),
        ("TYPE", "a"),
        ("TTL", "a"),
        ("STRLEN", "a"),
        ("TOUCH", "a"),
    ):
        run(*words)
        assert watch.events() == [f"keymiss {key}" for key in words[1:]], words
    for words in (
        ("DEL", "a"),
        ("GETEX", "a"),
        ("OBJECT", "ENCODING", "a"),
        ("PERSIST", "a"),
        ("INCR", "c"),
        ("EXPIRE", "a", "1"),
    ):
        run(*words)
        assert watch.events() == (["keymiss a"] if words[0] == "GETEX" else []), words


def test_a_key_that_is_overwritten_is_new_only_where_it_was_deleted_for_that(run, watch):
    watch("Kn")
    run("MSET", "a", "1", "b", "2")
    run("SET", "a", "3")
    assert watch.events() == ["new a", "new b"]
    run("RENAME", "a", "b")
    assert watch.events() == ["new b"]
    run("COPY", "b", "c")
    run("COPY", "b", "c", "REPLACE")
    assert watch.events() == ["new c", "new c"]
    run("MOVE", "c", "1")
    assert watch.events() == ["new c@1"]


def test_events_of_a_transaction_come_once_it_is_run(run, watch):
    watch("KA")
    run("MULTI")
    run("SET", "k", "v")
    run("DEL", "k")
    assert watch.events() == []
    run("EXEC")
    assert watch.events() == ["set k", "del k"]


def test_events_of_ones_own_come_behind_the_reply(run, client, watch):
    watch("KA")
    run("HELLO", "3")
    listening = run("SUBSCRIBE", "__keyspace@0__:k")
    assert isinstance(listening, Push)
    reply, message = read_replies(client.engine.execute(client, encode_request(("SET", "k", "v"))))
    assert reply == "OK"
    assert message.items == [b"message", b"__keyspace@0__:k", b"set"]


def test_databases_that_are_made_later_tell_as_well(run, watch):
    watch("KA")
    run("SELECT", "7")
    run("SET", "k", "v")
    assert watch.events() == ["set k@7"]
    watch("")
    run("SET", "k", "v")
    assert watch.events() == []


def test_turning_notifications_off_gives_commands_back_to_the_kernel(run, watch, engine):
    watch("KEA")
    run("SET", "k", "v")
    watch.events()
    watch("")
    assert engine.databases[0].notify(b"set", b"k") is None
    assert not engine.databases[0].tells_more
    run("SET", "k", "v")
    assert watch.events() == []


def test_the_setting_reads_as_redis_writes_it(run):
    for flags, expected in (("KEA", b"AKE"), ("g$lshzxetdKE", b"AKE"), ("Kmn", None), ("", b"")):
        run("CONFIG", "SET", "notify-keyspace-events", flags)
        if expected is not None:
            assert run("CONFIG", "GET", "notify-keyspace-events")[1] == expected
    with pytest.raises(CommandError):
        run("CONFIG", "SET", "notify-keyspace-events", "KEQ")


def test_every_event_has_a_class():
    assert set(CLASS_OF.values()) <= set("g$lshztxemnd")
    assert CLASS_OF[b"set"] == "$"


def test_every_event_that_a_command_tells_has_a_class():
    told = set()
    for path in Path(commands.__file__).parent.glob("*.py"):
        told |= set(re.findall(r'notify\(b"([^"]+)"', path.read_text()))
    assert told
    assert not {event for event in told if event.encode() not in CLASS_OF}
