"""Sorted sets.  Ranges of any kind, of ranks, scores or members, become a run of ascending ranks first.

Scores are doubles.  RESP3 shows a member with its score as a pair, RESP2 one after the other.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import sample
from typing import Final, Protocol, TypeAlias

from kora.commands.scanning import parse_cursor, parse_scan
from kora.engine.blocking import parse_timeout
from kora.engine.client import Client
from kora.engine.registry import Family, keys_at, keys_counted
from kora.errors import CommandError, SyntaxFault, WrongType, wrong_arity
from kora.resp.reply import NULL_ARRAY, Reply, format_double
from kora.types.limits import check_lengths
from kora.types.number import INT64_MAX, parse_float, parse_integer, parse_limit
from kora.types.sorted_set import SortedSet

sorted_set = Family("sorted-set")

Pair: TypeAlias = tuple[bytes, float]


class NotARange(CommandError):
    message = "ERR min or max is not a float"


class NotALexRange(CommandError):
    message = "ERR min or max not valid string range item"


class NotPositive(CommandError):
    message = "ERR value is out of range, must be positive"


def _shown(client: Client, pairs: Iterable[Pair]) -> list[Reply]:
    """Members with their scores, as the client's protocol has them."""
    if client.protocol == 3:
        return [list(pair) for pair in pairs]
    return [word for pair in pairs for word in pair]


def settle(client: Client, key: bytes, value: SortedSet, event: bytes) -> None:
    """After a change that has taken members away."""
    is_left = client.db.updated(key, value)
    client.db.notify(event, key)
    if not is_left:
        client.db.notify(b"del", key)


def store(client: Client, key: bytes, pairs: Iterable[Pair], event: bytes) -> int:
    """Put a sorted set of these members in place of whatever a key holds, or nothing if there are none; how many."""
    value: SortedSet = client.db.make(SortedSet)
    for member, score in pairs:
        value.add(member, score)
    if value:
        client.db.set(key, value)
        client.db.notify(event, key)
    elif client.db.delete(key):
        client.db.notify(b"del", key)
    return len(value)


# Adding and removing

ADD_OPTIONS: Final = frozenset({b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"})


@sorted_set(
    "ZADD key [condition=NX | XX] [comparison=GT | LT] [change=CH] [increment=INCR]"
    " score:double member [score:double member ...]",
    "Adds members to a sorted set, or changes their scores; creates the key if it is not there.",
    flags="write denyoom fast",
    since="1.2.0",
    complexity="O(log(N)) for each member, where N is the size of the sorted set.",
    access="RW update",
)
def zadd(client: Client, argv: list[bytes]) -> Reply:
    options, words = split_options(argv, ADD_OPTIONS)
    return add(client, argv[1], options, words)


@sorted_set(
    "ZINCRBY key increment:int member",
    "Adds to the score of a member; one that is not there counts as 0.",
    flags="write denyoom fast",
    since="1.2.0",
    complexity="O(log(N)) where N is the size of the sorted set.",
    access="RW access update",
)
def zincrby(client: Client, argv: list[bytes]) -> Reply:
    # As in Redis the options of ZADD are options here, too: a score is a number in any case.
    options, words = split_options(argv, ADD_OPTIONS)
    return add(client, argv[1], {*options, b"INCR"}, words)


def split_options(argv: list[bytes], allowed: frozenset[bytes]) -> tuple[set[bytes], list[bytes]]:
    """The options behind the key, and the words behind these."""
    options = set()
    place = 2
    while place < len(argv) and (word := argv[place].upper()) in allowed:
        options.add(word)
        place += 1
    return options, argv[place:]


def add(client: Client, key: bytes, options: set[bytes], words: list[bytes]) -> Reply:
    """ZADD, of scores and members by turns."""
    if not words or len(words) % 2:
        raise SyntaxFault
    if options:
        _check_add(options, words)
    scores = list(map(parse_float, words[::2]))
    members = words[1::2]
    db = client.db
    value: SortedSet | None = db.find(key, SortedSet)
    increases = b"INCR" in options
    if value is None:
        if b"XX" in options:
            return None if increases else 0
        value = db.make(SortedSet)
    check_lengths(members)
    added = changed = 0
    result = None
    for score, member in zip(scores, members, strict=True):
        old = value.score(member)
        if old is None:
            if b"XX" not in options:
                value.add(member, score)
                added += 1
                result = score
            continue
        if increases:
            score += old
            if math.isnan(score):
                raise CommandError("ERR resulting score is not a number (NaN)")
        if options and (b"NX" in options or (b"GT" in options and score <= old) or (b"LT" in options and score >= old)):
            continue
        result = score
        if score != old:
            value.add(member, score)
            changed += 1
    if added or changed:
        db.updated(key, value)
        db.notify(b"zincr" if increases else b"zadd", key)
    if increases:
        return result
    return added + changed if b"CH" in options else added


def _check_add(options: set[bytes], words: list[bytes]) -> None:
    if options >= {b"NX", b"XX"}:
        raise CommandError("ERR XX and NX options at the same time are not compatible")
    if len(options & {b"NX", b"GT", b"LT"}) > 1:
        raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if b"INCR" in options and len(words) > 2:
        raise CommandError("ERR INCR option supports a single increment-element pair")


@sorted_set(
    "ZREM key member [member ...]",
    "Removes members from a sorted set, and returns how many were there.",
    flags="write fast",
    since="1.2.0",
    complexity="O(M*log(N)) where N is the size of the sorted set and M the number of members.",
    access="RW delete",
)
def zrem(client: Client, argv: list[bytes]) -> Reply:
    key = argv[1]
    value: SortedSet | None = client.db.find(key, SortedSet)
    if value is None:
        return 0
    removed = sum(map(value.remove, argv[2:]))
    if removed:
        settle(client, key, value, b"zrem")
    return removed


# Looking at members


@sorted_set(
    "ZCARD key",
    "Returns how many members a sorted set has.",
    flags="readonly fast",
    since="1.2.0",
    access="RO",
)
def zcard(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], SortedSet)
    return 0 if value is None else len(value)


@sorted_set("ZSCORE key member", "Returns the score of a member.", flags="readonly fast", since="1.2.0")
def zscore(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], SortedSet)
    return None if value is None else value.score(argv[2])


