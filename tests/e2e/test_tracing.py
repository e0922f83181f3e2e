"""Traces from a client to a collector: redis-py with a little instrumentation, and an OTLP receiver."""

import asyncio
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from aiohttp import web

from tests.e2e.kora_process import KoraProcess

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
SERVER = 2  # SPAN_KIND_SERVER
ERROR = 2  # STATUS_CODE_ERROR
_ENVIRONMENT = {"NO_PROXY": "*", "no_proxy": "*"}


@dataclass
class Collector:
    """Takes spans at /v1/traces; `status` and `delay_s` are how it is today."""

    port: int = 0
    status: int = 200
    delay_s: float = 0.0
    spans: list[Any] = field(default_factory=list)
    resources: list[Any] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(dict(request.headers))
        await asyncio.sleep(self.delay_s)
        if self.status == 200:
            for group in trace_service.ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(group.resource)
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return web.Response(status=self.status, body=b"", content_type="application/x-protobuf")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, trace_id: bytes) -> list[Any]:
        return [span for span in self.spans if span.trace_id == trace_id]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    loop = asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        application = web.Application()
        application.router.add_post("/v1/traces", collector.take)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.port = runner.addresses[0][1]
        return runner

    runner = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield collector
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@dataclass
class ClientSpan:
    operation: str
    trace_id: bytes
    span_id: bytes
    start_ns: int
    stop_ns: int = 0


class TracedRedis(redis.Redis):
    """What an instrumentation of redis-py has to do: a span around each command, and its id in front of it."""

    spans: list[ClientSpan]

    def execute_command(self, *words: Any, **options: Any) -> Any:
        span = ClientSpan(str(words[0]).upper(), os.urandom(16), os.urandom(8), time.time_ns())
        self.spans.append(span)
        traceparent = f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
        connection = self.connection_pool.get_connection()
        try:
            connection.send_command("CLIENT", "TRACE", traceparent, "ONCE")
            connection.send_command(*words)
            assert connection.read_response() == b"OK"
            return self.parse_response(connection, words[0], **options)
        finally:
            span.stop_ns = time.time_ns()
            self.connection_pool.release(connection)


@pytest.fixture
def kora(start_server: Callable[..., KoraProcess], collector: Collector) -> KoraProcess:
    return start_server(
        *("--tracing-enabled", "yes", "--tracing-sample-ratio", "0", "--tracing-slow-ms", "50"),
        *("--tracing-endpoint", collector.endpoint),
        metrics=True,
        environ=_ENVIRONMENT,
    )


def until(condition: Callable[[], Any]) -> Any:
    stop = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < stop, "it has not come"
        time.sleep(0.02)
    return found


def numbers(kora: KoraProcess) -> dict[str, float]:
    page = kora.http("/metrics")[1]
    lines = [line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("kora_trace_")]
    return {name.removeprefix("kora_trace_"): float(value) for name, value in lines}


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_one_trace_from_the_client_to_the_collector(kora: KoraProcess, collector: Collector) -> None:
    client = TracedRedis(port=kora.port)
    client.spans = []
    client.set("key", "value")
    assert client.get("key") == b"value"
    with pytest.raises(redis.ResponseError):
        client.lpush("key", "secret")
    for span in client.spans:
        (found,) = until(lambda span=span: collector.of(span.trace_id))
        assert (found.parent_span_id, found.name, found.kind) == (span.span_id, "kora.request", SERVER)
        times = [one.time_unix_nano for one in found.events]
        assert times == sorted(times)
        # The client has its reply before the server has come back from sending it.
        assert span.start_ns <= found.start_time_unix_nano <= times[0]
        assert [one.name for one in found.events][-2:] == ["execute", "flush"]
        assert times[-1] <= min(found.end_time_unix_nano, span.stop_ns)
        shown = attributes(found)
        assert shown["db.system.name"] == "redis"
        assert (shown["db.operation.name"], shown["db.namespace"]) == (span.operation, "0")
        assert shown["network.peer.address"] == "127.0.0.1"
        assert shown["server.port"] == kora.port
        assert shown.get("db.response.status_code") == ("WRONGTYPE" if span.operation == "LPUSH" else None)
        assert found.status.code == (ERROR if span.operation == "LPUSH" else 0)
    assert {one.key: one.value.string_value for one in collector.resources[0].attributes}["service.name"] == "kora"
    assert collector.requests[0]["Content-Type"] == "application/x-protobuf"
    trace = kora.run("TRACE", "GET", client.spans[0].trace_id.hex())
    assert trace[0][11] == b"SET"
    client.close()


