"""DEBUG RELOAD: the data goes to a snapshot and comes back from it."""

from collections.abc import Callable
from typing import Any

import pytest

from kora.engine.engine import Engine
from kora.engine.loading import Loading
from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from tests.conftest import runner

Run = Callable[..., Any]


@pytest.fixture
def filled(run: Run) -> Run:
    run("SET", "a", "1", "PX", 100_000)
    run("RPUSH", "l", "x", "y")
    run("SELECT", 2)
    run("HSET", "h", "f", "v")
    run("HPEXPIRE", "h", 100_000, "FIELDS", 1, "f")
    return run


def test_what_is_reloaded_is_the_same(filled: Run, engine: Engine) -> None:
    digest, changes = filled("DEBUG", "DIGEST"), engine.changes
    assert filled("DEBUG", "RELOAD") == "OK"
    assert (filled("DEBUG", "DIGEST"), engine.changes) == (digest, changes)
    assert filled("HPTTL", "h", "FIELDS", 1, "f") == [100_000]


def test_without_saving_it_is_the_last_snapshot(filled: Run) -> None:
    filled("SAVE")
    filled("SET", "new", "1")
    filled("DEBUG", "RELOAD", "NOSAVE")
    assert filled("EXISTS", "new", "h") == 1


def test_without_flushing_keys_may_not_be_there_already_unless_they_are_merged(filled: Run) -> None:
    filled("SAVE")
    filled("HSET", "h", "f", "other")
    filled("SET", "new", "1")
    with pytest.raises(CommandError, match="Error trying to load the RDB dump, check server logs"):
        filled("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
    assert filled("DEBUG", "RELOAD", "nosave", "noflush", "merge") == "OK"
    assert (filled("HGET", "h", "f"), filled("GET", "new")) == (b"v", b"1")


def test_libraries_of_functions_come_back(filled: Run) -> None:
    pytest.importorskip("lupa")
    filled("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
    filled("DEBUG", "RELOAD")
    filled("DEBUG", "RELOAD", "NOFLUSH", "MERGE")
    assert filled("FCALL", "f", 0) == 7


def test_whoever_watches_a_key_learns_that_it_was_gone(filled: Run, engine: Engine) -> None:
    filled("WATCH", "h")
    runner(engine.connect("127.0.0.1:5"))("DEBUG", "RELOAD")
    filled("MULTI")
    assert filled("EXEC") is NULL_ARRAY


def test_nothing_is_reloaded_while_something_is_loaded(filled: Run, engine: Engine) -> None:
    engine.set_loading(Loading(engine.clock, 1))
    with pytest.raises(CommandError, match="LOADING"):
        filled("DEBUG", "RELOAD", "NOSAVE")
    engine.set_loading(None)
    assert filled("EXISTS", "h") == 1


def test_other_words_are_refused(run: Run) -> None:
    with pytest.raises(CommandError, match="ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options"):
        run("DEBUG", "RELOAD", "FOO")
    with pytest.raises(CommandError, match="Error trying to load"):
        run("DEBUG", "RELOAD", "NOSAVE")
