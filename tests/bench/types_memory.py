"""Bytes per key of small hashes, lists, sets and sorted sets, ten fields or items each: resident, and as claimed."""

from __future__ import annotations

import random
import statistics
from typing import Any

import processes
from estimates import Interval
from load_children import SMALL_VALUES, child, key_of_small, write_small
from section import Bench, Table
from servers import Recipe, Server, running
from targets import TYPES_MEMORY_RATIO_MAX, Verdict

SAMPLE_KEYS = 100


def measure(bench: Bench) -> dict[str, Any]:
    results = [
        {"kind": kind, "servers": [fill(bench, recipe, kind) for recipe in bench.recipes]} for kind in SMALL_VALUES
    ]
    return {"keys": bench.sizes.small_keys, "results": results}


def fill(bench: Bench, recipe: Recipe, kind: str) -> dict[str, Any]:
    """A fresh server with as many keys of one kind."""
    keys = bench.sizes.small_keys
    with running(recipe) as server:
        bench.progress(f"types_memory: {keys} keys of {kind} into {server.name}")
        processes.wait_until_calm(server.pid)
        before = processes.rss_bytes(server.pid)[server.pid]
        with child(write_small, server.port, kind, keys) as writer:
            writer.receive(60 + keys / 1_000)
        processes.wait_until_calm(server.pid)
        after = processes.rss_bytes(server.pid)[server.pid]
        usage_bytes = sampled_usage_bytes(server, kind, keys)
    return {"server": server.name, "rss_per_key_bytes": (after - before) / keys, "memory_usage_bytes": usage_bytes}


def sampled_usage_bytes(server: Server, kind: str, keys: int) -> float:
    """The mean of MEMORY USAGE over some keys, the same of each server."""
    chosen = random.Random(1).sample(range(keys), min(keys, SAMPLE_KEYS))
    with server.client() as client:
        assert client.call("DBSIZE") == keys
        return statistics.mean(
            client.call("MEMORY", "USAGE", key_of_small(kind, number), "SAMPLES", "0") for number in chosen
        )


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for row in result["results"]:
        reference, subject = row["servers"]
        for name, label in (("rss_per_key_bytes", "RSS"), ("memory_usage_bytes", "MEMORY USAGE")):
            pair = (reference[name], subject[name])
            rows.append([f"{row['kind']}, {label}", *(f"{value:.0f}" for value in pair), f"{pair[1] / pair[0]:.2f}"])
    reference, subject = result["results"][0]["servers"]
    title = f"types: bytes per key, {result['keys']} keys of ten fields or items"
    notes = [
        "RSS: growth of the server process per key, Kora's sidecar left out; MEMORY USAGE: mean of some keys.",
        "Redis 7.0 has no compact form for a set of strings; 7.2 has, of about 250 bytes.",
    ]
    return [Table(title, ["", reference["server"], subject["server"], "ratio"], rows, notes)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    found = []
    for row in result["results"]:
        reference, subject = row["servers"]
        # What Redis claims is less than it takes: tables and what the allocator rounds up are not in it, as in ours.
        ratio = subject["rss_per_key_bytes"] / reference["rss_per_key_bytes"]
        measured = Interval(ratio, ratio, ratio, 1)
        what = f"RSS of small values: {row['kind']}"
        found.append(Verdict(what, "x", TYPES_MEMORY_RATIO_MAX, measured, is_exact=True))
    return found
