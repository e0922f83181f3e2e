"""A server under a background load, and what can be wrong with it, for tests of DOCTOR."""

import contextlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import encode_request
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END, Wire

# A finding of the machine's is no fault of the server's, and comes and goes with whoever else uses the machine.
OF_THE_MACHINE = frozenset(("busy-machine",))
FOUND_S_MAX = 5.0


@dataclass
class Culprit:
    """What a finding must say; None: anything."""

    command: str | None = None
    key: str | None = None
    client: str | None = None


class Ward:
    """A Kora and a load on it that is healthy."""

    def __init__(self, server: KoraProcess) -> None:
        self.server = server
        self.owed: list[str] = []  # findings that are to go
        self._wire = server.connect(timeout_s=60)
        self._stopped = threading.Event()
        self._load = threading.Thread(target=self._keep_busy, daemon=True)
        self._load.start()

    def close(self) -> None:
        self._stopped.set()
        self._load.join()

    def run(self, *words: object) -> Any:
        """One request, on a connection that is always there."""
        return self._wire.run(*words)

    def findings(self, seconds: int = 1) -> list[dict[str, Any]]:
        """What DOCTOR finds, but for what is the machine's affair."""
        found = json.loads(self.run("DOCTOR", "JSON", "LAST", seconds))["findings"]
        return [finding for finding in found if finding["id"] not in OF_THE_MACHINE]

    def _keep_busy(self) -> None:
        """Some hundred requests a second of the kinds that applications make."""
        chance = random.Random(5)
        with self.server.connect(timeout_s=60) as wire:
            while not self._stopped.wait(0.03):
                with contextlib.suppress(OSError):
                    wire.pipeline(*(_usual_request(chance) for _ in range(10)))


class Checkup:
    """Looks once a second what is wrong with a server of which nothing is."""

    def __init__(self, ward: Ward) -> None:
        self._ward = ward
        self.looks = 0
        self.found: list[dict[str, Any]] = []  # above info
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._ward.close()

    def _look(self) -> None:
        while not self._stopped.wait(1):
            findings = self._ward.findings(min(10, self.looks + 1))
            self.found += [finding for finding in findings if finding["severity"] != "info"]
            self.looks += 1


def _usual_request(chance: random.Random) -> tuple[object, ...]:
    number = int(chance.paretovariate(0.5)) % 2_000
    return chance.choice(
        [
            ("GET", f"page:{number}"),
            ("SET", f"page:{number}", "x" * chance.randrange(300), "EX", 600 + number),
            ("HSET", f"user:{number}", "name", "n", "seen", number),
            ("HGETALL", f"user:{number}"),
            ("ZADD", "board", number, f"user:{number}"),
            ("ZRANGE", "board", 0, 9, "REV"),
            ("LPUSH", f"feed:{number % 50}", number),
            ("LTRIM", f"feed:{number % 50}", 0, 99),
            ("LRANGE", f"feed:{number % 50}", 0, 9),
            ("INCR", f"visits:{number}"),
            ("EXPIRE", f"visits:{number}", 600),
            ("DEL", f"visits:{number}"),
            ("MGET", *(f"page:{number + place}" for place in range(5))),
        ]
    )


@dataclass
class Fault:
    """Something that is wrong for as long as `with fault.going_on(ward) as culprit` lasts."""

    finding: str
    going_on: Callable[[Ward], "contextlib.AbstractContextManager[Culprit]"]
    severities: tuple[str, ...] = ("warning", "critical")


