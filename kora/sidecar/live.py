"""What an open dashboard is told: server-sent events, and the clocks behind them.

shown     first of all: what points have
point     one second; those of the past come at once, then one more each second
now       health and what runs, which takes nothing from the data loop, and so comes even while that is stuck
glance    hot keys, clients, logs; asked of the data process only while somebody looks
report    what DOCTOR finds, likewise
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from kora.observe.histogram import EDGES_NS
from kora.sidecar.feed import Feed
from kora.sidecar.history import PERCENTILES, POINTS_MAX, SERIES, History, to_plain

# Pages that are open at once; each costs an encoded second of events, and more are nobody's wish.
LISTENERS_MAX: Final = 32
# Events that may wait for a page that does not read.
_WAITING_MAX: Final = 64
_WATCH_S: Final = 0.5


class TooManyListeners(Exception):
    """As many pages are open as may be."""


class Live:
    def __init__(self, feed: Feed, health: Callable[[], dict[str, Any]]) -> None:
        """`health` gives what /health answers."""
        self.history = History()
        self._feed = feed
        self._health = health
        self._points: deque[bytes] = deque(maxlen=POINTS_MAX)  # of history, as events
        self._listeners: set[asyncio.Queue[bytes]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._sample())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(b"")  # wakes its stream, which then ends
        self._listeners.clear()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Until the page is closed, or does not read."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise TooManyListeners
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        queue: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_MAX)
        self._listeners.add(queue)
        try:
            await response.prepare(request)
            await response.write(_event("shown", self._shown()))
            await response.write(b"".join(self._points))
            await response.write(_event("now", self._now()))
            while queue in self._listeners:
                await response.write(await queue.get())
        except ConnectionError:
            pass  # it was closed
        finally:
            self._listeners.discard(queue)
        return response

    async def _watch(self) -> None:
        """Tell what runs: by a clock of its own, since the other's waits where the data loop is stuck."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._listeners:
                self._tell(_event("now", self._now()))

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(1 - time.time() % 1)
            snapshot = await self._feed.snapshot()
            point = None if snapshot is None else self.history.add(snapshot)
            if point is None:
                continue
            self._points.append(_event("point", to_plain(point)))
            if self._listeners:
                self._tell(self._points[-1])
                for name, ask in (("glance", self._feed.glance), ("report", self._feed.report)):
                    answer = await ask()
                    if answer is not None:
                        self._tell(_event(name, answer))

    def _tell(self, data: bytes) -> None:
        # One that does not read: its stream ends with what it has, and the page connects again.
        self._listeners -= {queue for queue in self._listeners if queue.full()}
        for queue in self._listeners:
            queue.put_nowait(data)

    def _shown(self) -> dict[str, Any]:
        settings = self._feed.settings
        assert settings is not None
        return {
            "version": settings.version,
            "kernel": settings.kernel,
            "started_ms": settings.started_ms,
            "series": [[series.name, series.unit, series.help] for series in SERIES],
            "percentiles": list(PERCENTILES),
            "edges_s": [edge / 1e9 for edge in EDGES_NS],
            "points_max": POINTS_MAX,
        }

    def _now(self) -> dict[str, Any]:
        return {"time_ms": int(time.time() * 1000), **self._health()}


def _event(name: str, values: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()
