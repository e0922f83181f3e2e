"""A Celery application: KORA_TEST_URL is its broker and its result backend."""

import os
import time
from typing import Any

from celery import Celery, Task

URL = os.environ.get("KORA_TEST_URL", "")

app = Celery("kora", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(
    broker_connection_retry_on_startup=False,
    # How soon another worker takes what one has in hand: for the test of one that dies, at once.
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("KORA_TEST_VISIBILITY_S", "3600")),
        "polling_interval": 0.1,
        "unacked_restore_interval": 0.2,
        "unacked_restore_throttle": 1,
    },
    result_extended=True,
    task_acks_late=True,
    task_track_started=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
)


@app.task
def add(first: int, second: int) -> int:
    return first + second


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(bind=True, max_retries=3)
def flaky(self: "Task[Any, Any]") -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@app.task(bind=True)
def report(self: "Task[Any, Any]") -> str:
    self.update_state(state="HALF", meta={"done": 50})
    return "reported"


@app.task(ignore_result=True)
def sleep(seconds: float) -> None:
    time.sleep(seconds)
