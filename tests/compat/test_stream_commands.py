"""Random programs over streams and consumer groups: Kora's replies, numbers and data against redis-server's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import Step
from .words_streams import ADDING, GROUP_COMMANDS, LAG, OTHERS, STREAMS, programs

protocols = st.sampled_from((2, 3))


@given(program=programs({**STREAMS, **OTHERS}), protocol=protocols)
@examples(1000)
def test_programs_of_stream_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@given(program=programs({**GROUP_COMMANDS, **ADDING}, max_size=40), protocol=protocols)
@examples(2000)
def test_programs_of_consumer_groups_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@given(program=programs(LAG), protocol=protocols)
@examples(1000)
def test_groups_are_as_far_behind(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@given(program=programs({**GROUP_COMMANDS, **STREAMS, **OTHERS}, max_size=40), protocol=protocols)
@examples(1000)
def test_programs_of_all_stream_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


@pytest.mark.parametrize("name", sorted({**STREAMS, **GROUP_COMMANDS}))
def test_each_command_in_many_forms(redis: RedisServer, name: str) -> None:
    table = {"it": {**STREAMS, **GROUP_COMMANDS}[name], "read": GROUP_COMMANDS["XREADGROUP"], "add": STREAMS["XADD"]}

    @given(program=programs(table, max_size=15), protocol=protocols)
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, program, protocol=protocol)

    check()
