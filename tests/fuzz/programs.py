"""Random programs for a Pair, drawn from any source of choices: a random generator, or bytes that a fuzzer varies.

Most are sensible requests in random pieces; some are bent before they are sent: bits flipped, parts cut out, doubled or
moved, words of the protocol put in.
"""

import random
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from tests.fuzz.pair import CLIENTS, DATABASES, Action, Advance, Expire, Send, Store, cut, encode

T = TypeVar("T")


class Source(Protocol):
    def number(self, below: int) -> int: ...


class Chance:
    """Choices by a random generator."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(repr(seed))

    def number(self, below: int) -> int:
        return self._random.randrange(below)


class Given:
    """Choices by the bytes of a fuzzer; all are 0 once these are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_used_up(self) -> bool:
        return self._place >= len(self._data)

    def number(self, below: int) -> int:
        size = 1 if below <= 256 else 2 if below <= 65536 else 4
        part = self._data[self._place : self._place + size]
        self._place += size
        return int.from_bytes(part, "little") % below


# One letter stands for: k key, v value, i integer, t time from now in s or ms, T time in s or ms of the calendar,
# d database, p pattern, w condition of EXPIRE, x option of GETEX, s option of SET, E id of a stream's entry,
# z anything; k* and kv* come once or many times.
_FORMS: Final = """
GET k
GET k
SET k v
SET k v
SET k v s
SET k v s s
SET k v s s s
SETNX k v
SETEX k t v
PSETEX k t v
GETSET k v
GETDEL k
GETEX k
GETEX k x
GETEX k x x
MGET k*
MSET kv*
MSETNX kv*
APPEND k v
STRLEN k
GETRANGE k i i
SUBSTR k i i
SETRANGE k i v
INCR k
DECR k
INCRBY k i
DECRBY k i
INCRBYFLOAT k i
LCS k k LEN
SETBIT k i 1
BITCOUNT k
BITCOUNT k i i
BITCOUNT k i i BIT
BITCOUNT k i i byte
BITPOS k 0
BITPOS k 1 i
BITPOS k 0 i i BIT
BITPOS k 1 i i z
BITOP AND k k k
BITOP or k k k k
BITOP XOR k k k
BITOP NOT k k
BITOP NOT k k k
DEL k*
UNLINK k*
EXISTS k*
TOUCH k*
TYPE k
EXPIRE k t
EXPIRE k t w
EXPIRE k t w w
PEXPIRE k t
PEXPIRE k t w
EXPIREAT k T
EXPIREAT k T w
PEXPIREAT k T
PEXPIREAT k T w
TTL k
PTTL k
EXPIRETIME k
PEXPIRETIME k
PERSIST k
HSET k v v
HSET k z v z v
HMSET k v v
HSETNX k v v
HGET k v
HMGET k v v
HGETALL k
HDEL k v v
HEXISTS k v
HKEYS k
HVALS k
HLEN k
HSTRLEN k v
HINCRBY k v i
HINCRBYFLOAT k v i
HSCAN k 0
HEXPIRE k t FIELDS 1 v
HTTL k FIELDS 2 v v
SADD k v
SADD k i i z
SREM k v i
SISMEMBER k v
SMISMEMBER k v i
SCARD k
SMEMBERS k
SSCAN k 0
SMOVE k k v
SUNION k k
SINTERSTORE k k k
SDIFF k k
LPUSH k v v
RPUSH k v i z
LPUSHX k v
RPUSHX k v
LPOP k
LPOP k i
RPOP k
LLEN k
LINDEX k i
LSET k i v
LRANGE k 0 -1
LRANGE k i i
LREM k i v
LTRIM k i i
LINSERT k BEFORE v v
LMOVE k k LEFT RIGHT
ZADD k i v
ZADD k i v i z 1.5 v
ZADD k x i v
ZINCRBY k i v
ZREM k v i
ZCARD k
ZSCORE k v
ZMSCORE k v i
ZRANK k v
ZREVRANK k v
ZPOPMIN k
ZPOPMAX k
ZPOPMAX k i
ZRANGE k 0 -1
ZRANGE k i i WITHSCORES
ZREVRANGE k 0 i
ZREVRANGE k i i WITHSCORES
ZCOUNT k i i
XADD k * v v
XADD k * v v
XADD k E v v v i
XADD k MAXLEN ~ i * v v
XADD k NOMKSTREAM MAXLEN i E v z
XADD k MINID E LIMIT i E v v
XADD k z i z v v
XLEN k
XRANGE k - +
XRANGE k E E COUNT i
XREVRANGE k + -
XREVRANGE k E E COUNT i
XREAD COUNT i STREAMS k E
XDEL k E
XTRIM k MAXLEN i
XTRIM k MINID = E
XSETID k E
XGROUP CREATE k v $ MKSTREAM
XREADGROUP GROUP v v STREAMS k >
TRACK k
TRACK k
TRACK k i
TRACK k z
TRACK k i AT T
TRACK.READ k stats
TRACK.READ k gauge PERIOD 10
TRACK.KEYS
CONFIG SET events-negative yes
CONFIG SET events-keys-max 3
PING
PING v
ECHO v
RENAME k k
RENAMENX k k
COPY k k
COPY k k REPLACE
COPY k k DB d REPLACE
MOVE k d
KEYS p
SCAN 0
SCAN 0 COUNT i TYPE string
RANDOMKEY
OBJECT ENCODING k
OBJECT IDLETIME k
OBJECT REFCOUNT k
MEMORY USAGE k
SELECT d
SELECT d
SWAPDB d d
DBSIZE
FLUSHDB
FLUSHDB ASYNC
FLUSHALL ASYNC
DEBUG POPULATE i k v
DEBUG POPULATE 999 {t}
DEBUG POPULATE 4000 {t}key v
DEBUG SLEEP 0.01
DEBUG OBJECT k
DEBUG PROTOCOL attrib
DEBUG PROTOCOL map
CLIENT REPLY ON
CLIENT REPLY OFF
CLIENT REPLY SKIP
CLIENT ID
CLIENT LIST
CLIENT SETNAME v
CLIENT PAUSE 100 WRITE
CLIENT PAUSE 100 ALL
CLIENT UNPAUSE
CLIENT KILL ID i
HELLO
HELLO 2
HELLO 3
HELLO 3 AUTH default secret
AUTH secret
AUTH z
RESET
QUIT
TIME
INFO
CONFIG SET maxmemory 0
CONFIG SET maxmemory 1
CONFIG SET maxmemory 1000gb
CONFIG SET observation no
CONFIG SET observation yes
CONFIG SET requirepass secret
CONFIG SET proto-max-bulk-len 1mb
CONFIG SET proto-max-bulk-len 2mb
CONFIG SET hotkey-sampling-ratio 1
CONFIG SET hotkey-sampling-ratio 1000
CONFIG RESETSTAT
CLUSTER KEYSLOT k
CLUSTER COUNTKEYSINSLOT i
COMMAND COUNT
NONESUCH k v
LOLWUT
"""
# Those that the kernel answers, and what makes data, are worth more than what is rare and ends a program early.
_RARE: Final = (b"RESET", b"QUIT", b"CLIENT", b"HELLO", b"AUTH", b"CONFIG", b"DEBUG", b"FLUSHDB", b"FLUSHALL",
                b"COMMAND", b"LOLWUT", b"INFO", b"CLUSTER")  # fmt: skip
