"""Random requests to lists, and SORT; see words.py.  Some elements are numbers, some are parts of keys."""

from hypothesis import strategies as st

from .words import KEYS, STRINGS, TEXTS, TIMES_MS, Word, floats, integers, keys, options, some, words

# Few, so that equal ones meet; `a` and `b` are keys, too, and the long ones make a list more than a listpack.
ELEMENTS = (b"a", b"b", b"a", b"b", b"1", b"2", b"10", b"-3", b"1.5", b"", b"x" * 100, b"y" * 5000)
elements = st.sampled_from(ELEMENTS) | st.sampled_from(TEXTS) | floats
places = st.integers(-8, 8).map(lambda number: b"%d" % number) | integers
counts = st.sampled_from((b"0", b"1", b"2", b"3", b"10", b"-1")) | integers
sides = st.sampled_from((b"LEFT", b"RIGHT", b"left", b"Right", b"RIGHT", b"LEFT", b"MIDDLE"))
timeouts = st.sampled_from((b"0", b"1", b"0.01", b"0", b"1", b"1e3", b"0x1p1", b"-1", b"x", b"", b" 1", b"nan", b"1.5"))


@st.composite
def _counted(draw: st.DrawFn) -> list[Word]:
    """numkeys and keys, mostly as many."""
    drawn = draw(st.lists(keys, min_size=1, max_size=4))
    number = draw(st.sampled_from((b"0", b"-1", b"x", b"9", b"1"))) if draw(st.integers(0, 7)) == 0 else None
    return [number or b"%d" % len(drawn), *drawn]


LISTS: dict[str, st.SearchStrategy[list[Word]]] = {
    "LPUSH": words("LPUSH", keys, some(elements)),
    "RPUSH": words("RPUSH", keys, some(elements)),
    "LPUSHX": words("LPUSHX", keys, some(elements)),
    "RPUSHX": words("RPUSHX", keys, some(elements)),
    "LPOP": words("LPOP", keys, st.lists(counts, max_size=1)),
    "RPOP": words("RPOP", keys, st.lists(counts, max_size=1)),
    "LLEN": words("LLEN", keys),
    "LINDEX": words("LINDEX", keys, places),
    "LSET": words("LSET", keys, places, elements),
    "LINSERT": words("LINSERT", keys, st.sampled_from((b"BEFORE", b"AFTER", b"after", b"AT")), elements, elements),
    "LRANGE": words("LRANGE", keys, places, places) | words("LRANGE", keys, "0", "-1"),
    "LTRIM": words("LTRIM", keys, places, places),
    "LREM": words("LREM", keys, places, elements),
    "LPOS": words(
        "LPOS", keys, elements, options(words("RANK", places), words("COUNT", counts), words("MAXLEN", counts))
    ),
    "LMOVE": words("LMOVE", keys, keys, sides, sides),
    "RPOPLPUSH": words("RPOPLPUSH", keys, keys),
    "LMPOP": words("LMPOP", _counted(), sides, options(words("COUNT", counts), max_size=2)),
}

_SORTED_OPTIONS = options(
    "ASC",
    "DESC",
    "ALPHA",
    words("LIMIT", places, counts),
    words("BY", st.sampled_from((b"*", b"nosort", b"#", b"key:*", b"{*}", b"*->f", b"*->", b""))),
    words("GET", st.sampled_from((b"*", b"#", b"nosort", b"key:*", b"*->", b"{t}*", b"*->f"))),
    max_size=4,
)

SORTING: dict[str, st.SearchStrategy[list[Word]]] = {
    "SORT": words("SORT", keys, _SORTED_OPTIONS, options(words("STORE", keys), max_size=1)),
    "SORT_RO": words("SORT_RO", keys, _SORTED_OPTIONS, options(words("STORE", keys), max_size=1)),
}

# Only for transactions, where they do not wait; test_blocking_lists.py has them where they do.
BLOCKING: dict[str, st.SearchStrategy[list[Word]]] = {
    "BLPOP": words("BLPOP", some(keys), timeouts),
    "BRPOP": words("BRPOP", some(keys), timeouts),
    "BLMOVE": words("BLMOVE", keys, keys, sides, sides, timeouts),
    "BRPOPLPUSH": words("BRPOPLPUSH", keys, keys, timeouts),
    "BLMPOP": words("BLMPOP", timeouts, _counted(), sides, options(words("COUNT", counts), max_size=2)),
}

FILL = {
    "RPUSH a": words("RPUSH", st.sampled_from(KEYS[:2]), some(elements, max_size=20)),
    "RPUSH": LISTS["RPUSH"],
    "LPUSH": LISTS["LPUSH"],
    "SET": words("SET", keys, elements),
    "PEXPIREAT": words("PEXPIREAT", keys, st.sampled_from(TIMES_MS[2:6])),
    "MSET": STRINGS["MSET"],
    "numbers": words("RPUSH", st.sampled_from(KEYS[:2]), some(st.sampled_from((b"1", b"2", b"10", b"-3", b"1e2")))),
}

# What SORT finds beside lists: sets and sorted sets of numbers and names of keys, and hashes to look into.
_members = st.sampled_from((b"1", b"2", b"10", b"-3", b"1e2", b"a", b"b", b"{t}1", b"3", b"x"))
_scores = st.sampled_from((b"1", b"2", b"2", b"-1", b"inf", b"0.5"))
CONTAINERS: dict[str, st.SearchStrategy[list[Word]]] = {
    "SADD": words("SADD", st.sampled_from(KEYS[:3]), some(_members)),
    "ZADD": words("ZADD", st.sampled_from(KEYS[:3]), some(st.tuples(_scores, _members))),
    "HSET": words("HSET", keys, st.sampled_from((b"f", b"")), elements),
    "RPUSH": words("RPUSH", st.sampled_from(KEYS[:3]), some(_members)),
    "SET": words("SET", keys, _members),
}
