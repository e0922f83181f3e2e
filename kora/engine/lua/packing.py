"""What the Lua libraries `struct`, `bit` and `cmsgpack` need of Python: numbers to bytes and back.

Lua's numbers come as int where they have no fraction, else as float; a mistake is returned as its text, which the Lua
side raises.  `struct` is after the library of R. Ierusalimschy that Redis includes: its formats, limits and texts.
"""

import math
import re
import struct
from typing import Any, Final

_ALIGNMENT: Final = 8
_INTEGER_BYTES_MAX: Final = 32
_INT_MAX: Final = 2**31 - 1
_SIZES: Final = {"b": 1, "B": 1, "h": 2, "H": 2, "l": 8, "L": 8, "T": 8, "f": 4, "d": 8, "x": 1}
_NUMBER: Final = re.compile(r"\s*[-+]?(0[xX][0-9a-fA-F]+|(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)\s*")
_LUA_TYPES: Final = {bool: "boolean", int: "number", float: "number", bytes: "string"}


class _Mistake(Exception):
    """What is wrong with the arguments, in the library's words."""


def _bad_argument(place: int, name: str, text: str) -> _Mistake:
    return _Mistake(f"bad argument #{place} to '{name}' ({text})")


class _Arguments:
    """The arguments of a Lua function, by their places, as lauxlib.c checks them."""

    def __init__(self, name: str, values: tuple[Any, ...]) -> None:
        self.name = name
        self._values = values

    def fault(self, place: int, text: str) -> _Mistake:
        return _bad_argument(place, self.name, text)

    def has(self, place: int) -> bool:
        return place <= len(self._values) and self._values[place - 1] is not None

    def _wrong_type(self, place: int, expected: str) -> _Mistake:
        if place > len(self._values):
            # struct.pack() puts a nil behind its arguments.
            found = "nil" if self.name == "pack" and 1 < place == len(self._values) + 1 else "no value"
        else:
            value = self._values[place - 1]
            found = "nil" if value is None else _LUA_TYPES.get(type(value), "table")
        return self.fault(place, f"{expected} expected, got {found}")

    def text(self, place: int) -> bytes:
        value: Any = self._values[place - 1] if place <= len(self._values) else None
        if type(value) is bytes:
            return value
        if type(value) in (int, float):
            return b"%.14g" % value
        raise self._wrong_type(place, "string")

    def number(self, place: int) -> float:
        value: Any = self._values[place - 1] if place <= len(self._values) else None
        if type(value) in (int, float):
            return value  # type: ignore[no-any-return]
        if type(value) is bytes:
            text = value.decode("latin-1")
            if _NUMBER.fullmatch(text):
                text = text.strip()
                return int(text, 16) if "x" in text.lower() else float(text)
        raise self._wrong_type(place, "number")


class _Format:
    """A format string, read one option after the other."""

    def __init__(self, arguments: _Arguments) -> None:
        # As to C, it ends at a NUL.
        self._text = arguments.text(1).split(b"\0", 1)[0].decode("latin-1")
        self._place = 0
        self._arguments = arguments
        self.order = "<"
        self.alignment = 1

    def next(self) -> tuple[str, int]:
        """An option and its size in bytes; ("", 0) at the end."""
        if self._place == len(self._text):
            return "", 0
        option = self._text[self._place]
        self._place += 1
        if option == "c":
            return option, self._number(1)
        if option in "iI":
            size = self._number(4)
            if size > _INTEGER_BYTES_MAX:
                raise _Mistake(f"integral size {size} is larger than limit of {_INTEGER_BYTES_MAX}")
            return option, size
        return option, _SIZES.get(option, 0)

    def _number(self, usual: int) -> int:
        match = re.compile(r"[0-9]+").match(self._text, self._place)
        if match is None:
            return usual
        self._place = match.end()
        number = int(match.group())
        if number > _INT_MAX:
            raise _Mistake("integral size overflow")
        return number

    def padding(self, length: int, option: str, size: int) -> int:
        if size == 0 or option == "c":
            return 0
        size = min(size, self.alignment)
        return (size - (length & (size - 1))) & (size - 1)

    def control(self, option: str) -> None:
        if option == " ":
            return
        if option in "<>":
            self.order = option
        elif option == "!":
            alignment = self._number(_ALIGNMENT)
            if alignment <= 0 or alignment & (alignment - 1):
                raise _Mistake(f"alignment {alignment} is not a power of 2")
            self.alignment = alignment
        else:
            raise self._arguments.fault(1, f"invalid format option '{option}'")


