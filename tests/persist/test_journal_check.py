"""kora check on journals: what is good is found to the byte, and a repaired copy leaves the original alone."""

import random
from pathlib import Path
from typing import BinaryIO

import pytest

from kora.persist.journal_check import check_journal, examine, is_journal
from kora.persist.loading import CannotLoad
from tests.conftest import encode_request

pytestmark = pytest.mark.once

SELECT = encode_request(("SELECT", 0))
SET = encode_request(("SET", "k", "value\r\n"))
TRANSACTION = b"".join(map(encode_request, (("MULTI",), ("INCR", "n"), ("LPUSH", "l", "x"), ("EXEC",))))
RECORDS = [SELECT, b"#TS:1700000000\r\n", SET, TRANSACTION, SET]
JOURNAL = b"".join(RECORDS)
# Where a journal may end.
WHOLE = [sum(map(len, RECORDS[:count])) for count in range(len(RECORDS) + 1)]
SNAPSHOT = b"REDIS0011 and so on"


def check_snapshot(path: str, file: BinaryIO) -> int:
    if not file.read().startswith(SNAPSHOT):
        raise CannotLoad(path, 7, "it is no good")
    return len(SNAPSHOT)


def check(path: Path, fix: bool = False) -> tuple[int, str]:
    lines: list[str] = []
    code = check_journal(str(path), fix=fix, say=lines.append, check_snapshot=check_snapshot)
    return code, "\n".join(lines)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A directory with a base and three increments, of which the middle one is empty."""
    folder = tmp_path / "appendonlydir"
    folder.mkdir()
    names = ["appendonly.aof.3.base.rdb", *(f"appendonly.aof.{number}.incr.aof" for number in (7, 8, 9))]
    for name, content in zip(names, (SNAPSHOT, JOURNAL, b"", JOURNAL), strict=True):
        (folder / name).write_bytes(content)
    lines = [f"file {name} seq {name.split('.')[2]} type {'b' if 'base' in name else 'i'}\n" for name in names]
    (folder / "appendonly.aof.manifest").write_text("".join(lines))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_torn_end_is_found_at_the_last_whole_command_or_transaction(tmp_path: Path) -> None:
    for size in range(len(JOURNAL) + 1):
        path = tmp_path / f"{size}.aof"
        path.write_bytes(JOURNAL[:size])
        findings = examine(str(path), check_snapshot)
        assert findings.good_bytes == max(place for place in WHOLE if place <= size), size
        assert bool(findings.fault) == findings.is_torn == (size not in WHOLE), size
        code, text = check(path, fix=True)
        assert code == 0 and path.read_bytes() == JOURNAL[:size]
        if findings.fault:
            assert "a torn end" in text
            assert (tmp_path / f"{size}.aof.fixed").read_bytes() == JOURNAL[: findings.good_bytes]


def test_any_flipped_byte_ends_what_is_good_at_the_latest_where_it_is_noticed(tmp_path: Path) -> None:
    """One within a value is no fault that could be seen: journals have no checksums."""
    path = tmp_path / "x.aof"
    chance = random.Random(1)
    for place in range(len(JOURNAL)):
        path.write_bytes(JOURNAL[:place] + bytes([JOURNAL[place] ^ 1 << chance.randrange(8)]) + JOURNAL[place + 1 :])
        findings = examine(str(path), check_snapshot)
        assert findings.good_bytes >= max(whole for whole in WHOLE if whole <= place)
        assert findings.fault or findings.good_bytes == len(JOURNAL)


def test_damage_in_the_middle_is_told_with_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "x.aof"
    path.write_bytes(JOURNAL[: WHOLE[2]] + b"?" + JOURNAL[WHOLE[2] :])
    code, text = check(path)
    assert code == 1
    assert f"{WHOLE[2]} of {len(JOURNAL) + 1} bytes are good" in text
    assert f"at offset {WHOLE[2]}, found b'?'" in text and "a torn end" not in text


def test_zeros_at_the_end_are_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "x.aof"
    for whole in (SET, SET + SET[:9]):
        path.write_bytes(whole + bytes(100))
        findings = examine(str(path), check_snapshot)
        assert findings.is_torn and findings.good_bytes == len(SET)


def test_transactions_are_open_once_and_closed_once(tmp_path: Path) -> None:
    path = tmp_path / "x.aof"
    multi, execute = encode_request(("multi",)), encode_request(("exec",))
    for content, good in (
        (SET + execute, len(SET)),
        (SET + multi + multi + execute, len(SET)),
        (multi + SET + execute + multi + SET, len(multi + SET + execute)),
    ):
        path.write_bytes(content)
        assert examine(str(path), check_snapshot).good_bytes == good


def test_a_whole_journal_is_found_good_by_its_directory_or_manifest(journal: Path) -> None:
    for path in (journal, journal / "appendonly.aof.manifest"):
        assert is_journal(str(path))
        code, text = check(path, fix=True)
        assert code == 0 and "the journal is good" in text and "a snapshot, 0 commands" in text
    assert [path.name for path in journal.parent.iterdir()] == ["appendonlydir"]


def test_a_torn_last_increment_is_cut_in_a_copy_of_the_directory(journal: Path) -> None:
    (journal / "appendonly.aof.9.incr.aof").write_bytes(JOURNAL[:-1])
    before = contents(journal)
    assert check(journal)[0] == 1
    code, text = check(journal, fix=True)
    assert code == 0 and f"without {len(SET) - 1} bytes of" in text
    assert contents(journal) == before
    fixed = contents(journal.with_name("appendonlydir.fixed"))
    assert fixed == {**before, "appendonly.aof.9.incr.aof": JOURNAL[: WHOLE[-2]]}
    assert check(journal.with_name("appendonlydir.fixed"))[0] == 0
    code, text = check(journal, fix=True)
    assert code == 1 and "is there already" in text


def test_what_is_behind_a_fault_is_left_out_of_the_copy(journal: Path) -> None:
    (journal / "appendonly.aof.7.incr.aof").write_bytes(JOURNAL[: WHOLE[1]] + b"nonsense")
    code, text = check(journal, fix=True)
    assert code == 0 and "without 2 files behind it" in text and "a torn end" not in text
    fixed = contents(journal.with_name("appendonlydir.fixed"))
    assert sorted(fixed) == ["appendonly.aof.3.base.rdb", "appendonly.aof.7.incr.aof", "appendonly.aof.manifest"]
    assert fixed["appendonly.aof.7.incr.aof"] == SELECT
    assert b"seq 8" not in fixed["appendonly.aof.manifest"]


def test_a_missing_increment_ends_what_can_be_kept(journal: Path) -> None:
    (journal / "appendonly.aof.8.incr.aof").unlink()
    code, text = check(journal, fix=True)
    assert code == 0 and "appendonly.aof.8.incr.aof: 0 commands, 0 of 0 bytes are good; the file is missing" in text
    assert sorted(contents(journal.with_name("appendonlydir.fixed"))) == [
        "appendonly.aof.3.base.rdb",
        "appendonly.aof.7.incr.aof",
        "appendonly.aof.manifest",
    ]


def test_without_its_base_a_journal_cannot_be_repaired(journal: Path) -> None:
    base = journal / "appendonly.aof.3.base.rdb"
    base.write_bytes(b"REDIS????")
    code, text = check(journal, fix=True)
    assert code == 1 and "its snapshot is damaged: at byte 7: it is no good" in text
    assert "nothing in front of the fault that could be kept" in text
    base.unlink()
    code, text = check(journal, fix=True)
    assert code == 1 and "the file is missing" in text
    assert [path.name for path in journal.parent.iterdir()] == ["appendonlydir"]


def test_a_manifest_that_cannot_be_followed_is_told_with_its_line(journal: Path) -> None:
    manifest = journal / "appendonly.aof.manifest"
    manifest.write_text(manifest.read_text() + "file ../x seq 10 type i\n")
    code, text = check(journal)
    assert code == 1 and "line 5" in text
    manifest.rename(journal / "other.manifest")
    manifest.write_text("")
    code, text = check(journal)
    assert code == 1 and "has 2 manifests" in text


def test_files_that_the_manifest_does_not_name_are_told(journal: Path) -> None:
    (journal / "appendonly.aof.10.incr.aof").write_bytes(JOURNAL)
    code, text = check(journal)
    assert code == 0 and "appendonly.aof.10.incr.aof: is not in the manifest" in text


def test_a_single_file_of_older_versions_may_begin_with_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(SNAPSHOT + JOURNAL[:-3])
    assert is_journal(str(path))
    code, text = check(path, fix=True)
    assert code == 0 and "a snapshot, 6 commands" in text
    assert (tmp_path / "appendonly.aof.fixed").read_bytes() == SNAPSHOT + JOURNAL[: WHOLE[-2]]


def test_a_lone_snapshot_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(SNAPSHOT)
    assert not is_journal(str(path))
    path.write_bytes(SET)
    assert is_journal(str(path))
