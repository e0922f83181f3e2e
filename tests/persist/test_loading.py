"""Loading snapshots: every way to write a value, what is beside the keys, and files that nobody wrote like that."""

import errno
from collections.abc import Callable
from io import BytesIO
from random import Random
from typing import Any

import pytest

from kora.clock import ManualClock
from kora.engine.engine import Engine
from kora.engine.loading import Loading
from kora.persist.loading import CannotLoad, CorruptFile, WrongChecksum, load_rdb
from kora.persist.loading import run as finish
from tests.conftest import Session, runner

from .rdb_files import (
    VALUES,
    bent,
    contents,
    deadline,
    everything,
    key,
    load,
    make_engine,
    module_id,
    number,
    outcome,
    rdb_file,
    seal,
    string,
    text,
)

EARLIER_MS = 1_600_000_000_000
LATER_MS = 1_800_000_000_000
SELECT_3 = b"\xfe\3"
LIBRARY = b"#!lua name=mylib\nredis.register_function('answer', function() return 42 end)"


def value_of(module: bytes) -> bytes:
    """A module's value: one part of each kind."""
    return module + b"\1\5\2\x41\0\3abcd\4abcdefgh\5\3foo\0"


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "reference"])
@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_what_restore_makes_of_its_payload(name: str, fast: bool) -> None:
    engine, other = make_engine(fast=fast), make_engine()
    report = load(engine, rdb_file(key(b"k", VALUES[name])))
    runner(other.connect())("RESTORE", "k", 0, VALUES[name])
    assert contents(engine) == contents(other)
    assert report.keys == 1
    assert report.has_checksum


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "reference"])
def test_keys_go_to_their_databases_with_their_deadlines(fast: bool) -> None:
    engine = make_engine(fast=fast)
    seconds = b"\xfd" + (LATER_MS // 1000).to_bytes(4, "little")
    load(engine, rdb_file(text(b"a", b"1", deadline(LATER_MS)), SELECT_3, b"\xfb\2\1", text(b"b", b"x", seconds)))
    client = engine.connect()
    run = runner(client)
    assert (run("GET", "a"), run("PEXPIRETIME", "a")) == (b"1", LATER_MS)
    run("SELECT", 3)
    assert (run("GET", "b"), run("PEXPIRETIME", "b")) == (b"x", LATER_MS)
    assert run("DBSIZE") == 1


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "reference"])
def test_keys_whose_time_is_over_are_left_out_but_for_a_journal(fast: bool) -> None:
    data = rdb_file(
        text(b"a", b"1", deadline(EARLIER_MS)), key(b"b", VALUES["list"], deadline(EARLIER_MS)), text(b"c", b"1")
    )
    engine = make_engine(fast=fast)
    report = load(engine, data)
    assert (report.keys, report.expired) == (1, 2)
    assert runner(engine.connect())("DBSIZE") == 1
    engine = make_engine(fast=fast)
    report = load(engine, data, in_journal=True)
    assert (report.keys, report.expired) == (3, 0)
    assert engine.keys == 3


def test_fields_whose_time_is_over_are_left_out(clock: ManualClock) -> None:
    engine = make_engine()
    client = engine.connect()
    run = runner(client)
    run("HSET", "h", "short", "1", "long", "2")
    run("HPEXPIREAT", "h", LATER_MS, "FIELDS", 1, "short")
    payload = run("DUMP", "h")
    late = make_engine()
    late.clock.advance_ms(LATER_MS - EARLIER_MS)  # type: ignore[attr-defined]
    load(late, rdb_file(key(b"h", payload), version=12))
    assert runner(late.connect())("HGETALL", "h") == [b"long", b"2"]


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "reference"])
def test_how_a_key_was_used_is_known_to_eviction(fast: bool) -> None:
    data = rdb_file(text(b"idle", b"x", b"\xf8\x40\x64"), text(b"often", b"x", b"\xf9\x28"), text(b"new", b"x"))
    engine = make_engine("--maxmemory-policy", "allkeys-lru", fast=fast)
    load(engine, data)
    run = runner(engine.connect())
    assert [run("OBJECT", "IDLETIME", name) for name in ("idle", "often", "new")] == [100, 0, 0]
    engine = make_engine("--maxmemory-policy", "allkeys-lfu", fast=fast)
    load(engine, data)
    run = runner(engine.connect())
    assert run("OBJECT", "FREQ", "often") > run("OBJECT", "FREQ", "new")


