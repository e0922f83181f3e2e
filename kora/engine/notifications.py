"""Keyspace notifications: what happens to keys, published on channels of their own (notify-keyspace-events).

Handlers tell their database, db.notify(b"lpush", key), which is nobody's business until the setting says otherwise.
"""

from functools import partial
from typing import TYPE_CHECKING, Final

from kora.store.keyspace import nobody

if TYPE_CHECKING:
    from kora.engine.pubsub import PubSub
    from kora.store.keyspace import Keyspace

# Events by their class, whose letters the setting is made of.
_EVENTS: Final = {
    "g": "del rename_from rename_to move_from move_to copy_to expire persist restore",
    "$": "set append setrange incrby incrbyfloat setbit pfadd",
    "l": "lpush rpush lpop rpop linsert lset lrem ltrim lmove sortstore",
    "s": "sadd srem spop sinterstore sunionstore sdiffstore",
    "h": "hset hdel hincrby hincrbyfloat hexpire hexpired hpersist",
    "z": "zadd zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax zdiffstore zinterstore "
    "zunionstore zrangestore geosearchstore georadiusstore",
    "t": "xadd xtrim xdel xsetid xgroup-create xgroup-createconsumer xgroup-delconsumer xgroup-destroy xgroup-setid "
    "xclaim xautoclaim",
    "x": "expired",
    "e": "evicted",
    "m": "keymiss",
    "n": "new",
    "d": "vecset vecdel",
}
CLASS_OF: Final = {event.encode(): letter for letter, events in _EVENTS.items() for event in events.split()}
# What A stands for: all but misses and new keys (NOTIFY_ALL, server.h).
_ALL: Final = "g$lshztxed"


class Notifications:
    def __init__(self, pubsub: "PubSub") -> None:
        self._pubsub = pubsub
        self.flags: frozenset[str] = frozenset()

    def set_flags(self, flags: str) -> None:
        """As the setting has them."""
        self.flags = frozenset(flags.replace("A", _ALL))

    @property
    def is_on(self) -> bool:
        """Whether anything is ever published: a class, and a kind of channel."""
        return bool(self.flags & {"K", "E"}) and bool(self.flags - {"K", "E"})

    def follow(self, keyspace: "Keyspace") -> None:
        """Have a database tell what the setting asks for."""
        keyspace.notify = partial(self._notify, b"%d" % keyspace.index) if self.is_on else nobody
        keyspace.tells_more = self.is_on and not self.flags.isdisjoint("mn")

    def _notify(self, index: bytes, event: bytes, key: bytes) -> None:
        if CLASS_OF[event] in self.flags:
            if "K" in self.flags:
                self._pubsub.publish(b"__keyspace@%b__:%b" % (index, key), event)
            if "E" in self.flags:
                self._pubsub.publish(b"__keyevent@%b__:%b" % (index, event), key)
