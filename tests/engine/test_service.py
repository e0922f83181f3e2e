"""Who waited, since when, and who is to blame; the clock is moved by hand, and so is the loop."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kora.clock import JIFFY_NS, ManualClock
from kora.engine.client import Client
from kora.engine.engine import Engine
from tests.conftest import encode_request

MS = 1_000_000
Run = Callable[..., Any]


class Loop:
    """What an event loop does: it sleeps, and tells of clients that have sent something."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine, self.clock = engine, clock
        self.clock.advance_ms(1)
        self.turn()

    def turn(self, slept_ms: int = 0) -> None:
        """All that there was is dealt with; ask for more."""
        self.engine.service.checked(self.clock.monotonic_ns())
        self.engine.service.prepared(self.clock.monotonic_ns())
        self.clock.advance_ms(slept_ms)

    def read(self, client: Client, *words: object, send: Callable[[bytes], None] | None = None) -> bytes:
        return self.engine.execute(client, encode_request(words), send)

    def run_for(self, client: Client, elapsed_ms: float, command: str, key: bytes = b"") -> None:
        """As if a command had taken so long."""
        engine, started_ns = self.engine, self.clock.monotonic_ns()
        engine.service.begin(client, started_ns)
        self.clock.advance_ns(int(elapsed_ms * MS))
        slot = slot_of(engine, command)
        engine.service.ran(slot, started_ns, 1)
        engine.service.note(client, slot, key, started_ns, self.clock.monotonic_ns())
        engine.service.end(client, self.clock.monotonic_ns())

    def blame(self, seconds: int = 60) -> dict[Any, Any]:
        """Culprit → victims, and milliseconds that they waited: estimated, at least, at most."""
        return {
            (row.culprit.name, row.culprit.key_prefix, row.culprit.address): (
                row.victims,
                row.waited_ns / MS,
                row.waited_ns_min / MS,
                row.waited_ns_max / MS,
            )
            for row in self.engine.blame.top(seconds, 100)
        }


@pytest.fixture
def loop(engine: Engine, clock: ManualClock) -> Loop:
    return Loop(engine, clock)


@pytest.fixture
def clients(engine: Engine) -> list[Client]:
    return [engine.connect(f"127.0.0.1:{number}") for number in range(4)]


def slot_of(engine: Engine, command: str) -> int:
    found = engine.registry.named(command.encode())
    assert found is not None
    return found.slot


def waited_ms(engine: Engine, command: str) -> tuple[float, int]:
    """Over all calls of a command, and their number."""
    row = engine.service.waits[slot_of(engine, command)]
    return row.elapsed_ns / MS, row.calls


def served_ms(engine: Engine, command: str) -> tuple[float, int]:
    row = engine.service.services[slot_of(engine, command)]
    return row.elapsed_ns / MS, row.calls


def test_who_wakes_the_loop_has_waited_for_nobody(engine: Engine, loop: Loop, clients: Sequence[Client]) -> None:
    loop.turn(slept_ms=500)
    loop.read(clients[0], "PING")
    assert waited_ms(engine, "ping") == (0, 1)
    assert loop.blame() == {}


def test_who_is_read_behind_a_slow_command_waited_for_it(engine: Engine, loop: Loop, clients: Sequence[Client]) -> None:
    loop.turn(slept_ms=500)
    loop.read(clients[0], "DEBUG", "SLEEP", "0.05")
    loop.read(clients[1], "PING")
    assert waited_ms(engine, "ping") == (50, 1)
    assert served_ms(engine, "ping") == (50, 1)
    assert served_ms(engine, "debug") == (50, 1)
    assert loop.blame() == {("debug", b"", "127.0.0.1:0"): (1, 50, 50, 50)}


