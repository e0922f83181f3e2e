"""TRACK: count events and values by name, and read them back as series; kora/engine/tracked.py does it.

What is named is a metric, not a key: its values are in the streams of kora/engine/series.py.  So it is those that ACL
patterns are held against, `kilometric.<metric>`, and clients that keep copies are not told of metrics.
"""

from typing import Final

from kora.engine.acl import READ, WRITE
from kora.engine.client import Client
from kora.engine.registry import Family
from kora.engine.series import PERIOD_S, PREFIX
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import OK, Reply
from kora.types.number import parse_integer
from kora.types.tally import UNIT, parse_value

tracked = Family("stream")

_TIPS: Final = ("nondeterministic_output",)


class NotAValue(CommandError):
    message = "ERR value is not a number or out of range"


def _refuse_denied(client: Client, argv: list[bytes], needed: int) -> None:
    denial = client.engine.acl.denial_of_key(client, argv, PREFIX + argv[1], needed)
    if denial is not None:
        raise denial


@tracked(
    "TRACK metric [value:double] [AT unix-time-milliseconds:time]",
    "Counts an event, or a value, of a metric; it is written to a stream when the interval is over.",
    flags="write denyoom fast",
    since="7.2.0",
    complexity="O(1)",
)
def track(client: Client, argv: list[bytes]) -> Reply:
    words = argv[2:]
    units = UNIT
    at_ms: int | None = None
    if len(words) % 2:
        try:
            units = parse_value(words.pop(0))
        except ValueError:
            raise NotAValue from None
    if words:
        if len(words) > 2 or words[0].upper() != b"AT":
            raise SyntaxFault
        at_ms = parse_integer(words[1])
    _refuse_denied(client, argv, WRITE)
    client.engine.tracked.track(argv[1], units, at_ms)
    return OK


@tracked(
    "TRACK.READ metric <type=COUNTER | POINTS | RATE | GAUGE | STATS> [FROM start] [TO end] [PERIOD seconds:int] "
    "[FILL <fill=NONE | ZERO>]",
    "Returns what was tracked of a metric: a sum, or a value for each period.",
    flags="readonly",
    since="7.2.0",
    complexity="O(N) where N is the number of intervals in that time.",
    tips=_TIPS,
)
def read(client: Client, argv: list[bytes]) -> Reply:
    options = {b"FROM": b"-", b"TO": b"+", b"PERIOD": b"%d" % PERIOD_S, b"FILL": b"none"}
    if len(argv) % 2 == 0:
        raise SyntaxFault
    for name, value in zip(argv[3::2], argv[4::2], strict=True):
        if name.upper() not in options:
            raise SyntaxFault
        options[name.upper()] = value
    _refuse_denied(client, argv, READ)
    answer = client.engine.tracked.read(
        argv[1],
        argv[2].decode("utf-8", "replace").lower(),
        _time(options[b"FROM"]),
        _time(options[b"TO"]),
        parse_integer(options[b"PERIOD"]),
        options[b"FILL"].decode("utf-8", "replace").lower(),
    )
    return [{name.encode(): _number(value) for name, value in row.items()} for row in answer["values"]]


@tracked(
    "TRACK.KEYS [MATCH pattern:pattern]",
    "Returns the names of all metrics, in order.",
    flags="readonly",
    since="7.2.0",
    complexity="O(N) where N is the number of metrics.",
)
def keys(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) not in (1, 3) or (len(argv) == 3 and argv[1].upper() != b"MATCH"):
        raise SyntaxFault
    return list(client.engine.tracked.keys(argv[2] if len(argv) == 3 else None))


def _time(text: bytes) -> int | None:
    """Unix ms, possibly with the number of a stream id behind it; None for `-` and `+`, the ends of what there is."""
    return None if text in (b"-", b"+") else parse_integer(text.partition(b"-")[0] or text)


def _number(value: int | float) -> Reply:
    return value if isinstance(value, int) and abs(value) < 1 << 63 else str(value).encode()
