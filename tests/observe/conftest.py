"""Blocks of counters of each implementation: the reference's, and the kernel's where the suite runs on it."""

from collections.abc import Callable
from typing import Any

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.observe.shard_stats import ShardStats
from tests.store.stores import TESTED


@pytest.fixture(params=TESTED)
def make_stats(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """make_stats(commands, hot_keys_max)"""
    if request.param == "python":
        return ShardStats
    module = kernel.load()
    assert module is not None
    return lambda *sizes: module.Kernel(ManualClock()).make_stats(*sizes)
