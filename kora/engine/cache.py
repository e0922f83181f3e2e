"""The part of the data that is in memory, above a store that has all of it: kora/store/backing.py says how that goes.

A request names its keys before it runs.  Those that only the store knows are asked for then, by hold(), and its client
is parked; so are the keys of what it has sent behind that.  What all clients ask for in a turn of the loop, or while
others are read, becomes one reading in a thread; when that is done they go on, in the order in which they came.  Nobody
waits for more than the reading that is under way and the next: should a key be gone from memory again, or not be
readable, its request reads it by itself, as scripts do with keys that they have not named, and everything else that
looks for a key; then all wait for it.

Between commands what is clean and was not used for long is dropped, as long as there is more than rocksdb-cache-bytes.
What one command or transaction names is there as a whole while it runs, however much that is, and no longer.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from kora.errors import CommandError
from kora.store.backing import PLACE_BYTES, Backing, Overwritten, place_of
from kora.store.keyspace import Keyspace
from kora.store.shard import RUN_BITS
from kora.store.slots import slot_of

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

# Keys in a reading, beyond which no further requests of the same client join; more would be a long turn.
_AHEAD_MAX: Final = 1000
# Keys dropped between two looks at the clock.
_DROPPED_AT_ONCE: Final = 200
# Ghosts beyond this are dropped, if they are clean: a look at a key that is not there is dear only the first time.
_GHOSTS_MAX: Final = 20_000

# Places of keys (kora/store/backing.py), by shards.
Places = list[list[bytes]]
# What came of a reading: records, in the order of the places, or why there are none.
Found = list[list[bytes | None]] | BaseException
# Begins a reading elsewhere, and has the loop call something with what was found.
Fetch = Callable[[Places, Callable[[Found], None]], object]


class Reading:
    """What is asked for in one turn of the loop, or while another is under way, and who waits for it."""

    __slots__ = ("begun_ns", "clients", "ids", "number", "places")

    def __init__(self, number: int, begun_ns: int, shards: int) -> None:
        self.number = number
        self.begun_ns = begun_ns
        self.places: Places = [[] for _ in range(shards)]
        self.ids: set[int] = set()  # of the databases that these are in
        self.clients: list[Client] = []

    @property
    def keys(self) -> int:
        return sum(map(len, self.places))


class Cache:
    """Engine.cache, where there is a store; what keyspaces ask of that they ask through this."""

    def __init__(self, engine: "Engine", store: Backing) -> None:
        self._engine = engine
        self._store = store
        self.databases = store.databases
        self._shard_by_run = [
            shard.index for shard in engine.shards for _ in range(shard.slot_start, shard.slot_stop, 1 << RUN_BITS)
        ]
        # Set by whoever has threads; without, each key is read when it is looked for.
        self.fetch: Fetch | None = None
        self._next: Reading | None = None  # has not begun yet
        self._under_way: Reading | None = None
        self._readings = 0
        self._asked = 0  # keys, by _ask_for()
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

    def get_many(self, places: Places) -> list[list[bytes | None]]:
        return self._store.get_many(places)

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
        asked_max = self._asked + _AHEAD_MAX
        last_number = asked_for = 0
        for argv in requests:
            last_number = max(last_number, self._ask_for(client, argv))
            asked_for += 1
            if self._asked > asked_max:
                break
        return self.park(client, last_number, asked_for)

    def asks_for(self, client: "Client", argv: list[bytes]) -> bool:
        """Whether a request would have to wait for keys; these are asked for then."""
        return self.may_hold(client) and self._ask_for(client, argv) > 0

    def may_hold(self, client: "Client") -> bool:
        """Whether it could wait at all."""
        engine = self._engine
        if self.fetch is None or client.closing or not client.authenticated:
            return False
        return not engine.nested and not engine.busy_script and engine.loading is None

    def join(self, id: int) -> tuple[int, Places]:
        """The reading that keys of a database can be asked from for now: its number, and where they are to be added."""
        reading = self._next
        if reading is None:
            self._readings += 1
            reading = self._next = Reading(self._readings, self._engine.monotonic_ns(), len(self._engine.shards))
            if self._under_way is None:
                # Others of this turn of the loop may join.
                self._engine.call_later(0, self._begin)
        reading.ids.add(id)
        return reading.number, reading.places

    def is_absent(self, id: int, key: bytes) -> bool:
        """Whether memory alone tells that a key is not there, of a request that writes: such keys are often new.

        What is only looked at is more often there, and telling that it is not takes the loop as long as a reading does.
        """
        if self._store.may_exist(id, key):
            return False
        self.absent += 1
        return True

    def park(self, client: "Client", number: int, requests: int) -> bool:
        """Have a client wait for a reading, if that has not ended, with so many requests which it is all they need."""
        reading = next((each for each in (self._next, self._under_way) if each and each.number == number), None)
        if reading is None:
            return False
        reading.clients.append(client)
        client.fetching = reading
        client.fetched = requests
        client.parked = True
        return True

    def _ask_for(self, client: "Client", argv: list[bytes]) -> int:
        """Have the keys of a request read that are cold; returns the number of the last reading with any of them."""
        transaction = client.transaction
        if transaction is not None and argv[0].lower() == b"exec":
            last_number = 0
            keyspace = client.db
            for queued in transaction.requests:
                if queued[0].lower() == b"select":
                    keyspace = self._selected(queued) or keyspace
                last_number = max(last_number, self._ask_for_keys(keyspace, queued))
            return last_number
        return self._ask_for_keys(client.db, argv)

    def _selected(self, argv: list[bytes]) -> Keyspace | None:
        try:
            return self._engine.databases[int(argv[1])]
        except (ValueError, IndexError):
            return None  # it will say so

    def _ask_for_keys(self, keyspace: Keyspace, argv: list[bytes]) -> int:
        try:
            command = self._engine.registry.find(argv)
        except CommandError:
            return 0
        if not command.has_keys or not command.argc_min <= len(argv) <= command.argc_max:
            return 0
        last_number = 0
        id = keyspace.store_id
        for key in command.keys(argv):
            if keyspace.is_known(key):
                continue
            number = keyspace.asked_by(key)
            if not number:
                if "write" in command.flags and self.is_absent(id, key):
                    keyspace.note_absent(key)
                    continue
                number, places = self.join(id)
                keyspace.await_record(key, number)
                places[self._shard_by_run[slot_of(key) >> RUN_BITS]].append(place_of(id, key))
                self._asked += 1
            last_number = max(last_number, number)
        return last_number

    # Reading

    def _begin(self) -> None:
        reading = self._next
        if reading is None or self.fetch is None or self._under_way is not None:
            return
        self._next, self._under_way = None, reading
        self.fetch(reading.places, lambda found: self._end(reading, found))

    def _end(self, reading: Reading, found: Found) -> None:
        """Take in what was read, and have those go on who wait for it."""
        self._under_way = None
        # All that was asked for meanwhile, while this is taken in: few large readings cost half of what many small do.
        self._begin()
        engine = self._engine
        keyspaces = [keyspace for keyspace in engine.databases.used() if keyspace.store_id in reading.ids]
        for keyspace in keyspaces:
            if isinstance(found, BaseException):
                # Each request asks again by itself, and is told which key it is.
                for places in reading.places:
                    keyspace.give_up_waiting(reading.number, places)
            else:
                for places, records in zip(reading.places, found, strict=True):
                    keyspace.install_awaited(reading.number, places, records)
        if not isinstance(found, BaseException):
            self.cold_fetches += reading.keys
        first = next(filter(None, reading.places))[0]
        engine.slowness.note_event("storage-read", engine.monotonic_ns() - reading.begun_ns, first[PLACE_BYTES:])
        for client in reading.clients:
            if client.fetching is reading:
                self._go_on(client)

    def _go_on(self, client: "Client") -> None:
        client.fetching = None
        client.parked = False
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
