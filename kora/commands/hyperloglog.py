"""HyperLogLog: counting different elements without keeping them.  What is stored is a string; see kora/types."""

from collections.abc import Iterable
from functools import reduce
from random import Random
from typing import Any, Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError
from kora.resp.reply import OK, Reply, Simple
from kora.types.hyperloglog import (
    BYTES_MAX,
    HEADER_BYTES,
    REGISTERS,
    HyperLogLog,
    count_registers,
    describe_runs,
    larger_registers,
)

hyperloglog = Family("hyperloglog")


def _open(client: Client, value: Any) -> HyperLogLog:
    return HyperLogLog(value, client.engine.limits.hll_sparse_max_bytes)


def _find(client: Client, key: bytes) -> Any:
    """What Keyspace.find() has, and that may be a copy; a long string that is none is refused before."""
    _refuse_long(client, key)
    return client.db.find(key, bytes)


def _read(client: Client, key: bytes) -> Any:
    """As that, of Keyspace.read()."""
    try:
        _refuse_long(client, key)
    except CommandError:
        client.db.touch(key)  # it was looked up, and is there
        raise
    return client.db.read(key, bytes)


def _refuse_long(client: Client, key: bytes) -> None:
    if client.db.length(key) > BYTES_MAX:
        _open(client, client.db.part(key, 0, HEADER_BYTES))


def _store(client: Client, key: bytes, found: HyperLogLog, is_new: bool) -> None:
    if is_new:
        client.db.set(key, found.data)
    else:
        client.db.replace(key, found.data)


@hyperloglog(
    "PFADD key [element ...]",
    "Adds elements to a HyperLogLog, and returns whether its count may have changed; creates it if it is not there.",
    flags="write denyoom fast",
    since="2.8.9",
    complexity="O(1) for each element.",
    access="RW insert",
)
def pfadd(client: Client, argv: list[bytes]) -> Reply:
    _, key, *elements = argv
    value = _find(client, key)
    is_new = value is None
    found = HyperLogLog(sparse_max_bytes=client.engine.limits.hll_sparse_max_bytes) if is_new else _open(client, value)
    changed = 0
    try:
        for element in elements:
            changed += found.add(element)
    finally:
        # What was added before a corrupt run was met stays.
        if changed or is_new:
            found.forget_count()
            _store(client, key, found, is_new)
    if not changed and not is_new:
        return 0
    client.db.notify(b"pfadd", key)
    return 1


@hyperloglog(
    "PFCOUNT key [key ...]",
    "Returns about how many different elements were added to one or more HyperLogLogs.",
    flags="readonly",
    since="2.8.9",
    complexity="O(1), with a small constant for one key whose count is known, and a large one for each of several.",
    access="RW access",
)
def pfcount(client: Client, argv: list[bytes]) -> Reply:
    _, *keys = argv
    if len(keys) > 1:
        return count_registers(_largest(_registers(client, keys, [])))
    value = _read(client, keys[0])
    if value is None:
        return 0
    found = _open(client, value)
    count = found.cached_count
    if count is None:
        count = found.count()
        # A string that is only looked at changes here, and not in a way that anybody else would have to know of, but
        # the copy that others have must become the same.
        client.db.find(keys[0], bytes)
        client.db.replace(keys[0], found.data)
    return count


def _registers(client: Client, keys: list[bytes], found: list[HyperLogLog]) -> Iterable[bytes]:
    """The registers of each, one after another, since the first that is wrong ends it; what was found is noted."""
    for key in keys:
        value = _read(client, key)
        if value is not None:
            found.append(_open(client, value))
            yield found[-1].registers()


def _largest(sources: Iterable[bytes]) -> bytes:
    return reduce(larger_registers, sources, bytes(REGISTERS))


@hyperloglog(
    "PFMERGE destkey:key [sourcekey:key ...]",
    "Merges HyperLogLogs into one, so that it counts what was added to any of them.",
    flags="write denyoom",
    since="2.8.9",
    complexity="O(N) where N is the number of HyperLogLogs, with a large constant.",
    access=("RW access insert", "RO access"),
)
def pfmerge(client: Client, argv: list[bytes]) -> Reply:
    target = argv[1]
    db = client.db
    sources: list[HyperLogLog] = []
    registers = _largest(_registers(client, argv[1:], sources))
    value = _find(client, target)
    is_new = value is None
    found = HyperLogLog(sparse_max_bytes=client.engine.limits.hll_sparse_max_bytes) if is_new else _open(client, value)
    if not all(source.is_sparse for source in sources):
        found.make_dense()
    found.merge(registers)
    found.forget_count()
    _store(client, target, found, is_new)
    # For whoever listens a merge is many elements added.
    db.notify(b"pfadd", target)
    return OK


@hyperloglog(
    "PFDEBUG subcommand key",
    "Shows how a HyperLogLog is represented: GETREG, DECODE, ENCODING; or makes it dense: TODENSE.",
    flags="write denyoom admin",
    since="2.8.9",
    complexity="N/A",
    access="RW access",
)
def pfdebug(client: Client, argv: list[bytes]) -> Reply:
    _, word, key = argv
    value = _find(client, key)
    if value is None:
        raise CommandError("ERR The specified key does not exist")
    found = _open(client, value)
    subcommand = word.upper()
    if subcommand == b"ENCODING":
        return Simple("sparse" if found.is_sparse else "dense")
    if subcommand == b"DECODE":
        if not found.is_sparse:
            raise CommandError("ERR HLL encoding is not sparse")
        return describe_runs(found.data)
    if subcommand in (b"GETREG", b"TODENSE"):
        was_sparse = found.make_dense()
        if was_sparse:
            client.db.replace(key, found.data)
        return list(found.registers()) if subcommand == b"GETREG" else int(was_sparse)
    raise CommandError("ERR Unknown PFDEBUG subcommand '" + word.decode("utf-8", "surrogateescape") + "'")


# Far more than would be seen once in a million runs: the standard error is 1.04 / sqrt(16384), 0.81 %.
_ERROR_MAX: Final = 0.05


@hyperloglog(
    "PFSELFTEST",
    "Checks that registers are kept, and counts near the truth.",
    flags="admin",
    since="2.8.9",
    complexity="N/A",
)
def pfselftest(client: Client, argv: list[bytes]) -> Reply:
    random = Random(0)
    expected = bytes(random.randrange(64) for _ in range(REGISTERS))
    found = HyperLogLog()
    found.make_dense()
    for index, value in enumerate(expected):
        found.raise_register(index, value)
    if found.registers() != expected:
        raise CommandError("ERR TESTFAILED registers are not what they were set to")
    sparse, dense = HyperLogLog(), HyperLogLog()
    dense.make_dense()
    for count in range(1, 5_001):
        element = random.randbytes(8)
        sparse.add(element)
        dense.add(element)
        if count in (10, 100, 1_000, 5_000):
            for found in (sparse, dense):
                found.forget_count()
                if abs(found.count() - count) > _ERROR_MAX * count:
                    raise CommandError(f"ERR TESTFAILED {count} elements were counted as {found.count()}")
    return OK
