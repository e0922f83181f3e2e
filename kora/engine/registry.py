"""Commands: declared once, by a usage line and a handler, and everything else derived.

    string = Family("string")

    @string("STRLEN key", "Returns the length of a string value.", flags="readonly fast", since="2.2.0",
            complexity="O(1)")
    def strlen(client: Client, argv: list[bytes]) -> Reply: ...

A handler is called with the whole request and returns plain Python (resp/reply), or raises a CommandError.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from kora.engine.key_specs import KeyRange, KeySpec, keys_after, keys_at, keys_counted, keys_unknown
from kora.engine.usage import Usage, parse
from kora.errors import CommandError, unknown_subcommand, wrong_arity
from kora.observe.board import command_text
from kora.resp.reply import Reply, Simple

if TYPE_CHECKING:
    from kora.engine.client import Client

Handler: TypeAlias = Callable[["Client", list[bytes]], Reply]
AccessOf: TypeAlias = Callable[[Sequence[bytes]], str]

# Flags that imply ACL categories, as setImplicitACLCategories (acl.c) has them.
_IMPLIED: Final = {
    "write": ("write",),
    "readonly": ("read",),
    "admin": ("admin", "dangerous"),
    "pubsub": ("pubsub",),
    "blocking": ("blocking",),
    "fast": ("fast",),
}
# ACL categories in the order in which COMMAND INFO lists them.
_CATEGORIES: Final = (
    "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo", "stream",
    "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
)  # fmt: skip
# Groups whose commands are in the ACL category of the same meaning.
_GROUP_CATEGORIES: Final = {
    "string": "string", "generic": "keyspace", "connection": "connection", "hash": "hash", "list": "list", "set": "set",
    "sorted-set": "sortedset", "stream": "stream", "bitmap": "bitmap", "hyperloglog": "hyperloglog", "geo": "geo",
    "transactions": "transaction", "scripting": "scripting",
}  # fmt: skip

ARGUMENTS_MAX: Final = 1 << 31

# The access to what stands where keys do, and is sent to the same slot of a cluster: a sharded channel.
NOT_KEY: Final = "not_key"

__all__ = ["Command", "Family", "KeySpec", "Registry", "keys_after", "keys_at", "keys_counted", "keys_unknown"]


class Command:
    """One row of the table; built by Family, numbered by Registry."""

    __slots__ = (
        "access",
        "access_of",
        "argc_max",
        "argc_min",
        "argc_usual",
        "board_name",
        "categories",
        "complexity",
        "fast",
        "first_key",
        "flags",
        "group",
        "handler",
        "key_places",
        "key_specs",
        "key_step",
        "last_key",
        "lengthy",
        "name",
        "names_keys",
        "since",
        "slot",
        "subcommands",
        "summary",
        "tips",
        "usage",
    )

    def __init__(
        self,
        usage: Usage,
        handler: Handler,
        *,
        summary: str,
        group: str,
        flags: str = "",
        since: str = "",
        complexity: str = "",
        acl: str = "",
        access: Sequence[str] = (),
        access_of: AccessOf | None = None,
        tips: Sequence[str] = (),
        arity: int = 0,
        keys: Sequence[KeySpec] = (),
    ) -> None:
        """`access` has the key flags of COMMAND INFO, `RW access update`, one entry per key spec.

        A single entry for several adjoining keys makes one range of them, as Redis does for LCS key1 key2.
        `access_of` tells it for one request, where it depends on options: Redis marks that as `variable_flags`.
        `arity` is given where the usage line does not tell it: QUIT takes arguments that no manual mentions; and so are
        `keys`, where they stand at no fixed places.
        """
        # What the manual says.
        self.name = "|".join(usage.words).lower()
        self.usage = usage
        self.summary = summary
        self.group = group
        self.since = since
        self.complexity = complexity
        self.tips = tuple(tips)
        self.key_specs = tuple(keys) or _key_ranges(usage.key_ranges(), access)
        has_movable_keys = any(type(spec) is not KeyRange for spec in self.key_specs)
        self.flags = frozenset((*flags.split(), "movablekeys") if has_movable_keys else flags.split())
        self.categories = _categories(self.flags, group, acl)
        # What call() needs.
        self.handler = handler
        self.slot = -1
        arity = arity or usage.arity
        self.argc_min = abs(arity)
        self.argc_max = arity if arity > 0 else ARGUMENTS_MAX
        self.argc_usual = self.argc_min  # with so many words a request needs no closer look; never those of a container
        self.first_key, self.last_key, self.key_step = _oldest_form(self.key_specs)
        self.key_places = _even_places(self.key_specs)
        self.access = tuple(access) or (_default_access(self.flags),) * len(self.key_specs)
        self.access_of = access_of
        # Whether its keys are accessed by it; those of a script are by what the script calls.
        self.names_keys = group != "scripting" and any(access != NOT_KEY for access in self.access)
        self.fast = "fast" in self.flags
        # Whether it can take long, so that the activity board should name it while it runs.
        self.lengthy = not self.fast and complexity != "O(1)"
        self.board_name = command_text(self.name)
        # By lower-case name; None for anything but a container such as CONFIG.
        self.subcommands: dict[bytes, Command] | None = None

    @property
    def runs(self) -> bool:
        """False for a container that only has subcommands, which has no slot either."""
        return self.handler is not _not_runnable

    @property
    def arity(self) -> int:
        return self.argc_min if self.argc_max == self.argc_min else -self.argc_min

    def keys(self, argv: Sequence[bytes]) -> list[bytes]:
        """The keys of a request, in order."""
        return [
            argv[place]
            for spec, access in zip(self.key_specs, self.access, strict=True)
            if access != NOT_KEY
            for place in spec.places(argv)
        ]

    def keys_with_access(self, argv: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """The keys of a request, in order, each with what is done to it: `RW access update`."""
        varying = self.access_of(argv) if self.access_of is not None else ""
        return [
            # What is said of a rule, that it cannot find all keys, is not said of a key.
            (argv[place], varying or access.removesuffix(" incomplete"))
            for spec, access in zip(self.key_specs, self.access, strict=True)
            if access != NOT_KEY
            for place in spec.places(argv)
        ]

    @property
    def has_keys(self) -> bool:
        return any(access != NOT_KEY for access in self.access)

    def has_its_words(self, argv: Sequence[bytes]) -> bool:
        """Whether a request has all the words that the key specs speak of."""
        return all(spec.fits(argv) for spec in self.key_specs)


def _oldest_form(specs: Sequence[KeySpec]) -> tuple[int, int, int]:
    """First, last and step of what keys COMMAND INFO's oldest fields can tell; the last may count from the end.

    As populateCommandLegacyRangeSpec (server.c) has it: ranges, as far as they adjoin.
    """
    first = last = step = 0
    for spec in specs:
        if type(spec) is not KeyRange:
            continue
        if len(specs) == 1:
            return spec.first, spec.last, spec.step
        if last and spec.first != last + 1:
            continue
        first, last, step = first or spec.first, spec.last, 1
    return first, last, step


def _even_places(specs: Sequence[KeySpec]) -> tuple[int, int, int] | None:
    """First, last and step of all keys, where that tells their places; None where there are none, or it does not."""
    ranges = [spec for spec in specs if isinstance(spec, KeyRange)]
    if len(ranges) < len(specs):
        return None
    if len(ranges) == 1:
        return ranges[0].first, ranges[0].last, ranges[0].step
    if len(ranges) == 2 and all(places.first == places.last for places in ranges):
        return ranges[0].first, ranges[1].last, ranges[1].first - ranges[0].first
    return None


def _default_access(flags: frozenset[str]) -> str:
    return "RW update" if "write" in flags else "RO access"


def _key_ranges(ranges: list[KeyRange], access: Sequence[str]) -> tuple[KeyRange, ...]:
    if len(access) == 1 and len(ranges) > 1:
        return (KeyRange(ranges[0].first, ranges[-1].last, 1),)
    assert not access or len(access) == len(ranges), (ranges, access)
    return tuple(ranges)


def _categories(flags: frozenset[str], group: str, acl: str) -> tuple[str, ...]:
    """`acl` has those that do not follow from flags and group, and by `-keyspace` those that do and should not."""
    found = set(acl.split())
    for flag in flags:
        found.update(_IMPLIED.get(flag, ()))
    if group in _GROUP_CATEGORIES and f"-{_GROUP_CATEGORIES[group]}" not in found:
        found.add(_GROUP_CATEGORIES[group])
    if group == "scripting":
        found.discard("read")  # EVAL_RO is readonly, but what it reads is its script's affair
    if "fast" not in found:
        found.add("slow")
    return tuple(category for category in _CATEGORIES if category in found)


class Family:
    """The commands of one file of kora/commands, in the order in which they are declared."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.commands: list[Command] = []

    def __call__(
        self,
        usage: str,
        summary: str,
        *,
        flags: str = "",
        since: str,
        complexity: str = "O(1)",
        acl: str = "",
        access: Sequence[str] | str = (),
        access_of: AccessOf | None = None,
        tips: Sequence[str] = (),
        arity: int = 0,
        keys: Sequence[KeySpec] = (),
    ) -> Callable[[Handler], Handler]:
        """Declare a command; `CONFIG GET …` declares a subcommand of a container() declared before."""

        def declare(handler: Handler) -> Handler:
            line = parse(usage)
            container = self._find(line.words[0].lower())
            if container is None and len(line.words) > 1:
                raise AssertionError(f"{usage!r}: {line.words[0]} is not declared as a container")
            command = Command(
                line,
                handler,
                summary=summary,
                group=self.group,
                flags=flags,
                since=since,
                complexity=complexity,
                acl=acl,
                access=(access,) if isinstance(access, str) else access,
                access_of=access_of,
                tips=tips,
                arity=arity,
                keys=keys,
            )
            if container is not None and container.subcommands is not None:
                container.subcommands[line.words[1].lower().encode()] = command
            else:
                self.commands.append(command)
            return handler

        return declare

    def container(
        self,
        name: str,
        summary: str,
        *,
        since: str,
        help_since: str,
        acl: str = "",
        handler: Handler | None = None,
        flags: str = "",
        complexity: str = "Depends on subcommand.",
        tips: Sequence[str] = (),
        help_notes: Sequence[str] = (),
    ) -> None:
        """Declare a command that has subcommands; HELP is one of them, and writes itself, with the notes behind it.

        With a handler it also runs without a subcommand, as COMMAND does; flags, complexity and tips are for that.
        """
        container = Command(
            Usage((name,), () if handler else parse(f"{name} subcommand [argument ...]").arguments),
            handler or _not_runnable,
            summary=summary,
            group=self.group,
            flags=flags,
            since=since,
            complexity=complexity,
            acl=acl,
            tips=tips,
        )
        if handler is None:
            # Redis gives containers no others: what is allowed is asked of subcommands.
            container.categories = ("slow",)
        else:
            # So that COMMAND INFO says -1: subcommands may follow.
            container.argc_max = ARGUMENTS_MAX
        container.subcommands = {}
        container.argc_usual = -1
        self.commands.append(container)

        @self(f"{name} HELP", "Returns help about the subcommands.", flags="loading stale", since=help_since, acl=acl)
        def show_help(client: "Client", argv: list[bytes]) -> Reply:
            return [*help_lines(container), *map(Simple, help_notes)]

    def _find(self, name: str) -> Command | None:
        return next((command for command in self.commands if command.name == name), None)


