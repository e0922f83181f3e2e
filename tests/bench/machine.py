"""On what, with what and when a result was measured: without that its numbers mean nothing.

Nothing in it names the machine, so that results can be published.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from section import Bench
from servers import ROOT, Recipe, running


def description(bench: Bench) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "linux": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_before": os.getloadavg(),
        "redis_benchmark": output("redis-benchmark", "--version"),
        "kora_commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "versions": {recipe.name: version(recipe) for recipe in bench.recipes},
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def output(*argv: str) -> str:
    with contextlib.suppress(OSError):
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    return ""


def version(recipe: Recipe) -> str:
    """With the kernel that answers, which may be another than the one asked for: one that was not built, say."""
    with running(recipe) as server, server.client() as client:
        fields = client.info("server")
    if "kora_version" in fields:
        return f"{fields['kora_version']}, kernel: {fields.get('kernel', 'unknown')}"
    return fields.get("redis_version", "unknown")
