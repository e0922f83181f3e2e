"""The kernel's turns: batches that are left in the middle, requests that run in Python, and what is counted of both.

What any implementation must do is in tests/engine/test_call.py; here is what can go wrong between C and Python.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.client import TURN_BYTES_MAX, Client
from kora.engine.engine import Engine
from kora.errors import CommandError, WrongType
from kora.observe.board import CLIENT, COMMAND_STARTED
from kora.resp.reply import BigNumber, Simple
from tests.compat.peers import run_all
from tests.conftest import encode_request
from tests.resp_reader import read_replies

Make = Callable[..., Engine]
_ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.fixture
def registry() -> Any:
    """Commands of this test's own, whose handlers it may change."""
    return deepcopy(make_registry())


@pytest.fixture
def make_kernel_engine(compiled: ModuleType, clock: ManualClock, registry: Any) -> Make:
    def make(*flags: str) -> Engine:
        return Engine(Config.load([*flags], {}), registry, clock, kernel=compiled)

    return make


@pytest.fixture
def engine(make_kernel_engine: Make) -> Engine:
    return make_kernel_engine()


@pytest.fixture
def client(engine: Engine) -> Client:
    return engine.connect("127.0.0.1:50000", "127.0.0.1:6379")


def pipeline(*requests: str | Sequence[object]) -> bytes:
    return b"".join(encode_request(tuple(words.split() if isinstance(words, str) else words)) for words in requests)


def ask(client: Client, *requests: str | Sequence[object]) -> list[Any]:
    """All replies, in as many turns as it takes."""
    return read_replies(run_all(client, pipeline(*requests)))


def total(engine: Engine, name: str) -> int:
    return sum(getattr(shard.stats, name) for shard in engine.shards)


def calls(engine: Engine, command: str) -> tuple[int, int, int]:
    """Calls, failed and rejected ones."""
    slot = next(row.slot for row in engine.registry.slots if row.name == command)
    rows = [shard.stats.commands[slot] for shard in engine.shards]
    return sum(row.calls for row in rows), sum(row.failed for row in rows), sum(row.rejected for row in rows)


# --- Turns that end in the middle of a batch ---


def test_a_turn_halts_in_the_middle_of_a_batch_once_its_replies_are_large(engine: Engine, client: Client) -> None:
    ask(client, ("SET", "big", b"x" * 400_000))
    reply = engine.execute(client, pipeline(*["GET big"] * 9, "INCR n"))
    assert TURN_BYTES_MAX < len(reply) < TURN_BYTES_MAX + 400_100
    assert client.more
    assert len(client.backlog) == 7
    assert calls(engine, "get") == (3, 0, 0)
    while client.more:
        reply += engine.resume(client)
    assert [len(value) for value in read_replies(reply)[:-1]] == [400_000] * 9
    assert read_replies(reply)[-1] == 1
    assert client.backlog == []


def test_what_is_sent_while_a_turn_is_halted_is_run_behind_what_waits(engine: Engine, client: Client) -> None:
    ask(client, ("SET", "big", b"x" * TURN_BYTES_MAX))
    reply = engine.execute(client, pipeline("GET big", "APPEND order a", "GET big", "APPEND order b"))
    for letter in "cdef":
        half = len(data := pipeline(f"APPEND order {letter}")) // 2
        reply += engine.execute(client, data[:half])
        reply += engine.execute(client, data[half:])
    reply += run_all(client, pipeline("GET order"))
    replies = read_replies(reply)
    assert replies[-1] == b"abcdef"
    assert len(replies) == 9


def test_a_batch_is_left_in_the_middle_by_pause_and_goes_on_in_order(
    engine: Engine, client: Client, clock: ManualClock
) -> None:
    requests = [f"APPEND k {number % 10}" for number in range(200)]
    reply = run_all(client, pipeline(*requests[:100], "CLIENT PAUSE 1000 WRITE", "GET k", *requests[100:], "GET k"))
    assert client.parked
    assert len(read_replies(reply)) == 102
    assert engine.execute(client, pipeline("STRLEN k", "PING")[:-3]) == b""  # in pieces, while it waits
    assert engine.execute(client, pipeline("STRLEN k", "PING")[-3:]) == b""
    assert engine.databases[0].find(b"k") == bytearray(b"0123456789" * 10)
    clock.advance_ms(1001)
    engine.tick()
    assert not client.parked
    reply += run_all(client, b"")
    replies = read_replies(reply)
    assert replies[:100] + replies[102:202] == list(range(1, 201))
    assert replies[101] == b"0123456789" * 10
    assert replies[202:] == [b"0123456789" * 20, 200, "PONG"]


