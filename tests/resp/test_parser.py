"""Requests from bytes: every road of every parser against the others, the originals and redis-server.

A test that takes the fixture `make_parser` or `parse` runs on the reference and, where the suite runs on it, on the
kernel.  The others are about what only the reference has: a fast road and an exact one.
"""

import os
import random
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kora import kernel
from kora.errors import ProtocolError
from kora.resp import parser as parser_module
from kora.resp.parser import COMMANDS_PER_TURN, WINDOW_BYTES_MAX, FastReader, Parser, split_words

# A request long enough to put a chunk that begins with it on the fast road.
LONG = b"*2\r\n$4\r\nECHO\r\n$100\r\n" + b"x" * 100 + b"\r\n"
LONG_ARGV = [b"ECHO", b"x" * 100]


def encode(argv: Iterable[bytes]) -> bytes:
    items = list(argv)
    return b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%b\r\n" % (len(item), item) for item in items)


def make_reference(bulk_max: int = 512 * 1024 * 1024, authenticated: bool = False) -> Parser:
    return Parser(FastReader(), bulk_max, authenticated)


COMPILED = kernel.load()
PARSERS = {"python": make_reference} if COMPILED is None else {"python": make_reference, "kernel": COMPILED.Parser}


@pytest.fixture(params=PARSERS)
def make_parser(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """make_parser(bulk_max=…, authenticated=…)"""
    return PARSERS[request.param]


@pytest.fixture
def parse(make_parser: Callable[..., Any]) -> Callable[..., tuple[list[list[bytes]], str | None]]:
    """parse(chunks, bulk_max=…, authenticated=…): requests and fault."""
    return lambda chunks, **options: parse_with(make_parser, chunks, **options)


def drain(parser: Any) -> tuple[list[list[bytes]], str | None]:
    """All that can be taken now, and the fault."""
    requests = []
    while True:
        try:
            taken = parser.take()
        except ProtocolError as error:
            assert not parser.more
            return requests, str(error)
        assert len(taken) <= (COMMANDS_PER_TURN if parser.authenticated else 1)
        assert taken or not parser.more
        requests += taken
        if not parser.more:
            return requests, None


def parse_with(
    make_parser: Callable[..., Any], chunks: Iterable[bytes], **options: object
) -> tuple[list[list[bytes]], str | None]:
    """Requests and fault, if every chunk is taken before the next is fed."""
    parser = make_parser(**{"authenticated": True, **options})
    requests: list[list[bytes]] = []
    fault = None
    fed_bytes = 0
    for chunk in chunks:
        parser.feed(chunk)
        fed_bytes += len(chunk)
        taken, fault = drain(parser)
        assert parser.buffered_bytes <= fed_bytes
        requests += taken
        if fault is not None:
            assert parser.buffered_bytes == 0
            break
    return requests, fault


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


PROGRAMS = [
    (b"PING\r\n", [[b"PING"]]),
    (b"PING\nPING\r\n\r\n\n  \r\nPING a\n", [[b"PING"], [b"PING"], [b"PING", b"a"]]),
    (encode([b"GET", b"k"]), [[b"GET", b"k"]]),
    (LONG + encode([b"GET", b"k"]) * 3 + LONG, [LONG_ARGV, *[[b"GET", b"k"]] * 3, LONG_ARGV]),
    (LONG + b"set a 'b c'\r\n" + LONG, [LONG_ARGV, [b"set", b"a", b"b c"], LONG_ARGV]),
    (b"*0\r\n*-1\r\n*-77\r\n" + LONG + b"*0\r\n" + LONG, [LONG_ARGV, LONG_ARGV]),
    (
        LONG + encode([b"", b""]) + encode([b"\r\n*1\r\n$1\r\n", b"\r"]),
        [LONG_ARGV, [b"", b""], [b"\r\n*1\r\n$1\r\n", b"\r"]],
    ),
    (LONG + encode([b"+x", b"=1\r\nabc:", b"(1", b"%2\r\n"]), [LONG_ARGV, [b"+x", b"=1\r\nabc:", b"(1", b"%2\r\n"]]),
    (LONG + encode([b"ECHO", b"a\r\n$1"]) + LONG, [LONG_ARGV, [b"ECHO", b"a\r\n$1"], LONG_ARGV]),
    (LONG + b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", [LONG_ARGV, [b"PING"], [b"PING"]]),
    (b"*1\rX$4\rYPINGxx" + LONG, [[b"PING"], LONG_ARGV]),
    (encode([b"%d" % i for i in range(150)]) * 2, [[b"%d" % i for i in range(150)]] * 2),
    (LONG + b"*1\r\n:5\r\n" + LONG, [LONG_ARGV]),
    (LONG + b"*2\r\n$1\r\na\r\n+b\r\n*2\r\n$1\r\na\r\n", [LONG_ARGV]),
    (LONG + b"*2\r\n=7\r\n\r\n$:abc\r\n$1\r\nx\r\n", [LONG_ARGV]),
    (LONG + b"*1\r\n*1\r\n$4\r\nPING\r\n", [LONG_ARGV]),
    (LONG + b"$4\r\nPING\r\n", [LONG_ARGV, [b"$4"], [b"PING"]]),
    (LONG + b"%1\r\n$1\r\na\r\n+b\r\n", [LONG_ARGV, [b"%1"], [b"$1"], [b"a"], [b"+b"]]),
    (b"PING\0\r\nPING\r\n" + LONG, []),
    (LONG + b"*1\r\n$4\0\r\nPING\r\n", [LONG_ARGV]),
    # What stands before a request: RESP3's attributes.
    (b"|1\r\n$1\r\na\r\n$2\r\n\r\n\r\n" + LONG, [[b"", b"a", b"\r\n"], LONG_ARGV]),
    (LONG + b"|2\r\n+a\r\n:1\r\n$0\r\n\r\n_\r\n" + LONG, [LONG_ARGV, [b"", b"a", b"1", b"", b""], LONG_ARGV]),
    (b"|0\r\n|1\r\n#t\r\n,1.5\r\nPING\r\n|\r\n|x 1\r\n", [[b"", b"t", b"1.5"], [b"PING"], [b"|"], [b"|x", b"1"]]),
    (b"|17\r\n" + LONG, []),
    (LONG + b"|1x\r\n" + LONG, [LONG_ARGV]),
    (LONG + b"|1\r\n*1\r\n" + LONG, [LONG_ARGV]),
    (b"|1\r\n\r\n" + LONG, []),
    (b"|1\r\n$1\r\na\r\n$4097\r\n", []),
    (b"|1\r\n$1\r\na\r\n$-1\r\n", []),
    (b"|1\r\n$1\r\na\r\n$4090\r\n" + b"x" * 4090 + b"\r\n" + LONG, []),
]


@pytest.mark.parametrize(("data", "requests"), PROGRAMS)
def test_requests_are_the_same_whole_byte_by_byte_and_at_every_split(parse, data, requests):
    whole = parse([data])
    assert whole[0] == requests
    assert parse(bytewise(data)) == whole
    assert parse([data], bulk_max=WINDOW_BYTES_MAX - 1) == whole, "the exact road alone gives something else"
    for at in range(1, len(data)):
        assert parse([data[:at], data[at:]]) == whole, at


@pytest.mark.parametrize(("data", "requests"), PROGRAMS)
def test_requests_are_the_same_when_all_is_fed_before_the_first_take(make_parser, parse, data, requests):
    parser = make_parser(authenticated=True)
    for chunk in bytewise(data):
        parser.feed(chunk)
    assert parser.buffered_bytes == len(data)
    taken, fault = drain(parser)
    assert (taken, fault) == parse([data])


ARGUMENTS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b"\r", b"\n", b"\r\n", b"\r\n$", b"\r\n*", b"+", b"=", b"(", b">", b"*1000000000\r\n", b"$-1\r\n"]
    ),
    st.builds(lambda size: b"v" * size, st.integers(90, 1100)),
)


