"""Lists.  A blocking command that finds nothing waits, and is run again when one of its keys changes."""

from typing import Final

from kora.engine.blocking import parse_timeout
from kora.engine.client import Client
from kora.engine.registry import Family, keys_at, keys_counted
from kora.errors import CommandError, NoSuchKey, SyntaxFault, wrong_arity
from kora.resp.reply import NULL_ARRAY, OK, Reply
from kora.types.limits import check_lengths
from kora.types.list import List
from kora.types.number import INT64_MAX, parse_integer

list_ = Family("list")

_SIDE: Final = "LEFT | RIGHT"
_POP_COMPLEXITY: Final = "O(N) where N is the number of elements returned."
_PUSH_COMPLEXITY: Final = "O(1) for each element added, so O(N) for N elements."
_FIRST_COMPLEXITY: Final = "O(N) where N is the number of keys."
_MPOP_COMPLEXITY: Final = "O(N+M) where N is the number of keys, and M the number of elements returned."
# LMOVE: where it takes, and where it puts.
_MOVING: Final = ("RW access delete", "RW insert")

# Pushing


@list_(
    "LPUSH key element [element ...]",
    "Puts elements before the first of a list, one after another; creates the list if it is not there.",
    flags="write denyoom fast",
    since="1.0.0",
    complexity=_PUSH_COMPLEXITY,
    access="RW insert",
)
def lpush(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value = client.db.find(key, List)
    return _push(client, key, client.db.make(List) if value is None else value, argv[2:], from_left=True)


@list_(
    "RPUSH key element [element ...]",
    "Puts elements behind the last of a list; creates the list if it is not there.",
    flags="write denyoom fast",
    since="1.0.0",
    complexity=_PUSH_COMPLEXITY,
    access="RW insert",
)
def rpush(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value = client.db.find(key, List)
    return _push(client, key, client.db.make(List) if value is None else value, argv[2:], from_left=False)


@list_(
    "LPUSHX key element [element ...]",
    "Puts elements before the first of a list, only if the list is there.",
    flags="write denyoom fast",
    since="2.2.0",
    complexity=_PUSH_COMPLEXITY,
    access="RW insert",
)
def lpushx(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value = client.db.find(key, List)
    return 0 if value is None else _push(client, key, value, argv[2:], from_left=True)


@list_(
    "RPUSHX key element [element ...]",
    "Puts elements behind the last of a list, only if the list is there.",
    flags="write denyoom fast",
    since="2.2.0",
    complexity=_PUSH_COMPLEXITY,
    access="RW insert",
)
def rpushx(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value = client.db.find(key, List)
    return 0 if value is None else _push(client, key, value, argv[2:], from_left=False)


def _push(client: Client, key: bytes, value: List, elements: list[bytes], from_left: bool) -> int:
    check_lengths(elements)
    push = value.push_left if from_left else value.push_right
    for element in elements:
        push(element)
    db = client.db
    db.updated(key, value)
    db.notify(b"lpush" if from_left else b"rpush", key)
    return len(value)


@list_(
    "LINSERT key <where=BEFORE | AFTER> pivot element",
    "Inserts an element before or after the first that equals another.",
    flags="write denyoom",
    since="2.2.0",
    complexity="O(N) where N is the number of elements before the one that is looked for.",
    access="RW insert",
)
def linsert(client: Client, argv: list[bytes]) -> Reply:
    _, key, where, pivot, element = argv
    where = where.upper()
    if where not in (b"BEFORE", b"AFTER"):
        raise SyntaxFault
    db = client.db
    value = db.find(key, List)
    if value is None:
        return 0
    places = value.find(pivot, 1, 1, 0)
    if not places:
        return -1
    value.insert(places[0] + (where == b"AFTER"), element)
    db.updated(key, value)
    db.notify(b"linsert", key)
    return len(value)


# Popping


@list_(
    "LPOP key [count:int]",
    "Removes and returns the first element of a list, or the first few.",
    flags="write fast",
    since="1.0.0",
    complexity=_POP_COMPLEXITY,
    access="RW access delete",
)
def lpop(client: Client, argv: list[bytes]) -> Reply:
    return _pop(client, argv, "lpop", from_left=True)


@list_(
    "RPOP key [count:int]",
    "Removes and returns the last element of a list, or the last few.",
    flags="write fast",
    since="1.0.0",
    complexity=_POP_COMPLEXITY,
    access="RW access delete",
)
def rpop(client: Client, argv: list[bytes]) -> Reply:
    return _pop(client, argv, "rpop", from_left=False)


def _pop(client: Client, argv: list[bytes], command: str, from_left: bool) -> Reply:
    if len(argv) > 3:
        raise wrong_arity(command)
    key = argv[1]
    if len(argv) == 2:
        value = client.db.find(key, List)
        return None if value is None else _take(client, key, value, 1, from_left)[0]
    count = _parse_count(argv[2])
    value = client.db.find(key, List)
    if value is None:
        return NULL_ARRAY
    return _take(client, key, value, count, from_left) if count else []


def _parse_count(text: bytes) -> int:
    error = CommandError("ERR value is out of range, must be positive")
    count = parse_integer(text, error)
    if count < 0:
        raise error
    return count


def _take(client: Client, key: bytes, value: List, count: int, from_left: bool) -> list[bytes]:
    """Remove elements from an end of a list, and settle it."""
    length = len(value)
    if count == 1:
        elements = [value.pop_left() if from_left else value.pop_right()]
    elif from_left:
        count = min(count, length)
        elements = value.slice(0, count)
        value.keep(count, length)
    else:
        rest = length - min(count, length)
        elements = value.slice(rest, length)
        elements.reverse()
        value.keep(0, rest)
    _settle(client, key, value, b"lpop" if from_left else b"rpop")
    return elements


def _settle(client: Client, key: bytes, value: List, event: bytes) -> None:
    """A list has lost elements, and perhaps its last."""
    db = client.db
    is_left = db.updated(key, value)
    db.notify(event, key)
    if not is_left:
        db.notify(b"del", key)


@list_(
    f"LMPOP numkeys:int key [key ...] <where={_SIDE}> [COUNT count:int]",
    "Removes and returns elements from an end of the first list that is there.",
    flags="write",
    since="7.0.0",
    complexity=_MPOP_COMPLEXITY,
    access="RW access delete",
    keys=(keys_counted(1),),
)
def lmpop(client: Client, argv: list[bytes]) -> Reply:
    keys, from_left, count = _parse_mpop(argv[1:])
    found = _mpop(client, keys, from_left, count)
    return NULL_ARRAY if found is None else list(found)


def _parse_mpop(words: list[bytes]) -> tuple[list[bytes], bool, int]:
    """Keys, whether from the left, and how many: the words of LMPOP from numkeys on."""
    error = CommandError("ERR numkeys should be greater than 0")
    numkeys = parse_integer(words[0], error)
    if numkeys < 1:
        raise error
    if numkeys + 1 >= len(words):
        raise SyntaxFault
    from_left = _parse_side(words[numkeys + 1])
    options = words[numkeys + 2 :]
    if not options:
        return words[1 : numkeys + 1], from_left, 1
    if options[0].upper() != b"COUNT" or len(options) == 1:
        raise SyntaxFault
    error = CommandError("ERR count should be greater than 0")
    count = parse_integer(options[1], error)
    if count < 1:
        raise error
    if len(options) > 2:
        raise SyntaxFault
    return words[1 : numkeys + 1], from_left, count


def _parse_side(word: bytes) -> bool:
    """Whether LEFT is meant, and not RIGHT."""
    side = word.upper()
    if side not in (b"LEFT", b"RIGHT"):
        raise SyntaxFault
    return side == b"LEFT"


def _mpop(client: Client, keys: list[bytes], from_left: bool, count: int) -> tuple[bytes, list[bytes]] | None:
    """The first key that has a list, and some of its elements; None if no key has."""
    for key in keys:
        value = client.db.find(key, List)
        if value is not None:
            return key, _take(client, key, value, count, from_left)
    return None


# Moving


@list_(
    f"LMOVE source:key destination:key <wherefrom={_SIDE}> <whereto={_SIDE}>",
    "Takes an element from an end of a list, puts it at an end of another, or the same, and returns it.",
    flags="write denyoom",
    since="6.2.0",
    access=_MOVING,
)
def lmove(client: Client, argv: list[bytes]) -> Reply:
    _, source, target, wherefrom, whereto = argv
    return _move(client, source, target, _parse_side(wherefrom), _parse_side(whereto))


@list_(
    "RPOPLPUSH source:key destination:key",
    "Takes the last element of a list, puts it before the first of another, or the same, and returns it.",
    flags="write denyoom",
    since="1.2.0",
    access=_MOVING,
)
def rpoplpush(client: Client, argv: list[bytes]) -> Reply:
    _, source, target = argv
    return _move(client, source, target, from_left=False, to_left=True)


def _move(client: Client, source: bytes, target: bytes, from_left: bool, to_left: bool) -> bytes | None:
    """The element that was moved; None where there is none to move."""
    db = client.db
    value = db.find(source, List)
    if value is None:
        return None
    if source == target:
        other = value
    else:
        other = db.find(target, List)
        if other is None:
            other = db.make(List)
    element: bytes = value.pop_left() if from_left else value.pop_right()
    _push(client, target, other, [element], to_left)
    if source == target:
        # It is settled, and was never empty.
        db.notify(b"lpop" if from_left else b"rpop", source)
    else:
        _settle(client, source, value, b"lpop" if from_left else b"rpop")
    return element


# Waiting


@list_(
    "BLPOP key [key ...] timeout:double",
    "Removes and returns the first element of the first list that is there; waits for one while there is none.",
    flags="write noscript blocking",
    since="2.0.0",
    complexity=_FIRST_COMPLEXITY,
    access="RW access delete",
    keys=(keys_at(1, -2),),
)
def blpop(client: Client, argv: list[bytes]) -> Reply:
    return _pop_or_wait(client, argv, from_left=True)


@list_(
    "BRPOP key [key ...] timeout:double",
    "Removes and returns the last element of the first list that is there; waits for one while there is none.",
    flags="write noscript blocking",
    since="2.0.0",
    complexity=_FIRST_COMPLEXITY,
    access="RW access delete",
    keys=(keys_at(1, -2),),
)
def brpop(client: Client, argv: list[bytes]) -> Reply:
    return _pop_or_wait(client, argv, from_left=False)


def _pop_or_wait(client: Client, argv: list[bytes], from_left: bool) -> Reply:
    timeout_s = parse_timeout(argv[-1])
    keys = argv[1:-1]
    found = _mpop(client, keys, from_left, 1)
    if found is None:
        return client.wait(keys, timeout_s, NULL_ARRAY, argv)
    key, elements = found
    client.engine.journal.instead(client.db, b"LPOP" if from_left else b"RPOP", key)
    return [key, elements[0]]


@list_(
    f"BLMPOP timeout:double numkeys:int key [key ...] <where={_SIDE}> [COUNT count:int]",
    "Removes and returns elements from an end of the first list that is there; waits for one while there is none.",
    flags="write blocking",
    since="7.0.0",
    complexity=_MPOP_COMPLEXITY,
    access="RW access delete",
    keys=(keys_counted(2),),
)
def blmpop(client: Client, argv: list[bytes]) -> Reply:
    keys, from_left, count = _parse_mpop(argv[2:])
    timeout_s = parse_timeout(argv[1])
    found = _mpop(client, keys, from_left, count)
    if found is None:
        return client.wait(keys, timeout_s, NULL_ARRAY, argv)
    key, elements = found
    client.engine.journal.instead(client.db, b"LPOP" if from_left else b"RPOP", key, b"%d" % len(elements))
    return [key, elements]


@list_(
    f"BLMOVE source:key destination:key <wherefrom={_SIDE}> <whereto={_SIDE}> timeout:double",
    "Moves an element from an end of a list to an end of another, as LMOVE; waits for one while there is none.",
    flags="write denyoom noscript blocking",
    since="6.2.0",
    access=_MOVING,
)
def blmove(client: Client, argv: list[bytes]) -> Reply:
    from_left, to_left = _parse_side(argv[3]), _parse_side(argv[4])
    return _move_or_wait(client, argv, from_left, to_left)


@list_(
    "BRPOPLPUSH source:key destination:key timeout:double",
    "Moves the last element of a list before the first of another, as RPOPLPUSH; waits for one while there is none.",
    flags="write denyoom noscript blocking",
    since="2.2.0",
    access=_MOVING,
)
def brpoplpush(client: Client, argv: list[bytes]) -> Reply:
    return _move_or_wait(client, argv, from_left=False, to_left=True)


def _move_or_wait(client: Client, argv: list[bytes], from_left: bool, to_left: bool) -> Reply:
    source, target = argv[1:3]
    timeout_s = parse_timeout(argv[-1])
    element = _move(client, source, target, from_left, to_left)
    if element is not None:
        sides = [b"LEFT" if is_left else b"RIGHT" for is_left in (from_left, to_left)]
        client.engine.journal.instead(client.db, b"LMOVE", source, target, *sides)
        return element
    reply = client.wait((source,), timeout_s, NULL_ARRAY, argv)
    # Where nobody may wait Redis answers as LMOVE; but when the time is over as BLPOP.
    return None if reply is NULL_ARRAY else reply


# Looking, and changing inside


@list_("LLEN key", "Returns how many elements a list has.", flags="readonly fast", since="1.0.0", access="RO")
def llen(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], List)
    return 0 if value is None else len(value)


@list_(
    "LINDEX key index:int",
    "Returns the element at a place, counted from 0, or from -1 at the end.",
    flags="readonly",
    since="1.0.0",
    complexity="O(log N) where N is the number of elements.",
)
def lindex(client: Client, argv: list[bytes]) -> Reply:
    _, key, text = argv
    value = client.db.read(key, List)
    if value is None:
        return None
    index = _place(parse_integer(text), len(value))
    return None if index is None else value.get(index)


def _place(index: int, length: int) -> int | None:
    """A place counted from the left; None if it is outside."""
    if index < 0:
        index += length
    return index if 0 <= index < length else None


@list_(
    "LSET key index:int element",
    "Replaces the element at a place.",
    flags="write denyoom",
    since="1.0.0",
    complexity="O(log N) where N is the number of elements.",
    access="RW update",
)
def lset(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, element = argv
    db = client.db
    value = db.find(key, List)
    if value is None:
        raise NoSuchKey
    index = _place(parse_integer(text), len(value))
    if index is None:
        raise CommandError("ERR index out of range")
    value.set(index, element)
    db.updated(key, value)
    db.notify(b"lset", key)
    return OK


@list_(
    "LRANGE key start:int stop:int",
    "Returns the elements between two places, both included.",
    flags="readonly",
    since="1.0.0",
    complexity="O(log N+M) where N is the number of elements, and M the number of those returned.",
)
def lrange(client: Client, argv: list[bytes]) -> Reply:
    _, key, first, last = argv
    start, stop = parse_integer(first), parse_integer(last)
    value = client.db.read(key, List)
    if value is None:
        return []
    return value.slice(*_range(start, stop, len(value)))


@list_(
    "LTRIM key start:int stop:int",
    "Removes all elements but those between two places, both included.",
    flags="write",
    since="1.0.0",
    complexity="O(N) where N is the number of elements removed.",
    access="RW delete",
)
def ltrim(client: Client, argv: list[bytes]) -> Reply:
    _, key, first, last = argv
    start, stop = parse_integer(first), parse_integer(last)
    value = client.db.find(key, List)
    if value is not None:
        value.keep(*_range(start, stop, len(value)))
        _settle(client, key, value, b"ltrim")
    return OK


def _range(start: int, stop: int, length: int) -> tuple[int, int]:
    """Places counted from the left, the second behind the last element of the range."""
    if start < 0:
        start = max(0, start + length)
    if stop < 0:
        stop += length
    stop = min(stop + 1, length)
    return (start, stop) if start < stop else (0, 0)


@list_(
    "LREM key count:int element",
    "Removes elements that equal another: all (0), or so many from the left or, negative, from the right.",
    flags="write",
    since="1.0.0",
    complexity="O(N+M) where N is the number of elements looked at, and M the number of those removed.",
    access="RW delete",
)
def lrem(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, element = argv
    count = _parse_signed(text)
    value = client.db.find(key, List)
    if value is None:
        return 0
    removed = value.remove(element, count)
    if removed:
        _settle(client, key, value, b"lrem")
    return removed


def _parse_signed(text: bytes) -> int:
    """An integer that has an opposite."""
    number = parse_integer(text)
    if number < -INT64_MAX:
        raise CommandError(f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}")
    return number


@list_(
    "LPOS key element [RANK rank:int] [COUNT num-matches:int] [MAXLEN len:int]",
    "Returns the place of an element that equals another, or the places of several.",
    flags="readonly",
    since="6.0.6",
    complexity="O(N) where N is the number of elements looked at.",
)
def lpos(client: Client, argv: list[bytes]) -> Reply:
    _, key, element, *words = argv
    rank, count, max_len = 1, None, 0
    if len(words) % 2:
        words = [*words[:-1], b"", b""]  # an option without its value is reported in its turn
    for word, text in zip(words[::2], words[1::2], strict=True):
        option = word.upper()
        if option == b"RANK":
            rank = _parse_signed(text)
            if not rank:
                raise CommandError(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative"
                    " to start from the end of the list"
                )
        elif option == b"COUNT":
            count = _parse_not_negative(text, "COUNT")
        elif option == b"MAXLEN":
            max_len = _parse_not_negative(text, "MAXLEN")
        else:
            raise SyntaxFault
    value = client.db.read(key, List)
    if value is None:
        return None if count is None else []
    places = value.find(element, rank, 1 if count is None else count, max_len)
    if count is None:
        return places[0] if places else None
    return places


def _parse_not_negative(text: bytes, option: str) -> int:
    error = CommandError(f"ERR {option} can't be negative")
    number = parse_integer(text, error)
    if number < 0:
        raise error
    return number
