"""HyperLogLog commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.errors import CommandError
from kora.types.hyperloglog import DENSE_BYTES

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_A_HYPERLOGLOG = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPT = "INVALIDOBJ Corrupted HLL object detected"
BROKEN = b"HYLL\x01\0\0\0" + bytes(7) + b"\x80" + b"\x7f\xfe"


@pytest.fixture
def fails(run):
    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


def test_elements_are_counted_once(run):
    assert run("PFADD", "k", "a", "b", "c", "a") == 1
    assert run("PFADD", "k", "a", "b") == 0
    assert run("PFCOUNT", "k") == 3
    assert run("PFCOUNT", "k", "no") == 3
    assert run("PFCOUNT", "no") == run("PFCOUNT", "no", "nor") == 0
    assert run("TYPE", "k") == "string"
    assert run("OBJECT", "ENCODING", "k") == b"raw"


def test_pfadd_of_nothing_makes_an_empty_one(run):
    assert run("PFADD", "k") == 1
    assert run("PFADD", "k") == 0
    assert run("PFCOUNT", "k") == 0
    # The state of Redis: made, and out of date until it is counted.
    assert run("GET", "k")[:5] == b"HYLL\x01"
    assert run("STRLEN", "k") == 18


def test_thousands_are_counted_within_two_percent_and_turn_it_dense(run):
    for number in range(0, 20_000, 50):
        run("PFADD", "k", *range(number, number + 50))
    assert abs(run("PFCOUNT", "k") - 20_000) < 400
    assert run("STRLEN", "k") == DENSE_BYTES
    assert run("PFDEBUG", "ENCODING", "k") == "dense"


def test_a_merge_counts_what_is_in_any(run):
    run("PFADD", "a", *range(100))
    run("PFADD", "b", *range(50, 150))
    assert run("PFMERGE", "c", "a", "b", "no") == "OK"
    assert run("PFCOUNT", "c") == run("PFCOUNT", "a", "b")
    assert abs(run("PFCOUNT", "c") - 150) <= 3
    assert run("PFMERGE", "a", "b") == "OK"
    assert run("PFCOUNT", "a") == run("PFCOUNT", "c")
    assert run("PFMERGE", "new") == "OK"
    assert run("PFCOUNT", "new") == 0


def test_a_merge_with_a_dense_one_is_dense(run):
    run("PFADD", "a", "x")
    run("PFADD", "b", "y")
    assert run("PFDEBUG", "TODENSE", "b") == 1
    assert run("PFDEBUG", "TODENSE", "b") == 0
    run("PFMERGE", "a", "b")
    assert run("PFDEBUG", "ENCODING", "a") == "dense"
    assert run("PFCOUNT", "a") == 2


def test_a_deadline_stays_and_time_ends_it(run, clock):
    run("PFADD", "k", "a")
    run("PEXPIRE", "k", 100)
    run("PFADD", "k", "b")
    run("PFMERGE", "k", "k")
    assert run("PTTL", "k") == 100
    clock.advance_ms(101)
    assert run("PFCOUNT", "k") == 0


def test_the_limit_of_sparse_ones_is_a_setting(run):
    run("CONFIG", "SET", "hll-sparse-max-bytes", 20)
    run("PFADD", "k", "a")
    assert run("PFDEBUG", "ENCODING", "k") == "dense"


def test_pfdebug_shows_registers_and_runs(run, fails):
    run("PFADD", "k", "a")
    runs = run("PFDEBUG", "decode", "k")
    assert runs.count(b"v:") == 1
    assert runs.startswith(b"Z:")
    registers = run("PFDEBUG", "GETREG", "k")
    assert len(registers) == 16384
    assert len([value for value in registers if value]) == 1
    assert fails("PFDEBUG", "DECODE", "k") == "ERR HLL encoding is not sparse"
    assert fails("PFDEBUG", "FOO", "k") == "ERR Unknown PFDEBUG subcommand 'FOO'"
    assert fails("PFDEBUG", "ENCODING", "no") == "ERR The specified key does not exist"


def test_pfselftest_finds_nothing(run):
    assert run("PFSELFTEST") == "OK"


def test_what_is_no_hyperloglog_is_refused(run, fails):
    run("SADD", "set", "a")
    run("SET", "text", "text")
    run("SET", "number", 5)
    run("SET", "long", b"x" * 100_000)
    run("PFADD", "k", "a")
    texts = ("text", "number", "long")
    for key, text in (("set", WRONG_TYPE), *((key, NOT_A_HYPERLOGLOG) for key in texts)):
        for words in (("PFADD", key, "a"), ("PFADD", key), ("PFCOUNT", key), ("PFCOUNT", "k", key),
                      ("PFMERGE", key, "k"), ("PFMERGE", "k", key), ("PFDEBUG", "DECODE", key)):  # fmt: skip
            assert fails(*words) == text, words


def test_corrupt_ones_are_found_out(run, fails):
    run("SET", "broken", BROKEN)
    run("PFADD", "k", "a")
    for words in (("PFCOUNT", "broken"), ("PFCOUNT", "k", "broken"), ("PFMERGE", "k", "broken"),
                  ("PFDEBUG", "TODENSE", "broken"), ("PFDEBUG", "GETREG", "broken")):  # fmt: skip
        assert fails(*words) == CORRUPT, words
    assert run("GET", "broken") == BROKEN
    run("SET", "long", BROKEN + b"x" * 100_000)
    assert fails("PFCOUNT", "long") == CORRUPT
    run("SET", "empty", BROKEN[:16])
    assert fails("PFADD", "empty", "a") == CORRUPT


def test_adding_and_merging_are_told_as_additions(run, client):
    told = []
    client.db.notify = lambda event, key: told.append((event, key))
    run("PFADD", "k", "a")
    run("PFADD", "k", "a")
    run("PFCOUNT", "k")
    run("PFMERGE", "d", "k")
    assert told == [(b"pfadd", b"k"), (b"pfadd", b"d")]


def test_counting_keeps_the_count_in_the_string(run, client):
    run("PFADD", "k", "a", "b")
    assert run("GET", "k")[15] & 0x80
    assert run("PFCOUNT", "k") == 2
    assert run("GET", "k")[8:16] == (2).to_bytes(8, "little")
    changes = client.db.changes
    run("PFCOUNT", "k")
    assert client.db.changes == changes
