"""Users, and what each of them may do: the rules of ACL SETUSER.

    user     password digests, whether it may log in, and selectors: one of them has to allow the whole of a request
    selector which commands, which keys (for reading, for writing), which channels

A rule changes a copy of the user, which takes the user's place once all rules are known to be right.  A client whose
user may do everything is never asked: see Client.update_gate().
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from kora.config import replace_file
from kora.engine.acl_log import AccessLog
from kora.errors import CommandError, ConfigError, WrongPassword
from kora.glob import matcher

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.registry import Command, Registry

DEFAULT_USER: Final = b"default"

# What a rule can be refused for, in Redis' words (ACLSetUserStringError, acl.c).
_SYNTAX: Final = "Syntax error"
_UNKNOWN: Final = "Unknown command or category name in ACL"
_KEYS_ARE_ALL: Final = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
    "Try 'resetkeys' to start with an empty list of patterns"
)
_CHANNELS_ARE_ALL: Final = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. "
    "Try 'resetchannels' to start with an empty list of channels"
)
_NO_SUCH_PASSWORD: Final = "The password you are trying to remove from the user does not exist"
_BAD_DIGEST: Final = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
_FIRST_ARGUMENT_OF_SUBCOMMAND: Final = "Allowing first-arg of a subcommand is not supported"
_DUPLICATE_USER: Final = "Duplicate user found. A user can only be defined once in config files"

_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
_BLANK: Final = re.compile(rb"[\s\0]")
_ACCESS: Final = re.compile(rb"%([RWrw]*)(~?)(.*)", re.DOTALL)
# What a command does to a key, in the words of key specs, and the permission that it takes.
_WRITES: Final = frozenset(("insert", "delete", "update"))

# Where channels stand in a request: the first, whether more follow, and whether they are patterns.  Leaving a channel
# takes no permission.
_CHANNELS: Final = {
    "subscribe": (1, True, False),
    "ssubscribe": (1, True, False),
    "psubscribe": (1, True, True),
    "publish": (1, False, False),
    "spublish": (1, False, False),
}

READ: Final = 1
WRITE: Final = 2


class RuleError(Exception):
    """A rule that cannot be followed; its text says why."""

    def __init__(self, reason: str, rule: bytes = b"") -> None:
        super().__init__(reason)
        self.rule = rule


@dataclass(frozen=True)
class Denial:
    """Why a request is not allowed; `weight` and `place` decide which of several selectors' reasons is told."""

    reason: str  # command, key, channel: as ACL LOG has it
    weight: int
    place: int
    object: bytes

    def explain(self, user: "User", verbose: bool) -> str:
        """For the client, who is not told which key; or for an operator who asks with ACL DRYRUN."""
        name = _text(user.name)
        if self.reason == "command":
            return f"User {name} has no permissions to run the '{_text(self.object)}' command"
        if not verbose:
            return f"No permissions to access a {self.reason}"
        return f"User {name} has no permissions to access the '{_text(self.object)}' {self.reason}"


