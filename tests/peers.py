"""The programs and libraries of others that tests hold Kora against: redis-server, Prometheus, Celery, Node …"""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final, NoReturn

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
# What the Makefile leaves when it has installed PACKAGES, which Debian's Node 18 runs.
NODE_INSTALLED: Final = "build/node/installed"
NODE_VERSION_MIN: Final = 18
PACKAGES: Final = "tests/e2e/applications/node/package.json"

# Debian's package of each program, for the advice in the message.
_PACKAGES: Final = {
    "chromium": "chromium",
    "go": "golang-go",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "redis-check-rdb": "redis-tools",
    "redis-server": "redis-server",
}


def peer(program: str) -> str:
    """The program's path; without it the test is skipped, or fails where KORA_REQUIRE_PEERS=1 promises it is there."""
    return shutil.which(program) or _do_without(program, f"apt-get install {_PACKAGES.get(program, program)}")


def peer_module(name: str) -> ModuleType:
    """A library of the extra `apps`, imported; dealt with like a program where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return _do_without(name, 'pip install -e ".[apps]"')


def node() -> tuple[str, Path]:
    """Node, and the folder of the packages that it is to find: those of PACKAGES, which make has installed."""
    # The one beside Python comes with the extra `apps`; another will do.
    program = shutil.which("node", path=str(Path(sys.executable).parent)) or peer("node")
    environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # of make sanitize
    version = subprocess.run([program, "--version"], env=environ, capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE_VERSION_MIN:
        _do_without(f"node {NODE_VERSION_MIN}", 'pip install -e ".[apps]"')
    if not (ROOT / NODE_INSTALLED).exists():
        _do_without(PACKAGES, f"make {NODE_INSTALLED}")
    return program, (ROOT / NODE_INSTALLED).parent / "node_modules"


def _do_without(what: str, remedy: str) -> NoReturn:
    reason = f"{what.upper()} IS NOT INSTALLED, so this was not tested: {remedy}"
    if os.environ.get("KORA_REQUIRE_PEERS") == "1":
        pytest.fail(f"{reason} (KORA_REQUIRE_PEERS=1 forbids to skip)")
    pytest.skip(reason)
