"""Geo commands, as a client sees them.  Replies were checked against redis-server 7.0.15."""

import pytest

from kora.errors import CommandError
from kora.resp.reply import NULL_ARRAY
from tests.conftest import runner

SYNTAX = "ERR syntax error"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
PALERMO = ("13.361389", "38.115556")
CATANIA = ("15.087269", "37.502669")


@pytest.fixture
def fails(run):
    def fails(*words):
        with pytest.raises(CommandError) as caught:
            run(*words)
        return caught.value.message

    return fails


@pytest.fixture
def sicily(run):
    run("GEOADD", "g", *PALERMO, "Palermo", *CATANIA, "Catania")
    return run


def test_geoadd_stores_hashes_in_a_sorted_set(sicily):
    assert sicily("TYPE", "g") == "zset"
    assert sicily("ZSCORE", "g", "Palermo") == b"3479099956230698"
    assert sicily("GEOADD", "g", *PALERMO, "Palermo", 1, 1, "new") == 1
    assert sicily("GEOADD", "g", "CH", 2, 2, "new") == 1
    assert sicily("GEOADD", "g", "NX", 3, 3, "new", 3, 3, "newer") == 1
    assert sicily("GEOADD", "g", "XX", 3, 3, "newest") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("200", "1", "a"), "ERR invalid longitude,latitude pair 200.000000,1.000000"),
        (("1", "-85.06", "a"), "ERR invalid longitude,latitude pair 1.000000,-85.060000"),
        (("1", "x", "a"), "ERR value is not a valid float"),
        (("NX", "XX", "1", "1", "a"), SYNTAX),
        (("1", "1", "a", "1"), SYNTAX),
        (("NX", "CH", "CH"), SYNTAX),
        (("GT", "1", "1", "a"), SYNTAX),
        (("INCR", "1", "1"), "ERR value is not a valid float"),
    ],
)
def test_mistakes_of_geoadd(run, fails, words, message):
    assert fails("GEOADD", "g", *words) == message
    assert run("EXISTS", "g") == 0


def test_geopos(sicily, engine):
    longitude, latitude = b"13.36138933897018433", b"38.11555639549629859"
    assert sicily("GEOPOS", "g", "Palermo", "no") == [[longitude, latitude], NULL_ARRAY]
    assert sicily("GEOPOS", "no", "Palermo") == [NULL_ARRAY]
    assert sicily("GEOPOS", "g") == []
    client = engine.connect("127.0.0.1:50001", "127.0.0.1:6379")
    client.set_protocol(3)
    assert runner(client)("GEOPOS", "g", "Palermo") == [[float(longitude), float(latitude)]]


def test_geohash(sicily):
    assert sicily("GEOHASH", "g", "Palermo", "no", "Catania") == [b"sqc8b49rny0", None, b"sqdtr74hyu0"]
    assert sicily("GEOHASH", "no", "Palermo") == [None]


def test_geodist(sicily, fails):
    assert sicily("GEODIST", "g", "Palermo", "Catania") == b"166274.1516"
    assert sicily("GEODIST", "g", "Palermo", "Catania", "km") == b"166.2742"
    assert sicily("GEODIST", "g", "Palermo", "Catania", "MI") == b"103.3182"
    assert sicily("GEODIST", "g", "Palermo", "Palermo", "ft") == b"0.0000"
    assert sicily("GEODIST", "g", "Palermo", "no") is None
    assert sicily("GEODIST", "no", "a", "b") is None
    assert fails("GEODIST", "g", "a", "b", "x") == "ERR unsupported unit provided. please use M, KM, FT, MI"
    assert fails("GEODIST", "g", "a", "b", "m", "m") == SYNTAX


def test_geosearch_within_a_circle(sicily):
    around = ("GEOSEARCH", "g", "FROMLONLAT", 15, 37, "BYRADIUS")
    assert sicily(*around, 200, "km", "ASC") == [b"Catania", b"Palermo"]
    assert sicily(*around, 200, "km", "DESC") == [b"Palermo", b"Catania"]
    assert sicily(*around, 100, "km") == [b"Catania"]
    assert sicily(*around, 200, "km", "COUNT", 1) == [b"Catania"]
    assert sicily(*around, 200, "km", "COUNT", 1, "DESC") == [b"Palermo"]
    assert len(sicily(*around, 200, "km", "COUNT", 1, "ANY")) == 1
    assert sicily(*around, 1, "m") == []


def test_geosearch_shows_what_is_asked_for(sicily):
    assert sicily(
        "GEOSEARCH", "g", "FROMLONLAT", 15, 37, "BYRADIUS", 100, "km", "WITHCOORD", "WITHDIST", "WITHHASH"
    ) == [[b"Catania", b"56.4413", 3479447370796909, [b"15.08726745843887329", b"37.50266842333162032"]]]


def test_geosearch_within_a_box(sicily):
    around = ("GEOSEARCH", "g", "FROMMEMBER", "Catania", "BYBOX")
    assert sicily(*around, 400, 400, "km", "ASC") == [b"Catania", b"Palermo"]
    assert sicily(*around, 400, 100, "km") == [b"Catania"]
    assert sicily(*around, 100, 400, "km") == [b"Catania"]


def test_geosearch_across_the_date_line(run):
    run("GEOADD", "g", "179.9", "0", "east", "-179.9", "0", "west")
    assert run("GEOSEARCH", "g", "FROMLONLAT", "179.95", 0, "BYRADIUS", 100, "km", "ASC") == [b"east", b"west"]


