"""AUDIT: how the audit log is, its last records, and whether all is as it was written.  The sidecar looks."""

from collections.abc import Callable
from typing import Any, Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError
from kora.resp.reply import Reply
from kora.types.number import parse_integer

audit = Family("server")

# Who asks waits for the sidecar, which neither a transaction nor a script can do.
_FLAGS: Final = "admin noscript loading stale no_multi"
_TIPS: Final = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")
_TAIL_MAX: Final = 10_000
# What can be said without the sidecar is said after so long.
_STATUS_S: Final = 2.0

audit.container("AUDIT", "Commands about the audit log: who did what.", since="7.2.0", help_since="7.2.0")


@audit("AUDIT STATUS", "Returns where the audit log is, and how.", flags=_FLAGS, since="7.2.0", tips=_TIPS)
def audit_status(client: Client, argv: list[bytes]) -> Reply:
    engine = client.engine
    config = engine.config
    values: dict[Any, Reply] = {
        b"enabled": int(engine.audit.slots is not None),
        b"categories": list(config.audit_categories),
        b"on_full": config.audit_on_full,
        b"fsync": config.audit_fsync,
        b"clients_wait": int(engine.audit.is_holding),
    }
    if engine.audit.ring is None:
        return values
    silent = {**values, b"fault": "the sidecar does not answer"}
    return _ask(client, argv, ["status", 0], silent, lambda answer: {**values, **_encoded(answer)}, _STATUS_S)


@audit(
    "AUDIT TAIL [count:int]",
    "Returns the last records of the audit log, the oldest first, as they stand in the file.",
    flags=_FLAGS,
    since="7.2.0",
    complexity="O(N) where N is the number of records returned",
    tips=_TIPS,
)
def audit_tail(client: Client, argv: list[bytes]) -> Reply:
    count = parse_integer(argv[2]) if len(argv) > 2 else 10
    if len(argv) > 3 or not 0 <= count <= _TAIL_MAX:
        raise CommandError(f"ERR count must be between 0 and {_TAIL_MAX}")
    return _ask(client, argv, ["tail", count], _NO_ANSWER, list)


@audit(
    "AUDIT VERIFY",
    "Reads all of the audit log, and tells the first record that is not as it was written, if there is one.",
    flags=_FLAGS,
    since="7.2.0",
    complexity="O(N) where N is the number of records",
    tips=_TIPS,
)
def audit_verify(client: Client, argv: list[bytes]) -> Reply:
    return _ask(client, argv, ["verify", 0], _NO_ANSWER, _encoded)


_NO_ANSWER: Final = CommandError("ERR the sidecar, which has the audit log, does not answer")


def _ask(
    client: Client,
    argv: list[bytes],
    request: list[Any],
    silent: Reply,
    make_reply: Callable[[Any], Reply],
    timeout_s: float = 0.0,
) -> Reply:
    """Have the client wait until the sidecar has answered."""
    engine = client.engine
    if engine.audit.ring is None:
        raise CommandError("ERR there is no audit log: audit-file names none")
    reply = client.wait((), timeout_s, silent, argv)
    wait = client.waiting

    def answered(answer: Any) -> None:
        if wait is not None and client.waiting is wait:
            engine.blocking.end(wait, client.encode(_reply_of(answer, silent, make_reply)))

    if wait is not None:
        engine.audit.ask(request, answered)
    return reply


def _reply_of(answer: Any, silent: Reply, make_reply: Callable[[Any], Reply]) -> Reply:
    if answer is None:
        return silent
    if isinstance(answer, dict) and "error" in answer:
        return CommandError(f"ERR {answer['error']}")
    return make_reply(answer)


def _encoded(values: dict[str, Any]) -> dict[Any, Reply]:
    return {name.encode(): int(value) if isinstance(value, bool) else value for name, value in values.items()}
