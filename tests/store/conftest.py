"""Stores of each implementation; see stores.py."""

from collections.abc import Callable

import pytest

from kora.clock import ManualClock
from tests.store.stores import TESTED, Store


@pytest.fixture(params=TESTED)
def implementation(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make_store(implementation: str) -> Callable[..., Store]:
    """make_store(clock)"""

    def make(clock: ManualClock | None = None) -> Store:
        return Store(implementation, clock)

    return make


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()
