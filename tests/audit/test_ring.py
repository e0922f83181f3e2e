"""The ring that records wait in, on both ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.audit import ring
from kora.audit.ring import Ring

pytestmark = pytest.mark.once

IDENTITY = ring.identity(7, "alice", "127.0.0.1:5000", b"worker")
WORD = st.binary(max_size=600)


def command(number: int, keys: list[bytes] = [], words: list[bytes] = [], outcome: bytes = b"") -> bytes:  # noqa: B006
    return ring.command(number, 1_000, 7, ring.DIRECTLY, IDENTITY, b"set", outcome, keys, words)


@given(st.lists(WORD, max_size=80), st.lists(WORD, max_size=40), st.binary(max_size=40))
def test_a_record_comes_out_as_it_went_in_or_says_what_is_missing(keys, words, outcome):
    data = command(1, keys, words, outcome)
    assert len(data) <= ring.RECORD_BYTES_MAX
    (record,) = ring.records(data)
    assert (record.number, record.time_ms, record.category, record.identity) == (1, 1_000, 7, IDENTITY)
    assert (record.name, record.outcome) == (b"set", outcome)
    for given_words, shown, left_out, bytes_max in (
        (keys, record.keys, record.keys_left_out, ring.KEY_BYTES_MAX),
        (words, record.words, record.words_left_out, ring.WORD_BYTES_MAX),
    ):
        assert len(shown) + left_out == len(given_words)
        for word, found in zip(given_words, shown, strict=False):
            rest = len(word) - bytes_max
            assert found == (b"%b... (%d more bytes)" % (word[:bytes_max], rest) if rest > 0 else word)


def test_records_pass_the_end_of_the_ring_whole_and_in_order():
    ours = Ring.make(1 << 16)
    theirs = Ring(ours.fd)
    sent, found = 0, []
    while len(found) < 3_000:
        while ours.has_room(record_bytes := len(record := command(sent + 1, [b"k" * (sent % 500)]))):
            ours.append(record)
            sent += 1
        assert ours.used_bytes + record_bytes > ours.capacity
        data = theirs.peek(10_000)
        assert 10_000 <= len(data) <= 10_000 + ring.RECORD_BYTES_MAX
        found += [record.number for record in ring.records(data)]
        theirs.consume(len(data))
    assert found == list(range(1, len(found) + 1))


def test_an_event_and_a_gap_come_out_as_they_went_in():
    data = ring.event(3, 5, 1, {"event": "connect", "client": 9}) + ring.gap(9, 6, 6, 4, 4)
    event, gap = ring.records(data)
    assert (event.kind, event.number, event.values) == (ring.EVENT, 3, {"event": "connect", "client": 9})
    assert (gap.kind, gap.number, gap.values) == (ring.GAP, 9, (6, 4, 4))
