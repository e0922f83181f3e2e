"""`make_value(Hash)`: an empty value of a kind, of each implementation.  And the redis-server to compare with."""

from collections.abc import Callable
from typing import Any

import pytest

from kora.types.limits import Limits
from tests.compat.peers import redis
from tests.store.stores import TESTED, Store

__all__ = ["redis"]


@pytest.fixture
def limits() -> Limits:
    """Where compact encodings end; a test that changes them does so before it makes a value."""
    return Limits()


@pytest.fixture(params=TESTED)
def make_value(request: pytest.FixtureRequest, limits: Limits) -> Callable[[type], Any]:
    # A store for each value: the kernel takes the limits over when its engine is made, or told of new ones.
    return lambda kind: Store(request.param, limits=limits).db.make(kind)
