"""Node: BullMQ's queues, and the clients ioredis and node-redis with what is built on them."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

from tests import peers
from tests.e2e.applications.workers import application_environ
from tests.e2e.kora_process import KoraProcess

SCRIPTS: Final = Path(__file__).parent / "node"


def run_node(server: KoraProcess, script: str) -> Any:
    program, modules = peers.node()
    # No path of the developer's, whose other packages would be found as well.
    environ = {**application_environ(), "NODE_PATH": str(modules)}
    done = subprocess.run(
        [program, str(SCRIPTS / script), str(server.port)], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_bullmq_does_jobs_of_every_kind(server: KoraProcess) -> None:
    assert run_node(server, "bullmq.js") == {
        "counts": {"wait": 1, "prioritized": 2, "delayed": 0, "active": 0},
        "order": ["now", "soon", "late"],
        "sum": 5,
        "delayedState": "delayed",
        "delayed": 42,
        "flaky": "third time lucky",
        "attempts": 3,
        "hopeless": "failed: never",
        "failed": ["hopeless: never"],
        "report": "reported",
        "progress": 50,
        "logs": ["half way"],
        "twins": [2, 2],
        "schedulers": ["clock"],
        "removed": True,
        "flow": ["x", "y", "z"],
        "orphan": "active",
        "inherited": 11,
        "stalled": 1,
        "paused": [True, "waiting"],
        "resumed": 7,
        "rate": -2,
        "cleaned": True,
        "heard": ["active", "added", "completed", "delayed", "failed", "progress", "waiting"],
        "left": 0,
    }


def test_ioredis_and_node_redis_are_told_what_redis_tells_them(server: KoraProcess) -> None:
    told = run_node(server, "clients.js")
    assert told["ioredis"] == {
        "script": [2, 5],
        "pipeline": ["OK", "ERR value is not an integer or out of range", 10, "v"],
        "multi": [2, {"a": "1", "b": "two"}],
        "watched": None,
        "blocked": ["io:list", "item"],
        "stream": [["io:log", [["1-1", ["event", "login"]]]]],
        "zset": ["a", "1", "b", "2.5"],
        "buffer": b"changed".hex(),
        "scanned": 500,
        "receivers": 1,
        "heard": ["news.*", "news.today", "hello"],
        "auto": ["OK", 2, "2", "auto"],
    }
    for protocol in (2, 3):
        prefix = f"node-redis:{protocol}:"
        entries = {
            2: [{"name": f"{prefix}s", "messages": [{"id": "1-1", "message": {"event": "login"}}]}],
            3: {f"{prefix}s": [["1-1", ["event", "login"]]]},
        }
        expected = {
            "set": "OK",
            "hash": {"a": "1", "b": "2"},
            "fields": [1],
            "zset": [{"value": "a", "score": 1}, {"value": "b", "score": 2.5}],
            "multi": [1, 1, "1"],
            "popped": [{"key": f"{prefix}list", "element": "x"}, 2],
            "group": entries[protocol],
            "pending": {
                "pending": 1,
                "firstId": "1-1",
                "lastId": "1-1",
                "consumers": [{"name": "me", "deliveriesCounter": 1}],
            },
            "acked": 1,
            "places": ["Palermo", "Catania"],
            "fcall": 42,
            "scanned": [prefix + name for name in ("g", "h", "k", "list", "n", "s", "z")],
            "heard": "hello",
            "info": True,
            "list": True,
        }
        if protocol == 3:
            expected["cached"] = ["v", "v", True]
        assert told[f"resp{protocol}"] == expected
    assert told["sessions"] == {
        "user": "ann",
        "length": 2,
        "ids": ["a", "b"],
        "all": ["ann", "bob"],
        "gone": None,
        "left": 0,
    }
