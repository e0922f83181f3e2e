"""Sets.  Small ones are what Redis keeps them as: sorted integers, or a short list in the order of arrival.

A large set is a list of its members and a dict that tells each one's place in it: a random member is then one look-up,
and removing one moves the last member into the gap.

scan() walks that list from its end to its start, and the cursor is the number of members that are still ahead.  What
moves while a scan is under way moves towards the start, so that no member slips from the part ahead to the part behind;
new ones come in at the end, where a scan that has passed need not return them.
"""

from bisect import bisect_left
from random import randrange
from typing import Final

from kora.types.limits import Limits
from kora.types.number import is_integer

# An empty set with its list; a place in a list, and the block of an int; a place in a dict whose load is average, and
# in the list, and the place itself as an int.
_EMPTY_BYTES: Final = 240
_INTEGER_BYTES: Final = 40
_LISTED_BYTES: Final = 9
_HASHED_BYTES: Final = 88


def _member_bytes(member: bytes) -> int:
    """As the allocator rounds it: 33 bytes around the text."""
    return (len(member) + 48) & ~15


class Set:
    kind: Final = "set"
    keeps_when_empty: Final = False

    __slots__ = ("_integers", "_limits", "_members", "_places", "counted_bytes", "counted_length", "size_bytes")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # One of three: sorted integers; members in the order of arrival; members in no order, and the place of each.
        self._integers: list[int] | None = []
        self._members: list[bytes] = []
        self._places: dict[bytes, int] | None = None
        self.size_bytes = _EMPTY_BYTES
        self.counted_bytes = self.counted_length = 0  # the keyspace's

    def __len__(self) -> int:
        return len(self._members) if self._integers is None else len(self._integers)

    @property
    def encoding(self) -> str:
        if self._integers is not None:
            return "intset"
        return "listpack" if self._places is None else "hashtable"

    @property
    def effort(self) -> int:
        return 1 if self._places is None else len(self._members)

    def copy(self) -> "Set":
        twin = Set(self._limits)
        twin._integers = None if self._integers is None else self._integers.copy()
        twin._members = self._members.copy()
        twin._places = None if self._places is None else self._places.copy()
        twin.size_bytes = self.size_bytes
        return twin

    # Members

    def has(self, member: bytes) -> bool:
        if self._places is not None:
            return member in self._places
        if self._integers is None:
            return member in self._members
        return is_integer(member) and self._integer_place(int(member))[1]

    def add(self, member: bytes) -> bool:
        """Whether the member is new."""
        if self._integers is not None:
            # Where none may be an intset, the first integer makes a list (setTypeCreate, t_set.c); others come to that.
            if is_integer(member) and (self._integers or self._limits.set_max_intset_entries > 0):
                return self._add_integer(int(member))
            self._list_integers()
        if self._places is None:
            if member in self._members:
                return False
            if self._fits_list(member):
                self._members.append(member)
                self.size_bytes += _LISTED_BYTES + _member_bytes(member)
                return True
            self._hash()
        assert self._places is not None
        if member in self._places:
            return False
        self._places[member] = len(self._members)
        self._members.append(member)
        self.size_bytes += _HASHED_BYTES + _member_bytes(member)
        return True

    def remove(self, member: bytes) -> bool:
        """Whether the member was there."""
        if self._places is not None:
            place = self._places.get(member)
            if place is None:
                return False
            self._remove_at(place)
            return True
        if self._integers is not None:
            if not is_integer(member):
                return False
            place, is_there = self._integer_place(int(member))
            if is_there:
                self._remove_at(place)
            return is_there
        if member not in self._members:
            return False
        self._remove_at(self._members.index(member))
        return True

    def members(self) -> list[bytes]:
        """All of them: integers in their order, a short list in the order of arrival."""
        if self._integers is not None:
            return [b"%d" % integer for integer in self._integers]
        return self._members.copy()

    def random(self) -> bytes:
        """One of the members, each as likely as any other; there must be one."""
        return self._at(randrange(len(self)))

    def pop(self) -> bytes:
        """Remove a random member and return it; there must be one."""
        place = randrange(len(self))
        member = self._at(place)
        self._remove_at(place)
        return member

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Some members, and the cursor that goes on from there; 0 starts and ends.  A small set comes in one piece."""
        if self._places is None:
            return 0, self.members()
        stop = min(cursor, len(self._members)) if cursor else len(self._members)
        start = max(0, stop - count)
        return start, self._members[start:stop]

    def shed(self, count: int) -> int:
        """Drop some members, whichever go quickly; returns how many."""
        dropped = min(count, len(self))
        for _ in range(dropped):
            self._remove_at(len(self) - 1)
        return dropped

    # Inside

    def _at(self, place: int) -> bytes:
        return self._members[place] if self._integers is None else b"%d" % self._integers[place]

    def _remove_at(self, place: int) -> None:
        if self._integers is not None:
            del self._integers[place]
            self.size_bytes -= _INTEGER_BYTES
            return
        member = self._members[place]
        self.size_bytes -= _member_bytes(member)
        if self._places is None:
            del self._members[place]
            self.size_bytes -= _LISTED_BYTES
            return
        del self._places[member]
        last = self._members.pop()
        if place < len(self._members):
            self._members[place] = last
            self._places[last] = place
        self.size_bytes -= _HASHED_BYTES

    def _integer_place(self, integer: int) -> tuple[int, bool]:
        """Where an integer is, or belongs, among the others, and whether it is there."""
        assert self._integers is not None
        place = bisect_left(self._integers, integer)
        return place, place < len(self._integers) and self._integers[place] == integer

    def _add_integer(self, integer: int) -> bool:
        assert self._integers is not None
        place, is_there = self._integer_place(integer)
        if is_there:
            return False
        self._integers.insert(place, integer)
        self.size_bytes += _INTEGER_BYTES
        # Never a listpack, though that may hold more: as Redis 7.2 does it (maybeConvertIntset, t_set.c).
        if len(self._integers) > self._limits.set_max_intset_entries:
            self._list_integers()
            self._hash()
        return True

    def _fits_list(self, member: bytes) -> bool:
        return (
            len(self._members) < self._limits.set_max_listpack_entries
            and len(member) <= self._limits.set_max_listpack_value
        )

    def _list_integers(self) -> None:
        """Before a member comes that is no integer.  A list that is too long for it is hashed by whoever adds it."""
        self._members = self.members()
        self._integers = None
        self.size_bytes += sum(map(_member_bytes, self._members))
        self.size_bytes += (_LISTED_BYTES - _INTEGER_BYTES) * len(self._members)

    def _hash(self) -> None:
        self._places = {member: place for place, member in enumerate(self._members)}
        self.size_bytes += (_HASHED_BYTES - _LISTED_BYTES) * len(self._members)