@sorted_set(
    "ZMSCORE key member [member ...]",
    "Returns the scores of one or more members.",
    flags="readonly fast",
    since="6.2.0",
    complexity="O(N) where N is the number of members.",
)
def zmscore(client: Client, argv: list[bytes]) -> Reply:
    value = client.db.read(argv[1], SortedSet)
    members = argv[2:]
    return [None] * len(members) if value is None else list(map(value.score, members))


@sorted_set(
    "ZRANK key member [WITHSCORE]",
    "Returns the place of a member, 0 for the lowest score, and its score if asked.",
    flags="readonly fast",
    since="2.0.0",
    complexity="O(log(N))",
)
def zrank(client: Client, argv: list[bytes]) -> Reply:
    return _rank(client, argv, reverse=False)


@sorted_set(
    "ZREVRANK key member [WITHSCORE]",
    "Returns the place of a member, 0 for the highest score, and its score if asked.",
    flags="readonly fast",
    since="2.0.0",
    complexity="O(log(N))",
)
def zrevrank(client: Client, argv: list[bytes]) -> Reply:
    return _rank(client, argv, reverse=True)


def _rank(client: Client, argv: list[bytes], reverse: bool) -> Reply:
    if len(argv) > 4:
        raise wrong_arity("zrevrank" if reverse else "zrank")
    with_score = len(argv) == 4
    if with_score and argv[3].upper() != b"WITHSCORE":
        raise SyntaxFault
    value: SortedSet | None = client.db.read(argv[1], SortedSet)
    rank = None if value is None else value.rank(argv[2])
    if value is None or rank is None:
        return NULL_ARRAY if with_score else None
    if reverse:
        rank = len(value) - 1 - rank
    return [rank, value.score(argv[2])] if with_score else rank


# Ranges: what is asked for, and the ascending ranks, half-open, that it comes to


class Span(Protocol):
    def ranks(self, value: SortedSet) -> tuple[int, int]: ...


@dataclass(frozen=True)
class RankSpan:
    """Both ends included; negative ones count from the end.  In reverse, 0 is the highest rank."""

    first: int
    last: int
    reverse: bool

    def ranks(self, value: SortedSet) -> tuple[int, int]:
        length = len(value)
        first = max(0, self.first + length if self.first < 0 else self.first)
        stop = min(length, (self.last + length if self.last < 0 else self.last) + 1)
        return (length - stop, length - first) if self.reverse else (first, stop)


@dataclass(frozen=True)
class ScoreSpan:
    low: float
    low_excluded: bool
    high: float
    high_excluded: bool

    def ranks(self, value: SortedSet) -> tuple[int, int]:
        stop = value.scores_below(self.high, not self.high_excluded)
        return value.scores_below(self.low, self.low_excluded), stop


@dataclass(frozen=True)
class LexEnd:
    """`-` and `+` are before and after all members."""

    member: bytes | None
    is_last: bool = False
    excluded: bool = False

    def rank(self, value: SortedSet, inclusive: bool) -> int:
        if self.member is None:
            return len(value) if self.is_last else 0
        return value.members_below(self.member, inclusive)


@dataclass(frozen=True)
class LexSpan:
    low: LexEnd
    high: LexEnd

    def ranks(self, value: SortedSet) -> tuple[int, int]:
        return self.low.rank(value, self.low.excluded), self.high.rank(value, not self.high.excluded)


