"""Scripts that run for too long or do their worst: others are told BUSY and may end them, and the server goes on."""

import json
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.conftest import encode_request
from tests.e2e import kora_process
from tests.e2e.certificates import make_authority
from tests.e2e.kora_process import KoraProcess, clean_environ, eventually
from tests.e2e.wire import END, Wire, error_text
from tests.peers import peer
from tests.ports import free_port

pytest.importorskip("lupa")

Start = Callable[..., KoraProcess]

BUSY = "BUSY Redis is busy running a script. You can only call {} KILL or SHUTDOWN NOSAVE."
LIBRARY = """#!lua name=lib
redis.register_function('endless', function() while true do end end)
"""
FLAGS = ("--busy-reply-threshold", "50", "--lua-memory-limit", "32mb", "--maxclients", "20")


# The kernel has nothing to do with what the loop is.
ON_ASYNCIO = pytest.param("asyncio", marks=pytest.mark.once)


@pytest.fixture(scope="module", params=["uvloop", ON_ASYNCIO])
def kora(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KoraProcess]:
    folder = tmp_path_factory.mktemp("kora")
    flags = (*FLAGS, "--unixsocket", str(folder / "socket"))
    server = kora_process.start(folder, *flags, metrics=True, loop=request.param)
    server.socket_path = folder / "socket"  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        server.stop()
    server.assert_healthy_log()


def request(*words: object) -> bytes:
    return encode_request(words)


@contextmanager
def running(kora: KoraProcess, script: str = "while true do end", word: str = "SCRIPT") -> Iterator[Wire]:
    """A client whose script runs, or whose function of that name, until others are told BUSY; ended at the end."""
    with kora.connect() as wire, kora.connect() as other:
        other.run("PING")
        wire.send(request("EVAL", script, 0) if word == "SCRIPT" else request("FCALL", script, 0))
        eventually(lambda: str(other.run("PING")).startswith("BUSY"), "others are told BUSY")
        try:
            yield wire
        finally:
            kora.run(word, "KILL")


def cli(kora: KoraProcess, *words: str) -> str:
    argv = [peer("redis-cli"), *words]
    return subprocess.run(argv, capture_output=True, text=True, env=clean_environ(), timeout=20).stdout.strip()


def test_whoever_is_connected_is_told_busy_at_once(kora: KoraProcess) -> None:
    with kora.connect() as idle, kora.connect() as half:
        assert idle.run("PING") == b"PONG"
        half.send(request("SET", "half", "value")[:-5])
        with running(kora):
            answers = idle.pipeline(*[("GET", "key")] * 3000)
            assert {str(answer) for answer in answers} == {BUSY.format("SCRIPT")}
            half.send(request("SET", "half", "value")[-5:])
            assert str(half.read()) == BUSY.format("SCRIPT")
            assert str(idle.run("FUNCTION", "STATS")) == BUSY.format("SCRIPT")
            assert idle.run("MULTI") == b"OK"
            assert str(idle.run("SET", "a", "b")) == BUSY.format("SCRIPT")
            assert str(idle.run("EXEC")).startswith("EXECABORT Transaction discarded because of")
            assert idle.run("HELLO", "2")[:2] == [b"server", b"redis"]
        assert idle.run("EXISTS", "half", "a") == 0


def test_whoever_connects_meanwhile_is_served_and_stays(kora: KoraProcess) -> None:
    with running(kora):
        newcomer = kora.connect()
        assert str(newcomer.run("SET", "k", "v")) == BUSY.format("SCRIPT")
        newcomer_id = newcomer.run("HELLO", "2")[7]
        assert cli(kora, "-p", str(kora.port), "GET", "k").startswith("BUSY")
        assert cli(kora, "-s", str(kora.socket_path), "SCRIPT", "KILL") == "OK"  # type: ignore[attr-defined]
    with newcomer:
        assert newcomer.run("CLIENT", "ID") == newcomer_id
        big = "x" * 3_000_000
        assert newcomer.run("SET", "k", big) == b"OK"
        assert newcomer.run("GET", "k") == big.encode()
        names = [line.split(" ")[0] for line in kora.run("CLIENT", "LIST").decode().splitlines()]
        assert f"id={newcomer_id}" in names
    eventually(lambda: f"id={newcomer_id} " not in kora.run("CLIENT", "LIST").decode(), "it is forgotten")