def _not_runnable(client: "Client", argv: list[bytes]) -> Reply:
    raise AssertionError("a container has no handler of its own: find() gives a subcommand, or raises")


def help_lines(container: Command) -> list[Simple]:
    assert container.subcommands is not None
    lines = [f"{container.name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    if container.runs:
        lines += ["(no subcommand)", "    " + container.summary]
    for command in sorted(container.subcommands.values(), key=lambda command: command.name):
        _, _, usage = str(command.usage).partition(" ")
        lines += [usage, "    " + command.summary]
    return [Simple(line) for line in lines]


class Registry:
    """All commands.  `table` finds one by its name as it is usually typed, find() however it is typed."""

    def __init__(self, families: Iterable[Family]) -> None:
        self.commands: dict[str, Command] = {}  # top level, containers included, by lower-case name
        self.slots: list[Command] = []  # all that run, subcommands included, each at its slot
        # Names in capitals and in small letters; anything else goes through find().
        self.table: dict[bytes, Command] = {}
        for family in families:
            for command in family.commands:
                assert command.name not in self.commands, f"{command.name} is declared twice"
                self.commands[command.name] = command
                self.table[command.name.encode()] = self.table[command.name.upper().encode()] = command
                for runnable in [command, *(command.subcommands or {}).values()]:
                    if runnable.runs:
                        runnable.slot = len(self.slots)
                        self.slots.append(runnable)

    categories: Final = _CATEGORIES

    def all_commands(self) -> Iterator[Command]:
        """Every command, containers and their subcommands included."""
        for command in self.commands.values():
            yield command
            yield from (command.subcommands or {}).values()

    def named(self, name: bytes) -> Command | None:
        """The command of a full name in any case: `get`, `config`, `config|get`."""
        top, bar, rest = name.lower().partition(b"|")
        command = self.table.get(top)
        if command is None or not bar:
            return command
        return (command.subcommands or {}).get(rest)

    def find(self, argv: Sequence[bytes]) -> Command:
        """The command, or subcommand, of a request.

        Raises CommandError in Redis' words where there is none.
        """
        name = argv[0]
        command = self.table.get(name) or self.table.get(name.lower())
        if command is None:
            raise CommandError(_unknown_text(argv))
        if command.subcommands is None:
            return command
        if len(argv) == 1:
            if command.runs:
                return command
            raise wrong_arity(command.name)
        subcommand = command.subcommands.get(argv[1].lower())
        if subcommand is None:
            raise unknown_subcommand(argv[1].decode("utf-8", "surrogateescape"), command.name)
        return subcommand


def _unknown_text(argv: Sequence[bytes]) -> str:
    """Redis 7.0 cuts the name at 128 bytes and stops quoting arguments once 128 bytes of them are shown."""
    shown = b""
    for argument in argv[1:]:
        if len(shown) >= 128:
            break
        shown += b"'%b' " % argument[: 128 - len(shown)]
    text = b"ERR unknown command '%b', with args beginning with: %b" % (argv[0][:128], shown)
    return text.decode("utf-8", "surrogateescape")
