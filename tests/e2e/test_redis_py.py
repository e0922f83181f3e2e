"""redis-py, the client that most Python programs use: sync and asyncio, RESP2 and RESP3."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.e2e.kora_process import KoraProcess


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def protocol(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def client(server: KoraProcess, protocol: int) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as opened:
        yield opened


def test_set_and_get_with_every_option(client: "redis.Redis") -> None:
    assert client.get("k") is None
    assert client.set("k", "v") is True
    assert client.get("k") == "v"
    assert client.set("k", "no", nx=True) is None
    assert client.set("missing", "no", xx=True) is None
    assert client.set("k", "w", xx=True, get=True) == "v"
    assert client.set("k", "v", ex=100) is True
    assert 0 < client.ttl("k") <= 100
    assert client.set("k", "v2", keepttl=True) is True
    assert 0 < client.pttl("k") <= 100_000
    assert client.set("k", "v3", px=50_000) is True
    assert 0 < client.ttl("k") <= 50
    at_s = int(time.time()) + 1000
    assert client.set("k", "v4", exat=at_s) is True
    assert client.expiretime("k") == at_s
    assert client.set("k", "v5", pxat=at_s * 1000 + 1) is True
    assert client.pexpiretime("k") == at_s * 1000 + 1
    assert client.getex("k", persist=True) == "v5"
    assert client.ttl("k") == -1
    assert client.getex("k", ex=10) == "v5"
    assert client.getset("k", "v6") == "v5"
    assert client.getdel("k") == "v6"
    assert client.exists("k") == 0


def test_strings_and_counters(client: "redis.Redis") -> None:
    assert client.mset({"a": "1", "b": "2"}) is True
    assert client.mget("a", "b", "c") == ["1", "2", None]
    assert client.msetnx({"a": "0", "z": "0"}) is False
    assert client.incr("a") == 2
    assert client.incrby("a", 40) == 42
    assert client.decrby("a", 2) == 40
    assert client.incrbyfloat("a", 0.5) == 40.5
    assert client.append("b", "345") == 4
    assert client.strlen("b") == 4
    assert client.getrange("b", 1, 2) == "34"
    assert client.setrange("b", 1, "xx") == 4
    assert client.get("b") == "2xx5"
    # redis-py has its own name for these, and calls it deprecated.
    assert client.execute_command("SETEX", "c", 10, "v") in (True, "OK")
    assert client.execute_command("PSETEX", "c", 10_000, "v") in (True, "OK")
    assert client.execute_command("SETNX", "c", "w") in (False, 0)
    assert client.lcs("b", "c") == ""


def test_bytes_pass_unchanged(server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol) as client:
        data = bytes(range(256)) * 5000
        assert client.set(data[:1000], data) is True
        assert client.get(data[:1000]) == data
        assert client.strlen(data[:1000]) == len(data)
        assert client.keys("*") == [data[:1000]]


def test_pipelines_answer_in_order_with_errors_in_their_places(client: "redis.Redis") -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(3000):
            pipeline.set(f"k{number}", number)
            pipeline.get(f"k{number}")
        pipeline.incr("k5").execute_command("NONSENSE").get("k5")
        replies = pipeline.execute(raise_on_error=False)
    assert replies[:6000:2] == [True] * 3000
    assert replies[1:6000:2] == [str(number) for number in range(3000)]
    assert replies[6000] == 6
    assert isinstance(replies[6001], redis.ResponseError)
    assert replies[6002] == "6"


def test_scan_iter_gives_every_key(client: "redis.Redis") -> None:
    client.mset({f"key:{number}": "v" for number in range(2000)})
    client.set("other", "v")
    assert set(client.scan_iter("key:*", count=100)) == {f"key:{number}" for number in range(2000)}
    assert set(client.scan_iter(_type="string", match="o*")) == {"other"}
    assert list(client.scan_iter(_type="list")) == []


def test_keys_come_and_go(client: "redis.Redis") -> None:
    client.mset({"a": "1", "b": "2"})
    assert client.expire("a", 100, nx=True) is True
    assert client.expire("a", 200, nx=True) is False
    assert client.expire("a", 200, gt=True) is True
    assert client.expire("a", 100, lt=True) is True
    assert client.pexpireat("a", int(time.time() * 1000) + 50_000) is True
    assert client.persist("a") is True
    assert client.rename("a", "c") is True
    assert client.renamenx("c", "b") is False
    assert client.copy("c", "d") is True
    assert client.type("d") == "string"
    assert client.touch("c", "d", "e") == 2
    assert client.randomkey() in {"b", "c", "d"}
    assert client.unlink("c", "d") == 2
    assert client.delete("b") == 1
    assert client.dbsize() == 0
    client.set("short", "v", px=1)
    until = time.monotonic() + 20
    while client.exists("short"):
        assert time.monotonic() < until


def test_object_and_memory_tell_of_a_value(client: "redis.Redis") -> None:
    client.mset({"int": "42", "short": "abc", "long": "x" * 100})
    assert [client.object("encoding", key) for key in ("int", "short", "long")] == ["int", "embstr", "raw"]
    assert client.object("refcount", "long") == 1
    assert client.object("idletime", "long") >= 0
    assert client.object("encoding", "missing") is None
    assert 100 < client.memory_usage("long") < 300


def test_what_a_client_learns_of_itself_and_others(server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True, client_name="tester") as client:
        mine = client.client_id()
        rows = {int(row["id"]): row for row in client.client_list()}
        assert rows[mine]["name"] == client.client_getname() == "tester"
        assert rows[mine]["resp"] == str(protocol)
        assert rows[mine]["lib-name"].startswith("redis-py")
        assert client.client_info()["id"] == mine
        assert client.client_setname("renamed") is True
        assert client.client_list(client_id=[mine])[0]["name"] == "renamed"


def test_a_client_kills_another(server: KoraProcess) -> None:
    with redis.Redis(port=server.port) as killer, server.connect() as victim:
        victim_id = victim.run("CLIENT", "ID")
        assert killer.client_kill_filter(_id=str(victim_id)) == 1
        assert victim.read_to_end() == b""
        assert victim_id not in {int(row["id"]) for row in killer.client_list()}


def test_info_has_the_fields_that_programs_read(client: "redis.Redis", server: KoraProcess) -> None:
    client.set("k", "v")
    client.get("k")
    info = client.info()
    assert info["redis_version"].count(".") == 2
    assert info["process_id"] == server.pid
    assert info["tcp_port"] == server.port
    assert info["role"] == "master"
    assert info["db0"]["keys"] == 1
    assert info["used_memory"] > 0
    assert info["connected_clients"] >= 1
    assert info["keyspace_hits"] >= 1
    assert client.info("commandstats")["cmdstat_get"]["calls"] >= 1


def test_config_is_read_and_written(client: "redis.Redis") -> None:
    assert client.config_get("maxmemory-[ps]*") == {"maxmemory-policy": "noeviction", "maxmemory-samples": "5"}
    assert client.config_get("timeout", "hz") == {"timeout": "0", "hz": "10"}
    try:
        assert client.config_set("timeout", 300, "hz", 20) is True
        assert client.config_get("timeout", "hz") == {"timeout": "300", "hz": "20"}
        with pytest.raises(redis.ResponseError, match="maxclients"):
            client.config_set("maxclients", "many")
    finally:
        client.config_set("timeout", 0, "hz", 10)
    assert client.config_resetstat() is True


def test_command_tables(client: "redis.Redis") -> None:
    count = client.command_count()
    assert count == len(client.command()) == len([name for name in client.command_list() if "|" not in name])
    assert client.command()["get"]["arity"] == 2
    assert client.command_getkeys("MSET", "a", "1", "b", "2") == ["a", "b"]


def test_databases_are_apart(server: KoraProcess, protocol: int) -> None:
    with (
        redis.Redis(port=server.port, protocol=protocol, db=0) as first,
        redis.Redis(port=server.port, protocol=protocol, db=9) as other,
    ):
        first.set("k", "first")
        assert other.get("k") is None
        assert first.move("k", 9) is True
        assert other.get("k") == b"first"
        assert first.swapdb(0, 9) is True
        assert first.get("k") == b"first"
        with pytest.raises(redis.ResponseError, match="DB index is out of range"):
            first.execute_command("SELECT", 16)
        other.flushdb(asynchronous=True)
        assert other.dbsize() == 0
        assert first.dbsize() == 1


def test_asyncio_with_many_tasks_at_once(server: KoraProcess, protocol: int) -> None:
    async def work(client: "redis.asyncio.Redis", number: int) -> list[Any]:
        await client.set(f"k{number}", number, ex=100)
        async with client.pipeline(transaction=False) as pipeline:
            for _ in range(20):
                pipeline.incr(f"k{number}")
            pipeline.get(f"k{number}")
            return list(await pipeline.execute())

    async def session() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol, decode_responses=True) as client:
            replies = await asyncio.gather(*(work(client, number) for number in range(50)))
            assert replies == [[*range(number + 1, number + 21), str(number + 20)] for number in range(50)]
            assert {key async for key in client.scan_iter("k*")} == {f"k{number}" for number in range(50)}
            assert (await client.info("server"))["process_id"] == server.pid
            assert await client.config_get("maxmemory") == {"maxmemory": "0"}
            assert await client.command_count() > 60
            assert await client.object("encoding", "k1") == "int"
            await client.set("text", "x")
            with pytest.raises(redis.ResponseError, match="not an integer"):
                await client.incr("text")

    asyncio.run(session())


def test_a_password_is_asked_for(start_server: Callable[..., KoraProcess], protocol: int) -> None:
    kora = start_server("--requirepass", "secret")
    with redis.Redis(port=kora.port, protocol=protocol, password="secret") as client:
        assert client.ping() is True
    with redis.Redis(port=kora.port, protocol=protocol, username="default", password="secret") as client:
        assert client.ping() is True
    with (
        redis.Redis(port=kora.port, protocol=protocol, password="wrong", retry=None) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with (
        redis.Redis(port=kora.port, protocol=2, retry=None) as client,
        pytest.raises(redis.AuthenticationError, match="Authentication required"),
    ):
        client.get("k")


def test_asyncio_with_a_wrong_password(start_server: Callable[..., KoraProcess], protocol: int) -> None:
    kora = start_server("--requirepass", "secret")

    async def session() -> None:
        async with redis.asyncio.Redis(port=kora.port, protocol=protocol, password="wrong", retry=None) as client:
            with pytest.raises(redis.AuthenticationError):
                await client.ping()
        async with redis.asyncio.Redis(port=kora.port, protocol=protocol, password="secret") as client:
            assert await client.ping() is True

    asyncio.run(session())


def test_over_a_unix_socket(start_server: Callable[..., KoraProcess], tmp_path: Any, protocol: int) -> None:
    path = tmp_path / "kora.sock"
    start_server("--unixsocket", str(path))
    with redis.Redis(unix_socket_path=str(path), protocol=protocol, decode_responses=True) as client:
        assert client.set("k", "v") is True
        assert client.get("k") == "v"
        assert client.client_info()["addr"] == f"{path}:0"


def test_monitor_slowlog_and_latency(client: "redis.Redis", server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol) as other, client.monitor() as monitor:
        other.execute_command("ECHO", 'say "hi"\n')
        # What a connection says of itself comes first.
        line = next(line for line in monitor.listen() if line["command"].startswith("ECHO"))
        assert (line["db"], line["client_type"], line["command"]) == (0, "tcp", 'ECHO say "hi"\\n')
    client.config_set("slowlog-log-slower-than", 0)
    try:
        client.execute_command("ECHO", "slow")
        (entry,) = [entry for entry in client.slowlog_get(5) if entry["command"] == b"ECHO slow"]
        assert entry["client_address"].startswith(b"127.0.0.1:")
        assert client.slowlog_len() > 1 and client.slowlog_reset()
        client.latency_reset()
        client.execute_command("DEBUG", "SLEEP", "0.02")
        rows = {row[0]: row for row in client.latency_latest()}
        assert rows["command"][2] >= 20
        assert client.latency_history("command")[0][1] >= 20
    finally:
        client.config_set("slowlog-log-slower-than", 10_000)