def test_replies_stay_in_order_and_nothing_is_lost(kora: KoraProcess) -> None:
    with running(kora) as wire:
        # Behind its script, in pieces: it must not be served before that is over.
        wire.send(request("ECHO", "first") + request("ECHO", "second")[:7])
        with kora.connect() as newcomer:
            newcomer.send(request("GET", "a") + request("ECHO", "later")[:9])
            assert str(newcomer.read()) == BUSY.format("SCRIPT")
            kora.run("SCRIPT", "KILL")
            newcomer.send(request("ECHO", "later")[9:])
            assert newcomer.read() == b"later"
        wire.send(request("ECHO", "second")[7:])
        assert error_text(wire.read()).startswith("ERR Script killed by user with SCRIPT KILL...")
        assert wire.read_many(2) == [b"first", b"second"]


def test_a_pipeline_that_waits_for_its_next_turn_is_answered_as_well(kora: KoraProcess) -> None:
    with kora.connect() as wire, kora.connect() as scripter:
        assert wire.run("PING") == scripter.run("PING") == b"PONG"
        # Read in one go with the script, so that it has had but one turn when that begins.
        kora.signal(signal.SIGSTOP)
        wire.send(request("GET", "k") * 9000)
        scripter.send(request("EVAL", "while true do end", 0))
        kora.signal(signal.SIGCONT)
        answers = wire.read_many(9000)
        assert str(answers[-1]) == BUSY.format("SCRIPT")
        assert kora.run("SCRIPT", "KILL") == b"OK"
        assert "Script killed by user" in error_text(scripter.read())


def test_whoever_is_slow_to_read_gets_all_answers_nevertheless(kora: KoraProcess) -> None:
    requests = request("GET", "k") * 6_000
    with kora.connect() as known, running(kora):
        newcomer = kora.connect()
        for wire in (known, newcomer):
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sender = threading.Thread(target=wire.send, args=(requests,))
            sender.start()
            answers = wire.read_many(6_000)
            sender.join()
            assert {str(answer) for answer in answers} == {BUSY.format("SCRIPT")}
        # What is left when the script ends comes afterwards.
        newcomer.send(request("GET", "k") * 3_000 + request("QUIT"))
        assert known.run("SCRIPT", "KILL") == b"OK"
    with newcomer:
        answers = newcomer.read_many(3_001)
        assert {str(answer) for answer in answers[:-1]} <= {BUSY.format("SCRIPT"), "None"}
        assert answers[-1] == b"OK"
        assert newcomer.read() is END


def test_whoever_leaves_meanwhile_gives_place_to_others(kora: KoraProcess) -> None:
    crowd = [kora.connect() for _ in range(8)]
    assert [wire.run("PING") for wire in crowd] == [b"PONG"] * 8
    with running(kora):
        for wire in crowd:
            wire.close()
        for _ in range(3):  # each time as many as would fill the server together with those who have left
            crowd = [kora.connect() for _ in range(12)]
            for wire in crowd:
                assert str(wire.run("GET", "a")).startswith("BUSY")
            for wire in crowd:
                assert wire.run("QUIT") == b"OK"
                assert wire.read() is END
                wire.close()
    eventually(lambda: kora.run("INFO", "clients").split()[2] == b"connected_clients:1", "all have gone")


def test_more_than_maxclients_are_turned_away(kora: KoraProcess) -> None:
    with running(kora):
        wires = [kora.connect() for _ in range(25)]
        answers = [str(wire.run("GET", "a")) for wire in wires[:15]]
        assert {answer[:4] for answer in answers} == {"BUSY"}
        assert error_text(wires[-1].read()) == "ERR max number of clients reached"
        for wire in wires:
            wire.close()
    eventually(lambda: str(kora.run("PING")) == "b'PONG'", "there is room again")


