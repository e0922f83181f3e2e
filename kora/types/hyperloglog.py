"""HyperLogLog: how many different elements were added, within 0.81 %, in 12 KB at most.

A HyperLogLog is a string, and its bytes are Redis' (hyperloglog.c): clients fetch them with GET and put them back with
SET, and DUMP carries them to other servers.

    "HYLL", encoding (0 dense, 1 sparse), 3 bytes of nothing, the cardinality last counted in 8 bytes, registers

The cardinality is little-endian; its highest bit says that it is out of date.  Each element chooses one of 16384
registers by 14 bits of its hash, and the register remembers the longest run of zero bits seen in the rest, plus one.

Dense registers are 6 bits each, from the low bits up.  Sparse ones are runs, in as many bytes as it takes:

    00xxxxxx            ZERO    x + 1 registers are 0
    01xxxxxx yyyyyyyy   XZERO   xy + 1 registers are 0
    1vvvvvxx            VAL     x + 1 registers are v + 1

Setting a sparse register splits the run that it is in, joins equal neighbours, and goes over to dense where the bytes
would be more than `sparse_max_bytes`.  Which neighbours are joined is Redis' choice, and followed here exactly.

Registers by the thousand are worked on as bytes and big integers, one byte per register, which is what makes counting
and merging fast enough.
"""

import re
from collections.abc import Iterator
from math import inf, sqrt
from struct import unpack_from
from typing import Final

from kora.errors import CommandError

REGISTERS: Final = 16384
_INDEX_BITS: Final = 14
_HASH_BITS: Final = 64 - _INDEX_BITS  # of which the leading run is counted
_REGISTER_BITS: Final = 6
HEADER_BYTES: Final = 16
DENSE_BYTES: Final = HEADER_BYTES + REGISTERS * _REGISTER_BITS // 8
BYTES_MAX: Final = HEADER_BYTES + 2 * REGISTERS  # where each sparse register is a run of its own, in two bytes
_ENCODING: Final = 4  # the place of it
_CARDINALITY: Final = slice(8, 16)
_OUT_OF_DATE: Final = 0x80  # in the last byte of the cardinality
_DENSE: Final = 0
_SPARSE: Final = 1

_ZERO_MAX: Final = 64
_VAL_MAX: Final = 4
_SPARSE_VALUE_MAX: Final = 32
_EMPTY: Final = b"HYLL\x01\0\0\0" + bytes(8) + b"\x7f\xff"


class NotHyperLogLog(CommandError):
    message = "WRONGTYPE Key is not a valid HyperLogLog string value."


class CorruptHyperLogLog(CommandError):
    message = "INVALIDOBJ Corrupted HLL object detected"


