"""What requests wait for is read in a thread: one reading after the other, each of what a turn of the loop wants."""

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from kora.engine.cache import Found, Places

if TYPE_CHECKING:
    from kora.store.backing import Backing


class Fetching:
    def __init__(self, store: "Backing", loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        # Not an executor: its futures, locks and items cost as much as reading a few keys does.
        self._asked: SimpleQueue[tuple[Places, Callable[[Found], None]] | None] = SimpleQueue()
        self._is_stopping = False
        # One, since readings are to end in the order in which they began.
        self._thread = Thread(target=self._read, name="cold-reads", daemon=True)
        self._thread.start()

    def fetch(self, places: Places, done: Callable[[Found], None]) -> None:
        """For Cache.fetch."""
        self._asked.put((places, done))

    def _read(self) -> None:
        while (asked := self._asked.get()) is not None and not self._is_stopping:
            places, done = asked
            found: Found
            try:
                found = self._store.get_many(places)
            except BaseException as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                self._loop.call_soon_threadsafe(done, found)

    def stop(self) -> None:
        """Before the store is closed."""
        self._is_stopping = True
        self._asked.put(None)
        self._thread.join()
