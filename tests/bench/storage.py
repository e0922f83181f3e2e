"""RocksDB under the keys against all of them in memory: what is in memory, what is not, and how a server starts again.

`cached` has all keys in memory on both servers: what is left is what keeping track of changes and writing them back
costs.  Everything else uses one store that is filled once, with four times as many keys as fit in memory, all of them
in RocksDB's files, which the system has in its page cache: `restart` starts on it, after an end and after SIGKILL,
`cold` reads from it, with RocksDB's statistics off and on, `writes` changes what is in memory, what is not, and what is
new, and `single` is all of that at pipeline 1, with both engines and redis-server, where no bound is set.

A part that fails does not cost the others, and what has been measured is kept when the rest is cut off.  Kvrocks, which
is made of the same store, publishes some hundred thousand reads a second on a machine of many cores: of that shape,
and no claim of ours, since it was not run here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import processes
import redis_benchmark
from estimates import Interval, median_interval, paired_ratio
from loading import with_flags
from redis_benchmark import Filling, Run, Shape, Test
from section import STORAGE_PARTS, Bench, Table
from servers import Recipe, Server, running
from targets import (
    STORAGE_CACHED_CPU_RATIO_MAX,
    STORAGE_COLD_PER_S_MIN,
    STORAGE_MEMORY_BYTES_MAX,
    STORAGE_RESTART_S_MAX,
    STORAGE_STATISTICS_PERCENT_MAX,
    STORAGE_WRITES_PER_S_MIN,
    Verdict,
)

ROCKSDB: Final = ("--storage-engine", "rocksdb", "--rocksdb-sync", "everysec")
VALUE_BYTES: Final = 100
# What a key of such a value takes in memory, about.
KEY_BYTES: Final = 160
MB: Final = 1 << 20
CACHED: Final = (("GET", 1), ("GET", 16), ("SET", 16))
# Of that which is in memory, keys that all fit there many times over.
RESIDENT_KEYS: Final = 20_000
NEW_KEYS: Final = 10**9
# Compactions go on for a while behind what was written.
CALM_S_MAX: Final = 5.0
FILL_BATCH: Final = 100
FILL_AHEAD: Final = 8
SAMPLE_S: Final = 0.1
CHECKPOINT_S_MAX: Final = 60.0


def measure(bench: Bench) -> dict[str, Any]:
    """What came of each part, by its name; that some have failed is raised when all have had their turn."""
    result: dict[str, Any] = {}
    bench.keep(result)
    failures = []
    with tempfile.TemporaryDirectory(prefix="kora-bench-") as folder:
        stored = Stored(bench, folder)
        for part in bench.sizes.storage_parts:
            try:
                result[part] = PARTS[part](bench, stored)
            except Exception as failure:  # shown, and raised once the others are done
                traceback.print_exc()
                failures.append(f"{part}: {type(failure).__name__}: {failure}")
            if stored.about:
                result["store"] = stored.about
            bench.keep(result)
    if failures:
        raise RuntimeError("; ".join(failures))
    return result


def recipe_of(bench: Bench, cache_bytes: int, *flags: str, name: str = "rocksdb") -> Recipe:
    made = with_flags(bench.subject, *ROCKSDB, "--rocksdb-cache-bytes", str(cache_bytes), *flags)
    return dataclasses.replace(made, name=f"{bench.subject.name} ({name})")


class Stored:
    """A store on the disk, made when a part first asks for it, and shared by all of them."""

    def __init__(self, bench: Bench, folder: str) -> None:
        self._bench = bench
        self._folder = folder
        self.keys = bench.sizes.storage_keys
        self.cache_bytes = self.keys * KEY_BYTES // 4
        self.about: dict[str, Any] = {}
        self.path = os.path.join(folder, "filled")
        self.twin = os.path.join(folder, "checkpoint")  # the same files by other names

    def recipe(self, path: str, *flags: str, name: str = "rocksdb") -> Recipe:
        return recipe_of(self._bench, self.cache_bytes, "--dir", path, *flags, name=name)

    def fill(self) -> None:
        if self.about:
            return
        self._bench.progress(f"storage: {self.keys} keys are written, {self.cache_bytes // MB} MB of them in memory")
        os.mkdir(self.path)
        with running(self.recipe(self.path)) as server, watched(server) as memory:
            elapsed_s = fill(server, self.keys)
            processes.wait_until_calm(server.pid, CALM_S_MAX)
            checkpoint_s = checkpoint(server)
            os.mkdir(self.twin)
            os.rename(os.path.join(self.path, "rocksdb-checkpoint"), os.path.join(self.twin, "rocksdb"))
        self.about = {
            "keys": self.keys,
            "cache_bytes": self.cache_bytes,
            "fill_s": elapsed_s,
            "checkpoint_s": checkpoint_s,
            "rss_bytes_max": memory.most_bytes,
        }


class Memory:
    """The most that a server's main process has had resident; its sidecar is another, which knows nothing of keys."""

    def __init__(self) -> None:
        self.most_bytes = 0


