"""MIGRATE without sockets: what travels, what is deleted when, and what becomes of keys that change on their way."""

import random
from importlib import import_module

import pytest

from kora.engine.outbound import READING
from kora.errors import CommandError
from tests.conftest import runner


class Roads:
    """An Outbound that leads to another engine: exchanges wait until a test lets them go."""

    def __init__(self, target):
        self.client = target.connect()
        self.waiting = []
        self.database = 0
        self.on_the_way = lambda: None  # what happens while requests travel

    def start(self, exchange):
        self.waiting.append(exchange)

    def run(self, exchange):
        self._carry(exchange)

    def arrive(self):
        """Let one exchange come to its end."""
        exchange = self.waiting.pop(0)
        self.on_the_way()
        self._carry(exchange)

    def arrive_all(self):
        while self.waiting:
            self.arrive()

    def _carry(self, exchange):
        data = b"".join(exchange.begin(self.database))
        replies = self.client.engine.execute(self.client, data)
        while self.client.more:
            replies += self.client.engine.resume(self.client)
        for line in replies.split(b"\r\n")[:-1]:
            exchange.take(line)
        assert exchange.is_answered
        self.database = exchange.database
        exchange.end()


@pytest.fixture
def there(make_engine):
    """run() of the server to which keys travel."""
    return runner(make_engine().connect())


@pytest.fixture
def roads(engine, there):
    engine.outbound = Roads(there.__closure__[0].cell_contents.engine)
    return engine.outbound


@pytest.fixture
def migrate(connect):
    session = connect()

    def start(*words):
        assert session.send("MIGRATE", "host", 6379, *words) == []
        return session

    return start


def reply_of(session):
    (reply,) = session.received()
    return reply


def test_a_key_is_here_until_it_is_there(run, there, roads, migrate):
    run("SET", "k", "v", "EX", 100)
    session = migrate("k", 0, 1000)
    assert (run("GET", "k"), there("EXISTS", "k"), session.received()) == (b"v", 0, [])
    roads.arrive()
    assert (run("EXISTS", "k"), there("GET", "k"), there("TTL", "k")) == (0, b"v", 100)
    assert reply_of(session) == "OK"
    assert session.send("PING") == ["PONG"]


def test_keys_of_all_types_travel_and_those_that_are_not_there_do_not(run, there, roads, migrate, engine):
    run("RPUSH", "list", *range(300))
    run("XADD", "stream", "1-1", "f", "v")
    run("HSET", "hash", "f", "v")
    run("HEXPIRE", "hash", 100, "FIELDS", 1, "f")
    session = migrate("", 3, 1000, "KEYS", "list", "nosuch", "stream", "hash", "list")
    roads.arrive()
    assert reply_of(session) == "OK"
    there("SELECT", 3)
    assert (there("LLEN", "list"), there("XLEN", "stream")) == (300, 1)
    assert there("HTTL", "hash", "FIELDS", 1, "f") == [100]
    assert run("DBSIZE") == 0
    assert len(engine.travels) == 0


def test_a_copy_stays(run, there, roads, migrate):
    run("SET", "k", "v")
    session = migrate("k", 0, 1000, "COPY")
    roads.arrive()
    assert (reply_of(session), run("GET", "k"), there("GET", "k")) == ("OK", b"v", b"v")


def test_what_is_refused_stays_and_the_rest_has_gone(run, there, roads, migrate, engine):
    for key in ("a", "b", "c"):
        run("SET", key, "v")
    there("SET", "b", "theirs")
    session = migrate("", 0, 1000, "KEYS", "a", "b", "c")
    roads.arrive()
    expected = "ERR Target instance replied with error: BUSYKEY Target key name already exists."
    assert reply_of(session).message == expected
    assert [run("EXISTS", key) for key in ("a", "b", "c")] == [0, 1, 0]
    assert len(engine.travels) == 0
    session = migrate("b", 0, 1000, "REPLACE")
    roads.arrive()
    assert (reply_of(session), there("GET", "b")) == ("OK", b"v")


def test_who_may_not_log_in_is_told_so_and_everything_stays(run, there, roads, migrate):
    run("SET", "k", "v")
    there("CONFIG", "SET", "requirepass", "secret")
    roads.client.set_authenticated(False)
    session = migrate("k", 0, 1000, "AUTH", "wrong")
    roads.arrive()
    expected = "ERR Target instance replied with error: WRONGPASS invalid username-password pair or user is disabled."
    assert reply_of(session).message == expected
    session = migrate("k", 0, 1000, "AUTH2", "default", "secret")
    roads.arrive()
    assert (reply_of(session), run("EXISTS", "k")) == ("OK", 0)


def test_a_connection_that_breaks_leaves_what_was_not_accepted(run, roads, migrate, engine):
    for key in ("a", "b"):
        run("SET", key, "v")
    session = migrate("", 0, 1000, "KEYS", "a", "b")
    exchange = roads.waiting.pop()
    list(exchange.begin(0))
    exchange.take(b"+OK")
    exchange.end(READING)
    assert reply_of(session).message == "IOERR error or timeout reading to target instance"
    assert (run("EXISTS", "a"), run("EXISTS", "b")) == (0, 1)
    assert len(engine.travels) == 0
    assert b"errorstat_IOERR:count=1" in run("INFO", "errorstats")


