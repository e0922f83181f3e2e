"""`kora import` and `kora export` between real servers: all of the data arrives, and what does not is told."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kora.cli import importing
from kora.cli.operator import run
from tests.compat.peers import RedisServer, redis_server, requests
from tests.e2e.kora_process import KoraProcess
from tests.persist.rdb_files import contents, load, make_engine

KEYS = 2500
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as redis:
        yield redis


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """With keys of all types in two databases, and a library of functions."""
    redis = shared_redis
    redis.reset()
    redis.run("FUNCTION", "FLUSH")
    redis.run("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
    program: list[tuple[object, ...]] = [("DEBUG", "POPULATE", KEYS), ("SET", "ttl", "v", "PX", 10_000_000)]
    program += [("RPUSH", "list", *range(500)), ("SADD", "set", *range(0, 2000, 3)), ("HSET", "hash", "f", "v" * 100)]
    program += [("ZADD", "zset", 1.5, "a", "-inf", "b"), ("XADD", "stream", "1-1", "f", "v"), ("SELECT", 2)]
    program += [("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"), ("SET", "long", "x" * 3_000_000), ("SELECT", 0)]
    redis.control.exchange(requests(program))
    return redis


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the state of imports is kept."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def url(server: RedisServer | KoraProcess) -> str:
    return f"unix://{server.socket_path}" if isinstance(server, RedisServer) else f"redis://127.0.0.1:{server.port}"


def import_(redis: RedisServer, server: KoraProcess, *flags: str) -> int:
    return run(["import", url(redis), "--to", url(server), *flags])


def test_an_import_copies_all_there_is(redis: RedisServer, server: KoraProcess, place: Path, capsys: Capture) -> None:
    assert import_(redis, server) == 0
    assert f"{KEYS + 8} keys copied, 0 failed" in capsys.readouterr().out
    assert list(place.iterdir()) == []
    assert b"+%b\r\n" % server.run("DEBUG", "DIGEST") == redis.run("DEBUG", "DIGEST")
    assert server.run("FCALL", "f", 0) == 7
    assert 9_000_000 < server.run("PTTL", "ttl") <= 10_000_000


@pytest.mark.once
def test_keys_of_the_target_are_not_replaced_unasked(
    redis: RedisServer, server: KoraProcess, place: Path, capsys: Capture
) -> None:
    server.run("SET", "key:0", "mine")
    assert import_(redis, server) == 1
    assert "database 0 of the target has 1 keys; see --replace" in capsys.readouterr().err
    assert server.run("GET", "key:0") == b"mine"
    assert import_(redis, server, "--replace") == 0
    assert server.run("GET", "key:0") == b"value:0"


@pytest.mark.once
def test_one_database_can_be_copied_alone(redis: RedisServer, server: KoraProcess, place: Path) -> None:
    assert run(["import", url(redis) + "?db=2", "--to", url(server)]) == 0
    assert server.run("DBSIZE") == 0
    assert server.run("INFO", "keyspace") == b"# Keyspace\r\ndb2:keys=2,expires=0,avg_ttl=0\r\n"


@pytest.mark.once
def test_an_import_that_was_broken_off_goes_on_where_it_was(
    redis: RedisServer, server: KoraProcess, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importing.Progress, "add", _interrupt_after(5))
        assert import_(redis, server) == 130
    assert len(list(place.iterdir())) == 1
    before = server.run("DBSIZE")
    assert 0 < before < KEYS
    # What has been copied is not copied again.
    server.run("DEL", *(b"key:%d" % number for number in range(KEYS)))
    assert import_(redis, server) == 1
    told = capsys.readouterr()
    assert "going on behind the first" in told.err
    assert "keys at the source, and" in told.out
    assert import_(redis, server, "--restart") == 0
    assert b"+%b\r\n" % server.run("DEBUG", "DIGEST") == redis.run("DEBUG", "DIGEST")
    assert list(place.iterdir()) == []


def _interrupt_after(steps: int) -> Callable[..., None]:
    counter = itertools.count(1)

    def add(*_: Any) -> None:
        if next(counter) > steps:
            raise KeyboardInterrupt

    return add


@pytest.mark.once
def test_a_server_is_not_copied_into_itself(server: KoraProcess, capsys: Capture) -> None:
    assert run(["import", url(server), "--to", url(server)]) == 1
    assert "the same server" in capsys.readouterr().err


@pytest.mark.once
def test_nobody_there_is_one_line(place: Path, capsys: Capture) -> None:
    assert run(["import", "redis://127.0.0.1:1"]) == 1
    assert run(["export", "rdb", "x.rdb", "redis://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.count("\n") == 2
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("flags", [(), ("--walk",)], ids=["snapshot", "walk"])
def test_an_export_has_all_keys(redis: RedisServer, place: Path, capsys: Capture, flags: tuple[str, ...]) -> None:
    assert run(["export", "rdb", "copy.rdb", url(redis), *flags]) == 0
    assert f"copy.rdb: {KEYS + 8} keys" in capsys.readouterr().out
    assert [path.name for path in place.iterdir()] == ["copy.rdb"]
    assert run(["check", "copy.rdb"]) == 0
    snapshot, exported = make_engine(), make_engine()
    redis.run("SAVE")
    load(snapshot, (redis.directory / "dump.rdb").read_bytes())
    assert load(exported, (place / "copy.rdb").read_bytes()).functions == 1
    assert contents(snapshot) == contents(exported)


@pytest.mark.parametrize("flags", [(), ("--walk",)], ids=["snapshot", "walk"])
def test_what_was_exported_from_kora_is_loaded_by_redis(
    redis: RedisServer, server: KoraProcess, place: Path, capsys: Capture, flags: tuple[str, ...]
) -> None:
    assert import_(redis, server) == 0
    assert run(["export", "rdb", "copy.rdb", url(server), *flags]) == 0
    assert ("the snapshot that the server has written" in capsys.readouterr().err) == (not flags)
    (redis.directory / "dump.rdb").write_bytes((place / "copy.rdb").read_bytes())
    digest = redis.run("DEBUG", "DIGEST")
    redis.run("FLUSHALL")
    assert redis.run("DEBUG", "RELOAD", "NOSAVE") == b"+OK\r\n"
    assert redis.run("DEBUG", "DIGEST") == digest
