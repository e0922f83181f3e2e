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

# Tests that say nothing of such engines, by why.
_NOT_IN_STORES: Final = {
    "no key is deleted to make room: maxmemory goes with noeviction alone": (
        "test_evicted_sets_are_gone",
        "test_making_room_is_a_part_of_the_request_that_needs_it",
        "test_making_room_is_an_event",
    ),
    "what has changed is copied once, to be written": ("test_what_is_only_looked_at_is_not_copied",),
    "a step of SCAN is no longer than asked for, so that a slot must not grow by more than a step goes through": (
        "test_scan_gives_every_key_that_stays_while_a_hash_tag_grows",
    ),
    "there is no journal": ("test_a_journal_of_kora_is_what_redis_and_kora_load",),
}
# Tests of what is not written down, and is gone with the value when that makes room for others, by what it is: their
# engines write everything as well, but forget nothing.
_OF_MEMORY: Final = {
    "when a key was used, which would be one more write for each reading": (
        "test_commands_of_a_client_that_does_not_touch_leave_idle_times_as_they_are",
        "test_eviction_knows_how_a_key_was_used_elsewhere",
        "test_idletime_is_in_seconds_and_looking_does_not_end_it",
        "test_object_tells_how_a_string_is_held",
        "test_touch_counts_keys_and_ends_their_idle_time",
    ),
    "how a value came to be: what is read again is as compact as what is loaded from a snapshot": (
        "test_a_copy_has_all_and_is_independent",
        "test_beyond_the_threshold_a_graph_finds_what_brute_force_does",
        "test_hashes_become_hashtables_by_length_and_number",
        "test_memory_is_counted",
        "test_stats_memory_is_what_the_keys_of_a_prefix_take",
        "test_what_the_graph_does_not_have_yet_is_found",
    ),
    "the lengths of values, which are counted of those in memory": (
        "test_keysizes_are_counted_by_powers_of_two_as_in_redis_8",
        "test_keysizes_are_those_of_each_database",
        "test_keysizes_follow_a_string_as_it_grows_and_counts",
        "test_keysizes_follow_every_change",
    ),
    "what is in memory": (
        "test_a_flush_frees_at_once_if_told_so_by_its_word_or_by_the_setting",
        "test_exec_is_refused_where_memory_has_come_to_lack",
        "test_exec_is_refused_where_memory_lacks_for_what_was_queued",
        "test_maxmemory_stops_a_script_that_has_not_written_yet",
        "test_memory_is_counted_and_given_back",
        "test_memory_returns_to_what_it_was",
        "test_memory_stats_and_doctor_tell_what_there_is",
        "test_memory_that_is_short_is_told",
        "test_offsets_beyond_the_longest_string_take_no_memory",
        "test_used_memory_has_a_peak",
        "test_without_memory_counts_stay_in_the_buffer_until_there_is_some",
    ),
}
NOT_IN_STORES: Final = {name: reason for reason, names in _NOT_IN_STORES.items() for name in names}
_KEPT: Final = {name for names in _OF_MEMORY.values() for name in names}
# By how many shards they have, and which of a test's engines it is: opening one takes longer than most tests.
_STORES: dict[tuple[int, int], Store] = {}


def keeper_for(test: str) -> Callable[..., StoreKeeper]:
    """What keeps the engines of a test."""
    return StoreKeeper if test.partition("[")[0] in _KEPT else HastyKeeper


class HastyKeeper(StoreKeeper):
    """Between any two requests everything is written, and nothing stays in memory."""

    def tick(self) -> None:
        super().tick()
        self.write_back(sync=False)
        assert self._engine.cache is not None
        self._engine.cache.drop_all()


def put_into_store(
    engine: Engine,
    store: Store | None = None,
    keeper: Callable[..., StoreKeeper] = HastyKeeper,
    beside: int = 0,
) -> None:
    """Have an engine that is new keep its data in a store, which is empty if none is given.

    `beside`: so many others have one already, and go on.
    """
    store = store or _empty_store(engine, beside)
    check_settings(engine.config)
    engine.back(store)
    kept = keeper(engine, store)
    engine.journal.keeper = engine.write_back = kept
    engine.saves = Checkpoints(engine, kept)
    kept.begin()


def _empty_store(engine: Engine, beside: int) -> Store:
    count = len(engine.shards)
    store = _STORES.get((count, beside))
    if store is None:
        path = tempfile.mkdtemp(prefix="kora-stored-")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        edges = [0, *(shard.slot_stop for shard in engine.shards)]
        store = _STORES[count, beside] = Store(path, edges, StoreSettings(8 << 20, 4 << 20))
    store.batch([], {}, {"functions": b"[]"}).commit(False)
    return store
