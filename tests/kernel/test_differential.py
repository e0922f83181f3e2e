"""Random programs: the kernel's replies, counts and data against the reference's.  tests/fuzz/pair.py compares."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.clock import ManualClock
from tests.compat.profile import examples
from tests.compat.words import (
    DATABASES,
    GENERIC,
    STRINGS,
    Step,
    Word,
    assemble,
    condition,
    floats,
    integers,
    keys,
    options,
    steps,
    texts,
    words,
)
from tests.compat.words_hashes import FIELD_DEADLINES, HASHES
from tests.compat.words_lists import LISTS
from tests.compat.words_sets import SETS
from tests.compat.words_sorted_sets import SORTED_SETS
from tests.compat.words_streams import GROUP_COMMANDS, STREAMS
from tests.fuzz import programs as fuzz
from tests.fuzz.pair import Action, Advance, Expire, Pair, Send, Store, cut, encode, show
from tests.kernel.operations import OPERATIONS

pytestmark = pytest.mark.usefixtures("compiled")

Table = dict[str, st.SearchStrategy[list[Word]]]

# Times that a program lives to see, unlike those of tests/compat, where another server's clock runs.
_soon_s = st.sampled_from((b"1", b"1", b"2", b"5", b"0"))
_soon_ms = st.sampled_from((b"1", b"50", b"100", b"1000", b"1001", b"0"))
_soon = words("EX", _soon_s) | words("PX", _soon_ms)
ENDING: Table = {
    "SET": words("SET", keys, texts, options("NX", "XX", "GET", "KEEPTTL", _soon)),
    "SETEX": words("SETEX", keys, _soon_s, texts),
    "PSETEX": words("PSETEX", keys, _soon_ms, texts),
    "GETEX": words("GETEX", keys, options("PERSIST", _soon, max_size=2)),
    "EXPIRE": words("EXPIRE", keys, _soon_s, options(condition, max_size=2)),
    "PEXPIRE": words("PEXPIRE", keys, _soon_ms, options(condition, max_size=2)),
    "EXPIREAT": words("EXPIREAT", keys, st.sampled_from((b"1700000001", b"1700000002", b"1699999999"))),
    "PEXPIREAT": words("PEXPIREAT", keys, st.sampled_from((b"1700000000000", b"1700000000100", b"1700000002000"))),
}
# More keys than the kernel looks up together, nearly all of them named several times.
_counts = st.sampled_from((15, 16, 17, 31, 33, 48))
_many_keys = _counts.flatmap(lambda count: st.lists(keys, min_size=count, max_size=count))
_many_pairs = _counts.flatmap(lambda count: st.lists(st.tuples(keys, texts), min_size=count, max_size=count))
MANY: Table = {
    "MSET": words("MSET", _many_pairs),
    "MSETNX": words("MSETNX", _many_pairs),
    **{name: words(name, _many_keys) for name in ("MGET", "DEL", "UNLINK", "EXISTS", "TOUCH")},
}
# Around where a string gets a block of its own, in steps of which some end inside the line break behind it.
_sizes = st.sampled_from((32_766, 32_767, 32_768, 32_769, 40_000, 65_536, 100_000))
_large = st.tuples(_sizes, st.sampled_from((b"x", b"y"))).map(lambda parts: parts[1] * parts[0])
LARGE: Table = {
    "SET": words("SET", keys, _large) | words("SET", keys, _large, options("NX", "XX", "GET", "KEEPTTL", _soon)),
    "MSET": words("MSET", keys, _large, keys, texts, keys, _large),
    "GETSET": words("GETSET", keys, _large),
    "SETEX": words("SETEX", keys, _soon_s, _large),
    "SETNX": words("SETNX", keys, _large),
    "APPEND": words("APPEND", keys, _large | texts),
    "SETRANGE": words("SETRANGE", keys, st.sampled_from((b"0", b"1", b"32767", b"32768", b"70000")), _large | texts),
    "GETRANGE": words("GETRANGE", keys, st.sampled_from((b"0", b"-5", b"32767")), st.sampled_from((b"-1", b"32770"))),
    "ECHO": words("ECHO", _large),
    "INCR": words("INCR", keys),
    "STRLEN": words("STRLEN", keys),
    "a key": words("SET", _large, texts) | words("GET", _large) | words("MGET", _large, keys),
}
SETTINGS: Table = {
    "HELLO": words("HELLO", st.sampled_from((b"2", b"3", b"4"))),
    "AUTH": words("AUTH", st.sampled_from((b"secret", b"wrong"))) | words("HELLO", "3", "AUTH", "default", "secret"),
    "CLIENT REPLY": words("CLIENT", "REPLY", st.sampled_from((b"ON", b"ON", b"OFF", b"SKIP", b"SKIP"))),
    "CLIENT PAUSE": words("CLIENT", "PAUSE", _soon_ms, st.sampled_from((b"WRITE", b"ALL"))),
    "CLIENT UNPAUSE": words("CLIENT", "UNPAUSE"),
    "CLIENT KILL": words("CLIENT", "KILL", "ID", st.sampled_from((b"1", b"2", b"3"))),
    "CLIENT LIST": words("CLIENT", "LIST"),
    "RESET": words("RESET"),
    "QUIT": words("QUIT"),
    "CONFIG SET": words("CONFIG", "SET", "maxmemory", st.sampled_from((b"0", b"1", b"1000gb")))
    | words("CONFIG", "SET", "observation", st.sampled_from((b"no", b"yes", b"yes")))
    | words("CONFIG", "SET", "requirepass", st.sampled_from((b"secret", b"")))
    | words("CONFIG", "SET", "proto-max-bulk-len", st.sampled_from((b"1mb", b"2mb"))),
    "CONFIG RESETSTAT": words("CONFIG", "RESETSTAT"),
    "DEBUG SLEEP": words("DEBUG", "SLEEP", st.sampled_from((b"0.1", b"1"))),
    "DEBUG POPULATE": words("DEBUG", "POPULATE", st.sampled_from((b"100", b"1500")), "{t}"),
    "SETRANGE": words("SETRANGE", keys, st.sampled_from((b"1048575", b"1048576", b"2097151")), b"x"),
    "PING": words("PING") | words("PING", texts) | words("ECHO", texts) | words("NONESUCH", keys),
}
# Members that are chosen at random are the same in both where there is only one.
_single = words("SADD", "single", "member")
_bytes = st.binary(max_size=40) | st.sampled_from((b"\xff" * 30, b"\0" * 30, b"\xff" * 9 + b"\x7f", b"", b"12"))
_bits = st.sampled_from((b"0", b"1", b"-1", b"7", b"8", b"9", b"63", b"64", b"-3", b"200", b"-300", b"9" * 19))
_unit = options("BYTE", "BIT", "bit", "x", max_size=1)
BITS: Table = {
    "SET bytes": words("SET", keys, _bytes) | words("SET", keys, st.sampled_from((b"\xff" * 33_000, b"\0" * 40_000))),
    "BITCOUNT": words("BITCOUNT", keys) | words("BITCOUNT", keys, _bits, _bits, _unit) | words("BITCOUNT", keys, _bits),
    "BITPOS": words("BITPOS", keys, st.sampled_from((b"0", b"1", b"2")), options(_bits, max_size=1))
    | words("BITPOS", keys, st.sampled_from((b"0", b"1")), _bits, _bits, _unit),
    "BITOP": words("BITOP", st.sampled_from((b"AND", b"or", b"XOR", b"NOPE")), keys, keys, options(keys, max_size=3))
    | words("BITOP", "NOT", keys, keys, options(keys, max_size=1)),
    "OBJECT ENCODING": words("OBJECT", "ENCODING", keys),
    "wrong": words("RPUSH", keys, "x"),
    "PEXPIRE": words("PEXPIRE", keys, "50"),
    "DEL": words("DEL", keys),
}
CHOOSING: Table = {
    "SPOP": _single | words("SPOP", "single") | words("SPOP", keys),
    "SRANDMEMBER": _single | words("SRANDMEMBER", "single") | words("SRANDMEMBER", keys),
}
# Around where members go over to a table, and back and forth there.
_numbers = st.integers(0, 700)
_members = st.tuples(_numbers, st.integers(1, 300), st.sampled_from((b"", b"m"))).map(
    lambda drawn: [drawn[2] + b"%d" % number for number in range(drawn[0], drawn[0] + drawn[1])]
)
_fields = _members.map(lambda members: [word for member in members for word in (member, member)])
TABLES: Table = {
    "SADD": words("SADD", "s", _members),
    "SREM": words("SREM", "s", _members),
    "SMEMBERS": words("SMEMBERS", "s"),
    "SMISMEMBER": words("SMISMEMBER", "s", _members),
    "SSCAN": words("SSCAN", "s", st.sampled_from((b"0", b"100", b"1000")), "COUNT", st.sampled_from((b"7", b"1000"))),
    "SMOVE": words("SMOVE", "s", "t", _numbers.map(lambda number: b"%d" % number)),
    "HSET": words("HSET", "h", _fields),
    "HDEL": words("HDEL", "h", _members),
    "HGETALL": words("HGETALL", "h"),
    "HMGET": words("HMGET", "h", _members),
    "HSCAN": words("HSCAN", "h", st.sampled_from((b"0", b"100", b"1000")), "COUNT", st.sampled_from((b"7", b"1000"))),
    "HINCRBY": words("HINCRBY", "h", _numbers.map(lambda number: b"%d" % number), "5"),
    "HEXPIRE": words("HEXPIRE", "h", "1", "FIELDS", "2", "5", "m5"),
    "COPY": words("COPY", st.sampled_from((b"s", b"h")), st.sampled_from((b"s", b"h", b"t")), "REPLACE"),
}
# Those that choose by chance are left out.
ORDERED: Table = {name: SORTED_SETS[name] for name in SORTED_SETS if name not in ("ZRANDMEMBER", "ZSCAN")}
_NOW_MS = ManualClock().wall_ms()
# What is tracked, and what is read of it, written or not.
TRACKED: Table = {
    "TRACK": words("TRACK", keys) | words("TRACK", keys, floats) | words("TRACK", keys, integers),
    "TRACK AT": words("TRACK", keys, integers, "AT", st.integers(-1, 300_000).map(lambda ago: b"%d" % (_NOW_MS - ago))),
    "TRACK.READ": words("TRACK.READ", keys, st.sampled_from((b"stats", b"gauge", b"counter", b"rate", b"points"))),
    "TRACK.KEYS": words("TRACK.KEYS"),
    "CONFIG SET": words("CONFIG", "SET", "events-negative", "yes")
    | words("CONFIG", "SET", "events-keys-max", "2")
    | words("CONFIG", "SET", "events-flush-interval", "60"),
}
PLAIN: Table = {"PING": SETTINGS["PING"], "ECHO": words("ECHO", texts), "TRACK": TRACKED["TRACK"]}
_FILL: Table = {f"fill {name}": STRINGS[name] for name in ("SET", "MSET", "APPEND", "SETEX")}

flags = st.sampled_from(
    (
        (),
        (),
        (),
        ("--requirepass", "secret"),
        ("--maxmemory", "1"),
        ("--maxmemory", "1000gb"),
        ("--observation", "no"),
        ("--lazyfree-lazy-user-flush", "yes"),
    )
)
_clients = st.sampled_from((0, 0, 0, 1, 2))
_cuts = st.just(()) | st.just(()) | st.just(None) | st.lists(st.integers(0, 1 << 20), min_size=1, max_size=5)
_passing = st.sampled_from((0, 1, 50, 100, 101, 1_000, 1_001, 6_000, 1_500_000)).map(Advance)
_stores = st.builds(Store, st.sampled_from((0, 0, 1)), keys, st.integers(0, 5_000))


def actions(table: Table, max_size: int = 10) -> st.SearchStrategy[list[Action]]:
    sends = st.tuples(_clients, st.lists(steps(table), min_size=1, max_size=8), _cuts)
    one = st.one_of(sends, sends, sends, sends, _passing, _stores, st.just(Expire()))
    return st.lists(one, min_size=1, max_size=max_size).map(_assembled)


def _assembled(drawn: Sequence[Any]) -> list[Action]:
    """Times told apart over the whole program, and requests written and cut."""
    numbered = iter(assemble([step for part in drawn if isinstance(part, tuple) for step in part[1]]))
    program: list[Action] = []
    for part in drawn:
        if isinstance(part, tuple):
            client, its_steps, places = part
            data = b"".join([encode(_with_one_member(next(numbered))) for _ in its_steps])
            program.append(Send(client, _pieces(data, places)))
        else:
            program.append(part)
    return program


def _with_one_member(request: Step) -> Step:
    """However the request was bent: what is chosen from the set must be the same in both."""
    is_of_single = request[0].upper() == b"SADD" and request[1:2] == (b"single",)
    return (request[0], b"single", b"member") if is_of_single else request


def _pieces(data: bytes, places: list[int] | None) -> tuple[bytes, ...]:
    """Cut at some places, in any unit; None: everywhere, or at every thousandth byte of what is long."""
    if places is None:
        return cut(data, range(0, len(data), 1 if len(data) < 1_000 else 997))
    return cut(data, [place % (len(data) + 1) for place in places])


def check(words: Sequence[str], program: list[Action]) -> None:
    fault = Pair(*words).run(program)
    assert not fault, f"{fault}\n\n{show(words, program)}"


@given(
    flags=flags,
    program=actions({**STRINGS, **GENERIC, **ENDING, **MANY, **PLAIN, **_FILL, "SELECT": DATABASES["SELECT"]}),
)
@examples(500)
def test_programs_over_keys_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


@given(flags=flags, program=actions({**STRINGS, **GENERIC, **DATABASES, **ENDING, **SETTINGS}, max_size=12))
@examples(500)
def test_programs_that_change_clients_and_settings_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


@given(flags=flags, program=actions({**HASHES, **SETS, **GENERIC, **ENDING, **CHOOSING, "HELLO": SETTINGS["HELLO"]}))
@examples(500)
def test_programs_over_hashes_and_sets_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


@given(flags=flags, program=actions({**LISTS, **ORDERED, **GENERIC, **ENDING, "HELLO": SETTINGS["HELLO"]}))
@examples(500)
def test_programs_over_lists_and_sorted_sets_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


@given(flags=flags, program=actions({**TABLES, "HELLO": SETTINGS["HELLO"]}))
@examples(150)
def test_programs_of_many_members_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


@given(flags=flags, program=actions({**LARGE, **ENDING, "GET": STRINGS["GET"], "DEL": GENERIC["DEL"]}, max_size=5))
@examples(150)
def test_programs_of_large_values_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


_automatic = words("XADD", keys, "*", texts, texts) | words("XADD", keys, "MAXLEN", "~", "3", "*", "f", texts)
_KEPT = {name: GENERIC[name] for name in ("DEL", "COPY", "RENAME", "TYPE", "OBJECT ENCODING") if name in GENERIC}
ENTRIES: Table = {**STREAMS, **GROUP_COMMANDS, **_KEPT, "XADD *": _automatic, "XADD again": STREAMS["XADD"]}


@given(nodes=st.sampled_from(("1", "3", "100", "0")), bytes_max=st.sampled_from(("4096", "60", "0")), data=st.data())
@examples(300)
def test_programs_over_streams_do_the_same(nodes: str, bytes_max: str, data: st.DataObject) -> None:
    flags = ("--stream-node-max-entries", nodes, "--stream-node-max-bytes", bytes_max)
    check(flags, data.draw(actions({**ENTRIES, "HELLO": SETTINGS["HELLO"]}, max_size=20)))


_DELETING = {"DEL": GENERIC["DEL"]}
_PASSING_LONG = st.sampled_from((1_000, 11_500, 61_500, 4_000_000)).map(Advance)


@given(
    flags=flags, program=st.lists(actions({**TRACKED, "DEL": GENERIC["DEL"]}, max_size=4), max_size=6), data=st.data()
)
@examples(150)
def test_programs_of_tracked_values_do_the_same(
    flags: tuple[str, ...], program: list[list[Action]], data: st.DataObject
) -> None:
    check(flags, [action for part in program for action in (*part, data.draw(_PASSING_LONG))])


@given(flags=flags, program=actions(BITS))
@examples(300)
def test_programs_over_bits_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


# But for random picks, which are each implementation's own.
_HASHES = {name: strategy for name, strategy in {**HASHES, **FIELD_DEADLINES}.items() if name != "HRANDFIELD"}


@given(flags=flags, program=actions({**_HASHES, **GENERIC, "fill": HASHES["HSET"], "SET": STRINGS["SET"]}))
@examples(300)
def test_programs_over_hashes_do_the_same(flags: tuple[str, ...], program: list[Action]) -> None:
    check(flags, program)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_in_many_forms(name: str) -> None:
    tables = (
        STRINGS,
        GENERIC,
        HASHES,
        SETS,
        LISTS,
        ORDERED,
        STREAMS,
        BITS,
        ENDING,
        MANY,
        PLAIN,
        LARGE,
        CHOOSING,
        TABLES,
    )
    forms = [table[name.upper()] for table in tables if name.upper() in table]
    mixed = {"it": st.one_of(forms), "again": st.one_of(forms), **_FILL, "ends": st.one_of(list(ENDING.values()))}
    fills = ((HASHES, HASHES["HSET"]), (SETS, SETS["SADD"]), (LISTS, LISTS["RPUSH"]), (ORDERED, ORDERED["ZADD"]))
    fills = (*fills, (STREAMS, STREAMS["XADD"]))
    for table, filled in fills:
        if name.upper() in table:
            mixed["fill it"] = filled

    @given(flags=flags, program=actions(mixed, max_size=6))
    @examples(30)
    def each(flags: tuple[str, ...], program: list[Action]) -> None:
        check(flags, program)

    each()


@pytest.mark.parametrize("part", range(4))
def test_programs_of_the_fuzzer_do_the_same(part: int) -> None:
    for number in range(200):
        source = fuzz.Chance((part, number))
        words = fuzz.draw_flags(source)
        check(words, fuzz.draw_program(source))


@pytest.mark.parametrize("part", range(2))
def test_bent_streams_in_pieces_do_the_same(part: int) -> None:
    for number in range(200):
        source = fuzz.Chance(("bent", part, number))
        words = fuzz.draw_flags(source)
        check(words, [Send(0, fuzz.draw_pieces(source, fuzz.draw_stream(source))) for _ in range(1 + source.number(4))])


def test_every_operation_is_in_the_programs() -> None:
    drawn = {
        name.lower()
        for table in (STRINGS, GENERIC, HASHES, SETS, LISTS, ORDERED, STREAMS, BITS, PLAIN)
        for name in table
    }
    assert not set(OPERATIONS) - drawn, "give these a strategy in tests/compat/words.py, or in PLAIN here"
    forms = {form[0].lower().decode() for form in fuzz._COMMON}
    chance = {name.lower() for name in CHOOSING}  # a bent request would have them choose among several
    assert not set(OPERATIONS) - forms - chance, "give these a line in _FORMS of tests/fuzz/programs.py"


def test_a_table_that_is_split_and_shrinks_again_is_the_same_in_both() -> None:
    """Thousands of keys in one slot, with and without deadlines; most of them go again in every way that keys can."""
    names = [b"{t}%d" % number for number in range(6_000)]

    def send(*requests: Sequence[bytes]) -> Send:
        return Send(0, (b"".join(map(encode, requests)),))

    program = [
        send(*([b"SET", name, b"v" * (number % 60)] for number, name in enumerate(names))),
        send(*([b"PEXPIRE", name, b"%d" % (10 + number % 50)] for number, name in enumerate(names) if number % 3 == 0)),
        send([b"MGET", *names], [b"SCAN", b"0", b"COUNT", b"100"], [b"DBSIZE"]),
        Advance(30),
        send([b"EXISTS", *names], [b"APPEND", names[0], b"x" * 40_000]),
        send(*([b"RENAME", name, b"{u}" + name] for name in names[1000:2000:3] if int(name[3:]) % 3)),
        send([b"DEL", *names[:3000]], [b"MOVE", names[4000], b"1"], [b"COPY", names[4001], b"to", b"REPLACE"]),
        Expire(),
        Advance(100),
        Expire(),
        send([b"UNLINK", *names[3000:5900]], [b"KEYS", b"*"], [b"FLUSHALL", b"ASYNC"], [b"SET", names[0], b"again"]),
    ]  # fmt: skip
    check((), program)


def test_bytes_that_complete_no_request_end_the_idling_of_a_client() -> None:
    program = [Advance(5_000), Send(1, (b"*1\r\n$4\r\nPI",)), Advance(2_000), Send(0, (encode([b"CLIENT", b"LIST"]),))]
    check((), program)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
def test_a_pipeline_longer_than_a_turn_in_pieces_does_the_same(size: int) -> None:
    requests = [encode([b"INCR", b"k%d" % (number % 7)]) for number in range(2_500)]
    data = b"".join([*requests[:1_500], encode([b"QUIT"]), *requests[1_500:]])
    if size < 64:
        data = data[-60_000:][data[-60_000:].index(b"*") :]
    check((), [Send(0, cut(data, range(0, len(data), size)))])


def test_the_comparison_notices_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a mistake in the harness does not let everything through."""
    both = Pair()
    assert both.run([Send(0, (encode([b"SET", b"k", b"v"]),))]) == ""
    both.kernel.engine.databases[0].set(b"l", b"v")
    fault = both.fault()
    assert "keys, deadlines, changes of database 0" in fault and "key b'l' of database 0" in fault
    assert "client 0, from byte 0 on" in both.run([Send(0, (encode([b"GET", b"l"]),))])
