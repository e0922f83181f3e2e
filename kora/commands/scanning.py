"""What SCAN and its relatives HSCAN, SSCAN and ZSCAN read of a request: a cursor and options."""

import re
from dataclasses import dataclass
from typing import Final

from kora.errors import CommandError, InvalidCursor, SyntaxFault
from kora.glob import Matcher, matcher
from kora.types.number import parse_integer

_CURSOR: Final = re.compile(rb"[+-]?[0-9]+")


def parse_cursor(text: bytes) -> int:
    """As strtoul takes it, signs included: an unsigned 64-bit integer, where -1 is the largest; nothing at all is 0."""
    text, _, _ = text.partition(b"\0")  # as a string of C
    if not text:
        return 0
    if not _CURSOR.fullmatch(text) or len(text) > 4096:
        raise InvalidCursor
    number = int(text)
    if abs(number) >= 1 << 64:
        raise InvalidCursor
    return number % (1 << 64)


@dataclass
class ScanOptions:
    count: int = 10
    match: Matcher | None = None
    kind: bytes | None = None  # TYPE of SCAN, in small letters
    with_values: bool = True  # but for NOVALUES of HSCAN


def parse_scan(words: list[bytes], *allowed: bytes) -> ScanOptions:
    """COUNT and MATCH, and TYPE or NOVALUES where allowed; the last of each counts.  Raises SyntaxFault."""
    options = ScanOptions()
    place = 0
    while place < len(words):
        option = words[place].upper()
        if option == b"NOVALUES":
            if option not in allowed:
                raise CommandError("ERR NOVALUES option can only be used in HSCAN")
            options.with_values = False
            place += 1
            continue
        if place + 1 == len(words):
            raise SyntaxFault
        value = words[place + 1]
        if option == b"COUNT":
            options.count = parse_integer(value)
            if options.count < 1:
                raise SyntaxFault
        elif option == b"MATCH":
            options.match = matcher(value)
        elif option == b"TYPE" and option in allowed:
            options.kind = value.lower()
        else:
            raise SyntaxFault
        place += 2
    return options
