"""The command table, as COMMAND INFO and COMMAND DOCS tell it, against that of redis-server 7.0.15.

A command that both have must agree in everything that a client library, a cluster proxy or redis-cli reads off the
table: arity, flags, key positions, ACL categories, tips, key specs, and the tree of arguments.  Where Kora's usage line
says another thing on purpose, EXCEPTIONS says why.
"""

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from kora.commands import make_registry
from tests.compat.peers import Kora, RedisServer, request
from tests.resp_reader import read_replies

pytestmark = pytest.mark.once

# (command, what differs) → why.  A row that is no longer true fails a test, too.
EXCEPTIONS = {
    ("config|get", "arguments"): "Redis 7.0 wraps the one argument into a block of one; later versions do not",
    ("command|getkeys", "arguments"): "Redis 7.0 documents none; later versions have these",
    ("command|getkeysandflags", "arguments"): "Redis 7.0 documents none; later versions have these",
    ("client|kill", "arguments"): "told as in Redis 7.2, which names the arguments anew",
    ("client|list", "arguments"): "told as in Redis 7.2: 7.0 has a block around the ids, and another name for TYPE",
    ("client|reply", "arguments"): "the choice is named as in Redis 7.2",
    ("client|unblock", "arguments"): "the choice is named as in Redis 7.2",
    ("hello", "arguments"): "the block after AUTH is named as in Redis 7.2",
    ("zrank", "arity"): "WITHSCORE came with Redis 7.2",
    ("zrank", "arguments"): "WITHSCORE came with Redis 7.2",
    ("zrevrank", "arity"): "WITHSCORE came with Redis 7.2",
    ("zrevrank", "arguments"): "WITHSCORE came with Redis 7.2",
    ("xinfo|stream", "arguments"): "the block of FULL is told as in Redis 7.2",
    ("psubscribe", "arguments"): "Redis has a block of one around the one argument",
    ("bitop", "arguments"): "the operation is a choice, as in Redis 7.2",
    ("pfmerge", "arguments"): "the source keys may be left out, as Redis 7.2 says, and as 7.0 lets one do",
    ("hscan", "arguments"): "NOVALUES came with Redis 7.4",
    ("migrate", "arguments"): "Redis also marks each of the two ways to authenticate as optional",
    ("module|loadex", "arguments"): "Redis has a block of one around the one argument behind ARGS",
    ("latency|histogram", "arguments"): "BY is Kora's own",
    ("debug", "arguments"): "Redis documents none, though it wants at least one",
}

PROTOCOL_KINDS = (
    "string", "integer", "double", "bignum", "null", "array", "set", "map", "attrib", "push", "verbatim",
    "true", "false",
)  # fmt: skip

INFO_FIELDS = ("name", "arity", "flags", "first key", "last key", "key step", "categories", "tips", "key specs")

COMMANDS = sorted(
    name
    for command in make_registry().commands.values()
    for name in (command.name, *(subcommand.name for subcommand in (command.subcommands or {}).values()))
)


def ask_redis(redis: RedisServer, *words: str) -> Any:
    return read_replies(redis.run(*words))[0]


@functools.cache
def kora_server() -> Kora:
    return Kora()


def ask_kora(*words: str) -> Any:
    replies, _ = kora_server().exchange(request(*words))
    return read_replies(replies)[0]


