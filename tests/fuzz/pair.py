"""Two engines that get the same bytes at the same times, one on the kernel and one on the reference.

    fault = Pair("--requirepass", "x").run([Send(0, (b"*1\\r\\n$4\\r\\nPI", b"NG\\r\\n")), Advance(1_000)])

`fault` says where they first differ, and is "" if they agree on each reply and, afterwards, on all that is counted and
stored.  What depends on chance or on how keys are kept (SCAN's order, sizes, INFO) is settled by settled_registry().
"""

import re
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Final, TypeAlias

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.commands.generic import scan
from kora.commands.scanning import parse_cursor
from kora.config import Config
from kora.engine.client import Client
from kora.engine.engine import Engine
from kora.engine.registry import Registry
from kora.errors import CommandError
from kora.observe.board import COMMAND_STARTED
from kora.resp.reply import Simple, Verbatim
from kora.store.expiry import expire_cycle
from kora.store.lazyfree import free_all
from kora.store.shard import RUN_BITS
from kora.types.kinds import encoding, type_name

DATABASES: Final = 4
CLIENTS: Final = 3
SHARDS: Final = 3
# SETRANGE may make strings of that size and no more, so that a fuzzer does not spend its time on zeros.
BULK_MAX: Final = 1 << 20
_TURNS_MAX: Final = 100_000


# --- What both are told ---


@dataclass(frozen=True)
class Send:
    """A client's bytes, in the pieces in which they arrive."""

    client: int
    chunks: tuple[bytes, ...]


@dataclass(frozen=True)
class Advance:
    """Time passes, and what is done several times per second is done."""

    ms: int


@dataclass(frozen=True)
class Expire:
    """The expire cycle goes everywhere."""


@dataclass(frozen=True)
class Store:
    """A value that is no string gets under a key, as some later type will."""

    database: int
    key: bytes
    size_bytes: int


Action: TypeAlias = Send | Advance | Expire | Store


class Pile:
    """A value of a type that only tests have; `alive` counts those that somebody still holds."""

    kind = "vectorset"  # the one kind that the kernel has no class of its own for
    encoding = "heap"
    keeps_when_empty = True
    counted_bytes = 0

    def __init__(self, size_bytes: int, alive: list[int]) -> None:
        self.size_bytes = size_bytes
        self._alive = alive
        alive[0] += 1

    def __del__(self) -> None:
        self._alive[0] -= 1

    def copy(self) -> "Pile":
        return Pile(self.size_bytes, self._alive)

    def __len__(self) -> int:
        return self.size_bytes

    @property
    def effort(self) -> int:
        return self.size_bytes // 1000

    def shed(self, count: int) -> int:
        count = min(count, self.size_bytes)
        self.size_bytes -= count
        return count


# --- Commands whose replies two engines may differ in ---


@cache
def settled_registry() -> Registry:
    """All commands; those that answer by chance say only what both implementations must agree on."""
    registry = deepcopy(make_registry())  # whose rows all engines of the process share
    rows = {command.name: command for command in registry.slots}
    for name, settle in _SETTLED.items():
        rows[name].handler = _settled(rows[name].handler, settle)
    return registry


def _settled(handler: Any, settle: Any) -> Any:
    return lambda client, argv: settle(handler, client, argv)


def _scan_all(handler: Any, client: Client, words: Sequence[bytes]) -> list[bytes]:
    """What a whole scan gives.  It also deletes all keys whose time is over, whatever the order they stand in."""
    cursor, keys = b"0", []
    while True:
        cursor, found = handler(client, [b"SCAN", cursor, *words])
        keys += found
        if cursor == b"0":
            return sorted(keys)


def _settled_scan(handler: Any, client: Client, argv: list[bytes]) -> Any:
    parse_cursor(argv[1])
    return [b"0", _scan_all(handler, client, argv[2:])]


def _settled_randomkey(handler: Any, client: Client, argv: list[bytes]) -> Any:
    keys = _scan_all(scan, client, ())
    key = handler(client, argv)
    assert (key in keys) if keys else key is None, key
    return len(keys)


def _settled_config_set(handler: Any, client: Client, argv: list[bytes]) -> Any:
    for name, value in zip(argv[2::2], argv[3::2], strict=False):
        # Sizes are each implementation's own: above one byte is the first key, and no program fills a terabyte.
        if name.lower() == b"maxmemory" and value not in (b"0", b"1", b"1000gb"):
            raise CommandError("ERR kept out of the comparison")
        if name.lower() == b"proto-max-bulk-len" and value not in (b"1mb", b"2mb"):
            raise CommandError("ERR kept out of the comparison")
    return handler(client, argv)


