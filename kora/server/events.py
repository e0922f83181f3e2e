"""The data process' end of what is tracked over HTTP: takes sums out of the shared ring, and answers what is asked.

A record is taken in each turn of the loop, and clients have theirs in between.  What is asked for is answered when all
that was in the ring before has been taken: whoever tracks and then reads finds it.
"""

import asyncio
import marshal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kora.engine.series import Steps
from kora.errors import CommandError
from kora.log import logger
from kora.observe.frame import Message
from kora.observe.tracked_ring import TrackedRing
from kora.types.tally import Cell, Tally, interval_start

if TYPE_CHECKING:
    from kora.engine.engine import Engine

log = logger("kora.events")

# How often it is looked at, and told, whether all is written in time.
_LOOK_S: Final = 1.0
_MOST_CELLS: Final = 256
# For how long an answer is made before clients have a turn.
_STEP_NS: Final = 1_000_000
_STEP_NAMES: Final = 100  # that are made text between two looks at the clock


class Events:
    def __init__(self, engine: "Engine", send: Callable[[Message], None]) -> None:
        self._engine = engine
        self._send = send
        self._loop = asyncio.get_running_loop()
        self.ring = TrackedRing.shared()
        self._is_turning = False
        # What was asked, each with how far the ring had been written then, and what is being answered, in turn.
        self._questions: deque[tuple[int, int, str, list[Any]]] = deque()
        self._answers: deque[tuple[int, Steps]] = deque()
        self._reason = ""
        self._timer = self._loop.call_later(_LOOK_S, self._look)

    def begin(self) -> None:
        """Another sidecar is there."""
        self._questions.clear()
        self._answers.clear()
        self._reason = ""
        self.look()

    def look(self) -> None:
        """Something was put into the ring."""
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)

    def ask(self, number: int, name: str, details: list[Any]) -> None:
        self._questions.append((self.ring.written, number, name, details))
        self.look()

    def count_the_rest(self) -> None:
        """All that the ring and the log still have, once there is no sidecar any more; clients are gone, too."""
        while self._take():
            pass
        start_ms, tracks = self.ring.left_behind()
        while not tracks and self._take():
            pass  # one that was starting has just put what its predecessor had left
        lost = self.ring.settle(len(tracks))
        if tracks or lost:
            log.warning("events of a sidecar that was killed", recovered=len(tracks), lost=lost)
        interval_ms = 1000 * self._engine.config.events_flush_interval
        tallies: dict[tuple[int, bytes], Tally] = {}
        for key, units, at_ms in tracks:
            at_ms = start_ms if at_ms is None else at_ms
            tallies.setdefault((interval_start(at_ms, interval_ms), key), Tally()).add(units, at_ms)
        cells = [tally.cell(key, start_ms) for (start_ms, key), tally in tallies.items()]
        for first in range(0, len(cells), _MOST_CELLS):
            self._merge(cells[first : first + _MOST_CELLS])
        self.ring.drop_log()

    def stop(self) -> None:
        self._timer.cancel()
        self.ring.close()

    # Inside

    def _turn(self) -> None:
        self._is_turning = False
        if self.ring.is_closed:
            return
        has_taken = self._take()
        if self._questions and self._questions[0][0] <= self.ring.read:
            _, number, name, details = self._questions.popleft()
            if self._engine.loading is not None:
                self._send(["not now", number, "the server is loading its data"])
            else:
                self._answers.append((number, self._steps(name, details)))
        if self._answers:
            self._go_on(*self._answers.popleft())
        if has_taken or self._questions or self._answers:
            self.look()

    def _take(self) -> bool:
        found = self.ring.take()
        if found is None:
            return False
        record, stop = found
        self._merge(marshal.loads(record))
        self.ring.taken(stop, self._engine.clock.monotonic_ns())
        return True

    def _merge(self, cells: list[Cell]) -> None:
        try:
            self._engine.tracked.merge(cells)
        except Exception as error:
            # A bug here must not be met again and again.
            self._engine.note_bug(error, events=len(cells))

    def _go_on(self, number: int, steps: Steps) -> None:
        """For a millisecond, with the answer to a question."""
        clock = self._engine.clock
        stop_ns = clock.monotonic_ns() + _STEP_NS
        try:
            while clock.monotonic_ns() < stop_ns:
                next(steps)
            self._answers.append((number, steps))
        except StopIteration as end:
            self._send(["answer", number, end.value])
        except CommandError as error:
            self._send(["refused", number, error.message])
        except Exception as error:
            self._engine.note_bug(error, question=number)
            self._send(["not now", number, "internal error"])

    def _steps(self, name: str, details: list[Any]) -> Steps:
        tracked = self._engine.tracked
        match name:
            case "read":
                return (yield from tracked.reading(*details))
            case "keys":
                pattern, count = details
                names = yield from tracked.listing(pattern, count)
                shown: list[str] = []
                for key in names:
                    shown.append(key.decode("utf-8", "replace"))
                    if not len(shown) % _STEP_NAMES:
                        yield
                return {"keys": shown}
            case _:
                raise AssertionError(f"not a question of a sidecar: {name!r}")

    def _look(self) -> None:
        is_well, reason = self._engine.tracked.health()
        if is_well:
            self.ring.flushed(self._engine.clock.monotonic_ns())
        if reason != self._reason:
            self._reason = reason
            self._send(["events behind", reason])
        self._timer = self._loop.call_later(_LOOK_S, self._look)
