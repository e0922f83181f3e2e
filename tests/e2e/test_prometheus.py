"""A real Prometheus scrapes a loaded Kora with the first seed's scrape config, and answers every query of that seed."""

import json
import math
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kora_process import KoraProcess, clean_environ, eventually, free_port
from tests.peers import peer

# Every PromQL expression of the first seed's page, in its order: examples first, then its dashboard's panels.
QUERIES = (
    "rate(kora_commands_total[1m])",
    "histogram_quantile(0.99, rate(kora_command_duration_seconds_bucket[5m]))",
    "deriv(kora_memory_used_bytes[5m])",
    "rate(kora_bytes_out_total[1m]) / 1024 / 1024",
    "sum by (cmd) (rate(kora_commands_total[1m]))",
    "kora_command_duration_seconds_bucket",
    "kora_memory_used_bytes / 1024 / 1024",
    "rate(kora_bytes_in_total[1m]) + rate(kora_bytes_out_total[1m])",
)

# The seed's, but for the port and the interval.
SCRAPE_CONFIG = """\
scrape_configs:
  - job_name: 'kora'
    static_configs:
      - targets: ['localhost:{port}']
    scrape_interval: 1s
"""


@dataclass(frozen=True)
class Prometheus:
    port: int
    log: Path

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its HTTP API."""
        query = urllib.parse.urlencode(parameters)
        with _HTTP.open(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=20) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        assert not body.get("warnings"), body
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expression)["result"])

    def is_ready(self) -> bool:
        try:
            with _HTTP.open(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def load(shared_server: KoraProcess) -> Iterator[None]:
    """Clients that write, read and delete for as long as the tests run."""
    process = subprocess.Popen(
        [
            *(peer("redis-benchmark"), "-p", str(shared_server.port), "-l", "-q", "-c", "5", "-P", "4", "-r", "100000"),
            *("-t", "set,get,incr,mset,ping_mbulk", "-n", "2000"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=clean_environ(),
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def prometheus(
    shared_server: KoraProcess, load: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    program = peer("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(SCRAPE_CONFIG.format(port=shared_server.metrics_port))
    found = Prometheus(free_port(), folder / "log")
    with found.log.open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{found.port}",
            ],
            cwd=folder,
            env=clean_environ(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        try:
            eventually(found.is_ready, "Prometheus is ready", timeout_s=60)
            # Two samples of everything make a rate.
            eventually(
                lambda: any(float(row["value"][1]) >= 3 for row in found.query("count_over_time(up[1m])")),
                "three scrapes",
                timeout_s=60,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; Prometheus says:\n{found.log.read_text()[-3000:]}") from error
        yield found
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("expression", QUERIES)
def test_a_query_of_the_first_seed_has_data(prometheus: Prometheus, expression: str) -> None:
    def has_number() -> bool:
        rows = prometheus.query(expression)
        return any(math.isfinite(float(row["value"][1])) for row in rows)

    eventually(has_number, f"{expression} gives a number", timeout_s=30)


def test_rates_are_per_command_and_those_of_the_load(prometheus: Prometheus) -> None:
    def rates() -> dict[str, float]:
        rows = prometheus.query("rate(kora_commands_total[1m])")
        return {row["metric"]["cmd"]: float(row["value"][1]) for row in rows}

    for command in ("get", "set", "incr", "mset", "ping"):
        eventually(lambda: rates().get(command, 0) > 0, f"a rate of {command}", timeout_s=30)  # noqa: B023
    quantiles = prometheus.query(QUERIES[1])
    assert all(0 < float(row["value"][1]) < 10 for row in quantiles if row["metric"]["cmd"] == "get"), quantiles


def test_the_target_is_up_and_every_scrape_is_clean(prometheus: Prometheus) -> None:
    [up] = prometheus.query("up")
    assert up["metric"]["job"] == "kora"
    assert up["value"][1] == "1"
    [target] = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    [least] = prometheus.query("min_over_time(up[1m])")
    assert least["value"][1] == "1"
    log = prometheus.log.read_text()
    assert "level=error" not in log, log
    assert "level=warn" not in log, log


def test_prometheus_knows_the_type_and_help_of_every_family(prometheus: Prometheus) -> None:
    metadata = prometheus.ask("metadata")
    assert metadata["kora_command_duration_seconds"][0]["type"] == "histogram"
    assert metadata["kora_keys_total"][0]["type"] == "gauge"
    # With OpenMetrics, a counter's family goes without _total.
    commands = metadata.get("kora_commands_total") or metadata["kora_commands"]
    assert commands[0]["type"] == "counter"
    assert all(entry["help"] for name, entries in metadata.items() for entry in entries if name.startswith("kora"))


def test_promtool_finds_no_fault_but_the_name_that_was_promised(shared_server: KoraProcess, load: None) -> None:
    done = subprocess.run(
        [peer("promtool"), "check", "metrics"],
        input=shared_server.http("/metrics")[1],
        capture_output=True,
        text=True,
        timeout=60,
    )
    faults = [line for line in (done.stdout + done.stderr).splitlines() if line]
    # The first seed calls a gauge kora_keys_total, and its users' dashboards do.
    assert faults == ['kora_keys_total non-counter metrics should not have "_total" suffix'], faults
