"""Kora and redis-server side by side on this machine: `make bench`, or `python tests/bench/bench.py --help`.

Sections: throughput, types_cpu, observation, large, latency, memory, types_memory, pause, snapshot, idle, scrape,
service, start, loading, journal, storage, events, tracing, audit; one module each, with `measure`, `tables` and, where
Kora promises something (targets.py), `verdicts`, which are the last table.
Tables go to standard output, progress to standard error, everything into a JSON file.  All traffic stays on loopback.
The exit code says whether all was measured, not whether targets were met.

`--both redis` lets redis-server play both parts: what then differs is the noise of the machine and the measurement.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final, NoReturn

import audit
import events
import idle
import journal
import large
import latency
import loading
import machine
import memory
import observation
import pause
import processes
import scrape
import service
import snapshot
import start
import storage
import throughput
import tracing
import types_cpu
import types_memory
from redis_benchmark import TESTS, TYPE_TESTS
from section import QUICK, STORAGE_PARTS, Bench, Sizes, Table
from servers import StartFailure, kora_recipe, redis_recipe
from targets import Verdict, verdict_table

SECTIONS: Final[dict[str, ModuleType]] = {
    "throughput": throughput,
    "types_cpu": types_cpu,
    "observation": observation,
    "large": large,
    "latency": latency,
    "memory": memory,
    "types_memory": types_memory,
    "pause": pause,
    "snapshot": snapshot,
    "idle": idle,
    "scrape": scrape,
    "service": service,
    "start": start,
    "loading": loading,
    "journal": journal,
    "storage": storage,
    "events": events,
    "tracing": tracing,
    "audit": audit,
}


def main() -> int:
    options = parsed(sys.argv[1:])
    # Every server and load generator is stopped by a `finally`; so each way to end us has to be an exception.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    processes.files_max()
    gc.freeze()
    bench = bench_from(options)
    try:
        report: dict[str, Any] = {"machine": machine.description(bench), "sizes": dataclasses.asdict(bench.sizes)}
    except StartFailure as failure:
        print(failure, file=sys.stderr)
        return 1
    print(machine_table(report["machine"]), flush=True)
    return measure_sections(bench, options.only, report, options.json)


def measure_sections(bench: Bench, names: tuple[str, ...], report: dict[str, Any], path: Path) -> int:
    """One after the other; the file is written after each, and a section that fails does not cost the others."""
    failed = 0
    verdicts: list[Verdict] = []
    for name in names:
        section = Section(name, bench, report, path)
        try:
            section.measure()
        except Exception as failure:  # shown, recorded, and the exit code says so
            failed = 1
            traceback.print_exc()
            section.fail(failure)
        finally:  # also where the rest is cut off
            verdicts += section.show()
            report["machine"]["load_after"] = os.getloadavg()
            report["targets"] = [verdict.as_json() for verdict in verdicts]
            path.write_text(json.dumps(report, indent=1) + "\n")
            if verdicts and sys.exc_info()[0] is not None:
                print(f"\n{verdict_table(verdicts)}", flush=True)
    if verdicts:
        print(f"\n{verdict_table(verdicts)}", flush=True)
    print(f"\nwritten: {path}", file=sys.stderr)
    return failed


class Section:
    """One section's part of the report, which grows while it is measured if the section keeps what it has."""

    def __init__(self, name: str, bench: Bench, report: dict[str, Any], path: Path) -> None:
        self._name = name
        self._module = SECTIONS[name]
        self._bench = dataclasses.replace(bench, keep=self._keep)
        self._report = report
        self._path = path
        self._failure = ""

    def measure(self) -> None:
        self._report[self._name] = self._module.measure(self._bench)

    def _keep(self, result: dict[str, Any]) -> None:
        self._report[self._name] = result
        self._path.write_text(json.dumps(self._report, indent=1) + "\n")

    def fail(self, failure: Exception) -> None:
        self._failure = f"{type(failure).__name__}: {failure}"

    def show(self) -> list[Verdict]:
        """Print tables of what there is; returns what it has kept of its promises."""
        result = self._report.get(self._name)
        verdicts: list[Verdict] = []
        if result is not None:
            for table in self._module.tables(result):
                print(f"\n{table}", flush=True)
            if hasattr(self._module, "verdicts"):
                verdicts = self._module.verdicts(result)
        if self._failure:
            self._report[self._name] = {**(result or {}), "failure": self._failure}
            print(f"\n== {self._name}: FAILED\n{self._failure}", flush=True)
        return verdicts


