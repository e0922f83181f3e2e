"""What RQ's worker is asked to do."""

import time
from typing import Any

from redis import Redis
from rq import get_current_job


def add(first: int, second: int) -> int:
    return first + second


def fail(text: str) -> None:
    raise ValueError(text)


def flaky() -> str:
    job = get_current_job()
    assert job is not None
    job.meta["attempts"] = job.meta.get("attempts", 0) + 1
    job.save_meta()
    if job.meta["attempts"] < 3:
        raise ValueError("not yet")
    return "third time lucky"


def total_of_dependencies() -> int:
    job = get_current_job()
    assert job is not None
    return sum(dependency.return_value() for dependency in job.fetch_dependencies())


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def tell(job: Any, connection: "Redis[bytes]", result: Any) -> None:
    """A callback of success."""
    connection.rpush("told", result)
