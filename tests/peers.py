"""The programs of others that tests hold Kora against: redis-server, redis-cli, prometheus and so on, from Debian."""

import os
import shutil
from typing import Final

import pytest

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
    package = _PACKAGES.get(program, program)
    reason = f"{program.upper()} IS NOT INSTALLED, so this was not tested: apt-get install {package}"
    if os.environ.get("KORA_REQUIRE_PEERS") == "1":
        pytest.fail(f"{reason} (KORA_REQUIRE_PEERS=1 forbids to skip)")
    pytest.skip(reason)
