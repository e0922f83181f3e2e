"""Events over HTTP: /track, /read, /keys and /health, whichever port they come by.

/track is answered at once, since what it tells stays here for a moment.  What asks for something waits for the data
process, which answers when it has counted all that was tracked before.  /health looks at the memory that both share
alone, and never waits.
"""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias

from kora.observe.tracked_ring import TrackedRing
from kora.sidecar import tokens
from kora.sidecar.event_requests import BODY_MAX, BadParameter, event, events, listing, parameters, question
from kora.sidecar.feed import Feed, Refused, TooBusy
from kora.sidecar.settings import Settings
from kora.sidecar.tracker import Hit, Overloaded, Tracker

# How long the data process may take nothing, or not say that all is written, before it is said to be behind: it does
# the one four times a second, and the other once.
_BEHIND_S: Final = 5.0


@dataclass
class Request:
    method: str
    path: str
    query: bytes
    body: bytes
    authorization: str
    source: str  # address of the client


class Reply(NamedTuple):
    code: int
    body: bytes = b""  # JSON, if there is any
    headers: tuple[tuple[str, str], ...] = ()
    hit: Hit | None = None  # what the same request may be answered with from now on


Answer: TypeAlias = "Reply | Awaitable[Reply]"


class Events:
    def __init__(self, feed: Feed, ring: TrackedRing, tracker: Tracker) -> None:
        # For life.
        self._feed = feed
        self._ring = ring
        self._tracker = tracker
        self._started_ns = time.monotonic_ns()
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Request], Answer]]] = {
            "/track": (("GET", "POST"), self._track),
            "/read": (("GET",), self._read),
            "/keys": (("GET",), self._keys),
            "/health": (("GET",), self._health),
        }
        self.is_closing = False  # all that was tracked is put, and nothing is taken any more
        # What came, by path and code; hits aside.
        self._requests: dict[tuple[str, int], int] = {("/track", 204): 0}
        self.hits = 0
        # Of the port for events.
        self.connections = 0
        self.turned_out = 0
        # Of the running second: what each source has asked for.
        self._second = 0
        self._asked: dict[str, int] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._routes)

    @property
    def requests(self) -> dict[tuple[str, int], int]:
        return {**self._requests, ("/track", 204): self._requests["/track", 204] + self.hits}

    @property
    def remembers(self) -> bool:
        """Whether requests may be answered by count() alone, if they are ones that were answered before."""
        return not self._settings.events_rate_limit and not self.is_closing

    def count(self, hit: Hit) -> None:
        """Answer a request whose like was answered with that hit before.  Raises Overloaded."""
        self._tracker.count(hit)
        self.hits += 1

    def answer(self, request: Request) -> Answer:
        """Never raises; what is awaited does not either."""
        try:
            answer = self._routed(request)
        except BadParameter as error:
            answer = failure(400, error.to_json())
        except Overloaded:
            answer = failure(503, {"error": "the data process takes no counts, and no more can be kept"})
        if isinstance(answer, Reply):
            return self.counted(request.path, answer)
        return self._waited(request.path, answer)

    def counted(self, path: str, reply: Reply) -> Reply:
        place = path if path in self._routes else "other", reply.code
        self._requests[place] = self._requests.get(place, 0) + 1
        return reply

    def close(self) -> None:
        """Put what is there, and take no more."""
        self.is_closing = True
        self._tracker.ship()
        self._tracker.on_forget()

    def adjust(self) -> None:
        """Settings have changed."""
        self._tracker.adjust(self._settings.events_flush_interval)
        self._tracker.on_forget()  # whoever was let in may not be any more

    # What is counted

    @property
    def received(self) -> int:
        """Events, by this sidecar and by those before it."""
        return self._ring.tracked

    @property
    def lost(self) -> int:
        return self._ring.lost

    @property
    def waiting_bytes(self) -> int:
        return self._ring.waiting_bytes

    @property
    def lag_ns(self) -> int:
        """For how long the data process has taken nothing of what waits for it."""
        since_ns = self._ring.waiting_since_ns
        return time.monotonic_ns() - since_ns if since_ns else 0

    # Inside

    @property
    def _settings(self) -> Settings:
        assert self._feed.settings is not None
        return self._feed.settings

    def _routed(self, request: Request) -> Answer:
        route = self._routes.get(request.path)
        if route is None:
            return failure(404, {"error": "not found", "path": request.path})
        methods, answer = route
        # A HEAD must change nothing, and so there is none of /track.
        allowed = (*methods, "OPTIONS") if request.path == "/track" else (*methods, "HEAD", "OPTIONS")
        allow = ("Allow", ", ".join(allowed))
        if request.method == "OPTIONS":
            return Reply(204, headers=(allow,))
        if request.method not in allowed:
            text = f"{request.method} is not allowed here"
            return failure(405, {"error": text, "path": request.path}, allow)
        if request.path != "/health":
            if not self._is_trusted(request.authorization):
                return failure(401, {"error": "unauthorized"}, ("WWW-Authenticate", tokens.CHALLENGE))
            if not self._may(request.source, 1):
                return _TOO_MANY
        return answer(request)

    def _is_trusted(self, authorization: str) -> bool:
        """Whoever may see the metrics may see these, too."""
        wanted = [token for token in (self._settings.events_token, self._settings.metrics_token) if token]
        return not wanted or any(tokens.shows(authorization, token) for token in wanted)

    def _may(self, source: str, weight: int) -> bool:
        """Whether a source has not asked too much in this second yet."""
        limit = self._settings.events_rate_limit
        if not limit:
            return True
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._asked.clear()
        asked = self._asked.get(source, 0) + weight
        if asked > limit:
            return False
        self._asked[source] = asked
        return True

    def _track(self, request: Request) -> Answer:
        if self.is_closing:
            return failure(503, {"error": "the server is shutting down"})
        now_ms = time.time_ns() // 1_000_000
        negative = self._settings.events_negative
        given = parameters(request.query)
        if request.body.strip():
            if "key" in given:
                raise BadParameter("key", "is in the query, and there are events in the body")
            found = events(request.body, now_ms, negative)
            if len(found) > 1 and not self._may(request.source, len(found) - 1):
                return _TOO_MANY
            self._tracker.track(found, now_ms)
            return NO_CONTENT
        tracked = event(given, now_ms, negative)
        if tracked.at_ms is not None:
            self._tracker.track([tracked], now_ms)
            return NO_CONTENT
        hit = self._tracker.hit(tracked.key, tracked.units)
        self._tracker.count(hit)
        return Reply(204, hit=hit)

    def _read(self, request: Request) -> Answer:
        return self._asked_of_data("read", *question(parameters(request.query)))

    def _keys(self, request: Request) -> Answer:
        return self._asked_of_data("keys", *listing(parameters(request.query)))

    async def _asked_of_data(self, name: str, *details: object) -> Reply:
        # So that whoever tracks and then reads finds it; a full ring must not keep anybody from reading.
        self._tracker.ship()
        try:
            return Reply(200, _json(await self._feed.ask(name, *details)))
        except Refused as error:
            return failure(400, {"error": str(error)})
        except TooBusy as error:
            return failure(503, {"error": str(error)})

    async def _waited(self, path: str, answer: Awaitable[Reply]) -> Reply:
        return self.counted(path, await answer)

    def _health(self, _: Request) -> Reply:
        reason = self.behind()
        if reason:
            return failure(422, {"status": "error", "reason": reason})
        return Reply(200, _json({"status": "ok"}))

    def behind(self) -> str:
        """Why what is tracked does not get to where it is read from in time; "" where it does."""
        lag_s = self.lag_ns / 1e9
        if lag_s > _BEHIND_S:
            return f"the data process has taken no counts for {int(lag_s)} seconds"
        if self._feed.events_reason:
            return self._feed.events_reason
        flushed_s = (time.monotonic_ns() - max(self._ring.flushed_ns, self._started_ns)) / 1e9
        return f"the data process has not been heard of for {int(flushed_s)} seconds" if flushed_s > _BEHIND_S else ""


def failure(code: int, values: dict[str, Any], *headers: tuple[str, str]) -> Reply:
    return Reply(code, _json(values), headers)


def _json(values: object) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


NO_CONTENT: Final = Reply(204)
BODY_TOO_LONG: Final = failure(400, BadParameter("body", f"is longer than {BODY_MAX} bytes").to_json())
_TOO_MANY: Final = failure(
    HTTPStatus.TOO_MANY_REQUESTS, {"error": "too many events from one address"}, ("Retry-After", "1")
)