def test_a_key_that_changes_on_its_way_is_sent_again(run, there, roads, migrate):
    run("SET", "k", "old")
    session = migrate("k", 0, 1000)
    run("SET", "k", "new")
    roads.arrive()
    assert (run("GET", "k"), there("GET", "k"), session.received()) == (b"new", b"old", [])
    roads.arrive()
    assert (reply_of(session), run("EXISTS", "k"), there("GET", "k")) == ("OK", 0, b"new")


def test_a_key_that_goes_on_its_way_is_as_good_as_moved_and_then_deleted_here(run, there, roads, migrate, clock):
    run("SET", "k", "v")
    run("SET", "l", "v", "PX", 50)
    session = migrate("", 0, 1000, "KEYS", "k", "l")
    run("DEL", "k")
    clock.advance_ms(51)
    roads.arrive()
    assert (reply_of(session), there("EXISTS", "k"), run("DBSIZE")) == ("OK", 1, 0)


def test_a_key_that_never_holds_still_is_sent_while_everybody_waits(run, there, roads, migrate):
    run("SET", "k", 0)
    roads.on_the_way = lambda: run("INCR", "k")
    session = migrate("k", 0, 1000)
    roads.arrive_all()
    assert (reply_of(session), run("EXISTS", "k"), there("GET", "k")) == ("OK", 0, b"3")


def test_a_large_one_that_never_holds_still_stays(run, there, roads, migrate, engine, monkeypatch):
    monkeypatch.setattr(import_module("kora.commands.migration"), "_LAST_BYTES_MAX", 1000)
    run("SET", "k", random.Random(1).randbytes(1000))
    roads.on_the_way = lambda: run("SETRANGE", "k", 5, "x")
    session = migrate("k", 0, 1000)
    roads.arrive_all()
    assert reply_of(session).message.startswith("ERR Keys were changed again and again")
    assert (run("EXISTS", "k"), len(engine.travels)) == (1, 0)


def test_who_is_gone_when_the_key_arrives_gets_no_reply(run, there, roads, migrate, engine):
    run("SET", "k", "v")
    session = migrate("k", 0, 1000)
    engine.kill(session.client)
    roads.arrive()
    assert (run("EXISTS", "k"), there("GET", "k")) == (0, b"v")
    assert engine.internal_errors == 0


def test_who_moves_keys_cannot_be_unblocked(run, roads, migrate):
    run("SET", "k", "v")
    session = migrate("k", 0, 1000)
    assert run("CLIENT", "UNBLOCK", session.client.id) == 0
    roads.arrive()
    assert reply_of(session) == "OK"


def test_in_a_transaction_everybody_waits(run, there, roads):
    run("SET", "k", "v")
    run("MULTI")
    run("MIGRATE", "host", 6379, "k", 0, 1000)
    run("EXISTS", "k")
    assert run("EXEC") == ["OK", 0]
    assert there("GET", "k") == b"v"


def test_those_who_watch_wait_or_listen_are_told_that_a_key_has_gone(run, there, roads, migrate, connect):
    run("CONFIG", "SET", "notify-keyspace-events", "Eg")
    watcher, listener = connect(), connect()
    run("SET", "k", "v")
    listener.send("SUBSCRIBE", "__keyevent@0__:del")
    watcher.send("WATCH", "k")
    migrate("k", 0, 1000)
    roads.arrive()
    assert [message[2] for message in listener.received()] == [b"k"]
    watcher.send("MULTI")
    watcher.send("PING")
    assert [type(reply).__name__ for reply in watcher.send("EXEC")] == ["NullArray"]


def test_a_port_that_nobody_answers_is_an_error_without_a_server(run):
    run("SET", "k", "v")
    with pytest.raises(CommandError) as caught:
        run("MIGRATE", "host", 6379, "k", 0, 1000)
    assert caught.value.message == "IOERR error or timeout connecting to the client"
    assert run("GET", "k") == b"v"


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("k", 0, 100, "COPY"), [b"k"]),
        (("", 0, 100, "COPY", "KEYS", "a", "b"), [b"a", b"b"]),
        (("", 0, 100, "AUTH", "keys", "KEYS", "a", "b"), [b"a", b"b"]),
        (("", 0, 100, "AUTH2", "keys", "keys", "KEYS", "a"), [b"a"]),
        (("", 0, 100, "KEYS", "a", "KEYS", "b"), [b"a", b"KEYS", b"b"]),
        (("", 0, 100), [b""]),
    ],
)
def test_the_keys_of_a_request_are_found(run, words, keys):
    assert run("COMMAND", "GETKEYS", "MIGRATE", "host", 6379, *words) == keys


def test_keys_that_a_user_may_not_touch_cannot_be_hidden_from_the_rules(run, connect):
    run("ACL", "SETUSER", "ann", "on", "nopass", "+@all", "~mine*")
    run("SET", "secret", "v")
    session = connect()
    session.send("AUTH", "ann", "x")
    (reply,) = session.send("MIGRATE", "host", 6379, "", 0, 100, "KEYS", "secret", "KEYS", "mine")
    assert reply.message.startswith("NOPERM")
