"""Connections: who one is, how one wants to be answered, and CLIENT, with which an operator sees and ends them.

There is one user in this version, `default`, and its password is the setting requirepass.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from kora import REDIS_VERSION
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, DatabaseOutOfRange, SyntaxFault, WrongPassword, wrong_arity
from kora.resp.reply import OK, PONG, Reply, Simple, Verbatim
from kora.types.number import INT64_MAX, parse_integer

connection = Family("connection")

_USER: Final = "default"
_HANDSHAKE: Final = "noscript loading stale fast no_auth allow_busy"


# Who one is


@connection(
    "AUTH [username] password",
    "Shows the server the password that it asks for.",
    flags=_HANDSHAKE,
    since="1.0.0",
    complexity="O(N) where N is the number of passwords defined for the user",
)
def auth(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise SyntaxFault
    if len(argv) == 2 and not client.engine.config.requirepass:
        raise CommandError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    username = argv[1] if len(argv) == 3 else _USER.encode()
    _authenticate(client, username, argv[-1])
    return OK


def _authenticate(client: Client, username: bytes, password: bytes) -> None:
    """Raises WrongPassword, and leaves the client as it was.  Without requirepass any password is right."""
    expected = client.engine.config.requirepass.encode("utf-8", "surrogateescape")
    # Digests, because compare_digest() takes the same time only for texts of the same length.
    right = not expected or compare_digest(sha256(password).digest(), sha256(expected).digest())
    if username != _USER.encode() or not right:
        raise WrongPassword
    client.set_authenticated(True)


@connection(
    "HELLO [arguments=protover:int [AUTH username password] [SETNAME clientname]]",
    "Chooses between RESP2 and RESP3, can log in on the way, and tells about the server.",
    flags=_HANDSHAKE,
    since="6.0.0",
)
def hello(client: Client, argv: list[bytes]) -> Reply:
    protocol = client.protocol
    if len(argv) > 1:
        protocol = parse_integer(argv[1], CommandError("ERR Protocol version is not an integer or out of range"))
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
    credentials: tuple[bytes, bytes] | None = None
    name: bytes | None = None
    place = 2
    while place < len(argv):
        option, rest = argv[place].upper(), argv[place + 1 :]
        if option == b"AUTH" and len(rest) >= 2:
            credentials = rest[0], rest[1]
            place += 3
        elif option == b"SETNAME" and rest:
            name = _checked_name(rest[0])
            place += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{_text(argv[place])}'")
    if credentials is not None:
        _authenticate(client, *credentials)
    if not client.authenticated:
        raise CommandError(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
            "option can be used to authenticate the client and select the RESP protocol version at the same time"
        )
    if name is not None:
        client.name = name
    if protocol != client.protocol:
        client.set_protocol(protocol)
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION,
        b"proto": protocol,
        b"id": client.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


@connection(
    "RESET",
    "Makes the connection as if it were new: database 0, RESP2, no name, not logged in.",
    flags=_HANDSHAKE,
    since="6.2.0",
)
def reset(client: Client, argv: list[bytes]) -> Reply:
    client.reset()
    return Simple("RESET")


@connection("QUIT", "Closes the connection.", flags=_HANDSHAKE, since="1.0.0", arity=-1)
def quit_(client: Client, argv: list[bytes]) -> Reply:
    client.closing = True
    return OK


@connection(
    "PING [message]",
    "Answers PONG, or the message: a sign of life.",
    flags="fast",
    since="1.0.0",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def ping(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 2:
        raise wrong_arity("ping")
    if client.listens_only:
        # In the form of a message, the only one that it expects.
        return [b"pong", argv[1] if len(argv) == 2 else b""]
    return PONG if len(argv) == 1 else argv[1]


@connection("ECHO message", "Answers the message.", flags="loading stale fast", since="1.0.0")
def echo(client: Client, argv: list[bytes]) -> Reply:
    return argv[1]


@connection(
    "SELECT index:int",
    "Chooses the database that the connection works on.",
    flags="loading stale fast",
    since="1.0.0",
)
def select(client: Client, argv: list[bytes]) -> Reply:
    index = parse_integer(argv[1])
    if not -(1 << 31) <= index < 1 << 31:
        raise CommandError("ERR value is out of range, value must between -2147483648 and 2147483647")
    try:
        client.db = client.engine.databases[index]
    except IndexError:
        raise DatabaseOutOfRange from None
    return OK


# CLIENT: about oneself

connection.container("CLIENT", "Commands about connections.", since="2.4.0", help_since="5.0.0")

_OWN: Final = "noscript loading stale"
_ADMIN: Final = "admin noscript loading stale"


@connection("CLIENT ID", "Returns the connection's id.", flags=_OWN, since="5.0.0")
def client_id(client: Client, argv: list[bytes]) -> Reply:
    return client.id


@connection(
    "CLIENT SETNAME connection-name",
    "Names the connection, as CLIENT LIST will show it; an empty name takes the name away.",
    flags=_OWN,
    since="2.6.9",
)
def client_setname(client: Client, argv: list[bytes]) -> Reply:
    client.name = _checked_name(argv[2])
    return OK


@connection("CLIENT GETNAME", "Returns the connection's name.", flags=_OWN, since="2.6.9")
def client_getname(client: Client, argv: list[bytes]) -> Reply:
    return client.name or None


@connection(
    "CLIENT SETINFO <attr=LIB-NAME libname | LIB-VER libver>",
    "Says which client library is in use, and in which version.",
    flags=_OWN,
    since="7.2.0",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def client_setinfo(client: Client, argv: list[bytes]) -> Reply:
    _, _, attribute, value = argv
    if attribute.upper() not in (b"LIB-NAME", b"LIB-VER"):
        raise CommandError(f"ERR Unrecognized option '{_text(attribute)}'")
    if not _is_printable(value):
        raise CommandError(f"ERR {_text(attribute)} cannot contain spaces, newlines or special characters.")
    if attribute.upper() == b"LIB-NAME":
        client.lib_name = value
    else:
        client.lib_version = value
    return OK


# The line of CLIENT LIST is made of words with spaces between: none may have a space, or look like two lines.
_is_printable = re.compile(rb"[!-~]*").fullmatch


def _checked_name(name: bytes) -> bytes:
    if not _is_printable(name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


@connection(
    "CLIENT REPLY <action=ON | OFF | SKIP>",
    "Turns replies on or off, or skips the next one.",
    flags=_OWN,
    since="3.2.0",
)
def client_reply(client: Client, argv: list[bytes]) -> Reply:
    action = argv[2].upper()
    if action == b"ON":
        client.set_muted(False)
    elif action == b"OFF":
        client.set_muted(True)
    elif action == b"SKIP":
        client.skip_replies(2)  # this one, and the next
    else:
        raise SyntaxFault
    return OK


# Kora does not track keys for client-side caches yet, and says so as Redis does where tracking is off.


@connection("CLIENT TRACKINGINFO", "Tells how keys are tracked for a cache in this client.", flags=_OWN, since="6.2.0")
def client_trackinginfo(client: Client, argv: list[bytes]) -> Reply:
    return {b"flags": {b"off"}, b"redirect": -1, b"prefixes": []}


@connection(
    "CLIENT GETREDIR", "Returns the id of the client that invalidations are sent to.", flags=_OWN, since="6.0.0"
)
def client_getredir(client: Client, argv: list[bytes]) -> Reply:
    return -1


@connection(
    "CLIENT CACHING <mode=YES | NO>",
    "Says whether the keys of the next command are to be tracked.",
    flags=_OWN,
    since="6.0.0",
)
def client_caching(client: Client, argv: list[bytes]) -> Reply:
    raise CommandError(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
    )


@connection(
    "CLIENT INFO",
    "Describes the connection, in the words of CLIENT LIST.",
    flags=_OWN,
    since="6.2.0",
    tips=("nondeterministic_output",),
)
def client_info(client: Client, argv: list[bytes]) -> Reply:
    return _descriptions([client], client, argv)


# CLIENT: about others

# What an idle connection takes of this process: Client, Parser, Connection and transport; 2,430 measured over 3,000.
_CONNECTION_BYTES: Final = 2_400

_TYPES: Final = {
    b"NORMAL": "normal",
    b"MASTER": "master",
    b"SLAVE": "replica",
    b"REPLICA": "replica",
    b"PUBSUB": "pubsub",
}


@connection(
    "CLIENT LIST [TYPE <client-type=NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id:int [client-id:int ...]]",
    "Describes the connections, one a line.",
    flags=_ADMIN,
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
    tips=("nondeterministic_output",),
)
def client_list(client: Client, argv: list[bytes]) -> Reply:
    clients = client.engine.clients
    words = argv[2:]
    option = words[0].upper() if words else b""
    if not words:
        return _descriptions(clients.values(), client, argv)
    if option == b"TYPE" and len(words) == 2:
        kind = _parse_type(words[1])
        return _descriptions([one for one in clients.values() if _type(one) == kind], client, argv)
    if option == b"ID" and len(words) > 1:
        ids = [parse_integer(word, CommandError("ERR Invalid client ID")) for word in words[1:]]
        return _descriptions([clients[number] for number in ids if number in clients], client, argv)
    raise SyntaxFault


def _parse_type(name: bytes) -> str:
    kind = _TYPES.get(name.upper())
    if kind is None:
        raise CommandError(f"ERR Unknown client type '{_text(name)}'")
    return kind


def _type(client: Client) -> str:
    """Of those in _TYPES: there are no replicas."""
    return "pubsub" if client.subscriptions_count else "normal"


def _descriptions(clients: Iterable[Client], caller: Client, argv: list[bytes]) -> Verbatim:
    """A line for each; argv is the caller's request, which is in memory just now."""
    argv_bytes = sum(map(len, argv))
    return Verbatim(
        "".join(
            _description(client, 0 if client is caller else client.idle_ns, argv_bytes if client is caller else 0)
            for client in clients
        )
    )


