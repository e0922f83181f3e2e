"""Eviction: keys that are deleted to stay within maxmemory, chosen by the policy among samples.

As Redis does it (evict.c): a few keys of each database are drawn, the best of them join a pool of the best seen lately,
and the best of the pool goes.  Nothing is kept for keys that are not at the limit: how long a key was not used is known
anyway, and how often it is used the sketch of hot keys knows, which halves its counts every minute.  Keys that it has
not seen, which are most where accesses are sampled, go in the order in which they were last used.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from kora.clock import Clock
from kora.store.keyspace import Keyspace

_POOL_MAX: Final = 16
# Draws that find nothing new in a row, beyond which there is nothing more to find.
_VAIN_MAX: Final = 64


class Evictor:
    """Chooses keys to evict; keeps its pool from one time to the next."""

    def __init__(
        self,
        clock: Clock,
        frequency: Callable[[bytes], int],
        note_event: Callable[[str, int, bytes], None] | None = None,
    ) -> None:
        """`frequency` says of a key how often it was used lately."""
        self._clock = clock
        self._frequency = frequency
        self._note_event = note_event  # how long a deletion took, in ns, and of which key
        self._policy = ""
        self._pool: list[tuple[tuple[int, int], int, bytes]] = []  # score, database, key; the best to evict is last
        self._database = 0  # for policies that draw: whose turn it is

    def evict(self, databases: Sequence[Keyspace], policy: str, samples: int, lazily: bool) -> bool:
        """Delete one key; False where the policy allows none.  `samples` are drawn in each database for that."""
        if policy != self._policy:
            self._policy = policy
            self._pool.clear()
        choice = self._draw(databases) if policy.endswith("-random") else self._choose(databases, samples)
        if choice is None:
            return False
        keyspace, key = choice
        started_ns = self._clock.monotonic_ns()
        if lazily:
            keyspace.unlink(key)
        else:
            keyspace.delete(key)
        if self._note_event is not None:
            self._note_event("eviction-del", self._clock.monotonic_ns() - started_ns, key)
        keyspace.effect(b"UNLINK" if lazily else b"DEL", key)
        keyspace.stats.evicted += 1
        keyspace.notify(b"evicted", key)
        return True

    @property
    def _is_volatile(self) -> bool:
        return self._policy.startswith("volatile-")

    def _draw(self, databases: Sequence[Keyspace]) -> tuple[Keyspace, bytes] | None:
        for _ in databases:
            keyspace = databases[self._database % len(databases)]
            self._database += 1
            keys = keyspace.sample(1, self._is_volatile)
            if keys and keyspace.has(keys[0]):
                return keyspace, keys[0]
        return None

    def _choose(self, databases: Sequence[Keyspace], samples: int) -> tuple[Keyspace, bytes] | None:
        by_index = {keyspace.index: keyspace for keyspace in databases}
        for _ in range(_VAIN_MAX):
            self._fill(databases, samples)
            while self._pool:
                _, index, key = self._pool.pop()
                keyspace = by_index.get(index)
                # It may have gone since it was seen, or have lost its deadline.
                if (
                    keyspace is not None
                    and keyspace.has_quietly(key)
                    and (not self._is_volatile or keyspace.deadline(key) is not None)
                ):
                    return keyspace, key
            if not any(keyspace.volatile if self._is_volatile else len(keyspace) for keyspace in databases):
                return None
        return None

    def _fill(self, databases: Sequence[Keyspace], samples: int) -> None:
        known = {(index, key) for _, index, key in self._pool}
        for keyspace in databases:
            for key, score in self._scored(keyspace, keyspace.sample(samples, self._is_volatile)):
                if (keyspace.index, key) not in known:
                    self._pool.append((score, keyspace.index, key))
        self._pool.sort()
        del self._pool[:-_POOL_MAX]

    def _scored(self, keyspace: Keyspace, keys: list[bytes]) -> Iterator[tuple[bytes, tuple[int, int]]]:
        """Keys, each with the larger a score the better it is to evict."""
        for key in keys:
            idle_s = keyspace.idle_s(key)
            if self._policy == "volatile-ttl":
                yield key, (-(keyspace.deadline(key) or 0), 0)
            elif self._policy.endswith("-lfu"):
                yield key, (-self._frequency(key), idle_s)
            else:
                yield key, (idle_s, 0)
