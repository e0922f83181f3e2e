"""The ids of stream entries: a time in Unix ms and a number within it, each of 64 bits, held as one integer.

The text is `<ms>-<number>`; as integers, (ms << 64) + number, ids sort as Redis sorts them.
"""

import re
from typing import Final

from kora.errors import CommandError

NUMBER_MAX: Final = (1 << 64) - 1
ID_MIN: Final = 0
ID_MAX: Final = (1 << 128) - 1

# What strtoull takes, to which string2ull (util.c) leaves what is not a plain integer.
_UNSIGNED: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)([0-9]+)")
_TEXT_MAX: Final = 127


class InvalidId(CommandError):
    message = "ERR Invalid stream ID specified as stream command argument"


def format_id(entry_id: int) -> bytes:
    return b"%d-%d" % (entry_id >> 64, entry_id & NUMBER_MAX)


def parse_id(text: bytes, missing_number: int = 0) -> int:
    """An id of which the number may be missing.  Raises InvalidId."""
    time, dash, number = text.partition(b"-")
    if time.isdigit() and len(text) < 20 and (not dash or number.isdigit()):
        return int(time) << 64 | (int(number) if dash else missing_number)  # nearly all there are
    if len(text) > _TEXT_MAX:
        raise InvalidId
    # C strings: nothing behind a zero byte is seen.
    time, dash, number = text.partition(b"\0")[0].partition(b"-")
    return _parse_unsigned(time) << 64 | (_parse_unsigned(number) if dash else missing_number)


def parse_bound(text: bytes, missing_number: int = 0) -> int:
    """As parse_id(), and `-` and `+` for the least and the greatest id."""
    if text == b"-":
        return ID_MIN
    if text == b"+":
        return ID_MAX
    return parse_id(text, missing_number)


def parse_new_id(text: bytes) -> tuple[int, bool]:
    """What XADD is given: the id, and whether its number is to be found, as `<ms>-*` asks for."""
    time, dash, number = text.partition(b"\0")[0].partition(b"-")
    if dash and number == b"*" and len(text) <= _TEXT_MAX:
        return _parse_unsigned(time) << 64, True
    return parse_id(text), False


def _parse_unsigned(text: bytes) -> int:
    match = _UNSIGNED.fullmatch(text)
    if match is None:
        raise InvalidId
    sign, digits = match.groups()
    value = int(digits)
    if value > NUMBER_MAX:
        raise InvalidId
    if sign != b"-":
        return value
    # strtoull takes a negative number as what it is modulo 2 ** 64; string2ll is asked first, and refuses plain ones.
    if 0 < value <= 1 << 63 and text == b"-%d" % value:
        raise InvalidId
    return -value & NUMBER_MAX