def _description(client: Client, idle_ns: int, argv_bytes: int) -> str:
    """The line of CLIENT LIST: Redis 7.0's fields, and the library's as 7.2 has them (catClientInfoString)."""
    input_bytes, output_bytes = client.parser.buffered_bytes, client.output_bytes()
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
        "multi-mem": 0,
        "rbs": 0,  # there is no fixed reply buffer: what is not sent at once waits in the transport
        "rbp": 0,
        "obl": 0,
        "oll": 1 if output_bytes else 0,
        "omem": output_bytes,
        "tot-mem": _CONNECTION_BYTES + input_bytes + argv_bytes + output_bytes,
        "events": ("" if client.parked else "r") + ("w" if output_bytes else ""),
        "cmd": client.last_command,
        "user": client.user,
        "redir": -1,
        "resp": client.protocol,
        "lib-name": client.lib_name.decode(),
        "lib-ver": client.lib_version.decode(),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items()) + "\n"


def _flags(client: Client) -> str:
    flags = "P" if client.subscriptions_count else ""
    if client.transaction is not None:
        flags += "x"
    if client.parked:
        flags += "b"
    if client.watch_broken:
        flags += "d"
    if client.closing:
        flags += "c"
    if client.address.endswith(":0"):  # path:0, which no TCP port is
        flags += "U"
    return flags or "N"


