"""A Dramatiq application with results and rate limits: KORA_TEST_PORT is its server's."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as RateLimiterBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

PORT = int(os.environ.get("KORA_TEST_PORT", "1"))
broker = RedisBroker(host="127.0.0.1", port=PORT)
broker.add_middleware(Results(backend=RedisBackend(host="127.0.0.1", port=PORT)))
dramatiq.set_broker(broker)
mutex = ConcurrentRateLimiter(RateLimiterBackend(host="127.0.0.1", port=PORT), "mutex", limit=1)
attempts: list[int] = []


@dramatiq.actor(store_results=True)
def add(first: int, second: int) -> int:
    return first + second


@dramatiq.actor(store_results=True, max_retries=3, min_backoff=10, max_backoff=50)
def flaky() -> str:
    attempts.append(1)
    if len(attempts) < 3:
        raise ValueError("not yet")
    return "third time lucky"


@dramatiq.actor(max_retries=0)
def fail() -> None:
    raise ValueError("no such luck")


@dramatiq.actor(store_results=True)
def alone() -> str:
    with mutex.acquire():
        return "alone"
