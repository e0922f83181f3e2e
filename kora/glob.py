"""Redis' glob patterns, as KEYS, SCAN MATCH, CONFIG GET and PSUBSCRIBE use them.

`*` any bytes, `?` one byte, `[abc] [a-z] [^abc]` one byte of a set, `\\` takes the next byte as it is.
Quirks kept from stringmatchlen (util.c): an unclosed `[` ends at the end of the pattern, `[z-a]` is `[a-z]`,
and a `\\` at the very end stands for itself.
"""

import re
from collections.abc import Callable
from functools import lru_cache

Matcher = Callable[[bytes], object]


def matcher(pattern: bytes) -> Matcher:
    """A function that tells whether a whole string matches; truthy where it does."""
    if pattern == b"*":
        return _anything
    return _compile(pattern).fullmatch


def matches(pattern: bytes, data: bytes, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        pattern, data = pattern.lower(), data.lower()
    return bool(matcher(pattern)(data))


def _anything(_: bytes) -> bool:
    return True


@lru_cache(maxsize=256)
def _compile(pattern: bytes) -> re.Pattern[bytes]:
    parts: list[bytes] = []
    at, stop = 0, len(pattern)
    while at < stop:
        char = pattern[at : at + 1]
        at += 1
        if char == b"*":
            # Runs of stars mean one; possessive where it can be, since `(.*)` after `(.*)` is what makes a
            # hostile pattern exponential.  A lazy star up to the next literal cannot be taken back: see below.
            if not parts or parts[-1] != _STAR:
                parts.append(_STAR)
        elif char == b"?":
            parts.append(b".")
        elif char == b"[":
            group, at = _class(pattern, at)
            parts.append(group)
        else:
            if char == b"\\" and at < stop:
                char = pattern[at : at + 1]
                at += 1
            parts.append(re.escape(char))
    return re.compile(_linear(parts), re.DOTALL)


_STAR = b"*"


def _linear(parts: list[bytes]) -> bytes:
    """Join the parts so that matching never backs up over more than one star.

    Between two stars the first place where the piece fits is as good as any later one, so each piece but the last is
    an atomic group `(?=(.*?piece))\\n`: a look-ahead whose capture is then consumed (re has no others below 3.11).
    """
    pieces: list[bytes] = [b""]
    for part in parts:
        if part == _STAR:
            pieces.append(b"")
        else:
            pieces[-1] += part
    if len(pieces) == 1:
        return pieces[0]
    first, *middle, last = pieces
    atomic = b"".join(b"(?=(?P<g%d>.*?%b))(?P=g%d)" % (index, piece, index) for index, piece in enumerate(middle))
    return first + atomic + b".*" + last


def _class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The set that begins after a `[` at `at`; returns its expression and the place after it."""
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
    if negated:
        allowed = set(range(256)) - allowed
    if not allowed:
        return b"(?!)", at
    return b"[" + b"".join(b"\\x%02x" % char for char in sorted(allowed)) + b"]", at
