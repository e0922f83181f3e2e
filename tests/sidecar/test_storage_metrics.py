"""kora_storage_*: there where there is an engine under the keys, and only there."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kora.engine import snapshot
from kora.engine.engine import Engine
from kora.engine.snapshot import Snapshot
from kora.observe.storage import INFO, Reading
from kora.sidecar import exposition, protobuf_page
from kora.sidecar.checks import look
from kora.sidecar.exposition import View, fill
from kora.sidecar.metrics import METRICS
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.storage_metrics import STORAGE
from tests.sidecar.test_checks import health
from tests.sidecar.test_metrics import SETTINGS
from tests.sidecar.test_protobuf_page import read
from tests.storage_readings import FULL, attach

pytestmark = pytest.mark.once


def page_of(engine: Engine, as_openmetrics: bool = False) -> str:
    shown = Snapshot.from_plain(snapshot.take(engine).to_plain())
    view = View(shown, 1_000_000, SETTINGS, OwnStats(), 0)
    return exposition.render(view, METRICS, as_openmetrics).decode()


def samples(page: str) -> dict[tuple[str, Any], float]:
    return {
        (sample.name, frozenset(sample.labels.items()) - {("store", "data")}): sample.value
        for family in parse_text(page)
        if family.name.startswith("kora_storage_")
        for sample in family.samples
    }


def value(page: str, name: str, **labels: str) -> float:
    return samples(page)[f"kora_storage_{name}", frozenset(labels.items())]


def test_a_server_whose_data_is_in_memory_has_none_of_them(engine: Engine) -> None:
    assert "kora_storage" not in page_of(engine)


def test_what_is_declared_is_there_as_soon_as_there_is_an_engine_under_the_keys(engine: Engine) -> None:
    attach(engine)
    page = page_of(engine)
    types = {family.name: family.type for family in parse_text(page) if family.samples}
    assert {family.base_name: types.get(family.base_name) for family in STORAGE} == {
        family.base_name: family.kind for family in STORAGE
    }
    assert all(family.labels[0] == "store" for family in STORAGE)
    found = {family.name for family in parse_openmetrics(page_of(engine, as_openmetrics=True))}  # type: ignore[no-untyped-call]
    assert {family.base_name for family in STORAGE} <= found


def test_numbers_are_in_base_units(engine: Engine) -> None:
    attach(engine)
    page = page_of(engine)
    assert value(page, "write_stall_seconds_total", cause="memtables") == 1.5
    assert value(page, "write_stalls_total", cause="memtables", kind="stop") == 1
    assert value(page, "flush_duration_seconds_sum") == 3
    assert value(page, "flush_duration_seconds", quantile="0.95") == 1.9
    assert (value(page, "flush_duration_min_seconds"), value(page, "flush_duration_max_seconds")) == (1, 2)
    assert value(page, "block_cache_hits_total", kind="index") == 8
    assert value(page, "read_bytes_total") == 16, "of single keys, and of many at once"
    assert value(page, "level_bytes", level="0") == 400 and value(page, "level_files", level="2") == 1
    assert value(page, "commit_seconds_total") == 2 and value(page, "collection_seconds_total") == 0.25
    assert value(page, "cache_cold_fetches_total") == 8
    assert value(page, "write_amplification") == 2


@pytest.mark.skipif(not protobuf_page.is_available(), reason=f"do: {protobuf_page.INSTALL}")
def test_all_of_them_fit_into_prometheus_messages(engine: Engine) -> None:
    attach(engine)
    shown = Snapshot.from_plain(snapshot.take(engine).to_plain())
    view = View(shown, 1_000_000, SETTINGS, OwnStats(), 0)
    families = read(protobuf_page.render(view, fill(view, STORAGE)))
    assert families.keys() == {family.name for family in STORAGE}
    summary = families["kora_storage_flush_duration_seconds"].metric[0].summary
    assert [(quantile.quantile, quantile.value) for quantile in summary.quantile] == [
        (0.5, 1.5),
        (0.95, 1.9),
        (0.99, 2),
    ]


def test_what_is_not_known_is_absent_and_not_0(engine: Engine) -> None:
    attach(engine, Reading())
    names = {name for name, _ in samples(page_of(engine))}
    assert not {name for name in names if "amplification" in name or "duration" in name or "bytes_total" in name} - {
        "kora_storage_committed_bytes_total",
        "kora_storage_log_bytes_total",
        "kora_storage_large_values_written_bytes_total",
    }
    quiet = replace(FULL, histograms={name: [0, 0, -1, 0, 0, 0, 0] for name in FULL.histograms})
    attach(engine, quiet)
    page = page_of(engine)
    assert value(page, "flush_duration_seconds_count") == 0
    assert "kora_storage_flush_duration_min" not in page


def test_without_statistics_there_are_properties_alone(engine: Engine) -> None:
    statistics, _ = attach(engine, replace(FULL, tickers={}, histograms={}))
    statistics.latest = replace(statistics.latest, level=INFO)
    page = page_of(engine)
    assert "kora_storage_written_bytes_total" not in page
    assert value(page, "write_stall_seconds_total", cause="memtables") == 1.5
    assert value(page, "pending_compaction_bytes") == 16


@pytest.mark.parametrize(
    ("changes", "expected", "reason"),
    [
        ({}, "ok", "nothing has failed"),
        ({"is-write-stopped": 1}, "degraded", "writes are stopped"),
        ({"background-errors": 1}, "unhealthy", "a flush or compaction failed"),
    ],
)
def test_health_of_what_is_under_the_keys(engine: Engine, changes: dict[str, int], expected: str, reason: str) -> None:
    attach(engine, replace(FULL, tickers={}, properties=changes))
    [check] = [check for check in look(health(), snapshot.take(engine), 0, None, None) if check.name == "storage"]
    assert (check.status, check.reason) == (expected, reason)


def test_files_that_fail_are_looked_at_and_changes_that_are_not_written_are_unhealthy(engine: Engine) -> None:
    attach(engine, replace(FULL, tickers={"no.file.errors": 1}, properties={}))
    taken = snapshot.take(engine)
    for journal, expected in (({}, "degraded"), ({"last_write_status": 0}, "unhealthy")):
        shown = look(health(), replace(taken, journal=journal), 0, None, None)
        assert [check.status for check in shown if check.name == "storage"] == [expected]
