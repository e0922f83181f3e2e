"""Tables: a SplitTable behaves as a dict, and its cursor keeps SCAN's promise while parts split."""

import random

import pytest

from kora.store.table import PART_MAX, SplitTable, parts, random_key, scan

pytestmark = pytest.mark.once


def key(number: int) -> bytes:
    return b"key:%d" % number


def make(count: int) -> SplitTable:
    """A split table of so many keys, each with its number; at least PART_MAX + 1."""
    table = SplitTable({key(number): number for number in range(PART_MAX + 1)})
    for number in range(PART_MAX + 1, count):
        table[key(number)] = number
    return table


@pytest.fixture(scope="module")
def large() -> SplitTable:
    """For tests that only look."""
    return make(50_000)


def test_a_split_table_holds_what_was_put_in(large):
    assert len(large) == 50_000
    assert all(large[key(number)] == large.get(key(number)) == number for number in range(50_000))
    assert large.get(b"other") is None
    assert b"other" not in large
    assert key(49_999) in large
    with pytest.raises(KeyError):
        large[b"other"]


def test_no_part_is_larger_than_the_limit_and_none_is_listed_twice(large):
    listed = list(parts(large))
    assert all(len(part) <= PART_MAX for part in listed)
    assert len({id(part) for part in listed}) == len(listed)
    assert sum(map(len, listed)) == 50_000
    assert sorted(large) == sorted(map(key, range(50_000)))
    assert dict(large.items()) == {key(number): number for number in range(50_000)}


def test_overwriting_a_key_does_not_count_it_twice():
    table = make(PART_MAX + 1)
    table[key(1)] = "other"
    assert len(table) == PART_MAX + 1
    assert table[key(1)] == "other"


def test_pop_and_del_take_a_key_out():
    table = make(PART_MAX + 1)
    assert table.pop(key(1)) == 1
    assert table.pop(key(1)) is None
    assert table.pop(key(1), "default") == "default"
    del table[key(2)]
    with pytest.raises(KeyError):
        del table[key(2)]
    assert len(table) == PART_MAX - 1


def test_a_table_that_was_emptied_is_false_and_can_be_filled_again():
    table = make(10_000)
    for number in range(10_000):
        del table[key(number)]
    assert not table
    assert list(table) == []
    table[b"k"] = 1
    assert random_key(table) == b"k"


def test_random_program_against_a_dict():
    dice = random.Random(1)
    table, model = make(PART_MAX + 1), {key(number): number for number in range(PART_MAX + 1)}
    for step in range(60_000):
        name = key(dice.randrange(20_000))
        if dice.random() < 0.3:
            assert table.pop(name) == model.pop(name, None)
        else:
            table[name] = model[name] = step
    assert len(table) == len(model)
    assert dict(table.items()) == model


def test_a_scan_of_a_table_at_rest_gives_each_key_once(large):
    seen: list[bytes] = []
    cursor = 0
    while True:
        cursor, part = scan(large, cursor)
        assert len(part) <= PART_MAX
        seen += part
        if not cursor:
            break
    assert len(seen) == 50_000
    assert set(seen) == set(large)


def test_a_scan_gives_every_key_that_stays_while_parts_split():
    dice = random.Random(2)
    table = make(3 * PART_MAX)
    staying = set(table)
    parts_before = len(list(parts(table)))
    extra = 100_000
    seen: set[bytes] = set()
    cursor, steps = 0, 0
    while True:
        cursor, part = scan(table, cursor)
        seen.update(part)
        steps += 1
        if not cursor:
            break
        for _ in range(16_000 if steps == 1 else dice.randrange(200)):
            table[key(extra)] = extra
            extra += 1
    assert steps > parts_before, "the table did not split during the scan: insert more between steps"
    assert staying <= seen


def test_a_plain_dict_is_scanned_in_one_step():
    assert scan({b"k": 1}, 0) == (0, {b"k": 1})
    assert list(parts({b"k": 1})) == [{b"k": 1}]


def test_a_cursor_from_anywhere_is_taken(large):
    for cursor in (1, 12345, (1 << 50) - 1):
        following, part = scan(large, cursor)
        assert len(part) <= PART_MAX
        assert 0 <= following <= large._mask


def test_random_key_is_roughly_fair(large):
    draws = [int(random_key(large).split(b":")[1]) for _ in range(5_000)]
    assert len(set(draws)) > 4_000
    # Parts differ in size, but keys are spread over them by their hashes: each half of the numbers gets its share.
    assert 2_200 < sum(number < 25_000 for number in draws) < 2_800
