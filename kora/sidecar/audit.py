"""The writer of the audit log: takes records out of the ring (kora.audit.ring), and appends them to the file as lines.

It has a thread of its own, since a disk may take long.  A record leaves the ring once it is in the file (and with
`audit-fsync always`, on the disk): a sidecar that is killed has lost none, and the next goes on behind the last record
that is whole.  Where the file cannot be written to, all waits in the ring, and it is tried again and again.

What is no record of the data process has no `number`:

    opened    a data process has begun to keep the log
    resumed   the sidecar was started again; a record of which only `torn_bytes` were there was cut off, and follows
    gap       records are missing, `missing` of them, or null where nobody knows: the log was not closed in order
    removed   retention has removed records up to `last`
    closed    the server was stopped; or `cut off`: it has ended without a word, and `missing` records with it
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from kora.audit import ring
from kora.audit.chain import ZEROS, Chain, Line, Report, body, members, read_line, seconds, utc, verify
from kora.audit.files import log_files, rotated_files, rotated_name, tail
from kora.audit.ring import EVENT, GAP, Ring
from kora.config import AUDIT_CATEGORIES
from kora.log import logger

log = logger("kora.audit")

_BATCH_BYTES: Final = 1 << 17
_IDLE_S: Final = 0.02
_RETRY_MIN_S: Final = 0.1
_RETRY_MAX_S: Final = 2.0
_SYNC_S: Final = 1.0
_LATELY_S: Final = 60.0
_RETENTION_S: Final = 60.0
# How long one who asks waits for what was recorded before.
_SETTLE_S: Final = 2.0
# How long the end of the data process may be waited for where nothing can be written.
_LAST_TRIES_S: Final = 2.0
# Lines that are looked at to find where the log has come to.
_LOOK_BACK: Final = 1000
_MODE: Final = 0o600
_ORDERLY: Final = ("closed", "cut off")


@dataclass(frozen=True)
class AuditState:
    fault: str  # what keeps the log from being written; "" for nothing
    blocks: bool  # audit-on-full
    is_full: bool
    is_held: bool  # clients wait
    dropped_lately: int
    is_valid: bool


class AuditLog:
    """One log, of one data process."""

    def __init__(self, queue: Ring, settings: Callable[[], dict[str, Any]], version: str = "") -> None:
        """`settings` gives what Settings.audit has."""
        # For life.
        self.queue = queue
        self._settings = settings
        self._version = version
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._lock = threading.Lock()  # of all below, but for the counters
        self._wake = threading.Event()
        self._stopping = False
        # The file.
        self.path = ""
        self._fd = self._lock_fd = -1
        self.size_bytes = 0
        self._first = 0  # number of its first record
        self._began_s = 0.0
        # Where the log has come to.
        self.chain = Chain()
        self._number = 0  # of the last record of this data process
        # What is due.
        self._dirty = False
        self._synced_at = self._looked_at = 0.0
        self._retry_s = _RETRY_MIN_S
        # What is counted.
        self.records: Counter[tuple[str, str]] = Counter()  # by category, and "ok" or "error"
        self.bytes = 0
        self.gaps = 0
        self.lost = 0  # records that gaps tell of
        self.write_errors = 0
        self.fsync_errors = 0
        self.rotations = 0
        self.fault = ""  # what keeps it from writing
        self.is_valid = True  # as far as was looked last
        # Of the records that were dropped, how many there were when state() was asked last, when these were new, and
        # how many there were before.
        self._dropped_seen = self._dropped_before = queue.words[ring.DROPPED]
        self._dropped_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The data process has gone: write what there is, and close the log.  Takes as long as that does."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    # Whoever asks

    def status(self) -> dict[str, Any]:
        words = self.queue.words
        return {
            "file": self.path or self._settings().get("file", ""),
            "size_bytes": self.size_bytes,
            "last": self.chain.sequence,
            "last_hash": self.chain.hash,
            "records": sum(self.records.values()),
            "queue_bytes": self.queue.used_bytes,
            "queue_records": max(0, words[ring.NUMBER] - self._number),
            "dropped": words[ring.DROPPED],
            "gaps": self.gaps,
            "write_errors": self.write_errors,
            "fsync_errors": self.fsync_errors,
            "rotations": self.rotations,
            "fault": self.fault,
        }

    def state(self) -> "AuditState":
        """For health, which asks every few seconds."""
        words = self.queue.words
        now, dropped = time.monotonic(), words[ring.DROPPED]
        if dropped != self._dropped_seen:
            self._dropped_before = self._dropped_seen if now - self._dropped_at > _LATELY_S else self._dropped_before
            self._dropped_seen, self._dropped_at = dropped, now
        elif now - self._dropped_at > _LATELY_S:
            self._dropped_before = dropped
        is_held = words[ring.BLOCKED_SINCE] > 0
        return AuditState(
            fault=self.fault,
            blocks=self._settings().get("on_full") == "block",
            is_full=is_held or words[ring.GAP_COUNT] > 0,
            is_held=is_held,
            dropped_lately=dropped - self._dropped_before,
            is_valid=self.is_valid,
        )

    def tail(self, count: int) -> list[bytes]:
        """The last records, the oldest first.  Raises OSError."""
        self._settle()
        return tail(log_files(self.path or self._settings()["file"]), count) if count else []

    def verify(self) -> Report:
        """Look at all there is, while more is written behind it.  Raises OSError."""
        self._settle()
        with self._lock:
            path, size = self.path or self._settings()["file"], self.size_bytes
            rotated, expected = rotated_files(path), Chain(self.chain.sequence, self.chain.hash)
            current = open(path, "rb") if os.path.exists(path) else None  # noqa: SIM115 (_lines() closes it)
            is_open = self._fd >= 0
        report = verify(_lines(rotated, path, current, size), expected if is_open else None)
        self.is_valid = not report.fault
        if report.fault:
            log.error("audit log was tampered with, or damaged", record=report.broken, reason=report.fault)
        return report

    def answer(self, what: str, count: int) -> Any:
        """For AUDIT: what is asked for by its name."""
        try:
            if what == "tail":
                return self.tail(count)
            return self.verify().to_json() if what == "verify" else self.status()
        except OSError as error:
            return {"error": f"{error.filename or self.path}: {error.strerror or error}"}

    def _settle(self) -> None:
        """Wait until what was recorded by now is in the file, or cannot be."""
        target = self.queue.words[ring.WRITTEN]
        stop = time.monotonic() + _SETTLE_S
        self._wake.set()
        while self.queue.words[ring.READ] < target and not self.fault and time.monotonic() < stop:
            time.sleep(0.002)

    # The thread

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                pause_s = self._try(self._step)
            if pause_s:
                self._wake.wait(pause_s)
                self._wake.clear()
        stop = time.monotonic() + _LAST_TRIES_S
        while True:
            with self._lock:
                self._try(self._end)
            if not self.fault:
                return
            if time.monotonic() > stop:
                log.error("audit log ends without its last records", missing=self._missing(), reason=self.fault)
                return
            time.sleep(_RETRY_MIN_S)

    def _try(self, function: Callable[[], float]) -> float:
        """Returns for how long there is nothing to do."""
        try:
            pause_s = function()
        except OSError as error:
            self._failed(error)
        except Exception as error:
            # Whatever it is: records wait meanwhile, and everybody is told.
            log.error("internal error", exc_info=error)
            self._failed(OSError(errno.EIO, "an internal error, which the log of the sidecar has"))
        else:
            self._went_well()
            return pause_s
        pause_s = self._retry_s
        self._retry_s = min(_RETRY_MAX_S, 2 * self._retry_s)
        return pause_s

    def _went_well(self) -> None:
        if self.fault:
            log.info("audit log is written again", path=self.path)
            self.fault = ""
        # Which a sidecar before this one may have left.
        self.queue.words[ring.FAULT] = 0
        self._retry_s = _RETRY_MIN_S

    def _failed(self, error: OSError) -> None:
        self.write_errors += 1
        is_locked = error.errno == errno.EWOULDBLOCK and self._lock_fd < 0
        fault = "another process writes it" if is_locked else error.strerror or str(error)
        if fault != self.fault:
            # While the last server's sidecar ends, it has the log for a moment.
            level = log.warning if is_locked else log.error
            level("audit log cannot be written", path=self._settings().get("file", ""), reason=fault,
                  on_full=self._settings().get("on_full", ""))  # fmt: skip
        self.fault = fault
        self.queue.words[ring.FAULT] = error.errno or errno.EIO

    def _step(self) -> float:
        if self._fd < 0:
            self._open()
        has_more = self._write_batch()
        now = time.monotonic()
        settings = self._settings()
        if self._dirty and settings["fsync"] != "no" and now - self._synced_at >= _SYNC_S:
            self._sync()
        if self._is_full(settings):
            self._rotate()
        if now - self._looked_at >= _RETENTION_S:
            self._looked_at = now
            self._remove_old(settings)
        return 0.0 if has_more else _IDLE_S

    def _end(self) -> float:
        if self._fd < 0:
            self._open()
        while self._write_batch():
            pass
        words = self.queue.words
        chain, lines = self._copy_of_chain(), []
        if words[ring.GAP_COUNT] and words[ring.GAP_FIRST] == self._number + 1:
            count, first = words[ring.GAP_COUNT], words[ring.GAP_FIRST]
            gap = ring.Record(GAP, 0, 0, first + count - 1, _now_ms(), values=(count, words[ring.GAP_SINCE], first))
            lines.append(chain.line(body(gap, self.queue.run)))
            self._count_gap(count)
            self._number = gap.number
        values: dict[str, Any] = {"event": "closed", "run": self.queue.run}
        missing = self._missing()
        if not words[ring.CLOSED] or missing:
            values |= {"event": "cut off", "missing": missing, "last": chain.sequence}
            self._count_gap(missing)
        lines.append(_own(chain, values))
        self._append(lines, chain)
        self._sync()
        self._close()
        return 0.0

    def _missing(self) -> int:
        """Records that were numbered, and never came."""
        return max(0, self.queue.words[ring.NUMBER] - self._number)

    # Opening

    def _open(self) -> None:
        path: str = self._settings()["file"]
        if self._lock_fd < 0:
            lock_fd = os.open(f"{path}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock_fd)
                raise
            self._lock_fd = lock_fd
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        try:
            torn_bytes = _cut_torn(fd)
            chain, number, events = self._resume(path, torn_bytes)
            lines = [_own(chain, values) for values in events]
            size = os.fstat(fd).st_size
            first = _first_record(fd)
        except BaseException:
            os.close(fd)
            raise
        self.path, self._fd, self.size_bytes, self._number = path, fd, size, number
        self._first, self._began_s = first or (chain.sequence + 1 - len(lines), time.time())
        try:
            self._append(lines, chain)
        except OSError:
            os.close(fd)
            self._fd = -1
            raise
        log.debug("audit log opened", path=path, last=self.chain.sequence, torn_bytes=torn_bytes)

    def _resume(self, path: str, torn_bytes: int) -> tuple[Chain, int, list[dict[str, Any]]]:
        """Where the log has come to, and what is to be said of how it ended."""
        run = self.queue.run
        found = [read_line(data + b"\n") for data in tail(log_files(path), _LOOK_BACK)]
        whole = [record for record in found if record is not None]
        opened = {"event": "opened", "run": run, "version": self._version}
        if not found:
            return Chain(), 0, [opened]
        last: dict[str, Any] = whole[-1] if whole else {"seq": 0, "hash": ZEROS}
        damaged = next((count for count, record in enumerate(reversed(found)) if record is not None), len(found))
        if damaged:
            self.is_valid = False
            log.error("audit log is damaged at its end", path=path, records=damaged)
        chain = Chain(last["seq"] + damaged, last["hash"])
        own = [record for record in whole if record.get("run") == run]
        if own:
            number = next((record["number"] for record in reversed(own) if "number" in record), 0)
            return chain, number, [{"event": "resumed", "run": run, "torn_bytes": torn_bytes}]
        events: list[dict[str, Any]] = []
        if damaged or torn_bytes or last.get("event") not in _ORDERLY:
            self._count_gap(0)
            reason = "the log was not closed in order"
            events.append({
                "event": "gap", "reason": reason, "missing": None, "last": last["seq"], "torn_bytes": torn_bytes,
                "damaged": damaged,
            })  # fmt: skip
        return chain, 0, [*events, opened]

    # Writing

    def _write_batch(self) -> bool:
        """Write some of what waits; returns whether there may be more."""
        data = self.queue.peek(_BATCH_BYTES)
        if not data:
            return False
        chain, lines, number = self._copy_of_chain(), [], self._number
        counted: Counter[tuple[str, str]] = Counter()
        run = self.queue.run
        gaps = []
        for record in ring.records(data):
            if record.number <= number:
                continue  # a sidecar before this one has written it
            first = record.values[2] if record.kind == GAP else record.number
            if first > number + 1:
                gaps.append(first - number - 1)
                lines.append(_own(chain, {"event": "gap", "reason": "lost", "run": run, "missing": gaps[-1]}))
            if record.kind == GAP:
                gaps.append(record.values[0])
            else:
                outcome = "error" if record.outcome or (record.kind == EVENT and "reason" in record.values) else "ok"
                counted[AUDIT_CATEGORIES[record.category - 1], outcome] += 1
            lines.append(chain.line(body(record, run)))
            number = record.number
        self._append(lines, chain)
        self._number = number
        self.records.update(counted)
        for missing in gaps:
            self._count_gap(missing)
        self.queue.consume(len(data))
        return True

    def _append(self, lines: list[bytes], chain: Chain) -> None:
        """All of the lines or, raising OSError, none; `chain` is what they make of it."""
        data = b"".join(lines)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            if lines and self._settings()["fsync"] == "always":
                self._sync()
        except OSError:
            # What is there of them would be written again.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size_bytes)
            raise
        self.chain = chain
        self.size_bytes += len(data)
        self.bytes += len(data)
        self._dirty |= bool(data)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError:
            self.fsync_errors += 1
            raise
        self._dirty = False
        self._synced_at = time.monotonic()

    def _copy_of_chain(self) -> Chain:
        return Chain(self.chain.sequence, self.chain.hash)

    def _count_gap(self, missing: int) -> None:
        self.gaps += 1
        self.lost += missing

    # Files

    def _is_full(self, settings: dict[str, Any]) -> bool:
        if not self.size_bytes:
            return False
        is_old: bool = 0 < settings["rotate_seconds"] <= time.time() - self._began_s
        is_large: bool = 0 < settings["rotate_size"] <= self.size_bytes
        return is_old or is_large

    def _rotate(self) -> None:
        if self._settings()["fsync"] != "no":
            self._sync()
        os.rename(self.path, rotated_name(self.path, self._first))
        self.rotations += 1
        os.close(self._fd)
        self._fd = -1
        # Should this fail, it is tried as at the start, which finds nothing to say but that.
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, _MODE)
        self.size_bytes, self._first, self._began_s = 0, self.chain.sequence + 1, time.time()
        with contextlib.suppress(OSError):
            _sync_folder(self.path)
        self._looked_at = 0.0

    def _remove_old(self, settings: dict[str, Any]) -> None:
        """Remove files by retention; what they were is recorded before they go."""
        size_max, days = settings["retention_size"], settings["retention_days"]
        rotated = rotated_files(self.path) if size_max or days else []
        sizes = {path: os.stat(path) for path in rotated}
        total_bytes = sum(found.st_size for found in sizes.values())
        for path in rotated:
            is_old = days and time.time() - sizes[path].st_mtime > days * 86_400
            if not is_old and not 0 < size_max < total_bytes:
                break
            last = tail([path], 1)
            record = read_line(last[0] + b"\n") if last else None
            if record is None:
                log.error("damaged audit file is not removed", path=path)
                break
            chain = self._copy_of_chain()
            values = {"file": os.path.basename(path), "last": record["seq"], "last_hash": record["hash"]}
            self._append([_own(chain, {"event": "removed", **values})], chain)
            self._sync()
            os.unlink(path)
            total_bytes -= sizes[path].st_size
            log.debug("audit file removed", path=path, last=record["seq"])

    def _close(self) -> None:
        os.close(self._fd)
        os.close(self._lock_fd)
        self._fd = self._lock_fd = -1


def _own(chain: Chain, values: dict[str, Any]) -> bytes:
    """A record of what the log itself has to say."""
    return chain.line(f'"time":"{utc(_now_ms())}",{members(values)}')


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _cut_torn(fd: int) -> int:
    """Cut off a last line that is not whole, as a process that was killed leaves it; returns its bytes."""
    size = at = os.fstat(fd).st_size
    while at > 0:
        start = max(0, at - (1 << 16))
        place = os.pread(fd, at - start, start).rfind(b"\n")
        if place >= 0:
            at = start + place + 1
            break
        at = start
    if at < size:
        os.ftruncate(fd, at)
    return size - at


def _first_record(fd: int) -> tuple[int, float] | None:
    """The number of a file's first record, and when it was written; None of a new file."""
    line = os.pread(fd, 1 << 16, 0).partition(b"\n")[0]
    record = read_line(line + b"\n")
    return (record["seq"], seconds(record["time"])) if record is not None else None


def _sync_folder(path: str) -> None:
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lines(rotated: list[str], path: str, current: Any, size: int) -> Iterator[Line]:
    """Of the files that are full, and of the one that is written to what there was of it."""
    for name in rotated:
        with open(name, "rb") as file:
            for number, data in enumerate(file, 1):
                yield Line(name, number, data)
    if current is None:
        return
    with current:
        for number, data in enumerate(current, 1):
            if size <= 0:
                return
            size -= len(data)
            yield Line(path, number, data)