@dataclass
class _Filter:
    """Which clients CLIENT KILL means: those that match everything that is not None."""

    id: int | None = None
    type: str | None = None
    user: str | None = None
    address: str | None = None
    local_address: str | None = None
    skip_me: bool = True

    def matches(self, client: Client) -> bool:
        wanted = (self.id, self.type, self.user, self.address, self.local_address)
        actual = (client.id, _type(client), client.user, client.address, client.local_address)
        return all(want is None or want == have for want, have in zip(wanted, actual, strict=True))


@connection(
    "CLIENT KILL <filter=old-format | <new-format=ID client-id:int"
    " | TYPE <client-type=NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>"
    " | USER username | ADDR addr | LADDR laddr | SKIPME <skipme=YES | NO> ...>>",
    "Closes connections: the one from an address, or all that match what is given.",
    flags=_ADMIN,
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
)
def client_kill(client: Client, argv: list[bytes]) -> Reply:
    by_address = len(argv) == 3
    chosen = _Filter(address=_text(argv[2]), skip_me=False) if by_address else _parse_filter(argv[2:])
    victims = [one for one in client.engine.clients.values() if chosen.matches(one)]
    if chosen.skip_me and client in victims:
        victims.remove(client)
    if by_address and not victims:
        raise CommandError("ERR No such client")
    for victim in victims:
        victim.closing = True  # it runs nothing more; this alone closes the one that asks, after the reply
        if victim is not client:
            client.engine.forget(victim)
            victim.disconnect()
    return OK if by_address else len(victims)


