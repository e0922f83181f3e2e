import pytest

from kora.engine.registry import Family, Registry
from kora.errors import CommandError
from tests.conftest import encode_request


def refused(run, *words):
    with pytest.raises(CommandError) as caught:
        run(*words)
    return caught.value.message


def as_dict(pairs):
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def test_command_alone_tells_of_all_commands(run):
    assert len(run("COMMAND")) == run("COMMAND", "COUNT")
    assert run("COMMAND") == run("COMMAND", "INFO")


def test_command_list_names_subcommands_as_well(run):
    names = run("COMMAND", "LIST")
    assert {b"get", b"config", b"config|get"} <= set(names)
    assert names == run("COMMAND", "LIST", "FILTERBY", "PATTERN", "*")
    assert sum(b"|" not in name for name in names) == run("COMMAND", "COUNT")


def test_command_alone_and_its_subcommands_are_counted_apart(run):
    run("COMMAND")
    run("COMMAND", "COUNT")
    text = run("INFO", "commandstats").decode()
    assert "cmdstat_command:calls=1," in text
    assert "cmdstat_command|count:calls=1," in text


def test_command_names_a_subcommand_that_it_does_not_know(run):
    assert refused(run, "COMMAND", "NOSUCH") == "ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP."


def test_command_info_of_get(run):
    [info] = run("COMMAND", "INFO", "GET")
    spec = [b"flags", ["RO", "access"], b"begin_search", [b"type", b"index", b"spec", [b"index", 1]]]
    spec += [b"find_keys", [b"type", b"range", b"spec", [b"lastkey", 0, b"keystep", 1, b"limit", 0]]]
    assert info == [b"get", 2, ["readonly", "fast"], 1, 1, 1, ["@read", "@string", "@fast"], [], [spec], []]


def test_command_info_has_null_for_what_is_no_command(run):
    found = run("COMMAND", "INFO", "nosuch", "config|nosuch", "get|nosuch", "Config|Get", "|", "")
    assert [None if info is None else info[0] for info in found] == [None, None, None, b"config|get", None, None]


def test_command_info_of_a_container_has_its_subcommands(run):
    [info] = run("COMMAND", "INFO", "config")
    assert info[:7] == [b"config", -2, [], 0, 0, 0, ["@slow"]]
    assert {b"config|get", b"config|set", b"config|help"} <= {subcommand[0] for subcommand in info[9]}


def test_command_info_has_sets_and_maps_in_resp3(client):
    client.set_protocol(3)
    reply = client.engine.execute(client, encode_request(("COMMAND", "INFO", "get")))
    assert reply.startswith(b"*1\r\n*10\r\n$3\r\nget\r\n:2\r\n~2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n~3\r\n")
    assert b"~1\r\n%3\r\n$5\r\nflags\r\n~2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n%2\r\n" in reply


def test_command_docs_tell_the_argument_tree(run):
    docs = as_dict(as_dict(run("COMMAND", "DOCS", "getex"))[b"getex"])
    assert docs[b"group"] == b"string"
    key, expiration = map(as_dict, docs[b"arguments"])
    assert key == {b"name": b"key", b"type": b"key", b"key_spec_index": 0}
    assert expiration[b"flags"] == ["optional"]
    assert as_dict(expiration[b"arguments"][0]) == {b"name": b"seconds", b"type": b"integer", b"token": b"EX"}


def test_command_docs_leave_out_what_is_no_command(run):
    assert run("COMMAND", "DOCS", "nosuch") == []
    assert list(as_dict(run("COMMAND", "DOCS", "nosuch", "CONFIG|GET"))) == [b"config|get"]


def test_command_docs_of_a_container_tell_of_its_subcommands(run):
    docs = as_dict(as_dict(run("COMMAND", "DOCS", "config"))[b"config"])
    assert b"config|get" in as_dict(docs[b"subcommands"])
    assert b"arguments" not in docs


def test_every_command_says_what_it_does_and_since_when(run):
    for name, pairs in as_dict(run("COMMAND", "DOCS")).items():
        command = as_dict(pairs)
        for docs in [command, *map(as_dict, as_dict(command.get(b"subcommands", [])).values())]:
            assert docs[b"summary"].endswith(b"."), name
            assert docs[b"since"].count(b".") == 2, name


def test_command_list_by_category_has_subcommands_too(run):
    names = run("COMMAND", "LIST", "FILTERBY", "ACLCAT", "ADMIN")
    assert {b"config|set", b"shutdown", b"debug"} <= set(names)
    assert b"get" not in names


def test_command_list_by_pattern(run):
    assert run("COMMAND", "LIST", "FILTERBY", "PATTERN", "GETR*") == [b"getrange"]
    assert b"config|get" in run("COMMAND", "LIST", "filterby", "pattern", "config|*")


def test_command_list_by_module_is_empty(run):
    assert run("COMMAND", "LIST", "FILTERBY", "MODULE", "json") == []


@pytest.mark.parametrize(
    "words", [("FILTERBY",), ("FILTERBY", "PATTERN"), ("FILTERBY", "NAME", "x"), ("BY", "PATTERN", "x")]
)
def test_command_list_knows_no_other_filter(run, words):
    assert refused(run, "COMMAND", "LIST", *words) == "ERR syntax error"


def test_command_getkeys(run):
    assert run("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
    assert run("COMMAND", "GETKEYS", "memory", "usage", "k") == [b"k"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nosuch", "x"), "ERR Invalid command specified"),
        (("config", "nosuch"), "ERR Invalid command specified"),
        (("config", "get", "x"), "ERR The command has no key arguments"),
        (("get", "a", "b"), "ERR Invalid number of arguments specified for command"),
        (("get",), "ERR wrong number of arguments for 'command|getkeys' command"),
    ],
)
def test_command_getkeys_refuses_a_request_without_keys(run, words, message):
    assert refused(run, "COMMAND", "GETKEYS", *words) == message


def test_command_getkeysandflags_tells_what_happens_to_each_key(run):
    assert run("COMMAND", "GETKEYSANDFLAGS", "MSETNX", "a", "1", "b", "2") == [
        [b"a", ["OW", "insert"]],
        [b"b", ["OW", "insert"]],
    ]


def test_set_reads_its_key_only_with_the_option_get(run):
    assert run("COMMAND", "GETKEYSANDFLAGS", "SET", "k", "v", "EX", "1") == [[b"k", ["OW", "update"]]]
    assert run("COMMAND", "GETKEYSANDFLAGS", "SET", "k", "v", "get") == [[b"k", ["RW", "access", "update"]]]


def test_a_container_without_a_handler_has_no_slot():
    family = Family("server")
    family.container("BOX", "Holds things.", since="1.0.0", help_since="1.0.0")
    registry = Registry([family])
    assert [command.name for command in registry.slots] == ["box|help"]
    with pytest.raises(CommandError, match="wrong number of arguments for 'box' command"):
        registry.find([b"BOX"])


def test_a_container_with_a_handler_runs_without_a_subcommand():
    family = Family("server")
    family.container("BOX", "Holds things.", since="1.0.0", help_since="1.0.0", handler=lambda client, argv: 7)
    registry = Registry([family])
    assert [command.name for command in registry.slots] == ["box", "box|help"]
    assert registry.find([b"box"]).arity == -1
    assert registry.find([b"box", b"HELP"]).name == "box|help"
