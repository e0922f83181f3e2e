"""Starting, not starting, draining and stopping; what clients still get then has test_last_replies.py."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kora
from tests.e2e.kora_process import KoraProcess, clean_environ, eventually, is_running
from tests.e2e.wire import END, error_text

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]


def program(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kora", *words],
        cwd=folder,
        env=clean_environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def assert_refused_to_start(process: KoraProcess) -> str:
    """Exit code 1 and one clear line on stderr, which is returned."""
    assert process.wait() == 1, process.log + process.stderr
    assert "Traceback" not in process.log + process.stderr
    [line] = process.stderr.splitlines()
    assert line.startswith("kora-server: "), line
    return line


def is_refused(process: KoraProcess) -> bool:
    try:
        process.connect().close()
    except ConnectionRefusedError:
        return True
    return False


# --- Stopping ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0(start_server: Start, number: int) -> None:
    server = start_server(metrics=True)
    sidecar_pid = server.sidecar_pid
    assert sidecar_pid
    with server.connect() as wire:
        assert wire.run("PING") == b"PONG"
        server.signal(number)
        assert wire.read() is END
    assert server.wait() == 0
    assert not is_running(sidecar_pid)
    assert is_refused(server)
    assert "kora.server stopped" in server.log


def test_during_the_grace_it_is_not_ready_and_serves_those_who_are_connected(start_server: Start) -> None:
    server = start_server("--shutdown-grace-ms", "600000", metrics=True)
    assert server.http("/health/ready")[0] == 200
    assert server.http("/health/live")[0] == 200
    with server.connect() as wire:
        assert wire.run("SET", "k", "v") == b"OK"
        server.signal(signal.SIGTERM)
        eventually(lambda: server.http("/health/ready")[0] == 503, "not ready")
        assert server.http("/health/live")[0] == 503
        assert "shutting down" in server.http("/health/live")[1]
        assert wire.run("GET", "k") == b"v"
        assert is_refused(server)
        assert wire.run("INCR", "n") == 1
        assert server.http("/metrics")[0] == 200
        server.signal(signal.SIGTERM)
        assert wire.read() is END
    server.wait()


def test_the_grace_comes_to_an_end(start_server: Start) -> None:
    server = start_server("--shutdown-grace-ms", "100")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_second_signal_ends_it_at_once(start_server: Start) -> None:
    server = start_server("--shutdown-grace-ms", "600000", metrics=True)
    sidecar_pid = server.sidecar_pid
    server.signal(signal.SIGTERM)
    eventually(lambda: server.http("/health/ready")[0] == 503, "draining")
    assert server.process.poll() is None
    server.signal(signal.SIGINT)
    server.wait()
    eventually(lambda: not is_running(sidecar_pid), "the sidecar ends too")


def test_a_signal_before_the_sidecar_is_there_ends_both(launch_server: Start) -> None:
    server = launch_server(metrics_port=None)
    eventually(lambda: " ready " in server.log, "it serves")
    sidecar_pid = server.sidecar_pid
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.stderr == ""
    assert "Traceback" not in server.log
    assert not is_running(sidecar_pid)


@pytest.mark.parametrize("words", [("SHUTDOWN",), ("SHUTDOWN", "NOSAVE"), ("shutdown", "now", "force")])
def test_shutdown_answers_nobody_and_ends_it(start_server: Start, words: "tuple[str, ...]") -> None:
    server = start_server("--shutdown-grace-ms", "600000")
    with server.connect() as wire, server.connect() as other:
        assert other.run("PING") == b"PONG"
        assert wire.run(*words) is END
        assert other.read() is END
    assert server.wait() == 0


def test_shutdown_with_a_wrong_word_ends_nothing(start_server: Start) -> None:
    server = start_server()
    assert error_text(server.run("SHUTDOWN", "SOON")) == "ERR syntax error"
    assert server.run("PING") == b"PONG"


def test_the_port_is_free_again_after_it_ended(start_server: Start) -> None:
    first = start_server()
    with first.connect() as wire:
        wire.run("PING")
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
    second = start_server(port=first.port)
    assert second.run("PING") == b"PONG"


# --- Not starting ---


def test_a_port_in_use(start_server: Start, launch_server: Start) -> None:
    first = start_server()
    line = assert_refused_to_start(launch_server(port=first.port))
    assert f"port {first.port}" in line
    assert "already in use" in line
    assert first.run("PING") == b"PONG"


def test_a_metrics_port_in_use(start_server: Start, launch_server: Start) -> None:
    first = start_server(metrics=True)
    line = assert_refused_to_start(launch_server(metrics_port=first.metrics_port))
    assert str(first.metrics_port) in line
    assert "already in use" in line


def test_an_address_of_another_machine(launch_server: Start) -> None:
    line = assert_refused_to_start(launch_server("--bind", "203.0.113.7"))
    assert "203.0.113.7" in line


def test_nothing_to_listen_on(launch_server: Start) -> None:
    assert "nothing to listen on" in assert_refused_to_start(launch_server(port=0))


def test_a_configuration_file_that_is_not_there(launch_server: Start, tmp_path: Path) -> None:
    line = assert_refused_to_start(launch_server("--config", str(tmp_path / "missing.toml")))
    assert "missing.toml: cannot be read: No such file or directory" in line


def test_a_configuration_file_that_cannot_be_read(launch_server: Start, tmp_path: Path) -> None:
    line = assert_refused_to_start(launch_server("--config", str(tmp_path)))
    assert "cannot be read: Is a directory" in line


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("timeout = 3\nmaxclient = 10\n", "line 2, column 1", ("maxclient", "did you mean maxclients?")),
        ("timeout = 3\n\n  port = 'x'\n", "line 3, column 3", ("port must be an integer from 0 to 65535",)),
        ("timeout = \n", "line 1, column", ()),
        ("[server]\nport = 1\n", "line 1, column 1", ("table",)),
    ],
)
def test_a_mistake_in_the_configuration_file(
    launch_server: Start, tmp_path: Path, text: str, place: str, words: "tuple[str, ...]"
) -> None:
    file = tmp_path / "kora.toml"
    file.write_text(text)
    line = assert_refused_to_start(launch_server(str(file)))
    assert f"{file}, {place}" in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--maxclient", "5"), ("--maxclient", "did you mean")),
        (("--maxclients", "many"), ("--maxclients", "must be an integer")),
        (("--maxclients",), ("--maxclients",)),
        (("--log-level", "loud"), ("log-level", "must be one of")),
    ],
)
def test_a_mistake_in_a_flag(launch_server: Start, flags: "tuple[str, ...]", words: "tuple[str, ...]") -> None:
    line = assert_refused_to_start(launch_server(*flags))
    assert all(word in line for word in words), line


def test_a_mistake_in_the_environment(launch_server: Start) -> None:
    line = assert_refused_to_start(launch_server(environ={"KORA_MAXCLIENTS": "many"}))
    assert "KORA_MAXCLIENTS" in line


def test_a_certificate_that_is_none(launch_server: Start, tmp_path: Path) -> None:
    bad = tmp_path / "bad.crt"
    bad.write_text("this is no certificate\n")
    flags = ("--tls-port", "1", "--tls-cert-file", str(bad), "--tls-key-file", str(bad), "--tls-auth-clients", "no")
    assert str(bad) in assert_refused_to_start(launch_server(*flags))
    missing = str(tmp_path / "missing.crt")
    flags = ("--tls-port", "1", "--tls-cert-file", missing, "--tls-auth-clients", "no")
    line = assert_refused_to_start(launch_server(*flags))
    assert missing in line
    assert "No such file or directory" in line


def test_a_log_file_that_cannot_be_opened(launch_server: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "no-such-folder" / "kora.log")
    line = assert_refused_to_start(launch_server("--logfile", path))
    assert path in line


def test_a_folder_in_the_place_of_the_unix_socket(launch_server: Start, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert str(folder) in assert_refused_to_start(launch_server("--unixsocket", str(folder)))


# --- Starting ---


def test_a_flag_outweighs_the_environment_and_that_the_file(start_server: Start, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("timeout = 11\nhz = 50\nmaxclients = 77\n")
    environ = {"KORA_CONFIG": str(file), "KORA_HZ": "60", "KORA_TIMEOUT": "12"}
    server = start_server("--timeout", "13", environ=environ)
    reply = server.run("CONFIG", "GET", "timeout", "hz", "maxclients")
    assert dict(zip(reply[::2], reply[1::2], strict=True)) == {b"timeout": b"13", b"hz": b"60", b"maxclients": b"77"}


def test_config_rewrite_survives_a_restart(start_server: Start, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("# my notes\ntimeout = 11\n")
    first = start_server("--config", str(file))
    assert first.run("CONFIG", "SET", "timeout", "12") == b"OK"
    assert first.run("CONFIG", "REWRITE") == b"OK"
    first.stop()
    assert file.read_text().startswith("# my notes\ntimeout = 12\n")
    second = start_server("--config", str(file))
    assert second.run("CONFIG", "GET", "timeout") == [b"timeout", b"12"]


def test_it_serves_soon_after_its_start(launch_server: Start) -> None:
    server = launch_server()
    eventually(lambda: not is_refused(server) and server.run("PING") == b"PONG", "serving")


def test_version(tmp_path: Path) -> None:
    for flag in ("--version", "-v"):
        done = program(flag, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert kora.__version__ in done.stdout


def test_help_lists_every_setting(tmp_path: Path) -> None:
    done = program("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(flag in done.stdout for flag in ("--port", "--metrics-port", "--maxclients", "--tls-cert-file"))
