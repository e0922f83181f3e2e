"""Keys that end while the test runs: redis-server in real time, Kora on a clock that is set to what redis-server says.

Which keys are left, what TTL says, and how many were counted as expired must agree at every look.  Redis looks at its
clock once for a transaction, so one look is a MULTI between two TIMEs; if a deadline falls between them, the look says
nothing and is taken again.
"""

import random
import time

import pytest

from tests.resp_reader import read_replies

from .compare import numbers_of
from .peers import Kora, RedisServer, request, requests
from .words import Step

KEYS = [b"k%d" % number for number in range(40)]
LOOKS = 8


def _expired(info: bytes) -> int:
    return int(numbers_of(info).stats["expired_keys"])


@pytest.mark.parametrize("seed", range(4))
def test_keys_end_at_the_same_time_in_both(redis: RedisServer, seed: int) -> None:
    source = random.Random(seed)
    redis.reset()
    kora = Kora(now_us=redis.now_us())
    commands = [(b"SET", key, b"v", b"PX", b"%d" % source.randint(1, 30)) for key in KEYS[:20]]
    commands += [(b"SET", key, b"v") for key in KEYS[20:]]
    commands += [(b"PEXPIRE", key, b"%d" % source.randint(1, 30)) for key in KEYS[20:30]]
    commands += [(b"GETEX", key, b"PX", b"%d" % source.randint(1, 30)) for key in KEYS[30:35]]
    deadlines = [(b"PEXPIRETIME", key) for key in KEYS]
    multi = requests([(b"MULTI",), *commands, *deadlines, (b"EXEC",)])
    *_, result = read_replies(redis.control.exchange(multi)[0])
    deadlines_ms = dict(zip(KEYS, result[-len(KEYS) :], strict=True))
    kora.exchange(
        requests(
            [
                (b"SET", key, b"v", *((b"PXAT", b"%d" % deadline_ms) if deadline_ms > 0 else ()))
                for key, deadline_ms in deadlines_ms.items()
            ]
        )
    )
    compared = 0
    for _ in range(LOOKS * 20):
        if compared == LOOKS:
            break
        time.sleep(source.uniform(0.001, 0.006))
        # Only some keys, so that others are still there, though over, at a later look.
        chosen = source.sample(KEYS, 12)
        look: list[Step] = [
            source.choice([(b"GET", key), (b"EXISTS", key), (b"TTL", key), (b"PTTL", key), (b"TYPE", key)])
            for key in chosen
        ]
        look += [(b"DBSIZE",)]
        look_data = requests([(b"TIME",), (b"MULTI",), *look, (b"EXEC",), (b"TIME",)])
        began, *_, expected, ended = read_replies(redis.control.exchange(look_data)[0])
        began_ms, ended_ms = (int(seconds) * 1000 + int(us) // 1000 for seconds, us in (began, ended))
        unclear = [key for key in chosen if began_ms <= deadlines_ms[key] <= ended_ms]
        kora.clock.advance_ms(began_ms - kora.clock.wall_ms())
        found = read_replies(kora.exchange(requests(look))[0])
        if unclear:
            # Both must have let go of the key by the next look; the counters are compared then.
            time.sleep(0.002)
            continue
        for step, theirs, ours in zip(look, expected, found, strict=True):
            if step[0] == b"PTTL":
                assert ours - (ended_ms - began_ms) - 1 <= theirs <= ours, (step, theirs, ours)
            elif step[0] != b"DBSIZE":
                assert theirs == ours, (step, theirs, ours, deadlines_ms[step[1]], began_ms)
        compared += 1
    assert compared == LOOKS, "this machine is too slow to look between two milliseconds"
    time.sleep(0.03)
    kora.clock.advance_ms(1000)
    final = requests([(b"EXISTS", *KEYS), (b"DBSIZE",)])
    assert kora.exchange(final) == redis.control.exchange(final)
    assert _expired(kora.exchange(request("INFO", "stats"))[0]) == _expired(redis.run("INFO", "stats"))


def test_a_key_is_there_in_its_last_millisecond(redis: RedisServer) -> None:
    """Redis: a key is over when now > deadline, so at the deadline itself it still is there."""
    kora = Kora()
    kora.run("SET", "k", "v", "PX", "10")
    kora.clock.advance_ms(10)
    assert kora.run("PTTL", "k") == b":0\r\n"
    assert kora.run("GET", "k") == b"$1\r\nv\r\n"
    kora.clock.advance_ms(1)
    assert kora.run("GET", "k") == b"$-1\r\n"
