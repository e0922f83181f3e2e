"""A certificate authority for one test: `openssl` makes it, a server's certificate for 127.0.0.1, and a client's."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers import peer


@dataclass(frozen=True)
class Pair:
    cert: str
    key: str


@dataclass(frozen=True)
class Authority:
    ca: str
    server: Pair
    client: Pair
    stranger: Pair  # signed by itself


def make_authority(folder: Path) -> Authority:
    ca = _self_signed(folder, "ca")
    return Authority(
        ca.cert, _signed(folder, "server", ca), _signed(folder, "client", ca), _self_signed(folder, "stranger")
    )


def _self_signed(folder: Path, name: str) -> Pair:
    pair = Pair(str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
    _openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", pair.key, "-out", pair.cert, "-subj", f"/CN={name}", "-days", "2"),
        *(
            "-addext",
            "keyUsage=critical,keyCertSign,digitalSignature",
        ),  # which Python asks of an authority from 3.13 on
    )
    return pair


def _signed(folder: Path, name: str, ca: Pair) -> Pair:
    pair = Pair(str(folder / f"{name}.crt"), str(folder / f"{name}.key"))
    request, extensions = str(folder / f"{name}.csr"), folder / f"{name}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    _openssl("req", *_NEW_KEY, "-keyout", pair.key, "-out", request, "-subj", f"/CN={name}")
    _openssl(
        *("x509", "-req", "-in", request, "-out", pair.cert, "-CA", ca.cert, "-CAkey", ca.key),
        *("-CAcreateserial", "-days", "2", "-extfile", str(extensions)),
    )
    return pair


# Elliptic curves: an RSA key takes a second to find.
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: str) -> None:
    done = subprocess.run([peer("openssl"), *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
