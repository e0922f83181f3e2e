"""Scripts and functions: what redis-server answers to hundreds of small ones, byte for byte."""

from collections.abc import Iterable, Iterator
from random import Random

import pytest

from .compare import numbers_of, show, split_replies
from .peers import Kora, RedisConnection, RedisServer, requests
from .scripts import BITS, JSON, LANGUAGE, MESSAGE_PACK, RESP3, STRUCT
from .words import Step

pytest.importorskip("lupa")

# What a script says of its own SHA-1 is compared, too: it is the same text.
SHEBANGS = (
    "\n\nx = = 1",
    "#!lua name=x\nreturn 1",
    "#!lua flags=foo\nreturn 1",
    "#!lua foo=bar\nreturn 1",
    "#!js\nreturn 1",
    "#!lua",
    "#!lua flags=\nreturn 1",
    "#!lua\nerror('x')",
    "#!lua flags=no-writes,allow-stale\nreturn 2",
    "#!lua flags=no-writes\nreturn redis.call('set', 'a', 'b')",
    "#!lua \nreturn 1",
    "#!\nreturn 1",
    "#! lua\nreturn 1",
    "#!lua 'x\nreturn 1",
    "#!lua flags=no-writes flags=allow-oom\nreturn 1",
    "local a = 1\nlocal b = a.x.y",
    "local function f()\n  error('deep')\nend\nlocal function g()\n  f()\nend\ng()",
    "return redis.call(\n'nosuch'\n)",
)


@pytest.fixture
def connection(redis: RedisServer) -> Iterator[RedisConnection]:
    redis.reset()
    redis.run("SCRIPT", "FLUSH")
    redis.run("FUNCTION", "FLUSH")
    with redis.connect() as connection:
        yield connection


def compare(connection: RedisConnection, program: Iterable[Step], *before: Step) -> Kora:
    kora = Kora()
    program = list(program)
    data = requests([*before, *program])
    expected = split_replies(connection.exchange(data)[0])[len(before) :]
    found = split_replies(kora.exchange(data)[0])[len(before) :]
    faults = [
        f"{show(step)}\n    redis: {theirs!r}\n    kora:  {ours!r}"
        for step, theirs, ours in zip(program, expected, found, strict=True)
        if theirs != ours
    ]
    assert not faults, "\n".join(faults)
    return kora


def evals(scripts: Iterable[str]) -> list[Step]:
    return [(b"EVAL", script.encode("utf-8", "surrogateescape"), b"0") for script in scripts if script]


@pytest.mark.parametrize(
    "scripts",
    [LANGUAGE, JSON, MESSAGE_PACK, BITS, STRUCT],
    ids=["language", "cjson", "cmsgpack", "bit", "struct"],
)
def test_scripts_give_the_same_replies(connection: RedisConnection, scripts: str) -> None:
    compare(connection, evals(scripts.split("\n")))


def test_scripts_give_the_same_replies_in_resp3(connection: RedisConnection) -> None:
    compare(connection, evals(RESP3.split("\n")), (b"HELLO", b"3"))


def test_first_lines_and_lines_of_errors_are_the_same(connection: RedisConnection) -> None:
    compare(connection, evals(SHEBANGS))


def test_keys_and_arguments_arrive_whole(connection: RedisConnection) -> None:
    both = b"return {KEYS, ARGV}"
    words = [b"x%d" % number for number in range(100)]
    compare(
        connection,
        [
            (b"EVAL", both, b"0"),
            (b"EVAL", both, b"0", b"b", b"c"),
            (b"EVAL", both, b"1", b"a", b"b", b"c"),
            (b"EVAL", both, b"2", b"a", b"b", b"c"),
            (b"EVAL", both, b"3", b"a", b"b", b"c"),
            (b"EVAL", both, b"0", *words),
            (b"EVAL", both, b"1", *words),
            (b"EVAL", both, b"60", *words),
            (b"EVAL", both, b"0", b"\x00\xff\r\n", b""),
            (b"EVAL", b'return "\\0\\255\\13\\10"', b"0"),
            (b"EVAL", b"error('\\255\\254')", b"0"),
        ],
    )


