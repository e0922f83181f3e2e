"""Payloads as versions before Redis 7.0 dumped them, put together here: no such server is at hand."""

from collections.abc import Callable
from typing import Final

from kora.types.number import is_integer
from kora.types.rdb.payload import seal
from kora.types.rdb.values import Type
from kora.types.rdb.writer import Writer

Pairs = list[tuple[bytes, bytes]]


def ziplist(*texts: bytes) -> bytes:
    entries: list[bytes] = []
    for text in texts:
        before = len(entries[-1]) if entries else 0
        back = bytes([before]) if before < 254 else b"\xfe" + before.to_bytes(4, "little")
        entries.append(back + _ziplist_text(text))
    body = b"".join(entries)
    tail = 10 + len(body) - (len(entries[-1]) if entries else 0)
    head = (11 + len(body)).to_bytes(4, "little") + tail.to_bytes(4, "little") + len(entries).to_bytes(2, "little")
    return head + body + b"\xff"


def _ziplist_text(text: bytes) -> bytes:
    if is_integer(text):
        number = int(text)
        if 0 <= number <= 12:
            return bytes([0xF1 + number])
        for code, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
            if -1 << 8 * width - 1 <= number < 1 << 8 * width - 1:
                return bytes([code]) + number.to_bytes(width, "little", signed=True)
    if len(text) < 64:
        return bytes([len(text)]) + text
    if len(text) < 1 << 14:
        return (len(text) | 0x4000).to_bytes(2, "big") + text
    return b"\x80" + len(text).to_bytes(4, "big") + text


def zipmap(pairs: Pairs) -> bytes:
    def length(text: bytes) -> bytes:
        return bytes([len(text)]) if len(text) < 254 else b"\xfe" + len(text).to_bytes(4, "little")

    # Some room that is not used behind each value.
    rows = (b"%b%b%b\x02%b??" % (length(field), field, length(value), value) for field, value in pairs)
    return bytes([len(pairs)]) + b"".join(rows) + b"\xff"


def payload(type_: int, write: Callable[[Writer], object], version: int = 6) -> bytes:
    writer = Writer()
    writer.data.append(type_)
    write(writer)
    return seal(writer.data, version)


def _strings(texts: list[bytes]) -> Callable[[Writer], None]:
    def write(writer: Writer) -> None:
        writer.length(len(texts))
        for text in texts:
            writer.string(text)

    return write


def _scored(writer: Writer) -> None:
    writer.length(4)
    for member, score in ((b"a", b"\x031.5"), (b"b", b"\xfe"), (b"c", b"\xff"), (b"7", b"\x0217")):
        writer.string(member)
        writer.data += score


def _quicklist(writer: Writer) -> None:
    writer.length(2)
    writer.string(ziplist(*TEXTS))
    writer.string(ziplist(b"last"))


def _pairs(writer: Writer) -> None:
    writer.length(len(TEXTS))
    for text in TEXTS:
        writer.string(text)
        writer.string(text)


# Every way in which a ziplist has integers and strings.
TEXTS: Final = [
    b"a", b"", b"0", b"12", b"13", b"-1", b"-129", b"40000", b"-9000000", b"3000000000", b"-9223372036854775808",
    b"x" * 63, b"y" * 64, b"z" * 300, b"007",
]  # fmt: skip
FIELDS: Final = [(b"f", b"v"), (b"g", b"w" * 260), (b"1", b"2")]
FLAT: Final = [word for pair in FIELDS for word in pair]
_SCORES: Final = [b"a", b"1", b"b", b"2.5", b"c", b"inf"]

# By name: the payload, and what is asked to see the value, with the answer.
OLDER: Final[dict[str, tuple[bytes, str, list[bytes]]]] = {
    "linked list": (payload(Type.LIST, _strings(TEXTS)), "LRANGE k 0 -1", TEXTS),
    "ziplist": (payload(Type.LIST_ZIPLIST, lambda w: w.string(ziplist(*TEXTS))), "LRANGE k 0 -1", TEXTS),
    "quicklist": (payload(Type.LIST_QUICKLIST, _quicklist, 9), "LRANGE k 0 -1", [*TEXTS, b"last"]),
    "scores as texts": (
        payload(Type.ZSET, _scored),
        "ZRANGE k 0 -1 WITHSCORES",
        [b"c", b"-inf", b"a", b"1.5", b"7", b"17", b"b", b"inf"],
    ),
    "ziplist of scores": (
        payload(Type.ZSET_ZIPLIST, lambda w: w.string(ziplist(*_SCORES))),
        "ZRANGE k 0 -1 WITHSCORES",
        _SCORES,
    ),
    "zipmap": (payload(Type.HASH_ZIPMAP, lambda w: w.string(zipmap(FIELDS))), "HGETALL k", FLAT),
    "ziplist of fields": (payload(Type.HASH_ZIPLIST, lambda w: w.string(ziplist(*FLAT))), "HGETALL k", FLAT),
    "hash of pairs": (
        payload(Type.HASH, _pairs),
        "HGETALL k",
        [word for text in TEXTS for word in (text, text)],
    ),
}
