"""Tracing: which requests leave a span, and what is in it; the sidecar exports them (OpenTelemetry).

Nothing is done for a request before it has run but counting down to the next that is chosen.  What is measured of every
request anyway becomes a span once it has ended, for one of four reasons: it was chosen (tracing-sample-ratio), its
client said that it belongs to a trace that is kept, it failed, or it ran or waited for as long as tracing-slow-ms says.
The latter two, and everything that has a parent or children, come in through slowness.note(), as all that is remarkable
does: attend() has it called for the running request.  The kernel writes down by itself what it has chosen, unless
somebody asks for more.

Spans wait here until the next tick, at most tracing-queue-max of them; what does not fit is counted.  They also stay in
a ring of the same length, where TRACE GET finds them.
"""

from collections import deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from math import log
from random import getrandbits, random
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kora.errors import ConfigError
from kora.observe.spikes import NEVER_NS
from kora.observe.traces import (
    ERROR,
    PARENT,
    REASONS,
    SAMPLED,
    SERVER,
    SLOW,
    Context,
    Plain,
    Span,
    operation_name,
    packed_count,
    packed_newest,
    packed_with,
    parse_traceparent,
    phases,
    trace_text,
    unpack,
)

from .redaction import redacted

if TYPE_CHECKING:
    from kora.engine.blocking import Wait
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.registry import Command

Child: TypeAlias = "tuple[str, int, int, dict[str, Any]]"  # name, start, stop, attributes
Aside: TypeAlias = "tuple[bool, bool, str, int, list[Child], bool]"

NEVER: Final = 1 << 62
INSTALL: Final = "pip install 'kora-server[tracing]'"
# What is asked for when tracing is turned on; none of it is loaded here.
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_LIVE: Final = (
    "tracing-enabled", "tracing-sample-ratio", "tracing-slow-ms", "tracing-arguments", "tracing-queue-max",
)  # fmt: skip
# Words of a request that tracing-arguments shows, and bytes of each.
_WORDS_MAX: Final = 16
_WORD_MAX: Final = 64
# Spans of what is no request, by the event that the latency monitor has for it.
_OF_EVENTS: Final = {
    "expire-cycle": "kora.expire",
    "eviction-cycle": "kora.evict",
    "rdb-save": "kora.snapshot",
}


