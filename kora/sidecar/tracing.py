"""Spans to a collector: OTLP over HTTP, by OpenTelemetry's own exporter, in a thread that nobody waits for.

At most tracing-queue-max spans wait.  While the collector is gone, is slow or answers 503, the exporter tries again and
again (as OTEL_EXPORTER_OTLP_TIMEOUT allows) and the queue fills; what does not fit is counted and forgotten.
"""

import logging
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from prometheus_client.samples import Exemplar

from kora.log import logger
from kora.observe.histogram import EDGES_NS
from kora.observe.traces import SERVER, Plain, Span, packed_count, packed_newest, span_text, trace_text, unpack
from kora.sidecar.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.util.types import AttributeValue

log = logger("kora.sidecar")

INSTALL: Final = "pip install 'kora-server[tracing]'"
_BATCH_MAX: Final = 512  # as OTEL_BSP_MAX_EXPORT_BATCH_SIZE is by default
_PERIOD_S: Final = 1.0  # how long spans wait for others to share a request with
_CLOSE_S: Final = 1.0
_REASON_MAX: Final = 500
_TRACES_PATH: Final = "/v1/traces"


class Exporter(Protocol):
    def export(self, spans: "Sequence[ReadableSpan]") -> Any: ...
    def shutdown(self) -> None: ...


