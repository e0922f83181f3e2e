"""Twenty crashes of a server under load: what it has answered is there, and in the order in which it was done.

`make crash` goes on from here by the hundred.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.faults.crashes import ALWAYS, EVERYSEC, NAMES, NEVER, SNAPSHOTS, Death, Lost, Promise, Subject, Trial
from tests.faults.power_cut import Survival

# A sync that takes its time: whoever does not wait for it is found out when the power is cut.
SYNC_DELAY_US: Final = 300

ALWAYS_DEATHS: Final = (
    Death(0.15),
    Death(0.1, survival=Survival.NOTHING),
    Death(at_call=9, survival=Survival.FIRST),
    Death(at_call=14, survival=Survival.SOME),
    Death(at_call=1, kinds=NAMES, work=b"BGREWRITEAOF"),
    *(
        Death(at_call=call, kinds=NAMES, survival=survival, work=b"BGREWRITEAOF")
        for call, survival in ((3, Survival.SOME), (5, Survival.NOTHING), (7, Survival.FIRST), (9, Survival.NOTHING))
    ),
    Death(0.05, at_call_of_start=4, survival=Survival.FIRST),
)
SNAPSHOT_DEATHS: Final = (
    Death(0.2, work=b"BGSAVE", survival=Survival.NOTHING),
    Death(at_call=2, kinds=NAMES, work=b"BGSAVE", survival=Survival.SOME),
    Death(at_call=3, kinds=NAMES, work=b"SAVE"),
    Death(at_call=3, work=b"BGSAVE", survival=Survival.FIRST),
    Death(0.1, work=b"SAVE", survival=Survival.NOTHING),
)


def test_always_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with Trial(tmp_path, Subject("kora", ALWAYS), Promise.ANSWERED, seed=1, sync_delay_us=SYNC_DELAY_US) as trial:
        assert sum(trial.round(death).answered for death in ALWAYS_DEATHS) > 0


def test_everysec_loses_a_second_at_most(tmp_path: Path) -> None:
    with Trial(tmp_path, Subject("kora", EVERYSEC), Promise.BUT_A_SECOND, seed=2, sync_delay_us=SYNC_DELAY_US) as trial:
        trial.round(Death(0.1))
        trial.round(Death(2.0, survival=Survival.NOTHING))
        trial.round(Death(at_call=3, kinds=NAMES, work=b"BGREWRITEAOF", survival=Survival.FIRST))


def test_a_snapshot_is_of_one_moment_and_replaces_the_last_one_wholly_or_not_at_all(tmp_path: Path) -> None:
    works = (b"BGSAVE", b"SAVE")
    with Trial(tmp_path, Subject("kora", SNAPSHOTS), Promise.SNAPSHOT, seed=3, works=works) as trial:
        for death in SNAPSHOT_DEATHS:
            trial.round(death)


@pytest.mark.once
def test_without_any_sync_a_power_cut_takes_what_came_last_and_this_is_noticed(tmp_path: Path) -> None:
    with Trial(tmp_path / "order", Subject("kora", NEVER), Promise.ORDER, seed=4) as trial:
        trial.round(Death(0.1, survival=Survival.FIRST))
    with (
        Trial(tmp_path / "all", Subject("kora", NEVER), Promise.ANSWERED, seed=5) as trial,
        pytest.raises(Lost, match="WRONG"),
    ):
        trial.round(Death(0.1, survival=Survival.NOTHING))
