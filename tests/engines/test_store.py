"""The store by itself: what was written is there again, in order and counted, also after a crash."""

import errno
import os
import shutil
import subprocess
import threading
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from kora.errors import StorageFault
from kora.store.backing import ABSENT, LASTING, POSITION_END, UNKNOWN, VOLATILE, Taken, place_of
from kora.store.shard import RUN_BITS
from kora.store.slots import slot_of

rocksdict = pytest.importorskip("rocksdict", reason="the extra `rocksdb` is not installed")

from kora.engines.rocksdb import store as storing  # noqa: E402
from kora.engines.rocksdb.store import CannotOpen, Store, StoreSettings  # noqa: E402

pytestmark = pytest.mark.once

EDGES = [0, 8192, 16384]
NOW_MS = 1_000_000

Open = Callable[..., Store]
Change = tuple[bytes, bytes | None, int]  # a key, its record, and what was there


def record(value: bytes, deadline_ms: int = 0) -> bytes:
    return deadline_ms.to_bytes(8, "big") + b"\0" + value


def put(key: bytes, value: bytes = b"v", deadline_ms: int = 0, was: int = ABSENT) -> Change:
    return (key, record(value, deadline_ms), was)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    opened: list[Store] = []

    def open_one(path: str | None = None, edges: list[int] | None = None) -> Store:
        opened.append(Store(path or str(tmp_path / "store"), edges or EDGES, StoreSettings(4 << 20, 4 << 20)))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


def taken(id: int, changes: Iterable[Change]) -> Taken:
    """What a keyspace would give out."""
    given = Taken(id, len(EDGES) - 1)
    for key, data, was in changes:
        given.add(bisect(EDGES, slot_of(key)) - 1, key, data, was)
    return given


def write(store: Store, id: int, *changes: Change, index: int = 0) -> None:
    store.batch([taken(id, changes)], store.databases | {index: id}).commit(False)


def get_many(store: Store, keys: list[tuple[int, bytes]]) -> list[bytes | None]:
    places: list[list[bytes]] = [[] for _ in store.instances]
    for id, key in keys:
        places[bisect(EDGES, slot_of(key)) - 1].append(place_of(id, key))
    found = [iter(records) for records in store.get_many(places)]
    return [next(found[bisect(EDGES, slot_of(key)) - 1]) for _, key in keys]


def all_keys(store: Store, id: int, count: int = 7, now_ms: int = 0) -> list[bytes]:
    keys, position = [], 0
    while position < POSITION_END:
        part, position = store.scan(id, position, count, now_ms)
        keys += part
    return keys


def test_what_is_unknown_is_looked_for_when_it_is_written(store: Store) -> None:
    id, keys = store.new_id(), [b"k%d" % number for number in range(300)]
    write(store, id, *(put(key, deadline_ms=9 if number % 3 == 0 else 0) for number, key in enumerate(keys)))
    assert store.counts(id) == (300, 100)
    changes: list[Change] = [put(key, was=UNKNOWN) for key in keys[:30]]
    changes += [put(b"new%d" % number, deadline_ms=7, was=UNKNOWN) for number in range(20)]
    changes += [(key, None, UNKNOWN) for key in [*keys[30:36], b"never"]]
    batch = store.batch([taken(id, changes)])
    there = list(store.overwritten(id))
    batch.commit(False)
    assert list(store.overwritten(id)) == list(batch.overwritten(id)) == there
    assert (sum(keys for _, keys, _ in there), sum(volatile for _, _, volatile in there)) == (36, 12)
    assert not batch.overwritten(id + 1)
    found = all_keys(store, id)
    assert store.counts(id) == (len(found), 100 - 12 + 20) == (300 + 20 - 6, 108)
    for run, keys_of_run, _ in there:
        assert sum(slot_of(key) >> RUN_BITS == run for key in keys[:36]) == keys_of_run


def test_what_cannot_be_read_can_be_written_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    id = store.new_id()
    write(store, id, put(b"a"), put(b"bad"))
    ask = store._read

    def fail(deed: Callable[..., Any], *arguments: Any) -> Any:
        if any(b"bad" in str(argument).encode() for argument in arguments):
            raise StorageFault("a bad block")
        return ask(deed, *arguments)

    batch = store.batch([taken(id, [put(b"a", b"2", was=UNKNOWN), put(b"bad", b"2", was=UNKNOWN)])])
    with monkeypatch.context() as patch:
        patch.setattr(store, "_read", fail)
        assert sum(keys for _, keys, _ in batch.overwritten(id)) == 2
    batch.commit(False)
    assert store.counts(id) == (2, 0)
    assert store.get(id, b"bad") == record(b"2")


