"""The longest time that a server keeps a client waiting while another one inserts keys as fast as it can.

How the server's pauses are told apart from the machine's, which has few cores and neighbours:
- Writer and probes stay on the last CPU, the writer at low priority; the others are the server's.
- A probe knows how long the server's thread and itself were ready but without a CPU, and takes that off ("own").
- A second probe asks an idle redis-server at the same time: what it sees is not the server under test ("control").
  A probe is left out of "own" where the control's, at the same moment, took at least half as long, waiting for a CPU
  not counted: then the whole machine stood still (the hypervisor gave its CPUs to somebody else).
- The server is asked for its own longest loop turn (INFO stats, eventloop_lag_max_usec), where it has one.

A batch is executed in one turn, so part of a pause is what the writer asked for: `pause_batch` is in the result.
"""

from __future__ import annotations

from typing import Any, Final

import processes
from estimates import percentile
from load_children import Probes, Written, child, probe, write
from redis_client import ServerError
from section import Bench, Table
from servers import Recipe, Server, redis_recipe, running

LONG_NS: Final = 5_000_000
STALL_NS: Final = 1_000_000
LAG_FIELD: Final = "eventloop_lag_max_usec"


def measure(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    with running(redis_recipe("control")) as control:
        results = [insert(bench, recipe, control) for recipe in bench.recipes]
    return {"keys": sizes.pause_keys, "pause_batch": sizes.pause_batch, "results": results}


def insert(bench: Bench, recipe: Recipe, control: Server) -> dict[str, Any]:
    keys = bench.sizes.pause_keys
    with running(recipe) as server:
        bench.progress(f"pause: {keys} keys into {server.name}")
        processes.wait_until_calm(server.pid)
        reset_longest_turn(server)
        steal_before = processes.steal_ticks()
        with (
            child(probe, server.port, server.pid) as prober,
            child(probe, control.port, control.pid) as control_prober,
        ):
            prober.receive(30)
            control_prober.receive(30)
            with child(write, server.port, keys, bench.sizes.pause_batch, True) as writer:
                written: Written = writer.receive(60 + keys / 5_000)
            prober.tell_to_go_on()
            control_prober.tell_to_go_on()
            seen: Probes = prober.receive(60)
            control_seen: Probes = control_prober.receive(60)
        with server.client() as client:
            found = client.call("DBSIZE")
            longest_turn_us = client.info("stats").get(LAG_FIELD)
    assert found == keys, (found, keys)
    own = unshared(seen, control_seen)
    return {
        "server": server.name,
        "inserts_per_s": written.keys / written.elapsed_s,
        "probes": len(seen.round_trip_ns),
        "round_trip": spread(list(seen.round_trip_ns)),
        "own": spread(own),
        "shared_with_control": len(seen.own_ns) - len(own),
        "control": spread(list(control_seen.round_trip_ns)),
        "server_longest_turn_ms": float(longest_turn_us) / 1000 if longest_turn_us else None,
        "steal_ms": (processes.steal_ticks() - steal_before) * 10,
    }


def reset_longest_turn(server: Server) -> None:
    with server.client() as client:
        try:
            client.call("CONFIG", "RESETSTAT")
        except ServerError:
            return  # then the longest turn includes start-up


def unshared(seen: Probes, control: Probes) -> list[int]:
    """The own times of those probes during which the control did not stall as well."""
    stalls = [
        (start, start + elapsed, own)
        for start, elapsed, own in zip(control.started_ns, control.round_trip_ns, control.own_ns, strict=True)
        if own > STALL_NS
    ]
    own_ns = []
    for start, elapsed, own in zip(seen.started_ns, seen.round_trip_ns, seen.own_ns, strict=True):
        is_shared = own > STALL_NS and any(
            first < start + elapsed and start < last and 2 * stall > own for first, last, stall in stalls
        )
        if not is_shared:
            own_ns.append(own)
    return own_ns


def spread(times_ns: list[int]) -> dict[str, float]:
    ordered = sorted(times_ns)
    return {
        "p50_ms": percentile(ordered, 50) / 1e6,
        "p99_ms": percentile(ordered, 99) / 1e6,
        "p999_ms": percentile(ordered, 99.9) / 1e6,
        "max_ms": ordered[-1] / 1e6,
        "above_5ms": sum(time_ns > LONG_NS for time_ns in ordered),
    }


def tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for row in result["results"]:
        longest = row["server_longest_turn_ms"]
        cells = [row["server"], f"{row['inserts_per_s'] / 1000:.0f}", row["probes"], f"{row['own']['max_ms']:.2f}"]
        cells += [f"{row['own']['p999_ms']:.2f}", row["own"]["above_5ms"], row["shared_with_control"]]
        for kind in ("round_trip", "control"):
            cells.append(f"{row[kind]['max_ms']:.2f} / {row[kind]['p999_ms']:.2f}")
        rows.append([*cells, "-" if longest is None else f"{longest:.2f}"])
    header = ["server", "kinserts/s", "probes", "own max ms", "own p99.9", "> 5 ms", "shared"]
    header += ["raw max/p99.9 ms", "control max/p99.9 ms", "own longest turn ms"]
    notes = [
        "own: round trip without the time for which server or probe had no CPU; above 5 ms: of those.",
        "shared: left out of own, because the control stalled at the same moment.",
        "control: an idle redis-server, probed at the same time.",
        f"writer: {result['pause_batch']} SETs a batch, two batches under way.",
    ]
    return [Table(f"longest pause while inserting {result['keys']} keys", header, rows, notes)]
