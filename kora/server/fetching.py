"""What requests wait for is read in a thread: one reading after the other, each of what a turn of the loop wants."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from kora.engine.cache import Found, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kora.store.backing import Backing


class Fetching:
    def __init__(self, store: "Backing", loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        # One, since readings are to end in the order in which they began.
        self._thread = ThreadPoolExecutor(1, "cold-reads")

    def fetch(self, wanted: list[Wanted], done: Callable[[Found], None]) -> None:
        """For Cache.fetch."""
        self._thread.submit(self._store.get_many, wanted).add_done_callback(partial(self._tell, done))

    def _tell(self, done: Callable[[Found], None], future: "Future[Sequence[bytes | None]]") -> None:
        """From the thread."""
        if future.cancelled():
            return
        found = future.exception() or future.result()
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(done, found)

    def stop(self) -> None:
        """Before the store is closed."""
        self._thread.shutdown(cancel_futures=True)
