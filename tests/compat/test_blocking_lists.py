"""Clients that wait for lists, over real sockets: who is served, in which order, with what, as by redis-server.

A scenario is a list of lines `client: COMMAND words`.  After each line both servers have a moment; what every client
has received by then must be the same.
"""

import secrets
import select
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess

from .peers import RedisServer, request
from .profile import examples

# How long nothing may arrive before a server counts as done.  Too short only weakens the test: what comes later is
# compared at the next line.
_QUIET_S = 0.015
_ALL = "BLPOP a 0 ; BRPOP a b 0 ; BLMOVE a b LEFT LEFT 0 ; BRPOPLPUSH a b 0 ; BLMPOP 0 1 a LEFT"
_CONTENTS = tuple(f"z: LRANGE {key} 0 -1" for key in "abcd")


@pytest.fixture(scope="module")
def kora(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KoraProcess]:
    server = kora_process.start(tmp_path_factory.mktemp("kora"))
    try:
        yield server
    finally:
        server.stop()


class Session:
    """One server, and clients by letter, each connected when it first speaks."""

    def __init__(self, family: int, address: str | tuple[str, int]) -> None:
        self._family = family
        self._address = address
        self._clients: dict[str, socket.socket] = {}
        self._control = self._connect()
        self._ask("FLUSHALL")

    def _connect(self) -> socket.socket:
        connection = socket.socket(self._family)
        connection.settimeout(5)
        connection.connect(self._address)
        return connection

    def _ask(self, *words: str) -> bytes:
        self._control.sendall(request(*words))
        return self._control.recv(1 << 16)

    def step(self, line: str) -> dict[str, bytes]:
        """Carry out a line; what has arrived since the last one, by client."""
        name, _, text = line.partition(": ")
        if text == "WAIT":
            time.sleep(0.12)
        elif text == "CLOSE":
            self._clients.pop(name).close()
        elif text == "RESP3":
            # What HELLO answers is each server's own.
            self._clients[name] = self._connect()
            self._clients[name].sendall(request("HELLO", "3"))
            self._received()
        else:
            if name not in self._clients:
                self._clients[name] = self._connect()
            self._clients[name].sendall(b"".join(request(*part.split()) for part in text.split(" ; ")))
        return self._received()

    def _received(self) -> dict[str, bytes]:
        arrived: dict[str, bytes] = {}
        names = {connection: name for name, connection in self._clients.items()}
        while readable := select.select(list(names), [], [], _QUIET_S)[0]:
            for connection in readable:
                data = connection.recv(1 << 16)
                assert data, f"{names[connection]} was cut off"
                arrived[names[connection]] = arrived.get(names[connection], b"") + data
        # A round trip, so that whatever was sent before has been read.
        token = secrets.token_hex(4)
        assert token.encode() in self._ask("ECHO", token)
        return arrived

    def close(self) -> None:
        for connection in (*self._clients.values(), self._control):
            connection.close()


def compare(redis: RedisServer, kora: KoraProcess, lines: tuple[str, ...]) -> None:
    sessions = [Session(socket.AF_UNIX, redis.socket_path), Session(socket.AF_INET, ("127.0.0.1", kora.port))]
    received: list[dict[str, bytes]] = [{}, {}]
    try:
        for number, line in enumerate((*lines, *_CONTENTS)):
            for session, sums in zip(sessions, received, strict=True):
                for name, data in session.step(line).items():
                    sums[name] = sums.get(name, b"") + data
            if received[0] != received[1]:
                # Something may still be on its way.
                time.sleep(0.1)
                for session, sums in zip(sessions, received, strict=True):
                    for name, data in session._received().items():
                        sums[name] = sums.get(name, b"") + data
            assert received[0] == received[1], (
                f"after {line!r}\n  redis: {received[0]}\n  kora:  {received[1]}\n" + "\n".join(lines[: number + 1])
            )
    finally:
        for session in sessions:
            session.close()


