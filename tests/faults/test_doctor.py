"""DOCTOR under a load: what is wrong is found within seconds, with who does it, and is gone when it was dealt with.

A second server has nothing but the load, for ten seconds at least, and must be found healthy all the time.  With
KORA_LONG=1 (make faults) each fault is made twenty times, and must be found in time in nineteen; and the healthy
server is looked at for ten minutes.
"""

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LONG
from tests.e2e import kora_process
from tests.e2e.kora_process import KoraProcess
from tests.faults.fault_layer import FaultLayer
from tests.faults.ward import FAULTS, FOUND_S_MAX, Checkup, Culprit, Fault, Ward

ROUNDS = 20 if LONG else 1
HEALTHY_S = 600 if LONG else 10


@pytest.fixture(scope="module")
def ward(shared_server: KoraProcess) -> Iterator[Ward]:
    ward = Ward(shared_server)
    try:
        yield ward
        for finding in ward.owed:
            gone(ward, finding)
    finally:
        ward.close()


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkup]:
    server = kora_process.start(tmp_path_factory.mktemp("healthy"))
    checkup = Checkup(Ward(server))
    try:
        yield checkup
    finally:
        checkup.close()
        server.stop()
    server.assert_healthy_log()


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 4 * FOUND_S_MAX) -> Any:
    """As that of kora_process, but looks less often: to look has its cost."""
    stop = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < stop, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.1)
    return found


def is_meant(finding: dict[str, object], fault: Fault, culprit: Culprit) -> bool:
    told = finding["culprit"]
    assert isinstance(told, dict)
    return (
        finding["id"] == fault.finding
        and finding["severity"] in fault.severities
        and all(
            wanted is None or told[name] == wanted
            for name, wanted in (("command", culprit.command), ("key", culprit.key), ("client", culprit.client))
        )
    )


def diagnose(ward: Ward, fault: Fault) -> float:
    """Have a fault go on until it is found and dealt with; returns after how many seconds it was on top."""
    with fault.going_on(ward) as culprit:
        started = time.monotonic()

        def top() -> dict[str, object] | None:
            found = ward.findings()
            return found[0] if found and is_meant(found[0], fault, culprit) else None

        try:
            finding = eventually(top, f"{fault.finding} on top, by {culprit}")
        except AssertionError as error:
            raise AssertionError(f"{error}; found instead: {ward.findings()}") from None
        found_s = time.monotonic() - started
        assert finding["evidence"]["numbers"] and finding["why"] and finding["verify"]
        reply = ward.run(*shlex.split(finding["run"]))
        assert not isinstance(reply, Exception), (finding["run"], reply)
        # A setting must end it although what made it goes on; a client that was killed is gone.
        if finding["run_ends_it"] and "CONFIG SET" in finding["run"]:
            gone(ward, fault.finding)
    # The next fault is made meanwhile.
    for earlier in ward.owed:
        gone(ward, earlier)
    ward.owed = [fault.finding]
    if LONG:
        gone(ward, fault.finding)
    return found_s


def gone(ward: Ward, finding: str) -> None:
    eventually(lambda: finding not in [found["id"] for found in ward.findings()], f"{finding} is gone")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.going_on.__name__)
def test_a_fault_is_found_with_its_culprit_and_goes_when_it_is_dealt_with(
    ward: Ward, healthy: Checkup, fault: Fault
) -> None:
    times = [diagnose(ward, fault) for _ in range(ROUNDS)]
    print(f"{fault.going_on.__name__}: found after", " ".join(f"{found_s:.1f}" for found_s in times), "s")
    if LONG:
        in_time = sum(found_s <= FOUND_S_MAX for found_s in times)
        assert in_time >= ROUNDS * 19 // 20, times


def test_a_slow_disk_is_found_by_what_waits_for_it(start_server: Callable[..., KoraProcess], tmp_path: Path) -> None:
    layer = FaultLayer(tmp_path / "disk")
    flags = ("--dir", str(layer.data), "--appendonly", "yes", "--appendfsync", "always")
    ward = Ward(start_server(*flags, environ=layer.environ))
    try:
        assert layer.was_loaded()
        layer.control.sync_delay_us = 150_000
        finding = eventually(lambda: (ward.findings() or [None])[0], "something is found")
        assert (finding["id"], finding["severity"]) == ("slow-disk", "warning")
        assert finding["evidence"]["text"].startswith("aof-fsync-always took ")
        assert finding["run"] == "CONFIG SET appendfsync everysec"
        assert ward.run(*finding["run"].split()) == b"OK"
        # The disk is as slow as it was, and whatever waits for it now is still told.
        eventually(
            lambda: not any("aof-fsync-always" in found["evidence"]["text"] for found in ward.findings()), "gone"
        )
        layer.control.sync_delay_us = 0
        gone(ward, "slow-disk")
    finally:
        layer.control.sync_delay_us = 0
        ward.close()


def test_a_healthy_load_has_no_finding_above_info(healthy: Checkup) -> None:
    eventually(lambda: healthy.looks >= HEALTHY_S, f"{HEALTHY_S} looks, one a second", HEALTHY_S * 1.5 + 20)
    assert not healthy.found, healthy.found
