import contextlib

import pytest

from kora.errors import CommandError
from tests.conftest import encode_request


def log_all(run):
    run("CONFIG", "SET", "slowlog-log-slower-than", "0")
    run("SLOWLOG", "RESET")


def words(run, count=-1):
    """The requests in the slow log, the oldest first, without the RESET that cleared it."""
    entries = run("SLOWLOG", "GET", count)
    return [entry[3] for entry in reversed(entries) if entry[3][:2] != [b"SLOWLOG", b"RESET"]]


def test_a_slow_command_is_logged_with_all_that_is_known_of_it(run, client, clock):
    client.name = b"worker"
    run("DEBUG", "SLEEP", "0.0099")
    run("DEBUG", "SLEEP", "0.01")
    assert run("SLOWLOG", "LEN") == 1
    assert run("SLOWLOG", "GET") == [
        [0, clock.wall_ms() // 1000, 10_000, [b"DEBUG", b"SLEEP", b"0.01"], b"127.0.0.1:50000", b"worker"]
    ]


def test_reset_forgets_entries_but_not_ids(run):
    for _ in range(2):
        run("DEBUG", "SLEEP", "0.01")
        run("SLOWLOG", "RESET")
        assert run("SLOWLOG", "LEN") == 0
    run("DEBUG", "SLEEP", "0.01")
    assert run("SLOWLOG", "GET")[0][0] == 2


def test_get_gives_ten_entries_unless_told_otherwise(run):
    for _ in range(12):
        run("DEBUG", "SLEEP", "0.01")
    assert [entry[0] for entry in run("SLOWLOG", "GET")] == list(range(11, 1, -1))
    assert len(run("SLOWLOG", "GET", "-1")) == 12
    assert len(run("SLOWLOG", "GET", "9223372036854775807")) == 12
    assert run("SLOWLOG", "GET", "0") == []
    run("CONFIG", "SET", "slowlog-max-len", "3")
    assert run("SLOWLOG", "LEN") == 3


def test_a_threshold_of_minus_1_logs_nothing_and_0_logs_all(run):
    run("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    run("DEBUG", "SLEEP", "1")
    assert run("SLOWLOG", "LEN") == 0
    log_all(run)
    run("SET", "k", "v")
    run("GET", "k")
    run("SELECT", "1")
    assert words(run) == [[b"SET", b"k", b"v"], [b"GET", b"k"], [b"SELECT", b"1"]]


def test_requests_are_cut_short(run):
    log_all(run)
    run("SET", "k", "x" * 130)
    run("MSET", *range(40))
    run("DEL", *range(40))
    assert words(run) == [
        [b"SET", b"k", b"x" * 128 + b"... (2 more bytes)"],
        [b"MSET", *(b"%d" % number for number in range(30)), b"... (10 more arguments)"],
        [b"DEL", *(b"%d" % number for number in range(30)), b"... (10 more arguments)"],
    ]


def test_large_values_that_the_keyspace_took_over_are_shown_as_they_were(run):
    log_all(run)
    large, other = "a" * 100_000, "b" * 100_000
    run("SET", "k", large)
    run("MSET", "x", large, "y", other)
    cut = [letter * 128 + b"... (99872 more bytes)" for letter in (b"a", b"b")]
    assert words(run) == [[b"SET", b"k", cut[0]], [b"MSET", b"x", cut[0], b"y", cut[1]]]


def test_a_large_value_that_was_overwritten_at_once_is_still_counted(run):
    log_all(run)
    run("MSET", "k", "a" * 100_000, "k", "b" * 100_000)
    ((_, _, first, _, second),) = words(run)
    assert first.endswith(b"more bytes)") and second == b"b" * 128 + b"... (99872 more bytes)"
    assert run("GET", "k") == b"b" * 100_000


def test_secrets_are_taken_out(run):
    log_all(run)
    for request in (
        ("AUTH", "secret"),
        ("auth", "user", "secret"),
        ("HELLO", "2", "AUTH", "user", "secret", "SETNAME", "shown"),
        ("ACL", "SETUSER", "joe", ">secret", "on"),
        ("CONFIG", "SET", "timeout", "0", "RequirePass", "secret"),
        ("AUTH", "secret"),
        ("CONFIG", "SET", "requirepass", ""),
        ("CONFIG", "SET", "masterauth", "secret"),
    ):
        with contextlib.suppress(CommandError):
            run(*request)
    shown = words(run)
    assert b"secret" not in b" ".join(b" ".join(entry) for entry in shown)
    assert shown[:5] == [
        [b"AUTH", b"(redacted)"],
        [b"auth", b"(redacted)", b"(redacted)"],
        [b"HELLO", b"2", b"AUTH", b"(redacted)", b"(redacted)", b"SETNAME", b"shown"],
        [b"ACL", b"SETUSER", b"(redacted)", b"(redacted)", b"(redacted)"],
        [b"CONFIG", b"SET", b"timeout", b"0", b"RequirePass", b"(redacted)"],
    ]


def test_the_commands_of_a_transaction_are_logged_one_by_one_and_exec_is_not(run):
    log_all(run)
    run("MULTI")
    run("SET", "k", "v")
    run("GET", "k")
    run("EXEC")
    assert words(run) == [[b"MULTI"], [b"SET", b"k", b"v"], [b"GET", b"k"]]


def test_a_script_is_logged_behind_its_commands_and_all_are_its_callers(run, client):
    client.name = b"me"
    log_all(run)
    script = "redis.call('SET', 'k', 'v'); return redis.call('GET', 'k')"
    run("EVAL", script, "0")
    assert words(run) == [[b"SET", b"k", b"v"], [b"GET", b"k"], [b"EVAL", script.encode(), b"0"]]
    assert {tuple(entry[4:]) for entry in run("SLOWLOG", "GET")} == {(b"127.0.0.1:50000", b"me")}


def test_what_a_script_does_between_its_commands_is_not_their_time(run, engine):
    runs = iter((5_000_000, 0))
    run("EVAL", "return 1", "0")  # makes the runtime
    perform = engine.scripting._perform

    def slowly(argv):
        engine.clock.advance_ns(next(runs, 0))
        return perform(argv)

    engine.scripting._perform = slowly
    run("CONFIG", "SET", "slowlog-log-slower-than", "5000")
    run("EVAL", "redis.call('PING'); return redis.call('PING')", "0")
    assert [entry[3][0] for entry in run("SLOWLOG", "GET")] == [b"EVAL"]


def test_a_command_that_failed_is_logged_and_one_that_was_refused_is_not(run):
    run("SET", "k", "v")
    log_all(run)
    for request in (("LPUSH", "k", "x"), ("GET",), ("NOPE", "x")):
        with pytest.raises(CommandError):
            run(*request)
    assert words(run) == [[b"LPUSH", b"k", b"x"]]


def test_a_command_that_waits_is_logged_when_it_gets_what_it_waits_for(run, connect):
    log_all(run)
    waiting = connect()
    waiting.client.name = b"waiter"
    assert waiting.send("BLPOP", "l", "0") == []
    assert words(run) == []
    run("SLOWLOG", "RESET")
    run("LPUSH", "l", "v")
    entries = run("SLOWLOG", "GET")
    assert [entry[3] for entry in entries if entry[5] == b"waiter"] == [[b"BLPOP", b"l", b"0"]]


def test_without_observation_nothing_is_timed(run):
    log_all(run)
    run("CONFIG", "SET", "observation", "no")
    run("DEBUG", "SLEEP", "1")
    run("GET", "k")
    assert words(run) == []
    run("CONFIG", "SET", "observation", "yes")
    run("GET", "k")
    assert words(run)[-1] == [b"GET", b"k"]


def test_large_requests_and_replies_have_logs_of_their_own(run, client, engine):
    run("CONFIG", "SET", "commandlog-request-larger-than", "1000", "commandlog-reply-larger-than", "1000")
    run("SET", "k", "x" * 1000)
    run("SET", "short", "v")
    run("GET", "k")
    cut = b"x" * 128 + b"... (872 more bytes)"
    (request,) = run("COMMANDLOG", "GET", "-1", "large-request")
    (reply,) = run("COMMANDLOG", "GET", "10", "LARGE-REPLY")
    # *3 $3 SET $1 k $1000 …: what goes over the wire.
    assert (request[0], request[2], request[3]) == (0, 4 + 9 + 7 + 1009, [b"SET", b"k", cut])
    assert (reply[2], reply[3]) == (1009, [b"GET", b"k"])
    assert run("SLOWLOG", "LEN") == run("COMMANDLOG", "LEN", "slow") == 0
    assert run("COMMANDLOG", "RESET", "large-request") == "OK"
    assert run("COMMANDLOG", "LEN", "large-request") == 0
    assert run("COMMANDLOG", "LEN", "large-reply") == 1
    run("CONFIG", "SET", "commandlog-request-larger-than", "-1", "commandlog-reply-larger-than", "-1")
    run("SET", "k", "x" * 2000)
    run("GET", "k")
    assert [run("COMMANDLOG", "LEN", log) for log in ("large-request", "large-reply")] == [0, 1]


def test_a_large_request_is_seen_however_it_arrives(run, client, engine):
    run("CONFIG", "SET", "commandlog-request-larger-than", "1000")
    data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\n" + b"x" * 1000 + b"\r\n*1\r\n$4\r\nPING\r\n"
    for start in range(0, len(data), 100):
        engine.execute(client, data[start : start + 100])
    run("MULTI")
    run("SET", "k", "y" * 1000)
    run("EXEC")
    assert [entry[3][2][:1] for entry in run("COMMANDLOG", "GET", "-1", "large-request")] == [b"y", b"x"]


def test_a_large_request_is_seen_in_the_turn_after_large_replies(run, client, engine):
    run("SET", "k", "x" * 500_000)
    run("CONFIG", "SET", "commandlog-request-larger-than", "1000")
    pipeline = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" * 4 + b"*2\r\n$4\r\nECHO\r\n$1000\r\n" + b"y" * 1000 + b"\r\n"
    engine.execute(client, pipeline)
    assert client.more, "the replies are more than go into a turn"
    while client.more:
        engine.resume(client)
    assert [entry[3][0] for entry in run("COMMANDLOG", "GET", "-1", "large-request")] == [b"ECHO"]


def test_the_settings_of_the_slow_log_have_valkeys_names_as_well(run):
    run("CONFIG", "SET", "commandlog-execution-slower-than", "5", "commandlog-slow-execution-max-len", "7")
    assert run("CONFIG", "GET", "slowlog-[lm]*") == [b"slowlog-log-slower-than", b"5", b"slowlog-max-len", b"7"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("SLOWLOG", "GET", "-2"), "ERR count should be greater than or equal to -1"),
        (("COMMANDLOG", "GET", "x", "slow"), "ERR count should be greater than or equal to -1"),
        (
            ("COMMANDLOG", "LEN", "fast"),
            "ERR type should be one of the following: slow, large-request, large-reply",
        ),
        (("COMMANDLOG", "GET", "1"), "ERR wrong number of arguments for 'commandlog|get' command"),
        (("COMMANDLOG", "FOO"), "ERR unknown subcommand 'FOO'. Try COMMANDLOG HELP."),
    ],
)
def test_mistakes_are_told(run, words, message):
    with pytest.raises(CommandError, match="^" + message.replace("|", r"\|")):
        run(*words)


