"""`kora track` and `kora read`: what they ask, and what they make of the answer."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kora.cli import operator
from kora.cli.events import chart, table
from tests.e2e import kora_process
from tests.ports import free_port

pytestmark = pytest.mark.once

MINUTE_MS = 60_000
START_MS = 1_700_000_040_000


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Server:
    """Answers whatever is asked with the same."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.answer: tuple[int, Any] = (204, None)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers["Authorization"]))
                code, body = server.answer
                self.send_response(code)
                self.end_headers()
                if body is not None:
                    self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def run(self, *argv: str) -> int:
        return operator.run([*argv, "--url", self.url])

    def stop(self) -> None:
        self.http.shutdown()
        self._thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def test_track_asks_for_what_it_was_told(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.run("track", "my metric") == 0
    assert server.run("track", "é&=", "2.5", "--at", "1700000000000", "--token", "secret") == 0
    assert server.asked == [
        ("/track?key=my+metric", None),
        ("/track?key=%C3%A9%26%3D&value=2.5&at=1700000000000", "Bearer secret"),
    ]
    assert capsys.readouterr() == ("", "")


def test_read_shows_a_line_for_each_period(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    values = [{"from": START_MS, "to": START_MS + MINUTE_MS - 1, "value": 78}]
    server.answer = 200, {"name": "m", "values": values}
    assert server.run("read", "m", "rate", "--from", "5", "--to", "7", "--period", "3600", "--fill", "zero") == 0
    assert server.asked == [("/read?key=m&type=rate&from=5&to=7&period=3600&fill=zero", None)]
    assert capsys.readouterr().out == (
        "               from                   to  value\n2023-11-14 22:14:00  2023-11-14 22:14:59     78\n"
    )
    assert server.run("read", "m", "--json") == 0
    assert json.loads(capsys.readouterr().out)["values"] == values
    server.answer = 200, {"name": "m", "values": []}
    assert server.run("read", "m", "--last", "6h") == 0
    assert capsys.readouterr().out == "no values\n"
    assert "from=" in server.asked[-1][0]


def test_mistakes_are_one_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = 400, {"error": "value: is not a number", "parameter": "value"}
    assert server.run("track", "a", "ten") == 1
    server.answer = 404, b"<html>"
    assert server.run("track", "a") == 1
    assert server.run("read", "a", "--last", "yesterday") == 1
    assert operator.run(["read", "a", "--url", "ftp://a"]) == 1
    closed = f"http://127.0.0.1:{free_port()}"
    assert operator.run(["track", "a", "--url", closed]) == 1
    server.answer = 200, {"values": [{"from": 1, "to": 2, "value": 3}]}
    assert server.run("read", "a", "counter", "--chart") == 1
    assert capsys.readouterr().err.splitlines() == [
        "kora track: value: is not a number",
        "kora track: the server answered 404, which is not what Kora does",
        "kora read: --last must be a time such as 30s, 15m, 6h, 7d or 4w, not 'yesterday'",
        "kora read: 'ftp://a' is no URL of a server, such as http://127.0.0.1:3000",
        f"kora track: {closed} does not answer: [Errno 111] Connection refused",
        "kora read: a counter is one number; a chart wants points, rate, gauge or stats",
    ]


def test_numbers_stand_below_one_another() -> None:
    rows = [{"from": START_MS, "count": 2, "mean": 5.5, "p99": 10}, {"from": START_MS, "count": 1234, "mean": 1 / 3}]
    rows[1]["p99"] = 7
    assert table(rows) == (
        "               from  count      mean  p99\n"
        "2023-11-14 22:14:00      2       5.5   10\n"
        "2023-11-14 22:14:00   1234  0.333333    7"
    )


def test_a_chart_has_the_times_below_and_the_values_beside_it() -> None:
    values = [{"from": START_MS + minute * MINUTE_MS, "value": minute % 7} for minute in range(60)]
    lines = chart("my-metric", "points", values, width=80, color=False).splitlines()
    assert lines[0].strip() == "my-metric: points"
    assert "22:14:00" in lines[-1] and "23:13:00" in lines[-1]
    assert lines[2].startswith("6┤") and any(line.startswith("0┤") for line in lines)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_a_chart_of_stats_has_a_line_for_each_and_one_period_is_enough() -> None:
    row = {"count": 2, "min": 1, "max": 10, "mean": 5.5, "p50": 1, "p99": 10}
    text = chart("m", "stats", [{"from": START_MS, **row}], width=80, color=False)
    assert all(name in text for name in ("p50", "p99", "max"))


def test_without_what_plots_it_says_how_to_get_it(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = 200, {"values": [{"from": START_MS, "value": 3}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "plotext", None)
        assert server.run("read", "m", "--chart") == 1
    remedy = "kora read --chart needs a package more: pip install 'kora-server[chart]'"
    assert capsys.readouterr().err == f"kora read: {remedy}\n"


def test_a_real_server_is_tracked_on_and_read_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kora = kora_process.start(tmp_path, "--save", "", metrics=True, events=True)
    try:
        for port in (kora.events_port, kora.metrics_port):
            where = ["--url", f"http://127.0.0.1:{port}"]
            assert operator.run(["track", "my-metric", "10", *where]) == 0
        code = "from kora.cli.operator import main; main()"
        argv = ["read", "my-metric", "--last", "1h", "--chart", *where]
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
        assert "my-metric: points" in done.stdout
        assert operator.run(["read", "my-metric", "counter", *where]) == 0
        assert capsys.readouterr().out.split()[-1] == "20"
    finally:
        kora.stop()
