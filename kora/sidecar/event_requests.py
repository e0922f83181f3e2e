"""What requests to /track, /read and /keys say: their parameters, checked, or which of them is wrong and why.

Parameters come in the query, in a form, or in a batch: a JSON array, or a line for each event, which is a JSON object
or like a query.  Everything is bytes until it is known to be well-formed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from kora.types.tally import KEY_BYTES_MAX, parse_value

BODY_MAX: Final = 1 << 20
BATCH_MAX: Final = 10_000  # events: some 30 ms of the sidecar
# Clocks of others may be ahead of ours; more than that is a mistake, and would stay in the way of what comes later.
AHEAD_MS_MAX: Final = 60_000
TYPES: Final = ("counter", "points", "rate", "gauge", "stats")
FILLS: Final = ("none", "zero")
PERIOD_S: Final = 60
KEYS_MAX: Final = 1_000_000
_PERIOD_S_MAX: Final = 10 * 366 * 86_400

_NUMBER: Final = re.compile(rb"[0-9]{1,15}")
# As XRANGE takes it, to which the first Kilometric handed them: the sequence makes no difference.
_TIME: Final = re.compile(rb"([0-9]{1,15})(?:-[0-9]{1,20})?")
_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class BadParameter(Exception):
    """The client's mistake: which parameter, what is wrong with it, and in which event of a batch."""

    def __init__(self, parameter: str, text: str, index: int | None = None) -> None:
        super().__init__(text)
        self.parameter = parameter
        self.text = text
        self.index = index

    def to_json(self) -> dict[str, Any]:
        place = {} if self.index is None else {"index": self.index}
        return {"error": f"{self.parameter}: {self.text}", "parameter": self.parameter, **place}


class Event(NamedTuple):
    key: bytes
    units: int  # the value, as kora.types.tally has it
    at_ms: int | None  # None: now


class Question(NamedTuple):
    """Of /read, as the data process answers it."""

    key: bytes
    kind: str
    from_ms: int | None
    to_ms: int | None
    period_s: int
    fill: str


class _Digits(str):
    """A number in JSON, as it was written: no digit is to be lost."""

    __slots__ = ()