@dataclass
class Selector:
    is_root: bool = False
    # Commands by full name, where they differ from `runs_all`; the rules say the same in the order in which they came.
    runs_all: bool = False
    commands: dict[str, bool] = field(default_factory=dict)
    first_arguments: dict[str, list[bytes]] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)
    # Patterns of keys with their permissions, and of channels.
    all_keys: bool = False
    keys: dict[bytes, int] = field(default_factory=dict)
    all_channels: bool = False
    channels: dict[bytes, None] = field(default_factory=dict)

    def copy(self) -> "Selector":
        return Selector(
            self.is_root,
            self.runs_all,
            dict(self.commands),
            {name: list(words) for name, words in self.first_arguments.items()},
            list(self.rules),
            self.all_keys,
            dict(self.keys),
            self.all_channels,
            dict(self.channels),
        )

    # Looking

    def denial(self, command: "Command", argv: Sequence[bytes]) -> Denial | None:
        if not self.may_run(command, argv):
            return Denial("command", 1, 0, command.name.encode())
        if not self.all_keys:
            for place, (key, access) in enumerate(command.keys_with_access(argv)):
                if not self.may_access(key, _needed(access)):
                    return Denial("key", 2, place, key)
        if not self.all_channels:
            for place, (channel, is_pattern) in enumerate(channels_of(command, argv)):
                if not self.may_hear(channel, is_pattern):
                    return Denial("channel", 3, place, channel)
        return None

    def may_run(self, command: "Command", argv: Sequence[bytes]) -> bool:
        name = command.name
        if self.commands.get(name, self.runs_all) or "no_auth" in command.flags:
            return True
        allowed = self.first_arguments.get(name)
        return allowed is not None and len(argv) > 1 and argv[1].lower() in allowed

    def may_read_any(self, command: "Command", argv: Sequence[bytes]) -> bool:
        """Whether the request may read whatever keys it finds the names of: SORT's patterns."""
        return self.may_run(command, argv) and (self.all_keys or self.keys.get(b"*", 0) & READ != 0)

    def may_access(self, key: bytes, needed: int) -> bool:
        """Whether one pattern gives all that is needed; several do not add up, as in Redis."""
        return any(given & needed == needed and _matches(pattern, key) for pattern, given in self.keys.items())

    def may_hear(self, channel: bytes, is_pattern: bool) -> bool:
        """A pattern of channels has to be one of those that were given, to the letter."""
        if self.all_channels:
            return True
        if is_pattern:
            return channel in self.channels
        return any(_matches(pattern, channel) for pattern in self.channels)

    # Describing

    def describe_commands(self) -> str:
        return " ".join(("+@all" if self.runs_all else "-@all", *self.rules))

    def describe_keys(self) -> bytes:
        if self.all_keys:
            return b"~*"
        return b" ".join(_PREFIXES[access] + pattern for pattern, access in self.keys.items())

    def describe_channels(self) -> bytes:
        return b"&*" if self.all_channels else b" ".join(b"&" + pattern for pattern in self.channels)

    def describe(self) -> bytes:
        channels = self.describe_channels() if self.all_channels else b"resetchannels " + self.describe_channels()
        words = (self.describe_keys(), channels.rstrip(), self.describe_commands().encode("utf-8", "surrogateescape"))
        return b" ".join(word for word in words if word)

    # Changing

    def apply(self, rule: bytes, registry: "Registry") -> None:
        """Raises RuleError."""
        word = rule.lower()
        if word in (b"allkeys", b"~*"):
            self.all_keys = True
            self.keys.clear()
        elif word == b"resetkeys":
            self.all_keys = False
            self.keys.clear()
        elif word in (b"allchannels", b"&*"):
            self.all_channels = True
            self.channels.clear()
        elif word == b"resetchannels":
            self.all_channels = False
            self.channels.clear()
        elif word in (b"allcommands", b"+@all"):
            self._run_all(True)
        elif word in (b"nocommands", b"-@all"):
            self._run_all(False)
        elif rule[:1] in (b"~", b"%"):
            self._add_keys(rule)
        elif rule[:1] == b"&":
            self._add_channels(rule[1:])
        elif rule[:2] in (b"+@", b"-@"):
            self._set_category(word[2:], word[:1] == b"+", registry)
        elif rule[:1] in (b"+", b"-"):
            self._set_command(word[1:], word[:1] == b"+", registry)
        else:
            raise RuleError(_SYNTAX)

    def _run_all(self, allowed: bool) -> None:
        self.runs_all = allowed
        self.commands.clear()
        self.first_arguments.clear()
        self.rules.clear()

    def _add_keys(self, rule: bytes) -> None:
        if self.all_keys:
            raise RuleError(_KEYS_ARE_ALL)
        access, pattern = READ | WRITE, rule[1:]
        if rule[:1] == b"%":
            match = _ACCESS.fullmatch(rule)
            letters = match[1].upper() if match else b""
            # `%R` with nothing behind it is a pattern that only the empty key matches; so it is in Redis.
            if match is None or not letters or len(set(letters)) < len(letters) or (match[3] and not match[2]):
                raise RuleError(_SYNTAX)
            access, pattern = sum(READ if letter == 0x52 else WRITE for letter in letters), match[3]
        if _BLANK.search(pattern):
            raise RuleError(_SYNTAX)
        self.keys[pattern] = self.keys.get(pattern, 0) | access

    def _add_channels(self, pattern: bytes) -> None:
        if self.all_channels:
            raise RuleError(_CHANNELS_ARE_ALL)
        if _BLANK.search(pattern):
            raise RuleError(_SYNTAX)
        self.channels[pattern] = None

    def _set_category(self, name: bytes, allowed: bool, registry: "Registry") -> None:
        category = _text(name)
        if category not in registry.categories:
            raise RuleError(_UNKNOWN)
        for command in registry.all_commands():
            if category in command.categories:
                self._set(command, allowed)
        self._note(("+@" if allowed else "-@") + category)

    def _set_command(self, name: bytes, allowed: bool, registry: "Registry") -> None:
        command = registry.named(name)
        if command is not None:
            self._set(command, allowed)
        else:
            # The old way to allow what later became subcommands: `+select|0`.
            container, bar, argument = name.partition(b"|")
            command = registry.named(container)
            if command is None or not allowed or not bar or command.subcommands is not None:
                if command is not None and allowed and command.subcommands is not None and b"|" in argument:
                    raise RuleError(_FIRST_ARGUMENT_OF_SUBCOMMAND)
                raise RuleError(_UNKNOWN)
            if not argument or _BLANK.search(argument):
                raise RuleError(_SYNTAX)
            allowed_words = self.first_arguments.setdefault(command.name, [])
            if argument not in allowed_words:
                allowed_words.append(argument)
        self._note(("+" if allowed else "-") + _text(name))

    def _set(self, command: "Command", allowed: bool) -> None:
        """A command, and all subcommands that it has."""
        for one in (command, *(command.subcommands or {}).values()):
            self.first_arguments.pop(one.name, None)
            if allowed == self.runs_all:
                self.commands.pop(one.name, None)
            else:
                self.commands[one.name] = allowed

    def _note(self, rule: str) -> None:
        """Remember a rule in place of those that it makes void: those of the same name, and of its subcommands."""
        name = rule[1:]
        self.rules = [one for one in self.rules if one[1:] != name and not one[1:].startswith(name + "|")]
        self.rules.append(rule)


