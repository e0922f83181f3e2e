"""Random programs over all families at once: every kind of value under the same keys, in transactions and databases.

Most requests meet a value of another kind.  What a family's own test finds hard to compare is left to it: positions in
an index of places, ranges of members whose scores differ, random picks that change what is stored.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import compare
from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .test_hash_commands import is_alike as is_alike_hash
from .test_set_commands import is_left_to_chance, or_as_sets
from .test_sorting_commands import is_told_otherwise
from .words import DATABASES, GENERIC, KEYS, STRINGS, Step, Word, assemble, keys, some, steps, words
from .words_hashes import HASHES
from .words_lists import BLOCKING, LISTS, SORTING
from .words_sets import BITMAPS, HYPERLOGLOGS, SETS
from .words_sorted_sets import GEO, SORTED_SETS
from .words_streams import GROUP_COMMANDS, STREAMS, with_consumers

_TABLES = (STRINGS, GENERIC, DATABASES, HASHES, LISTS, SORTING, SETS, BITMAPS, HYPERLOGLOGS, SORTED_SETS, STREAMS, GEO)
_ALL = {f"{number} {name}": table[name] for number, table in enumerate(_TABLES) for name in table}
_GROUPS = {f"group {name}": strategy for name, strategy in GROUP_COMMANDS.items()}
_FILLING = (
    STRINGS["SET"], STRINGS["MSET"], HASHES["HSET"], LISTS["RPUSH"], SETS["SADD"], SORTED_SETS["ZADD"], STREAMS["XADD"],
)  # fmt: skip
_FILL = {f"fill {number}": _FILLING[number % len(_FILLING)] for number in range(10 * len(_FILLING))}
_TRANSACTIONS: dict[str, st.SearchStrategy[list[Word]]] = {
    **{f"MULTI {number}": words("MULTI") for number in range(10)},
    **{f"EXEC {number}": words("EXEC") for number in range(60)},
    "DISCARD": words("DISCARD"),
    **{f"WATCH {number}": words("WATCH", some(keys)) for number in range(6)},
    "UNWATCH": words("UNWATCH"),
}
_CONTENTS: list[Step] = [
    step
    for key in KEYS
    for step in (
        (b"HGETALL", key),
        (b"LRANGE", key, b"0", b"-1"),
        (b"SMEMBERS", key),
        (b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"),
        (b"XRANGE", key, b"-", b"+"),
    )
]
_END: list[Step] = [(b"DISCARD",), (b"SELECT", b"1"), *_CONTENTS, (b"SELECT", b"0"), *_CONTENTS]

# Of OBJECT ENCODING and REFCOUNT, see quirks.py: sorting a sorted set makes it a skiplist in Redis, and the copy of a
# small integer is not shared.
_QUIRKS = {(b"$8\r\nskiplist\r\n", b"$8\r\nlistpack\r\n"), (b":1\r\n", b":2147483647\r\n")}


@pytest.fixture(autouse=True)
def sets_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "is_alike", or_as_sets(compare.is_alike))


# Few keys, so that values of all kinds meet; and limits by which small values are large ones soon.
_FEWER = {key: KEYS[place % 3] for place, key in enumerate(KEYS)}
_SMALL: Step = (
    b"CONFIG", b"SET", b"hash-max-listpack-entries", b"2", b"zset-max-listpack-entries", b"2",
    b"set-max-intset-entries", b"2", b"list-max-listpack-size", b"2", b"stream-node-max-entries", b"2",
    b"hll-sparse-max-bytes", b"40",
)  # fmt: skip
_USUAL: Step = (
    b"CONFIG", b"SET", b"hash-max-listpack-entries", b"512", b"zset-max-listpack-entries", b"128",
    b"set-max-intset-entries", b"512", b"list-max-listpack-size", b"-2", b"stream-node-max-entries", b"100",
    b"hll-sparse-max-bytes", b"3000",
)  # fmt: skip


def _narrowed(program: list[Step]) -> list[Step]:
    return [_SMALL, *(tuple(_FEWER.get(word, word) for word in step) for step in program)]


def _prepared(program: list[Step]) -> list[Step]:
    # What waits only outside of transactions would wait in real time.
    steps = [step for step in program if not is_left_to_chance(step) and not is_told_otherwise(step, program)]
    return [*with_consumers(steps), *_END]


def _is_alike(step: Step, expected: bytes, found: bytes) -> bool:
    name = step[0].upper()
    if name == b"OBJECT" and (expected, found) in _QUIRKS:
        return True
    return name[:1] == b"H" and is_alike_hash(step, expected, found)


def _long_programs(table: dict[str, st.SearchStrategy[list[Word]]], length: int) -> st.SearchStrategy[list[Step]]:
    # Not of any length: most would be short, and values meet late.
    return st.lists(steps(table), min_size=length // 2, max_size=length).map(assemble)


programs_of_all_kinds = _long_programs({**_ALL, **_GROUPS, **_FILL, **_TRANSACTIONS}, 80)
_in_transaction = _long_programs({**_ALL, **_GROUPS, **_FILL, **BLOCKING}, 40)


@given(program=programs_of_all_kinds, protocol=st.sampled_from((2, 3)))
@examples(120)
def test_programs_over_all_kinds_of_values_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, _prepared(program), protocol=protocol, alike=_is_alike)


@given(program=programs_of_all_kinds, protocol=st.sampled_from((2, 3)))
@examples(80)
def test_programs_over_few_keys_with_small_limits_do_the_same(
    redis: RedisServer, program: list[Step], protocol: int
) -> None:
    try:
        compare_program(redis, _prepared(_narrowed(program)), protocol=protocol, alike=_is_alike)
    finally:
        redis.run(*_USUAL)


@given(before=_long_programs(_FILL, 20), program=_in_transaction, protocol=st.sampled_from((2, 3)))
@examples(80)
def test_transactions_over_all_kinds_of_values_do_the_same(
    redis: RedisServer, before: list[Step], program: list[Step], protocol: int
) -> None:
    compare_program(
        redis,
        _prepared([*before, (b"MULTI",), *program, (b"EXEC",)]),
        protocol=protocol,
        alike=_is_alike,
    )
