"""A connection's road from bytes read to replies sent: what the event loop calls at every read."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kora.engine.call import execute

if TYPE_CHECKING:
    from kora.engine.client import Client


class Receiver:
    """Made with its connection; drops what it is given until it is bound, and after it was released."""

    __slots__ = ("_attend", "_client", "send")

    def __init__(self) -> None:
        self._client: Client | None = None
        self.send: Callable[[bytes], object]  # the one way for replies, so that they stay in order
        self._attend: Callable[[], None]

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
        self.send = write
        self._attend = attend

    def detach(self) -> None:
        """The socket is about to be closed: its descriptor must not be used any more."""

    def release(self) -> None:
        """Forget everybody, so that nobody keeps anybody alive."""
        self._client = None
        del self.send, self._attend

    def receive(self, data: bytes) -> None:
        client = self._client
        if client is None:
            return
        reply = execute(client, data)
        if reply:
            self.send(reply)
            if client.more:
                self._attend()
        elif client.more or client.parser.buffered_bytes > client.engine.config.client_query_buffer_limit:
            self._attend()
