"""Health, check by check: what makes each of them degraded or unhealthy."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kora.engine import info, snapshot
from kora.engine.engine import Engine
from kora.engine.snapshot import Snapshot
from kora.observe.board import BUSY, DRAINING, HEARTBEAT, LOADING, READY, STATE, Board
from kora.sidecar.audit import AuditState
from kora.sidecar.checks import CHECKS, Check, Disk, cgroup_limit, look, overall, to_json, try_disk
from kora.sidecar.health import Health, examine

GB = 1 << 30
DISK = Disk(100 * GB, "")


def health(late_ms: float = 0, state: int = READY) -> Health:
    board = Board()
    board.words[STATE] = state
    board.words[HEARTBEAT] = time.monotonic_ns() - 50_000_000 - int(late_ms * 1e6)
    return examine(board, 1000)


@pytest.fixture
def taken(engine: Engine) -> Snapshot:
    return replace(snapshot.take(engine), clients=10, clients_max=100, rss_bytes=GB, maxmemory=0)


def found(name: str, shown: list[Check]) -> str:
    return next(check.status for check in shown if check.name == name)


def test_all_is_well(taken: Snapshot) -> None:
    audit = AuditState(fault="", blocks=False, is_full=False, is_held=False, dropped_lately=0, is_valid=True)
    shown = look(health(), taken, 10_000_000, 4 * GB, DISK, audit)
    # All but that of what is under the keys, where there is nothing.
    assert [check.name for check in shown] == [name for name in CHECKS if name != "storage"]
    assert overall(shown) == "ok", shown
    values = to_json(shown)
    assert values["health"] == "ok"
    assert all(set(check) == {"status", "reason", "rule"} for check in values["checks"].values())


@pytest.mark.parametrize(("late_ms", "expected"), [(100, "ok"), (400, "degraded"), (1500, "unhealthy")])
def test_a_late_heartbeat(taken: Snapshot, late_ms: int, expected: str) -> None:
    assert found("loop", look(health(late_ms), taken, 0, None, None)) == expected


@pytest.mark.parametrize(
    ("state", "expected"), [(READY, "ok"), (BUSY, "degraded"), (LOADING, "unhealthy"), (DRAINING, "unhealthy")]
)
def test_what_it_is_doing(state: int, expected: str) -> None:
    assert found("state", look(health(state=state), None, 0, None, None)) == expected


@pytest.mark.parametrize(("age_s", "expected"), [(None, "degraded"), (1, "ok"), (6, "degraded"), (31, "unhealthy")])
def test_old_numbers(taken: Snapshot, age_s: int | None, expected: str) -> None:
    age_ns = None if age_s is None else age_s * 1_000_000_000
    assert found("numbers", look(health(), taken, age_ns, None, None)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"maxmemory": 0}, "ok"),
        ({"maxmemory": 2000}, "ok"),
        ({"maxmemory": 1100}, "degraded"),
        ({"maxmemory": 1000}, "unhealthy"),
        ({"maxmemory": 1000, "maxmemory_policy": "allkeys-lru"}, "ok"),
    ],
)
def test_data_near_maxmemory(taken: Snapshot, changes: dict[str, Any], expected: str) -> None:
    for shard in taken.shards:
        shard["memory_bytes"] = 1000 // len(taken.shards)
    assert found("memory", look(health(), replace(taken, **changes), 0, None, None)) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(2 * GB, "ok"), (int(1.08 * GB), "degraded"), (int(1.01 * GB), "unhealthy")]
)
def test_a_process_near_the_limit_of_its_control_group(taken: Snapshot, limit: int, expected: str) -> None:
    assert found("cgroup", look(health(), taken, 0, limit, None)) == expected


@pytest.mark.parametrize(("clients", "expected"), [(89, "ok"), (90, "degraded"), (100, "unhealthy")])
def test_clients_near_maxclients(taken: Snapshot, clients: int, expected: str) -> None:
    assert found("clients", look(health(), replace(taken, clients=clients), 0, None, None)) == expected


@pytest.mark.parametrize(
    ("disk", "expected"),
    [
        (DISK, "ok"),
        (Disk(80 << 20, ""), "degraded"),
        (Disk(63 << 20, ""), "unhealthy"),
        (Disk(100 * GB, "Input/output error"), "unhealthy"),
    ],
)
def test_a_disk_that_is_full_or_fails(taken: Snapshot, disk: Disk, expected: str) -> None:
    taken.shards[0]["memory_bytes"] = 1 << 30
    assert found("disk", look(health(), taken, 0, None, disk)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "ok"),
        ({"rdb_last_bgsave_status": "err"}, "degraded"),
        ({"aof_last_bgrewrite_status": "err"}, "degraded"),
        ({"aof_last_write_status": "err", "rdb_last_bgsave_status": "ok"}, "unhealthy"),
    ],
)
def test_files_that_could_not_be_written(
    taken: Snapshot, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(info, "fields", lambda _: fields)
    assert found("persistence", look(health(), taken, 0, None, None)) == expected


def test_the_disk_is_tried_with_a_real_write(tmp_path: Path) -> None:
    found = try_disk(str(tmp_path))
    assert found.free_bytes > 0 and found.error == ""
    assert list(tmp_path.iterdir()) == []
    assert try_disk(str(tmp_path / "missing")).error == "No such file or directory"
    assert try_disk("/proc").error


def test_the_lowest_limit_of_nested_control_groups_counts(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/pods/kora\n")
    group = tmp_path / "fs" / "pods" / "kora"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("1000000\n")
    assert cgroup_limit(str(own), str(tmp_path / "fs")) == 1_000_000
    (group / "memory.max").write_text("500000\n")
    assert cgroup_limit(str(own), str(tmp_path / "fs")) == 500_000
    assert cgroup_limit(str(tmp_path / "missing"), str(tmp_path / "fs")) is None
