"""The contract of /metrics on a process under load, beside what INFO and redis_exporter say."""

import base64
import gzip
import json
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.conftest import LONG
from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.redis_exporter import Exporter, Series

Start = Callable[..., KoraProcess]

# Its numbers begin again with the process that they are about.
_OWN: Final = ("kora_sidecar_", "redis_exporter_", "redis_up")
# What a scrape of redis_exporter itself runs, or what time changes.
_ITS_COMMANDS: Final = re.compile(r"client\||info|config\||latency\||slowlog\||commandlog\||command\|")
_MOVING: Final = re.compile(
    r"redis_(uptime|cpu_|net_|memory_used_rss|mem_fragmentation|mem_clients|client_recent|commands_processed|"
    r"connections_received|connected_clients|db_avg_ttl|last_slow|start_time)"
)


def scrape(server: KoraProcess, path: str = "/metrics") -> Series:
    status, text = server.http(path)
    assert status == 200
    return read(text)


def read(text: str) -> Series:
    found = {}
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            match = re.fullmatch(r"(\w+)(?:{(.*?)})? (\S+)", line)
            assert match, line
            name, labels, value = match.groups()
            found[name, tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))] = float(value)
    return found


def types(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def load(server: KoraProcess) -> None:
    """A bit of everything, which leaves entries in all logs and some errors."""
    with server.connect() as wire:
        wire.run("CONFIG", "SET", "latency-monitor-threshold", "1", "slowlog-log-slower-than", "2000")
        wire.run("DEBUG", "SLEEP", "0.003")
        # That is enough: what tests run on a busy machine is not to be one of them.
        wire.run("CONFIG", "SET", "latency-monitor-threshold", "60000", "slowlog-log-slower-than", "60000000")
        for number in range(50):
            wire.pipeline(
                ("SET", f"k{number}", "v" * number, "EX", "1000"),
                ("GET", f"k{number}"),
                ("GET", "missing"),
                ("LPUSH", "list", number),
                ("HSET", "hash", number, number),
                ("INCR", "list"),
                ("NO-SUCH-COMMAND",),
            )
        wire.pipeline(("SELECT", "3"), ("SET", "other", "1"), ("CLIENT", "ID"), ("GET",))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KoraProcess]:
    """A server behind load(), on which tests run nothing else that they count."""
    server = kora_process.start(tmp_path_factory.mktemp("loaded"), "--shards", "3", metrics=True)
    try:
        load(server)
        yield server
    finally:
        server.stop()
    server.assert_healthy_log()


def test_an_unmodified_redis_exporter_reads_the_server_and_finds_what_the_page_has(loaded: KoraProcess) -> None:
    server = loaded
    with server.connect() as wire:
        found = Exporter(wire).scrape()
        status, text = server.http("/metrics")
    assert status == 200
    page, declared = read(text), types(text)
    assert found.sent[:7] == [
        ("CLIENT", "SETNAME", "redis_exporter"),
        ("INFO", "ALL"),
        ("CONFIG", "GET", "*"),
        ("LATENCY", "LATEST"),
        ("LATENCY", "HISTOGRAM"),
        ("SLOWLOG", "LEN"),
        ("SLOWLOG", "GET", "1"),
    ]
    assert {name: declared.get(name) for name in found.types} == found.types
    own = {key for key in page if key[0].startswith("redis_") and not key[0].startswith(_OWN)}
    expected = {key for key in found.series if not key[0].startswith(_OWN)}
    started = {("redis_start_time_seconds", ())}
    assert own - expected - started == {key for key in own - expected if _is_its(key)} | set()
    assert expected - own == set()
    compared = {key for key in expected if not _MOVING.match(key[0]) and not _is_its(key)}
    assert len(compared) > 150
    differing = {key: (found.series[key], page[key]) for key in compared if found.series[key] != page[key]}
    assert differing == {}


def _is_its(key: tuple[str, Any]) -> bool:
    return any(name == "cmd" and _ITS_COMMANDS.match(value) for name, value in key[1])


def test_numbers_are_those_of_info_and_shards_add_up(loaded: KoraProcess) -> None:
    server = loaded
    info = dict(line.split(":", 1) for line in server.run("INFO", "ALL").decode().split("\r\n") if ":" in line)
    page = {name: value for (name, labels), value in scrape(server).items() if not labels}
    for name, field in {
        "kora_keys_total": None,
        "kora_keyspace_hits_total": "keyspace_hits",
        "kora_keyspace_misses_total": "keyspace_misses",
        "kora_memory_used_bytes": "used_memory",
        "kora_maxmemory_bytes": "maxmemory",
        "kora_changes_total": "rdb_changes_since_last_save",
    }.items():
        assert page[name] == (53 if field is None else float(info[field])), name
    every = scrape(server)
    for name, total in (("kora_shard_keys", "kora_keys_total"), ("kora_shard_memory_bytes", "kora_memory_used_bytes")):
        shards = [value for (found, _), value in every.items() if found == name]
        assert len(shards) == 3
        assert sum(shards) == page[total]
    for command, calls in (("get", 100), ("set", 51), ("lpush", 50)):
        stats = info[f"cmdstat_{command}"]
        assert f"calls={calls}," in stats
        labels = (("cmd", command),)
        assert every["kora_commands_total", labels] == every["redis_commands_total", labels] == calls
        assert every["kora_command_duration_seconds_count", labels] == calls
        assert every["kora_command_duration_seconds_bucket", (*labels, ("le", "+Inf"))] == calls
        usec = int(re.search(r"usec=(\d+)", stats)[1])  # type: ignore[index]
        assert int(every["kora_command_duration_seconds_sum", labels] * 1e6) in (usec, usec + 1)