def _to_integer(number: float) -> int:
    """As a C cast to 64 bits; what does not fit becomes the least, as x86 has it."""
    if isinstance(number, float) and not math.isfinite(number):
        return -(2**63)
    integer = int(number)
    return integer if -(2**63) <= integer < 2**64 else -(2**63)


def _float_bytes(order: str, option: str, number: float) -> bytes:
    try:
        return struct.pack(order + option, number)
    except OverflowError:
        return struct.pack(order + option, math.copysign(math.inf, number))


def struct_pack(*values: Any) -> Any:
    try:
        return _pack(_Arguments("pack", values))
    except _Mistake as mistake:
        return None, str(mistake).encode("latin-1")


def _pack(arguments: _Arguments) -> bytes:
    layout = _Format(arguments)
    data = bytearray()
    place = 2
    while True:
        option, size = layout.next()
        if not option:
            return bytes(data)
        data += bytes(layout.padding(len(data), option, size))
        if option in "bBhHlLTiI":
            integer = _to_integer(arguments.number(place)) & (2**64 - 1)
            packed = integer.to_bytes(8, "little")[:size].ljust(size, b"\0")
            data += packed if layout.order == "<" else packed[::-1]
            place += 1
        elif option == "x":
            data += b"\0"
        elif option in "fd":
            data += _float_bytes(layout.order, option, arguments.number(place))
            place += 1
        elif option in "cs":
            text = arguments.text(place)
            place += 1
            if size == 0:
                size = len(text)
            if len(text) < size:
                raise arguments.fault(place, "string too short")
            data += text[:size]
            if option == "s":
                data += b"\0"
        else:
            layout.control(option)


def struct_unpack(*values: Any) -> Any:
    try:
        return tuple(_unpack(_Arguments("unpack", values)))
    except _Mistake as mistake:
        return None, str(mistake).encode("latin-1")


def _unpack(arguments: _Arguments) -> list[Any]:
    layout = _Format(arguments)
    data = arguments.text(2)
    place = _to_integer(arguments.number(3)) if arguments.has(3) else 1
    if place == 0:
        raise arguments.fault(3, "offset must be 1 or greater")
    # Below zero it is, to C, far beyond the end.
    place = place - 1 if place > 0 else 2**64 + place - 1
    too_short = arguments.fault(2, "data string too short")
    values: list[Any] = []
    while True:
        option, size = layout.next()
        if not option:
            return [*values, place + 1 if place < 2**63 else place + 1 - 2**64]
        place += layout.padding(place, option, size)
        if size > len(data) or place > len(data) - size:
            raise too_short
        if len(values) > 7000:
            raise _Mistake("stack overflow (too many results)")
        if option in "bBhHlLTiI":
            values.append(_unpack_integer(data[place : place + size], layout.order, option.islower()))
        elif option == "x":
            pass
        elif option in "fd":
            values.append(struct.unpack_from(layout.order + option, data, place)[0])
        elif option == "c":
            if size == 0:
                if not values or type(values[-1]) not in (int, float):
                    raise _Mistake("format 'c0' needs a previous size")
                size = _to_integer(values.pop())
                if not 0 <= size <= len(data) or place > len(data) - size:
                    raise too_short
            values.append(data[place : place + size])
        elif option == "s":
            stop = data.find(b"\0", place)
            if stop < 0:
                raise _Mistake("unfinished string in data")
            values.append(data[place:stop])
            size = stop + 1 - place
        else:
            layout.control(option)
        place += size


