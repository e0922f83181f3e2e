"""Keyspaces above a store: whatever is held, dropped or written, commands do what they do with all data in memory."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kora import kernel
from kora.clock import ManualClock
from kora.commands import make_registry
from kora.config import Config
from kora.engine.engine import Engine
from tests.compat.compare import is_alike, unfolded
from tests.compat.profile import examples
from tests.compat.test_mixed_commands import programs_of_all_kinds
from tests.compat.words import Step
from tests.conftest import encode_request

from .fake_store import Tide, make_store


def _engine(*flags: str) -> Engine:
    return Engine(Config.load([*flags], {}), make_registry(), ManualClock(), kernel=kernel.load())


@given(program=programs_of_all_kinds, seed=st.integers(0, 1 << 32))
@examples(60)
def test_programs_do_the_same_with_few_keys_in_memory(program: list[Step], seed: int) -> None:
    plain, backed = _engine("--shards", "2"), _engine("--shards", "2")
    store = make_store(backed)
    tide = Tide(backed, store, Random(seed))
    clients = plain.connect(), backed.connect()
    replies: tuple[list[bytes], list[bytes]] = ([], [])
    for step in program:
        for engine, client, out in zip((plain, backed), clients, replies, strict=True):
            if not client.parked:
                out.append(engine.execute(client, encode_request(step)))
            engine.tick()
        tide.move()
        for keyspace in backed.databases.used():
            if hasattr(keyspace, "audit"):
                keyspace.audit()
    assert len(replies[0]) == len(replies[1])
    for step, expected, found in unfolded(program[: len(replies[0])], *replies):
        assert expected == found or _is_alike(step, expected, found), (step, expected, found)
    for index in range(2):
        assert len(plain.databases[index]) == len(backed.databases[index])
        assert plain.databases[index].volatile == backed.databases[index].volatile
        assert sorted(plain.databases[index]) == sorted(backed.databases[index])
    assert plain.keys == backed.keys
    tide.settle()
    for index in range(2):
        keyspace = backed.databases[index]
        assert sorted(plain.databases[index]) == sorted(keyspace) == sorted(store.data.get(keyspace.store_id, {}))


def _is_alike(step: Step, expected: bytes, found: bytes) -> bool:
    name = step[0].lower()
    if name in (b"scan", b"object", b"debug", b"memory", b"randomkey", b"spop", b"srandmember", b"hrandfield"):
        return True
    if is_alike(step, expected, found, 0):
        return True
    return _letters(expected) == _letters(found)


def _letters(reply: bytes) -> list[bytes]:
    """What has no order may come in any."""
    return sorted(reply.split(b"\r\n"))