class TraceExport:
    """Takes spans from the feed, and has a thread send them; also knows a trace for each bucket of latency."""

    def __init__(self) -> None:
        # What was done.
        self.exported = 0
        self.dropped = 0  # the queue was full
        self.failed = 0  # the collector did not take them, or its answer did not come in time
        self.errors = 0  # requests that failed
        self.exemplars: dict[str, dict[int, Exemplar]] = {}  # by operation and bucket: the last that fell into it
        # What waits.
        self._changed = threading.Condition()
        self._spans: deque[Plain] = deque()
        self._packed: deque[tuple[bytes, int]] = deque()  # as the kernel gave them, and the shift to Unix time
        self._waiting = 0
        self._settings: Settings | None = None
        self._names: Sequence[str] = ()
        self._is_closing = False
        self._thread: threading.Thread | None = None
        # The thread's.
        self._exporter: Exporter | None = None
        self._endpoint: str | None = None
        self._is_failing = False

    @property
    def waiting(self) -> int:
        return self._waiting

    def follow(self, settings: Settings) -> None:
        """Settings have come."""
        with self._changed:
            self._settings, self._names = settings, settings.commands
        if settings.tracing_enabled and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
            self._thread.start()

    def add(self, spans: Sequence[Plain], packed: bytes, shift_ns: int) -> None:
        """Spans of the data process, and those of its kernel."""
        with self._changed:
            room = self._settings.tracing_queue_max - self._waiting if self._settings is not None else 0
            taken = spans[: max(0, room)]
            count = packed_count(packed)
            taken_packed = min(count, max(0, room - len(taken)))
            self.dropped += len(spans) - len(taken) + count - taken_packed
            self._spans.extend(taken)
            if taken_packed:
                self._packed.append((packed_newest(packed, taken_packed), shift_ns))
            self._waiting += len(taken) + taken_packed
            if self._waiting >= _BATCH_MAX:
                self._changed.notify()

    def close(self) -> None:
        """Send what waits, if that can be done soon."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    # The thread

    def _run(self) -> None:
        try:
            from opentelemetry.sdk.trace.export import SpanExportResult
        except ImportError:
            log.error("spans are not exported: a package is missing", remedy=INSTALL)
            return
        # It logs each attempt, of which one line is enough.
        attempts = _Attempts()
        library = logging.getLogger("opentelemetry")
        library.addHandler(attempts)
        library.propagate = False
        settings = self._settings
        assert settings is not None
        resource = _resource(settings)
        while True:
            with self._changed:
                if self._waiting < _BATCH_MAX and not self._is_closing:
                    self._changed.wait(_PERIOD_S)
                batch = self._take()
                settings = self._settings or settings
            if batch:
                spans = [_readable(span, resource, settings) for span in batch]
                try:
                    is_sent = self._exporter_for(settings).export(spans) is SpanExportResult.SUCCESS
                except Exception as error:  # of requests, of the encoder: this thread goes on
                    is_sent, attempts.latest = False, repr(error)
                self._note(len(spans), is_sent, attempts.latest)
                for span in batch:
                    self._remember(span)
            elif self._is_closing:
                break
        if self._exporter is not None:
            self._exporter.shutdown()

    def _take(self) -> list[Span]:
        batch: list[Span] = []
        while self._spans and len(batch) < _BATCH_MAX:
            batch.append(Span._make(self._spans.popleft()))
        while self._packed and len(batch) < _BATCH_MAX:
            packed, shift_ns = self._packed.popleft()
            count = packed_count(packed)
            left = max(0, count - (_BATCH_MAX - len(batch)))
            size_bytes = len(packed) // count
            batch += map(Span._make, unpack(packed[: (count - left) * size_bytes], self._names, shift_ns))
            if left:
                self._packed.appendleft((packed_newest(packed, left), shift_ns))
        self._waiting -= len(batch)
        return batch

    def _exporter_for(self, settings: Settings) -> Exporter:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        if self._exporter is None or self._endpoint != settings.tracing_endpoint:
            if self._exporter is not None:
                self._exporter.shutdown()
            self._endpoint = settings.tracing_endpoint
            self._exporter = OTLPSpanExporter(endpoint=traces_url(self._endpoint) or None)
        return self._exporter

    def _note(self, count: int, is_sent: bool, reason: str) -> None:
        if is_sent:
            self.exported += count
        else:
            self.failed += count
            self.errors += 1
        if is_sent is self._is_failing:
            self._is_failing = not is_sent
            if is_sent:
                log.info("spans are exported again")
            else:
                log.warning("spans are not taken by the collector", spans=count, reason=reason[:_REASON_MAX])

    def _remember(self, span: Span) -> None:
        times = dict(span.events)
        if span.name != SERVER or span.status or "execute" not in times or "flush" not in times:
            return
        elapsed_ns = times["flush"] - times["execute"]
        labels = {"trace_id": trace_text(span.trace_id), "span_id": span_text(span.span_id)}
        buckets = self.exemplars.setdefault(span.operation, {})
        buckets[bisect_left(EDGES_NS, elapsed_ns)] = Exemplar(labels, elapsed_ns / 1e9, span.stop_ns / 1e9)


class _Attempts(logging.Handler):
    """What the exporter says of attempts that failed."""

    latest = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.latest = record.getMessage()


def traces_url(endpoint: str) -> str:
    """Where a collector takes spans, if it is not said."""
    if endpoint and urlsplit(endpoint).path in ("", "/"):
        return endpoint.rstrip("/") + _TRACES_PATH
    return endpoint


def _resource(settings: Settings) -> "Resource":
    """Who sends: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES outweigh what is said here."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    own = {
        "service.name": "kora",
        "service.version": settings.version,
        "service.instance.id": settings.run_id,
        "kora.kernel": settings.kernel,
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _readable(span: Span, resource: "Resource", settings: Settings) -> "ReadableSpan":
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(span_id: int, is_remote: bool) -> SpanContext:
        return SpanContext(span.trace_id, span_id, is_remote, TraceFlags(TraceFlags.SAMPLED))

    is_request = span.name == SERVER
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id, False),
        parent=context(span.parent_id, is_request) if span.parent_id else None,
        resource=resource,
        attributes=_attributes(span, settings),
        events=[Event(name, {}, time_ns) for name, time_ns in span.events],
        kind=SpanKind.SERVER if is_request else SpanKind.INTERNAL,
        instrumentation_scope=InstrumentationScope("kora", settings.version),
        status=Status(StatusCode.ERROR, span.status) if span.status else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.stop_ns,
    )


def _attributes(span: Span, settings: Settings) -> "dict[str, AttributeValue]":
    """As OpenTelemetry's semantic conventions for databases name them (1.33)."""
    attributes: dict[str, AttributeValue] = {"db.system.name": "redis", "kora.kept": span.reason}
    if span.operation:
        attributes["db.operation.name"] = span.operation
    if span.database >= 0:
        attributes["db.namespace"] = str(span.database)
    if span.status:
        attributes["db.response.status_code"] = attributes["error.type"] = span.status
    if span.name == SERVER:
        attributes["server.port"] = settings.port
        if span.address:
            host, _, port = span.address.rpartition(":")
            attributes["network.peer.address"] = host.strip("[]")
            if port not in ("", "0"):
                attributes["network.peer.port"] = int(port)
    return {**attributes, **span.attributes}
