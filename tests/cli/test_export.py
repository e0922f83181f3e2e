"""What `kora export` prints, held against the programs that it is for."""

import io
import json
import re
import subprocess
import textwrap
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from kora import log as logs
from kora.cli.alerts import ALERTS, rule_file
from kora.cli.export import ASSETS
from kora.cli.operator import run
from kora.sidecar.metrics import METRICS
from tests.cli.alert_cases import CASES, INSTANCE
from tests.peers import peer

pytestmark = pytest.mark.once

SERIES = {name for family in METRICS for name in family.names - {family.base_name} | {family.name}}


def promtool(*words: object) -> None:
    done = subprocess.run([peer("promtool"), *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:kora|redis)_\w+", expression))


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def export(*words: str) -> str:
        assert run(["export", *words]) == 0
        return capsys.readouterr().out

    return export


def test_every_asset_is_listed_and_printed(printed: Callable[..., str]) -> None:
    listed = printed()
    for name, (_, what) in ASSETS.items():
        assert f"{name} " in listed and what in listed
        assert printed(name).endswith("\n")


def test_prometheus_takes_its_configuration_with_the_alerts(printed: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(printed("prometheus"))
    (tmp_path / "alerts.yml").write_text(printed("alerts"))
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_the_dashboard_shows_every_family_of_koras_own(printed: Callable[..., str]) -> None:
    board = json.loads(printed("grafana"))
    panels = [inner for panel in board["panels"] for inner in (panel, *panel.get("panels", ()))]
    targets = [target for panel in panels for target in panel.get("targets", ())]
    shown = {name for target in targets for name in names_in(target["expr"])}
    own = {family.name for family in METRICS if family.name.startswith("kora_")}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in shown} >= own
    assert shown <= SERIES
    assert all('{instance=~"$instance"' in target["expr"] for target in targets)
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)


def test_compose_has_all_the_others_in_it(printed: Callable[..., str]) -> None:
    compose = printed("compose")
    content = textwrap.dedent(compose.split("  dashboard:\n    content: |\n")[1]).replace("$$", "$")
    assert json.loads(content) == json.loads(printed("grafana"))
    for line in printed("alerts").splitlines():
        assert f"      {line.replace('$', '$$')}\n" in compose
    assert "          - kora:9090\n" in compose


def test_log_shippers_read_what_the_log_has(printed: Callable[..., str]) -> None:
    file = io.StringIO()
    logs.Log(stream=file)
    try:
        logs.logger("kora.server").info("ready", port=6379)
    finally:
        structlog.reset_defaults()
    line = json.loads(file.getvalue())
    promtail, fluent_bit = printed("promtail"), printed("fluent-bit")
    fields = re.findall(r"^            (\w+): (\w+)$", promtail, re.MULTILINE)
    assert fields and all(name == source and name in line for name, source in fields)
    assert "Time_Key    timestamp" in fluent_bit
    assert datetime.strptime(line["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z")
    for text in (promtail, fluent_bit):
        assert "/var/log/kora/*.log" in text


def test_every_alert_fires_and_is_over_again(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(rule_file())
    assert set(CASES) == {alert.name for alert in ALERTS}, "an alert without a case, or the other way round"
    # All in one go, each as a server of its own: promtool takes its time to begin.
    test: dict[str, Any] = {"interval": "1m", "input_series": [], "promql_expr_test": []}
    for name, (series, fires_at, over_at) in CASES.items():
        server = f'instance="{name}"'
        test["input_series"] += [{"series": one.replace(INSTANCE, server), "values": values} for one, values in series]
        # What is about all servers has no instance.
        firing = f'count(ALERTS{{alertname="{name}",alertstate="firing",instance=~"|{name}"}}) or vector(0)'
        test["promql_expr_test"] += [
            {"expr": firing, "eval_time": f"{at}m", "exp_samples": [{"labels": "{}", "value": count}]}
            for at, count in ((fires_at, 1), (over_at, 0))
        ]
    # JSON is YAML as well.
    (tmp_path / "tests.yml").write_text(
        json.dumps({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", tmp_path / "tests.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_waits_for_nothing_that_is_never_counted(alert: object) -> None:
    assert names_in(alert.expression) <= SERIES  # type: ignore[attr-defined]