def test_commands_around_scripts_give_the_same_replies(connection: RedisConnection) -> None:
    known, unknown = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"f" * 40
    program: list[Step] = []
    for name in (b"EVAL", b"EVAL_RO", b"EVALSHA", b"FCALL", b"FCALL_RO"):
        for words in (b"", b"x", b"1", b"-1", b"99999999999999999999", b"0"):
            program += [(name, b"return 1", words), (name,)]
    program += [
        (b"EVALSHA", known, b"0"),
        (b"EVALSHA", known.upper(), b"0"),
        (b"EVALSHA_RO", known, b"0"),
        (b"EVALSHA", known, b"x"),
        (b"EVALSHA", unknown, b"x"),
        (b"EVALSHA", unknown, b"1"),
        (b"EVAL_RO", b"return redis.call('set', 'a', 'b')", b"0"),
        (b"EVAL_RO", b"#!lua\nreturn 1", b"0"),
        (b"EVAL_RO", b"#!lua flags=no-writes\nreturn 1", b"0"),
    ]
    for words in (
        b"", b"FOO", b"LOAD return_(", b"LOAD return_7", b"EXISTS", b"EXISTS a " + known, b"FLUSH x", b"FLUSH ASYNC x",
        b"FLUSH async", b"EXISTS " + known, b"FLUSH sync", b"KILL", b"KILL x",
        b"LOAD #!lua_x\n", b"LOAD x y",
    ):  # fmt: skip
        program.append((b"SCRIPT", *(word.replace(b"_", b" ") for word in words.split())))
    compare(connection, program)


_NAMES = ("a", "b", "cc")
# One function each, since Redis lists several in no order.
_WRITING = "#!lua name={0}\nredis.register_function('{0}', function(keys) return redis.call('INCR', keys[1]) end)"
_READING = (
    "#!lua name={0}\nlocal function f(keys, args) return {{keys[1], 2}} end\n"
    "redis.register_function{{function_name='{0}', flags={{'no-writes'}}, callback=f, description='reads'}}"
)
_INSIDE = (
    "'FUNCTION', 'LIST'", "'SCRIPT', 'FLUSH'", "'MULTI'", "'WATCH', 'k'", "'SUBSCRIBE', 'k'", "'PUBLISH', 'k', 'x'",
    "'BLPOP', 'k', 0", "'BLPOP', 'l', 0", "'CLIENT', 'ID'", "'HELLO', 3", "'AUTH', 'x'", "'EVAL', 'return 1', 0",
    "'CONFIG', 'GET', 'maxmemory'", "'CONFIG'", "'OBJECT', 'ENCODING', 'k'", "'SELECT', 1", "'COMMAND', 'COUNT', 'x'",
    "'XREAD', 'BLOCK', 0, 'STREAMS', 's', '$'", "'SHUTDOWN'", "'CLIENT', 'TRACKING', 'ON'", "'RESET'",
)  # fmt: skip


def _management(name: str) -> list[Step]:
    sha = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
    code = (_READING if name == "cc" else _WRITING).format(name)
    lines = (
        f"FUNCTION DELETE {name}|FUNCTION FLUSH|FUNCTION FLUSH SYNC|FUNCTION STATS|FUNCTION LIST LIBRARYNAME {name}|"
        f"FUNCTION LIST LIBRARYNAME {name} WITHCODE|FUNCTION KILL|FUNCTION NOPE|FUNCTION|FCALL {name} 1 k|"
        f"FCALL_RO {name} 1 k|FCALL {name.upper()} 1 k|FUNCTION RESTORE junk|"
        "FUNCTION LOAD nothing|SCRIPT KILL|SCRIPT LOAD nothing|SCRIPT FLUSH|SCRIPT NOPE|DEL k"
    )
    steps: list[Step] = [tuple(word.encode() for word in line.split(" ")) for line in lines.split("|")]
    steps += [(b"FUNCTION", b"LOAD", code.encode()), (b"FUNCTION", b"LOAD", b"REPLACE", code.encode())]
    steps += [(b"EVAL", b"return 1", b"0"), (b"EVALSHA", sha, b"0"), (b"EVALSHA_RO", sha, b"0")]
    steps += [(b"SCRIPT", b"LOAD", b"return 1"), (b"SCRIPT", b"EXISTS", sha, b"x", sha.upper())]
    return steps + [(b"MULTI",), (b"EXEC",), (b"EXEC",), (b"DISCARD",)] * 2


