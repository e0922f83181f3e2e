"""Keyspaces above a store: whatever is held, dropped or written, commands do what they do with all data in memory."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.cache import Found, Places
from kora.engine.client import Client
from kora.engine.engine import Engine
from kora.errors import StorageFault
from kora.store.backing import PLACE_BYTES, place_of, position_of
from tests.compat.compare import is_alike, unfolded
from tests.compat.profile import examples
from tests.compat.test_mixed_commands import programs_of_all_kinds
from tests.compat.words import Step
from tests.conftest import encode_request
from tests.resp_reader import read_replies

from .fake_store import FakeStore, Tide, make_store


def _engine(*flags: str) -> Engine:
    return Engine(Config.load([*flags], {}), make_registry(), ManualClock(), kernel=kernel.load())


@given(program=programs_of_all_kinds, seed=st.integers(0, 1 << 32), is_read_beside=st.booleans())
@examples(80)
def test_programs_do_the_same_with_few_keys_in_memory(program: list[Step], seed: int, is_read_beside: bool) -> None:
    plain, backed = _engine("--shards", "2"), _engine("--shards", "2")
    store = make_store(backed)
    tide = Tide(backed, store, Random(seed))
    clients = plain.connect(), backed.connect()
    beside = Beside(backed, store, tide, seed) if is_read_beside else None
    replies: tuple[list[bytes], list[bytes]] = ([], [])
    for step in program:
        if beside is not None:
            beside.look_at(step)
        for engine, client, out in zip((plain, backed), clients, replies, strict=True):
            if not client.parked:
                out.append(engine.execute(client, encode_request(step)))
                if beside is not None and engine is backed:
                    out[-1] += beside.wait_for(client)
            engine.tick()
        tide.move()
        for keyspace in backed.databases.used():
            if hasattr(keyspace, "audit"):
                keyspace.audit()
    assert len(replies[0]) == len(replies[1])
    for step, expected, found in unfolded(program[: len(replies[0])], *replies):
        assert expected == found or _is_alike(step, expected, found), (step, expected, found)
    for index in range(2):
        assert len(plain.databases[index]) == len(backed.databases[index])
        assert plain.databases[index].volatile == backed.databases[index].volatile
        assert sorted(plain.databases[index]) == sorted(backed.databases[index])
    assert plain.keys == backed.keys
    tide.settle()
    for index in range(2):
        keyspace = backed.databases[index]
        assert sorted(plain.databases[index]) == sorted(keyspace) == sorted(store.data.get(keyspace.store_id, {}))


class Beside:
    """Reads what is cold while others are served, and tells of it late; another client has it read more than that."""

    def __init__(self, engine: Engine, store: FakeStore, tide: Tide, seed: int) -> None:
        assert engine.cache is not None
        self._store = store
        self._tide = tide
        self._random = Random(seed)
        self._other = engine.connect()
        self._soon: list[Callable[[], None]] = []
        self._asked: list[tuple[Places, Callable[[Found], None]]] = []
        self._found: list[Callable[[], None]] = []
        engine.call_later = self._call_later
        engine.cache.fetch = lambda places, done: self._asked.append((places, done))

    def _call_later(self, delay_s: float, function: Callable[[], None]) -> object:
        if not delay_s:
            self._soon.append(function)
        return self

    def cancel(self) -> None:
        """For timers, which never ring."""

    def look_at(self, step: Step) -> None:
        if not self._other.parked and len(step) > 1 and self._random.random() < 0.5:
            self._other.engine.execute(self._other, encode_request((b"MGET", *step[1:])))
        if self._random.random() < 0.5:
            self._move()

    def wait_for(self, client: Client) -> bytes:
        """What a client is told until nothing is fetched for it any more."""
        data = bytearray()
        client.deliver = data.extend
        while client.fetching is not None:
            self._move()
            self._tide.move()
        return bytes(data)

    def _move(self) -> None:
        soon, self._soon = self._soon, []
        for function in soon:
            function()
        draw = self._random.random()
        if self._asked and draw < 0.5:
            places, done = self._asked.pop(0)
            found: Found = self._store.get_many(places) if draw > 0.02 else StorageFault("a bad block")
            self._found.append(partial(done, found))
        elif self._found:
            self._found.pop(0)()


def _is_alike(step: Step, expected: bytes, found: bytes) -> bool:
    name = step[0].lower()
    if name in (b"scan", b"object", b"debug", b"memory", b"randomkey", b"spop", b"srandmember", b"hrandfield"):
        return True
    if is_alike(step, expected, found, 0):
        return True
    return _letters(expected) == _letters(found)


def _letters(reply: bytes) -> list[bytes]:
    """What has no order may come in any."""
    return sorted(reply.split(b"\r\n"))


@given(seed=st.integers(0, 1 << 32), tagged=st.booleans(), count=st.integers(1, 40))
@examples(240)
def test_scan_gives_what_stays_whatever_comes_and_goes(seed: int, tagged: bool, count: int) -> None:
    engine = _engine("--shards", "2")
    store = make_store(engine)
    random = Random(seed)
    tide = Tide(engine, store, random)
    client = engine.connect()
    name = (b"{t}%d" if tagged else b"%d").__mod__
    staying = [name(number) for number in range(300)]
    for key in staying:
        engine.execute(client, encode_request((b"SET", key, b"1")))
    gone = name(1000)
    engine.execute(client, encode_request((b"SET", gone, b"1", b"PX", b"1")))
    tide.settle()
    engine.clock.advance_ms(10)  # type: ignore[attr-defined]
    seen: set[bytes] = set()
    cursor = b"0"
    for _ in range(5000):
        reply = read_replies(engine.execute(client, encode_request((b"SCAN", cursor, b"COUNT", str(count)))))[0]
        cursor = reply[0]
        seen.update(reply[1])
        if cursor == b"0":
            break
        passing = name(random.randrange(2000, 2100))
        engine.execute(client, encode_request(random.choice(((b"SET", passing, b"1"), (b"DEL", passing)))))
        engine.execute(client, encode_request((b"APPEND", random.choice(staying), b"1")))
        tide.move()
    assert cursor == b"0"
    assert seen >= set(staying)
    assert gone not in seen


@given(id=st.integers(0, (1 << 32) - 1), key=st.binary(max_size=40) | st.sampled_from([b"{}a", b"{a}b", b"a{b", b"{"]))
@examples(200)
def test_places_are_what_the_store_says(id: int, key: bytes) -> None:
    place = place_of(id, key)
    assert place[PLACE_BYTES:] == key
    assert int.from_bytes(place[:PLACE_BYTES], "big") == id << 48 | position_of(key)
    compiled = kernel.load()
    assert compiled is None or compiled.place_of(id, key) == place


def test_what_an_edited_string_is_held_as_survives_the_store() -> None:
    engine = _engine()
    store = make_store(engine)
    client = engine.connect()
    keyspace = engine.databases[0]
    for key, text in ((b"number", b"12"), (b"text", b"abc"), (b"long", b"x" * 5000)):
        engine.execute(client, encode_request((b"APPEND", key, text[:1])))
        engine.execute(client, encode_request((b"APPEND", key, text[1:])))
    Tide(engine, store).settle()
    changes = keyspace.changes
    for key, text in ((b"number", b"12"), (b"text", b"abc"), (b"long", b"x" * 5000)):
        reply = engine.execute(client, encode_request((b"OBJECT", b"ENCODING", key)))
        assert read_replies(reply) == [b"raw"]
        assert read_replies(engine.execute(client, encode_request((b"GET", key)))) == [text]
    assert keyspace.changes == changes


def test_a_damaged_record_is_an_error_and_no_end() -> None:
    engine = _engine()
    store = make_store(engine)
    client = engine.connect()
    id = engine.databases[0].store_id
    engine.execute(client, encode_request((b"RPUSH", b"good", b"1")))
    Tide(engine, store).settle()
    whole = store.data[id][b"good"]
    damaged = [whole[:stop] for stop in range(len(whole))]
    damaged += [whole[:8] + bytes((type_,)) + whole[9:] for type_ in range(256) if type_ != whole[8]]
    for record in damaged:
        store.data[id][b"bad"] = record
        reply = engine.execute(client, encode_request((b"LLEN", b"bad")))
        # Some are values, too, which only the checksums of a store can tell from the right one.
        assert reply.startswith((b"-ERR The storage engine failed to read", b"-WRONGTYPE", b":")), record
        engine.databases[0].drop_clean(None, 0)
    assert engine.execute(client, encode_request((b"LRANGE", b"good", b"0", b"-1"))) == b"*1\r\n$1\r\n1\r\n"
    assert engine.internal_errors == 0


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 60))
@examples(100)
def test_counts_are_exact_whatever_was_set_without_a_look(seed: int, count: int) -> None:
    plain, backed = _engine("--shards", "2"), _engine("--shards", "2")
    store = make_store(backed)
    random = Random(seed)
    tide = Tide(backed, store, random)
    clients = plain.connect(), backed.connect()

    def both(*words: bytes) -> tuple[bytes, bytes]:
        plain_reply, reply = (
            engine.execute(client, encode_request(words))
            for engine, client in zip((plain, backed), clients, strict=True)
        )
        return plain_reply, reply

    for _ in range(count):
        keys = [b"k%d" % random.randrange(30) for _ in range(random.randrange(1, 4))]
        until = random.choice((b"EX", b"PX", b"EXAT"))
        both(
            *random.choice(
                (
                    (b"SET", keys[0], b"x" * random.randrange(60)),
                    (b"SET", keys[0], b"1", until, b"2000000000000" if until == b"EXAT" else b"9"),
                    (b"SETEX", keys[0], b"9", b"1"),
                    (b"MSET", *(word for key in keys for word in (key, b"1"))),
                    (b"EVAL", b"for _, key in ipairs(ARGV) do redis.call('SET', key, '1') end", b"0", *keys),
                    (b"DEL", *keys),
                    (b"GET", keys[0]),
                    (b"APPEND", keys[0], b"x"),
                    (b"PERSIST", keys[0]),
                    (b"RENAME", keys[0], keys[-1]),
                    (b"SELECT", random.choice((b"0", b"1"))),
                    (b"SWAPDB", b"0", b"1"),
                    (random.choice((b"FLUSHDB", b"FLUSHALL", b"GET")), *keys[:0]),
                )
            )
        )
        if random.random() < 0.1:
            elapsed_ms = random.choice((5, 9_000))
            for engine in (plain, backed):
                engine.clock.advance_ms(elapsed_ms)  # type: ignore[attr-defined]
        for _ in range(random.randrange(3)):
            tide.move()
        if random.random() < 0.3:
            if random.random() < 0.5:
                plain_reply, reply = both(b"DBSIZE")
                assert plain_reply == reply
            for index in range(2):
                backed.databases[index].settle()
                assert plain.databases[index].volatile == backed.databases[index].volatile
                assert len(plain.databases[index]) == len(backed.databases[index])
            assert plain.keys == backed.keys
    tide.settle()
    for index in range(2):
        keyspace = backed.databases[index]
        assert (
            len(plain.databases[index])
            == keyspace.count_about
            == sum(keys for keys, _ in store.counts_by_shard(keyspace.store_id))
        )
        assert plain.databases[index].volatile == keyspace.volatile
    assert plain.keys == backed.keys


@pytest.mark.parametrize(
    "words",
    [
        (b"GET", b"string"),
        (b"SET", b"string", b"w", b"NX"),
        (b"SETNX", b"string", b"w"),
        (b"GETEX", b"string"),
        (b"EXPIRE", b"string", b"10", b"XX"),
        (b"HGET", b"hash", b"field"),
        (b"HGETALL", b"brief"),
        (b"HSETNX", b"hash", b"field", b"w"),
        (b"HDEL", b"hash", b"none"),
        (b"SADD", b"set", b"1", b"2"),
        (b"SREM", b"set", b"none"),
        (b"ZADD", b"zset", b"1", b"a"),
        (b"ZREM", b"zset", b"none"),
        (b"LREM", b"list", b"0", b"none"),
        (b"LINSERT", b"list", b"BEFORE", b"none", b"w"),
        (b"LPUSHX", b"none", b"w"),
        (b"XRANGE", b"stream", b"-", b"+"),
        (b"XACK", b"stream", b"group", b"9-9"),
        (b"PFCOUNT", b"counter"),
    ],
    ids=lambda words: b" ".join(words).decode(),
)
def test_what_is_not_changed_is_not_written(words: Step) -> None:
    engine = _engine()
    store = make_store(engine)
    client = engine.connect()
    for step in (
        (b"SET", b"string", b"v"),
        (b"HSET", b"hash", b"field", b"v"),
        (b"HSET", b"brief", b"field", b"v"),
        (b"HEXPIRE", b"brief", b"100", b"FIELDS", b"1", b"field"),
        (b"SADD", b"set", b"1", b"2"),
        (b"ZADD", b"zset", b"1", b"a"),
        (b"RPUSH", b"list", b"v"),
        (b"XADD", b"stream", b"1-1", b"f", b"v"),
        (b"XGROUP", b"CREATE", b"stream", b"group", b"0"),
        (b"PFADD", b"counter", b"a"),
        (b"PFCOUNT", b"counter"),
    ):
        engine.execute(client, encode_request(step))
    tide = Tide(engine, store)
    keyspace = engine.databases[0]
    tide.settle()
    for _ in range(2):  # loaded for it, and then held
        engine.execute(client, encode_request(words))
        assert keyspace.dirty_keys == keyspace.dirty_bytes == 0
    tide.settle()
    assert len(keyspace) == 8