def test_a_client_that_is_parked_again_and_again_loses_nothing(engine: Engine, client: Client) -> None:
    requests: list[str] = []
    for _ in range(20):
        requests += ["CLIENT PAUSE 1000 WRITE", "INCR n"]
    out = run_all(client, pipeline(*requests))
    other = engine.connect()
    for _ in range(25):
        run_all(other, pipeline("CLIENT UNPAUSE"))
        out += run_all(client, b"")
    assert [reply for reply in read_replies(out) if reply != "OK"] == list(range(1, 21))


def test_a_protocol_error_behind_a_parked_request_is_answered_in_the_end(
    engine: Engine, client: Client, clock: ManualClock
) -> None:
    assert run_all(client, pipeline("CLIENT PAUSE 100 ALL", "INCR n") + b"*1\r\n:1\r\n") == b"+OK\r\n"
    clock.advance_ms(101)
    engine.tick()
    assert run_all(client, b"") == b":1\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert client.closing


def test_nothing_behind_quit_in_a_batch_is_run(engine: Engine, client: Client) -> None:
    reply = engine.execute(client, pipeline("SET k v", "QUIT", "SET k other", "DEBUG SLEEP 1"))
    assert reply == b"+OK\r\n+OK\r\n"
    assert client.closing
    assert engine.resume(client) == b""
    assert engine.execute(client, pipeline("SET k other")) == b""
    assert ask(engine.connect(), "GET k") == [b"v"]
    assert calls(engine, "set") == (1, 0, 0)


def test_a_client_that_kills_itself_in_a_batch_runs_nothing_more(engine: Engine, client: Client) -> None:
    reply = run_all(client, pipeline("SET k v", f"CLIENT KILL ID {client.id} SKIPME no", "SET k other"))
    assert read_replies(reply) == ["OK", 1]
    assert client.closing
    assert ask(engine.connect(), "GET k") == [b"v"]


# --- A client that changes in the middle of a batch ---


def test_hello_changes_the_protocol_in_the_middle_of_a_batch(engine: Engine, client: Client) -> None:
    reply = run_all(client, pipeline("GET none", "HELLO 3", "GET none", "MGET none none", "HELLO 2", "GET none"))
    assert reply.startswith(b"$-1\r\n%")
    assert b"\r\n_\r\n*2\r\n_\r\n_\r\n*" in reply
    assert reply.endswith(b"\r\n$-1\r\n")
    assert client.protocol == 2


def test_select_changes_the_database_in_the_middle_of_a_batch(engine: Engine, client: Client) -> None:
    assert ask(
        client, "SET k zero", "SELECT 1", "GET k", "SET k one", "SELECT 0", "GET k", "SWAPDB 0 1", "GET k", "STRLEN k"
    ) == ["OK", "OK", None, "OK", "OK", b"zero", "OK", b"one", 3]  # fmt: skip
    assert [len(db) for db in engine.databases.used()] == [1, 1]


def test_flushing_in_the_middle_of_a_batch_whose_keys_were_fetched_ahead(engine: Engine, client: Client) -> None:
    gets = [f"GET k{number}" for number in range(20)]
    sets = [f"SET k{number} v" for number in range(20)]
    replies = ask(client, *sets, *gets, "FLUSHALL", *gets, *sets, "FLUSHALL ASYNC", *gets, "SWAPDB 0 1", *gets)
    assert replies[20:40] == [b"v"] * 20
    assert replies[41:61] == [None] * 20
    assert replies[82:102] == [None] * 20
    assert replies[103:] == [None] * 20


