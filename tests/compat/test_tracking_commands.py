"""Random programs over three connections that keep copies of keys: what each is told, and between which replies."""

from hypothesis import given
from hypothesis import strategies as st

from kora.engine.client import Client
from kora.resp.reply import Push
from tests.conftest import encode_request
from tests.resp_reader import read_reply

from .peers import Kora, RedisConnection, RedisServer, run_all
from .profile import examples
from .words import Step

CONNECTIONS = 3
_LISTENER = b"<listener>"  # in place of the third connection's id, which says nothing itself

_keys = st.sampled_from((b"a", b"b", b"ab", b"c"))
_options = st.lists(
    st.sampled_from(((b"BCAST",), (b"PREFIX", b"a"), (b"PREFIX", b"b"), (b"PREFIX", b"ab"), (b"OPTIN",), (b"OPTOUT",),
                     (b"NOLOOP",), (b"NOLOOP",), (b"REDIRECT", _LISTENER))),
    max_size=3,
)  # fmt: skip
_tracking = st.one_of(
    _options.map(lambda options: (b"CLIENT", b"TRACKING", b"ON", *(word for option in options for word in option))),
    st.just((b"CLIENT", b"TRACKING", b"OFF")),
    st.sampled_from(((b"CLIENT", b"CACHING", b"YES"), (b"CLIENT", b"CACHING", b"NO"))),
    st.sampled_from(((b"CLIENT", b"TRACKINGINFO"), (b"CLIENT", b"GETREDIR"))),
)
_reading = st.one_of(
    st.tuples(st.sampled_from((b"GET", b"STRLEN", b"EXISTS", b"TTL", b"TYPE", b"INCR")), _keys),
    st.tuples(st.just(b"MGET"), _keys, _keys),
)
_writing = st.one_of(
    st.tuples(st.just(b"SET"), _keys, st.just(b"1")),
    st.tuples(st.sampled_from((b"DEL", b"GETDEL", b"PERSIST")), _keys),
    st.tuples(st.just(b"MSET"), _keys, st.just(b"1"), _keys, st.just(b"2")),
    st.tuples(st.just(b"RENAME"), _keys, _keys),
    st.tuples(st.just(b"EXPIRE"), _keys, st.just(b"1000")),
)
_SCRIPTS = (
    b"return redis.call('GET', KEYS[1])",
    b"return redis.pcall('MGET', KEYS[1], 'a')",
    b"redis.call('GET', KEYS[1]) return redis.call('SET', KEYS[1], '1')",
    b"redis.call('SET', KEYS[1], '1') return redis.call('GET', KEYS[1])",
    b"redis.call('DEL', 'a') redis.call('INCR', 'c') redis.call('STRLEN', KEYS[1])",
    b"redis.call('SET', 'b', '2') return redis.call('LPUSH', 'b', 'x')",
    b"return #KEYS",
)
_scripts = st.one_of(
    st.tuples(st.just(b"EVAL"), st.sampled_from(_SCRIPTS), st.just(b"1"), _keys),
    st.tuples(st.just(b"EVAL_RO"), st.sampled_from(_SCRIPTS[:2]), st.just(b"1"), _keys),
)
_rare = st.sampled_from(((b"FLUSHALL",), (b"FLUSHDB",), (b"MULTI",), (b"EXEC",), (b"DISCARD",), (b"NOPE",)))
_steps = st.tuples(st.integers(0, 1), st.one_of(_tracking, _reading, _reading, _writing, _scripts, _rare))
_START = st.tuples(st.just(0), _options).map(
    lambda step: (step[0], (b"CLIENT", b"TRACKING", b"ON", *(word for option in step[1] for word in option)))
)


class _Redis:
    def __init__(self, server: RedisServer) -> None:
        self.connections = [server.connect() for _ in range(CONNECTIONS)]
        self.ids = []
        for connection in self.connections:
            connection.exchange(encode_request((b"HELLO", b"3")))
            self.ids.append(int(connection.exchange(encode_request((b"CLIENT", b"ID")))[0][1:]))

    def step(self, number: int, words: Step) -> list[bytes]:
        """What each connection has received after a request of one of them."""
        received = [b""] * CONNECTIONS
        received[number] = self._ask(self.connections[number], encode_request(words))
        for place, connection in enumerate(self.connections):
            # In a request of its own, behind what the server had to say after that one.
            received[place] += self._rest(connection, in_transaction=False)
        return received

    def _ask(self, connection: RedisConnection, data: bytes) -> bytes:
        connection.send(data)
        received = b""
        while not _has_reply(received):
            received += connection._socket.recv(1 << 16)
        return received

    def _rest(self, connection: RedisConnection, in_transaction: bool) -> bytes:
        # A subcommand that runs at once also between MULTI and EXEC does not exist: a mistake has a reply of its own.
        connection.send(b"*1\r\n$5\r\nWATCH\r\n" if in_transaction else b"*1\r\n$4\r\nQUIX\r\n")
        received = b""
        while b"QUIX" not in received:
            received += connection._socket.recv(1 << 16)
        return received[: received.index(b"-ERR unknown command 'QUIX'")]

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


class _Ours:
    def __init__(self, ids: list[int]) -> None:
        self.kora = Kora()
        self.clients: list[Client] = []
        self.received: list[bytearray] = []
        for client_id in ids:
            self.kora.take_id(client_id)
            client = self.kora.client
            data = bytearray()
            client.deliver = data.extend
            self.clients.append(client)
            self.received.append(data)
            self.kora.client = self.kora.connect()
            run_all(client, encode_request((b"HELLO", b"3")))

    def step(self, number: int, words: Step) -> list[bytes]:
        for place, request in ((number, words), *((place, (b"QUIX",)) for place in range(CONNECTIONS))):
            data, _ = self.kora.exchange(encode_request(tuple(request)), self.clients[place])
            self.received[place] += data if request[0] != b"QUIX" else b""
        received = [bytes(data) for data in self.received]
        for data in self.received:
            data.clear()
        return received


def _has_reply(data: bytes) -> bool:
    """Whether a reply has come that is no push."""
    place = 0
    try:
        while place < len(data):
            reply, place = read_reply(data, place)
            if place <= len(data) and not isinstance(reply, Push):
                return True
    except (ValueError, IndexError, AssertionError):
        pass
    return False


@given(start=_START, steps=st.lists(_steps, min_size=4, max_size=20))
@examples(200)
def test_each_connection_is_told_the_same(
    redis: RedisServer, start: tuple[int, Step], steps: list[tuple[int, Step]]
) -> None:
    redis.reset()
    theirs = _Redis(redis)
    try:
        ours = _Ours(theirs.ids)
        listener = b"%d" % theirs.ids[2]
        program = [
            (number, tuple(listener if word == _LISTENER else word for word in words))
            for number, words in (start, *steps)
        ]
        # An unknown command, by which the end of what was received is found, would break a transaction off.
        program = [step for step in program if step[1][0] not in (b"MULTI", b"EXEC", b"DISCARD")]
        for place, (number, words) in enumerate(program):
            expected, found = theirs.step(number, words), ours.step(number, words)
            assert found == expected, program[: place + 1]
    finally:
        theirs.close()
