"""What an engine holds, as plain data that can be compared; and loading it from a file."""

from pathlib import Path
from typing import Any

from kora.engine.engine import Engine
from kora.engine.loading import Loading
from kora.persist.loading import Report, load_rdb, run
from kora.types.stream_id import ID_MAX


def contents(engine: Engine) -> dict[tuple[int, bytes], tuple[Any, int | None]]:
    """By database and key: the value, and when it ends; without what has ended by now."""
    now_ms = engine.clock.wall_ms()
    found = {}
    for keyspace in engine.databases.used():
        for slot in range(16384):
            for key in keyspace.keys_in_slot(slot, 1 << 30):
                found[keyspace.index, key] = (None, keyspace.deadline(key))
        for place in [place for place in found if place[0] == keyspace.index]:
            value = keyspace.find(place[1])
            if value is None:
                del found[place]
            else:
                found[place] = (plain(value, now_ms), found[place][1])
    return {place: found[place] for place in found if found[place][0] != {}}


def plain(value: Any, now_ms: int) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    match value.kind:
        case "hash":
            words = value.flat()
            fields = {field: (text, value.deadline(field)) for field, text in zip(words[::2], words[1::2], strict=True)}
            return {field: row for field, row in fields.items() if row[1] is None or row[1] > now_ms}
        case "list":
            return value.slice(0, len(value))
        case "set":
            return frozenset(value.members())
        case "zset":
            return tuple(value.slice(0, len(value)))
        case "stream":
            groups = {
                name: (group.last_id, sorted(group.pending), sorted(group.consumers))
                for name, group in value.groups.items()
            }
            return list(value.range(0, ID_MAX)), value.last_id, value.entries_added, groups
        case "vectorset":
            return {name: value.get(value.ids()[place]).tobytes() for place, name in enumerate(value.ids())}
    raise AssertionError(value.kind)


def load(engine: Engine, path: Path) -> Report:
    """Have an engine load a snapshot."""
    with path.open("rb") as file:
        size_bytes = path.stat().st_size
        return run(load_rdb(engine, file, size_bytes, Loading(engine.clock, size_bytes), path=str(path)))
