"""Random programs over lists, and SORT: Kora's replies, numbers and data against redis-server's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import GENERIC, KEYS, Step, programs
from .words_lists import BLOCKING, FILL, LISTS, SORTING

protocols = st.sampled_from((2, 3))
_GENERIC = {name: GENERIC[name] for name in ("DEL", "TYPE", "RENAME", "COPY", "EXPIRE", "MOVE", "PERSIST", "SCAN")}
# What is in the lists at the end.
_CONTENTS: list[Step] = [(b"LRANGE", key, b"0", b"-1") for key in KEYS]


@given(program=programs({**LISTS, **FILL}), protocol=protocols)
@examples(1000)
def test_programs_of_list_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _CONTENTS, protocol=protocol)


@given(program=programs({**LISTS, **_GENERIC, **FILL}), protocol=protocols)
@examples(500)
def test_programs_of_list_and_key_commands_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program + _CONTENTS, protocol=protocol)


@given(program=programs({**BLOCKING, **FILL}), protocol=protocols)
@examples(500)
def test_blocking_commands_do_not_wait_in_a_transaction(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, [(b"MULTI",), *program, (b"EXEC",), *_CONTENTS], protocol=protocol)


@pytest.mark.parametrize("name", sorted({**LISTS, **SORTING}))
def test_each_command_in_many_forms(redis: RedisServer, name: str) -> None:
    table = {**LISTS, **SORTING}
    mixed = {"it": table[name], "again": table[name], **FILL}

    @given(program=programs(mixed, max_size=15), protocol=protocols)
    @examples(60)
    def check(program: list[Step], protocol: int) -> None:
        compare_program(redis, program + _CONTENTS, protocol=protocol)

    check()
