"""Vector sets: vectors with ids under a key, and the nearest of them to a vector.

VECSET, VECQUERY and VECDEL are those of the first Kora, with options behind; VECGET and VECINFO are new.
"""

import struct
import sys
from array import array
from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError, NotAFloat, SyntaxFault
from kora.resp.reply import PrintedDouble, Reply
from kora.types.number import INT64_MAX, parse_float, parse_integer
from kora.types.vector_distance import COMPONENT_BYTES, L2, METRICS
from kora.types.vector_set import VectorSet

vectors = Family("vector")

_SIZE_MAX: Final = 32_768
# Squares of these, added up, are within float32 for vectors of any size: graphs compute with it.
_COMPONENT_MAX: Final = 1e15
_EFFORT_MAX: Final = 10_000
# Components in a set whose searches take so long, about 0.1 ms, that others should have their turn before the next.
_LENGTHY: Final = 200_000
_DIGITS: Final = b"0123456789+-.eE"


class ComponentOutOfRange(CommandError):
    message = "ERR vector components must be between -1e15 and 1e15"


def _vector(words: list[bytes]) -> "array[float]":
    """The components of these words, rounded to float32."""
    try:
        # float() takes more than Redis does, but not of these characters.
        if b"".join(words).translate(None, _DIGITS):
            raise ValueError
        numbers = list(map(float, words))
    except ValueError:
        numbers = [parse_float(word, NotAFloat) for word in words]
    return _checked(array("f", numbers))


def _vector_of_blob(blob: bytes) -> "array[float]":
    if len(blob) % COMPONENT_BYTES:
        raise CommandError("ERR the bytes of FP32 must be 4 for each component")
    vector = array("f", blob)
    if sys.byteorder == "big":
        vector.byteswap()
    return _checked(vector)


def _checked(vector: "array[float]") -> "array[float]":
    # Neither is true of nan.
    if not all(-_COMPONENT_MAX <= component <= _COMPONENT_MAX for component in vector):
        raise ComponentOutOfRange
    return vector


def _mismatch(value: VectorSet, size: int) -> CommandError:
    return CommandError(f"ERR dimension mismatch: vectors of the set have {value.size}, got {size}")


def _note_work(client: Client, key: bytes, value: VectorSet) -> None:
    if value.has_work:
        client.engine.indexing.note(client.db, key)


