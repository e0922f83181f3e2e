"""The data process' end of the feed, as far as a sidecar can tell, and a client for the sidecar's HTTP port."""

import http.client
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from kora.observe.board import HEARTBEAT, READY, STATE, Board
from kora.observe.frame import Decoder, Message, encode
from kora.observe.tracked_ring import TrackedRing
from tests.ports import free_port

WAIT_S = 20.0


@dataclass
class Answer:
    code: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class DataProcess:
    """Starts `python -m kora.sidecar` and speaks with it; the test decides what it says and when."""

    def __init__(self) -> None:
        self.board = Board.shared()
        self.board.words[STATE] = READY
        self.ring = TrackedRing.shared()
        self.port = free_port()
        self.feed, theirs = socket.socketpair()
        self.feed.settimeout(WAIT_S)
        self._decoder = Decoder()
        self._received: list[Message] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kora.sidecar", *map(str, (theirs.fileno(), self.board.fd, -1, self.ring.fd))],
            pass_fds=(theirs.fileno(), self.board.fd, self.ring.fd),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        theirs.close()

    def beat(self, late_ms: float = 0) -> None:
        """Say on the board that the loop last turned so long ago."""
        self.board.words[HEARTBEAT] = time.monotonic_ns() - int(late_ms * 1e6)

    def settings(self, **changes: Any) -> dict[str, Any]:
        # port stands for whatever else the data process tells and the sidecar does not need.
        return {
            "version": "1.2.3",
            "kernel": "python",
            "started_ms": 1_700_000_000_000,
            "port": 6379,
            "metrics_bind": ["127.0.0.1"],
            "metrics_port": self.port,
            "loop_stall_ms": 1000,
            "restarts": 2,
            **changes,
        }

    def start(self, **changes: Any) -> Message:
        """Tell the settings and return what the sidecar says to them."""
        self.send(["settings", self.settings(**changes)])
        return self.receive()

    def send(self, message: Message) -> None:
        self.feed.sendall(encode(message))

    def receive(self) -> Message:
        while not self._received:
            data = self.feed.recv(65536)
            assert data, f"the sidecar has gone: {self.stderr()}"
            self._received += self._decoder.feed(data)
        return self._received.pop(0)

    def is_asked(self) -> bool:
        """Whether a message of the sidecar waits to be read."""
        return bool(self._received or select.select([self.feed], [], [], 0)[0])

    def get(self, path: str, accept: str = "", method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, headers={**({"Accept": accept} if accept else {}), **(headers or {})})
            response = connection.getresponse()
            body = response.read()
            return Answer(response.status, response.headers, body)
        finally:
            connection.close()

    def exit_code(self) -> int:
        """Of a sidecar that is about to end."""
        return self.process.wait(WAIT_S)

    def stderr(self) -> str:
        """Everything that an ended sidecar has logged."""
        self.process.wait(WAIT_S)
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def stop(self) -> None:
        self.feed.close()
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.board.close()
            self.ring.close()
