"""Keys that only the store has are read while others are served; who asked for them goes on where it was."""

from collections.abc import Callable
from typing import Any

import pytest

from kora import kernel
from kora.engine.cache import Found, Places
from kora.engine.engine import Engine
from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from kora.store.backing import PLACE_BYTES
from tests.conftest import Session, encode_request
from tests.resp_reader import read_replies
from tests.store.fake_store import Tide, make_store


class Deep:
    """An engine whose data is all in a store, nothing of it in memory; readings end when they are told to."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = make_store(engine)
        self.readings: list[tuple[Places, Callable[[Found], None]]] = []
        self._soon: list[Callable[[], None]] = []
        engine.call_later = lambda delay_s, function: self._soon.append(function)

    def sink(self) -> None:
        """Have nothing in memory; from then on readings wait."""
        assert self.engine.cache is not None
        Tide(self.engine, self.store).settle()
        self.engine.cache.fetch = lambda places, done: self.readings.append((places, done))
        self.store.asked.clear()

    def turn(self) -> None:
        """The loop turns."""
        soon, self._soon = self._soon, []
        for function in soon:
            function()

    def read(self, error: BaseException | None = None) -> None:
        """The reading that waits longest ends."""
        self.turn()
        places, done = self.readings.pop(0)
        try:
            done(self.store.get_many(places) if error is None else error)
        except CommandError as fault:
            done(fault)


@pytest.fixture
def deep(engine: Engine) -> Deep:
    return Deep(engine)


def test_a_cold_key_is_read_while_others_are_served(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("MSET", "cold", "1", "warm", "2")
    deep.sink()
    other.send("GET", "warm")
    deep.read()
    assert other.received() == [b"2"]
    assert one.send("GET", "cold") == []
    assert one.client.parked
    assert other.send("GET", "warm") == [b"2"]
    deep.read()
    assert one.received() == [b"1"]
    assert not one.client.parked
    assert one.send("GET", "cold") == [b"1"]


def test_one_reading_serves_all_who_ask_in_a_turn(deep: Deep, connect: Callable[[], Session]) -> None:
    clients = [connect() for _ in range(3)]
    clients[0].send("MSET", "a", "1", "b", "2")
    deep.sink()
    for client, key in zip(clients, ("a", "b", "a"), strict=True):
        client.send("GET", key)
    deep.turn()
    assert [sorted(place[PLACE_BYTES:] for part in places for place in part) for places, _ in deep.readings] == [
        [b"a", b"b"]
    ]
    deep.read()
    assert [client.received() for client in clients] == [[b"1"], [b"2"], [b"1"]]


def test_a_pipeline_is_answered_in_order_and_waits_once(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("MSET", "a", "1", "b", "2", "c", "3")
    client.send("GET", "a")
    deep.sink()
    requests = [("PING",), ("GET", "a"), ("SET", "b", "new"), ("GET", "b"), ("INCR", "c"), ("PING", "end")]
    data = deep.engine.execute(client.client, b"".join(map(encode_request, requests)))
    deep.read()
    assert not deep.readings
    assert read_replies(data) + client.received() == ["PONG", b"1", "OK", b"new", 4, b"end"]


def test_what_comes_meanwhile_waits_its_turn(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("SET", "a", "1")
    deep.sink()
    assert client.send("GET", "a") == []
    assert client.send("PING") == []
    assert client.send("APPEND", "a", "2") == []
    deep.read()
    assert client.received() == [b"1", "PONG", 2]


def test_what_was_changed_meanwhile_is_not_undone(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("MSET", "a", "old", "b", "old")
    deep.sink()
    one.send("MGET", "a", "b")
    deep.turn()
    # A script that does not name its keys reads at once.
    other.send("EVAL", "redis.call('SET', 'a', 'new') redis.call('DEL', 'b')", "0")
    deep.read()
    assert one.received() == [[b"new", None]]
    one.send("FLUSHALL")
    assert one.send("DBSIZE") == [0]


def test_what_an_earlier_reading_brings_late_is_not_taken(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("SET", "a", "old")
    deep.sink()
    one.send("GET", "a")
    deep.turn()
    places, done = deep.readings.pop(0)
    late = deep.store.get_many(places)
    # Meanwhile it is changed, written back, dropped, and asked for again.
    other.send("EVAL", "redis.call('SET', 'a', 'new')", "0")
    deep.sink()
    other.send("GET", "a")
    deep.turn()
    done(late)
    assert other.received() == []
    deep.read()
    assert other.received() == [b"new"]
    assert one.send("GET", "a")[-1] == b"new"


def test_two_who_ask_for_a_key_in_different_turns_wait_for_one_reading(
    deep: Deep, connect: Callable[[], Session]
) -> None:
    one, other = connect(), connect()
    one.send("MSET", "a", "1", "b", "2")
    deep.sink()
    one.send("GET", "a")
    deep.turn()
    other.send("MGET", "a", "b")
    deep.turn()
    assert len(deep.readings) == 1, "the next begins when this has ended"
    deep.read()
    assert one.received() == [b"1"] and other.received() == []
    deep.read()
    assert other.received() == [[b"1", b"2"]]
    assert [key for _, key in deep.store.asked] == [b"a", b"b"]


def test_a_long_pipeline_never_reads_on_the_loop(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    count = 3000
    for number in range(count):
        client.send("SET", f"key:{number}", str(number))
    deep.sink()
    requests = [("GET", f"key:{number}") for number in range(count)]
    data = deep.engine.execute(client.client, b"".join(map(encode_request, requests)))
    replies = read_replies(data)
    while len(replies) < count:
        assert client.client.parked
        deep.read()
        replies += client.received()
    assert replies == [b"%d" % number for number in range(count)]
    assert deep.engine.cache is not None
    numbers = deep.engine.cache.numbers()
    assert (numbers["cold_fetches"], numbers["sync_fetches"]) == (count, 0)


def test_readings_take_keys_of_several_databases(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("SET", "a", "1")
    other.send("SELECT", "3")
    other.send("SET", "a", "2")
    deep.sink()
    one.send("GET", "a")
    other.send("GET", "a")
    deep.turn()
    assert len(deep.readings) == 1
    connect().send("SWAPDB", "0", "3")
    deep.read()
    while one.client.parked or other.client.parked:
        deep.read()
    assert (one.received(), other.received()) == ([b"2"], [b"1"])
    assert [key for _, key in deep.store.asked] == [b"a", b"a"]


def test_a_flush_meanwhile_leaves_nothing(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("SET", "a", "old")
    deep.sink()
    one.send("GET", "a")
    deep.turn()
    assert other.send("FLUSHDB") == ["OK"]
    deep.read()
    # It asks again, in what the database is now.
    assert one.received() == [None]
    assert other.send("DBSIZE") == [0]


def test_keys_of_a_transaction_are_read_before_it(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("MSET", "a", "1", "b", "2")
    client.send("SELECT", "1")
    client.send("SET", "c", "3")
    client.send("SELECT", "0")
    client.send("MULTI")
    client.send("GET", "a")
    client.send("SELECT", "1")
    client.send("GET", "c")
    deep.sink()
    assert client.send("EXEC") == []
    deep.read()
    assert client.received() == [[b"1", "OK", b"3"]]
    assert not [key for _, key in deep.store.asked if key == b"b"]


def test_a_transaction_that_selects_nonsense_is_told_so_in_its_turn(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("SET", "a", "1")
    client.send("MULTI")
    client.send("SELECT", "nonsense")
    client.send("SELECT", "1000")
    client.send("GET", "a")
    deep.sink()
    assert client.send("EXEC") == []
    deep.read()
    replies = client.received()[0]
    assert [isinstance(reply, CommandError) for reply in replies] == [True, True, False]
    assert replies[2] == b"1"


def test_a_pipeline_of_a_client_that_may_not_do_all_waits_once(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("MSET", "a", "1", "b", "2")
    client.send("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get", "+ping")
    client.send("AUTH", "reader", "secret")
    deep.sink()
    requests = [("PING",), ("GET", "a"), ("PING",), ("GET", "b"), ("SET", "a", "2")]
    data = deep.engine.execute(client.client, b"".join(map(encode_request, requests)))
    deep.read()
    assert not deep.readings
    replies = read_replies(data) + client.received()
    assert replies[:4] == ["PONG", b"1", "PONG", b"2"] and isinstance(replies[4], CommandError)


def test_new_keys_are_not_asked_for(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    deep.sink()
    assert client.send("SET", "new", "1") == ["OK"]
    assert client.send("GET", "new") == [b"1"]
    assert deep.readings == [] and deep.store.asked == []


def test_keys_that_are_not_there_are_asked_for_once(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    deep.sink()
    assert client.send("GET", "nothing") == []
    deep.read()
    assert client.received() == [None]
    assert client.send("GET", "nothing") == [None]
    assert client.send("EXISTS", "nothing") == [0]


def test_a_client_that_leaves_while_it_waits_harms_nobody(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("SET", "a", "1")
    deep.sink()
    one.send("GET", "a")
    other.send("GET", "a")
    deep.turn()
    deep.engine.kill(one.client)
    deep.read()
    assert one.received() == []
    assert other.received() == [b"1"]


def test_an_unreadable_key_is_an_error_for_who_asks_for_it(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("MSET", "bad", "1", "good", "2")
    deep.sink()
    deep.store.faulty.add(b"bad")
    client.send("MGET", "bad", "good")
    client.send("GET", "good")
    while client.client.parked:
        deep.read()
    replies = client.received()
    assert isinstance(replies[0], CommandError)
    assert "failed to read: a bad block" in str(replies[0])
    assert replies[1] == b"2"
    # A write that does not know what was there does not run either.
    client.send("SET", "bad", "new", "GET")
    while client.client.parked:
        deep.read()
    assert isinstance(client.received()[0], CommandError)
    deep.store.faulty.clear()
    client.send("GET", "bad")
    deep.read()
    assert client.received() == [b"1"]


def test_a_paused_client_stays_paused_when_its_keys_have_come(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("SET", "a", "1")
    deep.sink()
    one.send("GET", "a")
    deep.turn()
    other.send("CLIENT", "PAUSE", "100000", "ALL")
    deep.read()
    assert one.received() == []
    deep.engine.pause(0, False)
    assert one.received() == [b"1"]


def test_a_pause_that_ends_meanwhile_changes_nothing(deep: Deep, connect: Callable[[], Session]) -> None:
    one = connect()
    one.send("SET", "a", "1")
    deep.sink()
    one.send("GET", "a")
    deep.turn()
    deep.engine.pause(0, False)
    assert one.received() == [] and one.client.parked
    deep.read()
    assert one.received() == [b"1"]


def test_a_client_that_blocks_on_a_cold_list_is_served(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("RPUSH", "list", "a")
    deep.sink()
    one.send("BLPOP", "list", "0")
    deep.read()
    assert one.received() == [[b"list", b"a"]]
    deep.sink()
    assert one.send("BLPOP", "list", "0") == []
    assert one.client.waiting is not None
    other.send("RPUSH", "list", "b")
    assert one.received() == [[b"list", b"b"]]


def test_a_client_that_waits_for_the_store_is_not_blocked_for_info(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other = connect(), connect()
    one.send("SET", "a", "1")
    deep.sink()
    one.send("GET", "a")
    assert b"blocked_clients:0" in other.send("INFO", "clients")[0]
    deep.read()


def test_monitors_see_a_request_when_it_runs(deep: Deep, connect: Callable[[], Session]) -> None:
    one, monitor = connect(), connect()
    one.send("SET", "a", "1")
    monitor.send("MONITOR")
    deep.sink()
    one.send("GET", "a")
    deep.engine.tick()
    before = monitor.received()
    deep.read()
    after: Any = monitor.received()
    assert not [line for line in before if '"GET"' in line]
    assert [line for line in after if '"GET" "a"' in line]


def test_numbers_tell_what_was_read_how(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    client.send("MSET", "a", "1", "b", "2")
    deep.sink()
    client.send("GET", "a")
    deep.read()
    client.send("GET", "a")
    client.send("INCR", "new")
    client.send("EVAL", "return redis.call('GET', 'b')", "0")
    assert deep.engine.cache is not None
    numbers = deep.engine.cache.numbers()
    assert (numbers["cold_fetches"], numbers["sync_fetches"]) == (1, 1)
    assert numbers["absent"] >= 1
    assert numbers["hits"] >= 1
    assert numbers["resident_keys"] == 3


def test_what_is_not_used_makes_room(deep: Deep, connect: Callable[[], Session]) -> None:
    client = connect()
    for number in range(2000):
        client.send("SET", f"key:{number}", "x" * 1000)
    Tide(deep.engine, deep.store).write_all()
    cache = deep.engine.cache
    assert cache is not None
    deep.engine.config.set([("rocksdb-cache-bytes", "1mb")])
    for _ in range(1000):
        if not cache.make_room(10**9):
            break
    assert cache.resident_bytes <= 1 << 20
    assert cache.numbers()["resident_keys"] > 100
    assert client.send("DBSIZE") == [2000]
    assert all(client.send("GET", f"key:{number}") == [b"x" * 1000] for number in range(0, 2000, 50))


@pytest.mark.skipif(kernel.load() is None, reason="on pure Python what is to be set is read before")
def test_what_is_set_whatever_it_was_is_not_read_before(deep: Deep, connect: Callable[[], Session]) -> None:
    one, other, watching = connect(), connect(), connect()
    one.send("MSET", "a", "1", "b", "1", "c", "1", "d", "1", "e", "1")
    one.send("RPUSH", "list", "1")
    watching.send("WATCH", "b")
    deep.sink()
    assert one.send("GET", "a") == []
    deep.turn()
    assert other.send("SET", "a", "new") == ["OK"]  # while it is awaited
    assert other.send("MSET", "b", "new", "never", "new") == ["OK"]
    assert other.send("SETEX", "c", "100", "new") == ["OK"]
    assert other.send("PSETEX", "d", "100000", "new") == ["OK"]
    assert other.send("SET", "list", "new", "EX", "100") == ["OK"]
    assert deep.store.asked == []
    assert other.send("DBSIZE") == [7]
    assert len(deep.store.asked) == 6
    watching.send("MULTI")
    assert watching.send("EXEC") == [NULL_ARRAY]
    deep.read()
    assert one.received() == [b"new"]
    assert other.send("SET", "e", "new", "GET") == []
    deep.read()
    assert other.received() == [b"1"]


@pytest.mark.skipif(kernel.load() is None, reason="on pure Python what is to be set is read before")
def test_who_is_told_of_new_keys_has_what_is_set_read_before(deep: Deep, connect: Callable[[], Session]) -> None:
    client, listener = connect(), connect()
    client.send("SET", "old", "1")
    client.send("CONFIG", "SET", "notify-keyspace-events", "KEn$")
    listener.send("PSUBSCRIBE", "__keyevent@0__:new")
    deep.sink()
    assert client.send("SET", "old", "2") == []
    deep.read()
    client.send("SET", "young", "1")
    assert [message[-1] for message in listener.received()] == [b"young"]
