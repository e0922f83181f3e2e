"""Replies about streams that say times, in a form in which two servers' are equal.

A time is told to the nearest 2000 seconds: the programs only use times that differ by more, or none at all.  What 7.2
tells and 7.0 does not is left out.
"""

from typing import Any

from tests.resp_reader import read_replies

from .words import Step

_NEW = (b"active-time", b"inactive")
_STEP_MS = 2_000_000


def without_times(step: Step, data: bytes, late_ms: int) -> Any:
    (reply,) = read_replies(data)
    words = [word.upper() for word in step]
    if words[0] == b"XPENDING":
        return [[entry_id, name, _blurred(idle), count] for entry_id, name, idle, count in reply]
    if words[1] == b"CONSUMERS":
        return [_consumer(consumer) for consumer in reply]
    info = _fields(reply)
    info[b"groups"] = [_group(group) for group in info[b"groups"]]
    return info


def _fields(pairs: Any) -> dict[bytes, Any]:
    """Of a map, or of the array that stands for one in RESP2."""
    if not isinstance(pairs, dict):
        pairs = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return {name: value for name, value in pairs.items() if name not in _NEW}


def _group(pairs: Any) -> dict[bytes, Any]:
    group = _fields(pairs)
    group[b"pending"] = [[entry_id, name, _blurred(time), count] for entry_id, name, time, count in group[b"pending"]]
    group[b"consumers"] = [_consumer(consumer) for consumer in group[b"consumers"]]
    return group


def _consumer(pairs: Any) -> dict[bytes, Any]:
    consumer = _fields(pairs)
    for name in (b"idle", b"seen-time"):
        if name in consumer:
            consumer[name] = _blurred(consumer[name])
    if isinstance(consumer[b"pending"], list):
        consumer[b"pending"] = [[entry_id, _blurred(time), count] for entry_id, time, count in consumer[b"pending"]]
    return consumer


def _blurred(time_ms: int) -> int:
    return (time_ms + _STEP_MS // 4) // _STEP_MS
