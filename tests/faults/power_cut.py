"""What a machine's disk has after its power was cut: what was synced, and of the rest as much as chance leaves.

A file is as long as it was when its last good sync began, and a name that was made, moved or removed is so for good
when its directory was synced after that.  Of everything later a part may be there: that is drawn, from none to all.
Files are only ever appended to, which is checked by nobody here: a snapshot or journal that was overwritten in place
would not be found out.
"""

import enum
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.fault_layer import FaultLayer


class Survival(enum.Enum):
    """How much is left of what was not synced."""

    NOTHING = enum.auto()
    FIRST = enum.auto()  # a disk that keeps the order: the first so many changes of names, the first bytes of each file
    SOME = enum.auto()  # a disk that does not: any of them


@dataclass(eq=False)
class _Node:
    """A file, by its inode, or a folder, which keeps what is in it, whatever it is called."""

    inode: int
    is_folder: bool
    names: "dict[str, _Node]" = field(default_factory=dict)  # as the process has seen them


@dataclass(eq=False)
class _Change:
    """Of one name, or of two at once: the folder, the name in it, and what that is now, None where it was removed."""

    names: tuple[tuple[_Node, str, _Node | None], ...]
    synced: bool = False


@dataclass
class _Disk:
    root: _Node = field(default_factory=lambda: _Node(0, True))
    sizes: dict[int, int] = field(default_factory=dict)  # synced, by inode
    changes: list[_Change] = field(default_factory=list)

    def find(self, name: str) -> _Node | None:
        node: _Node | None = self.root
        for part in Path(name).parts:
            node = node and node.names.get(part)
        return node

    def change(self, *changes: tuple[str, _Node | None]) -> None:
        """Have names be something else; where one is in a folder that nobody has seen made, nothing is."""
        names = []
        for name, node in changes:
            path = Path(name)
            if (folder := self.find(str(path.parent))) is None:
                return
            names.append((folder, path.name, node))
            if node is None:
                folder.names.pop(path.name, None)
            else:
                folder.names[path.name] = node
        self.changes.append(_Change(tuple(names)))


def cut_power(layer: FaultLayer, chance: random.Random, survival: Survival) -> list[str]:
    """Leave in `layer.data` what is on the disk after the server was killed; returns what was lost, for a report.

    `layer.forget()` must have been called before the server started.
    """
    disk = _replay(layer)
    kept_changes = _chosen(disk.changes, chance, survival)
    names: dict[_Node, dict[str, _Node]] = {}
    lost = []
    for change in disk.changes:
        if change.synced or id(change) in kept_changes:
            for folder, name, node in change.names:
                if node is None:
                    names.setdefault(folder, {}).pop(name, None)
                else:
                    names.setdefault(folder, {})[name] = node
        else:
            lost.append(f"change of {', '.join(name for _, name, _ in change.names)}")
    rebuilt = layer.folder / "rebuilt"
    shutil.rmtree(rebuilt, ignore_errors=True)
    sizes: dict[int, int] = {}  # a file that has two names is the same under both

    def rebuild(folder: _Node, path: Path) -> None:
        path.mkdir()
        for name, node in sorted(names.get(folder, {}).items()):
            target = path / name
            source = layer.kept / str(node.inode)
            if node.is_folder:
                rebuild(node, target)
                continue
            shutil.copyfile(source, target)
            size = source.stat().st_size
            synced = disk.sizes.get(node.inode, 0)
            if synced < size:
                left = synced if survival is Survival.NOTHING else chance.randint(synced, size)
                left = sizes.setdefault(node.inode, left)
                os.truncate(target, left)
                lost.append(f"{size - left} of {size} bytes of {target.relative_to(rebuilt)}")

    rebuild(disk.root, rebuilt)
    shutil.rmtree(layer.data)
    rebuilt.rename(layer.data)
    return lost


def _replay(layer: FaultLayer) -> _Disk:
    disk = _Disk()
    begun: dict[str, tuple[int, int, _Node | None, int]] = {}
    for line in layer.trace.read_text().splitlines():
        match line.split("\t"):
            case ["entry" | "folder" as kind, name, inode]:
                known = disk.find(name)
                if known is None or known.inode != int(inode):
                    disk.change((name, _Node(int(inode), kind == "folder")))
            case ["cut", inode, size]:
                disk.sizes[int(inode)] = min(disk.sizes.get(int(inode), 0), int(size))
            case ["rename", source, target]:
                if (moved := disk.find(source)) is not None:
                    disk.change((source, None), (target, moved))
            case ["unlink", name]:
                if disk.find(name) is not None:
                    disk.change((name, None))
            case ["sync", ticket, inode, size, name]:
                folder = disk.find(name) if int(size) < 0 else None
                begun[ticket] = (int(inode), int(size), folder, len(disk.changes))
            case ["synced", ticket]:
                synced, size_bytes, folder, changes = begun.pop(ticket)
                if size_bytes >= 0:
                    disk.sizes[synced] = max(disk.sizes.get(synced, 0), size_bytes)
                else:
                    for change in disk.changes[:changes]:
                        change.synced |= any(place is folder for place, _, _ in change.names)
    return disk


def _chosen(changes: list[_Change], chance: random.Random, survival: Survival) -> set[int]:
    loose = [id(change) for change in changes if not change.synced]
    if survival is Survival.NOTHING:
        return set()
    if survival is Survival.FIRST:
        return set(loose[: chance.randint(0, len(loose))])
    return {each for each in loose if chance.random() < 0.5}
