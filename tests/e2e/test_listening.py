"""Where Kora listens, whom it turns away, and whom it hangs up on."""

import asyncio
import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kora.engine.engine import Engine
from kora.server.connection import Connection
from tests.e2e.kora_process import KoraProcess, eventually
from tests.e2e.wire import END, Wire, error_text

pytestmark = pytest.mark.once

Start = Callable[..., KoraProcess]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6 LOOPBACK, so IPv6 was not tested")


@needs_ipv6
def test_ipv4_and_ipv6_by_default(start_server: Start) -> None:
    kora = start_server()
    with kora.connect(host="127.0.0.1") as four, kora.connect(host="::1") as six:
        assert four.run("SET", "k", "v") == b"OK"
        assert six.run("GET", "k") == b"v"
        assert b" addr=[::1]:" in six.run("CLIENT", "INFO")


def test_several_addresses(start_server: Start) -> None:
    kora = start_server("--bind", "127.0.0.1", "127.0.0.2", "127.0.0.3")
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        with kora.connect(host=host) as wire:
            assert wire.run("PING") == b"PONG"
            assert f" laddr={host}:{kora.port} ".encode() in wire.run("CLIENT", "INFO")
    with pytest.raises(ConnectionRefusedError):
        kora.connect(host="127.0.0.4")


def test_an_address_that_the_machine_lacks_is_passed_over_after_a_dash(start_server: Start) -> None:
    kora = start_server("--bind", "127.0.0.1 -203.0.113.7 -::2")
    assert kora.run("PING") == b"PONG"


def test_every_address_of_the_machine(start_server: Start) -> None:
    kora = start_server("--bind", "*")
    with kora.connect(host="127.0.0.5") as wire:
        assert wire.run("PING") == b"PONG"


def test_a_unix_socket_with_permissions(start_server: Start, tmp_path: Path) -> None:
    path = tmp_path / "kora.sock"
    path.write_text("")  # left behind by a server that was killed
    kora = start_server("--unixsocket", str(path), "--unixsocketperm", "700", port=0)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    with Wire(sock) as wire:
        assert wire.run("SET", "k", "v") == b"OK"
        info = wire.run("CLIENT", "INFO")
        assert f" addr={path}:0 laddr={path}:0 ".encode() in info
    kora.stop()
    assert not path.exists()


def test_a_client_too_many_is_told_so(start_server: Start) -> None:
    kora = start_server("--maxclients", "3")
    accepted = [kora.connect() for _ in range(3)]
    assert [wire.run("PING") for wire in accepted] == [b"PONG"] * 3
    with kora.connect() as turned_away:
        assert error_text(turned_away.read()) == "ERR max number of clients reached"
        assert turned_away.read() is END
    assert accepted[0].run("CONFIG", "SET", "maxclients", "4") == b"OK"
    with kora.connect() as fourth:
        assert fourth.run("PING") == b"PONG"
    accepted[2].close()
    eventually(lambda: b"connected_clients:2\r\n" in accepted[0].run("INFO", "clients"), "the server sees it go")
    assert b"rejected_connections:1\r\n" in accepted[0].run("INFO", "stats")
    with kora.connect() as again:
        assert again.run("PING") == b"PONG"


def test_an_idle_client_is_closed_and_a_busy_one_is_not(start_server: Start) -> None:
    kora = start_server("--timeout", "1")
    with kora.connect() as idle, kora.connect() as busy:
        assert idle.run("PING") == b"PONG"
        idle.sock.setblocking(False)

        def is_closed() -> bool:
            assert busy.run("PING") == b"PONG"
            try:
                return idle.sock.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        eventually(is_closed, "the idle client is closed")
        assert busy.run("PING") == b"PONG"


