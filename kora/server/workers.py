"""Background work: each shard has a worker, and so has the server as a whole; JOBS says what they do and how often.

A job's turn ends when its budget does; while it has more to do, turns follow each other with pauses between them, so
that it takes no more than its share of the loop.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kora.engine.doctor import begin_recent
from kora.observe.board import CLIENT, HEARTBEAT, HEARTBEAT_NS
from kora.observe.loop_stats import JobStats
from kora.observe.recent import ENDED, prefix_of
from kora.store.expiry import expire_cycle
from kora.store.keyspace import Keyspace
from kora.store.lazyfree import free_some
from kora.store.shard import Shard

if TYPE_CHECKING:
    from kora.engine.engine import Engine

BUDGET_NS: Final = 1_000_000
# Less than that, since it goes on for seconds, and whoever comes meanwhile waits for the rest of a turn.
_SNAPSHOT_BUDGET_NS: Final = 100_000
# Full collections look at every container object there is; younger ones at what is new.
_FULL_COLLECTION_TURNS: Final = 60
# Hashes with fields that are due which are looked at in a turn, in each database.
_HASHES_PER_TURN: Final = 100
# Keys that are drawn at each turn in a database that has so many with a deadline.
_ENDED_SAMPLED: Final = 2
_ENDED_FROM: Final = 1_000


@dataclass(frozen=True)
class Job:
    """One kind of background work; `run` returns whether it has more to do right now."""

    name: str
    run: "Callable[[Worker], bool]"
    per_shard: bool
    share: float  # of the loop, at most, while there is more to do
    period_s: float = 0.0  # 0: hz times per second
    event: str = ""  # of the latency monitor, where a turn is one
    of_store: bool = False  # only where the data is in a store


@dataclass
class Worker:
    """What runs the jobs of a shard, or of the server as a whole (then `shard` is the first, for its clock's sake)."""

    engine: "Engine"
    shard: Shard
    jobs: list[Job]
    decaying: Iterator[None] | None = None
    turns: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        # Shards take their turns one after another within a period, not all at once.
        spread = (self.shard.index + 1) / (len(self.engine.shards) + 1)
        due = {job.name: loop.time() + self._period_s(job) * spread for job in self.jobs}
        elapsed_ns = 0
        while True:
            job = min(self.jobs, key=lambda job: due[job.name])
            delay_s = due[job.name] - loop.time()
            # Jobs that are due together share a wake-up, unless the one before has used up what the loop can spare.
            if delay_s > 0 or elapsed_ns > BUDGET_NS // 4:
                await asyncio.sleep(max(0.0, delay_s))
            elapsed_ns, more = self.turn(job)
            pause_s = elapsed_ns / 1e9 * (1 / job.share - 1) if more else self._period_s(job)
            due[job.name] = loop.time() + pause_s

    def turn(self, job: Job) -> tuple[int, bool]:
        """Run a job once; returns how long it took, in ns, and whether it has more to do."""
        self.engine.board.words[CLIENT] = 0
        self.engine.job = job.name
        started_ns = time.monotonic_ns()
        more = job.run(self)
        self.engine.job = ""
        elapsed_ns = time.monotonic_ns() - started_ns
        self.engine.jobs[job.name].record(elapsed_ns)
        self.engine.service.note_job(job.name, started_ns, started_ns + elapsed_ns)
        if job.event:
            self.engine.slowness.note_event(job.event, elapsed_ns)
        return elapsed_ns, more

    def _period_s(self, job: Job) -> float:
        return job.period_s or 1 / self.engine.config.hz


def _expire(worker: Worker) -> bool:
    engine = worker.engine
    if not engine.active_expire or engine.loading is not None:
        return False
    databases = engine.databases.used()
    _note_ended(engine, databases)
    return bool(databases) and expire_cycle(
        worker.shard,
        databases,
        BUDGET_NS,
        engine.clock,
        engine.config.active_expire_effort,
        engine.slowness.note_event,
    )


def _note_ended(engine: "Engine", databases: "list[Keyspace]") -> None:
    """Draw some keys where there are many, to tell whose it is that end."""
    now_ms = engine.clock.wall_ms()
    for keyspace in databases:
        drawn = keyspace.sample(_ENDED_SAMPLED, volatile=True) if keyspace.volatile >= _ENDED_FROM else ()
        for key in drawn:
            deadline_ms = keyspace.deadline(key)
            if deadline_ms is not None and deadline_ms <= now_ms:
                engine.recent.note(ENDED, prefix_of(key))


def _expire_fields(worker: Worker) -> bool:
    engine = worker.engine
    if not engine.active_expire or engine.loading is not None:
        return False
    now_ms = engine.clock.wall_ms()
    looked = [
        engine.field_deadlines[keyspace.index].end_due(keyspace, now_ms, _HASHES_PER_TURN)
        for keyspace in engine.databases.used()
    ]
    return max(looked, default=0) == _HASHES_PER_TURN


def _index_vectors(worker: Worker) -> bool:
    engine = worker.engine
    return engine.indexing.run(engine.databases, BUDGET_NS, engine.clock)


def _flush_events(worker: Worker) -> bool:
    return worker.engine.tracked.flush_some(BUDGET_NS)


def _roll_events_up(worker: Worker) -> bool:
    return worker.engine.tracked.roll_some(BUDGET_NS)


def _look_for_events(worker: Worker) -> bool:
    return worker.engine.tracked.look_some(BUDGET_NS // 4)


def _save(worker: Worker) -> bool:
    return worker.engine.saves.step(_SNAPSHOT_BUDGET_NS)


def _lazyfree(worker: Worker) -> bool:
    if worker.shard.lazyfree:
        free_some(worker.shard, BUDGET_NS, worker.engine.clock)
    return bool(worker.shard.lazyfree)


def _write_back(worker: Worker) -> bool:
    assert worker.engine.write_back is not None
    worker.engine.write_back.step()
    return False


def _expire_stored(worker: Worker) -> bool:
    engine = worker.engine
    assert engine.write_back is not None
    if not engine.active_expire or engine.loading is not None:
        return False
    return engine.write_back.expire(BUDGET_NS)


def _make_room_in_cache(worker: Worker) -> bool:
    assert worker.engine.cache is not None
    return worker.engine.cache.make_room(BUDGET_NS)


def _evict(worker: Worker) -> bool:
    """For a limit that nobody's command came up against, since it was lowered."""
    engine = worker.engine
    if not 0 < engine.config.maxmemory < engine.memory_bytes:
        return False
    return engine.make_room(BUDGET_NS) and engine.memory_bytes > engine.config.maxmemory


def _decay_hot_keys(worker: Worker) -> bool:
    if worker.decaying is None:
        worker.decaying = worker.engine.hot_keys.recorder.decay()
    try:
        next(worker.decaying)
    except StopIteration:
        worker.decaying = None
        return False
    return True


def _close_idle_clients(worker: Worker) -> bool:
    engine = worker.engine
    timeout_ns = engine.config.timeout * 1_000_000_000
    if timeout_ns:
        for client in list(engine.clients.values()):
            # Who waits for keys or listens to channels has no reason to say anything.
            is_listening = client.parked or client.subscriptions_count or client.is_monitor
            if client.idle_ns > timeout_ns and not is_listening:
                client.disconnect()
    return False


def _close_swollen_clients(worker: Worker) -> bool:
    for client in list(worker.engine.clients.values()):
        client.watch_output()
    return False


def _evict_clients(worker: Worker) -> bool:
    return worker.engine.client_evictor.look(BUDGET_NS)


def _collect_garbage(worker: Worker) -> bool:
    turn = worker.turns["gc"] = worker.turns.get("gc", 0) + 1
    gc.collect(2 if turn % _FULL_COLLECTION_TURNS == 0 else 1)
    return False


# Budgets, shares and periods: the expire cycle's quarter is Redis'; the rest was chosen so that a worker that is
# busy all the time leaves at least half of the loop to clients.
JOBS: Final = (
    Job("expire-cycle", _expire, per_shard=True, share=0.25, event="expire-cycle"),
    Job("field-expire-cycle", _expire_fields, per_shard=False, share=0.1, event="expire-cycle"),
    Job("vector-indexing", _index_vectors, per_shard=False, share=0.25),
    Job("snapshot-step", _save, per_shard=False, share=0.1, event="snapshot-step"),
    Job("lazyfree", _lazyfree, per_shard=True, share=0.25, event="eviction-lazyfree"),
    Job("eviction-cycle", _evict, per_shard=False, share=0.25),
    Job("write-back", _write_back, per_shard=False, share=0.5, period_s=0.01, of_store=True),
    Job("cache-room", _make_room_in_cache, per_shard=False, share=0.5, period_s=0.01, of_store=True),
    Job("stored-expire-cycle", _expire_stored, per_shard=False, share=0.25, event="expire-cycle", of_store=True),
    Job("hotkey-decay", _decay_hot_keys, per_shard=False, share=0.02, period_s=60.0),
    Job("client-timeouts", _close_idle_clients, per_shard=False, share=0.1, period_s=1.0),
    Job("client-outputs", _close_swollen_clients, per_shard=False, share=0.1, period_s=1.0),
    Job("client-eviction", _evict_clients, per_shard=False, share=0.1),
    # What was tracked in an interval has to be written before the next one is over, however much it is.
    Job("events-flush", _flush_events, per_shard=False, share=0.75, event="events-flush"),
    Job("events-rollup", _roll_events_up, per_shard=False, share=0.1, event="events-rollup"),
    Job("events-look", _look_for_events, per_shard=False, share=0.02),
    Job("gc", _collect_garbage, per_shard=False, share=0.1, period_s=1.0, event="gc"),
)


class Workers:
    """All workers, and the heartbeat that shows the loop is alive and measures how late it is."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._tasks: list[asyncio.Task[None]] = []
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._jobs = [job for job in JOBS if engine.write_back is not None or not job.of_store]
        for job in self._jobs:
            engine.jobs[job.name] = JobStats()

    def start(self) -> None:
        engine = self._engine
        # Collections are a job; a collection in the middle of a command would be a pause nobody asked for.
        gc.collect()
        gc.freeze()
        gc.disable()
        shard_jobs = [job for job in self._jobs if job.per_shard]
        server_jobs = [job for job in self._jobs if not job.per_shard]
        workers = [Worker(engine, shard, shard_jobs) for shard in engine.shards]
        workers.append(Worker(engine, engine.shards[0], server_jobs))
        self._tasks = [asyncio.create_task(worker.run()) for worker in workers]
        engine.processor_ns = _processor_ns
        begin_recent(engine)
        self._beat()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _beat(self) -> None:
        now_ns = time.monotonic_ns()
        words = self._engine.board.words
        words[HEARTBEAT] = now_ns
        words[CLIENT] = 0
        if self._due_ns:
            lag_ns = max(0, now_ns - self._due_ns)
            self._engine.loop.record_lag(lag_ns)
            self._engine.slowness.note_lag(lag_ns)
        self._engine.tick()
        self._engine.service.note_job("heartbeat", now_ns, time.monotonic_ns())
        self._due_ns = now_ns + HEARTBEAT_NS
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_NS / 1e9, self._beat)


def _processor_ns() -> tuple[int, int]:
    """How long the main thread ran, and had to wait for a processor, which is 0 where the system does not tell."""
    try:
        with open("/proc/self/schedstat", "rb") as file:
            ran_ns, waited_ns, _ = map(int, file.read().split())
    except OSError:
        return time.thread_time_ns(), 0
    return ran_ns, waited_ns
