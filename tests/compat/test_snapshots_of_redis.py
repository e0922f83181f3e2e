"""Snapshots go from redis-server to Kora: what random commands make there is there after loading, digest and all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.engine.loading import Loading
from kora.persist.loading import load_rdb, run
from tests.resp_reader import read_replies

from .peers import Kora, RedisServer, redis_server, requests
from .profile import examples
from .test_dumping import FAMILIES, SMALL, USUAL, contents
from .words import KEYS, Step, programs, words

# In all families at once, and in several databases.
EVERYTHING = {
    **{name: step for family in FAMILIES.values() for name, step in family.items()},
    "SELECT": words("SELECT", "1"),
}


_SOON_MS = 60_000


def load_snapshot(redis: RedisServer, kora: Kora) -> None:
    assert redis.run("SAVE") == b"+OK\r\n"
    path = redis.directory / "dump.rdb"
    size_bytes = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        run(load_rdb(kora.engine, file, size_bytes, Loading(kora.engine.clock, size_bytes), path=str(path)))


def keep_for_the_test(redis: RedisServer) -> None:
    """Kora's clock stands still and that of redis-server does not: what ends soon would be there and here not."""
    for database in (0, 1):
        redis.run("SELECT", database)
        for key in KEYS:
            if 0 <= int(redis.run("PTTL", key)[1:]) < _SOON_MS:
                redis.run("PERSIST", key)
    redis.run("SELECT", 0)


@given(program=programs(EVERYTHING, max_size=60), small=st.booleans())
@examples(300)
def test_the_snapshot_of_redis_is_what_kora_loads(redis: RedisServer, program: list[Step], small: bool) -> None:
    redis.reset()
    settings = [("CONFIG", "SET", *pair) for pair in (SMALL if small else USUAL)]
    with redis.connect() as connection:
        connection.exchange(requests([*settings, *program]))
    keep_for_the_test(redis)
    kora = Kora(now_us=redis.now_us())
    load_snapshot(redis, kora)
    for server in (redis, kora):
        server.run("SELECT", 0)
    for database in (0, 1):
        assert redis.run("SELECT", database) == kora.run("SELECT", database)
        for key in KEYS:
            assert kora.run("TYPE", key) == redis.run("TYPE", key)
            if redis.run("TYPE", key) != b"+none\r\n":
                assert contents(kora.run, key) == contents(redis.run, key)
            assert kora.run("PEXPIRETIME", key) == redis.run("PEXPIRETIME", key)
    redis.run("SELECT", 0)
    assert redis.run("DEBUG", "DIGEST") == kora.run("DEBUG", "DIGEST")
    redis.control.exchange(requests([("CONFIG", "SET", *pair) for pair in USUAL]))


@pytest.mark.parametrize("checksum", ["yes", "no"])
def test_large_values_of_redis_are_loaded(checksum: str) -> None:
    with redis_server("--rdbchecksum", checksum, "--maxmemory-policy", "allkeys-lfu") as redis:
        script = """
            for i = 1, 3000 do
                redis.call('RPUSH', 'list', ('x'):rep(i % 300) .. i)
                redis.call('SADD', 'set', 'member-' .. i)
                redis.call('ZADD', 'zset', i / 7, 'member-' .. i)
                redis.call('HSET', 'hash', 'field-' .. i, i)
                redis.call('XADD', 'stream', i .. '-1', 'field', i)
                redis.call('SET', 'key:' .. i, i, 'PX', 1000000000 + i)
            end
            redis.call('SET', 'long', ('abcdefgh'):rep(200000))
        """
        redis.run("EVAL", script, 0)
        redis.run("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
        kora = Kora(now_us=redis.now_us())
        load_snapshot(redis, kora)
        assert redis.run("DEBUG", "DIGEST") == kora.run("DEBUG", "DIGEST")
        assert redis.run("FUNCTION", "LIST") == kora.run("FUNCTION", "LIST")
        assert read_replies(kora.run("DBSIZE")) == [3006]
