"""The sorted set: members with a score each, in the order of scores, and of the members' bytes where scores are equal.

Three views of the same pairs (score, member): `_order` has them sorted, `_entries` in an array, and `_places` tells
where in the array a member's pair is.  A small set is sorted in a plain list, a large one in a SortedList, which finds,
inserts and counts in logarithmic time.  The array is what random scans need: the place of a pair that goes is taken by
the last one, so that pairs only ever move towards the front, and a scan that walks from the back to the front misses
nothing that stays.
"""

import math
from bisect import bisect_left, bisect_right, insort
from random import randrange
from typing import Final, TypeAlias

from sortedcontainers import SortedList

from kora.types.limits import Limits

Entry: TypeAlias = tuple[float, bytes]

# Measured on CPython 3.11: a pair is a tuple (64), a float (32) and a member (33 and its bytes, in steps of 16); its
# places in the order, the array and the dict, the int of the place included, are 90 more in large sets.
_ENTRY_BYTES: Final = 64 + 32 + 90
_EMPTY_BYTES: Final = 400


class SortedSet:
    __slots__ = ("_entries", "_limits", "_order", "_places", "counted_bytes", "counted_length", "size_bytes")

    kind: Final = "zset"
    keeps_when_empty: Final = False

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._order: list[Entry] | SortedList[Entry] = []
        self._entries: list[Entry] = []
        self._places: dict[bytes, int] = {}
        self.size_bytes = _EMPTY_BYTES
        self.counted_bytes = self.counted_length = 0  # the keyspace's own

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def encoding(self) -> str:
        return "listpack" if isinstance(self._order, list) else "skiplist"

    def copy(self) -> "SortedSet":
        twin = SortedSet(self._limits)
        twin._order = self._order.copy()
        twin._entries = self._entries.copy()
        twin._places = self._places.copy()
        twin.size_bytes = self.size_bytes
        return twin

    # Members

    def score(self, member: bytes) -> float | None:
        place = self._places.get(member)
        return None if place is None else self._entries[place][0]

    def add(self, member: bytes, score: float) -> bool:
        """Set the score of a member, and tell whether the member is new.  A score is not nan.

        Redis' listpacks have no -0: it becomes 0.
        """
        place = self._places.get(member)
        limits = self._limits
        if (
            place is None
            and isinstance(self._order, list)
            and (len(self._order) >= limits.zset_max_listpack_entries or len(member) > limits.zset_max_listpack_value)
        ):
            self._order = SortedList(self._order)
        if isinstance(self._order, list):
            score += 0.0
        if place is None:
            entry = (score, member)
            self._places[member] = len(self._entries)
            self._entries.append(entry)
            self.size_bytes += _ENTRY_BYTES + ((len(member) + 48) & ~15)
        else:
            old = self._entries[place]
            if old[0] == score:
                return False  # also 0 for -0, as in Redis
            entry = self._entries[place] = (score, old[1])
            self._drop(old)
        if isinstance(self._order, list):
            insort(self._order, entry)
        else:
            self._order.add(entry)
        return place is None

    def remove(self, member: bytes) -> bool:
        place = self._places.get(member)
        if place is None:
            return False
        self._drop(self._entries[place])
        self._forget(member)
        return True

    def random(self) -> tuple[bytes, float]:
        score, member = self._entries[randrange(len(self._entries))]
        return member, score

    # Ranks, in ascending order

    def rank(self, member: bytes) -> int | None:
        place = self._places.get(member)
        return None if place is None else self._below(self._entries[place])

    def slice(self, start: int, stop: int) -> list[tuple[bytes, float]]:
        return [(member, score) for score, member in self._order[start:stop]]

    def scores_below(self, score: float, inclusive: bool) -> int:
        """How many have a score below this one, or, inclusive, not above it."""
        if inclusive:
            if score == math.inf:
                return len(self._entries)
            score = math.nextafter(score, math.inf)
        # Sorts before all pairs of the same score.
        return self._below((score,))

    def members_below(self, member: bytes, inclusive: bool) -> int:
        """The same by the members' bytes, where all scores are equal; where they are not, of the lowest score."""
        if not self._entries:
            return 0
        entry = (self._order[0][0], member)
        if not inclusive:
            return self._below(entry)
        return bisect_right(self._order, entry) if isinstance(self._order, list) else self._order.bisect_right(entry)

    def remove_slice(self, start: int, stop: int) -> int:
        """Remove the members of these ranks; how many there were."""
        doomed = self._order[start:stop]
        del self._order[start:stop]
        for _, member in doomed:
            self._forget(member)
        return len(doomed)

    # Walking

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, float]]]:
        """About `count` pairs, and the cursor to go on with, 0 after the last; a cursor of 0 starts.

        A cursor is how many pairs are left.  A small set is returned whole, in order.
        """
        if isinstance(self._order, list):
            return 0, self.slice(0, len(self._order))
        left = min(cursor, len(self._entries)) if cursor else len(self._entries)
        following = max(0, left - count)
        return following, [(member, score) for score, member in self._entries[following:left]]

    # Freeing

    @property
    def effort(self) -> int:
        return 1 + 4 * len(self._entries)

    def shed(self, count: int) -> int:
        """Drop about so many pairs, and return how many: those of the highest ranks, which costs least."""
        length = len(self._order)
        return self.remove_slice(max(0, length - count), length)

    # Inside

    def _below(self, entry: tuple[object, ...]) -> int:
        """How many pairs sort before this one."""
        order = self._order
        return bisect_left(order, entry) if isinstance(order, list) else order.bisect_left(entry)

    def _drop(self, entry: Entry) -> None:
        """Take a pair out of the order."""
        if isinstance(self._order, list):
            del self._order[bisect_left(self._order, entry)]
        else:
            self._order.remove(entry)

    def _forget(self, member: bytes) -> None:
        """Take a member out of the array and the dict."""
        place = self._places.pop(member)
        last = self._entries.pop()
        if place < len(self._entries):
            self._entries[place] = last
            self._places[last[1]] = place
        self.size_bytes -= _ENTRY_BYTES + ((len(member) + 48) & ~15)
