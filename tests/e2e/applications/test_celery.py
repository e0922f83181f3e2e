"""Celery: a producer and a worker process with Kora as their broker and result backend."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests import peers
from tests.e2e.applications import workers
from tests.e2e.applications.workers import APPLICATIONS, Worker
from tests.e2e.kora_process import KoraProcess, eventually

APP = f"{APPLICATIONS}.celery_app"


@contextlib.contextmanager
def celery(server: KoraProcess, folder: Path, *flags: str, **settings: str) -> Iterator[Worker]:
    peers.peer_module("celery")
    argv = ("celery", "-A", APP, "worker", "--loglevel", "INFO", "--without-mingle", *flags)
    started = workers.start_python(folder, *argv, environ={**environ(server), **settings})
    try:
        started.wait_for(" ready.")
        yield started
    finally:
        started.stop()


def environ(server: KoraProcess) -> dict[str, str]:
    return {"KORA_TEST_URL": f"redis://127.0.0.1:{server.port}"}


def test_celery_runs_tasks_chords_and_retries(server: KoraProcess, tmp_path: Path) -> None:
    with celery(server, tmp_path, "--pool", "prefork", "--concurrency", "2") as worker:
        producer = workers.start_python(tmp_path, f"{APPLICATIONS}.celery_producer", environ=environ(server))
        try:
            assert producer.process.wait(60) == 0, producer.log + worker.log
        finally:
            producer.kill()
    # Behind it Celery may complain of an interpreter that is ending.
    assert json.loads(producer.log.splitlines()[0]) == {
        "result": [5, "SUCCESS", [2, 3]],
        "failed": ["no such luck", "FAILURE", True],
        "retries": 2,
        "delayed": 9,
        "by priority": [10, 1, 4],
        "last state": "SUCCESS",
        "group": [2 * number for number in range(20)],
        "chord": sum(range(1, 21)),
        "chain": (6 + 1) + (6 + 2),
        "broken chord": True,
        "pong": [[{"ok": "pong"}]],
        "registered": [6],
        "revoked": "revoked",
        "forgotten": "PENDING",
    }
    # Whatever is wrong with the broker, the worker says so and goes on.
    assert "redis.exceptions" not in worker.log, worker.log
    assert "Connection to broker lost" not in worker.log, worker.log


def test_a_task_of_a_killed_celery_worker_goes_to_the_next(server: KoraProcess, tmp_path: Path) -> None:
    flags = ("--pool", "solo", "--without-gossip")
    argv = ("celery", "-A", APP, "call", f"{APP}.sleep", "--args", "[1000]")
    producer = workers.start_python(tmp_path, *argv, environ=environ(server))
    with celery(server, tmp_path, *flags) as first:
        eventually(lambda: server.run("HLEN", "unacked") == 1, "the task is at work", 30)
        first.kill()
    producer.stop()
    assert server.run("HLEN", "unacked") == 1
    with celery(server, tmp_path, *flags, KORA_TEST_VISIBILITY_S="0.1") as second:
        second.wait_for(f"Task {APP}.sleep[")
        second.kill()