@contextlib.contextmanager
def watched(server: Server) -> Iterator[Memory]:
    memory = Memory()
    ended = threading.Event()
    status = Path(f"/proc/{server.pid}/statm")
    page_bytes = os.sysconf("SC_PAGE_SIZE")

    def sample() -> None:
        while True:
            with contextlib.suppress(OSError):
                memory.most_bytes = max(memory.most_bytes, int(status.read_text().split()[1]) * page_bytes)
            if ended.wait(SAMPLE_S):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def fill(server: Server, keys: int) -> float:
    """Write all keys that redis-benchmark will ask for, once each; returns in how many seconds.

    Their values cannot be compressed.  Many to a request, and some requests ahead of their replies.
    """
    pool = random.Random(1).randbytes(1 << 20)
    started_s = time.monotonic()
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port), 60.0)) as connection:
        stream = connection.makefile("rb")
        ahead = 0
        for first in range(0, keys, FILL_BATCH):
            numbers = range(first, min(keys, first + FILL_BATCH))
            parts = [b"*%d\r\n$4\r\nMSET\r\n" % (2 * len(numbers) + 1)]
            for number in numbers:
                start = number * 7919 % (len(pool) - VALUE_BYTES)
                value = pool[start : start + VALUE_BYTES]
                parts.append(b"$16\r\nkey:%012d\r\n$%d\r\n%b\r\n" % (number, VALUE_BYTES, value))
            connection.sendall(b"".join(parts))
            ahead += 1
            if ahead == FILL_AHEAD:
                _expect_ok(stream.readline())
                ahead -= 1
        for _ in range(ahead):
            _expect_ok(stream.readline())
    return time.monotonic() - started_s


def _expect_ok(reply: bytes) -> None:
    if reply != b"+OK\r\n":
        raise RuntimeError(f"a write was answered {reply!r}")


def checkpoint(server: Server) -> float:
    """Seconds that BGSAVE takes."""
    started_s = time.monotonic()
    with server.client() as client:
        client.call("BGSAVE")
        while client.info("persistence")["rdb_bgsave_in_progress"] != "0":
            if time.monotonic() > started_s + CHECKPOINT_S_MAX:
                raise RuntimeError("the checkpoint does not end")
            time.sleep(0.005)
        if client.info("persistence")["rdb_last_bgsave_status"] != "ok":
            raise RuntimeError("the checkpoint has failed")
    return time.monotonic() - started_s


# Parts


def cached(bench: Bench, _: Stored) -> dict[str, Any]:
    """Both servers have all keys in memory."""
    keys = redis_benchmark.KEYSPACE
    recipes = (bench.subject, recipe_of(bench, 4 * keys * KEY_BYTES))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(recipe)) for recipe in recipes]
        for server in servers:
            make_ready(server, keys)
        return {
            "tests": [
                in_turn(bench, servers, load_of(name, keys), pipeline, bench.sizes.run_s) for name, pipeline in CACHED
            ]
        }


def restart(bench: Bench, stored: Stored) -> dict[str, Any]:
    """What an end has left, which is in files; and what SIGKILL has left, some of which is in the log only."""
    stored.fill()
    starts_s, killed_s = [], []
    bench.progress("storage: starts")
    for _ in range(bench.sizes.starts):
        with running(stored.recipe(stored.path)) as server:
            starts_s.append(server.start_s)
            check_size(server, stored.keys)
    log_bytes = []
    for _ in range(bench.sizes.starts):
        with running(stored.recipe(stored.path)) as server:
            # As much as the log may hold until files are made of it, and not more often than once.
            fill(server, min(stored.keys, 80_000))
            processes.wait_until_calm(server.pid, 1.0)
            os.kill(server.pid, signal.SIGKILL)
        log_bytes.append(sum(path.stat().st_size for path in Path(stored.path, "rocksdb").glob("batches-*.log")))
        with running(stored.recipe(stored.path)) as server:
            killed_s.append(server.start_s)
            check_size(server, stored.keys)
    return {"starts_s": starts_s, "starts_killed_s": killed_s, "log_bytes": log_bytes}


def check_size(server: Server, keys: int) -> None:
    with server.client() as client:
        count = int(client.call("DBSIZE"))
    if count != keys:
        raise RuntimeError(f"{keys} keys were written, and {count} are there")


