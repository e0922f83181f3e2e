"""Commands of the group server: what an operator asks and sets.  COMMAND and DEBUG have files of their own."""

from typing import Final

from kora import __version__
from kora.engine.client import Client
from kora.engine.info import render, wanted_sections
from kora.engine.registry import Family
from kora.engine.snapshot import take
from kora.errors import CommandError, DatabaseOutOfRange, NotAnInteger, SyntaxFault, busy
from kora.resp.reply import OK, Reply, Verbatim
from kora.store.keyspace import Keyspace
from kora.store.lazyfree import free_all
from kora.types.number import parse_integer

server = Family("server")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@server(
    "INFO [section ...]",
    "Returns numbers and facts about the server, by section.",
    flags="loading stale",
    since="1.0.0",
    acl="dangerous",
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
)
def info(client: Client, argv: list[bytes]) -> Reply:
    sections = wanted_sections(_text(name) for name in argv[1:])
    snapshot = take(client.engine, histograms="latencystats" in sections)
    return Verbatim(render(snapshot, sections))


server.container("CONFIG", "Commands that read and change the server's settings.", since="2.0.0", help_since="5.0.0")

_CONFIG_FLAGS: Final = "admin noscript loading stale"


@server(
    "CONFIG RESETSTAT",
    "Sets the counters that INFO shows back to zero.",
    flags=_CONFIG_FLAGS,
    since="2.0.0",
)
def config_resetstat(client: Client, argv: list[bytes]) -> Reply:
    client.engine.reset_stats()
    return OK


@server(
    "CONFIG REWRITE",
    "Writes the settings in force to the configuration file.",
    flags=_CONFIG_FLAGS,
    since="2.8.0",
)
def config_rewrite(client: Client, argv: list[bytes]) -> Reply:
    client.engine.config.rewrite()
    return OK


