"""The page as protobuf: the same numbers, and a native histogram that holds what the classic one does."""

from collections.abc import Callable
from typing import Any

import pytest

from kora.engine.engine import Engine
from kora.sidecar import protobuf_page
from kora.sidecar.exposition import fill, wants_protobuf
from kora.sidecar.metrics import METRICS
from tests.sidecar.test_metrics import render, series, take, view_of, workload

Run = Callable[..., Any]

pytestmark = pytest.mark.skipif(not protobuf_page.is_available(), reason=f"do: {protobuf_page.INSTALL}")


def read(page: bytes) -> dict[str, Any]:
    """Families by name, each behind its length."""
    found = {}
    place = 0
    while place < len(page):
        length = shift = 0
        while True:
            byte, place = page[place], place + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        family = protobuf_page.MetricFamily.FromString(page[place : place + length])
        found[family.name] = family
        place += length
    return found


def labels_of(metric: Any) -> tuple[tuple[str, str], ...]:
    return tuple((pair.name, pair.value) for pair in metric.label)


def test_it_has_the_numbers_of_the_text(engine: Engine, run: Run) -> None:
    workload(engine, run)
    view = view_of(take(engine))
    text = series(render(view))
    families = read(protobuf_page.render(view, fill(view, METRICS)))
    assert {f.name for f in METRICS if not f.is_optional} <= set(families) <= {f.name for f in METRICS}
    same: dict[Any, float] = {}
    for name, family in families.items():
        for metric in family.metric:
            labels = labels_of(metric)
            if metric.HasField("histogram"):
                same[f"{name}_count", labels] = metric.histogram.sample_count
                same[f"{name}_sum", labels] = metric.histogram.sample_sum
                assert metric.histogram.bucket[-1].upper_bound == float("inf")
                assert metric.histogram.bucket[-1].cumulative_count == metric.histogram.sample_count
            elif metric.HasField("summary"):
                same[f"{name}_count", labels] = metric.summary.sample_count
            else:
                same[name, labels] = (metric.counter if metric.HasField("counter") else metric.gauge).value
    moving = ("kora_sidecar_cpu", "kora_sidecar_resident", "kora_process_open")
    assert len(same) > 300
    for (name, labels), value in same.items():
        # Text escapes what labels have; none here has anything to escape.
        assert name.startswith(moving) or text[name, labels] == value, (name, labels)


def test_the_native_histogram_has_each_value_in_its_bucket(engine: Engine) -> None:
    slot = [command.name for command in engine.registry.slots].index("get")
    durations_ns = [0, 1, 300, 1_000, 40_000, 41_000, 3_000_000, 59_000_000_000]
    for elapsed_ns in durations_ns:
        engine.shards[elapsed_ns % 4].stats.commands[slot].record(elapsed_ns)
    view = view_of(take(engine))
    [metric] = read(protobuf_page.render(view, fill(view, METRICS)))[protobuf_page.NATIVE].metric
    histogram = metric.histogram
    assert (histogram.sample_count, histogram.zero_count, histogram.schema) == (8, 1, 3)
    counts: dict[int, int] = {}
    number = count = at = 0
    for span in histogram.positive_span:
        number += span.offset
        for _ in range(span.length):
            count += histogram.positive_delta[at]
            counts[number] = count
            number, at = number + 1, at + 1
    assert at == len(histogram.positive_delta)
    assert sum(counts.values()) == 7 and min(counts.values()) > 0
    for elapsed_ns in durations_ns[1:]:
        # A bucket of ours, at most 1 % wide, is counted as a whole.
        assert any(2 ** ((n - 1) / 8) * 0.99 < elapsed_ns / 1e9 <= 2 ** (n / 8) * 1.01 for n in counts), elapsed_ns


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", True),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", False),
        ("application/vnd.google.protobuf", False),
        # Prometheus 2.42 with --enable-feature=native-histograms.
        (
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
                "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
                "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            ),
            True,
        ),
        (
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.3,"
                "text/plain"
            ),
            False,
        ),
    ],
)
def test_it_is_given_to_who_prefers_it(accept: str, expected: bool) -> None:
    assert wants_protobuf(accept) is expected
