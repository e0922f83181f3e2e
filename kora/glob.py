"""Redis' glob patterns, as KEYS, SCAN MATCH, CONFIG GET and PSUBSCRIBE use them.

`*` any bytes, `?` one byte, `[abc] [a-z] [^abc]` one byte of a set, `\\` takes the next byte as it is.
Quirks kept from stringmatchlen (util.c): an unclosed `[` ends at the end of the pattern, `[z-a]` is `[a-z]`,
and a `\\` at the very end stands for itself.

Clients make patterns up, and so hostile ones must be answered, too.  Between two stars the first place where a piece of
the pattern fits is as good as any later one, so that nothing is ever taken back and the work is at most the text's
length times that of the longest piece.  A short pattern becomes a regular expression.  One of a megabyte would be
compiled for half a minute: what is long is cut into its pieces, which are matched by the searches that bytes have.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

Matcher = Callable[[bytes], object]

# Bytes up to which a pattern becomes a regular expression, in less than 5 ms even where it is all sets.
_SHORT_MAX: Final = 128


def matcher(pattern: bytes) -> Matcher:
    """A function that tells whether a whole string matches; truthy where it does."""
    if pattern == b"*":
        return _anything
    if len(pattern) <= _SHORT_MAX:
        return _compile(pattern).fullmatch
    return _cut(pattern).matches


def matches(pattern: bytes, data: bytes, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        pattern, data = pattern.lower(), data.lower()
    return bool(matcher(pattern)(data))


def _anything(_: bytes) -> bool:
    return True


# A run of bytes that stand for themselves, or any byte of a set.  A piece of a pattern, which has no stars, is a list
# of these, and no two runs are neighbours.
_Atom = bytes | frozenset[int]
_ANY: Final = frozenset(range(256))
_PLAIN = re.compile(rb"[^*?\[\\]+")


def _pieces(pattern: bytes) -> list[list[_Atom]]:
    """What is before, between and behind the stars."""
    pieces: list[list[_Atom]] = [[]]
    run: list[bytes] = []
    at, stop = 0, len(pattern)
    while at < stop:
        plain = _PLAIN.match(pattern, at)
        if plain is not None:
            run.append(plain[0])
            at = plain.end()
            continue
        char = pattern[at : at + 1]
        at += 1
        if char == b"\\":
            run.append(pattern[at : at + 1] or char)
            at += 1
            continue
        if run:
            pieces[-1].append(b"".join(run))
            run = []
        if char == b"*":
            # Runs of stars mean one.
            if len(pieces) == 1 or pieces[-1]:
                pieces.append([])
        elif char == b"?":
            pieces[-1].append(_ANY)
        else:
            allowed, at = _class(pattern, at)
            pieces[-1].append(allowed)
    if run:
        pieces[-1].append(b"".join(run))
    return pieces


# --- Short patterns ---


@lru_cache(maxsize=256)
def _compile(pattern: bytes) -> re.Pattern[bytes]:
    """An expression that never backs up over more than one star.

    Each piece but the last is an atomic group `(?=(.*?piece))\\n`: a look-ahead whose capture is then consumed (re has
    no others below 3.11).
    """
    pieces = [b"".join(map(_expression, piece)) for piece in _pieces(pattern)]
    if len(pieces) == 1:
        return re.compile(pieces[0], re.DOTALL)
    first, *middle, last = pieces
    atomic = b"".join(b"(?=(?P<g%d>.*?%b))(?P=g%d)" % (index, piece, index) for index, piece in enumerate(middle))
    return re.compile(first + atomic + b".*" + last, re.DOTALL)


def _expression(atom: _Atom) -> bytes:
    if isinstance(atom, bytes):
        return re.escape(atom)
    if atom == _ANY:
        return b"."
    if not atom:
        return b"(?!)"
    return b"[" + b"".join(b"\\x%02x" % char for char in sorted(atom)) + b"]"


# --- Long patterns ---


class _Piece:
    """A piece of a long pattern that has sets: whether it fits at a place, and where it does first."""

    def __init__(self, atoms: list[_Atom]) -> None:
        self._atoms: list[tuple[int, _Atom]] = []  # each with its distance from the beginning
        self._size = 0  # in bytes of the text
        for atom in atoms:
            self._atoms.append((self._size, atom))
            self._size += len(atom) if isinstance(atom, bytes) else 1
        self._masks: dict[int, int] = {}

    def __len__(self) -> int:
        return self._size

    def fits(self, text: bytes, at: int) -> bool:
        """The text must be long enough."""
        return all(
            text.startswith(atom, at + offset) if isinstance(atom, bytes) else text[at + offset] in atom
            for offset, atom in self._atoms
        )

    def find(self, text: bytes, start: int, stop: int) -> int:
        """The first place between start and stop where all of it fits, or -1."""
        # Bit n of `state`: the last n + 1 bytes fit the first n + 1 of the piece (Shift-And, Baeza-Yates and Gonnet).
        # A whole row of places advances with each byte, so that nothing is looked at twice.
        state, last = 0, 1 << (self._size - 1)
        for place in range(start, stop):
            byte = text[place]
            mask = self._masks.get(byte)
            if mask is None:
                mask = self._masks[byte] = self._mask(byte)
            state = (state << 1 | 1) & mask
            if state & last:
                return place - self._size + 1
        return -1

    def _mask(self, byte: int) -> int:
        """Bit n: the byte fits at the piece's place n."""
        sign = bytes(b"1"[0] if other == byte else b"0"[0] for other in range(256))
        signs = b"".join(
            atom.translate(sign) if isinstance(atom, bytes) else b"1" if byte in atom else b"0"
            for _, atom in self._atoms
        )
        return int(signs[::-1], 2)


