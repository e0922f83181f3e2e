"""`kora-server` as it is typed: what it prints, where, and with which exit code, before any server runs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kora import __version__
from kora.cli.server import run
from kora.config import SETTINGS
from tests.e2e.kora_process import clean_environ

pytestmark = pytest.mark.once

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def serves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """The config that a server would get, or None if none is started."""

    def serves(*argv: str, environ: dict[str, str] | None = None) -> object:
        got: list[object] = []
        monkeypatch.setattr("kora.app.serve", lambda config: got.append(config) or 7)
        code = run(argv, environ or {})
        assert code == (7 if got else 1)
        return got[0] if got else None

    return serves


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_every_setting_with_its_default(flag: str, capsys: Capture) -> None:
    assert run([flag], {}) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: kora-server [FILE] [--setting value ...]\n")
    assert err == ""
    missing = [setting.flag for setting in SETTINGS if f"\n  {setting.flag} " not in out]
    assert not missing


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version_is_one_line(flag: str, capsys: Capture) -> None:
    assert run([flag], {}) == 0
    assert capsys.readouterr() == (f"Kora server v={__version__}\n", "")


def test_help_is_given_whatever_else_is_wrong(capsys: Capture) -> None:
    assert run(["--no-such-flag", "--help"], {}) == 0
    assert capsys.readouterr().err == ""


def test_a_wrong_flag_is_one_line_and_exit_code_1(capsys: Capture) -> None:
    assert run(["--maxmemroy", "1gb"], {}) == 1
    assert capsys.readouterr() == ("", "kora-server: unknown flag '--maxmemroy'; did you mean --maxmemory?\n")


def test_a_wrong_variable_is_one_line_and_exit_code_1(capsys: Capture) -> None:
    assert run([], {"KORA_SHARDS": "0"}) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "kora-server: environment variable KORA_SHARDS: shards must be an integer from 1 to 256, not '0'\n"


def test_a_wrong_file_is_one_line_with_the_place_and_exit_code_1(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('port = 7379\nmetrics-port = "many"\n')
    assert run([str(file)], {}) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        err == f"kora-server: {file}, line 2, column 1: metrics-port must be an integer from 0 to 65535, not 'many'\n"
    )


def test_flags_and_variables_reach_the_server(serves: Callable[..., object]) -> None:
    config = serves("--port", "7379", environ={"KORA_METRICS_PORT": "7390"})
    assert repr(config) == "Config(port='7379', metrics_port='7390')"


def test_a_mistake_starts_no_server(serves: Callable[..., object]) -> None:
    assert serves("--port", "many") is None


def test_a_mistake_is_told_before_a_server_is_loaded(tmp_path: Path) -> None:
    """An operator who corrects a file waits for the answer, not for asyncio and uvloop."""
    code = (
        "import sys; from kora.cli.server import run; code = run(['--port', 'many'], {});"
        "print(code, sorted({'uvloop', 'aiohttp', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=clean_environ(), check=True
    )
    assert done.stdout == "1 []\n"
    assert done.stderr == "kora-server: --port: port must be an integer from 0 to 65535, not 'many'\n"


def test_python_dash_m_kora_is_the_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kora", "--version"], capture_output=True, text=True, cwd=tmp_path, env=clean_environ()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Kora server v={__version__}\n", "")
