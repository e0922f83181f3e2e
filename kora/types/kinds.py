"""What the kinds of values are called, and what every kind must be able to do for the commands that take any key.

One row per Python type: the name that TYPE answers, the encoding that OBJECT ENCODING answers, and how COPY copies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kora.types.hash import Hash
from kora.types.number import is_integer

# Redis keeps longer strings apart from their header (OBJ_ENCODING_EMBSTR_SIZE_LIMIT, object.c).
_EMBEDDED_MAX: Final = 44
# Redis holds these integers once for everybody, and tells so by this count (OBJ_SHARED_INTEGERS, OBJ_SHARED_REFCOUNT).
_SHARED_INTEGERS: Final = 10_000
SHARED_REFERENCES: Final = 2_147_483_647


@dataclass(frozen=True)
class Kind:
    name: str
    encoding: Callable[[Any], str]
    copy: Callable[[Any], Any]


def type_name(value: Any) -> str:
    """`string`, …; `none` for the value of a key that is not there."""
    return "none" if value is None else KINDS[type(value)].name


def encoding(value: Any) -> str:
    return KINDS[type(value)].encoding(value)


def copy(value: Any) -> Any:
    """A value that changes independently of the original; what cannot change may be the same object."""
    return KINDS[type(value)].copy(value)


def references(value: Any) -> int:
    """How often Redis would hold the value: integers below 10000 are shared."""
    shared = type(value) is bytes and len(value) <= 4 and is_integer(value) and 0 <= int(value) < _SHARED_INTEGERS
    return SHARED_REFERENCES if shared else 1


def _string_encoding(value: bytes) -> str:
    if is_integer(value):
        return "int"
    return "embstr" if len(value) <= _EMBEDDED_MAX else "raw"


KINDS: Final[dict[type, Kind]] = {
    bytes: Kind("string", _string_encoding, copy=lambda value: value),
    # A string that was edited.
    bytearray: Kind("string", lambda _: "raw", copy=bytearray),
    Hash: Kind("hash", lambda value: value.encoding, copy=lambda value: value.copy()),
}
