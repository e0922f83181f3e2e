"""The engine: everything a server has besides its sockets.  Tests make as many as they like."""

import secrets
from collections.abc import Callable
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING

from kora import __version__
from kora.clock import Clock
from kora.config import Config, output_limits
from kora.engine import call
from kora.engine.acl import Acl
from kora.engine.audit import Audit
from kora.engine.blame import BlameRecords
from kora.engine.blocking import Blocking
from kora.engine.cache import Cache
from kora.engine.client import Client
from kora.engine.client_memory import ClientEvictor
from kora.engine.doctor import end_second
from kora.engine.hotkeys import HotKeyRecords
from kora.engine.journal import Journal
from kora.engine.loading import Loading
from kora.engine.notifications import Notifications
from kora.engine.outbound import NoOutbound, Outbound, Travels
from kora.engine.pubsub import PubSub
from kora.engine.reference import Implementation, Reference
from kora.engine.registry import Registry
from kora.engine.saves import NoSaves, Saves, WritesBack
from kora.engine.slowness import Slowness
from kora.engine.storage import StorageView
from kora.engine.tracing import Tracing
from kora.engine.tracked import Tracked
from kora.engine.tracking import Tracking
from kora.engine.transactions import Watches
from kora.errors import DiskFault, InternalError
from kora.observe.board import BUSY, LOADED_BYTES, LOADING_BYTES, READY, STATE, Board
from kora.observe.loop_stats import JobStats, LoopStats
from kora.observe.rates import Rates
from kora.observe.recent import CONNECTIONS, TURNS, Recent, host_of
from kora.observe.spikes import NEVER_NS, NOBODY, Offender
from kora.store.backing import Backing
from kora.store.eviction import Evictor
from kora.store.fields import FieldDeadlines
from kora.store.indexing import Indexing
from kora.store.keyspace import Keyspace
from kora.store.shard import make_shards
from kora.types.limits import Limits

if TYPE_CHECKING:
    from kora.engine.scripting import Scripting

# Distinct error prefixes that are counted: Redis' own are a few dozen, the rest share one name.
ERROR_PREFIXES_MAX = 128
ERROR_PREFIX_MAX = 64  # characters of each
OTHER_ERRORS = "OTHER"
# The settings that say where values end to be compact.
_LIMITS = tuple(field.name for field in fields(Limits))


