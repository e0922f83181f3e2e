"""Crashes and what is left after them: a server under load is killed, started again, and its whole contents looked at.

A Trial goes round by round: writers send what tests/faults/workload.py draws, the server dies at a moment of chance or
in place of its n-th call to the disk, its machine's power may be cut as well, and it is started on what that leaves.
Then each writer's keys must be what they were after the first so many of its deeds, and these must be enough:
every deed that was answered (`always`), those answered a second before (`everysec`), or those of before a snapshot.
Across writers nothing may be there that was sent when something that is lost had been answered.  The next round goes on
from there.  It works for redis-server as for Kora, and was first made to find nothing wrong with the former.
"""

import contextlib
import enum
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import hiredis

from tests.conftest import encode_request
from tests.e2e.kora_process import clean_environ, prepare_child
from tests.faults.fault_layer import KINDS, FaultLayer
from tests.faults.power_cut import Survival, cut_power
from tests.faults.workload import (
    SCRATCH,
    SHARED,
    SHORT_MS,
    Deed,
    Drawing,
    Entries,
    Filling,
    Scores,
    State,
    Turning,
    plain,
    scratch_key,
)
from tests.peers import peer

WRITERS: Final = 6
DATABASES: Final = 3
START_S_MAX: Final = 30.0
# What `everysec` may lose.  The issue is the second; the rest is for a machine that has other things to do.
EVERYSEC_LOST_NS: Final = 1_000_000_000
EVERYSEC_LATE_NS: Final = 500_000_000
DEATH_S_MAX: Final = 20.0
COUNTS_S_MAX: Final = 10.0

# How servers are started that keep what they are told; a journal of this size is written anew all the time.
JOURNAL: Final = ("--save", "", "--appendonly", "yes", "--auto-aof-rewrite-min-size", "256kb", "--appendfsync")
ALWAYS: Final = (*JOURNAL, "always")
EVERYSEC: Final = (*JOURNAL, "everysec")
NEVER: Final = (*JOURNAL, "no")
SNAPSHOTS: Final = ("--save", "")
# With so little memory that values go to the store and come back, and files are made all the time.
STORED: Final = (
    "--storage-engine", "rocksdb", "--shards", "2", "--rocksdb-cache-bytes", "1mb",
    "--rocksdb-block-cache-bytes", "1mb", "--rocksdb-write-buffer-bytes", "1mb", "--rocksdb-sync",
)  # fmt: skip
STORED_ALWAYS: Final = (*STORED, "always")
STORED_EVERYSEC: Final = (*STORED, "everysec")
STORED_NEVER: Final = (*STORED, "no")


class Lost(AssertionError):
    """What a server holds after a crash is not what it must be."""


class Promise(enum.Enum):
    """What must be there after a crash."""

    ANSWERED = enum.auto()
    BUT_A_SECOND = enum.auto()
    SNAPSHOT = enum.auto()
    ORDER = enum.auto()  # any first part of what was sent


@dataclass
class Subject:
    """A server to be tested: how it is started."""

    name: str
    flags: tuple[str, ...]

    @property
    def keeps_transactions(self) -> bool:
        """redis-server cuts a journal that ends within a command within a transaction behind the command before.

        What it appends then is part of that transaction when the journal is loaded once more (7.0.15, aof.c: only an
        end between two commands goes back to MULTI).  So it is not given any transactions.
        """
        return self.name != "redis"

    @property
    def is_stored(self) -> bool:
        return "rocksdb" in self.flags

    def argv(self, port: int, data: Path) -> list[str]:
        own = ["--port", str(port), "--dir", str(data), *self.flags]
        if self.name == "redis":
            return [peer("redis-server"), *own, "--enable-debug-command", "yes"]
        return [sys.executable, "-m", "kora", *own, "--metrics-port", "0"]


