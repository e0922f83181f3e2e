import pytest

from kora.observe.blame import CULPRITS_MAX, OTHERS, WINDOWS_MAX, Blame, Culprit

pytestmark = pytest.mark.once

SECOND = 1_000_000_000


def test_the_worst_culprit_comes_first_with_its_share():
    blame = Blame()
    blame.add(SECOND, Culprit("get"), 9, 100, 90, 110)
    blame.add(SECOND, Culprit("lrange", b"list", "127.0.0.1:5"), 2, 300, 200, 400)
    worst, other = blame.last(SECOND, 60)
    assert (worst.culprit.name, worst.victims, worst.waited_ns, worst.share) == ("lrange", 2, 300, 0.75)
    assert (other.culprit.name, other.waited_ns_min, other.waited_ns_max) == ("get", 90, 110)


def test_only_the_seconds_that_are_asked_for_count():
    blame = Blame()
    for second in (10, 20, 21):
        blame.add(second * SECOND, Culprit("keys"), 1, second, 0, 0)
    assert [row.waited_ns for row in blame.last(21 * SECOND, 2)] == [41]
    assert [row.waited_ns for row in blame.last(21 * SECOND, 900)] == [51]
    assert blame.last(30 * SECOND, 5) == []


def test_windows_older_than_15_minutes_are_forgotten():
    blame = Blame()
    blame.add(SECOND, Culprit("keys"), 1, 5, 5, 5)
    blame.add((WINDOWS_MAX + 1) * SECOND, Culprit("get"), 1, 7, 7, 7)
    assert [row.culprit.name for row in blame.last((WINDOWS_MAX + 1) * SECOND, 10 * WINDOWS_MAX)] == ["get"]


def test_many_culprits_take_no_memory_and_nothing_that_was_waited_is_lost():
    blame = Blame()
    for number in range(1000):
        blame.add(SECOND, Culprit("get", b"%d" % number), 1, number, number, number)
    assert sum(row.waited_ns for row in blame.last(SECOND, 60)) == sum(range(1000))
    blame.add(2 * SECOND, Culprit("get"), 0, 0, 0, 0)
    rows = blame.last(2 * SECOND, 60)
    assert len(rows) == CULPRITS_MAX + 1
    assert sum(row.waited_ns for row in rows) == sum(range(1000))
    assert OTHERS in [row.culprit for row in rows]