def test_loading_counts_no_changes_and_tells_the_writer() -> None:
    engine = make_engine()
    about = b"\xfa" + string(b"redis-ver") + string(b"7.4.0"), b"\xfa" + string(b"used-mem") + string(b"1000000")
    slot = b"\xf4" + number(5) + number(1) + number(0)
    report = load(engine, rdb_file(*about, b"\xfe\0", slot, text(b"a", b"1"), key(b"b", VALUES["list"])))
    assert report.about["redis-ver"] == "7.4.0"
    assert engine.changes == 0


@pytest.mark.parametrize(
    "record",
    [
        b"\xf5" + string(LIBRARY),
        b"\xf6"
        + string(b"mylib")
        + string(b"LUA")
        + b"\1"
        + string(b"what it is for")
        + string(LIBRARY.split(b"\n")[1]),
    ],
    ids=["7.0", "release candidate"],
)
def test_libraries_of_functions_are_loaded(record: bytes) -> None:
    pytest.importorskip("lupa")
    engine = make_engine()
    assert load(engine, rdb_file(record)).functions == 1
    assert runner(engine.connect())("FCALL", "answer", 0) == 42


def test_a_library_that_does_not_compile_is_refused() -> None:
    pytest.importorskip("lupa")
    with pytest.raises(CannotLoad, match="library of functions that cannot be loaded"):
        load(make_engine(), rdb_file(b"\xf5" + string(b"#!lua name=x\n(")))


def test_data_of_modules_is_refused_or_skipped_as_the_setting_says() -> None:
    value = b"\7" + string(b"m") + value_of(module_id("ReJSON-RL"))
    aux = b"\xf7" + module_id("ft_index0") + b"\2\1" + value_of(b"")
    for record in (value, aux):
        with pytest.raises(CannotLoad, match="rdb-modules skip"):
            load(make_engine(), rdb_file(text(b"a", b"1"), record))
    engine = make_engine("--rdb-modules", "skip")
    report = load(engine, rdb_file(aux, value, value.replace(b"m", b"n", 1), text(b"a", b"1")))
    assert report.skipped == {"ReJSON-RL": 2, "ft_index0": 1}
    assert engine.keys == report.keys == 1


def test_values_without_elements_are_left_out_as_redis_does() -> None:
    engine = make_engine()
    report = load(engine, rdb_file(b"\2" + string(b"k") + b"\0", text(b"a", b"1")))
    assert (report.keys, report.empty, engine.keys) == (1, 1, 1)


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "the file ends too early"),
        (b"REDIS", 0, "the file ends too early"),
        (b"*3\r\n$3\r\nSET\r\n", 9, "where REDIS and a version"),
        (b"VALKEY080\xff", 0, "Valkey 9"),
        (rdb_file(version=13), 0, "RDB version 13, of which Kora knows 1 to 12"),
        (rdb_file(b"\xfe\x40\x10", text(b"a", b"1")), 9, "set `databases` to 17"),
        (rdb_file(text(b"a", b"1"), text(b"a", b"2")), 19, "a key that is there twice, in the key 'a'"),
        (rdb_file(text(b"a", b"1"), b"\x7fkv"), 17, "the file ends too early"),
        (rdb_file(b"\0\1k\x80\x7f\xff\xff\xff"), 17, "a string over the limit"),
        (rdb_file(b"\2\1k\x81\0\0\0\x7f\xff\xff\xff\xff"), 21, "more elements than bytes"),
        (rdb_file(b"\0\1k\xc3\x05\x80\x1f\xff\xff\xffabcde"), 19, "would grow too long"),
        (rdb_file(b"\6\1k"), 9, "release candidate of Redis 4"),
        (rdb_file(b"\x32\1k"), 12, "a value of type 50"),
        (rdb_file(text(b"a", b"1"))[:-3], 15, "the file ends too early, in the checksum"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(data: bytes, offset: int, reason: str) -> None:
    for fast in (True, False):
        with pytest.raises(CannotLoad, match=reason) as caught:
            load(make_engine(fast=fast), data)
        assert caught.value.offset == offset


def test_a_wrong_checksum_is_refused_unless_nobody_looks_at_it() -> None:
    whole = rdb_file(text(b"a", b"1"))
    data = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(WrongChecksum, match="at byte 15: the checksum is"):
        load(make_engine(), data)
    assert load(make_engine("--rdbchecksum", "no"), data).keys == 1
    report = load(make_engine(), rdb_file(text(b"a", b"1"), checksum=False))
    assert (report.keys, report.has_checksum) == (1, False)


def test_versions_before_the_checksum_end_with_the_file() -> None:
    data = rdb_file(text(b"a", b"1"), version=4)
    assert load(make_engine(), data[:-8]).keys == 1
    with pytest.raises(CorruptFile, match="more behind the end"):
        load(make_engine(), data)


def test_every_cut_of_a_file_is_refused() -> None:
    data = everything()
    for size_bytes in range(0, len(data), 61):
        with pytest.raises(CorruptFile) as caught:
            load(make_engine(), data[:size_bytes])
        assert caught.value.offset <= size_bytes
        assert caught.value.good_bytes <= size_bytes


def test_every_byte_that_is_not_what_it_was_is_found_out() -> None:
    data = everything()
    for place in range(0, len(data), 83):
        wrong = bytearray(data)
        wrong[place] ^= 1 << place % 8
        with pytest.raises(CannotLoad):
            load(make_engine(), bytes(wrong))


def test_whatever_is_bent_becomes_the_same_in_the_kernel_and_in_the_reference() -> None:
    data = everything()
    for seed in range(40):
        wrong = bent(data, Random(seed))
        assert outcome(wrong, fast=True) == outcome(wrong, fast=False), seed


def test_a_long_value_is_loaded_beyond_the_window() -> None:
    long = bytes(range(256)) * 5000
    words = [b"word-%d" % place for place in range(50_000)]
    as_set = b"\2" + string(b"s") + number(len(words)) + b"".join(map(string, words))
    data = rdb_file(text(b"a", long), as_set, text(b"b", long), checksum=False)
    for fast in (True, False):
        engine = make_engine(fast=fast)
        load(engine, data)
        run = runner(engine.connect())
        assert run("GET", "a") == run("GET", "b") == long
        assert run("SCARD", "s") == len(words)


def test_a_disk_that_fails_is_no_end_of_the_file() -> None:
    class Failing(BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, "Input/output error")
            return super().read(min(count or 0, 1000))

    data = everything()
    engine = make_engine()
    with pytest.raises(OSError, match="Input/output error"):
        finish(load_rdb(engine, Failing(data), len(data), Loading(engine.clock, len(data)), path="dump.rdb"))


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "reference"])
def test_a_string_that_is_longer_than_requests_may_be_now_is_loaded(fast: bool) -> None:
    engine = make_engine("--proto-max-bulk-len", "1mb", fast=fast)
    assert load(engine, rdb_file(text(b"a", bytes(2 << 20)), checksum=False)).keys == 1


