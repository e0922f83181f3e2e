"""What the sidecar makes of spans before OpenTelemetry's exporter has them."""

import sys

import pytest

from kora.observe.histogram import EDGES_NS
from kora.observe.traces import ERROR, SAMPLED, SERVER, Span
from kora.sidecar import tracing
from kora.sidecar.settings import Settings
from kora.sidecar.tracing import TraceExport, traces_url

pytestmark = pytest.mark.once
pytest.importorskip("opentelemetry.sdk")

SETTINGS = Settings([], 0, 1000, 0, version="1.2", tracing_queue_max=64, run_id="run", port=6379)


def span(name: str = SERVER, **fields: object) -> Span:
    events = [("execute", 1_000), ("flush", 31_000)]
    made = Span(1, 2, 3, name, 1_000, 40_000, "GET", 4, "", "[::1]:50000", SAMPLED, events, {})
    return made._replace(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("", ""),
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otlp/v1/traces", "https://collector/otlp/v1/traces"),
    ],
)
def test_an_endpoint_without_a_path_is_a_collector(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


def test_the_environment_says_who_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    assert tracing._resource(SETTINGS).attributes["service.name"] == "kora"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.version=2")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cache")
    found = tracing._resource(SETTINGS).attributes
    assert (found["service.name"], found["service.version"]) == ("cache", "2")
    assert (found["deployment.environment"], found["service.instance.id"]) == ("test", "run")


def test_a_request_is_told_as_databases_are() -> None:
    made = tracing._readable(span(status="WRONGTYPE", reason=ERROR), tracing._resource(SETTINGS), SETTINGS)
    assert dict(made.attributes or {}) == {
        "db.system.name": "redis",
        "db.operation.name": "GET",
        "db.namespace": "4",
        "db.response.status_code": "WRONGTYPE",
        "error.type": "WRONGTYPE",
        "kora.kept": "error",
        "network.peer.address": "::1",
        "network.peer.port": 50000,
        "server.port": 6379,
    }
    assert made.kind.name == "SERVER"
    assert made.parent is not None
    assert made.parent.is_remote
    part = tracing._readable(span("kora.script"), tracing._resource(SETTINGS), SETTINGS)
    assert part.kind.name == "INTERNAL"
    assert part.parent is not None
    assert not part.parent.is_remote


def test_the_last_of_each_bucket_is_an_exemplar() -> None:
    export = TraceExport()
    for trace_id in (7, 8):
        export._remember(span(trace_id=trace_id))
    export._remember(span(trace_id=9, status="ERR"))
    export._remember(span("kora.script", trace_id=9))
    ((bucket, exemplar),) = export.exemplars["GET"].items()
    assert EDGES_NS[bucket - 1] < 30_000 <= EDGES_NS[bucket]
    assert (exemplar.labels["trace_id"], exemplar.value) == (f"{8:032x}", 30_000 / 1e9)


def test_what_does_not_fit_is_counted() -> None:
    export = TraceExport()
    export._settings = SETTINGS
    export.add([tuple(span())] * 100, b"", 0)
    assert (export.waiting, export.dropped) == (64, 36)


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, str]] = []
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    monkeypatch.setattr(tracing.log, "error", lambda message, **fields: lines.append(fields))
    TraceExport()._run()
    assert lines == [{"remedy": "pip install 'kora-server[tracing]'"}]
