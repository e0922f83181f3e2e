"""Clients that wait for keys: BLPOP and its relatives.

A command that finds nothing parks its client here, by client.wait().  When a key that it waits for is touched, its
request is run again, once the command that touched the key is done; of several clients those that came first.  A client
that finds nothing again keeps its place.  Times come in ns of the engine's clock.
"""

import heapq
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kora.errors import CommandError
from kora.resp.reply import Replies, Reply
from kora.types.kinds import type_name

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.registry import Command
    from kora.engine.tracing import Pending
    from kora.store.keyspace import Keyspace

# What a command answers whose reply comes later.
NO_REPLY_YET: Final = Replies()

# The kind of value that a family's blocking commands wait for, by the family's group.
_KINDS: Final = {"list": "list", "sorted-set": "zset", "stream": "stream"}
_FLOAT: Final = re.compile(
    rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d{1,3})?)",
    re.IGNORECASE,
)
_TIMEOUT_MS_MAX: Final = (1 << 63) - 1
_TIMER_S_MAX: Final = 3600.0
# Deadlines of waits that are over which may be kept in any case.
_OVER_MAX: Final = 64

Place: TypeAlias = tuple[int, bytes]  # a database's number, and a key


def parse_timeout(word: bytes) -> float:
    """Seconds; 0 is for ever.  Raises CommandError in Redis' words (getTimeoutFromObjectOrReply, timeout.c)."""
    if not _FLOAT.fullmatch(word):
        raise CommandError("ERR timeout is not a float or out of range")
    timeout_s = float.fromhex(word.decode()) if b"x" in word.lower() else float(word)
    if timeout_s < 0:
        raise CommandError("ERR timeout is negative")
    if timeout_s * 1000 > _TIMEOUT_MS_MAX:
        raise CommandError("ERR timeout is out of range")
    return timeout_s


class Wait:
    """What one client waits for."""

    __slots__ = (
        "argv",
        "client",
        "command",
        "has_deadline",
        "is_unblockable",
        "keys",
        "keyspace",
        "on_timeout",
        "pending",
        "status",
        "wakes_on_loss",
    )

    def __init__(
        self,
        client: "Client",
        command: "Command",
        argv: list[bytes],
        keys: tuple[bytes, ...],
        on_timeout: Reply,
        wakes_on_loss: bool,
    ) -> None:
        self.client = client
        self.command = command
        self.keyspace: Keyspace = client.db
        self.argv = argv
        self.keys = keys
        self.on_timeout = on_timeout
        self.has_deadline = False  # it is among the deadlines
        self.is_unblockable = True  # by CLIENT UNBLOCK
        # Its span, where it has one, and the first word of the error that ends the wait.
        self.pending: Pending | None = None
        self.status = ""
        self.wakes_on_loss = wakes_on_loss  # also when a key goes, or is of another kind then: XREADGROUP


