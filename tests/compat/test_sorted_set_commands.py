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

_KNOWN = make_registry().commands
_OTHERS = {name: strategy for name, strategy in OTHERS.items() if name.lower() in _KNOWN}
# Keys that hold something make most commands more interesting.
_FILL = {"fill": SORTED_SETS["ZADD"], "fill again": SORTED_SETS["ZADD"]}
# All that the sorted sets hold at the end of a program.
_SHOW: list[Step] = [step for key in KEYS for step in ((b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"), (b"ZCARD", key))]


@given(program=programs({**SORTED_SETS, **_OTHERS, **_FILL}), protocol=protocols)
@examples(1000)
def test_programs_of_sorted_set_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


@given(program=programs({**LEX, "fill": LEX["ZADD"]}), protocol=protocols)
@examples(500)
def test_programs_of_ranges_of_members_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


@given(program=programs({**GEO, "fill": GEO["GEOADD"], "more": GEO["GEOADD"]}), protocol=protocols)
@examples(1000)
def test_programs_of_geo_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _SHOW, protocol=protocol)


@given(program=programs({**GEO, **SORTED_SETS, **_OTHERS}), protocol=protocols)
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
