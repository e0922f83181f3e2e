"""Profiles of the data process: one at a time, begun when the sidecar asks, and sent to it as plain counts.

CPU time is sampled (kora/kernel/profile.c, kora/server/cpu_sampler.py); what is in memory is counted in a forked child,
so that the loop goes on.  What it is all called, and how profiles are written, is the sidecar's business.
"""

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from kora.observe.board import CLIENT
from kora.observe.cpu_samples import THREADS, CpuSamples
from kora.observe.frame import Message
from kora.server.cpu_sampler import PythonSampler
from kora.server.forked import Forked

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from kora.engine.engine import Engine
    from kora.engine.reference import CpuSampler

# Samples are taken out of their ring long before it is full.
_TAKE_S: Final = 0.2
# A child that takes longer is ended.  A million keys take a second.
_CHILD_S_MAX: Final = 120.0
_LOOP: Final = "(loop)"
_FRAMES_MAX: Final = 32  # of a stack that has allocated something
_ROWS_MAX: Final = 20_000


class Profiling:
    """`send` takes messages for the sidecar."""

    def __init__(self, engine: "Engine", send: Callable[[Message], None]) -> None:
        self._engine = engine
        self._send = send
        self._loop = asyncio.get_running_loop()
        # Of the profile under way.
        self._number = -1
        self._stop: Callable[[], None] | None = None  # nobody wants it any more

    def start(self, number: int, kind: str, seconds: int, hz: int) -> None:
        """Answered with ["profile", number, values, reason]: values are None where there is a reason for that."""
        if self._stop is not None:
            self._send(["profile", number, None, "another profile is being taken"])
            return
        self._number = number
        try:
            if kind == "heap":
                self._fork(self._heap)
            elif kind == "alloc":
                self._trace(seconds)
            else:
                _CpuProfile(self, self._engine, self._loop, seconds, hz).begin()
        except OSError as error:
            self.finish(None, str(error))

    def stop(self, number: int | None = None) -> None:
        """Give up a profile, or whichever there is."""
        if self._stop is not None and number in (None, self._number):
            self._stop()

    def set_stop(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def finish(self, values: Any, reason: str = "") -> None:
        number, self._number, self._stop = self._number, -1, None
        self._send(["profile", number, values, reason])

    # Memory

    def _fork(self, work: Callable[[], dict[str, Any]]) -> None:
        engine = self._engine
        started_ns = time.monotonic_ns()
        forked = Forked(work, self._forked, _CHILD_S_MAX)
        engine.slowness.note_event("fork", forked.fork_ns)
        engine.service.note_job("fork", started_ns, started_ns + forked.fork_ns)
        self._fork_ns, self._stop = forked.fork_ns, forked.stop

    def _forked(self, values: Any, reason: str) -> None:
        self.finish(None if values is None else {**values, "fork_ns": self._fork_ns}, reason)

    def _heap(self) -> dict[str, Any]:
        """In the child."""
        engine = self._engine
        keyspaces: list[list[Any]] = [
            [f"db{keyspace.index}", kind, prefix, keys, size_bytes]
            for keyspace in engine.databases.used()
            for (kind, prefix), (keys, size_bytes) in keyspace.weights().items()
        ]
        memory_bytes = engine.memory_bytes
        if engine.kernel == "python":
            # What keys hold is told above.  Here they are objects like others, and would be told twice.
            for keyspace in engine.databases.used():
                keyspace.touched = _nobody
                keyspace.flush()
            for shard in engine.shards:
                shard.lazyfree.clear()
        # Tables, and what is being freed.
        rest_bytes = max(0, memory_bytes - sum(row[-1] for row in keyspaces))
        return {
            "keyspaces": keyspaces,
            "rest_bytes": rest_bytes,
            "objects": [[*place, *weight] for place, weight in _objects().items()],
        }

    def _trace(self, seconds: int) -> None:
        # Only now: it brings along what nobody else needs.
        import tracemalloc

        # Each allocation takes some times as long meanwhile.
        tracemalloc.start(_FRAMES_MAX)
        timer = self._loop.call_later(seconds, self._end_tracing)

        def give_up() -> None:
            timer.cancel()
            tracemalloc.stop()
            self.finish(None, "it was given up")

        self._stop = give_up

    def _end_tracing(self) -> None:
        import tracemalloc

        # What everybody has above him is told of nobody.
        frame: FrameType | None = _loop_frame()
        roots: list[tuple[str, int]] = []
        while frame is not None:
            roots.insert(0, (frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        try:
            self._fork(partial(_allocated, roots))
        except OSError as error:
            self.finish(None, str(error))
        finally:
            tracemalloc.stop()


class _CpuProfile:
    def __init__(
        self, profiling: Profiling, engine: "Engine", loop: asyncio.AbstractEventLoop, seconds: int, hz: int
    ) -> None:
        self._profiling = profiling
        self._engine = engine
        self._loop = loop
        self._seconds = seconds
        self._period_ns = 1_000_000_000 // hz
        # uvloop calls what it is told to with no frame of Python's in between; asyncio is Python itself.
        self._is_direct = type(loop).__module__.partition(".")[0] == "uvloop"
        self._samples = CpuSamples(_loop_frame() if self._is_direct else None)
        self._sampler: CpuSampler
        try:
            self._sampler = engine.implementation.make_cpu_sampler(self._samples, self._label)
        except OSError:
            self._sampler = PythonSampler(self._samples, self._label)
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._profiling.set_stop(self._give_up)
        self._started_ns, self._threads = time.monotonic_ns(), _thread_ns()
        self._loop.call_soon(self._sampler.start, self._period_ns, self._is_direct)
        self._loop.call_soon(self._take)

    def _take(self) -> None:
        self._sampler.take()
        left_s = self._seconds - (time.monotonic_ns() - self._started_ns) / 1e9
        if left_s > 0:
            self._timer = self._loop.call_later(min(left_s, _TAKE_S), self._take)
            return
        self._sampler.stop()
        self._count_threads()
        values = self._samples.to_plain()
        values["period_ns"] = self._period_ns
        values["elapsed_ns"] = time.monotonic_ns() - self._started_ns
        values["maps"] = list(_mapped_code())
        self._profiling.finish(values)

    def _give_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.call_soon(self._sampler.stop)  # behind its start
        self._profiling.finish(None, "it was given up")

    def _label(self) -> str:
        """Whom the loop works for, where the kernel does not know."""
        engine = self._engine
        client_id = engine.board.words[CLIENT]
        if client_id:
            client = engine.implementation.running or engine.clients.get(client_id)
            if client is not None and client.command is not None:
                return client.command.name.upper()
        return engine.job or _LOOP

    def _count_threads(self) -> None:
        """What other threads have used: by name only, since their stacks are not sampled."""
        for (_, name), used_ns in _thread_ns().items():
            grown_ns = used_ns - self._threads.get((_, name), 0)
            if grown_ns >= self._period_ns // 2:
                self._samples.add(THREADS, 0, name, 0, round(grown_ns / self._period_ns))


def _loop_frame() -> "FrameType":
    """The frame that runs the event loop, if that calls what is called with none in between: called from a callback."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("kora.server."):
        frame = frame.f_back
    return frame


def _thread_ns() -> dict[tuple[int, str], int]:
    """How long each thread but the main one ran, by id and name, as far as the system tells."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found: dict[tuple[int, str], int] = {}
    try:
        tasks = [int(task) for task in os.listdir("/proc/self/task")]
        for task in tasks:
            if task != os.getpid():
                with open(f"/proc/self/task/{task}/schedstat", "rb") as file:
                    ran_ns = int(file.read().split()[0])
                with open(f"/proc/self/task/{task}/comm") as comm:
                    found[task, names.get(task) or comm.read().strip()] = ran_ns
    except (OSError, ValueError, IndexError):  # one has ended, or this is no Linux
        pass
    return found


def _mapped_code() -> Iterator[list[Any]]:
    """What is mapped to be run: start, stop, where in its file, and that."""
    try:
        with open("/proc/self/maps") as file:
            for line in file:
                place, rights, offset, _, _, *path = line.split(None, 5)
                if "x" in rights:
                    start, _, stop = place.partition("-")
                    yield [int(start, 16), int(stop, 16), int(offset, 16), path[0].strip() if path else ""]
    except OSError:
        return


def _objects() -> dict[tuple[str, str], list[int]]:
    """How many live objects there are of each type, and their bytes, by module and name.

    Those that refer to others are known to the collector; of the others, such as strings, it is those that just one of
    the former refers to.
    """
    gc.unfreeze()
    found: dict[tuple[str, str], list[int]] = {}
    tracked = gc.get_objects()
    for holder in tracked:
        _weigh(found, holder)
        for held in gc.get_referents(holder):
            # The list that this goes through, the variable and the argument refer to it as well.
            if type(held) in _ATOMS and sys.getrefcount(held) <= 4:
                _weigh(found, held)
    return found


_ATOMS: Final = frozenset((bytes, bytearray, str, int, float))


def _weigh(found: dict[tuple[str, str], list[int]], value: object) -> None:
    kind = type(value)
    weight = found.setdefault((str(kind.__module__), kind.__qualname__), [0, 0])
    weight[0] += 1
    try:
        weight[1] += sys.getsizeof(value)
    except Exception:  # of a library's own __sizeof__: it is counted, without its bytes
        weight[1] += 0


def _allocated(roots: list[tuple[str, int]]) -> dict[str, Any]:
    """In the child: what was allocated since tracing began, and has not been freed, by stack below these places."""
    import tracemalloc

    snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    names = _functions()
    found: dict[tuple[tuple[str, str, int, int], ...], list[int]] = {}
    for trace in snapshot.traces:
        # tracemalloc has them from the root to the leaf.
        places = [(place.filename, place.lineno) for place in trace.traceback]
        if places[: len(roots)] == roots:
            places = places[len(roots) :]
        if any(file == __file__ for file, _ in places):
            continue  # by this very profile
        stack = tuple(_frame(names, file, line) for file, line in places)
        if stack not in found and len(found) >= _ROWS_MAX:
            stack = ()
        weight = found.setdefault(stack, [0, 0])
        weight[0] += 1
        weight[1] += trace.size
    return {"stacks": [[[list(frame) for frame in stack], *weight] for stack, weight in found.items()]}


def _functions() -> "dict[str, list[tuple[int, int, str]]]":
    """The functions of each file: first and last line, and name."""
    gc.unfreeze()
    found: dict[str, list[tuple[int, int, str]]] = {}
    for code in _codes(value.__code__ for value in gc.get_objects() if type(value) is type(_functions)):
        last = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
        name = str(getattr(code, "co_qualname", code.co_name))
        found.setdefault(code.co_filename, []).append((code.co_firstlineno, last, name))
    return found


def _codes(codes: "Iterable[CodeType]") -> "Iterator[CodeType]":
    seen = set()
    waiting = list(codes)
    while waiting:
        code = waiting.pop()
        if code not in seen:
            seen.add(code)
            yield code
            waiting += [constant for constant in code.co_consts if type(constant) is type(code)]


def _frame(names: dict[str, list[tuple[int, int, str]]], file: str, line: int) -> tuple[str, str, int, int]:
    """The innermost function that has the line."""
    around = [function for function in names.get(file, ()) if function[0] <= line <= function[1]]
    start_line, _, name = max(around, default=(0, 0, f"{os.path.basename(file)}:{line}"))
    return name, file, start_line, line


def _nobody(*_: object) -> None:
    """Nobody wants to know, in a process of its own."""
