"""The sidecar's pages, as curl sees them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kora_process import KoraProcess, eventually

Start = Callable[..., KoraProcess]

# The families of the first seed, and their types.
PROMISED = {
    "kora_commands_total": "counter",
    "kora_keys_total": "gauge",
    "kora_memory_used_bytes": "gauge",
    "kora_bytes_in_total": "counter",
    "kora_bytes_out_total": "counter",
    "kora_command_duration_seconds": "histogram",
}


def metrics(server: KoraProcess) -> dict[str, float]:
    """Each sample by its name and labels."""
    status, text = server.http("/metrics")
    assert status == 200
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    }


@pytest.mark.parametrize(("family", "kind"), PROMISED.items())
def test_every_promised_family_is_there_under_its_name_and_type(server: KoraProcess, family: str, kind: str) -> None:
    server.run("SET", "k", "v")
    server.run("GET", "k")
    _, text = server.http("/metrics")
    assert text.count(f"# TYPE {family} {kind}\n") == 1
    assert re.search(rf"^# HELP {family} \S", text, re.MULTILINE)
    assert re.search(rf"^{family}(_bucket|_count|_sum)?(\{{[^}}]*\}})? \S+$", text, re.MULTILINE)


def test_the_numbers_are_those_of_the_clients(server: KoraProcess) -> None:
    before = metrics(server)
    with server.connect() as wire:
        wire.pipeline(*(("SET", f"k{number}", "v" * 100) for number in range(50)), *(("GET", "k1"),) * 30)
    after = metrics(server)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('kora_commands_total{cmd="set"}') == 50
    assert grown('kora_commands_total{cmd="get"}') == 30
    assert after["kora_keys_total"] == 50
    assert 5000 < after["kora_memory_used_bytes"] < 50_000
    assert grown("kora_bytes_in_total") > 50 * 100
    assert 30 * 100 < grown("kora_bytes_out_total") < 30 * 100 + 10_000
    assert grown('kora_command_duration_seconds_count{cmd="get"}') == 30
    assert grown('kora_command_duration_seconds_bucket{cmd="get",le="+Inf"}') == 30
    assert grown('kora_command_duration_seconds_sum{cmd="get"}') > 0


def test_buckets_are_cumulative_from_a_microsecond_to_ten_seconds(server: KoraProcess) -> None:
    server.run("DEBUG", "SLEEP", "0.02")
    server.run("PING")
    by_command: dict[str, list[tuple[float, float]]] = {}
    for name, value in metrics(server).items():
        found = re.fullmatch(r'kora_command_duration_seconds_bucket\{cmd="([^"]+)",le="([^"]+)"\}', name)
        if found:
            by_command.setdefault(found[1], []).append((float(found[2]), value))
    assert by_command
    for buckets in by_command.values():
        assert buckets == sorted(buckets)
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        edges = [edge for edge, _ in buckets]
        assert (edges[0], edges[-2], edges[-1]) == (1e-06, 10.0, float("inf"))
    [sleep] = [buckets for name, buckets in by_command.items() if name.startswith("debug")]
    assert dict(sleep)[0.01] < dict(sleep)[float("inf")]


def test_health_and_status(server: KoraProcess) -> None:
    server.run("SET", "k", "v")
    for path in ("/health/live", "/health/ready"):
        status, body = server.http(path)
        assert status == 200, body
        assert json.loads(body)["status"] == "ok"
    status, body = server.http("/status")
    assert status == 200
    shown = json.loads(body)
    assert shown["role"] == "master"
    assert shown["pid"] == server.pid
    assert shown["shards"] == 4
    assert shown["keys"] == 1
    assert {"version", "uptime_seconds", "clients", "memory_used_bytes", "ops_per_second", "loop_lag_ms"} <= set(shown)


def test_health_says_check_by_check_how_the_server_is(server: KoraProcess) -> None:
    def disk_was_tried() -> dict[str, dict[str, str]]:
        code, body = server.http("/health")
        values = json.loads(body)
        assert (code == 200) == (values["health"] != "unhealthy"), body
        return values["checks"] if "disk" in values["checks"] else {}

    server.http("/status")  # asks for numbers, which the checks then have
    checks = eventually(disk_was_tried, "the disk was tried")
    assert {"loop", "state", "numbers", "memory", "clients", "disk", "persistence"} <= set(checks)
    assert (checks["state"]["status"], checks["persistence"]["status"]) == ("ok", "ok")
    assert json.loads(server.http("/status")[1])["checks"].keys() == checks.keys()


def test_doctor_is_answered_over_http_as_well(server: KoraProcess) -> None:
    with server.connect() as wire:
        assert wire.run("MONITOR") == b"OK"
        status, body = server.http("/doctor")
        address = wire.address
    assert status == 200
    report = json.loads(body)
    found = {finding["id"]: finding for finding in report["findings"]}
    assert found["monitor"]["culprit"]["client"] == address
    assert report["to"] - report["from"] <= 11


def test_the_root_lists_the_pages_and_others_are_not_found(server: KoraProcess) -> None:
    status, body = server.http("/")
    assert status == 200
    assert all(path in body for path in ("/metrics", "/health/live", "/health/ready", "/status"))
    assert server.http("/nowhere")[0] == 404


@pytest.mark.once
def test_config_set_reaches_the_sidecar(start_server: Start) -> None:
    server = start_server(metrics=True)
    assert json.loads(server.http("/health/live")[1])["loop"]["stall_ms"] == 1000
    assert server.run("CONFIG", "SET", "loop-stall-ms", "4321") == b"OK"
    eventually(
        lambda: json.loads(server.http("/health/live")[1])["loop"]["stall_ms"] == 4321, "the sidecar has the new value"
    )


@pytest.mark.once
def test_no_metrics_port_no_sidecar(start_server: Start) -> None:
    server = start_server()
    assert server.run("PING") == b"PONG"
    assert server.sidecar_pid == 0


@pytest.mark.once
def test_the_sidecar_does_not_import_from_the_folder_it_is_started_in(start_server: Start, tmp_path: Path) -> None:
    folder = tmp_path / "kora-0"  # where the first server of a test is started
    folder.mkdir()
    (folder / "html.py").write_text("raise SystemExit('imported from the current folder')")
    assert start_server(metrics=True).http("/health/live")[0] == 200
