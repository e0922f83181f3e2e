"""Usage lines: what can be read off them."""

import pytest

from kora.commands import make_registry
from kora.engine.key_specs import KeyRange
from kora.engine.usage import parse

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("line", "arity", "ranges"),
    [
        ("PING [message]", -1, []),
        ("GET key", 2, [KeyRange(1, 1, 1)]),
        ("SET key value [condition=NX | XX] [GET]", -3, [KeyRange(1, 1, 1)]),
        ("MSET key value [key value ...]", -3, [KeyRange(1, -1, 2)]),
        ("DEL key [key ...]", -2, [KeyRange(1, -1, 1)]),
        ("RENAME key newkey", 3, [KeyRange(1, 1, 1), KeyRange(2, 2, 1)]),
        ("OBJECT ENCODING key", 3, [KeyRange(2, 2, 1)]),
        ("CLIENT REPLY <ON | OFF | SKIP>", 3, []),
        ("SCAN cursor:int [MATCH pattern:pattern] [COUNT count:int]", -2, []),
    ],
)
def test_arity_and_keys_follow_from_the_line(line, arity, ranges):
    usage = parse(line)
    assert usage.arity == arity
    assert usage.key_ranges() == ranges


def test_the_printed_line_is_the_one_of_the_manual():
    line = "SET key value [condition=NX | XX] [GET] [expiration=EX seconds:int | KEEPTTL]"
    assert str(parse(line)) == "SET key value [NX | XX] [GET] [EX seconds | KEEPTTL]"


def test_a_group_is_named_before_its_alternatives():
    *_, condition = parse("SET key value [condition=NX | XX]").arguments
    assert (condition.name, condition.kind, condition.optional) == ("condition", "oneof", True)
    assert [(argument.token, argument.kind) for argument in condition.arguments] == [
        ("NX", "pure-token"),
        ("XX", "pure-token"),
    ]


def test_what_follows_a_word_and_a_count_may_repeat():
    line = "HTTL key FIELDS numfields:int field [field ...]"
    assert str(parse(line)) == "HTTL key FIELDS numfields field [field ...]"
    assert parse(line).arity == -5
    *_, block = parse(line).arguments
    assert (block.token, block.optional, block.multiple) == ("FIELDS", False, False)
    assert [(argument.name, argument.multiple) for argument in block.arguments] == [
        ("numfields", False),
        ("field", True),
    ]


@pytest.mark.parametrize("line", ["GET key]", "SET key [NX", "CLIENT REPLY <ON | OFF"])
def test_a_line_that_is_not_of_the_grammar_is_refused(line):
    with pytest.raises(AssertionError):
        parse(line)


def test_every_declared_line_prints_as_it_would_be_parsed_again():
    for command in make_registry().slots:
        if command.name == "bitfield":
            continue  # as the manual has it, its line does not say which of the alternatives may be repeated
        again = parse(str(command.usage))
        assert (str(again), again.arity) == (str(command.usage), command.usage.arity), command.name


def test_names_are_given_to_words_and_signs_and_not_printed():
    usage = parse("XADD <trim=MAXLEN [operator=equal== | approximately=~] count> <id=any=* | id> data=DATA <a b>")
    trim, chosen, data = usage.arguments
    assert [argument.name for argument in trim.arguments] == ["maxlen", "operator", "count"]
    assert [(argument.name, argument.token) for argument in trim.arguments[1].arguments] == [
        ("equal", "="),
        ("approximately", "~"),
    ]
    assert [argument.name for argument in chosen.arguments] == ["any", "id"]
    assert (data.name, data.kind, data.token) == ("data", "block", "DATA")
    assert str(usage) == "XADD MAXLEN [= | ~] count <* | id> DATA a b"


def test_a_word_without_letters_is_a_choice_without_a_token():
    usage = parse('MIGRATE host <selector=key | empty=""> [COPY]')
    _, selector, _ = usage.arguments
    assert [(argument.name, argument.kind, argument.token) for argument in selector.arguments] == [
        ("key", "key", ""),
        ("empty", "pure-token", ""),
    ]
    assert (str(usage), usage.arity) == ('MIGRATE host <key | ""> [COPY]', -3)
