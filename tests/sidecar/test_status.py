from array import array
from random import Random

import pytest

from kora.observe import histogram
from kora.observe.shard_stats import CommandStats
from kora.sidecar.status import PERCENTILES, latency_percentiles

pytestmark = pytest.mark.once


def test_percentiles_over_all_commands_are_those_of_all_their_calls() -> None:
    random = Random(3)
    commands = [CommandStats() for _ in range(5)]
    together = CommandStats()
    for _ in range(5000):
        elapsed_ns = int(10 ** random.uniform(1, 11))
        random.choice(commands).record(elapsed_ns)
        together.record(elapsed_ns)
    found = latency_percentiles([command.counts for command in commands])
    assert list(found.values()) == histogram.percentiles(together.counts, PERCENTILES)


def test_percentiles_of_nothing_are_zeros() -> None:
    assert latency_percentiles([array("Q"), array("Q")]) == dict.fromkeys(PERCENTILES, 0)


def test_histograms_of_any_length_add_up_bucket_by_bucket() -> None:
    random = Random(5)
    for _ in range(200):
        parts = [[random.randrange(1 << 50) for _ in range(random.randrange(6))] for _ in range(random.randrange(5))]
        length = max(map(len, parts), default=0)
        expected = [sum(part[index] for part in parts if index < len(part)) for index in range(length)]
        assert list(histogram.merged([array("Q", part).tobytes() for part in parts])) == expected