def _rank_span(first: bytes, last: bytes, reverse: bool = False) -> RankSpan:
    return RankSpan(parse_integer(first), parse_integer(last), reverse)


def _score_span(low: bytes, high: bytes) -> ScoreSpan:
    return ScoreSpan(*_score_end(low), *_score_end(high))


def _score_end(word: bytes) -> tuple[float, bool]:
    excluded = word[:1] == b"("
    score = parse_limit(word[1:] if excluded else word)
    if score is None:
        raise NotARange
    return score, excluded


def _lex_span(low: bytes, high: bytes) -> LexSpan:
    return LexSpan(_lex_end(low), _lex_end(high))


def _lex_end(word: bytes) -> LexEnd:
    sign = word[:1]
    if sign in (b"(", b"["):
        return LexEnd(word[1:], excluded=sign == b"(")
    # As strings of C have it: what is behind a NUL is not there.
    if sign in (b"-", b"+") and word[1:2] in (b"", b"\0"):
        return LexEnd(None, is_last=sign == b"+")
    raise NotALexRange


def _select(value: SortedSet, span: Span, reverse: bool = False, offset: int = 0, count: int = -1) -> list[Pair]:
    """What a range holds, without the first `offset` members, and at most `count`, if that is not negative."""
    start, stop = span.ranks(value)
    # A negative offset skips everything, as in Redis.
    if start >= stop or not 0 <= offset < stop - start:
        return []
    if reverse:
        stop -= offset
        if count >= 0:
            start = max(start, stop - count)
        return value.slice(start, stop)[::-1]
    start += offset
    if count >= 0:
        stop = min(stop, start + count)
    return value.slice(start, stop)


def _count(client: Client, key: bytes, span: Span) -> int:
    value: SortedSet | None = client.db.read(key, SortedSet)
    if value is None:
        return 0
    start, stop = span.ranks(value)
    return max(0, stop - start)


@sorted_set(
    "ZCOUNT key min:double max:double",
    "Returns how many members have a score within a range.",
    flags="readonly fast",
    since="2.0.0",
    complexity="O(log(N)) where N is the size of the sorted set.",
)
def zcount(client: Client, argv: list[bytes]) -> Reply:
    return _count(client, argv[1], _score_span(argv[2], argv[3]))


@sorted_set(
    "ZLEXCOUNT key min max",
    "Returns how many members are within a range of bytes, where all scores are equal.",
    flags="readonly fast",
    since="2.8.9",
    complexity="O(log(N)) where N is the size of the sorted set.",
)
def zlexcount(client: Client, argv: list[bytes]) -> Reply:
    return _count(client, argv[1], _lex_span(argv[2], argv[3]))


_RANGE_COMPLEXITY: Final = "O(log(N)+M) where N is the size of the sorted set and M the number of members returned."
_LIMIT_USAGE: Final = "[offset_count=LIMIT offset:int count:int]"


@dataclass
class _Range:
    """What ZRANGE and its relatives were told."""

    sort: bytes  # BYSCORE, BYLEX, or b"" for ranks
    reverse: bool
    with_scores: bool = False
    offset: int = 0
    count: int = -1
    span: Span = RankSpan(0, -1, False)


