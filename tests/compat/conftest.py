"""The redis-server that Kora is compared with; see peers.py."""

from tests.compat.peers import redis

__all__ = ["redis"]
