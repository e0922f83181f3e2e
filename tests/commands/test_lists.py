"""List commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.commands.lists import rpush
from kora.errors import CommandError, TooLong
from kora.resp.reply import NULL_ARRAY

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_POSITIVE = "ERR value is out of range, must be positive"
SYNTAX = "ERR syntax error"
RANK_ZERO = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from"
    " the end of the list"
)
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


@pytest.fixture
def fails(run):
    def error_of(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return error_of


@pytest.fixture
def elements(run):
    return lambda key="l": run("LRANGE", key, 0, -1)


@pytest.fixture
def events(client):
    """What is told of keys, as keyspace notifications name it."""
    told = []
    client.engine.implementation.set_handing_over(True)  # as where notifications are on
    client.db.notify = lambda event, key: told.append(b"%b %b" % (event, key))
    return told


# Pushing and popping


def test_lpush_and_rpush_add_one_after_another_and_answer_the_length(run, elements):
    assert run("RPUSH", "l", "a", "b") == 2
    assert run("LPUSH", "l", "c", "d", "") == 5
    assert elements() == [b"", b"d", b"c", b"a", b"b"]
    assert run("LLEN", "l") == 5
    assert run("TYPE", "l") == "list"


def test_pushx_only_adds_to_a_list_that_is_there(run, elements):
    assert run("LPUSHX", "l", "a") == run("RPUSHX", "l", "a") == 0
    assert run("EXISTS", "l") == 0
    run("RPUSH", "l", "m")
    assert run("LPUSHX", "l", "a", "b") == 3
    assert run("RPUSHX", "l", "z") == 4
    assert elements() == [b"b", b"a", b"m", b"z"]


def test_pop_takes_from_an_end_and_the_last_element_takes_the_key_along(run):
    run("RPUSH", "l", "a", "b", "c")
    assert run("LPOP", "l") == b"a"
    assert run("RPOP", "l") == b"c"
    assert run("LPOP", "l") == b"b"
    assert run("LPOP", "l") is None
    assert run("EXISTS", "l") == run("DBSIZE") == 0


def test_pop_with_a_count_takes_so_many_or_all(run, elements):
    run("RPUSH", "l", *range(6))
    assert run("LPOP", "l", 2) == [b"0", b"1"]
    assert run("RPOP", "l", 2) == [b"5", b"4"]
    assert run("LPOP", "l", 0) == []
    assert run("RPOP", "l", 9) == [b"3", b"2"]
    assert run("EXISTS", "l") == 0
    assert run("LPOP", "l", 2) is NULL_ARRAY
    assert run("RPOP", "l", 0) is NULL_ARRAY


def test_a_pop_with_a_count_of_nothing_is_an_absent_array(client):
    client.engine.tick()
    assert client.engine.execute(client, b"LPOP l 2\r\n") == b"*-1\r\n"
    assert client.engine.execute(client, b"LPOP l\r\n") == b"$-1\r\n"


@pytest.mark.parametrize("count", [-1, "x", INT64_MAX + 1, "", "1.0"])
def test_pop_refuses_a_count_that_is_no_count(run, fails, count):
    assert fails("LPOP", "l", count) == fails("RPOP", "l", count) == NOT_POSITIVE


def test_pop_takes_one_count(run, fails):
    assert fails("LPOP", "l", "x", "y") == "ERR wrong number of arguments for 'lpop' command"
    assert fails("RPOP", "l", 1, 2) == "ERR wrong number of arguments for 'rpop' command"


def test_lmpop_takes_from_the_first_list_that_is_there(run):
    run("RPUSH", "l", *range(5))
    assert run("LMPOP", 2, "no", "l", "LEFT") == [b"l", [b"0"]]
    assert run("LMPOP", 3, "no", "l", "l", "right", "count", 2) == [b"l", [b"4", b"3"]]
    assert run("LMPOP", 1, "l", "LEFT", "COUNT", 100) == [b"l", [b"1", b"2"]]
    assert run("LMPOP", 1, "l", "LEFT") is NULL_ARRAY


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((0, "l", "LEFT"), "ERR numkeys should be greater than 0"),
        (("x", "l", "LEFT"), "ERR numkeys should be greater than 0"),
        ((2, "l", "LEFT"), SYNTAX),
        ((INT64_MAX, "l", "LEFT"), SYNTAX),
        ((1, "l", "MIDDLE"), SYNTAX),
        ((1, "l", "LEFT", "COUNT"), SYNTAX),
        ((1, "l", "LEFT", "COUNT", 1, "COUNT", 1), SYNTAX),
        ((1, "l", "LEFT", "COUNT", 0), "ERR count should be greater than 0"),
        ((1, "l", "LEFT", "COUNT", "x", "y"), "ERR count should be greater than 0"),
        ((1, "l", "LEFT", "COUNT", 1, "y"), SYNTAX),
    ],
)
def test_lmpop_refuses_what_it_does_not_understand(fails, words, error):
    assert fails("LMPOP", *words) == error


def test_lmpop_stops_at_a_key_of_another_type(run, fails):
    run("SET", "s", "x")
    run("RPUSH", "l", "a")
    assert fails("LMPOP", 2, "s", "l", "LEFT") == WRONG_TYPE
    assert run("LMPOP", 2, "l", "s", "LEFT") == [b"l", [b"a"]]


# Moving


@pytest.mark.parametrize(
    ("wherefrom", "whereto", "moved", "source", "target"),
    [
        ("LEFT", "LEFT", b"a", [b"b", b"c"], [b"a", b"x", b"y"]),
        ("LEFT", "RIGHT", b"a", [b"b", b"c"], [b"x", b"y", b"a"]),
        ("right", "left", b"c", [b"a", b"b"], [b"c", b"x", b"y"]),
        ("RIGHT", "RIGHT", b"c", [b"a", b"b"], [b"x", b"y", b"c"]),
    ],
)
def test_lmove_takes_at_one_end_and_puts_at_another(run, elements, wherefrom, whereto, moved, source, target):
    run("RPUSH", "l", "a", "b", "c")
    run("RPUSH", "m", "x", "y")
    assert run("LMOVE", "l", "m", wherefrom, whereto) == moved
    assert (elements("l"), elements("m")) == (source, target)


def test_lmove_within_a_list_turns_it(run, elements):
    run("RPUSH", "l", "a", "b", "c")
    assert run("RPOPLPUSH", "l", "l") == b"c"
    assert elements() == [b"c", b"a", b"b"]
    assert run("LMOVE", "l", "l", "LEFT", "LEFT") == b"c"
    assert elements() == [b"c", b"a", b"b"]
    run("RPUSH", "one", "x")
    run("EXPIRE", "one", 100)
    assert run("LMOVE", "one", "one", "RIGHT", "LEFT") == b"x"
    assert run("TTL", "one") == 100


def test_lmove_makes_the_target_and_removes_an_empty_source(run, elements):
    run("RPUSH", "l", "a")
    assert run("RPOPLPUSH", "l", "m") == b"a"
    assert run("EXISTS", "l") == 0
    assert elements("m") == [b"a"]
    assert run("LMOVE", "l", "m", "LEFT", "LEFT") is None


def test_lmove_to_a_key_of_another_type_moves_nothing(run, fails, elements):
    run("RPUSH", "l", "a")
    run("SET", "s", "x")
    assert fails("RPOPLPUSH", "l", "s") == fails("RPOPLPUSH", "s", "l") == WRONG_TYPE
    assert elements() == [b"a"]
    # Without a source nobody looks at the target.
    assert run("RPOPLPUSH", "no", "s") is None


def test_lmove_refuses_other_sides(fails):
    assert fails("LMOVE", "l", "m", "UP", "LEFT") == fails("LMOVE", "l", "m", "LEFT", "") == SYNTAX


# By place


def test_lindex_and_lset_count_from_either_end(run, elements):
    run("RPUSH", "l", "a", "b", "c")
    assert [run("LINDEX", "l", place) for place in (0, 2, -1, -3, 3, -4)] == [b"a", b"c", b"c", b"a", None, None]
    assert run("LSET", "l", -1, "z") == run("LSET", "l", 0, "") == "OK"
    assert elements() == [b"", b"b", b"z"]


def test_lset_refuses_places_that_are_not_there(run, fails):
    assert fails("LSET", "l", "x", "v") == "ERR no such key"
    run("RPUSH", "l", "a")
    assert fails("LSET", "l", 1, "v") == fails("LSET", "l", INT64_MIN, "v") == "ERR index out of range"
    assert fails("LSET", "l", "x", "v") == NOT_AN_INTEGER


def test_lindex_of_no_key_does_not_look_at_the_place(run, fails):
    assert run("LINDEX", "l", "x") is None
    run("RPUSH", "l", "a")
    assert fails("LINDEX", "l", "x") == NOT_AN_INTEGER


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        (0, -1, "abcde"), (1, 3, "bcd"), (-2, -1, "de"), (-100, 1, "ab"), (3, 100, "de"), (3, 2, ""), (5, 9, ""),
        (0, -6, ""), (-1, -3, ""), (INT64_MIN, INT64_MAX, "abcde"), (INT64_MAX, INT64_MAX, ""), (4, 4, "e"),
    ],
)  # fmt: skip
def test_lrange_and_ltrim_take_the_same_range(run, elements, start, stop, found):
    run("RPUSH", "l", *"abcde")
    expected = [letter.encode() for letter in found]
    assert run("LRANGE", "l", start, stop) == expected
    assert run("LTRIM", "l", start, stop) == "OK"
    assert elements() == expected
    assert run("EXISTS", "l") == (1 if expected else 0)


def test_ranges_of_no_key_are_empty(run, fails):
    assert run("LRANGE", "l", 0, -1) == []
    assert run("LTRIM", "l", 0, -1) == "OK"
    assert fails("LRANGE", "l", "x", 0) == fails("LTRIM", "l", 0, "x") == NOT_AN_INTEGER


# By content


def test_linsert_before_and_after_the_first_that_equals(run, elements):
    run("RPUSH", "l", "a", "b", "a")
    assert run("LINSERT", "l", "BEFORE", "a", "x") == 4
    assert run("LINSERT", "l", "after", "b", "y") == 5
    assert run("LINSERT", "l", "AFTER", "no", "y") == -1
    assert elements() == [b"x", b"a", b"b", b"y", b"a"]
    assert run("LINSERT", "no", "AFTER", "a", "y") == 0


def test_linsert_says_where_before_it_looks(run, fails):
    run("SET", "s", "x")
    assert fails("LINSERT", "s", "AT", "a", "b") == SYNTAX
    assert fails("LINSERT", "s", "BEFORE", "a", "b") == WRONG_TYPE


@pytest.mark.parametrize(
    ("count", "removed", "left"),
    [(0, 3, "bc"), (1, 1, "bcaa"), (2, 2, "bca"), (-1, 1, "abca"), (-2, 2, "abc"), (9, 3, "bc"), (-INT64_MAX, 3, "bc")],
)
def test_lrem_removes_from_a_side_or_all(run, elements, count, removed, left):
    run("RPUSH", "l", *"abcaa")
    assert run("LREM", "l", count, "a") == removed
    assert elements() == [letter.encode() for letter in left]


def test_lrem_of_the_last_element_removes_the_key(run, fails):
    run("RPUSH", "l", "a", "a")
    assert run("LREM", "l", 0, "x") == 0
    assert run("LREM", "l", 0, "a") == 2
    assert run("EXISTS", "l") == 0
    assert run("LREM", "l", 0, "a") == 0
    assert fails("LREM", "l", "x", "a") == NOT_AN_INTEGER


def test_lpos_gives_the_first_place_or_the_nth_from_either_side(run):
    run("RPUSH", "l", *"abcabcabc")
    assert run("LPOS", "l", "b") == 1
    assert run("LPOS", "l", "b", "RANK", 3) == 7
    assert run("LPOS", "l", "b", "RANK", 4) is None
    assert run("LPOS", "l", "b", "rank", -1) == 7
    assert run("LPOS", "l", "b", "RANK", -3) == 1
    assert run("LPOS", "l", "no") is None
    assert run("LPOS", "no", "b") is None


def test_lpos_gives_several_places_within_a_length(run):
    run("RPUSH", "l", *"abcabcabc")
    assert run("LPOS", "l", "b", "COUNT", 0) == [1, 4, 7]
    assert run("LPOS", "l", "b", "COUNT", 2, "RANK", -1) == [7, 4]
    assert run("LPOS", "l", "b", "COUNT", 0, "MAXLEN", 5) == [1, 4]
    assert run("LPOS", "l", "b", "COUNT", 0, "MAXLEN", 4, "RANK", -1) == [7]
    assert run("LPOS", "l", "b", "MAXLEN", 1) is None
    assert run("LPOS", "l", "no", "COUNT", 0) == run("LPOS", "no", "b", "COUNT", 1) == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("RANK", 0),
            RANK_ZERO,
        ),
        (("RANK", "x"), NOT_AN_INTEGER),
        (("RANK", INT64_MIN), f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}"),
        (("COUNT", -1), "ERR COUNT can't be negative"),
        (("MAXLEN", "x"), "ERR MAXLEN can't be negative"),
        (("RANK",), SYNTAX),
        (("COUNT", 1, "RANK"), SYNTAX),
        (("COUNT", -1, "RANK"), "ERR COUNT can't be negative"),
        (("FOO", 1), SYNTAX),
    ],
)
def test_lpos_refuses_what_it_does_not_understand(run, fails, words, error):
    run("SET", "l", "of another type, which nobody has looked at yet")
    assert fails("LPOS", "l", "x", *words) == error


# All


COMMANDS = [
    ("LPUSH", "s", "x"), ("RPUSH", "s", "x"), ("LPUSHX", "s", "x"), ("RPUSHX", "s", "x"), ("LPOP", "s"), ("RPOP", "s"),
    ("LPOP", "s", 0), ("LLEN", "s"), ("LINDEX", "s", 0), ("LSET", "s", 0, "x"), ("LINSERT", "s", "BEFORE", "x", "y"),
    ("LRANGE", "s", 0, -1), ("LTRIM", "s", 0, -1), ("LREM", "s", 0, "x"), ("LPOS", "s", "x"), ("RPOPLPUSH", "s", "t"),
    ("LMOVE", "s", "t", "LEFT", "LEFT"), ("LMPOP", 1, "s", "LEFT"), ("BLPOP", "s", 0), ("BRPOP", "s", 0),
    ("BLMPOP", 0, 1, "s", "LEFT"), ("BLMOVE", "s", "t", "LEFT", "LEFT", 0), ("BRPOPLPUSH", "s", "t", 0),
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_key_of_another_type_is_left_alone(run, fails, words):
    run("SET", "s", "x")
    assert fails(*words) == WRONG_TYPE
    assert run("GET", "s") == b"x"
    assert run("DBSIZE") == 1


def test_string_commands_leave_lists_alone(run, fails):
    run("RPUSH", "l", "x")
    assert fails("GET", "l") == fails("APPEND", "l", "x") == fails("INCR", "l") == WRONG_TYPE
    assert run("MGET", "l") == [None]
    assert run("SET", "l", "x") == "OK"


def test_a_list_whose_time_is_over_is_gone_for_every_command(run, clock):
    run("RPUSH", "l", "a")
    run("PEXPIRE", "l", 10)
    assert run("RPUSH", "l", "b") == 2
    assert run("PTTL", "l") == 10
    clock.advance_ms(11)
    assert run("LRANGE", "l", 0, -1) == []
    assert run("RPUSH", "l", "c") == 1
    assert run("TTL", "l") == -1


def test_copies_of_a_list_are_independent(run, elements):
    run("RPUSH", "l", "a")
    run("COPY", "l", "m")
    run("RPUSH", "m", "b")
    run("RENAME", "m", "n")
    assert (elements("l"), elements("n")) == ([b"a"], [b"a", b"b"])


def test_object_encoding_tells_long_lists_from_short_ones(run):
    run("RPUSH", "l", "a")
    assert run("OBJECT", "ENCODING", "l") == b"listpack"
    run("RPUSH", "l", "x" * 8200)
    assert run("OBJECT", "ENCODING", "l") == b"quicklist"
    run("RPOP", "l")
    assert run("OBJECT", "ENCODING", "l") == b"listpack"


def test_lists_take_memory_and_give_it_back(run, engine):
    before = sum(shard.stats.memory_bytes for shard in engine.shards)
    for number in range(1_000):
        run("RPUSH", "l", b"%050d" % number)
    grown = sum(shard.stats.memory_bytes for shard in engine.shards) - before
    assert 50_000 < grown < 200_000
    run("LTRIM", "l", 0, 9)
    assert 500 < sum(shard.stats.memory_bytes for shard in engine.shards) - before < 4_000
    run("DEL", "l")
    assert sum(shard.stats.memory_bytes for shard in engine.shards) == before


def test_notifications_of_list_commands(run, events):
    run("RPUSH", "l", "a", "b", "c", "d", "e")
    run("LPUSHX", "l", "f")
    run("LPUSHX", "no", "f")
    run("LSET", "l", 0, "g")
    run("LINSERT", "l", "BEFORE", "g", "h")
    run("LINSERT", "l", "BEFORE", "no", "h")
    run("LREM", "l", 0, "no")
    run("LREM", "l", 0, "h")
    run("LTRIM", "l", 0, 3)
    run("LPOP", "l")
    run("RPOP", "l", 1)
    run("RPOP", "l", 0)
    run("LMOVE", "l", "l", "LEFT", "RIGHT")
    run("LMPOP", 1, "l", "LEFT")
    run("RPOPLPUSH", "l", "m")
    run("LTRIM", "m", 1, 0)
    assert events == [
        b"rpush l", b"lpush l", b"lset l", b"linsert l", b"lrem l", b"ltrim l", b"lpop l", b"rpop l", b"rpush l",
        b"lpop l", b"lpop l", b"lpush m", b"rpop l", b"del l", b"ltrim m", b"del m",
    ]  # fmt: skip


def test_hits_and_misses_are_those_of_commands_that_look(run, engine):
    run("RPUSH", "l", "a")
    run("LPOP", "no")
    for words in (("LLEN", "l"), ("LRANGE", "l", 0, -1), ("LINDEX", "no", 0), ("LPOS", "no", "x")):
        run(*words)
    stats = [shard.stats for shard in engine.shards]
    assert (sum(each.hits for each in stats), sum(each.misses for each in stats)) == (2, 2)


# Waiting; who is served in which order is compared with redis-server in tests/compat/test_blocking_lists.py


WAITS = [
    (("BLPOP", "l", 2), [b"l", b"a"]),
    (("BRPOP", "no", "l", 2), [b"l", b"a"]),
    (("BLMPOP", 2, 1, "l", "LEFT", "COUNT", 5), [b"l", [b"a"]]),
    (("BLMOVE", "l", "m", "LEFT", "LEFT", 2), b"a"),
    (("BRPOPLPUSH", "l", "m", 2), b"a"),
]


@pytest.mark.parametrize(("words", "served"), WAITS, ids=lambda words: str(words[0]))
def test_a_client_that_waits_is_served_when_there_is_something(connect, run, words, served):
    waiting = connect()
    assert waiting.send(*words) == []
    assert run("RPUSH", "l", "a") == 1
    assert waiting.received() == [served]
    assert run("EXISTS", "l") == 0
    # Whoever was served waits no more.
    assert run("RPUSH", "l", "b") == 1
    assert run("LLEN", "l") == 1


@pytest.mark.parametrize(("words", "served"), WAITS, ids=lambda words: str(words[0]))
def test_a_wait_that_is_over_ends_with_an_absent_array(connect, run, engine, clock, words, served):
    waiting = connect()
    waiting.send(*words)
    clock.advance_ms(1_999)
    engine.blocking.expire()
    assert waiting.received() == []
    clock.advance_ms(1)
    engine.blocking.expire()
    assert waiting.received() == [NULL_ARRAY]
    run("RPUSH", "l", "a")
    assert run("LLEN", "l") == 1


def test_waiting_for_what_is_there_does_not_wait(connect):
    client = connect()
    client.send("RPUSH", "l", "a", "b", "c", "d")
    assert client.send("BLPOP", "no", "l", 0) == [[b"l", b"a"]]
    assert client.send("BRPOP", "l", 0.5) == [[b"l", b"d"]]
    assert client.send("BLMOVE", "l", "m", "RIGHT", "LEFT", 0) == [b"c"]
    assert client.send("BLMPOP", 0, 2, "l", "m", "LEFT", "COUNT", 9) == [[b"l", [b"b"]]]


def test_notifications_of_what_a_waiting_client_takes_come_after_the_push(connect, run, events):
    waiting = connect()
    waiting.send("BLMOVE", "l", "m", "LEFT", "RIGHT", 0)
    run("RPUSH", "l", "a")
    assert events == [b"rpush l", b"rpush m", b"lpop l", b"del l"]


def test_a_thousand_clients_wait_and_each_gets_its_own(connect, run):
    waiting = [connect() for _ in range(1_000)]
    for client in waiting:
        assert client.send("BLPOP", "l", 0) == []
    run("RPUSH", "l", *range(1_001))
    assert [client.received() for client in waiting] == [[[b"l", b"%d" % number]] for number in range(1_000)]
    assert run("LRANGE", "l", 0, -1) == [b"1000"]


def test_of_several_elements_all_are_put_in_or_none(run, client):
    too_long = bytes((1 << 30) + 1)  # of which no page is ever touched
    with pytest.raises(TooLong):
        rpush(client, [b"RPUSH", b"k", b"a", too_long])
    run("RPUSH", "k", "x")
    with pytest.raises(TooLong):
        rpush(client, [b"RPUSH", b"k", b"a", too_long])
    assert run("LLEN", "k") == 1
