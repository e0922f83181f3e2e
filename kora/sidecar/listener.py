"""Opens the sidecar's HTTP ports."""

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

# What a `-` before an address passes over: the machine has no such address, or no such protocol.
_UNAVAILABLE: Final = (
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
    errno.ENOPROTOOPT,
    errno.ESOCKTNOSUPPORT,
    errno.EPFNOSUPPORT,
)


BACKLOG: Final = 511  # connections that may wait to be accepted


class ListenError(Exception):
    """A port cannot be opened; the text says which and why, in one line."""


def open_listeners(addresses: Iterable[str], port: int, settings: str = "metrics") -> list[socket.socket]:
    """Listening sockets for every address; raises ListenError, and leaves nothing open, if one cannot be had.

    `settings` is what the names of those that say where to listen begin with.
    """
    with ExitStack() as opened:
        listeners: list[socket.socket] = []
        for address in addresses:
            optional, host = address.startswith("-"), address.removeprefix("-")
            host = {"*": "0.0.0.0", "::*": "::"}.get(host, host)
            try:
                listeners.extend(opened.enter_context(listener) for listener in _open(host, port))
            except OSError as error:
                if not (optional and (error.errno in _UNAVAILABLE or isinstance(error, socket.gaierror))):
                    raise ListenError(
                        f"cannot listen on {host} port {port} ({settings}-port): {_reason(error)}"
                    ) from error
            except UnicodeError as error:
                raise ListenError(f"{settings}-bind: {host!r} is not an address") from error
        if not listeners:
            raise ListenError(f"{settings}-bind: none of {' '.join(addresses) or 'no addresses'} is available")
        opened.pop_all()
    return listeners


def _open(host: str, port: int) -> list[socket.socket]:
    with ExitStack() as opened:
        listeners = []
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Otherwise `::` would take the IPv4 port as well, and `0.0.0.0` beside it fail.
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            listeners.append(listener)
        opened.pop_all()
    return listeners


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is already in use"
    if isinstance(error, socket.gaierror):
        return "no such address"
    return os.strerror(error.errno) if error.errno else str(error)
