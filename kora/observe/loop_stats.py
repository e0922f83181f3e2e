"""How the event loop fares: how late it runs what is due, and what its turns and its background jobs take."""

from kora.observe import histogram


class LoopStats:
    __slots__ = ("lag_count", "lag_counts", "lag_max_ns", "lag_ns", "lag_sum_ns", "turn_max_ns")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Lag: how much later than due the heartbeat ran, which is what any other callback would have waited, too.
        self.lag_counts = histogram.new_counts()
        self.lag_count = 0
        self.lag_sum_ns = 0
        self.lag_max_ns = 0
        self.lag_ns = 0  # the last one
        # The longest turn: one client's requests, executed without letting anybody else in.
        self.turn_max_ns = 0

    def record_lag(self, lag_ns: int) -> None:
        index = histogram.index_of(lag_ns)
        if index >= len(self.lag_counts):
            histogram.grow(self.lag_counts, index)
        self.lag_counts[index] += 1
        self.lag_count += 1
        self.lag_sum_ns += lag_ns
        self.lag_ns = lag_ns
        self.lag_max_ns = max(self.lag_max_ns, lag_ns)


class JobStats:
    """One background job: turns, their time, and the longest of them."""

    __slots__ = ("elapsed_max_ns", "elapsed_ns", "runs")

    def __init__(self) -> None:
        self.runs = 0
        self.elapsed_ns = 0
        self.elapsed_max_ns = 0

    def record(self, elapsed_ns: int) -> None:
        self.runs += 1
        self.elapsed_ns += elapsed_ns
        self.elapsed_max_ns = max(self.elapsed_max_ns, elapsed_ns)
