"""Recovery: what is loaded at the start, what is shown meanwhile, and when there is to be no start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kora.engine.engine import Engine
from kora.observe.board import LOADED_BYTES, LOADING_BYTES
from kora.persist import loading
from kora.persist.journal import JournalKeeper
from kora.persist.loading import Steps
from kora.persist.recovery import CannotRecover, recover
from kora.persist.saving import Saver

from .rdb_files import everything, module_id, rdb_file, string, text

MakeEngine = Callable[..., Engine]


@pytest.fixture
def make(make_engine: MakeEngine, tmp_path: Path) -> Callable[[], tuple[Engine, list[tuple[Any, ...]]]]:
    """Engines that find their files in the test's folder, each with what it logs."""

    def make_one() -> tuple[Engine, list[tuple[Any, ...]]]:
        engine = make_engine("--dir", str(tmp_path))
        logged: list[tuple[Any, ...]] = []
        engine.log = lambda level, message, **fields: logged.append((level, message, fields))
        return engine, logged

    return make_one


def recovering(engine: Engine) -> Steps[None]:
    return recover(engine, JournalKeeper(engine, Saver(engine)))


def test_without_a_snapshot_there_is_nothing_to_do(make: Any) -> None:
    engine, logged = make()
    assert list(recovering(engine)) == []
    assert (engine.loading, logged) == (None, [])


def test_a_snapshot_is_loaded_and_told_in_the_log(make: Any, tmp_path: Path) -> None:
    data = everything()
    (tmp_path / "dump.rdb").write_bytes(data)
    engine, logged = make()
    list(recovering(engine))
    assert (engine.keys, engine.loaded_keys, engine.loaded_expired) == (52, 52, 0)
    (_, begin, fields), (level, end, report) = logged
    assert (begin, fields["size_bytes"]) == ("loading the snapshot", len(data))
    assert (level, end, report["keys"], report["writer"]) == ("info", "snapshot loaded", 52, "7.2.4")


def test_while_it_goes_on_everybody_can_see_how_far_it_is(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = everything()
    (tmp_path / "dump.rdb").write_bytes(data)
    engine, _ = make()
    monkeypatch.setattr(loading, "TURN_NS", 0)
    monkeypatch.setattr(loading, "_STEP_BYTES", 1)
    seen = []
    for _ in recovering(engine):
        assert engine.loading is not None
        assert engine.gated
        words = engine.board.words
        seen.append(words[LOADED_BYTES])
        assert words[LOADING_BYTES] == len(data)
        assert engine.changes == 0
    assert len(seen) > 50
    assert seen == sorted(seen)
    assert engine.loading is None
    assert not engine.gated
    assert engine.board.words[LOADING_BYTES] == 0


def test_with_a_damaged_snapshot_there_is_no_start(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(everything()[:-100])
    engine, _ = make()
    with pytest.raises(CannotRecover, match=f"at byte .*: the file ends too early.*`kora check {path}`"):
        list(recovering(engine))
    assert engine.loading is not None, "until it ends, nobody is to be served what there is"


def test_a_snapshot_that_cannot_be_read_is_no_reason_to_start_without_it(make: Any, tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").mkdir()
    with pytest.raises(CannotRecover, match="cannot be read: Is a directory"):
        list(recovering(make()[0]))


def test_what_was_left_out_is_warned_of(make: Any, tmp_path: Path) -> None:
    module = b"\7" + string(b"m") + module_id("ReJSON-RL") + b"\0"
    (tmp_path / "dump.rdb").write_bytes(rdb_file(b"\2" + string(b"k") + b"\0", module, text(b"a", b"1")) + b"more")
    engine, logged = make()
    engine.config.set([("rdb-modules", "skip")])
    list(recovering(engine))
    assert [message for level, message, _ in logged if level == "warning"] == [
        "keys without elements were not loaded",
        "data of a module was not loaded",
        "bytes behind the end of the snapshot were not read",
    ]
