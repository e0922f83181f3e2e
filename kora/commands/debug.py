"""DEBUG: what tests of servers and of client libraries need, and nothing that an application should.

One command to COMMAND INFO and to the statistics, as in Redis; its subcommands are the rows of _SUBCOMMANDS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from ipaddress import IPv6Address, ip_address
from typing import Final

from kora import glob
from kora.config import memory_size
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.engine.usage import Usage, parse
from kora.errors import CommandError, ConfigError, NoSuchKey, TooLong
from kora.resp.reply import OK, Attribute, BigNumber, Items, Push, Replies, Reply, Simple, Verbatim
from kora.types.digest import ZERO, added, digest_of, mixed
from kora.types.kinds import encoding, references
from kora.types.number import INT64_MAX, parse_float, parse_integer
from kora.types.rdb.payload import size_bytes as size_bytes_of

debug = Family("server")


@dataclass(frozen=True)
class _Subcommand:
    usage: Usage
    summary: str
    run: Callable[[Client, list[bytes]], Reply]

    def accepts(self, argc: int) -> bool:
        arity, arguments = self.usage.arity, self.usage.arguments
        if arity >= 0:
            return argc == arity
        repeats = any(argument.multiple for argument in arguments)
        return -arity <= argc and (repeats or argc <= -arity + len(arguments))


_SUBCOMMANDS: Final[dict[bytes, _Subcommand]] = {}


def _subcommand(usage: str, summary: str) -> Callable[[Callable[[Client, list[bytes]], Reply]], None]:
    def declare(run: Callable[[Client, list[bytes]], Reply]) -> None:
        line = parse("DEBUG " + usage)
        _SUBCOMMANDS[line.words[1].encode()] = _Subcommand(line, summary, run)

    return declare


@debug(
    "DEBUG subcommand [argument ...]",
    "Commands for tests of servers and client libraries.",
    flags="admin noscript loading stale",
    since="1.0.0",
    complexity="Depends on subcommand.",
)
def debug_(client: Client, argv: list[bytes]) -> Reply:
    allowed = client.engine.config.enable_debug_command
    if allowed == "no" or (allowed == "local" and not is_local(client.address)):
        raise CommandError(
            'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from '
            "a local connection, otherwise you need to set this option in the configuration file, and then restart the "
            "server."
        )
    subcommand = _SUBCOMMANDS.get(argv[1].upper())
    if subcommand is None or not subcommand.accepts(len(argv)):
        name = argv[1][:128].decode("utf-8", "surrogateescape")
        raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP.")
    return subcommand.run(client, argv)


def is_local(address: str) -> bool:
    """Whether an address, ip:port or path:0, is of this machine: a Unix socket (TCP has no port 0) or loopback."""
    host, _, port = address.rpartition(":")
    if port == "0":
        return True
    try:
        ip = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback


@_subcommand("SLEEP seconds:double", "Stops the whole server for so long.")
def _sleep(client: Client, argv: list[bytes]) -> Reply:
    seconds = parse_float(argv[2])
    if seconds > 0:
        # Not for ever, as a time of infinity would be.
        client.engine.clock.sleep_ns(int(min(seconds, 1e9) * 1e9))
    return OK


@_subcommand(
    "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
    "Saves a snapshot, forgets the data, and loads the snapshot: the first two unless told not to; with MERGE keys of "
    "the snapshot replace others.",
)
def _reload(client: Client, argv: list[bytes]) -> Reply:
    words = {word.upper() for word in argv[2:]}
    if not words <= {b"MERGE", b"NOFLUSH", b"NOSAVE"}:
        raise CommandError("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    client.engine.saves.reload(b"NOSAVE" not in words, b"NOFLUSH" not in words, b"MERGE" in words)
    return OK


@_subcommand("LOADAOF", "Writes what the journal lacks, and loads it in place of the data.")
def debug_loadaof(client: Client, argv: list[bytes]) -> Reply:
    keeper = client.engine.journal.keeper
    if keeper is None:
        raise CommandError("ERR There is no journal to be loaded")
    keeper.reload()
    return OK


@_subcommand("OBJECT key", "Tells how a value is held.")
def _object(client: Client, argv: list[bytes]) -> Reply:
    _, _, key = argv
    db = client.db
    value = db.inspect(key, quietly=True)
    if value is None:
        raise NoSuchKey
    idle_s = db.idle_s(key)
    serialized_bytes = size_bytes_of(value, client.engine.implementation.rdb_tools)
    return Simple(
        f"Value at:{id(value):#x} refcount:{references(value)} encoding:{encoding(value)} "
        # Of a clock that Redis keeps in 24 bits.
        f"serializedlength:{serialized_bytes} lru:{db.now_s - idle_s & 0xFFFFFF} lru_seconds_idle:{idle_s}"
    )


@_subcommand("DIGEST", "Returns a digest of all databases; that of an equal Redis is the same.")
def _digest(client: Client, argv: list[bytes]) -> Reply:
    digest = ZERO
    for db in client.engine.databases.used():
        if len(db):
            digest = mixed(digest, db.index.to_bytes(4, "big"))
            for key in list(db):
                value = db.find(key)
                if value is not None:
                    has_deadline = db.deadline(key) is not None
                    of_key = digest_of(value, has_deadline, mixed(ZERO, key))
                    digest = added(digest, sha1(of_key, usedforsecurity=False).digest())
    return Simple(digest.hex())


@_subcommand("DIGEST-VALUE [key ...]", "Returns digests of the values of keys, zeros for those that are not there.")
def _digest_value(client: Client, argv: list[bytes]) -> Reply:
    db = client.db
    digests: list[Reply] = []
    for key in argv[2:]:
        value = db.find(key)
        digest = ZERO if value is None else digest_of(value, db.deadline(key) is not None)
        digests.append(Simple(digest.hex()))
    return digests


@_subcommand("SET-ACTIVE-EXPIRE <active=0 | 1>", "Stops or starts the deletion of expired keys that nobody asks for.")
def _set_active_expire(client: Client, argv: list[bytes]) -> Reply:
    # Redis reads the number as atoi does, for which anything else is 0.
    client.engine.active_expire = argv[2].strip() not in (b"", b"0") and argv[2].strip().isdigit()
    return OK


@_subcommand("ERROR string", "Replies with an error of that text.")
def _error(client: Client, argv: list[bytes]) -> Reply:
    raise CommandError(argv[2].decode("utf-8", "surrogateescape"))


@_subcommand("LOG message", "Writes a message to the server's log.")
def _log(client: Client, argv: list[bytes]) -> Reply:
    client.engine.log("info", "debug log", text=argv[2].decode("utf-8", "replace"))
    return OK


@_subcommand("JMAP", "Does nothing: test suites of clients ask for it.")
def _jmap(client: Client, argv: list[bytes]) -> Reply:
    return OK


@_subcommand("CHANGE-REPL-ID", "Does nothing: there is no replication, and so no id of it.")
def _change_repl_id(client: Client, argv: list[bytes]) -> Reply:
    return OK


@_subcommand("PAUSE-CRON <paused=0 | 1>", "Does nothing: background work is what SET-ACTIVE-EXPIRE stops.")
def _pause_cron(client: Client, argv: list[bytes]) -> Reply:
    return OK


@_subcommand("SET-DISABLE-DENY-SCRIPTS <disabled=0 | 1>", "Does nothing: what scripts may not do would harm them.")
def _set_disable_deny_scripts(client: Client, argv: list[bytes]) -> Reply:
    return OK


@_subcommand("QUICKLIST-PACKED-THRESHOLD size", "Does nothing: items of any size are kept alike.")
def _quicklist_packed_threshold(client: Client, argv: list[bytes]) -> Reply:
    refusal = CommandError("ERR argument must be a memory value bigger than 1 and smaller than 4gb")
    try:
        size_bytes = memory_size(argv[2].decode("ascii", "replace"))
    except ConfigError:
        raise refusal from None
    if size_bytes >= 4 << 30:
        raise refusal
    return OK


@_subcommand("STRINGMATCH-LEN pattern string", "Tells whether a string matches a pattern, 1 or 0.")
def _stringmatch(client: Client, argv: list[bytes]) -> Reply:
    return int(glob.matches(argv[2], argv[3]))


@_subcommand(
    "POPULATE count:int [prefix] [size:int]",
    "Creates so many strings, key:<number> unless there is one already; with a size, cut or filled to it.",
)
def _populate(client: Client, argv: list[bytes]) -> Reply:
    count = _parse_natural(argv[2])
    prefix = argv[3] if len(argv) > 3 else b"key"
    size_bytes = _parse_natural(argv[4]) if len(argv) > 4 else 0
    if size_bytes > client.engine.config.proto_max_bulk_len:
        raise TooLong
    db = client.db
    for number in range(count):
        key = b"%b:%d" % (prefix, number)
        if not db.has(key):
            value = b"value:%d" % number
            db.set(key, value[:size_bytes].ljust(size_bytes, b"\0") if size_bytes else value)
    return OK


def _parse_natural(text: bytes) -> int:
    out_of_range = CommandError("ERR value is out of range, must be positive")
    number = parse_integer(text, out_of_range)
    if not 0 <= number <= INT64_MAX:
        raise out_of_range
    return number


_PROTOCOL_SAMPLES: Final[dict[bytes, Reply]] = {
    b"STRING": b"Hello World",
    b"INTEGER": 12345,
    b"DOUBLE": 3.141,
    b"BIGNUM": BigNumber(1234567999999999999999999999999999999),
    b"NULL": None,
    b"ARRAY": [0, 1, 2],
    b"SET": Items((0, 1, 2)),
    b"MAP": {0: False, 1: True, 2: False},
    b"ATTRIB": Attribute({b"key-popularity": [b"key:123", 90]}, b"Some real reply following the attribute"),
    b"PUSH": Replies(Push([b"server-cpu-usage", 42]), b"Some real reply following the push reply"),
    b"VERBATIM": Verbatim("This is a verbatim\nstring"),
    b"TRUE": True,
    b"FALSE": False,
}


@_subcommand("PROTOCOL type", "Replies with a sample of a type: string, integer, double, bignum, null, array, set, …")
def _protocol(client: Client, argv: list[bytes]) -> Reply:
    name = argv[2].upper()
    if name not in _PROTOCOL_SAMPLES:
        raise CommandError(
            "ERR Wrong protocol type name. Please use one of the following: "
            "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
        )
    if name == b"PUSH" and client.protocol < 3:
        raise CommandError("ERR RESP2 is not supported by this command")
    return _PROTOCOL_SAMPLES[name]


@_subcommand("HELP", "Returns help about the subcommands.")
def _help(client: Client, argv: list[bytes]) -> Reply:
    lines = ["DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for _, subcommand in sorted(_SUBCOMMANDS.items()):
        lines += [str(subcommand.usage).partition(" ")[2], "    " + subcommand.summary]
    return [Simple(line) for line in lines]
