"""Places on the earth as numbers: longitude and latitude, 26 bits each, interleaved, so that near ones are often near.

A *cell* is the area of all places that have their first bits, `step` of each coordinate, in common.  To find what is
within a shape, the cells around its centre are chosen so large that nine of them cover it; each is one run of hashes.
The arithmetic follows Redis' (geohash.c, geohash_helper.c), operation by operation: the same hashes, distances and
order.
"""

import math
from dataclasses import dataclass
from typing import Final

STEP_MAX: Final = 26
LONGITUDE_MAX: Final = 180.0
# Where the square of the Mercator projection ends (EPSG:900913).
LATITUDE_MAX: Final = 85.05112878

_EARTH_RADIUS_M: Final = 6372797.560856
# Half of the equator, as the projection has it.
_MERCATOR_MAX: Final = 20037726.37
_DEGREE: Final = math.pi / 180.0

_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"

_EVEN: Final = 0x5555555555555555
_MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Place:
    longitude: float
    latitude: float


@dataclass(frozen=True)
class Circle:
    centre: Place
    radius_m: float

    @property
    def half_width_m(self) -> float:
        return self.radius_m

    @property
    def half_height_m(self) -> float:
        return self.radius_m

    @property
    def reach_m(self) -> float:
        return self.radius_m

    def distance_within(self, place: Place) -> float | None:
        """How far a place is from the centre; None if it is outside."""
        metres = distance(self.centre, place)
        return None if metres > self.radius_m else metres


@dataclass(frozen=True)
class Box:
    centre: Place
    width_m: float
    height_m: float

    @property
    def half_width_m(self) -> float:
        return self.width_m / 2

    @property
    def half_height_m(self) -> float:
        return self.height_m / 2

    @property
    def reach_m(self) -> float:
        return math.sqrt(self.half_width_m * self.half_width_m + self.half_height_m * self.half_height_m)

    def distance_within(self, place: Place) -> float | None:
        """How far a place is from the centre; None if it is outside.  The width is that at the place's latitude."""
        centre = self.centre
        if distance(place, Place(place.longitude, centre.latitude)) > self.half_height_m:
            return None
        if distance(place, Place(centre.longitude, place.latitude)) > self.half_width_m:
            return None
        return distance(centre, place)


Shape = Circle | Box


def distance(first: Place, second: Place) -> float:
    """Metres along the surface of a sphere, by the haversine formula."""
    latitude1, latitude2 = first.latitude * _DEGREE, second.latitude * _DEGREE
    u = math.sin((latitude2 - latitude1) / 2)
    v = math.sin((second.longitude * _DEGREE - first.longitude * _DEGREE) / 2)
    square = u * u + math.cos(latitude1) * math.cos(latitude2) * v * v
    return 2.0 * _EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(square)))


# Hashes


def encode(place: Place) -> int:
    """The score of a place: 52 bits."""
    return _encode(place, STEP_MAX, LATITUDE_MAX)


def decode(score: float) -> Place:
    """The middle of the cell of a score, which may be any number that somebody has put into the sorted set."""
    bits = _to_uint64(score)
    west, east, south, north = _area(Cell(bits, STEP_MAX))
    longitude, latitude = (west + east) / 2, (south + north) / 2
    return Place(max(-LONGITUDE_MAX, min(LONGITUDE_MAX, longitude)), max(-LATITUDE_MAX, min(LATITUDE_MAX, latitude)))


def text(place: Place) -> bytes:
    """The eleven letters of geohash.org, whose latitudes end at the poles; for the last letter no bits are left."""
    bits = _encode(place, STEP_MAX, 90.0)
    letters = [_ALPHABET[(bits >> (52 - 5 * count)) & 31] for count in range(1, 11)]
    return bytes([*letters, _ALPHABET[0]])


def _encode(place: Place, step: int, latitude_max: float) -> int:
    x = (place.longitude + LONGITUDE_MAX) / (2 * LONGITUDE_MAX)
    y = (place.latitude + latitude_max) / (2 * latitude_max)
    return _spread(int(y * (1 << step))) | _spread(int(x * (1 << step))) << 1


def _to_uint64(score: float) -> int:
    """A double as an unsigned integer, the way that processors of the x86-64 kind convert it."""
    if not -(2.0**63) <= score < 2.0**64:
        return 0 if score > 0 else 1 << 63
    return int(score) & _MASK64


_SPREADS: Final = (
    (16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333), (1, _EVEN),
)  # fmt: skip
_GATHERS: Final = (
    (1, 0x3333333333333333), (2, 0x0F0F0F0F0F0F0F0F), (4, 0x00FF00FF00FF00FF), (8, 0x0000FFFF0000FFFF),
    (16, 0xFFFFFFFF),
)  # fmt: skip


