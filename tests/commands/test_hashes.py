"""Hash commands, as a client sees them.  Replies were checked against redis-server 7.0.15; those about deadlines of
fields, which it lacks, follow Redis 7.4."""

import pytest

from kora.errors import CommandError

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)
NOW_MS = 1_700_000_000_000


@pytest.fixture
def fails(run):
    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def events(client):
    """Keyspace events, as they come."""
    seen = []
    client.engine.implementation.set_handing_over(True)  # as where notifications are on
    client.db.notify = lambda event, key: seen.append((event.decode(), key))
    return seen


# Setting


def test_hset_answers_how_many_fields_are_new(run):
    assert run("HSET", "h", "a", 1) == 1
    assert run("HSET", "h", "a", 2, "b", 3, "c", 4, "b", 5) == 2
    assert run("HGETALL", "h") == [b"a", b"2", b"b", b"5", b"c", b"4"]
    assert run("TYPE", "h") == "hash"


def test_a_hash_holds_any_bytes(run):
    anything = bytes(range(256))
    assert run("HSET", anything, anything, anything, "", "") == 2
    assert run("HGET", anything, anything) == anything
    assert run("HGET", anything, "") == b""


def test_hmset_is_hset_that_answers_ok(run):
    assert run("HMSET", "h", "a", 1, "b", 2) == "OK"
    assert run("HMGET", "h", "b", "a") == [b"2", b"1"]


@pytest.mark.parametrize("command", ["HSET", "HMSET"])
def test_a_field_without_a_value_is_refused_and_nothing_is_set(run, fails, command):
    assert fails(command, "h", "a", 1, "b") == f"ERR wrong number of arguments for '{command.lower()}' command"
    assert run("EXISTS", "h") == 0


def test_hsetnx_sets_only_a_field_that_is_not_there(run):
    assert run("HSETNX", "h", "a", 1) == 1
    assert run("HSETNX", "h", "a", 2) == 0
    assert run("HGET", "h", "a") == b"1"


def test_hdel_of_the_last_field_deletes_the_key(run):
    run("HSET", "h", "a", 1, "b", 2)
    assert run("HDEL", "h", "a", "no", "a") == 1
    assert run("HDEL", "h", "b") == 1
    assert run("EXISTS", "h") == 0
    assert run("HDEL", "h", "b") == 0


# Looking


def test_looking_into_a_hash(run):
    run("HSET", "h", "a", "one", "b", "")
    assert run("HGET", "h", "a") == b"one"
    assert run("HGET", "h", "no") is None
    assert run("HMGET", "h", "no", "a", "a") == [None, b"one", b"one"]
    assert run("HKEYS", "h") == [b"a", b"b"]
    assert run("HVALS", "h") == [b"one", b""]
    assert run("HLEN", "h") == 2
    assert (run("HEXISTS", "h", "b"), run("HEXISTS", "h", "no")) == (1, 0)
    assert (run("HSTRLEN", "h", "a"), run("HSTRLEN", "h", "b"), run("HSTRLEN", "h", "no")) == (3, 0, 0)


def test_a_hash_that_is_not_there_looks_empty(run):
    assert run("HGET", "h", "a") is None
    assert run("HMGET", "h", "a", "b") == [None, None]
    assert run("HGETALL", "h") == run("HKEYS", "h") == run("HVALS", "h") == []
    assert run("HLEN", "h") == run("HEXISTS", "h", "a") == run("HSTRLEN", "h", "a") == 0
    assert run("HSCAN", "h", 0) == [b"0", []]
    assert run("HRANDFIELD", "h") is None
    assert run("HRANDFIELD", "h", 5) == run("HRANDFIELD", "h", -5, "WITHVALUES") == []


def test_hgetall_is_a_map_in_resp3(run):
    run("HELLO", 3)
    run("HSET", "h", "a", 1, "b", 2)
    assert run("HGETALL", "h") == {b"a": b"1", b"b": b"2"}
    assert run("HGETALL", "no") == {}


