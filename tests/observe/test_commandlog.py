import pytest

from kora.observe.commandlog import CommandLog, cut_word, cut_words

pytestmark = pytest.mark.once


def make_log(entries_max: int = 3) -> CommandLog:
    log = CommandLog()
    log.set_max(entries_max)
    return log


def add(log: CommandLog, value: int) -> int:
    return log.add(1_700_000_000, value, [b"GET", b"k"], "127.0.0.1:5", b"").id


def test_the_newest_entry_is_first_and_the_oldest_goes():
    log = make_log()
    assert [add(log, value) for value in range(5)] == [0, 1, 2, 3, 4]
    assert [(entry.id, entry.value) for entry in log.entries] == [(4, 4), (3, 3), (2, 2)]
    log.set_max(1)
    assert [entry.id for entry in log.entries] == [4]


def test_ids_go_on_whatever_is_forgotten():
    log = make_log()
    add(log, 1)
    log.entries.clear()
    assert add(log, 9) == 1
    assert (log.recorded, log.last_value) == (2, 9)


def test_a_log_of_length_0_keeps_nothing():
    log = make_log(0)
    add(log, 1)
    assert not log.entries


def test_long_words_and_many_words_are_cut_as_in_redis():
    assert cut_word(b"x" * 128) == b"x" * 128
    assert cut_word(b"x" * 130) == b"x" * 128 + b"... (2 more bytes)"
    words = [b"%d" % number for number in range(40)]
    assert cut_words(words[:32], 32) == words[:32]
    assert cut_words(words[:32], 40) == [*words[:31], b"... (9 more arguments)"]
