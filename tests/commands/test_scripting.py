"""EVAL, FCALL and what belongs to them: what scripts may do, what becomes of it, and how they are kept in bounds."""

import sys
from hashlib import sha1

import pytest

from kora.clock import ManualClock
from kora.engine.engine import Engine
from kora.errors import CommandError
from kora.observe.board import BUSY_FROM
from tests.conftest import encode_request, runner
from tests.resp_reader import read_replies

pytest.importorskip("lupa")

LIBRARY = "#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys[1], args[1]} end)"


class RunningClock(ManualClock):
    """Ten milliseconds pass whenever somebody looks."""

    def monotonic_ns(self) -> int:
        self.advance_ms(10)
        return super().monotonic_ns()


@pytest.fixture
def evaluate(run):
    """evaluate(script, *keys_and_arguments, keys=1)."""
    return lambda script, *words, keys=0: run("EVAL", script, keys, *words)


def test_a_script_gets_its_keys_and_arguments(evaluate):
    assert evaluate("return {KEYS[1], KEYS[2], ARGV[1], #KEYS, #ARGV}", "a", "b", "c", keys=2) == [
        b"a",
        b"b",
        b"c",
        2,
        1,
    ]


def test_many_words_go_over_as_tables(evaluate):
    words = [str(number) for number in range(5000)]
    assert evaluate("return {#KEYS, #ARGV, KEYS[3], ARGV[3]}", *words, keys=10) == [10, 4990, b"2", b"12"]


def test_a_script_changes_the_data(run, evaluate):
    assert evaluate("return redis.call('SET', KEYS[1], ARGV[1])", "k", "v", keys=1) == "OK"
    assert run("GET", "k") == b"v"


def test_bytes_of_all_values_go_through(evaluate):
    data = bytes(range(256))
    assert evaluate("return redis.call('ECHO', ARGV[1])", data) == data


def test_select_in_a_script_ends_with_it(run, evaluate):
    assert evaluate("redis.call('SELECT', 3) redis.call('SET', 'k', 'v') return redis.call('GET', 'k')") == b"v"
    assert run("EXISTS", "k") == 0
    run("SELECT", 3)
    assert run("EXISTS", "k") == 1


def test_commands_of_a_script_are_counted(run, evaluate):
    run("CONFIG", "RESETSTAT")
    evaluate("for i = 1, 5 do redis.call('PING') end")
    info = run("INFO", "commandstats").decode()
    assert "cmdstat_ping:calls=5," in info and "cmdstat_eval:calls=1," in info


def test_resp3_ends_with_the_script(evaluate):
    assert evaluate("redis.setresp(3) return redis.call('GET', 'k') == nil") == 1
    assert evaluate("return redis.call('GET', 'k') == false") == 1


def test_many_arguments_of_a_command_go_over_in_one_piece(evaluate):
    script = "local t = {} for i = 1, 6000 do t[i] = i end return redis.call('MSET', unpack(t))"
    assert evaluate(script) == "OK"
    assert evaluate("return redis.call('GET', '5999')") == b"6000"


def test_an_error_says_where_it_happened(evaluate):
    script = "local a = 1\nreturn redis.call('NOSUCH')"
    digest = sha1(script.encode()).hexdigest()
    with pytest.raises(CommandError) as raised:
        evaluate(script)
    text = f"ERR Unknown Redis command called from script script: {digest}, on @user_script:2."
    assert raised.value.message == text


@pytest.mark.parametrize("call", ["nosuch()", "string.rep()", "cjson.decode('[')", "error('x')", "struct.pack('q', 1)"])
def test_an_error_in_a_returned_call_keeps_its_line(evaluate, call):
    with pytest.raises(CommandError, match=r"user_script:3: .* on @user_script:3\.$"):
        evaluate(f"local a\n\nreturn {call}")


def test_a_tail_recursion_does_not_fill_the_stack(evaluate):
    assert evaluate("local function f(n) if n == 0 then return 7 end return f(n - 1) end return f(1000000)") == 7


def test_evalsha_knows_what_eval_ran(run, evaluate):
    evaluate("return 5")
    assert run("EVALSHA", sha1(b"return 5").hexdigest(), 0) == 5


def test_scripts_of_eval_make_room_for_others_and_loaded_ones_stay(run, evaluate):
    loaded = run("SCRIPT", "LOAD", "return 'loaded'").decode()
    first = sha1(b"return 0").hexdigest()
    for number in range(1100):
        evaluate(f"return {number}")
    assert run("SCRIPT", "EXISTS", first, loaded) == [0, 1]
    assert len(run("EVALSHA", loaded, 0)) == 6