def cold(bench: Bench, stored: Stored) -> dict[str, Any]:
    """Two servers on the same files, without RocksDB's statistics and with them, in turn."""
    stored.fill()
    with contextlib.ExitStack() as stack:
        servers, memories = [], []
        for path, level in ((stored.path, "info"), (stored.twin, "debug")):
            recipe = stored.recipe(path, "--storage-metrics-level", level, name=f"rocksdb, {level}")
            server = stack.enter_context(running(recipe))
            memories.append(stack.enter_context(watched(server)))
            servers.append(server)
        shape = shape_of(stored.keys)
        for server in servers:
            # As many as fill the cache, and the system's.
            redis_benchmark.load(server, ("-t", "get"), stored.keys, 16, shape)
        compared = in_turn(bench, servers, load_of("GET", stored.keys), 16, bench.sizes.storage_run_s)
        return {"tests": [compared], "rss_bytes_max": max(memory.most_bytes for memory in memories)}


def writes(bench: Bench, stored: Stored) -> dict[str, Any]:
    stored.fill()
    value = "x" * VALUE_BYTES
    tests = (
        load_of("SET", RESIDENT_KEYS, "SET, in memory"),
        load_of("SET", stored.keys, "SET, anywhere"),
        Test("SET, new", "SET", argv=("SET", "new:__rand_int__", value), shape=shape_of(NEW_KEYS)),
    )
    with running(stored.recipe(stored.path)) as server, watched(server) as memory:
        found = [in_turn(bench, [server], test, 16, bench.sizes.storage_run_s) for test in tests]
        return {"tests": found, "rss_bytes_max": memory.most_bytes}


def single(bench: Bench, stored: Stored) -> dict[str, Any]:
    """At pipeline 1, where a request costs more on its way than at its end: what others do here is the yardstick."""
    stored.fill()
    keys = redis_benchmark.KEYSPACE
    with contextlib.ExitStack() as stack:
        yardsticks = [stack.enter_context(running(recipe)) for recipe in bench.recipes]
        server = stack.enter_context(running(stored.recipe(stored.path)))
        for other in yardsticks:
            make_ready(other, keys)
        found = []
        for name in ("GET", "SET"):
            for servers, test in (
                (yardsticks, load_of(name, keys, f"{name}, in memory")),
                ([server], load_of(name, RESIDENT_KEYS, f"{name}, in memory")),
                ([server], load_of(name, stored.keys, f"{name}, anywhere")),
            ):
                found.append(in_turn(bench, servers, test, 1, bench.sizes.run_s))
        return {"tests": found}


PARTS: Final[dict[str, Callable[[Bench, Stored], dict[str, Any]]]] = {
    "cached": cached,
    "restart": restart,
    "cold": cold,
    "writes": writes,
    "single": single,
}
assert tuple(PARTS) == STORAGE_PARTS, "section.py names them for --help"


# A load on servers


def shape_of(keys: int) -> Shape:
    return Shape(keyspace=keys, value_bytes=VALUE_BYTES)


def load_of(command: str, keys: int, name: str = "") -> Test:
    shape = shape_of(keys)
    # Its filling is what says that a run leaves the state that it found.
    return Test(name or command, command, (Filling("SET", 3 * keys, shape),), ("-t", command.lower()), shape=shape)


def make_ready(server: Server, keys: int) -> None:
    """Write all keys, have files made of them, and look for each."""
    fill(server, keys)
    redis_benchmark.load(server, ("-t", "get"), keys, 16, shape_of(keys))
    processes.wait_until_calm(server.pid, CALM_S_MAX)


def in_turn(bench: Bench, servers: list[Server], test: Test, pipeline: int, run_s: float) -> dict[str, Any]:
    bench.progress(f"storage: {test.name}, pipeline {pipeline}, {', '.join(server.name for server in servers)}")
    trial = redis_benchmark.rounded(2_000 * pipeline, pipeline)
    # What a test needs in memory is there after as many requests as it has keys, and is not more than fits.
    warm = redis_benchmark.rounded(4 * min(test.shape.keyspace, RESIDENT_KEYS), pipeline)
    per_s = []
    for server in servers:
        redis_benchmark.load(server, redis_benchmark.arguments(test), warm, 16, test.shape)
        per_s.append(redis_benchmark.load(server, redis_benchmark.arguments(test), trial, pipeline, test.shape)[0])
    requests = redis_benchmark.rounded(int(min(per_s) * run_s), pipeline)
    runs: list[list[Run]] = [[] for _ in servers]
    fetched_per_s: list[list[float]] = [[] for _ in servers]
    for turn in range(bench.sizes.storage_rounds):
        order = list(enumerate(servers))
        for place, server in order[:: -1 if turn % 2 else 1]:
            before = fetches(server)
            run = redis_benchmark.measure(server, test, requests, pipeline)
            runs[place].append(run)
            fetched_per_s[place].append((fetches(server) - before) / requests * run.ops_per_s)
    return {
        "test": test.name,
        "pipeline": pipeline,
        "rows": [
            {
                "server": server.name,
                "runs": [dataclasses.asdict(run) for run in runs[place]],
                "fetched_per_s": fetched_per_s[place],
                "rss_bytes": processes.rss_bytes(server.pid)[server.pid],
            }
            for place, server in enumerate(servers)
        ],
    }


