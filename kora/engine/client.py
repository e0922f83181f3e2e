"""What the engine knows of a connection.  It has no socket: bytes go into execute(), and replies are its result."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kora import kernel
from kora.observe.board import address_text
from kora.resp.reply import Encoder, Reply, encode2, encode3

if TYPE_CHECKING:
    from kora.engine.engine import Engine
    from kora.engine.registry import Command
    from kora.store.keyspace import Keyspace

# Replies of one turn beyond which the rest waits until these are on their way, so that a pipeline of GETs of large
# values never builds up in memory.
TURN_BYTES_MAX = 1 << 20


class PlainState:
    """What is asked of a client at every turn: attributes that the kernel wants within its reach."""

    __slots__ = (
        "backlog",
        "board_address",
        "command",
        "db",
        "encode",
        "gated",
        "halted",
        "id",
        "last_ns",
        "more",
        "parked",
        "parser",
    )


if TYPE_CHECKING:
    ClientState = PlainState
else:
    # Chosen once, as the kernel is; the reference is as content with the kernel's.
    ClientState = PlainState if kernel.load() is None else kernel.load().ClientState


class Client(ClientState):
    __slots__ = (
        "_closing",
        "address",
        "authenticated",
        "connected_ms",
        "disconnect",
        "engine",
        "fd",
        "kick",
        "lib_name",
        "lib_version",
        "local_address",
        "muted",
        "name",
        "output_bytes",
        "protocol",
        "skips_left",
        "user",
    )

    is_script = False  # of whom the commands of a script come, which are admitted by other rules

    def __init__(self, engine: "Engine", client_id: int, address: str = "", local_address: str = "") -> None:
        # For the life of the connection.
        self.engine = engine
        self.id = client_id
        self.address = address  # ip:port, or path:0 of a Unix socket, as CLIENT LIST shows it
        self.board_address = address_text(address)
        self.local_address = local_address
        self.fd = -1  # of the socket, where there is one
        self.connected_ms = engine.clock.wall_ms()
        self.parser = engine.make_parser()
        self.parser.bulk_max = engine.config.proto_max_bulk_len
        # Set by whoever holds the socket: close it (CLIENT KILL, limits); ask to be run again (CLIENT UNPAUSE);
        # and how many bytes of replies wait to be sent.
        self.disconnect: Callable[[], None] = _nothing
        self.kick: Callable[[], None] = _nothing
        self.output_bytes: Callable[[], int] = _no_bytes
        # What the client has set; reset() restores it.
        self.db: Keyspace = engine.databases[0]
        self.protocol = 2
        self.encode: Encoder = encode2
        self.muted = False  # CLIENT REPLY OFF
        self.skips_left = 0  # replies to swallow: CLIENT REPLY SKIP
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.user = "default"
        self.authenticated = False
        self.set_authenticated(not engine.config.requirepass)
        # Of the current turn.
        self.command: Command | None = None  # that runs, or ran last
        self.last_ns = engine.clock.monotonic_ns()
        self.backlog: list[list[bytes]] = []  # parsed, and waiting for their turn
        self.more = False  # the turn ended before the input did
        self.halted = False  # the turn ends after the command that runs
        self.parked = False  # takes no turns until kick(): CLIENT PAUSE
        self._closing = False

    def set_authenticated(self, authenticated: bool) -> None:
        self.authenticated = self.parser.authenticated = authenticated
        # call() looks closer at the requests of such a client, and tests only this one flag.
        self.gated = not authenticated

    def set_protocol(self, protocol: int) -> None:
        self.protocol = protocol
        self._choose_encoder()

    def set_muted(self, muted: bool) -> None:
        """CLIENT REPLY OFF and ON."""
        self.muted = muted
        self.skips_left = 0
        self._choose_encoder()

    def skip_replies(self, count: int) -> None:
        """Swallow the next replies; each command encodes exactly one."""
        self.skips_left = count
        self._choose_encoder()

    def reset(self) -> None:
        """RESET: as if just connected."""
        self.db = self.engine.databases[0]
        self.name = b""
        self.protocol = 2
        self.user = "default"
        self.muted = False  # a SKIP still takes the reply of RESET, as in Redis
        self._choose_encoder()
        self.set_authenticated(not self.engine.config.requirepass)

    def _choose_encoder(self) -> None:
        if self.skips_left:
            self.encode = self._skip
        else:
            self.encode = _mute if self.muted else encode3 if self.protocol == 3 else encode2

    def _skip(self, _: Reply) -> bytes:
        self.skips_left -= 1
        self._choose_encoder()
        return b""

    @property
    def closing(self) -> bool:
        """To be closed once what is encoded is sent; nothing that comes after is run."""
        return self._closing

    @closing.setter
    def closing(self, closing: bool) -> None:
        self._closing = closing
        if closing:
            self.halted = True
            self.more = True  # so that execute() goes through resume(), which asks

    @property
    def last_command(self) -> str:
        """`client|list`, as CLIENT LIST shows it; `NULL` before the first."""
        return self.command.name if self.command else "NULL"

    @property
    def idle_ns(self) -> int:
        return max(0, self.engine.clock.monotonic_ns() - self.last_ns)


def _nothing() -> None:
    """A client without a connection: in tests, and until the connection has introduced itself."""


def _no_bytes() -> int:
    return 0


def _mute(_: Reply) -> bytes:
    return b""
