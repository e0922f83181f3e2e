"""A journal in which bytes were flipped, cut, added or doubled: refused, or cut where that is told; never made up.

A journal has no checksums, so a flipped bit within a value is a value.  What is loaded must be what the commands say
that are in the file, each whole, up to a place that is reported; this is found out apart from the loader, by reading
record after record and running each as if a client had sent it.
"""

import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.errors import CommandError
from kora.persist.files import Files
from kora.persist.journal import JournalKeeper
from kora.persist.journal_check import examine
from kora.persist.journal_files import read_records
from kora.persist.loading import CannotLoad
from kora.persist.recovery import CannotRecover, recover
from kora.persist.saving import Saver
from tests.conftest import LONG, encode_request
from tests.resp_reader import read_replies

CASES: Final = 30_000 if LONG else 120
SEED: Final = time.time_ns() if LONG else 1
# No case takes a hundredth of that; one that goes on for ever is ended.
CASE_S_MAX: Final = 20
GROWN_BYTES_MAX: Final = 256 << 20

REQUESTS: Final = (
    ("SELECT", 0), ("SET", "string", "v\r\n*1\r\n$4\r\nPING\r\n"), ("APPEND", "string", "more"), ("INCRBY", "n", 41),
    ("SET", "far", "v", "PXAT", 4_000_000_000_000), ("HSET", "hash", "f", "v", "g", "w"), ("HDEL", "hash", "f"),
    ("MULTI",), ("RPUSH", "list", "a", "b"), ("LPOP", "list"), ("SELECT", 3), ("SADD", "set", "1", "2"), ("EXEC",),
    ("ZADD", "zset", "1.5", "m"), ("XADD", "stream", "5-1", "f", "v"), ("SELECT", 0), ("DEL", "n"),
    ("SET", "large", "x" * 700), ("MSET", "a", "1", "b", "2"), ("PEXPIREAT", "a", 4_000_000_000_000),
    ("MULTI",), ("SET", "m", "1"), ("EXEC",), ("LPUSH", "list", "c"),
)  # fmt: skip
FIRST: Final = b"".join(map(encode_request, REQUESTS[:13]))
SECOND: Final = b"#TS:1700000000\r\n" + b"".join(map(encode_request, (("SELECT", 0), *REQUESTS[13:])))
NAMES: Final = ("appendonly.aof.1.base.aof", "appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof")
MANIFEST: Final = b"file %b seq 1 type b\nfile %b seq 1 type i\nfile %b seq 2 type i\n" % tuple(map(str.encode, NAMES))


# `i` is one bit away from `h`, which is for files that may be removed.
TYPE_FLIPS: Final = [place * 8 for place in range(len(MANIFEST)) if MANIFEST[place - 1 : place + 2] == b" i\n"]

REGISTRY: Final = make_registry()


def make_engine(folder: Path) -> Engine:
    flags = ["--databases", "4", "--dir", str(folder), "--appendonly", "yes"]
    return Engine(Config.load(flags, {}), REGISTRY, ManualClock(), kernel=kernel.load())


def mutate(chance: random.Random, data: bytes) -> bytes:
    """One or two changes, of those that disks and people make."""
    for _ in range(chance.choice((1, 1, 1, 2))):
        place = chance.randrange(len(data) + 1)
        size = chance.choice((1, 1, 2, 7, 40, 300))
        match chance.randrange(8):
            case 0 | 1 | 2:
                place = min(place, len(data) - 1)
                data = data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
            case 3:
                data = data[:place]
            case 4:
                data = data[:place] + data[place + size :]
            case 5:
                data = data[:place] + data[place : place + size] + data[place:]
            case 6:
                data = data[:place] + bytes(size)
            case 7:
                data = data[:place] + chance.randbytes(size) + data[place:]
    return data


def write_journal(folder: Path, parts: tuple[bytes, bytes, bytes], manifest: bytes) -> Path:
    directory = folder / "appendonlydir"
    directory.mkdir(parents=True)
    for name, part in zip(NAMES, parts, strict=True):
        (directory / name).write_bytes(part)
    (directory / "appendonly.aof.manifest").write_bytes(manifest)
    return directory


class QuickFiles(Files):
    """No power is cut here."""

    def fsync(self, descriptor: int) -> None:
        pass


def load(folder: Path) -> tuple[Engine, list[str]]:
    """What a start makes of it, and what it tells in the log.  Raises CannotRecover."""
    engine = make_engine(folder)
    told: list[str] = []
    engine.log = lambda level, message, **fields: told.append(f"{level}: {message} {fields}")
    keeper = JournalKeeper(engine, Saver(engine), QuickFiles())
    for _ in recover(engine, keeper):
        pass
    keeper.stop()
    return engine, told


