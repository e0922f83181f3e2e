"""A snapshot has the data as it was at one moment, whatever happens while it is written.

Random commands run between small steps of the walk, by every way on which data changes; then the file is loaded, and
must hold what was there when it was begun: no more, no less, and nothing twice.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kora.clock import ManualClock
from kora.engine.engine import Engine
from kora.errors import CommandError
from kora.persist.saving import Saver
from kora.store.expiry import expire_cycle
from kora.store.lazyfree import free_some
from tests.conftest import LONG, runner
from tests.persist.contents import contents, load

NEVER_NS = 1 << 62
PROGRAMS = 600 if LONG else 24
COMMANDS = 120

# Some of them in one slot, some alone; k0 to k8 become all kinds of values.
KEYS = [f"k{number}" for number in range(9)] + [f"{{t}}{number}" for number in range(6)]


def words_of_some_command(pick: random.Random) -> Iterator[tuple[object, ...]]:
    """Without end; most of them do not fit the key's kind, until they are asked for often enough."""
    while True:
        key, other, number = pick.choice(KEYS), pick.choice(KEYS), pick.randrange(8)
        long = "x" * pick.choice([1, 30, 100, 40_000]) + str(number)
        soon = pick.choice([1, 40, 4000])
        yield pick.choice(
            [
                ("SET", key, number),
                ("SET", key, long),
                ("SET", key, long, "PX", soon),
                ("SET", key, number, "KEEPTTL"),
                ("APPEND", key, "abc"),
                ("SETRANGE", key, 3, "abc"),
                ("SETBIT", key, number, 1),
                ("INCR", key),
                ("INCRBYFLOAT", key, 0.5),
                ("GETSET", key, number),
                ("GETDEL", key),
                ("GETEX", key, "PX", soon),
                ("MSET", key, number, other, long),
                ("MSETNX", key, number, other, number),
                ("BITOP", "NOT", key, other),
                ("PFADD", key, number),
                ("PFMERGE", key, other),
                ("DEL", key, other),
                ("UNLINK", key),
                ("PEXPIRE", key, soon),
                ("PEXPIRE", key, -1),
                ("PERSIST", key),
                ("RENAME", key, other),
                ("RENAMENX", key, other),
                ("COPY", key, other, "REPLACE"),
                ("COPY", key, other, "DB", 1),
                ("MOVE", key, 1),
                ("SELECT", pick.randrange(3)),
                ("SWAPDB", pick.randrange(3), pick.randrange(3)),
                ("HSET", key, number, long[:60], "f", 1),
                ("HDEL", key, number, "f"),
                ("HINCRBY", key, "f", 1),
                ("HPEXPIRE", key, soon, "FIELDS", 1, "f"),
                ("HPERSIST", key, "FIELDS", 1, "f"),
                ("HGETALL", key),
                ("HSET", key, *[word for at in range(150) for word in (f"{at}-{number}", "x" * 70)]),
                ("SADD", key, number, "m"),
                ("SADD", key, *range(number, 600, 7)),
                ("SREM", key, number),
                ("SPOP", key),
                ("SMOVE", key, other, number),
                ("SUNIONSTORE", key, other, key),
                ("LPUSH", key, number, long[:60]),
                ("RPUSH", key, *[f"item{at}" for at in range(200)]),
                ("RPOP", key, 2),
                ("LSET", key, 0, number),
                ("LREM", key, 0, number),
                ("LTRIM", key, 1, 3),
                ("LMOVE", key, other, "LEFT", "RIGHT"),
                ("ZADD", key, number, "m", number / 7, "n"),
                ("ZADD", key, *[word for at in range(200) for word in (at * 0.7, f"m{at}")]),
                ("ZINCRBY", key, 1, "m"),
                ("ZREM", key, "m"),
                ("ZPOPMIN", key),
                ("ZUNIONSTORE", key, 2, key, other),
                ("SORT", key, "ALPHA", "STORE", other),
                ("XADD", key, "*", "f", number),
                ("XTRIM", key, "MAXLEN", 2),
                ("XGROUP", "CREATE", key, "g", "0", "MKSTREAM"),
                ("XREADGROUP", "GROUP", "g", f"c{number}", "COUNT", 2, "STREAMS", key, ">"),
                ("XACK", key, "g", "1-1"),
                ("XAUTOCLAIM", key, "g", "c", 0, "0"),
                ("GET", key),
                ("TTL", key),
            ]
        )