def test_a_script_that_is_used_is_not_forgotten(run, evaluate):
    digest = sha1(b"return 'hot'").hexdigest()
    evaluate("return 'hot'")
    for number in range(2000):
        evaluate(f"return {number}")
        if number % 100 == 0:
            assert run("EVALSHA", digest, 0) == b"hot"


# Bounds


@pytest.mark.parametrize(
    "name",
    ["io", "debug", "python", "require", "dofile", "loadfile", "print", "getfenv", "setfenv", "newproxy", "package"],
)
def test_what_reaches_out_of_lua_is_not_there(evaluate, name):
    with pytest.raises(CommandError, match=f"nonexistent global variable '{name}'"):
        evaluate(f"return {name}")


@pytest.mark.parametrize(
    "deed",
    [
        "x = 1", "_G.x = 1", "rawset(_G, 'x', 1)", "redis.call = nil", "string.len = nil", "setmetatable(_G, {})",
        "getmetatable('').__index = nil", "table.insert(redis, 1)", "cjson.encode = 1", "local g = _G; g.y = 1",
        "rawset(string, 'len', 1)", "loadstring('x = 1')()", "setmetatable(getmetatable(''), {})",
    ],
)  # fmt: skip
def test_a_script_leaves_nothing_behind(evaluate, deed):
    with pytest.raises(CommandError, match="Attempt to modify a readonly table"):
        evaluate(deed)
    assert evaluate("return ('abc'):len() + #cjson.encode({1})") == 6


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("local t = {} while true do t[#t + 1] = #t .. string.rep('x', 10000) end", "not enough memory"),
        ("local t = {} while true do t[#t + 1] = redis.call('ECHO', #t .. string.rep('x', 10000)) end", "not enough"),
        ("local s = 'x' while true do s = s .. s end", "not enough memory"),
        ("return #string.rep('x', 1e10)", "not enough memory"),
        ("return string.rep('a', 1e6):gsub('a', string.rep('b', 1000))", "not enough memory"),
        ("local t = {} for i = 1, 200 do t[i] = string.rep('x', 1e6) end return t", "not enough memory"),
        ("local function f() return 1 + f() end return f()", "stack overflow"),
        ("local t = {} for i = 1, 1e5 do t = {t} end return cjson.encode(t)", "excessive nesting"),
        ("return cjson.decode(string.rep('[', 1e5))", "too many nested"),
        ("return cmsgpack.unpack(string.rep('\\145', 1e5))", "stack overflow"),
        ("return string.find(string.rep('a', 5e5), string.rep('a?', 5e5))", "pattern too complex"),
        ("return unpack({}, -2^31, 2^31 - 1)", "too many results"),
        ("return table.insert({}, -2^31, 1)", "out of bounds"),
        ("return struct.pack('i99999999999', 1)", "integral size overflow"),
        ("return loadstring(string.dump(function() end))()", "attempt to call a nil value"),
    ],
)
def test_a_hostile_script_gets_an_error(make_engine, script, text):
    run = runner(make_engine("--lua-memory-limit", "32mb").connect())
    with pytest.raises(CommandError, match=text):
        run("EVAL", script, 0)
    assert run("EVAL", "return 1", 0) == 1


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        ("return {string.find(string.rep('a', 2e6) .. 'b', string.rep('a', 1e6) .. 'b', 1, true)}", [1000001, 2000001]),
        ("return select(2, string.gsub(string.rep('k=v,', 1e4), '(%w+)=(%w+),', '%2'))", 10000),
        ("return {string.match(string.rep('a', 1e4), '^(a-)(a-)(a)$')}", [b"", b"a" * 9999, b"a"]),
        ("return select(2, pcall(string.find, string.rep('a', 1e4), 'a*a*a*['))", b"malformed pattern (missing ']')"),
        ("local t = {} for i = 1, 6000 do t[i] = -i end table.sort(t) return t[1]", -6000),
    ],
)
def test_what_might_be_slow_is_done_all_the_same(evaluate, script, reply):
    assert evaluate(script) == reply


def test_a_pcall_does_not_outlive_the_end_of_memory(make_engine):
    run = runner(make_engine("--lua-memory-limit", "8mb").connect())
    script = (
        "local t = {} while true do "
        "pcall(function() t[#t + 1] = redis.call('ECHO', #t .. string.rep('x', 10000)) end) end"
    )
    with pytest.raises(CommandError, match="not enough memory"):
        run("EVAL", script, 0)


def test_arguments_beyond_the_limit_are_refused(make_engine):
    run = runner(make_engine("--lua-memory-limit", "4mb").connect())
    with pytest.raises(CommandError, match="not enough memory"):
        run("EVAL", "return #ARGV[1]", 0, b"x" * 5_000_000)
    assert run("EVAL", "return #ARGV[1]", 0, b"x" * 1000) == 1000


