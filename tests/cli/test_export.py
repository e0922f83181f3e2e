"""What `kora export` prints, held against the programs that it is for."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from kora.cli.alerts import ALERTS, rule_file
from kora.sidecar.metrics import METRICS
from tests.cli.alert_cases import CASES
from tests.peers import peer

SERIES = {name for family in METRICS for name in family.names - {family.base_name} | {family.name}}


def promtool(*words: object) -> None:
    done = subprocess.run([peer("promtool"), *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:kora|redis)_\w+", expression))


def test_every_alert_fires_and_is_over_again(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(rule_file())
    assert set(CASES) == {alert.name for alert in ALERTS}, "an alert without a case, or the other way round"
    tests = []
    for name, (series, fires_at, over_at) in CASES.items():
        firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
        expected = [(fires_at, 1), (over_at, 0)]
        tests.append(
            {
                "interval": "1m",
                "name": name,
                "input_series": [{"series": one, "values": values} for one, values in series],
                "promql_expr_test": [
                    {"expr": firing, "eval_time": f"{at}m", "exp_samples": [{"labels": "{}", "value": count}]}
                    for at, count in expected
                ],
            }
        )
    # JSON is YAML as well.
    (tmp_path / "tests.yml").write_text(
        json.dumps({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", tmp_path / "tests.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_waits_for_nothing_that_is_never_counted(alert: object) -> None:
    assert names_in(alert.expression) <= SERIES  # type: ignore[attr-defined]
