"""A client in one line, as CLIENT LIST and ACL LOG show it, and of which class it is."""

from typing import TYPE_CHECKING, Final

from kora.engine.client_memory import memory_bytes

if TYPE_CHECKING:
    from kora.engine.client import Client

# As clients that listen to channels have by default.
MONITOR_OUTPUT_BYTES_MAX: Final = 32 << 20


def class_of(client: "Client") -> str:
    """`normal` or `pubsub`: there are no replicas."""
    return "pubsub" if client.subscriptions_count else "normal"


def output_limits_of(client: "Client") -> tuple[int, int, int]:
    """What may wait for a client: bytes at once, and bytes for so many seconds; 0 sets no limit.

    Redis has no limit for monitors either, unless there is one for ordinary clients: one that does not read then fills
    the memory.
    """
    hard_bytes, soft_bytes, soft_s = client.engine.output_limits[class_of(client)]
    if client.is_monitor and not hard_bytes:
        hard_bytes = MONITOR_OUTPUT_BYTES_MAX
    return hard_bytes, soft_bytes, soft_s


def describe(client: "Client", idle_ns: int, argv_bytes: int) -> str:
    """The line of CLIENT LIST: Redis 7.0's fields, and the library's as 7.2 has them (catClientInfoString)."""
    input_bytes, output_bytes = client.parser.buffered_bytes, client.output_bytes()
    multi_bytes = client.transaction.size_bytes if client.transaction else 0
    fields: dict[str, object] = {
        "id": client.id,
        "addr": client.address,
        "laddr": client.local_address,
        "fd": client.fd,
        "name": client.name.decode(),
        "age": max(0, client.engine.clock.wall_ms() - client.connected_ms) // 1000,
        "idle": idle_ns // 1_000_000_000,
        "flags": _flags(client),
        "db": client.db.index,
        "sub": len(client.channels),
        "psub": len(client.patterns),
        "ssub": len(client.shard_channels),
        "multi": len(client.transaction.requests) if client.transaction else -1,
        "qbuf": input_bytes,
        "qbuf-free": 0,  # what arrives is kept as it is, without room for more
        "argv-mem": argv_bytes,
        "multi-mem": multi_bytes,
        "rbs": 0,  # there is no fixed reply buffer: what is not sent at once waits in the transport
        "rbp": 0,
        "obl": 0,
        "oll": 1 if output_bytes else 0,
        "omem": output_bytes,
        "tot-mem": memory_bytes(client) + argv_bytes,
        "events": ("" if client.parked else "r") + ("w" if output_bytes else ""),
        "cmd": client.last_command,
        "user": client.user.name.decode("utf-8", "surrogateescape"),
        "redir": client.tracking.redirect if client.tracking is not None else -1,
        "resp": client.protocol,
        "lib-name": client.lib_name.decode(),
        "lib-ver": client.lib_version.decode(),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items()) + "\n"


def _flags(client: "Client") -> str:
    flags = "O" * client.is_monitor + "P" * bool(client.subscriptions_count)
    if client.transaction is not None:
        flags += "x"
    if client.parked and client.fetching is None:
        flags += "b"
    wish = client.tracking
    if wish is not None:
        flags += "t" + "R" * wish.is_broken + "B" * wish.broadcasts
    if client.watch_broken:
        flags += "d"
    if client.closing:
        flags += "c"
    if client.address.endswith(":0"):  # path:0, which no TCP port is
        flags += "U"
    if client.never_evicted:
        flags += "e"
    if client.never_touches:
        flags += "T"
    return flags or "N"
