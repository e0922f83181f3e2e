"""redis-server loads what Kora has saved, and has the same data then: every type in every encoding, and random content.

redis-check-rdb finds nothing wrong with the file, and DEBUG DIGEST of both is the same.
"""

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kora import kernel
from kora.clock import Clock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from kora.persist.saving import Saver
from kora.persist.snapshots import Snapshots
from tests.compat.peers import RedisServer, redis_server
from tests.conftest import LONG, runner
from tests.peers import peer

_LIBRARY = "#!lua name=mine\nredis.register_function('answer', function() return 42 end)"


@pytest.fixture
def make_kora(tmp_path: Path) -> Callable[..., Engine]:
    def make(*flags: str) -> Engine:
        config = Config.load(["--dir", str(tmp_path), "--databases", "4", "--enable-debug-command", "yes", *flags], {})
        engine = Engine(config, make_registry(), Clock(), kernel=kernel.load())
        engine.saves = Snapshots(engine, Saver(engine))
        return engine

    return make


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_redis_loads_every_type_in_every_encoding(
    make_kora: Callable[..., Engine], redis: RedisServer, tmp_path: Path
) -> None:
    run = runner(make_kora().connect())
    fill(run)
    loaded_alike(run, redis, tmp_path)
    assert b"h-large" in redis.run("KEYS", "*")


def test_redis_loads_what_is_not_compressed_and_has_no_checksum(
    make_kora: Callable[..., Engine], redis: RedisServer, tmp_path: Path
) -> None:
    run = runner(make_kora("--rdbcompression", "no", "--rdbchecksum", "no").connect())
    fill(run)
    loaded_alike(run, redis, tmp_path)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_redis_loads_how_keys_were_used(
    make_kora: Callable[..., Engine], redis: RedisServer, tmp_path: Path, policy: str
) -> None:
    run = runner(make_kora("--maxmemory-policy", policy).connect())
    fill(run)
    loaded_alike(run, redis, tmp_path)


def test_redis_loads_functions_and_deadlines(
    make_kora: Callable[..., Engine], redis: RedisServer, tmp_path: Path
) -> None:
    run = runner(make_kora().connect())
    peer_lua = run("FUNCTION", "LOAD", _LIBRARY)
    assert peer_lua == b"mine"
    run("SET", "ends", "later", "PXAT", 4_000_000_000_123)
    run("SADD", "also", "x")
    run("PEXPIREAT", "also", 4_000_000_000_456)
    loaded_alike(run, redis, tmp_path)
    assert redis.run("FCALL", "answer", 0) == b":42\r\n"
    assert redis.run("PEXPIRETIME", "ends") == b":4000000000123\r\n"
    assert redis.run("PEXPIRETIME", "also") == b":4000000000456\r\n"
    redis.run("FUNCTION", "FLUSH")


def test_redis_loads_groups_of_streams(make_kora: Callable[..., Engine], redis: RedisServer, tmp_path: Path) -> None:
    run = runner(make_kora().connect())
    for number in range(1, 301):
        run("XADD", "x", f"{number}-{number % 3}", "field", number, *(("more", "v") if number % 7 == 0 else ()))
    run("XDEL", "x", "5-2", "300-0")
    run("XGROUP", "CREATE", "x", "g", "0")
    run("XREADGROUP", "GROUP", "g", "one", "COUNT", 20, "STREAMS", "x", ">")
    run("XREADGROUP", "GROUP", "g", "two", "COUNT", 5, "STREAMS", "x", ">")
    run("XACK", "x", "g", "1-1", "2-2")
    loaded_alike(run, redis, tmp_path)
    assert redis.run("XPENDING", "x", "g").startswith(b"*4\r\n:23\r\n")
    assert b"last-generated-id\r\n$5\r\n300-0" in redis.run("XINFO", "STREAM", "x")


