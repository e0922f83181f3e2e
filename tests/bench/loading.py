"""Starting with a snapshot of small keys: both servers load the file that redis-server has saved.

CPU time of the server's own process from exec to the first PONG, which is refused while it loads, less that of a start
without a file.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import processes
from estimates import median_interval
from section import Bench, Table
from servers import Recipe, running
from targets import LOADED_KEYS_MIN, Verdict

_VALUE_BYTES: Final = 8


def measure(bench: Bench) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kora-bench-") as folder:
        bench.progress(f"loading: a snapshot of {bench.sizes.memory_keys} keys")
        path = make_snapshot(bench, folder)
        results = []
        for recipe in bench.recipes:
            bench.progress(f"loading: {recipe.name}")
            empty_s = statistics.median(cpu_s(recipe) for _ in range(bench.sizes.starts))
            spent_s = [cpu_s(recipe, folder) - empty_s for _ in range(bench.sizes.starts)]
            results.append({"server": recipe.name, "cpu_s": spent_s})
        return {"keys": bench.sizes.memory_keys, "size_bytes": path.stat().st_size, "results": results}


def make_snapshot(bench: Bench, folder: str) -> Path:
    recipe = with_flags(bench.reference, "--dir", folder, "--enable-debug-command", "yes")
    with running(recipe) as server, server.client() as client:
        client.call("DEBUG", "POPULATE", bench.sizes.memory_keys, "key", _VALUE_BYTES)
        client.call("SAVE")
    return Path(folder) / "dump.rdb"


def cpu_s(recipe: Recipe, folder: str = ".") -> float:
    with running(with_flags(recipe, "--dir", folder)) as server:
        return time.clock_gettime_ns(processes.cpu_clock(server.pid)) / 1e9


def with_flags(recipe: Recipe, *flags: str) -> Recipe:
    return dataclasses.replace(recipe, argv=(*recipe.argv, *flags), has_metrics=False)


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for row in result["results"]:
        spent_s = statistics.median(row["cpu_s"])
        rows.append([row["server"], f"{spent_s:.2f}", f"{result['keys'] / spent_s:,.0f}"])
    title = f"loading a snapshot of {result['keys']} small keys, {result['size_bytes'] / 1e6:.0f} MB"
    return [Table(title, ["server", "CPU s", "keys per CPU s"], rows)]


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    per_million = [1e6 * spent_s / result["keys"] for spent_s in result["results"][1]["cpu_s"]]
    return [Verdict("CPU to load a million small keys", "s", 1e6 / LOADED_KEYS_MIN, median_interval(per_million))]