def parameters(query: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in query.split(b"&"):
        if not part:
            continue
        name_data, _, value = part.partition(b"=")
        name = _unquoted(name_data, "query").decode("latin-1")
        if name in found:
            raise BadParameter(name, "is given twice")
        found[name] = _unquoted(value, name)
    return found


def event(given: Mapping[str, bytes], now_ms: int, negative: bool) -> Event:
    units = _units(given["value"], negative) if "value" in given else parse_value(b"1")
    return Event(_key(given), units, _event_time(given["at"], now_ms) if "at" in given else None)


def events(body: bytes, now_ms: int, negative: bool) -> list[Event]:
    """What the body of a request has: all of it, or the first mistake."""
    found: list[Event] = []
    for index, given in enumerate(_items(body)):
        if index >= BATCH_MAX:
            raise BadParameter("body", f"has more than {BATCH_MAX} events")
        try:
            found.append(event(_checked(given), now_ms, negative))
        except BadParameter as error:
            error.index = index
            raise
    return found


def question(given: Mapping[str, bytes]) -> Question:
    key = _key(given)
    kind = _choice(given, "type", TYPES)
    from_ms, to_ms = _bound(given, "from", b"-"), _bound(given, "to", b"+")
    if from_ms is not None and to_ms is not None and from_ms > to_ms:
        raise BadParameter("from", "is after `to`")
    text = given.get("period", b"%d" % PERIOD_S)
    if not _NUMBER.fullmatch(text) or not 0 < int(text) <= _PERIOD_S_MAX:
        raise BadParameter("period", f"must be a whole number of seconds from 1 to {_PERIOD_S_MAX}")
    return Question(key, kind, from_ms, to_ms, int(text), _choice(given, "fill", FILLS, "none"))


def listing(given: Mapping[str, bytes]) -> tuple[bytes | None, int]:
    """Of /keys: a pattern, and how many at most."""
    match = given.get("match")
    if match is not None and len(match) > KEY_BYTES_MAX:
        raise BadParameter("match", f"is longer than {KEY_BYTES_MAX} bytes")
    count = given.get("count", b"%d" % KEYS_MAX)
    if not _NUMBER.fullmatch(count) or not 0 < int(count) <= KEYS_MAX:
        raise BadParameter("count", f"must be a whole number from 1 to {KEYS_MAX}")
    return match, int(count)


def _key(given: Mapping[str, bytes]) -> bytes:
    key = given.get("key", b"")
    if not key:
        raise BadParameter("key", "is missing")
    if len(key) > KEY_BYTES_MAX:
        raise BadParameter("key", f"is longer than {KEY_BYTES_MAX} bytes")
    try:
        key.decode()
    except UnicodeDecodeError:
        raise BadParameter("key", "is not UTF-8") from None
    return key


def _units(text: bytes, negative: bool) -> int:
    try:
        units = parse_value(text)
    except ValueError as error:
        raise BadParameter("value", f"is {error}") from None
    if units < 0 and not negative:
        raise BadParameter("value", "is negative, which events-negative does not allow")
    return units


def _event_time(text: bytes, now_ms: int) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadParameter("at", "must be Unix time in milliseconds")
    at_ms = int(text)
    if at_ms > now_ms + AHEAD_MS_MAX:
        raise BadParameter("at", "is in the future")
    return at_ms


def _bound(given: Mapping[str, bytes], name: str, open_end: bytes) -> int | None:
    text = given.get(name, open_end).strip()
    # A + in a query means a blank.
    if text == open_end or (not text and open_end == b"+"):
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadParameter(name, "must be Unix time in milliseconds")
    return int(match[1])


def _choice(given: Mapping[str, bytes], name: str, choices: tuple[str, ...], default: str = "") -> str:
    text = given.get(name, default.encode()).decode("utf-8", "replace").lower()
    if text not in choices:
        raise BadParameter(name, "is missing" if not text else f"must be one of {', '.join(choices)}")
    return text


# --- Bodies ---


def _items(body: bytes) -> Iterator[object]:
    start = body.lstrip()[:1]
    if start == b"[":
        found = _json(body, "body")
        assert isinstance(found, list)
        if not found:
            raise BadParameter("body", "has no events")
        yield from found
        return
    lines = [line for line in body.splitlines() if line.strip()]
    if start == b"{" and len(lines) > 1 and not _is_json(lines[0]):
        yield _json(body, "body")  # one event on several lines
        return
    if not lines:
        raise BadParameter("body", "has no events")
    yield from lines


def _checked(given: object) -> dict[str, bytes]:
    """An event's parameters, from a line or an item of an array."""
    if isinstance(given, bytes):
        line = given.strip()
        if not line.startswith(b"{"):
            return parameters(line)
        given = _json(line, "body")
    if not isinstance(given, dict):
        raise BadParameter("body", "must have an object for each event")
    found: dict[str, bytes] = {}
    for name, value in given.items():
        if name in ("key", "value", "at"):
            if not isinstance(value, str) or (name == "key" and isinstance(value, _Digits)):
                raise BadParameter(name, "must be a string" if name == "key" else "is not a number")
            try:
                found[name] = value.encode()
            except UnicodeEncodeError:
                raise BadParameter(name, "is not UTF-8") from None
    return found


def _is_json(line: bytes) -> bool:
    try:
        _json(line, "body")
    except BadParameter:
        return False
    return True


def _json(data: bytes, name: str) -> object:
    try:
        found: object = json.loads(data, parse_int=_Digits, parse_float=_Digits, parse_constant=_Digits)
    except (ValueError, RecursionError) as error:
        raise BadParameter(name, f"is not JSON: {error}" if isinstance(error, ValueError) else "is not JSON") from None
    return found


def _unquoted(data: bytes, name: str) -> bytes:
    if b"+" in data:
        data = data.replace(b"+", b" ")
    if b"%" not in data:
        return data
    if _BAD_PERCENT.search(data):
        raise BadParameter(name, "has a bad percent-encoding")
    return unquote_to_bytes(data)
