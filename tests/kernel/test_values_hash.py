"""The kernel's hashes and sets: they must behave like a dict and a set, and count their memory to the byte."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kora.clock import ManualClock
from kora.types.hash import Hash
from kora.types.limits import Limits
from kora.types.set import Set
from tests.store.stores import make_compiled

pytestmark = pytest.mark.usefixtures("compiled")

NAMES = [b"", b"0", b"1", b"-7", b"300", b"70000", b"-5000000000", b"007", b"x" * 63, b"y" * 65, b"z" * 127] + [
    b"n%d" % number for number in range(30)
]
TEXTS = st.one_of(st.sampled_from(NAMES), st.binary(max_size=200))
LIMITS = st.sampled_from(
    [
        Limits(),
        Limits(hash_max_listpack_entries=5, set_max_intset_entries=4, set_max_listpack_entries=6),
        Limits(hash_max_listpack_entries=0, set_max_intset_entries=0, set_max_listpack_entries=0),
        Limits(hash_max_listpack_value=1, set_max_intset_entries=1000, set_max_listpack_value=1),
    ]
)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def make(kind: type, limits: Limits) -> Any:
    """An empty value of the kernel's own."""
    return make_compiled(ManualClock(), 1, limits)[1][0].make(kind)


def all_of(value: Any, count: int) -> list[Any]:
    """What a scan in steps gives."""
    cursor, found = value.scan(0, count)
    while cursor:
        cursor, more = value.scan(cursor, count)
        found += more
    return list(found)


@SETTINGS
@given(limits=LIMITS, program=st.lists(st.tuples(st.sampled_from("sssgdcrx"), TEXTS, TEXTS), max_size=60))
def test_a_hash_is_a_dict(limits: Limits, program: list[tuple[str, bytes, bytes]]) -> None:
    value, model = make(Hash, limits), dict[bytes, bytes]()
    for deed, field, text in program:
        if deed == "s":
            assert value.set(field, text) is (field not in model)
            model[field] = text
        elif deed == "d":
            assert value.delete(field) is (model.pop(field, None) is not None)
        elif deed == "c":
            value = value.copy()
        elif deed == "r" and model:
            found, text = value.random()
            assert model[found] == text
        elif deed == "x":
            flat = all_of(value, 2)
            assert dict(zip(flat[::2], flat[1::2], strict=True)) == model
        assert value.get(field) == model.get(field)
        assert value.has(field) is (field in model)
        assert len(value) == len(model)
        value.audit()
    flat = value.flat()
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == model
    assert value.fields() == flat[::2]
    assert value.values() == flat[1::2]
    if value.encoding == "listpack":
        assert value.fields() == list(model) or not flat or len(set(value.fields())) == len(model)


@SETTINGS
@given(limits=LIMITS, program=st.lists(st.tuples(st.sampled_from("aaaadcrpx"), TEXTS), max_size=80))
def test_a_set_is_a_set(limits: Limits, program: list[tuple[str, bytes]]) -> None:
    value, model = make(Set, limits), set[bytes]()
    for deed, member in program:
        if deed == "a":
            assert value.add(member) is (member not in model)
            model.add(member)
        elif deed == "d":
            assert value.remove(member) is (member in model)
            model.discard(member)
        elif deed == "c":
            value = value.copy()
        elif deed == "r" and model:
            assert value.random() in model
        elif deed == "p" and model:
            model.remove(value.pop())
        elif deed == "x":
            assert set(all_of(value, 2)) == model
        assert value.has(member) is (member in model)
        assert len(value) == len(model)
        value.audit()
    assert sorted(value.members()) == sorted(model)
    if value.encoding == "intset":
        assert [int(member) for member in value.members()] == sorted(int(member) for member in model)


def test_a_small_hash_keeps_the_order_of_its_fields() -> None:
    value = make(Hash, Limits(hash_max_listpack_entries=128))
    for number in range(128):
        value.set(b"f%d" % number, b"%d" % number)
    value.set(b"f3", b"again")
    value.delete(b"f4")
    assert value.encoding == "listpack"
    assert value.fields() == [b"f%d" % number for number in range(128) if number != 4]
    value.set(b"f4", b"")
    value.set(b"f128", b"")
    assert value.encoding == "hashtable"


def test_a_long_value_makes_a_hash_large() -> None:
    value = make(Hash, Limits())
    value.set(b"f", b"v" * 64)
    assert value.encoding == "listpack"
    value.set(b"f", b"v" * 65)
    assert value.encoding == "hashtable"
    value.set(b"f", b"")
    assert value.encoding == "hashtable"


def test_a_set_changes_its_encoding_where_redis_7_2_does() -> None:
    value = make(Set, Limits())
    for number in range(512):
        value.add(b"%d" % (number - 200))
    assert value.encoding == "intset"
    assert value.members() == [b"%d" % (number - 200) for number in range(512)]
    value.add(b"1000000000000")
    assert value.encoding == "hashtable"

    value = make(Set, Limits())
    value.add(b"12")
    value.add(b"a")
    value.add(b"3")
    assert value.encoding == "listpack"
    assert value.members() == [b"12", b"a", b"3"]
    for number in range(125):
        value.add(b"m%d" % number)
    assert value.encoding == "listpack"
    value.add(b"one more")
    assert value.encoding == "hashtable"

    value = make(Set, Limits())
    for number in range(128):
        value.add(b"%d" % number)
    value.add(b"a")
    assert value.encoding == "hashtable"


