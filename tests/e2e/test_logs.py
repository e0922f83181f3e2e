"""What Kora writes about itself: JSON or text, to a file or to standard output, as much as was asked for."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kora import kernel
from tests.e2e.kora_process import KoraProcess, eventually

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


def test_what_is_said_again_and_again_is_counted(start_server: Start) -> None:
    kora = start_server("--log-repeats-max", "3", log_format="json")
    for number in range(8):
        kora.run("DEBUG", "LOG", f"line {number}")
    kora.stop()
    lines = [event for event in events(kora.log) if event["message"] == "debug log"]
    assert [line["fields"].get("text") for line in lines] == ["line 0", "line 1", "line 2", None]
    assert (lines[-1]["level"], lines[-1]["fields"]) == ("INFO", {"repeated": 5})


def test_sighup_goes_on_in_a_new_log_and_takes_over_what_has_changed_in_the_file(
    launch_server: Start, tmp_path: Path
) -> None:
    path, moved, file = tmp_path / "kora.log", tmp_path / "kora.log.1", tmp_path / "kora.toml"
    file.write_text("timeout = 5\nrequirepass = 'old secret'\n[network]\ntcp-backlog = 100\n")
    kora = launch_server("--config", str(file), "--logfile", str(path), metrics_port=None, log_format="json")
    eventually(lambda: path.exists() and "sidecar listening" in path.read_text(), "it serves")
    with kora.connect() as client:
        client.run("AUTH", "old secret")
        client.run("CONFIG", "SET", "maxclients", "77")
        path.rename(moved)
        file.write_text("timeout = 6\nrequirepass = 'new secret'\n[network]\ntcp-backlog = 200\n")
        kora.signal(signal.SIGHUP)
        eventually(lambda: client.run("CONFIG", "GET", "timeout") == [b"timeout", b"6"], "the file is followed")
        assert client.run("CONFIG", "GET", "maxclients") == [b"maxclients", b"77"], "nobody has changed it in the file"
        assert client.run("AUTH", "new secret") == b"OK"
        assert client.run("CONFIG", "GET", "tcp-backlog") == [b"tcp-backlog", b"100"]

        file.write_text("timeout = 'x'\n")
        kora.signal(signal.SIGHUP)
        eventually(lambda: "configuration not reloaded" in path.read_text(), "the mistake is told")
        assert client.run("CONFIG", "GET", "timeout") == [b"timeout", b"6"]
    kora.stop()
    assert "reloaded" not in moved.read_text()
    by_message = {event["message"]: event["fields"] for event in events(path.read_text())}
    assert by_message["configuration reloaded"]["changed"] == {"timeout": "6", "requirepass": "********"}
    assert by_message["settings that need another start"]["settings"] == ["tcp-backlog"]
    assert "timeout must be an integer" in by_message["configuration not reloaded"]["reason"]
    assert "stopped" in by_message
    assert "secret" not in path.read_text()
    assert kora.log == kora.stderr == ""


def test_a_log_that_cannot_be_written_is_no_reason_to_fail(launch_server: Start) -> None:
    """/dev/full is a disk without room."""
    kora = launch_server("--logfile", "/dev/full", metrics_port=None)
    eventually(lambda: _answers(kora), "it serves")
    assert kora.run("DEBUG", "LOG", "text") == b"OK"
    kora.signal(signal.SIGHUP)
    assert kora.run("PING") == b"PONG"


def _answers(kora: KoraProcess) -> bool:
    try:
        return kora.http("/health/ready")[0] == 200
    except OSError:
        return False
