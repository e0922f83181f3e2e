"""How much trimming removes from streams of many blocks: exactly what redis-server removes, since blocks end alike."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .compare import compare_program
from .peers import RedisServer, redis_server
from .profile import examples
from .words import Step

_NUMBERS = (b"0", b"127", b"128", b"-4096", b"4095", b"4096", b"32768", b"8388608", b"-8388609", b"2147483648", b"07")
_LENGTHS = (0, 1, 10, 60, 63, 64, 100, 125, 127, 300, 1000, 4000, 4093, 4096, 5000)
_values = st.one_of(
    st.integers(-(1 << 63), 1 << 63).map(lambda number: b"%d" % number),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_LENGTHS).map(lambda length: b"x" * length),
)
_names = st.sampled_from(((b"f",), (b"f", b"g"), (b"12", b"f", b"x" * 70), (b"f",) * 5, (b"g",)))


@st.composite
def _entries(draw: st.DrawFn) -> list[Step]:
    """A run of entries that look alike, as most do, or of all sorts."""
    steps: list[Step] = []
    names = draw(_names)
    is_even = draw(st.booleans())
    values = [draw(_values) for _ in names]
    ms, number = draw(st.sampled_from(((0, 1), (1, 0), (0, 200), (300, 0), (5000, -50), (1 << 40, 0))))
    for count in range(draw(st.integers(1, 150))):
        if not is_even and count % 7 == 0:
            names = draw(_names)
            values = [draw(_values) for _ in names]
        pairs = [word for pair in zip(names, values, strict=True) for word in pair]
        steps.append((b"XADD", b"a", b"%d %d" % (ms, number), *pairs))
    return steps


_lengths = st.integers(0, 500).map(lambda length: b"%d" % length)
_trims = st.one_of(
    st.tuples(st.just(b"MAXLEN"), st.sampled_from((b"~", b"=")), _lengths),
    st.tuples(st.just(b"MINID"), st.sampled_from((b"~", b"=")), _lengths),
    st.tuples(st.just(b"MAXLEN"), st.just(b"~"), _lengths, st.just(b"LIMIT"), _lengths),
    st.tuples(st.just(b"MINID"), st.just(b"~"), _lengths, st.just(b"LIMIT"), _lengths),
).map(lambda words: [(b"XTRIM", b"a", *words)])
_deletions = st.lists(st.integers(0, 600), min_size=1, max_size=150).map(
    lambda places: [(b"XDEL", b"a", *(b"#%d" % place for place in places))]
)
_everything: Step = (b"XRANGE", b"a", b"-", b"+")
_info: Step = (b"XINFO", b"STREAM", b"a")


def _with_ids(program: list[Step]) -> list[Step]:
    """Give the entries rising ids, by the steps that they ask for, and have XDEL and MINID mean some of these."""
    finished: list[Step] = []
    ids: list[bytes] = [b"0-1"]
    ms, number = 1, 1000
    for step in program:
        name, key, *words = step
        if name == b"XADD":
            ms_step, number_step = map(int, words[0].split())
            ms += ms_step
            number = max(0, number + number_step) if ms_step or number_step > 0 else number + 1
            ids.append(b"%d-%d" % (ms, number))
            finished.append((name, key, ids[-1], *words[1:]))
        elif name == b"XDEL":
            finished.append((name, key, *(ids[int(word[1:]) % len(ids)] for word in words)))
        elif b"MINID" in words:
            words[2] = ids[int(words[2]) % len(ids)]
            finished.append((name, key, *words))
        else:
            finished.append(step)
        if name != b"XADD":
            finished += [_info, (b"XLEN", b"a")]
    return [*finished, _info, _everything]


_programs = st.lists(st.one_of(_entries(), _entries(), _trims, _deletions), min_size=2, max_size=8).map(
    lambda parts: _with_ids([step for part in parts for step in part])
)

# Blocks by count, by bytes, by neither, and with counts that take two bytes.
_SETTINGS = ((b"100", b"4096"), (b"0", b"300"), (b"5", b"0"), (b"1", b"4096"), (b"0", b"0"), (b"300", b"100000"))


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@given(program=_programs, settings=st.sampled_from(_SETTINGS))
@examples(300)
def test_blocks_end_where_those_of_redis_do(
    own_redis: RedisServer, program: list[Step], settings: tuple[bytes, bytes]
) -> None:
    entries, size = settings
    own_redis.run("CONFIG", "SET", "stream-node-max-entries", entries, "stream-node-max-bytes", size)
    flags = ("--stream-node-max-entries", entries.decode(), "--stream-node-max-bytes", size.decode())
    compare_program(own_redis, program, *flags, numbers=False)
