"""Random programs with a server whose data is in RocksDB, and in memory hardly ever: all is as with redis-server.

A process with all its threads: what a program changes is written back while it goes on, forgotten at any moment, and
read again beside the loop, or by a script at once.  Requests come in pipelines, so that some of one wait for a reading.
After some programs the server ends, by its own will or killed, and what the next one finds is compared.
"""

import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess
from tests.resp_reader import read_reply

from . import compare
from .compare import dataset_program, difference, show, split_replies, unfolded
from .peers import DATABASES, RedisServer, requests
from .profile import LONG, examples
from .quirks import is_quirky
from .test_mixed_commands import _USUAL as USUAL_LIMITS
from .test_mixed_commands import _is_alike as is_alike
from .test_mixed_commands import _narrowed as narrowed
from .test_mixed_commands import _prepared as prepared
from .test_mixed_commands import programs_of_all_kinds
from .test_set_commands import or_as_sets
from .words import Step

pytest.importorskip("rocksdict", reason="the extra `rocksdb` is not installed")

_FLAGS = ("--storage-engine", "rocksdb", "--rocksdb-cache-bytes", "1mb", "--rocksdb-sync", "always")
_FLAGS += ("--databases", str(DATABASES), "--enable-debug-command", "yes", "--shards", "2", "--save", "")
_WAIT_S = 20
_SCRIPT = (b"EVAL", b"return redis.pcall(unpack(ARGV))", b"0")
# What a script may not do, or what depends on what its client did before, is left as it is.
_NOT_IN_SCRIPTS = frozenset((b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"UNWATCH", b"SELECT", b"CONFIG", b"OBJECT"))


class Stored:
    """The server; a new process takes the place of one that has ended."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._starts = 0
        self.kora: KoraProcess
        self.control: Pipe
        self.start()

    def start(self) -> None:
        self._starts += 1
        folder = self._directory / f"start-{self._starts}"
        self.kora = kora_process.start(folder, "--dir", str(self._directory), *_FLAGS)
        self.control = Pipe(self.kora.port)
        self.control.exchange([("DEBUG", "SET-ACTIVE-EXPIRE", "0")])

    def end(self, number: signal.Signals) -> None:
        self.control.close()
        self.kora.signal(number)
        self.kora.wait()
        self.kora.stop()

    def forget(self) -> None:
        """Have nothing in memory."""
        (reply,) = self.control.exchange([("DEBUG", "RELOAD")])
        assert reply == b"+OK\r\n", reply


class Pipe:
    """A connection on which each request has one reply."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _WAIT_S)

    def exchange(self, program: "list[Step] | list[tuple[str, ...]]") -> list[bytes]:
        self._socket.sendall(requests(program))
        data, place = b"", 0
        replies: list[bytes] = []
        while len(replies) < len(program):
            part = self._socket.recv(1 << 18)
            assert part, "the server has closed the connection"
            data += part
            while place < len(data) and len(replies) < len(program):
                try:
                    _, stop = read_reply(data, place)
                except (ValueError, AssertionError, IndexError):
                    break
                if len(data) < stop:
                    break
                replies.append(data[place:stop])
                place = stop
        return replies

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    server = Stored(tmp_path_factory.mktemp("stored"))
    yield server
    server.control.close()
    server.kora.stop()
    server.kora.assert_healthy_log()


@pytest.fixture(autouse=True)
def sets_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "is_alike", or_as_sets(compare.is_alike))
    # How values came to be is not stored: see tests/engines/stored.py.
    monkeypatch.setattr(compare, "STORED", True)


@pytest.mark.parametrize("piece", range(40 if LONG else 1))
@given(program=programs_of_all_kinds, few=st.booleans(), chance=st.integers(0, 1 << 30), ends=st.integers(0, 9))
# Each run takes half a second, so that to find a shorter program would take longer than to read this one.
@settings(examples(10), phases=(Phase.explicit, Phase.generate))
def test_programs_over_values_that_are_not_in_memory_do_the_same(
    redis: RedisServer, stored: Stored, piece: int, program: list[Step], few: bool, chance: int, ends: int
) -> None:
    program = prepared(narrowed(program) if few else program)
    program = [step for step in program if not is_quirky(step)]
    source = random.Random(chance)
    # By whom each is sent: some by a script that has not said which keys it means.
    sent = [
        (*_SCRIPT, *step) if step[0].upper() not in _NOT_IN_SCRIPTS and source.random() < 0.1 else step
        for step in program
    ]
    redis.reset()
    stored.forget()
    stored.control.exchange([("FLUSHALL",)])
    started_us = redis.now_us()
    ours = Pipe(stored.kora.port)
    found: list[bytes] = []
    with redis.connect() as theirs:
        expected = split_replies(theirs.exchange(requests(sent))[0])
        place = 0
        while place < len(sent):
            if source.random() < 0.5:
                stored.forget()
            count = source.randrange(1, 20)
            found += ours.exchange(sent[place : place + count])
            place += count
        ours.close()
        if ends < 2:
            stored.end((signal.SIGTERM, signal.SIGKILL)[ends])
            stored.start()
        else:
            stored.forget()
        late_ms = (redis.now_us() - started_us) // 1_000 + 1
        floats = any(step[0].upper() == b"INCRBYFLOAT" for step in program)
        faults = [
            fault
            for step, reply, reply_found in unfolded(program, expected, found)
            if (fault := difference(step, reply, reply_found, late_ms, floats, is_alike))
        ]
        if not faults:
            dataset = dataset_program()
            expected = split_replies(theirs.exchange(requests(dataset))[0])
            ours = Pipe(stored.kora.port)
            found = ours.exchange(dataset)
            ours.close()
            faults = [
                f"afterwards: {fault}"
                for step, reply, reply_found in zip(dataset, expected, found, strict=True)
                if (fault := difference(step, reply, reply_found, late_ms, floats, is_alike))
            ]
        redis.run(*USUAL_LIMITS)
        stored.control.exchange([USUAL_LIMITS])
    if faults:
        raise AssertionError("\n".join(faults) + "\n\nin the program\n" + "\n".join(map(show, sent)))
