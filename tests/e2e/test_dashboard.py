"""The dashboard in a real browser, beside a real server under load; and /history as a script sees it."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kora.sidecar.live import LISTENERS_MAX
from tests.conftest import encode_request
from tests.e2e.browser import Browser, browser
from tests.e2e.kora_process import KoraProcess, eventually
from tests.peers import peer

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


def in_browser(folder: Path, steps: Callable[[Browser], Awaitable[None]]) -> Browser:
    async def run() -> Browser:
        async with browser(peer("chromium"), folder) as page:
            await steps(page)
            return page

    return asyncio.run(run())


def test_every_panel_has_data_under_load_in_both_themes_and_on_a_phone(loaded: KoraProcess, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{loaded.metrics_port}/dashboard"

    async def look(page: Browser) -> None:
        await page.open(url)
        for name in CHARTS:
            # A chart has drawn its lines: some pixels are no background.
            await page.until(
                f"(() => {{ const built = charts[{name!r}]; return built && built.data[0].length > 1"
                " && built.data.slice(1).some((column) => column.some((value) => value !== null)); })()"
            )
        await page.until("[...byId('hot').rows].some((row) => row.cells[0].textContent === '<b>hot</b>')")
        await page.until("[...byId('slow').rows].some((row) => row.textContent.includes('DEBUG SLEEP'))")
        await page.until("byId('clients').rows.length > 1")
        await page.until("byId('event-worst').textContent.includes('debug')")
        assert await page.run("byId('health').textContent") == "ok"
        assert "kernel" in await page.run("byId('about').textContent")
        # Of one command alone.
        await page.run("byId('command').value = 'set', byId('command').dispatchEvent(new Event('change'))")
        await page.until("charts.latency.data[1].some((value) => value !== null)")
        assert not await page.run("!!document.querySelector('td b')")  # what is no markup stays text
        light = await page.run("getComputedStyle(document.body).backgroundColor")
        await page.run("byId('theme').click()")
        dark = await page.run("getComputedStyle(document.body).backgroundColor")
        assert light != dark
        # By keyboard: the first stop leads past the head.
        await page.key("Tab")
        assert await page.run("document.activeElement.className") == "skip"
        await page.resize(390, 844)
        await page.until("charts.operations && charts.operations.width < 390")
        assert await page.run("document.documentElement.scrollWidth") <= 390

    page = in_browser(tmp_path, look)
    assert page.complaints == []
    assert {urlsplit(request).netloc for request in page.requests} == {urlsplit(url).netloc}


def test_what_runs_is_shown_while_the_loop_is_blocked(loaded: KoraProcess, tmp_path: Path) -> None:
    async def look(page: Browser) -> None:
        await page.open(f"http://127.0.0.1:{loaded.metrics_port}/dashboard", scheme="dark")
        await page.until("byId('health').textContent === 'ok'")
        with loaded.connect() as sleeper:
            sleeper.send(encode_request(("DEBUG", "SLEEP", "3")))
            await page.until("!byId('running').hidden && byId('running').textContent.includes('debug')")
            await page.until("byId('health').className.includes('unhealthy')")
            sleeper.read()
        await page.until("byId('running').hidden && byId('health').textContent === 'ok'")

    assert in_browser(tmp_path, look).complaints == []


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