SCENARIOS = {
    "first come, first served": ("a: BLPOP a 0", "b: BLPOP a 0", "c: BRPOP a 0", "d: RPUSH a 1 2 3 4"),
    "more clients than elements": (
        "a: BLPOP a 0", "b: BLPOP a 0", "c: BLPOP a 0", "d: LPUSH a 1 2", "d: LPUSH a 3 4",
    ),
    "the first key that has something": (
        "a: RPUSH b 1", "a: RPUSH c 2", "a: BLPOP a b c 0", "a: BRPOP c b 0", "a: BLPOP a b c 0", "b: RPUSH c 9",
    ),
    "one key named twice": ("a: BLPOP a a 0", "b: RPUSH a 1 2", "a: BLPOP a 0"),
    "times that are over": (
        "a: BLPOP a 0.02", "b: BRPOP a b 0.02", "c: BLMOVE a b LEFT LEFT 0.02", "d: BRPOPLPUSH a b 0.02",
        "e: BLMPOP 0.02 2 a b LEFT COUNT 3", "f: WAIT", "a: RPUSH a 1",
    ),
    "times that are over, in RESP3": (
        "a: RESP3", "a: BLPOP a 0.02", "c: RESP3", "c: BLMOVE a b LEFT LEFT 0.02", "e: RESP3",
        "e: BLMPOP 0.02 1 a LEFT",
        "f: WAIT", "a: BLPOP a 0", "b: RPUSH a 1",
    ),
    "a wait that is over makes place for the next": (
        "a: BLPOP a 0.05", "b: BLPOP a 0", "c: WAIT", "c: RPUSH a 1 2", "a: PING",
    ),
    "elements with a count": (
        "a: BLMPOP 0 2 a b LEFT COUNT 2", "b: BLMPOP 0 1 b RIGHT COUNT 10", "c: RPUSH b 1 2 3 4 5",
        "b: BLMPOP 0 1 b LEFT", "c: LPUSH b 8 9",
    ),
    "a key of another type does not wake anybody": (
        "a: BLPOP a 0", "b: SET a x", "b: APPEND a y", "b: DEL a", "b: RPUSH a 1",
    ),
    "a key that is there and gone within a transaction": (
        "a: BLPOP a 0", "b: MULTI ; RPUSH a 1 ; DEL a ; EXEC", "b: RPUSH a 2",
    ),
    "a key that is filled twice within a transaction": (
        "a: BLPOP a 0", "b: BLPOP a 0", "c: MULTI ; RPUSH a 1 ; RPUSH a 2 ; LPUSH a 0 ; EXEC",
    ),
    "waiting within a transaction": (
        f"a: MULTI ; {_ALL} ; EXEC", f"a: MULTI ; RPUSH a 1 2 3 4 5 ; {_ALL} ; EXEC",
    ),
    "a chain of moves": (
        "a: BLMOVE a b LEFT RIGHT 0", "b: BLMOVE b c LEFT LEFT 0", "c: BRPOPLPUSH c d 0", "d: BLPOP d 0",
        "e: RPUSH a 1 2",
    ),
    "a ring of moves": (
        "a: BLMOVE a b LEFT RIGHT 0", "b: BLMOVE b a LEFT LEFT 0", "c: BLPOP a 0", "d: RPUSH a 1", "d: RPUSH b 2",
    ),
    "a move within one list": ("a: BRPOPLPUSH a a 0", "b: BLMOVE a a LEFT RIGHT 0", "c: RPUSH a 1 2 3"),
    "a move to a key of another type": (
        "a: SET d x", "a: BLMOVE a d LEFT LEFT 0", "b: BLPOP a 0", "c: RPUSH a 1", "a: RPUSH b 1",
        "a: BRPOPLPUSH b d 0",
    ),
    "requests behind one that waits": (
        "a: BLPOP a 0 ; RPUSH b 1 ; BLPOP c 0 ; LPOP b", "b: LLEN b", "b: RPUSH a 1", "b: LLEN b", "b: RPUSH c 2",
    ),
    "a client that goes away": (
        "a: BLPOP a 0", "b: BLMOVE a b LEFT LEFT 0", "c: BLPOP a 0", "a: CLOSE", "b: CLOSE", "d: RPUSH a 1",
        "d: LLEN a",
    ),
    "a list that comes by another way": (
        "a: BLPOP a 0", "b: RPUSH b 1 2", "b: RENAME b a", "a: BLPOP c 0", "b: COPY a c", "a: BLPOP d 0",
        "b: RPUSH a 1",
        "b: SORT a STORE d",
        "a: BLPOP b 0", "b: LMOVE a b LEFT LEFT", "a: BLPOP b 0", "b: RPOPLPUSH c b", "b: LPUSHX b 1",
    ),
    "a list of another database": (
        "a: BLPOP a 0", "b: SELECT 1", "b: RPUSH a 1", "c: SELECT 1 ; BLPOP c 0", "b: RPUSH c 2", "b: MOVE a 0",
    ),
    "databases that are swapped": ("a: BLPOP a 0", "b: SELECT 1 ; RPUSH a 1", "b: SWAPDB 0 1", "b: FLUSHALL"),
    "a list of which nothing is left when its turn comes": (
        "a: BLPOP a 0", "b: BLPOP b a 0", "c: MULTI ; RPUSH a 1 ; RPUSH b 2 ; EXEC",
    ),
    "mistakes": (
        "a: SET d x", "a: BLPOP d 0", "a: BLPOP a x", "a: BLPOP a -1", "a: BLMOVE a b UP LEFT x",
        "a: BLMOVE a b LEFT LEFT x",
        "a: BLMPOP x 0 a LEFT", "a: BLMPOP -1 1 a LEFT", "a: BLMPOP 0 1 d LEFT", "a: BLPOP a", "a: BLPOP a d 0",
        "a: BLMPOP 0 1 a LEFT COUNT 0", "a: BLPOP a nan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_waiting_clients_are_served_as_by_redis(redis: RedisServer, kora: KoraProcess, name: str) -> None:
    compare(redis, kora, SCENARIOS[name])


_keys = st.sampled_from("abc")
_sides = st.sampled_from(("LEFT", "RIGHT"))
# One each: of several that are filled at once Redis 7.0 takes the one that was filled first, and Redis 7.2, which runs
# the request again, the one that is named first.
_some_keys = st.lists(_keys, min_size=1, max_size=1)
_waiting = st.one_of(
    st.tuples(st.sampled_from(("BLPOP", "BRPOP")), _some_keys).map(lambda w: f"{w[0]} {' '.join(w[1])} 0"),
    st.tuples(_keys, _keys, _sides, _sides).map(lambda w: f"BLMOVE {' '.join(w)} 0"),
    st.tuples(_keys, _keys).map(lambda w: f"BRPOPLPUSH {' '.join(w)} 0"),
    st.tuples(_some_keys, _sides, st.integers(1, 3)).map(
        lambda w: f"BLMPOP 0 {len(w[0])} {' '.join(w[0])} {w[1]} COUNT {w[2]}"
    ),
)
_filling = st.one_of(
    st.tuples(st.sampled_from(("LPUSH", "RPUSH")), _keys, st.integers(1, 4)).map(
        lambda w: f"{w[0]} {w[1]} {' '.join(map(str, range(w[2])))}"
    ),
    st.tuples(_keys, _keys, _sides, _sides).map(lambda w: f"LMOVE {' '.join(w)}"),
    st.tuples(_keys, _keys).map(lambda w: f"SORT {w[0]} STORE {w[1]}"),
    st.tuples(_keys, _keys).map(lambda w: f"COPY {w[0]} {w[1]}"),
    _keys.map(lambda key: f"LPOP {key} 2"),
    _keys.map(lambda key: f"DEL {key}"),
)
_lines = st.one_of(
    st.tuples(st.sampled_from("mno"), _waiting),
    st.tuples(st.sampled_from("pqr"), _waiting),
    st.tuples(st.just("x"), _filling),
    st.tuples(st.just("x"), _filling),
).map(": ".join)


@given(lines=st.lists(_lines, min_size=4, max_size=12).map(tuple))
@examples(40)
def test_random_scenes_of_waiting_end_as_with_redis(
    redis: RedisServer, kora: KoraProcess, lines: tuple[str, ...]
) -> None:
    compare(redis, kora, lines)
