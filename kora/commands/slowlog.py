"""SLOWLOG and COMMANDLOG: what was written down of slow commands, large requests and large replies.

What is written down, and when, says engine/slowness.py.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.engine.slowness import LOGS, SLOW
from kora.errors import CommandError
from kora.observe.commandlog import CommandLog, Entry
from kora.resp.reply import OK, Reply
from kora.types.number import INT64_MAX, parse_integer

slowlog = Family("server")

_FLAGS: Final = "admin loading stale"
_ALL_NODES: Final = "request_policy:all_nodes"
_DEFAULT_COUNT: Final = 10

slowlog.container("SLOWLOG", "Commands about the log of slow commands.", since="2.2.12", help_since="6.2.0")


@slowlog(
    "SLOWLOG RESET",
    "Forgets all entries of the slow log.",
    flags=_FLAGS,
    since="2.2.12",
    complexity="O(N) where N is the number of entries in the slowlog",
    tips=(_ALL_NODES, "response_policy:all_succeeded"),
)
def slowlog_reset(client: Client, argv: list[bytes]) -> Reply:
    client.engine.slowness.logs[SLOW].entries.clear()
    return OK


@slowlog(
    "SLOWLOG GET [count:int]",
    "Returns the latest entries of the slow log: id, Unix time, microseconds, words, client address and name; with "
    "slowlog-extended also the microseconds that it waited, those until it was answered, and its trace.",
    flags=_FLAGS,
    since="2.2.12",
    complexity="O(N) where N is the number of entries returned",
    tips=(_ALL_NODES, "nondeterministic_output"),
)
def slowlog_get(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.")
    count = _parse_count(argv[2]) if len(argv) == 3 else _DEFAULT_COUNT
    return _latest(client, client.engine.slowness.logs[SLOW], count)


@slowlog(
    "SLOWLOG LEN",
    "Returns how many entries the slow log has.",
    flags=_FLAGS,
    since="2.2.12",
    tips=(_ALL_NODES, "response_policy:agg_sum", "nondeterministic_output"),
)
def slowlog_len(client: Client, argv: list[bytes]) -> Reply:
    return len(client.engine.slowness.logs[SLOW].entries)


slowlog.container(
    "COMMANDLOG",
    "Commands about the logs of slow commands, of large requests and of large replies, as Valkey 8.1 has them.",
    since="8.1.0",
    help_since="8.1.0",
)


@slowlog(
    "COMMANDLOG GET count:int type",
    "Returns the latest entries of a log (slow, large-request or large-reply), as SLOWLOG GET does; the third field is "
    "microseconds, or bytes.",
    flags=_FLAGS,
    since="8.1.0",
    complexity="O(N) where N is the number of entries returned",
    tips=(_ALL_NODES, "nondeterministic_output"),
)
def commandlog_get(client: Client, argv: list[bytes]) -> Reply:
    count = _parse_count(argv[2])
    return _latest(client, _log_of(client, argv[3]), count)


@slowlog(
    "COMMANDLOG LEN type",
    "Returns how many entries a log has.",
    flags=_FLAGS,
    since="8.1.0",
    tips=(_ALL_NODES, "response_policy:agg_sum", "nondeterministic_output"),
)
def commandlog_len(client: Client, argv: list[bytes]) -> Reply:
    return len(_log_of(client, argv[2]).entries)


@slowlog(
    "COMMANDLOG RESET type",
    "Forgets all entries of a log.",
    flags=_FLAGS,
    since="8.1.0",
    complexity="O(N) where N is the number of entries in the log",
    tips=(_ALL_NODES, "response_policy:all_succeeded"),
)
def commandlog_reset(client: Client, argv: list[bytes]) -> Reply:
    _log_of(client, argv[2]).entries.clear()
    return OK


def _log_of(client: Client, word: bytes) -> CommandLog:
    name = word.lower().decode("utf-8", "replace")
    if name not in LOGS:
        raise CommandError(f"ERR type should be one of the following: {', '.join(LOGS)}")
    return client.engine.slowness.logs[name]


def _parse_count(word: bytes) -> int | None:
    """None is for all."""
    error = CommandError("ERR count should be greater than or equal to -1")
    count = parse_integer(word, error)
    if not -1 <= count <= INT64_MAX:
        raise error
    return None if count == -1 else count


def _latest(client: Client, log: CommandLog, count: int | None) -> Reply:
    is_extended = client.engine.config.slowlog_extended
    return [_fields(entry, is_extended) for entry in _first(log.entries, count)]


def _first(entries: Iterable[Entry], count: int | None) -> Iterable[Entry]:
    return entries if count is None else islice(entries, min(count, 1 << 31))


def _fields(entry: Entry, is_extended: bool) -> Reply:
    fields: list[Reply] = [entry.id, entry.time_s, entry.value, entry.words, entry.address, entry.client_name]
    return [*fields, entry.wait_us, entry.service_us, entry.trace_id] if is_extended else fields
