"""Hashes of places, distances and coverings.  Expected values are redis-server 7.0.15's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kora.types import geohash
from kora.types.geohash import LATITUDE_MAX, Box, Circle, Place

pytestmark = pytest.mark.once

PALERMO, CATANIA = Place(13.361389, 38.115556), Place(15.087269, 37.502669)

_places = st.builds(Place, st.floats(-180, 180), st.floats(-LATITUDE_MAX, LATITUDE_MAX))
_lengths = st.floats(0, 2e7)


def test_scores_are_those_of_redis():
    assert geohash.encode(PALERMO) == 3479099956230698
    assert geohash.encode(CATANIA) == 3479447370796909


def test_letters_are_those_of_redis():
    assert geohash.text(geohash.decode(geohash.encode(PALERMO))) == b"sqc8b49rny0"


def test_distances_are_those_of_redis():
    first, second = (geohash.decode(geohash.encode(place)) for place in (PALERMO, CATANIA))
    assert round(geohash.distance(first, second), 4) == 166274.1516


@given(place=_places)
def test_a_place_comes_back_within_a_metre(place):
    found = geohash.decode(geohash.encode(place))
    assert geohash.distance(place, found) < 1
    assert abs(found.longitude - place.longitude) < 1e-5
    assert abs(found.latitude - place.latitude) < 1e-5


@given(score=st.floats(allow_nan=False))
def test_any_score_is_a_place(score):
    place = geohash.decode(score)
    assert -180 <= place.longitude <= 180
    assert -LATITUDE_MAX <= place.latitude <= LATITUDE_MAX
    assert len(geohash.text(place)) == 11


@given(centre=_places, place=_places, length=_lengths, other=_lengths)
def test_searching_ends_whatever_the_shape(centre, place, length, other):
    for shape in (Circle(centre, length), Box(centre, length, other)):
        cells = geohash.covering(shape)
        assert 1 <= len(cells) <= 9
        metres = shape.distance_within(place)
        assert metres is None or metres >= 0


@given(
    longitude=st.floats(-170, 170),
    latitude=st.floats(-60, 60),
    east=st.floats(-1, 1),
    north=st.floats(-1, 1),
    length=st.floats(1, 100_000),
)
def test_what_is_within_a_shape_is_in_its_cells(longitude, latitude, east, north, length):
    centre = Place(longitude, latitude)
    place = Place(longitude + east * length / 80_000, latitude + north * length / 100_000)
    score = geohash.encode(place)
    for shape in (Circle(centre, length), Box(centre, 2 * length, length)):
        if shape.distance_within(geohash.decode(score)) is not None:
            assert any(start <= score < stop for start, stop in (cell.scores() for cell in geohash.covering(shape)))


@pytest.mark.parametrize("length", [math.inf, 1e300, 0.0])
def test_shapes_beyond_the_earth(length):
    assert geohash.covering(Circle(PALERMO, length))
    assert geohash.covering(Box(PALERMO, length, length))


def test_antipodes_are_half_the_way_around():
    assert geohash.distance(Place(0, 0), Place(180, 0)) == pytest.approx(math.pi * 6372797.560856)
