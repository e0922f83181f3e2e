"""Random requests of sorted sets and of geo indexes; see words.py."""

from hypothesis import strategies as st

from .words import FLOATS, INTEGERS, Word, keys, options, some, texts, words

# Few members and scores, so that requests meet; long members make a large set of a small one.
members = st.sampled_from(
    (b"m", b"n", b"o", b"p", b"q", b"", b"\x00\xff", b"mm", b"x" * 64, b"y" * 65, b"10", b"7", b"Palermo", b"Catania")
)
scores = (
    st.sampled_from((b"1", b"2", b"2", b"3", b"-1", b"0", b"1.5", b"0.1", b"inf", b"-inf", b"-0", b"1e20", b"0x10"))
    | st.sampled_from(FLOATS)
    | st.sampled_from(INTEGERS)
)
ends = (
    st.sampled_from((b"-inf", b"+inf", b"1", b"(1", b"2", b"(2", b"3", b"0", b"(0", b"", b"(", b" 1", b"1 ", b"((1"))
    | scores
    | scores.map(lambda score: b"(" + score)
)
ranks = st.sampled_from((b"0", b"1", b"2", b"-1", b"-2", b"-3", b"5", b"-100", b"100", b"x")) | st.sampled_from(
    INTEGERS
)
lex_ends = (
    st.sampled_from(
        (b"-", b"+", b"-", b"+", b"[m", b"(m", b"[n", b"(o", b"[", b"(", b"", b"m", b"+x", b"-\x00", b"[\xff")
    )
    | members.map(lambda member: b"[" + member)
    | members.map(lambda member: b"(" + member)
)
counts = st.sampled_from((b"1", b"2", b"5", b"0", b"-1", b"100", b"x", b""))
limit = words(
    "LIMIT", st.sampled_from((b"0", b"1", b"2", b"-1", b"x", b"100")), st.sampled_from((b"1", b"2", b"-1", b"0"))
)


@st.composite
def sources(draw: st.DrawFn) -> list[Word]:
    """`numkeys key [key ...]`, sometimes miscounted, and options that fit the number."""
    names = draw(st.lists(keys, min_size=1, max_size=3))
    said = draw(st.sampled_from((len(names),) * 12 + (0, -1, len(names) + 1, 100)))
    found: list[Word] = [draw(st.sampled_from((b"%d" % said,) * 20 + (b"x", b""))), *names]
    return found


@st.composite
def weighed(draw: st.DrawFn, *more: str) -> list[Word]:
    found = draw(sources())
    count = len(found) - 1
    if draw(st.booleans()):
        weight = st.sampled_from((b"1", b"2", b"-1", b"0", b"0.5", b"inf", b"x", b"nan"))
        found += [b"WEIGHTS", *draw(st.lists(weight, min_size=count, max_size=count))]
    if draw(st.booleans()):
        found += [b"AGGREGATE", draw(st.sampled_from((b"SUM", b"MIN", b"max", b"x")))]
    if more:
        found += draw(options(*more, max_size=1))
    return found


_WITH_SCORES = options("WITHSCORES", max_size=1)
_ADD = options("NX", "XX", "GT", "LT", "CH", "INCR", max_size=2)

