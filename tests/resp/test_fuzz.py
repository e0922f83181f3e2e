"""Bytes of any kind through execute(): nothing escapes, nobody else is harmed, no more is kept than was sent."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.client import Client
from kora.engine.engine import Engine
from tests.compat.profile import examples
from tests.conftest import encode_request
from tests.resp_reader import read_replies

REGISTRY = make_registry()
# What ends, stops or fills the process, lets every client wait, or answers by chance.
_KEPT_OUT = (b"shutdown", b"debug", b"pause", b"rewrite", b"requirepass", b"randomkey")

_fuzz = examples(150)


class Watched(Engine):
    """An engine that notes what its handlers get, and what goes wrong in them."""

    def __init__(self, *flags: str) -> None:
        super().__init__(Config.load([*flags], {}), REGISTRY, ManualClock())
        self.calls = 0
        self.unanswered_bytes: dict[int, int] = {}  # by client: sent since its last whole request
        self.faults: list[str] = []
        self.log = self._note

    def _note(self, level: str, message: str, **fields: object) -> None:
        if level == "error":
            self.faults.append(f"{message}: {fields}")


@pytest.fixture(scope="module", autouse=True)
def _watched_handlers() -> Iterator[None]:
    """Every handler first looks at what it got; the registry is this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        for command in {id(command): command for command in REGISTRY.slots}.values():
            patch.setattr(command, "handler", _watch(command.handler))
        yield


def _watch(handler: Any) -> Any:
    def watched(client: Client, argv: list[bytes]) -> Any:
        assert type(argv) is list, type(argv)
        assert argv, "an empty request"
        assert all(type(word) is bytes for word in argv), argv
        assert isinstance(client.engine, Watched)
        client.engine.calls += 1
        return handler(client, argv)

    return watched


def feed(engine: Watched, client: Client, chunks: Iterable[bytes]) -> bytes:
    """All replies to some chunks; checks after each that no more is kept than was sent since the last whole request."""
    out = []
    unanswered_bytes = engine.unanswered_bytes.get(client.id, 0)
    for chunk in chunks:
        if client.closing:
            break
        before = engine.calls
        out.append(client.engine.execute(client, chunk))
        while client.more and not client.closing:
            out.append(client.engine.resume(client))
        unanswered_bytes = len(chunk) if engine.calls > before else unanswered_bytes + len(chunk)
        assert client.parser.buffered_bytes <= unanswered_bytes
    engine.unanswered_bytes[client.id] = unanswered_bytes
    replies = b"".join(out)
    read_replies(replies)  # and they are whole
    return replies


def check_unharmed(engine: Watched, bystander: Client) -> None:
    assert not engine.faults, engine.faults
    assert engine.internal_errors == 0
    if bystander.closing:
        return  # CLIENT KILL was among the requests
    assert bystander.engine.execute(bystander, b"*1\r\n$4\r\nPI") == b"", (
        "a bystander sees replies that are not its own"
    )
    assert (
        bystander.engine.execute(bystander, b"NG\r\n*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n") == b"+PONG\r\n$2\r\n\r\n\r\n"
    )


_words = st.sampled_from(
    [name.encode() for command in REGISTRY.slots for name in command.name.split("|") if name.encode() not in _KEPT_OUT]
    + [b"", b"k", b"{t}", b"1", b"-1", b"9223372036854775807", b"x" * 100, b"\r\n", b"\x00", b"\xff", b"*", b"EX",
    b"COUNT", b"1e400"]
) | st.binary(max_size=12)  # fmt: skip


def _is_kept_out(argv: list[bytes]) -> bool:
    return any(word.lower() in _KEPT_OUT for word in argv)


_names = st.sampled_from([command.name for command in REGISTRY.slots]).map(
    lambda name: [word.encode() for word in name.split("|")]
)
_argvs = st.tuples(_names, st.lists(_words, max_size=5)).map(lambda parts: [*parts[0], *parts[1]]) | st.lists(
    _words, min_size=1, max_size=6
)
_programs = st.lists(_argvs.filter(lambda argv: not _is_kept_out(argv)), min_size=1, max_size=12).map(
    lambda program: b"".join(encode_request(tuple(argv)) for argv in program)
)
_inline = st.sampled_from([b"PING\r\n", b"ECHO 'a b'\n", b"\r\n", b'SET k "\\x00"\r\n', b"GET k\r\n", b'"', b"'\r\n"])
_streams = (
    st.lists(_programs | _inline | st.binary(max_size=30), min_size=1, max_size=4)
    .map(b"".join)
    .filter(lambda data: not any(word in data.lower() for word in _KEPT_OUT))
)
_flags = st.sampled_from([(), ("--requirepass", "secret"), ("--maxmemory", "1"), ("--proto-max-bulk-len", "1mb")])