_ALL: Final = [line.encode().split() for line in _FORMS.split("\n") if line]
_COMMON: Final = [form for form in _ALL if form[0] not in _RARE]

KEYS: Final = [b"a", b"b", b"c", b"k", b"{t}1", b"{t}2", b"x{t}", b"{t}", b"", b"{}{t}", b"\x00\r\n\xff\xfe", b"key:1",
               b"eightbyt", b"key:with:a:longer:name:1000", b"seven77", b"k" * 40, b"L" * 300]  # fmt: skip
INTEGERS: Final = [b"0", b"1", b"-1", b"2", b"3", b"5", b"10", b"44", b"100", b"-100", b"9999", b"10000", b"-0", b"+1",
                   b" 1", b"1 ", b"01", b"1e3", b"0x10", b"1_000", b"", b"9223372036854775807",
                   b"-9223372036854775808", b"9223372036854775808", b"-9223372036854775809", b"4611686018427387904",
                   b"2147483648", b"4294967296", b"99999999999999999999", b"1048575", b"1048576", b"1.5", b"32767",
                   b"32768", b"\xd9\xa1", b"1\x00"]  # fmt: skip
VALUES: Final = [b"", b"v", b"hello world", b"x" * 43, b"y" * 44, b"z" * 45, b"w" * 100, b"\x00", b"\r\n", b"a\x00b",
                 b"\xff\x00\r\n\xfe", b"12345678", b"n" * 1000, b"o" * 16384, b"L" * 32766, b"L" * 32767, b"L" * 32768,
                 b"L" * 32769, b"M" * 70000, b"1", b"1.0"]  # fmt: skip
