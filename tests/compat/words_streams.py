"""Random requests about streams, as words.py has them for strings and keys."""

from collections.abc import Sequence

from hypothesis import strategies as st

from .words import Step, Word, assemble, integers, options, some, steps, words

KEYS = (b"a", b"b", b"{t}1")
GROUPS = (b"g", b"h")
CONSUMERS = (b"c", b"d", b"e")
MAX = b"18446744073709551615"

IDS = (
    b"0", b"0-0", b"0-1", b"1", b"1-0", b"1-1", b"1-2", b"1-3", b"2", b"2-1", b"3-0", b"3-5", b"4", b"5-1", b"7-7",
    b"9-9", b"100-0",
)  # fmt: skip
ODD_IDS = (
    MAX, MAX + b"-" + MAX, MAX + b"-1", b"1-" + MAX, b"18446744073709551616", b"1-18446744073709551616", b"1-", b"-1",
    b"--", b"1--1", b"1-1-1", b"01-01", b"+1-+1", b" 1-1", b"1 -1", b"1- 1", b"1--05", b"-", b"+", b"$", b">", b"*",
    b"1-*", b"x", b"", b"(", b"(1-1", b"1.5", b"1e3", b"0x1", b"1-a", b"9" * 127, b"0" * 126 + b"1", b"0" * 127 + b"1",
)  # fmt: skip
NEW_IDS = (b"1-*", b"2-*", b"3-*", b"0-*", b"5-*", b"9-*", MAX + b"-*", b"x-*", b"-*", b"1-**")

keys = st.sampled_from(KEYS) | st.just(b"a") | st.just(b"a")
groups = st.just(b"g") | st.just(b"g") | st.sampled_from(GROUPS)
consumers = st.sampled_from(CONSUMERS)
near_ids = st.sampled_from(IDS)
ids = near_ids | near_ids | near_ids | st.sampled_from(ODD_IDS)
new_ids = near_ids | near_ids | st.sampled_from(NEW_IDS) | st.sampled_from(ODD_IDS).filter(lambda word: word != b"*")
# For XSETID none that is less than one that was deleted: 7.0 does not look for that.
last_ids = st.sampled_from((b"100-0", b"100-1", b"200-5", MAX, b"x", b"-", b"$", b"1-*", b"0100"))
rising_ids = st.tuples(st.integers(1, 12), st.integers(0, 3)).map(lambda pair: b"%d-%d" % pair)
bounds = st.sampled_from((b"-", b"+", b"(1-1", b"(2", b"(" + MAX, b"(0", b"(-", b"(+", b"(1-" + MAX)) | ids
counts = st.sampled_from((b"1", b"2", b"3", b"10", b"0", b"-1")) | integers
values = st.sampled_from((b"v", b"", b"12", b"-5", b"4096", b"x" * 70, b"y" * 300))
names = st.sampled_from((b"f", b"g", b"7"))
trimming = st.one_of(
    words("MAXLEN", options("~", "=", max_size=1), counts),
    words("MINID", options("~", "=", max_size=1), ids),
    words("MAXLEN", "~", counts, "LIMIT", counts),
    words("MINID", "~", ids, "LIMIT", counts),
    words("MAXLEN", counts, "LIMIT", counts),
    words("LIMIT", counts),
)
# Far beyond any idle time that a test could bring about, or below.
idle = st.sampled_from((b"0", b"0", b"0", b"5000000", b"500000000", b"-1", b"x"))

_POSITIONS = st.just(b">")
_READ = words("STREAMS", keys, _POSITIONS | _POSITIONS | ids) | words("STREAMS", keys, keys, _POSITIONS, ids)

ADDING: dict[str, st.SearchStrategy[list[Word]]] = {
    "XADD": words("XADD", keys, rising_ids, some(st.tuples(names, values), max_size=3))
    | words("XADD", keys, options("NOMKSTREAM", trimming, max_size=2), new_ids, some(st.tuples(names, values))),
    "XADD MAXLEN": words("XADD", keys, trimming, rising_ids, "f", values),
}

STREAMS: dict[str, st.SearchStrategy[list[Word]]] = {
    **ADDING,
    "XLEN": words("XLEN", keys),
    "XRANGE": words("XRANGE", keys, bounds, bounds, options(words("COUNT", counts), max_size=2)),
    "XREVRANGE": words("XREVRANGE", keys, bounds, bounds, options(words("COUNT", counts), max_size=2)),
    "XDEL": words("XDEL", keys, some(ids)) | words("XDEL", keys, near_ids),
    "XTRIM": words("XTRIM", keys, trimming),
    "XSETID": words(
        "XSETID", keys, last_ids, options(words("ENTRIESADDED", counts), words("MAXDELETEDID", ids), max_size=2)
    ),
    "XREAD": words(
        "XREAD", options(words("COUNT", counts), max_size=1), words("STREAMS", keys, ids)
        | words("STREAMS", keys, keys, ids, ids)
    ),
    "XINFO STREAM": words("XINFO", "STREAM", keys, options("FULL", words("FULL", "COUNT", counts), max_size=1)),
}  # fmt: skip

