"""The server as a whole: builds the parts, joins them, starts and stops them.  The only module that knows everybody."""

import asyncio
import gc
import os
import resource
import signal
import sys
from functools import partial

import uvloop

from kora import kernel
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.engine.loading import Loading
from kora.engine.storage import StorageView
from kora.errors import ConfigError
from kora.log import REPEATS_S, Log, logger
from kora.observe.board import DRAINING, READY, STATE, Board
from kora.persist.journal import JournalKeeper
from kora.persist.loading import Steps
from kora.persist.recovery import CannotRecover, recover
from kora.persist.saving import Saver
from kora.persist.snapshots import Snapshots
from kora.server.connection import Connection
from kora.server.feed import Feed
from kora.server.fetching import Fetching
from kora.server.listener import Listeners
from kora.server.outbound import ServerOutbound
from kora.server.standstill import Standstill
from kora.server.turns import LoopTurns
from kora.server.workers import Workers

log = logger("kora.server")
engine_log = logger("kora.engine")

# Descriptors for everything but clients: listeners, the feed, files.
_DESCRIPTORS_RESERVED = 32
# How long connections may take to send their last replies when the server stops.
_FLUSH_S = 2.0
# How long loading waits for a store that is slower.
_BEHIND_S = 0.005


def serve(config: Config) -> int:
    """Run until told to stop; returns the exit code."""
    try:
        with Log(config.logfile, config.log_format == "json") as output:
            _configure_log(config, output)
            try:
                return uvloop.run(Server(config, output).run())
            except (ConfigError, CannotRecover) as error:
                log.error("cannot start", reason=str(error))
                print(f"kora-server: {error}", file=sys.stderr)
                return 1
    except OSError as error:
        print(f"kora-server: logfile: cannot open {config.logfile}: {error.strerror}", file=sys.stderr)
        return 1


