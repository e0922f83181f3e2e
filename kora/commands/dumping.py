"""Values in Redis' own serialization: DUMP gives one away, RESTORE makes a key of one."""

from typing import Any, Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, SyntaxFault
from kora.resp.reply import OK, Reply
from kora.store.fields import end_due_fields
from kora.store.keyspace import Keyspace
from kora.types.kinds import type_name
from kora.types.number import INT64_MAX, parse_integer
from kora.types.rdb.payload import WrongFoot, dump, restore
from kora.types.rdb.reader import Damaged

dumping = Family("generic")

_FREQUENCY_MAX: Final = 255


@dumping(
    "DUMP key",
    "Returns the value of a key as bytes, for RESTORE; a Redis of version 7.0 can restore them, too.",
    flags="readonly",
    since="2.6.0",
    complexity="O(N) where N is the number of bytes of the value.",
    tips=("nondeterministic_output",),
)
def dump_(client: Client, argv: list[bytes]) -> Reply:
    _, key = argv
    return dump_of(client, client.db, key) if client.db.touch(key) else None


def dump_of(client: Client, db: Keyspace, key: bytes) -> bytes | None:
    """The value of a key, serialized; None if there is none, or no longer."""
    engine = client.engine
    value = db.find(key)
    if type_name(value) == "hash" and not end_due_fields(db, key, value, engine.ends_ms()):
        return None
    return None if value is None else dump(value, engine.implementation.rdb_tools)


@dumping(
    "RESTORE key ttl:int serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds:int] [FREQ frequency:int]",
    "Creates a key whose value is what DUMP has returned.",
    flags="write denyoom",
    since="2.6.0",
    complexity="O(N) where N is the number of bytes of the value, or O(N*log(N)) for sorted sets.",
    access="OW update",
    acl="dangerous",
)
def restore_(client: Client, argv: list[bytes]) -> Reply:
    _, key, ttl, data, *words = argv
    replace, absolute, idle_s, frequency = _parse_options(words)
    db, engine = client.db, client.engine
    if not replace and db.has(key):
        raise CommandError("BUSYKEY Target key name already exists.")
    deadline_ms = parse_integer(ttl)
    if deadline_ms < 0:
        raise CommandError("ERR Invalid TTL value, must be >= 0")
    value = _read(client, data)
    if deadline_ms and not absolute:
        deadline_ms += engine.clock.wall_ms()
    # Redis' sum of 64 bits turns negative then, which is in the past.
    is_over = deadline_ms > INT64_MAX or 0 < deadline_ms <= engine.ends_ms()
    if is_over:
        if replace and db.delete(key):
            engine.journal.instead(db, b"DEL", key)
            db.notify(b"del", key)
        return OK
    if db.tells_more and db.has(key):
        db.notify(b"new", key)  # Redis deletes what it replaces
    db.set_until(key, value, deadline_ms or None)
    engine.journal.instead(db, b"RESTORE", key, b"%d" % deadline_ms, data, b"REPLACE", b"ABSTTL")
    engine.remember_use(db, key, idle_s, frequency)
    if type_name(value) == "vectorset":
        engine.indexing.note(db, key)  # its graph is to be made
    db.notify(b"restore", key)
    return OK


def _parse_options(words: list[bytes]) -> tuple[bool, bool, int | None, int | None]:
    """REPLACE, ABSTTL, IDLETIME and FREQ; the last two exclude each other."""
    replace = absolute = False
    idle_s: int | None = None
    frequency: int | None = None
    place = 0
    while place < len(words):
        word = words[place].upper()
        place += 1
        if word == b"REPLACE":
            replace = True
        elif word == b"ABSTTL":
            absolute = True
        elif word == b"IDLETIME" and place < len(words) and frequency is None:
            idle_s = parse_integer(words[place])
            if idle_s < 0:
                raise CommandError("ERR Invalid IDLETIME value, must be >= 0")
            place += 1
        elif word == b"FREQ" and place < len(words) and idle_s is None:
            frequency = parse_integer(words[place])
            if not 0 <= frequency <= _FREQUENCY_MAX:
                raise CommandError("ERR Invalid FREQ value, must be >= 0 and <= 255")
            place += 1
        else:
            raise SyntaxFault
    return replace, absolute, idle_s, frequency


def _read(client: Client, data: bytes) -> Any:
    engine = client.engine
    try:
        return restore(data, client.db.make, engine.config.proto_max_bulk_len, engine.implementation.rdb_tools)
    except WrongFoot:
        raise CommandError("ERR DUMP payload version or checksum are wrong") from None
    except Damaged as error:
        engine.log("debug", "payload of RESTORE refused", client=client.address, reason=str(error))
        raise CommandError("ERR Bad data format") from None
