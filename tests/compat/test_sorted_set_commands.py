"""Random programs over sorted sets and geo indexes: Kora's replies, numbers and data against redis-server's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.commands import make_registry

from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import KEYS, Step, programs
from .words_sorted_sets import GEO, LEX, OTHERS, SORTED_SETS

protocols = st.sampled_from((2, 3))

# Keys that hold something make most commands more interesting.
_FILL = {"fill": SORTED_SETS["ZADD"], "fill again": SORTED_SETS["ZADD"]}
# All that the sorted sets hold at the end of a program.
_SHOW: list[Step] = [step for key in KEYS for step in ((b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"), (b"ZCARD", key))]


@given(program=programs({**SORTED_SETS, **OTHERS, **_FILL}), protocol=protocols)
@examples(1000)
def test_programs_of_sorted_set_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


_COMBINING = {name: SORTED_SETS[name] for name in SORTED_SETS if name.startswith(("ZUNION", "ZINTER", "ZDIFF"))}
# Of integers, since small sets of others have another encoding in Redis 7.2 than in 7.0.
_SETS: list[Step] = [(b"SADD", b"b", b"10", b"7", b"1"), (b"SADD", b"{t}1", b"7", b"3"), (b"SADD", b"", b"2")]


@pytest.mark.skipif("sadd" not in make_registry().commands, reason="there are no sets yet")
@given(program=programs({**_COMBINING, **_FILL}), protocol=protocols)
@examples(500)
def test_programs_that_mix_sets_into_sorted_sets_do_the_same(
    redis: RedisServer, program: list[Step], protocol: int
) -> None:
    compare_program(redis, _SETS + program + _SHOW, protocol=protocol)


@given(program=programs({**LEX, "fill": LEX["ZADD"]}), protocol=protocols)
@examples(500)
def test_programs_of_ranges_of_members_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


@given(program=programs({**GEO, "fill": GEO["GEOADD"], "more": GEO["GEOADD"]}), protocol=protocols)
@examples(1000)
def test_programs_of_geo_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


@given(program=programs({**GEO, **SORTED_SETS, **OTHERS}), protocol=protocols)
@examples(500)
def test_programs_of_geo_commands_over_any_scores_do_the_same(
    redis: RedisServer, program: list[Step], protocol: int
) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


@pytest.mark.parametrize("name", sorted(SORTED_SETS))
def test_each_command_in_many_forms(redis: RedisServer, name: str) -> None:
    @given(
        program=programs({"it": SORTED_SETS[name], "again": SORTED_SETS[name], **_FILL}, max_size=15),
        protocol=protocols,
    )
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, program + _SHOW, protocol=protocol)

    check()


@pytest.mark.parametrize("name", sorted(GEO))
def test_each_geo_command_in_many_forms(redis: RedisServer, name: str) -> None:
    table = {"it": GEO[name], "again": GEO[name], "fill": GEO["GEOADD"], "more": GEO["GEOADD"]}

    @given(program=programs(table, max_size=15), protocol=protocols)
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, program + _SHOW, protocol=protocol)

    check()


@pytest.mark.parametrize("protocol", [2, 3])
def test_blocking_pops_of_what_is_there(redis: RedisServer, protocol: int) -> None:
    lines = """
        ZADD a 1 m 2 n 3 o 4 p 5 q
        BZPOPMIN b a 0
        BZPOPMAX b a 0.5
        BZMPOP 0 2 b a MIN COUNT 2
        BZMPOP 1e1 1 a max
        SET a text
        BZPOPMIN a 0
        BZMPOP 0 1 a MIN
        BZPOPMIN a x
        BZPOPMIN a -1
        BZMPOP x 1 a MIN
        BZMPOP -1 1 a MIN
        BZMPOP -1 0 a MIN
        BZMPOP 0 1 a MIN COUNT 0
        BZMPOP 0 1 a FOO
        BZMPOP 0 2 a MIN
    """
    program = [tuple(line.encode().split()) for line in lines.strip().splitlines()]
    compare_program(redis, program, protocol=protocol)


_digits = st.text("0123456789", max_size=25)
_signs = st.sampled_from(["", "", "-", "+", " "])
_numbers = st.one_of(
    st.builds(
        "{}{}{}{}{}".format,
        _signs,
        _digits,
        st.sampled_from(["", "."]),
        _digits,
        st.sampled_from(
            ["", "", "e5", "E-7", "e+20", "e308", "e309", "e-308", "e-320", "e-330", "e99999999999", "e", " "]
        ),
    ),
    st.builds(
        "{}0x{}{}{}{}".format,
        _signs,
        st.text("0123456789abcDEF", max_size=20),
        st.sampled_from(["", "."]),
        st.text("0123456789abcDEF", max_size=20),
        st.sampled_from(["", "p3", "P-70", "p", "p1020", "p1024", "p-1074", "p-1100"]),
    ),
    st.floats().map(repr),
    st.sampled_from(
        ["inf", "-INF", "infinity", "nan", "0", "-0", "0e999", "1\x00", "\x001", "\t1", "1\n", "(1", "", "("]
    ),
).map(str.encode)


@given(word=_numbers)
@examples(1500)
def test_scores_and_ends_of_ranges_are_read_as_redis_does(redis: RedisServer, word: bytes) -> None:
    program = [(b"ZADD", b"a", b"5", b"m", b"0", b"n"), (b"ZADD", b"a", word, b"o"), (b"ZSCORE", b"a", b"o")]
    program += [(b"ZRANGEBYSCORE", b"a", word, b"inf"), (b"ZCOUNT", b"a", b"(" + word, b"inf")]
    program += [(b"ZUNION", b"1", b"a", b"WEIGHTS", word, b"WITHSCORES")]
    compare_program(redis, program)
