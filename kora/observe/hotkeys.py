"""Hot keys of one shard: a count-min sketch that estimates any key, and a list of the top keys, which a sketch has not.

An estimate is never below what was recorded since the last halving (a sketch only ever adds collisions).  The list
admits a key when its estimate exceeds the smallest on the list, so a stream of cold keys costs one comparison each.
Counts are halved once a minute by the owner, which makes a rate of r per second settle between 60 r and 120 r.

Not for exact counts, and not for the order of keys whose counts lie within the sketch's error (accesses / width).
"""

from array import array
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

# 4096 wide: an error of 0.066 % of all accesses at 2.7/width.  At 64 columns, as the first Kora had, a key with ten
# accesses read as 1400 (spec/first-kora, section 5).
WIDTH_BITS: Final = 12
WIDTH: Final = 1 << WIDTH_BITS
DEPTH: Final = 4
_MASK: Final = WIDTH - 1


class HotKeys:
    """Counts are whole accesses: a caller that samples one access in n records a weight of n."""

    __slots__ = ("_floor", "_rows", "_top", "recorded", "top_max")

    def __init__(self, top_max: int = 128) -> None:
        self._rows = [array("Q", bytes(8 * WIDTH)) for _ in range(DEPTH)]
        self._top: dict[bytes, int] = {}
        self._floor = 0  # the smallest count on a full list
        self.top_max = top_max
        self.recorded = 0

    def record(self, key: bytes, weight: int) -> None:
        # hash() is SipHash with a key of this process: four rows take 12 bits each of its 64, so that two keys which
        # collide in one row do not collide in the others, and nobody outside can make them.
        bits = hash(key)
        estimate = -1
        for row in self._rows:
            column = bits & _MASK
            count = row[column] = row[column] + weight
            if count < estimate or estimate < 0:
                estimate = count
            bits >>= WIDTH_BITS
        self.recorded += weight
        top = self._top
        if key in top or len(top) < self.top_max:
            top[key] = estimate
        elif estimate > self._floor:
            self._replace_smallest(key, estimate)

    def _replace_smallest(self, key: bytes, estimate: int) -> None:
        top = self._top
        smallest = min(top, key=top.__getitem__)
        if top[smallest] < estimate:
            del top[smallest]
            top[key] = estimate
        self._floor = min(top.values())

    def estimate(self, key: bytes) -> int:
        """At least the number of accesses recorded for a key since counts were last halved."""
        bits = hash(key)
        counts = []
        for row in self._rows:
            counts.append(row[bits & _MASK])
            bits >>= WIDTH_BITS
        return min(counts)

    def top(self, count: int) -> list[tuple[bytes, int]]:
        """The keys with most accesses, most first, ties by key."""
        # Two sorts without a Python function take a fifth of the time of one with.
        by_key = sorted(self._top.items())
        return sorted(by_key, key=itemgetter(1), reverse=True)[:count]

    def decay(self) -> Iterator[None]:
        """Halve every count, one row between two yields (0.2 ms each), so that the loop can breathe."""
        for number, row in enumerate(self._rows):
            self._rows[number] = array("Q", [count >> 1 for count in row])
            yield
        self._top = {key: count >> 1 for key, count in self._top.items() if count > 1}
        self._floor = min(self._top.values(), default=0)
        self.recorded >>= 1

    def reset(self) -> None:
        self.__init__(self.top_max)  # type: ignore[misc]
