"""Clients that wait for keys, by commands made up for it: heaps that one gives to, and waits to take from.

GIVE key count adds; TAKE key [key ...] timeout takes one, or waits; MOVE-ONE source target timeout as BLMOVE; EYE key
waits until the key is no heap any more, as XREADGROUP does for a group that goes.
"""

import pytest

from kora import kernel
from kora.commands import FAMILIES
from kora.config import Config
from kora.engine.blocking import parse_timeout
from kora.engine.engine import Engine
from kora.engine.registry import Family, Registry, keys_at
from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from tests.conftest import Session, encode_request, runner
from tests.resp_reader import read_replies


class Heap:
    """Things, of which only the number matters."""

    kind = "list"
    encoding = "listpack"
    keeps_when_empty = False
    size_bytes = 8
    effort = 1

    def __init__(self, limits):
        self.counted_bytes = 0
        self.count = 0

    def __len__(self):
        return self.count

    def copy(self):
        other = Heap(None)
        other.count = self.count
        return other


def give(client, argv):
    _, key, count = argv
    heap = client.db.find(key, Heap) or client.db.make(Heap)
    heap.count += int(count)
    client.db.updated(key, heap)
    return heap.count


def take(client, argv):
    *keys, timeout = argv[1:]
    timeout_s = parse_timeout(timeout)
    for key in keys:
        heap = client.db.find(key, Heap)
        if heap is not None:
            heap.count -= 1
            client.db.updated(key, heap)
            return key
    return client.wait(keys, timeout_s, NULL_ARRAY, argv)


def move_one(client, argv):
    _, source, target, timeout = argv
    heap = client.db.find(source, Heap)
    if heap is None:
        return client.wait([source], parse_timeout(timeout), None, argv)
    other = client.db.find(target, Heap) or client.db.make(Heap)
    heap.count -= 1
    client.db.find(source)
    client.db.updated(source, heap)
    other.count += 1
    client.db.find(target)
    client.db.updated(target, other)
    return b"moved"


def eye(client, argv):
    heap = client.db.find(argv[1])
    if type(heap) is not Heap:
        raise CommandError("GONE it is no heap")
    return client.wait([argv[1]], 0, NULL_ARRAY, argv, wakes_on_loss=True)


@pytest.fixture
def engine(clock):
    heaps = Family("list")
    heaps("GIVE key count:int", "Gives.", flags="write", since="1.0.0", access="RW update")(give)
    heaps(
        "TAKE key [key ...] timeout:double", "Takes.", flags="write blocking", since="1.0.0", access="RW update",
        keys=(keys_at(1, -2),),
    )(take)  # fmt: skip
    heaps(
        "MOVE-ONE source:key target:key timeout:double", "Moves.", flags="write blocking", since="1.0.0",
        access=("RW update", "RW update"),
    )(move_one)  # fmt: skip
    heaps("EYE key", "Waits for the end.", flags="blocking", since="1.0.0", access="RO")(eye)
    return Engine(Config.load([], {}), Registry((*FAMILIES, heaps)), clock, kernel=kernel.load())


@pytest.fixture
def run(engine):
    return runner(engine.connect("127.0.0.1:50000", "127.0.0.1:6379"))


@pytest.fixture
def connect(engine):
    return lambda: Session(engine)


def is_at_rest(engine):
    """Whether nobody is waited for, and nothing is left over from those who did."""
    blocking = engine.blocking
    attended = [keyspace for keyspace in engine.databases.used() if getattr(keyspace, "_attended", None)]
    return not (blocking.keys or len(blocking) or attended or blocking._ready or blocking._wary)


def messages(replies):
    return [reply.message if isinstance(reply, CommandError) else reply for reply in replies]


def test_who_finds_something_does_not_wait(run, engine):
    run("GIVE", "k", 2)
    assert run("TAKE", "a", "k", 0) == b"k"
    assert run("TAKE", "k", 0) == b"k"
    assert run("EXISTS", "k") == 0
    assert is_at_rest(engine)


def test_who_waits_is_served_once_there_is_something(run, connect, engine):
    waiting = connect()
    assert waiting.send("TAKE", "a", "k", "a", 0) == []
    assert (len(engine.blocking), engine.blocking.keys) == (1, 2)
    run("SET", "other", "v")
    assert waiting.received() == []
    assert run("GIVE", "k", 1) == 1
    assert waiting.received() == [b"k"]
    assert run("EXISTS", "k") == 0
    assert is_at_rest(engine)


