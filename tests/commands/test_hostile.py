"""Requests made to hurt: what is huge is refused or bounded, what is many is served in order and forgotten at once.

Nothing here looks at a clock: steps are counted, and memory is.
"""

import tracemalloc
from collections import Counter

import pytest

from kora.errors import CommandError
from tests.compat.peers import run_all
from tests.conftest import encode_request, runner

BIG, SMALL, SMALLEST = "9223372036854775807", "-9223372036854775807", "-9223372036854775808"


def refusal(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


@pytest.fixture
def steps(engine, monkeypatch):
    """How often requests of clients that wait were tried again."""
    count = Counter()
    run_again = engine.run_again

    def counted(client, command, argv):
        count["tries"] += 1
        return run_again(client, command, argv)

    monkeypatch.setattr(engine, "run_again", counted)
    return count


# Huge numbers


@pytest.fixture
def filled(run):
    run("RPUSH", "list", *range(100))
    run("SADD", "set", *range(100))
    run("HSET", "hash", *range(100))
    run("ZADD", "zset", *range(100))
    run("XADD", "stream", "1-1", "f", "v")
    run("SET", "string", "value")
    return run


@pytest.mark.parametrize("count", [SMALL, "-16777217", "-4611686018427387905"])
@pytest.mark.parametrize(
    "words",
    [
        ("SRANDMEMBER", "set"),
        ("HRANDFIELD", "hash"),
        ("HRANDFIELD", "hash", "WITHVALUES"),
        ("ZRANDMEMBER", "zset"),
        ("ZRANDMEMBER", "zset", "WITHSCORES"),
    ],
    ids=" ".join,
)
def test_more_random_picks_than_memory_are_refused(filled, words, count):
    assert refusal(filled, *words[:2], count, *words[2:]) == "ERR value is out of range"
    assert "out of range" in refusal(filled, *words[:2], SMALLEST, *words[2:])


@pytest.mark.parametrize(
    ("words", "length"),
    [
        (("SRANDMEMBER", "set", BIG), 100),
        (("HRANDFIELD", "hash", BIG), 50),
        (("ZRANDMEMBER", "zset", BIG), 50),
        (("LPOP", "list", BIG), 100),
        (("RPOP", "list", BIG), 100),
        (("SPOP", "set", BIG), 100),
        (("ZPOPMAX", "zset", BIG), 100),
        (("LRANGE", "list", SMALLEST, BIG), 100),
        (("ZRANGE", "zset", SMALLEST, BIG), 50),
        (("ZRANGEBYSCORE", "zset", "-inf", "inf", "LIMIT", "0", BIG), 50),
        (("ZRANGEBYSCORE", "zset", "-inf", "inf", "LIMIT", BIG, BIG), 0),
        (("XRANGE", "stream", "-", "+", "COUNT", BIG), 1),
        (("XREAD", "COUNT", BIG, "STREAMS", "stream", "0"), 1),
        (("SORT", "list", "LIMIT", "0", BIG), 100),
        (("SORT", "list", "LIMIT", BIG, BIG), 0),
        (("LPOS", "list", "5", "COUNT", BIG, "MAXLEN", BIG), 1),
        (("LMPOP", "1", "list", "LEFT", "COUNT", BIG), 2),
        (("ZMPOP", "1", "zset", "MIN", "COUNT", BIG), 2),
    ],
    ids=lambda words: words[0] if isinstance(words, tuple) else "",
)
def test_a_count_beyond_everything_gives_what_there_is(filled, words, length):
    assert len(filled(*words)) == length


def test_limits_beyond_everything_count_what_there_is(filled):
    assert filled("SINTERCARD", "1", "set", "LIMIT", BIG) == 100
    assert filled("ZINTERCARD", "1", "zset", "LIMIT", BIG) == 50
    for scan in (("SCAN", "0"), ("SSCAN", "set", "0"), ("HSCAN", "hash", "0"), ("ZSCAN", "zset", "0")):
        assert filled(*scan, "COUNT", BIG)[0] == b"0"


@pytest.mark.parametrize(
    "words",
    [
        ("SINTERCARD", BIG, "set"),
        ("ZUNION", BIG, "zset"),
        ("ZDIFFSTORE", "to", BIG, "zset"),
        ("LMPOP", BIG, "list", "LEFT"),
        ("BZMPOP", "0", BIG, "zset", "MIN"),
        ("EVAL", "return 1", BIG, "key"),
        ("FCALL", "f", BIG, "key"),
    ],
    ids=" ".join,
)
def test_more_keys_than_words_are_refused(filled, words):
    assert refusal(filled, *words).startswith("ERR ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SETRANGE", "string", "536870912", "x"), "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        (("SETRANGE", "string", BIG, "x"), "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        (("SETRANGE", "nothing", "536870912", "x"), "ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        (("SETBIT", "string", "4294967296", "1"), "ERR bit offset is not an integer or out of range"),
        (("SETBIT", "nothing", BIG, "1"), "ERR bit offset is not an integer or out of range"),
        (("BITFIELD", "string", "SET", "u8", "#536870912", "1"), "ERR bit offset is not an integer or out of range"),
        (("BITFIELD", "string", "INCRBY", "i64", BIG, "1"), "ERR bit offset is not an integer or out of range"),
        (("GETBIT", "string", "4294967296"), "ERR bit offset is not an integer or out of range"),
    ],
    ids=lambda words: " ".join(words[:4:2]) if isinstance(words, tuple) else "",
)
def test_offsets_beyond_the_longest_string_take_no_memory(filled, engine, words, message):
    before = engine.memory_bytes
    tracemalloc.start()
    try:
        assert refusal(filled, *words) == message
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert engine.memory_bytes == before
    assert peak_bytes < 1 << 20


