"""Fixtures for tests through the front door: requests in, replies out, no socket, and a clock that stands still."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.client import Client
from kora.engine.engine import Engine
from kora.errors import CommandError
from tests.resp_reader import read_replies

# Random programs are the same ones each time, so that a failure is found by everybody; KORA_LONG=1 takes many times
# as many, and new ones.  No test asserts on times, so none has a deadline.
LONG = bool(os.environ.get("KORA_LONG"))
# Whether all keys of these engines are in a store, and in memory only while a request runs.
STORED = os.environ.get("KORA_TEST_STORAGE") == "rocksdb"
if STORED:
    from tests.engines.stored import NOT_IN_STORES, keeper_for, put_into_store
settings.register_profile(
    "kora",
    deadline=None,
    derandomize=not LONG,
    max_examples=2000 if LONG else 100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("kora")


# Where the environment wants no byte code beside the sources, each of the hundreds of servers that tests start would
# compile all of them, which is as much again as a start takes, and each process of pytest all tests.  So it is kept
# elsewhere.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / "build" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is said of the reference alone need not be said again beside the kernel."""
    for item in items:
        if STORED and (reason := NOT_IN_STORES.get(item.name.partition("[")[0])):
            item.add_marker(pytest.mark.skip(reason=reason))
        if (
            isinstance(item, pytest.Function)
            and hasattr(item, "callspec")
            and "python" in item.callspec.params.values()
        ):
            item.add_marker("once")


def pytest_collection_finish() -> None:
    """Have the garbage collector look at less, and less often: each test leaves an engine, which is made of rings."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make_engine(clock: ManualClock, request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """Engines with settings given as flags: make_engine("--databases", "4")."""
    made = 0

    def make(*flags: str) -> Engine:
        nonlocal made
        engine = Engine(Config.load([*flags], {}), make_registry(), clock, kernel=kernel.load())
        if STORED:
            put_into_store(engine, beside=made, keeper=keeper_for(request.node.name))
            made += 1
        return engine

    return make


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()


@pytest.fixture
def client(engine: Engine) -> Client:
    return engine.connect("127.0.0.1:50000", "127.0.0.1:6379")


class Session:
    """A client with whoever holds its socket: replies to its requests, and what comes later or by itself."""

    def __init__(self, engine: Engine) -> None:
        self.client = engine.connect("127.0.0.1:50001", "127.0.0.1:6379")
        self._data = bytearray()
        self.client.deliver = self._data.extend
        self.client.kick = self._go_on

    def send(self, *words: object) -> Any:
        """The replies to one request: none if it waits, several for SUBSCRIBE.  Errors are CommandErrors."""
        engine = self.client.engine
        engine.tick()
        return read_replies(engine.execute(self.client, encode_request(words)))

    def received(self) -> Any:
        """What has come since the last look without being asked for: messages, replies of commands that waited."""
        self.client.engine.tick()
        data = bytes(self._data)
        self._data.clear()
        return read_replies(data)

    def _go_on(self) -> None:
        while self.client.more and not self.client.parked:
            self._data.extend(self.client.engine.resume(self.client))


@pytest.fixture
def connect(engine: Engine) -> Callable[[], Session]:
    return lambda: Session(engine)


@pytest.fixture
def run(client: Client) -> Callable[..., Any]:
    return runner(client)


def encode_request(words: tuple[object, ...]) -> bytes:
    argv = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(argv) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in argv)


def runner(client: Client) -> Callable[..., Any]:
    """run("GET", "k"): one request through execute(), its reply as plain Python.

    Statuses are str, bulks bytes, errors are raised as CommandError; RESP3 maps are dicts.
    """

    def run(*words: object) -> Any:
        client.engine.tick()
        replies = read_replies(client.engine.execute(client, encode_request(words)))
        assert len(replies) == 1, replies
        if isinstance(replies[0], CommandError):
            raise replies[0]
        return replies[0]

    return run