@given(st.lists(st.lists(ARGUMENTS, min_size=1, max_size=5), max_size=40), st.randoms(use_true_random=False))
def test_random_programs_in_random_chunks_give_the_originals(parse, program, source):
    data = b"".join(map(encode, program))
    chunks = []
    at = 0
    while at < len(data):
        size = source.choice([1, 7, 64, 300, 5000])
        chunks.append(data[at : at + size])
        at += size
    assert parse(chunks) == (program, None)
    assert parse([data]) == (program, None)


HEADERS = [b"*1", b"*2", b"*0", b"*-1", b"*12", b"*200", b"$0", b"$1", b"$3", b"$-1", b"$7", b">1", b"%1", b"~1", b"|1"]
SCALARS = [
    b"+b",
    b"=4\r\nabc:",
    b"=7\r\n\r\n$:abc",
    b"(12",
    b":1",
    b"_",
    b"#t",
    b",1.5",
    b"-ERR",
    b"$1\r\na",
    b"$0\r\n",
    b"abc",
]
REQUESTS = [b"*1\r\n$1\r\na", b"*2\r\n$1\r\na", b"$5\r\n\r\n$1\r"]
BITS = [b"a", b"\r", b"\n", b"\r\n", b"$", b"*", b"xx", b"\0", b"\xff"]
TOKENS = st.sampled_from([*(token + b"\r\n" for token in [*HEADERS, *SCALARS, *REQUESTS]), *BITS])


