"""TLS for a connection that was accepted while the event loop stood still, and for the rest of its life.

The loop's own TLS begins with the handshake and cannot take over one that has been going on.  Towards the connection
this is a transport, towards the socket's transport a protocol.
"""

import asyncio
import contextlib
import os
import select
import ssl
from typing import Any, Final, cast

from kora.server.connection import Connection, Newcomer

_HANDSHAKE_S_MAX: Final = 60.0
_READ_BYTES_MAX: Final = 1 << 18


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    def __init__(
        self, newcomer: Newcomer, context: ssl.SSLContext, connection: Connection, loop: asyncio.AbstractEventLoop
    ) -> None:
        # For life.
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        extra = {name: newcomer.get_extra_info(name) for name in ("socket", "peername", "sockname")}
        super().__init__({**extra, "ssl_object": self._tls})
        self._fd: int = newcomer.sock.fileno()
        self._connection = connection
        self._loop = loop
        # The socket's: the newcomer, then the loop's.
        self._transport: asyncio.Transport = newcomer
        # Right now.
        self._has_greeted = False  # the handshake is over
        self._is_paused = False
        self._is_closing = False

    # While the loop stands still

    def poll(self) -> int:
        """As Connection.poll()."""
        if isinstance(self._transport, Newcomer) and self._transport.waiting:
            self._transport.flush()
        if self._has_greeted:
            return self._connection.poll()
        try:
            data = os.read(self._fd, _READ_BYTES_MAX)
        except BlockingIOError:
            return select.EPOLLIN
        except OSError:
            data = b""
        if not data:
            self.abort()
        else:
            self.data_received(data)
        return 0 if self.is_closing() else select.EPOLLIN

    def read(self) -> bytes | None:
        """What the client has sent; b"" where it has gone, None where there is nothing yet."""
        try:
            data = os.read(self._fd, _READ_BYTES_MAX)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if not data:
            return b""
        self._incoming.write(data)
        received, is_over = self._decrypted()
        self._flush()
        return received or (b"" if is_over else None)

    # From the socket's transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        newcomer, self._transport = self._transport, cast(asyncio.Transport, transport)
        assert isinstance(newcomer, Newcomer)
        if newcomer.is_closing():
            self.abort()
            return
        if newcomer.waiting:
            self._transport.write(bytes(newcomer.waiting))
        if self._has_greeted:
            self._connection.go_on()
        else:
            self._loop.call_later(_HANDSHAKE_S_MAX, self._give_up)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._go_on()

    def pause_writing(self) -> None:
        if self._has_greeted:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        if self._has_greeted:
            self._connection.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closing = True
        self._connection.connection_lost(error)

    # From the connection

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        if not self.is_closing():
            self._tls.write(data)
            self._flush()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._is_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
            self._loop.call_soon(self._go_on)  # some may have been decrypted already

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing():
            return
        self._is_closing = True
        if self._has_greeted:
            with contextlib.suppress(ssl.SSLError):  # it wants the other side's farewell, too: nobody waits for that
                self._tls.unwrap()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._is_closing = True
        self._transport.abort()

    # Inside

    def _go_on(self) -> None:
        if self.is_closing():
            return
        if not self._has_greeted and not self._shake_hands():
            return
        if self._is_paused:
            return
        data, is_over = self._decrypted()
        if data:
            self._connection.data_received(data)
        self._flush()
        if is_over:
            self.close()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError:
            self._flush()  # it says what is wrong
            self.abort()
            return False
        self._has_greeted = True
        self._flush()
        self._connection.connection_made(self)
        return not self.is_closing()

    def _decrypted(self) -> tuple[bytes, bool]:
        """All that can be read by now, and whether it is the last."""
        parts: list[bytes] = []
        while True:
            try:
                data = self._tls.read(_READ_BYTES_MAX)
            except ssl.SSLWantReadError:
                return b"".join(parts), False
            except ssl.SSLError:
                return b"".join(parts), True
            if not data:
                return b"".join(parts), True
            parts.append(data)

    def _flush(self) -> None:
        """Send what was encrypted: at once where nothing waits, for a loop that stands still sends nothing."""
        data = self._outgoing.read()
        if data and not self._transport.get_write_buffer_size() and not self._transport.is_closing():
            with contextlib.suppress(OSError):  # if the peer has gone, a read will tell
                data = data[os.write(self._fd, data) :]
        if data:
            self._transport.write(data)

    def _give_up(self) -> None:
        if not self._has_greeted:
            self.abort()
