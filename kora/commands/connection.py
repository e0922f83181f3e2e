"""Connections: who one is, how one wants to be answered, and CLIENT, with which an operator sees and ends them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kora import REDIS_VERSION
from kora.engine.acl import DEFAULT_USER, User
from kora.engine.client import Client
from kora.engine.description import class_of, describe
from kora.engine.engine import Engine
from kora.engine.registry import Family
from kora.engine.tracking import Wish
from kora.errors import CommandError, DatabaseOutOfRange, SyntaxFault, wrong_arity
from kora.observe.traces import parse_traceparent
from kora.resp.reply import OK, PONG, Items, Reply, Simple, Verbatim
from kora.types.number import INT64_MAX, parse_integer

connection = Family("connection")

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
    acl = client.engine.acl
    if len(argv) == 2 and acl.default.needs_no_password:
        raise CommandError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    acl.log_in(client, argv[1] if len(argv) == 3 else DEFAULT_USER, argv[-1])
    return OK


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
        client.engine.acl.log_in(client, *credentials)
    if not client.authenticated:
        raise CommandError(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
            "option can be used to authenticate the client and select the RESP protocol version at the same time"
        )
    if name is not None:
        client.set_name(name)
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
    client.set_name(_checked_name(argv[2]))
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


@connection(
    "CLIENT NO-EVICT <enabled=ON | OFF>",
    "Says whether the connection may be closed to save memory.",
    flags=_ADMIN,
    since="7.0.0",
)
def client_no_evict(client: Client, argv: list[bytes]) -> Reply:
    client.never_evicted = _parse_switch(argv[2])
    return OK


@connection(
    "CLIENT NO-TOUCH <enabled=ON | OFF>",
    "Says whether the connection's commands leave the keys' last use as it is.",
    flags=_OWN,
    since="7.2.0",
)
def client_no_touch(client: Client, argv: list[bytes]) -> Reply:
    client.never_touches = _parse_switch(argv[2])
    client.update_gate()
    return OK


@connection(
    "CLIENT TRACE <traceparent | OFF> [ONCE]",
    "Says which trace the connection's requests belong to, or the next of them: a W3C traceparent, or OFF for none.",
    flags=_OWN,
    since="7.2.0",
)
def client_trace(client: Client, argv: list[bytes]) -> Reply:
    word, *options = argv[2:]
    once = [option.upper() for option in options] == [b"ONCE"]
    if options and not once:
        raise SyntaxFault
    if word.upper() == b"OFF" and not once:
        client.set_context(None)
        return OK
    try:
        context = parse_traceparent(word)
    except ValueError as error:
        raise CommandError(f"ERR invalid traceparent: {error}") from None
    client.set_context(context, once)
    return OK


def _parse_switch(word: bytes) -> bool:
    if word.upper() not in (b"ON", b"OFF"):
        raise SyntaxFault
    return word.upper() == b"ON"


# CLIENT: copies of keys


@connection(
    "CLIENT TRACKING <status=ON | OFF> [REDIRECT client-id:int] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] "
    "[OPTOUT] [NOLOOP]",
    "Has the server tell when keys change that the client keeps copies of.",
    flags=_OWN,
    since="6.0.0",
    complexity="O(1). Some options may introduce additional complexity.",
)
def client_tracking(client: Client, argv: list[bytes]) -> Reply:
    redirect, options, prefixes = _parse_tracking(client, argv[3:])
    if not _parse_switch(argv[2]):
        client.engine.tracking.stop(client)
        return OK
    broadcasts, opts_in, opts_out = (option in options for option in (b"BCAST", b"OPTIN", b"OPTOUT"))
    if prefixes and not broadcasts:
        raise CommandError("ERR PREFIX option requires BCAST mode to be enabled")
    former = client.tracking
    if former is not None and former.broadcasts != broadcasts:
        raise CommandError(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, "
            "and then re-enabling it with a different mode."
        )
    if broadcasts and (opts_in or opts_out):
        raise CommandError("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if opts_in and opts_out:
        raise CommandError("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if former is not None and ((opts_in and former.opts_out) or (opts_out and former.opts_in)):
        raise CommandError(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, "
            "and then re-enabling it with a different mode."
        )
    if broadcasts:
        _check_prefixes(prefixes, former.prefixes if former is not None else [])
    wish = Wish(redirect, broadcasts, opts_in, opts_out, skips_own=b"NOLOOP" in options)
    client.engine.tracking.start(client, wish, prefixes)
    return OK


def _parse_tracking(client: Client, words: list[bytes]) -> tuple[int, set[bytes], list[bytes]]:
    """The client to redirect to or 0, the options that are single words, and the prefixes."""
    redirect = 0
    options: set[bytes] = set()
    prefixes: list[bytes] = []
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option in (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
            options.add(option)
            continue
        value = next(rest, None)
        if value is None or option not in (b"REDIRECT", b"PREFIX"):
            raise SyntaxFault
        if option == b"PREFIX":
            prefixes.append(value)
            continue
        if redirect:
            raise CommandError("ERR A client can only redirect to a single other client")
        redirect = parse_integer(value)
        if redirect not in client.engine.clients:
            raise CommandError("ERR The client ID you want redirect to does not exist")
    return redirect, options, prefixes


def _check_prefixes(prefixes: list[bytes], former: list[bytes]) -> None:
    """No prefix may begin with another one, or a key would be told of twice."""
    for place, prefix in enumerate(prefixes):
        for kind, others in (("an existing", former), ("another provided", prefixes[place + 1 :])):
            for other in others:
                if prefix.startswith(other) or other.startswith(prefix):
                    raise CommandError(
                        f"ERR Prefix '{_text(prefix)}' overlaps with {kind} prefix '{_text(other)}'. "
                        "Prefixes for a single client must not overlap."
                    )


@connection("CLIENT TRACKINGINFO", "Tells how keys are tracked for the connection.", flags=_OWN, since="6.2.0")
def client_trackinginfo(client: Client, argv: list[bytes]) -> Reply:
    wish = client.tracking
    if wish is None:
        return {b"flags": {b"off"}, b"redirect": -1, b"prefixes": []}
    flags = [b"on"]
    if wish.broadcasts:
        flags.append(b"bcast")
    if wish.opts_in:
        flags += (b"optin", b"caching-yes") if wish.caching else (b"optin",)
    if wish.opts_out:
        flags += (b"optout", b"caching-no") if wish.caching else (b"optout",)
    if wish.skips_own:
        flags.append(b"noloop")
    if wish.is_broken:
        flags.append(b"broken_redirect")
    return {b"flags": Items(flags), b"redirect": wish.redirect, b"prefixes": sorted(wish.prefixes)}


@connection(
    "CLIENT GETREDIR", "Returns the id of the client that invalidations are sent to.", flags=_OWN, since="6.0.0"
)
def client_getredir(client: Client, argv: list[bytes]) -> Reply:
    return client.tracking.redirect if client.tracking is not None else -1


@connection(
    "CLIENT CACHING <mode=YES | NO>",
    "Says whether the keys of the next command are to be tracked.",
    flags=_OWN,
    since="6.0.0",
)
def client_caching(client: Client, argv: list[bytes]) -> Reply:
    wish, mode = client.tracking, argv[2].upper()
    if wish is None:
        raise CommandError(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode "
            "with OPTIN or OPTOUT mode enabled"
        )
    if mode not in (b"YES", b"NO"):
        raise SyntaxFault
    if mode == b"YES" and not wish.opts_in:
        raise CommandError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    if mode == b"NO" and not wish.opts_out:
        raise CommandError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    wish.caching = True
    return OK


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
        return _descriptions([one for one in clients.values() if class_of(one) == kind], client, argv)
    if option == b"ID" and len(words) > 1:
        ids = [parse_integer(word, CommandError("ERR Invalid client ID")) for word in words[1:]]
        return _descriptions([clients[number] for number in ids if number in clients], client, argv)
    raise SyntaxFault


def _parse_type(name: bytes) -> str:
    kind = _TYPES.get(name.upper())
    if kind is None:
        raise CommandError(f"ERR Unknown client type '{_text(name)}'")
    return kind


def _descriptions(clients: Iterable[Client], caller: Client, argv: list[bytes]) -> Verbatim:
    """A line for each; argv is the caller's request, which is in memory just now."""
    argv_bytes = sum(map(len, argv))
    return Verbatim(
        "".join(
            describe(client, 0 if client is caller else client.idle_ns, argv_bytes if client is caller else 0)
            for client in clients
        )
    )