_AFTER: Final = [b"1", b"1", b"2", b"5", b"100", b"100", b"1000", b"0", b"-1", b"9223372036854775807",
                 b"9223372036854775", b"9223372036854776", b"-9223372036854775808", b"x", b"01", b""]  # fmt: skip
# Around when a Pair's clock starts, 1,700,000,000 s, and far away.
_CALENDAR: Final = [b"1700000000", b"1700000001", b"1699999999", b"1700000100", b"1700000000000", b"1700000000100",
                    b"1700000001000", b"1699999999999", b"1", b"0", b"-5", b"9223372036854775807",
                    b"9223372036854775", b"4102444800499", b"4102444800500", b"x"]  # fmt: skip
_DATABASES: Final = [b"0", b"1", b"2", b"3", b"1", b"0", b"4", b"-1", b"x", b"01"]
_PATTERNS: Final = [b"*", b"a*", b"?", b"[ab]", b"*{t}*", b"", b"\\a"]
_CONDITIONS: Final = [b"NX", b"XX", b"GT", b"LT", b"nx", b"Gt", b"EX"]
_IDS: Final = [b"1-1", b"1", b"2-0", b"2-*", b"3-5", b"5", b"1700000000000-1", b"1700000000100", b"-", b"+", b"0-0",
               b"18446744073709551615", b"18446744073709551615-18446744073709551615", b"1--1", b"01-01", b"(1-1",
               b"99999999999999999999-1", b"$", b"x-1"]  # fmt: skip
_ANY: Final = [b"", b"FOO", b"EX", b"NX", b"1", b"\r\n", b"KEEPTTL", b"9" * 30, b"%s", b"'", b"*", b"$1"]
DICTIONARY: Final = [b"\r\n", b"*1\r\n", b"*2\r\n", b"*3\r\n", b"$3\r\n", b"$0\r\n\r\n", b"$1\r\n", b"$-1\r\n",
                     b"*0\r\n", b"*-1\r\n", b"GET", b"SET", b"PING\r\n",
                     b"*1\r\n$4\r\nPING\r\n", b"*1048576\r\n", b"*1048577\r\n",
                     b"$32768\r\n", b"$1048576\r\n", b"$1048577\r\n", b"$16384\r\n", b"$16385\r\n", b"\x00", b"\xff",
                     b"'", b'"', b'"\\x41"', b"SET k 'a b'\r\n", b"*11\r\n", b"$99999999999999999999\r\n", b"$+1\r\n",
                     b"$01\r\n", b"\n", b"\r", b"POST / HTTP/1.1\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"]  # fmt: skip
_FLAGS: Final = [(), (), (), (), ("--requirepass", "secret"), ("--maxmemory", "1"), ("--maxmemory", "1000gb"),
                 ("--observation", "no"), ("--proto-max-bulk-len", "2mb")]  # fmt: skip


def choice(source: Source, items: Sequence[T]) -> T:
    return items[source.number(len(items))]


def draw_flags(source: Source) -> tuple[str, ...]:
    return choice(source, _FLAGS)


def draw_program(source: Source, actions_max: int = 12) -> list[Action]:
    return [_draw_action(source) for _ in range(1 + source.number(actions_max))]


