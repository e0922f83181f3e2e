"""Keeping the journal: what the engine tells of changes goes into files, and no more is acknowledged than is there.

The loop collects what has changed in engine.journal and hands it to a thread (journal_writer.py): at the end of the
loop's turn with `appendfsync always`, else every 10 ms or megabyte.  With `always`, replies wait meanwhile, those to
requests that only look included, so that nobody sees what a power cut may undo; one sync serves all connections.

A rewrite makes a new base of the data as it is, by the same walk as a snapshot, and from that instant on the journal
goes on in another increment.  The manifest names the new base once it is there, and old files go after that.

What cannot be written is refused: writes are answered MISCONF until the thread has written and synced all that waits.
With `always`, connections whose replies wait are closed then, since nobody can say any more what became of what they
wrote.
"""

import os
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from kora.engine.loading import Loading
from kora.errors import CannotJournal, CommandError, ConfigError

from .files import Files
from .journal_files import BadManifest, JournalFile, Manifest, manifest_path, sequence_of
from .journal_writer import Progress, Replace, Switch, Writer, put_file, remove
from .loading import CannotLoad, run
from .replaying import load_journal

if TYPE_CHECKING:
    from kora.engine.engine import Engine
    from kora.engine.journal import Held

# What is collected for so long, or so much of it, is handed over.
_HAND_OVER_S: Final = 0.01
_HAND_OVER_BYTES: Final = 1 << 18
# How long a sync may be put off for those who will soon share it.
_GATHER_NS_MAX: Final = 1_000_000
# More than this is not left to memory: replies wait until the disk has caught up.
_PENDING_BYTES_MAX: Final = 64 << 20
# After so many rewrites in a row that have failed, they are tried by themselves ever more seldom
# (aofRewriteLimited, aof.c: 1, 2, 4 … minutes).
_FAILURES_FREE: Final = 3
_FAILURE_PAUSE_S: Final = 60
_FAILURE_PAUSE_S_MAX: Final = 3600


class BaseSaver(Protocol):
    """As far as it is needed here: kora/persist/saving.py."""

    @property
    def running(self) -> bool: ...
    def start(self, path: str, *, aof_base: bool = False, done: Callable[[Exception | None], None]) -> None: ...
    def save_now(self, path: str, *, aof_base: bool = False) -> None: ...
    def abort(self) -> None: ...


