"""A real Kora process on free loopback ports: started, talked to, looked at, and ended whatever happens."""

import contextlib
import ctypes
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.e2e.wire import Wire
from tests.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
START_S_MAX: Final = 30.0
_STARTS_MAX: Final = 5
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)
# The same server on another event loop than its own.
_ON_ASYNCIO: Final = "import asyncio, uvloop; uvloop.run = asyncio.run; from kora.cli.server import main; main()"
# No proxy of the environment, and no waiting for one.
_HTTP: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class KoraProcess:
    """One data process and its sidecar.  `port`, `metrics_port` and `events_port` are 0 where it has none."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", folder: Path, port: int, metrics_port: int, events_port: int = 0
    ) -> None:
        self.process = process
        self.folder = folder
        self.port = port
        self.metrics_port = metrics_port
        self.events_port = events_port
        self.may_log_errors = False  # set by a test that provokes them
        self._connections: list[Wire] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "stdout").read_text(errors="replace")

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")

    @property
    def rss_bytes(self) -> int:
        return int(_proc_status(self.pid, "VmRSS")) * 1024

    @property
    def sidecar_pid(self) -> int:
        """0 where there is none right now."""
        for pid in _children(self.pid):
            with contextlib.suppress(OSError):
                if b"kora.sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def connect(self, timeout_s: float = 20.0, host: str = "127.0.0.1") -> Wire:
        """A connection of the test's own; closed with the server at the latest."""
        connection = Wire(socket.create_connection((host, self.port), timeout_s))
        self._connections.append(connection)
        return connection

    def run(self, *words: object) -> Any:
        """One command on a connection of its own."""
        with self.connect() as wire:
            return wire.run(*words)

    def http(self, path: str, timeout_s: float = 10.0, port: int = 0) -> tuple[int, str]:
        """GET from the sidecar: status and body.  `port` is metrics_port unless it is given."""
        try:
            with _HTTP.open(f"http://127.0.0.1:{port or self.metrics_port}{path}", timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 15.0) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        sidecar_pid = 0 if self.process.poll() is not None else self.sidecar_pid
        try:
            if self.process.poll() is None:
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(8)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if sidecar_pid:
                _end_orphan(sidecar_pid)

    def assert_healthy_log(self) -> None:
        """Nothing that a user would report: no traceback, no error, nothing on stderr."""
        log, stderr = self.log, self.stderr
        assert "Traceback" not in log + stderr, log[-4000:] + stderr[-4000:]
        assert "internal error" not in log, log[-4000:]
        if not self.may_log_errors:
            assert not re.search(r'^\S+ ERROR |"level": ?"ERROR"', log, re.MULTILINE), log[-4000:]
            assert stderr == "", stderr[-4000:]


def launch(
    folder: Path,
    *flags: str,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    metrics_port: int | None = 0,
    events_port: int | None = 0,
    log_format: str = "text",
    open_files_max: int | None = None,
    loop: str = "uvloop",
) -> KoraProcess:
    """Start Kora without waiting for it; ports of None are chosen among the free ones."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port() if port is None else port
    metrics_port = free_port() if metrics_port is None else metrics_port
    events_port = free_port() if events_port is None else events_port
    # Flags first: a file must be the first of them.
    program = ["-m", "kora"] if loop == "uvloop" else ["-c", _ON_ASYNCIO]
    argv = [sys.executable, *program, *flags, "--port", str(port), "--metrics-port", str(metrics_port)]
    argv += ["--events-port", str(events_port)]
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*argv, "--log-format", log_format],
            # A folder of its own, so that no kora.toml of the developer's is read.
            cwd=folder,
            env={**clean_environ(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            # Should the test run be killed, its servers end as well.
            preexec_fn=partial(prepare_child, open_files_max),
        )
    return KoraProcess(process, folder, port, metrics_port, events_port)


def start(folder: Path, *flags: str, metrics: bool = False, events: bool = False, **options: Any) -> KoraProcess:
    """Start Kora and wait until it serves, with a sidecar where `metrics` asks for one, and its port for `events`."""
    ports = {"metrics_port": None if metrics else 0, "events_port": None if events else 0}
    for attempt in range(_STARTS_MAX):
        kora = launch(folder / f"start-{attempt}", *flags, **ports, **options)
        try:
            if _is_serving(kora, metrics):
                return kora
        except BaseException:
            kora.stop()
            raise
        output = kora.log + kora.stderr
        kora.stop()
        # Between the choice of a port and its use somebody else may have taken it.
        if "already in use" not in output:
            raise AssertionError(f"Kora did not start:\n{output}")
    raise AssertionError(f"no free port in {_STARTS_MAX} attempts")


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Poll until the condition holds, and return what it gave."""
    stop = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < stop, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return not _proc_status(pid, "State").startswith(("Z", "X"))
    except OSError:
        return False


def clean_environ() -> dict[str, str]:
    """The environment without settings of the developer's, and with this tree first on Python's path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KORA_") or name == "KORA_KERNEL"}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "LC_ALL": "C.UTF-8"}


def _is_serving(kora: KoraProcess, metrics: bool) -> bool:
    """False if it ended instead.  Waits for its own words: a port may be answered by somebody else."""
    stop = time.monotonic() + START_S_MAX
    while time.monotonic() < stop:
        if kora.process.poll() is not None:
            return False
        log = kora.log
        if " ready " in log or '"ready"' in log:
            if not metrics:
                return True
            if "sidecar listening" in log:
                # The first snapshot comes soon after; tests want to find it.
                eventually(lambda: kora.http("/health/ready")[0] == 200, "the sidecar says ready")
                return True
        time.sleep(0.005)
    raise AssertionError(f"Kora was not serving within {START_S_MAX:g} s:\n{kora.log}{kora.stderr}")


def prepare_child(open_files_max: int | None) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if open_files_max is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files_max, open_files_max))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _proc_status(pid: int, field: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip().removesuffix(" kB")
    raise AssertionError(field)


def _end_orphan(pid: int) -> None:
    """A sidecar ends by itself when its server has; one that does not is a bug, and is not left behind."""
    try:
        eventually(lambda: not is_running(pid), f"the sidecar {pid} ends after its server", timeout_s=8)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
