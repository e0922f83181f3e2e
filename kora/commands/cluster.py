"""CLUSTER, as far as it means something to a server that is alone: its keys have the hash slots of Redis Cluster.

Redis with cluster support disabled refuses all of these; here they are true, so that tools can see where keys will go.
"""

from typing import Final

from kora.engine.client import Client
from kora.engine.registry import Family
from kora.errors import CommandError
from kora.resp.reply import Reply, Verbatim
from kora.store.slots import SLOTS, slot_of
from kora.types.number import parse_integer

cluster = Family("cluster")

cluster.container("CLUSTER", "Commands about hash slots.", since="3.0.0", help_since="5.0.0")

# In Redis' order, after the first, which Redis has only in INFO: no slot was ever assigned, and nothing is amiss.
_INFO: Final = {
    "cluster_enabled": 0,
    "cluster_state": "ok",
    "cluster_slots_assigned": 0,
    "cluster_slots_ok": 0,
    "cluster_slots_pfail": 0,
    "cluster_slots_fail": 0,
    "cluster_known_nodes": 1,
    "cluster_size": 0,
    "cluster_current_epoch": 0,
    "cluster_my_epoch": 0,
    "cluster_stats_messages_sent": 0,
    "cluster_stats_messages_received": 0,
    "total_cluster_links_buffer_limit_exceeded": 0,
}


@cluster(
    "CLUSTER INFO",
    "Tells that this server is no part of a cluster.",
    flags="stale",
    since="3.0.0",
    tips=("nondeterministic_output",),
)
def cluster_info(client: Client, argv: list[bytes]) -> Reply:
    return Verbatim("".join(f"{name}:{value}\r\n" for name, value in _INFO.items()))


@cluster(
    "CLUSTER KEYSLOT key:string",
    "Returns the hash slot of a key.",
    flags="stale",
    since="3.0.0",
    complexity="O(N) where N is the number of bytes in the key",
)
def cluster_keyslot(client: Client, argv: list[bytes]) -> Reply:
    return slot_of(argv[2])


@cluster(
    "CLUSTER COUNTKEYSINSLOT slot:int",
    "Returns how many keys of database 0 are in a hash slot.",
    flags="stale",
    since="3.0.0",
)
def cluster_countkeysinslot(client: Client, argv: list[bytes]) -> Reply:
    slot = parse_integer(argv[2])
    if not 0 <= slot < SLOTS:
        raise CommandError("ERR Invalid slot")
    return client.engine.databases[0].count_in_slot(slot)


@cluster(
    "CLUSTER GETKEYSINSLOT slot:int count:int",
    "Returns some keys of database 0 that are in a hash slot.",
    flags="stale",
    since="3.0.0",
    complexity="O(log(N)) where N is the number of requested keys",
    tips=("nondeterministic_output",),
)
def cluster_getkeysinslot(client: Client, argv: list[bytes]) -> Reply:
    slot, count = parse_integer(argv[2]), parse_integer(argv[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise CommandError("ERR Invalid slot or number of keys")
    return client.engine.databases[0].keys_in_slot(slot, count)
