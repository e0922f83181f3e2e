"""Random programs over hashes: Kora's replies, numbers and data against redis-server's.

The deadlines of fields are not in redis-server 7.0; tests/commands/test_hashes.py has them.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resp_reader import read_replies

from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import GENERIC, KEYS, STRINGS, Step, programs
from .words_hashes import HASHES

protocols = st.sampled_from((2, 3))
# Keys that hold something, hashes above all, make most commands more interesting.
_FILL = {name: HASHES[name] for name in ("HSET", "HMSET", "HSETNX", "HINCRBY", "HDEL")}
_OTHERS = {name: STRINGS[name] for name in ("SET", "APPEND", "GET", "INCR", "GETSET")}
# What no request of a program has shown.
_CONTENTS: list[Step] = [(b"HGETALL", key) for key in KEYS]


def is_alike(step: Step, expected: bytes, found: bytes) -> bool:
    """Large hashes have no order, and random picks are random: then only what they must have in common is compared."""
    [theirs], [ours] = read_replies(expected), read_replies(found)
    name = step[0].upper()
    if expected[:1] == b"-" or found[:1] == b"-":
        return False
    if name in (b"HKEYS", b"HVALS"):
        return sorted(theirs) == sorted(ours)
    if name == b"HGETALL":
        return _pairs(theirs) == _pairs(ours)
    if name == b"HSCAN":
        # With a small COUNT, cursors and what has been shown so far are the server's own.
        is_whole = theirs[0] == ours[0] == b"0"
        return _pairs(theirs[1]) == _pairs(ours[1]) if is_whole else theirs[0].isdigit() and ours[0].isdigit()
    if name == b"HRANDFIELD":
        return _shape(theirs) == _shape(ours)
    return False


def _pairs(reply: Any) -> Any:
    return sorted(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply


def _shape(reply: Any) -> Any:
    return [_shape(item) for item in reply] if isinstance(reply, list) else type(reply)


def compare(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, [*program, *_CONTENTS], protocol=protocol, alike=is_alike)


@given(program=programs({**HASHES, **_FILL}), protocol=protocols)
@examples(1000)
def test_programs_of_hash_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare(redis, program, protocol)


@given(program=programs({**HASHES, **GENERIC, **_OTHERS, **_FILL}, max_size=40), protocol=protocols)
@examples(1000)
def test_programs_of_hashes_and_strings_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare(redis, program, protocol)


@pytest.mark.parametrize("name", sorted(HASHES))
def test_each_command_in_many_forms(redis: RedisServer, name: str) -> None:
    mixed = {"it": HASHES[name], "again": HASHES[name], "more": HASHES[name], "fill": HASHES["HSET"]}

    @given(program=programs(mixed, max_size=15), protocol=protocols)
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare(redis, program, protocol)

    check()