@pytest.mark.parametrize("size", [127, 128, 16383, 16384, 100_000, 3_000_000])
def test_members_may_be_large(size: int) -> None:
    value, members = make(Hash, Limits()), make(Set, Limits(set_max_listpack_value=1 << 30))
    for mark in (b"a", b"b", b"c"):
        value.set(mark * size, mark * (size + 1))
        members.add(mark * size)
    assert value.get(b"b" * size) == b"b" * (size + 1)
    value.set(b"b" * size, b"short")
    assert value.get(b"b" * size) == b"short"
    assert members.members() == [b"a" * size, b"b" * size, b"c" * size]
    members.remove(b"b" * size)
    assert members.members() == [b"a" * size, b"c" * size]
    value.audit()
    members.audit()
    assert value.size_bytes > 5 * size
    assert 2 * size < members.size_bytes < 4 * size + 1000


def test_a_copy_is_independent() -> None:
    for count in (5, 500):
        value, members = make(Hash, Limits()), make(Set, Limits())
        for number in range(count):
            value.set(b"f%d" % number, b"v")
            members.add(b"m%d" % number)
        hash_copy, set_copy = value.copy(), members.copy()
        value.set(b"f1", b"changed")
        value.delete(b"f2")
        members.remove(b"m1")
        assert hash_copy.get(b"f1") == hash_copy.get(b"f2") == b"v"
        assert set_copy.has(b"m1")
        assert len(hash_copy) == len(set_copy) == count
        hash_copy.audit()
        set_copy.audit()


@pytest.mark.parametrize("seed", range(4))
def test_a_scan_shows_what_stays_while_others_come_and_go(seed: int) -> None:
    dice = random.Random(seed)
    value = make(Set, Limits())
    staying = {b"stays%d" % number for number in range(2000)}
    others = [b"goes%d" % number for number in range(20_000 if seed % 2 else 1000)]
    everything = [*staying, *others]
    dice.shuffle(everything)
    for member in everything:
        value.add(member)
    dice.shuffle(others)
    seen, cursor, fresh = set[bytes](), 0, 0
    while True:
        cursor, members = value.scan(cursor, 7)
        seen.update(members)
        if not cursor:
            break
        for _ in range(dice.randrange(60)):
            if others and dice.random() < 0.7:
                value.remove(others.pop())
            else:
                value.add(b"comes%d" % fresh)
                fresh += 1
    assert staying <= seen
    value.audit()


def test_a_random_member_is_any_of_them() -> None:
    for limits in (
        Limits(),
        Limits(set_max_intset_entries=0),
        Limits(set_max_intset_entries=0, set_max_listpack_entries=0),
    ):
        value = make(Set, limits)
        for number in range(10):
            value.add(b"%d" % number)
        counts = dict.fromkeys(value.members(), 0)
        for _ in range(5000):
            counts[value.random()] += 1
        assert all(350 < count < 650 for count in counts.values()), (value.encoding, counts)


def test_many_members_come_and_go() -> None:
    value = make(Set, Limits())
    for number in range(200_000):
        value.add(b"member:%d" % number)
    assert len(value) == 200_000
    assert value.size_bytes < 12_000_000
    for number in range(0, 200_000, 2):
        assert value.remove(b"member:%d" % number)
    value.audit()
    popped = set()
    while len(value) > 20:
        popped.add(value.pop())
    assert len(popped) == 100_000 - 20
    value.audit()
    assert value.size_bytes < 40_000


def test_a_large_value_is_shed_bit_by_bit() -> None:
    value, members = make(Hash, Limits()), make(Set, Limits())
    for number in range(3000):
        value.set(b"f%d" % number, b"v")
        members.add(b"f%d" % number)
    for victim in (value, members):
        assert victim.effort == 3000
        assert victim.shed(1000) == 1000
        victim.audit()
        assert victim.shed(5000) == 2000
        assert len(victim) == victim.shed(1) == 0
        victim.audit()
    small = make(Hash, Limits())
    small.set(b"f", b"v")
    assert small.effort == 1
    assert small.shed(1) == 1
    small.audit()


def test_fields_end_when_their_time_is_over() -> None:
    value = make(Hash, Limits())
    assert value.next_deadline_ms == 0
    for number in range(6):
        value.set(b"f%d" % number, b"v")
    plain_bytes = value.size_bytes
    for number in range(5):
        value.expire(b"f%d" % number, 1000 + number)
    value.audit()
    assert value.encoding == "listpackex"
    assert value.deadline(b"f1") == 1001
    assert value.deadline(b"f5") is None
    assert value.next_deadline_ms == 1000
    assert value.size_bytes > plain_bytes
    assert value.persist(b"f0")
    assert not value.persist(b"f0")
    value.set(b"f1", b"new")
    value.expire(b"f2", 5000)
    value.delete(b"f3")
    assert value.deadline(b"f1") is None
    assert value.deadline(b"f3") is None
    assert value.next_deadline_ms <= 1004
    copy = value.copy()
    assert value.end_due(1003) == []
    assert value.end_due(1004) == [b"f4"]
    assert value.end_due(4999) == []
    assert value.end_due(5000) == [b"f2"]
    assert value.next_deadline_ms == 0
    assert value.fields() == [b"f0", b"f1", b"f5"]
    value.audit()
    assert copy.end_due(1 << 60) == [b"f4", b"f2"]
    copy.audit()
    with pytest.raises(KeyError):
        copy.expire(b"f4", 1)


def test_deadlines_that_change_all_the_time_take_no_more_room() -> None:
    value = make(Hash, Limits())
    value.set(b"f", b"v")
    for number in range(10_000):
        value.expire(b"f", 10_000 + number)
    assert value.end_due(20_000) == [b"f"]
    assert len(value) == 0
    value.audit()
