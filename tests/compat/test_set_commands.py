"""Random programs over sets, bitmaps and HyperLogLogs: Kora's replies, numbers and data against redis-server's."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resp_reader import read_replies

from . import compare
from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import GENERIC, STRINGS, Step, programs
from .words_sets import BITMAPS, BROKEN, HYPERLOGLOGS, SETS

protocols = st.sampled_from((2, 3))
_POOL = (b"a", b"b", b"{t}1", b"x{t}")
_AROUND = {
    name: GENERIC[name] for name in ("DEL", "COPY", "RENAME", "TYPE", "OBJECT ENCODING", "EXPIRE", "PERSIST")
} | {"SET": STRINGS["SET"]}
_FILL = {f"SADD {number}": SETS["SADD"] for number in range(6)}

_ANY_ORDER = frozenset({b"smembers", b"spop", b"srandmember", b"sinter", b"sunion", b"sdiff"})
# Redis has small sets in listpacks since 7.2.  A SETBIT that changes nothing makes a string raw in Redis; in Kora it
# does nothing, since WATCH and client-side caches would be told of it.
_ENCODINGS = {
    (b"$9\r\nhashtable\r\n", b"$8\r\nlistpack\r\n"),
    (b"$3\r\nraw\r\n", b"$6\r\nembstr\r\n"),
    (b"$3\r\nraw\r\n", b"$3\r\nint\r\n"),
}


@pytest.fixture(autouse=True)
def sets_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "is_alike", or_as_sets(compare.is_alike))


def or_as_sets(is_alike: Callable[..., bool]) -> Callable[..., bool]:
    def is_alike_or_as_sets(step: Step, expected: bytes, found: bytes, late_ms: int) -> bool:
        name = step[0].lower()
        if expected[:1] != found[:1]:
            return False
        if name == b"object" and (expected, found) in _ENCODINGS:
            return True
        if name in _ANY_ORDER and expected[:1] in b"*~":
            (theirs,), (ours,) = read_replies(expected), read_replies(found)
            return len(theirs) == len(ours) and set(theirs) == set(ours)
        if name == b"srandmember" and expected[:1] == b"$":
            return (expected == b"$-1\r\n") == (found == b"$-1\r\n")
        if name == b"sscan" and expected[:1] == b"*":
            (theirs,), (ours,) = read_replies(expected), read_replies(found)
            return theirs[0] == ours[0] == b"0" and sorted(theirs[1]) == sorted(ours[1])
        return is_alike(step, expected, found, late_ms)

    return is_alike_or_as_sets


def is_left_to_chance(step: Step) -> bool:
    """Whether the two servers may pick different members; words.py bends requests into such."""
    name = step[0].upper()
    if name == b"SPOP":
        return step[2:] in ((), (b"1",))
    return name == b"SRANDMEMBER" and step[2:] in ((b"1",), (b"-1",))


def _and_members(program: list[Step]) -> list[Step]:
    return [step for step in program if not is_left_to_chance(step)] + [(b"SMEMBERS", key) for key in _POOL]


@given(program=programs({**SETS, **_FILL, **_AROUND}, max_size=40), protocol=protocols)
@examples(600)
def test_programs_of_set_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, _and_members(program), protocol=protocol)


@pytest.mark.parametrize("name", sorted(SETS))
def test_each_set_command_in_many_forms(redis: RedisServer, name: str) -> None:
    mixed = {"it": SETS[name], "again": SETS[name], "string": STRINGS["APPEND"], **_FILL}

    @given(program=programs(mixed, max_size=15), protocol=protocols)
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, _and_members(program), protocol=protocol)

    check()


@pytest.mark.parametrize("entries", [3, 6])
def test_small_limits_end_intsets_at_the_same_member(redis: RedisServer, entries: int) -> None:
    redis.run("CONFIG", "SET", "set-max-intset-entries", entries)

    @given(program=programs({**_FILL, "SREM": SETS["SREM"], "SUNIONSTORE": SETS["SUNIONSTORE"]}), protocol=protocols)
    @examples(100)
    def check(program: list[Step], protocol: int) -> None:
        encodings: list[Step] = [(b"OBJECT", b"ENCODING", key) for key in _POOL]
        limit: list[Step] = [(b"CONFIG", b"SET", b"set-max-intset-entries", b"%d" % entries)]
        compare_program(redis, limit + program + encodings, protocol=protocol)

    try:
        check()
    finally:
        redis.run("CONFIG", "SET", "set-max-intset-entries", 512)


@given(program=programs({**BITMAPS, "APPEND 2": BITMAPS["APPEND"], "APPEND 3": BITMAPS["APPEND"]}), protocol=protocols)
@examples(600)
def test_programs_of_bitmap_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@pytest.mark.parametrize("name", sorted(BITMAPS))
def test_each_bitmap_command_in_many_forms(redis: RedisServer, name: str) -> None:
    mixed = {"it": BITMAPS[name], "again": BITMAPS[name], "set": SETS["SADD"], "fill": BITMAPS["APPEND"]}

    @given(program=programs(mixed, max_size=15), protocol=protocols)
    @examples(200)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, program, protocol=protocol)

    check()


_PFADD = {f"PFADD {number}": HYPERLOGLOGS["PFADD"] for number in range(4)}


@given(program=programs({**HYPERLOGLOGS, **_PFADD}, max_size=40), protocol=protocols)
@examples(400)
def test_programs_of_hyperloglog_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + [(b"GET", key) for key in _POOL], protocol=protocol)


@given(program=programs({**HYPERLOGLOGS, "SET": BROKEN, "SADD": SETS["SADD"]}), protocol=protocols)
@examples(200)
def test_broken_hyperloglogs_are_refused_in_the_same_words(
    redis: RedisServer, program: list[Step], protocol: int
) -> None:
    compare_program(redis, program, protocol=protocol)


@pytest.mark.parametrize("limit", [0, 30, 100, 3000, 16000])
def test_a_hyperloglog_has_the_same_bytes_after_thousands_of_elements(redis: RedisServer, limit: int) -> None:
    config: list[Step] = [(b"CONFIG", b"SET", b"hll-sparse-max-bytes", b"%d" % limit)]
    program: list[Step] = list(config)
    for number in range(1, 3_000):
        program.append((b"PFADD", _POOL[number % 3], b"%d" % (number * number), b"e%d" % number))
        if number % 100 == 0:
            program.append((b"GET", _POOL[number % 3]))
            program.append((b"PFCOUNT", _POOL[number % 3]))
        if number % 500 == 0:
            program += [(b"PFMERGE", _POOL[3], _POOL[number % 2]), (b"GET", _POOL[3]), (b"PFCOUNT", *_POOL)]
    try:
        compare_program(redis, program)
    finally:
        redis.run("CONFIG", "SET", "hll-sparse-max-bytes", 3000)


def test_both_find_themselves_in_order(redis: RedisServer) -> None:
    compare_program(redis, [(b"PFSELFTEST",), (b"PFSELFTEST", b"x")])


@pytest.mark.parametrize("byte", [b"\xff", b"\xfe", b"\x55", b"\x49", b"\x92", b"\0"])
def test_registers_that_no_element_sets_are_counted_alike(redis: RedisServer, byte: bytes) -> None:
    value = b"HYLL\0\0\0\0" + bytes(7) + b"\x80" + byte * 12288
    compare_program(redis, [(b"SET", b"a", value), (b"PFCOUNT", b"a"), (b"PFCOUNT", b"a", b"b"), (b"GET", b"a")])
