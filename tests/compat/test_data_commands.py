"""Random programs over strings, keys and databases: Kora's replies, numbers and data against redis-server's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import DATABASES, GENERIC, STRINGS, Step, programs

protocols = st.sampled_from((2, 3))
# Keys that hold something make most commands more interesting.
_FILL = {name: STRINGS[name] for name in ("SET", "MSET", "APPEND", "SETEX")}


@given(program=programs(STRINGS), protocol=protocols)
@examples(1000)
def test_programs_of_string_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@given(program=programs({**GENERIC, **_FILL}), protocol=protocols)
@examples(1000)
def test_programs_of_key_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@given(program=programs({**STRINGS, **GENERIC, **DATABASES, **_FILL}, max_size=40), protocol=protocols)
@examples(1000)
def test_programs_over_several_databases_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@pytest.mark.parametrize("name", sorted({**STRINGS, **GENERIC, **DATABASES}))
def test_each_command_in_many_forms(redis: RedisServer, name: str) -> None:
    table = {**STRINGS, **GENERIC, **DATABASES}
    mixed = {"it": table[name], "again": table[name], "fill": _FILL["SET"], "append": _FILL["APPEND"]}

    @given(program=programs(mixed, max_size=15), protocol=protocols)
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, program, protocol=protocol)

    check()
