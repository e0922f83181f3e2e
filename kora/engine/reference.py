"""Which implementation answers: what an engine asks of it, and the reference, which is this package's own Python.

The kernel (kora/kernel) is the other one.  Both make what counts, what holds keys and what parses, and run requests.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kora.audit.ring import Ring
from kora.clock import Clock
from kora.engine import call
from kora.engine.effects import Effects
from kora.engine.receiver import Receiver
from kora.observe.cpu_samples import CpuSamples
from kora.observe.hotkeys import HotKeys
from kora.observe.service import Service
from kora.observe.shard_stats import ShardStats
from kora.resp.parser import FastReader, Parser
from kora.store.keyspace import Keyspace
from kora.store.shard import Shard
from kora.store.walk import Databases, Layout, ReferenceWalk, Walk
from kora.types.limits import Limits
from kora.types.rdb.payload import Tools
from kora.types.tallies import Tallies
from kora.types.tally import Cell, Tally

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine


class Tallied(Protocol):
    """kora/types/tallies.py says what each does."""

    values: int

    def __len__(self) -> int: ...
    def __contains__(self, key: bytes) -> bool: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def add(self, key: bytes, units: int, at_ms: int) -> None: ...
    def merge(self, cell: Cell) -> None: ...
    def get(self, key: bytes) -> Tally | None: ...
    def take(self, count: int) -> list[Cell]: ...


class Implementation(Protocol):
    name: str  # for INFO and the log
    busy_rate: int  # commands per second, above which every little thing that is done for each is felt
    running: "Client | None"  # whose turn it is
    rdb_tools: Tools  # for what Redis' serialization spends its time on
    effects: Effects  # what the journal is told

    def execute(self, client: "Client", data: bytes, send: call.Send | None = None) -> bytes: ...
    def resume(self, client: "Client", send: call.Send | None = None) -> bytes: ...
    def make_stats(self, commands: int) -> ShardStats: ...
    def make_service(self, commands: int) -> Service: ...
    def make_hot_keys(self) -> HotKeys: ...
    def make_keyspace(self, index: int, shards: Sequence[Shard]) -> Keyspace: ...
    def make_parser(self) -> Parser: ...
    def make_receiver(self) -> Receiver: ...

    def load_records(
        self,
        keyspace: Keyspace,
        window: bytes,
        at: int,
        stop: int,
        now_ms: int | None,
        string_bytes_max: int,
        is_lfu: bool,
    ) -> tuple[int, int, int, bool]:
        """Load records of a snapshot from a place on, up to the first that begins at `stop` or behind it.

        Ends early at one that it does not know.  Keys whose time was over by `now_ms` are left out.  Returns where it
        ended, how many keys were loaded and left out, and whether the record there goes on beyond the window.
        """

    def walk_over(self, databases: Databases, layout: Layout) -> Walk:
        """Begin a snapshot of all that these databases hold now; one that was given up has ended by that."""

    def attach(self, engine: "Engine", call: Any) -> None:
        """Before the first request: get to know the engine; `call` has what is asked of kora.engine.call."""

    # What has changed: everything runs by call(), for now; what needs memory is refused above so many bytes; where
    # values end to be compact; every command is run by its handler; the command that runs leaves errands.
    def set_gate(self, aside: bool, maxmemory: int) -> None: ...
    def set_limits(self, limits: Limits) -> None: ...
    def set_handing_over(self, hands_over: bool) -> None: ...
    def replay(
        self, client: "Client", data: bytes, run: Callable[[list[bytes]], bool], verify: Callable[[int, int], None]
    ) -> int:
        """Run the commands that some bytes of a journal complete, uncounted and without replies; returns how many.

        run() takes what no operation of the kernel can run, and all of a transaction; it returns whether one is open.
        verify() is told of commands, by an offset and how many there are, whose bytes are not what they would be sent
        as: clients may send requests in other ways than journals have them.  What both raise comes out, and
        ProtocolError, and then replay_place says at which command it was.  A client with a new parser begins another
        file.
        """

    @property
    def replay_place(self) -> tuple[int, int]:
        """An offset from where the file's commands begin, and how many commands behind it the one is that runs."""

    def set_replaying(self, is_replaying: bool) -> None: ...  # keys do not end: a journal says what has ended
    # Values to count, by the interval that they belong to; and where those of now go, until it ends, or None.
    def make_tallies(self) -> Tallied: ...
    def count_into(self, tallies: Tallied | None, start_ms: int, stop_ms: int) -> None: ...
    def interrupt(self) -> None: ...
    def set_observing(self, observing: bool) -> None: ...

    def set_audit(
        self,
        queue: Ring | None,
        slots: bytes,
        blocks: bool,
        wants_words: bool,
        include_keys: Sequence[bytes],
        exclude_keys: Sequence[bytes],
    ) -> None:
        """What is recorded from now on, and where to: see kora.engine.audit; None for nothing."""

    # From where on engine.slowness wants to know of a command.
    def set_slow(self, slow_ns: int, reply_bytes: int, request_bytes: int) -> None: ...
    def set_sampling_ratio(self, ratio: int) -> None: ...

    def set_tracing(self, is_on: bool, ratio: float, slow_ns: int, asks: bool, spans_max: int) -> None:
        """Which part of requests leaves a span, from where on all do, and how many spans are kept.

        `asks` is for engine.tracing to record each.
        """

    def take_spans(self, first: int) -> tuple[bytes, int]:
        """What was recorded here, as kora.observe.traces unpacks it, from a number on, and the number of the next."""

    def forget_spans(self) -> None: ...
    def reset_stats(self) -> None: ...

    def share_histograms(self, fd: int) -> bool:
        """Keep histograms in a file from now on, for kora.observe.shared_counts; False where they stay as they are."""

    def make_cpu_sampler(self, samples: CpuSamples, label: Callable[[], str]) -> "CpuSampler":
        """What counts in `samples` what the loop's thread is busy with; label() tells for whom.

        Raises OSError where there is no better way than Python's own.
        """


