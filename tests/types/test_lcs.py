"""LCS: the same subsequence and the same matches as redis-server's, and a subsequence in truth."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kora.types.lcs import longest_common_subsequence
from tests.compat.peers import RedisServer, requests
from tests.compat.profile import examples
from tests.resp_reader import read_replies

pytestmark = pytest.mark.once

_texts = st.text("abc", max_size=40).map(str.encode) | st.binary(max_size=20)


def _is_subsequence(part: bytes, whole: bytes) -> bool:
    rest = iter(whole)
    return all(byte in rest for byte in part)


@given(first=_texts, second=_texts)
@examples(800)
@example(first=b"ohmytext", second=b"mynewtext")
@example(first=b"", second=b"a")
@example(first=b"a" * 70, second=b"ab" * 60)
def test_the_subsequence_and_its_matches_are_those_of_redis(redis: RedisServer, first: bytes, second: bytes) -> None:
    commands = [
        ("MSET", "a", first, "b", second),
        ("LCS", "a", "b"),
        ("LCS", "a", "b", "IDX", "WITHMATCHLEN"),
        ("LCS", "a", "b", "LEN"),
    ]
    _, text, with_matches, length = read_replies(redis.control.exchange(requests(commands))[0])
    found = longest_common_subsequence(first, second)
    assert (found.text, found.length) == (text, length)
    matches = [
        [[match.first, match.first + match.length - 1], [match.second, match.second + match.length - 1], match.length]
        for match in found.matches
    ]
    assert matches == with_matches[1]
    assert _is_subsequence(found.text, first)
    assert _is_subsequence(found.text, second)
