"""A client without opinions: sends bytes, reads replies, and lets a test do what no client library would."""

import contextlib
import socket
from typing import Any

import hiredis

from tests.conftest import encode_request

END: object = object()  # what read() gives when the server has closed the connection


class Wire:
    """Blocking, with a timeout; error replies are returned, not raised."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = hiredis.Reader(notEnoughData=END)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """As CLIENT LIST shows it."""
        host, port = self.sock.getsockname()[:2]
        return f"{host}:{port}"

    def run(self, *words: object) -> Any:
        self.sock.sendall(encode_request(words))
        return self.read()

    def pipeline(self, *requests: "tuple[object, ...]") -> list[Any]:
        self.sock.sendall(b"".join(encode_request(words) for words in requests))
        return self.read_many(len(requests))

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> Any:
        """The next reply; END if the connection was closed instead."""
        while True:
            reply = self._reader.gets()
            if reply is not END:
                return reply
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                return END
            if not data:
                return END
            self._reader.feed(data)

    def read_many(self, count: int) -> list[Any]:
        return [self.read() for _ in range(count)]

    def read_to_end(self) -> bytes:
        """All bytes until the server closes, unparsed."""
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(1 << 16):
                parts.append(data)
        return b"".join(parts)

    def close(self) -> None:
        self.sock.close()


def error_text(reply: Any) -> str:
    """The text of an error reply; anything else fails."""
    assert isinstance(reply, hiredis.ReplyError), reply
    return str(reply)
