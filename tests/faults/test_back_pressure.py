"""Clients that send more than they read, or more at once than others can wait for."""

import asyncio
import random
import socket
import threading
from collections.abc import Callable

import hiredis

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END

Start = Callable[..., KoraProcess]

MB = 1_000_000
GROWTH_MAX = 100 * MB


def set_large_values(server: KoraProcess, count: int = 5) -> None:
    """v0, v1, …: a million times the digit each."""
    with server.connect() as wire:
        for number in range(count):
            assert wire.run("SET", f"v{number}", str(number) * MB) == b"OK"


def test_a_client_that_does_not_read_costs_little_memory_and_gets_all_replies_in_order(server: KoraProcess) -> None:
    set_large_values(server)
    before = server.rss_bytes
    count = 400
    with server.connect() as lazy, server.connect() as other:
        lazy.send(b"".join(encode_request(("GET", f"v{number % 5}")) for number in range(count)))
        most = before
        for number in range(300):
            assert other.run("SET", "k", number) == b"OK"
            assert other.run("GET", "k") == b"%d" % number
            most = max(most, server.rss_bytes)
        for number in range(count):
            reply = lazy.read()
            assert reply == b"%d" % (number % 5) * MB, f"reply {number} begins with {reply[:10]!r}"
            if number % 20 == 0:
                most = max(most, server.rss_bytes)
                assert other.run("PING") == b"PONG"
        assert lazy.run("PING") == b"PONG"
    assert most - before < GROWTH_MAX, f"{count} MB of replies took {(most - before) / MB:.0f} MB of memory"


def test_many_clients_that_never_read_cost_little_memory_each(server: KoraProcess) -> None:
    set_large_values(server, 1)
    before = server.rss_bytes
    lazy = [server.connect() for _ in range(20)]
    try:
        for wire in lazy:
            wire.send(encode_request(("GET", "v0")) * 200)
        for _ in range(100):
            assert server.run("PING") == b"PONG"
        # Each has at most a turn's replies waiting: a few MB, not its 200.
        assert server.rss_bytes - before < 20 * 6 * MB
    finally:
        for wire in lazy:
            wire.close()
    eventually(lambda: b"connected_clients:1\r\n" in server.run("INFO", "clients"), "the server lets them go")


def test_a_client_that_does_not_read_small_replies_is_not_read_from(server: KoraProcess) -> None:
    before = server.rss_bytes
    server.run("SET", "k", "x" * 1000)
    request = encode_request(("GET", "k")) * 1000
    with server.connect(timeout_s=1.0) as flooder:
        sent = 0
        try:
            # Answers are forty times as long as requests: this would be gigabytes.
            while sent < 100 * MB:
                flooder.send(request)
                sent += len(request)
        except TimeoutError:
            pass
        assert sent < 100 * MB, "the server went on reading requests whose replies nobody takes"
        assert server.rss_bytes - before < GROWTH_MAX
        assert server.run("PING") == b"PONG"


def test_a_flood_of_tiny_requests_lets_others_have_their_turns(server: KoraProcess) -> None:
    total, chunk = 0, b"PING\r\n" * (256 * 1024 // 6)
    done = threading.Event()
    rounds = 12
    with server.connect(timeout_s=60) as flooder, server.connect() as other:
        assert other.run("PING") == b"PONG"

        def read() -> None:
            nonlocal total
            expected = len(chunk) // 6 * 7 * rounds
            while total < expected:
                total += len(flooder.sock.recv(1 << 20))
            done.set()

        def write() -> None:
            for _ in range(rounds):
                flooder.send(chunk)

        threads = [threading.Thread(target=read), threading.Thread(target=write)]
        for thread in threads:
            thread.start()
        round_trips = 0
        while not done.is_set():
            assert other.run("INCR", "n") == round_trips + 1
            round_trips += 1
        for thread in threads:
            thread.join()
    assert total == len(chunk) // 6 * 7 * rounds
    # Half a million PINGs in turns of a thousand: there is room for hundreds of other turns between them.
    assert round_trips > 40, f"only {round_trips} requests of another client were answered during the flood"


def test_one_request_in_many_small_pieces_among_busy_clients(server: KoraProcess) -> None:
    request = encode_request(("SET", "pieces", "x" * 300))
    with server.connect() as slow, server.connect() as other:
        slow.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(request)):
            slow.send(request[place : place + 1])
            if place % 10 == 0:
                assert other.run("PING") == b"PONG"
        assert slow.read() == b"OK"
    assert server.run("STRLEN", "pieces") == 300


def test_a_request_beyond_the_query_buffer_limit_ends_its_client_only(start_server: Start) -> None:
    server = start_server("--client-query-buffer-limit", "1mb")
    before = server.rss_bytes
    with server.connect() as greedy, server.connect() as other:
        assert greedy.run("PING") == b"PONG"
        # 200 arguments below every other limit, but together over it.
        greedy.send(b"*201\r\n$4\r\nMSET\r\n")
        argument = b"$100000\r\n" + b"x" * 100_000 + b"\r\n"
        try:
            for _ in range(200):
                greedy.send(argument)
        except OSError:
            pass
        else:
            assert greedy.read() is END
        assert other.run("DBSIZE") == 0
    assert "query buffer over its limit" in server.log
    assert server.rss_bytes - before < 20 * MB
    with server.connect() as modest:
        assert modest.run("SET", "k", "x" * 900_000) == b"OK"


def test_fifty_clients_with_random_pipelines_each_get_their_own_replies(server: KoraProcess) -> None:
    clients = 50

    async def work(number: int) -> None:
        choose = random.Random(number)
        model: dict[str, bytes] = {}
        parser = hiredis.Reader(notEnoughData=END)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            for _ in range(15):
                requests, expected = [], []
                for _ in range(choose.choice((1, 2, 10, 100, 400))):
                    key = f"{number}:{choose.randrange(5)}"
                    command = choose.choice(("SET", "GET", "APPEND", "DEL", "STRLEN", "ECHO"))
                    if command == "SET":
                        model[key] = value = b"%d" % choose.randrange(1000) * choose.choice((1, 10, 3000))
                        requests.append(encode_request(("SET", key, value)))
                        expected.append(b"OK")
                    elif command == "GET":
                        requests.append(encode_request(("GET", key)))
                        expected.append(model.get(key))
                    elif command == "APPEND":
                        model[key] = model.get(key, b"") + b"more"
                        requests.append(encode_request(("APPEND", key, "more")))
                        expected.append(len(model[key]))
                    elif command == "DEL":
                        requests.append(encode_request(("DEL", key)))
                        expected.append(int(model.pop(key, None) is not None))
                    elif command == "STRLEN":
                        requests.append(encode_request(("STRLEN", key)))
                        expected.append(len(model.get(key, b"")))
                    else:
                        requests.append(b"ECHO me:%d\r\n" % number)
                        expected.append(b"me:%d" % number)
                data = b"".join(requests)
                cut = choose.randrange(len(data) + 1)
                writer.write(data[:cut])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(data[cut:])
                replies = []
                while len(replies) < len(expected):
                    reply = parser.gets()
                    if reply is END:
                        received = await reader.read(1 << 16)
                        assert received, "the server closed the connection"
                        parser.feed(received)
                    else:
                        replies.append(reply)
                assert replies == expected
        finally:
            writer.close()
            await writer.wait_closed()

    async def everybody() -> None:
        await asyncio.gather(*(work(number) for number in range(clients)))

    asyncio.run(everybody())