class JournalKeeper:
    """Engine.journal.keeper, from the time when there is a loop until it ends."""

    def __init__(
        self,
        engine: "Engine",
        saver: BaseSaver,
        files: Files | None = None,
        wake: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """`wake` has the loop call something, from any thread; without a loop, that is when tick() is called."""
        # For life.
        self._engine = engine
        self._effects = engine.journal.effects
        self._saver = saver
        self._files = files or Files()
        self._woken: list[Callable[[], None]] = []
        self._wake = wake or self._woken.append
        config = engine.config
        self._directory = os.path.join(config.dir, config.appenddirname)
        self._prefix = config.appendfilename
        # While the journal is on.
        self._writer: Writer | None = None
        self._manifest = Manifest()
        self._is_scheduled = False  # what has changed will be handed over
        self._held: list[Held] = []  # replies that wait for what is to be handed over
        # And for what has been: so many bytes of it have to be synced first.
        self._awaiting: deque[tuple[int, list[Held]]] = deque()
        # With `always`: so many replies are worth a sync, until then.
        self._gathering = 0
        self._gather_until_ns = 0
        self._is_ending_turn = False  # and it is begun at the end of the loop's turn
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()  # for so many bytes to be synced
        self._fault = ""
        self._timestamp_s = 0  # of the last annotation
        # Rewriting.
        self.is_rewriting = False
        self.is_rewrite_scheduled = False  # as soon as no snapshot is being written
        self._is_first = False  # the journal counts only once its base is there
        self._next_base: JournalFile | None = None
        self._rewrite_started_ns = 0
        self._rewrite_retry_ns = 0
        # For INFO.
        self.rewrite_elapsed_s = -1
        self.is_rewrite_well = True
        self.rewrites = 0
        self.failures_in_row = 0
        self.base_bytes = 0
        self._older_bytes = 0  # of files before the one that is written to
        config.on_change("appendonly", self._turn)
        config.on_change("appendfsync", self._set_policy)

    # On and off

    @property
    def is_on(self) -> bool:
        return self._writer is not None

    def begin(self, manifest: Manifest | None) -> None:
        """Go on with a journal that has been loaded, or begin one with the data there is; before anybody is served.

        Raises OSError where that cannot be.
        """
        files, path = self._files, manifest_path(self._directory, self._prefix)
        files.make_directory(self._directory)
        if manifest is None:
            manifest = self._fresh_manifest()
            scripting = self._engine.scripting
            if self._engine.keys or (scripting is not None and scripting.libraries):
                base = manifest.next_base(self._prefix)
                self._saver.save_now(self._path(base), aof_base=True)
                manifest = manifest.with_base(base, 1)
        obsolete = tuple(map(self._path, manifest.history))
        manifest = replace(manifest, history=())
        if not manifest.increments:
            manifest = manifest.with_increment(self._prefix)
            files.close(files.create(self._path(manifest.increments[-1])))
        last_path = self._path(manifest.increments[-1])
        put_file(files, path, manifest.encode())
        remove(files, obsolete)
        files.fsync_directory(self._engine.config.dir)
        self._manifest = manifest
        self._older_bytes = sum(self._size_bytes(file) for file in manifest.files[:-1])
        writer = self._make_writer()
        writer.open(last_path, files.size_bytes(last_path))
        self._start(writer)
        self.base_bytes = self.size_bytes

    def _turn(self, wanted: bool) -> None:
        """CONFIG SET appendonly."""
        if wanted and self._writer is None:
            if self._engine.loading is not None:
                raise ConfigError("Unable to turn on AOF while data is being loaded")
            self._begin_live()
        elif not wanted and self._writer is not None:
            self.stop()

    def _begin_live(self) -> None:
        """What changes from now on goes into an increment; it counts once its base is there, and until then the old
        journal does, if there is one."""
        try:
            self._files.make_directory(self._directory)
            self._manifest = self._read_manifest()
            self._start(self._make_writer())
            self._is_first = True
            self._rewrite()
        except OSError as error:
            self.stop()
            raise ConfigError(f"Unable to turn on AOF. Check server logs: {error.strerror}") from error

    def _read_manifest(self) -> Manifest:
        path = manifest_path(self._directory, self._prefix)
        try:
            with open(path, "rb") as file:
                return Manifest.parse(file.read())
        except FileNotFoundError:
            return self._fresh_manifest()
        except BadManifest as error:
            raise OSError(0, f"{path}: {error}") from error

    def _fresh_manifest(self) -> Manifest:
        """Without files, and such that none of those that are there is written over."""
        numbers = [sequence_of(name, self._prefix) for name in self._files.names(self._directory)]
        return Manifest(last_sequence=max(numbers, default=0))

    def _make_writer(self) -> Writer:
        writer = Writer(self._files, self._engine.monotonic_ns, self._wake, self._settled)
        writer.policy = self._engine.config.appendfsync
        return writer

    def _start(self, writer: Writer) -> None:
        self._writer = writer
        self._effects.take()
        self._effects.start_anew()
        self._timestamp_s = 0
        self._engine.journal.set_on(True)
        writer.start()

    def stop(self) -> bool:
        """Write and sync all there is, and write no more; returns whether that was possible."""
        writer = self._writer
        if writer is None:
            return True
        if self.is_rewriting:
            self._next_base = None
            self.is_rewriting = self._is_first = False
            self._saver.abort()
        self._hand_over()
        self._engine.journal.set_on(False)
        fault = writer.stop()
        self._settled()
        self._release(self._take_held())
        self._waiting.clear()
        self._writer = None
        self._set_fault("")
        if fault is not None:
            self._engine.log("error", "the end of the journal is not written", reason=str(fault))
        return fault is None

    def _set_policy(self, policy: str) -> None:
        if self._writer is not None:
            self._hand_over()
            self._writer.policy = policy
            self._writer.put(b"")  # have it look

    # From the engine

    def hold(self, held: "Held") -> bool:
        """Whether a reply has to wait, for what has changed before it to be on the disk."""
        writer = self._writer
        if writer is None:
            return False
        size_bytes = self._effects.size_bytes
        has_others = held[0].held > 0  # replies to the same client, which come first
        is_strict = writer.policy == "always" and not self._fault
        if is_strict:
            if not size_bytes and writer.is_synced and not has_others:
                return False
        else:
            if not size_bytes and not has_others and writer.pending_bytes < _PENDING_BYTES_MAX:
                return False
        if size_bytes >= _HAND_OVER_BYTES:
            self._hand_over()
        elif is_strict:
            # While a sync goes on, what comes shares the next.
            if not self._awaiting:
                self._gather(len(self._held) + 1)
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._engine.call_later(_HAND_OVER_S, self._hand_over_as_scheduled)
        if not has_others:
            # While a script runs nobody else's reply tells of what it does.
            if self._effects.is_open:
                return False
            if not is_strict and writer.pending_bytes < _PENDING_BYTES_MAX:
                return False
        held[0].held += 1
        self._held.append(held)
        return True

    def tick(self) -> None:
        """Several times per second."""
        for function in self._woken[:]:
            self._woken.remove(function)
            function()
        writer = self._writer
        if writer is None:
            return
        self._hand_over()
        self._settled()
        writer.may_sync = not (self._saver.running and self._engine.config.no_appendfsync_on_rewrite)
        writer.is_rewriting = self._saver.running
        if writer.progress.is_lost and not self.is_rewriting:
            self._set_fault("No such file or directory")
            self._rewrite_unless_failing()
        elif self.is_rewrite_scheduled and not self._saver.running:
            self._rewrite()
        elif self._is_grown() and not self._saver.running:
            self._rewrite_unless_failing()

    def is_synced(self) -> bool:
        """Whether all that has changed is on the disk."""
        writer = self._writer
        return writer is not None and writer.policy != "no" and not self._effects.size_bytes and writer.is_synced

    def when_synced(self, function: Callable[[], None]) -> None:
        """Call something once all that has changed by now is on the disk."""
        self._hand_over()
        if self._writer is not None:
            self._waiting.append((self._writer.handed_bytes, function))

    def rewrite(self) -> bool:
        """BGREWRITEAOF: begin, or, while a snapshot is being written, have it done after that; returns whether it has
        begun.  Raises CommandError and OSError."""
        if self.is_rewriting:
            raise CommandError("ERR Background append only file rewriting already in progress")
        if self._writer is None:
            raise CommandError("ERR There is no journal to be rewritten: appendonly is 'no'")
        if self._saver.running or self._engine.nested:
            # In the middle of a transaction is no moment that anybody would want.
            self.is_rewrite_scheduled = True
            return False
        try:
            self._rewrite()
        except OSError as error:
            self._rewrite_failed(error)
            raise CommandError(
                "ERR Can't execute an AOF background rewriting. Please check the server logs for more information."
            ) from error
        return True

    def reload(self) -> None:
        """DEBUG LOADAOF: have the data that the files say, and serve nobody meanwhile.  Raises CommandError."""
        writer, engine = self._writer, self._engine
        if writer is None or self._is_first:
            raise CommandError("ERR There is no journal to be loaded")
        self._hand_over()
        while writer.pending_bytes and writer.progress.fault is None:
            engine.clock.sleep_ns(1_000_000)
        if writer.progress.fault is not None:
            raise CannotJournal(self._fault)
        engine.journal.set_on(False)
        try:
            for keyspace in engine.databases.used():
                engine.flush_database(keyspace)
            run(load_journal(engine, self._directory, self._manifest, Loading(engine.clock, 0), self._files))
        except (CannotLoad, OSError) as error:
            raise CommandError(f"ERR Error trying to load the AOF files, check server logs: {error}") from error
        finally:
            engine.journal.set_on(True)

    # Handing over

    def _hand_over_as_scheduled(self) -> None:
        self._is_scheduled = False
        if self._awaiting:
            return
        if 0 < len(self._held) < self._gathering and self._engine.monotonic_ns() < self._gather_until_ns:
            self._is_scheduled = True
            self._engine.call_later(0, self._hand_over_as_scheduled)
            return
        self._hand_over()

    def _gather(self, waiting: int) -> None:
        """Have what waits synced soon.

        Those who have just got their replies will have something to write again at once, and are waited for a little:
        if they did not share a sync with those who wait already, the two would take turns, and each wait for two syncs.
        """
        left_ns = self._gather_until_ns - self._engine.monotonic_ns()
        is_complete = left_ns <= 0 or waiting >= self._gathering
        if is_complete and not self._is_ending_turn:
            self._is_ending_turn = True
            self._engine.call_later(0, self._end_turn)
        elif not is_complete and not self._is_scheduled:
            self._is_scheduled = True
            self._engine.call_later(left_ns / 1e9, self._hand_over_as_scheduled)

    def _end_turn(self) -> None:
        self._is_ending_turn = False
        if not self._awaiting:
            self._hand_over()

    def _hand_over(self) -> None:
        """What has changed goes to the thread, and replies that tell of it wait for that from now on."""
        writer, effects = self._writer, self._effects
        if writer is None or effects.is_open:
            return
        if effects.size_bytes:
            data = effects.take()
            writer.put(self._stamped(data))
        if self._held:
            self._awaiting.append((writer.handed_bytes, self._held))
            self._held = []
            self._release_synced(writer)

    def _stamped(self, data: bytes) -> bytes:
        if self._engine.config.aof_timestamp_enabled:
            now_s = self._engine.clock.wall_ms() // 1000
            if now_s != self._timestamp_s:
                self._timestamp_s = now_s
                return b"#TS:%d\r\n%b" % (now_s, data)
        return data

    def _settled(self) -> None:
        """The thread has come further, or cannot."""
        writer = self._writer
        if writer is None:
            return
        progress = writer.progress
        while progress.times:
            self._engine.slowness.note_event(*progress.times.popleft())
        while progress.syncs:
            started_ns, stopped_ns, fault = progress.syncs.popleft()
            self._engine.tracing.note_job("kora.journal.fsync", started_ns, stopped_ns, {}, fault)
        if progress.fault is not None:
            self._set_fault(progress.fault.strerror or str(progress.fault))
        elif not progress.is_lost:
            self._set_fault("")
        self._release_synced(writer)
        while self._waiting and self._waiting[0][0] <= progress.synced_bytes and writer.policy != "no":
            self._waiting.popleft()[1]()

    def _release_synced(self, writer: Writer) -> None:
        """Send the replies that need not wait any longer."""
        is_strict = writer.policy == "always"
        synced_bytes = writer.progress.synced_bytes
        released = 0
        while self._awaiting and (
            self._awaiting[0][0] <= synced_bytes if is_strict else writer.pending_bytes < _PENDING_BYTES_MAX // 2
        ):
            group = self._awaiting.popleft()[1]
            released += len(group)
            self._release(group)
        if is_strict and released and not self._awaiting:
            self._gathering = len(self._held) + released
            delay_ns = min(_GATHER_NS_MAX, writer.progress.sync_ns // 2)
            self._gather_until_ns = self._engine.monotonic_ns() + delay_ns
            if self._held:
                self._gather(len(self._held))

    def _take_held(self) -> "list[Held]":
        """All replies that wait, in order."""
        held = [one for _, group in self._awaiting for one in group] + self._held
        self._awaiting.clear()
        self._held = []
        return held

    def _release(self, held: "list[Held]") -> None:
        for receiver, data in held:
            receiver.release_held(data)

    def _set_fault(self, reason: str) -> None:
        if reason == self._fault:
            return
        engine = self._engine
        self._fault = reason
        if reason:
            engine.log("error", "journal not written: writes are refused", reason=reason, directory=self._directory)
            engine.set_disk_fault("aof", CannotJournal(reason))
            for receiver, _ in self._take_held():
                receiver.cut()
        else:
            engine.log("warning", "journal written again: writes are served", directory=self._directory)
            engine.set_disk_fault("aof", None)

    # Rewriting

    def _rewrite(self) -> None:
        """Begin: raises OSError where no file can be made for the base."""
        writer = self._writer
        assert writer is not None
        self.is_rewrite_scheduled = False
        self._hand_over()
        self._files.make_directory(self._directory)
        manifest = self._manifest.with_increment(self._prefix)
        base = manifest.next_base(self._prefix)
        self._saver.start(self._path(base), aof_base=True, done=self._base_ended)
        self._effects.start_anew()
        self._timestamp_s = 0
        self._older_bytes = self.size_bytes
        self._manifest = manifest
        self._next_base = base
        writer.put(
            Switch(
                self._path(manifest.increments[-1]),
                manifest_path(self._directory, self._prefix),
                b"" if self._is_first else manifest.encode(),
            )
        )
        self.is_rewriting = True
        self._rewrite_started_ns = self._engine.monotonic_ns()
        self._engine.log("info", "rewriting the journal", base=base.name)

    def _rewrite_unless_failing(self) -> None:
        if self._engine.monotonic_ns() >= self._rewrite_retry_ns:
            try:
                self._rewrite()
            except OSError as error:
                self._rewrite_failed(error)

    def _base_ended(self, error: Exception | None) -> None:
        base, writer = self._next_base, self._writer
        if base is None or writer is None:
            return
        if error is not None:
            self._rewrite_failed(error)
            if self._is_first:
                # Still nothing is in the journal that counts.
                self._rewrite_retry_ns = self._engine.monotonic_ns() + 1_000_000_000
                self.is_rewrite_scheduled = True
            return
        manifest = self._manifest.with_base(base, self._manifest.increments[-1].sequence)
        obsolete = tuple(map(self._path, manifest.history))
        self._manifest = Manifest(manifest.base, manifest.increments)
        content = self._manifest.encode()
        writer.put(Replace(manifest_path(self._directory, self._prefix), content, obsolete, self._rewritten))

    def _rewritten(self) -> None:
        """The manifest names the new base."""
        assert self._manifest.base is not None
        self.is_rewriting = self._is_first = False
        self._next_base = None
        self.is_rewrite_well = True
        self.failures_in_row = 0
        self.rewrites += 1
        self.rewrite_elapsed_s = self._rewrite_running_s()
        self._older_bytes = self._size_bytes(self._manifest.base)
        self.base_bytes = self.size_bytes
        self._engine.log("info", "journal rewritten", size_bytes=self.base_bytes, elapsed_s=self.rewrite_elapsed_s)

    def _rewrite_failed(self, error: Exception) -> None:
        self.is_rewriting = False
        self._next_base = None
        self.is_rewrite_well = False
        self.failures_in_row += 1
        self.rewrites += 1
        self.rewrite_elapsed_s = self._rewrite_running_s()
        over = self.failures_in_row - _FAILURES_FREE
        pause_s = min(_FAILURE_PAUSE_S_MAX, _FAILURE_PAUSE_S << over) if over >= 0 else 1
        self._rewrite_retry_ns = self._engine.monotonic_ns() + pause_s * 1_000_000_000
        self._engine.log("error", "journal not rewritten", reason=str(error))

    def _is_grown(self) -> bool:
        """auto-aof-rewrite-percentage and -min-size."""
        config, size_bytes = self._engine.config, self.size_bytes
        percent = config.auto_aof_rewrite_percentage
        if not percent or self.is_rewriting or size_bytes <= config.auto_aof_rewrite_min_size:
            return False
        base_bytes = self.base_bytes or 1
        return size_bytes * 100 // base_bytes - 100 >= percent

    # For INFO

    def _rewrite_running_s(self) -> int:
        return (self._engine.monotonic_ns() - self._rewrite_started_ns) // 1_000_000_000

    @property
    def size_bytes(self) -> int:
        """Of all files that count, once what was handed over is written."""
        return self._older_bytes + (self._writer.progress.size_bytes if self._writer is not None else 0)

    @property
    def pending_bytes(self) -> int:
        """That are not written yet."""
        return self._effects.size_bytes + (self._writer.pending_bytes if self._writer is not None else 0)

    def numbers(self) -> dict[str, int]:
        """For Snapshot.journal; named as INFO has them, behind `aof_`."""
        progress = self._writer.progress if self._writer is not None else Progress()
        numbers = {
            "enabled": int(self.is_on),
            "rewrite_in_progress": int(self.is_rewriting),
            "rewrite_scheduled": int(self.is_rewrite_scheduled),
            "last_rewrite_time_sec": self.rewrite_elapsed_s,
            "current_rewrite_time_sec": self._rewrite_running_s() if self.is_rewriting else -1,
            "last_bgrewrite_status": int(self.is_rewrite_well),
            "rewrites": self.rewrites,
            "rewrites_consecutive_failures": self.failures_in_row,
            "last_write_status": int(not self._fault),
        }
        if self.is_on:
            numbers |= {
                "current_size": self.size_bytes,
                "base_size": self.base_bytes,
                "pending_rewrite": 0,
                "buffer_length": self.pending_bytes,
                "pending_bio_fsync": int(progress.is_syncing),
                "delayed_fsync": progress.delayed_syncs,
            }
        return numbers

    def _path(self, file: JournalFile) -> str:
        return os.path.join(self._directory, file.name)

    def _size_bytes(self, file: JournalFile) -> int:
        try:
            return self._files.size_bytes(self._path(file))
        except OSError:
            return 0
