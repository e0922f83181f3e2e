"""Random requests of the hash family; see words.py."""

from hypothesis import strategies as st

from .words import JUNK, Word, condition, floats, increments, integers, keys, options, patterns, some, texts, words

FIELDS = (b"f", b"g", b"h", b"count", b"", b"\x00\r\n\xff", b"1", b"-5", b"long:" + b"field" * 12, b"a field")

fields = st.sampled_from(FIELDS)
numbers = integers | floats
values = texts | st.just(b"v" * 65)
pairs = st.tuples(fields, values | numbers)
counts = st.sampled_from(
    (b"0", b"1", b"2", b"3", b"100", b"-1", b"-3", b"-100", b"x", b"", b"9223372036854775807", b"4611686018427387904",
     b"-9223372036854775808")
)  # fmt: skip

HASHES: dict[str, st.SearchStrategy[list[Word]]] = {
    "HSET": words("HSET", keys, some(pairs)),
    "HMSET": words("HMSET", keys, some(pairs)),
    "HSETNX": words("HSETNX", keys, pairs),
    "HGET": words("HGET", keys, fields),
    "HMGET": words("HMGET", keys, some(fields)),
    "HGETALL": words("HGETALL", keys),
    "HDEL": words("HDEL", keys, some(fields)),
    "HEXISTS": words("HEXISTS", keys, fields),
    "HKEYS": words("HKEYS", keys),
    "HVALS": words("HVALS", keys),
    "HLEN": words("HLEN", keys),
    "HSTRLEN": words("HSTRLEN", keys, fields),
    "HINCRBY": words("HINCRBY", keys, fields, increments),
    "HINCRBYFLOAT": words("HINCRBYFLOAT", keys, fields, numbers),
    "HRANDFIELD": words("HRANDFIELD", keys)
    | words("HRANDFIELD", keys, counts, options("WITHVALUES", "withvalues", max_size=1)),
    "HSCAN": words(
        "HSCAN",
        keys,
        st.sampled_from((b"0", b"0", b"0", b"-0", b"", b"x", b"18446744073709551616", b" 0", b"0 ", b"00")),
        options(
            words("MATCH", patterns | st.sampled_from((b"f*", b"*field*", b"[fg]"))),
            words("COUNT", st.sampled_from((b"1000", b"0", b"-1", b"x", b"9223372036854775807"))),
            words("TYPE", st.just(b"hash")),
        ),
    ),
}


def _with_count(names: list[bytes]) -> list[Word]:
    return [b"FIELDS", b"%d" % len(names), *names]


_named = st.lists(fields, min_size=1, max_size=3).map(_with_count)
_conditions = options(condition, max_size=1)
_soon_s = st.sampled_from((b"1", b"2", b"5", b"0", b"-1", b"100", b"70368744177664", b"x"))
_soon_ms = st.sampled_from((b"1", b"50", b"100", b"1000", b"1001", b"0", b"-1", b"70368744177664"))
_at_s = st.sampled_from((b"1700000001", b"1700000002", b"1699999999", b"0"))
_at_ms = st.sampled_from((b"1700000000000", b"1700000000100", b"1700000002000", b"70368744177663"))

# Times that a program lives to see, by a clock that is moved: redis-server 7.0 has none of these.
FIELD_DEADLINES: dict[str, st.SearchStrategy[list[Word]]] = {
    "HEXPIRE": words("HEXPIRE", keys, _soon_s, _conditions, _named),
    "HPEXPIRE": words("HPEXPIRE", keys, _soon_ms, _conditions, _named),
    "HEXPIREAT": words("HEXPIREAT", keys, _at_s, _conditions, _named),
    "HPEXPIREAT": words("HPEXPIREAT", keys, _at_ms, _conditions, _named),
    **{
        name: words(name, keys, _named) | words(name, keys, "FIELDS", st.sampled_from(JUNK), some(fields, max_size=2))
        for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST")
    },
}