class Reference:
    name = "python"
    busy_rate = 20_000
    execute = staticmethod(call.execute)
    resume = staticmethod(call.resume)
    rdb_tools = Tools()

    def __init__(self, clock: Clock) -> None:
        self.running: Client | None = None
        self._clock = clock
        self.effects = Effects()
        self._keyspaces: list[Keyspace] = []
        self._keys_clock = clock  # by which keys end
        # Of the journal that is loaded.
        self._replay_parser: Parser | None = None
        self._replay_fed = 0
        self.replay_place = (0, 0)
        self._fast_reader = FastReader()
        self._limits = Limits()

    def make_stats(self, commands: int) -> ShardStats:
        return ShardStats(commands)

    def make_service(self, commands: int) -> Service:
        return Service(commands)

    def make_hot_keys(self) -> HotKeys:
        return HotKeys()

    def make_keyspace(self, index: int, shards: Sequence[Shard]) -> Keyspace:
        keyspace = Keyspace(index, shards, self._keys_clock, self._limits)
        self._keyspaces.append(keyspace)
        return keyspace

    def make_parser(self) -> Parser:
        return Parser(self._fast_reader)

    def make_receiver(self) -> Receiver:
        return Receiver()

    def load_records(
        self,
        keyspace: Keyspace,
        window: bytes,
        at: int,
        stop: int,
        now_ms: int | None,
        string_bytes_max: int,
        is_lfu: bool,
    ) -> tuple[int, int, int, bool]:
        return at, 0, 0, False  # kora/persist/loading.py reads them

    def walk_over(self, databases: Databases, layout: Layout) -> Walk:
        return ReferenceWalk(databases, layout, self._clock)

    # call() looks all of this up in the engine and its settings.

    def attach(self, engine: "Engine", call: Any) -> None:
        pass

    def set_gate(self, aside: bool, maxmemory: int) -> None:
        pass

    def set_limits(self, limits: Limits) -> None:
        self._limits = limits

    def set_handing_over(self, hands_over: bool) -> None:
        pass

    def replay(
        self, client: "Client", data: bytes, run: Callable[[list[bytes]], bool], verify: Callable[[int, int], None]
    ) -> int:
        parser = client.parser
        if parser is not self._replay_parser:
            self._replay_parser, self._replay_fed = parser, 0
        start = offset = self._replay_fed - parser.buffered_bytes
        self._replay_fed += len(data)
        commands = 0
        parser.feed(data)
        while True:
            # What is wrong is told behind the last command, of which the parser has no bytes any more then.
            self.replay_place = (start, commands)
            requests = parser.take()
            stop = self._replay_fed - parser.buffered_bytes
            if requests:
                self.replay_place = (offset, len(requests))
                verify(offset, len(requests))
            for count, argv in enumerate(requests):
                self.replay_place = (offset, count)
                run(argv)
                commands += 1
            offset = stop
            if not parser.more:
                return commands

    def set_replaying(self, is_replaying: bool) -> None:
        self._keys_clock = StandingClock() if is_replaying else self._clock
        for keyspace in self._keyspaces:
            keyspace.follow(self._keys_clock)

    def make_tallies(self) -> Tallied:
        return Tallies()

    def count_into(self, tallies: Tallied | None, start_ms: int, stop_ms: int) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def set_observing(self, observing: bool) -> None:
        pass

    def set_audit(
        self,
        queue: Ring | None,
        slots: bytes,
        blocks: bool,
        wants_words: bool,
        include_keys: Sequence[bytes],
        exclude_keys: Sequence[bytes],
    ) -> None:
        pass

    def set_slow(self, slow_ns: int, reply_bytes: int, request_bytes: int) -> None:
        pass

    def set_sampling_ratio(self, ratio: int) -> None:
        pass

    def set_tracing(self, is_on: bool, ratio: float, slow_ns: int, asks: bool, spans_max: int) -> None:
        pass

    def take_spans(self, first: int) -> tuple[bytes, int]:
        return b"", 0  # call() has engine.tracing record all

    def forget_spans(self) -> None:
        pass

    def reset_stats(self) -> None:
        pass

    def share_histograms(self, fd: int) -> bool:
        return False

    def make_cpu_sampler(self, samples: CpuSamples, label: Callable[[], str]) -> "CpuSampler":
        raise OSError("what runs is Python alone, which can sample itself")


class CpuSampler(Protocol):
    def start(self, period_ns: int, is_direct: bool) -> None:
        """On the loop's thread; `is_direct` where the loop calls this with no Python frame in between."""

    def stop(self) -> None: ...

    def take(self) -> None:
        """Every now and then, so that no samples are lost."""


class StandingClock(Clock):
    """By which no key ends."""

    __slots__ = ()

    def wall_ms(self) -> int:
        return -(1 << 63)
