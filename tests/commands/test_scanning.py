"""SCAN and its relatives: what is there from the first step to the last is returned, whatever happens meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.errors import CommandError
from tests.conftest import runner

_REGISTRY = make_registry()


@dataclass(frozen=True)
class Collection:
    """How elements, which are numbers, are put in, taken out, and read off a step."""

    scan: tuple[str, ...]
    add: Callable[[list[int]], tuple[object, ...]]
    remove: Callable[[list[int]], tuple[object, ...]]
    step: int  # an element is every so many items of a reply


COLLECTIONS = {
    "keys": Collection(
        ("SCAN",), lambda n: ("MSET", *(word for x in n for word in (x, "v"))), lambda n: ("DEL", *n), 1
    ),
    "hash": Collection(
        ("HSCAN", "c"), lambda n: ("HSET", "c", *(word for x in n for word in (x, "v"))), lambda n: ("HDEL", "c", *n), 2
    ),
    "set": Collection(("SSCAN", "c"), lambda n: ("SADD", "c", *n, "text"), lambda n: ("SREM", "c", *n), 1),
    "zset": Collection(
        ("ZSCAN", "c"),
        lambda n: ("ZADD", "c", *(word for x in n for word in (x % 7, x))),
        lambda n: ("ZREM", "c", *n),
        2,
    ),
}

# What happens between two steps: numbers from one to another come or go.
_changes = st.lists(
    st.tuples(st.booleans(), st.integers(0, 60).map(lambda n: 50 * n), st.integers(1, 1500)), max_size=8
)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_what_stays_is_returned_while_tables_grow_and_shrink(name: str) -> None:
    collection = COLLECTIONS[name]

    @given(size=st.integers(1, 1200), count=st.integers(1, 60), changes=_changes)
    @settings(max_examples=15)
    def check(size: int, count: int, changes: list[tuple[bool, int, int]]) -> None:
        run = make_runner()
        run(*collection.add(list(range(size))))
        staying = set(range(0, size, 3))
        found: set[int] = set()
        cursor, pending, steps = b"0", list(changes), 0
        while steps == 0 or cursor != b"0":
            cursor, items = run(*collection.scan, cursor, "COUNT", count)
            found.update(int(item) for item in items[:: collection.step] if item.isdigit())
            steps += 1
            # No end comes to whoever adds faster than it is read; so changes do come to an end.
            if pending:
                adding, first, length = pending.pop()
                numbers = [n for n in range(first, first + length) if n not in staying]
                run(*(collection.add if adding else collection.remove)(numbers or [10_000]))
        assert staying <= found
        assert steps <= 10_000

    check()


def make_runner() -> Callable[..., Any]:
    engine = Engine(Config.load([], {}), _REGISTRY, ManualClock(), kernel=kernel.load())
    return runner(engine.connect())


def test_scan_by_type_finds_every_kind(run: Callable[..., Any]) -> None:
    run("SET", "a string", "v")
    run("RPUSH", "a list", "v")
    run("SADD", "a set", "v")
    run("ZADD", "a zset", "1", "v")
    run("HSET", "a hash", "f", "v")
    run("XADD", "a stream", "1-1", "f", "v")
    run("PFADD", "another string", "v")
    run("GEOADD", "another zset", "1", "1", "v")
    run("SETBIT", "a third string", "1", "1")
    for kind, others in (("string", 2), ("list", 0), ("set", 0), ("zset", 1), ("hash", 0), ("stream", 0)):
        cursor, keys = run("SCAN", "0", "TYPE", kind, "COUNT", "1000")
        assert cursor == b"0"
        assert f"a {kind}".encode() in keys
        assert len(keys) == 1 + others
        assert run("SCAN", "0", "TYPE", kind.upper(), "COUNT", "1000", "MATCH", "a ?*")[1]


@pytest.mark.parametrize("words", [("SSCAN", "s"), ("ZSCAN", "z"), ("HSCAN", "h")], ids=lambda words: words[0])
def test_options_of_scans_of_values(run: Callable[..., Any], words: tuple[str, str]) -> None:
    run("SADD", "s", "ab", "b")
    run("ZADD", "z", "1", "ab", "2", "b")
    run("HSET", "h", "ab", "1", "b", "2")
    pairs = words[0] != "SSCAN"
    assert run(*words, "0", "MATCH", "a*") == [b"0", [b"ab", b"1"] if pairs else [b"ab"]]
    assert run(*words, "0", "COUNT", "1", "MATCH", "nothing") == [b"0", []]
    for wrong, message in (
        (("TYPE", "set"), "ERR syntax error"),
        (("COUNT", "0"), "ERR syntax error"),
        (("COUNT", "x"), "ERR value is not an integer or out of range"),
        (("COUNT",), "ERR syntax error"),
        (("MATCH",), "ERR syntax error"),
        (("NOSUCH", "1"), "ERR syntax error"),
    ):
        with pytest.raises(CommandError) as caught:
            run(*words, "0", *wrong)
        assert caught.value.message == message, wrong
    if words[0] == "HSCAN":
        assert run(*words, "0", "NOVALUES") == [b"0", [b"ab", b"b"]]
    else:
        with pytest.raises(CommandError, match="NOVALUES option can only be used in HSCAN"):
            run(*words, "0", "NOVALUES")