@dataclass
class _Filter:
    """Which clients CLIENT KILL means: those that match everything that is not None."""

    id: int | None = None
    type: str | None = None
    user: User | None = None
    address: str | None = None
    local_address: str | None = None
    skip_me: bool = True
    age_min_s: int = 0

    def matches(self, client: Client) -> bool:
        if self.age_min_s > (client.engine.clock.wall_ms() - client.connected_ms) // 1000:
            return False
        wanted = (self.id, self.type, self.user, self.address, self.local_address)
        actual = (client.id, class_of(client), client.user, client.address, client.local_address)
        return all(want is None or want == have for want, have in zip(wanted, actual, strict=True))


@connection(
    "CLIENT KILL <filter=old-format | <new-format=ID client-id:int"
    " | TYPE <client-type=NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>"
    " | USER username | ADDR addr | LADDR laddr | SKIPME <skipme=YES | NO> | MAXAGE maxage:int ...>>",
    "Closes connections: the one from an address, or all that match what is given.",
    flags=_ADMIN,
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
)
def client_kill(client: Client, argv: list[bytes]) -> Reply:
    by_address = len(argv) == 3
    chosen = _Filter(address=_text(argv[2]), skip_me=False) if by_address else _parse_filter(client.engine, argv[2:])
    victims = [one for one in client.engine.clients.values() if chosen.matches(one)]
    if chosen.skip_me and client in victims:
        victims.remove(client)
    if by_address and not victims:
        raise CommandError("ERR No such client")
    for victim in victims:
        client.engine.kill(victim)
    return OK if by_address else len(victims)


def _parse_filter(engine: Engine, words: list[bytes]) -> _Filter:
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
            chosen.user = engine.acl.users.get(value)
            if chosen.user is None:
                raise CommandError(f"ERR No such user '{_text(value)}'")
        elif option == b"ADDR":
            chosen.address = _text(value)
        elif option == b"LADDR":
            chosen.local_address = _text(value)
        elif option == b"MAXAGE":  # as of Redis 7.4
            chosen.age_min_s = parse_integer(value, CommandError("ERR maxage is not an integer or out of range"))
            if chosen.age_min_s <= 0:
                raise CommandError("ERR maxage should be greater than 0")
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
    if target is None or target.waiting is None or not target.waiting.is_unblockable:
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
