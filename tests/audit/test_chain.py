"""The chain: whatever is done to a log behind its writer's back is found, and the record is named."""

import hashlib
import json

import pytest

from kora.audit import ring
from kora.audit.chain import ZEROS, Chain, Line, body, seconds, utc, verify

pytestmark = pytest.mark.once


def make(count: int) -> list[bytes]:
    chain = Chain()
    identity = ring.identity(7, "alice", "127.0.0.1:5000", b"")
    records = [
        ring.command(number, 1_700_000_000_000 + number, 7, 0, identity, b"set", b"", [b"k%d" % number], [])
        for number in range(1, count + 1)
    ]
    return [chain.line(body(record, "run")) for data in records for record in ring.records(data)]


def lines(*files: list[bytes]):
    return (
        Line(f"audit.{place}", number, data) for place, file in enumerate(files) for number, data in enumerate(file, 1)
    )


GOOD = make(20)


def test_anybody_can_recompute_a_hash():
    before = ZEROS
    for line in GOOD:
        record = json.loads(line)
        told = record.pop("hash")
        assert record["prev"] == before
        before = told
        assert hashlib.sha256(json.dumps(record, separators=(",", ":")).encode()).hexdigest() == told


def test_a_good_log_is_good_over_several_files():
    report = verify(lines(GOOD[:7], GOOD[7:8], GOOD[8:]))
    assert (report.fault, report.records, report.first, report.last, report.files) == ("", 20, 1, 20, 3)
    assert report.hash == json.loads(GOOD[-1])["hash"]


@pytest.mark.parametrize("place", [0, 5, 19])
def test_one_byte_flipped_is_found_and_named_whichever_it_is(place):
    line = GOOD[place]
    for at in range(0, len(line), 3):
        for flipped in (line[at] ^ 1, 0x20):
            if flipped == line[at]:
                continue
            changed = line[:at] + bytes([flipped]) + line[at + 1 :]
            report = verify(lines([*GOOD[:place], changed, *GOOD[place + 1 :]]))
            assert report.broken == place + 1, (at, changed, report)
            assert f"record {place + 1} was changed" in report.fault
            assert report.fault.startswith(f"audit.0, line {place + 1}: ")


def test_a_record_written_anew_with_its_own_hash_is_found():
    record = json.loads(GOOD[4])
    for name in ("hash", "seq", "prev"):
        record.pop(name)
    forged = Chain(4, json.loads(GOOD[3])["hash"])
    record["user"] = "mallory"
    line = forged.line(json.dumps(record, separators=(",", ":"))[1:-1])
    report = verify(lines([*GOOD[:4], line, *GOOD[5:]]))
    assert (report.broken, "record 6 does not follow record 5" in report.fault) == (6, True)


@pytest.mark.parametrize("place", [0, 1, 10, 18])
def test_one_line_removed_is_found_and_named(place):
    report = verify(lines([*GOOD[:place], *GOOD[place + 1 :]]))
    if place:
        assert f"record {place + 1} is missing in front of record {place + 2}" in report.fault
    else:
        assert report.fault == "records 1 to 1 are missing, and no record says that they were removed"
    assert report.broken == place + 1


def test_several_lines_removed_between_files_are_named():
    report = verify(lines(GOOD[:7], GOOD[10:]))
    assert report.fault.startswith("audit.1, line 1: records 8 to 10 are missing in front of record 11 (2023-11-14T")


@pytest.mark.parametrize(("first", "second"), [(3, 4), (3, 9), (10, 19)])
def test_lines_in_another_order_are_found_and_named(first, second):
    moved = list(GOOD)
    moved[first], moved[second] = moved[second], moved[first]
    report = verify(lines(moved))
    assert report.broken == first + 1
    assert f"record {second + 1} stands where record {first + 1} was, which stands at line {second + 1}" in report.fault


def test_a_line_twice_is_found():
    report = verify(lines([*GOOD[:5], GOOD[4], *GOOD[5:]]))
    assert "record 5 stands behind record 5" in report.fault


def test_the_end_cut_off_is_found_by_whoever_knows_how_it_ended():
    assert not verify(lines(GOOD[:15])).fault
    report = verify(lines(GOOD[:15]), Chain(20, json.loads(GOOD[-1])["hash"]))
    assert (report.fault, report.broken) == ("the log ends with record 15, and the last one written is 20", 16)


@pytest.mark.parametrize(
    "junk", [b"", b"x", b"[]", b"{}", b"null", b'{"seq":1}', b'{"seq":1,"prev":"","hash":1}', b"\xff"]
)
def test_junk_is_no_record(junk):
    report = verify(lines([*GOOD[:3], junk + b"\n", *GOOD[3:]]))
    assert (report.broken, report.records) == (4, 3)


def test_times_are_told_in_utc_to_the_millisecond():
    assert utc(1_709_164_799_987) == "2024-02-28T23:59:59.987Z"
    assert seconds("2024-02-28T23:59:59.987Z") == 1_709_164_799.987
