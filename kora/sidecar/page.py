"""The dashboard: a page, its assets, the stream that keeps it alive, and /history for scripts.

Everything comes from here: the page asks no other host for anything, and its Content-Security-Policy forbids it to.
"""

import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final

from aiohttp import web

from kora.sidecar.history import POINTS_MAX, UnknownMetric, names, unit_of
from kora.sidecar.live import Live, TooManyListeners

_ASSETS: Final = files("kora.sidecar") / "assets"
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# uPlot and the heat map style their elements by script, which is no inline style.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class BadParameter(Exception):
    """A parameter of a request makes no sense: the message names it."""


@dataclass(frozen=True)
class Asset:
    body: bytes
    content_type: str


class Page:
    def __init__(self, live: Live) -> None:
        self._live = live
        self._assets = {
            asset.name: Asset(asset.read_bytes(), _TYPES[PurePath(asset.name).suffix])
            for asset in _ASSETS.iterdir()
            if PurePath(asset.name).suffix in _TYPES
        }

    @property
    def asset_paths(self) -> list[str]:
        return [f"/dashboard/{name}" for name in self._assets]

    async def page(self, _: web.Request) -> web.Response:
        return self._answer(self._assets["dashboard.html"])

    async def asset(self, request: web.Request) -> web.Response:
        return self._answer(self._assets[request.path.rpartition("/")[2]])

    async def stream(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._live.stream(request)
        except TooManyListeners:
            raise web.HTTPServiceUnavailable(reason="Too many pages are open") from None

    def history(self, request: web.Request) -> dict[str, Any]:
        """What /history answers; raises BadParameter."""
        metric = request.query.get("metric")
        if metric is None:
            return {"metrics": names()}
        now_s = time.time()
        start_s = _number(request, "from", now_s - POINTS_MAX)
        stop_s = _number(request, "to", now_s)
        step_s = _number(request, "step", 1)
        if not 1 <= step_s <= POINTS_MAX or step_s != int(step_s):
            raise BadParameter(f"step must be a whole number of seconds, 1 to {POINTS_MAX}")
        try:
            points = self._live.history.read(metric, start_s, stop_s, int(step_s))
        except UnknownMetric:
            raise BadParameter("metric is none of those that /history lists") from None
        return {"metric": metric, "unit": unit_of(metric), "step": int(step_s), "points": points}

    def _answer(self, asset: Asset) -> web.Response:
        response = web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=_HEADERS)
        response.enable_compression()
        return response


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        raise BadParameter(f"{name} must be a number") from None
    if not 0 <= value < 1e12:
        raise BadParameter(f"{name} must be a time in Unix seconds") from None
    return value
