"""Digests of values, as DEBUG DIGEST of Redis has them (debug.c): equal data has equal digests, whoever holds it.

What has an order is mixed in one after another, what has none is added by exclusive or.  Groups of streams, deadlines
of fields, and when a key ends do not count, but that it ends does.
"""

from collections.abc import Iterable
from hashlib import sha1
from typing import Any, Final

from kora.types.stream_id import ID_MAX, NUMBER_MAX

ZERO: Final = bytes(20)
# Numbers of types, as Redis has them (server.h).
_TYPES: Final = {"list": 1, "set": 2, "zset": 3, "hash": 4, "stream": 6}
_MODULE: Final = 5


def mixed(digest: bytes, *parts: bytes) -> bytes:
    """With these parts behind what is in it."""
    for part in parts:
        digest = _sha1(added(digest, _sha1(part)))
    return digest


def added(digest: bytes, other: bytes) -> bytes:
    """With another, no matter which was first."""
    return (int.from_bytes(digest, "big") ^ int.from_bytes(other, "big")).to_bytes(20, "big")


def digest_of(value: Any, has_deadline: bool, digest: bytes = ZERO) -> bytes:
    """Of the value of a key, behind what is in a digest already."""
    if type(value) is bytes or type(value) is bytearray:
        digest = mixed(digest, bytes(4), bytes(value))
    else:
        digest = mixed(digest, _TYPES.get(value.kind, _MODULE).to_bytes(4, "big"))
        match value.kind:
            case "list":
                digest = mixed(digest, *value.slice(0, len(value)))
            case "set":
                digest = _all_added(digest, map(_sha1, value.members()))
            case "zset":
                pairs = value.slice(0, len(value))
                digest = _all_added(digest, (_sha1(mixed(ZERO, member, b"%.17g" % score)) for member, score in pairs))
            case "hash":
                words = value.flat()
                pairs = zip(words[::2], words[1::2], strict=True)
                digest = _all_added(digest, (_sha1(mixed(ZERO, field, content)) for field, content in pairs))
            case "stream":
                for entry_id, entry in value.range(0, ID_MAX):
                    digest = mixed(digest, b"%d.%d" % (entry_id >> 64, entry_id & NUMBER_MAX), *entry)
            case "vectorset":
                for vector_id in value.ids():
                    digest = added(digest, mixed(ZERO, b"%d" % vector_id, value.get(vector_id).tobytes()))
    return added(digest, _sha1(b"!!expire!!")) if has_deadline else digest


def _all_added(digest: bytes, others: Iterable[bytes]) -> bytes:
    for other in others:
        digest = added(digest, other)
    return digest


def _sha1(data: bytes) -> bytes:
    return sha1(data, usedforsecurity=False).digest()
