"""Ports of loopback for servers that tests start."""

import socket
from pathlib import Path
from random import SystemRandom
from typing import Final

_FIRST: Final = 10_000
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_STOP_ELSEWHERE: Final = 32_768
_RANDOM: Final = SystemRandom()  # not Hypothesis', which is the same in each process


def free_port() -> int:
    """One that nobody has.

    Those that the system gives to whoever connects somewhere are left out: among hundreds of connections one would get
    it before the server that is to be started.
    """
    try:
        stop = int(_RANGE.read_text().split()[0])
    except OSError:
        stop = _STOP_ELSEWHERE
    while True:
        port = _RANDOM.randrange(_FIRST, max(stop, _FIRST + 1_000))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
