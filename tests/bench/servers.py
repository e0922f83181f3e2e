"""Starting and stopping the two servers: a Recipe says how, running() lends a Server for the length of a `with`."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import processes
from redis_client import Client, ServerError

ROOT: Final = Path(__file__).resolve().parents[2]
START_S_MAX: Final = 30.0
SIDECAR_S_MAX: Final = 5.0
CLIENTS_MAX: Final = 15_000


class StartFailure(Exception):
    """A server that ended or stayed silent instead of answering PING; the text has the end of its output."""


@dataclass(frozen=True)
class Recipe:
    """How to start one server.  `{port}`, `{metrics_port}` and `{events_port}` in argv are filled in at each start."""

    name: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()  # beside ours
    has_metrics: bool = False
    has_observation: bool = False


@dataclass(frozen=True)
class Server:
    recipe: Recipe
    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    events_port: int
    start_s: float  # exec to first PONG

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self) -> contextlib.closing[Client]:
        """For `with server.client() as client:`."""
        return contextlib.closing(Client(self.port))


def redis_recipe(name: str = "redis") -> Recipe:
    program = shutil.which("redis-server") or "redis-server"
    quiet = ("--save", "", "--appendonly", "no", "--loglevel", "warning")
    return Recipe(name, (program, "--port", "{port}", "--bind", "127.0.0.1", "--maxclients", str(CLIENTS_MAX), *quiet))


def kora_recipe(extra: tuple[str, ...] = (), kernel: str | None = None) -> Recipe:
    """kernel is KORA_KERNEL; None leaves it as our own environment has it.  It becomes part of the server's name."""
    argv = (
        sys.executable,
        "-m",
        "kora",
        "--port",
        "{port}",
        "--metrics-port",
        "{metrics_port}",
        "--events-port",
        "{events_port}",
    )
    wanted = os.environ.get("KORA_KERNEL", "") if kernel is None else kernel
    return Recipe(
        f"kora({wanted})" if wanted else "kora",
        (*argv, "--save", "", "--log-format", "text", *extra),
        environment=() if kernel is None else (("KORA_KERNEL", kernel),),
        has_metrics=True,
        has_observation=True,
    )


@contextlib.contextmanager
def running(recipe: Recipe) -> Iterator[Server]:
    """A fresh server on free loopback ports, in an empty directory, taken down with all its processes at the end."""
    with tempfile.TemporaryDirectory(prefix="kora-bench-") as folder:
        port, metrics_port, events_port = free_ports()
        ports = {"port": port, "metrics_port": metrics_port, "events_port": events_port}
        argv = [part.format(**ports) for part in recipe.argv]
        output_path = Path(folder) / "output"
        with output_path.open("wb") as output:
            # The tree is put on the path, since the server runs in a folder of its own: it leaves nothing behind here.
            path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
            start = time.monotonic()
            process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, **dict(recipe.environment)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=processes.prepare_child,  # safe: there are no threads here
            )
        try:
            if not answers_ping(port, process):
                fate = "ended" if has_ended(process) else f"did not answer PING within {START_S_MAX:.0f} s"
                tail = output_path.read_text(errors="replace")[-2000:]
                raise StartFailure(f"{recipe.name} {fate}; its output:\n{tail}")
            server = Server(recipe, process, port, metrics_port, events_port, time.monotonic() - start)
            if recipe.has_metrics:
                wait_for_sidecar(metrics_port)
            yield server
        finally:
            stop(process)


def free_ports() -> tuple[int, int, int]:
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for probe in (first, second, third):
            probe.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1], third.getsockname()[1]


def answers_ping(port: int, process: subprocess.Popen[bytes]) -> bool:
    give_up_at = time.monotonic() + START_S_MAX
    while time.monotonic() < give_up_at and not has_ended(process):
        with contextlib.suppress(OSError, ServerError), contextlib.closing(Client(port, timeout_s=5)) as client:
            if client.call("PING") == b"PONG":
                return True
        # Often enough to resolve a millisecond, seldom enough to leave the CPU to the server.
        time.sleep(0.001)
    return False


def wait_for_sidecar(port: int) -> None:
    """It starts beside the server and takes longer: until it answers, memory and CPU time still rise on their own."""
    give_up_at = time.monotonic() + SIDECAR_S_MAX
    while time.monotonic() < give_up_at:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SIDECAR_S_MAX)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/metrics")
            connection.getresponse().read()
            return
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, a second one for a server that drains for long, then SIGKILL for whatever is left of its processes."""
    try:
        for wait_s in (3.0, 2.0):
            if has_ended(process):
                break
            os.kill(process.pid, signal.SIGTERM)
            give_up_at = time.monotonic() + wait_s
            while time.monotonic() < give_up_at and not has_ended(process):
                time.sleep(0.005)
    finally:
        # The group is the one we made at the start.  Its number is still ours, since nobody has reaped the server yet.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without reaping it, so that its process id stays taken; unlike poll()."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
