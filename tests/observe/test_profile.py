"""Profiles in the forms that they are read in."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from kora.observe.cpu_samples import CpuSamples
from kora.observe.profile import BadProfile, Frame, Profile, Sample, from_pprof, to_collapsed, to_pprof, to_speedscope
from tests.peers import peer

pytestmark = pytest.mark.once

RUN = Frame("run", "server.py", 10, 12)
GET = Frame("get", "strings.py", 100, 107)
SEND = Frame("send; all")
PROFILE = Profile(
    units=(("samples", "count"), ("cpu", "nanoseconds")),
    samples=[
        Sample((RUN, GET), (3, 30_000_000), {"command": "GET"}),
        Sample((RUN, SEND), (300, 3_000_000_000), {"command": "GET"}),
        Sample((RUN,), (1, 10_000_000), {"command": "gc"}),
    ],
    period_unit=("cpu", "nanoseconds"),
    period=10_000_000,
    started_ns=1_700_000_000_000_000_000,
    elapsed_ns=4_000_000_000,
    comments=["a server"],
)


def test_what_is_written_for_pprof_is_read_back() -> None:
    assert from_pprof(to_pprof(PROFILE)) == PROFILE


def test_pprof_names_what_has_most_and_for_whom(tmp_path: Path) -> None:
    file = tmp_path / "cpu.pb.gz"
    file.write_bytes(to_pprof(PROFILE))
    top = subprocess.run([peer("go"), "tool", "pprof", "-top", file], capture_output=True, text=True, check=True).stdout
    lines = top.splitlines()
    assert lines[lines.index(next(line for line in lines if "flat%" in line)) + 1].endswith("send; all")
    tags = subprocess.run([peer("go"), "tool", "pprof", "-tags", file], capture_output=True, text=True, check=True)
    assert "command: Total 3.0s" in tags.stdout


def test_collapsed_stacks_keep_their_lines_and_their_separators() -> None:
    assert to_collapsed(PROFILE) == "run;get 30000000\nrun;send_ all 3000000000\nrun 10000000\n"


def test_speedscope_has_each_unit_and_each_frame_once() -> None:
    told = json.loads(to_speedscope(PROFILE, "cpu"))
    assert [frame["name"] for frame in told["shared"]["frames"]] == ["run", "get", "send; all"]
    assert told["profiles"][1]["samples"] == [[0, 1], [0, 2], [0]]
    assert told["profiles"][1]["weights"] == [30_000_000, 3_000_000_000, 10_000_000]
    assert [one["endValue"] for one in told["profiles"]] == [304, 3_040_000_000]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        to_pprof(PROFILE)[:-20],
        gzip.compress(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        gzip.compress(b"\x12\x02\x0a\x7f"),
        gzip.compress(b"\x13"),
        gzip.compress(b"\x12\x04\x0a\x02\x05\x05"),
    ],
)
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    with pytest.raises(BadProfile):
        from_pprof(data)


def test_samples_are_counted_by_label_stack_operation_and_address() -> None:
    samples = CpuSamples()
    samples.add("GET", 0, "GET", 17, 1)
    samples.add("GET", 0, "GET", 17, 2)
    samples.add("SET", 0, "", 17, 1)
    assert samples.to_plain()["samples"] == [["GET", 0, "GET", 17, 3], ["SET", 0, "", 17, 1]]


def test_however_many_addresses_there_are_counts_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora.observe.cpu_samples.ROWS_MAX", 10)
    samples = CpuSamples()
    for number in range(100):
        samples.add(f"C{number % 20}", number % 50, "", number, 1)
    rows = samples.to_plain()["samples"]
    assert len(rows) <= 40
    assert sum(row[-1] for row in rows) == 100
