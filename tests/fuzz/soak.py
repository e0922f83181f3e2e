"""Whether memory is given back: python tests/fuzz/soak.py [--commands 50000000].

Mixed commands over so many keys and no more, in pipelines through execute(), without sockets: strings of all sizes,
numbers, deadlines that pass, databases that are flushed and swapped, most of it in the kernel and some in Python.
Tells the resident memory as it goes, and exits with 1 if it grew by more than a bound from the first tenth to the end.
"""

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.store.expiry import expire_cycle
from kora.store.lazyfree import free_some
from tests.fuzz.pair import encode

KEYS = 20_000
PIPELINE = 200
PIPELINES = 300
REPORTS = 20
# What the heap may have come to hold in pieces that nobody uses: a leak of one byte a command is 45 MB.
GROWTH_BYTES_MAX = 16 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=50_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth-max", type=int, default=GROWTH_BYTES_MAX, help="bytes; 16 MiB if not given")
    options = parser.parse_args()
    source = random.Random(options.seed)
    clock = ManualClock()
    config = Config.load(["--databases", "4", "--enable-debug-command", "yes"], {})
    engine = Engine(config, make_registry(), clock, kernel=kernel.load())
    print(f"{options.commands} commands on {engine.kernel}", flush=True)
    # The same pipelines again and again, so that time goes into commands; in an order, with values and at times that
    # never repeat.
    pipelines = [_pipeline(source) for _ in range(PIPELINES)]
    commands = 0
    first_bytes = 0
    reported = 0
    started_s = time.monotonic()
    client = engine.connect()
    while commands < options.commands:
        for _ in range(50):
            data = pipelines[source.randrange(PIPELINES)]
            cut = source.randrange(len(data))
            engine.execute(client, data[:cut])
            engine.execute(client, data[cut:])
            while client.more and not client.closing:
                engine.resume(client)
            commands += PIPELINE
        clock.advance_ms(source.randrange(2_000))
        _do_background_work(engine)
        if source.randrange(20) == 0:
            engine.forget(client)
            client = engine.connect()  # the old one goes with what it had not finished
        if commands * REPORTS >= (reported + 1) * options.commands:
            reported = commands * REPORTS // options.commands
            gc.collect()
            bytes_now = resident_bytes()
            if not first_bytes and commands * 10 >= options.commands:
                first_bytes = bytes_now
            print(
                f"{commands:>12} commands  {bytes_now / (1 << 20):8.1f} MiB resident  {engine.keys:>6} keys"
                f"  {engine.memory_bytes / (1 << 20):7.1f} MiB counted"
                f"  {commands / (time.monotonic() - started_s):9.0f}/s",
                flush=True,
            )
    assert engine.internal_errors == 0, engine.internal_errors
    for db in engine.databases.used():
        db.flush()
    _do_background_work(engine)
    if engine.memory_bytes:
        print(f"FAILED: {engine.memory_bytes} bytes are counted where nothing is stored")
        return 1
    growth = bytes_now - first_bytes
    print(
        f"grown by {growth / (1 << 20):.1f} MiB since the first tenth; allowed are {options.growth_max / (1 << 20):.1f}"
    )
    if growth > options.growth_max:
        print("FAILED: memory is not given back")
        return 1
    return 0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _do_background_work(engine: Engine) -> None:
    engine.tick()
    databases = engine.databases.used()
    for shard in engine.shards:
        while databases and expire_cycle(shard, databases, 1 << 40, engine.clock):
            pass
        while shard.lazyfree:
            free_some(shard, 1 << 40, engine.clock)


def _pipeline(source: random.Random) -> bytes:
    forms: list[Callable[[], list[bytes]]] = [_frequent, _frequent, _frequent, _frequent, _frequent, _rare]
    requests = []
    for number in range(PIPELINE):
        words = forms[source.randrange(len(forms))](source)
        if number and source.randrange(15_000) == 0:
            words = source.choice(([b"FLUSHDB", b"ASYNC"], [b"FLUSHALL"], [b"SWAPDB", b"0", b"1"]))
        requests.append(encode(words))
    return b"".join([*requests[:-1], encode([b"CLIENT", b"REPLY", b"ON"])])


def _key(source: random.Random) -> bytes:
    number = source.randrange(KEYS)
    # A fifth of the keys share a slot, whose table splits and becomes one again.
    return b"{t}:%d" % number if number % 5 == 0 else b"key:%d" % number


def _value(source: random.Random) -> bytes:
    kind = source.randrange(100)
    if kind < 60:
        return bytes(source.randrange(200))
    if kind < 80:
        return b"%d" % source.randrange(1 << 40)
    return bytes(source.randrange(3_000) if kind < 99 else source.randrange(30_000, 100_000))


def _frequent(source: random.Random) -> list[bytes]:
    key = _key(source)
    kind = source.randrange(16)
    if kind < 3:
        return [b"GET", key]
    if kind < 6:
        return [b"SET", key, _value(source)]
    if kind == 6:
        return [b"SET", key, _value(source), b"PX", b"%d" % (1 + source.randrange(5_000))]
    if kind == 7:
        return [b"DEL", key, _key(source)]
    if kind == 8:
        return [b"INCR", b"n" + key]
    if kind == 9:
        return [b"MSET", *[part for _ in range(5) for part in (_key(source), _value(source))]]
    if kind == 10:
        return [b"MGET", *[_key(source) for _ in range(20)]]
    if kind == 11:
        return [b"PEXPIRE", key, b"%d" % source.randrange(5_000)]
    if kind == 12:
        return [b"SETRANGE", key, b"%d" % source.randrange(300), b"part"]
    if kind == 13:
        return [b"APPEND", key, b"part"]
    if kind == 14:
        return [b"GETSET", key, _value(source)]
    return [b"GETDEL", key]


def _rare(source: random.Random) -> list[bytes]:
    key = _key(source)
    words: list[list[bytes]] = [
        [b"RENAME", key, _key(source)],
        [b"COPY", key, _key(source), b"REPLACE"],
        [b"MOVE", key, b"1"],
        [b"SELECT", b"%d" % source.randrange(3)],
        [b"SCAN", b"%d" % source.randrange(16384), b"COUNT", b"20"],
        [b"OBJECT", b"ENCODING", key],
        [b"INCRBYFLOAT", b"f" + key, b"1.5"],
        [b"LCS", b"lcs1", b"lcs2"],
        [b"SET", key],
        [b"NONESUCH", key],
        [b"INCR", key],
        [b"CLIENT", b"REPLY", b"SKIP"],
        [b"HELLO", b"%d" % (2 + source.randrange(2))],
        [b"CLIENT", b"LIST"],
        [b"INFO"],
        [b"CONFIG", b"GET", b"max*"],
        [b"TIME"],
        [b"RANDOMKEY"],
        [b"GETEX", key, b"EX", b"1"],
        [b"PERSIST", key],
    ]
    return source.choice(words)


if __name__ == "__main__":
    sys.exit(main())
