"""How the server is, check by check: ok, degraded (it serves, and somebody should look), or unhealthy.

Whoever asks never waits for it: the loop is judged by the activity board, the rest by the last numbers that came, and
the disk by a write that was tried in the background.  What makes a check what it is, is said in CHECKS, which is shown
with the reasons; whether it is live or ready (kora.sidecar.health) depends on the loop and its state alone.
"""

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Final

from kora.engine import info
from kora.engine.snapshot import Snapshot
from kora.observe.storage import Storage
from kora.sidecar.audit import AuditState
from kora.sidecar.health import OK, Health

DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"
_ORDER: Final = (OK, DEGRADED, UNHEALTHY)

# Parts of a limit, seconds, and bytes from which on it is so.
NEARLY: Final = 0.9
CGROUP_FULL: Final = 0.97
OLD_S: Final = 5.0
VERY_OLD_S: Final = 30.0
DISK_FREE_MIN: Final = 64 << 20
_PROBE_BYTES: Final = 4096

CHECKS: Final = {
    "loop": "degraded once the heartbeat is late by a quarter of loop-stall-ms, unhealthy at all of it",
    "state": "degraded while a script runs for long, unhealthy while loading or shutting down",
    "numbers": "degraded where the data process has given no numbers for 5 s, unhealthy after 30 s",
    "memory": "with a maxmemory-policy of noeviction: degraded from 90 % of maxmemory on, unhealthy at all of it",
    "cgroup": "degraded from 90 % of the control group's memory limit on, unhealthy from 97 % on",
    "clients": "degraded from 90 % of maxclients on, unhealthy at all of them",
    "disk": "degraded where less is free than the data takes, unhealthy below 64 MB or where a write fails",
    "audit": "degraded where records were dropped in the last minute, clients wait, or a record was found changed; "
    "unhealthy where the audit log cannot be written",
    "persistence": "degraded where the last snapshot or rewrite failed, unhealthy where the journal cannot be written",
    "storage": "with RocksDB: degraded where it cannot write right now, or a file could not be opened or read since "
    "start; unhealthy where what has changed cannot be written, or a flush or compaction failed",
}


@dataclass(frozen=True)
class Check:
    name: str
    status: str
    reason: str


@dataclass(frozen=True)
class Disk:
    """What a try found."""

    free_bytes: int
    error: str  # "" where the write went well


def overall(checks: list[Check]) -> str:
    return max((check.status for check in checks), key=_ORDER.index, default=OK)


def to_json(checks: list[Check]) -> dict[str, Any]:
    return {
        "health": overall(checks),
        "checks": {
            check.name: {"status": check.status, "reason": check.reason, "rule": CHECKS[check.name]} for check in checks
        },
    }


def look(
    health: Health,
    snapshot: Snapshot | None,
    age_ns: int | None,
    cgroup_limit: int | None,
    disk: Disk | None,
    audit: AuditState | None = None,
) -> list[Check]:
    found = [_loop(health), _state(health), _numbers(age_ns)]
    if audit is not None:
        found.append(_audit(audit))
    if snapshot is not None:
        found += [_memory(snapshot), _clients(snapshot), _persistence(snapshot)]
        if cgroup_limit is not None:
            found.append(_cgroup(snapshot, cgroup_limit))
        if disk is not None:
            found.append(_disk(snapshot, disk))
        if snapshot.stored is not None:
            found.append(_storage(snapshot.stored, snapshot.journal))
    return sorted(found, key=lambda check: list(CHECKS).index(check.name))


def _loop(health: Health) -> Check:
    late_ms = health.stuck_ns / 1e6
    status = UNHEALTHY if health.stuck else DEGRADED if late_ms > health.stall_ms / 4 else OK
    return Check("loop", status, f"the heartbeat is {late_ms:.0f} ms late")


def _state(health: Health) -> Check:
    state = health.activity.state
    return Check("state", {"ready": OK, "busy": DEGRADED}.get(state, UNHEALTHY), state)


def _numbers(age_ns: int | None) -> Check:
    if age_ns is None:
        return Check("numbers", DEGRADED, "the data process has given none yet")
    age_s = age_ns / 1e9
    return Check("numbers", _by(age_s, OLD_S, VERY_OLD_S), f"the last are {age_s:.1f} s old")


