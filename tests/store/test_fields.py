"""Fields whose time is over, where no command comes across them."""

import pytest

from kora.store.fields import FieldDeadlines


@pytest.fixture
def db(client):
    return client.db


@pytest.fixture
def deadlines():
    return FieldDeadlines()


@pytest.fixture
def expiring(run, deadlines):
    """expiring("h", a=10): a hash with fields that end after so many ms."""

    def expiring(key, **fields_ms):
        for field, after_ms in fields_ms.items():
            run("HSET", key, field, "v")
            run("HPEXPIRE", key, after_ms, "FIELDS", 1, field)
        deadlines.note(key.encode(), run("HPEXPIRETIME", key, "FIELDS", 1, next(iter(fields_ms)))[0])

    return expiring


def test_fields_end_though_nobody_looks(run, clock, db, deadlines, expiring):
    expiring("h", a=10, b=20)
    expiring("i", a=30)
    assert deadlines.end_due(db, clock.wall_ms(), 100) == 0
    clock.advance_ms(10)
    assert deadlines.end_due(db, clock.wall_ms(), 100) == 1
    assert len(db.find(b"h")) == 1
    clock.advance_ms(20)
    assert deadlines.end_due(db, clock.wall_ms(), 100) == 2
    assert run("DBSIZE") == len(deadlines) == 0


def test_a_turn_looks_at_so_many_hashes(run, clock, db, deadlines, expiring):
    for number in range(10):
        expiring(f"h{number}", a=10)
    clock.advance_ms(10)
    assert [deadlines.end_due(db, clock.wall_ms(), 4) for _ in range(4)] == [4, 4, 2, 0]
    assert run("DBSIZE") == 0


def test_what_became_of_a_hash_meanwhile_is_no_matter(run, clock, db, deadlines, expiring):
    expiring("deleted", a=10)
    expiring("string", a=10)
    expiring("later", a=10)
    run("DEL", "deleted")
    run("SET", "string", "v")
    run("HPEXPIRE", "later", 50, "FIELDS", 1, "a")
    clock.advance_ms(10)
    deadlines.end_due(db, clock.wall_ms(), 100)
    assert run("DBSIZE") == 2
    clock.advance_ms(40)
    deadlines.end_due(db, clock.wall_ms(), 100)
    assert run("KEYS", "*") == [b"string"]


def test_an_earlier_deadline_counts_and_a_later_one_is_known_already(db, deadlines):
    deadlines.note(b"h", 20)
    deadlines.note(b"h", 10)
    deadlines.note(b"h", 30)
    assert [deadlines.end_due(db, now_ms, 100) for now_ms in (9, 10, 20, 30)] == [0, 0, 0, 0]
    assert len(deadlines) == 0


def test_hashes_that_are_gone_long_before_their_time_are_forgotten(db, deadlines):
    for number in range(10_000):
        deadlines.note(b"h%d" % number, 1 << 45)
        deadlines.end_due(db, 0, 100)
    assert len(deadlines) < 100
    assert len(deadlines._due) < 2_000


def test_a_flushed_database_has_no_deadlines(deadlines):
    deadlines.note(b"h", 10)
    deadlines.clear()
    assert len(deadlines) == 0


def test_many_fields_of_one_hash_end_bit_by_bit(run, clock, db, deadlines):
    names = [b"f%d" % number for number in range(1_000)]
    run("HSET", "h", *(word for name in names for word in (name, b"v")), "lasting", "v")
    run("HPEXPIRE", "h", 10, "FIELDS", len(names), *names)
    deadlines.note(b"h", clock.wall_ms() + 10)
    clock.advance_ms(10)
    turns = 0
    while deadlines.end_due(db, clock.wall_ms(), 10) == 10:
        turns += 1
        assert len(db.find(b"h")) >= 1_001 - 250 * turns
    assert turns >= 4
    assert db.find(b"h").fields() == [b"lasting"]
    assert len(deadlines) == 0
