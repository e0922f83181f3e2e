"""The part of the data that is in memory, above a store that has all of it: kora/store/backing.py says how that goes.

A request names its keys before it runs.  Those that only the store knows are asked for then, by hold(), and its client
is parked; so are the keys of what it has sent behind that.  What all clients ask for in a turn of the loop becomes one
reading in a thread, and when that is done they go on, in the order in which they came.  Nobody waits for more than one
such reading: should a key be gone from memory again, or not be readable, its request reads it by itself, as scripts do
with keys that they have not named, and everything else that looks for a key; then all wait for it.

Between commands what is clean and was not used for long is dropped, as long as there is more than rocksdb-cache-bytes.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kora.errors import CommandError
from kora.store.backing import Backing, Overwritten
from kora.store.keyspace import Keyspace

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

# Keys in a reading, beyond which no further requests of the same client join; more would be a long turn.
_AHEAD_MAX: Final = 1000
# Keys dropped between two looks at the clock.
_DROPPED_AT_ONCE: Final = 200
# Ghosts beyond this are dropped, if they are clean: a look at a key that is not there is dear only the first time.
_GHOSTS_MAX: Final = 20_000

Wanted = tuple[int, bytes]  # the database's id in the store, and the key
# What came of a reading: records, or why there are none.
Found = Sequence[bytes | None] | BaseException
# Begins a reading elsewhere, and has the loop call something with what was found.
Fetch = Callable[[list[Wanted], Callable[[Found], None]], object]


class Reading:
    """What is asked for in one turn of the loop, and who waits for it."""

    __slots__ = ("begun_ns", "clients", "number", "wanted")

    def __init__(self, number: int, begun_ns: int) -> None:
        self.number = number
        self.begun_ns = begun_ns
        self.wanted: dict[Wanted, None] = {}
        self.clients: list[Client] = []


class Cache:
    """Engine.cache, where there is a store; what keyspaces ask of that they ask through this."""

    def __init__(self, engine: "Engine", store: Backing) -> None:
        self._engine = engine
        self._store = store
        self.databases = store.databases
        # Set by whoever has threads; without, each key is read when it is looked for.
        self.fetch: Fetch | None = None
        self._next: Reading | None = None  # has not begun yet
        self._under_way: list[Reading] = []  # in the order in which they were begun
        self._readings = 0
        # For INFO and /metrics: see kora/observe/storage.py.
        self.absent = 0  # keys of which the store knew without a look that they are not there
        self.cold_fetches = 0
        self.sync_fetches = 0
        self.dropped = 0

    # For keyspaces: kora.store.backing.Backing

    def new_id(self) -> int:
        return self._store.new_id()

    def counts_by_shard(self, id: int) -> Sequence[tuple[int, int]]:
        return self._store.counts_by_shard(id)

    def get(self, id: int, key: bytes) -> bytes | None:
        if not self._store.may_exist(id, key):
            self.absent += 1
            return None
        engine = self._engine
        started_ns = engine.monotonic_ns()
        self.sync_fetches += 1
        try:
            return self._store.get(id, key)
        finally:
            engine.slowness.note_event("storage-read", engine.monotonic_ns() - started_ns, key)

    def get_many(self, keys: Sequence[Wanted]) -> Sequence[bytes | None]:
        return self._store.get_many(keys)

    def may_exist(self, id: int, key: bytes) -> bool:
        return self._store.may_exist(id, key)

    def overwritten(self, id: int) -> Sequence[Overwritten]:
        return self._store.overwritten(id)

    def scan(
        self, id: int, position: int, count: int, now_ms: int, over: list[bytes] | None = None
    ) -> tuple[list[bytes], int]:
        return self._store.scan(id, position, count, now_ms, over)

    # Holding requests

    def hold(self, client: "Client", requests: Sequence[list[bytes]]) -> bool:
        """Whether a client has to wait before these requests run; then it is parked."""
        if not requests or not self.may_hold(client):
            return False
        waits_for: Reading | None = None
        for argv in requests:
            waits_for = self._later(waits_for, self._ask_for(client, argv))
            if waits_for is not None and len(waits_for.wanted) > _AHEAD_MAX:
                break
        return self._park(client, waits_for)

    def may_hold(self, client: "Client") -> bool:
        """Whether it could wait at all."""
        engine = self._engine
        if self.fetch is None or client.fetched or client.closing or not client.authenticated:
            return False
        return not engine.nested and not engine.busy_script and engine.loading is None

    def hold_for(
        self, client: "Client", keyspace: Keyspace, looked_at: list[bytes], written: list[bytes], awaited: list[bytes]
    ) -> bool:
        """As hold(), by the keys of requests that are cold and that await_record() was called for.

        `awaited` are those for which it was called before; those of requests that write are told apart, since many of
        them are new.
        """
        id = keyspace.store_id
        waits_for: Reading | None = None
        for key in awaited:
            waits_for = self._later(waits_for, self._reading_of(id, key))
        for key in written:
            waits_for = self._later(waits_for, self._ask_unless_absent(keyspace, id, key))
        for key in looked_at:
            waits_for = self._ask(id, key)
        return self._park(client, waits_for)

    def _park(self, client: "Client", waits_for: Reading | None) -> bool:
        if waits_for is None:
            return False
        waits_for.clients.append(client)
        client.fetching = waits_for
        client.parked = True
        return True

    def _ask_for(self, client: "Client", argv: list[bytes]) -> Reading | None:
        """Have the keys of a request read that are cold; returns the last reading that has any of them."""
        transaction = client.transaction
        if transaction is not None and argv[0].lower() == b"exec":
            last = None
            keyspace = client.db
            for queued in transaction.requests:
                if queued[0].lower() == b"select":
                    keyspace = self._selected(queued) or keyspace
                last = self._later(last, self._ask_for_keys(keyspace, queued))
            return last
        return self._ask_for_keys(client.db, argv)

    def _selected(self, argv: list[bytes]) -> Keyspace | None:
        try:
            return self._engine.databases[int(argv[1])]
        except (ValueError, IndexError):
            return None  # it will say so

    def _ask_for_keys(self, keyspace: Keyspace, argv: list[bytes]) -> Reading | None:
        try:
            command = self._engine.registry.find(argv)
        except CommandError:
            return None
        if not command.has_keys or not command.argc_min <= len(argv) <= command.argc_max:
            return None
        last: Reading | None = None
        id = keyspace.store_id
        for key in command.keys(argv):
            if keyspace.is_known(key):
                continue
            if not keyspace.await_record(key):
                last = self._later(last, self._reading_of(id, key))
            elif "write" in command.flags:
                last = self._later(last, self._ask_unless_absent(keyspace, id, key))
            else:
                last = self._ask(id, key)
        return last

    def _ask_unless_absent(self, keyspace: Keyspace, id: int, key: bytes) -> Reading | None:
        """For a key that is awaited from now on, of a request that writes: such keys are often new.

        What is only looked at is more often there, and telling that it is not takes the loop as long as a reading does.
        """
        if self._store.may_exist(id, key):
            return self._ask(id, key)
        self.absent += 1
        keyspace.install(id, key, None)
        return None

    def _ask(self, id: int, key: bytes) -> Reading:
        if self._next is None:
            self._readings += 1
            self._next = Reading(self._readings, self._engine.monotonic_ns())
            # Others of this turn of the loop may join.
            self._engine.call_later(0, self._begin)
        self._next.wanted[id, key] = None
        return self._next

    def _reading_of(self, id: int, key: bytes) -> Reading | None:
        """The reading that a key is in which was asked for before."""
        wanted = (id, key)
        readings = [*self._under_way, self._next] if self._next is not None else self._under_way
        return next((reading for reading in readings if wanted in reading.wanted), None)

    def _later(self, one: Reading | None, other: Reading | None) -> Reading | None:
        if one is None or other is None:
            return one or other
        return max(one, other, key=lambda reading: reading.number)

    # Reading

    def _begin(self) -> None:
        reading, self._next = self._next, None
        if reading is None or self.fetch is None:
            return
        self._under_way.append(reading)
        self.fetch(list(reading.wanted), lambda found: self._end(reading, found))

    def _end(self, reading: Reading, found: Found) -> None:
        """Take in what was read, and have those go on who wait for it."""
        self._under_way.remove(reading)
        engine = self._engine
        keyspaces = {keyspace.store_id: keyspace for keyspace in engine.databases.used()}
        if isinstance(found, BaseException):
            # Each request asks again by itself, and is told which key it is.
            for id, key in reading.wanted:
                if id in keyspaces:
                    keyspaces[id].give_up_waiting(id, key)
        else:
            for id in {id for id, _ in reading.wanted} & keyspaces.keys():
                records = {key: found[at] for at, (other, key) in enumerate(reading.wanted) if other == id}
                keyspaces[id].install_awaited(id, list(records), list(records.values()))
            self.cold_fetches += len(reading.wanted)
        _, key = next(iter(reading.wanted))
        engine.slowness.note_event("storage-read", engine.monotonic_ns() - reading.begun_ns, key)
        for client in reading.clients:
            if client.fetching is reading:
                self._go_on(client)

    def _go_on(self, client: "Client") -> None:
        client.fetching = None
        client.parked = False
        client.fetched = True  # until its next turn is over
        if not client.closing and not client.output_bytes():
            self._engine.resume(client, client.deliver)
        client.kick()

    # Making room

    @property
    def resident_bytes(self) -> int:
        return self._engine.memory_bytes + sum(keyspace.ghost_bytes for keyspace in self._engine.databases.used())

    def make_room(self, budget_ns: int) -> bool:
        """Drop what was not used for long, for so long; returns whether there is still too much."""
        engine = self._engine
        stop_ns = engine.monotonic_ns() + budget_ns
        keyspaces = engine.databases.used()
        for keyspace in keyspaces:
            keyspace.drop_ghosts(_GHOSTS_MAX)
        while (beyond_bytes := self.resident_bytes - engine.config.rocksdb_cache_bytes) > 0:
            keys = sum(keyspace.resident_keys for keyspace in keyspaces)
            if not keys:
                return False
            for keyspace in keyspaces:
                share = _DROPPED_AT_ONCE * keyspace.resident_keys // keys
                if share:
                    self.dropped += keyspace.drop_clean(beyond_bytes, share)[1]
            if engine.monotonic_ns() >= stop_ns:
                return True
        return False

    def drop_all(self) -> None:
        """Have nothing in memory that need not be: DEBUG RELOAD."""
        for keyspace in self._engine.databases.used():
            self.dropped += keyspace.drop_clean(None, 0)[1]
            keyspace.drop_ghosts(0)

    def numbers(self) -> dict[str, int]:
        """By names of CACHE (kora/observe/storage.py)."""
        keyspaces = self._engine.databases.used()
        return {
            "hits": sum(keyspace.hits for keyspace in keyspaces),
            "misses": self.absent + self.cold_fetches + self.sync_fetches,
            "absent": self.absent,
            "cold_fetches": self.cold_fetches,
            "sync_fetches": self.sync_fetches,
            "dropped": self.dropped,
            "resident_keys": sum(keyspace.resident_keys for keyspace in keyspaces),
            "resident_bytes": self.resident_bytes,
            "dirty_keys": sum(keyspace.dirty_keys for keyspace in keyspaces),
            "dirty_bytes": sum(keyspace.dirty_bytes for keyspace in keyspaces),
            "capacity_bytes": self._engine.config.rocksdb_cache_bytes,
        }
