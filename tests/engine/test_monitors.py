import contextlib

import pytest

from kora.engine.monitors import quoted
from kora.errors import CommandError


@pytest.fixture
def watch(connect):
    """watch() makes a monitor; watch()() are the lines that it was sent since the last look."""

    def make():
        session = connect()
        assert session.send("MONITOR") == ["OK"]

        def lines():
            session.client.engine.slowness.monitors.flush()
            return session.received()

        lines.session = session
        return lines

    return make


def texts(lines):
    """Without time and client."""
    return [line.partition("] ")[2] for line in lines()]


def test_a_line_has_time_database_client_and_words(run, watch, clock):
    lines = watch()
    run("SELECT", "2")
    run("SET", "k", b'a"b\\c\r\n\t\a\b\x00\xff z')
    assert lines() == [
        '1700000000.000000 [2 127.0.0.1:50000] "SELECT" "2"',
        '1700000000.000000 [2 127.0.0.1:50000] "SET" "k" "a\\"b\\\\c\\r\\n\\t\\a\\b\\x00\\xff z"',
    ]
    clock.advance_ns(1_234_567_000)
    run("PING")
    assert lines() == ['1700000001.234567 [2 127.0.0.1:50000] "PING"']


def test_a_client_of_a_unix_socket_is_shown_by_its_path(engine, watch):
    lines = watch()
    engine.execute(engine.connect("/run/kora.sock:0"), b"PING\r\n")
    assert lines()[0].endswith('[0 unix:/run/kora.sock] "PING"')


def test_every_byte_is_quoted_as_redis_does():
    named = {0x5C: b"\\\\", 0x22: b'\\"', 10: b"\\n", 13: b"\\r", 9: b"\\t", 7: b"\\a", 8: b"\\b"}
    for code in range(256):
        plain = bytes((code,)) if 32 <= code < 127 else b"\\x%02x" % code
        assert quoted(bytes((code,))) == named.get(code, plain)


def test_secrets_and_what_operators_do_are_not_shown(run, watch):
    lines = watch()
    for words in (("AUTH", "secret"), ("HELLO", "2", "AUTH", "u", "secret"), ("ACL", "SETUSER", "u", ">secret")):
        with contextlib.suppress(CommandError):
            run(*words)
    run("CONFIG", "SET", "requirepass", "secret")
    run("CONFIG", "SET", "requirepass", "")
    run("CONFIG", "GET", "*")
    assert texts(lines) == ['"AUTH" "(redacted)"', '"HELLO" "2" "AUTH" "(redacted)" "(redacted)"']


def test_a_transaction_is_shown_when_it_runs_and_exec_behind_it(run, watch):
    lines = watch()
    run("MULTI")
    run("SET", "k", "v")
    assert texts(lines) == ['"MULTI"']
    run("EXEC")
    assert texts(lines) == ['"SET" "k" "v"', '"EXEC"']


def test_a_script_is_shown_in_front_of_its_commands(run, watch):
    lines = watch()
    run("EVAL", "redis.call('set', 'x', 'y')", "0")
    first, second = lines()
    assert first.endswith("""[0 127.0.0.1:50000] "EVAL" "redis.call('set', 'x', 'y')" "0\"""")
    assert second.endswith('[0 lua] "set" "x" "y"')


def test_what_is_refused_is_not_shown_and_what_fails_is(run, watch):
    run("SET", "k", "v")
    lines = watch()
    for words in (("NOPE",), ("GET",), ("LPUSH", "k", "x")):
        with pytest.raises(CommandError):
            run(*words)
    assert texts(lines) == ['"LPUSH" "k" "x"']


def test_a_command_that_waits_is_shown_once(run, watch, connect):
    lines = watch()
    connect().send("BLPOP", "l", "0")
    run("LPUSH", "l", "v")
    assert texts(lines) == ['"BLPOP" "l" "0"', '"LPUSH" "l" "v"']


def test_monitors_are_shown_what_they_do_themselves_behind_the_reply(watch):
    lines, others = watch(), watch()
    assert lines.session.send("PING") == ["PONG"]
    assert texts(lines) == texts(others) == ['"PING"']


def test_a_monitor_has_nothing_to_do_with_keys(watch, connect):
    session = watch().session
    for words in (("GET", "k"), ("SET", "k", "v")):
        (error,) = session.send(*words)
        assert error.message == "ERR Replica can't interact with the keyspace"
    assert session.send("MONITOR") == [], "it is one already"


def test_reset_and_the_end_of_the_connection_end_it(run, engine, watch, client):
    lines, others = watch(), watch()
    assert engine.slowness.monitors
    assert "flags=O" in run("CLIENT", "LIST").decode()
    assert lines.session.send("RESET") == ["RESET"]
    run("PING")
    assert lines() == []
    assert lines.session.send("GET", "k") == [None]
    engine.kill(others.session.client)
    assert not engine.slowness.monitors
    assert "flags=O" not in run("CLIENT", "LIST").decode()


def test_monitor_is_not_for_transactions(run):
    run("MULTI")
    run("MONITOR")
    (error,) = run("EXEC")
    assert error.message == "ERR MONITOR isn't allowed for DENY BLOCKING client"


def test_without_observation_monitors_are_shown_everything_too(run, watch):
    run("CONFIG", "SET", "observation", "no")
    lines = watch()
    run("GET", "k")
    assert texts(lines) == ['"GET" "k"']
    assert run("SLOWLOG", "LEN") == 0


def test_lines_do_not_pile_up_in_front_of_the_sockets(run, engine, watch):
    lines = watch()
    for _ in range(20):
        run("SET", "k", "x" * 10_000)
    assert engine.slowness.monitors._lines_bytes < 1 << 16
    assert len(lines()) == 20