@server(
    "CONFIG SET parameter value [parameter value ...]",
    "Changes settings: all that are named or, on an error, none.",
    flags=_CONFIG_FLAGS,
    since="2.0.0",
    complexity="O(N) where N is the number of settings given.",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def config_set(client: Client, argv: list[bytes]) -> Reply:
    words = [_text(word) for word in argv[2:]]
    if len(words) % 2:
        raise SyntaxFault
    client.engine.config.set(zip(words[::2], words[1::2], strict=True))
    return OK


@server(
    "CONFIG GET parameter [parameter ...]",
    "Returns the settings that match one or more patterns, and their values.",
    flags=_CONFIG_FLAGS,
    since="2.0.0",
    complexity="O(N) where N is the number of patterns given.",
)
def config_get(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.config.get(*map(_text, argv[2:]))


server.container("MEMORY", "Commands about the memory that keys take.", since="4.0.0", help_since="4.0.0")


@server(
    "MEMORY USAGE key [SAMPLES count:int]",
    "Estimates the bytes that a key and its value take.",
    flags="readonly",
    since="4.0.0",
    access="RO",
)
def memory_usage(client: Client, argv: list[bytes]) -> Reply:
    _, _, key, *words = argv
    # Kora keeps a running sum of every value's size, so that nothing is sampled: the option is only checked.
    for word, count in zip(words[::2], [*words[1::2], None], strict=False):
        if word.upper() != b"SAMPLES" or count is None or parse_integer(count) < 0:
            raise SyntaxFault
    return client.db.usage_bytes(key)


@server(
    "DBSIZE",
    "Returns the number of keys in the selected database.",
    flags="readonly fast",
    since="1.0.0",
    acl="keyspace",
    tips=("request_policy:all_shards", "response_policy:agg_sum"),
)
def dbsize(client: Client, argv: list[bytes]) -> Reply:
    return len(client.db)


@server(
    "FLUSHDB [async=ASYNC | SYNC]",
    "Removes all keys of the selected database.",
    flags="write",
    since="1.0.0",
    complexity="O(N) where N is the number of keys, in the background unless SYNC is given.",
    acl="keyspace dangerous",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def flushdb(client: Client, argv: list[bytes]) -> Reply:
    return _flush(client, [client.db], argv[1:])


@server(
    "FLUSHALL [async=ASYNC | SYNC]",
    "Removes all keys of all databases.",
    flags="write",
    since="1.0.0",
    complexity="O(N) where N is the number of keys, in the background unless SYNC is given.",
    acl="keyspace dangerous",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def flushall(client: Client, argv: list[bytes]) -> Reply:
    return _flush(client, client.engine.databases.used(), argv[1:])


def _flush(client: Client, databases: list[Keyspace], words: list[bytes]) -> Reply:
    engine = client.engine
    wanted = [word.upper() for word in words]
    if wanted not in ([], [b"ASYNC"], [b"SYNC"]):
        raise SyntaxFault
    # Before the keys go, so that clients with copies hear of all at once and not of each.
    engine.tracking.flush()
    for keyspace in databases:
        engine.flush_database(keyspace)
    if wanted == [b"SYNC"] or (not wanted and not engine.config.lazyfree_lazy_user_flush):
        for shard in engine.shards:
            free_all(shard, engine.clock)
    return OK


@server(
    "SWAPDB index1:int index2:int",
    "Exchanges the contents of two databases.",
    flags="write fast",
    since="4.0.0",
    acl="keyspace dangerous",
)
def swapdb(client: Client, argv: list[bytes]) -> Reply:
    _, first, second = argv
    first_index, second_index = _index(first, "first"), _index(second, "second")
    try:
        client.engine.swap_databases(first_index, second_index)
    except IndexError:
        raise DatabaseOutOfRange from None
    return OK


def _index(text: bytes, which: str) -> int:
    try:
        index = parse_integer(text)
    except NotAnInteger:
        index = -1 << 31
    if not -1 << 31 < index < 1 << 31:
        raise CommandError(f"ERR invalid {which} DB index")
    return index


@server(
    "TIME",
    "Returns the server's time: Unix seconds, and microseconds in the second.",
    flags="loading stale fast",
    since="2.6.0",
    tips=("nondeterministic_output",),
)
def time(client: Client, argv: list[bytes]) -> Reply:
    return [b"%d" % part for part in divmod(client.engine.clock.wall_us(), 1_000_000)]


@server(
    "ROLE",
    "Returns the server's role in replication.",
    flags="noscript loading stale fast",
    since="2.8.12",
    acl="admin dangerous",
)
def role(client: Client, argv: list[bytes]) -> Reply:
    # No replicas yet: no replication offset, and nobody at another one.
    return [b"master", 0, []]


@server(
    "SHUTDOWN [nosave_save=NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
    "Stops the server.",
    flags="admin noscript loading stale no_multi allow_busy",
    since="1.0.0",
    complexity="O(1) where nothing is saved.",
)
def shutdown(client: Client, argv: list[bytes]) -> Reply:
    words = {word.upper() for word in argv[1:]}
    if words - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"} or words >= {b"NOSAVE", b"SAVE"}:
        raise SyntaxFault
    if b"ABORT" in words:
        if len(words) > 1:
            raise SyntaxFault
        raise CommandError("ERR No shutdown in progress.")
    engine = client.engine
    if engine.busy_script and b"NOSAVE" not in words:
        raise busy(engine.busy_script)
    if b"SAVE" in words:
        raise CommandError("ERR There is no persistence yet, so that nothing can be saved: use SHUTDOWN NOSAVE")
    # As in Redis, a client sees the connection close, and only an error has a reply.
    client.skip_replies(1)
    engine.shutdown()
    if engine.scripting is not None:
        engine.scripting.stop()
    return None


_HARP: Final = r"""
             ,|.
             ||
           o=||=o
           o=||=o
           o=||=o
         __o=||=o__
       .'   \||/   '.
      /  |  \||/  |  \
     |   |  =[]=  |   |
      \  |   ''   |  /
       '.__     __.'
           '---'
"""


@server(
    "LOLWUT [VERSION version:int]",
    "Draws a kora, the harp, and tells the version of Kora, the server.",
    flags="readonly fast",
    since="5.0.0",
    complexity="",
)
def lolwut(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) >= 3 and argv[1].upper() == b"VERSION":
        parse_integer(argv[2])
    return Verbatim(f"{_HARP}\nKora ver. {__version__}\n")
