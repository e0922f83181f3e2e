"""A fuzzer of the kernel against the reference: python tests/fuzz/run.py --seconds 600 [--seed N].

Random programs and bent byte streams, in random pieces, through both engines of tests/fuzz/pair.py.  Where they differ
it makes the program shorter for as long as they still do, prints it, and exits with 1.  Needs only what Kora needs.
"""

import argparse
import faulthandler
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kora import kernel
from tests.fuzz.pair import CLIENTS, Action, Pair, Send, show
from tests.fuzz.programs import Chance, draw_flags, draw_pieces, draw_program, draw_stream

_TELL_EVERY_S = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long; 600 if not given")
    parser.add_argument("--seed", type=int, help="where chance begins; the time if not given")
    parser.add_argument("--case", type=int, help="only this one, of that seed")
    options = parser.parse_args()
    if kernel.load() is None:
        print(f"there is no kernel to fuzz: {kernel.why_not()}; make compile", file=sys.stderr)
        return 2
    # The line that fell, if the kernel brings the process down; the case is in the last line of progress.
    faulthandler.enable()
    seed = time.time_ns() if options.seed is None else options.seed
    if options.case is not None:
        return 1 if is_different(seed, options.case) else 0
    print(f"seed {seed}, {options.seconds:g} s", flush=True)
    started_s = told_s = time.monotonic()
    case = 0
    while (now_s := time.monotonic()) < started_s + options.seconds:
        if now_s > told_s + _TELL_EVERY_S:
            told_s = now_s
            print(f"{case} cases, {case / (now_s - started_s):.0f}/s", flush=True)
        if is_different(seed, case):
            return 1
        case += 1
    print(f"{case} cases, {case / (time.monotonic() - started_s):.0f}/s, no difference")
    return 0


def is_different(seed: int, case: int) -> bool:
    """Run one case; print it if the two engines differ."""
    source = Chance((seed, case))
    flags = draw_flags(source)
    if source.number(4):
        actions = draw_program(source)
    else:
        actions = [
            Send(source.number(CLIENTS), draw_pieces(source, draw_stream(source))) for _ in range(1 + source.number(4))
        ]
    fault = fault_of(flags, actions)
    if not fault:
        return False
    actions = shorten(flags, actions)
    print(f"\nDIFFERENCE in case {case} of seed {seed} (--seed {seed} --case {case})")
    print(fault_of(flags, actions))
    print(show(flags, actions), flush=True)
    return True


def fault_of(flags: tuple[str, ...], actions: list[Action]) -> str:
    try:
        return Pair(*flags).run(actions)
    except Exception as error:  # nothing may escape from execute()
        return f"escaped: {error!r}"


def shorten(flags: tuple[str, ...], actions: list[Action], tries_max: int = 2_000) -> list[Action]:
    """Leave out what the difference does not need: actions, pieces, requests."""
    found = True
    tries = 0
    while found:
        found = False
        for shorter in _shorter(actions):
            tries += 1
            if tries > tries_max:
                return actions
            if fault_of(flags, shorter):
                actions = shorter
                found = True
                break
    return actions


def _shorter(actions: list[Action]) -> Iterator[list[Action]]:
    for place in range(len(actions)):
        yield actions[:place] + actions[place + 1 :]
    for place, action in enumerate(actions):
        if not isinstance(action, Send):
            continue
        if len(action.chunks) > 1:
            yield [*actions[:place], Send(action.client, (b"".join(action.chunks),)), *actions[place + 1 :]]
        for at, chunk in enumerate(action.chunks):
            # Requests begin with *; without some of them the rest is most often still a program.
            starts = [start for start in range(len(chunk)) if chunk[start : start + 1] == b"*"]
            for start, stop in zip(starts, [*starts, len(chunk)][1:], strict=True):
                chunks = (*action.chunks[:at], chunk[:start] + chunk[stop:], *action.chunks[at + 1 :])
                yield [*actions[:place], Send(action.client, chunks), *actions[place + 1 :]]


if __name__ == "__main__":
    sys.exit(main())