SORTED_SETS: dict[str, st.SearchStrategy[list[Word]]] = {
    "ZADD": words("ZADD", keys, some(st.tuples(scores, members), max_size=6))
    | words("ZADD", keys, _ADD, some(st.tuples(scores, members), max_size=3)),
    "ZINCRBY": words("ZINCRBY", keys, scores, members),
    "ZREM": words("ZREM", keys, some(members)),
    "ZCARD": words("ZCARD", keys),
    "ZSCORE": words("ZSCORE", keys, members),
    "ZMSCORE": words("ZMSCORE", keys, some(members)),
    "ZRANK": words("ZRANK", keys, members),
    "ZREVRANK": words("ZREVRANK", keys, members),
    "ZCOUNT": words("ZCOUNT", keys, ends, ends),
    "ZRANGE": words("ZRANGE", keys, ranks, ranks, _WITH_SCORES)
    | words("ZRANGE", keys, ranks, ranks, options("WITHSCORES", "REV", "BYLEX", limit))
    | words("ZRANGE", keys, ends, ends, options("BYSCORE", "BYSCORE", "WITHSCORES", "REV", limit, max_size=5)),
    "ZREVRANGE": words("ZREVRANGE", keys, ranks, ranks, _WITH_SCORES),
    "ZRANGEBYSCORE": words("ZRANGEBYSCORE", keys, ends, ends, options("WITHSCORES", limit)),
    "ZREVRANGEBYSCORE": words("ZREVRANGEBYSCORE", keys, ends, ends, options("WITHSCORES", limit)),
    "ZRANGESTORE": words("ZRANGESTORE", keys, keys, ranks, ranks, options("REV", max_size=1))
    | words("ZRANGESTORE", keys, keys, ends, ends, options("BYSCORE", "BYSCORE", "REV", limit, max_size=4)),
    "ZREMRANGEBYRANK": words("ZREMRANGEBYRANK", keys, ranks, ranks),
    "ZREMRANGEBYSCORE": words("ZREMRANGEBYSCORE", keys, ends, ends),
    "ZPOPMIN": words("ZPOPMIN", keys, st.lists(counts, max_size=1)),
    "ZPOPMAX": words("ZPOPMAX", keys, st.lists(counts, max_size=1)),
    "ZMPOP": words("ZMPOP", sources(), st.sampled_from((b"MIN", b"MAX", b"x")),
        options(words("COUNT", counts), max_size=1)),
    "ZUNION": words("ZUNION", weighed("WITHSCORES")),
    "ZINTER": words("ZINTER", weighed("WITHSCORES")),
    "ZDIFF": words("ZDIFF", sources(), options("WITHSCORES", "WEIGHTS", max_size=1)),
    "ZUNIONSTORE": words("ZUNIONSTORE", keys, weighed()),
    "ZINTERSTORE": words("ZINTERSTORE", keys, weighed()),
    "ZDIFFSTORE": words("ZDIFFSTORE", keys, sources()),
    "ZINTERCARD": words("ZINTERCARD", sources(), options(words("LIMIT", counts), max_size=1)),
    "ZRANDMEMBER": words("ZRANDMEMBER", keys, st.lists(counts, max_size=1), _WITH_SCORES),
    "ZSCAN": words(
        "ZSCAN",
        keys,
        st.sampled_from((b"0", b"0", b"0", b"x", b"")),
        options(words("MATCH", st.sampled_from((b"*", b"m*", b"?", b"x"))), words("COUNT", counts)),
    ),
}  # fmt: skip

# Where scores differ a range of members is whatever comes out; so all have the same.
LEX: dict[str, st.SearchStrategy[list[Word]]] = {
    "ZADD": words("ZADD", keys, some(st.tuples(st.just(b"0"), members), max_size=6)),
    "ZLEXCOUNT": words("ZLEXCOUNT", keys, lex_ends, lex_ends),
    "ZRANGE": words("ZRANGE", keys, lex_ends, lex_ends, "BYLEX", options("REV", "WITHSCORES", limit)),
    "ZRANGEBYLEX": words("ZRANGEBYLEX", keys, lex_ends, lex_ends, options("WITHSCORES", limit)),
    "ZREVRANGEBYLEX": words("ZREVRANGEBYLEX", keys, lex_ends, lex_ends, options(limit)),
    "ZREMRANGEBYLEX": words("ZREMRANGEBYLEX", keys, lex_ends, lex_ends),
    "ZRANGESTORE": words("ZRANGESTORE", keys, keys, lex_ends, lex_ends, "BYLEX", options("REV", limit)),
}

