"""Reading RDB from a file, front to back, a window of it at a time: what has been read is summed up as it goes.

A string longer than the window is read into its own place.  A length beyond the end of the file is found out before
anything is reserved for it, so that no file makes this take more memory than it has bytes, compressed strings aside.
"""

from collections.abc import Callable
from typing import BinaryIO, Final

from .payload import Tools
from .reader import STRING_BYTES_MAX, Damaged, Reader

# What those like who read record after record, and what is enough for one: on_read is called the more often.
WINDOW_BYTES: Final = 1 << 20
_STEP_BYTES: Final = 1 << 16


class FileReader(Reader):
    __slots__ = ("_crc", "_crc64", "_file", "_start", "_summed", "on_read", "size_bytes")

    def __init__(self, file: BinaryIO, size_bytes: int, tools: Tools, string_bytes_max: int = STRING_BYTES_MAX) -> None:
        """`file` stands where reading begins, which is its start as far as offsets go; it has so many bytes."""
        super().__init__(b"", 0, None, tools.decompress, string_bytes_max)
        self._file = file
        self.size_bytes = size_bytes
        self._start = 0  # of the window, in the file
        # Of what is in front of the window, and of so many bytes in it.
        self._crc64 = tools.crc64
        self._crc = 0
        self._summed = 0
        self.on_read: Callable[[], None] = _nothing  # called whenever the window moves

    @property
    def window(self) -> bytes:
        """What has been read and may be looked at, from `place` on."""
        return self._data

    @property
    def offset(self) -> int:
        """Of the next byte, in the file."""
        return self._start + self.place

    @property
    def left(self) -> int:
        return self.size_bytes - self.offset

    def crc(self) -> int:
        """The checksum of all that is in front of `place`."""
        self._sum_up()
        return self._crc

    def more(self, count: int) -> None:
        if count > self.left:
            raise Damaged("the file ends too early")
        self.widen(max(count, _STEP_BYTES))

    def widen(self, size_bytes: int) -> None:
        """Have a window of so many bytes begin at `place`, or as many as there are."""
        self._sum_up()
        kept = self._data[self.place :]
        self._start += self.place
        self.place = self._summed = 0
        self._data = kept + self._read(min(size_bytes, self.left) - len(kept))
        self._stop = len(self._data)
        self.on_read()

    def take(self, count: int) -> bytes:
        if self.place + count <= self._stop or count < WINDOW_BYTES:
            return super().take(count)
        if count > self.left:
            raise Damaged("the file ends too early")
        self._sum_up()
        head = self._data[self.place :]
        data = head + self._read(count - len(head))
        self._crc = self._crc64(data, self._crc)
        self._start += self.place + count
        self.place = self._summed = self._stop = 0
        self._data = b""
        self.on_read()
        return data

    def _sum_up(self) -> None:
        if self.place > self._summed:
            self._crc = self._crc64(memoryview(self._data)[self._summed : self.place], self._crc)
            self._summed = self.place

    def _read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            part = self._file.read(count)
            if not part:
                raise Damaged("the file has become shorter")
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _nothing() -> None:
    """Nobody wants to know."""
