"""The tallies of one interval, by key: what the buffer of tracked values is made of.  The kernel has its own."""

from collections.abc import Iterator

from kora.types.tally import Cell, Tally


class Tallies:
    __slots__ = ("_tallies", "values")

    def __init__(self) -> None:
        self._tallies: dict[bytes, Tally] = {}
        self.values = 0  # that were added, or came with cells

    def __len__(self) -> int:
        return len(self._tallies)

    def __contains__(self, key: bytes) -> bool:
        return key in self._tallies

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._tallies)

    def add(self, key: bytes, units: int, at_ms: int) -> None:
        """A value, in billionths."""
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.add(units, at_ms)
        self.values += 1

    def merge(self, cell: Cell) -> None:
        """Raises ValueError where its histogram is none."""
        other = Tally.of_cell(cell)
        tally = self._tallies.setdefault(cell[0], other)
        if tally is not other:
            tally.merge(other)
        self.values += other.count

    def get(self, key: bytes) -> Tally | None:
        """A copy."""
        found = self._tallies.get(key)
        if found is None:
            return None
        tally = Tally()
        tally.merge(found)
        return tally

    def take(self, count: int) -> list[Cell]:
        """Remove those that came last, at most so many; their times are 0: whoever has this knows the interval."""
        tallies = self._tallies
        return [tally.cell(key, 0) for key, tally in (tallies.popitem() for _ in range(min(count, len(tallies))))]
