"""Transactions: what MULTI has queued, and the keys that WATCH keeps an eye on."""

from typing import TYPE_CHECKING, Final

from kora.resp.reply import Simple

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.store.keyspace import Keyspace

QUEUED: Final = Simple("QUEUED")

# What a queued request takes beside the text of its words: a list, and for each word an object and a place in the list.
REQUEST_BYTES: Final = 64
WORD_BYTES: Final = 41


class Transaction:
    """Between MULTI and EXEC."""

    __slots__ = ("is_broken", "needs_memory", "requests", "size_bytes", "writes")

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.size_bytes = 0  # of the requests
        self.is_broken = False  # a request could not even be queued: EXEC will run none
        # Whether any of them does, which EXEC does then.
        self.needs_memory = False
        self.writes = False

    def add(self, argv: list[bytes], needs_memory: bool, writes: bool) -> None:
        self.requests.append(argv)
        self.size_bytes += REQUEST_BYTES + sum(map(len, argv)) + WORD_BYTES * len(argv)
        self.needs_memory |= needs_memory
        self.writes |= writes


class Watches:
    """Which clients watch which keys, so that EXEC can tell whether one was touched."""

    def __init__(self) -> None:
        self._watchers: dict[tuple[int, bytes], dict[Client, None]] = {}

    def watch(self, client: "Client", keyspace: "Keyspace", key: bytes) -> None:
        place = keyspace.index, key
        if place in client.watched:
            return
        # A key whose time is over already is as good as absent, and stays so.
        keyspace.has(key)
        client.watched[place] = keyspace
        self._watchers.setdefault(place, {})[client] = None
        keyspace.attend(key)

    def unwatch(self, client: "Client") -> None:
        """Forget all that a client watches."""
        for place, keyspace in client.watched.items():
            watchers = self._watchers[place]
            del watchers[client]
            if not watchers:
                del self._watchers[place]
            keyspace.disregard(place[1])
        client.watched.clear()
        client.watch_broken = False

    def touch(self, place: tuple[int, bytes]) -> None:
        for client in self._watchers.get(place, ()):
            client.watch_broken = True

    def are_kept(self, client: "Client") -> bool:
        """Whether no watched key was touched; those whose time has come count as touched now."""
        for (_, key), keyspace in client.watched.items():
            keyspace.has(key)
        return not client.watch_broken