def _parse_filter(words: list[bytes]) -> _Filter:
    chosen = _Filter()
    for place in range(0, len(words), 2):
        if place + 1 == len(words):
            raise SyntaxFault
        option, value = words[place].upper(), words[place + 1]
        if option == b"ID":
            chosen.id = _parse_id(value)
        elif option == b"TYPE":
            chosen.type = _parse_type(value)
        elif option == b"USER":
            if value != _USER.encode():
                raise CommandError(f"ERR No such user '{_text(value)}'")
            chosen.user = _USER
        elif option == b"ADDR":
            chosen.address = _text(value)
        elif option == b"LADDR":
            chosen.local_address = _text(value)
        elif option == b"SKIPME" and value.upper() in (b"YES", b"NO"):
            chosen.skip_me = value.upper() == b"YES"
        else:
            raise SyntaxFault
    return chosen


def _parse_id(text: bytes) -> int:
    error = CommandError("ERR client-id should be greater than 0")
    number = parse_integer(text, error)
    if number <= 0:
        raise error
    return number


@connection(
    "CLIENT PAUSE timeout:int [mode=WRITE | ALL]",
    "Lets clients wait for some milliseconds: all of them, or those that write.",
    flags=_ADMIN,
    since="2.9.50",
)
def client_pause(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 4:
        raise _wrong_subcommand_arity(argv)
    mode = argv[3].upper() if len(argv) == 4 else b"ALL"
    if mode not in (b"WRITE", b"ALL"):
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = parse_integer(argv[2], CommandError("ERR timeout is not an integer or out of range"))
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    engine = client.engine
    if not timeout_ms:
        return OK
    until_ms = engine.clock.wall_ms() + timeout_ms
    if until_ms > INT64_MAX:
        raise CommandError("ERR timeout is out of range")
    # A pause may get longer and never shorter, so that two operators do not undo each other's.
    engine.pause(max(until_ms, engine.paused_until_ms), writes_only=mode == b"WRITE")
    return OK


@connection(
    "CLIENT UNPAUSE",
    "Ends the wait that CLIENT PAUSE began; works while everything else waits.",
    flags=_ADMIN,
    since="6.2.0",
    complexity="O(N) Where N is the number of paused clients",
)
def client_unpause(client: Client, argv: list[bytes]) -> Reply:
    client.engine.pause(0, writes_only=False)
    return OK


@connection(
    "CLIENT UNBLOCK client-id:int [unblock-type=TIMEOUT | ERROR]",
    "Ends the wait of a client in a blocking command.",
    flags=_ADMIN,
    since="5.0.0",
    complexity="O(log N) where N is the number of client connections",
)
def client_unblock(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 4:
        raise _wrong_subcommand_arity(argv)
    if len(argv) == 4 and argv[3].upper() not in (b"TIMEOUT", b"ERROR"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    target = client.engine.clients.get(parse_integer(argv[2]))
    if target is None or target.waiting is None:
        return 0
    by_error = len(argv) == 4 and argv[3].upper() == b"ERROR"
    error = CommandError("UNBLOCKED client unblocked via CLIENT UNBLOCK") if by_error else None
    client.engine.blocking.unblock(target, error)
    return 1


def _wrong_subcommand_arity(argv: list[bytes]) -> CommandError:
    """Redis' words for too many arguments where the number of them may vary."""
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{_text(argv[1][:128])}'. Try CLIENT HELP."
    )


def _text(data: bytes) -> str:
    """What a client sent, in a text; encode_error() gives its bytes back."""
    return data.decode("utf-8", "surrogateescape")
