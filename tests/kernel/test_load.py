"""Which implementation answers, and how one finds out."""

import importlib
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from tests.conftest import runner


def _failing_import(error: ImportError) -> Any:
    def fail(name: str) -> ModuleType:
        raise error

    return fail


def _run_module(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "KORA_KERNEL"}
    return subprocess.run(
        [sys.executable, "-m", "kora.kernel"],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("word", ["off", "OFF", "Off"])
def test_the_kernel_is_not_loaded_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("KORA_KERNEL", word)
    assert kernel.load() is None
    assert kernel.why_not() == "KORA_KERNEL is off"


@pytest.mark.parametrize("word", ["", "on", "1"])
def test_any_other_word_leaves_the_kernel_on(compiled: ModuleType, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("KORA_KERNEL", word)
    assert kernel.load() is compiled
    assert kernel.why_not() == ""


def test_a_kernel_that_was_not_built_is_no_error_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KORA_KERNEL", raising=False)
    monkeypatch.setattr(importlib, "import_module", _failing_import(ModuleNotFoundError("no such module")))
    assert kernel.load() is None
    assert kernel.why_not() == "it was not built: installing Kora found no C compiler, or no headers of Python"


def test_a_kernel_that_cannot_be_loaded_is_no_error_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KORA_KERNEL", raising=False)
    monkeypatch.setattr(importlib, "import_module", _failing_import(ImportError("undefined symbol: x")))
    assert kernel.load() is None
    assert kernel.why_not() == "it cannot be loaded: undefined symbol: x"


def test_the_module_run_as_a_program_says_that_the_kernel_is_there(compiled: ModuleType) -> None:
    done = _run_module()
    assert (done.returncode, done.stdout) == (0, "kora: compiled kernel\n"), done.stderr


def test_the_module_run_as_a_program_fails_where_python_answers() -> None:
    done = _run_module(KORA_KERNEL="off")
    assert done.returncode == 1, done.stderr
    assert "pure Python" in done.stdout and done.stdout.endswith("KORA_KERNEL is off\n")


def test_info_says_that_the_kernel_answers(compiled: ModuleType) -> None:
    assert _implementation_in_info(compiled) == b"compiled"


def test_info_says_that_python_answers() -> None:
    assert _implementation_in_info(None) == b"python"


def _implementation_in_info(module: ModuleType | None) -> bytes:
    engine = Engine(Config.load([], {}), make_registry(), ManualClock(), kernel=module)
    fields = dict(line.split(b":", 1) for line in runner(engine.connect())("INFO").split(b"\r\n") if b":" in line)
    name: bytes = fields[b"kernel"]
    return name
