"""Clients that ask for little beside one that asks for much, and what each request of theirs took.

One thread has all of the small clients, so that what it sees is not what the interpreter's lock does to many; the other
client has another, which mostly waits in recv().
"""

from __future__ import annotations

import heapq
import selectors
import socket
import threading
import time
from random import Random

_GET = b"*2\r\n$3\r\nGET\r\n$5\r\nsmall\r\n"
# What keeps a server busy without keeping the processor from others.
SLEEP = b"*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$4\r\n0.15\r\n"
ALL_ELEMENTS = b"*4\r\n$6\r\nLRANGE\r\n$5\r\nlarge\r\n$1\r\n0\r\n$2\r\n-1\r\n"
_ELEMENT = b"$1\r\nx\r\n"  # small, so that the server is busy with making the reply more than with sending it


def fill(port: int, elements: int) -> None:
    """The small key and the large one."""
    with _connect(port) as sock:
        sock.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nsmall\r\n$5\r\nvalue\r\n")
        sock.recv(100)
        push = b"*1002\r\n$5\r\nRPUSH\r\n$5\r\nlarge\r\n" + _ELEMENT * 1000
        for _ in range(elements // 1000):
            sock.sendall(push)
            sock.recv(100)


def elements_bytes(elements: int) -> int:
    """Of the reply to ALL_ELEMENTS."""
    return len(b"*%d\r\n" % elements) + elements * len(_ELEMENT)


def latencies_ns(
    port: int, much: tuple[bytes, int], clients: int, pause_s: float, period_s: float, duration_s: float
) -> list[int]:
    """What GETs took, sorted, while somebody asked for much every so often: a request, and the bytes of its reply.

    Each client pauses between a reply and its next request, so long on average; 0 for not at all.
    """
    stop = time.perf_counter() + duration_s
    slow = threading.Thread(target=_ask_for_much, args=(port, *much, period_s, stop - period_s / 2))
    slow.start()
    try:
        return sorted(_ask_for_little(port, clients, pause_s, stop))
    finally:
        slow.join()


def _ask_for_little(port: int, clients: int, pause_s: float, stop: float) -> list[int]:
    random = Random(7)
    found: list[int] = []
    socks = [_connect(port) for _ in range(clients)]
    sent_ns = [0] * clients
    with selectors.DefaultSelector() as selector:
        for number, sock in enumerate(socks):
            selector.register(sock, selectors.EVENT_READ, number)
        start = time.perf_counter()
        due = [(start + random.random() * pause_s, number) for number in range(clients)]
        heapq.heapify(due)
        while (now := time.perf_counter()) < stop:
            while due and due[0][0] <= now:
                number = heapq.heappop(due)[1]
                sent_ns[number] = time.perf_counter_ns()
                socks[number].sendall(_GET)
            for key, _ in selector.select(max(0.0, due[0][0] - now) if due else 0.1):
                number = key.data
                socks[number].recv(100)
                found.append(time.perf_counter_ns() - sent_ns[number])
                pause = random.expovariate(1 / pause_s) if pause_s else 0.0
                heapq.heappush(due, (time.perf_counter() + pause, number))
    for sock in socks:
        sock.close()
    return found


def _ask_for_much(port: int, request: bytes, reply_bytes: int, period_s: float, stop: float) -> None:
    room = bytearray(1 << 20)
    with _connect(port) as sock:
        while time.perf_counter() < stop:
            time.sleep(period_s)
            sock.sendall(request)
            left_bytes = reply_bytes
            while left_bytes > 0:
                left_bytes -= sock.recv_into(room)


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