ALL = [
    ("HSET", "a", 1), ("HMSET", "a", 1), ("HSETNX", "a", 1), ("HGET", "a"), ("HMGET", "a"), ("HGETALL",), ("HDEL", "a"),
    ("HEXISTS", "a"), ("HKEYS",), ("HVALS",), ("HLEN",), ("HSTRLEN", "a"), ("HINCRBY", "a", 1),
    ("HINCRBYFLOAT", "a", 1), ("HRANDFIELD",), ("HRANDFIELD", 1), ("HSCAN", 0), ("HEXPIRE", 1, "FIELDS", 1, "a"),
    ("HPEXPIRE", 1, "FIELDS", 1, "a"), ("HEXPIREAT", 1, "FIELDS", 1, "a"), ("HPEXPIREAT", 1, "FIELDS", 1, "a"),
    ("HTTL", "FIELDS", 1, "a"), ("HPTTL", "FIELDS", 1, "a"), ("HEXPIRETIME", "FIELDS", 1, "a"),
    ("HPEXPIRETIME", "FIELDS", 1, "a"), ("HPERSIST", "FIELDS", 1, "a"),
]  # fmt: skip


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(map(str, words)))
def test_a_key_of_another_type_is_refused_and_left_alone(run, fails, words):
    run("SET", "k", "v")
    command, *rest = words
    assert fails(command, "k", *rest) == WRONG_TYPE
    assert run("GET", "k") == b"v"


def test_string_commands_refuse_a_hash(run, fails):
    run("HSET", "h", "a", 1)
    assert fails("GET", "h") == fails("APPEND", "h", "x") == fails("INCR", "h") == WRONG_TYPE
    assert run("MGET", "h") == [None]
    assert run("SET", "h", "v") == "OK"
    assert run("HSETNX", "i", "a", 1) == 1


def test_hashes_become_hashtables_by_length_and_number(run):
    run("HSET", "h", "a", "v" * 64)
    assert run("OBJECT", "ENCODING", "h") == b"listpack"
    run("HSET", "h", "a", "v" * 65)
    run("HSET", "h", "a", "v")
    assert run("OBJECT", "ENCODING", "h") == b"hashtable"
    for number in range(100):
        run("HSET", "many", number, "v")
    assert run("OBJECT", "ENCODING", "many") == b"listpack"
    for number in range(600):
        run("HINCRBY", "many", number + 100, 1)
    assert run("OBJECT", "ENCODING", "many") == b"hashtable"
    assert run("HLEN", "many") == 700


# Counting


def test_hincrby_counts_from_0(run):
    assert run("HINCRBY", "h", "n", 5) == 5
    assert run("HINCRBY", "h", "n", -7) == -2
    assert run("HGET", "h", "n") == b"-2"


def test_hincrby_of_what_is_no_integer(run, fails):
    run("HSET", "h", "text", "x", "float", "1.5", "space", " 1", "n", INT64_MAX, "low", INT64_MIN)
    for field in ("text", "float", "space"):
        assert fails("HINCRBY", "h", field, 1) == "ERR hash value is not an integer"
    for increment in ("x", "1.5", "", " 1", INT64_MAX + 1):
        assert fails("HINCRBY", "h", "n", increment) == NOT_AN_INTEGER
    assert fails("HINCRBY", "h", "n", 1) == "ERR increment or decrement would overflow"
    assert fails("HINCRBY", "h", "low", -1) == "ERR increment or decrement would overflow"
    assert run("HGET", "h", "n") == str(INT64_MAX).encode()
    assert fails("HINCRBY", "new", "n", "x") == NOT_AN_INTEGER
    assert run("EXISTS", "new") == 0


def test_hincrbyfloat_adds_long_doubles(run):
    assert run("HINCRBYFLOAT", "h", "n", "10.5") == b"10.5"
    assert run("HINCRBYFLOAT", "h", "n", "0.1") == b"10.6"
    assert run("HINCRBYFLOAT", "h", "n", "-10.6") == b"0"
    assert run("HINCRBYFLOAT", "h", "n", "5.0e3") == b"5000"
    assert run("HGET", "h", "n") == b"5000"


def test_hincrbyfloat_of_what_is_no_float(run, fails):
    run("HSET", "h", "text", "x", "inf", "inf", "big", "1e4932")
    assert fails("HINCRBYFLOAT", "h", "text", 1) == "ERR hash value is not a float"
    assert fails("HINCRBYFLOAT", "h", "big", "x") == "ERR value is not a valid float"
    assert fails("HINCRBYFLOAT", "h", "big", "inf") == "ERR value is NaN or Infinity"
    assert fails("HINCRBYFLOAT", "h", "inf", "1") == "ERR increment would produce NaN or Infinity"
    assert fails("HINCRBYFLOAT", "h", "big", "1e4932") == "ERR increment would produce NaN or Infinity"
    assert run("HGET", "h", "big") == b"1e4932"


