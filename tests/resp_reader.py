"""A small reader of replies, apart from hiredis, so that tests see exactly what is on the wire.

Statuses become str, bulks and verbatim texts bytes, errors CommandError, null arrays NULL_ARRAY, pushes Push.
"""

from typing import Any

from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY, Push


def read_replies(data: bytes) -> list[Any]:
    """All replies in some bytes, which must end where a reply ends."""
    replies = []
    place = 0
    while place < len(data):
        reply, place = read_reply(data, place)
        replies.append(reply)
    return replies


def read_reply(data: bytes, place: int = 0) -> tuple[Any, int]:
    stop = data.index(b"\r\n", place)
    kind, text = data[place : place + 1], data[place + 1 : stop]
    place = stop + 2
    if kind == b"+":
        return text.decode(), place
    if kind == b"-":
        return CommandError(text.decode("utf-8", "surrogateescape")), place
    if kind == b":":
        return int(text), place
    if kind == b"(":
        return int(text), place
    if kind == b",":
        return float(text), place
    if kind == b"#":
        return text == b"t", place
    if kind == b"_":
        return None, place
    if kind in b"$=":
        size = int(text)
        if size < 0:
            return None, place
        assert data[place + size : place + size + 2] == b"\r\n"
        body = data[place : place + size]
        return body[4:] if kind == b"=" else body, place + size + 2
    count = int(text)
    if count < 0:
        return NULL_ARRAY, place
    items = []
    for _ in range(count * (2 if kind in b"%|" else 1)):
        item, place = read_reply(data, place)
        items.append(item)
    if kind == b"%":
        return dict(zip(items[::2], items[1::2], strict=True)), place
    if kind == b"|":
        return read_reply(data, place)
    if kind == b"~":
        return set(items), place
    if kind == b">":
        return Push(items), place
    assert kind == b"*", kind
    return items, place
