"""Fixtures for tests of files: engines whose files are in a folder of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kora.clock import ManualClock
from kora.engine.engine import Engine
from kora.persist.saving import Saver
from kora.persist.snapshots import Snapshots


@pytest.fixture
def clock() -> ManualClock:
    clock = ManualClock()
    clock.advance_ms(1_700_000_000_000 - clock.wall_ms())
    return clock


@pytest.fixture
def make_saving(make_engine: Callable[..., Engine], tmp_path: Path) -> Callable[..., Engine]:
    """Engines that have files: engine.saves is the real one, with the saver in engine.saves.saver."""

    def make(*flags: str, folder: Path = tmp_path, saver: type[Saver] = Saver) -> Engine:
        engine = make_engine("--dir", str(folder), "--save", "", *flags)
        engine.saves = Snapshots(engine, saver(engine))
        return engine

    return make


@pytest.fixture
def engine(make_saving: Callable[..., Engine]) -> Engine:
    return make_saving()
