"""The same bytes, whole requests and faults mixed and cut anywhere, give the same replies and the same end.

Each piece is sent alone: a second connection asks redis-server for a PONG in between, and gets it only after the piece
has been read and answered, since redis-server serves connections in the order in which they became ready.
"""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from .peers import Kora, RedisServer, request
from .profile import examples

PASSWORD = "secret"
_READ_BYTES = 16 * 1024  # what redis-server reads from a connection at once

# Without letters next to each other: behind a fault any word may become a command, and hypothesis tries SHUTDOWN.
_words = st.binary(max_size=40).filter(lambda word: not re.search(rb"[a-zA-Z]{3}", word))
_requests = st.one_of(
    st.sampled_from(
        [("PING",), ("GET", "k"), ("SELECT", "9"), ("FOO", "bar"), ("ECHO",), ("APPEND", "k", "x"), ("INCR", "k")]
    ).map(lambda words: request(*words)),
    _words.map(lambda word: request("ECHO", word)),
    st.lists(_words, min_size=1, max_size=4).map(lambda rest: request("SET", *rest)),
    st.sampled_from((100, 2000, 20000)).map(lambda size: request("SET", "k", b"x" * size)),
)
_authentications = st.sampled_from(
    [request("AUTH", PASSWORD), request("AUTH", "wrong"), request("HELLO", "3", "AUTH", "default", PASSWORD),
    request("HELLO"),
     request("QUIT"), request("RESET"), request("ECHO", b"x" * 16384), request("ECHO", b"x" * 16385), request("MGET",
     *"123456789"),
     request("MGET", *"1234567890"), b"*11\r\n", b"$1\r\n"]
)  # fmt: skip
_inline = st.sampled_from(
    [b"PING\r\n", b"PING\n", b"  ECHO  'a b'\r\n", b'ECHO "\\x41\\n"\r\n', b"\r\n", b"\n", b" \r\n",
    b"SET k 'v'\r\n", b"GET k\r\n",
     b"ECHO 'a'b\r\n", b'ECHO "a\r\n', b"ECHO a\x00b\r\n", b"nonesuch\r\n", b"ECHO a\tb\r\n", b"ECHO \xff\r\n"]
)  # fmt: skip
_faults = st.sampled_from(
    [b"*0\r\n", b"*-1\r\n", b"*-10\r\n", b"*\r\n", b"*x\r\n", b"*1x\r\n", b"*01\r\n", b"*+1\r\n", b"*1\r\n", b"* 1\r\n",
     b"*9999999999999999999\r\n", b"*2\r\n$4\r\nECHO\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$x\r\n", b"*1\r\n$\r\n",
     b"*1\r\n$4\nPING\r\n",
     b"*1\r\n$4\r\nPINGxx", b"*1\r\n$536870913\r\n", b"*1\r\n$99999999999999999999\r\n", b"*1\r\n$04\r\nPING\r\n",
     b"*1\r\n\r\n",
     b"$4\r\nPING\r\n", b"*1\rx$4\r\nPING\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n",
     b"hOsT: a\r\n", b"\x00", b"\x00\r\n",
     b"\xff\xfe\r\n", b"*1\r\n*1\r\n", b">1\r\n", b"%1\r\n", b"*3\r\n", b"$", b"*"]
) | _words  # fmt: skip

streams = st.lists(st.one_of(_requests, _requests, _inline, _faults), min_size=1, max_size=8).map(b"".join)
locked_streams = st.lists(
    st.one_of(_requests, _authentications, _authentications, _inline, _faults), min_size=1, max_size=8
).map(b"".join)


@st.composite
def pieces(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    return [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True) if stop > start]


def compare_stream(redis: RedisServer, stream_pieces: list[bytes], *flags: str) -> None:
    def wait(size: int) -> None:
        # A reply takes a turn of redis-server's loop more than the read, and closing takes another.
        for _ in range(size // _READ_BYTES + 4):
            redis.run("PING")

    redis.run("FLUSHALL")
    kora = Kora(*flags, now_us=redis.now_us())
    received = b""
    closed = False
    with redis.connect() as connection:
        for piece in stream_pieces:
            if not connection.send(piece):
                closed = True
                break
            wait(len(piece))
            replies, closed = connection.receive_ready()
            received += replies
            if closed:
                break
    found = b""
    for piece in stream_pieces:
        found += kora.exchange(piece)[0]
        if kora.client.closing:
            break
    found, expected = (_OWN.sub(rb"\1\2", replies) for replies in (found, received))
    if kora.engine.protocol_errors and b"-ERR Protocol error" not in found:
        # HTTP was cut off: redis-server drops the replies before it, see quirks.py.
        assert found.startswith(expected), stream_pieces
        found = expected
    assert (found, kora.client.closing) == (expected, closed), stream_pieces


# What HELLO says of the server and of the connection.
_OWN = re.compile(rb"(\$7\r\nversion\r\n)\$\d+\r\n[^\r]*\r\n(.*?\$2\r\nid\r\n):\d+\r\n", re.DOTALL)


@given(stream_pieces=streams.flatmap(pieces))
@examples(1000)
@example(stream_pieces=[b"PING\r\n" * 5000])
@example(stream_pieces=[request("ECHO", b"x" * 70000)[:65000], request("ECHO", b"x" * 70000)[65000:]])
@example(stream_pieces=[b"x" * 65535, b"y" * 2, b"z"])
@example(stream_pieces=[b"*" + b"1" * 65537])
def test_streams_with_faults_get_the_same_replies(redis: RedisServer, stream_pieces: list[bytes]) -> None:
    compare_stream(redis, stream_pieces)


@given(stream_pieces=locked_streams.flatmap(pieces))
@examples(800)
def test_streams_of_clients_that_have_not_given_a_password_get_the_same_replies(
    redis: RedisServer, stream_pieces: list[bytes]
) -> None:
    redis.run("CONFIG", "SET", "requirepass", PASSWORD)
    try:
        compare_stream(redis, stream_pieces, "--requirepass", PASSWORD)
    finally:
        redis.run("CONFIG", "SET", "requirepass", "")