def test_geosearchstore(sicily):
    words = ("FROMLONLAT", 15, 37, "BYRADIUS", 200, "km")
    assert sicily("GEOSEARCHSTORE", "d", "g", *words) == 2
    assert sicily("ZSCORE", "d", "Palermo") == b"3479099956230698"
    assert sicily("GEOSEARCHSTORE", "d", "g", *words, "STOREDIST", "COUNT", 1) == 1
    assert sicily("ZRANGE", "d", 0, -1) == [b"Catania"]
    assert round(float(sicily("ZSCORE", "d", "Catania")), 4) == 56.4413
    assert sicily("GEOSEARCHSTORE", "d", "no", *words) == 0
    assert sicily("EXISTS", "d") == 0


def test_georadius_and_its_relatives(sicily):
    for name in ("GEORADIUS", "GEORADIUS_RO"):
        assert sicily(name, "g", 15, 37, 200, "km", "ASC") == [b"Catania", b"Palermo"]
    for name in ("GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"):
        assert sicily(name, "g", "Palermo", 200, "km", "DESC") == [b"Catania", b"Palermo"]
    assert sicily("GEORADIUS", "g", 15, 37, 200, "km", "STORE", "d") == 2
    assert sicily("GEORADIUSBYMEMBER", "g", "Palermo", 1, "km", "STOREDIST", "d") == 1
    assert sicily("ZRANGE", "d", 0, -1, "WITHSCORES") == [b"Palermo", b"0"]
    assert sicily("GEORADIUS", "no", 15, 37, 200, "km", "STORE", "d") == 0
    assert sicily("EXISTS", "d") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS 1 xx", "ERR unsupported unit provided. please use M, KM, FT, MI"),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS -1 km", "ERR radius cannot be negative"),
        ("GEOSEARCH g FROMLONLAT 1 1 BYRADIUS x km", "ERR need numeric radius"),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX x 1 km", "ERR need numeric width"),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 x km", "ERR need numeric height"),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 -1 km", "ERR height or width cannot be negative"),
        ("GEOSEARCH g FROMMEMBER no BYBOX 1 1 km", "ERR could not decode requested zset member"),
        (
            "geosearch g BYBOX 1 1 km ASC DESC",
            "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for geosearch",
        ),
        (
            "GEOSEARCH g FROMLONLAT 1 1 ASC DESC",
            "ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH",
        ),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 1 km ANY", "ERR the ANY argument requires COUNT argument"),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 1 km COUNT 0", "ERR COUNT must be > 0"),
        ("GEOSEARCH g FROMLONLAT 1 1 FROMMEMBER a BYBOX 1 1 km", SYNTAX),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 1 km BYRADIUS 1 km", SYNTAX),
        ("GEOSEARCH g FROMLONLAT 1 1 BYBOX 1 1 km STOREDIST", SYNTAX),
        (
            "GEOSEARCHSTORE d g FROMLONLAT 1 1 BYBOX 1 1 km WITHDIST",
            "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        ),
        (
            "GEORADIUS g 1 1 1 km STORE d WITHDIST",
            "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
        ),
        ("GEORADIUS_RO g 1 1 1 km STORE d", SYNTAX),
        ("GEORADIUSBYMEMBER_RO g Palermo 1 km STORE d", SYNTAX),
        ("GEORADIUS g 1 1 1 km FROMLONLAT 1 1", SYNTAX),
    ],
)
def test_mistakes_of_searches(sicily, fails, words, message):
    assert fails(*words.split()) == message


@pytest.mark.parametrize(
    "words",
    [
        "GEOADD k 1 1 a", "GEOPOS k a", "GEOHASH k a", "GEODIST k a b", "GEOSEARCH k FROMLONLAT 1 1 BYRADIUS 1 km",
        "GEOSEARCHSTORE d k FROMLONLAT 1 1 BYRADIUS 1 km", "GEORADIUS k 1 1 1 km", "GEORADIUSBYMEMBER k a 1 km",
        "GEORADIUS_RO k 1 1 1 km", "GEORADIUSBYMEMBER_RO k a 1 km",
    ],
)  # fmt: skip
def test_a_string_is_no_geo_index(run, fails, words):
    run("SET", "k", "v")
    assert fails(*words.split()) == WRONG_TYPE


@pytest.mark.parametrize("length", ["inf", "1e300", "30000000", "0"])
def test_shapes_as_large_as_you_like(sicily, length):
    expected = [] if length == "0" else [b"Catania", b"Palermo"]
    for shape in (("BYRADIUS", length, "m"), ("BYBOX", length, length, "m")):
        assert sorted(set(sicily("GEOSEARCH", "g", "FROMLONLAT", 15, 37, *shape))) == expected


def test_scores_that_are_no_places(run):
    run("ZADD", "g", "-1", "a", "inf", "b", "1e300", "c", "-inf", "d", "0.5", "e")
    assert len(run("GEOPOS", "g", *"abcde")) == 5
    assert len(run("GEOHASH", "g", *"abcde")) == 5
    assert run("GEODIST", "g", "a", "b")
    run("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "BYRADIUS", 30000, "km", "WITHDIST", "WITHCOORD")


def test_events(sicily, client):
    found = []
    client.db.notify = lambda event, key: found.append((event, key))
    sicily("GEOADD", "g", 1, 1, "new")
    sicily("GEOSEARCHSTORE", "d", "g", "FROMLONLAT", 15, 37, "BYRADIUS", 200, "km")
    sicily("GEORADIUS", "g", 15, 37, 200, "km", "STORE", "d")
    sicily("GEORADIUS", "g", 15, 30, 1, "m", "STORE", "d")
    sicily("GEORADIUS", "g", 15, 30, 1, "m", "STORE", "d")
    assert found == [(b"zadd", b"g"), (b"geosearchstore", b"d"), (b"georadiusstore", b"d"), (b"del", b"d")]