# Random fields


@pytest.mark.parametrize("count", [20, 1000])
def test_random_fields(run, count):
    fields = {b"f%d" % number: b"v%d" % number for number in range(count)}
    run("HSET", "h", *(word for pair in fields.items() for word in pair))
    assert run("HRANDFIELD", "h") in fields
    for wanted in (1, 5, count - 1, count, count + 5):
        picked = run("HRANDFIELD", "h", wanted)
        assert len(picked) == len(set(picked)) == min(wanted, count)
        assert set(picked) <= set(fields)
    flat = run("HRANDFIELD", "h", 7, "withvalues")
    assert len(flat) == 14
    assert set(zip(flat[::2], flat[1::2], strict=True)) <= set(fields.items())
    picked = run("HRANDFIELD", "h", -3 * count)
    assert len(picked) == 3 * count
    assert set(picked) <= set(fields)
    assert run("HRANDFIELD", "h", 0) == []


def test_random_fields_with_values_are_nested_in_resp3(run):
    run("HELLO", 3)
    run("HSET", "h", "a", 1, "b", 2)
    assert run("HRANDFIELD", "h", 2, "WITHVALUES") == [[b"a", b"1"], [b"b", b"2"]]
    assert run("HRANDFIELD", "h", -2, "WITHVALUES")[0] in ([b"a", b"1"], [b"b", b"2"])
    assert run("HRANDFIELD", "no") is None


def test_hrandfield_refuses_counts_beyond_reason(run, fails):
    run("HSET", "h", "a", 1)
    assert run("HRANDFIELD", "h", INT64_MAX) == [b"a"]
    assert fails("HRANDFIELD", "h", INT64_MAX, "WITHVALUES") == "ERR value is out of range"
    assert fails("HRANDFIELD", "h", -INT64_MAX) == "ERR value is out of range"
    between = f"between {-INT64_MAX} and {INT64_MAX}"
    assert fails("HRANDFIELD", "h", INT64_MIN) == f"ERR value is out of range, value must {between}"
    assert fails("HRANDFIELD", "h", "x", "y") == NOT_AN_INTEGER
    assert fails("HRANDFIELD", "h", 1, "VALUES") == fails("HRANDFIELD", "h", 1, "WITHVALUES", "x") == SYNTAX


# Scanning


def scan_all(run, *options):
    cursor, found = b"0", []
    while True:
        cursor, part = run("HSCAN", "h", cursor, *options)
        found += part
        if cursor == b"0":
            return found


def test_hscan_returns_every_field_once_while_nothing_changes(run):
    fields = {b"f%d" % number: b"v%d" % number for number in range(1000)}
    run("HSET", "h", *(word for pair in fields.items() for word in pair))
    flat = scan_all(run)
    assert len(flat) == 2000
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == fields
    assert sorted(scan_all(run, "NOVALUES", "COUNT", 7)) == sorted(fields)
    assert sorted(scan_all(run, "match", "f99*", "count", 100, "novalues")) == sorted(
        field for field in fields if field.startswith(b"f99")
    )
    assert len(run("HSCAN", "h", 0, "COUNT", 100)[1]) < 2000


def test_hscan_returns_a_small_hash_whole(run):
    run("HSET", "h", "a", 1, "b", 2, "c", 3)
    assert run("HSCAN", "h", 0, "COUNT", 1) == [b"0", [b"a", b"1", b"b", b"2", b"c", b"3"]]
    assert run("HSCAN", "h", 12345, "MATCH", "[bc]") == [b"0", [b"b", b"2", b"c", b"3"]]
    # The pattern is for fields, not for values.
    assert run("HSCAN", "h", 0, "MATCH", "2") == [b"0", []]


def test_hscan_options_that_are_wrong(run, fails):
    run("HSET", "h", "a", 1)
    assert fails("HSCAN", "h", "x") == "ERR invalid cursor"
    assert fails("HSCAN", "no", "x") == "ERR invalid cursor"
    assert fails("HSCAN", "h", 0, "COUNT") == fails("HSCAN", "h", 0, "COUNT", 0) == SYNTAX
    assert fails("HSCAN", "h", 0, "COUNT", "x") == NOT_AN_INTEGER
    assert fails("HSCAN", "h", 0, "TYPE", "hash") == fails("HSCAN", "h", 0, "FOO", "x") == SYNTAX
    # Redis does not look at the options where there is nothing to scan.
    assert run("HSCAN", "no", 0, "FOO") == [b"0", []]
    assert fails("SCAN", 0, "NOVALUES") == "ERR NOVALUES option can only be used in HSCAN"


