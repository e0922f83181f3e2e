"""From exec to the first PONG.  One start goes before, unmeasured: files in the page cache, byte code compiled."""

from __future__ import annotations

import statistics
from typing import Any

from section import Bench, Table
from servers import Recipe, running


def measure(bench: Bench) -> dict[str, Any]:
    times: list[list[float]] = [[], []]
    for turn in range(-1, bench.sizes.starts):
        bench.progress(f"start: {turn + 1}/{bench.sizes.starts}")
        for slot, recipe in enumerate(bench.recipes):
            elapsed_s = start_s(recipe)
            if turn >= 0:
                times[slot].append(elapsed_s)
    return {
        "results": [
            {"server": recipe.name, "start_s": statistics.median(taken), "starts_s": taken}
            for recipe, taken in zip(bench.recipes, times, strict=True)
        ]
    }


def start_s(recipe: Recipe) -> float:
    with running(recipe) as server:
        return server.start_s


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        [row["server"], *(f"{1000 * value(row['starts_s']):.0f}" for value in (statistics.median, min, max))]
        for row in result["results"]
    ]
    return [Table("start to serving", ["server", "median ms", "least ms", "most ms"], rows)]
