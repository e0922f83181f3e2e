"""The longest common subsequence of two byte strings, as LCS answers it.

The table of lengths L[i][j] is kept as differences, a row in one big integer: bit j of row i is 0 where L[i][j + 1] is
one more than L[i][j].  A row follows from the one above in four operations on whole integers (Hyyrö 2004, "Bit-parallel
LCS-length computation revisited"), so that a table of n by m takes n steps, and n * m bits.  L[i][j] is then the number
of zeros among the lowest j bits.  The walk back takes the same turns as Redis' (t_string.c, lcsCommand): up where that
keeps more, else left.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Match:
    """A run that both strings share: where it starts in each."""

    first: int
    second: int
    length: int


@dataclass(frozen=True)
class Subsequence:
    length: int
    text: bytes
    matches: list[Match]  # from the end of the strings to their start


def longest_common_subsequence(first: bytes, second: bytes) -> Subsequence:
    rows = _rows(first, second)

    def length_at(i: int, j: int) -> int:
        return j - (rows[i] & ((1 << j) - 1)).bit_count()

    text = bytearray()
    matches: list[Match] = []
    i, j = len(first), len(second)
    run = 0
    while i and j:
        if first[i - 1] == second[j - 1]:
            text.append(first[i - 1])
            i, j, run = i - 1, j - 1, run + 1
            continue
        if run:
            matches.append(Match(i, j, run))
            run = 0
        if length_at(i - 1, j) > length_at(i, j - 1):
            i -= 1
        else:
            j -= 1
    if run:
        matches.append(Match(i, j, run))
    text.reverse()
    return Subsequence(len(text), bytes(text), matches)


def _rows(first: bytes, second: bytes) -> list[int]:
    everything = (1 << len(second)) - 1
    places = [0] * 256  # by byte: the bits of its places in the second string
    for place, byte in enumerate(second):
        places[byte] |= 1 << place
    row = everything
    rows = [row]
    for byte in first:
        met = row & places[byte]
        row = ((row + met) | (row - met)) & everything
        rows.append(row)
    return rows