# Deadlines of fields


@pytest.fixture
def hash_(run):
    run("HSET", "h", "a", 1, "b", 2, "c", 3)


@pytest.mark.parametrize(
    ("command", "time"),
    [("HEXPIRE", 10), ("HPEXPIRE", 10_000), ("HEXPIREAT", 1_700_000_010), ("HPEXPIREAT", 1_700_000_010_000)],
)
@pytest.mark.usefixtures("hash_")
def test_fields_end_when_their_time_comes(run, clock, command, time):
    assert run(command, "h", time, "FIELDS", 3, "a", "no", "b") == [1, -2, 1]
    assert run("HTTL", "h", "FIELDS", 4, "a", "b", "c", "no") == [10, 10, -1, -2]
    assert run("HPTTL", "h", "FIELDS", 2, "a", "c") == [10_000, -1]
    assert run("HEXPIRETIME", "h", "FIELDS", 2, "a", "c") == [1_700_000_010, -1]
    assert run("HPEXPIRETIME", "h", "FIELDS", 2, "a", "c") == [1_700_000_010_000, -1]
    clock.advance_ms(9_999)
    assert run("HLEN", "h") == 3
    clock.advance_ms(1)
    assert run("HGETALL", "h") == [b"c", b"3"]
    assert run("HTTL", "h", "FIELDS", 2, "a", "c") == [-2, -1]