def test_a_slow_command_is_a_line_of_the_log_without_its_values_and_not_too_often(run, engine, clock):
    lines = []
    engine.log = lambda level, message, **fields: lines.append((level, message, fields))
    run("CONFIG", "SET", "slowlog-log-slower-than", "0", "requirepass", "")
    lines[:] = [line for line in lines if line[1] == "slow command"]
    for _ in range(8):
        run("SET", "k", "secret")
    assert len(lines) == 5
    assert lines[-1] == (
        "warning",
        "slow command",
        {
            "command": "set",
            "key": "k",
            "client": "127.0.0.1:50000",
            "client_name": "",
            "elapsed_us": 0,
            "slowlog_id": 4,
            "left_out": 0,
        },
    )
    clock.advance_ms(1000)
    run("SET", "k", "secret")
    assert lines[-1][2]["left_out"] == 4
    assert "secret" not in repr(lines)


def test_extended_entries_say_how_long_the_request_waited_and_until_it_was_answered(run, engine):
    run("CONFIG", "SET", "slowlog-log-slower-than", "10000")
    data = b"".join(encode_request(("DEBUG", "SLEEP", seconds)) for seconds in ("0.02", "0.03"))
    engine.execute(engine.connect("127.0.0.1:1"), data, lambda _: engine.clock.advance_ms(5))
    assert [len(entry) for entry in run("SLOWLOG", "GET")] == [6, 6]
    run("CONFIG", "SET", "slowlog-extended", "yes")
    assert [entry[2:3] + entry[6:] for entry in run("SLOWLOG", "GET")] == [
        [30000, 20000, 55000, b""],
        [20000, 0, 55000, b""],
    ]
    assert [entry[6:] for entry in run("COMMANDLOG", "GET", "-1", "slow")] == [[20000, 55000, b""], [0, 55000, b""]]
