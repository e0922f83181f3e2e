"""Values go from Kora to redis-server and back: what random commands make of them is there as before."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.resp_reader import read_replies
from tests.types.older_payloads import OLDER
from tests.types.payloads import PAYLOADS

from .compare import compare_program
from .peers import Kora, RedisServer, request, requests
from .profile import examples
from .stream_times import without_times
from .words import GENERIC, KEYS, STRINGS, Step, keys, options, programs, words
from .words_hashes import HASHES
from .words_lists import LISTS
from .words_sets import SETS
from .words_sorted_sets import SORTED_SETS
from .words_streams import GROUP_COMMANDS, STREAMS

FAMILIES = {
    "strings": STRINGS,
    "lists": LISTS,
    "sets": SETS,
    "sorted sets": SORTED_SETS,
    "hashes": HASHES,
    "streams": {**STREAMS, **GROUP_COMMANDS},
}
# Where values end to be compact: as usual, and at once.
SMALL = tuple(
    (name, "1")
    for name in (
        "hash-max-ziplist-entries", "list-max-ziplist-size", "set-max-intset-entries", "zset-max-ziplist-entries",
        "stream-node-max-entries",
    )
)  # fmt: skip
USUAL = (
    ("hash-max-ziplist-entries", "128"), ("list-max-ziplist-size", "-2"), ("set-max-intset-entries", "512"),
    ("zset-max-ziplist-entries", "128"), ("stream-node-max-entries", "100"),
)  # fmt: skip


def contents(run: Any, key: bytes) -> Any:
    """All that can be asked about a key; `run` gives raw replies."""

    def ask(*question: object) -> Any:
        return read_replies(run(*question))[0]

    kind = ask("TYPE", key)
    match kind:
        case "string":
            return kind, ask("GET", key)
        case "list":
            return kind, ask("LRANGE", key, 0, -1)
        case "set":
            return kind, sorted(ask("SMEMBERS", key))
        case "zset":
            return kind, ask("ZRANGE", key, 0, -1, "WITHSCORES")
        case "hash":
            flat = ask("HGETALL", key)
            return kind, sorted(zip(flat[::2], flat[1::2], strict=True))
    step: Step = (b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0")
    told = without_times(step, run(*step), 0)
    # Deleted entries are not written, so that blocks end elsewhere.
    return kind, {name: value for name, value in told.items() if not name.startswith(b"radix")}


@pytest.mark.parametrize("family", FAMILIES)
def test_values_of_kora_are_what_redis_restores(redis: RedisServer, family: str) -> None:
    @given(program=programs(FAMILIES[family], max_size=40), small=st.booleans())
    @examples(80)
    def check(program: list[Step], small: bool) -> None:
        redis.reset()
        kora = Kora()
        settings = [("CONFIG", "SET", *pair) for pair in (SMALL if small else USUAL)]
        # Both, since what is made compact as it is loaded loses its sign where it is -0.
        redis.control.exchange(requests(settings))
        kora.exchange(requests([*settings, *program, ("DISCARD",), ("SELECT", 0)]))
        for key in KEYS:
            data = read_replies(kora.run("DUMP", key))[0]
            if data is not None:
                assert redis.run("RESTORE", key, 0, data) == b"+OK\r\n"
                assert contents(redis.run, key) == contents(kora.run, key)
                kora.run("PERSIST", key)
                question = ("DEBUG", "DIGEST-VALUE", key, "nosuch")
                assert redis.run(*question) == kora.run(*question)

    check()


@given(program=programs({**HASHES, **LISTS, **SORTED_SETS, **STRINGS, "SELECT": words("SELECT", "1")}))
@examples(80)
def test_digests_of_all_data_are_those_of_redis(redis: RedisServer, program: list[Step]) -> None:
    redis.reset()
    kora = Kora(now_us=redis.now_us())
    with redis.connect() as connection:
        for server in (connection, kora):
            server.exchange(requests(step for step in program if step[0] not in (b"LMPOP", b"HRANDFIELD")))
    assert redis.run("DEBUG", "DIGEST") == kora.run("DEBUG", "DIGEST")


@pytest.mark.parametrize("family", FAMILIES)
def test_values_of_redis_are_what_kora_restores(redis: RedisServer, family: str) -> None:
    @given(program=programs(FAMILIES[family], max_size=40), small=st.booleans())
    @examples(80)
    def check(program: list[Step], small: bool) -> None:
        redis.reset()
        settings = [("CONFIG", "SET", *pair) for pair in (SMALL if small else USUAL)]
        with redis.connect() as connection:
            connection.exchange(requests([*settings, *program]))
        # Its clock is that of the times in its streams.
        kora = Kora(now_us=redis.now_us())
        for key in KEYS:
            data = read_replies(redis.run("DUMP", key))[0]
            if data is not None:
                assert kora.run("RESTORE", key, 0, data) == b"+OK\r\n"
                assert contents(kora.run, key) == contents(redis.run, key)
        redis.control.exchange(requests([("CONFIG", "SET", *pair) for pair in USUAL]))

    check()


@pytest.mark.parametrize("name", sorted(OLDER))
def test_payloads_of_earlier_versions_are_the_same_to_redis(redis: RedisServer, name: str) -> None:
    """These are made up in a test of ours: Redis must agree that they are what they say."""
    data, question, answer = OLDER[name]
    redis.reset()
    assert redis.run("RESTORE", "k", 0, data) == b"+OK\r\n"
    assert sorted(read_replies(redis.run(*question.split(" ")))[0]) == sorted(answer)


_payloads = st.sampled_from(
    [bytes.fromhex(data) for name, (_, data) in PAYLOADS.items() if name in ("raw string", "intset 16", "small hash")]
)
_wrong = st.sampled_from((b"", b"\0\x05hello\x0a\0" + bytes(8), b"x" * 20))
_ttls = st.sampled_from((b"0", b"0", b"100000", b"-1", b"x", b"", b"9223372036854775807", b"1.5", b"99999999999999"))
_options = options(
    words("REPLACE"),
    words("replace"),
    words("ABSTTL"),
    words("IDLETIME", st.sampled_from((b"0", b"10", b"-1", b"x"))),
    words("FREQ", st.sampled_from((b"0", b"255", b"256", b"-1", b"x"))),
    words("NOSUCH"),
)
RESTORING = {
    "RESTORE": words("RESTORE", keys, _ttls, _payloads | _payloads | _wrong, _options),
    "plain": words("RESTORE", keys, "0", _payloads, "REPLACE"),
    "DUMP": words("DUMP", st.just(b"nosuch")),
    **{name: GENERIC[name] for name in ("DEL", "TYPE", "EXISTS", "TTL", "OBJECT") if name in GENERIC},
}


@given(program=programs(RESTORING), protocol=st.sampled_from((2, 3)))
@examples(600)
def test_programs_of_restoring_do_the_same(redis: RedisServer, program: list[Step], protocol: int) -> None:
    compare_program(redis, program, protocol=protocol)


MIGRATIONS = [
    ("MIGRATE", "127.0.0.1", "1", "nosuch", "0", "100"),
    ("MIGRATE", "127.0.0.1", "1", "", "0", "100", "KEYS"),
    ("MIGRATE", "127.0.0.1", "1", "", "0", "100", "KEYS", "nosuch", "neither"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0", "100", "KEYS", "k"),
    ("MIGRATE", "127.0.0.1", "1", "k", "x", "100"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0", "x"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0", "100", "AUTH"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0", "100", "AUTH2", "x"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0", "100", "NOSUCH"),
    ("MIGRATE", "127.0.0.1", "1", "k", "0"),
    *(
        ("COMMAND", "GETKEYSANDFLAGS", "MIGRATE", "127.0.0.1", "1", *rest)
        for rest in (
            ("k", "0", "1", "COPY"),
            ("", "0", "1", "COPY", "KEYS", "a", "b"),
            ("", "0", "1", "AUTH", "keys", "KEYS", "a"),
            ("", "0", "1", "KEYS", "a", "KEYS", "b"),
        )
    ),
]


@pytest.mark.parametrize("words", MIGRATIONS, ids=" ".join)
def test_what_cannot_be_moved_is_answered_alike(redis: RedisServer, words: tuple[str, ...]) -> None:
    redis.reset()
    kora = Kora()
    for server in (redis, kora):
        server.run("SET", "k", "v")
    assert kora.exchange(request(*words))[0] == redis.run(*words)