def _memory(snapshot: Snapshot) -> Check:
    used, limit = snapshot.memory_bytes, snapshot.maxmemory
    if not limit:
        return Check("memory", OK, f"{used} bytes, without a limit")
    status = _by(used / limit, NEARLY, 1.0) if snapshot.maxmemory_policy == "noeviction" else OK
    return Check("memory", status, f"{used} of {limit} bytes, {snapshot.maxmemory_policy}")


def _cgroup(snapshot: Snapshot, limit: int) -> Check:
    used = snapshot.rss_bytes
    return Check("cgroup", _by(used / limit, NEARLY, CGROUP_FULL), f"{used} of {limit} bytes")


def _clients(snapshot: Snapshot) -> Check:
    share = snapshot.clients / snapshot.clients_max
    return Check("clients", _by(share, NEARLY, 1.0), f"{snapshot.clients} of {snapshot.clients_max}")


def _disk(snapshot: Snapshot, disk: Disk) -> Check:
    reason = f"{disk.free_bytes} bytes are free" + (f"; a write failed: {disk.error}" if disk.error else "")
    if disk.error or disk.free_bytes < DISK_FREE_MIN:
        return Check("disk", UNHEALTHY, reason)
    return Check("disk", DEGRADED if disk.free_bytes < snapshot.memory_bytes else OK, reason)


def _audit(audit: AuditState) -> Check:
    if audit.fault:
        then = "clients that want what is recorded wait" if audit.blocks else "records are dropped"
        full = f"{then}, since the queue is full" if audit.is_full else f"once the queue is full, {then}"
        return Check("audit", UNHEALTHY, f"the audit log cannot be written: {audit.fault}; {full}")
    if audit.is_held:
        return Check("audit", DEGRADED, "more is recorded than can be written: clients wait")
    if audit.dropped_lately:
        return Check("audit", DEGRADED, f"{audit.dropped_lately} records were dropped in the last minute")
    if not audit.is_valid:
        return Check("audit", DEGRADED, "a record was found that is not as it was written; AUDIT VERIFY names it")
    return Check("audit", OK, "all is written")


def _persistence(snapshot: Snapshot) -> Check:
    fields = info.fields(snapshot)
    failed = [name for name in _STATUSES if fields.get(name, "ok") != "ok"]
    if not failed:
        return Check("persistence", OK, "nothing has failed")
    status = UNHEALTHY if "aof_last_write_status" in failed else DEGRADED
    return Check("persistence", status, "failed: " + ", ".join(failed))


def _storage(storage: Storage, journal: dict[str, int]) -> Check:
    tickers, properties = storage.reading.tickers, storage.reading.properties
    faults = {
        "changes cannot be written": not journal.get("last_write_status", 1),
        "a flush or compaction failed": properties.get("background-errors", 0) > 0,
    }
    complaints = {
        "writes are stopped": properties.get("is-write-stopped", 0) > 0,
        "files could not be opened": tickers.get("no.file.errors", 0) > 0,
        "blocks were corrupt": any(tickers.get(name, 0) for name in _CORRUPTIONS),
    }
    status = UNHEALTHY if any(faults.values()) else DEGRADED if any(complaints.values()) else OK
    told = [name for name, is_so in {**faults, **complaints}.items() if is_so]
    return Check("storage", status, ", ".join(told) or "nothing has failed")


_CORRUPTIONS: Final = ("block.checksum.mismatch.count", "footer.corruption.count")
_STATUSES: Final = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")


def _by(value: float, degraded: float, unhealthy: float) -> str:
    return UNHEALTHY if value >= unhealthy else DEGRADED if value >= degraded else OK


def try_disk(folder: str) -> Disk:
    """Write a little, wait until it is on the disk, and take it away again.  May take long: not for the event loop."""
    path = os.path.join(folder, f".kora-health-{os.getpid()}")
    free_bytes = 0
    try:
        found = os.statvfs(folder)
        free_bytes = found.f_bavail * found.f_frsize
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, bytes(_PROBE_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return Disk(free_bytes, error.strerror or str(error))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return Disk(free_bytes, "")


def cgroup_limit(own: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int | None:
    """The lowest memory limit of this process' control group and of those above it (version 2); None without one."""
    limits = []
    with contextlib.suppress(OSError, ValueError, StopIteration), open(own, encoding="ascii") as file:
        group = next(line.strip().split("::", 1)[1] for line in file if line.startswith("0::"))
        while True:
            path = f"{root}{group.rstrip('/')}/memory.max"
            with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as limit:
                limits.append(int(limit.read()))  # "max" is no number
            if group in ("", "/"):
                break
            group = os.path.dirname(group)
    return min(limits, default=None)
