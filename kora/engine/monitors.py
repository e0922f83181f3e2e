"""MONITOR: clients that are shown every request that runs, as one line each.

    1700000000.123456 [0 127.0.0.1:50000] "SET" "key" "value"

Lines are collected and sent together, soon after.  What a monitor does not read waits in its connection only up to a
limit (description.output_limits()); beyond it the monitor is dropped.  While there is one, call() runs everything.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

# Lines that are collected at most before they are sent.
_BATCH_BYTES: Final = 1 << 16

# sdscatrepr (sds.c).
_SPECIAL: Final = re.compile(rb"[^ !#-\[\]-~]")
_NAMED: Final = {
    b"\\": b"\\\\",
    b'"': b'\\"',
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
    b"\a": b"\\a",
    b"\b": b"\\b",
}
_ESCAPES: Final = {byte: b"\\x%02x" % code for code, byte in enumerate(map(bytes, zip(range(256))))} | _NAMED


class Monitors:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._clients: dict[Client, None] = {}  # in the order in which they came
        self._lines: list[bytes] = []
        self._lines_bytes = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def clients(self) -> "Iterable[Client]":
        return self._clients

    def add(self, client: "Client") -> None:
        # What was shown to others before is not for this one.
        self.flush()
        self._clients[client] = None
        self._changed(client, True)

    def forget(self, client: "Client") -> None:
        """A client has gone, or wants no more."""
        if client in self._clients:
            del self._clients[client]
            self._changed(client, False)

    def show(self, client: "Client", argv: Sequence[bytes]) -> None:
        """A request, of which secrets were taken out, has run."""
        time_s, time_us = divmod(self._engine.clock.wall_us(), 1_000_000)
        words = b" ".join([b'"%b"' % quoted(word) for word in argv])
        line = b"+%d.%06d [%d %b] %b\r\n" % (time_s, time_us, client.db.index, _source(client), words)
        if not self._lines:
            self._engine.call_later(0, self.flush)
        self._lines.append(line)
        self._lines_bytes += len(line)
        if self._lines_bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was collected."""
        if self._lines:
            data = b"".join(self._lines)
            self._lines.clear()
            self._lines_bytes = 0
            for client in list(self._clients):
                client.push(data)

    def _changed(self, client: "Client", is_monitor: bool) -> None:
        client.is_monitor = is_monitor
        client.update_gate()
        self._engine.update_gate()
        self._engine.slowness.update()


def _source(client: "Client") -> bytes:
    if client.is_script:
        return b"lua"
    address = client.address.encode("utf-8", "surrogateescape")
    return b"unix:" + address.removesuffix(b":0") if address.endswith(b":0") else address


def quoted(word: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], word)
