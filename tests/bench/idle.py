"""Resident memory per idle connection: right after connecting, and after each was used once and left alone.

Memory of the kernel's sockets is not the server's and is not in it.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import processes
from load_children import child, hold
from redis_client import ServerError
from section import Bench, Table
from servers import CLIENTS_MAX, Recipe, running


def measure(bench: Bench) -> dict[str, Any]:
    return {"results": [connect(bench, recipe) for recipe in bench.recipes]}


def connect(bench: Bench, recipe: Recipe) -> dict[str, Any]:
    with running(recipe) as server:
        with server.client() as client, contextlib.suppress(ServerError):
            client.call("CONFIG", "SET", "maxclients", CLIENTS_MAX)
        bench.progress(f"idle: {bench.sizes.idle_connections} connections to {server.name}")
        processes.wait_until_calm(server.pid)
        rss = [sum(processes.rss_bytes(server.pid).values())]
        with child(hold, server.port, bench.sizes.idle_connections) as holder:
            for _ in ("opened", "used"):
                count = holder.receive(120)
                time.sleep(bench.sizes.idle_settle_s)  # Redis gives buffers back after 2 s of rest
                rss.append(sum(processes.rss_bytes(server.pid).values()))
                with server.client() as client:
                    counted = int(client.info("clients")["connected_clients"])
                holder.tell_to_go_on()
    assert counted == count + 1, (counted, count)
    return {
        "server": server.name,
        "connections": count,
        "rss_empty_bytes": rss[0],
        "opened_bytes_per_connection": (rss[1] - rss[0]) / count,
        "used_bytes_per_connection": (rss[2] - rss[0]) / count,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    rows = [
        [
            row["server"],
            row["connections"],
            f"{row['rss_empty_bytes'] / 1e6:.1f}",
            f"{row['opened_bytes_per_connection']:.0f}",
            f"{row['used_bytes_per_connection']:.0f}",
        ]
        for row in result["results"]
    ]
    header = ["server", "connections", "empty MB", "bytes each, opened", "bytes each, used once"]
    return [Table("idle connections", header, rows)]
