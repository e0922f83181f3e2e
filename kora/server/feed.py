"""The data process' end of the feed: starts the sidecar, answers its requests, and starts it again when it dies."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from kora.config import SETTINGS, lookup
from kora.engine import glance, snapshot
from kora.engine.doctor import gather
from kora.log import logger
from kora.observe.doctor import LAST_S, to_json
from kora.observe.doctor_rules import examine
from kora.observe.frame import Decoder, Message, encode
from kora.observe.traces import Plain
from kora.server.audit import LIVE as AUDIT_SETTINGS
from kora.server.audit import AuditFeed
from kora.server.events import Events
from kora.server.profiling import Profiling

if TYPE_CHECKING:
    from kora.engine.engine import Engine

log = logger("kora.feed")

_BACKOFF_MIN_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0
# A sidecar that lived so long did not die of how it was started.
_STEADY_S: Final = 10.0
_EXIT_WAIT_S: Final = 1.0
# What may wait to be taken by the sidecar before spans wait on this side.
_SPANS_BEHIND_BYTES: Final = 1 << 20


class Feed(asyncio.Protocol):
    """One sidecar after another; stop() ends it."""

    def __init__(self, engine: "Engine") -> None:
        # For the life of the server.
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self.restarts = 0
        # Done when the first sidecar listens; raises OSError, with the reason, where it cannot.
        self.started: asyncio.Task[None] = self._loop.create_task(self._first())
        self._first_answer: asyncio.Future[None] = self._loop.create_future()
        # As it was opened here: a sidecar may be started after CONFIG SET has changed the folder.
        self._logfile = os.path.abspath(engine.config.logfile) if engine.config.logfile else ""
        self._stopping = False
        self._backoff_s = _BACKOFF_MIN_S
        self._timer: asyncio.TimerHandle | None = None
        # Of the running sidecar.
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._started_at = 0.0
        # What commands took, where the sidecar can read it without a word from here; -1 where it has to be told.
        self._histograms_fd = os.memfd_create("kora-histograms")
        if not engine.implementation.share_histograms(self._histograms_fd):
            os.close(self._histograms_fd)
            self._histograms_fd = -1
        self._profiling = Profiling(engine, self._send)
        # What is tracked over HTTP.
        self._events = Events(engine, self._send)
        self._drained: asyncio.Future[None] | None = None
        engine.tracing.ship = self._ship_spans
        self._audit = AuditFeed(engine, self._send, lambda: self._transport is not None)
        for name in _LIVE_SETTINGS:
            engine.config.on_change(name, self._settings_changed)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), self._engine.board.fd]
        fds += [self._histograms_fd, self._events.ring.fd]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, fds)],
            stdin=subprocess.DEVNULL,
            pass_fds=[fd for fd in (*fds, *self._audit.fds) if fd >= 0],
        )
        theirs.close()
        ours.setblocking(False)
        self._decoder = Decoder()
        self._started_at = self._loop.time()
        await self._loop.create_connection(lambda: self, sock=ours)

    async def _first(self) -> None:
        await self._first_answer

    async def drain(self) -> None:
        """Count all that was tracked over HTTP, and let no more be: the server is about to end."""
        await self._audit.drain()
        if self._transport is not None:
            self._drained = self._loop.create_future()
            self._send(["drain"])
            await asyncio.wait([self._drained], timeout=_EXIT_WAIT_S)
        if self._drained is None or not self._drained.done() or self._drained.cancelled():
            # It is dead already, or as good as that: what it has written down is counted here.
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            if self._process is not None:
                await self._loop.run_in_executor(None, _end, self._process, 0.0)
        self._events.count_the_rest()

    async def stop(self) -> None:
        """Close the feed, at which the sidecar ends; make sure that it does."""
        await self._audit.drain()
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._profiling.stop()
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None:
            await self._loop.run_in_executor(None, _end, self._process)
        if self._histograms_fd >= 0:
            os.close(self._histograms_fd)
            self._histograms_fd = -1
        self._events.stop()

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(["settings", self._settings()])
        self._events.begin()

    def data_received(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            self._answer(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._profiling.stop()
        self._audit.lost()
        if self._drained is not None:
            self._drained.cancel()
        if self._stopping or not self._first_answer.done():
            if not self._first_answer.done():
                self._first_answer.set_exception(OSError("the sidecar ended before it was listening"))
            return
        if self._loop.time() - self._started_at > _STEADY_S:
            self._backoff_s = _BACKOFF_MIN_S
        self.restarts += 1
        log.error("sidecar died", pid=self.pid, restart_in_ms=int(self._backoff_s * 1000), restarts=self.restarts)
        self._timer = self._loop.call_later(self._backoff_s, self._restart)
        self._backoff_s = min(_BACKOFF_MAX_S, self._backoff_s * 2)

    # Inside

    def _restart(self) -> None:
        if self._process is not None:
            _end(self._process, wait_s=0.0)
        self._restarting = self._loop.create_task(self.start())

    def _answer(self, message: Message) -> None:
        match message:
            case ["snapshot", number, with_histograms]:
                self._send_snapshot(number, bool(with_histograms))
            case ["glance"]:
                self._send(["glance", glance.take(self._engine)])
            case ["doctor"]:
                facts = gather(self._engine, LAST_S)
                self._send(["doctor", to_json(facts, examine(facts))])
            case ["profile", number, kind, seconds, hz]:
                self._profiling.start(number, kind, seconds, hz)
            case ["profile-stop", number]:
                self._profiling.stop(number)
            case ["audit", number, reply]:
                self._audit.answer(number, reply)
            case ["tracked"]:
                self._events.look()
            case ["ask", number, name, details]:
                self._events.ask(number, name, details)
            case ["drained"] if self._drained is not None:
                if not self._drained.done():
                    self._drained.set_result(None)
            case ["events listening"]:
                log.info("listening for events", port=self._engine.config.events_port)
            case ["events not listening", text]:
                remedy = "choose another events-port, or 0 for none"
                log.warning("not listening for events", reason=text, remedy=remedy)
            case ["listening"]:
                log.info("sidecar listening", port=self._engine.config.metrics_port, pid=self.pid)
                if not self._first_answer.done():
                    self._first_answer.set_result(None)
            case ["failed", text]:
                if not self._first_answer.done():
                    self._stopping = True
                    self._first_answer.set_exception(OSError(text))
                else:
                    log.error("sidecar cannot listen", reason=text)
            case _:
                raise AssertionError(f"not a message of a sidecar: {message!r}")

    def _send_snapshot(self, number: int, with_histograms: bool) -> None:
        """Shard by shard, each in a turn of the loop of its own: clients need not wait for all of it."""
        is_packed = self._histograms_fd >= 0
        head = snapshot.take(self._engine, with_histograms, shards=[], packed=is_packed, exactly=False)
        shards = iter(self._engine.shards)

        def send_next() -> None:
            shard = next(shards, None)
            if shard is None:
                self._send(["snapshot", number, head.to_plain()])
                return
            self._send(["shard", number, snapshot.copy_shard(shard, with_histograms, is_packed)])
            self._loop.call_soon(send_next)

        self._loop.call_soon(send_next)

    def _send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(encode(message))

    def _ship_spans(self, spans: list[Plain], packed: bytes, shift_ns: int) -> bool:
        """Have the sidecar export them; False while it is not there, or has not taken the last ones yet."""
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() > _SPANS_BEHIND_BYTES:
            return False
        self._send(["spans", spans, packed, shift_ns])
        return True

    def _settings(self) -> dict[str, Any]:
        engine, config = self._engine, self._engine.config
        return {
            "version": engine.version,
            "kernel": engine.kernel,
            "started_ms": engine.started_ms,
            "port": config.port,
            "metrics_bind": list(config.metrics_bind),
            "metrics_port": config.metrics_port,
            "loop_stall_ms": config.loop_stall_ms,
            "restarts": self.restarts,
            "metrics_series_max": config.metrics_series_max,
            "metrics_token": config.metrics_token,
            "debug_endpoints": config.debug_endpoints,
            "tls_cert_file": config.tls_cert_file if config.tls_port else "",
            "config": config.get(*SHOWN),
            "keeps_history": True,
            "tracing_enabled": config.tracing_enabled,
            "tracing_endpoint": config.tracing_endpoint,
            "tracing_queue_max": config.tracing_queue_max,
            "commands": engine.tracing.names,
            "run_id": engine.run_id,
            "audit": self._audit.settings(),
            "log_level": config.log_level,
            "log_format": config.log_format,
            "logfile": self._logfile,
            "log_repeats_max": config.log_repeats_max,
            "events_port": config.events_port if config.wants_events else 0,
            "events_port_chosen": config.source("events-port") != "default",
            "events_bind": list(config.events_bind),
            "events_token": config.events_token,
            "events_rate_limit": config.events_rate_limit,
            "events_flush_interval": config.events_flush_interval,
            "events_negative": config.events_negative,
        }

    def reopen_logs(self) -> None:
        """Have the sidecar open its log anew, which it does whenever it is told its settings."""
        self._send(["settings", self._settings()])

    def _settings_changed(self, _: Any) -> None:
        self._send(["settings", self._settings()])


# Not `python -m`, which would import from the current folder first, whatever lies there; this puts in its place the
# folder that this package came from.
_START: Final = f"""\
import runpy, sys
sys.path[0] = {str(Path(__file__).parents[2])!r}
runpy.run_module("kora.sidecar", run_name="__main__")
"""

# Settings that redis_* families of /metrics show, by the names that CONFIG GET has for them.
SHOWN: Final = (
    "databases",
    # Whether and where health tries the disk.
    "dir",
    "save",
    "appendonly",
    "maxclients",
    "maxmemory",
    "io-threads",
    "repl-backlog-size",
    "client-output-buffer-limit",
    "commandlog-execution-slower-than",
    "commandlog-request-larger-than",
    "commandlog-reply-larger-than",
    "commandlog-slow-execution-max-len",
    "commandlog-large-request-max-len",
    "commandlog-large-reply-max-len",
)
# Settings whose change the sidecar is told.
_LIVE_SETTINGS: Final = (
    "debug-endpoints",
    "loop-stall-ms",
    "log-level",
    "log-repeats-max",
    *(setting.name for setting in SETTINGS if setting.section == "Events" and setting.mutable),
    "metrics-series-max",
    "metrics-token",
    "tracing-enabled",
    "tracing-endpoint",
    "tracing-queue-max",
    *AUDIT_SETTINGS,
    *(setting.name for name in SHOWN if (setting := lookup(name)) is not None and setting.mutable),
)


def _end(process: "subprocess.Popen[bytes]", wait_s: float = _EXIT_WAIT_S) -> None:
    """Reap a sidecar whose feed is closed; kill it if it will not go."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
        return
    process.kill()
    process.wait()
