"""Lines of the log: which are written, and what is told about those that are not."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kora.clock import ManualClock
from kora.log import REPEATS_S, Log, logger

pytestmark = pytest.mark.once


class Written:
    """A log, its clock, and the lines that it has written."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._file = io.StringIO()
        self.log = Log(stream=self._file, clock=self.clock)

    def lines(self) -> list[tuple[str, str, dict[str, Any]]]:
        found = [json.loads(line) for line in self._file.getvalue().splitlines()]
        return [(line["level"], line["message"], line["fields"]) for line in found]


@pytest.fixture
def written() -> Iterator[Written]:
    yield Written()
    structlog.reset_defaults()


def test_a_level_holds_for_a_part_and_what_is_below_it(written: Written) -> None:
    written.log.set_levels("warning,kora.store=trace")
    logger("kora.server").info("no")
    logger("kora.store.table").trace("yes")
    logger("kora.server").warning("yes", n=1)
    assert written.lines() == [("TRACE", "yes", {}), ("WARN", "yes", {"n": 1})]


def test_lines_that_say_the_same_are_counted_and_told_when_their_time_is_over(written: Written) -> None:
    written.log.repeats_max = 2
    for n in range(5):
        logger("kora.server").error("it fails", n=n)
    logger("kora.server").warning("it fails", n=5)  # at another level it is another line
    written.clock.advance_ns(int(REPEATS_S * 1e9))
    logger("kora.store").info("later")
    assert written.lines() == [
        ("ERROR", "it fails", {"n": 0}),
        ("ERROR", "it fails", {"n": 1}),
        ("WARN", "it fails", {"n": 5}),
        ("ERROR", "it fails", {"repeated": 3}),
        ("INFO", "later", {}),
    ]
    logger("kora.server").error("it fails", n=6)
    assert written.lines()[-1] == ("ERROR", "it fails", {"n": 6})


def test_what_was_counted_is_told_at_the_end(written: Written) -> None:
    written.log.repeats_max = 1
    for _ in range(3):
        logger("kora.server").info("again")
    written.log.close()
    assert written.lines() == [("INFO", "again", {}), ("INFO", "again", {"repeated": 2})]


def test_without_a_limit_all_are_written(written: Written) -> None:
    for _ in range(500):
        logger("kora.server").info("again")
    assert len(written.lines()) == 500