class Storm:
    """One engine under random commands, and what else changes its data."""

    def __init__(self, engine: Engine, clock: ManualClock, seed: int) -> None:
        self.engine = engine
        self.clock = clock
        self.pick = random.Random(seed)
        self.run = runner(engine.connect())
        self._words = words_of_some_command(self.pick)

    def blow(self, flushes: bool) -> None:
        """Change something, probably."""
        engine, pick = self.engine, self.pick
        event = pick.random()
        if event < 0.04:
            self.clock.advance_ms(pick.choice([1, 30, 3000]))
        elif event < 0.06:
            expire_cycle(engine.shards[0], engine.databases.used(), 1, self.clock, 1, engine.slowness.note_event)
            engine.field_deadlines[0].end_due(engine.databases[0], self.clock.wall_ms(), 10)
        elif event < 0.08:
            for shard in engine.shards:
                if shard.lazyfree:
                    free_some(shard, 1, self.clock)
                    shard.lazyfree and shard.lazyfree[0].free_some(shard.stats, 10)
        elif event < 0.10:
            engine.config.set([("maxmemory", "1"), ("maxmemory-policy", "allkeys-random")])
            engine.make_room(0)
            engine.config.set([("maxmemory", "0")])
        elif event < 0.12 and flushes:
            self.send("FLUSHDB", *pick.choice([(), ("SYNC",), ("ASYNC",)]))
        elif event < 0.15:
            self.send("MULTI")
            for _ in range(3):
                self.send(*next(self._words))
            self.send("EXEC")
        elif event < 0.20:
            words = next(self._words)
            self.send("EVAL", "return redis.call(unpack(ARGV))", 0, *words)
        else:
            self.send(*next(self._words))

    def send(self, *words: object) -> Any:
        try:
            return self.run(*words)
        except CommandError:
            return None


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_the_file_has_the_moment_at_which_it_was_begun(
    make_saving: Callable[..., Engine], clock: ManualClock, tmp_path: Path, seed: int
) -> None:
    # Every fourth has its commands run by handlers, which tell of what they do.
    flags = ("--databases", "3", *(("--notify-keyspace-events", "KEA") if seed % 4 == 3 else ()))
    engine = make_saving(*flags)
    storm = Storm(engine, clock, seed)
    for _ in range(3 * COMMANDS):
        storm.blow(flushes=False)
    saver = Saver(engine)
    expected, now_ms = contents(engine), clock.wall_ms()
    outcome: list[object] = []
    saver.start(str(tmp_path / "dump.rdb"), done=outcome.append)
    for _ in range(COMMANDS):
        if storm.pick.random() < 0.3:
            saver.step(NEVER_NS, storm.pick.choice([0, 1, 3]))
        storm.blow(flushes=True)
    finish(saver)
    assert outcome == [None]
    found = make_saving("--databases", "3")
    # As at that time: what has ended by then is no part of it, and what has ended since is.
    clock.advance_ms(now_ms - clock.wall_ms())
    load(found, tmp_path / "dump.rdb")
    assert contents(found) == expected


@pytest.mark.parametrize("seed", range(4))
def test_files_that_are_given_up_do_no_harm(
    make_saving: Callable[..., Engine], clock: ManualClock, tmp_path: Path, seed: int
) -> None:
    """A hundred in a row: as many numbers as there are, and some more."""
    engine = make_saving("--databases", "3")
    storm = Storm(engine, clock, 1000 + seed)
    for _ in range(2 * COMMANDS):
        storm.blow(flushes=False)
    saver = Saver(engine)
    for _ in range(100):
        saver.start(str(tmp_path / "none.rdb"), done=lambda error: None)
        for _ in range(storm.pick.randrange(3)):
            saver.step(NEVER_NS, 2)
            storm.blow(flushes=True)
        saver.abort()
        if storm.pick.random() < 0.1:
            saver.step(NEVER_NS)
    for _ in range(COMMANDS):
        storm.blow(flushes=False)
    expected, now_ms = contents(engine), clock.wall_ms()
    saver.start(str(tmp_path / "dump.rdb"), done=lambda error: None)
    storm.blow(flushes=True)
    finish(saver)
    found = make_saving("--databases", "3")
    clock.advance_ms(now_ms - clock.wall_ms())
    load(found, tmp_path / "dump.rdb")
    assert contents(found) == expected
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("temp")]


def finish(saver: Saver) -> None:
    while saver.has_work:
        saver.step(NEVER_NS)
