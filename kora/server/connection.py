"""A client's connection: bytes from the socket to the engine, replies back, one write per read.

Back-pressure works both ways: a client that does not read its replies is not read from, and a turn that ends before its
input does (client.more) goes on after others had theirs, with reading stopped meanwhile.
"""

import asyncio
import contextlib
import os
import select
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

from kora.engine.client import Client
from kora.engine.description import output_limits_of
from kora.errors import AuditLogFull, CommandError, ProtectedMode, TooManyClients
from kora.log import logger
from kora.observe.recent import Unread
from kora.resp.reply import encode_error

if TYPE_CHECKING:
    from kora.engine.engine import Engine

log = logger("kora.server")

_READ_BYTES_MAX: Final = 1 << 18
# When to look whether a reply is sent that did not go out at once.
_LOOK_AGAIN_S: Final = 0.005
_LOOK_AGAIN_MAX_S: Final = 1.0
# Where tcpi_last_data_recv is in struct tcp_info (linux/tcp.h): behind 8 bytes and 11 numbers of 32 bits.
_LAST_DATA_RECEIVED: Final = 8 + 11 * 4
_TCP_INFO_BYTES: Final = _LAST_DATA_RECEIVED + 4


class Connection(asyncio.Protocol):
    __slots__ = (
        "_client",
        "_engine",
        "_held",
        "_is_polled",
        "_is_tcp",
        "_loop",
        "_receiver",
        "_scheduled",
        "_stuffed",
        "_swollen_ns",
        "_transport",
        "_unsent_ns",
        "_unsent_timer",
        "data_received",
    )

    def __init__(self, engine: "Engine", loop: asyncio.AbstractEventLoop) -> None:
        # For the life of the connection.
        self._engine = engine
        self._loop = loop
        self._receiver = engine.make_receiver()
        # The loop asks for this once, before there is a client, and calls it for every read.
        self.data_received = self._receiver.receive  # type: ignore[method-assign]
        self._transport: asyncio.Transport
        self._client: Client
        self._is_tcp = False  # and the system says when its data came
        # Right now.
        self._stuffed = False  # the client does not read: replies wait here, and it is not read from
        self._scheduled = False  # another turn comes by itself
        self._swollen_ns = 0  # since when more waits than the soft limit allows; 0: it does not
        self._is_polled = False  # the loop stands still
        self._held = bytearray()  # replies that the socket did not take meanwhile
        self._unsent_ns = 0  # since when a reply waits that did not go out at once; 0: there is none
        self._unsent_timer: asyncio.TimerHandle | None = None

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if hasattr(self, "_client"):
            self._move(cast(asyncio.Transport, transport))
            return
        self._transport = cast(asyncio.Transport, transport)
        engine = self._engine
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        refusal = self._refusal(peer)
        if refusal is not None:
            engine.connections_rejected += 1
            engine.audit.refused(f"{local}:0" if isinstance(local, str) else _text(peer), refusal)
            self._transport.write(encode_error(refusal.message))
            self._transport.close()
            return
        address = f"{local}:0" if isinstance(local, str) else _text(peer)
        client = self._client = engine.connect(address, _text(local))
        client.disconnect = self._disconnect
        client.kick = self._kick
        client.deliver = self._deliver
        client.output_bytes = self._waiting_bytes
        client.watch_output = self._watch_output
        client.data_age_ns = self._data_age_ns
        sock = transport.get_extra_info("socket")
        client.fd = sock.fileno()
        log.debug("client connected", client=address, client_id=client.id)
        if engine.config.tcp_keepalive and sock.family != socket.AF_UNIX:
            _keep_alive(sock, engine.config.tcp_keepalive)
        self._is_tcp = sock.family != socket.AF_UNIX and sys.platform == "linux"
        is_plain = transport.get_extra_info("ssl_object") is None
        write, fd = (self._write, client.fd) if is_plain else (self._transport.write, -1)
        self._receiver.bind(client, write, self._attend, self._waiting_bytes, fd)
        if is_plain or isinstance(transport, Readable):
            client.poll = self.poll

    def _move(self, transport: asyncio.Transport) -> None:
        """The loop takes over a connection that was accepted while it stood still, with whatever waits to be sent."""
        newcomer, self._transport = self._transport, transport
        assert isinstance(newcomer, Newcomer)
        client = self._client
        self._receiver.bind(client, self._write, self._attend, self._waiting_bytes, client.fd)
        if newcomer.is_closing():
            self._disconnect()
            return
        if newcomer.waiting:
            transport.write(bytes(newcomer.waiting))
        self._after_turn()

    def pause_writing(self) -> None:
        self._stuffed = True
        engine = self._engine
        if self._client.id in engine.clients:
            engine.recent.unread[self._client.id] = Unread(engine.monotonic_ns(), self._waiting_bytes())
        self._time_flush()
        self._transport.pause_reading()
        self._watch_output()

    def resume_writing(self) -> None:
        self._stuffed = False
        self._engine.recent.unread.pop(self._client.id, None)
        self._after_turn()

    def connection_lost(self, error: Exception | None) -> None:
        if not hasattr(self, "_client"):
            return  # it was turned away
        client = self._client
        log.debug("client disconnected", client=client.address, client_id=client.id, reason=str(error or ""))
        self._end_flush()
        self._receiver.release()
        self._engine.forget(client)
        # Without these the client and its connection would keep each other alive.
        client.disconnect = client.kick = client.watch_output = _gone
        client.deliver = _drop
        client.poll = _not_to_be_polled
        client.output_bytes = _no_bytes
        client.data_age_ns = _unknown_age_ns
        client.closing = True
        client.backlog = []

    # From the engine

    def _attend(self) -> None:
        """The client needs more than its replies."""
        client = self._client
        if client.parser.buffered_bytes > self._engine.config.client_query_buffer_limit:
            log.warning("query buffer over its limit", client=client.address, size_bytes=client.parser.buffered_bytes)
            self._disconnect()
        else:
            self._after_turn()

    def _disconnect(self) -> None:
        self._receiver.detach()
        self._transport.abort()

    def _kick(self) -> None:
        self._after_turn()

    def _deliver(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._receiver.send(data)
            self._watch_output()

    def _watch_output(self) -> None:
        """Give up a client for which more waits than client-output-buffer-limit allows: it does not read."""
        waiting_bytes = self._waiting_bytes()
        if not waiting_bytes:
            self._swollen_ns = 0
            return
        client, engine = self._client, self._engine
        hard_bytes, soft_bytes, soft_s = output_limits_of(client)
        is_over = 0 < hard_bytes < waiting_bytes
        if 0 < soft_bytes < waiting_bytes:
            now_ns = engine.monotonic_ns()
            self._swollen_ns = self._swollen_ns or now_ns
            is_over |= now_ns - self._swollen_ns > soft_s * 1_000_000_000
        else:
            self._swollen_ns = 0
        if is_over and not self._transport.is_closing():
            log.warning("output buffer over its limit", client=client.address, size_bytes=waiting_bytes)
            self._disconnect()

    def poll(self) -> int:
        """Do what the loop would do if it turned: read, and let the client have its turns until all is answered.

        Returns for what to look again before the loop turns: EPOLLIN, EPOLLOUT or 0 for nothing.
        """
        client, transport = self._client, self._transport
        if not self._is_polled:
            self._is_polled = True
            self._loop.call_soon(self._end_polling)
        self._send_held()
        if self._may_go_on() and not self._stuffed and not (client.parked and client.waiting is None):
            data = transport.read() if isinstance(transport, Readable) else _read(client.fd)
            if data:
                self.data_received(data)
            elif data is not None:
                self._disconnect()
            while client.more and not client.parked and self._may_go_on():
                self._turn()
        elif not self._held and not isinstance(transport, Readable):
            return 0
        if not transport.is_closing():
            return select.EPOLLOUT if self._waiting_bytes() else select.EPOLLIN
        # The loop will notice, too, but until then its place among maxclients is for others.
        self._engine.forget(client)
        if not self._waiting_bytes():
            _hang_up(client.fd)
        return 0

    def _may_go_on(self) -> bool:
        """Whether what is answered reaches the client before the loop turns."""
        return not (self._client.closing or self._transport.is_closing() or self._waiting_bytes())

    def go_on(self) -> None:
        """The loop turns again, and has the socket."""
        self._after_turn()

    # Inside

    def _write(self, data: "bytes | memoryview[Any]") -> None:
        """What a socket did not take: only the loop sends what its transport has, so that it gets nothing meanwhile."""
        if self._is_polled:
            self._held += data
        else:
            self._transport.write(data)
        self._time_flush()

    def _time_flush(self) -> None:
        """A reply did not go out at once: see how long it takes."""
        if not self._unsent_ns:
            self._unsent_ns = self._engine.monotonic_ns()
            self._unsent_timer = self._loop.call_later(_LOOK_AGAIN_S, self._look_whether_sent)

    def _look_whether_sent(self) -> None:
        if not self._waiting_bytes():
            self._end_flush()
            return
        # The longer it takes, the less exactly it need be known.
        elapsed_s = (self._engine.monotonic_ns() - self._unsent_ns) / 1e9
        delay_s = min(max(_LOOK_AGAIN_S, elapsed_s / 10), _LOOK_AGAIN_MAX_S)
        self._unsent_timer = self._loop.call_later(delay_s, self._look_whether_sent)

    def _end_flush(self) -> None:
        """All is sent, or never will be."""
        if self._unsent_timer is not None:
            self._unsent_timer.cancel()
            self._unsent_timer = None
        if self._unsent_ns:
            elapsed_ns = self._engine.monotonic_ns() - self._unsent_ns
            self._unsent_ns = 0
            self._engine.slowness.note_flush(self._client, elapsed_ns)

    def _data_age_ns(self) -> int:
        """How long ago the last data came, as TCP knows by a tick of the system's clock; -1 where it is not known."""
        if not self._is_tcp:
            return -1
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, self._client.fd)
        try:
            data = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        except OSError:
            return -1
        finally:
            sock.detach()  # the descriptor is the loop's
        if len(data) < _TCP_INFO_BYTES:
            return -1
        return int.from_bytes(data[_LAST_DATA_RECEIVED:_TCP_INFO_BYTES], sys.byteorder) * 1_000_000

    def _waiting_bytes(self) -> int:
        return len(self._held) + self._transport.get_write_buffer_size()

    def _send_held(self) -> None:
        if not self._held or self._transport.get_write_buffer_size() or self._transport.is_closing():
            return
        try:
            del self._held[: os.write(self._client.fd, self._held)]
        except BlockingIOError:
            return
        except OSError:
            self._held.clear()
            self._disconnect()
            return
        if not self._held:
            self._after_turn()

    def _end_polling(self) -> None:
        """The loop turns again."""
        self._is_polled = False
        data = bytes(self._held)
        self._held.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)
            self._after_turn()

    def _refusal(self, peer: Any) -> CommandError | None:
        config = self._engine.config
        if len(self._engine.clients) >= config.maxclients:
            return TooManyClients()
        if self._engine.audit.is_overfull:
            return AuditLogFull()
        is_open = self._engine.acl.default.needs_no_password
        if config.protected_mode and is_open and isinstance(peer, tuple) and not _is_loopback(peer[0]):
            return ProtectedMode()
        return None

    def _after_turn(self) -> None:
        """Decide how this connection goes on: close, wait, take another turn, or read."""
        client = self._client
        if self._transport.is_closing():
            return
        if client.closing and not self._held and not self._receiver.held:
            self._transport.close()
        elif self._stuffed or (client.parked and client.waiting is None):
            self._transport.pause_reading()
        elif client.waiting is not None:
            # It runs nothing, but is read from: else nobody would notice that it has gone.
            self._transport.resume_reading()
        elif client.more:
            self._transport.pause_reading()
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._turn)
        else:
            self._transport.resume_reading()

    def _turn(self) -> None:
        self._scheduled = False
        if self._stuffed or self._transport.is_closing():
            return
        self._engine.resume(self._client, self._receiver.send)
        self._after_turn()


