"""Gives the worker of celery_app tasks of every kind, and prints what came of them.

usage: python -m tests.e2e.applications.celery_producer  (KORA_TEST_URL as for celery_app)
"""

import json
from collections.abc import Callable
from typing import Any

from celery import chain, chord, group

from tests.e2e.applications.celery_app import add, app, fail, flaky, report, total

WAIT_S = 30.0


def main() -> None:
    told: dict[str, Any] = {}
    result = add.delay(2, 3)
    told["result"] = [wait(result), result.state, result.args]
    failed = fail.delay("no such luck")
    told["failed"] = [failure(lambda: wait(failed)), failed.state, "no such luck" in failed.traceback]
    told["retries"] = wait(flaky.delay())
    told["delayed"] = wait(add.apply_async((4, 5), countdown=0.1))
    # kombu keeps a list for each priority.
    told["by priority"] = [wait(add.apply_async((number, 1), priority=number)) for number in (9, 0, 3)]
    states: list[str] = []
    report.delay().get(timeout=WAIT_S, on_message=lambda body: states.append(body["status"]))
    told["last state"] = states[-1]

    told["group"] = wait(group(add.s(number, number) for number in range(20)).delay())
    told["chord"] = wait(chord([add.s(number, 1) for number in range(20)])(total.s()))
    told["chain"] = wait(chain(add.s(1, 2), add.s(3), chord([add.s(1), add.s(2)], total.s())).delay())
    # The failure is the task's own or the chord's, as it happens to be noticed first.
    told["broken chord"] = "header" in failure(lambda: wait(chord([add.s(1, 1), fail.s("header")])(total.s())))

    # Remote control goes over pub/sub, both ways.
    told["pong"] = [list(answer.values()) for answer in app.control.ping(timeout=WAIT_S, limit=1)]
    inspect = app.control.inspect(timeout=WAIT_S, limit=1)
    told["registered"] = [len(names) for names in inspect.registered().values()]
    revoked = add.apply_async((1, 1), countdown=0.3)
    revoked.revoke()
    told["revoked"] = failure(lambda: wait(revoked))
    result.forget()
    told["forgotten"] = result.state
    print(json.dumps(told))


def wait(result: Any) -> Any:
    return result.get(timeout=WAIT_S)


def failure(act: Callable[[], object]) -> str:
    try:
        act()
    except Exception as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
