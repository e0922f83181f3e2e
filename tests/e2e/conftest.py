"""End-to-end tests talk to a real Kora process, with real clients."""

from tests.e2e.fixtures import launch_server, server, shared_server, start_server

__all__ = ["launch_server", "server", "shared_server", "start_server"]
