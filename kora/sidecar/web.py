"""The sidecar's HTTP service: its routes, and what each answers.

Health reads the activity board alone and never waits; /metrics and /status ask the data process for a snapshot and
make do with the last one when it is stuck.  Whatever goes wrong is answered in JSON.
"""

import asyncio
import gzip
import html
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from kora.errors import make_error_id
from kora.log import logger
from kora.observe.board import Board
from kora.sidecar import protobuf_page, tokens
from kora.sidecar.audit import AuditLog
from kora.sidecar.checks import UNHEALTHY, Check, Disk, cgroup_limit, look, overall, to_json, try_disk
from kora.sidecar.event_requests import BODY_MAX
from kora.sidecar.events import BODY_TOO_LONG, Events, Reply, Request
from kora.sidecar.exposition import OPENMETRICS, TEXT, View, fill, render, wants_openmetrics, wants_protobuf
from kora.sidecar.feed import Feed
from kora.sidecar.health import OK, Health, examine
from kora.sidecar.live import Live
from kora.sidecar.metrics import METRICS
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.page import BadParameter, Page
from kora.sidecar.profiles import PATH as PROFILES
from kora.sidecar.profiles import Profiles
from kora.sidecar.settings import Settings
from kora.sidecar.status import status
from kora.sidecar.visitors import Visitors

log = logger("kora.sidecar")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Requests to this port are a line and a few headers; only events have a body.
LINE_MAX: Final = 4096
FIELD_MAX: Final = 8190
# Characters of what a request is called.
_NAME_MAX: Final = 128
_OTHER: Final = "other"
# How often the disk is tried, at most.
_DISK_S: Final = 10.0
_GZIP_BYTES_MIN: Final = 1024
# What a load balancer or a kubelet asks for is answered without the token, too.
_HEALTH: Final = ("/health", "/healthz", "/health/live", "/health/ready")


@dataclass(frozen=True)
class Endpoint:
    path: str
    handler: Handler
    help: str