class _Cut:
    """A long pattern."""

    def __init__(self, pattern: bytes) -> None:
        pieces = [_piece(atoms) for atoms in _pieces(pattern)]
        self._first, *self._middle = pieces
        self._last = self._middle.pop() if self._middle else None
        self._size_min = sum(map(len, pieces))

    def matches(self, text: bytes) -> bool:
        first, last = self._first, self._last
        if len(text) < self._size_min or (last is None and len(text) > self._size_min) or not _fits(first, text, 0):
            return False
        if last is None:
            return True
        place, stop = len(first), len(text) - len(last)
        if not _fits(last, text, stop):
            return False
        for piece in self._middle:
            place = text.find(piece, place, stop) if isinstance(piece, bytes) else piece.find(text, place, stop)
            if place < 0:
                return False
            place += len(piece)
        return True


def _piece(atoms: list[_Atom]) -> bytes | _Piece:
    # Nearly all are plain bytes, and a pattern may have a million of them.
    if not atoms:
        return b""
    return atoms[0] if len(atoms) == 1 and isinstance(atoms[0], bytes) else _Piece(atoms)


def _fits(piece: bytes | _Piece, text: bytes, at: int) -> bool:
    return text.startswith(piece, at) if isinstance(piece, bytes) else piece.fits(text, at)


# Few, since they are large; those who match one pattern with many texts come back for it at once.
_cut = lru_cache(maxsize=4)(_Cut)


def _class(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """The set that begins after a `[` at `at`, and the place after it."""
    stop = len(pattern)
    negated = pattern[at : at + 1] == b"^"
    if negated:
        at += 1
    allowed: set[int] = set()
    while at < stop:
        char = pattern[at]
        if char == 0x5C and at + 1 < stop:  # backslash
            allowed.add(pattern[at + 1])
            at += 2
        elif char == 0x5D:  # ]
            break
        elif at + 2 < stop and pattern[at + 1] == 0x2D:  # a-z
            low, high = sorted((char, pattern[at + 2]))
            allowed.update(range(low, high + 1))
            at += 3
        else:
            allowed.add(char)
            at += 1
    at += 1
    return _ANY - allowed if negated else frozenset(allowed), at
