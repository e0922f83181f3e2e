"""A faulty disk and a wrong clock for one server, redis-server or Kora: the near end of fault_layer.c.

It is preloaded into the server, so that every call counts, whoever makes it.  Its folder has the server's `data`, the
trace of what happened to it, and a second name for each file, from which power_cut.py works out what would be left.
"""

import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCE: Final = Path(__file__).with_suffix(".c")

# Kinds of calls, in the order of fault_layer.c.
KINDS: Final = ("open", "write", "sync", "sync-directory", "rename", "unlink", "truncate", "read")
ANY_ROOM: Final = -1


class Control(ctypes.Structure):
    _fields_ = (
        ("calls", ctypes.c_uint64),
        ("counted", ctypes.c_uint64),
        ("kill_at", ctypes.c_uint64),
        ("room_bytes", ctypes.c_int64),
        ("clock_offset_ns", ctypes.c_int64),
        ("kinds_killing", ctypes.c_uint32),
        ("sync_delay_us", ctypes.c_uint32),
        ("pid", ctypes.c_int32),
        ("errors", ctypes.c_int32 * len(KINDS)),
    )


class FaultLayer:
    def __init__(self, folder: Path) -> None:
        self._library = library()
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.kept = self.folder / "kept"
        self.trace = self.folder / "trace"
        self.data.mkdir(parents=True, exist_ok=True)
        self.kept.mkdir(exist_ok=True)
        path = self.folder / "control"
        path.write_bytes(bytes(ctypes.sizeof(Control)))
        with path.open("r+b") as file:
            self.control = Control.from_buffer(mmap.mmap(file.fileno(), 0))
        self.control.room_bytes = ANY_ROOM

    @property
    def environ(self) -> dict[str, str]:
        # make sanitize has a library of its own there, which must come first.
        preloaded = " ".join(filter(None, (os.environ.get("LD_PRELOAD"), str(self._library))))
        return {"LD_PRELOAD": preloaded, "FAULT_LAYER": str(self.folder)}

    def forget(self) -> None:
        """What is in `data` now is on the disk for good; for when no server runs."""
        shutil.rmtree(self.kept)
        self.kept.mkdir()
        lines = []
        # As if it had just been made and synced, files before the folders that they are in.
        for path in sorted(self.data.rglob("*")):
            about = path.stat()
            name = path.relative_to(self.data)
            size = -1 if path.is_dir() else about.st_size
            word = "folder" if path.is_dir() else "entry"
            lines += [f"{word}\t{name}\t{about.st_ino}", f"sync\t{name}\t{about.st_ino}\t{size}\t{name}"]
            if path.is_file():
                if not (self.kept / str(about.st_ino)).exists():  # a file may have several names
                    (self.kept / str(about.st_ino)).hardlink_to(path)
                lines.append(f"synced\t{name}")
        folders = [path.relative_to(self.data) for path in self.data.rglob("*") if path.is_dir()]
        for name in [*folders, Path(".")]:
            lines += [f"sync\t{name}\t0\t-1\t{name}", f"synced\t{name}"]
        self.trace.write_text("".join(f"{line}\n" for line in lines))
        self.heal()
        self.control.calls = self.control.kill_at = 0

    def kill_at(self, call: int, kinds: Iterable[str] = KINDS) -> None:
        """Have the server die in place of such a call; the next of these kinds is the first.  0: not any more."""
        self.control.kill_at = 0
        self.control.kinds_killing = sum(1 << KINDS.index(kind) for kind in kinds)
        self.control.counted = 0
        self.control.kill_at = call

    @property
    def killed_in_place_of(self) -> str:
        """The kind of that call; "" where it was not reached."""
        _, found, last = self.trace.read_text().rpartition("kill\t")
        return last.split()[1] if found else ""

    def heal(self) -> None:
        self.control.room_bytes = ANY_ROOM
        self.control.clock_offset_ns = 0
        for kind in range(len(KINDS)):
            self.control.errors[kind] = 0

    @contextlib.contextmanager
    def failing(self, *kinds: str, error: int = errno.EIO) -> Iterator[None]:
        """Have every call of these kinds fail."""
        for kind in kinds:
            self.control.errors[KINDS.index(kind)] = error
        try:
            yield
        finally:
            self.heal()

    def was_loaded(self) -> bool:
        """Whether the server has it: a wrapper around its program may have dropped what is to be preloaded."""
        return bool(self.control.pid)


def library() -> Path:
    """fault_layer.c, compiled; the test is skipped, or fails where that is forbidden, if there is no way."""
    name = f"fault_layer-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    path = ROOT / "build" / name
    if not path.exists():
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            reason = "THERE IS NO C COMPILER, so no faults were put under the server: apt-get install gcc"
            if os.environ.get("KORA_REQUIRE_PEERS") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        path.parent.mkdir(exist_ok=True)
        # Another process may be at it as well.
        made = path.with_suffix(f".{os.getpid()}")
        environ = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        argv = [
            compiler,
            "-shared",
            "-fPIC",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-o",
            str(made),
            str(SOURCE),
            "-ldl",
        ]
        subprocess.run(argv, env=environ, check=True)
        made.replace(path)
    return path
