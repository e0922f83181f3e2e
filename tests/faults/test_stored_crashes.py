"""As tests/faults/test_crashes.py, where the data is in RocksDB: the same promises, kept by the log of batches.

`make crash` goes on from here by the hundred.
"""

from pathlib import Path

import pytest

from tests.faults.crashes import (
    NAMES,
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
from tests.faults.test_crashes import SYNC_DELAY_US

pytest.importorskip("rocksdict", reason="the extra `rocksdb` is not installed")


def test_always_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    trial = Trial(tmp_path, Subject("kora", STORED_ALWAYS), Promise.ANSWERED, seed=11, sync_delay_us=SYNC_DELAY_US)
    with trial:
        deaths = (
            Death(0.2, survival=Survival.NOTHING),
            Death(at_call=40, survival=Survival.SOME),
            Death(0.1, survival=Survival.FIRST, at_call_of_start=6),
        )
        assert sum(trial.round(death).answered for death in deaths) > 0


def test_everysec_loses_a_second_at_most(tmp_path: Path) -> None:
    trial = Trial(tmp_path, Subject("kora", STORED_EVERYSEC), Promise.BUT_A_SECOND, seed=12)
    with trial:
        trial.round(Death(0.1, work=b"DEBUG RELOAD"))
        trial.round(Death(2.0, survival=Survival.NOTHING))


def test_a_checkpoint_is_one_moment_and_lasts_once_it_is_told_of(tmp_path: Path) -> None:
    trial = Trial(tmp_path, Subject("kora", STORED_EVERYSEC), Promise.SNAPSHOT, seed=15, works=(b"BGSAVE",))
    with trial:
        # By the first of these calls it was told of, as by the last another is in the making.
        outcome = trial.round(Death(at_call=110, kinds=NAMES, survival=Survival.NOTHING, work=b"SAVE"))
        assert outcome.snapshots and outcome.found
        trial.round(Death(at_call=50, kinds=NAMES, survival=Survival.SOME, work=b"SAVE"))


@pytest.mark.once
def test_without_any_sync_a_power_cut_takes_what_came_last_and_this_is_noticed(tmp_path: Path) -> None:
    with Trial(tmp_path / "order", Subject("kora", STORED_NEVER), Promise.ORDER, seed=13) as trial:
        trial.round(Death(0.2, survival=Survival.FIRST))
    with (
        Trial(tmp_path / "all", Subject("kora", STORED_NEVER), Promise.ANSWERED, seed=14) as trial,
        pytest.raises(Lost, match="WRONG"),
    ):
        trial.round(Death(0.1, survival=Survival.NOTHING))
