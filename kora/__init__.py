"""Kora: a key-value server that speaks the Redis protocol and tells you why it is slow."""

__version__ = "0.1.0"

# The Redis release whose commands and replies Kora follows; clients decide by it what they may send.
REDIS_VERSION = "7.2.0"
