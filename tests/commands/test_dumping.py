"""DUMP and RESTORE: Redis' payloads to the byte, values of all versions, and what eviction and listeners are told."""

import tracemalloc

import pytest

from kora.errors import CommandError
from kora.types import lzf
from kora.types.rdb.payload import seal
from kora.types.rdb.streams import write_stream
from kora.types.rdb.values import Type
from kora.types.rdb.writer import Writer
from tests.conftest import runner
from tests.types.older_payloads import OLDER, payload, ziplist, zipmap
from tests.types.payloads import PAYLOADS

BAD = "ERR Bad data format"
WRONG = "ERR DUMP payload version or checksum are wrong"

# Those that Redis compresses, whose LZF is its own; that have entries which are only marked as deleted, or a time; or
# that Kora writes as Redis 7.0 would, so that it can read them.
OTHER_BYTES = {
    "lzf",
    "intset 64",
    "list",
    "list of two nodes",
    "small zset",
    "stream",
    "stream with groups",
    "small set",
    "stream 3",
}


def words_of(line):
    return ["" if word == '""' else word for word in line.split(" ")]


def refused(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


def contents(run, key):
    """Everything that can be asked about a value, but for what tells how long ago something was."""
    match run("TYPE", key):
        case "string":
            return run("GET", key)
        case "list":
            return run("LRANGE", key, 0, -1)
        case "set":
            return sorted(run("SMEMBERS", key))
        case "zset":
            return run("ZRANGE", key, 0, -1, "WITHSCORES")
        case "hash":
            words = run("HGETALL", key)
            fields = words[::2]
            return {
                field: (value, run("HPEXPIRETIME", key, "FIELDS", 1, field))
                for field, value in zip(fields, words[1::2], strict=True)
            }
    found = [run("XRANGE", key, "-", "+"), run("XINFO", "STREAM", key), run("XINFO", "GROUPS", key)]
    for group in found[2]:
        name = group[1]
        found.append([(entry[:2], entry[3]) for entry in run("XPENDING", key, name, "-", "+", 100)])
        found.append([consumer[:4] for consumer in run("XINFO", "CONSUMERS", key, name)])
    return found


@pytest.mark.parametrize("name", sorted(PAYLOADS))
def test_a_payload_of_redis_is_the_value_that_its_commands_make(run, name):
    lines, data = PAYLOADS[name]
    assert run("RESTORE", "restored", 0, bytes.fromhex(data)) == "OK"
    for line in lines:
        run(*words_of(line))
    # What was large to the server that dumped it may be small here.
    assert run("OBJECT", "ENCODING", "restored") == run("OBJECT", "ENCODING", "k")
    assert contents(run, "restored") == contents(run, "k")


@pytest.mark.parametrize("name", sorted(PAYLOADS.keys() - OTHER_BYTES))
def test_a_dump_has_the_bytes_of_redis(make_engine, name):
    small = ("--zset-max-listpack-entries", "1", "--hash-max-listpack-entries", "1")
    engine = make_engine(*(small if name in ("zset", "hash", "hash with deadlines") else ()))
    run = runner(engine.connect())
    lines, data = PAYLOADS[name]
    for line in lines:
        run(*words_of(line))
    expected = bytes.fromhex(data)
    found = run("DUMP", "k")
    if name in ("hash", "hash with deadlines"):
        assert sorted(found[:-10]) == sorted(expected[:-10])  # its fields are in no order
    else:
        assert found[:-10] == expected[:-10]
    assert found[-10] == expected[-10]
    assert run("RESTORE", "again", 0, found) == "OK"
    assert contents(run, "again") == contents(run, "k")


def test_what_a_dump_does_not_need_a_later_version_for_is_of_version_10(run):
    run("SADD", "set", "a")
    run("XADD", "stream", "1-1", "f", "v")
    run("HSET", "hash", "f", "v")
    run("HEXPIRE", "hash", 100, "FIELDS", 1, "f")
    assert [run("DUMP", key)[0] for key in ("set", "stream", "hash")] == [
        Type.SET, Type.STREAM_LISTPACKS_2, Type.HASH_LISTPACK_EX,
    ]  # fmt: skip
    assert [run("DUMP", key)[-10] for key in ("set", "stream", "hash")] == [10, 10, 12]
    run("HPERSIST", "hash", "FIELDS", 1, "f")
    assert run("DUMP", "hash")[-10] == 10


@pytest.mark.parametrize("name", sorted(OLDER))
def test_payloads_of_earlier_versions_are_understood(run, name):
    data, question, answer = OLDER[name]
    assert run("RESTORE", "k", 0, data) == "OK"
    assert sorted(run(*question.split(" "))) == sorted(answer)
    if "HGETALL" not in question:
        assert run(*question.split(" ")) == answer


def test_the_first_streams_tell_what_they_know(run, client):
    """Version 1 knows nothing of deleted entries and of what groups have read: that is worked out."""
    for number in range(5):
        run("XADD", "k", f"{number + 1}-1", "f", "v")
    run("XGROUP", "CREATE", "k", "g", "1-1", "ENTRIESREAD", 1)
    run("XREADGROUP", "GROUP", "g", "ann", "COUNT", 4, "STREAMS", "k", ">")
    data = payload(Type.STREAM_LISTPACKS, lambda writer: write_stream(writer, client.db.find(b"k"), 1), 9)
    assert run("RESTORE", "old", 0, data) == "OK"
    assert contents(run, "old") == contents(run, "k")


@pytest.mark.parametrize("metric", ["L2", "COSINE", "IP"])
def test_vector_sets_come_back_although_redis_has_none(run, metric):
    for number in range(50):
        run("VECSET", "k", 3, number / 3, -number, 1e15, "METRIC", metric)
    run("VECSET", "k", 3, 1, 2, 3, "ID", 1000)
    run("VECDEL", "k", 1000, 7)
    data = run("DUMP", "k")
    assert run("RESTORE", "again", 0, data) == "OK"
    assert run("VECINFO", "again") == run("VECINFO", "k")
    assert run("VECQUERY", "again", 5, 1, -3, 1) == run("VECQUERY", "k", 5, 1, -3, 1)
    # Anything that is changed in it is found, or does no harm.
    for place in range(len(data) - 10):
        damaged = bytearray(data[:-10])
        damaged[place] ^= 0x81
        try:
            run("RESTORE", "other", 0, seal(damaged, 10), "REPLACE")
            run("DUMP", "other")
        except CommandError as error:
            assert error.message == BAD


def test_restore_refuses_what_is_there_unless_told_to_replace_it(run):
    run("SET", "a", "1")
    run("SET", "b", "2", "EX", 100)
    data = run("DUMP", "a")
    assert refused(run, "RESTORE", "b", 0, data) == "BUSYKEY Target key name already exists."
    # Before anything else is looked at, but for options.
    assert refused(run, "RESTORE", "b", "x", "x") == "BUSYKEY Target key name already exists."
    assert refused(run, "RESTORE", "b", 0, data, "NOSUCH") == "ERR syntax error"
    assert run("RESTORE", "b", 0, data, "REPLACE") == "OK"
    assert (run("GET", "b"), run("TTL", "b")) == (b"1", -1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("-1",), "ERR Invalid TTL value, must be >= 0"),
        (("x",), "ERR value is not an integer or out of range"),
        (("0", "IDLETIME"), "ERR syntax error"),
        (("0", "IDLETIME", "-1"), "ERR Invalid IDLETIME value, must be >= 0"),
        (("0", "FREQ", "256"), "ERR Invalid FREQ value, must be >= 0 and <= 255"),
        (("0", "FREQ", "1", "IDLETIME", "1"), "ERR syntax error"),
        (("0", "IDLETIME", "x"), "ERR value is not an integer or out of range"),
    ],
)
def test_options_of_restore_are_checked_before_the_payload(run, words, error):
    ttl, *options = words
    assert refused(run, "RESTORE", "k", ttl, b"", *options) == error