@settings(max_examples=1000)
@given(st.lists(TOKENS, max_size=12).map(lambda tokens: b"*" + b"".join(tokens)[1:]))
@example(b"*2\r\n$1\r\na\r\n+b\r\n*2\r\n$1\r\na\r\n")
@example(b"*2\r\n=7\r\n\r\n$:abc\r\n$1\r\nx\r\n")
@example(b"*2\r\n+a\r\n$3\r\n\r\n$\r\n")
@example(b"*2\r\n$1\r\n\r\n$+b\r\n")
@example(b"*3\r\n$1\r\na\r\n+b\r\n$3\r\n$-1\r\n")
@example(b"*3\r\n$1\r\na\r\n+b\r\n$0\r\n$x")
def test_what_the_fast_road_accepts_is_what_the_exact_road_finds(data):
    fast = FastReader()
    requests = fast.read(data)
    if requests is not None:
        exact = Parser(FastReader(), authenticated=True, bulk_max=WINDOW_BYTES_MAX - 1)
        exact.feed(data)
        assert drain(exact) == (requests, None)
        assert exact.buffered_bytes == 0
    assert fast.read(LONG) == [LONG_ARGV], "the reader was left with something in it"


@settings(max_examples=500)
@given(st.lists(TOKENS, max_size=12).map(b"".join))
def test_odd_bytes_give_the_same_along_every_road(parse, data):
    whole = parse([LONG + data])
    assert parse([LONG + data], bulk_max=WINDOW_BYTES_MAX - 1) == whole
    assert parse(bytewise(LONG + data)) == whole


def mutated(program: list[list[bytes]], mutations: list[tuple[float, int, str]]) -> bytes:
    """The program's bytes with some of them exchanged, inserted or deleted."""
    data = bytearray(b"".join(map(encode, program)))
    for place, byte, kind in mutations:
        at = int(place * len(data))
        data[at : at + (kind != "i")] = b"" if kind == "d" else bytes([byte])
    return bytes(data)


MUTATED = st.builds(
    mutated,
    st.lists(st.lists(ARGUMENTS, min_size=1, max_size=4), min_size=1, max_size=10),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.sampled_from("xid")), max_size=4),
)


def in_reads(data: bytes, sizes_bytes: list[int], source: random.Random) -> list[list[bytes]]:
    """All of data, in chunks of such sizes, of which now and then several come before any is taken."""
    reads: list[list[bytes]] = []
    at = 0
    while at < len(data):
        size_bytes = source.choice(sizes_bytes)
        chunk = data[at : at + size_bytes]
        at += size_bytes
        if reads and source.random() < 0.2:
            reads[-1].append(chunk)
        else:
            reads.append([chunk])
    return reads


class ExactParser(Parser):
    """The exact road alone, whatever the limits."""

    __slots__ = ()

    def take(self) -> list[list[bytes]]:
        return self._take_exactly()


