"""Random users: rules for ACL SETUSER, and requests that they allow or do not."""

from hypothesis import strategies as st

from .words import Step

_DIGEST = b"5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"  # of `password`

_PATTERNS = (b"*", b"a*", b"*b", b"ab", b"", b"?")
_COMMANDS = (b"get", b"SET", b"incr", b"mget", b"copy", b"config", b"config|get", b"client|id", b"client", b"publish")
_CATEGORIES = (
    b"read",
    b"WRITE",
    b"string",
    b"fast",
    b"slow",
    b"admin",
    b"connection",
    b"pubsub",
    b"dangerous",
    b"keyspace",
)

_FLAGS = (b"on", b"off", b"nopass", b"resetpass", b">password", b"<password", b">x", b"#" + _DIGEST, b"!" + _DIGEST)
_WRONG = (
    b"", b"foo", b"+foo", b"-foo", b"+@foo", b"+config|foo", b"+config|get|x", b"-get|x", b"+get|", b"%", b"%~a",
    b"%RR~a", b"%X~a", b"%R", b"~a b", b"&a b", b"(on)", b"(", b"()", b"#12", b"!12", b"+", b"-", b"@all", b"%rw~",
    b"(+get", b"~a)",
)  # fmt: skip

_keys = st.tuples(st.sampled_from((b"~", b"%R~", b"%W~", b"%RW~", b"%wr~")), st.sampled_from(_PATTERNS)).map(b"".join)
_channels = st.sampled_from(_PATTERNS).map(lambda pattern: b"&" + pattern)
_signs = st.sampled_from((b"+", b"-"))
_commands = st.tuples(_signs, st.sampled_from(_COMMANDS)).map(b"".join)
_categories = st.tuples(_signs, st.just(b"@"), st.sampled_from(_CATEGORIES)).map(b"".join)
_words = st.sampled_from(
    (b"allkeys", b"resetkeys", b"allchannels", b"resetchannels", b"+@all", b"-@all", b"allcommands", b"NOCOMMANDS")
)
_first_arguments = st.sampled_from((b"+select|1", b"+get|ab", b"+echo|x"))
_permissions = st.one_of(_keys, _keys, _channels, _commands, _commands, _categories, _words, _first_arguments)
_selectors = st.lists(_permissions, max_size=3).map(lambda rules: b"(" + b" ".join(rules) + b")")

RULES = st.one_of(
    _permissions,
    _permissions,
    _permissions,
    _selectors,
    st.sampled_from(_FLAGS),
    st.sampled_from((b"reset", b"clearselectors")),
    st.sampled_from(_WRONG),
)

# What users try: commands with keys to read and to write, with channels, with subcommands, and with neither.
REQUESTS: tuple[Step, ...] = (
    (b"GET", b"ab"), (b"GET", b"b"), (b"SET", b"ab", b"v"), (b"SET", b"a", b"v", b"GET"), (b"INCR", b"ab"),
    (b"MGET", b"a", b"b"), (b"MSET", b"a", b"1", b"b", b"1"), (b"COPY", b"a", b"b"), (b"RENAME", b"ab", b"b"),
    (b"EXISTS", b"ab"), (b"STRLEN", b""), (b"DEL", b"a"), (b"GETDEL", b"b"), (b"CONFIG", b"GET", b"x"),
    (b"CONFIG", b"SET", b"a", b"b"), (b"CLIENT", b"ID"), (b"CLIENT", b"LIST"), (b"PING",), (b"ECHO", b"x"),
    (b"SELECT", b"0"), (b"SELECT", b"1"), (b"PUBLISH", b"ab", b"m"), (b"SUBSCRIBE", b"a", b"b"),
    (b"PSUBSCRIBE", b"a*"), (b"UNSUBSCRIBE", b"x"), (b"SPUBLISH", b"b", b"m"), (b"DBSIZE",), (b"FLUSHALL",),
    (b"AUTH", b"x"), (b"OBJECT", b"ENCODING", b"ab"), (b"KEYS", b"*"), (b"INFO",), (b"WATCH", b"ab"),
    (b"GETEX", b"ab"), (b"EXPIRE", b"b", b"1"), (b"HSET", b"ab", b"f", b"v"), (b"HGETALL", b"a"),
)  # fmt: skip
