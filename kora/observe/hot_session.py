"""A session of HOTKEYS START … STOP, as Redis 8.6 has them: the keys that took most CPU time, and most bytes.

It is fed with what is recorded anyway (kora/observe/hotkeys.py), once a second; only more of it, if SAMPLE says so.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Final

from kora.observe.hot_windows import HotKey
from kora.observe.hotkeys import Row

# Those with less are forgotten as soon as there are twice as many.
KEYS_MAX: Final = 1024


@dataclass
class Totals:
    """Of the whole server, since its start or at the end of the session."""

    wall_ms: int
    monotonic_ns: int
    commands_ns: int  # time that all commands took
    net_bytes: int
    cpu_user_ns: int
    cpu_system_ns: int


@dataclass
class HotSession:
    """What was asked for, and what was found."""

    counts_cpu: bool
    counts_net: bool
    keys_shown: int
    sampling_ratio: int
    slots: Collection[int]  # empty: all
    slot_ranges: list[list[int]]
    started: Totals
    stop_ns: int  # when it ends by itself; 0: never
    stopped: Totals | None = None
    # Of the slots asked for.
    cpu_ns: int = 0
    net_bytes: int = 0
    _keys: dict[int, HotKey] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        return self.stopped is None

    def add(self, rows: list[Row]) -> None:
        """What was recorded in a second, or up to the session's end."""
        for row in rows:
            if self.slots and row.slot not in self.slots:
                continue
            key = self._keys.get(row.identity)
            if key is None:
                key = self._keys[row.identity] = HotKey(row.name, row.key_bytes, row.database, row.slot)
            key.cpu_ns += row.cpu_ns
            key.net_bytes += row.net_bytes
            self.cpu_ns += row.cpu_ns
            self.net_bytes += row.net_bytes
        if len(self._keys) > 2 * KEYS_MAX:
            by_cpu = sorted(self._keys.items(), key=lambda item: -item[1].cpu_ns)
            by_net = sorted(self._keys.items(), key=lambda item: -item[1].net_bytes)
            self._keys = dict(by_cpu[: KEYS_MAX // 2] + by_net[: KEYS_MAX // 2])

    def with_rows(self, rows: list[Row]) -> "HotSession":
        """As if add() had been called: another session."""
        session = replace(self, _keys={identity: replace(key) for identity, key in self._keys.items()})
        session.add(rows)
        return session

    def by_cpu(self) -> list[HotKey]:
        return self._top("cpu_ns")

    def by_net(self) -> list[HotKey]:
        return self._top("net_bytes")

    def _top(self, name: str) -> list[HotKey]:
        keys = [key for key in self._keys.values() if getattr(key, name)]
        return sorted(keys, key=lambda key: (-getattr(key, name), key.name))[: self.keys_shown]

    @property
    def size_bytes(self) -> int:
        # About 300 bytes for the object, its numbers and its place in the table.
        return sum([300 + len(key.name) for key in self._keys.values()])
