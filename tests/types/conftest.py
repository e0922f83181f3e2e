"""`make_value(Hash)`: an empty value of a kind, of each implementation that has a class for it."""

from collections.abc import Callable
from typing import Any

import pytest

from kora.types.limits import Limits
from tests.store.stores import TESTED, Store


@pytest.fixture
def limits() -> Limits:
    """Where compact encodings end; a test that changes them does so before it makes a value."""
    return Limits()


@pytest.fixture(params=TESTED)
def make_value(request: pytest.FixtureRequest, limits: Limits) -> Callable[[type], Any]:
    store = Store(request.param, limits=limits)
    return store.db.make
