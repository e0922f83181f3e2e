"""A store of dicts under keyspaces: kora.store.backing.Backing, and what writes back."""

from random import Random

from kora.engine.engine import Engine
from kora.errors import StorageFault
from kora.store.backing import (
    PLACE_BYTES,
    POSITION_END,
    Overwritten,
    Taken,
    deadline_of,
    id_of,
    place_of,
    position_of,
)
from kora.store.keyspace import Keyspace
from kora.store.shard import RUN_BITS
from kora.store.slots import SLOTS, slot_of


class FakeStore:
    def __init__(self, shards: int = 1) -> None:
        self.databases: dict[int, int] = {}
        self.data: dict[int, dict[bytes, bytes]] = {}
        self.faulty: set[bytes] = set()  # keys whose reading fails
        self.asked: list[tuple[int, bytes]] = []
        self._edges = [SLOTS * number // shards for number in range(shards + 1)]
        self._next_id = 1
        self._overwritten: dict[int, list[Overwritten]] = {}  # by what was given out last

    def new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def counts_by_shard(self, id: int) -> list[tuple[int, int]]:
        counts = []
        for start, stop in zip(self._edges, self._edges[1:], strict=False):
            records = [record for key, record in self._of(id).items() if start <= slot_of(key) < stop]
            counts.append((len(records), sum(deadline_of(record) > 0 for record in records)))
        return counts

    def get(self, id: int, key: bytes) -> bytes | None:
        self.asked.append((id, key))
        if key in self.faulty:
            raise StorageFault("a bad block")
        return self._of(id).get(key)

    def get_many(self, places: list[list[bytes]]) -> list[list[bytes | None]]:
        for shard, its_places in enumerate(places):
            for place in its_places:
                assert self._edges[shard] <= slot_of(place[PLACE_BYTES:]) < self._edges[shard + 1]
                assert place == place_of(id_of(place), place[PLACE_BYTES:])
        return [[self.get(id_of(place), place[PLACE_BYTES:]) for place in its_places] for its_places in places]

    def may_exist(self, id: int, key: bytes) -> bool:
        return key in self._of(id)

    def scan(
        self, id: int, position: int, count: int, now_ms: int, over: list[bytes] | None = None
    ) -> tuple[list[bytes], int]:
        places = sorted((position_of(key), key) for key in self._of(id))
        places = [(place, key) for place, key in places if place >= position]
        keys: list[bytes] = []
        over = [] if over is None else over
        last = -1
        for place, key in places:
            if len(keys) + len(over) >= count and place != last:
                return keys, place
            last = place
            (over if 0 < deadline_of(self._of(id)[key]) < now_ms else keys).append(key)
        return keys, POSITION_END

    def take(self, keyspace: Keyspace, bytes_max: int) -> Taken | None:
        """Have a keyspace give out what has changed."""
        taken = keyspace.take_dirty(bytes_max, 1 << 30)
        if taken is not None:
            unknown = [place for share in taken.shares for place in share.unknown]
            data = self._of(taken.id)
            self._overwritten[taken.id] = [
                (slot_of(key) >> RUN_BITS, 1, deadline_of(data[key]) > 0)
                for key in (place[PLACE_BYTES:] for place in unknown)
                if key in data
            ]
        return taken

    def overwritten(self, id: int) -> list[Overwritten]:
        return self._overwritten.get(id, [])

    def write(self, taken: Taken) -> None:
        """Raises AssertionError where the counts are not those of what has changed."""
        data = self._of(taken.id)
        keys, volatile = len(data), self._volatile(taken.id)
        for share in taken.shares:
            words = iter(share.words)
            for place, record in zip(words, words, strict=True):
                assert place is not None
                key = place[PLACE_BYTES:]
                if place != place_of(taken.id, key):
                    continue  # a hint
                data.pop(key, None)
                if record is not None:
                    data[key] = record
                assert (record is None) == (place in share.gone)
        overwritten = self.overwritten(taken.id)
        assert len(data) - keys == sum(share.keys for share in taken.shares) - sum(count for _, count, _ in overwritten)
        assert self._volatile(taken.id) - volatile == (
            sum(share.volatile for share in taken.shares) - sum(count for _, _, count in overwritten)
        )

    def _volatile(self, id: int) -> int:
        return sum(deadline_of(record) > 0 for record in self._of(id).values())

    def _of(self, id: int) -> dict[bytes, bytes]:
        return self.data.setdefault(id, {})


class Tide:
    """Writes back and drops, now some and now all, as a server's jobs do between commands."""

    def __init__(self, engine: Engine, store: FakeStore, random: Random | None = None) -> None:
        self._engine = engine
        self._store = store
        self._random = random or Random(0)
        self._under_way: dict[int, Taken] = {}  # by the id of the database

    def move(self) -> None:
        random = self._random
        keyspaces = {keyspace.store_id: keyspace for keyspace in self._engine.databases.used()}
        for id, taken in list(self._under_way.items()):
            # What was flushed meanwhile is nobody's any more.
            keyspace = keyspaces.get(id)
            if random.random() < 0.3:
                continue
            del self._under_way[id]
            self._store.write(taken)
            if keyspace is not None:
                keyspace.written(self._store.overwritten(id))
        for id, keyspace in keyspaces.items():
            if id not in self._under_way and random.random() < 0.7:
                some = self._store.take(keyspace, random.choice((1, 100, 1 << 30)))
                if some is not None:
                    self._under_way[id] = some
            draw = random.random()
            if draw < 0.5:
                keyspace.drop_clean(None, 1 << 30)
            elif draw < 0.7:
                keyspace.drop_clean(random.choice((1, 500)), 2)
            if random.random() < 0.5:
                keyspace.drop_ghosts(0)

    def settle(self) -> None:
        """All is written, and nothing held."""
        self.write_all()
        for keyspace in self._engine.databases.used():
            keyspace.drop_clean(None, 0)
            keyspace.drop_ghosts(0)

    def write_all(self) -> None:
        keyspaces = {keyspace.store_id: keyspace for keyspace in self._engine.databases.used()}
        for id, taken in self._under_way.items():
            self._store.write(taken)
            if id in keyspaces:
                keyspaces[id].written(self._store.overwritten(id))
        self._under_way.clear()
        for id, keyspace in keyspaces.items():
            while (some := self._store.take(keyspace, 1 << 30)) is not None:
                self._store.write(some)
                keyspace.written(self._store.overwritten(id))


def make_store(engine: Engine) -> FakeStore:
    store = FakeStore(len(engine.shards))
    engine.back(store)
    return store