def test_nested_tables_end_in_an_error_within_the_reply(run):
    sys.setrecursionlimit(20_000)  # of the reader
    try:
        reply = run("EVAL", "local t = {} t[1] = t return t", 0)
    finally:
        sys.setrecursionlimit(1000)
    depth = 0
    while isinstance(reply, list):
        reply = reply[0]
        depth += 1
    assert "reached lua stack limit" in str(reply) and depth > 1000


def test_an_exception_of_a_handler_does_not_reach_lua(engine, run, monkeypatch):
    logged = []
    engine.log = lambda level, message, **fields: logged.append(message)

    def broken(client, argv):
        raise ZeroDivisionError

    monkeypatch.setattr(engine.commands[b"ECHO"], "handler", broken)
    reply = run("EVAL", "local ok, e = pcall(redis.call, 'ECHO', 'x') return {type(e), tostring(e)}", 0)
    assert reply[0] == b"string" and reply[1].startswith(b"ERR internal error, error_id ")
    assert logged == ["internal error"]


# Rules


def test_maxmemory_stops_a_script_that_has_not_written_yet(make_engine):
    run = runner(make_engine("--maxmemory", "100").connect())
    run("SET", "k", "x" * 200)
    with pytest.raises(CommandError, match=r"^OOM command not allowed"):
        run("EVAL", "return redis.call('SET', 'a', 'b')", 0)
    assert run("EVAL", "redis.call('DEL', 'a') return redis.call('SET', 'a', 'b')", 0) == "OK"
    assert run("EVAL", "return redis.call('GET', 'a')", 0) == b"b"
    with pytest.raises(CommandError, match=r"^OOM command not allowed"):
        run("EVAL", "#!lua\nreturn 1", 0)
    assert run("EVAL", "#!lua flags=no-writes\nreturn redis.call('GET', 'a')", 0) == b"b"
    assert run("EVAL", "#!lua flags=allow-oom\nreturn redis.call('SET', 'a', 'c')", 0) == "OK"


def test_a_readonly_script_writes_nothing(run):
    with pytest.raises(CommandError, match="Write commands are not allowed from read-only scripts"):
        run("EVAL_RO", "return redis.call('SET', 'a', 'b')", 0)
    assert run("EXISTS", "a") == 0


def test_a_script_runs_although_the_server_asks_for_a_password(make_engine):
    run = runner(make_engine("--requirepass", "secret").connect())
    run("AUTH", "secret")
    assert run("EVAL", "return redis.call('SET', 'a', 'b')", 0) == "OK"


# Functions


def test_a_function_is_called_by_its_name_in_any_letters(run):
    assert run("FUNCTION", "LOAD", LIBRARY) == b"lib"
    assert run("FCALL", "F", 1, "k", "a") == [b"k", b"a"]


def test_a_library_that_fails_to_load_changes_nothing(run):
    run("FUNCTION", "LOAD", LIBRARY)
    with pytest.raises(CommandError, match="Error registering functions"):
        run("FUNCTION", "LOAD", "REPLACE", LIBRARY + " nosuch()")
    assert run("FCALL", "f", 1, "k", "a") == [b"k", b"a"]


def test_what_a_library_keeps_of_redis_can_be_called_later(run):
    code = "#!lua name=l\nlocal redis = redis redis.register_function('g', function() return redis.call('PING') end)"
    run("FUNCTION", "LOAD", code)
    assert run("FCALL", "g", 0) == "PONG"


def test_a_library_that_loads_for_ever_is_ended(make_engine):
    engine = make_engine()
    engine.monotonic_ns = RunningClock().monotonic_ns
    with pytest.raises(CommandError, match="FUNCTION LOAD timeout"):
        runner(engine.connect())("FUNCTION", "LOAD", "#!lua name=l\nwhile true do end")


def test_a_dump_is_restored_or_leaves_everything_as_it_was(run):
    run("FUNCTION", "LOAD", LIBRARY)
    run("FUNCTION", "LOAD", "#!lua name=other\nredis.register_function('g', function() return 2 end)")
    dump = run("FUNCTION", "DUMP")
    run("FUNCTION", "FLUSH")
    run("FUNCTION", "LOAD", "#!lua name=third\nredis.register_function('g', function() return 3 end)")
    with pytest.raises(CommandError, match="Function g already exists"):
        run("FUNCTION", "RESTORE", dump)
    assert run("FCALL", "g", 0) == 3
    assert len(run("FUNCTION", "LIST")) == 2 * 0 + 1
    assert run("FUNCTION", "RESTORE", dump, "FLUSH") == "OK"
    assert run("FCALL", "g", 0) == 2
    for damaged in (b"", dump[:-1], b"x" + dump, dump[:5] + b"\xff" + dump[6:]):
        with pytest.raises(CommandError, match="DUMP payload version or checksum are wrong"):
            run("FUNCTION", "RESTORE", damaged)


