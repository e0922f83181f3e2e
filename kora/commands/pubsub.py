"""Channels: listening to them, speaking on them, and looking who does."""

from kora.engine.client import Client
from kora.engine.pubsub import Space
from kora.engine.registry import Family, keys_at
from kora.errors import CommandError
from kora.glob import matcher
from kora.resp.reply import Push, Replies, Reply

pubsub = Family("pubsub")

_LISTENING = "pubsub noscript loading stale"
_SPEAKING = "pubsub loading stale fast"
_SUBSCRIBE_COMPLEXITY = "O(N) where N is the number of channels to subscribe to."
_UNSUBSCRIBE_COMPLEXITY = "O(N) where N is the number of channels to unsubscribe."


@pubsub(
    "SUBSCRIBE channel [channel ...]",
    "Listens to channels.",
    flags=_LISTENING,
    since="2.0.0",
    complexity=_SUBSCRIBE_COMPLEXITY,
    acl="slow",
)
def subscribe(client: Client, argv: list[bytes]) -> Reply:
    return _subscribe(client, client.engine.pubsub.channels, argv[1:])


@pubsub(
    "UNSUBSCRIBE [channel ...]",
    "Stops listening to channels, or to all.",
    flags=_LISTENING,
    since="2.0.0",
    complexity=_UNSUBSCRIBE_COMPLEXITY,
    acl="slow",
)
def unsubscribe(client: Client, argv: list[bytes]) -> Reply:
    return _unsubscribe(client, client.engine.pubsub.channels, argv[1:])


@pubsub(
    "PSUBSCRIBE pattern:pattern [pattern:pattern ...]",
    "Listens to all channels that match patterns.",
    flags=_LISTENING,
    since="2.0.0",
    complexity="O(N) where N is the number of patterns to subscribe to.",
    acl="slow",
)
def psubscribe(client: Client, argv: list[bytes]) -> Reply:
    return _subscribe(client, client.engine.pubsub.patterns, argv[1:])


@pubsub(
    "PUNSUBSCRIBE [pattern:pattern ...]",
    "Stops listening to channels that match patterns, or to all such.",
    flags=_LISTENING,
    since="2.0.0",
    complexity="O(N) where N is the number of patterns to unsubscribe.",
    acl="slow",
)
def punsubscribe(client: Client, argv: list[bytes]) -> Reply:
    return _unsubscribe(client, client.engine.pubsub.patterns, argv[1:])