@vectors(
    "VECSET key dim:int <vector=FP32 blob | component:double [component:double ...]> [ID id:int]"
    " [METRIC <metric=L2 | COSINE | IP>]",
    "Adds a vector to a vector set, or sets that of an id, and returns its id; creates the set if it is not there.",
    flags="write denyoom",
    since="0.1.0",
    complexity="O(D) for D dimensions; O(D*log(N)) where the set has many vectors and they come fast.",
    access="RW update",
)
def vecset(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    size = _size(argv[2])
    if argv[3].upper() == b"FP32":
        vector = _vector_of_blob(argv[4]) if len(argv) > 4 else array("f")
        options = argv[5:]
        if len(vector) != size:
            raise CommandError(f"ERR {size} vector components expected, got {len(vector)}")
    else:
        words, options = argv[3 : 3 + size], argv[3 + size :]
        if len(words) < size or (options and _is_number(options[0])):
            numbers = _count_numbers(words)
            raise CommandError(f"ERR {size} vector components expected, got {'more' if numbers == size else numbers}")
        vector = _vector(words)
    vector_id, metric = _set_options(options)
    db = client.db
    value: VectorSet | None = db.find(key, VectorSet)
    if value is None:
        value = db.make(VectorSet)
        value.shape(size, metric or L2)
    elif value.size != size:
        raise _mismatch(value, size)
    elif metric and value.metric != metric:
        raise CommandError(f"ERR metric mismatch: the set has {value.metric.upper()}, got {metric.upper()}")
    if vector_id is None:
        if value.last_id == INT64_MAX:
            raise CommandError("ERR the set has had a vector of the greatest id, and can give no more: say ID")
        vector_id = value.last_id + 1
    value.set(vector_id, vector)
    db.updated(key, value)
    db.notify(b"vecset", key)
    _note_work(client, key, value)
    if value.has_helped:
        # That takes a millisecond: of a long pipeline others need not wait for the end.
        client.halted = True
    return vector_id


def _size(word: bytes) -> int:
    size = parse_integer(word)
    if not 1 <= size <= _SIZE_MAX:
        raise CommandError(f"ERR vector dimensions must be between 1 and {_SIZE_MAX}")
    return size


def _set_options(words: list[bytes]) -> tuple[int | None, str]:
    """An id and a metric, each where it is given."""
    vector_id, metric = None, ""
    if len(words) % 2:
        raise SyntaxFault
    for name, word in zip(words[::2], words[1::2], strict=True):
        option = name.upper()
        if option == b"ID":
            vector_id = _id(word)
        elif option == b"METRIC":
            metric = word.decode("utf-8", "replace").lower()
            if metric not in METRICS:
                raise CommandError("ERR unsupported metric, please use L2, COSINE, IP")
        else:
            raise SyntaxFault
    return vector_id, metric


def _id(word: bytes) -> int:
    vector_id = parse_integer(word)
    if vector_id < 0:
        raise CommandError("ERR vector ids must not be negative")
    return vector_id


def _is_number(word: bytes) -> bool:
    try:
        parse_float(word)
    except NotAFloat:
        return False
    return True


def _count_numbers(words: list[bytes]) -> int:
    return next((place for place, word in enumerate(words) if not _is_number(word)), len(words))


@vectors(
    "VECQUERY key k:int <vector=FP32 blob | component:double [component:double ...]> [EF candidates:int] [EXACT]",
    "Returns the ids of the vectors that are nearest to one, and how far they are from it, nearest first.",
    flags="readonly",
    since="0.1.0",
    complexity="O(N*D) for N vectors of D dimensions up to vector-exact-max and with EXACT; about O(D*log(N)) beyond.",
)
def vecquery(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    count = parse_integer(argv[2])
    if count < 1:
        raise CommandError("ERR k should be greater than 0")
    if argv[3].upper() == b"FP32":
        if len(argv) == 4:
            raise SyntaxFault
        vector, options = _vector_of_blob(argv[4]), argv[5:]
    else:
        stop = next((place for place in range(3, len(argv)) if argv[place].upper() in (b"EF", b"EXACT")), len(argv))
        if stop - 3 > _SIZE_MAX:
            raise CommandError(f"ERR vector dimensions must be between 1 and {_SIZE_MAX}")
        vector, options = _vector(argv[3:stop]), argv[stop:]
    effort, exactly = _query_options(options)
    value: VectorSet | None = client.db.read(key, VectorSet)
    if value is None:
        return []
    if len(vector) != value.size:
        raise _mismatch(value, len(vector))
    _note_work(client, key, value)
    if len(value) * value.size > _LENGTHY:
        client.halted = True
    return [[vector_id, distance] for distance, vector_id in value.nearest(vector, count, effort, exactly)]


def _query_options(words: list[bytes]) -> tuple[int | None, bool]:
    effort, exactly = None, False
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option == b"EXACT":
            exactly = True
        elif option == b"EF" and (candidates := next(rest, None)) is not None:
            effort = parse_integer(candidates)
            if not 1 <= effort <= _EFFORT_MAX:
                raise CommandError(f"ERR EF must be between 1 and {_EFFORT_MAX}")
        else:
            raise SyntaxFault
    return effort, exactly


@vectors(
    "VECDEL key [id:int ...]",
    "Removes vectors of some ids from a vector set, and returns how many there were; without ids, removes the set.",
    flags="write",
    since="0.1.0",
    complexity="O(N) where N is the number of ids or, without ids, of vectors.",
    access="RW delete",
)
def vecdel(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    ids = [_id(word) for word in words]
    db = client.db
    value: VectorSet | None = db.find(key, VectorSet)
    if value is None:
        return 0
    removed = sum(map(value.remove, ids)) if ids else 1
    if not removed:
        return 0
    is_left = bool(ids) and db.updated(key, value)
    if not ids:
        db.delete(key)
    db.notify(b"vecdel", key)
    if is_left:
        _note_work(client, key, value)
    else:
        db.notify(b"del", key)
    return removed


@vectors(
    "VECGET key id:int",
    "Returns the components of a vector.",
    flags="readonly fast",
    since="0.1.0",
    complexity="O(D) for D dimensions.",
)
def vecget(client: Client, argv: list[bytes]) -> Reply:
    _, key, word = argv
    vector_id = _id(word)
    value: VectorSet | None = client.db.read(key, VectorSet)
    vector = None if value is None else value.get(vector_id)
    return None if vector is None else list(map(_shown, vector))


def _shown(component: float) -> PrintedDouble:
    """In as few digits as it takes to be read as the same float32: 0.1, where as a double it is 0.10000000149011612."""
    texts = (b"%.*g" % (digits, component) for digits in range(6, 10))
    return PrintedDouble(next(text for text in texts if struct.pack("f", float(text)) == struct.pack("f", component)))


@vectors(
    "VECINFO key",
    "Tells about a vector set: its dimensions, its metric, how many vectors it has and how many of them its graph.",
    flags="readonly fast",
    since="0.1.0",
)
def vecinfo(client: Client, argv: list[bytes]) -> Reply:
    value: VectorSet | None = client.db.read(argv[1], VectorSet)
    if value is None:
        return None
    return {
        "dimensions": value.size,
        "metric": value.metric,
        "vectors": len(value),
        "indexed": value.indexed,
        "last-id": value.last_id,
    }
