"""Set commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.errors import CommandError

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_POSITIVE = "ERR value is out of range, must be positive"
SYNTAX = "ERR syntax error"


@pytest.fixture
def fails(run):
    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def events(client):
    """What notifications are told, as words."""
    told = []
    client.db.notify = lambda event, key: told.append(f"{event.decode()} {key.decode()}")
    return told


def test_members_are_added_removed_and_counted_once(run):
    assert run("SADD", "s", "a", "b", "a") == 2
    assert run("SADD", "s", "b", "c") == 1
    assert run("SCARD", "s") == 3
    assert sorted(run("SMEMBERS", "s")) == [b"a", b"b", b"c"]
    assert run("SREM", "s", "a", "x", "a") == 1
    assert run("SISMEMBER", "s", "a") == 0
    assert run("SMISMEMBER", "s", "b", "a", "c") == [1, 0, 1]
    assert run("SREM", "s", "b", "c") == 2
    assert run("EXISTS", "s") == 0


def test_what_is_not_there_is_empty(run):
    assert run("SCARD", "s") == run("SISMEMBER", "s", "a") == run("SREM", "s", "a") == 0
    assert run("SMISMEMBER", "s", "a", "b") == [0, 0]
    assert run("SMEMBERS", "s") == run("SPOP", "s", 3) == run("SRANDMEMBER", "s", 3) == []
    assert run("SPOP", "s") is run("SRANDMEMBER", "s") is None
    assert run("SSCAN", "s", 0) == [b"0", []]


def test_members_may_be_any_bytes(run):
    member = bytes(range(256))
    run("SADD", "s", member, "", "1", "01")
    assert run("SCARD", "s") == 4
    assert run("SISMEMBER", "s", member) == 1


def test_a_set_whose_time_is_over_is_gone(run, clock):
    run("SADD", "s", "a")
    run("PEXPIRE", "s", 10)
    clock.advance_ms(11)
    assert run("SMEMBERS", "s") == []
    assert run("SADD", "s", "b") == 1
    assert run("PTTL", "s") == -1


def test_a_change_keeps_the_deadline_and_a_store_ends_it(run):
    run("SADD", "s", "a", "b")
    run("EXPIRE", "s", 100)
    run("SADD", "s", "c")
    run("SREM", "s", "a")
    assert run("TTL", "s") == 100
    run("SUNIONSTORE", "s", "s")
    assert run("TTL", "s") == -1


def test_type_and_encoding_and_a_copy(run):
    run("SADD", "s", 3, 1, 2)
    assert run("TYPE", "s") == "set"
    assert run("OBJECT", "ENCODING", "s") == b"intset"
    assert run("SMEMBERS", "s") == [b"1", b"2", b"3"]
    run("COPY", "s", "t")
    run("SADD", "t", "a")
    assert run("OBJECT", "ENCODING", "t") == b"listpack"
    assert run("SCARD", "s") == 3
    run("SADD", "t", *range(200))
    assert run("OBJECT", "ENCODING", "t") == b"hashtable"


def test_limits_of_the_encodings_are_settings(run):
    run("CONFIG", "SET", "set-max-intset-entries", 2, "set-max-listpack-entries", 3, "set-max-listpack-value", 4)
    for key, members, encoding in [
        ("a", (1, 2), b"intset"),
        ("b", (1, 2, 3), b"hashtable"),
        ("c", ("a", "b", "c"), b"listpack"),
        ("d", ("a", "b", "c", "d"), b"hashtable"),
        ("e", ("abcd",), b"listpack"),
        ("f", ("abcde",), b"hashtable"),
    ]:
        run("SADD", key, *members)
        assert run("OBJECT", "ENCODING", key) == encoding, key


# SPOP and SRANDMEMBER


def test_spop_removes_what_it_returns(run):
    run("SADD", "s", *range(100))
    popped = {run("SPOP", "s") for _ in range(10)}
    popped |= set(run("SPOP", "s", 60))
    left = set(run("SMEMBERS", "s"))
    assert len(popped) == 70
    assert popped | left == {b"%d" % number for number in range(100)}
    assert set(run("SPOP", "s", 1000)) == left
    assert run("EXISTS", "s") == 0


def test_spop_of_none_changes_nothing(run):
    run("SADD", "s", "a")
    assert run("SPOP", "s", 0) == []
    assert run("SCARD", "s") == 1


def test_spop_mistakes(run, fails):
    run("SADD", "s", "a")
    run("SET", "k", "v")
    assert fails("SPOP", "s", -1) == fails("SPOP", "s", "x") == fails("SPOP", "k", "x") == NOT_POSITIVE
    assert fails("SPOP", "s", 1, 2) == SYNTAX
    assert fails("SPOP", "k") == fails("SPOP", "k", 0) == WRONG_TYPE


@pytest.mark.parametrize("size", [3, 10, 500])
def test_srandmember_returns_different_members_or_with_a_negative_count_any(run, size):
    run("SADD", "s", *range(size))
    members = set(run("SMEMBERS", "s"))
    for count in (0, 1, size // 3, size // 2, size - 1, size, size + 1, 10**18):
        found = run("SRANDMEMBER", "s", count)
        assert len(found) == len(set(found)) == min(count, size)
        assert set(found) <= members
    found = run("SRANDMEMBER", "s", -3 * size)
    assert len(found) == 3 * size
    assert set(found) <= members
    assert run("SRANDMEMBER", "s") in members
    assert run("SCARD", "s") == size


def test_srandmember_mistakes(run, fails):
    run("SET", "k", "v")
    assert fails("SRANDMEMBER", "s", "x") == fails("SRANDMEMBER", "k", "x") == NOT_AN_INTEGER
    assert fails("SRANDMEMBER", "s", 1, 2) == SYNTAX
    assert fails("SRANDMEMBER", "k") == fails("SRANDMEMBER", "k", 0) == WRONG_TYPE
    assert fails("SRANDMEMBER", "s", -(1 << 63)) == (
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
    )


def test_srandmember_does_not_fill_the_memory_with_one_member(run, fails):
    run("SADD", "s", "a")
    assert fails("SRANDMEMBER", "s", -(1 << 40)) == "ERR value is out of range"


# Several sets


@pytest.fixture
def three(run):
    run("SADD", "a", 1, 2, 3, 4, "x")
    run("SADD", "b", 2, 3, 4, "x", "y")
    run("SADD", "c", 3, 4, 5)
    run("SET", "string", "v")


@pytest.mark.usefixtures("three")
def test_intersections_unions_and_differences(run):
    assert sorted(run("SINTER", "a", "b", "c")) == [b"3", b"4"]
    assert run("SINTER", "a", "no", "b") == []
    assert sorted(run("SINTER", "c")) == [b"3", b"4", b"5"]
    assert sorted(run("SUNION", "a", "no", "c")) == [b"1", b"2", b"3", b"4", b"5", b"x"]
    assert sorted(run("SDIFF", "a", "b", "c")) == [b"1"]
    assert sorted(run("SDIFF", "a", "no")) == [b"1", b"2", b"3", b"4", b"x"]
    assert run("SDIFF", "no", "a") == run("SDIFF", "a", "a") == []


def test_a_difference_with_large_sets_and_with_small_ones(run):
    run("SADD", "large", *range(1000))
    run("SADD", "small", *range(990, 1010))
    assert len(run("SDIFF", "large", "small")) == 990
    assert sorted(run("SDIFF", "small", "large")) == [b"%d" % number for number in range(1000, 1010)]
    assert len(run("SDIFF", "large", "small", "small", "no", "small")) == 990


def test_a_union_of_integers_comes_in_order(run):
    run("SADD", "a", 10, 2)
    run("SADD", "b", 9, -1)
    assert run("SUNION", "a", "b") == [b"-1", b"2", b"9", b"10"]


@pytest.mark.usefixtures("three")
def test_stores_replace_whatever_is_there_and_of_nothing_delete_it(run):
    assert run("SINTERSTORE", "string", "a", "b") == 4
    assert sorted(run("SMEMBERS", "string")) == [b"2", b"3", b"4", b"x"]
    assert run("SUNIONSTORE", "a", "a", "c") == 6
    assert run("SDIFFSTORE", "a", "a", "b") == 2
    assert sorted(run("SMEMBERS", "a")) == [b"1", b"5"]
    assert run("SDIFFSTORE", "a", "a", "a") == 0
    assert run("SINTERSTORE", "b", "b", "no") == 0
    assert run("SUNIONSTORE", "c", "no") == 0
    assert run("EXISTS", "a", "b", "c") == 0


@pytest.mark.usefixtures("three")
def test_sintercard_counts_up_to_a_limit(run, fails):
    assert run("SINTERCARD", 3, "a", "b", "c") == 2
    assert run("SINTERCARD", 2, "a", "b", "LIMIT", 3) == 3
    assert run("SINTERCARD", 2, "a", "b", "limit", 0) == 4
    assert run("SINTERCARD", 1, "a", "LIMIT", 2) == 2
    assert run("SINTERCARD", 2, "a", "no") == 0
    for numkeys in (0, -1, "x"):
        assert fails("SINTERCARD", numkeys, "a") == "ERR numkeys should be greater than 0"
    assert fails("SINTERCARD", 2, "a") == "ERR Number of keys can't be greater than number of args"
    assert fails("SINTERCARD", 1, "a", "LIMIT", -1) == "ERR LIMIT can't be negative"
    assert fails("SINTERCARD", 1, "a", "LIMIT") == fails("SINTERCARD", 1, "a", "b") == SYNTAX


def test_sintercard_tells_its_keys(run):
    assert run("COMMAND", "GETKEYS", "SINTERCARD", 2, "a", "b", "LIMIT", 5) == [b"a", b"b"]


@pytest.mark.usefixtures("three")
def test_every_set_command_refuses_another_type(run, fails):
    for words in (
        ("SADD", "string", "a"), ("SREM", "string", "a"), ("SISMEMBER", "string", "a"), ("SMISMEMBER", "string", "a"),
        ("SMEMBERS", "string"), ("SCARD", "string"), ("SINTER", "no", "string"), ("SINTER", "a", "string"),
        ("SUNION", "a", "string"), ("SDIFF", "no", "string"), ("SDIFF", "a", "string"), ("SINTERCARD", 1, "string"),
        ("SINTERSTORE", "a", "string"), ("SUNIONSTORE", "a", "string"), ("SDIFFSTORE", "a", "string"),
        ("SMOVE", "a", "string", "1"), ("SMOVE", "string", "a", "1"), ("SSCAN", "string", 0, "FOO"),
        ("GET", "a"), ("APPEND", "a", "x"), ("INCR", "a"),
    ):  # fmt: skip
        assert fails(*words) == WRONG_TYPE, words
    assert run("SCARD", "a") == 5


@pytest.mark.usefixtures("three")
def test_smove_moves_a_member_that_is_there(run):
    assert run("SMOVE", "a", "c", "1") == 1
    assert run("SMOVE", "a", "c", "1") == 0
    assert run("SMOVE", "a", "c", "3") == 1
    assert run("SMISMEMBER", "a", 1, 3) == [0, 0]
    assert run("SMISMEMBER", "c", 1, 3) == [1, 1]
    assert run("SMOVE", "a", "a", "2") == 1
    assert run("SMOVE", "a", "a", "9") == 0
    assert run("SMOVE", "no", "string", "9") == 0
    run("SADD", "one", "z")
    assert run("SMOVE", "one", "new", "z") == 1
    assert run("EXISTS", "one") == 0
    assert run("SMEMBERS", "new") == [b"z"]


# SSCAN


def test_sscan_returns_every_member(run):
    run("SADD", "s", *(f"member:{number}" for number in range(1000)))
    seen, cursor = [], b"0"
    while True:
        cursor, found = run("SSCAN", "s", cursor, "COUNT", 70)
        seen += found
        if cursor == b"0":
            break
    assert set(seen) == {b"member:%d" % number for number in range(1000)}


def test_sscan_options(run, fails):
    run("SADD", "s", "aa", "ab", "b", "1")
    assert run("SSCAN", "s", 0, "MATCH", "a*", "COUNT", 1) == [b"0", [b"aa", b"ab"]]
    assert fails("SSCAN", "s", "x") == fails("SSCAN", "no", "x") == "ERR invalid cursor"
    assert fails("SSCAN", "s", 0, "COUNT", 0) == fails("SSCAN", "s", 0, "TYPE", "set") == SYNTAX
    assert fails("SSCAN", "s", 0, "COUNT") == SYNTAX
    assert fails("SSCAN", "s", 0, "COUNT", "x") == NOT_AN_INTEGER


# What a client and others are told


def test_members_come_as_a_set_in_resp3(run):
    run("SADD", "s", "a", "b")
    run("HELLO", 3)
    assert run("SMEMBERS", "s") == run("SINTER", "s") == run("SUNION", "s") == run("SDIFF", "s") == {b"a", b"b"}
    assert run("SMEMBERS", "no") == run("SPOP", "no", 1) == run("SPOP", "s", 0) == set()
    assert sorted(run("SRANDMEMBER", "s", 5)) == [b"a", b"b"]
    assert run("SISMEMBER", "s", "a") == 1
    assert run("SPOP", "s", 5) == {b"a", b"b"}


def test_events_are_told_in_the_order_of_redis(run, events):
    run("SADD", "s", 1, 2, 3)
    run("SADD", "s", 1)
    run("SREM", "s", 9)
    run("SREM", "s", 1)
    run("SMOVE", "s", "t", 2)
    run("SMOVE", "s", "t", 3)
    assert events == ["sadd s", "srem s", "srem s", "sadd t", "srem s", "del s", "sadd t"]
    events.clear()
    run("SUNIONSTORE", "u", "t")
    run("SINTERSTORE", "u", "u", "t")
    run("SDIFFSTORE", "u", "u", "no")
    run("SDIFFSTORE", "u", "u", "t")
    run("SDIFFSTORE", "u", "u", "t")
    assert events == ["sunionstore u", "sinterstore u", "sdiffstore u", "del u"]
    events.clear()
    run("SPOP", "t", 0)
    run("SPOP", "t")
    run("SPOP", "t", 7)
    assert events == ["spop t", "spop t", "del t"]


def test_a_set_that_shrinks_gives_its_memory_back(run, client):
    before = client.db.stats.memory_bytes
    run("SADD", "s", *range(2000))
    assert run("MEMORY", "USAGE", "s") > 2000 * 16
    run("SPOP", "s", 1999)
    run("SPOP", "s")
    assert client.db.stats_of(b"s").memory_bytes == before
