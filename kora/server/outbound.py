"""Connections to other servers, for MIGRATE.  One that is idle is kept for a while, for the next to the same address.

Requests are sent while replies are read: a server that does not get rid of its replies may stop to read.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from kora.engine.outbound import CONNECTING, READING, WRITING, Exchange

if TYPE_CHECKING:
    from kora.engine.engine import Engine


# As in Redis (MIGRATE_SOCKET_CACHE_ITEMS and _TTL, cluster.c).
_KEPT_MAX: Final = 64
_KEPT_S: Final = 10.0
_CHUNK_BYTES: Final = 1 << 16

Address = tuple[str, int]
# What goes wrong on the way; UnicodeError and OverflowError are names and ports that are none.
_FAULTS: Final = (OSError, asyncio.TimeoutError, EOFError, UnicodeError, OverflowError, ValueError)


class _Link:
    """A connection, and what is known of its other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.database: int | None = 0
        self.timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.writer.transport.abort()


class _Watchdog:
    """Cuts a connection on which nothing moves for too long."""

    def __init__(self, link: _Link, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._timeout_s = timeout_s
        self._moved_s = self._loop.time()
        self._timer = self._loop.call_later(timeout_s, self._look)
        self.has_bitten = False

    def note(self) -> None:
        self._moved_s = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left_s = self._moved_s + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self.has_bitten = True
            self._link.writer.transport.abort()


class ServerOutbound:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._kept: dict[Address, _Link] = {}  # idle, the longest first
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def run(self, exchange: Exchange) -> None:
        """On a connection of its own, which is not kept."""
        exchange.end(_carry_now(exchange))

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._kept.values():
            link.close()
        self._kept.clear()

    async def _carry(self, exchange: Exchange) -> None:
        try:
            failure, may_retry = await self._try(exchange)
            if failure and may_retry:
                # A kept connection may be closed by now, as it would be by a server that was started anew.
                failure, _ = await self._try(exchange)
            exchange.end(failure)
        except Exception as error:
            self._engine.note_bug(error, command="migrate")
            exchange.end(READING)

    async def _try(self, exchange: Exchange) -> tuple[str, bool]:
        """Returns how it failed, if it did, and whether it may be tried again: nothing was answered, in good time."""
        link = self._take(exchange.address)
        if link is None:
            try:
                streams = asyncio.open_connection(*exchange.address)
                link = _Link(*await asyncio.wait_for(streams, exchange.timeout_s))
            except _FAULTS as error:
                return _connecting_failure(error), False
        watchdog = _Watchdog(link, exchange.timeout_s)
        receiving = asyncio.get_running_loop().create_task(_receive(exchange, link, watchdog))
        failure = ""
        try:
            try:
                for chunk in _chunks(exchange.begin(link.database)):
                    link.writer.write(chunk)
                    await link.writer.drain()
                    watchdog.note()
            except _FAULTS:
                failure = WRITING
                link.close()
            try:
                await receiving
            except _FAULTS:
                failure = failure or READING
        finally:
            receiving.cancel()
            watchdog.stop()
            if failure or not exchange.is_answered:
                link.close()
        if failure:
            return failure, not watchdog.has_bitten and not exchange.answered
        link.database = exchange.database
        self._keep(exchange.address, link)
        return "", False

    def _take(self, address: Address) -> _Link | None:
        link = self._kept.pop(address, None)
        if link is None:
            return None
        if link.timer is not None:
            link.timer.cancel()
        if link.reader.at_eof() or link.writer.transport.is_closing():
            link.close()
            return None
        return link

    def _keep(self, address: Address, link: _Link) -> None:
        self._drop(address)
        if len(self._kept) >= _KEPT_MAX:
            self._drop(next(iter(self._kept)))
        self._kept[address] = link
        link.timer = asyncio.get_running_loop().call_later(_KEPT_S, self._drop, address)

    def _drop(self, address: Address) -> None:
        link = self._kept.pop(address, None)
        if link is not None:
            link.close()


async def _receive(exchange: Exchange, link: _Link, watchdog: _Watchdog) -> None:
    while not exchange.is_answered:
        line = await link.reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        watchdog.note()
        exchange.take(line.rstrip(b"\r\n"))


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """The same bytes in pieces of 64 KB, about."""
    gathered = bytearray()
    for piece in pieces:
        if len(piece) < _CHUNK_BYTES:
            gathered += piece
            if len(gathered) < _CHUNK_BYTES:
                continue
        if gathered:
            yield bytes(gathered)
            gathered.clear()
        if len(piece) >= _CHUNK_BYTES:
            view = memoryview(piece)
            for start in range(0, len(piece), _CHUNK_BYTES):
                yield view[start : start + _CHUNK_BYTES]
    if gathered:
        yield bytes(gathered)


def _connecting_failure(error: BaseException) -> str:
    """Redis does not learn that nobody listens before it sends something."""
    return WRITING if isinstance(error, ConnectionRefusedError) else CONNECTING


def _carry_now(exchange: Exchange) -> str:
    """As ServerOutbound._try(), without an event loop."""
    try:
        connection = socket.create_connection(exchange.address, exchange.timeout_s)
    except _FAULTS as error:
        return _connecting_failure(error)
    with connection:
        connection.settimeout(exchange.timeout_s)
        try:
            for chunk in _chunks(exchange.begin(0)):
                connection.sendall(chunk)
        except _FAULTS:
            return WRITING
        with contextlib.suppress(*_FAULTS), connection.makefile("rb") as lines:
            while not exchange.is_answered:
                line = lines.readline()
                if not line.endswith(b"\n"):
                    break
                exchange.take(line.rstrip(b"\r\n"))
    return "" if exchange.is_answered else READING