def digest(engine: Engine) -> object:
    """Of all that an engine holds, and when keys end."""
    client = engine.connect("127.0.0.1:1", "127.0.0.1:2")
    (contents,) = read_replies(engine.execute(client, encode_request(("DEBUG", "DIGEST"))))
    deadlines = []
    for database in range(4):
        requests = (("SELECT", database), *(("PEXPIRETIME", key) for key in ("far", "a", "string", "n")))
        deadlines.append(read_replies(engine.execute(client, b"".join(map(encode_request, requests)))))
    return contents, deadlines


def replay(folder: Path, parts: list[bytes]) -> tuple[Engine, bool]:
    """What the commands say, one after another; and whether one of them is refused."""
    engine = make_engine(folder)
    is_refused = False
    for part in parts:
        client = engine.connect("127.0.0.1:1", "127.0.0.1:2")
        for record in read_records(part):
            if record.argv:
                (reply,) = read_replies(engine.execute(client, encode_request(tuple(record.argv))))
                is_refused |= isinstance(reply, CommandError)
                is_refused |= isinstance(reply, list) and any(isinstance(each, CommandError) for each in reply)
    return engine, is_refused


@pytest.fixture
def no_hang() -> Iterator[Callable[[], None]]:
    """Call it before each case: the one that does not end is interrupted, with its traceback."""

    def ended(*_: object) -> None:
        raise TimeoutError(f"not done within {CASE_S_MAX} s")

    before = signal.signal(signal.SIGALRM, ended)
    yield lambda: signal.alarm(CASE_S_MAX)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_mutated_journal_is_refused_or_cut_in_front_of_the_fault(tmp_path: Path, no_hang: Callable[[], None]) -> None:
    grown_from = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = Counter[str]()
    for case in range(CASES):
        no_hang()
        chance = random.Random(f"{SEED}-{case}")
        parts = [FIRST, FIRST, SECOND]
        which = chance.choice((0, 1, 2, 2))
        parts[which] = mutate(chance, parts[which])
        folder = tmp_path / str(case)
        outcomes[check_case(folder, tuple(parts), which, f"case {case} of seed {SEED}")] += 1
        shutil.rmtree(folder)
    assert outcomes["refused"] and outcomes["cut"] and outcomes["loaded"], outcomes
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_from) * 1024
    assert grown_bytes < GROWN_BYTES_MAX, grown_bytes


def check_case(folder: Path, parts: tuple[bytes, bytes, bytes], which: int, case: str) -> str:
    directory = write_journal(folder, parts, MANIFEST)
    path = directory / NAMES[which]
    findings = examine(str(path), no_snapshot)
    good = [*parts[:which], parts[which][: findings.good_bytes], *parts[which + 1 :]]
    try:
        engine, told = load(folder)
    except CannotRecover as error:
        assert path.read_bytes() == parts[which], f"{case}: refused, and changed all the same"
        assert str(path) in str(error) and "kora check" in str(error), f"{case}: {error}"
        # What stands in an annotation is read as an inline command would be.
        is_odd = "unbalanced quotes" in str(error)
        assert findings.fault or is_odd or replay(folder, good)[1], f"{case}: refused without a reason: {error}"
        return "refused"
    assert path.read_bytes() == good[which], f"{case}: loaded up to {path.stat().st_size}, though {findings}"
    if findings.fault:
        assert findings.is_torn and which == len(parts) - 1, f"{case}: cut, though {findings}"
        assert any("journal cut" in line and str(findings.good_bytes) in line for line in told), f"{case}: {told}"
    expected, is_refused = replay(folder, good)
    assert not is_refused, f"{case}: loaded, though a command has failed"
    assert digest(engine) == digest(expected), f"{case}: loaded is something else than what is in the files"
    return "cut" if findings.fault else "loaded"


def test_a_mutated_manifest_is_refused_or_says_the_same(tmp_path: Path, no_hang: Callable[[], None]) -> None:
    whole = digest(replay(tmp_path, [FIRST, FIRST, SECOND])[0])
    cases = len(MANIFEST) * 8 + CASES // 4
    for case in range(cases) if LONG else [*TYPE_FLIPS, *random.Random(SEED).sample(range(cases), 100)]:
        no_hang()
        chance = random.Random(f"{SEED}-{case}")
        place, bit = divmod(case, 8)
        if place < len(MANIFEST):
            manifest = MANIFEST[:place] + bytes([MANIFEST[place] ^ 1 << bit]) + MANIFEST[place + 1 :]
        else:
            manifest = mutate(chance, MANIFEST)
        folder = tmp_path / str(case)
        directory = write_journal(folder, (FIRST, FIRST, SECOND), manifest)
        try:
            engine, _ = load(folder)
        except CannotRecover:
            assert (directory / "appendonly.aof.manifest").read_bytes() == manifest
        else:
            assert digest(engine) == whole, f"case {case} of seed {SEED}: {manifest!r}"
            assert all((directory / name).exists() for name in NAMES), f"case {case}: {manifest!r}"
        shutil.rmtree(folder)


def no_snapshot(path: str, file: object) -> int:
    raise CannotLoad(path, 0, "there is no snapshot in these")
