"""Patterns: kora.glob against redis-server's KEYS, and patterns made to take long."""

import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kora import glob
from tests.compat.peers import RedisServer, redis, requests
from tests.compat.profile import examples
from tests.resp_reader import read_replies

pytestmark = pytest.mark.once

__all__ = ["redis"]

_LETTERS = b"ab-]^\\[*?z\xff\n"
_texts = st.lists(st.sampled_from([bytes([letter]) for letter in _LETTERS]), max_size=6).map(b"".join)
_pieces = st.sampled_from(
    [b"a", b"b", b"z", b"*", b"**", b"?", b"[ab]", b"[^a]", b"[a-z]", b"[z-a]", b"[^", b"[", b"]", b"[]", b"[^]",
    b"[]a]", b"\\", b"\\*",
     b"\\[", b"[\\]]", b"[\\", b"[a-", b"[a-]", b"[-a]", b"[a-b-z]", b"[^-]", b"\xff", b"[\x80-\xff]", b"\n", b"-",
     b"^", b"[a\\-z]", b"[*]"]
)  # fmt: skip
_patterns = st.lists(_pieces, max_size=5).map(b"".join) | st.binary(max_size=5)


@given(pattern=_patterns, keys=st.lists(_texts, min_size=1, max_size=30, unique=True))
@examples(1500)
@example(pattern=b"", keys=[b"", b"a"])
@example(pattern=b"\\", keys=[b"", b"\\"])
@example(pattern=b"a\\", keys=[b"a", b"a\\"])
@example(pattern=b"[", keys=[b"", b"[", b"a"])
@example(pattern=b"[^", keys=[b"", b"^", b"a"])
@example(pattern=b"[a", keys=[b"a", b"b", b"[a"])
@example(pattern=b"[]", keys=[b"", b"]"])
@example(pattern=b"a*", keys=[b"a\nb", b"a", b"b"])
def test_the_same_keys_match_as_in_redis(redis: RedisServer, pattern: bytes, keys: list[bytes]) -> None:
    high = any(byte >= 0x80 for byte in pattern.replace(b"[\x80-\xff]", b""))
    assume(not (high and b"-" in pattern))  # see tests/compat/quirks.py
    *_, expected = read_replies(
        redis.control.exchange(requests([(b"FLUSHALL",), *((b"SET", key, b"") for key in keys), (b"KEYS", pattern)]))[0]
    )
    if len(pattern) > 1 and not pattern.strip(b"*"):
        keys = [key for key in keys if key]  # see tests/compat/quirks.py
        expected = [key for key in expected if key]
    matches = glob.matcher(pattern)
    assert sorted(key for key in keys if matches(key)) == sorted(expected), pattern


@pytest.mark.parametrize(
    ("pattern", "data"),
    [
        (b"a*" * 30 + b"b", b"a" * 10_000),
        (b"*a" * 50 + b"*b", b"a" * 5_000),
        (b"*" * 10_000 + b"b", b"a" * 1_000),
        (b"*?" * 100 + b"b", b"a" * 1_000),
        (b"*[a-z]*[a-z]*[a-z]*[a-z]*[a-z]x", b"a" * 5_000),
        (b"[" * 10_000, b"a"),
        (b"[a" * 5_000, b"a"),
        (b"*aaaaaaaaaaaaaaaaaaaaaaaaaaab" * 5, b"a" * 5_000),
        (b"?" * 5_000 + b"*", b"a" * 5_000),
        (b"*a" * 3_000, b"a" * 5_000),
        (b"a" * 1_000_000, b"a" * 1_000_000),
        (b"*x" * 50_000, b"a" * 200_000),
        (b"*" + b"a" * 50_000 + b"b*", b"a" * 100_000),
        (b"*?" + b"a" * 5_000 + b"?b*", b"a" * 50_000),
        (b"[a-z]" * 1_000 + b"*" + b"[a-z]" * 1_000 + b"0*", b"a" * 50_000),
    ],
    ids=lambda data: f"{data[:8].decode()}…{len(data)}",
)
def test_hostile_patterns_end_soon(pattern: bytes, data: bytes) -> None:
    started = time.process_time()
    glob.matches(pattern, data)
    elapsed_s = time.process_time() - started
    assert elapsed_s < 1, (
        f"{elapsed_s:.1f} s for a pattern of {len(pattern)} bytes: the expression backs up over several stars"
    )


@given(pattern=_patterns, texts=st.lists(_texts, min_size=1, max_size=10))
@examples(500)
def test_long_patterns_match_as_short_ones_do(pattern: bytes, texts: list[bytes]) -> None:
    long, short = glob._Cut(pattern), glob._compile(pattern)
    for text in texts:
        assert long.matches(text) == bool(short.fullmatch(text)), text


def test_a_long_pattern_matches_long_texts() -> None:
    matches = glob.matcher(b"h?llo*" * 1_000 + b"[xyz]")
    text = b"hello, hallo, " * 500
    assert matches(text + b"x")
    assert not matches(text)
    assert not matches(text[7:] + b"x")


@given(pattern=_patterns, data=_texts)
@examples(300)
def test_ignoring_case_is_matching_in_small_letters(pattern: bytes, data: bytes) -> None:
    assert glob.matches(pattern.upper(), data, ignore_case=True) == glob.matches(pattern.lower(), data.lower())