def test_what_was_written_is_read_by_any_road(store: Store) -> None:
    id = store.new_id()
    write(store, id, put(b"a", b"1"), put(b"b", b"2", 5000), put(b"{a}c", bytes(range(256))))
    assert store.get(id, b"b") == record(b"2", 5000)
    assert get_many(store, [(id, b"none"), (id, b"{a}c"), (id + 1, b"a"), (id, b"a")]) == [
        None,
        record(bytes(range(256))),
        None,
        record(b"1"),
    ]
    assert store.may_exist(id, b"a")
    assert not store.may_exist(id, b"none")
    assert store.counts(id) == (3, 1)
    assert sum(keys for keys, _ in store.counts_by_shard(id)) == 3


def test_a_batch_that_ends_in_the_middle_is_written_again(
    open_store: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storing, "_PUT_AT_ONCE", 7)
    store = open_store()
    id = store.new_id()
    old = [put(b"key:%d" % number) for number in range(100)]
    write(store, id, *old)
    ask, left = store._read, 5

    def fail(deed: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal left
        left -= deed.__name__ == "write"
        if not left:
            raise StorageFault("No space left on device")
        return ask(deed, *arguments)

    changes = [(key, None if at % 3 else record(b"new"), LASTING) for at, (key, _, _) in enumerate(old)]
    batch = store.batch([taken(id, changes)])
    with monkeypatch.context() as patch:
        patch.setattr(store, "_read", fail)
        with pytest.raises(StorageFault):
            batch.commit(False)
    shutil.copytree(store.path, tmp_path / "killed")
    batch.commit(False)
    for each in (store, open_store(str(tmp_path / "killed"))):
        assert each.counts(id) == (34, 0)
        assert all_keys(each, id) == sorted(all_keys(each, id), key=lambda key: place_of(id, key))
        assert [each.get(id, key) for key, _, _ in changes] == [data for _, data, _ in changes]


def test_writes_wait_for_rocksdb_where_others_can_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, stopped = store._read, 4

    def answer(deed: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal stopped
        if arguments == (storing._IS_STOPPED,):
            stopped -= stopped > 0
            return int(stopped > 0)
        return ask(deed, *arguments)

    monkeypatch.setattr(store, "_read", answer)
    write(store, store.new_id(), put(b"a"))
    store.statistics.read()
    assert sum(store.statistics.latest.reading.stall_us.values()) >= 3 * storing._STOPPED_NS // 1000


def test_counts_follow_what_the_store_had(store: Store) -> None:
    id = store.new_id()
    write(store, id, put(b"a"), put(b"b", deadline_ms=5), put(b"c"))
    write(store, id, put(b"a", deadline_ms=9, was=LASTING), put(b"b", was=VOLATILE), (b"c", None, LASTING))
    assert store.counts(id) == (2, 1)
    write(store, id, (b"a", None, VOLATILE), (b"never", None, ABSENT))
    assert store.counts(id) == (1, 0)
    assert store.get(id, b"a") is None


def test_everything_is_there_when_it_is_opened_again(open_store: Open) -> None:
    store = open_store()
    one, other = store.new_id(), store.new_id()
    keys = [b"key:%d" % number for number in range(500)]
    store.batch(
        [taken(one, [put(key) for key in keys]), taken(other, [put(b"x", deadline_ms=3)])],
        {0: one, 5: other},
        {"functions": b"[]"},
    ).commit(True)
    store.close()
    again = open_store()
    assert again.databases == {0: one, 5: other}
    assert again.new_id() not in (one, other)
    assert again.counts(one) == (500, 0)
    assert again.counts(other) == (1, 1)
    assert again.extra("functions") == b"[]"
    assert again.extra("else") is None
    assert sorted(all_keys(again, one)) == sorted(keys)


def test_what_a_killed_process_has_written_is_there(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, *(put(b"%d" % number) for number in range(100)))
    # The files as they are now, which is what there would be after SIGKILL.
    shutil.copytree(store.path, tmp_path / "after", ignore=shutil.ignore_patterns("LOCK"))
    after = open_store(str(tmp_path / "after"))
    assert after.counts(id) == (100, 0)
    assert len(all_keys(after, id)) == 100


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_a_scan_goes_by_position_and_gives_each_key_once(store: Store, count: int) -> None:
    id, other = store.new_id(), store.new_id()
    keys = [b"key:%d" % number for number in range(200)] + [b"{one}%d" % number for number in range(100)]
    store.batch([taken(id, [put(key) for key in keys]), taken(other, [put(b"other")])], {0: id, 1: other}).commit(False)
    found = all_keys(store, id, count)
    assert found == sorted(keys, key=lambda key: (slot_of(key), crc32(key), key))


def test_keys_of_the_same_position_come_together(store: Store) -> None:
    # CRC-32 of both is the same.
    first, second = b"{s}plumless", b"{s}buckeroo"
    same = [b"{s}codding", b"{s}gnu"] if crc32(first) != crc32(second) else [first, second]
    id = store.new_id()
    write(store, id, *(put(key) for key in (*same, b"{s}else")))
    position = 0
    while position < POSITION_END:
        keys, position = store.scan(id, position, 1, 0)
        assert len({crc32(key) for key in keys}) <= 1
        if crc32(same[0]) == crc32(same[1]) and same[0] in keys:
            assert same[1] in keys


def test_a_scan_leaves_out_what_is_over(store: Store) -> None:
    id = store.new_id()
    # In its last millisecond a key is still there.
    write(store, id, put(b"a", deadline_ms=NOW_MS - 1), put(b"b", deadline_ms=NOW_MS), put(b"c"))
    assert sorted(all_keys(store, id, now_ms=NOW_MS)) == [b"b", b"c"]
    over: list[bytes] = []
    assert store.scan(id, 0, 10, NOW_MS, over)[1] == POSITION_END
    assert over == [b"a"]


def test_keys_are_due_in_time_and_by_their_last_deadline(store: Store) -> None:
    id, other = store.new_id(), store.new_id()
    store.batch([taken(other, [put(b"other", deadline_ms=1)])], {1: other}).commit(False)
    write(store, id, put(b"a", deadline_ms=10), put(b"b", deadline_ms=20), put(b"c"))
    assert store.due(id, 9, 100) == []
    assert store.due(id, 10, 100) == [b"a"]
    write(store, id, put(b"b", deadline_ms=30, was=VOLATILE), (b"a", None, VOLATILE))
    assert store.due(id, 29, 100) == []
    assert store.due(id, 30, 100) == [b"b"]
    assert store.due(other, 30, 100) == [b"other"]
    # One that lies before what was looked at is found as well.
    write(store, id, put(b"c", deadline_ms=5, was=LASTING))
    assert sorted(store.due(id, 30, 100)) == [b"b", b"c"]


def test_many_keys_that_are_due_come_bit_by_bit(store: Store) -> None:
    id = store.new_id()
    write(store, id, *(put(b"%d" % number, deadline_ms=1 + number % 7) for number in range(1000)))
    found: set[bytes] = set()
    for _ in range(100):
        keys = store.due(id, 100, 50)
        if not keys:
            break
        assert len(keys) <= 100
        found.update(keys)
        write(store, id, *((key, None, VOLATILE) for key in keys))
    assert len(found) == 1000
    assert store.counts(id) == (0, 0)


def test_a_database_that_has_no_number_any_more_is_gone(open_store: Open) -> None:
    store = open_store()
    old, other = store.new_id(), store.new_id()
    store.batch([taken(old, [put(b"a", deadline_ms=1)]), taken(other, [put(b"b")])], {0: old, 1: other}).commit(False)
    new = store.new_id()
    store.batch([taken(new, [put(b"a", b"new")])], {0: new}).commit(False)
    assert store.databases == {0: new}
    for id, keys in ((old, 0), (other, 0), (new, 1)):
        assert store.counts(id)[0] == len(all_keys(store, id)) == keys
    assert store.due(old, 100, 10) == []
    store.reclaim([old, other])
    store.close()
    assert open_store().get(new, b"a") == record(b"new")


def test_what_is_not_synced_in_the_log_is_in_no_file_when_room_is_given_back(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    old, new = store.new_id(), store.new_id()
    store.batch([taken(old, [put(b"%d" % number) for number in range(50)])], {0: old}).commit(False)
    store.batch([], {0: new}).commit(False)
    store.reclaim([old])
    synced = log_of(Path(store.path)).stat().st_size
    write(store, new, *(put(b"new:%d" % number) for number in range(50)))
    store._reclaiming.submit(int).result(20)  # what was to be given back is
    path = copy_of(store, tmp_path / "copy")
    os.truncate(log_of(path), synced)
    assert all_keys(open_store(str(path)), new) == []


def test_swapped_databases_are_so_after_opening(open_store: Open) -> None:
    store = open_store()
    one, other = store.new_id(), store.new_id()
    store.batch([taken(one, [put(b"a")])], {0: one, 1: other}).commit(False)
    store.batch([], {0: other, 1: one}).commit(False)
    store.close()
    assert open_store().databases == {0: other, 1: one}


def test_a_checkpoint_is_a_store_of_that_time(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, put(b"a"))
    store.checkpoint(str(tmp_path / "copy"))
    write(store, id, put(b"b"))
    copy = open_store(str(tmp_path / "copy"))
    assert copy.counts(id) == (1, 0)
    assert all_keys(copy, id) == [b"a"]
    assert store.counts(id) == (2, 0)


def test_a_store_that_is_opened_again_filters_and_caches_as_before(open_store: Open) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, *(put(b"%d" % number, b"v" * 100) for number in range(2000)))
    store.close()
    again = open_store()
    absent = [b"%d:absent" % number for number in range(1000)]
    get_many(again, [(id, key) for key in absent])
    assert sum(again.may_exist(id, key) for key in absent) < 100
    assert again.block_cache.get_usage() > 4096


# What there is to be refused


def test_a_directory_that_is_used_is_refused(store: Store, open_store: Open) -> None:
    with pytest.raises(CannotOpen, match=r"/shard-0/LOCK: another process uses this directory$"):
        open_store()


@pytest.mark.parametrize("edges", [[0, 16384], [0, 4096, 8192, 16384]])
def test_another_number_of_shards_is_refused(open_store: Open, edges: list[int]) -> None:
    store = open_store()
    write(store, store.new_id(), put(b"a"))
    store.close()
    with pytest.raises(CannotOpen, match=f"is the data of 2 shards, and `shards` is {len(edges) - 1}: have it 2"):
        open_store(edges=edges)


@pytest.mark.parametrize("is_in_files", [True, False])
def test_a_start_with_more_shards_leaves_nothing_behind(open_store: Open, tmp_path: Path, is_in_files: bool) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, put(b"a"))
    if is_in_files:
        store.close()
    path = copy_of(store, tmp_path / "copy")
    with pytest.raises(CannotOpen, match="is the data of 2 shards, and `shards` is 4"):
        open_store(str(path), edges=[0, 4096, 8192, 12288, 16384])
    assert open_store(str(path)).counts(id) == (1, 0)


def test_a_shard_that_is_gone_is_not_begun_anew(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, *(put(b"%d" % number) for number in range(20)))
    store.close()
    path = Path(store.path)
    (path / "shard-1").rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(CannotOpen, match=r"/shard-1: No such file or directory: have a checkpoint in place"):
            open_store()
    (tmp_path / "away").rename(path / "shard-1")
    current = path / "shard-0" / "CURRENT"
    data = current.read_bytes()
    current.unlink()
    with pytest.raises(CannotOpen, match=r"/shard-0/CURRENT: No such file or directory: have a checkpoint in place"):
        open_store()
    current.write_bytes(data)
    assert open_store().counts(id) == (20, 0)


def test_a_corrupted_file_is_named(open_store: Open) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, *(put(b"%d" % number, os.urandom(100)) for number in range(1000)))
    store.close()
    table = next(Path(store.path).glob("shard-1/*.sst"))
    data = bytearray(table.read_bytes())
    data[-60:] = bytes(60)
    table.write_bytes(data)
    with pytest.raises(CannotOpen, match=table.name):
        open_store()