def end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def bench_from(options: argparse.Namespace) -> Bench:
    fields = {field.name for field in dataclasses.fields(Sizes)}
    given = {name: value for name, value in vars(options).items() if name in fields and value is not None}
    sizes = dataclasses.replace(QUICK if options.quick else Sizes(), **given)
    if options.both == "redis":
        return Bench(redis_recipe(), redis_recipe("redis-2"), sizes)
    return Bench(redis_recipe(), kora_recipe(tuple(options.kora_args.split()), options.kernel), sizes)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", type=names_in(tuple(SECTIONS)), default=tuple(SECTIONS), metavar="SECTION,…", help="default: all"
    )
    parser.add_argument("--quick", action="store_true", help="everything small, in some minutes; shows that it works")
    parser.add_argument(
        "--json", type=Path, default=Path("bench-results.json"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--both", choices=["redis"], help="no Kora: redis-server against itself")
    parser.add_argument("--kora-args", default="", metavar="FLAGS", help="more flags for Kora, in one argument")
    parser.add_argument(
        "--kernel",
        choices=["off"],
        help="KORA_KERNEL for Kora: what pure Python costs; default: as the environment says",
    )
    test_names = tuple(test.name for test in TESTS)
    parser.add_argument(
        "--tests",
        type=names_in(test_names),
        metavar="TEST,…",
        help=f"of throughput, or `all`; of {', '.join(test_names)}; default: {', '.join(Sizes.tests)}",
    )
    parser.add_argument("--pipelines", type=numbers, metavar="N,…", help="of throughput")
    parser.add_argument("--type-pipelines", type=numbers, metavar="N,…", help="of types_cpu")
    parser.add_argument(
        "--type-tests", type=names_in(TYPE_TESTS), metavar="TEST,…", help=f"of types_cpu; of {', '.join(TYPE_TESTS)}"
    )
    parser.add_argument("--type-rounds", type=count, metavar="N", help="of types_cpu, each a run of both servers")
    parser.add_argument("--small-keys", type=count, metavar="N", help="of types_memory, for each kind of value")
    parser.add_argument("--rounds", type=count, metavar="N", help="of throughput, each a run of both servers")
    parser.add_argument(
        "--seconds", type=seconds, dest="run_s", metavar="S", help="about how long a run of throughput takes"
    )
    parser.add_argument(
        "--pairs", type=pair_count, dest="observation_pairs", metavar="N", help="of observation off and on; at least 9"
    )
    parser.add_argument("--latency-rounds", type=count, metavar="N", help="each a run of both servers")
    parser.add_argument("--pause-keys", type=count, metavar="N")
    parser.add_argument("--pause-batch", type=count, metavar="N", help="SETs that the writer sends at once")
    parser.add_argument("--memory-keys", type=count, metavar="N")
    parser.add_argument("--connections", type=count, dest="idle_connections", metavar="N")
    parser.add_argument("--storage-keys", type=count, metavar="N", help="keys of 100 bytes on the disk")
    parser.add_argument(
        "--storage-parts",
        type=names_in(STORAGE_PARTS),
        metavar="PART,…",
        help=f"of storage; of {', '.join(STORAGE_PARTS)}; default: all",
    )
    parser.add_argument("--scrape-pairs", type=count, metavar="N", help="periods without and with")
    return parser.parse_args(arguments)


def names_in(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A reader of comma-separated names, or `all`; the answer has the order of `known`."""

    def read(text: str) -> tuple[str, ...]:
        spelled = {name.lower(): name for name in known}
        if text.strip().lower() == "all":
            return known
        wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
        for part in wanted:
            if part not in spelled:
                raise argparse.ArgumentTypeError(f"{part!r}: choose from {', '.join(known)}")
        return tuple(name for name in known if name.lower() in wanted)

    return read


def count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 50_000_000:
        raise argparse.ArgumentTypeError("between 1 and 50000000")
    return number


def pair_count(text: str) -> int:
    # Below nine pairs the interval of a median says little.
    if not 9 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("between 9 and 1000")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


def seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 60:
        raise argparse.ArgumentTypeError("between 0.05 and 60")
    return number


def machine_table(description: dict[str, Any]) -> Table:
    rows = [[name, value] for name, value in description.items() if not isinstance(value, dict)]
    rows += [[f"{name} version", value] for name, value in description["versions"].items()]
    width = max(len(str(value)) for _, value in rows)
    return Table("machine", ["", ""], [[name, str(value).ljust(width)] for name, value in rows])


if __name__ == "__main__":
    sys.exit(main())