class Server:
    """One life of a subject on a fault layer's folder."""

    def __init__(self, subject: Subject, layer: FaultLayer) -> None:
        self.layer = layer
        self.log = layer.folder / "log"
        self.port = _own_port()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                subject.argv(self.port, layer.data),
                cwd=layer.folder,
                env={**clean_environ(), **layer.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=partial(prepare_child, None),
            )

    def connect(self) -> "Line":
        return Line(socket.create_connection(("127.0.0.1", self.port), 20))

    def wait_until_loaded(self) -> None:
        """Raises Lost where it ends or does not serve instead."""
        stop = time.monotonic() + START_S_MAX
        while time.monotonic() < stop:
            if self.process.poll() is not None:
                raise Lost(f"the server did not start:\n{self.log.read_text(errors='replace')[-4000:]}")
            with contextlib.suppress(OSError), self.connect() as line:
                reply = line.run(b"PING")
                if reply == b"PONG":
                    about = line.run(b"INFO", b"server")
                    assert b"process_id:%d\r" % self.process.pid in about, "another server has taken the port"
                    return
                if not str(reply).startswith("LOADING"):
                    raise Lost(f"PING is answered with {reply!r}")
            time.sleep(0.01)
        raise Lost(f"not within {START_S_MAX:g} s: the server serves\n{self.log.read_text(errors='replace')[-4000:]}")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, as an operator does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEATH_S_MAX)


def _own_port() -> int:
    """A free one, below those that the system gives to whoever asks for any: nobody may take it before it is used."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Line:
    """A blocking connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._reader = hiredis.Reader()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def run(self, *words: bytes) -> Any:
        return self.pipeline([words])[0]

    def pipeline(self, requests: "list[tuple[bytes, ...]]") -> list[Any]:
        """Errors are returned, not raised; raises ConnectionError where the server is gone."""
        self.socket.sendall(b"".join(map(encode_request, requests)))
        replies: list[Any] = []
        while len(replies) < len(requests):
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
        return replies


# --- Who talks to the server while it lives ---


class Talker:
    """A connection that sends when it has all replies; over when the server has gone."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.reader = hiredis.Reader()
        self.missing: deque[Callable[[Any, int], None]] = deque()

    def connect(self, server: Server, database: int) -> None:
        with server.connect() as line:
            assert line.run(b"SELECT", b"%d" % database) == b"OK"
            self.socket = socket.socket(fileno=os.dup(line.socket.fileno()))
        self.socket.settimeout(20)
        self.reader = hiredis.Reader()
        self.missing.clear()

    def send(self, requests: "list[tuple[bytes, ...]]", got: "list[Callable[[Any, int], None]]") -> None:
        self.missing.extend(got)
        assert self.socket is not None
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(b"".join(map(encode_request, requests)))

    def receive(self) -> bool:
        """Take what is there; False when the server has gone."""
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        now_ns = time.monotonic_ns()
        if not data:
            self.socket.close()
            return False
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.missing.popleft()(reply, now_ns)
        return True

    def go_on(self) -> None:
        raise NotImplementedError


class Writer(Talker):
    def __init__(self, drawing: Drawing, database: int) -> None:
        super().__init__()
        self.database = database
        self.drawing = drawing
        self.before = State()  # this life of the server
        self.deeds: list[Deed] = []
        self.refusals: list[str] = []  # error replies, where a test has provoked them

    @property
    def prefix(self) -> bytes:
        return self.drawing.name

    def begin(self, state: State) -> None:
        """A server's life begins with these contents."""
        self.before = state
        self.deeds = []
        self.drawing.expected = state.copy()

    def go_on(self) -> None:
        deeds = self.drawing.deeds()
        now_ms, now_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
        requests: list[tuple[bytes, ...]] = []
        got: list[Callable[[Any, int], None]] = []
        for deed in deeds:
            deed.sent_ms, deed.sent_ns = now_ms, now_ns
            self.deeds.append(deed)
            requests += deed.wire
            got += [self._ignore] * (len(deed.wire) - 1)
            got.append(partial(self._answered, deed))
        self.send(requests, got)

    def _ignore(self, reply: Any, now_ns: int) -> None:
        assert reply in (b"OK", b"QUEUED"), reply

    def _answered(self, deed: Deed, reply: Any, now_ns: int) -> None:
        if isinstance(reply, hiredis.ReplyError):
            raise Lost(f"{deed.wire} is answered with {reply}")
        deed.answered_ns, deed.answered_ms = now_ns, time.time_ns() // 1_000_000 + 1
        deed.replies = reply if deed.is_transaction else [reply]
        self.drawing.learn(deed)