def test_a_block_that_is_corrupted_is_an_error_of_whoever_reads_it(open_store: Open) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, *(put(b"%d" % number, os.urandom(100)) for number in range(1000)))
    store.close()
    for table in Path(store.path).glob("*/*.sst"):
        data = bytearray(table.read_bytes())
        data[5000:7000] = bytes(2000)
        table.write_bytes(data)
    again = open_store()
    keys = [b"%d" % number for number in range(1000)]
    with pytest.raises(StorageFault, match=r"\.sst"):
        get_many(again, [(id, key) for key in keys])


def test_a_manifest_that_is_missing_is_named(open_store: Open) -> None:
    store = open_store()
    write(store, store.new_id(), put(b"a"))
    store.close()
    for manifest in Path(store.path).glob("shard-0/MANIFEST-*"):
        manifest.unlink()
    with pytest.raises(CannotOpen, match=r"shard-0.*MANIFEST"):
        open_store()


def test_a_path_that_is_no_directory_is_refused(open_store: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotOpen, match="file"):
        open_store(str(tmp_path / "file"))


# The log of batches


def copy_of(store: Store, path: Path) -> Path:
    """The files as they are now, which is what there would be after SIGKILL."""
    shutil.copytree(store.path, path, ignore=shutil.ignore_patterns("LOCK"))
    return path


