"""Celery: a worker process takes tasks from Kora and leaves their results there."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import peers
from tests.e2e import workers
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.workers import APPLICATIONS, Worker

WAIT_S = 30.0


@contextlib.contextmanager
def worker_of(url: str, folder: Path, *flags: str) -> Iterator[Worker]:
    environ = {"KORA_TEST_URL": url}
    argv = ("celery", "-A", f"{APPLICATIONS}.celery_app", "worker", "--loglevel", "INFO", *flags)
    started = workers.start_python(folder, *argv, environ=environ)
    try:
        started.wait_for(" ready.")
        yield started
    finally:
        started.stop()


@pytest.fixture
def application(server: KoraProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    peers.peer_module("celery")
    monkeypatch.setenv("KORA_TEST_URL", url(server))
    # Again for each test: it reads the address when it is imported.
    module = importlib.reload(importlib.import_module(f"{APPLICATIONS}.celery_app"))
    yield module
    module.app.close()


def url(server: KoraProcess) -> str:
    return f"redis://127.0.0.1:{server.port}"


def test_celery_runs_tasks_chords_and_retries(server: KoraProcess, application: Any, tmp_path: Path) -> None:
    from celery import chain, chord, group

    add = application.add
    # Sent before there is a worker: by priority, of which kombu keeps a list each.
    early = [add.apply_async((number, number), priority=priority) for number, priority in ((1, 9), (2, 0), (3, 3))]
    with worker_of(url(server), tmp_path, "--pool", "prefork", "--concurrency", "2", "--without-mingle") as worker:
        assert [result.get(timeout=WAIT_S) for result in early] == [2, 4, 6]
        result = add.delay(2, 3)
        assert result.get(timeout=WAIT_S) == 5
        assert (result.state, result.args) == ("SUCCESS", [2, 3])

        failed = application.fail.delay("no such luck")
        with pytest.raises(ValueError, match="no such luck"):
            failed.get(timeout=WAIT_S)
        assert failed.state == "FAILURE"
        assert "no such luck" in failed.traceback

        assert application.flaky.delay().get(timeout=WAIT_S) == 2
        assert add.apply_async((4, 5), countdown=0.1).get(timeout=WAIT_S) == 9
        states: list[str] = []
        application.report.delay().get(timeout=WAIT_S, on_message=lambda body: states.append(body["status"]))
        assert states[-1] == "SUCCESS"

        numbers = group(add.s(number, number) for number in range(20))
        assert numbers.delay().get(timeout=WAIT_S) == [2 * number for number in range(20)]
        header = [add.s(number, 1) for number in range(20)]
        assert chord(header)(application.total.s()).get(timeout=WAIT_S) == sum(range(1, 21))
        assert chain(add.s(1, 2), add.s(3), chord([add.s(1), add.s(2)], application.total.s())).delay().get(
            timeout=WAIT_S
        ) == (6 + 1) + (6 + 2)
        broken = chord([add.s(1, 1), application.fail.s("header")])(application.total.s())
        with pytest.raises(Exception, match="header"):
            broken.get(timeout=WAIT_S)

        # Remote control goes over pub/sub, both ways.
        (answer,) = application.app.control.ping(timeout=WAIT_S, limit=1)
        assert list(answer.values()) == [{"ok": "pong"}]
        inspect = application.app.control.inspect(timeout=WAIT_S, limit=1)
        assert [sorted(names)[0] for names in inspect.registered().values()] == [f"{APPLICATIONS}.celery_app.add"]
        revoked = add.apply_async((1, 1), countdown=0.3)
        revoked.revoke()
        with pytest.raises(Exception, match="revoked"):
            revoked.get(timeout=WAIT_S)

        result.forget()
        assert result.state == "PENDING"
    # Whatever is wrong with the broker, the worker says so and goes on.
    assert "redis.exceptions" not in worker.log, worker.log
    assert "Connection to broker lost" not in worker.log, worker.log


def test_a_task_of_a_killed_celery_worker_goes_to_the_next(
    server: KoraProcess, application: Any, tmp_path: Path
) -> None:
    flags = ("--pool", "solo", "--without-mingle", "--without-gossip")
    with worker_of(url(server), tmp_path, *flags) as first:
        application.sleep.delay(1000)
        eventually(lambda: server.run("HLEN", "unacked") == 1, "the task is at work")
        first.kill()
    assert server.run("HLEN", "unacked") == 1
    with worker_of(url(server), tmp_path, *flags) as second:
        second.wait_for(f"Task {APPLICATIONS}.celery_app.sleep[")
        second.kill()
