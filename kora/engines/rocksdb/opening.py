"""The start of a server whose data is in RocksDB: whether it can be used, and what else is in it."""

import ctypes
import json
import os
from typing import TYPE_CHECKING, Final

from kora.config import Config
from kora.engine.scripting import runtime
from kora.errors import CommandError, ConfigError

from .keeper import FUNCTIONS, NO_JOURNAL, StoreKeeper
from .store import CannotOpen, Store, StoreSettings

if TYPE_CHECKING:
    from kora.engine.engine import Engine

_NO_EVICTION: Final = (
    "with storage-engine rocksdb no data is deleted to make room: maxmemory-policy has to be noeviction where "
    "maxmemory is set; rocksdb-cache-bytes says how much of the data is in memory"
)
# For mallopt(), of malloc.h: what may lie free at an arena's end, what comes from the system by itself, and arenas.
_TRIM_THRESHOLD: Final = (-1, 8 << 20)
_MMAP_THRESHOLD: Final = (-3, 4 << 20)
_ARENAS_MAX: Final = (-8, 4)
# While a snapshot is taken over into an empty store, which is done again from the start if that does not end.
_STATE: Final = "state"
_IMPORTING: Final = b"importing"


def check_settings(config: Config) -> None:
    """Raises ConfigError where something is asked for that this engine does not do, now or later by CONFIG SET."""
    if config.appendonly:
        raise ConfigError(f"appendonly: {NO_JOURNAL}")
    if not _may_evict_nothing(config.maxmemory, config.maxmemory_policy):
        raise ConfigError(f"maxmemory-policy: {_NO_EVICTION}")

    def refuse(limit_bytes: int, policy: str) -> None:
        if not _may_evict_nothing(limit_bytes, policy):
            raise ConfigError(_NO_EVICTION)

    config.on_change("maxmemory", lambda value: refuse(value, config.maxmemory_policy))
    config.on_change("maxmemory-policy", lambda value: refuse(config.maxmemory, value))


def _may_evict_nothing(limit_bytes: int, policy: str) -> bool:
    return not limit_bytes or policy == "noeviction"


def open_store(engine: "Engine", path: str) -> Store:
    """Raises CannotOpen."""
    _give_back_freed_memory()
    config, shards = engine.config, engine.shards
    if not os.path.isdir(config.dir):
        # A disk that is not mounted is no empty disk.
        raise CannotOpen(f"dir: {config.dir}: No such file or directory")
    settings = StoreSettings(
        block_cache_bytes=config.rocksdb_block_cache_bytes,
        write_buffer_bytes=config.rocksdb_write_buffer_bytes,
        compression=config.rocksdb_compression,
        metrics_level=config.storage_metrics_level,
        threads=max(2, os.cpu_count() or 2),
    )
    return Store(path, [shards[0].slot_start, *(shard.slot_stop for shard in shards)], settings, engine.monotonic_ns)


def _give_back_freed_memory() -> None:
    """What the kernel asks for is right for one thread and a data set that comes and goes.

    Here many threads make and drop large batches and blocks, each would keep as much, and memory is to be bounded.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:  # of glibc and its likes
        for option, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS_MAX):
            set_option(option, value)


def is_new(store: Store) -> bool:
    """Whether nothing was ever written, but perhaps a part of a snapshot; that is deleted.  Before it is used.

    Raises CannotOpen.
    """
    if store.extra(_STATE) == _IMPORTING:
        store.batch([], {}, {}).commit(True)
        return True
    return store.generation == 0


def note_import(store: Store, goes_on: bool) -> None:
    """Have the next start know that a snapshot is being taken over, or that all of it was."""
    store.batch([], None, {_STATE: _IMPORTING if goes_on else b""}).commit(True)


def load_functions(engine: "Engine", store: Store) -> None:
    """Raises CannotOpen."""
    data = store.extra(FUNCTIONS)
    try:
        for code in json.loads(data or b"[]"):
            runtime(engine).load(code.encode("latin-1"), replace=True)
    except CommandError as error:
        raise CannotOpen(f"{store.path}: a library of functions that cannot be loaded: {error.message}") from error


def begin(engine: "Engine", keeper: StoreKeeper) -> None:
    """Nothing is being loaded any more."""
    load_functions(engine, keeper.store)
    keeper.begin()