def test_what_is_only_looked_at_is_not_copied(run):
    run("SETRANGE", "long", str((64 << 20) - 1), "x")
    tracemalloc.start()
    try:
        for command in ("HGETALL", "SMEMBERS", "LLEN", "ZCARD", "XLEN", "SORT", "LPOP", "HLEN"):
            assert refusal(run, command, "long").startswith("WRONGTYPE")
        assert refusal(run, "INCR", "long") == "ERR value is not an integer or out of range"
        assert run("OBJECT", "ENCODING", "long") == b"raw"
        assert run("OBJECT", "IDLETIME", "long") == 0
        assert run("BITCOUNT", "long", "-1", "-1") == 4
        assert run("BITPOS", "long", "1", "-1") == 8 * ((64 << 20) - 1) + 1
        assert run("SETRANGE", "long", "5", "abc") == 64 << 20
        assert run("GETRANGE", "long", "5", "7") == b"abc"
        assert run("GETBIT", "long", "41") == 1
        assert run("SCAN", "0", "TYPE", "hash") == [b"0", []]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 << 20


# Many that wait


def test_thousands_who_wait_for_one_key_are_served_in_order_by_one_push(connect, engine, steps):
    waiting = [connect() for _ in range(2_000)]
    for session in waiting:
        session.send("BLPOP", "queue", "0")
    connect().send("RPUSH", "queue", *range(1_999))
    assert [session.received() for session in waiting[:-1]] == [[[b"queue", b"%d" % n]] for n in range(1_999)]
    assert waiting[-1].received() == []
    assert steps["tries"] <= 2_000
    assert engine.blocking.keys == 1


def test_one_push_after_another_tries_nobody_in_vain(connect, steps):
    waiting = [connect() for _ in range(500)]
    for session in waiting:
        session.send("BLPOP", "queue", "0")
    producer = connect()
    for number in range(500):
        producer.send("RPUSH", "queue", number)
    assert [session.received()[0][1] for session in waiting] == [b"%d" % number for number in range(500)]
    assert steps["tries"] == 500


def test_values_of_other_kinds_wake_nobody(connect, steps):
    waiting = [connect() for _ in range(100)]
    for session in waiting:
        session.send("BLPOP", "key", "0")
    writer = connect()
    for _ in range(20):
        writer.send("SET", "key", "v")
        writer.send("DEL", "key")
        writer.send("SADD", "key", "m")
        writer.send("DEL", "key")
        writer.send("ZADD", "key", "1", "m")
        writer.send("DEL", "key")
    assert steps["tries"] == 0
    assert not any(session.received() for session in waiting)


@pytest.mark.parametrize("key", ["one", "own-{}"])
@pytest.mark.parametrize("backwards", [False, True])
def test_thousands_who_wait_are_dropped_without_a_trace(connect, engine, steps, key, backwards):
    waiting = [connect() for _ in range(2_000)]
    for number, session in enumerate(waiting):
        session.send("BLPOP", key.format(number), "other", "100")
    for session in reversed(waiting) if backwards else waiting:
        engine.forget(session.client)
    assert engine.blocking.keys == 0
    assert len(engine.blocking) == 0
    assert len(engine.blocking._deadlines) < 200
    connect().send("RPUSH", "other", "x")
    assert steps["tries"] == 0


def test_those_who_wait_for_many_keys_are_served_once(connect, engine, steps):
    waiting = [connect() for _ in range(100)]
    keys = [f"k{number}" for number in range(100)]
    for session in waiting:
        session.send("BLPOP", *keys, "0")
    producer = connect()
    for key in keys:
        producer.send("RPUSH", key, "x")
    assert [session.received() for session in waiting] == [[[key.encode(), b"x"]] for key in keys]
    assert steps["tries"] == 100
    assert engine.blocking.keys == 0


