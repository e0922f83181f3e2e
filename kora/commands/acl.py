"""ACL: who the users are, what they may do, and what they were not allowed to."""

import secrets
from typing import Final

from kora.engine.acl import Selector
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, ConfigError, wrong_arity
from kora.resp.reply import OK, Items, Reply
from kora.types.number import parse_integer

acl = Family("server")

acl.container("ACL", "Commands about users and what they may do.", since="6.0.0", help_since="6.0.0")

_OWN: Final = "noscript loading stale"
_ADMIN: Final = "admin noscript loading stale"
_PER_USER: Final = "O(N). Where N is the number of configured users."
_BITS_MAX: Final = 4096
_ENTRIES_SHOWN: Final = 10

_NO_FILE: Final = (
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
    "command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store "
    "users in the Redis configuration."
)


@acl("ACL WHOAMI", "Returns the user of the connection.", flags=_OWN, since="6.0.0")
def acl_whoami(client: Client, argv: list[bytes]) -> Reply:
    return client.user.name


@acl("ACL USERS", "Returns the names of all users.", flags=_ADMIN, since="6.0.0", complexity=_PER_USER)
def acl_users(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.acl.names()


@acl("ACL LIST", "Returns all users with their rules, one a line.", flags=_ADMIN, since="6.0.0", complexity=_PER_USER)
def acl_list(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.acl.lines()


@acl(
    "ACL GETUSER username",
    "Returns the rules of a user.",
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N). Where N is the number of password, command and pattern rules that the user has.",
)
def acl_getuser(client: Client, argv: list[bytes]) -> Reply:
    user = client.engine.acl.users.get(argv[2])
    if user is None:
        return None
    return {
        b"flags": Items(flag.encode() for flag in user.flags),
        b"passwords": list(user.digests),
        **_rules(user.root),
        b"selectors": [_rules(selector) for selector in user.selectors[1:]],
    }


def _rules(selector: Selector) -> dict[bytes, bytes | str]:
    return {
        b"commands": selector.describe_commands(),
        b"keys": selector.describe_keys(),
        b"channels": selector.describe_channels(),
    }


@acl(
    "ACL SETUSER username [rule ...]",
    "Makes or changes a user by rules: all of them or, on an error, none.",
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N). Where N is the number of rules provided.",
)
def acl_setuser(client: Client, argv: list[bytes]) -> Reply:
    name = argv[2]
    if any(char in b" \t\n\v\f\r\0" for char in name):
        raise CommandError("ERR Usernames can't contain spaces or null characters")
    client.engine.acl.set_user(name, argv[3:])
    return OK


@acl(
    "ACL DELUSER username [username ...]",
    "Deletes users, and disconnects their clients.",
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(1) amortized time considering the typical user.",
)
def acl_deluser(client: Client, argv: list[bytes]) -> Reply:
    users = client.engine.acl
    deleted = 0
    for name in argv[2:]:
        if name == users.default.name:
            raise CommandError("ERR The 'default' user cannot be removed")
        deleted += users.delete_user(name)
    return deleted


@acl(
    "ACL CAT [categoryname]",
    "Returns the categories of commands, or the commands of one.",
    flags=_OWN,
    since="6.0.0",
    complexity="O(1) since the categories and commands are a fixed set.",
)
def acl_cat(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise _wrong_subcommand_arity(argv)
    registry = client.engine.registry
    if len(argv) == 2:
        return list(registry.categories)
    category = _text(argv[2]).lower()
    if category not in registry.categories:
        raise CommandError(f"ERR Unknown category '{_text(argv[2])}'")
    return [command.name for command in registry.all_commands() if category in command.categories]


@acl(
    "ACL GENPASS [bits:int]",
    "Returns a new random password, in hexadecimal digits.",
    flags=_OWN,
    since="6.0.0",
)
def acl_genpass(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise _wrong_subcommand_arity(argv)
    bits = parse_integer(argv[2]) if len(argv) == 3 else 256
    if not 0 < bits <= _BITS_MAX:
        raise CommandError(
            "ERR ACL GENPASS argument must be the number of bits for the output password, "
            f"a positive number up to {_BITS_MAX}"
        )
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits]


@acl(
    "ACL LOG [operation=count:int | RESET]",
    "Returns what clients were not allowed to do, newest first, or forgets it.",
    flags=_ADMIN,
    since="6.0.0",
    complexity="O(N) with N being the number of entries shown.",
)
def acl_log(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise _wrong_subcommand_arity(argv)
    log = client.engine.acl.log
    if len(argv) == 3 and argv[2].upper() == b"RESET":
        log.clear()
        return OK
    count = max(0, parse_integer(argv[2])) if len(argv) == 3 else _ENTRIES_SHOWN
    now_ms = client.engine.clock.wall_ms()
    return [
        {
            b"count": entry.count,
            b"reason": entry.reason,
            b"context": entry.context,
            b"object": entry.object,
            b"username": entry.username,
            b"age-seconds": (now_ms - entry.updated_ms) / 1000,
            b"client-info": entry.client_info,
            b"entry-id": entry.id,
            b"timestamp-created": entry.created_ms,
            b"timestamp-last-updated": entry.updated_ms,
        }
        for entry in log.entries[:count]
    ]


@acl(
    "ACL LOAD",
    "Reads all users from the ACL file: all of it or, on an error, nothing.",
    flags=_ADMIN,
    since="6.0.0",
    complexity=_PER_USER,
)
def acl_load(client: Client, argv: list[bytes]) -> Reply:
    if not client.engine.config.aclfile:
        raise CommandError(_NO_FILE)
    try:
        client.engine.acl.load()
    except ConfigError as error:
        raise CommandError(f"ERR {error}") from error
    return OK


@acl("ACL SAVE", "Writes all users to the ACL file.", flags=_ADMIN, since="6.0.0", complexity=_PER_USER)
def acl_save(client: Client, argv: list[bytes]) -> Reply:
    engine = client.engine
    if not engine.config.aclfile:
        raise CommandError(_NO_FILE)
    try:
        engine.acl.save()
    except OSError as error:
        engine.log("error", "acl file not saved", path=engine.config.aclfile, reason=error.strerror or str(error))
        raise CommandError(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information"
        ) from error
    return OK


@acl(
    "ACL DRYRUN username command [arg ...]",
    "Tells whether a user may run a command, without running it.",
    flags=_ADMIN,
    since="7.0.0",
    complexity="O(1).",
)
def acl_dryrun(client: Client, argv: list[bytes]) -> Reply:
    user = client.engine.acl.users.get(argv[2])
    if user is None:
        raise CommandError(f"ERR User '{_text(argv[2])}' not found")
    request = argv[3:]
    registry = client.engine.registry
    # As in Redis, a container without a subcommand is a command like others here.
    command = registry.named(request[0])
    if command is not None and command.subcommands is not None and len(request) > 1:
        command = command.subcommands.get(request[1].lower())
    if command is None:
        raise CommandError(f"ERR Command '{_text(request[0])}' not found")
    if not command.argc_min <= len(request) <= command.argc_max:
        raise wrong_arity(command.name)
    denial = user.denial(command, request)
    return OK if denial is None else denial.explain(user, verbose=True).encode("utf-8", "surrogateescape")


def _wrong_subcommand_arity(argv: list[bytes]) -> CommandError:
    return CommandError(
        f"ERR unknown subcommand or wrong number of arguments for '{_text(argv[1][:128])}'. Try ACL HELP."
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
