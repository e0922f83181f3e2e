"""Requests without their secrets, for whoever shows requests to others: SLOWLOG, MONITOR, the log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kora.config import lookup

if TYPE_CHECKING:
    from kora.engine.registry import Command

REDACTED: Final = b"(redacted)"
# Settings that Redis holds secret and Kora does not have.
_SECRETS: Final = frozenset((b"masterauth", b"masteruser"))


def redacted(command: "Command", argv: Sequence[bytes]) -> list[bytes]:
    """The words of a request, or the first of them, with `(redacted)` in place of those that Redis takes out."""
    words = list(argv)
    match command.name:
        case "auth":
            words[1:] = [REDACTED] * (len(words) - 1)
        case "acl|setuser":
            words[2:] = [REDACTED] * (len(words) - 2)
        case "hello":
            _redact_after(words, b"AUTH", 2, start=2)
        case "config|set":
            for place in range(2, len(words) - 1, 2):
                if _is_secret(words[place]):
                    words[place + 1] = REDACTED
        case "migrate":
            _redact_after(words, b"AUTH", 1, start=6)
            _redact_after(words, b"AUTH2", 2, start=6)
        case _:
            pass
    return words


def _is_secret(name: bytes) -> bool:
    setting = lookup(name.decode("utf-8", "replace"))
    return setting.secret if setting is not None else name.lower() in _SECRETS


def _redact_after(words: list[bytes], option: bytes, count: int, start: int) -> None:
    for place in range(start, len(words)):
        if words[place].upper() == option:
            shown = words[place + 1 : place + 1 + count]
            words[place + 1 : place + 1 + count] = [REDACTED] * len(shown)
