"""The vector set against brute force, with a graph and without, on numpy and without; and the graph by itself."""

import random
import sys
import tracemalloc
from array import array
from math import dist, hypot

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types.limits import Limits
from kora.types.vector_distance import COSINE, IP, METRICS, PLAIN_MAX, VectorsExtraMissing
from kora.types.vector_set import VectorSet

pytestmark = pytest.mark.once

SIZE = 3

_ids = st.integers(0, 9)
_metrics = st.sampled_from(METRICS)
_vectors = st.lists(st.integers(-3, 3), min_size=SIZE, max_size=SIZE)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _ids, _vectors),
        st.tuples(st.just("set"), _ids, _vectors),
        st.tuples(st.just("remove"), _ids),
        st.tuples(st.just("work"), st.integers(1, 12)),
        st.tuples(st.just("copy")),
        st.tuples(st.just("shed"), st.integers(0, 3)),
    ),
    max_size=60,
)


def distance(metric, one, other):
    if metric == IP:
        return -sum(x * y for x, y in zip(one, other, strict=True))
    if metric == COSINE:
        norms = hypot(*one) * hypot(*other)
        return 1 - sum(x * y for x, y in zip(one, other, strict=True)) / norms if norms else 1.0
    return dist(one, other)


def make(size, metric="l2", **limits):
    value = VectorSet(Limits(**limits))
    value.shape(size, metric)
    return value


def finish(value):
    for _ in range(100_000):
        if not value.has_work:
            return
        value.work()
    raise AssertionError("the work does not come to an end")


def check(value, model, query):
    assert len(value) == len(model)
    for vector_id in range(10):
        kept = value.get(vector_id)
        assert (None if kept is None else list(kept)) == model.get(vector_id)
    truth = sorted(distance(value.metric, query, vector) for vector in model.values())
    for count in (1, 3, 100):
        for exactly in (False, True):
            found = value.nearest(array("f", query), count, exactly=exactly)
            assert [far for far, _ in found] == pytest.approx(truth[:count], abs=1e-9)
            assert len({vector_id for _, vector_id in found}) == len(found)
            for far, vector_id in found:
                assert far == pytest.approx(distance(value.metric, query, model[vector_id]), abs=1e-9)


@pytest.fixture
def without_extra(monkeypatch):
    for name in ("numpy", "usearch", "usearch.index"):
        monkeypatch.setitem(sys.modules, name, None)


def run_program(metric, exact_max, steps, query):
    value = make(SIZE, metric, vector_exact_max=exact_max)
    model = {}
    others = []
    for name, *words in steps:
        if name == "set":
            vector_id, vector = words
            assert value.set(vector_id, array("f", vector)) == (vector_id not in model)
            model[vector_id] = list(vector)
        elif name == "remove":
            assert value.remove(words[0]) == (model.pop(words[0], None) is not None)
        elif name == "work":
            for _ in range(words[0]):
                value.work()
        elif name == "copy":
            others.append((value, dict(model)))
            value = value.copy()
        else:
            value.shed(words[0])
            model = {vector_id: vector for vector_id, vector in model.items() if value.get(vector_id) is not None}
        check(value, model, query)
    finish(value)
    others.append((value, model))
    for other, of_other in others:
        check(other, of_other, query)


@given(metric=_metrics, exact_max=st.sampled_from((0, 12, 1000)), steps=_steps, query=_vectors)
def test_what_a_model_does(metric, exact_max, steps, query):
    pytest.importorskip("usearch")
    run_program(metric, exact_max, steps, query)


@given(metric=_metrics, steps=_steps, query=_vectors)
def test_what_a_model_does_without_the_packages(without_extra, metric, steps, query):
    run_program(metric, 0, steps, query)


def test_of_the_same_distance_the_lowest_id_comes_first():
    value = make(1)
    for vector_id in (5, 3, 9, 1, 7):
        value.set(vector_id, array("f", [1.0]))
    assert value.nearest(array("f", [0.0]), 3) == [(1.0, 1), (1.0, 3), (1.0, 5)]


def test_shed_frees_everything_in_the_end():
    value = filled(300, vector_exact_max=0)
    finish(value)
    shed = 0
    while value:
        shed += value.shed(50)
    assert shed == 300
    assert value.size_bytes < 1500


