"""How far the loading of the data has come: for INFO, /status and the log, and for whoever is refused meanwhile."""

from kora.clock import Clock


class Loading:
    """Engine.loading while data is being loaded; bytes are those of the files."""

    __slots__ = ("_clock", "loaded_bytes", "started_ms", "started_ns", "total_bytes", "used_memory_bytes")

    def __init__(self, clock: Clock, total_bytes: int) -> None:
        self._clock = clock
        self.started_ms = clock.wall_ms()
        self.started_ns = clock.monotonic_ns()
        self.total_bytes = total_bytes
        self.loaded_bytes = 0
        self.used_memory_bytes = 0  # of whoever wrote the snapshot, when that was written; 0: not known

    def numbers(self) -> list[int]:
        """For Snapshot.loading, which says what they are."""
        return [self.started_ms // 1000, self.total_bytes, self.loaded_bytes, self.eta_s, self.used_memory_bytes]

    @property
    def elapsed_ns(self) -> int:
        return self._clock.monotonic_ns() - self.started_ns

    @property
    def eta_s(self) -> int:
        """As Redis guesses: the rest at the pace so far, and 1 as long as nothing can be said."""
        elapsed_s = self.elapsed_ns // 1_000_000_000
        left_bytes = max(0, self.total_bytes - self.loaded_bytes)
        return elapsed_s * left_bytes // (self.loaded_bytes + 1) if elapsed_s else 1


def percent_loaded(total_bytes: int, loaded_bytes: int) -> float:
    return 100 * loaded_bytes / total_bytes if total_bytes else 100.0