@pytest.mark.parametrize(
    "words",
    [
        ("HGET", "h", "a"), ("HMGET", "h", "a"), ("HGETALL", "h"), ("HDEL", "h", "a"), ("HEXISTS", "h", "a"),
        ("HKEYS", "h"), ("HVALS", "h"), ("HLEN", "h"), ("HSTRLEN", "h", "a"), ("HRANDFIELD", "h"),
        ("HRANDFIELD", "h", 2), ("HSCAN", "h", 0), ("HTTL", "h", "FIELDS", 1, "a"),
        ("HPERSIST", "h", "FIELDS", 1, "a"), ("HEXPIRE", "h", 5, "FIELDS", 1, "a"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)  # fmt: skip
def test_a_hash_whose_fields_have_all_ended_is_not_there(run, clock, words):
    expected = run(words[0], "no", *words[2:])
    run("HSET", "h", "a", 1, "b", 2)
    run("HPEXPIRE", "h", 10, "FIELDS", 1, "a")
    run("HPEXPIRE", "h", 15, "FIELDS", 1, "b")
    clock.advance_ms(20)
    assert run(*words) == expected
    assert run("EXISTS", "h") == run("DBSIZE") == 0


@pytest.mark.parametrize(
    ("words", "reply", "content"),
    [
        (("HSETNX", "h", "a", 5), 1, b"5"),
        (("HINCRBY", "h", "a", 5), 5, b"5"),
        (("HINCRBYFLOAT", "h", "a", 5), b"5", b"5"),
    ],
)
@pytest.mark.usefixtures("hash_")
def test_a_field_that_has_ended_does_not_count(run, clock, words, reply, content):
    run("HPEXPIRE", "h", 10, "FIELDS", 1, "a")
    clock.advance_ms(10)
    assert run(*words) == reply
    assert run("HGET", "h", "a") == content
    assert run("HTTL", "h", "FIELDS", 1, "a") == [-1]


@pytest.mark.usefixtures("hash_")
def test_setting_a_field_removes_its_deadline_and_counting_keeps_it(run):
    run("HEXPIRE", "h", 100, "FIELDS", 3, "a", "b", "c")
    run("HSET", "h", "a", 5)
    run("HINCRBY", "h", "b", 5)
    run("HINCRBYFLOAT", "h", "c", 5)
    assert run("HTTL", "h", "FIELDS", 3, "a", "b", "c") == [-1, 100, 100]
    run("HDEL", "h", "b")
    run("HSET", "h", "b", 1)
    assert run("HTTL", "h", "FIELDS", 1, "b") == [-1]
    assert run("HSETNX", "h", "c", 1) == 0
    assert run("HTTL", "h", "FIELDS", 1, "c") == [100]


@pytest.mark.parametrize(
    ("condition", "of_none", "of_earlier", "of_same", "of_later"),
    [("NX", 1, 0, 0, 0), ("XX", 0, 1, 1, 1), ("GT", 0, 1, 0, 0), ("LT", 1, 0, 0, 1)],
)
@pytest.mark.usefixtures("hash_")
def test_conditions_of_hexpire(run, condition, of_none, of_earlier, of_same, of_later):
    """A field that does not end ends later than any other."""
    run("HSET", "h", "d", 4)
    run("HEXPIRE", "h", 50, "FIELDS", 1, "b")
    run("HEXPIRE", "h", 100, "FIELDS", 1, "c")
    run("HEXPIRE", "h", 150, "FIELDS", 1, "d")
    results = run("HEXPIRE", "h", 100, condition.lower(), "fields", 4, "a", "b", "c", "d")
    assert results == [of_none, of_earlier, of_same, of_later]
    assert run("HTTL", "h", "FIELDS", 4, "a", "b", "c", "d") == [
        100 if result else before for result, before in zip(results, [-1, 50, 100, 150], strict=True)
    ]


@pytest.mark.usefixtures("hash_")
def test_a_deadline_in_the_past_deletes_fields_and_at_last_the_key(run):
    assert run("HEXPIRE", "h", 0, "FIELDS", 2, "a", "a") == [2, -2]
    assert run("HEXPIREAT", "h", 1, "XX", "FIELDS", 1, "b") == [0]
    assert run("HPEXPIREAT", "h", NOW_MS, "FIELDS", 3, "b", "c", "no") == [2, 2, -2]
    assert run("EXISTS", "h") == 0


@pytest.mark.usefixtures("hash_")
def test_hpersist_removes_deadlines(run, clock):
    run("HEXPIRE", "h", 10, "FIELDS", 1, "a")
    assert run("HPERSIST", "h", "FIELDS", 3, "a", "b", "no") == [1, -1, -2]
    clock.advance_ms(60_000)
    assert run("HGET", "h", "a") == b"1"
    assert run("HPERSIST", "no", "FIELDS", 2, "a", "b") == [-2, -2]


def test_seconds_left_are_rounded_up(run):
    run("HSET", "h", "a", 1)
    run("HPEXPIRE", "h", 1_001, "FIELDS", 1, "a")
    assert run("HTTL", "h", "FIELDS", 1, "a") == [2]
    assert run("HEXPIRETIME", "h", "FIELDS", 1, "a") == [1_700_000_002]


@pytest.mark.usefixtures("hash_")
def test_copies_and_renamed_keys_keep_the_deadlines(run, clock):
    run("HEXPIRE", "h", 10, "FIELDS", 1, "a")
    run("COPY", "h", "copy")
    run("HPERSIST", "copy", "FIELDS", 1, "a")
    run("RENAME", "h", "renamed")
    assert run("HTTL", "copy", "FIELDS", 1, "a") == [-1]
    assert run("HTTL", "renamed", "FIELDS", 1, "a") == [10]
    run("COPY", "renamed", "other")
    run("MOVE", "other", 1)
    clock.advance_ms(10_000)
    assert run("HLEN", "renamed") == 2
    assert run("HLEN", "copy") == 3
    run("SELECT", 1)
    assert run("HKEYS", "other") == [b"b", b"c"]


MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position"
MISMATCH = "ERR The `numfields` parameter must match the number of arguments"
NOT_POSITIVE = "ERR Parameter `numFields` should be greater than 0"
NO_COUNT = "ERR Number of fields must be a positive integer"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("HEXPIRE", "h", "x", "FIELDS", 1, "a"), NOT_AN_INTEGER),
        (("HEXPIRE", "h", -1, "FIELDS", 1, "a"), "ERR invalid expire time, must be >= 0"),
        (("HEXPIRE", "h", 1 << 46, "FIELDS", 1, "a"), "ERR invalid expire time in 'hexpire' command"),
        (("HPEXPIRE", "h", (1 << 46) - 1, "FIELDS", 1, "a"), "ERR invalid expire time in 'hpexpire' command"),
        (("HPEXPIREAT", "h", 1 << 46, "FIELDS", 1, "a"), "ERR invalid expire time in 'hpexpireat' command"),
        (("HEXPIREAT", "h", INT64_MAX, "FIELDS", 1, "a"), "ERR invalid expire time in 'hexpireat' command"),
        (("HEXPIRE", "h", 1, "FOO", 1, "a"), MISSING),
        (("HEXPIRE", "h", 1, "NX", "XX", "FIELDS", 1, "a"), MISSING),
        (("HEXPIRE", "h", 1, "FIELDS", 0, "a"), NOT_POSITIVE),
        (("HEXPIRE", "h", 1, "FIELDS", "x", "a"), NOT_POSITIVE),
        (("HEXPIRE", "h", 1, "FIELDS", 2, "a"), MISMATCH),
        (("HEXPIRE", "h", 1, "FIELDS", 1, "a", "b"), MISMATCH),
        (("HEXPIRE", "h", 1, "NX", "FIELDS", 1), MISMATCH),
        (("HEXPIRE", "h", 1, "FIELDS", 1), "ERR wrong number of arguments for 'hexpire' command"),
        (("HTTL", "h", "FOO", 1, "a"), MISSING),
        (("HTTL", "h", "FIELDS", -1, "a"), NO_COUNT),
        (("HTTL", "h", "FIELDS", INT64_MAX + 1, "a"), NO_COUNT),
        (("HTTL", "h", "FIELDS", INT64_MAX, "a"), MISMATCH),
        (("HPERSIST", "h", "FIELDS", 3, "a"), MISMATCH),
        (("HPERSIST", "h", "FIELDS", "", "a"), NO_COUNT),
        (("HTTL", "h", "FIELDS", 1), "ERR wrong number of arguments for 'httl' command"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("hash_")
def test_mistakes_with_deadlines_of_fields(run, fails, words, text):
    assert fails(*words) == text
    # The same where the key is not there.
    assert fails(words[0], "no", *words[2:]) == text
    assert run("HTTL", "h", "FIELDS", 1, "a") == [-1]


def test_a_deadline_may_be_as_far_as_46_bits_tell(run):
    run("HSET", "h", "a", 1)
    assert run("HPEXPIREAT", "h", (1 << 46) - 1, "FIELDS", 1, "a") == [1]
    assert run("HPEXPIRETIME", "h", "FIELDS", 1, "a") == [(1 << 46) - 1]


# Keyspace notifications


def test_each_change_is_one_event(run, events):
    run("HSET", "h", "a", 1, "b", 2)
    run("HSETNX", "h", "c", 3)
    run("HSETNX", "h", "c", 3)
    run("HMSET", "h", "d", 4)
    run("HINCRBY", "h", "a", 1)
    run("HINCRBYFLOAT", "h", "a", 1)
    run("HDEL", "h", "no")
    run("HDEL", "h", "a", "b")
    run("HDEL", "h", "c", "d", "e")
    assert events == [
        (event, b"h")
        for event in ("hset", "hset", "hset", "hincrby", "hincrbyfloat", "hdel", "hdel", "del")
    ]  # fmt: skip


def test_events_of_deadlines(run, events, clock):
    run("HSET", "h", "a", 1, "b", 2, "c", 3)
    events.clear()
    run("HEXPIRE", "h", 1, "XX", "FIELDS", 1, "a")
    run("HEXPIRE", "h", 1, "FIELDS", 2, "a", "b")
    run("HPERSIST", "h", "FIELDS", 2, "b", "c")
    run("HPERSIST", "h", "FIELDS", 2, "b", "c")
    assert events == [("hexpire", b"h"), ("hpersist", b"h")]
    events.clear()
    clock.advance_ms(1_000)
    run("HLEN", "h")
    run("HEXPIRE", "h", 0, "FIELDS", 1, "b")
    run("HEXPIRE", "h", 1, "FIELDS", 1, "c")
    assert events == [("hexpired", b"h"), ("hdel", b"h"), ("hexpire", b"h")]
    events.clear()
    clock.advance_ms(1_000)
    run("HLEN", "h")
    run("HSET", "h", "a", 1)
    run("HEXPIRE", "h", 0, "FIELDS", 1, "a")
    assert events == [(event, b"h") for event in ("hexpired", "del", "hset", "hdel", "del")]


def test_memory_returns_to_what_it_was(run, engine, clock):
    before = engine.memory_bytes
    for number in range(300):
        run("HSET", "h", f"f{number}", "v" * number)
    run("HEXPIRE", "h", 5, "FIELDS", 2, "f1", "f2")
    run("HSET", "small", "a", 1)
    run("HSET", "small", "a", "b" * 50)
    assert engine.memory_bytes > before + 300 * 150
    run("HDEL", "h", *(f"f{number}" for number in range(100, 300)))
    clock.advance_ms(5_000)
    assert run("HLEN", "h") == 98
    run("DEL", "h", "small")
    assert engine.memory_bytes == before
