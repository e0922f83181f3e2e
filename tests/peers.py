"""The programs and libraries of others that tests hold Kora against: redis-server, prometheus, Celery, Node and so on."""

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
NODE_MODULES: Final = ROOT / "build" / "node" / "node_modules"
NODE_VERSION_MIN: Final = 18

# Debian's package of each program, for the advice in the message.
_PACKAGES: Final = {
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
}


def peer(program: str) -> str:
    """The program's path; without it the test is skipped, or fails where KORA_REQUIRE_PEERS=1 promises it is there."""
    path = shutil.which(program)
    if path is not None:
        return path
    _do_without(program, f"apt-get install {_PACKAGES.get(program, program)}")


def peer_module(name: str) -> ModuleType:
    """A library of the extra `apps`, imported; dealt with like a program where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _do_without(name, 'pip install -e ".[apps]"')


def node() -> tuple[str, Path]:
    """Node and the folder of the packages that it is to find: those of tests/e2e/applications/node, which make has installed."""
    # The one beside Python comes with the extra `apps`; another will do.
    program = shutil.which("node", path=str(Path(sys.executable).parent)) or peer("node")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE_VERSION_MIN:
        _do_without(f"node {NODE_VERSION_MIN}", 'pip install -e ".[apps]"')
    if not (NODE_MODULES.parent / "installed").exists():
        _do_without(
            "tests/e2e/applications/node/package.json", f"make {(NODE_MODULES.parent / 'installed').relative_to(ROOT)}"
        )
    return program, NODE_MODULES


def _do_without(what: str, remedy: str) -> NoReturn:
    reason = f"{what.upper()} IS NOT INSTALLED, so this was not tested: {remedy}"
    if os.environ.get("KORA_REQUIRE_PEERS") == "1":
        pytest.fail(f"{reason} (KORA_REQUIRE_PEERS=1 forbids to skip)")
    pytest.skip(reason)
