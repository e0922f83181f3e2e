"""What commands ask of snapshots; kora/persist/snapshots.py has them."""

from typing import TYPE_CHECKING, Protocol

from kora.errors import CommandError

if TYPE_CHECKING:
    from kora.engine.engine import Engine


class Saves(Protocol):
    def save(self) -> None:
        """SAVE: write a snapshot, and serve nobody meanwhile.  Raises CommandError."""

    def begin(self, may_wait: bool) -> bool:
        """BGSAVE: begin to write a snapshot; False if that will be later, since something else is being written.

        Raises CommandError, also where it may not wait.
        """

    def save_before_the_end(self) -> bool:
        """Have a snapshot of the data as it is, if it has changed since the last; False where that fails.

        One that is being written is given up.
        """

    def forget(self) -> None:
        """FLUSHALL: whatever is being written is given up, and an empty snapshot takes the place of the last."""

    def reload(self, saves: bool, flushes: bool, merges: bool) -> None:
        """DEBUG RELOAD: write a snapshot, forget the data, load the snapshot, whose keys may replace others, or not.

        Raises CommandError.
        """

    def step(self, budget_ns: int) -> bool:
        """Go on with what is being written, or begin what is due; returns whether there is more to do right now."""

    def loaded(self) -> None:
        """The data is that of the snapshot."""

    @property
    def are_wanted(self) -> bool:
        """Whether there are save points."""

    @property
    def last_ms(self) -> int:
        """Unix time of the last snapshot, or of the start."""

    def numbers(self) -> list[int]:
        """For Snapshot.saves, which says what they are."""


class WritesBack(Protocol):
    """What background jobs ask where the data is in a store: kora/engines/rocksdb/keeper.py."""

    def step(self) -> None:
        """Begin to write back what has changed, and see what has been written."""

    def expire(self, budget_ns: int) -> bool:
        """End keys that nobody asks for, wherever they are; returns whether there is more to do right now."""


class NoSaves:
    """Of an engine by itself, which has no files: all that it has changed is unsaved."""

    are_wanted = False

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.last_ms = engine.started_ms

    def save(self) -> None:
        raise CommandError("ERR There are no files to save to")

    def begin(self, may_wait: bool) -> bool:
        raise CommandError("ERR There are no files to save to")

    def save_before_the_end(self) -> bool:
        return True

    def forget(self) -> None:
        pass

    def reload(self, saves: bool, flushes: bool, merges: bool) -> None:
        raise CommandError("ERR There are no files to load from")

    def step(self, budget_ns: int) -> bool:
        return False

    def loaded(self) -> None:
        pass

    def numbers(self) -> list[int]:
        return [self._engine.changes, 0, self.last_ms // 1000, 1, -1, -1, 0, 0, 0, 0]
