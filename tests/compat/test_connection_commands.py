"""Random programs over what one connection is: protocol, name, replies, password, database.

A program is compared as one stream, since CLIENT REPLY takes replies away.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .compare import show
from .peers import Kora, RedisServer, requests
from .profile import examples
from .quirks import is_quirky
from .words import Step, options, programs, words

_names = st.sampled_from((b"", b"app", b"a b", b"x\n", b"\xff", b"n" * 70))
_ids = st.sampled_from((b"0", b"-1", b"x", b"999999999", b"9223372036854775808"))

CONNECTION = {
    "PING": words("PING", options(st.just([b"hello"]), st.just([b"\x00\r\n"]), max_size=2)),
    "ECHO": words("ECHO", _names),
    "SELECT": words("SELECT", st.sampled_from((b"0", b"1", b"3", b"4", b"-1", b"x"))),
    "SET": words("SET", "k", _names),
    "GET": words("GET", "k"),
    "QUIT": words("QUIT", options(st.just([b"x"]), max_size=1)),
    "RESET": words("RESET"),
    "HELLO": words(
        "HELLO",
        options(
            st.sampled_from((b"2", b"3", b"3", b"1", b"4", b"x", b"")).map(lambda word: [word]),
            words("SETNAME", _names),
            words("AUTH", "default", "x"),
            words("AUTH", "somebody", "x"),
            words("FOO"),
        ),
    ),
    "AUTH": words("AUTH", options(st.sampled_from((b"default", b"x", b"somebody", b"")).map(lambda word: [word]))),
    "CLIENT SETNAME": words("CLIENT", "SETNAME", _names),
    "CLIENT GETNAME": words("CLIENT", "GETNAME"),
    "CLIENT ID": words("CLIENT", "ID"),
    "CLIENT REPLY": words("CLIENT", "REPLY", st.sampled_from((b"ON", b"OFF", b"SKIP", b"SKIP", b"MAYBE"))),
    "CLIENT GETREDIR": words("CLIENT", "GETREDIR"),
    "CLIENT TRACKINGINFO": words("CLIENT", "TRACKINGINFO"),
    "CLIENT CACHING": words("CLIENT", "CACHING", st.sampled_from((b"YES", b"NO"))),
    "CLIENT KILL": words("CLIENT", "KILL", st.sampled_from((b"127.0.0.1:1", b"x")))
    | words("CLIENT", "KILL", words("ID", _ids), options(words("ID", _ids), words("SKIPME", "MAYBE"), words("TYPE",
    "x"))),
    "CLIENT UNBLOCK": words("CLIENT", "UNBLOCK", _ids, options("TIMEOUT", "ERROR", "FOO", max_size=2)),
    "CLIENT UNPAUSE": words("CLIENT", "UNPAUSE"),
    "CLIENT LIST": words("CLIENT", "LIST", st.sampled_from((b"TYPE", b"ID", b"FOO")), st.sampled_from((b"x",
        b"pubsub", b"replica"))),
    "CLIENT": words("CLIENT", options("FOO", "", max_size=2)),
    "unknown": words(st.sampled_from((b"FOO", b"get ", b"\xff\xfe", b"a\r\nb", b"x" * 200)),
        options(st.just([b"y" * 100]), st.just([b"z\r\n"]))),
}  # fmt: skip

# What a server says of itself in HELLO.
_OWN = re.compile(rb"(\$7\r\nversion\r\n)\$\d+\r\n[^\r]*\r\n")
_END: Step = (b"CLIENT", b"REPLY", b"ON")


def _without_quirks(program: list[Step]) -> list[Step]:
    silent = any(step[-1].upper() in (b"OFF", b"SKIP") for step in program)
    return [step for step in program if not is_quirky(step) and not (silent and step[0].upper() == b"QUIT")]


@given(program=programs(CONNECTION, max_size=20))
@examples(1000)
def test_programs_of_connection_commands_give_the_same_stream(redis: RedisServer, program: list[Step]) -> None:
    program = _without_quirks(program)
    redis.reset()
    kora = Kora(now_us=redis.now_us())
    data = requests([*program, _END])
    with redis.connect() as connection:
        identity, _ = connection.exchange(requests([(b"CLIENT", b"ID")]))
        kora.take_id(int(identity[1:]))
        expected, expected_closed = connection.exchange(data)
    found, found_closed = kora.exchange(data)
    expected, found = (_OWN.sub(rb"\1", replies) for replies in (expected, found))
    assert (found, found_closed) == (expected, expected_closed), "\n".join(map(show, program))


def test_the_fields_of_client_info_are_those_of_redis_and_the_library(redis: RedisServer) -> None:
    def names(reply: bytes) -> list[bytes]:
        line = reply.split(b"\r\n")[1].strip()
        return [field.split(b"=")[0] for field in line.split(b" ")]

    with redis.connect() as connection:
        expected = names(connection.exchange(requests([(b"CLIENT", b"INFO")]))[0])
    found = names(Kora().run("CLIENT", "INFO"))
    # lib-name and lib-ver came with Redis 7.2.
    assert found == [*expected, b"lib-name", b"lib-ver"]


@pytest.mark.parametrize(
    "words",
    [
        ("HELLO", "3", "SETNAME", "app", "AUTH", "default", "any"),
        ("HELLO", "2", "auth", "default", "any", "setname", "app"),
        ("HELLO", "3", "SETNAME", "app", "SETNAME", "other"),
        ("HELLO", "3", "SETNAME"),
        ("HELLO", "3", "AUTH", "default"),
        ("HELLO", "SETNAME", "app"),
    ],
)
def test_options_of_hello_combine(redis: RedisServer, words: tuple[str, ...]) -> None:
    kora = Kora()
    data = requests([words, ("CLIENT", "GETNAME"), ("GET", "nonesuch")])
    with redis.connect() as connection:
        kora.take_id(int(connection.exchange(requests([(b"CLIENT", b"ID")]))[0][1:]))
        expected, _ = connection.exchange(data)
    assert _OWN.sub(rb"\1", kora.exchange(data)[0]) == _OWN.sub(rb"\1", expected)


def test_reset_after_reply_skip_is_not_answered(redis: RedisServer) -> None:
    data = requests([("CLIENT", "REPLY", "SKIP"), ("RESET",), ("PING",)])
    with redis.connect() as connection:
        assert Kora().exchange(data) == connection.exchange(data)


def test_reset_ends_reply_off(redis: RedisServer) -> None:
    data = requests([("CLIENT", "REPLY", "OFF"), ("PING",), ("RESET",), ("PING",)])
    with redis.connect() as connection:
        assert Kora().exchange(data) == connection.exchange(data)