@pytest.mark.parametrize("protocol", [b"2", b"3"])
def test_random_programs_with_transactions_give_the_same_replies(
    redis: RedisServer, connection: RedisConnection, protocol: bytes
) -> None:
    random = Random(protocol)
    for _ in range(30):
        redis.reset()
        connection.exchange(requests([("FUNCTION", "FLUSH"), ("SCRIPT", "FLUSH")]))
        program: list[Step] = [random.choice(_management(random.choice(_NAMES))) for _ in range(30)]
        program += [(b"EVAL", b"return redis.pcall(%b)" % random.choice(_INSIDE).encode(), b"0") for _ in range(4)]
        random.shuffle(program)
        compare(connection, [*program, (b"DISCARD",)], (b"HELLO", protocol))


LIBRARY = "#!lua name=lib\n"
REGISTRATIONS = """\
redis.register_function('f', function(keys, args) return {keys[1], args[1]} end)
redis.register_function{function_name='f', callback=function() end, flags={'foo'}}
redis.register_function{function_name='f', callback=function() end, flags={1}}
redis.register_function{function_name='f', callback=function() end, flags='x'}
redis.register_function{function_name='f', callback=function() end, foo=1}
redis.register_function{function_name=1, callback=function() end}
redis.register_function{function_name='f', callback=1}
redis.register_function{callback=function() end}
redis.register_function{function_name='f'}
redis.register_function{}
redis.register_function()
redis.register_function(1)
redis.register_function('a')
redis.register_function('a', 1)
redis.register_function('a', function() end, 1)
redis.register_function('a b', function() end)
redis.register_function('', function() end)
redis.register_function(1, function() end)
redis.register_function('a', function() end) redis.register_function('a', function() end)
return 1
x = 1
return redis.call('get', 'x')
redis.pcall('x')
return KEYS
x =
redis.setresp(3)
redis.sha1hex('x')
redis.set_repl(1)
redis.log(redis.LOG_WARNING, 'x') redis.register_function('zz', function() end)"""
FUNCTIONS = """\
return {keys[1], args[1], #keys, #args}
return KEYS
error('x')
return redis.call('incr')
return redis.call('set', 'a', 'b')
return redis.call('get', 'a')
redis.register_function('x', function() end)
x = 1
return x
keys[1] = 'q' return keys
local r = {} for k in pairs(redis) do r[#r + 1] = k end table.sort(r) return (table.concat(r, ' '))
return {err = 'MY error'}
return redis.error_reply('x')
return loadstring('return _G.x')()"""
CODES = (
    "", "foo", "#!lua", "#!lua\n", "#!lua name=\nx", "#!lua name=a b=c\nx", "#!lua name=a name=b\nx", "#!lua nam=a\nx",
    "#!js name=a\nx", "#!lua name=a-b\nx", "#!LUA name=ab\nx",
    "#!lua\tname=a\nredis.register_function('q1', function() end)",
    "#!lua name=a\r\nredis.register_function('q2', function() end)", '#!lua name="q q"\nx',
    "#!lua name=\"qq\"\nredis.register_function('q3', function() end)",
    "#!lua name=other\nredis.register_function('q3', function() end)",
)  # fmt: skip


