"""What a trace is made of: W3C trace context, and spans as plain tuples, which cross to the sidecar as they are.

A span is a tuple: marshal takes it, and making one costs a sixth of what an object with names does.  Times are Unix
time in ns.  The kernel writes its spans down as structs (struct traced, kernel.h), which unpack() makes the same of.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

# W3C Trace Context, Level 1, section 3.2: version, trace id, the caller's span id, flags.
_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(.*)", re.DOTALL)
TRACEPARENT_BYTES: Final = 55
_TRACEPARENT_BYTES_MAX: Final = 512  # of a later version, which may be longer
_SAMPLED: Final = 1

SERVER: Final = "kora.request"
# What a span was kept for.
SAMPLED, PARENT, ERROR, SLOW = REASONS = ("sampled", "parent", "error", "slow")

Plain: TypeAlias = "tuple[Any, ...]"  # a Span, without its names


class Context(NamedTuple):
    """What a client says of the trace that its requests belong to."""

    trace_id: int
    span_id: int  # the caller's
    is_sampled: bool


class Span(NamedTuple):
    trace_id: int
    span_id: int
    parent_id: int  # 0: none
    name: str
    start_ns: int
    stop_ns: int
    operation: str  # the command's name in capitals; "" where it is none
    database: int  # -1: none
    status: str  # the error's first word; "" where all went well
    address: str  # the client's
    reason: str
    events: Sequence[tuple[str, int]]  # name and time
    attributes: dict[str, Any]


def parse_traceparent(text: bytes) -> Context:
    """Raises ValueError, which says what is wrong."""
    if len(text) > _TRACEPARENT_BYTES_MAX:
        raise ValueError("it is too long")
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        raise ValueError("it must be 2, 32, 16 and 2 lowercase hexadecimal digits with '-' between them")
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff":
        raise ValueError("version ff is not allowed")
    if rest and (version == b"00" or not rest.startswith(b"-")):
        raise ValueError("there is more behind the flags")
    context = Context(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    if not context.trace_id:
        raise ValueError("the trace id must not be all zeroes")
    if not context.span_id:
        raise ValueError("the parent id must not be all zeroes")
    return context


def trace_text(trace_id: int) -> str:
    return f"{trace_id:032x}"


def span_text(span_id: int) -> str:
    return f"{span_id:016x}"


# struct traced, kernel.h.
_PACKED: Final = struct.Struct("=3Q7q2I64s")


def unpack(data: bytes, names: Sequence[str], shift_ns: int) -> "Iterator[Plain]":
    """What the kernel has written down, by names of commands and what makes Unix time of its clock's."""
    for row in _PACKED.iter_unpack(data):
        high, low, span_id, arrived_ns, begun_ns, parsed_ns, started_ns, stopped_ns, flushed_ns, *rest = row
        _, slot, database, address = rest
        start_ns, stop_ns, events = phases(
            arrived_ns, begun_ns, parsed_ns, started_ns, stopped_ns, flushed_ns or stopped_ns, shift_ns
        )
        yield (
            high << 64 | low,
            span_id,
            0,
            SERVER,
            start_ns,
            stop_ns,
            operation_name(names[slot]),
            database,
            "",
            address.rstrip(b"\0").decode(errors="replace"),
            SAMPLED,
            events,
            {},
        )


def packed_with(data: bytes, trace_id: int) -> bytes:
    """Of what the kernel has written down, what belongs to a trace."""
    wanted = struct.pack("=2Q", trace_id >> 64, trace_id & (1 << 64) - 1)
    at = data.find(wanted)
    while at >= 0:
        if at % _PACKED.size == 0:
            return data[at : at + _PACKED.size]
        at = data.find(wanted, at + 1)
    return b""


def packed_newest(data: bytes, count: int) -> bytes:
    return data[-count * _PACKED.size :] if count else b""


def packed_count(data: bytes) -> int:
    return len(data) // _PACKED.size


def operation_name(command: str) -> str:
    """`config|set` as the manual writes it."""
    return command.upper().replace("|", " ")


def phases(
    arrived_ns: int, begun_ns: int, parsed_ns: int, started_ns: int, stopped_ns: int, flushed_ns: int, shift_ns: int
) -> tuple[int, int, list[tuple[str, int]]]:
    """A request's span from where its parts begin: start, stop, and these as events.

    `wait` is until the loop read it, `parse` until its read was parsed, `queue` until those before it in the same read
    had run, `execute` until it had, and `flush` until its replies were handed to the system.  When a request came is
    known about; where it hardly waited it is taken to have come when it was read.
    """
    # The first request of a read pays for parsing, as far as times of commands go.
    started_ns = max(started_ns, min(parsed_ns, stopped_ns))
    start_ns = arrived_ns if begun_ns - arrived_ns >= WAIT_SHOWN_NS else begun_ns
    start_ns = min(start_ns, started_ns)
    events = []
    if start_ns < begun_ns <= started_ns:
        events.append(("wait", start_ns + shift_ns))
    if start_ns <= begun_ns <= started_ns:
        events.append(("parse", begun_ns + shift_ns))
        if begun_ns <= parsed_ns <= started_ns:
            events.append(("queue", parsed_ns + shift_ns))
    events.append(("execute", started_ns + shift_ns))
    events.append(("flush", stopped_ns + shift_ns))
    return start_ns + shift_ns, max(flushed_ns, stopped_ns) + shift_ns, events


# Below it, when a request came is a guess (kora/observe/service.py).
WAIT_SHOWN_NS: Final = 100_000
