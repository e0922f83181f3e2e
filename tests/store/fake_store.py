"""A store of dicts under keyspaces: kora.store.backing.Backing, and what writes back."""

from collections.abc import Sequence
from random import Random

from kora.engine.engine import Engine
from kora.errors import StorageFault
from kora.store.backing import (
    ABSENT,
    PLACE_BYTES,
    POSITION_END,
    VOLATILE,
    Change,
    deadline_of,
    id_of,
    place_of,
    position_of,
)
from kora.store.shard import RUN_BITS
from kora.store.slots import SLOTS, slot_of


class FakeStore:
    def __init__(self, shards: int = 1) -> None:
        self.databases: dict[int, int] = {}
        self.data: dict[int, dict[bytes, bytes]] = {}
        self.faulty: set[bytes] = set()  # keys whose reading fails
        self.asked: list[tuple[int, bytes]] = []
        self._edges = [SLOTS * number // shards for number in range(shards + 1)]
        self.shard_by_run = bytes(
            index
            for index in range(shards)
            for _ in range(self._edges[index] >> RUN_BITS, self._edges[index + 1] >> RUN_BITS)
        )
        self._next_id = 1

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
                assert self.shard_by_run[slot_of(place[PLACE_BYTES:]) >> RUN_BITS] == shard
                assert place == place_of(id_of(place), place[PLACE_BYTES:])
        return [[self.get(id_of(place), place[PLACE_BYTES:]) for place in its_places] for its_places in places]

    def may_exist(self, id: int, key: bytes) -> bool:
        return key in self._of(id)

    def scan(self, id: int, position: int, count: int, now_ms: int) -> tuple[list[bytes], int]:
        places = sorted((position_of(key), key) for key in self._of(id))
        places = [(place, key) for place, key in places if place >= position]
        keys: list[bytes] = []
        last = -1
        for place, key in places:
            if len(keys) >= count and place != last:
                return keys, place
            last = place
            if not 0 < deadline_of(self._of(id)[key]) < now_ms:
                keys.append(key)
        return keys, POSITION_END

    def write(self, id: int, changes: Sequence[Change]) -> None:
        """Raises AssertionError where `was` is not what was."""
        data = self._of(id)
        for key, record, was in changes:
            old = data.pop(key, None)
            assert (old is not None) == (was != ABSENT), (key, was)
            assert old is None or (deadline_of(old) > 0) == (was == VOLATILE), (key, was)
            if record is not None:
                data[key] = record

    def _of(self, id: int) -> dict[bytes, bytes]:
        return self.data.setdefault(id, {})


class Tide:
    """Writes back and drops, now some and now all, as a server's jobs do between commands."""

    def __init__(self, engine: Engine, store: FakeStore, random: Random | None = None) -> None:
        self._engine = engine
        self._store = store
        self._random = random or Random(0)
        self._under_way: dict[int, list[Change]] = {}  # by the id of the database

    def move(self) -> None:
        random = self._random
        keyspaces = {keyspace.store_id: keyspace for keyspace in self._engine.databases.used()}
        for id, changes in list(self._under_way.items()):
            # What was flushed meanwhile is nobody's any more.
            keyspace = keyspaces.get(id)
            draw = random.random()
            if draw < 0.2:
                continue
            del self._under_way[id]
            if draw < 0.3:
                if keyspace is not None:
                    keyspace.not_written(changes)
                continue
            self._store.write(id, changes)
            if keyspace is not None:
                keyspace.written()
        for id, keyspace in keyspaces.items():
            if id not in self._under_way and random.random() < 0.7:
                changes = keyspace.take_dirty(random.choice((1, 100, 1 << 30)))
                if changes:
                    self._under_way[id] = changes
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
        for id, changes in self._under_way.items():
            self._store.write(id, changes)
            if id in keyspaces:
                keyspaces[id].written()
        self._under_way.clear()
        for id, keyspace in keyspaces.items():
            while changes := keyspace.take_dirty(1 << 30):
                self._store.write(id, changes)
                keyspace.written()


def make_store(engine: Engine) -> FakeStore:
    store = FakeStore(len(engine.shards))
    engine.back(store)
    return store