@runtime_checkable
class Readable(Protocol):
    """A transport that can be read past the loop, since what the socket gives is not what the client has sent."""

    def read(self) -> bytes | None: ...


class Newcomer(asyncio.Transport):
    """The transport of a connection that was accepted while the loop stood still, until the loop has it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock, "peername": sock.getpeername(), "sockname": sock.getsockname()})
        self.sock = sock
        self.waiting = bytearray()  # what the socket does not take: it goes out with the loop's help
        self._is_closing = False

    def write(self, data: "bytes | bytearray | memoryview[Any]") -> None:
        if not self.waiting:
            with contextlib.suppress(OSError):
                data = data[self.sock.send(data) :]
        self.waiting += data

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            del self.waiting[: self.sock.send(self.waiting)]

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        # Where something waits, the connection closes once it has moved.
        self._is_closing |= not self.waiting

    def abort(self) -> None:
        self._is_closing = True
        self.waiting.clear()

    # Whoever attends to newcomers asks what they want each time.

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def _read(fd: int) -> bytes | None:
    """What has come; b"" where the peer has gone, None where nothing has come."""
    try:
        return os.read(fd, _READ_BYTES_MAX)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _hang_up(fd: int) -> None:
    """Let the peer see the end although the loop cannot close the socket yet."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def _gone() -> None:
    """The connection is lost already."""


def _drop(data: bytes) -> None:
    """There is nobody to read it."""


def _not_to_be_polled() -> int:
    return 0


def _no_bytes() -> int:
    return 0


def _unknown_age_ns() -> int:
    return -1


def _text(address: Any) -> str:
    """An address as CLIENT LIST shows it: 127.0.0.1:6379, [::1]:6379, /path:0."""
    if not isinstance(address, tuple):
        return f"{address}:0"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::ffff:127.")) or host == "::1"


def _keep_alive(sock: socket.socket, idle_s: int) -> None:
    """Probe an idle peer after so long, and give it up after three more thirds of that, as Redis does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle_s // 3))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
