"""Whether a request shows the token that it has to."""

import base64
import contextlib
import hmac
from typing import Final

CHALLENGE: Final = 'Bearer realm="kora", Basic realm="kora", charset="UTF-8"'


def shows(authorization: str, token: str) -> bool:
    """In its Authorization header: as a bearer, or as the password that a browser asks its user for."""
    return hmac.compare_digest(_token_of(authorization), token.encode("utf-8", "surrogateescape"))


def _token_of(authorization: str) -> bytes:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(given.strip()).partition(b":")[2]
    return given.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""
