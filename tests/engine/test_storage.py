"""What a server with an engine under its keys shows of it: INFO, the latency monitor, DOCTOR."""

import json
from dataclasses import replace

import pytest

from kora.observe.storage import GAUGES, INFO, STATISTICS
from tests.storage_readings import FULL, attach

pytestmark = pytest.mark.once


def fields(run, *sections):
    lines = run("INFO", *sections).decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def findings(run):
    return {finding["id"]: finding for finding in json.loads(run("DOCTOR", "JSON"))["findings"]}


def test_a_server_whose_data_is_in_memory_has_no_such_section(run):
    assert b"RocksDB" not in run("INFO", "everything")
    assert run("INFO", "rocksdb") == b""
    assert fields(run, "server")["storage_engine"] == "memory"


def test_info_has_the_metrics_of_the_kips_by_their_names(run, engine):
    attach(engine)
    assert b"# RocksDB\r\n" in run("INFO")
    shown = fields(run, "rocksdb")
    assert STATISTICS.keys() | GAUGES.keys() <= shown.keys()
    expected = {
        "storage_metrics_level": "debug",
        "hits": "30",
        "hit_ratio": "0.7500",
        "dirty_bytes": "200",
        "large_values": "0",
        "level0": "files=4,bytes=400",
        "stalls_memtables_stop": "1",
        "stalls_memtables_slowdown": "0",
        "stalled_usec_memtables": "1500000",
        "bytes-written-total": "8",
        "bytes-written-rate": "0.1333",
        "memtable-hit-ratio": "0.5000",
        "memtable-flush-time-avg": "1500.0000",
        "memtable-flush-time-min": "1000.0000",
        "write-stall-duration-total": "1500.0000",
        "number-open-files": "10",
        "num-live-versions": "16",
        "write_amplification": "2.00",
    }
    assert {name: shown[name] for name in expected} == expected
    assert fields(run, "server")["storage_engine"] == "rocksdb"


def test_without_statistics_info_has_properties_alone(run, engine):
    statistics, _ = attach(engine)
    statistics.latest = replace(statistics.latest, level=INFO)
    shown = fields(run, "rocksdb")
    assert GAUGES.keys() <= shown.keys() and not STATISTICS.keys() & shown.keys()


def test_numbers_are_read_anew_once_a_second_and_stalls_are_events(run, engine, clock):
    run("CONFIG", "SET", "latency-monitor-threshold", "10")
    statistics, _ = attach(engine)
    clock.advance_ms(1_000)
    engine.tick()
    assert statistics.refreshed == 1
    before = run("LATENCY", "LATEST")
    engine.tick()
    assert statistics.refreshed == 1
    statistics.tell(replace(FULL, stall_us={"memtables": 1_520_000, "level0-files": 20_000}))
    clock.advance_ms(1_000)
    engine.tick()
    assert statistics.refreshed == 2
    [latest] = [event for event in run("LATENCY", "LATEST") if event[0] == b"storage-stall"]
    assert latest[2] == 40, before


def second(engine, clock):
    clock.advance_ms(1_000)
    engine.tick()


@pytest.fixture
def attached(engine, clock):
    """A second after the first numbers are known."""
    found = attach(engine, replace(FULL, properties={**FULL.properties, "is-write-stopped": 0}))
    for _ in range(12):
        second(engine, clock)
    return found


def test_doctor_finds_a_stall_and_its_cause(run, engine, clock, attached):
    assert findings(run) == {}
    attached[0].tell(replace(attached[0].latest.reading, stall_us={"memtables": 1_500_000, "level0-files": 400_000}))
    second(engine, clock)
    found = findings(run)["storage-stall"]
    assert found["severity"] == "warning"
    assert "400 ms" in found["evidence"]["text"] and "level0 files" in found["evidence"]["text"]


def test_doctor_finds_faults_of_files(run, engine, clock, attached):
    reading = attached[0].latest.reading
    attached[0].tell(replace(reading, tickers={**reading.tickers, "no.file.errors": 10}))
    second(engine, clock)
    found = findings(run)["storage-errors"]
    assert (found["severity"], found["evidence"]["numbers"]["file_errors"]) == ("critical", 2)


def test_doctor_finds_a_cache_that_is_too_small(run, engine, clock, attached):
    attached[1].update(hits=10_030, cold_fetches=5_008, dropped=4_000, capacity_bytes=1 << 20)
    second(engine, clock)
    found = findings(run)["storage-cache-small"]
    assert (found["run"], found["run_ends_it"]) == (f"CONFIG SET rocksdb-cache-bytes {2 << 20}", True)
    run(*found["run"].split())


def test_doctor_finds_values_that_are_written_whole_again_and_again(run, engine, clock, attached):
    for _ in range(20):
        engine.storage.note_large(engine, b"carts:all", 2 << 20)
    second(engine, clock)
    found = findings(run)["large-values"]
    assert (found["severity"], found["culprit"]["key"], found["run"]) == (
        "warning", "carts:all", "MEMORY USAGE carts:all",
    )  # fmt: skip
    assert fields(run, "rocksdb")["large_values"] == "20"


def test_doctor_finds_compactions_that_do_not_keep_up(run, engine, clock, attached):
    attached[0].tell(replace(attached[0].latest.reading, levels=[[4 * 12, 1 << 20]]))
    assert findings(run)["compaction-behind"]["evidence"]["numbers"]["level0_files"] == 48