def trace(parser: Any, reads: Iterable[Iterable[bytes]], authenticated_from: int) -> list[object]:
    """How many requests there have been behind each read, the fault, and what is still kept; at last the requests.

    A read is some chunks that are fed before any is taken.  The request of a number logs in, as AUTH does.
    """
    requests: list[list[bytes]] = []
    fault = None
    steps: list[object] = []
    parser.authenticated = not authenticated_from
    for chunks in reads:
        for chunk in chunks:
            parser.feed(chunk)
        steps.append(parser.buffered_bytes)
        while parser.more:
            try:
                requests += parser.take()
            except ProtocolError as error:
                fault = str(error)
            parser.authenticated = len(requests) >= authenticated_from
        steps.append((len(requests), fault, parser.buffered_bytes))
    return [*steps, requests]


@settings(max_examples=500)
@given(
    MUTATED | st.lists(TOKENS, max_size=12).map(b"".join),
    st.integers(0, 3),
    st.sampled_from([12, 1000, 16_384, 1 << 29]),
    st.randoms(use_true_random=False),
)
def test_every_chunk_gives_and_leaves_what_the_exact_road_does(make_parser, data, authenticated_from, bulk_max, source):
    reads = in_reads(data, [1, 2, 7, 64, 300, 5000], source)
    expected = trace(ExactParser(FastReader(), bulk_max), reads, authenticated_from)
    assert trace(make_parser(bulk_max=bulk_max), reads, authenticated_from) == expected


# About 32 KB the kernel begins to collect an argument on its own, and 16 KB is the limit before authentication.
@given(
    st.lists(
        st.lists(st.sampled_from([0, 1, 100, 16_384, 32_766, 32_767, 32_768, 32_769, 70_000]), min_size=1, max_size=4),
        max_size=4,
    ),
    st.booleans(),
    st.integers(0, 1 << 32),
)
def test_every_chunk_of_large_arguments_gives_and_leaves_what_the_exact_road_does(
    make_parser, sizes_bytes, is_cut_off, seed
):
    source = random.Random(seed)
    program = [[source.randbytes(size_bytes) for size_bytes in request] for request in sizes_bytes]
    data = b"".join(map(encode, program))
    data = data[: source.randrange(len(data))] if is_cut_off and data else data
    reads = in_reads(data, [1, 300, 5000, 16_384, 32_768, 65_536, 200_000], source)
    expected = trace(ExactParser(FastReader()), reads, 0)
    assert is_cut_off or expected[-1] == program
    assert trace(make_parser(), reads, 0) == expected


@settings(max_examples=500)
@given(MUTATED, st.booleans())
def test_mutated_bytes_raise_nothing_but_protocol_errors_and_give_lists_of_bytes(make_parser, data, authenticated):
    parser = make_parser(authenticated=authenticated)
    parser.feed(data)
    requests, _ = drain(parser)
    assert all(type(argv) is list and argv and all(type(word) is bytes for word in argv) for argv in requests)


@pytest.mark.parametrize(
    "size", [10, parser_module.SHORT_BYTES_MAX, WINDOW_BYTES_MAX - 20, WINDOW_BYTES_MAX, 3 * WINDOW_BYTES_MAX]
)
def test_chunks_around_the_window_give_all_requests_in_turns(parse, size):
    program = [[b"SET", b"k%d" % i, b"v" * (i % 50)] for i in range(5000)]
    data = b"".join(map(encode, program))
    assert parse(data[at : at + size] for at in range(0, len(data), size)) == (program, None)
    assert parse([data]) == (program, None)


def test_the_shortest_requests_never_exceed_a_turn(parse):
    program = [[b""]] * 5000
    assert parse([b"*1\r\n$0\r\n\r\n" * 5000]) == (program, None)
    assert parse([b"a\n" * 5000]) == ([[b"a"]] * 5000, None)


def test_requests_of_many_arguments_do_not_make_a_turn_longer(make_parser):
    program = [[b"MGET", *[b"k"] * 1023], *[[b"PING"]] * 3000]
    parser = make_parser(authenticated=True)
    parser.feed(b"".join(map(encode, program)))
    assert drain(parser) == (program, None)


