"""/debug/pprof/: profiles of the data process, one at a time, in the forms of kora.observe.profile.

The data process counts (kora/server/profiling.py); here its counts get names and are written.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from kora.observe.cpu_samples import THREADS
from kora.observe.profile import FORMATS, Frame, Profile, Sample
from kora.sidecar.feed import Feed, NoProfile
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.symbols import Symbols

PATH: Final = "/debug/pprof/"
SECONDS_MAX: Final = 300
_SECONDS: Final = 30
# The system looks at CPU clocks a few hundred times a second at most.
HZ_MAX: Final = 1000
_HZ: Final = 100
# How often it is looked whether somebody still waits.
_LOOK_S: Final = 0.5
_LOOP: Final = Frame("event loop")
_THREADS: Final = Frame("threads")
_OBJECTS: Final = (("inuse_objects", "count"), ("inuse_space", "bytes"))
# What runs Python: of it the stack tells more.
_INTERPRETERS: Final = ("python", "libpython")


class BadParameter(Exception):
    """A parameter of a request makes no sense: the message names it."""


@dataclass(frozen=True)
class Kind:
    name: str
    path: str
    help: str
    parameters: tuple[str, ...]


KINDS: Final = (
    Kind(
        "cpu",
        "profile",
        f"what the data process spends CPU time on, by command: ?seconds={_SECONDS}&hz={_HZ}&by=command",
        ("seconds", "hz", "by"),
    ),
    Kind(
        "heap",
        "heap",
        "what is in memory now: keys by database, type and prefix, and live objects; fork(2) stops the server for some "
        "milliseconds, and for more with gigabytes",
        (),
    ),
    Kind(
        "alloc",
        "alloc",
        f"what Python code allocates in some time and keeps, which slows it down: ?seconds={_SECONDS}",
        ("seconds",),
    ),
)


@dataclass(frozen=True)
class Wish:
    seconds: int
    hz: int
    by_command: bool
    form: str

    @classmethod
    def read(cls, query: Mapping[str, str], kind: Kind) -> "Wish":
        """Raises BadParameter."""
        known = ("format", *kind.parameters)
        for name in query:
            if name not in known:
                raise BadParameter(f"{name[:64]} is no parameter of {kind.path}, which has {', '.join(known)}")
        form = query.get("format", "pprof")
        if form not in FORMATS:
            raise BadParameter(f"format must be one of {', '.join(FORMATS)}")
        if query.get("by", "command") != "command":
            raise BadParameter("by must be command")
        return cls(
            _whole(query, "seconds", _SECONDS, SECONDS_MAX), _whole(query, "hz", _HZ, HZ_MAX), "by" in query, form
        )


def _whole(query: Mapping[str, str], name: str, default: int, largest: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= largest):
        raise BadParameter(f"{name} must be a whole number, 1 to {largest}")
    return int(text)


class Profiles:
    def __init__(self, feed: Feed, own: OwnStats) -> None:
        self._feed = feed
        self._own = own
        self._running = ""  # the kind of the one under way

    @property
    def paths(self) -> list[str]:
        return [PATH, *(PATH + kind.path for kind in KINDS)]

    async def index(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        lines = [f"{PATH + kind.path:22}  {kind.help}\n" for kind in KINDS]
        lines.append(f"\nEach also takes &format={'|'.join(FORMATS)}.  One at a time.\n")
        return web.Response(text="".join(lines))

    async def profile(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal()
        if refusal is not None:
            return refusal
        kind = next(kind for kind in KINDS if PATH + kind.path == request.path)
        try:
            wish = Wish.read(request.query, kind)
        except BadParameter as error:
            return _failure(400, str(error))
        if self._running:
            return _failure(409, f"another profile is being taken: {self._running}; one at a time")
        self._running = self._own.profile_running = kind.name
        try:
            values = await self._take(request, kind, wish)
            if values is None:
                return _failure(503, "nobody waits for it")
            body = await asyncio.get_running_loop().run_in_executor(None, _written, values, kind, wish)
        except NoProfile as error:
            return _failure(503, f"no profile: {error}")
        finally:
            self._running = self._own.profile_running = ""
        self._own.record_profile(kind.name, values.get("fork_ns", 0))
        form = FORMATS[wish.form]
        name = f"kora-{kind.name}.{form.ending}"
        headers = {"Content-Type": form.content_type, "Content-Disposition": f'attachment; filename="{name}"'}
        return web.Response(body=body, headers=headers)

    def _refusal(self) -> web.Response | None:
        settings = self._feed.settings
        if settings is not None and settings.debug_endpoints:
            return None
        return _failure(
            403, "profiles are off: CONFIG SET debug-endpoints yes, or debug-endpoints in the configuration"
        )

    async def _take(self, request: web.Request, kind: Kind, wish: Wish) -> dict[str, Any] | None:
        """None if whoever asked has gone meanwhile; raises NoProfile."""
        seconds = wish.seconds if "seconds" in kind.parameters else 0
        profile = self._feed.profile(kind.name, seconds, wish.hz)
        while True:
            # Not wait_for(), which would cancel it.
            await asyncio.wait([profile.answer], timeout=_LOOK_S)
            if profile.answer.done():
                return profile.result()
            transport = request.transport
            if transport is None or transport.is_closing():
                profile.stop()
                with contextlib.suppress(NoProfile):
                    await profile.finished()
                return None
            if profile.is_overdue:
                profile.stop()
                raise NoProfile("the data process does not answer")


def _failure(code: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=code)


def _written(values: dict[str, Any], kind: Kind, wish: Wish) -> bytes:
    """In a thread of its own: symbol tables are large."""
    make = {"cpu": cpu_profile, "heap": heap_profile, "alloc": allocation_profile}[kind.name]
    profile = make(values)
    profile.started_ns = time.time_ns() - profile.elapsed_ns
    if wish.by_command:
        profile.samples = [
            sample._replace(stack=(Frame(sample.labels["command"]), *sample.stack)) for sample in profile.samples
        ]
    return FORMATS[wish.form].render(profile, f"kora {kind.name}")


def cpu_profile(values: dict[str, Any]) -> Profile:
    """What `kora.observe.cpu_samples` counted, with names for addresses."""
    frames = [Frame(*frame) for frame in values["frames"]]
    symbols = Symbols(values["maps"])
    period_ns = values["period_ns"]
    places: dict[int, Frame | None] = {}
    counts: dict[tuple[str, tuple[Frame, ...]], int] = {}
    for label, stack, operation, address, count in values["samples"]:
        if address not in places:
            places[address] = _routine(symbols, address) if address else None
        routine = places[address]
        callers = [frames[number] for number in reversed(values["stacks"][stack])]
        if label == THREADS:
            row = label, (_THREADS, Frame(operation))
        else:
            ended = [Frame(f"kernel {operation}")] if operation else []
            row = label, (_LOOP, *callers, *ended, *([routine] if routine is not None else []))
        counts[row] = counts.get(row, 0) + count
    samples = [
        Sample(stack, (count, count * period_ns), {"command": label}) for (label, stack), count in counts.items()
    ]
    units = (("samples", "count"), ("cpu", "nanoseconds"))
    return Profile(units, samples, units[1], period_ns, elapsed_ns=values["elapsed_ns"])


def _routine(symbols: Symbols, address: int) -> Frame | None:
    place = symbols.find(address)
    if place.file.startswith(_INTERPRETERS):
        return None
    file = "kernel" if place.file.startswith("_kernel.") else place.file
    return Frame(f"{_tidy(place.name)} [{file}]" if not place.name.startswith("[") else place.name, file)


def _tidy(name: str) -> str:
    """`get.constprop.0`, which compilers make of `get`, as `get`; and what Cython makes of names as they were."""
    name = name.partition(".")[0] or name
    if not name.startswith("__pyx_"):
        return name
    rest = name.removeprefix("__pyx_").partition("_")[2]
    parts: list[str] = []
    while (match := _CYTHON_PART.match(rest)) is not None:
        length, start = int(match[1]), match.end()
        if rest[start + length : start + length + 1] != "_":
            break
        parts.append(rest[start : start + length])
        rest = rest[start + length + 1 :]
    # What is left may begin with how many there are before it; of modules only the last is of interest.
    return ".".join([*parts[-1:], rest.lstrip("0123456789")])


_CYTHON_PART: Final = re.compile(r"(\d+)(?=\D)")


def heap_profile(values: dict[str, Any]) -> Profile:
    samples = [
        Sample(
            (Frame("keyspace"), Frame(str(database)), Frame(str(kind)), Frame(str(prefix))),
            (keys, size_bytes),
            {"database": str(database), "type": str(kind)},
        )
        for database, kind, prefix, keys, size_bytes in values["keyspaces"]
    ]
    if values["rest_bytes"]:
        samples.append(Sample((Frame("keyspace"), Frame("tables")), (0, values["rest_bytes"]), {}))
    samples += [
        Sample((Frame("live objects"), Frame(module), Frame(f"{module}.{name}")), (count, size_bytes), {})
        for module, name, count, size_bytes in values["objects"]
    ]
    return Profile(_OBJECTS, samples, _OBJECTS[1], 1)


def allocation_profile(values: dict[str, Any]) -> Profile:
    samples = [
        Sample(tuple(Frame(*frame) for frame in stack) or (Frame("others"),), (count, size_bytes), {})
        for stack, count, size_bytes in values["stacks"]
    ]
    return Profile((("alloc_objects", "count"), ("alloc_space", "bytes")), samples, ("alloc_space", "bytes"), 1)
