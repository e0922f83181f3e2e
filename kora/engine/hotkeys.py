"""Hot keys of an engine: who records, what is kept of it, and the session that HOTKEYS START begins."""

import resource
from dataclasses import replace
from random import random
from typing import TYPE_CHECKING

from kora.observe.hot_session import HotSession, Totals
from kora.observe.hot_windows import HotWindows, Ranking

if TYPE_CHECKING:
    from kora.engine.engine import Engine

NEVER = 1 << 62
# How many times more is recorded while the server is not busy: at 10 million accesses the rates of the ten hottest keys
# of a Zipf load are then exact to 2 %, which are exact to 6 % at the setting's own ratio.
CLOSER = 4
QUIET_TICKS = 10  # a second, after which the server is not busy any more


class HotKeyRecords:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.recorder = engine.implementation.make_hot_keys()
        clock = engine.clock
        self.windows = HotWindows(self.recorder, clock.monotonic_ns(), clock.wall_ms())
        self.session: HotSession | None = None
        self.elapsed_ns = 0  # that ending windows took
        # One request in so many is recorded; 0: none.  `samples_left` is how many until the next: call() counts it.
        self.ratio = 0
        self.samples_left = NEVER
        self._quiet_ticks = QUIET_TICKS
        self._is_busy = False
        engine.config.on_change("hotkey-sampling-ratio", lambda _: self.choose_ratio())
        engine.config.on_change("hotkey-top-k", lambda _: self.choose_ratio())
        self.choose_ratio()

    def choose_ratio(self) -> None:
        config = self._engine.config
        session = self.session
        if session is not None and session.is_active:
            self.ratio = session.sampling_ratio
        else:
            ratio = config.hotkey_sampling_ratio if self._is_busy else max(1, config.hotkey_sampling_ratio // CLOSER)
            self.ratio = ratio if config.hotkey_top_k else 0
        self.samples_left = self.step()
        self._engine.implementation.set_sampling_ratio(self.ratio)

    def step(self) -> int:
        """How many requests come until one is recorded.

        Random, with the ratio as its mean: an even one would beat with pipelines of a similar length.
        """
        return 1 + int(random() * (2 * self.ratio - 1)) if self.ratio else NEVER

    def adapt(self, commands_per_s: int) -> None:
        """Choose the ratio for so many commands per second, ten times per second."""
        if not self._engine.observing:
            return  # none are counted
        self._quiet_ticks = 0 if commands_per_s > self._engine.implementation.busy_rate else self._quiet_ticks + 1
        # Loads come in bursts: it takes a second without one to look closer again.
        is_busy = self._quiet_ticks < QUIET_TICKS
        if is_busy != self._is_busy:
            self._is_busy = is_busy
            self.choose_ratio()

    def advance(self) -> None:
        """Several times per second, and before anything is shown."""
        engine = self._engine
        now_ns = engine.monotonic_ns()
        session = self.session
        if session is not None and session.is_active and 0 < session.stop_ns <= now_ns:
            self.stop()
        elif self.windows.is_due(now_ns):
            self._end_window(now_ns)

    def _end_window(self, now_ns: int) -> None:
        if self.session is not None and self.session.is_active:
            self.session.add(self.recorder.rows())
        self.windows.end(now_ns, self._engine.clock.wall_ms())
        self.elapsed_ns += self._engine.monotonic_ns() - now_ns

    def last(self, seconds: int, metric: bytes) -> Ranking:
        self.advance()
        return self.windows.last(seconds, metric, self._engine.monotonic_ns())

    def at(self, unix_s: int, metric: bytes) -> Ranking:
        self.advance()
        return self.windows.at(unix_s, metric, self._engine.monotonic_ns())

    def start(self, session: HotSession) -> None:
        """Begin a session; one that has ended is forgotten."""
        self._end_window(self._engine.monotonic_ns())  # what was recorded before is no part of it
        self.session = session
        self.choose_ratio()

    def stop(self) -> None:
        """End the session that is active; what it has found stays."""
        session = self.session
        assert session is not None
        self._end_window(self._engine.monotonic_ns())
        session.stopped = self.totals()
        self.choose_ratio()

    def found(self) -> HotSession | None:
        """The session, with what was recorded until now."""
        self.advance()
        session = self.session
        if session is None or not session.is_active:
            return session
        return replace(session.with_rows(self.recorder.rows()), stopped=self.totals())

    def totals(self) -> Totals:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        blocks = [shard.stats for shard in self._engine.shards]
        return Totals(
            wall_ms=self._engine.clock.wall_ms(),
            monotonic_ns=self._engine.monotonic_ns(),
            commands_ns=sum(row.elapsed_ns for block in blocks for row in block.commands),
            net_bytes=sum(block.bytes_in + block.bytes_out for block in blocks),
            cpu_user_ns=int(usage.ru_utime * 1e9),
            cpu_system_ns=int(usage.ru_stime * 1e9),
        )

    def reset(self) -> None:
        """Forget what was recorded, but for the sketch, which eviction goes by."""
        self.windows.reset(self._engine.monotonic_ns(), self._engine.clock.wall_ms())

    def hottest_rate(self) -> int:
        """Accesses per second to the hottest key, lately."""
        return self.windows.hottest_rate(self._engine.monotonic_ns())

    @property
    def is_tracking(self) -> bool:
        return self.session is not None and self.session.is_active

    @property
    def size_bytes(self) -> int:
        return self.windows.size_bytes + (self.session.size_bytes if self.session is not None else 0)