def as_dict(pairs: list[Any]) -> dict[bytes, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def by_field(info: list[Any]) -> dict[str, Any]:
    """COMMAND INFO without the subcommands, which are asked for by their own names; sets in any order."""
    fields = dict(zip(INFO_FIELDS, info, strict=False))
    for name in ("flags", "categories", "tips"):
        fields[name] = set(fields[name])
    specs = [as_dict(spec) for spec in fields["key specs"]]
    for spec in specs:
        spec.pop(b"notes", None)  # Redis' prose
    fields["key specs"] = specs
    return fields


def arguments(docs: list[Any]) -> list[str]:
    """The tree of arguments as lines of text, without what is prose or history."""
    return list(_lines(as_dict(docs).get(b"arguments", []), ""))


def _lines(tree: list[Any], indent: str) -> Iterator[str]:
    for node in map(as_dict, tree):
        line = f"{indent}{node[b'name'].decode()}: {node[b'type'].decode()}"
        if b"token" in node:
            line += f" token={node[b'token'].decode()!r}"
        if b"key_spec_index" in node:
            line += f" key_spec_index={node[b'key_spec_index']}"
        yield " ".join([line, *sorted(node.get(b"flags", []))])
        yield from _lines(node.get(b"arguments", []), indent + "    ")


def is_excused(command: str, what: str) -> bool:
    return (command, what) in EXCEPTIONS


@pytest.mark.parametrize("command", sorted({command for command, _ in EXCEPTIONS}))
def test_exceptions_are_still_needed(redis: RedisServer, command: str) -> None:
    expected, found = (as_dict(ask(command))[command.encode()] for ask in (redis_docs(redis), kora_docs))
    assert arguments(expected) != arguments(found), f"{command} is as in Redis by now: take it out of EXCEPTIONS"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_info_and_docs_say_what_redis_says(redis: RedisServer, command: str) -> None:
    [expected_info] = ask_redis(redis, "COMMAND", "INFO", command)
    if expected_info is None:
        pytest.skip(f"{command} is not a command of this redis-server")
    [found_info] = ask_kora("COMMAND", "INFO", command)
    expected, found = by_field(expected_info), by_field(found_info)
    differences = [
        f"{field}: Redis has {expected[field]}, Kora {found[field]}"
        for field in INFO_FIELDS
        if expected[field] != found[field] and not is_excused(command, field)
    ]
    expected_docs, found_docs = (as_dict(ask(command))[command.encode()] for ask in (redis_docs(redis), kora_docs))
    differences += [
        f"{field}: Redis has {as_dict(expected_docs)[field]}, Kora {as_dict(found_docs)[field]}"
        for field in (b"since", b"group")
        if as_dict(expected_docs)[field] != as_dict(found_docs)[field]
    ]
    if arguments(expected_docs) != arguments(found_docs) and not is_excused(command, "arguments"):
        differences.append("arguments: Redis has\n        " + "\n        ".join(arguments(expected_docs)))
        differences.append("arguments: Kora has\n        " + "\n        ".join(arguments(found_docs)))
    assert not differences, f"{command}: change its declaration in kora/commands\n    " + "\n    ".join(differences)


def redis_docs(redis: RedisServer) -> Any:
    return lambda command: ask_redis(redis, "COMMAND", "DOCS", command)


def kora_docs(command: str) -> Any:
    return ask_kora("COMMAND", "DOCS", command)


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize(
    "words",
    [
        ("COMMAND", "INFO", "get", "nosuch", "mset", "lcs", "CONFIG|SET", "config|nosuch", "append", "memory|usage"),
        ("COMMAND", "DOCS", "nosuch"),
        ("COMMAND", "GETKEYS", "mset", "a", "1", "b", "2"),
        ("COMMAND", "GETKEYS", "get", "a", "b"),
        ("COMMAND", "GETKEYS", "get"),
        ("COMMAND", "GETKEYS", "nosuch", "a"),
        ("COMMAND", "GETKEYS", "config", "nosuch"),
        ("COMMAND", "GETKEYS", "config", "get", "x"),
        ("COMMAND", "GETKEYS", "memory", "usage", "x"),
        ("COMMAND", "GETKEYSANDFLAGS", "set", "a", "1"),
        ("COMMAND", "GETKEYSANDFLAGS", "set", "a", "1", "get"),
        ("COMMAND", "GETKEYSANDFLAGS", "mset", "a", "1", "b", "2"),
        ("COMMAND", "GETKEYSANDFLAGS", "lcs", "a", "b"),
        ("COMMAND", "LIST", "FILTERBY", "MODULE", "nosuch"),
        ("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuch"),
        ("COMMAND", "LIST", "FILTERBY", "PATTERN", "GETR*"),
        ("COMMAND", "LIST", "FILTERBY", "NOSUCH", "x"),
        ("COMMAND", "LIST", "FILTERBY", "PATTERN"),
        ("COMMAND", "COUNT", "x"),
        ("COMMAND", "NOSUCH"),
        ("CONFIG", "SET", "a"),
        ("CONFIG", "SET", "maxmemory", "1", "hz"),
        ("CONFIG", "SET", "hz", "10", "hz", "11"),
        ("CONFIG", "GET", "hz", "HZ", "h?", "nosuch"),
        ("CONFIG", "RESETSTAT", "x"),
        ("CONFIG",),
        ("INFO", "nosuch"),
        ("INFO", "cluster"),
        ("MEMORY", "USAGE"),
        ("MEMORY", "USAGE", "nosuch"),
        ("MEMORY", "USAGE", "nosuch", "SAMPLES"),
        ("MEMORY", "USAGE", "nosuch", "SAMPLES", "-1"),
        ("MEMORY", "USAGE", "nosuch", "SAMPLES", "x"),
        ("MEMORY", "USAGE", "nosuch", "SAMPLES", "0", "SAMPLES", "1"),
        ("MEMORY", "USAGE", "nosuch", "NOSUCH", "1"),
        ("SWAPDB", "a", "1"),
        ("SWAPDB", "1", "a"),
        ("SWAPDB", "1", "99"),
        ("SWAPDB", "-1", "1"),
        ("SWAPDB", "1", "9999999999"),
        ("SWAPDB", "1", "2", "3"),
        ("FLUSHALL", "nosuch"),
        ("FLUSHDB", "ASYNC", "SYNC"),
        ("SHUTDOWN", "nosuch"),
        ("SHUTDOWN", "ABORT"),
        ("SHUTDOWN", "ABORT", "NOW"),
        ("SHUTDOWN", "NOSAVE", "SAVE"),
        ("ROLE",),
        ("WAIT", "0", "0"),
        ("WAIT", "-1", "0"),
        ("WAIT", "x", "0"),
        ("WAIT", "1", "x"),
        ("WAIT", "1", "1.5"),
        ("WAIT", "1", "-1"),
        ("WAIT", "1"),
        ("REPLICAOF", "no", "ONE"),
        ("SLAVEOF", "NO", "one"),
        ("REPLICAOF", "NO", "TWO"),
        ("REPLICAOF", "localhost", "65536"),
        ("REPLICAOF", "localhost"),
        ("FAILOVER",),
        ("FAILOVER", "ABORT"),
        ("FAILOVER", "ABORT", "FORCE"),
        ("FAILOVER", "TO", "localhost", "1", "FORCE", "TIMEOUT", "1"),
        ("FAILOVER", "TO", "localhost", "x"),
        ("FAILOVER", "TO", "localhost"),
        ("FAILOVER", "TIMEOUT", "0"),
        ("FAILOVER", "TIMEOUT", "x"),
        ("FAILOVER", "TIMEOUT", "1", "TIMEOUT", "1"),
        ("FAILOVER", "nosuch"),
        ("REPLCONF",),
        ("REPLCONF", "x"),
        ("REPLCONF", "nosuch", "x"),
        ("REPLCONF", "listening-port", "x"),
        ("REPLCONF", "listening-port", "1", "capa", "eof"),
        ("REPLCONF", "rdb-only", "2"),
        ("REPLCONF", "rdb-only", "x"),
        ("REPLCONF", "rdb-filter-only", "functions"),
        ("REPLCONF", "rdb-filter-only", "functions nosuch"),
        ("REPLCONF", "ip-address", "x" * 300),
        ("REPLCONF", "ACK", "1"),
        ("REPLCONF", "GETACK", "*"),
        ("PSYNC", "x"),
        ("SYNC", "x"),
        ("ASKING",),
        ("READONLY",),
        ("READWRITE",),
        ("CLUSTER", "NODES"),
        ("CLUSTER", "SLOTS"),
        ("CLUSTER", "SHARDS"),
        ("CLUSTER", "MYID"),
        ("CLUSTER", "MEET", "x"),
        ("CLUSTER", "SETSLOT", "1", "NODE", "x"),
        ("CLUSTER", "NOSUCH"),
        ("MODULE", "LIST"),
        ("MODULE", "LOAD", "x"),
        ("MODULE", "LOADEX", "x"),
        ("MODULE", "UNLOAD", "x"),
        ("MODULE", "UNLOAD"),
        ("MODULE",),
        ("MEMORY", "PURGE"),
        ("MEMORY", "STATS", "x"),
        ("CLIENT", "NO-EVICT", "nosuch"),
        ("CLIENT", "NO-EVICT", "on"),
        ("CLIENT", "GETREDIR"),
        ("CLIENT", "TRACKINGINFO"),
        ("CONFIG", "SET", "maxmemory-clients", "101%"),
        ("CONFIG", "SET", "maxmemory-clients", "-1%"),
        ("CONFIG", "SET", "maxmemory-clients", "-1"),
        ("CONFIG", "SET", "maxmemory-clients", "x"),
        ("CONFIG", "SET", "cluster-enabled", "yes"),
        ("CONFIG", "GET", "cluster-enabled"),
        ("CONFIG", "GET", "io-threads"),
        ("CONFIG", "GET", "LIST-compress-depth"),
        ("CONFIG", "GET", "replicaof"),
        ("CLIENT", "KILL", "ID", "0"),
        ("CLIENT", "KILL", "ID", "x"),
        ("CLIENT", "KILL", "ID", "999999", "SKIPME"),
        ("CLIENT", "KILL", "SKIPME", "maybe"),
        ("CLIENT", "KILL", "TYPE", "nosuch"),
        ("CLIENT", "KILL", "USER", "nosuch"),
        ("CLIENT", "KILL", "LADDR", "nosuch"),
        ("CLIENT", "KILL", "nosuch"),
        ("CLIENT", "LIST", "TYPE", "nosuch"),
        ("CLIENT", "LIST", "TYPE", "replica"),
        ("CLIENT", "LIST", "ID"),
        ("CLIENT", "LIST", "ID", "x"),
        ("CLIENT", "LIST", "nosuch"),
        ("LOLWUT", "VERSION", "x"),
        ("DEBUG",),
        ("DEBUG", "NOSUCH"),
        ("DEBUG", "SLEEP"),
        ("DEBUG", "OBJECT", "nosuch"),
        ("DEBUG", "ERROR", "CODE text\r\nof lines"),
        ("DEBUG", "CHANGE-REPL-ID"),
        ("DEBUG", "PAUSE-CRON", "0"),
        ("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "4gb"),
        ("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "x"),
        ("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "0"),
        ("DEBUG", "POPULATE", "x"),
        ("DEBUG", "POPULATE", "-1"),
        ("DEBUG", "PROTOCOL", "nosuch"),
        *(("DEBUG", "PROTOCOL", kind) for kind in PROTOCOL_KINDS),
    ],
    ids=" ".join,
)
def test_the_bytes_of_a_reply_are_those_of_redis(redis: RedisServer, words: tuple[str, ...], protocol: str) -> None:
    with redis.connect() as connection:
        connection.exchange(request("HELLO", protocol))
        expected, _ = connection.exchange(request(*words))
    kora = Kora()
    if protocol == "3":
        kora.client.set_protocol(3)
    assert kora.exchange(request(*words))[0] == expected