SNAPSHOT_WORKS: Final = (b"BGSAVE", b"SAVE")


@dataclass
class Snapshot:
    """When one was asked for, was begun at the latest, and whether it is known to be complete."""

    asked_ns: int
    begun_ns: int = 0
    is_complete: bool = False


class Observer(Talker):
    """Reads what must not vanish after it was shown, has the server save now and then, and sees whether it has."""

    def __init__(self, chance: random.Random, works: tuple[bytes, ...], first: bytes) -> None:
        super().__init__()
        self.chance = chance
        self.works = works
        self.first = first
        self.items_shown = 0
        self.snapshots: list[Snapshot] = []
        self.rewrites = 0

    def go_on(self) -> None:
        work = b""
        if self.items_shown:
            # Not before there is something to be saved.
            work, self.first = self.first, b""
        if not work and self.chance.random() < 0.02:
            work = self.chance.choice(self.works)
        if work:
            if work in SNAPSHOT_WORKS:
                self.snapshots.append(Snapshot(time.monotonic_ns()))
            self.send([tuple(work.split())], [partial(self._begun, work)])
        else:
            self.send([(b"LLEN", SHARED), (b"INFO", b"persistence")], [self._shown, self._told])

    def _begun(self, work: bytes, reply: Any, now_ns: int) -> None:
        if isinstance(reply, hiredis.ReplyError) and "in progress" not in str(reply):
            raise Lost(f"{work.decode()} is answered with {reply}")
        if work not in SNAPSHOT_WORKS:
            self.rewrites += work == b"BGREWRITEAOF"
        elif isinstance(reply, hiredis.ReplyError):
            self.snapshots.pop()
        else:
            self.snapshots[-1].begun_ns = now_ns
            self.snapshots[-1].is_complete = work == b"SAVE"

    def _shown(self, reply: Any, now_ns: int) -> None:
        self.items_shown = max(self.items_shown, reply)

    def _told(self, reply: Any, now_ns: int) -> None:
        if self.snapshots and b"rdb_bgsave_in_progress:0" in reply and b"rdb_last_bgsave_status:ok" in reply:
            self.snapshots[-1].is_complete = True


# --- Rounds ---


# Calls that change what there is and what it is called; the others are far more.
NAMES: Final = ("open", "sync-directory", "rename", "unlink", "truncate")


@dataclass
class Death:
    """How a round ends: at a moment or in place of a call, with its machine or alone; and how the next life begins."""

    after_s: float = 10.0
    at_call: int = 0
    kinds: tuple[str, ...] = KINDS
    survival: Survival | None = None  # None: the power stays on
    # The first start after it dies as well, in place of this call, or when it is ready at the latest.
    at_call_of_start: int = 0
    # What the server is asked for at the very beginning.
    work: bytes = b""

    def __str__(self) -> str:
        calls = "call" if self.kinds == KINDS else "naming call"
        return ", ".join(
            filter(
                None,
                (
                    self.work.decode(),
                    f"killed at {calls} {self.at_call}" if self.at_call else f"killed after {self.after_s:.3f} s",
                    f"and at call {self.at_call_of_start} of the start" if self.at_call_of_start else "",
                    f"power cut {self.survival.name}" if self.survival is not None else "no power cut",
                ),
            )
        )