def _settled_resetstat(handler: Any, client: Client, argv: list[bytes]) -> Any:
    # Bytes are counted when a turn ends, and turns end where an implementation likes: those before stay.
    kept = [(shard.stats, shard.stats.bytes_in, shard.stats.bytes_out) for shard in client.engine.shards]
    reply = handler(client, argv)
    for stats, bytes_in, bytes_out in kept:
        stats.bytes_in, stats.bytes_out = bytes_in, bytes_out
    return reply


def _settled_debug(handler: Any, client: Client, argv: list[bytes]) -> Any:
    what = argv[1].upper()
    if what == b"POPULATE" and max(map(len, argv[2::2])) > 4:
        raise CommandError("ERR kept out of the comparison")
    if what == b"SLEEP" and len(b"".join(argv[2:])) > 4:
        raise CommandError("ERR kept out of the comparison")
    reply = handler(client, argv)
    return Simple("an address") if what == b"OBJECT" else reply


def _settled_reset(handler: Any, client: Client, argv: list[bytes]) -> Any:
    reply = handler(client, argv)
    # Requests behind one that logs out were parsed under the old limits, as many as an implementation reads ahead.
    client.parser.authenticated = True
    return reply


_MASKED = re.compile(r"\b(qbuf|tot-mem)=\d+")


def _without_sizes(handler: Any, client: Client, argv: list[bytes]) -> Any:
    return Verbatim(_MASKED.sub("", handler(client, argv).text))


def _kind_only(handler: Any, client: Client, argv: list[bytes]) -> Any:
    reply = handler(client, argv)
    return reply if reply is None else Simple(type(reply).__name__)


_SETTLED: Final[dict[str, Callable[[Any, Client, list[bytes]], Any]]] = {
    "keys": lambda handler, client, argv: sorted(handler(client, argv)),
    "scan": _settled_scan,
    "randomkey": _settled_randomkey,
    "cluster|getkeysinslot": lambda handler, client, argv: len(handler(client, argv)),
    "client|list": _without_sizes,
    "client|info": _without_sizes,
    "config|resetstat": _settled_resetstat,
    "config|set": _settled_config_set,
    "debug": _settled_debug,
    "hrandfield": _kind_only,
    "info": _kind_only,
    "memory|usage": _kind_only,
    "object|idletime": _kind_only,
    "reset": _settled_reset,
}


# --- One of the two ---


