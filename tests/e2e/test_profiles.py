"""Profiles of a running server, read by `go tool pprof` and by `kora profile`."""

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kora.cli import operator
from kora.observe.profile import from_pprof
from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess, eventually
from tests.peers import peer

KEYS = 5_000


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KoraProcess]:
    kora = kora_process.start(tmp_path_factory.mktemp("kora"), "--debug-endpoints", "yes", metrics=True)
    try:
        kora.run("SETBIT", "bits", 8 * (1 << 20), 1)
        with kora.connect() as wire:
            wire.pipeline(*(("SET", f"user:{number:06}", "v" * 100) for number in range(KEYS)))
            wire.pipeline(*(("HSET", f"cart:{number:06}", "item", "x" * 50) for number in range(KEYS)))
        yield kora
    finally:
        kora.stop()
    kora.assert_healthy_log()


@contextlib.contextmanager
def load(server: KoraProcess, *words: object) -> Iterator[None]:
    """The same command again and again, by twenty."""
    is_over = threading.Event()

    def go_on() -> None:
        with server.connect() as wire:
            while not is_over.is_set():
                wire.pipeline(*[words] * 20)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def take(server: KoraProcess, file: Path, *flags: str) -> Path:
    url = f"http://127.0.0.1:{server.metrics_port}"
    assert operator.run(["profile", url, "-o", str(file), *flags]) == 0
    return file


def pprof(file: Path, *flags: str) -> list[str]:
    told = subprocess.run([peer("go"), "tool", "pprof", *flags, file], capture_output=True, text=True, check=True)
    return told.stdout.splitlines()


def top(file: Path) -> list[str]:
    """Names, those that have most by themselves first."""
    lines = pprof(file, "-top")
    start = next(place for place, line in enumerate(lines) if "flat%" in line) + 1
    return [line.split(None, 5)[5] for line in lines[start:]]


def test_pprof_names_the_function_that_a_load_spends_its_time_in(profiled: KoraProcess, tmp_path: Path) -> None:
    with load(profiled, "BITCOUNT", "bits"):
        file = take(profiled, tmp_path / "cpu.pb.gz", "--seconds", "1", "--flame", str(tmp_path / "cpu.svg"))
    assert re.search("count|bits|Keyspace.part", top(file)[0]), top(file)
    titles = ElementTree.parse(tmp_path / "cpu.svg").iter("{http://www.w3.org/2000/svg}title")
    assert any(re.search("count", title.text or "") for title in titles)
    # Nearly all of it is for the command, and told so.
    profile = from_pprof(file.read_bytes())
    labelled = sum(sample.values[0] for sample in profile.samples if sample.labels["command"] == "BITCOUNT")
    assert labelled >= 0.9 * sum(sample.values[0] for sample in profile.samples) > 0
    assert "BITCOUNT" in "".join(pprof(file, "-tags"))


def test_what_runs_in_python_is_told_with_its_stack(profiled: KoraProcess, tmp_path: Path) -> None:
    with load(profiled, "COMMAND"):
        file = take(profiled, tmp_path / "cpu.txt", "--seconds", "1", "--format", "collapsed", "--by", "command")
    stacks = [line.rpartition(" ")[0].split(";") for line in file.read_text().splitlines()]
    assert any(stack[:2] == ["COMMAND", "event loop"] and len(stack) > 3 for stack in stacks), stacks


def test_a_profile_of_memory_has_the_keys_by_database_type_and_prefix(profiled: KoraProcess, tmp_path: Path) -> None:
    file = take(profiled, tmp_path / "heap.pb.gz", "--heap")
    weights = {
        tuple(frame.name for frame in sample.stack): sample.values
        for sample in from_pprof(file.read_bytes()).samples
        if sample.stack[0].name == "keyspace"
    }
    assert {stack: count for stack, (count, _) in weights.items() if count} == {
        ("keyspace", "db0", "string", "bits*"): 1,
        ("keyspace", "db0", "string", "user:*"): KEYS,
        ("keyspace", "db0", "hash", "cart:*"): KEYS,
    }
    known = int(re.search(rb"used_memory:(\d+)", profiled.run("INFO", "memory"))[1])  # type: ignore[index]
    assert sum(size_bytes for _, size_bytes in weights.values()) == pytest.approx(known, rel=0.1)
    assert "user:*" in "".join(pprof(file, "-top"))


@pytest.mark.once
def test_the_child_that_counts_memory_keeps_no_connection_open(profiled: KoraProcess, tmp_path: Path) -> None:
    clients = [profiled.connect() for _ in range(20)]
    for client in clients:
        assert client.run("PING") == b"PONG"
    thread = threading.Thread(target=take, args=(profiled, tmp_path / "heap.pb.gz", "--heap"))
    thread.start()
    while thread.is_alive():
        with profiled.connect() as client:
            # The server hangs up, and the end is seen although a child was forked meanwhile.
            client.run("QUIT")
            assert client.read_to_end() == b""
    thread.join()
    assert all(client.run("PING") == b"PONG" for client in clients)
    eventually(lambda: len(kora_process._children(profiled.pid)) == 1, "only the sidecar is left")


@pytest.mark.once
def test_allocations_are_told_by_python_stack(profiled: KoraProcess, tmp_path: Path) -> None:
    with load(profiled, "CONFIG", "GET", "maxmemory"):
        file = take(profiled, tmp_path / "alloc.txt", "--alloc", "--seconds", "1", "--format", "collapsed")
    assert re.search(r";Engine\.tick[; ]", file.read_text())


@pytest.mark.once
def test_it_is_off_by_default_and_can_be_turned_on(start_server: Callable[..., KoraProcess], capsys) -> None:
    server = start_server(metrics=True)
    url = f"http://127.0.0.1:{server.metrics_port}"
    assert operator.run(["profile", url, "--heap"]) == 1
    assert capsys.readouterr().err.startswith("kora profile: profiles are off: ")
    server.run("CONFIG", "SET", "debug-endpoints", "yes")
    eventually(lambda: server.http("/debug/pprof/")[0] == 200, "profiles are on")
    # In the midst of a profile the sidecar dies, and the server stops as if there were none.
    thread = threading.Thread(target=operator.run, args=(["profile", url, "--seconds", "300"],))
    thread.start()
    eventually(lambda: 'kora_profile_running{kind="cpu"} 1.0' in server.http("/metrics")[1], "a profile is taken")
    server.may_log_errors = True
    os.kill(server.sidecar_pid, 9)
    thread.join()

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return server.http("/debug/pprof/")[0] == 200
        return False

    eventually(answers, "there is a sidecar again")
    assert server.http("/debug/pprof/profile?seconds=1&format=collapsed")[0] == 200


@pytest.mark.once
@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["nonsense"], "nonsense is no URL of a sidecar, such as http://127.0.0.1:9090"),
        (["http://127.0.0.1:1"], "http://127.0.0.1:1: Connection refused"),
    ],
)
def test_what_is_wrong_is_one_clear_line(flags: list[str], text: str, capsys) -> None:
    assert operator.run(["profile", *flags]) == 1
    assert capsys.readouterr().err == f"kora profile: {text}\n"