class Site:
    def __init__(self, feed: Feed, board: Board, events: Events | None = None, audit: AuditLog | None = None) -> None:
        self._feed = feed
        self._board = board
        self._events = events
        self._audit = audit
        self._own = OwnStats(events)
        self._own.traces = feed.traces
        self.visitors: Visitors | None = None  # set by whoever listens
        # The disk, as it was found last.
        self._disk: Disk | None = None
        self._disk_looked = -_DISK_S
        self._disk_task: asyncio.Task[None] | None = None
        self._live = Live(feed, self._health_values)
        self._page = Page(self._live)
        self._profiles = Profiles(feed, self._own)
        self._endpoints = (
            Endpoint("/", self.index, "this list"),
            Endpoint("/metrics", self.metrics, "every number, for Prometheus"),
            Endpoint("/scrape", self.metrics, "as /metrics, for configurations made for redis_exporter"),
            Endpoint("/health/live", self.live, "503 while the server is shutting down or its data loop is stuck"),
            Endpoint("/health/ready", self.ready, "503 also while it is loading, or busy running a script"),
            Endpoint("/status", self.status, "the server at a glance, as JSON"),
            Endpoint("/doctor", self.doctor, "what is wrong right now, who does it, and what helps, as JSON"),
            Endpoint("/dashboard", self._page.page, "the server's life, second by second, to look at"),
            Endpoint("/dashboard/live", self._page.stream, "what the dashboard is told, as server-sent events"),
            Endpoint("/history", self.history, "the last 15 minutes: ?metric=commands&from=&to=&step=, as JSON"),
            Endpoint("/health", self.health, "how it is, check by check; 503 where one of them is unhealthy"),
            Endpoint("/healthz", self.ready, "as /health/ready"),
            Endpoint(PROFILES, self._profiles.index, "profiles of CPU time and memory, where debug-endpoints is on"),
        )
        event_endpoints = (
            Endpoint("/track", self.event, "count something: ?key=&value=1&at=, or a batch in the body; GET or POST"),
            Endpoint(
                "/read", self.event, "what was counted: ?key=&type=counter|points|rate|gauge|stats&from=&to=&period="
            ),
            Endpoint("/keys", self.event, "what there is to read: ?match=, as JSON"),
        )
        self._event_endpoints = event_endpoints if events is not None else ()
        self._event_paths = frozenset(endpoint.path for endpoint in self._event_endpoints)
        paths = [endpoint.path for endpoint in self._endpoints]
        self._paths = frozenset([*paths, *self._event_paths, *self._page.asset_paths, *self._profiles.paths])

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._answer], client_max_size=BODY_MAX)
        for endpoint in self._endpoints:
            application.router.add_get(endpoint.path, endpoint.handler)
        for endpoint in self._event_endpoints:
            application.router.add_route("*", endpoint.path, endpoint.handler)
        for path in self._page.asset_paths:
            application.router.add_get(path, self._page.asset)
        for path in self._profiles.paths[1:]:
            application.router.add_get(path, self._profiles.profile)
        application.on_response_prepare.append(_set_headers)
        if self._settings.keeps_history:
            application.on_startup.append(self._start)
            application.on_shutdown.append(self._stop)
        return application

    # Routes

    async def index(self, request: web.Request) -> web.Response:
        if "text/html" in request.headers.get("Accept", ""):
            rows = [
                f'<tr><td><a href="{endpoint.path}">{endpoint.path}</a></td><td>{html.escape(endpoint.help)}</td></tr>'
                for endpoint in (*self._endpoints, *self._event_endpoints)
            ]
            head = ["<!doctype html>", '<html lang="en">', "<title>Kora</title>", "<h1>Kora</h1>"]
            text = "\n".join([*head, "<table>", *rows, "</table>", "</html>", ""])
            return web.Response(text=text, content_type="text/html")
        lines = [f"{endpoint.path:14}  {endpoint.help}\n" for endpoint in (*self._endpoints, *self._event_endpoints)]
        return web.Response(text="".join(lines))

    async def metrics(self, request: web.Request) -> web.Response:
        started_ns = time.monotonic_ns()
        self._own.scrapes += 1
        accept = request.headers.get("Accept", "")
        snapshot = await self._feed.snapshot()
        self._own.turned_out = self.visitors.turned_out if self.visitors is not None else 0
        view = View(snapshot, self._feed.age_ns, self._settings, self._own, self._feed.timeouts, self._audit)
        names = request.query.getall("name[]", ())
        if protobuf_page.is_available() and wants_protobuf(accept):
            body, content_type = protobuf_page.render(view, fill(view, METRICS, names)), protobuf_page.CONTENT_TYPE
        elif wants_openmetrics(accept):
            body, content_type = render(view, METRICS, as_openmetrics=True, names=names), OPENMETRICS
        else:
            body, content_type = render(view, METRICS, names=names), TEXT
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if _takes_gzip(request) and len(body) > _GZIP_BYTES_MIN:
            # The quickest level makes an eighth of it already.
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        self._own.record_scrape(time.monotonic_ns() - started_ns)
        return web.Response(body=body, headers=headers)

    async def live(self, _: web.Request) -> web.Response:
        health = self._health()
        return self._health_json(health, health.live, health.live == OK)

    async def ready(self, _: web.Request) -> web.Response:
        health = self._health()
        return self._health_json(health, health.ready, health.ready == OK)

    async def health(self, _: web.Request) -> web.Response:
        health = self._health()
        checks = self._checks(health)
        is_healthy = health.ready == OK and overall(checks) != UNHEALTHY
        return self._health_json(health, health.ready, is_healthy)

    async def status(self, _: web.Request) -> web.Response:
        snapshot = await self._feed.snapshot()
        age_ns = self._feed.age_ns
        if snapshot is None or age_ns is None:
            health = self._health()
            error = {"error": "the data process has not given its numbers yet", "state": health.activity.state}
            return _json({**error, "live": health.live, "ready": health.ready}, 503)
        health = self._health()
        values = status(snapshot, age_ns, health, self._settings.restarts)
        return _json({**values, **to_json(self._checks(health))})

    async def doctor(self, _: web.Request) -> web.Response:
        report = await self._feed.report()
        if report is None:
            # What keeps it from answering is what is wrong.
            health = self._health()
            return _json({"error": "the data process does not answer", **health.to_json(health.live)}, 503)
        return _json(report)

    async def history(self, request: web.Request) -> web.Response:
        try:
            return _json(self._page.history(request))
        except BadParameter as error:
            return _json({"error": str(error)}, 400)

    async def event(self, request: web.Request) -> web.Response:
        assert self._events is not None
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            reply = self._events.counted(request.path, BODY_TOO_LONG)
        else:
            query, authorization = request.rel_url.raw_query_string, request.headers.get("Authorization", "")
            asked = Request(request.method, request.path, query.encode(), body, authorization, request.remote or "")
            answer = self._events.answer(asked)
            reply = answer if isinstance(answer, Reply) else await answer
        headers = dict(reply.headers)
        if reply.body:
            headers["Content-Type"] = "application/json"
        return web.Response(status=reply.code, body=reply.body or None, headers=headers)

    # Inside

    async def _start(self, _: web.Application) -> None:
        self._live.start()

    async def _stop(self, _: web.Application) -> None:
        await self._live.stop()

    @property
    def _settings(self) -> Settings:
        assert self._feed.settings is not None, "the site opens when the settings have come"
        return self._feed.settings

    def _health(self) -> Health:
        return examine(self._board, self._settings.loop_stall_ms)

    def _checks(self, health: Health) -> list[Check]:
        """Of what is known; the disk is tried in the background, for whoever asks next."""
        now = time.monotonic()
        config = self._settings.config
        folder = config.get("dir") if config.get("save") or config.get("appendonly") == "yes" else None
        if folder and self._disk_task is None and now - self._disk_looked > _DISK_S:
            self._disk_looked = now
            self._disk_task = asyncio.create_task(self._look_at_disk(folder))
        audit = self._audit.state() if self._audit is not None else None
        return look(health, self._feed.latest, self._feed.age_ns, cgroup_limit(), self._disk, audit)

    async def _look_at_disk(self, folder: str) -> None:
        try:
            self._disk = await asyncio.get_running_loop().run_in_executor(None, try_disk, folder)
        finally:
            self._disk_task = None

    def _health_values(self) -> dict[str, Any]:
        health = self._health()
        return {**health.to_json(health.ready), **to_json(self._checks(health))}

    def _health_json(self, health: Health, verdict: str, is_good: bool) -> web.Response:
        return _json({**health.to_json(verdict), **to_json(self._checks(health))}, 200 if is_good else 503)

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn every failure into JSON, and count the answer."""
        response: web.StreamResponse
        transport = request.transport
        if self.visitors is not None:
            self.visitors.begin(transport)
        try:
            if not self._may(request):
                raise web.HTTPUnauthorized
            response = await handler(request)
        except web.HTTPException as refusal:
            response = _json({"error": refusal.reason.lower(), "path": request.path}, refusal.status)
            if "Allow" in refusal.headers:
                response.headers["Allow"] = refusal.headers["Allow"]
            if refusal.status == HTTPStatus.UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = tokens.CHALLENGE
        except Exception as error:
            told = make_error_id()
            named = dict(_named(request))
            log.error("request failed", error_id=told, path=request.path, **named, exc_info=error)
            response = _json({"error": HTTPStatus.INTERNAL_SERVER_ERROR.phrase.lower(), "error_id": told}, 500)
        finally:
            if self.visitors is not None:
                self.visitors.end(transport)
        self._own.record_request(request.path if request.path in self._paths else _OTHER, response.status)
        return response

    def _may(self, request: web.Request) -> bool:
        token = self._settings.metrics_token
        if not token or request.path in _HEALTH or request.path in self._event_paths:  # events look by themselves
            return True
        return tokens.shows(request.headers.get("Authorization", ""), token)


def _named(request: web.Request) -> Iterator[tuple[str, str]]:
    """What whoever asks calls the request, for the log."""
    for field, header in (("request_id", "X-Request-ID"), ("traceparent", "traceparent")):
        if given := request.headers.get(header):
            yield field, given[:_NAME_MAX]


def _takes_gzip(request: web.Request) -> bool:
    accepted = request.headers.get("Accept-Encoding", "").replace(" ", "").lower().split(",")
    return "gzip" in [coding for coding in accepted if not coding.endswith(";q=0")] or "gzip;q=1" in accepted


def _json(values: dict[str, Any], code: int = 200) -> web.Response:
    return web.Response(text=json.dumps(values, indent=2) + "\n", status=code, content_type="application/json")


async def _set_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Server"] = "kora"
