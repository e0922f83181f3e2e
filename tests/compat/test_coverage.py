"""Every command that Kora has is compared with redis-server, or excused here with a reason."""

import pytest

from kora.commands import make_registry
from tests.kernel.operations import OPERATIONS

from .quirks import QUIRKS
from .test_connection_commands import CONNECTION
from .test_dumping import RESTORING
from .test_server_commands import SERVER
from .test_sessions import PUBSUB, TRANSACTIONS
from .words import DATABASES, GENERIC, STRINGS
from .words_hashes import FIELD_DEADLINES, HASHES
from .words_lists import BLOCKING, LISTS, SORTING
from .words_sets import BITMAPS, HYPERLOGLOGS, SETS
from .words_sorted_sets import GEO, LEX, SORTED_SETS
from .words_streams import GROUP_COMMANDS, STREAMS

pytestmark = pytest.mark.once

TABLES = (
    STRINGS,
    GENERIC,
    DATABASES,
    CONNECTION,
    SERVER,
    HASHES,
    LISTS,
    BLOCKING,
    SORTING,
    SETS,
    BITMAPS,
    HYPERLOGLOGS,
    SORTED_SETS,
    LEX,
    GEO,
    STREAMS,
    GROUP_COMMANDS,
    TRANSACTIONS,
    PUBSUB,
    {"RESTORE": RESTORING["RESTORE"]},
)

