"""What connections take, and maxmemory-clients, the limit to that: beyond it those that take most are closed.

As in Redis 7 (evictClients, server.c), except that sizes are not kept up to date with every command but read off the
clients, some at a time and all of them several times per second, so that a server without the limit pays nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from kora.engine.transactions import REQUEST_BYTES, WORD_BYTES

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine

# What an idle connection takes of this process: Client, Parser, Connection and transport; 3,350 measured over 3,000,
# and 3,090 on pure Python.
CONNECTION_BYTES: Final = 3_350
# A name that is listened to or watched, beside its text: it stands in a table of the client and in one of the server.
_NAME_BYTES: Final = 200
# Less would not even let clients speak: Redis' number (getClientEvictionLimit, server.c).
_LIMIT_MIN_BYTES: Final = 128 * 1024


def memory_bytes(client: "Client") -> int:
    """All that a client takes: tot-mem of CLIENT LIST, but for the request that runs."""
    size_bytes = CONNECTION_BYTES + client.parser.buffered_bytes + client.output_bytes()
    if client.transaction is not None:
        size_bytes += client.transaction.size_bytes
    if client.backlog:
        size_bytes += sum(map(_request_bytes, client.backlog))
    if client.waiting is not None:
        size_bytes += _request_bytes(client.waiting.argv)
    if client.subscriptions_count or client.watched:
        for names in (client.channels, client.patterns, client.shard_channels):
            size_bytes += len(names) * _NAME_BYTES + sum(map(len, names))
        size_bytes += len(client.watched) * _NAME_BYTES + sum(len(key) for _, key in client.watched)
    return size_bytes


def _request_bytes(argv: list[bytes]) -> int:
    return REQUEST_BYTES + WORD_BYTES * len(argv) + sum(map(len, argv))


def limit_bytes(maxmemory_clients: int, maxmemory: int) -> int:
    """maxmemory-clients in bytes; 0 if there is no limit.  Below 0 it is that much per cent of maxmemory."""
    if maxmemory_clients < 0:
        wanted_bytes = maxmemory * -maxmemory_clients // 100
    else:
        wanted_bytes = maxmemory_clients
    return max(wanted_bytes, _LIMIT_MIN_BYTES) if wanted_bytes else 0


class ClientEvictor:
    """Adds up what clients take, in rounds, and closes the largest at the end of a round that was beyond the limit."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._round: Iterator[Client] = iter(())
        self._sizes: dict[Client, int] = {}  # in bytes, of those that this round has seen
        self.evicted = 0

    def look(self, budget_ns: int) -> bool:
        """Go on with the round for so long; returns whether it goes on."""
        engine = self._engine
        limit = limit_bytes(engine.config.maxmemory_clients, engine.config.maxmemory)
        if not limit:
            self._end()
            return False
        if not self._sizes:
            self._round = iter(list(engine.clients.values()))
        stop_ns = engine.monotonic_ns() + budget_ns
        for client in self._round:
            self._sizes[client] = memory_bytes(client)
            if engine.monotonic_ns() >= stop_ns:
                return True
        self._evict(limit)
        self._end()
        return False

    def _evict(self, limit: int) -> None:
        engine = self._engine
        # Who has gone since takes nothing; the others have changed, and only those that look large are asked again.
        sizes = {client: size for client, size in self._sizes.items() if client.id in engine.clients}
        total = sum(sizes.values())
        if total < limit:
            return
        for client in sorted(sizes, key=lambda client: -sizes[client]):
            if total < limit:
                break
            # As in Redis these count, and stay.
            if client.never_evicted:
                continue
            size_bytes = memory_bytes(client)
            if size_bytes < sizes[client] // 2:
                total += size_bytes - sizes[client]
                continue
            total -= sizes[client]
            self.evicted += 1
            engine.log("warning", "client evicted", client=client.address, size_bytes=size_bytes)
            engine.kill(client)

    def _end(self) -> None:
        self._round = iter(())
        self._sizes.clear()
