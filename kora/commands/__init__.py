"""The command families, one thin file each, in slot order: a slot is a command's place in every statistics array."""

from kora.commands.acl import acl
from kora.commands.audit import audit
from kora.commands.bitmaps import bitmaps
from kora.commands.cluster import cluster
from kora.commands.connection import connection
from kora.commands.debug import debug
from kora.commands.doctor import doctor
from kora.commands.dumping import dumping
from kora.commands.generic import generic
from kora.commands.geo import geo
from kora.commands.hashes import hashes
from kora.commands.hotkeys import hotkeys
from kora.commands.hyperloglog import hyperloglog
from kora.commands.introspection import introspection
from kora.commands.latency import latency
from kora.commands.lists import list_
from kora.commands.migration import migration
from kora.commands.pubsub import pubsub
from kora.commands.replication import acknowledgement, replication
from kora.commands.scripting import scripting
from kora.commands.server import server
from kora.commands.sets import sets
from kora.commands.slowlog import slowlog
from kora.commands.sorted_sets import sorted_set
from kora.commands.sorting import sorting
from kora.commands.streams import stream
from kora.commands.strings import string
from kora.commands.tracing import tracing
from kora.commands.tracked import tracked
from kora.commands.transactions import transactions
from kora.commands.vectors import vectors
from kora.engine.registry import Registry

FAMILIES = (
    string, generic, connection, server, introspection, debug, cluster, transactions, pubsub, hashes, list_, sorting,
    sets, bitmaps, hyperloglog, sorted_set, geo, stream, acl, scripting, replication, acknowledgement, vectors, slowlog,
    latency, dumping, migration, hotkeys, doctor, tracked, tracing, audit,
)  # fmt: skip


def make_registry() -> Registry:
    return Registry(FAMILIES)