longitudes = st.sampled_from(
    (
        b"13.361389",
        b"15.087269",
        b"15",
        b"0",
        b"-180",
        b"180",
        b"179.99",
        b"-179.99",
        b"181",
        b"x",
        b"2.2945",
        b"2.2950",
    )
) | st.floats(-180, 180).map(lambda degrees: b"%.6f" % degrees)
latitudes = st.sampled_from(
    (
        b"38.115556",
        b"37.502669",
        b"37",
        b"0",
        b"85.05112878",
        b"-85.05112878",
        b"85.06",
        b"84",
        b"-84",
        b"48.8584",
        b"inf",
    )
) | st.floats(-85, 85).map(lambda degrees: b"%.6f" % degrees)
units = st.sampled_from((b"m", b"KM", b"km", b"ft", b"mi", b"km", b"x"))
lengths = st.sampled_from(
    (b"0", b"1", b"100", b"200", b"400", b"1000", b"5000", b"20000", b"1e5", b"-1", b"x", b"0.5", b"1e9", b"inf")
) | st.floats(0, 30000).map(lambda length: b"%.3f" % length)
places = st.tuples(longitudes, latitudes)
centre = words("FROMLONLAT", places) | words("FROMLONLAT", places) | words("FROMMEMBER", members)
area = words("BYRADIUS", lengths, units) | words("BYBOX", lengths, lengths, units)
count = words("COUNT", counts) | words("COUNT", counts, "ANY") | words("COUNT", b"2")
_SHOWN = options("WITHCOORD", "WITHDIST", "WITHHASH", "ASC", "DESC", count, "ANY", max_size=4)
# Equal distances come in any order, so that what is cut off is not compared where nothing says which.
_STORED = options("ASC", "DESC", "STOREDIST", max_size=3)
_OLD = options("WITHCOORD", "WITHDIST", "WITHHASH", "ASC", "DESC", count, max_size=3)
_STORE = words("STORE", keys) | words("STOREDIST", keys)

GEO: dict[str, st.SearchStrategy[list[Word]]] = {
    "GEOADD": words("GEOADD", keys, some(st.tuples(longitudes, latitudes, members), max_size=6))
    | words("GEOADD", keys, options("NX", "XX", "CH"), some(st.tuples(longitudes, latitudes, members))),
    "GEOPOS": words("GEOPOS", keys, some(members)),
    "GEOHASH": words("GEOHASH", keys, some(members)),
    "GEODIST": words("GEODIST", keys, members, members, st.lists(units, max_size=1)),
    "GEOSEARCH": words("GEOSEARCH", keys, centre, area, _SHOWN),
    "GEOSEARCHSTORE": words("GEOSEARCHSTORE", keys, keys, centre, area, _STORED),
    "GEORADIUS": words("GEORADIUS", keys, places, lengths, units, _OLD)
    | words("GEORADIUS", keys, places, lengths, units, options("WITHDIST", _STORE, max_size=2)),
    "GEORADIUSBYMEMBER": words("GEORADIUSBYMEMBER", keys, members, lengths, units, _OLD)
    | words("GEORADIUSBYMEMBER", keys, members, lengths, units, options("ASC", _STORE, max_size=2)),
    "GEORADIUS_RO": words("GEORADIUS_RO", keys, places, lengths, units, _OLD),
    "GEORADIUSBYMEMBER_RO": words("GEORADIUSBYMEMBER_RO", keys, members, lengths, units, _OLD),
}

# What else keys may hold.
OTHERS: dict[str, st.SearchStrategy[list[Word]]] = {
    "SET": words("SET", keys, texts),
    "DEL": words("DEL", keys),
    "TYPE": words("TYPE", keys),
    "OBJECT": words("OBJECT", "ENCODING", keys),
    "COPY": words("COPY", keys, keys, options("REPLACE")),
    "RENAME": words("RENAME", keys, keys),
}
