"""One command holds the data loop: the sidecar still answers, and says which."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import Wire

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]


@contextmanager
def sleeping(wire: Wire, seconds: float) -> Iterator[threading.Event]:
    """DEBUG SLEEP by this client; the event is set when it has its reply."""
    over = threading.Event()

    def sleep() -> None:
        assert wire.run("DEBUG", "SLEEP", seconds) == b"OK"
        over.set()

    thread = threading.Thread(target=sleep)
    thread.start()
    try:
        yield over
    finally:
        thread.join()


def test_health_answers_while_the_loop_is_stuck_and_says_what_runs(start_server: Start) -> None:
    server = start_server("--loop-stall-ms", "500", metrics=True)
    with server.connect() as sleeper:
        sleeper_id = sleeper.run("CLIENT", "ID")
        statuses, seen = [], {}
        assert server.http("/health/live")[0] == 200
        with sleeping(sleeper, 3) as over:
            while not over.is_set():
                status, body = server.http("/health/live")
                statuses.append(status)
                answer = json.loads(body)
                if status == 503:
                    assert answer["status"] == "stuck", answer
                    seen = answer["running"]
                    assert seen is not None, answer
                    if seen["command"] is None:
                        # It has ended this moment, and the loop has not turned since.
                        assert answer["loop"]["stuck_ms"] > 2900, answer
                        continue
                    # One command to all of Redis' tables, DEBUG may be shown with or without its subcommand.
                    assert seen["command"] in ("debug", "debug|sleep"), answer
                    assert seen["client"] == sleeper.address, answer
                    assert seen["client_id"] == sleeper_id, answer
                time.sleep(0.01)
        assert seen, "it was never called stuck"
        assert seen["elapsed_ms"] > 1000
        assert statuses.count(503) > 1, "it answers again and again meanwhile"
        # 200, then 503 once the loop has been stuck for loop-stall-ms, then 200 again.
        first_503 = statuses.index(503)
        last_503 = len(statuses) - 1 - statuses[::-1].index(503)
        assert set(statuses[first_503 : last_503 + 1]) == {503}
        eventually(lambda: server.http("/health/live")[0] == 200, "alive again")
        assert json.loads(server.http("/health/live")[1])["running"] is None
        assert server.http("/health/ready")[0] == 200


def test_metrics_and_status_answer_from_the_last_snapshot_while_the_loop_is_stuck(start_server: Start) -> None:
    server = start_server("--loop-stall-ms", "300", metrics=True)
    server.run("MSET", "a", "1", "b", "2")
    assert "\nkora_keys_total 2" in server.http("/metrics")[1]
    with server.connect() as sleeper:
        assert sleeper.run("PING") == b"PONG"
        with sleeping(sleeper, 3) as over:
            eventually(lambda: server.http("/health/live")[0] == 503, "stuck")
            status, text = server.http("/metrics")
            shown = json.loads(server.http("/status")[1])
            assert not over.is_set(), "the pages came only after the command had ended"
    assert status == 200
    assert "\nkora_keys_total 2" in text
    assert shown["keys"] == 2
    assert shown["live"] == "stuck"
    assert shown["snapshot_age_ms"] > 0
    server.run("SET", "c", "3")
    # What was asked for while the loop was stuck may still be on its way, and until then is what there is.
    eventually(lambda: "\nkora_keys_total 3" in server.http("/metrics")[1], "a fresh snapshot")


def test_a_command_that_is_short_enough_alarms_nobody(start_server: Start) -> None:
    server = start_server("--loop-stall-ms", "5000", metrics=True)
    with server.connect() as sleeper, sleeping(sleeper, 0.7) as over:
        while not over.is_set():
            assert server.http("/health/live")[0] == 200
            time.sleep(0.02)
