"""Lists as values, of every implementation: they do what a Python list does, and count what they take."""

from hypothesis import given
from hypothesis import strategies as st

from kora.types.limits import Limits
from kora.types.list import List
from tests.store.stores import TESTED, Store

VALUES = st.sampled_from((b"a", b"b", b"", b"12", b"-300", b"x" * 70, b"y" * 3000)) | st.binary(max_size=8)
INDEXES = st.integers(0, 1 << 20)


def elements_of(value):
    return value.slice(0, len(value))


def places_of(model, element, rank, count, max_len):
    """What find() is to answer, the slow way."""
    looked_at = list(range(len(model)) if rank > 0 else range(len(model) - 1, -1, -1))[: max_len or None]
    return [place for place in looked_at if model[place] == element][abs(rank) - 1 :][: count or None]


def removed_from(model, element, count):
    """What is left after remove()."""
    left = list(model) if count >= 0 else model[::-1]
    for _ in range(abs(count) or len(model)):
        if element not in left:
            break
        left.remove(element)
    return left if count >= 0 else left[::-1]


def apply(value, model, step):
    """One operation on a value and on the Python list that is its model; replies must agree."""
    name, element, first, second, number = step
    length = len(model)
    if name == "push left":
        value.push_left(element)
        model.insert(0, element)
    elif name == "push right":
        value.push_right(element)
        model.append(element)
    elif name == "insert":
        place = first % (length + 1)
        value.insert(place, element)
        model.insert(place, element)
    elif name == "remove":
        left = removed_from(model, element, number)
        assert value.remove(element, number) == length - len(left)
        model[:] = left
    elif name == "find":
        rank, count, max_len = number or 1, first % 4, second % (length + 2)
        assert value.find(element, rank, count, max_len) == places_of(model, element, rank, count, max_len)
    elif name in ("slice", "keep"):
        start, stop = sorted((first % (length + 1), second % (length + 1)))
        if name == "slice":
            assert value.slice(start, stop) == model[start:stop]
        else:
            value.keep(start, stop)
            model[:] = model[start:stop]
    elif name == "shed":
        shed = value.shed(1 + first % 3)
        assert (shed > 0) == (length > 0)
        assert len(value) == length - shed
        model[:] = elements_of(value)
    elif not model:
        return
    elif name == "pop left":
        assert value.pop_left() == model.pop(0)
    elif name == "pop right":
        assert value.pop_right() == model.pop()
    elif name == "get":
        assert value.get(first % length) == model[first % length]
    elif name == "set":
        value.set(first % length, element)
        model[first % length] = element
    elif name == "delete":
        value.delete(first % length)
        del model[first % length]


NAMES = (
    "push left", "push right", "push right", "insert", "insert", "remove", "find", "slice", "keep", "shed", "pop left",
    "pop right", "get", "set", "delete",
)  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES, INDEXES, INDEXES, st.integers(-3, 3)), max_size=40)


@given(start=st.lists(VALUES, max_size=8), times=st.sampled_from((0, 1, 1, 80, 400)), steps=STEPS)
def test_a_list_does_what_a_python_list_does(start, times, steps):
    for implementation in TESTED:
        value = Store(implementation).db.make(List)
        model = start * times
        for element in model:
            value.push_right(element)
        for step in steps:
            apply(value, model, step)
            assert len(value) == len(model), step
        assert elements_of(value) == model
        assert [value.get(place) for place in range(len(model))] == model


@given(start=st.lists(VALUES, max_size=200), steps=STEPS, limit=st.sampled_from((-2, -1, -5, -9, 0, 1, 3, 50)))
def test_a_list_made_anew_of_the_same_elements_takes_the_same(start, steps, limit):
    """Sums that are kept up at every change must not drift."""
    value = List(Limits(list_max_listpack_size=limit))
    model = []
    for element in start:
        apply(value, model, ("push left", element, 0, 0, 0))
    for step in steps:
        apply(value, model, step)
    anew = List(Limits(list_max_listpack_size=limit))
    for element in model:
        anew.push_right(element)
    assert value._item_bytes == anew._item_bytes
    assert value._pack_bytes == anew._pack_bytes
    assert all(value._blocks)


def test_a_copy_changes_independently(make_value):
    value = make_value(List)
    for number in range(3_000):
        value.push_right(b"%d" % number)
    twin = value.copy()
    value.set(1_000, b"x")
    value.pop_left()
    twin.push_left(b"y")
    assert twin.get(1_001) == b"1000"
    assert twin.encoding == value.encoding == "quicklist"
    assert (len(value), len(twin)) == (2_999, 3_001)
    assert twin.kind == "list"
    assert twin.counted_bytes == 0


def test_a_list_is_a_listpack_up_to_8_kb_and_again_below_half_of_that(make_value):
    value = make_value(List)
    value.push_right(b"x" * 4000)
    value.push_right(b"x" * 4000)
    assert value.encoding == "listpack"
    value.push_right(b"x" * 200)
    assert value.encoding == "quicklist"
    value.pop_right()
    assert value.encoding == "quicklist"
    value.pop_right()
    assert value.encoding == "listpack"
    value.set(0, b"x" * 9000)
    assert value.encoding == "quicklist"
    value.set(0, b"x")
    assert value.encoding == "listpack"


def test_a_limit_of_entries_counts_elements(make_value, limits):
    limits.list_max_listpack_size = 4
    value = make_value(List)
    for _ in range(4):
        value.push_left(b"x")
    assert value.encoding == "listpack"
    value.insert(2, b"x")
    assert value.encoding == "quicklist"
    value.delete(1)
    value.delete(1)
    assert value.encoding == "quicklist"
    value.remove(b"x", 1)
    assert value.encoding == "listpack"


def test_a_limit_of_entries_has_a_limit_of_8_kb_beside_it(make_value, limits):
    limits.list_max_listpack_size = 100
    value = make_value(List)
    value.push_left(b"x" * 8300)
    assert value.encoding == "quicklist"


def test_the_middle_of_a_long_list_is_found_changed_and_left_in_no_time(make_value):
    value = make_value(List)
    for number in range(200_000):
        value.push_right(b"%d" % number)
    for number in range(80_000, 120_000, 20):
        assert value.get(number) == b"%d" % number
    for number in range(500):
        value.insert(100_000, b"new")
        assert value.get(100_001 + number) == b"100000"
    assert value.remove(b"new", 0) == 500
    assert value.find(b"199990", -1, 1, 100) == [199_990]
    assert value.remove(b"5", 1) == value.remove(b"199995", -1) == 1
    assert value.slice(99_999, 100_002) == [b"100000", b"100001", b"100002"]
    value.keep(10, len(value) - 10)
    assert value.pop_left() == b"11"
    assert value.effort > 0
    while len(value):
        value.shed(100_000)


def test_elements_of_any_size(make_value):
    value = make_value(List)
    elements = [bytes([number % 256]) * (1 << number) for number in range(20)]
    for element in elements:
        value.push_left(element)
    assert elements_of(value) == elements[::-1]
    assert value.size_bytes > 1 << 20
    value.keep(19, 20)
    assert elements_of(value) == [b"\0"]
    assert value.size_bytes < 1 << 10


def test_a_list_of_few_large_elements_is_no_listpack_however_many_it_may_have(make_value, limits):
    limits.list_max_listpack_size = 100
    value = make_value(List)
    for size in (3_000, 3_000, 3_000):
        value.push_right(b"x" * size)
    assert value.encoding == "quicklist"
    value.set(0, b"x" * 2_500)
    assert value.encoding == "quicklist"
    value.pop_left()
    assert value.encoding == "listpack"
