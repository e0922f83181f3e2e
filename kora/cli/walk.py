"""All keys of a running server, whatever its make: found with SCAN, read with DUMP, some hundred at a time.

What SCAN promises holds for the walk: a key that is there all the time is met, perhaps twice; one that comes or goes
meanwhile may be met or not.
"""

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

REMEDY: Final = "this needs one package more: pip install 'kora-server[copy]'"
DEFAULT_URL: Final = "redis://127.0.0.1:6379"

_TIMEOUT_S: Final = 60
_SCANNED: Final = 1000
# What is asked for at once: that many keys, and fewer where they are large.
_KEYS_MIN: Final = 1
_KEYS_MAX: Final = 500
_BYTES_WANTED: Final = 8 << 20


class Refused(Exception):
    """What the other server would not do, in its words."""


class Link:
    """A connection to a server.  Whatever goes wrong with it is a redis.RedisError or an OSError."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for what is no URL, and ImportError without redis-py."""
        import redis

        client = redis.Redis.from_url(url, protocol=2, socket_timeout=_TIMEOUT_S, socket_connect_timeout=10)
        pool = client.connection_pool
        # Its own database is chosen only where the walk wants none in particular.
        names_one = "db" in parse_qs(urlsplit(url).query) or re.fullmatch(r"/\d+", urlsplit(url).path)
        self.database: int | None = int(pool.connection_kwargs.get("db") or 0) if names_one else None
        # Not by the client's own commands, which take ten times as long as the server does.
        self._connection: Any = pool.make_connection()
        self._error: type[Exception] = redis.ResponseError
        self.do("PING")

    def send(self, requests: Sequence[tuple[object, ...]]) -> None:
        """Requests whose replies are received later, and are short: nobody reads them meanwhile."""
        connection = self._connection  # which connects when it first has something to send
        connection.send_packed_command(connection.pack_commands(requests), check_health=False)

    def ask(self, requests: Sequence[tuple[object, ...]]) -> list[Any]:
        """The replies, of which those that are errors are exceptions."""
        self.send(requests)
        return self.receive(len(requests))

    def receive(self, count: int) -> list[Any]:
        replies = []
        for _ in range(count):
            try:
                replies.append(self._connection.read_response(disable_decoding=True))
            except self._error as error:  # noqa: PERF203 - it is how a reply is told to be an error
                replies.append(error)
        return replies

    def do(self, *words: object) -> Any:
        """One reply.  Raises Refused."""
        reply = self.ask([words])[0]
        if isinstance(reply, Exception):
            raise Refused(str(reply))
        return reply

    def info(self, section: str) -> dict[str, str]:
        text = self.do("INFO", section).decode("utf-8", "replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def counts(self) -> dict[int, int]:
        """Keys by database, of those that have any."""
        fields = self.info("keyspace")
        return {
            int(name[2:]): int(text.partition(",")[0].partition("=")[2])
            for name, text in fields.items()
            if name.startswith("db")
        }

    def close(self) -> None:
        self._connection.disconnect()


@dataclass(frozen=True)
class Found:
    """A key as it was when it was read."""

    name: bytes
    payload: bytes
    deadline: int  # what the request for it has answered: a TTL in ms, or a time


class Batch:
    """How many keys to ask for at once, by how large the last were."""

    def __init__(self) -> None:
        self.count = 10

    def note(self, count: int, size_bytes: int) -> None:
        wanted = _BYTES_WANTED * count // max(1, size_bytes)
        self.count = max(_KEYS_MIN, min(_KEYS_MAX, wanted, 4 * self.count))


def walk(link: Link, database: int, cursor: bytes, question: str, batch: Batch) -> Iterator[tuple[bytes, list[Found]]]:
    """The keys of a database from a cursor on, with the cursor from which to go on behind them.

    `question` is PTTL or PEXPIRETIME.  Raises Refused.
    """
    link.do("SELECT", database)
    while True:
        following, names = link.do("SCAN", cursor, "COUNT", _SCANNED)
        found = []
        place = 0
        while place < len(names):
            part = names[place : place + batch.count]
            place += len(part)
            rows = read(link, part, question)
            batch.note(len(part), sum(len(row.payload) for row in rows))
            if place < len(names):
                # Not yet the cursor behind these: whoever goes on from here has the rest of them to do.
                yield cursor, rows
            else:
                found = rows
        yield following, found
        if following == b"0":
            return
        cursor = following


def read(link: Link, names: Iterable[bytes], question: str) -> list[Found]:
    """Keys that are still there.  Raises Refused."""
    names = list(names)
    replies = link.ask([request for name in names for request in (("DUMP", name), (question, name))])
    found = []
    for name, payload, deadline in zip(names, replies[::2], replies[1::2], strict=True):
        for reply in (payload, deadline):
            if isinstance(reply, Exception):
                raise Refused(str(reply))
        if payload is not None and deadline != -2:
            found.append(Found(name, payload, deadline))
    return found


class Progress:
    """A line on the terminal that changes, or one in the log now and then."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total = total
        self._done_before = self.done = done
        self._is_terminal = sys.stderr.isatty()
        self._started_s = time.monotonic()
        self._shown_s = self._started_s

    def add(self, count: int, what: str) -> None:
        self.done += count
        now_s = time.monotonic()
        if now_s - self._shown_s < (0.2 if self._is_terminal else 10):
            return
        self._shown_s = now_s
        rate = (self.done - self._done_before) / (now_s - self._started_s)
        # More may have come since they were counted.
        total = max(self._total, self.done)
        percent = 100 * self.done / total if total else 100.0
        left_s = int((total - self.done) / rate) if rate else 0
        text = f"{what}: {self.done} of {total} keys, {percent:.1f} %, {rate:.0f} a second, {_minutes(left_s)} left"
        bar = "#" * int(percent / 5)
        if self._is_terminal:
            print(f"\r[{bar:20}] {text}", end="\033[K", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _minutes(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
