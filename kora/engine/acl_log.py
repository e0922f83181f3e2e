"""ACL LOG: what clients were not allowed to do, newest first, and what that was counted as.

The same denial again within a minute is the same entry, counted once more, so that one client that tries over and over
does not push out all the others.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kora.engine.description import describe
from kora.observe.recent import LOGINS, host_of
from kora.observe.spikes import Offender

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

# Redis' values (addACLLogEntry, acl.c): how long denials are the same entry, and among how many of the newest.
_SAME_ENTRY_MS: Final = 60_000
_LOOKED_AT_MAX: Final = 10


@dataclass
class Entry:
    id: int
    count: int
    reason: str  # auth, command, key, channel
    context: str  # toplevel, multi, lua
    object: bytes
    username: bytes
    client_info: str
    created_ms: int
    updated_ms: int


class AccessLog:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._next_id = 0
        self.entries: list[Entry] = []
        self.denied: Counter[str] = Counter()  # by reason, since the start
        engine.config.on_change("acllog-max-len", lambda _: self._trim())

    def add(self, client: "Client", reason: str, what: bytes, username: bytes) -> None:
        self.denied[reason] += 1
        if reason == "auth":
            deed = self._engine.recent.note(LOGINS, host_of(client.address))
            deed.offender = Offender(what.decode().lower(), b"", client.address, client.name)
        now_ms = self._engine.clock.wall_ms()
        is_multi = client.transaction is not None or self._engine.nested
        context = "lua" if self._engine.in_script else "multi" if is_multi else "toplevel"
        info = describe(client, 0, 0).rstrip("\n")
        for place, entry in enumerate(self.entries[:_LOOKED_AT_MAX]):
            same = (entry.reason, entry.context, entry.object, entry.username) == (reason, context, what, username)
            if same and abs(now_ms - entry.updated_ms) <= _SAME_ENTRY_MS:
                entry.count += 1
                entry.updated_ms = now_ms
                entry.client_info = info
                self.entries.insert(0, self.entries.pop(place))
                return
        self.entries.insert(0, Entry(self._next_id, 1, reason, context, what, username, info, now_ms, now_ms))
        self._next_id += 1
        self._trim()

    def clear(self) -> None:
        self.entries.clear()

    def _trim(self) -> None:
        del self.entries[self._engine.config.acllog_max_len :]
