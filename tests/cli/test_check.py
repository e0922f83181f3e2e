"""`kora check`: what it says of snapshots, and the copies that it repairs."""

from pathlib import Path

import pytest

from kora.cli.check import check
from kora.cli.operator import run
from tests.persist.rdb_files import (
    contents,
    deadline,
    everything,
    load,
    make_engine,
    module_id,
    number,
    rdb_file,
    string,
    text,
)

pytestmark = pytest.mark.once

KEYS = [text(b"key:%d" % place, b"value") for place in range(10)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dump.rdb"


def lines(path: Path, data: bytes, fix: bool = False) -> tuple[int, list[str]]:
    path.write_bytes(data)
    said: list[str] = []
    code = check(str(path), fix, said.append)
    assert path.read_bytes() == data
    return code, said


def fixed(path: Path) -> bytes:
    return path.with_name("dump.rdb.fixed").read_bytes()


def test_a_good_snapshot_is_called_good(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(everything())
    assert run(["check", str(path)]) == 0
    assert "good: 52 keys (32 in database 0, 20 in database 3)" in capsys.readouterr().out
    assert sorted(path.parent.iterdir()) == [path]


def test_keys_whose_time_is_over_are_in_it_too(path: Path) -> None:
    code, said = lines(path, rdb_file(text(b"a", b"1", deadline(1)), checksum=False))
    assert code == 0
    assert "good: 1 keys" in said[0]
    assert "no checksum" in said[1]


def test_what_kora_would_leave_out_is_told(path: Path) -> None:
    module = b"\7" + string(b"m") + module_id("ReJSON-RL") + b"\0"
    code, said = lines(path, rdb_file(b"\2" + string(b"k") + b"\0", module) + b"more")
    assert code == 0
    assert "1 keys without elements" in said[1]
    assert "ReJSON-RL" in said[2]
    assert "4 bytes behind its end" in said[3]


@pytest.mark.parametrize("size", [0.3, 0.6, 0.95])
def test_a_cut_file_is_repaired_to_its_last_whole_key(path: Path, size: float) -> None:
    data = everything()
    code, said = lines(path, data[: int(len(data) * size)])
    assert code == 1
    assert "NOT good" in said[0]
    assert "the file ends too early" in said[0]
    assert not path.with_name("dump.rdb.fixed").exists()
    code, said = lines(path, data[: int(len(data) * size)], fix=True)
    assert code == 0
    assert "what stands behind the fault is lost" in said[-1]
    whole, part = make_engine(), make_engine()
    load(whole, data)
    report = load(part, fixed(path))
    assert report.has_checksum
    assert 0 < report.keys == len(contents(part))
    assert contents(part).items() <= contents(whole).items()


def test_a_damaged_value_ends_what_is_kept(path: Path) -> None:
    wrong = b"\x10" + string(b"bad") + string(b"a listpack that is none")
    code, said = lines(path, rdb_file(*KEYS, wrong, text(b"behind", b"value")), fix=True)
    assert code == 0
    assert "10 keys" in said[1]
    engine = make_engine()
    assert load(engine, fixed(path)).keys == 10


@pytest.mark.parametrize("cut", [1, 8])
def test_a_file_that_is_whole_but_for_its_checksum_is_kept_whole(path: Path, cut: int) -> None:
    lines(path, rdb_file(*KEYS)[:-cut], fix=True)
    assert fixed(path) == rdb_file(*KEYS)


def test_a_wrong_byte_that_nothing_but_the_checksum_tells_is_said_to_be_somewhere(path: Path) -> None:
    code, said = lines(path, rdb_file(*KEYS).replace(b"value", b"valve", 1), fix=True)
    assert code == 0
    assert "any value may be wrong" in said[2]
    assert fixed(path) == rdb_file(text(b"key:0", b"valve"), *KEYS[1:])


def test_what_cannot_be_repaired_is_left_alone(path: Path) -> None:
    assert lines(path, b"hello", fix=True)[0] == 1
    code, said = lines(path, rdb_file(version=77), fix=True)
    assert code == 1
    assert "RDB version 77" in said[0]
    path.with_name("dump.rdb.fixed").write_bytes(b"mine")
    code, said = lines(path, rdb_file(*KEYS)[:-9], fix=True)
    assert code == 1
    assert "move it away" in said[-1]
    assert fixed(path) == b"mine"


def test_old_versions_get_no_checksum(path: Path) -> None:
    lines(path, rdb_file(*KEYS, b"\2" + string(b"k") + number(1000), version=4), fix=True)
    assert fixed(path) == rdb_file(*KEYS, version=4)[:-8]


def test_a_file_that_is_not_there_is_a_failure_of_its_own(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(path)]) == 2
    assert capsys.readouterr().err == f"kora check: {path}: No such file or directory\n"
