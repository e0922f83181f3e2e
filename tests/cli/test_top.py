"""`kora top`: what it makes of two answers, what it prints, and its terminal, driven without one."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from kora.cli import operator
from kora.cli.top import text
from kora.cli.top_app import TopApp
from kora.cli.vitals import Reading, Vitals, compare, read
from tests.e2e.fixtures import launch_server, shared_server
from tests.e2e.kora_process import KoraProcess
from tests.peers import peer
from tests.ports import free_port

pytestmark = pytest.mark.once

__all__ = ["launch_server", "shared_server"]

NOW_S = 1_700_000_100

GOLDEN = """\
Kora 1.2.3, up 1 h   2.0k commands/s   50% of a core   hits 75.0%   errors 2/s
memory 1.0 MiB of 2.0 MiB (process 4.0 MiB)   1.5k keys   3 clients, 1 blocked   in 1.0 KiB/s   out 2.0 KiB/s   \
expired 1/s   evicted 0/s

Commands
  command  calls/s  of the time     mean  p99 ever  failed/s
  lrange        10        40.0%  40.0 ms   60.0 ms         0
  get         2.0k         0.2%   1.0 µs         -         2

Hot keys
  key   per s  of all  writes
  k·xé    500   25.0%     20%

Slow log
  id   ago    took  request          client
   7  40 s  1.20 s  LRANGE big 0 -1  importer

Latency events
  none

Clients
  not told by this server
"""


def reading(time_s: float, factor: int) -> Reading:
    """Answers after `factor` seconds of the same load."""
    return Reading(
        time_s=time_s,
        info={
            "kora_version": "1.2.3",
            "uptime_in_seconds": 3600,
            "total_commands_processed": 2010 * factor,
            "keyspace_hits": 3 * factor,
            "keyspace_misses": factor,
            "connected_clients": 3,
            "blocked_clients": 1,
            "db0": {"keys": 1000, "expires": 0},
            "db9": {"keys": 500, "expires": 0},
            "db0_distrib_strings_sizes": {"1": 2},
            "used_memory": 1 << 20,
            "used_memory_rss": 4 << 20,
            "maxmemory": 2 << 20,
            "total_net_input_bytes": 1024 * factor,
            "total_net_output_bytes": 2048 * factor,
            "expired_keys": factor,
            "evicted_keys": 0,
            "total_error_replies": 2 * factor,
            "used_cpu_user": 0.3 * factor,
            "used_cpu_sys": 0.2 * factor,
            "cmdstat_get": {"calls": 2000 * factor, "usec": 2000 * factor, "failed_calls": 2 * factor},
            "cmdstat_lrange": {"calls": 10 * factor, "usec": 400_000 * factor, "failed_calls": 0},
            "cmdstat_ping": {"calls": 5, "usec": 5, "failed_calls": 0},
            "latency_percentiles_usec_lrange": {"p50": 40_000.0, "p99": 60_000.0},
        },
        hot_keys={
            b"keys": [[b"key", "k\nxé".encode(), b"per-second", b"500", b"share", b"0.25", b"reads", 80, b"writes", 20]]
        },
        slow=[
            {
                "id": 7,
                "start_time": NOW_S - 40,
                "duration": 1_200_000,
                "command": b"LRANGE big 0 -1",
                "client_address": b"127.0.0.1:5",
                "client_name": b"importer",
            }
        ],
        events=[],
        clients=None,
    )


def test_what_happened_between_two_answers() -> None:
    vitals = compare(reading(10.0, 1), reading(11.0, 2))
    assert text(vitals, NOW_S) == GOLDEN


def test_counters_that_were_reset_have_grown_from_nothing() -> None:
    vitals = compare(reading(10.0, 5), reading(11.0, 1))
    assert vitals.commands_per_s == 2010
    assert {row.name: row.calls_per_s for row in vitals.commands} == {"get": 2000, "lrange": 10}


def screen(app: TopApp) -> str:
    """What the terminal shows, without colours."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def test_the_terminal_shows_tables_and_obeys_keys() -> None:
    readings = [reading(float(second), second) for second in range(2, 99)]

    async def drive() -> tuple[str, str]:
        app = TopApp(lambda: readings.pop(0), reading(1.0, 1), 0.02, lambda: NOW_S)
        async with app.run_test(size=(110, 20)) as pilot:
            while "lrange" not in (first := screen(app)):
                await pilot.pause(0.02)
            await pilot.press("p")
            left = len(readings)
            await pilot.press("right")  # the next table
            while "k·x" not in (second := screen(app)):
                await pilot.pause(0.02)
            assert len(readings) >= left - 1  # it was paused: at most a look that was under way
            await pilot.press("q")
        return first, second

    first, second = asyncio.run(drive())
    for line in GOLDEN.splitlines()[:1]:
        assert line in first
    assert "calls/s" in first and "40.0 ms" in first
    assert "500" in second and "25.0%" in second


def test_a_server_that_does_not_answer_is_said_so_and_the_terminal_goes_on() -> None:
    answers: list[Callable[[], Reading]] = [lambda: reading(2.0, 2)]

    def look() -> Reading:
        if answers:
            return answers.pop()()
        raise redis.ConnectionError("gone")

    async def drive() -> str:
        app = TopApp(look, reading(1.0, 1), 0.02, lambda: NOW_S)
        async with app.run_test(size=(110, 20)) as pilot:
            while "no answer" not in (shown := screen(app)):
                await pilot.pause(0.02)
        return shown

    shown = asyncio.run(drive())
    assert "no answer: gone" in shown
    assert "lrange" in shown


def test_it_reads_a_real_server(shared_server: KoraProcess, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"redis://127.0.0.1:{shared_server.port}"
    shared_server.run("SET", "k", "v" * 100_000)
    assert operator.run(["top", url, "--once", "--json", "--interval", "0.1"]) == 0
    vitals = json.loads(capfd.readouterr().out)
    assert set(vitals) == {field.name for field in dataclasses.fields(Vitals)}
    assert vitals["keys"] == 1
    info = dict(line.split(b":", 1) for line in shared_server.run("INFO", "memory").splitlines() if b":" in line)
    assert abs(vitals["used_bytes"] - int(info[b"used_memory"])) < 10_000
    assert vitals["server"].startswith("Kora ")
    assert all(vitals[name] is not None for name in ("hot_keys", "slow", "events", "client_rows"))
    assert operator.run(["top", url, "--once", "--interval", "0.1"]) == 0
    assert "Latency events" in capfd.readouterr().out


def test_it_reads_a_redis_as_far_as_that_tells(tmp_path: Path) -> None:
    port = free_port()
    words = [peer("redis-server"), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100))
        vitals = compare(read(client), read(client))
    finally:
        process.kill()
        process.wait()
    assert vitals.server.startswith("Redis ")
    assert vitals.hot_keys is None
    assert vitals.commands and vitals.client_rows


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["redis://127.0.0.1:1"], "Connection refused"),
        (["127.0.0.1:6379"], "redis://"),
        (["--interval", "0"], "between 0.1 and 3600"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    words: list[str], complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert operator.run(["top", "--once", *words]) != 0
    captured = capfd.readouterr()
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_without_its_packages_it_says_how_to_get_them() -> None:
    script = "import sys; sys.modules['redis'] = None; from kora.cli import operator; sys.exit(operator.run(['top']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "kora-server[top]" in done.stderr
