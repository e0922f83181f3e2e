"""The two servers that get the same bytes: a real redis-server, and a Kora engine in this process.

server.connect().exchange(data) -> (replies, closed)        one redis-server per test session, on a Unix socket
Kora("--requirepass", "x").exchange(data)                   a new engine each time, its clock standing still
"""

import ctypes
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.client import Client
from kora.engine.engine import Engine
from tests.conftest import STORED, encode_request
from tests.peers import peer
from tests.resp_reader import read_reply

if STORED:
    from tests.engines.stored import put_into_store

DATABASES = 4
_START_S = 10
_REPLY_S = 5
_PR_SET_PDEATHSIG = 1
# Shared by all engines: it takes a while to build.
_REGISTRY = make_registry()


def request(*words: object) -> bytes:
    return encode_request(words)


def requests(program: Iterable[Iterable[object]]) -> bytes:
    return b"".join(encode_request(tuple(words)) for words in program)


class RedisServer:
    """A redis-server of its own directory; ends with this process, whatever happens to it."""

    def __init__(self, *flags: str, tcp: bool = False) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kora-compat-"))
        self.socket_path = str(self.directory / "s")
        words = ["redis-server", "--unixsocket", self.socket_path, "--save", "", "--appendonly", "no"]
        words += ["--dir", str(self.directory), "--databases", str(DATABASES), "--enable-debug-command", "yes"]
        words += ["--daemonize", "no", "--bind", "127.0.0.1", *flags]
        if not tcp:
            words += ["--port", "0"]
        self.log_path = self.directory / "log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        stop = time.monotonic() + _START_S
        while True:
            try:
                self.connect().close()
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > stop:
                    log_text = self.log_path.read_text()
                    self.stop()
                    pytest.fail(f"redis-server does not start:\n{log_text}")
                time.sleep(0.01)
        self.control = self.connect()
        # Keys whose time is over go only when somebody comes across them, as under Kora's clock, which stands still.
        self.run("DEBUG", "SET-ACTIVE-EXPIRE", "0")

    def connect(self) -> "RedisConnection":
        return RedisConnection(self.socket_path)

    def run(self, *words: object) -> bytes:
        """One request by the control connection; the raw reply."""
        return self.control.exchange(request(*words))[0]

    def now_us(self) -> int:
        _, _, seconds, _, microseconds, _ = self.run("TIME").split(b"\r\n")
        return int(seconds) * 1_000_000 + int(microseconds)

    def reset(self) -> None:
        """As if just started: no keys, no numbers."""
        data = requests([("CONFIG", "RESETSTAT"), ("FLUSHALL",), ("DEBUG", "SET-ACTIVE-EXPIRE", "0")])
        reply, _ = self.control.exchange(data)
        assert reply == b"+OK\r\n" * 3, reply
        # Once more, since errorstats and commandstats now hold the reset itself.
        self.run("CONFIG", "RESETSTAT")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class RedisConnection:
    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(_REPLY_S)

    def exchange(self, data: bytes) -> tuple[bytes, bool]:
        """Send requests and return all replies, and whether the server closed the connection.

        A last ECHO of a random word tells where the replies end, so the requests must leave room for one: be whole, and
        not leave replies switched off.
        """
        token = secrets.token_hex(8)
        end = request_echo_reply(token)
        received = bytearray()
        try:
            self._socket.sendall(data + request("ECHO", token))
            while not received.endswith(end):
                part = self._socket.recv(1 << 16)
                if not part:
                    return bytes(received), True
                received += part
        except (BrokenPipeError, ConnectionResetError):
            return bytes(received), True
        return bytes(received[: -len(end)]), False

    def send(self, data: bytes) -> bool:
        """False if the server has closed the connection."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive_ready(self) -> tuple[bytes, bool]:
        """What has arrived, and whether the server has closed the connection."""
        received = bytearray()
        while select.select([self._socket], [], [], 0)[0]:
            try:
                part = self._socket.recv(1 << 16)
            except ConnectionResetError:
                return bytes(received), True
            if not part:
                return bytes(received), True
            received += part
        return bytes(received), False

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "RedisConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request_echo_reply(token: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(token), token.encode())


class Kora:
    """An engine with one client, spoken to like a connection."""

    def __init__(self, *flags: str, now_us: int = 1_700_000_000_000_000) -> None:
        self.clock = ManualClock(now_us // 1_000)
        self.failures: list[str] = []
        config = Config.load(["--databases", str(DATABASES), *flags], {})
        self.engine = Engine(config, _REGISTRY, self.clock, kernel=kernel.load())
        if STORED:
            put_into_store(self.engine)
        self.engine.log = self._note
        self.engine.active_expire = False
        self.client = self.connect()

    def _note(self, level: str, message: str, **fields: object) -> None:
        if level == "error":
            self.failures.append(f"{message}: {fields}")

    def take_id(self, client_id: int) -> None:
        """Be the client of another number, such as the one that redis-server gave."""
        self.engine.forget(self.client)
        self.client.id = client_id
        self.engine.clients[client_id] = self.client

    def connect(self) -> Client:
        return self.engine.connect("127.0.0.1:50000", "127.0.0.1:6379")

    def exchange(self, data: bytes, client: Client | None = None) -> tuple[bytes, bool]:
        client = client or self.client
        replies = b""
        # What is in a store goes there and comes back between any two requests.
        for part in split_requests(data) if STORED else [data]:
            self.engine.tick()
            replies += run_all(client, part)
        assert not self.failures, self.failures
        return replies, client.closing

    def run(self, *words: object) -> bytes:
        return self.exchange(request(*words))[0]


def split_requests(data: bytes) -> list[bytes]:
    """The bytes of each request; all in one where they are not whole requests in the usual form."""
    parts = []
    place = 0
    try:
        while place < len(data):
            _, stop = read_reply(data, place)
            parts.append(data[place:stop])
            place = stop
    except (ValueError, AssertionError, IndexError):
        return [data]
    return parts


def run_all(client: Client, data: bytes) -> bytes:
    """execute(), and turns as long as there is something to do."""
    replies = [client.engine.execute(client, data)]
    while client.more and not client.closing and not client.parked:
        replies.append(client.engine.resume(client))
    return b"".join(replies)


@contextmanager
def redis_server(*flags: str, tcp: bool = False) -> Iterator[RedisServer]:
    """A redis-server, or a visible skip where there is none; a failure where KORA_REQUIRE_PEERS asks for one."""
    peer("redis-server")
    server = RedisServer(*flags, tcp=tcp)
    try:
        yield server
    finally:
        server.control.close()
        server.stop()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server