class Tracing:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        # By the settings.
        self.is_on = False
        self.slow_ns = NEVER_NS  # from where on everything is kept
        self._ratio = 0.0
        self._arguments = "none"
        self.samples_left = NEVER  # requests until call() chooses one
        # Of the request that runs, or is about to.
        self.is_due = False  # it was chosen
        self._is_late = False  # it has waited for too long
        self._status = ""  # its error's first word
        self._trace_id = 0  # that it will have, where somebody has asked
        self._children: list[Child] = []
        self._attending = False
        # What is kept.
        self.shift_ns = 0  # from the engine's clock to Unix time
        self.recent: deque[Plain] = deque(maxlen=1)
        self._waiting: list[Plain] = []  # to be shipped
        self._packed_next = 0  # number of the kernel's span that is shipped next
        # ship(spans, packed, shift_ns): hands them to the sidecar, or does not take them now; set by whoever has one.
        self.ship: Callable[[list[Plain], bytes, int], bool] | None = None
        # Counters.
        self.kept = dict.fromkeys(REASONS, 0)
        self.dropped = 0  # since the sidecar did not take them in time
        self.contexts_invalid = 0  # traceparents before requests that were none
        config = engine.config
        config.on_change("tracing-enabled", self._check)
        for name in _LIVE:
            config.on_change(name, lambda _: self.update())

    def start(self) -> None:
        """Once all of the engine is there.  Raises ConfigError where the packages are missing."""
        self._check(self._engine.config.tracing_enabled)
        self.update()

    def _check(self, is_on: bool) -> None:
        if is_on and not all(map(_is_installed, _PACKAGES)):
            raise ConfigError(f"tracing needs packages that are not installed: {INSTALL}")

    def update(self) -> None:
        """Work out what is traced by the settings."""
        engine, config = self._engine, self._engine.config
        self.is_on = config.tracing_enabled and engine.observing
        self._ratio = float(config.tracing_sample_ratio) if self.is_on else 0.0
        self._arguments = config.tracing_arguments
        self.slow_ns = config.tracing_slow_ms * 1_000_000 if self.is_on and config.tracing_slow_ms >= 0 else NEVER_NS
        self.samples_left = self.step()
        spans_max = config.tracing_queue_max
        if self.recent.maxlen != spans_max:
            self.recent = deque(self.recent, spans_max)
        self.tick()
        self._tell_time()
        engine.implementation.set_tracing(self.is_on, self._ratio, self.slow_ns, self._arguments != "none", spans_max)
        engine.slowness.update()
        for client in engine.clients.values():
            if client.context is not None:
                client.update_gate()

    def step(self) -> int:
        """How many requests come until one is chosen: each with the same probability."""
        if self._ratio >= 1:
            return 1
        return 1 + int(log(1 - random()) / log(1 - self._ratio)) if self._ratio else NEVER

    # From those who run requests

    def attend(self) -> None:
        """Have slowness.note() called for the request that runs, however short it is."""
        if not self._attending:
            self._attending = True
            self._engine.slowness.attend(True)

    def choose(self) -> None:
        """The request that runs next was chosen."""
        self.samples_left = self.step()
        self.is_due = True
        self.attend()

    def begin_late(self) -> None:
        """What is read now has waited longer than what is slow: keep the first of its requests."""
        self._is_late = True
        self.attend()

    def end_late(self) -> None:
        """It is answered, or was no whole request."""
        if self._is_late:
            self._is_late = False
            if self._attending and not (self.is_due or self._status):
                self._attending = False
                self._engine.slowness.attend(False)

    def failed(self, client: "Client", prefix: str) -> None:
        """The request that runs, or a part of it, was answered with an error."""
        engine = self._engine
        if client.is_script:
            return  # what becomes of it is for the script to say
        wait = engine.blocking.retried(client)
        if wait is not None:
            wait.status = prefix
        else:
            self._status = prefix
            self.attend()

    def child(self, name: str, start_ns: int, attributes: dict[str, Any]) -> None:
        """A part of the request that runs has ended, which is a span of its own."""
        self._children.append((name, start_ns, self._engine.monotonic_ns(), attributes))
        self.attend()

    def running_id(self, client: "Client") -> str:
        """The trace of the request that a client runs; "" where there is none, or none is known yet.

        A request that the kernel chooses is chosen when it has ended.
        """
        if not self.is_on:
            return ""
        if client.is_script and self._engine.scripting is not None:
            client = self._engine.scripting.caller
        if client.context is not None:
            return trace_text(client.context.trace_id)
        if not (self.is_due or self._status):
            return ""
        self._trace_id = self._trace_id or _new_id(128)
        return trace_text(self._trace_id)

    def waiting_id(self, client: "Client") -> str:
        """As running_id(), for one who waited for its keys and runs once more."""
        wait = self._engine.blocking.retried(client)
        return trace_text(wait.pending.trace_id) if wait is not None and wait.pending is not None else ""

    def log_fields(self, client: "Client") -> dict[str, str]:
        """What a line of the log about the running request says of its trace."""
        trace_id = self.running_id(client)
        return {"trace_id": trace_id} if trace_id else {}

    def settle(self, client: "Client", command: "Command", words: Sequence[bytes], argc: int, elapsed_ns: int) -> str:
        """A request has ended of which slowness.note() is told; returns its trace, if its span is kept."""
        engine = self._engine
        if engine.nested or client.is_script:
            return ""  # it is a part of one
        if command.name == "client|trace":
            self._forget_request(None)  # what it says is about others
            return ""
        context = client.context
        is_due, status, children = self.is_due, self._status, self._children
        is_slow = self._is_late or elapsed_ns >= self.slow_ns
        trace_id = self._forget_request(client)
        reason = _reason(context, is_due, status, is_slow)
        if not reason:
            return ""
        stop_ns = engine.monotonic_ns()
        start_ns = stop_ns - elapsed_ns
        if children:
            start_ns = min(start_ns, children[0][1])
        attributes = self._attributes(command, words, argc)
        for child in children:
            attributes.update({name: value for name, value in child[3].items() if name == BATCH_SIZE})
        pending = Pending(
            self, context, trace_id, reason, start_ns, stop_ns, operation_name(command.name), client.db.index, status,
            client.address, attributes, children,
        )  # fmt: skip
        if client.waiting is not None:
            client.waiting.pending = pending
        elif client is not engine.implementation.running or not engine.service.follow(pending):
            pending.answered(start_ns, stop_ns)
        return trace_text(pending.trace_id)

    def rejected(self, client: "Client", command: "Command | None", prefix: str) -> None:
        """A request was answered with an error and did not run."""
        engine = self._engine
        if engine.nested or client.is_script:
            self.failed(client, prefix)
            return
        context, is_due = client.context, self.is_due
        trace_id = self._forget_request(client)
        now_ns = engine.monotonic_ns()
        pending = Pending(
            self, context, trace_id, _reason(context, is_due, prefix, False), min(engine.now_ns, now_ns), now_ns,
            operation_name(command.name) if command is not None else "", client.db.index, prefix, client.address, {},
            [],
        )  # fmt: skip
        if not engine.service.follow(pending):
            pending.answered(pending.start_ns, now_ns)

    def unblocked(self, wait: "Wait") -> None:
        """A client that waited is answered."""
        pending, client = wait.pending, wait.client
        now_ns = self._engine.monotonic_ns()
        if pending is None:
            if not (self.is_on and wait.status):
                return
            pending = Pending(
                self, None, 0, ERROR, now_ns, now_ns, operation_name(wait.command.name), wait.keyspace.index,
                wait.status, client.address, {}, [],
            )  # fmt: skip
        pending.status = pending.status or wait.status
        pending.stop_ns = now_ns
        pending.answered(pending.arrived_ns or pending.start_ns, now_ns)

    def put_aside(self) -> "Aside":
        """Others run requests in the midst of one; returns what is known of that so far."""
        aside = self.is_due, self._is_late, self._status, self._trace_id, self._children, self._attending
        self.is_due, self._is_late, self._status, self._trace_id, self._children = False, False, "", 0, []
        if self._attending:
            self._attending = False
            self._engine.slowness.attend(False)
        return aside

    def take_up(self, aside: "Aside") -> None:
        """The one that was put aside goes on."""
        self.is_due, self._is_late, self._status, self._trace_id, self._children, is_attending = aside
        if is_attending:
            self.attend()

    def _forget_request(self, client: "Client | None") -> int:
        """The request that ran is done with, and what that client said of it; returns the trace id that it has got."""
        trace_id, self._trace_id = self._trace_id, 0
        self.is_due, self._is_late, self._status, self._children = False, False, "", []
        if self._attending:
            self._attending = False
            self._engine.slowness.attend(False)
        if client is not None and client.traces_once:
            client.set_context(client.lasting_context)
        return trace_id

    # From clients

    def follow_attributes(self, client: "Client", argv: Sequence[bytes]) -> None:
        """What stood before a request: pairs of names and values, of which all but one mean nothing here."""
        for name, value in zip(argv[1::2], argv[2::2], strict=True):
            if name.lower() == b"traceparent":
                try:
                    context = parse_traceparent(value)
                except ValueError:
                    # It is no part of the request, whose reply it must not change; and there is nobody to tell.
                    self.contexts_invalid += 1
                else:
                    client.set_context(context, once=True)

    # From what is no request

    def note_event(self, event: str, elapsed_ns: int) -> None:
        """The latency monitor was told of something."""
        name = _OF_EVENTS.get(event)
        if name is None:
            return
        stop_ns = self._engine.monotonic_ns()
        if self._engine.implementation.running is not None:
            # It was for a request that runs, and has held that up.
            self._children.append((name, stop_ns - elapsed_ns, stop_ns, {}))
            self.attend()
        else:
            self.note_job(name, stop_ns - elapsed_ns, stop_ns, {})

    def note_job(self, name: str, start_ns: int, stop_ns: int, attributes: dict[str, Any], status: str = "") -> None:
        """Something that is no request has ended: kept for the same reasons."""
        if not self.is_on:
            return
        reason = _reason(None, random() < self._ratio, status, stop_ns - start_ns >= self.slow_ns)
        if reason:
            shift_ns = self.shift_ns
            self._keep(
                Span(
                    _new_id(128), _new_id(64), 0, name, start_ns + shift_ns, stop_ns + shift_ns, "", -1, status, "",
                    reason, [], attributes,
                )
            )  # fmt: skip

    # What is kept

    def keep_request(self, pending: "Pending", arrived_ns: int, flushed_ns: int) -> None:
        """A request is answered: its span, and those of its parts."""
        shift_ns = self.shift_ns
        start_ns, stop_ns, events = phases(
            arrived_ns, pending.begun_ns or arrived_ns, pending.parsed_ns, pending.start_ns, pending.stop_ns,
            flushed_ns, shift_ns,
        )  # fmt: skip
        span_id = _new_id(64)
        self._keep(
            Span(
                pending.trace_id, span_id, pending.parent_id, SERVER, start_ns, stop_ns, pending.operation,
                pending.database, pending.status, pending.address, pending.reason, events, pending.attributes,
            )
        )  # fmt: skip
        for name, child_start_ns, child_stop_ns, attributes in pending.children:
            self._keep(
                Span(
                    pending.trace_id, _new_id(64), span_id, name, child_start_ns + shift_ns, child_stop_ns + shift_ns,
                    pending.operation, pending.database, "", "", pending.reason, [], attributes,
                )
            )  # fmt: skip

    def _keep(self, span: Span) -> None:
        plain = tuple(span)
        self.kept[span.reason] += 1
        self.recent.append(plain)
        if self.ship is not None:
            if len(self._waiting) < self._engine.config.tracing_queue_max:
                self._waiting.append(plain)
            else:
                self.dropped += 1

    def tick(self) -> None:
        """Several times per second: hand over what waits."""
        packed, number = self._engine.implementation.take_spans(self._packed_next)
        if self.ship is None:
            self._count_packed(number, number - self._packed_next)
        elif (self._waiting or packed) and self.ship(self._waiting, packed, self.shift_ns):
            self._waiting = []
            self._count_packed(number, packed_count(packed))
        self._tell_time()

    def _count_packed(self, number: int, taken: int) -> None:
        """The kernel's spans up to a number are dealt with, the last so many of them taken."""
        written = number - self._packed_next
        self.kept[SAMPLED] += written
        self.dropped += max(0, written - taken)
        self._packed_next = number

    def _tell_time(self) -> None:
        # The system's clock may be set, and is slewed.
        self.shift_ns = self._engine.clock.wall_ns() - self._engine.clock.monotonic_ns()

    # For views

    def spans_of(self, trace_id: int) -> list[Span]:
        """Of a trace, what is still kept, in order of time."""
        found = [Span._make(span) for span in self.recent if span[0] == trace_id]
        packed = packed_with(self._engine.implementation.take_spans(0)[0], trace_id)
        found += map(Span._make, unpack(packed, self.names, self.shift_ns))
        return sorted(found, key=lambda span: span.start_ns)

    def newest(self, count: int) -> list[Span]:
        """The last spans that have no parent here, the newest first."""
        found = [Span._make(span) for span in self.recent if span[3] == SERVER or not span[2]]
        packed = packed_newest(self._engine.implementation.take_spans(0)[0], count)
        found += map(Span._make, unpack(packed, self.names, self.shift_ns))
        found.reverse()  # of those that ended at the same time the last one comes first
        return sorted(found, key=lambda span: span.stop_ns, reverse=True)[:count]

    @property
    def names(self) -> list[str]:
        """Of commands, by slot."""
        return [command.name for command in self._engine.registry.slots]

    @property
    def waiting(self) -> int:
        """Spans that are not shipped yet."""
        return len(self._waiting)

    def numbers(self) -> dict[str, int]:
        """For a snapshot: counters by name."""
        kept = {f"kept_{reason}": count for reason, count in self.kept.items()}
        return {
            **kept,
            "dropped": self.dropped,
            "waiting": self.waiting,
            "contexts_invalid": self.contexts_invalid,
            "enabled": int(self.is_on),
        }

    def forget(self) -> None:
        """TRACE RESET: what is kept for TRACE GET, but not what is on its way."""
        self.recent.clear()
        self.tick()
        self._engine.implementation.forget_spans()

    def _attributes(self, command: "Command", words: Sequence[bytes], argc: int) -> dict[str, Any]:
        if self._arguments == "none":
            return {}
        return {"db.query.text": query_text(command, words, argc, self._arguments == "all")}