def test_slow_and_failing_requests_are_kept_at_a_ratio_of_zero_and_nobodys_secrets(
    kora: KoraProcess, collector: Collector
) -> None:
    wire = kora.connect()
    wire.run("SET", "k", "hunter2")
    wire.run("AUTH", "hunter2", "hunter2")
    wire.run("DEBUG", "SLEEP", "0.06")
    wire.run("NOPE", "hunter2")
    wire.run("MULTI")
    wire.run("INCR", "k")
    wire.run("EXEC")
    until(lambda: len(collector.spans) >= 5)
    kept = {(attributes(span).get("db.operation.name"), attributes(span)["kora.kept"]) for span in collector.spans}
    assert kept == {("AUTH", "error"), ("DEBUG", "slow"), (None, "error"), ("EXEC", "error")}
    (part,) = [span for span in collector.spans if span.name == "kora.transaction"]
    (whole,) = [span for span in collector.of(part.trace_id) if span.kind == SERVER]
    assert part.parent_span_id == whole.span_id
    assert whole.start_time_unix_nano <= part.start_time_unix_nano
    assert part.end_time_unix_nano <= whole.end_time_unix_nano
    assert "hunter2" not in repr(collector.spans)
    assert "hunter2" not in repr(kora.run("TRACE", "LIST", "1000")) + kora.log + kora.stderr
    request = urllib.request.Request(f"http://127.0.0.1:{kora.metrics_port}/metrics")
    request.add_header("Accept", "application/openmetrics-text")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        page = answer.read().decode()
    assert any('cmd="debug"' in line and "trace_id=" in line for line in page.splitlines())


@pytest.mark.once
def test_a_collector_in_trouble_is_nobody_elses(start_server: Callable[..., KoraProcess], collector: Collector) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
    kora = start_server(
        *("--tracing-enabled", "yes", "--tracing-sample-ratio", "1", "--tracing-queue-max", "64"),
        *("--tracing-endpoint", nobody),
        metrics=True,
        environ={**_ENVIRONMENT, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.3"},
    )
    kora.may_log_errors = True
    wire = kora.connect()
    assert wire.run("SET", "k", "v") == b"OK"

    def more_failed(before: dict[str, float]) -> bool:
        assert wire.pipeline(*[("GET", "k")] * 100) == [b"v"] * 100
        now = numbers(kora)
        names = ('spans_dropped_total{reason="export"}', "export_errors_total")
        return all(now[name] > before[name] for name in names)

    for status, delay_s, endpoint in (
        (200, 0.0, nobody),
        (503, 0.0, collector.endpoint),
        (200, 1.0, collector.endpoint),
    ):
        collector.status, collector.delay_s = status, delay_s
        wire.run("CONFIG", "SET", "tracing-endpoint", endpoint)
        before = numbers(kora)
        until(lambda before=before: more_failed(before))
    assert "spans are not taken by the collector" in kora.stderr
    assert sum(count for name, count in numbers(kora).items() if name.startswith("spans_dropped_total")) > 64
    assert numbers(kora)["queue_spans"] <= 64
    collector.delay_s = 0.0
    exported = numbers(kora)["spans_exported_total"]
    until(lambda: wire.run("PING") and numbers(kora)["spans_exported_total"] > exported)


@pytest.mark.once
def test_whatever_holds_up_the_loop_or_the_disk_has_spans(
    start_server: Callable[..., KoraProcess], collector: Collector
) -> None:
    kora = start_server(
        *("--tracing-enabled", "yes", "--tracing-slow-ms", "0", "--tracing-endpoint", collector.endpoint),
        *("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "allkeys-random"),
        metrics=True,
        environ=_ENVIRONMENT,
    )
    wire = kora.connect()
    wire.run("SET", "ends", "soon", "PX", "1")
    wire.pipeline(*[("SET", f"key:{number}", "x" * 1000) for number in range(100)])
    wire.run("CONFIG", "SET", "maxmemory", "60000")
    wire.run("SET", "one", "more")
    wire.run("CONFIG", "SET", "maxmemory", "0")
    wire.pipeline(("MULTI",), ("SET", "k", "v"), ("EXEC",))
    wire.run("EVAL", "return redis.call('GET', 'k')", "0")
    wire.run("BGSAVE")
    wanted = {"request", "transaction", "script", "snapshot", "journal.fsync", "expire", "evict"}
    until(lambda: {span.name for span in collector.spans} >= {f"kora.{name}" for name in wanted})
    by_id = {span.span_id: span for span in list(collector.spans)}
    for span in by_id.values():
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        whole = by_id.get(span.parent_span_id)
        if whole is not None:
            assert span.trace_id == whole.trace_id
            assert whole.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= whole.end_time_unix_nano
