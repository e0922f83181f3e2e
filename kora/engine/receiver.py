"""A connection's road from bytes read to replies sent: what the event loop calls at every read.

Replies go to a plain socket at once, and only what it does not take goes to the event loop's queue: there it would wait
for the end of the loop's turn, for which a client may wait in vain while a script runs.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from kora.engine.call import execute

if TYPE_CHECKING:
    from kora.engine.client import Client


class Receiver:
    """Made with its connection; drops what it is given until it is bound, and after it was released."""

    __slots__ = ("_attend", "_client", "_fd", "_waiting_bytes", "_waits", "_write", "held")

    def __init__(self) -> None:
        self._client: Client | None = None
        self._write: Callable[[bytes], None]
        self._attend: Callable[[], None]
        self._waiting_bytes: Callable[[], int]
        self._fd = -1
        self._waits = False  # something did not go out at once
        self.held = 0  # replies that wait for the journal

    def bind(
        self,
        client: "Client",
        write: Callable[[bytes], None],
        attend: Callable[[], None],
        waiting_bytes: Callable[[], int],
        fd: int,
    ) -> None:
        """`write` queues replies, of which `waiting_bytes` wait; `attend` is for more: client.more, a full buffer.

        `fd` is that of a plain socket, which whoever can may write to while nothing waits; else -1.
        """
        self._client = client
        self._write = write
        self._attend = attend
        self._waiting_bytes = waiting_bytes
        self._fd = fd

    def detach(self) -> None:
        """The socket is about to be closed: its descriptor must not be used any more."""
        self._fd = -1

    def release(self) -> None:
        """Forget everybody, so that nobody keeps anybody alive."""
        self._client = None
        self._fd = -1
        del self._write, self._attend, self._waiting_bytes

    def send(self, data: bytes) -> None:
        """The one way for replies, so that they stay in order."""
        client = self._client
        if client is not None and client.engine.journal.on and client.engine.journal.hold(self, data):
            return
        self._transmit(data)

    def release_held(self, data: bytes) -> None:
        """A reply does not have to wait any longer."""
        self.held -= 1
        client = self._client
        if client is not None:
            self._transmit(data)
            if client.closing and not self.held:
                client.kick()

    def cut(self) -> None:
        """A reply cannot be given: nobody knows what has become of the request."""
        self.held -= 1
        if self._client is not None:
            self._client.disconnect()

    def _transmit(self, data: bytes) -> None:
        if self._fd < 0 or (self._waits and self._waiting_bytes()):
            self._write(data)
            return
        self._waits = False
        try:
            sent = os.write(self._fd, data)
        except OSError:  # if that is because the peer has gone, the loop will find it out as well
            sent = 0
        if sent != len(data):
            self._waits = True
            if self._client is not None:
                self._client.engine.service.lag(self._client)
            self._write(data[sent:])

    def receive(self, data: bytes) -> None:
        client = self._client
        if client is None:
            return
        was_more = client.more
        if execute(client, data, self.send):
            if client.more and (was_more or client.fetching is None):
                self._attend()
        elif (
            client.more and (was_more or client.fetching is None)
        ) or client.parser.buffered_bytes > client.engine.config.client_query_buffer_limit:
            self._attend()
