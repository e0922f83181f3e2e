"""Events as Kilometric's users know them: tracked over HTTP, read back as series, and counted exactly."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.kora_process import KoraProcess, eventually
from tests.ports import free_port

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]

CONNECTIONS = 100
# As many as it takes where KORA_LONG asks for it.
EVENTS = 1_000_000 if os.environ.get("KORA_LONG") else 50_000


@pytest.fixture
def kora(start_server: Start) -> KoraProcess:
    return start_server("--save", "", metrics=True, events=True)


def get(kora: KoraProcess, path: str) -> tuple[int, str, Any]:
    """As curl would: status, content type and body, which is JSON if there is any."""
    url = f"http://127.0.0.1:{kora.events_port}{path}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as answer:
        body = answer.read()
        return answer.status, answer.headers["Content-Type"], json.loads(body) if body else None


def values(kora: KoraProcess, key: str, kind: str = "counter", **more: object) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"key": key, "type": kind, **more})
    status, content_type, answer = get(kora, f"/read?{query}")
    assert (status, content_type, answer["name"]) == (200, "application/json", key)
    found: list[dict[str, Any]] = answer["values"]
    return found


def total(kora: KoraProcess, key: str) -> int:
    found = values(kora, key)
    return found[0]["value"] if found else 0


def post(kora: KoraProcess, events: list[dict[str, object]]) -> None:
    url = f"http://127.0.0.1:{kora.events_port}/track"
    urllib.request.urlopen(url, json.dumps(events).encode(), timeout=20).close()


def test_every_call_of_the_documentation(kora: KoraProcess) -> None:
    assert get(kora, "/track?key=my-metric") == (204, None, None)
    assert get(kora, "/track?key=my-metric&value=10") == (204, None, None)
    # Some of an hour ago, within two minutes.
    now_ms = time.time_ns() // 1_000_000
    first_ms = now_ms - now_ms % 3_600_000 - 3_600_000
    post(kora, [{"key": "my-metric", "value": 4, "at": first_ms + second * 1000} for second in (0, 59, 60)])

    [counter] = values(kora, "my-metric")
    assert list(counter) == ["from", "to", "value"]
    assert counter["value"] == 23
    assert first_ms <= counter["from"] <= first_ms + 60_000
    assert counter["to"] <= now_ms + 60_000
    bounds = {"from": first_ms, "to": first_ms + 3_600_000}
    assert values(kora, "my-metric", **bounds)[0]["value"] == 12

    points = values(kora, "my-metric", "points", **bounds)
    assert points == [{"from": first_ms, "value": 8}, {"from": first_ms + 60_000, "value": 4}]
    assert sum(point["value"] for point in values(kora, "my-metric", "points")) == 23
    assert values(kora, "my-metric", "points", period=3600, **bounds) == [{"from": first_ms, "value": 12}]
    assert values(kora, "no-metric") == []

    status, content_type, answer = get(kora, "/health")
    assert (status, content_type, answer) == (200, "application/json", {"status": "ok"})
    assert get(kora, "/keys?match=my-*")[2] == {"keys": ["my-metric"]}


def test_an_error_is_json(kora: KoraProcess) -> None:
    status, body = kora.http("/read?key=my-metric", port=kora.events_port)
    assert (status, json.loads(body)["parameter"]) == (400, "type")


class Crowd:
    """A hundred connections that track one key, each again and again, and know what was acknowledged."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._request = f"GET /track?key={key} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        self._left = EVENTS
        self.acknowledged = 0
        self.uncertain = 0  # sent, and the connection broke before an answer
        self.other_answers: list[bytes] = []

    async def run(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(CONNECTIONS)))

    async def _work(self) -> None:
        while self._left > 0:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            with contextlib.closing(writer):
                await self._track(reader, writer)

    async def _track(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self._left > 0:
            self._left -= 1
            try:
                writer.write(self._request)
                answer = await reader.readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError):
                self.uncertain += 1
                return
            if not answer.startswith(b"HTTP/1.1 204"):
                self.other_answers.append(answer)
            self.acknowledged += 1


def test_sums_are_exact_and_a_killed_sidecar_loses_nothing_that_was_acknowledged(kora: KoraProcess) -> None:
    kora.may_log_errors = True
    crowd = Crowd(kora.events_port, "crowd")

    async def run() -> None:
        running = asyncio.create_task(crowd.run())
        while crowd.acknowledged < EVENTS // 3:
            await asyncio.sleep(0.005)
        os.kill(kora.sidecar_pid, signal.SIGKILL)
        await running

    asyncio.run(run())
    assert crowd.other_answers == []
    assert crowd.uncertain
    counted = eventually(lambda: total(kora, "crowd"), "another sidecar")
    assert crowd.acknowledged <= counted <= crowd.acknowledged + crowd.uncertain
    assert kora.log.count("sidecar died") == 1
    # What it had counted and not handed over was found, and is told.
    text = kora.http("/metrics")[1]
    assert f"\nkora_events_received_total {counted}.0\n" in text
    assert "\nkora_events_lost_total 0.0\n" in text


def test_sigterm_writes_everything_to_the_streams(start_server: Start) -> None:
    kora = start_server("--save", "900 1", "--appendonly", "yes", metrics=True, events=True)
    for value in (3, 4):
        get(kora, f"/track?key=last&value={value}")
    kora.signal(signal.SIGTERM)
    assert kora.wait() == 0
    again = start_server("--dir", str(kora.folder), "--appendonly", "yes")
    entries = again.run("XRANGE", "kilometric.last", "-", "+")
    assert sum(int(dict(zip(words[::2], words[1::2], strict=True))[b"sum"]) for _, words in entries) == 7


def test_what_a_frozen_sidecar_has_is_written_at_the_end_as_well(start_server: Start) -> None:
    kora = start_server("--appendonly", "yes", metrics=True, events=True)
    kora.may_log_errors = True
    assert get(kora, "/track?key=frozen&value=5")[0] == 204
    os.kill(kora.sidecar_pid, signal.SIGSTOP)
    kora.signal(signal.SIGTERM)
    assert kora.wait() == 0
    again = start_server("--dir", str(kora.folder), "--appendonly", "yes")
    [[_, words]] = again.run("XRANGE", "kilometric.frozen", "-", "+")
    assert dict(zip(words[::2], words[1::2], strict=True))[b"sum"] == b"5"


def test_counts_are_kept_while_the_data_loop_is_stuck(kora: KoraProcess) -> None:
    os.kill(kora.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert get(kora, "/track?key=stuck")[0] == 204
            time.sleep(0.02)
    finally:
        os.kill(kora.pid, signal.SIGCONT)
    assert total(kora, "stuck") == 20


def test_a_port_of_kilometric_is_listened_on_without_one_for_metrics(launch_server: Start) -> None:
    port = free_port()
    kora = launch_server("--save", "", environ={"KILOMETRIC_PORT": str(port)}, events_port=port)
    kora.events_port = port
    eventually(lambda: "listening for events" in kora.log, "the port")
    assert kora.http("/track?key=a", port=port)[0] == 204


def test_a_port_that_is_taken(start_server: Start, launch_server: Start, tmp_path: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        kora = launch_server(metrics_port=None, events_port=taken.getsockname()[1])
        assert kora.wait() == 1
        assert "(events-port): the address is already in use" in kora.stderr
