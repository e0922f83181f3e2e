"""String commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import random

import pytest

from kora.errors import CommandError
from tests.conftest import runner

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


def error_of(run, *words):
    """The text of the error that a request is answered with."""
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


@pytest.fixture
def fails(run):
    return lambda *words: error_of(run, *words)


@pytest.fixture
def short(make_engine):
    """run() of a server whose strings may have 1 MB."""
    return runner(make_engine("--proto-max-bulk-len", "1mb").connect())


# GET, SET and its options


def test_set_and_get_any_bytes(run):
    value = bytes(range(256))
    assert run("SET", value, value) == "OK"
    assert run("GET", value) == value
    assert run("GET", "no") is None
    assert run("SET", "", "") == "OK"
    assert run("GET", "") == b""


def test_set_nx_only_sets_a_key_that_is_not_there(run, clock):
    assert run("SET", "k", "1", "NX") == "OK"
    assert run("SET", "k", "2", "nx") is None
    assert run("GET", "k") == b"1"
    run("PEXPIRE", "k", 10)
    clock.advance_ms(11)
    assert run("SET", "k", "3", "NX") == "OK"


def test_set_xx_only_sets_a_key_that_is_there(run):
    assert run("SET", "k", "1", "XX") is None
    assert run("EXISTS", "k") == 0
    run("SET", "k", "1")
    assert run("SET", "k", "2", "XX") == "OK"
    assert run("GET", "k") == b"2"


def test_set_get_answers_the_old_value(run):
    assert run("SET", "k", "1", "GET") is None
    assert run("SET", "k", "2", "GET") == b"1"
    assert run("SET", "k", "3", "NX", "GET") == b"2"
    assert run("GET", "k") == b"2"
    assert run("SET", "no", "3", "XX", "GET") is None
    assert run("SET", "new", "3", "NX", "GET") is None
    assert run("GET", "new") == b"3"


@pytest.mark.parametrize(
    ("option", "time", "left_ms"),
    [("EX", 10, 10_000), ("PX", 1_500, 1_500), ("EXAT", 1_700_000_010, 10_000), ("PXAT", 1_700_000_001_500, 1_500)],
)
def test_set_with_an_expiry(run, clock, option, time, left_ms):
    assert clock.wall_ms() == 1_700_000_000_000
    assert run("SET", "k", "v", option, time) == "OK"
    assert run("PTTL", "k") == left_ms
    clock.advance_ms(left_ms + 1)
    assert run("GET", "k") is None


def test_set_removes_a_deadline_and_keepttl_keeps_it(run):
    run("SET", "k", "1", "EX", 10)
    run("SET", "k", "2", "KEEPTTL")
    assert run("TTL", "k") == 10
    assert run("GET", "k") == b"2"
    run("SET", "k", "3")
    assert run("TTL", "k") == -1
    run("SET", "k", "4", "KEEPTTL")
    assert run("TTL", "k") == -1


def test_keepttl_of_a_key_whose_time_is_over_keeps_nothing(run, clock):
    run("SET", "k", "1", "PX", 10)
    clock.advance_ms(11)
    run("SET", "k", "2", "KEEPTTL")
    assert run("TTL", "k") == -1


def test_set_with_a_deadline_in_the_past_is_accepted_and_gone(run, clock):
    assert run("SET", "k", "v", "EXAT", 1) == "OK"
    assert run("GET", "k") is None
    assert run("SET", "k", "v", "PXAT", clock.wall_ms()) == "OK"
    assert run("GET", "k") == b"v"


@pytest.mark.parametrize("option", ["EX", "PX", "EXAT", "PXAT"])
@pytest.mark.parametrize("time", [0, -1, INT64_MAX + 1 - 1000])
def test_set_with_an_invalid_expiry_sets_nothing(run, fails, option, time):
    if option == "PXAT" and time > 0:
        assert run("SET", "k", "v", option, time) == "OK"
        return
    assert fails("SET", "k", "v", option, time) == "ERR invalid expire time in 'set' command"
    assert run("EXISTS", "k") == 0


@pytest.mark.parametrize("option", ["EX", "PX", "EXAT", "PXAT"])
def test_set_with_an_expiry_that_is_not_an_integer(fails, option):
    assert fails("SET", "k", "v", option, "x") == fails("SET", "k", "v", option, "1.5") == NOT_AN_INTEGER


@pytest.mark.parametrize(
    "words",
    [
        ("NX", "XX"),
        ("XX", "NX"),
        ("EX",),
        ("EX", 10, "PX", 10),
        ("EX", 10, "KEEPTTL"),
        ("KEEPTTL", "EX", 10),
        ("PERSIST",),
        ("FOO",),
        ("",),
    ],
)
def test_set_refuses_options_that_contradict_each_other(fails, words):
    assert fails("SET", "k", "v", *words) == SYNTAX


def test_the_same_option_of_set_may_be_repeated_and_the_last_counts(run):
    assert run("SET", "k", "v", "EX", 10, "ex", 20) == "OK"
    assert run("TTL", "k") == 20
    assert run("SET", "k", "v", "KEEPTTL", "XX", "KEEPTTL", "XX") == "OK"
    assert run("GETEX", "k", "PX", 10, "PX", 5000) == b"v"
    assert run("TTL", "k") == 5


def test_a_wrong_word_is_reported_before_a_wrong_time(fails):
    assert fails("SET", "k", "v", "EX", "x", "FOO") == SYNTAX


def test_setnx(run):
    assert run("SETNX", "k", "1") == 1
    assert run("SETNX", "k", "2") == 0
    assert run("GET", "k") == b"1"


@pytest.mark.parametrize(("command", "unit_ms"), [("SETEX", 1000), ("PSETEX", 1)])
def test_setex_and_psetex(run, fails, command, unit_ms):
    assert run(command, "k", 10, "v") == "OK"
    assert run("PTTL", "k") == 10 * unit_ms
    text = f"ERR invalid expire time in '{command.lower()}' command"
    assert fails(command, "k", 0, "v") == fails(command, "k", -1, "v") == fails(command, "k", INT64_MAX, "v") == text
    assert fails(command, "k", "x", "v") == NOT_AN_INTEGER


def test_getset_and_getdel(run):
    assert run("GETSET", "k", "1") is None
    run("EXPIRE", "k", 10)
    assert run("GETSET", "k", "2") == b"1"
    assert run("TTL", "k") == -1
    assert run("GETDEL", "k") == b"2"
    assert run("GETDEL", "k") is None


def test_getdel_of_an_edited_value(run):
    run("APPEND", "k", "a")
    run("APPEND", "k", "b")
    assert run("GETDEL", "k") == b"ab"


# GETEX


def test_getex_without_options_leaves_the_deadline(run):
    run("SET", "k", "v", "EX", 10)
    assert run("GETEX", "k") == b"v"
    assert run("TTL", "k") == 10
    assert run("GETEX", "no") is None


@pytest.mark.parametrize(
    ("option", "time", "left_ms"),
    [("EX", 10, 10_000), ("PX", 1_500, 1_500), ("EXAT", 1_700_000_010, 10_000), ("PXAT", 1_700_000_001_500, 1_500)],
)
def test_getex_sets_a_deadline(run, option, time, left_ms):
    run("SET", "k", "v")
    assert run("GETEX", "k", option, time) == b"v"
    assert run("PTTL", "k") == left_ms


def test_getex_persist_clears_the_deadline(run, clock):
    run("SET", "k", "v", "EX", "10")
    assert run("GETEX", "k", "PERSIST") == b"v"
    clock.advance_ms(11_000)
    assert run("GET", "k") == b"v"


def test_getex_with_a_time_in_the_past_deletes(run):
    run("SET", "k", "v")
    assert run("GETEX", "k", "EXAT", 1) == b"v"
    assert run("EXISTS", "k") == 0


@pytest.mark.parametrize(
    "words", [("KEEPTTL",), ("NX",), ("GET",), ("EX",), ("EX", 1, "PX", 1), ("EX", 1, "PERSIST"), ("PERSIST", "EX", 1)]
)
def test_getex_refuses_other_options(run, fails, words):
    run("SET", "k", "v")
    assert fails("GETEX", "k", *words) == SYNTAX


def test_getex_looks_at_the_time_only_when_there_is_a_key(run, fails):
    assert run("GETEX", "no", "EX", "x") is None
    run("SET", "k", "v")
    assert fails("GETEX", "k", "EX", "x") == NOT_AN_INTEGER
    assert fails("GETEX", "k", "EX", 0) == "ERR invalid expire time in 'getex' command"


# MGET, MSET, MSETNX


def test_mget_and_mset(run):
    run("SET", "a", "0", "EX", 10)
    assert run("MSET", "a", "1", "b", "2", "a", "3") == "OK"
    assert run("MGET", "a", "no", "b", "a") == [b"3", None, b"2", b"3"]
    assert run("TTL", "a") == -1


def test_msetnx_sets_all_or_none(run):
    assert run("MSETNX", "a", "1", "b", "2") == 1
    assert run("MSETNX", "c", "1", "b", "3") == 0
    assert run("MGET", "a", "b", "c") == [b"1", b"2", None]


@pytest.mark.parametrize("command", ["MSET", "MSETNX"])
def test_a_key_without_a_value_is_refused(run, fails, command):
    assert fails(command, "a", "1", "b") == f"ERR wrong number of arguments for '{command.lower()}' command"
    assert run("EXISTS", "a") == 0


# APPEND, STRLEN, GETRANGE, SETRANGE


def test_append_makes_or_lengthens_a_value_and_keeps_its_deadline(run):
    assert run("APPEND", "k", "hello") == 5
    run("EXPIRE", "k", 10)
    assert run("APPEND", "k", " world") == 11
    assert run("APPEND", "k", "") == 11
    assert run("GET", "k") == b"hello world"
    assert run("TTL", "k") == 10


def test_append_does_not_change_a_reply_already_given(run):
    run("SET", "k", "a")
    run("APPEND", "k", "b")
    before = run("GET", "k")
    run("APPEND", "k", "c")
    assert before == b"ab"


def test_strlen(run):
    run("SET", "k", "hello")
    run("APPEND", "edited", "ab")
    run("APPEND", "edited", "c")
    assert [run("STRLEN", key) for key in ("k", "edited", "no")] == [5, 3, 0]


@pytest.mark.parametrize("command", ["GETRANGE", "SUBSTR"])
@pytest.mark.parametrize(
    ("start", "stop", "part"),
    [
        (0, 3, b"This"),
        (-3, -1, b"ing"),
        (0, -1, b"This is a string"),
        (10, 100, b"string"),
        (5, 3, b""),
        (-1, -5, b""),
        (-100, -100, b"T"),
        (-100, 1, b"Th"),
        (100, 200, b""),
        (INT64_MIN, INT64_MAX, b"This is a string"),
    ],
)
def test_getrange(run, command, start, stop, part):
    run("SET", "k", "This is a string")
    assert run(command, "k", start, stop) == part
    assert run(command, "no", start, stop) == b""


def test_getrange_needs_integers(fails):
    assert fails("GETRANGE", "no", "x", 1) == fails("GETRANGE", "no", 1, INT64_MAX + 1) == NOT_AN_INTEGER


def test_setrange_overwrites_and_fills_gaps_with_zero_bytes(run):
    run("SET", "k", "Hello World", "EX", 10)
    assert run("SETRANGE", "k", 6, "Redis") == 11
    assert run("GET", "k") == b"Hello Redis"
    assert run("SETRANGE", "k", 13, "!") == 14
    assert run("GET", "k") == b"Hello Redis\0\0!"
    assert run("SETRANGE", "k", 0, "h") == 14
    assert run("TTL", "k") == 10
    assert run("SETRANGE", "new", 2, "x") == 3
    assert run("GET", "new") == b"\0\0x"


def test_setrange_of_nothing_changes_nothing(run):
    assert run("SETRANGE", "no", 10, "") == 0
    assert run("EXISTS", "no") == 0
    run("SET", "k", "1")
    assert run("SETRANGE", "k", 10, "") == 1
    assert run("OBJECT", "ENCODING", "k") == b"int"


def test_setrange_refuses_negative_offsets(fails):
    assert fails("SETRANGE", "k", -1, "") == "ERR offset is out of range"
    assert fails("SETRANGE", "k", "x", "") == NOT_AN_INTEGER


TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"


def test_append_up_to_the_longest_string(short):
    short("SET", "k", b"x" * (1 << 20 >> 1))
    assert short("APPEND", "k", b"x" * (1 << 20 >> 1)) == 1 << 20
    assert error_of(short, "APPEND", "k", "x") == TOO_LONG
    assert short("STRLEN", "k") == 1 << 20


@pytest.mark.parametrize("key", ["k", "no"])
def test_setrange_up_to_the_longest_string(short, key):
    short("SET", "k", "v")
    assert error_of(short, "SETRANGE", key, 1 << 20, "x") == TOO_LONG
    assert error_of(short, "SETRANGE", key, INT64_MAX, "x") == TOO_LONG
    assert short("SETRANGE", key, (1 << 20) - 1, "x") == 1 << 20


def test_each_edit_is_one_change(run, engine):
    for words, changes in [
        (("APPEND", "k", "a"), 1),
        (("APPEND", "k", "b"), 1),
        (("APPEND", "k", ""), 1),
        (("SETRANGE", "k", 1, "c"), 1),
        (("SETRANGE", "k", 9, ""), 0),
        (("SETRANGE", "new", 1, "c"), 1),
        (("SETRANGE", "other", 1, ""), 0),
    ]:
        before = engine.changes
        run(*words)
        assert engine.changes == before + changes, words


def test_an_edit_that_is_refused_changes_nothing(short):
    short("SET", "k", 12)
    assert error_of(short, "APPEND", "k", b"x" * ((1 << 20) - 1)) == TOO_LONG
    assert error_of(short, "SETRANGE", "k", 1 << 20, "x") == TOO_LONG
    assert short("OBJECT", "ENCODING", "k") == b"int"


def test_memory_follows_edits_and_ends_at_nothing(run, engine):
    run("SET", "k", "v")
    small = engine.memory_bytes
    run("APPEND", "k", b"x" * 100_000)
    assert engine.memory_bytes > small + 100_000
    run("SETRANGE", "k", 300_000, "x")
    assert engine.memory_bytes > small + 300_000
    run("COPY", "k", "l")
    run("INCR", "n")
    run("INCRBYFLOAT", "n", "1.5")
    run("DEL", "k", "l", "n")
    assert engine.memory_bytes == engine.keys == 0


# Numbers


def test_counting_starts_at_0_and_keeps_the_deadline(run):
    assert run("INCR", "k") == 1
    run("EXPIRE", "k", 10)
    assert run("INCRBY", "k", 10) == 11
    assert run("DECR", "k") == 10
    assert run("DECRBY", "k", 15) == -5
    assert run("INCRBY", "k", -5) == -10
    assert run("GET", "k") == b"-10"
    assert run("TTL", "k") == 10
    assert run("DECR", "new") == -1


def test_counting_ends_at_64_bits(run, fails):
    overflow = "ERR increment or decrement would overflow"
    run("SET", "k", INT64_MAX)
    assert fails("INCR", "k") == fails("INCRBY", "k", INT64_MAX) == fails("DECRBY", "k", -1) == overflow
    assert run("GET", "k") == b"%d" % INT64_MAX
    run("SET", "k", INT64_MIN)
    assert fails("DECR", "k") == fails("INCRBY", "k", INT64_MIN) == overflow
    assert fails("DECRBY", "k", INT64_MIN) == "ERR decrement would overflow"
    assert run("INCRBY", "k", INT64_MAX) == -1


@pytest.mark.parametrize("value", ["x", "", "1.5", " 1", "1 ", "+1", "01", "-0", str(INT64_MAX + 1), "1e3"])
def test_only_integers_are_counted_with(run, fails, value):
    run("SET", "k", value)
    assert fails("INCR", "k") == NOT_AN_INTEGER
    assert run("GET", "k") == value.encode()
    assert fails("INCRBY", "n", value) == fails("DECRBY", "n", value) == NOT_AN_INTEGER
    assert run("EXISTS", "n") == 0


def test_an_edited_value_can_be_counted_with(run):
    run("APPEND", "k", "1")
    run("APPEND", "k", "2")
    assert run("INCR", "k") == 13
    run("APPEND", "k", "0")
    assert run("INCRBYFLOAT", "k", "0.5") == b"130.5"


@pytest.mark.parametrize(
    ("value", "increment", "result"),
    [
        ("10.50", "0.1", b"10.6"),
        ("5.0e3", "2.0e2", b"5200"),
        ("10", "-5", b"5"),
        ("0.1", "0.2", b"0.3"),
        ("3", "1.000000000000000005", b"4.00000000000000001"),
        ("1e20", "1", b"100000000000000000000"),
        ("1e18", "0.5", b"1000000000000000000.5"),
        ("-1", "1", b"0"),
    ],
)
def test_incrbyfloat_counts_as_long_doubles_do(run, value, increment, result):
    run("SET", "k", value, "EX", 10)
    assert run("INCRBYFLOAT", "k", increment) == result
    assert run("GET", "k") == result
    assert run("TTL", "k") == 10


def test_incrbyfloat_of_no_key_starts_at_0(run):
    assert run("INCRBYFLOAT", "k", "1.5") == b"1.5"


@pytest.mark.parametrize("text", ["x", "", " 1", "nan", "1.5x"])
def test_incrbyfloat_needs_numbers(run, fails, text):
    assert fails("INCRBYFLOAT", "k", text) == "ERR value is not a valid float"
    run("SET", "k", text)
    assert fails("INCRBYFLOAT", "k", "1") == "ERR value is not a valid float"


def test_incrbyfloat_never_stores_infinity(run, fails):
    text = "ERR increment would produce NaN or Infinity"
    assert fails("INCRBYFLOAT", "k", "inf") == fails("INCRBYFLOAT", "k", "-inf") == text
    assert run("EXISTS", "k") == 0


# LCS


@pytest.fixture
def texts(run):
    run("MSET", "a", "ohmytext", "b", "mynewtext")


def test_lcs(run, texts):
    assert run("LCS", "a", "b") == b"mytext"
    assert run("LCS", "a", "b", "LEN") == 6
    assert run("LCS", "a", "no") == b""
    assert run("LCS", "a", "no", "LEN") == 0
    assert run("LCS", "a", "a") == b"ohmytext"


def test_lcs_idx_gives_the_runs_from_the_end(run, texts):
    runs = [[[4, 7], [5, 8]], [[2, 3], [0, 1]]]
    assert run("LCS", "a", "b", "IDX") == [b"matches", runs, b"len", 6]
    assert run("LCS", "a", "b", "IDX", "MINMATCHLEN", 4) == [b"matches", runs[:1], b"len", 6]
    assert run("LCS", "a", "b", "IDX", "MINMATCHLEN", -1) == [b"matches", runs, b"len", 6]
    with_lengths = [[*runs[0], 4], [*runs[1], 2]]
    assert run("LCS", "a", "b", "IDX", "WITHMATCHLEN") == [b"matches", with_lengths, b"len", 6]
    assert run("LCS", "a", "no", "IDX") == [b"matches", [], b"len", 0]


def test_lcs_refuses_what_makes_no_sense(run, fails, texts):
    both = "ERR If you want both the length and indexes, please just use IDX."
    assert fails("LCS", "a", "b", "LEN", "IDX") == both
    assert fails("LCS", "a", "b", "FOO") == fails("LCS", "a", "b", "MINMATCHLEN") == SYNTAX
    assert fails("LCS", "a", "b", "MINMATCHLEN", "x") == NOT_AN_INTEGER


def test_lcs_of_texts_that_are_too_long_together(short):
    short("MSET", "a", b"x" * 1_000, "b", b"y" * 1_000)
    text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
    assert error_of(short, "LCS", "a", "b") == text


def test_lcs_has_the_length_that_the_textbook_gives(run):
    dice = random.Random(3)
    for _ in range(50):
        first, second = (bytes(dice.choices(b"abcd", k=dice.randrange(20))) for _ in range(2))
        run("MSET", "a", first, "b", second)
        row = [0] * (len(second) + 1)
        for byte in first:
            above = row[:]
            for place, other in enumerate(second):
                row[place + 1] = above[place] + 1 if byte == other else max(above[place + 1], row[place])
        found = run("LCS", "a", "b")
        assert run("LCS", "a", "b", "LEN") == len(found) == row[-1]
        for text in (first, second):
            rest = iter(text)
            assert all(byte in rest for byte in found), (found, text)
