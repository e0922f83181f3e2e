"""The journal as commands see it: whoever changes data in another way than by the words of its request says so here.

By itself a request is journaled as it came, if it has changed a key.  That is wrong for what would change something
else at another time: what it says then counts instead.

    SETEX k 10 v        client.engine.journal.instead(client.db, b"SET", k, v, b"PXAT", deadline)
    SPOP k 2            client.engine.journal.instead(client.db, b"SREM", k, *members)

EXEC and scripts are journaled as what their commands did, as one transaction.  A command is between enter() and
settle(), and what both see of it is what it did itself.  Keys and fields that end, or are evicted, are told of by
keyspace.effect().  Where the bytes go is for whoever sets `on` (kora/persist/journal.py).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from kora.store.keyspace import nobody

if TYPE_CHECKING:
    from kora.engine.client import Client
    from kora.engine.effects import Effects
    from kora.engine.engine import Engine
    from kora.engine.receiver import Receiver
    from kora.engine.registry import Command
    from kora.store.keyspace import Keyspace

# Not flagged as writing, and yet it may: the number that it has worked out is kept in the key.
_WRITES_AS_WELL: Final = frozenset(("pfcount",))
# What they do is in what they run, and MIGRATE deletes keys when the other server has them.
_NEVER: Final = frozenset(("exec", "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro", "migrate"))


# A reply, and by whom it is sent.
Held: TypeAlias = "tuple[Receiver, bytes]"


class Keeper(Protocol):
    """Who writes the journal: kora/persist/journal.py, which says what each does."""

    is_rewriting: bool

    @property
    def is_on(self) -> bool: ...
    def hold(self, held: Held) -> bool: ...
    def tick(self) -> None: ...
    def is_synced(self) -> bool: ...
    def when_synced(self, function: Callable[[], None]) -> None: ...
    def rewrite(self) -> bool: ...
    def reload(self) -> None: ...
    def numbers(self) -> dict[str, int]: ...


class Journal:
    def __init__(self, engine: "Engine", effects: "Effects") -> None:
        self._engine = engine
        self.effects = effects
        self.keeper: Keeper | None = None  # set by whoever runs the server
        self._is_told = False  # the command that runs has told what to journal

    @property
    def on(self) -> bool:
        return self.effects.on

    def set_on(self, on: bool) -> None:
        """Begin, or cease, to take down what changes."""
        self.effects.on = on
        for keyspace in self._engine.databases.used():
            self.follow(keyspace)

    def hold(self, receiver: "Receiver", data: bytes) -> bool:
        """Whether a reply has to wait, since what it tells of is not on the disk yet; then the keeper sends it."""
        return self.keeper is not None and self.keeper.hold((receiver, data))

    def follow(self, keyspace: "Keyspace") -> None:
        """Have a database tell of what ends in it by itself."""
        keyspace.effect = partial(self._tell, keyspace.index) if self.on else nobody

    def enter(self) -> int:
        """A command begins to run; the answer is for settle()."""
        self.effects.begin()
        return self._engine.changes

    def settle(self, client: "Client", command: "Command", argv: Sequence[bytes], changes: int) -> None:
        """A command has run, and what it told counts, or else its words if it has changed anything."""
        is_told, self._is_told = self._is_told, False
        if not is_told and self._engine.changes != changes and is_journaled(command):
            self.effects.append(client.db.index, argv)
        self.effects.end()

    def leave(self) -> None:
        """A command has failed, and changed nothing but what is told already."""
        self._is_told = False
        self.effects.end()

    def instead(self, keyspace: "Keyspace", *words: bytes) -> None:
        """Journal this, and not what the request says; what comes of several calls is a transaction."""
        if self.effects.on:
            self._is_told = True
            self.effects.append(keyspace.index, words)

    def nothing(self) -> None:
        """The request is not to be journaled, whatever has changed."""
        self._is_told = True

    def _tell(self, index: int, *words: bytes) -> None:
        self.effects.append(index, words)


def is_journaled(command: "Command") -> bool:
    """Whether its words are, when it has changed something."""
    return command.name not in _NEVER and ("write" in command.flags or command.name in _WRITES_AS_WELL)
