"""Random programs of SORT over all that it sorts: Kora's replies, numbers and data against redis-server's."""

from hypothesis import given
from hypothesis import strategies as st

from .compare import compare_program
from .peers import RedisServer
from .profile import examples
from .words import KEYS, Step, programs
from .words_lists import CONTAINERS, SORTING

protocols = st.sampled_from((2, 3))
# What is in the lists at the end.  Then nothing is, since encodings of sets are not this test's business.
_CONTENTS: list[Step] = [*((b"LRANGE", key, b"0", b"-1") for key in KEYS), (b"DEL", *KEYS)]


def is_told_otherwise(step: Step, program: list[Step]) -> bool:
    """A set that is not sorted comes in any order, and so do those of its elements that weigh the same."""
    words = [word.upper() for word in step]
    if words[0] not in (b"SORT", b"SORT_RO"):
        return False
    has_sets = any(other[0].upper() == b"SADD" for other in program)
    by = [after for word, after in zip(words, step[1:], strict=False) if word == b"BY"]
    return has_sets and any(b"ALPHA" in words or b"*" not in pattern for pattern in by)


@given(program=programs({**CONTAINERS, **SORTING}, max_size=20), protocol=protocols)
@examples(1000)
def test_programs_of_sorting_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    program = [step for step in program if not is_told_otherwise(step, program)]
    compare_program(redis, program + _CONTENTS, protocol=protocol)
