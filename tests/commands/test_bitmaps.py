"""Bitmap commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.errors import CommandError
from tests.conftest import runner

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
NOT_AN_OFFSET = "ERR bit offset is not an integer or out of range"
NOT_A_KIND = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."


@pytest.fixture
def fails(run):
    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def events(client):
    told = []
    client.db.notify = lambda event, key: told.append(f"{event.decode()} {key.decode()}")
    return told


def test_setbit_returns_the_old_bit_and_grows_the_string(run):
    assert run("SETBIT", "k", 7, 1) == 0
    assert run("SETBIT", "k", 7, 1) == 1
    assert run("SETBIT", "k", 20, 0) == 0
    assert run("GET", "k") == b"\x01\0\0"
    assert run("SETBIT", "k", 7, 0) == 1
    assert [run("GETBIT", "k", place) for place in (0, 7, 23, 24, 4294967295)] == [0, 0, 0, 0, 0]
    assert run("GETBIT", "no", 3) == 0


def test_bits_of_integers_and_deadlines_that_stay(run):
    run("SET", "k", "1", "EX", 100)
    assert run("GETBIT", "k", 7) == 1
    run("SETBIT", "k", 6, 1)
    assert run("GET", "k") == b"3"
    assert run("OBJECT", "ENCODING", "k") == b"raw"
    assert run("TTL", "k") == 100


def test_setbit_and_getbit_mistakes(run, fails, make_engine):
    for offset in (-1, "x", "", 8 * 512 * 1024 * 1024, "#1", "99999999999999999999"):
        assert fails("SETBIT", "k", offset, 1) == fails("GETBIT", "k", offset) == NOT_AN_OFFSET
    for bit in (2, -1, "x", "", "01"):
        assert fails("SETBIT", "k", 1, bit) == "ERR bit is not an integer or out of range"
    run("SADD", "s", "a")
    assert fails("SETBIT", "s", 1, 1) == fails("GETBIT", "s", 1) == WRONG_TYPE
    short = runner(make_engine("--proto-max-bulk-len", "1mb").connect())
    assert short("SETBIT", "k", 8 * (1 << 20) - 1, 1) == 0
    with pytest.raises(CommandError, match=NOT_AN_OFFSET):
        short("SETBIT", "k", 8 * (1 << 20), 1)


def test_bitcount_of_parts(run, fails):
    run("SET", "k", "foobar")
    assert run("BITCOUNT", "k") == 26
    assert run("BITCOUNT", "k", 0, 0) == 4
    assert run("BITCOUNT", "k", 1, 1) == 6
    assert run("BITCOUNT", "k", -2, -1) == 7
    assert run("BITCOUNT", "k", 1, 1, "BYTE") == 6
    assert run("BITCOUNT", "k", 5, 30, "bit") == 17
    assert run("BITCOUNT", "k", -7, -1, "BIT") == 4
    assert run("BITCOUNT", "k", 4, 1) == run("BITCOUNT", "k", 100, 200) == run("BITCOUNT", "no", 1, 2) == 0
    assert run("BITCOUNT", "k", -100, 100) == 26
    assert run("BITCOUNT", "k", -(1 << 63), (1 << 63) - 1, "BIT") == 26
    assert fails("BITCOUNT", "k", 1) == fails("BITCOUNT", "k", 1, 2, "X") == SYNTAX
    assert fails("BITCOUNT", "k", 1, "x") == NOT_AN_INTEGER
    assert fails("BITCOUNT", "no", 1) == fails("BITCOUNT", "no", 1, 2, "X") == SYNTAX
    assert fails("BITCOUNT", "no", "x", 1) == fails("BITPOS", "no", 1, "x") == NOT_AN_INTEGER
    assert fails("BITPOS", "no", 1, 1, 2, "X") == SYNTAX
    run("SADD", "s", "a")
    assert fails("BITCOUNT", "s") == WRONG_TYPE


def test_bitpos_of_parts(run, fails):
    run("SET", "k", b"\xff\xf0\x00")
    assert run("BITPOS", "k", 0) == 12
    assert run("BITPOS", "k", 1, 2) == -1
    assert run("BITPOS", "k", 0, 2) == 16
    assert run("BITPOS", "k", 1, 7, 15, "BIT") == 7
    assert run("BITPOS", "k", 0, 7, 10, "BIT") == -1
    assert run("BITPOS", "k", 1, -2, -1) == 8
    run("SET", "ones", b"\xff\xff")
    assert run("BITPOS", "ones", 0) == run("BITPOS", "ones", 0, 1) == 16
    assert run("BITPOS", "ones", 0, 0, -1) == -1
    assert run("BITPOS", "ones", 0, 5) == -1
    assert (run("BITPOS", "no", 0), run("BITPOS", "no", 1)) == (0, -1)
    assert fails("BITPOS", "k", 2) == "ERR The bit argument must be 1 or 0."
    assert fails("BITPOS", "k", "x") == fails("BITPOS", "k", 1, "x") == NOT_AN_INTEGER
    assert fails("BITPOS", "k", 1, 0, 1, "X") == fails("BITPOS", "k", 1, 0, 1, "BIT", "BIT") == SYNTAX


def test_bitop_combines_strings_of_any_lengths(run, fails):
    run("SET", "a", "abc")
    run("SET", "b", b"\xff\x0f")
    assert run("BITOP", "and", "d", "a", "b") == 3
    assert run("GET", "d") == b"a\x02\0"
    run("BITOP", "OR", "d", "a", "b", "no")
    assert run("GET", "d") == b"\xffoc"
    run("BITOP", "XOR", "d", "a", "a")
    assert run("GET", "d") == b"\0\0\0"
    run("BITOP", "NOT", "d", "b")
    assert run("GET", "d") == b"\x00\xf0"
    assert run("OBJECT", "ENCODING", "d") == b"raw"
    assert fails("BITOP", "NAND", "d", "a") == SYNTAX
    assert fails("BITOP", "NOT", "d", "a", "b") == "ERR BITOP NOT must be called with a single source key."
    assert run("BITOP", "AND", "d", "no", "nor") == 0
    assert run("EXISTS", "d") == 0
    run("SADD", "s", "x")
    assert fails("BITOP", "AND", "d", "a", "s") == WRONG_TYPE
    assert run("BITOP", "OR", "s", "a") == 3
    assert run("TYPE", "s") == "string"


# BITFIELD


def test_bitfield_reads_writes_and_adds(run):
    assert run("BITFIELD", "k", "SET", "u8", 0, 200, "GET", "i8", 0, "INCRBY", "u8", "#1", 5) == [0, -56, 5]
    assert run("GET", "k") == b"\xc8\x05"
    assert run("BITFIELD", "k", "GET", "u4", 0, "GET", "u4", 4, "GET", "u8", 100, "GET", "i3", 1) == [12, 8, 0, -4]
    assert run("BITFIELD", "k", "SET", "i64", 3, -(1 << 63), "GET", "i64", 3) == [
        int.from_bytes(b"\xc8\x05".ljust(9, b"\0"), "big") >> 5 & ((1 << 64) - 1),
        -(1 << 63),
    ]
    assert run("BITFIELD", "no") == []
    assert run("BITFIELD_RO", "no", "GET", "u8", 0) == [0]
    assert run("EXISTS", "no") == 0


def test_bitfield_overflows_as_it_is_told(run):
    run("SET", "k", b"\xff\x7f")
    assert run("BITFIELD", "k", "INCRBY", "u8", 0, 1) == [0]
    assert run("BITFIELD", "k", "OVERFLOW", "SAT", "INCRBY", "u8", 0, 300, "INCRBY", "i8", 8, 1) == [255, 127]
    assert run("BITFIELD", "k", "OVERFLOW", "FAIL", "INCRBY", "u8", 0, 1, "SET", "u8", 0, 256) == [None, None]
    assert run("BITFIELD", "k", "OVERFLOW", "SAT", "INCRBY", "u8", 0, -300) == [0]
    assert run("BITFIELD", "k", "OVERFLOW", "FAIL", "OVERFLOW", "wrap", "INCRBY", "i8", 8, 1) == [-128]
    assert run("BITFIELD", "k", "OVERFLOW", "SAT", "SET", "u8", 0, -1, "GET", "u8", 0) == [0, 255]


def test_bitfield_mistakes_change_nothing(run, fails):
    for kind in ("u0", "u64", "i65", "i0", "x8", "8", "U8", "i", "i08", ""):
        assert fails("BITFIELD", "k", "SET", "u8", 0, 1, "GET", kind, 0) == NOT_A_KIND
    for offset in ("-1", "x", "#", "#-1", "#x", "4294967296", f"#{1 << 62}"):
        assert fails("BITFIELD", "k", "SET", "u8", 0, 1, "GET", "u8", offset) == NOT_AN_OFFSET
    assert fails("BITFIELD", "k", "SET", "u8", 0, "x") == NOT_AN_INTEGER
    assert fails("BITFIELD", "k", "OVERFLOW", "FOO") == "ERR Invalid OVERFLOW type specified"
    assert fails("BITFIELD", "k", "GET", "u8") == fails("BITFIELD", "k", "FOO", "u8", 0) == SYNTAX
    assert fails("BITFIELD_RO", "k", "SET", "u8", 0, 1) == "ERR BITFIELD_RO only supports the GET subcommand"
    assert run("EXISTS", "k") == 0
    run("SADD", "s", "x")
    for words in (("GET", "u8", 0), ("SET", "u8", 0, 1), ()):
        assert fails("BITFIELD", "s", *words) == WRONG_TYPE


def test_bitfield_tells_whether_it_changes(run):
    assert run("COMMAND", "GETKEYSANDFLAGS", "BITFIELD", "k", "GET", "u8", 0) == [[b"k", ["RO", "access"]]]
    assert run("COMMAND", "GETKEYSANDFLAGS", "BITFIELD", "k", "SET", "u8", 0, 1) == [[b"k", ["RW", "access", "update"]]]


def test_only_changes_are_told(run, events, client):
    run("SETBIT", "k", 3, 1)
    changes = client.db.changes
    run("SETBIT", "k", 3, 1)
    run("BITFIELD", "k", "SET", "u1", 3, 1)
    assert client.db.changes == changes
    run("BITFIELD", "k", "SET", "u1", 3, 0, "SET", "u1", 4, 1)
    run("BITOP", "NOT", "d", "k")
    run("BITOP", "NOT", "d", "no")
    run("BITOP", "NOT", "d", "no")
    assert events == ["setbit k", "setbit k", "set d", "del d"]
