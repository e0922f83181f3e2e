"""What there is to see of the storage engine under the keys: INFO, /metrics and DOCTOR take it from here."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from kora.observe.recent import LARGE_VALUES, prefix_of
from kora.observe.spikes import Offender
from kora.observe.storage import Storage

if TYPE_CHECKING:
    from kora.engine.engine import Engine


class Statistics(Protocol):
    @property
    def latest(self) -> Storage:
        """What was read last."""

    def refresh(self) -> None:
        """Begin to read anew, beside the loop."""


class StorageView:
    """Whoever opens the store sets Engine.storage to one."""

    def __init__(
        self,
        statistics: Statistics,
        *counted: Callable[[], Mapping[str, int]],
    ) -> None:
        """`counted` give what Kora counts itself, by names of CACHE and COMMITS (kora/observe/storage.py)."""
        self._statistics = statistics
        self._counted = counted
        self._stalled_us = 0
        # What is written whole, however little of it has changed.
        self._large_values = 0
        self._large_bytes = 0

    def latest(self) -> Storage:
        counted = {"large_values": self._large_values, "large_bytes": self._large_bytes}
        for read in self._counted:
            counted.update(read())
        return replace(self._statistics.latest, counted=counted)

    def numbers(self) -> list[Any]:
        """For Snapshot.storage."""
        return self.latest().to_plain()

    def look(self, engine: "Engine") -> None:
        """About once a second: have the numbers read, and the latency monitor know how long writes were held up."""
        self._statistics.refresh()
        stalled_us = sum(self._statistics.latest.reading.stall_us.values())
        if stalled_us > self._stalled_us:
            engine.slowness.note_event("storage-stall", (stalled_us - self._stalled_us) * 1_000)
        self._stalled_us = stalled_us

    def note_large(self, engine: "Engine", key: bytes, size_bytes: int) -> None:
        """A value beyond rocksdb-large-value-bytes was written back."""
        self._large_values += 1
        self._large_bytes += size_bytes
        deed = engine.recent.note(LARGE_VALUES, prefix_of(key))
        deed.offender = Offender(key=key)
