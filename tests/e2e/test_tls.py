"""TLS, with certificates that openssl made: redis-py and redis-cli, with and without clients' certificates."""

import asyncio
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.conftest import encode_request
from tests.e2e.certificates import Authority, make_authority
from tests.e2e.kora_process import KoraProcess, clean_environ, eventually
from tests.e2e.wire import END, Wire
from tests.peers import peer
from tests.ports import free_port

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


def tls_flags(authority: Authority, port: int) -> list[str]:
    files = ["--tls-cert-file", authority.server.cert, "--tls-key-file", authority.server.key]
    return ["--tls-port", str(port), *files, "--tls-ca-cert-file", authority.ca]


def tls_client(authority: Authority, port: int, pair: Any = None, **options: Any) -> "redis.Redis":
    if pair is not None:
        options.update(ssl_certfile=pair.cert, ssl_keyfile=pair.key)
    return redis.Redis("127.0.0.1", port, ssl=True, ssl_ca_certs=authority.ca, retry=None, **options)


@pytest.mark.parametrize("protocol", [2, 3])
def test_without_clients_certificates(
    start_server: Callable[..., KoraProcess], authority: Authority, protocol: int
) -> None:
    port = free_port()
    kora = start_server(*tls_flags(authority, port), "--tls-auth-clients", "no")
    with tls_client(authority, port, protocol=protocol) as client:
        big = b"x" * 3_000_000
        assert client.set("big", big) is True
        assert client.get("big") == big
        with client.pipeline(transaction=False) as pipeline:
            for number in range(2000):
                pipeline.set(f"k{number}", number)
                pipeline.get(f"k{number}")
            assert pipeline.execute()[1::2] == [b"%d" % number for number in range(2000)]
    # The plain port serves the same data.
    assert kora.run("STRLEN", "big") == 3_000_000


def test_asyncio(start_server: Callable[..., KoraProcess], authority: Authority) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port), "--tls-auth-clients", "no")

    async def session() -> None:
        options = {"host": "127.0.0.1", "port": port, "ssl": True, "ssl_ca_certs": authority.ca}
        async with redis.asyncio.Redis(**options, decode_responses=True) as client:
            assert await asyncio.gather(*(client.incr("n") for _ in range(20)))
            assert await client.get("n") == "20"

    asyncio.run(session())


def test_clients_certificates_are_checked(start_server: Callable[..., KoraProcess], authority: Authority) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port), "--tls-auth-clients", "yes")
    with tls_client(authority, port, authority.client) as client:
        assert client.ping() is True
    for pair in (None, authority.stranger):
        with tls_client(authority, port, pair) as client, pytest.raises(redis.ConnectionError):
            client.ping()
    with tls_client(authority, port, authority.client) as client:
        assert client.ping() is True


def test_an_optional_certificate_is_checked_if_there_is_one(
    start_server: Callable[..., KoraProcess], authority: Authority
) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port), "--tls-auth-clients", "optional")
    for pair in (None, authority.client):
        with tls_client(authority, port, pair) as client:
            assert client.ping() is True
    with tls_client(authority, port, authority.stranger) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_redis_cli(start_server: Callable[..., KoraProcess], authority: Authority) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port))
    files = ["--cacert", authority.ca, "--cert", authority.client.cert, "--key", authority.client.key]
    done = subprocess.run(
        [peer("redis-cli"), "-h", "127.0.0.1", "-p", str(port), "--tls", *files],
        input=b"SET k v\nGET k\n",
        capture_output=True,
        env=clean_environ(),
        timeout=30,
    )
    assert done.stdout == b"OK\nv\n", done


def test_only_tls(start_server: Callable[..., KoraProcess], authority: Authority) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port), "--tls-auth-clients", "no", port=0)
    with tls_client(authority, port) as client:
        assert client.ping() is True


def test_old_protocol_versions_can_be_left_out(start_server: Callable[..., KoraProcess], authority: Authority) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port), "--tls-auth-clients", "no", "--tls-protocols", "TLSv1.3")
    context = ssl.create_default_context(cafile=authority.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", port), 10) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock, server_hostname="127.0.0.1")
    with tls_client(authority, port) as client:
        assert client.ping() is True


def test_plain_text_on_the_tls_port_harms_nobody(
    start_server: Callable[..., KoraProcess], authority: Authority, tmp_path: Path
) -> None:
    port = free_port()
    start_server(*tls_flags(authority, port), "--tls-auth-clients", "no")
    for data in (encode_request(("PING",)), b"\x16\x03\x01" + b"\xff" * 500, b""):
        with Wire(socket.create_connection(("127.0.0.1", port), 10)) as wire:
            wire.send(data)
            wire.sock.shutdown(socket.SHUT_WR)
            assert b"PONG" not in wire.read_to_end()
    with tls_client(authority, port) as client:
        assert client.ping() is True


def test_a_slow_reader_over_tls_gets_everything_in_order(
    start_server: Callable[..., KoraProcess], authority: Authority
) -> None:
    port = free_port()
    kora = start_server(*tls_flags(authority, port), "--tls-auth-clients", "no")
    kora.run("MSET", "a", "a" * 1_000_000, "b", "b" * 1_000_000)
    before = kora.rss_bytes
    context = ssl.create_default_context(cafile=authority.ca)
    raw = socket.create_connection(("127.0.0.1", port), 20)
    with Wire(context.wrap_socket(raw, server_hostname="127.0.0.1")) as wire:
        wire.send(b"".join(encode_request(("GET", "ab"[number % 2])) for number in range(150)))
        for _ in range(20):
            assert kora.run("PING") == b"PONG"
        assert kora.rss_bytes - before < 100e6
        for number in range(150):
            reply = wire.read()
            assert len(reply) == 1_000_000
            assert reply[:1] == reply[-1:] == b"ab"[number % 2 :][:1]


def test_large_replies_are_sent_to_the_end_when_the_server_stops(
    start_server: Callable[..., KoraProcess], authority: Authority
) -> None:
    port = free_port()
    kora = start_server(*tls_flags(authority, port), "--tls-auth-clients", "no")
    kora.run("SET", "big", "x" * 1_000_000)
    context = ssl.create_default_context(cafile=authority.ca)
    raw = socket.create_connection(("127.0.0.1", port), 20)
    with Wire(context.wrap_socket(raw, server_hostname="127.0.0.1")) as wire:
        wire.send(encode_request(("GET", "big")) * 20)
        first = wire.read()
        kora.signal(signal.SIGTERM)
        eventually(lambda: "stopping" in kora.log, "it is stopping")
        time.sleep(0.3)
        assert [len(reply) for reply in [first, *wire.read_many(19)]] == [1_000_000] * 20
        assert wire.read() is END
    assert kora.wait() == 0