_PREFIXES: Final = {READ: b"%R~", WRITE: b"%W~", READ | WRITE: b"~"}


@lru_cache(maxsize=64)
def _needed(access: str) -> int:
    """The permissions for what is done to a key: `RW access update` takes both."""
    words = access.split()
    return (READ if "access" in words else 0) | (WRITE if not _WRITES.isdisjoint(words) else 0)


def _matches(pattern: bytes, name: bytes) -> object:
    """As in Redis, not even a `*` matches the empty name (stringmatchlen, util.c); only `allkeys` does."""
    return matcher(pattern)(name) if name else not pattern


def channels_of(command: "Command", argv: Sequence[bytes]) -> list[tuple[bytes, bool]]:
    """The channels that a request is about, each with whether it is a pattern."""
    place = _CHANNELS.get(command.name)
    if place is None:
        return []
    first, has_more, is_pattern = place
    return [(channel, is_pattern) for channel in (argv[first:] if has_more else argv[first : first + 1])]


class User:
    def __init__(self, name: bytes, all_channels: bool) -> None:
        """A new one: it is off and may do nothing, but perhaps listen to all channels (acl-pubsub-default)."""
        self.name = name
        self.enabled = False
        self.needs_no_password = False
        self.sanitizes_payload = True
        self.digests: dict[bytes, None] = {}  # of the passwords: SHA-256, in hexadecimal digits
        self.selectors = [Selector(is_root=True, all_channels=all_channels)]

    def take(self, other: "User") -> None:
        """Become like another, but for the name."""
        self.enabled = other.enabled
        self.needs_no_password = other.needs_no_password
        self.sanitizes_payload = other.sanitizes_payload
        self.digests = dict(other.digests)
        self.selectors = [selector.copy() for selector in other.selectors]

    @property
    def root(self) -> Selector:
        return self.selectors[0]

    @property
    def may_do_all(self) -> bool:
        # Asked before each request of a client that may not: a generator would take three times as long.
        for selector in self.selectors:
            if selector.runs_all and selector.all_keys and selector.all_channels and not selector.commands:
                return True
        return False

    @property
    def is_open(self) -> bool:
        """Whether anybody is let in as this user without asking."""
        return self.enabled and self.needs_no_password

    def accepts(self, password: bytes) -> bool:
        if not self.enabled:
            return False
        if self.needs_no_password:
            return True
        digest = _digest(password)
        right = False
        for one in self.digests:
            # All of them, so that the time tells nothing.
            right |= compare_digest(one, digest)
        return right

    def denial(self, command: "Command", argv: Sequence[bytes]) -> Denial | None:
        """None if one selector allows the request; else the denial of the selector that came closest."""
        closest: Denial | None = None
        for selector in self.selectors:
            denial = selector.denial(command, argv)
            if denial is None:
                return None
            if closest is None or (denial.weight, denial.place) > (closest.weight, closest.place):
                closest = denial
        return closest

    def may_read_any(self, command: "Command", argv: Sequence[bytes]) -> bool:
        return any(selector.may_read_any(command, argv) for selector in self.selectors)

    def may_access(self, command: "Command", argv: Sequence[bytes], key: bytes, needed: int) -> bool:
        """Whether the request may do with a key what is needed, which is not among its words."""
        return any(
            selector.may_run(command, argv) and (selector.all_keys or selector.may_access(key, needed))
            for selector in self.selectors
        )

    def may_hear(self, channel: bytes, is_pattern: bool) -> bool:
        return any(selector.may_hear(channel, is_pattern) for selector in self.selectors)

    @property
    def flags(self) -> list[str]:
        flags = ["on" if self.enabled else "off"]
        if self.needs_no_password:
            flags.append("nopass")
        flags.append("sanitize-payload" if self.sanitizes_payload else "skip-sanitize-payload")
        return flags

    def describe(self) -> bytes:
        """The rules that would make this user, as ACL LIST and the ACL file have them."""
        words = [flag.encode() for flag in self.flags]
        words += (b"#" + digest for digest in self.digests)
        words.append(self.root.describe())
        words += (b"(" + selector.describe() + b")" for selector in self.selectors[1:])
        return b" ".join(words)

    def apply(self, rule: bytes, registry: "Registry", all_channels: bool) -> None:
        """Raises RuleError; then the user is of no use, and the caller has the one before it."""
        word = rule.lower()
        sign = rule[:1]
        if not rule:
            return
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word == b"nopass":
            self.needs_no_password = True
            self.digests.clear()
        elif word == b"resetpass":
            self.needs_no_password = False
            self.digests.clear()
        elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitizes_payload = word == b"sanitize-payload"
        elif sign in (b">", b"#"):
            self.digests[_digest(rule[1:]) if sign == b">" else _checked_digest(rule[1:])] = None
            self.needs_no_password = False
        elif sign in (b"<", b"!"):
            digest = _digest(rule[1:]) if sign == b"<" else _checked_digest(rule[1:])
            if digest not in self.digests:
                raise RuleError(_NO_SUCH_PASSWORD)
            del self.digests[digest]
        elif sign == b"(" and rule.endswith(b")"):
            selector = Selector(all_channels=all_channels)
            for one in rule[1:-1].split():
                selector.apply(one, registry)
            self.selectors.append(selector)
        elif word == b"clearselectors":
            del self.selectors[1:]
        elif word == b"reset":
            self.take(User(self.name, all_channels))
        else:
            self.root.apply(rule, registry)


