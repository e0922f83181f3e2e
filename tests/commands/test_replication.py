"""Replication, asked of a server that has none: who waits for replicas waits in vain, and everything else is said."""

import pytest

from kora.errors import CommandError


def error_of(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


def test_wait_answers_at_once_where_nobody_is_waited_for(run):
    assert run("WAIT", "0", "0") == 0
    assert run("WAIT", "-1", "0") == 0
    assert run("WAITAOF", "0", "0", "0") == [0, 0]


@pytest.mark.parametrize(("words", "reply"), [(("WAIT", "1", "100"), 0), (("WAITAOF", "0", "1", "100"), [0, 0])])
def test_waiting_for_replicas_ends_with_the_time(connect, clock, words, reply):
    session = connect()
    assert session.send(*words) == []
    clock.advance_ms(99)
    assert session.received() == []
    clock.advance_ms(1)
    assert session.received() == [reply]


@pytest.mark.parametrize(("words", "reply"), [(("WAIT", "1", "0"), 0), (("WAITAOF", "0", "1", "0"), [0, 0])])
def test_waiting_for_replicas_without_a_time_is_ended_by_unblock_only(connect, clock, words, reply):
    session, operator = connect(), connect()
    session.send(*words)
    clock.advance_ms(10_000_000)
    assert session.received() == []
    assert operator.send("CLIENT", "UNBLOCK", session.client.id) == [1]
    assert session.received() == [reply]
    session.send(*words)
    assert operator.send("CLIENT", "UNBLOCK", session.client.id, "ERROR") == [1]
    [error] = session.received()
    assert error.message == "UNBLOCKED client unblocked via CLIENT UNBLOCK"


def test_requests_behind_a_wait_run_once_it_is_over(connect, clock):
    session = connect()
    session.send("WAIT", "1", "10")
    assert session.send("PING") == []
    clock.advance_ms(10)
    assert session.received() == [0, "PONG"]


def test_in_a_transaction_nobody_waits(run):
    run("MULTI")
    run("WAIT", "1", "0")
    run("WAITAOF", "0", "1", "0")
    assert run("EXEC") == [0, [0, 0]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("2", "0", "0"), "ERR value is out of range, value must between 0 and 1"),
        (("x", "0", "0"), "ERR value is not an integer or out of range"),
        (("0", "-1", "0"), "ERR value is out of range, must be positive"),
        (("0", "0", "-1"), "ERR timeout is negative"),
        (("0", "0", "x"), "ERR timeout is not an integer or out of range"),
        (("1", "0", "0"), "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."),
    ],
)
def test_waitaof_refuses_in_the_words_of_redis(run, words, message):
    assert error_of(run, "WAITAOF", *words) == message


def test_nobody_becomes_a_replica(run):
    assert run("REPLICAOF", "no", "one") == "OK"
    assert "has no replication" in error_of(run, "REPLICAOF", "localhost", "6379")
    assert "has no replication" in error_of(run, "SYNC")
    assert "has no replication" in error_of(run, "PSYNC", "?", "-1")
    assert run("ROLE") == [b"master", 0, []]


def test_memory_stats_and_doctor_tell_what_there_is(run):
    run("SET", "k", "x" * 1_000_000)
    pairs = run("MEMORY", "STATS")
    stats = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert stats[b"keys.count"] == 1
    assert stats[b"keys.bytes-per-key"] == stats[b"dataset.bytes"] > 1_000_000
    assert stats[b"peak.allocated"] >= stats[b"total.allocated"] == stats[b"dataset.bytes"]
    assert run("MEMORY", "DOCTOR").startswith(b"There is little data")
    for number in range(10):
        run("SET", f"k{number}", "x" * 1_000_000)
    for number in range(5):
        run("DEL", f"k{number}")
    assert run("MEMORY", "DOCTOR").startswith(b"Peak: there were ")


def test_client_kill_of_old_connections(connect, clock):
    old = connect()
    clock.advance_ms(10_000)
    young, operator = connect(), connect()
    assert operator.send("CLIENT", "KILL", "MAXAGE", "11") == [0]
    assert operator.send("CLIENT", "KILL", "MAXAGE", "5") == [1]
    assert old.client.closing
    assert not young.client.closing
    for word, text in (("0", "should be greater than 0"), ("x", "is not an integer or out of range")):
        [error] = operator.send("CLIENT", "KILL", "MAXAGE", word)
        assert error.message == f"ERR maxage {text}"


def test_settings_that_redis_has_can_be_read_and_set_to_what_they_are(run):
    assert run("CONFIG", "GET", "cluster-enabled") == [b"cluster-enabled", b"no"]
    assert b"io-threads" in run("CONFIG", "GET", "io-*")
    assert run("CONFIG", "SET", "list-compress-depth", "0") == "OK"
    assert error_of(run, "CONFIG", "SET", "list-compress-depth", "1").endswith("can't set immutable config")
