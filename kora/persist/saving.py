"""Saving: the whole data as it is at one moment, written to an RDB file while commands go on.

start() fixes the moment and returns; the file is written by turns of a background job, and `done` is called on the loop
when it has its name, or has failed.  save_now() writes all of it before it returns.  One file at a time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .files import Files

if TYPE_CHECKING:
    from kora.engine.engine import Engine

Done = Callable[[Exception | None], None]


class Saver:
    def __init__(self, engine: "Engine", files: Files | None = None) -> None:
        self._engine = engine
        self._files = files or Files()
        self.running = False

    def start(self, path: str, *, aof_base: bool = False, done: Done) -> None:
        """Begin to write the data as it is now.

        The file has another name until it is complete and synced.  `aof_base` marks it as the base of a journal.
        Raises OSError where no file can be made, and AssertionError while another is being written.
        """
        raise NotImplementedError

    def save_now(self, path: str, *, aof_base: bool = False) -> None:
        """Write the data as it is now, all of it, before this returns; raises OSError."""
        raise NotImplementedError

    def abort(self) -> None:
        """Give up the file that is being written: `done` gets Aborted."""
        raise NotImplementedError


class Aborted(Exception):
    """A file was given up before it was complete."""
