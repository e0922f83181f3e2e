"""Names for addresses in compiled code, from the symbol tables of the files that are mapped there.

Reads ELF (System V ABI, "Object Files"): the full symbol table where a file has one, else that of what it exports.
"""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_SYMBOL: Final = struct.Struct("<IBBHQQ")  # name, info, other, section, value, bytes
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")  # name, type, flags, address, offset, bytes, link, info, align, entry
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")  # type, flags, offset, address, physical, bytes in file, bytes, align
_SYMTAB, _DYNSYM = 2, 11
_FUNCTION: Final = 2
_LOAD: Final = 1
_FILE_BYTES_MAX: Final = 512 << 20


class Place(NamedTuple):
    name: str  # of the function, or [file] where it is not known
    file: str  # what it is in, without folders


class Symbols:
    """`maps` are rows of what is mapped to be run: start, stop, offset in the file, and its path."""

    def __init__(self, maps: Iterable[Sequence[object]]) -> None:
        self._maps = sorted(
            (int(str(start)), int(str(stop)), int(str(at)), str(path)) for start, stop, at, path in maps
        )
        self._starts = [row[0] for row in self._maps]
        self._files: dict[str, _File] = {}

    def find(self, address: int) -> Place:
        row = bisect_right(self._starts, address) - 1
        if row < 0 or address >= self._maps[row][1]:
            return Place("[unknown]", "")
        start, _, offset, path = self._maps[row]
        file = os.path.basename(path) or "[anonymous]"
        if path.startswith("["):  # the system's own, such as [vdso]: calls that only read a clock
            return Place(path, path)
        if path not in self._files:
            self._files[path] = _File(path)
        name = self._files[path].find(address - start + offset)
        return Place(name or f"[{file}]", file)


class _File:
    def __init__(self, path: str) -> None:
        self._segments: list[tuple[int, int, int]] = []  # offset, bytes, address
        self._functions: list[tuple[int, int, str]] = []  # address, bytes, name
        try:
            if os.path.getsize(path) <= _FILE_BYTES_MAX:
                with open(path, "rb") as file:
                    self._read(file.read())
        except (OSError, OverflowError, ValueError, struct.error, IndexError):
            pass  # deleted meanwhile, or not what it seems to be: addresses in it have no names
        self._functions.sort()
        self._starts = [function[0] for function in self._functions]

    def find(self, offset: int) -> str:
        for start, size_bytes, address in self._segments:
            if start <= offset < start + size_bytes:
                at = offset - start + address
                place = bisect_right(self._starts, at) - 1
                if place >= 0 and at < self._starts[place] + self._functions[place][1]:
                    return self._functions[place][2]
        return ""

    def _read(self, data: bytes) -> None:
        if data[:6] != b"\x7fELF\x02\x01":  # of 64 bits, little endian: what Kora's kernel is compiled for
            return
        segments_at, sections_at = struct.unpack_from("<QQ", data, 32)
        segment_bytes, segments, section_bytes, sections_count = struct.unpack_from("<HHHH", data, 54)
        for number in range(segments):
            kind, _, offset, address, _, size_bytes, _, _ = _SEGMENT.unpack_from(
                data, segments_at + number * segment_bytes
            )
            if kind == _LOAD:
                self._segments.append((offset, size_bytes, address))
        sections = [
            _SECTION.unpack_from(data, sections_at + number * section_bytes) for number in range(sections_count)
        ]
        tables = {section[1]: section for section in sections if section[1] in (_SYMTAB, _DYNSYM)}
        table = tables.get(_SYMTAB) or tables.get(_DYNSYM)
        if table is None:
            return
        names_at = sections[table[6]][4]
        for name_at, info, _, section, address, size_bytes in _SYMBOL.iter_unpack(
            data[table[4] : table[4] + table[5] // _SYMBOL.size * _SYMBOL.size]
        ):
            if info & 0xF == _FUNCTION and section and size_bytes:
                start = names_at + name_at
                name = data[start : data.index(b"\0", start)].decode("utf-8", "replace")
                self._functions.append((address, size_bytes, name))
