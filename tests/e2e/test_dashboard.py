"""The dashboard in a real browser, beside a real server under load; and /history as a script sees it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from kora.sidecar.live import LISTENERS_MAX
from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.peers import peer

pytestmark = pytest.mark.once

CHARTS = ("operations", "latency", "memory", "network", "hits", "keys", "loop", "errors")


@pytest.fixture
def loaded(shared_server: KoraProcess) -> Iterator[KoraProcess]:
    """A server that somebody works on until the test ends."""
    stopping = threading.Event()

    def work() -> None:
        with shared_server.connect() as wire:
            number = 0
            while not stopping.wait(0.005):
                number += 1
                wire.pipeline(("SET", f"k{number % 50}", "v"), ("GET", "k1"), ("GET", "none"), ("INCR", "<b>hot</b>"))

    with shared_server.connect() as wire:
        wire.run("CONFIG", "SET", "slowlog-log-slower-than", "100000")
        wire.run("EVAL", "return 1", 0)
        wire.run("DEBUG", "SLEEP", "0.15")
    worker = threading.Thread(target=work)
    worker.start()
    yield shared_server
    stopping.set()
    worker.join()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # As root, which CI is, Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=peer("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, loaded: KoraProcess) -> Iterator[Page]:
    """The dashboard, of which every complaint and every request to another host fails the test."""
    host = f"127.0.0.1:{loaded.metrics_port}"
    page = chromium.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if urlsplit(request.url).netloc != host else None)
    page.goto(f"http://{host}/dashboard")
    yield page
    page.close()
    assert wrong == []


def test_every_panel_has_data_under_load(page: Page) -> None:
    for name in CHARTS:
        page.wait_for_function(
            "(name) => charts[name] && charts[name].data.slice(1).flat().some((value) => value !== null)",
            arg=name,
        )
    # What looks like markup stays text.
    expect(page.locator("#hot td").filter(has_text="<b>hot</b>")).to_be_visible()
    expect(page.locator("#slow td").filter(has_text="DEBUG SLEEP").first).to_be_visible()
    expect(page.locator("#clients tbody tr").first).to_be_visible()
    expect(page.locator("#blame td").first).to_be_visible()
    expect(page.locator("#event-worst")).to_contain_text("debug")
    expect(page.locator("#health")).to_have_text("ok")
    expect(page.locator("#about")).to_contain_text("kernel")
    # Of an engine that is not there.
    expect(page.locator(".storage").first).to_be_hidden()
    page.locator("#command").select_option("set")
    page.wait_for_function("() => charts.latency.data[1].some((value) => value !== null)")


def test_any_tracked_metric_is_drawn(page: Page, loaded: KoraProcess) -> None:
    hint = page.locator("#tracked-hint")
    expect(hint).to_have_text("Nothing was tracked.")
    for key, value in (("orders", 3), ("<b>visits</b>", 20)):
        assert loaded.http(f"/track?key={quote(key)}&value={value}")[0] == 204
    page.reload()
    page.wait_for_function("() => charts.tracked && charts.tracked.data[1].includes(20)")
    assert page.locator("#tracked-keys option").count() == 2
    page.locator("#tracked-key").fill("orders")
    for kind, lines in (("rate", 1), ("gauge", 1), ("stats", 3)):
        page.locator("#tracked-type").select_option(kind)
        page.wait_for_function(
            "(lines) => charts.tracked && charts.tracked.data.length === lines + 1 && charts.tracked.data[1].length",
            arg=lines,
        )
    page.locator("#tracked-span").select_option("604800")
    page.wait_for_function("() => charts.tracked && charts.tracked.data[3].includes(3)")
    page.locator("#tracked-key").fill("none such")
    page.locator("#tracked-key").press("Enter")
    expect(hint).to_have_text("Nothing in this time.")


def test_it_is_light_and_dark_and_narrow_and_needs_no_mouse(page: Page) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => charts.operations && charts.operations.width < 390")
    page.wait_for_function("() => document.documentElement.scrollWidth <= 390")


def test_what_runs_is_shown_while_the_loop_is_blocked(page: Page, loaded: KoraProcess) -> None:
    expect(page.locator("#health")).to_have_text("ok")
    with loaded.connect() as sleeper:
        sleeper.send(encode_request(("DEBUG", "SLEEP", "2.5")))
        expect(page.locator("#running")).to_contain_text("debug")
        expect(page.locator("#health")).to_have_class("pill unhealthy")
        sleeper.read()
    expect(page.locator("#health")).to_have_text("ok")
    expect(page.locator("#running")).to_be_hidden()


def test_the_page_may_load_nothing_from_elsewhere(shared_server: KoraProcess) -> None:
    connection = HTTPConnection("127.0.0.1", shared_server.metrics_port, timeout=20)
    connection.request("GET", "/dashboard")
    answer = connection.getresponse()
    policy, body = answer.headers["Content-Security-Policy"], answer.read().decode()
    connection.close()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in body.replace("http-equiv", "")
    assert "<style" not in body and "style=" not in body and "onclick" not in body


def test_history_has_the_past_of_a_metric(loaded: KoraProcess) -> None:
    status, text = loaded.http("/history")
    assert status == 200
    metrics = json.loads(text)["metrics"]
    assert metrics["commands"] == "1/s"

    def points(query: str) -> list[list[float]]:
        status, text = loaded.http(f"/history?{query}")
        assert status == 200, text
        found: list[list[float]] = json.loads(text)["points"]
        return found

    eventually(lambda: any(value and value > 0 for _, value in points("metric=calls:incr")), "a point with INCR")
    now_s = time.time()
    assert all(now_s - 5 <= time_s <= now_s for time_s, _ in points(f"metric=memory&from={now_s - 5}&to={now_s}"))
    assert points("metric=memory&to=5") == []
    assert all(time_s % 60 == 0 for time_s, _ in points("metric=memory&step=60"))


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("metric=nonsense", "metric"),
        ("metric=commands&step=0", "step"),
        ("metric=commands&step=1.5", "step"),
        ("metric=commands&step=nan", "step"),
        ("metric=commands&from=yesterday", "from"),
        ("metric=commands&to=-1", "to"),
        ("metric=commands&to=inf", "to"),
    ],
)
def test_a_bad_parameter_is_named(shared_server: KoraProcess, query: str, named: str) -> None:
    status, text = shared_server.http(f"/history?{query}")
    assert status == 400
    assert json.loads(text)["error"].startswith(named)


def test_pages_beyond_the_limit_are_refused_and_closed_ones_make_room(shared_server: KoraProcess) -> None:
    request = b"GET /dashboard/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def connect() -> socket.socket:
        page = socket.create_connection(("127.0.0.1", shared_server.metrics_port), 20)
        page.sendall(request)
        return page

    open_pages: list[socket.socket] = []

    def is_refused() -> bool:
        page = connect()
        status = page.recv(12)
        if status == b"HTTP/1.1 200":
            open_pages.append(page)
            return False
        page.close()
        assert status == b"HTTP/1.1 503"
        return True

    eventually(is_refused, "a page too many")
    # Others may have been open still, of a browser that was closed.
    assert 0 < len(open_pages) <= LISTENERS_MAX
    for page in open_pages:
        page.close()

    def has_room() -> bool:
        page = connect()
        try:
            return page.recv(12) == b"HTTP/1.1 200"
        finally:
            page.close()

    eventually(has_room, "room for a page")


def test_what_is_under_the_keys_has_panels_and_numbers_of_its_own(
    chromium: Browser, start_server: Callable[..., KoraProcess]
) -> None:
    pytest.importorskip("rocksdict")
    server = start_server("--storage-engine", "rocksdb", metrics=True)
    page = chromium.new_page()
    try:
        page.goto(f"http://127.0.0.1:{server.metrics_port}/dashboard")
        with server.connect() as wire:
            wire.pipeline(*(("SET", f"k{number}", "v" * 100) for number in range(1_000)))
            for name in ("io", "cache", "files", "busy"):
                page.wait_for_function(
                    "(name) => charts[name] && charts[name].data.slice(1).flat().some((value) => value !== null)",
                    arg=f"storage-{name}",
                )
            expect(page.locator(".storage").first).to_be_visible()
            line = 'kora_storage_committed_keys_total{store="data"} 1000.0'
            eventually(lambda: line in server.http("/metrics")[1], "what was written is counted")
    finally:
        page.close()
