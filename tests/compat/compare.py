"""Two servers' replies, side by side: equal bytes, but where time or chance has a say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.conftest import STORED
from tests.resp_reader import read_replies, read_reply

from .peers import DATABASES, Kora, RedisServer, requests
from .quirks import is_quirky
from .stream_times import without_times
from .words import KEYS, Step

# Replies that say a time: they differ by what passes between two servers.
TIMES_MS = frozenset({b"pttl", b"pexpiretime"})
TIMES_S = frozenset({b"ttl", b"expiretime"})
UNORDERED = frozenset({b"keys"})
RANDOM = frozenset({b"randomkey"})
# Replies of which only the kind is compared: they tell of the server's own.
SHAPES = frozenset({(b"client", b"id"), (b"object", b"idletime")})


def split_replies(data: bytes) -> list[bytes]:
    """The bytes of each reply."""
    replies = []
    place = 0
    while place < len(data):
        _, stop = read_reply(data, place)
        replies.append(data[place:stop])
        place = stop
    return replies


def unfolded(program: list[Step], expected: list[bytes], found: list[bytes]) -> Iterator[tuple[Step, bytes, bytes]]:
    """Each request with its two replies; those of a transaction one by one, where both servers have run it."""
    queued: list[Step] = []
    for step, theirs, ours in zip(program, expected, found, strict=True):
        if theirs == ours == b"+QUEUED\r\n":
            queued.append(step)
        elif step[0].upper() in (b"EXEC", b"DISCARD"):
            head = b"*%d\r\n" % len(queued)
            if queued and theirs.startswith(head) and ours.startswith(head):
                yield from zip(
                    queued, split_replies(theirs[len(head) :]), split_replies(ours[len(head) :]), strict=True
                )
                queued = []
                continue
            if not theirs.startswith(b"-ERR") or not ours.startswith(b"-ERR"):
                queued = []
        yield step, theirs, ours


# Whether two different replies to a request say the same: for what a family leaves to chance.
Alike = Callable[[Step, bytes, bytes], bool]


def difference(
    step: Step, expected: bytes, found: bytes, late_ms: int, floats: bool = False, alike: Alike | None = None
) -> str:
    """What is wrong with Kora's reply; "" if nothing is.

    late_ms: how much Redis' clock may be ahead of Kora's; floats: whether INCRBYFLOAT has run, see quirks.py.
    """
    if expected == found or is_alike(step, expected, found, late_ms):
        return ""
    if alike is not None and alike(step, expected, found):
        return ""
    if STORED and step[0].lower() == b"object" and step[1].lower() in _OF_MEMORY:
        return ""
    if floats and step[0].lower() == b"object" and (expected, found) in _FLOAT_QUIRK:
        return ""
    if step[0].lower() == b"object" and (expected, found) in _NEWER_ENCODINGS:
        return ""
    return f"{show(step)}\n    redis: {expected!r}\n    kora:  {found!r}"


# What a value has become by its changes, and when it was used, is not stored, as it is in no snapshot.
_OF_MEMORY = {b"encoding", b"idletime", b"freq"}

_FLOAT_QUIRK = {(b"$6\r\nembstr\r\n", b"$3\r\nint\r\n"), (b":1\r\n", b":2147483647\r\n")}

# Of lists, before Redis 7.2 and since; see quirks.py.
_NEWER_ENCODINGS = {(b"$9\r\nquicklist\r\n", b"$8\r\nlistpack\r\n")}


def is_alike(step: Step, expected: bytes, found: bytes, late_ms: int) -> bool:
    if expected[:1] != found[:1] or expected[:1] == b"-":
        return False
    name = step[0].lower()
    if name in TIMES_MS or name in TIMES_S:
        least = (
            0 if expected[:2] == b":-" or found[:2] == b":-" else late_ms if name in TIMES_MS else 1 + late_ms // 1000
        )
        return expected[:1] == b":" and abs(int(expected[1:]) - int(found[1:])) <= least
    if name in UNORDERED or name == b"scan":
        return _sorted(read_replies(expected)[0]) == _sorted(read_replies(found)[0])
    if name == b"config" and step[1].lower() == b"get":
        return _pairs(read_replies(expected)[0]) == _pairs(read_replies(found)[0])
    if name == b"zscan":
        return _is_alike_scan(read_replies(expected)[0], read_replies(found)[0])
    if name == b"zrandmember":
        return _length(read_replies(expected)[0]) == _length(read_replies(found)[0])
    if name in (b"xpending", b"xinfo"):
        return without_times(step, expected, late_ms) == without_times(step, found, late_ms)
    if name in RANDOM:
        return (expected in (b"$-1\r\n", b"_\r\n")) == (found in (b"$-1\r\n", b"_\r\n"))
    return (name, step[1].lower() if step[1:] else b"") in SHAPES


def _sorted(reply: object) -> object:
    """KEYS: names; SCAN: cursor and names."""
    assert isinstance(reply, list)
    return [reply[0], sorted(reply[1])] if reply[1:] and isinstance(reply[1], list) else sorted(reply)


def _is_alike_scan(expected: object, found: object) -> bool:
    """The same pairs in any order; of a table too large for one step nothing can be said."""
    assert isinstance(expected, list) and isinstance(found, list), (expected, found)
    if expected[0] != b"0" or found[0] != b"0":
        return True
    return sorted(_couples(expected[1])) == sorted(_couples(found[1]))


def _couples(flat: list[object]) -> list[tuple[object, ...]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _length(reply: object) -> int:
    return len(reply) if isinstance(reply, list) else -1


def _pairs(reply: object) -> object:
    return dict(zip(reply[::2], reply[1::2], strict=True)) if isinstance(reply, list) else reply


def show(step: Step) -> str:
    return " ".join(repr(word)[1:] for word in step)


def dataset_program() -> list[Step]:
    """Requests that tell everything that the databases hold of the pool's keys, and that they hold nothing else."""
    program: list[Step] = []
    for index in range(DATABASES):
        program.append((b"SELECT", b"%d" % index))
        for key in KEYS:
            program += [(b"GET", key), (b"PEXPIRETIME", key), (b"OBJECT", b"ENCODING", key), (b"TYPE", key)]
        program += [(b"KEYS", b"*"), (b"DBSIZE",)]
    return program


