"""/debug/pprof/, with the test as the data process."""

import ctypes
import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from kora.observe.profile import from_pprof
from kora.sidecar.profiles import allocation_profile, cpu_profile, heap_profile
from kora.sidecar.symbols import Symbols
from tests.sidecar.data_process import Answer, DataProcess

pytestmark = pytest.mark.once

HEAP = {
    "keyspaces": [["db0", "string", "user:*", 10, 1000]],
    "objects": [["builtins", "dict", 3, 300]],
    "rest_bytes": 50,
    "fork_ns": 7,
}


@pytest.fixture(scope="module")
def profiled() -> Iterator[DataProcess]:
    """A sidecar that may be asked for profiles; tests leave it with none under way."""
    started = DataProcess()
    try:
        started.beat()
        assert started.start(debug_endpoints=True) == ["listening"]
        yield started
    finally:
        started.stop()


def asked(data_process: DataProcess, path: str) -> "tuple[Future[Answer], Any]":
    """An answer that is on its way, and what the data process is asked for it."""
    pool = ThreadPoolExecutor(1)
    answer = pool.submit(data_process.get, path)
    pool.shutdown(wait=False)
    return answer, data_process.receive()


def test_profiles_are_off_unless_debug_endpoints_says_otherwise(listening: DataProcess) -> None:
    for path in ("", "profile?seconds=1", "heap", "alloc"):
        answer = listening.get(f"/debug/pprof/{path}")
        assert answer.code == 403
        assert "debug-endpoints" in answer.json["error"]
    assert not listening.is_asked()
    # And they want the token like the rest.
    listening.send(["settings", listening.settings(debug_endpoints=True, metrics_token="secret")])
    while listening.get("/debug/pprof/").code == 403:
        pass
    assert listening.get("/debug/pprof/heap").code == 401


def test_the_index_lists_them(profiled: DataProcess) -> None:
    answer = profiled.get("/debug/pprof/")
    assert answer.code == 200
    assert all(f"/debug/pprof/{name} " in answer.body.decode() for name in ("profile", "heap", "alloc"))
    assert profiled.get("/debug/pprof/goroutine").code == 404


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("profile?seconds=0", "seconds"),
        ("profile?seconds=301", "seconds"),
        ("profile?seconds=1.5", "seconds"),
        ("profile?seconds=", "seconds"),
        ("profile?seconds=%D9%A1", "seconds"),
        ("profile?hz=0", "hz"),
        ("profile?hz=100000", "hz"),
        ("profile?hz=-1", "hz"),
        ("profile?by=key", "by"),
        ("profile?second=1", "second"),
        ("heap?format=text", "format"),
        ("heap?seconds=1", "seconds"),
        ("alloc?hz=1", "hz"),
    ],
)
def test_a_bad_parameter_is_named(profiled: DataProcess, path: str, name: str) -> None:
    answer = profiled.get(f"/debug/pprof/{path}")
    assert answer.code == 400
    assert answer.json["error"].startswith(f"{name} ")


def test_a_second_profile_is_refused_while_the_first_is_taken(profiled: DataProcess) -> None:
    first, message = asked(profiled, "/debug/pprof/profile?seconds=5&hz=50")
    assert message[0] == "profile"
    assert message[2:] == ["cpu", 5, 50]
    second = profiled.get("/debug/pprof/heap")
    assert second.code == 409
    assert "cpu" in second.json["error"]
    values = {"frames": [], "stacks": [[]], "samples": [["GET", 0, "GET", 0, 4]], "maps": []}
    profiled.send(["profile", message[1], {**values, "period_ns": 20_000_000, "elapsed_ns": 5_000_000_000}, ""])
    profile = from_pprof(first.result(20).body)
    assert profile.total == 80_000_000
    assert [frame.name for frame in profile.samples[0].stack] == ["event loop", "kernel GET"]
    heap, message = asked(profiled, "/debug/pprof/heap?format=collapsed")
    profiled.send(["profile", message[1], HEAP, ""])
    assert (
        heap.result(20).body
        == b"keyspace;db0;string;user:* 1000\nkeyspace;tables 50\nlive objects;builtins;builtins.dict 300\n"
    )


def test_what_cannot_be_had_is_told_with_its_reason(profiled: DataProcess) -> None:
    answer, message = asked(profiled, "/debug/pprof/heap")
    profiled.send(["profile", message[1], None, "Cannot allocate memory"])
    assert (answer.result(20).code, answer.result().json) == (503, {"error": "no profile: Cannot allocate memory"})


def test_nobody_is_kept_waiting_for_one_that_nobody_waits_for(profiled: DataProcess) -> None:
    with socket.create_connection(("127.0.0.1", profiled.port)) as client:
        client.sendall(b"GET /debug/pprof/profile?seconds=300 HTTP/1.1\r\nHost: h\r\n\r\n")
        number = profiled.receive()[1]
    assert profiled.receive() == ["profile-stop", number]
    profiled.send(["profile", number, None, "it was given up"])
    answer, message = asked(profiled, "/debug/pprof/heap?format=speedscope")
    profiled.send(["profile", message[1], HEAP, ""])
    assert json.loads(answer.result(20).body)["profiles"][1]["endValue"] == 1350


# From counts to profiles


def test_addresses_in_compiled_code_get_the_names_of_its_functions() -> None:
    with open("/proc/self/maps") as file:
        rows = [line.split() for line in file if "x" in line.split()[1]]
    symbols = Symbols(
        [
            [*(int(place, 16) for place in row[0].split("-")), int(row[2], 16), row[5] if len(row) > 5 else ""]
            for row in rows
        ]
    )
    address = ctypes.cast(ctypes.pythonapi.PyList_Sort, ctypes.c_void_p).value or 0
    assert symbols.find(address + 1).name == "PyList_Sort"
    assert symbols.find(1).name == "[unknown]"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the maps of Linux")
def test_a_file_that_is_none_gives_no_names(tmp_path: Any) -> None:
    file = tmp_path / "lib.so"
    file.write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 100)
    maps = [[4096, 8192, 0, str(file)], [8192, 12288, 0, str(tmp_path / "gone.so")]]
    assert Symbols(maps).find(5000) == ("[lib.so]", "lib.so")
    assert Symbols(maps).find(9000) == ("[gone.so]", "gone.so")


def test_stacks_go_from_the_loop_over_python_to_what_is_compiled() -> None:
    values = {
        "frames": [["Zset.add", "zset.py", 5, 7], ["zadd", "sorted_sets.py", 50, 55]],
        "stacks": [[], [0, 1]],
        "samples": [["ZADD", 1, "", 0, 2], ["(threads)", 0, "journal", 0, 1]],
        "maps": [],
        "period_ns": 10_000_000,
        "elapsed_ns": 1,
    }
    profile = cpu_profile(values)
    assert [[frame.name for frame in sample.stack] for sample in profile.samples] == [
        ["event loop", "zadd", "Zset.add"],
        ["threads", "journal"],
    ]
    assert [sample.labels for sample in profile.samples] == [{"command": "ZADD"}, {"command": "(threads)"}]


def test_memory_is_told_as_stacks() -> None:
    heap = heap_profile(HEAP)
    assert heap.units[-1] == ("inuse_space", "bytes")
    assert heap.samples[0].labels == {"database": "db0", "type": "string"}
    allocated = allocation_profile({"stacks": [[[["f", "a.py", 1, 2]], 3, 400], [[], 1, 5]]})
    assert [sample.stack[-1].name for sample in allocated.samples] == ["f", "others"]