def test_libraries_are_loaded_and_refused_alike(connection: RedisConnection) -> None:
    codes = [*(LIBRARY + body for body in REGISTRATIONS.split("\n")), *CODES]
    loads: list[Step] = [(b"FUNCTION", b"LOAD", b"REPLACE", code.encode()) for code in codes]
    extra: list[Step] = [
        (b"FUNCTION", b"LOAD", (LIBRARY + "redis.register_function('f', function() end)").encode()),
        (b"FUNCTION", b"LOAD"),
        (b"FUNCTION", b"LOAD", b"x", b"y"),
        (b"FUNCTION", b"LOAD", b"replace"),
        (b"FUNCTION", b"DELETE", b"nosuch"),
        (b"FUNCTION", b"DELETE", b"lib"),
        (b"FUNCTION", b"FLUSH", b"x"),
        (b"FUNCTION", b"KILL"),
        (b"FUNCTION", b"STATS"),
        (b"FUNCTION", b"LIST", b"LIBRARYNAME"),
        (b"FUNCTION", b"LIST", b"x"),
        (b"FUNCTION", b"LIST", b"WITHCODE", b"WITHCODE"),
        (b"FUNCTION", b"LIST", b"LIBRARYNAME", b"Q*", b"WITHCODE"),
        (b"FUNCTION", b"FLUSH", b"ASYNC"),
        (b"FUNCTION", b"LIST"),
        (b"FUNCTION", b"DUMP"),
    ]
    compare(connection, [*loads, *extra])


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_functions_answer_alike(connection: RedisConnection, protocol: str) -> None:
    program: list[Step] = []
    for number, body in enumerate(FUNCTIONS.split("\n")):
        for flags in ("{}", "{'no-writes'}"):
            name = f"f{number}{len(flags)}"
            code = (
                f"#!lua name=l{name}\nredis.register_function{{function_name='{name}', flags={flags}, description='d', "
                f"callback=function(keys, args) {body} end}}"
            )
            program.append((b"FUNCTION", b"LOAD", code.encode()))
            for command in (b"FCALL", b"FCALL_RO"):
                program += [
                    (command, name.encode(), b"0"),
                    (command, name.encode(), b"1", b"k", b"a", b"b"),
                    (command, name.upper().encode(), b"9", b"k"),
                ]
    program += [(b"FUNCTION", b"LIST", b"LIBRARYNAME", b"lf02"), (b"FUNCTION", b"STATS")]
    compare(connection, program, (b"HELLO", protocol.encode()))


def test_dumps_of_functions_go_both_ways(connection: RedisConnection) -> None:
    body = "redis.register_function('f', function(keys, args) return 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' end)"
    load = requests([("FUNCTION", "LOAD", LIBRARY + body)])
    listing: list[Step] = [(b"FUNCTION", b"LIST", b"WITHCODE"), (b"FCALL", b"f", b"0")]
    kora = Kora()
    kora.exchange(load)
    connection.exchange(load)
    for dump in (kora.run("FUNCTION", "DUMP"), connection.exchange(requests([("FUNCTION", "DUMP")]))[0]):
        payload = dump.split(b"\r\n", 1)[1][:-2]
        steps: list[Step] = [(b"FUNCTION", b"RESTORE", payload, policy) for policy in (b"FLUSH", b"REPLACE", b"APPEND")]
        steps += [(b"FUNCTION", b"RESTORE", payload), (b"FUNCTION", b"RESTORE", payload, b"x")]
        steps += [(b"FUNCTION", b"RESTORE", payload, b"x", b"y"), (b"FUNCTION", b"RESTORE", b"x" + payload)]
        steps += [(b"FUNCTION", b"RESTORE", payload[:9]), (b"FUNCTION", b"RESTORE", b"")]
        compare(connection, [*steps, *listing])


@pytest.mark.parametrize(
    "script",
    [
        "return redis.call('set', 's', 'x')",
        "return redis.call('incr', 's')",
        "return redis.pcall('incr', 's')",
        "redis.pcall('incr', 's')",
        "pcall(redis.call, 'incr', 's')",
        "return redis.call('nosuch')",
        "redis.pcall('nosuch')",
        "return redis.call('get')",
        "return redis.call('config', 'get', 'x')",
        "error('x')",
        "return {err='FOO x'}",
        "return redis.error_reply('BAR x')",
        "local r = redis.pcall('incr', 's') error(r)",
        "local ok, e = pcall(redis.call, 'incr', 's') error(e)",
        "x = 1",
        "return (",
        "redis.call({})",
    ],
)
def test_errors_of_scripts_are_counted_alike(redis: RedisServer, connection: RedisConnection, script: str) -> None:
    kora = Kora()
    before = requests([("SET", "s", "x"), ("CONFIG", "RESETSTAT")])
    program = requests([("EVAL", script, "0")])
    connection.exchange(before)
    redis.run("CONFIG", "RESETSTAT")
    connection.exchange(program)
    kora.exchange(before)
    kora.exchange(program)
    expected, found = numbers_of(redis.run("INFO", "everything")), numbers_of(kora.run("INFO", "everything"))
    assert (found.commands, found.errors) == (expected.commands, expected.errors)