GROUP_COMMANDS: dict[str, st.SearchStrategy[list[Word]]] = {
    "XGROUP CREATE": words(
        "XGROUP", "CREATE", keys, groups, near_ids | st.just(b"$") | ids,
        options("MKSTREAM", words("ENTRIESREAD", counts), max_size=2),
    ),
    "XGROUP SETID": words(
        "XGROUP", "SETID", keys, groups, near_ids | st.just(b"$") | ids,
        options("MKSTREAM", words("ENTRIESREAD", counts), max_size=2),
    ),
    "XGROUP DESTROY": words("XGROUP", "DESTROY", keys, groups),
    "XGROUP CREATECONSUMER": words("XGROUP", "CREATECONSUMER", keys, groups, consumers),
    "XGROUP DELCONSUMER": words("XGROUP", "DELCONSUMER", keys, groups, consumers),
    "XREADGROUP": words(
        "XREADGROUP", "GROUP", groups, consumers, options(words("COUNT", counts), "NOACK", max_size=2), _READ
    ),
    "XACK": words("XACK", keys, groups, some(near_ids)) | words("XACK", keys, groups, some(ids)),
    "XPENDING": words("XPENDING", keys, groups)
    | words(
        "XPENDING", keys, groups, options(words("IDLE", idle), max_size=1), bounds, bounds, counts,
        options("c", "d", "nobody", max_size=1),
    ),
    "XCLAIM": words(
        "XCLAIM", keys, groups, consumers, idle, some(near_ids) | some(ids),
        options(
            words("IDLE", idle), words("TIME", st.sampled_from((b"0", b"1000", b"-1", b"9223372036854775807", b"x"))),
            words("RETRYCOUNT", counts), "FORCE", "JUSTID", words("LASTID", ids),
        ),
    ),
    "XAUTOCLAIM": words(
        "XAUTOCLAIM", keys, groups, consumers, idle, bounds, options(words("COUNT", counts), "JUSTID", max_size=2)
    ),
    "XINFO GROUPS": words("XINFO", "GROUPS", keys),
    "XINFO CONSUMERS": words("XINFO", "CONSUMERS", keys, groups),
}  # fmt: skip

# What decides how far a group is behind: few commands on one stream, so that they meet.
_near = st.sampled_from((b"1-1", b"1-2", b"2-1", b"3-5", b"4-0", b"5-1", b"6-0"))
LAG: dict[str, st.SearchStrategy[list[Word]]] = {
    "XADD": words("XADD", "a", st.integers(4, 12).map(lambda time: b"%d-0" % time), "f", "v"),
    "XDEL": words("XDEL", "a", _near),
    "XTRIM": words("XTRIM", "a", "MINID", _near) | words("XTRIM", "a", "MAXLEN", st.sampled_from((b"0", b"1", b"3"))),
    "XREADGROUP": words(
        "XREADGROUP", "GROUP", groups, "c", "COUNT", st.sampled_from((b"1", b"2")), "STREAMS", "a", ">"
    ),
    "XGROUP CREATE": words(
        "XGROUP", "CREATE", "a", groups, _near | st.just(b"$"), options(words("ENTRIESREAD", counts), max_size=1)
    ),
    "XGROUP SETID": words(
        "XGROUP", "SETID", "a", groups, _near | st.just(b"$"), options(words("ENTRIESREAD", counts), max_size=1)
    ),
    "XSETID": words(
        "XSETID", "a", last_ids, options(words("ENTRIESADDED", counts), words("MAXDELETEDID", _near), max_size=2)
    ),
    "XINFO GROUPS": words("XINFO", "GROUPS", "a"),
}

OTHERS: dict[str, st.SearchStrategy[list[Word]]] = {
    "DEL": words("DEL", keys),
    "SET": words("SET", keys, "v"),
    "COPY": words("COPY", keys, keys, options("REPLACE", max_size=1)),
    "RENAME": words("RENAME", keys, keys),
    "TYPE": words("TYPE", keys),
    "OBJECT ENCODING": words("OBJECT", "ENCODING", keys),
}

# So that most requests find something.
_START: tuple[Step, ...] = (
    (b"XADD", b"a", b"1-1", b"f", b"v"),
    (b"XADD", b"a", b"1-2", b"f", b"12"),
    (b"XADD", b"a", b"2-1", b"f", b"v", b"f", b"w"),
    (b"XADD", b"a", b"3-5", b"g", b"v"),
    (b"XGROUP", b"CREATE", b"a", b"g", b"0"),
)
_END: tuple[Step, ...] = tuple((b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0") for key in KEYS)


def programs(table: dict[str, st.SearchStrategy[list[Word]]], max_size: int = 30) -> st.SearchStrategy[list[Step]]:
    """Programs that begin with a filled stream or with nothing, and end by telling all that the streams hold."""
    middle = st.lists(steps(table), min_size=1, max_size=max_size).map(assemble).map(with_consumers)
    start = st.sampled_from((_START, _START, _START, ()))
    return st.tuples(start, middle).map(lambda parts: [*parts[0], *parts[1], *_END])


def with_consumers(program: Sequence[Step]) -> list[Step]:
    """Have consumers made before they claim: 7.0 makes them only when they get something, 7.2 always."""
    steps_and_makers: list[Step] = []
    for step in program:
        name = step[0].upper()
        if name in (b"XCLAIM", b"XAUTOCLAIM") and len(step) > 3:
            steps_and_makers.append((b"XGROUP", b"CREATECONSUMER", *step[1:4]))
        upper = [word.upper() for word in step]
        if name == b"XREADGROUP" and b"STREAMS" in upper and len(step) > 3:
            place = upper.index(b"STREAMS") + 1
            keys_read = step[place : place + (len(step) - place) // 2]
            steps_and_makers += [(b"XGROUP", b"CREATECONSUMER", key, *step[2:4]) for key in keys_read]
        steps_and_makers.append(step)
    return steps_and_makers