@dataclass
class Outcome:
    """Of one round: what was answered and what is there."""

    answered: int = 0
    found: int = 0
    calls: int = 0
    killed_in_place_of: str = ""
    rewrites: int = 0
    snapshots: int = 0
    cut: list[str] = field(default_factory=list)


class Trial:
    def __init__(
        self,
        folder: Path,
        subject: Subject,
        promise: Promise,
        *,
        seed: object,
        works: tuple[bytes, ...] = (b"",),
        sync_delay_us: int = 0,
    ) -> None:
        self.layer = FaultLayer(folder)
        self.subject = subject
        self.promise = promise
        self.chance = random.Random(str(seed))
        self.works = works
        self.layer.control.sync_delay_us = sync_delay_us
        drawings = [
            Drawing(b"w%d" % number, random.Random(f"{seed}-{number}"), subject.keeps_transactions)
            for number in range(WRITERS)
        ]
        self.writers = [Writer(drawing, number % DATABASES) for number, drawing in enumerate(drawings)]
        if subject.is_stored:
            self.writers.append(Writer(Filling(b"filling", random.Random(f"{seed}-f"), True), 1))
            self.writers.append(Writer(Turning(b"turn", random.Random(f"{seed}-t"), False), SCRATCH[0]))
        self.layer.forget()
        self.server = Server(subject, self.layer)

    def __enter__(self) -> "Trial":
        self.server.wait_until_loaded()
        assert self.layer.was_loaded(), "the server has no faulty disk: its program drops LD_PRELOAD"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.kill()

    def round(self, death: Death) -> Outcome:
        """Load, death, and a new life; raises Lost where that lacks something or has too much."""
        observer = Observer(self.chance, self.works, death.work)
        self._load(observer, death)
        outcome = Outcome(
            answered=sum(deed.answered_ns > 0 for writer in self.writers for deed in writer.deeds),
            calls=self.layer.control.calls,
            killed_in_place_of=self.layer.killed_in_place_of,
            rewrites=observer.rewrites,
            snapshots=sum(snapshot.is_complete for snapshot in observer.snapshots),
        )
        try:
            if death.at_call_of_start:
                self._bury(death, outcome)
                self._start(death.at_call_of_start)
                self.server.kill()
            self._bury(death, outcome)
            self._start()
            outcome.found = self._check(observer)
        except Lost as lost:
            raise Lost(f"{death}: {lost}\nunsynced and lost: {outcome.cut}") from lost
        return outcome

    def _bury(self, death: Death, outcome: Outcome) -> None:
        """Leave on the disk what a new life finds."""
        if death.survival is not None:
            outcome.cut += cut_power(self.layer, self.chance, death.survival)
        if self.subject.is_stored and self.promise is Promise.SNAPSHOT:
            self._restore()
        # The next life changes it at once, and somebody may have to look what it began with.
        shutil.rmtree(self.layer.folder / "found", ignore_errors=True)
        shutil.copytree(self.layer.data, self.layer.folder / "found")
        self.layer.forget()

    def _restore(self) -> None:
        """Have the last checkpoint take the place of the data, as an operator would."""
        store = self.layer.data / "rocksdb"
        shutil.rmtree(store, ignore_errors=True)
        for name in ("rocksdb-checkpoint", "rocksdb-checkpoint.old"):
            if (self.layer.data / name).is_dir():
                shutil.copytree(self.layer.data / name, store)
                return

    def _start(self, at_call: int = 0) -> None:
        self.layer.kill_at(at_call)
        self.server = Server(self.subject, self.layer)
        try:
            self.server.wait_until_loaded()
        except Lost:
            if not self.layer.killed_in_place_of:
                raise

    def _load(self, observer: Observer, death: Death) -> None:
        self.layer.kill_at(death.at_call, death.kinds)
        talkers: list[Talker] = [*self.writers, observer]
        try:
            for writer in self.writers:
                writer.connect(self.server, writer.database)
            observer.connect(self.server, 0)
        except ConnectionError:
            if not self.layer.killed_in_place_of:
                raise
            talkers = []  # it has not lived that long
        stop = time.monotonic() + death.after_s
        with selectors.DefaultSelector() as selector:
            for talker in talkers:
                assert talker.socket is not None
                selector.register(talker.socket, selectors.EVENT_READ, talker)
                talker.go_on()
            living = len(talkers)
            is_killed = False
            while living:
                left_s = stop - time.monotonic()
                if left_s <= 0 and not is_killed:
                    self.server.kill()
                    self.killed_ns = time.monotonic_ns()
                    is_killed = True
                for key, _ in selector.select(max(0.0, left_s)):
                    talker = key.data
                    if not talker.receive():
                        selector.unregister(key.fileobj)
                        living -= 1
                    elif not talker.missing and not is_killed:
                        talker.go_on()
        if not is_killed:
            self.killed_ns = time.monotonic_ns()
        self.server.kill()

    # What is there

    def _check(self, observer: Observer) -> int:
        """Returns how many deeds are there, of which the writers know from now on."""
        now_ms = time.time_ns() // 1_000_000
        time.sleep((SHORT_MS + 5) / 1000)  # what must have expired has, even if it was set last
        with self.server.connect() as line:
            found = contents(line, self.writers)
        counts = {writer: self._counts(writer, found[writer.prefix], now_ms) for writer in self.writers}
        for least, most in self._windows(observer):
            chosen = {
                writer: [count for count in counts[writer] if least(writer) <= count <= most(writer)]
                for writer in self.writers
            }
            if all(chosen.values()):
                break
        else:
            least, most = next(self._windows(observer))
            raise Lost("\n".join(self._explain(writer, counts[writer], least, most, found) for writer in self.writers))
        self._check_order(chosen)
        if self.promise is Promise.ANSWERED:
            shown = sum(
                len(found[writer.prefix].values.get(SHARED, ())) for writer in self.writers if not writer.database
            )
            if shown < observer.items_shown:
                raise Lost(f"a reader was shown {observer.items_shown} items, of which {shown} are left")
        for writer in self.writers:
            self._check_details(writer, chosen[writer], found[writer.prefix])
            # Exact from now on, and what chance has decided is known.
            writer.begin(found[writer.prefix])
        return sum(max(each) for each in chosen.values())

    def _windows(self, observer: Observer) -> Iterator[tuple[Callable[[Writer], int], Callable[[Writer], int]]]:
        """How many of a writer's deeds must be there at least and at most; one of these must be right for all."""
        everything = lambda writer: len(writer.deeds)  # noqa: E731
        if self.promise is Promise.ORDER:
            yield lambda writer: 0, everything
        elif self.promise is Promise.ANSWERED:
            yield partial(_answered_before, 0), everything
        elif self.promise is Promise.BUT_A_SECOND:
            yield partial(_answered_before, self.killed_ns - EVERYSEC_LOST_NS - EVERYSEC_LATE_NS), everything
        else:
            for snapshot in reversed(observer.snapshots):
                yield (
                    partial(_answered_before, snapshot.asked_ns),
                    partial(_sent_before, snapshot.begun_ns) if snapshot.begun_ns else everything,
                )
                if snapshot.is_complete:
                    return
            yield lambda writer: 0, lambda writer: 0

    def _counts(self, writer: Writer, found: State, now_ms: int) -> dict[int, list[Any]]:
        """After how many deeds the writer's keys were what they are now, with the replies that the last then had."""
        state = writer.before.copy()
        digest = state.digest()
        wanted = found.digest()
        counts: dict[int, list[Any]] = {}
        if digest == wanted:
            counts[0] = []
        for count, deed in enumerate(writer.deeds, 1):
            if not deed.answered_ns:
                deed.answered_ms = now_ms
            for replies in deed.outcomes(state):
                tried = state if deed.answered_ns or not replies else state.copy()
                old = sum(map(tried.digest_of, deed.keys))
                deed.apply(tried, replies)
                new = digest + sum(map(tried.digest_of, deed.keys)) - old
                if new == wanted:
                    counts[count] = replies
            if tried is state:
                digest = new
        return counts

    def _check_details(self, writer: Writer, counts: list[int], found: State) -> None:
        """Deadlines and ids are what they were after one of so many deeds; raises Lost."""
        state = writer.before.copy()
        wrong = ""
        for count in range(counts[-1] + 1):
            if count:
                writer.deeds[count - 1].apply(state)
            if count in counts and not (wrong := _wrong_details(state, found)):
                return
        raise Lost(wrong)

    def _check_order(self, chosen: dict[Writer, list[int]]) -> None:
        """Nothing is there that was sent when something that is lost had been answered.

        Of deeds that change nothing it cannot be said where they are, hence the several counts.
        """
        lost = [deed for writer, each in chosen.items() for deed in writer.deeds[max(each) :] if deed.answered_ns]
        there = [deed for writer, each in chosen.items() for deed in writer.deeds[: min(each)]]
        if not lost or not there:
            return
        first_lost = min(lost, key=lambda deed: deed.answered_ns)
        last_there = max(there, key=lambda deed: deed.sent_ns)
        if last_there.sent_ns > first_lost.answered_ns:
            raise Lost(f"{last_there.wire} is there, though sent after {first_lost.wire} was answered, which is lost")

    def _explain(
        self,
        writer: Writer,
        counts: dict[int, list[Any]],
        least: Callable[[Writer], int],
        most: Callable[[Writer], int],
        found: dict[bytes, State],
    ) -> str:
        name = writer.prefix.decode()
        window = f"{least(writer)} to {most(writer)} of its {len(writer.deeds)} deeds must be there"
        if counts:
            right = any(least(writer) <= count <= most(writer) for count in counts)
            return f"{name}: {window}, there are {sorted(counts)[-5:]}{'' if right else '   <-- WRONG'}"
        # The state that differs least is likely to be the one that was meant.
        state = writer.before.copy()
        best = (_differences(state, found[writer.prefix]), 0)
        for count, deed in enumerate(writer.deeds, 1):
            deed.apply(state)
            if len(differences := _differences(state, found[writer.prefix])) < len(best[0]):
                best = (differences, count)
        last = [
            f"deed {best[1] + place}: {deed.wire!r:.300}" for place, deed in enumerate(writer.deeds[best[1] - 1 :][:3])
        ]
        lines = "\n    ".join((*(line[:300] for line in best[0][:8]), *last))
        return (
            f"{name}: {window}, but its keys never were what they are; nearest is {best[1]}:   <-- WRONG\n    {lines}"
        )


