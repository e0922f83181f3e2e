"""MULTI to UNWATCH, as one client or several see them."""

import pytest

from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from tests.conftest import encode_request
from tests.resp_reader import read_replies

ABORTED = "EXECABORT Transaction discarded because of previous errors."


def error_of(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


def messages(replies):
    """Errors by their texts."""
    return [reply.message if isinstance(reply, CommandError) else reply for reply in replies]


def test_a_transaction_queues_and_then_runs(run):
    assert run("MULTI") == "OK"
    assert run("SET", "k", "1") == "QUEUED"
    assert run("INCR", "k") == "QUEUED"
    assert run("EXEC") == ["OK", 2]
    assert run("GET", "k") == b"2"


def test_nothing_happens_before_exec_and_nothing_after_discard(run, connect):
    other = connect()
    run("MULTI")
    run("SET", "k", "1")
    assert other.send("GET", "k") == [None]
    assert run("DISCARD") == "OK"
    assert run("GET", "k") is None


def test_an_empty_transaction_has_an_empty_reply(run):
    run("MULTI")
    assert run("EXEC") == []


def test_exec_and_discard_need_a_transaction_and_multi_none(run):
    assert error_of(run, "EXEC") == "ERR EXEC without MULTI"
    assert error_of(run, "DISCARD") == "ERR DISCARD without MULTI"
    run("MULTI")
    assert error_of(run, "MULTI") == "ERR MULTI calls can not be nested"
    assert run("EXEC") == []


@pytest.mark.parametrize("words", [("SET", "k"), ("NOSUCH",), ("CLIENT", "NOSUCH"), ("SHUTDOWN",), ("DISCARD", "x")])
def test_a_request_that_cannot_be_queued_breaks_the_transaction(run, words):
    run("MULTI")
    run("SET", "k", "1")
    error_of(run, *words)
    run("SET", "l", "1")
    assert error_of(run, "EXEC") == ABORTED
    assert run("EXISTS", "k", "l") == 0


def test_watch_in_a_transaction_is_a_mistake_that_does_not_break_it(run):
    run("MULTI")
    assert error_of(run, "WATCH", "k") == "ERR WATCH inside MULTI is not allowed"
    assert run("EXEC") == []


def test_a_command_that_fails_does_not_stop_the_others(run):
    run("MULTI")
    run("SET", "k", "x")
    run("INCR", "k")
    run("APPEND", "k", "y")
    assert messages(run("EXEC")) == ["OK", "ERR value is not an integer or out of range", 2]


def test_exec_with_arguments_ends_the_transaction(run, engine):
    expected = "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
    assert error_of(run, "EXEC", "x") == expected
    run("WATCH", "k")
    run("MULTI")
    run("SET", "k", "1")
    assert error_of(run, "EXEC", "x") == expected
    assert error_of(run, "EXEC") == "ERR EXEC without MULTI"
    assert run("EXISTS", "k") == 0
    assert engine.errors["EXECABORT"] == 2


def test_exec_is_refused_where_memory_lacks_for_what_was_queued(run):
    run("MULTI")
    run("SET", "k", "1")
    # A transaction cannot change the setting under itself.
    run("GET", "k")
    run("EXEC")
    run("SET", "big", "x" * 1000)
    run("MULTI")
    run("CONFIG", "SET", "maxmemory", "1")
    run("EXEC")
    run("MULTI")
    assert error_of(run, "SET", "k", "2").startswith("OOM")
    assert error_of(run, "EXEC") == ABORTED


def test_exec_is_refused_where_memory_has_come_to_lack(run, connect):
    other = connect()
    run("SET", "big", "x" * 1000)
    run("MULTI")
    run("SET", "k", "2")
    other.send("CONFIG", "SET", "maxmemory", "1")
    assert error_of(run, "EXEC") == (
        "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'."
    )
    run("MULTI")
    run("GET", "k")
    assert run("EXEC") == [None]


@pytest.mark.parametrize("words", [("SET", "k", "1"), ("DEL", "k"), ("EXPIRE", "k", "100"), ("EXPIRE", "k", "-1"),
    ("APPEND", "k", "x"), ("RENAME", "k", "other"), ("RENAME", "other", "k"), ("COPY", "other", "k", "REPLACE"),
    ("MOVE", "k", "1"), ("FLUSHDB",), ("FLUSHALL",), ("SWAPDB", "0", "1"), ("GETDEL", "k"),
    ("MSET", "a", "1", "k", "2"), ("UNLINK", "k"), ("SETRANGE", "k", "0", "x"), ("GETEX", "k", "EX", "5")])  # fmt: skip
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "another's"])
def test_a_change_of_a_watched_key_calls_the_transaction_off(run, connect, words, is_own):
    other = connect()
    run("MSET", "k", "5", "other", "6")
    assert run("WATCH", "nosuch", "k") == "OK"
    if is_own:
        run(*words)
    else:
        other.send(*words)
    run("MULTI")
    run("SET", "l", "1")
    assert run("EXEC") is NULL_ARRAY
    assert run("EXISTS", "l") == 0
    run("MULTI")
    assert run("EXEC") == []  # it was only for one