class Side:
    def __init__(self, module: ModuleType | None, flags: Sequence[str]) -> None:
        self.clock = ManualClock()
        words = ["--databases", str(DATABASES), "--shards", str(SHARDS), "--proto-max-bulk-len", "1mb"]
        words += ["--hotkey-sampling-ratio", "1", "--enable-debug-command", "yes", *flags]
        self.engine = Engine(Config.load(words, {}), settled_registry(), self.clock, kernel=module)
        self.engine.log = self._note
        self.clients = [self.engine.connect(f"127.0.0.1:{50_000 + number}") for number in range(CLIENTS)]
        self.replies = [bytearray() for _ in self.clients]
        self.faults: list[str] = []
        self.alive = [0]
        self._kicked: list[int] = []
        for number, client in enumerate(self.clients):
            client.kick = lambda number=number: self._kicked.append(number)  # type: ignore[misc]

    def _note(self, level: str, message: str, **fields: Any) -> None:
        if level == "error":
            self.faults.append(f"{message}: {fields.get('command')}: {fields.get('exc_info')!r}")

    def do(self, action: Action) -> None:
        if isinstance(action, Send):
            for chunk in action.chunks:
                self.feed(action.client, chunk)
        elif isinstance(action, Advance):
            self.clock.advance_ms(action.ms)
            self.engine.tick()
            self.engine.tracked.flush_some(1 << 60)
            self.engine.tracked.roll_some(1 << 60)
            self._resume_kicked()
        elif isinstance(action, Expire):
            for shard in self.engine.shards:
                for _ in range(DATABASES + 1):
                    while expire_cycle(
                        shard, self.engine.databases.used() or [self.clients[0].db], 1 << 60, self.clock
                    ):
                        pass
        else:
            self.engine.databases[action.database].set(action.key, Pile(action.size_bytes, self.alive))

    def feed(self, number: int, chunk: bytes) -> None:
        client = self.clients[number]
        if client.closing:
            return  # the socket is gone
        self.replies[number] += self.engine.execute(client, chunk)
        self._drain(number)
        self._resume_kicked()

    def _drain(self, number: int) -> None:
        client = self.clients[number]
        for _ in range(_TURNS_MAX):
            if not client.more or client.closing or client.parked:
                return
            self.replies[number] += self.engine.resume(client)
        raise AssertionError("a client has turn after turn, and does not come to an end")

    def _resume_kicked(self) -> None:
        while self._kicked:
            self._drain(self._kicked.pop(0))

    def numbers(self) -> dict[str, object]:
        """All that is counted, by a name that says what it is."""
        engine = self.engine
        numbers: dict[str, object] = {
            "errors": dict(sorted(engine.errors.items())),
            "protocol errors": engine.protocol_errors,
            "internal errors": len(self.faults),
            "bytes in": sum(shard.stats.bytes_in for shard in engine.shards),
            "bytes out": sum(shard.stats.bytes_out for shard in engine.shards),
            "clients": sorted(engine.clients),
            "board": engine.board.words[COMMAND_STARTED],
            "tracked": engine.tracked.numbers(),
            "databases": [db.index for db in engine.databases.used()],
        }
        for command, *rows in zip(
            engine.registry.slots, *(shard.stats.commands for shard in engine.shards), strict=True
        ):
            if any(row.calls or row.failed or row.rejected or row.elapsed_ns for row in rows):
                numbers[f"calls, failed, rejected, ns of {command.name}"] = [
                    sum(getattr(row, name) for row in rows) for name in ("calls", "failed", "rejected", "elapsed_ns")
                ]
        for shard in engine.shards:
            stats = shard.stats
            numbers[f"keys, hits, misses, expired of shard {shard.index}"] = (
                stats.keys,
                stats.hits,
                stats.misses,
                stats.expired,
            )
        for db in engine.databases.used():
            numbers[f"keys, deadlines, changes of database {db.index}"] = (len(db), db.volatile, db.changes)
            numbers[f"lengths in database {db.index}"] = db.lengths()
        for number, client in enumerate(self.clients):
            for name in ("last_command", "closing", "parked", "protocol", "muted", "skips_left", "authenticated",
                         "name", "gated", "halted"):  # fmt: skip
                numbers[f"client {number} {name}"] = getattr(client, name)
            numbers[f"client {number} database"] = client.db.index
            if not client.closing:
                numbers[f"client {number} more"] = client.more
            if not client.closing and not client.parked:
                numbers[f"client {number} buffered bytes"] = client.parser.buffered_bytes
                numbers[f"client {number} backlog"] = client.backlog
        return numbers

    def contents(self) -> dict[str, object]:
        """What is stored and not over: kind, encoding, deadline and value of each key."""
        found: dict[str, object] = {}
        for db in self.engine.databases.used():
            for key in sorted(db):
                value = db.find(key)
                text = _elements(value)
                found[f"key {key!r} of database {db.index}"] = (
                    type_name(value),
                    encoding(value),
                    db.deadline(key),
                    text,
                )
        return found

    def free_discarded(self) -> None:
        for shard in self.engine.shards:
            free_all(shard, self.clock)


def _elements(value: Any) -> object:
    """All that a value holds; in no order where large ones have none."""
    if type(value) is Pile:
        return value.size_bytes
    kind = type_name(value)
    if kind == "hash":
        return value.flat(), [value.deadline(field) for field in value.fields()]
    if kind in ("list", "zset"):
        return repr(value.slice(0, len(value)))  # tells -0.0 from 0.0
    if kind == "stream":
        return _stream_elements(value)
    return value.members() if kind == "set" else bytes(value)


def _stream_elements(stream: Any) -> object:
    """Its blocks to the byte, for they decide what is trimmed next, and who waits for what."""
    blocks = [
        (block.first_id, block.last_id, block.names, block.ids, block.entries, block.deleted, block.node_bytes)
        for block in stream.blocks()
    ]
    groups = [
        (group.name, group.last_id, group.entries_read, [(name, list(it.ids)) for name, it in group.consumers.items()])
        for group in stream.sorted_groups()
    ]
    return stream.last_id, stream.max_deleted_id, stream.entries_added, stream.radix_nodes(), blocks, groups