def _wrong_details(state: State, found: State) -> str:
    for key in found.values:
        earliest, latest = state.deadlines.get(key, (0, 0))
        deadline_ms = found.deadlines.get(key, (0, 0))[0]
        if not earliest <= deadline_ms <= latest:
            return f"{key!r} expires at {deadline_ms}, not between {earliest} and {latest}"
        if isinstance(value := state.values[key], Entries):
            pairs = zip(value, found.values[key], strict=True)
            if any(known[0] not in (None, now[0]) for known, now in pairs):
                return f"{key!r} has other ids than were answered: {found.values[key]} and not {value}"
    return ""


def _answered_before(stop_ns: int, writer: Writer) -> int:
    """The number of deeds up to the last one that was answered before then, or at all if that is 0."""
    return max(
        (count for count, deed in enumerate(writer.deeds, 1) if 0 < deed.answered_ns <= (stop_ns or deed.answered_ns)),
        default=0,
    )


def _sent_before(stop_ns: int, writer: Writer) -> int:
    return sum(deed.sent_ns <= stop_ns for deed in writer.deeds)


def _differences(wanted: State, found: State) -> list[str]:
    def shown(state: State, key: bytes) -> str:
        if not state.digest_of(key):
            return "nothing"
        return f"{plain(state.values[key])!r:.600} deadline {state.deadlines.get(key)}"

    return [
        f"{key!r} is {shown(found, key)}, not {shown(wanted, key)}"
        for key in sorted({*wanted.values, *found.values})
        if wanted.digest_of(key) != found.digest_of(key)
    ]