@pubsub(
    "SSUBSCRIBE shardchannel [shardchannel ...]",
    "Listens to sharded channels.",
    flags=_LISTENING,
    since="7.0.0",
    complexity="O(N) where N is the number of shard channels to subscribe to.",
    acl="slow",
    keys=(keys_at(1, -1),),
    access="not_key",
)
def ssubscribe(client: Client, argv: list[bytes]) -> Reply:
    if client.engine.nested:
        raise CommandError("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
    return _subscribe(client, client.engine.pubsub.shard_channels, argv[1:])


@pubsub(
    "SUNSUBSCRIBE [shardchannel ...]",
    "Stops listening to sharded channels, or to all.",
    flags=_LISTENING,
    since="7.0.0",
    complexity="O(N) where N is the number of shard channels to unsubscribe.",
    acl="slow",
    keys=(keys_at(1, -1),),
    access="not_key",
)
def sunsubscribe(client: Client, argv: list[bytes]) -> Reply:
    return _unsubscribe(client, client.engine.pubsub.shard_channels, argv[1:])


def _subscribe(client: Client, space: Space, names: list[bytes]) -> Reply:
    replies = []
    for name in names:
        client.engine.pubsub.subscribe(client, space, name)
        replies.append(Push([space.subscribe_word, name, _count(client, space)]))
    return Replies(*replies)


def _unsubscribe(client: Client, space: Space, names: list[bytes]) -> Reply:
    names = names or list(client.subscriptions(space))
    replies = []
    for name in names:
        client.engine.pubsub.unsubscribe(client, space, name)
        replies.append(Push([space.unsubscribe_word, name, _count(client, space)]))
    return Replies(*replies) if names else Push([space.unsubscribe_word, None, _count(client, space)])


def _count(client: Client, space: Space) -> int:
    """As the replies tell it: channels and patterns are counted together, sharded channels apart."""
    if space is client.engine.pubsub.shard_channels:
        return len(client.shard_channels)
    return len(client.channels) + len(client.patterns)


@pubsub(
    "PUBLISH channel message",
    "Sends a message to all who listen to a channel, and returns how many these are.",
    flags=_SPEAKING,
    since="2.0.0",
    complexity="O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number "
    "of subscribed patterns (by any client).",
)
def publish(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.pubsub.publish(argv[1], argv[2])


@pubsub(
    "SPUBLISH shardchannel message",
    "Sends a message to all who listen to a sharded channel, and returns how many these are.",
    flags=_SPEAKING,
    since="7.0.0",
    complexity="O(N) where N is the number of clients subscribed to the receiving shard channel.",
    keys=(keys_at(1),),
    access="not_key",
)
def spublish(client: Client, argv: list[bytes]) -> Reply:
    return client.engine.pubsub.spublish(argv[1], argv[2])


pubsub.container("PUBSUB", "Tells who listens to what.", since="2.8.0", help_since="6.2.0")

_LOOKING = "pubsub loading stale"


@pubsub(
    "PUBSUB CHANNELS [pattern:pattern]",
    "Returns the channels that somebody listens to.",
    flags=_LOOKING,
    since="2.8.0",
    complexity="O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively "
    "short channels and patterns)",
)
def pubsub_channels(client: Client, argv: list[bytes]) -> Reply:
    return _names(client.engine.pubsub.channels, argv)


@pubsub(
    "PUBSUB NUMSUB [channel ...]",
    "Returns how many listen to each of some channels.",
    flags=_LOOKING,
    since="2.8.0",
    complexity="O(N) for the NUMSUB subcommand, where N is the number of requested channels",
)
def pubsub_numsub(client: Client, argv: list[bytes]) -> Reply:
    return _counts(client.engine.pubsub.channels, argv)


@pubsub("PUBSUB NUMPAT", "Returns how many patterns somebody listens to.", flags=_LOOKING, since="2.8.0")
def pubsub_numpat(client: Client, argv: list[bytes]) -> Reply:
    return len(client.engine.pubsub.patterns.listeners)


@pubsub(
    "PUBSUB SHARDCHANNELS [pattern:pattern]",
    "Returns the sharded channels that somebody listens to.",
    flags=_LOOKING,
    since="7.0.0",
    complexity="O(N) where N is the number of active shard channels, and assuming constant time pattern matching "
    "(relatively short shard channels).",
)
def pubsub_shardchannels(client: Client, argv: list[bytes]) -> Reply:
    return _names(client.engine.pubsub.shard_channels, argv)


@pubsub(
    "PUBSUB SHARDNUMSUB [shardchannel ...]",
    "Returns how many listen to each of some sharded channels.",
    flags=_LOOKING,
    since="7.0.0",
    complexity="O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
)
def pubsub_shardnumsub(client: Client, argv: list[bytes]) -> Reply:
    return _counts(client.engine.pubsub.shard_channels, argv)


def _names(space: Space, argv: list[bytes]) -> list[bytes]:
    if len(argv) > 3:
        raise CommandError(
            f"ERR unknown subcommand or wrong number of arguments for '{argv[1].decode('utf-8', 'surrogateescape')}'. "
            "Try PUBSUB HELP."
        )
    return list(filter(matcher(argv[2]), space.listeners)) if len(argv) == 3 else list(space.listeners)


def _counts(space: Space, argv: list[bytes]) -> list[bytes | int]:
    counts: list[bytes | int] = []
    for name in argv[2:]:
        counts += (name, len(space.listeners.get(name, ())))
    return counts
