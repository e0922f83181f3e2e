"""Reference counting alone frees what requests leave behind: collections are a background job, not a safety net."""

import gc

import pytest

from tests.conftest import encode_request

PROGRAM = (
    ("SET", "k", "v", "EX", "100"),
    ("GET", "k"),
    ("MGET", "k", "missing"),
    ("APPEND", "k", "tail"),
    ("INCR", "k"),  # not an integer
    ("INCR", "k", "too", "many"),
    ("NOSUCH", "command"),
    ("EXPIRE", "k", "0"),
    ("SET", "n", "1", "XX", "NX"),
    ("SCAN", "0", "MATCH", "*"),
    ("LCS", "a", "b", "IDX"),
    ("CONFIG", "GET", "max*"),
    ("COMMAND", "DOCS", "get"),
    ("INFO",),
    ("CLIENT", "LIST"),
    ("HELLO", "3"),
    ("RESET",),
    ("FLUSHALL", "SYNC"),
)


@pytest.mark.parametrize("request_words", PROGRAM, ids=lambda words: " ".join(words[:2]))
def test_a_request_leaves_no_cycles(engine, request_words):
    client = engine.connect()
    data = encode_request(request_words)
    client.engine.execute(client, data)  # what is made once, such as compiled patterns, is not garbage
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            client.engine.execute(client, data)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_client_that_leaves_takes_everything_along(engine):
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            client = engine.connect()
            client.engine.execute(
                client, encode_request(("CLIENT", "REPLY", "SKIP")) + encode_request(("PING",)) + b"*1\r\n:1\r\n"
            )
            while client.more and not client.closing:
                client.engine.resume(client)
            engine.forget(client)
            del client
        assert gc.collect() == 0
    finally:
        gc.enable()
