"""COMMAND GETKEYS and GETKEYSANDFLAGS of requests of every kind, right and wrong ones: Kora's answers and Redis'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .compare import show, split_replies
from .peers import Kora, RedisServer, requests
from .profile import examples
from .quirks import is_quirky
from .test_coverage import TABLES
from .words import Step, keys, programs, words

_counts = st.sampled_from((b"0", b"1", b"2", b"3", b"-1", b"x", b"", b"99999999999999999999", b"2147483648"))
_more = st.lists(keys, max_size=4)


def _mix(*choices: str) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.sampled_from([choice.encode() for choice in choices]), max_size=6)


# Commands that no random program has, or whose keys are found by more than the words of one that is right.
_OTHERS = {
    "EVAL": words("EVAL", "return 1", _counts, _more),
    "EVALSHA": words("EVALSHA", "ab", _counts, _more),
    "EVAL_RO": words("EVAL_RO", "return 1", _counts, _more),
    "EVALSHA_RO": words("EVALSHA_RO", "ab", _counts, _more),
    "FCALL": words("FCALL", "f", _counts, _more),
    "FCALL_RO": words("FCALL_RO", "f", _counts, _more),
    "ZUNION": words("ZUNION", _counts, _more),
    "ZUNIONSTORE": words("ZUNIONSTORE", keys, _counts, _more, st.sampled_from(("WEIGHTS", "AGGREGATE"))),
    "SINTERCARD": words("SINTERCARD", _counts, _more, st.sampled_from(("LIMIT", "1"))),
    "LMPOP": words("LMPOP", _counts, _more, st.sampled_from(("LEFT", "COUNT"))),
    "BLMPOP": words("BLMPOP", "0", _counts, _more, st.sampled_from(("LEFT", "COUNT"))),
    "BZMPOP": words("BZMPOP", "0", _counts, _more, st.sampled_from(("MIN", "COUNT"))),
    "BZPOPMIN": words("BZPOPMIN", _more, "0"),
    "XREAD": words("XREAD", _mix("STREAMS", "COUNT", "streams", "1", "k", "$")),
    "XREADGROUP": words(
        "XREADGROUP",
        "GROUP",
        "g",
        "c",
        _mix("STREAMS", "COUNT", "GROUP", "1", "k", ">"),
    ),
    "SORT": words("SORT", keys, _mix("STORE", "BY", "GET", "LIMIT", "0", "k")),
    "GEORADIUS": words(
        "GEORADIUS", keys, "1", "1", "1", "m",
        _mix("STORE", "STOREDIST", "COUNT", "ASC", "k"),
    ),
    "GEORADIUSBYMEMBER": words(
        "GEORADIUSBYMEMBER", keys, "m", "1", "m",
        _mix("STORE", "STOREDIST", "COUNT", "ASC", "k"),
    ),
    "SET": words("SET", keys, "v", _mix("GET", "get", "NX", "EX", "1")),
    "BITFIELD": words("BITFIELD", keys, _mix("GET", "SET", "u8", "0", "INCRBY")),
    "BITOP": words("BITOP", "AND", _more),
    "OBJECT": words("OBJECT", st.sampled_from(("ENCODING", "HELP", "NOSUCH")), _more),
    "MEMORY USAGE": words("MEMORY", "USAGE", _more),
    "XINFO": words("XINFO", st.sampled_from(("STREAM", "HELP")), _more),
    "XGROUP": words("XGROUP", st.sampled_from(("CREATE", "DESTROY", "HELP")), _more),
    "SPUBLISH": words("SPUBLISH", _more),
    "SSUBSCRIBE": words("SSUBSCRIBE", _more),
    "SUBSCRIBE": words("SUBSCRIBE", _more),
    "WATCH": words("WATCH", _more),
}  # fmt: skip


def _as_question(step: Step) -> list[Step]:
    return [(b"COMMAND", b"GETKEYS", *step), (b"COMMAND", b"GETKEYSANDFLAGS", *step)]


@pytest.mark.parametrize("table", [*TABLES, _OTHERS], ids=lambda table: next(iter(table)).lower().replace(" ", "-"))
def test_the_keys_of_a_request_are_where_redis_finds_them(redis: RedisServer, table: dict) -> None:  # type: ignore[type-arg]
    kora = Kora()

    @given(program=programs(table))
    @examples(200)
    def check(program: list[Step]) -> None:
        questions = [question for step in program for question in _as_question(step)]
        data = requests(questions)
        with redis.connect() as connection:
            expected, _ = connection.exchange(data)
        found, _ = kora.exchange(data)
        faults = [
            f"{show(question)}\n    redis: {theirs!r}\n    kora:  {ours!r}"
            for question, theirs, ours in zip(questions, split_replies(expected), split_replies(found), strict=True)
            if theirs != ours and not is_quirky(question[2:])
        ]
        assert not faults, "\n".join(faults[:5])

    check()
