"""Replication, of a server that has no replicas and is none: what clients, tools and frameworks ask all the same.

WAIT and WAITAOF belong to every server: without replicas they wait until the time is over, as in Redis.
"""

from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import OK, Replies, Reply
from kora.types.number import parse_integer

replication = Family("server")
acknowledgement = Family("generic")

_ADMIN: Final = "admin noscript"
_TIMEOUT: Final = CommandError("ERR timeout is not an integer or out of range")
_POSITIVE: Final = CommandError("ERR value is out of range, must be positive")
_PORT: Final = CommandError("ERR Invalid master port")
# Bytes of an address that a replica may name: NET_HOST_STR_LEN (server.h of Redis).
_ADDRESS_MAX: Final = 255


# Waiting for others to have what was written


@acknowledgement(
    "WAIT numreplicas:int timeout:int",
    "Waits until so many replicas have what the connection wrote; there are none.",
    flags="noscript",
    since="3.0.0",
    acl="connection -keyspace",
    tips=("request_policy:all_shards", "response_policy:agg_min"),
)
def wait(client: Client, argv: list[bytes]) -> Reply:
    replicas, timeout_ms = parse_integer(argv[1]), _parse_timeout_ms(argv[2])
    return 0 if replicas <= 0 else client.wait((), timeout_ms / 1000, 0, argv)


@acknowledgement(
    "WAITAOF numlocal:int numreplicas:int timeout:int",
    "Waits until what the connection wrote is on the disks of this server and of so many replicas; there are none.",
    flags="noscript",
    since="7.2.0",
    acl="connection -keyspace",
    tips=("request_policy:all_shards", "response_policy:agg_min"),
)
def waitaof(client: Client, argv: list[bytes]) -> Reply:
    locals_wanted = _parse_switch(argv[1])
    replicas = parse_integer(argv[2], _POSITIVE)
    if replicas < 0:
        raise _POSITIVE
    timeout_ms = _parse_timeout_ms(argv[3])
    keeper = client.engine.journal.keeper
    if keeper is None or not keeper.is_on:
        if locals_wanted:
            raise CommandError("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
        return [0, 0] if not replicas else client.wait((), timeout_ms / 1000, [0, 0], argv)
    acknowledged: list[Reply] = [0, 0]  # by the journal of this server, and by replicas
    if keeper.is_synced():
        acknowledged[0] = 1
    if not replicas and acknowledged[0] >= locals_wanted:
        return acknowledged
    reply = client.wait((), timeout_ms / 1000, acknowledged, argv)
    wait = client.waiting

    def acknowledge() -> None:
        acknowledged[0] = 1
        if not replicas and wait is not None and client.waiting is wait:
            client.engine.blocking.end(wait, client.encode(acknowledged))

    if wait is not None:
        keeper.when_synced(acknowledge)
    return reply


def _parse_switch(word: bytes) -> int:
    number = parse_integer(word)
    if number not in (0, 1):
        raise CommandError("ERR value is out of range, value must between 0 and 1")
    return number


def _parse_timeout_ms(word: bytes) -> int:
    timeout_ms = parse_integer(word, _TIMEOUT)
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    return timeout_ms


# Whose replica one is


def _replicaof(client: Client, argv: list[bytes]) -> Reply:
    _, host, port = argv
    if (host.upper(), port.upper()) == (b"NO", b"ONE"):
        return OK
    if not 0 <= parse_integer(port, _PORT) <= 65535:
        raise _PORT
    raise CommandError("ERR Kora has no replication: REPLICAOF NO ONE is all that it can do")


for _name, _since in (("REPLICAOF", "5.0.0"), ("SLAVEOF", "1.0.0")):
    replication(
        f"{_name} <args=host-port=<host port:int> | no-one=<NO ONE>>",
        "Makes the server a replica of another one, which Kora cannot be; NO ONE is what it is.",
        flags=f"{_ADMIN} stale no_async_loading",
        since=_since,
    )(_replicaof)


@replication(
    "FAILOVER [target=TO <host port:int [FORCE]>] [ABORT] [TIMEOUT milliseconds:int]",
    "Hands over to a replica; there are none.",
    flags=f"{_ADMIN} stale",
    since="6.2.0",
)
def failover(client: Client, argv: list[bytes]) -> Reply:
    words = argv[1:]
    if [word.upper() for word in words] == [b"ABORT"]:
        raise CommandError("ERR No failover in progress.")
    seen: set[bytes] = set()
    while words:
        option, *rest = words
        option = option.upper()
        if option in seen:
            raise SyntaxFault
        seen.add(option)
        if option == b"TIMEOUT" and rest:
            if parse_integer(rest[0]) <= 0:
                raise CommandError("ERR FAILOVER timeout must be greater than 0")
            words = rest[1:]
        elif option == b"TO" and len(rest) >= 2:
            parse_integer(rest[1])
            words = rest[2:]
        elif option == b"FORCE":
            words = rest
        else:
            raise SyntaxFault
    raise CommandError("ERR FAILOVER requires connected replicas.")


# What a replica would say


@replication(
    "REPLCONF",
    "Tells about a replica, before it asks for data.",
    flags=f"{_ADMIN} loading stale allow_busy",
    since="3.0.0",
    arity=-1,
)
def replconf(client: Client, argv: list[bytes]) -> Reply:
    words = argv[1:]
    if len(words) % 2:
        raise SyntaxFault
    for option, value in zip(words[::2], words[1::2], strict=True):
        name = option.lower()
        if name == b"listening-port":
            parse_integer(value)
        elif name == b"rdb-only":
            _parse_switch(value)
        elif name == b"rdb-filter-only":
            for part in value.split():
                if part.lower() != b"functions":
                    raise CommandError(f"ERR Unsupported rdb-filter-only option: {_text(part)}")
        elif name in (b"ack", b"getack"):
            return Replies()  # of a replica, and for one: nobody else is answered
        elif name == b"ip-address":
            if len(value) > _ADDRESS_MAX:
                raise CommandError(
                    f"ERR REPLCONF ip-address provided by replica instance is too long: {len(value)} bytes"
                )
        elif name != b"capa":
            raise CommandError(f"ERR Unrecognized REPLCONF option: {_text(option)}")
    return OK


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _no_data(client: Client, argv: list[bytes]) -> Reply:
    raise CommandError("ERR Kora has no replication: nobody can be its replica")


_SYNC: Final = f"{_ADMIN} no_async_loading no_multi"
replication("SYNC", "Asks for all data, and for all changes from then on.", flags=_SYNC, since="1.0.0", complexity="")(
    _no_data
)
replication(
    "PSYNC replicationid offset:int",
    "Asks for all changes since a point in time.",
    flags=_SYNC,
    since="2.8.0",
    complexity="",
    arity=-3,
)(_no_data)
