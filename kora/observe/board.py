"""The activity board: one page of shared memory that says what the data process is doing right now.

The data process writes it, the sidecar reads it, even while the data loop is stuck.  Numbers are 64-bit words; times
are CLOCK_MONOTONIC in ns, which both processes share.  A command's words are valid while COMMAND_STARTED is the same,
and not 0, before and after they were read: the writer clears it first and sets it last.
"""

import mmap
import os
from dataclasses import dataclass
from typing import Final

SIZE: Final = 4096
HEARTBEAT_NS: Final = 50_000_000

# Words.
HEARTBEAT: Final = 0  # when the loop last turned, at most HEARTBEAT_NS ago unless it is stuck
STATE: Final = 1  # one of STATES
CLIENT: Final = 2  # id of the client whose turn it is, or was last; 0 once anything else has run
COMMAND_STARTED: Final = 3  # 0 unless a command that may take long is running

KEY_LENGTH: Final = 4
BUSY_FROM: Final = 5  # a script runs, and from when on clients are attended to (busy-reply-threshold); 0 for never

# Bytes of the files that are loaded, and of these what has been; zeros once that is done.
LOADING_BYTES: Final = 6
LOADED_BYTES: Final = 7

# Texts, zero-padded to their places by command_text() and address_text(), once for all commands.
_COMMAND: Final = slice(64, 96)
_ADDRESS: Final = slice(96, 160)
_KEY: Final = slice(160, 192)
KEY_MAX: Final = 32  # of a key only this much is shown: enough to know whose it is

LOADING: Final = 0
READY: Final = 1
DRAINING: Final = 2
BUSY: Final = 3  # a script runs for long: clients are attended to, but most of what they ask is refused
STATES: Final = ("loading", "ready", "draining", "busy")


@dataclass(frozen=True)
class Activity:
    """What a reader sees; times in ns, texts decoded with replacement."""

    state: str
    heartbeat_age_ns: int
    client_id: int  # whose turn it is or was last; 0 when something else ran after it
    turn_elapsed_ns: int  # since the loop last turned: at least as long as that turn, if it is not over
    busy_left_ns: int | None  # until a script that runs lets clients be attended to; below 0 once it should have
    command: str  # "" unless a command that may take long is running
    command_elapsed_ns: int
    key_prefix: str
    address: str
    loading_bytes: int  # 0 unless data is being loaded
    loaded_bytes: int


class Board:
    """Both ends of the page; `fd` is what the parent hands to its child, or -1 for a page that nobody else sees."""

    __slots__ = ("_page", "fd", "words")

    def __init__(self, fd: int = -1) -> None:
        self.fd = fd
        self._page = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._page).cast("Q")

    @classmethod
    def shared(cls) -> "Board":
        """One that a child process can open, too."""
        fd = os.memfd_create("kora-board")
        os.ftruncate(fd, SIZE)
        return cls(fd)

    @property
    def state(self) -> str:
        return STATES[self.words[STATE]]

    def begin_command(self, started_ns: int, command: bytes, address: bytes, key: bytes) -> None:
        """A command that may take long starts; its name and address come from command_text() and address_text()."""
        page, words = self._page, self.words
        words[COMMAND_STARTED] = 0
        page[_COMMAND] = command
        page[_ADDRESS] = address
        if len(key) > KEY_MAX:
            key = key[:KEY_MAX]
        words[KEY_LENGTH] = len(key)
        page[160 : 160 + len(key)] = key
        words[COMMAND_STARTED] = started_ns

    def end_command(self) -> None:
        self.words[COMMAND_STARTED] = 0

    def save(self) -> bytes:
        """What runs, for restore(), while others have turns in the middle of it."""
        return self._page[8 * CLIENT : _KEY.stop]

    def restore(self, saved: bytes) -> None:
        self.words[COMMAND_STARTED] = 0
        at = 8 * (COMMAND_STARTED - CLIENT)
        self._page[8 * KEY_LENGTH : _KEY.stop] = saved[8 * (KEY_LENGTH - CLIENT) :]
        self.words[CLIENT] = int.from_bytes(saved[:8], "little")
        self.words[COMMAND_STARTED] = int.from_bytes(saved[at : at + 8], "little")

    def read(self, now_ns: int) -> Activity:
        words = self.words
        for _ in range(100):
            started = words[COMMAND_STARTED]
            command, address = self._page[_COMMAND], self._page[_ADDRESS]
            key = self._page[_KEY][: words[KEY_LENGTH]]
            if words[COMMAND_STARTED] == started:
                break
        else:
            started = 0  # commands come and go faster than they can be read: none of them takes long
        client_id, heartbeat_age_ns = words[CLIENT], max(0, now_ns - words[HEARTBEAT])
        return Activity(
            state=STATES[words[STATE]],
            heartbeat_age_ns=heartbeat_age_ns,
            client_id=client_id,
            turn_elapsed_ns=heartbeat_age_ns if client_id else 0,
            busy_left_ns=words[BUSY_FROM] - now_ns if words[BUSY_FROM] else None,
            command=_text(command.rstrip(b"\0")) if started else "",
            command_elapsed_ns=max(0, now_ns - started) if started else 0,
            key_prefix=_text(key) if started else "",
            address=_text(address.rstrip(b"\0")) if started else "",
            loading_bytes=words[LOADING_BYTES],
            loaded_bytes=words[LOADED_BYTES],
        )

    def close(self) -> None:
        self.words.release()
        self._page.close()


def command_text(name: str) -> bytes:
    return name.encode()[:32].ljust(32, b"\0")


def address_text(address: str) -> bytes:
    return address.encode("utf-8", "surrogateescape")[:64].ljust(64, b"\0")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
