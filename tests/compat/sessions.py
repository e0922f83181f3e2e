"""Programs over several connections at once: what each connection receives from Kora and from redis-server.

A request is sent once the one before it is answered, whichever connection it was for.  A subscriber or a transaction
leaves no room for a mark that says where replies end; but Kora, which runs in this process, has told by then how many
bytes there should be.  RESET ends every connection's stream.
"""

import select
import socket
import time
from dataclasses import dataclass, field

from kora.engine.client import Client
from kora.errors import CommandError
from kora.resp.reply import Push
from tests.resp_reader import read_replies

from .compare import is_alike, show, split_replies
from .peers import Kora, RedisConnection, RedisServer, request, run_all
from .words import Step

# One request, and the connection that it is for.
Turn = tuple[int, Step]

_REPLY_S = 2
_MESSAGES = (b"message", b"pmessage", b"smessage")
_SPEAKING = frozenset((b"PUBLISH", b"SPUBLISH"))
_LISTING = frozenset((b"CHANNELS", b"SHARDCHANNELS"))


class _Ours:
    """A client of Kora's, with all that it has received."""

    def __init__(self, kora: Kora) -> None:
        self.client: Client = kora.connect()
        self.received = bytearray()
        self.client.deliver = self.received.extend

    def send(self, data: bytes) -> None:
        self.client.engine.tick()
        self.received += run_all(self.client, data)


class _Theirs:
    """A connection to redis-server, with all that it has received."""

    def __init__(self, redis: RedisServer) -> None:
        self.connection: RedisConnection = redis.connect()
        self.received = bytearray()

    def send(self, data: bytes, size_bytes: int) -> None:
        """Send, and receive until there are so many bytes in all, or nothing comes any more."""
        self.connection.send(data)
        stop = time.monotonic() + _REPLY_S
        while len(self.received) < size_bytes and time.monotonic() < stop:
            self._receive(0.1)

    def _receive(self, timeout_s: float) -> None:
        sock: socket.socket = self.connection._socket
        if select.select([sock], [], [], timeout_s)[0]:
            self.received += sock.recv(1 << 16)


@dataclass
class _Part:
    """What a connection received from one request to it to the next: the first step is none, where it only listens."""

    step: Step
    start: int
    stop: int = field(default=0)


def compare_sessions(
    redis: RedisServer, program: list[Turn], protocols: tuple[int, ...], settings: dict[str, str] | None = None
) -> None:
    """Run a program with a connection for each protocol on both servers, and compare what each receives."""
    kora = Kora(now_us=redis.now_us())
    redis.reset()
    settings = settings or {}
    for name, value in settings.items():
        kora.run("CONFIG", "SET", name, value)
        redis.run("CONFIG", "SET", name, value)
    ours = [_Ours(kora) for _ in protocols]
    theirs = [_Theirs(redis) for _ in protocols]
    try:
        for our, their, protocol in zip(ours, theirs, protocols, strict=True):
            if protocol == 3:
                our.client.set_protocol(3)
                their.connection.exchange(request("HELLO", "3"))
        parts: list[list[_Part]] = [[_Part((), 0)] for _ in protocols]
        for index, step in program:
            our, their = ours[index], theirs[index]
            data = request(*step)
            parts[index].append(_Part(step, len(our.received)))
            our.send(data)
            their.send(data, len(our.received))
        for our, their in zip(ours, theirs, strict=True):
            our.send(request("RESET"))
            their.send(request("RESET"), len(our.received))
    finally:
        for their in theirs:
            their.connection.close()
        for name in settings:
            redis.run("CONFIG", "SET", name, "")
    faults = []
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        stops = [part.start for part in parts[index][1:]] + [len(our.received)]
        for part, stop in zip(parts[index], stops, strict=True):
            expected, found = bytes(their.received[part.start : stop]), bytes(our.received[part.start : stop])
            if expected != found and not _is_alike(part.step, expected, found):
                faults.append(f"connection {index}, {show(part.step)}\n  redis: {expected!r}\n  kora:  {found!r}")
                break
        else:
            if len(their.received) != len(our.received):
                faults.append(f"connection {index}\n  redis: {their.received!r}\n  kora:  {our.received!r}")
    if not faults:
        # Not DBSIZE, which counts keys whose time is over, and which Kora comes across in WATCH.
        for step in ((b"KEYS", b"*"), (b"PUBSUB", b"CHANNELS"), (b"PUBSUB", b"NUMPAT"), (b"PUBSUB", b"SHARDCHANNELS")):
            expected, found = redis.run(*step), kora.run(*step)
            if expected != found and not is_alike(step, expected, found, 0):
                faults.append(f"afterwards, {show(step)}\n  redis: {expected!r}\n  kora:  {found!r}")
    assert not faults, (
        "\n".join(faults) + "\n\nin the program\n" + "\n".join(f"{index}: {show(step)}" for index, step in program)
    )


def _is_alike(step: Step, expected: bytes, found: bytes) -> bool:
    """Whether the difference is one of order, and the order is nobody's business."""
    try:
        their_parts, our_parts = split_replies(expected), split_replies(found)
        name = step[0].upper() if step else b""
        if name.endswith(b"UNSUBSCRIBE") and len(step) == 1:
            return _leavings(expected) == _leavings(found)
        if name == b"PUBSUB" and step[1:] and step[1].upper() in _LISTING and their_parts and our_parts:
            return sorted(map(str, read_replies(their_parts[0])[0])) == sorted(
                map(str, read_replies(our_parts[0])[0])
            ) and (their_parts[1:] == our_parts[1:])
    except (ValueError, IndexError, AssertionError, TypeError):
        return False
    # A message to oneself comes behind the reply: see quirks.py.
    return name in _SPEAKING and sorted(their_parts) == sorted(our_parts) and _is_last(our_parts, their_parts)


def _is_last(ours: list[bytes], theirs: list[bytes]) -> bool:
    """Whether the messages among both are the same, in the same order, and ours begin with the reply."""
    return ours[0][:1] == b":" and [part for part in theirs if part[:1] != b":"] == ours[1:]


def _leavings(data: bytes) -> object:
    """Of the replies to UNSUBSCRIBE of everything: names in any order, counts, and what follows."""
    names, rest = [], []
    for reply in read_replies(data):
        items = reply.items if isinstance(reply, Push) else reply
        if isinstance(items, list) and items[0].endswith(b"unsubscribe"):
            names.append(items[1])
            rest.append(items[2])
        else:
            rest.append(str(reply) if isinstance(reply, CommandError) else items)
    return sorted(names, key=repr), rest
