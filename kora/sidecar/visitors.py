"""Who is connected to the sidecar's HTTP port, and for how long they may say or take nothing.

aiohttp waits for a request as long as it takes, and so 1,000 connections that never make one would stay for ever.  This
stands between the loop and aiohttp's protocol: it ends connections whose request or whose reading is overdue, and makes
room for a newcomer by ending the one that has been idle for longest.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

VISITORS_MAX: Final = 512
# How long the first request may take, headers and all; a browser or a scraper needs milliseconds.
REQUEST_S: Final = 10.0
# How long a connection may wait for its next request: longer than the interval of any scraper.
KEEPALIVE_S: Final = 150.0
# How long an answer may be taken from without the reader taking any of it.
READING_S: Final = 30.0
_LOOK_S: Final = 1.0
_NEVER: Final = float("inf")


class Visitors:
    """`protocol()` is what a listening socket wants; tell begin() and end() of every request."""

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._inside: dict[asyncio.BaseTransport, Visitor] = {}  # the longest idle first
        self._timer: asyncio.TimerHandle | None = None
        self.turned_out = 0

    def protocol(self) -> asyncio.Protocol:
        return Visitor(self, self._make())

    def begin(self, transport: asyncio.BaseTransport | None) -> None:
        """A request has come, and is being answered."""
        visitor = self._inside.get(transport) if transport is not None else None
        if visitor is not None:
            visitor.due = _NEVER

    def end(self, transport: asyncio.BaseTransport | None) -> None:
        """It is answered, as far as the answer is made."""
        visitor = self._inside.pop(transport, None) if transport is not None else None
        if transport is not None and visitor is not None:
            self._inside[transport] = visitor
            visitor.due = self._loop.time() + KEEPALIVE_S

    def entered(self, visitor: "Visitor", transport: asyncio.Transport) -> None:
        if len(self._inside) >= VISITORS_MAX:
            idle = next((other for other in self._inside.values() if other.due < _NEVER), None)
            (idle or visitor).turn_out()
            self.turned_out += 1
        visitor.due = self._loop.time() + REQUEST_S
        self._inside[transport] = visitor
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S, self._look)

    def left(self, transport: asyncio.BaseTransport) -> None:
        self._inside.pop(transport, None)

    def stuck(self, visitor: "Visitor", is_stuck: bool) -> None:
        visitor.reading_due = self._loop.time() + READING_S if is_stuck else _NEVER

    def _look(self) -> None:
        now = self._loop.time()
        for visitor in list(self._inside.values()):
            if min(visitor.due, visitor.reading_due) < now:
                visitor.turn_out()
                self.turned_out += 1
        self._timer = self._loop.call_later(_LOOK_S, self._look) if self._inside else None


class Visitor(asyncio.Protocol):
    """One connection: everything is passed on to aiohttp's protocol."""

    def __init__(self, visitors: Visitors, inner: asyncio.Protocol) -> None:
        self._visitors = visitors
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self.due = _NEVER  # when the next request is overdue
        self.reading_due = _NEVER

    def turn_out(self) -> None:
        if self._transport is not None:
            self._visitors.left(self._transport)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(transport)
        self._visitors.entered(self, self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._visitors.left(self._transport)
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._visitors.stuck(self, True)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._visitors.stuck(self, False)
        self._inner.resume_writing()
