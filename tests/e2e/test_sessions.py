"""Clients that wait, listen and watch, over real sockets: what reaches whom, and what is left when they are gone."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess
from tests.e2e.wire import Wire, error_text


def info(server: KoraProcess) -> dict[str, str]:
    text = server.run("INFO", "everything").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def wait_until(what: Callable[[], bool], timeout_s: float = 15.0) -> None:
    stop = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < stop, "it has not come to that"
        time.sleep(0.01)


def is_at_rest(server: KoraProcess) -> bool:
    """Whether nobody waits, listens or watches, as far as the server knows."""
    fields = info(server)
    names = (
        "blocked_clients", "total_blocking_keys", "watching_clients", "pubsub_channels", "pubsub_patterns",
        "pubsubshard_channels",
    )  # fmt: skip
    return all(fields[name] == "0" for name in names)


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_listens_to_channels_and_patterns(server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as client:
        with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe("news", "sports")
            pubsub.psubscribe("n*")
            pubsub.ssubscribe("shard")
            wait_until(lambda: client.pubsub_numsub("news") == [("news", 1)] and client.pubsub_numpat() == 1)
            wait_until(lambda: client.pubsub_shardnumsub("shard") == [("shard", 1)])
            assert client.publish("news", "hello") == 2
            assert client.spublish("shard", "there") == 1
            received: list[tuple[str, str, str]] = []
            stop = time.monotonic() + 10
            while len(received) < 3 and time.monotonic() < stop:
                message = pubsub.get_message(timeout=1)
                if message:
                    received.append((message["type"], message["channel"], message["data"]))
            assert received == [
                ("message", "news", "hello"), ("pmessage", "news", "hello"), ("smessage", "shard", "there"),
            ]  # fmt: skip
        wait_until(lambda: is_at_rest(server))


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_hears_of_expired_keys(server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as client:
        client.config_set("notify-keyspace-events", "Ex")
        try:
            with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                pubsub.psubscribe("__keyevent@*__:expired")
                wait_until(lambda: client.pubsub_numpat() == 1)
                client.set("session", "v", px=50)
                stop = time.monotonic() + 10
                while (message := pubsub.get_message(timeout=1)) is None:
                    assert time.monotonic() < stop
                assert message["data"] == "session"  # nobody has asked for it
        finally:
            client.config_set("notify-keyspace-events", "")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_transactions_retry_where_somebody_was_quicker(server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as client:
        client.set("balance", 0)

        def deposit() -> None:
            with redis.Redis(port=server.port, protocol=protocol) as own:

                def add(pipe: Any) -> None:
                    current = int(pipe.get("balance"))
                    pipe.multi()
                    pipe.set("balance", current + 1)

                for _ in range(25):
                    own.transaction(add, "balance")

        threads = [threading.Thread(target=deposit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert client.get("balance") == "100"
        wait_until(lambda: is_at_rest(server))


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_runs_a_transaction_with_an_error_in_it(server: KoraProcess, protocol: int) -> None:
    with redis.Redis(port=server.port, protocol=protocol, decode_responses=True) as client:
        with client.pipeline(transaction=True) as pipe:
            replies = pipe.set("k", "v").get("k").incr("k").execute(raise_on_error=False)
        assert replies[:2] == [True, "v"]
        assert isinstance(replies[2], redis.ResponseError)


def test_a_worker_waits_for_its_queue(server: KoraProcess) -> None:
    done: list[Any] = []

    def work() -> None:
        with redis.Redis(port=server.port, decode_responses=True) as worker:
            while (item := worker.blpop(["stop", "queue"], timeout=20)) is not None:
                done.append(item[1])
                if item[0] == "stop":
                    return

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    with redis.Redis(port=server.port) as client:
        for number in range(100):
            client.rpush("queue", number)
        wait_until(lambda: len(done) == 100)
        for _ in threads:
            client.rpush("stop", "stop")
    for thread in threads:
        thread.join(20)
    assert sorted(done[:100], key=int) == [str(number) for number in range(100)]
    wait_until(lambda: is_at_rest(server))


def test_a_wait_ends_by_the_clock(server: KoraProcess) -> None:
    with server.connect() as wire:
        started = time.monotonic()
        assert wire.run("BLPOP", "nosuch", "0.2") is None
        assert time.monotonic() - started > 0.19
        assert wire.run("BLPOP", "nosuch", "0.001") is None
    wait_until(lambda: is_at_rest(server))


def test_requests_behind_a_wait_are_run_when_it_is_over(server: KoraProcess) -> None:
    with server.connect() as wire:
        wire.send(b"".join(encode_request(words) for words in (("PING",), ("BLPOP", "q", "0"), ("SET", "late", "1"))))
        assert wire.read() == b"PONG"
        wait_until(lambda: info(server)["blocked_clients"] == "1")
        wire.send(encode_request(("GET", "late")))
        assert server.run("EXISTS", "late") == 0
        assert server.run("RPUSH", "q", "x") == 1
        assert wire.read_many(3) == [[b"q", b"x"], b"OK", b"1"]


def test_a_client_that_goes_while_it_waits_takes_nothing(server: KoraProcess) -> None:
    wire = server.connect()
    wire.send(encode_request(("BLPOP", "q", "r", "0")))
    wait_until(lambda: info(server)["total_blocking_keys"] == "2")
    wire.close()
    wait_until(lambda: is_at_rest(server))
    assert server.run("RPUSH", "q", "x") == 1
    assert server.run("LLEN", "q") == 1


def test_thousands_of_waiting_clients_dropped_at_once(start_server: Callable[..., KoraProcess]) -> None:
    server = start_server(open_files_max=4096)
    count = 1_500
    wires: list[Wire] = []
    try:
        for number in range(count):
            wire = server.connect()
            wires.append(wire)
            wire.send(encode_request(("BLPOP", "shared", f"own:{number}", "1000")))
        wait_until(lambda: info(server)["blocked_clients"] == str(count), 60)
        assert info(server)["total_blocking_keys"] == str(count + 1)
    finally:
        for wire in wires:
            wire.close()
    wait_until(lambda: is_at_rest(server), 30)
    assert server.run("RPUSH", "shared", "x") == 1
    assert server.run("LPOP", "shared") == b"x"


def test_a_listener_that_goes_is_forgotten(server: KoraProcess) -> None:
    wires = [server.connect() for _ in range(50)]
    for wire in wires:
        wire.run("SUBSCRIBE", "news")
        wire.run("PSUBSCRIBE", "n*")
        wire.run("SSUBSCRIBE", "s")
    watching = server.connect()
    watching.run("WATCH", "k")
    assert server.run("PUBLISH", "news", "m") == 100
    for wire in [*wires, watching]:
        wire.close()
    wait_until(lambda: is_at_rest(server))
    assert server.run("PUBLISH", "news", "m") == 0


def test_subscribing_in_the_middle_of_a_pipeline(server: KoraProcess) -> None:
    with server.connect() as wire:
        replies = wire.pipeline(
            ("SET", "k", "v"), ("SUBSCRIBE", "a"), ("GET", "k"), ("PING",), ("UNSUBSCRIBE",), ("GET", "k")
        )
        assert replies[:2] == [b"OK", [b"subscribe", b"a", 1]]
        assert error_text(replies[2]).startswith("ERR Can't execute 'get'")
        assert replies[3:] == [[b"pong", b""], [b"unsubscribe", b"a", 0], b"v"]


def test_messages_of_many_speakers_arrive_whole_and_each_in_order(server: KoraProcess) -> None:
    speakers, count = 4, 2_000
    with server.connect() as listener:
        listener.run("SUBSCRIBE", "c")

        def speak(speaker: int) -> None:
            with server.connect() as wire:
                for start in range(0, count, 100):
                    wire.pipeline(*(("PUBLISH", "c", f"{speaker}:{number}") for number in range(start, start + 100)))

        threads = [threading.Thread(target=speak, args=(speaker,)) for speaker in range(speakers)]
        for thread in threads:
            thread.start()
        heard: dict[bytes, list[int]] = {}
        for _ in range(speakers * count):
            kind, channel, text = listener.read()
            assert (kind, channel) == (b"message", b"c")
            speaker, _, number = text.partition(b":")
            heard.setdefault(speaker, []).append(int(number))
        for thread in threads:
            thread.join(10)
    assert sorted(heard) == [b"0", b"1", b"2", b"3"]
    assert all(numbers == list(range(count)) for numbers in heard.values())


def test_messages_to_oneself_keep_their_place(server: KoraProcess) -> None:
    with server.connect() as wire:
        wire.run("HELLO", "3")
        wire.run("SUBSCRIBE", "a")
        wire.send(b"".join(encode_request(words) for words in (("PING",), ("PUBLISH", "a", "m"), ("GET", "nosuch"))))
        assert wire.read_many(4) == [b"PONG", 1, [b"message", b"a", b"m"], None]


def test_a_transaction_with_large_replies(server: KoraProcess) -> None:
    value = b"x" * 500_000
    with server.connect() as wire:
        wire.run("SET", "k", value)
        replies = wire.pipeline(("MULTI",), *[("GET", "k")] * 20, ("EXEC",), ("PING",))
        assert replies[-2] == [value] * 20
        assert replies[-1] == b"PONG"


def test_a_killed_client_that_waits_is_told_nothing(server: KoraProcess) -> None:
    with server.connect() as wire:
        number = wire.run("CLIENT", "ID")
        wire.send(encode_request(("BLPOP", "q", "0")))
        wait_until(lambda: info(server)["blocked_clients"] == "1")
        assert server.run("CLIENT", "KILL", "ID", number) == 1
        assert wire.read_to_end() == b""
    assert is_at_rest(server)


def test_asyncio_listens_while_many_speak(server: KoraProcess) -> None:
    async def listen_and_speak() -> list[str]:
        async with (
            redis.asyncio.Redis(port=server.port, decode_responses=True) as client,
            client.pubsub(ignore_subscribe_messages=True) as pubsub,
        ):
            await pubsub.subscribe("c")
            while await client.pubsub_numsub("c") != [("c", 1)]:
                await asyncio.sleep(0.01)

            async def speak(first: int) -> None:
                for number in range(first, first + 4):
                    await client.publish("c", str(number))

            await asyncio.gather(*(speak(first) for first in range(0, 200, 4)))
            heard: list[str] = []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while len(heard) < 200:
                        message = await pubsub.get_message(timeout=1)
                        if message:
                            heard.append(message["data"])
            return heard

    assert sorted(map(int, asyncio.run(listen_and_speak()))) == list(range(200))
