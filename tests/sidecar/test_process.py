"""The sidecar as a process: `python -m kora.sidecar`, with the test as its data process."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kora.engine import snapshot
from kora.engine.engine import Engine
from kora.observe.board import (
    BUSY_FROM,
    CLIENT,
    DRAINING,
    HEARTBEAT,
    LOADED_BYTES,
    LOADING,
    LOADING_BYTES,
    STATE,
    address_text,
    command_text,
)
from tests.sidecar.data_process import DataProcess

pytestmark = pytest.mark.once

# How fast health has to be, whatever the data process does.


def answer(data_process: DataProcess, engine: Engine) -> None:
    """Answer the one request that comes."""
    name, number, with_histograms = data_process.receive()
    assert (name, with_histograms) == ("snapshot", True)
    for shard in engine.shards:
        data_process.send(["shard", number, snapshot.copy_shard(shard)])
    data_process.send(["snapshot", number, snapshot.take(engine, shards=[]).to_plain()])


def answering(data_process: DataProcess, engine: Engine) -> threading.Thread:
    thread = threading.Thread(target=answer, args=(data_process, engine))
    thread.start()
    return thread


# Start and end


def test_it_says_that_it_listens(data_process: DataProcess) -> None:
    assert data_process.start() == ["listening"]
    assert data_process.get("/health/live").code == 200


def test_a_port_in_use_is_one_clear_line(data_process: DataProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f"cannot listen on 127.0.0.1 port {port} (metrics-port): the address is already in use"
        assert data_process.start(metrics_port=port) == ["failed", text]
        assert data_process.exit_code() == 1
        assert data_process.stderr() == ""


@pytest.mark.parametrize(
    ("addresses", "text"),
    [
        (["192.0.2.1"], "cannot listen on 192.0.2.1 port {port} (metrics-port): Cannot assign requested address"),
        (["127.0.0.1.5"], "cannot listen on 127.0.0.1.5 port {port} (metrics-port): no such address"),
        (["a" * 70], "metrics-bind: '" + "a" * 70 + "' is not an address"),
        (["-192.0.2.1"], "metrics-bind: none of -192.0.2.1 is available"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_clear_line(
    data_process: DataProcess, addresses: list[str], text: str
) -> None:
    assert data_process.start(metrics_bind=addresses) == ["failed", text.format(port=data_process.port)]
    assert data_process.exit_code() == 1


def test_an_address_after_a_dash_is_passed_over_where_there_is_none(data_process: DataProcess) -> None:
    assert data_process.start(metrics_bind=["127.0.0.1", "-192.0.2.1"]) == ["listening"]


def test_an_address_after_a_dash_whose_port_is_in_use_is_not_passed_over(data_process: DataProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", data_process.port))
        taken.listen()
        assert data_process.start(metrics_bind=["-127.0.0.1"])[0] == "failed"


def test_it_ends_when_the_feed_does(listening: DataProcess) -> None:
    listening.feed.close()
    assert listening.exit_code() == 0
    assert listening.stderr() == ""


def test_it_ends_when_the_feed_does_before_a_word_was_said(data_process: DataProcess) -> None:
    data_process.feed.close()
    assert data_process.exit_code() == 0


def test_it_ends_when_the_feed_does_in_the_middle_of_a_scrape(listening: DataProcess) -> None:
    with socket.create_connection(("127.0.0.1", listening.port)) as scraper:
        scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: kora\r\n\r\n")
        listening.receive()
        listening.feed.close()
        assert listening.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_left_to_the_data_process(listening: DataProcess, number: signal.Signals) -> None:
    listening.process.send_signal(number)
    listening.board.words[STATE] = DRAINING
    assert listening.get("/health/ready").json["status"] == "shutting down"
    assert listening.process.poll() is None


def test_it_uses_no_cpu_when_nobody_asks(listening: DataProcess, engine: Engine) -> None:
    def ticks() -> int:
        with open(f"/proc/{listening.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    thread = answering(listening, engine)
    listening.get("/status")
    thread.join()
    before = ticks()
    time.sleep(0.3)
    # A tick is 10 ms: one may fall just then, a poll of any kind would make more over time.
    assert ticks() - before <= 1
    assert not listening.is_asked()


# Health


def test_health_while_all_is_well(listening: DataProcess) -> None:
    live = listening.get("/health/live")
    assert live.code == 200
    assert live.json["status"] == "ok"
    assert live.json["running"] is None
    assert live.json["loop"]["stuck_ms"] == 0
    assert live.json["loop"]["heartbeat_age_ms"] < 1000
    assert live.headers["Content-Type"] == "application/json; charset=utf-8"
    for path in ("/health/ready", "/health", "/healthz"):
        listening.beat()
        ready = listening.get(path)
        assert (ready.code, ready.json["status"]) == (200, "ok")
    assert not listening.is_asked(), "health must not wait for the data process"


def test_a_stuck_loop_is_reported_with_what_runs(listening: DataProcess) -> None:
    now_ns = time.monotonic_ns()
    listening.beat(late_ms=1500)
    listening.board.words[CLIENT] = 7
    listening.board.begin_command(
        now_ns - 1_400_000_000,
        command_text("keys"),
        address_text("10.1.2.3:4567"),
        b"user:1000:with:a:very:long:name:indeed",
    )
    live = listening.get("/health/live")
    assert live.code == 503
    assert live.json["status"] == "stuck"
    assert live.json["loop"]["stuck_ms"] >= 1450
    running = live.json["running"]
    assert running.pop("elapsed_ms") >= 1400
    assert running == {
        "command": "keys",
        "key_prefix": "user:1000:with:a:very:long:name:",
        "client": "10.1.2.3:4567",
        "client_id": 7,
    }
    assert listening.get("/health/ready").json["status"] == "stuck"


def test_a_loop_that_is_stuck_in_a_batch_of_short_commands_names_the_client(listening: DataProcess) -> None:
    listening.beat(late_ms=1500)
    listening.board.words[CLIENT] = 7
    running = listening.get("/health/live").json["running"]
    assert (running["command"], running["client_id"]) == (None, 7)


def test_a_long_command_is_shown_before_the_loop_counts_as_stuck(listening: DataProcess) -> None:
    listening.board.begin_command(
        time.monotonic_ns() - 200_000_000, command_text("keys"), address_text("10.1.2.3:4567"), b""
    )
    live = listening.get("/health/live")
    assert live.code == 200
    assert live.json["running"]["command"] == "keys"
    assert live.json["running"]["key_prefix"] is None


def test_health_answers_while_a_scrape_waits_for_a_stuck_loop(listening: DataProcess) -> None:
    listening.beat(late_ms=1500)
    with ThreadPoolExecutor() as pool:
        scrape = pool.submit(listening.get, "/metrics")
        listening.receive()
        live = listening.get("/health/live")
        assert not scrape.done()
        assert live.code == 503


def test_how_late_counts_as_stuck_can_change(listening: DataProcess) -> None:
    listening.beat(late_ms=500)
    assert listening.get("/health/live").code == 200
    listening.send(["settings", listening.settings(loop_stall_ms=100)])
    stop = time.monotonic() + 5
    while listening.get("/health/live").code != 503:
        assert time.monotonic() < stop, "the new loop_stall_ms was never used"


def test_a_script_that_lets_clients_be_attended_to_soon_is_alive_and_not_ready(listening: DataProcess) -> None:
    listening.beat(late_ms=2_500)
    words = listening.board.words
    words[BUSY_FROM] = time.monotonic_ns() + 60_000_000_000
    live, ready = listening.get("/health/live"), listening.get("/health/ready")
    assert (live.code, live.json["loop"]["stuck_ms"]) == (200, 0)
    assert (ready.code, ready.json["status"]) == (503, "busy running a script")
    # It is over time, and by more than a loop may be: it does nothing that it can be interrupted at.
    words[BUSY_FROM] = time.monotonic_ns() - 2_000_000_000
    assert listening.get("/health/live").json["status"] == "stuck"
    words[BUSY_FROM] = 0
    assert listening.get("/health/live").json["status"] == "stuck"


def test_a_beat_that_is_hardly_late_is_not_stuck_at_the_smallest_setting(data_process: DataProcess) -> None:
    data_process.start(loop_stall_ms=10)
    # Within the time between two beats; far in the future, so that the request itself takes none of it.
    data_process.board.words[HEARTBEAT] = time.monotonic_ns() + 10_000_000_000
    assert data_process.get("/health/live").code == 200


def test_a_loop_that_has_not_begun_is_loading_and_not_stuck(data_process: DataProcess) -> None:
    data_process.board.words[STATE] = LOADING
    data_process.board.words[LOADING_BYTES], data_process.board.words[LOADED_BYTES] = 1000, 250
    data_process.start()
    live, ready = data_process.get("/health/live"), data_process.get("/health/ready")
    assert (live.code, live.json["status"]) == (200, "ok")
    assert (ready.code, ready.json["status"]) == (503, "loading")
    assert ready.json["loading"] == {"total_bytes": 1000, "loaded_bytes": 250, "percent": 25.0}


def test_draining_is_neither_live_nor_ready(listening: DataProcess) -> None:
    listening.board.words[STATE] = DRAINING
    for path in ("/health/live", "/health/ready"):
        health = listening.get(path)
        assert (health.code, health.json["status"], health.json["state"]) == (503, "shutting down", "draining")


# Numbers


def test_metrics_are_read_off_a_fresh_snapshot(listening: DataProcess, engine: Engine, run: Callable[..., Any]) -> None:
    for keys in (1, 2):
        run("SET", f"k{keys}", "v")
        thread = answering(listening, engine)
        page = listening.get("/metrics")
        thread.join()
        assert page.code == 200
        assert page.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert f"\nkora_keys_total {keys}.0\n".encode() in page.body
        assert f"\nkora_sidecar_scrapes_total {keys}.0\n".encode() in page.body
        assert b"\nkora_sidecar_restarts_total 2.0\n" in page.body
    assert b'kora_sidecar_requests_total{code="200",path="/metrics"} 1.0\n' in page.body


def test_openmetrics_is_given_to_who_asks(listening: DataProcess, engine: Engine) -> None:
    thread = answering(listening, engine)
    page = listening.get("/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    thread.join()
    assert page.headers["Content-Type"].startswith("application/openmetrics-text")
    assert page.body.endswith(b"# EOF\n")


def test_scrapers_at_the_same_time_share_one_request(listening: DataProcess, engine: Engine) -> None:
    with ThreadPoolExecutor(5) as pool:
        scrapes = [pool.submit(listening.get, path) for path in ("/metrics", "/metrics", "/status", "/status")]
        _, number, _ = listening.receive()
        # Answered only when all have asked, which health, asked afterwards on the same loop, comes after.
        time.sleep(0.1)
        listening.get("/health/live")
        listening.send(["snapshot", number, snapshot.take(engine).to_plain()])
        assert [scrape.result().code for scrape in scrapes] == [200] * 4
    assert not listening.is_asked()


def test_a_stuck_data_process_is_asked_once_and_its_last_numbers_are_served(
    listening: DataProcess, engine: Engine, run: Callable[..., Any]
) -> None:
    run("SET", "k", "v")
    thread = answering(listening, engine)
    listening.get("/metrics")
    thread.join()
    # Stuck: nobody answers.
    page = listening.get("/metrics")
    assert page.code == 200
    assert b"\nkora_keys_total 1.0\n" in page.body
    age = float(page.body.partition(b"\nkora_sidecar_snapshot_age_seconds ")[2].split()[0])
    assert age > 0.9
    assert b"\nkora_sidecar_snapshot_timeouts_total 1.0\n" in page.body
    # Once it is known to be stuck, nobody waits again.
    status = listening.get("/status")
    assert status.json["snapshot_age_ms"] > 900
    assert status.json["keys"] == 1
    # It goes on: the late answer is used.
    run("SET", "k2", "v")
    answer(listening, engine)
    assert not listening.is_asked(), "requests must not pile up before a stuck loop"
    thread = answering(listening, engine)
    assert b"\nkora_keys_total 2.0\n" in listening.get("/metrics").body
    thread.join()


def test_without_any_numbers_yet_a_scrape_shows_the_sidecar_itself(listening: DataProcess) -> None:
    page = listening.get("/metrics")
    assert page.code == 200
    assert b"\nkora_sidecar_scrapes_total 1.0\n" in page.body
    assert b"# TYPE kora_keys_total gauge\n" in page.body
    assert b"\nkora_keys_total " not in page.body
    status = listening.get("/status")
    assert status.code == 503
    assert status.json["state"] == "ready"
    report = listening.get("/doctor")
    assert report.code == 503
    assert report.json["error"] == "the data process does not answer"


def test_status_is_the_server_at_a_glance(listening: DataProcess, engine: Engine, run: Callable[..., Any]) -> None:
    run("SET", "k", "v", "EX", "100")
    thread = answering(listening, engine)
    status = listening.get("/status")
    thread.join()
    assert status.code == 200
    values = status.json
    assert values["role"] == "master"
    assert values["state"] == "ready"
    assert values["shards"] == 4
    assert values["clients"] == 1
    assert values["keys"] == 1
    assert values["databases"]["db0"]["expires"] == 1
    assert values["commands_processed"] == 1
    assert values["ops_per_second"] >= 0
    assert values["memory_used_bytes"] > 0
    assert values["rss_bytes"] > 1_000_000
    assert values["uptime_seconds"] >= 0
    assert set(values["latency_us"]) == {"p50", "p99", "p99.9"}
    assert values["snapshot_age_ms"] < 1000
    assert {"version", "loop_lag_ms", "loop_lag_ms_max", "live", "ready"} <= set(values)


# HTTP


def test_the_index_lists_every_endpoint_for_people_and_for_programs(listening: DataProcess) -> None:
    text = listening.get("/", accept="*/*")
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    page = listening.get("/", accept="text/html,application/xhtml+xml")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    for path in ("/metrics", "/health/live", "/health/ready", "/status", "/healthz"):
        assert path in text.body.decode()
        assert f'<a href="{path}">' in page.body.decode()
        if path.startswith("/health"):
            assert listening.get(path).code == 200


def test_what_is_not_there_is_answered_in_json(listening: DataProcess) -> None:
    missing = listening.get("/no/such/page")
    assert (missing.code, missing.json) == (404, {"error": "not found", "path": "/no/such/page"})
    wrong = listening.get("/metrics", method="DELETE")
    assert (wrong.code, wrong.json["error"]) == (405, "method not allowed")
    assert wrong.headers["Allow"] == "GET,HEAD"


def test_head_has_the_headers_and_no_body(listening: DataProcess) -> None:
    head = listening.get("/health/live", method="HEAD")
    assert (head.code, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 50


def test_answers_are_not_to_be_stored(listening: DataProcess) -> None:
    for path in ("/", "/health/live", "/nothing"):
        headers = listening.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "kora"


def test_paths_that_clients_make_up_share_one_series(listening: DataProcess, engine: Engine) -> None:
    for number in range(3):
        listening.get(f"/made-up-{number}")
    thread = answering(listening, engine)
    page = listening.get("/metrics").body
    thread.join()
    assert b'kora_sidecar_requests_total{code="404",path="other"} 3.0\n' in page
    assert b"made-up" not in page


@pytest.mark.parametrize(
    "request_data",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: kora\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: kora\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        bytes(range(256)) * 10 + b"\r\n\r\n",
    ],
)
def test_what_is_too_long_or_not_http_is_refused_without_a_word_in_the_log(
    listening: DataProcess, request_data: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", listening.port), timeout=10) as client:
        client.sendall(request_data)
        reply = client.recv(65536)
        assert reply == b"" or reply.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400")), reply[:200]
    assert listening.get("/health/live").code == 200
    listening.feed.close()
    assert listening.stderr() == ""


def test_a_bug_is_answered_with_500_and_logged_in_the_shape_of_all_lines(listening: DataProcess) -> None:
    listening.board.words[STATE] = 99
    bug = listening.get("/health/live", headers={"X-Request-ID": "of-a-balancer"})
    assert (bug.code, bug.json["error"]) == (500, "internal server error")
    listening.board.words[STATE] = 1
    assert listening.get("/health/live").code == 200
    listening.feed.close()
    (line,) = listening.stderr().splitlines()
    logged = json.loads(line)
    assert set(logged) == {"timestamp", "level", "target", "message", "fields"}
    assert (logged["level"], logged["target"], logged["message"]) == ("ERROR", "kora.sidecar", "request failed")
    assert logged["fields"]["path"] == "/health/live"
    assert logged["fields"]["error_id"] == bug.json["error_id"]
    assert logged["fields"]["request_id"] == "of-a-balancer"
    assert "IndexError" in logged["fields"]["exception"]