class Blocking:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._waits: dict[Place, dict[Wait, None]] = {}  # in the order in which clients came
        self._ready: dict[Place, None] = {}
        self._deadlines: list[tuple[int, int, Wait]] = []  # a heap, with some of waits that are over
        self._over = 0  # how many of these
        self._timer: Any = None  # of the event loop, for the first deadline
        self._serial = 0
        self._wary = 0  # how many waits wake on a loss
        self._retried: Wait | None = None

    def __len__(self) -> int:
        """How many clients wait."""
        return sum(client.waiting is not None for client in self._engine.clients.values())

    @property
    def keys(self) -> int:
        """How many keys somebody waits for."""
        return len(self._waits)

    def park(
        self,
        client: "Client",
        argv: list[bytes],
        keys: Iterable[bytes],
        timeout_s: float,
        on_timeout: Reply,
        wakes_on_loss: bool,
    ) -> Reply:
        if self.is_retrying(client):
            client.waiting = self._retried
            return NO_REPLY_YET
        assert client.command is not None
        wait = Wait(client, client.command, argv, tuple(dict.fromkeys(keys)), on_timeout, wakes_on_loss)
        for key in wait.keys:
            self._waits.setdefault((client.db.index, key), {})[wait] = None
            client.db.attend(key)
        client.waiting = wait
        client.parked = client.halted = True
        self._wary += wakes_on_loss
        if timeout_s:
            # As Redis, up to the next millisecond, so that the shortest wait is one.
            deadline_ns = self._engine.monotonic_ns() + int(timeout_s * 1000 + 0.999999) * 1_000_000
            self._serial += 1
            wait.has_deadline = True
            heapq.heappush(self._deadlines, (deadline_ns, self._serial, wait))
            if self._deadlines[0][2] is wait:
                self._set_timer()
        return NO_REPLY_YET

    def is_retrying(self, client: "Client") -> bool:
        """Whether what runs is the request of a client that waits, once more."""
        return self.retried(client) is not None

    def retried(self, client: "Client") -> Wait | None:
        """What that client waits for, if what runs is its request, once more."""
        return self._retried if self._retried is not None and self._retried.client is client else None

    def touch(self, place: Place) -> bool:
        """A key was changed: whether somebody waits for it, and serve() has to be called."""
        if place not in self._waits:
            return False
        self._ready[place] = None
        return True

    def serve(self) -> None:
        """Let those have a look whose keys were touched, and those whose keys they touch."""
        while self._ready:
            place = next(iter(self._ready))
            del self._ready[place]
            waits = self._waits.get(place)
            if waits:
                self._serve(place[1], waits)

    def _serve(self, key: bytes, waits: dict[Wait, None]) -> None:
        keyspace = next(iter(waits)).keyspace
        kind = type_name(keyspace.outline(key))
        for wait in _in_order(waits):
            if kind not in _KINDS.values() and not self._wary:
                break  # somebody has taken all there was, or it is nothing that anybody waits for
            if wait.client.waiting is wait and (wait.wakes_on_loss or kind == _KINDS[wait.command.group]):
                self._retry(wait)
                kind = type_name(keyspace.outline(key))

    def expire(self) -> None:
        """Answer those whose time is over."""
        now_ns = self._engine.monotonic_ns()
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            wait = heapq.heappop(self._deadlines)[2]
            wait.has_deadline = False
            if wait.client.waiting is wait:
                self.end(wait, wait.client.encode(wait.on_timeout))
            else:
                self._over -= 1
        self._set_timer()

    def unblock(self, client: "Client", error: CommandError | None) -> None:
        """CLIENT UNBLOCK: answer a client that waits as if its time were over, or with an error."""
        wait = client.waiting
        assert wait is not None
        if error is not None:
            self._engine.count_error(error.prefix)
            wait.status = error.prefix
        self.end(wait, client.encode(wait.on_timeout if error is None else error))

    def end(self, wait: Wait, data: bytes) -> None:
        """The wait is over: send the reply, and let the client go on."""
        client = wait.client
        self.forget(client)
        if self._engine.tracing.is_on:
            self._engine.tracing.unblocked(wait)
        client.push(data)
        client.kick()

    def forget(self, client: "Client") -> None:
        """A client waits no more, or has gone."""
        wait = client.waiting
        if wait is None:
            return
        client.waiting = None
        client.parked = False
        self._wary -= wait.wakes_on_loss
        for key in wait.keys:
            place = wait.keyspace.index, key
            waits = self._waits[place]
            del waits[wait]
            if not waits:
                del self._waits[place]
            wait.keyspace.disregard(key)
        if wait.has_deadline:
            self._over += 1
            if self._over > _OVER_MAX and self._over * 2 > len(self._deadlines):
                # Who waits for hours and is served at once, again and again, must not pile them up.
                self._deadlines = [one for one in self._deadlines if one[2].client.waiting is one[2]]
                heapq.heapify(self._deadlines)
                self._over = 0

    def _retry(self, wait: Wait) -> None:
        client = wait.client
        self._retried = wait
        client.waiting = None
        try:
            data = self._engine.run_again(client, wait.command, wait.argv)
        finally:
            self._retried = None
        if client.waiting is None:
            client.waiting = wait
            self.end(wait, data)

    def _set_timer(self) -> None:
        """For the first deadline, or as far ahead as event loops like it: expire() will see."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines:
            delay_ns = max(0, self._deadlines[0][0] - self._engine.monotonic_ns())
            self._timer = self._engine.call_later(min(delay_ns / 1e9, _TIMER_S_MAX), self.expire)


def _in_order(waits: dict[Wait, None]) -> Iterator[Wait]:
    """Those that wait, in order.  Often the first takes all there is: only for the third a list of all is made."""
    first = next(iter(waits))
    yield first
    second = next((wait for wait in waits if wait is not first), None)
    if second is not None:
        yield second
        yield from [wait for wait in waits if wait is not first and wait is not second]
