"""RQ: a worker process with a scheduler takes jobs from Kora, and leaves results, failures and heartbeats there."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from tests import peers
from tests.e2e.applications import workers
from tests.e2e.applications.workers import APPLICATIONS, Worker
from tests.e2e.kora_process import KoraProcess, eventually

JOBS = f"{APPLICATIONS}.rq_jobs"


@pytest.fixture
def worker(server: KoraProcess, tmp_path: Path) -> Iterator[Worker]:
    peers.peer_module("rq")
    argv = ("rq.cli", "worker", "--url", f"redis://127.0.0.1:{server.port}", "--with-scheduler", "urgent", "default")
    started = workers.start_python(tmp_path, *argv)
    try:
        yield started
    finally:
        started.stop()


def test_rq_runs_fails_retries_and_schedules_jobs(server: KoraProcess, worker: Worker) -> None:
    from rq import Callback, Queue, Repeat, Retry, Worker
    from rq.command import send_stop_job_command
    from rq.exceptions import DuplicateJobError

    with redis.Redis(port=server.port) as connection:
        queue = Queue(connection=connection)

        def ended(job: Any) -> str:
            return str(
                eventually(lambda: job.is_finished or job.is_failed or job.is_stopped, f"{job} ends", 30)
            ) and str(job.get_status().value)

        # What is to be later is asked for first, so that the rest happens meanwhile.
        later = queue.enqueue_in(timedelta(milliseconds=500), f"{JOBS}.add", 20, 22)
        assert later.get_status().value == "scheduled"
        retried = queue.enqueue(f"{JOBS}.flaky", retry=Retry(max=3, interval=[0, 1]))
        repeated = queue.enqueue(f"{JOBS}.add", 1, 1, repeat=Repeat(times=2))

        job = queue.enqueue(f"{JOBS}.add", 2, 3, on_success=Callback(f"{JOBS}.tell"))
        assert ended(job) == "finished"
        assert job.return_value() == 5
        assert connection.lrange("told", 0, -1) == [b"5"]
        first = queue.enqueue(f"{JOBS}.add", 1, 2)
        second = Queue("urgent", connection=connection).enqueue(f"{JOBS}.add", 3, 4)
        both = queue.enqueue(f"{JOBS}.total_of_dependencies", depends_on=[first, second])
        assert ended(both) == "finished"
        assert both.return_value() == 10

        failed = queue.enqueue(f"{JOBS}.fail", "no such luck")
        assert ended(failed) == "failed"
        assert "no such luck" in failed.latest_result().exc_string
        assert failed.id in queue.failed_job_registry
        queue.failed_job_registry.requeue(failed.id)
        eventually(lambda: len(failed.results()) == 2, "the job fails again")
        only = queue.enqueue(f"{JOBS}.add", 1, 1, job_id="only-once", unique=True)
        with pytest.raises(DuplicateJobError):
            queue.enqueue(f"{JOBS}.add", 1, 1, job_id="only-once", unique=True)
        assert ended(only) == "finished"

        endless = queue.enqueue(f"{JOBS}.sleep", 1000)
        eventually(lambda: endless.is_started, "the endless job starts")
        send_stop_job_command(connection, endless.id)
        assert ended(endless) == "stopped"

        assert ended(later) == "finished"
        assert later.return_value() == 42
        assert ended(retried) == "finished"
        assert retried.get_meta()["attempts"] == 3
        eventually(lambda: len(repeated.results()) == 3, "the job is repeated")
        (seen,) = Worker.all(connection=connection)
        assert seen.queue_names() == ["urgent", "default"]
        assert seen.successful_job_count >= 8
        assert queue.count == 0
        worker.stop()
        assert Worker.all(connection=connection) == []
    assert "redis.exceptions" not in worker.log, worker.log