def test_auth_in_a_pipeline_lets_the_rest_of_it_in(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--requirepass", "secret")
    client = engine.connect()
    many = ("MSET", *[word for number in range(20) for word in (f"k{number}", "v")])
    replies = ask(client, "GET k", "AUTH wrong", "AUTH secret", many, "GET k7")
    assert [str(reply).split()[0] for reply in replies[:2]] == ["NOAUTH", "WRONGPASS"]
    assert replies[2:] == ["OK", "OK", b"v"]
    assert calls(engine, "get") == (1, 0, 1)


def test_a_long_request_in_front_of_auth_is_refused(make_kernel_engine: Make) -> None:
    client = make_kernel_engine("--requirepass", "secret").connect()
    reply = run_all(client, pipeline("PING", ["MGET", *"abcdefghijkl"], "AUTH secret"))
    assert reply == b"-NOAUTH Authentication required.\r\n-ERR Protocol error: unauthenticated multibulk length\r\n"


def test_replies_are_muted_and_skipped_in_the_middle_of_a_batch(engine: Engine, client: Client) -> None:
    assert ask(
        client, "INCR n", "CLIENT REPLY SKIP", "INCR n", "INCR n", "CLIENT REPLY OFF", "INCR n", "INCR n",
        "CLIENT REPLY ON", "INCR n",
    ) == [1, 3, "OK", 6]  # fmt: skip
    assert calls(engine, "incr") == (6, 0, 0)


def test_a_limit_that_is_lowered_in_a_batch_holds_for_the_rest_of_it(engine: Engine, client: Client) -> None:
    ask(client, "CONFIG SET proto-max-bulk-len 2mb")
    replies = ask(client, "CONFIG SET proto-max-bulk-len 1mb", "SETRANGE k 1500000 x", "APPEND k v")
    assert replies[0] == "OK"
    assert str(replies[1]) == "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    assert replies[2] == 1


def test_memory_that_runs_out_in_a_batch_refuses_only_what_needs_more(engine: Engine, client: Client) -> None:
    replies = ask(client, "SET k v", "CONFIG SET maxmemory 1", "SET l v", "GET k", "INCR n", "DEL k", "SET l v")
    assert [str(reply).split()[0] for reply in replies] == ["OK", "OK", "OOM", "b'v'", "OOM", "1", "OK"]
    assert calls(engine, "set") == (2, 0, 1)


def test_a_rejected_request_is_not_the_last_command_of_a_client(engine: Engine, client: Client) -> None:
    """CLIENT LIST showed it as such where it stood behind others in a batch."""
    ask(client, "INCR n", "GETRANGE", "GETRANGE k")
    assert client.last_command == "incr"
    ask(client, "GETRANGE k 0 1", "NONESUCH")
    assert client.last_command == "getrange"


# --- Handlers ---


def test_a_handler_may_run_requests_of_another_client(engine: Engine, client: Client, registry: Any) -> None:
    """Re-entered in the middle of a batch, of which nothing is lost, and no reply goes to the wrong client."""
    other = engine.connect()
    inner: list[bytes] = []

    def echo_elsewhere(_: Client, argv: list[bytes]) -> object:
        inner.append(engine.execute(other, pipeline("APPEND k i", "SELECT 1", "SET k one", "SELECT 0", "FLUSHDB")))
        inner.append(engine.execute(other, pipeline(*["SET k new"] * 70, ("SET", "big", b"x" * 70_000), "GET big")))
        return [b"outer", len(argv)]

    registry.commands["time"].handler = echo_elsewhere
    replies = ask(client, "SET k before", "GET k", "TIME", "GET k", "APPEND k x", "STRLEN big")
    assert replies == ["OK", b"before", [b"outer", 1], b"new", 4, 70_000]
    assert read_replies(inner[0]) == [7, "OK", "OK", "OK", "OK"]
    assert read_replies(inner[1]) == ["OK"] * 71 + [b"x" * 70_000]
    assert not client.more and not other.more
    assert calls(engine, "time") == (1, 0, 0)
    assert calls(engine, "set") == (1 + 1 + 71, 0, 0)
    assert total(engine, "bytes_out") == len(b"".join(inner)) + len(
        b"+OK\r\n$6\r\nbefore\r\n*2\r\n$5\r\nouter\r\n:1\r\n"
    ) + len(b"$3\r\nnew\r\n:4\r\n:70000\r\n")


def test_a_handler_may_run_requests_of_its_own_client_database_and_all(
    engine: Engine, client: Client, registry: Any
) -> None:
    """As scripts will: one turn in another, several deep."""
    clients = [engine.connect() for _ in range(5)]

    def deeper(_: Client, argv: list[bytes]) -> object:
        if not clients:
            return b"bottom"
        return engine.execute(clients.pop(), pipeline("INCR depth", "TIME", "INCR depth"))

    registry.commands["time"].handler = deeper
    ask(client, "TIME")
    assert ask(client, "GET depth") == [b"10"]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "reply",
    [
        [b"first", [1, None, [b"deep", object()]]],
        [b"x" * 100_000, object()],
        [b"x" * 20_000] * 60 + [object()],
        {b"a": object()},
        object(),
        (1, 2, {3: object()}),
    ],
    ids=["nested", "large", "many", "map", "bare", "tuple"],
)
def test_a_reply_that_cannot_be_encoded_leaves_no_half_of_it(
    engine: Engine, client: Client, registry: Any, reply: object, protocol: int
) -> None:
    logged: list[str] = []
    engine.log = lambda level, message, **fields: logged.append(message)
    registry.commands["time"].handler = lambda client, argv: reply
    ask(client, f"HELLO {protocol}")
    replies = ask(client, ("SET", "k", b"v" * 10_000), "GET k", "TIME", "GET k", "TIME")
    assert [str(part)[:18] for part in replies[2::2]] == ["ERR internal error"] * 2
    assert replies[0] == "OK"
    assert replies[1] == replies[3] == b"v" * 10_000
    assert logged == ["internal error"] * 2
    assert engine.internal_errors == 2
    assert calls(engine, "time") == (2, 2, 0)