class Pair:
    """`module` is for a kernel of another make: the one that is loaded, if it is not given."""

    def __init__(self, *flags: str, module: ModuleType | None = None) -> None:
        module = module or kernel.load()
        assert module is not None, kernel.why_not()
        self.kernel = Side(module, flags)
        self.reference = Side(None, flags)

    def run(self, actions: Iterable[Action]) -> str:
        """Do everything on both; says what differs first, or nothing."""
        for place, action in enumerate(actions):
            if isinstance(action, Send):
                for piece, chunk in enumerate(action.chunks):
                    self.kernel.feed(action.client, chunk)
                    self.reference.feed(action.client, chunk)
                    if fault := self._replies_fault():
                        return f"action {place}, piece {piece}: {fault}"
            else:
                self.kernel.do(action)
                self.reference.do(action)
                if fault := self._replies_fault():
                    return f"action {place}: {fault}"
        return self.fault()

    def _replies_fault(self) -> str:
        for number in range(CLIENTS):
            expected, found = self.reference.replies[number], self.kernel.replies[number]
            if expected != found:
                same = next(
                    (at for at, both in enumerate(zip(expected, found, strict=False)) if both[0] != both[1]),
                    min(len(expected), len(found)),
                )
                shown = slice(max(0, same - 20), same + 80)
                return (
                    f"client {number}, from byte {shown.start} on:"
                    f"\n  reference {bytes(expected[shown])!r}\n  kernel    {bytes(found[shown])!r}"
                )
            expected.clear()
            found.clear()
        return ""

    def fault(self) -> str:
        """What differs in all that is counted and stored, and what the kernel's own audit finds wrong."""
        faults = _differences(self.reference.numbers(), self.kernel.numbers())
        faults += _differences(self.reference.contents(), self.kernel.contents())
        for side in (self.reference, self.kernel):
            side.free_discarded()
        faults += _differences({"values alive": self.reference.alive[0]}, {"values alive": self.kernel.alive[0]})
        memory_bytes = [0] * SHARDS
        for db in self.kernel.engine.databases.used():
            try:
                by_run = db.audit()  # type: ignore[attr-defined]
            except AssertionError as error:
                faults.append(f"audit of database {db.index}: {error}")
                continue
            for shard in self.kernel.engine.shards:
                memory_bytes[shard.index] += sum(by_run[shard.slot_start >> RUN_BITS : shard.slot_stop >> RUN_BITS])
        counted = [shard.stats.memory_bytes for shard in self.kernel.engine.shards]
        if counted != memory_bytes:
            faults.append(f"memory: the shards count {counted}, there are {memory_bytes}")
        if self.kernel.faults or self.reference.faults:
            faults.append(f"internal errors: reference {self.reference.faults}, kernel {self.kernel.faults}")
        return "\n".join(faults)


def _differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        f"{name}: reference {expected.get(name)!r:.400}, kernel {found.get(name)!r:.400}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


# --- Writing requests, and writing programs down ---


def encode(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def cut(data: bytes, places: Iterable[int]) -> tuple[bytes, ...]:
    """The pieces between some places."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return tuple(data[start:stop] for start, stop in pairwise(edges) if stop > start)


def show(flags: Sequence[str], actions: Iterable[Action]) -> str:
    """A program that does it again; bytes in hex where they are not plain."""
    lines = [f"Pair(*{list(flags)!r}).run(["]
    for action in actions:
        if isinstance(action, Send):
            lines.append(f"    Send({action.client}, (")
            lines += [f"        {_written(chunk)}," for chunk in action.chunks]
            lines.append("    )),")
        else:
            lines.append(f"    {action!r},")
    return "\n".join([*lines, "])"])


_RUN: Final = re.compile(rb"(.)\1{99,}", re.DOTALL)


def _written(chunk: bytes) -> str:
    """As source: long runs of one byte as a product, in hex where most bytes are not plain."""
    parts = []
    place = 0
    for run in _RUN.finditer(chunk):
        parts += [_literal(chunk[place : run.start()]), f"{run[1]!r} * {len(run[0])}"]
        place = run.end()
    parts.append(_literal(chunk[place:]))
    return " + ".join(filter(None, parts)) or "b''"


def _literal(data: bytes) -> str:
    written = repr(data) if data else ""
    return written if len(written) < 3 * len(data) + 4 else f"bytes.fromhex({data.hex()!r})"
