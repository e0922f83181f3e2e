"""COMMAND: what the server can do, in the words of COMMAND INFO and COMMAND DOCS of Redis 7.0.

Nothing is said here: every fact comes from the declarations (engine/registry, engine/usage).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from kora import glob
from kora.engine.client import Client
from kora.engine.key_specs import UnknownKeys
from kora.engine.registry import Command, Family, KeySpec, Registry
from kora.engine.usage import Argument
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import Items, Reply, Simple

introspection = Family("server")

# Flags in the order in which COMMAND INFO lists them (addReplyFlagsForCommand, server.c).
_FLAGS: Final = (
    "write", "readonly", "denyoom", "module", "admin", "pubsub", "noscript", "blocking", "loading", "stale",
    "skip_monitor", "skip_slowlog", "asking", "fast", "no_auth", "may_replicate", "no_mandatory_keys",
    "no_async_loading", "no_multi", "movablekeys", "allow_busy",
)  # fmt: skip


def _all(client: Client, argv: list[bytes]) -> Reply:
    return [_info(command) for command in client.engine.registry.commands.values()]


introspection.container(
    "COMMAND",
    "Returns details about all commands.",
    since="2.8.13",
    help_since="5.0.0",
    acl="connection",
    handler=_all,
    flags="loading stale",
    complexity="O(N) where N is the number of commands.",
    tips=("nondeterministic_output_order",),
)


@introspection(
    "COMMAND COUNT",
    "Returns the number of commands.",
    flags="loading stale",
    since="2.8.13",
    acl="connection",
)
def count(client: Client, argv: list[bytes]) -> Reply:
    return len(client.engine.registry.commands)


@introspection(
    "COMMAND LIST [FILTERBY <filterby=MODULE module-name | ACLCAT category | PATTERN pattern:pattern>]",
    "Returns the names of all commands and subcommands, or of those that pass a filter.",
    flags="loading stale",
    since="7.0.0",
    complexity="O(N) where N is the number of commands.",
    acl="connection",
    tips=("nondeterministic_output_order",),
)
def list_(client: Client, argv: list[bytes]) -> Reply:
    registry = client.engine.registry
    if len(argv) == 2:
        return [command.name for command in _with_subcommands(registry)]
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise SyntaxFault
    passes = _filter(argv[3].upper(), argv[4])
    return [command.name for command in _with_subcommands(registry) if passes(command)]


def _filter(kind: bytes, value: bytes) -> Callable[[Command], bool]:
    if kind == b"MODULE":
        return lambda command: False  # there are no modules
    if kind == b"ACLCAT":
        category = value.lower().decode("utf-8", "replace")
        return lambda command: category in command.categories
    if kind == b"PATTERN":
        return lambda command: glob.matches(value, command.name.encode(), ignore_case=True)
    raise SyntaxFault


def _with_subcommands(registry: Registry) -> Iterator[Command]:
    for command in registry.commands.values():
        yield command
        yield from (command.subcommands or {}).values()


@introspection(
    "COMMAND INFO [command-name ...]",
    "Returns arity, flags and key positions of the named commands, or of all.",
    flags="loading stale",
    since="2.8.13",
    complexity="O(N) where N is the number of commands asked for.",
    acl="connection",
    tips=("nondeterministic_output_order",),
)
def info(client: Client, argv: list[bytes]) -> Reply:
    names = argv[2:]
    if not names:
        return _all(client, argv)
    found = [_named(client.engine.registry, name) for name in names]
    return [None if command is None else _info(command) for command in found]


@introspection(
    "COMMAND DOCS [command-name ...]",
    "Returns the documentation of the named commands, or of all.",
    flags="loading stale",
    since="7.0.0",
    complexity="O(N) where N is the number of commands asked for.",
    acl="connection",
    tips=("nondeterministic_output_order",),
)
def docs(client: Client, argv: list[bytes]) -> Reply:
    registry = client.engine.registry
    commands: Iterable[Command | None] = registry.commands.values()
    if len(argv) > 2:
        commands = [_named(registry, name) for name in argv[2:]]
    return {command.name: _docs(command) for command in commands if command is not None}


@introspection(
    "COMMAND GETKEYS command arg [arg ...]",
    "Returns the keys of a whole request.",
    flags="loading stale",
    since="2.8.13",
    complexity="O(N) where N is the number of arguments of the request.",
    acl="connection",
)
def getkeys(client: Client, argv: list[bytes]) -> Reply:
    return [key for key, _ in _keys(client, argv[2:])]


@introspection(
    "COMMAND GETKEYSANDFLAGS command arg [arg ...]",
    "Returns the keys of a whole request, and what it does to each.",
    flags="loading stale",
    since="7.0.0",
    complexity="O(N) where N is the number of arguments of the request.",
    acl="connection",
)
def getkeysandflags(client: Client, argv: list[bytes]) -> Reply:
    return [[key, _statuses(access.split())] for key, access in _keys(client, argv[2:])]


def _keys(client: Client, request: list[bytes]) -> list[tuple[bytes, str]]:
    """The keys of a request, each with what is done to it.

    Raises CommandError where its command has no keys or there is no such command, and where it must have some and none
    can be found.
    """
    try:
        command = client.engine.registry.find(request)
    except CommandError:
        raise CommandError("ERR Invalid command specified") from None
    if not command.has_keys:
        raise CommandError("ERR The command has no key arguments")
    if not command.argc_min <= len(request) <= command.argc_max:
        raise CommandError("ERR Invalid number of arguments specified for command")
    found = command.keys_with_access(request) if command.has_its_words(request) else []
    if not found and "no_mandatory_keys" not in command.flags:
        raise CommandError("ERR Invalid arguments specified for command")
    return found


def _named(registry: Registry, name: bytes) -> Command | None:
    """A command by its full name in any case: `get`, `config`, `config|get`."""
    first, bar, second = name.lower().partition(b"|")
    command = registry.table.get(first)
    if command is None or not bar:
        return command
    return (command.subcommands or {}).get(second)


def _info(command: Command) -> Reply:
    """The ten elements of COMMAND INFO."""
    subcommands = [_info(subcommand) for subcommand in (command.subcommands or {}).values()]
    return [
        command.name,
        command.arity,
        _statuses(flag for flag in _FLAGS if flag in command.flags),
        command.first_key,
        command.last_key,
        command.key_step,
        _statuses(f"@{category}" for category in command.categories),
        Items(command.tips),
        Items(_key_spec(spec, access) for spec, access in zip(command.key_specs, command.access, strict=True)),
        # In RESP3 Redis has an array of them, but an empty set of none.
        subcommands or Items(()),
    ]


def _key_spec(spec: KeySpec, access: str) -> Reply:
    found: dict[str, Reply] = {"notes": spec.notes} if spec.notes else {}
    found["flags"] = _statuses(access.split())
    for name, (kind, details) in (("begin_search", spec.begin()), ("find_keys", spec.find())):
        found[name] = {"type": kind, "spec": details}
    return found


def _docs(command: Command) -> Reply:
    docs: dict[str, Reply] = {"summary": command.summary, "since": command.since, "group": command.group}
    if command.complexity:
        docs["complexity"] = command.complexity
    if command.subcommands is not None:
        docs["subcommands"] = {subcommand.name: _docs(subcommand) for subcommand in command.subcommands.values()}
    elif command.usage.arguments:
        docs["arguments"] = _Tree(command).arguments(command.usage.arguments)
    return docs


class _Tree:
    """The arguments of a command as COMMAND DOCS has them; counts the keys, which refer to key specs by number."""

    def __init__(self, command: Command) -> None:
        self._specs = len(command.key_specs)
        self._keys = 0
        # SORT's patterns stand for keys that nobody can tell beforehand, which is a key spec, too.
        self._unknown = next((place for place, spec in enumerate(command.key_specs) if type(spec) is UnknownKeys), 0)

    def arguments(self, arguments: Iterable[Argument]) -> Reply:
        return [self._argument(argument) for argument in arguments]

    def _argument(self, argument: Argument) -> Reply:
        docs: dict[str, Reply] = {"name": argument.name, "type": argument.kind}
        if argument.kind == "key" and self._specs:
            docs["key_spec_index"] = min(self._keys, self._specs - 1)
            self._keys += 1
        elif argument.kind == "pattern" and self._unknown:
            docs["key_spec_index"] = self._unknown
            self._keys = self._unknown + 1
        if argument.token:
            docs["token"] = argument.token
        flags = ["optional"] if argument.optional else []
        if argument.multiple:
            flags.append("multiple")
        if argument.multiple_token:
            flags.append("multiple_token")
        if flags:
            docs["flags"] = _statuses(flags)
        if argument.arguments:
            docs["arguments"] = self.arguments(argument.arguments)
        return docs


def _statuses(words: Iterable[str]) -> Items:
    return Items(Simple(word) for word in words)
