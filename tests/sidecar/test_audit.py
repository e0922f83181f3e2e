"""The writer of the audit log: whatever happens to it, its files or its neighbours, the log says what is missing."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kora.audit import ring
from kora.audit.chain import Report, verify
from kora.audit.files import find_log, lines
from kora.audit.ring import Ring
from kora.sidecar import audit
from kora.sidecar.audit import AuditLog
from kora.sidecar.checks import DEGRADED, OK, UNHEALTHY, _audit
from tests.e2e.kora_process import eventually

pytestmark = pytest.mark.once

IDENTITY = ring.identity(7, "alice", "127.0.0.1:5000", b"worker")
START_MS = 1_700_000_000_000


class Writer:
    """A log, and a data process that tells it of commands."""

    def __init__(self, folder: Path, queue: Ring | None = None, **settings: Any) -> None:
        self.path = folder / "audit.jsonl"
        self.settings = {
            "file": str(self.path), "on_full": "drop", "fsync": "everysec", "rotate_size": 0, "rotate_seconds": 0,
            "retention_size": 0, "retention_days": 0, **settings,
        }  # fmt: skip
        self.queue = queue or Ring.make(1 << 20)
        self.log = AuditLog(self.queue, lambda: self.settings, "1.2.3")
        self.log.start()

    def put(self, count: int = 1, **changes: Any) -> None:
        for _ in range(count):
            number = self.queue.words[ring.NUMBER] = self.queue.words[ring.NUMBER] + 1
            self.queue.append(
                ring.command(number, START_MS + number, 4, 0, IDENTITY, b"config|set", b"", [], [b"hz", b"%d" % number])
            )

    def end(self, in_order: bool = True) -> None:
        self.queue.words[ring.CLOSED] = int(in_order)
        self.log.stop()

    def kill(self) -> None:
        """The sidecar dies, and its locks with it."""
        eventually(lambda: self.queue.used_bytes == 0, "the queue to be written")
        with self.log._lock:
            self.log._end = lambda: 0.0  # type: ignore[method-assign]
        self.log.stop()
        if self.log._fd >= 0:
            self.log._close()

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line.data) for line in lines(find_log(str(self.path)))]

    def report(self) -> Report:
        return verify(lines(find_log(str(self.path))))

    def events(self) -> list[str]:
        return [record["event"] for record in self.records() if "event" in record]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def make(**settings: Any) -> Writer:
        made.append(Writer(tmp_path, **settings))
        return made[-1]

    yield make
    for writer in made:
        if writer.log._thread.is_alive():
            writer.settings["file"] = str(tmp_path / "over.jsonl")
            writer.end()


def test_what_is_put_in_comes_out_as_lines_until_the_end(make):
    writer = make()
    writer.put(3)
    writer.end()
    records = writer.records()
    assert [record.get("event") or record["command"] for record in records] == ["opened", *["config|set"] * 3, "closed"]
    assert records[2] == {
        "seq": 3, "time": "2023-11-14T22:13:20.002Z", "run": writer.queue.run, "number": 2, "category": "config",
        "user": "alice", "client": 7, "address": "127.0.0.1:5000", "name": "worker", "command": "config|set",
        "keys": [], "args": ["hz", "2"], "outcome": "ok", "prev": records[1]["hash"], "hash": records[2]["hash"],
    }  # fmt: skip
    assert not writer.report().fault
    assert oct(writer.path.stat().st_mode & 0o777) == "0o600"


def test_the_next_server_goes_on_where_the_last_one_ended(make):
    first = make()
    first.put(2)
    first.end()
    second = make()
    second.put(1)
    assert [json.loads(line)["seq"] for line in second.log.tail(2)] == [5, 6]
    second.end()
    assert second.events() == ["opened", "closed", "opened", "closed"]
    assert (second.report().fault, second.report().gaps) == ("", 0)


def test_a_data_process_that_ends_without_a_word_is_told_of_with_what_is_missing(make):
    writer = make()
    writer.put(2)
    writer.queue.words[ring.NUMBER] += 5  # numbered, and never put in
    writer.end(in_order=False)
    last = writer.records()[-1]
    assert (last["event"], last["missing"]) == ("cut off", 5)
    after = make()
    after.end()
    assert after.events() == ["opened", "cut off", "opened", "closed"]


def test_what_was_dropped_last_is_told_at_the_end(make):
    writer = make()
    writer.put(1)
    words = writer.queue.words
    words[ring.NUMBER] += 4
    words[ring.GAP_COUNT], words[ring.GAP_FIRST], words[ring.GAP_SINCE] = 4, 2, START_MS
    writer.end(in_order=False)
    gap, end = writer.records()[-2:]
    assert (gap["event"], gap["missing"], gap["first"], gap["number"]) == ("gap", 4, 2, 5)
    assert (end["event"], end["missing"]) == ("cut off", 0)


def test_a_log_that_nobody_closed_says_so_in_its_next_record(make, tmp_path):
    first = make()
    first.put(3)
    first.kill()
    with open(first.path, "ab") as file:
        file.write(b'{"seq":5,"time":"torn')
    second = make()  # of another data process
    second.end()
    gap = second.records()[4]
    assert {name: gap[name] for name in ("event", "missing", "last", "torn_bytes", "reason")} == {
        "event": "gap", "missing": None, "last": 4, "torn_bytes": 21, "reason": "the log was not closed in order",
    }  # fmt: skip
    assert (second.report().fault, second.report().gaps) == ("", 1)


def test_a_sidecar_that_is_killed_loses_nothing_and_writes_nothing_twice(make):
    first = make()
    first.put(50)
    first.kill()
    # It died after it had written and before it had taken out; and in the middle of another record.
    data = first.path.read_bytes()
    first.path.write_bytes(data + b'{"seq":52')
    first.queue.words[ring.READ] = 0
    first.queue.words[ring.FAULT] = errno.ENOSPC
    first.put(10)
    second = make(queue=first.queue)
    second.put(5)
    second.end()
    assert second.queue.words[ring.FAULT] == 0
    records = second.records()
    assert [record["number"] for record in records if "number" in record] == list(range(1, 66))
    assert second.events() == ["opened", "resumed", "closed"]
    assert (second.report().fault, second.report().missing) == ("", 0)


def test_a_log_whose_end_was_changed_goes_on_and_is_found_broken_there(make):
    first = make()
    first.put(3)
    first.end()
    data = first.path.read_bytes()
    first.path.write_bytes(data.replace(b'"closed"', b'"clOsed"'))
    second = make()
    second.put(2)
    second.end()
    assert not second.log.is_valid
    assert second.report().broken == 5
    assert [record["seq"] for record in second.records()] == list(range(1, 11))


def test_rotation_in_the_middle_of_the_chain_verifies_across_files(make):
    writer = make(rotate_size=2000)
    for _ in range(8):
        writer.put(5)
        writer.log.tail(1)
    assert not writer.log.verify().fault
    writer.end()
    files = find_log(str(writer.path))
    assert len(files) > 4
    assert [os.path.basename(path) for path in files[:1]] == ["audit.jsonl.000000000001"]
    report = writer.report()
    assert (report.fault, report.records, report.files) == ("", 42, len(files))
    assert writer.log.rotations == len(files) - 1
    # A file that is taken out is missed.
    os.unlink(files[2])
    assert "are missing in front of record" in writer.report().fault


def test_an_old_file_is_rotated_away(make):
    writer = make(rotate_seconds=1)
    writer.put(1)
    eventually(lambda: writer.log.rotations > 0, "another file")


def test_retention_removes_files_and_says_so_and_the_rest_verifies(make):
    writer = make(rotate_size=2000, retention_size=5000)
    for _ in range(12):
        writer.put(5)
        writer.log.tail(1)
    eventually(lambda: "removed" in writer.events(), "a file to be removed")
    writer.end()
    report = writer.report()
    assert (report.fault, report.first > 1, report.removed_up_to) == ("", True, report.first - 1)
    # By hand is another thing.
    os.unlink(find_log(str(writer.path))[0])
    assert "no record says that they were removed" in writer.report().fault


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_full_disk_holds_records_back_and_none_is_lost_once_there_is_room(make, monkeypatch, call, fsync):
    writer = make(fsync=fsync, on_full="block")
    writer.put(2)
    writer.log.tail(1)
    real = getattr(os, call)

    def fail(fd: int, *rest: Any) -> Any:
        if call == "write":
            real(fd, bytes(rest[0])[:20])  # as much as there was room for
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audit.os, call, fail)
    writer.put(3)
    eventually(lambda: writer.log.fault, "the fault")
    assert writer.queue.words[ring.FAULT] == errno.ENOSPC
    check = _audit(writer.log.state())
    assert check.status == UNHEALTHY
    assert "No space left on device" in check.reason
    assert "clients that want what is recorded wait" in check.reason
    assert (writer.log.fsync_errors > 0) == (call == "fdatasync")
    monkeypatch.undo()
    writer.put(1)
    eventually(lambda: not writer.log.fault and not writer.queue.used_bytes, "all to be written")
    assert _audit(writer.log.state()).status == OK
    writer.end()
    assert [record["number"] for record in writer.records() if "number" in record] == list(range(1, 7))
    assert (writer.report().fault, writer.report().gaps) == ("", 0)


def test_a_folder_that_is_not_there_is_waited_for(make, tmp_path):
    writer = make(file=str(tmp_path / "later" / "audit.jsonl"))
    writer.put(1)
    eventually(lambda: writer.log.fault == "No such file or directory", "the fault")
    (tmp_path / "later").mkdir()
    eventually(lambda: not writer.queue.used_bytes, "the record to be written")


def test_two_servers_do_not_write_the_same_log(make):
    first = make()
    first.put(1)
    eventually(lambda: first.path.exists() and not first.queue.used_bytes, "the first to write")
    second = make()
    second.put(1)
    eventually(lambda: second.log.fault == "another process writes it", "the fault")
    first.end()
    eventually(lambda: not second.log.fault and not second.queue.used_bytes, "the second to write")
    second.end()
    assert second.events() == ["opened", "closed", "opened", "closed"]
    assert not second.report().fault


def test_verify_knows_what_was_written_and_is_told_from_what_was_cut_off(make):
    writer = make()
    writer.put(5)
    assert writer.log.verify().records == 6
    data = writer.path.read_bytes()
    os.truncate(writer.path, data.rindex(b'{"seq":5'))
    report = writer.log.verify()
    assert report.fault == "the log ends with record 4, and the last one written is 6"
    assert _audit(writer.log.state()).status == DEGRADED


def test_records_that_were_dropped_are_health_s_business_for_a_minute(make):
    writer = make()
    assert _audit(writer.log.state()).status == OK
    writer.queue.words[ring.DROPPED] += 3
    check = _audit(writer.log.state())
    assert (check.status, check.reason) == (DEGRADED, "3 records were dropped in the last minute")


def test_answers_to_audit(make, tmp_path):
    writer = make()
    writer.put(3)
    assert [json.loads(line)["seq"] for line in writer.log.answer("tail", 2)] == [3, 4]
    assert writer.log.answer("tail", 0) == []
    status = writer.log.answer("status", 0)
    assert (status["last"], status["queue_records"], status["fault"], status["file"]) == (4, 0, "", str(writer.path))
    assert writer.log.answer("verify", 0)["valid"]
    writer.settings["file"] = str(tmp_path / "nowhere" / "audit.jsonl")
    writer.log.path = ""
    assert "No such file" in writer.log.answer("tail", 1)["error"]


def test_an_error_of_its_own_is_told_and_loses_nothing(make, monkeypatch):
    writer = make()
    writer.log.tail(1)
    real = audit.body

    def fail(*_: Any) -> str:
        raise ValueError("a bug")

    monkeypatch.setattr(audit, "body", fail)
    writer.put(2)
    eventually(lambda: writer.log.fault, "the fault")
    assert _audit(writer.log.state()).status == UNHEALTHY
    monkeypatch.setattr(audit, "body", real)
    eventually(lambda: not writer.queue.used_bytes, "all to be written")
    writer.end()
    assert [record["number"] for record in writer.records() if "number" in record] == [1, 2]
