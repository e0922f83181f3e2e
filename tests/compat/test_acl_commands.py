"""Random users: what their rules come to, and what they may do, against redis-server's.

Redis 7.0 rewrites the rules about commands where 7.2 keeps them as they came, so that these are compared by what they
allow; and its denials are in other words.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resp_reader import read_replies

from .peers import Kora, RedisServer, request
from .profile import examples
from .words_acl import REQUESTS, RULES

_DENIAL = re.compile(rb"^(This user|User u) ")


def _user(reply: bytes) -> object:
    """What ACL GETUSER says, without what 7.0 says in other words."""
    [fields] = read_replies(reply)
    if fields is None:
        return None
    user = dict(zip(fields[::2], fields[1::2], strict=True))
    user[b"flags"] = sorted(set(user[b"flags"]) - {b"sanitize-payload"})
    del user[b"commands"]
    user[b"selectors"] = [dict(zip(one[::2], one[1::2], strict=True)) for one in user[b"selectors"]]
    for selector in user[b"selectors"]:
        del selector[b"commands"]
    return user


def _verdict(reply: bytes) -> object:
    [verdict] = read_replies(reply)
    return _DENIAL.sub(b"", verdict) if isinstance(verdict, bytes) else str(verdict)


@given(requests=st.lists(st.lists(RULES, max_size=6), min_size=1, max_size=4))
@examples(300)
def test_users_come_out_the_same_and_may_do_the_same(redis: RedisServer, requests: list[list[bytes]]) -> None:
    redis.run("ACL", "DELUSER", "u")
    kora = Kora()
    for rules in requests:
        words = ("ACL", "SETUSER", "u", *rules)
        assert kora.run(*words) == redis.run(*words), words
        shown = ("ACL", "GETUSER", "u")
        assert _user(kora.run(*shown)) == _user(redis.run(*shown)), requests
    for words in REQUESTS:
        asked = ("ACL", "DRYRUN", "u", *words)
        assert _verdict(kora.run(*asked)) == _verdict(redis.run(*asked)), (requests, words)


@given(requests=st.lists(st.lists(RULES, max_size=6), min_size=1, max_size=4))
@examples(100)
def test_what_acl_list_shows_makes_the_same_user_again(requests: list[list[bytes]]) -> None:
    kora = Kora()
    for rules in requests:
        kora.run("ACL", "SETUSER", "u", *rules)
    [lines] = read_replies(kora.run("ACL", "LIST"))
    if len(lines) == 1:
        return  # no rule was right
    words = lines[1].split(b" ")
    assert words[:2] == [b"user", b"u"]
    if any(pattern in lines[1] for pattern in (b"~ ", b"& ", b"~)", b"&)")):
        return  # an empty pattern cannot be told from a blank
    kora.run("ACL", "DELUSER", "u")
    assert kora.run("ACL", "SETUSER", "u", *words[2:]) == b"+OK\r\n"
    assert read_replies(kora.run("ACL", "LIST")) == [lines]


@pytest.mark.parametrize(
    "words",
    [
        ("ACL", "WHOAMI"), ("ACL", "USERS"), ("ACL", "CAT"), ("ACL", "CAT", "nope"), ("ACL", "CAT", "a", "b"),
        ("ACL", "GENPASS", "0"), ("ACL", "GENPASS", "x"), ("ACL", "GENPASS", "1", "2"), ("ACL", "GENPASS", "4097"),
        ("ACL", "LOG", "x"), ("ACL", "LOG", "1", "2"), ("ACL", "LOG", "RESET"), ("ACL", "LOG", "-1"), ("ACL", "LOAD"),
        ("ACL", "SAVE"), ("ACL", "GETUSER", "nobody"), ("ACL", "DELUSER", "nobody"), ("ACL", "DELUSER", "default"),
        ("ACL", "DRYRUN", "nobody", "GET"), ("ACL", "DRYRUN", "default", "NOPE"), ("ACL", "DRYRUN", "default", "GET"),
        ("ACL", "DRYRUN", "default", "CONFIG"), ("ACL", "DRYRUN", "default", "CONFIG", "NOPE"), ("ACL", "NOPE"),
        ("ACL",), ("ACL", "SETUSER", "a b"), ("ACL", "SETUSER", "u", "(+get", "~a"), ("AUTH", "x"), ("AUTH", "u", "x"),
        ("CLIENT", "KILL", "USER", "nobody"), ("CLIENT", "NO-EVICT", "MAYBE"), ("CLIENT", "NO-EVICT", "ON"),
        ("CLIENT", "TRACKING", "MAYBE"), ("CLIENT", "TRACKING", "ON", "REDIRECT", "0"), ("CLIENT", "TRACKING", "OFF"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_replies_and_mistakes_are_the_same(redis: RedisServer, words: tuple[str, ...]) -> None:
    redis.run("ACL", "DELUSER", "u")
    with redis.connect() as theirs:
        assert Kora().run(*words) == theirs.exchange(request(*words))[0]
