"""maxmemory-clients: what connections take together, and who is closed when it is too much."""

import pytest

from kora.engine.client_memory import limit_bytes, memory_bytes

KB, MB = 1024, 1024 * 1024


@pytest.fixture
def take(engine, connect):
    """A client that takes so many bytes: the part of a request that has come."""

    def take(size_bytes, *words):
        session = connect()
        if words:
            session.send(*words)
        data = b"*2\r\n$4\r\nECHO\r\n$4000000\r\n" + b"x" * size_bytes
        engine.execute(session.client, data)
        return session.client

    return take


def look(engine):
    while engine.client_evictor.look(10**9):
        pass


def test_the_largest_are_closed_until_the_rest_is_within_the_limit(engine, run, take):
    small, largest, large = take(10 * KB), take(3 * MB), take(2 * MB)
    run("CONFIG", "SET", "maxmemory-clients", "3mb")
    look(engine)
    assert largest.closing
    assert largest.id not in engine.clients
    assert not large.closing
    assert not small.closing
    assert b"evicted_clients:1\r\n" in run("INFO", "stats")
    look(engine)
    assert not large.closing
    run("CONFIG", "RESETSTAT")
    assert b"evicted_clients:0\r\n" in run("INFO", "stats")


def test_without_a_limit_nobody_is_closed(engine, take):
    large = take(3 * MB)
    look(engine)
    assert not large.closing


def test_who_asked_not_to_be_evicted_counts_and_stays(engine, run, take):
    kept, small = take(3 * MB, "CLIENT", "NO-EVICT", "ON"), take(100 * KB)
    run("CLIENT", "NO-EVICT", "ON")
    run("CONFIG", "SET", "maxmemory-clients", "1mb")
    look(engine)
    assert not kept.closing
    assert small.closing
    assert run("PING") == "PONG"


def test_a_round_over_many_clients_is_made_in_parts(engine, run, take, clock):
    clients = [take(MB) for _ in range(5)]
    run("CONFIG", "SET", "maxmemory-clients", "3mb")
    rounds = 1
    while engine.client_evictor.look(0):
        rounds += 1
    assert rounds > len(clients)
    assert sum(client.closing for client in clients) == 3


def test_whoever_has_become_small_meanwhile_is_let_be(engine, run, take, connect):
    large, grown = take(2 * MB), take(2 * MB)
    evictor = engine.client_evictor
    run("CONFIG", "SET", "maxmemory-clients", "3mb")
    while len(evictor._sizes) < len(engine.clients):
        evictor.look(0)
    engine.execute(large, b"x" * (4_000_000 - 2 * MB) + b"\r\n")
    look(engine)
    assert not large.closing
    assert not grown.closing


@pytest.mark.parametrize(
    ("words", "more_bytes"),
    [
        ([("MULTI",), ("SET", "k", b"x" * MB)], MB),
        ([("SUBSCRIBE", b"x" * MB)], MB),
        ([("PSUBSCRIBE", b"x" * MB), ("SSUBSCRIBE", b"x" * MB)], 2 * MB),
        ([("WATCH", b"x" * MB)], MB),
        ([("BLPOP", b"x" * MB, "0")], MB),
        ([("BLPOP", "k", "0"), ("ECHO", b"x" * MB)], MB),
    ],
    ids=lambda words: words[0][0] if isinstance(words, list) else "",
)
def test_all_that_a_client_makes_the_server_keep_counts(connect, words, more_bytes):
    session = connect()
    before = memory_bytes(session.client)
    for request in words:
        session.send(*request)
    assert more_bytes <= memory_bytes(session.client) - before < more_bytes + 64 * KB


@pytest.mark.parametrize(
    ("wanted", "maxmemory", "limit"),
    [(0, MB, 0), (-5, 0, 0), (-50, 10 * MB, 5 * MB), (-1, MB, 128 * KB), (1, 0, 128 * KB), (MB, 0, MB)],
)
def test_the_limit_in_bytes(wanted, maxmemory, limit):
    assert limit_bytes(wanted, maxmemory) == limit
