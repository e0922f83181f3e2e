"""What clients still get of a server that is told to stop."""

import signal
import time
from collections.abc import Callable

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END

Start = Callable[..., KoraProcess]


def test_requests_that_were_read_are_answered_before_it_ends(start_server: Start) -> None:
    server = start_server()
    with server.connect() as busy, server.connect() as other:
        assert other.run("PING") == b"PONG"
        # One packet, and several turns.
        count = 5000
        busy.send(b"DEBUG SLEEP 0.5\r\n" + b"INCR n\r\n" * count + b"GET n\r\n")
        time.sleep(0.1)
        server.signal(signal.SIGTERM)
        assert busy.read_many(count + 2) == [b"OK", *range(1, count + 1), b"%d" % count]
        assert busy.read() is END
        assert other.read() is END
    assert server.wait() == 0


def test_large_replies_reach_a_client_that_reads_slowly_before_it_ends(start_server: Start) -> None:
    server = start_server()
    server.run("SET", "big", "x" * 1_000_000)
    with server.connect() as wire:
        wire.send(encode_request(("GET", "big")) * 30)
        reply = wire.read()
        server.signal(signal.SIGTERM)
        eventually(lambda: "stopping" in server.log, "it is stopping")
        time.sleep(0.3)
        replies = [reply, *wire.read_many(29)]
        assert [len(reply) for reply in replies] == [1_000_000] * 30
        assert wire.read() is END
    assert server.wait() == 0


def test_a_client_that_takes_no_replies_does_not_keep_it_from_ending(start_server: Start) -> None:
    server = start_server()
    server.run("SET", "big", "x" * 1_000_000)
    with server.connect() as wire:
        wire.send(encode_request(("GET", "big")) * 100)
        assert server.run("PING") == b"PONG"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
