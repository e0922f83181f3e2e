"""The sidecar's end of the feed: snapshots on request, and the last one when the data process does not answer.

At most one request is under way.  Whoever wants a snapshot meanwhile waits for the same answer, so that no number of
scrapers makes the data process work more than once at a time, and none piles up requests before a loop that is stuck.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from kora.engine.snapshot import Snapshot
from kora.observe.frame import Decoder, Message, encode
from kora.observe.shared_counts import SharedCounts
from kora.sidecar.settings import Settings
from kora.sidecar.tracing import TraceExport

TIMEOUT_S: Final = 1.0
# How long a profile may take beyond the time that it is about: the memory of large data is counted in a minute or two.
_PROFILE_S: Final = 150.0


class NoProfile(Exception):
    """A profile cannot be had; the text says why."""


class PendingProfile:
    """One that was asked for."""

    def __init__(self, feed: "Feed", number: int, due: float) -> None:
        self._feed = feed
        self.number = number
        self._due = due
        self.answer: asyncio.Future[tuple[dict[str, Any] | None, str]] = asyncio.get_running_loop().create_future()

    @property
    def is_overdue(self) -> bool:
        return asyncio.get_running_loop().time() > self._due

    def result(self) -> dict[str, Any]:
        """Once there is one; raises NoProfile."""
        if self.answer.cancelled():
            raise NoProfile("the data process has gone")
        values, reason = self.answer.result()
        if values is None:
            raise NoProfile(reason)
        return values

    def stop(self) -> None:
        self._feed.send(["profile-stop", self.number])

    async def finished(self) -> None:
        """It is over, one way or the other, if that is told in time."""
        await asyncio.wait([self.answer], timeout=TIMEOUT_S)


# Of questions whose answers take as long as what they are about is large.
_ANSWER_S: Final = 10.0
# Questions that may be under way, each for somebody else.
_QUESTIONS_MAX: Final = 1000


class Refused(Exception):
    """What was asked cannot be answered; the text says why."""


class TooBusy(Exception):
    """The data process does not answer, or not yet."""


@dataclass
class _Request:
    number: int
    started: float  # as the loop's clock has it
    answer: "asyncio.Future[Snapshot]"


class Feed(asyncio.Protocol):
    """Everything that the sidecar knows of the data process, the activity board aside."""

    def __init__(self, timeout_s: float = TIMEOUT_S, shared: SharedCounts | None = None) -> None:
        # For life.
        self._shared = shared  # where histograms are, unless messages have them
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder()
        # What has come.
        self.settings: Settings | None = None
        self.follow: Callable[[Settings], object] = _follow_nobody
        self.traces = TraceExport()
        self._told = asyncio.Event()  # there are settings, or there will never be any
        self.closed: asyncio.Future[None] = self._loop.create_future()  # the data process has gone
        self._latest: Snapshot | None = None
        self._latest_ns = 0
        self.timeouts = 0
        # Of the audit log: who answers, and what was asked before there was anybody.
        self._asked: Callable[[int, str, int], None] | None = None
        self._early: list[tuple[int, str, int]] = []
        # What is under way.
        self._request: _Request | None = None
        self._shards: list[Any] = []  # that have come for it
        self._next_number = 1
        self._glance: asyncio.Future[dict[str, Any]] | None = None
        self._report: asyncio.Future[dict[str, Any]] | None = None  # of DOCTOR
        self._profile: PendingProfile | None = None
        self._questions: dict[int, asyncio.Future[Any]] = {}
        # Tracked events.
        self.events_reason = ""  # why they cannot be written down now, as the data process has said
        self.on_drain: Callable[[], object] = _do_nothing  # all are to be put, and no more to be taken

    async def first_settings(self) -> Settings | None:
        """None if the data process has gone without a word."""
        await self._told.wait()
        return self.settings

    async def snapshot(self) -> Snapshot | None:
        """A fresh snapshot; the last one if the data process is too busy to give it, None if it never gave any."""
        request = self._request
        if request is None:
            request = _Request(self._next_number, self._loop.time(), self._loop.create_future())
            self._next_number += 1
            self._request = request
            self.send(["snapshot", request.number, True])
        left_s = request.started + self._timeout_s - self._loop.time()
        # Not wait_for(): it would cancel the answer that others wait for as well.
        await asyncio.wait([request.answer], timeout=max(0.0, left_s))
        if not request.answer.done():
            # The request stays: its answer is used whenever it comes, and until then nobody asks again.
            self.timeouts += 1
        return self._latest

    async def glance(self) -> dict[str, Any] | None:
        """What kora.engine.glance gives; None while the data process is too busy.  For one who asks at a time."""
        if self._glance is None:
            self._glance = self._loop.create_future()
            self.send(["glance"])
        await asyncio.wait([self._glance], timeout=self._timeout_s)
        if not self._glance.done():
            return None  # its answer is for whoever asks next
        answer, self._glance = self._glance, None
        return None if answer.cancelled() else answer.result()

    async def report(self) -> dict[str, Any] | None:
        """What DOCTOR finds; None while the data process is too busy.  Whoever asks meanwhile gets the same answer."""
        answer = self._report
        if answer is None:
            answer = self._report = self._loop.create_future()
            self.send(["doctor"])
        await asyncio.wait([answer], timeout=self._timeout_s)
        return answer.result() if answer.done() and not answer.cancelled() else None

    def profile(self, kind: str, seconds: int, hz: int) -> PendingProfile:
        """Ask for a profile; who has it is not to ask for another before that is answered."""
        self._profile = PendingProfile(self, self._next_number, self._loop.time() + seconds + _PROFILE_S)
        self._next_number += 1
        self.send(["profile", self._profile.number, kind, seconds, hz])
        return self._profile

    async def ask(self, name: str, *details: object) -> Any:
        """Ask for something that everybody has to ask for himself.  Raises Refused, or TooBusy."""
        if len(self._questions) >= _QUESTIONS_MAX:
            raise TooBusy("too many questions wait for the data process")
        number = self._next_number
        self._next_number += 1
        answer = self._questions[number] = self._loop.create_future()
        self.send(["ask", number, name, list(details)])
        try:
            await asyncio.wait([answer], timeout=_ANSWER_S)
            if not answer.done() or answer.cancelled():
                raise TooBusy("the data process does not answer")
            return answer.result()
        finally:
            del self._questions[number]

    @property
    def latest(self) -> Snapshot | None:
        """The last snapshot that came, without asking."""
        return self._latest

    @property
    def age_ns(self) -> int | None:
        """How old the latest snapshot is; None before there is one."""
        return time.monotonic_ns() - self._latest_ns if self._latest is not None else None

    def send(self, message: Message) -> None:
        if self._transport is not None:
            self._transport.write(encode(message))

    def answer_audit(self, asked: Callable[[int, str, int], None]) -> None:
        """Who answers what the data process asks of the audit log, by number, from now on."""
        self._asked = asked
        for question in self._early:
            asked(*question)
        self._early.clear()

    def close(self) -> None:
        """Send what is left, then hang up."""
        if self._transport is not None:
            self._transport.close()

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            self._receive(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._told.set()
        if self._request is not None:
            self._request.answer.cancel()  # nobody need wait any more
        if self._glance is not None:
            self._glance.cancel()
        if self._report is not None:
            self._report.cancel()
        if self._profile is not None:
            self._profile.answer.cancel()
        for answer in self._questions.values():
            answer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    # Inside

    def _receive(self, message: Message) -> None:
        match message:
            case ["shard", number, values] if self._request is not None and number == self._request.number:
                if self._shared is not None:
                    values["commands"] = self._shared.rows(values["commands"], len(self._shards))
                self._shards.append(values)
            case ["snapshot", number, values] if self._request is not None and number == self._request.number:
                self._latest, self._latest_ns = Snapshot.from_plain(values), time.monotonic_ns()
                self._latest.shards += self._shards
                if self._shared is not None:
                    shards = len(self._latest.shards)
                    for block, name in enumerate(("waits", "services"), shards):
                        packed = getattr(self._latest, name)
                        setattr(self._latest, name, self._shared.times(packed, block))
                self._shards = []
                self._request.answer.set_result(self._latest)
                self._request = None
            case ["glance", values] if self._glance is not None:
                self._glance.set_result(values)
            case ["doctor", values] if self._report is not None:
                self._report.set_result(values)
                self._report = None
            case ["profile", number, values, reason]:
                if self._profile is not None and number == self._profile.number:
                    self._profile.answer.set_result((values, reason))
                    self._profile = None
            case ["audit", number, what, count]:
                if self._asked is None:
                    self._early.append((number, what, count))
                else:
                    self._asked(number, what, count)
            case ["settings", values]:
                self.settings = Settings.from_plain(values)
                self._told.set()
                self.traces.follow(self.settings)
                self.follow(self.settings)
            case ["answer", number, value]:
                if (answer := self._questions.get(number)) is not None:
                    answer.set_result(value)
            case ["refused", number, text]:
                if (answer := self._questions.get(number)) is not None:
                    answer.set_exception(Refused(text))
            case ["not now", number, text]:
                if (answer := self._questions.get(number)) is not None:
                    answer.set_exception(TooBusy(text))
            case ["events behind", reason]:
                self.events_reason = reason
            case ["drain"]:
                self.on_drain()
                self.send(["drained"])
            case ["spans", spans, packed, shift_ns]:
                self.traces.add(spans, packed, shift_ns)
            case _:
                raise AssertionError(f"not a message of the data process: {message[:2]!r}")


def _follow_nobody(_: Settings) -> None:
    pass


def _do_nothing() -> None:
    pass
