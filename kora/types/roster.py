"""Members in an array, beside a table of large values: what random picks and scans with a cursor need.

The place of a member that goes is taken by the last one.  So members only ever move towards the front, and a scan walks
from the back to the front: what it has not reached yet cannot slip past it, and a cursor is no more than the number of
places that are left.  Both hold while members come and go, as Redis promises for its cursors.
"""

from random import randrange


class Roster:
    __slots__ = ("_members", "_places")

    def __init__(self, members: list[bytes]) -> None:
        """Takes the list, whose members are all different."""
        self._members = members
        self._places = {member: place for place, member in enumerate(members)}

    def copy(self) -> "Roster":
        return Roster(self._members.copy())

    @property
    def members(self) -> list[bytes]:
        """In the order of their places; not to be changed."""
        return self._members

    def add(self, member: bytes) -> None:
        """A member that is not there yet."""
        self._places[member] = len(self._members)
        self._members.append(member)

    def remove(self, member: bytes) -> None:
        """A member that is there."""
        place = self._places.pop(member)
        last = self._members.pop()
        if place < len(self._members):
            self._members[place] = last
            self._places[last] = place

    def random(self) -> bytes:
        return self._members[randrange(len(self._members))]

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """At most `count` members, and the cursor to go on with, 0 after the last; a cursor of 0 starts."""
        left = min(cursor, len(self._members)) if cursor else len(self._members)
        following = max(0, left - count)
        return following, self._members[following:left]
