"""The smallest Redis client that the benchmark needs: RESP2, one request at a time, loopback only."""

from __future__ import annotations

import socket
from typing import Any


class ServerError(Exception):
    """An error reply; its text is the server's."""


class Client:
    def __init__(self, port: int, timeout_s: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def call(self, *argv: str | int) -> Any:
        """The reply as int, bytes, None or list; raises ServerError on an error reply, OSError on a lost connection."""
        self._socket.sendall(request(*argv))
        reply = self._reply()
        if isinstance(reply, ServerError):
            raise reply
        return reply

    def info(self, section: str) -> dict[str, str]:
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def _reply(self) -> Any:
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ServerError(rest.decode())
        if kind == b":":
            return int(rest)
        length = int(rest)
        if length < 0:
            return None
        if kind == b"$":
            return self._stream.read(length + 2)[:-2]
        # Errors inside an array stay values: COMMAND INFO and EXEC put them there.
        return [self._reply() for _ in range(length)]


def request(*argv: str | int) -> bytes:
    parts = [str(part).encode() for part in argv]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
