"""Frames between the two processes: the same messages however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.observe.frame import Decoder, encode
from tests.compat.profile import examples

pytestmark = pytest.mark.once

_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70),
    2**70) | st.floats(allow_nan=False) | st.binary(max_size=20) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
messages = st.lists(st.tuples(st.text(max_size=10), _plain).map(list), max_size=5)


@given(sent=messages, source=st.randoms(use_true_random=False))
@examples(150)
def test_messages_come_out_as_they_went_in_random_pieces(sent: list[list[object]], source: object) -> None:
    data = b"".join(map(encode, sent))
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(5))  # type: ignore[attr-defined]
    decoder = Decoder()
    pieces = [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert [message for piece in pieces for message in decoder.feed(piece)] == sent


def test_messages_come_out_whole_byte_by_byte_and_at_every_split() -> None:
    sent = [["snapshot", 1, {"keys": 2**63, "name": b"\x00\xff"}], ["listening"], ["failed", "übel"]]
    data = b"".join(map(encode, sent))
    decoder = Decoder()
    assert [message for place in range(len(data)) for message in decoder.feed(data[place : place + 1])] == sent
    for place in range(len(data) + 1):
        decoder = Decoder()
        assert decoder.feed(data[:place]) + decoder.feed(data[place:]) == sent
