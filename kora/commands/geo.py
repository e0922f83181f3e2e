"""Places on the earth: sorted sets whose scores are hashes of a longitude and a latitude (kora/types/geohash.py)."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from kora.commands.sorted_sets import add, split_options, store
from kora.engine.client import Client
from kora.engine.registry import Family, keys_after, keys_at
from kora.errors import CommandError, NotAFloat, SyntaxFault
from kora.resp.reply import NULL_ARRAY, PrintedDouble, Reply
from kora.types import geohash
from kora.types.geohash import LATITUDE_MAX, LONGITUDE_MAX, Box, Circle, Place, Shape
from kora.types.number import format_integer, format_long_double, parse_float, parse_integer
from kora.types.sorted_set import SortedSet

geo = Family("geo")

# In metres.
_UNITS: Final = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}
_UNIT_USAGE: Final = "<unit=M | KM | FT | MI>"


class UnknownUnit(CommandError):
    message = "ERR unsupported unit provided. please use M, KM, FT, MI"


class NoSuchMember(CommandError):
    message = "ERR could not decode requested zset member"


def _unit(word: bytes) -> float:
    metres = _UNITS.get(word.upper())
    if metres is None:
        raise UnknownUnit
    return metres


def _place(longitude: bytes, latitude: bytes) -> Place:
    x, y = parse_float(longitude, NotAFloat), parse_float(latitude, NotAFloat)
    if not (-LONGITUDE_MAX <= x <= LONGITUDE_MAX and -LATITUDE_MAX <= y <= LATITUDE_MAX):
        raise CommandError(f"ERR invalid longitude,latitude pair {x:f},{y:f}")
    return Place(x, y)


def _place_of(value: SortedSet, member: bytes) -> Place:
    score = value.score(member)
    if score is None:
        raise NoSuchMember
    return geohash.decode(score)


def _shown_place(place: Place) -> list[PrintedDouble]:
    """With 17 digits behind the point at most, whether or not they mean anything."""
    return [PrintedDouble(format_long_double(Fraction(degrees))) for degrees in (place.longitude, place.latitude)]


def _shown_distance(metres: float, unit_m: float) -> bytes:
    """A text in both protocols."""
    return b"%.4f" % (metres / unit_m)


@geo(
    "GEOADD key [condition=NX | XX] [change=CH] longitude:double latitude:double member"
    " [longitude:double latitude:double member ...]",
    "Adds members with their places to a geo index, which is a sorted set.",
    flags="write denyoom",
    since="3.2.0",
    complexity="O(log(N)) for each member, where N is the size of the sorted set.",
    access="RW update",
)
def geoadd(client: Client, argv: list[bytes]) -> Reply:
    options, words = split_options(argv, frozenset({b"NX", b"XX", b"CH"}))
    if len(words) % 3 or options >= {b"NX", b"XX"}:
        raise SyntaxFault
    pairs: list[bytes] = []
    for longitude, latitude, member in zip(words[::3], words[1::3], words[2::3], strict=True):
        pairs += (format_integer(geohash.encode(_place(longitude, latitude))), member)
    return add(client, argv[1], options, pairs)


@geo(
    "GEOPOS key member [member ...]",
    "Returns the longitudes and latitudes of members.",
    flags="readonly",
    since="3.2.0",
    complexity="O(N) where N is the number of members.",
    arity=-2,
)
def geopos(client: Client, argv: list[bytes]) -> Reply:
    return [NULL_ARRAY if place is None else _shown_place(place) for place in _places(client, argv)]


@geo(
    "GEOHASH key member [member ...]",
    "Returns the places of members in the letters of geohash.org.",
    flags="readonly",
    since="3.2.0",
    complexity="O(log(N)) for each member, where N is the size of the sorted set.",
    arity=-2,
)
def geohash_(client: Client, argv: list[bytes]) -> Reply:
    return [None if place is None else geohash.text(place) for place in _places(client, argv)]


def _places(client: Client, argv: list[bytes]) -> list[Place | None]:
    value: SortedSet | None = client.db.read(argv[1], SortedSet)
    scores = [None if value is None else value.score(member) for member in argv[2:]]
    return [None if score is None else geohash.decode(score) for score in scores]


@geo(
    "GEODIST key member1 member2 [unit=M | KM | FT | MI]",
    "Returns the distance between two members.",
    flags="readonly",
    since="3.2.0",
    complexity="O(log(N))",
)
def geodist(client: Client, argv: list[bytes]) -> Reply:
    _, key, first, second, *words = argv
    if len(words) > 1:
        raise SyntaxFault
    unit_m = _unit(words[0]) if words else 1.0
    value: SortedSet | None = client.db.read(key, SortedSet)
    if value is None or (score1 := value.score(first)) is None or (score2 := value.score(second)) is None:
        return None
    return _shown_distance(geohash.distance(geohash.decode(score1), geohash.decode(score2)), unit_m)


# Searching


@dataclass(frozen=True)
class _Found:
    member: bytes
    score: float
    place: Place
    distance_m: float


@dataclass
class _Search:
    """What is looked for; without a source, words are read all the same, since mistakes are told."""

    centre: Place | None = None
    has_centre: bool = False
    centre_is_member: bool = False
    shape: Shape | None = None
    unit_m: float = 1.0
    with_distance: bool = False
    with_hash: bool = False
    with_place: bool = False
    order: bytes = b""  # ASC or DESC
    count: int = 0
    any: bool = False
    target: bytes | None = None
    stores_distances: bool = False


_NOWHERE: Final = Place(0.0, 0.0)


def _circle(radius: bytes, unit: bytes) -> tuple[Circle, float]:
    length = parse_float(radius, CommandError("ERR need numeric radius"))
    if length < 0:
        raise CommandError("ERR radius cannot be negative")
    unit_m = _unit(unit)
    return Circle(_NOWHERE, length * unit_m), unit_m


def _box(width: bytes, height: bytes, unit: bytes) -> tuple[Box, float]:
    x = parse_float(width, CommandError("ERR need numeric width"))
    y = parse_float(height, CommandError("ERR need numeric height"))
    if x < 0 or y < 0:
        raise CommandError("ERR height or width cannot be negative")
    unit_m = _unit(unit)
    return Box(_NOWHERE, x * unit_m, y * unit_m), unit_m


def _parse_options(
    search: _Search, value: SortedSet | None, words: list[bytes], *, searches: bool, stores: bool, is_search_store: bool
) -> None:
    """Options in any order.  `searches`: GEOSEARCH, where the centre and the shape are among them."""
    place = 0
    while place < len(words):
        word = words[place].upper()
        place += 1
        following = words[place:]
        if word == b"WITHDIST":
            search.with_distance = True
        elif word == b"WITHHASH":
            search.with_hash = True
        elif word == b"WITHCOORD":
            search.with_place = True
        elif word == b"ANY":
            search.any = True
        elif word in (b"ASC", b"DESC"):
            search.order = word
        elif word == b"COUNT" and following:
            search.count = parse_integer(following[0])
            if search.count <= 0:
                raise CommandError("ERR COUNT must be > 0")
            place += 1
        elif word in (b"STORE", b"STOREDIST") and stores and following:
            search.target = following[0]
            search.stores_distances = word == b"STOREDIST"
            place += 1
        elif word == b"STOREDIST" and is_search_store:
            search.stores_distances = True
        elif not searches:
            raise SyntaxFault
        else:
            place += _parse_area(search, value, word, following)


def _parse_area(search: _Search, value: SortedSet | None, word: bytes, following: list[bytes]) -> int:
    """One of the options that say where; how many words behind it are its own."""
    count = len(following)
    if word == b"FROMMEMBER" and count >= 1 and not (search.has_centre and not search.centre_is_member):
        search.has_centre = search.centre_is_member = True
        if value is not None:
            search.centre = _place_of(value, following[0])
        return 1
    if word == b"FROMLONLAT" and count >= 2 and not search.centre_is_member:
        search.has_centre = True
        search.centre = _place(*following[:2])
        return 2
    if word == b"BYRADIUS" and count >= 2 and not isinstance(search.shape, Box):
        search.shape, search.unit_m = _circle(*following[:2])
        return 2
    if word == b"BYBOX" and count >= 3 and not isinstance(search.shape, Circle):
        search.shape, search.unit_m = _box(*following[:3])
        return 3
    raise SyntaxFault


def _search(client: Client, argv: list[bytes], stores: bool = False) -> Reply:
    """GEOSEARCH and GEOSEARCHSTORE."""
    first = 2 if stores else 1
    value: SortedSet | None = client.db.read(argv[first], SortedSet)
    search = _Search(target=argv[1] if stores else None)
    _parse_options(search, value, argv[first + 1 :], searches=True, stores=False, is_search_store=stores)
    if stores:
        _check_store(search, "GEOSEARCHSTORE")
    name = argv[0].decode("ascii")
    if not search.has_centre:
        raise CommandError(f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}")
    if search.shape is None:
        raise CommandError(f"ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")
    return _run(client, value, search, b"geosearchstore")


def _radius(client: Client, argv: list[bytes], *, by_member: bool, stores: bool) -> Reply:
    """GEORADIUS and GEORADIUSBYMEMBER, and those that only read."""
    value: SortedSet | None = client.db.read(argv[1], SortedSet)
    search = _Search()
    if not by_member:
        search.centre = _place(argv[2], argv[3])
        words = argv[4:]
    else:
        if value is not None:
            search.centre = _place_of(value, argv[2])
        words = argv[3:]
    # Redis looks at the radius around a member only where there are members.
    if value is not None or not by_member:
        search.shape, search.unit_m = _circle(*words[:2])
    _parse_options(search, value, words[2:], searches=False, stores=stores, is_search_store=False)
    if search.target is not None:
        _check_store(search, "STORE option in GEORADIUS")
    return _run(client, value, search, b"georadiusstore")


def _check_store(search: _Search, what: str) -> None:
    if search.with_distance or search.with_hash or search.with_place:
        raise CommandError(f"ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")


def _run(client: Client, value: SortedSet | None, search: _Search, event: bytes) -> Reply:
    if search.any and not search.count:
        raise CommandError("ERR the ANY argument requires COUNT argument")
    found: list[_Found] = []
    if value is not None:
        assert search.shape is not None and search.centre is not None, search
        shape = replace(search.shape, centre=search.centre)
        found = _find(value, shape, search.count if search.any else 0)
    order = search.order
    if search.count and not order and not search.any:
        order = b"ASC"  # of some the closest are wanted
    if order:
        found.sort(key=lambda one: one.distance_m, reverse=order == b"DESC")
    if search.count:
        del found[search.count :]
    if search.target is None:
        return [_shown(one, search) for one in found]
    pairs = [(one.member, one.distance_m / search.unit_m if search.stores_distances else one.score) for one in found]
    return store(client, search.target, pairs, event)


def _find(value: SortedSet, shape: Shape, count_max: int) -> list[_Found]:
    """Members within a shape, in no order; at most so many, if not 0."""
    found: list[_Found] = []
    for cell in geohash.covering(shape):
        start, stop = cell.scores()
        ranks = (value.scores_below(float(score), inclusive=False) for score in (start, stop))
        for member, score in value.slice(*ranks):
            place = geohash.decode(score)
            metres = shape.distance_within(place)
            if metres is not None:
                found.append(_Found(member, score, place, metres))
                if len(found) == count_max:
                    return found
    return found


def _shown(found: _Found, search: _Search) -> Reply:
    options: list[Reply] = []
    if search.with_distance:
        options.append(_shown_distance(found.distance_m, search.unit_m))
    if search.with_hash:
        options.append(int(found.score))
    if search.with_place:
        options.append(_shown_place(found.place))
    return [found.member, *options] if options else found.member


_FROM_USAGE: Final = (
    "<from=FROMMEMBER member | FROMLONLAT <longitude_latitude=longitude:double latitude:double>>"
    f" <by=<circle=BYRADIUS radius:double {_UNIT_USAGE}> | <box=BYBOX <width:double> height:double {_UNIT_USAGE}>>"
)
_COUNT_USAGE: Final = "[count=COUNT count:int [ANY]]"
_ORDER_USAGE: Final = "[order=ASC | DESC]"
_WITH_USAGE: Final = "[WITHCOORD] [WITHDIST] [WITHHASH]"
_STORE_USAGE: Final = "[STORE key] [STOREDIST key]"
_COMPLEXITY: Final = (
    "O(N+log(M)) where N is the number of members in the cells around the shape and M the size of the sorted set."
)


@geo(
    f"GEOSEARCH key {_FROM_USAGE} {_ORDER_USAGE} {_COUNT_USAGE} {_WITH_USAGE}",
    "Returns the members within a circle or a box around a member or a place.",
    flags="readonly",
    since="6.2.0",
    complexity=_COMPLEXITY,
)
def geosearch(client: Client, argv: list[bytes]) -> Reply:
    return _search(client, argv)


@geo(
    f"GEOSEARCHSTORE destination:key source:key {_FROM_USAGE} {_ORDER_USAGE} {_COUNT_USAGE} [STOREDIST]",
    "Stores the members within a circle or a box in another key.",
    flags="write denyoom",
    since="6.2.0",
    complexity=_COMPLEXITY,
    access=("OW update", "RO access"),
)
def geosearchstore(client: Client, argv: list[bytes]) -> Reply:
    return _search(client, argv, stores=True)


_RADIUS_ACCESS: Final = ("RO access", "OW update", "OW update")


@geo(
    f"GEORADIUS key longitude:double latitude:double radius:double {_UNIT_USAGE} {_WITH_USAGE} {_COUNT_USAGE}"
    f" {_ORDER_USAGE} {_STORE_USAGE}",
    "Returns, or stores, the members within a circle around a place; GEOSEARCH does the same.",
    flags="write denyoom",
    since="3.2.0",
    complexity=_COMPLEXITY,
    access=_RADIUS_ACCESS,
    keys=(keys_at(1), keys_after("STORE", 6), keys_after("STOREDIST", 6)),
)
def georadius(client: Client, argv: list[bytes]) -> Reply:
    return _radius(client, argv, by_member=False, stores=True)


@geo(
    f"GEORADIUSBYMEMBER key member radius:double {_UNIT_USAGE} {_WITH_USAGE} {_COUNT_USAGE}"
    f" {_ORDER_USAGE} {_STORE_USAGE}",
    "Returns, or stores, the members within a circle around a member; GEOSEARCH does the same.",
    flags="write denyoom",
    since="3.2.0",
    complexity=_COMPLEXITY,
    access=_RADIUS_ACCESS,
    keys=(keys_at(1), keys_after("STORE", 5), keys_after("STOREDIST", 5)),
)
def georadiusbymember(client: Client, argv: list[bytes]) -> Reply:
    return _radius(client, argv, by_member=True, stores=True)


@geo(
    f"GEORADIUS_RO key longitude:double latitude:double radius:double {_UNIT_USAGE} {_WITH_USAGE} {_COUNT_USAGE}"
    f" {_ORDER_USAGE}",
    "Returns the members within a circle around a place; GEOSEARCH does the same.",
    flags="readonly",
    since="3.2.10",
    complexity=_COMPLEXITY,
)
def georadius_ro(client: Client, argv: list[bytes]) -> Reply:
    return _radius(client, argv, by_member=False, stores=False)


@geo(
    f"GEORADIUSBYMEMBER_RO key member radius:double {_UNIT_USAGE} {_WITH_USAGE} {_COUNT_USAGE} {_ORDER_USAGE}",
    "Returns the members within a circle around a member; GEOSEARCH does the same.",
    flags="readonly",
    since="3.2.10",
    complexity=_COMPLEXITY,
)
def georadiusbymember_ro(client: Client, argv: list[bytes]) -> Reply:
    return _radius(client, argv, by_member=True, stores=False)
