"""Bytes of resident memory per key, keys and values of 16 bytes, in a fresh server."""

from __future__ import annotations

from typing import Any

import processes
from estimates import Interval
from load_children import child, write
from section import Bench, Table
from servers import Recipe, Server, running
from targets import MEMORY_RATIO_MAX, Verdict


def measure(bench: Bench) -> dict[str, Any]:
    return {"keys": bench.sizes.memory_keys, "results": [fill(bench, recipe) for recipe in bench.recipes]}


def fill(bench: Bench, recipe: Recipe) -> dict[str, Any]:
    keys = bench.sizes.memory_keys
    with running(recipe) as server:
        bench.progress(f"memory: {keys} keys into {server.name}")
        processes.wait_until_calm(server.pid)
        rss_before, claimed_before = processes.rss_bytes(server.pid), used_memory(server)
        with child(write, server.port, keys, 1000, False) as writer:
            writer.receive(60 + keys / 5_000)
        processes.wait_until_calm(server.pid)
        rss_after, claimed_after = processes.rss_bytes(server.pid), used_memory(server)
        with server.client() as client:
            found = client.call("DBSIZE")
    assert found == keys, (found, keys)
    return {
        "server": server.name,
        "rss_before_bytes": sum(rss_before.values()),
        "rss_after_bytes": sum(rss_after.values()),
        "rss_per_key_bytes": (sum(rss_after.values()) - sum(rss_before.values())) / keys,
        "main_process_rss_per_key_bytes": (rss_after[server.pid] - rss_before[server.pid]) / keys,
        "used_memory_per_key_bytes": (claimed_after - claimed_before) / keys,
    }


def used_memory(server: Server) -> int:
    """What the server itself believes, INFO memory."""
    with server.client() as client:
        return int(client.info("memory").get("used_memory", 0))


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        [
            row["server"],
            f"{row['rss_before_bytes'] / 1e6:.1f}",
            f"{row['rss_after_bytes'] / 1e6:.1f}",
            f"{row['rss_per_key_bytes']:.1f}",
            f"{row['used_memory_per_key_bytes']:.1f}",
        ]
        for row in result["results"]
    ]
    header = ["server", "empty MB", "full MB", "RSS bytes/key", "used_memory/key"]
    return [Table(f"memory, {result['keys']} keys of 16 bytes with values of 16 bytes", header, rows)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    reference, subject = (row["rss_per_key_bytes"] for row in result["results"])
    ratio = subject / reference
    measured = Interval(ratio, ratio, ratio, 1)
    return [Verdict(f"RSS per key, {result['keys']} keys", "x", MEMORY_RATIO_MAX, measured, is_exact=True)]