def test_counters_never_fall_under_load_and_when_the_sidecar_is_started_again(start_server: Start) -> None:
    server = start_server(metrics=True)
    server.may_log_errors = True
    load(server)
    stopping = threading.Event()

    def work() -> None:
        with server.connect() as wire:
            while not stopping.is_set():
                wire.pipeline(*(("INCR", "n"), ("GET", "n"), ("GET", "n", "n"), ("DEL", "x")) * 5)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        kinds = types(server.http("/metrics")[1])
        growing = {name for name, kind in kinds.items() if kind in ("counter", "histogram")}
        before: Series = {}
        for number in range(100):
            if number == 50:
                _restart_sidecar(server)
            after = scrape(server)
            for key, value in before.items():
                name = re.sub("_(bucket|sum|count)$", "", key[0])
                if (name in growing or key[0] in growing) and not key[0].startswith(_OWN):
                    assert after[key] >= value, (number, key)
            before = after
    finally:
        stopping.set()
        thread.join()
    assert before["kora_commands_total", (("cmd", "incr"),)] > 1000


def test_names_that_clients_make_up_leave_series_and_memory_as_they_are(loaded: KoraProcess) -> None:
    server = loaded
    names = [os.urandom(12).hex() for _ in range(100_000 if LONG else 10_000)]
    with server.connect(timeout_s=60) as wire:

        def run_all(*words: str) -> None:
            for start in range(0, len(names), 1_000):
                wire.pipeline(*((*words, name) for name in names[start : start + 1_000]))

        # Once what this leaves in any case is there: logs that are full, histograms of these commands.
        wire.pipeline(*(("CLIENT", "SETNAME", name) for name in names[:1_000]), *((name,) for name in names[:1_000]))
        before, memory_bytes = scrape(server), server.rss_bytes
        run_all("CLIENT", "SETNAME")
        run_all()
        errors = "kora_errors_total", (("prefix", "ERR"),)
        # A scrape may be told what was counted for somebody else who asked a little before.
        eventually(lambda: scrape(server)[errors] - before[errors] == len(names), "all errors are counted")
        after = scrape(server)
        grown_bytes = server.rss_bytes - memory_bytes
    assert {key[0] for key in after} == {key[0] for key in before}
    assert len(after) - len(before) < 20, "steps of redis_commands_latencies_usec, and no more"
    assert grown_bytes < 8 << 20


def _restart_sidecar(server: KoraProcess) -> None:
    pid = server.sidecar_pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.sidecar_pid not in (0, pid), "another sidecar")
    eventually(lambda: _answers(server), "it listens")


def _answers(server: KoraProcess) -> bool:
    try:
        return server.http("/health/live")[0] == 200
    except OSError:
        return False


@pytest.mark.once
def test_what_scrapers_ask_for_they_get(loaded: KoraProcess) -> None:
    server = loaded

    def get(path: str, **headers: str) -> tuple[bytes, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{server.metrics_port}{path}", headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            return answer.read(), answer.headers

    packed, headers = get("/metrics", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    plain, headers = get("/metrics", **{"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in headers
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert read(gzip.decompress(packed).decode()).keys() <= read(plain.decode()).keys()
    assert len(packed) < len(plain) / 4
    alias, _ = get("/scrape?target=redis://localhost:6379")
    assert types(alias.decode()) == types(plain.decode())
    some, _ = get("/metrics?name[]=redis_up&name%5B%5D=kora_keys_total&name[]=nothing")
    assert types(some.decode()) == {"redis_up": "gauge", "kora_keys_total": "gauge"}


@pytest.mark.once
def test_with_a_token_everything_but_health_wants_it(start_server: Start) -> None:
    server = start_server("--metrics-token", "s3cret", metrics=True)

    def get(path: str, token: str) -> int:
        url = f"http://127.0.0.1:{server.metrics_port}{path}"
        request = urllib.request.Request(url, headers={"Authorization": token} if token else {})
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 401:
                    assert error.headers["WWW-Authenticate"].startswith("Bearer")
                    assert json.load(error)["error"] == "unauthorized"
                return error.code

    for path in ("/metrics", "/scrape", "/status", "/", "/dashboard", "/history", "/no-such-page"):
        assert [get(path, token) for token in ("", "Bearer wrong", "Basic s3cret", "Bearer ", "Bearer")] == [401] * 5
        browsers = "Basic " + base64.b64encode(b"anybody:s3cret").decode()
        assert [get(path, token) for token in ("Bearer s3cret", browsers)] == [404 if "no-such" in path else 200] * 2
    for path in ("/health", "/healthz", "/health/live", "/health/ready"):
        assert get(path, "") == 200
    assert server.run("CONFIG", "SET", "metrics-token", "") == b"OK"
    eventually(lambda: get("/metrics", "") == 200, "no token is asked for any more")