def _spread(bits: int) -> int:
    """32 bits to the even places of 64."""
    for shift, mask in _SPREADS:
        bits = (bits | bits << shift) & mask
    return bits


def _gather(bits: int) -> int:
    """The bits at the even places of 64."""
    bits &= _EVEN
    for shift, mask in _GATHERS:
        bits = (bits | bits >> shift) & mask
    return bits


@dataclass(frozen=True)
class Cell:
    bits: int  # 2 * step of them
    step: int

    def scores(self) -> tuple[int, int]:
        """The run of scores of all places in it, half-open."""
        shift = 2 * (STEP_MAX - self.step)
        return self.bits << shift, (self.bits + 1) << shift


def _area(cell: Cell) -> tuple[float, float, float, float]:
    """West, east, south and north ends."""
    y, x = _gather(cell.bits), _gather(cell.bits >> 1)
    cells = 1 << cell.step
    width, height = 2 * LONGITUDE_MAX, 2 * LATITUDE_MAX
    return (
        -LONGITUDE_MAX + (x * 1.0 / cells) * width,
        -LONGITUDE_MAX + ((x + 1) * 1.0 / cells) * width,
        -LATITUDE_MAX + (y * 1.0 / cells) * height,
        -LATITUDE_MAX + ((y + 1) * 1.0 / cells) * height,
    )


def _moved(cell: Cell, x: int, y: int) -> Cell:
    """The cell so many further east and north; at its ends the map begins anew."""
    step = cell.step
    side = (1 << step) - 1
    column, row = _gather(cell.bits >> 1), _gather(cell.bits)
    # At the very end of the map a coordinate has a bit too many, which stays where there is no move.
    column = (column + x) & side if x else column
    row = (row + y) & side if y else row
    return Cell(_spread(column) << 1 | _spread(row), step)


# What covers a shape

# The centre, north, south, east, west, north-east, north-west, south-east and south-west: the order of the search.
_DIRECTIONS: Final = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))


def covering(shape: Shape) -> list[Cell]:
    """Cells that have all that is within a shape between them, in the order in which Redis looks through them.

    Of the largest shapes two may be the same: like Redis, this leaves out one that equals the one before it, though not
    one that equals the first, so that members may be found twice.
    """
    centre = shape.centre
    west, south, east, north = _bounds(shape)
    step = _step(shape.reach_m, centre.latitude)
    cell = Cell(_encode(centre, step, LATITUDE_MAX), step)
    if step > 1 and _is_too_small(cell, west, south, east, north):
        step -= 1
        cell = Cell(_encode(centre, step, LATITUDE_MAX), step)
    cell_west, cell_east, cell_south, cell_north = _area(cell)
    cells: list[Cell] = []
    for x, y in _DIRECTIONS:
        if step >= 2 and (
            (y < 0 and cell_south < south)
            or (y > 0 and cell_north > north)
            or (x < 0 and cell_west < west)
            or (x > 0 and cell_east > east)
        ):
            continue  # the centre's reaches beyond the shape on this side
        neighbour = _moved(cell, x, y)
        if len(cells) < 2 or cells[-1] != neighbour:
            cells.append(neighbour)
    return cells


def _bounds(shape: Shape) -> tuple[float, float, float, float]:
    """West, south, east and north; wider towards the pole, where meridians are closer together."""
    longitude, latitude = shape.centre.longitude, shape.centre.latitude
    height = shape.half_height_m / _EARTH_RADIUS_M / _DEGREE
    end = latitude - height if latitude < 0 else latitude + height
    shrink = math.cos(end * _DEGREE) if math.isfinite(end) else math.nan
    width = shape.half_width_m / _EARTH_RADIUS_M / shrink / _DEGREE if shrink else math.inf
    return longitude - width, latitude - height, longitude + width, latitude + height


def _step(range_m: float, latitude: float) -> int:
    """How many bits of a coordinate cells may have so that three of them in a row cover a range."""
    if range_m == 0:
        return STEP_MAX
    step = 1
    while range_m < _MERCATOR_MAX:
        range_m *= 2
        step += 1
    step -= 2  # so that most ranges are covered wherever in the cell their centre is
    if not -66 <= latitude <= 66:
        step -= 1
        if not -80 <= latitude <= 80:
            step -= 1
    return max(1, min(STEP_MAX, step))


def _is_too_small(cell: Cell, west: float, south: float, east: float, north: float) -> bool:
    """Whether the shape reaches beyond the neighbours."""
    return (
        _area(_moved(cell, 0, 1))[3] < north
        or _area(_moved(cell, 0, -1))[2] > south
        or _area(_moved(cell, 1, 0))[1] < east
        or _area(_moved(cell, -1, 0))[0] > west
    )
