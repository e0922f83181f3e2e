"""TRACE: what tracing has kept lately, and how it is doing.  What is traced, and why, says engine/tracing.py."""

import re
from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError
from kora.observe.traces import Span, span_text, trace_text
from kora.resp.reply import OK, Reply
from kora.types.number import parse_integer

tracing = Family("server")

_FLAGS: Final = "admin noscript loading stale"
_COUNT: Final = 10
_COUNT_MAX: Final = 10_000
_TRACE_ID: Final = re.compile(rb"[0-9a-f]{32}", re.IGNORECASE)

tracing.container(
    "TRACE",
    "Commands about the traces that requests have left.",
    since="7.2.0",
    help_since="7.2.0",
)


@tracing(
    "TRACE GET id",
    "Returns the spans of a trace that are still kept, each with its children.",
    flags=_FLAGS,
    since="7.2.0",
    complexity="O(N) where N is the number of spans that are kept",
    tips=("nondeterministic_output", "request_policy:all_nodes"),
)
def trace_get(client: Client, argv: list[bytes]) -> Reply:
    if not _TRACE_ID.fullmatch(argv[2]):
        raise CommandError("ERR a trace id is 32 hexadecimal digits")
    spans = client.engine.tracing.spans_of(int(argv[2], 16))
    ids = {span.span_id for span in spans}
    return [_tree(span, spans) for span in spans if span.parent_id not in ids]


@tracing(
    "TRACE LIST [count:int]",
    "Returns the latest spans of requests and jobs, the newest first: trace, name, command, microseconds, error, why "
    "it was kept, and Unix time.",
    flags=_FLAGS,
    since="7.2.0",
    complexity="O(N log N) where N is the number of spans that are kept",
    tips=("nondeterministic_output", "request_policy:all_nodes"),
)
def trace_list(client: Client, argv: list[bytes]) -> Reply:
    if len(argv) > 3:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'LIST'. Try TRACE HELP.")
    count = parse_integer(argv[2]) if len(argv) == 3 else _COUNT
    if not 1 <= count <= _COUNT_MAX:
        raise CommandError(f"ERR count must be between 1 and {_COUNT_MAX}")
    return [
        {
            "trace_id": trace_text(span.trace_id),
            "name": span.name,
            "command": span.operation,
            "elapsed_us": (span.stop_ns - span.start_ns) // 1_000,
            "error": span.status,
            "kept": span.reason,
            "time_s": span.stop_ns // 1_000_000_000,
        }
        for span in client.engine.tracing.newest(count)
    ]


@tracing(
    "TRACE STATUS",
    "Returns whether and how requests are traced, and how many spans were kept and given up.",
    flags=_FLAGS,
    since="7.2.0",
    tips=("nondeterministic_output", "request_policy:all_nodes"),
)
def trace_status(client: Client, argv: list[bytes]) -> Reply:
    engine = client.engine
    tracing, config = engine.tracing, engine.config
    return {
        "enabled": int(tracing.is_on),
        "exporting": int(tracing.is_on and tracing.ship is not None),
        "endpoint": config.tracing_endpoint,
        "sample_ratio": config.tracing_sample_ratio,
        "slow_ms": config.tracing_slow_ms,
        "arguments": config.tracing_arguments,
        **{name: number for name, number in tracing.numbers().items() if name != "enabled"},
    }


@tracing(
    "TRACE RESET",
    "Forgets the spans that TRACE GET and TRACE LIST show; those on their way to the collector stay.",
    flags=_FLAGS,
    since="7.2.0",
    complexity="O(N) where N is the number of spans that are kept",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
)
def trace_reset(client: Client, argv: list[bytes]) -> Reply:
    client.engine.tracing.forget()
    return OK


def _tree(span: Span, spans: list[Span]) -> Reply:
    stops = [*(start_ns for _, start_ns in span.events[1:]), span.stop_ns]  # of each phase, of which there may be none
    return {
        "span_id": span_text(span.span_id),
        "parent_id": span_text(span.parent_id) if span.parent_id else "",
        "name": span.name,
        "start_us": span.start_ns // 1_000,
        "elapsed_us": (span.stop_ns - span.start_ns) // 1_000,
        "command": span.operation,
        "database": span.database,
        "client": span.address,
        "error": span.status,
        "kept": span.reason,
        "phases_us": {
            name: (stop_ns - start_ns) // 1_000 for (name, start_ns), stop_ns in zip(span.events, stops, strict=False)
        },
        "attributes": dict(span.attributes),
        "children": [_tree(child, spans) for child in spans if child.parent_id == span.span_id],
    }
