"""A profile, of CPU time or of memory, and the forms that it is read in.

pprof's is that of `go tool pprof` and of most services for profiles: a gzipped message of profile.proto
(github.com/google/pprof, proto/profile.proto), of which this writes and reads what a Profile has.  Collapsed stacks are
what flame graphs are drawn from: a line for each stack, `root;caller;function 17`.  speedscope's is JSON for
speedscope.app.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

# What a profile may be when it is unpacked: ten times the largest that Kora writes.
_BYTES_MAX: Final = 256 << 20


class Frame(NamedTuple):
    """A function that was being run, or whatever else something was spent on."""

    name: str
    file: str = ""
    start_line: int = 0  # of the function; 0 where there is none
    line: int = 0


class Sample(NamedTuple):
    stack: tuple[Frame, ...]  # from the root to the leaf
    values: tuple[int, ...]  # one for each unit of the profile
    labels: dict[str, str]


@dataclass
class Profile:
    units: tuple[tuple[str, str], ...]  # what is told of each stack: ("samples", "count"), ("cpu", "nanoseconds")
    samples: list[Sample]
    period_unit: tuple[str, str] = ("", "")
    period: int = 0
    started_ns: int = 0  # Unix time
    elapsed_ns: int = 0
    comments: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Of the last unit, which is what a profile is mostly read for."""
        return sum(sample.values[-1] for sample in self.samples)


class BadProfile(Exception):
    """Bytes that are no profile in pprof's form."""


def to_collapsed(profile: Profile) -> str:
    lines: dict[str, int] = {}
    for sample in profile.samples:
        line = ";".join(_plain(frame.name) for frame in sample.stack)
        lines[line] = lines.get(line, 0) + sample.values[-1]
    return "".join(f"{line} {value}\n" for line, value in lines.items())


def _plain(name: str) -> str:
    return "".join("_" if character in ";\r\n" else character for character in name)


def to_speedscope(profile: Profile, name: str) -> str:
    frames: dict[Frame, int] = {}
    stacks = [[frames.setdefault(frame, len(frames)) for frame in sample.stack] for sample in profile.samples]
    kinds = []
    for column, (of_what, unit) in enumerate(profile.units):
        weights = [sample.values[column] for sample in profile.samples]
        kinds.append(
            {
                "type": "sampled",
                "name": f"{name}: {of_what}",
                "unit": unit if unit in ("nanoseconds", "bytes") else "none",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": stacks,
                "weights": weights,
            }
        )
    value = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "kora",
        "name": name,
        "activeProfileIndex": len(kinds) - 1,
        "shared": {"frames": [_speedscope_frame(frame) for frame in frames]},
        "profiles": kinds,
    }
    return json.dumps(value, separators=(",", ":"))


def _speedscope_frame(frame: Frame) -> dict[str, Any]:
    place = {"file": frame.file, "line": frame.line} if frame.file else {}
    return {"name": frame.name, **place}


# --- pprof ---

# Numbers of fields in profile.proto.
_SAMPLE_TYPE, _SAMPLE, _MAPPING, _LOCATION, _FUNCTION, _STRING = 1, 2, 3, 4, 5, 6
_TIME, _DURATION, _PERIOD_TYPE, _PERIOD, _COMMENT = 9, 10, 11, 12, 13


def to_pprof(profile: Profile) -> bytes:
    writer = _Writer()
    for unit in profile.units:
        writer.message(_SAMPLE_TYPE, writer.unit(unit))
    for sample in profile.samples:
        part = bytearray()
        # From the leaf to the root.
        _packed(part, 1, [writer.location(frame) for frame in reversed(sample.stack)])
        _packed(part, 2, sample.values)
        for key, value in sample.labels.items():
            label = bytearray()
            _number(label, 1, writer.string(key))
            _number(label, 2, writer.string(value))
            _bytes(part, 3, label)
        writer.message(_SAMPLE, part)
    mapping = bytearray()
    _number(mapping, 1, 1)
    _number(mapping, 5, writer.string("kora"))
    for known in (7, 8, 9):  # functions, files and lines: nobody need look for them in a binary
        _number(mapping, known, 1)
    writer.message(_MAPPING, mapping)
    _number(writer.data, _TIME, profile.started_ns)
    _number(writer.data, _DURATION, profile.elapsed_ns)
    if profile.period:
        writer.message(_PERIOD_TYPE, writer.unit(profile.period_unit))
        _number(writer.data, _PERIOD, profile.period)
    for comment in profile.comments:
        _number(writer.data, _COMMENT, writer.string(comment))
    # Level 6 takes three times as long, for a tenth less.
    return gzip.compress(writer.finish(), compresslevel=3)