def test_too_much_to_search_without_numpy_says_what_to_install(without_extra):
    value = make(1000)
    vector = array("f", [1.0] * 1000)
    for vector_id in range(PLAIN_MAX // 1000):
        value.set(vector_id, vector)
    assert value.nearest(vector, 1) == [(0.0, 0)]
    value.set(1000, vector)
    with pytest.raises(VectorsExtraMissing, match=r"pip install 'kora-server\[vectors\]'"):
        value.nearest(vector, 1)


def clustered(chance, count, size):
    """Vectors as embeddings are: around some centres, and of fewer degrees of freedom than components."""
    base = [[chance.gauss(0, 1) for _ in range(size)] for _ in range(6)]
    centres = [[chance.gauss(0, 1) for _ in base] for _ in range(20)]
    for _ in range(count):
        factors = [centre + chance.gauss(0, 0.5) for centre in chance.choice(centres)]
        yield array("f", [sum(map(float.__mul__, factors, column)) for column in zip(*base, strict=True)])


def filled(count, size=8, metric="l2", **limits):
    value = make(size, metric, **limits)
    for vector_id, vector in enumerate(clustered(random.Random(1), count, size)):
        value.set(vector_id, vector)
    return value


def recall(value, size=8):
    hits = 0
    for query in clustered(random.Random(2), 30, size):
        found = {vector_id for _, vector_id in value.nearest(query, 10)}
        hits += len(found & {vector_id for _, vector_id in value.nearest(query, 10, exactly=True)})
    return hits / 300


@pytest.mark.parametrize("metric", METRICS)
def test_a_graph_finds_nearly_all_there_is_also_when_much_was_overwritten(metric):
    pytest.importorskip("usearch")
    value = filled(1000, metric=metric, vector_exact_max=1000)
    finish(value)
    assert value.encoding == "hnsw" and value.indexed == 1000
    assert recall(value) >= 0.95
    for vector_id, vector in enumerate(clustered(random.Random(3), 500, 8)):
        value.set(vector_id, vector)
        if vector_id % 2:
            value.remove(vector_id)
        if vector_id % 100 == 0:
            value.work()
    assert len(value) == 750
    assert recall(value) >= 0.95
    finish(value)
    assert value.indexed == 750
    assert recall(value) >= 0.95


def test_what_is_in_no_graph_stays_bounded_when_nobody_works():
    pytest.importorskip("usearch")
    value = make(8, vector_exact_max=800)
    for vector_id, vector in enumerate(clustered(random.Random(1), 1000, 8)):
        value.set(vector_id, vector)
        assert vector_id + 1 - value.indexed <= 101
        # The newest is found at once.
        assert value.nearest(vector, 1)[0][0] == 0


def test_empty_places_are_cleared_away():
    pytest.importorskip("usearch")
    value = filled(1000, vector_exact_max=1000)
    finish(value)
    full_bytes = value.size_bytes
    for vector_id in range(950):
        value.remove(vector_id)
    finish(value)
    # Too few for a graph.
    assert value.encoding == "flat"
    assert value.size_bytes < full_bytes / 4
    assert len(value.nearest(array("f", [0.0] * 8), 100)) == 50


def test_a_graph_that_fails_is_given_up(monkeypatch):
    index = pytest.importorskip("usearch.index")
    value = filled(500, vector_exact_max=3900)
    for _ in range(200):
        value.work()
    for vector_id in range(40):
        value.remove(vector_id)
    assert value.encoding == "hnsw"
    assert 100 < value.indexed < 450

    def fail(*words, **options):
        raise MemoryError

    monkeypatch.setattr(index.Index, "add", fail)
    finish(value)
    assert value.encoding == "flat"
    assert value.indexed == 0
    nearest = value.nearest(array("f", [0.0] * 8), 500)
    assert {vector_id for _, vector_id in nearest} == set(range(40, 500))
    assert value.set(700, array("f", [0.0] * 8))
    assert value.nearest(array("f", [0.0] * 8), 1) == [(0.0, 700)]


def test_a_copy_does_not_see_what_happens_to_the_original():
    pytest.importorskip("usearch")
    value = filled(500, vector_exact_max=0)
    finish(value)
    twin = value.copy()
    query = array("f", [1.0] * 8)
    before = twin.nearest(query, 10)
    for vector_id in range(500):
        value.set(vector_id, query)
    finish(value)
    del value
    assert twin.nearest(query, 10) == before


def test_copies_that_share_what_is_in_the_graph_stay_apart():
    pytest.importorskip("usearch")
    size = 16_384  # four in a block
    first = make(size, vector_exact_max=0)
    for vector_id in range(14):
        first.set(vector_id, array("f", [float(vector_id)] * size))
    finish(first)
    second = first.copy()
    # Without its graph what it has may be overwritten.
    second.shed(3)
    third = second.copy()
    left = [vector_id for vector_id in range(14) if second.get(vector_id) is not None]
    assert len(left) == 11
    for vector_id in left:
        second.set(vector_id, array("f", [100.0] * size))
    for value, ids in ((first, range(14)), (third, left)):
        for vector_id in ids:
            assert value.get(vector_id) == array("f", [float(vector_id)] * size)
            assert value.nearest(array("f", [float(vector_id)] * size), 1) == [(0.0, vector_id)]
    assert second.nearest(array("f", [100.0] * size), 99) == [(0.0, vector_id) for vector_id in left]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_size_is_about_what_it_takes(metric):
    value = make(32, metric)
    vector = array("f", [1.5] * 32)
    tracemalloc.start()
    value = make(32, metric)
    for vector_id in range(1000, 6000):
        value.set(vector_id, vector)
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value.size_bytes == pytest.approx(taken_bytes, rel=0.15)