def keep_alive_s(kora: KoraProcess, wire: Wire) -> float:
    """Seconds until the server's next keep-alive probe to this client, as Linux tells; 0 where there is none."""
    ours = f":{wire.sock.getsockname()[1]:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, _, timer, *_ = line.split()
        if local.endswith(f":{kora.port:04X}") and remote.endswith(ours) and state == "01":
            kind, _, ticks = timer.partition(":")
            # Timer 2 is for keep-alive.
            return int(ticks, 16) / os.sysconf("SC_CLK_TCK") if kind == "02" else 0.0
    raise AssertionError("the connection is not in /proc/net/tcp")


def test_idle_peers_are_probed(start_server: Start) -> None:
    kora = start_server("--tcp-keepalive", "77")
    with kora.connect() as wire:
        assert wire.run("PING") == b"PONG"
        # Right after a reply another timer may be on.
        eventually(lambda: 60 < keep_alive_s(kora, wire) < 78, "a keep-alive timer of 77 s")
        assert wire.run("CONFIG", "SET", "tcp-keepalive", "0") == b"OK"
    with kora.connect() as wire:
        assert wire.run("PING") == b"PONG"
        time.sleep(0.3)
        assert keep_alive_s(kora, wire) == 0


def test_many_clients_at_once(start_server: Start) -> None:
    kora = start_server("--tcp-backlog", "1024")
    wires = [kora.connect() for _ in range(600)]
    for number, wire in enumerate(wires):
        wire.send(b"INCR n\r\nECHO %d\r\n" % number)
    counts = []
    for number, wire in enumerate(wires):
        counts.append(wire.read())
        assert wire.read() == b"%d" % number
    assert sorted(counts) == list(range(1, 601))


def test_clients_fit_into_the_limit_of_open_files(start_server: Start) -> None:
    kora = start_server(open_files_max=64)
    maxclients = int(kora.run("CONFIG", "GET", "maxclients")[1])
    assert 10 < maxclients < 64
    assert "maxclients lowered to the limit of open files" in kora.log
    wires = [kora.connect() for _ in range(maxclients)]
    assert [wire.run("PING") for wire in wires] == [b"PONG"] * maxclients
    with kora.connect() as turned_away:
        assert error_text(turned_away.read()) == "ERR max number of clients reached"


class _Transport(asyncio.Transport):
    """As much of a socket's end as a client that is turned away sees."""

    def __init__(self, peer: "tuple[str, int] | str", sock: socket.socket) -> None:
        super().__init__({"peername": peer, "sockname": ("192.0.2.1", 6379), "socket": sock})
        self.written = b""
        self.closed = False

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


# Without a socket, as loopback is all that a test has, and that is never turned away.
@pytest.mark.parametrize(
    ("flags", "peer", "is_served"),
    [
        ((), ("203.0.113.7", 5000), False),
        ((), ("2001:db8::1", 5000, 0, 0), False),
        ((), ("::ffff:203.0.113.7", 5000, 0, 0), False),
        ((), ("127.0.0.1", 5000), True),
        ((), ("127.1.2.3", 5000), True),
        ((), ("::1", 5000, 0, 0), True),
        ((), ("::ffff:127.0.0.1", 5000, 0, 0), True),
        ((), "", True),
        (("--requirepass", "secret"), ("203.0.113.7", 5000), True),
        (("--protected-mode", "no"), ("203.0.113.7", 5000), True),
    ],
)
def test_protected_mode_turns_other_machines_away_unless_there_is_a_password(
    make_engine: Callable[..., Engine], flags: "tuple[str, ...]", peer: "tuple[str, int] | str", is_served: bool
) -> None:
    engine = make_engine(*flags)
    loop = asyncio.new_event_loop()
    try:
        with socket.socket() as sock:
            transport = _Transport(peer, sock)
            connection = Connection(engine, loop)
            connection.connection_made(transport)
            assert transport.closed is not is_served
            assert len(engine.clients) == is_served
            assert engine.connections_rejected == (not is_served)
            if not is_served:
                assert transport.written.startswith(b"-DENIED Kora is running in protected mode")
                assert transport.written.endswith(b"\r\n")
                assert transport.written.count(b"\r\n") == 1
            connection.connection_lost(None)
            assert not engine.clients
    finally:
        loop.close()