def test_deadlines_are_relative_or_absolute_and_those_that_are_past_leave_nothing(run, clock):
    run("SET", "a", "1")
    data = run("DUMP", "a")
    now_ms = clock.wall_ms()
    run("RESTORE", "b", 5000, data)
    run("RESTORE", "c", now_ms + 7000, data, "ABSTTL")
    assert (run("PTTL", "b"), run("PTTL", "c")) == (5000, 7000)
    assert run("RESTORE", "d", now_ms - 1, data, "ABSTTL") == "OK"
    assert run("RESTORE", "b", now_ms, data, "ABSTTL", "REPLACE") == "OK"
    assert run("RESTORE", "e", (1 << 63) - 1, data) == "OK"  # more than 64 bits: in the past, as in Redis
    assert run("EXISTS", "b", "c", "d", "e") == 1


def test_listeners_are_told(connect, run):
    run("SET", "a", "1")
    data = run("DUMP", "a")
    run("CONFIG", "SET", "notify-keyspace-events", "KEAn")
    listener = connect()
    listener.send("PSUBSCRIBE", "__keyevent@0__:*")
    run("RESTORE", "b", 0, data)
    run("RESTORE", "b", 0, data, "REPLACE")
    run("RESTORE", "b", 1, data, "ABSTTL", "REPLACE")
    events = [message[2].rpartition(b":")[2] for message in listener.received()]
    assert events == [b"new", b"restore", b"new", b"restore", b"del"]


