"""What every kind of value can do for the commands that take any key: say its name and encoding, and be copied.

Strings are Python's own; values of other kinds say it themselves, by the attributes of Value.
"""

from typing import Any, Final, Protocol

from kora.types.number import is_integer

# Redis keeps longer strings apart from their header (OBJ_ENCODING_EMBSTR_SIZE_LIMIT, object.c).
_EMBEDDED_MAX: Final = 44
# Redis holds these integers once for everybody, and tells so by this count (OBJ_SHARED_INTEGERS, OBJ_SHARED_REFCOUNT).
_SHARED_INTEGERS: Final = 10_000
SHARED_REFERENCES: Final = 2_147_483_647


class Value(Protocol):
    """What a value that is no string can do, whatever its kind and whoever implements it."""

    kind: str  # as TYPE answers it
    keeps_when_empty: bool  # whether a key may hold it when it has no elements
    counted_bytes: int  # the keyspace's: what it has counted for the value; 0 before it is stored
    counted_length: int  # as that, how many elements; the kernel's keyspace has its own place for that

    @property
    def encoding(self) -> str:
        """As OBJECT ENCODING answers it, and Redis would."""

    @property
    def size_bytes(self) -> int:
        """What it takes, as an estimate that is kept up at every change."""

    @property
    def effort(self) -> int:
        """About how many blocks of memory have to be freed when it goes."""

    def __len__(self) -> int: ...

    def copy(self) -> "Value":
        """One of its own, which changes independently."""

    def shed(self, count: int) -> int:
        """Drop about so many elements, no matter which; returns how many."""


def type_name(value: Any) -> str:
    """`string`, …; `none` for the value of a key that is not there."""
    if value is None:
        return "none"
    return "string" if _is_string(value) else str(value.kind)


def encoding(value: Any) -> str:
    if type(value) is bytes:
        return _string_encoding(value)
    # A string that was edited is `raw` however short it is.
    return "raw" if type(value) is bytearray else str(value.encoding)


def copy(value: Any) -> Any:
    """A value that changes independently of the original; what cannot change may be the same object."""
    if type(value) is bytes:
        return value
    return bytearray(value) if type(value) is bytearray else value.copy()


def _is_string(value: Any) -> bool:
    return type(value) is bytes or type(value) is bytearray


def references(value: Any) -> int:
    """How often Redis would hold the value: integers below 10000 are shared."""
    shared = type(value) is bytes and len(value) <= 4 and is_integer(value) and 0 <= int(value) < _SHARED_INTEGERS
    return SHARED_REFERENCES if shared else 1


def _string_encoding(value: bytes) -> str:
    if is_integer(value):
        return "int"
    return "embstr" if len(value) <= _EMBEDDED_MAX else "raw"