_DATASET = dataset_program()
_DATASET_BYTES = requests(_DATASET)

# What redis-server counts for requests of this harness.
_OWN = frozenset({"cmdstat_info", "cmdstat_config|resetstat", "cmdstat_echo"})


@dataclass(frozen=True)
class Numbers:
    """What INFO says of a program; `commands` has calls, failed and rejected calls."""

    stats: dict[str, str]
    commands: dict[str, tuple[str, str, str]]
    errors: dict[str, str]


_STATS = ("keyspace_hits", "keyspace_misses", "expired_keys", "total_error_replies")


def numbers_of(info: bytes) -> Numbers:
    (text,) = read_replies(info)
    assert isinstance(text, bytes), text
    fields = dict(line.split(":", 1) for line in text.decode("utf-8", "surrogateescape").splitlines() if ":" in line)
    commands = {}
    errors = {}
    for name, value in fields.items():
        if name.startswith("cmdstat_") and name not in _OWN:
            parts = dict(part.split("=") for part in value.split(","))
            counts = (parts["calls"], parts["failed_calls"], parts["rejected_calls"])
            if counts != ("0", "0", "0"):
                commands[name] = counts
        elif name.startswith("errorstat_"):
            errors[name] = value
    return Numbers({name: fields[name] for name in _STATS if name in fields}, commands, errors)


_INFO = requests([(b"INFO", b"everything")])


def compare_program(
    redis: RedisServer,
    program: list[Step],
    *flags: str,
    protocol: int = 2,
    numbers: bool = True,
    alike: Alike | None = None,
) -> None:
    """Run a program on both servers; compare each reply, then the numbers, then all that is stored."""
    program = [step for step in program if not is_quirky(step)]
    if protocol == 3:
        hello = requests([(b"HELLO", b"3")])
    else:
        hello = b""
    started_us = redis.now_us()
    redis.reset()
    kora = Kora(*flags, now_us=started_us)
    data = requests(program)
    with redis.connect() as connection:
        if hello:
            connection.exchange(hello)
            kora.exchange(hello)
            redis.run("CONFIG", "RESETSTAT")
            kora.engine.reset_stats()
        expected, expected_closed = connection.exchange(data)
        expected_numbers = numbers_of(redis.run("INFO", "everything"))
        late_ms = (redis.now_us() - started_us) // 1_000 + 1
        found, found_closed = kora.exchange(data)
        assert (expected_closed, found_closed) == (False, False), program
        expected_replies, found_replies = split_replies(expected), split_replies(found)
        assert len(expected_replies) == len(found_replies) == len(program), (expected, found)
        floats = any(step[0].upper() == b"INCRBYFLOAT" for step in program)
        faults = [
            fault
            for step, theirs, ours in unfolded(program, expected_replies, found_replies)
            if (fault := difference(step, theirs, ours, late_ms, floats, alike))
        ]
        found_info, _ = kora.exchange(_INFO, kora.connect())
        if numbers and not faults and not found_info.startswith(b"-"):
            found_numbers = numbers_of(found_info)
            for part in ("stats", "commands", "errors"):
                theirs, ours = getattr(expected_numbers, part), getattr(found_numbers, part)
                faults += [
                    f"INFO {name}: redis {theirs.get(name)}, kora {ours.get(name)}"
                    for name in sorted({*theirs, *ours})
                    if theirs.get(name) != ours.get(name)
                ]
        if not faults:
            expected, _ = connection.exchange(_DATASET_BYTES)
            found, _ = kora.exchange(_DATASET_BYTES)
            index = b""
            for step, theirs, ours in zip(_DATASET, split_replies(expected), split_replies(found), strict=True):
                index = step[1] if step[0] == b"SELECT" else index
                if fault := difference(step, theirs, ours, late_ms, floats, alike):
                    faults.append(f"afterwards, database {index.decode()}: {fault}")
    if faults:
        listing = "\n".join(map(show, program))
        raise AssertionError("\n".join(faults) + f"\n\nin the program (protocol {protocol})\n{listing}")