class Databases:
    """The databases by number, each made when it is first used."""

    def __init__(self, make: Callable[[int], Keyspace], count: int) -> None:
        self._make = make
        self._made: dict[int, Keyspace] = {}
        self.count = count

    def __getitem__(self, index: int) -> Keyspace:
        """Raises IndexError for a number that is not one of the server's."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        keyspace = self._made.get(index)
        if keyspace is None:
            keyspace = self._made[index] = self._make(index)
            self._made = dict(sorted(self._made.items()))
        return keyspace

    def used(self) -> list[Keyspace]:
        """Those that were made, by number."""
        return list(self._made.values())


class Engine:
    def __init__(
        self,
        config: Config,
        registry: Registry,
        clock: Clock | None = None,
        board: Board | None = None,
        kernel: ModuleType | None = None,
    ) -> None:
        """`kernel` is what kora.kernel.load() gives: the compiled implementation, or None for the reference."""
        # Fixed for life.
        self.config = config
        self.registry = registry
        self.commands = registry.table
        self.clock = clock or Clock()
        self.monotonic_ns = self.clock.monotonic_ns
        self.board = board or Board()
        self.version = __version__
        self.run_id = secrets.token_hex(20)
        self.started_ms = self.clock.wall_ms()
        self.started_ns = self.clock.monotonic_ns()
        # Who answers.
        implementation: Implementation = Reference(self.clock) if kernel is None else kernel.Kernel(self.clock)
        self.implementation = implementation
        self.kernel = implementation.name
        self.make_parser, self.make_receiver = implementation.make_parser, implementation.make_receiver
        self.execute, self.resume = implementation.execute, implementation.resume
        # Where values end to be compact: the same object for life, changed in place.
        self.limits = Limits()
        for name in _LIMITS:
            self._follow_limit(name)
        implementation.set_limits(self.limits)
        # The data.
        self.shards = make_shards(config.shards, lambda: implementation.make_stats(len(registry.slots)))
        self.hot_keys = HotKeyRecords(self)
        # What clients wait for, and who is to blame.
        self.service = implementation.make_service(len(registry.slots))
        self.blame = BlameRecords(self)
        self.field_deadlines: dict[int, FieldDeadlines] = {}  # by the database's number
        self.cache: Cache | None = None  # where the data is in a store, and only a part of it in memory
        self.databases = Databases(self._make_database, config.databases)
        self.indexing = Indexing()
        self.journal = Journal(self, implementation.effects)
        self.is_replaying = False  # what runs comes from the journal
        # What took long, and who is shown everything.  Above these somebody wants to know; see engine/slowness.py.
        self.slow_ns = self.large_reply_bytes = self.large_request_bytes = NEVER_NS
        self.tracing = Tracing(self)
        self.slowness = Slowness(self)
        self._evictor = Evictor(self.clock, self.hot_keys.recorder.estimate, self.slowness.note_event)
        # Who wants to know what happens to it.
        self.pubsub = PubSub()
        self.notifications = Notifications(self.pubsub)
        self.blocking = Blocking(self)
        self.watches = Watches()
        self.tracking = Tracking(self)
        self.travels = Travels()
        self.tracked = Tracked(self)
        # Who may do what.
        self.acl = Acl(self)
        config.on_change("requirepass", self.acl.set_default_password)
        # The clients, by id.
        self.clients: dict[int, Client] = {}
        self.audit = Audit(self)
        self.client_evictor = ClientEvictor(self)
        self._next_client_id = 1
        self.connections_received = 0
        self.connections_rejected = 0
        self.protocol_errors = 0
        # What is counted once for all shards.
        self.errors: dict[str, int] = {}  # replies by error prefix
        self.internal_errors = 0
        self.paused_until_ms = 0  # CLIENT PAUSE
        self.paused_writes_only = False
        self.writes_wait = False  # what they change cannot be stored as fast as it comes
        self.active_expire = True  # DEBUG SET-ACTIVE-EXPIRE
        self.loading: Loading | None = None  # while data is being loaded
        self.loaded_keys = self.loaded_expired = 0  # by the last snapshot that was: keys, and those whose time was over
        self.saves: Saves = NoSaves(self)  # set by whoever has files
        self.write_back: WritesBack | None = None  # where the data is in a store; set by whoever has opened it
        self.storage: StorageView | None = (
            None  # what holds the keys that memory does not, set by whoever has opened it
        )
        self.disk_faults: dict[str, DiskFault] = {}  # why writes are refused, by who cannot write to the disk
        # shutdown(saves): whether to save the data where snapshots are wanted; set by whoever runs the server.
        self.shutdown: Callable[[bool], None] = _no_server
        # log("warning", "a constant phrase", field=value): set by whoever knows where logs go.
        self.log: Callable[..., None] = _no_log
        self.http_logged_ms = 0
        # Scripts: their Lua, once there is one; which KILL may end one that runs for too long; and how to attend to
        # connections meanwhile, set by whoever runs the server.
        self.scripting: Scripting | None = None
        self.busy_script = ""
        self.pump: Callable[[], None] = _no_connections
        self.loop = LoopStats()
        self.jobs: dict[str, JobStats] = {}
        self.job = ""  # the one that has its turn: profiles tell what is spent on it
        self.rates = Rates(3, self.started_ns)  # commands, bytes in, bytes out
        self.recent = Recent(self.started_ns)  # what DOCTOR looks at
        # How long the loop's thread ran, and waited for a processor to run on: set by whoever runs the server.
        self.processor_ns: Callable[[], tuple[int, int]] = _no_processor
        self.memory_peak_bytes = 0
        # Of the current turn: when the running command began, which is when the one before it ended.
        self.now_ns = self.started_ns
        self.observing = True
        self.gated = False
        self.nested = 0  # how deep in transactions and scripts the running command is
        self.in_script = False  # the running command was called by a script
        self.untouched: list[tuple[Keyspace, bytes, int]] = []  # keys to be given back their idle time: CLIENT NO-TOUCH
        self.errands = False  # the running command has left something to do behind it: see call.run_errands()
        self.run_again = call.run_again
        # call_later(delay_s, function): set by whoever has an event loop; tests call tick().
        self.call_later: Callable[[float, Callable[[], None]], object] = _no_loop
        self.outbound: Outbound = NoOutbound()  # set by whoever has sockets
        implementation.attach(self, call)
        config.on_change("observation", self._set_observing)
        config.on_change("client-output-buffer-limit", self._set_output_limits)
        self._set_output_limits(config.client_output_buffer_limit)
        config.on_change("maxmemory", lambda _: self.update_gate())
        config.on_change("notify-keyspace-events", self._set_notifications)
        config.on_change("proto-max-bulk-len", self._set_bulk_max)
        self._set_observing(config.observation)
        self.tracing.start()
        self._set_notifications(config.notify_keyspace_events)
        self.update_gate()

    def connect(self, address: str = "", local_address: str = "") -> Client:
        client = Client(self, self._next_client_id, address, local_address)
        self._next_client_id += 1
        self.connections_received += 1
        self.recent.note(CONNECTIONS, host_of(address))
        self.clients[client.id] = client
        self.audit.connected(client)
        return client

    def make_replaying_client(self) -> Client:
        """One that is nobody's, and may do everything: for the commands of a journal."""
        return Client(self, 0, "", "")

    def forget(self, client: Client) -> None:
        """A client's connection is closed: it waits, watches and listens no more."""
        if self.clients.pop(client.id, None) is not None:
            self.audit.disconnected(client)
            self.blocking.forget(client)
            client.fetching = None
            self.watches.unwatch(client)
            self.pubsub.forget(client)
            self.tracking.stop(client)
            self.slowness.monitors.forget(client)
            self.recent.unread.pop(client.id, None)
            self.service.forget(client)

    def kill(self, client: Client) -> None:
        """End a connection; that of the client that runs a command only behind the reply."""
        client.closing = True  # it runs nothing more
        if client is not self.implementation.running:
            self.forget(client)
            client.disconnect()

    def interrupt(self) -> None:
        """The command that runs has left errands: see to it that they are run before the next."""
        self.errands = True
        self.implementation.interrupt()

    def make_room(self, budget_ns: int) -> bool:
        """Evict keys for at most so long; returns whether the data is within maxmemory."""
        config = self.config
        policy, limit_bytes = config.maxmemory_policy, config.maxmemory
        if not limit_bytes or self.memory_bytes <= limit_bytes or self.loading is not None:
            return True
        started_ns = self.monotonic_ns()
        has_room = self._evict(policy, limit_bytes, started_ns + budget_ns)
        self.slowness.note_event("eviction-cycle", self.monotonic_ns() - started_ns)
        return has_room

    def _evict(self, policy: str, limit_bytes: int, stop_ns: int) -> bool:
        config = self.config
        while self.memory_bytes > limit_bytes:
            if policy == "noeviction" or not self._evictor.evict(
                self.databases.used(), policy, config.maxmemory_samples, config.lazyfree_lazy_eviction
            ):
                return False
            if self.monotonic_ns() >= stop_ns:
                break
        return True

    def update_gate(self) -> None:
        """Decide whether call() has to look closer at every request; it tests only this one flag."""
        is_loading = self.loading is not None
        is_narrow = bool(
            self.paused_until_ms
            or self.busy_script
            or is_loading
            or self.disk_faults
            or self.writes_wait
            or self.audit.is_holding
        )
        self.gated = is_narrow or bool(self.config.maxmemory)
        # The kernel does not show monitors what it runs.
        aside = is_narrow or bool(self.slowness.monitors)
        self.implementation.set_gate(aside, self.config.maxmemory)

    def set_loading(self, loading: Loading | None) -> None:
        """Data is being loaded, and most requests are refused; None when that is over."""
        self.loading = loading
        self.show_loading()
        self.update_gate()

    def show_loading(self) -> None:
        """Have the sidecar see how far loading has come."""
        loading, words = self.loading, self.board.words
        words[LOADING_BYTES] = loading.total_bytes if loading is not None else 0
        words[LOADED_BYTES] = loading.loaded_bytes if loading is not None else 0

    def set_disk_fault(self, source: str, fault: DiskFault | None) -> None:
        """What is to be kept cannot be written to the disk: refuse writes, until it can."""
        if fault is None:
            self.disk_faults.pop(source, None)
        else:
            self.disk_faults[source] = fault
        self.update_gate()

    @property
    def disk_fault(self) -> DiskFault | None:
        """What writes are answered: that of snapshots before that of the journal, as in Redis."""
        return self.disk_faults[max(self.disk_faults)] if self.disk_faults else None

    def set_busy(self, word: str) -> None:
        """A script has run for too long: SCRIPT or FUNCTION, whose KILL may end it; "" when it is over."""
        self.busy_script = word
        words = self.board.words
        if words[STATE] == (READY if word else BUSY):
            words[STATE] = BUSY if word else READY
        self.update_gate()

    def pause(self, until_ms: int, writes_only: bool) -> None:
        """CLIENT PAUSE: park clients that ask for what is paused, until a time; 0 ends it."""
        self.paused_until_ms = until_ms
        self.paused_writes_only = writes_only
        self.update_gate()
        if not until_ms:
            self.release_parked()

    def set_writes_wait(self, writes_wait: bool) -> None:
        """Park clients that want to write, until they may."""
        self.writes_wait = writes_wait
        self.update_gate()
        if not writes_wait:
            self.release_parked()

    def release_parked(self) -> None:
        """Let clients go on that were held before their request ran; who has another reason to wait is held again."""
        for client in list(self.clients.values()):
            if client.parked and client.waiting is None and client.fetching is None:
                client.parked = False
                client.kick()

    def tick(self) -> None:
        """Several times per second: refresh what is read from a coarse clock, sample, and end a pause that is over."""
        now_ms = self.clock.wall_ms()
        for keyspace in self.databases.used():
            keyspace.now_s = now_ms // 1000
        if self.paused_until_ms and now_ms >= self.paused_until_ms:
            self.pause(0, False)
        self.blocking.expire()
        self.catch_up()
        if self.journal.keeper is not None:
            self.journal.keeper.tick()
        self.slowness.monitors.flush()
        self.audit.tick()
        self.update_memory_peak()
        self.hot_keys.advance()
        self.blame.advance()
        self.tracing.tick()
        now_ns = self.clock.monotonic_ns()
        if self.rates.is_due(now_ns):
            blocks = [shard.stats for shard in self.shards]
            commands = sum(block.calls for block in blocks)
            bytes_in = sum(block.bytes_in for block in blocks)
            self.rates.sample((commands, bytes_in, sum(block.bytes_out for block in blocks)), now_ns)
            self.hot_keys.adapt(self.rates.latest(0))
        if self.recent.is_due(now_ns):
            end_second(self, now_ns)
            if self.storage is not None:
                self.storage.look(self)

    def catch_up(self) -> None:
        """Keys may have ended without a command: tell those who wait for them or keep copies of them."""
        self.tracking.serve()
        self.blocking.serve()
        self.tracking.broadcast()

    def update_memory_peak(self) -> None:
        self.memory_peak_bytes = max(self.memory_peak_bytes, self.memory_bytes)

    def count_error(self, prefix: str) -> None:
        """Count an error reply; strings that clients can make up (in scripts) share one row once there are many."""
        prefix = prefix[:ERROR_PREFIX_MAX]
        if prefix not in self.errors and len(self.errors) >= ERROR_PREFIXES_MAX:
            prefix = OTHER_ERRORS
        self.errors[prefix] = self.errors.get(prefix, 0) + 1

    def note_bug(self, error: BaseException, **fields: object) -> InternalError:
        """A bug of ours has shown: count it, log it once with its traceback; returns what the client is told."""
        self.internal_errors += 1
        told = InternalError()
        self.log("error", "internal error", error_id=told.error_id, **fields, exc_info=error)
        return told

    def note_full_turn(self, client: Client, elapsed_ns: int) -> None:
        """A client had a turn of many commands, and has sent more."""
        deed = self.recent.note(TURNS, str(client.id), elapsed_ns)
        if deed.offender is NOBODY:
            deed.offender = Offender(client.last_command, b"", client.address, client.name)

    @property
    def memory_bytes(self) -> int:
        return sum(shard.stats.memory_bytes for shard in self.shards)

    @property
    def keys(self) -> int:
        return sum(shard.stats.keys for shard in self.shards)

    @property
    def changes(self) -> int:
        return sum(keyspace.changes for keyspace in self.databases.used())

    def reset_stats(self) -> None:
        """CONFIG RESETSTAT."""
        for shard in self.shards:
            shard.stats.reset()
        self.errors.clear()
        self.client_evictor.evicted = 0
        self.connections_received = self.connections_rejected = self.protocol_errors = self.internal_errors = 0
        self.loop.reset()
        self.rates.reset()
        self.blame.reset()
        self.service.reset()
        self.implementation.reset_stats()

    def _make_database(self, index: int) -> Keyspace:
        keyspace = self.implementation.make_keyspace(index, self.shards)
        keyspace.touched = self._touched
        keyspace.attends_all = self.tracking.prefixes_count > 0
        self.notifications.follow(keyspace)
        self.field_deadlines[index] = FieldDeadlines()
        keyspace.note_fields = self.field_deadlines[index].note
        self.journal.follow(keyspace)
        self._back(keyspace)
        return keyspace

    def back(self, store: Backing) -> None:
        """Before there are any keys: have them all in a store, and in memory no more than is in use."""
        self.cache = Cache(self, store)
        for keyspace in self.databases.used():
            self._back(keyspace)
        for index in store.databases:
            self.databases[index]

    def _back(self, keyspace: Keyspace) -> None:
        if self.cache is not None:
            keyspace.back(self.cache, self.cache.databases.get(keyspace.index) or self.cache.new_id())

    def set_replaying(self, is_replaying: bool) -> None:
        """While a journal is loaded nothing ends by itself: what has ended, and when, is in the journal."""
        self.is_replaying = is_replaying
        self.implementation.set_replaying(is_replaying)

    def ends_ms(self) -> int:
        """Up to when deadlines are over: now, as Unix time."""
        return -1 if self.is_replaying else self.clock.wall_ms()

    def swap_databases(self, first: int, second: int) -> None:
        """Exchange the contents of two databases.  Raises IndexError for a number that is not one of the server's."""
        one, other = self.databases[first], self.databases[second]
        if one is other:
            return
        one.swap(other)
        deadlines = self.field_deadlines
        deadlines[first], deadlines[second] = deadlines[second], deadlines[first]
        for index in (first, second):
            self.databases[index].note_fields = deadlines[index].note

    def flush_database(self, keyspace: Keyspace) -> int:
        """Forget all keys of a database, and return how many."""
        self.field_deadlines[keyspace.index].clear()
        if keyspace.index == 0:
            self.tracked.forget()
        return keyspace.flush()

    def frequency(self, key: bytes) -> int:
        """How often a key is used, as eviction sees it and in Redis' range: 8 more, up to 255, for twice as often."""
        return min(255, 8 * self.hot_keys.recorder.estimate(key).bit_length())

    def remember_use(self, keyspace: Keyspace, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        """Have eviction know how a key was used where it came from, as far as the policy goes by that."""
        is_lfu = self.config.maxmemory_policy.endswith("-lfu")
        if idle_s is not None and not is_lfu:
            keyspace.set_idle(key, idle_s)
        elif frequency is not None and is_lfu:
            # The reverse of what OBJECT FREQ tells: a step of 8 stands for twice as much use.
            recorder = self.hot_keys.recorder
            missing = (1 << frequency // 8 >> 1) - recorder.estimate(key)
            if missing > 0:
                recorder.weigh(key, missing)

    def _touched(self, keyspace: Keyspace, key: bytes) -> None:
        """A key that somebody attends to was changed, or has ended."""
        place = keyspace.index, key
        self.watches.touch(place)
        self.tracking.touch(place)
        self.travels.touch(place)
        if self.blocking.touch(place):
            self.interrupt()

    def _set_notifications(self, flags: str) -> None:
        self.notifications.set_flags(flags)
        for keyspace in self.databases.used():
            self.notifications.follow(keyspace)
        self.implementation.set_handing_over(self.notifications.is_on)

    def _follow_limit(self, name: str) -> None:
        def follow(value: int) -> None:
            setattr(self.limits, name, value)
            self.implementation.set_limits(self.limits)

        setattr(self.limits, name, getattr(self.config, name))
        self.config.on_change(name, follow)

    def _set_output_limits(self, text: str) -> None:
        # By class of clients: bytes at once, and bytes for so many seconds.
        self.output_limits = output_limits(text)

    def _set_bulk_max(self, bulk_max: int) -> None:
        for client in self.clients.values():
            client.parser.bulk_max = bulk_max

    def _set_observing(self, observing: bool) -> None:
        self.observing = observing
        self.implementation.set_observing(observing)
        self.tracing.update()


def _no_loop(delay_s: float, function: Callable[[], None]) -> None:
    """Until there is an event loop; tick() is late, but does it as well."""


def _no_processor() -> tuple[int, int]:
    """Without a server: an engine's clock need not be the machine's."""
    return 0, 0


def _no_server(saves: bool) -> None:
    """An engine without a server around it has nothing to shut down."""


def _no_connections() -> None:
    """Until a server has some, nobody waits while a script runs."""


def _no_log(level: str, message: str, **fields: object) -> None:
    """Until a server says where logs go."""
