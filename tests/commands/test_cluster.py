"""CLUSTER of a server that is alone."""

import pytest

from kora.errors import CommandError
from kora.store.slots import slot_of


def error_of(run, *words):
    with pytest.raises(CommandError) as caught:
        run("CLUSTER", *words)
    return caught.value.message


@pytest.mark.parametrize(
    ("key", "slot"), [("123456789", 0x31C3), ("{a}b", 15495), ("a", 15495), ("{}a", slot_of(b"{}a")), ("", 0)]
)
def test_cluster_keyslot_is_that_of_redis_cluster(run, key, slot):
    assert run("CLUSTER", "KEYSLOT", key) == slot


def test_cluster_countkeysinslot_counts_keys_of_one_slot(run):
    for key in ("{a}1", "{a}2", "b"):
        run("SET", key, "v")
    assert run("CLUSTER", "COUNTKEYSINSLOT", slot_of(b"a")) == 2
    assert run("CLUSTER", "COUNTKEYSINSLOT", slot_of(b"b")) == 1
    assert run("CLUSTER", "COUNTKEYSINSLOT", 0) == 0


def test_cluster_getkeysinslot_shows_at_most_so_many_keys(run):
    for key in ("{a}1", "{a}2", "{a}3", "b"):
        run("SET", key, "v")
    slot = slot_of(b"a")
    assert sorted(run("CLUSTER", "GETKEYSINSLOT", slot, 10)) == [b"{a}1", b"{a}2", b"{a}3"]
    assert len(run("CLUSTER", "GETKEYSINSLOT", slot, 2)) == 2
    assert run("CLUSTER", "GETKEYSINSLOT", slot, 0) == []
    assert run("CLUSTER", "GETKEYSINSLOT", 0, 10) == []


def test_slots_are_those_of_database_0(run):
    run("SET", "a", "v")
    run("SELECT", "1")
    slot = slot_of(b"a")
    run("SET", "{a}1", "v")
    assert run("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    assert run("CLUSTER", "GETKEYSINSLOT", slot, 10) == [b"a"]


def test_cluster_info_says_that_there_is_no_cluster(run):
    lines = run("CLUSTER", "INFO").decode().split("\r\n")
    assert lines[:2] == ["cluster_enabled:0", "cluster_state:ok"]
    assert "cluster_slots_assigned:0" in lines
    assert lines[-1] == ""


def test_cluster_info_is_text_in_resp3(run):
    run("HELLO", "3")
    assert run("CLUSTER", "INFO").startswith(b"cluster_enabled:0\r\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("COUNTKEYSINSLOT", "-1"), "ERR Invalid slot"),
        (("COUNTKEYSINSLOT", "16384"), "ERR Invalid slot"),
        (("COUNTKEYSINSLOT", "x"), "ERR value is not an integer or out of range"),
        (("GETKEYSINSLOT", "-1", "1"), "ERR Invalid slot or number of keys"),
        (("GETKEYSINSLOT", "16384", "1"), "ERR Invalid slot or number of keys"),
        (("GETKEYSINSLOT", "0", "-1"), "ERR Invalid slot or number of keys"),
        (("GETKEYSINSLOT", "0", "x"), "ERR value is not an integer or out of range"),
        (("KEYSLOT",), "ERR wrong number of arguments for 'cluster|keyslot' command"),
        (("NODES",), "ERR This instance has cluster support disabled"),
        (("NOSUCH",), "ERR unknown subcommand 'NOSUCH'. Try CLUSTER HELP."),
    ],
)
def test_cluster_refuses_in_the_words_of_redis(run, words, message):
    assert error_of(run, *words) == message


def test_cluster_help_shows_what_there_is(run):
    lines = run("CLUSTER", "HELP")
    shown = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert shown == sorted(shown)
    assert {"COUNTKEYSINSLOT", "GETKEYSINSLOT", "HELP", "INFO", "KEYSLOT", "NODES"} <= set(shown)