def test_a_handler_that_raises_in_a_batch_is_one_error_among_the_replies(
    engine: Engine, client: Client, registry: Any
) -> None:
    def raise_in_turn(client: Client, argv: list[bytes]) -> object:
        raise errors.pop()

    errors = [WrongType(), KeyError("a bug"), CommandError("ERR mistake")]
    registry.commands["time"].handler = raise_in_turn
    replies = ask(client, "INCR n", "TIME", "INCR n", "TIME", "INCR n", "TIME", "INCR n")
    assert replies[::2] == [1, 2, 3, 4]
    assert [str(part).split()[0] for part in replies[1::2]] == ["ERR", "ERR", "WRONGTYPE"]
    assert calls(engine, "time") == (3, 3, 0)
    assert engine.errors == {"ERR": 2, "WRONGTYPE": 1}


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 16_383, 16_384, 16_385, 1 << 20])
def test_replies_of_any_size_from_python_and_from_c_are_whole(
    engine: Engine, client: Client, registry: Any, size: int
) -> None:
    value = b"r" * size
    registry.commands["time"].handler = lambda client, argv: [
        value,
        Simple("s"),
        BigNumber(1 << 70),
        value,
        -1,
        1 << 62,
    ]
    ask(client, ("SET", "k", value))
    nested = [value, "s", b"%d" % (1 << 70), value, -1, 1 << 62]
    assert ask(client, "GET k", "TIME", "GET k", "MGET k k") == [value, nested, value, [value, value]]


@pytest.mark.parametrize("number", [0, -1, 9, 10, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**63) - 1, True, False])
@pytest.mark.parametrize("protocol", [2, 3])
def test_integers_from_python_are_as_the_reference_writes_them(
    engine: Engine, client: Client, registry: Any, number: int, protocol: int
) -> None:
    client.set_protocol(protocol)
    registry.commands["time"].handler = lambda client, argv: [number, [number]]
    assert run_all(client, pipeline("TIME")) == client.encode([number, [number]])


def test_nobody_gets_the_replies_of_a_turn_that_was_broken_off(engine: Engine, client: Client, registry: Any) -> None:
    """By what is no mistake and no bug: Ctrl-C, or the end of the process."""

    def interrupt(client: Client, argv: list[bytes]) -> object:
        raise KeyboardInterrupt

    registry.commands["time"].handler = interrupt
    other = engine.connect()
    for size in (10, 100_000):
        with pytest.raises(KeyboardInterrupt):
            engine.execute(client, pipeline(("SET", "k", b"x" * size), "GET k", "TIME", "GET k"))
        assert engine.execute(other, pipeline("PING")) == b"+PONG\r\n"


