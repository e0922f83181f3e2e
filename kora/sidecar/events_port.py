"""The port for events: HTTP/1.1 with as little as possible between a socket and the count.

Most requests are ones that were there before, to the byte: a client tracks the same key with the same headers.  Such a
read is looked up whole, and counted; it is parsed (httptools) only when it is new, or comes in pieces, or has something
behind it.  Requests of a connection are answered in their order; while one waits for the data process, those behind it
wait too, and nothing more is read.

Whoever says nothing, or takes no answers, or sends for ever, is turned out, like the visitors of the other port.
"""

import asyncio
import resource
from collections import deque
from collections.abc import Awaitable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, cast

import httptools

from kora.sidecar.event_requests import BODY_MAX
from kora.sidecar.events import BODY_TOO_LONG, Events, Reply, Request, failure
from kora.sidecar.tracker import Hit, Overloaded
from kora.sidecar.visitors import KEEPALIVE_S, READING_S, REQUEST_S

HEAD_MAX: Final = 8192
VISITORS_MAX: Final = 4096
# Descriptors that the rest of the sidecar may want.
_DESCRIPTORS_RESERVED: Final = 1024
# Requests that may wait behind one that is being answered; what was read with it aside.
_QUEUE_MAX: Final = 16
# How long a client may go on sending what nobody reads any more, so that it gets to see why.
_LINGER_S: Final = 2
# Reads that are known, and how long these may be: 4 MB at most.
_KNOWN_MAX: Final = 4096
_KNOWN_BYTES_MAX: Final = 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


class EventsPort:
    """`connection` is what a listening socket wants."""

    def __init__(self, events: Events) -> None:
        self._loop = asyncio.get_running_loop()
        self.events = events
        # What is known to be a request that is counted, and answered with no_content.
        self.known: dict[bytes, Hit] = {}
        self.no_content = b""
        self.head = b""
        # Seconds of the loop's clock, for as long as anybody is connected.
        self.second = 0
        self._timer: asyncio.TimerHandle | None = None
        self.connections: dict[Connection, None] = {}
        self._connections_max = VISITORS_MAX
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            self._connections_max = max(64, min(VISITORS_MAX, soft - _DESCRIPTORS_RESERVED))

    def connection(self) -> asyncio.Protocol:
        return Connection(self)

    def forget(self) -> None:
        self.known.clear()

    def remember(self, data: bytes, hit: Hit) -> None:
        if len(data) <= _KNOWN_BYTES_MAX and self.events.remembers:
            if len(self.known) >= _KNOWN_MAX:
                self.known.clear()
            self.known[data] = hit

    def entered(self, connection: "Connection") -> None:
        if len(self.connections) >= self._connections_max:
            idle = [other for other in self.connections if other.is_idle]
            (min(idle, key=_since) if idle else connection).turn_out()
            self.events.turned_out += 1
        connection.since = self.second = int(self._loop.time())
        self.connections[connection] = None
        self.events.connections += 1
        if self._timer is None:
            self._look()

    def left(self, connection: "Connection") -> None:
        if connection in self.connections:
            del self.connections[connection]
            self.events.connections -= 1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.turn_out()

    def _look(self) -> None:
        """Once a second: what time it is, and who is overdue."""
        self.second = int(self._loop.time())
        date = formatdate(usegmt=True).encode()
        self.head = b"Server: kora\r\nDate: " + date + b"\r\n"
        self.no_content = b"HTTP/1.1 204 No Content\r\n" + self.head + b"\r\n"
        for connection in list(self.connections):
            if connection.is_overdue(self.second):
                connection.turn_out()
                self.events.turned_out += 1
        self._timer = self._loop.call_later(1.0, self._look) if self.connections else None


def _since(connection: "Connection") -> int:
    return connection.since


