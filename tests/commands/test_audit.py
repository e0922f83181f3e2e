"""AUDIT, with a sidecar that the test plays."""

from typing import Any

import pytest

from kora.audit.ring import Ring
from kora.engine.engine import Engine
from kora.errors import CommandError
from tests.conftest import Session


class Sidecar:
    """Keeps what it is asked until the test has it answer."""

    def __init__(self, engine: Engine) -> None:
        engine.audit.open(Ring.make(1 << 16))
        engine.audit.ask = self.ask
        self.asked: list[Any] = []
        self._answers: list[Any] = []

    def ask(self, request: list[Any], answer: Any) -> None:
        self.asked.append(request)
        self._answers.append(answer)

    def answer(self, reply: Any) -> None:
        self._answers.pop(0)(reply)


@pytest.fixture
def sidecar(engine):
    return Sidecar(engine)


def test_tail_waits_for_the_sidecar_and_nobody_else_does(sidecar, connect, run):
    session: Session = connect()
    assert session.send("AUDIT", "TAIL", "2") == []
    assert session.client.parked
    assert run("PING") == "PONG"
    sidecar.answer([b'{"seq":1}', b'{"seq":2}'])
    assert session.received() == [[b'{"seq":1}', b'{"seq":2}']]
    assert sidecar.asked == [["tail", 2]]
    assert session.send("AUDIT", "TAIL") == []
    assert sidecar.asked[-1] == ["tail", 10]


def test_verify_says_what_was_found(sidecar, connect):
    session = connect()
    session.send("HELLO", "3")
    session.send("AUDIT", "VERIFY")
    sidecar.answer({"records": 3, "valid": False, "fault": "audit.jsonl, line 2: record 2 was changed"})
    (report,) = session.received()
    assert report == {b"records": 3, b"valid": 0, b"fault": b"audit.jsonl, line 2: record 2 was changed"}


def test_an_error_of_the_sidecar_is_the_reply(sidecar, connect):
    session = connect()
    session.send("AUDIT", "VERIFY")
    sidecar.answer({"error": "audit.jsonl: Permission denied"})
    (error,) = session.received()
    assert error.message == "ERR audit.jsonl: Permission denied"


def test_a_sidecar_that_dies_leaves_nobody_waiting(sidecar, connect):
    session = connect()
    session.send("AUDIT", "TAIL")
    sidecar.answer(None)
    (error,) = session.received()
    assert error.message == "ERR the sidecar, which has the audit log, does not answer"


def test_status_is_told_without_the_sidecar_after_two_seconds(sidecar, connect, clock):
    session = connect()
    session.send("HELLO", "3")
    session.send("AUDIT", "STATUS")
    clock.advance_ms(2_100)
    (status,) = session.received()
    assert (status[b"enabled"], status[b"fault"]) == (1, b"the sidecar does not answer")
    sidecar.answer({"last": 1})
    assert session.received() == [], "the answer came too late"


def test_who_has_gone_meanwhile_is_not_answered(sidecar, connect, engine):
    session = connect()
    session.send("AUDIT", "TAIL")
    engine.forget(session.client)
    sidecar.answer([])
    assert session.received() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("TAIL", "x"), "ERR value is not an integer or out of range"),
        (("TAIL", "-1"), "ERR count must be between 0 and 10000"),
        (("TAIL", "10001"), "ERR count must be between 0 and 10000"),
        (("VERIFY", "x"), "ERR wrong number of arguments for 'audit|verify' command"),
        (("NOTHING",), "ERR unknown subcommand 'NOTHING'. Try AUDIT HELP."),
    ],
)
def test_mistakes_are_told(sidecar, run, words, message):
    with pytest.raises(CommandError, match=message):
        run("AUDIT", *words)


def test_neither_scripts_nor_those_who_may_not_get_at_it(sidecar, run):
    with pytest.raises(CommandError, match="not allowed from script"):
        run("EVAL", "return redis.call('AUDIT', 'TAIL')", "0")
    run("ACL", "SETUSER", "alice", "on", "nopass", "+@all", "-@admin", "~*")
    run("AUTH", "alice", "")
    with pytest.raises(CommandError, match="NOPERM"):
        run("AUDIT", "TAIL")