def test_behind_a_snapshot_there_may_be_a_journal() -> None:
    data = rdb_file(text(b"a", b"1"))
    engine = make_engine()
    progress = Loading(engine.clock, len(data) + 100)
    report = finish(load_rdb(engine, BytesIO(data + b"*1\r\n" * 25), len(data) + 100, progress, path="base"))
    assert report.stop == len(data)


def test_while_loading_only_what_needs_no_data_is_answered(
    engine: Engine, connect: Callable[[], Session], run: Callable[..., Any]
) -> None:
    loading = Loading(engine.clock, 1000)
    session = connect()
    session.send("MULTI")
    engine.set_loading(loading)
    loading.loaded_bytes = 250
    (refusal,) = session.send("GET", "k")
    assert str(refusal) == "LOADING Redis is loading the dataset in memory"
    (discarded,) = session.send("EXEC")
    assert str(discarded).startswith("EXECABORT")
    fields = dict(line.split(":", 1) for line in run("INFO", "persistence").decode().split("\r\n")[1:] if line)
    assert fields["loading"] == "1"
    assert fields["loading_start_time"] == str(engine.clock.wall_ms() // 1000)
    assert (fields["loading_total_bytes"], fields["loading_loaded_bytes"]) == ("1000", "250")
    assert (fields["loading_loaded_perc"], fields["loading_eta_seconds"]) == ("25.00", "1")
    engine.set_loading(None)
    assert session.send("PING") == ["PONG"]
    assert b"loading_start_time" not in run("INFO", "persistence")


def test_nothing_expires_or_is_evicted_while_loading(engine: Engine, run: Callable[..., Any]) -> None:
    run("SET", "k", "v" * 10_000)
    run("CONFIG", "SET", "maxmemory", 1)
    engine.config.set([("maxmemory-policy", "allkeys-random")])
    engine.set_loading(Loading(engine.clock, 1000))
    assert engine.make_room(1_000_000)
    assert engine.keys == 1


def test_a_file_that_is_sealed_again_is_loaded() -> None:
    data = everything()
    assert outcome(seal(data[:-8]), fast=True) == outcome(data, fast=False)