def test_a_chain_of_moves_ends_and_so_does_a_circle(connect, steps):
    for number in range(300):
        connect().send("BLMOVE", f"c{number}", f"c{number + 1}", "LEFT", "RIGHT", "0")
    operator = connect()
    operator.send("RPUSH", "c0", "x")
    assert operator.send("LRANGE", "c300", "0", "-1") == [[b"x"]]
    assert steps["tries"] == 300
    for _ in range(300):
        connect().send("BLMOVE", "round", "round", "LEFT", "RIGHT", "0")
    operator.send("RPUSH", "round", "x")
    assert operator.send("LRANGE", "round", "0", "-1") == [[b"x"]]
    assert steps["tries"] == 600


# Many keys watched, many queued


def test_ten_thousand_watched_keys(connect, engine):
    session, writer = connect(), connect()
    session.send("WATCH", *range(10_000))
    writer.send("SET", "9999", "x")
    session.send("MULTI")
    session.send("SET", "a", "b")
    [reply] = session.send("EXEC")
    assert reply != ["OK"]
    assert not engine.watches._watchers
    session.send("WATCH", *range(10_000))
    engine.forget(session.client)
    assert not engine.watches._watchers
    writer.send("FLUSHALL")


def test_a_hundred_thousand_queued_commands_run_and_those_beyond_the_limit_do_not(connect, engine):
    session = connect()
    session.send("MULTI")
    requests = encode_request(("INCR", "n")) * 1_000
    for _ in range(100):
        assert run_all(session.client, requests) == b"+QUEUED\r\n" * 1_000
    [replies] = session.send("EXEC")
    assert replies == list(range(1, 100_001))
    connect().send("CONFIG", "SET", "client-query-buffer-limit", "1mb")
    session.send("MULTI")
    for _ in range(20):
        run_all(session.client, requests)
    assert session.client.closing
    assert connect().send("GET", "n") == [b"100000"]


# Many who listen


def test_ten_thousand_channels_of_one_client_come_and_go(connect, engine):
    session = connect()
    assert len(session.send("SUBSCRIBE", *range(10_000))) == 10_000
    assert session.send("SUBSCRIBE", "5") == [[b"subscribe", b"5", 10_000]]
    assert connect().send("PUBLISH", "9999", "m") == [1]
    assert len(session.send("UNSUBSCRIBE")) == 10_000
    assert not engine.pubsub.channels.listeners
    session.send("PSUBSCRIBE", *(f"{number}*" for number in range(1_000)))
    session.send("SSUBSCRIBE", *range(1_000))
    engine.forget(session.client)
    assert not engine.pubsub.patterns.listeners
    assert not engine.pubsub._matchers
    assert not engine.pubsub.shard_channels.listeners


def test_a_subscriber_who_goes_in_the_middle_of_a_message_takes_nobody_with_it(connect, engine):
    listeners = [connect() for _ in range(1_000)]
    for session in listeners:
        session.send("SUBSCRIBE", "news")

    def leave(data):
        # As a connection does that is over its limit: the client is gone before the next has the message.
        engine.kill(listeners[500].client)
        engine.kill(listeners[700].client)

    listeners[500].client.deliver = leave
    assert connect().send("PUBLISH", "news", "m") == [1_000]
    heard = [bool(session.received()) for session in listeners]
    assert all(heard[:500] + heard[501:700] + heard[701:])
    assert not heard[500]
    assert connect().send("PUBLISH", "news", "m") == [998]


# Counters


def test_counts_of_accesses_stay_in_range_under_attack(make_engine):
    engine = make_engine("--maxmemory-policy", "allkeys-lfu", "--hotkey-sampling-ratio", "1")
    run = runner(engine.connect())
    # Not MSET, of which one key, drawn by lot, is counted for all.
    for number in range(2_000):
        run("SET", f"k{number}", "v")
    for _ in range(2_000):
        run("GET", "k7")
    for _ in range(200):
        run("OBJECT", "FREQ", "k8")
    hot, cold = run("OBJECT", "FREQ", "k7"), [run("OBJECT", "FREQ", f"k{number}") for number in range(100, 200)]
    assert max(cold) < hot <= 255
    hot_keys = engine.hot_keys.recorder
    hot_keys.record(b"k7", 0, 0, False, 1, (1 << 63) - 1, 0, 0)
    assert run("OBJECT", "FREQ", "k7") == 255
    for _ in range(64):
        list(hot_keys.decay())
    assert run("OBJECT", "FREQ", "k7") == 0


# Deep nesting


def test_nested_requests_are_no_requests(client, engine):
    assert engine.execute(client, b"*1\r\n" * 100_000) == b"-ERR Protocol error: expected '$', got '*'\r\n"
    assert client.closing