def test_a_function_is_shown_and_ended(kora: KoraProcess) -> None:
    kora.run("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    with running(kora, "endless", "FUNCTION") as wire:
        stats = kora.run("FUNCTION", "STATS")
        assert stats[1][:4] == [b"name", b"endless", b"command", [b"FCALL", b"endless", b"0"]]
        assert str(kora.run("SCRIPT", "KILL")) == BUSY.format("FUNCTION")
        assert kora.run("FUNCTION", "KILL") == b"OK"
        assert "Script killed by user" in error_text(wire.read())


@pytest.mark.parametrize(
    "script",
    [
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() error('x') end, function() while true do end end) end",
        "while true do redis.pcall('DEBUG', 'SLEEP', 0.02) redis.pcall('KEYS', '*') end",
        "local s = string.rep('x', 4e6) while true do local t = s .. 'y' end",
        "while true do coroutine.wrap(function() for i = 1, 500 do end end)() end",
    ],
)
def test_nothing_swallows_the_end(kora: KoraProcess, script: str) -> None:
    with running(kora, script) as wire:
        assert kora.run("SCRIPT", "KILL") == b"OK"
        assert "Script killed by user" in error_text(wire.read())


def test_redis_py_sees_busy_and_goes_on_afterwards(kora: KoraProcess) -> None:
    with redis.Redis(port=kora.port, retry=None) as client, redis.Redis(port=kora.port, protocol=3) as killer:
        assert client.ping()
        with running(kora):
            for someone in (client, killer):  # the second connects only now
                with pytest.raises(redis.exceptions.ResponseError, match="busy running a script"):
                    someone.get("k")
            assert killer.script_kill()
        assert client.set("k", 1) and killer.get("k") == b"1"


def test_health_says_that_it_is_alive_but_busy(kora: KoraProcess) -> None:
    with running(kora) as wire:
        status, body = kora.http("/health/ready")
        assert status == 503
        answer = json.loads(body)
        assert (answer["status"], answer["state"]) == ("busy running a script", "busy")
        assert (answer["running"]["command"], answer["running"]["client"]) == ("eval", wire.address)
        assert kora.http("/health/live")[0] == 200
    eventually(lambda: kora.http("/health/ready")[0] == 200, "ready again")


@pytest.mark.parametrize("loop", ["uvloop", ON_ASYNCIO])
def test_whoever_connects_by_tls_may_end_a_script_and_stays(start_server: Start, tmp_path: Path, loop: str) -> None:
    authority = make_authority(tmp_path)
    tls_port = free_port()
    flags = ["--tls-cert-file", authority.server.cert, "--tls-key-file", authority.server.key]
    flags += ["--tls-ca-cert-file", authority.ca, "--tls-auth-clients", "no", "--tls-port", str(tls_port)]
    server = start_server("--busy-reply-threshold", "50", *flags, loop=loop)
    context = ssl.create_default_context(cafile=authority.ca)
    stranger = context.wrap_socket(socket.create_connection(("127.0.0.1", tls_port)), server_hostname="127.0.0.1")
    for _ in range(2):
        with running(server), Wire(socket.create_connection(("127.0.0.1", tls_port), 20)) as mumbler:
            late = socket.create_connection(("127.0.0.1", tls_port), 20)
            sock = socket.create_connection(("127.0.0.1", tls_port), 20)
            newcomer = Wire(context.wrap_socket(sock, server_hostname="127.0.0.1"))
            answers = newcomer.pipeline(*[("GET", "k")] * 3000)
            assert {str(answer) for answer in answers} == {BUSY.format("SCRIPT")}
            mumbler.send(request("PING"))
            mumbler.read_to_end()
            assert newcomer.run("SCRIPT", "KILL") == b"OK"
        with newcomer:
            big = "x" * 3_000_000
            assert newcomer.run("SET", "k", big) == b"OK"
            assert newcomer.pipeline(*[("GET", "k")] * 5) == [big.encode()] * 5
            assert newcomer.run("QUIT") == b"OK"
            assert newcomer.read() is END
        with Wire(context.wrap_socket(late, server_hostname="127.0.0.1")) as wire:
            assert wire.run("PING") == b"PONG"
    with Wire(stranger) as wire:
        assert wire.run("PING") == b"PONG"
    eventually(lambda: server.run("INFO", "clients").split()[2] == b"connected_clients:1", "all have gone")