def _unpack_integer(data: bytes, order: str, signed: bool) -> float:
    """Of more than 8 bytes the least significant ones, as the library's 64-bit sum leaves them."""
    if order == ">":
        data = data[::-1]
    integer = int.from_bytes(data[:8], "little")
    if signed and len(data) <= 8 and data and data[-1] & 0x80:
        integer -= 1 << (8 * len(data))
    elif signed and integer >= 2**63:
        integer -= 2**64
    # Lua has doubles only.
    return integer if -(2**53) <= integer <= 2**53 else float(integer)


def struct_size(*values: Any) -> Any:
    try:
        return _size(_Arguments("size", values))
    except _Mistake as mistake:
        return None, str(mistake).encode("latin-1")


def _size(arguments: _Arguments) -> int:
    layout = _Format(arguments)
    length = 0
    while True:
        option, size = layout.next()
        if not option:
            return length
        length += layout.padding(length, option, size)
        if option == "s":
            raise arguments.fault(1, "option 's' has no fixed size")
        if option == "c" and size == 0:
            raise arguments.fault(1, "option 'c0' has no fixed size")
        if not option.isalnum():
            layout.control(option)
        length += size


# cmsgpack


def pack_int64(number: float) -> bytes:
    return struct.pack(">q", int(number))


def pack_float(number: float) -> bytes:
    """As 32 bits where nothing is lost."""
    try:
        short = struct.pack(">f", number)
        if struct.unpack(">f", short)[0] == number:
            return b"\xca" + short
    except OverflowError:
        pass
    return b"\xcb" + struct.pack(">d", number)


def unpack_number(kind: int, data: bytes) -> float:
    number = struct.unpack({0xCA: ">f", 0xCB: ">d", 0xCF: ">q", 0xD3: ">q"}[kind], data)[0]
    return float(number)


# bit


def bits(name: bytes, x: float, n: float) -> Any:
    """An operation of LuaBitOp on 32 bits; the result is signed."""
    x, n = _to_bits(x), _to_bits(n)
    if name == b"tohex":
        digits = _signed(n)
        text = b"%08X" % x if digits < 0 else b"%08x" % x
        return text[8 - min(abs(digits), 8) :]
    shift = n & 31
    if name == b"band":
        x &= n
    elif name == b"bor":
        x |= n
    elif name == b"bxor":
        x ^= n
    elif name == b"bnot":
        x = ~x
    elif name == b"bswap":
        x = int.from_bytes(x.to_bytes(4, "little"), "big")
    elif name == b"lshift":
        x <<= shift
    elif name == b"rshift":
        x >>= shift
    elif name == b"arshift":
        x = _signed(x) >> shift
    elif name == b"rol":
        x = x << shift | x >> (32 - shift)
    elif name == b"ror":
        x = x >> shift | x << (32 - shift)
    return _signed(x & 0xFFFFFFFF)


def _to_bits(number: float) -> int:
    """Rounded to the nearest integer, modulo 2^32."""
    if isinstance(number, float):
        number = round(number) if math.isfinite(number) else 0
    return int(number) & 0xFFFFFFFF


def _signed(number: int) -> int:
    return number - 2**32 if number & 0x80000000 else number


# math.random


class Random:
    """The generator of the C library's lrand48(), which Redis gives to scripts; it begins alike in every server."""

    def __init__(self) -> None:
        self._state = 0x1234ABCD330E

    def seed(self, seed: float) -> None:
        self._state = ((_to_integer(seed) & 0xFFFFFFFF) << 16) | 0x330E

    def draw(self) -> float:
        """From 0 to 1, which it never is."""
        self._state = (self._state * 0x5DEECE66D + 0xB) & 0xFFFFFFFFFFFF
        return (self._state >> 17) % 0x7FFFFFFF / 0x7FFFFFFF