def test_sending_is_a_part_of_the_service_and_of_what_others_wait_for(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    loop.turn(slept_ms=500)
    loop.read(clients[0], "PING", send=lambda _: clock.advance_ms(3))
    loop.read(clients[1], "ECHO", "x")
    assert served_ms(engine, "ping") == (3, 1)
    assert loop.blame() == {("ping", b"", "127.0.0.1:0"): (1, 3, 3, 3)}


def test_a_culprit_has_the_beginning_of_its_key(loop: Loop, clients: Sequence[Client]) -> None:
    loop.turn(slept_ms=500)
    loop.run_for(clients[0], 7, "lrange", b"list:" + b"x" * 50)
    loop.read(clients[1], "PING")
    assert loop.blame() == {("lrange", b"list:" + b"x" * 27, "127.0.0.1:0"): (1, 7, 7, 7)}


def test_each_of_several_culprits_is_charged_what_it_took(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    loop.turn(slept_ms=500)
    loop.run_for(clients[0], 7, "lrange", b"one")
    loop.run_for(clients[1], 3, "lrange", b"two")
    engine.service.note_job("gc", clock.monotonic_ns() - MS // 2, clock.monotonic_ns())
    loop.read(clients[2], "PING")
    assert loop.blame() == {
        ("lrange", b"one", "127.0.0.1:0"): (2, 14, 14, 14),
        ("lrange", b"two", "127.0.0.1:1"): (1, 3, 3, 3),
    }
    clock.advance_ms(2)
    engine.service.note_job("gc", clock.monotonic_ns() - 2 * MS, clock.monotonic_ns())
    loop.read(clients[3], "PING")
    assert loop.blame()["gc", b"", ""] == (1, 2, 2, 2)


def test_when_a_request_came_during_a_slow_command_is_known_within_bounds(
    engine: Engine, loop: Loop, clients: Sequence[Client]
) -> None:
    slow, other, *_ = clients
    loop.turn(slept_ms=500)
    loop.run_for(slow, 50, "lrange", b"k")
    loop.turn()  # here the loop learns of what came meanwhile
    loop.read(other, "PING")
    assert loop.blame() == {("lrange", b"k", "127.0.0.1:0"): (1, 25, 0, 50)}
    assert waited_ms(engine, "ping") == (25, 1)


def test_the_system_is_asked_when_the_data_came(engine: Engine, loop: Loop, clients: Sequence[Client]) -> None:
    slow, other, *_ = clients
    other.data_age_ns = lambda: 20 * MS
    loop.turn(slept_ms=500)
    loop.run_for(slow, 100, "lrange", b"k")
    loop.turn()
    loop.read(other, "PING")
    jiffy_ms = JIFFY_NS / MS
    assert loop.blame() == {("lrange", b"k", "127.0.0.1:0"): (1, 20, 20 - jiffy_ms, 20 + jiffy_ms)}


@pytest.mark.parametrize("age_ms", [-1, 500])
def test_what_the_system_says_is_not_believed_where_it_cannot_be(
    age_ms: int, loop: Loop, clients: Sequence[Client]
) -> None:
    clients[1].data_age_ns = lambda: age_ms * MS
    loop.turn(slept_ms=500)
    loop.run_for(clients[0], 100, "lrange", b"k")
    loop.turn()
    loop.read(clients[1], "PING")
    assert loop.blame() == {("lrange", b"k", "127.0.0.1:0"): (1, 50, 0, 100)}


def test_a_client_waits_for_nobody_before_it_was_answered_itself(
    engine: Engine, loop: Loop, clients: Sequence[Client]
) -> None:
    slow, other, *_ = clients
    loop.turn(slept_ms=500)
    loop.read(other, "PING")
    loop.run_for(slow, 6, "lrange", b"k")
    loop.run_for(other, 4, "keys")
    loop.turn()
    loop.read(other, "PING")
    # The second command of `other` was read with the first turn, and waited; then it waited for itself only.
    assert loop.blame() == {("lrange", b"k", "127.0.0.1:0"): (1, 6, 6, 6)}
    assert waited_ms(engine, "ping") == (0, 2)


def test_clients_that_answer_soon_are_supposed_to_have_done_so_again(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    quick, slow, *_ = clients
    for _ in range(100):
        loop.turn(slept_ms=1)
        loop.read(quick, "PING")
    assert quick.pause_ns == pytest.approx(MS, rel=0.01)
    loop.run_for(slow, 4, "keys")
    loop.turn()
    loop.read(quick, "PING")
    # 4 ms in which it may have come, and pauses of 1 ms: after 4 * 1 / (2 * 1 + 4) of them.
    victims, waited_ms, least_ms, most_ms = loop.blame()["keys", b"", "127.0.0.1:1"]
    assert (victims, least_ms, most_ms) == (1, 0, 4)
    assert waited_ms == pytest.approx(4 - 4 / 6, rel=0.01)


def test_what_was_inflicted_adds_up_to_what_was_suffered(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    for number in range(2000):
        client = clients[number % 3]
        if number % 7 == 0:
            loop.run_for(clients[3], 1 + number % 11, "lrange", b"%d" % (number % 5))
        if number % 3 == 0:
            loop.turn(slept_ms=number % 2)
        loop.read(client, "PING", send=lambda _: clock.advance_ns(50_000))
    service = engine.service
    rows = engine.blame.top(900, 1000)
    assert service.reads == 2000 + len(range(0, 2000, 7))
    assert service.suffered_ns_min < service.suffered_ns < service.suffered_ns_max
    assert sum(row.waited_ns for row in rows) == service.suffered_ns
    assert sum(row.waited_ns_min for row in rows) == service.suffered_ns_min
    assert sum(row.waited_ns_max for row in rows) == service.suffered_ns_max


def test_what_waits_for_short_commands_is_charged_to_them_by_what_they_took(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    loop.turn(slept_ms=500)
    for client, elapsed_ns in zip(clients, (30_000, 10_000, 0, 0), strict=True):
        loop.read(client, "DEBUG", "SLEEP", f"{elapsed_ns / 1e9:.6f}")
    loop.read(clients[0], "PING")
    # 30, 40 and 40 µs, and 10 since it was answered itself; nobody else's command took any time.
    (culprit, (victims, *waited_ms)), *others = loop.blame().items()
    assert culprit == ("debug", b"", "") and victims == 4
    assert waited_ms == pytest.approx([0.12] * 3)
    assert not [row for _, row in others if row[1]]


def test_a_gap_that_nobody_has_told_of_is_the_loops(loop: Loop, clients: Sequence[Client], clock: ManualClock) -> None:
    loop.turn(slept_ms=500)
    loop.read(clients[0], "PING")
    clock.advance_ms(2)
    loop.read(clients[1], "PING")
    assert loop.blame() == {("event-loop", b"", ""): (1, 2, 2, 2)}


def test_the_rest_of_a_large_reply_is_charged_to_who_asked_for_it(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    slow, other, *_ = clients
    loop.turn(slept_ms=500)
    loop.run_for(slow, 5, "lrange", b"k")
    engine.service.lag(slow)
    loop.read(other, "PING")
    clock.advance_ms(2)
    loop.read(clients[2], "PING")
    assert loop.blame() == {("lrange", b"k", "127.0.0.1:0"): (2, 12, 12, 12)}
    engine.service.forget(slow)
    clock.advance_ms(2)
    loop.read(clients[3], "PING")
    assert ("event-loop", b"", "") in loop.blame()


def test_a_pipeline_waits_once_and_its_commands_behind_each_other(
    engine: Engine, loop: Loop, clients: Sequence[Client]
) -> None:
    loop.turn(slept_ms=500)
    data = encode_request(("DEBUG", "SLEEP", "0.01")) + encode_request(("PING",)) * 40
    engine.execute(clients[0], data)
    assert waited_ms(engine, "ping") == (400, 40)
    assert served_ms(engine, "ping") == (400, 40)
    assert served_ms(engine, "debug") == (10, 1)
    assert engine.service.reads == 1 and engine.service.suffered_ns == 0


def test_what_is_left_of_a_cut_turn_has_waited_since_it_was_read_and_for_nobody_else(
    engine: Engine, loop: Loop, clients: Sequence[Client], clock: ManualClock
) -> None:
    loop.turn(slept_ms=500)
    count = 10_000
    engine.execute(clients[0], encode_request(("PING",)) * count)
    assert clients[0].more
    clock.advance_ms(9)
    while clients[0].more:
        engine.resume(clients[0])
    total_ms, calls = waited_ms(engine, "ping")
    assert calls == count and 0 < total_ms < 9 * count
    assert engine.service.reads == 1 and loop.blame() == {}


def test_commands_of_a_transaction_and_of_a_script_are_a_part_of_it(
    engine: Engine, loop: Loop, clients: Sequence[Client]
) -> None:
    for words in (("MULTI",), ("PING",), ("EXEC",), ("EVAL", "return redis.call('PING')", "0")):
        loop.read(clients[0], *words)
    assert waited_ms(engine, "exec")[1] == waited_ms(engine, "eval")[1] == 1
    assert waited_ms(engine, "ping")[1] == 0


def test_nothing_is_looked_at_without_observation(engine: Engine, loop: Loop, clients: Sequence[Client]) -> None:
    loop.read(clients[0], "CONFIG", "SET", "observation", "no")
    loop.read(clients[1], "DEBUG", "SLEEP", "0.05")
    loop.read(clients[1], "PING")
    loop.read(clients[0], "CONFIG", "SET", "observation", "yes")
    assert waited_ms(engine, "ping")[1] == waited_ms(engine, "debug")[1] == 0
    assert engine.service.reads == 1
    loop.read(clients[1], "PING")
    assert waited_ms(engine, "ping")[1] == 1


def test_resetstat_forgets_waits_services_and_culprits(engine: Engine, loop: Loop, clients: Sequence[Client]) -> None:
    loop.turn(slept_ms=500)
    loop.read(clients[0], "DEBUG", "SLEEP", "0.05")
    loop.read(clients[1], "PING")
    assert loop.blame()
    loop.read(clients[1], "CONFIG", "RESETSTAT")
    assert waited_ms(engine, "ping") == served_ms(engine, "debug") == (0, 0)
    assert loop.blame() == {} and engine.service.suffered_ns == 0
