"""Huey and Dramatiq: the one keeps its tasks in sorted sets, the other in what one long Lua script does."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import peers
from tests.e2e.applications import workers
from tests.e2e.applications.workers import APPLICATIONS
from tests.e2e.kora_process import KoraProcess, eventually

WAIT_S = 30


@pytest.fixture
def load(server: KoraProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Any]:
    def load(library: str, name: str) -> Any:
        peers.peer_module(library)
        monkeypatch.setenv("KORA_TEST_PORT", str(server.port))
        # Again for each test: it reads the port when it is imported.
        return importlib.reload(importlib.import_module(f"{APPLICATIONS}.{name}"))

    return load


def test_huey_runs_delays_retries_and_locks(server: KoraProcess, load: Callable[..., Any], tmp_path: Path) -> None:
    application = load("huey", "huey_app")
    huey, add = application.huey, application.add
    early = [add.schedule((number, number), delay=0, priority=number) for number in range(5)]
    argv = ("huey.bin.huey_consumer", f"{APPLICATIONS}.huey_app.huey", "--workers", "2", "--scheduler-interval", "1")
    worker = workers.start_python(tmp_path, *argv, environ={"KORA_TEST_PORT": str(server.port)})
    try:
        later = add.schedule((20, 22), delay=0.5)
        assert [result.get(blocking=True, timeout=WAIT_S) for result in early] == [0, 2, 4, 6, 8]
        assert add(2, 3).get(blocking=True, timeout=WAIT_S) == 5
        flaky = application.flaky()
        # Each attempt leaves its result, and the first is a failure.
        eventually(lambda: outcome(flaky) == 3, "the task is tried again", WAIT_S)
        assert application.take_lock().get(blocking=True, timeout=WAIT_S) == "locked"
        pipeline = add.s(1, 2).then(add, 10).then(add, 100)
        assert huey.enqueue(pipeline).get(blocking=True, timeout=WAIT_S) == [3, 13, 113]
        revoked = add.schedule((1, 1), delay=100)
        revoked.revoke()
        assert revoked.is_revoked()
        assert later.get(blocking=True, timeout=WAIT_S) == 42
        assert huey.pending_count() == 0
    finally:
        worker.kill()
    assert "redis.exceptions" not in worker.log, worker.log


def outcome(result: Any) -> Any:
    """What is there, if anything: a result, or the text of a failure."""
    try:
        return result.get()
    except Exception as error:
        assert "not yet" in str(error)
        result.reset()
        return None


def test_dramatiq_runs_delays_and_retries(server: KoraProcess, load: Callable[..., Any], tmp_path: Path) -> None:
    application = load("dramatiq", "dramatiq_app")
    from dramatiq import group

    argv = ("dramatiq", f"{APPLICATIONS}.dramatiq_app", "--processes", "1", "--threads", "2")
    worker = workers.start_python(tmp_path, *argv, environ={"KORA_TEST_PORT": str(server.port)})
    wait_ms = WAIT_S * 1000
    try:
        later = application.add.send_with_options(args=(20, 22), delay=300)
        assert application.add.send(2, 3).get_result(block=True, timeout=wait_ms) == 5
        assert application.flaky.send().get_result(block=True, timeout=wait_ms) == "third time lucky"
        assert application.alone.send().get_result(block=True, timeout=wait_ms) == "alone"
        sums = group(application.add.message(number, number) for number in range(50)).run()
        assert list(sums.get_results(block=True, timeout=wait_ms)) == [2 * number for number in range(50)]
        chain = application.add.message(1, 2) | application.add.message(10)
        assert chain.run().get_result(block=True, timeout=wait_ms) == 13
        application.fail.send()
        # A message that cannot be done is kept among the dead.
        eventually(lambda: server.run("ZCARD", "dramatiq:default.XQ") == 1, "the message is dead")
        assert later.get_result(block=True, timeout=wait_ms) == 42
        application.broker.join("default", timeout=wait_ms)
    finally:
        worker.stop()
        application.broker.close()
    assert "redis.exceptions" not in worker.log, worker.log