class _Writer:
    """Strings, functions and locations, each once: samples name them by number."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Frame, int] = {}

    def string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def unit(self, unit: tuple[str, str]) -> bytearray:
        part = bytearray()
        _number(part, 1, self.string(unit[0]))
        _number(part, 2, self.string(unit[1]))
        return part

    def location(self, frame: Frame) -> int:
        number = self._locations.get(frame)
        if number is None:
            number = self._locations[frame] = len(self._locations) + 1
            line, part = bytearray(), bytearray()
            _number(line, 1, self._function(frame))
            _number(line, 2, frame.line)
            _number(part, 1, number)
            _number(part, 2, 1)
            _bytes(part, 4, line)
            self.message(_LOCATION, part)
        return number

    def _function(self, frame: Frame) -> int:
        place = frame.name, frame.file, frame.start_line
        number = self._functions.get(place)
        if number is None:
            number = self._functions[place] = len(self._functions) + 1
            part = bytearray()
            _number(part, 1, number)
            _number(part, 2, self.string(frame.name))
            _number(part, 3, self.string(frame.name))
            _number(part, 4, self.string(frame.file))
            _number(part, 5, frame.start_line)
            self.message(_FUNCTION, part)
        return number

    def message(self, number: int, part: bytearray) -> None:
        _bytes(self.data, number, part)

    def finish(self) -> bytes:
        for text in self._strings:
            _bytes(self.data, _STRING, text.encode("utf-8", "replace"))
        return bytes(self.data)


def _varint(data: bytearray, value: int) -> None:
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)


def _number(data: bytearray, number: int, value: int) -> None:
    if value:
        _varint(data, number << 3)
        _varint(data, value)


def _bytes(data: bytearray, number: int, part: "bytes | bytearray") -> None:
    _varint(data, number << 3 | 2)
    _varint(data, len(part))
    data += part


def _packed(data: bytearray, number: int, values: "list[int] | tuple[int, ...]") -> None:
    part = bytearray()
    for value in values:
        _varint(part, value)
    _bytes(data, number, part)


def from_pprof(data: bytes) -> Profile:
    """The profile that to_pprof() has written; raises BadProfile."""
    try:
        return _Reader(_unpacked(data)).profile()
    except (zlib.error, EOFError, OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BadProfile(f"not a profile in pprof's form: {error}") from None


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    plain = unpacker.decompress(data, _BYTES_MAX)
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("cut short, or too large")
    return plain


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._top: dict[int, list[Any]] = {}
        for number, value in _fields(data):
            self._top.setdefault(number, []).append(value)
        self._strings = [bytes(text).decode("utf-8", "replace") for text in self._all(_STRING)]
        self._functions = {one[1]: one for one in map(_one_each, self._all(_FUNCTION))}
        self._frames = {one[1]: self._frame(one) for one in map(_one_each, self._all(_LOCATION))}

    def profile(self) -> Profile:
        period_unit = self._all(_PERIOD_TYPE)
        return Profile(
            units=tuple(self._unit(unit) for unit in self._all(_SAMPLE_TYPE)),
            samples=[self._sample(part) for part in self._all(_SAMPLE)],
            period_unit=self._unit(period_unit[0]) if period_unit else ("", ""),
            period=self._first(_PERIOD),
            started_ns=self._first(_TIME),
            elapsed_ns=self._first(_DURATION),
            comments=[self._strings[place] for place in self._all(_COMMENT)],
        )

    def _all(self, number: int) -> list[Any]:
        return self._top.get(number, [])

    def _first(self, number: int) -> int:
        return int(self._all(number)[0]) if self._all(number) else 0

    def _unit(self, part: bytes) -> tuple[str, str]:
        fields = _one_each(part)
        return self._strings[fields.get(1, 0)], self._strings[fields.get(2, 0)]

    def _frame(self, location: dict[int, Any]) -> Frame:
        line = _one_each(location[4])
        function = self._functions[line[1]]
        name, file = self._strings[function.get(2, 0)], self._strings[function.get(4, 0)]
        return Frame(name, file, function.get(5, 0), line.get(2, 0))

    def _sample(self, part: bytes) -> Sample:
        stack: list[Frame] = []
        values: list[int] = []
        labels = {}
        for number, value in _fields(part):
            if number == 1:
                stack = [self._frames[location] for location in _unpack(value)][::-1]
            elif number == 2:
                values = list(_unpack(value))
            elif number == 3:
                label = _one_each(value)
                labels[self._strings[label[1]]] = self._strings[label.get(2, 0)]
        if len(values) != len(self._all(_SAMPLE_TYPE)):
            raise ValueError("a sample has not a value for each unit")
        return Sample(tuple(stack), tuple(values), labels)


def _one_each(part: bytes) -> dict[int, Any]:
    return dict(_fields(part))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 == 0:
            value, at = _read_varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                raise ValueError("cut short")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {tag & 7}")


def _unpack(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _read_varint(data, at)
        yield value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


@dataclass(frozen=True)
class Format:
    content_type: str
    ending: str
    render: Callable[[Profile, str], bytes]


FORMATS: Final = {
    "pprof": Format("application/octet-stream", "pb.gz", lambda profile, name: to_pprof(profile)),
    "collapsed": Format("text/plain", "txt", lambda profile, name: to_collapsed(profile).encode()),
    "speedscope": Format("application/json", "json", lambda profile, name: to_speedscope(profile, name).encode()),
}