@pytest.mark.parametrize("words", [("GET", "k"), ("SET", "other", "1"), ("TOUCH", "k"), ("SETRANGE", "k", "0", ""),
    ("PERSIST", "k"), ("GETEX", "k"), ("SETNX", "k", "1"), ("RENAMENX", "other", "k"), ("COPY", "k", "other"),
    ("DEL", "nosuch"), ("EXPIRE", "nosuch", "1"), ("SWAPDB", "1", "2")])  # fmt: skip
def test_what_changes_nothing_of_a_watched_key_lets_the_transaction_be(run, words):
    run("MSET", "k", "5", "other", "6")
    run("WATCH", "k", "nosuch")
    run(*words)
    run("MULTI")
    run("PING")
    assert run("EXEC") == ["PONG"]


def test_unwatch_discard_and_reset_forget_watched_keys(run, connect):
    other = connect()
    for end in (("UNWATCH",), ("MULTI", "DISCARD"), ("RESET",), ("MULTI", "EXEC")):
        run("WATCH", "k", "k", "l")
        for word in end:
            run(word)
        other.send("SET", "k", "1")
        run("MULTI")
        assert run("EXEC") == []


def test_a_watched_key_whose_time_comes_calls_the_transaction_off(run, clock):
    run("SET", "k", "v", "PX", "10")
    run("WATCH", "k")
    clock.advance_ms(11)
    run("MULTI")
    assert run("EXEC") is NULL_ARRAY


def test_a_key_whose_time_was_over_when_it_was_watched_does_not(run, clock):
    run("SET", "k", "v", "PX", "10")
    clock.advance_ms(11)
    run("WATCH", "k")
    run("GET", "k")
    run("MULTI")
    assert run("EXEC") == []


def test_a_key_is_watched_in_the_database_that_was_chosen_then(run, connect):
    other = connect()
    run("WATCH", "k")
    run("SELECT", "1")
    other.send("SELECT", "1")
    other.send("SET", "k", "1")
    run("MULTI")
    assert run("EXEC") == []
    run("WATCH", "k")
    run("SELECT", "0")
    other.send("SET", "k", "2")
    run("MULTI")
    assert run("EXEC") is NULL_ARRAY


def test_a_database_that_is_swapped_in_counts_as_a_change_of_its_keys(run):
    run("WATCH", "k")
    run("SELECT", "1")
    run("SET", "k", "1")
    run("SWAPDB", "0", "1")
    run("MULTI")
    assert run("EXEC") is NULL_ARRAY


def test_transactions_in_resp3(run):
    run("HELLO", "3")
    run("WATCH", "k")
    run("SET", "k", "1")
    run("MULTI")
    assert run("EXEC") is None
    run("MULTI")
    run("GET", "nosuch")
    run("HELLO", "2")
    run("GET", "nosuch")
    assert run("EXEC")[0] is None


def test_select_in_a_transaction_stays(run):
    run("MULTI")
    run("SELECT", "1")
    run("SET", "k", "1")
    run("EXEC")
    assert run("GET", "k") == b"1"
    run("SELECT", "0")
    assert run("GET", "k") is None