def _draw_action(source: Source) -> Action:
    kind = source.number(16)
    if kind < 2:
        return Advance(choice(source, (0, 1, 1, 99, 100, 101, 999, 1000, 1001, 5000)))
    if kind == 2:
        return Store(source.number(DATABASES) // 2, choice(source, KEYS), source.number(5000))
    if kind == 3 and source.number(3) == 0:
        return Expire()
    number = source.number(CLIENTS * 3)
    data = b"".join([encode(draw_request(source)) for _ in range(1 + source.number(12))])
    if kind == 4:
        data = mutate(source, data)
    return Send(number if number < CLIENTS else 0, draw_pieces(source, data))


def draw_pieces(source: Source, data: bytes) -> tuple[bytes, ...]:
    """Mostly in one piece, as from a socket; some in a few, some byte by byte."""
    kind = source.number(8)
    if kind < 4:
        return (data,)
    if kind == 7 and len(data) < 400:
        return cut(data, range(len(data)))
    return cut(data, [source.number(len(data) + 1) for _ in range(1 + source.number(5))])


def draw_request(source: Source) -> list[bytes]:
    form = choice(source, _ALL if source.number(4) == 0 else _COMMON)
    if form[0] in (b"QUIT", b"RESET") and source.number(4):
        form = [b"PING"]
    words = []
    for word in form:
        words += _draw_words(source, word)
    bend = source.number(24)
    if bend == 0:
        words.insert(1 + source.number(len(words)), choice(source, _ANY))
    elif bend == 1 and len(words) > 1:
        del words[-1]
    elif bend == 2:
        words[source.number(len(words))] = choice(source, _ANY)
    elif bend < 6:
        words[0] = words[0].lower()
    elif bend == 6:
        words[0] = words[0].title()
    return words


def _draw_words(source: Source, word: bytes) -> list[bytes]:
    if word == b"k*":
        return [choice(source, KEYS) for _ in range(_draw_count(source))]
    if word == b"kv*":
        return [choice(source, part) for _ in range(_draw_count(source)) for part in (KEYS, VALUES)]
    if word == b"s":
        kind = source.number(10)
        if kind < 5:
            return [choice(source, (b"NX", b"XX", b"GET", b"KEEPTTL", b"get"))]
        return _draw_expiry(source)
    if word == b"x":
        return [b"PERSIST"] if source.number(3) == 0 else _draw_expiry(source)
    if word == b"v":
        return [choice(source, VALUES if source.number(3) else INTEGERS)]
    if word == b"i" and source.number(3) == 0:
        return [b"%d" % (source.number(70) - 5)]
    table = _PLACEHOLDERS.get(word)
    return [word] if table is None else [choice(source, table)]


def _draw_expiry(source: Source) -> list[bytes]:
    option = choice(source, (b"EX", b"PX", b"EXAT", b"PXAT", b"ex", b"Px"))
    return [option, choice(source, _CALENDAR if option.endswith(b"AT") else _AFTER)]


def _draw_count(source: Source) -> int:
    """Mostly a few; the kernel takes keys in groups of 16."""
    return choice(source, (1, 1, 2, 3, 4, 5, 15, 16, 17, 33, 40))


_PLACEHOLDERS: Final = {
    b"k": KEYS,
    b"i": INTEGERS,
    b"t": _AFTER,
    b"T": _CALENDAR,
    b"d": _DATABASES,
    b"p": _PATTERNS,
    b"w": _CONDITIONS,
    b"E": _IDS,
    b"z": _ANY,
}


def mutate(source: Source, data: bytes) -> bytes:
    """The bytes with some mistakes in them."""
    bent = bytearray(data)
    for _ in range(1 + source.number(5)):
        place = source.number(len(bent) + 1)
        kind = source.number(6)
        if kind == 0:
            bent[place:place] = choice(source, DICTIONARY)
        elif kind == 1:
            del bent[place : place + 1 + source.number(12)]
        elif kind == 2 and place < len(bent):
            bent[place] ^= 1 << source.number(8)
        elif kind == 3 and place < len(bent):
            bent[place] = source.number(256)
        elif kind == 4:
            start = source.number(len(bent) + 1)
            bent[place:place] = bent[start : start + 1 + source.number(60)]
        else:
            start = source.number(len(bent) + 1)
            part = bent[start : start + 1 + source.number(30)]
            del bent[start : start + len(part)]
            bent[place:place] = part
    return bytes(bent)


def draw_stream(source: Source) -> bytes:
    """Some requests one after another, with mistakes."""
    data = b"".join([encode(draw_request(source)) for _ in range(1 + source.number(8))])
    return mutate(source, data)
