"""The activity board: what one process writes another reads, even while it is being written."""

import os
import threading

import pytest

from kora.observe.board import (
    CLIENT,
    COMMAND_STARTED,
    HEARTBEAT,
    KEY_MAX,
    READY,
    STATE,
    Board,
    address_text,
    command_text,
)

pytestmark = pytest.mark.once


def test_a_second_board_on_the_same_page_sees_what_the_first_writes() -> None:
    writer = Board.shared()
    reader = Board(os.dup(writer.fd))
    writer.words[STATE] = READY
    writer.words[HEARTBEAT] = 900
    writer.words[CLIENT] = 7
    writer.begin_command(950, command_text("keys"), address_text("127.0.0.1:5000"), b"user:\xff\x00" + b"x" * 100)
    activity = reader.read(1000)
    assert (activity.state, activity.heartbeat_age_ns, activity.client_id) == ("ready", 100, 7)
    assert (activity.command, activity.command_elapsed_ns, activity.address) == ("keys", 50, "127.0.0.1:5000")
    assert activity.key_prefix == (b"user:\xff\x00" + b"x" * 100)[:KEY_MAX].decode("utf-8", "replace")
    writer.end_command()
    activity = reader.read(1000)
    assert (activity.command, activity.command_elapsed_ns, activity.key_prefix, activity.address) == ("", 0, "", "")
    for board in (reader, writer):
        os.close(board.fd)
        board.close()


def test_a_shorter_text_leaves_nothing_of_the_longer_one_before() -> None:
    board = Board.shared()
    board.begin_command(1, command_text("config|rewrite"), address_text("x" * 100), b"k" * 100)
    board.begin_command(2, command_text("get"), address_text("u"), b"")
    activity = board.read(3)
    assert (activity.command, activity.address, activity.key_prefix) == ("get", "u", "")
    board.close()


def test_a_reader_never_sees_half_of_one_command_and_half_of_another() -> None:
    """A writer in a thread changes command, address and key together; what is read must belong together."""
    writer = Board.shared()
    reader = Board(os.dup(writer.fd))
    stop = threading.Event()
    commands = [(command_text(letter * 20), address_text(letter * 40), letter.encode() * 20) for letter in "abcdef"]

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            writer.begin_command(number, *commands[number % len(commands)])
            if number % 50 == 0:
                writer.end_command()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = set()
        for _ in range(20_000):
            activity = reader.read(1 << 60)
            letters = set(activity.command + activity.address + activity.key_prefix)
            assert len(letters) <= 1, activity
            assert not activity.command or len(activity.command) == len(activity.key_prefix) == 20, activity
            seen |= letters
    finally:
        stop.set()
        thread.join()
    assert seen, "nothing was ever read"
    for board in (reader, writer):
        os.close(board.fd)
        board.close()


class _TornWords:
    """Words of which the command's start changes at every look, as if the writer were always quicker."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    def __getitem__(self, place: int) -> int:
        if place == COMMAND_STARTED:
            self._words[place] += 1
        return int(self._words[place])

    def release(self) -> None:
        self._words.release()


def test_a_reader_that_never_gets_a_whole_command_says_that_none_is_running() -> None:
    board = Board.shared()
    board.begin_command(1, command_text("keys"), address_text("a"), b"k")
    board.words = _TornWords(board.words)  # type: ignore[assignment]
    activity = board.read(100)
    assert (activity.command, activity.key_prefix, activity.address, activity.command_elapsed_ns) == ("", "", "", 0)
    board.close()


def test_what_runs_is_shown_again_after_others_had_turns_in_the_middle_of_it() -> None:
    board = Board.shared()
    board.words[CLIENT] = 7
    board.begin_command(50, command_text("eval"), address_text("127.0.0.1:1"), b"key")
    saved = board.save()
    board.words[CLIENT] = 8
    board.begin_command(60, command_text("script|kill"), address_text("127.0.0.1:2"), b"")
    board.end_command()
    board.restore(saved)
    activity = board.read(100)
    assert (activity.command, activity.address, activity.key_prefix) == ("eval", "127.0.0.1:1", "key")
    assert (activity.client_id, activity.command_elapsed_ns) == (7, 50)
    board.close()
