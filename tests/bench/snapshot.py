"""What BGSAVE does to those who are served meanwhile: how long they wait, and what memory it takes beside the data.

A server is filled, and then reads and writes come to it on a timetable; a probe asks it for two things in turn, first
while nothing else goes on, then while a snapshot is written.  How the server's doing is told apart from the machine's
is said in pause.py.  redis-server forks for it: its pauses are those of fork() and of the pages that are copied then.
"""

from __future__ import annotations

import time
from typing import Any, Final

import processes
from load_children import Probes, Written, child, keep_pace, probe, write
from pause import spread, unshared
from section import Bench, Table
from servers import Recipe, Server, redis_recipe, running

WRITES_PER_S: Final = 10_000
IDLE_S: Final = 5.0
SAVE_S_MAX: Final = 300.0


def measure(bench: Bench) -> dict[str, Any]:
    with running(redis_recipe("control")) as control:
        results = [save(bench, recipe, control) for recipe in bench.recipes]
    return {"keys": bench.sizes.pause_keys, "commands_per_s": WRITES_PER_S, "results": results}


def save(bench: Bench, recipe: Recipe, control: Server) -> dict[str, Any]:
    keys = bench.sizes.pause_keys
    with running(recipe) as server:
        bench.progress(f"snapshot: {keys} keys into {server.name}")
        with child(write, server.port, keys, bench.sizes.pause_batch, False) as writer:
            written: Written = writer.receive(60 + keys / 5_000)
        assert written.keys == keys
        processes.wait_until_calm(server.pid)
        with child(keep_pace, server.port, keys, WRITES_PER_S) as pace, server.client() as client:
            rss_before = sum(processes.rss_bytes(server.pid).values())
            idle = probed(server, control, lambda _: time.sleep(IDLE_S))
            rss_most = [rss_before]

            def write_snapshot(started: float) -> None:
                client.call("BGSAVE")
                while client.info("persistence")["rdb_bgsave_in_progress"] == "1":
                    # Of all processes, and what a fork shares is counted twice: so what Redis takes is at most that.
                    rss_most.append(sum(processes.rss_bytes(server.pid).values()))
                    assert time.monotonic() - started < SAVE_S_MAX, "the snapshot is not done"
                    time.sleep(0.05)

            started = time.monotonic()
            saving = probed(server, control, write_snapshot)
            elapsed_s = time.monotonic() - started
            pace.tell_to_go_on()
            status = client.info("persistence")["rdb_last_bgsave_status"]
    assert status == "ok", status
    return {
        "server": server.name,
        "idle": idle,
        "saving": saving,
        "elapsed_s": elapsed_s,
        "rss_mb": rss_before / 1e6,
        "rss_more_percent": 100 * (max(rss_most) - rss_before) / rss_before,
    }


def probed(server: Server, control: Server, meanwhile: Any) -> dict[str, float]:
    with child(probe, server.port, server.pid) as prober, child(probe, control.port, control.pid) as control_prober:
        prober.receive(30)
        control_prober.receive(30)
        meanwhile(time.monotonic())
        prober.tell_to_go_on()
        control_prober.tell_to_go_on()
        seen: Probes = prober.receive(60)
        control_seen: Probes = control_prober.receive(60)
    return spread(unshared(seen, control_seen))


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for row in result["results"]:
        cells = [row["server"], f"{row['elapsed_s']:.1f}", f"{row['rss_more_percent']:.1f}"]
        for when in ("idle", "saving"):
            times = row[when]
            cells.append(f"{times['p50_ms']:.2f} / {times['p99_ms']:.2f} / {times['p999_ms']:.2f}")
            cells += [f"{times['max_ms']:.2f}", times["above_5ms"]]
        rows.append(cells)
    header = ["server", "s", "RSS more %"]
    for when in ("without", "with"):
        header += [f"{when}: p50/p99/p99.9 ms", "max", "> 5 ms"]
    notes = [
        f"beside {result['commands_per_s']} commands per second, half of them SETs; own times, as in pause.",
        "RSS: the most of all processes, less what it was before; of what a fork shares with its parent, twice.",
    ]
    return [Table(f"BGSAVE of {result['keys']} keys", header, rows, notes)]
