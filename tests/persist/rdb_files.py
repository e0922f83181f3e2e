"""RDB files put together record by record, what an engine holds after loading one, and bent ones."""

import io
from random import Random
from typing import Any, Final

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.commands.dumping import dump_of
from kora.config import Config
from kora.engine.engine import Engine
from kora.engine.loading import Loading
from kora.persist.loading import CannotLoad, Report, load_rdb, run
from kora.types.crc64 import crc64 as slow_crc64
from kora.types.rdb.writer import Writer
from tests.types.older_payloads import OLDER
from tests.types.payloads import PAYLOADS

FOOT_BYTES: Final = 10  # of a payload
# Every way to write a value that any Redis has had: by name, the type and what is behind it.
VALUES: Final = {
    **{name: bytes.fromhex(data) for name, (_, data) in PAYLOADS.items()},
    **{name: data for name, (data, _, _) in OLDER.items()},
}
_REGISTRY: Final = make_registry()


def crc64(data: bytes) -> int:
    compiled = kernel.load()
    return int((slow_crc64 if compiled is None else compiled.crc64)(data))


def rdb_file(*records: bytes, version: int = 11, checksum: bool = True) -> bytes:
    """A whole file of some records."""
    return seal(b"REDIS%04d" % version + b"".join(records) + b"\xff", checksum)


def seal(data: bytes, checksum: bool = True) -> bytes:
    return data + (crc64(data) if checksum else 0).to_bytes(8, "little")


def key(name: bytes, payload: bytes, prefix: bytes = b"") -> bytes:
    """The record of a key, whose value is that of a payload of DUMP."""
    return prefix + payload[:1] + string(name) + payload[1:-FOOT_BYTES]


def text(name: bytes, value: bytes, prefix: bytes = b"") -> bytes:
    return prefix + b"\0" + string(name) + string(value)


def deadline(deadline_ms: int) -> bytes:
    return b"\xfc" + deadline_ms.to_bytes(8, "little", signed=True)


def string(value: bytes) -> bytes:
    return number(len(value)) + value


def number(value: int) -> bytes:
    writer = Writer()
    writer.length(value)
    return bytes(writer.data)


def module_id(name: str) -> bytes:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    value = 0
    for letter in name:
        value = value << 6 | letters.index(letter)
    return number(value << 10)


def everything() -> bytes:
    """A file with a key of every type and encoding in two databases, some with deadlines."""
    records = [b"\xfa" + string(b"redis-ver") + string(b"7.2.4"), b"\xfe\0", b"\xfb\x20\x02"]
    for place, (name, payload) in enumerate(VALUES.items()):
        records.append(key(name.encode(), payload, deadline(1_800_000_000_000) if place % 5 == 0 else b""))
    records.append(b"\xfe\3")
    records += [
        text(b"key:%d" % place, b"value:%d" % place, b"\xf9\x07" if place % 3 else b"\xf8\x05") for place in range(20)
    ]
    return rdb_file(*records)


def make_engine(*flags: str, fast: bool = True) -> Engine:
    """One with the kernel, if there is one; without `fast` it loads as the reference does."""
    engine = Engine(Config.load([*flags], {}), _REGISTRY, ManualClock(), kernel=kernel.load())
    if not fast:
        engine.implementation = _Slow(engine.implementation)
    return engine


class _Slow:
    """An implementation that leaves all records to the reference."""

    def __init__(self, implementation: Any) -> None:
        self._implementation = implementation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._implementation, name)

    def load_records(self, keyspace: Any, window: bytes, at: int, *terms: Any) -> tuple[int, int, int, bool]:
        return at, 0, 0, False


def load(engine: Engine, data: bytes, in_journal: bool = False) -> Report:
    progress = Loading(engine.clock, len(data))
    report = run(load_rdb(engine, io.BytesIO(data), len(data), progress, path="dump.rdb", in_journal=in_journal))
    assert progress.loaded_bytes == report.stop
    return report


def contents(engine: Engine) -> dict[tuple[int, bytes], tuple[bytes | None, int | None]]:
    """The payload of each key, and its deadline."""
    client = engine.connect()
    found = {}
    for db in engine.databases.used():
        for name in db:
            found[db.index, name] = dump_of(client, db, name), db.deadline(name)
    return found


def outcome(data: bytes, *flags: str, fast: bool) -> Any:
    """What becomes of an engine that loads this, or why it refuses."""
    engine = make_engine(*flags, fast=fast)
    try:
        report = load(engine, data)
    except CannotLoad as error:
        return type(error).__name__, str(error)
    for db in engine.databases.used():
        audit = getattr(db, "audit", None)
        if audit is not None:
            audit()
    return report, contents(engine)


def bent(data: bytes, source: Random) -> bytes:
    """A file with something wrong in it, and at times a checksum that does not tell."""
    body = bytearray(data[:-8])
    for _ in range(source.choice((1, 1, 1, 2, 5))):
        place = source.randrange(9, len(body))
        match source.randrange(7):
            case 0 | 1 | 2:
                body[place] ^= 1 << source.randrange(8)
            case 3:
                body[place] = source.choice((0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xF0, 0xFE, 0xFF))
            case 4:
                del body[place : place + source.choice((1, 2, 8, 100))]
            case 5:
                other = source.randrange(9, len(body))
                body[place:place] = body[other : other + source.choice((1, 4, 30))]
            case 6:
                body[place : place + 4] = source.choice(
                    (b"\xff" * 4, b"\x80\xff\xff\xff", b"\0" * 4, b"\x81" + b"\x7f" * 3)
                )
        if len(body) < 20:
            break
    bent_data = bytes(body)
    match source.randrange(4):
        case 0:
            return bent_data[: source.randrange(len(bent_data))]
        case 1:
            return bent_data + data[-8:]
    return seal(bent_data)
