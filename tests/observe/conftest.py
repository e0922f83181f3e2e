"""Blocks of counters of each implementation: the reference's, and the kernel's where the suite runs on it."""

from collections.abc import Callable
from typing import Any

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.observe.hotkeys import HotKeys
from kora.observe.shard_stats import ShardStats
from tests.store.stores import TESTED


@pytest.fixture(params=TESTED)
def make_stats(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """make_stats(commands)"""
    if request.param == "python":
        return ShardStats
    module = kernel.load()
    assert module is not None
    return lambda *sizes: module.Kernel(ManualClock()).make_stats(*sizes)


@pytest.fixture(params=TESTED)
def make_hot_keys(request: pytest.FixtureRequest) -> Callable[[], Any]:
    if request.param == "python":
        return HotKeys
    module = kernel.load()
    assert module is not None
    return lambda: module.Kernel(ManualClock()).make_hot_keys()
