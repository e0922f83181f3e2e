"""Replies to bytes, in RESP2 and RESP3.

Command handlers return plain Python, and only this module knows how the two protocols write it:

    None → null     int → integer    bytes → bulk     str → bulk (UTF-8)    float → double (bulk in RESP2)
    bool → boolean (integer in RESP2)    list, tuple → array    dict → map (flat array in RESP2)    set → set (array)
    Simple, NullArray, Verbatim, BigNumber, Items, Push and CommandError say themselves what they are.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from kora.errors import CommandError

Reply: TypeAlias = Any  # what a handler may return; see the table above
Encoder: TypeAlias = Callable[[Any], bytes]


class Simple:
    """A status reply such as +OK.  Encoded once: a handful exist and each is sent millions of times."""

    __slots__ = ("encoded", "text")

    def __init__(self, text: str) -> None:
        assert "\r" not in text and "\n" not in text, text
        self.text = text
        self.encoded = b"+%b\r\n" % text.encode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Simple) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Simple({self.text!r})"


class NullArray:
    """The absent array: `*-1` in RESP2, where `None` would be the absent bulk `$-1`.  In RESP3 both are `_`."""

    __slots__ = ()


class Verbatim:
    """Text for people, `=<length>\\r\\ntxt:…` in RESP3, a plain bulk in RESP2."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class BigNumber:
    """An integer beyond 64 bits: `(` in RESP3, a bulk in RESP2."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class Items:
    """A set in the order given, and of anything (Python's sets have neither maps nor an order): `~`, array in RESP2."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Reply]) -> None:
        self.items = list(items)


class Replies:
    """Several replies to one request, one after the other."""

    __slots__ = ("replies",)

    def __init__(self, *replies: Reply) -> None:
        self.replies = replies


class Encoded:
    """A reply as it goes over the wire, made for the client's protocol by whoever knew it: a script."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Push:
    """Out-of-band data: `>` in RESP3, an array in RESP2."""

    __slots__ = ("items",)

    def __init__(self, items: list[Reply]) -> None:
        self.items = items


class Attribute:
    """A reply with an attribute before it: `|` in RESP3, nothing of it in RESP2."""

    __slots__ = ("attributes", "reply")

    def __init__(self, attributes: dict[Any, Reply], reply: Reply) -> None:
        self.attributes = attributes
        self.reply = reply


OK: Final = Simple("OK")
PONG: Final = Simple("PONG")
NULL_ARRAY: Final = NullArray()

# What most replies begin with, or are.
_BULK_HEADERS: Final = tuple(b"$%d\r\n" % length for length in range(1024))
_INTEGERS: Final = tuple(b":%d\r\n" % value for value in range(1024))


def encode_error(message: str) -> bytes:
    """An error line.  Line breaks would end it early: as in Redis they become spaces, and go at the end."""
    text = message.encode("utf-8", "surrogateescape").rstrip(b"\r\n")
    return b"-%b\r\n" % text.replace(b"\r", b" ").replace(b"\n", b" ")


def format_double(value: float) -> bytes:
    """A double as Redis 7 prints it: 17 significant digits, without a trailing `.0`; inf, -inf, nan."""
    if math.isinf(value):
        return b"inf" if value > 0 else b"-inf"
    if math.isnan(value):
        return b"nan"
    if value == int(value) and abs(value) < 1e17:
        return b"-0" if value == 0 and math.copysign(1, value) < 0 else b"%d" % int(value)
    return b"%.17g" % value


def encode2(reply: Reply) -> bytes:
    """RESP2."""
    kind = type(reply)
    if kind is bytes:
        length = len(reply)
        if length < 1024:
            return _BULK_HEADERS[length] + reply + b"\r\n"  # type: ignore[no-any-return]
        return b"$%d\r\n%b\r\n" % (length, reply)
    if kind is Simple:
        return reply.encoded  # type: ignore[no-any-return]
    if kind is int:
        return _INTEGERS[reply] if 0 <= reply < 1024 else b":%d\r\n" % reply
    if reply is None:
        return b"$-1\r\n"
    if kind is list or kind is tuple:
        return b"*%d\r\n%b" % (len(reply), b"".join([encode2(item) for item in reply]))
    if kind is dict:
        parts = [b"*%d\r\n" % (2 * len(reply))]
        for key, value in reply.items():
            parts += (encode2(key), encode2(value))
        return b"".join(parts)
    if kind is set or kind is frozenset:
        return b"*%d\r\n%b" % (len(reply), b"".join([encode2(item) for item in reply]))
    if kind is bool:
        return b":1\r\n" if reply else b":0\r\n"
    if kind is NullArray:
        return b"*-1\r\n"
    if kind is float:
        return _bulk(format_double(reply))
    if kind is Verbatim:
        return _bulk(reply.text.encode("utf-8", "surrogateescape"))
    if kind is BigNumber:
        return _bulk(b"%d" % reply.value)
    if kind is Push:
        return encode2(reply.items)
    if kind is Attribute:
        return encode2(reply.reply)
    if kind is Items:
        return encode2(reply.items)
    if kind is Replies:
        return b"".join([encode2(item) for item in reply.replies])
    return _encode_rest(reply)


def encode3(reply: Reply) -> bytes:
    """RESP3."""
    kind = type(reply)
    if kind is bytes:
        length = len(reply)
        if length < 1024:
            return _BULK_HEADERS[length] + reply + b"\r\n"  # type: ignore[no-any-return]
        return b"$%d\r\n%b\r\n" % (length, reply)
    if kind is Simple:
        return reply.encoded  # type: ignore[no-any-return]
    if kind is int:
        return _INTEGERS[reply] if 0 <= reply < 1024 else b":%d\r\n" % reply
    if reply is None or kind is NullArray:
        return b"_\r\n"
    if kind is list or kind is tuple:
        return b"*%d\r\n%b" % (len(reply), b"".join([encode3(item) for item in reply]))
    if kind is dict:
        return b"%%%b" % _pairs(reply)
    if kind is set or kind is frozenset:
        return b"~%d\r\n%b" % (len(reply), b"".join([encode3(item) for item in reply]))
    if kind is bool:
        return b"#t\r\n" if reply else b"#f\r\n"
    if kind is float:
        return b",%b\r\n" % format_double(reply)
    if kind is Verbatim:
        text = reply.text.encode("utf-8", "surrogateescape")
        return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)
    if kind is BigNumber:
        return b"(%d\r\n" % reply.value
    if kind is Push:
        return b">%d\r\n%b" % (len(reply.items), b"".join([encode3(item) for item in reply.items]))
    if kind is Attribute:
        return b"|%b%b" % (_pairs(reply.attributes), encode3(reply.reply))
    if kind is Items:
        return b"~%d\r\n%b" % (len(reply.items), b"".join([encode3(item) for item in reply.items]))
    if kind is Replies:
        return b"".join([encode3(item) for item in reply.replies])
    return _encode_rest(reply)


def _pairs(pairs: dict[Any, Reply]) -> bytes:
    parts = [b"%d\r\n" % len(pairs)]
    for key, value in pairs.items():
        parts += (encode3(key), encode3(value))
    return b"".join(parts)


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _encode_rest(reply: Reply) -> bytes:
    """Kinds that are rare, or subclasses, and alike in both protocols."""
    if isinstance(reply, str):
        return _bulk(reply.encode("utf-8", "surrogateescape"))
    if isinstance(reply, bytearray):
        return _bulk(bytes(reply))
    if isinstance(reply, CommandError):
        return encode_error(reply.message)
    if isinstance(reply, Encoded):
        return reply.data
    raise AssertionError(f"a handler returned {type(reply).__name__}, which has no form on the wire")