def contents(line: Line, writers: list[Writer]) -> dict[bytes, State]:
    """Everything that a server holds, by writer; raises Lost where something is nobody's."""
    states = {writer.prefix: State() for writer in writers}
    for database in (*range(DATABASES), *SCRATCH):
        assert line.run(b"SELECT", b"%d" % database) == b"OK"
        keys = line.run(b"KEYS", b"*")
        if isinstance(keys, hiredis.ReplyError):
            raise Lost(f"KEYS is answered with {keys}")
        kinds = line.pipeline([(b"TYPE", key) for key in keys]) if keys else []
        requests = [_READS[kind](key) for key, kind in zip(keys, kinds, strict=True) if kind != b"none"]
        requests += [(b"PEXPIRETIME", key) for key in keys]
        replies = line.pipeline(requests) if requests else []
        deadlines = dict(zip(keys, replies[len(replies) - len(keys) :], strict=True))
        there = [(key, kind) for key, kind in zip(keys, kinds, strict=True) if kind != b"none"]
        for (key, kind), reply in zip(there, replies[: len(there)], strict=True):
            value = _value(kind, reply)
            if key == SHARED:
                for item in value:
                    states[item.partition(b"-")[0]].get(key, list).append(item)
                continue
            owner = key.partition(b":")[0]
            if owner not in states:
                raise Lost(f"{key!r} is there, which nobody has set")
            deadline = deadlines[key]
            name = scratch_key(database, key) if database in SCRATCH else key
            states[owner].store(name, value, (deadline, deadline) if deadline > 0 else None)
        _check_counts(line, database, len(there), sum(deadline > 0 for deadline in deadlines.values()))
    for state in states.values():
        state.forget_expired()
    return states