TOO_LONG = 64 * 1024 + 1
ERRORS = [
    (b"*1048577\r\n", "invalid multibulk length"),
    (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*99999999999999999999\r\n", "invalid multibulk length"),
    (b"*-9223372036854775809\r\n", "invalid multibulk length"),
    (b"*\r\n", "invalid multibulk length"),
    (b"*-0\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"),
    (b"*1 \r\n", "invalid multibulk length"),
    (b"*1_0\r\n", "invalid multibulk length"),
    (b"*x\r\n", "invalid multibulk length"),
    (b"*" + b"1" * 65530 + b"\r\n", "invalid multibulk length"),
    (b"*1\r\nX\r\n", "expected '$', got 'X'"),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
    (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
    (b"*1\r\n:1\r\n", "expected '$', got ':'"),
    (b"*1\r\n\r\n", "expected '$', got ' '"),
    (b"*1\r\n\n\r\n", "expected '$', got ' '"),
    (b"*1\r\n\x01\r\n", "expected '$', got '\x01'"),
    (b"*1\r\n\xff\r\n", "expected '$', got '\udcff'"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"),
    (b"*1\r\n$-0\r\n", "invalid bulk length"),
    (b"*1\r\n$01\r\n", "invalid bulk length"),
    (b"*1\r\n$+1\r\n", "invalid bulk length"),
    (b"*1\r\n$ 1\r\n", "invalid bulk length"),
    (b"*1\r\n$1x\r\n", "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
    (b'"PING\r\n', "unbalanced quotes in request"),
    (b"'PING\r\n", "unbalanced quotes in request"),
    (b'"PING"x\r\n', "unbalanced quotes in request"),
    (b"'PING'x\r\n", "unbalanced quotes in request"),
    (b'ECHO "a\\\r\n', "unbalanced quotes in request"),
    (b"A" * 100_000, "too big inline request"),
    (b"PING\0\r\n" * 15_000, "too big inline request"),
    (b"*" + b"1" * 100_000, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 100_000, "too big bulk count string"),
    (b"*1\r\n" + b"x" * 100_000, "too big bulk count string"),
]
UNAUTHENTICATED_ERRORS = [
    (b"*11\r\n", "unauthenticated multibulk length"),
    (b"*1048576\r\n", "unauthenticated multibulk length"),
    (b"*1048577\r\n", "invalid multibulk length"),
    (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
]


@pytest.mark.parametrize(("data", "message"), ERRORS)
def test_a_fault_is_told_in_redis_words_after_the_requests_before_it(parse, data, message):
    assert parse([data]) == ([], message)
    assert parse([LONG * 2 + data]) == ([LONG_ARGV] * 2, message)
    assert parse([b"PING\r\n" + data]) == ([[b"PING"]], message)
    if len(data) < 1000:
        assert parse(bytewise(data)) == ([], message)


@pytest.mark.parametrize(("data", "message"), UNAUTHENTICATED_ERRORS)
def test_limits_are_tighter_before_authentication(parse, data, message):
    assert parse([data], authenticated=False) == ([], message)
    if message.startswith("unauthenticated"):
        assert parse([data]) == ([], None)


def test_ten_arguments_of_16384_bytes_pass_before_authentication(parse):
    argv = [b"x" * 16384] * 10
    assert parse([encode(argv)], authenticated=False) == ([argv], None)


def test_authentication_lifts_the_limits_for_the_rest_of_the_same_read(make_parser):
    parser = make_parser()
    long = [b"MGET", *[b"k"] * 20]
    parser.feed(encode([b"AUTH", b"x"]) + encode(long) + LONG)
    assert parser.take() == [[b"AUTH", b"x"]]
    assert parser.more
    parser.authenticated = True
    assert drain(parser) == ([long, LONG_ARGV], None)


def test_a_length_line_is_read_under_the_limits_of_its_moment(make_parser):
    parser = make_parser()
    parser.feed(encode([b"AUTH", b"x"]) + b"*11\r\n")
    assert parser.take() == [[b"AUTH", b"x"]]
    with pytest.raises(ProtocolError, match="unauthenticated multibulk length"):
        parser.take()


def test_a_bulk_of_exactly_proto_max_bulk_len_passes(parse):
    assert parse([encode([b"x" * 20_000])], bulk_max=20_000) == ([[b"x" * 20_000]], None)
    assert parse([encode([b"x" * 20_001])], bulk_max=20_000) == ([], "invalid bulk length")


@pytest.mark.parametrize(("terminator", "prefix"), [(b"\n", b"PING "), (b"\r", b"*"), (b"\r", b"*1\r\n$")])
def test_a_line_of_64_kb_is_the_same_in_one_read_and_in_many(parse, terminator, prefix):
    for excess in (-1, 0, 1, 2):
        line = prefix + b"1" * (TOO_LONG - 1 + excess - len(prefix) + prefix.rfind(b"\n") + 1) + terminator + b"\n"
        whole = parse([line])
        assert parse([line[:-3], line[-3:-2], line[-2:-1], line[-1:]]) == whole
        assert ("too big" in str(whole[1])) == (excess > 0), whole[1]


def test_after_a_fault_the_parser_stays_dead(make_parser):
    parser = make_parser(authenticated=True)
    parser.feed(b"*x\r\n")
    for _ in range(3):
        with pytest.raises(ProtocolError, match="invalid multibulk length"):
            parser.take()
        assert not parser.more
        parser.feed(b"PING\r\n")
        assert parser.buffered_bytes == 0


def test_a_fault_of_one_connection_does_not_reach_another_of_the_same_engine():
    shared = FastReader()
    first, second = (Parser(shared, authenticated=True) for _ in range(2))
    first.feed(LONG + b"*2\r\n$5\r\nstolen")
    second.feed(LONG)
    assert first.take() == [LONG_ARGV]
    assert second.take() == [LONG_ARGV]
    first.feed(b"*1\r\n:1\r\n" * 20)
    drain(first)
    second.feed(LONG)
    assert second.take() == [LONG_ARGV]


def test_out_of_memory_in_the_middle_leaves_nothing_to_the_next_connection():
    class Failing(FastReader):
        __slots__ = ()

        def _renew(self) -> None:
            super()._renew()
            gets = self._gets
            answers = iter([gets, gets, gets, None])
            self._gets = lambda: (next(answers) or fail)()

    def fail() -> None:
        raise MemoryError

    shared = Failing()
    parser = Parser(shared, authenticated=True)
    parser.feed(LONG * 3)
    with pytest.raises(MemoryError):
        parser.take()
    assert shared.read(LONG) == [LONG_ARGV]


def peak_bytes(chunks: Iterable[bytes]) -> int:
    """Most memory used at any moment while the reference parsed the chunks, without what they take themselves."""
    chunks = list(chunks)
    parse_with(make_reference, [LONG * 2])  # warm
    tracemalloc.start()
    try:
        parse_with(make_reference, chunks)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Parses what comes on standard input in chunks of some bytes, and prints by how much the address space has grown at
# most: what was asked for, even if nothing was ever written there.
_PROGRAM = """
import sys
from kora import kernel
from kora.errors import ProtocolError

def peak_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmPeak"))

data, size = sys.stdin.buffer.read(), int(sys.argv[1])
chunks = [data[at : at + size] for at in range(0, len(data), size)]
parser = kernel.load().Parser(authenticated=True)
parser.feed(b"*1\\r\\n$4\\r\\nPING\\r\\n" * 2000)
while parser.more:
    parser.take()
before_bytes = peak_bytes()
try:
    for chunk in chunks:
        parser.feed(chunk)
        while parser.more:
            parser.take()
except ProtocolError:
    pass
print(peak_bytes() - before_bytes)
"""


def peak_bytes_of_the_kernel(data: bytes, chunk_bytes: int) -> int:
    """As peak_bytes(), in a process of its own: Python does not see what the kernel allocates."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(chunk_bytes)],
        input=data,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return int(done.stdout)


needs_kernel = pytest.mark.skipif(COMPILED is None, reason="the suite runs on pure Python")
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the address space is read from /proc")

ANNOUNCEMENTS = [
    b"*1048576\r\n",
    LONG + b"*1048576\r\n",
    LONG + b"*1048576\r\n$536870912\r\nx",
    LONG + b"*1\r\n>1000000000\r\n" + LONG,
    LONG + b"*1\r\n*999999\r\n" + LONG,
    LONG + b"*999\r\n" * 1000,
    LONG + b"*999\r\n$1\r\na\r\n" * 700,
    LONG + b"*99\r\n$1\r\na\r\n" * 700,
]


@pytest.mark.parametrize("data", ANNOUNCEMENTS)
def test_an_announced_length_costs_nothing(data):
    assert peak_bytes([data]) < 1_000_000


@needs_kernel
@needs_proc
@pytest.mark.parametrize("data", ANNOUNCEMENTS)
def test_an_announced_length_costs_the_kernel_nothing(data):
    assert peak_bytes_of_the_kernel(data, len(data)) < 2_000_000


def test_small_pieces_of_an_argument_do_not_cost_more_than_large_ones():
    data = b"*1\r\n$100000\r\n" + b"ab" * 50_000
    assert peak_bytes([data[at : at + 2] for at in range(0, len(data), 2)]) < 300_000


@needs_kernel
@needs_proc
@pytest.mark.parametrize("chunk_bytes", [4096, 262_144])
def test_a_large_bulk_costs_the_kernel_at_most_twice_its_bytes_until_the_last_has_come(chunk_bytes):
    data = b"*2\r\n$3\r\nSET\r\n$33554432\r\n" + b"x" * (1 << 23)
    assert peak_bytes_of_the_kernel(data, chunk_bytes) < 2 * len(data) + 2_000_000


def test_a_large_bulk_comes_out_whole_and_is_counted_while_it_comes(make_parser):
    chunk = b"x" * 262_144
    parser = make_parser(authenticated=True)
    parser.feed(b"*2\r\n$3\r\nSET\r\n$33554432\r\n")
    assert parser.take() == []
    tracemalloc.start()
    for _ in range(128):
        parser.feed(chunk)
        assert parser.take() == []
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 100_000, "the chunks were copied before the last had come"
    assert parser.buffered_bytes == 33_554_432 + len(b"*2\r\n$3\r\nSET\r\n$33554432\r\n")
    parser.feed(b"\r\n" + LONG)
    assert drain(parser) == ([[b"SET", chunk * 128], LONG_ARGV], None)
    assert parser.buffered_bytes == 0


def test_the_bytes_looked_at_grow_with_the_bytes_sent_and_no_faster(monkeypatch):
    # Counted at the two places that look at more than one argument: hiredis, and the search for the end of a line.
    def looked_at(arguments: int) -> float:
        seen = 0
        read, line_end = FastReader.read, parser_module._line_end

        def counted_read(self: FastReader, data: bytes) -> list[list[bytes]] | None:
            nonlocal seen
            seen += len(data)
            return read(self, data)

        def counted_line_end(data: bytes, at: int, terminator: bytes, too_big: str) -> int:
            nonlocal seen
            end = line_end(data, at, terminator, too_big)
            seen += (end if end >= 0 else len(data)) - at
            return end

        with monkeypatch.context() as patch:
            patch.setattr(FastReader, "read", counted_read)
            patch.setattr(parser_module, "_line_end", counted_line_end)
            data = encode([b"v" * 150] * arguments) + b"*0\r\n" * arguments + encode([b"\r\n*"]) * arguments
            chunks = [data[at : at + 65536] for at in range(0, len(data), 65536)]
            requests, fault = parse_with(make_reference, chunks)
            assert (len(requests), fault) == (1 + arguments, None)
        return seen / len(data)

    small, large = looked_at(2_000), looked_at(40_000)
    assert large < 3
    assert large < small * 1.5


def test_a_request_of_a_million_arguments_passes_in_chunks(parse):
    data = encode([b"x"] * 1_048_576)
    requests, fault = parse(data[at : at + 65536] for at in range(0, len(data), 65536))
    assert fault is None
    assert [len(argv) for argv in requests] == [1_048_576]


def test_values_with_resp_in_them_still_take_the_fast_road(monkeypatch):
    monkeypatch.setattr(Parser, "_parse", lambda self: pytest.fail("the exact road was taken"))
    for value in (b"a+b", b"(x)", b"x=5", b"50%", b"<a>", b"~|", b"*99", b"a\rb+", b"-1", b":", b"\xff\0"):
        parser = Parser(FastReader(), authenticated=True)
        program = [[b"SET", b"key:1", value]] * 16
        parser.feed(b"".join(map(encode, program)))
        assert parser.take() == program


INLINE = [
    (b"", []),
    (b"  \t ", []),
    (b"a b\tc\rd", [b"a", b"b", b"c", b"d"]),
    (b"\va\vb \fc", [b"a\vb", b"c"]),
    (rb'"\x41\n\r\t\b\a\q\"\\\xzz"', [b'A\n\r\t\b\aq"\\xzz']),
    (rb"'a\'b\n\\x'", [rb"a'b\n\\x"]),
    (b"ab\"c d\" e'f g'", [b"abc d", b"ef g"]),
    (b"\"\" ''", [b"", b""]),
    (b'"a"\vb', [b"a", b"b"]),
    (b"a\\nb\\", [b"a\\nb\\"]),
    (rb"'a\\'", None),
    (rb"'a\\' '", [rb"a\'" + b" "]),
    (b'"a"b', None),
    (b'"a""b"', None),
    (b'a"', None),
    (b'"\\', None),
]


def test_a_request_of_one_empty_word_in_front_of_a_cut_off_array_is_not_lost(parse):
    requests, fault = parse([LONG + encode([b""]) + b"*3\r\n", b"$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"])
    assert (requests, fault) == ([LONG_ARGV, [b""], [b"SET", b"k", b"v"]], None)


@pytest.mark.parametrize(("line", "words"), INLINE)
def test_inline_words_are_split_as_in_sdssplitargs(parse, line, words):
    assert split_words(line) == words
    expected = ([], "unbalanced quotes in request") if words is None else ([words] if words else [], None)
    assert parse([line + b"\r\n"]) == expected
    assert parse(bytewise(line + b"\n")) == expected


# Against redis-server


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    if shutil.which("redis-server") is None:
        message = "redis-server is not installed: the error texts were not compared with the real ones"
        if os.environ.get("KORA_REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen([*command, "--daemonize", "no"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if b"Ready to accept connections" in line:
                break
        try:
            yield port
        finally:
            server.terminate()


def ask(port: int, data: bytes, end: bytes = b"\r\nECHO kora-end\r\n") -> bytes:
    """What the server answers until it closes, or until it answers `end`, which is sent behind data."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(data + end)
        reply = b""
        while b"kora-end\r\n" not in reply and (part := connection.recv(65536)):
            reply += part
    return reply


# Redis 7.0 waits for up to 2^31 - 1 arguments; Kora keeps to the 1,048,576 of Redis 5 and 6.
OWN_LIMIT = b"*1048577\r\n"


@pytest.mark.parametrize(("data", "message"), [case for case in ERRORS if case[0] != OWN_LIMIT])
def test_redis_server_tells_the_same_fault(redis_port, data, message):
    expected = b"-ERR Protocol error: %b\r\n" % message.encode("utf-8", "surrogateescape")
    if message.startswith("too big"):
        # A line that ends after all is not too big for Redis, which reads ahead.  And a client that still writes when
        # the server closes may lose the reply, so the server gets no more than it needs.
        reply = ask(redis_port, data[: TOO_LONG + len(b"*1\r\n")], end=b"")
    else:
        reply = ask(redis_port, data)
    assert reply == expected


@pytest.mark.parametrize(("data", "message"), [case for case in UNAUTHENTICATED_ERRORS if case[0] != OWN_LIMIT])
def test_redis_server_tells_the_same_fault_before_authentication(redis_port, data, message):
    assert ask(redis_port, b"CONFIG SET requirepass secret\r\n").startswith(b"+OK")
    try:
        assert ask(redis_port, data) == b"-ERR Protocol error: %b\r\n" % message.encode()
    finally:
        assert ask(redis_port, b"AUTH secret\r\nCONFIG SET requirepass ''\r\n").startswith(b"+OK\r\n+OK")


@pytest.mark.parametrize("seed", range(20))
def test_redis_server_splits_random_inline_commands_alike(redis_port, parse, seed):
    source = random.Random(seed)
    for _ in range(50):
        line = "".join(
            source.choice(["a", "b", " ", '"', "'", "\\", "\\x4", "1", "\t", "\v", "\f", "\r", "\\n", "é"])
            for _ in range(12)
        )
        data = b"LPUSH list " + line.encode()
        requests, fault = parse([data + b"\r\n"])
        reply = ask(redis_port, b"DEL list\r\n" + data + b"\r\nLRANGE list 0 -1")
        if fault is not None:
            assert fault.encode() in reply, data
            continue
        ((_, _, *values),) = requests
        if values:
            count = len(values)
            assert encode(reversed(values)) in reply, (data, reply)
            assert b":%d\r\n" % count in reply, data
