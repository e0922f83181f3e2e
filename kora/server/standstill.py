"""Attends to connections while a script keeps the event loop from turning.

A script runs on the loop's thread, and no loop can be run from within itself.  So this looks at the sockets past the
loop: whose client has sent something, and who wants to connect.  A read here is none that the loop will miss: what it
knows of a socket it asks the system each time.  Whoever has come meanwhile is handed to the loop when that turns again,
and keeps the client that it has been.

Of those who speak TLS, the ones who came before have to wait: what turns their bytes into requests is the loop's own.
Signals need not: they are taken from the loop meanwhile, so that each is dealt with once.
"""

import asyncio
import os
import select
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kora.observe.board import HEARTBEAT
from kora.server.connection import Connection, Newcomer
from kora.server.listener import Listeners
from kora.server.tls import TlsTransport

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_ACCEPTED_MAX: Final = 64  # at each look, and of each socket


class Standstill:
    def __init__(
        self,
        engine: "Engine",
        loop: asyncio.AbstractEventLoop,
        listeners: Listeners,
        signals: Mapping[signal.Signals, Callable[[], object]],
    ) -> None:
        # For the life of the server.
        self._signals = signals  # what to do about each
        self._engine = engine
        self._loop = loop
        self._listeners = listeners
        self._moves: set[asyncio.Task[None]] = set()
        # From the first look to the loop's next turn.
        self._poller: select.epoll | None = None
        self._doors: dict[int, tuple[socket.socket, ssl.SSLContext | None]] = {}
        self._polls: dict[int, Callable[[], int]] = {}  # of clients, by descriptor
        self._newcomers: dict[int, tuple[Newcomer, Connection | TlsTransport]] = {}
        self._loops_handlers: dict[int, Any] = {}
        self._loops_wakeup_fd = -1

    def attend(self) -> None:
        """Serve everybody who has sent something: engine.pump."""
        poller = self._poller or self._begin()
        self._engine.board.words[HEARTBEAT] = time.monotonic_ns()
        # Not whose script runs, in the middle of its turn.
        running = self._engine.implementation.running
        running_fd = -1 if running is None else running.fd
        for fd, _ in poller.poll(0):
            if fd in self._doors:
                self._accept(poller, *self._doors[fd])
            elif fd != running_fd:
                self._poll(poller, fd)

    def _begin(self) -> select.epoll:
        self._loop.call_soon(self._end)
        self._take_signals()
        poller = self._poller = select.epoll()
        for door_fd, context in self._listeners.doors():
            door = socket.socket(fileno=os.dup(door_fd))
            door.setblocking(False)
            self._doors[door.fileno()] = door, context
            poller.register(door, select.EPOLLIN)
        running = self._engine.implementation.running
        for client in list(self._engine.clients.values()):
            if client.fd >= 0:
                self._polls[client.fd] = client.poll
                poller.register(client.fd, select.EPOLLIN)
                if client.more and client is not running:
                    self._poll(poller, client.fd)
        return poller

    def _accept(self, poller: select.epoll, door: socket.socket, context: ssl.SSLContext | None) -> None:
        for _ in range(_ACCEPTED_MAX):
            try:
                sock, _ = door.accept()
            except OSError:
                return  # nobody more, or nobody can be taken in right now
            sock.setblocking(False)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                newcomer = Newcomer(sock)
            except OSError:
                sock.close()  # it has gone already
                continue
            connection = Connection(self._engine, self._loop)
            protocol: Connection | TlsTransport = connection
            if context is None:
                connection.connection_made(newcomer)
            else:
                protocol = TlsTransport(newcomer, context, connection, self._loop)
            if newcomer.is_closing():
                _close(newcomer, protocol)
                continue
            fd = sock.fileno()
            self._newcomers[fd] = newcomer, protocol
            self._polls[fd] = protocol.poll
            poller.register(fd, select.EPOLLIN)

    def _poll(self, poller: select.epoll, fd: int) -> None:
        events = self._polls[fd]()
        if events:
            poller.modify(fd, events)
            return
        poller.unregister(fd)
        del self._polls[fd]
        if fd in self._newcomers and self._newcomers[fd][0].is_closing():
            _close(*self._newcomers.pop(fd))

    def _end(self) -> None:
        """The loop turns again."""
        assert self._poller is not None
        self._give_signals_back()
        self._poller.close()
        self._poller = None
        for door, _ in self._doors.values():
            door.close()
        self._doors.clear()
        self._polls.clear()
        newcomers, self._newcomers = self._newcomers, {}
        for newcomer, protocol in newcomers.values():
            task = self._loop.create_task(self._move(newcomer, protocol))
            self._moves.add(task)
            task.add_done_callback(self._moves.discard)

    def _take_signals(self) -> None:
        self._loops_wakeup_fd = signal.set_wakeup_fd(-1)
        for number, handle in self._signals.items():
            self._loops_handlers[number] = signal.signal(number, lambda *_, handle=handle: handle())

    def _give_signals_back(self) -> None:
        for number, handler in self._loops_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._loops_wakeup_fd)

    async def _move(self, newcomer: Newcomer, protocol: Connection | TlsTransport) -> None:
        if newcomer.is_closing():
            _close(newcomer, protocol)
            return
        await self._loop.connect_accepted_socket(lambda: protocol, newcomer.sock)


def _close(newcomer: Newcomer, protocol: Connection | TlsTransport) -> None:
    protocol.connection_lost(None)
    newcomer.sock.close()