def test_replies_beyond_a_turn_come_in_one_piece(run):
    run("SET", "k", "x" * 300_000)
    run("MULTI")
    for _ in range(20):
        run("GET", "k")
    run("PING")
    replies = run("EXEC")
    assert [len(reply) for reply in replies] == [300_000] * 20 + [4]


def test_reset_and_quit_end_a_transaction(run, client):
    run("MULTI")
    run("SET", "k", "1")
    assert run("RESET") == "RESET"
    assert run("GET", "k") is None
    run("MULTI")
    assert run("QUIT") == "OK"
    assert client.closing


def test_quit_in_a_pipeline_after_multi_drops_what_follows(client):
    requests = [("MULTI",), ("SET", "k", "1"), ("QUIT",), ("EXEC",)]
    data = client.engine.execute(client, b"".join(map(encode_request, requests)))
    assert read_replies(data) == ["OK", "QUEUED", "OK"]
    assert client.engine.execute(client, encode_request(("EXEC",))) == b""


def pipeline(client, *lines):
    return client.engine.execute(client, b"".join(encode_request(tuple(line.split())) for line in lines))


@pytest.mark.parametrize("action", ["OFF", "SKIP"])
def test_replies_turned_off_in_a_transaction_take_that_of_exec_with_them(client, action):
    data = pipeline(client, "MULTI", "SET k 1", f"CLIENT REPLY {action}", "GET k", "EXEC", "CLIENT REPLY ON", "GET k")
    assert read_replies(data) == ["OK", "QUEUED", "QUEUED", "QUEUED", "OK", b"1"]


def test_a_transaction_of_a_client_without_replies_is_run(client, engine):
    assert pipeline(client, "CLIENT REPLY OFF", "MULTI", "SET k 1", "EXEC") == b""
    assert engine.databases[0].has(b"k")


def test_client_list_tells_of_a_transaction(run, connect):
    other = connect()
    run("MULTI")

    def fields():
        (listing,) = other.send("CLIENT", "LIST", "ID", "1")
        return dict(word.split("=", 1) for word in listing.decode().strip().split(" "))

    assert (fields()["flags"], fields()["multi"], fields()["multi-mem"]) == ("x", "0", "0")
    run("SET", "k", "x" * 1000)
    assert (fields()["multi"], fields()["cmd"]) == ("1", "multi")
    assert 1000 < int(fields()["multi-mem"]) < 1500
    run("DISCARD")
    run("WATCH", "k")
    assert (fields()["flags"], fields()["multi"]) == ("N", "-1")
    other.send("SET", "k", "1")
    assert fields()["flags"] == "d"
    other_fields = other.send("INFO", "clients")[0]
    assert b"watching_clients:1\r\n" in other_fields


def test_a_transaction_without_end_is_cut_off(make_engine):
    engine = make_engine("--client-query-buffer-limit", "1mb")
    client = engine.connect()
    engine.execute(client, encode_request(("MULTI",)))
    request = encode_request(("SET", "k", "x" * 100_000))
    sent = 0
    while not client.closing:
        engine.execute(client, request)
        sent += 1
        assert sent < 20
    engine.forget(client)
    assert len(engine.databases[0]) == 0


def test_the_calls_of_a_transaction_are_counted_each(run):
    run("MULTI")
    run("SET", "k", "1")
    run("INCR", "nosuch")
    run("EXEC")
    text = run("INFO", "commandstats").decode()
    for name in ("multi", "set", "incr", "exec"):
        assert f"cmdstat_{name}:calls=1," in text


def test_a_client_that_leaves_watches_no_more(engine):
    client = engine.connect()
    engine.execute(client, encode_request(("WATCH", "a", "b")))
    engine.execute(client, encode_request(("MULTI",)))
    engine.forget(client)
    assert not engine.watches._watchers
    assert client.watched == {}


def test_a_pause_of_writes_holds_up_a_transaction_that_writes(run, connect, engine):
    other, third = connect(), connect()
    other.send("MULTI")
    other.send("SET", "k", "1")
    third.send("MULTI")
    third.send("GET", "k")
    run("CLIENT", "PAUSE", "100000", "WRITE")
    assert other.send("EXEC") == []
    assert third.send("EXEC") == [[None]]
    run("CLIENT", "UNPAUSE")
    assert other.received() == [["OK"]]
