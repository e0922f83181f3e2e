"""The kernel records of a request what the reference does: the same programs on both, the same records."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kora.audit import ring
from kora.audit.chain import Chain, body
from kora.audit.ring import Ring
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from tests.conftest import LONG, encode_request

KEY = st.sampled_from([b"a", b"b", b"pay:1", b"tmp:1", b"k" * 600, b"\xff\0"])
VALUE = st.sampled_from([b"", b"1", b"v" * 200, b"x" * 70_000, b"\xff"])
REQUEST = st.one_of(
    st.tuples(st.sampled_from([b"SET", b"append", b"GETSET", b"LPUSH", b"SADD", b"SETNX", b"RPUSHX"]), KEY, VALUE),
    st.tuples(st.sampled_from([b"GET", b"INCR", b"TTL", b"LPOP", b"strlen", b"HGETALL", b"PERSIST", b"LLEN"]), KEY),
    st.tuples(st.just(b"SET"), KEY, VALUE, st.sampled_from([b"NX", b"GET", b"KEEPTTL", b"WRONG"])),
    st.tuples(st.just(b"MSET"), KEY, VALUE, KEY, VALUE),
    st.tuples(st.sampled_from([b"DEL", b"MGET", b"EXISTS", b"UNLINK", b"SINTER"]), KEY, KEY),
    st.tuples(st.sampled_from([b"HSET", b"ZADD", b"SETRANGE"]), KEY, st.just(b"1"), VALUE),
    st.tuples(st.sampled_from([b"RENAME", b"COPY", b"RPOPLPUSH", b"SDIFFSTORE"]), KEY, KEY),
    st.tuples(st.sampled_from([b"DBSIZE", b"PING", b"FLUSHALL", b"RANDOMKEY", b"NOTHING"])),
    st.tuples(st.sampled_from([b"ZUNIONSTORE", b"ZINTERSTORE"]), KEY, st.just(b"2"), KEY, KEY),
    st.tuples(st.just(b"GET"), KEY, KEY),
)
FLAGS = st.sampled_from([
    (), ("--audit-arguments", "yes"), ("--audit-include-keys", "pay: k"), ("--audit-exclude-keys", "tmp: a"),
    ("--audit-exclude-commands", "set mget"), ("--audit-exclude-users", "default"),
])  # fmt: skip


def records(compiled: Any, flags: tuple[str, ...], requests: list[tuple[bytes, ...]]) -> list[dict[str, Any]]:
    every = ("--audit-categories", "connect auth acl config admin script write read")
    engine = Engine(Config.load([*every, *flags], {}), make_registry(), ManualClock(), kernel=compiled)
    queue = Ring.make(1 << 20)
    engine.audit.open(queue)
    client = engine.connect("127.0.0.1:50000")
    engine.execute(client, b"".join(map(encode_request, requests)))
    while client.more:
        engine.resume(client)
    chain = Chain()
    return [json.loads(chain.line(body(record, "run"))) for record in ring.records(queue.peek(1 << 20))]


@settings(max_examples=1000 if LONG else 15)
@given(flags=FLAGS, requests=st.lists(REQUEST, max_size=40))
def test_both_record_the_same(compiled, flags, requests):
    assert records(compiled, flags, requests) == records(None, flags, requests)
