"""`kora audit`: which log it takes, and what it makes of it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kora.audit import ring
from kora.audit.chain import Chain, body
from kora.cli.operator import run

pytestmark = pytest.mark.once

DAY_MS = 86_400_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01


def write(path: Path, chain: Chain, times: "list[int]", key: bytes = b"k") -> None:
    identity = ring.identity(7, "alice", "127.0.0.1:5000", b"")
    data = [ring.command(number, at, 7, 0, identity, b"set", b"", [key], []) for number, at in enumerate(times, 1)]
    path.write_bytes(b"".join(chain.line(body(record, "run")) for one in data for record in ring.records(one)))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A record at each end of four days, over two files."""
    chain = Chain()
    times = [FIRST_MS + day * DAY_MS + at for day in range(4) for at in (0, DAY_MS - 1)]
    write(tmp_path / "audit.jsonl.000000000001", chain, times[:3])
    write(tmp_path / "audit.jsonl", chain, times[3:])
    return tmp_path / "audit.jsonl"


def export(log: Path, *flags: str, **options: Any) -> list[dict[str, Any]]:
    output = log.with_name("out")
    assert run(["audit", "export", str(log), "--output", str(output), *flags]) == options.get("code", 0)
    found: list[dict[str, Any]] = json.loads(output.read_text())
    return found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), range(1, 9)),
        (("--start", "2024-01-02", "--end", "2024-01-03"), range(3, 7)),
        (("--start", "2024-01-04"), (7, 8)),
        (("--end", "2024-01-01"), (1, 2)),
        (("--start", "2024-01-01T23:59:59Z", "--end", "2024-01-02T00:00:00Z"), (2, 3)),
        (("--start", "2025-01-01"), ()),
    ],
)
def test_days_are_whole_and_both_are_part_of_it(log, flags, expected):
    assert [record["seq"] for record in export(log, *flags)] == list(expected)


def test_what_stands_behind_a_broken_record_is_not_exported(log, capsys):
    log.write_bytes(log.read_bytes().replace(b"alice", b"mallo", 2))
    assert [record["seq"] for record in export(log, code=1)] == [1, 2, 3]
    assert "NOT as it was written: " in (said := capsys.readouterr().err)
    assert "audit.jsonl, line 1: record 4 was changed" in said


def test_a_key_is_no_formula_to_a_spreadsheet(tmp_path, capsys):
    path = tmp_path / "audit.jsonl"
    write(path, Chain(), [FIRST_MS], b'=cmd|"/c calc"!A1')
    assert run(["audit", "export", str(path), "--format", "csv"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert json.loads(row["keys"]) == ['=cmd|"/c calc"!A1']
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())


def test_a_log_is_found_by_its_folder_one_of_its_files_or_the_configuration(log, tmp_path, capsys, monkeypatch):
    config = tmp_path / "kora.toml"
    config.write_text(f'dir = "{tmp_path}"\naudit-file = "audit.jsonl"\n')
    for arguments in ([str(log)], [str(tmp_path)], ["--config", str(config)]):
        assert run(["audit", "verify", *arguments]) == 0
        assert "good: 8 records, 1 to 8, in 2 files" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "..")
    assert run(["audit", "verify"]) == 2
    assert "which log?" in capsys.readouterr().err


def test_what_is_no_log_is_told(log, tmp_path, capsys):
    write(tmp_path / "other.jsonl", Chain(), [FIRST_MS])
    assert run(["audit", "verify", str(tmp_path)]) == 2
    assert "there are several: audit.jsonl, other.jsonl" in capsys.readouterr().err
    assert run(["audit", "verify", str(tmp_path / "none.jsonl")]) == 2
    assert "there is no audit log" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run(["audit", "verify", str(tmp_path / "empty")]) == 2
    assert run(["audit", "export", str(log), "--output", str(tmp_path / "none" / "x")]) == 2
    with pytest.raises(SystemExit):
        run(["audit", "export", str(log), "--start", "yesterday"])