def test_first_come_first_served(run, connect):
    sessions = [connect() for _ in range(5)]
    for one in sessions:
        one.send("TAKE", "k", 0)
    run("GIVE", "k", 2)
    assert [one.received() for one in sessions] == [[b"k"], [b"k"], [], [], []]
    run("GIVE", "k", 1)
    run("GIVE", "k", 5)
    assert [one.received() for one in sessions] == [[], [], [b"k"], [b"k"], [b"k"]]
    assert run("TAKE", "k", 0) == b"k"


def test_a_request_behind_one_that_waits_waits_as_well(run, connect, engine):
    waiting = connect()
    data = b"".join(encode_request(words) for words in (("PING",), ("TAKE", "k", "0"), ("SET", "late", "v"), ("PING",)))
    assert read_replies(engine.execute(waiting.client, data)) == ["PONG"]
    assert waiting.send("GET", "late") == []
    assert run("EXISTS", "late") == 0
    run("GIVE", "k", 1)
    assert waiting.received() == [b"k", "OK", "PONG", b"v"]
    assert run("GET", "late") == b"v"


def test_a_wait_ends_with_its_time(run, connect, clock, engine):
    waiting = connect()
    waiting.send("TAKE", "k", 0.5)
    clock.advance_ms(499)
    assert waiting.received() == []
    clock.advance_ms(2)
    assert waiting.received() == [NULL_ARRAY]
    assert is_at_rest(engine)
    assert run("GIVE", "k", 1) == 1
    assert waiting.received() == []


def test_the_shortest_time_is_a_millisecond(connect, clock):
    waiting = connect()
    waiting.send("TAKE", "k", "0.0000001")
    assert waiting.received() == []
    clock.advance_ms(1)
    assert waiting.received() == [NULL_ARRAY]


def test_what_nobody_gets_any_more_stays(run, connect, clock):
    first, second = connect(), connect()
    first.send("TAKE", "k", 1)
    second.send("TAKE", "k", 2)
    clock.advance_ms(1_001)
    assert first.received() == [NULL_ARRAY]
    run("GIVE", "k", 1)
    assert second.received() == [b"k"]


@pytest.mark.parametrize(
    ("text", "expected"), [(b"0", 0), (b"1", 1), (b"0.25", 0.25), (b".5", 0.5), (b"5.", 5), (b"1e2", 100), (b"-0", 0)]
)
def test_timeouts_are_seconds(text, expected):
    assert parse_timeout(text) == expected


@pytest.mark.parametrize("text", [b"", b"x", b"nan", b"1 ", b" 1", b"1_0", b"0.5s"])
def test_timeouts_that_are_no_numbers(text):
    with pytest.raises(CommandError) as caught:
        parse_timeout(text)
    assert caught.value.message == "ERR timeout is not a float or out of range"


def test_timeouts_out_of_range():
    for text, message in ((b"-1", "negative"), (b"1e30", "out of range"), (b"1e400", "out of range")):
        with pytest.raises(CommandError) as caught:
            parse_timeout(text)
        assert message in caught.value.message


def test_in_a_transaction_the_time_is_over_at_once(run):
    run("MULTI")
    run("TAKE", "k", 0)
    run("GIVE", "k", 1)
    run("TAKE", "k", 0)
    assert run("EXEC") == [NULL_ARRAY, 1, b"k"]


def test_who_waits_is_served_when_a_transaction_is_done(run, connect):
    waiting = connect()
    waiting.send("TAKE", "k", 0)
    run("MULTI")
    run("GIVE", "k", 1)
    run("DEL", "k")
    run("GIVE", "k", 2)
    assert waiting.received() == []
    assert run("EXEC") == [1, 1, 2]
    assert waiting.received() == [b"k"]
    run("MULTI")
    run("GIVE", "l", 1)
    run("DEL", "l")
    waiting.send("TAKE", "l", 0)
    run("EXEC")
    assert waiting.received() == []


def test_what_one_gets_may_be_what_another_waits_for(run, connect, engine):
    first, second, third = connect(), connect(), connect()
    third.send("TAKE", "c", 0)
    second.send("MOVE-ONE", "b", "c", 0)
    first.send("MOVE-ONE", "a", "b", 0)
    run("GIVE", "a", 1)
    assert [first.received(), second.received(), third.received()] == [[b"moved"], [b"moved"], [b"c"]]
    assert run("DBSIZE") == 0
    assert is_at_rest(engine)


