"""What a server says to other servers: MIGRATE.  The sockets are those of whoever runs the engine.

An Exchange is some requests to send on one connection, and what becomes of their replies.  Outbound carries it out,
while the client that asked for it waits, or, from within a transaction or a script, while everybody waits.

Keys that travel are attended to, so that one which changes on its way is not deleted when it has arrived.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from kora.store.keyspace import Keyspace

# How an exchange may fail, in the words of Redis' errors.
CONNECTING = "connecting to the client"
WRITING = "writing to target instance"
READING = "reading to target instance"


class Exchange:
    """Requests to another server, each answered by one line."""

    def __init__(
        self,
        address: tuple[str, int],
        timeout_s: float,
        login: bytes,
        database: int,
        requests: Sequence[Sequence[bytes]],
        on_accepted: Callable[[int], None],
        on_end: Callable[["Exchange"], None],
    ) -> None:
        """`login` is the request to begin with, if any; requests come in pieces.

        on_accepted(place) is called for each request that was done; on_end(exchange) once, when all is over.
        """
        self.address = address
        self.timeout_s = timeout_s  # without a sign of life
        self.refusal = ""  # the first error of the other server, without its dash
        self.failure = ""  # CONNECTING, …, or nothing
        self.answered = 0  # requests
        self._login = login
        self._database = database
        self.requests = requests
        self._on_accepted = on_accepted
        self._on_end = on_end
        self._heads = 0  # replies that come before those of the requests
        self._head_refusal = ""

    def begin(self, database: int | None) -> Iterator[bytes]:
        """What to send on a connection on which that database is selected, None if nobody knows."""
        select = b"" if database == self._database else encode([b"SELECT", b"%d" % self._database])
        self._heads = bool(self._login) + bool(select)
        self._head_refusal = ""
        return self._pieces(self._login + select)

    def _pieces(self, head: bytes) -> Iterator[bytes]:
        if head:
            yield head
        for pieces in self.requests:
            yield from pieces

    @property
    def is_answered(self) -> bool:
        return not self._heads and self.answered == len(self.requests)

    @property
    def database(self) -> int | None:
        """What is selected on the connection now."""
        return None if self.refusal or self.failure else self._database

    def take(self, line: bytes) -> None:
        """A line of reply, without its end."""
        refusal = line[1:].decode("utf-8", "surrogateescape") if line.startswith(b"-") else ""
        if self._heads:
            self._heads -= 1
            self._head_refusal = self._head_refusal or refusal
            return
        place = self.answered
        self.answered += 1
        refusal = self._head_refusal or refusal
        if refusal:
            self.refusal = self.refusal or refusal
        else:
            self._on_accepted(place)

    def end(self, failure: str = "") -> None:
        self.failure = failure
        self._on_end(self)


class Outbound(Protocol):
    """Connections to other servers."""

    def start(self, exchange: Exchange) -> None:
        """Carry out an exchange, from the next turn of the event loop on."""

    def run(self, exchange: Exchange) -> None:
        """Carry it out now: nothing else happens meanwhile."""


class NoOutbound:
    """Of an engine without a server: there is nobody to reach."""

    def start(self, exchange: Exchange) -> None:
        exchange.end(CONNECTING)

    run = start


def encode(words: Sequence[bytes]) -> bytes:
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)))


Place: TypeAlias = tuple[int, bytes]  # a database's number, and a key


class Travel:
    """One key on its way."""

    __slots__ = ("has_changed", "key", "keyspace")

    def __init__(self, keyspace: "Keyspace", key: bytes) -> None:
        self.keyspace = keyspace
        self.key = key
        self.has_changed = False  # or has gone, since it was packed

    @property
    def place(self) -> Place:
        return self.keyspace.index, self.key


class Travels:
    """All keys that are on their way to other servers."""

    def __init__(self) -> None:
        self._travels: dict[Place, list[Travel]] = {}

    def __len__(self) -> int:
        return len(self._travels)

    def begin(self, keyspace: "Keyspace", key: bytes) -> Travel:
        travel = Travel(keyspace, key)
        self._travels.setdefault(travel.place, []).append(travel)
        keyspace.attend(key)
        return travel

    def end(self, travel: Travel) -> None:
        others = self._travels[travel.place]
        others.remove(travel)
        if not others:
            del self._travels[travel.place]
        travel.keyspace.disregard(travel.key)

    def touch(self, place: Place) -> None:
        for travel in self._travels.get(place, ()):
            travel.has_changed = True