class HyperLogLog:
    """The bytes of one, to be worked on and stored again."""

    __slots__ = ("_sparse_max_bytes", "data")

    def __init__(self, data: bytes | bytearray = _EMPTY, sparse_max_bytes: int = 3000) -> None:
        """Takes a copy.  Raises NotHyperLogLog; whether sparse registers add up is only found out by using them."""
        if len(data) < HEADER_BYTES or data[:4] != b"HYLL" or data[_ENCODING] > _SPARSE:
            raise NotHyperLogLog
        if data[_ENCODING] == _DENSE and len(data) != DENSE_BYTES:
            raise NotHyperLogLog
        self.data = bytearray(data)
        self._sparse_max_bytes = sparse_max_bytes

    @property
    def is_sparse(self) -> bool:
        return self.data[_ENCODING] == _SPARSE

    def add(self, element: bytes) -> bool:
        """Whether a register changed, so that the count may have."""
        hashed = hash_of(element)
        rest = hashed >> _INDEX_BITS | 1 << _HASH_BITS
        return self.raise_register(hashed & (REGISTERS - 1), (rest & -rest).bit_length())

    def raise_register(self, index: int, value: int) -> bool:
        """Set a register unless it has as much; whether it had less.  Raises CorruptHyperLogLog."""
        if not self.is_sparse:
            return self._raise_dense(index, value)
        if value > _SPARSE_VALUE_MAX:
            self.make_dense()
            return self._raise_dense(index, value)
        return self._raise_sparse(index, value, *self._locate(index))

    def register(self, index: int) -> int:
        """Of a dense one."""
        bit = index * _REGISTER_BITS
        place = HEADER_BYTES + (bit >> 3)
        return int.from_bytes(self.data[place : place + 2], "little") >> (bit & 7) & 63

    def registers(self) -> bytes:
        """All of them, a byte each.  Raises CorruptHyperLogLog."""
        return _sparse_registers(self.data) if self.is_sparse else _dense_registers(self.data)

    def make_dense(self) -> bool:
        """Whether it was sparse.  Raises CorruptHyperLogLog."""
        if not self.is_sparse:
            return False
        self.data[HEADER_BYTES:] = _pack_registers(_sparse_registers(self.data))
        self.data[_ENCODING] = _DENSE
        return True

    def merge(self, registers: bytes) -> None:
        """Raise all registers to those given, in order, as PFMERGE does."""
        if not self.is_sparse:
            self.data[HEADER_BYTES:] = _pack_registers(larger_registers(registers, self.registers()))
            return
        # Registers come in order, so that each is looked for from where the last one was found: from the run before,
        # which may have been joined with others since, but begins where it did.
        start = HEADER_BYTES, 0
        for match in _NON_ZERO.finditer(registers):
            index, value = match.start(), registers[match.start()]
            place, first, before = self._walk(index, *start, -1)
            if place == start[0] != HEADER_BYTES:
                place, first, before = self._locate(index)
            if before >= 0:
                start = before, first - _run(self.data, before)[0]
            if value <= _SPARSE_VALUE_MAX:
                self._raise_sparse(index, value, place, first, before)
            else:
                self.make_dense()
            if not self.is_sparse:
                self.merge(registers)
                return

    # The cardinality

    @property
    def cached_count(self) -> int | None:
        """The cardinality if it was counted since the last change."""
        if self.data[_CARDINALITY][-1] & _OUT_OF_DATE:
            return None
        return int.from_bytes(self.data[_CARDINALITY], "little")

    def count(self) -> int:
        """The cardinality, from now on cached.  Raises CorruptHyperLogLog."""
        cardinality = self.cached_count
        if cardinality is None:
            cardinality = count_registers(self.registers())
            self.data[_CARDINALITY] = cardinality.to_bytes(8, "little", signed=True)
        return cardinality

    def forget_count(self) -> None:
        self.data[_CARDINALITY.stop - 1] |= _OUT_OF_DATE

    # Dense

    def _raise_dense(self, index: int, value: int) -> bool:
        bit = index * _REGISTER_BITS
        place, shift = HEADER_BYTES + (bit >> 3), bit & 7
        part = self.data[place : place + 2]
        word = int.from_bytes(part, "little")
        if word >> shift & 63 >= value:
            return False
        word = word & ~(63 << shift) | value << shift
        self.data[place : place + 2] = word.to_bytes(len(part), "little")
        return True

    # Sparse.  A run is told by its place in the bytes, its first register, and the place of the run before it, or -1.

    def _locate(self, index: int) -> tuple[int, int, int]:
        """The run of a register.  Raises CorruptHyperLogLog where there is none.

        Runs of one byte are summed up by the dozen.  Those of two part them, and there are 252 at most.
        """
        data = self.data
        place, first, before = HEADER_BYTES, 0, -1
        for stop, span in _long_runs(data):
            while place < stop:
                part = data[place : min(stop, place + _STRIDE)]
                reached = first + sum(part.translate(_SPANS))
                if index < reached:
                    return self._walk(index, place, first, before)
                first = reached
                place += len(part)
                before = place - 1
            if index < first + span:
                return stop, first, before
            before, first, place = stop, first + span, stop + 2
        raise CorruptHyperLogLog

    def _walk(self, index: int, place: int, first: int, before: int) -> tuple[int, int, int]:
        """As _locate(), run by run from a known one on."""
        while place < len(self.data):
            span, size = _run(self.data, place)
            if index < first + span:
                return place, first, before
            before, first = place, first + span
            place += size
        raise CorruptHyperLogLog

    def _raise_sparse(self, index: int, value: int, place: int, first: int, before: int) -> bool:
        data = self.data
        span, size = _run(data, place)
        ahead, behind = index - first, first + span - 1 - index
        if data[place] & 0x80:
            old = (data[place] >> 2 & 31) + 1
            if old >= value:
                return False
            split = _val(old, ahead) + _val(value, 1) + _val(old, behind)
        else:
            split = _zeros(ahead) + _val(value, 1) + _zeros(behind)
        if len(split) > size and len(data) + len(split) - size > self._sparse_max_bytes:
            self.make_dense()
            return self._raise_dense(index, value)
        data[place : place + size] = split
        self._join(HEADER_BYTES if before < 0 else before)
        return True

    def _join(self, place: int) -> None:
        """Join runs of equal values, where the sum is not too long for one, in five steps from a place on."""
        data = self.data
        for _ in range(5):
            if place >= len(data):
                break
            if not data[place] & 0x80:
                place += _run(data, place)[1]
                continue
            if place + 1 < len(data) and data[place + 1] & 0x80 and not (data[place] ^ data[place + 1]) & 0x7C:
                length = (data[place] & 3) + (data[place + 1] & 3) + 2
                if length <= _VAL_MAX:
                    data[place : place + 2] = _val((data[place] >> 2 & 31) + 1, length)
                    continue  # it may join the next one, too
            place += 1