def test_a_ring_of_moves_ends(run, connect, engine):
    first, second = connect(), connect()
    first.send("MOVE-ONE", "a", "b", 0)
    second.send("MOVE-ONE", "b", "a", 0)
    run("GIVE", "a", 1)
    assert (first.received(), second.received()) == ([b"moved"], [b"moved"])
    assert run("EXISTS", "a", "b") == 1
    assert is_at_rest(engine)


def test_a_value_of_another_kind_serves_nobody(run, connect):
    waiting = connect()
    waiting.send("TAKE", "k", 0)
    run("SET", "k", "text")
    assert waiting.received() == []
    with pytest.raises(CommandError, match="WRONGTYPE"):
        run("TAKE", "k", 0)
    run("DEL", "k")
    run("GIVE", "k", 1)
    assert waiting.received() == [b"k"]


@pytest.mark.parametrize(
    "lines",
    [
        ["GIVE other 1", "RENAME other k"],
        ["GIVE other 1", "COPY other k"],
        ["SELECT 1", "GIVE k 1", "MOVE k 0"],
        ["SELECT 1", "GIVE k 1", "SWAPDB 0 1"],
        ["SELECT 1", "GIVE k 1", "COPY k k DB 0"],
    ],
    ids=lambda lines: lines[-1],
)
def test_a_key_may_come_by_any_way(run, connect, lines):
    waiting = connect()
    waiting.send("TAKE", "k", 0)
    for line in lines:
        assert waiting.received() == []
        run(*line.split(" "))
    assert waiting.received() == [b"k"]


def test_who_waits_is_found_by_its_database(run, connect):
    waiting = connect()
    waiting.send("SELECT", 1)
    waiting.send("TAKE", "k", 0)
    run("GIVE", "k", 1)
    assert waiting.received() == []
    run("SELECT", 1)
    run("GIVE", "k", 1)
    assert waiting.received() == [b"k"]


def test_who_wants_to_know_of_a_loss_is_told(run, connect, clock, engine):
    for line in ("DEL k", "SET k v", "FLUSHALL", "RENAME k l", "PEXPIRE k 1", "SWAPDB 0 1", "MOVE k 3"):
        run("FLUSHALL")
        run("GIVE", "k", 1)
        waiting = connect()
        waiting.send("EYE", "k")
        run("GIVE", "k", 1)
        assert waiting.received() == []
        run(*line.split(" "))
        clock.advance_ms(2)
        run("GET", "nosuch")
        engine.databases[0].find(b"k")
        assert messages(waiting.received()) == ["GONE it is no heap"], line
        assert is_at_rest(engine)


def test_an_error_on_a_later_look_is_the_reply_and_is_counted(run, connect, engine):
    run("GIVE", "k", 1)
    waiting = connect()
    waiting.send("EYE", "k")
    run("DEL", "k")
    assert messages(waiting.received()) == ["GONE it is no heap"]
    assert engine.errors["GONE"] == 1


def test_client_unblock_ends_a_wait(run, connect, engine):
    waiting = connect()
    number = waiting.client.id
    assert run("CLIENT", "UNBLOCK", number) == 0
    for words, expected in (
        ((), [NULL_ARRAY]),
        (("timeout",), [NULL_ARRAY]),
        (("ERROR",), ["UNBLOCKED client unblocked via CLIENT UNBLOCK"]),
    ):
        waiting.send("TAKE", "k", 100)
        assert run("CLIENT", "UNBLOCK", number, *words) == 1
        assert messages(waiting.received()) == expected
        assert is_at_rest(engine)
    assert engine.errors["UNBLOCKED"] == 1
    assert waiting.send("PING") == ["PONG"]


def test_client_list_and_info_tell_of_who_waits(run, connect):
    waiting = connect()
    waiting.send("TAKE", "a", "b", 0)
    line = run("CLIENT", "LIST", "ID", waiting.client.id).decode()
    fields = dict(word.split("=", 1) for word in line.strip().split(" "))
    assert (fields["flags"], fields["cmd"]) == ("b", "take")
    text = run("INFO", "clients").decode()
    assert "blocked_clients:1\r\n" in text
    assert "total_blocking_keys:2\r\n" in text
    assert run("CLIENT", "KILL", "ID", waiting.client.id) == 1
    text = run("INFO", "clients").decode()
    assert "blocked_clients:0\r\n" in text
    assert "total_blocking_keys:0\r\n" in text


