"""Sorted set commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import math

import pytest

from kora.commands.sorted_sets import zadd
from kora.errors import CommandError, TooLong
from kora.resp.reply import NULL_ARRAY
from tests.conftest import runner

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_A_FLOAT = "ERR value is not a valid float"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
INT64_MAX = (1 << 63) - 1


@pytest.fixture
def fails(run):
    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def run3(engine):
    """run() of a client that speaks RESP3."""
    client = engine.connect("127.0.0.1:50001", "127.0.0.1:6379")
    client.set_protocol(3)
    return runner(client)


@pytest.fixture
def events(client):
    """The events of keys, in order, as keyspace notifications name them."""
    found = []
    client.engine.implementation.set_handing_over(True)  # as where notifications are on
    client.db.notify = lambda event, key: found.append((event.decode(), key.decode()))
    return found


def fill(run, key="z", *members):
    """Members a, b, c … with scores 1, 2, 3 …, or those given."""
    for score, member in enumerate(members or "abcde", 1):
        run("ZADD", key, score, member)


# ZADD and ZINCRBY


def test_zadd_counts_what_is_new(run):
    assert run("ZADD", "z", 1, "a", "2.5", "b") == 2
    assert run("ZADD", "z", 3, "a", 4, "c") == 1
    assert run("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"b", b"2.5", b"a", b"3", b"c", b"4"]


def test_zadd_ch_counts_what_has_changed(run):
    run("ZADD", "z", 1, "a", 2, "b")
    assert run("ZADD", "z", "CH", 1, "a", 5, "b", 6, "c") == 2


@pytest.mark.parametrize(
    ("option", "after"),
    [
        ("NX", {"old": 5.0, "new": 9.0}),
        ("XX", {"old": 9.0}),
        ("GT", {"old": 9.0, "new": 9.0}),
        ("LT", {"old": 5.0, "new": 9.0}),
    ],
)
def test_conditions_of_zadd(run, option, after):
    run("ZADD", "z", 5, "old")
    run("ZADD", "z", option, 9, "old", 9, "new")
    assert {member: float(run("ZSCORE", "z", member)) for member in after} == after
    assert run("ZCARD", "z") == len(after)


def test_zadd_gt_and_xx_together(run):
    run("ZADD", "z", 5, "old")
    assert run("ZADD", "z", "GT", "XX", "CH", 4, "old", 9, "new") == 0
    assert run("ZADD", "z", "xx", "gt", "ch", 6, "old", 9, "new") == 1


def test_zadd_xx_makes_no_key(run):
    assert run("ZADD", "z", "XX", 1, "a") == 0
    assert run("ZADD", "z", "XX", "INCR", 1, "a") is None
    assert run("EXISTS", "z") == 0


def test_zadd_incr_answers_the_score(run):
    assert run("ZADD", "z", "INCR", 5, "a") == b"5"
    assert run("ZADD", "z", "INCR", "-2.5", "a") == b"2.5"
    assert run("ZADD", "z", "NX", "INCR", 1, "a") is None
    assert run("ZADD", "z", "GT", "INCR", -1, "a") is None
    assert run("ZSCORE", "z", "a") == b"2.5"


def test_zadd_takes_the_last_of_a_member_named_twice(run):
    assert run("ZADD", "z", 1, "a", 2, "a") == 1
    assert run("ZSCORE", "z", "a") == b"2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("1", "a", "2"), SYNTAX),
        (("NX", "1"), SYNTAX),
        (("CH", "CH"), SYNTAX),
        (("NX", "XX", "1", "a"), "ERR XX and NX options at the same time are not compatible"),
        (("NX", "GT", "1", "a"), "ERR GT, LT, and/or NX options at the same time are not compatible"),
        (("GT", "LT", "1", "a"), "ERR GT, LT, and/or NX options at the same time are not compatible"),
        (("INCR", "1", "a", "2", "b"), "ERR INCR option supports a single increment-element pair"),
        (("x", "a"), NOT_A_FLOAT),
        (("nan", "a"), NOT_A_FLOAT),
        (("1e400", "a"), NOT_A_FLOAT),
        (("1e-400", "a"), NOT_A_FLOAT),
        ((" 1", "a"), NOT_A_FLOAT),
        (("1 ", "a"), NOT_A_FLOAT),
        (("", "a"), NOT_A_FLOAT),
        (("1", "a", "x", "b"), NOT_A_FLOAT),
    ],
)
def test_mistakes_of_zadd_change_nothing(run, fails, words, message):
    assert fails("ZADD", "z", *words) == message
    assert run("EXISTS", "z") == 0


def test_infinities_are_scores_and_their_sum_is_an_error(run, fails):
    run("ZADD", "z", "inf", "a", "-Infinity", "b", "+INF", "c")
    assert run("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"b", b"-inf", b"a", b"inf", b"c", b"inf"]
    assert fails("ZINCRBY", "z", "-inf", "a") == "ERR resulting score is not a number (NaN)"
    assert run("ZSCORE", "z", "a") == b"inf"


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("3.0", b"3"), ("0x10", b"16"), ("0x1.8p1", b"3"), ("0.1", b"0.10000000000000001"), ("1e20", b"1e+20"),
        ("9007199254740993", b"9007199254740992"), ("-0", b"0"), (".5", b"0.5"), ("1e-5", b"1.0000000000000001e-05"),
        ("1.5e300", b"1.5000000000000001e+300"),
    ],
)  # fmt: skip
def test_scores_are_shown_as_redis_does(run, run3, word, shown):
    run("ZADD", "z", word, "a")
    assert run("ZSCORE", "z", "a") == shown
    assert run3("ZSCORE", "z", "a") == float(shown)


def test_zincrby(run, run3, fails):
    assert run("ZINCRBY", "z", "1.5", "a") == b"1.5"
    assert run3("ZINCRBY", "z", 2, "a") == 3.5
    assert fails("ZINCRBY", "z", "x", "a") == NOT_A_FLOAT
    assert fails("ZINCRBY", "z", "NX", "a") == SYNTAX


def test_zadd_keeps_the_deadline_of_a_key(run):
    run("ZADD", "z", 1, "a")
    run("EXPIRE", "z", 100)
    run("ZADD", "z", 2, "b")
    run("ZREM", "z", "a")
    assert run("TTL", "z") == 100


def test_a_sorted_set_whose_time_is_over_is_empty(run, clock):
    fill(run)
    run("PEXPIRE", "z", 10)
    clock.advance_ms(11)
    assert run("ZRANGE", "z", 0, -1) == []
    assert run("ZADD", "z", "XX", 1, "a") == 0
    assert run("ZADD", "z", 9, "new") == 1
    assert run("ZCARD", "z") == 1
    assert run("TTL", "z") == -1


# Members


def test_zrem_removes_and_the_last_takes_the_key_with_it(run):
    fill(run)
    assert run("ZREM", "z", "a", "no", "b", "a") == 2
    assert run("ZREM", "no", "a") == 0
    assert run("ZREM", "z", "c", "d", "e") == 3
    assert run("EXISTS", "z") == 0


def test_scores_and_ranks(run, run3):
    fill(run)
    assert run("ZCARD", "z") == 5
    assert run("ZSCORE", "z", "no") is None
    assert run("ZSCORE", "no", "a") is None
    assert run("ZMSCORE", "z", "b", "no", "a") == [b"2", None, b"1"]
    assert run3("ZMSCORE", "z", "b", "no") == [2.0, None]
    assert run("ZMSCORE", "no", "b", "c") == [None, None]
    assert run("ZRANK", "z", "b") == 1
    assert run("ZREVRANK", "z", "b") == 3
    assert run("ZRANK", "z", "no") is None
    assert run("ZREVRANK", "no", "b") is None


def test_ranks_with_scores(run, run3, fails):
    fill(run)
    assert run("ZRANK", "z", "b", "WITHSCORE") == [1, b"2"]
    assert run3("ZREVRANK", "z", "b", "withscore") == [3, 2.0]
    assert run("ZRANK", "z", "no", "WITHSCORE") is NULL_ARRAY
    assert run("ZRANK", "no", "b", "WITHSCORE") is NULL_ARRAY
    assert fails("ZRANK", "z", "b", "WITHSCORES") == SYNTAX
    assert fails("ZREVRANK", "z", "b", "WITHSCORE", "x") == "ERR wrong number of arguments for 'zrevrank' command"


# Ranges


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (0, -1, "abcde"), (0, 0, "a"), (1, 2, "bc"), (-2, -1, "de"), (-100, 1, "ab"), (3, 100, "de"), (5, 6, ""),
        (2, 1, ""), (0, -6, ""), (-1, -2, ""), (INT64_MAX, INT64_MAX, ""),
    ],
)  # fmt: skip
def test_ranges_of_ranks(run, first, last, found):
    fill(run)
    assert run("ZRANGE", "z", first, last) == [member.encode() for member in found]
    backwards = "edcba"[first:][: last - first + 1] if 0 <= first <= last < 5 else None
    if backwards is not None:
        for words in (("ZREVRANGE", "z", first, last), ("ZRANGE", "z", first, last, "REV")):
            assert run(*words) == [member.encode() for member in backwards]


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        ("-inf", "+inf", "abcde"), (2, 4, "bcd"), ("(2", 4, "cd"), (2, "(4", "bc"), ("(2", "(3", ""), (4, 2, ""),
        ("(1", "inf", "bcde"), ("", 1, "a"), ("(", 1, "a"), (" 2", 2, "b"), ("1e400", "inf", ""), ("2.5", "3.5", "c"),
    ],
)  # fmt: skip
def test_ranges_of_scores(run, low, high, found):
    fill(run)
    members = [member.encode() for member in found]
    assert run("ZRANGEBYSCORE", "z", low, high) == members
    assert run("ZRANGE", "z", low, high, "BYSCORE") == members
    assert run("ZREVRANGEBYSCORE", "z", high, low) == members[::-1]
    assert run("ZRANGE", "z", high, low, "REV", "BYSCORE") == members[::-1]
    assert run("ZCOUNT", "z", low, high) == len(members)
    assert run("ZREMRANGEBYSCORE", "z", low, high) == len(members)
    assert run("ZCARD", "z") == 5 - len(members)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        ("-", "+", "abcde"), ("[b", "[d", "bcd"), ("(b", "(d", "c"), ("[b", "+", "bcde"), ("-", "(c", "ab"),
        ("+", "-", ""),
        ("[d", "[b", ""), ("(a", "(a", ""), ("[", "[bb", "ab"), ("-", "-", ""), ("+", "+", ""),
    ],
)  # fmt: skip
def test_ranges_of_members(run, low, high, found):
    run("ZADD", "z", *[word for member in "abcde" for word in (0, member)])
    members = [member.encode() for member in found]
    assert run("ZRANGEBYLEX", "z", low, high) == members
    assert run("ZRANGE", "z", low, high, "BYLEX") == members
    assert run("ZREVRANGEBYLEX", "z", high, low) == members[::-1]
    assert run("ZRANGE", "z", high, low, "BYLEX", "REV") == members[::-1]
    assert run("ZLEXCOUNT", "z", low, high) == len(members)
    assert run("ZREMRANGEBYLEX", "z", low, high) == len(members)
    assert run("ZCARD", "z") == 5 - len(members)


@pytest.mark.parametrize(
    ("offset", "count", "found"),
    [(0, 2, "ab"), (1, 2, "bc"), (3, -1, "de"), (0, 0, ""), (9, 1, ""), (-1, 2, ""), (4, 9, "e")],
)
def test_limit(run, offset, count, found):
    fill(run)
    members = [member.encode() for member in found]
    assert run("ZRANGEBYSCORE", "z", "-inf", "inf", "LIMIT", offset, count) == members
    backwards = [b"%c" % (ord("a") + ord("e") - member[0]) for member in members]
    assert run("ZREVRANGEBYSCORE", "z", "inf", "-inf", "LIMIT", offset, count) == backwards


def test_ranges_with_scores_are_pairs_in_resp3(run, run3):
    fill(run, "z", "a", "b")
    flat, pairs = [b"a", b"1", b"b", b"2"], [[b"a", 1.0], [b"b", 2.0]]
    for words in (("ZRANGE", "z", 0, -1), ("ZRANGEBYSCORE", "z", 1, 2), ("ZUNION", 1, "z"), ("ZDIFF", 2, "z", "no")):
        assert run(*words, "WITHSCORES") == flat
        assert run3(*words, "WITHSCORES") == pairs
        assert run3(*words) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ZRANGE", "z", "x", 1), NOT_AN_INTEGER),
        (("ZRANGE", "z", 0, 1, "FOO"), SYNTAX),
        (("ZRANGE", "z", 0, 1, "REV", "REV"), SYNTAX),
        (("ZRANGE", "z", 0, 1, "BYSCORE", "BYLEX"), SYNTAX),
        (("ZRANGE", "z", 0, 1, "LIMIT", 0), SYNTAX),
        (("ZRANGE", "z", 0, 1, "BYSCORE", "LIMIT", "x", 0), NOT_AN_INTEGER),
        (
            ("ZRANGE", "z", 0, 1, "LIMIT", 0, 1),
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ),
        (
            ("ZRANGE", "z", "-", "+", "BYLEX", "WITHSCORES"),
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ),
        (("ZRANGE", "z", "x", 1, "BYSCORE"), "ERR min or max is not a float"),
        (("ZRANGEBYSCORE", "z", "nan", 1), "ERR min or max is not a float"),
        (("ZRANGEBYSCORE", "z", "1 ", 1), "ERR min or max is not a float"),
        (("ZRANGEBYSCORE", "z", 0, 1, "REV"), SYNTAX),
        (("ZCOUNT", "z", 0, "x"), "ERR min or max is not a float"),
        (("ZRANGEBYLEX", "z", "a", "+"), "ERR min or max not valid string range item"),
        (("ZLEXCOUNT", "z", "-", ""), "ERR min or max not valid string range item"),
        (("ZRANGESTORE", "d", "z", 0, 1, "WITHSCORES"), SYNTAX),
        (("ZREMRANGEBYRANK", "z", 0, "x"), NOT_AN_INTEGER),
        (("ZREMRANGEBYSCORE", "z", 0, "x"), "ERR min or max is not a float"),
        (("ZREMRANGEBYLEX", "z", "-", "x"), "ERR min or max not valid string range item"),
    ],
)
def test_mistakes_of_ranges(fails, words, message):
    assert fails(*words) == message


def test_zrangestore(run):
    fill(run)
    run("SET", "d", "text", "EX", 100)
    assert run("ZRANGESTORE", "d", "z", 1, 2) == 2
    assert run("ZRANGE", "d", 0, -1, "WITHSCORES") == [b"b", b"2", b"c", b"3"]
    assert run("TTL", "d") == -1
    assert run("ZRANGESTORE", "d", "z", "(4", "(4", "BYSCORE") == 0
    assert run("EXISTS", "d") == 0
    assert run("ZRANGESTORE", "z", "z", 0, 0, "REV") == 1
    assert run("ZRANGE", "z", 0, -1) == [b"e"]


def test_zremrangebyrank(run):
    fill(run)
    assert run("ZREMRANGEBYRANK", "z", 1, -2) == 3
    assert run("ZRANGE", "z", 0, -1) == [b"a", b"e"]
    assert run("ZREMRANGEBYRANK", "z", 5, 6) == 0
    assert run("ZREMRANGEBYRANK", "z", 0, -1) == 2
    assert run("EXISTS", "z") == 0


# Popping


def test_zpop(run, run3):
    fill(run)
    assert run("ZPOPMIN", "z") == [b"a", b"1"]
    assert run("ZPOPMAX", "z") == [b"e", b"5"]
    assert run("ZPOPMIN", "z", 0) == []
    assert run3("ZPOPMIN", "z") == [b"b", 2.0]
    assert run3("ZPOPMAX", "z", 1) == [[b"d", 4.0]]
    assert run("ZPOPMAX", "z", 9) == [b"c", b"3"]
    assert run("EXISTS", "z") == 0
    assert run("ZPOPMIN", "z") == run3("ZPOPMIN", "z", 2) == []


def test_mistakes_of_zpop(run, fails):
    assert fails("ZPOPMIN", "z", -1) == "ERR value is out of range, must be positive"
    assert fails("ZPOPMIN", "z", "x") == "ERR value is out of range, must be positive"
    assert fails("ZPOPMIN", "z", 1, 2) == SYNTAX
    run("SET", "s", "x")
    assert fails("ZPOPMIN", "s", 0) == WRONG_TYPE


def test_zmpop_takes_from_the_first_key_that_is_there(run, run3):
    fill(run)
    assert run("ZMPOP", 2, "no", "z", "MIN") == [b"z", [[b"a", b"1"]]]
    assert run3("ZMPOP", 2, "no", "z", "max", "COUNT", 2) == [b"z", [[b"e", 5.0], [b"d", 4.0]]]
    assert run("ZMPOP", 1, "no", "MIN") is NULL_ARRAY


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((0, "z", "MIN"), "ERR numkeys should be greater than 0"),
        (("x", "z", "MIN"), "ERR numkeys should be greater than 0"),
        ((2, "z", "MIN"), SYNTAX),
        ((INT64_MAX, "z", "MIN"), SYNTAX),
        ((1, "z", "FOO"), SYNTAX),
        ((1, "z", "MIN", "COUNT"), SYNTAX),
        ((1, "z", "MIN", "COUNT", 0), "ERR count should be greater than 0"),
        ((1, "z", "MIN", "COUNT", "x"), "ERR count should be greater than 0"),
        ((1, "z", "MIN", "COUNT", 1, "COUNT", 1), SYNTAX),
    ],
)
def test_mistakes_of_zmpop(fails, words, message):
    assert fails("ZMPOP", *words) == message
    assert fails("BZMPOP", 0, *words) == message


# Unions, intersections and differences


def test_zunion_and_its_aggregates(run):
    run("ZADD", "x", 1, "a", 2, "b")
    run("ZADD", "y", 10, "b", 20, "c")
    assert run("ZUNION", 2, "x", "y", "WITHSCORES") == [b"a", b"1", b"b", b"12", b"c", b"20"]
    assert run("ZUNION", 2, "x", "y", "WITHSCORES", "AGGREGATE", "MIN") == [b"a", b"1", b"b", b"2", b"c", b"20"]
    assert run("ZUNION", 2, "x", "y", "WITHSCORES", "AGGREGATE", "max") == [b"a", b"1", b"b", b"10", b"c", b"20"]
    assert run("ZUNION", 3, "x", "no", "y", "WEIGHTS", 2, 9, "0.5", "WITHSCORES") == [
        b"a", b"2", b"b", b"9", b"c", b"10",
    ]  # fmt: skip


def test_zinter_and_zdiff(run):
    run("ZADD", "x", 1, "a", 2, "b", 3, "c")
    run("ZADD", "y", 10, "b", 20, "c")
    assert run("ZINTER", 2, "x", "y", "WITHSCORES") == [b"b", b"12", b"c", b"23"]
    assert run("ZINTER", 2, "x", "no") == []
    assert run("ZDIFF", 2, "x", "y", "WITHSCORES") == [b"a", b"1"]
    assert run("ZDIFF", 2, "x", "x") == []
    assert run("ZDIFF", 1, "no") == []
    assert run("ZINTERCARD", 2, "x", "y") == 2
    assert run("ZINTERCARD", 2, "x", "y", "LIMIT", 1) == 1
    assert run("ZINTERCARD", 2, "x", "y", "LIMIT", 0) == 2


def test_stores_replace_the_target_and_delete_it_where_nothing_is_left(run):
    run("ZADD", "x", 1, "a", 2, "b")
    run("ZADD", "y", 10, "b")
    run("SET", "d", "text")
    assert run("ZUNIONSTORE", "d", 2, "x", "y") == 2
    assert run("ZRANGE", "d", 0, -1, "WITHSCORES") == [b"a", b"1", b"b", b"12"]
    assert run("ZINTERSTORE", "d", 2, "x", "y", "WEIGHTS", 1, 2) == 1
    assert run("ZRANGE", "d", 0, -1, "WITHSCORES") == [b"b", b"22"]
    assert run("ZDIFFSTORE", "d", 2, "x", "y") == 1
    assert run("ZRANGE", "d", 0, -1, "WITHSCORES") == [b"a", b"1"]
    assert run("ZDIFFSTORE", "d", 2, "x", "x") == 0
    assert run("EXISTS", "d") == 0
    assert run("ZUNIONSTORE", "x", 2, "x", "x") == 2
    assert run("ZSCORE", "x", "b") == b"4"


def test_infinite_scores_in_unions(run):
    run("ZADD", "x", "inf", "a")
    run("ZADD", "y", "-inf", "a")
    assert run("ZUNION", 2, "x", "y", "WITHSCORES") == [b"a", b"0"]
    assert run("ZINTER", 1, "x", "WEIGHTS", 0, "WITHSCORES") == [b"a", b"0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ZUNION", 0, "x"), "ERR at least 1 input key is needed for 'zunion' command"),
        (("ZUNIONSTORE", "d", -1, "x"), "ERR at least 1 input key is needed for 'zunionstore' command"),
        (("ZUNION", "x", "x"), NOT_AN_INTEGER),
        (("ZUNION", 2, "x"), SYNTAX),
        (("ZUNION", INT64_MAX, "x"), SYNTAX),
        (("ZUNION", 1, "x", "WEIGHTS"), SYNTAX),
        (("ZUNION", 1, "x", "WEIGHTS", "x"), "ERR weight value is not a float"),
        (("ZUNION", 1, "x", "AGGREGATE", "x"), SYNTAX),
        (("ZUNIONSTORE", "d", 1, "x", "WITHSCORES"), SYNTAX),
        (("ZDIFF", 1, "x", "WEIGHTS", 1), SYNTAX),
        (("ZINTERCARD", 1, "x", "LIMIT", -1), "ERR LIMIT can't be negative"),
        (("ZINTERCARD", 1, "x", "LIMIT", "x"), "ERR LIMIT can't be negative"),
        (("ZINTERCARD", 1, "x", "WITHSCORES"), SYNTAX),
    ],
)
def test_mistakes_of_unions(fails, words, message):
    assert fails(*words) == message


# Random members, and walking


def test_zrandmember(run, run3, fails):
    fill(run)
    scores = {b"%c" % (ord("a") + index): index + 1 for index in range(5)}
    assert {run("ZRANDMEMBER", "z") for _ in range(200)} == set(scores)
    assert run("ZRANDMEMBER", "z", 9) == sorted(scores)
    some = run("ZRANDMEMBER", "z", 3)
    assert len(set(some)) == 3
    assert set(some) <= set(scores)
    assert len(run("ZRANDMEMBER", "z", -20)) == 20
    assert all(scores[member] == score for member, score in run3("ZRANDMEMBER", "z", -20, "WITHSCORES"))
    assert len(run("ZRANDMEMBER", "z", 2, "withscores")) == 4
    assert run("ZRANDMEMBER", "z", 0) == run("ZRANDMEMBER", "no", 3) == []
    assert run("ZRANDMEMBER", "no") is None
    assert fails("ZRANDMEMBER", "z", "x") == NOT_AN_INTEGER
    assert fails("ZRANDMEMBER", "z", 1, "FOO") == SYNTAX
    assert fails("ZRANDMEMBER", "z", INT64_MAX, "WITHSCORES") == "ERR value is out of range"
    assert fails("ZRANDMEMBER", "z", -INT64_MAX) == "ERR value is out of range"
    assert (
        fails("ZRANDMEMBER", "z", -INT64_MAX - 1)
        == f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}"
    )


def test_zscan_of_a_small_set_is_one_step(run, run3, fails):
    fill(run, "z", "a", "b", "c")
    assert run("ZSCAN", "z", 0) == [b"0", [b"a", b"1", b"b", b"2", b"c", b"3"]]
    assert run3("ZSCAN", "z", 0, "MATCH", "[ab]", "COUNT", 1) == [b"0", [b"a", b"1", b"b", b"2"]]
    assert run("ZSCAN", "no", 0) == [b"0", []]
    assert fails("ZSCAN", "z", "x") == "ERR invalid cursor"
    assert fails("ZSCAN", "z", 0, "COUNT", 0) == SYNTAX
    assert fails("ZSCAN", "z", 0, "TYPE", "zset") == SYNTAX


def test_zscan_of_a_large_set_comes_to_an_end_with_everything(run):
    for number in range(1000):
        run("ZADD", "z", number, f"m{number}")
    cursor, found = b"0", {}
    for _ in range(2000):
        cursor, part = run("ZSCAN", "z", cursor, "COUNT", 7)
        found.update(zip(part[::2], part[1::2], strict=True))
        if cursor == b"0":
            break
    assert found == {b"m%d" % number: b"%d" % number for number in range(1000)}


# Encodings, types and events


def test_encodings(run):
    fill(run)
    assert run("TYPE", "z") == "zset"
    assert run("OBJECT", "ENCODING", "z") == b"listpack"
    run("ZADD", "z", *[word for number in range(124) for word in (number, number)])
    assert run("OBJECT", "ENCODING", "z") == b"skiplist"
    run("ZUNIONSTORE", "d", 1, "z")
    assert run("OBJECT", "ENCODING", "d") == b"skiplist"
    run("ZRANGESTORE", "d", "z", 0, 9)
    assert run("OBJECT", "ENCODING", "d") == b"listpack"


COMMANDS = (
    "ZADD k 1 a", "ZINCRBY k 1 a", "ZREM k a", "ZCARD k", "ZSCORE k a", "ZMSCORE k a", "ZRANK k a", "ZREVRANK k a",
    "ZCOUNT k 0 1", "ZLEXCOUNT k - +", "ZRANGE k 0 1", "ZREVRANGE k 0 1", "ZRANGEBYSCORE k 0 1",
    "ZREVRANGEBYSCORE k 1 0",
    "ZRANGEBYLEX k - +", "ZREVRANGEBYLEX k + -", "ZRANGESTORE d k 0 1", "ZREMRANGEBYRANK k 0 1",
    "ZREMRANGEBYSCORE k 0 1",
    "ZREMRANGEBYLEX k - +", "ZPOPMIN k", "ZPOPMAX k", "ZMPOP 1 k MIN", "ZUNION 1 k", "ZINTER 1 k", "ZDIFF 1 k",
    "ZUNIONSTORE d 1 k", "ZINTERSTORE d 1 k", "ZDIFFSTORE d 1 k", "ZINTERCARD 1 k", "ZRANDMEMBER k", "ZSCAN k 0",
    "BZPOPMIN k 0", "BZPOPMAX k 0", "BZMPOP 0 1 k MIN",
)  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS)
def test_a_string_is_no_sorted_set(run, fails, words):
    run("SET", "k", "v")
    assert fails(*words.split()) == WRONG_TYPE
    assert run("GET", "k") == b"v"
    assert run("EXISTS", "d") == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ZADD z 9 new", [("zadd", "z")]),
        ("ZADD z 1 a", []),
        ("ZADD z NX 9 a", []),
        ("ZADD z INCR 9 a", [("zincr", "z")]),
        ("ZINCRBY z 0 a", []),
        ("ZINCRBY z 1 a", [("zincr", "z")]),
        ("ZREM z a", [("zrem", "z")]),
        ("ZREM z no", []),
        ("ZREM z a b c d e", [("zrem", "z"), ("del", "z")]),
        ("ZREMRANGEBYRANK z 0 1", [("zremrangebyrank", "z")]),
        ("ZREMRANGEBYRANK z 9 9", []),
        ("ZREMRANGEBYSCORE z 0 9", [("zremrangebyscore", "z"), ("del", "z")]),
        ("ZREMRANGEBYLEX z - +", [("zremrangebylex", "z"), ("del", "z")]),
        ("ZPOPMIN z", [("zpopmin", "z")]),
        ("ZPOPMAX z 9", [("zpopmax", "z"), ("del", "z")]),
        ("ZMPOP 1 z MIN", [("zpopmin", "z")]),
        ("BZPOPMIN z 0", [("zpopmin", "z")]),
        ("BZPOPMAX z 0", [("zpopmax", "z")]),
        ("BZMPOP 0 1 z MAX COUNT 9", [("zpopmax", "z"), ("del", "z")]),
        ("ZRANGESTORE d z 0 1", [("zrangestore", "d")]),
        ("ZRANGESTORE z z 9 9", [("del", "z")]),
        ("ZRANGESTORE d z 9 9", []),
        ("ZUNIONSTORE d 1 z", [("zunionstore", "d")]),
        ("ZINTERSTORE d 1 z", [("zinterstore", "d")]),
        ("ZDIFFSTORE d 1 z", [("zdiffstore", "d")]),
        ("ZDIFFSTORE z 2 z z", [("del", "z")]),
    ],
)
def test_events(run, events, words, expected):
    fill(run)
    events.clear()
    run(*words.split())
    assert events == expected


def test_memory_is_counted_and_given_back(run, engine):
    before = engine.memory_bytes
    for number in range(500):
        run("ZADD", "z", number, f"member:{number}")
    assert engine.memory_bytes - before > 500 * 50
    run("ZPOPMAX", "z", 499)
    run("ZREM", "z", "member:0")
    assert engine.memory_bytes == before


# Those that wait


def test_blocking_pops_of_what_is_there(run, run3):
    fill(run)
    assert run("BZPOPMIN", "no", "z", 0) == [b"z", b"a", b"1"]
    assert run3("BZPOPMAX", "z", "0.5") == [b"z", b"e", 5.0]
    assert run("BZMPOP", 0, 2, "no", "z", "MIN", "COUNT", 2) == [b"z", [[b"b", b"2"], [b"c", b"3"]]]


def test_a_waiting_pop_is_served_by_whoever_adds(run, connect):
    waiting = connect()
    assert waiting.send("BZPOPMIN", "y", "z", 0) == []
    assert run("ZADD", "z", 2, "b", 1, "a") == 2
    assert waiting.received() == [[b"z", b"a", b"1"]]
    assert run("ZRANGE", "z", 0, -1) == [b"b"]


def test_of_several_the_first_that_came_is_served(run, connect):
    waiting = [connect() for _ in range(3)]
    waiting[0].send("BZPOPMIN", "z", 0)
    waiting[1].send("BZMPOP", 0, 1, "z", "MAX", "COUNT", 2)
    waiting[2].send("BZPOPMAX", "z", 0)
    run("ZADD", "z", 1, "a", 2, "b", 3, "c")
    assert [session.received() for session in waiting] == [
        [[b"z", b"a", b"1"]],
        [[b"z", [[b"c", b"3"], [b"b", b"2"]]]],
        [],
    ]
    assert run("EXISTS", "z") == 0
    run("ZADD", "z", 9, "d")
    assert waiting[2].received() == [[b"z", b"d", b"9"]]


def test_a_waiting_pop_of_resp3(run, connect):
    waiting = connect()
    waiting.client.set_protocol(3)
    waiting.send("BZPOPMAX", "z", 0)
    run("ZINCRBY", "z", "1.5", "a")
    assert waiting.received() == [[b"z", b"a", 1.5]]


@pytest.mark.parametrize(
    "words", ["ZUNIONSTORE z 1 x", "ZRANGESTORE z x 0 -1", "RENAME x z", "GEOADD z 1 1 m", "ZINCRBY z 1 m"]
)
def test_everything_that_makes_a_sorted_set_wakes(run, connect, words):
    run("ZADD", "x", 1, "m")
    waiting = connect()
    waiting.send("BZPOPMIN", "z", 0)
    run(*words.split())
    [[key, member, _]] = waiting.received()
    assert (key, member) == (b"z", b"m")
    assert run("EXISTS", "z") == 0


@pytest.mark.parametrize("words", ["BZPOPMIN z 1.5", "BZMPOP 1.5 1 z MIN"])
def test_a_wait_comes_to_its_end(run, connect, clock, words):
    waiting = connect()
    assert waiting.send(*words.split()) == []
    clock.advance_ms(1_400)
    assert waiting.received() == []
    clock.advance_ms(200)
    assert waiting.received() == [NULL_ARRAY]
    run("ZADD", "z", 1, "a")
    assert run("ZCARD", "z") == 1


def test_another_kind_of_value_does_not_wake(run, connect):
    waiting = connect()
    waiting.send("BZPOPMIN", "z", 0)
    run("SET", "z", "text")
    assert waiting.received() == []
    run("DEL", "z")
    run("ZADD", "z", 1, "a")
    assert waiting.received() == [[b"z", b"a", b"1"]]


def test_in_a_transaction_nobody_waits(run):
    run("MULTI")
    run("BZPOPMIN", "z", 0)
    run("ZADD", "z", 1, "a", 2, "b")
    run("BZPOPMAX", "z", 0)
    run("BZMPOP", 0, 1, "no", "MIN")
    assert run("EXEC") == [NULL_ARRAY, 2, [b"z", b"b", b"2"], NULL_ARRAY]


@pytest.mark.parametrize("words", ["BZPOPMIN z {}", "BZPOPMAX z {}", "BZMPOP {} 1 z MIN"])
def test_timeouts_that_are_none(run, fails, words):
    fill(run)
    assert fails(*words.format("x").split()) == "ERR timeout is not a float or out of range"
    assert fails(*words.format("-1").split()) == "ERR timeout is negative"
    assert run("ZCARD", "z") == 5


def test_negative_zero(run):
    assert run("ZINCRBY", "z", "-0", "a") == b"-0"
    assert run("ZSCORE", "z", "a") == b"0"
    assert math.copysign(1, float(run("ZUNION", 1, "z", "WEIGHTS", -1, "WITHSCORES")[1])) == -1


def test_of_several_elements_all_are_put_in_or_none(run, client):
    too_long = bytes((1 << 30) + 1)  # of which no page is ever touched
    with pytest.raises(TooLong):
        zadd(client, [b"ZADD", b"k", b"1", b"a", b"2", too_long])
    run("ZADD", "k", "1", "x")
    with pytest.raises(TooLong):
        zadd(client, [b"ZADD", b"k", b"1", b"a", b"2", too_long])
    assert run("ZCARD", "k") == 1
