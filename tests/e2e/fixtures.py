"""The servers that end-to-end and fault tests use; each folder's conftest takes them from here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KoraProcess]:
    """One Kora with a sidecar for the tests of a module that leave it as they found it, but for keys."""
    kora = kora_process.start(tmp_path_factory.mktemp("kora"), metrics=True)
    try:
        yield kora
    finally:
        kora.stop()
    kora.assert_healthy_log()


@pytest.fixture
def server(shared_server: KoraProcess) -> KoraProcess:
    """The module's Kora, empty."""
    assert shared_server.run("FLUSHALL") == b"OK"
    return shared_server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., KoraProcess]]:
    """Koras with flags of a test's own: start_server("--maxclients", "3", metrics=True)."""
    started: list[KoraProcess] = []

    def start(*flags: str, **options: Any) -> KoraProcess:
        kora = kora_process.start(tmp_path / f"kora-{len(started)}", *flags, **options)
        started.append(kora)
        return kora

    try:
        yield start
    finally:
        for kora in started:
            kora.stop()
    for kora in started:
        kora.assert_healthy_log()


@pytest.fixture
def launch_server(tmp_path: Path) -> Iterator[Callable[..., KoraProcess]]:
    """Koras that are not waited for, since they are not expected to serve."""
    launched: list[KoraProcess] = []

    def launch(*flags: str, **options: Any) -> KoraProcess:
        kora = kora_process.launch(tmp_path / f"launched-{len(launched)}", *flags, **options)
        launched.append(kora)
        return kora

    try:
        yield launch
    finally:
        for kora in launched:
            kora.stop()
