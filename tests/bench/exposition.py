"""What a scrape of 200 active commands takes: in the data loop, and in the sidecar until the page is made.

    python tests/bench/exposition.py

CPU time, the least and the median of 30 scrapes; clients wait for the first only.  Durations are spread over five
powers of ten, so that histograms are as long as they get.
"""

import gzip
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kora import kernel
from kora.commands import make_registry
from kora.config import Config
from kora.engine import snapshot
from kora.engine.engine import Engine
from kora.engine.snapshot import Snapshot
from kora.observe.frame import Decoder, encode
from kora.observe.shared_counts import SharedCounts
from kora.server.feed import SHOWN
from kora.sidecar.exposition import View, render
from kora.sidecar.metrics import METRICS
from kora.sidecar.own_stats import OwnStats
from kora.sidecar.settings import Settings

COMMANDS = 200
CLIENTS = 50


def main() -> None:
    engine = Engine(Config(), make_registry(), kernel=kernel.load())
    fd = os.memfd_create("histograms")
    shared = SharedCounts(fd) if engine.implementation.share_histograms(fd) else None
    for number in range(CLIENTS):
        engine.connect(f"127.0.0.1:{number}")
    random = Random(1)
    for shard in engine.shards:
        for slot in range(COMMANDS):
            for _ in range(300):
                shard.stats.commands[slot].record(int(10 ** random.uniform(2.5, 7.5)))
    for rows in (engine.service.waits, engine.service.services):
        for slot in range(COMMANDS):
            for _ in range(300):
                rows[slot].record(int(10 ** random.uniform(2.5, 7.5)))
    settings = Settings(["127.0.0.1"], 9090, 1000, 1_700_000_000_000, config=Config().get(*SHOWN))
    own = OwnStats()
    frames: list[bytes] = []

    def data_loop() -> None:
        frames.clear()
        head = snapshot.take(engine, shards=[], packed=shared is not None)
        frames.extend(
            encode(["shard", 1, snapshot.copy_shard(shard, packed=shared is not None)]) for shard in engine.shards
        )
        frames.append(encode(["snapshot", 1, head.to_plain()]))

    def sidecar() -> bytes:
        *shards, last = Decoder().feed(b"".join(frames))
        taken = Snapshot.from_plain(last[2])
        for number, (_, _, values) in enumerate(shards):
            if shared is not None:
                values["commands"] = shared.rows(values["commands"], number)
            taken.shards.append(values)
        if shared is not None:
            taken.waits = shared.times(taken.waits, len(engine.shards))  # type: ignore[arg-type]
            taken.services = shared.times(taken.services, len(engine.shards) + 1)  # type: ignore[arg-type]
        return render(View(taken, 0, settings, own, 0), METRICS)

    print(f"{COMMANDS} commands, {len(engine.shards)} shards, {CLIENTS} clients, {engine.kernel}")
    show("data loop", data_loop)
    page = show("sidecar", sidecar)
    show("gzip", lambda: gzip.compress(page, compresslevel=1))
    series = sum(not line.startswith(b"#") for line in page.splitlines())
    print(f"page: {series} series, {len(page)} bytes; feed: {sum(map(len, frames))} bytes")


def show(name: str, work: Callable[[], bytes | None]) -> bytes:
    times_ms = []
    for _ in range(30):
        before_ns = time.thread_time_ns()
        result = work()
        times_ms.append((time.thread_time_ns() - before_ns) / 1e6)
    print(f"{name:10} least {min(times_ms):7.3f} ms, median {statistics.median(times_ms):7.3f} ms")
    return result or b""


if __name__ == "__main__":
    main()
