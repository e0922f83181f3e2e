"""CONFIG, COMMAND, CLUSTER, MEMORY and what else speaks of the server: what does not depend on which server it is."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ports import free_port

from .compare import difference, show, split_replies
from .peers import Kora, RedisServer, redis_server, request, requests
from .profile import examples
from .quirks import is_quirky
from .words import KEYS, Step, options, programs, some, words

# Settings that both servers have, with the same meaning.
_NAMES = (b"maxmemory", b"timeout", b"tcp-keepalive", b"databases", b"proto-max-bulk-len", b"MAXMEMORY")
_VALUES = (
    b"0",
    b"1",
    b"100",
    b"-1",
    b"x",
    b"",
    b"1mb",
    b"1GB",
    b"2k",
    b"1kbb",
    b"9223372036854775808",
    b"1.5",
    b" 1",
    b"yes",
)
_settings = st.sampled_from((*_NAMES, b"nonesuch", b"", b"max*"))
_values = st.sampled_from(_VALUES)
_command_names = st.sampled_from(
    (b"get", b"SET", b"mset", b"copy", b"lcs", b"ping", b"nonesuch", b"config|get", b"client", b"object")
)

SERVER = {
    "CONFIG GET": words("CONFIG", "GET", some(st.sampled_from((*_NAMES, b"nonesuch", b"", b"databa*", b"time?ut",
        b"[tm]imeout")))),
    "CONFIG SET": words("CONFIG", "SET", some(st.tuples(_settings, _values), max_size=2)),
    "CONFIG RESETSTAT": words("CONFIG", "RESETSTAT"),
    "CONFIG": words("CONFIG", options("FOO", max_size=1)),
    "COMMAND GETKEYS": words("COMMAND", st.sampled_from((b"GETKEYS", b"GETKEYSANDFLAGS")), _command_names,
        some(st.sampled_from(KEYS), 0)),
    "COMMAND INFO": words("COMMAND", st.sampled_from((b"INFO", b"DOCS")), "nonesuch"),
    "COMMAND LIST": words("COMMAND", "LIST", options("FILTERBY", words("FILTERBY", "ACLCAT", "nonesuch"),
        words("FILTERBY", "MODULE", "m"), words("FILTERBY", "PATTERN", "xy*"), words("FILTERBY", "FOO", "x"),
        max_size=2)).filter(
        lambda step: len(step) > 2
    ),
    "COMMAND": words("COMMAND", "FOO"),
    "MEMORY USAGE": words("MEMORY", "USAGE", "nonesuch", options("SAMPLES", words("SAMPLES", _values), "FOO")),
    "ROLE": words("ROLE"),
    "INFO": words("INFO", "nonesuch"),
    "SHUTDOWN": words("SHUTDOWN", st.sampled_from((b"FOO", b"NOSAVEX"))),
    "LOLWUT": words("LOLWUT", "VERSION", "x"),
}  # fmt: skip


def _is_safe(step: Step) -> bool:
    """Not what a mistake could have made of SHUTDOWN, and nothing that tells about one server only."""
    name, *rest = (word.upper() for word in step)
    if name == b"SHUTDOWN":
        return rest in ([b"FOO"], [b"NOSAVEX"])
    if name == b"COMMAND":
        return (
            bool(rest)
            and rest[0] not in (b"", b"COUNT")
            and rest != [b"LIST"]
            and (rest[0] not in (b"INFO", b"DOCS") or rest[1:] == [b"NONESUCH"])
        )
    if name == b"INFO":
        return rest == [b"NONESUCH"]
    if name == b"LOLWUT":
        return rest == [b"VERSION", b"X"]
    return not is_quirky(step)


@given(program=programs(SERVER, max_size=12), protocol=st.sampled_from((b"2", b"3")))
@examples(600)
def test_programs_of_server_commands_give_the_same_stream(
    redis: RedisServer, program: list[Step], protocol: bytes
) -> None:
    program = [step for step in program if _is_safe(step)]
    redis.reset()
    kora = Kora(now_us=redis.now_us())
    hello, data = requests([(b"HELLO", protocol)]), requests(program)
    try:
        with redis.connect() as connection:
            connection.exchange(hello)
            expected, _ = connection.exchange(data)
    finally:
        redis.control.exchange(
            request(
                "CONFIG", "SET", "maxmemory", 0, "timeout", 0, "tcp-keepalive", 300, "proto-max-bulk-len", 512 << 20
            )
        )
    kora.exchange(hello)
    found, _ = kora.exchange(data)
    theirs, ours = split_replies(expected), split_replies(found)
    assert len(theirs) == len(ours) == len(program), (expected, found)
    faults = [fault for args in zip(program, theirs, ours, strict=True) if (fault := difference(*args, late_ms=0))]
    assert not faults, "\n".join(faults) + "\n\nin the program\n" + "\n".join(map(show, program))


@pytest.fixture(scope="module")
def clustered() -> Iterator[RedisServer]:
    flags = (
        "--port",
        str(free_port()),
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(free_port()),
        "--databases",
        "1",
    )
    with redis_server(*flags, tcp=True) as server:
        yield server


@given(key=st.binary(max_size=30) | st.text("{}ab", max_size=10).map(str.encode))
@examples(500)
def test_the_slot_of_a_key_is_the_one_of_redis_cluster(clustered: RedisServer, key: bytes) -> None:
    assert Kora().run("CLUSTER", "KEYSLOT", key) == clustered.run("CLUSTER", "KEYSLOT", key)


@pytest.mark.parametrize(
    "words",
    [
        ("CLUSTER",),
        ("CLUSTER", "KEYSLOT"),
        ("CLUSTER", "KEYSLOT", "a", "b"),
        ("CLUSTER", "FOO"),
        ("CLUSTER", "COUNTKEYSINSLOT", "x"),
        ("CLUSTER", "COUNTKEYSINSLOT", "-1"),
        ("CLUSTER", "COUNTKEYSINSLOT", "16384"),
        ("CLUSTER", "COUNTKEYSINSLOT", "16383"),
        ("CLUSTER", "GETKEYSINSLOT", "0"),
        ("CLUSTER", "GETKEYSINSLOT", "16384", "1"),
        ("CLUSTER", "GETKEYSINSLOT", "0", "-1"),
        ("CLUSTER", "GETKEYSINSLOT", "0", "x"),
        ("CLUSTER", "GETKEYSINSLOT", "0", "10"),
    ],
)
def test_mistakes_with_cluster_are_told_in_the_same_words(clustered: RedisServer, words: tuple[str, ...]) -> None:
    assert Kora().run(*words) == clustered.run(*words)