class Pending:
    """The span of a request that is not answered yet."""

    __slots__ = (
        "_tracing", "address", "arrived_ns", "attributes", "begun_ns", "children", "database", "operation", "parent_id",
        "parsed_ns", "reason", "start_ns", "status", "stop_ns", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        tracing: Tracing,
        context: Context | None,
        trace_id: int,
        reason: str,
        start_ns: int,
        stop_ns: int,
        operation: str,
        database: int,
        status: str,
        address: str,
        attributes: dict[str, Any],
        children: list[Child],
    ) -> None:
        self._tracing = tracing
        self.trace_id, self.parent_id = (trace_id or _new_id(128), 0) if context is None else context[:2]
        self.reason = reason
        self.start_ns = start_ns  # when it began to run
        self.stop_ns = stop_ns
        self.operation = operation
        self.database = database
        self.status = status
        self.address = address
        self.attributes = attributes
        self.children = children
        # Of the read that it came with: see Service.follow().
        self.arrived_ns = self.begun_ns = self.parsed_ns = 0

    def answered(self, arrived_ns: int, now_ns: int) -> None:
        self._tracing.keep_request(self, arrived_ns, now_ns)


BATCH_SIZE: Final = "db.operation.batch.size"


def _reason(context: Context | None, is_due: bool, status: str, is_slow: bool) -> str:
    """What a span is kept for; "" for nothing."""
    if context is not None and context.is_sampled:
        return PARENT
    if context is None and is_due:
        return SAMPLED
    return ERROR if status else SLOW if is_slow else ""


def _new_id(bits: int) -> int:
    return getrandbits(bits) or 1  # W3C Trace Context: all zeroes is no id


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def query_text(command: "Command", words: Sequence[bytes], argc: int, shows_all: bool) -> str:
    """A request as an attribute: without its secrets, cut short, and with `?` for all but its name and its keys."""
    shown = redacted(command, words)[:_WORDS_MAX]
    first = 2 if "|" in command.name else 1
    keys = () if shows_all or not command.names_keys else set(_keys_of(command, words, argc))
    text = [_shown(word) if shows_all or place < first or word in keys else "?" for place, word in enumerate(shown)]
    return " ".join(text) + (" ..." if argc > len(text) else "")


def _keys_of(command: "Command", words: Sequence[bytes], argc: int) -> list[bytes]:
    if len(words) < argc:
        # The first words, which may be less than it takes to tell the keys.
        return [words[command.first_key]] if 0 < command.first_key < len(words) else []
    return command.keys(list(words))


def _shown(word: bytes) -> str:
    text = word[:_WORD_MAX].decode("utf-8", "backslashreplace")
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text + ("..." if len(word) > _WORD_MAX else "")