_WITHOUT_MEMORY: Final = """
import resource
from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from tests.conftest import encode_request as encode

engine = Engine(Config.load([], {}), make_registry(), ManualClock(), kernel=kernel.load())
client = engine.connect()
engine.execute(client, encode(("SET", "k", b"x" * 50_000_000)))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for requests in (1, 2):
    data = encode(("PING",)) * (requests - 1) + encode(("MGET", *["k"] * 40))
    print(*[line.split(",")[0] for line in engine.execute(client, data).decode().splitlines()])
print(len(engine.execute(client, encode(("GET", "k")))))
"""


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="sanitizers need more addresses than there are")
def test_a_reply_that_there_is_no_memory_for_is_an_internal_error(compiled: ModuleType) -> None:
    """A client asks for 2 GB where there is 1: it gets an error, and nobody else notices."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MEMORY], capture_output=True, text=True, timeout=60, check=False, cwd=_ROOT
    )
    assert done.stdout.splitlines() == [
        "-ERR internal error",
        "+PONG -ERR internal error",
        "50000013",
    ], done.stderr
    assert done.returncode == 0


# --- What is counted and shown ---


def test_a_command_that_runs_in_python_is_on_the_board_while_it_runs(
    engine: Engine, client: Client, registry: Any
) -> None:
    seen = []

    def look(client: Client, argv: list[bytes]) -> bytes:
        seen.append(engine.board.read(engine.clock.monotonic_ns()))
        return b"1"

    registry.commands["lcs"].handler = look
    ask(client, "SET k v", ("LCS", "first:key", "l"), "GET k")
    assert [(activity.command, activity.key_prefix, activity.address) for activity in seen] == [
        ("lcs", "first:key", "127.0.0.1:50000")
    ]
    assert engine.board.words[COMMAND_STARTED] == 0
    assert engine.board.words[CLIENT] == client.id


def test_nothing_is_on_the_board_after_lengthy_commands_however_they_ended(engine: Engine, client: Client) -> None:
    ask(client, "MSET a 1 b 2", "MSET a", "GETRANGE a x y", "GETRANGE a 0 -1", "DEL a b", "LCS a", "SETRANGE a -1 x")
    assert engine.board.words[COMMAND_STARTED] == 0


def test_the_board_shows_the_beginning_of_a_long_key_only(engine: Engine, client: Client, registry: Any) -> None:
    seen = []
    registry.commands["lcs"].handler = lambda client, argv: seen.append(engine.board.read(0).key_prefix)
    ask(client, ("LCS", b"k" * 100_000, "l"))
    assert seen == ["k" * 32]


def test_bytes_are_counted_in_and_out_with_what_runs_in_python(engine: Engine, client: Client) -> None:
    data = pipeline("SET k v", "TIME", "GET k", "NONESUCH", "GET", ("SET", "big", b"x" * 50_000), "GET big")
    for start in range(0, len(data), 1_000):
        chunk = data[start : start + 1_000]
        reply = run_all(client, chunk)
        assert total(engine, "bytes_in") == min(len(data), start + 1_000)
        assert reply == b"" or total(engine, "bytes_out") > 0
    assert total(engine, "bytes_out") > 50_000


def test_bytes_out_are_what_was_handed_out(engine: Engine, client: Client) -> None:
    out = b"".join(
        run_all(client, data)
        for data in (
            pipeline(("SET", "big", b"x" * 300_000), *["GET big"] * 9),
            pipeline("CLIENT REPLY SKIP", "GET big", "GET big"),
            pipeline("HELLO 3", "MGET big none"),
            pipeline("GET none", "QUIT", "GET big"),
        )
    )
    assert total(engine, "bytes_out") == len(out)


def test_the_longest_turn_is_the_sum_of_its_commands(engine: Engine, client: Client) -> None:
    ask(client, "PING", "DEBUG SLEEP 0.25", "PING", "DEBUG SLEEP 0.5")
    assert engine.loop.turn_max_ns == 750_000_000
    ask(client, "DEBUG SLEEP 0.1")
    assert engine.loop.turn_max_ns == 750_000_000


def test_the_longest_turn_begins_anew_with_the_statistics(engine: Engine, client: Client) -> None:
    ask(client, "DEBUG SLEEP 1")
    ask(client, "CONFIG RESETSTAT")
    ask(client, "DEBUG SLEEP 0.5")
    assert engine.loop.turn_max_ns == 500_000_000


def test_time_is_charged_to_the_command_that_spent_it(engine: Engine, client: Client) -> None:
    ask(client, "SET k v", "DEBUG SLEEP 0.25", "GET k", "SET k v")
    rows = {row.name: row.slot for row in engine.registry.slots}
    spent = {
        name: sum(shard.stats.commands[rows[name]].elapsed_ns for shard in engine.shards)
        for name in ("set", "debug", "get")
    }
    assert spent == {"set": 0, "debug": 250_000_000, "get": 0}


def test_what_ran_unobserved_is_not_charged_to_the_command_that_observes_again(engine: Engine, client: Client) -> None:
    ask(client, "CONFIG SET observation no")
    ask(client, "DEBUG SLEEP 1", "GET k", "CONFIG SET observation yes", "GET k")
    rows = {row.name: row.slot for row in engine.registry.slots}
    assert sum(shard.stats.commands[rows["config|set"]].elapsed_ns for shard in engine.shards) == 0
    assert calls(engine, "get") == (1, 0, 0)


def _hot(engine: Engine) -> dict[bytes, int]:
    return {row.name: row.reads + row.writes for row in engine.hot_keys.recorder.rows()}


def test_every_key_is_sampled_where_the_ratio_is_one(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--hotkey-sampling-ratio", "1")
    client = engine.connect()
    ask(client, *["GET a"] * 100, *["SET b v"] * 50, *["PING"] * 30, *["OBJECT ENCODING b"] * 20)
    assert _hot(engine)[b"a"] == 100
    # Those of subcommands as well, once for each time that one is looked up.
    assert _hot(engine)[b"b"] >= 50
    assert set(_hot(engine)) == {b"a", b"b"}


def test_one_key_stands_for_all_of_a_command_with_many(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--hotkey-sampling-ratio", "8")
    client = engine.connect()
    keys = [f"k{number}" for number in range(10)]
    ask(client, *[("MGET", *keys)] * 4_000)
    hot = _hot(engine)
    # 2000 draws, of weight 20, for one of 10 keys each: 200, and one with fewer than 120 is one in a million runs.
    assert sum(hot.values()) == pytest.approx(40_000, rel=0.2)
    assert set(hot) == {key.encode() for key in keys}
    assert min(hot.values()) >= 2_400


def test_all_keys_of_a_command_are_recorded_where_the_ratio_is_one(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--hotkey-sampling-ratio", "1")
    client = engine.connect()
    ask(client, *[("MGET", "a", "b", "c")] * 40, ("ZUNION", "2", "b", "c"))
    assert _hot(engine) == {b"a": 40, b"b": 41, b"c": 41}


def test_values_are_never_sampled_as_keys(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--hotkey-sampling-ratio", "1")
    client = engine.connect()
    ask(
        client, *["MSET a value b value c value"] * 200, *["RENAME a d", "RENAME d a"] * 100, *["COPY a e REPLACE"] * 50
    )
    assert set(_hot(engine)) == {b"a", b"b", b"c", b"d", b"e"}


def test_keys_are_sampled_in_proportion(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--hotkey-sampling-ratio", "10")
    client = engine.connect()
    for _ in range(100):
        ask(client, *["GET a"] * 60, "MGET b c", *["SET d v"] * 30)
    hot = _hot(engine)
    # 9,200 accesses in steps of 10 on average.
    assert sum(hot.values()) == pytest.approx(9_200, rel=0.25)
    assert hot[b"a"] > hot[b"d"] > hot.get(b"b", 0)


def test_nothing_is_sampled_unobserved(make_kernel_engine: Make) -> None:
    engine = make_kernel_engine("--hotkey-sampling-ratio", "1", "--observation", "no")
    ask(engine.connect(), *["GET a"] * 100)
    assert _hot(engine) == {}
    assert calls(engine, "get") == (0, 0, 0)
