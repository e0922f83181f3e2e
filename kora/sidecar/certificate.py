"""Until when a certificate is valid, read from its file: for the alert that comes before clients are turned away.

A certificate is DER (X.690): a tag, a length and a value, of which some are made of more such.  RFC 5280, 4.1: the
first part is version, serial number, algorithm, issuer and then the validity, which is two times.
"""

import base64
import calendar
import re
import time
from typing import Final

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_VERSION: Final = 0xA0  # left out in certificates of version 1
_UTC_TIME: Final = 0x17  # with two digits of the year, from 1950 on; else with four
_FILE_MAX: Final = 1 << 20


def not_after_s(path: str) -> int | None:
    """Unix time; None where the file is none, or has no certificate."""
    try:
        with open(path, "rb") as file:
            found = _PEM.search(file.read(_FILE_MAX))
        return _not_after_s(base64.b64decode(found[1])) if found else None
    except (OSError, ValueError, IndexError):
        return None


def _not_after_s(der: bytes) -> int:
    certificate = _parts(der)[0][1]
    fields = _parts(_parts(certificate)[0][1])
    if fields[0][0] == _VERSION:
        del fields[0]
    tag, value = _parts(fields[3][1])[1]
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and value, one after another."""
    parts = []
    place = 0
    while place < len(der):
        tag, length, place = der[place], der[place + 1], place + 2
        if length & 0x80:
            size = length & 0x7F
            length, place = int.from_bytes(der[place : place + size], "big"), place + size
        parts.append((tag, der[place : place + length]))
        place += length
    return parts
