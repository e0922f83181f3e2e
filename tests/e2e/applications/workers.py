"""Processes of applications that use Kora: started, looked at, and ended whatever happens."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from tests.e2e.kora_process import ROOT, clean_environ, eventually, prepare_child

APPLICATIONS: Final = "tests.e2e.applications"


class Worker:
    """A process in a group of its own, as workers fork."""

    def __init__(self, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self.process = process
        self._log_path = log_path

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Until its log says so."""
        try:
            eventually(lambda: text in self.log or self.process.poll() is not None, f"the worker says {text!r}", 30)
        except AssertionError:
            raise AssertionError(f"not said: {text!r}\n{self.log[-4000:]}") from None
        assert text in self.log, self.log[-4000:]

    def kill(self) -> None:
        """As a crash of the machine would, children included."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Politely, then by force."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout_s)
        self.kill()


def start_python(folder: Path, *argv: str, environ: Mapping[str, str] | None = None) -> Worker:
    """python -m argv, which finds tests.e2e.applications."""
    return start(folder, [sys.executable, "-W", "ignore", "-m", *argv], environ)


def start(folder: Path, argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Worker:
    log_path = folder / f"worker-{len(list(folder.glob('worker-*')))}"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**application_environ(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(prepare_child, None),
        )
    return Worker(process, log_path)


def application_environ() -> dict[str, str]:
    # What is loaded into Kora to find its mistakes (make sanitize) is no affair of an application's.
    return {name: value for name, value in clean_environ().items() if name != "LD_PRELOAD"}
