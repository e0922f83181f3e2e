"""Channels: who listens to what, and the messages to them.

There are three spaces of names: channels, patterns of channels, and sharded channels, which in a cluster stay on one
shard.  A message is encoded once for each protocol, however many listen.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kora.glob import Matcher, matcher
from kora.resp.reply import Push, encode2, encode3

if TYPE_CHECKING:
    from kora.engine.client import Client


class Space:
    """Names that clients listen to, each in the order in which they came."""

    def __init__(self, suffix: str) -> None:
        self.subscribe_word = f"{suffix}subscribe".encode()
        self.unsubscribe_word = f"{suffix}unsubscribe".encode()
        self.listeners: dict[bytes, dict[Client, None]] = {}

    def add(self, client: "Client", name: bytes) -> None:
        self.listeners.setdefault(name, {})[client] = None

    def remove(self, client: "Client", name: bytes) -> None:
        listeners = self.listeners[name]
        del listeners[client]
        if not listeners:
            del self.listeners[name]


class PubSub:
    def __init__(self) -> None:
        self.channels: Final = Space("")
        self.patterns: Final = Space("p")
        self.shard_channels: Final = Space("s")
        self._matchers: dict[bytes, Matcher] = {}  # of the patterns
        self.messages_sent = 0

    def subscribe(self, client: "Client", space: Space, name: bytes) -> None:
        """Nothing happens where the client listens already."""
        names = client.subscriptions(space)
        if name not in names:
            names[name] = None
            space.add(client, name)
            if space is self.patterns and name not in self._matchers:
                self._matchers[name] = matcher(name)
            client.update_gate()

    def unsubscribe(self, client: "Client", space: Space, name: bytes) -> None:
        names = client.subscriptions(space)
        if name in names:
            del names[name]
            space.remove(client, name)
            if space is self.patterns and name not in space.listeners:
                del self._matchers[name]
            client.update_gate()

    def forget(self, client: "Client") -> None:
        """A client listens to nothing more."""
        for space in (self.channels, self.patterns, self.shard_channels):
            for name in list(client.subscriptions(space)):
                self.unsubscribe(client, space, name)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message to all who listen to a channel or to a pattern of it; returns to how many."""
        sent = self._send(self.channels.listeners.get(channel), [b"message", channel, message])
        for pattern, matches in self._matchers.items():
            if matches(channel):
                sent += self._send(self.patterns.listeners[pattern], [b"pmessage", pattern, channel, message])
        return sent

    def spublish(self, channel: bytes, message: bytes) -> int:
        return self._send(self.shard_channels.listeners.get(channel), [b"smessage", channel, message])

    def _send(self, listeners: "dict[Client, None] | None", items: list[bytes]) -> int:
        if not listeners:
            return 0
        encoded: dict[int, bytes] = {}
        encoders: dict[int, Callable[[Push], bytes]] = {2: encode2, 3: encode3}
        # Those who listen now: one may be given up for what waits for it, and be gone before the next has its message.
        hearers = list(listeners)
        for client in hearers:
            data = encoded.get(client.protocol)
            if data is None:
                data = encoded[client.protocol] = encoders[client.protocol](Push(items))
            client.push(data)
        self.messages_sent += len(hearers)
        return len(hearers)