EXCUSED = {
    "bzmpop": "waits in real time; ZMPOP is compared, and what is there in test_sorted_set_commands",
    "bzpopmax": "waits in real time; ZPOPMAX is compared, and what is there in test_sorted_set_commands",
    "bzpopmin": "waits in real time; ZPOPMIN is compared, and what is there in test_sorted_set_commands",
    "client|info": "the fields' names are compared, in test_connection_commands; the values are each server's own",
    "client|pause": "a pause ends in real time; its mistakes are compared in MISTAKES of test_mistakes",
    "client|setinfo": "came with Redis 7.2",
    "cluster|countkeysinslot": "compared with a server of a cluster, in test_server_commands",
    "cluster|getkeysinslot": "compared with a server of a cluster, in test_server_commands",
    "cluster|info": "what is said depends on there being a cluster",
    "cluster|keyslot": "compared with a server of a cluster, in test_server_commands",
    "command": "the whole table is compared in test_command_table",
    "command|count": "depends on how many commands there are",
    "command|docs": "the whole table is compared in test_command_table; here only unknown names",
    "command|getkeysandflags": "compared with GETKEYS",
    "config|rewrite": "the file is each server's own",
    "debug": "what is in a server is its own affair",
    "dump": "compared by what each server restores of the other's values, in test_dumping",
    "migrate": "compared by what arrives, in e2e/test_migration; mistakes in test_dumping",
    **dict.fromkeys(("bgsave", "lastsave", "save"), "compared by what is in the file, in test_saving"),
    "bgrewriteaof": "compared by what is in the files, in test_journals",
    "memory|usage": "sizes are each server's own; here only that of a key that is not there, and mistakes",
    "pfselftest": "takes seconds in Redis; compared once, in test_set_commands",
    **dict.fromkeys(map(str.lower, FIELD_DEADLINES), "came with Redis 7.4"),
    **dict.fromkeys(("vecdel", "vecget", "vecinfo", "vecquery", "vecset"), "Redis has nothing of the kind"),
    **dict.fromkeys(
        ("discard", "exec", "multi", "unwatch", "watch"), "compared over several connections, in test_transactions"
    ),
    **dict.fromkeys(
        (
            "psubscribe",
            "publish",
            "pubsub|channels",
            "pubsub|numpat",
            "pubsub|numsub",
            "pubsub|shardchannels",
            "pubsub|shardnumsub",
            "punsubscribe",
            "spublish",
            "ssubscribe",
            "subscribe",
            "sunsubscribe",
            "unsubscribe",
        ),
        "compared over several connections, in test_pubsub",
    ),
    **dict.fromkeys(
        (
            "acl|cat",
            "acl|deluser",
            "acl|dryrun",
            "acl|genpass",
            "acl|getuser",
            "acl|list",
            "acl|load",
            "acl|log",
            "acl|save",
            "acl|setuser",
            "acl|users",
            "acl|whoami",
            "client|no-evict",
        ),
        "compared by what users may do, in test_acl_commands",
    ),
    "client|no-touch": "came with Redis 7.2",
    "client|tracking": "compared over several connections, in test_tracking_commands",
    **dict.fromkeys(
        (
            "eval",
            "eval_ro",
            "evalsha",
            "evalsha_ro",
            "fcall",
            "fcall_ro",
            "function|delete",
            "function|dump",
            "function|flush",
            "function|kill",
            "function|list",
            "function|load",
            "function|restore",
            "function|stats",
            "script|debug",
            "script|exists",
            "script|flush",
            "script|kill",
            "script|load",
        ),
        "compared by whole scripts and libraries, in test_scripting",
    ),
    **dict.fromkeys(("hotkeys|get", "hotkeys|reset", "hotkeys|start", "hotkeys|stop"), "came with Redis 8.6"),
    **dict.fromkeys(
        ("hotkeys|top", "latency|blame", "stats.hotkeys", "stats.latency", "stats.memory"), "are Kora's own"
    ),
    **dict.fromkeys(("commandlog|get", "commandlog|len", "commandlog|reset"), "are Valkey's"),
    **dict.fromkeys(
        (
            "latency|doctor",
            "latency|graph",
            "latency|histogram",
            "latency|history",
            "latency|latest",
            "latency|reset",
            "monitor",
            "slowlog|get",
            "slowlog|len",
            "slowlog|reset",
        ),
        "compared over several connections, in test_slow_commands",
    ),
    "cluster|myshardid": "came with Redis 7.2",
    "waitaof": "came with Redis 7.2",
    **dict.fromkeys(
        (
            "asking",
            "cluster|addslots",
            "cluster|addslotsrange",
            "cluster|bumpepoch",
            "cluster|count-failure-reports",
            "cluster|delslots",
            "cluster|delslotsrange",
            "cluster|failover",
            "cluster|flushslots",
            "cluster|forget",
            "cluster|links",
            "cluster|meet",
            "cluster|myid",
            "cluster|nodes",
            "cluster|replicas",
            "cluster|replicate",
            "cluster|reset",
            "cluster|saveconfig",
            "cluster|set-config-epoch",
            "cluster|setslot",
            "cluster|shards",
            "cluster|slaves",
            "cluster|slots",
            "failover",
            "memory|purge",
            "module|list",
            "module|load",
            "module|loadex",
            "module|unload",
            "psync",
            "readonly",
            "readwrite",
            "replconf",
            "replicaof",
            "slaveof",
            "sync",
            "wait",
        ),
        "there is one answer, or one for each mistake: compared in test_command_table",
    ),
    "memory|doctor": "prose",
    **dict.fromkeys(("doctor", "doctor|json", "doctor|text"), "Redis has nothing of the kind"),
    **dict.fromkeys(("track", "track.keys", "track.read"), "Redis has nothing of the kind"),
    **dict.fromkeys(("audit|status", "audit|tail", "audit|verify"), "Redis has nothing of the kind"),
    **dict.fromkeys(
        ("client|trace", "trace|get", "trace|list", "trace|reset", "trace|status"), "Redis has nothing of the kind"
    ),
    "memory|malloc-stats": "what an allocator says is its own affair",
    "memory|stats": "sizes are each server's own",
    "time": "every program begins with it, and sets Kora's clock by it",
}


_UNKNOWN_TO_REDIS = {"track"}


def test_every_command_is_compared_or_excused() -> None:
    compared = {name.lower().replace(" ", "|") for table in TABLES for name in table}
    names = {command.name for command in make_registry().slots}
    names -= {name for name in names if name.endswith("|help")}  # help is prose
    missing = sorted(names - compared - set(EXCUSED))
    assert not missing, f"give these a strategy in tests/compat/words.py, or a reason in EXCUSED: {missing}"
    assert not sorted(set(EXCUSED) - names), "excused, but there is no such command"


def test_every_command_that_the_kernel_answers_is_compared() -> None:
    """By its replies, so that none of Redis' is excused: there are two implementations, and this is their arbiter."""
    tables = STRINGS, GENERIC, CONNECTION, HASHES, LISTS, SETS, SORTED_SETS, STREAMS, BITMAPS
    compared = {name.lower() for table in tables for name in table}
    missing = sorted(set(OPERATIONS) - compared - _UNKNOWN_TO_REDIS)
    assert not missing, f"the kernel answers these: give them a strategy in tests/compat/words.py: {missing}"


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_a_quirk_says_what_both_do_and_why(quirk: object) -> None:
    assert all(getattr(quirk, field).strip() for field in ("name", "redis", "kora", "reason"))
