"""Streams, and the groups of consumers that share their entries out.

Ids are integers in here; see types/stream_id.py.  Waiting for entries is asking again once a key has changed: `$` is
replaced by the id that it stood for, so that the answer is the same as if the client had waited inside the command.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from kora.engine.client import Client
from kora.engine.key_specs import keys_after
from kora.engine.registry import Family
from kora.errors import CommandError, NoSuchKey, SyntaxFault, wrong_arity
from kora.resp.reply import NULL_ARRAY, OK, Pairs, Reply
from kora.types.id_list import IdList
from kora.types.number import INT64_MAX, format_integer, parse_integer
from kora.types.stream import NEVER, UNKNOWN, Consumer, Entry, Group, Pending, Stream
from kora.types.stream_id import (
    ID_MAX,
    ID_MIN,
    NUMBER_MAX,
    InvalidId,
    format_id,
    parse_bound,
    parse_id,
    parse_new_id,
)

stream = Family("stream")

_CHANGING: Final = ("nondeterministic_output",)
_WORDS_BYTES_MAX: Final = 1 << 30  # STREAM_LISTPACK_MAX_SIZE
_TRIM_USAGE: Final = "<strategy=MAXLEN | MINID> [operator=equal== | approximately=~] threshold [LIMIT count:int]"


def _entry_replies(found: Iterable[tuple[int, Entry]]) -> list[Reply]:
    return [[b"%d-%d" % (entry_id >> 64, entry_id & NUMBER_MAX), entry] for entry_id, entry in found]


# Adding and removing entries


@dataclass
class _Trimming:
    """What XADD and XTRIM were told of trimming."""

    strategy: bytes = b""  # MAXLEN or MINID
    threshold: int = 0
    approximate: bool = False
    limit: int | None = None

    def trim(self, target: Stream) -> int:
        trim = target.keep if self.strategy == b"MAXLEN" else target.keep_since
        return trim(self.threshold, self.approximate, self.limit or 0) if self.strategy else 0


@dataclass
class _Addition:
    trimming: _Trimming = field(default_factory=_Trimming)
    is_made: bool = True  # a stream that is not there: NOMKSTREAM
    entry_id: int | None = None
    is_numbered: bool = True  # the number of the id is given, too
    place: int = 2  # of the id


def _parse_addition(client: Client, argv: list[bytes], is_addition: bool) -> _Addition:
    """The options of XADD, up to the id, or of XTRIM."""
    addition = _Addition()
    trimming = addition.trimming
    place = 2
    while place < len(argv):
        word = argv[place]
        option = word.upper()
        has_more = place + 1 < len(argv)
        if is_addition and word == b"*":
            break
        if option in (b"MAXLEN", b"MINID") and has_more:
            if trimming.strategy:
                raise CommandError("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
            trimming.approximate = False
            if argv[place + 1] in (b"~", b"=") and place + 2 < len(argv):
                trimming.approximate = argv[place + 1] == b"~"
                place += 1
            trimming.strategy = option
            trimming.threshold = _parse_threshold(option, argv[place + 1])
            place += 2
        elif option == b"LIMIT" and has_more:
            trimming.limit = parse_integer(argv[place + 1])
            if trimming.limit < 0:
                raise CommandError("ERR The LIMIT argument must be >= 0.")
            place += 2
        elif is_addition and option == b"NOMKSTREAM":
            addition.is_made = False
            place += 1
        elif is_addition:
            addition.entry_id, is_open = parse_new_id(word)
            addition.is_numbered = not is_open
            break
        else:
            raise SyntaxFault
    addition.place = place
    _settle_limit(client, trimming, is_addition)
    return addition


def _parse_threshold(strategy: bytes, text: bytes) -> int:
    if strategy == b"MINID":
        return parse_id(text)
    length = parse_integer(text)
    if length < 0:
        raise CommandError("ERR The MAXLEN argument must be >= 0.")
    return length


def _settle_limit(client: Client, trimming: _Trimming, is_addition: bool) -> None:
    if trimming.limit and not trimming.strategy:
        raise CommandError("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
    if not is_addition and not trimming.strategy:
        raise CommandError("ERR syntax error, XTRIM must be called with a trimming strategy")
    if trimming.limit is not None:
        if not trimming.approximate and client.engine.is_replaying:
            # Redis' journals have what was trimmed by ~ as =, with the LIMIT that there was.
            trimming.limit = None
        elif not trimming.approximate:
            raise CommandError("ERR syntax error, LIMIT cannot be used without the special ~ option")
    elif trimming.approximate:
        # So that a trim never takes long: 100 blocks.
        blocks_max = 100 * client.engine.limits.stream_node_max_entries
        trimming.limit = min(blocks_max, 1_000_000) if blocks_max > 0 else 10_000


@stream(
    f"XADD key [NOMKSTREAM] [trim={_TRIM_USAGE}] <id_or_auto=auto_id=* | id> field value [field value ...]",
    "Appends an entry to a stream, with an id that is given or made up; creates the stream if it is not there.",
    flags="write denyoom fast",
    since="5.0.0",
    complexity="O(1), and O(N) where trimming removes N entries.",
    access="RW update",
    tips=_CHANGING,
)
def xadd(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    addition = None if argv[2] == b"*" else _parse_addition(client, argv, is_addition=True)
    words = argv[3:] if addition is None else argv[addition.place + 1 :]
    if len(words) < 2 or len(words) % 2:
        raise wrong_arity("xadd")
    if addition is not None and addition.entry_id == ID_MIN and addition.is_numbered:
        raise CommandError("ERR The ID specified in XADD must be greater than 0-0")
    db = client.db
    target = db.find(key, Stream)
    if target is None:
        if addition is not None and not addition.is_made:
            return None
        target = db.make(Stream)
    last_id = target.last_id
    if last_id == ID_MAX:
        raise CommandError("ERR The stream has exhausted the last possible ID, unable to add more items")
    if addition is None or addition.entry_id is None:
        entry_id = target.next_id(client.engine.clock.wall_ms())
    else:
        entry_id = addition.entry_id
        if not addition.is_numbered and entry_id >> 64 == last_id >> 64 and last_id & NUMBER_MAX != NUMBER_MAX:
            entry_id = last_id + 1
        if entry_id <= last_id:
            raise CommandError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    if sum(map(len, words)) > _WORDS_BYTES_MAX:
        raise CommandError("ERR Elements are too large to be stored")
    target.add(entry_id, words)
    trimmed = 0 if addition is None else addition.trimming.trim(target)
    db.updated(key, target)
    # How far an approximate trim goes depends on settings.
    trim = (b"MAXLEN", b"=", b"%d" % len(target)) if trimmed else ()
    client.engine.journal.instead(db, b"XADD", key, *trim, format_id(entry_id), *words)
    db.notify(b"xadd", key)
    if trimmed:
        db.notify(b"xtrim", key)
    return format_id(entry_id)


@stream(
    "XLEN key",
    "Returns how many entries a stream has.",
    flags="readonly fast",
    since="5.0.0",
    access="RO",
)
def xlen(client: Client, argv: list[bytes]) -> Reply:
    found = client.db.read(argv[1], Stream)
    return 0 if found is None else len(found)


@stream(
    "XDEL key id [id ...]",
    "Removes entries from a stream, and returns how many were there.",
    flags="write fast",
    since="5.0.0",
    complexity="O(1) for each entry.",
    access="RW delete",
)
def xdel(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    db = client.db
    target = db.find(key, Stream)
    if target is None:
        return 0
    deleted = sum(map(target.delete, [parse_id(text) for text in argv[2:]]))
    if deleted:
        db.updated(key, target)
        db.notify(b"xdel", key)
    return deleted


@stream(
    f"XTRIM key <trim={_TRIM_USAGE}>",
    "Removes the oldest entries of a stream, up to a length or an id, and returns how many.",
    flags="write",
    since="5.0.0",
    complexity="O(N) where N is the number of entries removed.",
    access="RW delete",
    tips=_CHANGING,
)
def xtrim(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    trimming = _parse_addition(client, argv, is_addition=False).trimming
    db = client.db
    target = db.find(key, Stream)
    if target is None:
        return 0
    trimmed = trimming.trim(target)
    if trimmed:
        db.updated(key, target)
        client.engine.journal.instead(db, b"XTRIM", key, b"MAXLEN", b"=", b"%d" % len(target))
        db.notify(b"xtrim", key)
    return trimmed


@stream(
    "XSETID key last-id [ENTRIESADDED entries_added:int] [MAXDELETEDID max_deleted_entry_id]",
    "Sets the last id of a stream, as replication and loading do; for internal use.",
    flags="write denyoom fast",
    since="5.0.0",
    access="RW update",
)
def xsetid(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    last_id = parse_id(argv[2])
    entries_added, max_deleted_id = -1, ID_MIN
    place = 3
    while place < len(argv):
        option = argv[place].upper()
        if place + 1 == len(argv) or option not in (b"ENTRIESADDED", b"MAXDELETEDID"):
            raise SyntaxFault
        if option == b"ENTRIESADDED":
            entries_added = parse_integer(argv[place + 1])
            if entries_added < 0:
                raise CommandError("ERR entries_added must be positive")
        else:
            max_deleted_id = parse_id(argv[place + 1])
            if last_id < max_deleted_id:
                raise CommandError("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
        place += 2
    db = client.db
    target = db.find(key, Stream)
    if target is None:
        raise NoSuchKey
    if last_id < target.max_deleted_id:
        raise CommandError("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
    if last_id < target.top_id:
        raise CommandError("ERR The ID specified in XSETID is smaller than the target stream top item")
    if 0 <= entries_added < len(target):
        raise CommandError("ERR The entries_added specified in XSETID is smaller than the target stream length")
    target.last_id = last_id
    if entries_added >= 0:
        target.entries_added = entries_added
    if max_deleted_id:
        target.max_deleted_id = max_deleted_id
    db.updated(key, target)
    db.notify(b"xsetid", key)
    return OK


# Reading


def _parse_interval(start: bytes, stop: bytes) -> tuple[int, int]:
    """The bounds of a range, both included; each may be excluded with `(`, and lack its number."""
    first = _parse_bound(start, 0)
    if start[:1] == b"(" and len(start) > 1:
        first += 1
        if first > ID_MAX:
            raise CommandError("ERR invalid start ID for the interval")
    last = _parse_bound(stop, NUMBER_MAX)
    if stop[:1] == b"(" and len(stop) > 1:
        last -= 1
        if last < ID_MIN:
            raise CommandError("ERR invalid end ID for the interval")
    return first, last


def _parse_bound(text: bytes, missing_number: int) -> int:
    if text[:1] == b"(" and len(text) > 1:
        return parse_id(text[1:], missing_number)
    return parse_bound(text, missing_number)


def _range(client: Client, argv: list[bytes], reverse: bool) -> Reply:
    start, stop = (argv[3], argv[2]) if reverse else (argv[2], argv[3])
    first, last = _parse_interval(start, stop)
    count = -1
    for place in range(4, len(argv), 2):
        if argv[place].upper() != b"COUNT" or place + 1 == len(argv):
            raise SyntaxFault
        count = max(0, parse_integer(argv[place + 1]))
    found = client.db.read(argv[1], Stream)
    if found is None:
        return []
    if not count:
        return NULL_ARRAY
    return _entry_replies(found.range(first, last, max(0, count), reverse))


@stream(
    "XRANGE key start end [COUNT count:int]",
    "Returns the entries of a stream between two ids, oldest first.",
    flags="readonly",
    since="5.0.0",
    complexity="O(log(M)+N) where M is the number of blocks, and N that of the entries returned.",
    access="RO access",
)
def xrange(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, reverse=False)


@stream(
    "XREVRANGE key end start [COUNT count:int]",
    "Returns the entries of a stream between two ids, newest first.",
    flags="readonly",
    since="5.0.0",
    complexity="O(log(M)+N) where M is the number of blocks, and N that of the entries returned.",
    access="RO access",
)
def xrevrange(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, reverse=True)


@dataclass
class _Reading:
    """What XREAD and XREADGROUP were told, but for the ids."""

    count: int = 0  # 0: all
    timeout_ms: int | None = None  # None: do not wait; 0: for ever
    group: bytes | None = None
    consumer: bytes = b""
    needs_acknowledgement: bool = True
    place: int = 0  # of the first key
    keys: list[bytes] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)  # ids, not parsed yet: that comes after looking for the keys


def _parse_reading(client: Client, argv: list[bytes], name: str) -> _Reading:
    reading = _Reading()
    takes_group = name == "xreadgroup"
    place = 1
    while place < len(argv):
        option = argv[place].upper()
        more = len(argv) - place - 1
        if option == b"BLOCK" and more:
            if client.is_script:
                raise CommandError(f"ERR {_text(argv[0])} command is not allowed with BLOCK option from scripts")
            reading.timeout_ms = _parse_timeout_ms(argv[place + 1], client.engine.clock.wall_ms())
            place += 2
        elif option == b"COUNT" and more:
            reading.count = max(0, parse_integer(argv[place + 1]))
            place += 2
        elif option == b"STREAMS" and more:
            reading.place = place + 1
            break
        elif option == b"GROUP" and more >= 2:
            if not takes_group:
                raise CommandError("ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
            reading.group, reading.consumer = argv[place + 1 : place + 3]
            place += 3
        elif option == b"NOACK":
            if not takes_group:
                raise CommandError("ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
            reading.needs_acknowledgement = False
            place += 1
        else:
            raise SyntaxFault
    if not reading.place:
        raise SyntaxFault
    words = argv[reading.place :]
    if len(words) % 2:
        sign = ">" if takes_group else "$"
        raise CommandError(
            f"ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
        )
    reading.keys, reading.texts = words[: len(words) // 2], words[len(words) // 2 :]
    if takes_group and reading.group is None:
        raise CommandError("ERR Missing GROUP option for XREADGROUP")
    return reading


def _parse_timeout_ms(text: bytes, now_ms: int) -> int:
    timeout_ms = parse_integer(text, CommandError("ERR timeout is not an integer or out of range"))
    if timeout_ms < 0:
        raise CommandError("ERR timeout is negative")
    if timeout_ms > INT64_MAX - now_ms:
        raise CommandError("ERR timeout is out of range")
    return timeout_ms


_READ_USAGE: Final = "streams=STREAMS <key [key ...] id [id ...]>"


@stream(
    f"XREAD [COUNT count:int] [BLOCK milliseconds:int] {_READ_USAGE}",
    "Returns the entries of one or more streams after given ids; waits for some if it is told to.",
    flags="readonly blocking",
    since="5.0.0",
    complexity="O(log(M)+N) for each stream, where M is the number of blocks, and N that of the entries returned.",
    access="RO access",
    keys=(keys_after("STREAMS", 1, last=-1, limit=2),),
)
def xread(client: Client, argv: list[bytes]) -> Reply:
    reading = _parse_reading(client, argv, "xread")
    read = client.db.read
    last_ids = []
    for key, text in zip(reading.keys, reading.texts, strict=True):
        found = read(key, Stream)
        if text == b"$":
            last_ids.append(ID_MIN if found is None else found.last_id)
        elif text == b">":
            raise CommandError(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
            )
        else:
            last_ids.append(parse_id(text))
    replies = []
    for key, last_id in zip(reading.keys, last_ids, strict=True):
        found = read(key, Stream)
        if found is not None and len(found) and found.top_id > last_id:
            replies.append((key, _entry_replies(found.range(last_id + 1, ID_MAX, reading.count))))
    if replies:
        return Pairs(replies)
    if reading.timeout_ms is None:
        return NULL_ARRAY
    # What came after `$` is known only now.
    again = argv[: reading.place + len(reading.keys)] + list(map(format_id, last_ids))
    return client.wait(reading.keys, reading.timeout_ms / 1000, NULL_ARRAY, again)


@stream(
    "XREADGROUP group_consumer=GROUP group consumer [COUNT count:int] [BLOCK milliseconds:int] [NOACK] " + _READ_USAGE,
    "Returns entries that no consumer of a group has got yet, or such as this one has and did not acknowledge.",
    flags="write blocking",
    since="5.0.0",
    complexity="O(log(M)+N) for each stream, where M is the number of blocks, and N that of the entries returned.",
    access="RO access",
    keys=(keys_after("STREAMS", 4, last=-1, limit=2),),
)
def xreadgroup(client: Client, argv: list[bytes]) -> Reply:
    reading = _parse_reading(client, argv, "xreadgroup")
    db = client.db
    groups, last_ids = [], []
    for key, text in zip(reading.keys, reading.texts, strict=True):
        groups.append(_group_to_read(client, key, reading.group or b""))
        if text == b"$":
            raise CommandError(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this"
                " consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return"
                " an empty result set."
            )
        # The greatest id stands for `>`, since nothing can come after it.
        last_ids.append(ID_MAX if text == b">" else parse_id(text))
    replies = []
    for key, group, last_id in zip(reading.keys, groups, last_ids, strict=True):
        source = db.read(key, Stream)
        if source is None:
            continue
        has_new = len(source) > 0 and source.top_id > group.last_id
        if not has_new and client.engine.blocking.is_retrying(client):
            # It is asked again because of something else: its consumer may be gone, and must not come back by that.
            continue
        consumer = _take_consumer(client, key, source, group, reading.consumer)
        if last_id != ID_MAX:
            replies.append((key, _history(client, key, source, group, consumer, last_id, reading.count)))
        elif has_new:
            replies.append((key, _deliver_new(client, key, source, group, consumer, reading)))
        db.resized(key, source)
    if replies:
        return Pairs(replies)
    if reading.timeout_ms is None:
        return NULL_ARRAY
    return client.wait(reading.keys, reading.timeout_ms / 1000, NULL_ARRAY, argv, wakes_on_loss=True)


def _group_to_read(client: Client, key: bytes, name: bytes) -> Group:
    found = client.db.read(key, Stream)
    group: Group | None = None if found is None else found.groups.get(name)
    if group is None:
        raise _no_group(f"No such key '{_text(key)}' or consumer group '{_text(name)}' in XREADGROUP with GROUP option")
    return group


def _take_consumer(client: Client, key: bytes, source: Stream, group: Group, name: bytes) -> Consumer:
    """The consumer who asks, created if it is new to the group."""
    now_ms = client.engine.clock.wall_ms()
    consumer = group.consumers.get(name)
    client.engine.journal.nothing()
    if consumer is None:
        consumer = source.create_consumer(group, name, now_ms)
        client.engine.journal.instead(client.db, b"XGROUP", b"CREATECONSUMER", key, group.name, name)
        client.db.notify(b"xgroup-createconsumer", key)
    consumer.seen_ms = now_ms
    return consumer


def _deliver_new(
    client: Client, key: bytes, source: Stream, group: Group, consumer: Consumer, reading: _Reading
) -> list[Reply]:
    now_ms = client.engine.clock.wall_ms()
    found = source.range(group.last_id + 1, ID_MAX, reading.count)
    for entry_id, _ in found:
        source.advance(group, entry_id)
        if reading.needs_acknowledgement:
            # It may be another's already, where XGROUP SETID went back.
            source.deliver(group, entry_id, consumer, now_ms, 1)
            consumer.active_ms = now_ms
            _journal_delivery(client, key, group, entry_id)
    _journal_group(client, key, group)
    return _entry_replies(found)


def _journal_delivery(client: Client, key: bytes, group: Group, entry_id: int) -> None:
    pending = group.pending[entry_id]
    client.engine.journal.instead(
        client.db,
        *(b"XCLAIM", key, group.name, pending.consumer.name, b"0", format_id(entry_id)),
        *(b"TIME", b"%d" % pending.delivered_ms, b"RETRYCOUNT", b"%d" % pending.deliveries, b"FORCE", b"JUSTID"),
    )


def _journal_group(client: Client, key: bytes, group: Group) -> None:
    """How far a group has read."""
    words = (format_id(group.last_id), b"ENTRIESREAD", b"%d" % group.entries_read)
    client.engine.journal.instead(client.db, b"XGROUP", b"SETID", key, group.name, *words)


def _history(
    client: Client, key: bytes, source: Stream, group: Group, consumer: Consumer, last_id: int, count: int
) -> list[Reply]:
    """What the consumer got after this id and has not acknowledged; of entries that are gone only the id."""
    now_ms = client.engine.clock.wall_ms()
    replies: list[Reply] = []
    for entry_id in consumer.ids.since(last_id + 1):
        entry = source.get(entry_id)
        if entry is not None:
            pending = group.pending[entry_id]
            pending.delivered_ms = now_ms
            pending.deliveries += 1
            _journal_delivery(client, key, group, entry_id)
        replies.append([format_id(entry_id), NULL_ARRAY if entry is None else entry])
        if len(replies) == count:
            break
    return replies


# Groups


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _no_group(what: str) -> CommandError:
    return CommandError(f"NOGROUP {what}")


def _no_group_or_key(key: bytes, name: bytes) -> CommandError:
    return _no_group(f"No such key '{_text(key)}' or consumer group '{_text(name)}'")


def _no_group_of_key(key: bytes, name: bytes) -> CommandError:
    return _no_group(f"No such consumer group '{_text(name)}' for key name '{_text(key)}'")


def _find_group(client: Client, key: bytes, name: bytes) -> tuple[Stream, Group]:
    """Of commands about entries that were delivered; counts as a look at the key.  Raises NOGROUP."""
    found = client.db.read(key, Stream)
    group = None if found is None else found.groups.get(name)
    if group is None:
        raise _no_group_or_key(key, name)
    return found, group


stream.container("XGROUP", "Manages the consumer groups of a stream.", since="5.0.0", help_since="5.0.0")


def _bad_subcommand(name: bytes, container: str) -> CommandError:
    text = _text(name[:128])
    return CommandError(f"ERR unknown subcommand or wrong number of arguments for '{text}'. Try {container} HELP.")


def _group_target(client: Client, key: bytes) -> Stream:
    found: Stream | None = client.db.find(key, Stream)
    if found is None:
        raise CommandError(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the"
            " MKSTREAM option to create an empty stream automatically."
        )
    return found


def _group_and_target(client: Client, key: bytes, name: bytes) -> tuple[Stream, Group]:
    target = _group_target(client, key)
    group = target.groups.get(name)
    if group is None:
        raise _no_group_of_key(key, name)
    return target, group


def _parse_group_options(argv: list[bytes], takes_mkstream: bool) -> tuple[bool, int]:
    """MKSTREAM, and ENTRIESREAD, where -1 stands for what is not known, as it does by default."""
    makes_stream, entries_read = False, UNKNOWN
    place = 5
    while place < len(argv):
        option = argv[place].upper()
        if takes_mkstream and option == b"MKSTREAM":
            makes_stream = True
            place += 1
        elif option == b"ENTRIESREAD" and place + 1 < len(argv):
            entries_read = parse_integer(argv[place + 1])
            if entries_read < 0 and entries_read != UNKNOWN:
                raise CommandError("ERR value for ENTRIESREAD must be positive or -1")
            place += 2
        else:
            raise _bad_subcommand(argv[1], "XGROUP")
    return makes_stream, entries_read


@stream(
    "XGROUP CREATE key groupname <id=id | new_id=$> [MKSTREAM] [ENTRIESREAD entries_read:int]",
    "Creates a consumer group that reads what comes after an id; `$` is the last id of the stream.",
    flags="write denyoom",
    since="5.0.0",
    access="RW insert",
)
def xgroup_create(client: Client, argv: list[bytes]) -> Reply:
    _, subcommand, key, name, text, *_ = argv
    makes_stream, entries_read = _parse_group_options(argv, takes_mkstream=True)
    db = client.db
    target = db.find(key, Stream)
    if target is None and not makes_stream:
        target = _group_target(client, key)
    if len(argv) > 8:
        raise _bad_subcommand(subcommand, "XGROUP")
    if text == b"$":
        last_id = ID_MIN if target is None else target.last_id
    else:
        last_id = parse_id(text)
    if target is None:
        target = db.make(Stream)
    elif name in target.groups:
        raise CommandError("BUSYGROUP Consumer Group name already exists")
    target.create_group(name, last_id, entries_read)
    db.updated(key, target)
    db.notify(b"xgroup-create", key)
    return OK


@stream(
    "XGROUP SETID key groupname <id=id | new_id=$> [ENTRIESREAD entries_read:int]",
    "Sets the id that a consumer group reads on from.",
    flags="write",
    since="5.0.0",
    access="RW update",
)
def xgroup_setid(client: Client, argv: list[bytes]) -> Reply:
    _, subcommand, key, name, text, *_ = argv
    _, entries_read = _parse_group_options(argv, takes_mkstream=False)
    target, group = _group_and_target(client, key, name)
    if len(argv) > 7:
        raise _bad_subcommand(subcommand, "XGROUP")
    group.last_id = target.last_id if text == b"$" else parse_bound(text)
    group.entries_read = entries_read
    client.db.updated(key, target)
    client.db.notify(b"xgroup-setid", key)
    return OK


@stream(
    "XGROUP DESTROY key groupname",
    "Removes a consumer group; who waits for it is told.",
    flags="write",
    since="5.0.0",
    complexity="O(N) where N is the number of entries that are not acknowledged.",
    access="RW delete",
)
def xgroup_destroy(client: Client, argv: list[bytes]) -> Reply:
    _, _, key, name = argv
    target = _group_target(client, key)
    if name not in target.groups:
        return 0
    target.destroy_group(name)
    client.db.updated(key, target)
    client.db.notify(b"xgroup-destroy", key)
    return 1


@stream(
    "XGROUP CREATECONSUMER key groupname consumername",
    "Adds a consumer to a group; they are also created when they first ask for something.",
    flags="write denyoom",
    since="6.2.0",
    access="RW insert",
)
def xgroup_createconsumer(client: Client, argv: list[bytes]) -> Reply:
    _, _, key, name, consumer_name = argv
    target, group = _group_and_target(client, key, name)
    if consumer_name in group.consumers:
        return 0
    target.create_consumer(group, consumer_name, client.engine.clock.wall_ms())
    client.db.updated(key, target)
    client.db.notify(b"xgroup-createconsumer", key)
    return 1


@stream(
    "XGROUP DELCONSUMER key groupname consumername",
    "Removes a consumer of a group, and returns how many entries it had not acknowledged.",
    flags="write",
    since="5.0.0",
    access="RW delete",
)
def xgroup_delconsumer(client: Client, argv: list[bytes]) -> Reply:
    _, _, key, name, consumer_name = argv
    target, group = _group_and_target(client, key, name)
    if consumer_name not in group.consumers:
        return 0
    pending = target.delete_consumer(group, consumer_name)
    client.db.updated(key, target)
    client.db.notify(b"xgroup-delconsumer", key)
    return pending


# What was delivered, and is not acknowledged


@stream(
    "XACK key group id [id ...]",
    "Acknowledges entries that a consumer of a group got, and returns how many of them waited for that.",
    flags="write fast",
    since="5.0.0",
    complexity="O(1) for each id.",
    access="RW update",
)
def xack(client: Client, argv: list[bytes]) -> Reply:
    _, key, name, *texts = argv
    target = client.db.read(key, Stream)
    group = None if target is None else target.groups.get(name)
    if group is None:
        return 0
    entry_ids = list(map(parse_id, texts))
    acknowledged = sum(target.acknowledge(group, entry_id) for entry_id in entry_ids)
    if acknowledged:
        client.db.resized(key, target)
    return acknowledged


@stream(
    "XPENDING key group [filters=[IDLE min-idle-time:int] start end count:int [consumer]]",
    "Returns what the consumers of a group have not acknowledged: in sum, or entry by entry.",
    flags="readonly",
    since="5.0.0",
    complexity="O(log(M)+N) where M is the number of entries that wait, and N that of those looked at.",
    access="RO access",
    tips=_CHANGING,
)
def xpending(client: Client, argv: list[bytes]) -> Reply:
    _, key, name, *words = argv
    if not words:
        return _pending_summary(_find_group(client, key, name)[1])
    if not 3 <= len(words) <= 6:
        raise SyntaxFault
    idle_ms_min = 0
    if words[0].upper() == b"IDLE":
        idle_ms_min = parse_integer(words[1])
        if len(words) < 5:
            raise SyntaxFault
        words = words[2:]
    start, stop, count_text, *consumer_name = words
    count = max(0, parse_integer(count_text))
    first, last = _parse_interval(start, stop)
    _, group = _find_group(client, key, name)
    ids = group.ids
    if consumer_name:
        consumer = group.consumers.get(consumer_name[0])
        if consumer is None:
            return []
        ids = consumer.ids
    now_ms = client.engine.clock.wall_ms()
    replies: list[Reply] = []
    for entry_id in ids.since(first):
        if entry_id > last or len(replies) >= count:
            break
        pending = group.pending[entry_id]
        idle_ms = now_ms - pending.delivered_ms
        if idle_ms_min and idle_ms < idle_ms_min:
            continue
        replies.append([format_id(entry_id), pending.consumer.name, max(0, idle_ms), pending.deliveries])
    return replies


def _pending_summary(group: Group) -> Reply:
    if not group.ids:
        return [0, None, None, NULL_ARRAY]
    consumers = [
        [consumer.name, format_integer(len(consumer.ids))] for consumer in group.sorted_consumers() if consumer.ids
    ]
    return [len(group.ids), format_id(group.ids.first), format_id(group.ids.last), consumers]


@dataclass
class _Claim:
    """The options of XCLAIM."""

    entry_ids: list[int] = field(default_factory=list)
    delivered_ms: int = -1
    deliveries: int = -1
    makes_pending: bool = False  # FORCE
    only_ids: bool = False  # JUSTID
    last_id: int = ID_MIN


_CLAIM_TIMES: Final = (b"IDLE", b"TIME", b"RETRYCOUNT")


def _parse_claim(words: list[bytes], now_ms: int) -> _Claim:
    """The ids, up to the first word that is none, and the options."""
    claim = _Claim()
    place = 0
    while place < len(words):
        try:
            claim.entry_ids.append(parse_id(words[place]))
        except InvalidId:
            break
        place += 1
    while place < len(words):
        option = words[place].upper()
        has_more = place + 1 < len(words)
        if option == b"FORCE":
            claim.makes_pending = True
        elif option == b"JUSTID":
            claim.only_ids = True
        elif option in _CLAIM_TIMES and has_more:
            error = CommandError(f"ERR Invalid {_text(option)} option argument for XCLAIM")
            place += 1
            number = parse_integer(words[place], error)
            if option == b"RETRYCOUNT":
                claim.deliveries = number
            else:
                claim.delivered_ms = now_ms - number if option == b"IDLE" else number
        elif option == b"LASTID" and has_more:
            place += 1
            claim.last_id = parse_id(words[place])
        else:
            raise CommandError(f"ERR Unrecognized XCLAIM option '{_text(words[place])}'")
        place += 1
    # Clients may reckon with clocks of their own: a time that cannot be is no mistake, but now.
    if not 0 <= claim.delivered_ms <= now_ms:
        claim.delivered_ms = now_ms
    return claim


@stream(
    "XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms:int] [TIME unix-time-milliseconds:time]"
    " [RETRYCOUNT count:int] [FORCE] [JUSTID] [LASTID id]",
    "Gives entries that wait for another consumer's acknowledgement to a consumer, and returns them.",
    flags="write fast",
    since="5.0.0",
    complexity="O(log(N)) for each id, where N is the number of entries that wait.",
    access="RW update",
    tips=_CHANGING,
)
def xclaim(client: Client, argv: list[bytes]) -> Reply:
    _, key, name, consumer_name, idle_text, *words = argv
    target, group = _find_group(client, key, name)
    idle_ms_min = parse_integer(idle_text, CommandError("ERR Invalid min-idle-time argument for XCLAIM"))
    now_ms = client.engine.clock.wall_ms()
    claim = _parse_claim(words, now_ms)
    consumer = _take_consumer(client, key, target, group, consumer_name)
    if claim.last_id > group.last_id:
        group.last_id = claim.last_id
        _journal_group(client, key, group)
    replies: list[Reply] = []
    for entry_id in claim.entry_ids:
        pending = group.pending.get(entry_id)
        entry = target.get(entry_id)
        if entry is None:
            # It was deleted, and nobody can do anything about it any more.
            _acknowledge_gone(client, key, target, group, entry_id)
            continue
        if pending is None:
            if not claim.makes_pending:
                continue
            deliveries = 1
        else:
            if idle_ms_min > 0 and now_ms - pending.delivered_ms < idle_ms_min:
                continue
            deliveries = pending.deliveries
        if claim.deliveries >= 0:
            deliveries = claim.deliveries
        elif not claim.only_ids:
            deliveries += 1
        target.deliver(group, entry_id, consumer, claim.delivered_ms, deliveries)
        consumer.active_ms = now_ms
        _journal_delivery(client, key, group, entry_id)
        replies.append(format_id(entry_id) if claim.only_ids else [format_id(entry_id), entry])
    client.db.resized(key, target)
    return replies


def _acknowledge_gone(client: Client, key: bytes, target: Stream, group: Group, entry_id: int) -> None:
    if target.acknowledge(group, entry_id):
        client.engine.journal.instead(client.db, b"XACK", key, group.name, format_id(entry_id))


# So many entries are looked at for each that is asked for, at most.
_ATTEMPTS_FACTOR: Final = 10
_CLAIM_COUNT_MAX: Final = ((1 << 63) - 1) // 16


@stream(
    "XAUTOCLAIM key group consumer min-idle-time start [COUNT count:int] [justid=JUSTID]",
    "Gives a consumer those entries from an id on that others have not acknowledged for long, and returns them.",
    flags="write fast",
    since="6.2.0",
    complexity="O(1) if COUNT is small.",
    access="RW delete",
    tips=_CHANGING,
)
def xautoclaim(client: Client, argv: list[bytes]) -> Reply:
    _, key, name, consumer_name, idle_text, start, *words = argv
    # Redis looks for the key, and counts that, before it reads the options, but tells what it found only after.
    client.db.touch(key)
    idle_ms_min = parse_integer(idle_text, CommandError("ERR Invalid min-idle-time argument for XAUTOCLAIM"))
    first, _ = _parse_interval(start, b"+")
    count, only_ids = _parse_autoclaim(words)
    target = client.db.find(key, Stream)
    group = None if target is None else target.groups.get(name)
    if group is None:
        raise _no_group_or_key(key, name)
    consumer = _take_consumer(client, key, target, group, consumer_name)
    now_ms = client.engine.clock.wall_ms()
    attempts = count * _ATTEMPTS_FACTOR
    replies: list[Reply] = []
    gone: list[int] = []
    following = ID_MIN
    for entry_id in group.ids.since(first):
        if not attempts or len(replies) + len(gone) == count:
            following = entry_id
            break
        attempts -= 1
        entry = target.get(entry_id)
        if entry is None:
            gone.append(entry_id)
            continue
        pending = group.pending[entry_id]
        if idle_ms_min > 0 and now_ms - pending.delivered_ms < idle_ms_min:
            continue
        target.deliver(group, entry_id, consumer, now_ms, pending.deliveries + (not only_ids))
        consumer.active_ms = now_ms
        _journal_delivery(client, key, group, entry_id)
        replies.append(format_id(entry_id) if only_ids else [format_id(entry_id), entry])
    for entry_id in gone:
        _acknowledge_gone(client, key, target, group, entry_id)
    client.db.resized(key, target)
    return [format_id(following), replies, list(map(format_id, gone))]


def _parse_autoclaim(words: list[bytes]) -> tuple[int, bool]:
    count, only_ids = 100, False
    place = 0
    while place < len(words):
        option = words[place].upper()
        if option == b"COUNT" and place + 1 < len(words):
            place += 1
            count = parse_integer(words[place], CommandError("ERR COUNT must be > 0"))
            if not 1 <= count <= _CLAIM_COUNT_MAX:
                raise CommandError("ERR COUNT must be > 0")
        elif option == b"JUSTID":
            only_ids = True
        else:
            raise SyntaxFault
        place += 1
    return count, only_ids


# Looking inside

stream.container(
    "XINFO", "Tells about a stream and its consumer groups.", since="5.0.0", help_since="5.0.0", acl="stream"
)


def _inspected(client: Client, key: bytes) -> Stream:
    found: Stream | None = client.db.read(key, Stream)
    if found is None:
        raise NoSuchKey
    return found


@stream(
    "XINFO STREAM key [full-block=FULL [COUNT count:int]]",
    "Tells about a stream; FULL also shows entries, groups, consumers and what these have not acknowledged.",
    flags="readonly",
    since="5.0.0",
    complexity="O(M), where M is the number of blocks; with FULL plus what is shown.",
    access="RO access",
)
def xinfo_stream(client: Client, argv: list[bytes]) -> Reply:
    _, subcommand, key, *words = argv
    found = _inspected(client, key)
    info: dict[str, Reply] = {
        "length": len(found),
        "radix-tree-keys": found.radix_keys,
        "radix-tree-nodes": found.radix_nodes(),
        "last-generated-id": format_id(found.last_id),
        "max-deleted-entry-id": format_id(found.max_deleted_id),
        "entries-added": found.entries_added,
        "recorded-first-entry-id": format_id(found.first_id),
    }
    if not words:
        ends = (found.range(ID_MIN, ID_MAX, 1, reverse) for reverse in (False, True))
        first, last = (_entry_replies(end)[0] if end else None for end in ends)
        return {**info, "groups": len(found.groups), "first-entry": first, "last-entry": last}
    if len(words) not in (1, 3) or words[0].upper() != b"FULL" or (words[1:] and words[1].upper() != b"COUNT"):
        raise _bad_subcommand(subcommand, "XINFO")
    count = parse_integer(words[2]) if words[1:] else 10
    if count < 0:
        count = 10
    entries = _entry_replies(found.range(ID_MIN, ID_MAX, count))
    return {
        **info,
        "entries": entries,
        "groups": [_group_in_full(found, group, count) for group in found.sorted_groups()],
    }


def _group_in_full(source: Stream, group: Group, count: int) -> Reply:
    pending = [
        [format_id(entry_id), waits.consumer.name, waits.delivered_ms, waits.deliveries]
        for entry_id, waits in _first_pending(group, group.ids, count)
    ]
    return {
        "name": group.name,
        "last-delivered-id": format_id(group.last_id),
        "entries-read": None if group.entries_read == UNKNOWN else group.entries_read,
        "lag": source.lag(group),
        "pel-count": len(group.ids),
        "pending": pending,
        "consumers": [_consumer_in_full(group, consumer, count) for consumer in group.sorted_consumers()],
    }


def _consumer_in_full(group: Group, consumer: Consumer, count: int) -> Reply:
    pending = [
        [format_id(entry_id), waits.delivered_ms, waits.deliveries]
        for entry_id, waits in _first_pending(group, consumer.ids, count)
    ]
    return {
        "name": consumer.name,
        "seen-time": consumer.seen_ms,
        "active-time": consumer.active_ms,
        "pel-count": len(consumer.ids),
        "pending": pending,
    }


def _first_pending(group: Group, ids: IdList, count: int) -> Iterator[tuple[int, Pending]]:
    """So many, or, where that is 0, all."""
    return ((entry_id, group.pending[entry_id]) for entry_id in islice(ids, count or None))


@stream(
    "XINFO GROUPS key",
    "Tells about the consumer groups of a stream.",
    flags="readonly",
    since="5.0.0",
    access="RO access",
)
def xinfo_groups(client: Client, argv: list[bytes]) -> Reply:
    found = _inspected(client, argv[2])
    return [
        {
            "name": group.name,
            "consumers": len(group.consumers),
            "pending": len(group.ids),
            "last-delivered-id": format_id(group.last_id),
            "entries-read": None if group.entries_read == UNKNOWN else group.entries_read,
            "lag": found.lag(group),
        }
        for group in found.sorted_groups()
    ]


@stream(
    "XINFO CONSUMERS key groupname",
    "Tells about the consumers of a group.",
    flags="readonly",
    since="5.0.0",
    access="RO access",
    tips=_CHANGING,
)
def xinfo_consumers(client: Client, argv: list[bytes]) -> Reply:
    _, _, key, name = argv
    group = _inspected(client, key).groups.get(name)
    if group is None:
        raise _no_group_of_key(key, name)
    now_ms = client.engine.clock.wall_ms()
    return [
        {
            "name": consumer.name,
            "pending": len(consumer.ids),
            "idle": max(0, now_ms - consumer.seen_ms),
            "inactive": NEVER if consumer.active_ms == NEVER else now_ms - consumer.active_ms,
        }
        for consumer in group.sorted_consumers()
    ]