def _parse_range(
    first: bytes,
    last: bytes,
    words: list[bytes],
    sort: bytes | None = None,
    reverse: bool | None = None,
    *,
    stores: bool,
) -> _Range:
    """`sort` and `reverse` are given where the command fixes them; else they are options."""
    asked = _Range(sort or b"", bool(reverse))
    place = 0
    while place < len(words):
        word = words[place].upper()
        place += 1
        if word == b"WITHSCORES" and not stores:
            asked.with_scores = True
        elif word == b"LIMIT" and place + 1 < len(words):
            asked.offset, asked.count = parse_integer(words[place]), parse_integer(words[place + 1])
            place += 2
        elif word == b"REV" and reverse is None and not asked.reverse:
            asked.reverse = True
        elif word in (b"BYSCORE", b"BYLEX") and sort is None and not asked.sort:
            asked.sort = word
        else:
            raise SyntaxFault
    if asked.count != -1 and not asked.sort:
        raise CommandError("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
    if asked.with_scores and asked.sort == b"BYLEX":
        raise CommandError("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
    if not asked.sort:
        asked.offset = 0
        asked.span = _rank_span(first, last, asked.reverse)
    else:
        low, high = (last, first) if asked.reverse else (first, last)
        asked.span = _score_span(low, high) if asked.sort == b"BYSCORE" else _lex_span(low, high)
    return asked


def _range(client: Client, argv: list[bytes], sort: bytes | None = None, reverse: bool | None = None) -> Reply:
    asked = _parse_range(argv[2], argv[3], argv[4:], sort, reverse, stores=False)
    value: SortedSet | None = client.db.read(argv[1], SortedSet)
    if value is None:
        return []
    pairs = _select(value, asked.span, asked.reverse, asked.offset, asked.count)
    return _shown(client, pairs) if asked.with_scores else [member for member, _ in pairs]


@sorted_set(
    f"ZRANGE key start:string stop:string [sortby=BYSCORE | BYLEX] [REV] {_LIMIT_USAGE} [WITHSCORES]",
    "Returns the members within a range of ranks, scores or bytes.",
    flags="readonly",
    since="1.2.0",
    complexity=_RANGE_COMPLEXITY,
)
def zrange(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv)


@sorted_set(
    "ZREVRANGE key start:int stop:int [WITHSCORES]",
    "Returns the members within a range of ranks, from the highest score down.",
    flags="readonly",
    since="1.2.0",
    complexity=_RANGE_COMPLEXITY,
)
def zrevrange(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, b"", reverse=True)


@sorted_set(
    f"ZRANGEBYSCORE key min:double max:double [WITHSCORES] {_LIMIT_USAGE}",
    "Returns the members within a range of scores.",
    flags="readonly",
    since="1.0.5",
    complexity=_RANGE_COMPLEXITY,
)
def zrangebyscore(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, b"BYSCORE", reverse=False)


@sorted_set(
    f"ZREVRANGEBYSCORE key max:double min:double [WITHSCORES] {_LIMIT_USAGE}",
    "Returns the members within a range of scores, from the highest down.",
    flags="readonly",
    since="2.2.0",
    complexity=_RANGE_COMPLEXITY,
)
def zrevrangebyscore(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, b"BYSCORE", reverse=True)


@sorted_set(
    f"ZRANGEBYLEX key min max {_LIMIT_USAGE}",
    "Returns the members within a range of bytes, where all scores are equal.",
    flags="readonly",
    since="2.8.9",
    complexity=_RANGE_COMPLEXITY,
)
def zrangebylex(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, b"BYLEX", reverse=False)


@sorted_set(
    f"ZREVRANGEBYLEX key max min {_LIMIT_USAGE}",
    "Returns the members within a range of bytes, from the last up, where all scores are equal.",
    flags="readonly",
    since="2.8.9",
    complexity=_RANGE_COMPLEXITY,
)
def zrevrangebylex(client: Client, argv: list[bytes]) -> Reply:
    return _range(client, argv, b"BYLEX", reverse=True)


@sorted_set(
    f"ZRANGESTORE dst:key src:key min max [sortby=BYSCORE | BYLEX] [REV] {_LIMIT_USAGE}",
    "Stores the members within a range of ranks, scores or bytes in another key.",
    flags="write denyoom",
    since="6.2.0",
    complexity="O(log(N)+M) where N is the size of the sorted set and M the number of members stored.",
    access=("OW update", "RO access"),
)
def zrangestore(client: Client, argv: list[bytes]) -> Reply:
    _, target, source, first, last, *words = argv
    asked = _parse_range(first, last, words, stores=True)
    value: SortedSet | None = client.db.read(source, SortedSet)
    pairs = [] if value is None else _select(value, asked.span, asked.reverse, asked.offset, asked.count)
    return store(client, target, pairs, b"zrangestore")


def _remove_range(client: Client, key: bytes, span: Span, event: bytes) -> Reply:
    value: SortedSet | None = client.db.find(key, SortedSet)
    if value is None:
        return 0
    start, stop = span.ranks(value)
    if start >= stop:
        return 0
    removed = value.remove_slice(start, stop)
    settle(client, key, value, event)
    return removed


_REMOVE_COMPLEXITY: Final = "O(log(N)+M) where N is the size of the sorted set and M the number of members removed."


@sorted_set(
    "ZREMRANGEBYRANK key start:int stop:int",
    "Removes the members within a range of ranks.",
    flags="write",
    since="2.0.0",
    complexity=_REMOVE_COMPLEXITY,
    access="RW delete",
)
def zremrangebyrank(client: Client, argv: list[bytes]) -> Reply:
    return _remove_range(client, argv[1], _rank_span(argv[2], argv[3]), b"zremrangebyrank")


@sorted_set(
    "ZREMRANGEBYSCORE key min:double max:double",
    "Removes the members within a range of scores.",
    flags="write",
    since="1.2.0",
    complexity=_REMOVE_COMPLEXITY,
    access="RW delete",
)
def zremrangebyscore(client: Client, argv: list[bytes]) -> Reply:
    return _remove_range(client, argv[1], _score_span(argv[2], argv[3]), b"zremrangebyscore")


@sorted_set(
    "ZREMRANGEBYLEX key min max",
    "Removes the members within a range of bytes, where all scores are equal.",
    flags="write",
    since="2.8.9",
    complexity=_REMOVE_COMPLEXITY,
    access="RW delete",
)
def zremrangebylex(client: Client, argv: list[bytes]) -> Reply:
    return _remove_range(client, argv[1], _lex_span(argv[2], argv[3]), b"zremrangebylex")


# Popping


def _pop(client: Client, key: bytes, value: SortedSet, highest: bool, count: int) -> list[Pair]:
    """Remove, and return, so many members from one end; there is at least one, and at least one is wanted."""
    length = len(value)
    start, stop = (max(0, length - count), length) if highest else (0, min(length, count))
    pairs = value.slice(start, stop)
    value.remove_slice(start, stop)
    settle(client, key, value, b"zpopmax" if highest else b"zpopmin")
    return pairs[::-1] if highest else pairs


def _first_found(client: Client, keys: list[bytes]) -> tuple[bytes, SortedSet] | None:
    """The first key that is there, and its value.  Raises WrongType where that is no sorted set."""
    for key in keys:
        value = client.db.find(key, SortedSet)
        if value is not None:
            return key, value
    return None


_POP_COMPLEXITY: Final = "O(log(N)*M) where N is the size of the sorted set and M the number of members removed."


@sorted_set(
    "ZPOPMIN key [count:int]",
    "Removes and returns the members of the lowest scores.",
    flags="write fast",
    since="5.0.0",
    complexity=_POP_COMPLEXITY,
    access="RW access delete",
)
def zpopmin(client: Client, argv: list[bytes]) -> Reply:
    return _pop_some(client, argv, highest=False)


@sorted_set(
    "ZPOPMAX key [count:int]",
    "Removes and returns the members of the highest scores.",
    flags="write fast",
    since="5.0.0",
    complexity=_POP_COMPLEXITY,
    access="RW access delete",
)
def zpopmax(client: Client, argv: list[bytes]) -> Reply:
    return _pop_some(client, argv, highest=True)


def _pop_some(client: Client, argv: list[bytes], highest: bool) -> Reply:
    if len(argv) > 3:
        raise SyntaxFault
    is_counted = len(argv) == 3
    count = parse_integer(argv[2], NotPositive) if is_counted else 1
    if count < 0:
        raise NotPositive
    value: SortedSet | None = client.db.find(argv[1], SortedSet)
    if value is None or not count:
        return []
    pairs = _pop(client, argv[1], value, highest, count)
    return _shown(client, pairs) if is_counted else list(pairs[0])


@sorted_set(
    "BZPOPMIN key [key ...] timeout:double",
    "Removes and returns the member of the lowest score of the first key that is there; waits for one if none is.",
    flags="write noscript blocking fast",
    since="5.0.0",
    complexity="O(log(N)) where N is the size of the sorted set.",
    access="RW access delete",
    keys=(keys_at(1, -2),),
)
def bzpopmin(client: Client, argv: list[bytes]) -> Reply:
    return _pop_or_wait(client, argv, highest=False)


@sorted_set(
    "BZPOPMAX key [key ...] timeout:double",
    "Removes and returns the member of the highest score of the first key that is there; waits for one if none is.",
    flags="write noscript blocking fast",
    since="5.0.0",
    complexity="O(log(N)) where N is the size of the sorted set.",
    access="RW access delete",
    keys=(keys_at(1, -2),),
)
def bzpopmax(client: Client, argv: list[bytes]) -> Reply:
    return _pop_or_wait(client, argv, highest=True)


def _pop_or_wait(client: Client, argv: list[bytes], highest: bool) -> Reply:
    _, *keys, timeout = argv
    timeout_s = parse_timeout(timeout)
    found = _first_found(client, keys)
    if found is None:
        return client.wait(keys, timeout_s, NULL_ARRAY, argv)
    key, value = found
    client.engine.journal.instead(client.db, b"ZPOPMAX" if highest else b"ZPOPMIN", key)
    return [key, *_pop(client, key, value, highest, 1)[0]]


@dataclass(frozen=True)
class _PopRequest:
    keys: list[bytes]
    highest: bool
    count: int


def _parse_pop(words: list[bytes]) -> _PopRequest:
    """`numkeys key [key ...] <MIN | MAX> [COUNT count]`."""
    keys_wrong = CommandError("ERR numkeys should be greater than 0")
    numkeys = parse_integer(words[0], keys_wrong)
    if numkeys < 1:
        raise keys_wrong
    place = 1 + numkeys
    if place >= len(words) or (where := words[place].upper()) not in (b"MIN", b"MAX"):
        raise SyntaxFault
    options = words[place + 1 :]
    count = 1
    if options:
        if len(options) < 2 or options[0].upper() != b"COUNT":
            raise SyntaxFault
        count_wrong = CommandError("ERR count should be greater than 0")
        count = parse_integer(options[1], count_wrong)
        if count < 1:
            raise count_wrong
        if len(options) > 2:
            raise SyntaxFault
    return _PopRequest(words[1:place], where == b"MAX", count)


def _pop_from(client: Client, asked: _PopRequest) -> tuple[bytes, list[Reply]] | None:
    """The key and its pairs, which are nested in both protocols; None if there is nothing to pop."""
    found = _first_found(client, asked.keys)
    if found is None:
        return None
    key, value = found
    return key, [list(pair) for pair in _pop(client, key, value, asked.highest, asked.count)]


_MPOP_COMPLEXITY: Final = (
    "O(K) + O(M*log(N)) where K is the number of keys, N the size of the sorted set and M the number of members"
    " removed."
)


@sorted_set(
    "ZMPOP numkeys:int key [key ...] <where=MIN | MAX> [COUNT count:int]",
    "Removes and returns members from one end of the first key that is there.",
    flags="write",
    since="7.0.0",
    complexity=_MPOP_COMPLEXITY,
    access="RW access delete",
    keys=(keys_counted(1),),
)
def zmpop(client: Client, argv: list[bytes]) -> Reply:
    popped = _pop_from(client, _parse_pop(argv[1:]))
    return NULL_ARRAY if popped is None else list(popped)


@sorted_set(
    "BZMPOP timeout:double numkeys:int key [key ...] <where=MIN | MAX> [COUNT count:int]",
    "Removes and returns members from one end of the first key that is there; waits for one if none is.",
    flags="write blocking",
    since="7.0.0",
    complexity=_MPOP_COMPLEXITY,
    access="RW access delete",
    keys=(keys_counted(2),),
)
def bzmpop(client: Client, argv: list[bytes]) -> Reply:
    asked = _parse_pop(argv[2:])
    timeout_s = parse_timeout(argv[1])
    popped = _pop_from(client, asked)
    if popped is None:
        return client.wait(asked.keys, timeout_s, NULL_ARRAY, argv)
    key, pairs = popped
    name = b"ZPOPMAX" if asked.highest else b"ZPOPMIN"
    client.engine.journal.instead(client.db, name, key, b"%d" % len(pairs))
    return [key, pairs]


# Unions, intersections and differences, of sorted sets and of sets, whose members have a score of 1


@dataclass(frozen=True)
class _Source:
    """One of the inputs; a value of None is a key that is not there."""

    value: Reply
    weight: float = 1.0

    def __len__(self) -> int:
        return 0 if self.value is None else len(self.value)

    def pairs(self) -> Iterable[Pair]:
        if self.value is None:
            return ()
        if self.value.kind == "zset":
            pairs: list[Pair] = self.value.slice(0, len(self.value))
            return pairs
        return ((member, 1.0) for member in self.value.members())

    def score(self, member: bytes) -> float | None:
        if self.value is None:
            return None
        if self.value.kind == "zset":
            score: float | None = self.value.score(member)
            return score
        return 1.0 if self.value.has(member) else None

    def weighed(self, score: float) -> float:
        """A score times the weight; infinity times 0 is 0."""
        return _number(self.weight * score)


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else value


_AGGREGATES: Final[dict[bytes, Callable[[float, float], float]]] = {
    b"SUM": lambda total, score: _number(total + score),
    b"MIN": lambda total, score: score if score < total else total,
    b"MAX": lambda total, score: score if score > total else total,
}


@dataclass
class _Combination:
    sources: list[_Source]
    aggregate: Callable[[float, float], float] = _AGGREGATES[b"SUM"]
    with_scores: bool = False
    limit: int = 0  # of ZINTERCARD; 0 is none


def _parse_combination(client: Client, argv: list[bytes], at: int, allowed: frozenset[bytes]) -> _Combination:
    """`numkeys key [key ...]` from argv[at] on, and options; Redis reads the keys before it looks at options."""
    numkeys = parse_integer(argv[at])
    if numkeys < 1:
        raise CommandError(f"ERR at least 1 input key is needed for '{argv[0].decode('ascii').lower()}' command")
    place = at + 1 + numkeys
    if place > len(argv):
        raise SyntaxFault
    sources = [_Source(_source_value(client, key)) for key in argv[at + 1 : place]]
    asked = _Combination(sources)
    while place < len(argv):
        word = argv[place].upper()
        place += 1
        left = len(argv) - place
        if word not in allowed:
            raise SyntaxFault
        if word == b"WEIGHTS" and left >= numkeys:
            not_a_weight = CommandError("ERR weight value is not a float")
            weights = [parse_float(weight, not_a_weight) for weight in argv[place : place + numkeys]]
            asked.sources = [_Source(source.value, weight) for source, weight in zip(sources, weights, strict=True)]
            place += numkeys
        elif word == b"AGGREGATE" and left and argv[place].upper() in _AGGREGATES:
            asked.aggregate = _AGGREGATES[argv[place].upper()]
            place += 1
        elif word == b"LIMIT" and left:
            negative = CommandError("ERR LIMIT can't be negative")
            asked.limit = parse_integer(argv[place], negative)
            if asked.limit < 0:
                raise negative
            place += 1
        elif word == b"WITHSCORES":
            asked.with_scores = True
        else:
            raise SyntaxFault
    return asked


def _source_value(client: Client, key: bytes) -> Reply:
    value = client.db.inspect(key)
    if value is not None and getattr(value, "kind", "") not in ("zset", "set"):
        raise WrongType
    return value


def _union(asked: _Combination) -> dict[bytes, float]:
    scores: dict[bytes, float] = {}
    # Redis begins with the smallest, which shows in how sums are rounded.
    for source in sorted(asked.sources, key=len):
        for member, score in source.pairs():
            score = source.weighed(score)
            scores[member] = asked.aggregate(scores[member], score) if member in scores else score
    return scores


def _intersection(asked: _Combination) -> dict[bytes, float]:
    scores: dict[bytes, float] = {}
    smallest, *others = sorted(asked.sources, key=len)
    for member, score in smallest.pairs():
        total = smallest.weighed(score)
        for source in others:
            found = source.score(member)
            if found is None:
                break
            total = asked.aggregate(total, source.weight * found)
        else:
            scores[member] = total
            if len(scores) == asked.limit:
                break
    return scores


def _difference(asked: _Combination) -> dict[bytes, float]:
    first, *others = asked.sources
    return {member: score for member, score in first.pairs() if all(source.score(member) is None for source in others)}


def _in_order(scores: dict[bytes, float]) -> list[Pair]:
    return sorted(scores.items(), key=lambda pair: (pair[1], pair[0]))


Combine: TypeAlias = Callable[[_Combination], dict[bytes, float]]

_WEIGHING: Final = frozenset({b"WEIGHTS", b"AGGREGATE"})
_WITH_SCORES: Final = frozenset({b"WITHSCORES"})
_WEIGHING_USAGE: Final = "[WEIGHTS weight:int [weight:int ...]] [AGGREGATE <aggregate=SUM | MIN | MAX>]"


def _combine(client: Client, argv: list[bytes], combine: Combine, allowed: frozenset[bytes]) -> Reply:
    asked = _parse_combination(client, argv, 1, allowed | _WITH_SCORES)
    pairs = _in_order(combine(asked))
    return _shown(client, pairs) if asked.with_scores else [member for member, _ in pairs]


def _combine_into(
    client: Client, argv: list[bytes], combine: Combine, allowed: frozenset[bytes], event: bytes
) -> Reply:
    asked = _parse_combination(client, argv, 2, allowed)
    return store(client, argv[1], _in_order(combine(asked)), event)


_UNION_COMPLEXITY: Final = "O(N)+O(M*log(M)) where N is the size of all inputs and M that of the result."
_INTERSECTION_COMPLEXITY: Final = (
    "O(N*K)+O(M*log(M)) where N is the size of the smallest input, K the number of inputs and M the size of the result."
)
_DIFFERENCE_COMPLEXITY: Final = (
    "O(N*K)+O(M*log(M)) where N is the size of the first input, K the number of inputs and M the size of the result."
)
_STORE_ACCESS: Final = ("OW update", "RO access")
_STORE_KEYS: Final = (keys_at(1), keys_counted(2))


@sorted_set(
    f"ZUNION numkeys:int key [key ...] {_WEIGHING_USAGE} [WITHSCORES]",
    "Returns the members of any of several sorted sets, their scores combined.",
    flags="readonly",
    since="6.2.0",
    complexity=_UNION_COMPLEXITY,
    keys=(keys_counted(1),),
)
def zunion(client: Client, argv: list[bytes]) -> Reply:
    return _combine(client, argv, _union, _WEIGHING)


@sorted_set(
    f"ZINTER numkeys:int key [key ...] {_WEIGHING_USAGE} [WITHSCORES]",
    "Returns the members that all of several sorted sets have, their scores combined.",
    flags="readonly",
    since="6.2.0",
    complexity=_INTERSECTION_COMPLEXITY,
    keys=(keys_counted(1),),
)
def zinter(client: Client, argv: list[bytes]) -> Reply:
    return _combine(client, argv, _intersection, _WEIGHING)


@sorted_set(
    "ZDIFF numkeys:int key [key ...] [WITHSCORES]",
    "Returns the members of the first sorted set that none of the others has.",
    flags="readonly",
    since="6.2.0",
    complexity=_DIFFERENCE_COMPLEXITY,
    keys=(keys_counted(1),),
)
def zdiff(client: Client, argv: list[bytes]) -> Reply:
    return _combine(client, argv, _difference, frozenset())


@sorted_set(
    f"ZUNIONSTORE destination:key numkeys:int key [key ...] {_WEIGHING_USAGE}",
    "Stores the members of any of several sorted sets in a key, their scores combined.",
    flags="write denyoom",
    since="2.0.0",
    complexity=_UNION_COMPLEXITY,
    access=_STORE_ACCESS,
    keys=_STORE_KEYS,
)
def zunionstore(client: Client, argv: list[bytes]) -> Reply:
    return _combine_into(client, argv, _union, _WEIGHING, b"zunionstore")


@sorted_set(
    f"ZINTERSTORE destination:key numkeys:int key [key ...] {_WEIGHING_USAGE}",
    "Stores the members that all of several sorted sets have in a key, their scores combined.",
    flags="write denyoom",
    since="2.0.0",
    complexity=_INTERSECTION_COMPLEXITY,
    access=_STORE_ACCESS,
    keys=_STORE_KEYS,
)
def zinterstore(client: Client, argv: list[bytes]) -> Reply:
    return _combine_into(client, argv, _intersection, _WEIGHING, b"zinterstore")


@sorted_set(
    "ZDIFFSTORE destination:key numkeys:int key [key ...]",
    "Stores the members of the first sorted set that none of the others has in a key.",
    flags="write denyoom",
    since="6.2.0",
    complexity=_DIFFERENCE_COMPLEXITY,
    access=_STORE_ACCESS,
    keys=_STORE_KEYS,
)
def zdiffstore(client: Client, argv: list[bytes]) -> Reply:
    return _combine_into(client, argv, _difference, frozenset(), b"zdiffstore")


@sorted_set(
    "ZINTERCARD numkeys:int key [key ...] [LIMIT limit:int]",
    "Returns how many members all of several sorted sets have.",
    flags="readonly",
    since="7.0.0",
    complexity="O(N*K) where N is the size of the smallest input and K the number of inputs.",
    keys=(keys_counted(1),),
)
def zintercard(client: Client, argv: list[bytes]) -> Reply:
    return len(_intersection(_parse_combination(client, argv, 1, frozenset({b"LIMIT"}))))


# Random members, and walking

# So many random members, of which each may come again and again, fill gigabytes; Redis tries.
_REPEATS_MAX: Final = 1 << 24


@sorted_set(
    "ZRANDMEMBER key [options=count:int [WITHSCORES]]",
    "Returns members picked at random: each at most once, or, of a negative count, each as often as it comes.",
    flags="readonly",
    since="6.2.0",
    complexity="O(N) where N is the number of members returned.",
    tips=("nondeterministic_output",),
)
def zrandmember(client: Client, argv: list[bytes]) -> Reply:
    _, key, *words = argv
    if not words:
        value: SortedSet | None = client.db.read(key, SortedSet)
        return None if value is None else value.random()[0]
    count = parse_integer(words[0])
    if count < -INT64_MAX:
        raise CommandError(f"ERR value is out of range, value must between {-INT64_MAX} and {INT64_MAX}")
    with_scores = len(words) == 2
    if len(words) > 2 or (with_scores and words[1].upper() != b"WITHSCORES"):
        raise SyntaxFault
    if count < -_REPEATS_MAX or (with_scores and count > INT64_MAX // 2):
        raise CommandError("ERR value is out of range")
    value = client.db.read(key, SortedSet)
    pairs = [] if value is None else _pick(value, count)
    return _shown(client, pairs) if with_scores else [member for member, _ in pairs]


def _pick(value: SortedSet, count: int) -> list[Pair]:
    length = len(value)
    if count < 0:
        return [value.random() for _ in range(-count)]
    if count >= length:
        return value.slice(0, length)
    return [value.slice(rank, rank + 1)[0] for rank in sample(range(length), count)]


@sorted_set(
    "ZSCAN key cursor:int [MATCH pattern:pattern] [COUNT count:int]",
    "Returns some of the members with their scores, and the cursor that the next call goes on with.",
    flags="readonly",
    since="2.8.0",
    complexity="O(1) for a call, O(N) for all of the N members.",
    tips=("nondeterministic_output",),
)
def zscan(client: Client, argv: list[bytes]) -> Reply:
    _, key, text, *words = argv
    cursor = parse_cursor(text)
    value: SortedSet | None = client.db.read(key, SortedSet)
    if value is None:
        return [b"0", []]
    options = parse_scan(words)
    cursor, pairs = value.scan(cursor, options.count)
    match = options.match
    found: list[bytes] = []
    for member, score in pairs:
        if match is None or match(member):
            found += (member, format_double(score))
    return [b"%d" % cursor, found]
