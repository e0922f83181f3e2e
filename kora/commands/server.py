"""Commands of the group server: what an operator asks and sets.  COMMAND and DEBUG have files of their own."""

import ctypes
from typing import Final

from kora import __version__
from kora.engine.client import Client
from kora.engine.doctor import gather
from kora.engine.info import render, wanted_sections
from kora.engine.registry import Family
from kora.engine.snapshot import take
from kora.errors import CommandError, DatabaseOutOfRange, NotAnInteger, SyntaxFault, busy
from kora.observe.doctor import LAST_S, memory_text
from kora.observe.doctor_rules import examine
from kora.resp.reply import OK, Reply, Simple, Verbatim
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
    engine = client.engine
    before = engine.config.masked()
    engine.config.set(zip(words[::2], words[1::2], strict=True))
    changed = {name: value for name, value in engine.config.masked().items() if value != before[name]}
    if changed:
        user = client.user.name.decode(errors="replace")
        engine.log("info", "settings changed", changed=changed, client=client.address, user=user)
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


_MEMORY_TIPS: Final = ("nondeterministic_output", "request_policy:all_shards", "response_policy:special")
_ALLOCATOR_COMPLEXITY: Final = "Depends on how much memory is allocated, could be slow"


@server("MEMORY STATS", "Tells what takes memory.", since="4.0.0", tips=_MEMORY_TIPS)
def memory_stats(client: Client, argv: list[bytes]) -> Reply:
    snapshot = take(client.engine, histograms=False)
    used, peak, rss, keys = snapshot.memory_bytes, snapshot.memory_peak_bytes, snapshot.rss_bytes, snapshot.keys
    # Redis' names for what there is; of its allocator's numbers Kora has none.
    return {
        b"peak.allocated": peak,
        b"total.allocated": used,
        b"startup.allocated": 0,  # what is counted are keys and values, of which there are none at the start
        b"replication.backlog": 0,
        b"clients.slaves": 0,
        b"clients.normal": snapshot.clients_memory_bytes,
        b"cluster.links": 0,
        b"aof.buffer": snapshot.journal.get("buffer_length", 0),
        b"keys.count": keys,
        b"keys.bytes-per-key": used // keys if keys else 0,
        b"dataset.bytes": used,
        b"dataset.percentage": 100.0 if used else 0.0,
        b"peak.percentage": 100 * used / peak if peak else 0.0,
        b"fragmentation": rss / used if used else 0.0,
        b"fragmentation.bytes": rss - used,
    }


@server("MEMORY DOCTOR", "Tells in words what is unusual about the memory in use.", since="4.0.0", tips=_MEMORY_TIPS)
def memory_doctor(client: Client, argv: list[bytes]) -> Reply:
    facts = gather(client.engine, LAST_S)
    return Verbatim(memory_text(facts, examine(facts, ("memory",))))


@server(
    "MEMORY PURGE",
    "Gives memory that is free back to the system.",
    since="4.0.0",
    complexity=_ALLOCATOR_COMPLEXITY,
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
)
def memory_purge(client: Client, argv: list[bytes]) -> Reply:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # of glibc; others have their own ways, and no name for it
        trim(0)
    return OK


@server(
    "MEMORY MALLOC-STATS",
    "Returns the allocator's own statistics.",
    since="4.0.0",
    complexity=_ALLOCATOR_COMPLEXITY,
    tips=_MEMORY_TIPS,
)
def memory_malloc_stats(client: Client, argv: list[bytes]) -> Reply:
    # What Redis says when it is built without jemalloc.
    return Verbatim("Stats not supported for the current allocator")


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
    return _flush(client, [client.db], argv[1:], all_of_them=False)


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
    return _flush(client, client.engine.databases.used(), argv[1:], all_of_them=True)


def _flush(client: Client, databases: list[Keyspace], words: list[bytes], all_of_them: bool) -> Reply:
    engine = client.engine
    wanted = [word.upper() for word in words]
    if wanted not in ([], [b"ASYNC"], [b"SYNC"]):
        raise SyntaxFault
    # Before the keys go, so that clients with copies hear of all at once and not of each.
    engine.tracking.flush()
    for keyspace in databases:
        engine.flush_database(keyspace)
    if all_of_them:
        engine.saves.forget()
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


