"""A Huey application with a priority queue and results that expire: KORA_TEST_PORT is its server's."""

import os
from typing import Any

from huey import PriorityRedisExpireHuey, crontab

huey = PriorityRedisExpireHuey("work", port=int(os.environ.get("KORA_TEST_PORT", "1")))


@huey.task()
def add(first: int, second: int) -> int:
    return first + second


@huey.task(retries=2, context=True)
def flaky(task: Any = None) -> int:
    if task.retries > 0:
        raise ValueError("not yet")
    return 3


@huey.lock_task("only-one")
def locked() -> str:
    return "locked"


@huey.task()
def take_lock() -> str:
    return locked()


@huey.periodic_task(crontab(minute="0", hour="0", day="1", month="1"))
def new_year() -> None:
    """So that its scheduler has something to ask for."""
