"""Streams and consumer groups, as clients see them.  Replies were checked against redis-server 7.0.15.

What is told otherwise since 7.2 is as in 7.2; see tests/compat/quirks.py.
"""

import pytest

from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from tests.conftest import runner

SYNTAX = "ERR syntax error"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
INVALID_ID = "ERR Invalid stream ID specified as stream command argument"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
TOO_SMALL = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
MAX = "18446744073709551615"


@pytest.fixture
def fails(run):
    def error_of(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return error_of


@pytest.fixture
def filled(run):
    """A stream with three entries."""
    for number in (1, 2, 3):
        run("XADD", "s", f"{number}-0", "f", f"v{number}")


@pytest.fixture
def group(run, filled):
    """A group that has read nothing of a stream with three entries."""
    run("XGROUP", "CREATE", "s", "g", "0")


def entry(number):
    return [b"%d-0" % number, [b"f", b"v%d" % number]]


def ids(replies):
    return [reply[0] for reply in replies]


def pairs(reply):
    return dict(zip(reply[::2], reply[1::2], strict=True))


# XADD


def test_ids_are_made_of_the_time_and_a_number(run, clock):
    now = clock.wall_ms()
    assert run("XADD", "s", "*", "f", "v") == b"%d-0" % now
    assert run("XADD", "s", "*", "f", "v") == b"%d-1" % now
    clock.advance_ms(5)
    assert run("XADD", "s", "*", "f", "v") == b"%d-0" % (now + 5)
    clock.advance_ms(-1000)
    assert run("XADD", "s", "*", "f", "v") == b"%d-1" % (now + 5)


def test_ids_may_be_given_whole_or_in_part(run, fails):
    assert run("XADD", "s", "5-3", "f", "v") == b"5-3"
    assert run("XADD", "s", "5-*", "f", "v") == b"5-4"
    assert run("XADD", "s", "6", "f", "v") == b"6-0"
    assert run("XADD", "s", "7-*", "f", "v") == b"7-0"
    assert fails("XADD", "s", "6-*", "f", "v") == TOO_SMALL
    assert fails("XADD", "s", "7-0", "f", "v") == TOO_SMALL
    assert fails("XADD", "s", "x", "f", "v") == INVALID_ID
    assert fails("XADD", "s", "-", "f", "v") == INVALID_ID
    assert run("XADD", "t", "0-*", "f", "v") == b"0-1"


def test_no_entry_has_the_least_id_or_comes_after_the_greatest(run, fails):
    assert fails("XADD", "s", "0-0", "f", "v") == "ERR The ID specified in XADD must be greater than 0-0"
    assert run("EXISTS", "s") == 0
    run("XADD", "s", f"{MAX}-{MAX}", "f", "v")
    exhausted = "ERR The stream has exhausted the last possible ID, unable to add more items"
    assert fails("XADD", "s", "*", "f", "v") == exhausted
    assert fails("XADD", "s", f"{MAX}-*", "f", "v") == exhausted
    run("XADD", "t", f"1-{MAX}", "f", "v")
    assert fails("XADD", "t", "1-*", "f", "v") == TOO_SMALL


def test_names_may_repeat(run):
    run("XADD", "s", "1", "f", "a", "f", "b", "", "")
    run("XADD", "s", "2", "g", "c")
    assert run("XRANGE", "s", "-", "+") == [
        [b"1-0", [b"f", b"a", b"f", b"b", b"", b""]],
        [b"2-0", [b"g", b"c"]],
    ]


def test_names_and_values_come_in_pairs(fails):
    wrong = "ERR wrong number of arguments for 'xadd' command"
    assert fails("XADD", "s", "*", "f") == wrong
    assert fails("XADD", "s", "*", "f", "v", "g") == wrong
    assert fails("XADD", "s", "MAXLEN", "5", "*", "f") == wrong
    assert fails("XADD", "s", "NOMKSTREAM", "MAXLEN", "1", "*") == wrong


def test_a_stream_is_made_unless_that_is_forbidden(run):
    assert run("XADD", "s", "NOMKSTREAM", "*", "f", "v") is None
    assert run("EXISTS", "s") == 0
    run("XADD", "s", "1", "f", "v")
    assert run("XADD", "s", "NOMKSTREAM", "2", "f", "v") == b"2-0"


def test_xadd_trims(run, fails, filled):
    run("XADD", "s", "MAXLEN", "2", "4", "f", "v4")
    assert ids(run("XRANGE", "s", "-", "+")) == [b"3-0", b"4-0"]
    run("XADD", "s", "MINID", "=", "4", "5", "f", "v5")
    assert ids(run("XRANGE", "s", "-", "+")) == [b"4-0", b"5-0"]
    run("XADD", "s", "MAXLEN", "~", "1", "6", "f", "v6")
    assert run("XLEN", "s") == 3
    both = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
    assert fails("XADD", "s", "MAXLEN", "1", "MINID", "1", "*", "f", "v") == both
    assert fails("XADD", "s", "MAXLEN", "-1", "*", "f", "v") == "ERR The MAXLEN argument must be >= 0."
    assert (
        fails("XADD", "s", "MAXLEN", "1", "LIMIT", "1", "*", "f", "v")
        == "ERR syntax error, LIMIT cannot be used without the special ~ option"
    )
    assert (
        fails("XADD", "s", "LIMIT", "1", "*", "f", "v")
        == "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
    )
    assert (
        fails("XADD", "s", "MAXLEN", "~", "1", "LIMIT", "-1", "*", "f", "v") == "ERR The LIMIT argument must be >= 0."
    )
    assert run("XLEN", "s") == 3


# XTRIM, XDEL, XSETID


def test_approximate_trimming_removes_whole_blocks(run):
    for number in range(1, 351):
        run("XADD", "s", number, "f", "v")
    assert run("XTRIM", "s", "MAXLEN", "~", "10", "LIMIT", "250") == 200
    assert run("XTRIM", "s", "MAXLEN", "~", "100") == 0
    assert run("XTRIM", "s", "MINID", "~", "301") == 100
    assert run("XTRIM", "s", "MAXLEN", "10") == 40
    assert run("XTRIM", "s", "MAXLEN", "0") == 10
    assert run("XLEN", "s") == 0
    assert run("XTRIM", "no", "MAXLEN", "0") == 0


def test_xtrim_wants_a_strategy(fails):
    assert fails("XTRIM", "s", "LIMIT", "1") == (
        "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
    )
    assert fails("XTRIM", "s", "LIMIT", "0") == "ERR syntax error, XTRIM must be called with a trimming strategy"
    assert fails("XTRIM", "s", "FOO", "1") == SYNTAX
    assert fails("XTRIM", "s", "MINID", "x") == INVALID_ID


def test_an_emptied_stream_stays_and_remembers(run, filled):
    assert run("XDEL", "s", "3", "2-0", "9", "1", "1") == 3
    assert run("EXISTS", "s") == 1
    assert run("TYPE", "s") == "stream"
    assert run("OBJECT", "ENCODING", "s") == b"stream"
    info = pairs(run("XINFO", "STREAM", "s"))
    assert (info[b"last-generated-id"], info[b"max-deleted-entry-id"]) == (b"3-0", b"3-0")
    assert run("XADD", "s", "3-*", "f", "v") == b"3-1"


def test_xdel_deletes_nothing_where_an_id_is_wrong(run, fails, filled):
    assert fails("XDEL", "s", "1", "x") == INVALID_ID
    assert run("XLEN", "s") == 3
    assert run("XDEL", "no", "x") == 0


def test_xsetid_moves_the_last_id_only_forward_over_entries(run, fails, filled):
    assert run("XSETID", "s", "9-9", "ENTRIESADDED", "12", "MAXDELETEDID", "8") == "OK"
    info = pairs(run("XINFO", "STREAM", "s"))
    assert info[b"last-generated-id"] == b"9-9"
    assert info[b"entries-added"] == 12
    assert info[b"max-deleted-entry-id"] == b"8-0"
    smaller = "ERR The ID specified in XSETID is smaller than "
    assert fails("XSETID", "s", "7") == smaller + "current max_deleted_entry_id"
    assert fails("XSETID", "s", "7", "MAXDELETEDID", "8") == smaller + "the provided max_deleted_entry_id"
    assert fails("XSETID", "no", "7") == "ERR no such key"
    run("XADD", "t", "5", "f", "v")
    assert fails("XSETID", "t", "4") == smaller + "the target stream top item"
    assert fails("XSETID", "t", "5", "ENTRIESADDED", "-1") == "ERR entries_added must be positive"
    assert (
        fails("XSETID", "t", "5", "ENTRIESADDED", "0")
        == "ERR The entries_added specified in XSETID is smaller than the target stream length"
    )


# XRANGE


def test_ranges_have_open_closed_and_incomplete_bounds(run, fails, filled):
    assert run("XRANGE", "s", "2", "+") == [entry(2), entry(3)]
    assert run("XRANGE", "s", "(1-0", "(3-0") == [entry(2)]
    assert run("XREVRANGE", "s", "+", "-", "COUNT", "2") == [entry(3), entry(2)]
    assert run("XRANGE", "s", "3", "1") == []
    assert run("XRANGE", "no", "-", "+", "COUNT", "0") == []
    assert run("XRANGE", "s", "-", "+", "COUNT", "0") is NULL_ARRAY
    assert fails("XRANGE", "s", f"({MAX}-{MAX}", "+") == "ERR invalid start ID for the interval"
    assert fails("XRANGE", "s", "-", "(0-0") == "ERR invalid end ID for the interval"
    assert fails("XRANGE", "s", "(-", "+") == INVALID_ID
    assert fails("XRANGE", "s", "-", "+", "COUNT") == SYNTAX


# XREAD


def test_xread_tells_what_came_after(run, fails, filled):
    run("XADD", "t", "1", "f", "v1")
    assert run("XREAD", "COUNT", "1", "STREAMS", "s", "t", "no", "1", "0", "0") == [
        [b"s", [entry(2)]],
        [b"t", [entry(1)]],
    ]
    assert run("XREAD", "STREAMS", "s", "$") is NULL_ARRAY
    assert run("XREAD", "STREAMS", "s", f"{MAX}-{MAX}") is NULL_ARRAY
    assert fails("XREAD", "STREAMS", "s", "t", "0") == (
        "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified."
    )
    assert fails("XREAD", "STREAMS", "s", ">").startswith("ERR The > ID can be specified only when calling XREADGROUP")
    assert fails("XREAD", "COUNT", "1", "BLOCK", "1") == SYNTAX
    assert fails("XREAD", "GROUP", "g", "c", "STREAMS", "s", "0") == (
        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead."
    )


def test_xread_answers_with_a_map_in_resp3_even_if_a_key_comes_twice(engine, client, run, filled):
    run("HELLO", "3")
    assert run("XREAD", "STREAMS", "s", "2") == {b"s": [entry(3)]}
    data = engine.execute(client, b"XREAD STREAMS s s 2 2\r\n")
    assert data.startswith(b"%2\r\n$1\r\ns\r\n*1\r\n")
    assert data.count(b"$1\r\ns\r\n") == 2


def test_xread_waits_for_what_comes_after_the_dollar_sign(run, connect, filled):
    reader = connect()
    assert reader.send("XREAD", "BLOCK", "0", "STREAMS", "no", "s", "$", "$") == []
    run("XDEL", "s", "1")
    assert reader.received() == []
    run("XADD", "s", "4", "f", "v4")
    run("XADD", "s", "5", "f", "v5")
    assert reader.received() == [[[b"s", [entry(4)]]]]


def test_a_wait_ends_after_its_time(connect, clock):
    reader = connect()
    assert reader.send("XREAD", "BLOCK", "100", "STREAMS", "s", "0") == []
    clock.advance_ms(99)
    assert reader.received() == []
    clock.advance_ms(2)
    assert reader.received() == [NULL_ARRAY]


def test_the_time_of_a_wait_is_checked(fails):
    assert fails("XREAD", "BLOCK", "-1", "STREAMS", "s", "0") == "ERR timeout is negative"
    assert fails("XREAD", "BLOCK", "1.5", "STREAMS", "s", "0") == "ERR timeout is not an integer or out of range"
    assert fails("XREAD", "BLOCK", str((1 << 63) - 1), "STREAMS", "s", "0") == "ERR timeout is out of range"


def test_nobody_waits_in_a_transaction(run):
    run("MULTI")
    run("XREAD", "BLOCK", "0", "STREAMS", "s", "$")
    assert run("EXEC") == [NULL_ARRAY]


def test_an_entry_that_was_trimmed_away_at_once_wakes_nobody(run, connect):
    reader = connect()
    reader.send("XREAD", "BLOCK", "0", "STREAMS", "s", "0")
    run("XADD", "s", "MAXLEN", "0", "1", "f", "v1")
    assert reader.received() == []
    run("XADD", "s", "2", "f", "v2")
    assert reader.received() == [[[b"s", [entry(2)]]]]


# Groups


def test_a_group_reads_on_and_remembers_what_is_not_acknowledged(run, group):
    assert run("XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "s", ">") == [[b"s", [entry(1), entry(2)]]]
    assert run("XREADGROUP", "GROUP", "g", "d", "STREAMS", "s", ">") == [[b"s", [entry(3)]]]
    assert run("XREADGROUP", "GROUP", "g", "d", "STREAMS", "s", ">") is NULL_ARRAY
    assert run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0") == [[b"s", [entry(1), entry(2)]]]
    assert run("XACK", "s", "g", "1", "1", "9") == 1
    run("XDEL", "s", "2")
    assert run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "0") == [[b"s", [[b"2-0", NULL_ARRAY]]]]
    assert run("XPENDING", "s", "g") == [2, b"2-0", b"3-0", [[b"c", b"1"], [b"d", b"1"]]]
    assert run("XACK", "no", "g", "1") == 0
    assert run("XACK", "s", "no", "x") == 0


def test_noack_delivers_and_forgets(run, group):
    run("XREADGROUP", "GROUP", "g", "c", "NOACK", "STREAMS", "s", ">")
    assert run("XPENDING", "s", "g") == [0, None, None, NULL_ARRAY]


def test_deliveries_are_counted_and_timed(run, clock, group):
    run("XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "s", ">")
    clock.advance_ms(500)
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "1")
    clock.advance_ms(500)
    assert run("XPENDING", "s", "g", "-", "+", "10") == [[b"1-0", b"c", 1000, 1], [b"2-0", b"c", 500, 2]]
    assert run("XPENDING", "s", "g", "IDLE", "600", "-", "+", "10", "c") == [[b"1-0", b"c", 1000, 1]]
    assert run("XPENDING", "s", "g", "(1-0", "+", "1") == [[b"2-0", b"c", 500, 2]]
    assert run("XPENDING", "s", "g", "-", "+", "10", "nobody") == []


def test_xgroup_setid_delivers_again(run, fails, group):
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    run("XGROUP", "SETID", "s", "g", "2", "ENTRIESREAD", "2")
    assert run("XREADGROUP", "GROUP", "g", "d", "STREAMS", "s", ">") == [[b"s", [entry(3)]]]
    assert run("XPENDING", "s", "g")[3] == [[b"c", b"2"], [b"d", b"1"]]
    assert fails("XGROUP", "SETID", "s", "no", "0") == "NOGROUP No such consumer group 'no' for key name 's'"


def test_groups_are_created_once_and_on_streams(run, fails):
    missing = (
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM"
        " option to create an empty stream automatically."
    )
    assert fails("XGROUP", "CREATE", "s", "g", "$") == missing
    assert fails("XGROUP", "DESTROY", "s", "g") == missing
    assert fails("XGROUP", "CREATE", "s", "g", "x", "MKSTREAM") == INVALID_ID
    assert run("EXISTS", "s") == 0
    assert run("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM") == "OK"
    assert run("XLEN", "s") == 0
    assert fails("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM") == "BUSYGROUP Consumer Group name already exists"
    assert (
        fails("XGROUP", "CREATE", "s", "h", "$", "ENTRIESREAD", "-2")
        == "ERR value for ENTRIESREAD must be positive or -1"
    )
    assert fails("XGROUP", "CREATE", "s", "h", "$", "FOO") == (
        "ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP."
    )
    assert run("XGROUP", "CREATECONSUMER", "s", "g", "c") == 1
    assert run("XGROUP", "CREATECONSUMER", "s", "g", "c") == 0
    assert run("XGROUP", "DELCONSUMER", "s", "g", "c") == 0
    assert run("XGROUP", "DESTROY", "s", "g") == 1
    assert run("XGROUP", "DESTROY", "s", "g") == 0


def test_a_deleted_consumer_takes_what_it_got_with_it(run, group):
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    assert run("XGROUP", "DELCONSUMER", "s", "g", "c") == 3
    assert run("XPENDING", "s", "g")[0] == 0


def test_reading_for_no_group_says_so(run, fails, filled):
    no_group = "NOGROUP No such key '{}' or consumer group 'g' in XREADGROUP with GROUP option"
    assert fails("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">") == no_group.format("s")
    assert fails("XREADGROUP", "GROUP", "g", "c", "STREAMS", "no", ">") == no_group.format("no")
    assert fails("XREADGROUP", "COUNT", "1", "NOACK", "STREAMS", "s", ">") == "ERR Missing GROUP option for XREADGROUP"
    run("XGROUP", "CREATE", "s", "g", "0")
    assert fails("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", "$").startswith("ERR The $ ID is meaningless")


# Waiting in a group


def test_those_who_wait_in_a_group_are_served_in_turn(run, connect, group):
    run("XGROUP", "SETID", "s", "g", "$")
    first, second = connect(), connect()
    for session, name in ((first, "c"), (second, "d")):
        assert session.send("XREADGROUP", "GROUP", "g", name, "COUNT", "1", "BLOCK", "0", "STREAMS", "s", ">") == []
    run("XADD", "s", "4", "f", "v4")
    assert (first.received(), second.received()) == ([[[b"s", [entry(4)]]]], [])
    run("XADD", "s", "5", "f", "v5")
    assert second.received() == [[[b"s", [entry(5)]]]]
    assert run("XPENDING", "s", "g") == [2, b"4-0", b"5-0", [[b"c", b"1"], [b"d", b"1"]]]


def test_a_history_is_never_waited_for(connect, group):
    assert connect().send("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", "0") == [[[b"s", []]]]


@pytest.mark.parametrize(
    "request_words",
    [("XGROUP", "DESTROY", "s", "g"), ("DEL", "s"), ("RENAME", "s", "t"), ("FLUSHALL",), ("SWAPDB", 0, 1)],
)
def test_who_waits_is_told_that_the_group_is_gone(run, connect, group, request_words):
    reader = connect()
    reader.send("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    assert reader.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">") == []
    run(*request_words)
    (error,) = reader.received()
    assert error.message == "NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"


def test_who_waits_in_a_group_is_told_that_the_key_holds_something_else(run, connect, group):
    reader = connect()
    reader.send("XREADGROUP", "GROUP", "g", "c", "NOACK", "STREAMS", "s", ">")
    reader.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">")
    run("SET", "s", "v")
    (error,) = reader.received()
    assert error.message == WRONG_TYPE


def test_a_consumer_that_waits_may_be_deleted(run, connect, group):
    reader = connect()
    run("XGROUP", "SETID", "s", "g", "$")
    reader.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "s", ">")
    assert run("XGROUP", "DELCONSUMER", "s", "g", "c") == 0
    assert run("XINFO", "CONSUMERS", "s", "g") == []
    run("XADD", "s", "4", "f", "v4")
    assert reader.received() == [[[b"s", [entry(4)]]]]
    assert [pairs(consumer)[b"name"] for consumer in run("XINFO", "CONSUMERS", "s", "g")] == [b"c"]


# XCLAIM and XAUTOCLAIM


def test_xclaim_takes_what_has_waited_long_enough(run, clock, group):
    run("XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "s", ">")
    assert run("XCLAIM", "s", "g", "d", "100", "1", "2", "3") == []
    clock.advance_ms(100)
    assert run("XCLAIM", "s", "g", "d", "100", "1", "2", "3") == [entry(1), entry(2)]
    assert run("XCLAIM", "s", "g", "c", "0", "2", "JUSTID") == [b"2-0"]
    assert run("XCLAIM", "s", "g", "c", "0", "3", "FORCE", "RETRYCOUNT", "7", "IDLE", "50") == [entry(3)]
    now = clock.wall_ms()
    run("XCLAIM", "s", "g", "c", "0", "2", "TIME", now - 20, "JUSTID")
    assert run("XPENDING", "s", "g", "-", "+", "9") == [
        [b"1-0", b"d", 0, 2],
        [b"2-0", b"c", 20, 2],
        [b"3-0", b"c", 50, 7],
    ]


def test_xclaim_forgets_what_was_deleted_and_moves_the_last_id(run, group):
    run("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">")
    run("XDEL", "s", "1")
    assert run("XCLAIM", "s", "g", "d", "0", "1", "LASTID", "2") == []
    assert run("XPENDING", "s", "g")[0] == 0
    assert run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">") == [[b"s", [entry(3)]]]
    assert [pairs(consumer)[b"name"] for consumer in run("XINFO", "CONSUMERS", "s", "g")] == [b"c", b"d"]


def test_the_words_of_xclaim_are_checked(fails, group):
    assert fails("XCLAIM", "s", "no", "c", "0", "1") == "NOGROUP No such key 's' or consumer group 'no'"
    assert fails("XCLAIM", "s", "g", "c", "x", "1") == "ERR Invalid min-idle-time argument for XCLAIM"
    assert fails("XCLAIM", "s", "g", "c", "0", "1", "IDLE", "x") == "ERR Invalid IDLE option argument for XCLAIM"
    assert fails("XCLAIM", "s", "g", "c", "0", "1", "x") == "ERR Unrecognized XCLAIM option 'x'"


def test_xautoclaim_goes_on_where_it_stopped(run, fails, clock, group):
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    run("XDEL", "s", "2")
    clock.advance_ms(10)
    assert run("XAUTOCLAIM", "s", "g", "d", "10", "0", "COUNT", "2") == [b"3-0", [entry(1)], [b"2-0"]]
    assert run("XAUTOCLAIM", "s", "g", "d", "10", "3-0", "JUSTID") == [b"0-0", [b"3-0"], []]
    assert run("XPENDING", "s", "g", "-", "+", "9") == [[b"1-0", b"d", 0, 2], [b"3-0", b"d", 0, 1]]
    assert fails("XAUTOCLAIM", "s", "g", "d", "0", "0", "COUNT", "0") == "ERR COUNT must be > 0"
    assert fails("XAUTOCLAIM", "s", "g", "d", "x", "0") == "ERR Invalid min-idle-time argument for XAUTOCLAIM"
    assert fails("XAUTOCLAIM", "no", "g", "d", "0", "0") == "NOGROUP No such key 'no' or consumer group 'g'"


# XINFO


def test_xinfo_tells_times_of_consumers(run, clock, group):
    run("XGROUP", "CREATECONSUMER", "s", "g", "idle")
    run("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">")
    clock.advance_ms(100)
    run("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", "9")
    clock.advance_ms(50)
    assert [pairs(consumer) for consumer in run("XINFO", "CONSUMERS", "s", "g")] == [
        {b"name": b"c", b"pending": 1, b"idle": 50, b"inactive": 150},
        {b"name": b"idle", b"pending": 0, b"idle": 150, b"inactive": -1},
    ]


def test_xinfo_groups_knows_how_far_a_group_is_behind(run, group):
    def state():
        info = pairs(run("XINFO", "GROUPS", "s")[0])
        return info[b"last-delivered-id"], info[b"entries-read"], info[b"lag"], info[b"pending"]

    assert state() == (b"0-0", None, 3, 0)
    run("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "s", ">")
    assert state() == (b"1-0", 1, 2, 1)
    run("XDEL", "s", "2")
    assert state() == (b"1-0", 1, None, 1)
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    assert state() == (b"3-0", 2, 1, 2)


def test_xinfo_stream_full_shows_everything(run, clock, group):
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    run("HELLO", "3")
    now = clock.wall_ms()
    info = run("XINFO", "STREAM", "s", "FULL", "COUNT", "1")
    assert info[b"entries"] == [entry(1)]
    assert info[b"groups"] == [
        {
            b"name": b"g",
            b"last-delivered-id": b"3-0",
            b"entries-read": 3,
            b"lag": 0,
            b"pel-count": 3,
            b"pending": [[b"1-0", b"c", now, 1]],
            b"consumers": [
                {
                    b"name": b"c",
                    b"seen-time": now,
                    b"active-time": now,
                    b"pel-count": 3,
                    b"pending": [[b"1-0", now, 1]],
                }
            ],
        }
    ]
    assert len(run("XINFO", "STREAM", "s", "FULL", "COUNT", "0")[b"entries"]) == 3


def test_xinfo_is_only_about_what_is_there(fails, filled):
    assert fails("XINFO", "STREAM", "no") == "ERR no such key"
    assert fails("XINFO", "CONSUMERS", "s", "g") == "NOGROUP No such consumer group 'g' for key name 's'"
    assert fails("XINFO", "STREAM", "s", "FULL", "COUNT") == (
        "ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP."
    )
    assert fails("XINFO", "FOO", "s") == "ERR unknown subcommand 'FOO'. Try XINFO HELP."


# All of them


def test_help_names_the_subcommands(run):
    assert "CREATECONSUMER key groupname consumername" in run("XGROUP", "HELP")
    assert "STREAM key [FULL [COUNT count]]" in run("XINFO", "HELP")


@pytest.mark.parametrize(
    "words",
    [
        ("XADD", "k", "*", "f", "v"), ("XLEN", "k"), ("XRANGE", "k", "-", "+"), ("XREVRANGE", "k", "+", "-"),
        ("XDEL", "k", "1"), ("XTRIM", "k", "MAXLEN", "1"), ("XREAD", "STREAMS", "k", "0"), ("XSETID", "k", "1"),
        ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", ">"), ("XGROUP", "CREATE", "k", "g", "0"),
        ("XGROUP", "SETID", "k", "g", "0"), ("XGROUP", "DESTROY", "k", "g"), ("XACK", "k", "g", "1"),
        ("XGROUP", "CREATECONSUMER", "k", "g", "c"), ("XGROUP", "DELCONSUMER", "k", "g", "c"), ("XPENDING", "k", "g"),
        ("XCLAIM", "k", "g", "c", "0", "1"), ("XAUTOCLAIM", "k", "g", "c", "0", "0"), ("XINFO", "STREAM", "k"),
        ("XINFO", "GROUPS", "k"), ("XINFO", "CONSUMERS", "k", "g"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_streams_are_no_strings(run, fails, words):
    run("SET", "k", "v")
    assert fails(*words) == WRONG_TYPE
    assert run("GET", "k") == b"v"


def test_strings_are_no_streams(fails, filled):
    assert fails("GET", "s") == WRONG_TYPE
    assert fails("APPEND", "s", "v") == WRONG_TYPE


def test_streams_end_are_copied_and_renamed_like_other_keys(run, clock, group):
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    run("COPY", "s", "t")
    run("XACK", "t", "g", "1")
    run("XADD", "t", "9", "f", "v9")
    assert (run("XLEN", "s"), run("XLEN", "t")) == (3, 4)
    assert (run("XPENDING", "s", "g")[0], run("XPENDING", "t", "g")[0]) == (3, 2)
    run("RENAME", "t", "u")
    assert run("XLEN", "u") == 4
    run("PEXPIRE", "u", "10")
    clock.advance_ms(11)
    assert run("XLEN", "u") == 0
    assert run("XADD", "u", "NOMKSTREAM", "1", "f", "v") is None


def test_memory_is_counted(run, engine):
    def memory():
        return sum(shard.stats.memory_bytes for shard in engine.shards)

    before = memory()
    for number in range(1, 301):
        run("XADD", "s", number, "f", "v" * 100)
    full = memory()
    assert full - before > 300 * 105
    run("XGROUP", "CREATE", "s", "g", "0")
    run("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
    assert memory() > full + 300 * 100
    for number in range(1, 301):
        run("XACK", "s", "g", number)
    run("XGROUP", "DESTROY", "s", "g")
    assert memory() == full
    run("XTRIM", "s", "MAXLEN", "10")
    assert memory() < before + (full - before) / 10
    run("DEL", "s")
    assert memory() == before


def test_events_are_told(make_engine, connect):
    engine = make_engine("--notify-keyspace-events", "Et")
    listener, run = engine.connect(), runner(engine.connect())
    heard = bytearray()
    listener.deliver = heard.extend
    engine.execute(listener, b"PSUBSCRIBE __keyevent@0__:*\r\n")
    program = {
        "XADD s 1 f v": "xadd",
        "XADD s MAXLEN 1 2 f v": "xadd xtrim",
        "XADD s 3 f v": "xadd",
        "XTRIM s MAXLEN 2": "",
        "XTRIM s MAXLEN 1": "xtrim",
        "XGROUP CREATE s g 0": "xgroup-create",
        "XREADGROUP GROUP g c STREAMS s >": "xgroup-createconsumer",
        "XREADGROUP GROUP g c STREAMS s 0": "",
        "XGROUP CREATECONSUMER s g d": "xgroup-createconsumer",
        "XCLAIM s g e 0 3": "xgroup-createconsumer",
        "XAUTOCLAIM s g h 0 0": "xgroup-createconsumer",
        "XGROUP DELCONSUMER s g d": "xgroup-delconsumer",
        "XACK s g 3": "",
        "XGROUP SETID s g 0": "xgroup-setid",
        "XGROUP DESTROY s g": "xgroup-destroy",
        "XDEL s 9": "",
        "XDEL s 3": "xdel",
        "XSETID s 9": "xsetid",
    }
    for request, events in program.items():
        heard.clear()
        run(*request.split())
        found = [
            part.split(b"\r\n")[0].decode()
            for part in bytes(heard).split(b"\r\n__keyevent@0__:")[1:]
            if part[:1] != b"*"
        ]
        assert found == events.split(), request
