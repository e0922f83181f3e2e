"""The sidecar process: `python -m kora.sidecar FEED_FD BOARD_FD [HISTOGRAMS_FD [EVENTS_FD]]`.

The data process alone starts it; -1 stands for what there is none of.

It waits for its settings, opens its HTTP ports, and says on the feed that it listens or why it cannot.  It ends when
the feed does, and only then: a terminal's ^C and a service manager's SIGTERM reach it as well as the data process,
which may go on for a while, and health has to be answered until the end.
"""

import signal

if __name__ == "__main__":
    # First of all, since importing the rest takes a while.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from kora.audit.ring import Ring
from kora.log import REPEATS_S, Log, logger
from kora.observe.board import Board
from kora.observe.shared_counts import SharedCounts
from kora.observe.tracked_ring import TrackedRing
from kora.sidecar.audit import AuditLog
from kora.sidecar.events import Events
from kora.sidecar.events_port import EventsPort
from kora.sidecar.feed import Feed
from kora.sidecar.listener import BACKLOG, ListenError, open_listeners
from kora.sidecar.settings import Settings
from kora.sidecar.tracker import Tracker
from kora.sidecar.visitors import Visitors
from kora.sidecar.web import FIELD_MAX, LINE_MAX, Site

log = logger("kora.sidecar")


async def serve(feed_fd: int, board_fd: int, histograms_fd: int = -1, events_fd: int = -1) -> int:
    """Until the feed closes; returns the exit code."""
    loop = asyncio.get_running_loop()
    feed = Feed(shared=SharedCounts(histograms_fd) if histograms_fd >= 0 else None)
    await loop.create_connection(lambda: feed, sock=socket.socket(fileno=feed_fd))
    board = Board(board_fd)
    settings = await feed.first_settings()
    if settings is None:
        return 0
    feed.follow = follow = partial(_follow, _open_log(settings))
    follow(settings)
    audit = _open_audit(feed, settings)
    try:
        listeners = []
        if settings.metrics_port:
            listeners = open_listeners(settings.metrics_bind, settings.metrics_port)
        event_listeners = _open_events(feed, settings)
    except ListenError as error:
        feed.send(["failed", str(error)])
        feed.close()
        await feed.closed
        await _close_audit(audit)
        return 1
    # No access log: a line per probe would be most of the log, and kora_sidecar_requests_total counts them.
    events, port = _make_events(feed, events_fd, follow) if events_fd >= 0 else (None, None)
    site = Site(feed, board, events, audit)
    runner = web.AppRunner(
        site.application(),
        access_log=None,
        shutdown_timeout=0,
        max_line_size=LINE_MAX,
        max_field_size=FIELD_MAX,
    )
    await runner.setup()
    assert runner.server is not None
    site.visitors = Visitors(cast(Callable[[], asyncio.Protocol], runner.server))
    servers = [
        await loop.create_server(site.visitors.protocol, sock=listener, backlog=BACKLOG) for listener in listeners
    ]
    if port is not None:
        servers += [
            await loop.create_server(port.connection, sock=listener, backlog=BACKLOG) for listener in event_listeners
        ]
    # What is there now stays: a collection while a page is made need not look at it.
    gc.collect()
    gc.freeze()
    feed.send(["listening"])
    await feed.closed
    for server in servers:
        server.close()
    if port is not None:
        port.close()
    await runner.cleanup()
    feed.traces.close()
    await _close_audit(audit)
    return 0


def _open_audit(feed: Feed, settings: Settings) -> AuditLog | None:
    if not settings.audit:
        return None
    loop = asyncio.get_running_loop()

    def values() -> dict[str, Any]:
        assert feed.settings is not None
        return feed.settings.audit

    audit = AuditLog(Ring(settings.audit["fd"]), values, settings.version)

    def asked(number: int, what: str, count: int) -> None:
        loop.run_in_executor(None, audit.answer, what, count).add_done_callback(
            lambda done: feed.send(["audit", number, done.result()])
        )

    audit.start()
    feed.answer_audit(asked)
    return audit


async def _close_audit(audit: AuditLog | None) -> None:
    if audit is not None:
        await asyncio.get_running_loop().run_in_executor(None, audit.stop)


def _open_events(feed: Feed, settings: Settings) -> list[socket.socket]:
    """Raises ListenError where somebody has chosen the port; nobody need do without a server for one that is there."""
    if not settings.events_port:
        return []
    try:
        listeners = open_listeners(settings.events_bind, settings.events_port, "events")
    except ListenError as error:
        if settings.events_port_chosen:
            raise
        feed.send(["events not listening", str(error)])
        return []
    feed.send(["events listening"])
    return listeners


def _make_events(feed: Feed, fd: int, follow: Callable[[Settings], None]) -> tuple[Events, EventsPort]:
    """What was tracked by a sidecar that was killed is counted, too."""
    settings = feed.settings
    assert settings is not None
    ring = TrackedRing(fd)
    tracker = Tracker(
        ring,
        asyncio.get_running_loop(),
        settings.events_flush_interval,
        on_put=partial(feed.send, ["tracked"]),
    )
    recovered, lost = tracker.recover()
    if recovered or lost:
        log.warning("events of a sidecar that was killed", recovered=recovered, lost=lost)
    events = Events(feed, ring, tracker)
    port = EventsPort(events)
    tracker.on_forget = port.forget

    def follow_both(settings: Settings) -> None:
        follow(settings)
        events.adjust()

    feed.follow = follow_both
    feed.on_drain = events.close
    return events, port


class _Handler(logging.Handler):
    """What asyncio and aiohttp log, in the shape of Kora's own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BadHttpMessage):
            return  # the client's mistake, answered with 400
        log.error(record.getMessage(), source=record.name, **({"exc_info": error} if error else {}))


def _open_log(settings: Settings) -> Log:
    as_json = settings.log_format == "json"
    try:
        output = Log(settings.logfile, as_json, sys.stderr)
    except OSError as error:
        output = Log("", as_json, sys.stderr)
        log.error("log not opened", path=settings.logfile, reason=error.strerror or str(error))
    logging.basicConfig(handlers=[_Handler()], level=logging.ERROR)
    _tell_repeats(output)
    return output


def _follow(output: Log, settings: Settings) -> None:
    """Settings have come: because some have changed, or because somebody has moved the log away."""
    output.set_levels(settings.log_level)
    output.repeats_max = settings.log_repeats_max
    try:
        output.reopen()
    except OSError as error:
        log.error("log not opened anew", path=settings.logfile, reason=error.strerror or str(error))


def _tell_repeats(output: Log) -> None:
    output.tell_repeats()
    asyncio.get_running_loop().call_later(REPEATS_S, _tell_repeats, output)


if __name__ == "__main__":
    sys.exit(uvloop.run(serve(*map(int, sys.argv[1:]))))