def fetches(server: Server) -> int:
    """Keys that were not in memory."""
    if "rocksdb" not in server.name:
        return 0
    with server.client() as client:
        shown = client.info("rocksdb")
    return int(shown.get("cold_fetches", 0)) + int(shown.get("sync_fetches", 0))


# What is said of it, where parts may be missing


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for compared in _tests(result):
        for row in compared["rows"]:
            ops, cpu, p99 = (median_interval(values(row, name)).median for name in _SHOWN)
            fetched = median_interval(row["fetched_per_s"]).median
            rows.append(
                [
                    compared["test"],
                    str(compared["pipeline"]),
                    row["server"],
                    f"{ops / 1000:.0f}",
                    f"{cpu:.0f}",
                    f"{p99:.2f}",
                    f"{fetched / 1000:.0f}",
                    f"{row['rss_bytes'] / MB:.0f}",
                ]
            )
    header = ["", "P", "server", "kops/s", "CPU ns", "p99 ms", "kfetched/s", "RSS MB"]
    found = [Table("storage", header, rows)] if rows else []
    if (store := result.get("store")) is not None:
        facts = [
            ["filled, s", f"{store['fill_s']:.1f}"],
            ["keys written per s", f"{store['keys'] / store['fill_s']:,.0f}"],
        ]
        facts.append(["checkpoint, s", f"{store['checkpoint_s']:.2f}"])
        if (again := result.get("restart")) is not None:
            facts.append(["started, median s", f"{median_interval(again['starts_s']).median:.2f}"])
            log_mb = median_interval(again["log_bytes"]).median / MB
            killed_s = median_interval(again["starts_killed_s"]).median
            facts.append([f"started after SIGKILL with {log_mb:.0f} MB of log, median s", f"{killed_s:.2f}"])
        found.append(Table(f"storage, {store['keys']} keys, {store['cache_bytes'] / MB:.0f} MB of them in memory",
                           ["", ""], facts))  # fmt: skip
    return found


_SHOWN: Final = ("ops_per_s", "cpu_ns_per_command", "p99_ms")


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = []
    for compared in result.get("cached", {"tests": []})["tests"]:
        if compared["test"] == "GET":
            memory, stored = compared["rows"]
            what = f"CPU of GET, RocksDB's over memory's, in memory, pipeline {compared['pipeline']}"
            found.append(Verdict(what, "x", STORAGE_CACHED_CPU_RATIO_MAX, ratio("cpu_ns_per_command", stored, memory)))
    if "cold" in result:
        info, debug = result["cold"]["tests"][0]["rows"]
        found.append(_at_least("keys fetched per second, 50 clients", STORAGE_COLD_PER_S_MIN, debug["fetched_per_s"]))
        change = ratio("cpu_ns_per_command", debug, info)
        percents = (100 * (value - 1) for value in (change.median, change.low, change.high))
        what = "CPU that statistics add to cold GETs"
        found.append(Verdict(what, "%", STORAGE_STATISTICS_PERCENT_MAX, Interval(*percents, change.count)))
    for compared in result.get("writes", {"tests": []})["tests"]:
        what = f"{compared['test']}, per second, everysec, pipeline 16"
        found.append(_at_least(what, STORAGE_WRITES_PER_S_MIN, values(compared["rows"][0], "ops_per_s")))
    if "restart" in result:
        for what, name in (("", "starts_s"), (" after SIGKILL", "starts_killed_s")):
            taken = median_interval(result["restart"][name])
            found.append(Verdict(f"start with what was there{what}", "s", STORAGE_RESTART_S_MAX, taken))
    if "store" in result:
        most_bytes = max(part["rss_bytes_max"] for part in result.values() if "rss_bytes_max" in part)
        beyond = median_interval([(most_bytes - result["store"]["cache_bytes"]) / MB])
        what = "memory beyond rocksdb-cache-bytes, at most"
        found.append(Verdict(what, "MB", STORAGE_MEMORY_BYTES_MAX / MB, beyond, is_exact=True))
    return found


def _tests(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [compared for part in STORAGE_PARTS for compared in result.get(part, {}).get("tests", [])]


def _at_least(what: str, bound: float, measured: list[float]) -> Verdict:
    """As how many times too few there were, which is to be 1 at most."""
    return Verdict(f"{bound:,.0f} over {what}", "x", 1.0, median_interval([bound / max(1.0, one) for one in measured]))


def ratio(name: str, row: dict[str, Any], other: dict[str, Any]) -> Interval:
    return paired_ratio(values(row, name), values(other, name))


def values(row: dict[str, Any], name: str) -> list[float]:
    return [run[name] for run in row["runs"]]