@given(data=_streams, flags=_flags)
@_fuzz
def test_any_stream_whole_and_byte_by_byte_gives_the_same_replies(data: bytes, flags: tuple[str, ...]) -> None:
    results = []
    for chunks in ([data], [data[place : place + 1] for place in range(len(data))]):
        engine = Watched(*flags)
        bystander, client = engine.connect(), engine.connect("127.0.0.1:50000")
        bystander.set_authenticated(True)
        replies = feed(engine, client, chunks)
        results.append((_without_chance(replies), client.closing, engine.calls))
        check_unharmed(engine, bystander)
    assert results[0] == results[1]


def _without_chance(replies: bytes) -> bytes | int:
    """Replies that hold a number of this very engine, such as its run_id or buffers, are only counted."""
    return len(read_replies(replies)) if any(mark in replies for mark in _OWN) else replies


_OWN = (b"run_id", b"qbuf=", b"used_memory", b"used_cpu", b"peak.allocated")


@pytest.mark.parametrize("flags", [(), ("--requirepass", "secret")])
@pytest.mark.parametrize(
    "data",
    [
        encode_request(("SET", "k", "v")) + encode_request(("GET", "k")) + b"PING\r\n" + encode_request(("ECHO",
        b"\r\n$3\r\n")),
        encode_request(("AUTH", "secret")) + encode_request(("MGET", *map(str, range(12)))) + b"ECHO 'a b'\n\r\n",
        encode_request(("HELLO", "3", "AUTH", "default", "secret")) + encode_request(("GET",
        "nonesuch")) + b"*1\r\n$-5\r\n",
        encode_request(("CLIENT", "REPLY", "SKIP")) + encode_request(("PING",)) * 3 + b"*1\r\n:1\r\n",
        encode_request(("APPEND", "k", b"x" * 70)) * 3 + encode_request(("QUIT",)) + encode_request(("SET", "k",
        "never")),
    ],
)  # fmt: skip
def test_a_stream_cut_anywhere_in_two_gives_the_same_replies(data: bytes, flags: tuple[str, ...]) -> None:
    results = set()
    for place in range(len(data)):
        engine = Watched(*flags)
        bystander, client = engine.connect(), engine.connect()
        bystander.set_authenticated(True)
        client.id = 7
        results.add((feed(engine, client, [data[:place], data[place:]]), client.closing, engine.calls))
        check_unharmed(engine, bystander)
    assert len(results) == 1, results


@given(data=_streams, source=st.randoms(use_true_random=False), flags=_flags)
@_fuzz
def test_mutated_streams_in_random_pieces_harm_nobody(data: bytes, source: Any, flags: tuple[str, ...]) -> None:
    mutated = bytearray(data)
    for _ in range(source.randint(1, 6)):
        place = source.randrange(len(mutated) + 1)
        action = source.randrange(4)
        if action == 0:
            mutated[place:place] = source.choice(
                [b"\r\n", b"*", b"$", b"-1", b"\x00", b"99999999999", b"\xff", b"'", b'"']
            )
        elif action == 1:
            del mutated[place : place + source.randint(1, 8)]
        elif mutated and place < len(mutated):
            mutated[place] = source.randrange(256)
    data = bytes(mutated)
    if any(word in data.lower() for word in _KEPT_OUT):
        return
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(5))
    engine = Watched(*flags)
    bystander, client = engine.connect(), engine.connect()
    bystander.set_authenticated(True)
    feed(engine, client, [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)])
    check_unharmed(engine, bystander)


@given(streams=st.lists(_streams, min_size=2, max_size=4), source=st.randoms(use_true_random=False))
@_fuzz
def test_clients_that_interleave_do_not_mix(streams: list[bytes], source: Any) -> None:
    engine = Watched()
    bystander = engine.connect()
    clients = [engine.connect() for _ in streams]
    rest = dict(zip(clients, streams, strict=True))
    while rest:
        client = source.choice(list(rest))
        size = source.randint(1, 40)
        feed(engine, client, [rest[client][:size]])
        rest[client] = rest[client][size:]
        if not rest[client] or client.closing:
            del rest[client]
        check_unharmed(engine, bystander)
