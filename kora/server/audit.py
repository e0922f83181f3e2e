"""The data process' end of the audit log: the ring that the sidecar empties, and questions about what was written."""

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from kora.audit import ring
from kora.audit.ring import Ring
from kora.config import SETTINGS
from kora.log import logger
from kora.observe.frame import Message

if TYPE_CHECKING:
    from kora.engine.engine import Engine

log = logger("kora.audit")

# How long the end waits for the sidecar to write what there is, which may be all of the queue.
_DRAIN_S: Final = 30.0
# And for a sidecar to be started again.
_REVIVAL_S: Final = 3.0
_LOOK_S: Final = 0.005


class AuditFeed:
    """Nothing at all where `audit-file` names no log."""

    def __init__(self, engine: "Engine", send: Callable[[Message], None], is_connected: Callable[[], bool]) -> None:
        self._engine = engine
        self._send = send
        self._is_connected = is_connected
        self._next_number = 1
        self._asked: dict[int, Callable[[Any], None]] = {}  # by number
        self._queue: Ring | None = None
        # As it was at the start: CONFIG SET may change the folder.
        self._file = ""
        config = engine.config
        if config.audit_file:
            self._file = os.path.abspath(os.path.join(config.dir, config.audit_file))
            self._queue = Ring.make(config.audit_queue_size)
            engine.audit.open(self._queue)
            engine.audit.ask = self._ask

    @property
    def fds(self) -> list[int]:
        """What the sidecar is to inherit."""
        return [self._queue.fd] if self._queue is not None else []

    def settings(self) -> dict[str, Any]:
        """Settings.audit."""
        if self._queue is None:
            return {}
        config = self._engine.config
        return {
            "fd": self._queue.fd,
            "file": self._file,
            "on_full": config.audit_on_full,
            "fsync": config.audit_fsync,
            "rotate_size": config.audit_rotate_size,
            "rotate_seconds": config.audit_rotate_seconds,
            "retention_size": config.audit_retention_size,
            "retention_days": config.audit_retention_days,
        }

    def answer(self, number: int, reply: Any) -> None:
        """The sidecar has answered."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked(reply)

    def lost(self) -> None:
        """The sidecar has gone: nobody will answer."""
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer(None)

    async def drain(self) -> None:
        """There will be no more records: wait until what there is was written, or cannot be."""
        queue = self._queue
        if queue is None:
            return
        self._engine.audit.close()
        loop = asyncio.get_running_loop()
        started = loop.time()
        while queue.used_bytes and not queue.words[ring.FAULT]:
            if loop.time() - started > (_DRAIN_S if self._is_connected() else _REVIVAL_S):
                break
            await asyncio.sleep(_LOOK_S)
        if queue.used_bytes:
            log.error("audit records are lost, since they cannot be written", queue_bytes=queue.used_bytes)

    def _ask(self, request: list[Any], answer: Callable[[Any], None]) -> None:
        if not self._is_connected():
            answer(None)
            return
        number = self._next_number
        self._next_number += 1
        self._asked[number] = answer
        self._send(["audit", number, *request])


# Settings whose change the sidecar is told.
LIVE: Final = tuple(setting.name for setting in SETTINGS if setting.section == "Audit" and setting.mutable)
