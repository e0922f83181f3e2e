"""RocksDB under the keys against all of them in memory: what is in memory, what is not, and how a server starts again.

`cached` has all keys in memory on both servers: what is left is what keeping track of changes and writing them back
costs.  `cold` has four times as many keys as fit: about three of four reads go to RocksDB, whose files the system has
in its page cache.  `statistics` is the same load with what RocksDB tells of itself turned off and on.  Kvrocks, which
is made of the same store, publishes some hundred thousand reads a second on a machine of many cores: of that shape,
and no claim of ours, since it was not run here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from typing import Any, Final

import processes
import redis_benchmark
from estimates import Interval, median_interval, paired_ratio
from loading import with_flags
from redis_benchmark import Filling, Run, Shape, Test
from section import Bench, Table
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
CACHED: Final = (("GET", 1), ("GET", 16), ("SET", 16))
MB: Final = 1 << 20
# Compactions go on for a while behind what was written.
CALM_S_MAX: Final = 20.0


def measure(bench: Bench) -> dict[str, Any]:
    return {
        "cached": [cached(bench, name, pipeline) for name, pipeline in CACHED],
        "cold": cold(bench),
        "restart": restart(bench),
    }


def stored(recipe: Recipe, cache_bytes: int, *flags: str) -> Recipe:
    name = "rocksdb, info" if "info" in flags else "rocksdb"
    made = with_flags(recipe, *ROCKSDB, "--rocksdb-cache-bytes", str(cache_bytes), *flags)
    return dataclasses.replace(made, name=f"{recipe.name} ({name})")


def load_of(name: str, keys: int) -> Test:
    shape = Shape(keyspace=keys, value_bytes=VALUE_BYTES)
    return Test(name, name, (Filling("SET", 3 * keys, shape),), shape=shape)


def cached(bench: Bench, name: str, pipeline: int) -> dict[str, Any]:
    bench.progress(f"storage: {name} of keys in memory, pipeline {pipeline}")
    keys = redis_benchmark.KEYSPACE
    test = load_of(name, keys)
    recipes = (bench.subject, stored(bench.subject, 4 * keys * KEY_BYTES))
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(recipe)) for recipe in recipes]
        return {"test": name, "pipeline": pipeline, "rows": in_turn(bench, servers, test, pipeline)}


def in_turn(bench: Bench, servers: list[Server], test: Test, pipeline: int) -> list[dict[str, Any]]:
    for server in servers:
        redis_benchmark.fill(server, test, 0)
        # What is not there is looked for once, and files are made of what was written, before anything is measured.
        redis_benchmark.load(server, ("-t", "get"), test.shape.keyspace, 50, test.shape)
        processes.wait_until_calm(server.pid, CALM_S_MAX)
    requests = min(redis_benchmark.requests_for(server, test, pipeline, bench.sizes.run_s) for server in servers)
    runs: list[list[Run]] = [[] for _ in servers]
    fetched: list[list[float]] = [[] for _ in servers]
    for turn in range(bench.sizes.rounds):
        order = list(enumerate(servers))
        for place, server in order[:: -1 if turn % 2 else 1]:
            before = fetches(server)
            run = redis_benchmark.measure(server, test, requests, pipeline)
            runs[place].append(run)
            fetched[place].append((fetches(server) - before) / requests * run.ops_per_s)
    return [
        {
            "server": server.name,
            "runs": [dataclasses.asdict(run) for run in runs[place]],
            "fetched_per_s": fetched[place],
            "rss_bytes": processes.rss_bytes(server.pid)[server.pid],
        }
        for place, server in enumerate(servers)
    ]


def fetches(server: Server) -> int:
    """Keys that were not in memory."""
    with server.client() as client:
        shown = client.info("rocksdb")
    return int(shown.get("cold_fetches", 0)) + int(shown.get("sync_fetches", 0))


def cold(bench: Bench) -> dict[str, Any]:
    keys = bench.sizes.storage_keys
    cache_bytes = keys * KEY_BYTES // 4
    bench.progress(f"storage: {keys} keys, {cache_bytes // MB} MB of them in memory, statistics off and on")
    recipes = [stored(bench.subject, cache_bytes, "--storage-metrics-level", level) for level in ("info", "debug")]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(recipe)) for recipe in recipes]
        rows = in_turn(bench, servers, load_of("GET", keys), 16)
    return {"keys": keys, "cache_bytes": cache_bytes, "rows": rows}


def restart(bench: Bench) -> dict[str, Any]:
    """As many keys as there are to be, written with a cache for a quarter of them; then another start."""
    keys = bench.sizes.storage_keys
    cache_bytes = keys * KEY_BYTES // 4
    with tempfile.TemporaryDirectory(prefix="kora-bench-") as folder:
        recipe = stored(bench.subject, cache_bytes, "--dir", folder)
        with running(recipe) as server:
            redis_benchmark.fill(server, load_of("SET", keys), 0)
            rss_bytes = processes.rss_bytes(server.pid)[server.pid]
            count = size(server)
        starts = []
        for turn in range(bench.sizes.starts):
            bench.progress(f"storage: start with {count} keys, {turn + 1}/{bench.sizes.starts}")
            with running(recipe) as server:
                starts.append(server.start_s)
                if size(server) != count:
                    raise RuntimeError(f"{count} keys were written, and {size(server)} are there")
    return {"keys": count, "starts_s": starts, "rss_bytes": rss_bytes, "cache_bytes": cache_bytes}


def size(server: Server) -> int:
    with server.client() as client:
        return int(client.call("DBSIZE"))


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for compared in (*result["cached"], {"test": "GET, cold", "pipeline": 16, "rows": result["cold"]["rows"]}):
        for row in compared["rows"]:
            ops, cpu = (median_interval(values(row, name)).median for name in ("ops_per_s", "cpu_ns_per_command"))
            fetched = median_interval(row["fetched_per_s"]).median
            rows.append(
                [
                    compared["test"],
                    str(compared["pipeline"]),
                    row["server"],
                    f"{ops / 1000:.0f}",
                    f"{cpu:.0f}",
                    f"{fetched / 1000:.0f}",
                    f"{row['rss_bytes'] / MB:.0f}",
                ]
            )
    again = result["restart"]
    starts = [f"{again['keys']}", f"{median_interval(again['starts_s']).median:.2f}", f"{again['rss_bytes'] / MB:.0f}"]
    header = ["", "P", "server", "kops/s", "CPU ns", "kfetched/s", "RSS MB"]
    return [
        Table("storage", header, rows),
        Table("storage, another start", ["keys", "median s", "RSS MB before"], [starts]),
    ]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = [
        Verdict(
            f"CPU of {row['test']}, RocksDB's over memory's, in memory, pipeline {row['pipeline']}",
            "x",
            STORAGE_CACHED_CPU_RATIO_MAX,
            ratio("cpu_ns_per_command", row["rows"][1], row["rows"][0]),
        )
        for row in result["cached"]
        if row["test"] == "GET"
    ]
    writes = next(row["rows"][1] for row in result["cached"] if row["test"] == "SET")
    info, debug = result["cold"]["rows"]
    change = ratio("cpu_ns_per_command", debug, info)
    again = result["restart"]
    beyond_bytes = again["rss_bytes"] - again["cache_bytes"]
    return [
        *found,
        _at_least("SETs per second, everysec, pipeline 16", STORAGE_WRITES_PER_S_MIN, values(writes, "ops_per_s")),
        _at_least("cold reads per second, 50 clients", STORAGE_COLD_PER_S_MIN, debug["fetched_per_s"]),
        Verdict(
            "CPU that statistics add to cold GETs",
            "%",
            STORAGE_STATISTICS_PERCENT_MAX,
            Interval(*(100 * (value - 1) for value in (change.median, change.low, change.high)), change.count),
        ),
        Verdict("start with what was there", "s", STORAGE_RESTART_S_MAX, median_interval(again["starts_s"])),
        Verdict(
            "memory beyond rocksdb-cache-bytes",
            "MB",
            STORAGE_MEMORY_BYTES_MAX / MB,
            median_interval([beyond_bytes / MB]),
            is_exact=True,
        ),
    ]


def _at_least(what: str, bound: float, measured: list[float]) -> Verdict:
    """As how many times too few there were, which is to be 1 at most."""
    return Verdict(f"{bound:,.0f} over {what}", "x", 1.0, median_interval([bound / max(1.0, one) for one in measured]))


def ratio(name: str, row: dict[str, Any], other: dict[str, Any]) -> Interval:
    return paired_ratio(values(row, name), values(other, name))


def values(row: dict[str, Any], name: str) -> list[float]:
    return [run[name] for run in row["runs"]]