def _check_counts(line: Line, database: int, keys: int, volatile: int) -> None:
    """DBSIZE and INFO agree with what was found, once all has gone whose time is over; raises Lost."""
    stop = time.monotonic() + COUNTS_S_MAX
    while True:
        size = line.run(b"DBSIZE")
        about = dict(entry.split(b":") for entry in line.run(b"INFO", b"keyspace").split()[2:])
        told = about.get(b"db%d" % database, b"keys=0,expires=0").split(b",")
        if size == keys and told[:2] == [b"keys=%d" % keys, b"expires=%d" % volatile]:
            return
        if time.monotonic() > stop:
            raise Lost(f"database {database} has {keys} keys, {volatile} of which expire: {size}, {told}")
        time.sleep(0.05)


_READS: Final[dict[bytes, Callable[[bytes], tuple[bytes, ...]]]] = {
    b"string": lambda key: (b"GET", key),
    b"list": lambda key: (b"LRANGE", key, b"0", b"-1"),
    b"set": lambda key: (b"SMEMBERS", key),
    b"hash": lambda key: (b"HGETALL", key),
    b"zset": lambda key: (b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"),
    b"stream": lambda key: (b"XRANGE", key, b"-", b"+"),
}


def _value(kind: bytes, reply: Any) -> Any:
    match kind:
        case b"set":
            return set(reply)
        case b"hash":
            return dict(zip(reply[::2], reply[1::2], strict=True))
        case b"zset":
            return Scores(zip(reply[::2], map(float, reply[1::2]), strict=True))
        case b"stream":
            return Entries((entry[0], tuple(entry[1])) for entry in reply)
    return reply
