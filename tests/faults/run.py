"""Some hundred crashes: at moments of chance, in place of every call to the disk around a save, with power cuts.

    python tests/faults/run.py --kills 60 --server redis

Each trial has a folder and goes round by round; when one loses something, what was lost is printed, with the folder,
which is kept then.  Seeds make the same deaths, but not the same moments.
"""

import argparse
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Run as a script, `tests` is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.crashes import (
    ALWAYS,
    EVERYSEC,
    NAMES,
    SNAPSHOTS,
    STORED_ALWAYS,
    STORED_EVERYSEC,
    STORED_NEVER,
    Death,
    Lost,
    Promise,
    Subject,
    Trial,
)
from tests.faults.power_cut import Survival

# A folder is given up after so many rounds, since looking at what has gathered takes ever longer.
ROUNDS_MAX = 25
SYNC_DELAY_US = 300
# About how many calls a start has at most, and naming calls a while afterwards.
CALLS_OF_START = 12
STORED_CALLS_OF_START = 150
# redis-server names a new increment in its manifest before the directory is synced, so that it counts on an order.
SURVIVALS = {"kora": (None, *Survival), "redis": (None, Survival.NOTHING, Survival.FIRST)}
TRIALS = {
    "always": (ALWAYS, Promise.ANSWERED, (b"BGREWRITEAOF",)),
    "everysec": (EVERYSEC, Promise.BUT_A_SECOND, (b"BGREWRITEAOF",)),
    "stored-always": (STORED_ALWAYS, Promise.ANSWERED, (b"BGSAVE", b"DEBUG RELOAD")),
    "stored-everysec": (STORED_EVERYSEC, Promise.BUT_A_SECOND, (b"BGSAVE", b"DEBUG RELOAD")),
    "stored-no": (STORED_NEVER, Promise.ORDER, (b"BGSAVE", b"DEBUG RELOAD")),
    "stored-snapshots": (STORED_NEVER, Promise.SNAPSHOT, (b"BGSAVE", b"SAVE")),
    "snapshots": (SNAPSHOTS, Promise.SNAPSHOT, (b"BGSAVE", b"SAVE")),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="how many; 300 if not given")
    parser.add_argument("--server", choices=("kora", "redis"), default="kora")
    parser.add_argument("--trial", choices=tuple(TRIALS), help="only this kind; all in turn if not given")
    parser.add_argument("--seed", type=int, help="where chance begins; the time if not given")
    parser.add_argument("--quiet", action="store_true", help="no line for each kill")
    options = parser.parse_args()
    seed = time.time_ns() if options.seed is None else options.seed
    print(f"seed {seed}, {options.kills} kills of {options.server}", flush=True)
    kills = 0
    names = [name for name in TRIALS if options.server == "kora" or not name.startswith("stored")]
    for number in itertools.count():
        name = options.trial or names[number % len(names)]
        rounds = min(ROUNDS_MAX, options.kills - kills)
        if rounds <= 0:
            break
        folder = Path(tempfile.mkdtemp(prefix="kora-crashes-"))
        try:
            try_one(folder, options.server, name, f"{seed}-{number}", rounds, options.quiet)
        except Lost as lost:
            print(f"\nLOST in trial {number} of seed {seed} ({name}), what there is: {folder}\n{lost}")
            return 1
        shutil.rmtree(folder)
        kills += rounds
    print(f"{kills} kills, nothing lost that must be there, nothing there that must not be")
    return 0


def try_one(folder: Path, server: str, name: str, seed: str, rounds: int, quiet: bool) -> None:
    flags, promise, works = TRIALS[name]
    if server == "redis" and promise is Promise.BUT_A_SECOND:
        # It names the next increment in the manifest before the end of the last one is synced, and then refuses to
        # start when that end is torn.
        flags, works = (*flags, "--auto-aof-rewrite-percentage", "0"), (b"",)
    chance = random.Random(seed)
    with Trial(folder, Subject(server, flags), promise, seed=seed, works=works, sync_delay_us=SYNC_DELAY_US) as trial:
        calls = STORED_CALLS_OF_START if name.startswith("stored") else CALLS_OF_START
        for death in itertools.islice(deaths(chance, works, SURVIVALS[server], calls), rounds):
            outcome = trial.round(death)
            if not quiet:
                print(
                    f"{name}: {death}: {outcome.answered} answered, {outcome.found} found, {outcome.calls} calls, "
                    f"{outcome.rewrites} rewrites, {outcome.snapshots} snapshots {outcome.killed_in_place_of}",
                    flush=True,
                )


def deaths(
    chance: random.Random, works: tuple[bytes, ...], survivals: tuple[Survival | None, ...], calls_of_start: int
) -> Iterator[Death]:
    """Without end: at a moment, in place of any call, in place of one that changes names around a save."""
    while True:
        yield Death(chance.uniform(0.02, 0.4), survival=chance.choice(survivals))
        yield Death(1.0, chance.randint(1, 120), survival=chance.choice(survivals))
        for start in (0, chance.randint(1, calls_of_start)):
            yield Death(
                2.0,
                chance.randint(1, calls_of_start),
                NAMES,
                survival=chance.choice(survivals),
                at_call_of_start=start,
                work=chance.choice(works),
            )
        if chance.random() < 0.2:
            yield Death(chance.uniform(1.5, 3.0), survival=chance.choice(survivals[1:]))


if __name__ == "__main__":
    sys.exit(main())
