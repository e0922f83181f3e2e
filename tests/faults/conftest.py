"""Fault tests do to a real Kora process what the world does: hang up, talk nonsense, kill, fill."""

from tests.e2e.fixtures import launch_server, server, shared_server, start_server

__all__ = ["launch_server", "server", "shared_server", "start_server"]