class Server:
    def __init__(self, config: Config, output: Log) -> None:
        self._config = config
        self._log = output
        self._stopping = asyncio.Event()
        self._grace = True
        self._saves = False
        self._signals = 0

    async def run(self) -> int:
        """Serve until a signal or SHUTDOWN; raises ConfigError where it cannot start."""
        config = self._config
        loop = asyncio.get_running_loop()
        _allow_clients(config)
        compiled = kernel.load()
        if compiled is not None:
            compiled.keep_freed_memory()
        engine = Engine(config, make_registry(), board=Board.shared(), kernel=compiled)
        data: _InMemory | _Stored = (
            _Stored(engine, loop) if config.storage_engine == "rocksdb" else _InMemory(engine, loop)
        )
        engine.shutdown = self._stop_now
        engine.call_later = loop.call_later
        engine.log = _log_of_engine
        engine.outbound = outbound = ServerOutbound(engine)
        if config.aclfile:
            engine.acl.load()
        listeners = Listeners()
        workers = Workers(engine)
        turns = LoopTurns(engine)
        feed = Feed(engine) if config.has_sidecar else None
        signals = {number: partial(self._signalled, engine, number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number, handle in signals.items():
            loop.add_signal_handler(number, handle)
        engine.pump = Standstill(engine, loop, listeners, signals).attend
        # A terminal that closes does not take the server with it.
        loop.add_signal_handler(signal.SIGHUP, self._hung_up, feed)
        self._tell_repeats(loop)
        # Nobody is to find an empty database, or to write to one, between the first connection and recovery.
        engine.set_loading(Loading(engine.clock, 0))
        try:
            await listeners.open(config, lambda: Connection(engine, loop))
            if feed is not None:
                await feed.start()
            workers.start()
            if isinstance(loop, uvloop.Loop):
                turns.start(uvloop.loop.__file__, _loop_capsule(loop))
            if not await self._recover(engine, data):
                return 0
            engine.saves.loaded()
            engine.board.words[STATE] = READY
            log.info(
                "ready",
                version=engine.version,
                kernel=engine.kernel,
                port=config.port,
                elapsed_ms=(engine.clock.monotonic_ns() - engine.started_ns) // 1_000_000,
                **({} if compiled is not None else {"reason": kernel.why_not()}),
            )
            await self._until_stopped(feed)
            engine.board.words[STATE] = DRAINING
            listeners.close()
            if self._grace and config.shutdown_grace_ms:
                await asyncio.sleep(config.shutdown_grace_ms / 1000)
            await _close_clients(engine)
            if feed is not None:
                await feed.drain()
            engine.tracked.flush_all()
            # Again, if anybody has changed anything since it was found that this can be done.
            if self._saves and not engine.saves.save_before_the_end():
                log.error("stopped without saving", changes=engine.saves.numbers()[0])
                return 1
        finally:
            listeners.close()
            await turns.stop()
            await workers.stop()
            data.stop()
            await outbound.close()
            if feed is not None:
                await feed.stop()
        log.info("stopped")
        return 0

    async def _recover(self, engine: Engine, data: "_InMemory | _Stored") -> bool:
        """Load what an earlier process has left; False if it was told to stop meanwhile.  Raises CannotRecover."""
        steps = data.recover()
        for _ in steps:
            await asyncio.sleep(_BEHIND_S if data.is_behind else 0)
            if self._stopping.is_set():
                steps.close()
                log.info("stopped while loading")
                return False
        engine.set_loading(None)
        # What was loaded is there to stay: full collections need not look at it.
        gc.freeze()
        return True

    async def _until_stopped(self, feed: Feed | None) -> None:
        """Raises ConfigError where the sidecar cannot do its work from the start."""
        stopping = asyncio.create_task(self._stopping.wait())
        if feed is not None:
            await asyncio.wait((stopping, feed.started), return_when=asyncio.FIRST_COMPLETED)
            if feed.started.done() and feed.started.exception() is not None:
                stopping.cancel()
                raise ConfigError(str(feed.started.exception()))
        await stopping

    def _signalled(self, engine: Engine, number: int) -> None:
        self._signals += 1
        if self._signals > 1:
            # Whoever asks twice does not want to wait.  The sidecar ends by itself when the feed closes.
            log.warning("stopped at once", signal=signal.Signals(number).name)
            sys.stdout.flush()
            _exit_now()
        name = signal.Signals(number).name
        if engine.loading is None and engine.saves.are_wanted:
            # Not in the midst of a script, which may be half done: then only at the end.
            if not engine.busy_script and not engine.saves.save_before_the_end():
                log.error("not stopped, since the data cannot be saved", signal=name)
                self._signals = 0
                return
            self._saves = True
        log.info("stopping", signal=name, grace_ms=self._config.shutdown_grace_ms)
        self._stopping.set()

    def _hung_up(self, feed: Feed | None) -> None:
        """SIGHUP: somebody has moved the log away, or has changed the configuration, or both."""
        try:
            self._log.reopen()
        except OSError as error:
            log.error("log not opened anew", path=self._config.logfile, reason=error.strerror or str(error))
        try:
            changed, kept = self._config.reload()
        except ConfigError as error:
            log.error("configuration not reloaded", reason=str(error))
        else:
            shown = self._config.masked()
            values = {setting.name: shown[setting.name] for setting in changed}
            log.info("configuration reloaded", file=self._config.file, changed=values)
            if kept:
                log.warning("settings that need another start", settings=[setting.name for setting in kept])
        if feed is not None:
            feed.reopen_logs()

    def _tell_repeats(self, loop: asyncio.AbstractEventLoop) -> None:
        self._log.tell_repeats()
        loop.call_later(REPEATS_S, self._tell_repeats, loop)

    def _stop_now(self, saves: bool) -> None:
        """SHUTDOWN: no grace, since the operator has asked this server and not a load balancer."""
        self._grace = False
        self._saves = saves
        self._stopping.set()


class _InMemory:
    """The data of a server that has all of it in memory: snapshots, and a journal."""

    is_behind = False

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        saver = Saver(engine)
        engine.saves = Snapshots(engine, saver)
        self._keeper = engine.journal.keeper = JournalKeeper(engine, saver, wake=loop.call_soon_threadsafe)

    def recover(self) -> Steps[None]:
        return recover(self._engine, self._keeper)

    def stop(self) -> None:
        self._keeper.stop()


class _Stored:
    """The data of a server that has it in RocksDB."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        """Raises ConfigError and CannotRecover."""
        try:
            from kora.engines.rocksdb import checkpoints, keeper, opening, store
        except ImportError as error:
            raise ConfigError(
                "storage-engine: rocksdb needs the Python package rocksdict, which is not installed: "
                "pip install 'kora-server[rocksdb]'"
            ) from error
        config = engine.config
        opening.check_settings(config)
        path = os.path.normpath(os.path.join(config.dir, config.rocksdb_dir))
        started_ns = engine.monotonic_ns()
        try:
            self._store = opening.open_store(engine, path)
            self._is_new = opening.is_new(self._store)
        except store.CannotOpen as error:
            raise CannotRecover(str(error)) from error
        elapsed_ms = (engine.monotonic_ns() - started_ns) // 1_000_000
        log.info("store opened", path=path, batches=self._store.generation, elapsed_ms=elapsed_ms)
        self._engine = engine
        self._opening = opening
        self._cannot_open = store.CannotOpen
        engine.back(self._store)
        self._fetching = Fetching(self._store, loop)
        assert engine.cache is not None
        engine.cache.fetch = self._fetching.fetch
        self._keeper = keeper.StoreKeeper(engine, self._store, wake=loop.call_soon_threadsafe)
        engine.journal.keeper = engine.write_back = self._keeper
        engine.storage = StorageView(self._store.statistics, engine.cache.numbers, self._keeper.counted)
        engine.saves = checkpoints.Checkpoints(engine, self._keeper)

    @property
    def is_behind(self) -> bool:
        return self._keeper.is_behind

    def recover(self) -> Steps[None]:
        engine = self._engine
        snapshot = os.path.join(engine.config.dir, engine.config.dbfilename)
        try:
            if self._is_new and os.path.exists(snapshot):
                # Nobody is to take half of it for all.
                self._opening.note_import(self._store, True)
                yield from recover(engine)
                if not self._keeper.write_back():
                    raise CannotRecover(f"{self._store.path}: the snapshot cannot be stored")
                self._opening.note_import(self._store, False)
                log.info("snapshot taken over into the store", path=snapshot)
            self._opening.begin(engine, self._keeper)
        except self._cannot_open as error:
            raise CannotRecover(str(error)) from error
        yield

    def stop(self) -> None:
        self._fetching.stop()
        self._keeper.stop()


def _loop_capsule(loop: asyncio.AbstractEventLoop) -> object:
    """uvloop's uv_loop_t, in a capsule: its stubs do not know of it."""
    capsule: object = getattr(uvloop.loop, "libuv_get_loop_t_ptr")(loop)  # noqa: B009
    return capsule


async def _close_clients(engine: Engine) -> None:
    """Let everybody's requests that were read be answered, then close; cut off whoever does not take its replies."""
    loop = asyncio.get_running_loop()
    stop = loop.time() + _FLUSH_S
    while engine.clients and loop.time() < stop:
        for client in list(engine.clients.values()):
            if not client.more or client.parked:
                client.closing = True
                client.kick()
        await asyncio.sleep(0.005)
    for client in list(engine.clients.values()):
        client.disconnect()
    await asyncio.sleep(0)


def _allow_clients(config: Config) -> None:
    """Raise the process' limit of open files so that maxclients fit, or lower maxclients to what it allows."""
    allowed = _raise_descriptor_limit(config.maxclients)
    if allowed < config.maxclients:
        log.warning("maxclients lowered to the limit of open files", maxclients=allowed, wanted=config.maxclients)
        config.set([("maxclients", str(allowed))])

    def refuse_too_many(wanted: int) -> None:
        if (allowed := _raise_descriptor_limit(wanted)) < wanted:
            raise ConfigError(
                f"The operating system is not able to handle the specified number of clients, try with {allowed}"
            )

    config.on_change("maxclients", refuse_too_many)


def _raise_descriptor_limit(clients: int) -> int:
    """Make room for so many clients if the hard limit allows it; returns for how many there is room, at most that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = clients + _DESCRIPTORS_RESERVED
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, soft) - _DESCRIPTORS_RESERVED)


def _configure_log(config: Config, output: Log) -> None:
    def set_repeats(count: int) -> None:
        output.repeats_max = count

    output.set_levels(config.log_level)
    set_repeats(config.log_repeats_max)
    config.on_change("log-level", output.set_levels)
    config.on_change("log-repeats-max", set_repeats)


def _log_of_engine(level: str, message: str, **fields: object) -> None:
    getattr(engine_log, level)(message, **fields)


def _exit_now() -> None:
    os._exit(1)
