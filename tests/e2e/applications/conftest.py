"""Real applications, unmodified, each doing a real job on a real Kora process."""

from collections.abc import Iterator

import pytest

from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess


@pytest.fixture(scope="session")
def session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KoraProcess]:
    """One Kora for all of them, since each start takes a second."""
    kora = kora_process.start(tmp_path_factory.mktemp("kora"))
    try:
        yield kora
    finally:
        kora.stop()


@pytest.fixture
def server(session_server: KoraProcess) -> Iterator[KoraProcess]:
    """The session's Kora, empty."""
    assert session_server.run("FLUSHALL") == b"OK"
    yield session_server
    session_server.assert_healthy_log()
