"""SORT and SORT_RO, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.errors import CommandError
from kora.types.hash import Hash
from kora.types.set import Set
from kora.types.sorted_set import SortedSet

NOT_NUMBERS = "ERR One or more scores can't be converted into double"
SYNTAX = "ERR syntax error"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.fixture
def fails(run):
    def error_of(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return error_of


@pytest.fixture
def put(client):
    """put("h", Hash, f="v"), put("s", Set, "a", "b"), put("z", SortedSet, a=1): values that other families make."""

    def put(key, kind, *members, **pairs):
        value = client.db.make(kind)
        for member in members:
            value.add(member.encode())
        for name, content in pairs.items():
            if kind is Hash:
                value.set(name.encode(), content.encode())
            else:
                value.add(name.encode(), float(content))
        client.db.updated(key.encode(), value)
        return value

    return put


def joined(reply):
    return b" ".join(b"-" if element is None else element for element in reply).decode()


def test_sort_takes_elements_for_numbers(run):
    run("RPUSH", "l", "10", "9", "1e1", "-1.5", "+3", "0x10", "inf", "-inf", "2")
    assert joined(run("SORT", "l")) == "-inf -1.5 2 +3 9 10 1e1 0x10 inf"
    assert joined(run("SORT", "l", "DESC")) == "inf 0x10 1e1 10 9 +3 2 -1.5 -inf"
    assert joined(run("SORT", "l", "DESC", "asc", "LIMIT", 1, 2)) == "-1.5 2"


@pytest.mark.parametrize("element", ["x", "1x", "1 ", "nan", " ", "1e400", "1e-400", "1,5", "--1", "0x", "1_0"])
def test_sort_refuses_elements_that_are_no_numbers(run, fails, element):
    run("RPUSH", "l", "1", element)
    assert fails("SORT", "l") == fails("SORT", "l", "STORE", "to") == NOT_NUMBERS
    assert run("EXISTS", "to") == 0
    assert len(run("SORT", "l", "ALPHA")) == 2


def test_spaces_before_a_number_and_nothing_at_all_are_numbers(run):
    run("RPUSH", "l", "1", "", " -1", "\t2", ".5", "5.", "0x.8p1")
    assert run("SORT", "l") == [b" -1", b"", b".5", b"0x.8p1", b"1", b"\t2", b"5."]


def test_sort_alpha_compares_bytes(run):
    run("RPUSH", "l", "b", "B", "a", b"\xff", "", "10", "9")
    assert run("SORT", "l", "ALPHA") == [b"", b"10", b"9", b"B", b"a", b"b", b"\xff"]
    assert run("SORT", "l", "ALPHA", "DESC", "LIMIT", 0, 2) == [b"\xff", b"b"]


def test_sort_by_weights_in_other_keys(run):
    run("RPUSH", "l", "a", "b", "c", "d")
    run("MSET", "w_a", 3, "w_b", 1, "w_c", 2)
    assert joined(run("SORT", "l", "BY", "w_*")) == "d b c a"
    assert joined(run("SORT", "l", "BY", "w_*", "DESC", "LIMIT", 1, 2)) == "c b"
    run("MSET", "w_a", "x", "w_b", "y")
    assert joined(run("SORT", "l", "BY", "w_*", "ALPHA")) == "d c a b"


def test_a_weight_that_is_no_number_is_an_error_and_one_of_another_type_is_none(run, fails):
    run("RPUSH", "l", "a", "b")
    run("SET", "w_a", "x")
    assert fails("SORT", "l", "BY", "w_*") == NOT_NUMBERS
    run("DEL", "w_a")
    run("RPUSH", "w_a", 5)
    run("SET", "w_b", -1)
    assert joined(run("SORT", "l", "BY", "w_*")) == "b a"


def test_elements_of_equal_weight_are_in_the_order_of_their_texts(run):
    run("RPUSH", "l", "b", "c", "a", "1", "1.0")
    run("SET", "w_1", "-1")
    assert joined(run("SORT", "l", "BY", "w_*")) == "1 1.0 a b c"
    assert joined(run("SORT", "l", "BY", "w_*", "DESC")) == "c b a 1.0 1"


@pytest.mark.parametrize(
    "words", [("BY", "nosort"), ("BY", ""), ("BY", "nosort", "BY", "*"), ("BY", "#"), ("ALPHA", "BY", "x")]
)
def test_by_without_a_star_leaves_the_order(run, words):
    run("RPUSH", "l", "b", "c", "a", "d")
    assert joined(run("SORT", "l", *words)) == "b c a d"
    assert joined(run("SORT", "l", *words, "LIMIT", 1, 2)) == "c a"
    assert joined(run("SORT", "l", *words, "DESC")) == "d a c b"
    assert joined(run("SORT", "l", *words, "LIMIT", 0, 1, "DESC")) == "d"
    assert joined(run("SORT", "l", *words, "LIMIT", 9, 1, "DESC")) == ""


def test_get_looks_up_keys_and_fields(run, put):
    run("RPUSH", "l", "1", "2", "3")
    run("MSET", "s_1", "one", "s_2", "two")
    put("h_1", Hash, name="eins", size="9")
    put("h_3", Hash, name="drei", size="8")
    assert joined(run("SORT", "l", "GET", "s_*")) == "one two -"
    assert joined(run("SORT", "l", "GET", "#", "GET", "s_*", "GET", "h_*->name")) == "1 one eins 2 two - 3 - drei"
    assert joined(run("SORT", "l", "BY", "h_*->size", "GET", "#", "LIMIT", 0, 2)) == "2 3"
    # A field of what is no hash, a hash that is no string, a pattern without a star, and a field without a name.
    assert joined(run("SORT", "l", "GET", "s_*->name", "LIMIT", 0, 1)) == "-"
    assert joined(run("SORT", "l", "GET", "h_*", "GET", "constant", "GET", "h_*->no", "LIMIT", 0, 1)) == "- - -"
    run("SET", "s_1->", "arrow")
    assert joined(run("SORT", "l", "GET", "s_*->", "LIMIT", 0, 1)) == "arrow"
    run("SET", "s_1_*", "second star")
    assert joined(run("SORT", "l", "GET", "s_*_*", "LIMIT", 0, 1)) == "second star"


def test_get_does_not_see_a_field_whose_time_is_over(run, put, clock):
    value = put("h_1", Hash, name="eins", other="x")
    value.expire(b"name", clock.wall_ms() + 10)
    run("RPUSH", "l", "1")
    assert joined(run("SORT", "l", "GET", "h_*->name")) == "eins"
    clock.advance_ms(11)
    assert joined(run("SORT", "l", "GET", "h_*->name", "GET", "h_*->other")) == "- x"


def test_sets_and_sorted_sets_are_sorted_too(run, put):
    put("s", Set, "3", "1", "10", "2")
    put("z", SortedSet, a=3, c=1, b=2)
    assert joined(run("SORT", "s")) == "1 2 3 10"
    assert joined(run("SORT", "s", "ALPHA", "DESC")) == "3 2 10 1"
    assert sorted(run("SORT", "s", "BY", "nosort")) == [b"1", b"10", b"2", b"3"]
    assert joined(run("SORT", "z", "ALPHA")) == "a b c"
    assert joined(run("SORT", "z", "BY", "nosort")) == "c b a"
    assert joined(run("SORT", "z", "BY", "nosort", "DESC", "LIMIT", 0, 2)) == "a b"
    assert run("TYPE", "z") == "zset"


def test_store_puts_a_list_in_place_of_whatever_is_there(run):
    run("RPUSH", "l", "3", "1", "2")
    run("SET", "to", "x", "EX", 100)
    assert run("SORT", "l", "STORE", "to") == 3
    assert joined(run("LRANGE", "to", 0, -1)) == "1 2 3"
    assert run("TTL", "to") == -1
    assert run("SORT", "l", "STORE", "l", "DESC", "GET", "#", "GET", "no_*") == 6
    assert joined(run("LRANGE", "l", 0, -1)) == "3  2  1 "


def test_store_of_nothing_removes_what_is_there(run):
    run("SET", "to", "x")
    assert run("SORT", "no", "STORE", "to") == 0
    assert run("EXISTS", "to") == 0


def test_a_set_is_stored_in_the_order_of_its_texts(run, put):
    put("s", Set, "c", "a", "b")
    assert run("SORT", "s", "BY", "nosort", "STORE", "to") == 3
    assert joined(run("LRANGE", "to", 0, -1)) == "a b c"


@pytest.mark.parametrize(
    ("start", "count", "found"),
    [(0, 2, "1 2"), (-5, 2, "1 2"), (2, 9, "3"), (3, 1, ""), (0, 0, ""), (1, -1, "2 3"), ((1 << 63) - 1, 5, "")],
)
def test_limit_is_content_with_any_numbers(run, start, count, found):
    run("RPUSH", "l", "2", "3", "1")
    assert joined(run("SORT", "l", "LIMIT", start, count)) == found


@pytest.mark.parametrize(
    "words",
    [("FOO",), ("BY",), ("LIMIT", 1), ("GET",), ("STORE",), ("ALPHA", "x"), ("LIMIT", 0, 1, 2), ("",)],
)
def test_sort_refuses_what_it_does_not_understand(run, fails, words):
    run("SET", "l", "of another type, which nobody has looked at yet")
    assert fails("SORT", "l", *words) == SYNTAX
    assert fails("SORT", "l", "LIMIT", "x", 1) == "ERR value is not an integer or out of range"
    assert fails("SORT", "l") == fails("SORT_RO", "l") == WRONG_TYPE


def test_sort_ro_does_not_store(run, fails):
    run("RPUSH", "l", "2", "1")
    assert joined(run("SORT_RO", "l", "DESC", "GET", "#")) == "2 1"
    assert fails("SORT_RO", "l", "STORE", "to") == SYNTAX


def test_sort_of_no_key_is_empty(run):
    assert run("SORT", "no") == run("SORT_RO", "no", "ALPHA") == []


def test_the_key_that_is_stored_at_is_known_beforehand(run):
    assert run("COMMAND", "GETKEYS", "SORT", "l", "BY", "store", "STORE", "to") == [b"l", b"to"]
    assert run("COMMAND", "GETKEYS", "SORT", "l", "BY", "w_*", "GET", "d_*") == [b"l"]


def test_notifications_of_storing(run, client):
    told = []
    client.db.notify = lambda event, key: told.append(b"%b %b" % (event, key))
    run("RPUSH", "l", "1")
    run("SORT", "l", "STORE", "to")
    run("SORT", "no", "STORE", "to")
    run("SORT", "no", "STORE", "to")
    assert told == [b"rpush l", b"sortstore to", b"del to"]


def test_sorting_many_elements_is_quick_and_right(run):
    numbers = [number * 7919 % 100_003 for number in range(20_000)]
    for start in range(0, len(numbers), 1_000):
        run("RPUSH", "l", *numbers[start : start + 1_000])
    assert run("SORT", "l") == [b"%d" % number for number in sorted(numbers)]
    assert run("SORT", "l", "LIMIT", 5, 2, "DESC") == [b"%d" % number for number in sorted(numbers)[-6:-8:-1]]