@dataclass
class Patient:
    """One client that does something over and over, until it is told to stop or its connection is closed."""

    ward: Ward
    deed: Callable[[Wire], object]
    pause_s: float = 0.0
    wire: Wire = field(init=False)

    def __enter__(self) -> "Patient":
        self.wire = self.ward.server.connect(timeout_s=60)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self.wire.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.wire.close()

    def _go_on(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopped.is_set() and self.deed(self.wire) is not END:
                self._stopped.wait(self.pause_s)


def repeating(*words: object, pause_s: float = 0.0) -> Callable[[Wire], object]:
    data = encode_request(words)

    def deed(wire: Wire) -> object:
        wire.send(data)
        return wire.read()

    return deed


@contextlib.contextmanager
def setting(ward: Ward, name: str, value: object) -> Iterator[None]:
    before = ward.run("CONFIG", "GET", name)[1]
    assert ward.run("CONFIG", "SET", name, value) == b"OK"
    try:
        yield
    finally:
        assert ward.run("CONFIG", "SET", name, before) == b"OK"


# What may be wrong.


@contextlib.contextmanager
def sorting(ward: Ward) -> Iterator[Culprit]:
    for start in range(0, 50_000, 500):
        ward.run("RPUSH", "backlog", *range(start, start + 500))
    with Patient(ward, repeating("SORT", "backlog", "LIMIT", 0, 10), pause_s=0.1) as patient:
        yield Culprit("sort", "backlog", patient.wire.address)
    ward.run("UNLINK", "backlog")


@contextlib.contextmanager
def hot_key(ward: Ward) -> Iterator[Culprit]:
    data = encode_request(("GET", "front-page")) * 100

    def deed(wire: Wire) -> object:
        wire.send(data)
        return wire.read_many(100)[-1]

    with Patient(ward, deed) as patient:
        yield Culprit(None, "front-page", patient.wire.address)


@contextlib.contextmanager
def flushes(ward: Ward) -> Iterator[Culprit]:
    data = b"".join(
        encode_request(("ZADD", "board", *(n for n in range(start, start + 500) for _ in "12")))
        for start in range(0, 100_000, 500)
    )

    def deed(wire: Wire) -> object:
        wire.run("SELECT", 9)
        wire.send(data)
        if wire.read_many(200)[-1] is END:
            return END
        return wire.run("FLUSHDB")

    with setting(ward, "lazyfree-lazy-user-flush", "no"), Patient(ward, deed) as patient:
        yield Culprit("flushdb", None, patient.wire.address)


@contextlib.contextmanager
def mass_expiry(ward: Ward) -> Iterator[Culprit]:
    some_ms = b"1000000000000"
    data = [
        b"".join(encode_request(("SET", f"session:{n}", "v", "PXAT", some_ms)) for n in range(start, start + 500))
        for start in range(0, 30_000, 500)
    ]

    def deed(wire: Wire) -> object:
        end_ms = b"%d" % (time.time() * 1000 + 500)
        for part in data:
            wire.send(part.replace(some_ms, end_ms))
            if wire.read_many(500)[-1] is END:
                return END
        return None

    with Patient(ward, deed, pause_s=0.5):
        yield Culprit(None, "session:*", None)


@contextlib.contextmanager
def thrashing(ward: Ward) -> Iterator[Culprit]:
    value = "x" * 1_000

    def deed(wire: Wire) -> object:
        numbers = [random.randrange(5_000) for _ in range(100)]
        wire.send(b"".join(encode_request(("SET", f"cache:{n}", value, "EX", 1_000)) for n in numbers))
        return wire.read_many(100)[-1]

    ward.run("FLUSHALL", "SYNC")  # what other faults have left would go meanwhile, and make room
    with (
        setting(ward, "maxmemory-policy", "volatile-lru"),
        setting(ward, "maxmemory", used_bytes(ward) + 4_000_000),
        Patient(ward, deed),
    ):
        yield Culprit("set", None, None)
    forget(ward, "cache:*")


@contextlib.contextmanager
def full(ward: Ward) -> Iterator[Culprit]:
    # So much that what the load writes meanwhile is little beside it.
    for number in range(4):
        ward.run("SET", f"archive:{number}", "x" * 900_000)
    with (
        setting(ward, "maxmemory-policy", "noeviction"),
        setting(ward, "maxmemory", int(used_bytes(ward) * 0.8)),
        Patient(ward, repeating("SET", "more", "x"), pause_s=0.01),
    ):
        yield Culprit(None, None, None)
    forget(ward, "archive:*")


@contextlib.contextmanager
def connection_storm(ward: Ward) -> Iterator[Culprit]:
    def deed(wire: Wire) -> object:
        with ward.server.connect() as other:
            return other.run("PING")

    with Patient(ward, deed):
        yield Culprit(None, None, "127.0.0.1")


@contextlib.contextmanager
def turned_away(ward: Ward) -> Iterator[Culprit]:
    def deed(wire: Wire) -> object:
        with contextlib.suppress(OSError), ward.server.connect() as other:
            other.run("PING")
        return None

    clients = ward.run("CLIENT", "LIST").count(b"\n")
    with Patient(ward, deed, pause_s=0.05), setting(ward, "maxclients", clients + 1):
        yield Culprit(None, None, None)


@contextlib.contextmanager
def not_reading(ward: Ward) -> Iterator[Culprit]:
    ward.run("SET", "page", "x" * 900_000)
    wire = ward.server.connect()
    wire.send(encode_request(("GET", "page")) * 40)
    yield Culprit("get", None, wire.address)
    wire.close()
    ward.run("UNLINK", "page")


@contextlib.contextmanager
def guessing(ward: Ward) -> Iterator[Culprit]:
    with Patient(ward, repeating("AUTH", "admin", "letmein"), pause_s=0.005) as patient:
        yield Culprit("auth", None, patient.wire.address)


@contextlib.contextmanager
def wrong_types(ward: Ward) -> Iterator[Culprit]:
    ward.run("SET", "profile:1", "text")
    with Patient(ward, repeating("LPUSH", "profile:1", "v"), pause_s=0.005) as patient:
        yield Culprit("lpush", "profile:1", patient.wire.address)
    ward.run("UNLINK", "profile:1")


@contextlib.contextmanager
def monster_pipeline(ward: Ward) -> Iterator[Culprit]:
    data = b"".join(encode_request(("GET", f"item:{number}")) for number in range(100_000))

    def deed(wire: Wire) -> object:
        """Somebody else reads, or both sides would wait for each other."""
        wire.send(data)
        return None

    with Patient(ward, deed) as patient:
        reader = threading.Thread(target=_read_all, args=(patient.wire,), daemon=True)
        reader.start()
        yield Culprit("get", None, patient.wire.address)
    reader.join()


def _read_all(wire: Wire) -> None:
    with contextlib.suppress(OSError):
        while wire.sock.recv(1 << 20):
            pass


@contextlib.contextmanager
def huge_values(ward: Ward) -> Iterator[Culprit]:
    with Patient(ward, repeating("SET", "export", "x" * 8_000_000), pause_s=0.05) as patient:
        yield Culprit("set", "export", patient.wire.address)
    ward.run("UNLINK", "export")


_SLEEPER = """
local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end
local stop = now() + ARGV[1] * 1000
while now() < stop do end
"""


@contextlib.contextmanager
def long_scripts(ward: Ward) -> Iterator[Culprit]:
    with Patient(ward, repeating("EVAL", _SLEEPER, 0, 300), pause_s=0.1) as patient:
        yield Culprit("eval", None, patient.wire.address)


@contextlib.contextmanager
def endless_script(ward: Ward) -> Iterator[Culprit]:
    with (
        setting(ward, "busy-reply-threshold", 100),
        Patient(ward, repeating("EVAL", "while true do end", 0), pause_s=100) as patient,
    ):
        yield Culprit("eval", None, patient.wire.address)
        eventually(lambda: ward.run("PING") == "PONG" or ward.run("PING") == b"PONG", "the script is over")


@contextlib.contextmanager
def forgotten_monitor(ward: Ward) -> Iterator[Culprit]:
    wire = ward.server.connect()
    wire.send(encode_request(("MONITOR",)))
    reader = threading.Thread(target=_read_all, args=(wire,), daemon=True)
    reader.start()
    yield Culprit("monitor", None, wire.address)
    with contextlib.suppress(OSError):
        wire.sock.shutdown(socket.SHUT_RDWR)
    reader.join()
    wire.close()


def used_bytes(ward: Ward) -> int:
    lines = ward.run("INFO", "memory").splitlines()
    return int(next(line for line in lines if line.startswith(b"used_memory:")).partition(b":")[2])


def forget(ward: Ward, pattern: str) -> None:
    cursor = b"0"
    while True:
        cursor, keys = ward.run("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000)
        if keys:
            ward.run("UNLINK", *keys)
        if cursor == b"0":
            return


FAULTS = (
    Fault("slow-command", sorting),
    Fault("hot-key", hot_key),
    Fault("slow-flush", flushes),
    Fault("mass-expiry", mass_expiry),
    Fault("eviction-thrash", thrashing),
    Fault("out-of-memory", full),
    Fault("connection-storm", connection_storm),
    Fault("connections-rejected", turned_away),
    Fault("client-not-reading", not_reading),
    Fault("failed-logins", guessing),
    Fault("failing-commands", wrong_types),
    Fault("large-pipeline", monster_pipeline),
    Fault("huge-values", huge_values),
    Fault("long-script", long_scripts),
    Fault("long-script", endless_script),
    Fault("monitor", forgotten_monitor),
)
