"""CLIENT TRACKING: tell clients that keep copies of keys when these are no longer what they were.

Two ways.  By default a table remembers which client has read which key; the first change of the key is told to them and
forgets the entry, since what a client has dropped it has to read again anyway.  Such keys are attended to, as watched
keys are.  Broadcasting remembers nothing: who wants to know of all keys with a prefix is told of each change of one.

What a client is told about its own commands comes behind their replies.  A change may happen deep in the keyspace, so
that touch() only notes it, and serve() tells it behind the command.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from kora.resp.reply import Push, encode2, encode3

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.engine import Engine
    from kora.engine.registry import Command
    from kora.store.keyspace import Keyspace

INVALIDATIONS: Final = b"__redis__:invalidate"  # the channel on which a RESP2 client hears for another

Place: TypeAlias = tuple[int, bytes]  # a database's number, and a key


class Wish:
    """What one client has asked for with CLIENT TRACKING ON."""

    __slots__ = (
        "broadcasts",
        "caching",
        "is_broken",
        "is_spent",
        "opts_in",
        "opts_out",
        "prefixes",
        "redirect",
        "skips_own",
    )

    def __init__(self, redirect: int, broadcasts: bool, opts_in: bool, opts_out: bool, skips_own: bool) -> None:
        self.redirect = redirect  # the id of the client that is told instead; 0 for none
        self.broadcasts = broadcasts
        self.opts_in = opts_in
        self.opts_out = opts_out
        self.skips_own = skips_own  # NOLOOP
        self.prefixes: list[bytes] = []
        self.is_broken = False  # the client that is told instead has gone
        # CLIENT CACHING has said something about the next command; that has come.
        self.caching = False
        self.is_spent = False

    @property
    def wants_keys(self) -> bool:
        """Whether what is read now is to be remembered."""
        return not ((self.opts_in and not self.caching) or (self.opts_out and self.caching))


class _Prefix:
    __slots__ = ("clients", "keys")

    def __init__(self) -> None:
        self.clients: dict[Client, None] = {}
        self.keys: dict[bytes, Client | None] = {}  # that have changed, each with the first client that did it


class Tracking:
    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.clients_count = 0
        # The ids of clients that have read a key; it is the oldest that goes when there are too many.
        self._readers: OrderedDict[Place, set[int]] = OrderedDict()
        self.items_count = 0
        self._prefixes: dict[bytes, _Prefix] = {}
        self._prefix_lengths: list[int] = []
        self._has_news = False  # a key with one of the prefixes has changed
        self._read: tuple[Client, Keyspace, Command, list[bytes]] | None = None
        # Changed keys with their readers, and the client whose turn it was.
        self._changed: list[tuple[Place, set[int], Client | None]] = []
        engine.config.on_change("tracking-table-max-keys", lambda _: self._limit())

    @property
    def keys_count(self) -> int:
        return len(self._readers)

    @property
    def prefixes_count(self) -> int:
        return len(self._prefixes)

    # Who wants to know

    def start(self, client: "Client", wish: Wish, prefixes: Iterable[bytes]) -> None:
        """Begin, or go on with other options; more prefixes add up."""
        if client.tracking is None:
            self.clients_count += 1
        else:
            wish.prefixes = client.tracking.prefixes
        client.tracking = wish
        if wish.broadcasts:
            for prefix in [one for one in list(prefixes) or [b""] if one not in wish.prefixes]:
                self._prefixes.setdefault(prefix, _Prefix()).clients[client] = None
                wish.prefixes.append(prefix)
            self._attend_to_prefixes()
        client.update_gate()

    def stop(self, client: "Client") -> None:
        """CLIENT TRACKING OFF, or the client is gone.  The keys it has read stay until they change, as in Redis."""
        wish = client.tracking
        if wish is None:
            return
        client.tracking = None
        self.clients_count -= 1
        for prefix in wish.prefixes:
            listeners = self._prefixes[prefix].clients
            del listeners[client]
            if not listeners:
                del self._prefixes[prefix]
        self._attend_to_prefixes()
        client.update_gate()

    def _attend_to_prefixes(self) -> None:
        # A key is looked up by its first bytes, once for each length that there is, however many prefixes there are.
        self._prefix_lengths = sorted({len(prefix) for prefix in self._prefixes})
        for keyspace in self._engine.databases.used():
            keyspace.attends_all = bool(self._prefixes)

    # What they read

    def admit(
        self, client: "Client", wish: Wish, command: "Command", argv: list[bytes], keyspace: "Keyspace | None" = None
    ) -> None:
        """A command of a client that tracks is about to run, by default in its database: settle() is called behind it.

        What a client's script does may be in another.
        """
        if not self._engine.nested:
            if wish.is_spent:
                wish.caching = wish.is_spent = False
            # What CLIENT CACHING says is for the next command, and for a whole transaction.
            if wish.caching and command.name != "multi" and not command.name.startswith("client|"):
                wish.is_spent = True
        if "readonly" in command.flags and command.group not in _NOT_READING and wish.wants_keys:
            self._read = client, client.db if keyspace is None else keyspace, command, argv
            self._engine.interrupt()

    def settle(self) -> None:
        """Remember what the command that has just run has read."""
        if self._read is None:
            return
        client, keyspace, command, argv = self._read
        self._read = None
        self._remember(client, keyspace, command.keys(argv))

    def _remember(self, client: "Client", keyspace: "Keyspace", keys: Iterable[bytes]) -> None:
        for key in keys:
            place = keyspace.index, key
            readers = self._readers.get(place)
            if readers is None:
                readers = self._readers[place] = set()
                keyspace.attend(key)
            if client.id not in readers:
                readers.add(client.id)
                self.items_count += 1
        self._limit()

    def _limit(self) -> None:
        keys_max = self._engine.config.tracking_table_max_keys
        while 0 < keys_max < len(self._readers):
            place, readers = self._readers.popitem(last=False)
            self._note(place, readers, None)

    # What happens to it

    def touch(self, place: Place) -> None:
        """An attended key was changed, or has ended."""
        key = place[1]
        running = self._engine.implementation.running
        readers = self._readers.pop(place, None)
        if readers is not None:
            self._note(place, readers, running)
        for length in self._prefix_lengths:
            if length > len(key):
                break
            prefix = self._prefixes.get(key[:length])
            if prefix is not None:
                prefix.keys.setdefault(key, running)
                self._has_news = True
                self._engine.interrupt()

    def flush(self) -> None:
        """All keys go: every client that tracks is told so, and nothing is remembered any more."""
        for index, key in self._readers:
            self._engine.databases[index].disregard(key)
        self._readers.clear()
        self.items_count = 0
        if self.clients_count:
            for client in list(self._engine.clients.values()):
                if client.tracking is not None:
                    self._send(client, client.tracking, None)

    def _note(self, place: Place, readers: set[int], origin: "Client | None") -> None:
        self.items_count -= len(readers)
        self._changed.append((place, readers, origin))
        self._engine.interrupt()

    def serve(self) -> None:
        """Tell of the changes of keys that were read."""
        while self._changed:
            changed, self._changed = self._changed, []
            for place, readers, origin in changed:
                self._engine.databases[place[0]].disregard(place[1])
                for client_id in sorted(readers):
                    client = self._engine.clients.get(client_id)
                    wish = client.tracking if client is not None else None
                    if client is None or wish is None or wish.broadcasts or (wish.skips_own and client is origin):
                        continue
                    self._send(client, wish, [place[1]])

    def broadcast(self) -> None:
        """Tell of the changes of keys with a prefix, all that there are in one message."""
        for name in self._changed_prefixes():
            prefix = self._prefixes[name]
            changed, prefix.keys = prefix.keys, {}
            keys = sorted(changed)
            for client in list(prefix.clients):
                wish = client.tracking
                assert wish is not None
                told = [key for key in keys if changed[key] is not client] if wish.skips_own else keys
                if told:
                    self._send(client, wish, told)
        self._has_news = False

    def _changed_prefixes(self) -> list[bytes]:
        return sorted(name for name, prefix in self._prefixes.items() if prefix.keys) if self._has_news else []

    def _send(self, client: "Client", wish: Wish, keys: list[bytes] | None) -> None:
        target = self._engine.clients.get(wish.redirect) if wish.redirect else client
        if target is None:
            wish.is_broken = True
            if client.protocol == 3:
                client.push(encode3(Push([b"tracking-redir-broken", wish.redirect])))
        elif target.protocol == 3:
            target.push(encode3(Push([b"invalidate", keys])))
        elif target is not client and target.subscriptions_count:
            target.push(encode2([b"message", INVALIDATIONS, keys]))


# Commands that only look, and yet read no keys: channels are no keys, and a script's commands speak for themselves.
_NOT_READING: Final = frozenset(("pubsub", "scripting"))
