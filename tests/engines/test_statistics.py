"""What is read of RocksDB instances, against what they say themselves, and that each number moves when it should."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

rocksdict = pytest.importorskip("rocksdict")

from rocksdict import BlockBasedOptions, Cache, DbClosedError, Options, Rdict  # noqa: E402

from kora.clock import ManualClock  # noqa: E402
from kora.engine.engine import Engine  # noqa: E402
from kora.engine.storage import StorageView  # noqa: E402
from kora.engines.rocksdb.statistics import LogTail, Statistics  # noqa: E402
from kora.engines.rocksdb.store import Store, StoreSettings  # noqa: E402
from kora.observe.storage import (  # noqa: E402
    COMPACTIONS,
    COUNT,
    FLUSHES,
    INFO,
    LEAST,
    MOST,
    PROPERTIES,
    SUM,
    TICKERS,
    Storage,
    kip_metrics,
)
from kora.store.backing import ABSENT, Taken  # noqa: E402
from kora.store.slots import SLOTS, slot_of  # noqa: E402

pytestmark = pytest.mark.once

Open = Callable[..., Rdict]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens instances with small limits, which share a cache."""
    instances: list[Rdict] = []
    cache = Cache(1 << 20)

    def open_one(name: str = "shard", statistics: bool = True, files: int = -1, **triggers: int) -> Rdict:
        table = BlockBasedOptions()
        table.set_block_cache(cache)
        table.set_bloom_filter(10, False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_open_files(files)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_size((64 if triggers else 256) << 10)
        options.set_disable_auto_compactions(not triggers)
        if triggers:
            options.set_level_zero_file_num_compaction_trigger(triggers["compaction"])
            options.set_level_zero_slowdown_writes_trigger(triggers["slowdown"])
            options.set_level_zero_stop_writes_trigger(triggers["stop"])
        if statistics:
            options.enable_statistics()
        instances.append(Rdict(str(tmp_path / name), options))
        return instances[-1]

    yield open_one
    for instance in instances:
        with suppress(DbClosedError):
            instance.close()


def read(*instances: Rdict, level: str = "debug") -> tuple[Statistics, Storage]:
    statistics = Statistics(lambda: [[instance] for instance in instances], level)
    statistics.read()
    return statistics, statistics.latest


def again(statistics: Statistics) -> Storage:
    statistics.read()
    return statistics.latest


def properties(instance: Rdict) -> list[int | None]:
    return [instance.property_int_value(f"rocksdb.{row.source}") for row in PROPERTIES]


def fill(instance: Rdict, count: int = 500, first: int = 0) -> None:
    for number in range(first, first + count):
        instance[b"%08d" % number] = os.urandom(100)


def dump_of(instance: Rdict) -> dict[str, str]:
    text = instance.property_value("rocksdb.options-statistics")
    assert text is not None
    return dict(re.findall(r"^rocksdb\.(\S+) (.*)$", text, re.MULTILINE))


def test_sums_are_those_of_the_instances_own_dumps(opened: Open) -> None:
    one, other = opened("one"), opened("other")
    for instance, count in ((one, 700), (other, 300)):
        fill(instance, count)
        instance.flush()
        for number in range(0, 2 * count, 3):
            instance.get(b"%08d" % number)
        instance.get([b"%08d" % number for number in range(10)])
        fill(instance, count)
        instance.flush()
        instance.compact_range(None, None)
    told: list[list[int | None]] = []
    # What has just compacted goes on behind the scenes: its end is noted, files are deleted.
    while told != (told := [properties(one), properties(other)]):
        _, storage = read(one, other)
    dumps = [dump_of(one), dump_of(other)]
    for row in TICKERS:
        for source in row.sources:
            expected = sum(int(dump[source].rpartition(" ")[2]) for dump in dumps)
            assert storage.reading.tickers[source] == expected, source
    for name in (FLUSHES, COMPACTIONS):
        rows = [dump[name].split() for dump in dumps]
        found = storage.reading.histograms[name]
        assert found[COUNT] == sum(int(row[row.index("COUNT") + 2]) for row in rows) > 0
        assert found[SUM] == sum(int(row[row.index("SUM") + 2]) for row in rows)
        assert found[MOST] == max(float(row[row.index("P100") + 2]) for row in rows)
    for row, *values in zip(PROPERTIES, *told, strict=True):
        assert all(value is not None for value in values), row.source
        expected = values[0] if row.scope == "cache" else sum(value or 0 for value in values)
        assert storage.reading.properties[row.source] == expected, row.source
    files = [file for instance in (one, other) for file in instance.live_files()]
    assert sum(count for count, _ in storage.reading.levels) == len(files) > 0
    size_bytes = sum(size_bytes for _, size_bytes in storage.reading.levels)
    assert size_bytes == storage.reading.properties["live-sst-files-size"]


def test_a_flush_moves_what_is_of_flushes_and_its_length_is_the_least(opened: Open) -> None:
    instance = opened()
    statistics, before = read(instance)
    assert before.reading.histograms[FLUSHES][COUNT] == 0
    fill(instance)
    filled = again(statistics).reading
    assert filled.properties["num-entries-active-mem-table"] == 500
    assert filled.properties["cur-size-active-mem-table"] > 50_000
    instance.flush()
    after = again(statistics).reading
    assert after.tickers["flush.write.bytes"] > 0 and after.levels[0][0] == 1
    assert after.properties["num-entries-active-mem-table"] == 0
    count, total, least, most = after.histograms[FLUSHES][:4]
    assert count == 1 and least == most == total > 0, "the only one"
    fill(instance)
    instance.flush()
    least_of_two = again(statistics).reading.histograms[FLUSHES][LEAST]
    assert least_of_two == min(least, again(statistics).reading.histograms[FLUSHES][SUM] - total)


def test_a_compaction_moves_what_is_of_compactions(opened: Open) -> None:
    instance = opened()
    for _ in range(2):
        fill(instance)
        instance.flush()
    statistics, before = read(instance)
    assert before.reading.levels[0][0] == 2
    space = before.space_amplification
    instance.compact_range(None, None)
    after = again(statistics)
    assert after.reading.tickers["compact.read.bytes"] > 0 and after.reading.tickers["compact.write.bytes"] > 0
    assert after.reading.histograms[COMPACTIONS][COUNT] == 1
    assert after.reading.levels[0][0] == 0
    assert after.write_amplification is not None and before.write_amplification is not None
    assert after.write_amplification > before.write_amplification
    assert space is not None and after.space_amplification is not None and after.space_amplification < space


def test_reads_move_the_memtable_the_filter_and_the_cache(opened: Open) -> None:
    instance = opened()
    fill(instance)
    instance.get(b"00000001")
    statistics, storage = read(instance)
    assert storage.reading.tickers["memtable.hit"] == 1
    instance.flush()
    before = again(statistics).reading.tickers
    instance.get(b"00000001")
    missed = again(statistics).reading.tickers
    assert missed["block.cache.data.miss"] == before["block.cache.data.miss"] + 1
    assert missed["memtable.miss"] == before["memtable.miss"] + 1
    instance.get(b"00000001")
    hit = again(statistics).reading.tickers
    assert hit["block.cache.data.hit"] == missed["block.cache.data.hit"] + 1
    assert hit["bytes.read"] == missed["bytes.read"] + 100
    for number in range(100):
        instance.get(b"%08dx" % number)
    after = again(statistics).reading.tickers
    assert after["bloom.filter.useful"] - hit["bloom.filter.useful"] > 90
    assert after["bloom.filter.full.true.positive"] >= 2
    assert again(statistics).reading.properties["block-cache-usage"] > 0


def test_stalls_are_told_by_their_cause_and_take_time(opened: Open) -> None:
    instance = opened(compaction=2, slowdown=2, stop=3)
    statistics, _ = read(instance)
    first = 0
    while not (reading := again(statistics).reading).stall_us["level0-files"]:
        fill(instance, 2_000, first)
        first += 2_000
        assert first < 200_000, "never held up"
    stalled_us = sum(reading.stall_us.values())
    assert stalled_us == reading.tickers["stall.micros"]
    assert reading.stalls["l0-file-count-limit-delays"] > 0
    # Without statistics, to the millisecond.
    _, bare = read(instance, level=INFO)
    assert not bare.reading.tickers
    assert abs(sum(bare.reading.stall_us.values()) - stalled_us) < 2_000


def test_time_without_a_count_goes_to_the_cause_that_is_known(opened: Open) -> None:
    statistics, _ = read(opened())
    [reader] = statistics._readers
    by_cause = reader._by_cause
    assert by_cause({}, 7)["other"] == 7
    counted = {"memtable-limit-stops": 1, "l0-file-count-limit-delays": 2}
    shared = by_cause(counted, 100)
    assert (shared["memtables"], shared["level0-files"]) == (33, 67)
    reader._last.stall_us, reader._last.stalls = {**dict.fromkeys(shared, 0), "memtables": 40}, counted
    assert by_cause(counted, 90)["memtables"] == 90, "it goes on"


def test_a_file_that_is_corrupt_is_an_error(opened: Open, tmp_path: Path) -> None:
    instance = opened()
    fill(instance)
    instance.flush()
    statistics, before = read(instance)
    [file] = (tmp_path / "shard").glob("*.sst")
    data = bytearray(file.read_bytes())
    data[10] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(Exception, match="checksum"):
        instance.get(b"00000001")
    after = again(statistics).reading
    assert after.tickers["block.checksum.mismatch.count"] > before.reading.tickers["block.checksum.mismatch.count"]


def test_a_file_that_cannot_be_opened_is_an_error(opened: Open, tmp_path: Path) -> None:
    instance = opened(files=20)
    statistics, before = read(instance)
    # More than may be open at a time: some were closed again.
    for number in range(30):
        instance[b"%08d" % number] = b"x"
        instance.flush()
    for file in (tmp_path / "shard").glob("*.sst"):
        file.unlink()
    with pytest.raises(Exception, match="No such file"):
        all(instance.get(b"%08d" % number) for number in range(30))
    assert before.reading.tickers["no.file.errors"] == 0
    after = again(statistics)
    assert after.reading.tickers["no.file.errors"] == int(dump_of(instance)["no.file.errors"].split()[-1]) > 0
    assert dict(kip_metrics(after))["number-file-errors-total"] == after.reading.tickers["no.file.errors"]


def test_counters_go_on_when_an_instance_is_opened_anew(opened: Open) -> None:
    instances = [opened()]
    statistics = Statistics(lambda: [instances], "debug")
    fill(instances[0])
    instances[0].flush()
    statistics.read()
    before = statistics.latest.reading
    instances[0].close()
    statistics.read()
    assert statistics.latest.reading is before, "what is closed has no numbers"
    instances[0] = opened()
    fill(instances[0], 100)
    after = again(statistics).reading
    assert after.tickers["number.keys.written"] == 600
    assert after.histograms[FLUSHES][:3] == before.histograms[FLUSHES][:3]
    assert after.properties["num-entries-active-mem-table"] == 100, "that is what it is now"


def test_without_statistics_there_are_properties(opened: Open) -> None:
    instance = opened(statistics=False)
    fill(instance)
    _, storage = read(instance, level=INFO)
    assert not storage.reading.tickers and not storage.reading.histograms
    assert storage.reading.properties["num-entries-active-mem-table"] == 500
    assert storage.reading.open_files >= 3, "the log of writes, that of deeds, and the manifest"


def test_what_is_read_beside_the_loop_is_there_a_moment_later(opened: Open) -> None:
    instance = opened()
    statistics = Statistics(lambda: [[instance]], "debug")
    statistics.refresh()
    statistics.refresh()  # it goes on already, or begins again
    statistics.close()
    assert statistics.latest.reading.properties
    taken = statistics.latest
    statistics.refresh()
    assert statistics.latest is taken, "it was closed"
    instance.close()
    with pytest.raises(DbClosedError):
        instance.property_value("rocksdb.stats")


def test_the_log_is_read_from_where_it_was_left(tmp_path: Path) -> None:
    path = tmp_path / "LOG"
    tail = LogTail()
    assert tail.read(str(path)) == {FLUSHES: [], COMPACTIONS: []}
    path.write_bytes(b"[JOB 1] Flush lasted 900 microseconds, and\nnothing\n[JOB 2] Flush las")
    assert tail.read(str(path))[FLUSHES] == [900]
    with path.open("ab") as file:
        file.write(b'ted 70 microseconds\n{"compaction_time_micros": 33, "x"}\n')
    assert tail.read(str(path)) == {FLUSHES: [70], COMPACTIONS: [33]}
    path.unlink()
    path.write_bytes(b"Flush lasted 5 microseconds\n")
    assert tail.read(str(path))[FLUSHES] == [5], "another file by its name"


# What DOCTOR says of real instances.


def finding(run: Callable[..., bytes], name: str) -> dict[str, Any]:
    found = {finding["id"]: finding for finding in json.loads(run("DOCTOR", "JSON"))["findings"]}
    assert name in found, found.keys()
    return found[name]


def test_doctor_finds_that_writes_are_held_up(
    opened: Open, engine: Engine, clock: ManualClock, run: Callable[..., bytes]
) -> None:
    instance = opened(compaction=2, slowdown=2, stop=3)
    statistics, _ = read(instance)
    engine.storage = StorageView(statistics)
    second(engine, clock)
    first = 0
    while sum(again(statistics).reading.stall_us.values()) < 150_000:
        fill(instance, 5_000, first)
        first += 5_000
        assert first < 2_000_000, "never held up"
    second(engine, clock)
    found = finding(run, "storage-stall")
    assert found["evidence"]["numbers"]["stalled_ms"] >= 100
    assert "because of its" in found["evidence"]["text"]
    assert any(event[0] == b"storage-stall" for event in run("LATENCY", "LATEST"))  # type: ignore[comparison-overlap]
    statistics.close()


def test_doctor_finds_that_compaction_is_behind_and_a_file_is_gone(
    opened: Open, engine: Engine, clock: ManualClock, run: Callable[..., bytes], tmp_path: Path
) -> None:
    instance = opened(files=20)
    statistics, _ = read(instance)
    engine.storage = StorageView(statistics)
    second(engine, clock)
    for number in range(12 * len(engine.shards)):
        instance[b"%08d" % number] = b"x"
        instance.flush()
    statistics.read()
    assert finding(run, "compaction-behind")["evidence"]["numbers"]["level0_files"] == 12 * len(engine.shards)
    for file in (tmp_path / "shard").glob("*.sst"):
        file.unlink()
    with pytest.raises(Exception, match="No such file"):
        all(instance.get(b"%08d" % number) for number in range(12 * len(engine.shards)))
    statistics.read()
    second(engine, clock)
    assert finding(run, "storage-errors")["evidence"]["numbers"]["file_errors"] > 0
    statistics.close()


def second(engine: Engine, clock: ManualClock) -> None:
    clock.advance_ms(1_000)
    engine.tick()


def test_a_store_that_is_opened_again_has_its_filters_its_statistics_and_one_cache(tmp_path: Path) -> None:
    edges = [0, SLOTS // 2, SLOTS]
    settings = StoreSettings(block_cache_bytes=3 << 20)
    store = Store(str(tmp_path), edges, settings)
    id = store.new_id()
    taken = Taken(id, 2)
    for number in range(200):
        key = b"k%d" % number
        taken.add(slot_of(key) >= edges[1], key, bytes(8) + b"\x00\x01v", ABSENT)
    store.batch([taken], {0: id}).commit(sync=False)
    for instance in store.instances:
        instance.flush()
    store.close()
    store = Store(str(tmp_path), edges, settings)
    try:
        for number in range(200):
            assert store.get(id, b"none%d" % number) is None
        assert store.get(id, b"k7") is not None
        store.statistics.read()
        total = store.statistics.latest.reading
        assert total.tickers["bloom.filter.useful"] > 150
        assert total.properties["block-cache-capacity"] == 3 << 20
        assert [reading.properties["block-cache-capacity"] for reading in store.statistics.by_instance] == [3 << 20] * 2
        assert total.properties["block-cache-usage"] > 0
    finally:
        store.close()