class Connection(asyncio.Protocol):
    def __init__(self, port: EventsPort) -> None:
        # For life.
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._source = ""
        self._was_heard = False  # at least one request came
        self._is_closing = False  # no more is read; it was answered, or will be
        self._lingers = False  # all is answered, and what still comes is passed over
        self._got_end = False
        self._is_paused = False
        self.since = 0  # the second in which the request that is not whole began, or the last was answered
        self._stuck_since: int | None = None  # it takes no answers
        # Of requests that are whole and not answered.
        self._queue: deque[tuple[Request, bool, bytes]] = deque()  # with: stays open, HTTP version
        self._waiting: asyncio.Task[None] | None = None
        self._output: list[bytes] = []
        # Of the request that is being read.
        self._is_partial = False
        self._is_head = False
        self._head_bytes = 0  # of what the parser has told
        self._unseen_bytes = 0  # or may have kept for itself: of reads since the one that it began in
        self._url = b""
        self._authorization = ""
        self._expects = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._hit: Hit | None = None  # of the last that was answered
        self._answered = 0
        self._refusal: Reply | None = None

    # What the port asks

    @property
    def is_idle(self) -> bool:
        return not self._is_partial and self._waiting is None and not self._queue

    def is_overdue(self, second: int) -> bool:
        if self._stuck_since is not None:
            return second - self._stuck_since > READING_S
        if self._lingers:
            return second - self.since > _LINGER_S
        if self._waiting is not None:
            return False
        return second - self.since > (KEEPALIVE_S if self._was_heard and not self._is_partial else REQUEST_S)

    def turn_out(self) -> None:
        self._port.left(self)
        if self._transport is not None:
            self._transport.abort()

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._source = peer[0] if peer else ""
        self._port.entered(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._port.left(self)
        self._transport = None
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        port = self._port
        hit = port.known.get(data)
        # It is a request only where one begins.
        if hit is not None and self.is_idle and not self._is_closing:
            try:
                port.events.count(hit)
            except Overloaded:
                pass  # refused below
            else:
                self.since = port.second
                self._was_heard = True
                self._transport.write(port.no_content)  # type: ignore[union-attr]
                return
        if not self._is_closing:
            self._parse(data)

    def eof_received(self) -> bool:
        # What it has sent is answered still.
        self._is_closing = self._got_end = True
        return not self._lingers and (self._waiting is not None or bool(self._queue))

    def pause_writing(self) -> None:
        self._stuck_since = self._port.second
        self._pace()

    def resume_writing(self) -> None:
        self._stuck_since = None
        self._go_on()

    # From the parser

    def on_message_begin(self) -> None:
        self._is_partial = self._is_head = True
        self._head_bytes = self._unseen_bytes = 0
        self._url = b""
        self._authorization = ""
        self._expects = False
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._add_to_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._add_to_head(len(name) + len(value))
        name = name.lower()
        if name == b"authorization":
            self._authorization = value.decode("latin-1")
        elif name == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self._is_head = False
        if self._expects and self._waiting is None and not self._queue:
            self._output.append(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= BODY_MAX:
            self._body.append(body)
        elif self._refusal is None:
            self._refusal = BODY_TOO_LONG

    def on_message_complete(self) -> None:
        self._is_partial = False
        if self._refusal is not None:
            return
        path, _, query = self._url.partition(b"?")
        if not path.startswith(b"/"):
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]  # as to a proxy
        request = Request(
            self._parser.get_method().decode("latin-1"),
            path.decode("latin-1"),
            query.partition(b"#")[0],
            b"".join(self._body),
            self._authorization,
            self._source,
        )
        self._queue.append((request, self._parser.should_keep_alive(), self._parser.get_http_version().encode()))

    # Inside

    def _parse(self, data: bytes) -> None:
        was_partial = self._is_partial
        self._hit, self._answered = None, 0
        if was_partial and self._is_head:
            self._unseen_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing is spoken here but this; it is answered as if it had not been asked, and that is all.
            self._is_closing = True
        except httptools.HttpParserError:
            self._refusal = self._refusal or failure(400, {"error": "not a valid HTTP request"})
        if self._is_partial and self._is_head:
            self._check_head(self._unseen_bytes)
        if not self._is_partial:
            self.since = self._port.second
            self._was_heard = True
        elif not was_partial:
            self.since = self._port.second
        if self._refusal is not None:
            self._is_closing = True
        self._go_on()
        is_all_of_it = self._answered == 1 and not was_partial and not self._is_partial
        if self._hit is not None and is_all_of_it and not self._is_closing:
            self._port.remember(data, self._hit)

    def _add_to_head(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        self._check_head(self._head_bytes)

    def _check_head(self, size_bytes: int) -> None:
        if size_bytes > HEAD_MAX and self._refusal is None:
            self._refusal = failure(431, {"error": f"the head is longer than {HEAD_MAX} bytes"})

    def _go_on(self) -> None:
        """Answer what can be answered."""
        while self._queue and self._waiting is None and self._stuck_since is None:
            request, stays_open, version = self._queue.popleft()
            answer = self._port.events.answer(request)
            if isinstance(answer, Reply):
                self._finish(request, answer, stays_open, version)
            else:
                task = self._wait(request, answer, stays_open, version)
                self._waiting = asyncio.get_running_loop().create_task(task)
        if self._refusal is not None and not self._queue and self._waiting is None:
            self._port.events.counted("other", self._refusal)
            self._write(self._refusal, stays_open=False, version=b"1.1")
            self._refusal = None
            self._lingers = True
            self.since = self._port.second
        self._send()
        self._pace()

    async def _wait(self, request: Request, answer: Awaitable[Reply], stays_open: bool, version: bytes) -> None:
        reply = await answer
        self._waiting = None
        self.since = self._port.second
        self._finish(request, reply, stays_open, version)
        self._go_on()

    def _finish(self, request: Request, reply: Reply, stays_open: bool, version: bytes) -> None:
        self._hit = reply.hit if stays_open and version == b"1.1" else None
        self._answered += 1
        stays_open = stays_open and not (self._is_closing and not self._queue and self._refusal is None)
        self._write(reply, stays_open, version, has_body=request.method != "HEAD")
        if not stays_open:
            self._is_closing = self._lingers = True
            self._queue.clear()
            self._refusal = None

    def _write(self, reply: Reply, stays_open: bool, version: bytes, has_body: bool = True) -> None:
        lines = [f"HTTP/1.1 {reply.code} {_REASONS[reply.code]}\r\n".encode(), self._port.head]
        lines += [f"{name}: {value}\r\n".encode() for name, value in reply.headers]
        if reply.body:
            head = b"Content-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: %d\r\n"
            lines.append(head % len(reply.body))
        if not stays_open:
            lines.append(b"Connection: close\r\n")
        elif version == b"1.0":
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        if has_body:
            lines.append(reply.body)
        self._output.append(b"".join(lines))

    def _send(self) -> None:
        if self._transport is None or not self._output:
            return
        self._transport.write(b"".join(self._output))
        self._output.clear()
        if self._lingers and self._got_end:
            self._transport.close()
        elif self._lingers:
            self._transport.write_eof()

    def _pace(self) -> None:
        """Read on, or not."""
        if self._transport is None or self._transport.is_closing():
            return
        is_full = self._stuck_since is not None or len(self._queue) > _QUEUE_MAX
        if is_full and not self._is_paused:
            self._transport.pause_reading()
        elif self._is_paused and not is_full:
            self._transport.resume_reading()
        self._is_paused = is_full
