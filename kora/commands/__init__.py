"""The command families, one thin file each, in slot order: a slot is a command's place in every statistics array."""

from kora.commands.cluster import cluster
from kora.commands.connection import connection
from kora.commands.debug import debug
from kora.commands.generic import generic
from kora.commands.introspection import introspection
from kora.commands.scripting import scripting
from kora.commands.server import server
from kora.commands.strings import string
from kora.engine.registry import Registry

FAMILIES = (string, generic, connection, server, introspection, debug, cluster, scripting)


def make_registry() -> Registry:
    return Registry(FAMILIES)
