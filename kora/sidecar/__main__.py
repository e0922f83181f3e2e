"""The sidecar process: `python -m kora.sidecar FEED_FD BOARD_FD [HISTOGRAMS_FD]`, started by the data process alone.

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
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from kora.log import REPEATS_S, Log, logger
from kora.observe.board import Board
from kora.observe.shared_counts import SharedCounts
from kora.sidecar.feed import Feed
from kora.sidecar.listener import BACKLOG, ListenError, open_listeners
from kora.sidecar.settings import Settings
from kora.sidecar.visitors import Visitors
from kora.sidecar.web import FIELD_MAX, LINE_MAX, Site

log = logger("kora.sidecar")


async def serve(feed_fd: int, board_fd: int, histograms_fd: int = -1) -> int:
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
    try:
        listeners = open_listeners(settings.metrics_bind, settings.metrics_port)
    except ListenError as error:
        feed.send(["failed", str(error)])
        feed.close()
        await feed.closed
        return 1
    # No access log: a line per probe would be most of the log, and kora_sidecar_requests_total counts them.
    site = Site(feed, board)
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
    # What is there now stays: a collection while a page is made need not look at it.
    gc.collect()
    gc.freeze()
    feed.send(["listening"])
    await feed.closed
    for server in servers:
        server.close()
    await runner.cleanup()
    return 0


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
    sys.exit(asyncio.run(serve(*map(int, sys.argv[1:]))))
