"""Journals go from Kora to redis-server and back: what random commands have made of the data is there as before."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.engine.loading import Loading
from kora.persist.journal_files import Manifest
from kora.persist.loading import run as run_steps
from kora.persist.replaying import load_journal
from tests.resp_reader import read_replies

from .peers import DATABASES, Kora, RedisServer, redis_server, requests
from .profile import examples
from .test_dumping import contents
from .test_mixed_commands import _in_transaction, _long_programs, programs_of_all_kinds
from .words import KEYS, Step, words
from .words_streams import with_consumers

_SCRIPT = b"redis.call('SPOP', KEYS[1]) redis.call('INCR', KEYS[2]) return redis.call('SETEX', KEYS[2], 5000, 'v')"
# What blocks only outside of transactions would do so in real time; and what Redis 7.0 does not know.
_LEFT_OUT = (b"BLPOP", b"BRPOP", b"BLMPOP", b"BLMOVE", b"BRPOPLPUSH", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP")
_END: list[Step] = [(b"DISCARD",), (b"SELECT", b"0")]


@pytest.fixture(scope="module")
def journaling_redis() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "yes", "--appendfsync", "no", "--aof-timestamp-enabled", "yes") as server:
        yield server


def _journaling_kora(now_us: int) -> Kora:
    kora = Kora(now_us=now_us)
    kora.engine.journal.set_on(True)
    return kora


def _load(directory: Path, now_us: int) -> Kora:
    kora = Kora(now_us=now_us)
    manifest = Manifest.parse((directory / "appendonly.aof.manifest").read_bytes())
    run_steps(load_journal(kora.engine, str(directory), manifest, Loading(kora.clock, 0)))
    return kora


def _write(directory: Path, data: bytes) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "appendonly.aof.1.incr.aof").write_bytes(data)
    (directory / "appendonly.aof.manifest").write_bytes(Manifest().with_increment("appendonly.aof").encode())


def _all_of(run: Any, with_dumps: bool = False) -> dict[tuple[int, bytes], Any]:
    """What is under every key of every database, and when it ends."""
    found = {}
    for index in range(DATABASES):
        run("SELECT", index)
        for key in KEYS:
            if run("EXISTS", key) == b":0\r\n":
                continue
            content = contents(run, key)
            dump = run("DUMP", key) if with_dumps and content[0] != "stream" else b""
            found[index, key] = content, read_replies(run("PEXPIRETIME", key))[0], dump
    run("SELECT", 0)
    return found


def _playable(program: list[Step]) -> list[Step]:
    return [step for step in with_consumers(program) if step[0].upper() not in _LEFT_OUT] + _END


_scripts = words("EVAL", _SCRIPT, "2", st.sampled_from(KEYS), st.sampled_from(KEYS))
_transactions = st.builds(
    lambda before, inside, after: [*before, (b"MULTI",), *inside, (b"EXEC",), *after],
    _in_transaction,
    _in_transaction,
    _long_programs({f"script {number}": _scripts for number in range(3)}, 6),
)


@given(program=st.one_of(programs_of_all_kinds, programs_of_all_kinds, _transactions))
@examples(160)
def test_a_journal_of_kora_is_what_redis_and_kora_load(journaling_redis: RedisServer, program: list[Step]) -> None:
    redis = journaling_redis
    redis.run("FLUSHALL")
    now_us = redis.now_us()
    kora = _journaling_kora(now_us)
    kora.exchange(requests(_playable(program)))
    expected = _all_of(kora.run)
    data = kora.engine.journal.effects.take()
    directory = redis.directory / "kora"
    _write(directory, data)
    assert _all_of(_load(directory, now_us).run, with_dumps=True) == _all_of(kora.run, with_dumps=True)
    (increment,) = (redis.directory / "appendonlydir").glob("*.incr.aof")
    with increment.open("r+b") as file:
        file.truncate(0)
        file.write(data)
    assert redis.run("DEBUG", "LOADAOF") == b"+OK\r\n", redis.log_path.read_text()[-2000:]
    assert _all_of(redis.run) == expected


@given(program=st.one_of(programs_of_all_kinds, programs_of_all_kinds, _transactions))
@examples(80)
def test_a_journal_of_redis_is_what_kora_loads(journaling_redis: RedisServer, program: list[Step]) -> None:
    redis = journaling_redis
    redis.run("FLUSHALL")
    now_us = redis.now_us()
    with redis.connect() as connection:
        connection.exchange(requests(_playable(program)))
    assert _all_of(_load(redis.directory / "appendonlydir", now_us).run) == _all_of(redis.run)
    assert os.path.exists(redis.directory / "appendonlydir")
