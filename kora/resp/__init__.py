"""The wire without sockets: bytes to requests, replies to bytes."""
