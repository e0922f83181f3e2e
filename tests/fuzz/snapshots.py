"""A fuzzer of the loading of snapshots: python tests/fuzz/snapshots.py --seconds 600 [--seed N].

Files with a few bytes flipped, left out, put in or cut, most of them sealed again so that the checksum does not tell.
The kernel and the reference must make the same of each, which is a refusal or the same keys; in no more time and memory
than a file of that size may take.  Needs only what Kora needs.
"""

import argparse
import faulthandler
import resource
import sys
import time
from pathlib import Path
from random import Random
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.persist.rdb_files import bent, everything, make_engine, outcome

_TELL_EVERY_S: Final = 30
# A file of a few KB may not take more than this, however long it says that its strings are.
_MEMORY_BYTES_MAX: Final = 2 << 30
_LOAD_S_MAX: Final = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long; 600 if not given")
    parser.add_argument("--seed", type=int, help="where chance begins; the time if not given")
    parser.add_argument("--case", type=int, help="only this one, of that seed")
    options = parser.parse_args()
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    seed = time.time_ns() if options.seed is None else options.seed
    data = everything()
    if options.case is not None:
        return 1 if is_different(data, seed, options.case) else 0
    print(f"seed {seed}, {options.seconds:g} s, {make_engine().kernel}", flush=True)
    started_s = told_s = time.monotonic()
    case = 0
    while (now_s := time.monotonic()) < started_s + options.seconds:
        if now_s > told_s + _TELL_EVERY_S:
            told_s = now_s
            print(f"{case} files, {case / (now_s - started_s):.0f}/s", flush=True)
        if is_different(data, seed, case):
            return 1
        case += 1
    print(f"{case} files, {case / (time.monotonic() - started_s):.0f}/s, no difference")
    return 0


def is_different(data: bytes, seed: int, case: int) -> bool:
    """Load one bent file twice; say so if that differs."""
    faulthandler.dump_traceback_later(_LOAD_S_MAX, exit=True)
    wrong = bent(data, Random(f"{seed} {case}"))
    fast, slow = outcome(wrong, fast=True), outcome(wrong, fast=False)
    faulthandler.cancel_dump_traceback_later()
    if fast == slow:
        return False
    print(f"--seed {seed} --case {case}\nkernel:    {str(fast)[:400]}\nreference: {str(slow)[:400]}")
    return True


if __name__ == "__main__":
    sys.exit(main())
