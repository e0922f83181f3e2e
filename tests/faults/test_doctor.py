"""DOCTOR under a load: what is wrong is found within seconds, with who does it, and is gone when it was dealt with.

With KORA_LONG=1 (make faults) each fault is made twenty times, and must be found in time in nineteen; and ten minutes
of a healthy load, instead of ten seconds, must pass without a finding above info.
"""

import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import LONG
from tests.e2e.kora_process import KoraProcess
from tests.faults.ward import FAULTS, FOUND_S_MAX, Culprit, Fault, Ward

ROUNDS = 20 if LONG else 1
HEALTHY_S = 600 if LONG else 10


@pytest.fixture(scope="module")
def ward(shared_server: KoraProcess) -> Iterator[Ward]:
    ward = Ward(shared_server)
    try:
        yield ward
    finally:
        ward.close()


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """As that of kora_process, but looks less often: to look has its cost."""
    stop = time.monotonic() + 4 * FOUND_S_MAX
    while not (found := condition()):
        assert time.monotonic() < stop, f"not within {4 * FOUND_S_MAX:g} s: {what}"
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
        if finding["run_ends_it"]:
            gone(ward, fault)
    if not finding["run_ends_it"]:
        gone(ward, fault)
    return found_s


def gone(ward: Ward, fault: Fault) -> None:
    eventually(
        lambda: fault.finding not in [finding["id"] for finding in ward.findings()],
        f"{fault.finding} is gone",
    )


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.going_on.__name__)
def test_a_fault_is_found_with_its_culprit_and_goes_when_it_is_dealt_with(ward: Ward, fault: Fault) -> None:
    times = [diagnose(ward, fault) for _ in range(ROUNDS)]
    print(f"{fault.going_on.__name__}: found after", " ".join(f"{found_s:.1f}" for found_s in times), "s")
    if LONG:
        in_time = sum(found_s <= FOUND_S_MAX for found_s in times)
        assert in_time >= ROUNDS * 19 // 20, times


def test_a_healthy_load_has_no_finding_above_info(ward: Ward) -> None:
    # What was wrong before has gone, but its keys may still be on their way out.
    eventually(lambda: not severe(ward, 1), "the faults before are over")
    started = time.monotonic()
    while time.monotonic() - started < HEALTHY_S:
        elapsed_s = int(time.monotonic() - started)
        found = severe(ward, min(10, max(1, elapsed_s)))
        assert not found, found
        time.sleep(0.5)


def severe(ward: Ward, seconds: int) -> list[dict[str, object]]:
    return [finding for finding in ward.findings(seconds) if finding["severity"] != "info"]
