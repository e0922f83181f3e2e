"""CLUSTER, as far as it means something to a server that is alone: its keys have the hash slots of Redis Cluster.

Redis with cluster support disabled refuses all of this.  Here what is asked of hash slots is answered, so that tools
can see where keys will go; what only a node of a cluster could do is refused in Redis' words, by which client libraries
tell that they do not talk to one.
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


def _refuse(client: Client, argv: list[bytes]) -> Reply:
    raise CommandError("ERR This instance has cluster support disabled")


_ADMIN: Final = "admin stale no_async_loading"
_NODES: Final = "O(N) where N is the total number of Cluster nodes"
_RANGES: Final = "O(N) where N is the total number of the slots between the start slot and end slot arguments."
_SLOTS: Final = "O(N) where N is the total number of hash slot arguments"
_VARIES: Final = ("nondeterministic_output",)

for _usage, _summary, _flags, _since, _complexity, _tips in (
    ("CLUSTER ADDSLOTS slot:int [slot:int ...]", "Gives hash slots to the node.", _ADMIN, "3.0.0", _SLOTS, ()),
    ("CLUSTER ADDSLOTSRANGE start-slot:int end-slot:int [start-slot:int end-slot:int ...]",
     "Gives ranges of hash slots to the node.", _ADMIN, "7.0.0", _RANGES, ()),
    ("CLUSTER BUMPEPOCH", "Raises the node's epoch.", _ADMIN, "3.0.0", "O(1)", _VARIES),
    ("CLUSTER COUNT-FAILURE-REPORTS node-id", "Tells how many nodes hold one for failed.", "admin stale", "3.0.0",
     "O(N) where N is the number of failure reports", _VARIES),
    ("CLUSTER DELSLOTS slot:int [slot:int ...]", "Takes hash slots from the node.", _ADMIN, "3.0.0", _SLOTS, ()),
    ("CLUSTER DELSLOTSRANGE start-slot:int end-slot:int [start-slot:int end-slot:int ...]",
     "Takes ranges of hash slots from the node.", _ADMIN, "7.0.0", _RANGES, ()),
    ("CLUSTER FAILOVER [options=FORCE | TAKEOVER]", "Has a replica take over.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER FLUSHSLOTS", "Takes all hash slots from the node.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER FORGET node-id", "Removes a node.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER LINKS", "Lists the connections between nodes.", "stale", "7.0.0", _NODES, _VARIES),
    ("CLUSTER MEET ip port:int [cluster_bus_port:int]", "Adds a node.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER MYID", "Returns the node's id.", "stale", "3.0.0", "O(1)", ()),
    ("CLUSTER MYSHARDID", "Returns the id of the node's shard.", "stale", "7.2.0", "O(1)", _VARIES),
    ("CLUSTER NODES", "Lists the nodes.", "stale", "3.0.0", _NODES, _VARIES),
    ("CLUSTER REPLICAS node-id", "Lists the replicas of a node.", "admin stale", "5.0.0", "O(1)", _VARIES),
    ("CLUSTER REPLICATE node-id", "Makes the node a replica.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER RESET [hard_soft=HARD | SOFT]", "Makes the node forget the cluster.", "admin stale noscript", "3.0.0",
     "O(N) where N is the number of known nodes. The command may execute a FLUSHALL as a side effect.", ()),
    ("CLUSTER SAVECONFIG", "Writes down what the node knows.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER SET-CONFIG-EPOCH config-epoch:int", "Sets the epoch of a new node.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER SETSLOT slot:int <subcommand=IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>",
     "Says to which node a hash slot belongs.", _ADMIN, "3.0.0", "O(1)", ()),
    ("CLUSTER SHARDS", "Lists hash slots and nodes by shard.", "stale", "7.0.0",
     "O(N) where N is the total number of cluster nodes", _VARIES),
    ("CLUSTER SLAVES node-id", "Lists the replicas of a node.", "admin stale", "3.0.0", "O(1)", _VARIES),
    ("CLUSTER SLOTS", "Lists hash slots and their nodes.", "stale", "3.0.0", _NODES, _VARIES),
    ("ASKING", "Lets the next command use a hash slot that is on its way here.", "fast", "3.0.0", "O(1)", ()),
    ("READONLY", "Allows reading from a replica.", "loading stale fast", "3.0.0", "O(1)", ()),
    ("READWRITE", "Ends what READONLY has allowed.", "loading stale fast", "3.0.0", "O(1)", ()),
):  # fmt: skip
    cluster(
        _usage,
        _summary,
        flags=_flags,
        since=_since,
        complexity=_complexity,
        acl="" if _usage.startswith("CLUSTER") else "connection",
        tips=_tips,
    )(_refuse)
