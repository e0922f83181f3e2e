"""A connection's road from bytes read to replies sent: what the event loop calls at every read."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kora.engine.call import execute

if TYPE_CHECKING:
    from kora.engine.client import Client


class Receiver:
    """Made with its connection; drops what it is given until it is bound, and after it was released."""

    __slots__ = ("_attend", "_client", "_write")

    def __init__(self) -> None:
        self._client: Client | None = None
        self._write: Callable[[bytes], None]
        self._attend: Callable[[], None]

    def bind(self, client: "Client", write: Callable[[bytes], None], attend: Callable[[], None]) -> None:
        """`write` sends replies; `attend` is called where that is not all: client.more, a full buffer."""
        self._client = client
        self._write = write
        self._attend = attend

    def release(self) -> None:
        """Forget everybody, so that nobody keeps anybody alive."""
        self._client = None
        del self._write, self._attend

    def receive(self, data: bytes) -> None:
        client = self._client
        if client is None:
            return
        reply = execute(client, data)
        if reply:
            self._write(reply)
            if client.more:
                self._attend()
        elif client.more or client.parser.buffered_bytes > client.engine.config.client_query_buffer_limit:
            self._attend()
