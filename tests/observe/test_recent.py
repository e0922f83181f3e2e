import pytest

from kora.observe.recent import (
    ERRORS,
    OTHERS,
    SECONDS_MAX,
    Recent,
    by_name,
    deeds_of,
    host_of,
    prefix_of,
    total,
)
from kora.observe.spikes import Offender

pytestmark = pytest.mark.once

S = 1_000_000_000


def counts(**calls):
    return {("calls", name): count for name, count in calls.items()}


def test_a_window_has_what_counters_have_grown_by():
    recent = Recent(0)
    recent.end(1 * S, 1_000, counts(get=5), 0)
    recent.end(2 * S, 2_000, counts(get=7, set=1), 0)
    grown = total(recent.window(1, 2 * S + 1, 2_000, counts(get=8, set=1), 0))
    assert by_name(grown, "calls") == {"get": 3, "set": 1}
    assert total(recent.window(60, 2 * S, 2_000, counts(get=8, set=1), 0)) == counts(get=8, set=1)
    assert total(recent.window(1, 9 * S, 9_000, counts(get=8, set=1), 0)) == counts(get=1)


def test_what_was_before_the_beginning_does_not_count():
    recent = Recent(0)
    recent.begin(5 * S, counts(get=100))
    assert total(recent.window(10, 6 * S, 6_000, counts(get=101), 0)) == counts(get=1)


def test_a_counter_that_was_reset_counts_from_nothing():
    recent = Recent(0)
    recent.end(1 * S, 1_000, counts(get=50), 0)
    recent.end(2 * S, 2_000, counts(get=3), 0)
    assert recent.seconds[-1].grown == counts(get=3)


def test_deeds_are_counted_by_culprit_those_with_most_first():
    recent = Recent(0)
    for count, name in ((3, "a"), (5, "b")):
        for _ in range(count):
            recent.note(ERRORS, name).offender = Offender(name)
    recent.end(1 * S, 1_000, {}, 0)
    recent.note(ERRORS, "a", 1)
    recent.note("other", "c")
    found = deeds_of(recent.window(10, 2 * S, 2_000, {}, 0), ERRORS)
    assert [(name, deed.count, deed.offender.command) for name, deed in found] == [("a", 4, "a"), ("b", 5, "b")]
    assert deeds_of(recent.window(10, 2 * S, 2_000, {}, 0), ERRORS) == found, "to look changes nothing"


def test_memory_is_bounded_whoever_comes():
    recent = Recent(0)
    for second in range(2 * SECONDS_MAX):
        for number in range(1_000):
            recent.note(ERRORS, f"{'x' * 10_000}{number}" if number % 2 else f"{number}")
        recent.end((second + 1) * S, second, {}, 0)
    assert len(recent.seconds) == SECONDS_MAX
    assert all(len(second.deeds) <= 9 and ("errors", OTHERS) in second.deeds for second in recent.seconds)
    assert all(len(name) < 200 for second in recent.seconds for _, name in second.deeds)
    assert sum(deed.count for deed in recent.seconds[0].deeds.values()) == 1_000


def test_what_keys_and_addresses_have_in_common():
    assert prefix_of(b"session:17") == "session:*"
    assert prefix_of(b"user17") == "user*"
    assert prefix_of(b"a.b:c") == "a.b:*"
    assert prefix_of(b"\xff1") == "\\xff*"
    assert host_of("127.0.0.1:5") == "127.0.0.1"
    assert host_of("[::1]:5") == "[::1]"
    assert host_of("") == ""
