"""Engines whose data goes through a store at every request: what was changed is written, and then forgotten.

With KORA_TEST_STORAGE=rocksdb all engines of tests are such (tests/conftest.py), and the tests of commands are tests of
the storage engine.
"""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from typing import Final

from kora.engine.engine import Engine
from kora.engines.rocksdb.checkpoints import Checkpoints
from kora.engines.rocksdb.keeper import StoreKeeper
from kora.engines.rocksdb.opening import check_settings
from kora.engines.rocksdb.store import Store, StoreSettings

# Tests that say nothing of such engines, and why.
NOT_IN_STORES: Final = {
    "test_scan_gives_every_key_that_stays_while_a_hash_tag_grows": "more keys come at each step than SCAN goes through",
    "test_what_is_only_looked_at_is_not_copied": "it is loaded",
    "test_making_room_is_an_event": "nothing is evicted",
    "test_evicted_sets_are_gone": "nothing is evicted",
    "test_without_memory_counts_stay_in_the_buffer_until_there_is_some": "there is memory again at each request",
}
# By how many shards they have: opening one takes longer than most tests.
_STORES: dict[int, Store] = {}


class HastyKeeper(StoreKeeper):
    """Between any two requests everything is written, and nothing stays in memory."""

    def tick(self) -> None:
        super().tick()
        self.write_back(sync=False)
        assert self._engine.cache is not None
        self._engine.cache.drop_all()


def put_into_store(
    engine: Engine, store: Store | None = None, keeper: Callable[..., StoreKeeper] = HastyKeeper
) -> None:
    """Have an engine that is new keep its data in a store, which is empty if none is given."""
    store = store or _empty_store(engine)
    check_settings(engine.config)
    engine.back(store)
    kept = keeper(engine, store)
    engine.journal.keeper = engine.write_back = kept
    engine.saves = Checkpoints(engine, kept)
    kept.begin()


def _empty_store(engine: Engine) -> Store:
    count = len(engine.shards)
    store = _STORES.get(count)
    if store is None:
        path = tempfile.mkdtemp(prefix="kora-stored-")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        edges = [0, *(shard.slot_stop for shard in engine.shards)]
        store = _STORES[count] = Store(path, edges, StoreSettings(8 << 20, 4 << 20))
    store.batch([], {}, {"functions": b"[]"}).commit(False)
    return store
