"""How what several instances tell becomes the numbers of one store: the formulas of KIP-471 and KIP-607."""

import pytest

from kora.observe.storage import (
    DEBUG,
    FLUSHES,
    GAUGES,
    INFO,
    STATISTICS,
    Reading,
    Storage,
    Window,
    kip_metrics,
    merged,
    statistics_of,
)
from tests.storage_readings import ONE, OTHER

pytestmark = pytest.mark.once

S = 1_000_000_000


def storage(reading: Reading, grown: dict[str, int] | None = None, window_ns: int = 60 * S) -> Storage:
    return Storage(DEBUG, reading, window_ns, reading.tickers if grown is None else grown, 0, {})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Rates are the sum of what came in the time of the sample.
        ("bytes-written-rate", 4_000 / 60),
        ("bytes-written-total", 4_000),
        ("bytes-read-total", 333),
        ("memtable-bytes-flushed-total", 2_000),
        # All hits over all look-ups, which is not the mean of the two ratios.
        ("memtable-hit-ratio", 30 / 60),
        ("block-cache-data-hit-ratio", 2 / 4),
        # The sum of sums over the sum of counts: neither the mean of 1.5 and 9 nor that of 3 and 9.
        ("memtable-flush-time-avg", 4.0),
        ("memtable-flush-time-min", 1.0),
        ("memtable-flush-time-max", 9.0),
        # An instance that has done nothing is no 0 among the least.
        ("compaction-time-min", 0.05),
        ("compaction-time-avg", 0.05),
        ("write-stall-duration-total", 6.0),
        ("number-open-files", 14),
        ("number-file-errors-total", 3),
        ("num-immutable-mem-table", 3),
        ("total-sst-files-size", 150),
        # The instances share it.
        ("block-cache-capacity", 8_000),
        ("block-cache-usage", 500),
    ],
)
def test_two_instances_add_up_as_the_formulas_say(name, expected):
    assert dict(kip_metrics(storage(merged([ONE, OTHER], shares_cache=True))))[name] == pytest.approx(expected)


def test_caches_that_are_not_shared_add_up():
    assert merged([ONE, OTHER], shares_cache=False).properties["block-cache-capacity"] == 16_000


def test_levels_stalls_and_quantiles_of_two_instances():
    total = merged([ONE, OTHER], shares_cache=True)
    assert total.levels == [[5, 450], [1, 100], [2, 700]]
    assert total.stalls == {"memtable-limit-stops": 3, "l0-file-count-limit-delays": 7}
    assert total.stall_us == {"memtables": 5_900, "level0-files": 100}
    assert total.histograms[FLUSHES] == [3, 12_000, 1_000, 9_000, 9_000, 9_000, 9_000], "the slower one's quantiles"
    assert (ONE.levels[0], ONE.histograms[FLUSHES][0]) == ([4, 400], 2), "they are left as they are"
    shown = storage(total)
    assert (shown.write_amplification, shown.read_amplification) == (4_000 / 4_000, 4 / 2)


def test_what_has_nothing_to_divide_by_is_absent_and_not_0():
    names = dict(kip_metrics(storage(Reading(), window_ns=0)))
    for name in ("memtable-hit-ratio", "memtable-flush-time-avg", "memtable-flush-time-min", "bytes-written-rate"):
        assert name not in names
    assert names["bytes-written-total"] == 0
    nothing = storage(Reading())
    assert nothing.write_amplification is nothing.read_amplification is nothing.space_amplification is None
    quiet = dict.fromkeys(ONE.tickers, 0)
    assert "memtable-hit-ratio" not in dict(kip_metrics(storage(ONE, grown=quiet))), "none were looked up of late"
    assert dict(kip_metrics(storage(ONE, grown=quiet)))["bytes-written-rate"] == 0


def test_all_metrics_of_the_kips_are_there_by_their_names_and_level():
    assert len(STATISTICS) == 22
    kip_607 = (
        "num-immutable-mem-table cur-size-active-mem-table cur-size-all-mem-tables size-all-mem-tables "
        "num-entries-active-mem-table num-entries-imm-mem-tables num-deletes-active-mem-table "
        "num-deletes-imm-mem-tables mem-table-flush-pending num-running-flushes compaction-pending "
        "num-running-compactions estimate-pending-compaction-bytes total-sst-files-size live-sst-files-size "
        "num-live-versions estimate-num-keys estimate-table-readers-mem background-errors block-cache-capacity "
        "block-cache-usage block-cache-pinned-usage"
    )
    assert set(kip_607.split()) <= GAUGES.keys()
    shown = storage(ONE)
    shown.level = INFO
    assert set(dict(kip_metrics(shown))) <= GAUGES.keys()


def test_a_window_is_a_minute():
    window = Window()
    assert window.add(0, {"n": 5}) == (0, {"n": 0})
    assert window.add(30 * S, {"n": 7, "m": 1}) == (30 * S, {"n": 2, "m": 1})
    assert window.add(60 * S, {"n": 8}) == (60 * S, {"n": 3})
    assert window.add(90 * S, {"n": 9}) == (60 * S, {"n": 2})


def test_plain_values_carry_all_of_it():
    shown = storage(merged([ONE, OTHER], shares_cache=True))
    assert Storage.from_plain(shown.to_plain()) == shown


def test_lines_of_statistics_are_found_by_name():
    text = "rocksdb.stall.micros COUNT : 7\nrocksdb.no.file.opens COUNT : 2\n\nrocksdb.x P50 : 1.0 COUNT : 2\n"
    assert statistics_of(text, ("stall.micros", "x", "y")) == {
        "stall.micros": ["COUNT", ":", "7"],
        "x": ["P50", ":", "1.0", "COUNT", ":", "2"],
    }