@pytest.mark.parametrize("seed", range(60 if LONG else 4))
def test_redis_loads_random_content(
    make_kora: Callable[..., Engine], redis: RedisServer, tmp_path: Path, seed: int
) -> None:
    pick = random.Random(seed)
    run = runner(make_kora().connect())
    for number in range(60):
        run("SELECT", pick.randrange(4))
        count = pick.choice([1, 3, 100, 200, 700])
        texts = [some_text(pick) for _ in range(count)]
        key = some_text(pick) + b"%d" % number
        match pick.randrange(6):
            case 0:
                run("SET", key, texts[0])
            case 1:
                run("HSET", key, *texts, *texts)
            case 2:
                run("SADD", key, *texts)
            case 3:
                run("RPUSH", key, *texts)
            case 4:
                words = (
                    word for text in texts for word in (pick.choice([1, -7, 0.1, 1e300, "inf", 2**53, -0.0]), text)
                )
                run("ZADD", key, *words)
            case 5:
                for _ in range(min(count, 120)):
                    run("XADD", key, "*", *texts[:2], *texts[:2])
    loaded_alike(run, redis, tmp_path)


def some_text(pick: random.Random) -> bytes:
    match pick.randrange(6):
        case 0:
            return b"%d" % pick.choice(
                [0, 1, -1, 127, 128, -128, -129, 4095, -4096, 4096, 32767, 32768, -(1 << 31), 1 << 31]
            )
        case 1:
            return b"%d" % (pick.choice([-1, 1]) * (1 << pick.randrange(63)))
        case 2:
            return pick.randbytes(pick.choice([0, 1, 10, 63, 64, 65, 300]))
        case 3:
            return b"ab" * pick.choice([1, 10, 11, 40, 2100])
        case 4:
            return b"%d" % pick.randrange(10**21)
    return b"word%d" % pick.randrange(1000)


def fill(run: Callable[..., Any]) -> None:
    for number in [*range(70), 16383, 16384, 40_000, 100_000]:
        run("SET", f"s{number}", "x" * number)
    for bits in range(64):
        run("SET", f"i{bits}", 1 << bits)
        run("SET", f"j{bits}", -(1 << bits))
    run("APPEND", "raw", "12")
    run("SETBIT", "bits", 1000, 1)
    run("PFADD", "hll", *range(100))
    run("HSET", "h-small", *range(-40, 40), "z" * 60, "end")
    run("HSET", "h-large", *[f"word {number}" for number in range(4000)])
    for width in (100, 100_000, 1 << 40):
        run("SADD", f"s-integers-{width}", *[width + number for number in range(-20, 20)])
    run("SADD", "s-small", "a", "17", "-300")
    run("SADD", "s-large", *[f"member {number}" for number in range(1000)])
    run("RPUSH", "l-small", *range(-50, 50))
    run("RPUSH", "l-large", *[f"item {number}" * (number % 50) for number in range(3000)])
    run("RPUSH", "l-giant", "y" * 20_000, "z", "y" * 9_000)
    scores = [1, 2.5, "inf", "-inf", 0.1, 1e300, 5e-324, -0.0, 1 << 52, (1 << 53) + 2]
    run("ZADD", "z-small", *[word for at, score in enumerate(scores) for word in (score, f"m{at}")])
    run("ZADD", "z-large", *[word for at in range(1000) for word in (at * 0.37, f"m{at}")])
    run("SELECT", 3)
    run("SET", "elsewhere", "1")
    run("SELECT", 0)


def loaded_alike(run: Callable[..., Any], redis: RedisServer, folder: Path) -> None:
    """Save, have the file checked, and loaded by Redis; both have the same data then."""
    assert run("SAVE") == "OK"
    path = folder / "dump.rdb"
    check = subprocess.run([peer("redis-check-rdb"), str(path)], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout
    (redis.directory / "dump.rdb").write_bytes(path.read_bytes())
    assert redis.run("DEBUG", "RELOAD", "NOSAVE") == b"+OK\r\n", redis.log_path.read_text()[-2000:]
    assert redis.run("DEBUG", "DIGEST").strip() == b"+" + run("DEBUG", "DIGEST").encode()