@pytest.mark.parametrize("loop", ["uvloop", ON_ASYNCIO])
def test_what_has_written_ends_only_with_the_server(start_server: Start, loop: str) -> None:
    server = start_server("--busy-reply-threshold", "50", loop=loop)
    with server.connect() as wire, server.connect() as other:
        other.run("PING")
        script = "redis.call('SET', 'k', 'v') while true do pcall(function() while true do end end) end"
        wire.send(request("EVAL", script, 0))
        eventually(lambda: str(other.run("PING")).startswith("BUSY"), "others are told BUSY")
        assert str(other.run("SCRIPT", "KILL")).startswith("UNKILLABLE Sorry the script already executed write")
        assert str(other.run("SHUTDOWN")) == BUSY.format("SCRIPT")
        assert str(other.run("SHUTDOWN", "SAVE")) == BUSY.format("SCRIPT")
        other.send(request("SHUTDOWN", "NOSAVE"))
        assert other.read() is END
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("loop", "is_asked_twice"),
    [("uvloop", False), ("uvloop", True), pytest.param("asyncio", False, marks=pytest.mark.once)],
)
def test_a_signal_stops_the_server_behind_the_script_or_at_once_if_it_is_the_second(
    start_server: Start, loop: str, is_asked_twice: bool
) -> None:
    server = start_server("--busy-reply-threshold", "50", loop=loop)
    with server.connect() as wire, server.connect() as other:
        other.run("PING")
        wire.send(request("EVAL", "while true do end", 0))
        eventually(lambda: str(other.run("PING")).startswith("BUSY"), "others are told BUSY")
        server.signal(signal.SIGTERM)
        eventually(lambda: "stopping" in server.log, "the signal is noticed")
        if is_asked_twice:
            server.signal(signal.SIGTERM)
        else:
            assert other.run("SCRIPT", "KILL") == b"OK"
            assert "Script killed by user" in error_text(wire.read())
        assert server.wait() == is_asked_twice


# Each ends by itself, with an error or without.
WORST = (
    "local t = {} for i = 1, 1e6 do t = {t} end return t",
    "local t = {} for i = 1, 1e6 do t = {t} end return cjson.encode(t)",
    "local t = {} for i = 1, 1e6 do t = {t} end return #cmsgpack.pack(t)",
    "return cjson.decode(string.rep('[', 1e6))",
    "return cmsgpack.unpack(string.rep('\\145', 1e6))",
    "local function f() return 1 + f() end return f()",
    "local function f() return pcall(f) end return f()",
    "local function f() return f() end coroutine.wrap(function() local function g() g() end g() end)()",
    "return loadstring(string.rep('(', 1e6))",
    "return loadstring('return ' .. string.rep('{', 1e6))",
    "return #string.rep('x', 1024 * 1024 * 1024)",
    "return #string.rep(string.rep('x', 1024), 1024 * 1024 * 1024)",
    "return string.format('%' .. string.rep('9', 1e6) .. 'd', 1)",
    "return string.find(string.rep('a', 1e6), string.rep('(', 1e6))",
    "return string.find(string.rep('a', 1e6), string.rep('a?', 16000))",
    "return table.concat({}, 'x', 1, 1e9)",
    "return unpack({}, 1, 1e9)",
    "return struct.pack(string.rep('i', 1e6), unpack({1, 2}))",
    "return redis.call('MSET', unpack({}, 1, 7000))",
    "local t = {} while true do t[#t + 1] = string.rep('x', 1e6) .. #t end",
    "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
    "local t = setmetatable({}, {__index = function(t, k) return t[k .. 'x'] end}) return t.x",
)


def test_a_script_that_does_its_worst_harms_nobody(kora: KoraProcess) -> None:
    with kora.connect(timeout_s=30) as wire:
        for script in WORST:
            wire.send(request("EVAL", script, 0))
            wire.sock.settimeout(30)
            _skip_reply(wire.sock, script)
            assert kora.run("PING") == b"PONG", script


def _skip_reply(sock: socket.socket, script: str) -> None:
    """Read one reply without building it: it may be nested deeper than any reader goes."""
    sock.sendall(request("ECHO", "the end of the reply"))
    tail = b""
    while not tail.endswith(b"the end of the reply\r\n"):
        data = sock.recv(1 << 16)
        assert data, f"the server has hung up: {script}"
        tail = (tail + data)[-64:]
