"""Examining a journal, and a repaired copy of it: what `kora check` does with append-only files.

A journal is good up to the last whole command, or transaction, before the first fault: behind a fault nobody can tell
where the next command begins, and commands must not be done without those before them.  So the repaired copy ends
there, and of its files those behind that one are left out.  The original is only read.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from .files import Files
from .journal_files import (
    SNAPSHOT_MAGIC,
    BadManifest,
    Content,
    Damaged,
    JournalFile,
    Manifest,
    Torn,
    end_of_text,
    manifest_path,
    prefix_of,
    read_records,
)
from .loading import CannotLoad

Say = Callable[[str], None]
# Examines the snapshot that a file begins with, and returns the offset behind it; raises CannotLoad.
CheckSnapshot = Callable[[str, BinaryIO], int]

_SUFFIX = ".fixed"
_COPY_BYTES = 1 << 20


class CannotFix(Exception):
    """There is no repaired copy; the text says why."""


@dataclass
class Findings:
    """Of one file."""

    path: str
    size_bytes: int = 0
    good_bytes: int = 0
    commands: int = 0  # in what is good
    has_snapshot: bool = False
    fault: str = ""  # what is wrong behind good_bytes
    is_torn: bool = False  # it only ends too early, as after a crash
    is_beyond_repair: bool = False

    def __str__(self) -> str:
        parts = [f"{self.commands} commands"]
        if self.has_snapshot:
            parts.insert(0, "a snapshot")
        text = f"{self.path}: {', '.join(parts)}, {self.good_bytes} of {self.size_bytes} bytes are good"
        return f"{text}; {self.fault}" if self.fault else text


def is_journal(path: str) -> bool:
    """Whether this is the manifest, the directory, or a file of a journal; a lone snapshot is none."""
    if os.path.isdir(path) or path.endswith((".manifest", ".aof")):
        return True
    with open(path, "rb") as file:
        return file.read(1) in (b"*", b"#")


def check_journal(path: str, *, fix: bool, say: Say, check_snapshot: CheckSnapshot, files: Files | None = None) -> int:
    """Examine a journal, all of it or one file, and say what is found; returns the exit code.

    With `fix` a copy without what is wrong is made beside it, whose name has .fixed at its end.  Raises OSError.
    """
    files = files or Files()
    try:
        if os.path.isdir(path):
            path = _manifest_in(path)
        if path.endswith(".manifest"):
            return _check_all(path, fix, say, check_snapshot, files)
        findings = examine(path, check_snapshot)
        say(str(findings))
        _advise(findings, is_last=True, say=say)
        if findings.fault and fix:
            _copy_good(findings, path + _SUFFIX, files)
            say(f"written: {path}{_SUFFIX}, without the last {findings.size_bytes - findings.good_bytes} bytes")
            return 0
        return 1 if findings.fault else 0
    except (BadManifest, CannotFix) as error:
        say(f"{path}: {error}")
        return 1


def examine(path: str, check_snapshot: CheckSnapshot) -> Findings:
    """Look through one file; raises OSError."""
    findings = Findings(path)
    with open(path, "rb") as file:
        findings.size_bytes = os.fstat(file.fileno()).st_size
        if file.read(len(SNAPSHOT_MAGIC)) == SNAPSHOT_MAGIC:
            file.seek(0)
            findings.has_snapshot = True
            try:
                findings.good_bytes = check_snapshot(path, file)
            except CannotLoad as error:
                findings.fault = f"its snapshot is damaged: at byte {error.offset}: {error.reason}"
                findings.is_beyond_repair = True
                return findings
        with _mapped(file, findings.size_bytes) as content:
            stop = end_of_text(content, findings.good_bytes)
        try:
            with _mapped(file, stop) as content:
                _examine_commands(content, findings)
        except (Damaged, Torn) as error:
            findings.fault = str(error)
            findings.is_torn = isinstance(error, Torn)
        else:
            if stop < findings.size_bytes:
                findings.fault = f"ends in {findings.size_bytes - stop} zeros"
                findings.is_torn = True
    return findings


def _examine_commands(content: Content, findings: Findings) -> None:
    """Move `good_bytes` to the end, or to the last place between two commands and outside of transactions."""
    begun: int | None = None  # where a transaction did
    pending = 0
    for record in read_records(content, findings.good_bytes):
        if record.argv:
            pending += 1
            name = record.argv[0].upper()
            if name == b"MULTI":
                if begun is not None:
                    raise Damaged(record.start, "EXEC, as a transaction is open", b"MULTI")
                begun = record.start
            elif name == b"EXEC":
                if begun is None:
                    raise Damaged(record.start, "a command outside of transactions", b"EXEC")
                begun = None
        if begun is None:
            findings.good_bytes = record.stop
            findings.commands += pending
            pending = 0
    if begun is not None:
        raise Torn(begun, len(content))


def _advise(findings: Findings, is_last: bool, say: Say) -> None:
    if findings.is_torn and is_last:
        say("  a torn end, as a crash leaves it; the server cuts it off by itself, unless aof-load-truncated is no")


# --- A whole journal ---


def _manifest_in(directory: str) -> str:
    """Raises BadManifest unless there is exactly one."""
    names = sorted(name for name in os.listdir(directory) if name.endswith(".manifest"))
    if len(names) != 1:
        raise BadManifest(f"has {len(names)} manifests: name the one to be checked" if names else "has no manifest")
    return os.path.join(directory, names[0])


def _check_all(path: str, fix: bool, say: Say, check_snapshot: CheckSnapshot, files: Files) -> int:
    directory = os.path.dirname(path)
    with open(path, "rb") as file:
        manifest = Manifest.parse(file.read())
    good: list[tuple[JournalFile, Findings]] = []
    faulty: Findings | None = None
    for each in manifest.files:
        findings = _examine_named(os.path.join(directory, each.name), check_snapshot)
        say(str(findings))
        if not findings.fault and faulty is None:
            good.append((each, findings))
        elif faulty is None:
            faulty = findings
            _advise(findings, each is manifest.files[-1], say)
            if findings.is_beyond_repair:
                continue
            good.append((each, findings))
        # What is good behind a fault does not count: it was done to data that is not there.
    _say_strangers(directory, manifest, os.path.basename(path), say)
    if faulty is None:
        say(f"{path}: the journal is good")
        return 0
    if not fix:
        say(f"{path}: the journal is NOT good; --fix makes a copy that ends in front of the fault")
        return 1
    if faulty.is_beyond_repair and (not good or good[0][0] is not manifest.files[0]):
        raise CannotFix("there is nothing in front of the fault that could be kept")
    kept = {each.name for each, _ in good}
    lost = sum(each.name not in kept for each in manifest.files)
    target = (directory or ".") + _SUFFIX
    _write_copy(target, manifest, good, os.path.basename(path), files)
    say(f"written: {target}, without {faulty.size_bytes - faulty.good_bytes} bytes of {faulty.path}")
    if lost:
        say(f"  and without {lost} files behind it, whose commands followed upon what is lost")
    return 0


def _examine_named(path: str, check_snapshot: CheckSnapshot) -> Findings:
    try:
        return examine(path, check_snapshot)
    except FileNotFoundError:
        return Findings(path, fault="the file is missing", is_beyond_repair=True)


def _say_strangers(directory: str, manifest: Manifest, own: str, say: Say) -> None:
    known = {own, *(each.name for each in (*manifest.files, *manifest.history))}
    for name in sorted(os.listdir(directory or ".")):
        if name not in known and prefix_of(name) == own.removesuffix(".manifest"):
            say(f"{os.path.join(directory, name)}: is not in the manifest, so nobody reads it")


# --- Repaired copies ---


def _write_copy(
    target: str, manifest: Manifest, good: list[tuple[JournalFile, Findings]], name: str, files: Files
) -> None:
    """A directory with what is good; it has its name when it is complete."""
    if files.exists(target):
        raise CannotFix(f"{target} is there already: move it away")
    making = f"{target}-{os.getpid()}"
    files.make_directory(making)
    kept = tuple(each for each, _ in good)
    for each, findings in good:
        _copy_good(findings, os.path.join(making, each.name), files)
    shorter = replace(
        manifest,
        base=manifest.base if manifest.base in kept else None,
        increments=tuple(each for each in manifest.increments if each in kept),
        history=(),
    )
    descriptor = files.create(manifest_path(making, name.removesuffix(".manifest")))
    try:
        files.write(descriptor, shorter.encode())
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    files.fsync_directory(making)
    files.replace(making, target)


def _copy_good(findings: Findings, target: str, files: Files) -> None:
    """What is good of a file, into a new one."""
    if findings.is_beyond_repair:
        raise CannotFix("there is nothing in front of the fault that could be kept")
    if files.exists(target):
        raise CannotFix(f"{target} is there already: move it away")
    making = f"{target}-{os.getpid()}"
    descriptor = files.create(making)
    try:
        with open(findings.path, "rb") as source:
            left = findings.good_bytes
            while left and (data := source.read(min(left, _COPY_BYTES))):
                files.write(descriptor, data)
                left -= len(data)
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    files.replace(making, target)


@contextmanager
def _mapped(file: BinaryIO, size_bytes: int) -> Iterator[Content]:
    """A file's first bytes, without reading what is not looked at."""
    if not size_bytes:
        yield b""
        return
    with mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ) as content:
        yield content
