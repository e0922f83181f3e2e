from collections.abc import Iterator

import pytest

from tests.sidecar.data_process import DataProcess


@pytest.fixture
def data_process() -> Iterator[DataProcess]:
    """A sidecar that waits for its settings."""
    started = DataProcess()
    yield started
    started.stop()


@pytest.fixture
def listening(data_process: DataProcess) -> DataProcess:
    """A sidecar that listens, beside a data loop whose heart beats."""
    data_process.beat()
    assert data_process.start() == ["listening"]
    data_process.beat()
    return data_process
