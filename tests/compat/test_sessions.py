"""Transactions, channels and keyspace notifications: random programs over connections that run by turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .peers import RedisServer
from .profile import examples
from .sessions import Turn, compare_sessions
from .words import DATABASES, GENERIC, KEYS, STRINGS, Step, Word, assemble, options, some, steps, words

_protocols = st.sampled_from((2, 3))
# Replies that time or chance has a say in; inside an EXEC they could not be told from others.
_UNLIKE = frozenset(("TTL", "PTTL", "KEYS", "SCAN", "RANDOMKEY", "OBJECT IDLETIME", "OBJECT FREQ", "OBJECT ENCODING",
    "OBJECT REFCOUNT"))  # fmt: skip
# As EX 1000 gives a deadline that differs by milliseconds between the servers, so are these.
_TELLING = frozenset(("EXPIRETIME", "PEXPIRETIME"))

_few = st.sampled_from(KEYS[:3])
_DATA = {name: strategy for name, strategy in {**STRINGS, **GENERIC}.items() if name not in _UNLIKE | _TELLING}

TRANSACTIONS: dict[str, st.SearchStrategy[list[Word]]] = {
    "MULTI": words("MULTI"),
    "EXEC": words("EXEC"),
    "DISCARD": words("DISCARD"),
    "WATCH": words("WATCH", some(_few)),
    "UNWATCH": words("UNWATCH"),
}
_CHANGES: dict[str, st.SearchStrategy[list[Word]]] = {
    "SET": words("SET", _few, st.sampled_from((b"1", b"x", b"")), options(words("PX", "100000000"), max_size=1)),
    "PXAT": words("SET", _few, "v", "PXAT", "1"),  # over at once
    "DEL": words("DEL", _few),
    "RENAME": words("RENAME", _few, _few),
    "COPY": words("COPY", _few, _few, "REPLACE"),
    "MOVE": words("MOVE", _few, "1"),
    "INCR": words("INCR", _few),
    "APPEND": words("APPEND", _few, st.sampled_from((b"", b"x"))),
    "SETRANGE": words("SETRANGE", _few, "0", st.sampled_from((b"", b"x"))),
    "EXPIRE": words("PEXPIREAT", _few, st.sampled_from((b"1", b"4102444800000"))),
    "PERSIST": words("PERSIST", _few),
    "GETEX": words("GETEX", _few, options("PERSIST", max_size=1)),
    "GETDEL": words("GETDEL", _few),
    "GET": words("GET", _few),
    "MSET": words("MSET", _few, "1", _few, "2"),
    "SELECT": words("SELECT", st.sampled_from((b"0", b"1"))),
    "SWAPDB": words("SWAPDB", "0", "1"),
    "FLUSHDB": words("FLUSHDB"),
    "FLUSHALL": words("FLUSHALL"),
}  # fmt: skip

_channels = st.sampled_from((b"a", b"b", b"ab", b"", b"\x00\r\n\xff"))
_patterns = st.sampled_from((b"a*", b"*", b"[ab]", b"b", b"?", b"", b"a\\*"))
_messages = st.sampled_from((b"", b"hello", b"\r\n\x00", b"x" * 200))

PUBSUB: dict[str, st.SearchStrategy[list[Word]]] = {
    "SUBSCRIBE": words("SUBSCRIBE", some(_channels, max_size=3)),
    "UNSUBSCRIBE": words("UNSUBSCRIBE", some(_channels, min_size=0, max_size=2)),
    "PSUBSCRIBE": words("PSUBSCRIBE", some(_patterns, max_size=3)),
    "PUNSUBSCRIBE": words("PUNSUBSCRIBE", some(_patterns, min_size=0, max_size=2)),
    "SSUBSCRIBE": words("SSUBSCRIBE", some(_channels, max_size=3)),
    "SUNSUBSCRIBE": words("SUNSUBSCRIBE", some(_channels, min_size=0, max_size=2)),
    "PUBLISH": words("PUBLISH", _channels, _messages),
    "SPUBLISH": words("SPUBLISH", _channels, _messages),
    "PUBSUB CHANNELS": words("PUBSUB", "CHANNELS", some(_patterns, min_size=0, max_size=1)),
    "PUBSUB NUMSUB": words("PUBSUB", "NUMSUB", some(_channels, min_size=0)),
    "PUBSUB NUMPAT": words("PUBSUB", "NUMPAT"),
    "PUBSUB SHARDCHANNELS": words("PUBSUB", "SHARDCHANNELS", some(_patterns, min_size=0, max_size=1)),
    "PUBSUB SHARDNUMSUB": words("PUBSUB", "SHARDNUMSUB", some(_channels, min_size=0)),
}
_AROUND = {
    "PING": words("PING", options(st.just([b"hello"]), max_size=2)),
    "GET": words("GET", "a"),
    "RESET": words("RESET"),
    "unknown": words("FOO"),
}


def _programs(
    table: dict[str, st.SearchStrategy[list[Word]]], connections: int, max_size: int = 40
) -> st.SearchStrategy[list[Turn]]:
    """Steps, each with its connection."""

    def spread(turns: list[tuple[int, list[Word]]]) -> list[Turn]:
        program: list[Step] = assemble([step for _, step in turns])
        return [(index, step) for (index, _), step in zip(turns, program, strict=True)]

    turn = st.tuples(st.integers(0, connections - 1), steps(table))
    return st.lists(turn, min_size=1, max_size=max_size).map(spread)


@given(
    program=_programs({**TRANSACTIONS, **_CHANGES, "again": TRANSACTIONS["MULTI"], "end": TRANSACTIONS["EXEC"]}, 3),
    protocols=st.tuples(_protocols, _protocols, _protocols),
)
@examples(500)
def test_transactions_of_several_clients_do_the_same(
    redis: RedisServer, program: list[Turn], protocols: tuple[int, ...]
) -> None:
    compare_sessions(redis, program, protocols)


@given(program=_programs({**_DATA, **DATABASES, **TRANSACTIONS}, 2), protocols=st.tuples(_protocols, _protocols))
@examples(300)
def test_any_command_in_a_transaction_does_the_same(
    redis: RedisServer, program: list[Turn], protocols: tuple[int, ...]
) -> None:
    compare_sessions(redis, program, protocols)


@pytest.mark.parametrize("name", sorted(_CHANGES))
def test_a_watched_key_and_each_command(redis: RedisServer, name: str) -> None:
    """What counts as a change, with and without something to change."""

    @given(before=st.lists(steps(_CHANGES), max_size=4), step=_CHANGES[name], protocol=_protocols)
    @examples(30)
    def check(before: list[list[Word]], step: list[Word], protocol: int) -> None:
        program: list[list[Word]] = [*before, [b"SELECT", b"0"]]
        turns = [(1, argv) for argv in assemble(program)]
        turns += [
            (0, (b"WATCH", *KEYS[:2])),
            (1, assemble([step])[0]),
            (0, (b"MULTI",)),
            (0, (b"PING",)),
            (0, (b"EXEC",)),
        ]
        compare_sessions(redis, turns, (protocol, 2))

    check()


@given(
    program=_programs({**PUBSUB, **_AROUND, "speak": PUBSUB["PUBLISH"], "listen": PUBSUB["PSUBSCRIBE"]}, 3),
    protocols=st.tuples(_protocols, _protocols, _protocols),
)
@examples(500)
def test_messages_and_their_order_are_the_same(
    redis: RedisServer, program: list[Turn], protocols: tuple[int, ...]
) -> None:
    compare_sessions(redis, program, protocols)


_FLAGS = ("KEA", "KEAmn", "AKE", "K$g", "Exm", "En", "Kmn", "KEx", "KE", "A", "E$", "Kg", "")


@given(
    program=_programs({**_DATA, **_CHANGES, **DATABASES}, 1, 30),
    protocols=st.tuples(_protocols, _protocols),
    flags=st.sampled_from((*_FLAGS, "KEA", "KEAmn", "KEAmn", "KEAmn")),
    multi=st.booleans(),
)
@examples(800)
def test_events_of_keys_are_the_same_and_in_the_same_order(
    redis: RedisServer, program: list[Turn], protocols: tuple[int, ...], flags: str, multi: bool
) -> None:
    turns: list[Turn] = [(1, (b"PSUBSCRIBE", b"__key*__:*"))]
    if multi:
        turns += [(0, (b"MULTI",)), *program, (0, (b"EXEC",))]
    else:
        turns += program
    compare_sessions(redis, turns, protocols, {"notify-keyspace-events": flags})
