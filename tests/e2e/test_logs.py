"""What Kora writes about itself: JSON or text, to a file or to standard output, as much as was asked for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kora import kernel
from tests.e2e.kora_process import KoraProcess

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]


def events(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert list(event) == ["timestamp", "level", "target", "message", "fields"], event
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"]), event
        assert event["level"] in {"TRACE", "DEBUG", "INFO", "WARN", "ERROR"}, event
        assert event["target"].startswith("kora"), event
        assert isinstance(event["fields"], dict), event
    return found


def test_one_json_object_a_line(start_server: Start) -> None:
    kora = start_server(metrics=True, log_format="json")
    kora.run("PING")
    kora.stop()
    logged = events(kora.log)
    by_message = {event["message"]: event for event in logged}
    assert by_message["ready"]["target"] == "kora.server"
    assert by_message["ready"]["fields"]["port"] == kora.port
    assert by_message["sidecar listening"]["fields"]["port"] == kora.metrics_port
    assert by_message["stopping"]["fields"]["signal"] == "SIGTERM"
    assert logged[-1]["message"] == "stopped"


def test_a_failed_start_is_logged_as_well(launch_server: Start, start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "kora.log"
    kora = start_server(log_format="json")
    assert events(kora.log)
    taken = launch_server("--logfile", str(path), port=kora.port, log_format="json")
    assert taken.wait() == 1
    [event] = events(path.read_text())
    assert (event["level"], event["message"]) == ("ERROR", "cannot start")
    assert "already in use" in event["fields"]["reason"]


def test_text_for_people(start_server: Start) -> None:
    kora = start_server()
    [line] = kora.log.splitlines()
    why_python = "" if kernel.load() else f" reason={re.escape(kernel.why_not())}"
    implementation = "compiled" if kernel.load() else "python"
    ready = rf"ready version=\S+ kernel={implementation} port={kora.port} elapsed_ms=\d+{why_python}"
    assert re.fullmatch(rf"\S+Z INFO  kora\.server {ready}", line), line


def test_a_log_file_is_appended_to(launch_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "kora.log"
    path.write_text("earlier\n")
    kora = launch_server("--logfile", str(path), port=0, log_format="json")
    assert kora.wait() == 1
    first, *rest = path.read_text().splitlines()
    assert first == "earlier"
    assert [event["message"] for event in events("\n".join(rest))] == ["cannot start"]
    assert kora.log == ""


def test_the_level_is_set_by_the_environment_and_the_flag_outweighs_it(launch_server: Start) -> None:
    quiet = launch_server(environ={"KORA_LOG": "error"}, port=0)
    assert quiet.wait() == 1
    assert [line.split()[1] for line in quiet.log.splitlines()] == ["ERROR"]
    # 203.0.113.0/24 is for documentation: no machine has it.
    flags = ("--bind", "-203.0.113.7 203.0.113.8")
    loud = launch_server(*flags, environ={"KORA_LOG": "kora.server=debug,error"})
    assert loud.wait() == 1
    assert "address not available" in loud.log
    silent = launch_server(*flags, "--log-level", "info", environ={"KORA_LOG": "debug"})
    assert silent.wait() == 1
    assert "address not available" not in silent.log


def test_the_level_changes_at_run_time(start_server: Start) -> None:
    kora = start_server()
    assert kora.run("CONFIG", "SET", "log-level", "error") == b"OK"
    kora.stop()
    assert "stopped" not in kora.log
