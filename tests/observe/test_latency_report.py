from dataclasses import replace

import pytest

from kora.observe.latency_report import Settings, render, statistics
from kora.observe.spikes import Offender, Spikes

pytestmark = pytest.mark.once

MS = 1_000_000
SETTINGS = Settings(threshold_ms=10, slower_than_us=10_000, slowlog_max=128, hz=10, lazy_eviction=False)


def report(*spikes, settings=SETTINGS, now_s=1_100):
    kept = Spikes()
    for event, ms, time_s, *offender in spikes:
        kept.note(event, ms * MS, time_s, *offender)
    return render(kept, settings, now_s)


def test_a_monitor_that_is_off_is_said_to_be_off_with_how_to_turn_it_on():
    assert "CONFIG SET latency-monitor-threshold" in report(settings=replace(SETTINGS, threshold_ms=0))


def test_a_monitor_without_spikes_says_that_all_is_well():
    assert report() == "No event took 10 ms or more since the start or the last LATENCY RESET.\n"


def test_a_finding_has_its_statistics_and_names_the_culprit():
    keys = Offender("keys", b"user:*", "127.0.0.1:5", b"batch", 17)
    text = report(("command", 100, 1_000, keys), ("command", 20, 1_050, Offender("lrange", b"l")))
    assert (
        "1. command: 2 latency spikes (average 60ms, mean deviation 40ms, period 50.00 sec). "
        "Worst all time event 100ms.\n" in text
    )
    assert "The worst: KEYS, key 'user:*', client 127.0.0.1:5 ('batch'), slow log entry 17." in text
    assert "- KEYS looks at every key there is: use SCAN.\n" in text


def test_statistics_are_whole_numbers_as_in_redis():
    kept = Spikes()
    for ms, time_s in ((10, 1), (11, 2), (20, 3)):
        kept.note("command", ms * MS, time_s)
    found = statistics(kept.series["command"], 3)
    assert (found.samples, found.average_ms, found.deviation_ms, found.period_s) == (3, 13, 4, 2)


def test_advice_about_the_slow_log_depends_on_how_it_is_set():
    spike = ("command", 50, 1_000, Offender("lrange", b"l"))
    assert "The slow log is off" in report(spike, settings=replace(SETTINGS, slower_than_us=-1))
    assert "The slow log is off" in report(spike, settings=replace(SETTINGS, slowlog_max=0))
    assert "CONFIG SET slowlog-log-slower-than 10000" in report(
        spike, settings=replace(SETTINGS, slower_than_us=10_001)
    )
    assert "SLOWLOG GET shows" in report(spike)


def test_advice_about_expiry_and_eviction_depends_on_settings_too():
    assert "CONFIG SET hz 100" in report(("expire-cycle", 50, 1_000))
    assert "hz" not in report(("expire-cycle", 50, 1_000), settings=replace(SETTINGS, hz=100))
    eviction = ("eviction-del", 50, 1_000, Offender(key=b"big"))
    assert "lazyfree-lazy-eviction" in report(eviction) and "key 'big'" in report(eviction)
    assert "lazyfree-lazy-eviction" not in report(eviction, settings=replace(SETTINGS, lazy_eviction=True))


def test_advice_is_given_once_and_the_same_spikes_give_the_same_report():
    spikes = [("expire-del", 20, 1_000), ("expire-cycle", 50, 1_000), ("gc", 20, 1_000), ("loop-lag", 20, 1_000)]
    text = report(*spikes)
    assert text == report(*spikes)
    advice = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(advice) == len(set(advice)) == 5
    assert text.index("expire-cycle:") < text.index("expire-del:") < text.index("loop-lag:") < text.index("gc:")


def test_what_a_client_has_chosen_cannot_break_a_line():
    text = report(("command", 50, 1_000, Offender("get", b"a\r\nb\xff", "1.2.3.4:5", b"x'")))
    assert "'a\\r\\nb\\\\xff'" in text