def _digest(password: bytes) -> bytes:
    return sha256(password).hexdigest().encode()


def _checked_digest(digest: bytes) -> bytes:
    if not _DIGEST.fullmatch(digest):
        raise RuleError(_BAD_DIGEST)
    return digest


def merge_parentheses(words: Iterable[bytes]) -> list[bytes]:
    """Put the words of a selector together: `(+get ~a)` may come as two arguments.

    Raises CommandError where a parenthesis stays open.
    """
    rules: list[bytes] = []
    opened: list[bytes] = []
    for word in words:
        if opened or (word[:1] == b"(" and not word.endswith(b")")):
            opened.append(word)
            if word.endswith(b")"):
                rules.append(b" ".join(opened))
                opened = []
        else:
            rules.append(word)
    if opened:
        raise CommandError(f"ERR Unmatched parenthesis in acl selector starting at '{_text(opened[0])}'.")
    return rules


class Acl:
    """All users, and who they are among the clients."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._registry = engine.registry
        self.users: dict[bytes, User] = {}
        self.default = self._make_default(engine.config.requirepass)
        self.users[DEFAULT_USER] = self.default
        self.log = AccessLog(engine)

    def names(self) -> list[bytes]:
        return sorted(self.users)

    def lines(self) -> list[bytes]:
        """A line for each user, as ACL LIST and the ACL file have it."""
        return [b"user %b %b" % (name, self.users[name].describe()) for name in self.names()]

    # Logging in

    def log_in(self, client: "Client", name: bytes, password: bytes) -> None:
        """Raises WrongPassword, and leaves the client as it was."""
        user = self.users.get(name)
        if user is None or not user.accepts(password):
            word = client.command.usage.words[0].encode() if client.command is not None else b"AUTH"
            self.log.add(client, "auth", word, name)
            raise WrongPassword
        client.user = user
        client.set_authenticated(True)

    def log_out(self, client: "Client") -> None:
        """As a client is that has just connected: the default user, who is let in or not."""
        client.user = self.default
        client.set_authenticated(self.default.is_open)

    # Allowing

    def denial(self, client: "Client", command: "Command", argv: list[bytes]) -> CommandError | None:
        """Why a client may not do what it asks, which is then in the log; None if it may."""
        user = client.user
        denial = user.denial(command, argv)
        if denial is None:
            return None
        self.log.add(client, denial.reason, denial.object, user.name)
        why = denial.explain(user, verbose=False)
        if self._engine.in_script:
            return CommandError(f"NOPERM ACL failure in script: {why}")
        if self._engine.nested:
            return CommandError(
                "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
                f"This command is no longer allowed for the following reason: {_MEANWHILE[denial.reason]}"
            )
        return CommandError(f"NOPERM {why}")

    def denial_of_key(self, client: "Client", argv: list[bytes], key: bytes, needed: int) -> CommandError | None:
        """As denial(), for a key that a command uses without naming it: for its handler."""
        engine = self._engine
        scripting = engine.scripting
        user = scripting.caller.user if client.is_script and scripting is not None else client.user
        if user.may_do_all or user.may_access(engine.registry.find(argv), argv, key, needed):
            return None
        self.log.add(client, "key", key, user.name)
        where = "ACL failure in script: " if engine.in_script else ""
        return CommandError(f"NOPERM {where}No permissions to access a key")

    def make_almighty(self) -> User:
        """Somebody who is not among the users, and may do everything: for what the server does itself."""
        return self._make_default("")

    # Changing

    def set_user(self, name: bytes, words: Iterable[bytes]) -> None:
        """Raises CommandError, and then nobody is changed."""
        former = self.users.get(name)
        try:
            changed = self._changed(former, name, merge_parentheses(words))
        except RuleError as error:
            raise CommandError(f"ERR Error in ACL SETUSER modifier '{_text(error.rule)}': {error}") from error
        user = self.users.setdefault(name, changed)
        if user is not changed:
            user.take(changed)
        self._follow(user)

    def delete_user(self, name: bytes) -> bool:
        """Whether there was one; its clients are disconnected."""
        user = self.users.pop(name, None)
        if user is None:
            return False
        for client in self._clients_of(user):
            self._engine.kill(client)
        return True

    def set_default_password(self, password: str) -> None:
        """CONFIG SET requirepass."""
        user = self.default
        user.digests.clear()
        user.needs_no_password = not password
        if password:
            user.digests[_digest(password.encode("utf-8", "surrogateescape"))] = None
        self._follow(user)

    # The file

    def save(self) -> None:
        """Write all users to the ACL file: after a crash there is the old one or the new one, whole.

        Raises OSError.  Blocks on the disk, as CONFIG REWRITE does.
        """
        replace_file(self._engine.config.aclfile, b"".join(line + b"\n" for line in self.lines()))

    def load(self) -> None:
        """Take all users from the ACL file, or none of them: raises ConfigError.

        Clients of users that are no more are disconnected.  A default user that the file does not mention is let be.
        """
        path = self._engine.config.aclfile
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise ConfigError(f"Error loading ACLs, opening file '{path}': {error.strerror or error}") from error
        loaded: dict[bytes, User] = {}
        mistakes = [
            f"{path}:{number}: {mistake}. "
            for number, line in enumerate(data.split(b"\n"), 1)
            if (mistake := self._load_line(line, loaded))
        ]
        if mistakes:
            raise ConfigError(
                "".join(mistakes)
                + "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
            )
        loaded.setdefault(DEFAULT_USER, self.default)
        for name in [name for name in self.users if name not in loaded]:
            self.delete_user(name)
        for name, user in loaded.items():
            former = self.users.setdefault(name, user)
            if former is not user:
                former.take(user)
            self._follow(former)

    def _load_line(self, line: bytes, loaded: dict[bytes, User]) -> str:
        """Make the user of a line; returns what is wrong with it, if anything is."""
        words = line.split()
        if not words:
            return ""
        if words[0].lower() != b"user" or len(words) < 2:
            return "should start with user keyword and be followed by the username"
        name = words[1]
        if name in loaded:
            return _DUPLICATE_USER
        try:
            loaded[name] = self._changed(None, name, merge_parentheses(words[2:]))
        except RuleError as error:
            return str(error)
        except CommandError as error:
            return error.message
        return ""

    # Inside

    def _changed(self, user: User | None, name: bytes, rules: Iterable[bytes]) -> User:
        """A user like that one, or a new one, after some rules.  Raises RuleError for the first that is wrong."""
        all_channels = self._engine.config.acl_pubsub_default == "allchannels"
        changed = User(name, all_channels)
        if user is not None:
            changed.take(user)
        rule = b""
        try:
            for rule in rules:
                changed.apply(rule, self._registry, all_channels)
        except RuleError as error:
            raise RuleError(str(error), rule) from error
        return changed

    def _follow(self, user: User) -> None:
        """A user was changed: its clients are looked at more closely or less, and hear no more than they may."""
        for client in self._clients_of(user):
            if any(not user.may_hear(name, is_pattern) for name, is_pattern in _heard(client)):
                self._engine.kill(client)
            else:
                client.update_gate()
        if user is self.default and user.is_open:
            # Whoever was asked for a password is asked no more.
            for client in self._clients_of(user):
                if not client.authenticated:
                    client.set_authenticated(True)

    def _clients_of(self, user: User) -> list["Client"]:
        return [client for client in self._engine.clients.values() if client.user is user]

    def _make_default(self, password: str) -> User:
        user = User(DEFAULT_USER, all_channels=True)
        for rule in (b"on", b"nopass", b"+@all", b"~*"):
            user.apply(rule, self._registry, all_channels=True)
        if password:
            user.apply(b">" + password.encode("utf-8", "surrogateescape"), self._registry, all_channels=True)
        return user


# Why EXEC does not run what was queued when it was still allowed.
_MEANWHILE: Final = {
    "command": "no permission to execute the command or subcommand",
    "key": "no permission to touch the specified keys",
    "channel": "no permission to access one of the channels used as arguments",
}


def _heard(client: "Client") -> Iterator[tuple[bytes, bool]]:
    """What a client listens to, each name with whether it is a pattern."""
    yield from ((name, False) for name in (*client.channels, *client.shard_channels))
    yield from ((name, True) for name in client.patterns)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