# Scripts that run for long


class Bystander:
    """Another client, which speaks each time the script lets the server attend to it."""

    def __init__(self, engine: Engine, *requests: tuple[str, ...]) -> None:
        self.client = engine.connect()
        self.requests = list(requests)
        self.replies: list[object] = []
        engine.pump = self.speak

    def speak(self) -> None:
        if self.requests:
            data = self.client.engine.execute(self.client, encode_request(self.requests.pop(0)))
            self.replies += [getattr(reply, "message", reply) for reply in read_replies(data)]


@pytest.fixture
def slow_engine(make_engine):
    engine = make_engine("--busy-reply-threshold", "50")
    engine.monotonic_ns = RunningClock().monotonic_ns
    return engine


BUSY = "BUSY Redis is busy running a script. You can only call {} KILL or SHUTDOWN NOSAVE."


def test_the_board_tells_from_when_on_others_are_attended_to(slow_engine):
    seen = []
    slow_engine.pump = lambda: seen.append(slow_engine.board.words[BUSY_FROM] - slow_engine.monotonic_ns())
    run = runner(slow_engine.connect())
    run("EVAL", "for i = 1, 100 do redis.call('PING') end", 0)
    assert seen and all(left_ns <= 0 for left_ns in seen)
    assert slow_engine.board.words[BUSY_FROM] == 0


def test_others_are_told_busy_and_may_end_a_script(slow_engine):
    run = runner(slow_engine.connect())
    other = Bystander(slow_engine, ("GET", "k"), ("FUNCTION", "KILL"), ("FUNCTION", "STATS"), ("SCRIPT", "KILL"))
    with pytest.raises(CommandError, match=r"Script killed by user with SCRIPT KILL.* on @user_script:1\.$"):
        run("EVAL", "while true do end", 0)
    assert other.replies == [BUSY.format("SCRIPT")] * 3 + ["OK"]
    assert slow_engine.board.words[BUSY_FROM] == 0
    assert run("PING") == "PONG" and slow_engine.busy_script == ""
    with pytest.raises(CommandError, match="NOTBUSY"):
        run("SCRIPT", "KILL")


@pytest.mark.parametrize(
    "script",
    [
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do pcall(function() while true do end end) end end) co()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do redis.pcall('PING') end",
        "while true do cjson.decode('[1,2,3]') end",
        "local f = function() while true do end end ('x'):gsub('x', f)",
        "string.find(string.rep('a', 40), string.rep('a?', 40) .. string.rep('a', 40))",
        "string.gsub(string.rep('a', 30000), '(a*)a*a*b', 'x')",
        "for _ in string.gmatch(string.rep('a', 30000), 'a-a-a-b') do end",
        "local t = {} for i = 1, 1e5 do t[i] = i % 2 end while true do table.sort(t) end",
    ],
)
def test_nothing_keeps_a_script_from_being_ended(slow_engine, script):
    run = runner(slow_engine.connect())
    Bystander(slow_engine, ("SCRIPT", "KILL"))
    with pytest.raises(CommandError, match="Script killed by user with SCRIPT KILL"):
        run("EVAL", script, 0)
    assert run("EVAL", "return 1", 0) == 1


def test_a_script_that_has_written_is_not_ended(slow_engine):
    run = runner(slow_engine.connect())
    other = Bystander(slow_engine, ("SCRIPT", "KILL"))
    script = "redis.call('SET', 'k', 'v') for i = 1, 20000 do end return redis.call('GET', 'k')"
    assert run("EVAL", script, 0) == b"v"
    assert other.replies[0].startswith("UNKILLABLE Sorry the script already executed write commands")


def test_a_function_that_runs_is_shown_and_ended(slow_engine):
    run = runner(slow_engine.connect())
    run("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('loop', function() while true do end end)")
    other = Bystander(slow_engine, ("FUNCTION", "STATS"), ("SCRIPT", "KILL"), ("FUNCTION", "KILL"))
    with pytest.raises(CommandError, match=r"SCRIPT KILL\.\.\. script: loop, on @user_function:2\.$"):
        run("FCALL", "loop", 0, "a")
    stats, refusal, kill = other.replies
    assert stats[1][:4] == [b"name", b"loop", b"command", [b"FCALL", b"loop", b"0", b"a"]]
    assert (refusal, kill) == (BUSY.format("FUNCTION"), "OK")


def test_without_the_library_eval_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "lupa", None)
    with pytest.raises(CommandError, match=r"pip install 'kora-server\[scripting\]'"):
        run("EVAL", "return 1", 0)