# Runs

_XZERO: Final = re.compile(rb"[\x40-\x7f].", re.DOTALL)
_NON_ZERO: Final = re.compile(rb"[^\0]")
_STRIDE: Final = 64

# How many registers a run of one byte covers, by its byte; and these registers.  The others are not of one byte.
_SPANS: Final = bytes((byte & 3) + 1 if byte & 0x80 else 0 if byte & 0x40 else (byte & 0x3F) + 1 for byte in range(256))
_RUNS: Final = tuple(
    bytes([(byte >> 2 & 31) + 1 if byte & 0x80 else 0]) * span for byte, span in zip(range(256), _SPANS, strict=True)
)


def _run(data: bytes | bytearray, place: int) -> tuple[int, int]:
    """How many registers a run covers, and how many bytes it takes.  Half a run covers none."""
    byte = data[place]
    if byte & 0xC0 != 0x40:
        return _SPANS[byte], 1
    if place + 1 == len(data):
        return 0, 1
    return ((byte & 0x3F) << 8 | data[place + 1]) + 1, 2


def _long_runs(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Places and spans of all runs of two bytes; then the end, which covers nothing."""
    for match in _XZERO.finditer(data, HEADER_BYTES):
        place = match.start()
        yield place, ((data[place] & 0x3F) << 8 | data[place + 1]) + 1
    yield len(data), 0


def _zeros(span: int) -> bytes:
    if not span:
        return b""
    if span > _ZERO_MAX:
        return bytes((0x40 | (span - 1) >> 8, (span - 1) & 0xFF))
    return bytes((span - 1,))


def _val(value: int, span: int) -> bytes:
    return bytes((0x80 | (value - 1) << 2 | (span - 1),)) if span else b""


def describe_runs(data: bytes | bytearray) -> bytes:
    """As PFDEBUG DECODE prints a sparse one: z and Z for short and long runs of zeros, v for value and length."""
    words = []
    place = HEADER_BYTES
    while place < len(data):
        span, size = _run(data, place)
        byte = data[place]
        if byte & 0x80:
            words.append(b"v:%d,%d" % ((byte >> 2 & 31) + 1, span))
        else:
            words.append((b"z:%d" if size == 1 else b"Z:%d") % span)
        place += size
    return b" ".join(words)


# Registers by the thousand, a byte each


def _sparse_registers(data: bytearray) -> bytes:
    # No more bytes than runs of one register would take, lest somebody's own make take gigabytes.
    if len(data) > HEADER_BYTES + 2 * REGISTERS:
        raise CorruptHyperLogLog
    parts = []
    place = HEADER_BYTES
    for stop, span in _long_runs(data):
        parts += [*map(_RUNS.__getitem__, data[place:stop]), bytes(span)]
        place = stop + 2
    registers = b"".join(parts)
    if len(registers) != REGISTERS:
        raise CorruptHyperLogLog
    return registers


# Three bytes hold four registers: which bits of a byte belong to which, moved to where they belong.
def _moved(mask: int, left: int = 0, right: int = 0) -> bytes:
    return bytes(((byte & mask) << left & 0xFF) >> right for byte in range(256))


def _either(first: bytes | bytearray, second: bytes | bytearray) -> bytes:
    return (int.from_bytes(first, "little") | int.from_bytes(second, "little")).to_bytes(len(first), "little")


_LOW_6: Final = _moved(0x3F)
_HIGH_2: Final = _moved(0xC0, right=6)
_LOW_4: Final = _moved(0x0F, left=2)
_HIGH_4: Final = _moved(0xF0, right=4)
_LOW_2: Final = _moved(0x03, left=4)
_HIGH_6: Final = _moved(0xFC, right=2)

_PACK_1_LOW: Final = _moved(0x03, left=6)
_PACK_1_HIGH: Final = _moved(0x3C, right=2)
_PACK_2_LOW: Final = _moved(0x0F, left=4)
_PACK_2_HIGH: Final = _moved(0x30, right=4)
_PACK_3: Final = _moved(0x3F, left=2)


def _dense_registers(data: bytearray) -> bytes:
    one, two, three = (data[HEADER_BYTES + offset :: 3] for offset in range(3))
    registers = bytearray(REGISTERS)
    registers[0::4] = one.translate(_LOW_6)
    registers[1::4] = _either(one.translate(_HIGH_2), two.translate(_LOW_4))
    registers[2::4] = _either(two.translate(_HIGH_4), three.translate(_LOW_2))
    registers[3::4] = three.translate(_HIGH_6)
    return bytes(registers)


def _pack_registers(registers: bytes) -> bytes:
    one, two, three, four = (registers[offset::4] for offset in range(4))
    packed = bytearray(DENSE_BYTES - HEADER_BYTES)
    packed[0::3] = _either(one, two.translate(_PACK_1_LOW))
    packed[1::3] = _either(two.translate(_PACK_1_HIGH), three.translate(_PACK_2_LOW))
    packed[2::3] = _either(three.translate(_PACK_2_HIGH), four.translate(_PACK_3))
    return bytes(packed)


_HIGH_BITS: Final = int.from_bytes(b"\x80" * REGISTERS, "little")


def larger_registers(first: bytes, second: bytes) -> bytes:
    """Of each two the larger: all at once, as bytes of one big integer, whose high bits are free to compare with."""
    one, two = int.from_bytes(first, "little"), int.from_bytes(second, "little")
    # A high bit stays where nothing had to be borrowed from it: where the first is at least the second.
    larger = (one | _HIGH_BITS) - two & _HIGH_BITS
    mask = larger - (larger >> 7)
    return (two ^ (one ^ two) & mask).to_bytes(REGISTERS, "little")


# Counting


def count_registers(registers: bytes) -> int:
    """The cardinality, by the improved estimator of Otmar Ertl, arXiv:1702.01284, section 4."""
    histogram = [registers.count(value) for value in range(_HASH_BITS + 2)]
    z = REGISTERS * _tau((REGISTERS - histogram[_HASH_BITS + 1]) / REGISTERS)
    for value in range(_HASH_BITS, 0, -1):
        z = (z + histogram[value]) * 0.5
    z += REGISTERS * _sigma(histogram[0] / REGISTERS)
    estimate = _ALPHA * REGISTERS * REGISTERS / z if z else inf
    # Only registers that no element can set lead beyond; it is what Redis answers, on the usual machines.
    return int(estimate + 0.5) if estimate < 1 << 63 else -(1 << 63)


_ALPHA: Final = 0.721347520444481703680  # 1 / (2 ln 2)


def _sigma(x: float) -> float:
    if x == 1:
        return inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
    return z / 3


# The hash

_SEED: Final = 0xADC83B19
_FACTOR: Final = 0xC6A4A7935BD1E995
_BITS_64: Final = (1 << 64) - 1


def hash_of(data: bytes) -> int:
    """MurmurHash64A, little-endian on every machine."""
    size = len(data)
    hashed = _SEED ^ size * _FACTOR & _BITS_64
    whole = size >> 3
    for block in unpack_from(f"<{whole}Q", data):
        mixed = block * _FACTOR & _BITS_64
        mixed = (mixed ^ mixed >> 47) * _FACTOR & _BITS_64
        hashed = (hashed ^ mixed) * _FACTOR & _BITS_64
    if size & 7:
        hashed = (hashed ^ int.from_bytes(data[whole << 3 :], "little")) * _FACTOR & _BITS_64
    hashed = (hashed ^ hashed >> 47) * _FACTOR & _BITS_64
    return hashed ^ hashed >> 47
