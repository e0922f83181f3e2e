"""Vector sets, as clients see them."""

import random
import struct
import sys
from math import dist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from tests.conftest import runner

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"
NOT_A_FLOAT = "ERR value is not a valid float"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
OUT_OF_RANGE = "ERR vector components must be between -1e15 and 1e15"
DIMENSIONS = "ERR vector dimensions must be between 1 and 32768"


@pytest.fixture
def fails(run):
    def error_of(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return error_of


@pytest.fixture
def points(run):
    """A set with vectors at 0, 1, 2 … 9 of one line; each has the id one above."""
    for x in range(10):
        run("VECSET", "points", 2, x, 0)


@pytest.fixture
def indexed(run, engine):
    """indexed(count): a set of so many random vectors with a graph, as a dict by id."""
    pytest.importorskip("usearch")
    run("CONFIG", "SET", "vector-exact-max", 100)

    def indexed(count, key="v", size=4):
        chance = random.Random(1)
        vectors = {}
        for _ in range(count):
            vector = [chance.randrange(-1000, 1000) for _ in range(size)]
            vectors[run("VECSET", key, size, *vector)] = vector
        work(engine)
        return vectors

    return indexed


def work(engine):
    while engine.indexing.run(engine.databases, 1_000_000, engine.clock):
        pass


def ids(replies):
    return [vector_id for vector_id, _ in replies]


def nearest(vectors, query, count):
    return sorted(vectors, key=lambda vector_id: (dist(vectors[vector_id], query), vector_id))[:count]


def packed(*components):
    return struct.pack(f"<{len(components)}f", *components)


def test_each_vector_gets_the_next_id(run, fails):
    assert run("VECSET", "k", 3, 1, 2, 3) == 1
    assert run("VECSET", "k", 3, "1.5", "-2e-3", "+.5") == 2
    assert run("VECSET", "k", 3, 1, 2, 3) == 3
    assert run("VECSET", "k", 3, 1, 2, 3, "ID", 10) == 10
    assert run("VECSET", "k", 3, 1, 2, 3) == 11
    assert run("VECDEL", "k", 11) == 1
    assert run("VECSET", "k", 3, 1, 2, 3) == 12
    assert run("VECSET", "k", 3, 1, 2, 3, "ID", 0) == 0
    assert run("VECSET", "k", 3, 1, 2, 3, "ID", 2**63 - 1) == 2**63 - 1
    assert fails("VECSET", "k", 3, 1, 2, 3).startswith("ERR the set has had a vector of the greatest id")


def test_the_nearest_come_first_with_their_distances(run, points):
    assert run("VECQUERY", "points", 3, 2.25, 0) == [[3, b"0.25"], [4, b"0.75"], [2, b"1.25"]]
    assert run("VECQUERY", "points", 1, 3, 4) == [[4, b"4"]]
    assert ids(run("VECQUERY", "points", 4, 2.5, 0)) == [3, 4, 2, 5]
    assert len(run("VECQUERY", "points", 2**62, 0, 0)) == 10
    assert run("VECQUERY", "nosuch", 3, 1, 2, 3) == []


def test_distances_are_doubles_in_resp3(run, points):
    run("HELLO", 3)
    assert run("VECQUERY", "points", 1, 0, 0.5) == [[1, 0.5]]


def test_an_id_is_overwritten(run, points):
    assert run("VECSET", "points", 2, 100, 0, "ID", 5) == 5
    assert run("VECQUERY", "points", 1, 99, 0) == [[5, b"1"]]
    assert ids(run("VECQUERY", "points", 2, 4, 0)) == [4, 6]
    assert run("VECINFO", "points")[5] == 10


def test_metrics(run, fails):
    for metric, words in (("L2", (b"5", b"10")), ("cosine", (b"0", b"1")), ("ip", (b"-25", b"0"))):
        run("VECSET", metric, 2, 3, 4, "METRIC", metric)
        run("VECSET", metric, 2, 0, 0, "METRIC", metric.upper())
        query = (6, 8) if metric != "ip" else (3, 4)
        assert run("VECQUERY", metric, 2, *query) == [[1, words[0]], [2, words[1]]]
    assert run("VECSET", "ip", 2, 1, 1) == 3
    assert fails("VECSET", "ip", 2, 1, 1, "METRIC", "L2") == "ERR metric mismatch: the set has IP, got L2"
    assert fails("VECSET", "new", 2, 1, 1, "METRIC", "l3") == "ERR unsupported metric, please use L2, COSINE, IP"
    assert run("EXISTS", "new") == 0
    assert run("VECSET", "away", 2, -3, -4, "METRIC", "COSINE") == 1
    assert run("VECQUERY", "away", 1, 3, 4) == [[1, b"2"]]


def test_vectors_come_as_bytes_too(run, fails):
    assert run("VECSET", "k", 2, "fp32", packed(1.5, -2), "ID", 7, "METRIC", "L2") == 7
    assert run("VECGET", "k", 7) == [b"1.5", b"-2"]
    assert run("VECQUERY", "k", 1, "FP32", packed(1.5, 0), "EXACT") == [[7, b"2"]]
    assert fails("VECSET", "k", 2, "FP32", packed(1)) == "ERR 2 vector components expected, got 1"
    assert fails("VECSET", "k", 2, "FP32", b"123") == "ERR the bytes of FP32 must be 4 for each component"
    assert fails("VECSET", "k", 2, "FP32") == "ERR 2 vector components expected, got 0"
    assert fails("VECSET", "k", 2, "FP32", packed(1, 2), 3) == SYNTAX
    assert fails("VECSET", "k", 2, "FP32", packed(1, float("nan"))) == OUT_OF_RANGE
    assert fails("VECQUERY", "k", 1, "FP32") == SYNTAX
    assert fails("VECQUERY", "k", 1, "FP32", packed(1)) == "ERR dimension mismatch: vectors of the set have 2, got 1"
    assert fails("VECQUERY", "k", 1, "FP32", packed(1, float("inf"))) == OUT_OF_RANGE


def test_a_vector_is_shown_in_as_few_digits_as_it_takes(run):
    run("VECSET", "k", 4, 0.1, 16777217, "1e-7", 0.123456789)
    assert run("VECGET", "k", 1) == [b"0.1", b"16777216", b"1e-07", b"0.12345679"]
    assert run("VECGET", "k", 2) is None
    assert run("VECGET", "nosuch", 1) is None


def test_vectors_are_deleted_and_the_last_takes_the_key(run, points):
    assert run("VECDEL", "points", 3, 4, 77, 3) == 2
    assert ids(run("VECQUERY", "points", 2, 2, 0)) == [2, 1]
    assert run("VECDEL", "points", 77) == 0
    assert run("VECDEL", "points", *range(1, 11)) == 8
    assert run("EXISTS", "points") == 0
    assert run("VECDEL", "points", 1) == run("VECDEL", "points") == 0
    run("VECSET", "points", 5, 1, 2, 3, 4, 5)
    assert run("VECDEL", "points") == 1
    assert run("DBSIZE") == 0


def test_what_is_told_of_a_set(run, points):
    assert run("VECINFO", "points") == [
        b"dimensions", 2, b"metric", b"l2", b"vectors", 10, b"indexed", 0, b"last-id", 10
    ]  # fmt: skip
    assert run("VECINFO", "nosuch") is None
    assert run("TYPE", "points") == "vectorset"
    assert run("OBJECT", "ENCODING", "points") == b"flat"
    run("SET", "s", "v")
    assert run("SCAN", 0, "TYPE", "vectorset") == [b"0", [b"points"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("VECSET k 3 1 2", "ERR 3 vector components expected, got 2"),
        ("VECSET k 3 1 2 ID 5", "ERR 3 vector components expected, got 2"),
        ("VECSET k 2 1 2 3", "ERR 2 vector components expected, got more"),
        ("VECSET k 3 1 2 x", NOT_A_FLOAT),
        ("VECSET k 3 1 2 1_0", NOT_A_FLOAT),
        ("VECSET k 3 1 2 nan", NOT_A_FLOAT),
        ("VECSET k 3 1 2 1e400", OUT_OF_RANGE),
        ("VECSET k 3 1 2 --1", NOT_A_FLOAT),
        ("VECSET k 3 1 2 inf", OUT_OF_RANGE),
        ("VECSET k 3 1 2 -1e16", OUT_OF_RANGE),
        ("VECSET k 3 1 2 1e39", OUT_OF_RANGE),
        ("VECSET k 0 1", DIMENSIONS),
        ("VECSET k -1 1", DIMENSIONS),
        ("VECSET k 1000000 1", DIMENSIONS),
        ("VECSET k 99999999999999999999 1", NOT_AN_INTEGER),
        ("VECSET k two 1 2", NOT_AN_INTEGER),
        ("VECSET k 1 1 ID", SYNTAX),
        ("VECSET k 1 1 ID x", NOT_AN_INTEGER),
        ("VECSET k 1 1 ID -1", "ERR vector ids must not be negative"),
        ("VECSET k 1 1 EX 10", SYNTAX),
        ("VECSET points 3 1 2 3", "ERR dimension mismatch: vectors of the set have 2, got 3"),
        ("VECQUERY points 0 1 2", "ERR k should be greater than 0"),
        ("VECQUERY points -1 1 2", "ERR k should be greater than 0"),
        ("VECQUERY points x 1 2", NOT_AN_INTEGER),
        ("VECQUERY points 1 1 2 3", "ERR dimension mismatch: vectors of the set have 2, got 3"),
        ("VECQUERY points 1 EXACT", "ERR dimension mismatch: vectors of the set have 2, got 0"),
        ("VECQUERY points 1 1 y", NOT_A_FLOAT),
        ("VECQUERY points 1 1 2 EF", SYNTAX),
        ("VECQUERY points 1 1 2 EF 0", "ERR EF must be between 1 and 10000"),
        ("VECQUERY points 1 1 2 EF 9999999", "ERR EF must be between 1 and 10000"),
        ("VECQUERY points 1 1 2 EXACT MORE", SYNTAX),
        ("VECDEL points x", NOT_AN_INTEGER),
        ("VECGET points x", NOT_AN_INTEGER),
        ("VECSET k 1", "ERR wrong number of arguments for 'vecset' command"),
        ("VECQUERY points 1", "ERR wrong number of arguments for 'vecquery' command"),
        ("VECDEL", "ERR wrong number of arguments for 'vecdel' command"),
    ],
)
def test_mistakes_are_told_and_change_nothing(run, fails, points, line, message):
    assert fails(*line.split(" ")) == message
    assert run("DBSIZE") == 1
    assert run("VECINFO", "points")[5] == 10


def test_a_million_dimensions_are_refused(run, fails):
    assert fails("VECSET", "k", 10**6, *["1"] * 10**6) == DIMENSIONS
    assert fails("VECQUERY", "k", 1, *["1"] * 40_000) == DIMENSIONS
    assert fails("VECSET", "k", 1, *["1"] * 40_000) == "ERR 1 vector components expected, got more"


def test_the_most_dimensions_there_may_be(run):
    assert run("VECSET", "k", 32768, "FP32", packed(*[1.0] * 32768)) == 1
    assert run("VECSET", "k", 32768, *[2] * 32768) == 2
    assert run("VECQUERY", "k", 1, *[2] * 32768) == [[2, b"0"]]


def test_other_kinds_are_refused(run, fails, points):
    run("SET", "s", "v")
    for words in (
        ("VECSET", "s", 1, 1),
        ("VECQUERY", "s", 1, 1),
        ("VECDEL", "s"),
        ("VECGET", "s", 1),
        ("VECINFO", "s"),
    ):
        assert fails(*words) == WRONG_TYPE
    for words in (("GET", "points"), ("SADD", "points", 1), ("HGET", "points", "f"), ("LPUSH", "points", 1)):
        assert fails(*words) == WRONG_TYPE
    assert run("SET", "points", "v") == "OK"


# What happens to keys


def test_an_expired_set_is_not_searched(run, clock, points):
    run("PEXPIRE", "points", 100)
    clock.advance_ms(99)
    assert len(run("VECQUERY", "points", 3, 0, 0)) == 3
    clock.advance_ms(2)
    assert run("VECQUERY", "points", 3, 0, 0) == []
    assert run("VECSET", "points", 1, 5) == 1
    assert run("TTL", "points") == -1


def test_a_vector_keeps_the_deadline(run, points):
    run("EXPIRE", "points", 100)
    run("VECSET", "points", 2, 0, 0)
    run("VECDEL", "points", 1)
    assert run("TTL", "points") == 100


def test_a_set_that_is_renamed_moved_or_swapped_is_found_where_it_is(run, indexed):
    vectors = indexed(200)
    query = [1, 2, 3, 4]
    expected = nearest(vectors, query, 5)
    run("RENAME", "v", "w")
    assert run("VECQUERY", "v", 5, *query) == []
    assert ids(run("VECQUERY", "w", 5, *query)) == expected
    run("MOVE", "w", 1)
    assert run("VECQUERY", "w", 5, *query) == []
    run("SWAPDB", 0, 1)
    assert ids(run("VECQUERY", "w", 5, *query)) == expected
    run("FLUSHDB")
    assert run("VECQUERY", "w", 5, *query) == []
    run("VECSET", "w", 1, 1)
    assert run("VECQUERY", "w", 5, 1) == [[1, b"0"]]


def test_a_copy_goes_its_own_way(run, engine, indexed):
    vectors = indexed(200)
    run("COPY", "v", "w")
    run("COPY", "v", "w", "DB", 1)
    query = vectors[7]
    for vector_id in range(1, 101):
        run("VECSET", "v", 4, 5000, 5000, 5000, vector_id, "ID", vector_id)
    work(engine)
    run("DEL", "v")
    assert ids(run("VECQUERY", "w", 5, *query)) == nearest(vectors, query, 5)
    assert run("VECSET", "w", 4, 0, 0, 0, 0) == 201
    run("SELECT", 1)
    assert run("VECINFO", "w")[5] == 200


def test_evicted_sets_are_gone(make_engine):
    engine = make_engine("--maxmemory", "2mb", "--maxmemory-policy", "allkeys-random")
    run = runner(engine.connect())
    for number in range(60):
        for _ in range(10):
            run("VECSET", f"k{number}", 2000, "FP32", packed(*[float(number)] * 2000))
    assert engine.memory_bytes < 2.2 * 1024**2
    left = {f"k{number}" for number in range(60) if run("EXISTS", f"k{number}")}
    assert 10 < len(left) < 60
    for number in range(60):
        found = run("VECQUERY", f"k{number}", 1, "FP32", packed(*[float(number)] * 2000))
        assert bool(found) == (f"k{number}" in left)


def test_memory_is_counted_and_given_back(run, engine, indexed):
    before_bytes = engine.memory_bytes
    indexed(500)
    usage_bytes = run("MEMORY", "USAGE", "v")
    assert engine.memory_bytes - before_bytes == pytest.approx(usage_bytes, rel=0.01)
    assert usage_bytes > 256 * 1024 + 500 * 300
    run("VECDEL", "v", *range(1, 401))
    work(engine)
    assert run("MEMORY", "USAGE", "v") < usage_bytes
    run("UNLINK", "v")
    for shard in engine.shards:
        while shard.lazyfree:
            shard.lazyfree[0].free_some(shard.stats, 100)
            if shard.lazyfree[0].is_empty:
                shard.lazyfree.popleft()
    assert engine.memory_bytes == before_bytes


def test_memory_that_is_short_is_told(run, fails):
    run("VECSET", "k", 1, 1)
    run("CONFIG", "SET", "maxmemory", 1)
    assert fails("VECSET", "k", 1, 1).startswith("OOM")


def test_events(run, connect):
    listener = connect()
    listener.send("PSUBSCRIBE", "__keyevent@*__:*")
    run("CONFIG", "SET", "notify-keyspace-events", "EA")
    run("VECSET", "k", 1, 1)
    run("VECSET", "k", 1, 2)
    run("VECDEL", "k", 1)
    run("VECDEL", "k", 99)
    run("VECDEL", "k", 2)
    run("VECSET", "k", 1, 1)
    run("VECDEL", "k")
    run("VECQUERY", "k", 1, 1)
    events = [channel.rpartition(b":")[2].decode() for _, _, channel, _ in listener.received()]
    assert events == ["vecset", "vecset", "vecdel", "vecdel", "del", "vecset", "vecdel", "del"]


def test_a_change_is_seen_by_those_who_watch(run, connect, points):
    other = connect()
    for words in (("VECSET", "points", 2, 1, 1), ("VECDEL", "points", 1), ("VECDEL", "points")):
        run("WATCH", "points")
        run("MULTI")
        run("VECQUERY", "points", 1, 0, 0)
        other.send(*words)
        assert run("EXEC") is NULL_ARRAY
    run("WATCH", "points")
    run("MULTI")
    run("VECSET", "points", 2, 1, 1)
    run("VECQUERY", "points", 1, 1, 1)
    assert run("EXEC") == [1, [[1, b"0"]]]


def test_background_work_is_no_change(run, engine, indexed):
    indexed(50)
    for _ in range(50):
        run("VECSET", "v", 4, 1, 2, 3, 4)
    run("WATCH", "v")
    changes = engine.changes
    assert len(engine.indexing) == 1
    work(engine)
    assert engine.changes == changes
    run("MULTI")
    assert run("EXEC") == []


def test_scripts_search(run, points):
    pytest.importorskip("lupa")
    assert run("EVAL", "return redis.call('VECQUERY', KEYS[1], 1, 3, 0)", 1, "points") == [[4, b"0"]]


def test_rights(run, connect, points):
    run("ACL", "SETUSER", "reader", "on", "nopass", "%R~points", "+@read")
    reader = connect()
    reader.send("AUTH", "reader", "x")
    assert len(reader.send("VECQUERY", "points", 1, 0, 0)[0]) == 1
    assert reader.send("VECSET", "points", 2, 0, 0)[0].message.startswith("NOPERM")
    assert reader.send("VECQUERY", "other", 1, 0, 0)[0].message.startswith("NOPERM")


# Searching


@given(data=st.data())
def test_below_the_threshold_a_search_is_brute_force(run, data):
    run("DEL", "k")
    size = data.draw(st.integers(1, 5))
    drawn = st.lists(st.floats(-100, 100, width=32), min_size=size, max_size=size)
    vectors = dict(enumerate(data.draw(st.lists(drawn, min_size=1, max_size=20)), 1))
    query = data.draw(drawn)
    count = data.draw(st.integers(1, 25))
    for vector_id, vector in vectors.items():
        assert run("VECSET", "k", size, *map(repr, vector)) == vector_id
    found = run("VECQUERY", "k", count, *map(repr, query))
    truth = sorted(dist(vector, query) for vector in vectors.values())[:count]
    assert [float(far) for _, far in found] == pytest.approx(truth, rel=1e-12)
    for vector_id, far in found:
        assert float(far) == pytest.approx(dist(vectors[vector_id], query), rel=1e-12)


def test_beyond_the_threshold_a_graph_finds_what_brute_force_does(run, engine, indexed):
    vectors = indexed(1000)
    assert run("OBJECT", "ENCODING", "v") == b"hnsw"
    assert run("VECINFO", "v")[7] == 1000
    hits = 0
    for vector_id in range(1, 51):
        query = [component + 10 for component in vectors[vector_id]]
        expected = nearest(vectors, query, 10)
        hits += len(set(ids(run("VECQUERY", "v", 10, *query))) & set(expected))
        assert ids(run("VECQUERY", "v", 10, *query, "EXACT")) == expected
        assert ids(run("VECQUERY", "v", 10, *query, "EF", 1000)) == expected
    assert hits >= 475


def test_what_the_graph_does_not_have_yet_is_found(run, engine, indexed):
    indexed(200)
    assert run("VECSET", "v", 4, 9000, 9000, 9000, 9000) == 201
    assert run("VECINFO", "v")[7] == 200
    assert run("VECQUERY", "v", 1, 9000, 9000, 9000, 9001) == [[201, b"1"]]
    run("VECSET", "v", 4, -9000, -9000, -9000, -9000, "ID", 17)
    assert run("VECQUERY", "v", 1, -9000, -9000, -9000, -9001) == [[17, b"1"]]
    run("VECDEL", "v", 201)
    assert 201 not in ids(run("VECQUERY", "v", 10, 9000, 9000, 9000, 9000))


def test_deleted_vectors_are_not_found_though_the_graph_has_them(run, indexed):
    vectors = indexed(1000)
    query = vectors[1]
    doomed = nearest(vectors, query, 30)
    run("VECDEL", "v", *doomed)
    for vector_id in doomed:
        del vectors[vector_id]
    assert ids(run("VECQUERY", "v", 10, *query)) == nearest(vectors, query, 10)


def test_a_deadline_and_settings_at_run_time_change_nothing_that_is_there(run, engine, indexed):
    vectors = indexed(200)
    run("CONFIG", "SET", "vector-hnsw-m", 4, "vector-hnsw-ef-search", 5, "vector-exact-max", 10**9)
    run("VECSET", "v", 4, 1, 1, 1, 1)
    work(engine)
    assert ids(run("VECQUERY", "v", 5, *vectors[3], "EF", 200))[0] == 3


# Without the packages


def test_small_sets_need_no_packages_and_large_ones_say_which(run, fails, engine, monkeypatch):
    for name in ("numpy", "usearch", "usearch.index"):
        monkeypatch.setitem(sys.modules, name, None)
    run("CONFIG", "SET", "vector-exact-max", 100)
    for x in range(70):
        run("VECSET", "k", 3000, "FP32", packed(*[float(x)] * 3000))
        if x == 60:
            work(engine)
            assert ids(run("VECQUERY", "k", 2, *[10] * 3000)) == [11, 10]
    assert fails("VECQUERY", "k", 2, *[10] * 3000) == (
        "ERR searching a vector set of this size needs the Python packages numpy and usearch, which are not installed: "
        "pip install 'kora-server[vectors]'"
    )
    assert run("VECGET", "k", 70)[0] == b"69"
    assert run("VECDEL", "k", *range(20, 71)) == 51
    assert ids(run("VECQUERY", "k", 1, *[10] * 3000)) == [11]
