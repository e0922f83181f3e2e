"""Random requests: what hypothesis draws programs from.

A strategy per command gives the words of one request, most of them sensible, some with a word too many, too few or of
the wrong kind.  A Relative stands for a distance in time; assemble() makes it a number that no other step of the
program has, a thousand seconds from the next, so that a few milliseconds between two servers never decide anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

Word: TypeAlias = "bytes | Relative"
Step: TypeAlias = tuple[bytes, ...]

KEYS = (b"a", b"b", b"{t}1", b"x{t}", b"", b"{}{t}", b"\x00\r\n\xff\xfe", b"key:with:a:longer:name:1000")

INTEGERS = (
    b"0", b"1", b"-1", b"2", b"5", b"10", b"100", b"9999", b"10000", b"-0", b"+1", b" 1", b"1 ", b"01", b"0x10", b"1e3",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"-9223372036854775809",
    b"4611686018427387904",
    b"2147483648", b"9223372036854775", b"9223372036854776", b"1_000", b"\xd9\xa1", b"1\x00", b"\t1",
    b"99999999999999999999",
)  # fmt: skip
FLOATS = (
    b"1.5", b"-2.25", b"0.1", b"3.0", b"1e3", b"1E-3", b".5", b"5.", b"-0", b"-0.0", b"inf", b"-inf", b"+inf",
    b"infinity",
    b"nan", b"-nan", b"0x1p3", b"0x10", b"1e400", b"-1e400", b"1e4932", b"1e5000", b"1e-5000", b"1e17",
    b"123456789012345678",
    b"0.00000000000000001", b"1.", b"1e", b"e1", b"1.5 ", b" 1.5", b"1.5x", b"3.14159265358979323846264338327950288",
    b"179769313486231570000000000000000000000", b"1_0.5", b"\xd9\xa1.5",
)  # fmt: skip
TEXTS = (
    b"", b"v", b"hello world", b"x" * 43, b"y" * 44, b"z" * 45, b"w" * 100, b"\x00", b"\r\n", b"\xff\x00\r\n\xfe",
    b"a\x00b",
    b"foobar", b"ohmytext", b"mynewtext", b"raw:" + b"ab" * 30, "übung".encode(),
)  # fmt: skip
JUNK = (b"", b"FOO", b"EX", b"PX", b"NX", b"1", b"-1", b"\r\n", b"abc", b"KEEPTTL", b"9" * 30, b"99", b"%s", b"'")

# Fixed times, in Unix seconds and ms: long past, and far enough ahead that no relative one comes near.
TIMES_S = (
    b"1",
    b"1000000000",
    b"4102444800",
    b"4102444801",
    b"9000000000",
    b"0",
    b"-1",
    b"9223372036854775",
    b"9223372036854776",
)
TIMES_MS = (
    b"1", b"1000000000000", b"4102444800000", b"4102444800499", b"4102444800500", b"9000000000000", b"0", b"-5",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808",
)  # fmt: skip
# Relative times that are wrong, past, or end a key at once.
ODD_S = (
    b"0",
    b"-1",
    b"-1000",
    b"9223372036854775",
    b"9223372036854776",
    b"-9223372036854775808",
    b"9223372036854775807",
)
ODD_MS = (b"0", b"-1", b"-1000", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808")


@dataclass(frozen=True)
class Relative:
    """A distance that is told apart from all others of its program."""

    in_seconds: bool

    def word(self, number: int) -> bytes:
        return b"%d" % ((number + 1) * 1_000 * (1 if self.in_seconds else 1_000))


keys = st.sampled_from(KEYS)
integers = st.sampled_from(INTEGERS) | st.integers(-3, 60).map(lambda number: b"%d" % number)
floats = st.sampled_from(FLOATS) | st.sampled_from(INTEGERS)
texts = st.sampled_from(TEXTS) | st.sampled_from(INTEGERS) | st.sampled_from(FLOATS) | st.binary(max_size=50)
increments = st.sampled_from((b"1", b"-1", b"10")) | integers
after_s = (
    st.just(Relative(True))
    | st.just(Relative(True))
    | st.sampled_from(ODD_S)
    | integers.filter(lambda word: not _near(word))
)
after_ms = st.just(Relative(False)) | st.just(Relative(False)) | st.sampled_from(ODD_MS)
at_s = st.sampled_from(TIMES_S)
at_ms = st.sampled_from(TIMES_MS)
databases = st.sampled_from(
    (b"0", b"1", b"2", b"3", b"4", b"-1", b"x", b"", b"2147483648", b"01", b"9223372036854775808")
)
patterns = st.sampled_from(
    (b"*", b"a*", b"?", b"[ab]", b"[^a]", b"*{t}*", b"", b"\\a", b"[a", b"*\xff*", b"{t}?", b"x")
)


def _near(word: bytes) -> bool:
    """Whether this is a small distance ahead, which real time might reach."""
    try:
        return 0 < int(word) < 10_000
    except ValueError:
        return False


def words(*parts: Any) -> st.SearchStrategy[list[Word]]:
    """One list of words from fixed words, strategies of a word, and strategies of lists of words."""
    strategies = [st.just(part) if isinstance(part, bytes | str) else part for part in parts]
    return st.tuples(*strategies).map(_flatten)


def _flatten(parts: Sequence[Any]) -> list[Word]:
    flat: list[Word] = []
    for part in parts:
        if isinstance(part, list | tuple):
            flat += _flatten(part)
        else:
            flat.append(part.encode() if isinstance(part, str) else part)
    return flat


def options(*choices: Any, max_size: int = 3) -> st.SearchStrategy[list[Word]]:
    """Some of the options, in any order, sometimes one twice or two that exclude each other."""
    one = st.one_of([words(choice) if isinstance(choice, str) else choice for choice in choices])
    return st.lists(one, max_size=max_size).map(_flatten)


def some(strategy: st.SearchStrategy[Any], min_size: int = 1, max_size: int = 4) -> st.SearchStrategy[list[Word]]:
    return st.lists(strategy, min_size=min_size, max_size=max_size)


expiry = st.one_of(
    words("EX", after_s),
    words("PX", after_ms),
    words("EXAT", at_s),
    words("PXAT", at_ms),
    words("EX", integers.filter(lambda w: not _near(w))),
)
condition = st.sampled_from(("NX", "XX", "GT", "LT")).map(lambda word: [word.encode()])

STRINGS: dict[str, st.SearchStrategy[list[Word]]] = {
    "GET": words("GET", keys),
    "SET": words("SET", keys, texts, options("NX", "XX", "GET", "KEEPTTL", expiry)) | words("SET", keys, texts),
    "SETNX": words("SETNX", keys, texts),
    "SETEX": words("SETEX", keys, after_s, texts),
    "PSETEX": words("PSETEX", keys, after_ms, texts),
    "GETSET": words("GETSET", keys, texts),
    "GETDEL": words("GETDEL", keys),
    "GETEX": words("GETEX", keys, options("PERSIST", expiry, max_size=2)),
    "MGET": words("MGET", some(keys)),
    "MSET": words("MSET", some(st.tuples(keys, texts))),
    "MSETNX": words("MSETNX", some(st.tuples(keys, texts))),
    "APPEND": words("APPEND", keys, texts),
    "STRLEN": words("STRLEN", keys),
    "GETRANGE": words("GETRANGE", keys, integers, integers),
    "SUBSTR": words("SUBSTR", keys, integers, integers),
    "SETRANGE": words("SETRANGE", keys, st.sampled_from((b"0", b"1", b"3", b"50", b"-1", b"536870911",
        b"536870912")) | integers, texts).filter(
        lambda step: step[2] not in (b"536870911", b"2147483648")
    ),
    "INCR": words("INCR", keys),
    "DECR": words("DECR", keys),
    "INCRBY": words("INCRBY", keys, increments),
    "DECRBY": words("DECRBY", keys, increments),
    "INCRBYFLOAT": words("INCRBYFLOAT", keys, floats),
    "LCS": words("LCS", keys, keys, options("LEN", "IDX", "WITHMATCHLEN", words("MINMATCHLEN", integers))),
}  # fmt: skip

GENERIC: dict[str, st.SearchStrategy[list[Word]]] = {
    "DEL": words("DEL", some(keys, max_size=2)),
    "UNLINK": words("UNLINK", some(keys, max_size=2)),
    "EXISTS": words("EXISTS", some(keys)),
    "TOUCH": words("TOUCH", some(keys)),
    "TYPE": words("TYPE", keys),
    "EXPIRE": words("EXPIRE", keys, after_s, options(condition, max_size=2)),
    "PEXPIRE": words("PEXPIRE", keys, after_ms, options(condition, max_size=2)),
    "EXPIREAT": words("EXPIREAT", keys, at_s, options(condition, max_size=2)),
    "PEXPIREAT": words("PEXPIREAT", keys, at_ms, options(condition, max_size=2)),
    "TTL": words("TTL", keys),
    "PTTL": words("PTTL", keys),
    "EXPIRETIME": words("EXPIRETIME", keys),
    "PEXPIRETIME": words("PEXPIRETIME", keys),
    "PERSIST": words("PERSIST", keys),
    "RENAME": words("RENAME", keys, keys),
    "RENAMENX": words("RENAMENX", keys, keys),
    "COPY": words("COPY", keys, keys, options("REPLACE", words("DB", databases))),
    "MOVE": words("MOVE", keys, databases),
    "KEYS": words("KEYS", patterns),
    "SCAN": words(
        "SCAN",
        st.sampled_from((b"0", b"0", b"0", b"-0", b"", b"x", b"18446744073709551616", b" 0", b"0 ", b"00")),
        options(
            words("MATCH", patterns),
            words("COUNT", st.sampled_from((b"1000", b"0", b"-1", b"x", b"9223372036854775807"))),
            words("TYPE", st.sampled_from((b"string", b"STRING", b"list", b"nonesuch", b""))),
        ),
    ),
    "RANDOMKEY": words("RANDOMKEY"),
    "OBJECT ENCODING": words("OBJECT", "ENCODING", keys),
    "OBJECT FREQ": words("OBJECT", "FREQ", keys),
    "OBJECT IDLETIME": words("OBJECT", "IDLETIME", keys),
    "OBJECT REFCOUNT": words("OBJECT", "REFCOUNT", keys),
}

DATABASES: dict[str, st.SearchStrategy[list[Word]]] = {
    "SELECT": words("SELECT", databases),
    "SWAPDB": words("SWAPDB", databases, databases),
    "DBSIZE": words("DBSIZE"),
    "FLUSHDB": words("FLUSHDB", options("ASYNC", "SYNC", "FOO", max_size=1)),
    "FLUSHALL": words("FLUSHALL", options("ASYNC", "SYNC", "FOO", max_size=1)),
}


@st.composite
def _bent(draw: st.DrawFn, step: list[Word]) -> list[Word]:
    """The words with a mistake in them: one too many, one too few, one of another kind, one twice."""
    kind = draw(st.sampled_from(("more", "less", "other", "twice")))
    place = draw(st.integers(1, len(step))) if len(step) > 1 else 1
    bent = list(step)
    if kind == "more":
        bent.insert(place, draw(st.sampled_from(JUNK)))
    elif kind == "less" and len(bent) > 1:
        del bent[-1]
    elif kind == "other" and place < len(bent):
        bent[place] = draw(st.sampled_from(JUNK))
    elif kind == "twice" and place < len(bent):
        bent.insert(place, bent[place])
    return bent


@st.composite
def _in_any_case(draw: st.DrawFn, step: list[Word]) -> list[Word]:
    """The command, and options by chance, in small letters or in mixed ones."""
    style = draw(st.sampled_from((bytes.lower, bytes.title)))
    return [
        style(word) if not isinstance(word, Relative) and word.isalpha() and word.isupper() else word for word in step
    ]


def steps(table: dict[str, st.SearchStrategy[list[Word]]]) -> st.SearchStrategy[list[Word]]:
    one = st.one_of(list(table.values()))
    return st.one_of(one, one, one, one.flatmap(_in_any_case), one.flatmap(_bent))


def assemble(program: Sequence[Sequence[Word]]) -> list[Step]:
    """The requests, times told apart."""
    return [
        tuple(word.word(number) if isinstance(word, Relative) else word for word in step)
        for number, step in enumerate(program)
    ]


def programs(table: dict[str, st.SearchStrategy[list[Word]]], max_size: int = 30) -> st.SearchStrategy[list[Step]]:
    return st.lists(steps(table), min_size=1, max_size=max_size).map(assemble)