server.container("MODULE", "Commands about modules, which Kora cannot load.", since="4.0.0", help_since="5.0.0")


@server(
    "MODULE LIST",
    "Returns the modules that are loaded: none.",
    flags="admin noscript",
    since="4.0.0",
    complexity="O(N) where N is the number of loaded modules.",
    tips=("nondeterministic_output_order",),
)
def module_list(client: Client, argv: list[bytes]) -> Reply:
    return []


def _refuse_module(client: Client, argv: list[bytes]) -> Reply:
    raise CommandError(
        'ERR MODULE command not allowed. If the enable-module-command option is set to "local", you can run it from a '
        "local connection, otherwise you need to set this option in the configuration file, and then restart the "
        "server."
    )


for _usage, _summary, _since in (
    ("MODULE LOAD path [arg ...]", "Loads a module; not allowed.", "4.0.0"),
    ("MODULE LOADEX path [configs=CONFIG name value [CONFIG name value ...]] [args=ARGS arg [arg ...]]",
     "Loads a module with settings; not allowed.", "7.0.0"),
    ("MODULE UNLOAD name", "Unloads a module; not allowed.", "4.0.0"),
):  # fmt: skip
    server(_usage, _summary, flags="admin noscript no_async_loading", since=_since)(_refuse_module)


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
    "SAVE",
    "Writes a snapshot; nobody is served until it is done.",
    flags="admin noscript no_async_loading no_multi",
    since="1.0.0",
    complexity="O(N) where N is the number of keys in all databases.",
)
def save(client: Client, argv: list[bytes]) -> Reply:
    client.engine.saves.save()
    return OK


@server(
    "BGSAVE [SCHEDULE]",
    "Begins to write a snapshot of the data as it is now, in the background.",
    flags="admin noscript no_async_loading",
    since="1.0.0",
    complexity="O(1), and O(N) in the background.",
)
def bgsave(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() != b"SCHEDULE"):
        raise SyntaxFault
    begun = client.engine.saves.begin(may_wait=len(argv) == 2)
    return Simple("Background saving started" if begun else "Background saving scheduled")


@server(
    "BGREWRITEAOF",
    "Begins to write the journal anew, as short as it can be, in the background.",
    flags="admin noscript no_async_loading",
    since="1.0.0",
    complexity="O(1), and O(N) in the background.",
)
def bgrewriteaof(client: Client, argv: list[bytes]) -> Reply:
    keeper = client.engine.journal.keeper
    if keeper is None:
        raise CommandError("ERR There are no files to save to")
    begun = keeper.rewrite()
    return Simple(f"Background append only file rewriting {'started' if begun else 'scheduled'}")


@server(
    "LASTSAVE",
    "Returns the Unix time of the last snapshot, or of the start.",
    flags="loading stale fast",
    since="1.0.0",
    acl="admin dangerous",
    tips=("nondeterministic_output",),
)
def lastsave(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.saves.last_ms // 1000


@server(
    "SHUTDOWN [nosave_save=NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
    "Stops the server, and saves the data before if there are save points.",
    flags="admin noscript loading stale no_multi allow_busy",
    since="1.0.0",
    complexity="O(N) when saving, where N is the number of keys in all databases; else O(1).",
)
def shutdown(client: Client, argv: list[bytes]) -> Reply:
    words = {word.upper() for word in argv[1:]}
    if words - {b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"ABORT"} or words >= {b"NOSAVE", b"SAVE"}:
        raise SyntaxFault
    if b"ABORT" in words:
        if len(words) > 1:
            raise SyntaxFault
        # There are no replicas to wait for: what shuts down does so before the next command.
        raise CommandError("ERR No shutdown in progress.")
    engine = client.engine
    if engine.busy_script and b"NOSAVE" not in words:
        raise busy(engine.busy_script)
    # What is only half there must not take the place of what is on the disk.
    saves = (b"SAVE" in words or engine.saves.are_wanted) and b"NOSAVE" not in words and engine.loading is None
    if saves and not engine.saves.save_before_the_end() and b"FORCE" not in words:
        raise CommandError("ERR Errors trying to SHUTDOWN. Check logs.")
    # As in Redis, a client sees the connection close, and only an error has a reply.
    client.skip_replies(1)
    engine.shutdown(saves)
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
