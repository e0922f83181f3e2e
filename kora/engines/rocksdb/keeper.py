"""Writing back: what has changed in the keyspaces goes into the store, and no more is acknowledged than is promised.

Every 10 ms, if the last one is done, all that has changed since then is taken from all databases, and becomes one batch
for each shard, which a thread writes.  What belongs together, such as a transaction, is thus in the same batches.  With
`rocksdb-sync always` that happens at the end of the loop's turn, and replies wait until it is synced, those to requests
that only look included, so that nobody sees what a power cut may undo; one sync serves all connections.  The journal's
notes of what has changed (engine.journal.effects) are taken for that, and thrown away.

A large value is written whole whenever something of it has changed.  Where one is in two batches in a row the next is
put off, the longer the larger it was, but with `everysec` not beyond the next sync, and with `always` not at all; the
whole batch, so that what belongs together stays together.

What cannot be written is kept, in memory, and tried again; writes are answered MISCONF meanwhile.  Where the store is
slower than those who write, they have to wait.
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from kora.errors import CannotStore, CommandError, ConfigError, StorageFault
from kora.observe.board import CLIENT
from kora.store.backing import Taken
from kora.store.keyspace import Keyspace

from .store import Batch, Store

if TYPE_CHECKING:
    from kora.engine.engine import Engine
    from kora.engine.journal import Held

_SYNC_NS: Final = 1_000_000_000
_RETRY_NS: Final = 200_000_000
_DOUBLINGS_MAX: Final = 4  # of that, while it fails
_LOOK_AGAIN_NS: Final = 10_000_000_000
# How long a write-back may be put off for those who will soon share it.
_GATHER_NS_MAX: Final = 1_000_000
# Who writes more than this while the store is busy has to wait.  A batch takes three times as much while it is made.
_GATHERED_BYTES_MAX: Final = 16 << 20
# Or more keys: all that has changed is taken in one turn of the loop, in a third of a microsecond each.
_GATHERED_KEYS_MAX: Final = 20_000
# Values from so many bytes on, as they are written, are large.  So much is written per second of those that change on.
_LARGE_BYTES: Final = 256 << 10
_LARGE_BYTES_PER_S: Final = 32 << 20
# What a value takes in memory, at most about, of what it takes in a batch.
_MEMORY_OF_RECORD: Final = 4
_ALL: Final = 1 << 62
# Keys whose deadlines are over that are looked for at a time.
_DUE_MAX: Final = 1000
_ENDED_AT_ONCE: Final = 16
FUNCTIONS: Final = "functions"


class StoreKeeper:
    """Engine.journal.keeper of a server whose data is in a store."""

    is_rewriting = False
    is_on = True  # it is no journal, but as good as one for those who wait for their writes

    def __init__(
        self, engine: "Engine", store: Store, wake: Callable[[Callable[[], None]], object] | None = None
    ) -> None:
        """`wake` has the loop call something, from any thread; without a loop, that is when tick() is called."""
        # For life.
        self._engine = engine
        self._effects = engine.journal.effects
        self.store = store
        self._woken: list[Callable[[], None]] = []
        self._wake = wake or self._woken.append
        self._writer = ThreadPoolExecutor(1, "write-back")
        self._syncer = ThreadPoolExecutor(1, "store-sync")
        # What is being written.
        self._out: list[int] = []  # databases that it is of, by their ids
        self._out_keys = self._out_bytes = 0
        self._out_large: set[tuple[int, bytes]] = set()  # large values, by id and key
        self._out_again_bytes = 0  # of those that were in the batch before as well
        self._gone: set[int] = set()  # databases that there are no more when it is written
        self._batch: Batch | None = None
        self._future: Future[None] | None = None
        self._started_ns = 0
        self._is_synced_at_once = False
        self._retry_ns = 0
        self._begin_ns = 0  # for large values: when the next batch is begun
        self._is_for_sync = False  # the batch that was begun last: it was put off until now
        self._failures = 0  # one after the other
        self._stopped = False
        # With `always`: replies that wait for what is being written, and for what will be.
        self._awaiting: deque[Held] = deque()
        self._held: list[Held] = []
        self._gathering = 0  # so many replies are worth a sync, until then
        self._gather_until_ns = 0
        self._is_scheduled = False
        # With `everysec`.
        self._syncing: Future[None] | None = None
        self._synced_ns = engine.monotonic_ns()
        self._is_unsynced = False
        # Batches are numbered, also those for which nothing had changed.
        self._begun = self._settled = self._synced = 0
        self._synced_next = 0  # when what is being synced is
        self._waiting: list[tuple[int, Callable[[], None]]] = []  # for which batch to be synced
        # Deadlines.
        self._looking: Future[list[tuple[int, list[bytes]]]] | None = None
        self._due: list[tuple[int, list[bytes]]] = []
        self._look_again_ns = 0  # where it failed
        # What was last written down.
        self._databases = dict(store.databases)
        self._functions: list[bytes] = []
        # For INFO and /metrics.
        self.commits = 0
        self.commit_ns = 0
        self.committed_keys = 0
        self.committed_bytes = 0
        self.commit_errors = 0
        self._fault = ""
        self._stalled_ns = 0  # since when writers wait
        engine.config.on_change("rocksdb-sync", self._set_policy)
        engine.config.on_change("appendonly", _refuse_journal)

    def begin(self) -> None:
        """The data there was is known: what changes from now on is for the store."""
        self._functions = self._codes()
        self._set_policy(self._engine.config.rocksdb_sync)

    def _set_policy(self, policy: str) -> None:
        if policy == "always" and not self._effects.on:
            self._effects.take()
            self._engine.journal.set_on(True)
        elif policy != "always" and self._effects.on:
            self._engine.journal.set_on(False)
            self._effects.take()
            if self._future is None:
                self._release()

    # From the engine

    def hold(self, held: "Held") -> bool:
        """Whether a reply has to wait, for what has changed before it to be synced."""
        size_bytes = self._effects.size_bytes
        has_others = held[0].held > 0  # replies to the same client, which come first
        if self._fault or (not size_bytes and self._future is None and not has_others):
            return False
        if self._future is None:
            self._gather(len(self._held) + 1)
        if not has_others and self._effects.is_open:
            # While a script runs nobody else's reply tells of what it does.
            return False
        held[0].held += 1
        self._held.append(held)
        return True

    def _gather(self, waiting: int) -> None:
        """Write back soon: those who have just got their replies will write again at once, and are waited for a little;
        if they did not share a sync with those who wait already, each would wait for two."""
        if self._is_scheduled:
            return
        left_ns = self._gather_until_ns - self._engine.monotonic_ns()
        is_complete = left_ns <= 0 or waiting >= self._gathering
        self._is_scheduled = True
        self._engine.call_later(0 if is_complete else left_ns / 1e9, self._write_as_scheduled)

    def _write_as_scheduled(self) -> None:
        self._is_scheduled = False
        self._step_as_job()

    def tick(self) -> None:
        """Several times per second."""
        for function in self._woken[:]:
            self._woken.remove(function)
            function()
        self.step()

    def is_synced(self) -> bool:
        """Whether all that has changed is on the disk."""
        return self._synced == self._begun and not self._has_changed()

    def when_synced(self, function: Callable[[], None]) -> None:
        """Call something once all that has changed by now is on the disk."""
        self._waiting.append((self._begun + self._has_changed(), function))

    def _has_changed(self) -> bool:
        """Since the last batch was begun."""
        databases = self._engine.databases.used()
        return (
            any(keyspace.dirty_keys for keyspace in databases)
            or self._ids(databases) != self._databases
            or self._codes() != self._functions
        )

    def rewrite(self) -> bool:
        raise CommandError("ERR There is no journal to be rewritten: the data is in RocksDB")

    def reload(self) -> None:
        raise CommandError("ERR There is no journal to be loaded: the data is in RocksDB")

    # Writing back

    def _ids(self, databases: Iterable[Keyspace]) -> dict[int, int]:
        """Which database is to have which id."""
        return self.store.databases | {each.index: each.store_id for each in databases if _is_used(each)}

    @property
    def dirty_bytes(self) -> int:
        return sum(keyspace.dirty_bytes for keyspace in self._engine.databases.used())

    def _step_as_job(self) -> None:
        """step(), in a turn of its own, for whoever looks what the loop is busy with."""
        engine = self._engine
        engine.board.words[CLIENT] = 0
        engine.job = "write-back"
        self.step()
        engine.job = ""

    def step(self) -> None:
        """Begin what is due, and see what has been done."""
        if self._stopped:
            return
        self._settle()
        engine = self._engine
        self._sync_if_due()
        if self._batch is None:
            if not self._is_put_off():
                self._begin()
        elif self._future is None and self._batch is not None and engine.monotonic_ns() >= self._retry_ns:
            self._submit(self._batch)
        self._press_back()

    def _is_put_off(self) -> bool:
        """Whether the next batch had better wait, since large values are likely to be in it again."""
        if not self._begin_ns:
            return False
        policy = self._engine.config.rocksdb_sync
        if self._engine.monotonic_ns() >= self._begin_ns or policy == "always" or self._waiting:
            return False
        if policy == "everysec" and self._is_sync_due():
            return False
        return not self._has_gathered(2)

    def _begin(self) -> None:
        """Have all that has changed written, if something has."""
        # What due() finds must not change meanwhile.
        if self._effects.is_open or (self._looking is not None and not self._looking.done()):
            return
        databases = self._engine.databases.used()
        large_bytes = min(_LARGE_BYTES, self._engine.config.rocksdb_large_value_bytes)
        changes = [taken for keyspace in databases if (taken := keyspace.take_dirty(_ALL, large_bytes)) is not None]
        ids = self._ids(databases)
        self._begun += 1
        functions = self._codes()
        self._effects.take()
        self._awaiting.extend(self._held)
        self._held = []
        if not changes and ids == self._databases and functions == self._functions:
            self._settled = self._begun
            if not self._is_unsynced and self._syncing is None:
                self._note_synced(self._settled)
            self._release()
            return
        self._is_for_sync, self._begin_ns = self._begin_ns > 0 and self._is_sync_due(), 0
        extras = {}
        if functions != self._functions:
            extras[FUNCTIONS] = json.dumps([code.decode("latin-1") for code in functions]).encode()
        batch = self.store.batch(changes, ids if ids != self._databases else None, extras)
        self._batch = batch
        self._out = [taken.id for taken in changes]
        self._out_keys = sum(taken.keys for taken in changes)
        self._out_bytes = sum(taken.record_bytes for taken in changes)
        large_before, self._out_large, self._out_again_bytes = self._out_large, set(), 0
        for taken in changes:
            self._note_large(taken, large_before)
        self._gone = set(self._databases.values()) - set(ids.values())
        self._databases, self._functions = ids, functions
        self._submit(batch)

    def _note_large(self, taken: Taken, before: set[tuple[int, bytes]]) -> None:
        """See which large values are in two batches in a row, and tell of those that are said to be."""
        engine = self._engine
        for key, size_bytes in taken.large:
            if size_bytes >= _LARGE_BYTES:
                self._out_large.add((taken.id, key))
                if (taken.id, key) in before:
                    self._out_again_bytes += size_bytes
            if size_bytes >= engine.config.rocksdb_large_value_bytes and engine.storage is not None:
                engine.storage.note_large(engine, key, size_bytes)

    def _submit(self, batch: Batch) -> None:
        self._started_ns = self._engine.monotonic_ns()
        self._is_synced_at_once = self._engine.config.rocksdb_sync == "always"
        self._future = self._writer.submit(batch.commit, self._is_synced_at_once)
        self._future.add_done_callback(self._tell)

    def _tell(self, _: object) -> None:
        """From a thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: whoever ends it asks for itself
            self._wake(self._step_as_job)

    def _settle(self) -> None:
        """See whether what was to be written is."""
        future = self._future
        if future is None or not future.done():
            return
        engine = self._engine
        self._future = None
        elapsed_ns = engine.monotonic_ns() - self._started_ns
        engine.slowness.note_event("storage-commit", elapsed_ns)
        error = future.exception()
        if error is not None:
            self._failed(error)
            return
        batch, self._batch = self._batch, None
        assert batch is not None
        self._settled = self._begun
        self._is_unsynced = not self._is_synced_at_once
        self._set_fault("")
        if self._out_again_bytes:
            put_off_ns = self._out_again_bytes * 1_000_000_000 // _LARGE_BYTES_PER_S
            self._begin_ns = engine.monotonic_ns() + min(put_off_ns, _SYNC_NS)
        self.commits += 1
        self.commit_ns += elapsed_ns
        self.committed_keys += self._out_keys
        self.committed_bytes += self._out_bytes
        if self._gone:
            self._writer.submit(self.store.reclaim, self._gone)
            self._gone = set()
        for keyspace in engine.databases.used():
            # One that was emptied meanwhile has another, and nothing out.
            if keyspace.store_id in self._out:
                keyspace.written(batch.overwritten(keyspace.store_id))
        released = len(self._awaiting)
        self._release()
        if released:
            self._gathering = len(self._held) + released
            self._gather_until_ns = engine.monotonic_ns() + min(_GATHER_NS_MAX, elapsed_ns // 2)
            if self._held:
                self._gather(len(self._held))
        if not self._is_unsynced:
            self._note_synced(self._settled)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, StorageFault):
            raise error
        self.commit_errors += 1
        self._set_fault(error.reason)
        self._retry_ns = self._engine.monotonic_ns() + (_RETRY_NS << min(self._failures, _DOUBLINGS_MAX))
        self._failures += 1

    def _release(self) -> None:
        """Send the replies that need not wait any longer."""
        while self._awaiting:
            receiver, data = self._awaiting.popleft()
            receiver.release_held(data)

    def _note_synced(self, number: int) -> None:
        """All batches up to that one are on the disk."""
        self._synced = number
        ready = [function for wanted, function in self._waiting if wanted <= number]
        self._waiting = [each for each in self._waiting if each[0] > number]
        for function in ready:
            function()

    def _set_fault(self, reason: str) -> None:
        if bool(reason) == bool(self._fault):
            return
        engine = self._engine
        self._fault = reason
        self._failures = 0
        if reason:
            engine.log("error", "changes not stored: writes are refused", reason=reason, directory=self.store.path)
            engine.set_disk_fault("store", CannotStore(reason))
            held, self._held = [*self._awaiting, *self._held], []
            self._awaiting.clear()
            for receiver, _ in held:
                receiver.cut()
        else:
            engine.log("warning", "changes stored again: writes are served", directory=self.store.path)
            engine.set_disk_fault("store", None)

    # Syncing

    def _sync_if_due(self) -> None:
        syncing = self._syncing
        if syncing is not None:
            if not syncing.done():
                return
            self._syncing = None
            if (error := syncing.exception()) is not None:
                self._is_unsynced = True
                self._failed(error)
            else:
                if self._batch is None:
                    # What could not be synced is, and nothing else waits to be written.
                    self._set_fault("")
                self._note_synced(self._synced_next if self._is_unsynced else self._settled)
        if self._waits_for_batch():
            return
        if self._is_unsynced and self._engine.config.rocksdb_sync != "no" and self._is_sync_due():
            self._synced_ns = self._engine.monotonic_ns()
            self._is_for_sync = False
            self._is_unsynced = False
            self._synced_next = self._settled
            self._syncing = self._sync()

    def _is_sync_due(self) -> bool:
        return self._engine.monotonic_ns() - self._synced_ns >= _SYNC_NS

    def _waits_for_batch(self) -> bool:
        """Whether a batch that was put off until the next sync is to be a part of that, and is not written yet."""
        if self._is_for_sync:
            return self._future is not None
        return bool(self._begin_ns) and any(each.dirty_keys for each in self._engine.databases.used())

    def _sync(self) -> "Future[None]":
        if self.store.log.is_suspect:
            # Another log cannot be begun while batches are written.
            return self._writer.submit(self.store.sync_anew)
        return self._syncer.submit(self.store.sync)

    def _press_back(self) -> None:
        """Have those who write wait while the store is behind."""
        engine = self._engine
        if not self._stalled_ns and self._batch is not None and self._has_gathered():
            self._stalled_ns = engine.monotonic_ns()
            engine.set_writes_wait(True)
        elif self._stalled_ns and (self._batch is None or not self._has_gathered(2)):
            engine.slowness.note_event("storage-stall", engine.monotonic_ns() - self._stalled_ns)
            self._stalled_ns = 0
            engine.set_writes_wait(False)

    def _has_gathered(self, divisor: int = 1) -> bool:
        """Whether as much waits to be written as may, or is in memory beyond what may be; or a part of that."""
        engine = self._engine
        if sum(keyspace.dirty_keys for keyspace in engine.databases.used()) > _GATHERED_KEYS_MAX // divisor:
            return True
        limit_bytes = _GATHERED_BYTES_MAX // divisor
        # Large values that change on and on were counted when they changed first.
        dirty_bytes = self.dirty_bytes - self._out_again_bytes * _MEMORY_OF_RECORD
        return dirty_bytes > limit_bytes or engine.memory_bytes > engine.config.rocksdb_cache_bytes + limit_bytes

    @property
    def is_behind(self) -> bool:
        """Whether those who write have to wait."""
        return bool(self._stalled_ns)

    def write_back(self, sync: bool = True) -> bool:
        """Have all that has changed in the store before this returns; whether that was possible."""
        if self._looking is not None:
            self._looking.exception()
        for _ in range(2):  # what is under way, and what has changed since
            if self._future is None and self._batch is not None:
                self._submit(self._batch)
            elif self._batch is None:
                self._begin()
            if self._future is not None:
                self._future.exception()
                self._settle()
            if self._fault:
                return False
        if not sync:
            return True
        error = self._sync().exception()
        if error is not None:
            self._failed(error)
            return False
        self._is_unsynced = False
        self._note_synced(self._settled)
        return True

    def stop(self) -> bool:
        """Write back all there is, and write no more; returns whether that was possible."""
        if self._stopped:
            return True
        is_well = self.write_back()
        self._stopped = True
        self._engine.journal.set_on(False)
        self._awaiting.extend(self._held)
        self._held = []
        self._release()
        self._writer.shutdown()
        self._syncer.shutdown()
        if not is_well:
            self._engine.log("error", "what has changed last is not stored", reason=self._fault)
        self.store.close()
        return is_well

    def run_in_turn(self, deed: Callable[[], None]) -> "Future[None]":
        """Have something done while nothing is written."""
        return self._writer.submit(deed)

    # Deadlines

    def look_for_due(self) -> None:
        """Have keys end whose deadlines are over, wherever they are."""
        engine = self._engine
        if self._looking is not None and self._looking.done():
            looking, self._looking = self._looking, None
            error = looking.exception()
            if isinstance(error, StorageFault):
                # No reason to refuse writes.
                self._look_again_ns = engine.monotonic_ns() + _LOOK_AGAIN_NS
                self._cannot_end(error)
            else:
                self._due = looking.result()
        if self._due:
            return
        if (
            self._looking is None
            and self._batch is None
            and not self._stopped
            and engine.monotonic_ns() >= self._look_again_ns
        ):
            now_ms = engine.clock.wall_ms()
            # Whether there are hashes with fields that end nobody counts.
            ids = [keyspace.store_id for keyspace in engine.databases.used() if len(keyspace)]
            if ids:
                self._looking = self._writer.submit(self._find_due, ids, now_ms)
                self._looking.add_done_callback(self._tell)

    def _find_due(self, ids: list[int], now_ms: int) -> list[tuple[int, list[bytes]]]:
        return [(id, keys) for id in ids if (keys := self.store.due(id, now_ms, _DUE_MAX))]

    def expire(self, budget_ns: int) -> bool:
        """Go on ending keys for so long; returns whether there are more."""
        engine = self._engine
        self.look_for_due()
        stop_ns = engine.monotonic_ns() + budget_ns
        while self._due and engine.monotonic_ns() < stop_ns:
            id, keys = self._due[-1]
            for keyspace in engine.databases.used():
                if keyspace.store_id == id:
                    self._end(keyspace, keys[-_ENDED_AT_ONCE:])
            del keys[-_ENDED_AT_ONCE:]
            if not keys:
                self._due.pop()
        return bool(self._due)

    def _end(self, keyspace: Keyspace, keys: list[bytes]) -> None:
        try:
            for key in keys:
                keyspace.has_quietly(key)
        except StorageFault as error:
            # They stay, and so does what cannot be read; whoever asks for them is told.
            self._cannot_end(error)

    def _cannot_end(self, error: StorageFault) -> None:
        self._engine.log("warning", "keys whose time is over cannot be read", reason=error.reason)

    # Functions

    def _codes(self) -> list[bytes]:
        scripting = self._engine.scripting
        return [] if scripting is None else [library.code for library in scripting.libraries.values()]

    # For INFO

    def counted(self) -> dict[str, int]:
        """What is told of writing back; the names are those of COMMITS (kora/observe/storage.py)."""
        return {
            "commits": self.commits,
            "commit_ns": self.commit_ns,
            "committed_keys": self.committed_keys,
            "committed_bytes": self.committed_bytes,
            "commit_errors": self.commit_errors,
            "log_bytes": self.store.log.written_bytes,
            "log_syncs": self.store.log.syncs,
            "log_sync_ns": self.store.log.sync_ns,
        }

    def numbers(self) -> dict[str, int]:
        """For Snapshot.journal: there is none, but whether writing goes well is told in its place."""
        return {
            "enabled": 0,
            "rewrite_in_progress": 0,
            "rewrite_scheduled": 0,
            "last_rewrite_time_sec": -1,
            "current_rewrite_time_sec": -1,
            "last_bgrewrite_status": 1,
            "rewrites": 0,
            "rewrites_consecutive_failures": 0,
            "last_write_status": int(not self._fault),
        }


def _is_used(keyspace: Keyspace) -> bool:
    return bool(keyspace.store_id)


def _refuse_journal(wanted: object) -> None:
    if wanted:
        raise ConfigError(NO_JOURNAL)


NO_JOURNAL: Final = "with storage-engine rocksdb there is no journal: rocksdb-sync says when writes are synced"