def test_a_client_that_leaves_gives_its_place_to_the_next(run, connect, engine):
    first, second = connect(), connect()
    first.send("TAKE", "k", 0)
    second.send("TAKE", "k", 0)
    engine.forget(first.client)
    run("GIVE", "k", 1)
    assert first.received() == []
    assert second.received() == [b"k"]
    assert is_at_rest(engine)


def test_thousands_who_leave_at_once_leave_nothing_behind(run, connect, engine):
    sessions = [connect() for _ in range(5_000)]
    for number, one in enumerate(sessions):
        one.send("TAKE", "k", f"k{number % 100}", 1000)
    assert engine.blocking.keys == 101
    for one in sessions:
        engine.forget(one.client)
    assert is_at_rest(engine)
    assert len(engine.blocking._deadlines) < 200
    assert run("GIVE", "k", 1) == 1


def test_deadlines_of_waits_that_are_over_do_not_pile_up(run, connect, engine):
    patient, quick = connect(), connect()
    patient.send("TAKE", "never", "1000000")
    for _ in range(2_000):
        quick.send("TAKE", "k", "1000000")
        run("GIVE", "k", 1)
        assert quick.received() == [b"k"]
    assert len(engine.blocking._deadlines) < 200
    engine.clock.advance_ms(1_000_000_001)
    assert patient.received() == [NULL_ARRAY]
    assert quick.received() == []
    assert not engine.blocking._deadlines
    assert engine.blocking._over == 0


def test_one_timer_at_a_time_is_asked_of_the_loop(connect, engine, clock):
    class Timer:
        def __init__(self, delay_s, function):
            self.delay_s, self.function = delay_s, function
            timers.append(self)

        def cancel(self):
            timers.remove(self)

    timers = []
    engine.call_later = Timer
    first, second = connect(), connect()
    first.send("TAKE", "k", 10)
    second.send("TAKE", "k", 5)
    assert [timer.delay_s for timer in timers] == [5]
    third = connect()
    third.send("TAKE", "k", "1e9")
    assert len(timers) == 1
    clock.advance_ms(5_001)
    timers[0].function()
    assert second.received() == [NULL_ARRAY]
    assert [round(timer.delay_s) for timer in timers] == [5]
    clock.advance_ms(5_001)
    timers[0].function()
    assert first.received() == [NULL_ARRAY]
    assert [timer.delay_s for timer in timers] == [3600]


def test_a_client_without_replies_is_served_silently(run, connect):
    waiting = connect()
    waiting.send("CLIENT", "REPLY", "OFF")
    waiting.send("TAKE", "k", 0)
    run("GIVE", "k", 1)
    assert run("EXISTS", "k") == 0
    assert waiting.received() == []
    assert waiting.send("CLIENT", "REPLY", "ON") == ["OK"]


def test_a_reply_is_in_the_protocol_of_who_waits(run, connect, clock):
    waiting = connect()
    waiting.send("HELLO", "3")
    waiting.send("TAKE", "k", 1)
    clock.advance_ms(1_001)
    assert waiting.received() == [None]


def test_a_wait_is_one_call(run, connect):
    waiting = connect()
    waiting.send("TAKE", "k", 0)
    run("GIVE", "k", 1)
    assert waiting.received() == [b"k"]
    assert "cmdstat_take:calls=1," in run("INFO", "commandstats").decode()


def test_waiting_and_listening_in_resp3(run, connect):
    both = connect()
    both.send("HELLO", "3")
    both.send("SUBSCRIBE", "news")
    both.send("TAKE", "k", 0)
    run("PUBLISH", "news", "m")
    run("GIVE", "k", 1)
    message, reply = both.received()
    assert message.items == [b"message", b"news", b"m"]
    assert reply == b"k"


def test_a_key_that_is_watched_and_waited_for(run, connect):
    watching, waiting = connect(), connect()
    watching.send("WATCH", "k")
    waiting.send("TAKE", "k", 0)
    run("GIVE", "k", 1)
    assert waiting.received() == [b"k"]
    watching.send("MULTI")
    assert watching.send("EXEC") == [NULL_ARRAY]
    run("GIVE", "k", 1)
    assert run("TAKE", "k", 0) == b"k"
