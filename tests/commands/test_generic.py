"""Generic key commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.errors import CommandError

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
EXPIRES = ("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT")


@pytest.fixture
def fails(run):
    """fails("GET"): the text of the error that a request is answered with."""

    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def counts(engine):
    """(hits, misses) so far."""

    def counts():
        return (
            sum(shard.stats.hits for shard in engine.shards),
            sum(shard.stats.misses for shard in engine.shards),
        )

    return counts


def later(command, clock, left_ms):
    """The argument that makes one of the EXPIRE commands mean so many ms from now; a multiple of 1000."""
    time_ms = left_ms + (clock.wall_ms() if command.endswith("AT") else 0)
    return time_ms if command.startswith("P") else time_ms // 1000


# DEL, UNLINK, EXISTS, TOUCH, TYPE


@pytest.mark.parametrize("command", ["DEL", "UNLINK"])
def test_deleting_answers_how_many_keys_were_there(run, command):
    run("MSET", "a", "1", "b", "2", "c", "3")
    assert run(command, "a", "b", "a", "no") == 2
    assert run("KEYS", "*") == [b"c"]


@pytest.mark.parametrize("command", ["DEL", "UNLINK"])
def test_deleting_a_key_whose_time_is_over_counts_as_none(run, clock, command):
    run("SET", "k", "v", "PX", 10)
    clock.advance_ms(11)
    assert run(command, "k") == 0


def test_exists_counts_a_key_as_often_as_it_is_named(run):
    run("SET", "a", "1")
    assert run("EXISTS", "a", "no", "a") == 2
    assert run("EXISTS", "no") == 0


def test_touch_counts_keys_and_ends_their_idle_time(run, clock):
    run("SET", "a", "1")
    clock.advance_ms(5_000)
    assert run("OBJECT", "IDLETIME", "a") == 5
    assert run("TOUCH", "a", "no", "a") == 2
    assert run("OBJECT", "IDLETIME", "a") == 0


def test_type_is_a_status(run):
    run("SET", "k", "v")
    run("APPEND", "edited", "v")
    run("APPEND", "edited", "v")
    assert run("TYPE", "k") == run("TYPE", "edited") == "string"
    assert run("TYPE", "no") == "none"


@pytest.mark.parametrize(
    "words", [("EXISTS",), ("TYPE",), ("TTL",), ("PTTL",), ("PEXPIRETIME",), ("TOUCH",), ("OBJECT", "ENCODING")]
)
def test_looking_counts_a_hit_or_a_miss(run, counts, words):
    run("SET", "k", "v")
    run(*words, "k")
    run(*words, "no")
    assert counts() == (1, 1)


@pytest.mark.parametrize(
    "words", [("DEL", "k", "no"), ("EXPIRE", "k", 10), ("PERSIST", "k"), ("RENAME", "k", "l"), ("MOVE", "k", 1)]
)
def test_changing_counts_neither_hit_nor_miss(run, counts, words):
    run("SET", "k", "v")
    run(*words)
    assert counts() == (0, 0)


def test_copy_counts_its_source_only(run, counts):
    run("SET", "k", "v")
    run("COPY", "k", "l")
    run("COPY", "no", "l")
    assert counts() == (1, 1)


# EXPIRE and its relatives


@pytest.mark.parametrize("command", EXPIRES)
def test_a_key_ends_when_it_was_told_to(run, clock, command):
    run("SET", "k", "v")
    assert run(command, "k", later(command, clock, 10_000)) == 1
    assert run("PTTL", "k") == 10_000
    clock.advance_ms(10_000)
    assert run("GET", "k") == b"v"
    assert run("TTL", "k") == 0
    clock.advance_ms(1)
    assert run("TTL", "k") == -2
    assert run("GET", "k") is None


@pytest.mark.parametrize("command", EXPIRES)
def test_a_deadline_on_a_key_that_is_not_there_is_refused(run, clock, command):
    assert run(command, "no", later(command, clock, 10_000)) == 0


@pytest.mark.parametrize("command", EXPIRES)
@pytest.mark.parametrize("time", ["0", "-1", "-1000"])
def test_a_deadline_in_the_past_deletes_the_key(run, engine, command, time):
    run("SET", "k", "v")
    assert run(command, "k", time) == 1
    assert run("EXISTS", "k") == 0
    assert run(command, "k", time) == 0
    # It is a deletion, not an expiry.
    assert sum(shard.stats.expired for shard in engine.shards) == 0


def test_a_deadline_of_now_deletes_the_key(run, clock):
    run("SET", "k", "v")
    assert run("PEXPIREAT", "k", clock.wall_ms()) == 1
    assert run("EXISTS", "k") == 0


@pytest.mark.parametrize(
    ("command", "time"),
    [
        ("EXPIRE", "9223372036854775807"),
        ("EXPIRE", "9223372036854775"),  # fits, but not together with now
        ("EXPIRE", "-9223372036854775807"),
        ("EXPIREAT", "9223372036854775807"),
        ("EXPIREAT", "9223372036854776"),
        ("EXPIREAT", "-9223372036854776"),
        ("PEXPIRE", "9223372036854775807"),
    ],
)
def test_a_deadline_beyond_64_bits_is_refused_even_without_a_key(fails, command, time):
    assert fails(command, "no", time) == f"ERR invalid expire time in '{command.lower()}' command"


def test_the_largest_deadlines_are_taken(run):
    run("SET", "k", "v")
    assert run("PEXPIREAT", "k", "9223372036854775807") == 1
    assert run("PEXPIRETIME", "k") == 9223372036854775807
    assert run("EXPIREAT", "k", "9223372036854775") == 1
    assert run("EXPIRETIME", "k") == 9223372036854775
    assert run("PEXPIRE", "k", "-9223372036854775808") == 1
    assert run("EXISTS", "k") == 0


@pytest.mark.parametrize("time", ["x", "", "1.5", " 1", "+1", "01", "9223372036854775808"])
def test_a_time_that_is_not_an_integer_is_refused(run, fails, time):
    run("SET", "k", "v")
    assert fails("EXPIRE", "k", time) == NOT_AN_INTEGER


@pytest.mark.parametrize("command", EXPIRES)
def test_nx_sets_a_deadline_only_where_there_is_none(run, clock, command):
    run("SET", "k", "v")
    assert run(command, "k", later(command, clock, 10_000), "NX") == 1
    assert run(command, "k", later(command, clock, 20_000), "nx") == 0
    assert run("PTTL", "k") == 10_000


@pytest.mark.parametrize("command", EXPIRES)
def test_xx_sets_a_deadline_only_where_there_is_one(run, clock, command):
    run("SET", "k", "v")
    assert run(command, "k", later(command, clock, 10_000), "XX") == 0
    run("PEXPIRE", "k", 1_000)
    assert run(command, "k", later(command, clock, 10_000), "XX") == 1
    assert run("PTTL", "k") == 10_000


@pytest.mark.parametrize("command", EXPIRES)
def test_gt_and_lt_compare_with_the_deadline_that_is_there(run, clock, command):
    def tell(left_ms, condition):
        return run(command, "k", later(command, clock, left_ms), condition)

    run("SET", "k", "v", "PX", 10_000)
    assert [tell(10_000, "GT"), tell(10_000, "LT"), tell(9_000, "GT"), tell(11_000, "LT")] == [0, 0, 0, 0]
    assert tell(11_000, "GT") == 1
    assert tell(9_000, "LT") == 1
    assert run("PTTL", "k") == 9_000


def test_a_key_without_a_deadline_ends_later_than_any_other(run):
    run("SET", "k", "v")
    assert run("EXPIRE", "k", 1_000_000, "GT") == 0
    assert run("TTL", "k") == -1
    assert run("EXPIRE", "k", 1_000_000, "LT") == 1


def test_conditions_also_hold_for_deadlines_in_the_past(run):
    run("SET", "k", "v")
    assert run("EXPIRE", "k", -1, "GT") == 0
    assert run("EXPIRE", "k", -1, "XX") == 0
    assert run("EXISTS", "k") == 1
    assert run("EXPIRE", "k", -1, "LT") == 1
    assert run("EXISTS", "k") == 0


def test_xx_goes_with_gt_and_options_may_be_repeated(run):
    run("SET", "k", "v")
    assert run("EXPIRE", "k", 10, "XX", "GT") == 0
    assert run("EXPIRE", "k", 10, "NX", "NX") == 1
    assert run("EXPIRE", "k", 20, "XX", "GT") == 1


@pytest.mark.parametrize("others", [("XX",), ("GT",), ("LT",), ("XX", "GT"), ("GT", "LT")])
def test_nx_goes_with_no_other_option(fails, others):
    text = "ERR NX and XX, GT or LT options at the same time are not compatible"
    assert fails("EXPIRE", "k", 10, "NX", *others) == fails("EXPIRE", "k", 10, *others, "NX") == text


def test_gt_does_not_go_with_lt(fails):
    assert fails("EXPIRE", "k", 10, "GT", "LT") == "ERR GT and LT options at the same time are not compatible"


def test_an_unknown_option_is_named_as_it_was_typed_and_before_a_wrong_time(fails):
    assert fails("EXPIRE", "k", "x", "NX", "Foo") == "ERR Unsupported option Foo"
    assert fails("EXPIRE", "k", "x", "NX", "GT").startswith("ERR NX and XX")


def test_setting_a_key_again_removes_its_deadline(run):
    run("SET", "k", "v", "EX", 10)
    run("SET", "k", "w")
    assert run("TTL", "k") == -1


# TTL and its relatives


def test_times_of_keys_without_a_deadline_and_of_no_keys(run):
    run("SET", "k", "v")
    for command in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"):
        assert run(command, "k") == -1
        assert run(command, "no") == -2


@pytest.mark.parametrize(("left_ms", "left_s"), [(1, 0), (499, 0), (500, 1), (1_499, 1), (1_500, 2), (10_000, 10)])
def test_seconds_are_rounded_to_the_nearest(run, left_ms, left_s):
    run("SET", "k", "v", "PX", left_ms)
    assert run("TTL", "k") == left_s
    assert run("PTTL", "k") == left_ms


def test_expiretime_is_a_unix_time(run):
    run("SET", "k", "v", "PXAT", 1_800_000_000_499)
    assert run("PEXPIRETIME", "k") == 1_800_000_000_499
    assert run("EXPIRETIME", "k") == 1_800_000_000
    run("SET", "k", "v", "PXAT", 1_800_000_000_500)
    assert run("EXPIRETIME", "k") == 1_800_000_001


def test_persist_removes_a_deadline(run, clock):
    run("SET", "k", "v", "EX", 10)
    assert run("PERSIST", "k") == 1
    assert run("PERSIST", "k") == run("PERSIST", "no") == 0
    clock.advance_ms(20_000)
    assert run("GET", "k") == b"v"


def test_persist_of_a_key_whose_time_is_over_comes_too_late(run, clock):
    run("SET", "k", "v", "PX", 10)
    clock.advance_ms(11)
    assert run("PERSIST", "k") == 0


# RENAME, COPY, MOVE


def test_rename_moves_value_and_deadline_over_what_was_there(run):
    run("SET", "a", "1", "EX", 100)
    run("SET", "b", "2", "EX", 5)
    assert run("RENAME", "a", "b") == "OK"
    assert run("GET", "b") == b"1"
    assert run("TTL", "b") == 100
    assert run("EXISTS", "a") == 0


def test_rename_of_a_key_without_a_deadline_removes_the_target_s(run):
    run("SET", "a", "1")
    run("SET", "b", "2", "EX", 5)
    run("RENAME", "a", "b")
    assert run("TTL", "b") == -1


def test_rename_of_no_key_fails_even_to_itself(run, fails, clock):
    assert fails("RENAME", "no", "k") == fails("RENAME", "no", "no") == "ERR no such key"
    assert fails("RENAMENX", "no", "k") == fails("RENAMENX", "no", "no") == "ERR no such key"
    run("SET", "k", "v", "PX", 1)
    clock.advance_ms(2)
    assert fails("RENAME", "k", "l") == "ERR no such key"


def test_rename_to_itself_changes_nothing(run):
    run("SET", "k", "v", "EX", 10)
    assert run("RENAME", "k", "k") == "OK"
    assert run("RENAMENX", "k", "k") == 0
    assert run("GET", "k") == b"v"
    assert run("TTL", "k") == 10


def test_renamenx_refuses_a_name_that_is_taken(run, clock):
    run("MSET", "a", "1", "b", "2")
    assert run("RENAMENX", "a", "b") == 0
    assert run("GET", "b") == b"2"
    assert run("RENAMENX", "a", "c") == 1
    assert run("GET", "c") == b"1"
    run("PEXPIRE", "b", 10)
    clock.advance_ms(11)
    assert run("RENAMENX", "c", "b") == 1


def test_copy_takes_value_and_deadline_and_leaves_the_source(run):
    run("SET", "a", "1", "EX", 100)
    assert run("COPY", "a", "b") == 1
    assert run("MGET", "a", "b") == [b"1", b"1"]
    assert run("TTL", "b") == 100


def test_copy_overwrites_only_with_replace(run):
    run("SET", "a", "1")
    run("SET", "b", "2", "EX", 10)
    assert run("COPY", "a", "b") == 0
    assert run("COPY", "a", "b", "replace") == 1
    assert run("GET", "b") == b"1"
    assert run("TTL", "b") == -1


def test_a_copy_of_an_edited_value_is_its_own(run):
    run("SET", "a", "1")
    run("APPEND", "a", "2")
    run("COPY", "a", "b")
    run("APPEND", "a", "3")
    assert run("MGET", "a", "b") == [b"123", b"12"]
    assert run("OBJECT", "ENCODING", "b") == b"raw"


def test_copy_to_another_database(run, engine):
    run("SET", "k", "v", "EX", 10)
    assert run("COPY", "k", "k", "DB", 3) == 1
    assert run("COPY", "k", "k", "DB", 3) == 0
    assert run("COPY", "k", "k", "DB", 3, "REPLACE") == 1
    assert engine.databases[3].read(b"k", bytes) == b"v"
    assert engine.databases[3].deadline(b"k") == engine.clock.wall_ms() + 10_000


def test_copy_of_no_key_copies_nothing(run):
    run("SET", "b", "2")
    assert run("COPY", "no", "b", "REPLACE") == 0
    assert run("GET", "b") == b"2"


def test_copy_to_itself_is_refused_even_of_no_key(fails):
    text = "ERR source and destination objects are the same"
    assert fails("COPY", "no", "no") == fails("COPY", "k", "k", "DB", 0) == text


@pytest.mark.parametrize("words", [("COPY", "k", "l", "DB"), ("MOVE", "k")])
def test_a_database_has_to_be_one_of_the_server_s(run, fails, words):
    run("SET", "k", "v")
    between = "ERR value is out of range, value must between -2147483648 and 2147483647"
    assert fails(*words, 16) == fails(*words, -1) == "ERR DB index is out of range"
    assert fails(*words, "x") == fails(*words, "9223372036854775808") == NOT_AN_INTEGER
    assert fails(*words, 1 << 31) == fails(*words, -(1 << 31) - 1) == between


def test_copy_refuses_other_words(fails):
    assert fails("COPY", "k", "l", "DB") == fails("COPY", "k", "l", "FOO") == SYNTAX


def test_move_takes_value_and_deadline_to_another_database(run, engine):
    run("SET", "k", "v", "EX", 10)
    assert run("MOVE", "k", 1) == 1
    assert run("EXISTS", "k") == 0
    assert engine.databases[1].read(b"k", bytes) == b"v"
    assert engine.databases[1].deadline(b"k") == engine.clock.wall_ms() + 10_000


def test_move_does_not_overwrite(run, engine):
    run("SET", "k", "v")
    engine.databases[1].set(b"k", b"other")
    assert run("MOVE", "k", 1) == 0
    assert run("MOVE", "no", 1) == 0
    assert run("GET", "k") == b"v"


def test_move_to_the_same_database_is_refused(fails):
    assert fails("MOVE", "no", 0) == "ERR source and destination objects are the same"


# KEYS, SCAN, RANDOMKEY


def scan_all(run, *words):
    keys, cursor = [], b"0"
    while True:
        cursor, found = run("SCAN", cursor, *words)
        keys += found
        if cursor == b"0":
            return keys


def test_keys_gives_those_that_match(run):
    run("MSET", "one", "1", "two", "2", "three", "3", "{t}x", "4")
    assert sorted(run("KEYS", "t*")) == [b"three", b"two"]
    assert sorted(run("KEYS", "*")) == [b"one", b"three", b"two", b"{t}x"]
    assert run("KEYS", "?ne") == [b"one"]
    assert run("KEYS", "no") == []


def test_keys_leaves_out_keys_whose_time_is_over(run, clock):
    run("SET", "k", "v", "PX", 10)
    clock.advance_ms(11)
    assert run("KEYS", "*") == []


def test_scan_of_nothing_ends_at_once(run):
    assert run("SCAN", 0) == [b"0", []]


def test_scan_gives_every_key_once_when_nothing_changes(run):
    keys = [b"key:%d" % number for number in range(1_000)]
    for key in keys:
        run("SET", key, "v")
    assert sorted(scan_all(run)) == sorted(scan_all(run, "COUNT", 1)) == sorted(keys)
    assert run("SCAN", 0, "COUNT", 1_000_000)[0] == b"0"


def test_scan_gives_about_count_keys(run):
    for number in range(1_000):
        run("SET", f"key:{number}", "v")
    assert 10 <= len(run("SCAN", 0)[1]) <= 20
    assert 100 <= len(run("SCAN", 0, "COUNT", 100)[1]) <= 110


def test_scan_match_filters_what_a_step_gives(run):
    for number in range(200):
        run("SET", f"key:{number}", "v")
    assert sorted(scan_all(run, "MATCH", "key:1?")) == sorted(b"key:1%d" % number for number in range(10))
    assert scan_all(run, "MATCH", "no") == []


def test_scan_type_takes_any_name_in_any_case(run):
    run("MSET", "a", "1", "b", "2")
    assert sorted(scan_all(run, "TYPE", "string")) == sorted(scan_all(run, "TYPE", "STRING")) == [b"a", b"b"]
    assert scan_all(run, "TYPE", "list") == scan_all(run, "TYPE", "no-such-type") == []
    assert scan_all(run, "MATCH", "a", "TYPE", "string", "COUNT", 5) == [b"a"]


def test_the_last_of_repeated_scan_options_counts(run):
    run("SET", "k", "v")
    assert scan_all(run, "MATCH", "a", "COUNT", 1, "MATCH", "k*", "COUNT", 2) == [b"k"]


@pytest.mark.parametrize("cursor", ["x", "1a", " 1", "0x1", "-", "18446744073709551616", "-18446744073709551616"])
def test_an_invalid_cursor_is_named_before_wrong_options(fails, cursor):
    assert fails("SCAN", cursor, "COUNT", 0) == "ERR invalid cursor"


@pytest.mark.parametrize("cursor", ["", "+1", "-1", "18446744073709551615", "007", "-18446744073709551615"])
def test_a_cursor_is_whatever_strtoul_takes(run, cursor):
    run("SET", "k", "v")
    following, _ = run("SCAN", cursor)
    assert following == b"0"


@pytest.mark.parametrize("words", [("COUNT", 0), ("COUNT", -1), ("COUNT",), ("MATCH",), ("FOO", 1), ("COUNT", 1, "X")])
def test_scan_refuses_wrong_options(fails, words):
    assert fails("SCAN", 0, *words) == SYNTAX


def test_scan_count_has_to_be_an_integer(fails):
    assert fails("SCAN", 0, "COUNT", "x") == fails("SCAN", 0, "COUNT", "x", "FOO") == NOT_AN_INTEGER


def test_scan_gives_every_key_that_stays_while_a_hash_tag_grows(run):
    staying = [b"{tag}:%d" % number for number in range(500)] + [b"key:%d" % number for number in range(2_000)]
    for key in staying:
        run("SET", key, "v")
    seen, cursor, fresh = set(), b"0", 0
    while True:
        cursor, found = run("SCAN", cursor, "COUNT", 100)
        seen.update(found)
        if cursor == b"0":
            break
        run("MSET", *(word for number in range(fresh, fresh + 1_500) for word in (b"{tag}:new:%d" % number, b"v")))
        fresh += 1_500
    assert fresh > 20_000
    assert seen >= set(staying)


def test_randomkey_gives_a_key_or_nothing(run, clock):
    assert run("RANDOMKEY") is None
    run("MSET", "a", "1", "b", "2")
    assert {run("RANDOMKEY") for _ in range(100)} == {b"a", b"b"}
    run("PEXPIRE", "a", 10)
    clock.advance_ms(11)
    assert {run("RANDOMKEY") for _ in range(100)} == {b"b"}
    run("DEL", "b")
    assert run("RANDOMKEY") is None


# OBJECT


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("0", b"int"),
        ("-1", b"int"),
        ("9223372036854775807", b"int"),
        ("-9223372036854775808", b"int"),
        ("9223372036854775808", b"embstr"),
        ("01", b"embstr"),
        ("-0", b"embstr"),
        ("+1", b"embstr"),
        (" 1", b"embstr"),
        ("1.0", b"embstr"),
        ("", b"embstr"),
        ("x" * 44, b"embstr"),
        ("x" * 45, b"raw"),
    ],
)
def test_encoding_is_what_redis_would_choose(run, value, encoding):
    run("SET", "k", value)
    assert run("OBJECT", "ENCODING", "k") == encoding


def test_an_edited_value_is_raw(run):
    run("SET", "k", "1")
    run("APPEND", "k", "2")
    assert run("OBJECT", "ENCODING", "k") == b"raw"
    assert run("OBJECT", "REFCOUNT", "k") == 1
    run("INCR", "k")
    assert run("OBJECT", "ENCODING", "k") == b"int"
    run("SETRANGE", "new", 0, "1")
    assert run("OBJECT", "ENCODING", "new") == b"raw"


@pytest.mark.parametrize(
    ("value", "count"), [("0", 2147483647), ("9999", 2147483647), ("10000", 1), ("-1", 1), ("v", 1)]
)
def test_small_integers_are_shared(run, value, count):
    run("SET", "k", value)
    assert run("OBJECT", "REFCOUNT", "k") == count


def test_idletime_is_in_seconds_and_looking_does_not_end_it(run, clock):
    run("SET", "k", "v")
    clock.advance_ms(42_999)
    assert run("OBJECT", "IDLETIME", "k") == 42
    run("TYPE", "k"), run("TTL", "k"), run("EXISTS", "k")
    assert run("OBJECT", "IDLETIME", "k") == 42
    run("GET", "k")
    assert run("OBJECT", "IDLETIME", "k") == 0


def test_freq_is_there_whatever_the_policy(run):
    run("CONFIG", "SET", "hotkey-sampling-ratio", "1")
    run("SET", "k", "v")
    once = run("OBJECT", "FREQ", "k")
    for _ in range(100):
        run("GET", "k")
    assert run("OBJECT", "FREQ", "k") >= once + 40


@pytest.mark.parametrize("subcommand", ["ENCODING", "REFCOUNT", "IDLETIME", "FREQ"])
def test_object_of_no_key_is_null(run, subcommand):
    assert run("OBJECT", subcommand, "no") is None


def test_object_without_a_subcommand_that_exists(fails):
    assert fails("OBJECT") == "ERR wrong number of arguments for 'object' command"
    assert fails("OBJECT", "FOO", "k") == "ERR unknown subcommand 'FOO'. Try OBJECT HELP."
    assert fails("OBJECT", "ENCODING") == "ERR wrong number of arguments for 'object|encoding' command"


def test_object_help_names_each_subcommand(run):
    text = "\n".join(line if isinstance(line, str) else line.decode() for line in run("OBJECT", "HELP"))
    for word in ("ENCODING", "FREQ", "IDLETIME", "REFCOUNT", "HELP"):
        assert word in text


# The whole family


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (("DEL", "a", "b", "no"), 2),
        (("EXPIRE", "a", 10), 1),
        (("EXPIRE", "a", -1), 1),
        (("EXPIRE", "no", 10), 0),
        (("PERSIST", "b"), 1),
        (("PERSIST", "a"), 0),
        (("RENAME", "b", "a"), 1),
        (("RENAME", "a", "a"), 0),
        (("COPY", "b", "c"), 1),
        (("MOVE", "b", 1), 1),
        (("TOUCH", "a"), 0),
    ],
)
def test_changes_are_counted_as_redis_counts_them(run, engine, words, changes):
    run("SET", "a", "1")
    run("SET", "b", "2", "EX", 100)
    before = engine.changes
    run(*words)
    assert engine.changes - before == changes


@pytest.mark.parametrize(
    "words",
    [("DEL",), ("EXPIRE", "k"), ("TTL",), ("TTL", "a", "b"), ("RENAME", "a"), ("COPY", "a"), ("KEYS",), ("SCAN",),
     ("RANDOMKEY", "a"), ("MOVE", "a"), ("TYPE",), ("PERSIST", "a", "b")],
)  # fmt: skip
def test_wrong_number_of_arguments(fails, words):
    assert fails(*words) == f"ERR wrong number of arguments for '{words[0].lower()}' command"
