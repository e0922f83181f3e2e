"""What the engine knows of a connection.  It has no socket: bytes go into execute(), and replies are its result."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kora import kernel
from kora.observe.board import address_text
from kora.resp.reply import Encoder, Push, Replies, Reply, encode2, encode3

if TYPE_CHECKING:
    from kora.engine.acl import User
    from kora.engine.blocking import Wait
    from kora.engine.cache import Reading
    from kora.engine.engine import Engine
    from kora.engine.pubsub import Space
    from kora.engine.registry import Command
    from kora.engine.tracking import Wish
    from kora.engine.transactions import Transaction
    from kora.observe.traces import Context
    from kora.store.keyspace import Keyspace

# Replies of one turn beyond which the rest waits until these are on their way, so that a pipeline of GETs of large
# values never builds up in memory.
TURN_BYTES_MAX = 1 << 20


class PlainState:
    """What is asked of a client at every turn: attributes that the kernel wants within its reach."""

    __slots__ = (
        "arrived_ns",
        "backlog",
        "board_address",
        "command",
        "db",
        "encode",
        "fetched",
        "fetching",
        "gated",
        "halted",
        "id",
        "identity",
        "last_ns",
        "more",
        "parked",
        "parser",
        "pause_ns",
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
        "channels",
        "connected_ms",
        "context",
        "data_age_ns",
        "deliver",
        "disconnect",
        "engine",
        "fd",
        "has_heavy_backlog",
        "is_monitor",
        "kick",
        "lasting_context",
        "lib_name",
        "lib_version",
        "local_address",
        "muted",
        "name",
        "never_evicted",
        "never_touches",
        "output_bytes",
        "patterns",
        "poll",
        "protocol",
        "pushed",
        "shard_channels",
        "skips_left",
        "traces_once",
        "tracking",
        "transaction",
        "user",
        "waiting",
        "watch_broken",
        "watch_output",
        "watched",
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
        self.watch_output: Callable[[], None] = _nothing  # disconnects it where too much waits
        # Sends what is no reply of a turn: messages, and replies of commands that were waiting.
        self.deliver: Callable[[bytes], None] = _drop
        # Reads and answers past the event loop, while a script keeps that from turning; returns for which events of
        # epoll to look again meanwhile.
        self.poll: Callable[[], int] = _not_to_be_polled
        # How long ago the system says that its last data came; -1: it does not say.
        self.data_age_ns: Callable[[], int] = _unknown_age_ns
        # What the client has set; reset() restores it.
        self.identity: bytes | None = None  # who it is, in the audit log; None: see Audit.identify()
        self.db: Keyspace = engine.databases[0]
        self.protocol = 2
        self.encode: Encoder = encode2
        self.muted = False  # CLIENT REPLY OFF
        self.skips_left = 0  # replies to swallow: CLIENT REPLY SKIP
        self.name = b""
        self.lib_name = b""
        self.lib_version = b""
        self.user: User = engine.acl.default
        self.authenticated = False
        self.never_evicted = False  # CLIENT NO-EVICT
        self.never_touches = False  # CLIENT NO-TOUCH
        self.tracking: Wish | None = None
        # The trace that its requests belong to, or the next of them: CLIENT TRACE.
        self.context: Context | None = None
        self.lasting_context: Context | None = None  # that of all others
        self.traces_once = False
        self.channels: dict[bytes, None] = {}
        self.patterns: dict[bytes, None] = {}
        self.shard_channels: dict[bytes, None] = {}
        self.transaction: Transaction | None = None
        self.watched: dict[tuple[int, bytes], Keyspace] = {}
        self.watch_broken = False  # a watched key was touched
        self.is_monitor = False  # MONITOR
        # What it waits for; takes no turns meanwhile.
        self.waiting: Wait | None = None
        self.set_authenticated(self.user.is_open)
        # Of the current turn.
        self.command: Command | None = None  # that runs, or ran last
        self.last_ns = engine.clock.monotonic_ns()  # when it began, or was last answered
        self.arrived_ns = 0  # when what it runs could be read, about: see kora/observe/service.py
        self.pause_ns = 0  # from a reply until the next request, on average; 0: not known
        self.backlog: list[list[bytes]] = []  # parsed, and waiting for their turn
        self.has_heavy_backlog = False  # there may be a large request in it
        self.pushed: list[bytes] = []  # to be sent behind the reply of the command that runs
        self.more = False  # the turn ended before the input did
        self.fetching: Reading | None = None  # parked, until what it needs is in memory
        self.fetched = 0  # requests of its backlog that nothing more is fetched for
        self.halted = False  # the turn ends after the command that runs
        self.parked = False  # takes no turns until kick(): CLIENT PAUSE, or it is waiting or fetching
        self._closing = False

    def set_authenticated(self, authenticated: bool) -> None:
        self.authenticated = self.parser.authenticated = authenticated
        self.update_gate()

    def update_gate(self) -> None:
        """Decide whether call() has to look closer at this client's requests; it tests only this one flag."""
        self.identity = None  # for the user may be another
        self.gated = (
            not self.authenticated
            or self.transaction is not None
            or self.listens_only
            or self.is_monitor
            or self.never_touches
            or (self.context is not None and self.engine.tracing.is_on)
            or not self.user.may_do_all
            or (self.tracking is not None and not self.tracking.broadcasts)
        )

    @property
    def listens_only(self) -> bool:
        """Whether it has subscribed to something, in RESP2: then it may say little else."""
        return self.protocol == 2 and self.subscriptions_count > 0

    @property
    def subscriptions_count(self) -> int:
        return len(self.channels) + len(self.patterns) + len(self.shard_channels)

    def subscriptions(self, space: "Space") -> dict[bytes, None]:
        """The names of a space that it listens to, in order."""
        pubsub = self.engine.pubsub
        if space is pubsub.channels:
            return self.channels
        return self.patterns if space is pubsub.patterns else self.shard_channels

    def wait(
        self,
        keys: Iterable[bytes],
        timeout_s: float,
        on_timeout: Reply,
        argv: list[bytes],
        wakes_on_loss: bool = False,
    ) -> Reply:
        """Wait for keys, and have argv run again when one is touched: for a handler, which returns what this returns.

        Without anybody who could touch them, in a transaction or a script, the time is over at once.  `wakes_on_loss`
        is for a command that wants to know that a key is gone.
        """
        if self.engine.nested:
            return on_timeout
        return self.engine.blocking.park(self, argv, keys, timeout_s, on_timeout, wakes_on_loss)

    def push(self, data: bytes) -> None:
        """Send something that is no reply to the command that runs: behind all that was answered before."""
        if self.engine.implementation.running is self:
            self.pushed.append(data)
            self.engine.interrupt()
        else:
            self.deliver(data)

    def set_protocol(self, protocol: int) -> None:
        self.protocol = protocol
        self._choose_encoder()
        self.update_gate()

    def set_name(self, name: bytes) -> None:
        self.name = name
        self.identity = None

    def set_muted(self, muted: bool) -> None:
        """CLIENT REPLY OFF and ON."""
        self.muted = muted
        self.skips_left = 0
        self._choose_encoder()

    def skip_replies(self, count: int) -> None:
        """Swallow the next replies; each command encodes exactly one."""
        self.skips_left = count
        self._choose_encoder()

    def set_context(self, context: "Context | None", once: bool = False) -> None:
        """CLIENT TRACE, or an attribute before a request."""
        if once and not self.engine.tracing.is_on:
            return  # that request will not be looked at
        self.context = context
        self.traces_once = once
        if not once:
            self.lasting_context = context
        self.update_gate()

    def end_transaction(self) -> None:
        """Back to one command at a time: what was queued and what is watched is forgotten."""
        self.transaction = None
        self.engine.watches.unwatch(self)
        self.update_gate()

    def reset(self) -> None:
        """RESET: as if just connected."""
        self.end_transaction()
        self.engine.pubsub.forget(self)
        self.engine.tracking.stop(self)
        self.engine.slowness.monitors.forget(self)
        self.never_evicted = self.never_touches = False
        self.set_context(None)
        self.db = self.engine.databases[0]
        self.name = b""
        self.protocol = 2
        self.muted = False  # a SKIP still takes the reply of RESET, as in Redis
        self._choose_encoder()
        self.engine.acl.log_out(self)

    def _choose_encoder(self) -> None:
        if self.skips_left:
            self.encode = self._skip
        else:
            self.encode = self._mute if self.muted else self._encode

    @property
    def _encode(self) -> Encoder:
        return encode3 if self.protocol == 3 else encode2

    def _mute(self, reply: Reply) -> bytes:
        # Who listens to what is told in any case, as messages are.
        return self._encode(reply) if type(reply) is Push or type(reply) is Replies else b""

    def _skip(self, reply: Reply) -> bytes:
        self.skips_left -= 1
        self._choose_encoder()
        return self._mute(reply)

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


def _drop(data: bytes) -> None:
    """There is nobody to read it."""


def _not_to_be_polled() -> int:
    return 0


def _unknown_age_ns() -> int:
    return -1


def _no_bytes() -> int:
    return 0
