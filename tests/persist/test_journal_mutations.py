"""A journal in which bytes were flipped, cut, added or doubled: refused, or cut where that is told; never made up.

A journal has no checksums, so a flipped bit within a value is a value.  What is loaded must be what the commands say
that are in the file, each whole, up to a place that is reported; this is found out apart from the loader, by reading
record after record and running each as if a client had sent it.
"""

import os
import random
import resource
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.persist.journal_check import examine
from kora.persist.journal_files import read_records
from tests.conftest import LONG, encode_request
from tests.resp_reader import read_replies

CASES: Final = 30_000 if LONG else 250
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


def make_engine(folder: Path) -> Engine:
    flags = ["--databases", "4", "--dir", str(folder), "--appendonly", "yes"]
    return Engine(Config.load(flags, {}), REGISTRY, ManualClock(), kernel=kernel.load())


REGISTRY: Final = make_registry()


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