def test_eviction_knows_how_a_key_was_used_elsewhere(run):
    run("SET", "a", "1")
    data = run("DUMP", "a")
    run("DEL", "a")
    run("RESTORE", "k", 0, data, "IDLETIME", 1000)
    assert run("OBJECT", "IDLETIME", "k") == 1000
    run("RESTORE", "k", 0, data, "REPLACE", "FREQ", 80)  # means nothing to this policy
    assert run("OBJECT", "IDLETIME", "k") == 0
    run("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    run("RESTORE", "k", 0, data, "REPLACE", "FREQ", 80)
    assert run("OBJECT", "FREQ", "k") == 80


def test_a_dump_counts_as_use_and_a_missing_key_as_a_miss(run):
    assert run("DUMP", "nosuch") is None
    assert b"keyspace_misses:1" in run("INFO", "stats")


def test_fields_whose_time_is_over_are_not_dumped(run, clock):
    run("HSET", "k", "f", "v", "g", "w")
    run("HPEXPIRE", "k", 10, "FIELDS", 1, "f")
    clock.advance_ms(11)
    run("RESTORE", "other", 0, run("DUMP", "k"))
    assert run("HGETALL", "other") == [b"g", b"w"]
    run("HPEXPIRE", "k", 10, "FIELDS", 1, "g")
    clock.advance_ms(11)
    assert run("DUMP", "k") is None
    assert run("EXISTS", "k") == 0


def test_fields_of_a_restored_hash_end_by_themselves(run, clock, engine):
    run("HSET", "k", "f", "v", "g", "w")
    run("HPEXPIRE", "k", 1000, "FIELDS", 1, "f")
    data = run("DUMP", "k")
    run("DEL", "k")
    run("RESTORE", "other", 0, data)
    clock.advance_ms(1001)
    assert engine.field_deadlines[0].end_due(engine.databases[0], clock.wall_ms(), 10) >= 1
    assert run("HLEN", "other") == 1


@pytest.mark.parametrize("data", [b"", b"123456789", b"\0\x05hello\x0a\0" + bytes(8), seal(bytearray(b"\0\0"), 13)])
def test_a_wrong_foot_is_told(run, data):
    assert refused(run, "RESTORE", "k", 0, data) == WRONG


def test_what_is_behind_the_value_is_passed_over_as_in_redis(run):
    assert run("RESTORE", "k", 0, seal(bytearray(b"\0\x02hiMORE"), 10)) == "OK"
    assert run("GET", "k") == b"hi"


def string(data):
    def write(writer):
        writer.string(data)

    return write


def raw(data):
    def write(writer):
        writer.data += data

    return write


def listpack(*entries, count=None):
    body = b"".join(entries)
    head = (7 + len(body)).to_bytes(4, "little") + (len(entries) if count is None else count).to_bytes(2, "little")
    return head + body + b"\xff"


HOSTILE = {
    "no value": seal(bytearray(), 10),
    "a type that is none": payload(99, raw(b"\0")),
    "a module's type": payload(7, raw(b"\0")),
    "a string that ends too early": payload(0, raw(b"\x09abc")),
    "a string of 2 ** 63 bytes": payload(0, raw(b"\x81" + b"\x7f" + bytes(7))),
    "LZF that would be a terabyte": payload(0, raw(b"\xc3\x03\x81" + (1 << 40).to_bytes(8, "big") + b"abc")),
    "LZF that ends too early": payload(0, raw(b"\xc3\x02\x20\xe0\xff")),
    "LZF that looks back too far": payload(0, raw(b"\xc3\x03\x04\x20\xff\xff")),
    "a string in no known form": payload(0, raw(b"\xc7")),
    "a list of 2 ** 60 elements": payload(1, raw(b"\x81\x10" + bytes(7))),
    "a list of none": payload(1, raw(b"\0")),
    "a set of 2 ** 32 members": payload(2, raw(b"\x80\xff\xff\xff\xff")),
    "a member that is there twice": payload(2, raw(b"\x02\x01a\x01a")),
    "a field that is there twice": payload(4, raw(b"\x02\x01a\x01b\x01a\x01c")),
    "nan as a score": payload(5, raw(b"\x01\x01a" + b"\0\0\0\0\0\0\xf8\x7f")),
    "nan as an old score": payload(3, raw(b"\x01\x01a\xfd")),
    "nan in a listpack": payload(17, string(listpack(b"\x81a\x02", b"\x83nan\x04"))),
    "a member without a score": payload(17, string(listpack(b"\x81a\x02"))),
    "a field without a value": payload(16, string(listpack(b"\x81a\x02"))),
    "a listpack of another size": payload(16, string(listpack(b"\x81a\x02", b"\x81b\x02") + b"x")),
    "a listpack of another number": payload(16, string(listpack(b"\x81a\x02", b"\x81b\x02", count=3))),
    "a listpack with a wrong length": payload(16, string(listpack(b"\x81a\x02", b"\x81b\x03"))),
    "a listpack with 4 GB": payload(16, string(listpack(b"\xf0\xff\xff\xff\xffa\x02", b"\x81b\x02"))),
    "a listpack of an unknown element": payload(16, string(listpack(b"\xf9\x02", b"\x81b\x02"))),
    "an empty listpack": payload(16, string(listpack())),
    "fields twice in a listpack": payload(16, string(listpack(*[b"\x81a\x02", b"\x01\x01"] * 2))),
    "an intset that is not sorted": payload(11, string(bytes.fromhex("02000000020000000200 0100".replace(" ", "")))),
    "an intset twice the same": payload(11, string(bytes.fromhex("020000000200000001000100"))),
    "an intset of 4 G": payload(11, string(bytes.fromhex("02000000ffffffff01000100"))),
    "an intset of 3 bytes": payload(11, string(bytes.fromhex("0300000001000000010000"))),
    "an empty intset": payload(11, string(bytes.fromhex("0200000000000000"))),
    "a ziplist of another size": payload(10, string(ziplist(b"a") + b"x")),
    "a ziplist with a wrong tail": payload(10, string(ziplist(b"a")[:4] + b"\x0b\0\0\0" + ziplist(b"a")[8:])),
    "a ziplist with a wrong length": payload(10, string(ziplist(b"a", b"b").replace(b"\x03\x01b", b"\x02\x01b"))),
    "a ziplist with 4 GB": payload(10, string(ziplist(b"a").replace(b"\0\x01a", b"\0\x80\xff\xff\xff\xffa"))),
    "an empty ziplist": payload(10, string(ziplist())),
    "a zipmap with 4 GB": payload(9, string(b"\x01\xfe\xff\xff\xff\xff\xff")),
    "a zipmap of another number": payload(9, string(b"\x02" + zipmap([(b"a", b"b")])[1:])),
    "a zipmap that ends too early": payload(9, string(b"\x01\x01a\xff")),
    "a node that is neither": payload(18, raw(b"\x01\x03\x01a")),
    "a list of empty nodes": payload(18, raw(b"\x01\x02\x07" + listpack())),
    "a deadline beyond all times": payload(24, raw(bytes(8) + b"\x01\x81\x7f" + bytes(7) + b"\x01f\x01v")),
    "a deadline before all times": payload(24, raw(b"\xff" * 8 + b"\x01\x01\x01f\x01v")),
    "a deadline that is none": payload(25, raw(bytes(8) + b"\x10" + listpack(*[b"\x81a\x02"] * 3))),
    "a stream without entries that says it has": payload(15, raw(b"\0\x05\0\0\0")),
    "a stream of a block that is none": payload(15, raw(b"\x01\x10" + bytes(16) + b"\x01x" + b"\0\0\0\0")),
    "a stream of 2 ** 60 blocks": payload(15, raw(b"\x81\x10" + bytes(7))),
    "a pending entry of nobody": payload(15, raw(b"\0\0\0\0\x01\x01g\0\0\x01" + bytes(24) + b"\x01" + b"\0")),
    "a pending entry that the group lacks": payload(
        15, raw(b"\0\0\0\0\x01\x01g\0\0\0\x01\x01c" + bytes(8) + b"\x01" + bytes(16))
    ),
    "a pending entry of two": payload(
        15,
        raw(
            b"\0\0\0\0\x01\x01g\0\0\x01" + bytes(24) + b"\x01\x02"
            b"\x01c" + bytes(8) + b"\x01" + bytes(16) + b"\x01d" + bytes(8) + b"\x01" + bytes(16)
        ),
    ),
    "two groups of a name": payload(15, raw(b"\0\0\0\0\x02" + b"\x01g\0\0\0\0" * 2)),
    "two consumers of a name": payload(15, raw(b"\0\0\0\0\x01\x01g\0\0\0\x02" + (b"\x01c" + bytes(8) + b"\0") * 2)),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_payload_that_nobody_wrote_is_bad_data_and_takes_no_memory(run, engine, name):
    tracemalloc.start()
    try:
        assert refused(run, "RESTORE", "k", 0, HOSTILE[name]) == BAD
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20
    assert engine.internal_errors == 0
    assert run("EXISTS", "k") == 0


def test_a_string_over_the_limit_is_not_taken(run):
    run("CONFIG", "SET", "proto-max-bulk-len", 1 << 20)
    writer = Writer(lzf.compress)
    writer.string(bytes((1 << 20) + 1))
    assert refused(run, "RESTORE", "k", 0, payload(0, raw(bytes(writer.data)))) == BAD


def test_a_damaged_payload_leaves_what_it_would_replace(run):
    run("SET", "k", "v")
    assert refused(run, "RESTORE", "k", 0, HOSTILE["nan as a score"], "REPLACE") == BAD
    assert run("GET", "k") == b"v"


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize(
    "make", ["RPUSH k {}", "SADD k {}", "ZADD k 1 {}", "HSET k {} v", "XADD k * {} v"], ids=lambda line: line.split()[0]
)
def test_a_copy_has_all_and_is_independent(run, make, size):
    for number in range(size):
        run(*make.format(f"member{number}").split(" "))
    if make.startswith("HSET"):
        run("HEXPIRE", "k", 100, "FIELDS", 2, "member1", "member2")
    if make.startswith("XADD"):
        run("XGROUP", "CREATE", "k", "g", "0")
        run("XREADGROUP", "GROUP", "g", "ann", "COUNT", 2, "STREAMS", "k", ">")
    assert run("COPY", "k", "twin") == 1
    assert contents(run, "twin") == contents(run, "k")
    before = contents(run, "k")
    run(*make.format("another").replace("k ", "twin ", 1).split(" "))
    assert contents(run, "k") == before
    assert run("MEMORY", "USAGE", "twin", "SAMPLES", "0") == run("MEMORY", "USAGE", "twin", "SAMPLES", 5) > size * 4
    assert (
        int(run("DEBUG", "OBJECT", "k").partition("serializedlength:")[2].split(" ")[0]) == len(run("DUMP", "k")) - 11
    )


def test_a_long_value_is_dumped_and_restored(run):
    run("RPUSH", "l", *range(50_000))
    for number in range(0, 20_000, 1000):
        run("ZADD", "z", *[word for score in range(number, number + 1000) for word in (score / 7, f"m{score}")])
    for key in ("l", "z"):
        assert run("RESTORE", key + "2", 0, run("DUMP", key)) == "OK"
        assert contents(run, key + "2") == contents(run, key)
