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
# Redis has small sets in listpacks since 7.2.
_ENCODINGS = (b"$9\r\nhashtable\r\n", b"$8\r\nlistpack\r\n")


@pytest.fixture(autouse=True)
def sets_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "is_alike", _or_as_sets(compare.is_alike))


def _or_as_sets(is_alike: Callable[..., bool]) -> Callable[..., bool]:
    def is_alike_or_as_sets(step: Step, expected: bytes, found: bytes, late_ms: int) -> bool:
        name = step[0].lower()
        if expected[:1] != found[:1]:
            return False
        if name == b"object" and (expected, found) == _ENCODINGS:
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


def _and_members(program: list[Step]) -> list[Step]:
    return program + [(b"SMEMBERS", key) for key in _POOL]


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