def log_of(path: Path) -> Path:
    [log] = path.glob("batches-*.log")
    return log


def test_a_torn_batch_is_cut_off_for_all_shards_alike(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    stops = []
    for number in range(3):
        write(store, id, *(put(b"%d:%d" % (number, key)) for key in range(10)))
        stops.append(log_of(Path(store.path)).stat().st_size)
    for case, (size_bytes, batches) in enumerate(
        ((stops[2] - 1, 2), (stops[1] + 1, 2), (stops[1], 2), (stops[0] + 30, 1), (stops[0] - 1, 0), (3, 0))
    ):
        path = copy_of(store, tmp_path / str(case))
        os.truncate(log_of(path), size_bytes)
        torn = open_store(str(path))
        keys = all_keys(torn, id)
        assert {int(key[:1]) for key in keys} == set(range(batches)) and len(keys) == 10 * batches, size_bytes
        assert torn.counts(id) == (10 * batches, 0)
        # What comes now stands behind a whole batch.
        write(torn, id, put(b"new"))
        again = open_store(str(copy_of(torn, tmp_path / f"{case}-again")))
        assert again.counts(id) == (10 * batches + 1, 0)


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_log_that_is_corrupted_before_its_end_is_named(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    stops = [0]
    for number in range(4):
        write(store, id, put(b"%d" % number))
        stops.append(log_of(Path(store.path)).stat().st_size)
    # In the number of bytes, the checksum, the number, and the contents.
    for case, place in enumerate((stops[2], stops[2] + 8, stops[2] + 12, stops[2] + 40)):
        path = copy_of(store, tmp_path / str(case))
        flipped(log_of(path), place)
        with pytest.raises(CannotOpen) as refused:
            open_store(str(path))
        about = f"{log_of(path)}: is corrupted at byte {stops[2]} of {stops[4]}, and there are batches behind it: "
        assert str(refused.value).startswith(about)
        assert log_of(path).stat().st_size == stops[4], "nothing was changed"
        subprocess.run(["sh", "-c", str(refused.value).partition("do without them: ")[2]], check=True)
        assert open_store(str(path)).counts(id) == (2, 0)
    # The same, where another log follows.
    path = copy_of(store, tmp_path / "another")
    log_of(path).with_name("batches-000002.log").write_bytes(log_of(path).read_bytes())
    flipped(path / "batches-000001.log", -1)
    with pytest.raises(CannotOpen, match=r"batches-000001\.log: is corrupted at byte \d+ of \d+, and there") as refused:
        open_store(str(path))
    subprocess.run(["sh", "-c", str(refused.value).partition("do without them: ")[2]], check=True)
    assert open_store(str(path)).counts(id) == (3, 0)


@pytest.mark.parametrize("end", [bytes(5000), b"x" * 5000], ids=["zeros", "anything"])
def test_what_is_no_batch_at_the_end_of_a_log_is_cut_off(open_store: Open, tmp_path: Path, end: bytes) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, put(b"a"))
    path = copy_of(store, tmp_path / "copy")
    with log_of(path).open("ab") as log:
        log.write(end)
    # Begun just before the crash.
    (path / "batches-000002.log").touch()
    torn = open_store(str(path))
    assert (torn.counts(id), torn.log.cut_bytes) == ((1, 0), 5000)


def test_a_log_of_which_everything_is_elsewhere_is_not_read(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, put(b"a"))
    old = log_of(Path(store.path))
    data = old.read_bytes()
    store.log.is_suspect = True
    write(store, id, put(b"b"))
    path = copy_of(store, tmp_path / "copy")
    # Its name is there again after a power cut, and what was in it is not.
    (path / old.name).write_bytes(data[: len(data) // 2])
    assert open_store(str(path)).counts(id) == (2, 0)


def test_a_log_is_given_up_when_all_of_it_is_in_files(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    id = store.new_id()
    values = [os.urandom(5000) for _ in range(10)]
    for number in range(100):
        write(store, id, *(put(b"%d:%d" % (number, key), value) for key, value in enumerate(values)))
    for _ in range(10_000):
        # Whoever writes sees to it, once files are made of the last one.
        if not (Path(store.path) / "batches-000001.log").exists():
            break
        write(store, id, put(b"0:0", values[0], was=LASTING))
    else:
        pytest.fail("the first log is still there")
    after = open_store(str(copy_of(store, tmp_path / "after")))
    assert after.counts(id) == (1000, 0)
    assert after.get(id, b"42:7") == record(values[7])
    store.close()
    [log] = Path(store.path).glob("batches-*")
    assert log.stat().st_size == 0
    again = open_store()
    assert again.replayed == 0
    assert again.counts(id) == (1000, 0)


def test_a_log_stays_open_while_another_thread_syncs_it(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    write(store, store.new_id(), put(b"a"))
    real, begun, goes_on = os.fdatasync, threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        if threading.current_thread().name == "slow":
            begun.set()
            assert goes_on.wait(20)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    failures: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda about: failures.append(about.exc_value))
    syncing = threading.Thread(target=store.log.sync, name="slow")
    syncing.start()
    assert begun.wait(20)
    changing = threading.Thread(target=store.log.begin_another)
    changing.start()
    goes_on.set()
    syncing.join()
    changing.join()
    assert not failures and not store.log.is_suspect


class Failing:
    """In place of a function of `os`: fails a number of times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, times: int, error: int) -> None:
        self._real = getattr(os, name)
        self._times = times
        self._error = error
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments: object) -> object:
        if self._times:
            self._times -= 1
            if self._error == errno.ENOSPC:
                self._real(arguments[0], bytes(memoryview(arguments[1])[:10]))  # type: ignore[arg-type]
            raise OSError(self._error, os.strerror(self._error))
        return self._real(*arguments)


@pytest.mark.parametrize(("name", "error"), [("write", errno.ENOSPC), ("fdatasync", errno.EIO)])
def test_a_batch_that_fails_can_be_committed_again(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    store = open_store()
    id = store.new_id()
    write(store, id, put(b"a"), put(b"b"), put(b"c"))
    batch = store.batch([taken(id, [put(b"d"), put(b"e"), (b"a", None, LASTING)])])
    Failing(monkeypatch, name, 2, error)
    for _ in range(2):
        with pytest.raises(StorageFault) as fault:
            batch.commit(True)
        assert fault.value.reason == os.strerror(error)
        assert store.get(id, b"d") is None
    batch.commit(True)
    write(store, id, put(b"f"))
    for opened in (store, open_store(str(copy_of(store, tmp_path / "copy")))):
        assert opened.counts(id) == (5, 0)
        assert sorted(all_keys(opened, id)) == [b"b", b"c", b"d", b"e", b"f"]


def test_an_instance_that_writes_no_more_is_opened_again_and_lacks_nothing(store: Store) -> None:
    id = store.new_id()
    write(store, id, *(put(b"%d" % number) for number in range(50)))
    batch = store.batch([taken(id, [put(b"new:%d" % number) for number in range(50)])])
    store.instances[1].close()
    with pytest.raises(StorageFault):
        batch.commit(False)
    batch.commit(False)
    assert store.counts(id) == (100, 0)
    assert len(all_keys(store, id)) == 100
