"""What tracing one request in a hundred costs the data process: CPU per command, with it off and on in turn.

As `observation` does it, which says how.  Spans go to the sidecar, and from there to nobody: no collector listens.
"""

from __future__ import annotations

from typing import Any, Final

import observation
import redis_benchmark
from redis_client import Client
from section import Bench, Table
from servers import Server, running
from targets import TRACING_PERCENT_MAX, Verdict

# A port that nobody listens on.
_NOBODY: Final = "http://127.0.0.1:9"


def measure(bench: Bench) -> dict[str, Any]:
    with running(bench.subject) as server:
        if server.recipe.has_observation:
            with server.client() as client:
                client.call("CONFIG", "SET", "tracing-endpoint", _NOBODY, "tracing-sample-ratio", "0.01")
        tests = [test for test in redis_benchmark.TESTS if test.name in observation.REQUESTS]
        results = [
            observation.compare(bench, server, test, pipeline, switch)
            for pipeline in observation.PIPELINES
            for test in tests
        ]
    return {"server": server.name, "is_switchable": server.recipe.has_observation, "results": results}


def switch(server: Server, client: Client, state: str) -> None:
    if server.recipe.has_observation:
        client.call("CONFIG", "SET", "tracing-enabled", state)


def tables(result: dict[str, Any]) -> list[Table]:
    return observation.tables(result, "tracing 1 %")


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    return observation.verdicts(result, "tracing 1 %", TRACING_PERCENT_MAX)
