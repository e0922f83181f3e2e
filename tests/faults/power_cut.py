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

from tests.faults.fault_layer import FaultLayer


class Survival(enum.Enum):
    """How much is left of what was not synced."""

    NOTHING = enum.auto()
    FIRST = enum.auto()  # a disk that keeps the order: the first so many changes of names, the first bytes of each file
    SOME = enum.auto()  # a disk that does not: any of them


@dataclass
class _Change:
    """Of one name: `inode` is None where it was removed."""

    directories: tuple[str, ...]
    names: tuple[tuple[str, int | None], ...]
    synced: bool = False


@dataclass
class _Disk:
    sizes: dict[int, int] = field(default_factory=dict)  # synced, by inode
    names: dict[str, int] = field(default_factory=dict)  # as the process has seen them
    changes: list[_Change] = field(default_factory=list)


def cut_power(layer: FaultLayer, chance: random.Random, survival: Survival) -> list[str]:
    """Leave in `layer.data` what is on the disk after the server was killed; returns what was lost, for a report.

    `layer.forget()` must have been called before the server started.
    """
    disk = _replay(layer)
    kept_changes = _chosen(disk.changes, chance, survival)
    names: dict[str, int] = {}
    lost = []
    for change in disk.changes:
        if change.synced or id(change) in kept_changes:
            for name, inode in change.names:
                if inode is None:
                    names.pop(name, None)
                else:
                    names[name] = inode
        else:
            lost.append(f"change of {', '.join(name for name, _ in change.names)}")
    rebuilt = layer.folder / "rebuilt"
    shutil.rmtree(rebuilt, ignore_errors=True)
    rebuilt.mkdir()
    # Folders come before what is in them, as their names are shorter.
    for name in sorted(names):
        source = layer.kept / str(names[name])
        target = rebuilt / name
        if not source.exists():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        size = source.stat().st_size
        synced = disk.sizes.get(names[name], 0)
        if synced < size:
            left = synced if survival is Survival.NOTHING else chance.randint(synced, size)
            os.truncate(target, left)
            lost.append(f"{size - left} of {size} bytes of {name}")
    shutil.rmtree(layer.data)
    rebuilt.rename(layer.data)
    return lost


def _replay(layer: FaultLayer) -> _Disk:
    disk = _Disk()
    begun: dict[str, tuple[int, int, str, int]] = {}
    for line in layer.trace.read_text().splitlines():
        match line.split("\t"):
            case ["entry", name, inode]:
                if disk.names.get(name) != int(inode):
                    disk.names[name] = int(inode)
                    disk.changes.append(_Change((os.path.dirname(name),), ((name, int(inode)),)))
            case ["cut", inode, size]:
                disk.sizes[int(inode)] = min(disk.sizes.get(int(inode), 0), int(size))
            case ["rename", source, target]:
                if (moved := disk.names.pop(source, None)) is not None:
                    disk.names[target] = moved
                    directories = (os.path.dirname(source), os.path.dirname(target))
                    disk.changes.append(_Change(directories, ((source, None), (target, moved))))
            case ["unlink", name]:
                if disk.names.pop(name, None) is not None:
                    disk.changes.append(_Change((os.path.dirname(name),), ((name, None),)))
            case ["sync", ticket, inode, size, name]:
                begun[ticket] = (int(inode), int(size), "" if name == "." else name, len(disk.changes))
            case ["synced", ticket]:
                synced, size_bytes, directory, changes = begun.pop(ticket)
                if size_bytes >= 0:
                    disk.sizes[synced] = max(disk.sizes.get(synced, 0), size_bytes)
                else:
                    for change in disk.changes[:changes]:
                        change.synced |= directory in change.directories
    return disk


def _chosen(changes: list[_Change], chance: random.Random, survival: Survival) -> set[int]:
    loose = [id(change) for change in changes if not change.synced]
    if survival is Survival.NOTHING:
        return set()
    if survival is Survival.FIRST:
        return set(loose[: chance.randint(0, len(loose))])
    return {each for each in loose if chance.random() < 0.5}
