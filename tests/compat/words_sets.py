"""Random requests about sets, bitmaps and HyperLogLogs; see words.py.

Members are few, so that sets meet; a third are integers.  Where a reply is chosen by chance, the count asks for all or
for nothing, since what comes after would otherwise differ.
"""

from hypothesis import strategies as st

from .words import KEYS, Word, keys, options, patterns, some, texts, words

members = st.sampled_from(
    (b"a", b"b", b"c", b"", b"1", b"2", b"-3", b"01", b"+1", b"9223372036854775807", b"9223372036854775808", b"x" * 64,
     b"x" * 65, b"\x00\xff\r\n")
)  # fmt: skip
_few_keys = st.sampled_from(KEYS[:4])
counts = st.sampled_from((b"0", b"1", b"2", b"1000", b"-1", b"x", b"", b"9223372036854775808", b"01"))
# Of SRANDMEMBER, whose replies compare_program cannot know.
all_or_none = st.sampled_from((b"0", b"1000", b"-9223372036854775808", b"x", b"", b"01"))

SETS: dict[str, st.SearchStrategy[list[Word]]] = {
    "SADD": words("SADD", _few_keys, some(members, max_size=6)),
    "SREM": words("SREM", _few_keys, some(members)),
    "SISMEMBER": words("SISMEMBER", _few_keys, members),
    "SMISMEMBER": words("SMISMEMBER", _few_keys, some(members)),
    "SMEMBERS": words("SMEMBERS", _few_keys),
    "SCARD": words("SCARD", _few_keys),
    "SPOP": words("SPOP", _few_keys, st.sampled_from((b"0", b"1000", b"-1", b"x", b"", b"01"))),
    "SRANDMEMBER": words("SRANDMEMBER", _few_keys, all_or_none),
    "SMOVE": words("SMOVE", _few_keys, _few_keys, members),
    "SINTER": words("SINTER", some(_few_keys)),
    "SINTERSTORE": words("SINTERSTORE", _few_keys, some(_few_keys)),
    "SINTERCARD": words("SINTERCARD", st.sampled_from((b"1", b"2", b"3", b"0", b"-1", b"x")), some(_few_keys),
        options(words("LIMIT", counts), max_size=2)),
    "SUNION": words("SUNION", some(_few_keys)),
    "SUNIONSTORE": words("SUNIONSTORE", _few_keys, some(_few_keys)),
    "SDIFF": words("SDIFF", some(_few_keys)),
    "SDIFFSTORE": words("SDIFFSTORE", _few_keys, some(_few_keys)),
    "SSCAN": words("SSCAN", _few_keys, st.sampled_from((b"0", b"0", b"-0", b"x", b"")),
        options(words("MATCH", patterns), words("COUNT", st.sampled_from((b"1000", b"0", b"x"))), "FOO")),
}  # fmt: skip

_raw = words("APPEND", _few_keys, texts)
bit_offsets = st.sampled_from(
    (b"0", b"1", b"7", b"8", b"63", b"64", b"100", b"1000", b"-1", b"x", b"", b"4294967296", b"01", b"#1")
)
bits = st.sampled_from((b"0", b"1", b"0", b"1", b"2", b"-1", b"x", b"01", b""))
positions = st.sampled_from(
    (b"0", b"1", b"2", b"7", b"8", b"9", b"-1", b"-2", b"-9", b"-100", b"100", b"x", b"", b"9223372036854775807",
     b"-9223372036854775808")
)  # fmt: skip
units = st.sampled_from((b"BYTE", b"BIT", b"bit", b"FOO"))
encodings = st.sampled_from(
    (
        b"u1",
        b"i1",
        b"u8",
        b"i8",
        b"i5",
        b"u17",
        b"u63",
        b"i64",
        b"i63",
        b"u64",
        b"i65",
        b"u0",
        b"I8",
        b"x",
        b"i",
        b"i08",
    )
)
field_offsets = st.sampled_from((b"0", b"1", b"3", b"8", b"60", b"100", b"#0", b"#1", b"#3", b"-1", b"#-1", b"#", b"x"))
numbers = st.sampled_from(
    (b"0", b"1", b"-1", b"2", b"-2", b"127", b"128", b"-128", b"-129", b"255", b"256", b"100000",
     b"9223372036854775807", b"-9223372036854775808", b"x", b"9223372036854775808")
)  # fmt: skip
_get = words("GET", encodings, field_offsets)

BITMAPS: dict[str, st.SearchStrategy[list[Word]]] = {
    "APPEND": _raw,
    "SETBIT": words("SETBIT", _few_keys, bit_offsets, bits),
    "GETBIT": words("GETBIT", _few_keys, bit_offsets),
    "BITCOUNT": words("BITCOUNT", _few_keys, options(words(positions, positions), words(positions, positions, units),
        max_size=1)),
    "BITPOS": words("BITPOS", _few_keys, bits, options(words(positions), words(positions, positions),
        words(positions, positions, units), max_size=1)),
    "BITOP": words("BITOP", st.sampled_from((b"AND", b"or", b"XOR", b"NOT", b"NAND")), _few_keys, some(_few_keys)),
    "BITFIELD": words("BITFIELD", _few_keys, options(_get, words("SET", encodings, field_offsets, numbers),
        words("INCRBY", encodings, field_offsets, numbers),
        words("OVERFLOW", st.sampled_from((b"WRAP", b"SAT", b"FAIL", b"fail", b"FOO"))), max_size=6)),
    "BITFIELD_RO": words("BITFIELD_RO", _few_keys, options(_get, _get, words("SET", "u8", "0", "1"), max_size=3)),
}  # fmt: skip

elements = st.integers(0, 40).map(lambda number: b"%d" % number) | st.binary(max_size=30)

HYPERLOGLOGS: dict[str, st.SearchStrategy[list[Word]]] = {
    "PFADD": words("PFADD", _few_keys, st.lists(elements, max_size=40)),
    "PFCOUNT": words("PFCOUNT", some(_few_keys)),
    "PFMERGE": words("PFMERGE", _few_keys, st.lists(_few_keys, max_size=3)),
    "PFDEBUG": words("PFDEBUG", st.sampled_from((b"GETREG", b"decode", b"ENCODING", b"TODENSE", b"foo")), _few_keys),
    "GET": words("GET", _few_keys),
    "DEL": words("DEL", _few_keys),
}
# What is no HyperLogLog, or a broken one.
BROKEN = words(
    "SET",
    keys,
    st.sampled_from(
        (
            b"HYLL",
            b"HYLL\x01\0\0\0" + bytes(8),
            b"HYLL\x01\0\0\0" + bytes(7) + b"\x80" + b"\x7f\xfe",
            b"HYLL\x01\0\0\0" + bytes(7) + b"\x80" + b"\x7f\xff",
            b"HYLL\0\0\0\0" + bytes(12296),
            b"HYLL\0\0\0\0" + bytes(12295),
            b"HYLL\x02\0\0\0" + bytes(12296),
            b"HYLX\x01\0\0\0" + bytes(8) + b"\x7f\xff",
        )
    ),
)
