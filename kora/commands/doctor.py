"""DOCTOR: what is wrong right now, who does it, and the command that helps; as text, and as JSON for programs."""

import json
from typing import Final

from kora.engine.client import Client
from kora.engine.doctor import gather
from kora.engine.registry import Family
from kora.errors import CommandError, SyntaxFault
from kora.observe.doctor import LAST_S, to_json, to_text
from kora.observe.doctor_rules import examine, help_lines
from kora.observe.recent import SECONDS_MAX
from kora.resp.reply import Reply, Verbatim
from kora.types.number import parse_integer

doctor = Family("server")

# An operator wants to know while a script keeps everybody else out as well.
_FLAGS: Final = "admin noscript loading stale allow_busy"
_COMPLEXITY: Final = "O(N) where N is the number of clients."
_TIPS: Final = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")


def _text(client: Client, argv: list[bytes]) -> Reply:
    facts = gather(client.engine, _seconds(argv[2:]))
    return Verbatim(to_text(facts, examine(facts)))


doctor.container(
    "DOCTOR",
    "Reports what is wrong, as of the last ten seconds: who does it, the numbers, why it hurts, and what to do.",
    since="7.2.0",
    help_since="7.2.0",
    handler=_text,
    flags=_FLAGS,
    complexity=_COMPLEXITY,
    tips=_TIPS,
    help_notes=("What is found, and from where on:", *help_lines()),
)

doctor(
    "DOCTOR TEXT [LAST seconds:int]",
    "Reports what is wrong, as DOCTOR does, as of the last seconds, of which there are 60.",
    flags=_FLAGS,
    since="7.2.0",
    complexity=_COMPLEXITY,
    tips=_TIPS,
)(_text)


@doctor(
    "DOCTOR JSON [LAST seconds:int]",
    "Reports what is wrong, as DOCTOR does, for programs.",
    flags=_FLAGS,
    since="7.2.0",
    complexity=_COMPLEXITY,
    tips=_TIPS,
)
def report(client: Client, argv: list[bytes]) -> Reply:
    facts = gather(client.engine, _seconds(argv[2:]))
    return json.dumps(to_json(facts, examine(facts)), indent=1).encode()


def _seconds(words: list[bytes]) -> int:
    if not words:
        return LAST_S
    if len(words) != 2 or words[0].upper() != b"LAST":
        raise SyntaxFault
    seconds = parse_integer(words[1])
    if not 1 <= seconds <= SECONDS_MAX:
        raise CommandError(f"ERR seconds must be between 1 and {SECONDS_MAX}")
    return seconds
